"""The team's store: who sees and may do what, budgets of a team, and what happens while the server is away."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pytest

from ipyrouter import cli
from ipyrouter.clock import SystemClock
from ipyrouter.config import load
from ipyrouter.errors import BudgetError, ConfigError, StoreError, UsageError
from ipyrouter.providers.base import Fault, FaultKind
from ipyrouter.reporting.log import frame_of
from ipyrouter.reporting.report import report
from ipyrouter.router import Router
from ipyrouter.routing.breaker import Breaker, Reason
from ipyrouter.routing.planner import Step
from ipyrouter.store.base import (
    Busy,
    Claim,
    Limit,
    LogFilter,
    Rate,
    Refusal,
    Reservation,
    Run,
    Unavailable,
    microseconds,
)
from ipyrouter.store.owners import batch_owner, new_owner
from ipyrouter.store.postgres import PostgresStore, migrations, outbox
from ipyrouter.store.postgres import owner as owning
from ipyrouter.store.postgres import server as servers
from ipyrouter.store.postgres.away import AwayError
from ipyrouter.store.postgres.owner import set_budgets
from ipyrouter.store.rows import ATTEMPTS, REQUESTS
from ipyrouter.store.sqlite import SQLiteStore
from ipyrouter.store.sqlite.schema import EDGES
from ipyrouter.types import Candidate, Session
from tests import postgres
from tests.conftest import server_config
from tests.faults.server import FaultServer
from tests.postgres import Proxy
from tests.store.conftest import NOON, SESSION, Happening, ManualClock, a_record

pytestmark = pytest.mark.wire

DOLLAR = 10**12
TODAY = Limit("today", 10 * DOLLAR, "day")
KEY = b"k" * 32
Open = Callable[..., PostgresStore]


@pytest.fixture
def database() -> Iterator[str]:
    with postgres.database() as name:
        yield name


@pytest.fixture
def open_as(database: str, tmp_path: Path) -> Iterator[Open]:
    """Open the store as a member, each in a folder of its own."""
    opened: list[PostgresStore] = []

    def open_one(user: str = "alice", **options: Any) -> PostgresStore:
        folder = options.pop("folder", tmp_path / f"{user}-{len(opened)}")
        url = options.pop("url", postgres.server().url(user, database))
        opened.append(PostgresStore(url, folder, **options))
        return opened[-1]

    yield open_one
    for store in opened:
        store.close()


def ask(database: str, user: str, query: str, *values: Any) -> list[tuple[Any, ...]]:
    """Run a member's own SQL: a notebook may connect with whatever it likes."""
    with postgres.server().connect(database, user) as connection:
        return connection.execute(query.encode(), values).fetchall()


def set_budget(database: str, team: str = postgres.TEAM, member: str = "", **dollars: str) -> None:
    with postgres.server().connect(database) as owner:
        for statement in set_budgets(team, member, {period: Decimal(amount) for period, amount in dollars.items()}):
            owner.execute(statement.encode())


def names(store: PostgresStore) -> list[str]:
    return list(frame_of(store.log(LogFilter()))["answer_id"])


# --- the schema ---


def test_the_tables_have_the_logs_columns(database: str) -> None:
    apart = {"prompt", "system", "text", "reasons", "notes", "error"}
    for table, columns in (("answers", REQUESTS), ("attempts", ATTEMPTS)):
        rows = ask(database, "alice", "SELECT attname::text FROM pg_attribute WHERE attrelid = %s::regclass"
                   " AND attnum > 0", f"ipyrouter.{table}")  # fmt: skip
        assert {name for (name,) in rows} == {column.name for column in columns} - apart | {"member", "team"}


def test_the_sums_tell_the_same_lengths_apart_as_the_files(database: str) -> None:
    body = "SELECT prosrc FROM pg_proc WHERE oid = 'ipyrouter.measure'::regproc"
    ((measure,),) = ask(database, "owner", body)
    found = [int(part.split(")")[0]) for part in measure.split("input_tokens > ")[1:]]
    assert tuple(found) == EDGES


def test_an_upgrade_runs_once_whoever_starts_it(database: str) -> None:
    def upgrade(_: int) -> tuple[int, int]:
        with postgres.server().connect(database) as owner:
            return migrations.upgrade(owner)

    with postgres.server().connect(database) as owner:
        owner.execute("DROP SCHEMA ipyrouter CASCADE")
    with ThreadPoolExecutor(4) as pool:
        results = sorted(pool.map(upgrade, range(4)))
    assert results == [(0, migrations.VERSION), *[(migrations.VERSION, migrations.VERSION)] * 3]


def test_a_database_without_a_store_or_with_a_newer_one_is_refused_and_nothing_is_lost(
    database: str, open_as: Open
) -> None:
    with postgres.server().connect(database) as owner:
        owner.execute("INSERT INTO ipyrouter.schema_version VALUES (99)")
        newer = open_as()
        with pytest.raises(StoreError, match=r"has version 99, .*pip install --upgrade"):
            newer.log(LogFilter())
        newer.record(a_record("kept"), None, 500)
        assert "version 99" in newer.warnings()[0]
        owner.execute("DELETE FROM ipyrouter.schema_version WHERE version = 99")
        newer.record(a_record("b"), None, 500)
        assert sorted(names(newer)) == ["b", "kept"]
        owner.execute("DROP SCHEMA ipyrouter CASCADE")
        with pytest.raises(StoreError, match=r"no team store.*ipyrouter team upgrade"):
            open_as().log(LogFilter())


# --- who sees what ---


def test_a_member_sees_its_own_and_a_lead_sees_costs_and_no_texts(open_as: Open) -> None:
    alice, bob, lead, other = (open_as(user) for user in ("alice", "bob", "lena", "oskar"))
    alice.record(a_record("a", cost=Decimal(1), error="she wrote: secret"), None, 500)
    bob.record(a_record("b", cost=Decimal(2)), None, 500)
    other.record(a_record("o", cost=Decimal(4)), None, 500)
    for store, visible in ((alice, ["a"]), (bob, ["b"]), (lead, ["a", "b"]), (other, ["o"])):
        assert names(store) == visible
        assert sum(row.rows for row in store.totals(LogFilter())) == len(visible)
        assert len(store.page(LogFilter(), 10)) == len(visible)
    rows = frame_of(lead.log(LogFilter()))
    assert list(rows["cost"]) == [1, 2]
    assert rows[["prompt", "text", "error"]].isna().all(axis=None)


TABLES = ("answers", "attempts", "texts", "attempt_texts", "sums", "measured", "runs")


def test_a_lead_reads_costs_by_user_team_notebook_and_tag(database: str, open_as: Open) -> None:
    notebook = replace(SESSION, notebook="n.ipynb")
    open_as().record(replace(a_record("one", session=notebook), tags=("x", "y")), None, 500)
    open_as("bob").record(replace(a_record("two"), tags=("x",)), None, 500)
    open_as(postgres.OTHER).record(replace(a_record("three"), tags=("secret",)), None, 500)
    lead = open_as(postgres.LEAD)

    def costs(by: str) -> dict[str, Decimal]:
        groups = report(lead, by=by).groups
        assert groups is not None
        return dict(groups["cost"])

    half = Decimal("0.5")
    assert costs("user") == {"alice": half, "bob": half}
    assert costs("team") == {postgres.TEAM: 1}
    assert costs("notebook") == {"(no notebook)": half, "n.ipynb": half}
    assert costs("tag") == {"x": 1, "y": half}
    rows = frame_of(lead.log(LogFilter()))
    assert rows[["user", "team", "tags"]].astype(object).values.tolist() == [
        ["alice", postgres.TEAM, "x,y"], ["bob", postgres.TEAM, "x"],
    ]  # fmt: skip
    for chosen in (LogFilter(user="bob"), LogFilter(tag="x", user="bob", team=postgres.TEAM)):
        assert names(lead) == ["one", "two"]
        assert frame_of(lead.log(chosen))["answer_id"].tolist() == ["two"]
        assert [row.key.answer_id for row in lead.page(chosen, 5)] == ["two"]
        assert sum(row.rows for row in lead.totals(chosen)) == 1
    assert lead.overview(1).users == ("alice", "bob")
    assert lead.overview(1).tags == ("x", "y")
    alice = open_as()
    assert frame_of(alice.log(LogFilter(user="bob"))).empty
    assert alice.totals(LogFilter(user="bob")) == alice.totals(LogFilter(tag="secret")) == []
    assert alice.overview(1).tags == ("x", "y")


