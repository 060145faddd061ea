"""The budget of one run, in this process, beside those of the config."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from decimal import Decimal

from ipyrouter.clock import Clock
from ipyrouter.config import Budget as Limits
from ipyrouter.pricing.prices import Pricing
from ipyrouter.routing.budget import Budget, Hold, Holdings, Refusal
from ipyrouter.routing.interrupts import Interrupts
from ipyrouter.routing.planner import Step
from ipyrouter.store.base import BudgetLedger
from ipyrouter.text.amounts import dollars
from ipyrouter.types import Request, Session

_LOOK = 0.1  # seconds between two looks whether the run was stopped


class RunBudget(Budget):
    """Keeps the config's budgets and one more: the dollars that a run may spend.

    A call whose worst case does not fit now waits for the calls in flight, and is refused where none is.
    """

    def __init__(
        self,
        limits: Limits,
        pricing: Pricing,
        ledger: BudgetLedger,
        clock: Clock,
        session: Session,
        *,
        most: Decimal,
    ) -> None:
        super().__init__(limits, pricing, ledger, clock, session)
        self._most = most
        self._changed = threading.Condition()
        self._spent = Decimal(0)
        self._reserved = Decimal(0)

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
            while self._spent + self._reserved + worst > self._most:
                if not self._reserved:
                    left = dollars(max(self._most - self._spent, Decimal(0)))
                    words = f"and {left} is left of this run's budget of {dollars(self._most)}"
                    return Refusal(f"{step.candidate} could cost {dollars(worst)}, {words}")
                interrupts.raise_pending()
                self._changed.wait(_LOOK)
            self._reserved += worst
            return None
