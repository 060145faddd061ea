"""Fallback policy: try candidates in order until one answers, and rank the errors where none does."""

from __future__ import annotations

import functools
import random
from dataclasses import dataclass
from typing import Protocol

from ipyrouter.config import Config, Deadlines
from ipyrouter.errors import RouteError, error_of
from ipyrouter.pricing.prices import Pricing
from ipyrouter.providers.base import Call, Change, Fault, FaultKind, Parameter
from ipyrouter.providers.stream import Collector
from ipyrouter.routing.breaker import Breaker, Bypass, Reason, concerns_key
from ipyrouter.routing.budget import Budget, Refusal
from ipyrouter.routing.planner import Step
from ipyrouter.routing.recorder import RequestRun
from ipyrouter.routing.spans import Spans
from ipyrouter.types import Attempt, Candidate, Completion

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
"""The faults that a user can do most about come first: 403, 401, 400, 500, 429."""

_DIFFERENTLY: dict[Parameter, str] = {
    "temperature": "without the temperature",
    "limit": "with the limit that the server names",
    "limit_name": "with the limit's other name",
    "system": "with the system prompt before the first message",
    "stream": "for a whole answer instead of a stream",
    "stream_options": "without stream_options",
    "effort": "with another effort or none",
    "thinking": "without a word on thinking",
    "json_schema": "with the schema in words",
    "json_object": "without JSON mode",
    "prompt_caching": "without a word on its cache",
}


@dataclass(frozen=True, slots=True)
class ChainResult:
    """The completion of the step that answered; None where no candidate did.

    ``attempts`` are those of this chain. ``bypasses`` holds the candidates that were preferred to the one that
    answered; where none did, those that were not asked after earlier faults. ``refused`` holds those that a budget
    forbids.
    """

    attempts: tuple[Attempt, ...]
    completion: Completion | None = None
    step: Step | None = None
    bypasses: tuple[Bypass, ...] = ()
    refused: tuple[tuple[Candidate, Refusal], ...] = ()


class Sender(Protocol):
    """Sends calls: :class:`ipyrouter.providers.Clients`."""

    def complete(self, candidate: Candidate, call: Call, deadlines: Deadlines, collector: Collector) -> Completion:
        """Send a call to a candidate; the collector takes what arrives. Raises Fault."""
        ...

    def change(self, candidate: Candidate, change: Change) -> None:
        """Send calls to a candidate differently from now on."""
        ...


