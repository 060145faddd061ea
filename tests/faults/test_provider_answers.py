"""What providers answer, in their own shapes: each is a whole answer, or one clear line and nothing lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest

from ipyrouter.errors import RouteError
from ipyrouter.router import Router
from ipyrouter.types import Answer
from tests.faults.server import FaultServer, Reply, chat, chunk, claude, claude_whole, gemini, sse

SIGNATURE = {"type": "signature_delta", "signature": "c2ln"}
REDACTED = {"type": "redacted_thinking", "data": "b3BhcXVl"}
TOOL = {"type": "tool_use", "id": "t1", "name": "f", "input": {"a": 1}}
SAFE = {"hate": {"filtered": False, "severity": "safe"}}
CALLS = [{"index": 0, "id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]

Ask = Callable[[str, Any], Answer]


@pytest.fixture
def ask(server: FaultServer, requests: list[Any]) -> Iterator[Ask]:
    """Ask a server, "o" with OpenAI's protocol and "a" with Anthropic's, that gives the reply."""
    routers = []

    def run(provider: str, body: Any) -> Answer:
        server.replies["m"] = body if isinstance(body, Reply) else Reply(body)
        router = Router({"providers": {
            "o": {"sdk": "openai", "base_url": f"{server.url}/v1"}, "a": {"sdk": "anthropic", "base_url": server.url},
            "g": {"sdk": "google", "base_url": server.url, "stream": False},
        }})  # fmt: skip
        routers.append(router)
        return router.route("Explain closures", model=f"{provider}/m")

    yield run
    for router in routers:
        router.close()


def blocks(*pieces: tuple[dict[str, Any], list[dict[str, Any]]], stop: str = "end_turn", **usage: int) -> str:
    """Return a stream of Anthropic's with blocks, each as it starts and its deltas."""
    start = {"id": "x", "type": "message", "role": "assistant", "model": "m", "content": [], "stop_reason": None}
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": {**start, "usage": {"input_tokens": 9, "output_tokens": 1}}},
        {"type": "ping"},
    ]
    for index, (block, deltas) in enumerate(pieces):
        events.append({"type": "content_block_start", "index": index, "content_block": block})
        events += [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
        events.append({"type": "content_block_stop", "index": index})
    delta = {"stop_reason": stop, "stop_sequence": None}
    events += [
        {"type": "message_delta", "delta": delta, "usage": {"output_tokens": 30, **usage}},
        {"type": "message_stop"},
    ]
    return sse(*events, done=False)


def text_block(*pieces: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return a block of text and its deltas."""
    return {"type": "text", "text": ""}, [{"type": "text_delta", "text": piece} for piece in pieces]


class Expected(NamedTuple):
    """What an answer holds."""

    text: str = "Forty-two."
    thinking: str = ""
    finish: str = "stop"
    input_tokens: int | None = None
    output_tokens: int | None = None


LAST = {"prompt_tokens": 9, "completion_tokens": 30, "total_tokens": 39}
ANSWERS: dict[str, tuple[str, Any, Expected]] = {
    "refusal": (
        "o",
        sse(chunk(delta={"refusal": "I cannot "}), chunk(delta={"refusal": "help."}), chunk(finish="stop")),
        Expected("I cannot help.", finish="refusal"),
    ),
    "refusal-whole": ("o", chat(None, refusal="I cannot."), Expected("I cannot.", finish="refusal")),
    "filter": (
        "o",
        sse(chunk("Forty"), chunk(finish="content_filter", delta={})),
        Expected("Forty", finish="refusal"),
    ),
    "filter-empty": ("o", chat("", "content_filter"), Expected("", finish="refusal")),
    "azure-filters-nothing": (
        "o",
        sse(
            {**chunk(), "model": "", "choices": [], "prompt_filter_results": [{"content_filter_results": SAFE}]},
            chunk("Forty-two."),
            chunk(finish="stop", delta={}),
            {"choices": [{"index": 0, "finish_reason": None, "delta": {}, "content_filter_results": SAFE,
                          "content_filter_offsets": {"check_offset": 9}}]},
        ),
        Expected(),
    ),
    "parts": ("o", sse(chunk([{"type": "text", "text": "Forty-two."}]), chunk(finish="stop")), Expected()),
    "mistral-thinks-in-parts": (
        "o",
        sse(
            chunk([{"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]}]),
            chunk([{"type": "text", "text": "Forty-two."}]),
            chunk("", finish="stop"),
        ),
        Expected(thinking="Hm."),
    ),
    "parts-nobody-knows": (
        "o",
        chat([{"type": "hologram", "data": "…"}, {"type": "text", "text": "Forty-two."}]),
        Expected(),
    ),
    "usage-in-every-chunk": (
        "o",
        sse(
            chunk("Forty-", usage={"prompt_tokens": 9, "completion_tokens": 1, "total_tokens": 10}),
            chunk("two.", usage={"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11}),
            chunk(finish="stop", usage=LAST),
        ),
        Expected(input_tokens=9, output_tokens=30),
    ),
    "deepseek-thinks": (
        "o",
        sse(chunk(delta={"reasoning_content": "Hm."}), chunk("Forty-two."), chunk(finish="stop")),
        Expected(thinking="Hm."),
    ),
    "openrouter-thinks": (
        "o",
        sse(
            chunk(delta={"content": "", "reasoning": "Hm.", "reasoning_details": [
                {"type": "reasoning.text", "text": "Hm.", "format": "unknown", "index": 0}]}),
            chunk("Forty-two.", finish="stop", native_finish_reason="completed"),
        ),
        Expected(thinking="Hm."),
    ),
    "openrouter-is-working": (
        "o",
        ": OPENROUTER PROCESSING\n\n" + sse(chunk("Forty-two.", finish="stop")),
        Expected(),
    ),
    "tools-beside-words": (
        "o",
        chat("Forty-two.", "tool_calls", tool_calls=CALLS),
        Expected(finish="tool_calls"),
    ),
    "audio-and-annotations": (
        "o",
        chat("Forty-two.", audio=None, annotations=[{"type": "url_citation", "url_citation": {"url": "x"}}]),
        Expected(),
    ),
    "claude-thinks-and-signs": (
        "a",
        blocks(
            ({"type": "thinking", "thinking": "", "signature": ""},
             [{"type": "thinking_delta", "thinking": "Hm."}, SIGNATURE]),
            text_block("Forty-", "two."),
        ),
        Expected(thinking="Hm.", input_tokens=9, output_tokens=30),
    ),
    "claude-thinks-unseen": (
        "a",
        blocks(({"type": "thinking", "thinking": "", "signature": ""}, [SIGNATURE]), text_block("Forty-two.")),
        Expected(),
    ),
    "claude-s-redacted-thinking": ("a", blocks((REDACTED, []), text_block("Forty-two.")), Expected()),
    "claude-s-redacted-thinking-whole": ("a", claude_whole(REDACTED, "Forty-two."), Expected()),
    "claude-cites": (
        "a",
        blocks((
            {"type": "text", "text": "", "citations": []},
            [{"type": "text_delta", "text": "Forty-two."},
             {"type": "citations_delta", "citation": {"type": "char_location", "cited_text": "Sixty", "title": "x"}}],
        )),
        Expected(),
    ),
    "claude-uses-a-tool-beside-words": (
        "a",
        blocks(
            text_block("Forty-two."),
            ({**TOOL, "input": {}}, [{"type": "input_json_delta", "partial_json": '{"a": 1}'}]),
            stop="tool_use",
        ),
        Expected(finish="tool_calls"),
    ),
    "claude-s-blocks-nobody-knows": (
        "a",
        claude_whole({"type": "hologram", "data": "…"}, "Forty-two."),
        Expected(),
    ),
    "claude-s-events-nobody-knows": (
        "a",
        sse({"type": "weather", "delta": {"text": "rain"}}, done=False) + blocks(text_block("Forty-two.")),
        Expected(),
    ),
    "claude-ends-as-openai-does": ("a", claude("Forty-two.") + "data: [DONE]\n\n", Expected()),
    "claude-has-no-end-but-openai-s": ("a", claude("Forty-two.", end=False) + "data: [DONE]\n\n", Expected()),
    "gemini-ends-as-openai-does": ("g", sse(*gemini("Forty-two.")), Expected()),
    "gemini-s-picture-is-filtered": ("g", gemini("Forty", finish="IMAGE_SAFETY"), Expected("Forty", finish="refusal")),
    "moonshot-counts-in-the-choice": (
        "o",
        sse(chunk("Forty-two."),
            {**chunk(), "choices": [{"index": 0, "delta": {}, "finish_reason": "stop", "usage": LAST}]}),
        Expected(input_tokens=9, output_tokens=30),
    ),
    "a-message-that-is-a-string": (
        "o", {"choices": [{"message": "Forty-two.", "finish_reason": "stop"}]}, Expected()
    ),
    "claude-refuses-without-a-word": ("a", claude_whole(stop="refusal"), Expected("", finish="refusal")),
    "claude-s-window-is-full": (
        "a",
        claude("Forty", stop="model_context_window_exceeded"),
        Expected("Forty", finish="length"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer_is_read_whole(ask: Ask, name: str) -> None:
    provider, body, expected = ANSWERS[name]
    answer = ask(provider, body)
    assert (answer.text, answer.thinking, answer.finish) == (expected.text, expected.thinking, expected.finish)
    if expected.input_tokens is not None:
        usage = answer.usage
        assert (usage.input_tokens, usage.output_tokens) == (expected.input_tokens, expected.output_tokens)
        assert not usage.estimated


OVERLOADED = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}, "request_id": "r"}
BEFORE = claude("Forty", end=False).rpartition("event: content_block_stop")[0]
HALVES: dict[str, tuple[str, Any, str, str]] = {
    "claude-is-overloaded": ("a", BEFORE + sse(OVERLOADED, done=False), "server", "Overloaded"),
    "claude-pauses": ("a", claude("Forty", stop="pause_turn"), "unfinished", "pause_turn"),
    "a-reason-nobody-knows": ("o", sse(chunk("Forty"), chunk(finish="mood")), "unfinished", "mood"),
    "groq-fails": (
        "o",
        sse(chunk("Forty")).replace("data: [DONE]\n\n", "")
        + 'event: error\ndata: {"error": {"message": "Failed to generate", "type": "server_error"}}\n\n',
        "server",
        "Failed to generate",
    ),
    "vllm-fails": (
        "o",
        sse(chunk("Forty"), {"object": "error", "message": "Engine died", "type": "InternalServerError", "code": 500}),
        "server",
        "Engine died",
    ),
    "ollama-fails": ("o", sse(chunk("Forty"), {"error": "llama runner exited"}, done=False), "server", "runner"),
}


@pytest.mark.parametrize("name", HALVES)
def test_of_half_an_answer_nothing_is_lost(ask: Ask, name: str) -> None:
    provider, body, kind, says = HALVES[name]
    try:
        attempt = ask(provider, body).attempts[-1]
    except RouteError as error:
        attempt = error.attempts[-1]
    assert attempt.text == "Forty"
    assert attempt.error_kind == kind
    one_line(str(attempt.error), says)


NOTHING: dict[str, tuple[str, Any, str]] = {
    "tools-alone": ("o", chat(None, "tool_calls", tool_calls=CALLS), "tool calls only"),
    "claude-s-tools-alone": ("a", claude_whole(TOOL, stop="tool_use"), "tool calls only"),
    "tools-alone-by-another-name": ("o", chat(None, "stop", tool_calls=CALLS), "no content but tool_calls"),
    "claude-s-blocks-nobody-knows-alone": ("a", claude_whole({"type": "hologram", "data": "…"}), "hologram"),
    "claude-s-stream-of-blocks-nobody-knows": (
        "a",
        blocks(({"type": "hologram", "data": ""}, [{"type": "hologram_delta", "data": "…"}])),
        "hologram",
    ),
    "speech-alone": ("o", chat(None, audio={"id": "a", "data": "…", "transcript": "x"}), "no content but audio"),
    "claude-is-overloaded-at-once": ("a", sse(OVERLOADED, done=False), "Overloaded"),
    "claude-s-gateway-streams-an-error-of-its-own": (
        "a",
        sse({"errors": [{"message": "Upstream is out of capacity"}]}, done=False),
        "Upstream is out of capacity",
    ),
    "a-list": ("o", [1, 2], "is a list, which holds no answer"),
    "a-choice-of-null": ("o", {"choices": [None]}, "the server's answer is null, which holds no answer"),
    "ollama-s-own-shape": (
        "o",
        {"model": "m", "response": "Forty", "done": True},
        "holds no choices but response, done",
    ),
    "openai-s-responses": (
        "o",
        {"id": "r", "output": [{"type": "message", "content": []}]},
        "holds no choices but output",
    ),
    "gemini-s-picture-alone": (
        "g",
        {"candidates": [{"content": {"parts": [{"inlineData": {"data": "AA=="}}]}, "finishReason": "STOP"}]},
        "the answer has no content but inlineData",
    ),
    "gemini-s-own-stream": ("o", sse({"candidates": []}, {"candidates": []}), "holds no choices but candidates"),
    "fastapi-without-a-place": ("o", {"detail": [{"loc": ["body"], "msg": "Not so"}]}, "Not so"),
}


@pytest.mark.parametrize("name", NOTHING)
def test_what_holds_no_answer_is_one_clear_line(ask: Ask, name: str) -> None:
    provider, body, says = NOTHING[name]
    with pytest.raises(RouteError) as caught:
        ask(provider, body)
    one_line(str(caught.value.attempts[-1].error), says)


def one_line(error: str, says: str) -> None:
    assert says in error
    assert "\n" not in error
    assert "{" not in error
    assert len(error) < 400
