"""JSON Schema: the subset that providers enforce, and the check of a value against a schema that a user wrote.

Facts from OpenAI's and Anthropic's pages on structured outputs, as of 2026-11. Only a request with a schema imports
jsonschema, which every Jupyter has.
"""

from __future__ import annotations

import functools
import itertools
import json
import textwrap
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from typing import Any
from urllib.parse import unquote

Json = dict[str, Any]

_TYPES = frozenset({"object", "array", "string", "number", "integer", "boolean", "null"})
_FORMATS = frozenset({"date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid"})
_RULES = (
    "format", "pattern", "minLength", "maxLength", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum",
    "multipleOf", "minItems", "maxItems", "uniqueItems", "minProperties", "maxProperties",
)  # fmt: skip
"""What the subset has no keyword for, and a description can say."""
_ANNOTATIONS = frozenset(
    {"title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly", "$comment", "$schema", "$id",
     "$defs", "definitions", "discriminator", "contentMediaType", "contentEncoding"}
)  # fmt: skip
_SUBSET = _ANNOTATIONS.union(
    ("type", "properties", "required", "additionalProperties", "items", "enum", "const", "anyOf", "oneOf"), _RULES
)
_DEFINITIONS = ("$defs", "definitions")
_REFERENCES = frozenset({"$ref", "$dynamicRef"})
_IN_PLACE = frozenset({"allOf", "anyOf", "oneOf", "not", "if", "then", "else", "dependentSchemas"})
"""The keywords whose schemas check the same value, not a part of it: JSON Schema 2020-12, Core, 10.2."""
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


def unusable(schema: Json) -> str | None:
    """Return in words the first thing in a schema that is not valid, None where all is."""
    from jsonschema import SchemaError

    try:
        return _fault(schema)
    except SchemaError as error:
        return f"{_short(error.message)} at {error.json_path}"
    except RecursionError:
        return "parts that are nested too deeply"


def _fault(schema: Json) -> str | None:
    from jsonschema import Draft202012Validator

    valid = set()

    def check(part: Any) -> None:
        if id(part) not in valid:
            Draft202012Validator.check_schema(part, format_checker=Draft202012Validator.FORMAT_CHECKER)
            valid.add(id(part))

    check(schema)
    steps = {}
    for node, targets, _ in _parts(schema):
        for name, target in targets.items():
            if target is None:
                return f"the reference {node[name]!r}, which leads nowhere"
            check(target)  # it may stand where no keyword asks for a schema
        if node.get("enum") == []:
            return "an enum without values, which nothing fits"
        for pattern in (*([node["pattern"]] if "pattern" in node else ()), *node.get("patternProperties", ())):
            if _finder(pattern) is None:
                return f"the pattern {pattern!r}, which has look-around, a back-reference or a fault"
        steps[id(node)] = [id(other) for other in (*targets.values(), *_same_value(node))]
    return "a part that contains itself without an end" if _has_circle(steps) else None


def _parts(root: Json) -> Iterator[tuple[Json, dict[str, Any], list[Any]]]:
    """Yield a schema and all schemas in it or referred to.

    Each with what its references lead to, None for nowhere, and with the schemas in it.
    """
    from jsonschema_specifications import REGISTRY
    from referencing.exceptions import Unresolvable
    from referencing.jsonschema import DRAFT202012

    whole = DRAFT202012.create_resource(root)
    waiting = [(whole, REGISTRY.resolver_with_root(whole))]
    seen = set()
    while waiting:
        part, resolver = waiting.pop()
        node = part.contents
        if not isinstance(node, dict) or id(node) in seen:
            continue
        seen.add(id(node))
        targets: dict[str, Any] = {}
        for name in node.keys() & _REFERENCES:
            try:
                found = resolver.lookup(node[name])
            except (Unresolvable, ValueError):  # ValueError: what is no address at all
                targets[name] = None
            else:
                targets[name] = found.contents
                waiting.append((DRAFT202012.create_resource(found.contents), found.resolver))
        inner = list(part.subresources())
        yield node, targets, [one.contents for one in inner]
        waiting.extend((one, resolver.in_subresource(one)) for one in inner)


def _same_value(node: Json) -> Iterator[Any]:
    """Yield the schemas in a schema that check the value itself, not a part of it."""
    for name in _IN_PLACE & node.keys():
        inner = node[name]
        yield from inner if isinstance(inner, list) else inner.values() if name == "dependentSchemas" else (inner,)


def _has_circle(steps: dict[int, list[int]]) -> bool:
    try:
        TopologicalSorter(steps).prepare()
    except CycleError:
        return True
    return False


def referent(root: Json, ref: Any) -> Any:
    """Return the schema that a JSON Pointer into the root means, None where there is none."""
    if not isinstance(ref, str) or not ref.startswith("#"):
        return None
    place: Any = root
    for step in filter(None, ref[1:].split("/")):
        name = unquote(step).replace("~1", "/").replace("~0", "~")
        if isinstance(place, list) and name.isdecimal() and int(name) < len(place):
            place = place[int(name)]
        else:
            place = place.get(name) if isinstance(place, dict) else None
    return place


