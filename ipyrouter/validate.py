"""Is the answer good enough? The article's rule; a weak answer goes a tier up."""

from __future__ import annotations

from ipyrouter.types import Completion, TierName

_SHORT_ANSWER = 50  # characters
_LONG_PROMPT = 30  # words


def weakness(prompt: str, completion: Completion, tier: TierName) -> str | None:
    """Return why the answer is weak, or None. A refusal is an outcome of its own and never weak."""
    if completion.finish == "refusal":
        return None
    if not completion.text.strip():
        return "empty answer"
    length, words = len(completion.text.strip()), len(prompt.split())
    if tier == "fast" and length < _SHORT_ANSWER and words > _LONG_PROMPT:
        return f"{length} characters for a prompt of {words} words"
    return None
