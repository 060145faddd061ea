"""From a request and a tier to the calls that may answer it, in order. No network, no SDK."""

from __future__ import annotations

import datetime as dt
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

from ipyrouter.config import LOCAL_MODEL, NO_KEY, Config, Deadlines, Tier
from ipyrouter.config.catalogue import model_of
from ipyrouter.errors import NoModelError, UsageError
from ipyrouter.pricing import media, tokens
from ipyrouter.pricing.prices import Pricing
from ipyrouter.providers.base import Call
from ipyrouter.providers.effort import most_within, nearest, patience, thinking_tokens
from ipyrouter.providers.local import INSTALL
from ipyrouter.types import TIERS, Candidate, Input, Message, PdfPart, Prompt, Request, TierName

IN_WORDS = "described in words"
"""How the note on pictures and documents begins that no model could read: badge and note say so."""

_ANY_TEXT = Prompt.of("")


@dataclass(frozen=True, slots=True)
class Step:
    """One candidate of a tier with the complete call it would get; ``notes`` are for its answer."""

    tier: TierName
    candidate: Candidate
    call: Call
    deadlines: Deadlines
    notes: tuple[str, ...] = ()
    warm: int = 0  # input tokens that the provider's cache holds
    kept_as: bytes | None = None  # the key that its answer is cached under; None: its call's own


@dataclass(frozen=True, slots=True)
class TierPlan:
    """A tier's steps that can be taken now, those whose answers may be in the cache, and what the user should know.

    ``notes`` are shown once a session, ``standing`` with every answer of these steps. ``key_notes`` names, a line each,
    the chain's candidates that have no key.
    """

    tier: TierName
    steps: tuple[Step, ...]
    cacheable: tuple[Step, ...]
    notes: tuple[str, ...] = ()
    standing: tuple[str, ...] = ()
    key_notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """All that one request may lead to: the tier that is asked first, and the others.

    ``first`` has no steps where nothing can be called; ``missing`` is the error that says what to set then. ``of_tier``
    plans another tier when it comes to that; None where a named model leaves no choice.
    """

    first: TierPlan
    of_tier: Callable[[TierName], TierPlan] | None
    missing: NoModelError | None = None

    def above(self, tier: TierName, answered: Candidate) -> TierPlan | None:
        """Return the next tier up, if it would ask another candidate first than the one that answered."""
        if tier == TIERS[-1] or self.of_tier is None:
            return None
        up = self.of_tier(TIERS[TIERS.index(tier) + 1])
        return up if up.steps and up.steps[0].candidate != answered else None

    def below(self, tier: TierName) -> TierPlan | None:
        """Return the strongest of the cheaper tiers that can be called."""
        if self.of_tier is None:
            return None
        return next((plan for plan in map(self.of_tier, reversed(TIERS[: TIERS.index(tier)])) if plan.steps), None)


