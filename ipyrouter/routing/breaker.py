"""The circuit breaker: which candidates cool down after faults, which providers are off, why and until when."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from ipyrouter.clock import Clock
from ipyrouter.config import Config, keys
from ipyrouter.config.catalogue import service_at
from ipyrouter.providers.base import Fault, FaultKind
from ipyrouter.routing.planner import Step
from ipyrouter.store.base import OutageBoard
from ipyrouter.text import amounts
from ipyrouter.types import Candidate

_COOLDOWN_SECONDS: dict[FaultKind, float] = {
    "rate_limit": 20.0,
    "quota": 3600.0,
    "server": 10.0,
    "connect": 30.0,
    "timeout": 60.0,
    "malformed": 10.0,
    "broken_stream": 5.0,
    "unfinished": 10.0,
}
"""How long a candidate cools down after its first fault; each further one in a row doubles it."""

_LONGEST_COOLDOWN = 3600.0  # seconds, whatever a server's Retry-After says
_FOREVER = float("inf")


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a candidate did not answer: the kind of fault, in brief with the remedy, and in the server's words too."""

    kind: FaultKind | Literal["budget"]
    brief: str
    error: str
    detail: str = ""  # the server's words, where ``brief`` leaves them out

    def __str__(self) -> str:
        return f"{self.brief} ({self.detail})" if self.detail else self.brief


@dataclass(frozen=True, slots=True)
class Cooldown:
    """Why and until when (the clock's monotonic seconds) a candidate is skipped; ``faults`` counts those in a row.

    None of them are this kernel's own where a colleague's call failed.
    """

    until: float
    reason: Reason
    faults: int


@dataclass(frozen=True, slots=True)
class DisabledProvider:
    """Why a provider is off for the session; ``key`` is a mark of the key that was refused."""

    reason: Reason
    key: int


Bypass = tuple[Candidate, Reason]
"""A candidate that does not answer although the chain prefers it, and why."""


