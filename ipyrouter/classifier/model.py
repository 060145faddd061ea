"""The learned classifier: hashed features, four linear heads, one difficulty. No numpy, no network, no locale."""

from __future__ import annotations

import array
import functools
import json
import math
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ipyrouter.classifier.features import BUCKETS, analyse, pair_bucket, word_buckets
from ipyrouter.types import Classification, TierName

WEIGHTS = Path(__file__).with_name("weights.bin")
HEADS = ("mid", "power", "gain", "exam")
"""P(at least mid), P(power), how much a strong model gains, and whether the prompt is an exam question."""

FAST_BELOW, POWER_ABOVE = 0.35, 0.70
"""The difficulties at which the tiers meet, where a config sets nothing else."""


def _sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-max(min(value, 60.0), -60.0)))


@dataclass(frozen=True, slots=True)
class Scores:
    """The heads' values for one prompt, the logarithm of its length, and each word's push towards stronger tiers."""

    heads: tuple[float, ...]
    length: float
    pushes: tuple[tuple[str, float], ...]


class Model:
    """The weights of a file written by ``training/train.py``."""

    def __init__(self, path: Path = WEIGHTS) -> None:
        header, _, packed = path.read_bytes().partition(b"\n")
        about: Mapping[str, Any] = json.loads(header)
        self.about = about
        self._table = array.array("b")
        self._table.frombytes(zlib.decompress(packed))
        if len(self._table) != BUCKETS * len(HEADS):
            raise ValueError(f"{path} does not hold {BUCKETS} buckets")
        self._scales: list[float] = about["scales"]
        self._figures: list[list[float]] = about["figures"]
        self._biases: list[float] = about["biases"]
        self._word = functools.lru_cache(maxsize=50_000)(self._word_sums)

    def _bucket_sums(self, buckets: tuple[int, ...]) -> tuple[int, int, int, int]:
        table = self._table
        first = second = third = fourth = 0
        for bucket in buckets:
            place = bucket * 4
            first += table[place]
            second += table[place + 1]
            third += table[place + 2]
            fourth += table[place + 3]
        return first, second, third, fourth

    def _word_sums(self, word: str) -> tuple[int, int, int, int, int]:
        buckets = word_buckets(word)
        return (*self._bucket_sums(buckets), len(buckets))

    def scores(self, prompt: str) -> Scores:
        """Return the heads' values of a prompt."""
        words, pairs, figures = analyse(prompt)
        sums = [self._word(word) for word in words]
        size = sum(entry[4] for entry in sums) + len(pairs)
        paired = self._bucket_sums(tuple(map(pair_bucket, pairs)))
        norm = math.sqrt(max(size, 1))
        heads = []
        for head, scale in enumerate(self._scales):
            total = sum(entry[head] for entry in sums) + paired[head]
            dense = sum(weight * figure for weight, figure in zip(self._figures[head], figures, strict=True))
            heads.append(self._biases[head] + total * scale / norm + dense)
        pushes = tuple(
            (word, (entry[0] * self._scales[0] + entry[1] * self._scales[1]) / norm)
            for word, entry in zip(words, sums, strict=True)
        )
        return Scores(tuple(heads), figures[0] * 4, pushes)

    def difficulty(self, scores: Scores) -> tuple[float, float]:
        """Return difficulty and confidence, both in [0, 1].

        Requests are placed by the two tier heads so that FAST_BELOW and POWER_ABOVE are where those heads change their
        mind; exam questions by the gain that a strong model brings; the fourth head says which of the two a prompt is.
        """
        mid, power = _sigmoid(scores.heads[0]), _sigmoid(scores.heads[1])
        least, most = self.about["mid_at"], self.about["power_at"]
        if power >= most:
            asked = POWER_ABOVE + (1 - POWER_ABOVE) * (0.001 + (power - most) / (1 - most)) / 1.001
        elif mid < least:
            asked = FAST_BELOW * 0.999 * mid / least
        else:
            asked = FAST_BELOW + (POWER_ABOVE - FAST_BELOW) * ((mid - least) / (1 - least) + power / most) / 2
        sure = max(1 - mid, power, min(mid, 1 - power))
        exam = _sigmoid(scores.heads[3])
        gain = scores.heads[2] / self.about["gain_spread"] + self.about["length_weight"] * scores.length
        gained = 0.5 + 0.45 * math.tanh((gain - self.about["gain_middle"]) / 2)
        return (1 - exam) * asked + exam * gained, (1 - exam) * sure + exam * 0.5


@functools.cache
def shipped() -> Model:
    """Return the model of the package's weights file, read once a process."""
    return Model()


def tier_of(difficulty: float, fast_below: float, power_above: float) -> TierName:
    """Return the tier that a difficulty leads to: one dial for cost against quality."""
    if difficulty < fast_below:
        return "fast"
    return "power" if difficulty > power_above else "mid"


def classify(
    prompt: str,
    fast_below: float = FAST_BELOW,
    power_above: float = POWER_ABOVE,
    adjust: Callable[[str, float], float] | None = None,
) -> Classification:
    """Return the tier of a prompt by the learned model.

    ``adjust`` maps (prompt, difficulty) to the difficulty that the person's own outcomes have taught.
    """
    model = shipped()
    scores = model.scores(prompt)
    difficulty, confidence = model.difficulty(scores)
    reasons: list[str] = []
    if adjust is not None:
        learned = adjust(prompt, difficulty)
        if tier_of(learned, fast_below, power_above) != tier_of(difficulty, fast_below, power_above):
            reasons.append("your own outcomes say so")
        difficulty = learned
    tier = tier_of(difficulty, fast_below, power_above)
    return Classification(tier, difficulty, confidence, (*reasons, *_reasons(scores, tier)))


def _reasons(scores: Scores, tier: TierName) -> tuple[str, ...]:
    """Return the words that pushed the most: upwards for power, downwards for fast, both for mid."""
    if _sigmoid(scores.heads[3]) > 0.5:
        return ("reads like an exam question",)
    # Short words of the Latin script are mostly articles and prepositions: no reason that a person understands.
    wanted = [(word, push) for word, push in scores.pushes if len(word) > 3 or not word.isascii()]
    if tier == "fast":
        wanted = [(word, -push) for word, push in wanted]
    elif tier == "mid":
        wanted = [(word, abs(push)) for word, push in wanted]
    strongest = sorted((entry for entry in wanted if entry[1] > 0), key=lambda entry: -entry[1])[:3]
    way = {"fast": "simple", "mid": "several steps", "power": "demanding"}[tier]
    if not strongest:
        return (f"reads like a request that is {way}",)
    words = ", ".join(f"“{word}”" for word, _ in strongest)
    return (f"{way}: {words}",)