class Chain:
    """Sends a request to the candidates of a tier."""

    def __init__(self, config: Config, clients: Sender, pricing: Pricing, breaker: Breaker) -> None:
        self.config = config
        self._clients = clients
        self._pricing = pricing
        self._breaker = breaker
        self._spans = Spans(config)

    def run(self, steps: tuple[Step, ...], run: RequestRun, budget: Budget) -> ChainResult:
        """Try the steps until one completes. Sleeps only before the one retry, when nothing else is left.

        Raises KeyboardInterrupt where the user stops it; what had arrived is in the run's attempts.
        """
        started = run.clock.monotonic()
        first = len(run.open_attempts)
        refused: dict[Candidate, Refusal] = {}
        failed: dict[Candidate, Reason] = {}
        waiting = self._breaker.order(steps)
        retried = False
        changed: set[tuple[Candidate, Parameter]] = set()
        while waiting:
            step = waiting.pop(0)
            outcome = self._try(step, run, budget, changed)
            if isinstance(outcome, Refusal):
                refused[step.candidate] = outcome
                continue
            if isinstance(outcome, Completion):
                self._breaker.record_success(step.candidate)
                known = {**failed, **{c: Reason("budget", _brief(c, r), r.reason) for c, r in refused.items()}}
                bypasses = self._breaker.bypasses(steps, step.candidate, known)
                return ChainResult(run.attempts[first:], outcome, step, bypasses)
            if outcome.change is not None:
                waiting.insert(0, step)
                continue
            failed[step.candidate] = self._reason(step, outcome)
            self._breaker.record_failure(step.candidate, outcome, failed[step.candidate])
            waiting = self._remaining(waiting, step, outcome)
            if waiting or retried:
                continue
            pause = self._pause(step, outcome, run.clock.monotonic() - started)
            if pause is not None:
                run.interrupts.sleep(pause)
                waiting, retried = [step], True
        unasked = tuple(step for step in steps if step.candidate not in failed and step.candidate not in refused)
        bypasses = self._breaker.bypasses(unasked, None)
        return ChainResult(run.attempts[first:], bypasses=bypasses, refused=tuple(refused.items()))

    def _try(
        self, step: Step, run: RequestRun, budget: Budget, changed: set[tuple[Candidate, Parameter]]
    ) -> Completion | Fault | Refusal:
        """Send a step's call under the budgets. A fault with a ``change`` may be followed by the same step again."""
        until = run.started + step.deadlines.total
        with budget.hold(step, run.request, run.holdings, run.interrupts, until) as hold:
            run.note(*run.holdings.waits)
            if isinstance(hold, Refusal):
                return hold
            attempt = run.begin(step, functools.partial(self._pricing.context_window, step.candidate))
            with self._spans.call(attempt, run):
                try:
                    with run.interrupts.waiting(attempt.collector.wake):
                        done = self._clients.complete(step.candidate, step.call, step.deadlines, attempt.collector)
                except Fault as fault:
                    self._change(step, fault, changed)
                    hold.settle(attempt.failed(fault, self._reason(step, fault).error, self._pricing))
                    if fault.kind == "interrupted":
                        raise KeyboardInterrupt from None
                    return fault
                run.note(*step.notes)
                hold.settle(attempt.completed(done, self._pricing))
                return done

    def _change(self, step: Step, fault: Fault, changed: set[tuple[Candidate, Parameter]]) -> None:
        """Remember what the server refuses, so that it is sent differently: once for each parameter of a request."""
        if fault.change is None:
            return
        if (step.candidate, fault.change.parameter) in changed:
            fault.change = None
            return
        changed.add((step.candidate, fault.change.parameter))
        self._clients.change(step.candidate, fault.change)

    @staticmethod
    def _pause(step: Step, fault: Fault, elapsed: float) -> float | None:
        """Return how many seconds to wait before the one retry, or None if it is not worth it."""
        if fault.kind not in _RETRIED:
            return None
        pause = random.uniform(0.5, 1.5) if fault.retry_after is None else fault.retry_after  # noqa: S311
        return pause if pause < step.deadlines.total - elapsed else None

    def _remaining(self, waiting: list[Step], failed: Step, fault: Fault) -> list[Step]:
        """Return what is still worth trying after a fault."""
        if fault.final:
            return []
        if concerns_key(fault):
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

    def _hint(self, step: Step, fault: Fault) -> str:
        """Return what the user can do about the fault."""
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


def _brief(candidate: Candidate, refusal: Refusal) -> str:
    return refusal.reason.removeprefix(f"{candidate} ")


def all_failed(result: ChainResult, key_notes: tuple[str, ...] = (), remedy: str = "") -> RouteError:
    """Return the error of a chain that failed: the most actionable fault leads, the others follow, a line each.

    Candidates that were not asked after earlier faults, and those that a budget forbids, stand among them with their
    reason, so that the second error says no less than the first. ``key_notes`` is a line for each that has no key,
    ``remedy`` what to do about the budget.
    """
    attempted = [(attempt.error_kind, f"{attempt.candidate}: {attempt.error}") for attempt in result.attempts]
    unasked: list[tuple[str | None, str]] = [
        (reason.kind, f"{candidate}: {reason.error} (not asked again)") for candidate, reason in result.bypasses
    ]
    ranks: dict[str | None, int] = {kind: rank for rank, kind in enumerate(_ACTIONABLE)}
    ranked = sorted((*attempted, *unasked), key=lambda fault: ranks.get(fault[0], len(ranks)))
    lines = dict.fromkeys(
        (*(line for _, line in ranked), *(refusal.reason for _, refusal in result.refused), *key_notes)
    )
    if unasked:
        key = any(reason.kind in ("auth", "forbidden") for _, reason in result.bypasses)
        how = "Fix the cause, then run %router reset" + ("; a changed key counts at once." if key else ".")
        remedy = f"{how} {remedy}".rstrip()
    fault = error_of(ranked[0][0])(ranked[0][1]) if ranked else None
    return RouteError("\n  ".join(lines), remedy, result.attempts, fault)
