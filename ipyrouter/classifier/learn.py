"""The user's own outcomes, on top of the shipped weights.

An outcome says whether a tier's answer to a prompt did. What is learned is which difficulty a prompt turned out to
have. Several small learners are fitted, and those are used that rank prompts which were held back better than the
shipped order does, beyond noise (learners.py). The lesson speaks where a prompt is like those that it was learned from;
elsewhere the shipped weights do. They stay as they are, so that everything can be undone.
"""

from __future__ import annotations

import base64
import functools
import json
import math
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ipyrouter.classifier import learners, model
from ipyrouter.classifier.features import shape_of, words_of
from ipyrouter.classifier.request import shorten
from ipyrouter.errors import UsageError
from ipyrouter.types import TIERS

_VERSION = 4
_LEAST_ROWS = 20
_HALF_LIFE = 90 * 86_400  # seconds: what an outcome weighs is halved in this time
_LARGEST = 10_000_000  # bytes of a saved lesson
_MOST = 1e6  # of a weight: more is damage
_LEVELS = {"fast": 0.175, "mid": 0.525, "power": 0.85}  # the middle of each tier's difficulties
_TOPIC = 3  # prompts that a word stands in before something is said of it
_SURE = 2.5  # standard errors by which their levels differ from the mean
_TRIED_TOPICS = 50
Matrix = np.ndarray[Any, Any]


class Outcome(NamedTuple):
    """Whether a tier's answer did: ``ok`` is 1, or 0, or a mean of several. ``when`` in seconds since 1970."""

    prompt: str
    tier: str
    ok: float
    when: float | None = None


