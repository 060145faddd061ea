"""Google's Gemini API, through the google-genai SDK (the extra `google`)."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Mapping
from typing import Any

import httpx2
from google import genai

from ipyrouter.config import Provider
from ipyrouter.config.catalogue import model_of
from ipyrouter.providers.base import (
    PLACEHOLDER,
    Backend,
    Call,
    Changes,
    Target,
    effort_of,
    lowered,
    system_first,
    system_note,
    temperature_note,
)
from ipyrouter.providers.effort import thinking_tokens
from ipyrouter.providers.network import Watch
from ipyrouter.providers.stream import Collector, count_of
from ipyrouter.providers.structured import structured
from ipyrouter.providers.transport import Transport
from ipyrouter.providers.wire import Event, InBandError, bounds, read
from ipyrouter.providers.words import read_words
from ipyrouter.types import ImagePart, PdfPart, Prompt, Usage

_ROLES = {"user": "user", "assistant": "model"}


class GoogleBackend(Backend):
    """Sends calls through the google-genai SDK."""

    limit_names = ("max_output_tokens",)
    paths = ("/v1/models", "/v1beta/models", "/v1beta", "/v1")

    def __init__(self, target: Target, transport: Transport) -> None:
        super().__init__(target, transport)
        nothing = httpx2.AsyncClient(transport=httpx2.AsyncBaseTransport(), trust_env=False)
        options = genai.types.HttpOptions(
            base_url=target.base_url or target.address,
            httpx_client=_Sender(transport.client(target.address), target.query),
            httpx_async_client=nothing,  # else the SDK builds one of its own
        )
        # Not as the environment says: GOOGLE_GENAI_USE_VERTEXAI would change address and credentials.
        self._sdk = genai.Client(api_key=PLACEHOLDER, vertexai=False, http_options=options)

    def response_of(self, error: Exception) -> httpx2.Response | None:
        """Return the response behind an error of the SDK's, None where there is none."""
        return (
            error.response if isinstance(error, _Answered) and error.response.status_code != httpx2.codes.OK else None
        )

    def body(self, provider: Provider, call: Call, changes: Changes, notes: list[str]) -> dict[str, Any]:
        """Return what to send, without what the server refuses; note what is left out."""
        form = structured(provider, call, changes, recursive=False, json_mode=True)
        call = form.call
        fold = bool(call.system) and "system" in changes
        turns = system_first(call) if fold else call.messages
        config: dict[str, Any] = {"max_output_tokens": lowered(call, changes, notes)}
        if fold:
            notes.append(system_note(call))
        elif call.system:
            config["system_instruction"] = call.system
        if call.temperature is not None and "temperature" in changes:
            notes.append(temperature_note(call))
        elif call.temperature is not None:
            config["temperature"] = call.temperature
        if form.means != "none":
            config["response_mime_type"] = "application/json"
        if form.schema is not None:
            config["response_json_schema"] = form.schema
        if (thinking := _thinking(call, effort_of(call, changes, notes))) and "thinking" not in changes:
            config["thinking_config"] = thinking
        contents = [{"role": _ROLES[turn.role], "parts": _parts(turn.content)} for turn in turns]
        stream = provider.stream and "stream" not in changes
        return {"model": call.model, "contents": contents, "config": config, "stream": stream}

    def sent(self, body: dict[str, Any]) -> Mapping[str, Any]:
        """Return the body under OpenAI's names."""
        config = dict(body["config"])
        system = {"system": config.pop("system_instruction")} if "system_instruction" in config else {}
        thinking = {"thinking": config.pop("thinking_config")} if "thinking_config" in config else {}
        kind = "json_schema" if "response_json_schema" in config else "json_object"
        form = {"response_format": {"type": kind}} if "response_mime_type" in config else {}
        return {**config, **system, **thinking, **form, **({"stream": True} if body["stream"] else {})}

    def send(self, body: dict[str, Any], watch: Watch, collector: Collector) -> None:
        """Send the body and hand the answer to the collector. Raises whatever the SDK raises."""
        with contextlib.closing(self._response(body)) as response:
            events = read(response, watch.address, bounds(collector.call.max_output_tokens))
            for event in itertools.takewhile(lambda event: not event.done, events):
                for piece in event.value if isinstance(event.value, list) else [event.value]:
                    _take(piece, event, collector)

    def _response(self, body: dict[str, Any]) -> httpx2.Response:
        arguments = {name: body[name] for name in ("model", "contents", "config")}
        try:
            if body["stream"]:
                next(iter(self._sdk.models.generate_content_stream(**arguments)), None)
            else:
                self._sdk.models.generate_content(**arguments)
        except _Answered as answered:
            if answered.response.status_code == httpx2.codes.OK:
                return answered.response
            raise
        raise RuntimeError("the SDK sent no request")


