"""What a panel asks of the log, small enough to be asked often: sums, the newest rows, and what can be chosen."""

from __future__ import annotations

import sqlite3
from typing import Any

from ipyrouter.store.base import ANSWERED, NEWEST_COLUMNS, LogFilter
from ipyrouter.store.filters import conditions, microseconds, where

_DAY = 86_400_000_000  # microseconds


def newest(connection: sqlite3.Connection, wanted: LogFilter, rows: int) -> list[tuple[Any, ...]]:
    """Return so many rows, newest first, a tuple of NEWEST_COLUMNS each."""
    clause, values = conditions(wanted, " WHERE ")
    names = ", ".join("a.prompt" if name == "prompt" else f"t.{name}" for name in NEWEST_COLUMNS)
    query = (
        f"SELECT {names} FROM attempts t JOIN answers a ON a.id = t.answer_id{clause}"  # noqa: S608  our own names
        " ORDER BY t.time DESC, t.answer_id DESC, t.n DESC LIMIT ?"
    )
    return connection.execute(query, (*values, rows)).fetchall()


def summary(
    connection: sqlite3.Connection, wanted: LogFilter, bucket: int, steps: tuple[int, ...]
) -> list[tuple[Any, ...]]:
    """Return sums, a tuple of SUMMARY_COLUMNS each, in buckets of so many microseconds and bands of input tokens."""
    clause, values = conditions(wanted, " WHERE ")
    join = " JOIN answers a ON a.id = t.answer_id" if wanted.notebook is not None else ""
    answered = ", ".join(f"'{status}'" for status in ANSWERED)
    # An answer's attempts share its time, so those without a price are looked for among these times alone.
    times = {"time >= ?": microseconds(wanted.since), "time < ?": microseconds(wanted.until)}
    within, moments = where(" AND ", times)
    band = " + ".join("(t.input_tokens > ?)" for _ in steps) or "0"
    query = (
        "SELECT t.time / ? * ?, t.tier, t.provider, t.model, t.status,"  # noqa: S608  our own words
        f" t.status IN ({answered}) AND NOT EXISTS (SELECT 1 FROM attempts later WHERE later.answer_id = t.answer_id"
        f" AND later.n > t.n AND later.status IN ({answered}, 'interrupted')),"
        f" t.answer_id NOT IN (SELECT answer_id FROM attempts WHERE cost_pico IS NULL{within}), {band}, COUNT(*),"
        # What was cooling down after faults has a row, but nothing was sent.
        " SUM(t.status != 'cached' AND t.error_kind IS NOT 'left_alone'), COUNT(*) - COUNT(t.cost_pico),"
        " COALESCE(SUM(t.cost_pico), 0), COALESCE(SUM(t.saved_pico), 0),"
        " SUM(t.status = 'cached' AND t.saved_pico IS NULL), SUM(t.input_tokens), SUM(t.output_tokens),"
        " SUM(t.cached_input_tokens), SUM(t.cache_write_tokens)"
        f" FROM attempts t{join}{clause} GROUP BY 1, 2, 3, 4, 5, 6, 7, 8"
    )
    return connection.execute(query, (bucket, bucket, *moments, *steps, *values)).fetchall()


def span(connection: sqlite3.Connection) -> list[tuple[int, int]]:
    """Return the times of the first and the last row, or nothing."""
    first, last = connection.execute("SELECT MIN(time), MAX(time) FROM attempts").fetchone()
    return [] if first is None else [(first, last)]


def days(connection: sqlite3.Connection, most: int) -> list[tuple[str]]:
    """Return the newest days of the log in UTC."""
    # Each step of the recursion is one look into the index, where DISTINCT would read every row.
    start = f"MAX(time) / {_DAY} * {_DAY}"
    query = (
        f"WITH RECURSIVE day (start) AS (SELECT {start} FROM attempts"  # noqa: S608  our own words
        f" UNION ALL SELECT (SELECT {start} FROM attempts WHERE time < day.start) FROM day WHERE start IS NOT NULL)"
        " SELECT date(start / 1000000, 'unixepoch') FROM day WHERE start IS NOT NULL LIMIT ?"
    )
    return connection.execute(query, (most,)).fetchall()


def models(connection: sqlite3.Connection) -> list[tuple[str]]:
    """Return all models of the log."""
    return connection.execute("SELECT DISTINCT model FROM attempts").fetchall()
