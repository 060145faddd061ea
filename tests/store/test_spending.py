"""What was spent of a budget: as a database says it, as a process last knew it, and as a damaged file tells it."""

from __future__ import annotations

import datetime as dt
import itertools
import sqlite3
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

from ipyrouter.store.base import Limit, Refusal, Reservation, Unavailable, microseconds
from ipyrouter.store.owners import machine, new_owner
from ipyrouter.store.rows import MOST_PICO
from ipyrouter.store.sqlite import SQLiteStore, ledger, spending
from ipyrouter.store.sqlite.spending import Counter, LastKnown
from ipyrouter.types import Session
from tests.store.conftest import DAY, NOON, SESSION, ManualClock, a_record, without_constraints
from tests.store.test_faults import locked

FILE, NEXT_FILE = (1, 1), (1, 2)
DOLLAR = 10**12  # 1e-12 dollars
NOW = microseconds(NOON)
DAY_MICROSECONDS = 86_400_000_000
TODAY = NOW // DAY_MICROSECONDS


# --- which counters count ---


@pytest.mark.parametrize(
    ("day", "first"), [((2026, 11, 1), (2026, 11, 1)), ((2026, 11, 30), (2026, 11, 1)), ((2028, 2, 29), (2028, 2, 1))]
)
def test_a_month_is_the_sum_of_its_days_until_now(day: tuple[int, int, int], first: tuple[int, int, int]) -> None:
    now, begun = (dt.datetime(*one, tzinfo=dt.UTC) for one in (day, first))
    last = now + dt.timedelta(days=1, microseconds=-1)
    for moment in (now, last):
        counters = spending.counters(Limit("m", 1, "month"), SESSION, microseconds(moment))
        assert counters[0] == Counter(f"day:{begun.toordinal() - 719_163}", microseconds(begun))
        assert counters[-1] == Counter(f"day:{now.toordinal() - 719_163}", microseconds(now))
        assert len(counters) == now.day
        assert spending.counters(Limit("d", 1, "day"), SESSION, microseconds(moment)) == counters[-1:]


def test_a_session_is_one_counter_that_begins_with_it() -> None:
    counters = spending.counters(Limit("s", 1, "session"), SESSION, NOW + 10**12)
    assert counters == [Counter("session:session", NOW)]
    assert spending.counters_of("session", NOW) == (f"day:{TODAY}", "session:session")
    assert spending.counters_of("session", NOW, "x") == (f"day:{TODAY}", "session:session", "run:x")


# --- what a process knows ---


def last(known: LastKnown, name: str = "a", *, begun: int = 0, empty: bool = False) -> int | None:
    return known.last(Counter(name, begun), empty=empty)


def test_what_was_read_and_what_was_spent_since_is_known() -> None:
    known = LastKnown()
    known.spent(["a", "b"], 5)
    assert known.since(Counter("a", 0)) == known.since(Counter("b", 0)) == 5
    assert known.update("a", 100, FILE, NOW, lost=False) == 100  # which holds the 5
    assert last(known) == 100
    known.spent(["a"], 7)
    known.spent(["a"], 1)
    assert last(known) == 108
    assert known.since(Counter("a", 0)) == 8
    assert known.all() == {"a": 108}
    assert known.update("a", 109, FILE, NOW, lost=False) == 109
    assert known.update("a", 50, FILE, NOW, lost=False) == 50  # the same file: what it says


def test_of_a_counter_that_was_never_read_nothing_is_known() -> None:
    known = LastKnown()
    known.spent(["a"], 5)
    assert last(known) is None
    assert last(known, empty=True) == 5  # there is no file, so that nobody else can have spent anything
    known.update("b", 1, FILE, NOW, lost=False)
    assert last(known, empty=True) is None  # there was one
    assert last(known, begun=NOW - 1) is None
    assert last(known, begun=NOW) == 5  # its period began after the last look at the database
    known.update("b", 1, FILE, NOW - 10, lost=False)  # the clock was set back
    assert last(known, begun=NOW - 1) is None
    known.update("b", 1, FILE, NOW + 10, lost=False)
    assert last(known, begun=NOW + 9) is None
    assert last(known, begun=NOW + 10) == 5


def test_a_period_that_began_before_anything_was_read_is_unknown() -> None:
    assert last(LastKnown(), begun=NOW) is None


