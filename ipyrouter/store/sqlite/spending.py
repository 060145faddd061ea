"""What was spent, by counter: as a database says it, as this process last knew it, and as a damaged file tells it."""

from __future__ import annotations

import os
import sqlite3
import threading
import weakref
from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

from ipyrouter.store import rows
from ipyrouter.store.base import Limit, microseconds, moment
from ipyrouter.store.sqlite import schema
from ipyrouter.store.sqlite.connections import NO_FILE, FileId
from ipyrouter.types import Session

LOST = "lost:"  # before the name of a counter: it was in a damaged file
LOST_RUNS = f"{LOST}runs"  # its value tells when; the counters of runs that began before are lost


class Counter(NamedTuple):
    """The name of a counter, and when its period began, in microseconds."""

    name: str
    begun: int


def counters(limit: Limit, session: Session, now: int) -> list[Counter]:
    """Return the counters that add up to what is spent of a budget now: days to come do not count."""
    if limit.period == "session":
        return [Counter(f"session:{session.id}", microseconds(session.started))]
    if limit.period == "run":
        return [Counter(_run_counter(session.run), microseconds(session.started))]
    today = now // schema.DAY
    first = today if limit.period == "day" else month_begins(now)
    return [Counter(f"day:{day}", day * schema.DAY) for day in range(first, today + 1)]


def month_begins(now: int) -> int:
    """Return the number of the month's first day, counted from 1970."""
    return microseconds(moment(now).replace(day=1)) // schema.DAY


def counters_of(session: str, now: int, run: str = "") -> tuple[str, ...]:
    """Return the counters that spending changes."""
    return f"day:{now // schema.DAY}", f"session:{session}", *([_run_counter(run)] if run else [])


def _run_counter(run: str) -> str:
    return f"run:{run}"


def count_for_run(sql: sqlite3.Connection, run: str, pico: int) -> None:
    """Add to what a run has spent, inside the transaction that logs it: the log itself names no runs."""
    value, rest = divmod(pico, schema.MICRO)
    sql.execute(
        "INSERT INTO counters (name, value, rest, control) VALUES (?, ?, ?, ?) ON CONFLICT (name) DO UPDATE SET"
        f" value = value + excluded.value, rest = rest + excluded.rest, control = control + excluded.control"
        f" WHERE {schema.SOUND}",
        (_run_counter(run), value, rest, value + rest),
    )


class LastKnown:
    """What this process has read of the counters and has spent since: what counts while no database tells it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._read: dict[str, tuple[FileId, int]] = {}  # by counter: from which file, and how much
        self._read_at = 0  # when anything was last read
        self._since: dict[str, int] = defaultdict(int)  # spent by this process since
        self._missing: dict[str, int] = defaultdict(int)  # what files that are gone held, and the present one does not
        _all.add(self)

    def after_fork_in_child(self) -> None:
        """Begin with a free lock."""
        self._lock = threading.Lock()

    def let_go(self) -> None:
        """Take the next file for another one: one that is not open may be deleted, and its number used again."""
        with self._lock:
            self._read = {name: (NO_FILE, total) for name, (_, total) in self._read.items()}

    def spent(self, names: Iterable[str], pico: int) -> None:
        """Note what this process has spent, on the disk or in memory."""
        with self._lock:
            for name in names:
                self._since[name] += pico

    def update(self, name: str, pico: int, file: FileId, now: int, *, lost: bool) -> int | None:
        """Take in what the databases say of a counter; return how much it is.

        Where a new file has taken the place of the one that was read before, it holds no less. Where the new one marks
        the counter as ``lost``, and nothing was read before, it is unknown: None.
        """
        with self._lock:
            before = self._read.get(name)
            if before is None and lost:
                return None
            if before is not None and before[0] != file:
                self._missing[name] = max(before[1] + self._since[name] - pico, 0)
            total = pico + self._missing[name]
            self._read[name] = file, total
            self._since[name] = 0
            self._read_at = max(self._read_at, now)
            return total

    def last(self, counter: Counter, *, empty: bool) -> int | None:
        """Return how much a counter was when last read and what was spent since; None if it never was.

        ``empty`` says that there is no file, so that nothing can have been spent before this process began.
        """
        with self._lock:
            if (before := self._read.get(counter.name)) is not None:
                return before[1] + self._since[counter.name]
            begun_since = 0 < self._read_at <= counter.begun
            return self._since[counter.name] if begun_since or (empty and not self._read_at) else None

    def since(self, counter: Counter) -> int:
        """Return what this process has spent since it last read a counter."""
        with self._lock:
            return self._since[counter.name]

    def all(self) -> dict[str, int]:
        """Return all counters that were read, as they are now."""
        with self._lock:
            return {name: total + self._since[name] for name, (_, total) in self._read.items()}


def read(sql: sqlite3.Connection, names: Iterable[str] | None = None) -> dict[str, int] | None:
    """Return counters in 1e-12 dollars; None if damage that SQLite does not see has met one of them."""
    counters = None if names is None else [*names, schema.COUNTED]
    condition = "" if counters is None else f" WHERE name IN ({', '.join('?' * len(counters))})"
    rows = sql.execute(f"SELECT name, value, rest, {schema.SOUND} FROM counters{condition}", counters or ()).fetchall()
    values = {name: (value, rest) for name, value, rest, sound in rows if sound and isinstance(name, str)}
    if len(values) < len(rows) or schema.COUNTED not in values:
        return None
    return {name: value * schema.MICRO + rest for name, (value, rest) in values.items()}


def write(sql: sqlite3.Connection, counters: dict[str, int]) -> None:
    """Put counters in 1e-12 dollars into a database."""
    parts = ((name, *divmod(pico, schema.MICRO)) for name, pico in counters.items())
    query = "INSERT OR REPLACE INTO counters (name, value, rest, control) VALUES (?, ?, ?, ?)"
    sql.executemany(query, [(name, value, rest, value + rest) for name, value, rest in parts])


def salvage(damaged: sqlite3.Connection) -> tuple[dict[str, int], bool]:
    """Return what can be read of the spending in a damaged database, by counter, and whether that is all of it."""
    try:
        counted = read(damaged)
        if counted is not None:
            return counted, True
    except (sqlite3.Error, UnicodeError, MemoryError):
        pass  # the log tells as much, but for the runs
    spent: dict[str, int] = defaultdict(int)
    try:
        for time, session, pico in damaged.execute("SELECT time, session, cost_pico FROM attempts"):
            if type(time) is int and type(pico) is int and 0 < pico <= rows.MOST_PICO:
                for name in counters_of(session, time):
                    spent[name] += pico
    except (sqlite3.Error, UnicodeError, MemoryError):
        return dict(spent), False
    return dict(spent), True


_all: weakref.WeakSet[LastKnown] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for known in list(_all):
        known.after_fork_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
