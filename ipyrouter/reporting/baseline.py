"""What the log's answered requests would have cost at one model: one figure for the comparison and for the panel."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

from ipyrouter.config import Config
from ipyrouter.pricing.prices import Pricing, at_rates
from ipyrouter.routing.planner import without_retired
from ipyrouter.store.base import Totals
from ipyrouter.types import Candidate, TierName, Usage


def model_of(config: Config, tier: TierName) -> Candidate:
    """Return the model that "all of this tier" means: the chain's first that is not retired."""
    settings = config.tiers[tier]
    return (without_retired(config, settings)[0] or settings.chain)[0]


def cost_at(pricing: Pricing, candidate: Candidate, totals: Iterable[Totals], steps: tuple[int, ...]) -> Decimal | None:
    """Return the dollars of the answered requests' tokens at a model's rates, those of long contexts included.

    Args:
        pricing: Whose rates hold.
        candidate: The model.
        totals: The log's sums; those of ``final`` rows count, one for every answered request.
        steps: The input tokens at which the sums were divided into bands, the model's own thresholds among them.

    Returns:
        The dollars, or None where the model's price is not known.
    """
    bands: dict[int, Usage] = {}
    for row in totals:
        if row.final:
            so_far = bands.get(row.band, Usage())
            bands[row.band] = Usage(
                so_far.input_tokens + row.usage.input_tokens,
                so_far.output_tokens + row.usage.output_tokens,
                so_far.cached_input_tokens + row.usage.cached_input_tokens,
                so_far.cache_write_tokens + row.usage.cache_write_tokens,
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


def share(saved: Decimal, at_power: Decimal) -> int | None:
    """Return what was saved against all power in whole percent, less than 0 where more was spent; None of nothing."""
    return round(100 * saved / at_power) if at_power else None
