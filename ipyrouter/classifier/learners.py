"""The small learners that outcomes are fitted with, and the choice among them by nested cross-validation.

Three of them are ridge regressions: over the shipped difficulty and the length, over these with the network's heads and
the shape, and over the hidden values too. The fourth is the mean over prompts that are alike. Which of them are used,
alone or together with the shipped order, is chosen on rows that they were not fitted to; and how well the choice does
is measured on rows that neither the learners nor the choice saw.
"""

from __future__ import annotations

import functools
import itertools
import operator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ipyrouter.classifier.features import SHAPE

FIGURES = 6 + SHAPE  # shipped difficulty, logarithm of the length, four heads, the shape; the hidden values follow
Matrix = np.ndarray[Any, Any]

SAME_ORDER = "the shipped order"  # with other difficulties
LENGTH = "length"

_FOLDS = 5
_RIDGES = {"few": (2, 10.0), "shape": (FIGURES, 100.0), "hidden": (None, 5000.0)}  # the first columns, penalty
_PARTS = ("shipped", "length", *_RIDGES, "near")
_CHOICES = {
    SAME_ORDER: ("shipped",),
    LENGTH: ("length",),
    "length and the shipped order": ("few", "shipped"),
    "shape, meaning, like prompts, length and the shipped order": ("shape", "hidden", "near", "shipped", "length"),
    "shape, meaning, like prompts and the shipped order": ("shape", "hidden", "near", "shipped"),
    "shape, meaning and like prompts": ("shape", "hidden", "near"),
}
_CAUTION, _CAUTION_OF_LENGTH = 1.0, 0.5  # standard errors: length was not fitted, so nothing flatters it
_SHARPNESS = 10.0  # of the weights of prompts that are alike, by their cosine
_SPREAD, _MOST_SPREAD = 0.5, 2.0  # a lesson's deviation, beside that of the shipped difficulties
_FLOORS = {"shipped": 0.1, "length": 0.25}  # deviations of those two, where all prompts are much alike
_LEAST_DEVIATION = 0.05  # of a figure
_PRIOR = float(np.exp(-3.0))  # what the mean of all weighs beside prompts that are alike
_MOST_NEIGHBOURS = 2000  # prompts that are looked at for likeness, and saved: the newest
_STRANGEST = 0.005  # of the prompts learned from, so many may be less alike than one that is trusted wholly
_LEAST_LIKENESS, _MOST_LIKENESS = 0.78, 0.9  # cosines: a prompt less alike is a stranger; a prompt more alike is not
FADE = 0.05  # of the cosine, in which trust falls from all to nothing


@dataclass(frozen=True)
class Rows:
    """What is learned from, the newest last: figures (rows, columns), hidden values of length 1, levels, weights."""

    figures: Matrix
    vectors: Matrix
    levels: Matrix
    weights: Matrix


@dataclass(frozen=True)
class Taught:
    """The result: the level of a prompt is ``bias`` + ``linear`` · figures + ``near`` · the gain of those alike.

    ``before`` and ``after`` are shares of pairs ranked rightly; ``levels`` those of the rows themselves, each by
    learners that did not see it.
    """

    before: float
    after: float
    choice: str
    bias: float
    linear: Matrix
    near: float
    vectors: Matrix
    gains: Matrix
    likeness: float
    levels: Matrix


def normed(values: Matrix) -> Matrix:
    """Return vectors with length 1."""
    lengths = np.sqrt((values * values).sum(axis=-1, keepdims=True))
    vectors: Matrix = (values / np.maximum(lengths, 1e-6)).astype(np.float32)
    return vectors


def nearest(likeness: Matrix, gains: Matrix, weights: Matrix | None = None) -> Matrix:
    """Return the mean gain over the prompts that are alike.

    Args:
        likeness: Cosines (prompts, prompts learned from).
        gains: Of the prompts learned from, one each; or several columns.
        weights: Of the prompts learned from, in as many columns; default: 1.

    Returns:
        As many values, a row each prompt. Where nothing is alike, they are near 0, the mean of all.
    """
    near = np.exp(_SHARPNESS * (likeness - 1), dtype=np.float32)
    if weights is None:
        weights = np.ones_like(gains)
    means: Matrix = near @ (gains * weights) / (near @ weights + _PRIOR)
    return means


