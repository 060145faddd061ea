"""What an error of SQLite's means, and a damaged file set aside: renamed, so that nothing is deleted."""

from __future__ import annotations

import contextlib
import datetime as dt
import enum
import os
import sqlite3
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

from ipyrouter.store.sqlite import schema
from ipyrouter.store.sqlite.connections import FileId, connect, prepare, transaction

Salvage = Callable[[sqlite3.Connection, sqlite3.Connection], None]
"""Puts into a new database what must outlive the damaged one: (damaged, new). It may raise whatever reading raises."""


class Trouble(enum.Enum):
    """What an error means for the step that met it."""

    BUSY = enum.auto()  # another writer: wait
    REFUSED = enum.auto()  # the disk is full, read-only, away: go on in memory
    DAMAGED = enum.auto()  # set the file aside
    ODD = enum.auto()  # damage, if the file says so when it is checked


_BY_CODE = {
    sqlite3.SQLITE_BUSY: Trouble.BUSY,
    sqlite3.SQLITE_LOCKED: Trouble.BUSY,
    sqlite3.SQLITE_CORRUPT: Trouble.DAMAGED,
    sqlite3.SQLITE_NOTADB: Trouble.DAMAGED,
    **dict.fromkeys(
        (
            sqlite3.SQLITE_CANTOPEN,
            sqlite3.SQLITE_FULL,
            sqlite3.SQLITE_IOERR,
            sqlite3.SQLITE_NOLFS,
            sqlite3.SQLITE_NOMEM,
            sqlite3.SQLITE_PERM,
            sqlite3.SQLITE_PROTOCOL,
            sqlite3.SQLITE_READONLY,
        ),
        Trouble.REFUSED,
    ),
}


def meaning(error: Exception) -> Trouble:
    """Return what an error means."""
    if isinstance(error, OSError):
        return Trouble.REFUSED
    code = getattr(error, "sqlite_errorcode", None)
    return Trouble.ODD if code is None else _BY_CODE.get(code & 0xFF, Trouble.ODD)


def is_damaged(path: Path) -> bool:
    """Check a whole file: an odd error is damage where its pages or its tables are not as they must be."""
    try:
        connection = connect(path, read_only=True)
        try:
            if connection.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
                return True
            if connection.execute("PRAGMA encoding").fetchone()[0] != "UTF-8":
                return True
            for table, columns in schema.columns().items():
                connection.execute(f"SELECT {', '.join(columns)} FROM {table} LIMIT 1").fetchall()
        finally:
            connection.close()
    except (sqlite3.Error, UnicodeError, MemoryError) as error:
        return meaning(error) in (Trouble.DAMAGED, Trouble.ODD)
    return False


def set_aside(path: Path, damaged: FileId, file: Callable[[], FileId], salvage: Salvage) -> Path | None:
    """Put a new database in the place of a damaged file, which is renamed with its journal.

    Args:
        path: Where it is.
        damaged: Which file is damaged.
        file: Tells which file is at the path now.
        salvage: Puts into the new database what must outlive the damaged one.

    Returns:
        Where the damaged file is now, or None where another process or thread has set it aside already.
    """
    with _locked(path.with_name(f"{path.name}.lock")):
        if file() != damaged:
            return None
        stamp = dt.datetime.now(dt.UTC).strftime("%Y%m%dT%H%M%S%f")
        aside = path.with_name(f"{path.name}.corrupt-{stamp}")
        new = path.with_name(f"{path.name}.new-{uuid.uuid4().hex}")
        try:
            _begin(new, path, salvage)
            # First the journal: a new database must not find the one of the old.
            for suffix in ("-wal", "-shm", "-journal"):
                with contextlib.suppress(FileNotFoundError):
                    path.with_name(path.name + suffix).rename(aside.with_name(aside.name + suffix))
            path.rename(aside)
            new.replace(path)
        finally:
            new.unlink(missing_ok=True)
        return aside


def _begin(new: Path, damaged: Path, salvage: Salvage) -> None:
    os.close(os.open(new, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    connection = connect(new)
    try:
        prepare(connection, new)
        old = connect(damaged, read_only=True)  # not a byte of it changes
        try:
            transaction(connection, lambda sql: salvage(old, sql))
        finally:
            old.close()
    finally:
        connection.close()  # the last one: its journal becomes part of the file


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a lock that all processes on this machine respect; where files cannot be locked, do without."""
    try:
        import fcntl
    except ImportError:
        yield
        return
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
