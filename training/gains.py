"""How much a strong model gains on an exam question, by the kind of question.

Questions are grouped by their embeddings; a question's gain is that of the groups it is near to. Within a kind nothing
is learned, because what tells a hard question from an easy one in one data set tells nothing in another
(benchmarks/classifier.py, out of domain): there, length is left to speak.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.cluster import KMeans
from sklearn.linear_model import Ridge

_KINDS = 32
_SHARPNESS = 10.0
Matrix = np.ndarray[Any, Any]


class Gains:
    """Fitted to embeddings (questions, 512), each question's gain, and the name of its data set."""

    def __init__(self, embeddings: Matrix, gains: Matrix, sources: Matrix) -> None:
        # A data set's mean gain tells of its models and not of its questions.
        level = {source: gains[sources == source].mean() for source in np.unique(sources)}
        centred = gains - np.array([level[source] for source in sources])
        self._centres = KMeans(_KINDS, n_init=1, random_state=0).fit(embeddings).cluster_centers_
        self._ridge = Ridge(alpha=2.0).fit(self._nearness(embeddings), centred)
        self._spread = float(np.std(self._ridge.predict(self._nearness(embeddings))))

    def __call__(self, embeddings: Matrix) -> Matrix:
        """Return the gains, in standard deviations over the questions that were fitted."""
        gains: Matrix = self._ridge.predict(self._nearness(embeddings)) / self._spread
        return gains

    def _nearness(self, embeddings: Matrix) -> Matrix:
        near = np.exp(_SHARPNESS * (embeddings @ self._centres.T))
        return near / near.sum(axis=1, keepdims=True)
