"""Sums over the log: of whole hours from the tables of sums, of the rest of the asked time from the rows themselves."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from ipyrouter.store.base import Group, LogFilter, RankedRequest, Totals, moment
from ipyrouter.store.rows import LATEST, MOST_PICO
from ipyrouter.store.sqlite import schema
from ipyrouter.store.sqlite.filters import Span, conditions, needs_rows, span_of

_FEW_ROWS = 20_000  # as many are read one by one where the sums by the hour are too coarse
_NO_GROUP = "''"
_GROUPS = "1, 2, 3, 4, 5, 6, 7, 8, 9"
_KEYS = ("tier", "provider", "model", "status", "final", "priced")
_MEASURES = tuple(schema.measures("t"))
_JOIN = "attempts t LEFT JOIN answers a ON a.id = t.answer_id"


class _Groups(NamedTuple):
    """What sums are grouped by beside _KEYS: as in :meth:`ipyrouter.store.base.LogReader.totals`."""

    bucket: int | None
    steps: tuple[int, ...]
    by: Group | None


def totals(
    sql: sqlite3.Connection, log_filter: LogFilter, bucket: int | None, steps: tuple[int, ...], by: Group | None
) -> list[Totals]:
    """Return sums over the rows of one database."""
    span = span_of(log_filter)
    coarse = bucket is None or bucket >= schema.HOUR
    by_row = needs_rows(log_filter) or by == "notebook" or not set(steps) <= set(schema.EDGES)
    sql.execute("BEGIN")  # sums and rows of one moment
    if not by_row and not coarse:
        by_row = _rows(sql, span) <= _FEW_ROWS
    if bucket is not None and not by_row:
        bucket = max(bucket // schema.HOUR, 1) * schema.HOUR
    hours, rest = _split(span)
    groups = _Groups(bucket, steps, by)
    rows = _scan(sql, log_filter, [span] if by_row else rest, groups)
    if not by_row:
        rows += _whole_hours(sql, log_filter, hours, groups)
    sql.execute("COMMIT")
    return [total for row in rows if (total := _totals(row)) is not None]


def _split(span: Span) -> tuple[Span, list[Span]]:
    """Return the whole hours of a span, as numbers from 1970, and what is left of it at both ends."""
    since, until = span
    first, last = -(-since // schema.HOUR), until // schema.HOUR
    if first >= last:
        return (0, 0), [span]
    return (first, last), [
        part for part in ((since, first * schema.HOUR), (last * schema.HOUR, until)) if part[0] < part[1]
    ]


def _rows(sql: sqlite3.Connection, span: Span) -> int:
    query = "SELECT CAST(TOTAL(rows) AS INTEGER) FROM sums WHERE hour >= ? AND hour <= ?"
    return int(sql.execute(query, (span[0] // schema.HOUR, span[1] // schema.HOUR)).fetchone()[0])


def _whole_hours(sql: sqlite3.Connection, log_filter: LogFilter, hours: Span, groups: _Groups) -> list[tuple[Any, ...]]:
    bucket, steps, by = groups
    start = "0" if bucket is None else f"hour * {schema.HOUR} / {bucket} * {bucket}"
    # A band of the sums lies between two edges; it exceeds the steps at and below its lower one.
    exceeded = [sum(step <= edge for step in steps) for edge in schema.EDGES]
    band = " ".join(f"WHEN {place + 1} THEN {count}" for place, count in enumerate(exceeded))
    clause, values = conditions(log_filter, "sums")
    measures = ", ".join(schema.total(name) for name in _MEASURES)
    return sql.execute(
        f"SELECT {'tags' if by == 'tags' else _NO_GROUP}, {start}, {', '.join(_KEYS)}, CASE band {band} ELSE 0 END,"
        f" {measures} FROM sums WHERE hour >= ? AND hour < ?{clause} GROUP BY {_GROUPS} HAVING TOTAL(rows) > 0",
        (*hours, *values),
    ).fetchall()


def _scan(
    sql: sqlite3.Connection, log_filter: LogFilter, spans: Sequence[Span], groups: _Groups
) -> list[tuple[Any, ...]]:
    bucket, steps, by = groups
    start = "0" if bucket is None else f"t.time / {bucket} * {bucket}"
    keys = schema.keys("t")
    group = f"IFNULL(a.{by}, '')" if by in ("notebook", "tags") else _NO_GROUP
    columns = [group, start, *(keys[name] for name in _KEYS), schema.band("t", steps)]
    measures = [schema.total(value) for value in schema.measures("t").values()]
    clause, values = conditions(log_filter, "t")
    query = (
        f"SELECT {', '.join((*columns, *measures))} FROM {_JOIN} WHERE t.time >= ? AND t.time < ?{clause}"
        f" GROUP BY {_GROUPS}"
    )
    return [row for span in spans for row in sql.execute(query, (*span, *values))]


def _totals(row: tuple[Any, ...]) -> Totals | None:
    keys, numbers = row[: -len(_MEASURES)], row[-len(_MEASURES) :]
    if not all(isinstance(name, str) for name in (keys[0], *keys[2:6])):
        return None  # damaged
    sums = dict(zip(_MEASURES, numbers, strict=True))
    for name in ("cost", "saved", "calls", "escalated"):
        sums[f"{name}_pico"] = sums[f"{name}_micro"] * schema.MICRO + sums[f"{name}_rest"]
    return Totals.of(keys, sums)


def top(sql: sqlite3.Connection, span: Span, by: Literal["cost", "latency"], count: int) -> list[RankedRequest]:
    """Return the first requests of one database: an hour whose most is less than all of them is not even looked at."""
    bound, value = ("most_pico", "spent_pico") if by == "cost" else ("most_took", "took")
    hours = sql.execute(
        f"SELECT hour, MAX({bound}) AS most FROM sums WHERE hour >= ? AND hour <= ? GROUP BY hour"
        " HAVING most > 0 ORDER BY most DESC",
        (span[0] // schema.HOUR, span[1] // schema.HOUR),
    ).fetchall()
    sound = schema.whole(f"a.{value}", MOST_PICO)
    query = (
        "SELECT a.id, a.time, a.provider, a.model, a.spent_pico, a.unpriced, a.took, a.prompt,"
        f" {sound} AS rank FROM answers a"
        " WHERE a.id IN (SELECT answer_id FROM attempts WHERE time >= ? AND time < ?) AND rank > 0"
        " ORDER BY rank DESC, a.time LIMIT ?"
    )
    ranking: list[tuple[int, RankedRequest]] = []
    for hour, most in hours:
        if len(ranking) == count and not (isinstance(most, str | bytes) or most > ranking[-1][0]):
            break
        begin, end = max(hour * schema.HOUR, span[0]), min((hour + 1) * schema.HOUR, span[1])
        rows = sql.execute(query, (begin, end, count)).fetchall()
        ranking += [(row[-1], request) for row in rows if (request := _request(row)) is not None]
        ranking = sorted(ranking, key=lambda one: (-one[0], one[1].time))[:count]
    return [request for _, request in ranking]


def _request(row: tuple[Any, ...]) -> RankedRequest | None:
    name, time, provider, model, pico, unpriced, took, prompt, _ = row
    sound = all(isinstance(text, str) for text in (name, provider, model)) and all(
        type(number) is int and 0 <= number <= MOST_PICO for number in (pico, unpriced, took)
    )
    if not sound or type(time) is not int or not 0 <= time <= LATEST:
        return None
    return RankedRequest(
        name, moment(time), provider, model, pico, unpriced, took / 1e9, prompt if isinstance(prompt, str) else None
    )


def is_damaged(sql: sqlite3.Connection) -> bool:
    """Tell whether there are rows and no sums, or sums that cannot be: damage that SQLite does not see."""
    numbers = ("hour", "band", *_MEASURES, *schema.most("t"))
    sound = " AND ".join(f"typeof({name}) = 'integer' AND {name} >= 0" for name in numbers)
    sound += f" AND hour <= {schema.LAST_HOUR}"
    query = (
        "SELECT EXISTS (SELECT 1 FROM attempts) AND NOT EXISTS (SELECT 1 FROM sums)"
        f" OR EXISTS (SELECT 1 FROM sums WHERE NOT ({sound}))"
    )
    return bool(sql.execute(query).fetchone()[0])
