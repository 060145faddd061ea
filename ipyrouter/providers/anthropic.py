"""Anthropic's API, and every server that speaks it, through the anthropic SDK."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, ClassVar, cast

import anthropic
import httpx2

from ipyrouter.config import Provider
from ipyrouter.config.catalogue import model_of
from ipyrouter.pricing import media, tokens
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
from ipyrouter.providers.batches import CLOCKS, JobStatus, Result, Search
from ipyrouter.providers.effort import thinking_tokens
from ipyrouter.providers.network import Watch
from ipyrouter.providers.stream import Collector, bill_of_litellm, count_of
from ipyrouter.providers.structured import structured
from ipyrouter.providers.transport import Transport
from ipyrouter.providers.wire import Event, InBandError, bounds, read
from ipyrouter.providers.words import read_words
from ipyrouter.types import ImagePart, Message, PdfPart, Prompt, Usage

_LEAST_BUDGET = 1024  # tokens: what the API takes at least
_MARK = {"type": "ephemeral"}  # for five minutes, from each reading on
_SYSTEM = -1  # the system prompt's place before the turns


NO_SPANS: Any = {"traces": False, "propagation": False}
"""What keeps the SDK from spans that nobody asked for: ours are in routing."""


class AnthropicBackend(Backend):
    """Sends calls through the anthropic SDK."""

    limit_names = ("max_tokens",)
    paths: ClassVar[tuple[str, ...]] = ("/v1/messages", "/messages", "/v1")
    most_in_batch: ClassVar[tuple[int, int]] = (100_000, 256_000_000)

    def __init__(self, target: Target, transport: Transport) -> None:
        super().__init__(target, transport)
        self._sdk: Any = self.client()

    def client(self) -> Any:
        """Return the SDK's client for the target."""
        return anthropic.Anthropic(
            api_key=PLACEHOLDER,
            base_url=self.target.base_url,
            default_query=dict(self.target.query),
            max_retries=0,
            open_telemetry=NO_SPANS,
            http_client=self.transport.client(self.target.address),
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
        system = "" if fold else call.system or ""
        marks = _marks(call, system, turns) if call.conversation and "prompt_caching" not in changes else set()
        contents = [_content(turn.content) for turn in turns]
        messages = [
            {"role": turn.role, "content": _marked(content) if number in marks else content}
            for number, (turn, content) in enumerate(zip(turns, contents, strict=True))
        ]
        body: dict[str, Any] = {
            "model": call.model,
            "messages": messages,
            "max_tokens": lowered(call, changes, notes),
        }
        if fold:
            notes.append(system_note(call))
        elif system:
            body["system"] = _marked(system) if _SYSTEM in marks else system
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
            collector.allow(answer.http_response.headers)
            bill_of_litellm(answer.http_response.headers, collector)
            for event in collector.before_done(self.events(answer.http_response, watch, collector)):
                _take(event, collector)

    def events(self, response: httpx2.Response, watch: Watch, collector: Collector) -> Iterator[Event]:
        """Yield the JSON values of a response as they arrive."""
        return read(response, watch.address, bounds(collector.call.max_output_tokens))

    def submit(self, name: str, requests: Sequence[tuple[str, dict[str, Any]]], watch: Watch) -> str:  # noqa: ARG002
        """Submit a job to the batch API and return its id. Raises whatever the SDK raises."""
        lines: list[Any] = []
        for key, body in requests:
            params = {name: value for name, value in body.items() if name != "extra_body"} | body.get("extra_body", {})
            lines.append({"custom_id": key, "params": params})
        return str(self._sdk.messages.batches.create(requests=lines, timeout=watch.timeout()).id)

    def find(self, name: str, keys: Collection[str], since: float, watch: Watch) -> Search:  # noqa: ARG002
        """Look for a job by the ids of its requests, which only one that has ended tells: this API keeps no names.

        Raises whatever the SDK raises.
        """
        undecided = False
        for batch in self._sdk.messages.batches.list(limit=100, timeout=watch.timeout()):
            if batch.created_at.timestamp() < since - CLOCKS:
                break
            counts = batch.request_counts
            count = counts.processing + counts.succeeded + counts.errored + counts.canceled + counts.expired
            if count != len(keys):
                continue
            if batch.processing_status != "ended":
                undecided = True
            elif {result.custom_id for result in self.results(batch.id, watch)} == set(keys):
                return Search(str(batch.id))
        return Search(undecided=undecided)

    def poll(self, job: str, watch: Watch) -> JobStatus:
        """Return how far a job is. Raises whatever the SDK raises."""
        batch = self._sdk.messages.batches.retrieve(job, timeout=watch.timeout())
        return JobStatus("ended" if batch.processing_status == "ended" else "running")

    def results(self, job: str, watch: Watch) -> Iterator[Result]:
        """Yield the results of a job that has ended. Raises whatever the SDK raises."""
        for line in self._sdk.messages.batches.results(job, timeout=watch.timeout()):
            value = line.to_dict(mode="json")
            result: Any = value["result"]
            kind = result.get("type")
            if kind == "succeeded":
                yield Result(line.custom_id, result["message"])
            else:
                error = result.get("error") or {}
                words = {"type": f"batch_{kind}", "message": f"the request was {kind} before it was answered"}
                yield Result(line.custom_id, error=error.get("error") or words)

    def take(self, event: Event, collector: Collector) -> None:
        """Hand a whole answer to the collector. Raises InBandError."""
        _take(event, collector)


def _marks(call: Call, system: str, turns: tuple[Message, ...]) -> set[int]:
    """Return after which turns of a conversation the server is to put what it has read into its cache.

    It takes four marks: after the system prompt with what that says of a schema, after the first turn, which mostly has
    the attachments, where the turn before this one ended, so that it is found again, and at the end. What is shorter
    than the model caches is not marked.
    """
    least, read = model_of(call.model).cache_tokens, tokens.estimate(system)
    marks = {_SYSTEM} if read >= least else set()
    for number, turn in enumerate(turns):
        read += tokens.estimate(turn.text) + media.estimate((turn,), call.model)
        if read >= least and number in (0, len(turns) - 3, len(turns) - 1):
            marks.add(number)
    return marks


def _marked(content: str | list[dict[str, Any]]) -> str | list[dict[str, Any]]:
    """Return content with a mark at its end; there is none on nothing."""
    if isinstance(content, str):
        return [{"type": "text", "text": content, "cache_control": _MARK}] if content.strip() else content
    return [*content[:-1], {**content[-1], "cache_control": _MARK}]


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
    if (event.whole or not kind) and "content" not in piece and read_words(piece).message:
        raise InBandError(piece)
    if event.whole:
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
        kind = str(block.get("type"))
        if kind not in ("text", "thinking") and not kind.endswith("_delta"):
            collector.skip(kind)


def _usage(counts: Mapping[str, Any]) -> Usage:
    """Read Anthropic's usage: input_tokens leaves the cached ones out."""
    cached = count_of(counts, "cache_read_input_tokens")
    stored = count_of(counts, "cache_creation_input_tokens")
    return Usage(
        input_tokens=count_of(counts, "input_tokens") + cached + stored,
        output_tokens=count_of(counts, "output_tokens"),
        cached_input_tokens=cached,
        cache_write_tokens=stored,
        cache_write_1h_tokens=count_of(counts.get("cache_creation"), "ephemeral_1h_input_tokens"),
        reasoning_tokens=count_of(counts.get("output_tokens_details"), "thinking_tokens"),
    )