@pytest.mark.parametrize("table", TABLES)
def test_no_setting_shows_another_members_rows(database: str, open_as: Open, table: str) -> None:
    open_as("alice").record(a_record("a", error="hers", cost=Decimal(1)), KEY, 500)
    open_as("alice").put_run(Run("hers", NOON, NOON, {"prompt": "secret"}))
    count = f"SELECT count(*) FROM ipyrouter.{table}"
    assert ask(database, "alice", count)[0][0] > 0
    with postgres.server().connect(database, "bob") as bob:
        for attack in (
            "SET ROLE alice", "SET ROLE ipyrouter_member", "SET SESSION AUTHORIZATION alice", "SET row_security = off",
            "SET search_path = ipyrouter", "SET app.member = 'alice'",
            "SELECT set_config('session_user', 'alice', false)",
            "SET ROLE owner",
        ):  # fmt: skip
            with contextlib.suppress(psycopg.Error):
                bob.execute(attack.encode())
            with contextlib.suppress(psycopg.errors.InsufficientPrivilege):
                assert bob.execute(count.encode()).fetchall() == [(0,)], attack


FORBIDDEN = (
    "INSERT INTO ipyrouter.answers SELECT * FROM ipyrouter.answers",
    "UPDATE ipyrouter.attempts SET cost_pico = 0",
    "DELETE FROM ipyrouter.sums",
    "DELETE FROM ipyrouter.counter",
    "DELETE FROM ipyrouter.runs",
    "UPDATE ipyrouter.member SET lead = true",
    "DELETE FROM ipyrouter.budget",
    "SELECT * FROM ipyrouter.cache",
    "SELECT * FROM ipyrouter.run_rows",
    "SELECT * FROM ipyrouter.claim",
    "SELECT * FROM ipyrouter.reservation",
    "SELECT * FROM ipyrouter.counter",
    "SELECT * FROM ipyrouter.budget",
    "SELECT * FROM ipyrouter.rate",
    "SELECT * FROM ipyrouter.minute",
    "SELECT * FROM ipyrouter.outage",
    "SELECT * FROM ipyrouter.member",
    "SELECT * FROM ipyrouter.team",
    "DELETE FROM ipyrouter.minute",
    "UPDATE ipyrouter.rate SET most = 1000000",
    "SELECT * FROM ipyrouter.pace(NULL)",
    "SELECT ipyrouter.recount_cache('alice', 0)",
    "SELECT * FROM ipyrouter.caller",
    "SELECT ipyrouter.me()",
    "SELECT ipyrouter.find_cached('science', '{}', 1, 0)",
    "SELECT FROM ipyrouter.team FOR UPDATE",
    "DO 'BEGIN LOCK TABLE ipyrouter.answers IN SHARE UPDATE EXCLUSIVE MODE; END'",
    "SELECT ipyrouter.prune(0, false)",
    "SELECT ipyrouter.make_partition(0)",
    "SELECT ipyrouter.put(NULL, '{}', 0)",
    "SELECT * FROM ipyrouter.standing('alice', 'science', '', '', '[]', 0)",
    "CREATE TABLE ipyrouter.mine ()",
    "CREATE FUNCTION ipyrouter.now_us() RETURNS bigint LANGUAGE sql AS 'SELECT 0::bigint'",
    "CREATE OR REPLACE VIEW ipyrouter.measured AS SELECT 1",
    "DROP SCHEMA ipyrouter CASCADE",
    "TRUNCATE ipyrouter.sums",
    "ALTER TABLE ipyrouter.answers DISABLE ROW LEVEL SECURITY",
    "INSERT INTO ipyrouter.schema_version VALUES (99)",
)


@pytest.mark.parametrize("attack", FORBIDDEN)
def test_a_member_writes_through_functions_alone(database: str, attack: str) -> None:
    with pytest.raises((psycopg.errors.InsufficientPrivilege, psycopg.errors.WrongObjectType)):
        ask(database, "bob", attack)


def test_a_partition_cannot_be_read_past_its_policies(database: str, open_as: Open) -> None:
    open_as("alice").record(a_record(), None, 500)
    parts = ask(database, "owner", "SELECT inhrelid::regclass::text FROM pg_inherits JOIN pg_class ON oid = inhparent"
                " WHERE relkind = 'p'")  # fmt: skip
    assert len(parts) >= 12
    for (part,) in parts:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            ask(database, "bob", f"SELECT * FROM {part}")


def test_functions_trust_the_login_and_the_servers_clock_alone(database: str, open_as: Open) -> None:
    """Forged: the member, the team, the time, what the request cost, an unknown mode, a second time."""
    from ipyrouter.store import rows
    from ipyrouter.store.postgres import outbox

    def send(mode: str = "record", **forged: Any) -> bool:
        body = outbox.body(*rows.values(a_record("forged", cost=Decimal(1)), 7, restored=False))
        body["request"] |= forged
        return bool(ask(database, "bob", "SELECT ipyrouter.record(%s, %s)", json.dumps(body), mode)[0][0])

    with pytest.raises(psycopg.errors.InvalidParameterValue, match="something else than its attempts"):
        send(spent_pico=0)
    with pytest.raises(psycopg.errors.InvalidParameterValue, match="unknown mode"):
        send("free")
    with pytest.raises(psycopg.errors.CheckViolation):
        send(difficulty=1e9)
    with pytest.raises(psycopg.errors.CheckViolation):
        send(spent_pico=-1)
    assert send(member="alice", team="others", time=0, restored=1)
    assert not send()
    ((member, team, time, restored),) = ask(
        database, "owner", "SELECT member, team, time, restored FROM ipyrouter.answers"
    )
    now = dt.datetime.now(dt.UTC).timestamp() * 1e6
    assert (member, team, restored) == ("bob", postgres.TEAM, 0)
    assert now - 600e6 < time <= now + 1e6
    bob = open_as("bob")
    assert bob.used(TODAY, SESSION) == DOLLAR
    assert open_as("alice").used(TODAY, SESSION) == 0


@pytest.mark.parametrize("whose", ["team science", "member alice"])
def test_no_other_login_holds_the_lock_of_a_budget(database: str, open_as: Open, whose: str) -> None:
    """Advisory locks are open to every login of the server."""
    set_budget(database, member="" if whose.startswith("team") else "*", day="10")
    with postgres.server().connect(database, postgres.OTHER) as other:
        other.execute("SELECT pg_advisory_lock(hashtextextended(%s, 2))", (whose,))
        reserved = open_as("alice").reserve(DOLLAR, [], SESSION, "x", 60)
    assert isinstance(reserved, Reservation)


@pytest.mark.parametrize("level", ["REPEATABLE READ", "SERIALIZABLE"])
def test_no_old_sight_of_a_budget_decides(database: str, open_as: Open, level: str) -> None:
    set_budget(database, day="10")
    reserve = "SELECT ipyrouter.reserve('mine', 'o', 's', 6000000000000, 60, '[]')"
    with postgres.server().connect(database, "bob") as bob:
        bob.execute(f"BEGIN ISOLATION LEVEL {level}".encode())
        bob.execute("SELECT count(*) FROM ipyrouter.answers")
        assert isinstance(open_as("alice").reserve(6 * DOLLAR, [], SESSION, "x", 60), Reservation)
        with pytest.raises(psycopg.errors.InvalidTransactionState, match="read committed"):
            bob.execute(reserve.encode())
    with postgres.server().connect(database, "bob") as bob:
        bob.execute(f"SET default_transaction_isolation = '{level}'".encode())
        with pytest.raises(psycopg.errors.InvalidTransactionState, match="read committed"):
            bob.execute(reserve.encode())


def test_a_settlement_sent_again_changes_nothing_after_the_record(database: str, open_as: Open) -> None:
    set_budget(database, day="10")
    bob = open_as("bob")
    reserved = bob.reserve(5 * DOLLAR, [], SESSION, "x", 60)
    assert isinstance(reserved, Reservation)
    bob.record(a_record("paid", cost=Decimal(3), owner="x"), None, 500)
    for amount in (0, 9 * DOLLAR):
        bob.settle(reserved.id, amount)
    (team,) = bob.limits(SESSION)
    assert bob.used(team, SESSION) == 3 * DOLLAR


