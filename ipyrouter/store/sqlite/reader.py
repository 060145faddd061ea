"""The log read: from the disk and, after a fault, from memory as well."""

from __future__ import annotations

import datetime as dt
import itertools
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Literal, TypeVar

from ipyrouter import interrupts
from ipyrouter.store.base import (
    Group,
    LastCall,
    LogFilter,
    LogRow,
    LogTable,
    Overview,
    RankedRequest,
    RowKey,
    Totals,
)
from ipyrouter.store.sqlite import browse, figures, schema
from ipyrouter.store.sqlite.database import Database
from ipyrouter.store.sqlite.filters import span

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

    def page(self, log_filter: LogFilter, rows: int, *, before: RowKey | None = None, skip: int = 0) -> list[LogRow]:
        """Return so many rows, newest first."""
        if not self._database.degraded:
            return self._database.read(lambda sql: browse.page(sql, log_filter, rows, before, skip))[:rows]
        # The disk and memory each give theirs.
        candidates = self._database.read(lambda sql: browse.page(sql, log_filter, rows + skip, before, 0))
        return sorted(candidates, key=lambda row: row.key, reverse=True)[skip : skip + rows]

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


def _bulk_reader(log_filter: LogFilter, *, content: bool) -> BulkReader:
    with interrupts.Deferred():  # numpy cannot be imported again once its import was interrupted
        from ipyrouter.store.sqlite.bulk import BulkReader  # which a cached cell does not need
    return BulkReader(log_filter, content=content)