class Planner:
    """Plans requests for one config.

    Args:
        config: Tiers, chains and providers.
        ready: Whether a candidate can be called: its key is there, or it needs none.
        pricing: Places a named model that no chain holds among the tiers.
    """

    def __init__(self, config: Config, ready: Callable[[Candidate], bool], pricing: Pricing) -> None:
        self.config = config
        self._ready = ready
        self._pricing = pricing

    def plan(self, request: Request, tier: TierName) -> Plan:
        """Return the plan of a request, with ``tier`` as the first to be asked, or else the nearest that can be.

        Raises UsageError for a model that is not known.
        """
        plan = self._plan(request, tier)
        if plan.first.steps or not needs(request):
            return plan
        # Nobody that can be called reads it. Whoever can be called gets it in words.
        words = self._plan(in_words(request), tier)
        if not words.first.steps:
            return plan
        return self._describe(request, words)

    def plan_many(self, requests: Sequence[tuple[Request, TierName]]) -> list[Plan]:
        """Return what :meth:`plan` returns, for many requests with their tiers.

        Those that differ in nothing but their text share one look at models and keys.

        Raises UsageError for a model that is not known.
        """
        shapes: dict[tuple[Request, TierName], Plan] = {}
        plans = []
        for request, tier in requests:
            if needs(request):  # who reads it depends on what it holds
                plans.append(self.plan(request, tier))
                continue
            shape = replace(request, prompt=_ANY_TEXT), tier
            if shape not in shapes:
                shapes[shape] = self.plan(*shape)
            plans.append(_with_turns(shapes[shape], _turns(request)))
        return plans

    def _plan(self, request: Request, tier: TierName) -> Plan:
        if request.model is not None:
            named = self._plan_model(request, tier)
            return Plan(named, None, None if named.steps else no_model(self.config, request, named.tier))
        of_tier = functools.cache(lambda name: self._tier(request, name))
        first = self._nearest(request, of_tier, tier)
        return Plan(first, of_tier, None if first.steps else no_model(self.config, request, tier))

    def _describe(self, request: Request, plan: Plan) -> Plan:
        """Return the plan of a request in words with a note that says so. Raises UsageError where there are none."""
        first = plan.first.steps[0].candidate
        whom = f"{first} does not read" if request.model else "no model that can be called reads"
        remedy = f'Name one that does with -m, or set input = ["text", {_listed(needs(request), quote=True)}] in'
        remedy += f" [providers.{first.provider}] of your config if its models do."
        parts = [part for turn in _turns(request) for part in turn.content.parts]
        if any(isinstance(part, PdfPart) and not part.words for part in parts):
            hint = "Or install pypdf, which takes the text out of them: pip install pypdf."
            raise UsageError(f"Nothing was sent: {whom} {_listed(needs(request))}.", f"{remedy} {hint}")
        note = f"{IN_WORDS}: {whom} {_listed(needs(request))}. {remedy}"

        def with_note(tier: TierPlan) -> TierPlan:
            return replace(tier, standing=(*tier.standing, note))

        others = plan.of_tier
        tiers = None if others is None else lambda name: with_note(others(name))
        return replace(plan, first=with_note(plan.first), of_tier=tiers)

    def _reads(self, request: Request, candidate: Candidate) -> bool:
        return needs(request) <= self.config.inputs(candidate)

    def _nearest(self, request: Request, of_tier: Callable[[TierName], TierPlan], tier: TierName) -> TierPlan:
        """Return the tier's plan, or that of the nearest tier that can be called: stronger ones first."""
        first, rank = of_tier(tier), TIERS.index(tier)
        for name in (tier, *TIERS[rank + 1 :], *reversed(TIERS[:rank])):
            plan = of_tier(name)
            if not plan.steps:
                continue
            if name == tier:
                return plan
            chain = self.config.tiers[tier].chain
            blind = [f"{c} does not read {_listed(needs(request))}" for c in chain if not self._reads(request, c)]
            why = "; ".join([*_lacks(self.config, chain), *blind])
            note = f"No model of the tier {tier} can be called ({why}); {name} answers instead."
            return replace(plan, cacheable=(*first.cacheable, *plan.cacheable), standing=(*plan.standing, note))
        return first

    def _plan_model(self, request: Request, tier: TierName) -> TierPlan:
        """Return the plan for a model that the user named.

        It is asked, and counted, under the tier whose chain holds it: the one that is named too, else the cheapest.
        Where no chain holds it, see :meth:`counted_by_price`.
        """
        config = self.config
        named = config.candidate(request.model or "")
        holding = self._holding(named)
        if holding and request.tier not in holding:
            tier = holding[0]
        steps = _steps(config, request, tier, (named,))
        day = config.retired_on(named)
        retired = day is not None and day <= today()
        note = f"{named} was retired on {day}; you named it, so it is asked."
        takes = self._ready(named) and self._reads(request, named)
        return TierPlan(tier, steps if takes else (), steps, (note,) if retired else ())

    def counted_by_price(self, request: Request, plan: Plan) -> Plan:
        """Return the plan with a named model that no chain holds counted under the tier that costs about as much.

        A tier that was named too stays. Limits stay those of the tier that was planned. This may import the price
        table, which a cached answer does not need.
        """
        first = plan.first
        if request.model is None or request.tier is not None or not first.steps:
            return plan
        named = first.steps[0].candidate
        if self._holding(named):
            return plan
        tier = self._tier_by_price(named, first.tier)
        steps, cacheable = (tuple(replace(s, tier=tier) for s in group) for group in (first.steps, first.cacheable))
        return replace(plan, first=replace(first, tier=tier, steps=steps, cacheable=cacheable))

    def _holding(self, candidate: Candidate) -> list[TierName]:
        return [name for name in TIERS if candidate in self.config.tiers[name].chain]

    def _tier_by_price(self, named: Candidate, default: TierName) -> TierName:
        """Return the tier whose first priced model has, by ratio, the nearest price for output tokens.

        That is the cheapest tier for a model that is free, and ``default`` where a price is not known.
        """
        rate = self._pricing.rates(named).get("output")
        if rate is None:
            return default
        ratios: dict[TierName, Decimal] = {}
        for name, tier in self.config.tiers.items():
            outputs = (self._pricing.rates(candidate).get("output") for candidate in tier.chain)
            if (other := next(filter(None, outputs), None)) is not None:
                ratios[name] = max(rate / other, other / rate) if rate else other
        return min(ratios, key=lambda name: ratios[name], default=default)

    def _tier(self, request: Request, tier: TierName) -> TierPlan:
        config = self.config
        chain, notes = without_retired(config, config.tiers[tier])
        ready = tuple(candidate for candidate in chain if self._ready(candidate))
        key_notes = tuple(
            f"{candidate} skipped: {_lack(config, candidate)}." for candidate in chain if candidate not in ready
        )
        standing: tuple[str, ...] = ()
        if ready:
            notes = (*notes, *key_notes[: chain.index(ready[0])])
        elif config.chains_are_ours and self._ready(LOCAL_MODEL) and not self._any_ready():
            ready, standing = (LOCAL_MODEL,), (NO_KEY,)
        kinds = _listed(needs(request))
        blind = [candidate for candidate in ready if not self._reads(request, candidate)]
        ready = tuple(candidate for candidate in ready if candidate not in blind)
        if ready:
            before = [c for c in blind if c in chain and chain.index(c) < chain.index(ready[0])]
            standing += tuple(f"{candidate} passed over: it does not read {kinds}." for candidate in before)
        readers = tuple(c for c in dict.fromkeys((*chain, *ready)) if self._reads(request, c))
        cacheable = _steps(config, request, tier, readers)
        steps = tuple(step for step in cacheable if step.candidate in ready)
        return TierPlan(tier, steps, cacheable, notes, standing, key_notes)

    def _any_ready(self) -> bool:
        return any(self._ready(candidate) for tier in self.config.tiers.values() for candidate in tier.chain)


