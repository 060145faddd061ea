"""Router: classify, look into the cache, fall back, validate, record. One request goes through once, in that order."""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import os
import reprlib
import secrets
import sys
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Never, cast, get_args

from ipyrouter import classifier
from ipyrouter import config as configuration
from ipyrouter.classifier.lessons import Lessons
from ipyrouter.config import Config
from ipyrouter.errors import BudgetError, Interrupted, NoModelError, UsageError, did_you_mean
from ipyrouter.pricing import tokens
from ipyrouter.pricing.prices import Pricing
from ipyrouter.providers import Clients
from ipyrouter.providers.base import Fault
from ipyrouter.routing.budget import BudgetGuard
from ipyrouter.routing.chain import Bypass, Fallback, all_failed
from ipyrouter.routing.chain import Outcome as Chain
from ipyrouter.routing.planner import Plan, Step, by_price, nearest_plan, no_model, plan
from ipyrouter.routing.validation import weakness
from ipyrouter.store.base import CachedAnswer, Feedback, Outcome, Record, Store
from ipyrouter.store.ledger import new_owner
from ipyrouter.store.sqlite import SQLiteStore
from ipyrouter.text import redact
from ipyrouter.types import (
    TIERS,
    Answer,
    Attempt,
    CacheMode,
    Candidate,
    Classification,
    Completion,
    Delta,
    Message,
    Preview,
    Request,
    Role,
    TierName,
    total,
)

if TYPE_CHECKING:
    import pandas as pd

    from ipyrouter.classifier.learn import Lesson
    from ipyrouter.reporting.report import Report

OnDelta = Callable[[Delta], None]
_CACHE_MODES = ("use", "refresh", "off")
_OPTIONS = tuple(name for name in Request.__slots__ if name != "prompt")
# What the SDKs call it.
_MEANT = {
    "max_tokens": "max_output_tokens",
    "max_completion_tokens": "max_output_tokens",
    "messages": "history",
    "instructions": "system",
    "system_prompt": "system",
}
_TWIN_MARGIN = 60.0  # seconds that a claim on a question outlives the call's total deadline


