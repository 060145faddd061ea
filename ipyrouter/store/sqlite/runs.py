"""Runs over columns, and the cached answers that each of them keeps."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Sequence

from ipyrouter.store.base import Run, microseconds, moment
from ipyrouter.store.sqlite.database import Database


class Runs:
    """Implements store.base.RunStore."""

    _database: Database

    def put_run(self, run: Run) -> None:
        """Write a run, or replace the one of this id; its beginning stays what it was."""
        row = (run.id, microseconds(run.created), microseconds(run.updated), json.dumps(run.state))
        query = (
            "INSERT INTO runs (id, created, updated, state) VALUES (?, ?, ?, ?)"
            " ON CONFLICT (id) DO UPDATE SET updated = excluded.updated, state = excluded.state"
        )
        self._database.write(lambda sql: sql.execute(query, row).rowcount)

    def runs(self) -> list[Run]:
        """Return all runs, the latest first; a damaged row costs itself."""

        def look(sql: sqlite3.Connection) -> list[Run]:
            runs = []
            for run_id, created, updated, state in sql.execute("SELECT id, created, updated, state FROM runs"):
                with contextlib.suppress(ValueError, TypeError, OverflowError, RecursionError):
                    known = json.loads(state)
                    if isinstance(known, dict):
                        runs.append(Run(str(run_id), moment(created), moment(updated), known))
            return runs

        runs = {run.id: run for run in self._database.read(look)}
        return sorted(runs.values(), key=lambda run: run.updated, reverse=True)

    def pin(self, run_id: str, keys: Sequence[bytes]) -> None:
        """Keep the cached answers of these keys."""
        self._database.write(lambda sql: pin(sql, run_id, keys))

    def drop_run(self, run_id: str) -> bool:
        """Delete a run and let its answers age again."""

        def drop(sql: sqlite3.Connection) -> bool:
            sql.execute("DELETE FROM run_rows WHERE run = ?", (run_id,))
            return sql.execute("DELETE FROM runs WHERE id = ?", (run_id,)).rowcount > 0

        return self._database.write(drop)


def pin(sql: sqlite3.Connection, run_id: str, keys: Sequence[bytes]) -> None:
    """Keep the cached answers of these keys, inside a transaction."""
    query = "INSERT INTO run_rows (key, run) VALUES (?, ?) ON CONFLICT DO NOTHING"
    sql.executemany(query, [(key, run_id) for key in keys])
