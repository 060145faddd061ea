"""The article's experiment: all power, all mid, router, router + cache, for 1,000 mixed development requests.

The article claims $47.20, $12.80, $8.40, $5.60 and 3.2, 1.8, 1.1, 0.4 s, and tells neither its requests nor its token
counts. Here the requests are of our own making (workload.py), the models' token counts and latencies are drawn from
stated distributions (models.py), and everything between is real: the router, the openai SDK, HTTP to a server in a
process of its own, genai-prices. The server sleeps a fraction of the drawn times; a latency here is the drawn time plus
what the router, the SDK and HTTP really took on top. So costs and latencies stand and fall with the distributions;
ratios depend on them less.

The article's models are run as if none was retired: the dates are overridden in the config.
"""

from __future__ import annotations

import argparse
import datetime as dt
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from benchmarks import models, workload
from benchmarks.timing import ROOT
from ipyrouter.config import load
from ipyrouter.pricing.prices import Pricing
from ipyrouter.router import Router
from ipyrouter.types import TIERS, Answer

CLAIMED = {"all power": (47.20, 3.2), "all mid": (12.80, 1.8), "router": (8.40, 1.1), "router + cache": (5.60, 0.4)}
_SEED = 20261124
_STRATEGIES: dict[str, dict[str, Any]] = {
    "all power": {"tier": "power", "cache": "off", "escalate": False},
    "all mid": {"tier": "mid", "cache": "off", "escalate": False},
    "router": {"cache": "off"},
    "router + cache": {},
}


@dataclass(frozen=True, slots=True)
class Result:
    """What a strategy came to: dollars, mean seconds per request, and how its requests went."""

    cost: Decimal
    latency: float
    overhead: float
    tiers: Counter[str]
    cached: int
    escalated: int
    too_weak: int


