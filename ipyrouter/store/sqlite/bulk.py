"""Very many rows of the log at once: SQLite joins each column of a part to one string, numpy parses it.

Row by row, Python would make thirty objects a row: twice the time and twice the memory. A part in which that does not
come out even holds a damaged value, and is read once more with every value checked.
"""

from __future__ import annotations

import itertools
import json
import sqlite3
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ipyrouter.store.base import LogFilter, LogTable
from ipyrouter.store.rows import LATEST, LOG, MOST_PICO, MOST_SECONDS, MOST_TOKENS, Column, Kind
from ipyrouter.store.sqlite.filters import conditions, span_of
from ipyrouter.types import TIERS

if TYPE_CHECKING:
    from numpy.typing import NDArray

PART = 4000  # rows; where their longest column, the answers' texts, exceeds SQLite's 1 GB, they are halved
_UNKNOWN = -1  # stands for NULL among amounts, seconds and lengths, which are never negative
_NEXT = "\x1e"  # between rows; JSON escapes it, so that no value can hold it
_BILLION = 1_000_000_000  # SQLite writes whole billionths three times as fast as fractions, and cuts those off

Place = tuple[int, str]
"""Where a part begins or ends: time and request."""
Bounds = tuple[Place, Place]
Raw = tuple[Any, ...]
"""The number of rows and their columns, joined."""


class UnevenError(Exception):
    """The values of a part do not come out even."""


def _source(column: Column) -> str:
    if column.attempt is not None and column.request is not None and column.kind is Kind.TEXT:
        return f"COALESCE(t.{column.name}, a.{column.name})"
    if column.attempt is None and column.request is None:
        return "NULL"  # of a team's store alone
    return f"{'t' if column.attempt is not None else 'a'}.{column.name}"


_MOST = {
    Kind.TIME: LATEST,
    Kind.COUNT: MOST_TOKENS,
    Kind.PICO: MOST_PICO,
    Kind.SECONDS: int(MOST_SECONDS) * _BILLION,
    Kind.SHARE: _BILLION,
}
_NUMBERS = tuple(column for column in LOG if column.kind in _MOST)
_IDS = tuple(column for column in LOG if column.kind is Kind.ID)
_CATEGORIES = tuple(column for column in LOG if column.kind in (Kind.TIER, Kind.NAME, Kind.FLAG))
_TEXTS = tuple(column for column in LOG if column.kind is Kind.TEXT)


def _number(column: Column, *, checked: bool) -> str:
    """Return SQL for a whole number that is never NULL; ``checked`` takes any value that damage may have left."""
    source = _source(column)
    value = f"CAST({source} * 1e9 AS INTEGER)" if column.kind in (Kind.SECONDS, Kind.SHARE) else source
    if checked:
        number = "IN ('real', 'integer')" if value != source else "= 'integer'"
        sound = f"typeof({source}) {number} AND {value} BETWEEN 0 AND {_MOST[column.kind]}"
        return f"CASE WHEN {sound} THEN {value} ELSE {_UNKNOWN if column.null else 0} END"
    return f"IFNULL({value}, {_UNKNOWN})" if column.null else value


def _name(column: Column, *, checked: bool) -> str:
    source = _source(column)
    sound = "integer" if column.kind is Kind.FLAG else "text"
    return f"IIF(typeof({source}) = '{sound}', {source}, NULL)" if checked else source


def _query(condition: str, *, content: bool, checked: bool) -> str:
    texts = [_source(column) for column in _TEXTS] if content else []
    names = ", ".join(_name(column, checked=checked) for column in _CATEGORIES)
    joined = [
        *(f"group_concat({_number(column, checked=checked)})" for column in _NUMBERS),
        # A damaged id may hold a comma.
        *(f"group_concat({f'hex({_source(column)})' if checked else _source(column)})" for column in _IDS),
        f"group_concat(json_array({names}), char({ord(_NEXT)}))",
        # Lengths in bytes and one blob, because a string may hold any separator, and NUL.
        *(f"group_concat(IFNULL(length(CAST({text} AS BLOB)), {_UNKNOWN}))" for text in texts),
        *(f"CAST(group_concat({text}, '') AS BLOB)" for text in texts),
    ]
    return (
        f"SELECT COUNT(*), {', '.join(joined)} FROM attempts t INDEXED BY attempts_time"
        f" CROSS JOIN answers a ON a.id = t.answer_id WHERE {condition}"
    )


