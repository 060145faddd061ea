"""SQLite connections that never cost the user the answer.

One connection per process and thread. A write that the disk refuses (full, read-only, locked, corrupt) goes to a
database in memory instead, with one warning, and moves to the disk with the first write that succeeds again.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import sqlite3
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from ipyrouter.errors import StoreError

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], T]

_BUSY = 5.0  # seconds to wait for another writer
_BUSY_DEGRADED = 0.1  # once that was in vain, so that a user does not wait at every cell
_CORRUPT = ("not a database", "malformed", "corrupt")
_WAL_UNSUITED = ("locking protocol", "disk i/o error")


class Database:
    """A SQLite file with a given schema (``migrations``: one script a version) and its stand-in in memory."""

    def __init__(self, path: Path, migrations: tuple[str, ...], tables: tuple[str, ...]) -> None:
        self.path = path
        self._migrations = migrations
        self._tables = tables
        self._local = threading.local()
        self._lock = threading.RLock()
        self._overflow: sqlite3.Connection | None = None
        self._busy = _BUSY
        self._warnings: list[str] = []
        self._warned: set[str] = set()

    # --- what the store calls ---

    def write(self, work: Work[T]) -> T:
        """Run ``work`` in one transaction on the disk, or in memory if the disk refuses."""
        try:
            result = self._on_disk(lambda connection: self._transaction(connection, work))
        except (sqlite3.Error, OSError, StoreError) as error:
            self._degrade(error)
            with self._lock:
                return self._transaction(self._memory(), work)
        self._busy = _BUSY
        return result

    def read(self, work: Work[list[T]]) -> list[T]:
        """Return the rows that ``work`` finds on the disk and in memory. Raises StoreError for a newer schema."""
        rows: list[T] = []
        try:
            rows += self._on_disk(work)
        except (sqlite3.Error, OSError) as error:
            self._degrade(error)
        with self._lock:
            if self._overflow is not None:
                rows += work(self._overflow)
        return rows

    def erase(self, work: Work[T]) -> T:
        """Run ``work``, which deletes, on the disk and let no byte of it stay there. Raises StoreError."""
        try:
            connection = self._connection()
            connection.execute("PRAGMA secure_delete = ON")
            result = self._transaction(connection, work)
        except (sqlite3.Error, OSError) as error:
            raise StoreError(f"{self.path} cannot be written ({error}); nothing was deleted.", "Try again.") from None
        try:
            connection.execute("VACUUM")  # rows that were replaced earlier left bytes in free pages
            (busy, *_) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            reason = "another kernel is reading it"
        except sqlite3.Error as error:
            busy, reason = 1, str(error)
        if busy:
            raise StoreError(
                f"The rows are deleted, but their bytes may still be in {self.path} or its -wal file ({reason}).",
                "Run %router forget again when no other kernel uses the log.",
            )
        return result

    def take_warnings(self) -> list[str]:
        """Return the warnings since the last call."""
        with self._lock:
            taken, self._warnings = self._warnings, []
            return taken

    def close(self) -> None:
        """Close this thread's connection."""
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        self._local.connection = None
        if connection is not None:
            connection.close()

    # --- the disk ---

    def _on_disk(self, work: Work[T]) -> T:
        try:
            return work(self._connection())
        except sqlite3.DatabaseError as error:
            if not any(word in str(error).lower() for word in _CORRUPT):
                raise
            self._set_aside(error)
            return work(self._connection())

    def _connection(self) -> sqlite3.Connection:
        """Return this thread's connection; open one if there is none, after a fork, or if the file was replaced."""
        identity = (os.getpid(), self._file_id())
        if getattr(self._local, "connection", None) is None or self._local.identity != identity:
            if getattr(self._local, "connection", None) is not None and self._local.identity[0] == identity[0]:
                self.close()
            self._local.connection = self._open()
            self._local.identity = (os.getpid(), self._file_id())
        connection: sqlite3.Connection = self._local.connection
        return connection

    def _file_id(self) -> int:
        try:
            return self.path.stat().st_ino
        except OSError:
            return 0

    def _open(self) -> sqlite3.Connection:
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with contextlib.suppress(FileExistsError):
            os.close(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))  # private before the first byte
        # Autocommit: transactions are begun by hand, because a deferred one can fail at its first write.
        connection = sqlite3.connect(self.path, timeout=self._busy, isolation_level=None, check_same_thread=False)
        try:
            version: int = connection.execute("PRAGMA user_version").fetchone()[0]
            self._refuse_newer(version)
            self._choose_journal(connection)
            connection.execute("PRAGMA synchronous = NORMAL")
            if version < len(self._migrations):
                self._transaction(connection, self._migrate)
        except BaseException:
            connection.close()
            raise
        rights = stat.S_IMODE(self.path.parent.stat().st_mode)
        if os.name == "posix" and rights & 0o077:
            home = self.path.parent
            self._warn(f"Others may look into {home} (rights {rights:04o}). Run: chmod 700 {home}", "rights")
        return connection

    def _refuse_newer(self, version: int) -> None:
        known = len(self._migrations)
        if version > known:
            raise StoreError(
                f"{self.path} was written by a newer ipyrouter (schema {version}, this one knows {known}).",
                "Upgrade ipyrouter: pip install -U ipyrouter. Nothing was touched.",
            )

    @staticmethod
    def _choose_journal(connection: sqlite3.Connection) -> None:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if not any(word in str(error).lower() for word in _WAL_UNSUITED):
                raise
            connection.execute("PRAGMA journal_mode = DELETE")  # network home folders have no shared memory

    def _migrate(self, connection: sqlite3.Connection) -> None:
        version: int = connection.execute("PRAGMA user_version").fetchone()[0]  # again: another process may have won
        for script in self._migrations[version:]:
            for statement in filter(str.strip, script.split(";")):
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {len(self._migrations)}")

    def _transaction(self, connection: sqlite3.Connection, work: Work[T]) -> T:
        connection.execute("BEGIN IMMEDIATE")
        try:
            moved = self._overflow is not None and connection is not self._overflow
            if moved:
                self._move_overflow(connection)
            result = work(connection)
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        if moved:
            self._drop_overflow()
        return result

    def _set_aside(self, error: sqlite3.Error) -> None:
        """Rename a corrupt file, with its journal, so that a new one can be begun and nothing is deleted."""
        self.close()
        stamp = dt.datetime.now(dt.UTC).strftime("%Y%m%dT%H%M%S%f")
        aside = self.path.with_name(f"{self.path.name}.corrupt-{stamp}")
        with contextlib.suppress(FileNotFoundError):
            self.path.rename(aside)
            for suffix in ("-wal", "-shm"):
                with contextlib.suppress(FileNotFoundError):
                    self.path.with_name(self.path.name + suffix).rename(aside.with_name(aside.name + suffix))
        self._warn(f"The database was damaged ({error}); it was renamed to {aside} and a new one begun.", str(aside))

    # --- memory ---

    def _memory(self) -> sqlite3.Connection:
        if self._overflow is None:
            self._overflow = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
            self._transaction(self._overflow, self._migrate)
        return self._overflow

    def _move_overflow(self, connection: sqlite3.Connection) -> None:
        with self._lock:
            if self._overflow is None:
                return
            for table in self._tables:
                cursor = self._overflow.execute(f"SELECT * FROM {table}")  # noqa: S608  our own table names
                columns = ", ".join(column[0] for column in cursor.description)
                marks = ", ".join("?" * len(cursor.description))
                connection.executemany(
                    f"INSERT OR IGNORE INTO {table} ({columns}) VALUES ({marks})",  # noqa: S608
                    cursor.fetchall(),
                )

    def _drop_overflow(self) -> None:
        with self._lock:
            if self._overflow is not None:
                self._overflow.close()
                self._overflow = None

    def _degrade(self, error: Exception) -> None:
        self._busy = _BUSY_DEGRADED
        self.close()
        reason = error.message if isinstance(error, StoreError) else str(error)
        self._warn(f"The log could not be written to {self.path} ({reason}); it goes on in memory.", reason)

    def _warn(self, line: str, fault: str) -> None:
        with self._lock:
            if fault not in self._warned:
                self._warned.add(fault)
                self._warnings.append(line)
