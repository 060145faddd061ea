"""From a request and a tier to the calls that may answer it, in order. No network, no SDK."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, replace

from ipyrouter.config import LOCAL_MODEL, Config, Deadlines, Tier
from ipyrouter.errors import NoModelError
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
    """The steps that can be taken now, those whose answers may be in the cache, and what a person should know."""

    tier: TierName
    steps: tuple[Step, ...]
    cacheable: tuple[Step, ...]
    notes: tuple[str, ...] = ()


def plan(config: Config, clients: Clients, request: Request, tier: TierName) -> Plan:
    """Return the plan for a tier; its steps are empty where no candidate can be called.

    Raises UsageError for a model that is not known.
    """
    if request.model is not None:
        chosen = (config.candidate(request.model),)
        steps = _steps(config, request, tier, chosen)
        day = config.retired_on(chosen[0].model)
        retired = day is not None and day <= today()
        told = f"{chosen[0]} was retired on {day}; you named it, so it is asked."
        return Plan(tier, steps if clients.ready(chosen[0]) else (), steps, (told,) if retired else ())
    chain, notes = without_retired(config, config.tiers[tier])
    ready = tuple(candidate for candidate in chain if clients.ready(candidate))
    if not ready and config.chains_are_ours and clients.ready(LOCAL_MODEL) and not _any_ready(config, clients):
        ready = (LOCAL_MODEL,)
    cacheable = tuple(dict.fromkeys((*chain, *ready)))
    return Plan(tier, _steps(config, request, tier, ready), _steps(config, request, tier, cacheable), notes)


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
                note = f"No model of the tier {tier} can be called; {other} answers instead."
                return replace(found, cacheable=(*wanted.cacheable, *found.cacheable), notes=(*found.notes, note))
    raise no_model(config, request, tier)


def no_model(config: Config, request: Request, tier: TierName) -> NoModelError:
    """Return the error that names what is missing."""
    chain = (config.candidate(request.model),) if request.model else config.tiers[tier].chain
    owners = [config.providers[candidate.provider] for candidate in chain]
    if any(provider.embedded for provider in owners):
        return NoModelError("The local model is not installed.", f"Run: {INSTALL}")
    variables = list(dict.fromkeys(p.key for p in owners if p.key and not p.has_key()))
    message = f"No model can be called: {' and '.join(variables)} {'is' if len(variables) == 1 else 'are'} not set."
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


def today() -> dt.date:
    """Return the day in UTC."""
    return dt.datetime.now(dt.UTC).date()


def _any_ready(config: Config, clients: Clients) -> bool:
    return any(clients.ready(candidate) for tier in config.tiers.values() for candidate in tier.chain)


def without_retired(config: Config, tier: Tier) -> tuple[tuple[Candidate, ...], tuple[str, ...]]:
    """Return a tier's candidates whose API still answers, and a line on each that is skipped."""
    kept, notes = [], []
    for candidate in tier.chain:
        day = config.retired_on(candidate.model)
        if day is None or day > today():
            kept.append(candidate)
            continue
        successor = config.successors.get(candidate.model)
        hint = f"; its successor is {successor}" if successor else ""
        notes.append(f"{candidate} was retired on {day} and is skipped{hint}.")
    return tuple(kept), tuple(notes)


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
