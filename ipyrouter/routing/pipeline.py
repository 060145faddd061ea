"""The six steps of a request, in order: classify, plan, cache, send, validate, record."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import TYPE_CHECKING

from ipyrouter.classifier import steadied
from ipyrouter.config import Config
from ipyrouter.errors import BudgetError, SchemaError, UsageError
from ipyrouter.pricing.prices import Pricing
from ipyrouter.routing.breaker import Breaker
from ipyrouter.routing.budget import Budget
from ipyrouter.routing.chain import Chain, ChainResult, all_failed
from ipyrouter.routing.planner import Plan, Planner, Step, TierPlan, input_tokens
from ipyrouter.routing.recorder import Recorder, RequestRun
from ipyrouter.routing.requests import encodable
from ipyrouter.routing.single_flight import SingleFlight, escalated_key
from ipyrouter.routing.spans import Spans
from ipyrouter.routing.validation import all_reasoning, weakness
from ipyrouter.routing.warmth import TYPICAL_ANSWER, Warmth
from ipyrouter.store.base import CachedAnswer
from ipyrouter.types import (
    TIERS,
    Answer,
    Attempt,
    Candidate,
    Classification,
    Completion,
    Message,
    Preview,
    Request,
    TierName,
)

if TYPE_CHECKING:
    from ipyrouter.schemas import Schema

_CORRECTION = "Answer again, with the corrected JSON alone. Your answer was"
_LARGE = "This prompt is so large that it needs --yes."
_NOBODY = "No model of this tier can be asked now: this would be an error."
_FORBIDDEN = "A budget forbids this call"


@dataclass(frozen=True, slots=True)
class Prepared:
    """What is known of a request before anything is sent: ``hit`` is its answer where that is in the cache."""

    request: Request
    classification: Classification
    plan: Plan
    hit: CachedAnswer | None


@dataclass(frozen=True, slots=True)
class Pipeline:
    """Answers requests with the collaborators that it is given."""

    config: Config
    classify: Callable[[Sequence[str]], Sequence[Classification]]
    planner: Planner
    warmth: Warmth
    flight: SingleFlight
    chain: Chain
    breaker: Breaker
    budget: Budget
    recorder: Recorder
    spans: Spans
    pricing: Pricing
    unseen: Callable[[tuple[str, ...]], list[str]]  # of some notices, those that this session has not seen

    def run(self, run: RequestRun, prepared: Prepared | None = None) -> Answer:
        """Answer a request, from what :meth:`prepare` knows of it where that was called before.

        Raises UsageError, NoModelError, BudgetError, RouteError, SchemaError, and Interrupted with what had arrived.
        """
        with self.recorder.open(run), self.spans.request(run):
            if prepared is None:
                self._make_encodable(run)
            run.classification = prepared.classification if prepared else self._classified(run.request)[0]
            run.started = run.clock.monotonic()  # past the first classification, which imports numpy
            run.note(*run.request.prompt.notes)
            escalates = self._escalates(run.request)
            if prepared is not None:
                plan, hit = prepared.plan, prepared.hit
            else:
                plan = self.planner.plan(run.request, run.request.tier or run.classification.tier)
                hit = _usable(run.request, self.flight.look_up(run.request, plan.first, escalates=escalates))
            if hit is None:
                if plan.missing is not None:
                    raise plan.missing
                plan = self.warmth.stay(run.request, self.planner.counted_by_price(run.request, plan))
                run.note(*self.unseen(self.config.project_warnings))
                self._ask_of(run, plan.first)
                self._confirm(run.request, plan.first.steps[0])
                hit = _usable(run.request, self.flight.join(run, plan.first, escalates=escalates))
            if hit is not None:
                if Candidate(hit.provider, hit.model) in {step.candidate for step in plan.first.steps}:
                    run.note(*plan.first.standing)
                run.finish_cached(hit)
            else:
                self._send(run, plan, escalates=escalates)
        if run.answer is None:
            raise RuntimeError("a request ended without an answer or an error")
        return run.answer

    def prepare(self, requests: Sequence[Request]) -> list[Prepared]:
        """Return the plan of each of many requests, and its answer where that is in the cache. Nothing is sent."""
        requests = [encodable(request) for request in requests]
        classes = self._classified(*requests)
        plans = self.planner.plan_many([(r, r.tier or c.tier) for r, c in zip(requests, classes, strict=True)])
        looks = [(r, plan.first, self._escalates(r)) for r, plan in zip(requests, plans, strict=True)]
        found = zip(requests, classes, plans, self.flight.look_up_many(looks), strict=True)
        return [
            Prepared(request, classification, plan, _usable(request, hit))
            for request, classification, plan, hit in found
        ]

    def preview(self, request: Request) -> Preview:
        """Return what :meth:`run` would do, by the same planner, breaker and budget. Nothing is sent or logged."""
        (classification,) = self._classified(request)
        tier_name = request.tier or classification.tier
        plan = self.planner.counted_by_price(request, self.planner.plan(request, tier_name))
        plan = self.warmth.stay(request, plan)
        hit = _usable(request, self.flight.look_up(request, plan.first, escalates=self._escalates(request)))
        if hit is None and plan.missing is not None and not plan.first.cacheable:
            raise plan.missing
        notes = [*request.prompt.notes, *plan.first.notes, *plan.first.standing]
        step, tier = (plan.first.steps or plan.first.cacheable)[0], plan.first
        if hit is None and plan.missing is None:
            step, tier, warnings = self._next_step(request, plan)
            notes += [*warnings, *step.notes]
        count = input_tokens(step.call)
        if hit is None and count > self.config.confirm_tokens and not request.allow_large:
            notes.append(_LARGE)
        provider, most = self.config.providers[step.candidate.provider], step.call.max_output_tokens
        return Preview(
            classification=classification,
            tier=step.tier,
            candidate=step.candidate,
            input_tokens=count,
            max_output_tokens=most,
            cost_low=Decimal(0) if hit else self.warmth.cost(step, 1),
            cost_high=Decimal(0) if hit else self.warmth.cost(replace(step, warm=0), most),
            cost_typical=Decimal(0) if hit else self.warmth.cost(step, min(TYPICAL_ANSWER, most)),
            cached=hit is not None,
            key=provider.key,
            key_present=bool(tier.steps),
            notes=tuple(dict.fromkeys(notes)),
            obstacle=next((note for note in notes if note.startswith((_FORBIDDEN, _NOBODY, _LARGE))), ""),
            effort=step.call.effort,
            schema=request.schema.name if request.schema else "",
        )

    # --- before a call ---

    def _classified(self, *requests: Request) -> list[Classification]:
        """Return the classifications of prompts, by the tier before where one lies near a boundary."""
        found = zip(requests, self.classify([request.prompt.text for request in requests]), strict=True)
        return [steadied(one, request.previous_tier, self.config) for request, one in found]

    @staticmethod
    def _make_encodable(run: RequestRun) -> None:
        clean = encodable(run.request)
        if (clean.prompt, clean.system) != (run.request.prompt, run.request.system or None):
            run.note("The prompt held halves of characters (lone surrogates); each was replaced by �.")
        run.request = clean

    def _escalates(self, request: Request) -> bool:
        """Tell whether a weak answer goes a tier up: an explicit model is a decision, not a start."""
        if request.model is not None:
            return False
        return self.config.escalate if request.escalate is None else request.escalate

    def _ask_of(self, run: RequestRun, tier: TierPlan) -> None:
        """Note that a tier is asked now, and what the user should know of it."""
        run.tier_plan = tier
        run.note(*self.unseen(tier.notes), *tier.standing)

    def _confirm(self, request: Request, step: Step) -> None:
        count = input_tokens(step.call)
        if request.allow_large or count <= self.config.confirm_tokens:
            return
        dollars = self.pricing.at(step.candidate, count, step.call.max_output_tokens)
        cost = "at an unknown price" if dollars is None else f"for up to ${dollars:.2f}"
        raise UsageError(
            f"This prompt is large: about {count:,} tokens to {step.candidate} {cost}. Nothing was sent.",
            "Add --yes to send it (allow_large=True from Python), or raise routing.confirm_tokens.",
        )

    # --- the chain, and the next tier where the answer is weak ---

    def _send(self, run: RequestRun, plan: Plan, *, escalates: bool) -> None:
        tier = plan.first
        results: dict[TierName, ChainResult] = {}
        while True:
            result = results[tier.tier] = self.chain.run(tier.steps, run, self.budget)
            if result.completion is None or result.step is None:
                weak = next((attempt for attempt in reversed(run.attempts) if attempt.status == "weak"), None)
                if weak is None and run.request.schema is None and (half := self._half(run)) is not None:
                    self._finish(run, plan, half, results)
                    return
                if weak is not None:
                    self._end_weak(run, plan, weak, results, _why_unreached(tier.tier, result))
                    return
                tier = self._downgrade(run, plan, tier, result)
                continue
            run.note(*(f"fell back from {candidate}: {reason}" for candidate, reason in result.bypasses))
            self.warmth.remember(run.request, result.step, result.completion.usage)
            completion, weak = self._judged(run, result.completion, result.step)
            if weak is None:
                self._finish(run, plan, run.attempts[-1], results, cacheable=result.step)
                return
            own_limit = completion.finish == "length" and run.request.max_output_tokens is not None
            if all_reasoning(completion):
                run.note(_less_reasoning(completion, result.step))
            goes_on = escalates and not own_limit and not all_reasoning(completion)
            above = plan.above(tier.tier, result.step.candidate) if goes_on else None
            if above is None:
                self._end_weak(run, plan, weak, results)
                return
            reason = weak.error if run.request.schema is None else "not what the schema asks for"
            run.note(f"The {tier.tier} answer was weak ({reason}); asked {above.tier}.")
            self._ask_of(run, above)
            tier = above

    def _judged(self, run: RequestRun, completion: Completion, step: Step) -> tuple[Completion, Attempt | None]:
        """Return the answer, and its attempt where it is weak; one that does not fit a schema is corrected once.

        Raises SchemaError for a refusal: there is no data in it; and where the schema's own code fails.
        """
        schema = run.request.schema
        reason = _weakness(run, completion, step)
        weak = None if reason is None else run.mark_weak(reason)
        if schema is None:
            return completion, weak
        if weak is not None and not run.has_correction and completion.finish == "stop" and completion.text.strip():
            run.has_correction = True
            turns = (Message("assistant", completion.text), Message("user", f"{_CORRECTION} {reason}."))
            again = replace(step, call=replace(step.call, messages=(*step.call.messages, *turns)))
            result = self.chain.run((again,), run, self.budget)
            if result.completion is not None:
                run.note(f"The first answer did not fit the schema {schema.name}; its correction was asked for.")
                completion = result.completion
                reason = _weakness(run, completion, step)
                weak = None if reason is None else run.mark_weak(reason)
        if completion.finish == "refusal":
            raise _no_data(run, schema, run.attempts[-1])
        return completion, weak

    def _end_weak(
        self, run: RequestRun, plan: Plan, weak: Attempt, results: dict[TierName, ChainResult], why: str = ""
    ) -> None:
        """Answer with a weak attempt, as nothing better can be had; raise SchemaError where it holds no data."""
        if run.request.schema is not None:
            raise _no_data(run, run.request.schema, weak, why)
        if why:
            run.note(f"The weak answer is kept: {why}.")
        self._finish(run, plan, weak, results)

    @staticmethod
    def _half(run: RequestRun) -> Attempt | None:
        """Return the answer that a model broke off, with a note that it is half of one: better than nothing."""
        broken = (attempt for attempt in reversed(run.attempts) if attempt.error_kind == "unfinished" and attempt.text)
        half = next(broken, None)
        if half is not None:
            run.note(f"This is not a whole answer: {half.candidate}: {half.error}; no other model answered.")
        return half

    def _finish(
        self,
        run: RequestRun,
        plan: Plan,
        last: Attempt,
        results: dict[TierName, ChainResult],
        cacheable: Step | None = None,
    ) -> None:
        """Answer with an attempt; ``cacheable`` is the step whose answer may be kept, None for a weak one."""
        first = plan.first.tier
        escalated_from = first if TIERS.index(last.tier) > TIERS.index(first) else None
        bypasses = results[last.tier].bypasses
        answer = run.finish(
            last,
            escalated_from=escalated_from,
            fallback_from=str(bypasses[0][0]) if bypasses else None,
            fallback_reason=bypasses[0][1].brief if bypasses else None,
        )
        keeps = run.request.cache != "off" and self.config.cache_enabled
        if cacheable is not None and answer.finish == "stop" and keeps:
            own, first_asked = cacheable.kept_as or cacheable.call.key(), plan.first.cacheable[0].call
            run.cache_key = escalated_key(first_asked.key()) if escalated_from else own

    def _downgrade(self, run: RequestRun, plan: Plan, failed: TierPlan, result: ChainResult) -> TierPlan:
        """Return the cheaper tier to ask where a budget forbade this one; raise what the user must know otherwise."""
        refusals = [refusal.reason for _, refusal in result.refused]
        if refusals and self.config.budget.action == "downgrade":
            cheaper = plan.below(failed.tier)
            if cheaper is not None:
                run.note(f"{refusals[0]}; asked {cheaper.tier} instead of {failed.tier}.")
                self._ask_of(run, cheaper)
                return cheaper
        remedy = self._budget_remedy(result)
        if run.attempts or not refusals:
            run.outcome = "error"  # it is recorded: something was sent, or nothing could be after earlier faults
        if result.attempts or not refusals:
            raise all_failed(result, failed.key_notes, remedy)
        head = "Nothing was sent" if not run.attempts else "No answer that the budget allows"
        others = [f"{attempt.candidate}: {attempt.error}" for attempt in run.attempts]  # of a tier above
        others += [f"{candidate}: {reason}" for candidate, reason in result.bypasses]
        raise BudgetError(f"{head}: {'; '.join([*refusals, *others])}.", remedy)

    @staticmethod
    def _budget_remedy(result: ChainResult) -> str:
        """Return what to do about the candidates that a budget forbids: one without a price needs one, and no more."""
        remedies = [
            f'Add [prices."{candidate}"] with input and output in $ per million tokens.'
            for candidate, refusal in result.refused
            if refusal.unpriced
        ]
        if any(refusal.busy for _, refusal in result.refused):
            remedies.append("Try again in a minute, or ask the owner of the team's store for more.")
        elif unknown := [refusal for _, refusal in result.refused if refusal.unknown]:
            otherwise = 'set budget.action = "downgrade", which counts what is known.'
            remedies.append(unknown[0].remedy or f"Wait until the database can be read, or {otherwise}")
        elif len(remedies) < len(result.refused):
            remedies.append(
                "Raise that budget in your config, limit the answer with --max-tokens, or choose"
                " a cheaper tier with -t."
            )
        return " ".join(remedies)

    # --- a dry run ---

    def _next_step(self, request: Request, plan: Plan) -> tuple[Step, TierPlan, list[str]]:
        """Return the step that would be taken now, its tier, and the notes for the user."""
        notes: list[str] = []
        tier: TierPlan | None = plan.first
        while tier is not None:
            refused: list[str] = []
            for step in self.breaker.order(tier.steps):
                refusal = self.budget.shortage(step, request)
                if refusal is None:
                    bypasses = self.breaker.bypasses(tier.steps, step.candidate)
                    notes += [f"falls back from {candidate}: {reason}" for candidate, reason in bypasses]
                    return step, tier, notes
                refused.append(refusal.reason)
            if not refused:
                blocked = self.breaker.bypasses(tier.steps, None)
                notes += [f"{candidate} is not asked: {reason}" for candidate, reason in blocked]
                return tier.steps[0], tier, [*notes, _NOBODY]
            cheaper = plan.below(tier.tier) if self.config.budget.action == "downgrade" else None
            if cheaper is None:
                return tier.steps[0], tier, [*notes, f"{_FORBIDDEN}: {refused[0]}."]
            notes.append(f"{refused[0]}; {cheaper.tier} would be asked instead of {tier.tier}.")
            tier = cheaper
        raise RuntimeError("a plan has a first tier")


def _usable(request: Request, hit: CachedAnswer | None) -> CachedAnswer | None:
    """Return a cached answer, None for one that does not fit the schema any more: its class may have changed."""
    if hit is None or request.schema is None:
        return hit
    from ipyrouter.schemas import Mismatch

    try:
        request.schema.read(hit.text)
    except Mismatch:
        return None
    return hit


def _less_reasoning(completion: Completion, step: Step) -> str:
    """Return what to do about an answer all of whose tokens went into reasoning: paying another one is no remedy."""
    less = "" if step.call.effort in ("none", "minimal", "low") else "try --effort low, or "
    count = f"{completion.usage.output_tokens:,}"
    return f"All {count} tokens went into reasoning; {less}allow more with --max-tokens."


def _weakness(run: RequestRun, completion: Completion, step: Step) -> str | None:
    """Return why an answer is weak, None where it is not. Raises SchemaError where the schema's code fails."""
    try:
        return weakness(run.request, completion, step.tier)
    except UsageError as error:  # the answer is paid: it comes along, with its cost
        raise SchemaError(error.message, error.remedy, completion.text, run.attempts) from error.__cause__


