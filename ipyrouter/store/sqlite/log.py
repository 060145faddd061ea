"""Requests and their attempts, written in one transaction with all that ends with them."""

from __future__ import annotations

import datetime as dt
import sqlite3
from collections.abc import Callable, Sequence

from ipyrouter import interrupts
from ipyrouter.clock import Clock
from ipyrouter.store import rows
from ipyrouter.store.base import Feedback, Record, microseconds
from ipyrouter.store.sqlite import cache, runs
from ipyrouter.store.sqlite.database import Database
from ipyrouter.store.sqlite.forget import forget
from ipyrouter.store.sqlite.ledger import release
from ipyrouter.store.sqlite.spending import count_for_run

_MB = 1_000_000


def _insert(table: str, columns: tuple[rows.Column, ...]) -> str:
    names, marks = ", ".join(column.name for column in columns), ", ".join("?" * len(columns))
    return f"INSERT INTO {table} ({names}) VALUES ({marks}) ON CONFLICT DO NOTHING"


INSERT_REQUEST = _insert("answers", rows.REQUESTS)
INSERT_ATTEMPT = _insert("attempts", rows.ATTEMPTS)


class LogWriter:
    """Implements store.base.LogWriter."""

    _database: Database
    _clock: Clock
    _after_record: Callable[[Record, int], None]

    def record(self, record: Record, cache_key: bytes | None, max_mb: float, max_age_days: float | None = None) -> None:
        """Write a request with its attempts and, if a key is given, the cache entry, in one transaction."""
        now = rows.instant(microseconds(self._clock.now()))
        request, attempts = rows.values(record, now, restored=False)

        def write(sql: sqlite3.Connection) -> None:
            new = sql.execute(INSERT_REQUEST, request).rowcount  # first: the sums ask it which attempt answered
            sql.executemany(INSERT_ATTEMPT, attempts)
            if record.session.run and new:
                count_for_run(sql, record.session.run, rows.spent(record))
            if record.owner:
                release(sql, record.owner)
            if cache_key is not None and record.run:
                runs.pin(sql, record.run, [cache_key])
            if cache_key is not None and record.outcome == "cached":
                cache.touch(sql, cache_key, now)
            elif cache_key is not None:
                most = int(max_mb * _MB)
                cache.put(sql, cache_key, record.answer, now, max_bytes=most, max_age_days=max_age_days)

        with interrupts.Deferred():
            self._database.write(write)
            self._after_record(record, now)

    def restore(self, records: Sequence[Record]) -> int:
        """Add records that are not in the log, at the time of their answers; return how many were new."""
        values = [rows.values(one, microseconds(one.answer.created), restored=True) for one in records]

        def write(sql: sqlite3.Connection) -> int:
            new = 0
            for request, attempts in values:
                if sql.execute(INSERT_REQUEST, request).rowcount:
                    sql.executemany(INSERT_ATTEMPT, attempts)
                    new += 1
            return new

        return self._database.write(write)

    def forget(self, answer_id: str | None, before: dt.datetime | None, *, content: bool) -> int:
        """Delete an answer, those before a moment, or all, or with ``content`` only their texts; return how many.

        Cached completions of theirs go, too, and no bytes of any of it stay in the files. Raises StoreError.
        """
        moment = None if before is None else microseconds(before)
        return self._database.erase(lambda sql: forget(sql, answer_id, moment, content=content))

    def set_feedback(self, answer_id: str, feedback: Feedback) -> bool:
        """Store what the user thought of an answer; False if there is no such answer."""
        query = "UPDATE answers SET feedback = ? WHERE id = ?"
        return self._database.write(lambda sql: sql.execute(query, (feedback, answer_id)).rowcount > 0)
