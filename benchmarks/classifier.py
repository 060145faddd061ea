"""Routing quality beside prompt length, the article's rules and, if installed, litellm's complexity router.

Every figure is of rows that the weights were not trained on. The shipped weights never saw a fifth of each shared
file, a third of our own requests, and the authors of the final test, on whom nothing was ever chosen. With --left-out,
others are trained without a whole file, for the figures out of domain, or without some authors or languages of our own
(hours, and it needs the extra `training`). Prompt length gets the thresholds that agree best with the training rows of
the same kind; litellm's router names its own tiers. Needs the shared data. Intervals are 95 % bootstrap intervals.
"""

from __future__ import annotations

import argparse
import functools
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.timing import fresh, percentile
from ipyrouter import config
from ipyrouter.classifier import model, rules
from ipyrouter.classifier.learn import Outcome, fit
from ipyrouter.types import TIERS
from training import confidence, data
from training.perturb import KINDS

_DRAWS = 300
_FIRST_CALLS = 10
_LITELLM_TIERS = {"SIMPLE": 0, "MEDIUM": 1, "COMPLEX": 2, "REASONING": 2}
Difficulty = Callable[[str], float]
ToTier = Callable[[str], int]
_EVERYDAY = (
    "How do I read a CSV with pandas?",
    "what is the difference between loc and iloc",
    "Sort df by date, newest first",
    "Make the x labels of this plot vertical",
    "Write a docstring for this function",
    "Wie lösche ich doppelte Zeilen?",
    "Group sales by month and region, fill the gaps with 0 and plot the three largest regions",
    "Which test should I use to compare two small, skewed groups?",
    "Explain why this join returns more rows than the left table",
    "Find out why the training loss becomes NaN after 3,000 steps only on two GPUs",
    "Design a pipeline that deduplicates a billion events a day with late data and no double counting",
    "Prove that this estimator is unbiased and attains the Cramér-Rao bound",
)
"""Made up for the eye: what a user might ask on any day, from simple to hard."""


def main() -> None:
    """Print all figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=data.SHARED)
    parser.add_argument("--left-out", action="append", choices=("files", "authors", "languages"), default=[])
    parser.add_argument("--speed", action="store_true", help="print the figures of speed alone")
    options = parser.parse_args()
    folder: Path = options.data
    if options.speed:
        _speed(data.outcomes("mmlu", folder).prompts)
        return
    shipped = _difficulty(model.shipped())

    print("\n## Tier agreement, three tiers")
    length = _by_length(data.uncommon(folder, held_back=False))
    _agreement("UncommonRoute, the fifth held back", data.uncommon(folder, held_back=True), shipped, length)
    own, length = data.notebook(held_back=True), _by_length(data.notebook(held_back=False))
    _agreement("notebook requests, the third held back", own, shipped, length)
    for group, languages in data.LANGUAGES.items():
        part = data.notebook(keep=lambda row, languages=languages: row["language"] in languages, held_back=True)  # type: ignore[misc]
        _agreement(f"of these: {group}", part, shipped, length)
    for author in data.FINAL:
        _agreement(f"final test: author {author}, never seen", data.final(author), shipped, length)
    _stability(shipped, own.prompts)
    _exam_stability(shipped, folder)
    _calibration(own)
    print("everyday prompts (by eye):")
    for prompt in _EVERYDAY:
        print(f"  {shipped(prompt):.2f} {TIERS[_tier(shipped, prompt)]:<5} {prompt}")

    print("\n## APGR in domain (a fifth held back)")
    for name in data.PAIRS:
        _gaps(name, data.outcomes(name, folder, held_back=True), shipped)
    print("\n## Speed")
    _speed(data.outcomes("mmlu", folder).prompts)

    if options.left_out:
        _others(options.left_out, folder)


def _others(left_out: Sequence[str], folder: Path) -> None:
    """Train without some of the data, and print the figures of what was left out."""
    from training.train import school, train  # torch, which only training needs

    if "files" in left_out:
        print("\n## APGR out of domain (the whole file left out of the training), and after learn() on half of it")
        schooling = school(folder)
        for name in data.PAIRS:
            outcomes, without = data.outcomes(name, folder), _model_of(train(schooling, leave_out=[name]))
            _gaps(name, outcomes, _difficulty(without))
            _learned(outcomes, without)
    groups: dict[str, dict[str, tuple[str, tuple[str, ...]]]] = {
        "authors": {f"author {author}": ("author", (author,)) for author in data.JUDGES},
        "languages": {group: ("language", languages) for group, languages in data.LANGUAGES.items()},
    }
    for kind in left_out:
        for title, (key, names) in groups.get(kind, {}).items():
            part = data.notebook(keep=lambda row, key=key, names=names: row[key] in names)  # type: ignore[misc]
            others = data.notebook(
                keep=lambda row, key=key, names=names: row[key] not in names,  # type: ignore[misc]
                held_back=False,
                paraphrased=True,
            )
            ranking = _difficulty(_model_of(train(school(folder, own=others))))
            _agreement(f"notebook requests, left out of the training: {title}", part, ranking, _by_length(others))


def _model_of(arrays: Mapping[str, Any]) -> model.Model:
    from training.train import write

    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "weights.npz"
        write(path, arrays)
        return model.Model(path)


def _difficulty(trained: model.Model) -> Difficulty:
    return lambda prompt: trained.difficulty(trained.read(prompt))


@functools.cache
def _baselines() -> dict[str, Difficulty]:
    signals = config.load(environ={}).signals
    rankings: dict[str, Difficulty] = {
        "prompt length": len,
        "article's rules": lambda prompt: rules.classify(prompt, signals).difficulty,
    }
    if (complexity := _litellm()) is not None:
        rankings["litellm complexity router"] = lambda prompt: float(complexity.classify(prompt)[1])
    return rankings


@functools.cache
def _litellm() -> Any:
    """Return litellm's complexity router; None if it is not installed."""
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # no download of prices
    try:
        from litellm import Router
        from litellm.router_strategy.complexity_router.complexity_router import ComplexityRouter
    except ImportError:
        print("litellm's complexity router is not installed")
        return None
    return ComplexityRouter(model_name="auto", litellm_router_instance=Router(model_list=[]))


