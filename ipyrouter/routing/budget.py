"""May this be spent? A call's worst case is held before it is made, and settled with what it really cost."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal

from ipyrouter.clock import Clock
from ipyrouter.config import Budget as Limits
from ipyrouter.pricing import media, tokens
from ipyrouter.pricing.prices import Pricing
from ipyrouter.routing.interrupts import Interrupts, pauses
from ipyrouter.routing.planner import Step
from ipyrouter.store import base
from ipyrouter.store.base import BudgetLedger, Limit, Period, Unavailable
from ipyrouter.text.amounts import dollars, from_pico, to_pico
from ipyrouter.types import Request, Session

_MARGIN = 60.0  # seconds that a reservation outlives the call's total deadline


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a budget forbids a call, in words.

    ``unpriced`` where no price is known to keep it with, ``unknown`` where it is not known what is spent of it.
    """

    reason: str
    unpriced: bool = False
    unknown: bool = False


@dataclass(slots=True)
class Hold:
    """Money that is held for one call. The caller sets ``spent`` to its dollars; None: unknown."""

    spent: Decimal | None = None


@dataclass(slots=True)
class Holdings:
    """The reservations of one request, whose ``owner`` releases them, and their 1e-12 dollars: spent, or to spend."""

    owner: str
    reservations: dict[str, int] = field(default_factory=dict)

    @property
    def picodollars(self) -> int:
        """All that the request holds."""
        return sum(self.reservations.values())


