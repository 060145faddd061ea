"""Token counts without a tokeniser: an estimate to show, and a bound to reserve."""

from __future__ import annotations

from ipyrouter.types import Message

_SCHEMA_WORDS = 1000  # bytes that providers and we ourselves say around a schema
_PER_MESSAGE = 8  # role markers and separators: 3 to 7 tokens in the chat templates of the presets' models


def _texts(prompt: str, system: str | None, history: tuple[Message, ...], schema: str) -> list[str]:
    return [prompt, *filter(None, (system, schema)), *(message.text for message in history)]


def estimate(text: str) -> int:
    """Estimate the tokens of a string: 4 bytes of UTF-8 a token, OpenAI's rule of thumb for English."""
    return -(-len(text.encode("utf-8", "replace")) // 4)


def estimate_input(prompt: str, system: str | None = None, history: tuple[Message, ...] = (), schema: str = "") -> int:
    """Estimate the input tokens of a request; providers read a schema as a part of it."""
    return sum(estimate(text) + _PER_MESSAGE for text in _texts(prompt, system, history, schema))


def bound_input(prompt: str, system: str | None = None, history: tuple[Message, ...] = (), schema: str = "") -> int:
    """Return a number of input tokens that byte-level tokenisers cannot exceed: one a byte."""
    # A schema may be sent as the provider's own means, in its own shape, and in words as well.
    texts = _texts(prompt, system, history, schema and 3 * schema + " " * _SCHEMA_WORDS)
    return sum(len(text.encode("utf-8", "replace")) + _PER_MESSAGE for text in texts)
