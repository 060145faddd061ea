"""From a LogFilter to SQL over attempts t and answers a."""

from __future__ import annotations

import datetime as dt
from typing import Any

from ipyrouter.store.base import LogFilter


def conditions(wanted: LogFilter, before: str, time: str = "t.time") -> tuple[str, list[Any]]:
    """Return the conditions of a filter, as SQL that begins with ``before``, and their values."""
    return where(
        before,
        {
            f"{time} >= ?": microseconds(wanted.since),
            f"{time} < ?": microseconds(wanted.until),
            "t.tier = ?": wanted.tier,
            "t.model = ?": wanted.model,
            "t.session = ?": wanted.session,
            "a.notebook = ?": wanted.notebook,
            "t.status = ?": wanted.status,
        },
    )


def where(before: str, asked: dict[str, Any]) -> tuple[str, list[Any]]:
    """Return the conditions that have a value, as SQL that begins with ``before``, and the values."""
    known = {condition: value for condition, value in asked.items() if value is not None}
    return before + " AND ".join(known) if known else "", list(known.values())


def microseconds(moment: dt.datetime | None) -> int | None:
    """Return a moment as the log keeps it, in microseconds since 1970."""
    return None if moment is None else round(moment.timestamp() * 1_000_000)
