"""Changes of a prompt that leave its meaning as it is: the tier should stay too.

Each takes a prompt and a seed. Used to train for steadiness, with some seeds, and to measure it, with others.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable

from training.augment import typos

_POLITE = (
    "Please {}", "Could you please help me with this? {}", "Hi! {}", "Hello, I have a question. {}", "{} Thanks!",
    "{} Thank you very much in advance.", "I'd be grateful for your help. {}", "Hey, quick one: {}",
)  # fmt: skip


def case(prompt: str, seed: int) -> str:
    """Return the prompt in lower case, in capitals, or with capitals at the beginnings of words."""
    return random.Random(seed).choice((str.lower, str.upper, str.title))(prompt)


def punctuation(prompt: str, seed: int) -> str:
    """Return the prompt without its last sign, with another one there, or without commas and question marks."""
    chance = random.Random(seed)
    bare = prompt.rstrip(" .?!")
    return chance.choice((bare, f"{bare}.", f"{bare}?", f"{bare}!!", f"{bare} ...", re.sub(r"[,?!;]", "", prompt)))


def whitespace(prompt: str, seed: int) -> str:
    """Return the prompt with some spaces doubled, or with a line broken, or with space around it."""
    chance = random.Random(seed)
    kind = chance.random()
    if kind < 0.3:
        return f"  {prompt}\n\n"
    if kind < 0.6:
        return re.sub(" ", lambda _: "  " if chance.random() < 0.3 else " ", prompt)
    return re.sub(r"(?<=[.?!]) ", "\n", prompt)


def polite(prompt: str, seed: int) -> str:
    """Return the prompt with a polite preamble, or with thanks."""
    words = random.Random(seed).choice(_POLITE)
    return words.format(prompt)


def noise(prompt: str, seed: int) -> str:
    """Return the prompt with signs dropped, doubled or exchanged: one in thirty."""
    chance = random.Random(seed)
    signs: list[str] = []
    for sign in prompt:
        if not sign.isalpha() or chance.random() > 1 / 30:
            signs.append(sign)
            continue
        signs.append(chance.choice(("", sign * 2, chance.choice("etaoinshr"))))
    return "".join(signs)


KINDS: dict[str, Callable[[str, int], str]] = {
    "typos": typos,
    "case": case,
    "punctuation": punctuation,
    "whitespace": whitespace,
    "preamble": polite,
    "noise": noise,
}
