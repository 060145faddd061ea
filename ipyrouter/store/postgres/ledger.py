"""Budgets: the user's own and the team's, decided by the server in one round trip."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from ipyrouter.errors import StoreError
from ipyrouter.store.base import Limit, Refusal, Reservation, Unavailable
from ipyrouter.store.postgres.away import AwayError
from ipyrouter.store.postgres.calls import Calls
from ipyrouter.text.amounts import to_pico
from ipyrouter.types import Session

T = TypeVar("T")
_FRESH = 5.0  # seconds in which the team's budgets are not asked for again


class Ledger(Calls):
    """Implements store.base.BudgetLedger, but for releasing, which the cache does."""

    _known_limits: list[Limit] | None = None  # the team's, as last heard; None: never
    _limits_until = 0.0

    def reserve(
        self, pico: int, limits: Sequence[Limit], session: Session, owner: str, seconds: float
    ) -> Reservation | Refusal | Unavailable:
        """Promise money to a call, or say which budget has not enough left: one of ``limits`` or of the team's."""
        reservation = Reservation(uuid.uuid4().hex, pico)

        def remote() -> Reservation | Refusal:
            refusal = self._ask(
                "ipyrouter.reserve(%s, %s, %s, %s, %s, %s)",
                reservation.id, owner, session.id, pico, seconds, _own(limits),
            )  # fmt: skip
            return reservation if refusal is None else _refusal(refusal, limits)

        self._holders.add(owner)
        return self._decided(
            remote, limits, lambda allowance: self._local.reserve(pico, [*limits, *allowance], session, owner, seconds)
        )

    def settle(self, reservation: str, pico: int) -> None:
        """Change what a reservation holds."""
        self._or_locally(
            lambda: self._ask("ipyrouter.settle(%s, %s)", reservation, pico),
            lambda: self._local.settle(reservation, pico),
        )

    def used(self, limit: Limit, session: Session) -> int | Unavailable:
        """Return what is spent and promised of a budget, in 1e-12 dollars."""

        def remote() -> int:
            standing = self._standing(session, [] if limit.scope else [limit])
            return next(used for one, used in standing if one == limit)

        return self._decided(remote, [limit], lambda _: self._local.used(limit, session))

    def limits(self, session: Session) -> list[Limit]:
        """Return the budgets that the team's owner has set for this user, as of some seconds ago.

        The server holds a new one anyway, with the next :meth:`reserve`; while it is away, what was last heard counts.
        """
        now = self._clock.monotonic()
        if self._known_limits is not None and now < self._limits_until:
            return self._known_limits
        try:
            self._limits_until = now + _FRESH
            self._known_limits = [limit for limit, _ in self._standing(session, [])]
        except (AwayError, StoreError) as error:
            self._warn(error)
            if self._known_limits is None:
                return [] if self._offline_day is not None else [Limit("your team", 0, "day", scope="team")]
        return self._known_limits or []

    def _standing(self, session: Session, own: Sequence[Limit]) -> list[tuple[Limit, int]]:
        """Return the budgets, the team's among them, with what is spent and promised of them."""
        rows = self._server.call("SELECT ipyrouter.used(%s, %s)", (session.id, _own(own)))
        return [(_limit(row, own), int(row["spent"]) + int(row["promised"])) for (row,) in rows]

    def _decided(
        self, remote: Callable[[], T], limits: Sequence[Limit], locally: Callable[[list[Limit]], T]
    ) -> T | Unavailable:
        """Return what the server decides. Where it is away, budgets block, unless the config allows something."""
        try:
            return remote()
        except (AwayError, StoreError) as error:
            self._warn(error)
            if self._offline_day is not None:
                return locally([Limit("today while the team store is away", to_pico(self._offline_day), "day")])
            blocking = [*limits, *(self._known_limits or [])]
            if not blocking and self._known_limits is not None:
                return locally([])
            limit = blocking[0] if blocking else Limit("your team", 0, "day", scope="team")
            return Unavailable(limit, f"the team store is away ({error}); [store] offline_day allows some dollars")


def _own(limits: Sequence[Limit]) -> str:
    return json.dumps([{"pico": limit.pico, "period": limit.period} for limit in limits])


def _refusal(row: dict[str, Any], own: Sequence[Limit]) -> Refusal:
    return Refusal(_limit(row, own), int(row["spent"]) + int(row["promised"]), int(row["spent"]))


def _limit(row: dict[str, Any], own: Sequence[Limit]) -> Limit:
    """Return the budget that the server means: one of the user's own by its place, else one of the team's."""
    if row["place"] is not None:
        return own[int(row["place"]) - 1]
    whose = "your team" if row["scope"] == "team" else "you in your team"
    span = {"day": "today", "month": "this month", "session": "this session", "call": "a call"}[row["period"]]
    return Limit(f"{whose} {span}", int(row["pico"]), row["period"], scope=row["scope"])
