"""Routing quality beside prompt length, the article's rules and, if installed, litellm's complexity router.

Every figure is of rows that the model in question was not trained on: a fifth of each file is held back for the figures
in domain, a whole file for those out of domain, the third of our own requests for those of a notebook. Needs the extra
`training` and the shared data. Intervals are 95 % bootstrap intervals.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.timing import fresh, percentile
from ipyrouter import config
from ipyrouter.classifier import model, rules
from ipyrouter.classifier.learn import fit
from training import data
from training.train import train, typos, write

_DRAWS = 300
_NAMES = ("fast", "mid", "power")
Difficulty = Callable[[str], float]


def main() -> None:
    """Print all figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=data.SHARED)
    folder: Path = parser.parse_args().data
    files = {name: data.outcomes(name, folder) for name in data.PAIRS}
    labelled = data.uncommon(folder)
    held = {name: np.arange(0, len(part.prompts), 5) for name, part in files.items()}
    held["uncommonroute"] = np.arange(0, len(labelled.prompts), 5)
    ours = _trained(folder, hold=held)
    baselines = _baselines()

    print("\n## Tier agreement, three tiers")
    rows = held["uncommonroute"]
    _agreement("UncommonRoute, unseen", [labelled.prompts[i] for i in rows], labelled.tiers[rows], ours, baselines)
    own = data.notebook(held_back=True)
    _agreement("notebook requests, unseen", own.prompts, own.tiers, ours, baselines)
    for author in ("first", "a", "b", "c"):
        part = data.notebook(author=author)
        without = _trained(folder, author=author)
        _agreement(f"notebook requests of an author never seen ({author})", part.prompts, part.tiers, without, {})
    noisy = [typos(prompt, 1000 + i) for i, prompt in enumerate(own.prompts)]
    same = np.mean([_tier(ours, a) == _tier(ours, b) for a, b in zip(own.prompts, noisy, strict=True)])
    print(f"same tier under typos: {same:.3f}")

    print("\n## APGR in domain (a fifth held back)")
    for name, part in files.items():
        rows = held[name]
        _gaps(name, [part.prompts[i] for i in rows], part.weak[rows], part.strong[rows], ours, baselines)

    print("\n## APGR out of domain (the whole file left out of the training), and after learn() on half of it")
    for name, part in files.items():
        without = _trained(folder, leave_out=[name])
        _gaps(name, part.prompts, part.weak, part.strong, without, baselines)
        _learned(part, without)

    print("\n## Speed")
    _speed(files["mmlu"].prompts)


def _trained(folder: Path, **options: Any) -> Difficulty:
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "weights.bin"
        write(path, *train(folder, **options))
        trained = model.Model(path)
    return lambda prompt: trained.difficulty(trained.scores(prompt))[0]


def _baselines() -> dict[str, Difficulty]:
    signals = config.load(environ={}).signals
    found: dict[str, Difficulty] = {
        "prompt length": lambda prompt: min(len(prompt) / 5000, 1.0),
        "article's rules": lambda prompt: rules.classify(prompt, signals).difficulty,
    }
    try:
        from litellm import Router
        from litellm.router_strategy.complexity_router.complexity_router import ComplexityRouter
    except ImportError:
        print("litellm's complexity router is not installed")
        return found
    complexity = ComplexityRouter(model_name="auto", litellm_router_instance=Router(model_list=[]))
    found["litellm complexity router"] = lambda prompt: float(complexity.classify(prompt)[1])
    return found


def _tier(difficulty: Difficulty, prompt: str) -> int:
    return _NAMES.index(model.tier_of(difficulty(prompt), model.FAST_BELOW, model.POWER_ABOVE))


