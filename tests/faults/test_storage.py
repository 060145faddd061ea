"""The store under fault: concurrent kernels, kill -9, full disks, odd journals and clocks. A recorded answer stays."""

from __future__ import annotations

import datetime as dt
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ipyrouter.router import Router
from ipyrouter.store.base import LogFilter, Record
from ipyrouter.store.sqlite import SQLiteStore
from ipyrouter.types import Answer, Attempt, Candidate, Classification, Session, Usage

MakeRouter = Callable[..., Router]
ROOT = Path(__file__).parent.parent.parent


def record(name: str) -> Record:
    candidate = Candidate("o", "m")
    attempt = Attempt("mid", candidate, "ok", usage=Usage(1, 1), text=name)
    answer = Answer(
        id=name, text=name, tier="mid", provider="o", model="m", cost=attempt.cost.amount, usage=attempt.usage,
        cached=False, latency=0.0, finish="stop",
        classification=Classification("mid", 0.5, 0.5, ()), attempts=(attempt,),
    )  # fmt: skip
    return Record(answer, "ok", prompt=name, system=None, session=Session("s", dt.datetime.now(dt.UTC)))


def prompts(home: Path) -> list[str]:
    store = SQLiteStore(home)
    rows = store.log(LogFilter()).values("prompt")
    store.close()
    return rows


WRITER = """
import sys
from pathlib import Path
from ipyrouter.store.sqlite import SQLiteStore
from tests.faults.test_storage import record
store = SQLiteStore(Path(sys.argv[1]))
number = 0
while number != int(sys.argv[3]):
    name = f"{sys.argv[2]}-{number}"
    store.record(record(name), name.encode(), 500)
    warnings = store.warnings()
    print("lost" if warnings else name, *warnings, flush=True)
    number += 1
"""


def writer(home: Path, name: str, count: int, **options: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", options.pop("code", WRITER), str(home), name, str(count)],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True, **options,
    )  # fmt: skip


def test_two_kernels_of_a_thousand_rows_each(home: Path) -> None:
    both = [writer(home, name, 1000) for name in ("one", "two")]
    outputs = [process.communicate(timeout=120)[0].split() for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sorted(prompts(home)) == sorted(outputs[0] + outputs[1])
    assert len(set(prompts(home))) == 2000


def test_kill_9_during_writes_twenty_times(home: Path) -> None:
    acknowledged: set[str] = set()
    for turn in range(20):
        process = writer(home, f"turn{turn}", -1)
        assert process.stdout is not None
        for _ in range(3 + turn * 2):
            acknowledged.add(process.stdout.readline().strip())
        process.send_signal(signal.SIGKILL)
        acknowledged.update(line for line in process.stdout.read().split("\n")[:-1] if line)
        process.stdout.close()
        process.wait()
    stored = prompts(home)
    assert acknowledged <= set(stored)
    assert len(stored) == len(set(stored))
    store = SQLiteStore(home)
    assert store.health().ok
    assert not list(home.glob("*corrupt*"))
    store.close()


LIMITED = f"""
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
{WRITER}
from ipyrouter.store.base import LogFilter
print("log", len(store.log(LogFilter()).values("prompt")))
"""


def test_a_full_disk_costs_no_answer(home: Path) -> None:
    """A limit on the size of files stands in for a disk that fills up: memory takes over, with one warning."""
    process = writer(home, "full", 400, code=LIMITED)
    out, _ = process.communicate(timeout=120)
    lines = out.strip().splitlines()
    assert process.returncode == 0
    assert lines[-1] == "log 400"  # disk and memory together
    warned = [line for line in lines if line.startswith("lost")]
    assert len(warned) == 1
    assert "goes on in memory" in warned[0]
    on_disk = prompts(home)
    before = lines[: lines.index(warned[0])]
    assert set(before) <= set(on_disk)


def test_memory_moves_to_the_disk_when_it_takes_writes_again(home: Path) -> None:
    store = SQLiteStore(home)
    store.record(record("first"), None, 500)
    store._database._busy = 0.05
    store.close()
    blocker = sqlite3.connect(home / "ipyrouter.db", isolation_level=None)
    blocker.execute("BEGIN EXCLUSIVE")
    store.record(record("second"), b"second", 500)
    assert store.cached([b"second"], 1) is not None
    blocker.execute("ROLLBACK")
    blocker.close()
    store.record(record("third"), None, 500)
    store.close()
    assert prompts(home) == ["first", "second", "third"]
    again = SQLiteStore(home)
    assert again.cached([b"second"], 1) is not None
    again.close()


class NoSharedMemory(sqlite3.Connection):
    """A connection on a file system without shared memory, as network home folders are: WAL fails there."""

    def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:  # type: ignore[override]
        if "WAL" in sql:
            raise sqlite3.OperationalError("locking protocol")
        return super().execute(sql, *parameters)


def test_delete_journal_where_wal_does_not_work(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *args, **options: connect(*args, factory=NoSharedMemory, **options))
    store = SQLiteStore(home)
    for number in range(20):
        store.record(record(f"row-{number}"), None, 500)
    assert store.warnings() == []
    assert not (home / "ipyrouter.db-wal").exists()
    store.close()
    monkeypatch.undo()
    assert len(prompts(home)) == 20


def test_a_clock_set_back_loses_nothing(make_router: MakeRouter, monkeypatch: pytest.MonkeyPatch) -> None:
    router = make_router(budget={"day": 1})
    router.route("Before")
    real = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: real() - 3 * 86_400_000_000_000)
    router.route("After")
    assert router.route("Before").cached
    assert sorted(router.log()["prompt"]) == ["After", "Before", "Before"]
    assert router.guard().left()["today"] < 1


def test_a_fork_uses_its_own_connection(make_router: MakeRouter) -> None:
    router = make_router()
    router.route("Parent")
    child = os.fork()
    if child == 0:
        code = 1
        try:
            router.route("Child")
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    router.route("Parent again")
    assert sorted(router.log()["prompt"]) == ["Child", "Parent", "Parent again"]
