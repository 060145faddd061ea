"""`--schema`, `--effort` and `--show-thinking` in a cell: what is shown, what _ and -o hold, and the errors."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ipyrouter.errors import SchemaError, UsageError
from ipyrouter.notebook.completion import Vocabulary, suggest
from tests.faults.server import FaultServer, Reply, chat, claude, claude_whole
from tests.notebook.conftest import Shell

CLASS = """
import pydantic
class Review(pydantic.BaseModel):
    sentiment: str
    score: float
"""
GOOD = '{"sentiment": "positive", "score": 0.9}'


def test_a_cell_with_a_schema_gives_the_object(shell: Shell, requests: list[Any]) -> None:
    shell.run(CLASS)
    ran = shell.run("%%route --schema Review -o review -m o/ok\nIs this a good review?")
    assert ran.error is None
    review = shell.ip.user_ns["review"]
    assert (review.sentiment, review.score) == ("text", 0.5)
    assert shell.ip.user_ns["_"] == review
    assert '"sentiment": "text"' in ran.out
    assert requests[0][2]["response_format"]["json_schema"]["name"] == "Review"


def test_the_dry_run_names_schema_and_effort(shell: Shell, requests: list[Any]) -> None:
    shell.run(CLASS)
    out = shell.run("%%route -n --schema Review --effort low -m o/ok\nIs this a good review?").out
    assert out.startswith("Dry run: nothing was sent. Would go to o/ok, effort low, schema Review, about $0.0")
    assert " plus thinking, at most $0.0" in out.splitlines()[0]
    plain = shell.run("%%route -n --schema Review -m o/ok\nIs this a good review?").out
    assert plain.startswith("Dry run: nothing was sent. Would go to o/ok, schema Review, about $0.00")
    assert "thinking" not in plain.splitlines()[0]
    assert not requests


def test_a_line_and_a_dict(shell: Shell) -> None:
    shell.run('form = {"label": ["bug", "wish"], "score": float}')
    shell.run("made = %route --schema form -m o/ok -q Which is it?")
    assert shell.ip.user_ns["made"] == {"label": "bug", "score": 0.5}


def test_a_built_in_type_and_an_attribute(shell: Shell) -> None:
    shell.run(CLASS + "\nimport types\nmodels = types.SimpleNamespace(Review=Review)")
    shell.run("count = %route --schema int -m o/ok -q How many?")
    shell.run("review = %route --schema models.Review -m o/ok -q Is it?")
    assert (shell.ip.user_ns["count"], shell.ip.user_ns["review"].score) == (1, 0.5)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("--schema Reveiw", "--schema Reveiw: there is no such name here. Did you mean 'Review'?"),
        ("--schema nothing_like_it", "Define a class or a dict of that name in a cell above."),
        ("--schema text", "schema must be a class or a dict, not 'hello'"),
        ("--schema Review -f code", "--schema makes JSON, which -f code cannot show. Leave one of the two out."),
        ("--effort lots", "Unknown effort 'lots'. Did you mean 'low'?"),
        ("--effort hihg", "Unknown effort 'hihg'. Did you mean 'high'?"),
    ],
)
def test_a_wrong_line_is_an_error_before_anything_is_sent(
    shell: Shell, requests: list[Any], line: str, words: str
) -> None:
    shell.run(CLASS + "\ntext = 'hello'")
    ran = shell.run(f"%%route {line}\nIs it?")
    assert isinstance(ran.error, UsageError)
    assert words in str(ran.error)
    assert not requests


def test_an_answer_that_does_not_fit_fails_the_cell_in_one_line(
    shell: Shell, server: FaultServer, requests: list[Any]
) -> None:
    shell.run(CLASS)
    server.replies["bad"] = Reply(chat('{"sentiment": 1}'))
    ran = shell.run("%%route --schema Review -m o/bad -o review\nIs it?")
    assert isinstance(ran.error, SchemaError)
    assert ran.error._render_traceback_() == [f"SchemaError: {ran.error}"]
    assert "sentiment: input should be a valid string; score: field required" in str(ran.error)
    assert ran.error.text == '{"sentiment": 1}'
    assert "review" not in shell.ip.user_ns


def test_json_asks_for_json_mode_where_it_is_known(shell: Shell, server: FaultServer, requests: list[Any]) -> None:
    server.replies["list"] = Reply(chat('{"list": ["Paris", "Lyon"]}'))
    ran = shell.run("%%route -f json -m o/list -o cities\nThe two largest cities of France")
    assert ran.error is None
    assert shell.ip.user_ns["cities"] == ["Paris", "Lyon"]
    assert "response_format" not in requests[0][2]  # of a server of one's own that is not known


def test_effort_goes_out_and_the_dry_run_counts_it(shell: Shell, requests: list[Any]) -> None:
    shell.run("%%route --effort high -m o/ok -q\nWhy?")
    assert requests[0][2]["reasoning_effort"] == "high"
    assert "at most 36,864 tokens" in shell.run("%%route -n -t mid --effort high\nWhy?").out


def test_thinking_is_shown_folded_and_only_on_request(shell: Shell, server: FaultServer, requests: list[Any]) -> None:
    from ipyrouter.notebook import rendering
    from ipyrouter.notebook.formats import Body

    thought = {"type": "thinking_delta", "thinking": "two <b>and</b> two\n```\nunclosed"}
    server.replies["c"] = Reply(claude(thought, "It is 4."))
    ran = shell.run("%%route --show-thinking -m a/c --effort low\nTwo and two?")
    assert "Thinking:\n  two <b>and</b> two" in ran.out
    assert requests[0][2]["thinking"] == {"type": "adaptive", "display": "summarized"}
    assert "Thinking:" not in shell.run("%%route -m a/c --no-cache\nTwo and two?").out
    answer = shell.ip.user_ns["_"]
    shown = rendering.answer_bundle(answer, Body(answer.text, thinking=answer.thinking))["text/markdown"]
    before, _, after = shown.partition("</details>")
    assert before.count("<details>") == 1
    assert "<b>" not in shown
    assert "It is 4." in after


def test_where_no_thinking_is_shown_a_note_says_so(shell: Shell) -> None:
    ran = shell.run("%%route --show-thinking -m o/ok\nTwo and two?")
    assert "There is no thinking of o/ok: its provider showed none." in ran.out


def test_tab_knows_the_options() -> None:
    vocabulary = Vocabulary(lambda: ["Review", "df"], list, list)
    assert suggest("%%route --schema Re", "%%route --schema Re", in_body=False, vocabulary=vocabulary)[1] == ["Review"]
    assert "--effort" in suggest("%%route --eff", "%%route --eff", in_body=False, vocabulary=vocabulary)[1]
    assert suggest("%%route --effort xh", "%%route --effort xh", in_body=False, vocabulary=vocabulary)[1] == ["xhigh"]


def test_a_whole_answer_may_hold_its_thinking_beside_a_schema(
    shell: Shell, server: FaultServer, requests: list[Any]
) -> None:
    server.replies["c"] = Reply(claude_whole({"type": "thinking", "thinking": "hm", "signature": "x"}, GOOD))
    shell.run(CLASS)
    shell.run("%%route --schema Review -m a/c -o review -q\nIs it?")
    assert shell.ip.user_ns["review"].model_dump() == json.loads(GOOD)