def test_a_new_file_holds_no_less_than_the_one_before() -> None:
    known = LastKnown()
    known.update("a", 100, FILE, NOW, lost=False)
    known.spent(["a"], 5)
    assert known.update("a", 10, NEXT_FILE, NOW, lost=False) == 105
    assert known.update("a", 30, NEXT_FILE, NOW, lost=False) == 125  # 20 more, in the new file
    assert last(known) == 125
    assert known.update("a", 500, FILE, NOW, lost=False) == 500  # one that holds more lacks nothing
    assert known.update("a", 500, FILE, NOW, lost=False) == 500


def test_a_counter_that_a_new_file_has_lost_is_unknown_unless_it_was_read() -> None:
    known = LastKnown()
    assert known.update("a", 10, FILE, NOW, lost=True) is None
    assert known.all() == {}
    known.update("b", 100, FILE, NOW, lost=False)
    assert known.update("b", 10, NEXT_FILE, NOW, lost=True) == 100


def test_a_forked_child_waits_for_no_thread_of_its_parent() -> None:
    known = LastKnown()
    known.spent(["a"], 5)
    with known._lock:  # as a thread of the parent may hold it, which the child does not have
        spending._after_fork_in_child()
        assert not known._lock.locked()
        known.spent(["a"], 1)
    assert known.since(Counter("a", 0)) == 6


