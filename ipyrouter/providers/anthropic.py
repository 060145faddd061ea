"""Anthropic's API, and every server that speaks it, through the anthropic SDK."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import anthropic

from ipyrouter.config import Deadlines, Provider
from ipyrouter.providers.base import Call, Fault
from ipyrouter.providers.stream import Collector, run
from ipyrouter.providers.transport import PLACEHOLDER, Transport, Watch
from ipyrouter.types import Completion, Finish, Usage

if TYPE_CHECKING:
    from anthropic.types import Message as Reply

_FINISH: dict[str, Finish] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "refusal": "refusal",
    "tool_use": "tool_calls",
}


class AnthropicClient:
    """Sends calls through the anthropic SDK."""

    def __init__(
        self,
        transport: Transport,
        base_url: str | None,
        secret: Callable[[], str],
        *,
        query: dict[str, str],
        loopback: bool,
    ) -> None:
        self._transport = transport
        self._secret = secret
        self._sdk = anthropic.Anthropic(
            api_key=PLACEHOLDER,
            base_url=base_url,
            default_query=query,
            max_retries=0,
            http_client=transport.client(loopback=loopback),
        )

    def complete(
        self, provider: Provider, call: Call, deadlines: Deadlines, on_text: Callable[[str], None]
    ) -> Completion:
        """Return the completion; hand over text as it arrives. Raises Fault."""
        return run(
            lambda watch, collector: self._send(provider, call, watch, collector),
            Collector(call, on_text),
            sdk=anthropic,
            transport=self._transport,
            secret=self._secret,
            provider=provider,
            deadlines=deadlines,
        )

    def _send(self, provider: Provider, call: Call, watch: Watch, collector: Collector) -> None:
        body: dict[str, Any] = {
            "model": call.model,
            "messages": [{"role": m.role, "content": m.text} for m in call.messages],
            "max_tokens": call.max_output_tokens,
        }
        if call.system:
            body["system"] = call.system
        if call.temperature is not None:  # the SDK names it no more, but older models and other servers take it
            body["extra_body"] = {"temperature": call.temperature}
        create = cast(Callable[..., Any], self._sdk.messages.create)
        if provider.stream:
            events = create(**body, stream=True, timeout=watch.timeout())
            with events:
                for event in events:
                    _take_event(event, collector)
        else:
            _take_whole(create(**body, timeout=watch.timeout()), collector)


def _take_event(event: Any, collector: Collector) -> None:
    if event.type == "message_start":
        collector.accepted = True
        collector.model = event.message.model or collector.model
        if event.message.usage is not None:
            collector.usage = _usage(event.message.usage)
    elif event.type == "content_block_start":
        collector.add(getattr(event.content_block, "text", None))
    elif event.type == "content_block_delta":
        collector.add(getattr(event.delta, "text", None))
    elif event.type == "message_delta":
        if event.usage is not None:
            collector.usage = _merged(collector.usage or Usage(estimated=True), event.usage)
        if event.delta.stop_reason:
            collector.finish = _FINISH.get(event.delta.stop_reason, "stop")


def _take_whole(reply: Reply, collector: Collector) -> None:
    if not isinstance(reply, anthropic.BaseModel):
        raise Fault("malformed", "an HTML page or plain text instead of an answer")
    if reply.usage is not None:
        collector.usage = _usage(reply.usage)
    collector.model = reply.model or collector.model
    collector.accepted = bool(reply.content) or reply.usage is not None
    for block in reply.content or []:
        collector.add(getattr(block, "text", None))
    if reply.stop_reason:
        collector.finish = _FINISH.get(reply.stop_reason, "stop")


def _usage(usage: Any) -> Usage:
    """Read Anthropic's usage: input_tokens leaves the cached ones out."""
    cached, written = usage.cache_read_input_tokens or 0, usage.cache_creation_input_tokens or 0
    return Usage(
        input_tokens=(usage.input_tokens or 0) + cached + written,
        output_tokens=usage.output_tokens or 0,
        cached_input_tokens=cached,
        cache_write_tokens=written,
    )


def _merged(start: Usage, delta: Any) -> Usage:
    """Take the final counts over those of the stream's start; the delta's figures are cumulative."""
    return replace(start, output_tokens=delta.output_tokens or 0)
