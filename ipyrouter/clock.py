"""What time it is, and waiting: given from outside, so that tests pass days in no time."""

from __future__ import annotations

import datetime as dt
import threading
import time
from typing import Protocol


class Clock(Protocol):
    """Tells the time, and waits."""

    def now(self) -> dt.datetime:
        """Return the time in UTC."""
        ...

    def monotonic(self) -> float:
        """Return seconds that never go back, from an arbitrary beginning."""
        ...

    def wait(self, stop: threading.Event, seconds: float) -> None:
        """Return after so many seconds, or as soon as ``stop`` is set."""
        ...


class SystemClock:
    """The machine's own clock."""

    def now(self) -> dt.datetime:
        """Return the time in UTC."""
        return dt.datetime.now(dt.UTC)

    def monotonic(self) -> float:
        """Return seconds that never go back, from an arbitrary beginning."""
        return time.monotonic()

    def wait(self, stop: threading.Event, seconds: float) -> None:
        """Return after so many seconds, or as soon as ``stop`` is set."""
        stop.wait(seconds)