@dataclass(frozen=True, slots=True)
class Part:
    """Some rows as columns; ``codes`` are places among the combinations of categories that the reader knows."""

    columns: dict[str, NDArray[Any]]
    codes: NDArray[Any]


class BulkReader:
    """Reads the rows that a filter leaves, part by part, and makes tables of the parts."""

    def __init__(self, log_filter: LogFilter, *, content: bool) -> None:
        clause, self._values = conditions(log_filter, "t")
        self._span = span_of(log_filter)
        self._content = content
        condition = f"(t.time, t.answer_id) >= (?, ?) AND (t.time, t.answer_id) < (?, ?){clause}"
        self._queries = {checked: _query(condition, content=content, checked=checked) for checked in (False, True)}
        self._known: dict[str, int] = {}  # combinations of categories, as JSON
        self._combinations: list[list[Any]] = []

    def places(self, sql: sqlite3.Connection) -> list[Place]:
        """Return where one database's rows are best divided: parts of about the same number of rows."""
        place, end = (self._span[0], ""), self._span[1]
        query = (
            "SELECT time, answer_id FROM attempts WHERE (time, answer_id) > (?, ?) AND time < ?"
            " ORDER BY time, answer_id LIMIT 1 OFFSET ?"
        )
        places = []
        while following := sql.execute(query, (*place, end, PART)).fetchone():
            places.append(following)
            place = following
        return places

    def bounds(self, places: list[Place]) -> list[Bounds]:
        """Return the parts between places, as half-open ranges that hold all of the filter's time."""
        ends = [(self._span[0], ""), *sorted(set(places)), (self._span[1], "")]
        return list(itertools.pairwise(ends))

    def fetch(self, sql: sqlite3.Connection, bounds: Bounds, *, checked: bool = False) -> list[Raw]:
        """Return the rows of one part as SQLite joins them: once or, where that would be too long, in pieces."""
        begin, end = bounds
        try:
            return [sql.execute(self._queries[checked], (*begin, *end, *self._values)).fetchone()]
        except sqlite3.DataError:  # a column of so many texts is longer than SQLite's longest
            middle = _middle(sql, bounds)
            if middle is None:
                raise
            return [
                piece for half in ((begin, middle), (middle, end)) for piece in self.fetch(sql, half, checked=checked)
            ]
        except sqlite3.OperationalError:
            if checked:
                raise
            raise UnevenError from None  # a blob where a name should be

    def parse(self, raw: list[Raw], *, checked: bool = False) -> list[Part]:
        """Return what was fetched as parts. Raises UnevenError where a damaged value is among it."""
        return [self._part(count, list(joined), checked=checked) for count, *joined in raw if count]

    def _part(self, count: int, joined: list[Any], *, checked: bool) -> Part:
        columns: dict[str, NDArray[Any]] = {}
        for column in _NUMBERS:
            columns[column.name] = _numbers(column, joined.pop(0), count)
        for column in _IDS:
            ids = joined.pop(0).split(",")
            columns[column.name] = _objects([_unhex(one) for one in ids] if checked else ids, count)
        combinations = joined.pop(0).split(_NEXT)
        for combination in dict.fromkeys(combinations):
            if combination not in self._known:
                try:
                    values = json.loads(combination)
                except ValueError:  # an infinite number where a name should be
                    raise UnevenError from None
                self._known[combination] = len(self._combinations)
                self._combinations.append(values)
        codes = np.fromiter(map(self._known.__getitem__, combinations), np.int32, len(combinations))
        if len(codes) != count:
            raise UnevenError
        if self._content:
            half = len(_TEXTS)
            for column, lengths, blob in zip(_TEXTS, joined[:half], joined[half:], strict=True):
                columns[column.name] = _cut(_whole(lengths, count), blob)
        return Part(columns, codes)

    def table(self, parts: list[Part]) -> LogTable:
        """Return parts as one table."""
        part = self._join(parts)
        used, codes = np.unique(part.codes, return_inverse=True)
        combinations = [self._combinations[code] for code in used]
        categories = {
            column.name: _category(column, [combination[place] for combination in combinations], codes)
            for place, column in enumerate(_CATEGORIES)
        }
        return LogTable(part.columns, categories)

    def in_order(self, pieces: list[Part]) -> Part:
        """Return the pieces of one part, which may come from the disk and from memory, as one, oldest first."""
        part = self._join(pieces)
        if len(pieces) < 2:
            return part
        order = np.argsort(part.columns["time"], kind="stable")  # an answer's attempts share its time, and their order
        return Part({name: values[order] for name, values in part.columns.items()}, part.codes[order])

    def _join(self, parts: list[Part]) -> Part:
        names = [(column.name, _kind(column)) for column in (*_NUMBERS, *_IDS, *(_TEXTS if self._content else ()))]
        return Part(
            {
                name: np.concatenate([part.columns[name] for part in parts] or [np.empty(0, kind)])
                for name, kind in names
            },
            np.concatenate([part.codes for part in parts] or [np.empty(0, np.int32)]),
        )


