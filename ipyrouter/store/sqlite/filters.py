"""From a LogFilter to SQL."""

from __future__ import annotations

import datetime as dt
from typing import Any

from ipyrouter.store.base import LogFilter, microseconds
from ipyrouter.store.rows import EARLIEST, LATEST

Span = tuple[int, int]
"""A time, half-open, in microseconds since 1970."""


def span_of(log_filter: LogFilter) -> Span:
    """Return the time of a filter; without bounds it is all that a row can have."""
    return span(log_filter.since, log_filter.until)


def span(since: dt.datetime | None, until: dt.datetime | None) -> Span:
    """Return a time in microseconds; without bounds it is all that a row can have."""
    return EARLIEST if since is None else microseconds(since), LATEST + 1 if until is None else microseconds(until)


def conditions(log_filter: LogFilter, row: str) -> tuple[str, list[Any]]:
    """Return the conditions of a filter but its time, as SQL that begins with AND, and their values.

    ``row`` names the rows of attempts, beside which the requests are ``a``, or of the sums.
    """
    request = "a" if row == "t" else row
    fields = (
        (f"{row}.tier = ?", log_filter.tier),
        (f"{row}.model = ?", log_filter.model),
        (f"{row}.session = ?", log_filter.session),
        (f"{row}.status = ?", log_filter.status),
        ("a.notebook = ?", log_filter.notebook),
        (f"instr(',' || {request}.tags || ',', ',' || ? || ',') > 0", log_filter.tag),
        ("instr(lower(IFNULL(a.prompt, '') || char(10) || IFNULL(a.text, '')), lower(?)) > 0", log_filter.text),
        ("NULL = ?", log_filter.user),  # no row of a file has one
        ("NULL = ?", log_filter.team),
    )
    terms = [(condition, value) for condition, value in fields if value is not None]
    return "".join(f" AND {condition}" for condition, _ in terms), [value for _, value in terms]


def needs_rows(log_filter: LogFilter) -> bool:
    """Tell whether a filter asks for what the sums do not tell apart."""
    return log_filter.notebook is not None or log_filter.text is not None
