"""Where the answer appears: one display handle in a notebook, stdout in a terminal, nowhere when quiet."""

from __future__ import annotations

import sys
import time
from typing import Any, Protocol

from ipyrouter.notebook import render, sanitise
from ipyrouter.notebook.formats import Shown
from ipyrouter.types import Answer, Delta

_INTERVAL = 0.1  # seconds between two updates of a streamed answer


class Display(Protocol):
    """Shows one answer, from the first text to the last."""

    def delta(self, delta: Delta) -> None:
        """Take a piece of text."""
        ...

    def finish(self, answer: Answer, shown: Shown) -> None:
        """Show the answer as it is in the end."""
        ...

    def fail(self, attempts: int) -> None:
        """Keep what had arrived; the error is shown below."""
        ...


class Quiet:
    """Shows nothing."""

    def delta(self, delta: Delta) -> None:
        """Take a piece of text."""

    def finish(self, answer: Answer, shown: Shown) -> None:
        """Show the answer as it is in the end."""

    def fail(self, attempts: int) -> None:
        """Keep what had arrived."""


class NotebookDisplay:
    """Updates one handle, at most ten times a second."""

    def __init__(self, fmt: str, *, stream: bool) -> None:
        from IPython.display import display

        self._display = display
        self._format = fmt
        self._stream = stream
        self._handle: Any = display(render.waiting_bundle(), raw=True, display_id=True)  # type: ignore[no-untyped-call]
        self._text: list[str] = []
        self._attempt = 0
        self._updated = 0.0

    def delta(self, delta: Delta) -> None:
        """Take a piece of text; a new attempt begins anew in the same place."""
        if delta.attempt != self._attempt:
            self._text, self._attempt = [], delta.attempt
        self._text.append(delta.text)
        now = time.monotonic()
        if self._stream and now - self._updated >= _INTERVAL:
            text = "".join(self._text)
            self._show(render.partial_bundle(delta.tier, str(delta.candidate), text, self._format), {})
            # A long answer costs more to redraw; the kernel must not spend more than a fifth of its time on that.
            drawn = time.monotonic()
            self._updated = drawn + 4 * (drawn - now)

    def finish(self, answer: Answer, shown: Shown) -> None:
        """Show the answer as it is in the end, with the metadata that a saved notebook keeps."""
        self._show(render.answer_bundle(answer, shown), render.metadata(answer))

    def fail(self, attempts: int) -> None:
        """Keep what had arrived."""
        self._show(render.broken_bundle("".join(self._text), attempts, self._format), {})

    def _show(self, bundle: render.Bundle, metadata: dict[str, Any]) -> None:
        self._handle.update(bundle, raw=True, metadata=metadata)


class TerminalDisplay:
    """Streams to stdout and prints the badge once: in a terminal an update would print everything again."""

    def __init__(self, fmt: str, *, stream: bool) -> None:
        self._stream = stream and fmt in ("markdown", "text")  # the other formats show what is made of the whole
        self._attempt = 0
        self._tail = "\n"

    def delta(self, delta: Delta) -> None:
        """Take a piece of text."""
        if not self._stream:
            return
        if delta.attempt != self._attempt:
            if self._attempt:
                self._write(sanitise.plain(f"\n— starting again with {delta.candidate} —\n"))
            self._attempt = delta.attempt
        self._write(sanitise.plain(delta.text))

    def finish(self, answer: Answer, shown: Shown) -> None:
        """Print what was not streamed, the badge and the notes."""
        if self._attempt == 0:
            self._write(sanitise.plain(shown.text))
        self._end_line()
        self._write(render.badge_text(answer) + "\n")
        for note in (*answer.notes, *shown.notes):
            self._write(sanitise.plain(note) + "\n")

    def fail(self, attempts: int) -> None:  # noqa: ARG002  the error that follows tells them
        """Leave what had arrived."""
        self._end_line()

    def _write(self, text: str) -> None:
        if text:
            sys.stdout.write(text)
            sys.stdout.flush()
            self._tail = text[-1]

    def _end_line(self) -> None:
        if self._tail != "\n":
            self._write("\n")
