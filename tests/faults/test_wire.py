"""Answers in the shapes that real servers give them: finish reasons, usage, parts, thinking, bills, errors inside."""

from __future__ import annotations

import contextlib
import gzip
import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import httpx2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ipyrouter.config import Deadlines, Provider
from ipyrouter.errors import RouteError
from ipyrouter.providers import anthropic as anthropic_backend
from ipyrouter.providers import google as google_backend
from ipyrouter.providers import openai as openai_backend
from ipyrouter.providers import wire
from ipyrouter.providers.base import Call, Fault, Target
from ipyrouter.providers.faults import retry_after
from ipyrouter.providers.registry import backend_of
from ipyrouter.providers.stream import Collector
from ipyrouter.providers.transport import Transport
from ipyrouter.providers.wire import Event, bounds, read
from ipyrouter.router import Router
from ipyrouter.types import Answer, Attempt, Delta, Message
from tests.faults.server import IN, OUT, TEXT, FaultServer, Reply, chat, chunk, claude, claude_whole, sse

MakeRouter = Callable[..., Router]
Ask = Callable[..., Answer]
STREAMS = pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])


@pytest.fixture
def ask(make_router: MakeRouter, server: FaultServer, requests: list[Any]) -> Ask:
    """Ask a model that gives the reply; ``then`` are the models that stand after it in the chain."""

    def answer(body: Any, provider: str = "o", then: tuple[str, ...] = (), **options: Any) -> Answer:
        headers = options.pop("headers", {})
        server.replies["first"] = body if isinstance(body, Reply) else Reply(body, headers=headers)
        deltas = options.pop("deltas", None)
        router = make_router(mid=[f"{provider}/first", *then], stream=options.pop("stream", True), **options)
        return router.route("Explain closures", escalate=False, on_delta=None if deltas is None else deltas.append)

    return answer


def openai(content: Any, finish: Any, stream: bool, **more: Any) -> Any:
    return sse(chunk(content), chunk(None, finish, delta={}), **more) if stream else chat(content, finish)


# --- finish reasons ---


@STREAMS
@pytest.mark.parametrize(
    ("reason", "finish"),
    [
        *(
            (word, "stop")
            for word in ("stop", "STOP", "eos", "eos_token", "end", "end_turn", "stop_sequence", "COMPLETE")
        ),
        *((word, "stop") for word in ("completed", "FinishReason.STOP", "FINISH_REASON_STOP", "endTurn")),
        *((word, "length") for word in ("length", "max_tokens", "MAX_TOKENS", "model_length", "max_output_tokens")),
        *((word, "length") for word in ("model_context_window_exceeded", "maxTokens", "token_limit", "ERROR_LIMIT")),
        *((word, "refusal") for word in ("content_filter", "content-filter", "refusal", "SAFETY", "RECITATION")),
        *((word, "refusal") for word in ("guardrail_intervened", "ERROR_TOXIC", "PROHIBITED_CONTENT", "sensitive")),
    ],
)
def test_a_finish_reason_under_any_name(ask: Ask, reason: str, finish: str, stream: bool) -> None:
    assert ask(openai(TEXT, reason, stream), stream=stream).finish == finish


@STREAMS
@pytest.mark.parametrize(
    "reason",
    ["error", "abort", "insufficient_system_resource", "network_error", "timeout", "cancelled", "OTHER", "no such word",
     "pause_turn", "FINISH_REASON_UNSPECIFIED", "MALFORMED_FUNCTION_CALL", {"type": "odd"}, 7],
)  # fmt: skip
@pytest.mark.parametrize("provider", ["o", "a"])
def test_an_unknown_finish_reason_is_no_end(ask: Ask, provider: str, reason: Any, stream: bool) -> None:
    """The next candidate answers; the half answer is logged as partial, with what it cost."""
    if provider == "o":
        body = openai("The first half of", reason, stream)
    else:
        body = claude("The first half of", stop=reason) if stream else claude_whole("The first half of", stop=reason)
    answer = ask(body, provider, then=("o/ok",), stream=stream)
    assert (answer.text, answer.finish) == (TEXT, "stop")
    half = answer.attempts[0]
    assert (half.status, half.finish, half.text) == ("partial", "partial", "The first half of")
    assert half.error_kind == "unfinished"
    assert "finish reason" in str(half.error)
    assert half.cost.amount


