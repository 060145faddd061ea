"""May this be spent? A call's worst case is reserved before it is made, and settled with what it really cost."""

from __future__ import annotations

import datetime as dt
import time
from decimal import Decimal

from ipyrouter.config import Budget
from ipyrouter.pricing import tokens
from ipyrouter.pricing.prices import Pricing
from ipyrouter.routing.planner import Step
from ipyrouter.store.base import Store
from ipyrouter.store.ledger import Limit, Refusal
from ipyrouter.text.amounts import dollars, from_pico, to_pico
from ipyrouter.types import Request

_MARGIN = 60.0  # seconds that a reservation outlives the call's total deadline
_FIRST_PAUSE, _LONGEST_PAUSE = 0.02, 0.25  # seconds between two looks whether calls in flight have ended


class BudgetGuard:
    """Reserves money for the calls of one request. Without any budget it does nothing."""

    def __init__(self, budget: Budget, pricing: Pricing, store: Store, session: str, started: dt.datetime) -> None:
        self._budget = budget
        self._pricing = pricing
        self._store = store
        self._session = session
        self._started = started
        self._holds: dict[str, int] = {}  # reservations and their 1e-12 dollars: what the request spent, and may spend

    @property
    def reservations(self) -> tuple[str, ...]:
        """The reservations that the request holds now."""
        return tuple(self._holds)

    @property
    def active(self) -> bool:
        """Tell whether any budget is set."""
        budget = self._budget
        return any(limit is not None for limit in (budget.call, budget.session, budget.day, budget.month))

    def refuse(self, step: Step, request: Request, until: float | None = None) -> str | None:
        """Reserve the step's worst case; return why it may not be spent, or None if it may.

        Args:
            step: The call that is to be made.
            request: What it is made for.
            until: Where calls in flight hold the money that is missing, wait for them up to this time
                (``time.monotonic()``); None does not wait.

        Returns:
            The reason in words, or None with the money reserved.
        """
        if not self.active:
            return None
        worst = self._pricing.bound(
            step.candidate,
            tokens.bound_input(request.prompt, request.system, request.history),
            step.call.max_output_tokens,
        )
        if worst is None:
            return f"{self._pricing.unknown(step.candidate)}, so no budget can be kept with it"
        pico = to_pico(worst)
        if (reason := self._exceeds_call(pico)) is not None:
            return f"{step.candidate} could cost {dollars(worst)}, {reason}"
        pause = _FIRST_PAUSE
        while True:
            reserved = self._store.reserve(pico, self._limits(), self._session, step.deadlines.total + _MARGIN)
            if not isinstance(reserved, Refusal):
                self._holds[reserved] = pico
                return None
            left = 0.0 if until is None else until - time.monotonic()
            # What this very request holds is no other call's, and does not come back before its end.
            hopeless = reserved.spent + sum(self._holds.values()) + pico > reserved.limit.pico
            if hopeless or left <= 0:
                return f"{step.candidate} could cost {dollars(worst)}, {_shortage(reserved)}"
            time.sleep(min(pause, left))
            pause = min(pause * 1.5, _LONGEST_PAUSE)

    def settle(self, spent: Decimal | None) -> None:
        """Give back what the last reservation holds beyond what its call spent; an unknown cost keeps it whole."""
        if not self._holds or spent is None:
            return
        reservation, pico = next(reversed(self._holds)), to_pico(spent)
        self._store.adjust(reservation, pico)
        self._holds[reservation] = pico

    def clear(self) -> None:
        """Forget the reservations: the record of the request has ended them."""
        self._holds.clear()

    def _exceeds_call(self, pico: int) -> str | None:
        """Return why the budget for a call forbids so much more, or None."""
        most, spent = self._budget.call, sum(self._holds.values())
        if most is None or spent + pico <= to_pico(most):
            return None
        if not spent:
            return f"more than the budget of {dollars(most)} for a call"
        left = max(most - from_pico(spent), Decimal(0))
        return f"and {dollars(left)} is left of the budget of {dollars(most)} for a call"

    def left(self) -> dict[str, Decimal]:
        """Return the dollars left of each budget that spans more than a call."""
        return {limit.name: from_pico(max(limit.pico - self._store.used(limit), 0)) for limit in self._limits()}

    def _limits(self) -> list[Limit]:
        """Return the budgets that span more than a call, from their beginnings in UTC."""
        midnight = dt.datetime.now(dt.UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        spans = (
            ("this session", self._budget.session, self._started, self._session),
            ("today", self._budget.day, midnight, None),
            ("this month", self._budget.month, midnight.replace(day=1), None),
        )
        return [
            Limit(name, to_pico(most), int(since.timestamp() * 1e6), session)
            for name, most, since, session in spans
            if most is not None
        ]


def _shortage(refusal: Refusal) -> str:
    limit = refusal.limit
    left = from_pico(max(limit.pico - refusal.used, 0))
    words = f"and {dollars(left)} is left of the budget of {dollars(from_pico(limit.pico))} for {limit.name}"
    held = refusal.used - refusal.spent
    return f"{words} ({dollars(from_pico(held))} is reserved for calls in flight)" if held else words