def test_what_another_holds_cannot_be_released_settled_judged_or_forgotten(database: str, open_as: Open) -> None:
    alice, bob, owner = open_as("alice"), open_as("bob"), new_owner()
    set_budget(database, day="10")
    reserved = alice.reserve(DOLLAR, [], SESSION, owner, 60)
    assert isinstance(reserved, Reservation)
    alice.record(a_record("hers"), None, 500)
    bob.settle(reserved.id, 0)
    ask(database, "bob", "SELECT ipyrouter.release(%s)", owner)
    (team,) = bob.limits(SESSION)
    assert bob.used(team, SESSION) == DOLLAR + DOLLAR // 2
    assert not bob.set_feedback("hers", "bad")
    assert bob.forget(None, None, content=True) == 0
    assert list(frame_of(alice.log(LogFilter()))["prompt"]) == ["prompt of hers"]


HUGE = (
    "SELECT ipyrouter.reserve('r', 'o', 's', -1, 60, '[]')",
    "SELECT ipyrouter.reserve('r', 'o', 's', 'NaN', 60, '[]')",
    "SELECT ipyrouter.reserve('r', 'o', 's', 1e300, 60, '[]')",
    "SELECT ipyrouter.reserve(repeat('r', 501), 'o', 's', 1, 60, '[]')",
    "SELECT ipyrouter.reserve('r', 'o', repeat('s', 501), 1, 60, '[]')",
    "SELECT ipyrouter.reserve('r', 'o', 's', 1, 60, '[{\"pico\": \"much\", \"period\": \"day\"}]')",
    "SELECT ipyrouter.settle('held', -1)",
    "SELECT ipyrouter.settle('held', 'NaN')",
    "SELECT ipyrouter.settle('held', 1e300)",
    "SELECT ipyrouter.record('{}', 'record')",
    "SELECT ipyrouter.record('[1]', 'record')",
    "SELECT ipyrouter.record('null', 'record')",
    "SELECT ipyrouter.record('{\"request\": {}, \"attempts\": [{}]}', 'late')",
    'SELECT ipyrouter.record(\'{"request": {"time": 1e300}, "attempts": [{}]}\', \'restore\')',
    "SELECT ipyrouter.cached_or_claim(ARRAY[repeat('k', 65)::bytea], repeat('k', 65)::bytea, 'o', 60, 1)",
    "SELECT ipyrouter.pin('run', ARRAY[NULL::bytea])",
    "SELECT ipyrouter.pin(repeat('r', 501), ARRAY['k'::bytea])",
    "SELECT ipyrouter.put_run('run', -1, 0, '{}')",
    "SELECT ipyrouter.put_run('run', 0, 0, '[]')",
    "SELECT ipyrouter.put_run(NULL, 0, 0, '{}')",
    "SELECT ipyrouter.put_run('run', 0, 0, jsonb_build_object('prompt', repeat('long', 16000000)))",
    "SELECT ipyrouter.set_feedback('held', 'excellent')",
    "SELECT ipyrouter.report_outage(NULL, 500, 9)",
    "SELECT ipyrouter.report_outage('m', NULL, 9)",
)


@pytest.mark.parametrize("attack", HUGE)
def test_values_that_cannot_be_change_nothing(database: str, open_as: Open, attack: str) -> None:
    alice = open_as()
    alice.record(a_record("held"), None, 500)
    ask(database, "alice", "SELECT ipyrouter.reserve('held', 'o', 's', 5, 60, '[]')")
    with pytest.raises(psycopg.Error):
        ask(database, "alice", attack)
    assert ask(database, "owner", "SELECT id, pico FROM ipyrouter.reservation") == [("held", 5)]
    assert names(alice) == ["held"]
    assert alice.runs() == []
    assert ask(database, "owner", "SELECT count(*) FROM ipyrouter.run_rows") == [(0,)]
    assert alice.used(TODAY, SESSION) == DOLLAR // 2 + 5


def test_functions_out_of_order_do_no_harm(database: str, open_as: Open) -> None:
    set_budget(database, day="1")
    set_rates(database, tokens=100)
    for call in (
        "ipyrouter.settle('nothing', 0, 0)", "ipyrouter.release('nobody')", "ipyrouter.drop_run('none')",
        "ipyrouter.pin('none', ARRAY['k'::bytea])", "ipyrouter.forget_texts('none', 0)", "ipyrouter.clear_cache()",
        "ipyrouter.set_feedback('none', 'good')", "ipyrouter.report_outage('m', 500, 0)",
        "ipyrouter.reserve('x', 'o', 's', 1, 'NaN', '[]', -5)", "ipyrouter.reserve('x', 'o', 's', 1, 'NaN', '[]', 50)",
        "ipyrouter.settle('x', 0, -7)", "ipyrouter.release('o')", "ipyrouter.settle('x', 5, 5)",
    ):  # fmt: skip
        ask(database, "alice", f"SELECT {call}")
    bob = open_as("bob")
    assert ask(database, "owner", "SELECT count(*) FROM ipyrouter.reservation") == [(0,)]
    assert isinstance(bob.reserve(DOLLAR, [], SESSION, "b", 60, tokens=95), Reservation)
    assert isinstance(bob.reserve(0, [], SESSION, "b", 60, tokens=1), Busy)  # alice's 5 and his 95


@pytest.mark.parametrize(
    "words", ["'); DROP SCHEMA ipyrouter CASCADE; --", "%s %(a)s {}", "$$; SELECT 1; $$", "\\'\0\n"]
)
def test_sql_in_any_text_is_text(open_as: Open, words: str) -> None:
    store = open_as()
    session = Session(words, NOON, notebook=words)
    record = a_record(words, session=session, error=words, error_kind=words, prompt=words, fallback_from=words)
    tag = words.replace(",", ";")
    store.record(replace(record, tags=(tag,)), KEY, 500)
    kept = words.replace("\0", "\ufffd")
    (row,) = frame_of(store.log(LogFilter())).to_dict("records")
    for column in ("answer_id", "session", "notebook", "error", "error_kind", "prompt", "fallback_from", "tags"):
        assert row[column] == kept
    assert names(store) == [kept]
    for chosen in (LogFilter(tag=kept), LogFilter(notebook=kept, tag=kept, user="alice", team=postgres.TEAM)):
        assert [row.key.answer_id for row in store.page(chosen, 5)] == [kept]
        assert [one.group for one in store.totals(chosen, by="tags")] == [kept]
    assert store.totals(LogFilter(user=kept)) == store.totals(LogFilter(team=kept, status=kept)) == []
    store.report_outage(words, 500, 60)
    assert list(store.outages()) == [kept]
    assert len(store.log(LogFilter(notebook=kept, session=kept, model="m")).columns["time"]) == 1
    assert store.warnings() == []


def test_only_texts_are_forgotten_and_costs_stay(open_as: Open) -> None:
    store = open_as()
    store.record(a_record("a"), KEY, 500)
    store.record(a_record("b"), b"2" * 32, 500)
    with pytest.raises(StoreError, match="only its texts"):
        store.forget(None, None, content=False)
    assert store.forget("a", None, content=True) == 1
    rows = frame_of(store.log(LogFilter())).set_index("answer_id")
    assert rows.loc["a", ["prompt", "text"]].isna().all()
    assert rows.loc["b", "text"] == "text of b"
    assert (store.cached([KEY], 30), store.used(TODAY, SESSION)) == (None, DOLLAR)
    assert store.cached([b"2" * 32], 30) is not None


def test_a_team_that_logs_no_content_stores_none(database: str, open_as: Open) -> None:
    with postgres.server().connect(database) as owner:
        owner.execute("UPDATE ipyrouter.team SET content = false")
    open_as().record(a_record(prompt="secret"), None, 500)
    open_as().put_run(Run("run", NOON, NOON, {"prompt": "secret", "rows": 3}))
    assert [run.state for run in open_as().runs()] == [{"prompt": None, "rows": 3}]
    for table in ("texts", "attempt_texts", "runs"):
        assert "secret" not in str(ask(database, "owner", f"SELECT * FROM ipyrouter.{table}"))
        assert "text of" not in str(ask(database, "owner", f"SELECT * FROM ipyrouter.{table}"))


# --- what is shared ---


def test_an_answer_is_paid_once_by_a_team_and_apart_by_others(database: str, open_as: Open) -> None:
    alice, bob, other = open_as("alice"), open_as("bob"), open_as("oskar")
    owner = new_owner()
    assert alice.cached_or_claim([KEY], KEY, owner, 60, 30) == Claim(owner)
    assert bob.cached_or_claim([KEY], KEY, new_owner(), 60, 30) == Claim(owner)
    theirs = new_owner()
    assert other.cached_or_claim([KEY], KEY, theirs, 60, 30) == Claim(theirs)
    alice.record(a_record(owner=owner), KEY, 500)
    assert bob.cached([KEY], 30).text == "text of a"  # type: ignore[union-attr]
    assert other.cached([KEY], 30) is None
    with postgres.server().connect(database) as boss:
        boss.execute("UPDATE ipyrouter.team SET shares_cache = false")
    assert bob.cached([KEY], 30) is None
    bob.record(a_record("b"), KEY, 500)
    assert bob.cached([KEY], 30).text == "text of b"  # type: ignore[union-attr]


