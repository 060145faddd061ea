"""The columns of a result: what a schema's fields are, and what an answer puts into them."""

from __future__ import annotations

import enum
import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ipyrouter.schemas import Schema

ANSWER = "answer"
"""The column of an answer without fields."""

_KINDS = {"integer": int, "number": float, "boolean": bool, "string": str}


def dtypes_of(schema: Schema | None) -> dict[str, Any]:
    """Return the result's columns by name, each with its type (batch.tables.Dtypes), None where it may be anything."""
    if schema is None:
        return {ANSWER: str}
    root = schema.json
    properties = _resolve(root, root).get("properties", {})
    if schema.wraps or not properties:
        return {ANSWER: _kind(next(iter(properties.values()), {}), root)}
    return {name: _kind(node, root) for name, node in properties.items()}


def values_of(data: Any, names: Mapping[str, Any]) -> dict[str, Any]:
    """Return what an answer's data put into the columns."""
    if list(names) == [ANSWER] and not (isinstance(data, Mapping) and ANSWER in data):
        return {ANSWER: _plain(data)}
    kind: Any = type(data)
    fields = data if isinstance(data, Mapping) else _adapter(kind).dump_python(data, by_alias=True)
    return {name: _plain(fields.get(name)) for name in names}


@functools.lru_cache(16)
def _adapter(kind: Any) -> Any:
    import pydantic

    return pydantic.TypeAdapter(kind)


def _plain(value: Any) -> Any:
    return value.value if isinstance(value, enum.Enum) else value


def _resolve(node: Any, root: Any) -> Any:
    reference = node.get("$ref", "") if isinstance(node, dict) else ""
    if not reference.startswith("#/"):
        return node
    for part in reference[2:].split("/"):
        root = root.get(part, {}) if isinstance(root, dict) else {}
    return root


def _kind(node: Any, root: Any) -> Any:
    node = _resolve(node, root)
    if not isinstance(node, dict):
        return None
    if isinstance(options := node.get("anyOf"), list):
        kinds = [option for option in options if option != {"type": "null"}]
        return _kind(kinds[0], root) if len(kinds) == 1 else None
    values = node.get("enum", [node["const"]] if "const" in node else [])
    if values:
        return tuple(values) if all(isinstance(value, str) for value in values) else None
    kind = node.get("type")
    return _KINDS.get(kind) if isinstance(kind, str) else None
