"""The user's own outcomes, on top of the shipped weights: a small ridge regression over hashed words and the shape.

An outcome says whether a tier's answer to a prompt did. What is learned is how much a stronger tier gains; it moves the
difficulty up or down. The whole prompt counts here, pasted code and tables too: what a user pastes is often what
makes their requests hard. The shipped weights stay as they are, so that everything can be undone.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ipyrouter.classifier.features import BUCKETS, buckets_of, shape_of, words_of
from ipyrouter.classifier.request import shorten
from ipyrouter.errors import UsageError
from ipyrouter.types import TIERS

if TYPE_CHECKING:
    import numpy as np

_RIDGE = 10.0
_VERSION = 3
_LEAST_ROWS = 20
_HOLD_BACK = 5  # every fifth prompt judges
_LARGEST = 10_000_000  # bytes of a saved lesson
_MOST = 1e6  # of a weight: more is damage
_REACH = 0.35  # of the difficulty: how far a lesson moves it at the most, where the outcomes are sure

Outcome = tuple[str, str, float]
"""(prompt, tier, ok): ok is 1 where this tier's answer did, 0 where it did not, or a mean of several."""


def _features(prompt: str) -> tuple[list[int], tuple[float, ...]]:
    """Return the buckets of the words and pairs, and the shape, of all that was written and pasted."""
    text = shorten(prompt)
    words = words_of(text)
    return buckets_of(words), shape_of(text, words)


@dataclass(frozen=True)
class Lesson:
    """What was learned: a weight for each bucket and figure of the shape, and how it ranks held-back rows.

    ``before`` and ``after`` are the shares of pairs (one prompt that needed a stronger tier, one that did not) which
    are ranked rightly: .5 is chance.
    """

    weights: tuple[float, ...]
    shape: tuple[float, ...]
    slope: float
    middle: float
    rows: int
    before: float
    after: float

    @property
    def gained(self) -> bool:
        """Tell whether the lesson ranks held-back prompts better than the shipped weights."""
        return self.after > self.before

    def push(self, prompt: str) -> float:
        """Return the lesson's own estimate of the gain, but for a constant that ``middle`` holds."""
        buckets, shape = _features(prompt)
        total = sum(self.weights[bucket] for bucket in buckets) / math.sqrt(max(len(buckets), 1))
        return total + sum(weight * figure for weight, figure in zip(self.shape, shape, strict=True))

    def adjust(self, prompt: str, difficulty: float) -> float:
        """Return the difficulty as the outcomes have taught it, in [0, 1]."""
        gain = self.slope * (difficulty - 0.5) + self.push(prompt) - self.middle
        moved = difficulty + 2 * _REACH * max(min(2 * gain, 1.0), -1.0)
        return float(min(max(moved, 0.0), 1.0))

    def save(self, path: Path) -> None:
        """Write the lesson, privately and whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        fields = {name: getattr(self, name) for name in self.__dataclass_fields__}
        unfinished = path.with_suffix(".part")
        unfinished.touch(mode=0o600)
        unfinished.write_text(json.dumps({"version": _VERSION, **fields}, allow_nan=False), "utf-8")
        unfinished.replace(path)


def load(path: Path) -> Lesson | None:
    """Return the saved lesson; None if there is none, or one of another version or damaged in any way."""
    try:
        if path.stat().st_size > _LARGEST:
            return None
        saved: dict[str, Any] = json.loads(path.read_text("utf-8"))
        if saved.pop("version") != _VERSION:
            return None
        lesson = Lesson(**{**saved, "weights": tuple(saved["weights"]), "shape": tuple(saved["shape"])})
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    return lesson if _is_sound(lesson) else None


def _is_sound(lesson: Lesson) -> bool:
    """Tell whether a lesson can be used: whatever stood in the file was taken as it was."""
    numbers = (*lesson.weights, *lesson.shape, lesson.slope, lesson.middle, lesson.before, lesson.after)
    return (
        len(lesson.weights) == BUCKETS
        and len(lesson.shape) == len(shape_of("", []))
        and all(type(number) in (int, float) and abs(number) <= _MOST for number in numbers)  # NaN is not
        and 0 <= lesson.before <= 1
        and 0 <= lesson.after <= 1
        and type(lesson.rows) is int
        and lesson.rows > 0
    )


def fit(outcomes: Iterable[Outcome], difficulty: Callable[[str], float]) -> Lesson:
    """Fit to outcomes on top of ``difficulty``, the shipped classifier.

    The target of a prompt is what a stronger tier gains: the power outcome less the weakest other one where both are
    known, else 1 less the outcome of the tier that was asked. Every fifth prompt is held back to judge the lesson, and
    the lesson that is returned is fitted to all.

    Raises UsageError for fewer than 20 prompts, for an unknown tier, or where all outcomes are alike.
    """
    import numpy as np

    prompts, gains = _targets(outcomes)
    if len(prompts) < _LEAST_ROWS:
        raise UsageError(
            f"There are outcomes of {len(prompts)} prompts; learning needs {_LEAST_ROWS}.",
            "Mark more answers with %router good and %router bad, or pass outcomes.",
        )
    y = np.array(gains)
    if np.ptp(y) == 0:
        raise UsageError("All outcomes are alike, so there is nothing to tell apart.", "Add some of the other kind.")
    base = np.array([difficulty(prompt) for prompt in prompts])
    x = _matrix(prompts)
    holdout = np.arange(len(prompts)) % _HOLD_BACK == 0
    trial = _solve(x[~holdout], base[~holdout], y[~holdout])
    weights, slope, middle = _solve(x, base, y)
    return Lesson(
        weights=tuple(np.round(weights[:BUCKETS], 6).tolist()),
        shape=tuple(np.round(weights[BUCKETS:], 6).tolist()),
        slope=round(slope, 6),
        middle=round(middle, 6),
        rows=len(prompts),
        before=_concordance(base[holdout], y[holdout]),
        after=_concordance(_predict(trial, x[holdout], base[holdout]), y[holdout]),
    )


def _targets(outcomes: Iterable[Outcome]) -> tuple[list[str], list[float]]:
    by_prompt: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for prompt, tier, ok in outcomes:
        if tier not in TIERS:
            raise UsageError(f"Unknown tier {tier!r} in the outcomes.", f"Known: {', '.join(TIERS)}.")
        by_prompt[str(prompt)][tier].append(ok)
    prompts, gains = [], []
    for prompt, tiers in by_prompt.items():
        means = {tier: sum(values) / len(values) for tier, values in tiers.items()}
        lowest = min(means, key=TIERS.index)
        highest = max(means, key=TIERS.index)
        if lowest == highest == "power":
            continue  # nothing is known of a cheaper tier
        prompts.append(prompt)
        gains.append((1.0 if lowest == highest else means[highest]) - means[lowest])
    return prompts, gains


def _matrix(prompts: list[str]) -> np.ndarray[Any, Any]:
    """Return a row a prompt: the buckets' counts over the root of their number, then the shape."""
    import numpy as np

    counts, shapes = np.zeros((len(prompts), BUCKETS), dtype=np.float32), []
    for row, prompt in enumerate(prompts):
        buckets, shape = _features(prompt)
        np.add.at(counts[row], buckets, 1 / max(len(buckets), 1) ** 0.5)
        shapes.append(shape)
    return np.hstack([counts, np.array(shapes, dtype=np.float32)])