def _by_length(known: data.Labelled) -> ToTier:
    """Return the tier by length, with the two thresholds that agree best with these prompts' tiers."""
    lengths = np.array([len(prompt) for prompt in known.prompts])
    steps = np.unique(np.quantile(lengths, np.linspace(0, 1, 60)))
    _, low, high = max(
        (float(np.mean(((lengths >= low).astype(int) + (lengths >= high)) == known.tiers)), low, high)
        for low in steps
        for high in steps
        if low <= high
    )
    return lambda prompt: int(len(prompt) >= low) + int(len(prompt) >= high)


def _tier(difficulty: Difficulty, prompt: str) -> int:
    return TIERS.index(model.tier_of(difficulty(prompt), model.FAST_BELOW, model.POWER_ABOVE))


def _agreement(title: str, part: data.Labelled, ours: Difficulty, length: ToTier) -> None:
    signals = config.load(environ={}).signals
    rivals: dict[str, ToTier] = {
        "ipyrouter": lambda prompt: _tier(ours, prompt),
        "prompt length": length,
        "article's rules": lambda prompt: TIERS.index(rules.classify(prompt, signals).tier),
    }
    if (complexity := _litellm()) is not None:
        rivals["litellm complexity router"] = lambda prompt: _LITELLM_TIERS[complexity.classify(prompt)[0].value]
    print(f"{title} ({len(part.prompts)} rows)")
    for name, tier in rivals.items():
        chosen = np.array([tier(prompt) for prompt in part.prompts])
        right = chosen == part.tiers
        low, high = _interval(lambda pick, right=right: np.mean(right[pick]), len(right))  # type: ignore[misc]
        shares = [float(np.mean(chosen == tier)) for tier in range(3)]
        down = float(np.mean(chosen[part.tiers == 2] == 0))
        print(
            f"  {name:<26} {np.mean(right):.3f} [{low:.3f}, {high:.3f}]  power sent to fast {down:.3f}  "
            f"shares {' '.join(f'{share:.2f}' for share in shares)}  entropy {_entropy(shares):.2f} bit"
        )


