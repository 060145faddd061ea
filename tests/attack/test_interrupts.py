"""Ctrl-C at random moments: nothing stays behind, and nothing that was paid for is missing in the log."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.attack import rounds
from tests.attack.test_processes import finish, start

pytestmark = [pytest.mark.attack, pytest.mark.slow, pytest.mark.kernel]

HELP = """
import os, random, signal, sqlite3, sys, threading, time
from pathlib import Path

home, number, chance = Path(sys.argv[1]), int(sys.argv[2]), random.Random(sys.argv[3])

def interrupted(work, longest):
    '''Run work, and interrupt it once after a random time, or just after it; return whether that stopped it.'''
    timer = threading.Timer(chance.random() * longest, os.kill, (os.getpid(), signal.SIGINT))
    stopped = True
    try:
        timer.start()
        work()
        stopped = False
        timer.join()
        time.sleep(0.01)
    except KeyboardInterrupt:
        pass
    timer.join()
    return stopped

def nothing_stays():
    connection = sqlite3.connect(home / "ipyrouter.db", timeout=0, isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")  # no lock
    left = connection.execute("SELECT owner FROM claims UNION SELECT owner FROM reservations").fetchall()
    connection.execute("ROLLBACK")
    connection.close()
    assert left == [], left
    handler = signal.getsignal(signal.SIGINT)
    assert handler is signal.default_int_handler, handler
"""
ROUTES = f"""
{HELP}
from ipyrouter.router import Router
from tests.conftest import server_config
from tests.faults.server import serving

with serving() as server:
    router = Router(server_config(server, budget={{"day": 100, "session": 100}}), home=home)
    router.route("first")
    began = time.perf_counter()
    router.route("second")
    longest = 1.5 * (time.perf_counter() - began)
    stops = 0
    for turn in range(number):
        stops += interrupted(lambda: router.route(f"question {{turn}}"), longest)
        nothing_stays()
    assert 0 < stops < number, stops
    asked = {{body["messages"][-1]["content"] for _, _, body in server.requests}}
    log = router.log()
    missing = asked - set(log["prompt"])
    assert not missing, missing
    assert log["answer_id"].is_unique
    assert router.store.warnings() == []
    router.close()
"""
STEPS = f"""
{HELP}
from ipyrouter.store.base import Claim, Limit, LogFilter
from ipyrouter.store.owners import new_owner
from ipyrouter.store.sqlite import SQLiteStore
from tests.store.conftest import SESSION, a_record

store, limits = SQLiteStore(home), [Limit("today", 10**18, "day"), Limit("this session", 10**18, "session")]
store.record(a_record("first"), None, 500)
stops = 0
for turn in range(number):
    owner, key, name = new_owner(), f"{{turn}}".encode(), f"{{turn}}"
    acknowledged = []

    def work():
        store.cached_or_claim([key], key, owner, 600, 30)
        held = store.reserve(10**9, limits, SESSION, owner, 600)
        store.settle(held.id, 10**8)
        store.used(limits[0], SESSION)
        store.record(a_record(name, owner=owner), key, 500)
        acknowledged.append(name)
        store.page(LogFilter(), 3)
        store.log(LogFilter(), content=False)

    stops += interrupted(work, 0.012)
    store.release(owner)
    nothing_stays()
    if acknowledged:
        assert store.page(LogFilter(), 1)[0].key.answer_id == name
assert 0 < stops < number, stops
assert store.warnings() == []
store.close()
"""


@pytest.mark.parametrize("part", range(2))
def test_requests_that_are_interrupted_at_random_moments(tmp_path: Path, part: int) -> None:
    finish(start(ROUTES, tmp_path / "home", rounds(200), part))


@pytest.mark.parametrize("part", range(2))
def test_steps_of_the_store_that_are_interrupted_at_random_moments(tmp_path: Path, part: int) -> None:
    finish(start(STEPS, tmp_path / "home", rounds(300), part))
