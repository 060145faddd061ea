"""The connections to one file: taken for a step, given back after it, and none of them inherited by a forked child.

They belong to the store and not to a thread, so that a thread may end whenever it likes. SQLite forbids carrying one
over a fork: before a process forks, the steps under way end and all connections are closed.
"""

from __future__ import annotations

import contextlib
import functools
import os
import sqlite3
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from ipyrouter.store.sqlite import migrations, schema

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], T]
FileId = tuple[int, int]

NO_FILE: FileId = (0, 0)
OUT_OF_REACH: FileId = (-1, -1)  # the file system does not say what is at the path
_IDLE = 4  # connections that are kept open
_PAUSE = 0.25  # seconds that SQLite itself waits for another writer before it lets us look around
_FORK_PATIENCE = 30.0  # seconds that a fork waits for the steps under way
_WAL_PAGES = 4000  # 16 MB: the same few pages are written again and again, and reach the file once
_WAL_UNSUITED = ("locking protocol", "disk i/o error")


class Gate:
    """Knows which threads are inside a step with a database, and can be shut until none is."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._inside: set[int] = set()
        self._is_shut = False

    def enter(self) -> None:
        """Begin a step, once the gate is open."""
        with self._lock:
            while self._is_shut:
                self._changed.wait()
            # By thread, not counted: what an interrupt has torn is put right by the next step of its thread.
            self._inside.add(threading.get_ident())

    def leave(self) -> None:
        """End a step."""
        with self._lock:
            self._inside.discard(threading.get_ident())
            if self._is_shut:
                self._changed.notify_all()

    def shut(self) -> None:
        """Wait until no other thread is inside, and let none in."""
        with self._lock:
            self._is_shut = True
            self._inside.discard(threading.get_ident())
            self._changed.wait_for(lambda: not self._inside, _FORK_PATIENCE)

    def open(self) -> None:
        """Let them in again."""
        with self._lock:
            self._is_shut = False
            self._changed.notify_all()


@dataclass(eq=False, slots=True)
class Connection:
    """An open connection, and the file that it was opened for: the path may name another one by now."""

    sql: sqlite3.Connection
    file: FileId

    def close(self) -> None:
        """Close it; what was begun is rolled back."""
        with contextlib.suppress(sqlite3.Error):
            self.sql.close()


class StepError(Exception):
    """A step failed, on this file."""

    def __init__(self, file: FileId, error: Exception) -> None:
        super().__init__(file, error)
        self.file = file
        self.error = error


class Connections:
    """Opens connections to the file at a path, and keeps some of them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._name = str(path)
        self.gate = Gate()
        self._lock = threading.Lock()
        self._idle: list[Connection] = []
        self._closed = 0  # how often all were closed: one that was in use then is closed when it comes back

    def use(self, work: Callable[[Connection], T]) -> T:
        """Run a step on a connection of its own. Raises StepError for what SQLite raises, OSError and StoreError."""
        self.gate.enter()
        try:
            file, closed = self.file(), self._closed
            try:
                connection = self._take(file) or self.open()
                file = connection.file
                try:
                    return work(connection)
                finally:
                    self._give_back(connection, closed)
            except (sqlite3.Error, UnicodeError, MemoryError) as error:
                raise StepError(file, error) from error
        finally:
            self.gate.leave()

    def file(self) -> FileId:
        """Return which file is at the path now, NO_FILE or OUT_OF_REACH."""
        try:
            status = os.stat(self._name)  # noqa: PTH116  at every step: half the time of Path.stat
        except (FileNotFoundError, NotADirectoryError):
            return NO_FILE
        except OSError:
            return OUT_OF_REACH
        return status.st_dev, status.st_ino

    def close(self) -> None:
        """Close all connections that are not in use, and those in use as soon as they are not."""
        with self._lock:
            self._closed += 1
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def _take(self, file: FileId) -> Connection | None:
        while True:
            with self._lock:
                if not self._idle:
                    return None
                connection = self._idle.pop()
            if connection.file == file:
                return connection
            connection.close()  # the file was set aside, or deleted

    def _give_back(self, connection: Connection, closed: int) -> None:
        if connection.sql.in_transaction:
            connection.sql.rollback()
        with self._lock:
            keep = closed == self._closed and len(self._idle) < _IDLE
            if keep:
                self._idle.append(connection)
        if not keep:
            connection.close()

    def open(self) -> Connection:
        """Open a connection to the file, which is made or upgraded where that is needed."""
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        while True:
            with contextlib.suppress(FileExistsError):
                os.close(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))  # private before the first byte
            before = self.file()
            connection = Connection(connect(self.path), before)
            try:
                prepare(connection.sql, self.path)
            except BaseException:
                connection.close()
                raise
            if self.file() == before:
                return connection
            connection.close()  # it was replaced meanwhile


def connect(path: Path | None, *, read_only: bool = False) -> sqlite3.Connection:
    """Return a connection that begins no transaction by itself, and reads any bytes as text; None is in memory."""
    where = ":memory:"
    if path is not None:
        # Without a journal to read along, reading makes none either.
        alone = "" if path.with_name(f"{path.name}-wal").exists() else "&immutable=1"
        where = f"{path.absolute().as_uri()}?mode={f'ro{alone}' if read_only else 'rw'}"
    # Autocommit: transactions are begun by hand, because a deferred one can fail at its first write.
    connection = sqlite3.connect(where, timeout=_PAUSE, isolation_level=None, check_same_thread=False, uri=True)
    connection.text_factory = functools.partial(str, encoding="utf-8", errors="replace")  # bytes may be damaged
    return connection


def prepare(connection: sqlite3.Connection, path: Path) -> None:
    """Choose the journal, and bring the schema to the current version. Raises StoreError for a newer one."""
    version = migrations.version_of(connection)
    migrations.refuse_newer(version, path)
    if connection.execute("PRAGMA encoding").fetchone()[0] != "UTF-8":  # a byte of the header: no text could be read
        raise sqlite3.DatabaseError("its encoding is not UTF-8")
    try:
        connection.execute("PRAGMA journal_mode = WAL")
    except sqlite3.OperationalError as error:
        if not any(word in str(error).lower() for word in _WAL_UNSUITED):
            raise
        connection.execute("PRAGMA journal_mode = DELETE")  # network home folders have no shared memory
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute(f"PRAGMA wal_autocheckpoint = {_WAL_PAGES}")
    if version != migrations.VERSION:
        transaction(connection, lambda sql: migrations.upgrade(sql, path))
    elif schema.missing(connection):
        transaction(connection, schema.complete)


def transaction(connection: sqlite3.Connection, work: Work[T]) -> T:
    """Run work in one transaction, all of it or nothing."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        result = work(connection)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return result
