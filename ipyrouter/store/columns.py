"""The log read column by column: SQLite joins each column of a stretch to one text, numpy parses it.

Row by row, Python would make thirty objects a row: twice the time and twice the memory.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ipyrouter.store.base import LogFilter, LogTable
from ipyrouter.store.filters import conditions, microseconds, where

if TYPE_CHECKING:
    from numpy.typing import NDArray

_STRETCH = 1000  # rows; where their longest column, the answers' texts, exceeds SQLite's 1 GB, they are halved
_UNKNOWN = -1  # stands for NULL among costs and lengths, which are never negative
_NEXT = "\x1e"  # between rows; JSON escapes it, so that no value can hold it
_INTEGERS = {
    "time": "t.time",
    "input_tokens": "t.input_tokens",
    "output_tokens": "t.output_tokens",
    "cached_input_tokens": "t.cached_input_tokens",
    "cache_write_tokens": "t.cache_write_tokens",
    "reasoning_tokens": "t.reasoning_tokens",
    "cost_pico": f"IFNULL(t.cost_pico, {_UNKNOWN})",
    "saved_pico": f"IFNULL(t.saved_pico, {_UNKNOWN})",
}
# Whole billionths: SQLite writes integers three times as fast as fractions, and cuts those off after 15 digits.
_FLOATS = {
    "latency": "CAST(t.latency * 1e9 AS INTEGER)",
    "first_token": f"IFNULL(CAST(t.first_token * 1e9 AS INTEGER), {_UNKNOWN})",
    "difficulty": "CAST(a.difficulty * 1e9 AS INTEGER)",
}
_CATEGORIES = {
    "session": "t.session",
    "notebook": "a.notebook",
    "tier": "t.tier",
    "provider": "t.provider",
    "model": "t.model",
    "status": "t.status",
    "estimated": "t.estimated",
    "price_id": "t.price_id",
    "rates": "t.rates",
    "finish": "t.finish",
    "error_kind": "t.error_kind",
    "error": "t.error",
    "routed_tier": "a.routed_tier",
    "escalated_from": "a.escalated_from",
    "fallback_from": "a.fallback_from",
    "feedback": "a.feedback",
}
_TEXTS = {"prompt": "a.prompt", "text": "COALESCE(t.text, a.text)"}


@dataclass(frozen=True, slots=True)
class Stretch:
    """Some rows of the log, in the order of answers and their attempts; ``codes`` are places among known categories."""

    columns: dict[str, NDArray[Any]]
    codes: NDArray[Any]


def stretches(
    connection: sqlite3.Connection, wanted: LogFilter, known: dict[str, int], *, content: bool
) -> Iterator[Stretch]:
    """Yield the rows that are wanted; ``known`` gathers the combinations of categories, as JSON."""
    texts = _TEXTS.values() if content else ()
    joined = [
        *(f"group_concat({source})" for source in (*_INTEGERS.values(), *_FLOATS.values())),
        "group_concat(t.answer_id)",
        f"group_concat(json_array({', '.join(_CATEGORIES.values())}), char({ord(_NEXT)}))",
        # Lengths in bytes and one blob, because a text may hold any separator, and NUL.
        *(f"group_concat(IFNULL(length(CAST({text} AS BLOB)), {_UNKNOWN}))" for text in texts),
        *(f"CAST(group_concat({text}, '') AS BLOB)" for text in texts),
    ]
    # The plus keeps SQLite from leaving the primary key for the index on time, which _bounds has used already.
    filtered, values = conditions(wanted, " AND ", "+t.time")
    query = (
        f"SELECT {', '.join(joined)} FROM attempts t CROSS JOIN answers a ON a.id = t.answer_id"  # noqa: S608  ours
        f" WHERE t.answer_id >= ? AND t.answer_id < ?{filtered}"
    )

    def read(bounds: tuple[str, str]) -> list[list[Any]]:
        try:
            return [list(connection.execute(query, (*bounds, *values)).fetchone())]
        except sqlite3.DataError:  # a column of so many texts is longer than SQLite's longest
            middle = _middle(connection, bounds)
            if middle is None:
                raise
            return read((bounds[0], middle)) + read((middle, bounds[1]))

    # SQLite works without the interpreter lock: it reads the next stretch while this thread parses the last.
    with ThreadPoolExecutor(1) as reader:
        reading: list[Future[list[list[Any]]]] = []
        for bounds in list(_bounds(connection, wanted)):  # first all: a connection does one thing at a time
            reading.append(reader.submit(read, bounds))
            if len(reading) > 1:
                yield from (_parsed(row, known) for row in reading.pop(0).result() if row[0] is not None)
        for last in reading:
            yield from (_parsed(row, known) for row in last.result() if row[0] is not None)


def _middle(connection: sqlite3.Connection, bounds: tuple[str, str]) -> str | None:
    """Return the id that halves a range of answers, None where there is but one."""
    between = "FROM answers WHERE id >= ? AND id < ?"
    (answers,) = connection.execute(f"SELECT COUNT(*) {between}", bounds).fetchone()
    if answers < 2:
        return None
    (middle,) = connection.execute(
        f"SELECT id {between} ORDER BY id LIMIT 1 OFFSET ?",
        (*bounds, answers // 2),
    ).fetchone()
    return str(middle)


def _parsed(row: list[Any], known: dict[str, int]) -> Stretch:
    columns = {name: np.fromstring(row.pop(0), np.int64, sep=",") for name in (*_INTEGERS, *_FLOATS)}
    for name in _FLOATS:
        columns[name] = np.where(columns[name] == _UNKNOWN, np.nan, columns[name] / 1e9)
    columns["answer_id"] = _objects(row.pop(0).split(","))
    categories = row.pop(0).split(_NEXT)
    for combination in dict.fromkeys(categories):
        known.setdefault(combination, len(known))
    codes = np.fromiter(map(known.__getitem__, categories), np.int32, len(categories))
    half = len(row) // 2  # the lengths, then the blobs; neither without content
    for name, lengths, blob in zip(_TEXTS, row[:half], row[half:], strict=False):
        columns[name] = _cut(lengths, blob)
    return Stretch(columns, codes)


def _cut(lengths: str, joined: bytes | None) -> NDArray[Any]:
    """Cut a column's blob into its texts; None where the length is unknown."""
    sizes = np.fromstring(lengths, np.int64, sep=",")
    ends = np.cumsum(np.maximum(sizes, 0)).tolist()
    blob = joined or b""
    rows = zip(sizes.tolist(), [0, *ends[:-1]], ends, strict=True)
    if blob.isascii():
        text = blob.decode("ascii")
        return _objects([None if size == _UNKNOWN else text[start:end] for size, start, end in rows])
    return _objects([None if size == _UNKNOWN else blob[start:end].decode() for size, start, end in rows])


