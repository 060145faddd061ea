"""The learned classifier: pieces of words, a small network over them, one difficulty. No network access, no locale.

The network is a student (training/student.py): it was taught to say of any request what a large sentence encoder,
fitted to labelled requests, says of it.
"""

from __future__ import annotations

import functools
import itertools
import json
import math
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ipyrouter.classifier.pieces import BEGINNING, split, words_of
from ipyrouter.classifier.request import RequestText, bare, has_choices, request_of
from ipyrouter.classifier.spelling import Spelling
from ipyrouter.config import default
from ipyrouter.types import Classification, TierName

if TYPE_CHECKING:
    from numpy.typing import NDArray

WEIGHTS = Path(__file__).with_name("weights.npz")
HEADS = ("mid", "power", "gain", "exam")
"""P(at least mid), P(power), how much a strong model gains, and whether the prompt is an exam question."""

FAST_BELOW: float = default("routing.fast_below")
POWER_ABOVE: float = default("routing.power_above")
"""The difficulties at which the tiers meet, where a config sets nothing else."""

# Multiply-adds of one product. OpenBLAS splits a matrix product above 262,144 of them, and one with a vector above
# 9,216, among threads (interface/gemm.c, gemv.c), which on a busy machine wait for each other longer than they compute.
_SERIAL_MATRIX, _SERIAL_VECTOR = 250_000, 9_000

_WORDS = ("words", "rare_words")  # for typos; weights made for a test have none

_MANY = 64  # prompts that are read at once: 40 MB, where all are as long as one is read

_FAR = 0.3  # from a boundary: beyond it nothing gets surer
_UNSURE = 0.65  # a confidence below this names the tier beyond the nearest boundary

_NO_REASON = {"that", "this", "with", "from", "into", "have", "they", "them", "than", "then", "your", "will"}


_TAUGHT_LINES = 12  # of a kind of material
_TAUGHT = (_TAUGHT_LINES, _TAUGHT_LINES, _TAUGHT_LINES, 1)  # of code, tracebacks, tables; quotes were few and short
_LINE = (1.0, 0.5, 0.3, 0.7)  # what a line of code, traceback, table and quote counts


def _sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-max(min(value, 60.0), -60.0)))


