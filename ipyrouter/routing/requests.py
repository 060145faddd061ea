"""What a user asks, checked once."""

from __future__ import annotations

import reprlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast, get_args

from ipyrouter import config as configuration
from ipyrouter.errors import UsageError, did_you_mean
from ipyrouter.text import redact
from ipyrouter.text import tags as tagging
from ipyrouter.types import EFFORTS, CacheMode, Effort, Message, Part, Prompt, Request, Role, TextPart

if TYPE_CHECKING:
    from ipyrouter.schemas import Schema

_CACHE_MODES = get_args(CacheMode)
_OPTIONS = tuple(name for name in Request.__slots__ if name != "prompt")
# What the SDKs call it.
_SPELLINGS = {
    "max_tokens": "max_output_tokens",
    "max_completion_tokens": "max_output_tokens",
    "messages": "history",
    "yes": "allow_large",  # as the magic's option
    "instructions": "system",
    "system_prompt": "system",
    "reasoning_effort": "effort",
    "thinking": "show_thinking",
    "response_format": "schema",
    "output_schema": "schema",
}


def check_names(options: Iterable[str], function: str, own: Iterable[str] = ()) -> None:
    """Check the names of a request's options.

    Args:
        options: The names that were given.
        function: The public function that they were given to.
        own: The names of its other arguments, for the remedy.

    Raises:
        UsageError: There is no option of a name.
    """
    if (unknown := next((name for name in options if name not in _OPTIONS), None)) is None:
        return
    meant = _SPELLINGS.get(unknown)
    hint = f"Did you mean {meant!r}?" if meant else did_you_mean(unknown, (*own, *_OPTIONS))
    raise UsageError(f"{function}() has no argument {unknown!r}.", hint)


def make_request(
    prompt: str | Prompt,
    *,
    history: Sequence[Message | Mapping[str, str]] = (),
    tier: str | None = None,
    previous_tier: str | None = None,
    cache: str = "use",
    effort: Effort | None = None,
    schema: Any = None,
    tags: Sequence[str] = (),
    **rest: Any,
) -> Request:
    """Check what was asked for.

    Raises:
        UsageError: With the value that cannot be, and the remedy.
    """
    check_names(rest, "route")
    if not isinstance(prompt, Prompt):
        check_string(prompt)
        prompt = Prompt.of(prompt)
    if not prompt.text.strip():
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
    named, previous = (configuration.as_tier(name) if name is not None else None for name in (tier, previous_tier))
    if effort is not None and effort not in EFFORTS:
        raise UsageError(f"Unknown effort {redact.excerpt(effort)}.", did_you_mean(str(effort), EFFORTS))
    return Request(
        prompt,
        history=_turns(history),
        tier=named,
        previous_tier=previous,
        cache=cast(CacheMode, cache),
        effort=effort,
        schema=_schema(schema),
        tags=_tags(tags),
        **rest,
    )


def _tags(tags: object) -> tuple[str, ...]:
    several = tags if isinstance(tags, list | tuple | set | frozenset) else (tags,)  # one may stand alone
    for tag in several:
        if not tagging.is_tag(tag):
            raise UsageError(f"{redact.excerpt(tag)} is not a valid tag.", f"Use {tagging.RULE}.")
    if len(several) > tagging.MOST:
        raise UsageError(f"{len(several)} tags are too many.", f"Give a request at most {tagging.MOST}.")
    return tuple(cast(Iterable[str], several))


def _schema(kind: Any) -> Schema | None:
    if kind is None:
        return None
    from ipyrouter.schemas import Schema, schema_of  # pydantic, for those alone who ask for it

    return kind if isinstance(kind, Schema) else schema_of(kind)


def check_string(prompt: object) -> None:
    """Raise UsageError for a prompt that is not a string."""
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
        return turn
    if role not in get_args(Role) or not isinstance(text, str):
        raise UsageError(
            f"history holds {reprlib.repr(turn)}, which is not a turn of a conversation.",
            'Write Message("user", "…") or {"role": "user", "content": "…"}; the roles are user and assistant,'
            " and a system prompt goes into system=.",
        )
    return Message(cast(Role, role), text)


def encodable(request: Request) -> Request:
    """Return the request with lone surrogates, halves of characters that no UTF-8 text can hold, replaced by �."""

    def whole(text: str) -> str:
        return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")

    def clean_part(part: Part) -> Part:
        if isinstance(part, TextPart):
            return TextPart(whole(part.text))
        return replace(part, text=whole(part.text), words=whole(part.words))

    def clean(prompt: Prompt) -> Prompt:
        return Prompt(tuple(map(clean_part, prompt.parts)), prompt.notes)

    return replace(
        request,
        prompt=clean(request.prompt),
        system=whole(request.system) if request.system else None,
        history=tuple(Message(message.role, clean(message.content)) for message in request.history),
    )
