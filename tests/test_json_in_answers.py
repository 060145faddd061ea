"""The JSON that was asked for is read wherever a model puts it; a part of a broken value is not it."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipyrouter.text.blocks import find_json


@pytest.mark.parametrize(
    ("answer", "value"),
    [
        ("42", 42),
        ('"x"', "x"),
        ('{"a": 1}', {"a": 1}),
        ('<think>\nIs {this} JSON?\n</think>\n\n{"a": 1}', {"a": 1}),
        ('<think>No: {"a": 0, "b": [1, 2, 3]}</think>```json\n{"a": 1}\n```', {"a": 1}),
        ('Sure! {"a": 1}\n\nNote: replace {name} yourself.', {"a": 1}),
        ('Use {x} as in {y: 1}: {"a": {"b": [1, 2]}} and [see there].', {"a": {"b": [1, 2]}}),
        ('As [1] says: {"a": 1}', {"a": 1}),
        ('First {"a": 1}, then {"a": 2}.', {"a": 1}),
        ('[a link](there) and ["b"]', ["b"]),
        ("In: `[3]`\n```python\n[3, 1, 2]\n```\nOut:\n```json\n[1]\n```", [1]),
        ('```json\n{"a": 1}\n', {"a": 1}),  # the fence was not closed
        ('```\n{"a": 1}\n```\nReplace {name}.', {"a": 1}),
        ("The set is {} or [].", {}),
        ('A brace in a string: {"a": "}"} {', {"a": "}"}),
        ('{"a": "NaN", "b": 1e308}', {"a": "NaN", "b": 1e308}),
        ('Not {"a": "NaN, []", "b": NaN}, but {"a": 1}', {"a": 1}),  # JSON has no NaN
        ("[Infinity, 1, 2] or [1]", [1]),
    ],
)
def test_the_json_of_an_answer(answer: str, value: Any) -> None:
    assert find_json(answer) == value


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "No.",
        "{x}",
        '{"a": 1',
        '{"a": 1, "b": [1, 2, 3], oops}',
        '[1, 2, {"a": 1}',
        "<think>[1]",
        "[x] {y} [z",
        "{" * 9,
        "NaN",
        "[-Infinity]",
        '{"a": NaN}',
        '{"a": 1e999}',
    ],
)
def test_no_json(answer: str) -> None:
    with pytest.raises(ValueError, match="no JSON"):
        find_json(answer)


PROSE = st.text(alphabet="ab {}[]:,\n", max_size=30)


@given(PROSE, PROSE, st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=20), min_size=1, max_size=4))
def test_prose_with_brackets_hides_no_json(before: str, after: str, value: dict[str, Any]) -> None:
    """An empty [] in the prose is JSON as well, but shorter."""
    value["longer"] = "than any prose of this test"
    assert find_json(f"{before}\n.{json.dumps(value)}\n{after}") == value


@pytest.mark.parametrize("unit", ["[", "{", '{"', "[1,", '{"a":', '{"a":[', '{"\\"', "[1] ", "{x} ", "{ ", "[1 ", "\n"])
def test_a_monster_is_read(unit: str) -> None:
    """Where the work grew with the square of the length, this would not end."""
    with contextlib.suppress(ValueError):
        assert find_json(unit * 200_000) == [1]