@STREAMS
def test_half_an_answer_is_better_than_none_and_says_what_it_is(
    ask: Ask, make_router: MakeRouter, stream: bool
) -> None:
    answer = ask(openai("The first half of", "error", stream), stream=stream)
    assert (answer.text, answer.finish) == ("The first half of", "partial")
    assert answer.notes == (
        "This is not a whole answer: o/first: the answer broke off with the finish reason 'error';"
        " no other model answered.",
    )
    again = make_router(mid=["o/first"], stream=stream).route("Explain closures", escalate=False)
    assert not again.cached


def test_an_error_without_any_text_fails(ask: Ask) -> None:
    with pytest.raises(RouteError, match="finish reason 'error'"):
        ask(sse(chunk("", "error")))


# --- no finish reason, though it is the end ---


@pytest.mark.parametrize("finish", ["", None, "null"])
@STREAMS
def test_a_whole_answer_needs_no_finish_reason(ask: Ask, requests: list[Any], finish: Any, stream: bool) -> None:
    answer = ask(openai(TEXT, finish, stream), stream=stream)
    assert (answer.text, answer.finish) == (TEXT, "stop")
    assert len(requests) == 1


@pytest.mark.parametrize("stop", ["", None])
@STREAMS
def test_a_whole_message_needs_no_stop_reason(ask: Ask, requests: list[Any], stop: Any, stream: bool) -> None:
    answer = ask(claude(TEXT, stop=stop) if stream else claude_whole(TEXT, stop=stop), "a", stream=stream)
    assert (answer.text, answer.finish, len(requests)) == (TEXT, "stop", 1)


@pytest.mark.parametrize(
    ("provider", "body"),
    [
        ("o", sse(chunk("The first half of"), done=False)),
        ("o", sse(chunk("The first half of"), chunk(delta={}, usage={"prompt_tokens": 7}), done=False)),
        ("a", claude("The first half of", stop=None, end=False)),
    ],
)
@pytest.mark.parametrize("whole", [True, False], ids=["closed", "cut"])
def test_a_stream_that_only_ends_is_broken(ask: Ask, provider: str, body: str, whole: bool) -> None:
    answer = ask(Reply(body, whole=whole), provider, then=("o/ok",))
    assert answer.attempts[0].error_kind == "broken_stream"
    assert answer.text == TEXT


@pytest.mark.parametrize(
    ("provider", "body"), [("o", openai(TEXT, "stop", True, done=False)), ("a", claude(TEXT, end=False))]
)
def test_a_connection_that_breaks_after_the_end_costs_no_answer(
    ask: Ask, requests: list[Any], provider: str, body: str
) -> None:
    answer = ask(Reply(body, whole=False), provider)
    assert (answer.text, answer.finish, len(requests)) == (TEXT, "stop", 1)


# --- usage ---

ZEROS = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
COUNTS = {"prompt_tokens": 18, "completion_tokens": 73, "total_tokens": 91}
PRICES = {
    "o/first": {"input": 10, "output": 100, "cached_input": 1},
    "a/first": {"input": 10, "output": 100, "cached_input": 1},
}


def counts(answer: Answer | Attempt) -> tuple[int, int, int, int, int, bool]:
    usage = answer.usage
    return (
        usage.input_tokens, usage.output_tokens, usage.cached_input_tokens, usage.cache_write_tokens,
        usage.reasoning_tokens, usage.estimated,
    )  # fmt: skip


@pytest.mark.parametrize(
    "body",
    [
        sse(chunk(TEXT, "stop"), {**chunk(), "choices": [], "usage": COUNTS}),
        sse(chunk(TEXT, usage=ZEROS), chunk("", "stop", usage=COUNTS)),
        sse(chunk(TEXT, usage=COUNTS), chunk("", "stop", usage=ZEROS)),
        sse(chunk(TEXT, usage={"prompt_tokens": 18, "completion_tokens": 1}), chunk("", "stop", usage=COUNTS)),
        sse(chunk(TEXT, usage={"prompt_tokens": 18}), chunk("", "stop", usage={"completion_tokens": 73})),
        sse(chunk(TEXT), chunk("", "stop", x_groq={"id": "r", "usage": COUNTS})),
        sse(chunk(TEXT, usage=None), chunk("", "stop", usage={**COUNTS, "prompt_tokens": 18.0})),
        sse(chunk(TEXT, "stop"), {"usage": COUNTS}),
    ],
    ids=["last", "zeros-first", "zeros-last", "each", "in-two", "groq", "floats", "no-choices"],
)
def test_the_last_counts_that_are_none_of_zeros(ask: Ask, body: str) -> None:
    assert counts(ask(body)) == (18, 73, 0, 0, 0, False)


