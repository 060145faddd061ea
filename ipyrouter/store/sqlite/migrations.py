"""From the database of an older version to the current one, a step a version, all in one transaction.

A step is never changed once it is released: files of every version exist. Each is tested from a file of its version.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from ipyrouter.errors import StoreError
from ipyrouter.store.rows import ANSWERED, COOLING_DOWN, MOST_PICO
from ipyrouter.store.sqlite import schema
from ipyrouter.types import TIERS

_ABSURD = 1000  # no version: a damaged byte


class Migration(NamedTuple):
    """A step from the version before to ``version``."""

    version: int
    name: str
    run: Callable[[sqlite3.Connection], None]


def _sums_counters_and_owners(connection: sqlite3.Connection) -> None:
    """Add sums by the hour, budgets' counters, each request's figures, and owners of claims and reservations."""
    connection.execute("ALTER TABLE attempts ADD COLUMN restored INTEGER NOT NULL DEFAULT 0")
    connection.execute("ALTER TABLE answers ADD COLUMN restored INTEGER NOT NULL DEFAULT 0")
    figures = (
        "head",
        "answered",
        "calls",
        "unpriced",
        "spent_pico",
        "took",
        "escalated",
        "escalated_unpriced",
        "escalated_pico",
    )
    for name in figures:
        connection.execute(f"ALTER TABLE answers ADD COLUMN {name} INTEGER")
    connection.execute("ALTER TABLE answers ADD COLUMN tags TEXT")  # of version 4, whose sums are made below
    for name in ("rest", "control"):
        connection.execute(f"ALTER TABLE counters ADD COLUMN {name} INTEGER NOT NULL DEFAULT 0")
    connection.execute("UPDATE counters SET control = value")
    connection.execute(f"UPDATE attempts SET error_kind = '{COOLING_DOWN}' WHERE error_kind = 'left_alone'")
    _add_figures(connection, figures)
    connection.execute("DROP INDEX attempts_spent")
    connection.execute("DROP TABLE leases")
    connection.execute("ALTER TABLE reservations RENAME TO old_reservations")
    connection.execute("DROP INDEX cache_used")
    for statement in (*schema.ledger(), *schema.indexes(), *schema.sums(), *schema.triggers()):
        connection.execute(statement)
    # What is promised to a call under way keeps its end; this version cannot tell whether its owner lives.
    connection.execute(
        "INSERT INTO reservations (id, owner, session, pico, expires, lapses)"
        " SELECT id, '', session, pico, expires, 0 FROM old_reservations"
    )
    connection.execute("DROP TABLE old_reservations")
    schema.rebuild(connection)
    schema.recount(connection)


def _add_figures(connection: sqlite3.Connection, names: tuple[str, ...]) -> None:
    """Fill in what the attempts of each request come to, as rows.RequestFigures says it."""
    rank = f"CASE tier {' '.join(f'WHEN {tier!r} THEN {place}' for place, tier in enumerate(TIERS))} ELSE 0 END"
    answered = ", ".join(map(repr, ANSWERED))
    # The last attempt that decides: an even number where it answered, an odd one where it was stopped.
    last = f"MAX(CASE WHEN status = 'interrupted' THEN n * 2 + 1 WHEN status IN ({answered}) THEN n * 2 END)"
    sent, cost = "status != 'cached'", schema.amount("cost_pico")
    up = f"{sent} AND {rank} > first"
    # One scan of the attempts; looking them up for each request would take three times as long.
    connection.execute(f"CREATE TEMP TABLE figures (id PRIMARY KEY, {', '.join(names)}) WITHOUT ROWID")
    connection.execute(
        f"INSERT INTO figures SELECT answer_id, CASE WHEN {last} % 2 = 0 THEN {last} / 2 ELSE MAX(n) END,"
        f" IFNULL({last} % 2 = 0, 0), SUM({sent}),"
        f" SUM({sent} AND ({cost}) IS NULL), {_total(sent, cost)}, {_total(sent, schema.nanoseconds('latency'))},"
        f" SUM({up}), SUM({up} AND ({cost}) IS NULL), {_total(up, cost)}"
        f" FROM (SELECT *, FIRST_VALUE({rank}) OVER (PARTITION BY answer_id ORDER BY n) AS first FROM attempts)"
        " GROUP BY answer_id"
    )
    listed = ", ".join(names)
    connection.execute(f"UPDATE answers SET ({listed}) = (SELECT {listed} FROM figures WHERE figures.id = answers.id)")
    connection.execute("DROP TABLE figures")


def _total(condition: str, value: str) -> str:
    # TOTAL, unlike SUM, raises for no value; it is exact up to 2**53.
    return f"CAST(min(TOTAL(CASE WHEN {condition} THEN ({value}) END), {MOST_PICO}) AS INTEGER)"


def _runs(connection: sqlite3.Connection) -> None:
    """Add the runs over columns."""
    for statement in schema.runs():
        connection.execute(statement)


def _tags(connection: sqlite3.Connection) -> None:
    """Add each request's tags, and sums that tell them apart."""
    if "tags" in _columns(connection, "sums"):  # a file of version 1 has got them already
        return
    connection.execute("ALTER TABLE answers ADD COLUMN tags TEXT")
    schema.drop_triggers(connection)
    connection.execute("DROP TABLE sums")
    for statement in (*schema.sums(), *schema.triggers()):
        connection.execute(statement)
    schema.rebuild(connection)


def _budgets_of_runs(connection: sqlite3.Connection) -> None:
    """Add the run that a promise belongs to."""
    if "run" not in _columns(connection, "reservations"):  # a file of version 1 has got it already
        connection.execute("ALTER TABLE reservations ADD COLUMN run TEXT NOT NULL DEFAULT ''")


def _columns(connection: sqlite3.Connection, table: str) -> list[str]:
    return [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]


MIGRATIONS = (
    Migration(2, "sums, counters and owners", _sums_counters_and_owners),
    Migration(3, "runs over columns", _runs),
    Migration(4, "tags", _tags),
    Migration(5, "budgets of runs", _budgets_of_runs),
)
VERSION = MIGRATIONS[-1].version


def upgrade(connection: sqlite3.Connection, path: Path) -> None:
    """Bring a database to the current version, inside a transaction.

    Raises:
        StoreError: A newer ipyrouter wrote it; nothing is touched.
    """
    version = version_of(connection)
    refuse_newer(version, path)
    if version == 0:
        schema.create(connection)
    else:
        for migration in MIGRATIONS:
            if migration.version > version:
                migration.run(connection)
    connection.execute(f"PRAGMA user_version = {VERSION}")


def version_of(connection: sqlite3.Connection) -> int:
    """Return the version of a database's schema; 0 for an empty one.

    The number stands in four bytes of the header; where damage may have changed it, the tables tell.
    """
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    if VERSION <= version < _ABSURD:
        return version
    names = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if "answers" not in names:
        return 0
    if "sums" not in names:
        return 1
    if "runs" not in names:
        return 2
    if "tags" not in _columns(connection, "sums"):
        return 3
    return VERSION if "run" in _columns(connection, "reservations") else 4


def refuse_newer(version: int, path: Path) -> None:
    """Raise StoreError for a version that this ipyrouter does not know."""
    if version > VERSION:
        raise StoreError(
            f"{path} was written by a newer ipyrouter (schema {version}, this one knows {VERSION}).",
            "Upgrade ipyrouter: pip install -U ipyrouter. Nothing was touched.",
        )
