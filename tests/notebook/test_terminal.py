"""Markdown in a terminal: rendered while it arrives, nothing lost, nothing twice."""

from __future__ import annotations

import io
import os
import re
import sys

import pytest

from ipyrouter.notebook import display

try:
    from rich.console import Console
except ImportError:
    if os.environ.get("CI"):
        raise
    pytest.skip("rich is missing: pip install -e '.[test]'", allow_module_level=True)

from ipyrouter.notebook.terminal import TerminalMarkdown, _end_of_block

ANSWER = """# Title

A paragraph with **bold** words, `code`, a [link](https://docs.example/x) and List<int>.
It has two lines.

1. one

   more of one
2. two

```python
def f(x):

    return x
```

| a | b |
|---|---|
| 1 | 2 |

<b>The end</b> costs $5.
"""
WIDTH = 60


def screen(written: str) -> list[str]:
    """Return the lines that a terminal shows in the end."""
    lines, row = [""], 0
    for part in re.findall(r"\x1b\[[?\d;]*[A-Za-z]|\r|\n|[^\x1b\r\n]+", written):
        if part == "\n":
            row += 1
            if row == len(lines):
                lines.append("")
        elif part == "\r":
            pass  # what follows erases the line
        elif part.endswith("A") and part.startswith("\x1b"):
            row -= int(part[2:-1] or 1)
        elif part == "\x1b[2K":
            lines[row] = ""
        elif not part.startswith("\x1b"):
            lines[row] += part
    return [line.rstrip() for line in lines]


def shown(*pieces: str) -> list[str]:
    written = io.StringIO()
    markdown = TerminalMarkdown(Console(file=written, force_terminal=True, width=WIDTH, height=40))
    for piece in pieces:
        markdown.add(piece)
    markdown.end()
    return screen(written.getvalue())


def test_an_answer_that_streams_ends_as_one_that_came_whole() -> None:
    whole = shown(ANSWER)
    assert shown(*ANSWER) == whole
    assert shown(*re.split("(?<= )", ANSWER)) == whole
    text = "\n".join(whole)
    for words in ("Title", "bold", "code", "link", "(https://docs.example/x)", "List<int>", "more of one", "return x",
                  "<b>The end</b> costs $5."):  # fmt: skip
        assert text.count(words) == 1, words
    for mark in ("**", "```", "| a |", "# "):
        assert mark not in text
    assert max(map(len, whole)) <= WIDTH


def test_lists_that_hold_code_keep_their_numbers_and_text_its_lines() -> None:
    answer = """1. Install it:

   ```sh
   pip install x
   ```

2. Run it:
   - as `x`
   - or as H<sub>2</sub>O

     > quoted

     ```sh
     x --all
     ```

one  \ntwo<br>three \\* &amp; $a_1 * b_1$ ![a plot](https://x.example/y.png)

$$
\\sum_i x_i
$$
"""
    lines = [line.strip() for line in shown(answer) if line.strip()]
    assert lines == [
        "1 Install it:", "pip install x", "2 Run it:", "• as x", "• or as H2O", "▌ quoted", "x --all", "one", "two",
        "three * & $a_1 * b_1$ a plot (https://x.example/y.png)", "$$\\sum_i x_i$$",
    ]  # fmt: skip


def test_control_characters_of_an_answer_do_not_reach_the_terminal() -> None:
    text = "\n".join(shown("before \x1b]0;title\x07\x1b[2J &#x202e;`\x9b2J`&#27; after\n"))
    assert "before" in text
    assert "after" in text
    assert not set(text) & set("\x07\x1b\x9b\u202e")


@pytest.mark.parametrize(
    ("text", "block"),
    [
        ("one", None),
        ("one\n\n", None),
        ("one\n\ntwo", "one\n\n"),
        ("- one\n\n  more", None),
        ("```\na\n\nb", None),
        ("```\na\n\nb\n```\n\nc", "```\na\n\nb\n```\n\n"),
        ("~~~~\n~~~\n\nx", None),
        ("\n\none", None),
    ],
)
def test_a_block_is_over_when_the_next_one_begins(text: str, block: str | None) -> None:
    end = _end_of_block(text)
    assert (None if end is None else text[:end]) == block


def test_what_is_no_terminal_gets_the_answer_as_it_came(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stdout", io.StringIO())
    assert display._terminal_markdown() is None
    monkeypatch.setattr(sys, "stdout", Terminal())
    assert isinstance(display._terminal_markdown(), TerminalMarkdown)
