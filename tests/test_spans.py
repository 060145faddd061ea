"""OpenTelemetry spans: the conventions' names, cost, no content unless it is wanted, nothing where it is off."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes
from opentelemetry.trace import SpanKind, StatusCode

from ipyrouter.errors import RouteError
from ipyrouter.router import Router
from tests.conftest import run_python
from tests.faults.server import CACHED, IN, OUT, TEXT, FaultServer

MakeRouter = Callable[..., Router]
ON = {"enabled": True, "content": False}
COST = "gen_ai.usage.cost"  # a proposal that OpenLIT and Langfuse follow, and no part of the conventions yet


class Broken(SpanProcessor):
    """A processor of the user's that fails while it is told to."""

    fails = False

    def on_start(self, span: Any, parent_context: Any = None) -> None: ...

    def on_end(self, span: ReadableSpan) -> None:
        if self.fails:
            raise ValueError("broken")


BROKEN = Broken()


@pytest.fixture(scope="module")
def exporter() -> InMemorySpanExporter:
    """The exporter of this process's tracer, which can be set once."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    provider.add_span_processor(BROKEN)
    trace.set_tracer_provider(provider)
    return exporter


@pytest.fixture
def spans(exporter: InMemorySpanExporter) -> Iterator[Callable[[], list[ReadableSpan]]]:
    """What has been exported during a test, in the order in which it ended."""
    exporter.clear()
    yield lambda: list(exporter.get_finished_spans())
    BROKEN.fails = False


Spans = Callable[[], list[ReadableSpan]]


@pytest.mark.parametrize("provider", ["o", "a", "g"])
def test_a_call_is_a_span_below_its_request(make_router: MakeRouter, spans: Spans, provider: str) -> None:
    router = make_router(mid=[f"{provider}/ok"], otel=ON)
    with trace.get_tracer("test").start_as_current_span("cell"):
        answer = router.route("Explain closures", temperature=0.5)
    call, request, cell = spans()
    assert (call.name, call.kind) == ("chat ok", SpanKind.CLIENT)
    assert request.name == "ipyrouter.route"
    assert call.parent is not None
    assert request.parent is not None
    assert (call.parent.span_id, request.parent.span_id) == (request.context.span_id, cell.context.span_id)
    attributes = dict(call.attributes or {})
    first = attributes.pop("gen_ai.response.time_to_first_chunk")
    assert 0 < float(str(first)) < 60
    assert attributes.pop("server.port") == int(router.config.providers[provider].address().split(":")[2][:5])
    assert attributes == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": provider,
        "gen_ai.request.model": "ok",
        "gen_ai.request.max_tokens": answer.attempts[0].tier and 4096,
        "gen_ai.request.temperature": 0.5,
        "gen_ai.request.stream": True,
        "gen_ai.output.type": "text",
        "gen_ai.response.model": "ok",
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.usage.input_tokens": IN,
        "gen_ai.usage.output_tokens": OUT,
        "gen_ai.usage.cache_read.input_tokens": CACHED,
        "gen_ai.usage.cache_creation.input_tokens": 0,
        "gen_ai.usage.reasoning.output_tokens": answer.usage.reasoning_tokens,
        COST: float(answer.cost or 0),
        "server.address": "127.0.0.1",
        "ipyrouter.tier": "mid",
        "ipyrouter.usage.estimated": False,
    }
    published = {value for name, value in vars(gen_ai_attributes).items() if name.startswith("GEN_AI_")}
    assert {name for name in attributes if name.startswith("gen_ai.")} - published == {COST}
    assert call.status.status_code == StatusCode.UNSET
    of_request = dict(request.attributes or {})
    assert of_request["ipyrouter.answer_id"] == answer.id
    assert of_request["ipyrouter.cost"] == float(answer.cost or 0)
    assert not any(name.startswith("gen_ai.") for name in of_request)  # each token is counted once


def test_content_is_there_only_where_it_is_wanted(make_router: MakeRouter, spans: Spans) -> None:
    make_router(otel=ON).route("A private prompt", system="A private system")
    assert "private" not in "".join(span.to_json() for span in spans())
    assert TEXT not in "".join(span.to_json() for span in spans())
    make_router(otel={"enabled": True, "content": True}, cache={"enabled": False}).route(
        "A private prompt", system="A private system"
    )
    attributes = dict(spans()[2].attributes or {})
    system, asked, answered = (
        json.loads(str(attributes[f"gen_ai.{name}"]))
        for name in ("system_instructions", "input.messages", "output.messages")
    )
    assert system == [{"type": "text", "content": "A private system"}]
    assert asked == [{"role": "user", "parts": [{"type": "text", "content": "A private prompt"}]}]
    assert answered == [{"role": "assistant", "parts": [{"type": "text", "content": TEXT}], "finish_reason": "stop"}]


def test_each_attempt_of_a_fallback_is_a_span(make_router: MakeRouter, spans: Spans) -> None:
    make_router(mid=["o/status-401", "a/ok"], otel=ON).route("Explain closures")
    failed, answered, request = spans()
    assert (failed.attributes or {})["error.type"] == "auth"
    assert failed.status.status_code == StatusCode.ERROR
    assert "Incorrect API key" in str(failed.status.description)
    assert answered.status.status_code == StatusCode.UNSET
    assert (request.attributes or {})["ipyrouter.fallback_from"] == "o/status-401"


def test_a_request_that_failed_says_so(make_router: MakeRouter, spans: Spans) -> None:
    with pytest.raises(RouteError):
        make_router(mid=["o/status-401"], otel=ON).route("Explain closures")
    _, request = spans()
    assert (request.attributes or {})["error.type"] == "RouteError"
    assert request.status.status_code == StatusCode.ERROR


def test_a_cached_answer_makes_no_call(make_router: MakeRouter, spans: Spans) -> None:
    router = make_router(otel=ON)
    for _ in range(2):
        router.route("Explain closures")
    last = dict(spans()[-1].attributes or {})
    assert len(spans()) == 3
    assert last["ipyrouter.cached"] is True
    assert last["ipyrouter.cost"] == 0


def test_an_unknown_price_is_no_cost(make_router: MakeRouter, spans: Spans) -> None:
    make_router(otel=ON, prices={}).route("Explain closures")
    assert COST not in (spans()[0].attributes or {})
    assert "ipyrouter.cost" not in (spans()[1].attributes or {})


def test_aroute_keeps_the_span_around_it(make_router: MakeRouter, spans: Spans) -> None:
    router = make_router(otel=ON)

    async def cell() -> None:
        with trace.get_tracer("test").start_as_current_span("cell"):
            await router.aroute("Explain closures")

    asyncio.run(cell())
    _, request, cell_span = spans()
    assert request.parent is not None
    assert request.parent.span_id == cell_span.context.span_id


def test_a_processor_that_fails_costs_no_answer(make_router: MakeRouter, spans: Spans) -> None:
    BROKEN.fails = True
    assert make_router(otel=ON).route("Explain closures").text == TEXT


@pytest.mark.parametrize("provider", ["o", "a", "g"])
def test_off_means_off(make_router: MakeRouter, spans: Spans, requests: list[Any], provider: str) -> None:
    with trace.get_tracer("test").start_as_current_span("cell"):
        make_router(mid=[f"{provider}/ok"]).route("Explain closures")
    assert [span.name for span in spans()] == ["cell"]  # the anthropic SDK makes some of its own
    assert not any("traceparent" in {name.lower() for name in headers} for _, headers, _ in requests)


def test_without_opentelemetry_a_note_says_so(make_router: MakeRouter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    answer = make_router(otel=ON).route("Explain closures")
    assert answer.text == TEXT
    assert [note for note in answer.notes if "pip install 'ipyrouter[otel]'" in note]


def test_a_call_without_spans_imports_no_opentelemetry(server: FaultServer) -> None:
    run_python(f"""
import sys
from ipyrouter.router import Router
settings = {{"providers": {{"o": {{"sdk": "openai", "base_url": "{server.url}/v1"}}}}}}
Router(settings).route("Explain closures", model="o/ok")
assert not [name for name in sys.modules if name.startswith("opentelemetry")]
""")
