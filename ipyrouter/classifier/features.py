"""What a lesson sees of a prompt besides the network's reading: the shape of all that was written and pasted."""

from __future__ import annotations

import math
import re

# A word, a number, one sign of a script without spaces, or punctuation.
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\u0e00-\u0e7f]|[^\W\d_]+(?:['’][^\W\d_]+)?|\d+|[^\w\s]")
SHAPE = 16  # figures


def words_of(text: str) -> list[str]:
    """Return the words of a string in lower case; every number is "0"."""
    return ["0" if word.isdigit() else word for word in _WORD.findall(text.lower())]


def shape_of(text: str, words: list[str]) -> tuple[float, ...]:
    """Return a string's shape: sizes, and the shares of code, digits and formulas."""
    lines = text.split("\n")
    distinct = len(set(words))
    counts = (
        len(text),
        len(words),
        distinct,
        words.count("0"),
        len(lines),
        sum(map(str.isdigit, text)),
        sum(map(str.isupper, text)),
        sum(map(text.count, "()[]{}")),
        sum(map(text.count, "+-*/=<>^%")),
        sum(map(text.count, "\"'")),
        text.count("\\"),
        text.count(","),
        text.count("."),
        max(len(line) - len(line.lstrip()) for line in lines),
        max(map(len, words), default=0),
    )
    return (*map(math.log1p, counts), distinct / max(len(words), 1))