class Router:
    """Routes prompts to the cheapest tier that can answer them.

    ``config`` is a Config, settings nested like the TOML (they win over all files), or None for the files' settings.
    ``home`` is the folder of config.toml and ipyrouter.db; default IPYROUTER_HOME, else what platformdirs says.
    ``progress`` is told, in a line each, of what takes long (fetching the local model); default: stderr.
    ``router.listeners`` are called with every answer after it was recorded, failed and interrupted ones included.
    """

    def __init__(
        self,
        config: Config | Mapping[str, Any] | None = None,
        *,
        home: str | os.PathLike[str] | None = None,
        progress: Callable[[str], None] | None = None,
    ) -> None:
        self.home = configuration.home_folder(home)
        self.config = config if isinstance(config, Config) else configuration.load(config, home=self.home)
        self._built_with = self.config
        self._begin_session()
        self.notebook: str | None = None
        self.last: Answer | None = None
        self.pricing = Pricing(self.config)
        self.store: Store = SQLiteStore(configuration.data_folder(self.home))
        self.lessons = Lessons(configuration.data_folder(self.home) / "learned")
        self._clients = Clients(self.config, progress or _to_stderr)
        self._fallback = Fallback(self.config, self.pricing, self._clients)
        self._told: set[str] = set()
        self.listeners: list[Callable[[Answer], None]] = []

    # --- asking ---

    def classify(self, prompt: str) -> Classification:
        """Return the tier a prompt needs, with reasons. Nothing is sent anywhere.

        Raises:
            UsageError: For a prompt that is no string.
        """
        _check_string(prompt)
        lesson = self.lessons.current
        return classifier.classify(prompt, self.config, lesson.adjust if lesson else None)

    def route(
        self,
        prompt: str,
        *,
        system: str | None = None,
        history: Sequence[Message | Mapping[str, str]] = (),
        tier: str | None = None,
        model: str | None = None,
        max_output_tokens: int | None = None,
        temperature: float | None = None,
        cache: str = "use",
        escalate: bool | None = None,
        yes: bool = False,
        on_delta: OnDelta | None = None,
        **unknown: Never,
    ) -> Answer:
        """Answer a prompt with the cheapest tier that can.

        ``tier`` or ``model`` ("provider/model") overrides the choice; a model counts under its own tier, the cheapest
        whose chain holds it, else the one of the nearest price. ``cache`` is "use", "refresh" or "off".
        ``escalate=False`` keeps a weak answer. ``yes`` confirms a very large prompt. ``on_delta`` gets the text as it
        arrives, after an empty Delta for each model that is asked. Answer and log row are written before this returns.

        Raises UsageError, NoModelError, RouteError (all candidates failed), and Interrupted on Ctrl-C.
        """
        request = make_request(
            prompt, system=system, history=history, tier=tier, model=model, max_output_tokens=max_output_tokens,
            temperature=temperature, cache=cache, escalate=escalate, yes=yes, **unknown,
        )  # fmt: skip
        return _Passage(self, request, on_delta).answer()

    def preview(self, prompt: str, **options: Any) -> Preview:
        """Return what :meth:`route` would do with the same arguments. Nothing is sent."""
        request = make_request(prompt, **options)
        classification = self.classify(request.prompt)
        asked = plan(self.config, self._clients, request, request.tier or classification.tier)
        try:
            chosen = asked if asked.steps else nearest_plan(self.config, self._clients, request, asked.tier)
        except NoModelError:
            chosen = asked
        chosen = by_price(self.config, self.pricing, request, chosen)
        steps = self._fallback.order(chosen.steps) or chosen.steps or chosen.cacheable
        if not steps:
            raise no_model(self.config, request, asked.tier)
        step = steps[0]
        provider = self.config.providers[step.candidate.provider]
        count = tokens.estimate_input(request.prompt, request.system, request.history)
        most = step.call.max_output_tokens
        hit = self.look_up(request, chosen) is not None
        bypasses = self._fallback.bypasses(chosen.steps, step.candidate)
        notes = [*chosen.notes, *chosen.standing, *(f"falls back from {name}: {reason}" for name, reason in bypasses)]
        return Preview(
            classification=classification,
            tier=step.tier,
            candidate=step.candidate,
            input_tokens=count,
            max_output_tokens=most,
            cost_low=Decimal(0) if hit else self.pricing.at(step.candidate, count, 1),
            cost_high=Decimal(0) if hit else self.pricing.at(step.candidate, count, most),
            cached=hit,
            key=provider.key,
            key_present=self._clients.ready(step.candidate),
            notes=(*notes, *([] if hit else self._obstacles(request, step, count))),
        )

    def _obstacles(self, request: Request, step: Step, count: int) -> list[str]:
        """Return what would keep a request from being sent as it is."""
        found = []
        if count > self.config.confirm_tokens and not request.yes:
            found.append("This prompt is so large that it needs --yes.")
        guard = self.guard()
        if reason := guard.refuse(step, request):
            found.append(f"A budget forbids this call: {reason}.")
        self.store.release(None, "", guard.reservations)  # nothing is sent, so nothing stays reserved
        return found

    # --- looking back ---

    def log(self, **conditions: Any) -> pd.DataFrame:
        """Return the log, one row an attempt; see :func:`~ipyrouter.reporting.log.log_frame`."""
        from ipyrouter.reporting.log import log_frame

        return log_frame(self.store, **conditions)

    def report(self, day: dt.date | str | None = None, *, span: str = "day") -> Report:
        """Return what the day (default: today, UTC), or its "week" or "month", came to, or "all" of the log.

        Totals, tiers, models, faults, escalations, and the dearest and slowest requests. Raises UsageError for a date
        or span that is none, StoreError for a database of a newer version.
        """
        from ipyrouter.reporting import report

        return report.report(self.store, day, span)

    def forget(
        self,
        answer: Answer | str | None = None,
        *,
        before: dt.datetime | dt.date | str | None = None,
        content: bool = False,
    ) -> int:
        """Delete an answer, or all before a date, from log and cache; no bytes of them stay in the database's files.

        Args:
            answer: An Answer or its id.
            before: A date or time; without a zone it is UTC.
            content: Delete only prompts and answers, of all of the log unless ``answer`` or ``before`` is given;
                models, tokens and costs stay. Otherwise costs go, too, and budgets count them no more.

        Returns:
            How many answers that concerned.

        Raises:
            UsageError: Nothing is chosen, or the answer is not in the log.
            StoreError: The database could not be written.
        """
        from ipyrouter.reporting.log import moment

        if answer is None and before is None and not content:
            raise UsageError("Nothing is chosen to be forgotten.", "Give an answer, before=DATE or content=True.")
        name = answer.id if isinstance(answer, Answer) else answer
        count = self.store.forget(name, moment(before), content=content)
        if count == 0 and name is not None:
            raise UsageError("That answer is not in the log.", "Its id stands in the column answer_id of the log.")
        if self.last is not None and self.last.id == name:
            self.last = None
        return count

    def compare(self) -> pd.DataFrame:
        """Return what one's own log would have cost: all power, all mid, the router, the router with its cache.

        See :func:`ipyrouter.reporting.compare.compare` for columns and assumptions.
        """
        from ipyrouter.reporting import compare

        return compare.compare(self.store, self.config, self.pricing)

    def status(self) -> list[tuple[str, str, float | None]]:
        """Return (name, reason, seconds left or None for the session) of what is left alone after faults."""
        return self._fallback.status()

    def ready(self, candidate: Candidate) -> bool:
        """Tell whether a candidate can be called: its key is there, or it needs none."""
        return self._clients.ready(candidate)

    # --- learning ---

    def feedback(self, verdict: Feedback, answer: Answer | None = None) -> bool:
        """Note whether an answer (default: the last one) was good or bad; False if it is not in the log."""
        chosen = answer or self.last
        if chosen is None:
            raise UsageError("There is no answer yet.", "Ask something first.")
        return self.store.set_feedback(chosen.id, verdict)

    def learn(self, outcomes: pd.DataFrame | None = None, *, reset: bool = False) -> Lesson | None:
        """Fit the classifier to the person's own work, on top of the shipped weights, and print what it gained.

        ``outcomes`` has the columns prompt, tier and ok (did this tier's answer do?). Without it the log is read:
        `%router good` and `%router bad`, escalations, and prompts asked again at a higher tier. The lesson is kept in
        the home folder only if it ranks held-back prompts better than before; ``reset=True`` forgets all lessons.

        Raises UsageError for missing columns, unknown tiers, or fewer than 20 prompts.
        """
        from ipyrouter.classifier import lessons

        if reset:
            print(self.lessons.forget())
            return None
        rows = lessons.from_log(self.store) if outcomes is None else lessons.from_frame(outcomes)
        lesson = lessons.teach(rows)
        print(self.lessons.keep(lesson))
        return lesson

    # --- life ---

    def configure(self, settings: Mapping[str, Any], source: str = "configure()") -> None:
        """Let settings, nested like the TOML, win over those that the router was built with; {} undoes it.

        Session, connections and what is known of faults stay. ``source`` is what `%router config` names as the origin.
        Raises ConfigError.
        """
        self.config = configuration.override(self._built_with, settings, source) if settings else self._built_with
        self._clients.config = self._fallback.config = self.config
        self.pricing.configure(self.config)

    def reset(self) -> None:
        """Begin a new session: forget faults, close connections; log and cache stay."""
        self._fallback.reset()
        self._clients.close()
        self._told.clear()
        self._begin_session()

    def _begin_session(self) -> None:
        self.session = uuid.uuid4().hex[:12]
        self.session_started = dt.datetime.now(dt.UTC)

    def close(self) -> None:
        """Close connections, the database and the embedded server."""
        self._clients.close()
        self.store.close()

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as config and home: another process builds its own clients and connections."""
        return _rebuild, (self.config, self.home)

    # --- for the passage ---

    def look_up(self, request: Request, found: Plan) -> CachedAnswer | None:
        """Return the cached answer of the plan's candidates in order, those of escalations first."""
        if request.cache != "use" or not self.config.cache_enabled:
            return None
        keys = [step.call.key() for step in found.cacheable]
        if keys and self.escalates(request):
            keys.insert(0, escalated_key(keys[0]))
        return self.store.cached(keys, self.config.cache_ttl_days)

    def escalates(self, request: Request) -> bool:
        """Tell whether a weak answer goes a tier up: an explicit model is a decision, not a start."""
        if request.model is not None:
            return False
        return self.config.escalate if request.escalate is None else request.escalate

    def guard(self) -> BudgetGuard:
        """Return what keeps the budgets for one request."""
        return BudgetGuard(self.config.budget, self.pricing, self.store, self.session, self.session_started)

    def announce(self, answer: Answer) -> list[str]:
        """Tell the listeners of an answer that was recorded; return what went wrong with that, in a line each."""
        notes = []
        for listener in tuple(self.listeners):
            try:
                listener(answer)
            except Exception as error:  # noqa: BLE001  a panel must not cost the answer
                with contextlib.suppress(ValueError):  # another thread was faster
                    self.listeners.remove(listener)
                notes.append(self.hide(f"A listener raised {type(error).__name__}: {error}; it is not called again."))
        return notes

    def hide(self, text: str) -> str:
        """Return a text that is shown without the keys and passwords that the router knows."""
        return self._clients.hide(text)

    def once(self, lines: Sequence[str]) -> list[str]:
        """Return the lines that were not told in this session yet."""
        new = [line for line in lines if line not in self._told]
        self._told.update(new)
        return new


