"""Budgets over the database that also holds the log: what is spent is in counters, what is promised in reservations.

Both live in the database, so that two kernels or ten threads cannot overspend together. Where it cannot be read, what
this process last knew counts, and what it spent since.
"""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ipyrouter.clock import Clock
from ipyrouter.store import rows
from ipyrouter.store.base import Limit, Outage, Rate, Record, Refusal, Reservation, Unavailable, microseconds
from ipyrouter.store.owners import lapsed, outlives_its_process, own_prefix
from ipyrouter.store.sqlite import schema, spending
from ipyrouter.store.sqlite.connections import NO_FILE
from ipyrouter.store.sqlite.database import TROUBLES, Database
from ipyrouter.store.sqlite.spending import LOST, LOST_RUNS, LastKnown
from ipyrouter.types import Session

_DAMAGED = "the database's counters are damaged"
_LOST_SESSIONS = f"{LOST}sessions"  # its value tells when; the counters of sessions that began before are lost


class _Promise(NamedTuple):
    """What is promised to a call of a session and, unless that is "", of a run; in 1e-12 dollars."""

    session: str
    run: str
    pico: int


@dataclass(frozen=True, slots=True)
class _Books:
    """What one database says: counters, those that are lost, and what is promised."""

    spent: dict[str, int]
    lost: dict[str, int]
    promises: list[_Promise]