def main() -> None:
    """Print all figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument(
        "--scale", type=float, default=0.001, help="share of the drawn latencies that the server sleeps"
    )
    parser.add_argument("--hard", type=float, default=workload.HARD, help="share of the requests that need power")
    options = parser.parse_args()
    tasks = workload.requests(options.requests, _SEED, options.hard)
    _say_assumptions(tasks, options.scale)
    figures = map(str, (options.requests, _SEED, options.hard, options.scale))
    command = [sys.executable, "-m", "benchmarks.models", *figures]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert process.stdout is not None
    try:
        # OpenAI's own entry, at the address of the server; a stranger's address has no prices of its own.
        prices = {preset: _prices(preset) for preset in ("article", "current")}
        os.environ |= {"OPENAI_BASE_URL": process.stdout.readline().strip() + "/v1", "OPENAI_API_KEY": "none"}
        for preset, mode in (("article", "rules"), ("article", "learned"), ("current", "learned")):
            _compare(preset, mode, prices[preset], tasks, options.scale)
        del os.environ["OPENAI_BASE_URL"]
    finally:
        process.kill()
    _say_implied()


def _say_assumptions(tasks: list[workload.Task], scale: float) -> None:
    needs = Counter(task.needs for task in tasks)
    new = len({task.prompt for task in tasks})
    size = sum(len(task.prompt) for task in tasks) / len(tasks) / models.CHARACTERS
    print(f"{len(tasks)} requests, seed {_SEED}: " + ", ".join(f"{needs[tier]} need {tier}" for tier in TIERS))
    print(f"{len(tasks) - new} of them repeat an earlier one; {size:.0f} input tokens on average")
    print("assumed output tokens (median, sigma of the logarithm) by what a request needs:", models.ANSWER)
    for name, profile in models.PROFILES.items():
        print(
            f"assumed {name}: {profile.first} s to the first token, {profile.speed:.0f} tokens/s, writes "
            f"{profile.length:g} x the median, {profile.weak:.0%} weak answers"
        )
    print(f"the server sleeps {scale:g} of the drawn times; the rest is added in the print")


def _prices(preset: str) -> dict[str, dict[str, float]]:
    """Return genai-prices' rates of a preset's models, in $ per million tokens; no request here has a long context."""
    config = load({"preset": preset}, environ={})
    candidates = {candidate for tier in config.tiers.values() for candidate in tier.chain}
    rates = {str(candidate): Pricing(config).rates(candidate) for candidate in candidates}
    return {name: {kind: float(rate) for kind, rate in known.items()} for name, known in rates.items()}


def _compare(
    preset: str, mode: str, prices: dict[str, dict[str, float]], tasks: list[workload.Task], scale: float
) -> None:
    # Nothing is retired in this experiment: the article's models are called as when it was written.
    in_service = dict.fromkeys(load({"preset": preset}, environ={}).retired, dt.date(2100, 1, 1))
    settings = {"preset": preset, "routing": {"mode": mode}, "retired": in_service, "prices": prices}
    print(f"\n## preset {preset}, mode {mode}")
    print(
        f"{'':<16}{'cost':>9}{'article':>9}{'of power':>10}{'article':>9}{'latency':>10}{'article':>9}{'of power':>10}"
        f"{'article':>9}  tiers fast/mid/power, cached, escalated, hard ones answered by fast, overhead"
    )
    results: dict[str, Result] = {}
    for name, options in _STRATEGIES.items():
        result = results[name] = _run(settings, options, tasks, scale)
        whole, (cost, latency) = results["all power"], CLAIMED[name]
        print(
            f"{name:<16}{f'${result.cost:.2f}':>9}{f'${cost:.2f}':>9}{result.cost / whole.cost:>10.3f}"
            f"{cost / CLAIMED['all power'][0]:>9.3f}{f'{result.latency:.2f} s':>10}{f'{latency} s':>9}"
            f"{result.latency / whole.latency:>10.3f}{latency / CLAIMED['all power'][1]:>9.3f}  "
            f"{'/'.join(str(result.tiers[tier]) for tier in TIERS)}, {result.cached}, {result.escalated}, "
            f"{result.too_weak}, {result.overhead * 1000:.1f} ms",
            flush=True,
        )


def _run(settings: dict[str, Any], options: dict[str, Any], tasks: list[workload.Task], scale: float) -> Result:
    cost, model_total, overhead = Decimal(0), 0.0, 0.0
    tiers: Counter[str] = Counter()
    cached = escalated = too_weak = 0
    with tempfile.TemporaryDirectory() as home:
        router = Router(settings, home=home)
        for task in tasks:
            started = time.perf_counter()
            answer = router.route(task.prompt, **options)
            elapsed = time.perf_counter() - started
            model_seconds = 0.0 if answer.cached else _model_seconds(router, task, answer)
            model_total += model_seconds
            overhead += elapsed - model_seconds * scale
            assert answer.cost is not None
            cost += answer.cost
            tiers[answer.tier] += 1
            cached += answer.cached
            escalated += answer.escalated_from is not None
            too_weak += task.needs == "power" and answer.tier == "fast"
        router.close()
    count = len(tasks)
    return Result(cost, (model_total + overhead) / count, overhead / count, tiers, cached, escalated, too_weak)


def _model_seconds(router: Router, task: workload.Task, answer: Answer) -> float:
    """Return the seconds that the models would have taken for all attempts."""
    limits = {name: tier.max_output_tokens for name, tier in router.config.tiers.items()}
    return sum(models.draw(a.candidate.model, task, limits[a.tier]).total for a in answer.attempts)


def _say_implied() -> None:
    """Print what the article's own figures imply."""
    config = load({"preset": "article"}, environ={})
    rates = {tier: Pricing(config).rates(config.tiers[tier].chain[0]) for tier in ("power", "mid")}
    print("\n## What the article's figures imply, at its own models' prices")
    for tier, name in (("power", "all power"), ("mid", "all mid")):
        cost, latency = CLAIMED[name]
        tokens = cost / 1000 / float(rates[tier]["output"]) * 1e6
        print(f"{name}: ${cost / 1000:.4f} per request is at most {tokens:,.0f} output tokens, in {latency} s: "
              f"{tokens / latency:,.0f} tokens/s")  # fmt: skip
    dearer = max(float(rates["power"][kind] / rates["mid"][kind]) for kind in ("input", "output"))
    print(f"power costs at most {dearer:.2f} x mid for the same tokens; the article says "
          f"{CLAIMED['all power'][0] / CLAIMED['all mid'][0]:.2f} x")  # fmt: skip
    (cost, latency), (cheaper, sooner) = CLAIMED["router"], CLAIMED["router + cache"]
    print(f"its cache saves {1 - cheaper / cost:.0%} of the cost and {1 - sooner / latency:.0%} of the time")


if __name__ == "__main__":
    main()
