"""The tables of the current version, and the triggers that keep the sums and the budgets' counters with the log.

The sums hold one row an hour, session, tier, model and status: a report or a budget reads some thousand of them instead
of a million rows of the log. Triggers, not Python, keep them in the same
transaction, so that they always agree with the log. A damaged value counts as the log shows it: nothing, or not known.
"""

from __future__ import annotations

import functools
import sqlite3
from collections.abc import Iterator
from typing import NamedTuple

from ipyrouter.store.rows import ATTEMPTS, COOLING_DOWN, LATEST, MOST_PICO, MOST_SECONDS, MOST_TOKENS, REQUESTS

HOUR = 3_600_000_000  # microseconds
DAY = 24 * HOUR
LAST_HOUR = LATEST // HOUR
MICRO = 1_000_000  # 1e-12 dollars in 1e-6 of them: amounts are summed in two parts, which no sum can overflow
_ALL = MOST_PICO // MICRO
EDGES = (32_000, 100_000, 128_000, 199_999, 200_000, 256_000, 272_000, 512_000, 524_288)
"""The input tokens above which some model's rates change, so that the sums tell them apart; others cost a scan."""

COUNTED = "counted"  # the counter that says that all counters are there
SOUND = (
    "typeof(counters.value) = 'integer' AND typeof(counters.rest) = 'integer' AND counters.value >= 0"
    " AND counters.rest >= 0 AND counters.control IS counters.value + counters.rest"
)
"""SQL that is true for a counter which no damage has changed."""

_SUMMED = (
    "n, time, session, tier, provider, model, status, error_kind, cost_pico, saved_pico, input_tokens, output_tokens,"
    " cached_input_tokens, cache_write_tokens, reasoning_tokens, latency"
)


def whole(value: str, most: int = MOST_TOKENS) -> str:
    """Return SQL for a count that may be damaged: 0 where it is none."""
    return f"CASE WHEN typeof({value}) = 'integer' AND {value} BETWEEN 0 AND {most} THEN {value} ELSE 0 END"


def amount(value: str) -> str:
    """Return SQL for an amount that may be damaged: NULL, not known, where it is none."""
    return f"CASE WHEN typeof({value}) = 'integer' AND {value} BETWEEN 0 AND {MOST_PICO} THEN {value} END"


def nanoseconds(value: str) -> str:
    """Return SQL for seconds that may be damaged: NULL where they are none."""
    sound = f"typeof({value}) IN ('real', 'integer') AND {value} BETWEEN 0 AND {MOST_SECONDS:.0f}"
    return f"CASE WHEN {sound} THEN CAST({value} * 1e9 AS INTEGER) END"


def keys(row: str) -> dict[str, str]:
    """Return what the sums are grouped by, as SQL over a row of attempts and its request ``a``."""
    names = ("session", "tier", "provider", "model", "status")
    return {
        "hour": f"({whole(f'{row}.time', LATEST)}) / {HOUR}",
        **{name: f"IFNULL({row}.{name}, '')" for name in names},
        "tags": "IFNULL(a.tags, '')",
        "final": f"IFNULL(a.answered AND a.head = {row}.n, 0)",
        "priced": "IFNULL(a.unpriced = 0, 0)",
        "band": band(row, EDGES),
    }


def band(row: str, steps: tuple[int, ...]) -> str:
    """Return SQL for the number of steps that a row's input tokens exceed."""
    tokens = f"{row}.input_tokens"
    return (
        f"(typeof({tokens}) = 'integer') * ({' + '.join(f'({tokens} > {step})' for step in steps)})" if steps else "0"
    )


