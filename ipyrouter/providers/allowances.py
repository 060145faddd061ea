"""What responses say of an account's limits: OpenAI's and Anthropic's headers, which many others send as well."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping
from typing import Literal, NamedTuple

_SPAN = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_NUMBER = re.compile(r"\s*(\d{1,15}(?:\.\d{1,9})?)\s*")

_LONGEST = 10 * 86_400.0

Kind = Literal["requests", "tokens"]
_HEADERS: tuple[tuple[Kind, str, str, str], ...] = tuple(
    (kind, limit.format(kind), remaining.format(kind), reset.format(kind))
    for kind in ("requests", "tokens")
    for limit, remaining, reset in (
        ("x-ratelimit-limit-{}", "x-ratelimit-remaining-{}", "x-ratelimit-reset-{}"),
        ("anthropic-ratelimit-{}-limit", "anthropic-ratelimit-{}-remaining", "anthropic-ratelimit-{}-reset"),
    )
)


class Allowance(NamedTuple):
    """How many requests or tokens are left of a limit, and the seconds until all of it is there again."""

    kind: Kind
    limit: float
    remaining: float
    reset: float


def allowances(headers: Mapping[str, str]) -> tuple[Allowance, ...]:
    """Return the limits that a response's headers name; what cannot be read is left out.

    Args:
        headers: Those of the response, by names in any case.
    """
    known: list[Allowance] = []
    if not any("ratelimit" in name.lower() for name in headers):  # each look-up of a name costs as much as this
        return ()
    for kind, *names in _HEADERS:
        limit, remaining, reset = (headers.get(name) for name in names)
        if limit is None or remaining is None or reset is None:
            continue
        most, left, seconds = _number(limit), _number(remaining), _seconds(reset)
        if most and left is not None and seconds is not None:
            known.append(Allowance(kind, most, min(left, most), seconds))
    return tuple(known)


def _number(text: str) -> float | None:
    match = _NUMBER.fullmatch(text)
    return float(match[1]) if match else None


def _seconds(text: str) -> float | None:
    """Return the seconds of "6m0s", "120ms", "1.5" or of a moment as RFC 3339 writes it."""
    if (seconds := _number(text)) is not None:
        return seconds if seconds <= _LONGEST else None  # more is a moment, not a span
    spans = _SPAN.findall(text)
    if spans and "".join(number + unit for number, unit in spans) == text.strip():
        return float(sum(float(number) * _SECONDS[unit] for number, unit in spans))
    try:
        moment = dt.datetime.fromisoformat(text.strip())
    except ValueError:
        return None
    if moment.tzinfo is None:
        return None
    return max((moment - dt.datetime.now(dt.UTC)).total_seconds(), 0.0)
