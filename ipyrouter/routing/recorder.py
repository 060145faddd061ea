"""Exactly one record a request, whatever ends it: an answer, an error, a stop at any moment."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from decimal import Decimal
from types import TracebackType
from typing import Any

from ipyrouter.clock import Clock
from ipyrouter.config import Config
from ipyrouter.errors import Interrupted, IPyRouterError
from ipyrouter.pricing.prices import Pricing, as_billed
from ipyrouter.providers.base import Fault
from ipyrouter.providers.stream import Collector
from ipyrouter.routing.budget import Holdings
from ipyrouter.routing.interrupts import Interrupts
from ipyrouter.routing.planner import Step, TierPlan
from ipyrouter.store.base import CachedAnswer, Outcome, Record, Store
from ipyrouter.store.owners import new_owner
from ipyrouter.store.rows import COOLING_DOWN
from ipyrouter.types import (
    Answer,
    Attempt,
    Candidate,
    Classification,
    Completion,
    Cost,
    Delta,
    Finish,
    Request,
    Session,
    Status,
    Usage,
    total,
)

OnDelta = Callable[[Delta], None]
Listener = Callable[[Answer], None]


class OpenAttempt:
    """An attempt under way. What it has received and spent is known at every moment, so that a stop loses nothing."""

    def __init__(self, step: Step, number: int, run: RequestRun, window: Callable[[], int | None]) -> None:
        self.step = step
        self.number = number
        self._run = run
        self.collector = Collector(step.call, self.show, window)
        self.result: Attempt | None = None

    def close(self, **fields: Any) -> Attempt:
        """End the attempt with what is known of it beside its tier and candidate."""
        self.result = Attempt(tier=self.step.tier, candidate=self.step.candidate, **fields)
        return self.result

    def completed(self, completion: Completion, pricing: Pricing) -> Attempt:
        """End the attempt with an answer; note what the user should know of it."""
        cost = pricing.cost(self.step.candidate, completion.usage, completion.model, completion.price_context)
        cost, difference = as_billed(self.step.candidate, cost, completion.billed)
        self._run.note(*completion.notes, *([difference] if difference else []))
        return self.close(
            status="refused" if completion.finish == "refusal" else "ok",
            usage=completion.usage,
            cost=cost,
            latency=completion.latency,
            first_token=completion.first_token,
            finish=completion.finish,
            text=completion.text,
            thinking=completion.thinking,
        )

    def failed(self, fault: Fault, error: str, pricing: Pricing) -> Attempt:
        """End the attempt with a fault."""
        status: Status = "interrupted" if fault.kind == "interrupted" else "partial" if fault.text else "error"
        finish: Finish | None = "interrupted" if status == "interrupted" else "partial" if fault.text else None
        # Nothing came back, and yet the server has got the request: the estimate of its input stands in the log.
        unheard = fault.usage is not None and fault.usage.estimated and not fault.text
        return self.close(
            status=status,
            usage=fault.usage or Usage(),
            cost=pricing.cost(self.step.candidate, fault.usage, context=fault.price_context)
            if fault.usage
            else Cost(Decimal(0)),
            latency=fault.latency,
            first_token=fault.first_token,
            finish=finish,
            text=fault.text,
            error_kind=fault.kind,
            error=f"{error} (its input may be billed)" if unheard else error,
        )

    def show(self, text: str) -> None:
        """Hand text over; "" before the first says that the model is asked."""
        run = self._run
        if run.on_delta is None:
            return
        try:
            run.on_delta(Delta(text, self.step.tier, self.step.candidate, self.number))
        except Exception as error:  # noqa: BLE001  the caller's display must not cost the answer
            run.on_delta = None
            run.note(f"on_delta raised {type(error).__name__}: {error}; the answer went on without it.")


@dataclass
class RequestRun:
    """One request on its way: what is known of it so far."""

    request: Request
    session: Session
    clock: Clock
    on_delta: OnDelta | None = None
    run_id: str = ""  # of the run over a column that it is part of
    interrupts: Interrupts = field(init=False)
    owner: str = field(default_factory=new_owner)
    holdings: Holdings = field(init=False)
    classification: Classification = field(default_factory=lambda: Classification("mid", 0.5, 0.0, ()))
    tier_plan: TierPlan | None = None  # the tier that is asked now
    notes: list[str] = field(default_factory=list)
    open_attempts: list[OpenAttempt] = field(default_factory=list)
    answer: Answer | None = None
    outcome: Outcome = "ok"
    cache_key: bytes | None = None
    has_correction: bool = False  # an answer that did not fit the schema was sent back once

    def __post_init__(self) -> None:
        # The time comes first, so that the database appends instead of writing all over its pages.
        self.id = f"{int(self.clock.now().timestamp() * 1e6):014x}{secrets.token_hex(9)}"
        self.started = self.clock.monotonic()
        self.interrupts = Interrupts(self.clock)
        self.holdings = Holdings(self.owner)

    def note(self, *lines: str) -> None:
        """Add what the user should know, each line once."""
        self.notes += [line for line in dict.fromkeys(lines) if line not in self.notes]

    def begin(self, step: Step, window: Callable[[], int | None]) -> OpenAttempt:
        """Begin an attempt, which is recorded from now on; the display learns which model is waited for.

        Args:
            step: The call that is made.
            window: Returns the tokens that its model can read, None where that is not known.
        """
        attempt = OpenAttempt(step, len(self.open_attempts) + 1, self, window)
        self.open_attempts.append(attempt)
        attempt.show("")
        return attempt

    @property
    def attempts(self) -> tuple[Attempt, ...]:
        """The attempts that have ended."""
        return tuple(attempt.result for attempt in self.open_attempts if attempt.result is not None)

    def mark_weak(self, reason: str) -> Attempt:
        """Note that the last attempt's answer is weak, and return it."""
        last = self.open_attempts[-1]
        if last.result is None:
            raise RuntimeError("the attempt has not ended")
        last.result = replace(last.result, status="weak", error_kind="weak", error=reason)
        return last.result

    def finish(self, last: Attempt, **fields: Any) -> Answer:
        """Answer with an attempt; fields as in :class:`Answer`."""
        attempts = self.attempts
        self.answer = Answer(
            id=self.id,
            text=last.text,
            tier=last.tier,
            provider=last.candidate.provider,
            model=last.candidate.model,
            cost=total([attempt.cost.amount for attempt in attempts]),
            usage=last.usage,
            cached=last.status == "cached",
            latency=sum(attempt.latency for attempt in attempts),
            finish=last.finish or "partial",
            classification=self.classification,
            attempts=attempts,
            first_token=last.first_token,
            thinking=last.thinking,
            notes=tuple(self.notes),
            data=self._data(last),
            **fields,
        )
        return self.answer

    def _data(self, last: Attempt) -> Any:
        """Return what the schema makes of an answer; None for one that is no answer, as where the user stopped it."""
        if self.request.schema is None or last.status not in ("ok", "cached"):
            return None
        with contextlib.suppress(ValueError, IPyRouterError):
            return self.request.schema.read(last.text)
        return None

    def finish_cached(self, hit: CachedAnswer) -> Answer:
        """Answer with what was in the cache."""
        self.outcome, self.cache_key = "cached", hit.key
        attempt = Attempt(
            tier=hit.tier,
            candidate=Candidate(hit.provider, hit.model),
            status="cached",
            usage=hit.usage,
            latency=self.clock.monotonic() - self.started,
            finish=hit.finish,
            text=hit.text,
        )
        answer = self.finish(attempt, cost_saved=hit.cost, escalated_from=hit.escalated_from)
        self.answer = replace(answer, attempts=(attempt,), cost=Decimal(0), latency=attempt.latency)
        return self.answer

    def end_without_answer(self, outcome: Outcome, why: str) -> None:
        """Take what had arrived, or the bare fact, as what is recorded of a request that failed or was stopped.

        Args:
            outcome: "error" or "interrupted".
            why: What is said of the first candidate where nothing was sent to any.
        """
        self.outcome = outcome
        attempts = self.attempts
        last = next((attempt for attempt in reversed(attempts) if attempt.text), attempts[-1] if attempts else None)
        if last is not None:
            self.finish(last)
            return
        if self.tier_plan is None or not self.tier_plan.steps:
            return  # it never came so far as to ask anyone
        stopped = outcome == "interrupted"
        attempt = Attempt(
            tier=self.tier_plan.tier,
            candidate=self.tier_plan.steps[0].candidate,
            status="interrupted" if stopped else "error",
            finish="interrupted" if stopped else None,
            error_kind="interrupted" if stopped else COOLING_DOWN,
            error=why,
        )
        self.answer = replace(self.finish(attempt), attempts=(attempt,), cost=Decimal(0))


