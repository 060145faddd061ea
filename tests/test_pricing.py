"""Dollars: exact, sourced, and never guessed."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import genai_prices
import pytest
from genai_prices import types
from genai_prices.data_snapshot import DataSnapshot, get_snapshot, set_custom_snapshot
from hypothesis import given
from hypothesis import strategies as st

from ipyrouter import config
from ipyrouter.pricing import prices as pricing_module
from ipyrouter.pricing.prices import Context, Pricing, as_billed, at_rates, saved_by_cache
from ipyrouter.router import Router
from ipyrouter.types import Candidate, Cost, Usage


def pricing(**settings: Any) -> Pricing:
    return Pricing(config.load(settings))


def test_every_preset_model_is_priced() -> None:
    for preset in ("current", "article"):
        assert pricing(preset=preset).unpriced() == []


def test_cost_is_that_of_genai_prices_cached_tokens_included() -> None:
    usage = Usage(input_tokens=10_000, output_tokens=500, cached_input_tokens=4_000, cache_write_tokens=1_000)
    cost = pricing().cost(Candidate("anthropic", "claude-opus-5-5"), usage)
    expected = genai_prices.calc_price(
        genai_prices.Usage(input_tokens=10_000, output_tokens=500, cache_read_tokens=4_000, cache_write_tokens=1_000),
        "claude-opus-5-5",
        provider_id="anthropic",
    )
    assert cost.amount == expected.total_price
    assert cost.price_id == "anthropic/claude-opus-5-5"
    rates = dict(cost.rates)
    by_hand = (
        5_000 * rates["input"] + 4_000 * rates["cached_input"] + 1_000 * rates["cache_write"] + 500 * rates["output"]
    )
    assert cost.amount == by_hand / 1_000_000


PRESET_MODELS = {
    candidate: preset
    for preset in ("current", "article")
    for tier in config.load({"preset": preset}, environ={}).tiers.values()
    for candidate in tier.chain
}


@given(
    st.sampled_from(sorted(PRESET_MODELS, key=str)),
    st.integers(0, 400_000), st.integers(0, 400_000), st.integers(0, 400_000), st.integers(0, 100_000),
)  # fmt: skip
def test_rates_and_tokens_make_what_genai_prices_charges(
    candidate: Candidate, fresh: int, cached: int, written: int, output: int
) -> None:
    """For every preset's models, cached tokens, cache writes and long contexts included."""
    usage = Usage(fresh + cached + written, output, cached, written)
    cost = pricing(preset=PRESET_MODELS[candidate]).cost(candidate, usage)
    expected = genai_prices.calc_price(
        genai_prices.Usage(
            input_tokens=usage.input_tokens, output_tokens=output, cache_read_tokens=cached, cache_write_tokens=written
        ),
        candidate.model,
        provider_id=candidate.provider,
    )
    assert cost.amount == expected.total_price
    assert at_rates(dict(cost.rates), usage) == cost.amount


@pytest.mark.parametrize("preset", ["current", "article"])
def test_every_preset_model_has_rates_and_a_window(preset: str) -> None:
    priced = pricing(preset=preset)
    for candidate in (c for tier in config.load({"preset": preset}).tiers.values() for c in tier.chain):
        assert priced.rates(candidate)["input"] > 0, candidate
        assert priced.rates(candidate)["output"] > 0, candidate
        assert (priced.context_window(candidate) or 0) > 10_000, candidate
        assert priced.source(candidate).startswith("genai-prices "), candidate


ARTICLE = (
    "gpt-4o-mini", "gpt-4o", "gpt-5.4", "claude-opus-4-6", "claude-sonnet-4-6", "claude-haiku-3", "gpt-3.5-turbo",
)  # fmt: skip


@pytest.mark.parametrize("preset", ["current", "article"])
@pytest.mark.parametrize("name", ARTICLE)
def test_the_articles_names_mean_models_with_a_price(name: str, preset: str) -> None:
    loaded = config.load({"preset": preset})
    assert Pricing(loaded).at(loaded.candidate(name), 1, 1) is not None


