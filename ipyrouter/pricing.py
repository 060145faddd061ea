"""Dollars from tokens: the config's prices first, then genai-prices' offline data; never a guess."""

from __future__ import annotations

import datetime as dt
import importlib.metadata
import warnings
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple

from ipyrouter.money import dollars
from ipyrouter.types import Candidate, Cost, Usage

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ipyrouter.config import Config, Price

_MILLION = Decimal(1_000_000)
_TOLERANCE = Decimal("0.02")  # of a bill: so much may differ without a word
_FIELDS = {
    "input": "input_mtok",
    "output": "output_mtok",
    "cached_input": "cache_read_mtok",
    "cache_write": "cache_write_mtok",
}


class _Known(NamedTuple):
    """A model of genai-prices with its provider."""

    provider: Any
    model: Any


class Pricing:
    """Prices calls for one config. The price data is imported at the first call that needs it."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self._known: dict[tuple[str, str], _Known | None] = {}

    def cost(self, candidate: Candidate, usage: Usage, response_model: str | None = None) -> Cost:
        """Return what a call cost in dollars, with the matched price id and rates; amount None if no price is known.

        The model that the response names is looked up first: it is the one that is billed.
        """
        if (price := self._override(candidate)) is not None:
            return _from_override(price, usage, f"config:{candidate}")
        known = (self._find(candidate.provider, response_model) if response_model else None) or self._find(
            candidate.provider, candidate.model
        )
        if known is None:
            return Cost(None)
        return _from_genai_prices(known, usage)

    def at(self, candidate: Candidate, input_tokens: int, output_tokens: int) -> Decimal | None:
        """Return the dollars of that many fresh tokens, or None if no price is known."""
        return self.cost(candidate, Usage(input_tokens, output_tokens)).amount

    def bound(self, candidate: Candidate, input_tokens: int, output_tokens: int) -> Decimal | None:
        """Return the most dollars a call can cost: every input token at the dearest of the input rates."""
        rates = dict(self.cost(candidate, Usage(input_tokens, output_tokens)).rates)
        if not rates:
            return None
        dearest = max(rate for kind, rate in rates.items() if kind != "output")
        return (input_tokens * dearest + output_tokens * rates["output"]) / _MILLION

    def thresholds(self, candidate: Candidate) -> tuple[int, ...]:
        """Return the input tokens above which other rates hold, ascending; empty where the same rates always hold."""
        known = self._find(candidate.provider, candidate.model)
        if known is None or self._override(candidate) is not None:
            return ()
        price = known.model.get_prices(dt.datetime.now(dt.UTC))
        tiered = (getattr(price, field, None) for field in _FIELDS.values())
        return tuple(sorted({step.start for rate in tiered for step in getattr(rate, "tiers", ())}))

    def context_window(self, candidate: Candidate) -> int | None:
        """Return the most input tokens the model takes, if known."""
        known = self._find(candidate.provider, candidate.model)
        return None if known is None else known.model.context_window

    def rates(self, candidate: Candidate) -> dict[str, Decimal]:
        """Return dollars per million tokens by kind, for short contexts; empty if no price is known."""
        return dict(self.cost(candidate, Usage(1, 1)).rates)

    def source(self, candidate: Candidate) -> str:
        """Return where the price comes from: the config (which wins), genai-prices with its version, or unknown."""
        if self._override(candidate) is not None:
            key = str(candidate) if str(candidate) in self.config.prices else candidate.model
            sources = {o for k, o in self.config.origins.items() if k.startswith(f"prices.{key}.")}
            return "config" if sources - {"default"} else "preset"
        if self._find(candidate.provider, candidate.model) is None:
            return "unknown"
        return f"genai-prices {importlib.metadata.version('genai-prices')}"

    def unpriced(self) -> list[str]:
        """Return a line for every tier that holds a candidate without a known price."""
        lines = []
        for tier in self.config.tiers.values():
            where = self.config.origins[f"tiers.{tier.name}.chain"]
            lines += [
                f"{where}: tiers.{tier.name}.chain: no price is known for {str(candidate)!r}. "
                f'Add [prices."{candidate}"] with input and output in $ per million tokens.'
                for candidate in tier.chain
                if self.at(candidate, 1, 1) is None
            ]
        return lines

    def _override(self, candidate: Candidate) -> Price | None:
        prices = self.config.prices
        return prices.get(str(candidate)) or prices.get(candidate.model)

    def _find(self, provider_name: str, model: str) -> _Known | None:
        key = (provider_name, model)
        if key not in self._known:
            self._known[key] = self._look_up(provider_name, model)
        return self._known[key]

    def _look_up(self, provider_name: str, model: str) -> _Known | None:
        from genai_prices import data_snapshot

        provider = self.config.providers.get(provider_name)
        if provider is None or provider.embedded:
            return None
        # An address of one's own is priced only if genai-prices knows that address: names alone would be a guess.
        by_id, by_url = (provider.name, None) if provider.official else (None, provider.base_url)
        try:
            found, info = data_snapshot.get_snapshot().find_provider_model(model, None, by_id, by_url)
        except LookupError:
            return None
        return _Known(found, info)


def as_billed(candidate: Candidate, cost: Cost, billed: Decimal | None) -> tuple[Cost, str | None]:
    """Return what a call cost by the provider's own bill, and a line where that differs from the reckoned cost.

    Args:
        candidate: who answered.
        cost: the cost by tokens and prices.
        billed: dollars by the provider's own figure, or None where it gives none.
    """
    if billed is None:
        return cost, None
    own, note = cost.amount, None
    if own is not None and abs(billed - own) > _TOLERANCE * max(billed, own):
        note = f"{candidate.provider} bills {dollars(billed)} for this; by the known prices it is {dollars(own)}."
    return Cost(billed, f"billed:{candidate}", cost.rates), note


def at_rates(rates: Mapping[str, Decimal], usage: Usage) -> Decimal:
    """Return the dollars of tokens at given rates; cached and written ones without a rate cost what fresh ones do."""
    fresh = usage.input_tokens - usage.cached_input_tokens - usage.cache_write_tokens
    return (
        fresh * rates["input"]
        + usage.cached_input_tokens * rates.get("cached_input", rates["input"])
        + usage.cache_write_tokens * rates.get("cache_write", rates["input"])
        + usage.output_tokens * rates["output"]
    ) / _MILLION


def _from_override(price: Price, usage: Usage, price_id: str) -> Cost:
    rates = {
        "input": price.input,
        "output": price.output,
        "cached_input": price.input if price.cached_input is None else price.cached_input,
        "cache_write": price.input if price.cache_write is None else price.cache_write,
    }
    return Cost(at_rates(rates, usage), price_id, tuple(rates.items()))


def _from_genai_prices(known: _Known, usage: Usage) -> Cost:
    from genai_prices import Usage as PricedUsage

    tokens = PricedUsage(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cache_read_tokens=usage.cached_input_tokens or None,
        cache_write_tokens=usage.cache_write_tokens or None,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # notices about price kinds that chat calls do not use
        try:
            priced = known.model.calc_price(tokens, known.provider)
        except (ValueError, LookupError):
            return Cost(None)
    rates = tuple(
        (name, _rate(value, usage.input_tokens))
        for name, field in _FIELDS.items()
        if (value := getattr(priced.model_price, field, None)) is not None
    )
    return Cost(priced.total_price, f"{known.provider.id}/{known.model.id}", rates)


def _rate(price: Any, input_tokens: int) -> Decimal:
    """Return the rate that applies to a context of that length (genai-prices' TieredPrices)."""
    rate = price if isinstance(price, Decimal) else price.base
    for step in getattr(price, "tiers", ()):
        if input_tokens > step.start:
            rate = step.price
    return Decimal(rate)
