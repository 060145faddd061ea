"""The requests that were logged on this machine while the server was away, in a SQLite store of their own."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ipyrouter.errors import StoreError
from ipyrouter.store import rows
from ipyrouter.store.sqlite import SQLiteStore

_REQUESTS = [column.name for column in rows.REQUESTS]
_ATTEMPTS = [column.name for column in rows.ATTEMPTS]
_LONGEST = {rows.Kind.NAME: 500, rows.Kind.ID: 500, rows.Kind.TIER: 500}  # characters
_LONG_NAMES = ("notebook", "rates", "error", "tags")
_LISTS = ("reasons", "notes")  # in JSON, which cannot be cut
LONGEST_TEXT = 4_000_000  # characters, as the server's tables have it: more than a prompt of a million tokens


@dataclass(frozen=True, slots=True)
class Waiting:
    """A request that has to be sent: its id, what the server's function record() takes, and in which mode."""

    id: str
    body: dict[str, Any]
    mode: str


class Outbox(SQLiteStore):
    """A SQLite store whose requests go to the server when it is there again."""

    def __init__(self, folder: Path, **options: Any) -> None:
        super().__init__(folder, **options)
        self.path = folder / "ipyrouter.db"
        self._held_back: set[str] = set()

    @property
    def is_there(self) -> bool:
        """Tell whether anything was written here; whatever is asked of it otherwise makes the file."""
        return self.path.exists() or self._database.degraded

    def waiting(self, most: int) -> list[Waiting]:
        """Return the oldest requests that have not been sent."""

        def look(sql: sqlite3.Connection) -> list[Waiting]:
            query = f"SELECT {', '.join(_REQUESTS)} FROM answers ORDER BY time LIMIT ?"
            attempts = f"SELECT {', '.join(_ATTEMPTS)} FROM attempts WHERE answer_id = ? ORDER BY n"
            waiting = []
            for row in sql.execute(query, (most + len(self._held_back),)).fetchall():
                request = dict(zip(_REQUESTS, row, strict=True))
                name, mode = request["id"], "restore" if request["restored"] else "late"
                rows_of_it = sql.execute(attempts, (name,)).fetchall()
                # Without attempts, another kernel has just sent it.
                if rows_of_it and name not in self._held_back:
                    waiting.append(Waiting(name, body(row, rows_of_it), mode))
            return waiting

        if not self.is_there:
            return []
        try:
            return self._database.read(look)[:most]
        except StoreError:  # of a newer version: that one sends them
            return []

    def hold_back(self, answer_id: str) -> None:
        """Keep a request that the server refuses; the next process tries again."""
        self._held_back.add(answer_id)

    def sent(self, answer_ids: Sequence[str]) -> None:
        """Delete requests that the server has."""
        if answer_ids:
            self._database.write(
                lambda sql: sql.executemany("DELETE FROM answers WHERE id = ?", [(name,) for name in answer_ids])
            )


def body(request: Sequence[Any], attempts: Sequence[Sequence[Any]]) -> dict[str, Any]:
    """Return rows of the log as the server's function record() takes them: by name, as PostgreSQL can hold them."""
    return {
        "request": _fields(rows.REQUESTS, request),
        "attempts": [_fields(rows.ATTEMPTS, attempt) for attempt in attempts],
    }


def _fields(columns: tuple[rows.Column, ...], values: Sequence[Any]) -> dict[str, Any]:
    return {
        column.name: _bounded(column, text(value)) if isinstance(value, str) else value
        for column, value in zip(columns, values, strict=True)
    }


def _bounded(column: rows.Column, value: str) -> str:
    if column.name in _LONG_NAMES:
        return value[:4096]
    if column.kind is not rows.Kind.TEXT:
        return value[: _LONGEST.get(column.kind)]
    if len(value) <= LONGEST_TEXT:
        return value
    if column.name in _LISTS:
        return json.dumps([f"The team's log keeps no more than {LONGEST_TEXT:,} characters, and none of these."])
    end = f"\n[Cut: the team's log keeps {LONGEST_TEXT:,} of {len(value):,} characters.]"
    return value[: LONGEST_TEXT - len(end)] + end


def text(value: str) -> str:
    """Return a string without NUL, which no text in PostgreSQL can hold."""
    return value.replace("\0", "\ufffd")
