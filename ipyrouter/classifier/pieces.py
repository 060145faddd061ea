"""From a string to the pieces of words that the classifier knows, in any language: the longest known one first."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping

BEGINNING = "▁"  # marks the beginning of a word, as in SentencePiece
_LONGEST = 16  # characters of a piece
# A number, one sign of ASCII's punctuation, or a run of anything else but white space.
_WORD = re.compile(r"[0-9]+|[!-/:-@\[-`{-~]|[^\s!-@\[-`{-~]+")


def words_of(text: str) -> list[str]:
    """Return the words of a string in lower case and NFKC; every number is "0"."""
    words = _WORD.findall(unicodedata.normalize("NFKC", text).lower())
    return ["0" if word[0] in "0123456789" else word for word in words]


def split(word: str, known: Mapping[str, int]) -> tuple[int, ...]:
    """Return the numbers of a word's pieces: the longest known one, then the same for the rest; unknown signs drop."""
    rest = BEGINNING + word
    numbers: list[int] = []
    at = 0
    while at < len(rest):
        for end in range(min(len(rest), at + _LONGEST), at, -1):
            if (number := known.get(rest[at:end])) is not None:
                numbers.append(number)
                at = end
                break
        else:
            at += 1
    return tuple(numbers)
