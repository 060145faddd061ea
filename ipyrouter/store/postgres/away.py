"""What the store's parts share without psycopg."""

from __future__ import annotations

from collections.abc import Callable

from ipyrouter.text import redact

ConnInfo = str | Callable[[], str]
"""How to connect, as libpq takes it; a function is called for each new connection, for passwords that expire."""


class AwayError(Exception):
    """The server cannot be reached, or does not answer; the message says why, in half a line.

    ``remedy`` is what the user can do about it, "" where there is only waiting.
    """

    def __init__(self, why: str, remedy: str = "") -> None:
        super().__init__(why)
        self.remedy = remedy


def reason(error: Exception) -> str:
    """Return an error's first line, without what may be a secret."""
    lines = [line for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return redact.scrub(lines[0].strip())
