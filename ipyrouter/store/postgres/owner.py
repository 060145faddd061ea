"""What the owner of a team's store does: members, budgets, retention. As SQL text, so that it can be shown or run."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any, TypeVar

import psycopg
from psycopg import sql

from ipyrouter.errors import StoreError, UsageError
from ipyrouter.store.base import microseconds
from ipyrouter.store.postgres import migrations
from ipyrouter.store.postgres.away import reason
from ipyrouter.store.postgres.migrations import MEMBERS
from ipyrouter.store.postgres.server import Connection, connect, unreachable
from ipyrouter.text.amounts import to_pico

T = TypeVar("T")
_RESERVED = ("postgres", "public", "none", "current_user", "current_role", "session_user", MEMBERS)


def upgrade(url: str) -> tuple[int, int]:
    """Make the schema, or bring it to this version; return the version before, 0 for none, and the one now.

    Raises StoreError where the login is not the owner's, or the server is away.
    """
    return _as_owner(url, migrations.upgrade)


def run(url: str, statements: Sequence[str]) -> list[tuple[Any, ...]]:
    """Run statements of this module in one transaction; return the rows of the last one. Raises StoreError."""

    def work(connection: Connection) -> list[tuple[Any, ...]]:
        with connection.transaction():
            cursors = [connection.execute(statement.encode()) for statement in statements]
            return cursors[-1].fetchall() if cursors and cursors[-1].description else []

    return _as_owner(url, work)


def _as_owner(url: str, work: Callable[[Connection], T]) -> T:
    try:
        with connect(url) as connection:
            connection.seconds = None  # an upgrade may take long
            return work(connection)
    except psycopg.OperationalError as error:
        why = f"The database cannot be reached ({unreachable(error)})."
        raise StoreError(why, "Check --url or, without it, [store] url.") from None
    except psycopg.Error as error:
        raise StoreError(f"The team store refuses this: {reason(error)}.", _remedy(error)) from None


def _remedy(error: psycopg.Error) -> str:
    missing = (psycopg.errors.InvalidSchemaName, psycopg.errors.UndefinedTable, psycopg.errors.UndefinedObject)
    if isinstance(error, missing):  # the schema, its tables or the members' role
        return "The store is not there yet. Run: ipyrouter team upgrade"
    if isinstance(error, psycopg.errors.ReadOnlySqlTransaction):
        return "It may be a standby: name the primary server with --url."
    if isinstance(error, psycopg.errors.ReservedName):
        return "Give the user a login of its own, of another name."
    if isinstance(error, psycopg.errors.NoDataFound):
        return "Make a member first: ipyrouter team add USER --team TEAM"
    return "Connect as its owner: --url"


def add_member(user: str, team: str, *, lead: bool = False, content: bool | None = None) -> list[str]:
    """Return the statements that make a role a member of a team; the role and the team are made where missing.

    Args:
        user: The role that logs in.
        team: The team; a member who was in another one moves.
        lead: Whether the member sees what the whole team spends.
        content: Whether the team's prompts and answers are logged; None leaves that as it is, a new team logs none.

    A role of the database itself is refused when the statements run: its owner, for whom no row-level security holds,
    and whoever may change roles or databases.

    Raises:
        UsageError: A name is empty or too long, holds control characters, or is one of PostgreSQL's own.
    """
    _check_names(user, team)
    if user in _RESERVED or user.startswith("pg_"):
        raise UsageError(f"{user} is a role of PostgreSQL itself.", "Give the user a login of another name.")
    statements = [
        _refuse(
            _format(
                "SELECT FROM pg_roles r WHERE r.rolname = {user} AND (r.rolsuper OR r.rolcreaterole OR r.rolcreatedb"
                " OR r.rolreplication OR r.rolbypassrls OR r.rolname IN (current_user, session_user, {members})"
                " OR r.oid IN (SELECT datdba FROM pg_database WHERE datname = current_database()))",
                user=user, members=MEMBERS,
            ),
            f"{user} is a role of the database itself", "reserved_name",
        ),
        _do("BEGIN CREATE ROLE {} LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END", sql.Identifier(user)),
        _format("GRANT {} TO {}", sql.Identifier(MEMBERS), sql.Identifier(user)),
        _format("INSERT INTO ipyrouter.team (name) VALUES ({}) ON CONFLICT DO NOTHING", team),
        _format(
            "INSERT INTO ipyrouter.member (name, team, lead) VALUES ({}, {}, {})"
            " ON CONFLICT (name) DO UPDATE SET team = excluded.team, lead = excluded.lead",
            user, team, lead,
        ),
    ]  # fmt: skip
    if content is not None:
        statements.append(_format("UPDATE ipyrouter.team SET content = {} WHERE name = {}", content, team))
    return statements


def lend_login(user: str, team: str, password: str, until: dt.datetime) -> list[str]:
    """Return the statements that make a member, as :func:`add_member` does, whose password holds until a moment.

    For a JupyterHub, whose users' names are not the owner's choice: a role that is there and is no member of a team is
    somebody else's and refused when the statements run, before its password changes.

    Raises:
        UsageError: As :func:`add_member`.
    """
    add = add_member(user, team)
    foreign = _format(
        "SELECT FROM pg_roles WHERE rolname = {} AND NOT EXISTS (SELECT FROM ipyrouter.member WHERE name = {})",
        user,
        user,
    )
    role = sql.Identifier(user)
    return [
        _refuse(foreign, f"{user} is a role of the database that is no member of a team", "reserved_name"),
        *add,
        _format("ALTER ROLE {} PASSWORD {} VALID UNTIL {}", role, password, until.isoformat()),
    ]


def set_budgets(team: str, member: str, dollars: Mapping[str, Decimal | None]) -> list[str]:
    """Return the statements that set what may be spent.

    Args:
        team: The team.
        member: "" for the team together, "*" for each of its members, or one member's role.
        dollars: By period ("call", "session", "day" or "month"); None takes a budget away.

    Raises:
        UsageError: The team together has no calls or sessions, or an amount is negative.
    """
    _check_names(team)
    if not member and {"call", "session"} & set(dollars):
        raise UsageError("A team as a whole has budgets for a day and a month.", "Add --each or --member USER.")
    statements = [_check_is_there(team, member)]
    for period, amount in dollars.items():
        if amount is None:
            query = "DELETE FROM ipyrouter.budget WHERE team = {} AND member = {} AND period = {}"
            statements.append(_format(query, team, member, period))
            continue
        if not 0 <= amount <= 10**6:
            raise UsageError(f"{amount} is not a valid budget.", "Write dollars, from 0 to 1000000.")
        query = (
            "INSERT INTO ipyrouter.budget (team, member, period, pico) VALUES ({}, {}, {}, {})"
            " ON CONFLICT (team, member, period) DO UPDATE SET pico = excluded.pico"
        )
        statements.append(_format(query, team, member, period, to_pico(amount)))
    return statements


def set_rates(team: str, member: str, rates: Mapping[str, int | None]) -> list[str]:
    """Return the statements that set what may be asked a minute.

    Args:
        team: The team.
        member: "" for the team together, "*" for each of its members, or one member's role.
        rates: By unit ("requests" or "tokens"); None takes a rate away.

    Raises:
        UsageError: A rate is not a whole number above 0.
    """
    _check_names(team)
    statements = [_check_is_there(team, member)]
    for unit, most in rates.items():
        if most is None:
            query = "DELETE FROM ipyrouter.rate WHERE team = {} AND member = {} AND unit = {}"
            statements.append(_format(query, team, member, unit))
            continue
        if not 0 < most <= 10**12:
            raise UsageError(f"{most} is not a valid number of {unit} a minute.", "Write a whole number above 0.")
        query = (
            "INSERT INTO ipyrouter.rate (team, member, unit, most) VALUES ({}, {}, {}, {})"
            " ON CONFLICT (team, member, unit) DO UPDATE SET most = excluded.most"
        )
        statements.append(_format(query, team, member, unit, most))
    return statements


def prune(months: int, today: dt.date, *, content_only: bool) -> str:
    """Return the statement that drops what is older than so many whole months; the daily sums stay.

    Args:
        months: How many months to keep beside the one that is not over.
        today: The day from which they count.
        content_only: Whether only prompts and answers go.

    Raises:
        UsageError: ``months`` is not from 1 to 1200.
    """
    if not 1 <= months <= 1200:
        raise UsageError(f"{months} is not a valid number of months.", "Keep 1 to 1200 months.")
    year, month = divmod(today.year * 12 + today.month - 1 - months, 12)
    first = microseconds(dt.datetime(year, month + 1, 1, tzinfo=dt.UTC))
    return _format("SELECT ipyrouter.prune({}, {})", first, content_only)


def _format(query: str, *values: Any, **named: Any) -> str:
    def part(value: Any) -> sql.Composable:
        return value if isinstance(value, sql.Composable) else sql.Literal(value)

    parts = {name: part(value) for name, value in named.items()}
    return sql.SQL(query).format(*map(part, values), **parts).as_string()


def _do(body: str, *values: Any) -> str:
    """Return a block of PL/pgSQL as a statement. As a literal: a name may hold whatever else would end the block."""
    return _format("DO {}", _format(body, *values))


def _check_is_there(team: str, member: str) -> str:
    """Return the statement that fails where a team, or its member of this name, is not there."""
    if member in ("", "*"):
        found, what = _format("SELECT FROM ipyrouter.team WHERE name = {}", team), f"there is no team {team}"
    else:
        found = _format("SELECT FROM ipyrouter.member WHERE name = {} AND team = {}", member, team)
        what = f"{member} is not a member of the team {team}"
    return _refuse(f"SELECT WHERE NOT EXISTS ({found})", what, "no_data_found")


def _refuse(found: str, what: str, code: str) -> str:
    """Return the statement that fails with this message where a query finds a row."""
    body = "BEGIN IF EXISTS ({}) THEN RAISE EXCEPTION USING MESSAGE = {}, ERRCODE = {}; END IF; END"
    return _do(body, sql.SQL(found), what, code)


def _check_names(*names: str) -> None:
    for name in names:
        if not name or not name.isprintable() or len(name.encode()) > 63:
            raise UsageError(f"{name!r} is not a valid name of a user or a team.", "Use 1 to 63 printable characters.")
