"""How sure the classifier may say it is: ``python -m training.confidence`` measures it and writes it into the weights.

The weights were not fitted to the third of our own requests that is held back. Every other of these says how often the
tier is right at which distance from a boundary, for how clear a prompt; the rest, and the authors of the final test,
tell whether that holds.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ipyrouter.classifier.model import FAST_BELOW, POWER_ABOVE, WEIGHTS, Model, clearness, tier_of
from ipyrouter.types import TIERS
from training import data
from training.weights import Matrix, about, rewrite

_BINS = 10
_STEPS = 30


def main() -> None:
    """Read the options, improve the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=WEIGHTS)
    improve(parser.parse_args().out)


def improve(out: Path) -> None:
    """Measure how often the tier is right, write it into a weights file, and print whether it holds elsewhere."""
    held = data.notebook(held_back=True)
    network = Model(out)
    network.about.update(right_at=0.0, right_apart=1.0, right_clear=0.0, sure_at=0.0, sure_slope=1.0)
    sure, right = measure(network, held)
    apart = np.log(sure / (1 - sure))  # with 0, 1 and 0 the confidence is the sigmoid of the distance
    clear = np.array([clearness(reading) for reading in network.read_many(held.prompts)])
    names = ("right_at", "right_apart", "right_clear", "sure_at", "sure_slope")
    fitted = dict(
        zip(
            names, (*_logistic([apart[::2], clear[::2]], right[::2]), *_logistic([apart[::2]], right[::2])), strict=True
        )
    )
    rewrite(out, lambda arrays: about(arrays, fitted))
    network = Model(out)
    sure, right = measure(network, held)
    print(", ".join(f"{name} {value:.3f}" for name, value in fitted.items()))
    print(f"held back, the half not used: expected calibration error {error(sure[1::2], right[1::2]):.3f}")
    for author in data.FINAL:
        print(f"author {author}: expected calibration error {error(*measure(network, data.final(author))):.3f}")


def measure(network: Model, part: data.Labelled) -> tuple[Matrix, Matrix]:
    """Return of each prompt the confidence, and whether its tier is right."""
    sure, right = [], []
    for reading, tier in zip(network.read_many(part.prompts), part.tiers, strict=True):
        difficulty = network.difficulty(reading)
        sure.append(network.confidence(reading, difficulty, FAST_BELOW, POWER_ABOVE))
        right.append(TIERS.index(tier_of(difficulty, FAST_BELOW, POWER_ABOVE)) == tier)
    return np.array(sure), np.array(right, dtype=float)


def error(sure: Matrix, right: Matrix) -> float:
    """Return the expected calibration error: |confidence - share right|, averaged over bins of confidence."""
    bins = np.minimum((sure * _BINS).astype(int), _BINS - 1)
    return float(sum(abs((sure - right)[bins == one].sum()) for one in range(_BINS)) / len(sure))


def _logistic(columns: Sequence[Matrix], y: Matrix) -> list[float]:
    """Return the constant and the slopes of a logistic regression, by Newton's steps."""
    design = np.stack([np.ones_like(y), *columns], axis=1)
    weights = np.zeros(design.shape[1])
    for _ in range(_STEPS):
        chance = 1 / (1 + np.exp(-design @ weights))
        curve = design.T @ (design * (chance * (1 - chance))[:, None]) + 1e-6 * np.eye(len(weights))
        weights += np.linalg.solve(curve, design.T @ (y - chance))
    return [float(weight) for weight in weights]


if __name__ == "__main__":
    main()
