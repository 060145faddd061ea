"""Google's protocol, through google-genai: what goes out, what comes back, what its errors are."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from ipyrouter.errors import RouteError
from ipyrouter.router import Router
from ipyrouter.types import Candidate, Delta, Message, Usage
from tests.faults.server import CACHED, IN, OUT, TEXT, FaultServer, Reply, gemini, sse

MakeRouter = Callable[..., Router]
STREAMS = pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])


@pytest.fixture
def ask(make_router: MakeRouter, server: FaultServer, requests: list[Any]) -> Callable[..., Any]:
    """Ask a model of Google's that gives the reply; ``then`` are the models that stand after it in the chain."""

    def answer(body: Any, then: tuple[str, ...] = (), status: int = 200, **options: Any) -> Any:
        server.replies["first"] = body if isinstance(body, Reply) else Reply(body, status)
        of_call = ("system", "temperature", "history", "on_delta")
        call = {name: options.pop(name) for name in of_call if name in options}
        router = make_router(mid=["g/first", *then], **options)
        return router.route("Explain closures", escalate=False, **call)

    return answer


def error(code: int, message: str, status: str, *details: dict[str, Any]) -> dict[str, Any]:
    return {"error": {"code": code, "message": message, "status": status, "details": list(details)}}


# --- what goes out ---


@STREAMS
def test_a_request(ask: Any, requests: list[Any], stream: bool) -> None:
    history = [Message("user", "Hello"), Message("assistant", "Good day")]
    body = sse(*gemini(TEXT), done=False) if stream else gemini(TEXT)[0]
    answer = ask(body, stream=stream, system="Be brief.", temperature=0.5, history=history)
    assert answer.text == TEXT
    ((path, headers, sent),) = requests
    method = "streamGenerateContent?alt=sse" if stream else "generateContent"
    assert path == f"/v1/models/first:{method}"
    assert {name.lower(): value for name, value in headers.items()}["x-goog-api-key"] == "none"
    assert [(turn["role"], turn["parts"]) for turn in sent["contents"]] == [
        ("user", [{"text": "Hello"}]),
        ("model", [{"text": "Good day"}]),
        ("user", [{"text": "Explain closures"}]),
    ]
    assert sent["systemInstruction"]["parts"] == [{"text": "Be brief."}]
    assert sent["generationConfig"] == {"maxOutputTokens": 4096, "temperature": 0.5}


@pytest.mark.parametrize("variable", ["GOOGLE_GENAI_USE_VERTEXAI", "GOOGLE_GENAI_USE_ENTERPRISE"])
def test_the_environment_changes_neither_address_nor_key(
    ask: Any, requests: list[Any], monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, "true")
    monkeypatch.setenv("GOOGLE_API_KEY", "another")
    assert ask(gemini(TEXT)[0]).text == TEXT
    assert requests[0][0].startswith("/v1/models/first:")
    assert "another" not in str(requests)


def test_a_query_in_the_address_goes_along(server: FaultServer, requests: list[Any]) -> None:
    server.replies["first"] = Reply(gemini(TEXT)[0])
    router = Router({"providers": {"g": {"sdk": "google", "base_url": f"{server.url}/gate?team=a"}}})
    assert router.route("Explain closures", model="g/first").text == TEXT
    assert requests[0][0] == "/gate/v1/models/first:streamGenerateContent?alt=sse&team=a"
    router.close()


# --- what comes back ---


def test_text_arrives_in_pieces(ask: Any) -> None:
    deltas: list[Delta] = []
    answer = ask(sse(*gemini("Forty-", "two."), done=False), on_delta=deltas.append)
    assert answer.text == "Forty-two."
    assert [delta.text for delta in deltas if delta.text] == ["Forty-", "two."]


@STREAMS
def test_thoughts_are_no_part_of_the_answer(ask: Any, stream: bool) -> None:
    thought, text = {"text": "two and two", "thought": True}, {"text": "It is 4."}
    if stream:
        body: Any = sse(*gemini(thought, text), done=False)
    else:
        (body,) = gemini(text)
        body["candidates"][0]["content"]["parts"].insert(0, thought)
    answer = ask(body, stream=stream)
    assert (answer.text, answer.thinking) == ("It is 4.", "two and two")


