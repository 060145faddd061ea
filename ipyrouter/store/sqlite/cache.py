"""Completions by the key of their call, and the claims of those who are asking for one."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from typing import Any, cast, get_args

from ipyrouter.clock import Clock
from ipyrouter.errors import StoreError
from ipyrouter.store import rows
from ipyrouter.store.base import CachedAnswer, Claim, microseconds
from ipyrouter.store.sqlite import schema
from ipyrouter.store.sqlite.database import Database
from ipyrouter.store.sqlite.ledger import drop_lapsed, has_lapsed
from ipyrouter.text.amounts import from_pico
from ipyrouter.types import TIERS, Answer, Finish, Usage

_TOUCH = schema.DAY  # a hit is noted at most once a day: each time costs an entry of the index
_MOST_MARKS = 500  # values in one statement
_FINISHES = get_args(Finish)
_PINNED = "EXISTS (SELECT 1 FROM run_rows WHERE run_rows.key = cache.key)"
"""SQL that is true for an entry that a run keeps."""
_COLUMNS = "key, created, provider, model, tier, text, usage, finish, cost_pico, escalated_from"


_Hit = tuple[int, CachedAnswer]
"""The place of the key among those that were looked for, and the answer."""


class Cache:
    """Implements store.base.AnswerCache, but for releasing, which the ledger does."""

    _database: Database
    _clock: Clock
    _holders: set[str]

    def cached(self, keys: Sequence[bytes], max_age_days: float) -> CachedAnswer | None:
        """Return the answer of the first of the keys that has a sound one of no greater age."""
        return self._look_up(keys, None, "", max_age_days)[0]

    def cached_or_claim(
        self, keys: Sequence[bytes], claim: bytes, owner: str, seconds: float, max_age_days: float
    ) -> CachedAnswer | Claim:
        """Return the cached answer, or claim the right to ask for it."""
        # One that has tried before waits, looks often, and only reads. Another has just looked, when it was planned.
        if owner in self._holders or self._database.degraded:
            hit, other = self._look_up(keys, claim, owner, max_age_days)
            if hit is not None:
                return hit
            if other is not None:
                return other
        now, monotonic = microseconds(self._clock.now()), self._clock.monotonic()

        def write(sql: sqlite3.Connection) -> CachedAnswer | Claim:
            # Now that no other process can write: the answer may have come since the request was planned.
            if hits := _find(sql, keys, max_age_days, now):
                return _first(hits)
            drop_lapsed(sql, "claims", now, monotonic)
            row = (claim, owner, now + int(seconds * 1e6), monotonic + seconds)
            cursor = sql.execute("INSERT OR IGNORE INTO claims (key, owner, expires, lapses) VALUES (?, ?, ?, ?)", row)
            if cursor.rowcount:
                return Claim(owner)
            return Claim(*sql.execute("SELECT owner FROM claims WHERE key = ?", (claim,)).fetchone())

        self._holders.add(owner)
        return self._database.write(write)

    def _look_up(
        self, keys: Sequence[bytes], claim: bytes | None, owner: str, max_age_days: float
    ) -> tuple[CachedAnswer | None, Claim | None]:
        """Return the cached answer, or the claim that another living owner has, in one reading step."""
        now = microseconds(self._clock.now())

        def look(sql: sqlite3.Connection) -> list[_Hit | Claim]:
            hits = _find(sql, keys, max_age_days, now)
            if hits or claim is None:
                return [*hits]
            query = "SELECT owner, expires, lapses FROM claims WHERE key = ?"
            claims = sql.execute(query, (claim,)).fetchall()
            monotonic = self._clock.monotonic()
            return [
                Claim(one[0])
                for one in claims
                if one[0] != owner and not has_lapsed(*one, now=now, monotonic=monotonic)
            ]

        try:
            results = self._database.read(look)
        except StoreError:  # a newer schema: the record that follows says so
            return None, None
        hits = [one for one in results if not isinstance(one, Claim)]
        return _first(hits) if hits else None, next((one for one in results if isinstance(one, Claim)), None)

    def cached_many(self, groups: Sequence[Sequence[bytes]], max_age_days: float) -> list[CachedAnswer | None]:
        """Return the answer of the first of the keys of each group that has a sound one of no greater age."""
        now, keys = microseconds(self._clock.now()), list({key for group in groups for key in group})

        def look(sql: sqlite3.Connection) -> list[CachedAnswer]:
            parts = (keys[start : start + _MOST_MARKS] for start in range(0, len(keys), _MOST_MARKS))
            return [answer for part in parts for _, answer in _find(sql, part, max_age_days, now)]

        try:
            answers = {answer.key: answer for answer in self._database.read(look)}
        except StoreError:
            answers = {}
        return [next((answers[key] for key in group if key in answers), None) for group in groups]

    def clear_cache(self) -> int:
        """Delete all cached completions and return how many there were."""

        def clear(sql: sqlite3.Connection) -> int:
            number = sql.execute("DELETE FROM cache").rowcount
            sql.execute("INSERT OR REPLACE INTO counters (name, value, control) VALUES ('cache_bytes', 0, 0)")
            return number

        return self._database.write(clear)


def _find(sql: sqlite3.Connection, keys: Sequence[bytes], max_age_days: float, now: int) -> list[_Hit]:
    """Return the sound answers of the keys."""
    marks = ", ".join("?" * len(keys))
    query = f"SELECT {_COLUMNS}, {_PINNED} FROM cache WHERE key IN ({marks})"
    age = max_age_days * schema.DAY
    hits = []
    places = {key: place for place, key in enumerate(keys)}
    for key, created, *rest, pinned in sql.execute(query, tuple(keys)):
        # One that a clock ahead has dated far into the future would never grow old.
        fresh = type(created) is int and (abs(now - created) <= age or pinned)
        if fresh and (answer := _answer(key, rest)) is not None:
            hits.append((places[key], answer))
    return hits


def _first(hits: list[_Hit]) -> CachedAnswer:
    return min(hits, key=lambda hit: hit[0])[1]


def _answer(key: bytes, row: list[Any]) -> CachedAnswer | None:
    """Return a row as an answer; None if damage that SQLite does not see has met it."""
    provider, model, tier, text, usage, finish, cost, escalated_from = row
    sound = (
        all(isinstance(name, str) for name in (provider, model, text))
        and tier in TIERS
        and (escalated_from is None or escalated_from in TIERS)
        and finish in _FINISHES
        and (cost is None or (type(cost) is int and 0 <= cost <= rows.MOST_PICO))
    )
    tokens = _usage(usage)
    if not sound or tokens is None:
        return None
    amount = None if cost is None else from_pico(cost)
    return CachedAnswer(key, provider, model, tier, text, tokens, cast(Finish, finish), amount, escalated_from)


def _usage(saved: Any) -> Usage | None:
    try:
        counts = json.loads(saved)
        estimated = counts.pop("estimated", False)
        usage = Usage(**counts, estimated=bool(estimated))
    except (ValueError, TypeError, AttributeError, RecursionError):
        return None
    sound = all(type(value) is int and 0 <= value <= rows.MOST_TOKENS for value in counts.values())
    return usage if sound else None


def put(
    sql: sqlite3.Connection, key: bytes, answer: Answer, now: int, *, max_bytes: int, max_age_days: float | None
) -> None:
    """Store a completion inside a transaction; what is too old goes, and the least recently used beyond the room."""
    size = len(answer.text.encode("utf-8", "replace")) + 300  # the other columns and the indexes, about
    usage = {name: getattr(answer.usage, name) for name in Usage.__slots__}
    counts = {name: rows.count(value) for name, value in usage.items() if name != "estimated"}
    grown = size
    if max_age_days is not None:
        age = int(max_age_days * schema.DAY)
        old = f"DELETE FROM cache WHERE (created < ? OR created > ?) AND NOT {_PINNED} RETURNING size"
        grown -= sum(_size(gone) for (gone,) in sql.execute(old, (now - age, now + age)).fetchall())
    replaced = sql.execute("DELETE FROM cache WHERE key = ? RETURNING size", (key,)).fetchall()
    grown -= sum(_size(gone) for (gone,) in replaced)
    row = (
        key, now, now, size, rows.text(answer.provider), rows.text(answer.model), answer.tier, rows.text(answer.text),
        json.dumps({**counts, "estimated": answer.usage.estimated}), answer.finish, rows.pico(answer.cost),
        answer.escalated_from,
    )  # fmt: skip
    marks = ", ".join("?" * len(row))
    sql.execute(
        "INSERT INTO cache (key, created, used, size, provider, model, tier, text, usage, finish, cost_pico,"
        f" escalated_from) VALUES ({marks})",
        row,
    )
    count = (
        "UPDATE counters SET value = value + ?1, control = control + ?1 WHERE name = 'cache_bytes'"
        f" AND {schema.SOUND} RETURNING value"
    )
    counted = sql.execute(count, (grown,)).fetchall()
    if not counted or not 0 <= counted[0][0] <= max_bytes:
        _evict(sql, max_bytes)


def touch(sql: sqlite3.Connection, key: bytes, now: int) -> None:
    """Note inside a transaction that an entry was used."""
    # A last use in the future is one of a clock that was ahead.
    query = "UPDATE cache SET used = ? WHERE key = ? AND used NOT BETWEEN ? AND ?"
    sql.execute(query, (now, key, now - _TOUCH, now))


def _size(value: Any) -> int:
    return value if type(value) is int and value > 0 else 0


def _evict(sql: sqlite3.Connection, max_bytes: int) -> None:
    """Delete the least recently used entries until a tenth of the room is free, and count what is left."""
    sizes = sql.execute(f"SELECT key, size, {_PINNED} AS pinned FROM cache ORDER BY pinned DESC, used DESC").fetchall()
    held = sum(_size(size) for _, size, _ in sizes)
    if held > max_bytes:
        room, held = int(max_bytes * 0.9), 0
        doomed: list[tuple[bytes]] = []
        for key, size, pinned in sizes:
            if pinned or held + _size(size) <= room:
                held += _size(size)
            else:
                doomed.append((key,))
        sql.executemany("DELETE FROM cache WHERE key = ?", doomed)
        held = min(held, room)  # where runs keep more than there is room for, the next look comes after a tenth more
    sql.execute("INSERT OR REPLACE INTO counters (name, value, control) VALUES ('cache_bytes', ?1, ?1)", (held,))