@STREAMS
@pytest.mark.parametrize(
    "usage",
    [ZEROS, {"prompt_tokens": 18, "completion_tokens": None}, {"prompt_tokens": 18, "completion_tokens": 0}, {}, None],
)
def test_zeros_beside_a_text_are_an_estimate(ask: Ask, usage: Any, stream: bool) -> None:
    body = sse(chunk(TEXT, "stop", usage=usage)) if stream else {**chat(), "usage": usage}
    answer = ask(body, stream=stream)
    assert answer.usage.output_tokens == -(-len(TEXT) // 4)
    assert answer.usage.estimated
    assert answer.cost


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({**COUNTS, "prompt_tokens_details": {"cached_tokens": 5, "cache_write_tokens": 2}}, (18, 73, 5, 2, 0, False)),
        ({**COUNTS, "prompt_cache_hit_tokens": 5, "prompt_cache_miss_tokens": 13}, (18, 73, 5, 0, 0, False)),
        ({**COUNTS, "cached_tokens": 5}, (18, 73, 5, 0, 0, False)),
        ({**COUNTS, "cache_read_input_tokens": 5, "cache_creation_input_tokens": 2}, (18, 73, 5, 2, 0, False)),
        ({**COUNTS, "completion_tokens_details": {"reasoning_tokens": 9}}, (18, 73, 0, 0, 9, False)),
        ({"input_tokens": 18, "output_tokens": 73}, (18, 73, 0, 0, 0, False)),
        # xAI counts the reasoning beside completion_tokens, Gemini in the total alone
        (
            {**COUNTS, "total_tokens": 100, "completion_tokens_details": {"reasoning_tokens": 9}},
            (18, 82, 0, 0, 9, False),
        ),
        ({**COUNTS, "total_tokens": 100}, (18, 82, 0, 0, 9, True)),
        ({**COUNTS, "completion_tokens": None}, (18, 73, 0, 0, 0, True)),
        ({**COUNTS, "completion_tokens": True}, (18, 15, 0, 0, 0, True)),
        ({**COUNTS, "completion_tokens": "73"}, (18, 15, 0, 0, 0, True)),
        ({**COUNTS, "prompt_tokens_details": {"cached_tokens": "5"}}, (18, 73, 0, 0, 0, True)),
        ({**COUNTS, "prompt_tokens_details": [1], "completion_tokens_details": 3}, (18, 73, 0, 0, 0, False)),
    ],
)
def test_dialects_of_usage(ask: Ask, usage: dict[str, Any], expected: tuple[Any, ...]) -> None:
    assert counts(ask(chat(usage=usage), stream=False)) == expected


READ, FRESH = {"cache_read_input_tokens": 41}, {"input_tokens": 9, "output_tokens": 1}


@pytest.mark.parametrize(
    ("start", "delta", "expected", "cost"),
    [
        ({"input_tokens": 0}, {"input_tokens": 1, **READ, "output_tokens": 16}, (42, 16, 41, 0, 0, False), "0.001651"),
        ({**FRESH, **READ}, {**FRESH, **READ, "output_tokens": 16}, (50, 16, 41, 0, 0, False), "0.001731"),
        ({**FRESH, **READ}, {"output_tokens": 16}, (50, 16, 41, 0, 0, False), "0.001731"),
        (FRESH, {"input_tokens": 0, "output_tokens": 16}, (9, 16, 0, 0, 0, False), "0.00169"),
        (
            FRESH,
            {"output_tokens": 16, "output_tokens_details": {"thinking_tokens": 12}},
            (9, 16, 0, 0, 12, False),
            "0.00169",
        ),
        (FRESH, {"output_tokens": 0}, (9, 2, 0, 0, 0, True), "0.00029"),
        (FRESH, {"output_tokens": None}, (9, 2, 0, 0, 0, True), "0.00029"),
        ({**FRESH, "output_tokens": 7}, {}, (9, 7, 0, 0, 0, True), "0.00079"),
        (None, {"output_tokens": None, "input_tokens": "x"}, None, None),
    ],
)
def test_the_counts_of_a_claude_stream(
    ask: Ask, start: Any, delta: dict[str, Any], expected: tuple[Any, ...] | None, cost: str | None
) -> None:
    answer = ask(claude("Paris.", start=start or {}, usage=delta), "a", prices=PRICES)
    if expected is None:
        assert answer.usage.estimated
        assert answer.usage.output_tokens > 0
    else:
        assert counts(answer) == expected
        assert answer.cost == Decimal(str(cost))


FAR = [2_000_001, 10**11, 10**12, 2**63, 10**40, 1e11, 1e308, float("inf"), float("nan"), -1, -(10**12), True, "7", [7]]