def input_tokens(call: Call) -> int:
    """Estimate the input tokens of a call, its pictures, documents and schema included."""
    *history, prompt = call.messages
    schema = call.schema.text if call.schema else ""
    text = tokens.estimate_input(prompt.text, call.system, tuple(history), schema)
    return text + media.estimate(call.messages, call.model)


def needs(request: Request) -> frozenset[Input]:
    """Return what a model must read besides text, of the prompt and of the turns before it."""
    return frozenset(kind for turn in _turns(request) for kind in turn.content.needs)


def in_words(request: Request) -> Request:
    """Return the request with words in the place of pictures and documents, those of earlier turns included."""
    history = tuple(Message(turn.role, turn.content.in_words()) for turn in request.history)
    return replace(request, prompt=request.prompt.in_words(), history=history)


def _with_turns(plan: Plan, turns: tuple[Message, ...]) -> Plan:
    """Return a plan whose calls have other messages."""

    def of_steps(steps: tuple[Step, ...]) -> tuple[Step, ...]:
        return tuple(replace(step, call=replace(step.call, messages=turns)) for step in steps)

    def of_tier(tier: TierPlan) -> TierPlan:
        cacheable = of_steps(tier.cacheable)
        # Mostly the same calls: each then makes its key once.
        steps = cacheable if tier.steps == tier.cacheable else of_steps(tier.steps)
        return replace(tier, steps=steps, cacheable=cacheable)

    others = plan.of_tier
    tiers = None if others is None else functools.cache(lambda name: of_tier(others(name)))
    return replace(plan, first=of_tier(plan.first), of_tier=tiers)