def _solve(x: Any, base: Any, y: Any) -> tuple[Any, float, float]:
    """Return the ridge weights, the slope of the shipped difficulty and the centre, in closed form over the rows."""
    import numpy as np

    centred = base - 0.5
    slope = float(np.polyfit(centred, y, 1)[0]) if np.ptp(centred) > 0 else 0.0
    # The shipped order is weakened where the outcomes contradict it, never turned round, nor trusted beyond reason
    # where all prompts look alike to it.
    slope = min(max(slope, 0.0), 2.0)
    rest = y - slope * centred
    # The shape as a whole weighs about as much as the words: each figure in deviations, over the root of their number.
    shape = x[:, BUCKETS:]
    scale = np.ones(x.shape[1], dtype=np.float32)
    scale[BUCKETS:] = 1 / ((shape.std(axis=0) + 0.05) * shape.shape[1] ** 0.5)
    near = x * scale
    near[:, BUCKETS:] -= near[:, BUCKETS:].mean(axis=0)
    gram = (near @ near.T).astype(np.float64)
    gram[np.diag_indices_from(gram)] += _RIDGE
    weights = scale * (near.T @ np.linalg.solve(gram, rest - rest.mean()))
    shift = float(np.mean(slope * centred + x @ weights))
    return weights, slope, shift


def _predict(solved: tuple[Any, float, float], x: Any, base: Any) -> Any:
    weights, slope, _ = solved
    return slope * (base - 0.5) + x @ weights


def _concordance(values: Any, gains: Any) -> float:
    """Return the share of pairs with different gains that the values rank rightly; ties count half."""
    import numpy as np

    differs = gains[:, None] > gains[None, :]
    if not differs.any():
        return 0.5
    right = (values[:, None] > values[None, :]) + 0.5 * (values[:, None] == values[None, :])
    return float(np.mean(right[differs]))
