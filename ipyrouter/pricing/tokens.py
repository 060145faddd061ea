"""Token counts without a tokeniser: an estimate to show, and a bound to reserve."""

from __future__ import annotations

from ipyrouter.types import Message

_PER_MESSAGE = 8  # role markers and separators: 3 to 7 tokens in the chat templates of the presets' models


def _texts(prompt: str, system: str | None, history: tuple[Message, ...]) -> list[str]:
    return [prompt, *([system] if system else []), *(message.text for message in history)]


def estimate(text: str) -> int:
    """Estimate the tokens of a string: 4 bytes of UTF-8 a token, OpenAI's rule of thumb for English."""
    return -(-len(text.encode("utf-8", "replace")) // 4)


def estimate_input(prompt: str, system: str | None = None, history: tuple[Message, ...] = ()) -> int:
    """Estimate the input tokens of a request."""
    return sum(estimate(text) + _PER_MESSAGE for text in _texts(prompt, system, history))


def bound_input(prompt: str, system: str | None = None, history: tuple[Message, ...] = ()) -> int:
    """Return a number of input tokens that byte-level tokenisers cannot exceed: one a byte."""
    return sum(len(text.encode("utf-8", "replace")) + _PER_MESSAGE for text in _texts(prompt, system, history))
