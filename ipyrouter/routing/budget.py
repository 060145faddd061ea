"""May this be spent? A call's worst case is held before it is made, and settled with what it really cost."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import KW_ONLY, dataclass, field
from decimal import Decimal

from ipyrouter.clock import Clock
from ipyrouter.config import Budget as Limits
from ipyrouter.pricing import media, tokens
from ipyrouter.pricing.prices import Pricing
from ipyrouter.routing.interrupts import Interrupts, pauses
from ipyrouter.routing.planner import Step
from ipyrouter.store import base
from ipyrouter.store.base import BudgetLedger, Busy, Limit, Period, Unavailable
from ipyrouter.text.amounts import dollars, from_pico, to_pico
from ipyrouter.types import Attempt, Candidate, Request, Session

_MARGIN = 60.0  # seconds that a reservation outlives the call's total deadline


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a budget forbids a call, in words.

    ``unpriced`` where no price is known to keep it with, ``unknown`` where it is not known what is spent of it,
    ``busy`` where a minute of the team's is used up. ``remedy`` is the store's own, where it has one.
    """

    reason: str
    unpriced: bool = False
    unknown: bool = False
    busy: bool = False
    remedy: str = ""


@dataclass(slots=True)
class Hold:
    """What is held for one call. Until the caller settles it, the dollars and tokens that it took are unknown."""

    spent: Decimal | None = None
    tokens: int | None = None

    def settle(self, attempt: Attempt) -> None:
        """Note what a call has cost, and its tokens."""
        self.spent = attempt.cost.amount
        self.tokens = attempt.usage.input_tokens + attempt.usage.output_tokens


@dataclass(slots=True)
class Holdings:
    """The reservations of one request, whose ``owner`` releases them, and their 1e-12 dollars: spent, or to spend.

    ``waits`` says what was waited for, in a sentence each.
    """

    owner: str
    reservations: dict[str, int] = field(default_factory=dict)
    waits: list[str] = field(default_factory=list)

    @property
    def picodollars(self) -> int:
        """All that the request holds."""
        return sum(self.reservations.values())


