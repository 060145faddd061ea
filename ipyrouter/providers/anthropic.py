"""Anthropic's API, and every server that speaks it, through the anthropic SDK."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

import anthropic
import httpx2

from ipyrouter.config import Provider
from ipyrouter.config.catalogue import model_of
from ipyrouter.providers.base import (
    PLACEHOLDER,
    Backend,
    Call,
    Changes,
    Target,
    base64_of,
    effort_of,
    lowered,
    system_first,
    system_note,
    temperature_note,
)
from ipyrouter.providers.effort import thinking_tokens
from ipyrouter.providers.network import Watch
from ipyrouter.providers.stream import Collector, bill_of_litellm, count_of
from ipyrouter.providers.structured import structured
from ipyrouter.providers.transport import Transport
from ipyrouter.providers.wire import Event, InBandError, bounds, read
from ipyrouter.providers.words import read_words
from ipyrouter.types import ImagePart, PdfPart, Prompt, Usage

_LEAST_BUDGET = 1024  # tokens: what the API takes at least


class AnthropicBackend(Backend):
    """Sends calls through the anthropic SDK."""

    limit_names = ("max_tokens",)
    paths = ("/v1/messages", "/messages", "/v1")

    def __init__(self, target: Target, transport: Transport) -> None:
        super().__init__(target, transport)
        self._sdk = anthropic.Anthropic(
            api_key=PLACEHOLDER,
            base_url=target.base_url,
            default_query=dict(target.query),
            max_retries=0,
            http_client=transport.client(target.address),
        )

    def response_of(self, error: Exception) -> httpx2.Response | None:
        """Return the response behind an error of the SDK's, None where there is none."""
        return error.response if isinstance(error, anthropic.APIStatusError) else None

    def body(self, provider: Provider, call: Call, changes: Changes, notes: list[str]) -> dict[str, Any]:
        """Return what to send, without what the server refuses; note what is left out."""
        form = structured(provider, call, changes, recursive=False, json_mode=False)
        call = form.call
        fold = bool(call.system) and "system" in changes
        turns = system_first(call) if fold else call.messages
        messages = [{"role": turn.role, "content": _content(turn.content)} for turn in turns]
        body: dict[str, Any] = {
            "model": call.model,
            "messages": messages,
            "max_tokens": lowered(call, changes, notes),
        }
        if fold:
            notes.append(system_note(call))
        elif call.system:
            body["system"] = call.system
        if call.temperature is not None:
            # The version of the API that the SDK asks for knows no temperature; other makers' servers do.
            if "temperature" in changes or provider.official or "claude" in call.model.lower():
                notes.append(temperature_note(call))
            else:
                body["extra_body"] = {"temperature": call.temperature}
        output = _think(call, changes, body, notes)
        if form.means == "json_schema":
            output["format"] = {"type": "json_schema", "schema": form.schema}
        if output:
            body["output_config"] = output
        if provider.stream and "stream" not in changes:
            body["stream"] = True
        return body

    def send(self, body: dict[str, Any], watch: Watch, collector: Collector) -> None:
        """Send the body and hand the answer to the collector. Raises whatever the SDK raises."""
        # The SDK passes over events without a name, and over a server that answers a stream's request with JSON.
        create = cast(Callable[..., Any], self._sdk.messages.with_streaming_response.create)
        with create(**body, timeout=watch.timeout()) as answer:
            bill_of_litellm(answer.http_response.headers, collector)
            for event in read(answer.http_response, watch.address, bounds(collector.call.max_output_tokens)):
                _take(event, collector)


def _think(call: Call, changes: Changes, body: dict[str, Any], notes: list[str]) -> dict[str, Any]:
    """Put into the body whether the model is to think, and return the output_config that says how much."""
    if call.effort is None:
        return {}
    model = model_of(call.model)
    effort = effort_of(call, changes, notes)
    thinking: dict[str, Any] = {"type": "adaptive"}
    if call.effort == "none":
        thinking = {"type": model.off or "disabled"}
    elif model.thinking == "budget":
        budget, limit = thinking_tokens(call.effort), body["max_tokens"]
        budget = budget if budget < limit else limit // 2
        if budget < _LEAST_BUDGET:
            notes.append(f"{call.model} was not asked to think: {limit:,} output tokens leave no room for it.")
        thinking = {"type": "enabled", "budget_tokens": budget} if budget >= _LEAST_BUDGET else {"type": model.off}
    if call.show_thinking and thinking["type"] in ("adaptive", "enabled"):
        thinking["display"] = "summarized"
    if "thinking" not in changes:
        body["thinking"] = thinking
    return {} if effort in (None, "none") or model.thinking == "budget" else {"effort": effort}