def _turns(request: Request) -> tuple[Message, ...]:
    return (*request.history, Message("user", request.prompt))


def _listed(kinds: frozenset[Input], *, quote: bool = False) -> str:
    names = {"image": "pictures", "pdf": "PDF files"}
    return (", " if quote else " and ").join(f'"{kind}"' if quote else names[kind] for kind in sorted(kinds))


def no_model(config: Config, request: Request, tier: TierName) -> NoModelError:
    """Return the error that names what is missing."""
    chain = (config.candidate(request.model),) if request.model else config.tiers[tier].chain
    if any(config.providers[candidate.provider].embedded for candidate in chain):
        return NoModelError("The local model is not installed.", f"Run: {INSTALL}")
    owners = [config.providers[candidate.provider] for candidate in chain]
    variables = list(dict.fromkeys(p.key for p in owners if p.key and not p.has_key()))
    lacks = [_lack(config, chain[0])] if request.model else _lacks(config, chain)
    message = f"No model can be called: {'; '.join(lacks)}."
    if not variables and any(p.has_key() and p.lack() for p in owners):
        return NoModelError(message, "Set it in your config file (`ipyrouter doctor` names it).")
    if not variables:
        return NoModelError(message, f"Put another model into tiers.{tier}.chain, or name one with -m.")
    # Not with %env, which prints the key and saves it with the notebook.
    which = f"{variables[0]}" if len(variables) == 1 else f"one of them, such as {variables[0]},"
    name = next(p.name for p in owners if p.key == variables[0])
    remedy = (
        f"Run: ipyrouter key set {name}. Or set {which} in the environment that starts Jupyter, or here:"
        " import os, getpass;"
        f' os.environ["{variables[0]}"] = getpass.getpass()'
    )
    if request.model is None and config.chains_are_ours:
        remedy += (
            f". Or install the free local model: {INSTALL}, or add a provider to your config file"
            " (`ipyrouter doctor` names it)."
        )
    return NoModelError(message, remedy)


def _lack(config: Config, candidate: Candidate) -> str:
    """Return what a candidate that cannot be called lacks."""
    provider = config.providers[candidate.provider]
    return "xllamacpp is not installed" if provider.embedded else provider.lack()


def _lacks(config: Config, chain: tuple[Candidate, ...]) -> list[str]:
    """Return why none of the candidates can be called: retired ones, missing keys, the local model."""
    lacks = [f"{candidate} {retirement}" for candidate in chain if (retirement := retirement_of(config, candidate))]
    owners = [config.providers[candidate.provider] for candidate in chain if not retirement_of(config, candidate)]
    variables = list(dict.fromkeys(owner.key for owner in owners if owner.key and not owner.has_key()))
    if variables:
        lacks.append(f"{' and '.join(variables)} {'is' if len(variables) == 1 else 'are'} not set")
    lacks += dict.fromkeys(lack for owner in owners if owner.has_key() and (lack := owner.lack()))
    return lacks + ["xllamacpp is not installed"] * any(owner.embedded for owner in owners)


def today() -> dt.date:
    """Return the day in UTC."""
    return dt.datetime.now(dt.UTC).date()