@dataclass(eq=False)
class Budget:
    """Keeps the budgets of one session. Without any budget it does nothing.

    Args:
        limits: The budgets of the config.
        pricing: What calls cost.
        ledger: Where it stands what is spent and promised.
        clock: What time it is.
        session: Whose budgets these are.
        run: Dollars that the session's run may spend, on all workers.
    """

    limits: Limits
    pricing: Pricing
    ledger: BudgetLedger
    clock: Clock
    session: Session
    _: KW_ONLY
    run: Decimal | None = None

    @property
    def active(self) -> bool:
        """Tell whether any budget is set, by the user or by the store's owner."""
        return self.limits.call is not None or bool(self._spans())

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
        worst: Decimal | Refusal = Decimal(0)
        if self.active:
            worst = self.worst_case(step, request, holdings.picodollars)
        elif not self.ledger.rates(self.session):
            yield Hold()
            return
        reservation: str | Refusal
        if isinstance(worst, Refusal):
            reservation = worst
        else:
            most = _longest(step, request) + step.call.max_output_tokens
            reservation = self._reserve(step, worst, holdings, interrupts, until, most=most)
        if isinstance(reservation, Refusal):
            yield reservation
            return
        hold = Hold()
        try:
            yield hold
        finally:
            if hold.spent is not None:
                holdings.reservations[reservation] = to_pico(hold.spent)
            if hold.spent is not None or hold.tokens is not None:
                self.ledger.settle(reservation, holdings.reservations[reservation], hold.tokens)

    def reserve(self, worst: Decimal, owner: str, seconds: float) -> Refusal | None:
        """Reserve dollars for a job at a provider that goes on without this process, or say which budget forbids it.

        Args:
            worst: What the job can cost at most.
            owner: Who holds them (:func:`ipyrouter.store.owners.batch_owner`), until its release.
            seconds: When they lapse.
        """
        if not self.active:
            return None
        reserved = self.ledger.reserve(to_pico(worst), self._spans(), self.session, owner, seconds)
        if isinstance(reserved, base.Reservation):
            return None
        assert not isinstance(reserved, Busy)  # noqa: S101  a batch is no call of this minute
        return _refused("the batch", worst, reserved)

    def shortage(self, step: Step, request: Request) -> Refusal | None:
        """Return what a call would be refused for as things stand now; reads, writes nothing."""
        if not self.active:
            return None
        worst = self.worst_case(step, request, held=0)
        if isinstance(worst, Refusal):
            return worst
        for limit in self._spans():
            used = self.ledger.used(limit, self.session)
            if isinstance(used, Unavailable):
                return _refused(step.candidate, worst, used)
            if used + to_pico(worst) > limit.pico:
                return _refused(step.candidate, worst, base.Refusal(limit, used, used))
        return None

    def left(self) -> dict[str, Decimal | None]:
        """Return the dollars left of each budget that spans more than a call; None where it is unknown."""
        left: dict[str, Decimal | None] = {}
        for limit in self._spans():
            if limit.period == "call":
                continue
            used = self.ledger.used(limit, self.session)
            left[limit.name] = None if isinstance(used, Unavailable) else from_pico(max(limit.pico - used, 0))
        return left

    def standing(self) -> list[str]:
        """Return in a line each what is left of the budgets, and of what the store's owner allows a minute."""
        lines = [
            f"budget for {name}: {'an unknown amount' if rest is None else dollars(rest)} left"
            for name, rest in self.left().items()
        ]
        for rate in self.ledger.rates(self.session, now=True):
            rest = f"{max(rate.most - rate.used, 0):,} of {rate.most:,} {rate.unit} a minute left"
            lines.append(f"rate of {rate.name}: {rest}")
        return lines

    def worst_case(self, step: Step, request: Request, held: int) -> Decimal | Refusal:
        """Return the dollars that a call may cost, or why it is forbidden whatever calls in flight give back.

        ``held`` is what its request holds already, in 1e-12 dollars.
        """
        worst = self.pricing.bound(step.candidate, _longest(step, request), step.call.max_output_tokens)
        if worst is None:
            return Refusal(f"{self.pricing.unknown(step.candidate)}, so no budget can be kept with it", unpriced=True)
        if (reason := self._exceeds_call(to_pico(worst), held)) is not None:
            return Refusal(f"{step.candidate} could cost {dollars(worst)}, {reason}")
        return worst

    def _reserve(
        self, step: Step, worst: Decimal, holdings: Holdings, interrupts: Interrupts, until: float, *, most: int
    ) -> str | Refusal:
        """Reserve dollars and at most so many tokens, and return the reservation's id; wait where that may help."""
        pico, spans, waits = to_pico(worst), self._own_spans(), pauses()
        seconds = step.deadlines.total + _MARGIN
        while True:
            reserved = self.ledger.reserve(pico, spans, self.session, holdings.owner, seconds, tokens=most)
            if isinstance(reserved, base.Reservation):
                holdings.reservations[reserved.id] = pico
                return reserved.id
            if isinstance(reserved, Unavailable):
                return _refused(step.candidate, worst, reserved)
            left = until - self.clock.monotonic()
            if isinstance(reserved, Busy):
                if left <= 0:
                    return Refusal(f"{step.candidate} must wait, {_pace(reserved)}", busy=True)
                rate = f"{reserved.rate.most:,} {reserved.rate.unit} a minute for {reserved.rate.name}"
                holdings.waits.append(f"{step.candidate} had to wait: {rate} were used up.")
                interrupts.sleep(min(next(waits), reserved.seconds, left))
                continue
            # What this very request holds belongs to no other call, and does not come back before its end.
            if reserved.spent + holdings.picodollars + pico > reserved.limit.pico or left <= 0:
                return _refused(step.candidate, worst, reserved)
            interrupts.sleep(min(next(waits), left))

    def _exceeds_call(self, pico: int, held: int) -> str | None:
        """Return why the budget for a call forbids so much more, or None."""
        most = self.limits.call
        if most is None or held + pico <= to_pico(most):
            return None
        if not held:
            return f"more than the budget of {dollars(most)} for a call"
        left = max(most - from_pico(held), Decimal(0))
        return f"and {dollars(left)} is left of the budget of {dollars(most)} for a call"

    def _spans(self) -> list[Limit]:
        """Return the budgets that span more than a call, and those that the store's owner has set."""
        return self._own_spans() + self.ledger.limits(self.session)

    def _own_spans(self) -> list[Limit]:
        spans: tuple[tuple[str, Decimal | None, Period], ...] = (
            ("this run", self.run, "run"),
            ("this session", self.limits.session, "session"),
            ("today", self.limits.day, "day"),
            ("this month", self.limits.month, "month"),
        )
        strict = self.limits.action == "block"
        return [Limit(name, to_pico(most), period, strict) for name, most, period in spans if most is not None]


def _longest(step: Step, request: Request) -> int:
    """Return the input tokens that a call has at most."""
    *history, prompt = step.call.messages  # a correction's holds more than the request
    schema = request.schema.text if request.schema else ""
    longest = tokens.bound_input(prompt.text, request.system, tuple(history), schema)
    return longest + media.bound(step.call.messages, step.call.model)


def _pace(busy: Busy) -> str:
    rate = busy.rate
    return f"and {max(rate.most - busy.used, 0):,} of {rate.most:,} {rate.unit} a minute for {rate.name} are left"


def _refused(what: Candidate | str, worst: Decimal, why: Unavailable | base.Refusal) -> Refusal:
    """Return in words why nothing was reserved for what could cost so much."""
    words = f"{what} could cost {dollars(worst)}, "
    if isinstance(why, Unavailable):
        return Refusal(words + _unknown(why), unknown=True, remedy=why.remedy)
    return Refusal(words + _shortage(why))


def _unknown(unavailable: Unavailable) -> str:
    limit = unavailable.limit
    amount = f" of {dollars(from_pico(limit.pico))}" if limit.pico else ""  # a team's that never answered is unknown
    return f"and it is unknown what is left of the budget{amount} for {limit.name}: {unavailable.reason}"


def _shortage(refusal: base.Refusal) -> str:
    limit = refusal.limit
    left = from_pico(max(limit.pico - refusal.used, 0))
    words = f"and {dollars(left)} is left of the budget of {dollars(from_pico(limit.pico))} for {limit.name}"
    reserved = refusal.used - refusal.spent
    return f"{words} ({dollars(from_pico(reserved))} is reserved for calls in flight)" if reserved else words
