"""The SQLite store while the disk refuses, after damage, and before there is a file: nothing known is forgotten."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from ipyrouter.errors import BudgetError
from ipyrouter.store.base import Limit, LogFilter, Refusal, Reservation, Unavailable
from ipyrouter.store.owners import new_owner
from ipyrouter.store.sqlite import SQLiteStore
from tests.store.conftest import NOON, SESSION, ManualClock, a_record, without_constraints
from tests.store.test_contract_log import agree, frame
from tests.test_router import MakeRouter

DOLLAR = 10**12
TODAY = Limit("today", DOLLAR, "day")
MONTH = Limit("this month", DOLLAR, "month")
OURS = Limit("this session", DOLLAR, "session")
LIMITS = [TODAY, MONTH, OURS]


@contextlib.contextmanager
def locked(store: SQLiteStore, folder: Path) -> Iterator[None]:
    """Let another program hold the database, so that neither reading nor writing is possible."""
    store.close()
    store._database._busy = 0.01
    other = sqlite3.connect(folder / "ipyrouter.db", isolation_level=None)
    other.execute("PRAGMA journal_mode = DELETE")
    other.execute("BEGIN EXCLUSIVE")
    try:
        yield
    finally:
        other.execute("ROLLBACK")
        other.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "store"


def used(store: SQLiteStore) -> list[Any]:
    amounts = [store.used(limit, SESSION) for limit in LIMITS]
    return [one.reason if isinstance(one, Unavailable) else one / DOLLAR for one in amounts]


def reserve(store: SQLiteStore, dollars: str) -> Reservation | Refusal | Unavailable:
    return store.reserve(int(Decimal(dollars) * DOLLAR), LIMITS, SESSION, new_owner(), 60)


# --- before there is a file ---


def test_reading_makes_no_file(disk_store: SQLiteStore, folder: Path) -> None:
    store = disk_store
    assert store.cached([b"k" * 32], 30) is None
    assert len(store.log(LogFilter()).columns["time"]) == 0
    assert list(store.parts(LogFilter())) == []
    assert store.page(LogFilter(), 5) == []
    assert store.totals(LogFilter()) == []
    assert store.top(None, None, "cost", 5) == []
    assert store.overview(3).days == ()
    assert store.last_calls() == []
    assert used(store) == [0, 0, 0]
    assert store.health().ok
    store.release(new_owner())
    store.close()
    assert store.warnings() == []
    assert not folder.exists()


def test_a_dry_run_and_a_look_back_make_no_file(make_router: MakeRouter, home: Path) -> None:
    router = make_router(budget={"session": 1, "day": 1, "month": 1})
    assert router.preview("Explain closures").notes == ()
    assert len(router.log()) == 0
    assert router.report(span="all").calls == 0
    assert len(router.compare()) == 4
    assert router.guard().left() == {"this session": 1, "today": 1, "this month": 1}
    router.close()
    assert not home.exists()


def test_a_dry_run_writes_nothing(make_router: MakeRouter, home: Path) -> None:
    router = make_router(budget={"day": 1})
    router.route("Explain closures")
    router.close()
    before = (home / "ipyrouter.db").read_bytes()
    again = make_router(budget={"day": 1})
    assert again.preview("Explain closures").cached
    assert not again.preview("Explain closures again").cached
    again.close()
    assert (home / "ipyrouter.db").read_bytes() == before


# --- memory, and back to the disk ---


def test_what_comes_while_memory_moves_to_the_disk_is_kept(disk_store: SQLiteStore, folder: Path) -> None:
    """A record of another thread, acknowledged while the first thread's transaction is under way."""
    store = disk_store
    store.record(a_record("first"), None, 500)
    with locked(store, folder):
        store.record(a_record("in memory"), None, 500)
    begun = threading.Event()
    names = [f"restored {number}" for number in range(500)]

    def restore() -> None:
        begun.set()
        store.restore([a_record(name, created=NOON) for name in names])

    moving = threading.Thread(target=restore)
    moving.start()
    begun.wait()
    store.record(a_record("meanwhile"), None, 500)
    moving.join()
    store.record(a_record("last"), None, 500)
    expected = sorted([*names, "first", "in memory", "meanwhile", "last"])
    assert sorted(frame(store)["answer_id"]) == expected
    store.close()
    again = SQLiteStore(folder)
    assert sorted(frame(again)["answer_id"]) == expected
    agree(again, LogFilter())
    again.close()


