"""The team's store under faults: the server killed, PgBouncer restarted, a full disk, in the middle of writes."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path

import pytest

from ipyrouter.store.base import Reservation
from ipyrouter.store.postgres import PostgresStore
from ipyrouter.store.postgres import server as servers
from ipyrouter.store.postgres.owner import set_budgets
from tests import postgres
from tests.postgres import Proxy
from tests.store.conftest import SESSION, a_record

DOLLAR = 10**12

WRITER = """
import sys
from pathlib import Path
from decimal import Decimal
from ipyrouter.store.postgres import PostgresStore, server
from tests.store.conftest import a_record

url, folder, name, number = sys.argv[1:]
server._AWAY = 0.05
store = PostgresStore(url, Path(folder) / name)
for place in range(int(number)):
    store.record(a_record(f"{name}-{place}", cost=Decimal("0.001")), None, 500)
    if place == 0:
        print("begun", flush=True)
store.close()
"""


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "_AWAY", 0.05)


@pytest.fixture
def database() -> Iterator[str]:
    with postgres.database() as name:
        yield name


def query(database: str, text: str) -> list[tuple[object, ...]]:
    with postgres.server().connect(database) as owner:
        return owner.execute(text.encode()).fetchall()


def change(database: str, text: str) -> None:
    with postgres.server().connect(database) as owner:
        for statement in text.replace("DATABASE {}", f"DATABASE {database}").split(";\n"):
            owner.execute(statement.encode())


def start_writers(url: str, folder: Path, number: int, processes: int = 4) -> list[subprocess.Popen[str]]:
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, url, folder, f"w{n}", str(number)], stdout=subprocess.PIPE, text=True
        )
        for n in range(processes)
    ]
    for one in writers:
        assert one.stdout is not None
        assert one.stdout.readline() == "begun\n"
    return writers


def finish(writers: list[subprocess.Popen[str]], url: str, folder: Path) -> None:
    """Wait for the processes, and send what they had to leave on this machine."""
    for number, one in enumerate(writers):
        assert one.wait(timeout=900) == 0
        assert one.stdout is not None
        one.stdout.close()
        rest = PostgresStore(url, folder / f"w{number}")
        until = time.monotonic() + 900
        while rest._local.waiting(1) and time.monotonic() < until:  # a slow machine may not be there at once
            rest._send_waiting(most=None)
        rest.close()


def assert_complete(database: str, requests: int) -> None:
    """Every request is there once, in the rows, in the sums and in what was spent."""
    assert query(database, "SELECT count(*), count(DISTINCT id) FROM ipyrouter.answers") == [(requests, requests)]
    assert query(database, "SELECT count(*), sum(cost_pico) FROM ipyrouter.attempts") == [(requests, requests * 10**9)]
    assert query(database, "SELECT sum(rows), sum(cost_pico) FROM ipyrouter.sums") == [(requests, requests * 10**9)]
    spent = query(database, "SELECT scope, sum(value) FROM ipyrouter.counter GROUP BY scope ORDER BY scope")
    assert spent == [(scope, requests * 10**9) for scope in ("member", "session", "team")]


def test_a_server_that_is_killed_loses_and_doubles_nothing(database: str, tmp_path: Path) -> None:
    server, url = postgres.server(), postgres.server().url("alice", database)
    writers = start_writers(url, tmp_path, 40, processes=20)
    server.kill()
    time.sleep(0.5)
    server.start()
    finish(writers, url, tmp_path)
    assert_complete(database, 20 * 40)


class PgBouncer:
    """Debian's pgbouncer before the server, in transaction mode, with two connections to it."""

    def __init__(self, folder: Path) -> None:
        self.port = postgres.free_port()
        users = folder / "users.txt"
        users.write_text("".join(f'"{user}" ""\n' for user in ("alice", "bob", "lena")))
        self._config = folder / "pgbouncer.ini"
        self._config.write_text(
            f"[databases]\n* = host=127.0.0.1 port={postgres.server().port}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n"
            f"listen_port = {self.port}\nauth_type = trust\nauth_file = {users}\npool_mode = transaction\n"
            "default_pool_size = 2\nunix_socket_dir =\n"
        )
        self.start()

    def start(self) -> None:
        self._process = subprocess.Popen(
            ["/usr/sbin/pgbouncer", "-q", self._config], user=postgres.server().user, cwd="/", stderr=subprocess.DEVNULL
        )

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()


