"""OpenTelemetry spans of requests and calls, under the names of its GenAI conventions, where that is enabled.

A request is a span of its own, and each call a child of it, so that tokens and costs, which stand at the calls, add up.
Who has set up no tracer in this process gets nothing, and nothing is sent anywhere.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ipyrouter.config import Config
from ipyrouter.routing.recorder import OpenAttempt, RequestRun
from ipyrouter.types import Attempt, Finish, Prompt

if TYPE_CHECKING:
    from types import ModuleType

    from opentelemetry.trace import Span

_PROVIDERS = {
    "google": "gcp.gemini",
    "mistral": "mistral_ai",
    "xai": "x_ai",
    "azure": "azure.ai.openai",
    "bedrock": "aws.bedrock",
    "vertex": "gcp.vertex_ai",
}
"""The convention's names for services that have other ones here."""
_FINISH: dict[Finish, str] = {"refusal": "content_filter", "tool_calls": "tool_call"}
_MISSING = "otel.enabled is set, and OpenTelemetry is not installed: pip install 'ipyrouter[otel]'."


class Spans:
    """Opens spans with the tracer of the user's own process. Without ``otel.enabled`` it does and imports nothing."""

    def __init__(self, config: Config) -> None:
        self.config = config

    @contextlib.contextmanager
    def request(self, run: RequestRun) -> Iterator[None]:
        """Return the context of a request."""
        if (trace := self._api(run)) is None:
            yield
            return
        with _open(trace, trace.get_tracer("ipyrouter").start_span("ipyrouter.route")) as span:
            try:
                yield
            except BaseException as error:
                _fail(trace, span, type(error).__name__, "")
                raise
            finally:
                _set(span, _of_request(run))

    @contextlib.contextmanager
    def call(self, attempt: OpenAttempt, run: RequestRun) -> Iterator[None]:
        """Return the context of a call, which ends with the attempt's result."""
        if (trace := self._api(run)) is None:
            yield
            return
        tracer = trace.get_tracer("ipyrouter")
        name = f"chat {attempt.step.call.model}"
        start = tracer.start_span(name, kind=trace.SpanKind.CLIENT, attributes=self._of_call(attempt))
        with _open(trace, start) as span:
            try:
                yield
            finally:
                if attempt.result is not None:
                    _set(span, self._of_result(attempt, attempt.result))
                    if attempt.result.error_kind is not None:
                        _fail(trace, span, attempt.result.error_kind, attempt.result.error or "")

    def _api(self, run: RequestRun) -> ModuleType | None:
        if not self.config.otel_enabled:
            return None
        try:
            from opentelemetry import trace
        except ImportError:
            run.note(_MISSING)
            return None
        return trace

    def _of_call(self, attempt: OpenAttempt) -> dict[str, Any]:
        """Return what is known of a call before it is made."""
        call, provider = attempt.step.call, self.config.providers[attempt.step.candidate.provider]
        address = urlsplit(call.base_url)
        attributes = {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": _PROVIDERS.get(provider.service, provider.service),
            "gen_ai.request.model": call.model,
            "gen_ai.request.max_tokens": call.max_output_tokens,
            "gen_ai.request.temperature": call.temperature,
            "gen_ai.request.stream": provider.stream,
            "gen_ai.output.type": "json" if call.json or call.schema else "text",
            "server.address": address.hostname,
            "server.port": address.port or (443 if address.scheme == "https" else 80),
            "ipyrouter.tier": attempt.step.tier,
            "ipyrouter.effort": call.effort,
        }
        if self.config.otel_content:
            attributes["gen_ai.system_instructions"] = _json(_parts(call.system)) if call.system else None
            turns = [{"role": turn.role, "parts": _parts(turn.content)} for turn in call.messages]
            attributes["gen_ai.input.messages"] = _json(turns)
        return _present(attributes)

    def _of_result(self, attempt: OpenAttempt, result: Attempt) -> dict[str, Any]:
        """Return what came of a call."""
        usage, finish = result.usage, result.finish and _FINISH.get(result.finish, result.finish)
        attributes = {
            "gen_ai.response.model": attempt.collector.model if attempt.collector.accepted else None,
            "gen_ai.response.finish_reasons": [finish] if finish else None,
            "gen_ai.response.time_to_first_chunk": result.first_token,
            "gen_ai.usage.input_tokens": usage.input_tokens,
            "gen_ai.usage.output_tokens": usage.output_tokens,
            "gen_ai.usage.cache_read.input_tokens": usage.cached_input_tokens,
            "gen_ai.usage.cache_creation.input_tokens": usage.cache_write_tokens,
            "gen_ai.usage.reasoning.output_tokens": usage.reasoning_tokens,
            "gen_ai.usage.cost": None if result.cost.amount is None else float(result.cost.amount),
            "ipyrouter.usage.estimated": usage.estimated,
        }
        if self.config.otel_content:
            turn = {"role": "assistant", "parts": _parts(result.text), "finish_reason": finish or "error"}
            attributes["gen_ai.output.messages"] = _json([turn])
        return _present(attributes)


def _of_request(run: RequestRun) -> dict[str, Any]:
    """Return what came of a request; no text of it, and no tokens, which its calls have."""
    answer = run.answer
    return _present({
        "ipyrouter.answer_id": run.id,
        "ipyrouter.session": run.session.id,
        "ipyrouter.difficulty": run.classification.difficulty,
        "ipyrouter.classified_tier": run.classification.tier,
        "ipyrouter.tier": answer and answer.tier,
        "ipyrouter.model": answer and f"{answer.provider}/{answer.model}",
        "ipyrouter.cached": answer and answer.cached,
        "ipyrouter.escalated_from": answer and answer.escalated_from,
        "ipyrouter.fallback_from": answer and answer.fallback_from,
        "ipyrouter.cost": None if answer is None or answer.cost is None else float(answer.cost),
    })  # fmt: skip


@contextlib.contextmanager
def _open(trace: ModuleType, span: Span) -> Iterator[Span]:
    """Make a span the current one, and end it."""
    try:
        with trace.use_span(span, record_exception=False, set_status_on_exception=False):
            yield span
    finally:
        with contextlib.suppress(Exception):  # a processor of the user's must not cost the answer
            span.end()


def _set(span: Span, attributes: dict[str, Any]) -> None:
    with contextlib.suppress(Exception):
        span.set_attributes(attributes)


def _fail(trace: ModuleType, span: Span, kind: str, message: str) -> None:
    with contextlib.suppress(Exception):
        span.set_attribute("error.type", kind)
        span.set_status(trace.Status(trace.StatusCode.ERROR, message))


def _parts(content: str | Prompt) -> list[dict[str, str]]:
    """Return content as the convention's parts; pictures and documents as the line that says what they are."""
    prompt = Prompt.of(content) if isinstance(content, str) else content
    return [{"type": "text", "content": part.text} for part in prompt.parts]


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _present(attributes: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in attributes.items() if value is not None}