def _rebuild(config: Config, home: Path | None) -> Router:
    return Router(config, home=home)


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _why_unreached(tier: TierName, outcome: Chain) -> str:
    """Return in words why a tier above gave no answer: a budget's refusal, else the first fault."""
    if outcome.refused:
        return outcome.refused[0][1].error
    causes = [f"{attempt.candidate}: {attempt.error}" for attempt in outcome.attempts]
    causes += [f"{candidate}: {reason}" for candidate, reason in outcome.bypasses]
    return f"the tier {tier} could not be reached" + "".join(f" ({cause.rstrip('.')})" for cause in causes[:1])


def escalated_key(key: bytes) -> bytes:
    """Return the cache key of the answer that an escalation from the call with this key led to."""
    return hashlib.sha256(key + b"escalated").digest()


def make_request(
    prompt: str,
    *,
    history: Sequence[Message | Mapping[str, str]] = (),
    tier: str | None = None,
    cache: str = "use",
    **rest: Any,
) -> Request:
    """Check what was asked for.

    Raises:
        UsageError: With the value that cannot be, and the remedy.
    """
    if unknown := next((name for name in rest if name not in _OPTIONS), None):
        meant = _MEANT.get(unknown)
        hint = f"Did you mean {meant!r}?" if meant else did_you_mean(unknown, _OPTIONS)
        raise UsageError(f"route() has no argument {unknown!r}.", hint)
    _check_string(prompt)
    if not prompt.strip():
        raise UsageError("The prompt is empty.", "Write what you want to know below the %%route line.")
    if cache not in _CACHE_MODES:
        raise UsageError(f"Unknown cache mode {redact.excerpt(cache)}.", f"Known: {', '.join(_CACHE_MODES)}.")
    _check_texts(rest.get("system"), rest.get("model"))
    most, temperature = rest.get("max_output_tokens"), rest.get("temperature")
    for name, value, kind in (("max_output_tokens", most, int), ("temperature", temperature, int | float)):
        if value is not None and (isinstance(value, bool) or not isinstance(value, kind)):
            raise UsageError(f"{name} must be a number, not {redact.excerpt(value)}.", "Leave it out for the default.")
    if most is not None and most < 1:
        raise UsageError(f"max_output_tokens must be at least 1, not {most}.", "Leave it out for the tier's own limit.")
    if temperature is not None and not 0 <= temperature <= 2:
        raise UsageError(f"temperature must lie between 0 and 2, not {temperature:g}.", "Most models know 0 to 1.")
    named = configuration.as_tier(tier) if tier is not None else None
    return Request(prompt, history=_turns(history), tier=named, cache=cast(CacheMode, cache), **rest)