class Ledger:
    """Implements store.base.BudgetLedger."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._known = LastKnown()
        self._holders: set[str] = set()  # owners that may hold a claim or a reservation

    def reserve(
        self,
        pico: int,
        limits: Sequence[Limit],
        session: Session,
        owner: str,
        seconds: float,
        *,
        tokens: int | None = None,  # noqa: ARG002  the protocol's: a file has no rates
    ) -> Reservation | Refusal | Unavailable:
        """Promise money to a call, or say which budget has not enough left, or is not known."""
        now, monotonic = microseconds(self._clock.now()), self._clock.monotonic()
        reservation = Reservation(uuid.uuid4().hex, pico)
        row = (reservation.id, owner, session.id, pico, now + int(seconds * 1e6), monotonic + seconds, session.run)

        def grant(sql: sqlite3.Connection, books: list[_Books | None], why: str) -> Reservation | Refusal | Unavailable:
            refusal = self._refusal(pico, limits, session, books, why)
            if refusal is None:
                sql.execute("INSERT INTO reservations VALUES (?, ?, ?, ?, ?, ?, ?)", row)
            return refusal or reservation

        def write(sql: sqlite3.Connection) -> Reservation | Refusal | Unavailable:
            drop_lapsed(sql, "reservations", now, monotonic)
            return grant(sql, [self._sound_books(sql, limits, session)], "")

        def write_in_memory() -> Reservation | Refusal | Unavailable:
            why = ""
            try:
                disk = self._database.read_disk(lambda sql: self._books(sql, limits, session))
            except TROUBLES as error:
                disk, why = None, str(error)
            return self._database.in_memory(
                lambda sql: grant(sql, [disk, self._books(sql, limits, session)], why or _DAMAGED * (disk is None))
            )

        self._holders.add(owner)
        return self._database.write(write, write_in_memory)

    def settle(self, reservation: str, pico: int, tokens: int | None = None) -> None:  # noqa: ARG002
        """Change what a reservation holds."""
        query = "UPDATE reservations SET pico = ? WHERE id = ?"
        self._database.write(lambda sql: sql.execute(query, (pico, reservation)).rowcount)

    def used(self, limit: Limit, session: Session) -> int | Unavailable:
        """Return what is spent and promised of a budget, in 1e-12 dollars."""
        disk, memory = self._database.look(lambda sql: self._books(sql, [limit], session))
        if disk is None:
            disk = self._database.write(lambda sql: self._sound_books(sql, [limit], session), lambda: None)
        why = str(disk) if isinstance(disk, Exception) else _DAMAGED if disk is None else ""
        books = [disk if isinstance(disk, _Books) else None, memory]
        spent = self._spending(limit, session, books, why)
        return spent if isinstance(spent, Unavailable) else spent + _reservations(limit, session, books)

    def limits(self, session: Session) -> list[Limit]:  # noqa: ARG002  it has none for any session
        """Return no budgets: a file has no owner who sets any for its users."""
        return []

    def outages(self) -> Mapping[str, Outage]:
        """Return no outages: each kernel finds them by itself."""
        return {}

    def report_outage(self, model: str, status: int, seconds: float) -> None:
        """Tell nobody: the file has one user."""

    def rates(self, session: Session, *, now: bool = False) -> list[Rate]:  # noqa: ARG002  it has none for any session
        """Return no rates: only a team's owner sets them."""
        return []

    def release(self, owner: str) -> None:
        """Give back all claims and reservations of an owner."""
        if owner in self._holders or outlives_its_process(owner):
            self._database.write(lambda sql: release(sql, owner))
            self._holders.discard(owner)

    def _salvage(self, damaged: sqlite3.Connection, new: sqlite3.Connection) -> None:
        """Put into a new database what the damaged one says of spending, or what this process knows of it.

        What neither tells is marked as lost, so that no budget begins again at zero.
        """
        now = microseconds(self._clock.now())
        spent, complete = spending.salvage(damaged)
        if schema.COUNTED not in spent:  # the log told it, which names no runs
            spent[LOST_RUNS] = now
        known = self._known.all()
        for name, pico in known.items():
            spent[name] = max(spent.get(name, 0), pico)
        if not complete:
            days = range(spending.month_begins(now), now // schema.DAY + 1)
            spent |= {f"{LOST}day:{day}": 1 for day in days if f"day:{day}" not in known}
            spent[_LOST_SESSIONS] = now
        spending.write(new, spent)

    def _after_record(self, record: Record, now: int) -> None:
        """Note what a record has spent, and that its owner holds nothing any more."""
        spent = rows.spent(record)
        self._known.spent(spending.counters_of(record.session.id, now, record.session.run), spent)
        self._holders.discard(record.owner)

    # --- the sums ---

    def _refusal(
        self, pico: int, limits: Sequence[Limit], session: Session, books: list[_Books | None], why: str
    ) -> Refusal | Unavailable | None:
        refusals: list[Refusal] = []
        for limit in limits:
            spent = self._spending(limit, session, books, why)
            if isinstance(spent, Unavailable):
                return spent
            used = spent + _reservations(limit, session, books)
            if used + pico > limit.pico:
                refusals.append(Refusal(limit, used, spent))
        return max(refusals, key=lambda refusal: refusal.spent + pico > refusal.limit.pico, default=None)

    def _spending(self, limit: Limit, session: Session, books: list[_Books | None], why: str) -> int | Unavailable:
        """Return what is spent of a budget: what the books say or, where the disk has none, the last known."""
        now, file, total = microseconds(self._clock.now()), self._database.file(), 0
        for counter in spending.counters(limit, session, now):
            pico = sum(one.spent.get(counter.name, 0) for one in books if one)
            if why:
                spent = self._known.last(counter, empty=file == NO_FILE)
            else:
                lost = any(_is_lost(counter, limit, one) for one in books if one)
                spent = self._known.update(counter.name, pico, file, now, lost=lost)
            if spent is None and limit.strict:
                return Unavailable(limit, why or "the database was damaged, and what was spent before is lost")
            total += max(pico, self._known.since(counter)) if spent is None else spent
        return total

    def _sound_books(self, sql: sqlite3.Connection, limits: Sequence[Limit], session: Session) -> _Books | None:
        """Read what the database says of the budgets, whose counters are recomputed if they are damaged."""
        books = self._books(sql, limits, session)
        if books is not None:
            return books
        schema.recount(sql)
        return self._books(sql, limits, session)

    def _books(self, sql: sqlite3.Connection, limits: Sequence[Limit], session: Session) -> _Books | None:
        """Read what a database says of the budgets; None if damage that SQLite does not see has met its counters."""
        now = microseconds(self._clock.now())
        names = {counter.name for limit in limits for counter in spending.counters(limit, session, now)}
        values = spending.read(sql, [*names, *(LOST + name for name in names), _LOST_SESSIONS, LOST_RUNS])
        if values is None:
            return None
        lost = {name.removeprefix(LOST): value for name, value in values.items() if name.startswith(LOST)}
        return _Books(values, lost, list(_promises(sql, now, self._clock.monotonic())))


def _is_lost(counter: spending.Counter, limit: Limit, books: _Books) -> bool:
    if limit.period == "session":
        return counter.begun < books.lost.get("sessions", 0)
    if limit.period == "run":
        return counter.begun < books.lost.get("runs", 0)
    return counter.name in books.lost


def _reservations(limit: Limit, session: Session, books: list[_Books | None]) -> int:
    """Return what is promised of a budget, to all or to the session or the run."""
    promises = [promise for one in books if one for promise in one.promises]
    if limit.period == "session":
        promises = [promise for promise in promises if promise.session == session.id]
    elif limit.period == "run":
        promises = [promise for promise in promises if promise.run == session.run]
    return sum(promise.pico for promise in promises)


def _promises(sql: sqlite3.Connection, now: int, monotonic: float) -> Iterator[_Promise]:
    """Yield the promises of the living."""
    for owner, session, run, pico, expires, lapses in sql.execute(
        "SELECT owner, session, run, pico, expires, lapses FROM reservations"
    ):
        sound = type(pico) is int and 0 < pico <= rows.MOST_PICO
        if sound and not has_lapsed(owner, expires, lapses, now=now, monotonic=monotonic):
            yield _Promise(session, run, pico)


def has_lapsed(owner: object, expires: object, lapses: object, *, now: int, monotonic: float) -> bool:
    """Tell whether a claim or reservation is void; a damaged one is."""
    if not (isinstance(owner, str) and isinstance(expires, int) and isinstance(lapses, int | float)):
        return True
    return lapsed(owner, expires, lapses, now=now, monotonic=monotonic)


def drop_lapsed(sql: sqlite3.Connection, table: str, now: int, monotonic: float) -> None:
    """Delete the claims or reservations that are void."""
    # SQLite itself passes over what this process holds: it lives, and may hold a hundred while a column is asked.
    query = f"SELECT owner, expires, lapses FROM {table} WHERE NOT (owner GLOB ? AND lapses BETWEEN ? AND 1e300)"
    rows = sql.execute(query, (f"{own_prefix()}*", monotonic)).fetchall()
    if void := [one for one in rows if has_lapsed(*one, now=now, monotonic=monotonic)]:
        sql.executemany(f"DELETE FROM {table} WHERE owner IS ? AND expires IS ? AND lapses IS ?", void)


def release(sql: sqlite3.Connection, owner: str) -> None:
    """End all that an owner holds, inside a transaction."""
    sql.execute("DELETE FROM claims WHERE owner = ?", (owner,))
    sql.execute("DELETE FROM reservations WHERE owner = ?", (owner,))
