"""`%%route --map`: the frame, where it goes, what is shown, and the errors."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from ipyrouter.batch.progress import Progress
from ipyrouter.errors import UsageError
from ipyrouter.notebook.completion import Vocabulary, suggest
from ipyrouter.notebook.progress import bundle
from tests.faults.server import FaultServer, Reply
from tests.notebook.conftest import Shell

DATA = """
import pandas as pd
reviews = pd.DataFrame({"text": ["good", "bad", "good"]}, index=[4, 5, 6])
tongue = "Dutch"
"""


def test_a_cell_over_a_column(shell: Shell, requests: list[Any]) -> None:
    shell.run(DATA)
    ran = shell.run("%%route --map reviews -o labels -m o/ok\nSay {{text}} in {{tongue}}")
    assert ran.error is None
    assert ran.value is None  # -o took it
    labels = shell.ip.user_ns["labels"]
    assert list(labels.index) == [4, 5, 6]
    assert set(labels["_status"]) == {"ok"}
    assert shell.ip.user_ns["_"] is labels
    prompts = sorted(body["messages"][-1]["content"] for _, _, body in requests)
    assert prompts == ["Say bad in Dutch", "Say good in Dutch"]


def test_without_a_name_the_frame_is_the_value(shell: Shell) -> None:
    shell.run(DATA + "form = {'label': ['a', 'b']}")
    ran = shell.run("%%route --map reviews.text --schema form -m o/ok -q\nSay {{text}}")
    assert isinstance(ran.value, pd.DataFrame)
    assert list(ran.value["label"]) == ["a", "a", "a"]
    shell.run("made = %route --map reviews -m o/ok -q Say {{text}}")
    assert len(shell.ip.user_ns["made"]) == 3


def test_the_dry_run_sends_nothing(shell: Shell, requests: list[Any]) -> None:
    shell.run(DATA)
    ran = shell.run("%%route --map reviews -m o/ok -n\nSay {{text}}")
    assert ran.out.startswith("Dry run: nothing was sent.\n3 rows: 2 distinct")
    assert ran.value is None
    assert requests == []


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("--map nothing", "no variable 'nothing'"),
        ("--map review", "Did you mean 'reviews'"),
        ("--map reviews.tekst", "has no 'tekst'"),
        ("--map reviews --continue", "--continue does not go with --map"),
        ("--map reviews --with tongue", "--with does not go with --map"),
        ("--map reviews -f code", "-f code does not go with --map"),
        ("--map reviews --budget much", "'much' is not a valid number"),
        ("--map reviews --budget -1", "needs a value|not a valid number of dollars"),
        ("--map tongue", "one string, not a column"),
    ],
)
def test_what_cannot_be(shell: Shell, requests: list[Any], line: str, words: str) -> None:
    shell.run(DATA)
    error = shell.run(f"%%route {line}\nSay {{{{text}}}}").error
    assert isinstance(error, UsageError)
    assert pytest.raises(UsageError, match=words).matches(error)
    assert requests == []


BAD = """
import pandas as pd
few = pd.DataFrame({"text": ["good", None, float("nan"), " "]})
none = few.iloc[:0]
twice = pd.DataFrame([["a", "b"]], columns=["text", "text"])
long = pd.DataFrame({"text": ["x " * 5_000_000, "short"]})
own = {"_status": str}
"""


@pytest.mark.parametrize(
    ("data", "statuses"),
    [
        ("few", ["ok", "missing", "missing", "missing"]),
        ("none", []),
        ("long", ["error", "ok"]),
    ],
)
def test_rows_that_cannot_be_asked_have_their_status(shell: Shell, data: str, statuses: list[str]) -> None:
    shell.run(BAD)
    ran = shell.run(f"%%route --map {data} -m o/ok -q\nSay {{{{text}}}}")
    assert ran.error is None
    assert list(ran.value["_status"]) == statuses
    assert all(ran.value["_error"][ran.value["_status"] != "ok"])


@pytest.mark.parametrize(
    ("line", "prompt", "words"),
    [
        ("--map twice", "Say {{text}}", "two columns 'text'. Rename one of them"),
        ("--map few", "Say it", r"names no column.*\{\{text\}\}"),
        ("--map few", "Say {{tekst}}", "no variable 'tekst'. Did you mean 'text'"),
        ("--map few", "Say {{text.upper()}}", "only a name can be inserted"),
        ("--map few --schema own", "Say {{text}}", "field '_status' has the name of a column"),
        ("--map few --schema few", "Say {{text}}", "schema"),
        ("--map few --delivery bath", "Say {{text}}", "Did you mean 'batch'"),
        ("--map few --delivery batch --pilot 2", "Say {{text}}", "A pilot is live"),
    ],
)
def test_bad_input_is_one_line_in_a_cell(shell: Shell, requests: list[Any], line: str, prompt: str, words: str) -> None:
    shell.run(BAD)
    error = shell.run(f"%%route {line} -m o/ok\n{prompt}").error
    assert isinstance(error, UsageError)
    assert pytest.raises(UsageError, match=words).matches(error)
    assert "\n" not in str(error)
    assert requests == []


def test_a_schema_that_the_provider_refuses_is_each_rows_status(shell: Shell, server: FaultServer) -> None:
    error = {"message": "Invalid schema for response_format 'own'", "type": "invalid_request_error"}
    server.replies["no-schema"] = Reply({"error": error}, 400)
    shell.run("rows = ['a', 'b']; own = {'label': ['a', 'b']}")
    ran = shell.run("%%route --map rows --schema own -m o/no-schema -q\nSay {{text}}")
    assert ran.error is None
    assert list(ran.value["_status"]) == ["error", "error"]
    assert ran.value["_error"].str.contains("Invalid schema").all()
    assert not ran.value["_error"].str.contains("\n|\\.;").any()


def test_tab_knows_the_options() -> None:
    vocabulary = Vocabulary(lambda: ["reviews"], list, list)
    assert "--map" in suggest("%%route --m", "%%route --m", in_body=False, vocabulary=vocabulary)[1]
    line = "%%route --map rev"
    assert suggest(line, line, in_body=False, vocabulary=vocabulary)[1] == ["reviews"]


def test_progress_is_plain_html_without_a_servers_tags() -> None:
    shown = bundle(Progress(10, done=5, note="<script>alert(1)</script>"))
    assert '<progress value="5" max="10"' in shown["text/html"]
    assert "<script" not in shown["text/html"]
    assert "5 of 10" in shown["text/plain"]


def test_a_client_without_updates_gets_the_end_alone(shell: Shell) -> None:
    ran = shell.run(
        "from ipyrouter.batch.progress import Progress\nfrom ipyrouter.notebook.progress import NotebookProgress\n"
        "show = NotebookProgress(updates=False)\nshow(Progress(10, done=5))\nshow(Progress(10, done=9, finished=True))"
    )
    assert ran.error is None
    assert "5 of 10" not in ran.out
    assert "9 of 10" in ran.out


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("-t pilot", "go with --map"),
        ("--pilot 3", "go with --map"),
        ("--budget 1", "go with --map"),
        ("--delivery batch", "go with --map"),
        ("--map reviews --delivery bach", "Did you mean 'batch'"),
        ("--map reviews --pilot none", "not a valid number"),
    ],
)
def test_options_of_runs(shell: Shell, requests: list[Any], line: str, words: str) -> None:
    shell.run(DATA)
    error = shell.run(f"%%route {line}\nSay {{{{text}}}}").error
    assert isinstance(error, UsageError)
    assert words in str(error)
    assert requests == []


def test_a_pilot_in_a_cell(shell: Shell, requests: list[Any]) -> None:
    shell.run(DATA)
    ran = shell.run("%%route --map reviews --pilot 1 -m o/ok -q\nSay {{text}}")
    assert "pilot: 1 of 1 requests have an answer" in ran.out
    assert len(requests) == 1
    assert list(ran.value["_status"]) == ["ok", "not sent", "ok"]
