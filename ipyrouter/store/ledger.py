"""What is promised but not yet recorded: money reserved for calls under way, and who is asking what right now.

Both live in the database, so that two kernels or ten threads cannot overspend together or ask the same thing twice.
"""

from __future__ import annotations

import os
import socket
import sqlite3
import time
import uuid
from dataclasses import dataclass

from ipyrouter.store.database import Database

LEDGER_SCHEMA = """
CREATE TABLE reservations (
    id TEXT PRIMARY KEY, pico INTEGER NOT NULL, session TEXT NOT NULL, expires INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE leases (key BLOB PRIMARY KEY, owner TEXT NOT NULL, expires INTEGER NOT NULL) WITHOUT ROWID
"""


@dataclass(frozen=True, slots=True)
class Limit:
    """A budget: ``name`` for the user, the most in 1e-12 dollars, from when on and in which session it counts."""

    name: str
    pico: int
    since: int
    session: str | None = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """The budget that a reservation would exceed; in 1e-12 dollars what is spent or promised of it, and spent alone."""

    limit: Limit
    used: int
    spent: int


def _now() -> int:
    return time.time_ns() // 1000


class Ledger:
    """Reservations and leases over a database that also holds the attempts."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def reserve(self, pico: int, limits: list[Limit], session: str, seconds: float) -> str | Refusal:
        """Promise money to a call and return the reservation's id, or the budget that has not enough left.

        Of several, that one is returned for which waiting for the calls in flight would be in vain. A reservation
        lapses after ``seconds``: its owner is dead then.
        """
        now = _now()
        name = uuid.uuid4().hex

        def write(connection: sqlite3.Connection) -> str | Refusal:
            connection.execute("DELETE FROM reservations WHERE expires < ?", (now,))
            refusals = []
            for limit in limits:
                spent, promised = _spent(connection, limit), _promised(connection, limit)
                if spent + promised + pico > limit.pico:
                    refusals.append(Refusal(limit, spent + promised, spent))
            if refusals:
                return max(refusals, key=lambda refusal: refusal.spent + pico > refusal.limit.pico)
            row = (name, pico, session, now + int(seconds * 1e6))
            connection.execute("INSERT INTO reservations VALUES (?, ?, ?, ?)", row)
            return name

        return self._database.write(write)

    def adjust(self, reservation: str, pico: int) -> None:
        """Change what a reservation holds, in 1e-12 dollars: its call has ended, its request has not."""
        query = "UPDATE reservations SET pico = ? WHERE id = ?"
        self._database.write(lambda connection: connection.execute(query, (pico, reservation)))

    def used(self, limit: Limit) -> int:
        """Return what is spent and promised of a budget, in 1e-12 dollars."""
        return sum(self._database.read(lambda connection: [_spent(connection, limit) + _promised(connection, limit)]))

    def lease(self, key: bytes, owner: str, seconds: float) -> bool:
        """Claim the right to ask for a key; False while another living owner has it."""
        now = _now()

        def write(connection: sqlite3.Connection) -> bool:
            held = connection.execute("SELECT owner, expires FROM leases WHERE key = ?", (key,)).fetchone()
            if held is not None and held[1] >= now and _alive(held[0]):
                return False
            row = (key, owner, now + int(seconds * 1e6))
            connection.execute("INSERT OR REPLACE INTO leases VALUES (?, ?, ?)", row)
            return True

        return self._database.write(write)

    def leased(self, key: bytes) -> bool:
        """Tell whether a living owner is asking for the key."""
        query = "SELECT owner, expires FROM leases WHERE key = ?"
        rows = self._database.read(lambda c: c.execute(query, (key,)).fetchall())
        return any(expires >= _now() and _alive(owner) for owner, expires in rows)

    def release(self, key: bytes | None, owner: str, reservations: tuple[str, ...]) -> None:
        """Give back what a request held that ended without a record."""
        if key is not None or reservations:
            self._database.write(lambda connection: settle(connection, key, owner, reservations))


def settle(connection: sqlite3.Connection, key: bytes | None, owner: str, reservations: tuple[str, ...]) -> None:
    """End a lease and reservations inside a transaction: with the record of what was really spent."""
    if key is not None:
        connection.execute("DELETE FROM leases WHERE key = ? AND owner = ?", (key, owner))
    connection.executemany("DELETE FROM reservations WHERE id = ?", [(name,) for name in reservations])


def new_owner() -> str:
    """Return a name for a lease's owner that tells the machine and the process."""
    return f"{socket.gethostname()}/{os.getpid()}/{uuid.uuid4().hex}"


def _alive(owner: str) -> bool:
    """Tell whether a lease's owner may still be at work; of another machine only the expiry tells."""
    host, pid, _ = owner.rsplit("/", 2)
    if host != socket.gethostname():
        return True
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _spent(connection: sqlite3.Connection, limit: Limit) -> int:
    """Return what is recorded as spent of a budget."""
    query = "SELECT COALESCE(SUM(cost_pico), 0) FROM attempts WHERE time >= ?"
    if limit.session is None:
        return int(connection.execute(query, (limit.since,)).fetchone()[0])
    return int(connection.execute(f"{query} AND session = ?", (limit.since, limit.session)).fetchone()[0])


def _promised(connection: sqlite3.Connection, limit: Limit) -> int:
    """Return what is reserved of a budget."""
    query = "SELECT COALESCE(SUM(pico), 0) FROM reservations"
    if limit.session is None:
        return int(connection.execute(query).fetchone()[0])
    return int(connection.execute(f"{query} WHERE session = ?", (limit.session,)).fetchone()[0])