@pytest.mark.parametrize("far", FAR, ids=str)
@pytest.mark.parametrize("provider", ["o", "a"])
@STREAMS
def test_counts_that_the_call_cannot_explain_are_estimated(ask: Ask, provider: str, far: Any, stream: bool) -> None:
    usage: Any = {"input_tokens": far, "output_tokens": far}
    if provider == "o":
        usage = {"prompt_tokens": far, "completion_tokens": far, "total_tokens": far}
        body: Any = sse(chunk(TEXT, "stop", usage=usage)) if stream else chat(usage=usage)
    else:
        body = claude(TEXT, start=usage, usage=usage) if stream else claude_whole(TEXT, usage=usage)
    answer = ask(body, provider, stream=stream, prices=PRICES)
    assert answer.usage.estimated
    assert answer.usage.input_tokens < 100
    assert answer.usage.output_tokens == -(-len(TEXT) // 4)
    assert answer.cost
    assert answer.cost < 1


def test_output_beyond_the_limit_is_no_count(ask: Ask) -> None:
    usage = {"prompt_tokens": 18, "completion_tokens": 1_000_000}
    assert counts(ask(chat(usage=usage), stream=False)) == (18, -(-len(TEXT) // 4), 0, 0, 0, True)


def test_too_few_tokens_for_a_text_are_no_count(ask: Ask) -> None:
    usage = {"prompt_tokens": 18, "completion_tokens": 1}
    assert counts(ask(chat("word " * 200, usage=usage), stream=False)) == (18, 250, 0, 0, 0, True)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("30", 30), ("1.5", 1.5), (" 30 ", 30), ("0", 0), ("-5", None), ("nan", None), ("inf", None), ("1e3", None),
        ("", None), ("soon", None), ("9" * 309, 86400), ("9" * 400, 86400), ("1000000000", 86400),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 86400), ("Mon, 01 Jan 0001 00:00:00 GMT", 0),
        ("Mon, 01 Jan 0001 00:00:00 +2359", 0), ("Wed, 21 Oct 2015 07:28:00 GMT", 0),
        ("Fri, 31 Dec 99999 23:59:59 GMT", None),
        ("Fri, 99 Foo 2026 99:99:99 GMT", None),
    ],
)  # fmt: skip
def test_retry_after_has_a_bound(value: str, seconds: float | None) -> None:
    assert retry_after({"retry-after": value}) == seconds
    if value.strip().isdigit():
        assert retry_after({"retry-after-ms": value}) == min(float(value) / 1000, 86400)


def test_the_thinking_tokens_of_a_whole_message(ask: Ask) -> None:
    usage = {"input_tokens": 9, "output_tokens": 16, "output_tokens_details": {"thinking_tokens": 12}}
    assert counts(ask(claude_whole(TEXT, usage=usage), "a", stream=False)) == (9, 16, 0, 0, 12, False)


@STREAMS
def test_what_claude_writes_to_its_cache_is_counted_as_such(ask: Ask, stream: bool) -> None:
    """Writing costs more than reading, and neither is among the input tokens that Anthropic counts."""
    usage = {"input_tokens": 9, "cache_read_input_tokens": 5, "cache_creation_input_tokens": 3, "output_tokens": 16}
    body = claude(TEXT, start=usage, usage={"output_tokens": 16}) if stream else claude_whole(TEXT, usage=usage)
    assert counts(ask(body, "a", stream=stream)) == (17, 16, 5, 3, 0, False)


# --- the provider's own bill ---

RECKONED = Decimal("0.00042")  # IN at $1 and OUT at $10 a million


def billed(
    ask: Ask, body: Any, host: str = "", monkeypatch: pytest.MonkeyPatch | None = None, **options: Any
) -> Answer:
    return ask(body, **options)


@pytest.mark.parametrize(
    ("cost", "noted"), [("0.0004284", False), ("0.00043", True), ("0.00041", True), ("2.5e-05", True)]
)
@pytest.mark.parametrize("provider", ["o", "a"])
def test_litellm_s_header_is_the_bill(ask: Ask, provider: str, cost: str, noted: bool) -> None:
    body = chat() if provider == "o" else claude_whole(TEXT)
    answer = ask(body, provider, stream=False, headers={"x-litellm-response-cost": cost})
    assert answer.cost == Decimal(cost)
    assert answer.attempts[0].cost.price_id == f"billed:{provider}/first"
    assert any("bills" in note for note in answer.notes) == noted


@pytest.mark.parametrize("cost", ["0", "0.0", "None", "-1", "nan", "inf", "1e9", "", "0x1"])
def test_what_is_no_bill_is_not_believed(ask: Ask, cost: str) -> None:
    answer = ask(chat(), stream=False, headers={"x-litellm-response-cost": cost})
    assert answer.cost == RECKONED
    assert answer.notes == ()


