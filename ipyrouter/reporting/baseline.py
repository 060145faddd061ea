"""What the log's answered requests would have cost at one model: one figure for the comparison and for the panel."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

from ipyrouter.config import Config
from ipyrouter.pricing.prices import Pricing, at_rates
from ipyrouter.routing.planner import without_retired
from ipyrouter.types import Candidate, TierName, Usage


def model_of(config: Config, tier: TierName) -> Candidate:
    """Return the model that "all of this tier" means: the chain's first that is not retired."""
    settings = config.tiers[tier]
    return (without_retired(config, settings)[0] or settings.chain)[0]


def cost_at(
    pricing: Pricing, candidate: Candidate, rows: Iterable[Mapping[str, Any]], steps: tuple[int, ...]
) -> Decimal | None:
    """Return the dollars of the answered requests' tokens at a model's rates, those of long contexts included.

    Args:
        pricing: Whose rates hold.
        candidate: The model.
        rows: The log's sums (``Store.summary``); those of ``final`` rows count, one for every answered request.
        steps: The input tokens at which the sums were divided into bands, the model's own thresholds among them.

    Returns:
        The dollars, or None where the model's price is not known.
    """
    bands: dict[int, Usage] = {}
    for row in rows:
        if row["final"]:
            total_tokens = bands.get(row["band"], Usage())
            bands[row["band"]] = Usage(
                total_tokens.input_tokens + row["input_tokens"],
                total_tokens.output_tokens + row["output_tokens"],
                total_tokens.cached_input_tokens + row["cached_input_tokens"],
                total_tokens.cache_write_tokens + row["cache_write_tokens"],
            )
    total = Decimal(0)
    for band, tokens in bands.items():
        one = Usage(steps[band - 1] + 1 if band else 1, 1)  # a call of the band, for its rates
        cost = pricing.cost(candidate, one)
        rates = dict(cost.rates)
        if cost.amount is None or at_rates(rates, one) != cost.amount:  # unknown, or more than tokens is charged
            return None
        total += at_rates(rates, tokens)
    return total