def _agreement(title: str, prompts: list[str], tiers: Any, ours: Difficulty, baselines: dict[str, Difficulty]) -> None:
    print(f"{title} ({len(prompts)} rows)")
    for name, difficulty in {"ipyrouter": ours, **baselines}.items():
        said = np.array([_tier(difficulty, prompt) for prompt in prompts])
        low, high = _interval(lambda pick, said=said: np.mean(said[pick] == tiers[pick]), len(prompts))  # type: ignore[misc]
        shares = [float(np.mean(said == tier)) for tier in range(3)]
        down = float(np.mean(said[tiers == 2] == 0))
        print(
            f"  {name:<26} {np.mean(said == tiers):.3f} [{low:.3f}, {high:.3f}]  power sent to fast {down:.3f}  "
            f"shares {' '.join(f'{share:.2f}' for share in shares)}  entropy {_entropy(shares):.2f} bit"
        )


def _gaps(
    name: str, prompts: list[str], weak: Any, strong: Any, ours: Difficulty, baselines: dict[str, Difficulty]
) -> None:
    print(f"{name} ({len(prompts)} rows)")
    for title, difficulty in {"ipyrouter": ours, **baselines}.items():
        values = np.array([difficulty(prompt) for prompt in prompts])
        low, high = _interval(
            lambda pick, values=values: data.apgr(values[pick], weak[pick], strong[pick]),  # type: ignore[misc]
            len(prompts),
        )
        tiers = [model.tier_of(value, model.FAST_BELOW, model.POWER_ABOVE) for value in values]
        shares = [tiers.count(tier) / len(tiers) for tier in _NAMES]
        print(
            f"  {title:<26} {data.apgr(values, weak, strong):.3f} [{low:.3f}, {high:.3f}]  "
            f"shares {' '.join(f'{share:.2f}' for share in shares)}  entropy {_entropy(shares):.2f} bit"
        )


def _learned(part: data.Outcomes, difficulty: Difficulty) -> None:
    """Teach the left-out file's first half as outcomes of fast and power, judge on the other half."""
    first, second = np.arange(0, len(part.prompts), 2), np.arange(1, len(part.prompts), 2)
    rows = [(part.prompts[i], "fast", part.weak[i]) for i in first]
    rows += [(part.prompts[i], "power", part.strong[i]) for i in first]
    started = time.perf_counter()
    lesson = fit(rows, difficulty)
    taken = time.perf_counter() - started
    before = np.array([difficulty(part.prompts[i]) for i in second])
    after = np.array([lesson.adjust(part.prompts[i], value) for i, value in zip(second, before, strict=True)])
    weak, strong = part.weak[second], part.strong[second]
    print(
        f"  after learn on half        {data.apgr(after, weak, strong):.3f}, "
        f"before {data.apgr(before, weak, strong):.3f} ({len(rows)} rows in {taken:.1f} s)"
    )


def _interval(value: Callable[[Any], Any], size: int) -> tuple[float, float]:
    chance = np.random.default_rng(0)
    drawn = [float(value(chance.integers(0, size, size))) for _ in range(_DRAWS)]
    return float(np.quantile(drawn, 0.025)), float(np.quantile(drawn, 0.975))


def _entropy(shares: list[float]) -> float:
    return float(-sum(share * np.log2(share) for share in shares if share > 0))


def _speed(prompts: list[str]) -> None:
    model.classify("warm")
    taken = []
    for prompt in prompts:
        started = time.perf_counter()
        model.classify(prompt)
        taken.append((time.perf_counter() - started) * 1000)
    middle, high = percentile(taken, 0.5), percentile(taken, 0.99)
    print(f"MMLU-length prompts, each seen once: p50 {middle:.3f} ms, p99 {high:.3f} ms")
    long = (" ".join(prompts) * 2)[:100_000]
    many = []
    for number in range(20):
        started = time.perf_counter()
        model.classify(f"{number} {long}")
        many.append((time.perf_counter() - started) * 1000)
    print(f"100,000 characters: median {statistics.median(many):.2f} ms, worst {max(many):.2f} ms")
    first = fresh(
        "import time\nstarted = time.perf_counter()\n"
        "from ipyrouter.classifier.model import classify\nclassify('What is a list?')\n"
        "print((time.perf_counter() - started) * 1000)"
    )
    print(f"first call in a process, imports and weights included: {float(first):.1f} ms")


if __name__ == "__main__":
    main()
