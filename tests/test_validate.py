"""Weak answers are noticed, and good ones accepted: every false alarm costs money."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ipyrouter.routing.validation import weakness
from ipyrouter.types import Completion, Finish, Prompt, Request, TierName, Usage

LONG = "please " * 31
GOOD = "A good and complete answer that is longer than fifty characters in all."


def check(
    prompt: str, text: str, tier: TierName = "mid", finish: Finish = "stop", limit: int | None = None
) -> str | None:
    return weakness(
        Request(Prompt.of(prompt), max_output_tokens=limit), Completion(text, Usage(1, 1), finish, "m"), tier
    )


@pytest.mark.parametrize(
    ("prompt", "text", "tier", "reason"),
    [
        (LONG, "No.", "fast", "3 characters for a prompt of 31 words"),
        ("Hi", " \n", "mid", "empty answer"),
        ("Write a Python function", "```python\ndef f(:\n  pass\n```", "mid", "Python that does not parse"),
        ("Return the cities as JSON", "Paris, Rome", "mid", "not the JSON that was asked for"),
        ("List three fruits, JSON only", '{"a": 1', "mid", "not the JSON"),
    ],
)
def test_weak(prompt: str, text: str, tier: TierName, reason: str) -> None:
    assert reason in str(check(prompt, text, tier))


@pytest.mark.parametrize(
    ("prompt", "text", "tier"),
    [
        (LONG, "No.", "mid"),  # the article's rule is one of fast answers
        ("please " * 30, "No.", "fast"),
        (LONG, GOOD, "fast"),
        ("Write a Python function", "```python\ndef f():\n    pass\n```", "mid"),
        ("Write a Python function", "```python\n%timeit f()\n!ls\nawait g()\nx = '\\d'\n```", "mid"),
        ("Write Python code", "```python\n>>> 1 +\n```", "mid"),
        ("Write a bash script, no Python code", "```bash\nif [ -f x ]; then\n```", "mid"),
        ("Write a function", "```python\n    x = 1\n    y = 2\n```", "mid"),
        ("Explain this", "```python\ndef f(:\n```", "mid"),  # it may be the user's own broken code
        ("Return the cities as JSON", '```json\n["Paris"]\n```', "mid"),
        ("Return the cities as JSON", 'Here it is: {"a": [1]} as asked.', "mid"),
        ("How do I write a DataFrame to JSON?", GOOD, "mid"),
        ("Write a function that returns the rows as JSON", GOOD, "mid"),
        ("Convert this JSON to YAML", "a: 1", "mid"),
    ],
)
def test_good(prompt: str, text: str, tier: TierName) -> None:
    assert check(prompt, text, tier) is None


def test_an_answer_that_is_all_thinking() -> None:
    thought = Completion("", Usage(1, 1024), "stop", "m", thinking="two and two")
    assert weakness(Request(Prompt.of("Hi")), thought, "mid") == "empty answer: the model only thought"
    cut = replace(thought, finish="length")
    said = "empty answer: all 1,024 tokens went into reasoning"
    assert weakness(Request(Prompt.of("Hi")), cut, "mid") == said
    hidden = replace(cut, thinking="", usage=Usage(1, 1024, reasoning_tokens=1024))  # OpenAI shows none
    assert weakness(Request(Prompt.of("Hi")), hidden, "mid") == said


def test_json_that_was_asked_for_by_an_option() -> None:
    asked = Request(Prompt.of("The cities of France"), json=True)
    assert weakness(asked, Completion("Paris and Lyon", Usage(1, 1), "stop", "m"), "mid") is not None
    assert weakness(asked, Completion('["Paris"]', Usage(1, 1), "stop", "m"), "mid") is None


def test_cut_off() -> None:
    assert check("Hi", GOOD, finish="length") == "cut off at the token limit"
    assert check("Hi", GOOD, finish="length", limit=5) is None  # the user's own limit


def test_a_refusal_is_not_weak() -> None:
    assert check(LONG, "No.", "fast", "refusal") is None


@pytest.mark.usefixtures("collector_rests")
@pytest.mark.parametrize("text", ["```python\n" + "(" * 5000 + "\n```", "```python\n\x00\n```", "[" * 100_000])
def test_monsters_do_not_break_it(text: str) -> None:
    check("Write a Python function", text)
    check("Return it as JSON", text)
