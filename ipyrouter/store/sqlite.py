"""The embedded store: cache and log in one SQLite file."""

from __future__ import annotations

import datetime as dt
import json
import sqlite3
import time
from decimal import Decimal
from pathlib import Path
from typing import Any, cast

from ipyrouter.errors import StoreError
from ipyrouter.store import forget, overview
from ipyrouter.store.base import CachedAnswer, Feedback, Health, LogFilter, LogTable, Record, Seen
from ipyrouter.store.database import Database
from ipyrouter.store.filters import microseconds
from ipyrouter.store.ledger import LEDGER_SCHEMA, Ledger, settle
from ipyrouter.text.amounts import from_pico, to_pico
from ipyrouter.types import Answer, Finish, Usage

_DAY_US = 86_400_000_000
_MB = 1_000_000
_TOUCH_US = _DAY_US  # a hit is noted at most once a day, so that reading stays reading

_SCHEMA_1 = """
CREATE TABLE answers (
    id TEXT PRIMARY KEY, time INTEGER NOT NULL, session TEXT NOT NULL, notebook TEXT, outcome TEXT NOT NULL,
    prompt TEXT, system TEXT, text TEXT, tier TEXT NOT NULL, provider TEXT NOT NULL, model TEXT NOT NULL,
    routed_tier TEXT NOT NULL, difficulty REAL NOT NULL, reasons TEXT NOT NULL, escalated_from TEXT, fallback_from TEXT,
    notes TEXT NOT NULL, feedback TEXT
) WITHOUT ROWID;
CREATE TABLE attempts (
    answer_id TEXT NOT NULL, n INTEGER NOT NULL, time INTEGER NOT NULL, session TEXT NOT NULL, tier TEXT NOT NULL,
    provider TEXT NOT NULL, model TEXT NOT NULL, status TEXT NOT NULL, input_tokens INTEGER NOT NULL,
    output_tokens INTEGER NOT NULL, cached_input_tokens INTEGER NOT NULL, cache_write_tokens INTEGER NOT NULL,
    reasoning_tokens INTEGER NOT NULL, estimated INTEGER NOT NULL, cost_pico INTEGER, saved_pico INTEGER, price_id TEXT,
    rates TEXT, latency REAL NOT NULL, first_token REAL, finish TEXT, error_kind TEXT, error TEXT, text TEXT,
    PRIMARY KEY (answer_id, n)
) WITHOUT ROWID;
CREATE INDEX attempts_spent ON attempts (time, session, cost_pico);
CREATE TABLE cache (
    key BLOB PRIMARY KEY, created INTEGER NOT NULL, used INTEGER NOT NULL, size INTEGER NOT NULL,
    provider TEXT NOT NULL, model TEXT NOT NULL, tier TEXT NOT NULL, text TEXT NOT NULL, usage TEXT NOT NULL,
    finish TEXT NOT NULL, cost_pico INTEGER, escalated_from TEXT
) WITHOUT ROWID;
CREATE INDEX cache_used ON cache (used, size);
CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO counters VALUES ('cache_bytes', 0);
"""


def _pico(dollars: Decimal | None) -> int | None:
    return None if dollars is None else to_pico(dollars)