@STREAMS
@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({"promptTokenCount": IN, "cachedContentTokenCount": CACHED, "candidatesTokenCount": OUT},
         (IN, OUT, CACHED, 0, False)),
        ({"promptTokenCount": IN, "candidatesTokenCount": OUT, "thoughtsTokenCount": 90}, (IN, OUT + 90, 0, 90, False)),
        ({"promptTokenCount": IN, "toolUsePromptTokenCount": 7, "candidatesTokenCount": OUT},
         (IN + 7, OUT, 0, 0, False)),
        ({"promptTokenCount": IN, "candidatesTokenCount": None}, (IN, 15, 0, 0, True)),
        ({"promptTokenCount": IN, "candidatesTokenCount": 0}, (IN, 15, 0, 0, True)),
        ({"promptTokenCount": 10**12, "candidatesTokenCount": 10**12}, (12, 15, 0, 0, True)),
        ({"promptTokenCount": "120", "candidatesTokenCount": -3}, (12, 15, 0, 0, True)),
        ({}, (12, 15, 0, 0, True)),
    ],
)  # fmt: skip
def test_usage(ask: Any, usage: Any, expected: tuple[Any, ...], stream: bool) -> None:
    chunks = gemini(TEXT, usage=usage)
    result = ask(sse(*chunks, done=False) if stream else chunks[0], stream=stream).usage
    counts = (
        result.input_tokens,
        result.output_tokens,
        result.cached_input_tokens,
        result.reasoning_tokens,
        result.estimated,
    )
    assert counts == expected


