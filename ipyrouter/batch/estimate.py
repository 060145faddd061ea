"""What a run would do and cost, before anything is sent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal

from ipyrouter.config import Config
from ipyrouter.pricing.prices import Context, Pricing
from ipyrouter.providers.batches import BATCH
from ipyrouter.routing.pipeline import Pipeline, Prepared
from ipyrouter.routing.planner import input_tokens
from ipyrouter.text.amounts import count, dollars, seconds
from ipyrouter.types import Candidate, Request, TierName

_MOST = 20_000  # requests that are planned one by one: more are extrapolated from as many, evenly spread
_TYPICAL = 300  # tokens of an answer in words, about half a page
_FIELD, _FRAME = 12, 8  # tokens of a field of an object and of what is around them
_CHUNK = 128
FLEX: Context = (("service_tier", "flex"),)


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a run would do. Nothing was sent. Costs are in dollars, None where a price is not known.

    Attributes:
        rows: Rows of the data.
        skipped: Rows without a value.
        distinct: Requests that differ.
        cached: Those of them that are in the cache, about so many where ``sample`` is smaller than ``distinct``.
        asked: Those that would be sent.
        input_tokens: Of all that would be sent, an estimate.
        tiers: How many requests each tier would get.
        models: How many requests each model would get.
        cost_low: Dollars for the shortest answers.
        cost_likely: Dollars for answers of a likely length.
        cost_high: Dollars for the longest answers.
        cost_flex: Dollars of the likely answers with ``delivery="flex"``, None where a model has no such price.
        cost_batch: The same with ``delivery="batch"``.
        seconds: What the limits a minute in the config alone take; None where there are none.
        sample: How many requests were planned one by one.
        example: The first prompt, as it would be sent.
    """

    rows: int
    skipped: int
    distinct: int
    cached: int
    asked: int
    input_tokens: int
    tiers: dict[TierName, int]
    models: dict[str, int]
    cost_low: Decimal | None
    cost_likely: Decimal | None
    cost_high: Decimal | None
    seconds: float | None
    sample: int
    cost_flex: Decimal | None = None
    cost_batch: Decimal | None = None
    example: str = field(default="", repr=False)

    def scaled(self, factor: float) -> Estimate:
        """Return what this comes to where each row stands for so many of a larger table."""
        if factor == 1:
            return self
        exact = Decimal(factor)

        def times(number: int) -> int:
            return round(number * factor)

        def cost(amount: Decimal | None) -> Decimal | None:
            return None if amount is None else amount * exact

        return replace(
            self,
            rows=times(self.rows),
            skipped=times(self.skipped),
            distinct=times(self.distinct),
            cached=times(self.cached),
            asked=times(self.asked),
            input_tokens=times(self.input_tokens),
            tiers={tier: times(number) for tier, number in self.tiers.items()},
            models={model: times(number) for model, number in self.models.items()},
            cost_low=cost(self.cost_low),
            cost_likely=cost(self.cost_likely),
            cost_high=cost(self.cost_high),
            cost_flex=cost(self.cost_flex),
            cost_batch=cost(self.cost_batch),
            seconds=None if self.seconds is None else self.seconds * factor,
        )

    def __str__(self) -> str:
        about = "about " if self.sample < self.distinct else ""
        lines = [
            f"{count(self.rows, 'row')}: {self.distinct:,} distinct, {self.skipped:,} without a value",
            f"{about}{self.cached:,} from the cache, {about}{self.asked:,} to send, {self.input_tokens:,} input tokens",
            f"tiers: {_shares(self.tiers)}; models: {_shares(self.models)}",
        ]
        if self.cost_likely is None:
            lines.append("cost: unknown, because no price is known for some of these models")
        else:
            low, likely, high = (dollars(cost) for cost in (self.cost_low, self.cost_likely, self.cost_high))
            lines.append(f"cost: likely {likely}, at least {low}, at most {high} without answers that are asked again")
        cheaper = {"flex (slower)": self.cost_flex, "batch (within a day)": self.cost_batch}
        if known := [f"{dollars(cost)} with {name}" for name, cost in cheaper.items() if cost and self.asked]:
            lines.append(f"half the price, where it may wait: {', '.join(known)}")
        if self.seconds is not None:
            lines.append(f"time at your limits: at least {seconds(self.seconds)}")
        return "\n".join(lines)