class Recorder:
    """Writes what became of each request, then tells the listeners."""

    def __init__(self, config: Config, store: Store, pricing: Pricing, hide: Callable[[str], str]) -> None:
        self.config = config
        self._hide = hide  # takes keys and passwords out of what is shown
        self.listeners: list[Listener] = []
        self.last: Answer | None = None
        self._store = store
        self._pricing = pricing

    def open(self, run: RequestRun) -> _Recording:
        """Return a context in which a request is answered: leaving it writes the one record.

        Nothing is written where nothing was asked of anyone. Leaving by KeyboardInterrupt raises Interrupted with what
        had arrived.
        """
        return _Recording(self, run)

    def write(self, run: RequestRun) -> None:
        """Record the run's answer, or release what it holds where there is none."""
        if run.answer is None:
            self._store.release(run.owner)
            return
        run.answer = replace(
            run.answer,
            notes=tuple(map(self._hide, run.answer.notes)),
            attempts=tuple(map(self._clean, run.answer.attempts)),
            tags=(*self.config.log_tags, *run.request.tags),
        )
        content = self.config.log_content
        record = Record(
            run.answer if content else _without_content(run.answer),
            run.outcome,
            prompt=run.request.prompt.text if content else None,
            system=run.request.system if content else None,
            session=run.session,
            owner=run.owner,
            run=run.run_id,
            tags=run.answer.tags,
        )
        self._store.record(record, run.cache_key, self.config.cache_max_mb, self.config.cache_ttl_days)
        self.last = run.answer

    def _clean(self, attempt: Attempt) -> Attempt:
        """Return an attempt whose error shows no key: a validator of the user's may quote anything."""
        return attempt if attempt.error is None else replace(attempt, error=self._hide(attempt.error))

    def forget(self, answer_id: str | None) -> None:
        """Let go of the last answer, if it is this one."""
        if self.last is not None and self.last.id == answer_id:
            self.last = None

    def close_open_attempts(self, run: RequestRun) -> None:
        """End the attempts that a stop has cut off: with their answer if it was whole, else with what had come."""
        for attempt in run.open_attempts:
            if attempt.result is not None:
                continue
            if (completion := attempt.collector.whole()) is not None:
                attempt.completed(completion, self._pricing)
            else:
                stop = attempt.collector.fault(Fault("interrupted", "stopped by the user"))
                attempt.failed(stop, stop.message, self._pricing)

    def tell(self, run: RequestRun) -> None:
        """Tell the listeners, and add to the answer what went wrong with the log or with them."""
        if run.answer is None:
            return
        notes = self._store.warnings()
        for listener in tuple(self.listeners):
            try:
                listener(run.answer)
            except Exception as error:  # noqa: BLE001  a panel must not cost the answer
                with contextlib.suppress(ValueError):  # another thread was faster
                    self.listeners.remove(listener)
                notes.append(self._hide(f"A listener raised {type(error).__name__}: {error}; it is not called again."))
        if notes:
            run.answer = self.last = replace(run.answer, notes=(*run.answer.notes, *notes))


