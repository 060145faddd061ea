"""A file of every older version becomes one of this version, whole, and says what it said before."""

from __future__ import annotations

import datetime as dt
import gzip
import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from ipyrouter.errors import StoreError
from ipyrouter.reporting.compare import compare
from ipyrouter.reporting.log import frame_of
from ipyrouter.reporting.report import report
from ipyrouter.router import Router
from ipyrouter.store.base import Claim, Limit, LogFilter, Refusal, Reservation
from ipyrouter.store.sqlite import SQLiteStore
from ipyrouter.store.sqlite.migrations import MIGRATIONS, VERSION
from ipyrouter.types import Session
from tests.conftest import run_python
from tests.store.conftest import SESSION, ManualClock, a_record
from tests.store.test_contract_log import ALL, STEPS, agree

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
# Made by the last code of version 1, through its router and its two SDKs, with what that code said of it.
BEFORE: dict[str, Any] = json.loads(gzip.decompress((HERE / "version-1.json.gz").read_bytes()))


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A home folder with a database of version 1."""
    home = tmp_path / "old"
    home.mkdir(mode=0o700)
    (home / "ipyrouter.db").write_bytes(gzip.decompress((HERE / "version-1.db.gz").read_bytes()))
    (home / "ipyrouter.db").chmod(0o600)
    return home


@pytest.fixture
def store(old: Path) -> Iterator[SQLiteStore]:
    last = dt.datetime.fromisoformat(BEFORE["log"][-1]["time"])
    migrated = SQLiteStore(old, clock=ManualClock(last + dt.timedelta(seconds=1)))
    yield migrated
    migrated.close()


def test_every_row_is_there_as_it_was(store: SQLiteStore) -> None:
    rows = frame_of(store.log(LogFilter()))
    assert store.warnings() == []
    assert len(rows) == len(BEFORE["log"]) > 250
    actual = rows.assign(time=rows["time"].dt.floor("ms"))[list(BEFORE["log"][0])].to_json(
        orient="records", date_format="iso", double_precision=15
    )
    assert json.loads(actual) == BEFORE["log"]


def test_every_figure_is_what_it_was(store: SQLiteStore, old: Path) -> None:
    whole = report(store, span="all")
    figures = {name: str(getattr(whole, name)) for name in BEFORE["report"]}
    assert {name: Decimal(value) for name, value in figures.items()} == {
        name: Decimal(value) for name, value in BEFORE["report"].items()
    }
    for name, frame in (("tiers", whole.tiers), ("models", whole.models)):
        actual = frame.assign(cost=frame["cost"].map(float), saved=frame["saved"].map(float))
        expected = pd.DataFrame.from_dict(BEFORE[name], orient="index")
        expected = expected.assign(cost=expected["cost"].map(float), saved=expected["saved"].map(float))
        pd.testing.assert_frame_equal(actual, expected, check_names=False, check_index_type=False, check_dtype=False)
    assert list(whole.slowest.index) == BEFORE["slowest"]
    router = Router({"routing": {"mode": "rules"}}, home=old)
    compared = compare(store, router.config, router.pricing)
    for strategy in ("router", "router + cache"):
        before = BEFORE["compare"][strategy]
        assert compared.loc[strategy, "latency"] == pytest.approx(before["latency"], rel=1e-6)
        assert compared.loc[strategy, "calls"] == before["calls"]
    router.close()
    agree(store, ALL, None, STEPS)


def test_budgets_and_promises_go_on(store: SQLiteStore) -> None:
    rows = frame_of(store.log(LogFilter()))
    last = rows.iloc[-1]
    month = rows[rows["time"].dt.strftime("%Y-%m") == f"{last['time']:%Y-%m}"]
    session = Session(last["session"], dt.datetime(2026, 1, 1, tzinfo=dt.UTC))
    promised = 123_456_789  # by a kernel of version 1 that is still at work
    used = {period: store.used(Limit(period, 1, period), session) for period in ("month", "day", "session")}  # type: ignore[arg-type]
    assert used["month"] == int(month["cost_pico"].sum()) + promised
    assert used["day"] == int(month[month["time"].dt.day == last["time"].day]["cost_pico"].sum()) + promised
    assert used["session"] == int(rows[rows["session"] == last["session"]]["cost_pico"].sum())
    assert isinstance(store.reserve(10**12, [Limit("month", 10**12, "month")], session, "me", 60), Refusal)


def test_cache_and_claims_go_on(store: SQLiteStore, old: Path) -> None:
    with sqlite3.connect(old / "ipyrouter.db") as connection:
        keys = [key for (key,) in connection.execute("SELECT key FROM cache ORDER BY created DESC")]
    connection.close()
    assert len(keys) > 5
    answer = store.cached(keys[:1], 30)
    assert answer is not None
    assert answer.text
    looked = store.cached_or_claim([b"k" * 32], b"k" * 32, "me", 60, 30)
    assert looked == Claim("me")


def describe(path: Path) -> dict[str, Any]:
    """Tables with their columns, whatever their order, indexes and triggers."""
    connection = sqlite3.connect(path)
    parts: dict[str, Any] = {}
    for kind, name, sql in connection.execute(
        "SELECT type, name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite_%'"
    ):
        parts[name] = sql
        if kind == "table":
            columns = connection.execute(f"PRAGMA table_info({name})").fetchall()
            parts[name] = sorted(column[1:] for column in columns)
    connection.close()
    return parts


def test_the_result_is_what_a_new_file_is(store: SQLiteStore, old: Path, tmp_path: Path) -> None:
    store.log(LogFilter())
    new = SQLiteStore(tmp_path / "new")
    new.record(a_record(), None, 500)
    new.close()
    assert describe(old / "ipyrouter.db") == describe(tmp_path / "new" / "ipyrouter.db")


OPENER = """
import sys
from pathlib import Path
from ipyrouter.store.base import LogFilter
from ipyrouter.store.sqlite import SQLiteStore
from tests.store.conftest import a_record
store = SQLiteStore(Path(sys.argv[1]))
store.record(a_record(sys.argv[2]), None, 500)
print(len(store.log(LogFilter()).values("answer_id")), *store.warnings())
"""


def test_four_kernels_that_upgrade_at_once(old: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    openers = [
        subprocess.Popen(
            [sys.executable, "-c", OPENER, str(old), name], env=environment, stdout=subprocess.PIPE, text=True
        )
        for name in "abcd"
    ]
    outputs = [opener.communicate(timeout=120)[0].split() for opener in openers]
    assert [opener.returncode for opener in openers] == [0] * 4
    assert all(len(words) == 1 for words in outputs), outputs
    store = SQLiteStore(old)
    assert len(store.log(LogFilter()).values("answer_id")) == len(BEFORE["log"]) + 4
    assert not list(old.glob("*corrupt*"))
    store.close()


def test_an_upgrade_for_which_the_disk_has_no_room_leaves_the_file_as_it_was(old: Path) -> None:
    """A limit on the size of files stands in for a full disk; the next one that has room upgrades."""
    before = (old / "ipyrouter.db").read_bytes()
    run_python(f"""