def _parts(content: Prompt) -> list[dict[str, Any]]:
    """Return a turn's parts."""
    if not content.needs:
        return [{"text": content.text}]
    parts: list[dict[str, Any]] = []
    for part in content.parts:
        parts.append({"text": part.text})
        if isinstance(part, ImagePart):
            parts.append({"inline_data": {"mime_type": part.media_type, "data": part.data}})
        elif isinstance(part, PdfPart):
            parts.append({"inline_data": {"mime_type": "application/pdf", "data": part.data}})
    return parts


class _Answered(Exception):  # noqa: N818  it is how an answer leaves the SDK
    """A response on its way past the SDK, which reads less than servers send and warns of words it does not know."""

    def __init__(self, response: httpx2.Response) -> None:
        super().__init__("answered")
        self.response = response


class _Sender(httpx2.Client):
    """The HTTP client that the SDK is given: it sends through the shared one and takes the response away."""

    def __init__(self, client: httpx2.Client, query: Mapping[str, str]) -> None:
        super().__init__(transport=httpx2.BaseTransport(), trust_env=False)  # what it would send by itself goes nowhere
        self._client = client
        self._query = query

    def build_request(self, method: str, url: httpx2.URL | str, **options: Any) -> httpx2.Request:
        """Build a request as the shared client does."""
        return self._client.build_request(method, httpx2.URL(url).copy_merge_params(self._query), **options)

    def send(self, request: httpx2.Request, **_: Any) -> httpx2.Response:
        """Send a request. Raises _Answered with the response."""
        raise _Answered(self._client.send(request, stream=True))


def _thinking(call: Call, effort: str | None) -> dict[str, Any]:
    """Return how much the model is to think: by a level, or by a budget of tokens where the model knows no levels."""
    thinking: dict[str, Any] = {"include_thoughts": True} if call.show_thinking else {}
    if effort is not None:
        by_level = model_of(call.model).thinking == "level"
        thinking |= (
            {"thinking_level": effort} if by_level else {"thinking_budget": min(thinking_tokens(effort), 24_576)}
        )
    return thinking


def _take(piece: Any, event: Event, collector: Collector) -> None:
    """Take a chunk of a stream or a whole answer: they are alike."""
    if not isinstance(piece, dict) or piece.get("error"):
        raise InBandError(piece)
    candidates, counts = piece.get("candidates"), piece.get("usageMetadata")
    blocked = piece.get("promptFeedback")
    if not isinstance(candidates, list) and not counts and not blocked and read_words(piece).message:
        raise InBandError(piece)
    collector.name(piece.get("modelVersion"))
    if isinstance(counts, Mapping):
        collector.accepted = True
        collector.count(counts, _usage)
    if isinstance(blocked, dict) and blocked.get("blockReason"):
        collector.accepted = True
        collector.end("refusal")
    for candidate in candidates[:1] if isinstance(candidates, list) else ():
        _take_candidate(candidate, collector)
    if event.whole:
        collector.ended = True


def _take_candidate(candidate: Any, collector: Collector) -> None:
    if not isinstance(candidate, dict):
        raise InBandError(candidate)
    collector.accepted = True
    content = candidate.get("content")
    parts = content.get("parts") if isinstance(content, dict) else None
    for part in parts if isinstance(parts, list) else ():
        if isinstance(part, dict) and part.get("thought"):
            collector.think(part.get("text"))
        elif isinstance(part, dict):
            collector.add(part.get("text"))
            for name in part.keys() - {"text", "thoughtSignature"}:
                collector.skip(name)
    collector.end(candidate.get("finishReason") or "")


def _usage(counts: Mapping[str, Any]) -> Usage:
    """Read Gemini's usage: the prompt includes the cached tokens, the candidates leave the thoughts out."""
    thoughts = count_of(counts, "thoughtsTokenCount")
    written = count_of(counts, "candidatesTokenCount")
    read_tokens = count_of(counts, "promptTokenCount")
    used = count_of(counts, "toolUsePromptTokenCount")
    return Usage(
        input_tokens=read_tokens + used if min(read_tokens, used) >= 0 else -1,
        output_tokens=written + thoughts if min(written, thoughts) >= 0 else -1,
        cached_input_tokens=count_of(counts, "cachedContentTokenCount"),
        reasoning_tokens=thoughts,
    )