@STREAMS
@pytest.mark.parametrize(
    ("reason", "finish"),
    [("STOP", "stop"), ("MAX_TOKENS", "length"), *((reason, "refusal") for reason in (
        "SAFETY", "RECITATION", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII"))],
)  # fmt: skip
def test_finish_reasons(ask: Any, reason: str, finish: str, stream: bool) -> None:
    chunks = gemini(TEXT, finish=reason)
    assert ask(sse(*chunks, done=False) if stream else chunks[0], stream=stream).finish == finish


@pytest.mark.parametrize("reason", ["OTHER", "LANGUAGE", "MALFORMED_RESPONSE", "NOT_YET_INVENTED"])
def test_other_reasons_are_no_end(ask: Any, reason: str) -> None:
    answer = ask(sse(*gemini("Half of", finish=reason), done=False), then=("o/ok",))
    assert (answer.text, answer.attempts[0].error_kind) == (TEXT, "unfinished")


@STREAMS
def test_a_prompt_that_is_blocked_is_refused(ask: Any, stream: bool) -> None:
    body = {"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": {"promptTokenCount": IN}}
    assert ask(sse(body, done=False) if stream else body, stream=stream).finish == "refusal"


@pytest.mark.parametrize("shape", ["array", "bom", "no-blank", "id", "crlf"])
def test_streams_as_servers_send_them(ask: Any, shape: str) -> None:
    chunks = gemini("Forty-", "two.")
    stream = sse(*chunks, done=False)
    body: Any = {
        "array": chunks,  # without alt=sse
        "bom": "\ufeff" + stream,
        "no-blank": stream.replace("data: ", "data:"),
        "id": "id: 1\n\n" + stream,
        "crlf": stream.replace("\n", "\r\n"),
    }[shape]
    assert ask(Reply(body, headers={"Content-Type": "text/event-stream"})).text == "Forty-two."


# --- errors ---

KEY = error(400, "API key not valid. Please pass a valid API key.", "INVALID_ARGUMENT",
            {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"})  # fmt: skip
SLOW = error(429, "Resource has been exhausted (e.g. check quota).", "RESOURCE_EXHAUSTED",
             {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "15s"})  # fmt: skip


@STREAMS
@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (400, KEY, "auth"),
        (400, [KEY], "auth"),
        (400, error(400, "User location is not supported for the API use.", "FAILED_PRECONDITION"), "bad_request"),
        (400, error(400, "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).",
                    "INVALID_ARGUMENT"), "context"),
        (401, error(401, "Request had invalid authentication credentials.", "UNAUTHENTICATED"), "auth"),
        (403, error(403, "Permission denied on resource project x.", "PERMISSION_DENIED"), "forbidden"),
        (404, error(404, "models/first is not found for API version v1", "NOT_FOUND"), "not_found"),
        (429, SLOW, "rate_limit"),
        (500, error(500, "An internal error has occurred.", "INTERNAL"), "server"),
        (503, error(503, "The model is overloaded. Please try again later.", "UNAVAILABLE"), "server"),
        (504, error(504, "Deadline expired before operation could complete.", "DEADLINE_EXCEEDED"), "server"),
    ],
)  # fmt: skip
def test_errors(ask: Any, status: int, body: Any, kind: str, stream: bool) -> None:
    answer = ask(body, ("o/ok",), status, stream=stream)
    attempt = answer.attempts[0]
    assert (answer.text, attempt.error_kind) == (TEXT, kind)
    message = (body[0] if isinstance(body, list) else body)["error"]["message"]
    assert f"{status} {message}" in attempt.error


def test_an_error_inside_a_stream(ask: Any) -> None:
    chunks = gemini("Half of", finish=None)
    answer = ask(sse(*chunks, error(503, "The model is overloaded.", "UNAVAILABLE"), done=False), ("o/ok",))
    attempt = answer.attempts[0]
    assert (attempt.error_kind, attempt.text, answer.text) == ("server", "Half of", TEXT)


@pytest.mark.parametrize(
    ("delay", "seconds"), [("15s", 15), ("0.5s", 0.5), ("999999999s", 3600), ("-1s", 60), ("x", 60)]
)
def test_the_server_s_delay_is_kept(
    make_router: MakeRouter, server: FaultServer, requests: list[Any], delay: str, seconds: float
) -> None:
    body = error(429, "Slow down", "RESOURCE_EXHAUSTED", {"@type": "google.rpc.RetryInfo", "retryDelay": delay})
    server.replies["first"] = Reply(body, 429)
    router = make_router(mid=["g/first", "o/ok"])
    router.route("Explain closures")
    assert all(left is not None and left <= seconds for _, _, left in router.status())  # half a second may be over
    assert seconds < 1 or router.status()


def test_a_refused_temperature_is_left_out(ask: Any, server: FaultServer, requests: list[Any]) -> None:
    def reply(body: dict[str, Any]) -> Reply:
        if "temperature" in body["generationConfig"]:
            return Reply(error(400, "temperature is not supported by this model", "INVALID_ARGUMENT"), 400)
        return Reply(gemini(TEXT)[0])

    server.replies["first"] = reply
    router = Router({"providers": {"g": {"sdk": "google", "base_url": server.url}}})
    answer = router.route("Explain closures", model="g/first", temperature=0.1)
    assert answer.text == TEXT
    assert answer.notes == ("The temperature was left out: first does not take one.",)
    router.close()


@pytest.mark.parametrize("ending", ["/v1beta", "/v1beta/models"])
def test_a_wrong_address_is_named(server: FaultServer, requests: list[Any], ending: str) -> None:
    server.replies["first"] = Reply("404 page not found", 404)
    router = Router({"providers": {"g": {"sdk": "google", "base_url": server.url + ending}}})
    with pytest.raises(RouteError) as caught:
        router.route("Explain closures", model="g/first")
    assert f'providers.g.base_url (base_url) must end before "{ending}": {server.url}' in str(caught.value)
    router.close()


# --- with no config ---


def test_gemini_models_are_google_s(server: FaultServer, requests: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GEMINI_API_KEY", "a-key-of-google-s")
    monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", server.url)
    server.replies["gemini-3.8-flash"] = Reply(sse(*gemini(TEXT), done=False))
    router = Router()
    answer = router.route("Explain closures", model="gemini-3.8-flash")
    assert (answer.text, answer.provider) == (TEXT, "google")
    assert {name.lower(): value for name, value in requests[0][1].items()}["x-goog-api-key"] == "a-key-of-google-s"
    assert answer.cost is None  # at another address it is another service
    router.close()


def test_gemini_models_are_priced() -> None:
    router = Router()
    cost = router.pricing.cost(Candidate("google", "gemini-2.5-flash"), Usage(10**6, 10**6)).amount
    assert cost is not None
    assert cost > Decimal("0.5")
    router.close()
