"""OpenAI's API and every server that speaks it, through the openai SDK."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, ClassVar, cast
from urllib.parse import urlsplit

import httpx2
import openai

from ipyrouter.config import Provider
from ipyrouter.providers.base import (
    PLACEHOLDER,
    Backend,
    Call,
    Changes,
    Target,
    content_key,
    data_url,
    effort_of,
    lowered,
    system_first,
    system_note,
    temperature_note,
)
from ipyrouter.providers.batches import CLOCKS, JobStatus, Result, Search
from ipyrouter.providers.network import Watch
from ipyrouter.providers.stream import Collector, bill_of_litellm, count_of
from ipyrouter.providers.structured import Structured, structured
from ipyrouter.providers.transport import Transport
from ipyrouter.providers.wire import Event, InBandError, bounds, read
from ipyrouter.providers.words import read_words
from ipyrouter.types import ImagePart, PdfPart, Prompt, Usage

_NOT_TEXT = ("audio", "images", "tool_calls", "function_call")
"""What a message may hold beside its content that is not text; of OpenAI and OpenRouter."""

_OF_A_CHUNK = ("id", "object", "created", "model", "choices", "usage", "service_tier", "system_fingerprint")
"""What says nothing of where a chunk without choices has its answer."""


_JOB = "ipyrouter"
"""Under which name a job's metadata hold what it was submitted under."""


class OpenAIBackend(Backend):
    """Sends calls through the openai SDK."""

    limit_names = ("max_completion_tokens", "max_tokens")
    paths: ClassVar[tuple[str, ...]] = ("/chat/completions", "/completions")
    version = "/v1"
    has_flex: ClassVar[bool] = True
    most_in_batch: ClassVar[tuple[int, int]] = (50_000, 200_000_000)

    def __init__(self, target: Target, transport: Transport) -> None:
        super().__init__(target, transport)
        host = urlsplit(target.address).hostname or ""
        self._openrouter = host == "openrouter.ai" or host.endswith(".openrouter.ai")
        self._sdk = self.client()
        _ = self._sdk.chat.completions  # the SDK imports it now, and not in the time of the first call

    def client(self) -> openai.OpenAI:
        """Return the SDK's client for the target."""
        return openai.OpenAI(
            api_key=PLACEHOLDER,
            base_url=self.target.base_url,
            default_query=dict(self.target.query),
            max_retries=0,
            http_client=self.transport.client(self.target.address),
        )

    def response_of(self, error: Exception) -> httpx2.Response | None:
        """Return the response behind an error of the SDK's, None where there is none."""
        return error.response if isinstance(error, openai.APIStatusError) else None

    def body(self, provider: Provider, call: Call, changes: Changes, notes: list[str]) -> dict[str, Any]:
        """Return what to send, without what the server refuses; note what is left out."""
        form = structured(provider, call, changes, recursive=True, json_mode=True)
        call = form.call
        fold = bool(call.system) and "system" in changes
        turns = system_first(call) if fold else call.messages
        messages: list[dict[str, Any]] = [{"role": turn.role, "content": _content(turn.content)} for turn in turns]
        if fold:
            notes.append(system_note(call))
        elif call.system:
            messages.insert(0, {"role": "system", "content": call.system})
        # OpenAI's newer models refuse max_tokens; most compatible servers know only that.
        limit = changes.get("limit_name", provider.limit)
        body: dict[str, Any] = {"model": call.model, "messages": messages, str(limit): lowered(call, changes, notes)}
        if call.temperature is not None and "temperature" in changes:
            notes.append(temperature_note(call))
        elif call.temperature is not None:
            body["temperature"] = call.temperature
        if (effort := effort_of(call, changes, notes)) is not None:
            body["reasoning_effort"] = effort
        body |= _service(provider, call, changes)
        if form.means != "none":
            body["response_format"] = _response_format(form)
        if provider.stream and "stream" not in changes:
            body["stream"] = True
            if "stream_options" not in changes:
                body["stream_options"] = {"include_usage": True}
        return body

    def send(self, body: dict[str, Any], watch: Watch, collector: Collector) -> None:
        """Send the body and hand the answer to the collector. Raises whatever the SDK raises."""
        # The SDK parses less than servers send: it knows no list of parts, no error in a choice, no JSON for a stream.
        # Its create() takes a fifth of a call's CPU to convert a body that is JSON already.
        post = cast(Callable[..., httpx2.Response], self._sdk.post)
        options = {"timeout": watch.timeout(), "security": {"bearer_auth": True}}
        answer = post(
            "/chat/completions",
            cast_to=httpx2.Response,
            body=body,
            options=options,
            stream=True,
            stream_cls=openai.Stream,
        )
        with contextlib.closing(answer) as response:
            collector.allow(response.headers)
            bills = bill_of_litellm(response.headers, collector) or self._openrouter
            events = read(response, watch.address, bounds(collector.call.max_output_tokens))
            for event in collector.before_done(events):
                _take(event, collector, bills=bills)

    def submit(self, name: str, requests: Sequence[tuple[str, dict[str, Any]]], watch: Watch) -> str:
        """Submit a job to the batch API and return its id. Raises whatever the SDK raises."""
        lines = (
            json.dumps({"custom_id": key, "method": "POST", "url": "/v1/chat/completions", "body": body})
            for key, body in requests
        )
        data = "\n".join(lines).encode()
        timeout = watch.timeout()
        file = self._sdk.files.create(file=("ipyrouter.jsonl", data), purpose="batch", timeout=timeout)
        return self._sdk.batches.create(
            input_file_id=file.id,
            endpoint="/v1/chat/completions",
            completion_window="24h",
            metadata={_JOB: name},
            timeout=timeout,
        ).id

    def find(self, name: str, keys: Collection[str], since: float, watch: Watch) -> Search:  # noqa: ARG002
        """Look for a job by its metadata, newest first. Raises whatever the SDK raises."""
        for batch in self._sdk.batches.list(limit=100, timeout=watch.timeout()):
            if (batch.metadata or {}).get(_JOB) == name:
                return Search(batch.id)
            if batch.created_at < since - CLOCKS:
                break
        return Search()

    def poll(self, job: str, watch: Watch) -> JobStatus:
        """Return how far a job is. Raises whatever the SDK raises."""
        batch = self._sdk.batches.retrieve(job, timeout=watch.timeout())
        if batch.status in ("completed", "expired", "cancelled"):
            return JobStatus("ended")
        if batch.status != "failed":
            return JobStatus("running")
        errors = batch.errors.data if batch.errors and batch.errors.data else []
        words = "; ".join(filter(None, (error.message for error in errors[:3])))
        return JobStatus("failed", words or "the provider gives no reason")

    def results(self, job: str, watch: Watch) -> Iterator[Result]:
        """Yield the results of a job that has ended, of both of its files. Raises whatever the SDK raises."""
        batch = self._sdk.batches.retrieve(job, timeout=watch.timeout())
        for file in filter(None, (batch.output_file_id, batch.error_file_id)):
            with self._sdk.files.with_streaming_response.content(file, timeout=watch.timeout()) as content:
                for line in filter(str.strip, content.iter_lines()):
                    value = json.loads(line)
                    response = value.get("response") or {}
                    body, failed = response.get("body"), response.get("status_code", 200) >= 400
                    error = value.get("error") or (body if failed else None)
                    yield Result(str(value.get("custom_id")), None if error else body, error)

    def take(self, event: Event, collector: Collector) -> None:
        """Hand a whole answer to the collector. Raises InBandError."""
        _take(event, collector, bills=False)