def teach(rows: Rows) -> Taught:
    """Fit the learners, choose among them, and measure how well the choice does."""
    n, levels, weights = len(rows.levels), rows.levels, rows.weights / rows.weights.mean()
    fold = np.random.default_rng(0).permutation(n) % _FOLDS
    shipped = rows.figures[:, 0]
    centre = rows.figures.mean(axis=0)
    sums = [
        _Sums.of(rows.figures[fold == one] - centre, levels[fold == one], weights[fold == one]) for one in range(_FOLDS)
    ]
    # All that the choice and its measure need: every learner fitted without each fold, and without each two.
    lefts = [frozenset(left) for size in (1, 2) for left in itertools.combinations(range(_FOLDS), size)]
    near = _near(rows, [~np.isin(fold, list(left)) for left in lefts])
    parts: dict[frozenset[int], dict[str, Matrix]] = {}
    for left, column in zip(lefts, near, strict=True):
        some = functools.reduce(operator.add, (sums[one] for one in range(_FOLDS) if one not in left))
        parts[left] = {"shipped": shipped, "length": rows.figures[:, 1], "near": column}
        for name in _RIDGES:
            linear = some.ridge(name)
            parts[left][name] = rows.figures[:, : len(linear)] @ linear

    def unseen(left_out: frozenset[int]) -> dict[str, Matrix]:
        """Return what the learners say of each fold's rows, fitted without that fold and without ``left_out``."""
        values = {name: np.zeros(n) for name in _PARTS}
        for one in range(_FOLDS):
            for name, fitted in parts[left_out | {one}].items():
                values[name][fold == one] = fitted[fold == one]
        return values

    nested = np.zeros(n)
    for one in range(_FOLDS):
        inside = fold != one
        values = unseen(frozenset({one}))
        choice = _choose({name: value[inside] for name, value in values.items()}, levels[inside], weights[inside])
        mixed = _mix(values, choice, inside)
        # Each fold in the same measure, so that its rows can be compared with those of another.
        nested[~inside] = (mixed[~inside] - mixed[inside].mean()) / (mixed[inside].std() + 1e-9)
    before, after = (concordance(each, levels, weights) for each in (shipped, nested))
    values = unseen(frozenset())
    better = _beyond(nested, shipped, levels, weights, _CAUTION_OF_LENGTH) > 0 and after > 0.5  # .5 is chance
    choice = _choose(values, levels, weights) if better else ""
    if not choice:
        choice, after = _other_level(shipped, levels, weights), before
    scores = (before, after)
    return _whole(rows, functools.reduce(operator.add, sums), choice, values, scores)


def concordance(values: Matrix, levels: Matrix, weights: Matrix) -> float:
    """Return the share of pairs that the values rank rightly, each weighing as much as its levels differ; ties half."""
    apart = float(weights @ ((_ranks(levels, weights) - 0.5) * levels))
    return 0.5 if apart <= 0 else 0.5 + 0.5 * float(weights @ ((_ranks(values, weights) - 0.5) * levels)) / apart


def _ranks(values: Matrix, weights: Matrix) -> Matrix:
    """Return ranks from 0 to 1 with .5 in the middle, by weight; those of equal values are equal."""
    _, places = np.unique(values, return_inverse=True)
    heaps = np.bincount(places, weights)
    ranks: Matrix = ((np.cumsum(heaps) - heaps / 2) / heaps.sum())[places]
    return ranks


def _near(rows: Rows, masks: list[Matrix]) -> Matrix:
    """Return what the prompts that are alike say of each row (masks, rows), by the rows of each mask alone."""
    kept = slice(-_MOST_NEIGHBOURS, None)
    gains = np.zeros((len(rows.levels[kept]), len(masks)), dtype=np.float32)
    weights = np.zeros_like(gains)
    for column, mask in enumerate(masks):
        mean = np.average(rows.levels[mask], weights=rows.weights[mask])
        gains[:, column] = rows.levels[kept] - mean
        weights[:, column] = rows.weights[kept] * mask[kept]
    means = [nearest(some @ rows.vectors[kept].T, gains, weights) for some in np.array_split(rows.vectors, 8)]
    near: Matrix = np.concatenate(means).T
    return near


@dataclass(frozen=True)
class _Sums:
    """What a ridge regression needs of some rows, so that those of several folds can be added."""

    weight: float
    x: Matrix
    y: float
    xx: Matrix
    xy: Matrix

    @classmethod
    def of(cls, x: Matrix, y: Matrix, weights: Matrix) -> _Sums:
        heavy = x * weights[:, None]
        return cls(float(weights.sum()), heavy.sum(axis=0), float(weights @ y), x.T @ heavy, heavy.T @ y)

    def __add__(self, other: _Sums) -> _Sums:
        return _Sums(
            self.weight + other.weight, self.x + other.x, self.y + other.y, self.xx + other.xx, self.xy + other.xy
        )

    def ridge(self, name: str) -> Matrix:
        """Return the weights of one of the ridge regressions, for its first columns; its constant is left out."""
        last, penalty = _RIDGES[name]
        mean = self.x[:last] / self.weight
        cross = self.xx[:last, :last] / self.weight - np.outer(mean, mean)
        # Figures that hardly differ in what was learned from would be trusted far beyond it.
        scale = np.sqrt(np.maximum(np.diag(cross), 0)) + _LEAST_DEVIATION
        gram = self.weight * cross / np.outer(scale, scale)
        gram[np.diag_indices_from(gram)] += penalty
        right = (self.xy[:last] - mean * self.y) / scale
        linear: Matrix = np.linalg.solve(gram, right) / scale
        return linear


