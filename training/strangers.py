"""Which exam questions the network knows the kind of: ``python -m training.strangers`` writes it into the weights.

How much a strong model gains is learned by kinds of questions. A question that is like none of those gets no such
guess, and its length alone speaks: what was learned of other kinds says less of it than that.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ipyrouter.classifier.learners import normed
from ipyrouter.classifier.model import Model
from training import data
from training.weights import Matrix, about, options, rewrite

_KINDS = 256
_ROUNDS = 10
_KNOWN, _STRANGE = 0.5, 0.05  # shares of the training questions less alike: from the one on all of the guess counts


def main() -> None:
    """Read the options, improve the file."""
    chosen = options(__doc__)
    improve(chosen.out, chosen.data)


def improve(out: Path, folder: Path) -> None:
    """Write the kinds of the training questions into a weights file."""
    hidden = [reading.hidden for reading in Model(out).read_many(data.questions(folder))]
    rewrite(out, lambda arrays: add(arrays, normed(np.array(hidden))))


def add(arrays: dict[str, Matrix], vectors: Matrix) -> dict[str, Matrix]:
    """Return the arrays of the weights file with the kinds of questions.

    Args:
        arrays: Those of the file.
        vectors: The hidden values of the training questions, each of length 1.
    """
    chance = np.random.default_rng(0)
    kinds = vectors[chance.choice(len(vectors), _KINDS, replace=False)]
    for _ in range(_ROUNDS):
        nearest = (vectors @ kinds.T).argmax(axis=1)
        sums = np.zeros_like(kinds)
        np.add.at(sums, nearest, vectors)
        kinds = np.where(sums.any(axis=1, keepdims=True), normed(sums), kinds)
    alike = (vectors @ kinds.T).max(axis=1)
    strange, known = (float(np.quantile(alike, share)) for share in (_STRANGE, _KNOWN))
    kept = {**arrays, "kinds": np.rint(127 * kinds).astype(np.int8)}
    return about(kept, {"strange_at": 2 * strange - known, "known_at": known})


if __name__ == "__main__":
    main()
