"""What became of each row."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Literal

from ipyrouter.errors import BudgetError, Interrupted, IPyRouterError, RouteError, SchemaError
from ipyrouter.routing.pipeline import Prepared
from ipyrouter.types import Answer, total

RowStatus = Literal["ok", "weak", "refused", "partial", "error", "budget", "stopped", "missing", "not sent", "in batch"]
ANSWERED: tuple[RowStatus, ...] = ("ok", "weak")


@dataclass(frozen=True, slots=True)
class Row:
    """The outcome of one request: ``value`` is the string or the schema's object, None where there is no answer.

    ``cost`` is in dollars, None where it is not known; ``price`` what the answer cost when it was asked, which one from
    the cache was not now. ``answer_id`` names it in the log.
    """

    status: RowStatus
    error: str | None = None
    value: Any = field(default=None, repr=False)
    tier: str | None = None
    model: str | None = None
    cost: Decimal | None = Decimal(0)
    cached: bool = False
    price: Decimal | None = Decimal(0)
    answer_id: str | None = None

    @property
    def answered(self) -> bool:
        """Whether there is an answer."""
        return self.status in ANSWERED


def of_hit(prepared: Prepared) -> Row:
    """Return the row of an answer from the cache."""
    hit, schema = prepared.hit, prepared.request.schema
    if hit is None:
        raise ValueError("there is no hit")
    value = hit.text if schema is None else schema.read(hit.text)
    return Row("ok", None, value, hit.tier, f"{hit.provider}/{hit.model}", cached=True, price=hit.cost)


def of_answer(answer: Answer, *, has_schema: bool) -> Row:
    """Return the row of an answer; a refusal and a half answer are none."""
    given = next((one for one in reversed(answer.attempts) if one.text == answer.text), answer.attempts[-1])
    status: RowStatus = "ok"
    error, value = None, answer.data if has_schema else answer.text
    if answer.finish == "refusal":
        status, error, value = "refused", answer.text.strip() or "the model refused", None
    elif given.status == "partial":
        status, error, value = "partial", given.error or "the answer broke off", None
    elif given.status == "weak":
        status, error = "weak", given.error
        value = value if answer.text.strip() else None
    elif answer.finish == "length":
        error = "cut off at the token limit"
    model = f"{answer.provider}/{answer.model}"
    price = answer.cost_saved if answer.cached else answer.cost
    return Row(status, error, value, answer.tier, model, answer.cost, answer.cached, price, answer.id)


def of_error(error: BaseException) -> Row:
    """Return the row of a request that failed, with what its attempts cost."""
    if isinstance(error, KeyboardInterrupt):
        spent = error.answer.cost if isinstance(error, Interrupted) else Decimal(0)
        return Row("stopped", "stopped by the user", cost=spent)
    attempts = error.attempts if isinstance(error, RouteError | SchemaError) else ()
    words = str(error) if isinstance(error, IPyRouterError) else f"{type(error).__name__}: {error}"
    *others, last_line = [part.strip() for part in words.splitlines() if part.strip()] or [type(error).__name__]
    line = "; ".join([*(part.removesuffix(".") for part in others), last_line])
    last = attempts[-1] if attempts else None
    return Row(
        "budget" if isinstance(error, BudgetError) else "error",
        line,
        tier=last.tier if last else None,
        model=str(last.candidate) if last else None,
        cost=total([attempt.cost.amount for attempt in attempts]),
    )
