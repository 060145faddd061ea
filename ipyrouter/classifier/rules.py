"""The article's signals: power words before fast words, then length. Matched at word boundaries, with reasons."""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING

from ipyrouter.types import Classification

if TYPE_CHECKING:
    from ipyrouter.config import Signals


@functools.lru_cache(maxsize=8)
def _pattern(words: tuple[str, ...]) -> re.Pattern[str]:
    # (?<!\w)…(?!\w) instead of \b: "list" is not part of "listen", nor "format" of "information".
    alternatives = "|".join(r"\s+".join(re.escape(part) for part in word.split()) for word in words)
    return re.compile(rf"(?<!\w)(?:{alternatives})(?!\w)", re.IGNORECASE)


def _matches(words: tuple[str, ...], prompt: str) -> tuple[str, ...]:
    matches = (" ".join(match.group().lower().split()) for match in _pattern(words).finditer(prompt))
    return tuple(dict.fromkeys(matches))


def signals_of(prompt: str, signals: Signals) -> Classification | None:
    """Return what the keyword signals alone say, or None where none matches."""
    if power := _matches(signals.power, prompt):
        return Classification("power", 0.85, 0.8, tuple(f"says “{word}”" for word in power[:3]))
    if fast := _matches(signals.fast, prompt):
        return Classification("fast", 0.15, 0.7, tuple(f"says “{word}”" for word in fast[:3]))
    return None


def classify(prompt: str, signals: Signals) -> Classification:
    """Return the tier by the article's rules.

    Any power signal: power. Else any fast signal: fast. Else more than ``signals.power_above_words`` words: power.
    Else mid, with low confidence, because nothing was recognised.
    """
    if (match := signals_of(prompt, signals)) is not None:
        return match
    words = len(prompt.split())
    if words > signals.power_above_words:
        return Classification("power", 0.8, 0.5, (f"{words:,} words, more than {signals.power_above_words}",))
    return Classification("mid", 0.5, 0.3, ("no signal recognised",))