def test_the_claim_of_a_killed_kernel_of_this_machine_is_free_at_once(open_as: Open) -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    dead = new_owner().replace(f"/{os.getpid()}/", f"/{child.pid}/")
    store, mine = open_as(), new_owner()
    store.cached_or_claim([KEY], KEY, dead, 600, 30)
    assert store.cached_or_claim([KEY], KEY, mine, 600, 30) == Claim(mine)


# --- runs over columns ---


def test_a_members_runs_are_the_members_own_on_any_machine(database: str, open_as: Open) -> None:
    alice, bob, lead = (open_as(user) for user in ("alice", "bob", "lena"))
    alice.put_run(Run("run", NOON, NOON, {"prompt": "hers"}))
    bob.put_run(Run("run", NOON, NOON, {"prompt": "his"}))
    assert [run.state["prompt"] for store in (open_as("alice"), bob, lead) for run in store.runs()] == ["hers", "his"]
    assert bob.drop_run("run")
    assert bob.forget(None, None, content=True) == 0
    assert [run.id for run in alice.runs()] == ["run"]


def test_a_run_keeps_the_teams_answers_for_its_member_alone(database: str, open_as: Open) -> None:
    """Bob's run keeps what Alice has paid for: young enough or not for him, and for others as young as they say."""
    alice, bob, other = (open_as(user) for user in ("alice", "bob", "oskar"))
    alice.record(a_record("kept"), KEY, 500)
    alice.record(a_record("old"), b"o" * 32, 500)
    bob.pin("run", [KEY, KEY])
    other.pin("run", [b"o" * 32])
    with postgres.server().connect(database) as owner:
        owner.execute("UPDATE ipyrouter.cache SET created = created - 40 * 86400000000")
    alice.record(a_record("new"), b"n" * 32, 500, max_age_days=30)
    assert [answer and answer.text for answer in bob.cached_many([[KEY], [b"o" * 32]], 30)] == ["text of kept", None]
    assert alice.cached([KEY], 30) is None
    assert alice.cached([KEY], 50) is not None
    assert alice.cached([b"o" * 32], 50) is None
    bob.drop_run("run")
    alice.record(a_record("next"), b"n" * 32, 500, max_age_days=30)
    assert alice.cached([KEY], 50) is None


def test_a_run_that_keeps_more_than_there_is_room_for_drives_out_nothing_of_its_own(open_as: Open) -> None:
    store = open_as()
    for number in range(4):
        store.record(replace(a_record(f"{number}"), run="run"), bytes([number]) * 32, 0.0007)  # room for two
    store.record(a_record("other"), KEY, 0.0007)
    assert all(store.cached_many([[bytes([number]) * 32] for number in range(4)], 30))


def test_any_string_may_stand_in_a_runs_state(open_as: Open) -> None:
    store, state = open_as(), {"prompt": "'; \x00 \\u0000 \ud800 ü", "jobs": [{"id": "a\0", "keys": ["k"]}], "rows": 3}
    store.put_run(Run("run", NOON, NOON, state))
    ((kept,),) = ([run.state for run in store.runs()],)
    assert kept == {"prompt": "'; \ufffd \\u0000 \ufffd ü", "jobs": [{"id": "a\ufffd", "keys": ["k"]}], "rows": 3}
    assert store.warnings() == []


def test_a_batchs_money_is_promised_for_weeks_and_given_back_by_whoever_collects_it(
    database: str, open_as: Open
) -> None:
    owner, month = batch_owner(), Limit("this month", 10 * DOLLAR, "month")
    assert isinstance(open_as().reserve(DOLLAR, [month], SESSION, owner, 30 * 86_400), Reservation)
    ((seconds,),) = ask(database, "owner", "SELECT (expires - ipyrouter.now_us()) / 1000000 FROM ipyrouter.reservation")
    assert 29 * 86_400 < seconds <= 30 * 86_400
    later = open_as()
    assert later.used(month, SESSION) == DOLLAR
    later.release(owner)
    assert later.used(month, SESSION) == 0
    assert not later._local.is_there


# --- budgets ---


