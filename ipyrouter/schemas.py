"""What an answer's data must look like: from a class or a dict to a JSON Schema, and from an answer to an object.

Only a request with a schema imports this, and pydantic with it, which the SDKs bring along.
"""

from __future__ import annotations

import json
import re
import sys
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from ipyrouter.errors import UsageError
from ipyrouter.text import json_schema
from ipyrouter.text.blocks import find_json

_WRAPPER = "value"  # the property that holds data which is not an object: providers enforce objects only
_MOST_PROBLEMS = 3
_FORMS = (
    'Give a pydantic model, a dataclass, a TypedDict, a dict such as {"label": ["a", "b"], "score": float},'
    " or a JSON Schema."
)


class Mismatch(ValueError):  # noqa: N818  what is wrong with an answer, in words
    """An answer is not what the schema asks for."""


@dataclass(frozen=True, slots=True)
class Schema:
    """What an answer's data must look like.

    Attributes:
        name: What the provider is told as the schema's name: letters, digits, - and _.
        text: The JSON Schema, whose root is an object, as JSON in the order in which the fields are to be written.
        wraps: Whether that object only holds the data, in a property.
        kind: The class or the dict that the schema is made from.
    """

    name: str
    text: str
    wraps: bool
    kind: Any = field(repr=False, compare=False)
    _make: Callable[[Any], Any] = field(repr=False, compare=False)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle what the schema is made from."""
        return schema_of, (self.kind,)

    @property
    def json(self) -> json_schema.Json:
        """The JSON Schema."""
        schema: json_schema.Json = json.loads(self.text)
        return schema

    def read(self, text: str) -> Any:
        """Return the data of an answer, as an object of the user's own class where the schema came from one.

        Args:
            text: The answer.

        Raises:
            Mismatch: With what is wrong, in words for the model and the user.
            UsageError: The user's own code, a validator of the class, failed.
        """
        try:
            value = find_json(text)
        except ValueError as error:
            raise Mismatch(f"it holds {error}") from None
        if self.wraps and isinstance(value, dict) and value.keys() == {_WRAPPER}:
            value = value[_WRAPPER]
        try:
            return self._make(value)
        except Mismatch:
            root = self.json
            node = root["properties"][_WRAPPER] if self.wraps else root
            sparse = json_schema.without_nulls(value, node, root)
            if sparse == value:
                raise
        except RecursionError:
            raise Mismatch("it is nested too deeply") from None
        return self._make(sparse)


def schema_of(kind: Any) -> Schema:
    """Return the schema of a class or of a dict.

    Args:
        kind: A pydantic model, a dataclass, a TypedDict or another type that pydantic knows; a dict of fields with
            their types, a list of the values that a field may have standing for them; or a JSON Schema.

    Raises:
        UsageError: It is none of these, or holds what cannot be checked.
    """
    if isinstance(kind, Mapping):
        if not kind:
            raise UsageError("The schema is empty.", _FORMS)
        if json_schema.is_schema(kind):
            return _of_json_schema(kind)
        return _of_type(_fields(kind, "Answer", ""), "Answer", kind)
    if not (isinstance(kind, type) or hasattr(kind, "__origin__") or hasattr(kind, "__args__")):
        what = f"an instance of {type(kind).__name__}" if hasattr(type(kind), "__annotations__") else repr(kind)[:60]
        raise UsageError(f"schema must be a class or a dict, not {what}.", _FORMS)
    return _of_type(_portable(kind), getattr(kind, "__name__", "answer"), kind)


def _portable(kind: Any) -> Any:
    """Return a type with typing_extensions' TypedDicts in place of typing's, which pydantic takes from Python 3.12."""
    if sys.version_info >= (3, 12):
        return kind
    if typing.is_typeddict(kind):
        hints = {}
        for key, hint in typing.get_type_hints(kind, include_extras=True).items():
            mark = typing.get_origin(hint)
            has_mark = mark in (typing.Required, typing.NotRequired)  # which __required_keys__ misses in strings
            plain = _portable(typing.get_args(hint)[0] if has_mark else hint)
            required = mark is typing.Required if has_mark else key in kind.__required_keys__
            hints[key] = plain if required else typing.NotRequired[plain]
        return _typed_dict(kind.__name__, hints, getattr(kind, "__pydantic_config__", {}))
    if isinstance(kind, types.UnionType) or typing.get_origin(kind) is typing.Union:
        return typing.Union[tuple(map(_portable, typing.get_args(kind)))]  # noqa: UP007  it has no fixed length
    if isinstance(kind, types.GenericAlias):
        origin: Any = typing.get_origin(kind)
        return origin[tuple(map(_portable, typing.get_args(kind)))]
    return kind


def _of_type(hint: Any, name: str, kind: Any) -> Schema:
    import pydantic

    try:
        adapter: pydantic.TypeAdapter[Any] = pydantic.TypeAdapter(hint)
        schema = adapter.json_schema()
    except (pydantic.errors.PydanticUserError, NameError, TypeError) as error:
        words = str(error).partition("\n")[0].removesuffix(".")
        raise UsageError(f"{name} cannot be a schema: {words}.", _FORMS) from None

    def make(value: Any) -> Any:
        try:
            return adapter.validate_json(json.dumps(value))
        except pydantic.ValidationError as error:
            raise Mismatch(_words_of(error)) from None
        except RecursionError:
            raise
        except Exception as error:
            words = f"{type(error).__name__}: {error}"
            raise UsageError(f"The schema {name} itself failed on an answer: {words}.", "Correct its code.") from error

    return _schema(name, schema, kind, make)


def _words_of(error: Any) -> str:
    faults = error.errors(include_url=False, include_context=False)
    lines = []
    for problem in faults[:_MOST_PROBLEMS]:
        place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in problem["loc"]).lstrip(".")
        # Without the value, which is the answer's content: the log keeps these words.
        words = f"{place or 'the answer'}: {problem['msg'][:1].lower()}{problem['msg'][1:]}"
        lines.append(" ".join(words.split()))  # a field's alias may hold line breaks
    if len(faults) > _MOST_PROBLEMS:
        lines.append(f"and {len(faults) - _MOST_PROBLEMS} more")
    return "; ".join(lines)


def _of_json_schema(kind: Mapping[str, Any]) -> Schema:
    try:
        schema: json_schema.Json = json.loads(json.dumps(dict(kind), allow_nan=False))
    except (TypeError, ValueError) as error:
        raise UsageError(f"The JSON Schema is not valid JSON: {error}.", _FORMS) from None
    except RecursionError:
        raise UsageError("The JSON Schema is nested too deeply.", _FORMS) from None
    if (what := json_schema.unusable(schema)) is not None:
        raise UsageError(f"The JSON Schema holds {what}.", "Correct it, or write the schema as a pydantic model.")

    def make(value: Any) -> Any:
        if wrong := json_schema.problems(value, schema, schema):
            raise Mismatch("; ".join(wrong))
        return value

    return _schema(str(schema.get("title", "answer")), schema, kind, make)


def _schema(name: str, schema: json_schema.Json, kind: Any, make: Callable[[Any], Any]) -> Schema:
    wraps = json_schema.root_of(schema).get("type") != "object"
    if wraps:
        definitions: json_schema.Json = {key: schema[key] for key in ("$defs", "definitions") if key in schema}
        inner = {key: value for key, value in schema.items() if key not in definitions}
        schema = {
            "type": "object",
            "properties": {_WRAPPER: inner},
            "required": [_WRAPPER],
            "additionalProperties": False,
            **definitions,
        }
    plain = re.sub(r"[^A-Za-z0-9_-]+", "_", name).strip("_")[:64] or "answer"
    return Schema(plain, json.dumps(schema, ensure_ascii=False), wraps, kind, make)


def _fields(fields: Mapping[Any, Any], name: str, place: str) -> Any:
    """Return the TypedDict of fields with their types, which takes no others."""
    hints: dict[str, Any] = {}
    for key, value in fields.items():
        if not isinstance(key, str) or not key:
            raise UsageError(f"The schema's field {key!r} is not a string.", _FORMS)
        hints[key] = _hint(value, f"{place}.{key}" if place else key)
    return _typed_dict(name, hints, {"extra": "forbid"})


def _typed_dict(name: str, hints: dict[str, Any], config: Any) -> Any:
    import typing_extensions  # pydantic brings it, and needs it below Python 3.12

    make: Any = typing_extensions.TypedDict
    kind = make(name, hints)
    kind.__pydantic_config__ = config
    return kind


def _hint(value: Any, place: str) -> Any:
    if isinstance(value, Mapping):
        return _fields(value, place.rpartition(".")[2].title(), place)
    if isinstance(value, list | tuple):
        if len(value) == 1 and (isinstance(value[0], Mapping) or _is_type(value[0])):
            return list[_hint(value[0], place)]  # type: ignore[misc]  # it is not known before
        if value and all(isinstance(one, str | int | bool) or one is None for one in value):
            return Literal[tuple(value)]
        raise UsageError(
            f"The schema's field {place!r} has {value!r}.",
            'Write the values that it may have, ["a", "b"], or one type in brackets, [str], for a list.',
        )
    if _is_type(value):
        return value
    raise UsageError(
        f"The schema's field {place!r} has {value!r} for a type.", 'Write str, int, float, bool, [str] or ["a", "b"].'
    )


def _is_type(value: Any) -> bool:
    return isinstance(value, type) or hasattr(value, "__origin__") or hasattr(value, "__args__")