def test_litellm_s_streams_tell_the_bill_in_their_usage(ask: Ask) -> None:
    body = sse(chunk(TEXT, "stop"), {**chunk(), "choices": [], "usage": {**COUNTS, "cost": 0.0123}})
    assert ask(body, headers={"x-litellm-call-id": "x"}).cost == Decimal("0.0123")


def test_a_cost_from_anyone_else_is_not_a_bill(ask: Ask) -> None:
    assert ask(chat(usage={"prompt_tokens": IN, "completion_tokens": OUT, "cost": 0}), stream=False).cost == RECKONED


@pytest.mark.parametrize(
    ("usage", "cost"),
    [
        ({"cost": 0.00042}, "0.00042"),
        ({"cost": 0}, "0"),  # a free model
        ({"cost": 0.01, "cost_details": {"upstream_inference_cost": 0.2}}, "0.01"),  # a part of the cost
        ({"cost": 0.01, "is_byok": True, "cost_details": {"upstream_inference_cost": 0.2}}, "0.21"),  # beside it
        ({"cost": 0, "is_byok": True, "cost_details": {"upstream_inference_cost": None}}, "0"),
        ({"cost": "a lot"}, "0.00042"),
        ({"cost": True}, "0.00042"),
    ],
)
@STREAMS
def test_openrouter_bills_by_its_own_figure(
    server: FaultServer, requests: list[Any], monkeypatch: pytest.MonkeyPatch, usage: Any, cost: str, stream: bool
) -> None:
    """By its address: the test's proxy stands for it."""
    usage = {"prompt_tokens": IN, "completion_tokens": OUT, **usage}
    server.replies["m"] = Reply(sse(chunk(TEXT, "stop", usage=usage)) if stream else chat(usage=usage))
    monkeypatch.setenv("HTTP_PROXY", server.url)
    provider = {"sdk": "openai", "base_url": "http://openrouter.ai/api/v1", "stream": stream}
    prices = {"r/m": {"input": 1, "output": 10}}
    router = Router({"providers": {"r": provider}, "tiers": {"mid": {"chain": ["r/m"]}}, "prices": prices})
    answer = router.route("Explain closures")
    assert answer.cost == Decimal(cost)
    assert requests[0][0] == "http://openrouter.ai/api/v1/chat/completions"
    assert router.log()["cost_pico"].sum() == Decimal(cost) * 10**12
    router.close()


# --- parts, and thinking ---

THOUGHT = {"type": "thinking", "thinking": [{"type": "text", "text": "two and two"}]}
PART = {"type": "text", "text": "It is 4."}


@pytest.mark.parametrize(
    ("content", "text", "thinking"),
    [
        ([THOUGHT, PART], "It is 4.", "two and two"),
        ([{"type": "thinking", "thinking": "two and two"}, PART], "It is 4.", "two and two"),
        ([{"type": "reasoning", "summary": [{"type": "summary_text", "text": "sum"}]}, PART], "It is 4.", "sum"),
        ([PART, {"type": "image_url", "image_url": {"url": "x"}}, {"type": "reference", "ids": [1]}], "It is 4.", ""),
        ([{"type": "text", "text": {"value": "It is 4."}}], "It is 4.", ""),
        ([{"type": "text", "text": None}, PART, None, 3, "!"], "It is 4.!", ""),
        (PART, "It is 4.", ""),
        ({"answer": 4}, '{"answer": 4}', ""),
        ([{"city": "Zürich"}], '[{"city": "Zürich"}]', ""),
        ([1, 2], "[1, 2]", ""),
        (4, "4", ""),
        ("<think>\ntwo and two\n</think>\n\nIt is 4.", "It is 4.", "two and two"),
    ],
)
@STREAMS
def test_content_in_parts(ask: Ask, content: Any, text: str, thinking: str, stream: bool) -> None:
    answer = ask(openai(content, "stop", stream), stream=stream)
    assert (answer.text, answer.thinking) == (text, thinking)
    assert answer.finish == "stop"


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
@STREAMS
def test_reasoning_beside_the_content(ask: Ask, name: str, stream: bool) -> None:
    deltas: list[Delta] = []
    if stream:
        body: Any = sse(
            chunk(delta={name: "two "}),
            chunk(delta={name: "and two", "content": None}),
            chunk("It is "),
            chunk("4.", "stop"),
        )
    else:
        body = chat("It is 4.", **{name: "two and two"})
    answer = ask(body, stream=stream, deltas=deltas)
    assert (answer.text, answer.thinking) == ("It is 4.", "two and two")
    assert "".join(delta.text for delta in deltas) == "It is 4."
    assert answer.first_token is not None
    assert "two and two" not in repr(dict(answer.to_dict()))


