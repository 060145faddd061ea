"""The team's store: cache, budgets and log in one PostgreSQL database, with a SQLite file for when it is away."""

from __future__ import annotations

import importlib.util
from decimal import Decimal
from pathlib import Path

from ipyrouter.clock import Clock, SystemClock
from ipyrouter.errors import ConfigError, StoreError
from ipyrouter.store.base import Health
from ipyrouter.store.postgres.away import AwayError, ConnInfo
from ipyrouter.store.postgres.cache import Cache
from ipyrouter.store.postgres.ledger import Ledger
from ipyrouter.store.postgres.log import LogWriter
from ipyrouter.store.postgres.reader import LogReader
from ipyrouter.store.postgres.runs import Runs

__all__ = ["ConnInfo", "PostgresStore"]


class PostgresStore(Cache, Ledger, LogWriter, LogReader, Runs):
    """Implements store.base.Store. Safe to use from several threads and processes at once, and after a fork."""

    def __init__(
        self, conninfo: ConnInfo, folder: Path, *, offline_day: Decimal | None = None, clock: Clock | None = None
    ) -> None:
        """Keep where the server is; nothing is imported or opened before the first use.

        Args:
            conninfo: A URL, a libpq connection string, or a function that returns one for each new connection.
            folder: The user's own folder, for what is written while the server is away.
            offline_day: Dollars that may be spent a day meanwhile; None: nothing, where budgets are set.
            clock: What time it is on this machine; the log and the budgets go by the server's.

        Raises:
            ConfigError: psycopg is not installed.
        """
        if importlib.util.find_spec("psycopg") is None:
            raise ConfigError("[store] url needs the package psycopg.", 'Run: pip install "ipyrouter[team]"')
        super().__init__(conninfo, folder, offline_day, clock or SystemClock())

    def health(self) -> Health:
        """Check the store; says who one is there."""
        try:
            hello = self._server.hello()
            ((address, writes),) = self._server.call(
                "SELECT current_database() || ' at ' || COALESCE(host(inet_server_addr()), 'a local socket'),"
                " current_setting('transaction_read_only') = 'off'"
            )
            query = "SELECT COALESCE(sum(requests), 0)::bigint FROM ipyrouter.sums"
            ((answers,),) = self._server.call(query)
        except (AwayError, StoreError) as error:
            detail = f"{error}. {error.remedy}".strip() if isinstance(error, AwayError) else str(error)
            return Health("the team's PostgreSQL", ok=False, detail=detail)
        if not writes:
            detail = "the server takes no writes. It may be a standby: [store] url has to name the primary server."
            return Health(f"PostgreSQL, {address}", ok=False, detail=detail, answers=answers)
        who = f"{hello['member']} of team {hello['team']}{', its lead' if hello['lead'] else ''}"
        return Health(f"PostgreSQL, {address}", ok=True, detail=f"you are {who}", answers=answers)

    def warnings(self) -> list[str]:
        """Return what went wrong since the last call."""
        warnings, self._warnings = self._warnings, []
        return [*warnings, *self._local.warnings()]

    def close(self) -> None:
        """Close all connections that are not in use, after a last try to send what waits on this machine."""
        self._send_waiting(most=None)
        self._local.close()
        if "_server" in self.__dict__:
            self._server.close()
