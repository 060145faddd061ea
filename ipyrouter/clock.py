"""What time it is: given to whoever asks, so that tests can set it."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """A clock on the wall, which a user may set, and one that only goes forward."""

    def microseconds(self) -> int:
        """Return the time in microseconds since 1970 (UTC)."""
        ...

    def monotonic(self) -> float:
        """Return seconds since some moment that is the same for all processes of this machine until it restarts."""
        ...


class SystemClock:
    """The machine's clocks."""

    def microseconds(self) -> int:
        """Return the time in microseconds since 1970 (UTC)."""
        return time.time_ns() // 1000

    def monotonic(self) -> float:
        """Return the seconds since the machine started, or about that."""
        return time.monotonic()
