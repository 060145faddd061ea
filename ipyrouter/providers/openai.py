"""OpenAI's API and every server that speaks it, through the openai SDK."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

import openai

from ipyrouter.config import Deadlines, Provider
from ipyrouter.providers.base import Call, Fault
from ipyrouter.providers.stream import Collector, run
from ipyrouter.providers.transport import PLACEHOLDER, Transport, Watch
from ipyrouter.types import Completion, Finish, Usage

if TYPE_CHECKING:
    from openai.types.chat import ChatCompletion, ChatCompletionChunk

_FINISH: dict[str, Finish] = {
    "stop": "stop",
    "length": "length",
    "content_filter": "refusal",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
}


class OpenAIClient:
    """Sends calls through the openai SDK."""

    def __init__(
        self, transport: Transport, base_url: str | None, secret: Callable[[], str], *, loopback: bool
    ) -> None:
        self._transport = transport
        self._secret = secret
        self._sdk = openai.OpenAI(
            api_key=PLACEHOLDER,
            base_url=base_url,
            max_retries=0,
            http_client=transport.client(loopback=loopback),
        )
        _ = self._sdk.chat.completions  # the SDK imports it now, and not in the time of the first call

    def complete(
        self, provider: Provider, call: Call, deadlines: Deadlines, on_text: Callable[[str], None]
    ) -> Completion:
        """Return the completion; hand over text as it arrives. Raises Fault."""
        return run(
            lambda watch, collector: self._send(provider, call, watch, collector),
            Collector(call, on_text),
            sdk=openai,
            transport=self._transport,
            secret=self._secret,
            provider=provider,
            deadlines=deadlines,
        )

    def _send(self, provider: Provider, call: Call, watch: Watch, collector: Collector) -> None:
        system = [{"role": "system", "content": call.system}] if call.system else []
        body: dict[str, Any] = {
            "model": call.model,
            "messages": [*system, *({"role": m.role, "content": m.text} for m in call.messages)],
            # OpenAI's newer models refuse max_tokens; most compatible servers know only that.
            "max_completion_tokens" if provider.official else "max_tokens": call.max_output_tokens,
        }
        if call.temperature is not None:
            body["temperature"] = call.temperature
        create = cast(Callable[..., Any], self._sdk.chat.completions.create)
        if provider.stream:
            chunks = create(**body, stream=True, stream_options={"include_usage": True}, timeout=watch.timeout())
            with chunks:
                for chunk in chunks:
                    _take_chunk(chunk, collector)
        else:
            _take_whole(create(**body, timeout=watch.timeout()), collector)


def _take_chunk(chunk: ChatCompletionChunk, collector: Collector) -> None:
    if chunk.usage is not None:
        collector.usage = _usage(chunk.usage)
    collector.model = chunk.model or collector.model
    for choice in (chunk.choices or [])[:1]:
        collector.accepted = True
        if choice.delta is not None:
            collector.add(choice.delta.content)
            if choice.delta.refusal:
                collector.add(choice.delta.refusal)
                collector.finish = "refusal"
        if choice.finish_reason and collector.finish != "refusal":
            collector.finish = _FINISH.get(choice.finish_reason, "stop")


def _take_whole(response: ChatCompletion, collector: Collector) -> None:
    if not isinstance(response, openai.BaseModel):
        raise Fault("malformed", "an HTML page or plain text instead of an answer")
    if response.usage is not None:
        collector.usage = _usage(response.usage)
    collector.model = response.model or collector.model
    collector.accepted = bool(response.choices) or response.usage is not None
    for choice in (response.choices or [])[:1]:
        message = choice.message
        collector.finish = _FINISH.get(choice.finish_reason or "", "stop") if choice.finish_reason else None
        if message is not None:
            collector.add(message.content)
            if message.refusal:
                collector.add(message.refusal)
                collector.finish = "refusal"


def _usage(usage: Any) -> Usage:
    """Read OpenAI's usage: prompt_tokens includes the cached ones."""
    prompt, completion = usage.prompt_tokens_details, usage.completion_tokens_details
    return Usage(
        input_tokens=usage.prompt_tokens or 0,
        output_tokens=usage.completion_tokens or 0,
        cached_input_tokens=getattr(prompt, "cached_tokens", None) or 0,
        cache_write_tokens=getattr(prompt, "cache_write_tokens", None) or 0,
        reasoning_tokens=getattr(completion, "reasoning_tokens", None) or 0,
    )
