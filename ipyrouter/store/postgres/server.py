"""The connections to the server: few, made when needed, closed when idle, and never waited for without an end.

Imported with the first use of the store, because psycopg takes a tenth of a second.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

import psycopg
from psycopg.abc import PQGen
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from ipyrouter import interrupts
from ipyrouter.errors import StoreError
from ipyrouter.store.postgres.away import AwayError, ConnInfo, reason
from ipyrouter.store.postgres.migrations import OLDEST, VERSION

T = TypeVar("T")

_MOST = 4  # connections of a process
_IDLE = 60.0  # seconds after which an unused connection is closed
_CONNECT = 3  # seconds
_ANSWER = 10.0  # seconds: a server or a network that stalls is away
_AWAY = 10.0  # seconds in which a server that was away is not tried again, so that a user does not wait at every cell


class Connection(psycopg.Connection[Any]):
    """A connection on which no statement is waited for without an end, whatever the network holds back."""

    seconds: float | None = _ANSWER

    def wait(self, gen: PQGen[T], interval: float = 0.1, timeout: float | None = None) -> T:
        """Run psycopg's generator; closes the connection where it takes too long, since its state is unknown then."""
        try:
            return super().wait(gen, interval, timeout or self.seconds)
        except psycopg.errors._WaitTimeout:
            self.pgconn.finish()
            raise psycopg.OperationalError(f"no answer within {self.seconds:.0f} s") from None


def connect(conninfo: ConnInfo) -> Connection:
    """Open a connection whose statements are transactions of their own. Raises psycopg.Error."""
    text = conninfo if isinstance(conninfo, str) else conninfo()
    if "connect_timeout" not in conninfo_to_dict(text):
        text = make_conninfo(text, connect_timeout=_CONNECT)
    # Nothing is prepared: PgBouncer may hand each statement to another connection of its own.
    return Connection.connect(text, autocommit=True, prepare_threshold=None)


class Turns:
    """A number of places, given in the order in which threads ask; a semaphore gives a free one to whoever is quickest.

    ``psycopg_pool`` has such a queue as well, but opens connections on threads of its own, which no fork survives.
    """

    def __init__(self, number: int) -> None:
        self._free = number
        self._waiting: deque[threading.Event] = deque()
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def take(self, seconds: float) -> Iterator[None]:
        """Hold a place for the block. Raises AwayError where none is free for so many seconds."""
        turn = threading.Event()
        with self._lock:
            if self._free:
                self._free -= 1
                turn.set()
            else:
                self._waiting.append(turn)
        try:
            if not turn.wait(seconds):
                raise AwayError(f"all connections of this process were in use for {seconds:.0f} s")
            yield
        finally:
            self._leave(turn)

    def _leave(self, turn: threading.Event) -> None:
        """Pass a place on to whoever has waited longest; one who gave up may have been given it just then."""
        with self._lock:
            if not turn.is_set():
                self._waiting.remove(turn)
            elif self._waiting:
                self._waiting.popleft().set()
            else:
                self._free += 1