def _objects(values: list[Any]) -> NDArray[Any]:
    made = np.empty(len(values), np.object_)
    made[:] = values
    return made


def _bounds(connection: sqlite3.Connection, wanted: LogFilter) -> Iterator[tuple[str, str]]:
    """Yield half-open ranges of answers' ids that hold all rows between the wanted times."""
    times = {"time >= ?": microseconds(wanted.since), "time < ?": microseconds(wanted.until)}
    clause, values = where(" WHERE ", times)
    first, last = (
        connection.execute(f"SELECT {end}(answer_id) FROM attempts{clause}", values).fetchone()[0]  # noqa: S608
        for end in ("MIN", "MAX")
    )
    if first is None:
        return
    following = (
        "SELECT answer_id FROM attempts WHERE answer_id > ? AND answer_id <= ? ORDER BY answer_id LIMIT 1 OFFSET ?"
    )
    while found := connection.execute(following, (first, last, _STRETCH)).fetchone():
        yield first, found[0]
        first = found[0]
    yield first, last + "!"


def table(parts: list[Stretch], known: dict[str, int]) -> LogTable:
    """Return all rows as columns, oldest first."""
    codes = np.concatenate([part.codes for part in parts] or [np.empty(0, np.int32)])
    kinds = dict.fromkeys(_INTEGERS, np.int64) | dict.fromkeys(_FLOATS, np.float64) | {"answer_id": np.object_}
    columns: dict[str, NDArray[Any]] = {
        name: np.concatenate([part.columns[name] for part in parts] or [np.empty(0, kinds[name])])
        for name in (parts[0].columns if parts else kinds)
    }
    if np.any(np.diff(columns["time"]) < 0):
        order = np.argsort(columns["time"], kind="stable")  # an answer's attempts share its time and stay in order
        columns, codes = {name: column[order] for name, column in columns.items()}, codes[order]
    return LogTable(columns, dict(_categories(codes, known)))


def _categories(codes: NDArray[Any], known: dict[str, int]) -> Iterator[tuple[str, tuple[NDArray[Any], list[Any]]]]:
    """Yield each category with its rows' places in the list of its values (-1: none), and that list."""
    combinations = [json.loads(combination) for combination in known]
    for place, name in enumerate(_CATEGORIES):
        column = [combination[place] for combination in combinations]
        values = {value: n for n, value in enumerate(dict.fromkeys(v for v in column if v is not None))}
        places = np.array([values.get(value, -1) for value in column], np.int32)
        yield name, (places[codes], list(values))
