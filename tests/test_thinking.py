"""Thinking between tags is not a part of an answer; tags that an answer speaks of are."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipyrouter.text.thinking import Separator, split_thinking

FENCE = "```html\n<think>a</think>\n```\nThat is how it looks."


@pytest.mark.parametrize(
    ("answer", "text", "thinking"),
    [
        ("Paris.", "Paris.", ""),
        ("\n Paris.\n", "\n Paris.\n", ""),
        (" \n", " \n", ""),
        ("", "", ""),
        ("<think>\nA city.\n</think>\n\nParis.", "Paris.", "A city."),
        ("\n\n<THINK>A city.</Think>Paris.", "Paris.", "A city."),
        ("<thinking>A city.</thinking> Paris.", "Paris.", "A city."),
        ("<thought>A city.</thought>\nParis.", "Paris.", "A city."),
        ("<reasoning>A city.</reasoning>\nParis.", "Paris.", "A city."),
        ("[THINK]A city.[/THINK]Paris.", "Paris.", "A city."),
        ("◁think▷A city.◁/think▷Paris.", "Paris.", "A city."),
        ("<seed:think>A city.</seed:think>Paris.", "Paris.", "A city."),
        ("[think](https://x.example) twice.", "[think](https://x.example) twice.", ""),
        ("<think>A city", "", "A city"),
        ("<think>", "", ""),
        ("<think></think>\n\nParis.", "Paris.", ""),
        ("</think>\n\nParis.", "Paris.", ""),
        ("A city of France.\n</think>\n\nParis.", "Paris.", "A city of France."),
        ("A city.</think>Paris.", "Paris.", "A city."),
        ("<think>See `</thinking>` and ```x\n</think>Paris.", "Paris.", "See `</thinking>` and ```x"),
        ("<think>One.</think>Paris.\n<think>Two.</think>\nOr Lyon.", "Paris.\n\nOr Lyon.", "One.\nTwo."),
        ("<think>One.</think>\n<think>Two.</think>\nParis.", "Paris.", "One.\nTwo."),
        # text, because the answer speaks of the tags
        ("R1 writes `<think>` first.", "R1 writes `<think>` first.", ""),
        ("Close it with `</think>`.", "Close it with `</think>`.", ""),
        ("Close it with ``a ` </think>``.", "Close it with ``a ` </think>``.", ""),
        ("It stands between <think> and </think>.", "It stands between <think> and </think>.", ""),
        ("The answer:\n<think> is a tag.", "The answer:\n<think> is a tag.", ""),
        ("<think>x</think>The tag </think> closes.", "The tag </think> closes.", "x"),
        (FENCE, FENCE, ""),
        ("> ~~~\n> <think>\n> ~~~~\n", "> ~~~\n> <think>\n> ~~~~\n", ""),
        ("```\n``` no end\n</think>\n```", "```\n``` no end\n</think>\n```", ""),
        ("```a```\nso far\n</think>\nParis.", "Paris.", "```a```\nso far"),
        ("A lone ` here.\n</think>\nParis.", "Paris.", "A lone ` here."),
        ("a < b, <thin> and </thinner>", "a < b, <thin> and </thinner>", ""),
        ("ends with <", "ends with <", ""),
        # closing tags too many, and cut ones
        ("<think>x</think>Paris.</think>", "Paris.", "x"),
        ("<think>x</think>Paris.</think> \nOr Lyon.", "Paris.\nOr Lyon.", "x"),
        ("<think>x</think>\n</think>\n\nParis.", "Paris.", "x"),
        ("<think>x</think>Paris.\n</think>Or Lyon.", "Paris.\nOr Lyon.", "x"),
        ("<think>x</think>Paris.</think></think>\n", "Paris.\n", "x"),
        ("<think>x</think>The tags </think> </think> close.", "The tags </think> </think> close.", "x"),
        ("<think>x</think>A </think><b> tag.", "A </think><b> tag.", "x"),
        ("<think>x</think>The tag </think>`a`", "The tag </think>`a`", "x"),
        ("A city.</think>Paris.</thinking>", "Paris.", "A city."),
        ("Paris.</think", "Paris.", ""),
        ("<think>x</think>Paris.</thi", "Paris.", "x"),
        ("Close it with `</think", "Close it with `</think", ""),
        ("It stands between <think> and </think", "It stands between <think> and </think", ""),
        ("An </th", "An </th", ""),
    ],
)
def test_the_thinking_is_put_aside(answer: str, text: str, thinking: str) -> None:
    assert split_thinking(answer) == (text, thinking)
    letters = Separator()  # the same, a letter at a time
    parts = [letters.feed(letter) for letter in answer] + [letters.finish()]
    assert (letters.text, letters.thinking) == (text, thinking)
    assert "".join(parts).endswith(text)


PIECES = st.lists(
    st.sampled_from(
        ["<think>", "</think>", "<", "think>", "</", "`", "```", "~~~", "\n", " ", "> ", "word", "<thinking>"]
    ),
    max_size=25,
)


@given(PIECES, st.data())
def test_the_cuts_of_a_stream_change_nothing(pieces: list[str], data: st.DataObject) -> None:
    answer = "".join(pieces)
    separator = Separator()
    rest = answer
    while rest:
        size = data.draw(st.integers(1, len(rest)))
        separator.feed(rest[:size])
        rest = rest[size:]
    separator.finish()
    assert (separator.text, separator.thinking) == split_thinking(answer)


@given(st.text(alphabet="ab \n.<>/`", max_size=60))
def test_an_answer_without_tags_is_not_changed(answer: str) -> None:
    assert split_thinking(answer) == (answer, "")


@pytest.mark.parametrize(
    "unit", ["\n", "`", "<think>", "</think>", "<", "` <think>", "```\n", "~", "</think>\n", "a</think>"]
)
def test_a_monster_is_read(unit: str) -> None:
    """200,000 tags: where the work grew with the square of the length, this would not end."""
    text, thinking = split_thinking(unit * 200_000)
    assert len(text) + len(thinking) <= len(unit) * 200_000
