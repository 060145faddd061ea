"""The words that typos are repaired by: ``python -m training.spelling`` writes them into the weights.

What a typo may mean are the common words of the requests that the network is taught with. What is no typo is more: the
words of the exam questions too, and those that the teacher's encoder knows whole. Nothing held back is among the texts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from pathlib import Path

import numpy as np

from ipyrouter.classifier.pieces import BEGINNING, words_of
from ipyrouter.classifier.request import request_of
from ipyrouter.classifier.spelling import LATIN, LONGEST, SHORTEST
from training import data
from training.weights import Matrix, options, rewrite

_COMMON, _RARE = 3, 2  # times that a word is seen at the least; what is seen once may be a typo itself


def main() -> None:
    """Read the options, improve the file."""
    chosen = options(__doc__)
    improve(chosen.out, chosen.data)


def improve(out: Path, folder: Path) -> None:
    """Write the words of the training's texts, and of the encoder, into a weights file."""
    from training.encoder import vocabulary  # torch, which only training needs

    own, uncommon = data.notebook(held_back=False, paraphrased=True), data.uncommon(folder, held_back=False)
    rewrite(out, lambda arrays: add(arrays, own.prompts + uncommon.prompts, data.questions(folder), vocabulary()))


def add(
    arrays: dict[str, Matrix], requests: Collection[str], questions: Collection[str], pieces: Iterable[str]
) -> dict[str, Matrix]:
    """Return the arrays of the weights file with both lists of words.

    Args:
        arrays: Those of the file.
        requests: The requests that are taught.
        questions: The exam questions that are taught.
        pieces: The encoder's pieces of words.
    """
    common = common_words(requests, _COMMON)
    whole = (piece[1:].lower() for piece in pieces if piece.startswith(BEGINNING))
    known = {word for word in whole if _may_be_typed(word)}
    known.update(common_words(requests, _RARE), common_words(questions, _RARE))
    rare = known.difference(common)
    print(f"{len(common):,} words that a typo may mean, {len(rare):,} more that are none")
    lists = {"words": common, "rare_words": sorted(rare)}
    return {**arrays, **{name: np.frombuffer("\n".join(some).encode(), np.uint8) for name, some in lists.items()}}


def common_words(prompts: Iterable[str], times: int) -> list[str]:
    """Return the words in Latin letters of prompts, the commonest first, equally common ones by name.

    Args:
        prompts: What was typed; the code and tables in it do not count.
        times: How often a word is seen at the least.
    """
    counts = Counter(word for prompt in prompts for word in words_of(request_of(prompt).text))
    kept = [(-count, word) for word, count in counts.items() if count >= times and _may_be_typed(word)]
    return [word for _, word in sorted(kept)]


def _may_be_typed(word: str) -> bool:
    # A word of one letter less than the shortest that is looked up may be meant by it.
    return SHORTEST - 1 <= len(word) <= LONGEST and word.isalpha() and max(word) <= LATIN


if __name__ == "__main__":
    main()