def _check_string(prompt: object) -> None:
    if not isinstance(prompt, str):
        raise UsageError(f"The prompt must be a string, not {type(prompt).__name__}.", "Convert it with str().")


def _check_texts(system: object, model: object) -> None:
    for name, value in (("system", system), ("model", model)):
        if not isinstance(value, str | None):
            raise UsageError(f"{name} must be a string, not {reprlib.repr(value)}.", "Leave it out for the default.")
    if isinstance(model, str) and not all(part.strip() for part in model.split("/", 1)):
        raise UsageError(f"Unknown model {model!r}: a name is missing.", "Write provider/model; see %router models.")


def _turns(history: object) -> tuple[Message, ...]:
    """Return earlier turns, given as Messages or as dicts like those of the providers' own SDKs."""
    several = isinstance(history, Iterable) and not isinstance(history, str | Mapping)
    return tuple(_turn(turn) for turn in (cast(Iterable[object], history) if several else (history,)))


def _turn(turn: object) -> Message:
    role, text = (turn.get("role"), turn.get("content")) if isinstance(turn, Mapping) else (None, None)
    if isinstance(turn, Message):
        role, text = turn.role, turn.text
    if role not in get_args(Role) or not isinstance(text, str):
        raise UsageError(
            f"history holds {reprlib.repr(turn)}, which is no turn of a conversation.",
            'Write Message("user", "…") or {"role": "user", "content": "…"}; the roles are user and assistant,'
            " and a system prompt goes into system=.",
        )
    return Message(cast(Role, role), text)


