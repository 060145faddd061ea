"""Runs over columns, each its member's own, and the cached answers of the team that they keep."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from ipyrouter.errors import StoreError
from ipyrouter.store import rows
from ipyrouter.store.base import Run, microseconds, moment
from ipyrouter.store.postgres import outbox
from ipyrouter.store.postgres.away import AwayError
from ipyrouter.store.postgres.calls import Calls


class Runs(Calls):
    """Implements store.base.RunStore. What is written while the server is away stays here until it is written again."""

    def put_run(self, run: Run) -> None:
        """Write a run, or replace the one of this id; its beginning stays what it was."""
        here = self._runs_here()
        begun = next((one.created for one in here if one.id == run.id), run.created)
        values = (rows.instant(microseconds(begun)), rows.instant(microseconds(run.updated)))

        def remote() -> None:
            self._ask("ipyrouter.put_run(%s, %s, %s, %s)", run.id, *values, json.dumps(_storable(run.state)))
            if here:
                self._local.drop_run(run.id)

        self._or_locally(remote, lambda: self._local.put_run(run))

    def runs(self) -> list[Run]:
        """Return all runs of this user, the latest first. Raises StoreError."""
        query = "SELECT id, created, updated, state FROM ipyrouter.runs WHERE member = session_user"
        try:
            there = self._server.call(query)
        except AwayError as error:
            raise StoreError(f"The team store is away ({error}), and holds your runs.", "Try again later.") from None
        runs = [Run(run_id, moment(begun), moment(went_on), state) for run_id, begun, went_on, state in there]
        latest = {run.id: run for run in sorted([*runs, *self._runs_here()], key=lambda run: run.updated)}
        return sorted(latest.values(), key=lambda run: run.updated, reverse=True)

    def pin(self, run_id: str, keys: Sequence[bytes]) -> None:
        """Keep the cached answers of these keys."""
        self._or_locally(
            lambda: self._ask("ipyrouter.pin(%s, %s::bytea[])", run_id, list(keys)),
            lambda: self._local.pin(run_id, keys),
        )

    def drop_run(self, run_id: str) -> bool:
        """Delete a run and let its answers age again."""
        here = self._local.is_there and self._local.drop_run(run_id)
        return self._or_locally(lambda: bool(self._ask("ipyrouter.drop_run(%s)", run_id)), lambda: False) or here

    def _runs_here(self) -> list[Run]:
        return self._local.runs() if self._local.is_there else []


def _storable(value: Any) -> Any:
    """Return plain JSON whose strings PostgreSQL can hold."""
    if isinstance(value, str):
        return outbox.text(rows.text(value) or "")
    if isinstance(value, list | tuple):
        return [_storable(one) for one in value]
    if isinstance(value, dict):
        return {_storable(key): _storable(one) for key, one in value.items()}
    return value