@dataclass(frozen=True)
class Lesson:
    """What was learned, and how well it ranks prompts that were held back.

    ``before`` and ``after`` are the shares of pairs (one prompt that needed a stronger tier, one that did not) which
    are ranked rightly: .5 is chance. ``after`` is nested: neither the learners nor the choice among them saw the pairs.

    Attributes:
        rows: Prompts.
        outcomes: Outcomes, of which a prompt may have several.
        before: By the shipped weights.
        after: By what was learned.
        choice: Which learners are used, in words.
        topics: What was learned, in words: "prompts about “joins” need mid".
        bias: Of the difficulty.
        linear: Weights of shipped difficulty, logarithm of the length, heads, shape and hidden values.
        near: Weight of the outcomes of the prompts that are alike.
        vectors: The hidden values of prompts learned from (prompts, hidden), each of length 127, as int8 in base64.
        gains: Of each of these prompts, what it needed more than the mean.
        likeness: The cosine to the nearest of them from which on a prompt is trusted wholly.
        network: The fingerprint of the network that it was fitted on: to another its hidden values mean nothing.
    """

    rows: int
    outcomes: int
    before: float
    after: float
    choice: str
    topics: tuple[str, ...]
    bias: float
    linear: tuple[float, ...]
    near: float
    vectors: str
    gains: tuple[float, ...]
    likeness: float
    network: int

    @property
    def gained(self) -> bool:
        """Tell whether the lesson ranks held-back prompts better than the shipped weights, or as well but truer."""
        return self.choice != ""

    def adjust(self, prompt: str, difficulty: float, network: model.Model | None = None) -> float:
        """Return the difficulty as the outcomes have taught it, in [0, 1].

        Args:
            prompt: The prompt.
            difficulty: What the network makes of it.
            network: What read it; default: the shipped one.
        """
        if not self.choice:
            return difficulty
        reading = (network or model.shipped()).read(prompt)
        alike = model.serial_product(self._vectors, learners.normed(reading.hidden))
        trust = min(1 + (float(alike.max()) - self.likeness) / learners.FADE, 1.0)
        if trust <= 0:
            return difficulty
        text = shorten(prompt)
        figures = _figures(text, words_of(text), reading, difficulty)
        level = self.bias + sum(weight * figure for weight, figure in zip(self.linear, figures, strict=True))
        level += self.near * float(learners.nearest(alike[None, :], self._gains)[0])
        return difficulty + trust * (min(max(level, 0.0), 1.0) - difficulty)

    @functools.cached_property
    def _vectors(self) -> Matrix:
        packed = np.frombuffer(base64.b64decode(self.vectors), dtype=np.int8)
        return learners.normed(packed.reshape(len(self.gains), -1).astype(np.float32))

    @functools.cached_property
    def _gains(self) -> Matrix:
        return np.array(self.gains, dtype=np.float32)

    def save(self, path: Path) -> None:
        """Write the lesson, privately and whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        fields = {name: getattr(self, name) for name in self.__dataclass_fields__}
        unfinished = path.with_suffix(".part")
        unfinished.touch(mode=0o600)
        unfinished.write_text(json.dumps({"version": _VERSION, **fields}, allow_nan=False), "utf-8")
        unfinished.replace(path)


def load(path: Path) -> Lesson | None:
    """Return the saved lesson; None if there is none, one of another version or network, or damaged in any way."""
    try:
        if path.stat().st_size > _LARGEST:
            return None
        saved: dict[str, Any] = json.loads(path.read_text("utf-8"))
        if saved.pop("version") != _VERSION:
            return None
        lesson = Lesson(**{**saved, **{name: tuple(saved[name]) for name in ("topics", "linear", "gains")}})
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    return lesson if _is_sound(lesson) else None


def _is_sound(lesson: Lesson) -> bool:
    """Tell whether a lesson can be used: whatever stood in the file was taken as it was."""
    if not all(isinstance(text, str) for text in (lesson.choice, lesson.vectors, *lesson.topics)):
        return False
    try:
        size = len(base64.b64decode(lesson.vectors, validate=True))
    except ValueError:
        return False
    if lesson.network != model.shipped().fingerprint:
        return False
    hidden = model.shipped().hidden_size
    numbers = (lesson.bias, lesson.near, lesson.before, lesson.after, lesson.likeness, *lesson.linear, *lesson.gains)
    return (
        len(lesson.linear) == learners.FIGURES + hidden
        and len(lesson.gains) > 0
        and size == len(lesson.gains) * hidden
        and all(type(number) in (int, float) and abs(number) <= _MOST for number in numbers)  # NaN is not
        and all(0 <= share <= 1 for share in (lesson.before, lesson.after, lesson.likeness))
        and all(type(figure) is int and figure > 0 for figure in (lesson.rows, lesson.outcomes))
    )


def fit(outcomes: Iterable[Outcome], network: model.Model) -> Lesson:
    """Fit to outcomes on top of the network.

    The lesson is fitted to all outcomes; its ``after`` comes from others that were fitted to parts of them.

    Args:
        outcomes: One or more for each prompt.
        network: The shipped one.

    Raises:
        UsageError: There are fewer than 20 prompts, a tier is unknown, or all outcomes are alike.
    """
    grouped = _by_prompt(outcomes)
    prompts = list(grouped)
    if len(prompts) < _LEAST_ROWS:
        raise UsageError(
            f"There are outcomes of {len(prompts)} prompts; learning needs {_LEAST_ROWS}.",
            "Mark more answers with %router good and %router bad, or pass outcomes.",
        )
    means = [_means(some) for some in grouped.values()]
    if all(some == means[0] for some in means):
        raise UsageError("All outcomes are alike, so there is nothing to tell apart.", "Add some of the other kind.")
    readings = network.read_many(prompts)
    shipped = [network.difficulty(reading) for reading in readings]
    levels = np.array([level_of(*each) for each in zip(means, shipped, strict=True)])
    texts = [shorten(prompt) for prompt in prompts]
    words = [words_of(text) for text in texts]
    rows = learners.Rows(
        np.array([_figures(*each) for each in zip(texts, words, readings, shipped, strict=True)]),
        learners.normed(np.array([reading.hidden for reading in readings])),
        levels,
        _weights(list(grouped.values())),
    )
    taught = learners.teach(rows)
    return Lesson(
        rows=len(prompts),
        outcomes=sum(map(len, grouped.values())),
        before=round(taught.before, 6),
        after=round(taught.after, 6),
        choice=taught.choice,
        topics=_topics(words, levels, taught.levels) if taught.choice else (),
        bias=round(taught.bias, 6),
        linear=tuple(np.round(taught.linear, 9).tolist()),
        near=round(taught.near, 6),
        vectors=base64.b64encode(np.rint(127 * taught.vectors).astype(np.int8).tobytes()).decode(),
        gains=tuple(np.round(taught.gains, 6).tolist()),
        likeness=round(taught.likeness, 6),
        network=network.fingerprint,
    )


def _by_prompt(outcomes: Iterable[Outcome]) -> dict[str, list[Outcome]]:
    """Return the outcomes by their prompts, those with the newest outcomes last, without what tells nothing."""
    grouped: dict[str, list[Outcome]] = defaultdict(list)
    for outcome in (Outcome(*each) for each in outcomes):
        if outcome.tier not in TIERS:
            raise UsageError(f"Unknown tier {outcome.tier!r} in the outcomes.", f"Known: {', '.join(TIERS)}.")
        grouped[str(outcome.prompt)].append(outcome)
    # Of a prompt that the highest tier alone has answered, nothing is known of a cheaper one.
    known = [(prompt, some) for prompt, some in grouped.items() if {outcome.tier for outcome in some} != {TIERS[-1]}]
    return dict(sorted(known, key=lambda each: max(outcome.when or 0 for outcome in each[1])))


def _means(outcomes: Sequence[Outcome]) -> dict[str, float]:
    """Return the mean outcome of each tier that was tried, the cheapest first."""
    tried = [tier for tier in TIERS if any(outcome.tier == tier for outcome in outcomes)]
    of = {tier: [outcome.ok for outcome in outcomes if outcome.tier == tier] for tier in tried}
    return {tier: sum(some) / len(some) for tier, some in of.items()}


def level_of(means: dict[str, float], shipped: float) -> float:
    """Return the difficulty that a prompt turned out to have, by the mean outcomes of the tiers that were tried.

    It is that of the cheapest tier that did. Where the highest that was tried did not, it is that of the next; where
    that was the highest of all, a stronger one gains nothing. A stronger tier that did worse counts against itself.
    """
    (cheapest, best), *dearer = means.items()
    lowest = _LEVELS[cheapest]
    level = lowest if cheapest == TIERS[0] else min(shipped, lowest)  # a cheaper one may do as well
    if dearer and dearer[-1][1] < best:
        return level - (best - dearer[-1][1]) * (_LEVELS[dearer[-1][0]] - lowest)
    start = level
    for tier, ok in dearer:
        level += max(ok - best, 0.0) * (_LEVELS[tier] - start)
        best = max(best, ok)
    highest = TIERS.index(list(means)[-1])
    if highest + 1 < len(TIERS):
        level += (1 - best) * (_LEVELS[TIERS[highest + 1]] - start)
    return level


def _weights(grouped: Sequence[Sequence[Outcome]]) -> Matrix:
    """Return what each prompt weighs: 1, and half as much for every half-life since its newest outcome."""
    now = time.time()
    newest = [max((o.when for o in some if o.when is not None), default=now) for some in grouped]
    return np.array([math.exp2(-max(now - when, 0) / _HALF_LIFE) for when in newest])


def _figures(text: str, words: list[str], reading: model.Reading, difficulty: float) -> tuple[float, ...]:
    """Return what the regressions see of a prompt. The whole of it counts, pasted code and tables too."""
    return (difficulty, reading.length, *reading.heads, *shape_of(text, words), *reading.hidden.tolist())


def _topics(words: Sequence[Sequence[str]], levels: Matrix, taught: Matrix) -> tuple[str, ...]:
    """Return in words what prompts with some word need, where outcomes and lesson agree that it is another tier."""
    places: dict[str, list[int]] = defaultdict(list)
    for place, some in enumerate(words):
        for word in set(some):
            if len(word) > 3 or not word.isascii():
                places[word].append(place)
    apart = (levels - levels.mean()) / (levels.std() + 1e-9)
    usual = _tier(float(np.median(taught)))
    often = [(word, some) for word, some in places.items() if _TOPIC <= len(some) <= 0.6 * len(words)]
    strength = [(float(apart[some].sum()) / len(some) ** 0.5, word) for word, some in often]
    topics: dict[str, str] = {}
    for sure, word in sorted(strength, key=lambda each: -abs(each[0]))[:_TRIED_TOPICS]:
        tier = _tier(float(np.median(taught[places[word]])))
        if abs(sure) > _SURE and tier != usual and (TIERS.index(tier) > TIERS.index(usual)) == (sure > 0):
            topics.setdefault(tier, word)
    return tuple(f"prompts with “{word}” need {tier}" for tier, word in topics.items())


def _tier(level: float) -> str:
    return model.tier_of(level, model.FAST_BELOW, model.POWER_ABOVE)
