"""Names: what a model's name means, and which tier."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ipyrouter.config.catalogue import maker_of
from ipyrouter.errors import UsageError, did_you_mean
from ipyrouter.text import redact
from ipyrouter.types import TIERS, Candidate, TierName

if TYPE_CHECKING:
    from ipyrouter.config.model import Provider

LOCAL_MODEL = Candidate("local", "smollm2")


def candidate_of(
    name: str, providers: Mapping[str, Provider], aliases: Mapping[str, str], known: list[Candidate]
) -> Candidate:
    """Return the candidate that "provider/model", an alias or a model's name means. Raises UsageError."""
    name = aliases.get(name, name)
    provider, slash, model = name.partition("/")
    if slash and provider in providers and model:
        server = providers[provider]
        if server.embedded and server.gguf is None and model != LOCAL_MODEL.model:
            raise UsageError(
                f"Unknown model {redact.excerpt(model)} of {provider}.", f"It has one: {provider}/{LOCAL_MODEL.model}."
            )
        # An alias of a maker's name holds at that maker; another server may serve a model of its own under it.
        return Candidate(provider, aliases.get(model, model) if maker_of(model) in (None, provider) else model)
    for candidate in known:
        if candidate.model == name:
            return candidate
    if name == LOCAL_MODEL.model:
        return LOCAL_MODEL
    if not slash and (maker := maker_of(name)) is not None:
        return Candidate(maker, name)
    if slash:
        raise UsageError(
            f"Unknown provider {redact.excerpt(provider)} in {redact.excerpt(name)}.", did_you_mean(provider, providers)
        )
    names = {candidate.model for candidate in known} | {str(LOCAL_MODEL)}
    raise UsageError(
        f"Unknown model {redact.excerpt(name)}.", f"{did_you_mean(name, names)} Or write 'provider/model'."
    )


def as_tier(name: str) -> TierName:
    """Return the tier of that name. Raises UsageError with the nearest one."""
    if name in TIERS:
        return name
    raise UsageError(f"Unknown tier {redact.excerpt(name)}.", did_you_mean(name, TIERS))
