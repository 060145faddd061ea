"""Dollars: exact, sourced, and never guessed."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import genai_prices
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipyrouter import config
from ipyrouter.money import age, dollars, seconds
from ipyrouter.pricing import Pricing, at_rates
from ipyrouter.types import Candidate, Usage


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
    found = pricing(**own)._look_up("groq", "llama-3.1-8b-instant")
    assert found is not None
    assert found.provider.id == "groq"


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


def test_a_tier_without_a_price_is_told_with_file_and_key() -> None:
    settings = {
        "providers": {"acme": {"sdk": "openai", "base_url": "http://127.0.0.1:1/v1"}},
        "tiers": {"fast": {"chain": ["acme/small"]}},
    }
    (line,) = pricing(**settings).unpriced()
    assert line.startswith(
        "arguments: tiers.fast.chain: no price is known for 'acme/small'. Add [prices.\"acme/small\"]"
    )


@pytest.mark.parametrize(
    ("amount", "said"),
    [
        (None, "price unknown"),
        (float("nan"), "price unknown"),
        (Decimal(0), "$0"),
        (Decimal("0E-12"), "$0"),
        (Decimal("1234.5"), "$1,234.50"),
        (Decimal("0.42"), "$0.42"),
        (Decimal("0.0421"), "$0.042"),
        (Decimal("0.0001234"), "$0.00012"),
        (Decimal("1E-30"), "less than $1E-12"),
    ],
)
def test_dollars(amount: Decimal | float | None, said: str) -> None:
    assert dollars(amount) == said


def test_age() -> None:
    assert [age(s) for s in (-1, 0.5, 59.9, 60, 7199, 86_400, 200_000)] == [
        "0 s", "0 s", "59 s", "1 min", "1 h", "1 day", "2 days",
    ]  # fmt: skip


def test_seconds() -> None:
    assert [seconds(s) for s in (0.0004, 0.32, 1.24, 75)] == ["0.4 ms", "320 ms", "1.2 s", "75 s"]
