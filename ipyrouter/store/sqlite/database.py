"""A SQLite file that never costs the user the answer.

A write that the disk refuses (full, read-only, locked, corrupt) goes to a database in memory instead, with one warning,
and moves to the disk with the first write that succeeds again. A damaged file is set aside and a new one begun.
"""

from __future__ import annotations

import os
import random
import sqlite3
import stat
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any, Generic, TypeVar

from ipyrouter import interrupts
from ipyrouter.errors import StoreError
from ipyrouter.store.sqlite import schema
from ipyrouter.store.sqlite.connections import (
    NO_FILE,
    Connection,
    Connections,
    FileId,
    StepError,
    Work,
    connect,
    transaction,
)
from ipyrouter.store.sqlite.damage import Salvage, Trouble, is_damaged, meaning, set_aside

T = TypeVar("T")

_BUSY = 10.0  # seconds to wait for writers of other processes
_BUSY_DEGRADED = 0.1  # once that has failed, so that a user does not wait at every cell
_DAMAGES = 3  # files that one step sets aside: a disk that damages each of them is refused
_OVERFLOW_TABLES = (
    "answers",
    "attempts",
    "cache",
    "reservations",
    "claims",
    "runs",
    "run_rows",
)  # moved to the disk in this order
TROUBLES = (sqlite3.Error, OSError, StoreError, UnicodeError, MemoryError)


class _Write(Generic[T]):
    """Work that waits to be written: by the thread that brought it, or together with that of another."""

    def __init__(self, work: Work[T]) -> None:
        self.work = work
        self.results: list[T] = []  # one, once it is on the disk


