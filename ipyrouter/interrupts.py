"""Ctrl-C held back while something must not be torn apart: a transaction, or a paid answer on its way to the log."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

_outermost: Deferred | None = None  # the one that holds SIGINT back; only the main thread sets it


class Deferred:
    """A block during which SIGINT waits: it is delivered when the block is left, however it is left.

    On another thread than the main one it does nothing, because Python delivers no signal there; inside another
    such block it does nothing either, so that the outer one decides. Where nothing handles SIGINT in Python there is
    nothing to hold back.
    """

    def __init__(self) -> None:
        self._deliver: Callable[[int, FrameType | None], Any] | None = None  # whose turn it is when the block is left
        self._waiting: FrameType | None = None
        self._came = False

    def __enter__(self) -> Deferred:
        global _outermost  # noqa: PLW0603  SIGINT has one handler in a process
        if _outermost is None and threading.current_thread() is threading.main_thread():
            handler = signal.getsignal(signal.SIGINT)
            if callable(handler):
                self._deliver = handler
                signal.signal(signal.SIGINT, self._hold)
                _outermost = self
        return self

    def __exit__(self, *_: object) -> None:
        global _outermost  # noqa: PLW0603
        if _outermost is self and self._deliver is not None:
            _outermost = None
            signal.signal(signal.SIGINT, self._deliver)
            self._deliver_waiting()

    def allowed(self) -> _Allowed:
        """Return a block within this one that lets SIGINT through, first the one that waits.

        Only the outermost block lets through: what runs inside of it cannot know what it protects.
        """
        return _Allowed(self)

    def _open(self) -> None:
        if _outermost is self and self._deliver is not None:
            self._deliver_waiting()  # still held back: what this raises leaves nothing behind
            signal.signal(signal.SIGINT, self._deliver)
            self._deliver_waiting()  # what came between the two lines

    def _shut(self) -> None:
        if _outermost is self and self._deliver is not None:
            signal.signal(signal.SIGINT, self._hold)

    def _hold(self, _: int, frame: FrameType | None) -> None:
        self._came, self._waiting = True, frame

    def _deliver_waiting(self) -> None:
        if self._came and self._deliver is not None:
            frame, self._came, self._waiting = self._waiting, False, None
            self._deliver(signal.SIGINT, frame)


class _Allowed:
    """Not a generator: one that an interrupt leaves half run would change the handler when it is collected."""

    def __init__(self, block: Deferred) -> None:
        self._block = block

    def __enter__(self) -> None:
        try:
            self._block._open()
        except BaseException:
            self._block._shut()
            raise

    def __exit__(self, *_: object) -> None:
        self._block._shut()


def deferred() -> Deferred:
    """Return a block during which SIGINT waits."""
    return Deferred()