@pytest.fixture
def pgbouncer() -> Iterator[PgBouncer]:
    if not Path("/usr/sbin/pgbouncer").exists():
        postgres.missing("pgbouncer")
    with postgres.folder() as folder:
        one = PgBouncer(folder)
        yield one
        one.stop()


def test_pgbouncer_in_transaction_mode_may_restart(database: str, tmp_path: Path, pgbouncer: PgBouncer) -> None:
    url = postgres.server().url("alice", database, port=pgbouncer.port)
    writers = start_writers(url, tmp_path, 40)
    pgbouncer.stop()
    time.sleep(0.3)
    pgbouncer.start()
    finish(writers, url, tmp_path)
    assert_complete(database, 4 * 40)


def test_budgets_hold_and_logins_stay_apart_behind_pgbouncer(
    database: str, tmp_path: Path, pgbouncer: PgBouncer
) -> None:
    with postgres.server().connect(database) as owner:
        for statement in set_budgets(postgres.TEAM, "", {"day": Decimal(1)}):
            owner.execute(statement.encode())
    users = ("alice", "bob", "lena")
    stores = {
        user: PostgresStore(postgres.server().url(user, database, port=pgbouncer.port), tmp_path / user)
        for user in users
    }
    while not all(store.health().ok for store in stores.values()):  # until PgBouncer listens
        time.sleep(0.1)

    def spend(number: int) -> int:
        store, owner = stores[users[number % 3]], f"owner-{number}"
        if not isinstance(store.reserve(DOLLAR // 20, [], SESSION, owner, 60), Reservation):
            return 0
        store.record(a_record(f"r{number}", cost=Decimal("0.05"), owner=owner), None, 500)
        return 1

    with ThreadPoolExecutor(9) as pool:
        assert sum(pool.map(spend, range(60))) == 20
    rows = query(database, "SELECT member, count(*) FROM ipyrouter.answers GROUP BY 1")
    for store in stores.values():
        store.close()
    assert sum(int(str(number)) for _, number in rows) == 20
    assert {user for user, _ in rows} <= set(users)
    assert query(database, "SELECT count(*) FROM ipyrouter.reservation") == [(0,)]


FULL = """
CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql
AS $$ BEGIN RAISE 'could not extend file: No space left on device' USING ERRCODE = 'disk_full'; END $$;
CREATE TRIGGER full_disk BEFORE INSERT ON ipyrouter.answers FOR EACH ROW EXECUTE FUNCTION full_disk()
"""


@pytest.mark.parametrize(
    ("trouble", "relief"),
    [
        (FULL, "DROP TRIGGER full_disk ON ipyrouter.answers"),
        (
            "ALTER DATABASE {} SET default_transaction_read_only = on",
            "SET default_transaction_read_only = off;\nALTER DATABASE {} RESET default_transaction_read_only",
        ),
    ],
    ids=["full", "read-only"],
)
def test_a_server_that_cannot_write_costs_no_answer(database: str, tmp_path: Path, trouble: str, relief: str) -> None:
    """What the server says where its disk is full, in the middle of a record; and one that takes only reads."""
    store = PostgresStore(postgres.server().url("alice", database), tmp_path)
    change(database, trouble)
    store.record(a_record("kept", cost=Decimal("0.001")), None, 500)
    assert len(store.warnings()) == 1
    change(database, relief)
    store._server.close()
    time.sleep(0.1)
    store.record(a_record("next", cost=Decimal("0.001")), None, 500)
    store.close()
    assert_complete(database, 2)


def test_another_address_takes_over_in_the_middle_of_writes(database: str, tmp_path: Path) -> None:
    first, second = Proxy(), Proxy()
    url = f"postgresql://alice@127.0.0.1:{first.port},127.0.0.1:{second.port}/{database}"
    writers = start_writers(url, tmp_path, 40)
    first.set("shut")
    finish(writers, url, tmp_path)
    assert_complete(database, 4 * 40)
    first.close()
    second.close()


def test_another_address_takes_over(database: str, tmp_path: Path) -> None:
    """libpq tries several hosts: the first one is down."""
    down, there = postgres.free_port(), postgres.server().port
    url = f"postgresql://alice@127.0.0.1:{down},127.0.0.1:{there}/{database}"
    store = PostgresStore(url, tmp_path)
    store.record(a_record("a", cost=Decimal("0.001")), None, 500)
    assert store.warnings() == []
    store.close()
    assert_complete(database, 1)
