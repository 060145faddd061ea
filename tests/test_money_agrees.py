"""One log, made at random through the real router: report, panel, log and answers must say the same of its money."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable
from decimal import Decimal

import pytest

from ipyrouter.errors import NoModelError, RouteError
from ipyrouter.notebook.panel.figures import Sums, gather
from ipyrouter.pricing.prices import at_rates
from ipyrouter.reporting.log import exact
from ipyrouter.router import Router
from ipyrouter.store.base import LogFilter
from ipyrouter.text.amounts import dollars
from ipyrouter.types import TIERS, Answer, Attempt

MakeRouter = Callable[..., Router]
BEHAVIOURS = ("ok", "short", "refusal", "no-usage", "length", "status-500", "stream-end", "stream-reset", "empty",
              "tool-calls", "malformed", "halves", "none-content")  # fmt: skip
SOON = {"connect": 1, "first_byte": 1, "idle": 1, "total": 1}  # no long wait before the last candidate's second try
PROMPTS = ("What is {}?", "Design a system architecture for {}", "Return only JSON for {}", "Explain merging {0} " * 20)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_all_sums_agree(make_router: MakeRouter, seed: int) -> None:
    chance = random.Random(seed)
    chains = {
        tier: [f"{chance.choice('oa')}/{chance.choice(BEHAVIOURS)}@{tier}{n}" for n in range(chance.randint(1, 3))]
        for tier in TIERS
    }
    names = [name for chain in chains.values() for name in chain if seed % 2 or chance.random() < 0.7]
    prices = {name: {"input": chance.choice([0.1, 1, 3.333333]), "output": 10} for name in names}
    router = make_router(**chains, stream=bool(chance.getrandbits(1)), prices=prices, deadlines=SOON)
    answers: list[Answer] = []
    router.listeners.append(answers.append)
    for _ in range(25):
        with contextlib.suppress(RouteError, NoModelError):
            prompt = chance.choice(PROMPTS).format(chance.randint(0, 4))
            router.route(prompt, cache=chance.choice(["use", "use", "refresh", "off"]))
    log, report = router.log(), router.report(span="all")
    panel = gather(router, Sums(router.store, LogFilter()), "all")
    costs = [attempt.cost.amount for answer in answers for attempt in answer.attempts]
    summed = sum((cost for cost in costs if cost is not None), Decimal(0))
    assert panel.spent == report.total == exact(log["cost_pico"]) == sum(report.models["cost"]) == summed
    assert panel.unpriced == report.unpriced == costs.count(None)
    assert (panel.saved, panel.unsaved) == (report.saved, report.unsaved)
    assert (panel.calls, panel.hits, panel.rows) == (report.calls, report.cache_hits, len(log))
    assert all(panel.tiers[tier] == report.tiers["cost"].get(tier, 0) for tier in TIERS)
    assert all(panel.tier_calls[tier] == report.tiers["calls"].get(tier, 0) for tier in TIERS)
    assert dict(panel.cards())["spent"] == report.spent
    compared = router.compare()
    answered = [(answer, final) for answer in answers if (final := answer_of(answer)) is not None]
    power = router.config.tiers["power"].chain[0]
    if not (rates := router.pricing.rates(power)):
        assert compared.loc["all power", ["cost", "unpriced"]].isna().tolist() == [True, False]
        assert compared.loc["all power", "unpriced"] == len(answered)
        assert panel.against_power is None
        return
    at_power = [at_rates(rates, final.usage) for _, final in answered]
    assert compared.loc["all power", "cost"] == pytest.approx(float(sum(at_power)))
    assert compared.loc["all power", ["calls", "unpriced"]].tolist() == [len(answered), 0]
    priced = [answer for answer in answers if answer.cost is not None]
    own = sum((answer.cost for answer in priced if answer.cost), Decimal(0))
    known = [cost for (answer, _), cost in zip(answered, at_power, strict=True) if answer.cost is not None]
    assert panel.against_power == sum(known, Decimal(0)) - own
    assert panel.not_compared == len(answered) - len(known)
    ends = [attempt.cost.amount for answer, _ in answered for attempt in answer.attempts if attempt.status != "cached"]
    assert compared.loc["router + cache", ["calls", "unpriced"]].tolist() == [len(ends), ends.count(None)]
    if any(ends):
        expected = float(sum((cost for cost in ends if cost is not None), Decimal(0)))
        assert compared.loc["router + cache", "cost"] == pytest.approx(expected)


def answer_of(answer: Answer) -> Attempt | None:
    """Return the attempt that answered a request, None where none did."""
    if any(attempt.status == "interrupted" for attempt in answer.attempts):
        return None
    attempts = [attempt for attempt in answer.attempts if attempt.status in ("ok", "weak", "refused", "cached")]
    return attempts[-1] if attempts else None


def test_one_unpriced_call_blanks_nothing(make_router: MakeRouter) -> None:
    """Panel and comparison say the same of all power, and "at least" of what is unknown."""
    prices = {"o/ok": {"input": 1, "output": 10, "cached_input": 0.5}, "a/ok": {"input": 5, "output": 50}}
    router = make_router(mid=["o/ok"], power=["a/ok"], prices=prices)
    for number in range(3):
        router.route(f"Explain closures {number}")
    whole = gather(router, Sums(router.store, LogFilter()), "all")
    all_power = router.compare().loc["all power", "cost"]
    assert whole.against_power is not None
    assert float(whole.against_power + whole.spent) == pytest.approx(all_power)
    router.route("Explain generators", model="o/ok@unpriced")
    partly = gather(router, Sums(router.store, LogFilter()), "all")
    assert (partly.against_power, partly.not_compared) == (whole.against_power, 1)
    cards = dict(partly.cards())
    assert cards["saved against all power"] == f"at least {dollars(whole.against_power)}, 1 request unpriced"
    compared = router.compare()
    assert compared.loc["router", "cost"] == pytest.approx(float(whole.spent))
    assert compared["unpriced"].tolist() == [0, 0, 1, 1]
    assert compared.loc["all power", "cost"] == pytest.approx(all_power * 4 / 3)  # the same tokens once more
