"""What providers' own caches hold of conversations, and whether it pays to stay with the candidate that holds it."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from dataclasses import dataclass, replace
from decimal import Decimal

from ipyrouter.clock import Clock
from ipyrouter.config import Config, Deadlines
from ipyrouter.config.catalogue import model_of
from ipyrouter.pricing.prices import Pricing
from ipyrouter.providers.base import content_key
from ipyrouter.providers.effort import LEVELS
from ipyrouter.routing.breaker import Breaker
from ipyrouter.routing.planner import Plan, Step, TierPlan, input_tokens
from ipyrouter.text.amounts import dollars
from ipyrouter.types import TIERS, Candidate, Message, Request, TierName, Usage

TYPICAL_ANSWER = 300
"""Tokens of an answer of about half a page."""
_MOST = 1000  # conversations that are remembered


@dataclass(frozen=True, slots=True)
class Warm:
    """Whose provider holds so many tokens of a conversation in its cache, until when, and how it was asked."""

    candidate: Candidate
    tier: TierName
    tokens: int
    until: float  # on the clock's monotonic scale
    effort: str | None
    max_output_tokens: int
    deadlines: Deadlines


class Warmth:
    """Remembers for a session which conversations are warm where. Nothing of their text is kept.

    Args:
        config: Providers and tiers.
        pricing: What staying and leaving cost.
        breaker: Who cools down, and so cannot be stayed with.
        clock: How long it is since a provider last read a conversation.
    """

    def __init__(self, config: Config, pricing: Pricing, breaker: Breaker, clock: Clock) -> None:
        self.config = config
        self._pricing = pricing
        self._breaker = breaker
        self._clock = clock
        self._lock = threading.Lock()
        self._warm: OrderedDict[bytes, Warm] = OrderedDict()

    def remember(self, request: Request, step: Step, usage: Usage) -> None:
        """Take note of what the provider's cache holds after an answer: what it says, else what it does by itself."""
        model = model_of(step.candidate.model)
        held = usage.cached_input_tokens + usage.cache_write_tokens
        if not held and self._by_itself(step.candidate) and usage.input_tokens >= model.cache_tokens:
            held = usage.input_tokens
        if not held:
            return
        *_, key = _keys(request.system, (*request.history, Message("user", request.prompt)))
        until = self._clock.monotonic() + 60 * model.cache_minutes
        with self._lock:
            self._warm[key] = Warm(
                step.candidate, step.tier, held, until, step.call.effort, step.call.max_output_tokens, step.deadlines
            )
            self._warm.move_to_end(key)
            while len(self._warm) > _MOST:
                self._warm.popitem(last=False)

    def of(self, request: Request) -> Warm | None:
        """Return where the longest beginning of a conversation is warm, None where it is nowhere."""
        now = self._clock.monotonic()
        with self._lock:
            known = (self._warm.get(key) for key in reversed(_keys(request.system, request.history)))
            return next((warm for warm in known if warm is not None and warm.until > now), None)

    def stay(self, request: Request, plan: Plan) -> Plan:
        """Return the plan that asks a conversation's warm candidate first, unless another one is needed or cheaper.

        The note of the step that is asked first says the arithmetic. A named model is a decision, a named tier, too.
        """
        warm = self.of(request) if request.history and plan.first.steps else None
        if warm is None:
            return plan
        usual = plan.first.steps[0]
        if usual.candidate == warm.candidate:
            return _with_first(plan, plan.first, _as_before(request, usual, warm))
        if plan.of_tier is None:
            return plan
        tier = plan.first if warm.tier == plan.first.tier else plan.of_tier(warm.tier)
        return self._choose(request, plan, tier, warm)

    def _choose(self, request: Request, plan: Plan, tier: TierPlan, warm: Warm) -> Plan:
        """Return the plan with the usual candidate, or the warm one from further down the chain or another tier."""
        usual, held = plan.first.steps[0], f"{warm.tokens:,} tokens of this conversation"
        left = f"Left {warm.candidate}, whose provider's cache holds {held}"
        if tier.tier != plan.first.tier and request.tier is not None:
            return _noted(plan, usual, f"{left}: you named the tier {request.tier}.")
        if TIERS.index(tier.tier) < TIERS.index(plan.first.tier):
            return _noted(plan, usual, f"{left}: the prompt needs the tier {plan.first.tier}.")
        step = next((_as_before(request, s, warm) for s in tier.steps if s.candidate == warm.candidate), None)
        if step is None or self._breaker.order((step, usual))[:1] != [step]:
            return plan
        here, there = self.cost(step, TYPICAL_ANSWER), self.cost(usual, TYPICAL_ANSWER)
        if here is None or there is None:
            return plan
        if there < here:
            return _noted(plan, usual, f"{left}: about {dollars(there)} at {usual.candidate}, {dollars(here)} there.")
        sums = f"about {dollars(here)}, {dollars(there)} at {usual.candidate}"
        note = f"Stayed with {warm.candidate}, whose provider's cache holds {held}: {sums}."
        step = replace(step, notes=(*step.notes, note), kept_as=usual.call.key())
        tier = replace(tier, cacheable=(*plan.first.cacheable, *tier.cacheable))
        return _with_first(plan, tier, step)

    def cost(self, step: Step, output_tokens: int) -> Decimal | None:
        """Return the dollars of a call with so long an answer; None where no price is known.

        What the provider's cache does not hold is written to it where that happens by itself or is asked for.
        """
        read = input_tokens(step)
        held = min(step.warm, read)
        asked = step.call.sdk == "anthropic" and step.call.conversation
        reread = asked or self._by_itself(step.candidate)
        written = read - held if reread and read >= model_of(step.candidate.model).cache_tokens else 0
        usage = Usage(read, output_tokens, cached_input_tokens=held, cache_write_tokens=written)
        return self._pricing.cost(step.candidate, usage).amount

    def _by_itself(self, candidate: Candidate) -> bool:
        """Tell whether a provider caches without being asked to: Anthropic's models nowhere."""
        provider = self.config.providers[candidate.provider]
        return "prompt_caching" in provider.supports and "claude" not in candidate.model.lower()


