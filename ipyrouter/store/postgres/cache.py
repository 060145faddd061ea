"""Completions by the key of their call, shared by the team, and the claims of those who are asking for one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from ipyrouter.store.base import CachedAnswer, Claim
from ipyrouter.store.owners import is_dead, outlives_its_process
from ipyrouter.store.postgres.calls import Calls
from ipyrouter.store.sqlite.schema import DAY
from ipyrouter.text.amounts import from_pico
from ipyrouter.types import Usage


class Cache(Calls):
    """Implements store.base.AnswerCache."""

    def cached(self, keys: Sequence[bytes], max_age_days: float) -> CachedAnswer | None:
        """Return the answer of the first of the keys that has one of no greater age."""
        age = int(max_age_days * DAY)
        return self._or_locally(
            lambda: _answer(self._ask("ipyrouter.cached(%s::bytea[], %s)", list(keys), age)),
            lambda: self._local.cached(keys, max_age_days),
        )

    def cached_or_claim(
        self, keys: Sequence[bytes], claim: bytes, owner: str, seconds: float, max_age_days: float
    ) -> CachedAnswer | Claim:
        """Return the cached answer, or claim the right to ask for it, on any machine of the team."""

        def remote() -> CachedAnswer | Claim:
            parameters = (list(keys), claim, owner, seconds, int(max_age_days * DAY))
            expression = "ipyrouter.cached_or_claim(%s::bytea[], %s::bytea, %s, %s, %s)"
            found = self._ask(expression, *parameters)
            if "owner" in found and is_dead(found["owner"]):  # a kernel of this machine was killed
                self._ask("ipyrouter.release(%s)", found["owner"])
                found = self._ask(expression, *parameters)
            return Claim(found["owner"]) if "owner" in found else cast(CachedAnswer, _answer(found))

        self._holders.add(owner)
        return self._or_locally(remote, lambda: self._local.cached_or_claim(keys, claim, owner, seconds, max_age_days))

    def cached_many(self, groups: Sequence[Sequence[bytes]], max_age_days: float) -> list[CachedAnswer | None]:
        """Return the answer of the first of the keys of each group that has one of no greater age."""
        query = "SELECT ipyrouter.cached_many(%s::bytea[], %s)"
        parameters = (list({key for group in groups for key in group}), int(max_age_days * DAY))

        def remote() -> list[CachedAnswer | None]:
            found = (_answer(row) for (row,) in self._server.call(query, parameters))
            answers = {answer.key: answer for answer in found if answer is not None}
            return [next((answers[key] for key in group if key in answers), None) for group in groups]

        return self._or_locally(remote, lambda: self._local.cached_many(groups, max_age_days))

    def release(self, owner: str) -> None:
        """Give back all claims and reservations of an owner."""
        if self._local.is_there:
            self._local.release(owner)
        if owner in self._holders or outlives_its_process(owner):
            self._or_locally(lambda: self._ask("ipyrouter.release(%s)", owner), lambda: None)
            self._holders.discard(owner)

    def clear_cache(self) -> int:
        """Delete all completions that this user has put into the cache, and return how many there were."""
        locally = self._local.clear_cache() if self._local.is_there else 0
        return locally + self._or_locally(lambda: int(self._ask("ipyrouter.clear_cache()")), lambda: 0)


def _answer(row: dict[str, Any] | None) -> CachedAnswer | None:
    if row is None:
        return None
    cost = row["cost_pico"]
    return CachedAnswer(
        bytes.fromhex(row["key"]), row["provider"], row["model"], row["tier"], row["text"], Usage(**row["usage"]),
        row["finish"], None if cost is None else from_pico(cost), row["escalated_from"],
    )  # fmt: skip