def _encodable(text: str) -> str:
    """Replace lone surrogates, halves of characters that no UTF-8 text can hold."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


@dataclass
class _Passage:
    """One request on its way through the router."""

    router: Router
    request: Request
    on_delta: OnDelta | None

    def __post_init__(self) -> None:
        # The time comes first, so that the database appends instead of writing all over its pages.
        self.id = f"{time.time_ns() // 1000:014x}{secrets.token_hex(9)}"
        self.notes: list[str] = []
        self.attempts: list[Attempt] = []
        self.bypasses: dict[TierName, tuple[Bypass, ...]] = {}  # whom each tier's answer fell back from
        self.guard = self.router.guard()
        self.owner = new_owner()
        self.lease: bytes | None = None
        self._clean()
        self.classification = self.router.classify(self.request.prompt)
        self.tier: TierName = self.request.tier or self.classification.tier
        self.started = time.monotonic()  # past the classification, whose first one imports numpy

    def answer(self) -> Answer:
        """Take the six steps."""
        router, request = self.router, self.request
        found = plan(router.config, router._clients, request, self.tier)
        hit = router.look_up(request, found)
        if hit is None and not found.steps:
            found = nearest_plan(router.config, router._clients, request, self.tier)
            hit = router.look_up(request, found)
        if hit is not None:
            return self._from_cache(hit, found)
        found = by_price(router.config, router.pricing, request, found)
        self.notes += router.once(router.config.project_warnings)
        self._tell(found)
        self._confirm(found.steps[0])
        try:
            hit = self._wait_for_twin(found)
            return self._ask(found) if hit is None else self._from_cache(hit, found)
        finally:
            # After a record there is nothing left to release: it ends lease and reservations itself.
            router.store.release(self.lease, self.owner, self.guard.reservations)

    # --- before ---

    def _tell(self, found: Plan) -> None:
        """Note what the user should know of a plan whose steps are asked."""
        self.notes += self.router.once(found.notes)
        self.notes += [note for note in found.standing if note not in self.notes]

    def _clean(self) -> None:
        request = self.request
        prompt = _encodable(request.prompt)
        system = _encodable(request.system) if request.system else None
        history = tuple(replace(message, text=_encodable(message.text)) for message in request.history)
        if prompt != request.prompt or system != (request.system or None):
            self.notes.append("The prompt held halves of characters (lone surrogates); each was replaced by �.")
        self.request = replace(request, prompt=prompt, system=system, history=history)

    def _confirm(self, step: Step) -> None:
        request = self.request
        count = tokens.estimate_input(request.prompt, request.system, request.history)
        if request.yes or count <= self.router.config.confirm_tokens:
            return
        dollars = self.router.pricing.at(step.candidate, count, step.call.max_output_tokens)
        cost = "at an unknown price" if dollars is None else f"for up to ${dollars:.2f}"
        raise UsageError(
            f"This prompt is large: about {count:,} tokens to {step.candidate} {cost}. Nothing was sent.",
            "Add --yes to send it (yes=True from Python), or raise routing.confirm_tokens.",
        )

    # --- cache ---

    def _from_cache(self, hit: CachedAnswer, found: Plan) -> Answer:
        candidate = Candidate(hit.provider, hit.model)
        if any(step.candidate == candidate for step in found.steps):  # else one answered that is not ready now
            self.notes += [note for note in found.standing if note not in self.notes]
        latency = time.monotonic() - self.started
        attempt = Attempt(
            tier=hit.tier, candidate=candidate, status="cached", usage=hit.usage, latency=latency, finish=hit.finish,
            text=hit.text,
        )  # fmt: skip
        answer = self._answer(
            attempt, cached=True, cost_saved=hit.cost, escalated_from=hit.escalated_from, attempts=(attempt,)
        )
        return self._record(answer, "cached")

    def _wait_for_twin(self, found: Plan) -> CachedAnswer | None:
        """Claim the question; if another thread or kernel is asking it right now, wait once for what it finds."""
        if self.request.cache != "use" or not self.router.config.cache_enabled:
            return None
        store, step = self.router.store, found.steps[0]
        key, longest = step.call.key(), step.deadlines.total + _TWIN_MARGIN
        if store.lease(key, self.owner, longest):
            self.lease = key
            return None
        try:
            pause, until = 0.02, time.monotonic() + longest
            while time.monotonic() < until and store.leased(key):
                time.sleep(pause)
                pause = min(pause * 1.5, 0.25)
        except KeyboardInterrupt:
            raise Interrupted(self._unfinished("interrupted", found)) from None
        hit = self.router.look_up(self.request, found)
        if hit is None and store.lease(key, self.owner, longest):  # the twin found nothing that may be shared
            self.lease = key
        return hit

    # --- the chain, and the next tier where the answer is weak ---

    def _ask(self, first: Plan) -> Answer:
        current = first
        while True:
            outcome = self.router._fallback.run(current.steps, self._send, len(self.attempts) + 1)
            self.attempts += outcome.attempts
            self.notes += outcome.notes
            if outcome.interrupted:
                raise Interrupted(self._unfinished("interrupted", current)) from None
            if outcome.completion is None or outcome.step is None:
                kept = next((a for a in reversed(self.attempts) if a.status == "weak"), None)
                if kept is None and (half := self._half()) is not None:
                    return self._finished(half, first, step=None)
                if kept is not None:
                    self.notes.append(f"The weak answer is kept: {_why_unreached(current.tier, outcome)}.")
                    return self._finished(kept, first, step=None)
                current = self._after_failure(current, outcome)
                continue
            self._note_bypasses(current.tier, outcome)
            reason = weakness(self.request, outcome.completion, current.tier)
            if reason is None:
                return self._finished(outcome.attempts[-1], first, outcome.step)
            self.attempts[-1] = replace(self.attempts[-1], status="weak", error_kind="weak", error=reason)
            above = self._above(current, outcome.step) if self.router.escalates(self.request) else None
            if above is None:
                return self._finished(self.attempts[-1], first, step=None)
            self.guard.settle(self.attempts[-1].cost.amount)
            self.notes.append(f"The {current.tier} answer was weak ({reason}); asked {above.tier}.")
            self._tell(above)
            current = above

    def _note_bypasses(self, tier: TierName, outcome: Chain) -> None:
        """Note, with each answer, which preferred candidates of the tier did not give it, and why."""
        self.bypasses[tier] = outcome.bypasses
        for candidate, reason in outcome.bypasses:
            self.notes.append(f"fell back from {candidate}: {reason}")

    def _half(self) -> Attempt | None:
        """Return the answer that a model broke off, with a note that it is half of one: better than nothing."""
        half = next((a for a in reversed(self.attempts) if a.error_kind == "unfinished" and a.text), None)
        if half is not None:
            self.notes.append(f"This is not a whole answer: {half.candidate}: {half.error}; no other model answered.")
        return half

    def _after_failure(self, failed: Plan, outcome: Chain) -> Plan:
        """Return the cheaper tier to ask where a budget forbade this one; raise what the user must know otherwise."""
        refusals = [reason.error for _, reason in outcome.refused]
        if outcome.refused and self.router.config.budget.action == "downgrade" and self.request.model is None:
            for tier in reversed(TIERS[: TIERS.index(failed.tier)]):
                cheaper = plan(self.router.config, self.router._clients, self.request, tier)
                if cheaper.steps:
                    self.notes.append(f"{refusals[0]}; asked {tier} instead of {failed.tier}.")
                    self._tell(cheaper)
                    return cheaper
        if self.attempts or not outcome.refused:
            self._unfinished("error", failed, outcome)
        remedy = self._budget_remedy(outcome)
        if outcome.attempts or not outcome.refused:
            raise all_failed(outcome, failed.key_notes, remedy)
        head = "Nothing was sent" if not self.attempts else "No answer that the budget allows"
        others = [f"{attempt.candidate}: {attempt.error}" for attempt in self.attempts]  # of a tier above
        others += [f"{candidate}: {reason}" for candidate, reason in outcome.bypasses]
        raise BudgetError(f"{head}: {'; '.join([*refusals, *others])}.", remedy)

    def _budget_remedy(self, outcome: Chain) -> str:
        """Return what to do about the candidates that a budget forbids: one without a price needs one, and no more."""
        forbidden = [candidate for candidate, _ in outcome.refused]
        unpriced = [candidate for candidate in forbidden if self.router.pricing.unknown(candidate)]
        remedies = [f'Add [prices."{name}"] with input and output in $ per million tokens.' for name in unpriced]
        if len(unpriced) < len(forbidden):
            remedies.append("Raise that budget in your config, limit the answer with --max-tokens, or choose a cheaper")
            remedies.append("tier with -t.")
        return " ".join(remedies)

    def _above(self, current: Plan, answered: Step) -> Plan | None:
        """Return the plan of the next tier up that would ask another model; one tier at a time."""
        if current.tier == TIERS[-1]:
            return None
        above = TIERS[TIERS.index(current.tier) + 1]
        found = plan(self.router.config, self.router._clients, self.request, above)
        return found if found.steps and found.steps[0].candidate != answered.candidate else None

    def _send(self, step: Step, attempt: int) -> Completion:
        """Send a step's call under the budgets: a failed one gives back what it has not spent."""
        try:
            reason = self.guard.refuse(step, self.request, until=self.started + step.deadlines.total)
        except KeyboardInterrupt:  # while it waited for calls in flight
            raise Fault("interrupted", "stopped by the user") from None
        if reason is not None:
            raise Fault("budget", reason)

        def on_text(text: str) -> None:
            if self.on_delta is None:
                return
            try:
                self.on_delta(Delta(text, step.tier, step.candidate, attempt))
            except Exception as error:  # noqa: BLE001  the caller's display must not cost the answer
                self.on_delta = None
                self.notes.append(f"on_delta raised {type(error).__name__}: {error}; the answer went on without it.")

        on_text("")  # who looks on is told which model is being waited for
        try:
            return self.router._clients.complete(step.candidate, step.call, step.deadlines, on_text)
        except Fault as fault:
            usage = fault.usage
            try:
                self.guard.settle(self.router.pricing.cost(step.candidate, usage).amount if usage else Decimal(0))
            except KeyboardInterrupt:  # what the call spent is recorded all the same
                fault.kind = "interrupted"
            raise

    # --- after ---

    def _finished(self, last: Attempt, first: Plan, step: Step | None) -> Answer:
        """Record the answer; ``step`` is the one whose answer may be cached, None for a weak one."""
        escalated_from = first.tier if TIERS.index(last.tier) > TIERS.index(first.tier) else None
        bypasses = self.bypasses.get(last.tier)
        answer = self._answer(
            last,
            attempts=tuple(self.attempts),
            escalated_from=escalated_from,
            fallback_from=str(bypasses[0][0]) if bypasses else None,
            fallback_reason=bypasses[0][1].brief if bypasses else None,
        )
        key = None
        if (
            step is not None
            and answer.finish == "stop"
            and self.request.cache != "off"
            and self.router.config.cache_enabled
        ):
            key = escalated_key(first.cacheable[0].call.key()) if escalated_from else step.call.key()
        return self._record(answer, "ok", key)

    def _unfinished(self, outcome: Outcome, current: Plan, chain: Chain | None = None) -> Answer:
        """Record a request that was interrupted or failed, with what had arrived.

        ``chain`` tells why the candidates of the tier were not asked.
        """
        last = next((a for a in reversed(self.attempts) if a.text), self.attempts[-1] if self.attempts else None)
        if last is None:  # nothing was sent: stopped while waiting, or all were left alone after faults
            stopped = outcome == "interrupted"
            unasked = (
                chain.bypasses[0][1].error if chain is not None and chain.bypasses else "cooling down after faults"
            )
            last = Attempt(
                tier=current.tier,
                candidate=current.steps[0].candidate,
                status="interrupted" if stopped else "error",
                finish="interrupted" if stopped else None,
                error_kind="interrupted" if stopped else "left_alone",
                error="stopped by the user" if stopped else f"not asked again: {unasked}",
            )
            self.attempts.append(last)
        return self._record(self._answer(last, attempts=tuple(self.attempts)), outcome)

    def _answer(self, last: Attempt, *, attempts: tuple[Attempt, ...], **fields: Any) -> Answer:
        return Answer(
            id=self.id,
            text=last.text,
            tier=last.tier,
            provider=last.candidate.provider,
            model=last.candidate.model,
            cost=total([attempt.cost.amount for attempt in attempts]),
            usage=last.usage,
            cached=fields.pop("cached", False),
            latency=sum(attempt.latency for attempt in attempts),
            finish=last.finish or "partial",
            classification=self.classification,
            attempts=attempts,
            first_token=last.first_token,
            thinking=last.thinking,
            notes=tuple(map(self.router.hide, self.notes)),
            **fields,
        )

    def _record(self, answer: Answer, outcome: Outcome, cache_key: bytes | None = None) -> Answer:
        router, request = self.router, self.request
        content = router.config.log_content
        record = Record(
            answer,
            outcome,
            prompt=request.prompt if content else None,
            system=request.system if content else None,
            session=router.session,
            notebook=router.notebook,
            owner=self.owner,
            lease=self.lease,
            reservations=self.guard.reservations,
        )
        router.store.record(record, cache_key, router.config.cache_max_mb)
        self.lease = None
        self.guard.clear()
        router.last = answer
        notes = router.store.warnings()
        try:
            notes += router.announce(answer)
        except KeyboardInterrupt:  # while a panel was drawn: the answer is there and paid for
            raise Interrupted(answer) from None
        if notes:
            answer = router.last = replace(answer, notes=(*answer.notes, *notes))
        return answer
