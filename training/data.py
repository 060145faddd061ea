"""The training data as feature matrices: the shared correctness and tier files, and our own notebook requests.

The shared files stay where they are (``--data``, default ../shared/data/routing beside the checkout).
"""

from __future__ import annotations

import gzip
import json
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix, hstack

from ipyrouter.classifier.features import BUCKETS, analyse, pair_bucket, word_buckets

ROOT = Path(__file__).parent.parent
SHARED = ROOT.parent / "shared" / "data" / "routing"
OWN = Path(__file__).with_name("notebook_requests.jsonl")
TIERS = {"fast": 0, "mid": 1, "power": 2, "SIMPLE": 0, "MEDIUM": 1, "COMPLEX": 2, "REASONING": 2}

_LLMROUTER_WEAK = ("llama-3.1-8b-instruct", "gemma-2-9b-it", "qwen2.5-7b-instruct", "mistral-7b-instruct-v0.3")
_LLMROUTER_STRONG = ("llama-3.1-nemotron-51b-instruct", "llama-3.3-nemotron-super-49b-v1")
PAIRS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "mmlu": (("mistralai/Mixtral-8x7B-Instruct-v0.1",), ("gpt-4-1106-preview",)),
    "zeroeval-crux": (("claude-3-haiku",), ("claude-3-5-sonnet-20241022",)),
    "zeroeval-math-l5": (("claude-3-haiku",), ("claude-3-5-sonnet-20241022",)),
    "llmrouter": (_LLMROUTER_WEAK, _LLMROUTER_STRONG),
}


@dataclass(frozen=True)
class Outcomes:
    """Prompts with the mean correctness of a weak and of a strong model."""

    prompts: list[str]
    weak: np.ndarray[Any, Any]
    strong: np.ndarray[Any, Any]


@dataclass(frozen=True)
class Labelled:
    """Prompts with a tier: 0 fast, 1 mid, 2 power."""

    prompts: list[str]
    tiers: np.ndarray[Any, Any]


def _rows(path: Path) -> list[dict[str, Any]]:
    text = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    return [json.loads(line) for line in text.splitlines()]


def outcomes(name: str, folder: Path = SHARED) -> Outcomes:
    """Read one of the correctness files."""
    rows = _rows(folder / f"{name}.jsonl.gz")
    groups = []
    for wanted in PAIRS[name]:
        known = [model for model in rows[0]["scores"] if any(model.startswith(prefix) for prefix in wanted)]
        groups.append([known[0]] if len(wanted) == 1 else known)
    rows = [row for row in rows if all(model in row["scores"] for group in groups for model in group)]
    weak, strong = (np.array([np.mean([row["scores"][m] for m in group]) for row in rows]) for group in groups)
    return Outcomes([row["prompt"] for row in rows], weak, strong)


def uncommon(folder: Path = SHARED) -> Labelled:
    """Read UncommonRoute's labelled requests."""
    rows = _rows(folder / "uncommonroute.jsonl.gz")
    return Labelled([row["prompt"] for row in rows], np.array([TIERS[row["tier"]] for row in rows]))


def notebook(*, held_back: bool | None = None, author: str | None = None, others: bool = False) -> Labelled:
    """Read our own requests: the third that nothing is trained or tuned on, or the rest; split by hash.

    ``author`` keeps the rows of one author alone, or with ``others`` all but those.
    """
    rows = _rows(OWN)
    if held_back is not None:
        rows = [row for row in rows if (zlib.crc32(row["prompt"].encode()) % 3 == 0) == held_back]
    if author is not None:
        rows = [row for row in rows if (row["author"] == author) != others]
    return Labelled([row["prompt"] for row in rows], np.array([TIERS[row["tier"]] for row in rows]))


def matrix(prompts: list[str]) -> csr_matrix:
    """Return the features as the classifier computes them: counts over the root of their number, then the figures."""
    places: list[np.ndarray[Any, Any]] = []
    values: list[np.ndarray[Any, Any]] = []
    ends, figures = [0], []
    for prompt in prompts:
        words, pairs, numbers = analyse(prompt)
        buckets = [bucket for word in words for bucket in word_buckets(word)] + [pair_bucket(pair) for pair in pairs]
        place, count = np.unique(np.array(buckets, dtype=np.int64), return_counts=True)
        places.append(place)
        values.append(count / np.sqrt(max(len(buckets), 1)))
        ends.append(ends[-1] + len(place))
        figures.append(numbers)
    hashed = csr_matrix((np.concatenate(values), np.concatenate(places), ends), shape=(len(prompts), BUCKETS))
    return hstack([hashed, csr_matrix(np.array(figures))]).tocsr()


def apgr(difficulty: np.ndarray[Any, Any], weak: np.ndarray[Any, Any], strong: np.ndarray[Any, Any]) -> float:
    """Return the average performance gap recovered (RouteLLM): random is .5. Tied prompts move together."""
    order = np.argsort(-difficulty, kind="stable")
    ranked, gain = difficulty[order], np.cumsum((strong - weak)[order])
    ends = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1)
    share = np.concatenate([[0.0], (ends + 1) / len(ranked)])
    reached = np.concatenate([[0.0], gain[ends] / gain[-1]])
    return float(np.trapezoid(reached, share))