def test_the_same_reasoning_under_two_names_counts_once(ask: Ask) -> None:
    answer = ask(chat("It is 4.", reasoning="two and two", reasoning_content="two and two"), stream=False)
    assert answer.thinking == "two and two"


@STREAMS
def test_claude_s_thinking(ask: Ask, stream: bool) -> None:
    block = {"type": "thinking", "thinking": "two and two", "signature": "x"}
    if stream:
        deltas = [{"type": "thinking_delta", "thinking": "two and two"}, {"type": "signature_delta", "signature": "x"}]
        body: Any = claude(*deltas, "It is 4.")
    else:
        body = claude_whole(block, {"type": "redacted_thinking", "data": "x"}, "It is 4.", {"type": "new_kind", "x": 1})
    answer = ask(body, "a", stream=stream)
    assert (answer.text, answer.thinking, answer.finish) == ("It is 4.", "two and two", "stop")


def test_thinking_is_streamed_past_the_display(ask: Ask) -> None:
    deltas: list[Delta] = []
    pieces = ["\n<th", "ink>two and", " two</thi", "nk>", "\n\nIt `<th", "ink>` is", " 4.", "<"]
    answer = ask(sse(*map(chunk, pieces), chunk("", "stop")), deltas=deltas)
    assert answer.text == "It `<think>` is 4.<" == "".join(delta.text for delta in deltas)


@pytest.mark.parametrize(
    ("finish", "reason"),
    [("stop", "empty answer: the model only thought"),
     ("length", f"empty answer: all {OUT} tokens went into reasoning")],
)  # fmt: skip
@pytest.mark.parametrize("content", ["<think>two and two", [THOUGHT]])
@STREAMS
def test_an_answer_that_is_all_thinking_is_empty(
    ask: Ask, content: Any, finish: str, reason: str, stream: bool
) -> None:
    usage = {"prompt_tokens": IN, "completion_tokens": OUT}
    body = sse(chunk(content, usage=usage), chunk("", finish)) if stream else chat(content, finish)
    answer = ask(body, stream=stream)
    assert (answer.text, answer.finish, answer.thinking) == ("", finish, "two and two")
    assert (answer.attempts[0].status, answer.attempts[0].error) == ("weak", reason)


def test_thinking_is_not_logged_as_text(make_router: MakeRouter, server: FaultServer, requests: list[Any]) -> None:
    server.replies["first"] = Reply(chat("<think>two and two</think>It is 4."))
    router = make_router(mid=["o/first"], stream=False)
    router.route("Explain closures")
    assert "two and two" not in router.log().to_csv()
    assert list(router.log()["text"]) == ["It is 4."]


# --- one for the other: JSON for a stream, a stream for JSON, errors inside ---


@pytest.mark.parametrize("kind", ["application/json", "text/event-stream", "text/plain", ""])
@pytest.mark.parametrize("provider", ["o", "a"])
def test_json_in_the_place_of_a_stream(ask: Ask, requests: list[Any], provider: str, kind: str) -> None:
    deltas: list[Delta] = []
    body = chat() if provider == "o" else claude_whole(TEXT)
    answer = ask(body, provider, headers={"Content-Type": kind}, deltas=deltas)
    assert (answer.text, answer.finish, len(requests)) == (TEXT, "stop", 1)
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (IN, OUT)
    assert "".join(delta.text for delta in deltas) == TEXT


@pytest.mark.parametrize("provider", ["o", "a"])
def test_a_stream_in_the_place_of_json(ask: Ask, provider: str) -> None:
    assert ask(openai(TEXT, "stop", True) if provider == "o" else claude(TEXT), provider, stream=False).text == TEXT