def _service(provider: Provider, call: Call, changes: Changes) -> dict[str, Any]:
    """Return how the call is to be served; it changes no answer."""
    service = {"service_tier": "flex"} if call.flex else {}
    if call.conversation and provider.official and provider.name == "openai" and "prompt_caching" not in changes:
        service["prompt_cache_key"] = _cache_key(call)
    return service


def _cache_key(call: Call) -> str:
    """Return a name for a conversation, the same at each of its turns: equal names go to the same machines."""
    first = repr((call.system, content_key(call.messages[0].content)))
    return hashlib.sha256(first.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _response_format(form: Structured) -> dict[str, Any]:
    if form.call.schema is None or form.schema is None:
        return {"type": "json_object"}
    schema = {"name": form.call.schema.name, "strict": True, "schema": form.schema}
    return {"type": "json_schema", "json_schema": schema}


def _content(content: Prompt) -> str | list[dict[str, Any]]:
    """Return a turn's content: a string, or parts where it holds more than text."""
    if not content.needs:
        return content.text
    parts: list[dict[str, Any]] = []
    for part in content.parts:
        parts.append({"type": "text", "text": part.text})
        if isinstance(part, ImagePart):
            parts.append({"type": "image_url", "image_url": {"url": data_url(part.media_type, part.data)}})
        elif isinstance(part, PdfPart):
            data = data_url("application/pdf", part.data)
            parts.append({"type": "file", "file": {"filename": part.name, "file_data": data}})
    return parts


def _take(event: Event, collector: Collector, *, bills: bool) -> None:
    """Take a chunk of a stream or a whole answer: they differ in little more than a name."""
    piece = event.value
    if not isinstance(piece, dict) or piece.get("error") or event.name == "error":
        raise InBandError(piece)
    choices = piece.get("choices")
    usage = piece.get("usage") or _usage_elsewhere(piece)
    if not isinstance(choices, list) and not _counted(usage) and read_words(piece).message:
        raise InBandError(piece)
    if isinstance(usage, Mapping):
        collector.accepted = collector.accepted or event.whole
        collector.count(usage, _usage)
        if bills and "cost" in usage:
            collector.bill(_cost(usage))
    if not isinstance(choices, list) and not usage:
        collector.hold(name for name in piece if name not in _OF_A_CHUNK)
    collector.name(piece.get("model"))
    collector.serve(service_tier=piece.get("service_tier"))
    for choice in _first_choice(choices, collector):
        _take_choice(choice, collector)
    if event.whole:
        collector.ended = True


def _counted(usage: Any) -> bool:
    """Tell whether a usage counts anything: MiniMax sends zeros with its errors."""
    return any(usage.values()) if isinstance(usage, Mapping) else bool(usage)


def _first_choice(choices: Any, collector: Collector) -> list[Any]:
    """Return the piece of the first choice in a chunk, if there is one: some servers send several, interleaved."""
    if not isinstance(choices, list) or not choices:
        return []
    numbers = [choice.get("index", 0) if isinstance(choice, dict) else 0 for choice in choices]
    if collector.choice is None:
        collector.choice = min((number for number in numbers if type(number) is int), default=0)
    return [choice for choice, number in zip(choices, numbers, strict=True) if number in (collector.choice, None)][:1]


def _take_choice(choice: Any, collector: Collector) -> None:
    if not isinstance(choice, dict) or choice.get("error"):
        raise InBandError(choice)
    collector.accepted = True
    message = choice.get("delta") or choice.get("message") or {"content": choice.get("text")}
    if isinstance(message, str):
        message = {"content": message}
    if isinstance(message, dict):
        # Some servers send the same under both names: DeepSeek's and OpenRouter's.
        collector.think(message.get("reasoning_content") or message.get("reasoning"))
        collector.add(message.get("content"))
        for name in filter(message.get, _NOT_TEXT):
            collector.skip(name)
        if message.get("refusal"):
            collector.add(message["refusal"])
            collector.end("refusal")
    collector.end(choice.get("finish_reason") or "")


def _usage_elsewhere(piece: dict[str, Any]) -> Any:
    """Return the usage that Groq's streams hold in an object of its own, and Moonshot's in the choice."""
    choices = piece.get("choices")
    places = [piece.get("x_groq"), *(choices[:1] if isinstance(choices, list) else ())]
    return next((place["usage"] for place in places if isinstance(place, dict) and place.get("usage")), None)


def _usage(counts: Mapping[str, Any]) -> Usage:
    """Read OpenAI's usage and its dialects: prompt_tokens includes the cached ones."""
    prompt, completion = counts.get("prompt_tokens_details"), counts.get("completion_tokens_details")
    read, written = (
        count_of(counts, "prompt_tokens", "input_tokens"),
        count_of(counts, "completion_tokens", "output_tokens"),
    )
    reasoning = count_of(completion, "reasoning_tokens") or count_of(counts, "reasoning_tokens")
    cached = count_of(prompt, "cached_tokens") or count_of(
        counts, "cache_read_input_tokens", "prompt_cache_hit_tokens", "cached_tokens"
    )
    stored = count_of(prompt, "cache_write_tokens", "cache_creation_tokens") or count_of(
        counts, "cache_creation_input_tokens"
    )
    # xAI and Gemini leave the reasoning, which they bill, out of completion_tokens; Gemini names it in the total only.
    beyond = count_of(counts, "total_tokens") - read - written
    unnamed = not (reasoning or cached or stored)
    inferred = min(read, written) >= 0 and beyond > 0 and (beyond == reasoning or unnamed)
    if inferred:
        reasoning = beyond if written else reasoning
        written += beyond
    return Usage(read, written, cached, stored, reasoning, estimated=inferred and unnamed)


def _cost(usage: Mapping[str, Any]) -> Any:
    """Return what OpenRouter bills: with a key of one's own the provider bills, too, and OpenRouter says how much."""
    cost, details = usage["cost"], usage.get("cost_details")
    upstream = details.get("upstream_inference_cost") if isinstance(details, Mapping) else None
    both = isinstance(cost, int | float) and isinstance(upstream, int | float)
    return cost + upstream if both and usage.get("is_byok") else cost