class Database:
    """The file at a path, and its stand-in in memory. Safe to use from any thread, and after a fork."""

    def __init__(self, path: Path, salvage: Salvage) -> None:
        self.path = path
        self._salvage = salvage
        self._connections = Connections(path)
        self._busy = _BUSY
        self._warnings: list[str] = []
        self._warned: set[str] = set()
        self._overflow: sqlite3.Connection | None = None
        self._rights_are_known = False
        self._moves = 0  # how often memory has moved to the disk
        self._waiting: list[_Write[Any]] = []  # for the lock, in the order of coming
        self._lock = (
            threading.Lock()
        )  # one writer at a time, so that no thread waits for another without need; the overflow
        _databases.add(self)

    # --- what the store calls ---

    def write(self, work: Work[T], instead: Callable[[], T] | None = None) -> T:
        """Run work in one transaction on the disk or, if the disk refuses, in memory.

        Threads that write at the same time share a transaction: the one that gets the lock writes for all that wait.
        ``instead`` is called where the disk refuses, if given; it holds the lock, so that it may call
        :meth:`in_memory`.
        """
        own = _Write(work)
        with interrupts.Deferred():
            self._waiting.append(own)
            with self._lock:
                if own.results:
                    return own.results[0]
                try:
                    self._write_waiting(own)
                except TROUBLES as error:
                    self._degrade(error)
                    return self.in_memory(work) if instead is None else instead()
                if self._overflow is not None:
                    self._drop_overflow()
                self._busy = _BUSY
                return own.results[0]

    def erase(self, work: Work[T]) -> T:
        """Run work, which deletes, on the disk and let no byte of it stay there. Raises StoreError."""

        def step(connection: Connection) -> T:
            connection.sql.execute("PRAGMA secure_delete = ON")
            return self._transaction(connection, work)

        with interrupts.Deferred(), self._lock:
            try:
                result = self._on_disk(step)
            except TROUBLES as error:
                if isinstance(error, StoreError):
                    raise
                raise StoreError(
                    f"{self.path} cannot be written ({error}); nothing was deleted.", "Try again."
                ) from None
            if self._overflow is not None:
                self._drop_overflow()
            try:
                reason = self._on_disk(_wipe)
            except TROUBLES as error:
                reason = str(error)
        if reason:
            raise StoreError(
                f"The rows are deleted, but their bytes may still be in {self.path} or its -wal file ({reason}).",
                "Run %router forget again when no other kernel uses the log.",
            )
        return result

    def read(self, work: Work[list[T]]) -> list[T]:
        """Return the rows that work gives on the disk and in memory. Raises StoreError for a newer schema."""
        disk, memory = self.look(work)
        if isinstance(disk, StoreError):
            raise disk
        return [*(disk if isinstance(disk, list) else []), *(memory or [])]

    def look(self, work: Work[T]) -> tuple[T | Exception, T | None]:
        """Return what work gives on the disk, or why it cannot be read, and in memory, if anything is there."""
        while True:
            moves = self._moves
            try:
                disk: T | Exception = self.read_disk(work)
            except TROUBLES as error:
                self._degrade(error)
                disk = error
            memory = self.read_memory(work)
            if moves == self._moves:  # else rows may have moved just between the two
                return disk, memory

    def read_disk(self, work: Work[T]) -> T:
        """Return what work gives on the disk. Raises what SQLite raises, OSError or StoreError.

        Where there is no file, an empty database in memory stands in: reading makes none.
        """
        if self.file() == NO_FILE:
            empty = _in_memory()
            try:
                return work(empty)
            finally:
                empty.close()
        return self._on_disk(lambda connection: work(connection.sql))

    def file(self) -> FileId:
        """Return which file is at the path now."""
        return self._connections.file()

    def read_memory(self, work: Work[T]) -> T | None:
        """Return what work gives in memory, if anything is there."""
        if self._overflow is None:
            return None
        with self._lock:
            return None if self._overflow is None else self._step_in_memory(work)

    def in_memory(self, work: Work[T]) -> T:
        """Run work in one transaction in memory. Only where the lock is held."""
        return self._step_in_memory(lambda memory: transaction(memory, work))

    @property
    def degraded(self) -> bool:
        """Tell whether anything is in memory only."""
        return self._overflow is not None

    def take_warnings(self) -> list[str]:
        """Return the warnings since the last call."""
        warnings, self._warnings = self._warnings, []
        return warnings

    def close(self) -> None:
        """Close the connections that are not in use, after a last try to move memory to the disk."""
        if self._overflow is not None:
            self.write(lambda _: None)
        self._connections.close()

    # --- the disk ---

    def _on_disk(self, step: Callable[[Connection], T]) -> T:
        """Run a step, again and again while other processes write, and on a new file where this one is damaged."""
        until, damages = time.monotonic() + self._busy, 0
        while True:
            try:
                result = self._connections.use(step)
            except _ReplacedError:
                continue
            except StepError as failed:
                trouble = meaning(failed.error)
                if trouble in (Trouble.ODD, Trouble.DAMAGED) and self.file() != failed.file:
                    trouble = Trouble.BUSY  # another process has set that file aside: once more, on the new one
                elif trouble is Trouble.ODD and is_damaged(self.path):
                    trouble = Trouble.DAMAGED
                if trouble is Trouble.DAMAGED and damages < _DAMAGES:
                    damages += 1
                    self._set_aside(failed)
                elif trouble is not Trouble.BUSY or time.monotonic() >= until:
                    raise failed.error from None
            else:
                self._look_at_rights()
                return result
            time.sleep(random.uniform(0.001, 0.01))  # noqa: S311  so that waiting processes do not go in step

    def _write_waiting(self, own: _Write[T]) -> None:
        """Write all that waits in one transaction; where that fails, ``own`` alone, and so each of the others."""
        writes: tuple[_Write[Any], ...] = tuple(self._waiting)
        del self._waiting[: len(writes)]
        if own in writes and len(writes) > 1:
            try:
                results = self._on_disk(lambda disk: self._transaction(disk, lambda sql: [w.work(sql) for w in writes]))
            except Exception:  # noqa: BLE001  that of another thread's work is for that thread
                self._busy = _BUSY_DEGRADED  # where the disk is at fault, this has waited already
            else:
                for write, result in zip(writes, results, strict=True):
                    write.results.append(result)
                return
        own.results.append(self._on_disk(lambda connection: self._transaction(connection, own.work)))

    def _transaction(self, connection: Connection, work: Work[T]) -> T:
        def moving(sql: sqlite3.Connection) -> T:
            if self._overflow is not None:
                self._move(self._overflow, sql)
            return work(sql)

        result = transaction(connection.sql, moving)
        if self._connections.file() != connection.file:  # set aside or deleted meanwhile: it would not be found there
            raise _ReplacedError
        return result

    def _look_at_rights(self) -> None:
        """Warn, once, if others have access to the folder; the files themselves are the user's alone."""
        if self._rights_are_known or os.name != "posix":
            return
        self._rights_are_known = True
        folder = self.path.parent
        try:
            rights = stat.S_IMODE(folder.stat().st_mode)
        except OSError:  # it was removed just now
            return
        if rights & 0o077:
            self._warn(f"Others may look into {folder} (rights {rights:04o}). Run: chmod 700 {folder}", "rights")

    def _set_aside(self, failed: StepError) -> None:
        self._connections.close()
        aside = set_aside(self.path, failed.file, self._connections.file, self._salvage)
        if aside is not None:
            self._warn(
                f"The database was damaged ({failed.error}); it was renamed to {aside} and a new one begun.", str(aside)
            )

    # --- memory; the lock is held ---

    def _step_in_memory(self, work: Work[T]) -> T:
        self._connections.gate.enter()
        try:
            if self._overflow is None:
                self._overflow = _in_memory()
            return work(self._overflow)
        finally:
            self._connections.gate.leave()

    def _move(self, overflow: sqlite3.Connection, sql: sqlite3.Connection) -> None:
        for table in _OVERFLOW_TABLES:
            cursor = overflow.execute(f"SELECT * FROM {table}")
            columns = ", ".join(column[0] for column in cursor.description)
            marks = ", ".join("?" * len(cursor.description))
            sql.executemany(
                f"INSERT INTO {table} ({columns}) VALUES ({marks}) ON CONFLICT DO NOTHING", cursor.fetchall()
            )

    def _drop_overflow(self) -> None:
        overflow, self._overflow = self._overflow, None
        self._moves += 1
        if overflow is not None:
            overflow.close()

    # --- faults ---

    def _degrade(self, error: Exception) -> None:
        self._busy = _BUSY_DEGRADED
        self._connections.close()
        reason = error.message if isinstance(error, StoreError) else str(error)
        self._warn(f"The log could not be written to {self.path} ({reason}); it goes on in memory.", reason)

    def _warn(self, line: str, fault: str) -> None:
        if fault not in self._warned:
            self._warned.add(fault)
            self._warnings.append(line)

    # --- forks ---

    def before_fork(self) -> None:
        """End what is under way and close all connections: SQLite forbids carrying one over a fork."""
        self._connections.gate.shut()
        self._connections.close()

    def after_fork(self) -> None:
        """Go on, in the parent."""
        self._connections.gate.open()

    def after_fork_in_child(self) -> None:
        """Begin with free locks. What is in memory stays the parent's, which will write it."""
        self._connections = Connections(self.path)
        self._lock = threading.Lock()
        self._waiting = []
        if self._overflow is not None:
            _of_parents.append(self._overflow)
            self._overflow = None


def _in_memory() -> sqlite3.Connection:
    """Return an empty database in memory."""
    connection = connect(None)
    transaction(connection, schema.create)
    return connection


def _wipe(connection: Connection) -> str:
    """Rewrite the file without free pages and empty its journal; return why bytes may be left, or ""."""
    connection.sql.execute("VACUUM")  # rows that were replaced earlier left bytes in free pages
    busy, *_ = connection.sql.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    return "another kernel is reading it" if busy else ""


class _ReplacedError(Exception):
    """The file that was written to is no longer the one at the path."""


_databases: weakref.WeakSet[Database] = weakref.WeakSet()
_of_parents: list[sqlite3.Connection] = []  # in a child: never used, and never closed


def _before_fork() -> None:
    for database in list(_databases):
        database.before_fork()


def _after_fork() -> None:
    for database in list(_databases):
        database.after_fork()


def _after_fork_in_child() -> None:
    for database in list(_databases):
        database.after_fork_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork_in_child)