def test_a_teams_budget_holds_for_all_of_its_members_and_says_whose_it_is(database: str, open_as: Open) -> None:
    set_budget(database, day="1")
    alice, bob, other = open_as("alice"), open_as("bob"), open_as("oskar")
    alice.record(a_record(cost=Decimal("0.6")), None, 500)
    assert isinstance(bob.reserve(DOLLAR * 3 // 10, [TODAY], SESSION, "b", 60), Reservation)
    refused = alice.reserve(DOLLAR * 3 // 10, [TODAY], SESSION, "a", 60)
    assert isinstance(refused, Refusal)
    assert (refused.limit.name, refused.spent, refused.used) == ("your team today", DOLLAR * 6 // 10, DOLLAR * 9 // 10)
    assert isinstance(other.reserve(5 * DOLLAR, [], SESSION, "o", 60), Reservation)
    assert [limit.name for limit in alice.limits(SESSION)] == ["your team today"]
    assert other.limits(SESSION) == []


@pytest.mark.parametrize("member", ["*", "alice"])
def test_a_member_has_budgets_for_a_call_a_session_a_day_and_a_month(database: str, open_as: Open, member: str) -> None:
    set_budget(database, member=member, call="1", session="2", day="3", month="4")
    alice, bob = open_as("alice"), open_as("bob")

    def refused(dollars: float, session: str = "one") -> str | None:
        decided = alice.reserve(int(dollars * DOLLAR), [], Session(session, NOON), "x", 60)
        return decided.limit.name if isinstance(decided, Refusal) else None

    assert refused(1.5) == "you in your team a call"
    for number in range(2):
        alice.record(a_record(f"{number}", cost=Decimal(1), session=Session("one", NOON)), None, 500)
    assert refused(0.5) == "you in your team this session"
    alice.record(a_record("2", cost=Decimal("0.8"), session=Session("two", NOON)), None, 500)
    assert refused(0.5, "three") == "you in your team today"
    assert refused(0.2, "three") is None
    assert [isinstance(bob.reserve(DOLLAR // 2, [], SESSION, "b", 60), Reservation)] == [True]


def test_many_members_on_many_connections_never_overspend(database: str, open_as: Open) -> None:
    set_budget(database, day="1")
    stores = [open_as(user) for user in ("alice", "bob", "lena") for _ in range(3)]

    def spend(number: int) -> int:
        store, owner = stores[number % len(stores)], f"owner-{number}"
        if not isinstance(store.reserve(DOLLAR // 20, [], SESSION, owner, 60), Reservation):
            return 0
        store.record(a_record(f"r{number}", cost=Decimal("0.05"), owner=owner), None, 500)
        return 1

    with ThreadPoolExecutor(12) as pool:
        assert sum(pool.map(spend, range(90))) == 20
    assert ask(database, "owner", "SELECT sum(value) FROM ipyrouter.counter WHERE scope = 'team'") == [(DOLLAR,)]
    assert ask(database, "owner", "SELECT count(*) FROM ipyrouter.reservation") == [(0,)]


def set_rates(database: str, member: str = "", **rates: int | None) -> None:
    with postgres.server().connect(database) as owner:
        for statement in owning.set_rates(postgres.TEAM, member, rates):
            owner.execute(statement.encode())


@contextlib.contextmanager
def minutes(database: str) -> Iterator[Callable[[float], None]]:
    """The server's time, which stands still; gives what lets seconds pass."""
    now = microseconds(NOON)
    with postgres.server().connect(database) as owner:
        owner.execute(postgres.SET_CLOCK)

        def pass_(seconds: float) -> None:
            nonlocal now
            now += int(seconds * 1e6)
            owner.execute("UPDATE ipyrouter.clock SET moment = %s", (now,))

        pass_(0)
        yield pass_


def test_a_minutes_requests_hold_for_a_team_and_a_member_and_say_whose_they_are(database: str, open_as: Open) -> None:
    set_rates(database, requests=3)
    set_rates(database, "*", requests=2)
    alice, bob, other = open_as("alice"), open_as("bob"), open_as("oskar")
    assert [(rate.name, rate.most, rate.unit) for rate in alice.rates(SESSION)] == [
        ("you in your team", 2, "requests"), ("your team", 3, "requests"),
    ]  # fmt: skip
    assert other.rates(SESSION) == []

    def busy(store: PostgresStore) -> str | None:
        decided = store.reserve(0, [], SESSION, new_owner(), 60, tokens=1)
        assert isinstance(decided, Busy | Reservation)
        return f"{decided.rate.name}, {decided.used}, {decided.seconds:g} s" if isinstance(decided, Busy) else None

    with minutes(database) as pass_:
        assert [busy(alice), busy(alice)] == [None, None]
        pass_(20)
        assert busy(alice) == "you in your team, 2, 40 s"
        assert [busy(bob), busy(bob)] == [None, "your team, 3, 40 s"]
        assert busy(other) is None
        assert isinstance(bob.reserve(0, [], SESSION, "job", 60), Reservation)  # a batch is no call of this minute
        pass_(40)
        assert [busy(alice), busy(alice), busy(bob)] == [None, None, "your team, 3, 20 s"]
    set_rates(database, requests=None)
    set_rates(database, "*", requests=None)
    assert open_as().rates(SESSION) == []


def test_a_minutes_tokens_are_promised_and_settled(database: str, open_as: Open) -> None:
    set_rates(database, tokens=1000)
    alice, bob = open_as("alice"), open_as("bob")
    with minutes(database) as pass_:
        first = alice.reserve(0, [], SESSION, "a", 60, tokens=900)
        assert isinstance(first, Reservation)
        refused = bob.reserve(0, [], SESSION, "b", 60, tokens=200)
        assert isinstance(refused, Busy)
        assert (refused.rate.unit, refused.used) == ("tokens", 900)
        bob.settle(first.id, 0, 0)  # another's
        assert isinstance(bob.reserve(0, [], SESSION, "b", 60, tokens=200), Busy)
        alice.settle(first.id, 0, 100)
        assert isinstance(bob.reserve(0, [], SESSION, "b", 60, tokens=200), Reservation)
        # More than a minute holds waits for a whole one.
        assert isinstance(bob.reserve(0, [], SESSION, "b", 60, tokens=10**6), Busy)
        pass_(61)
        assert isinstance(bob.reserve(0, [], SESSION, "b", 60, tokens=10**6), Reservation)
        assert isinstance(alice.reserve(0, [], SESSION, "a", 60, tokens=1), Busy)


def test_many_members_on_many_connections_never_exceed_a_minute(database: str, open_as: Open) -> None:
    set_rates(database, requests=20)
    stores = [open_as(user) for user in ("alice", "bob", "lena") for _ in range(3)]

    def ask_for(number: int) -> bool:
        return isinstance(stores[number % 9].reserve(0, [], SESSION, f"o{number}", 60, tokens=1), Reservation)

    with minutes(database), ThreadPoolExecutor(12) as pool:
        assert sum(pool.map(ask_for, range(90))) == 20


def test_a_request_waits_for_the_teams_minute_and_says_so(database: str, tmp_path: Path, server: FaultServer) -> None:
    set_rates(database, requests=1)
    with minutes(database) as pass_:
        store = PostgresStore(postgres.server().url("alice", database), tmp_path / "team", clock=(clock := Happening()))
        clock.moved = lambda: pass_(10)  # the server's time passes while the request waits
        router = Router(server_config(server), store=store, clock=clock)
        assert router.route("Explain closures").notes == ()
        second = router.route("Explain decorators")
        assert "o/ok had to wait: 1 requests a minute for your team were used up." in second.notes
        assert router.route("Explain decorators").cached
        clock.moved = lambda: None
        with pytest.raises(BudgetError, match=r"o/ok must wait, and 0 of 1 requests a minute for your team are left"):
            router.route("Explain generators")
        router.close()


# --- outages ---

LUNA, OPUS = Candidate("openai", "gpt-6-luna"), Candidate("anthropic", "claude-opus-4-6")
SERVERS = {"o": {"sdk": "openai", "base_url": "http://localhost:1/v1", "key": "OPENAI_API_KEY"}}


def a_breaker(store: PostgresStore) -> Breaker:
    return Breaker(load({"providers": SERVERS}, environ={}), SystemClock(), store)


def fail(breaker: Breaker, candidate: Candidate, kind: FaultKind, status: int | None) -> None:
    reason = Reason(kind, f"{status}", f"{status} {kind}")
    breaker.record_failure(candidate, Fault(kind, "went wrong: a secret prompt", status=status), reason)


def in_order(breaker: Breaker, *candidates: Candidate) -> list[Candidate]:
    steps = tuple(Step("mid", candidate, call=None, deadlines=None) for candidate in candidates)
    return [step.candidate for step in breaker.order(steps)]


def cooling(breaker: Breaker, *candidates: Candidate) -> dict[str, str]:
    in_order(breaker, *candidates)
    return {name: error for name, error, _ in breaker.status()}


def test_a_services_outage_is_the_teams_and_ends_for_all(open_as: Open) -> None:
    alice, bob, other = (a_breaker(open_as(user)) for user in ("alice", "bob", "oskar"))
    fail(alice, LUNA, "server", 503)
    assert cooling(bob, LUNA, OPUS) == {"openai/gpt-6-luna": "503 to a colleague's call"}
    assert in_order(bob, LUNA, OPUS) == [OPUS, LUNA]
    assert cooling(other, LUNA, OPUS) == {}
    bob.record_success(LUNA)
    assert cooling(bob, LUNA) == {}
    assert cooling(a_breaker(open_as("lena")), LUNA) == {}


@pytest.mark.parametrize(
    ("kind", "status"),
    [("auth", 401), ("forbidden", 403), ("quota", 429), ("rate_limit", 429), ("connect", None), ("timeout", None)],
)
def test_what_may_be_a_kernels_own_fault_stays_there(open_as: Open, kind: FaultKind, status: int | None) -> None:
    alice = a_breaker(open_as())
    fail(alice, LUNA, kind, status)
    assert cooling(alice, LUNA) != {}
    assert cooling(a_breaker(open_as("bob")), LUNA) == {}


def test_a_server_of_ones_own_is_nobody_elses(database: str, open_as: Open) -> None:
    fail(a_breaker(open_as()), Candidate("o", "m"), "server", 500)
    assert cooling(a_breaker(open_as("bob")), Candidate("o", "m")) == {}
    assert ask(database, "owner", "SELECT count(*) FROM ipyrouter.outage") == [(0,)]


def test_no_member_can_make_an_outage_last(database: str, open_as: Open) -> None:
    ask(database, "alice", "SELECT ipyrouter.report_outage('openai/gpt-6-luna', 503, 1e300)")
    with pytest.raises(psycopg.Error):
        ask(database, "alice", "SELECT ipyrouter.report_outage(repeat('x', 501), 503, 9)")
    breaker = a_breaker(open_as("bob"))
    cooling(breaker, LUNA)
    ((_, _, left),) = breaker.status()
    assert left is not None
    assert left <= 60


def test_a_client_whose_clock_is_wrong_by_a_day_changes_nothing(open_as: Open) -> None:
    for days in (-1, 1):
        clock = ManualClock(dt.datetime.now(dt.UTC) + dt.timedelta(days=days))
        store = open_as(clock=clock)
        store.record(a_record(f"{days}", cost=Decimal("0.5")), KEY, 500, 30)
        assert isinstance(store.reserve(DOLLAR, [TODAY], SESSION, f"{days}", 60), Reservation)
        assert store.cached([KEY], 1) is not None
    assert open_as().used(TODAY, SESSION) == 3 * DOLLAR
    right = open_as()
    since = dt.datetime.now(dt.UTC) - dt.timedelta(minutes=10)
    assert len(right.page(LogFilter(since=since), 10)) == 2


# --- the rest of the router ---


def test_the_config_names_the_store_and_a_project_cannot(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    url = postgres.server().url("alice", database)
    project = tmp_path / "project"
    project.mkdir()
    monkeypatch.chdir(project)
    (project / "ipyrouter.toml").write_text(f'[store]\nurl = "{url}"\noffline_day = 5\n')
    home = tmp_path / "home"
    home.mkdir()
    (home / "config.toml").write_text(f'[trust]\nprojects = ["{project}"]\n')
    monkeypatch.setenv("IPYROUTER_HOME", str(home))
    assert Router().config.store_url is None
    monkeypatch.setenv("IPYROUTER_STORE__URL", url)
    router = Router({"preset": "current"})
    assert isinstance(router.store, PostgresStore)
    router.store.record(a_record("a", cost=Decimal("0.25")), None, 500)
    assert list(router.log()["answer_id"]) == ["a"]
    assert "0.25" in str(router.report(f"{dt.datetime.now(dt.UTC):%Y-%m-%d}"))
    router.close()
    capsys.readouterr()
    cli.main(["doctor"])
    assert "you are alice of team science" in capsys.readouterr().out


@pytest.mark.parametrize(
    "url", ["postgresql://a:secret@h/db", "postgresql://h/db?password=secret", "host=h", "mysql://h/db", "", 3]
)
def test_a_password_has_no_place_in_the_config(url: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"store.url must be postgresql://") as caught:
        Router({"store": {"url": url}}, home=tmp_path)
    assert "secret" not in str(caught.value)


def test_the_owner_makes_a_store_members_and_budgets_and_prunes_it(
    database: str, open_as: Open, capsys: pytest.CaptureFixture[str]
) -> None:
    owner = ["team", "--url", postgres.server().url("owner", database)]
    with postgres.server().connect(database) as boss:
        boss.execute("DROP SCHEMA ipyrouter CASCADE")
    assert cli.main([*owner, "upgrade"]) == 0
    assert cli.main([*owner, "upgrade"]) == 0
    assert cli.main([*owner, "add", 'o\'brien "x"', "--team", "l'équipe", "--content"]) == 0
    assert cli.main([*owner, "add", "alice", "--team", "l'équipe", "--lead"]) == 0
    assert cli.main([*owner, "budget", "--team", "l'équipe", "--day", "2.5", "--month", "50"]) == 0
    assert cli.main([*owner, "budget", "--team", "l'équipe", "--each", "--call", "0.1"]) == 0
    assert cli.main([*owner, "budget", "--team", "l'équipe", "--month", "none"]) == 0
    assert cli.main([*owner, "budget", "--team", "l'équipe", "--each", "--requests-per-minute", "60"]) == 0
    assert cli.main([*owner, "budget", "--team", "l'équipe", "--tokens-per-minute", "100000"]) == 0
    assert cli.main([*owner, "budget", "--team", "l'équipe", "--tokens-per-minute", "none"]) == 0
    assert cli.main([*owner, "budget", "--team", "l'équipe", "--requests-per-minute", "0"]) == 1
    assert cli.main([*owner, "budget", "--team", "l'équipe", "--requests-per-minute", "1.5"]) == 1
    alice = open_as()
    found = [(limit.name, limit.pico) for limit in alice.limits(SESSION)]
    assert sorted(found) == [("you in your team a call", DOLLAR // 10), ("your team today", 5 * DOLLAR // 2)]
    assert alice.rates(SESSION) == [Rate("you in your team", 60, "requests")]
    old = dt.datetime.now(dt.UTC) - dt.timedelta(days=100)
    alice.restore([a_record("old", created=old)])
    alice.record(a_record("new"), None, 500)
    alice.put_run(Run("over", old, old, {"prompt": "old"}))
    alice.put_run(Run("going on", old, dt.datetime.now(dt.UTC), {"prompt": "new"}))
    capsys.readouterr()
    assert cli.main([*owner, "prune", "--keep", "1", "--content-only"]) == 0
    assert capsys.readouterr().out == "Dropped 2 partitions.\n"
    assert frame_of(alice.log(LogFilter()))["text"].isna().tolist() == [True, False]
    assert [run.id for run in alice.runs()] == ["going on"]
    assert cli.main([*owner, "prune", "--keep", "1", "month"]) == 0
    assert capsys.readouterr().out == "Dropped 2 partitions.\n"
    assert names(alice) == ["new"]
    assert sum(row.rows for row in alice.totals(LogFilter())) == 2  # the sums stay
    assert cli.main([*owner, "add", "eve", "--team", "t", "--print"]) == 0
    assert 'CREATE ROLE "eve" LOGIN' in capsys.readouterr().out
    assert cli.main(["team", "--url", postgres.server().url("alice", database), "upgrade"]) == 1
    assert "Connect as its owner" in capsys.readouterr().err
    capsys.readouterr()
    for wrong, said in (
        (["--team", "nowhere", "--day", "1"], "there is no team nowhere"),
        (["--team", "l'équipe", "--member", "eve", "--day", "1"], "eve is not a member of the team l'équipe"),
        (["--team", "l'équipe", "--member", "eve", "--tokens-per-minute", "1"], "eve is not a member"),
    ):
        assert cli.main([*owner, "budget", *wrong]) == 1
        refused = capsys.readouterr().err
        assert said in refused
        assert "Make a member first: ipyrouter team add" in refused
    assert cli.main([*owner, "add", "$do$; DROP SCHEMA ipyrouter CASCADE; --", "--team", "$do$"]) == 0
    assert cli.main([*owner, "budget", "--team", "l'équipe", "--call", "1"]) == 1
    assert cli.main([*owner, "budget", "--team", "l'équipe", "--day", "much"]) == 1
    for keep in (["0"], ["13", "years"], ["13.5"], ["1201", "months"]):
        assert cli.main([*owner, "prune", "--keep", *keep]) == 1
        assert "is not a valid number of months" in capsys.readouterr().err


def test_who_begins_wrongly_hears_what_to_do(database: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    server = postgres.server()
    with server.connect(database) as owner:
        owner.execute("DO $$ BEGIN CREATE ROLE mallory LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$")
        owner.execute("CREATE DATABASE empty_one")
    for number, (url, remedy) in enumerate((
        (f"postgresql://alice@127.0.0.1:{postgres.free_port()}/x", "Check [store] url and the network."),
        (server.url("alice", "no_such_password"), "Check the database's name in [store] url."),
        (server.url("zoe", database), "Check the user in [store] url"),
        ("service=nowhere", "pg_service.conf"),
        (server.url("mallory", database), "ipyrouter team add USER --team TEAM"),
        (server.url("alice", "empty_one"), "ipyrouter team upgrade"),
    )):  # fmt: skip
        store = PostgresStore(url, tmp_path / str(number))
        health = store.health()
        assert not health.ok
        assert remedy in health.detail
        refused = store.reserve(DOLLAR, [], SESSION, "x", 60)
        assert isinstance(refused, Unavailable)
        assert remedy in refused.remedy
        store.close()
        for command in (["upgrade"], ["add", "eve", "--team", "t"]):
            if remedy != "ipyrouter team upgrade" or command != ["upgrade"]:
                assert cli.main(["team", "--url", url, *command]) == 1
                assert "StoreError: " in capsys.readouterr().err
    with server.connect("postgres") as owner:
        owner.execute("DROP DATABASE empty_one WITH (FORCE)")


def test_a_server_that_takes_no_writes_is_read_and_the_rest_follows(database: str, open_as: Open) -> None:
    open_as().record(a_record("before"), None, 500)
    with postgres.server().connect("postgres") as owner:
        owner.execute(f"ALTER DATABASE {database} SET default_transaction_read_only = on".encode())
        store = open_as()
        assert store.limits(SESSION) == []
        assert isinstance(store.reserve(DOLLAR, [], SESSION, "x", 60), Reservation)
        store.record(a_record("later"), None, 500)
        assert names(store) == ["before"]
        (warning,) = store.warnings()
        assert "takes no writes" in warning
        assert "has to name the primary" in warning
        assert "has to name the primary" in store.health().detail
        assert not store.health().ok
        owner.execute(f"ALTER DATABASE {database} RESET default_transaction_read_only".encode())
        store._server.close()
        assert sorted(names(store)) == ["before", "later"]


def test_psycopg_without_its_library_is_one_line(database: str, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from ipyrouter.errors import ConfigError;"
        "from ipyrouter.store.postgres import PostgresStore\n"
        "try: PostgresStore(sys.argv[1], Path(sys.argv[2])).health()\n"
        "except ConfigError as error: print(error)"
    )
    url = postgres.server().url("alice", database)
    environment = os.environ | {"PSYCOPG_IMPL": "c"}  # which nobody has
    found = subprocess.run(
        [sys.executable, "-c", code, url, str(tmp_path)], check=True, capture_output=True, text=True, env=environment
    )
    assert found.stdout.startswith("[store] url needs psycopg, and that fails (")
    assert found.stdout.endswith('Run: pip install "ipyrouter[team]"\n')


def test_an_older_ipyrouter_upgrades_no_newer_store(database: str, capsys: pytest.CaptureFixture[str]) -> None:
    with postgres.server().connect(database) as owner:
        owner.execute("INSERT INTO ipyrouter.schema_version VALUES (99)")
    assert cli.main(["team", "--url", postgres.server().url("owner", database), "upgrade"]) == 1
    assert "has version 99, this ipyrouter knows 1. Upgrade it: pip install" in capsys.readouterr().err


def test_what_is_left_of_a_teams_budget_and_minute_is_shown(
    database: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    set_budget(database, day="5")
    set_rates(database, requests=300)
    monkeypatch.setenv("IPYROUTER_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("IPYROUTER_STORE__URL", postgres.server().url("alice", database))
    router = Router()
    assert router.guard().standing() == [
        "budget for your team today: $5.00 left", "rate of your team: 300 of 300 requests a minute left",
    ]  # fmt: skip
    assert isinstance(router.store.reserve(DOLLAR, [], router.session, "x", 60, tokens=1), Reservation)
    assert router.guard().standing()[1] == "rate of your team: 299 of 300 requests a minute left"
    router.close()
    cli.main(["doctor"])
    shown = capsys.readouterr().out
    assert "budget for your team today: $4.00 left" in shown
    assert "rate of your team: 299 of 300 requests a minute left" in shown


def test_nothing_is_imported_or_opened_before_the_first_use(tmp_path: Path) -> None:
    code = (
        "import sys; from ipyrouter.router import Router;"
        "Router({'store': {'url': 'service=nowhere'}}, home=sys.argv[1]);"
        "assert 'psycopg' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)
    assert not (tmp_path / "outbox").exists()


def test_a_fork_has_connections_of_its_own(database: str, open_as: Open) -> None:
    store = open_as()
    store.record(a_record("parent"), None, 500)
    if (child := os.fork()) == 0:
        try:
            store.record(a_record("child"), None, 500)
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    store.record(a_record("parent again"), None, 500)
    assert sorted(names(store)) == ["child", "parent", "parent again"]


def test_idle_connections_are_closed(database: str, open_as: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "_IDLE", 0.05)
    open_as().health()
    query = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'alice' AND datname = current_database()"
    while ask(database, "owner", query) != [(0,)]:
        pass


def test_threads_get_a_connection_in_the_order_in_which_they_ask(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that asks again at once, whose thread runs already, comes after all those that wait."""
    monkeypatch.setattr(servers, "_MOST", 1)
    with postgres.server().connect(database) as owner, ThreadPoolExecutor(6) as pool:
        owner.execute("CREATE SEQUENCE turn")
        owner.execute("SELECT pg_advisory_lock(1)")
        server = servers.Server(postgres.server().url("alice", database))
        owner.execute("GRANT USAGE ON SEQUENCE turn TO alice")

        def turn() -> int:
            return int(server.call("SELECT nextval('turn')")[0][0])

        def twice() -> int:
            server.call("SELECT pg_advisory_xact_lock(1)")
            return turn()

        first = pool.submit(twice)
        while not ask(database, "owner", "SELECT FROM pg_locks WHERE NOT granted"):
            pass
        others = []
        for number in range(1, 6):
            others.append(pool.submit(turn))
            while len(server._turns._waiting) < number:
                pass
        owner.execute("SELECT pg_advisory_unlock(1)")
        assert [one.result() for one in others] == [1, 2, 3, 4, 5]
        assert first.result() == 6
        server.close()


def test_who_waits_in_vain_for_a_connection_says_so_and_takes_none_away(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(servers, "_MOST", 1)
    monkeypatch.setattr(servers, "_ANSWER", 0.2)
    server = servers.Server(postgres.server().url("alice", database))
    with postgres.server().connect(database) as owner, ThreadPoolExecutor(1) as pool:
        owner.execute("SELECT pg_advisory_lock(1)")
        first = pool.submit(server.call, "SELECT pg_advisory_xact_lock(1)")
        while not ask(database, "owner", "SELECT FROM pg_locks WHERE NOT granted"):
            pass
        with pytest.raises(AwayError, match="all connections of this process were in use"):
            server.call("SELECT 1")
        owner.execute("SELECT pg_advisory_unlock(1)")
        first.result()
        assert server.call("SELECT 1") == [(1,)]
        server.close()


# --- while the server is away ---


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    way = Proxy()
    yield way
    way.close()


@pytest.fixture
def impatient(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    """Try again at once, and wait a short time for what is held back, but for a slow machine as long as it takes."""
    monkeypatch.setattr(servers, "_AWAY", 0.0)
    seconds = property(lambda _: 1.0 if proxy.state == "stalled" else 300.0, lambda _, value: None)
    monkeypatch.setattr(servers.Connection, "seconds", seconds)


def through(proxy: Proxy, database: str, user: str = "alice") -> str:
    return postgres.server().url(user, database, port=proxy.port)


@pytest.mark.parametrize("fault", ["shut", "stalled"])
def test_what_is_answered_while_the_server_is_away_follows_once(
    database: str, open_as: Open, proxy: Proxy, impatient: None, fault: str
) -> None:
    store = open_as(url=through(proxy, database))
    store.record(a_record("before"), KEY, 500)
    proxy.set(fault)
    for number in range(3):
        store.record(a_record(f"away {number}", cost=Decimal("0.5")), b"%d" % number * 32, 500)
    (warning,) = {line.split(" (")[0] for line in store.warnings()}
    assert warning == "The team store is away"
    assert store.cached([b"1" * 32], 30).text == "text of away 1"  # type: ignore[union-attr]
    assert sorted(names(store)) == ["away 0", "away 1", "away 2"]  # this machine's own
    proxy.set("open")
    store.record(a_record("after"), None, 500)
    assert sorted(names(store)) == ["after", "away 0", "away 1", "away 2", "before"]
    assert store.used(TODAY, SESSION) == 5 * DOLLAR // 2
    assert names(open_as()) == names(store)


def test_a_run_that_goes_on_while_the_server_is_away_is_here_and_then_there(
    database: str, open_as: Open, proxy: Proxy, impatient: None
) -> None:
    store, hour = open_as(url=through(proxy, database)), dt.timedelta(hours=1)
    store.put_run(Run("before", NOON, NOON, {"done": 1}))
    proxy.set("shut")
    store.put_run(Run("before", NOON, NOON + hour, {"done": 2}))
    store.put_run(Run("away", NOON + 2 * hour, NOON + 2 * hour, {"done": 0}))
    with pytest.raises(StoreError, match=r"away .*and holds your runs"):  # it may hold a batch that is paid for
        store.runs()
    proxy.set("open")
    assert [run.state["done"] for run in store.runs()] == [0, 2]
    for name in ("before", "away"):
        store.put_run(Run(name, NOON + 3 * hour, NOON + 3 * hour, {"done": 3}))
    found = {run.id: (run.created, run.state["done"]) for run in open_as().runs()}
    assert found == {"before": (NOON, 3), "away": (NOON + 2 * hour, 3)}
    assert store._local.runs() == []


def test_what_this_machine_kept_meanwhile_is_forgotten_with_the_rest(
    database: str, open_as: Open, proxy: Proxy, impatient: None
) -> None:
    store = open_as(url=through(proxy, database))

    def bytes_here() -> bytes:
        return b"".join(file.read_bytes() for file in store._local.path.parent.glob("ipyrouter.db*"))

    proxy.set("shut")
    store.record(a_record("away", text="a secret answer"), KEY, 500)
    store.put_run(Run("away", NOON, NOON, {"prompt": "a secret prompt"}))
    assert b"secret answer" in bytes_here()
    proxy.set("open")
    assert store.forget("away", None, content=True) == 1
    assert b"secret answer" not in bytes_here()
    assert [run.id for run in store.runs()] == ["away"]
    store.forget(None, None, content=True)
    assert store.runs() == []
    assert b"secret" not in bytes_here()


def test_many_threads_that_send_what_waited_disturb_no_other(
    database: str, open_as: Open, proxy: Proxy, impatient: None
) -> None:
    store = open_as(url=through(proxy, database))
    proxy.set("shut")
    for number in range(120):
        store.record(a_record(f"away {number}"), None, 500)
    store.warnings()
    proxy.set("open")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: store.record(a_record(f"{number}"), None, 500), range(40)))
    assert len(set(names(store))) == len(names(store)) == 160
    assert [line for line in store.warnings() if "refuses" in line] == []


def test_a_request_whose_receipt_was_lost_is_there_once(
    database: str, open_as: Open, proxy: Proxy, impatient: None
) -> None:
    """The server has committed, and the connection is cut before it could say so."""
    store = open_as(url=through(proxy, database))
    store.health()
    with postgres.server().connect(database) as owner:
        owner.execute(
            "CREATE FUNCTION public.cut() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.5);"
            " RETURN NULL; END $$;"
            " CREATE CONSTRAINT TRIGGER cut AFTER INSERT ON ipyrouter.sums DEFERRABLE INITIALLY DEFERRED"
            " FOR EACH ROW EXECUTE FUNCTION public.cut()"
        )
    cut = threading.Timer(0.3, lambda: (proxy.set("shut"), proxy.set("open")))
    cut.start()
    store.record(a_record("once", cost=Decimal(1)), None, 500)
    cut.join()
    store.record(a_record("next", cost=Decimal(1)), None, 500)
    assert sorted(names(store)) == ["next", "once"]
    assert open_as().used(TODAY, SESSION) == 2 * DOLLAR


def test_budgets_block_while_the_server_is_away_unless_some_dollars_are_allowed(
    database: str, open_as: Open, proxy: Proxy, impatient: None
) -> None:
    set_budget(database, day="100")
    blocked = open_as(url=through(proxy, database))
    allowed = open_as(url=through(proxy, database), offline_day=Decimal(1))
    for store in (blocked, allowed):
        assert isinstance(store.reserve(DOLLAR, [], SESSION, "x", 60), Reservation)
        assert len(store.limits(SESSION)) == 1
    proxy.set("shut")
    refused = blocked.reserve(DOLLAR // 2, [], SESSION, "x", 60)
    assert isinstance(refused, Unavailable)
    assert "[store] offline_day" in refused.remedy
    assert isinstance(allowed.reserve(DOLLAR // 2, [], SESSION, "y", 60), Reservation)
    allowed.record(a_record("a", cost=Decimal("0.9"), owner="y"), None, 500)
    exceeded = allowed.reserve(DOLLAR // 2, [], SESSION, "z", 60)
    assert isinstance(exceeded, Refusal)
    assert exceeded.limit.name == "today while the team store is away"


def test_without_a_budget_nobody_waits_for_a_server_that_is_away(open_as: Open, proxy: Proxy, database: str) -> None:
    # A busy machine may take longer than the three seconds after which a server counts as away.
    store = open_as(url=f"{through(proxy, database)}?connect_timeout=60")
    assert store.limits(SESSION) == []
    proxy.set("shut")
    assert isinstance(store.reserve(DOLLAR, [], SESSION, "x", 60), Reservation)


def test_a_server_that_was_never_there_blocks_where_budgets_may_be_set(tmp_path: Path) -> None:
    store = PostgresStore(f"postgresql://a@127.0.0.1:{postgres.free_port()}/x", tmp_path)
    assert [limit.name for limit in store.limits(SESSION)] == ["your team"]
    assert isinstance(store.reserve(1, [], SESSION, "x", 60), Unavailable)
    store.record(a_record("a"), KEY, 500)
    assert names(store) == ["a"]
    assert not store.health().ok
    assert len(store.warnings()) == 1
    store.close()


def test_a_request_that_the_server_refuses_holds_nothing_up(
    database: str, open_as: Open, proxy: Proxy, impatient: None
) -> None:
    store = open_as(url=through(proxy, database))
    proxy.set("shut")
    for name in ("bad", "good"):
        store.record(a_record(name), None, 500)
    with postgres.server().connect(database) as owner:
        owner.execute("ALTER TABLE ipyrouter.answers ADD CONSTRAINT not_bad CHECK (id != 'bad')")
        proxy.set("open")
        assert names(store) == ["good"]
        assert any("refuses" in line for line in store.warnings())
        owner.execute("ALTER TABLE ipyrouter.answers DROP CONSTRAINT not_bad")
    store.close()
    assert sorted(names(open_as(url=through(proxy, database), folder=store._local.path.parent.parent))) == [
        "bad",
        "good",
    ]


# --- names of roles ---


@pytest.mark.parametrize("name", ["postgres", "pg_monitor", "pg_new", "public", migrations.MEMBERS])
def test_no_role_of_postgresql_becomes_a_member(name: str) -> None:
    for make in (
        lambda: owning.add_member(name, postgres.TEAM),
        lambda: owning.lend_login(name, postgres.TEAM, "x", NOON),
    ):
        with pytest.raises(UsageError, match="is a role of PostgreSQL itself"):
            make()


def test_a_member_before_the_store_is_told_what_comes_first(database: str) -> None:
    """On a server that has never held a store, the role of all members is missing as well."""
    url = postgres.server().url("owner", database)
    add = [statement.replace(migrations.MEMBERS, "no_such_role") for statement in owning.add_member("eve", "t")]
    with pytest.raises(StoreError, match=r"no_such_role.*Run: ipyrouter team upgrade"):
        owning.run(url, add)


@pytest.mark.parametrize("rights", ["SUPERUSER", "CREATEROLE", "CREATEDB", "REPLICATION", "BYPASSRLS", "owner", ""])
def test_a_hub_takes_over_no_role_of_the_database(database: str, rights: str) -> None:
    """The owner, an administrator, another program's login; and a user's own, whose password changes each time."""
    url, until = postgres.server().url("owner", database), dt.datetime.now(dt.UTC) + dt.timedelta(days=1)
    name = f"role {rights}"
    with postgres.server().connect(database) as owner:
        owner.execute(f'CREATE ROLE "{name}" LOGIN {rights if rights.isupper() else ""}'.encode())
        if rights == "owner":
            owner.execute(f'ALTER DATABASE {database} OWNER TO "{name}"'.encode())
        password = f"SELECT rolpassword FROM pg_authid WHERE rolname = '{name}'"
        try:
            with pytest.raises(StoreError, match=r"is a role of the database.*a login of its own"):
                owning.run(url, owning.lend_login(name, postgres.TEAM, "x", until))
            if rights:
                with pytest.raises(StoreError, match="is a role of the database itself"):
                    owning.run(url, owning.add_member(name, postgres.TEAM))
            assert owner.execute(password.encode()).fetchall() == [(None,)]
            assert owner.execute("SELECT FROM ipyrouter.member WHERE name = %s", (name,)).fetchall() == []
        finally:
            owner.execute(f'ALTER DATABASE {database} OWNER TO owner; DROP ROLE "{name}"'.encode())


def test_a_hubs_user_gets_a_password_for_a_time(database: str) -> None:
    url, until = postgres.server().url("owner", database), dt.datetime.now(dt.UTC) + dt.timedelta(days=1)
    for secret in ("first", "it's"):
        owning.run(url, owning.lend_login("o'hara", postgres.TEAM, secret, until))
    found = "SELECT rolvaliduntil, rolcanlogin, rolpassword != '' FROM pg_authid WHERE rolname = 'o''hara'"
    assert ask(database, "owner", found) == [(until, True, True)]
    assert ask(database, "o'hara", "SELECT ipyrouter.hello() ->> 'team'") == [(postgres.TEAM,)]


# --- what texts are held and found ---


def test_letters_beyond_a_to_z_are_found_as_they_are_written_whatever_the_databases_language(
    open_as: Open, tmp_path: Path
) -> None:
    stores = (open_as(), SQLiteStore(tmp_path / "file"))
    for store in stores:
        store.record(a_record("a", prompt="ÄPFEL, İSTANBUL and Titles"), None, 500)
    for text, number in (("äpfel", 0), ("ÄPFEL", 1), ("Äpfel", 1), ("istanbul", 0), ("TITLES", 1), ("tıtles", 0)):
        assert [len(store.page(LogFilter(text=text), 5)) for store in stores] == [number, number], text
    stores[1].close()


def test_a_text_beyond_all_bounds_is_cut_in_one_line_and_its_cost_is_logged(
    open_as: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "LONGEST_TEXT", 1000)
    store, huge = open_as(), "ü" * 1001
    store.record(a_record("huge", prompt=huge, text=huge), KEY, 500)
    assert store.warnings() == []
    assert store.cached([KEY], 30) is None  # half an answer is none
    kept = store.request("huge")
    assert kept is not None
    for text in (kept.prompt, kept.text):
        assert text is not None
        assert len(text) == 1000
        assert text.endswith("ü\n[Cut: the team's log keeps 1,000 of 1,001 characters.]")
    assert store.used(TODAY, SESSION) == DOLLAR // 2


def test_the_server_takes_no_longer_text_than_that(database: str, open_as: Open) -> None:
    open_as().record(a_record("a"), None, 500)
    change = "UPDATE ipyrouter.texts SET prompt = repeat('x', %s) RETURNING length(prompt)"
    assert ask(database, "owner", change, outbox.LONGEST_TEXT) == [(outbox.LONGEST_TEXT,)]
    with pytest.raises(psycopg.errors.CheckViolation):
        ask(database, "owner", change, outbox.LONGEST_TEXT + 1)
