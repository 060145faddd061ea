"""Neighbours: kernels that find damage together, forks in the midst of calls, fifty threads on a busy machine."""

from __future__ import annotations

import os
import random
import sqlite3
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from ipyrouter.store.base import LogFilter
from ipyrouter.store.sqlite import SQLiteStore
from tests.attack import rounds
from tests.store.conftest import a_record
from tests.store.test_contract_log import agree

pytestmark = [pytest.mark.attack, pytest.mark.slow, pytest.mark.kernel]

ROOT = Path(__file__).parent.parent.parent
PROCESSES = 4


def start(code: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(code), *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def finish(process: subprocess.Popen[str]) -> str:
    out, _ = process.communicate(timeout=300 * rounds(1))
    assert process.returncode == 0, out
    return out


FINDER = """
import sys, time
from pathlib import Path
from ipyrouter.store.base import LogFilter
from ipyrouter.store.sqlite import SQLiteStore
from tests.store.conftest import a_record

folders, name, processes = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
for folder in sorted(folders.iterdir()):
    store = SQLiteStore(folder / "home")
    (folder / f"ready-{name}").touch()
    while len(list(folder.glob("ready-*"))) < processes:
        time.sleep(0.001)
    for number in range(5):
        store.record(a_record(f"{name}-{number}"), f"{name}-{number}".encode(), 500)
    assert len(store.log(LogFilter()).values("answer_id")) >= 5
    for line in store.warnings():
        assert "was damaged" in line, line
    store.close()
"""


def test_processes_that_find_damage_together_set_only_the_damaged_file_aside(tmp_path: Path) -> None:
    chance, number = random.Random(1), rounds(12)
    for place in range(number):
        folder = tmp_path / f"{place:03}"
        store = SQLiteStore(folder / "home")
        for row in range(30):
            store.record(a_record(f"old-{row}", prompt="long " * 200), None, 500)
        store.close()
        path = folder / "home" / "ipyrouter.db"
        data = bytearray(path.read_bytes())
        begin = chance.choice([0, 100, 4096])
        data[begin:] = chance.choice([b"\x00", b"\xff"]) * (len(data) - begin)
        path.write_bytes(data)
    finders = [start(FINDER, tmp_path, name, PROCESSES) for name in range(PROCESSES)]
    for finder in finders:
        finish(finder)
    for place in range(number):
        home = tmp_path / f"{place:03}" / "home"
        assert len([file for file in home.glob("*.corrupt-*") if not file.name.endswith(("-wal", "-shm"))]) == 1
        store = SQLiteStore(home)
        names = {f"{name}-{row}" for name in range(PROCESSES) for row in range(5)}
        assert names <= set(store.log(LogFilter()).values("answer_id"))
        assert store.health().ok
        agree(store, LogFilter())
        store.close()


FORKS = """
import os, signal, sys, threading, time
from ipyrouter.router import Router
from ipyrouter.store.base import LogFilter
from tests.conftest import server_config
from tests.faults.server import serving

def child(number):
    signal.alarm(120)  # one that hangs is killed, and counts as lost
    code = 1
    try:
        router.route(f"child {number}")
        assert f"child {number}" in router.store.log(LogFilter()).values("prompt")
        code = 0
    finally:
        os._exit(code)

def work(name):
    number = 0
    while not stop.is_set():
        router.route(f"{name} {number}")
        done.append(f"{name} {number}")
        number += 1

stop, done = threading.Event(), []
with serving() as server:
    router = Router(server_config(server, budget={"day": 100}), home=sys.argv[1])
    router.route("first")
    threads = [threading.Thread(target=work, args=(f"thread {name}",)) for name in range(4)]
    for thread in threads:
        thread.start()
    for number in range(int(sys.argv[2])):
        pids = []
        for _ in range(3):
            pid = os.fork()
            if pid == 0:
                child(f"{number}.{len(pids)}")
            pids.append(pid)
        assert [os.waitpid(pid, 0)[1] for pid in pids] == [0] * 3
    stop.set()
    for thread in threads:
        thread.join()
    children = [f"child {number}.{n}" for number in range(int(sys.argv[2])) for n in range(3)]
    prompts = router.store.log(LogFilter()).values("prompt")
    assert sorted(prompts) == sorted(["first", *done, *children])
    assert router.store.warnings() == []
    router.close()
"""


def test_children_of_a_process_in_the_midst_of_calls_lose_nothing(tmp_path: Path) -> None:
    finish(start(FORKS, tmp_path / "home", rounds(12)))


CROWD = """
import sys, threading
from pathlib import Path
from ipyrouter.store.base import Claim, Limit, LogFilter, Reservation
from ipyrouter.store.owners import new_owner
from ipyrouter.store.sqlite import SQLiteStore
from tests.store.conftest import SESSION, a_record

store, name = SQLiteStore(Path(sys.argv[1])), sys.argv[2]
limits = [Limit("today", 10**18, "day"), Limit("this month", 10**18, "month")]
failed = []

def work(thread):
    try:
        for number in range(int(sys.argv[3])):
            owner, key = new_owner(), f"{name}-{thread}-{number}".encode()
            assert store.cached_or_claim([key], key, owner, 600, 30) == Claim(owner)
            assert isinstance(store.reserve(10**9, limits, SESSION, owner, 600), Reservation)
            store.record(a_record(key.decode(), owner=owner), key, 500)
    except BaseException as error:
        failed.append(error)

threads = [threading.Thread(target=work, args=(thread,)) for thread in range(50)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert not failed, failed
assert store.warnings() == []
store.close()
"""
BUSY = "while True: pass"


def test_fifty_threads_of_two_kernels_on_a_busy_machine_starve_nobody(tmp_path: Path) -> None:
    number = rounds(4)
    burning = [start(BUSY) for _ in range(os.cpu_count() or 2)]
    try:
        for kernel in [start(CROWD, tmp_path / "home", name, number) for name in ("one", "two")]:
            finish(kernel)
    finally:
        for process in burning:
            process.kill()
            process.communicate()
    store = SQLiteStore(tmp_path / "home")
    assert len(store.log(LogFilter()).values("answer_id")) == 2 * 50 * number
    connection = sqlite3.connect(tmp_path / "home" / "ipyrouter.db")
    rows = connection.execute("SELECT owner FROM claims UNION SELECT owner FROM reservations").fetchall()
    connection.close()
    assert rows == []
    store.close()
