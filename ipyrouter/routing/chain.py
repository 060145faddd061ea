"""Along the chain until one candidate answers: what to try, what to leave alone for a while, what to tell."""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal

from ipyrouter.config import Config
from ipyrouter.errors import RouteError
from ipyrouter.pricing.prices import Pricing, as_billed
from ipyrouter.providers import Clients
from ipyrouter.providers.base import Fault, FaultKind, Parameter
from ipyrouter.routing.planner import Step
from ipyrouter.text import amounts as money
from ipyrouter.types import Attempt, Candidate, Completion, Cost, Status, Usage

_COOL: dict[FaultKind, float] = {
    "rate_limit": 20.0,
    "quota": 3600.0,
    "server": 10.0,
    "connect": 30.0,
    "timeout": 60.0,
    "malformed": 10.0,
    "broken_stream": 5.0,
    "unfinished": 10.0,
}
"""Seconds a candidate is left alone after its first fault; each further one in a row doubles it."""

_COOL_MOST = 3600.0
_RETRIED: frozenset[FaultKind] = frozenset({"rate_limit", "server", "connect", "malformed", "broken_stream"})
_ACTIONABLE: tuple[FaultKind, ...] = (
    "forbidden",
    "auth",
    "quota",
    "not_found",
    "refused",
    "context",
    "bad_request",
    "malformed",
    "server",
    "broken_stream",
    "unfinished",
    "timeout",
    "connect",
    "rate_limit",
)
"""The faults a person can do most about come first: 403, 401, 400, 500, 429."""


_DIFFERENTLY: dict[Parameter, str] = {
    "temperature": "without the temperature",
    "limit": "with the limit that the server names",
    "limit_name": "with the limit's other name",
    "system": "with the system prompt before the first message",
    "stream": "for a whole answer instead of a stream",
    "stream_options": "without stream_options",
}


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a candidate did not answer: the kind of fault, in brief with the remedy, and in the server's words too."""

    kind: FaultKind
    brief: str
    error: str
    detail: str = ""  # the server's words, where ``brief`` leaves them out

    def __str__(self) -> str:
        return f"{self.brief} ({self.detail})" if self.detail else self.brief


@dataclass(frozen=True, slots=True)
class Cooled:
    """Why and until when (monotonic seconds) a candidate is left alone; ``faults`` counts those in a row."""

    until: float
    reason: Reason
    faults: int


@dataclass(frozen=True, slots=True)
class Off:
    """Why a provider is off for the session; ``key`` tells whether its key has been changed since."""

    reason: Reason
    key: int


Bypass = tuple[Candidate, Reason]
"""A candidate that does not answer although the chain prefers it, and why."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The attempts that were made and, unless all failed, the completion of the last.

    ``bypasses`` holds the candidates that were preferred to the one that answered; where none did, those that were not
    asked after earlier faults. ``refused`` holds those that a budget forbids; ``notes`` say what was sent differently,
    and where the provider's bill is not what the prices say.
    """

    attempts: tuple[Attempt, ...]
    completion: Completion | None = None
    step: Step | None = None
    interrupted: bool = False
    bypasses: tuple[Bypass, ...] = ()
    refused: tuple[Bypass, ...] = ()
    notes: tuple[str, ...] = ()


Send = Callable[[Step, int], Completion]
"""Sends a step's call; the number is the attempt's. Raises Fault."""


