"""The article's table for one's own log: what other strategies would have cost and taken for the same requests."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd

from ipyrouter.config import Config
from ipyrouter.log import exact, log_frame, models
from ipyrouter.money import at_least, count
from ipyrouter.plan import without_retired
from ipyrouter.pricing import Pricing, at_rates
from ipyrouter.store.base import Store
from ipyrouter.types import Candidate, Usage

ASSUMPTION = (
    "Assumes the same token counts at the other model's rates. Its latency is the mean of its own answers in this log, "
    "blank where it has none; without the cache, a repeated request takes as long as its model's others did."
)
_ANSWERED = ("ok", "weak", "refused")
_TOKENS = ["input_tokens", "output_tokens", "cached_input_tokens", "cache_write_tokens"]


def compare(store: Store, config: Config, pricing: Pricing) -> pd.DataFrame:
    """Return a row a strategy: model, cost (dollars), latency (mean seconds a request) and calls.

    The strategies are all power and all mid (the tier's first model that is not retired), the router without and with
    its cache. Each counts every request that was answered; the router's cost and latency include the attempts before
    the answer. A cost is NaN where a price is not known, a latency where nothing was measured.
    ``frame.attrs["assumption"]`` says what this assumes, and what was left out. Raises StoreError.
    """
    log = log_frame(store, content=False)
    stopped = log.loc[log["status"] == "interrupted", "answer_id"]
    final = log[log["status"].isin([*_ANSWERED, "cached"]) & ~log["answer_id"].isin(stopped)]
    final = final.drop_duplicates("answer_id", keep="last").set_index("answer_id")
    counted = log["answer_id"].isin(final.index)
    sent = log[counted & (log["status"] != "cached")]
    asked = final[final["status"] != "cached"]
    repeated = final[final["status"] == "cached"]
    took = sent.groupby("answer_id", sort=False)["latency"].sum().reindex(asked.index)
    anew = _as_before(repeated, asked, took)
    rows = {f"all {tier}": _all(config, pricing, tier, final, log) for tier in ("power", "mid")}
    spent, saved = _known(sent["cost_pico"]), _known(repeated["saved_pico"])
    rows["router"] = ("routed", spent + saved, pd.concat([took, anew]).mean(), len(sent) + len(repeated))
    rows["router + cache"] = ("routed", spent, pd.concat([took, repeated["latency"]]).mean(), len(sent))
    frame = pd.DataFrame.from_dict(rows, orient="index", columns=["model", "cost", "latency", "calls"])
    frame = frame.astype({"cost": "float64", "latency": "float64"})
    frame.index.name = "strategy"
    frame.attrs["assumption"] = ASSUMPTION + _left_out(log[~counted])
    return frame


def _all(config: Config, pricing: Pricing, tier: str, final: pd.DataFrame, log: pd.DataFrame) -> tuple[Any, ...]:
    settings = config.tiers[tier]  # type: ignore[index]
    candidate = (without_retired(config, settings)[0] or settings.chain)[0]
    own = log[(log["model"] == candidate.model) & (log["provider"] == candidate.provider)]
    latency = own.loc[own["status"].isin(_ANSWERED), "latency"].mean()
    return str(candidate), _at(pricing, candidate, final), latency, len(final)


def _as_before(repeated: pd.DataFrame, asked: pd.DataFrame, took: pd.Series[float]) -> pd.Series[float]:
    """Return the seconds that repeated requests would have taken: the mean of their model's others, or of all."""
    means = took.groupby(models(asked)).mean()
    return models(repeated).map(means).astype("float64").fillna(took.mean())


def _known(picos: pd.Series[Any]) -> float:
    return float("nan") if picos.isna().any() else float(exact(picos))


def _at(pricing: Pricing, candidate: Candidate, final: pd.DataFrame) -> float:
    """Return the dollars of the answers' tokens at another model's rates, those of long contexts included."""
    total = Decimal(0)
    bands = np.searchsorted(pricing.thresholds(candidate), final["input_tokens"].to_numpy())
    for _, part in final[_TOKENS].groupby(bands):
        longest = Usage(int(part["input_tokens"].max()), 1)
        cost = pricing.cost(candidate, longest)
        rates = dict(cost.rates)
        if cost.amount is None or at_rates(rates, longest) != cost.amount:  # unknown, or more than tokens is charged
            return float("nan")
        read, written, cached, stored = (int(part[name].sum()) for name in _TOKENS)
        total += at_rates(rates, Usage(read, written, cached, stored))
    return float(total)


def _left_out(log: pd.DataFrame) -> str:
    if log.empty:
        return ""
    requests = count(log["answer_id"].nunique(), "request")
    cost = at_least(exact(log["cost_pico"]), int(log["cost_pico"].isna().sum()))
    return f" Left out: {requests} without an answer, which cost {cost}."