def root_of(schema: Json) -> Json:
    """Return the schema that a schema with a reference at its root means, or the schema itself."""
    node: Any = schema
    seen: list[Any] = []  # unusable() refuses circles, but an inner "$id" gives "#" another meaning
    while isinstance(node, dict) and "$ref" in node and node["$ref"] not in seen:
        seen.append(node["$ref"])
        node = referent(schema, node["$ref"])
    return node if isinstance(node, dict) else schema


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
            name: _strict(part, schema) for table in _DEFINITIONS for name, part in schema.get(table, {}).items()
        }
    except (_Unsayable, RecursionError):
        return None
    whole = {**subset, **({"$defs": definitions} if definitions else {})}
    if whole.get("type") != "object" or (not recursive and _is_recursive(schema)):
        return None
    # A reference may lead into what the subset says in other words.
    return None if any(None in targets.values() for _, targets, _ in _parts(whole)) else whole


def _strict(node: Any, root: Json) -> Json:
    if not isinstance(node, dict):
        raise _Unsayable
    if "$ref" in node:
        if referent(root, node["$ref"]) is None or node["$ref"] == "#":
            raise _Unsayable
        return {"$ref": node["$ref"].replace("#/definitions/", "#/$defs/")}
    if len(node.get("allOf", ())) == 1:
        return _strict({**{name: part for name, part in node.items() if name != "allOf"}, **node["allOf"][0]}, root)
    if node.keys() - _SUBSET:
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
    """Tell whether a schema leads back to itself."""
    steps = {id(node): [id(other) for other in (*targets.values(), *inner)] for node, targets, inner in _parts(root)}
    return _has_circle(steps)


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


def problems(value: Any, node: Any, root: Json) -> list[str]:
    """Return in words what is wrong with a value, a few of all problems; an empty list where it fits the schema.

    The words do not quote the value: the log keeps them also where it keeps no content.

    Args:
        value: What JSON can hold.
        node: A schema inside the root, or the root.
        root: Where references lead.
    """
    from jsonschema_specifications import REGISTRY

    # With this registry, a reference to an address is never fetched.
    validator = _validator()(root, registry=REGISTRY).evolve(schema=node)
    return list(map(_words_of, itertools.islice(validator.iter_errors(value), _MOST_PROBLEMS)))


@functools.cache
def _validator() -> Any:
    """Return jsonschema's validator, with patterns that take no longer than their text is long.

    Python's own may take hours for 40 characters, and no Ctrl-C ends them.
    """
    from jsonschema import Draft202012Validator
    from jsonschema.validators import extend

    keywords = {
        "pattern": _check_pattern,
        "patternProperties": _check_pattern_properties,
        "additionalProperties": _check_additional_properties,
    }
    return extend(Draft202012Validator, keywords)  # type: ignore[no-untyped-call]


def _check_pattern(_: Any, pattern: str, value: Any, __: Any) -> Iterator[Any]:
    from jsonschema import ValidationError

    if isinstance(value, str) and not _holds(pattern, value):
        yield ValidationError("")  # _words_of has the words


def _check_pattern_properties(validator: Any, parts: Json, value: Any, _: Any) -> Iterator[Any]:
    names = value if isinstance(value, dict) else ()
    for pattern, name in itertools.product(parts, names):
        if _holds(pattern, name):
            yield from validator.descend(value[name], parts[pattern], path=name, schema_path=pattern)


def _check_additional_properties(validator: Any, part: Any, value: Any, schema: Json) -> Iterator[Any]:
    from jsonschema import ValidationError

    names = value if isinstance(value, dict) else ()
    known, patterns = schema.get("properties", {}), schema.get("patternProperties", {})
    others = [name for name in names if name not in known and not any(_holds(one, name) for one in patterns)]
    if isinstance(part, dict):
        for name in others:
            yield from validator.descend(value[name], part, path=name)
    elif others and not part:
        yield ValidationError("")


def _holds(pattern: str, text: str) -> bool:
    finder = _finder(pattern)
    return finder is not None and bool(finder.isinstance_python(text))


@functools.lru_cache(maxsize=1000)
def _finder(pattern: str) -> Any:
    """Return what tells whether a string holds a pattern, in time that grows with its length; None if it cannot be."""
    from pydantic_core import SchemaError, SchemaValidator, core_schema

    try:
        return SchemaValidator(core_schema.str_schema(pattern=pattern))
    except SchemaError:
        return None


def _words_of(error: Any) -> str:
    place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in error.absolute_path).lstrip(".")
    if error.validator == "required":
        words = error.message  # it names the schema's property alone
    elif error.validator is None:
        words = "holds what the schema forbids"
    else:
        words = f'does not fit "{error.validator}": {_short(json.dumps(error.validator_value, ensure_ascii=False))}'
    return " ".join(f"{place or 'the answer'}: {words}".split())  # a property's name may hold line breaks


def _short(words: str) -> str:
    return textwrap.shorten(words, 160, placeholder=" …")