class Breaker:
    """The memory of what failed. Safe to use from several threads.

    A server's fault (5xx) from a known service is an outage, of which those who share the store hear. What may be this
    kernel's own fault (its key, quota, network, or a server of its own) stays here.
    """

    def __init__(self, config: Config, clock: Clock, board: OutageBoard) -> None:
        self.config = config
        self._clock = clock
        self._board = board
        self._lock = threading.Lock()
        self._cooldowns: dict[Candidate, Cooldown] = {}
        self._disabled: dict[str, DisabledProvider] = {}

    def status(self) -> list[tuple[str, str, float | None]]:
        """Return (name, error, seconds left or None for the session) of all that is cooling down or off now."""
        now = self._clock.monotonic()
        with self._lock:
            off = [
                (name, entry.reason.error, None)
                for name, entry in self._disabled.items()
                if not self._key_changed(name)
            ]
            cooling = [
                (str(candidate), entry.reason.error, None if entry.until == _FOREVER else entry.until - now)
                for candidate, entry in self._cooldowns.items()
                if entry.until > now
            ]
        return [*off, *cooling]

    def reset(self) -> None:
        """Forget all faults."""
        with self._lock:
            self._cooldowns.clear()
            self._disabled.clear()

    def order(self, steps: tuple[Step, ...]) -> list[Step]:
        """Return the steps to take: healthy ones in order, then those that cool down, the soonest healthy first."""
        self._heed([step.candidate for step in steps])
        now = self._clock.monotonic()
        with self._lock:
            usable = [
                step
                for step in steps
                if step.candidate.provider not in self._disabled or self._key_changed(step.candidate.provider)
            ]
            left = {
                step.candidate: max(self._cooldowns[step.candidate].until - now, 0.0)
                for step in usable
                if step.candidate in self._cooldowns
            }
        # sorted() is stable: what is healthy keeps the chain's order.
        return sorted(
            (step for step in usable if left.get(step.candidate) != _FOREVER),
            key=lambda step: left.get(step.candidate, 0.0),
        )

    def record_failure(self, candidate: Candidate, fault: Fault, reason: Reason) -> None:
        """Let a candidate cool down after a fault of its own, or its provider be off after one of its key."""
        with self._lock:
            if concerns_key(fault):
                self._disabled[candidate.provider] = DisabledProvider(reason, self._key_mark(candidate.provider))
            elif fault.kind in ("not_found", "forbidden"):
                self._cooldowns[candidate] = Cooldown(_FOREVER, reason, 1)
            elif fault.kind in _COOLDOWN_SECONDS:
                faults = self._cooldowns[candidate].faults + 1 if candidate in self._cooldowns else 1
                seconds = fault.retry_after
                if seconds is None:
                    seconds = _COOLDOWN_SECONDS[fault.kind] * 2 ** min(faults - 1, 10)
                until = self._clock.monotonic() + min(seconds, _LONGEST_COOLDOWN)
                self._cooldowns[candidate] = Cooldown(until, reason, faults)
        if fault.kind == "server" and fault.status and (model := self._shared_name(candidate)):
            self._board.report_outage(model, fault.status, until - self._clock.monotonic())

    def _heed(self, candidates: list[Candidate]) -> None:
        """Let candidates cool down whose services fail, as colleagues' kernels have found."""
        outages = self._board.outages()
        if not outages:
            return
        for candidate in candidates:
            outage = outages.get(self._shared_name(candidate) or "")
            if outage is None:
                continue
            error = f"{outage.status} to a colleague's call"
            with self._lock:
                own = self._cooldowns.get(candidate)
                if own is None or own.until <= self._clock.monotonic():
                    faults = own.faults if own is not None else 0
                    self._cooldowns[candidate] = Cooldown(outage.until, Reason("server", error, error), faults)

    def _shared_name(self, candidate: Candidate) -> str | None:
        """Return the name under which all know a model, None for one on a server that may be this user's alone."""
        from ipyrouter.providers.transport import is_private  # httpx

        provider = self.config.providers[candidate.provider]
        if provider.embedded or is_private(address := provider.address()):
            return None
        service = service_at(address)
        return f"{service}/{candidate.model}" if service else None

    def record_success(self, candidate: Candidate) -> None:
        """Forget a candidate's faults: it has answered."""
        with self._lock:
            cooldown = self._cooldowns.pop(candidate, None)
            self._disabled.pop(candidate.provider, None)
        if cooldown is not None and cooldown.reason.kind == "server" and (model := self._shared_name(candidate)):
            self._board.report_outage(model, 200, 0)

    def bypasses(
        self, steps: tuple[Step, ...], answering: Candidate | None, known: Mapping[Candidate, Reason] | None = None
    ) -> tuple[Bypass, ...]:
        """Return the candidates before the answering one (None: all) that were skipped, with the reasons."""
        reasons: dict[Candidate, Reason] = {}
        for step in steps:
            if step.candidate == answering:
                break
            if (reason := (known or {}).get(step.candidate) or self._reason_of(step.candidate)) is not None:
                reasons[step.candidate] = reason
        return tuple(reasons.items())

    def _reason_of(self, candidate: Candidate) -> Reason | None:
        """Return why a candidate is not asked, if it is not."""
        with self._lock:
            if candidate.provider in self._disabled and not self._key_changed(candidate.provider):
                return self._disabled[candidate.provider].reason
            cooldown = self._cooldowns.get(candidate)
            left = cooldown.until - self._clock.monotonic() if cooldown is not None else 0.0
        if cooldown is None or left <= 0:
            return None
        if left == _FOREVER:
            return cooldown.reason
        return replace(cooldown.reason, brief=f"cooling down for {amounts.seconds(left)} after {cooldown.reason.brief}")

    def _key_changed(self, provider: str) -> bool:
        return self._disabled[provider].key != self._key_mark(provider)

    def _key_mark(self, provider: str) -> int:
        return keys.mark(self.config.providers[provider])


def concerns_key(fault: Fault) -> bool:
    """Tell whether the fault is one of the key, and so of all of the provider's models."""
    return fault.kind in ("auth", "forbidden") and not fault.only_model