class SQLiteStore(Ledger):
    """Implements store.base.Store. Safe to use from several threads and processes at once."""

    def __init__(self, folder: Path) -> None:
        super().__init__(
            Database(folder / "ipyrouter.db", (_SCHEMA_1 + LEDGER_SCHEMA,), ("answers", "attempts", "cache"))
        )

    # --- cache ---

    def cached(self, keys: list[bytes], ttl_days: float) -> CachedAnswer | None:
        """Return the first of the keys that is stored and no older than ``ttl_days``."""
        now = time.time_ns() // 1000
        oldest = now - int(ttl_days * _DAY_US)

        def find(connection: sqlite3.Connection) -> list[tuple[Any, ...]]:
            for key in keys:
                row = connection.execute(
                    "SELECT key, provider, model, tier, text, usage, finish, cost_pico, escalated_from, used"
                    " FROM cache WHERE key = ? AND created >= ?",
                    (key, oldest),
                ).fetchone()
                if row is not None:
                    return [row]
            return []

        try:
            rows = self._database.read(find)
        except StoreError:  # a newer schema: the record that follows says so
            return None
        if not rows:
            return None
        key, provider, model, tier, text, usage, finish, cost, escalated_from, used = rows[0]
        if now - used > _TOUCH_US:
            self._database.write(lambda c: c.execute("UPDATE cache SET used = ? WHERE key = ?", (now, key)))
        return CachedAnswer(
            provider,
            model,
            tier,
            text,
            Usage(**json.loads(usage)),
            cast(Finish, finish),
            None if cost is None else from_pico(cost),
            escalated_from,
        )

    def clear_cache(self) -> int:
        """Forget all cached completions and return how many there were."""

        def clear(connection: sqlite3.Connection) -> int:
            gone = connection.execute("DELETE FROM cache").rowcount
            connection.execute("UPDATE counters SET value = 0 WHERE name = 'cache_bytes'")
            return gone

        return self._database.write(clear)

    # --- log ---

    def record(self, record: Record, cache_key: bytes | None, max_mb: float) -> None:
        """Write answer and log rows, and the cache entry if a key is given, in one transaction."""
        now = time.time_ns() // 1000

        def write(connection: sqlite3.Connection) -> None:
            _insert_answer(connection, record, now)
            _insert_attempts(connection, record, now)
            settle(connection, record.lease, record.owner, record.reservations)
            if cache_key is not None:
                _insert_cache(connection, cache_key, record.answer, now, int(max_mb * _MB))

        self._database.write(write)

    def log(self, wanted: LogFilter, *, content: bool = True) -> LogTable:
        """Return the log, oldest first; without ``content`` prompts and answers stay on the disk. Raises StoreError."""
        from ipyrouter.store import columns  # numpy, which a cached cell does not need

        known: dict[str, int] = {}
        parts = self._database.read(lambda c: list(columns.stretches(c, wanted, known, content=content)))
        return columns.table(parts, known)

    def prompts(self, answer_ids: list[str]) -> dict[str, str | None]:
        """Return the prompts of these answers, None where the log keeps no content. Raises StoreError."""
        query = f"SELECT id, prompt FROM answers WHERE id IN ({', '.join('?' * len(answer_ids))})"  # noqa: S608
        return dict(self._database.read(lambda c: c.execute(query, answer_ids).fetchall()))

    def last_seen(self) -> list[Seen]:
        """Return the last call of every model in the log, cached answers not counted. Raises StoreError."""
        # SQLite takes the other columns from the row of the MAX; an answer's attempts share its time. What was left
        # alone after faults has a row, but nothing was sent.
        query = (
            "SELECT MAX(time * 100 + n), provider, model, time, status, error FROM attempts"
            " WHERE status != 'cached' AND error_kind IS NOT 'left_alone' GROUP BY provider, model"
        )
        rows = self._database.read(lambda c: c.execute(query).fetchall())
        return [
            Seen(provider, model, dt.datetime.fromtimestamp(time / 1e6, dt.UTC), status, error)
            for _, provider, model, time, status, error in sorted(rows)
        ]

    def newest(self, wanted: LogFilter, rows: int, skip: int = 0) -> list[tuple[Any, ...]]:
        """Return so many rows of the log after the newest ``skip``, newest first. Raises StoreError."""
        found = self._database.read(lambda c: overview.newest(c, wanted, skip + rows))
        # Disk and, after a fault, memory each gave theirs; the time is the first column.
        return sorted(found, key=lambda row: row[0], reverse=True)[skip : skip + rows]

    def summary(self, wanted: LogFilter, bucket: int, steps: tuple[int, ...] = ()) -> list[tuple[Any, ...]]:
        """Return sums over the log, a tuple of SUMMARY_COLUMNS a row, in buckets of that many microseconds.

        ``steps`` are the input tokens at which bands begin.
        """
        return self._database.read(lambda c: overview.summary(c, wanted, bucket, steps))

    def span(self) -> tuple[int, int] | None:
        """Return the times of the log's first and last row, in microseconds, or None."""
        found = self._database.read(overview.span)
        return (min(first for first, _ in found), max(last for _, last in found)) if found else None

    def choices(self, days: int) -> tuple[list[str], list[str]]:
        """Return the newest days (UTC, as 2026-11-23) and all the models of the log."""
        found = self._database.read(lambda c: overview.days(c, days))
        models = self._database.read(overview.models)
        return sorted({day for (day,) in found}, reverse=True)[:days], sorted({model for (model,) in models})

    def restore(self, records: list[Record]) -> int:
        """Add records that are not in the log, at the time of their answers; return how many were new."""

        def write(connection: sqlite3.Connection) -> int:
            added = 0
            for record in records:
                if connection.execute("SELECT 1 FROM answers WHERE id = ?", (record.answer.id,)).fetchone():
                    continue
                then = round(record.answer.created.timestamp() * 1_000_000)
                _insert_answer(connection, record, then)
                _insert_attempts(connection, record, then)
                added += 1
            return added

        return self._database.write(write)

    def set_feedback(self, answer_id: str, feedback: Feedback) -> bool:
        """Store what the user thought of an answer; False if there is no such answer."""
        query = "UPDATE answers SET feedback = ? WHERE id = ?"
        return self._database.write(lambda c: c.execute(query, (feedback, answer_id)).rowcount > 0)

    def forget(self, answer_id: str | None, before: dt.datetime | None, *, content: bool) -> int:
        """Delete an answer, those before a moment, or all, or with ``content`` only their texts; return how many.

        Cached completions of theirs go, too, and no bytes of any of it stay in the files. Raises StoreError.
        """
        moment = microseconds(before)
        return self._database.erase(lambda c: forget.forget(c, answer_id, moment, content=content))

    # --- state ---

    def health(self) -> Health:
        """Check the store; counts what it holds."""

        def look(connection: sqlite3.Connection) -> list[tuple[str, int, int, int]]:
            verdict: str = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
            answers = connection.execute("SELECT COUNT(*) FROM answers").fetchone()[0]
            cached, size = connection.execute("SELECT COUNT(*), COALESCE(SUM(size), 0) FROM cache").fetchone()
            return [(verdict, answers, cached, size)]

        path = str(self._database.path)
        if not self._database.path.exists():
            return Health(path, ok=True, detail="not there yet; it is made with the first answer")
        try:
            rows = self._database.read(look)
        except StoreError as error:
            return Health(path, ok=False, detail=str(error))
        if not rows:
            return Health(path, ok=False, detail="; ".join(self.warnings()) or "cannot be opened")
        verdict, answers, cached, size = rows[0]
        return Health(path, ok=verdict == "ok", detail=verdict, answers=answers, cached=cached, cached_bytes=size)

    def warnings(self) -> list[str]:
        """Return what went wrong since the last call."""
        return self._database.take_warnings()

    def close(self) -> None:
        """Close this thread's connection."""
        self._database.close()