def without_retired(config: Config, tier: Tier) -> tuple[tuple[Candidate, ...], tuple[str, ...]]:
    """Return a tier's candidates whose API still answers, and a line on each that is skipped."""
    candidates, notes = [], []
    for candidate in tier.chain:
        if retirement := retirement_of(config, candidate):
            notes.append(f"{candidate} {retirement}.")
        else:
            candidates.append(candidate)
    return tuple(candidates), tuple(notes)


def retirement_of(config: Config, candidate: Candidate) -> str:
    """Return in words when a candidate was retired, and its successor; empty while its service serves it."""
    day = config.retired_on(candidate)
    if day is None or day > today():
        return ""
    successor = config.successor(candidate)
    return f"was retired on {day} and is skipped" + (f"; its successor is {successor}" if successor else "")


_FLEX_SECONDS = 900.0  # that a call may take which can wait, as OpenAI advises


def _steps(config: Config, request: Request, tier: TierName, candidates: tuple[Candidate, ...]) -> tuple[Step, ...]:
    settings = config.tiers[tier]
    steps = []
    for candidate in candidates:
        provider = config.providers[candidate.provider]
        effort, notes = _effort(config, request, tier, candidate)
        deadlines = _patient(config, tier, effort)
        if request.flex:
            deadlines = replace(deadlines, total=max(deadlines.total, _FLEX_SECONDS))
        if provider.embedded:  # this machine computes: being slow is not a sign of a fault
            deadlines = replace(deadlines, first_byte=deadlines.total, idle=deadlines.total)
        elif not provider.stream:  # the first byte comes with the last
            deadlines = replace(deadlines, first_byte=deadlines.total)
        call = Call(
            provider=candidate.provider,
            sdk=provider.sdk,
            base_url=provider.address(),
            model=candidate.model,
            system=request.system,
            messages=_turns(request),
            max_output_tokens=request.max_output_tokens or settings.max_output_tokens + thinking_tokens(effort),
            temperature=request.temperature,
            effort=effort,
            schema=request.schema,
            json=request.json,
            show_thinking=request.show_thinking,
            extra=provider.extra_digest(),
            conversation=request.conversation or bool(request.history),
            flex=request.flex,
        )
        steps.append(Step(tier, candidate, call, deadlines, notes))
    return tuple(steps)


def _effort(
    config: Config, request: Request, tier: TierName, candidate: Candidate
) -> tuple[str | None, tuple[str, ...]]:
    """Return how much a candidate is asked to think, None to say nothing of it, and a note where a wish was changed."""
    level: str = request.effort or config.tiers[tier].effort
    is_wish = request.effort is not None or _is_set(config, f"tiers.{tier}.effort")
    efforts = model_of(candidate.model).efforts
    if efforts is None:  # a preset's effort is no reason to try out what a stranger takes
        return (level if is_wish else None), ()
    if request.max_output_tokens is not None and not is_wish:
        level = most_within(level, request.max_output_tokens // 2)  # the other half is the answer's
    effort = nearest(level, efforts)
    if request.effort is None or effort == level or (effort is None and level == "none"):
        return effort, ()
    if effort is None:
        return None, (f"The effort {level} was left out: {candidate} takes none.",)
    why = "it always thinks" if level == "none" else "the nearest that it takes"
    return effort, (f"The effort {level} became {effort} for {candidate}: {why}.",)


def _patient(config: Config, tier: TierName, effort: str | None) -> Deadlines:
    """Return a tier's deadlines, with the time that the thinking takes where the user has set none."""
    deadlines = config.tiers[tier].deadlines
    first_byte, total = patience(effort)
    if not _is_set(config, f"tiers.{tier}.deadlines.first_byte", "deadlines.first_byte"):
        deadlines = replace(deadlines, first_byte=max(deadlines.first_byte, first_byte))
    if not _is_set(config, f"tiers.{tier}.deadlines.total", "deadlines.total"):
        deadlines = replace(deadlines, total=max(deadlines.total, total))
    return deadlines


def _is_set(config: Config, *settings: str) -> bool:
    """Tell whether the user has set any of some settings."""
    return any(config.origins.get(setting, "default") != "default" for setting in settings)
