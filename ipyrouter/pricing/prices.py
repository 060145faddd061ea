"""Dollars from tokens: the config's prices first, then genai-prices' offline data; never a guess."""

from __future__ import annotations

import datetime as dt
import importlib.metadata
import re
import warnings
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple

from ipyrouter.text.amounts import dollars
from ipyrouter.types import Candidate, Cost, Usage

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ipyrouter.config import Config, Price

_MILLION = Decimal(1_000_000)
_TOLERANCE = Decimal("0.02")  # of a bill: so much may differ without a word
_FIELDS = {
    "input": "input_mtok",
    "output": "output_mtok",
    "cached_input": "cache_read_mtok",
    "cache_write": "cache_write_mtok",
    "cache_write_1h": "cache_write_1h_mtok",
}


Context = tuple[tuple[str, str], ...]
"""What else than the standard price a call was served at, under genai-prices' names: (("service_tier", "flex"),)."""


class _Known(NamedTuple):
    """A model of genai-prices with its provider."""

    provider: Any
    model: Any

    def conditions(self, context: Context) -> dict[str, str] | None:
        """Return of what a call was served at that which has prices at this provider.

        None where this model has none: a price that is not known is not the standard one.
        """
        own = _variants([self.model] if any(self.model is model for model in self.provider.models) else [])
        priced = [
            condition for condition in context if condition in own or condition in _variants(self.provider.models)
        ]
        return dict(priced) if own.issuperset(priced) else None


def _variants(models: Iterable[Any]) -> set[tuple[str, str]]:
    """Return the conditions under which any of the models has another price than the standard one."""
    return {
        condition for model in models for variant in model.price_variants or () for condition in variant.when.items()
    }


