"""The training data: the shared correctness and tier files, and our own notebook requests.

The shared files stay where they are (``--data``, default ../shared/data/routing beside the checkout).
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parent.parent
SHARED = ROOT.parent / "shared" / "data" / "routing"
OWN = Path(__file__).with_name("notebook_requests.jsonl")
PARAPHRASES = Path(__file__).with_name("paraphrases.jsonl")
JUDGES = ("first", "d", "h", "j", "k")  # left out in turn; "first" and "d" wrote hard cases, j no English
FINAL = ("e", "z")
LANGUAGES = {  # groups for leaving one out: a prompt is often near another one in a kindred language
    "English": ("en",),
    "other languages in Latin script": ("cs", "de", "es", "fr", "id", "it", "nl", "pl", "pt", "sv", "tr", "vi"),
    "languages in other scripts": ("ar", "fa", "he", "hi", "ja", "ko", "ru", "th", "uk", "zh"),
}
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
    """Prompts with a tier: 0 fast, 1 mid, 2 power; and who wrote them."""

    prompts: list[str]
    tiers: np.ndarray[Any, Any]
    authors: np.ndarray[Any, Any]


def _rows(path: Path) -> list[dict[str, Any]]:
    text = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    return [json.loads(line) for line in text.splitlines()]


def _labelled(rows: list[dict[str, Any]]) -> Labelled:
    authors = np.array([row.get("author", "uncommonroute") for row in rows])
    return Labelled([row["prompt"] for row in rows], np.array([TIERS[row["tier"]] for row in rows]), authors)


def outcomes(name: str, folder: Path = SHARED, *, held_back: bool | None = None) -> Outcomes:
    """Read one of the correctness files: the fifth that nothing is trained on, the rest, or all of it."""
    rows = _rows(folder / f"{name}.jsonl.gz")
    groups = []
    for prefixes in PAIRS[name]:
        known = [model for model in rows[0]["scores"] if any(model.startswith(prefix) for prefix in prefixes)]
        groups.append([known[0]] if len(prefixes) == 1 else known)
    rows = [row for row in rows if all(model in row["scores"] for group in groups for model in group)]
    rows = _fifth(rows, held_back)
    weak, strong = (np.array([np.mean([row["scores"][m] for m in group]) for row in rows]) for group in groups)
    return Outcomes([row["prompt"] for row in rows], weak, strong)


def questions(folder: Path = SHARED) -> list[str]:
    """Read the exam questions that are trained on."""
    return [prompt for name in PAIRS for prompt in outcomes(name, folder, held_back=False).prompts]


def uncommon(folder: Path = SHARED, *, held_back: bool | None = None) -> Labelled:
    """Read UncommonRoute's labelled requests: the fifth that nothing is trained on, the rest, or all of them."""
    return _labelled(_fifth(_rows(folder / "uncommonroute.jsonl.gz"), held_back))


def _fifth(rows: list[dict[str, Any]], held_back: bool | None) -> list[dict[str, Any]]:
    return rows if held_back is None else [row for place, row in enumerate(rows) if (place % 5 == 0) == held_back]


def notebook(
    *,
    held_back: bool | None = None,
    keep: Callable[[dict[str, str]], bool] = lambda _: True,
    paraphrased: bool = False,
) -> Labelled:
    """Read our own requests: the third that nothing is trained or tuned on, or the rest; split by hash.

    ``keep`` chooses rows by their author and language. The authors of FINAL are never among them.
    ``paraphrased`` adds a row for the other words that some authors gave for their requests, for training.
    """
    rows = [row for row in _rows(OWN) if row["author"] not in FINAL and keep(row)]
    if held_back is not None:
        rows = [row for row in rows if _held_back(row) == held_back]
    if paraphrased:
        rows += [{**row, "prompt": other} for row in rows for other in _other_words(row)]
    return _labelled(rows)


def _held_back(row: dict[str, str]) -> bool:
    return zlib.crc32(row["prompt"].encode()) % 3 == 0


def _other_words(row: dict[str, str]) -> list[str]:
    return [text for name, text in row.items() if name.startswith("paraphrase")]


def final(author: str) -> Labelled:
    """Read the requests of one of the authors of FINAL, on whom nothing is trained, tuned, calibrated or chosen."""
    return _labelled([row for row in _rows(OWN) if row["author"] == author])


def paraphrases(author: str | None = None) -> list[tuple[str, str]]:
    """Read pairs of a request and the same in other words, for evaluation alone.

    They are of the third held back, or of one of the authors of FINAL.
    """
    held = [row for row in _rows(OWN) if row["author"] not in FINAL and _held_back(row)]
    rows = [row for row in _rows(OWN) if row["author"] == author] if author else [*_rows(PARAPHRASES), *held]
    return [(row["prompt"], other) for row in rows for other in _other_words(row)]


def apgr(difficulty: np.ndarray[Any, Any], weak: np.ndarray[Any, Any], strong: np.ndarray[Any, Any]) -> float:
    """Return the average performance gap recovered (RouteLLM): random is .5. Tied prompts move together."""
    order = np.argsort(-difficulty, kind="stable")
    ranked, gain = difficulty[order], np.cumsum((strong - weak)[order])
    ends = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1)
    share = np.concatenate([[0.0], (ends + 1) / len(ranked)])
    reached = np.concatenate([[0.0], gain[ends] / gain[-1]])
    return float(np.trapezoid(reached, share))