def _as_before(request: Request, step: Step, warm: Warm) -> Step:
    """Return the step with as much thinking as the turn before had, unless more is needed or the user says how much.

    To a provider's cache, other thinking makes another prompt.
    """
    wish = request.effort is not None or request.max_output_tokens is not None
    if step.call.effort != warm.effort:
        if wish or _rank(warm.effort) < _rank(step.call.effort):
            return step
        call = replace(step.call, effort=warm.effort, max_output_tokens=warm.max_output_tokens)
        step = replace(step, call=call, deadlines=warm.deadlines, kept_as=step.call.key())
    return replace(step, warm=warm.tokens)


def _rank(effort: str | None) -> int:
    return LEVELS.index(effort) if effort in LEVELS else -1


def _noted(plan: Plan, step: Step, note: str) -> Plan:
    return _with_first(plan, plan.first, replace(step, notes=(*step.notes, note)))


def _with_first(plan: Plan, tier: TierPlan, step: Step) -> Plan:
    """Return the plan with a tier as the first to be asked, and of that a step."""
    rest = tuple(other for other in tier.steps if other.candidate != step.candidate)
    return replace(plan, first=replace(tier, steps=(step, *rest)))


def _keys(system: str | None, turns: tuple[Message, ...]) -> list[bytes]:
    """Return what stands for a conversation up to each of the user's turns, the longest last."""
    digest = hashlib.sha256(repr(system).encode("utf-8", "surrogatepass"))
    keys = []
    for turn in turns:
        digest.update(repr((turn.role, content_key(turn.content))).encode("utf-8", "surrogatepass"))
        if turn.role == "user":
            keys.append(digest.digest())
    return keys
