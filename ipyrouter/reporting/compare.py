"""The article's table for a user's own log: cost and latency of other strategies for the same requests."""

from __future__ import annotations

import pandas as pd

from ipyrouter.config import Config
from ipyrouter.pricing.prices import Pricing
from ipyrouter.reporting import baseline
from ipyrouter.reporting.log import exact, log_frame, models
from ipyrouter.store.base import ANSWERED, SUMMARY_COLUMNS, LogFilter, Store
from ipyrouter.text.amounts import at_least, count
from ipyrouter.types import Candidate, TierName

_EVER = 10**18  # microseconds: one bucket of time for the whole log

ASSUMPTION = (
    "Assumes the same token counts at the other model's rates. Its latency is the mean of its own answers in this log, "
    "blank where it has none; without the cache, a repeated request takes as long as its model's others did."
)


def compare(store: Store, config: Config, pricing: Pricing) -> pd.DataFrame:
    """Return one row per strategy: model, cost (dollars), latency (mean seconds per request), calls and unpriced.

    The strategies are all power and all mid (the tier's first model that is not retired), the router without and with
    its cache. Each counts every request that was answered; the router's cost and latency include the attempts before
    the answer. ``unpriced`` counts the calls without a known price: ``cost`` is then at least what stands there, NaN
    where none has a price. A latency is NaN where nothing was measured.
    ``frame.attrs["assumption"]`` says what this assumes, and what was left out. Raises StoreError.
    """
    log = log_frame(store, content=False)
    stopped = log.loc[log["status"] == "interrupted", "answer_id"]
    final = log[log["status"].isin(ANSWERED) & ~log["answer_id"].isin(stopped)]
    final = final.drop_duplicates("answer_id", keep="last").set_index("answer_id")
    counted = log["answer_id"].isin(final.index)
    sent = log[counted & (log["status"] != "cached")]
    fresh = final[final["status"] != "cached"]
    repeated = final[final["status"] == "cached"]
    took = sent.groupby("answer_id", sort=False)["latency"].sum().reindex(fresh.index)
    anew = _as_before(repeated, fresh, took)
    strategies: tuple[TierName, ...] = ("power", "mid")
    models_of = {tier: baseline.model_of(config, tier) for tier in strategies}
    steps = tuple(sorted({step for candidate in models_of.values() for step in pricing.thresholds(candidate)}))
    sums = [dict(zip(SUMMARY_COLUMNS, row, strict=True)) for row in store.summary(LogFilter(), _EVER, steps)]
    rows = {}
    for tier, candidate in models_of.items():
        cost = baseline.cost_at(pricing, candidate, sums, steps)
        unpriced = len(final) if cost is None else 0
        rows[f"all {tier}"] = (str(candidate), cost, _latency(log, candidate), len(final), unpriced)
    spent, saved = sent["cost_pico"], repeated["saved_pico"]
    both = pd.concat([spent, saved])
    rows["router"] = ("routed", exact(both), pd.concat([took, anew]).mean(), len(both), both.isna().sum())
    rows["router + cache"] = (
        "routed", exact(spent), pd.concat([took, repeated["latency"]]).mean(), len(spent), spent.isna().sum(),
    )  # fmt: skip
    frame = pd.DataFrame.from_dict(rows, orient="index", columns=["model", "cost", "latency", "calls", "unpriced"])
    frame = frame.astype({"cost": "float64", "latency": "float64", "unpriced": "int64"})
    frame["cost"] = frame["cost"].where((frame["unpriced"] == 0) | (frame["cost"] > 0))
    frame.index.name = "strategy"
    frame.attrs["assumption"] = ASSUMPTION + _left_out(log[~counted])
    return frame


def _latency(log: pd.DataFrame, candidate: Candidate) -> float:
    """Return the mean seconds of a model's own answers; NaN where it has none."""
    own = log[(log["model"] == candidate.model) & (log["provider"] == candidate.provider)]
    return float(own.loc[own["status"].isin(ANSWERED) & (own["status"] != "cached"), "latency"].mean())


def _as_before(repeated: pd.DataFrame, fresh: pd.DataFrame, took: pd.Series[float]) -> pd.Series[float]:
    """Return the seconds that repeated requests would have taken: the mean of their model's others, or of all."""
    means = took.groupby(models(fresh)).mean()
    return models(repeated).map(means).astype("float64").fillna(took.mean())


def _left_out(log: pd.DataFrame) -> str:
    if log.empty:
        return ""
    requests = count(log["answer_id"].nunique(), "request")
    cost = at_least(exact(log["cost_pico"]), int(log["cost_pico"].isna().sum()))
    return f" Left out: {requests} without an answer, which cost {cost}."
