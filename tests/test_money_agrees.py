"""One log, made at random through the real router: report, panel, log and answers must say the same of its money."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable
from decimal import Decimal

import pytest

from ipyrouter.errors import NoModelError, RouteError
from ipyrouter.log import exact
from ipyrouter.notebook import summary
from ipyrouter.router import Router
from ipyrouter.store.base import LogFilter
from ipyrouter.types import TIERS, Answer

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
    panel = summary.gather(router, summary.Sums(router.store, LogFilter()), "all")
    costs = [attempt.cost.amount for answer in answers for attempt in answer.attempts]
    told = sum((cost for cost in costs if cost is not None), Decimal(0))
    assert panel.spent == report.total == exact(log["cost_pico"]) == sum(report.models["cost"]) == told
    assert panel.unpriced == report.unpriced == costs.count(None)
    assert (panel.saved, panel.unsaved) == (report.saved, report.unsaved)
    assert (panel.calls, panel.hits, panel.rows) == (report.calls, report.cache_hits, len(log))
    assert all(panel.tiers[tier] == report.tiers["cost"].get(tier, 0) for tier in TIERS)
    assert all(panel.tier_calls[tier] == report.tiers["calls"].get(tier, 0) for tier in TIERS)
    assert dict(panel.cards())["spent"] == report.spent