def test_long_contexts_have_their_own_rate() -> None:
    candidate = Candidate("openai", "gpt-6-luna")
    short, long = pricing().cost(candidate, Usage(1_000, 1)), pricing().cost(candidate, Usage(1_000_000, 1))
    assert dict(long.rates)["input"] == 2 * dict(short.rates)["input"]
    assert long.amount is not None
    assert long.amount > 1_000 * short.amount  # type: ignore[operator]


def test_unknown_is_unknown() -> None:
    cost = pricing().cost(Candidate("openai", "gpt-99"), Usage(1, 1))
    assert (cost.amount, cost.price_id, cost.rates) == (None, None, ())
    own = {"providers": {"acme": {"sdk": "openai", "base_url": "http://127.0.0.1:1/v1"}}}
    # A famous name at an address of one's own is not priced by its name.
    assert pricing(**own).cost(Candidate("acme", "gpt-4o"), Usage(1, 1)).amount is None


def test_an_address_that_genai_prices_knows_is_priced() -> None:
    own = {"providers": {"groq": {"sdk": "openai", "base_url": "https://api.groq.com/openai/v1"}}}
    cost = pricing(**own).cost(Candidate("groq", "llama-3.1-8b-instant"), Usage(1, 1))
    assert cost.price_id == "groq/llama-3.1-8b-instant"


def test_the_configs_price_wins_and_says_so() -> None:
    priced = pricing(prices={"gpt-6-luna": {"input": 7, "output": 9}})
    candidate = Candidate("openai", "gpt-6-luna")
    assert priced.cost(candidate, Usage(1_000_000, 1_000_000)).amount == 16
    assert priced.cost(candidate, Usage(1, 1)).price_id == "config:openai/gpt-6-luna"
    assert priced.source(candidate) == "config"
    assert priced.source(Candidate("openai", "gpt-5.4")).startswith("genai-prices ")
    assert priced.source(Candidate("openai", "gpt-99")) == "unknown"


def test_the_model_that_answered_is_the_one_that_is_billed() -> None:
    cost = pricing().cost(Candidate("openai", "gpt-4o"), Usage(1000, 0), "gpt-4o-mini")
    assert cost.price_id == "openai/gpt-4o-mini"


def price(name: str, provider: str = "openai", **settings: Any) -> tuple[Decimal | None, str | None]:
    cost = pricing(**settings).cost(Candidate(provider, name), Usage(1_000_000, 1_000_000))
    return cost.amount, cost.price_id


@pytest.mark.parametrize("edition", ["-2026-10-01", "-20261001", "-1001", "-latest", "@20261001", "-preview-10-2026"])
@pytest.mark.parametrize("candidate", sorted(PRESET_MODELS, key=str), ids=str)
def test_a_dated_form_is_the_model(candidate: Candidate, edition: str) -> None:
    assert price(candidate.model + edition, candidate.provider) == price(candidate.model, candidate.provider)


def test_an_edition_of_its_own_has_its_own_price() -> None:
    assert price("gpt-4o-2024-05-13") == price("gpt-4o-20240513") != price("gpt-4o")
    assert price("gpt-3.5-turbo-0613") != price("gpt-3.5-turbo")


@pytest.mark.parametrize(
    ("name", "provider"),
    [
        *((f"{candidate.model}-{variant}", candidate.provider)
          for candidate in sorted(PRESET_MODELS, key=str)
          for variant in ("pro", "fast", "ultra", "audio-preview", "thinking", "2029-01-01-search", "v2", "32k")),
        ("claude-opus-6", "anthropic"), ("claude-haiku-9", "anthropic"), ("gpt-7", "openai"), ("o9-mini", "openai"),
        ("gpt-4o-mini-fast-2029-01-01", "openai"), ("xclaude-3-haiku", "anthropic"), ("gpt", "openai"),
    ],
)  # fmt: skip
def test_a_name_that_nobody_has_priced_is_unknown(name: str, provider: str) -> None:
    """Even where genai-prices takes whatever begins like a model: "claude-opus-4-6-fast"."""
    if name in {model.id for known in get_snapshot().providers if known.id == provider for model in known.models}:
        return  # gpt-5.4-pro is a model of its own
    assert price(name, provider) == (None, None)


