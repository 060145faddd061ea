"""Words that are not known, but one typo away from one that is: read as the word that was meant.

The words come from the texts that the network was taught with and from its teacher (training/spelling.py).
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np

SHORTEST, LONGEST = 4, 18  # letters of a word that is looked up
MOST = 16  # distinct words of a prompt that are looked up, the first ones: a page of base64 costs no more than a line
LATIN = "\u024f"  # the last letter of the Latin script; elsewhere one other letter is seldom a typo
_BEFORE, _BEHIND = "(", "),.;:!?…"  # signs of prose; a word with any other beside it is code, a name or a path
_REMEMBERED = 50_000  # words that were looked up

# A word's key is a polynomial in its letters modulo 2 to the 64. The base is odd, so that it can be divided by.
_BASE, _WHOLE = 0x9E3779B97F4A7C15, 1 << 64
_BUCKET = 48  # bits of a key behind those that the sorted keys are found by
_INVERSE = pow(_BASE, -1, _WHOLE)
_POWERS = [pow(_BASE, place, _WHOLE) for place in range(LONGEST + 1)]


class Spelling:
    """A list of words that are found by words with one letter more, less or other, or with two neighbours swapped.

    The first letter stays: few typos change it, and many another word differs by it alone.
    """

    def __init__(self, words: Sequence[str], others: Sequence[str]) -> None:
        """Take the words; sort nothing yet.

        Args:
            words: Those that are looked for: the commonest first, in lower case, of LONGEST letters at the most.
            others: Those that are no typos, but too rare to be what a typo means.
        """
        self._words, self._others = words, others
        self._meant = functools.lru_cache(_REMEMBERED)(self.nearest)

    def meant(self, text: str) -> dict[str, str]:
        """Return the words of a text that may be typos, in lower case, each with the word that is meant.

        Where none is near, that is the word itself. Only words of prose in Latin letters may be typos: not
        what stands in quotes, or beside an underscore, a digit, a bracket of an index or a dot that is not at its end,
        nor what has capitals inside.

        Args:
            text: As it was typed.
        """
        if not self._words:
            return {}
        if text.isupper():
            text = text.lower()
        known, meant = self._known, {}
        for token in dict.fromkeys(text.split()):
            if token in known:
                continue
            word = token.lstrip(_BEFORE).rstrip(_BEHIND)
            if not word[1:].islower() or (word := word.lower()) in known or word in meant:
                continue
            if SHORTEST <= len(word) <= LONGEST and word.isalpha() and max(word) <= LATIN:
                meant[word] = self._meant(word)
                if len(meant) == MOST:
                    break
        return meant

    def nearest(self, word: str) -> str:
        """Return the commonest word that is one edit away from a word; that word itself where none is.

        Args:
            word: It is not one of those that are looked for, and has LONGEST letters at the most.
        """
        starts, keys, places = self._index
        best = len(self._words)
        for key in _keys(word):
            bucket = key >> _BUCKET
            for at in range(starts[bucket], starts[bucket + 1]):
                if keys[at] == key and places[at] < best and one_edit(word, self._words[places[at]]):
                    best = places[at]
        return self._words[best] if best < len(self._words) else word

    def prepare(self) -> None:
        """Sort the words now, not at the first one that is looked up."""
        if self._words:
            _ = self._known, self._index

    @functools.cached_property
    def _known(self) -> frozenset[str]:
        return frozenset(self._words).union(self._others)

    @functools.cached_property
    def _index(self) -> tuple[memoryview, memoryview, memoryview]:
        """The keys of all words that are looked for, sorted, and what finds them.

        Where the keys with the same first bits begin; the keys; and for each the place of its word.
        """
        letters = np.array(self._words, dtype=f"U{LONGEST + 1}").view(np.uint32).reshape(len(self._words), -1)
        # The same as _keys, for all words at once; behind its end, a word's own key is there once more.
        terms = letters * np.array(_POWERS, np.uint64)
        sums = terms.cumsum(axis=1)
        keys = sums - terms + (sums[:, -1:] - sums) * np.uint64(_INVERSE)
        lengths = (letters != 0).sum(axis=1, keepdims=True)
        columns = np.arange(LONGEST + 1)
        places, columns = np.nonzero((columns > 0) & (columns <= lengths))
        keys = keys[places, columns]
        order = np.argsort(keys)
        counts = np.bincount((keys >> np.uint64(_BUCKET)).astype(np.intp), minlength=_WHOLE >> _BUCKET)
        starts = np.concatenate(([0], counts.cumsum()))
        return starts.data, keys[order].data, places[order].data


def _keys(word: str) -> list[int]:
    """Return the keys of a word without its second, its third, ... letter, and its own. Equal ones begin alike."""
    first, *terms = (ord(letter) * power for letter, power in zip(word, _POWERS, strict=False))
    before, behind = first, sum(terms)
    keys = []
    for term in terms:
        behind -= term
        keys.append((before + behind * _INVERSE) % _WHOLE)  # what is behind the letter moves one place down
        before += term
    return [*keys, before % _WHOLE]


def one_edit(word: str, other: str) -> bool:
    """Tell whether two words differ by one letter more, less or other, or by two neighbours swapped."""
    start, shorter = 0, min(len(word), len(other))
    while start < shorter and word[start] == other[start]:
        start += 1
    end = 0
    while end < shorter - start and word[-1 - end] == other[-1 - end]:
        end += 1
    left, right = word[start : len(word) - end], other[start : len(other) - end]
    return max(len(left), len(right)) == 1 or (len(left) == 2 and left == right[::-1])
