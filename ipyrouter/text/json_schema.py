"""JSON Schema: the subset that providers enforce, and the check of a value against a schema that a user wrote.

Facts from OpenAI's and Anthropic's pages on structured outputs, as of 2026-11.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from ipyrouter.text.redact import excerpt

Json = dict[str, Any]

_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "number": (int, float),
    "integer": (int,),
    "boolean": (bool,),
    "null": (type(None),),
}
_FORMATS = frozenset({"date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid"})
_RULES = (
    "format", "pattern", "minLength", "maxLength", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum",
    "multipleOf", "minItems", "maxItems", "uniqueItems",
)  # fmt: skip
_NUMBER, _COUNT = (int, float), (int,)
_SHAPES: dict[str, tuple[type, ...]] = {
    "type": (str, list), "enum": (list,), "const": (object,), "properties": (dict,), "required": (list,),
    "additionalProperties": (dict, bool), "items": (dict, bool), "prefixItems": (list,), "anyOf": (list,),
    "oneOf": (list,), "allOf": (list,), "not": (dict, bool), "$ref": (str,), "format": (str,), "pattern": (str,),
    "minLength": _COUNT, "maxLength": _COUNT, "minItems": _COUNT, "maxItems": _COUNT, "uniqueItems": (bool,),
    "minProperties": _COUNT, "maxProperties": _COUNT, "minimum": _NUMBER, "maximum": _NUMBER,
    "exclusiveMinimum": _NUMBER, "exclusiveMaximum": _NUMBER, "multipleOf": _NUMBER,
}  # fmt: skip
"""The keywords that are checked, and what stands behind each."""
_ANNOTATIONS = frozenset(
    {"title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly", "$comment", "$schema", "$id",
     "$defs", "definitions", "discriminator", "contentMediaType", "contentEncoding"}
)  # fmt: skip
_LISTS = ("anyOf", "oneOf", "allOf", "prefixItems")
_TABLES = ("properties", "$defs", "definitions")
_MOST_PROBLEMS = 3  # that are named; a model that corrects them corrects the others as well


def is_schema(value: Mapping[Any, Any]) -> bool:
    """Tell whether a dict is a JSON Schema, and not fields with their types."""
    kind, properties = value.get("type"), value.get("properties")
    kinds = kind if isinstance(kind, list) and kind else [kind]
    return (
        all(isinstance(name, str) and name in _TYPES for name in kinds)
        or any(name in value for name in ("$schema", "$ref", "$defs"))
        or (isinstance(properties, dict) and all(isinstance(part, dict | bool) for part in properties.values()))
        or any(isinstance(value.get(name), list) and _all_dicts(value[name]) for name in ("anyOf", "oneOf", "allOf"))
        or (isinstance(value.get("enum"), list) and value.keys() <= {"enum", *_ANNOTATIONS})
    )


def _all_dicts(values: list[Any]) -> bool:
    return all(isinstance(value, dict) for value in values)


def unusable(schema: Any) -> str | None:
    """Return in words the first thing in a schema that is not valid or cannot be checked, None where all can be."""
    for node in _nodes(schema):
        for name, part in node.items():
            if name not in _SHAPES and name not in _ANNOTATIONS:
                return f"the keyword {name!r}, which cannot be checked here"
            if name in _SHAPES and (not isinstance(part, _SHAPES[name]) or (name in _LISTS and not part)):
                return f"{name!r} with {excerpt(part)}"
        kinds = node.get("type", [])
        if wrong := [kind for kind in ([kinds] if isinstance(kinds, str) else kinds) if kind not in _TYPES]:
            return f"the type {wrong[0]!r}"
        if "$ref" in node and _target(schema, node) is None:
            return f"the reference {node['$ref']!r}, which leads nowhere"
        try:
            re.compile(node.get("pattern", ""))
        except re.error as error:
            return f"the pattern {node['pattern']!r}, which is not valid ({error})"
    return None


def _nodes(schema: Any) -> Iterator[Json]:
    """Yield a schema and all schemas inside it."""
    if not isinstance(schema, dict):
        return
    yield schema
    for name in _TABLES:
        table = schema.get(name)
        for part in table.values() if isinstance(table, dict) else ():
            yield from _nodes(part)
    for name in _LISTS:
        variants = schema.get(name)
        for part in variants if isinstance(variants, list) else ():
            yield from _nodes(part)
    for name in ("items", "additionalProperties", "not"):
        yield from _nodes(schema.get(name))


def referent(root: Json, ref: Any) -> Any:
    """Return the schema that a reference within the root means, None where there is none."""
    if not isinstance(ref, str) or not ref.startswith("#"):
        return None
    place: Any = root
    for step in filter(None, ref[1:].split("/")):
        name = step.replace("~1", "/").replace("~0", "~")
        place = place.get(name) if isinstance(place, dict) else None
    return place


def root_of(schema: Json) -> Json:
    """Return the schema that a schema with a reference at its root means, or the schema itself."""
    return _target(schema, schema) or schema


def _target(root: Json, node: Json) -> Json | None:
    """Return the schema that a node means: itself, or what its references lead to; None where they lead nowhere."""
    seen: list[Any] = []
    while isinstance(node, dict) and "$ref" in node:
        if node["$ref"] in seen:
            return None
        seen.append(node["$ref"])
        node = referent(root, node["$ref"])
    return node if isinstance(node, dict) else None


# --- what providers enforce ---


class _Unsayable(Exception):  # noqa: N818  an answer, not an error
    """The subset has no words for a schema."""


def strict(schema: Json, *, recursive: bool) -> Json | None:
    """Return the schema in the subset that providers enforce: closed objects, every property required.

    What the subset cannot say of a value (bounds, patterns) goes into its description; an optional property may be
    null. Both are checked when the answer is there.

    Args:
        schema: A schema whose root is an object.
        recursive: Whether the provider takes schemas that contain themselves.

    Returns:
        The schema for the provider, None where the subset cannot say it: open objects, tuples, any value.
    """
    try:
        subset = _strict(root_of(schema), schema)
        definitions = {
            name: _strict(part, schema) for table in ("$defs", "definitions")
            for name, part in schema.get(table, {}).items()
        }  # fmt: skip
    except (_Unsayable, RecursionError):
        return None
    if subset.get("type") != "object" or (not recursive and _is_recursive(schema)):
        return None
    return {**subset, **({"$defs": definitions} if definitions else {})}


def _strict(node: Any, root: Json) -> Json:
    if not isinstance(node, dict):
        raise _Unsayable
    if "$ref" in node:
        if referent(root, node["$ref"]) is None or node["$ref"] == "#":
            raise _Unsayable
        return {"$ref": node["$ref"].replace("#/definitions/", "#/$defs/")}
    if len(node.get("allOf", ())) == 1:
        return _strict({**{name: part for name, part in node.items() if name != "allOf"}, **node["allOf"][0]}, root)
    if any(name in node for name in ("allOf", "not", "prefixItems", "patternProperties")):
        raise _Unsayable
    description = {"description": words} if (words := _description(node)) else {}
    variants = node.get("anyOf") or node.get("oneOf")
    if variants:
        return {"anyOf": [_strict(variant, root) for variant in variants], **description}
    values = [node["const"]] if "const" in node else node.get("enum")
    if values is not None:
        return {"enum": list(values), **({"type": node["type"]} if "type" in node else {}), **description}
    if isinstance(node.get("type"), list):
        plain = {name: part for name, part in node.items() if name != "description"}
        return {"anyOf": [_strict({**plain, "type": one}, root) for one in node["type"]], **description}
    return {**_plain(node, root), **description}


def _plain(node: Json, root: Json) -> Json:
    """Return the subset's form of a schema of one type."""
    kind = node.get("type")
    if kind == "object":
        return _object(node, root)
    if kind == "array":
        return {"type": kind, "items": _strict(node.get("items"), root)}
    if kind not in _TYPES:
        raise _Unsayable
    return {"type": kind, **({"format": node["format"]} if node.get("format") in _FORMATS else {})}