# --- what a database says ---


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A database in which $0.5 and $0.25 were spent, on two days and in two sessions."""
    clock = ManualClock()
    store = SQLiteStore(tmp_path / "store", clock=clock)
    store.record(a_record("a", cost=Decimal("0.5")), None, 500)
    clock.pass_(DAY)
    store.record(a_record("b", cost=Decimal("0.25"), session=Session("other", NOON)), None, 500)
    store.close()
    return tmp_path / "store" / "ipyrouter.db"


SPENT = {
    f"day:{TODAY}": DOLLAR // 2, f"day:{TODAY + 1}": DOLLAR // 4, "session:session": DOLLAR // 2,
    "session:other": DOLLAR // 4,
}  # fmt: skip


def spent_of(counters: dict[str, int]) -> dict[str, int]:
    return {name: pico for name, pico in counters.items() if ":" in name}


def test_counters_come_back_to_the_last_picodollar(path: Path) -> None:
    with sqlite3.connect(path) as sql:
        assert spent_of(spending.read(sql) or {}) == SPENT
        amounts = {"day:1": 1, "day:2": 999_999, "day:3": 10**6, "day:4": 9 * 10**18 + 7, "day:5": 0}
        spending.write(sql, amounts)
        assert {name: pico for name, pico in (spending.read(sql) or {}).items() if name in amounts} == amounts
        spending.write(sql, {"day:1": 2})
        assert spent_of(spending.read(sql, ["day:1", "day:4", "day:9"]) or {}) == {"day:1": 2, "day:4": 9 * 10**18 + 7}
    sql.close()


@pytest.mark.parametrize(
    ("damage", "others"),
    [
        ("UPDATE counters SET value = value + 1 WHERE name = 'session:other'", {"session:session": DOLLAR // 2}),
        ("UPDATE counters SET name = x'ff' WHERE name = 'session:other'", {"session:session": DOLLAR // 2}),
        ("DELETE FROM counters WHERE name = 'counted'", None),  # there may have been more
    ],
)
def test_a_damaged_counter_is_not_believed(path: Path, damage: str, others: dict[str, int] | None) -> None:
    sql = without_constraints(path)
    sql.execute(damage)
    assert spending.read(sql) is None
    values = spending.read(sql, ["session:session"])
    assert (values and spent_of(values)) == others
    sql.close()


def test_what_a_damaged_file_tells_is_counted_anew_from_its_log(path: Path) -> None:
    sql = without_constraints(path)
    spending.write(sql, {"day:1": 7})  # of a file that was set aside before
    counters, complete = spending.salvage(sql)
    assert (spent_of(counters), complete) == ({**SPENT, "day:1": 7}, True)
    sql.execute("DELETE FROM counters WHERE name = 'counted'")
    assert spending.salvage(sql) == (SPENT, True)
    for (trigger,) in sql.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
        sql.execute(f"DROP TRIGGER {trigger}")
    sql.execute("DROP TABLE counters")
    assert spending.salvage(sql) == (SPENT, True)
    for odd in (-1, 0, MOST_PICO + 1, 0.5, "x", None):
        sql.execute("UPDATE attempts SET cost_pico = ? WHERE session = 'other'", (odd,))
        assert spending.salvage(sql) == ({name: SPENT[name] for name in (f"day:{TODAY}", "session:session")}, True)
    sql.execute("UPDATE attempts SET cost_pico = ? WHERE session = 'other'", (MOST_PICO,))
    assert spending.salvage(sql)[0]["session:other"] == MOST_PICO
    sql.execute("UPDATE attempts SET cost_pico = 1")
    assert spending.salvage(sql)[0]["session:other"] == 1
    sql.execute("UPDATE attempts SET session = 'session'")
    assert spending.salvage(sql)[0]["session:session"] == 2
    sql.execute("UPDATE attempts SET time = 'x', session = 'other' WHERE answer_id = 'b'")
    assert "session:other" not in spending.salvage(sql)[0]
    sql.execute("DROP TABLE attempts")
    assert spending.salvage(sql) == ({}, False)
    sql.close()


@pytest.mark.parametrize("lost", ["counters", "file"])
def test_the_budget_of_a_run_does_not_begin_again_after_damage(path: Path, lost: str) -> None:
    """The log names no runs, so that nothing can be counted anew."""
    limit, ours = Limit("this run", DOLLAR, "run"), replace(SESSION, run="x")
    clock = ManualClock(NOON + dt.timedelta(days=1))
    first = SQLiteStore(path.parent, clock=clock)
    first.record(a_record("of a run", cost=Decimal("0.25"), session=ours), None, 500)
    first.close()
    sql = without_constraints(path)
    sql.execute("UPDATE counters SET control = NULL WHERE name != 'counted'")
    sql.commit()
    sql.close()
    if lost == "file":
        lose(path)
    store = SQLiteStore(path.parent, clock=clock)
    assert not isinstance(reserve(store, "0.1", limit, session=ours), Reservation)
    later = Session("later", clock.at, run="y")
    clock.pass_(1)
    assert isinstance(reserve(store, "0.1", limit, session=later), Reservation)
    store.close()


# --- promises ---


@pytest.fixture
def sql(path: Path) -> sqlite3.Connection:
    return without_constraints(path)


def promise(
    sql: sqlite3.Connection, owner: object, pico: object = 5, expires: object = 100, lapses: object = 7.5
) -> None:
    row = (f"{owner} {pico} {expires} {lapses}", owner, "session", pico, expires, lapses, "run")
    sql.execute("INSERT INTO reservations VALUES (?, ?, ?, ?, ?, ?, ?)", row)


HERE, ELSEWHERE = new_owner(), "elsewhere/1/x"


@pytest.mark.parametrize(
    ("owner", "expires", "lapses", "now", "monotonic", "void"),
    [
        (HERE, 0, 10.0, 99, 10.0, False),  # of this machine the clock that nobody sets decides
        (HERE, 999, 10.0, 0, 10.1, True),
        (ELSEWHERE, 100, 0.0, 100, 99.0, False),
        (ELSEWHERE, 100, 999.0, 101, 0.0, True),
        (f"{machine()}/x/y", 999, 999.0, 0, 0.0, True),  # no process has such a number
        (b"\xff", 999, 999.0, 0, 0.0, True),  # damage
        (ELSEWHERE, 999.5, 999.0, 0, 0.0, True),
        (ELSEWHERE, 999, "x", 0, 0.0, True),
        (ELSEWHERE, 999, None, 0, 0.0, True),
        (ELSEWHERE, 999, 999, 0, 0.0, False),
    ],
    ids=itertools.count(),  # an owner's name is another one in each process
)
def test_who_holds_what(
    sql: sqlite3.Connection, owner: object, expires: object, lapses: object, now: int, monotonic: float, void: bool
) -> None:
    assert ledger.has_lapsed(owner, expires, lapses, now=now, monotonic=monotonic) is void
    promise(sql, owner, 5, expires, lapses)
    promise(sql, "elsewhere/2/lives", 7, 10**9, 10.0**9)
    assert sorted(one.pico for one in ledger._promises(sql, now, monotonic)) == ([7] if void else [5, 7])
    ledger.drop_lapsed(sql, "reservations", now, monotonic)
    rows = sql.execute("SELECT owner FROM reservations WHERE pico = 5").fetchall()
    assert rows == ([] if void else [(owner,)])
    assert sql.execute("SELECT pico FROM reservations WHERE pico = 7").fetchall() == [(7,)]
    sql.close()


def test_a_promise_that_cannot_be_is_none(sql: sqlite3.Connection) -> None:
    for pico in (0, -5, MOST_PICO + 1, 0.5, "x", None):
        promise(sql, ELSEWHERE, pico)
    assert list(ledger._promises(sql, 0, 0)) == []
    for pico in (1, MOST_PICO):
        promise(sql, ELSEWHERE, pico)
    assert sorted(ledger._promises(sql, 0, 0)) == [("session", "run", 1), ("session", "run", MOST_PICO)]
    sql.close()


# --- budgets over all of it ---

DAY_LIMIT, SESSION_LIMIT = Limit("today", DOLLAR, "day"), Limit("this session", DOLLAR, "session")
LENIENT = Limit("today", DOLLAR, "day", strict=False)


def reserve(
    store: SQLiteStore, dollars: str, *limits: Limit, session: Session = SESSION, owner: str = ELSEWHERE
) -> Reservation | Refusal | Unavailable:
    return store.reserve(int(Decimal(dollars) * DOLLAR), limits, session, owner, 60)


def test_money_is_promised_until_the_budget_is_used_up_to_the_last_picodollar(disk_store: SQLiteStore) -> None:
    disk_store.record(a_record("a", cost=Decimal("0.4")), None, 500)
    granted = reserve(disk_store, "0.6", DAY_LIMIT, SESSION_LIMIT)
    assert isinstance(granted, Reservation)
    assert granted.pico == 6 * DOLLAR // 10
    refused = reserve(disk_store, "0.000000000001", DAY_LIMIT)
    assert refused == Refusal(DAY_LIMIT, DOLLAR, 4 * DOLLAR // 10)
    assert reserve(disk_store, "0", DAY_LIMIT) != refused
    assert disk_store.used(DAY_LIMIT, SESSION) == disk_store.used(SESSION_LIMIT, SESSION) == DOLLAR


def test_the_budget_that_waiting_does_not_help_is_the_one_named(disk_store: SQLiteStore) -> None:
    """Nothing is spent of the other session's; what is promised of it may come back."""
    other = Session("other", NOON)
    disk_store.record(a_record("a", cost=Decimal("0.95")), None, 500)
    assert isinstance(reserve(disk_store, "0.9", session=other), Reservation)
    both = (Limit("this session", DOLLAR, "session"), Limit("today", DOLLAR, "day"))
    for dollars in ("0.2", "1"):  # what waits for promises may use up the session's budget to the last picodollar
        for limits in (both, both[::-1]):
            refused = reserve(disk_store, dollars, *limits, session=other)
            assert isinstance(refused, Refusal)
            assert refused.limit.period == "day"