def test_every_row_can_be_read_while_memory_moves(disk_store: SQLiteStore, folder: Path) -> None:
    store = disk_store
    store.record(a_record("on disk"), None, 500)
    for number in range(20):
        with locked(store, folder):
            store.record(a_record(f"{number:02}"), None, 500)
        stop = threading.Event()
        counts: list[int] = []

        def look(stop: threading.Event = stop, counts: list[int] = counts) -> None:
            while not stop.is_set():
                counts.append(len(store.log(LogFilter()).columns["time"]))

        thread = threading.Thread(target=look)
        thread.start()
        store.set_feedback("on disk", "good")  # moves it
        stop.set()
        thread.join()
        assert set(counts) <= {number + 2}


# --- budgets while the database refuses ---


def test_budgets_count_what_was_last_known_and_what_was_spent_since(disk_store: SQLiteStore, folder: Path) -> None:
    store = disk_store
    store.record(a_record("a", cost=Decimal("0.5")), None, 500)
    assert used(store) == [0.5, 0.5, 0.5]
    with locked(store, folder):
        assert isinstance(reserve(store, "0.6"), Refusal)
        store.record(a_record("b", cost=Decimal("0.3")), None, 500)
        assert used(store) == [0.8, 0.8, 0.8]
        held = reserve(store, "0.15")
        assert isinstance(held, Reservation)
        assert isinstance(reserve(store, "0.15"), Refusal)
        store.settle(held.id, DOLLAR // 10)
        assert used(store) == [0.9, 0.9, 0.9]
    assert used(store) == [0.9, 0.9, 0.9]
    store.record(a_record("c", cost=Decimal("0.05")), None, 500)
    assert used(store) == [0.95, 0.95, 0.95]


def test_what_another_process_spends_counts_once_it_can_be_read(disk_store: SQLiteStore, folder: Path) -> None:
    store, clock = disk_store, ManualClock()
    store.record(a_record("a", cost=Decimal("0.5")), None, 500)
    assert used(store) == [0.5, 0.5, 0.5]
    other = SQLiteStore(folder, clock=clock)
    other.record(a_record("other", cost=Decimal("0.25")), None, 500)
    other.close()
    with locked(store, folder):
        assert used(store) == [0.5, 0.5, 0.5]
    assert used(store) == [0.75, 0.75, 0.75]


def test_where_nothing_is_known_a_strict_budget_is_unavailable(folder: Path, clock: ManualClock) -> None:
    first = SQLiteStore(folder, clock=clock)
    first.record(a_record("a", cost=Decimal("0.9")), None, 500)
    first.close()
    store = SQLiteStore(folder, clock=clock)  # another process, which has read nothing
    with locked(store, folder):
        refused = reserve(store, "0.1")
        assert isinstance(refused, Unavailable)
        assert "locked" in refused.reason
        assert "locked" in used(store)[0]
        lenient = [Limit(one.name, one.pico, one.period, strict=False) for one in LIMITS]
        assert isinstance(store.reserve(DOLLAR // 2, lenient, SESSION, "o", 60), Reservation)
        store.record(a_record("b", cost=Decimal("0.3")), None, 500)
        assert isinstance(store.reserve(DOLLAR // 2, lenient, SESSION, "o", 60), Refusal)  # what is known counts
    assert isinstance(reserve(store, "0.1"), Refusal)
    store.close()


def test_a_blocked_call_says_what_to_do_where_nothing_is_known(make_router: MakeRouter, home: Path) -> None:
    first = make_router()
    first.route("Explain closures")
    first.close()
    router = make_router(budget={"day": 1, "action": "block"})
    with locked(router.store, home):  # type: ignore[arg-type]
        with pytest.raises(BudgetError, match=r"it is unknown what is left of the budget of \$1\.00 for today.*locked"):
            router.route("Explain generators")
        assert router.guard().left() == {"today": None}
        with pytest.raises(BudgetError, match=r'set budget\.action = "downgrade"'):
            router.route("Explain generators")
        lenient = make_router(budget={"day": 1})
        lenient.store._database._busy = 0.01  # type: ignore[attr-defined]
        assert lenient.route("Explain generators").text
    assert router.route("Explain generators").text


# --- damage ---


def damaged(folder: Path) -> None:
    """Make a file that SQLite takes for no database, and whose counters nobody can read."""
    for extra in folder.glob("ipyrouter.db-*"):
        extra.unlink()
    (folder / "ipyrouter.db").write_bytes(b"no database at all " * 500)


def test_budgets_go_on_after_the_database_was_set_aside(disk_store: SQLiteStore, folder: Path) -> None:
    store = disk_store
    store.record(a_record("a", cost=Decimal("0.5")), None, 500)
    assert used(store) == [0.5, 0.5, 0.5]
    store.close()
    damaged(folder)
    assert isinstance(reserve(store, "0.6"), Refusal)
    store.record(a_record("b", cost=Decimal("0.25")), None, 500)
    assert used(store) == [0.75, 0.75, 0.75]
    (line,) = store.warnings()
    assert "was damaged" in line
    again = SQLiteStore(folder, clock=ManualClock())  # another process finds what the first one knew
    assert used(again) == [0.75, 0.75, 0.75]
    again.close()


def test_a_process_that_knew_nothing_does_not_begin_at_zero(folder: Path, clock: ManualClock) -> None:
    first = SQLiteStore(folder, clock=clock)
    first.record(a_record("a", cost=Decimal("0.5")), None, 500)
    first.close()
    damaged(folder)
    store = SQLiteStore(folder, clock=clock)
    refused = reserve(store, "0.1")
    assert isinstance(refused, Unavailable)
    assert "what was spent before is lost" in refused.reason
    store.close()
    again = SQLiteStore(folder, clock=clock)
    assert isinstance(reserve(again, "0.1"), Unavailable)
    clock.pass_(40 * 86_400.0)  # a new month, of which all is known
    session = type(SESSION)("new", clock.now())
    assert isinstance(again.reserve(DOLLAR, [TODAY, MONTH], session, new_owner(), 60), Reservation)
    again.close()


def test_what_can_still_be_read_of_a_damaged_file_counts(folder: Path, clock: ManualClock) -> None:
    first = SQLiteStore(folder, clock=clock)
    for number in range(200):
        first.record(a_record(f"{number:03}", cost=Decimal("0.002"), prompt="long " * 300), None, 500)
    first.close()
    path = folder / "ipyrouter.db"
    data = bytearray(path.read_bytes())
    (root,) = sqlite3.connect(path).execute("SELECT rootpage FROM sqlite_master WHERE name = 'answers'").fetchone()
    data[(root - 1) * 4096 : root * 4096] = b"\xff" * 4096
    path.write_bytes(data)
    store = SQLiteStore(folder, clock=clock)
    store.record(a_record("new", cost=Decimal("0.1")), None, 500)
    assert used(store) == [0.5, 0.5, 0.5]
    assert list(frame(store)["answer_id"]) == ["new"]
    store.close()


@pytest.mark.parametrize("change", ["value = 0", "value = value * 1000", "value = 'x'", "rest = -1", "control = NULL"])
def test_a_damaged_counter_is_counted_anew(disk_store: SQLiteStore, folder: Path, change: str) -> None:
    store = disk_store
    store.record(a_record("a", cost=Decimal("0.5")), None, 500)
    store.close()
    connection = without_constraints(folder / "ipyrouter.db")
    connection.execute(f"UPDATE counters SET {change} WHERE name != 'counted'")
    connection.commit()
    connection.close()
    assert used(store) == [0.5, 0.5, 0.5]
    assert isinstance(reserve(store, "0.4"), Reservation)
    assert isinstance(reserve(store, "0.4"), Refusal)


@pytest.mark.parametrize("part", ["INDEX attempts_time", "TRIGGER attempts_added", "TABLE sums", "TABLE counters"])
def test_a_lost_part_of_the_schema_is_made_anew(disk_store: SQLiteStore, folder: Path, part: str) -> None:
    store = disk_store
    store.record(a_record("a", cost=Decimal("0.5")), b"k" * 32, 500)
    store.close()
    connection = sqlite3.connect(folder / "ipyrouter.db")
    connection.execute(f"DROP {part}")
    connection.commit()
    connection.close()
    store.record(a_record("b", cost=Decimal("0.25")), None, 500)
    assert sorted(frame(store)["answer_id"]) == ["a", "b"]
    agree(store, LogFilter())
    assert used(store) == [0.75, 0.75, 0.75]
    assert store.cached([b"k" * 32], 30) is not None
    assert store.warnings() == []


ODD: list[Any] = [
    "x",
    b"\xff",
    b"",
    -(2**63),
    2**63 - 1,
    -1,
    1e300,
    0.5,
    float("inf"),
    -float("inf"),
    "",
    "9" * 30,
    ",",
]


@pytest.mark.parametrize("value", ODD, ids=repr)
def test_a_damaged_value_costs_no_other_row(disk_store: SQLiteStore, folder: Path, value: object) -> None:
    """Each column of the first of three requests, one after the other; the other two are always read."""
    store = disk_store
    for name in "abc":
        store.record(a_record(name), None, 500)
    store.close()
    connection = sqlite3.connect(folder / "ipyrouter.db", isolation_level=None)
    for table, key in (("answers", "id"), ("attempts", "answer_id")):
        for column in [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]:
            connection.execute("BEGIN")
            connection.execute(f"UPDATE {table} SET {column} = ? WHERE {key} = 'a'", (value,))
            connection.execute("COMMIT")
            assert {"b", "c"} <= set(frame(store)["answer_id"]), column
            assert {"b", "c"} <= {row.key.answer_id for row in store.page(LogFilter(), 5)}, column
            whole = store.totals(LogFilter())
            assert sum(row.cost_pico for row in whole if row.model == "m") >= DOLLAR, column
            assert {"b", "c"} <= {row.answer_id for row in store.top(None, None, "cost", 5)}, column
            assert store.last_calls(), column
            store.record(a_record(f"{table}.{column}"), None, 500)
            connection.execute(f"DELETE FROM {table} WHERE {key} NOT IN ('b', 'c')")
            connection.execute("DELETE FROM attempts WHERE answer_id NOT IN ('b', 'c')")
            connection.execute("DELETE FROM answers WHERE id NOT IN ('b', 'c')")
            store.record(a_record("a"), None, 500)
    connection.close()
    assert store.warnings() == []


@pytest.mark.parametrize("refuses", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["writable", "read-only"])
@pytest.mark.parametrize("value", ODD, ids=repr)
def test_a_damaged_sum_stops_no_reader(disk_store: SQLiteStore, folder: Path, value: object, refuses: bool) -> None:
    """Each column of the sums, also where they cannot be written again."""
    store = disk_store
    store.record(a_record("a"), None, 500)
    names = {one.model for one in store.last_calls()}
    connection = sqlite3.connect(folder / "ipyrouter.db", isolation_level=None)
    for column in [row[1] for row in connection.execute("PRAGMA table_info(sums)")]:
        (before,) = connection.execute(f"SELECT {column} FROM sums").fetchone()
        connection.execute(f"UPDATE OR IGNORE sums SET {column} = ?", (value,))
        if refuses:
            connection.execute("CREATE TRIGGER refuse BEFORE DELETE ON sums BEGIN SELECT RAISE(ABORT, 'refused'); END")
        store.totals(LogFilter())
        store.top(None, None, "cost", 5)
        store.top(None, None, "latency", 5)
        store.overview(31)
        assert {one.model for one in store.last_calls()} <= names, column
        assert len(store.page(LogFilter(), 5)) <= 1, column
        assert list(frame(store)["answer_id"]) == ["a"], column
        if refuses:
            connection.execute("DROP TRIGGER refuse")
        elif isinstance(before, int) and value != 2**63 - 1:  # a number that cannot be is computed again
            assert sum(one.cost_pico for one in store.totals(LogFilter())) == DOLLAR / 2, column
        connection.execute("DELETE FROM sums")
        store.totals(LogFilter())
    connection.close()
