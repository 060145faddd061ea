"""Threads that write at the same time share a transaction, and none of them pays for another's fault."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ipyrouter.store.base import LogFilter
from ipyrouter.store.sqlite import SQLiteStore
from tests.store.conftest import a_record
from tests.store.test_faults import locked

THREADS = 12


def while_one_writes(store: SQLiteStore, works: list[Callable[[], object]]) -> tuple[list[Exception], list[str]]:
    """Run works on threads that all wait for one writer; return what they raise, and SQLite's statements after it."""
    writes, goes_on = threading.Event(), threading.Event()
    raised: list[Exception] = []
    statements: list[str] = []

    def hold(sql: sqlite3.Connection) -> None:
        sql.set_trace_callback(statements.append)
        writes.set()
        assert goes_on.wait(60)

    def run(work: Callable[[], object]) -> None:
        try:
            work()
        except Exception as error:  # noqa: BLE001  it is what is looked at
            raised.append(error)

    first = threading.Thread(target=store._database.write, args=(hold,))
    first.start()
    assert writes.wait(60)
    others = [threading.Thread(target=run, args=(work,)) for work in works]
    for thread in others:
        thread.start()
    until = time.monotonic() + 60
    while len(store._database._waiting) < len(works) and time.monotonic() < until:
        time.sleep(0.01)
    goes_on.set()
    for thread in (first, *others):
        thread.join(60)
        assert not thread.is_alive()
    return raised, statements[statements.index("COMMIT") + 1 :]


def records(store: SQLiteStore) -> list[Callable[[], object]]:
    return [lambda name=f"a{n}": store.record(a_record(name), None, 1) for n in range(THREADS)]  # type: ignore[misc]


def logged(store: SQLiteStore) -> list[str]:
    return sorted(map(str, store.log(LogFilter()).values("answer_id")))


NAMES = sorted(f"a{n}" for n in range(THREADS))


def test_those_who_wait_share_a_transaction(disk_store: SQLiteStore) -> None:
    raised, statements = while_one_writes(disk_store, records(disk_store))
    assert not raised
    assert statements.count("COMMIT") == 1
    assert logged(disk_store) == NAMES


def test_each_gets_the_result_of_its_own_work(disk_store: SQLiteStore) -> None:
    results: dict[int, int] = {}

    def ask(number: int) -> None:
        results[number] = disk_store._database.write(lambda sql: int(sql.execute("SELECT ?", (number,)).fetchone()[0]))

    raised, _ = while_one_writes(disk_store, [lambda n=n: ask(n) for n in range(THREADS)])  # type: ignore[misc]
    assert not raised
    assert results == {number: number for number in range(THREADS)}


@pytest.mark.parametrize("place", [0, THREADS // 2, THREADS])
def test_what_fails_costs_nobody_else(disk_store: SQLiteStore, place: int) -> None:
    def fails(sql: sqlite3.Connection) -> None:
        sql.execute("DELETE FROM answers")
        raise KeyError("a fault of this work")

    works = records(disk_store)
    works.insert(place, lambda: disk_store._database.write(fails))
    raised, _ = while_one_writes(disk_store, works)
    assert [type(error) for error in raised] == [KeyError]
    assert logged(disk_store) == NAMES
    assert not disk_store.warnings()


def test_where_the_disk_refuses_each_is_kept_and_moves_there_later(disk_store: SQLiteStore, tmp_path: Path) -> None:
    folder = tmp_path / "store"
    disk_store.record(a_record("before"), None, 1)
    with locked(disk_store, folder):
        threads = [threading.Thread(target=work) for work in records(disk_store)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
            assert not thread.is_alive()
        assert len(disk_store.warnings()) == 1
    disk_store.record(a_record("after"), None, 1)
    disk_store.close()
    again = SQLiteStore(folder)
    assert logged(again) == sorted(["after", "before", *NAMES])
    again.close()
