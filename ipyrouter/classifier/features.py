"""From a request to hashed features: words, pieces of words, pairs of words, and a few figures. In any language."""

from __future__ import annotations

import functools
import math
import re
from zlib import crc32

from ipyrouter.classifier.request import RequestText, request_of

BUCKETS = 1 << 18
_SIZES = (3, 4, 5)
# A word, a number, one sign of a script without spaces, or punctuation.
_TOKEN = re.compile(
    r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\u0e00-\u0e7f]|[^\W\d_]+(?:['’][^\W\d_]+)?|\d+|[^\w\s]",
    re.UNICODE,
)
FIGURES = ("length", "words", "numbers", "lines", "question", "maths", "choices", "code", "traceback", "table", "quote")


def _bucket(feature: str) -> int:
    return crc32(feature.encode("utf-8", "replace")) % BUCKETS


@functools.lru_cache(maxsize=20_000)
def word_buckets(word: str) -> tuple[int, ...]:
    """Return the buckets of a word: itself, and its pieces of 3 to 5 characters, so that typos share most of them."""
    padded = f"<{word}>"
    pieces = [f"w:{word}"]
    if len(word) > 2:
        pieces += [padded[i : i + size] for size in _SIZES for i in range(len(padded) - size + 1)]
    return tuple(dict.fromkeys(map(_bucket, pieces)))


def words_of(text: str) -> list[str]:
    """Return the tokens of a text in lower case; numbers are one token."""
    found = _TOKEN.findall(text.lower())
    return ["0" if token.isdigit() else token for token in found]


def pairs_of(words: list[str]) -> list[tuple[str, str]]:
    """Return the distinct pairs of neighbouring words; the first word's neighbour is the beginning."""
    return list(dict.fromkeys(zip(["^", *words], words, strict=False)))


def pair_bucket(pair: tuple[str, str]) -> int:
    """Return the bucket of two neighbouring words."""
    return _bucket(f"{pair[0]} {pair[1]}")


def figures_of(request: RequestText, words: list[str]) -> tuple[float, ...]:
    """Return the figures named in FIGURES, each about 0 to 2."""
    text = request.text
    return (
        math.log1p(len(text)) / 4,
        math.log1p(len(words)) / 3,
        math.log1p(words.count("0")) / 2,
        math.log1p(text.count("\n")) / 2,
        1.0 if "?" in text or "？" in text else 0.0,
        math.log1p(text.count("$") + text.count("\\") + text.count("^")) / 2,
        1.0 if "\nA." in text or "\nA)" in text or "\n(A)" in text else 0.0,
        math.log1p(request.code) / 2,
        math.log1p(request.traceback) / 2,
        math.log1p(request.table) / 2,
        math.log1p(request.quote) / 2,
    )


def shape_of(text: str, words: list[str]) -> tuple[float, ...]:
    """Return what a text looks like, whatever it says: sizes, and how much of it is code, figures or formulas."""
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


def analyse(prompt: str) -> tuple[list[str], list[tuple[str, str]], tuple[float, ...]]:
    """Return the distinct words, the distinct pairs and the figures of a prompt."""
    request = request_of(prompt)
    words = words_of(request.text)
    return list(dict.fromkeys(words)), pairs_of(words), figures_of(request, words)