def test_a_promise_lapses_by_both_clocks(disk_store: SQLiteStore, clock: ManualClock) -> None:
    for owner in (ELSEWHERE, HERE):
        assert isinstance(reserve(disk_store, "0.5", owner=owner), Reservation)
    assert disk_store.used(DAY_LIMIT, SESSION) == DOLLAR
    clock.set(NOON + dt.timedelta(seconds=60))
    assert disk_store.used(DAY_LIMIT, SESSION) == DOLLAR
    clock.set(NOON + dt.timedelta(seconds=60, microseconds=1))  # on another machine only this tells
    assert disk_store.used(DAY_LIMIT, SESSION) == DOLLAR // 2
    clock.pass_(59.5)
    assert disk_store.used(DAY_LIMIT, SESSION) == DOLLAR // 2
    clock.pass_(1)
    assert disk_store.used(DAY_LIMIT, SESSION) == 0


def test_only_what_an_owner_holds_is_given_back(disk_store: SQLiteStore) -> None:
    held = reserve(disk_store, "0.5", owner=HERE)
    assert isinstance(held, Reservation)
    reserve(disk_store, "0.25")
    disk_store.settle(held.id, DOLLAR // 8)
    assert disk_store.used(DAY_LIMIT, SESSION) == 3 * DOLLAR // 8
    disk_store.release("elsewhere/1/nobody")
    disk_store.release(HERE)
    assert disk_store.used(DAY_LIMIT, SESSION) == DOLLAR // 4
    disk_store.release(HERE)
    disk_store.release(ELSEWHERE)
    assert disk_store.used(DAY_LIMIT, SESSION) == 0


def lose(path: Path) -> None:
    """Leave a file that SQLite takes for no database, and of which nobody can read what was spent."""
    for extra in path.parent.glob("ipyrouter.db-*"):
        extra.unlink()
    path.write_bytes(b"no database at all " * 500)


def test_what_a_damaged_file_has_lost_is_unknown_for_the_days_and_sessions_that_it_knew(path: Path) -> None:
    lose(path)
    clock = ManualClock(NOON + dt.timedelta(days=2))
    store = SQLiteStore(path.parent, clock=clock)
    old, new = SESSION, Session("new", clock.at)
    reason = "the database was damaged, and what was spent before is lost"
    assert reserve(store, "0.1", DAY_LIMIT) == Unavailable(DAY_LIMIT, reason)
    assert store.used(DAY_LIMIT, old) == Unavailable(DAY_LIMIT, reason)
    assert store.used(SESSION_LIMIT, old) == Unavailable(SESSION_LIMIT, reason)
    assert store.used(SESSION_LIMIT, new) == 0
    month = Limit("this month", DOLLAR, "month")
    assert store.used(month, old) == Unavailable(month, reason)
    assert isinstance(reserve(store, "0.1", LENIENT), Reservation)
    store.record(a_record("later", cost=Decimal("0.5"), session=new), None, 500)
    assert isinstance(reserve(store, "0.6", LENIENT), Refusal)  # what is known counts
    clock.pass_(DAY)
    assert store.used(DAY_LIMIT, old) == 0
    assert isinstance(store.used(month, old), Unavailable)
    clock.set(dt.datetime(2026, 12, 1, tzinfo=dt.UTC))
    assert store.used(month, old) == 0
    store.close()
    again = SQLiteStore(path.parent, clock=clock)  # another process, which has read nothing
    assert isinstance(again.used(SESSION_LIMIT, old), Unavailable)
    assert again.used(SESSION_LIMIT, new) == DOLLAR // 2
    again.close()


def test_what_a_process_has_read_before_a_file_is_lost_counts(path: Path) -> None:
    clock = ManualClock(NOON + dt.timedelta(days=1))
    store = SQLiteStore(path.parent, clock=clock)
    assert store.used(DAY_LIMIT, SESSION) == DOLLAR // 4
    assert store.used(SESSION_LIMIT, SESSION) == DOLLAR // 2
    unused = Session("unused", NOON)
    assert store.used(SESSION_LIMIT, unused) == 0
    store.close()
    lose(path)
    store.record(a_record("new", cost=Decimal("0.125")), None, 500)
    assert store.used(DAY_LIMIT, SESSION) == 3 * DOLLAR // 8
    assert store.used(SESSION_LIMIT, SESSION) == 5 * DOLLAR // 8
    assert store.used(SESSION_LIMIT, unused) == 0
    store.close()
    again = SQLiteStore(path.parent, clock=clock)  # the new file has it
    assert again.used(DAY_LIMIT, SESSION) == 3 * DOLLAR // 8
    again.close()


def test_a_database_that_can_be_read_but_not_written_says_what_is_spent(path: Path) -> None:
    store = SQLiteStore(path.parent, clock=ManualClock(NOON + dt.timedelta(days=1)))
    store._database._busy = 0.01
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    held = reserve(store, "0.5", DAY_LIMIT)
    assert isinstance(held, Reservation)
    assert reserve(store, "0.5", DAY_LIMIT) == Refusal(DAY_LIMIT, 3 * DOLLAR // 4, DOLLAR // 4)
    store.settle(held.id, DOLLAR // 8)
    assert store.used(DAY_LIMIT, SESSION) == 3 * DOLLAR // 8
    store.release(ELSEWHERE)
    assert store.used(DAY_LIMIT, SESSION) == DOLLAR // 4
    other.execute("ROLLBACK")
    other.close()
    assert isinstance(reserve(store, "0.5", DAY_LIMIT), Reservation)
    store.close()


def test_damaged_counters_are_counted_anew_and_are_unknown_where_they_cannot_be(path: Path) -> None:
    clock = ManualClock(NOON + dt.timedelta(days=1))
    known, fresh, lenient = (SQLiteStore(path.parent, clock=clock) for _ in range(3))
    sql = without_constraints(path)
    sql.isolation_level = None

    def damage() -> None:
        sql.execute("UPDATE counters SET control = NULL WHERE name != 'counted'")

    damage()
    assert known.used(DAY_LIMIT, SESSION) == DOLLAR // 4
    assert known.used(SESSION_LIMIT, SESSION) == DOLLAR // 2
    damage()
    for store in (known, fresh, lenient):
        store._database._busy = 0.01
    sql.execute("BEGIN IMMEDIATE")  # nobody else can write
    assert known.used(DAY_LIMIT, SESSION) == DOLLAR // 4
    assert isinstance(reserve(known, "0.75", DAY_LIMIT), Reservation)
    unknown = Unavailable(DAY_LIMIT, "the database's counters are damaged")
    assert fresh.used(DAY_LIMIT, SESSION) == reserve(fresh, "0.5", DAY_LIMIT) == unknown
    assert lenient.used(LENIENT, SESSION) == 0
    assert isinstance(reserve(lenient, "1", LENIENT), Reservation)
    sql.execute("ROLLBACK")
    sql.close()
    assert fresh.used(DAY_LIMIT, SESSION) == DOLLAR // 4
    for store in (known, fresh, lenient):
        store.close()


def test_a_database_that_nobody_can_read_says_why(path: Path) -> None:
    store = SQLiteStore(path.parent, clock=ManualClock())
    with locked(store, path.parent):
        unavailable = Unavailable(DAY_LIMIT, "database is locked")
        assert store.used(DAY_LIMIT, SESSION) == reserve(store, "0.5", DAY_LIMIT) == unavailable
    store.close()


def test_of_a_damaged_file_what_it_tells_counts_where_that_is_more_than_was_read(path: Path) -> None:
    clock = ManualClock(NOON + dt.timedelta(days=1))
    store, other = (SQLiteStore(path.parent, clock=clock) for _ in range(2))
    assert store.used(DAY_LIMIT, SESSION) == DOLLAR // 4
    other.record(a_record("other", cost=Decimal("0.125")), None, 500)
    for one in (store, other):
        one.close()
    sql = sqlite3.connect(path)
    (page,) = sql.execute("SELECT rootpage FROM sqlite_master WHERE name = 'answers'").fetchone()
    sql.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    sql.close()
    data = bytearray(path.read_bytes())
    data[(page - 1) * 4096 : page * 4096] = b"\xff" * 4096
    path.write_bytes(data)
    store.record(a_record("new", cost=Decimal("0.25")), None, 500)
    assert store.used(DAY_LIMIT, SESSION) == 5 * DOLLAR // 8
    store.close()


def test_a_file_that_was_deleted_takes_no_spending_along(path: Path) -> None:
    store = SQLiteStore(path.parent, clock=ManualClock(NOON + dt.timedelta(days=1)))
    assert store.used(DAY_LIMIT, SESSION) == DOLLAR // 4
    store.close()
    for file in path.parent.glob("ipyrouter.db*"):
        file.unlink()
    store.record(a_record("new", cost=Decimal("0.125")), None, 500)
    assert store.used(DAY_LIMIT, SESSION) == 3 * DOLLAR // 8
    store.record(a_record("next", cost=Decimal("0.125")), None, 500)
    assert store.used(DAY_LIMIT, SESSION) == DOLLAR // 2
    store.close()


def test_what_is_spent_while_the_database_is_locked_counts(path: Path) -> None:
    store = SQLiteStore(path.parent, clock=ManualClock(NOON + dt.timedelta(days=1)))
    assert store.used(DAY_LIMIT, SESSION) == DOLLAR // 4
    assert store.used(SESSION_LIMIT, SESSION) == DOLLAR // 2
    with locked(store, path.parent):
        store.record(a_record("free", cost=None), None, 500)
        store.record(a_record("new", cost=Decimal("0.125")), None, 500)
        assert store.used(DAY_LIMIT, SESSION) == 3 * DOLLAR // 8
        assert store.used(SESSION_LIMIT, SESSION) == 5 * DOLLAR // 8
        assert isinstance(reserve(store, "0.625", DAY_LIMIT), Reservation)
        assert reserve(store, "0.125", DAY_LIMIT) == Refusal(DAY_LIMIT, DOLLAR, 3 * DOLLAR // 8)
    assert store.used(SESSION_LIMIT, SESSION) == 5 * DOLLAR // 8 + 5 * DOLLAR // 8
    store.close()