@pytest.mark.parametrize(
    "provider", [p for p in get_snapshot().providers if p.id != "openai-decisions"], ids=lambda p: p.id
)
def test_every_model_of_genai_prices_has_its_own_price(provider: Any) -> None:
    """No name is lost or taken for another: each id means the model whose id it is."""
    for model in provider.models:
        known = _look_up_at(provider, model.id)
        assert known is not None, model.id
        assert known.model.id.lower() == model.id.lower()


MINI = types.ClauseContains("GPT-4o-mini")


@pytest.mark.parametrize(
    ("clause", "those", "others"),
    [
        (types.ClauseEquals("gpt-4o"), ["gpt-4o"], ["gpt-4o-fast", "gpt-4o-2024-08-06"]),
        (types.ClauseStartsWith("gpt-4o"), ["gpt-4o", "gpt-4o-2024-08-06"], ["gpt-4o-fast", "openai/gpt-4o"]),
        (types.ClauseStartsWith("ft:gpt-4o"), ["ft:gpt-4o:acme::1"], ["gpt-4o"]),
        (types.ClauseEndsWith("gpt-4o"), ["gpt-4o", "openai/gpt-4o"], ["xgpt-4o", "openai/gpt-4o-mini"]),
        (MINI, ["openai/gpt-4o-mini-latest", "gpt-4o-mini"], ["openai/gpt-4o-mini-fast", "xgpt-4o-mini", "gpt-4o"]),
        (types.ClauseRegex("^gpt-4o(-mini)?$"), ["gpt-4o", "gpt-4o-mini"], ["gpt-4o-fast"]),
        (types.ClauseRegex("^gpt-4o"), [], ["gpt-4o"]),  # takes whatever begins so
        (types.ClauseOr([types.ClauseEquals("gpt-4o"), MINI]), ["gpt-4o", "gpt-4o-mini"], ["gpt-5"]),
        (
            types.ClauseAnd([types.ClauseStartsWith("openai"), MINI]),
            ["openai/gpt-4o-mini"],
            ["acme/gpt-4o-mini", "openai/gpt-4o-mini-fast", "openai/gpt-4o"],
        ),
    ],
)
def test_a_pattern_means_a_model_and_its_editions(clause: Any, those: list[str], others: list[str]) -> None:
    assert [name for name in [*those, *others] if pricing_module._is_named(clause, name)] == those


def _look_up_at(provider: Any, name: str) -> Any:
    """Look a name up at a provider by its own list, as at its address."""
    own = dataclasses.replace(provider, api_pattern="https://own\\.example")
    set_custom_snapshot(DataSnapshot(providers=[own], from_auto_update=False))
    try:
        return pricing_module._look_up("https://own.example/v1", name)
    finally:
        set_custom_snapshot(None)


