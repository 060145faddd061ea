"""Checks what goes out against what OpenAI and Anthropic publish: their SDKs' types, and OpenAI's API description.

The description is no part of this repository. Where IPYROUTER_OPENAI_SPEC names its file (JSON), requests are held to
it as well.
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jsonschema import Draft202012Validator

SPEC = "IPYROUTER_OPENAI_SPEC"


def faults_of(path: str, body: dict[str, Any]) -> list[str]:
    """Return what is wrong with a request, a line each; nothing for one of another protocol."""
    from jsonschema.exceptions import best_match  # late: beside JupyterLab's packages it takes seconds to import

    path = path.partition("?")[0]
    stream = body.get("stream") is True
    if path.endswith("/messages"):
        # Anthropic's own API takes no temperature any more; other makers' servers of its protocol do.
        body = {name: value for name, value in body.items() if name != "temperature"}
        checks = [_anthropic(stream)]
    elif path.endswith("/chat/completions"):
        checks = [_openai(stream), *filter(None, [_openai_spec()])]
    else:
        return []
    found = (best_match(check.iter_errors(body)) for check in checks)
    return [f"{path}: {fault.json_path}: {fault.message[:300]}" for fault in found if fault is not None]


@functools.cache
def _openai(stream: bool) -> Draft202012Validator:
    from openai.types.chat import completion_create_params as params

    return _of_type(params.CompletionCreateParamsStreaming if stream else params.CompletionCreateParamsNonStreaming)


@functools.cache
def _anthropic(stream: bool) -> Draft202012Validator:
    from anthropic.types import message_create_params as params

    return _of_type(params.MessageCreateParamsStreaming if stream else params.MessageCreateParamsNonStreaming)


@functools.cache
def _openai_spec() -> Draft202012Validator | None:
    if not (place := os.environ.get(SPEC)):
        return None
    from jsonschema import Draft202012Validator

    document = json.loads(Path(place).read_text("utf-8"))
    _walk(document, _nullable)
    return Draft202012Validator({"$ref": "#/components/schemas/CreateChatCompletionRequest", **document})


def _of_type(kind: Any) -> Draft202012Validator:
    """Return a validator of an SDK's type that takes no name which it does not hold."""
    from jsonschema import Draft202012Validator
    from pydantic import TypeAdapter

    schema = TypeAdapter(kind).json_schema()
    _walk(schema, _closed)
    return Draft202012Validator(schema)


def _closed(node: dict[str, Any]) -> None:
    if isinstance(node.get("properties"), dict):
        node.setdefault("additionalProperties", False)


def _nullable(node: dict[str, Any]) -> None:
    """Turn OpenAPI's word for null into JSON Schema's."""
    if node.pop("nullable", False) is True:
        kind = {name: node.pop(name) for name in list(node)}
        node["anyOf"] = [kind, {"type": "null"}]


def _walk(node: Any, change: Callable[[dict[str, Any]], None]) -> None:
    for inner in _inner(node):
        _walk(inner, change)
    if isinstance(node, dict):
        change(node)


def _inner(node: Any) -> Iterator[Any]:
    if isinstance(node, dict | list):
        yield from list(node.values()) if isinstance(node, dict) else node