def _middle(sql: sqlite3.Connection, bounds: Bounds) -> Place | None:
    """Return the place that halves a part, None where there is but one request."""
    begin, end = bounds
    between = "FROM attempts WHERE (time, answer_id) >= (?, ?) AND (time, answer_id) < (?, ?)"
    places = sql.execute(f"SELECT DISTINCT time, answer_id {between} ORDER BY 1, 2", (*begin, *end)).fetchall()
    return places[len(places) // 2] if len(places) > 1 else None


def _kind(column: Column) -> Any:
    if column.kind in (Kind.SECONDS, Kind.SHARE):
        return np.float64
    return np.int64 if column in _NUMBERS else np.object_


def _numbers(column: Column, joined: str, count: int) -> NDArray[Any]:
    """Return a column of sound numbers, seconds and shares as floats. Raises UnevenError."""
    numbers = _whole(joined, count)
    if int(numbers.min()) < (_UNKNOWN if column.null else 0) or int(numbers.max()) > _MOST[column.kind]:
        raise UnevenError
    if column.kind in (Kind.SECONDS, Kind.SHARE):
        return np.where(numbers == _UNKNOWN, np.nan, numbers / _BILLION)
    return numbers


def _whole(joined: str | None, count: int) -> NDArray[Any]:
    if joined is None or joined.encode().translate(None, b"0123456789,-"):
        raise UnevenError
    try:
        numbers = np.fromstring(joined, np.int64, sep=",")
    except ValueError:  # an empty or half a number
        raise UnevenError from None
    if len(numbers) != count:
        raise UnevenError
    return numbers


def _unhex(value: str) -> str:
    return bytes.fromhex(value).decode("utf-8", "replace")


def _cut(sizes: NDArray[Any], joined: bytes | None) -> NDArray[Any]:
    """Cut a column's blob into its texts; None where the length is unknown."""
    ends = np.cumsum(np.maximum(sizes, 0)).tolist()
    blob = joined or b""
    rows = zip(sizes.tolist(), [0, *ends[:-1]], ends, strict=True)
    if blob.isascii():
        text = blob.decode("ascii")
        texts = [None if size == _UNKNOWN else text[start:end] for size, start, end in rows]
    else:
        texts = [None if size == _UNKNOWN else blob[start:end].decode("utf-8", "replace") for size, start, end in rows]
    return _objects(texts, len(sizes))


def _objects(values: list[Any], count: int) -> NDArray[Any]:
    if len(values) != count:
        raise UnevenError
    array = np.empty(count, np.object_)
    array[:] = values
    return array


def _category(column: Column, values: list[Any], codes: NDArray[Any]) -> tuple[NDArray[Any], list[Any]]:
    """Return the rows' places in the list of a category's values (-1: none), and that list."""
    sound = [_sound(column, value) for value in values]
    places = {value: n for n, value in enumerate(dict.fromkeys(value for value in sound if value is not None))}
    return np.array([places.get(value, -1) for value in sound], np.int32)[codes], list(places)


def _sound(column: Column, value: Any) -> Any:
    if column.kind is Kind.FLAG:
        return int(value == 1)
    if column.kind is Kind.TIER:
        return value if value in TIERS else None
    return value if isinstance(value, str) else None