def _object(node: Json, root: Json) -> Json:
    properties = node.get("properties") or {}
    # An object of named properties may be closed where the schema does not say; one of any properties may not.
    if node.get("additionalProperties", not properties) is not False:
        raise _Unsayable
    required = node.get("required", ())
    parts = {name: _strict(part, root) for name, part in properties.items()}
    return {
        "type": "object",
        "properties": {
            name: part if name in required or accepts_null(properties[name], root) else _nullable(part)
            for name, part in parts.items()
        },
        "required": list(properties),
        "additionalProperties": False,
    }


def _nullable(node: Json) -> Json:
    null = {"type": "null"}
    if "anyOf" in node:
        return {**node, "anyOf": [*node["anyOf"], null]}
    description = {"description": node["description"]} if "description" in node else {}
    return {"anyOf": [{name: part for name, part in node.items() if name != "description"}, null], **description}


def _description(node: Json) -> str:
    """Return the description, with what else the schema asks for that the subset has no words for."""
    rules = [
        f"{name}: {json.dumps(node[name], ensure_ascii=False)}"
        for name in _RULES
        if name in node and (name != "format" or node[name] not in _FORMATS)
    ]
    return " ".join(filter(None, (node.get("description", ""), f"({', '.join(rules)})" if rules else "")))


