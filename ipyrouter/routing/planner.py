"""From a request and a tier to the calls that may answer it, in order. No network, no SDK."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, replace

from ipyrouter.config import LOCAL_MODEL, NO_KEY, Config, Deadlines, Tier
from ipyrouter.errors import NoModelError
from ipyrouter.pricing.prices import Pricing
from ipyrouter.providers import Clients
from ipyrouter.providers.base import Call
from ipyrouter.providers.local import INSTALL
from ipyrouter.types import TIERS, Candidate, Message, Request, TierName


@dataclass(frozen=True, slots=True)
class Step:
    """One candidate of a tier with the complete call it would get."""

    tier: TierName
    candidate: Candidate
    call: Call
    deadlines: Deadlines


@dataclass(frozen=True, slots=True)
class Plan:
    """The steps that can be taken now, those whose answers may be in the cache, and what the user should know.

    ``notes`` are told once a session, ``standing`` with every answer of these steps. ``key_notes`` names, a line
    each, the chain's candidates that have no key.
    """

    tier: TierName
    steps: tuple[Step, ...]
    cacheable: tuple[Step, ...]
    notes: tuple[str, ...] = ()
    standing: tuple[str, ...] = ()
    key_notes: tuple[str, ...] = ()


def plan(config: Config, clients: Clients, request: Request, tier: TierName) -> Plan:
    """Return the plan for a tier; its steps are empty where no candidate can be called.

    A model that is named is asked, and counted, under the tier whose chain holds it: the one that is named too, else
    the cheapest. Where no chain holds it, see :func:`by_price`.

    Raises UsageError for a model that is not known.
    """
    if request.model is not None:
        named = config.candidate(request.model)
        holding = _holding(config, named)
        if holding and request.tier not in holding:
            tier = holding[0]
        steps = _steps(config, request, tier, (named,))
        day = config.retired_on(named)
        retired = day is not None and day <= today()
        told = f"{named} was retired on {day}; you named it, so it is asked."
        return Plan(tier, steps if clients.ready(named) else (), steps, (told,) if retired else ())
    chain, notes = without_retired(config, config.tiers[tier])
    ready = tuple(candidate for candidate in chain if clients.ready(candidate))
    key_notes = tuple(
        f"{candidate} skipped: {_lack(config, candidate)}." for candidate in chain if candidate not in ready
    )
    standing: tuple[str, ...] = ()
    if ready:
        first = chain.index(ready[0])
        notes = (*notes, *key_notes[:first])
    elif config.chains_are_ours and clients.ready(LOCAL_MODEL) and not _any_ready(config, clients):
        ready, standing = (LOCAL_MODEL,), (NO_KEY,)
    cacheable = tuple(dict.fromkeys((*chain, *ready)))
    return Plan(
        tier,
        _steps(config, request, tier, ready),
        _steps(config, request, tier, cacheable),
        notes,
        standing,
        key_notes,
    )


def by_price(config: Config, pricing: Pricing, request: Request, found: Plan) -> Plan:
    """Return the plan of a named model that no chain holds under the tier whose cost is nearest to the model's.

    That is the tier whose first priced model has, by ratio, the nearest price for output tokens; the cheapest one for
    a model that is free. A tier that was named too stays, and so does the classifier's where a price is not known.
    Limits stay those of the tier that the plan was made for.
    """
    if request.model is None or request.tier is not None:
        return found
    named = config.candidate(request.model)
    rate = pricing.rates(named).get("output")
    if _holding(config, named) or rate is None:
        return found
    rates = {
        name: next(filter(None, (pricing.rates(candidate).get("output") for candidate in tier.chain)), None)
        for name, tier in config.tiers.items()
    }
    ratios = {name: max(rate / other, other / rate) if rate else other for name, other in rates.items() if other}
    tier = min(ratios, key=lambda name: ratios[name], default=found.tier)
    return replace(
        found,
        tier=tier,
        steps=tuple(replace(step, tier=tier) for step in found.steps),
        cacheable=tuple(replace(step, tier=tier) for step in found.cacheable),
    )


def nearest_plan(config: Config, clients: Clients, request: Request, tier: TierName) -> Plan:
    """Return the plan for the tier, or for the nearest one that can be called: stronger ones first.

    Raises NoModelError, which names what to set, if none can.
    """
    wanted = plan(config, clients, request, tier)
    if wanted.steps:
        return wanted
    if request.model is None:
        rank = TIERS.index(tier)
        for other in (*TIERS[rank + 1 :], *reversed(TIERS[:rank])):
            found = plan(config, clients, request, other)
            if found.steps:
                why = "; ".join(_lacks(config, config.tiers[tier].chain))
                note = f"No model of the tier {tier} can be called ({why}); {other} answers instead."
                return replace(found, cacheable=(*wanted.cacheable, *found.cacheable), standing=(*found.standing, note))
    raise no_model(config, request, tier)


def no_model(config: Config, request: Request, tier: TierName) -> NoModelError:
    """Return the error that names what is missing."""
    chain = (config.candidate(request.model),) if request.model else config.tiers[tier].chain
    if any(config.providers[candidate.provider].embedded for candidate in chain):
        return NoModelError("The local model is not installed.", f"Run: {INSTALL}")
    owners = [config.providers[candidate.provider] for candidate in chain]
    variables = list(dict.fromkeys(p.key for p in owners if p.key and not p.has_key()))
    lacks = [_lack(config, chain[0])] if request.model else _lacks(config, chain)
    message = f"No model can be called: {'; '.join(lacks)}."
    if not variables:
        return NoModelError(message, f"Put another model into tiers.{tier}.chain, or name one with -m.")
    # Not with %env, which prints the key and saves it with the notebook.
    which = f"{variables[0]}" if len(variables) == 1 else f"one of them, such as {variables[0]},"
    remedy = (
        f"Set {which} in the environment that starts Jupyter, or here: import os, getpass;"
        f' os.environ["{variables[0]}"] = getpass.getpass()'
    )
    if request.model is None and config.chains_are_ours:
        remedy += (
            f". Or install the free local model: {INSTALL}, or add a provider to your config file"
            " (`ipyrouter doctor` names it)."
        )
    return NoModelError(message, remedy)


def _holding(config: Config, candidate: Candidate) -> list[TierName]:
    """Return the tiers whose chain holds a candidate, cheapest first."""
    return [name for name in TIERS if candidate in config.tiers[name].chain]


def _lack(config: Config, candidate: Candidate) -> str:
    """Return what a candidate that cannot be called lacks."""
    provider = config.providers[candidate.provider]
    return "xllamacpp is not installed" if provider.embedded else f"{provider.key} is not set"


def _lacks(config: Config, chain: tuple[Candidate, ...]) -> list[str]:
    """Return why none of the candidates can be called: retired ones, missing keys, the local model."""
    lacks = [f"{candidate} {retirement}" for candidate in chain if (retirement := retirement_of(config, candidate))]
    owners = [config.providers[candidate.provider] for candidate in chain if not retirement_of(config, candidate)]
    variables = list(dict.fromkeys(owner.key for owner in owners if owner.key and not owner.has_key()))
    if variables:
        lacks.append(f"{' and '.join(variables)} {'is' if len(variables) == 1 else 'are'} not set")
    return lacks + ["xllamacpp is not installed"] * any(owner.embedded for owner in owners)


def today() -> dt.date:
    """Return the day in UTC."""
    return dt.datetime.now(dt.UTC).date()


def _any_ready(config: Config, clients: Clients) -> bool:
    return any(clients.ready(candidate) for tier in config.tiers.values() for candidate in tier.chain)


def without_retired(config: Config, tier: Tier) -> tuple[tuple[Candidate, ...], tuple[str, ...]]:
    """Return a tier's candidates whose API still answers, and a line on each that is skipped."""
    kept, notes = [], []
    for candidate in tier.chain:
        if retirement := retirement_of(config, candidate):
            notes.append(f"{candidate} {retirement}.")
        else:
            kept.append(candidate)
    return tuple(kept), tuple(notes)


