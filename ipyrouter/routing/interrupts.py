"""When a request may be stopped: while it waits for something, and at no other moment.

A stop between the last token and the record would lose an answer that is paid for. So Ctrl-C is held back for the whole
request, but where the request says that it waits: for a server, a pause, a request in flight, money.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

from ipyrouter.clock import Clock

_FIRST_PAUSE, _LONGEST_PAUSE = 0.02, 0.25  # seconds


def pauses() -> Iterator[float]:
    """Yield ever longer seconds to wait before looking again whether what others do has ended."""
    pause = _FIRST_PAUSE
    while True:
        yield pause
        pause = min(pause * 1.5, _LONGEST_PAUSE)


class Interrupts:
    """The stops of one request: Ctrl-C on the main thread, :meth:`cancel` from any thread."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._previous: Any = None
        self._waits = False
        self._pending = False
        self._cancelled = threading.Event()
        self._wake: Callable[[], None] | None = None

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            previous = signal.getsignal(signal.SIGINT)
            if callable(previous):  # else the process ignores or dies of SIGINT: neither is ours to change
                self._previous = previous
                signal.signal(signal.SIGINT, self._on_signal)
        return self

    def __exit__(self, *_: object) -> None:
        if self._previous is not None:
            signal.signal(signal.SIGINT, self._previous)
            self._previous = None

    @property
    def pending(self) -> bool:
        """True where a stop has come and was not acted on."""
        return self._pending or self._cancelled.is_set()

    def raise_pending(self) -> None:
        """Raise KeyboardInterrupt for a stop that was held back."""
        if self.pending:
            self._pending = False
            raise KeyboardInterrupt

    @contextlib.contextmanager
    def waiting(self, wake: Callable[[], None] | None = None) -> Iterator[None]:
        """Let a stop raise KeyboardInterrupt inside the block.

        Args:
            wake: Ends what the block waits for, when another thread cancels the request.
        """
        self._wake = wake
        self._waits = True
        try:
            self.raise_pending()  # not before: a stop between the question and the wait would end neither
            yield
        finally:
            self._waits = False
            self._wake = None
        self.raise_pending()

    def sleep(self, seconds: float) -> None:
        """Wait, or raise KeyboardInterrupt at a stop."""
        with self.waiting():
            self._clock.wait(self._cancelled, seconds)

    def cancel(self) -> None:
        """Stop the request from another thread."""
        self._cancelled.set()
        wake = self._wake
        if wake is not None:
            wake()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._waits:
            self._previous(number, frame)
        else:
            self._pending = True
