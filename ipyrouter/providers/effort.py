"""How much a model is asked to think, in its own words, and the tokens and the time that this takes."""

from __future__ import annotations

from collections.abc import Iterable

LEVELS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
"""The words of all providers, least first."""

_TOKENS = {"minimal": 1024, "low": 4096, "medium": 16_384, "high": 32_768, "xhigh": 65_536, "max": 65_536}
_SECONDS = {"low": (120, 600), "medium": (300, 900), "high": (600, 1800), "xhigh": (1200, 3600), "max": (1200, 3600)}


def nearest(level: str, efforts: Iterable[str]) -> str | None:
    """Return the effort that is nearest to a level, the lesser of two.

    Thinking is turned off only where that is wanted. None where there is none.
    """
    choices = [one for one in LEVELS if one in efforts and (one != "none" or level == "none")]
    rank = LEVELS.index(level)
    return min(choices, key=lambda one: abs(LEVELS.index(one) - rank), default=None)


def thinking_tokens(effort: str | None) -> int:
    """Return the output tokens that are left for thinking beside those of the answer."""
    return _TOKENS.get(effort or "", 0)


def most_within(level: str, tokens: int) -> str:
    """Return the level, or the most below it whose thinking has room in so many tokens."""
    choices = LEVELS[: LEVELS.index(level) + 1]
    return next(one for one in reversed(choices) if thinking_tokens(one) <= tokens)


def patience(effort: str | None) -> tuple[float, float]:
    """Return the least seconds to wait for the first byte and for all of an answer."""
    return _SECONDS.get(effort or "", (0, 0))