def serial_product(left: NDArray[np.float32], right: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return ``left @ right``, computed in slices of rows that a BLAS library does on this thread alone.

    Args:
        left: A matrix, n x m.
        right: A matrix, m x k, or a vector of m values.

    Returns:
        The product: n x k, or n values.
    """
    if right.ndim == 2 and len(left) == 1:  # to BLAS a vector, too
        return serial_product(right.T, left[0])[None]
    most = max((_SERIAL_MATRIX if right.ndim == 2 else _SERIAL_VECTOR) // right.size, 1)
    if len(left) <= most:
        return left @ right
    product = np.empty((len(left), *right.shape[1:]), np.float32)
    slices = -(-len(left) // most)  # of equal length: one of a single row would be a vector
    for start, end in itertools.pairwise(len(left) * number // slices for number in range(slices + 1)):
        np.matmul(left[start:end], right, out=product[start:end])
    return product


def figures_of(request: RequestText, pieces: int) -> tuple[float, ...]:
    """Return the network's other inputs: the number of pieces, and the lines of material by kind.

    No more lines than the requests had that it was taught with: of longer material it would only guess.
    """
    return (
        math.log(pieces) / 3,
        math.sqrt(pieces) / 5,
        *(math.log1p(min(pair)) / 2 for pair in zip(request.lines, _TAUGHT, strict=True)),
    )


def lift_of(request: RequestText) -> float:
    """Return by how much material that is longer than what the network was taught with makes a request harder.

    A line of code counts more than one of a table, which repeats itself. It grows with the logarithm, to .2 at most: a
    thousand lines make no fast request a power one.
    """
    beyond = sum(weight * max(lines - _TAUGHT_LINES, 0) for weight, lines in zip(_LINE, request.lines, strict=True))
    return min(0.06 * math.log1p(beyond / _TAUGHT_LINES), 0.2)


def clearness(reading: Reading) -> float:
    """Return the logarithm of the odds of the tier that the network thinks the likeliest, within ±4.6: 1 to 99."""
    mid, power = _sigmoid(reading.heads[0]), _sigmoid(reading.heads[1])
    likeliest = min(max(1 - mid, mid - power, power, 0.01), 0.99)
    return math.log(likeliest / (1 - likeliest))


@dataclass(frozen=True, slots=True)
class Reading:
    """What the network makes of one prompt.

    ``heads`` are logits, but for the gain, which is in standard deviations; ``length`` is the logarithm of the prompt's
    characters.
    """

    heads: tuple[float, ...]
    length: float
    choices: bool  # it is a multiple-choice question
    lift: float  # of the difficulty, by long material
    pushes: tuple[tuple[str, float], ...]  # of each word, towards stronger tiers
    hidden: NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32), compare=False, repr=False)
    """The values of the hidden layer, which prompts of a like meaning share."""

    @property
    def exam(self) -> float:
        """The chance that the prompt is an exam question. One with choices is, of whatever kind it may be."""
        return 1.0 if self.choices else _sigmoid(self.heads[3])


class Model:
    """The weights of a file written by ``training/train.py``."""

    def __init__(self, path: Path = WEIGHTS) -> None:
        with np.load(path) as saved:
            arrays: dict[str, Any] = dict(saved)
        self.about: dict[str, float] = json.loads(arrays["about"].tobytes())
        vocabulary = arrays["vocabulary"].tobytes().decode().split("\n")
        self._vocabulary = vocabulary
        self._known = dict(zip(vocabulary, range(len(vocabulary)), strict=True))
        self._table, self._scale = arrays["table"], arrays["scale"]
        self._window, self._window_bias = arrays["window"], arrays["window_bias"]
        self._inner, self._inner_bias = arrays["inner"], arrays["inner_bias"]
        self._outer, self._outer_bias = arrays["outer"], arrays["outer_bias"]
        words, rare = (arrays[name].tobytes().decode().split() if name in arrays else [] for name in _WORDS)
        self._spelling = Spelling(words, rare)
        kinds = arrays.get("kinds", np.zeros((0, len(self._inner_bias)), np.int8))
        self._kinds = kinds.astype(np.float32) / 127  # of exam questions: vectors of length 1
        self.read = functools.lru_cache(maxsize=16)(self._read)  # a cell that is run again is the same prompt
        self._split = functools.lru_cache(maxsize=50_000)(functools.partial(split, known=self._known))

    @property
    def hidden_size(self) -> int:
        """The number of hidden values."""
        return len(self._inner_bias)

    @functools.cached_property
    def fingerprint(self) -> int:
        """A number that tells this network from others, whose hidden values mean something else."""
        return zlib.crc32(self._inner.tobytes())

    def read_many(self, prompts: Sequence[str], *, words: bool = False) -> list[Reading]:
        """Return what the network makes of many prompts. Several times as fast as one by one.

        Args:
            prompts: The prompts.
            words: Whether the readings of several prompts say by which words: their ``pushes``.

        Returns:
            A reading each.
        """
        if len(prompts) == 1:
            return [self.read(prompts[0])]
        parts = (prompts[start : start + _MANY] for start in range(0, len(prompts), _MANY))
        return [reading for some in parts for reading in self._some(some, words=words)]

    def _read(self, prompt: str) -> Reading:
        (reading,) = self._some([prompt], words=True)
        return reading

    def warm_up(self) -> None:
        """Do at once what the first prompt with a typo would have to wait for."""
        self._spelling.prepare()

    def pieces_of(self, request: RequestText) -> list[int]:
        """Return the numbers of the pieces of a request's words; of nothing, that of the first piece."""
        return [number for numbers in self._split_words(request)[1] for number in numbers] or [0]

    def _split_words(self, request: RequestText) -> tuple[list[str], list[tuple[int, ...]]]:
        """Return a request's words, and the numbers of their pieces: of a typo, those of the word that was meant."""
        words, meant = words_of(request.text), self._spelling.meant(request.text)
        return words, [self._split(meant.get(word, word)) for word in words]

    def _some(self, prompts: Sequence[str], *, words: bool) -> Iterator[Reading]:
        stripped = [bare(prompt.strip()) for prompt in prompts]
        requests = [request_of(prompt) for prompt in stripped]
        split_words = [self._split_words(request) for request in requests]
        pieces = [[number for numbers in split for number in numbers] or [0] for _, split in split_words]
        # Prompts share most of their pieces, and a long one repeats its own: each is multiplied once.
        places = {number: place for place, number in enumerate(dict.fromkeys(itertools.chain(*pieces)))}
        known = self._table[list(places)] * self._scale
        moved = serial_product(known, self._window)
        parts = [np.array([places[number] for number in numbers]) for numbers in pieces]
        vectors = [known[here] for here in parts]
        windows = [self._windows(moved, here) for here in parts]
        entered = np.empty((len(prompts), self._inner.shape[1]), np.float32)
        own = known.shape[1]
        summed = own + len(self._window_bias)
        for row, piece, window, request in zip(entered, vectors, windows, requests, strict=True):
            row[:own], row[own:summed] = piece.sum(axis=0), window.sum(axis=0)
            row[:summed] *= 0.5 / math.sqrt(len(piece))
            row[summed:] = figures_of(request, len(piece))
        hidden = np.maximum(serial_product(entered, self._inner.T) + self._inner_bias, 0)
        heads = (hidden @ self._outer.T + self._outer_bias).tolist()
        pushes: list[tuple[tuple[str, float], ...]] = [()] * len(prompts)
        if words:
            # How the first two heads change with each piece: their slope, times what the piece brings.
            slopes = serial_product((self._outer[0] + self._outer[1]) * (hidden > 0), self._inner[:, :summed])
            pushes = [
                self._pushes(*split, serial_product(piece, slope[:own]) + serial_product(window, slope[own:]))
                for split, piece, window, slope in zip(split_words, vectors, windows, slopes, strict=True)
            ]
        for prompt, request, logits, layer, pushed in zip(stripped, requests, heads, hidden, pushes, strict=True):
            length, choices = math.log1p(len(prompt)), has_choices(prompt)
            yield Reading(tuple(logits), length, choices, lift_of(request), pushed, layer)

    def _windows(self, moved: NDArray[np.float32], places: NDArray[np.intp]) -> NDArray[np.float32]:
        """Return the windows of a prompt: each is a piece and its two neighbours, moved to three places and added.

        Args:
            moved: The distinct pieces, moved to the three places.
            places: The row of each piece of the prompt.
        """
        size = len(self._window_bias)
        windows = moved[:, size : 2 * size][places]
        windows += self._window_bias
        windows[1:] += moved[:, :size][places[:-1]]
        windows[:-1] += moved[:, 2 * size :][places[1:]]
        relu: NDArray[np.float32] = np.maximum(windows, 0, out=windows)
        return relu

    def _pushes(
        self, words: list[str], split_words: list[tuple[int, ...]], brought: NDArray[np.float32]
    ) -> tuple[tuple[str, float], ...]:
        """Return what each word brings; ``brought`` holds it for each piece."""
        by_piece = brought.tolist()
        pushes: list[tuple[str, float]] = []
        start = 0
        for word, numbers in zip(words, split_words, strict=True):
            if len(numbers) == 1:  # as most are: no slice, no sum
                pushes.append((word, by_piece[start]))
                start += 1
                continue
            values = by_piece[start : start + len(numbers)]
            start += len(numbers)
            if len(word) > 8 and not word.isascii() and word == word.upper():  # a script that has no spaces, perhaps
                pieces = (self._vocabulary[number].lstrip(BEGINNING) for number in numbers)
                pushes.extend(zip(pieces, values, strict=True))
            else:
                pushes.append((word, sum(values)))
        return tuple(pushes)

    def difficulty(self, reading: Reading) -> float:
        """Return the difficulty, in [0, 1].

        Requests are placed by the two tier heads so that FAST_BELOW and POWER_ABOVE are where those heads change their
        mind; exam questions by their length and, if they are of a kind that is known, by the gain that a strong model
        brings; the fourth head says which of the two a prompt is.
        """
        mid, power = _sigmoid(reading.heads[0]), _sigmoid(reading.heads[1])
        least, most = self.about["mid_at"], self.about["power_at"]
        if power >= most:
            request = POWER_ABOVE + (1 - POWER_ABOVE) * (0.001 + (power - most) / (1 - most)) / 1.001
        elif mid < least:
            request = FAST_BELOW * 0.999 * mid / least
        else:
            request = FAST_BELOW + (POWER_ABOVE - FAST_BELOW) * ((mid - least) / (1 - least) + power / most) / 2
        # What is asked for by name (rename, list) is as easy in a long cell; what must be understood is not.
        request = min(request + reading.lift * min(max((request - 0.15) / 0.2, 0.0), 1.0), 1.0)
        exam = reading.exam
        gain = self._familiar(reading) * reading.heads[2] + self.about["length_weight"] * reading.length
        question = 0.5 + 0.45 * math.tanh((gain - self.about["gain_middle"]) / 2)
        return (1 - exam) * request + exam * question

    def _familiar(self, reading: Reading) -> float:
        """Return how far the kind of a question is known: 1 like most of the training questions, 0 like none."""
        if not len(self._kinds):
            return 1.0
        length = math.sqrt(float(reading.hidden @ reading.hidden)) or 1.0
        alike = float(serial_product(self._kinds, reading.hidden).max()) / length
        strange, known = self.about["strange_at"], self.about["known_at"]
        return min(max((alike - strange) / (known - strange), 0.0), 1.0)

    def confidence(self, reading: Reading, difficulty: float, fast_below: float, power_above: float) -> float:
        """Return how often the tier is right for readings like this, in [0, 1].

        It was measured on requests that the network was not fitted to (training/confidence.py), by the distance of the
        difficulty from the nearest boundary, and by how clear the network is of its own likeliest tier. Of exam
        questions no tier is known: half.
        """
        apart = min(abs(difficulty - fast_below), abs(difficulty - power_above), _FAR) / _FAR
        about = self.about
        sure = _sigmoid(
            about.get("right_at", 0.0)
            + about.get("right_apart", 8.0) * apart
            + about.get("right_clear", 0.0) * clearness(reading)
        )
        return (1 - reading.exam) * sure + reading.exam * 0.5

    def sureness(self, apart: float) -> float:
        """Return how often a request at that distance from a boundary lies on the side where it belongs."""
        constant, slope = self.about.get("sure_at", 0.0), self.about.get("sure_slope", 8.0)
        return _sigmoid(constant + slope * min(apart, _FAR) / _FAR)


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

    Args:
        prompt: The prompt, as it would be sent.
        fast_below: The difficulty in [0, 1] below which a prompt is fast.
        power_above: The difficulty in [0, 1] above which a prompt is power.
        adjust: Maps (prompt, difficulty) to the difficulty that the user's own outcomes have taught.
    """
    (classification,) = classify_many([prompt], fast_below, power_above, adjust)
    return classification


def classify_many(
    prompts: Sequence[str],
    fast_below: float = FAST_BELOW,
    power_above: float = POWER_ABOVE,
    adjust: Callable[[str, float], float] | None = None,
) -> list[Classification]:
    """Return what :func:`classify` returns for each of many prompts, which are read at once.

    Args:
        prompts: The prompts, as they would be sent.
        fast_below: As in :func:`classify`.
        power_above: As in :func:`classify`.
        adjust: As in :func:`classify`.
    """
    model = shipped()
    classifications = []
    for prompt, reading in zip(prompts, model.read_many(prompts, words=True), strict=True):
        difficulty = model.difficulty(reading)
        reasons: list[str] = []
        if adjust is not None:
            learned = adjust(prompt, difficulty)
            if tier_of(learned, fast_below, power_above) != tier_of(difficulty, fast_below, power_above):
                reasons.append("your own outcomes say so")
            difficulty = learned
        tier = tier_of(difficulty, fast_below, power_above)
        confidence = model.confidence(reading, difficulty, fast_below, power_above)
        runner_up = _beside(difficulty, fast_below, power_above) if confidence < _UNSURE else None
        reasons += _reasons(reading, tier)
        classifications.append(Classification(tier, difficulty, confidence, tuple(reasons), runner_up))
    return classifications


def _beside(difficulty: float, fast_below: float, power_above: float) -> TierName | None:
    """Return the tier beyond the nearest boundary."""
    boundary = min((fast_below, power_above), key=lambda boundary: abs(difficulty - boundary))
    tier, step = tier_of(difficulty, fast_below, power_above), 1e-9
    beyond = (tier_of(boundary + side, fast_below, power_above) for side in (-step, step))
    return next((name for name in beyond if name != tier), None)


def _reasons(reading: Reading, tier: TierName) -> tuple[str, ...]:
    """Return the words that pushed the most: upwards for power, downwards for fast, both for mid."""
    if reading.exam > 0.5:
        return ("reads like an exam question",)
    push: dict[str, float] = {}
    for word, value in reading.pushes:
        # Articles, prepositions and the like are no reason that a user understands.
        if (len(word) > 3 or not word.isascii()) and word not in _NO_REASON:
            push[word] = push.get(word, 0.0) + {"fast": -value, "mid": abs(value), "power": value}[tier]
    strongest = sorted((word for word in push if push[word] > 0), key=lambda word: -push[word])[:3]
    way = {"fast": "simple", "mid": "several steps", "power": "demanding"}[tier]
    if not strongest:
        return (f"reads like a request that is {way}",)
    words = ", ".join(f"“{word}”" for word in strongest)
    return (f"{way}: {words}",)