class Server:
    """Runs statements of one round trip each. Safe to use from any thread, and after a fork.

    A statement may be sent twice, where its answer was lost: the second time changes nothing.
    """

    def __init__(self, conninfo: ConnInfo) -> None:
        self._conninfo = conninfo
        self._idle: list[tuple[float, Connection]] = []  # since when; the one used last is the last
        self._lock = threading.Lock()
        self._turns = Turns(_MOST)
        self._closer: threading.Timer | None = None
        self._away = (0.0, AwayError(""))  # until when, and why
        self._hello: dict[str, Any] = {}
        _servers.add(self)

    def hello(self) -> dict[str, Any]:
        """Return what the server says of the login and the schema: member, team, lead, version."""
        if not self._hello:
            self.call("SELECT 1")
        return self._hello

    def call(self, query: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Return the rows of one statement.

        Raises:
            AwayError: The server cannot be reached, or does not answer.
            StoreError: It forbids the statement, or its schema does not fit this version.
        """
        with interrupts.Deferred():
            self._check_away()
            try:
                with self._turns.take(_ANSWER):
                    self._check_away()  # it may have gone while this thread waited
                    return self._call(query, parameters)
            except psycopg.OperationalError as error:
                away = unreachable(error)
                self._away = time.monotonic() + _AWAY, away
                raise away from None
            except psycopg.errors.ReadOnlySqlTransaction:
                raise AwayError("the server takes no writes", _PRIMARY) from None
            except psycopg.Error as error:
                raise _refusal(error) from None

    def _check_away(self) -> None:
        until, why = self._away
        if time.monotonic() < until:
            raise AwayError(str(why), why.remedy)

    def _call(self, query: str, parameters: Sequence[Any]) -> list[tuple[Any, ...]]:
        while True:
            connection, fresh = self._take()
            try:
                rows = connection.execute(query, parameters).fetchall()
            except psycopg.OperationalError:
                connection.close()
                if fresh:
                    raise
                self.close()  # it went while nobody used it, and so did the others
            except BaseException:
                self._give_back(connection)
                raise
            else:
                self._give_back(connection)
                return rows

    def close(self) -> None:
        """Close the connections that are not in use."""
        with self._lock:
            idle, self._idle = self._idle, []
        for _, connection in idle:
            connection.close()

    def _take(self) -> tuple[Connection, bool]:
        """Return a connection, and whether it is new."""
        with self._lock:
            if self._idle:
                return self._idle.pop()[1], False
        connection = connect(self._conninfo)
        try:
            ((hello,),) = connection.execute("SELECT ipyrouter.hello()").fetchall()
            _check_version(hello["version"])
        except BaseException:
            connection.close()
            raise
        self._hello = hello
        return connection, True

    def _give_back(self, connection: Connection) -> None:
        if connection.closed or connection.info.transaction_status:
            connection.close()
            return
        with self._lock:
            self._idle.append((time.monotonic(), connection))
            if self._closer is None:
                self._close_later()

    def _close_later(self) -> None:
        self._closer = threading.Timer(_IDLE, self._close_idle)
        self._closer.daemon = True
        self._closer.start()

    def _close_idle(self) -> None:
        latest = time.monotonic() - _IDLE + 1
        with self._lock:
            old = [connection for since, connection in self._idle if since <= latest]
            self._idle = [one for one in self._idle if one[0] > latest]
            self._closer = None
            if self._idle:
                self._close_later()
        for connection in old:
            connection.close()

    def after_fork_in_child(self) -> None:
        """Begin without connections: those there are belong to the parent, which goes on using them."""
        _of_parents.extend(self._idle)
        self._idle = []
        self._lock = threading.Lock()
        self._turns = Turns(_MOST)
        self._closer = None


_PRIMARY = "It may be a standby: [store] url has to name the primary server."
_LOGIN = "Check the password in ~/.pgpass, in PGPASSWORD or with the service."
_DATABASE = "Check the database's name in [store] url."
_REMEDIES = {  # by how a refusal begins: it has no code
    "password ": _LOGIN,
    "fe_sendauth: no password": _LOGIN,
    'database "': _DATABASE,
    "no such database": _DATABASE,  # PgBouncer's
    'role "': "Check the user in [store] url; the owner adds one with: ipyrouter team add USER --team TEAM",
    "definition of service": "Add it to ~/.pg_service.conf, or check [store] url.",
}


def unreachable(error: psycopg.OperationalError) -> AwayError:
    """Return why a server cannot be reached, and what can be done about it."""
    why = reason(error).removeprefix("connection failed: ").removeprefix("connection is bad: ")
    said = (why.partition(" failed: ")[2] or why).removeprefix("FATAL:").strip()
    remedies = (remedy for beginning, remedy in _REMEDIES.items() if said.startswith(beginning))
    return AwayError(why, next(remedies, "Check [store] url and the network."))


def _refusal(error: psycopg.Error) -> StoreError:
    if isinstance(error, psycopg.errors.InvalidSchemaName | psycopg.errors.UndefinedFunction):
        return StoreError("The database holds no team store.", "Its owner makes it with: ipyrouter team upgrade")
    if isinstance(error, psycopg.errors.InsufficientPrivilege):
        return StoreError(
            f"The team store refuses this login ({reason(error)}).",
            "The owner of the store adds a member with: ipyrouter team add USER --team TEAM",
        )
    return StoreError(f"The team store refuses this ({reason(error)}).")


def _check_version(version: int) -> None:
    """Raise StoreError for a schema that this version does not work with."""
    if version > VERSION:
        raise StoreError(
            f"The team store has version {version}, this ipyrouter knows {VERSION}.",
            "Upgrade it: pip install --upgrade ipyrouter",
        )
    if version < OLDEST:
        raise StoreError(
            f"The team store has version {version}, this ipyrouter needs {OLDEST} or newer.",
            "The owner of the store runs: ipyrouter team upgrade",
        )


_servers: weakref.WeakSet[Server] = weakref.WeakSet()
_of_parents: list[tuple[float, Connection]] = []  # in a child: never used, and never closed


def _after_fork_in_child() -> None:
    for server in list(_servers):
        server.after_fork_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