class Pricing:
    """Prices calls for one config. The price data is imported at the first call that needs it."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self._known: dict[tuple[str, str], _Known | None] = {}  # by address and model
        self._strangers: dict[Candidate, str] = {}  # models without a price that answered in a candidate's place
        self._contexts: dict[Candidate, Context] = {}  # at what other than the standard price a candidate was served

    def configure(self, config: Config) -> None:
        """Price for another config from now on."""
        self.config = config
        self._known.clear()
        self._strangers.clear()
        self._contexts.clear()

    def cost(
        self, candidate: Candidate, usage: Usage, response_model: str | None = None, context: Context = ()
    ) -> Cost:
        """Return what a call cost in dollars, with the matched price id and rates; amount None if no price is known.

        A price of the config wins. Else the model that the response names is the one that is billed. A name that no
        price is known for takes the asked model's price only where it is another form of the asked name (dated,
        -latest, with or without its maker): a model that a gateway chose has an unknown price.

        Args:
            candidate: Whom the call was sent to.
            usage: The tokens to price.
            response_model: The model that the response names; None prices the candidate itself.
            context: What else than the standard price the response says that the call was served at.

        Returns:
            The cost, with amount None and no rates where no price is known.
        """
        if (price := self._override(candidate)) is not None:
            return _from_override(price, usage, f"config:{candidate}")
        name = response_model or candidate.model
        known = self._find(candidate.provider, name)
        if known is None and _canonical(name) == _canonical(candidate.model):
            known = self._find(candidate.provider, candidate.model)
            if known is None:
                return Cost(None)
        if known is None:
            self._strangers[candidate] = name
            return Cost(None)
        if (conditions := known.conditions(context)) is None:
            return Cost(None)
        if conditions:
            self._contexts[candidate] = context
        return _from_genai_prices(known, usage, conditions)

    def unknown(self, candidate: Candidate) -> str:
        """Return in words why no price is known for the calls of a candidate; empty where one is."""
        if self._override(candidate) is None and (stranger := self._strangers.get(candidate)) is not None:
            return f"{candidate} was answered by {stranger!r}, for which no price is known"
        return "" if self.rates(candidate) else f"no price is known for {candidate}"

    def at(self, candidate: Candidate, input_tokens: int, output_tokens: int) -> Decimal | None:
        """Return the dollars of that many fresh tokens, or None if no price is known."""
        return self.cost(candidate, Usage(input_tokens, output_tokens)).amount

    def bound(self, candidate: Candidate, input_tokens: int, output_tokens: int) -> Decimal | None:
        """Return the most dollars that a call can cost: every input token at the most expensive of the input rates.

        A candidate that was once served at another price than the standard one, for a project may have that for its
        own, is bounded by the higher of the two.

        Args:
            candidate: A provider and a model.
            input_tokens: At most so many.
            output_tokens: At most so many, reasoning included.

        Returns:
            Dollars; None where no price is known, or another model has answered for the candidate at an unknown price.
        """
        usage, bounds = Usage(input_tokens), []  # no rate depends on the output
        for context in {(), self._contexts.get(candidate, ())}:
            rates = dict(self.cost(candidate, usage, context=context).rates)
            if not rates or self.unknown(candidate):
                return None
            highest = max(rate for kind, rate in rates.items() if kind != "output")
            bounds.append((input_tokens * highest + output_tokens * rates["output"]) / _MILLION)
        return max(bounds)

    def thresholds(self, candidate: Candidate) -> tuple[int, ...]:
        """Return the input tokens above which other rates hold, ascending; empty where the same rates always hold."""
        known = self._find(candidate.provider, candidate.model)
        if known is None or self._override(candidate) is not None:
            return ()
        price = known.model.get_prices(dt.datetime.now(dt.UTC))
        tiered = (getattr(price, field) for field in _FIELDS.values())
        return tuple(sorted({step.start for rate in tiered for step in getattr(rate, "tiers", ())}))

    def context_window(self, candidate: Candidate) -> int | None:
        """Return the most input tokens the model takes, if known."""
        known = self._find(candidate.provider, candidate.model)
        return None if known is None else known.model.context_window

    def rates(self, candidate: Candidate, context: Context = ()) -> dict[str, Decimal]:
        """Return dollars per million tokens by kind, for short contexts; empty if no price is known.

        Args:
            candidate: A provider and a model.
            context: What other than the standard price is meant; empty rates where there is no such price.
        """
        if context:
            known = self._find(candidate.provider, candidate.model)
            if known is None or self._override(candidate) is not None or not known.conditions(context):
                return {}
        return dict(self.cost(candidate, Usage(), context=context).rates)

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
                if not self.rates(candidate)
            ]
        return lines

    def _override(self, candidate: Candidate) -> Price | None:
        prices = self.config.prices
        return prices.get(str(candidate)) or prices.get(candidate.model)

    def _find(self, provider_name: str, model: str) -> _Known | None:
        provider = self.config.providers.get(provider_name)
        if provider is None or provider.embedded:
            return None
        key = (provider.address(), model)  # the address may change with the environment
        if key not in self._known:
            self._known[key] = _look_up(*key)
        return self._known[key]


def _look_up(address: str, model: str) -> _Known | None:
    """Return the model of genai-prices that is meant; an address that it does not know is priced by no name."""
    from genai_prices.data_snapshot import get_snapshot

    providers = get_snapshot().providers
    owner = next((provider for provider in providers if _is_address(provider.api_pattern, address)), None)
    if owner is None:
        return None
    others = {provider.id: provider for provider in providers}
    sellers = [owner, *(others[maker] for maker in owner.fallback_model_providers or () if maker in others)]
    name = model.lower().removeprefix("models/")
    with_dashes = re.sub(r"-(20\d\d)([01]\d)([0-3]\d)$", r"-\1-\2-\3", name)
    for form in dict.fromkeys((name, with_dashes, _undated(name))):
        for seller in sellers:
            for info in seller.models:
                if form == info.id.lower() or _is_named(info.match, form):
                    return _Known(owner, info)
    return None


def _is_address(pattern: str, address: str) -> bool:
    """Tell whether an address is a provider's: its pattern, and no longer host name that merely begins like it."""
    if (match := re.match(pattern, address)) is None:
        return False
    whole = pattern.endswith("\\.") or match.group().endswith("/")  # patterns that end within or beyond the host
    return whole or re.match(r"[\w.@-]", address[match.end() :]) is None


# Parts of a name that say which edition of a model is meant, and not which model.
_DATE = (
    r"(?:20\d\d-(?:0[1-9]|1[0-2])-[0-3]\d|20\d\d(?:0[1-9]|1[0-2])[0-3]\d|(?:0[1-9]|1[0-2])-(?:20\d\d|[0-3]\d)"
    r"|(?:0[1-9]|1[0-2])[0-3]\d|2\d(?:0[1-9]|1[0-2])|0\d\d)"
)
_EDITION = rf"[-@](?:(?:preview|exp)-)?{_DATE}|[-@:]latest|@default"
_EDITIONS = re.compile(rf"(?:{_EDITION})+$")
_REST = re.compile(rf"(?:{_EDITION}|(?:-v\d+)?:\d+)*")  # Bedrock's revisions too, which its patterns leave open
_MAKER = re.compile(r"(?:.*[/.:])?")  # openai/…, us.anthropic.…