def retirement_of(config: Config, candidate: Candidate) -> str:
    """Return in words when a candidate was retired, and its successor; empty while its service serves it."""
    day = config.retired_on(candidate)
    if day is None or day > today():
        return ""
    successor = config.successor(candidate)
    return f"was retired on {day} and is skipped" + (f"; its successor is {successor}" if successor else "")


def _steps(config: Config, request: Request, tier: TierName, candidates: tuple[Candidate, ...]) -> tuple[Step, ...]:
    settings = config.tiers[tier]
    steps = []
    for candidate in candidates:
        provider = config.providers[candidate.provider]
        deadlines = settings.deadlines
        if provider.embedded:  # this machine computes: being slow is no sign of a fault
            deadlines = replace(deadlines, first_byte=deadlines.total, idle=deadlines.total)
        elif not provider.stream:  # the first byte comes with the last
            deadlines = replace(deadlines, first_byte=deadlines.total)
        call = Call(
            provider=candidate.provider,
            sdk=provider.sdk,
            base_url=provider.address(),
            model=candidate.model,
            system=request.system,
            messages=(*request.history, Message("user", request.prompt)),
            max_output_tokens=request.max_output_tokens or settings.max_output_tokens,
            temperature=request.temperature,
        )
        steps.append(Step(tier, candidate, call, deadlines))
    return tuple(steps)
