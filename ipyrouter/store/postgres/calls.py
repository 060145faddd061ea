"""What all parts of the team's store share: the server, and the local file that stands in for it while it is away."""

from __future__ import annotations

import functools
import json
import threading
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ipyrouter.clock import Clock
from ipyrouter.errors import ConfigError, StoreError
from ipyrouter.store.postgres.away import AwayError, ConnInfo, reason
from ipyrouter.store.postgres.outbox import Outbox

if TYPE_CHECKING:
    from ipyrouter.store.postgres.server import Server

T = TypeVar("T")
_PATIENCE = 10.0  # seconds to wait for another thread that is sending
_A_FEW = 50  # of the requests that wait are sent beside a new one, so that no cell waits for all of them


class Calls:
    """Asks the server and, while it is away or refuses, the file on this machine."""

    def __init__(self, conninfo: ConnInfo, folder: Path, offline_day: Decimal | None, clock: Clock) -> None:
        self._conninfo = conninfo
        self._offline_day = offline_day
        self._clock = clock
        self._local = Outbox(folder / "outbox", clock=clock)
        self._sending = threading.Lock()
        self._warnings: list[str] = []
        self._warned: set[str] = set()
        self._holders: set[str] = set()  # owners that may hold a claim or a reservation

    @functools.cached_property
    def _server(self) -> Server:
        try:
            from ipyrouter.store.postgres.server import Server  # psycopg
        except ImportError as error:  # without libpq it cannot be imported
            raise ConfigError(
                f"[store] url needs psycopg, and that fails ({reason(error)}).", 'Run: pip install "ipyrouter[team]"'
            ) from None

        return Server(self._conninfo)

    def _ask(self, expression: str, *parameters: Any) -> Any:
        """Return the one value of an SQL expression. Raises AwayError, StoreError."""
        rows = self._server.call(f"SELECT {expression}", parameters)
        return rows[0][0] if rows else None

    def _or_locally(self, remote: Callable[[], T], local: Callable[[], T]) -> T:
        """Return what the server says or, where it does not answer or refuses, the local file; with one warning."""
        try:
            return remote()
        except (AwayError, StoreError) as error:
            self._warn(error)
            return local()

    def _warn(self, error: Exception) -> None:
        line = str(error)
        if isinstance(error, AwayError):
            line = f"The team store is away ({error}); the log goes on in {self._local.path} and follows later."
            line = f"{line} {error.remedy}".strip()
        if line not in self._warned:
            self._warned.add(line)
            self._warnings.append(line)

    def _send_waiting(self, most: int | None = _A_FEW) -> None:
        """Send requests that were logged on this machine while the server was away; each arrives exactly once.

        Args:
            most: Send a few and leave it at that, unless another thread is sending; None sends all.
        """
        if not self._sending.acquire(timeout=_PATIENCE if most is None else 0):
            return
        try:
            self._send(most)
        finally:
            self._sending.release()

    def _send(self, most: int | None) -> None:
        while waiting := self._local.waiting(_A_FEW):
            sent = []
            for one in waiting:
                try:
                    self._ask("ipyrouter.record(%s, %s)", json.dumps(one.body), one.mode)
                except AwayError:
                    break
                except StoreError as error:  # it stays here, and holds nothing else up
                    self._warn(error)
                    self._local.hold_back(one.id)
                else:
                    sent.append(one.id)
            self._local.sent(sent)
            if len(sent) < len(waiting) or most is not None:
                return