def _exam_stability(ours: Difficulty, folder: Path) -> None:
    for name in data.PAIRS:
        print(f"{name}, the fifth held back:")
        _stability(ours, data.outcomes(name, folder, held_back=True).prompts, paraphrased=False)


def _calibration(own: data.Labelled) -> None:
    """Print by how much the confidence is off."""
    sure, right = confidence.measure(model.shipped(), own)
    print("expected calibration error of the confidence:")
    print(f"  held back, the half that it was not measured on: {confidence.error(sure[1::2], right[1::2]):.3f}")
    for author in data.FINAL:
        print(f"  author {author}: {confidence.error(*confidence.measure(model.shipped(), data.final(author))):.3f}")


def _stability(ours: Difficulty, prompts: list[str], *, paraphrased: bool = True) -> None:
    """Print how often the tier stays under changes that mean nothing, and how often it moves by two tiers."""
    kinds = {
        **{
            kind: [(prompt, change(prompt, 1000 + number)) for number, prompt in enumerate(prompts)]
            for kind, change in KINDS.items()
        },
    }
    if paraphrased:
        kinds |= {"paraphrase": data.paraphrases(), "paraphrase, author z": data.paraphrases("z")}
    for kind, pairs in kinds.items():
        moved = np.array([abs(_tier(ours, one) - _tier(ours, other)) for one, other in pairs])
        low, high = _interval(lambda pick, moved=moved: np.mean(moved[pick] == 0), len(moved))  # type: ignore[misc]
        print(
            f"same tier under {kind}: {np.mean(moved == 0):.3f} [{low:.3f}, {high:.3f}], "
            f"moved by two tiers {np.mean(moved == 2):.3f} ({len(moved)} pairs)"
        )


def _gaps(name: str, part: data.Outcomes, ours: Difficulty) -> None:
    print(f"{name} ({len(part.prompts)} rows)")
    weak, strong = part.weak, part.strong
    rankings = {
        title: np.array([float(rank(prompt)) for prompt in part.prompts]) for title, rank in _baselines().items()
    }
    rankings = {"ipyrouter": np.array([ours(prompt) for prompt in part.prompts]), **rankings}
    for title, values in rankings.items():
        low, high = _interval(
            lambda pick, values=values: data.apgr(values[pick], weak[pick], strong[pick]),  # type: ignore[misc]
            len(values),
        )
        line = f"  {title:<26} {data.apgr(values, weak, strong):.3f} [{low:.3f}, {high:.3f}]"
        if title == "ipyrouter":
            tiers = [model.tier_of(value, model.FAST_BELOW, model.POWER_ABOVE) for value in values]
            shares = [tiers.count(tier) / len(tiers) for tier in TIERS]
            line += f"  shares {' '.join(f'{share:.2f}' for share in shares)}  entropy {_entropy(shares):.2f} bit"
        print(line)
    # Both on the same drawn rows: two intervals that overlap do not show that a difference is noise.
    one, other = rankings["ipyrouter"], rankings["prompt length"]
    apart = data.apgr(one, weak, strong) - data.apgr(other, weak, strong)
    low, high = _interval(
        lambda pick: data.apgr(one[pick], weak[pick], strong[pick]) - data.apgr(other[pick], weak[pick], strong[pick]),
        len(one),
    )
    print(f"  ipyrouter less length      {apart:+.3f} [{low:+.3f}, {high:+.3f}]")


def _learned(part: data.Outcomes, network: model.Model) -> None:
    """Teach the left-out file's first half as outcomes of fast and power, judge on the other half."""
    first, second = np.arange(0, len(part.prompts), 2), np.arange(1, len(part.prompts), 2)
    rows = [Outcome(part.prompts[i], "fast", part.weak[i]) for i in first]
    rows += [Outcome(part.prompts[i], "power", part.strong[i]) for i in first]
    started = time.perf_counter()
    lesson = fit(rows, network)
    elapsed = time.perf_counter() - started
    before = np.array([_difficulty(network)(part.prompts[i]) for i in second])
    after = np.array([lesson.adjust(part.prompts[i], value, network) for i, value in zip(second, before, strict=True)])
    weak, strong = part.weak[second], part.strong[second]
    print(
        f"  after learn on half        {data.apgr(after, weak, strong):.3f}, "
        f"before {data.apgr(before, weak, strong):.3f} ({len(rows)} rows in {elapsed:.1f} s)"
    )