def _insert(connection: sqlite3.Connection, table: str, row: dict[str, Any]) -> None:
    names, marks = ", ".join(row), ", ".join("?" * len(row))
    connection.execute(f"INSERT INTO {table} ({names}) VALUES ({marks})", tuple(row.values()))  # noqa: S608


def _insert_answer(connection: sqlite3.Connection, record: Record, now: int) -> None:
    answer = record.answer
    row = {
        "id": answer.id,
        "time": now,
        "session": record.session,
        "notebook": record.notebook,
        "outcome": record.outcome,
        "prompt": record.prompt,
        "system": record.system,
        "text": answer.text if record.prompt is not None else None,
        "tier": answer.tier,
        "provider": answer.provider,
        "model": answer.model,
        "routed_tier": answer.classification.tier,
        "difficulty": answer.classification.difficulty,
        "reasons": json.dumps(answer.classification.reasons),
        "escalated_from": answer.escalated_from,
        "fallback_from": answer.fallback_from,
        "notes": json.dumps(answer.notes),
    }
    _insert(connection, "answers", row)


def _usage_columns(usage: Usage) -> dict[str, int]:
    return {name: getattr(usage, name) for name in Usage.__slots__}


def _insert_attempts(connection: sqlite3.Connection, record: Record, now: int) -> None:
    answer, content = record.answer, record.prompt is not None
    for n, attempt in enumerate(answer.attempts):
        cost, usage = attempt.cost, attempt.usage
        row = {
            "answer_id": answer.id,
            "n": n,
            "time": now,
            "session": record.session,
            "tier": attempt.tier,
            "provider": attempt.candidate.provider,
            "model": attempt.candidate.model,
            "status": attempt.status,
            **_usage_columns(usage),
            "cost_pico": _pico(cost.amount),
            "saved_pico": _pico(answer.cost_saved) if attempt.status == "cached" else None,
            "price_id": cost.price_id,
            "rates": json.dumps({name: str(rate) for name, rate in cost.rates}) if cost.rates else None,
            "latency": attempt.latency,
            "first_token": attempt.first_token,
            "finish": attempt.finish,
            "error_kind": attempt.error_kind,
            "error": attempt.error,
            "text": attempt.text if content and attempt.text != answer.text else None,
        }
        _insert(connection, "attempts", row)


def _insert_cache(connection: sqlite3.Connection, key: bytes, answer: Answer, now: int, max_bytes: int) -> None:
    size = len(answer.text.encode()) + 300  # the other columns and the index, about
    usage = json.dumps(_usage_columns(answer.usage))
    connection.execute(
        "INSERT OR REPLACE INTO cache (key, created, used, size, provider, model, tier, text, usage, finish, cost_pico,"
        " escalated_from) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (key, now, now, size, answer.provider, answer.model, answer.tier, answer.text, usage, answer.finish,
         _pico(answer.cost), answer.escalated_from),
    )  # fmt: skip
    # A replaced entry is counted twice until the next eviction counts anew: cheaper than a look-up at every write.
    (held,) = connection.execute(
        "UPDATE counters SET value = value + ? WHERE name = 'cache_bytes' RETURNING value", (size,)
    ).fetchone()
    if held > max_bytes:
        _evict(connection, max_bytes)


def _evict(connection: sqlite3.Connection, max_bytes: int) -> None:
    """Drop the least recently used entries until a tenth of the room is free; count anew while at it."""
    room, held = int(max_bytes * 0.9), 0
    doomed: list[tuple[bytes]] = []
    for key, size in connection.execute("SELECT key, size FROM cache ORDER BY used DESC"):
        held += size
        if held > room:
            held -= size
            doomed.append((key,))
    connection.executemany("DELETE FROM cache WHERE key = ?", doomed)
    connection.execute("UPDATE counters SET value = ? WHERE name = 'cache_bytes'", (held,))
