"""What each setting of the dial would do: shares of the tiers, and cost beside sending everything to power.

Run python -m training.calibrate: on the held-back third of our own requests, or on the prompts of your log with --log.
Costs assume 500 tokens in and 500 out per request, at the rates of each tier's first model; the ratios are the point.
"""

from __future__ import annotations

import argparse

from ipyrouter.classifier import model
from ipyrouter.router import Router
from ipyrouter.types import TIERS
from training import data

_TOKENS = 500
_DIALS = ((0.15, 0.50), (0.25, 0.60), (0.35, 0.70), (0.45, 0.80), (0.55, 0.90))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--log", action="store_true", help="use the prompts of your own log")
    router = Router()
    prompts = data.notebook(held_back=True).prompts
    if parser.parse_args().log:
        prompts = router.log()["prompt"].dropna().tolist()
    rates = {}
    for tier in TIERS:
        candidate = router.config.tiers[tier].chain[0]
        rates[tier] = router.pricing.at(candidate, _TOKENS, _TOKENS) or 0
    shipped = model.shipped()
    values = [shipped.difficulty(shipped.read(prompt)) for prompt in prompts]
    print(f"{len(prompts)} prompts\nfast_below power_above   fast    mid  power   cost of all-power")
    for fast_below, power_above in _DIALS:
        tiers = [model.tier_of(value, fast_below, power_above) for value in values]
        shares = [tiers.count(tier) / max(len(tiers), 1) for tier in TIERS]
        cost = sum(share * float(rates[tier]) for share, tier in zip(shares, TIERS, strict=True))
        part = cost / float(rates["power"]) if rates["power"] else float("nan")
        print(f"{fast_below:>10.2f} {power_above:>11.2f} {'  '.join(f'{share:5.1%}' for share in shares)}   {part:.1%}")


if __name__ == "__main__":
    main()