def _interval(value: Callable[[Any], Any], size: int) -> tuple[float, float]:
    chance = np.random.default_rng(0)
    drawn = [float(value(chance.integers(0, size, size))) for _ in range(_DRAWS)]
    return float(np.quantile(drawn, 0.025)), float(np.quantile(drawn, 0.975))


def _entropy(shares: list[float]) -> float:
    return float(-sum(share * np.log2(share) for share in shares if share > 0))


def _say_speed(title: str, prompts: list[str], pause: float = 0) -> None:
    """Print the wall and the processor milliseconds of one classification, beside those of the article's rules.

    Both take turns at each prompt, so that a slow spell of the machine meets both. Wall time has in it what other
    processes took from this one; processor time has not, so that it says what the classifier itself needs.

    Args:
        title: What is measured.
        prompts: The prompts; each is classified once by either.
        pause: Seconds before each prompt.
    """
    signals = config.load(environ={}).signals
    works: dict[str, Callable[[str], object]] = {
        "ipyrouter": model.classify,
        "article's rules": lambda prompt: rules.classify(prompt, signals),
    }
    walls: dict[str, list[float]] = {name: [] for name in works}
    used: dict[str, list[float]] = {name: [] for name in works}
    for number, prompt in enumerate(prompts):
        time.sleep(pause)
        order = list(works.items())
        for name, work in order if number % 2 else reversed(order):  # what comes first after a pause is slower
            wall, processor = time.perf_counter(), time.thread_time()
            work(prompt)
            used[name].append((time.thread_time() - processor) * 1000)
            walls[name].append((time.perf_counter() - wall) * 1000)
    print(f"{title} ({len(prompts)} prompts, load {os.getloadavg()[0]:.1f})")
    for name in works:
        figures = (percentile(times, share) for times in (walls[name], used[name]) for share in (0.5, 0.99))
        print(
            "  {:<16} wall p50 {:.3f} ms, p99 {:.3f} ms; processor p50 {:.3f} ms, p99 {:.3f} ms".format(name, *figures)
        )


def _speed(prompts: list[str]) -> None:
    model.classify("warm")
    _say_speed("MMLU-length prompts, each seen once", prompts)
    hogs = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(os.cpu_count() or 1)]
    try:
        _say_speed("the same, every core busy with other work", prompts)
        _say_speed("the same, one every 5 ms, as cells come", prompts[:1000], pause=0.005)
    finally:
        for hog in hogs:
            hog.kill()
            hog.wait()
    long = (" ".join(prompts) * 2)[:100_000]
    many = []
    for number in range(20):
        started = time.perf_counter()
        model.classify(f"{number} {long}")
        many.append((time.perf_counter() - started) * 1000)
    print(f"100,000 characters: median {statistics.median(many):.2f} ms, worst {max(many):.2f} ms")
    call = (
        "from ipyrouter.classifier.model import classify\nclassify('What is a list?')\n"
        "print((time.perf_counter() - started) * 1000)"
    )
    notebook = (
        "import threading, time\nfrom IPython.core.interactiveshell import InteractiveShell\n"
        "InteractiveShell.instance().run_cell('%load_ext ipyrouter', store_history=False)\n"
        "[thread.join() for thread in threading.enumerate() if thread.name == 'ipyrouter-warm-up']\n"  # the user writes
    )
    for title, before in (
        ("first call in a notebook, a cell after %load_ext", notebook),
        ("first call in a process, imports and weights included", "import time\n"),
    ):
        first = [float(fresh(f"{before}started = time.perf_counter()\n{call}")) for _ in range(_FIRST_CALLS)]
        print(
            f"{title}, of {_FIRST_CALLS}: best {min(first):.1f} ms, median {statistics.median(first):.1f} ms, "
            f"worst {max(first):.1f} ms (load {os.getloadavg()[0]:.1f})"
        )


if __name__ == "__main__":
    main()
