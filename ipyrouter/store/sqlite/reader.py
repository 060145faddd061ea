"""The log read: from the disk and, after a fault, from memory as well."""

from __future__ import annotations

import datetime as dt
import itertools
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from ipyrouter import interrupts
from ipyrouter.store.base import (
    NEWEST,
    Group,
    LastCall,
    LogFilter,
    LoggedRequest,
    LogRow,
    LogTable,
    Order,
    Overview,
    RankedRequest,
    RowKey,
    Totals,
)
from ipyrouter.store.sqlite import browse, figures, schema
from ipyrouter.store.sqlite.database import Database
from ipyrouter.store.sqlite.filters import span
from ipyrouter.types import TIERS

if TYPE_CHECKING:
    from ipyrouter.store.sqlite.bulk import Bounds, BulkReader, Part, Raw

T = TypeVar("T")


class LogReader:
    """Implements store.base.LogReader."""

    _database: Database

    def log(self, log_filter: LogFilter, *, content: bool = True) -> LogTable:
        """Return the log, oldest first; without ``content`` prompts and answers stay on the disk."""
        reader = _bulk_reader(log_filter, content=content)
        return reader.table(list(self._read(reader)))

    def parts(self, log_filter: LogFilter, *, content: bool = True) -> Iterator[LogTable]:
        """Yield the same in parts of some thousand rows."""
        reader = _bulk_reader(log_filter, content=content)
        for part in self._read(reader):
            yield reader.table([part])

    def _read(self, reader: BulkReader) -> Iterator[Part]:
        from ipyrouter.store.sqlite.bulk import UnevenError

        def fetch(bounds: Bounds, *, checked: bool = False) -> list[Raw]:
            return self._database.read(lambda sql: reader.fetch(sql, bounds, checked=checked))

        bounds = reader.bounds(self._database.read(reader.places))
        # SQLite works without the interpreter lock: it reads the next part while this thread parses the last.
        with ThreadPoolExecutor(1) as ahead:
            reading = [ahead.submit(fetch, bounds[0])]
            for one, following in itertools.zip_longest(bounds, bounds[1:]):
                if following is not None:
                    reading.append(ahead.submit(fetch, following))
                try:
                    pieces = reader.parse(reading.pop(0).result())
                except UnevenError:  # a damaged value: once more, with each of them checked
                    pieces = reader.parse(fetch(one, checked=True), checked=True)
                if pieces:
                    yield reader.in_order(pieces)

    def page(
        self, log_filter: LogFilter, rows: int, *, before: RowKey | None = None, skip: int = 0, order: Order = NEWEST
    ) -> list[LogRow]:
        """Return so many rows."""

        def page(sql: sqlite3.Connection, number: int, skip: int) -> list[LogRow]:
            return browse.page(sql, log_filter, number, before=before, skip=skip, order=order)

        if not self._database.degraded:
            return self._database.read(lambda sql: page(sql, rows, skip))[:rows]
        # The disk and memory each give theirs.
        candidates = self._database.read(lambda sql: page(sql, rows + skip, 0))
        return _sorted(candidates, order)[skip : skip + rows]

    def request(self, answer_id: str) -> LoggedRequest | None:
        """Return a request with its attempts and texts."""
        found = self._database.read(lambda sql: [browse.request(sql, answer_id)])
        return next((one for one in found if one is not None), None)

    def totals(
        self, log_filter: LogFilter, bucket: int | None = None, steps: Sequence[int] = (), by: Group | None = None
    ) -> list[Totals]:
        """Return exact sums over the log's rows."""
        return self._read_sums(lambda sql: figures.totals(sql, log_filter, bucket, tuple(steps), by))

    def top(
        self, since: dt.datetime | None, until: dt.datetime | None, by: Literal["cost", "latency"], count: int
    ) -> list[RankedRequest]:
        """Return the requests of a time that cost or took most."""
        requests = self._read_sums(lambda sql: figures.top(sql, span(since, until), by, count))
        most = {"cost": lambda one: one.cost_pico, "latency": lambda one: one.latency}[by]
        return sorted(requests, key=most, reverse=True)[:count]

    def overview(self, days: int) -> Overview:
        """Return what the log holds."""
        overviews = [one for one in self._read_sums(lambda sql: [browse.overview(sql, days)]) if one.days]
        all_days = sorted({day for one in overviews for day in one.days}, reverse=True)
        return Overview(
            min((one.first for one in overviews), default=0),
            max((one.last for one in overviews), default=0),
            tuple(all_days[:days]),
            tuple(sorted({model for one in overviews for model in one.models})),
            tags=tuple(sorted({tag for one in overviews for tag in one.tags})),
        )

    def last_calls(self) -> list[LastCall]:
        """Return the last call of every model in the log, oldest first."""
        calls = sorted(self._read_sums(browse.last_calls), key=lambda call: call.time)
        return list({(call.provider, call.model): call for call in calls}.values())

    def _read_sums(self, work: Callable[[sqlite3.Connection], list[T]]) -> list[T]:
        """Return what work gives; sums that are damaged are recomputed first."""
        if any(self._database.read(lambda sql: [figures.is_damaged(sql)])):
            self._database.write(schema.rebuild, lambda: None)
        return self._database.read(work)


def _sorted(rows: list[LogRow], order: Order) -> list[LogRow]:
    """Return rows in an order, as SQL would give them."""
    values: dict[str, Callable[[LogRow], Any]] = {
        "time": lambda row: row.key,
        "cost": lambda row: row.cost_pico,
        "status": lambda row: row.status,
        "tier": lambda row: TIERS.index(row.tier) if row.tier in TIERS else len(TIERS),
        "model": lambda row: f"{row.provider}/{row.model}",
        "tokens": lambda row: row.input_tokens + row.output_tokens,
        "latency": lambda row: row.latency,
        "saved": lambda row: row.saved_pico,
    }
    value = values[order.column]
    newest = sorted(rows, key=lambda row: row.key, reverse=True)
    known = sorted((row for row in newest if value(row) is not None), key=value, reverse=order.descending)
    return [*known, *(row for row in newest if value(row) is None)]


def _bulk_reader(log_filter: LogFilter, *, content: bool) -> BulkReader:
    with interrupts.Deferred():  # numpy cannot be imported again once its import was interrupted
        from ipyrouter.store.sqlite.bulk import BulkReader  # which a cached cell does not need
    return BulkReader(log_filter, content=content)