def _is_recursive(root: Json) -> bool:
    """Tell whether a definition leads back to itself."""

    def leads_to(node: Any, seen: frozenset[str]) -> bool:
        for inner in _nodes({name: part for name, part in node.items() if name not in ("$defs", "definitions")}):
            ref = inner.get("$ref")
            if ref is not None and (ref in seen or leads_to(referent(root, ref) or {}, seen | {ref})):
                return True
        return False

    return leads_to(root, frozenset())


# --- is a value what the schema asks for? ---


def without_nulls(value: Any, node: Any, root: Json) -> Any:
    """Return a value without the nulls that stand for optional properties which are not there."""
    if not isinstance(node, dict):
        return value
    if "$ref" in node:
        return without_nulls(value, referent(root, node["$ref"]), root)
    for name in ("anyOf", "oneOf", "allOf"):
        for variant in node.get(name) or ():
            value = without_nulls(value, variant, root)
    if isinstance(value, list):
        return [without_nulls(item, node.get("items"), root) for item in value]
    properties = node.get("properties")
    if not isinstance(value, dict) or not properties:
        return value
    required = node.get("required", ())
    return {
        name: without_nulls(part, properties.get(name), root)
        for name, part in value.items()
        if not (
            part is None and name in properties and name not in required and not accepts_null(properties[name], root)
        )
    }


def accepts_null(node: Any, root: Json) -> bool:
    """Tell whether a schema takes null."""
    if not isinstance(node, dict):
        return node is not False
    return not problems(None, node, root)


def problems(value: Any, node: Any, root: Json, place: str = "") -> list[str]:
    """Return in words what is wrong with a value, a few of all problems; an empty list where it fits the schema.

    The words do not quote the value: the log keeps them also where it keeps no content.
    """
    if isinstance(node, bool):
        return [] if node else [f"{place or 'the answer'}: must not be there"]
    faults = [f"{place or 'the answer'}: {words}" for words in _faults(value, node, root)]
    if isinstance(value, dict) and not faults:
        faults += _in_object(value, node, root, place)
    if isinstance(value, list) and not faults:
        first = node.get("prefixItems", [])
        for number, item in enumerate(value):
            part = first[number] if number < len(first) else node.get("items", True)
            faults += problems(item, part, root, f"{place}[{number}]")
            if len(faults) >= _MOST_PROBLEMS:
                break
    if "$ref" in node:
        faults += problems(value, referent(root, node["$ref"]), root, place)
    for variant in node.get("allOf", ()):
        faults += problems(value, variant, root, place)
    return faults[:_MOST_PROBLEMS]


