"""Nothing is lost: rights, faults of the disk, newer schemas."""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import sqlite3
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ipyrouter.errors import StoreError
from ipyrouter.router import Router
from tests.conftest import run_python
from tests.faults.server import TEXT

MakeRouter = Callable[..., Router]


def test_home_and_files_are_private(make_router: MakeRouter, home: Path) -> None:
    old = os.umask(0)
    try:
        make_router().route("Explain closures")
    finally:
        os.umask(old)
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    for file in home.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file


def test_a_home_that_cannot_be_made_costs_no_answer(make_router: MakeRouter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IPYROUTER_HOME", "/proc/nowhere")
    router = make_router()
    answer = router.route("Explain closures")
    assert answer.text == TEXT
    (note,) = answer.notes
    assert "it goes on in memory" in note
    assert router.route("Explain closures").cached  # the cache goes on too
    assert router.route("Another question").notes == ()  # once
    assert len(router.log()) == 3


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A working folder that every user can reach: pytest's own are its user's, and it sees to that at each start."""
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.mark.skipif(sys.platform == "win32", reason="rights work differently there")
def test_a_home_that_is_read_only(open_folder: Path, server_url: str) -> None:
    """In a process without root's power to write anywhere."""
    home = open_folder / "home"
    home.mkdir(mode=0o555)
    code = f"""
import os, pathlib
from ipyrouter.router import Router
from tests.conftest import server_config
class Server: url = {server_url!r}
home = pathlib.Path({str(home)!r})
warm = Router(server_config(Server), home=home.parent / "warm")  # imports all before the rights to read them are gone
warm.route("Explain closures")
warm.log()
if os.getuid() == 0:
    os.setuid(65534)
router = Router(server_config(Server), home=home)
answer = router.route("Explain closures")
assert "in memory" in answer.notes[0], answer.notes
assert len(router.log()) == 1
"""
    run_python(code)


@pytest.fixture
def server_url(server: object) -> str:
    return str(server.url)  # type: ignore[attr-defined]


@pytest.mark.parametrize("damage", ["garbage", "header", "page"])
def test_a_corrupt_database_is_renamed_aside(make_router: MakeRouter, home: Path, damage: str) -> None:
    router = make_router()
    for number in range(30):
        router.route(f"Question {number} " + "x" * 500)
    router.close()
    database = home / "ipyrouter.db"
    data = bytearray(database.read_bytes())
    if damage == "garbage":
        data = bytearray(b"no database at all " * 500)
    elif damage == "header":
        data[:16] = b"\x00" * 16
    else:
        data[4096:] = b"\xff" * (len(data) - 4096)
    for extra in home.glob("ipyrouter.db-*"):
        extra.unlink()
    database.write_bytes(data)
    router = make_router()
    answer = router.route("Explain closures")
    assert answer.text == TEXT
    assert "renamed to" in answer.notes[0]
    (aside,) = home.glob("ipyrouter.db.corrupt-*")
    assert aside.read_bytes() == bytes(data)
    assert list(router.log()["prompt"]) == ["Explain closures"]
    assert stat.S_IMODE(database.stat().st_mode) == 0o600


def test_a_newer_schema_is_refused_and_left_alone(make_router: MakeRouter, home: Path) -> None:
    make_router().route("Explain closures")
    connection = sqlite3.connect(home / "ipyrouter.db")
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    before = (home / "ipyrouter.db").read_bytes()
    router = make_router()
    answer = router.route("Explain closures")
    assert answer.text == TEXT
    assert "newer ipyrouter (schema 99" in answer.notes[0]
    with pytest.raises(StoreError, match="Upgrade ipyrouter"):
        router.log()
    assert (home / "ipyrouter.db").read_bytes() == before


def test_a_locked_database_costs_no_answer_and_catches_up(make_router: MakeRouter, home: Path) -> None:
    router = make_router()
    router.route("Question 1")
    router.store._database._busy = 0.1  # type: ignore[attr-defined]  # do not wait 5 s in a test
    router.store.close()
    blocker = sqlite3.connect(home / "ipyrouter.db", isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    answer = router.route("Question 2")
    assert answer.text == TEXT
    assert "locked" in answer.notes[0]
    assert len(router.log()) == 2
    blocker.execute("ROLLBACK")
    blocker.close()
    router.route("Question 3")
    router.close()
    assert list(make_router().log()["prompt"]) == ["Question 1", "Question 2", "Question 3"]


def test_a_deleted_database_is_begun_anew(make_router: MakeRouter, home: Path) -> None:
    router = make_router()
    router.route("Question 1")
    for file in home.glob("ipyrouter.db*"):
        file.unlink()
    router.route("Question 2")
    assert list(make_router().log()["prompt"]) == ["Question 2"]


def test_the_cache_stays_under_its_cap_and_forgets_the_oldest(make_router: MakeRouter) -> None:
    router = make_router(cache={"max_mb": 0.005})  # about 13 answers of the fault server
    for number in range(40):
        router.route(f"Question {number}")
    health = router.store.health()
    assert 0 < health.cached_bytes <= 5000
    assert router.route("Question 39").cached
    assert not router.route("Question 0").cached


def test_the_cache_forgets_after_its_days(make_router: MakeRouter, home: Path) -> None:
    router = make_router(cache={"ttl_days": 2})
    router.route("Explain closures")
    connection = sqlite3.connect(home / "ipyrouter.db")
    connection.execute("UPDATE cache SET created = created - ?", (3 * 86_400_000_000,))
    connection.commit()
    connection.close()
    assert not router.route("Explain closures").cached


def test_content_can_be_kept_out_of_the_log(make_router: MakeRouter) -> None:
    router = make_router(log={"content": False})
    router.route("Explain closures", system="Be brief.")
    row = router.log().iloc[0]
    assert row[["prompt", "text"]].isna().all()
    assert row["cost_pico"] > 0


def test_filters(make_router: MakeRouter) -> None:
    router = make_router(power=["a/ok"])
    router.route("Explain closures")
    router.route("Explain closures", tier="power")
    assert list(router.log(tier="power")["provider"]) == ["a"]
    assert len(router.log(model="ok")) == 2
    assert len(router.log(session=router.session.id)) == 2
    assert len(router.log(session="another")) == 0
    assert len(router.log(since=dt.date(2020, 1, 1), until="2020-01-02")) == 0
    assert len(router.log(since="2020-01-01", status="ok")) == 2


def test_an_empty_log_has_its_columns_and_reports(make_router: MakeRouter) -> None:
    router = make_router()
    assert router.log()["cost_pico"].dtype == "Int64"
    assert str(router.log()["time"].dtype) == "datetime64[us, UTC]"
    assert str(router.report()).endswith("$0 · 0 calls · 0 from the cache (saved $0)")
    assert router.compare()["cost"].tolist() == [0, 0, 0, 0]


def test_unknown_prices_are_told_in_totals(make_router: MakeRouter) -> None:
    router = make_router(power=["a/ok"], prices={"o/ok": {"input": 1, "output": 10}})
    router.route("Explain closures")
    answer = router.route("Explain closures", tier="power")
    assert answer.cost is None
    report = router.report()
    assert (report.unpriced, report.calls) == (1, 2)
    assert "at least $0.00042, 1 call unpriced" in str(report)
    assert router.log()["cost"].isna().tolist() == [False, True]