class Budget:
    """Keeps the budgets of one session. Without any budget it does nothing."""

    def __init__(self, limits: Limits, pricing: Pricing, ledger: BudgetLedger, clock: Clock, session: Session) -> None:
        self._limits = limits
        self._pricing = pricing
        self._ledger = ledger
        self._clock = clock
        self._session = session

    @property
    def active(self) -> bool:
        """Tell whether any budget is set."""
        limits = self._limits
        return any(limit is not None for limit in (limits.call, limits.session, limits.day, limits.month))

    @contextlib.contextmanager
    def hold(
        self, step: Step, request: Request, holdings: Holdings, interrupts: Interrupts, until: float
    ) -> Iterator[Hold | Refusal]:
        """Hold the worst case of a call for the block, and give back on leaving what it has not spent.

        Args:
            step: The call that is to be made.
            request: What it is made for.
            holdings: What the request holds already; the new reservation joins it until the request is recorded.
            interrupts: Lets the user stop the wait for calls in flight that hold the money that is missing.
            until: The end of that wait, in the clock's monotonic seconds.

        Yields:
            A Hold, or the Refusal of a budget; nothing may be sent then.
        """
        if not self.active:
            yield Hold()
            return
        worst = self._worst_case(step, request, holdings.picodollars)
        reservation = worst if isinstance(worst, Refusal) else self._reserve(step, worst, holdings, interrupts, until)
        if isinstance(reservation, Refusal):
            yield reservation
            return
        hold = Hold()
        try:
            yield hold
        finally:
            if hold.spent is not None:
                holdings.reservations[reservation] = to_pico(hold.spent)
                self._ledger.settle(reservation, holdings.reservations[reservation])

    def shortage(self, step: Step, request: Request) -> Refusal | None:
        """Return what a call would be refused for as things stand now; reads, writes nothing."""
        if not self.active:
            return None
        worst = self._worst_case(step, request, held=0)
        if isinstance(worst, Refusal):
            return worst
        for limit in self._spans():
            used = self._ledger.used(limit, self._session)
            if isinstance(used, Unavailable):
                return Refusal(f"{step.candidate} could cost {dollars(worst)}, {_unknown(used)}", unknown=True)
            if used + to_pico(worst) > limit.pico:
                words = _shortage(base.Refusal(limit, used, used))
                return Refusal(f"{step.candidate} could cost {dollars(worst)}, {words}")
        return None

    def left(self) -> dict[str, Decimal | None]:
        """Return the dollars left of each budget that spans more than a call; None where it is unknown."""
        left: dict[str, Decimal | None] = {}
        for limit in self._spans():
            used = self._ledger.used(limit, self._session)
            left[limit.name] = None if isinstance(used, Unavailable) else from_pico(max(limit.pico - used, 0))
        return left

    def _worst_case(self, step: Step, request: Request, held: int) -> Decimal | Refusal:
        """Return the dollars that a call may cost, or why it is forbidden whatever calls in flight give back.

        ``held`` is what its request holds already, in 1e-12 dollars.
        """
        *history, prompt = step.call.messages  # a correction's holds more than the request
        schema = request.schema.text if request.schema else ""
        longest = tokens.bound_input(prompt.text, request.system, tuple(history), schema)
        longest += media.bound(step.call.messages, step.call.model)
        worst = self._pricing.bound(step.candidate, longest, step.call.max_output_tokens)
        if worst is None:
            return Refusal(f"{self._pricing.unknown(step.candidate)}, so no budget can be kept with it", unpriced=True)
        if (reason := self._exceeds_call(to_pico(worst), held)) is not None:
            return Refusal(f"{step.candidate} could cost {dollars(worst)}, {reason}")
        return worst

    def _reserve(
        self, step: Step, worst: Decimal, holdings: Holdings, interrupts: Interrupts, until: float
    ) -> str | Refusal:
        """Reserve the worst case, and return the reservation's id; wait for calls in flight where that may help."""
        pico, spans, waits = to_pico(worst), self._spans(), pauses()
        seconds = step.deadlines.total + _MARGIN
        while True:
            reserved = self._ledger.reserve(pico, spans, self._session, holdings.owner, seconds)
            if isinstance(reserved, base.Reservation):
                holdings.reservations[reserved.id] = pico
                return reserved.id
            if isinstance(reserved, Unavailable):
                return Refusal(f"{step.candidate} could cost {dollars(worst)}, {_unknown(reserved)}", unknown=True)
            left = until - self._clock.monotonic()
            # What this very request holds belongs to no other call, and does not come back before its end.
            if reserved.spent + holdings.picodollars + pico > reserved.limit.pico or left <= 0:
                return Refusal(f"{step.candidate} could cost {dollars(worst)}, {_shortage(reserved)}")
            interrupts.sleep(min(next(waits), left))

    def _exceeds_call(self, pico: int, held: int) -> str | None:
        """Return why the budget for a call forbids so much more, or None."""
        most = self._limits.call
        if most is None or held + pico <= to_pico(most):
            return None
        if not held:
            return f"more than the budget of {dollars(most)} for a call"
        left = max(most - from_pico(held), Decimal(0))
        return f"and {dollars(left)} is left of the budget of {dollars(most)} for a call"

    def _spans(self) -> list[Limit]:
        """Return the budgets that span more than a call."""
        spans: tuple[tuple[str, Decimal | None, Period], ...] = (
            ("this session", self._limits.session, "session"),
            ("today", self._limits.day, "day"),
            ("this month", self._limits.month, "month"),
        )
        strict = self._limits.action == "block"
        return [Limit(name, to_pico(most), period, strict) for name, most, period in spans if most is not None]


def _unknown(unavailable: Unavailable) -> str:
    limit = unavailable.limit
    budget = f"the budget of {dollars(from_pico(limit.pico))} for {limit.name}"
    return f"and it is unknown what is left of {budget}: {unavailable.reason}"


def _shortage(refusal: base.Refusal) -> str:
    limit = refusal.limit
    left = from_pico(max(limit.pico - refusal.used, 0))
    words = f"and {dollars(left)} is left of the budget of {dollars(from_pico(limit.pico))} for {limit.name}"
    reserved = refusal.used - refusal.spent
    return f"{words} ({dollars(from_pico(reserved))} is reserved for calls in flight)" if reserved else words