def _undated(name: str) -> str:
    return _EDITIONS.sub("", name)


def _canonical(name: str) -> str:
    """Return a name without its maker and edition; what follows a colon stays: a model's ":free" is another offer."""
    return _undated(name.lower().rpartition("/")[2])


def _is_named(clause: Any, name: str) -> bool:
    """Tell whether a clause of genai-prices means this very model.

    Its patterns take whatever begins like a known model ("claude-opus-4-6-fast"); a variant has a price of its own.
    """
    from genai_prices import types

    match clause:
        case types.ClauseOr():
            return any(_is_named(part, name) for part in clause.or_)
        case types.ClauseAnd():
            return clause.is_match(name) and any(_is_named(part, name) for part in clause.and_)
        case types.ClauseEquals():
            return clause.is_match(name)
        case types.ClauseRegex():
            return clause.regex.endswith("$") and clause.is_match(name)
        case types.ClauseStartsWith(known):
            # What follows "ft:gpt-4o" names the user's own fine-tuned model.
            return clause.is_match(name) and (known.startswith("ft:") or _is_edition("", name[len(known) :]))
        case types.ClauseEndsWith(known):
            return clause.is_match(name) and _is_edition(name[: -len(known)], "")
        case types.ClauseContains(known):
            before, _, after = name.partition(known.lower())
            return clause.is_match(name) and _is_edition(before, after)
    return False


def _is_edition(before: str, after: str) -> bool:
    return _MAKER.fullmatch(before) is not None and _REST.fullmatch(after) is not None


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


def saved_by_cache(rates: Mapping[str, Decimal], usage: Usage) -> Decimal:
    """Return the dollars that a provider's own cache has spared a call: less than 0 where writing cost more."""
    if not rates:
        return Decimal(0)
    without = replace(usage, cached_input_tokens=0, cache_write_tokens=0, cache_write_1h_tokens=0)
    return at_rates(rates, without) - at_rates(rates, usage)


def at_rates(rates: Mapping[str, Decimal], usage: Usage) -> Decimal:
    """Return the dollars of tokens at given rates; cached and written ones without a rate cost what fresh ones do."""
    fresh = usage.input_tokens - usage.cached_input_tokens - usage.cache_write_tokens
    written = rates.get("cache_write", rates["input"])
    return (
        fresh * rates["input"]
        + usage.cached_input_tokens * rates.get("cached_input", rates["input"])
        + (usage.cache_write_tokens - usage.cache_write_1h_tokens) * written
        + usage.cache_write_1h_tokens * rates.get("cache_write_1h", written)
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


def _from_genai_prices(known: _Known, usage: Usage, conditions: Mapping[str, str]) -> Cost:
    from genai_prices import Usage as PricedUsage

    tokens = PricedUsage(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cache_read_tokens=usage.cached_input_tokens or None,
        cache_write_tokens=usage.cache_write_tokens or None,
        cache_write_1h_tokens=usage.cache_write_1h_tokens or None,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # notices about price kinds that chat calls do not use
        try:
            priced = known.model.calc_price(tokens, known.provider, price_context=conditions)
        except (ValueError, LookupError):
            return Cost(None)
    rates = tuple(
        (name, _rate(value, usage.input_tokens))
        for name, field in _FIELDS.items()
        if (value := getattr(priced.model_price, field)) is not None
        and (name != "cache_write_1h" or usage.cache_write_1h_tokens)  # we ask for none: it bounds no call
    )
    kind = "".join(f" ({value})" for value in conditions.values())
    return Cost(priced.total_price, f"{known.provider.id}/{known.model.id}{kind}", rates)


def _rate(price: Any, input_tokens: int) -> Decimal:
    """Return the rate that applies to a context of that length (genai-prices' TieredPrices)."""
    rate = price if isinstance(price, Decimal) else price.base
    for step in getattr(price, "tiers", ()):
        if input_tokens > step.start:
            rate = step.price
    return Decimal(rate)
