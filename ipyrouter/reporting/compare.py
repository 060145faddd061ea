"""The article's table for a user's own log: cost and latency of other strategies for the same requests."""

from __future__ import annotations

from collections import defaultdict
from decimal import Decimal

import pandas as pd

from ipyrouter.config import Config
from ipyrouter.pricing.prices import Pricing
from ipyrouter.reporting import baseline
from ipyrouter.store.base import LogFilter, RequestLog, Totals
from ipyrouter.store.rows import ANSWERED
from ipyrouter.text.amounts import at_least, count, dollars, from_pico
from ipyrouter.types import Candidate, TierName

ASSUMPTION = (
    "Assumes the same token counts at the other model's rates. Its latency is the mean of its own answers in this log, "
    "blank where it has none; without the cache, a repeated request takes as long as its model's others did."
)
_STRATEGIES: tuple[TierName, ...] = ("power", "mid")


def compare(store: RequestLog, config: Config, pricing: Pricing) -> pd.DataFrame:
    """Return one row per strategy: model, cost (dollars), latency (mean seconds per request), calls and unpriced.

    The strategies are all power and all mid (the tier's first model that is not retired), the router without and with
    its cache. Each counts every request that was answered; the router's cost and latency include the attempts before
    the answer. ``unpriced`` counts the calls without a known price: ``cost`` is then at least what stands there, NaN
    where none has a price. A latency is NaN where nothing was measured.
    ``frame.attrs["assumption"]`` says what this assumes, and what was left out; ``frame.attrs["sentence"]`` what the
    user paid against all power.

    Args:
        store: The log.
        config: The chains of the tiers that are compared.
        pricing: The prices of their models.

    Raises:
        StoreError: The database was written by a newer version.
    """
    models = {tier: baseline.model_of(config, tier) for tier in _STRATEGIES}
    steps = tuple(sorted({step for candidate in models.values() for step in pricing.thresholds(candidate)}))
    totals = store.totals(LogFilter(), steps=steps)
    final = [row for row in totals if row.final]
    repeats = [row for row in final if row.status == "cached"]
    answered = sum(row.rows for row in final)
    rows: dict[str, tuple[str, Decimal | None, float, int, int]] = {}
    for tier, candidate in models.items():
        cost = baseline.cost_at(pricing, candidate, final, steps)
        unpriced = answered if cost is None else 0
        rows[f"all {tier}"] = (str(candidate), cost, _latency(totals, candidate), answered, unpriced)
    calls, hits = sum(row.requests.calls for row in final), sum(row.rows for row in repeats)
    spent, unpriced = sum(row.requests.cost_pico for row in final), sum(row.requests.unpriced for row in final)
    saved, unsaved = sum(row.saved_pico for row in repeats), sum(row.unsaved for row in repeats)
    latency = sum(row.requests.latency for row in final)
    cache_latency = sum(row.latency for row in repeats)
    repeat_latency = _repeat_latency(final)
    rows["router"] = (
        "routed",
        from_pico(spent + saved),
        _mean(latency + repeat_latency, answered),
        calls + hits,
        unpriced + unsaved,
    )
    rows["router + cache"] = ("routed", from_pico(spent), _mean(latency + cache_latency, answered), calls, unpriced)
    frame = pd.DataFrame.from_dict(rows, orient="index", columns=["model", "cost", "latency", "calls", "unpriced"])
    frame = frame.astype({"cost": "float64", "latency": "float64", "unpriced": "int64"})
    frame["cost"] = frame["cost"].where((frame["unpriced"] == 0) | (frame["cost"] > 0))
    frame.index.name = "strategy"
    frame.attrs["assumption"] = ASSUMPTION + _omission(totals)
    frame.attrs["sentence"] = _sentence(from_pico(spent), unpriced, rows["all power"][1], answered)
    return frame


def _sentence(paid: Decimal, unpriced: int, all_power: Decimal | None, answered: int) -> str:
    """Return what was paid for the answered requests, and what the power tier's model would have cost."""
    if not answered:
        return "You paid nothing: no request was answered yet."
    power = "an unknown amount" if all_power is None else dollars(all_power)
    sentence = f"You paid {at_least(paid, unpriced)}; all power would have been {power}"
    share = None if unpriced or all_power is None else baseline.share(all_power - paid, all_power)
    return f"{sentence}, {f'{-share:+} %'.replace('-', '−')}." if share is not None else f"{sentence}."


def _latency(totals: list[Totals], candidate: Candidate) -> float:
    """Return the mean seconds of a model's own answers; NaN where it has none."""
    own = [
        t
        for t in totals
        if (t.provider, t.model) == (candidate.provider, candidate.model)
        and t.status in ANSWERED
        and t.status != "cached"
    ]
    return _mean(sum(row.latency for row in own), sum(row.rows for row in own))


def _repeat_latency(final: list[Totals]) -> float:
    """Return the seconds that repeated requests would have taken: the mean of their model's others, or of all."""
    took: dict[tuple[str, str], float] = defaultdict(float)
    requests: dict[tuple[str, str], int] = defaultdict(int)
    for row in final:
        if row.status != "cached":
            took[row.provider, row.model] += row.requests.latency
            requests[row.provider, row.model] += row.rows
    all_took, all_requests = sum(took.values()), sum(requests.values())
    total = 0.0
    for row in final:
        if row.status == "cached":
            model = (row.provider, row.model)
            mean = _mean(took[model], requests[model]) if requests[model] else _mean(all_took, all_requests)
            total += row.rows * mean
    return total


def _mean(total: float, number: int) -> float:
    return total / number if number else float("nan")


def _omission(totals: list[Totals]) -> str:
    others = [row.requests for row in totals if not row.final]
    number = sum(requests.count for requests in others)
    if not number:
        return ""
    cost = at_least(from_pico(sum(one.cost_pico for one in others)), sum(one.unpriced for one in others))
    return f" Left out: {count(number, 'request')} without an answer, which cost {cost}."