def _shares(counts: dict[TierName, int] | dict[str, int]) -> str:
    return ", ".join(f"{name} {number:,}" for name, number in counts.items()) or "none"


class _Sums:
    def __init__(self) -> None:
        self.tiers: Counter[TierName] = Counter()
        self.calls: Counter[Candidate] = Counter()
        self.input: Counter[Candidate] = Counter()
        self.likely: Counter[Candidate] = Counter()
        self.most: Counter[Candidate] = Counter()
        self.cached = 0

    def add(self, prepared: Prepared, output_tokens: int | None) -> None:
        if prepared.hit is not None:
            self.cached += 1
            return
        first = prepared.plan.first
        step = (first.steps or first.cacheable)[0]
        most = step.call.max_output_tokens
        self.tiers[step.tier] += 1
        self.calls[step.candidate] += 1
        self.input[step.candidate] += input_tokens(step.call)
        self.likely[step.candidate] += min(output_tokens or likely_output(prepared.request), most)
        self.most[step.candidate] += most


def estimate(
    pipeline: Pipeline,
    requests: Sequence[Request],
    rows: int,
    skipped: int,
    *,
    sample: int = _MOST,
    output_tokens: int | None = None,
) -> Estimate:
    """Plan requests without sending any.

    Args:
        pipeline: What would answer them.
        requests: The distinct requests.
        rows: How many rows they stand for.
        skipped: How many rows have none.
        sample: How many of them are planned one by one, evenly spread; the others are extrapolated from these.
        output_tokens: What an answer has on average, where that is known.
    """
    step = max(-(-len(requests) // sample), 1)
    planned = requests[::step]
    sums = _Sums()
    for start in range(0, len(planned), _CHUNK):
        for prepared in pipeline.prepare(planned[start : start + _CHUNK]):
            sums.add(prepared, output_tokens)
    scale = Decimal(len(requests)) / len(planned) if planned else Decimal(1)

    def scaled(number: int) -> int:
        return round(number * scale)

    ones = dict(sums.calls)
    asked = sum(sums.calls.values())
    return Estimate(
        rows=rows,
        skipped=skipped,
        distinct=len(requests),
        cached=len(requests) - scaled(asked),
        asked=scaled(asked),
        input_tokens=scaled(sum(sums.input.values())),
        tiers={tier: scaled(number) for tier, number in sums.tiers.items()},
        models={str(candidate): scaled(number) for candidate, number in sums.calls.items()},
        cost_low=_cost(pipeline.pricing, sums.input, ones, scale),
        cost_likely=_cost(pipeline.pricing, sums.input, sums.likely, scale),
        cost_high=_cost(pipeline.pricing, sums.input, sums.most, scale),
        cost_flex=_cost(pipeline.pricing, sums.input, sums.likely, scale, FLEX),
        cost_batch=_cost(pipeline.pricing, sums.input, sums.likely, scale, BATCH),
        seconds=_seconds(pipeline.config, sums, float(scale)),
        sample=len(planned),
        example=requests[0].prompt.text if requests else "",
    )


def likely_output(request: Request) -> int:
    """Return the tokens that an answer likely has."""
    if request.schema is None:
        return _TYPICAL
    from ipyrouter.batch.columns import dtypes_of

    return _FRAME + _FIELD * len(dtypes_of(request.schema))


def _cost(
    pricing: Pricing,
    read: Counter[Candidate],
    written: dict[Candidate, int] | Counter[Candidate],
    scale: Decimal,
    context: Context = (),
) -> Decimal | None:
    """Return dollars at the rates of short contexts; None where one is not known."""
    sum_ = Decimal(0)
    for candidate, tokens in read.items():
        rates = pricing.rates(candidate, context)
        if not rates:
            return None
        sum_ += (tokens * rates["input"] + written[candidate] * rates["output"]) / 1_000_000
    return sum_ * scale


def _seconds(config: Config, sums: _Sums, scale: float) -> float | None:
    times = []
    for candidate, calls in sums.calls.items():
        limits = config.limits_of(candidate)
        if limits is None:
            continue
        if limits.requests_per_minute:
            times.append(calls * scale * 60 / limits.requests_per_minute)
        if limits.tokens_per_minute:
            tokens = sums.input[candidate] + sums.likely[candidate]
            times.append(tokens * scale * 60 / limits.tokens_per_minute)
    return max(times, default=None)