@pytest.mark.parametrize(
    ("address", "name", "price_id"),
    [
        ("https://openrouter.ai/api/v1", "openai/gpt-4o-2024-08-06", "openrouter/openai/gpt-4o"),
        ("https://bedrock-runtime.us-east-1.amazonaws.com/openai/v1", "us.amazon.nova-lite-v1:0",
         "aws/amazon.nova-lite-v1:0"),
        ("https://my.openai.azure.com/openai/v1", "gpt-4.1-mini-2025-04-14", "azure/gpt-4.1-mini"),
        ("https://generativelanguage.googleapis.com/v1beta/openai", "models/gemini-2.5-pro-preview-06-05",
         "google/gemini-2.5-pro"),
        ("https://api.moonshot.cn/v1", "kimi-k2.6", "moonshotai/kimi-k2.6"),
        ("https://api.openai.com/v1", "ft:gpt-4o-mini-2024-07-18:acme::abc123", "openai/ft:gpt-4o-mini"),
        ("https://api.openai.com.proxy.example/v1", "gpt-4o", None),
        ("https://api.openai.com@127.0.0.1/v1", "gpt-4o", None),
        ("http://127.0.0.1:11434/v1", "gpt-4o", None),
        ("https://eu.api.openai.com/v1", "gpt-4o", None),
    ],
)  # fmt: skip
def test_an_address_decides_whose_prices_hold(
    address: str, name: str, price_id: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = {"providers": {"acme": {"sdk": "openai", "base_url": address}}}
    assert price(name, "acme", **own)[1] == price_id
    monkeypatch.setenv("OPENAI_BASE_URL", address)  # the entry "openai" is priced by where it goes, not by its name
    assert price(name, "openai")[1] == price_id


def test_anthropics_address_moves_too(monkeypatch: pytest.MonkeyPatch) -> None:
    assert price("claude-opus-5-5", "anthropic")[1] == "anthropic/claude-opus-5-5"
    monkeypatch.setenv("ANTHROPIC_BASE_URL", "http://127.0.0.1:8000")
    assert price("claude-opus-5-5", "anthropic") == (None, None)


def test_an_address_that_changes_while_the_router_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    priced, candidate = pricing(), Candidate("openai", "gpt-4o")
    assert priced.at(candidate, 1, 1) is not None
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:1/v1")
    assert priced.at(candidate, 1, 1) is None
    monkeypatch.delenv("OPENAI_BASE_URL")
    assert priced.at(candidate, 1, 1) is not None


def test_prices_follow_a_new_config(make_router: Callable[..., Router]) -> None:
    """An unknown price at one address is not an unknown price at the next."""
    router = Router({"providers": {"acme": {"sdk": "openai", "base_url": "http://127.0.0.1:1/v1"}}})
    candidate = Candidate("acme", "llama-3.1-8b-instant")
    assert router.pricing.at(candidate, 1, 1) is None
    router.configure({"providers": {"acme": {"sdk": "openai", "base_url": "https://api.groq.com/openai/v1"}}})
    assert router.pricing.at(candidate, 1, 1) is not None
    router.configure({})
    assert router.pricing.at(candidate, 1, 1) is None
    router.close()


OPENROUTER = {"providers": {"openrouter": {"sdk": "openai", "base_url": "https://openrouter.ai/api/v1"}}}
FREE = "google/gemini-2.0-flash-exp:free"


@pytest.mark.parametrize(
    ("model", "answering_model", "price_id"),
    [
        (FREE, FREE, f"openrouter/{FREE}"),
        (FREE, None, f"openrouter/{FREE}"),
        (FREE, "maker/a-model-nobody-priced", None),  # never the 0 of the model that was asked
        (FREE, "google/gemini-2.0-flash-exp", None),
        (FREE, "openai/gpt-4o-mini", "openrouter/openai/gpt-4o-mini"),
        ("openai/gpt-4o-mini", "maker/a-model-nobody-priced", None),
        ("openai/gpt-4o-mini", "openai/gpt-4o-mini-2031-01-01", "openrouter/openai/gpt-4o-mini"),
        ("openai/gpt-4o-mini", "GPT-4o-mini", "openrouter/openai/gpt-4o-mini"),
        ("openai/gpt-4o-mini-latest", "gpt-4o-mini-2031-01-01", "openrouter/openai/gpt-4o-mini"),
    ],
)
def test_what_answered_is_billed_and_a_stranger_is_unknown(
    model: str, answering_model: str | None, price_id: str | None
) -> None:
    cost = pricing(**OPENROUTER).cost(Candidate("openrouter", model), Usage(687, 187), answering_model)
    assert cost.price_id == price_id
    assert (cost.amount is None) == (price_id is None)


def test_the_configs_price_holds_whoever_answered() -> None:
    priced = pricing(prices={"gpt-6-luna": {"input": 7, "output": 9}})
    assert priced.cost(Candidate("openai", "gpt-6-luna"), Usage(1_000_000, 0), "qwen3:8b").amount == 7


def test_a_tier_without_a_price_is_told_with_file_and_key() -> None:
    settings = {
        "providers": {"acme": {"sdk": "openai", "base_url": "http://127.0.0.1:1/v1"}},
        "tiers": {"fast": {"chain": ["acme/small"]}},
    }
    (line,) = pricing(**settings).unpriced()
    assert line.startswith(
        "arguments: tiers.fast.chain: no price is known for 'acme/small'. Add [prices.\"acme/small\"]"
    )


HAIKU = Candidate("anthropic", "claude-haiku-5-5")
OWN = {"prices": {"acme/small": {"input": 1, "output": 4, "cached_input": 0.5, "cache_write": 2}}}
ACME = {"providers": {"acme": {"sdk": "openai", "base_url": "https://acme.example/v1"}}}
SMALL = Candidate("acme", "small")


def test_a_bound_takes_every_input_token_at_the_most_expensive_rate() -> None:
    """By hand: cache writes are the most expensive way in, and cost $0.125 a million at short contexts."""
    assert pricing().bound(HAIKU, 1000, 100) == (1000 * Decimal("0.125") + 100 * Decimal("0.5")) / 10**6
    assert pricing(**OWN, **ACME).bound(SMALL, 1000, 100) == Decimal(1000 * 2 + 100 * 4) / 10**6
    expensive = {"prices": {"acme/small": {"input": 3, "output": 50, "cached_input": 0.5}}}
    assert pricing(**expensive, **ACME).bound(SMALL, 1000, 0) == Decimal(3000) / 10**6


def test_a_bound_is_at_the_rates_of_its_length() -> None:
    long = pricing().bound(HAIKU, 200_000, 0)
    rates = dict(pricing().cost(HAIKU, Usage(200_000, 0)).rates)
    assert long == 200_000 * max(rates[kind] for kind in ("input", "cached_input", "cache_write")) / 1_000_000
    assert long > pricing().bound(HAIKU, 100_000, 0) * 2


def test_a_bound_of_an_unknown_price_is_unknown() -> None:
    assert pricing(**ACME).bound(SMALL, 1, 1) is None
    moody = pricing()
    assert moody.bound(HAIKU, 1, 1) is not None
    assert moody.cost(HAIKU, Usage(1, 1), "someone-else-s-model").amount is None
    assert moody.bound(HAIKU, 1, 1) is None
    assert moody.unknown(HAIKU) == (
        "anthropic/claude-haiku-5-5 was answered by 'someone-else-s-model', for which no price is known"
    )
    assert moody.unknown(Candidate("anthropic", "claude-opus-5-5")) == ""


def test_a_price_of_the_config_ends_what_is_unknown() -> None:
    own = pricing(prices={"anthropic/claude-haiku-5-5": {"input": 1, "output": 2}})
    assert own.cost(HAIKU, Usage(1, 1), "someone-else-s-model").amount == Decimal(3) / 10**6
    assert own.unknown(HAIKU) == ""
    assert pricing(**ACME).unknown(SMALL) == "no price is known for acme/small"


def test_thresholds_are_where_rates_change() -> None:
    assert pricing().thresholds(HAIKU) == (100_000,)
    below, above = (dict(pricing().cost(HAIKU, Usage(count, 1)).rates) for count in (100_000, 100_001))
    assert below["input"] < above["input"]
    assert pricing().thresholds(Candidate("anthropic", "claude-opus-5-5")) == ()
    assert pricing(**ACME).thresholds(SMALL) == ()
    own = pricing(prices={"anthropic/claude-haiku-5-5": {"input": 1, "output": 2}})
    assert own.thresholds(HAIKU) == ()  # the config's price has none


def test_rates_are_those_of_a_short_context_by_kind() -> None:
    expected = {"input": "0.1", "output": "0.5", "cached_input": "0.01", "cache_write": "0.125"}
    assert pricing().rates(HAIKU) == {kind: Decimal(rate) for kind, rate in expected.items()}
    assert pricing(**ACME).rates(SMALL) == {}


def test_fresh_tokens_are_priced_by_direction() -> None:
    assert pricing().at(HAIKU, 1000, 0) == Decimal("0.0001")
    assert pricing().at(HAIKU, 0, 1000) == Decimal("0.0005")


@pytest.mark.parametrize("key", ["acme/small", "small"])
def test_a_price_says_where_it_comes_from(key: str) -> None:
    assert pricing(prices={key: {"input": 1, "output": 2}}, **ACME).source(SMALL) == "config"
    assert pricing(**ACME).source(SMALL) == "unknown"
    assert pricing().source(HAIKU).startswith("genai-prices ")
    assert pricing().source(Candidate("local", "smollm2")) == "preset"
    assert (
        pricing(prices={"local/smollm2": {"input": 1, "output": 2}}).source(Candidate("local", "smollm2")) == "config"
    )


MIXED = Usage(1000, 10, cached_input_tokens=300, cache_write_tokens=200)  # 500 fresh ones


@pytest.mark.parametrize(
    ("rates", "amount"),
    [
        ({"input": 3, "output": 50}, 1000 * 3 + 10 * 50),
        ({"input": 3, "output": 50, "cached_input": 1}, 700 * 3 + 300 * 1 + 10 * 50),
        ({"input": 3, "output": 50, "cache_write": 7}, 800 * 3 + 200 * 7 + 10 * 50),
        ({"input": 3, "output": 50, "cached_input": 1, "cache_write": 7}, 500 * 3 + 300 + 200 * 7 + 10 * 50),
        ({"input": 3, "output": 50, "cached_input": 0, "cache_write": 0}, 500 * 3 + 10 * 50),
    ],
)
def test_each_token_is_paid_once_at_its_own_rate(rates: dict[str, int], amount: int) -> None:
    """By hand; in the config, too, what has no rate of its own costs what a fresh token does."""
    assert at_rates({kind: Decimal(rate) for kind, rate in rates.items()}, MIXED) == Decimal(amount) / 10**6
    cost = pricing(prices={"acme/small": rates}, **ACME).cost(SMALL, MIXED)
    assert cost.amount == Decimal(amount) / 10**6
    assert dict(cost.rates) == {"cached_input": 3, "cache_write": 3, **rates}


RECKONED = Cost(Decimal("0.98"), "acme/small", (("input", Decimal(1)),))


@pytest.mark.parametrize(
    ("billed", "note"),
    [
        ("0.98", None),
        ("1", None),  # 2 % of the bill
        ("1.0001", "acme bills $1.00 for this; by the known prices it is $0.98."),
        ("0.9604", None),  # 2 % of what was reckoned
        ("0.9603", "acme bills $0.96 for this; by the known prices it is $0.98."),
        ("0", "acme bills $0 for this; by the known prices it is $0.98."),
    ],
)
def test_a_providers_bill_holds_and_a_difference_is_named(billed: str, note: str | None) -> None:
    cost = Cost(Decimal(billed), "billed:acme/small", RECKONED.rates)
    assert as_billed(SMALL, RECKONED, Decimal(billed)) == (cost, note)


def test_a_bill_is_the_price_where_none_is_known() -> None:
    assert as_billed(SMALL, Cost(None), Decimal(2)) == (Cost(Decimal(2), "billed:acme/small"), None)
    assert as_billed(SMALL, RECKONED, None) == (RECKONED, None)
    assert as_billed(SMALL, Cost(Decimal(0)), Decimal(0)) == (Cost(Decimal(0), "billed:acme/small"), None)


def test_thresholds_are_those_of_today() -> None:
    """Until March 2026 a long context had another price; DeepSeek's prices depend on the time of the day."""
    assert pricing().thresholds(Candidate("anthropic", "claude-opus-4-6")) == ()
    deepseek = {"providers": {"ds": {"sdk": "openai", "base_url": "https://api.deepseek.com"}}}
    assert pricing(**deepseek).thresholds(Candidate("ds", "deepseek-chat")) == ()


def test_the_window_of_a_model_that_nobody_knows_is_unknown() -> None:
    assert pricing(**ACME).context_window(SMALL) is None


def test_a_price_of_the_config_is_a_price() -> None:
    tiers = {"fast": {"chain": ["acme/small"]}, "mid": {"chain": ["acme/small", "acme/large"]}}
    (line,) = pricing(**OWN, **ACME, tiers=tiers).unpriced()
    assert line == (
        "arguments: tiers.mid.chain: no price is known for 'acme/large'. "
        'Add [prices."acme/large"] with input and output in $ per million tokens.'
    )


def test_a_gateways_name_in_capitals_is_the_same_model() -> None:
    cost = pricing(**OPENROUTER).cost(Candidate("openrouter", "OpenAI/GPT-4o-mini-latest"), Usage(1, 1), "gpt-4o-mini")
    assert cost.price_id == "openrouter/openai/gpt-4o-mini"


LUNA = Candidate("openai", "gpt-6-luna")
FLEX, PRIORITY, BATCH = (("service_tier", "flex"),), (("service_tier", "priority"),), (("processing", "batch"),)
THOUSAND = Usage(1000, 100)


@pytest.mark.parametrize(
    ("context", "factor", "kind"),
    [
        ((), "1", ""),
        ((("service_tier", "default"),), "1", " (default)"),
        (FLEX, "0.5", " (flex)"),
        (PRIORITY, "2", " (priority)"),
        ((*FLEX, ("speed", "nobody knows"), ("processing", "nobody knows")), "0.5", " (flex)"),
    ],
)
def test_a_call_costs_what_it_was_served_at(context: Context, factor: str, kind: str) -> None:
    standard, cost = pricing().cost(LUNA, THOUSAND), pricing().cost(LUNA, THOUSAND, context=context)
    assert standard.amount is not None
    assert cost.amount == Decimal(factor) * standard.amount
    assert cost.price_id == f"openai/gpt-6-luna{kind}"
    assert dict(cost.rates)["input"] == Decimal(factor) * dict(standard.rates)["input"]


def test_a_call_served_at_two_conditions_names_both() -> None:
    both = (("service_tier", "priority"), *BATCH)
    cost = pricing().cost(Candidate("openai", "gpt-4.1-mini"), THOUSAND, context=both)
    assert cost.price_id == "openai/gpt-4.1-mini (priority) (batch)"


def test_a_call_served_at_what_its_model_has_no_price_for_has_none() -> None:
    """Other models of OpenAI have a price at flex: gpt-4o-mini's is not known, and is not the standard one."""
    mini = Candidate("openai", "gpt-4o-mini")
    assert pricing().cost(mini, THOUSAND, context=FLEX) == Cost(None)
    assert pricing().rates(mini, FLEX) == {}
    groq = {"providers": {"groq": {"sdk": "openai", "base_url": "https://api.groq.com/openai/v1"}}}
    instant = Candidate("groq", "llama-3.1-8b-instant")  # at Groq nothing depends on it
    assert pricing(**groq).cost(instant, THOUSAND, context=FLEX) == pricing(**groq).cost(instant, THOUSAND)


def test_who_sells_anothers_model_has_conditions_of_its_own() -> None:
    """Azure sells OpenAI's models at the standard price, and has none for flex: OpenAI's is not Azure's."""
    azure = {"providers": {"azure": {"sdk": "openai", "base_url": "https://my.openai.azure.com/openai/v1"}}}
    luna = Candidate("azure", "gpt-6-luna")
    assert pricing(**azure).cost(luna, THOUSAND, context=FLEX) == pricing(**azure).cost(luna, THOUSAND)
    assert pricing(**azure).cost(luna, THOUSAND).amount == pricing().cost(LUNA, THOUSAND).amount
    own, openais = (
        pricing(**azure).rates(Candidate("azure", "davinci")),
        pricing().rates(Candidate("openai", "davinci")),
    )
    assert own["input"] < openais["input"]  # its own price comes first


def test_who_is_not_in_the_config_has_no_price() -> None:
    assert pricing().cost(Candidate("nobody", "gpt-4o"), THOUSAND) == Cost(None)


def test_a_bound_is_the_higher_one_of_what_a_candidate_was_served_at() -> None:
    priced = pricing()
    standard = priced.bound(LUNA, 1000, 100)
    assert standard is not None
    for context, bound in ((FLEX, standard), (PRIORITY, 2 * standard), ((), 2 * standard)):
        priced.cost(LUNA, THOUSAND, context=context)
        assert priced.bound(LUNA, 1000, 100) == bound
        assert priced.bound(Candidate("openai", "gpt-6-sol"), 1000, 100) == pricing().bound(
            Candidate("openai", "gpt-6-sol"), 1000, 100
        )
    assert priced.at(LUNA, 1000, 100) == pricing().at(LUNA, 1000, 100)
    priced.configure(config.load({}))
    assert priced.bound(LUNA, 1000, 100) == standard


def test_rates_at_another_price_than_the_standard_one() -> None:
    standard = pricing().rates(LUNA)
    assert pricing().rates(LUNA, FLEX) == {kind: rate / 2 for kind, rate in standard.items()}
    assert pricing().rates(LUNA, (("speed", "nobody knows"),)) == {}  # there is no such price
    assert pricing(**OWN, **ACME).rates(SMALL)["output"] == 4
    assert pricing(**OWN, **ACME).rates(SMALL, FLEX) == {}
    assert pricing(prices={"gpt-6-luna": {"input": 7, "output": 9}}).rates(LUNA, FLEX) == {}
    assert pricing().rates(Candidate("openai", "gpt-99"), FLEX) == {}


def test_a_stranger_that_answered_is_forgotten_with_the_config() -> None:
    priced = pricing()
    priced.cost(HAIKU, THOUSAND, "someone-else-s-model")
    assert priced.unknown(HAIKU) != ""
    priced.configure(config.load({}))
    assert priced.unknown(HAIKU) == ""


HOURS = Usage(1000, 10, cached_input_tokens=300, cache_write_tokens=200, cache_write_1h_tokens=50)


@pytest.mark.parametrize(
    ("rates", "amount"),
    [
        ({"input": 3, "output": 50}, 1000 * 3 + 10 * 50),
        ({"input": 3, "output": 50, "cache_write": 7}, 800 * 3 + 200 * 7 + 10 * 50),
        ({"input": 3, "output": 50, "cache_write_1h": 9}, 950 * 3 + 50 * 9 + 10 * 50),
        ({"input": 3, "output": 50, "cached_input": 1, "cache_write": 7, "cache_write_1h": 9},
         500 * 3 + 300 + 150 * 7 + 50 * 9 + 10 * 50),
    ],
)  # fmt: skip
def test_what_is_written_for_an_hour_has_its_own_rate(rates: dict[str, int], amount: int) -> None:
    assert at_rates({kind: Decimal(rate) for kind, rate in rates.items()}, HOURS) == Decimal(amount) / 10**6


def test_what_is_written_for_an_hour_is_priced_and_named_only_where_it_was_written() -> None:
    opus = Candidate("anthropic", "claude-opus-5-5")
    cost = pricing().cost(opus, HOURS)
    rates = dict(cost.rates)
    assert rates["cache_write_1h"] == 2 * rates["input"]
    assert cost.amount == at_rates(rates, HOURS)
    assert "cache_write_1h" not in dict(pricing().cost(opus, MIXED).rates)  # no call of ours writes any: no bound
    assert pricing().bound(opus, 1000, 0) == 1000 * rates["cache_write"] / 10**6


@pytest.mark.parametrize(
    ("usage", "saved"),
    [
        (Usage(1000, 10), 0),
        (Usage(1000, 10, cached_input_tokens=300), 300 * 2),
        (Usage(1000, 10, cache_write_tokens=200), -200 * 4),
        (Usage(1000, 10, cache_write_tokens=200, cache_write_1h_tokens=50), -150 * 4 - 50 * 6),
        (HOURS, 300 * 2 - 150 * 4 - 50 * 6),
    ],
)
def test_a_providers_cache_saves_or_costs(usage: Usage, saved: int) -> None:
    rates = {"input": 3, "output": 50, "cached_input": 1, "cache_write": 7, "cache_write_1h": 9}
    assert saved_by_cache({kind: Decimal(rate) for kind, rate in rates.items()}, usage) == Decimal(saved) / 10**6
    assert saved_by_cache({}, usage) == 0  # of an unknown price nothing is known