def _content(content: Prompt) -> str | list[dict[str, Any]]:
    """Return a turn's content: a string, or blocks where it holds more than text."""
    if not content.needs:
        return content.text
    blocks: list[dict[str, Any]] = []
    for part in content.parts:
        if part.text.strip():  # the API refuses an empty block
            blocks.append({"type": "text", "text": part.text})
        if isinstance(part, ImagePart):
            source = {"type": "base64", "media_type": part.media_type, "data": base64_of(part.data)}
            blocks.append({"type": "image", "source": source})
        elif isinstance(part, PdfPart):
            source = {"type": "base64", "media_type": "application/pdf", "data": base64_of(part.data)}
            blocks.append({"type": "document", "source": source, "title": part.name})
    return blocks


def _take(event: Event, collector: Collector) -> None:
    """Take an event of a stream, or a whole message."""
    piece = event.value
    if not isinstance(piece, dict) or piece.get("error") or "error" in (event.name, piece.get("type")):
        raise InBandError(piece)
    kind = piece.get("type") or event.name
    if event.whole:
        if "content" not in piece and read_words(piece).message:
            raise InBandError(piece)
        collector.accepted = bool(piece.get("content")) or isinstance(piece.get("usage"), Mapping)
        _take_message(piece, collector)
        collector.ended = True
    elif kind == "message_start":
        collector.accepted = True
        _take_message(_begun(piece.get("message"), collector), collector)
    elif kind in ("content_block_start", "content_block_delta"):
        _take_block(piece.get("content_block") or piece.get("delta"), collector)
    elif kind == "message_delta":
        collector.count(piece.get("usage"), _usage)
        delta = piece.get("delta")
        collector.end((delta.get("stop_reason") if isinstance(delta, dict) else None) or "")
    elif kind == "message_stop":
        collector.ended = True


def _begun(message: Any, collector: Collector) -> Any:
    """Return a message whose answer is still to be written, without its count of output tokens: that is none yet."""
    usage = message.get("usage") if isinstance(message, dict) else None
    if not isinstance(usage, Mapping):
        return message
    written = count_of(usage, "output_tokens")
    collector.at_least = written if 0 < written <= collector.call.max_output_tokens else 0
    return {**message, "usage": {name: count for name, count in usage.items() if name != "output_tokens"}}


def _take_message(message: Any, collector: Collector) -> None:
    if not isinstance(message, dict):
        return
    collector.name(message.get("model"))
    collector.count(message.get("usage"), _usage)
    usage = message.get("usage")
    if isinstance(usage, Mapping):
        tier = usage.get("service_tier")
        name = "processing" if tier == "batch" else "service_tier"
        collector.serve(**{name: tier}, speed=usage.get("speed"))
    content = message.get("content")
    if isinstance(content, list):
        for block in content:
            _take_block(block, collector)
    else:
        collector.add(content)
    collector.end(message.get("stop_reason") or "")


def _take_block(block: Any, collector: Collector) -> None:
    """Take a content block or a piece of one: text, thinking, or what is neither."""
    if isinstance(block, dict):
        collector.think(block.get("thinking"))
        collector.add(block.get("text"))


def _usage(counts: Mapping[str, Any]) -> Usage:
    """Read Anthropic's usage: input_tokens leaves the cached ones out."""
    cached = count_of(counts, "cache_read_input_tokens")
    stored = count_of(counts, "cache_creation_input_tokens")
    return Usage(
        input_tokens=count_of(counts, "input_tokens") + cached + stored,
        output_tokens=count_of(counts, "output_tokens"),
        cached_input_tokens=cached,
        cache_write_tokens=stored,
        reasoning_tokens=count_of(counts.get("output_tokens_details"), "thinking_tokens"),
    )
