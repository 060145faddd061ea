"""Markdown in a terminal, rendered with rich while it arrives."""

from __future__ import annotations

import re
import time

from rich.console import Console
from rich.live import Live
from rich.markdown import Markdown

from ipyrouter.text import sanitise

_INTERVAL = 0.1  # seconds between two drawings of a block
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
        # Made safe first: HTML, which rich would leave out, is shown, and a link shows where it leads.
        rendered = Markdown(sanitise.markdown(text), hyperlinks=False)
        if self._live is None:
            self._live = Live(console=self._console, auto_refresh=False, redirect_stdout=False, redirect_stderr=False)
            self._live.start()
        self._live.update(rendered, refresh=True)

    def _stop(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None
            self._console.print()


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