def measures(row: str) -> dict[str, str]:
    """Return what the sums add up, as SQL over a row of attempts and its request ``a``.

    What a request as a whole comes to is added to the row of one of its attempts, its head.
    """
    cost, saved = amount(f"{row}.cost_pico"), amount(f"{row}.saved_pico")
    tokens = ("input_tokens", "output_tokens", "cached_input_tokens", "cache_write_tokens", "reasoning_tokens")
    return {
        "rows": "1",
        "sent": f"IFNULL({row}.status != 'cached' AND {row}.error_kind IS NOT '{COOLING_DOWN}', 0)",
        "unpriced": f"({cost}) IS NULL",
        "cost_micro": f"IFNULL(({cost}) / {MICRO}, 0)",
        "cost_rest": f"IFNULL(({cost}) % {MICRO}, 0)",
        "saved_micro": f"IFNULL(({saved}) / {MICRO}, 0)",
        "saved_rest": f"IFNULL(({saved}) % {MICRO}, 0)",
        "unsaved": f"IFNULL({row}.status = 'cached' AND ({saved}) IS NULL, 0)",
        **{name: whole(f"{row}.{name}") for name in tokens},
        "took": f"IFNULL({nanoseconds(f'{row}.latency')}, 0)",
        **{name: f"IIF(a.head = {row}.n, {value}, 0)" for name, value in _request_measures().items()},
    }


def _request_measures() -> dict[str, str]:
    spent, above = (whole(f"a.{name}", MOST_PICO) for name in ("spent_pico", "escalated_pico"))
    return {
        "requests": "1",
        "calls": whole("a.calls"),
        "calls_unpriced": whole("a.unpriced"),
        "calls_micro": f"({spent}) / {MICRO}",
        "calls_rest": f"({spent}) % {MICRO}",
        "calls_took": whole("a.took", MOST_PICO),
        "fallbacks": "a.fallback_from IS NOT NULL",
        "escalations": f"({whole('a.escalated')}) > 0",
        "escalated_unpriced": whole("a.escalated_unpriced"),
        "escalated_micro": f"({above}) / {MICRO}",
        "escalated_rest": f"({above}) % {MICRO}",
    }


def most(row: str) -> dict[str, str]:
    """Return the bounds of single requests, as SQL over a row of attempts and its request ``a``."""
    bounds = {"most_pico": whole("a.spent_pico", MOST_PICO), "most_took": whole("a.took", MOST_PICO)}
    return {name: f"IIF(a.head = {row}.n, {value}, 0)" for name, value in bounds.items()}


def create(connection: sqlite3.Connection) -> None:
    """Make all tables and triggers of an empty database."""
    for statement in (*tables(), *indexes(), *sums(), *triggers()):
        connection.execute(statement)
    connection.execute(f"INSERT INTO counters (name, value, control) VALUES ('cache_bytes', 0, 0), ('{COUNTED}', 1, 1)")


class Part(NamedTuple):
    """A table, index or trigger, and the statement that makes it."""

    kind: str
    name: str
    sql: str


@functools.cache
def parts() -> tuple[Part, ...]:
    """Return all that a whole database has."""
    connection = sqlite3.connect(":memory:")
    create(connection)
    query = "SELECT type, name, sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY type = 'trigger'"
    result = tuple(Part(*row) for row in connection.execute(query))
    connection.close()
    return result


@functools.cache
def columns() -> dict[str, list[str]]:
    """Return the columns of each table."""
    connection = sqlite3.connect(":memory:")
    create(connection)
    tables = [part.name for part in parts() if part.kind == "table"]
    result = {name: [row[1] for row in connection.execute(f"PRAGMA table_info({name})")] for name in tables}
    connection.close()
    return result


def missing(connection: sqlite3.Connection) -> list[Part]:
    """Return what a database lacks."""
    there = set(connection.execute("SELECT type, name FROM sqlite_master"))
    return [part for part in parts() if (part.kind, part.name) not in there]


def complete(connection: sqlite3.Connection) -> None:
    """Make what a database lacks, and compute from the log what hangs on it.

    Raises sqlite3.OperationalError where a table of the log is gone: nothing can stand in for that.
    """
    lacks = missing(connection)
    for table in ("answers", "attempts"):
        connection.execute(f"SELECT 1 FROM {table} LIMIT 1")
    for part in lacks:
        connection.execute(part.sql)
    if any(part.kind == "trigger" or part.name in ("sums", "counters") for part in lacks):
        rebuild(connection)
        recount(connection)