import resource
from pathlib import Path
resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))
from ipyrouter.store.base import LogFilter
from ipyrouter.store.sqlite import SQLiteStore
from tests.store.conftest import a_record
store = SQLiteStore(Path({str(old)!r}))
store.record(a_record("new"), None, 500)
assert "goes on in memory" in store.warnings()[0]
assert store.log(LogFilter()).values("answer_id") == ["new"]
""")
    assert (old / "ipyrouter.db").read_bytes() == before
    store = SQLiteStore(old)
    assert len(store.log(LogFilter()).values("answer_id")) == len(BEFORE["log"])
    assert store.warnings() == []
    store.close()


@pytest.mark.parametrize("number", [0, 1, 0x0200_0000, 0x7FFF_FFFF, -2])
def test_a_damaged_version_number_is_not_believed(store: SQLiteStore, old: Path, number: int) -> None:
    store.log(LogFilter())
    store.close()
    with sqlite3.connect(old / "ipyrouter.db") as connection:
        connection.execute(f"PRAGMA user_version = {number}")
    connection.close()
    again = SQLiteStore(old)
    again.record(a_record(), None, 500)
    assert len(again.log(LogFilter()).values("answer_id")) == len(BEFORE["log"]) + 1
    assert again.warnings() == []
    again.close()


def test_a_newer_version_is_refused(store: SQLiteStore, old: Path) -> None:
    store.log(LogFilter())
    store.close()
    with sqlite3.connect(old / "ipyrouter.db") as connection:
        connection.execute(f"PRAGMA user_version = {VERSION + 1}")
    connection.close()
    before = (old / "ipyrouter.db").read_bytes()
    again = SQLiteStore(old)
    with pytest.raises(StoreError, match=rf"newer ipyrouter \(schema {VERSION + 1}, this one knows {VERSION}\)"):
        again.log(LogFilter())
    again.record(a_record(), None, 500)
    assert "newer ipyrouter" in again.warnings()[0]
    again.close()
    assert (old / "ipyrouter.db").read_bytes() == before


def of_version(version: int, folder: Path) -> SQLiteStore:
    """A store over a file that the last code of version 3 made, of version 2, which had all but the runs, or of 4."""
    folder.mkdir(mode=0o700)
    (folder / "ipyrouter.db").write_bytes(gzip.decompress((HERE / "version-3.db.gz").read_bytes()))
    if version == 2:
        with sqlite3.connect(folder / "ipyrouter.db") as connection:
            connection.execute("DROP TABLE runs")
            connection.execute("DROP TABLE run_rows")
            connection.execute("PRAGMA user_version = 2")
        connection.close()
    if version == 4:
        with sqlite3.connect(folder / "ipyrouter.db") as connection:
            next(one for one in MIGRATIONS if one.version == 4).run(connection)
            connection.execute("PRAGMA user_version = 4")
        connection.close()
    return SQLiteStore(folder, clock=ManualClock())


@pytest.mark.parametrize("version", [2, 3, 4])
def test_a_file_of_a_later_version_is_what_a_new_one_is(tmp_path: Path, version: int) -> None:
    before = json.loads(gzip.decompress((HERE / "version-3.json.gz").read_bytes()))
    store = of_version(version, tmp_path / "old")
    rows = frame_of(store.log(LogFilter()))
    assert rows["tags"].isna().all()
    actual = rows[list(before[0])].to_json(orient="records", date_format="iso", double_precision=15)
    assert json.loads(actual) == before
    assert len(store.runs()) == (version >= 3)
    agree(store, ALL, None, STEPS)
    tagged = replace(a_record("tagged"), tags=("x",))
    store.record(tagged, b"k" * 32, 500)
    store.pin("run", [b"k" * 32])
    run = Limit("this run", 10**12, "run")
    assert isinstance(store.reserve(1, [run], replace(SESSION, run="x"), "me", 60), Reservation)
    assert [row.group for row in store.totals(LogFilter(tag="x"), by="tags")] == ["x"]
    agree(store, ALL, None, STEPS)
    assert store.warnings() == []
    store.close()
    new = SQLiteStore(tmp_path / "new")
    new.record(a_record(), None, 500)
    new.close()
    assert describe(tmp_path / "old" / "ipyrouter.db") == describe(tmp_path / "new" / "ipyrouter.db")


@pytest.mark.parametrize("version", [2, 3, 4])
def test_a_damaged_number_of_a_later_version_is_not_believed(tmp_path: Path, version: int) -> None:
    store = of_version(version, tmp_path / "old")
    with sqlite3.connect(tmp_path / "old" / "ipyrouter.db") as connection:
        connection.execute("PRAGMA user_version = 0")
    connection.close()
    store.record(replace(a_record("tagged"), tags=("x",)), None, 500)
    assert store.overview(1).tags == ("x",)
    assert store.warnings() == []
    store.close()
