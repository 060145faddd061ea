"""Markdown in a terminal, rendered with rich while it arrives."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator

from markdown_it.token import Token
from rich.console import Console
from rich.live import Live
from rich.markdown import Markdown

from ipyrouter.text import sanitise

_INTERVAL = 0.1  # seconds between two drawings of a block
_TAG = re.compile(r"<(sub|sup|kbd)>([^<>]*)</\1>", re.IGNORECASE)
_BREAK = re.compile(r"<br ?/?>", re.IGNORECASE)
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")


class TerminalMarkdown:
    """Renders block by block: one that is complete stays as it is, the one that arrives is drawn again in its place.

    So the terminal never has to take back more than the last paragraph, list, table or code block.
    """

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console()
        self._text = ""  # of the block that arrives
        self._live: Live | None = None
        self._next_draw = 0.0

    def add(self, text: str) -> None:
        """Take a piece of the answer and show it."""
        self._text += text
        while (end := _end_of_block(self._text)) is not None:
            block, self._text = self._text[:end], self._text[end:]
            self._draw(block)
            self._stop()
        if self._text.strip() and time.monotonic() >= self._next_draw:
            self._draw(self._text)
            self._next_draw = time.monotonic() + _INTERVAL

    def end(self) -> None:
        """Show all that has arrived, and leave it; what comes now is another answer."""
        if self._text.strip():
            self._draw(self._text)
        self._stop()
        self._text = ""

    def _draw(self, text: str) -> None:
        rendered = Markdown(text, hyperlinks=False)  # a link shows where it leads
        rendered.parsed = list(_tokens(text))
        if self._live is None:
            self._live = Live(console=self._console, auto_refresh=False, redirect_stdout=False, redirect_stderr=False)
            self._live.start()
        self._live.update(rendered, refresh=True)

    def _stop(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None
            self._console.print()


def _tokens(text: str) -> Iterator[Token]:
    """Yield an answer as tokens that rich knows: it would leave out HTML and formulas, which are shown as text."""
    text = sanitise.plain(text)
    for token in sanitise.parse(text) or [Token("code_block", "code", 0, content=text)]:
        if token.type == "maths_block":
            yield Token("paragraph_open", "p", 1)
            yield Token("inline", "", 0, children=[Token("text", "", 0, content=token.content)])
            yield Token("paragraph_close", "p", -1)
            continue
        token.children = [_inline(child) for child in token.children] if token.children else token.children
        yield token


def _inline(token: Token) -> Token:
    content = sanitise.plain(token.content)  # a reference may have brought a control character along
    if token.type == "image":
        content = f"{content} ({token.attrGet('src')})".lstrip()
    elif token.type == "text":
        content = _BREAK.sub("\n", _TAG.sub(r"\2", content))
    elif token.type not in ("maths", "text_special"):
        token.content = content
        return token
    return Token("text", "", 0, content=content)


def _end_of_block(text: str) -> int | None:
    """Return where the first block ends: behind a blank line that no indented line follows, outside code."""
    fence = ""
    place = 0
    blank = False
    for line in text.splitlines(keepends=True):
        mark = _FENCE.match(line)
        if blank and not fence and line[0] not in " \t\n\r" and text[:place].strip():
            return place
        if fence:
            if mark and mark[1].startswith(fence) and not line.strip().strip(fence[0]):
                fence = ""
        elif mark:
            fence = mark[1]
        blank = not line.strip() and line.endswith("\n")
        place += len(line)
    return None