def tables() -> Iterator[str]:
    """Yield the tables of the log, the cache and the ledger."""
    yield f"CREATE TABLE answers ({', '.join(c.sql() for c in REQUESTS)}, PRIMARY KEY (id)) WITHOUT ROWID"
    yield f"CREATE TABLE attempts ({', '.join(c.sql() for c in ATTEMPTS)}, PRIMARY KEY (answer_id, n)) WITHOUT ROWID"
    yield (
        "CREATE TABLE cache (key BLOB PRIMARY KEY, created INTEGER NOT NULL, used INTEGER NOT NULL,"
        " size INTEGER NOT NULL, provider TEXT NOT NULL, model TEXT NOT NULL, tier TEXT NOT NULL, text TEXT NOT NULL,"
        " usage TEXT NOT NULL, finish TEXT NOT NULL, cost_pico INTEGER, escalated_from TEXT) WITHOUT ROWID"
    )
    yield (
        "CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL, rest INTEGER NOT NULL DEFAULT 0,"
        " control INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID"  # control: the sum of both
    )
    yield from ledger()
    yield from runs()


def runs() -> Iterator[str]:
    """Yield the tables of the runs over columns, and of the cached answers that each of them keeps."""
    yield (
        "CREATE TABLE runs (id TEXT PRIMARY KEY, created INTEGER NOT NULL, updated INTEGER NOT NULL,"
        " state TEXT NOT NULL) WITHOUT ROWID"
    )
    yield "CREATE TABLE run_rows (key BLOB NOT NULL, run TEXT NOT NULL, PRIMARY KEY (key, run)) WITHOUT ROWID"


def ledger() -> Iterator[str]:
    """Yield the tables of what is promised but not recorded yet."""
    yield (
        "CREATE TABLE reservations (id TEXT PRIMARY KEY, owner TEXT NOT NULL, session TEXT NOT NULL,"
        " pico INTEGER NOT NULL, expires INTEGER NOT NULL, lapses REAL NOT NULL, run TEXT NOT NULL DEFAULT '')"
        " WITHOUT ROWID"
    )
    yield (
        "CREATE TABLE claims (key BLOB PRIMARY KEY, owner TEXT NOT NULL, expires INTEGER NOT NULL,"
        " lapses REAL NOT NULL) WITHOUT ROWID"
    )


def indexes() -> Iterator[str]:
    """Yield the indexes; those of tables without a rowid end with the primary key."""
    yield "CREATE INDEX attempts_time ON attempts (time)"
    yield "CREATE INDEX cache_used ON cache (used, size)"
    yield "CREATE INDEX cache_created ON cache (created, size)"


def sums() -> Iterator[str]:
    """Yield the table of the sums."""
    columns = ", ".join(f"{column} NOT NULL" for column in (*keys("t"), *measures("t"), *most("t")))
    yield f"CREATE TABLE sums ({columns}, PRIMARY KEY ({', '.join(keys('t'))})) WITHOUT ROWID"


def triggers() -> Iterator[str]:
    """Yield the triggers: an insert adds, a delete takes away, an update does both."""
    plus, minus = _add("new", 1), _add("old", -1)
    yield f"CREATE TRIGGER attempts_added AFTER INSERT ON attempts BEGIN {plus}; END"
    yield f"CREATE TRIGGER attempts_removed AFTER DELETE ON attempts BEGIN {minus}; END"
    yield f"CREATE TRIGGER attempts_changed AFTER UPDATE OF {_SUMMED} ON attempts BEGIN {minus}; {plus}; END"
    # The attempts go first, because their request tells which of them answered.
    gone = "DELETE FROM attempts WHERE answer_id = old.id"
    yield f"CREATE TRIGGER answers_removed BEFORE DELETE ON answers BEGIN {gone}; END"
    for name, when, row, sign in (("added", "INSERT", "new", 1), ("removed", "DELETE", "old", -1)):
        counts = f"WHEN {row}.restored = 0 AND {row}.cost_pico != 0"
        yield f"CREATE TRIGGER spent_{name} AFTER {when} ON attempts {counts} BEGIN {_spend(row, sign)}; END"
    changed = f"{_spend('old', -1)}; {_spend('new', 1)}"
    yield (
        "CREATE TRIGGER spent_changed AFTER UPDATE OF time, session, cost_pico, restored ON attempts"
        f" BEGIN {changed}; END"
    )


