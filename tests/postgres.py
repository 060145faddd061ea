"""A PostgreSQL of the tests' own: Debian's, in a temporary folder, under an ordinary user; started once a process."""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Never

import pytest

from ipyrouter.store.postgres import migrations
from ipyrouter.store.postgres import owner as owning
from ipyrouter.store.postgres.server import Connection, connect


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


TEMPLATE = "template_ipyrouter"
TEAM, MEMBERS, LEAD = "science", ("alice", "bob"), "lena"
OTHERS, OTHER = "others", "oskar"


def programs() -> Path:
    """The folder of initdb and pg_ctl; without one, tests that need them are skipped, or fail in .ci/run."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda folder: int(folder.parent.name))
    if not folders or not (folders[-1] / "initdb").exists():
        missing("postgresql")
    return folders[-1]


def missing(package: str) -> Never:
    """Skip a test that needs a Debian package; in .ci/run, which installs it, that is a failure."""
    if os.environ.get("CI"):
        pytest.fail(f"apt-get install {package}")
    pytest.skip(f"needs apt-get install {package}")


USER = "nobody" if os.geteuid() == 0 else None
"""Under whom servers run: PostgreSQL and PgBouncer refuse to run as root."""


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    """A folder that servers can read and write, with a path that is short enough for a socket."""
    path = new_folder()
    yield path
    shutil.rmtree(path, ignore_errors=True)


def new_folder() -> Path:
    path = Path(tempfile.mkdtemp(prefix="ipyrouter-pg-", dir="/tmp"))
    if USER:
        account = pwd.getpwnam(USER)
        os.chown(path, account.pw_uid, account.pw_gid)
    path.chmod(0o755)
    return path


class Postgres:
    """A server; its superuser is "owner". ``safe``: it waits for the disk, as no test has to."""

    def __init__(self, *, safe: bool = False) -> None:
        self.folder = new_folder()
        self.port = free_port()
        self.user = USER
        self._run("initdb", "-D", str(self.data), "-U", "owner", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "-N")
        with (self.data / "postgresql.conf").open("a") as file:
            file.write(
                f"port = {self.port}\nlisten_addresses = '127.0.0.1'\nunix_socket_directories = '{self.folder}'\n"
                f"fsync = {'on' if safe else 'off'}\nmax_connections = 300\nshared_buffers = 64MB\nautovacuum = off\n"
            )
        self.start()

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def start(self) -> None:
        self._run("pg_ctl", "-D", str(self.data), "-l", str(self.folder / "log"), "-w", "-t", "60", "start")

    def kill(self) -> None:
        """kill -9, the postmaster and with it all of its children."""
        pid = int((self.data / "postmaster.pid").read_text().split()[0])
        children = subprocess.run(
            ["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False
        ).stdout
        for one in (pid, *map(int, children.split())):
            with contextlib.suppress(ProcessLookupError):
                os.kill(one, signal.SIGKILL)
        while subprocess.run(
            ["ps", "-p", str(pid), "-o", "stat="], capture_output=True, text=True, check=False
        ).stdout.strip(" Z\n"):
            time.sleep(0.01)
        (self.data / "postmaster.pid").unlink(missing_ok=True)

    def stop(self) -> None:
        with contextlib.suppress(subprocess.CalledProcessError):
            self._run("pg_ctl", "-D", str(self.data), "-m", "immediate", "stop")
        shutil.rmtree(self.folder, ignore_errors=True)

    def url(self, user: str, database: str, *, port: int | None = None) -> str:
        if port is not None:
            return f"postgresql://{user}@127.0.0.1:{port}/{database}"
        return f"postgresql://{user}@/{database}?host={self.folder}&port={self.port}"

    def connect(self, database: str, user: str = "owner") -> Connection:
        connection = connect(f"{self.url(user, database)}&connect_timeout=120")
        connection.seconds = None  # a slow machine takes its time
        return connection

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [str(programs() / program), *arguments], check=True, user=self.user, cwd="/", stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, extra_groups=[] if self.user else None,
        )  # fmt: skip


@functools.cache
def server() -> Postgres:
    """The server of this process, with a template that has the schema, two teams and their members."""
    import atexit

    programs()
    postgres = Postgres()
    atexit.register(postgres.stop)
    with postgres.connect("postgres") as owner:
        owner.execute(f"CREATE DATABASE {TEMPLATE}")
    with postgres.connect(TEMPLATE) as owner:
        assert migrations.upgrade(owner) == (0, migrations.VERSION)
        members = [(one, TEAM, False) for one in MEMBERS] + [(LEAD, TEAM, True), (OTHER, OTHERS, False)]
        for user, team, lead in members:
            for statement in owning.add_member(user, team, lead=lead, content=True):
                owner.execute(statement.encode())
    return postgres


_numbers = itertools.count()


@contextlib.contextmanager
def database() -> Iterator[str]:
    """A fresh database with the schema; gives its name."""
    name = f"store_{next(_numbers)}"
    with server().connect("postgres") as owner:
        owner.execute(f"CREATE DATABASE {name} TEMPLATE {TEMPLATE}".encode())
    try:
        yield name
    finally:
        with server().connect("postgres") as owner:  # the test may have killed the server
            owner.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


SET_CLOCK = """
CREATE TABLE ipyrouter.clock (moment bigint NOT NULL);
INSERT INTO ipyrouter.clock VALUES (0);
CREATE OR REPLACE FUNCTION ipyrouter.now_us() RETURNS bigint LANGUAGE sql VOLATILE SECURITY DEFINER
AS $$ SELECT moment FROM ipyrouter.clock $$;
"""
"""The server's time, set by its owner: tests pass days in no time."""


class Proxy:
    """A way to the server that can hold bytes back, or cut: 'open', 'stalled' or 'shut'."""

    def __init__(self) -> None:
        self.state = "open"
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._sockets: list[socket.socket] = []
        self._moved = threading.Condition()
        self._threads: list[threading.Thread] = []
        self._start(self._serve)

    def set(self, state: str) -> None:
        with self._moved:
            self.state = state
            self._moved.notify_all()
        if state == "shut":
            for one in self._sockets:
                with contextlib.suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self.set("shut")
        self._listener.shutdown(socket.SHUT_RDWR)
        for thread in list(self._threads):
            thread.join()
        for one in (self._listener, *self._sockets):
            one.close()

    def _start(self, work: Callable[..., None], *arguments: socket.socket) -> None:
        self._threads.append(threading.Thread(target=work, args=arguments, daemon=True))
        self._threads[-1].start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                if self.state == "shut":
                    client.close()
                    continue
                there = socket.create_connection(("127.0.0.1", server().port))
                self._sockets += [client, there]
                self._start(self._pump, client, there)
                self._start(self._pump, there, client)

    def _pump(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                with self._moved:
                    self._moved.wait_for(lambda: self.state != "stalled")
                target.sendall(data)
        for one in (source, target):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