def _without_content(answer: Answer) -> Answer:
    """Return an answer whose weak attempts do not say what in them was weak: that names what an answer holds."""

    def brief(attempt: Attempt) -> Attempt:
        if attempt.status != "weak" or attempt.error is None:
            return attempt
        return replace(attempt, error=attempt.error.partition(": ")[0])

    return replace(answer, attempts=tuple(map(brief, answer.attempts)))


class _Recording:
    def __init__(self, recorder: Recorder, run: RequestRun) -> None:
        self._recorder = recorder
        self._run = run

    def __enter__(self) -> RequestRun:
        self._run.interrupts.__enter__()
        return self._run

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        recorder, run = self._recorder, self._run
        try:
            stopped = isinstance(error, KeyboardInterrupt)
            if error is not None:
                run.answer = None
                recorder.close_open_attempts(run)
                if stopped:
                    run.end_without_answer("interrupted", "stopped by the user")
                elif run.open_attempts or (isinstance(error, IPyRouterError) and run.outcome == "error"):
                    run.end_without_answer("error", error.message if isinstance(error, IPyRouterError) else str(error))
            recorder.write(run)
            try:
                recorder.tell(run)
            except KeyboardInterrupt:  # from a listener: the answer is there and recorded
                stopped = True
        finally:
            run.interrupts.__exit__()
        if (stopped or run.interrupts.pending) and run.answer is not None:
            raise Interrupted(run.answer) from None
        if run.interrupts.pending:
            raise KeyboardInterrupt
