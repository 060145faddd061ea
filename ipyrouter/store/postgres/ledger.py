"""Budgets: the user's own and the team's, decided by the server in one round trip."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, TypeVar

from ipyrouter.errors import StoreError
from ipyrouter.store.base import Busy, Limit, Outage, Rate, Refusal, Reservation, Unavailable
from ipyrouter.store.postgres.away import AwayError
from ipyrouter.store.postgres.calls import Calls
from ipyrouter.store.postgres.outbox import text
from ipyrouter.text.amounts import to_pico
from ipyrouter.types import Session

T = TypeVar("T")
_TERMS = "SELECT ipyrouter.used('', '[]') UNION ALL SELECT ipyrouter.rates() UNION ALL SELECT ipyrouter.outages()"
_FRESH = 5.0  # seconds in which the team's budgets are not asked for again


class Ledger(Calls):
    """Implements store.base.BudgetLedger, but for releasing, which the cache does."""

    _known_limits: list[Limit] | None = None  # the team's, as last heard; None: never
    _known_rates: Sequence[Rate] = ()
    _known_outages: Mapping[str, Outage] = MappingProxyType({})
    _limits_until = 0.0

    def reserve(
        self,
        pico: int,
        limits: Sequence[Limit],
        session: Session,
        owner: str,
        seconds: float,
        *,
        tokens: int | None = None,
    ) -> Reservation | Refusal | Busy | Unavailable:
        """Promise money to a call, or say which budget has not enough left, or which rate: own ones or the team's."""
        reservation = Reservation(uuid.uuid4().hex, pico)

        def remote() -> Reservation | Refusal | Busy:
            refusal = self._ask(
                "ipyrouter.reserve(%s, %s, %s, %s, %s, %s, %s, %s)",
                reservation.id, owner, session.id, pico, seconds, _own(limits), tokens, session.run,
            )  # fmt: skip
            if refusal is None:
                return reservation
            return _busy(refusal) if "unit" in refusal else _refusal(refusal, limits)

        self._holders.add(owner)
        return self._decided(
            remote, limits, lambda allowance: self._local.reserve(pico, [*limits, *allowance], session, owner, seconds)
        )

    def settle(self, reservation: str, pico: int, tokens: int | None = None) -> None:
        """Change what a reservation holds, and what its call has taken of the minute."""
        self._or_locally(
            lambda: self._ask("ipyrouter.settle(%s, %s, %s)", reservation, pico, tokens),
            lambda: self._local.settle(reservation, pico),
        )

    def used(self, limit: Limit, session: Session) -> int | Unavailable:
        """Return what is spent and promised of a budget, in 1e-12 dollars."""

        def remote() -> int:
            standing = self._standing(session, [] if limit.scope else [limit])
            return next(used for one, used in standing if one == limit)

        return self._decided(remote, [limit], lambda _: self._local.used(limit, session))

    def limits(self, session: Session) -> list[Limit]:  # noqa: ARG002  they hold for any
        """Return the budgets that the team's owner has set for this user, as of some seconds ago.

        The server holds a new one anyway, with the next :meth:`reserve`; while it is away, what was last heard counts.
        """
        self._hear()
        if self._known_limits is None:
            return [] if self._offline_day is not None else [Limit("your team", 0, "day", scope="team")]
        return self._known_limits

    def rates(self, session: Session, *, now: bool = False) -> list[Rate]:  # noqa: ARG002  they hold for any
        """Return what the team's owner allows a minute, as of some seconds ago; nobody holds it while it is away."""
        if now:
            self._limits_until = 0.0
        self._hear()
        return list(self._known_rates)

    def outages(self) -> Mapping[str, Outage]:
        """Return what colleagues' kernels know of services that fail, as of some seconds ago."""
        self._hear()
        return self._known_outages

    def report_outage(self, model: str, status: int, seconds: float) -> None:
        """Tell the team that a model's service fails, or answers again; while the server is away nobody hears it."""
        expression = "ipyrouter.report_outage(%s, %s, %s)"
        self._or_locally(lambda: self._ask(expression, text(model)[:500], status, seconds), lambda: None)
        self._limits_until = 0.0

    def _hear(self) -> None:
        """Ask what the team's owner has set and what fails, where that was some seconds ago."""
        now = self._clock.monotonic()
        if self._known_limits is not None and now < self._limits_until:
            return
        try:
            self._limits_until = now + _FRESH
            found = self._server.call(_TERMS)
        except (AwayError, StoreError) as error:
            self._warn(error)
            return
        rows = [row for (row,) in found]
        self._known_limits = [_limit(row, []) for row in rows if "period" in row]
        self._known_rates = [_rate(row) for row in rows if "unit" in row]
        self._known_outages = {
            row["model"]: Outage(row["status"], now + row["seconds"]) for row in rows if "model" in row
        }

    def _standing(self, session: Session, own: Sequence[Limit]) -> list[tuple[Limit, int]]:
        """Return the budgets, the team's among them, with what is spent and promised of them."""
        rows = self._server.call("SELECT ipyrouter.used(%s, %s, %s)", (session.id, _own(own), session.run))
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
            if isinstance(error, StoreError):
                return Unavailable(limit, error.message.rstrip("."), error.remedy)
            remedy = f"{error.remedy} To go on meanwhile, allow some dollars a day: [store] offline_day."
            return Unavailable(limit, f"the team store is away ({error})", remedy.strip())


def _own(limits: Sequence[Limit]) -> str:
    return json.dumps([{"pico": limit.pico, "period": limit.period} for limit in limits])


def _refusal(row: dict[str, Any], own: Sequence[Limit]) -> Refusal:
    return Refusal(_limit(row, own), int(row["spent"]) + int(row["promised"]), int(row["spent"]))


def _busy(row: dict[str, Any]) -> Busy:
    return Busy(_rate(row), int(row["used"]), float(row["seconds"]))


def _rate(row: dict[str, Any]) -> Rate:
    return Rate(_whose(row), int(row["most"]), row["unit"], int(row["used"]))


def _whose(row: dict[str, Any]) -> str:
    return "your team" if row["scope"] == "team" else "you in your team"


def _limit(row: dict[str, Any], own: Sequence[Limit]) -> Limit:
    """Return the budget that the server means: one of the user's own by its place, else one of the team's."""
    if row["place"] is not None:
        return own[int(row["place"]) - 1]
    span = {"day": "today", "month": "this month", "session": "this session", "call": "a call"}[row["period"]]
    return Limit(f"{_whose(row)} {span}", int(row["pico"]), row["period"], scope=row["scope"])
