"""Variations of a request: with typos, with words left out or moved, or mixed from two of them.

They have no label of their own: the teacher says what it thinks of them, and the student learns to think the same.
"""

from __future__ import annotations

import random
from collections.abc import Sequence


def typos(prompt: str, seed: int) -> str:
    """Return the prompt with a typo in one long word of six: two letters swapped, one left out, or one doubled."""
    chance = random.Random(seed)
    words = prompt.split(" ")
    for number, word in enumerate(words):
        if len(word) > 3 and word.isalpha() and chance.random() < 1 / 6:
            at = chance.randrange(1, len(word) - 1)
            words[number] = chance.choice(
                [
                    word[:at] + word[at + 1] + word[at] + word[at + 2 :],
                    word[:at] + word[at + 1 :],
                    word[:at] + word[at] + word[at:],
                ]
            )
    return " ".join(words)


def varied(texts: Sequence[str], count: int, seed: int) -> tuple[list[str], list[int], list[bool]]:
    """Return variations of prompts, the place of each one's source, and whether it means the same.

    A typo does not change the meaning.
    """
    chance = random.Random(seed)
    latin = [text for text in texts if _latin(text)]
    rest = [text for text in texts if not _latin(text)]
    variations, sources, same = [], [], []
    for _ in range(count):
        place = chance.randrange(len(texts))
        text = texts[place]
        same.append(chance.random() < 0.25)
        if same[-1]:
            variations.append(typos(text, chance.randrange(1 << 30)))
        else:
            variations.append(_other(text, chance.choice(latin if _latin(text) else rest), chance))
        sources.append(place)
    return variations, sources, same


def _other(text: str, second: str, chance: random.Random) -> str:
    """Return the prompt with words left out, mixed with the second, cut to a part, or with its halves exchanged."""
    words, more = text.split(" "), second.split(" ")
    start = chance.randrange(len(words))
    kind = chance.random()
    if kind < 0.45:
        share = chance.choice((0.1, 0.2, 0.3))
        return " ".join(word for word in words if chance.random() >= share) or text
    if kind < 0.75:
        return " ".join(words[:start] + more[chance.randrange(len(more)) :])
    if kind < 0.88:
        return " ".join(words[start : chance.randrange(start + 1, len(words) + 1)])
    return " ".join(words[start:] + words[:start])


def _latin(text: str) -> bool:
    return sum(map(ord, text[:40])) < 400 * len(text[:40])
