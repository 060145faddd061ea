"""The cache, and one request in flight for each: the same request again waits for its answer."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from ipyrouter.config import Config
from ipyrouter.routing.interrupts import pauses
from ipyrouter.routing.planner import TierPlan
from ipyrouter.routing.recorder import RequestRun
from ipyrouter.store.base import AnswerCache, CachedAnswer, Claim
from ipyrouter.types import Request

CLAIM_GRACE_SECONDS = 60.0
"""How long a claim outlives the call's total deadline: its owner is dead then."""


class SingleFlight:
    """Looks up cached answers and joins identical requests in flight, in this process and in others."""

    def __init__(self, config: Config, cache: AnswerCache) -> None:
        self.config = config
        self._cache = cache

    def look_up(self, request: Request, plan: TierPlan, *, escalates: bool) -> CachedAnswer | None:
        """Return the cached answer of the plan's candidates in order, that of an escalation first; reads only."""
        if not self._uses_cache(request):
            return None
        return self._cache.cached(_keys(plan, escalates=escalates), self.config.cache_ttl_days)

    def look_up_many(self, requests: Sequence[tuple[Request, TierPlan, bool]]) -> list[CachedAnswer | None]:
        """Return what :meth:`look_up` returns for many requests, each with its plan and whether it escalates."""
        groups = [_keys(plan, escalates=up) if self._uses_cache(request) else [] for request, plan, up in requests]
        return self._cache.cached_many(groups, self.config.cache_ttl_days)

    def join(self, run: RequestRun, plan: TierPlan, *, escalates: bool) -> CachedAnswer | None:
        """Claim the request, or wait once for the identical one in flight and return what it left in the cache.

        The run's owner holds the claim until its record, or until its release.
        """
        if not self._uses_cache(run.request):
            return None
        step, waits = plan.steps[0], pauses()
        keys, claim = _keys(plan, escalates=escalates), step.call.key()
        longest = step.deadlines.total + CLAIM_GRACE_SECONDS

        def look() -> CachedAnswer | Claim:
            return self._cache.cached_or_claim(keys, claim, run.owner, longest, self.config.cache_ttl_days)

        state = look()
        other = state if isinstance(state, Claim) and state.owner != run.owner else None
        until = run.clock.monotonic() + longest
        while state == other and run.clock.monotonic() < until:
            run.interrupts.sleep(next(waits))
            state = look()
        return state if isinstance(state, CachedAnswer) else None

    def _uses_cache(self, request: Request) -> bool:
        return request.cache == "use" and self.config.cache_enabled


def _keys(plan: TierPlan, *, escalates: bool) -> list[bytes]:
    """Return under which keys the plan's answers may be cached, that of an escalation first."""
    keys = [step.call.key() for step in plan.cacheable]
    return [escalated_key(keys[0]), *keys] if keys and escalates else keys


def escalated_key(key: bytes) -> bytes:
    """Return the cache key of the answer that an escalation from the call with this key led to."""
    return hashlib.sha256(key + b"escalated").digest()
