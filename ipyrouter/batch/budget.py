"""The budget of one run, in this process, beside those of the config."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal

from ipyrouter.routing.budget import Budget, Hold, Holdings, Refusal
from ipyrouter.routing.interrupts import Interrupts
from ipyrouter.routing.planner import Step
from ipyrouter.text.amounts import dollars
from ipyrouter.types import Request

_LOOK = 0.1  # seconds between two looks whether the run was stopped


@dataclass(eq=False)
class RunBudget(Budget):
    """Keeps the config's budgets and one more: the dollars that a run may spend in this process.

    A call whose worst case does not fit now waits for the calls in flight, and is refused where none is.

    Args:
        most: Those dollars.
    """

    most: Decimal = field(kw_only=True)
    _changed: threading.Condition = field(default_factory=threading.Condition, init=False, repr=False)
    _spent: Decimal = field(default=Decimal(0), init=False)
    _reserved: Decimal = field(default=Decimal(0), init=False)

    @contextlib.contextmanager
    def hold(
        self, step: Step, request: Request, holdings: Holdings, interrupts: Interrupts, until: float
    ) -> Iterator[Hold | Refusal]:
        """Hold the worst case of a call for the block, in this budget and then in the others."""
        worst = self.worst_case(step, request, holdings.picodollars)
        if isinstance(worst, Refusal):
            yield worst
            return
        if (refusal := self._take(step, worst, interrupts)) is not None:
            yield refusal
            return
        hold: Hold | Refusal = Hold(Decimal(0))
        try:
            with super().hold(step, request, holdings, interrupts, until) as hold:
                yield hold
        finally:
            spent = Decimal(0) if isinstance(hold, Refusal) else hold.spent
            spent = worst if spent is None else spent  # what is not known may be all of it
            with self._changed:
                self._reserved -= worst
                self._spent += spent
                self._changed.notify_all()

    def _take(self, step: Step, worst: Decimal, interrupts: Interrupts) -> Refusal | None:
        with self._changed:
            while self._spent + self._reserved + worst > self.most:
                if not self._reserved:
                    left = dollars(max(self.most - self._spent, Decimal(0)))
                    words = f"and {left} is left of this run's budget of {dollars(self.most)}"
                    return Refusal(f"{step.candidate} could cost {dollars(worst)}, {words}")
                interrupts.raise_pending()
                self._changed.wait(_LOOK)
            self._reserved += worst
            return None
