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
        self._came = False
        self._frame: FrameType | None = None  # where it came

    def __enter__(self) -> None:
        global _outermost  # noqa: PLW0603  SIGINT has one handler in a process
        if _outermost is None and threading.current_thread() is threading.main_thread():
            handler = signal.getsignal(signal.SIGINT)
            if callable(handler):
                self._deliver = handler
                signal.signal(signal.SIGINT, self._hold)
                _outermost = self

    def __exit__(self, *_: object) -> None:
        global _outermost  # noqa: PLW0603
        if _outermost is self and self._deliver is not None:
            _outermost = None
            signal.signal(signal.SIGINT, self._deliver)
            if self._came:
                self._deliver(signal.SIGINT, self._frame)

    def _hold(self, _: int, frame: FrameType | None) -> None:
        self._came, self._frame = True, frame