def _in_object(value: Json, node: Json, root: Json, place: str) -> Iterator[str]:
    properties, others = node.get("properties", {}), node.get("additionalProperties", True)
    for name in node.get("required", ()):
        if name not in value:
            yield f"{_below(place, name)}: is missing"
    for name, part in value.items():
        if name in properties:
            yield from problems(part, properties[name], root, _below(place, name))
        elif others is False:
            yield f"{_below(place, name)}: is not a field of the schema"
        else:
            yield from problems(part, others, root, _below(place, name))


def _below(place: str, name: str) -> str:
    return f"{place}.{name}" if place else name


def _faults(value: Any, node: Json, root: Json) -> Iterator[str]:
    """Yield what a value by itself does against a schema, without what it holds."""
    kinds = node.get("type")
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if kinds and not any(_is(value, kind) for kind in kinds):
        yield f"must be {' or '.join(kinds)}"
        return
    if "enum" in node and not any(_same(value, one) for one in node["enum"]):
        yield f"must be one of {json.dumps(node['enum'], ensure_ascii=False)}"
    if "const" in node and not _same(value, node["const"]):
        yield f"must be {json.dumps(node['const'], ensure_ascii=False)}"
    yield from _out_of_bounds(value, node)
    for name, most in (("anyOf", len), ("oneOf", lambda _: 1)):
        variants: list[Any] = node.get(name, [])
        matches = sum(not problems(value, variant, root) for variant in variants)
        if variants and not 1 <= matches <= most(variants):
            yield f"fits {matches or 'none'} of its {len(variants)} forms"
    if "not" in node and not problems(value, node["not"], root):
        yield "must not be what it is"


def _out_of_bounds(value: Any, node: Json) -> Iterator[str]:
    if isinstance(value, str):
        sizes = ("minLength", "maxLength", "characters")
    elif isinstance(value, list):
        sizes = ("minItems", "maxItems", "items")
    else:
        sizes = ("minProperties", "maxProperties", "properties")
    if isinstance(value, str | list | dict):
        least, most, what = sizes
        if len(value) < node.get(least, 0):
            yield f"has {len(value)} {what}, and needs at least {node[least]}"
        if len(value) > node.get(most, len(value)):
            yield f"has {len(value)} {what}, and may have at most {node[most]}"
    if isinstance(value, list) and node.get("uniqueItems") and _repeats(value):
        yield "holds the same item twice"
    if isinstance(value, str) and "pattern" in node and not re.search(node["pattern"], value):
        yield f"must match {node['pattern']!r}"
    if isinstance(value, int | float) and not isinstance(value, bool):
        rules = (
            ("minimum", value >= node.get("minimum", value), "at least"),
            ("maximum", value <= node.get("maximum", value), "at most"),
            ("exclusiveMinimum", value > node.get("exclusiveMinimum", value - 1), "above"),
            ("exclusiveMaximum", value < node.get("exclusiveMaximum", value + 1), "below"),
            ("multipleOf", "multipleOf" not in node or value % node["multipleOf"] == 0, "a multiple of"),
        )
        yield from (f"must be {words} {node[name]}" for name, fits, words in rules if not fits)


def _is(value: Any, kind: str) -> bool:
    if isinstance(value, bool):
        return kind == "boolean"
    if kind == "integer" and isinstance(value, float):
        return value.is_integer()
    return isinstance(value, _TYPES.get(kind, ()))


def _same(value: Any, other: Any) -> bool:
    return bool(value == other) and isinstance(value, bool) == isinstance(other, bool)


def _repeats(items: list[Any]) -> bool:
    texts = [json.dumps(item, sort_keys=True) for item in items]
    return len(set(texts)) < len(texts)
