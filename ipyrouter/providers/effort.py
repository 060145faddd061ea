"""How much a model is asked to think, in its own words, and the tokens and the time that this takes."""

from __future__ import annotations

from collections.abc import Iterable

LEVELS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
"""The words of all providers, least first."""

_TOKENS = {"minimal": 1024, "low": 4096, "medium": 16_384, "high": 32_768, "xhigh": 65_536, "max": 65_536}
_SECONDS = {"low": (120, 600), "medium": (300, 900), "high": (600, 1800), "xhigh": (1200, 3600), "max": (1200, 3600)}


def nearest(wanted: str, known: Iterable[str]) -> str | None:
    """Return the level of the known ones that is nearest to the one wanted, the lesser of two.

    Thinking is turned off only where that is wanted. None where no level is known.
    """
    levels = [level for level in LEVELS if level in known and (level != "none" or wanted == "none")]
    rank = LEVELS.index(wanted)
    return min(levels, key=lambda level: abs(LEVELS.index(level) - rank), default=None)


def thinking_tokens(effort: str | None) -> int:
    """Return the output tokens that are left for thinking beside those of the answer."""
    return _TOKENS.get(effort or "", 0)


def most_within(wanted: str, tokens: int) -> str:
    """Return the level wanted, or the most below it whose thinking has room in so many tokens."""
    levels = LEVELS[: LEVELS.index(wanted) + 1]
    return next(level for level in reversed(levels) if thinking_tokens(level) <= tokens)


def patience(effort: str | None) -> tuple[float, float]:
    """Return the least seconds to wait for the first byte and for all of an answer."""
    return _SECONDS.get(effort or "", (0, 0))
