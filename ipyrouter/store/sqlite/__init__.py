"""The embedded store: cache, budgets and log in one SQLite file."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from ipyrouter.clock import Clock, SystemClock
from ipyrouter.errors import StoreError
from ipyrouter.store.base import Health
from ipyrouter.store.sqlite.cache import Cache
from ipyrouter.store.sqlite.database import Database
from ipyrouter.store.sqlite.ledger import Ledger
from ipyrouter.store.sqlite.log import LogWriter
from ipyrouter.store.sqlite.reader import LogReader
from ipyrouter.store.sqlite.runs import Runs


class SQLiteStore(Cache, Ledger, LogWriter, LogReader, Runs):
    """Implements store.base.Store. Safe to use from several threads and processes at once, and after a fork."""

    def __init__(self, folder: Path, *, clock: Clock | None = None) -> None:
        super().__init__(Database(folder / "ipyrouter.db", self._salvage), clock or SystemClock())

    def health(self) -> Health:
        """Check the store; counts what it holds."""

        def look(sql: sqlite3.Connection) -> list[tuple[str, int, int, int]]:
            verdict: str = sql.execute("PRAGMA quick_check(1)").fetchone()[0]
            answers = sql.execute("SELECT COUNT(*) FROM answers").fetchone()[0]
            cached, size = sql.execute("SELECT COUNT(*), CAST(TOTAL(size) AS INTEGER) FROM cache").fetchone()
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
        """Close all connections that are not in use."""
        self._database.close()
        self._known.let_go()