def _no_data(run: RequestRun, schema: Schema, last: Attempt, why: str = "") -> SchemaError:
    """Return the error of a request whose last answer holds no data; the answer is logged."""
    if last.status == "refused":
        quote = f': "{textwrap.shorten(last.text, 120)}"' if last.text.strip() else "."
        message = f"{last.candidate} refused to answer, so there is no {schema.name}{quote}"
        remedy = "Word the prompt differently, or name another model with -m."
    elif not last.text.strip():
        message = f"{last.candidate} gave no answer, so there is no {schema.name}."
        remedy = next((note for note in run.notes if "went into reasoning" in note), "Name another model with -m.")
    elif last.finish == "length":
        message = f"The answer of {last.candidate} was {last.error}, so there is no {schema.name}."
        remedy = "Allow more with --max-tokens."
    else:
        message = f"The answer of {last.candidate} is {last.error}."
        remedy = (
            "Describe the fields, ask for less in the schema, or name another model with -m; the log has the answer."
        )
    message += f" No other model answered: {why}." if why else ""
    return SchemaError(message, remedy, last.text, run.attempts)


def _why_unreached(tier: TierName, result: ChainResult) -> str:
    """Return in words why a tier above gave no answer: a budget's refusal, else the first fault."""
    if result.refused:
        return result.refused[0][1].reason
    causes = [f"{attempt.candidate}: {attempt.error}" for attempt in result.attempts]
    causes += [f"{candidate}: {reason}" for candidate, reason in result.bypasses]
    return f"the tier {tier} could not be reached" + "".join(f" ({cause.rstrip('.')})" for cause in causes[:1])