@pytest.mark.parametrize(
    "body",
    [
        openai(TEXT, "stop", True).replace("\n", "\r\n"),
        openai(TEXT, "stop", True).replace("\n", "\r"),
        ": a comment\n\n" + openai(TEXT, "stop", True),
        "\ufeff" + openai(TEXT, "stop", True),
        openai(TEXT, "stop", True).replace("data: ", "data:"),
        openai(TEXT, "stop", True).removesuffix("\n\n"),
        openai(TEXT, "stop", True).replace('"choices"', '\ndata: "choices"'),
        "id: 1\nretry: 3\n" + openai(TEXT, "stop", True),
        "id: 1\n\n" + openai(TEXT, "stop", True),
        "retry: 3000\n\n" + openai(TEXT, "stop", True).replace("\n\n", "\n\nretry: 3\n\n"),
        "event: ping\n\n" + openai(TEXT, "stop", True),
        "data:\n\ndata: \n\n" + openai(TEXT, "stop", True),
        "data\n\n" + openai(TEXT, "stop", True),
    ],
    ids=[
        "crlf",
        "cr",
        "comment",
        "bom",
        "no-blank",
        "no-end",
        "two-lines",
        "other-fields",
        "id-alone",
        "retry-alone",
        "event-alone",
        "no-data",
        "data-without-colon",
    ],
)
def test_streams_as_the_standard_allows_them(ask: Ask, body: str) -> None:
    assert ask(Reply(body, headers={"Content-Type": "text/event-stream"})).text == TEXT


@pytest.mark.parametrize("cut", [1, 2, 3, 4, 6, 8])
@pytest.mark.parametrize("before", ["", "\ufeff", "\n\n\ufeff", " \r\n"], ids=["nothing", "bom", "lines-bom", "lines"])
@pytest.mark.parametrize("whole", [True, False], ids=["whole", "stream"])
def test_an_answer_s_beginning_in_pieces(before: str, cut: int, whole: bool) -> None:
    data = (before + (json.dumps(chat()) if whole else openai(TEXT, "stop", True))).encode()
    response = httpx2.Response(200, content=iter([data[:cut], data[cut:]]))
    values = [event.value for event in read(response, "", bounds(100)) if not event.done]
    assert values[0]["choices"][0]["message" if whole else "delta"]["content"] == TEXT


@pytest.mark.parametrize(
    "value", [{"a": [1, {"b": 'x "\\ \u00e9 \U0001f600 y'}], "c": {}}, [[], {"d": "[{"}], {"a": "\\\\"}]
)
def test_the_beginning_of_a_body_is_a_value_or_none(value: Any) -> None:
    text = json.dumps(value)
    assert wire._closed(text.encode()) == value
    for cut in range(1, len(text)):
        beginning = wire._closed(text[:cut].encode())
        assert beginning is None or type(beginning) is type(value)


def two(first: Any, second: Any, *, at: int = 1) -> dict[str, Any]:
    """Return a chunk with the pieces of two choices."""
    other = {"index": at, "delta": {"content": second}, "finish_reason": None}
    return {**(piece := chunk(first)), "choices": [*piece["choices"], other]}


@pytest.mark.parametrize(
    "pieces",
    [
        [two("It is ", "They are "), two("4.", "5.")],
        [chunk("It is "), {**chunk(), "choices": [{"index": 1, "delta": {"content": "They"}, "finish_reason": "stop"}]},
         chunk("4.")],
        [{**(one := two("It is ", "They are ")), "choices": one["choices"][::-1]}, two("4.", "5.")],
    ],
    ids=["together", "in-turn", "backwards"],
)  # fmt: skip
def test_of_interleaved_choices_the_first_is_read(ask: Ask, pieces: list[Any]) -> None:
    answer = ask(sse(*pieces, chunk(None, "stop", delta={})))
    assert (answer.text, answer.finish) == ("It is 4.", "stop")


def test_of_several_whole_choices_the_first_is_read(ask: Ask) -> None:
    body = chat("It is 4.")
    other = {"index": 1, "message": {"role": "assistant", "content": "They are 5."}, "finish_reason": "length"}
    answer = ask({**body, "choices": [other, *body["choices"]]}, stream=False)
    assert (answer.text, answer.finish) == ("It is 4.", "stop")


def test_a_choice_under_another_number(ask: Ask) -> None:
    choice = {"index": 3, "delta": {"content": TEXT}, "finish_reason": "stop"}
    assert ask(sse({**chunk(), "choices": [choice]})).text == TEXT


def test_line_separators_inside_json_end_no_line(ask: Ask) -> None:
    text = "one\u2028two\x85three"
    assert ask(f"data: {json.dumps(chunk(text, 'stop'), ensure_ascii=False)}\n\ndata: [DONE]\n\n").text == text


def test_claude_s_events_need_no_names(ask: Ask) -> None:
    body = "\n".join(line for line in claude(TEXT).split("\n") if not line.startswith("event:"))
    assert ask(body, "a").text == TEXT


CODES = [(429, "rate_limit"), (402, "quota"), (401, "auth"), (403, "forbidden"), (502, "server"), (408, "server")]


