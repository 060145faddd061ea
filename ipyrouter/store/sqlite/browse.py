"""The log as a user looks at it: a page of its rows, what there is to choose from, and each model's last call."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import Any

from ipyrouter.store.base import (
    NEWEST,
    LastCall,
    LogFilter,
    LoggedAttempt,
    LoggedRequest,
    LogRow,
    Order,
    Overview,
    RowKey,
    moment,
)
from ipyrouter.store.rows import COOLING_DOWN, LATEST, MOST_PICO, MOST_SECONDS, MOST_TOKENS, lines, order_by
from ipyrouter.store.sqlite import schema
from ipyrouter.store.sqlite.filters import Span, conditions, needs_rows, span_of
from ipyrouter.text import tags as tagging

_PROMPT = 1000  # characters
_IS_CALL = f"status != 'cached' AND error_kind IS NOT '{COOLING_DOWN}'"


def page(
    sql: sqlite3.Connection, log_filter: LogFilter, rows: int, *, before: RowKey | None, skip: int, order: Order
) -> list[LogRow]:
    """Return so many rows of one database, before a row and after so many that are skipped.

    The sums tell which hours hold any, and how many, so that neither a distant page nor a rare model costs a scan.
    """
    since, until = span_of(log_filter)
    if order != NEWEST:
        return _rows(sql, log_filter, (since, until), rows=rows, before=None, skip=skip, order=order)
    if before is not None:
        until = min(until, before.time + 1)
    result: list[LogRow] = []
    for span, count in _hours(sql, log_filter, (since, until)):
        if before is None and skip >= count:
            skip -= count
            continue
        result += _rows(sql, log_filter, span, rows=rows - len(result), before=before, skip=skip)
        skip = 0
        if len(result) >= rows:
            break
    return result


def _hours(sql: sqlite3.Connection, log_filter: LogFilter, span: Span) -> Iterator[tuple[Span, int]]:
    """Yield the hours that hold rows, newest first, and how many; the hours at the span's ends are counted."""
    since, until = span
    clause, values = conditions(log_filter, "sums")
    if needs_rows(log_filter):
        yield span, _count(sql, log_filter, span)
        return
    query = (
        f"SELECT hour, CAST(TOTAL(rows) AS INTEGER) FROM sums WHERE hour >= ? AND hour <= ?{clause}"
        " GROUP BY hour HAVING TOTAL(rows) > 0 ORDER BY hour DESC"
    )
    for hour, count in sql.execute(
        query, (since // schema.HOUR, (until - 1) // schema.HOUR, *values)
    ):  # as far as needed
        begin, end = max(hour * schema.HOUR, since), min((hour + 1) * schema.HOUR, until)
        whole = end - begin == schema.HOUR
        yield (begin, end), count if whole else _count(sql, log_filter, (begin, end))


def _count(sql: sqlite3.Connection, log_filter: LogFilter, span: Span) -> int:
    clause, values = conditions(log_filter, "t")
    tables = "attempts t JOIN answers a ON a.id = t.answer_id"
    query = f"SELECT COUNT(*) FROM {tables} WHERE t.time >= ? AND t.time < ?{clause}"
    return int(sql.execute(query, (*span, *values)).fetchone()[0])


def _rows(
    sql: sqlite3.Connection,
    log_filter: LogFilter,
    span: Span,
    *,
    rows: int,
    before: RowKey | None,
    skip: int,
    order: Order = NEWEST,
) -> list[LogRow]:
    clause, values = conditions(log_filter, "t")
    if before is not None:
        clause += " AND (t.time, t.answer_id, t.n) < (?, ?, ?)"
        values += before
    query = (
        "SELECT t.time, t.answer_id, t.n, t.tier, t.provider, t.model, t.status, t.cost_pico, t.saved_pico,"
        f" t.input_tokens, t.output_tokens, t.estimated, t.latency, substr(a.prompt, 1, {_PROMPT})"
        f" FROM attempts t JOIN answers a ON a.id = t.answer_id WHERE t.time >= ? AND t.time < ?{clause}"
        f" ORDER BY {order_by(order.column, descending=order.descending)} LIMIT ? OFFSET ?"
    )
    records = sql.execute(query, (*span, *values, rows, skip)).fetchall()
    return [row for one in records if (row := _row(one)) is not None]


def _row(row: tuple[Any, ...]) -> LogRow | None:
    """Return a row with every damaged value as not known; None where its place or its names are damaged."""
    time, answer_id, n, tier, provider, model, status, cost, saved, read, written, estimated, latency, prompt = row
    names = (answer_id, tier, provider, model, status)
    if not all(isinstance(name, str) for name in names) or type(time) is not int or type(n) is not int:
        return None
    return LogRow(
        RowKey(time, answer_id, n), tier, provider, model, status,
        cost_pico=_whole(cost, MOST_PICO), saved_pico=_whole(saved, MOST_PICO),
        input_tokens=_whole(read, MOST_TOKENS) or 0, output_tokens=_whole(written, MOST_TOKENS) or 0,
        estimated=bool(estimated),
        latency=_seconds(latency),
        prompt=_string(prompt),
    )  # fmt: skip


def _whole(value: Any, most: int) -> int | None:
    return value if type(value) is int and 0 <= value <= most else None


def _seconds(value: Any) -> float:
    return float(value) if isinstance(value, int | float) and 0 <= value <= MOST_SECONDS else 0.0


def _string(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def request(sql: sqlite3.Connection, answer_id: str) -> LoggedRequest | None:
    """Return a request of one database, every damaged value as not known; None if it is not there."""
    query = (
        "SELECT time, notebook, tier, routed_tier, difficulty, prompt, system, text, reasons, notes"
        " FROM answers WHERE id = ?"
    )
    found = sql.execute(query, (answer_id,)).fetchone()
    if found is None:
        return None
    time, notebook, last, routed, difficulty, prompt, system, text, reasons, notes = found
    query = (
        "SELECT tier, provider, model, status, cost_pico, saved_pico, input_tokens, output_tokens, latency, error"
        " FROM attempts WHERE answer_id = ? ORDER BY n"
    )
    attempts = tuple(
        LoggedAttempt(
            _string(tier) or "", _string(provider) or "", _string(model) or "", _string(status) or "",
            _whole(cost, MOST_PICO), _whole(saved, MOST_PICO),
            _whole(read, MOST_TOKENS) or 0, _whole(written, MOST_TOKENS) or 0, _seconds(latency), _string(error),
        )
        for tier, provider, model, status, cost, saved, read, written, latency, error
        in sql.execute(query, (answer_id,))
    )  # fmt: skip
    return LoggedRequest(
        answer_id, moment(time if type(time) is int and 0 <= time <= LATEST else 0), _string(notebook),
        _string(last) or "", _string(routed) or "",
        float(difficulty) if isinstance(difficulty, int | float) and 0 <= difficulty <= 1 else 0.0,
        _string(prompt), _string(system), _string(text), lines(reasons), lines(notes), attempts,
    )  # fmt: skip


def overview(sql: sqlite3.Connection, days: int) -> Overview:
    """Return what one database's log holds."""
    first = sql.execute("SELECT time FROM attempts WHERE time >= 0 ORDER BY time LIMIT 1").fetchone()
    last = sql.execute(f"SELECT time FROM attempts WHERE time <= {LATEST} ORDER BY time DESC LIMIT 1").fetchone()
    if first is None or last is None or type(first[0]) is not int or type(last[0]) is not int:
        return Overview(0, 0, (), ())
    # Each step is one look into the index, where DISTINCT would read every row.
    newest: int | None = last[0] // schema.DAY
    dates: list[str] = []
    while newest is not None and len(dates) < days:
        dates.append(f"{moment(newest * schema.DAY):%Y-%m-%d}")
        query = "SELECT time FROM attempts WHERE time < ? ORDER BY time DESC LIMIT 1"
        earlier = sql.execute(query, (newest * schema.DAY,)).fetchone()
        newest = earlier[0] // schema.DAY if earlier and type(earlier[0]) is int and earlier[0] >= 0 else None
    models = sql.execute("SELECT DISTINCT model FROM sums WHERE rows > 0").fetchall()
    combined = sql.execute("SELECT DISTINCT tags FROM sums WHERE rows > 0").fetchall()
    tags = {tag for (value,) in combined if isinstance(value, str) for tag in tagging.split(value)}
    known = tuple(model for (model,) in models if isinstance(model, str))
    return Overview(first[0], last[0], tuple(dates), known, tags=tuple(sorted(tags)))


def last_calls(sql: sqlite3.Connection) -> list[LastCall]:
    """Return the last call of every model in one database's log."""
    calls = []
    last = (
        "SELECT provider, model, MAX(hour) FROM sums WHERE sent > 0 AND typeof(hour) = 'integer'"
        f" AND hour BETWEEN 0 AND {schema.LAST_HOUR} GROUP BY provider, model"
    )
    query = (
        "SELECT time, status, error FROM attempts WHERE time >= ? AND time < ? AND provider = ? AND model = ?"
        f" AND {_IS_CALL} ORDER BY time DESC, answer_id DESC, n DESC LIMIT 1"
    )
    for provider, model, hour in sql.execute(last).fetchall():
        if not (isinstance(provider, str) and isinstance(model, str)):
            continue
        hours = (hour * schema.HOUR, (hour + 1) * schema.HOUR)
        for time, status, error in sql.execute(query, (*hours, provider, model)):
            if type(time) is int and isinstance(status, str):
                message = error if isinstance(error, str) else None
                calls.append(LastCall(provider, model, moment(time), status, message))
    return calls