class Fallback:
    """The chain's policy, and the memory of what failed. Safe to use from several threads."""

    def __init__(self, config: Config, pricing: Pricing, clients: Clients) -> None:
        self.config = config
        self._pricing = pricing
        self._clients = clients
        self._lock = threading.Lock()
        self._cooled: dict[Candidate, Cooled] = {}
        self._off: dict[str, Off] = {}

    # --- what is left alone ---

    def status(self) -> list[tuple[str, str, float | None]]:
        """Return (name, error, seconds left or None for the session) of all that is left alone now."""
        now = time.monotonic()
        with self._lock:
            off = [(name, entry.reason.error, None) for name, entry in self._off.items() if not self._key_changed(name)]
            cooled = [
                (str(candidate), entry.reason.error, None if entry.until == float("inf") else entry.until - now)
                for candidate, entry in self._cooled.items()
                if entry.until > now
            ]
        return [*off, *cooled]

    def reset(self) -> None:
        """Forget all faults."""
        with self._lock:
            self._cooled.clear()
            self._off.clear()
        self._clients.forget()

    def _key_changed(self, provider: str) -> bool:
        return self._off[provider].key != self._key_mark(provider)

    def _key_mark(self, provider: str) -> int:
        variable = self.config.providers[provider].key
        return hash(os.environ.get(variable)) if variable else 0

    def order(self, steps: tuple[Step, ...]) -> list[Step]:
        """Return the steps to take: healthy ones in order, then cooled ones, the soonest healthy first."""
        now = time.monotonic()
        with self._lock:
            usable = [
                s for s in steps if s.candidate.provider not in self._off or self._key_changed(s.candidate.provider)
            ]
            wait = {
                s.candidate: max(self._cooled[s.candidate].until - now, 0.0)
                for s in usable
                if s.candidate in self._cooled
            }
        # sorted() is stable: what does not wait keeps the chain's order.
        return sorted(
            (s for s in usable if wait.get(s.candidate) != float("inf")), key=lambda s: wait.get(s.candidate, 0.0)
        )

    def _note(self, step: Step, fault: Fault, reason: Reason) -> None:
        candidate, kind = step.candidate, fault.kind
        with self._lock:
            if _switches_off(fault):
                self._off[candidate.provider] = Off(reason, self._key_mark(candidate.provider))
                return
            if kind in ("not_found", "forbidden"):
                self._cooled[candidate] = Cooled(float("inf"), reason, 1)
                return
            if kind not in _COOL:
                return
            faults = self._cooled[candidate].faults + 1 if candidate in self._cooled else 1
            seconds = _COOL[kind] * 2 ** min(faults - 1, 10) if fault.retry_after is None else fault.retry_after
            seconds = min(seconds, _COOL_MOST)
            self._cooled[candidate] = Cooled(time.monotonic() + seconds, reason, faults)

    def _forgive(self, candidate: Candidate) -> None:
        with self._lock:
            self._cooled.pop(candidate, None)
            self._off.pop(candidate.provider, None)

    def _remembered(self, candidate: Candidate) -> Reason | None:
        """Return why a candidate is left alone, if it is."""
        with self._lock:
            if candidate.provider in self._off and not self._key_changed(candidate.provider):
                return self._off[candidate.provider].reason
            cooled = self._cooled.get(candidate)
            left = cooled.until - time.monotonic() if cooled is not None else 0.0
        if cooled is None or left <= 0:
            return None
        if left == float("inf"):
            return cooled.reason
        return replace(cooled.reason, brief=f"cooling down for {money.seconds(left)} after {cooled.reason.brief}")

    def bypasses(
        self, steps: tuple[Step, ...], answering: Candidate | None, known: Mapping[Candidate, Reason] | None = None
    ) -> tuple[Bypass, ...]:
        """Return the candidates before the answering one (None: all) that do not answer, and why: known, or of old."""
        found: dict[Candidate, Reason] = {}
        for step in steps:
            if step.candidate == answering:
                break
            if (reason := (known or {}).get(step.candidate) or self._remembered(step.candidate)) is not None:
                found[step.candidate] = reason
        return tuple(found.items())

    # --- the chain ---

    def run(self, steps: tuple[Step, ...], send: Send, first_attempt: int = 1) -> Outcome:
        """Try the steps until one completes. Sleeps only before the one retry, when nothing else is left."""
        started = time.monotonic()
        attempts: list[Attempt] = []
        refused: dict[Candidate, Reason] = {}
        failed: dict[Candidate, Reason] = {}
        waiting = self.order(steps)
        retried = False
        changed: set[tuple[Candidate, Parameter]] = set()
        while waiting:
            step = waiting.pop(0)
            try:
                completion = send(step, first_attempt + len(attempts))
            except Fault as fault:
                if fault.kind == "budget":  # nothing was sent
                    brief = fault.message.removeprefix(f"{step.candidate} ")
                    refused[step.candidate] = Reason("budget", brief, fault.message)
                    continue
                again = self._changes(step, fault, changed)
                reason = self._reason(step, fault)
                attempts.append(self._failed(step, fault, reason))
                if fault.kind == "interrupted":
                    return Outcome(tuple(attempts), interrupted=True)
                if again:
                    waiting.insert(0, step)
                    continue
                failed[step.candidate] = reason
                self._note(step, fault, reason)
                waiting = self._remaining(waiting, step, fault)
                if waiting or retried:
                    continue
                pause = self._pause(step, fault, started)
                if pause is None:
                    continue
                try:
                    time.sleep(pause)
                except KeyboardInterrupt:
                    return Outcome(tuple(attempts), interrupted=True)
                waiting, retried = [step], True
            else:
                self._forgive(step.candidate)
                attempt, notes = self._completed(step, completion)
                attempts.append(attempt)
                bypasses = self.bypasses(steps, step.candidate, {**failed, **refused})
                return Outcome(tuple(attempts), completion, step, bypasses=bypasses, notes=notes)
        unasked = tuple(s for s in steps if s.candidate not in failed and s.candidate not in refused)
        return Outcome(tuple(attempts), bypasses=self.bypasses(unasked, None), refused=tuple(refused.items()))

    def _changes(self, step: Step, fault: Fault, changed: set[tuple[Candidate, Parameter]]) -> bool:
        """Tell whether the step is sent again, without what its server refuses: once for each parameter."""
        if fault.change is None or (step.candidate, fault.change.parameter) in changed:
            fault.change = None
            return False
        changed.add((step.candidate, fault.change.parameter))
        self._clients.change(step.candidate, fault.change)
        return True

    @staticmethod
    def _pause(step: Step, fault: Fault, started: float) -> float | None:
        """Return how many seconds to wait before the one retry, or None if it is not worth it."""
        if fault.kind not in _RETRIED:
            return None
        left = step.deadlines.total - (time.monotonic() - started)
        pause = random.uniform(0.5, 1.5) if fault.retry_after is None else fault.retry_after  # noqa: S311
        return pause if pause < left else None

    def _remaining(self, waiting: list[Step], failed: Step, fault: Fault) -> list[Step]:
        """Return what is still worth trying after a fault."""
        if fault.final:
            return []
        if _switches_off(fault):
            return [step for step in waiting if step.candidate.provider != failed.candidate.provider]
        if fault.kind == "context":
            window = self._pricing.context_window(failed.candidate)
            sizes = {step.candidate: self._pricing.context_window(step.candidate) for step in waiting}
            return [s for s in waiting if window is None or (size := sizes[s.candidate]) is None or size > window]
        return waiting

    def _reason(self, step: Step, fault: Fault) -> Reason:
        code = f"{fault.status}" if fault.status else ""
        hint = self._hint(step, fault)
        error = f"{code} {fault.message}{hint}".lstrip()
        remedy = hint.removeprefix(" — ").removesuffix(".")
        if fault.kind not in ("auth", "forbidden", "quota", "not_found") or not remedy:
            return Reason(fault.kind, error.removesuffix("."), error)
        return Reason(fault.kind, ", ".join(filter(None, [code, remedy])), error, fault.message)

    def _failed(self, step: Step, fault: Fault, reason: Reason) -> Attempt:
        status: Status = "interrupted" if fault.kind == "interrupted" else "partial" if fault.text else "error"
        # Nothing came back, and yet the server has got the request: the estimate of its input stands in the log.
        unheard = fault.usage is not None and fault.usage.estimated and not fault.text
        return Attempt(
            tier=step.tier,
            candidate=step.candidate,
            status=status,
            usage=fault.usage or Usage(),
            cost=self._pricing.cost(step.candidate, fault.usage) if fault.usage else Cost(Decimal(0)),
            latency=fault.latency,
            first_token=fault.first_token,
            finish="interrupted" if fault.kind == "interrupted" else "partial" if fault.text else None,
            text=fault.text,
            error_kind=fault.kind,
            error=f"{reason.error} (its input may be billed)" if unheard else reason.error,
        )

    def _completed(self, step: Step, completion: Completion) -> tuple[Attempt, tuple[str, ...]]:
        """Return the attempt that answered, and what a user should know of it."""
        cost = self._pricing.cost(step.candidate, completion.usage, completion.model)
        cost, difference = as_billed(step.candidate, cost, completion.billed)
        attempt = Attempt(
            tier=step.tier,
            candidate=step.candidate,
            status="refused" if completion.finish == "refusal" else "ok",
            usage=completion.usage,
            cost=cost,
            latency=completion.latency,
            first_token=completion.first_token,
            finish=completion.finish,
            text=completion.text,
            thinking=completion.thinking,
        )
        return attempt, (*completion.notes, *([difference] if difference else []))

    def _hint(self, step: Step, fault: Fault) -> str:
        """Return what the person can do about the fault."""
        candidate, hint = step.candidate, fault.hint
        variable = self.config.providers[candidate.provider].key
        if hint:
            return f" — {hint}" if hint.endswith("?") else f" — {hint}."
        if fault.change is not None:
            return f" — sent again {_DIFFERENTLY[fault.change.parameter]}."
        if fault.deadline is not None:
            setting = self.config.deadline_setting(step.tier, fault.deadline)
            return f" — raise {setting} (now {getattr(step.deadlines, fault.deadline):g} s) if it should take longer."
        if fault.kind == "auth":
            return f" — check {variable}." if variable else " — the server wants a key: set 'key' in your config file."
        if fault.kind == "forbidden":
            return f" — the key in {variable} may not use this model." if variable else ""
        if fault.kind == "quota":
            return " — out of credit."
        if fault.kind == "not_found":
            successor = self.config.successor(candidate)
            return f" — retired? Its successor is {successor}." if successor else " — is the model's name right?"
        return ""


