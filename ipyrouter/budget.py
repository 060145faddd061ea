"""May this be spent? A call's worst case is reserved before it is made, and settled with what it really cost."""

from __future__ import annotations

from decimal import Decimal

from ipyrouter import tokens
from ipyrouter.config import Budget
from ipyrouter.money import dollars, from_pico, to_pico
from ipyrouter.plan import Step
from ipyrouter.pricing import Pricing
from ipyrouter.store.base import BudgetLedger, Limit, Period, Refusal, Unavailable
from ipyrouter.types import Request, Session

_MARGIN = 60.0  # seconds that a reservation outlives the call's total deadline


class BudgetGuard:
    """Reserves money for the calls of one request. Without any budget it does nothing."""

    def __init__(self, budget: Budget, pricing: Pricing, store: BudgetLedger, session: Session, owner: str) -> None:
        self._budget = budget
        self._pricing = pricing
        self._store = store
        self._session = session
        self._owner = owner  # the store releases what it holds
        self._mine = 0  # 1e-12 dollars promised to this request so far

    @property
    def active(self) -> bool:
        """Tell whether any budget is set."""
        budget = self._budget
        return any(limit is not None for limit in (budget.call, budget.session, budget.day, budget.month))

    def refuse(self, step: Step, request: Request) -> str | None:
        """Reserve the step's worst case; return why it may not be spent, or None if it may."""
        if not self.active:
            return None
        worst = self._pricing.bound(
            step.candidate,
            tokens.bound_input(request.prompt, request.system, request.history),
            step.call.max_output_tokens,
        )
        if worst is None:
            return f"no price is known for {step.candidate}, so no budget can be kept with it"
        pico = to_pico(worst)
        call = self._budget.call
        if call is not None and from_pico(self._mine + pico) > call:
            return f"{step.candidate} could cost {dollars(worst)}, more than the budget of {dollars(call)} for a call"
        reserved = self._store.reserve(pico, self._limits(), self._session, self._owner, step.deadlines.total + _MARGIN)
        if isinstance(reserved, Unavailable):
            name, reason = reserved.limit.name, reserved.reason
            return f"nobody knows what is left of the budget for {name}, so {step.candidate} is not asked: {reason}"
        if isinstance(reserved, Refusal):
            limit, left = reserved.limit, max(reserved.limit.pico - reserved.used, 0)
            return (
                f"{step.candidate} could cost {dollars(worst)}, and {dollars(from_pico(left))} is left of the budget "
                f"of {dollars(from_pico(limit.pico))} for {limit.name}"
            )
        self._mine += pico
        return None

    def left(self) -> dict[str, Decimal | None]:
        """Return the dollars left of each budget that spans more than a call; None where nobody knows."""
        left: dict[str, Decimal | None] = {}
        for limit in self._limits():
            used = self._store.used(limit, self._session)
            left[limit.name] = None if isinstance(used, Unavailable) else from_pico(max(limit.pico - used, 0))
        return left

    def _limits(self) -> list[Limit]:
        """Return the budgets that span more than a call."""
        budget = self._budget
        limits: tuple[tuple[str, Decimal | None, Period], ...] = (
            ("this session", budget.session, "session"),
            ("today", budget.day, "day"),
            ("this month", budget.month, "month"),
        )
        return [Limit(name, to_pico(most), period) for name, most, period in limits if most is not None]
