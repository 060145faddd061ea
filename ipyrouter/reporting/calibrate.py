"""What each setting of the dial would do to the prompts of a user's own log: shares, cost and expected quality."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal

import numpy as np
import pandas as pd

from ipyrouter.classifier import model
from ipyrouter.config import Config
from ipyrouter.errors import UsageError
from ipyrouter.pricing.prices import Pricing
from ipyrouter.reporting import baseline
from ipyrouter.store.base import LogFilter, RequestLog
from ipyrouter.types import TIERS, TierName

Adjust = Callable[[str, float], float]
ASSUMPTION = (
    "Costs are those of the same tokens at the rates of each tier's first model. Quality is the share of prompts whose"
    " tier is enough, by the classifier's own confidence, which was measured on requests that are not yours: the more"
    " you mark with %router good and bad before %router learn, the more it is about your own."
)
_DIALS = ((0.15, 0.50), (0.25, 0.60), (0.35, 0.70), (0.45, 0.80), (0.55, 0.90))
_MOST = 5000  # prompts: the newest


def calibrate(store: RequestLog, config: Config, pricing: Pricing, adjust: Adjust | None) -> pd.DataFrame:
    """Return a row for each setting of the dial, the one in force among them, and for all power.

    Args:
        store: The log; its newest 5,000 different prompts count.
        config: The dial in force, and the tiers' models.
        pricing: The prices of those.
        adjust: Maps (prompt, difficulty) to the difficulty that the user's own outcomes have taught.

    Returns:
        ``fast``, ``mid`` and ``power`` are shares of the prompts, ``cost`` dollars (NaN where a price is not known),
        ``of_power`` the same as a share of all power, ``quality`` the share of prompts whose tier is enough.
        ``attrs["assumption"]`` says what this assumes.

    Raises:
        UsageError: The log holds no prompts.
        StoreError: The database was written by a newer version.
    """
    prompts, tokens = _prompts(store)
    if not prompts:
        raise UsageError(
            "The log holds no prompts to calibrate with.", "Ask something first; log.content = false keeps none."
        )
    network = model.shipped()
    values = [network.difficulty(reading) for reading in network.read_many(prompts)]
    if adjust is not None:
        values = [adjust(prompt, value) for prompt, value in zip(prompts, values, strict=True)]
    needs = {tier: _enough(network, np.array(values), tier) for tier in TIERS}
    rates = {tier: baseline.model_of(config, tier) for tier in TIERS}
    means = tokens.mean(axis=0)
    dials = sorted({*_DIALS, (config.fast_below, config.power_above)})
    rows: dict[str, list[object]] = {}
    for fast_below, power_above in [*dials, (0.0, -1.0)]:
        tiers = np.array([model.tier_of(value, fast_below, power_above) for value in values])
        costs: list[Decimal | None] = []
        for tier in TIERS:
            here = tiers == tier
            each = tokens[here].mean(axis=0) if here.any() else means
            price = pricing.at(rates[tier], round(each[0]), round(each[1]))
            costs.append(None if price is None else price * int(here.sum()))
        cost = None if None in costs else sum(filter(None, costs), Decimal(0))
        quality = sum(float(needs[tier][tiers == tier].sum()) for tier in TIERS) / len(prompts)
        name = "all power" if power_above < 0 else f"fast_below {fast_below:g}, power_above {power_above:g}"
        if (fast_below, power_above) == (config.fast_below, config.power_above):
            name += " (now)"
        shares = [float((tiers == tier).mean()) for tier in TIERS]
        rows[name] = [*shares, float("nan") if cost is None else float(cost), quality]
    frame = pd.DataFrame.from_dict(rows, orient="index", columns=[*TIERS, "cost", "quality"])
    frame.insert(4, "of_power", frame["cost"] / frame["cost"].iloc[-1] if frame["cost"].iloc[-1] else float("nan"))
    frame.index.name = "dial"
    frame.attrs["assumption"] = ASSUMPTION
    return frame


def _prompts(store: RequestLog) -> tuple[list[str], np.ndarray[tuple[int, int], np.dtype[np.float64]]]:
    """Return the newest different prompts of the log, and the tokens of each: input and output."""
    log = store.log(LogFilter(), content=True)
    columns = (log.values(name) for name in ("prompt", "status", "input_tokens", "output_tokens"))
    found: dict[str, tuple[int, int]] = {}
    for prompt, status, read, written in zip(*columns, strict=True):
        if prompt is not None and status in ("ok", "weak", "cached"):
            found.pop(prompt, None)
            found[prompt] = (read, written)
    newest: Sequence[str] = list(found)[-_MOST:]
    return list(newest), np.array([found[prompt] for prompt in newest], dtype=np.float64).reshape(-1, 2)


def _enough(
    network: model.Model, values: np.ndarray[tuple[int], np.dtype[np.float64]], tier: TierName
) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Return of each prompt the chance that a tier is enough."""
    if tier == TIERS[-1]:
        return np.ones(len(values))
    boundary = model.FAST_BELOW if tier == TIERS[0] else model.POWER_ABOVE
    sure = np.array([network.sureness(abs(value - boundary)) for value in values.tolist()])
    return np.where(values < boundary, sure, 1 - sure)