def _measures(values: dict[str, Matrix], choice: str, inside: Matrix | None = None) -> dict[str, tuple[float, float]]:
    """Return mean and deviation of each learner's values, in which they are added."""
    of = {name: values[name] if inside is None else values[name][inside] for name in _CHOICES[choice]}
    return {name: (float(some.mean()), max(float(some.std()), _FLOORS.get(name, 1e-9))) for name, some in of.items()}


def _mix(values: dict[str, Matrix], choice: str, inside: Matrix | None = None) -> Matrix:
    """Return the sum of a choice's learners, each in its own deviations; those of the shipped order for no choice."""
    if not choice:
        return values["shipped"]
    measures = _measures(values, choice, inside)
    mixed: Matrix = sum(((values[name] - mean) / spread for name, (mean, spread) in measures.items()), np.zeros(1))
    return mixed


def _choose(values: dict[str, Matrix], levels: Matrix, weights: Matrix) -> str:
    """Return the choice that ranks best; "" where none beats the shipped order beyond noise.

    What was fitted must beat length too, which needs no outcomes, and chance: where the shipped order does badly, by
    bad luck or not, anything at all beats that.
    """
    mixed = {choice: _mix(values, choice) for choice in _CHOICES}
    chance = np.zeros(len(levels))
    best, most = "", 0.0
    for choice, its in mixed.items():
        gain = _beyond(its, values["shipped"], levels, weights, _CAUTION_OF_LENGTH if choice == LENGTH else _CAUTION)
        rivals = () if choice == LENGTH else (values["length"], chance)
        if gain > most and all(_beyond(its, rival, levels, weights, _CAUTION) > 0 for rival in rivals):
            best, most = choice, gain
    return best


def _beyond(values: Matrix, rival: Matrix, levels: Matrix, weights: Matrix, caution: float) -> float:
    """Return by how much values rank better than a rival, less so many standard errors of that."""
    weights = weights / weights.sum()
    better = (_ranks(values, weights) - _ranks(rival, weights)) * (levels - weights @ levels)
    mean = float(weights @ better)
    return mean - caution * float(np.sqrt(weights**2 @ (better - mean) ** 2))


def _other_level(shipped: Matrix, levels: Matrix, weights: Matrix) -> str:
    """Return the choice of the shipped order where the levels lie elsewhere than its difficulties; else ""."""
    weights = weights / weights.sum()
    middle, level, slope = _line(shipped, shipped, levels, weights)
    nearer = (levels - shipped) ** 2 - (levels - level - slope * (shipped - middle)) ** 2
    mean = float(weights @ nearer)
    return SAME_ORDER if mean > 2 * float(np.sqrt(weights**2 @ (nearer - mean) ** 2)) else ""


def _line(mixed: Matrix, shipped: Matrix, levels: Matrix, weights: Matrix) -> tuple[float, float, float]:
    """Return the middle of ``mixed``, the level there, and how far the levels follow, for weights whose sum is 1."""
    middle, level = float(weights @ mixed), float(weights @ levels)
    spread = float(np.sqrt(weights @ (mixed - middle) ** 2)) + 1e-9
    slope = float(weights @ ((mixed - middle) * (levels - level))) / spread**2
    # Never so little that all prompts get one tier, for then the dial would turn nothing any more; nor so much that
    # prompts unlike these would fly off.
    own = max(float(shipped.std()), _FLOORS["shipped"])
    return middle, level, min(max(slope, _SPREAD * own / spread), _MOST_SPREAD * own / spread)


def _whole(rows: Rows, sums: _Sums, choice: str, values: dict[str, Matrix], scores: tuple[float, float]) -> Taught:
    """Return the choice fitted to all rows, as one sum that says a difficulty."""
    # ``values`` are what the learners say of rows that they did not see: how far the levels follow them is honest.
    mixed = _mix(values, choice)
    middle, level, slope = _line(mixed, rows.figures[:, 0], rows.levels, rows.weights / rows.weights.sum())
    linear, near, bias = np.zeros(rows.figures.shape[1]), 0.0, level - slope * middle
    for name, (mean, deviation) in _measures(values, choice).items() if choice else ():
        share = slope / deviation
        bias -= share * mean
        if name == "near":
            near = share
        elif name in ("shipped", "length"):
            linear[("shipped", "length").index(name)] += share
        else:
            solved = sums.ridge(name)
            linear[: len(solved)] += share * solved
    kept = slice(-_MOST_NEIGHBOURS, None)
    vectors = rows.vectors[kept]
    gains = rows.levels[kept] - level
    return Taught(
        *scores, choice, bias, linear, near, vectors, gains, _likeness(vectors),
        np.clip(level + slope * (mixed - middle), 0, 1),
    )  # fmt: skip


def _likeness(vectors: Matrix) -> float:
    """Return the cosine to its nearest neighbour that nearly all prompts have."""
    some = vectors[-500:]
    alike = some @ vectors.T
    alike[np.arange(len(some)), np.arange(len(vectors) - len(some), len(vectors))] = -1
    return float(np.clip(np.quantile(alike.max(axis=1), _STRANGEST), _LEAST_LIKENESS, _MOST_LIKENESS))