@pytest.mark.parametrize(("code", "kind"), CODES)
@pytest.mark.parametrize("shape", ["beside", "alone", "in-choice", "text", "event", "object"])
def test_an_error_inside_a_stream_is_what_its_code_says(ask: Ask, shape: str, code: int, kind: str) -> None:
    error: dict[str, Any] = {"code": code, "message": "its own words"}
    broken = {
        "beside": {**chunk("", "error"), "error": error},
        "alone": {"error": error},
        "in-choice": {**chunk(), "choices": [{"index": 0, "delta": {}, "finish_reason": "error", "error": error}]},
        "text": {"error": {"code": str(code), "message": "its own words"}},
        "event": {"type": "error", **error},
        "object": {"object": "error", **error},
    }[shape]
    attempt = ask(sse(chunk("Par"), broken, done=False), then=("a/ok",)).attempts[0]
    assert (attempt.error_kind, attempt.text) == (kind, "Par")
    assert str(attempt.error).startswith(f"{code} its own words")


@pytest.mark.parametrize("provider", ["o", "a"])
@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ({"error": {"message": "its own words", "code": 502}}, "server"),
        ({"error": {"message": "its own words", "code": 429}}, "rate_limit"),
        ({"error": {"message": "its own words: context window", "code": None}}, "context"),
        ({"error": "its own words"}, "server"),
        ({"message": "its own words", "code": 20012}, "server"),
        ({"detail": "its own words"}, "server"),
        ([{"error": {"message": "its own words", "code": 429}}], "rate_limit"),
        ({"type": "error", "error": {"type": "overloaded_error", "message": "its own words"}}, "server"),
        ({"type": "error", "error": {"type": "rate_limit_error", "message": "its own words"}}, "rate_limit"),
    ],
)
@STREAMS
def test_200_with_an_error_inside(ask: Ask, provider: str, body: Any, kind: str, stream: bool) -> None:
    answer = ask(body, provider, then=("o/ok",), stream=stream)
    attempt = answer.attempts[0]
    assert (attempt.error_kind, attempt.status) == (kind, "error")
    assert "its own words" in str(attempt.error)
    assert attempt.cost.amount == 0


@pytest.mark.parametrize("provider", ["o", "a"])
@STREAMS
def test_an_answer_without_end_is_cut(ask: Ask, provider: str, stream: bool) -> None:
    """A megabyte of gzip can be a gigabyte of text."""
    data = gzip.compress(b'{"choices": "' + b"A" * (65 * 1024 * 1024) + b'"}')
    answer = ask(Reply(data, headers={"Content-Encoding": "gzip"}), provider, then=("o/ok",), stream=stream)
    assert answer.attempts[0].error_kind == "unfinished"
    assert "an answer of more than 4 MB, which is more than the output limit explains" in str(answer.attempts[0].error)


# --- whatever comes ---

NAMES = [
    "choices", "delta", "message", "content", "text", "type", "thinking", "reasoning_content", "finish_reason", "usage",
    "prompt_tokens", "completion_tokens", "total_tokens", "prompt_tokens_details", "cached_tokens", "cost", "is_byok",
    "cost_details", "error", "code", "model", "x_groq", "content_block", "stop_reason", "input_tokens", "output_tokens",
    "refusal", "index",
]  # fmt: skip
TYPES = [
    "text",
    "thinking",
    "message_start",
    "message_delta",
    "content_block_delta",
    "message_stop",
    "error",
    "stop",
    "end_turn",
]
ODD = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 10**20) | st.floats() | st.text(max_size=8) | st.sampled_from(TYPES),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=5),
    max_leaves=15,
)


SHARED = Transport()


@given(st.lists(ODD, min_size=1, max_size=4), st.sampled_from(["openai", "anthropic", "google"]), st.booleans())
@settings(max_examples=200, deadline=None)
def test_odd_json_is_an_answer_or_a_fault(values: list[Any], sdk: str, whole: bool) -> None:
    """No shape of a response gets past the faults that the fallback knows."""
    call = Call("x", sdk, "", "m", None, (Message("user", "x"),), 100, None)
    address = "http://127.0.0.1:9/v1"

    class Odd(backend_of(sdk)):  # type: ignore[misc]
        def send(self, body: dict[str, Any], watch: Any, collector: Collector) -> None:
            for value in values:
                event = Event(value, whole=whole)
                if sdk == "openai":
                    openai_backend._take(event, collector, bills=True)
                elif sdk == "anthropic":
                    anthropic_backend._take(event, collector)
                else:
                    google_backend._take(value, event, collector)

    backend = Odd(Target(address, address, str), SHARED)
    collector = Collector(call, lambda _: None)
    with contextlib.suppress(Fault):
        backend.complete(Provider("x", sdk, address), call, Deadlines(9, 9, 9, 9), collector, {})
