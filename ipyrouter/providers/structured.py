"""How a server is asked for JSON: by its own structured output where it has that, and else in words."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

from ipyrouter.config import Provider
from ipyrouter.config.catalogue import model_of
from ipyrouter.providers.base import Call, Changes
from ipyrouter.text.blocks import LIST

_IN_WORDS = (
    "Answer with JSON alone: no words before or after it, and no code fence. It must fit this JSON Schema, and hold"
    " every property that is required:\n"
)

_LISTS = f'If the answer is a list, put it into an object: {{"{LIST}": […]}}.'


@dataclass(frozen=True, slots=True)
class Structured:
    """What of the server's own means is used, the schema for it, and the call with what is said in words."""

    means: Literal["json_schema", "json_object", "none"]
    call: Call
    schema: dict[str, Any] | None = None


def structured(provider: Provider, call: Call, changes: Changes, *, recursive: bool, json_mode: bool) -> Structured:
    """Return how a call's JSON is asked for; one that asks for none stays as it is.

    A service whose catalogue entry names no means is not asked by them. A server of the user's own is: it leaves out
    what it does not know, or refuses it, which is remembered. In words it is said wherever a server may leave it out.

    Args:
        provider: Where the call goes.
        call: What is asked.
        changes: What the server has refused before.
        recursive: Whether the protocol's schemas may contain themselves.
        json_mode: Whether the protocol has a mode for JSON of any shape.
    """
    takes_json = json_mode and _takes(provider, call, changes, "json_object")
    if call.schema is None:
        # Without a schema words alone do: nothing is tried out.
        if not (call.json and takes_json and provider.supports and _names_json(call)):
            return Structured("none", call)
        return Structured("json_object", _with_words(call, _LISTS))
    from ipyrouter.text.json_schema import strict

    subset = None
    if _takes(provider, call, changes, "json_schema"):
        subset = strict(call.schema.json, recursive=recursive)
    if subset is not None and provider.official and provider.service == provider.name:
        return Structured("json_schema", call, subset)
    in_words = _with_words(call, _IN_WORDS + call.schema.text)
    if subset is not None:
        return Structured("json_schema", in_words, subset)
    return Structured("json_object" if takes_json else "none", in_words)


def _with_words(call: Call, words: str) -> Call:
    return replace(call, system="\n\n".join(filter(None, (call.system, words))))


def _takes(provider: Provider, call: Call, changes: Changes, means: Literal["json_schema", "json_object"]) -> bool:
    """Tell whether the server takes a means, as far as is known."""
    if means in changes:
        return False
    if own := model_of(call.model).structured:
        return own == means
    supports = {*provider.supports, *(["json_object"] if "json_schema" in provider.supports else [])}
    return means in supports or not supports


def _names_json(call: Call) -> bool:
    """Tell whether the word stands in the call: OpenAI refuses its JSON mode where it does not."""
    return any("json" in text.lower() for text in (call.system or "", *(message.text for message in call.messages)))
