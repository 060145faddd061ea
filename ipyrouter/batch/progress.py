"""How far a run is, and what shows it."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING

from ipyrouter.text.amounts import at_least, dollars, seconds

if TYPE_CHECKING:
    from ipyrouter.batch.rows import Row


@dataclass(slots=True)
class Progress:
    """How far a run is. Counts are of distinct requests; ``spent`` is in dollars, as far as it is known."""

    total: int
    done: int = 0
    cached: int = 0
    failed: int = 0
    asked: int = 0
    in_flight: int = 0
    spent: Decimal = Decimal(0)
    unpriced: int = 0
    refusals: int = 0
    note: str = ""
    finished: bool = False
    began: float = field(default_factory=time.monotonic)

    @property
    def rate(self) -> float:
        """Requests that were asked, a second."""
        passed = time.monotonic() - self.began
        return self.asked / passed if passed > 0 else 0.0

    @property
    def likely(self) -> Decimal | None:
        """The dollars that the whole run will likely come to; None while there is nothing to tell it from."""
        if not self.asked:
            return None
        return self.spent + self.spent / self.asked * (self.total - self.done)

    @property
    def left(self) -> float | None:
        """The seconds that are likely left; None while there is nothing to tell it from."""
        return (self.total - self.done) / self.rate if self.rate else None

    def add(self, row: Row) -> None:
        """Count a request that is done."""
        self.done += 1
        self.cached += row.cached
        self.failed += not row.answered
        self.spent += row.cost or 0
        self.unpriced += row.cost is None

    def line(self) -> str:
        """Return all of it in a line."""
        parts = [f"{self.done:,} of {self.total:,}"]
        if self.cached:
            parts.append(f"{self.cached:,} from the cache")
        if self.failed:
            parts.append(f"{self.failed:,} without an answer")
        parts.append(at_least(self.spent, self.unpriced))
        if not self.finished and self.likely is not None:
            parts.append(f"likely {dollars(self.likely)} in all")
        if self.asked:
            parts.append(f"{self.rate:.1f}/s")
        if not self.finished and self.left is not None:
            parts.append(f"{seconds(self.left)} left")
        if self.refusals:
            parts.append(f"{self.refusals:,} × 429")
        if self.note:
            parts.append(self.note)
        return " · ".join(parts)


Show = Callable[[Progress], None]
"""Shows how far a run is; called about once a second, and once more at the end with ``finished``."""


class TerminalProgress:
    """One line of a terminal that is written over; nothing where stderr is none."""

    def __call__(self, progress: Progress) -> None:
        """Show how far a run is."""
        if sys.stderr.isatty():
            end = "\n" if progress.finished else ""
            print(f"\r\x1b[K{progress.line()}", end=end, file=sys.stderr, flush=True)