def all_failed(outcome: Outcome, key_notes: tuple[str, ...] = (), remedy: str = "") -> RouteError:
    """Return the error of a chain that failed: the most actionable fault leads, the others follow, a line each.

    Candidates that were not asked after earlier faults, and those that a budget forbids, stand among them with their
    reason, so that the second error says no less than the first. ``key_notes`` is a line for each that has no key,
    ``remedy`` what to do about the budget.
    """
    attempted = [(attempt.error_kind, f"{attempt.candidate}: {attempt.error}") for attempt in outcome.attempts]
    unasked = [
        (reason.kind, f"{candidate}: {reason.error} (not asked again)") for candidate, reason in outcome.bypasses
    ]
    ranks: dict[str | None, int] = {kind: rank for rank, kind in enumerate(_ACTIONABLE)}
    ranked = [line for _, line in sorted((*attempted, *unasked), key=lambda line: ranks.get(line[0], len(ranks)))]
    lines = dict.fromkeys((*ranked, *(reason.error for _, reason in outcome.refused), *key_notes))
    if unasked:
        key = any(reason.kind in ("auth", "forbidden") for _, reason in outcome.bypasses)
        how = "Fix the cause, then run %router reset" + ("; a changed key counts at once." if key else ".")
        remedy = f"{how} {remedy}".rstrip()
    return RouteError("\n  ".join(lines), remedy, outcome.attempts)


def _switches_off(fault: Fault) -> bool:
    """Tell whether the fault is one of the key, and so of all of the provider's models."""
    return fault.kind in ("auth", "forbidden") and not fault.only_model