def drop_triggers(connection: sqlite3.Connection) -> None:
    """Take the triggers away, before very many rows are written; afterwards :func:`rebuild` and :func:`triggers`."""
    for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
        connection.execute(f"DROP TRIGGER {name}")


def rebuild(sql: sqlite3.Connection) -> None:
    """Compute the sums from the log."""
    of, added, bounds = keys("t"), measures("t"), most("t")
    values = [
        *of.values(),
        *(total(value) for value in added.values()),
        *(f"MAX({value})" for value in bounds.values()),
    ]
    groups = ", ".join(str(place + 1) for place in range(len(of)))
    sql.execute("DELETE FROM sums")
    sql.execute(
        f"INSERT INTO sums ({', '.join((*of, *added, *bounds))}) SELECT {', '.join(values)}"
        f" FROM attempts t LEFT JOIN answers a ON a.id = t.answer_id GROUP BY {groups}"
    )


def total(value: str) -> str:
    """Return SQL for a sum; SUM would raise where one is too large for 64 bits, TOTAL is exact up to 2**53."""
    return f"CAST(TOTAL({value}) AS INTEGER)"


def recount(connection: sqlite3.Connection) -> None:
    """Compute the budgets' counters from the log; one that knows of more, from a file that was set aside, stays.

    Only damage makes this necessary.
    """
    cost = amount("cost_pico")
    whole_part, rest = total(f"({cost}) / {MICRO}"), total(f"({cost}) % {MICRO}")
    for name in (f"'day:' || (time / {DAY})", "'session:' || session"):
        connection.execute(
            f"INSERT INTO counters (name, value, rest, control) SELECT {name}, {whole_part}, {rest},"
            f" {whole_part} + {rest} FROM attempts WHERE restored = 0 GROUP BY 1"
            " ON CONFLICT (name) DO UPDATE SET value = excluded.value, rest = excluded.rest, control = excluded.control"
            f" WHERE NOT ({SOUND}) OR value < excluded.value"
        )
    # Of a run's the log tells nothing: such a budget counts as used up.
    connection.execute(
        f"UPDATE counters SET value = {_ALL}, rest = 0, control = {_ALL} WHERE name GLOB 'run:*' AND NOT ({SOUND})"
    )
    connection.execute(f"DELETE FROM counters WHERE NOT ({SOUND})")
    connection.execute(f"INSERT OR REPLACE INTO counters (name, value, control) VALUES ('{COUNTED}', 1, 1)")


def _add(row: str, sign: int) -> str:
    of, added, bounds = keys(row), measures(row), most(row)
    values = [*of.values(), *(f"{sign} * ({value})" for value in added.values()), *bounds.values()]
    changes = [f"{name} = {name} + excluded.{name}" for name in added]
    changes += [f"{name} = max({name}, excluded.{name})" for name in bounds]
    return (
        f"INSERT INTO sums ({', '.join((*of, *added, *bounds))}) SELECT {', '.join(values)}"
        f" FROM (SELECT 1) LEFT JOIN answers a ON a.id = {row}.answer_id"
        f" WHERE true ON CONFLICT ({', '.join(of)}) DO UPDATE SET {', '.join(changes)}"
    )


def _spend(row: str, sign: int) -> str:
    cost = amount(f"{row}.cost_pico")
    value, rest = (f"{sign} * IFNULL(({cost}) {part} {MICRO}, 0)" for part in ("/", "%"))
    # A damaged counter stays as it is, because a reader must see that.
    return "; ".join(
        f"INSERT INTO counters (name, value, rest, control) SELECT {name}, {value}, {rest}, {value} + {rest}"
        f" WHERE {row}.restored = 0 ON CONFLICT (name) DO UPDATE SET value = value + excluded.value,"
        f" rest = rest + excluded.rest, control = control + excluded.control WHERE {SOUND}"
        for name in (f"'day:' || ({row}.time / {DAY})", f"'session:' || {row}.session")
    )
