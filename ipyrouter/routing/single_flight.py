"""The cache, and one request in flight for each: whoever asks the same waits for the answer that is on its way."""

from __future__ import annotations

import hashlib

from ipyrouter.config import Config
from ipyrouter.routing.interrupts import pauses
from ipyrouter.routing.planner import TierPlan
from ipyrouter.routing.recorder import RequestRun
from ipyrouter.store.base import CachedAnswer, Store
from ipyrouter.types import Request

CLAIM_GRACE_SECONDS = 60.0
"""How long a claim outlives the call's total deadline: its owner is dead then."""


class SingleFlight:
    """Looks up cached answers and joins identical requests in flight, in this process and in others."""

    def __init__(self, config: Config, store: Store) -> None:
        self.config = config
        self._store = store

    def look_up(self, request: Request, plan: TierPlan, *, escalates: bool) -> CachedAnswer | None:
        """Return the cached answer of the plan's candidates in order, that of an escalation first; reads only."""
        if not self._uses_cache(request):
            return None
        keys = [step.call.key() for step in plan.cacheable]
        if keys and escalates:
            keys.insert(0, escalated_key(keys[0]))
        return self._store.cached(keys, self.config.cache_ttl_days)

    def join(self, run: RequestRun, plan: TierPlan, *, escalates: bool) -> CachedAnswer | None:
        """Claim the request, or wait once for the identical one in flight and return what it left in the cache."""
        if not self._uses_cache(run.request):
            return None
        step = plan.steps[0]
        key, longest = step.call.key(), step.deadlines.total + CLAIM_GRACE_SECONDS
        if self._claim(run, key, longest):
            return None
        waits, until = pauses(), run.clock.monotonic() + longest
        while run.clock.monotonic() < until and self._store.leased(key):
            run.interrupts.sleep(next(waits))
        hit = self.look_up(run.request, plan, escalates=escalates)
        if hit is None:  # the other request left nothing that may be shared
            self._claim(run, key, longest)
        return hit

    def _claim(self, run: RequestRun, key: bytes, seconds: float) -> bool:
        claimed = self._store.lease(key, run.owner, seconds)
        if claimed:
            run.claim = key
        return claimed

    def _uses_cache(self, request: Request) -> bool:
        return request.cache == "use" and self.config.cache_enabled


def escalated_key(key: bytes) -> bytes:
    """Return the cache key of the answer that an escalation from the call with this key led to."""
    return hashlib.sha256(key + b"escalated").digest()
