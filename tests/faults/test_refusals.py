"""Refusals in the words of real servers: what kind each is, whether the chain goes on, and what is sent differently."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipyrouter.errors import RouteError
from ipyrouter.providers.base import Change, Parameter
from ipyrouter.providers.words import is_final, is_of_address, kind_of, read_words, refused_parameter
from ipyrouter.router import Router
from ipyrouter.types import Attempt
from tests.faults.server import TEXT, FaultServer, Reply, chat, chunk, claude, sse

MakeRouter = Callable[..., Router]
STREAMS = pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])


def e(message: str, code: Any = None, kind: Any = None, **more: Any) -> dict[str, Any]:
    return {"error": {"message": message, "code": code, "type": kind, **more}}


SENT = {
    "model": "m", "messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "x"}],
    "max_tokens": 8192, "temperature": 0.0, "stream": True, "stream_options": {"include_usage": True},
}  # fmt: skip

FOLDER = Path(__file__).parent


def lines(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (FOLDER / name).read_text("utf-8").splitlines()]


# What each means: the parameter that is refused (with the value that is sent instead), or the kind of fault; "final"
# ends the chain, "address" is a wrong base_url.
WORDS = [(line["status"], line["body"], line["means"]) for line in lines("words.jsonl")]
PARAMETERS = get_args(Parameter)


@pytest.mark.parametrize(("status", "body", "expected"), WORDS)
def test_what_the_words_of_a_server_mean(status: int | None, body: Any, expected: Any) -> None:
    words = read_words(body)
    status = status or words.status
    kind = kind_of(status, words)
    change = refused_parameter(status, words, SENT)
    if isinstance(expected, list) or expected in PARAMETERS:
        assert kind in ("bad_request", "context", "not_found", "server")  # those whose parameters are looked at
        assert change is not None
        assert expected in (change.parameter, list(change))
        return
    assert change is None or kind in ("auth", "quota", "refused", "forbidden", "rate_limit")
    final = is_final(status, kind, words)
    assert final == (expected in ("final", "refused"))
    if kind == "not_found":
        assert is_of_address(status, words, "m") == (expected == "address")
    assert kind == {"final": "bad_request", "address": "not_found"}.get(expected, expected)


@pytest.mark.parametrize(
    ("message", "sent", "limit"),
    [
        ("max_tokens is too large: 8192. This model supports at most 4096 completion tokens", 8192, 4096),
        ("max_tokens is too large: 4096. This model supports at most 4096 completion tokens", 4096, None),
        ("max_tokens must be at least 1, got 0", 8192, None),
        ("max_output_tokens: the supported range is from 1 (inclusive) to 4097 (exclusive)", 8192, 4096),
        ("max_tokens: 9000 > 4_096", 9000, 4096),
        ("max_tokens must be at most 4,096 (request 20261128123456)", 8192, 4096),
    ],
)
def test_the_limit_that_a_server_names(message: str, sent: int, limit: int | None) -> None:
    change = refused_parameter(400, read_words(e(message)), {**SENT, "max_tokens": sent})
    assert change == (None if limit is None else Change("limit", limit))


@pytest.mark.parametrize(
    ("message", "parameter"),
    [
        ("temperature参数非法", "temperature"),
        ("invalid temperature: only 0.6 is allowed for this model", "temperature"),
        ("`temperature` may only be set to 1 when thinking is enabled or in adaptive mode.", "temperature"),
        ('think value "low" is not supported for this model', "effort"),
        ('"qwen2.5" does not support thinking', "effort"),
        ("Argument not supported on this model: reasoningEffort", "effort"),
        ("json mode is not supported", "json_schema"),
        ("This response_format type is unavailable now", "json_schema"),
    ],
)
def test_a_parameter_in_the_words_of_more_servers(message: str, parameter: str) -> None:
    sent = {**SENT, "reasoning_effort": "low", "response_format": {"type": "json_schema"}}
    change = refused_parameter(400, read_words(e(message)), sent)
    assert change is not None
    assert change.parameter == parameter


@pytest.mark.parametrize(
    "body",
    [
        "",
        " ",
        None,
        7,
        [],
        {},
        [[[]]],
        {"error": None},
        {"error": {"message": None}},
        {"message": {"detail": []}},
        "\x00",
    ],
)
def test_a_server_without_words(body: Any) -> None:
    assert read_words(body).message == ""


@pytest.mark.usefixtures("collector_rests")
def test_words_are_read_to_some_depth_and_length() -> None:
    deep: Any = "deep"
    for _ in range(5000):
        deep = {"error": [deep]}
    assert read_words(deep).message == ""
    long = {"message": "x" * 10**6, "code": "y" * 10**6, "param": "z" * 10**6, "loc": ["z" * 10**6] * 100}
    assert len(read_words({"error": long}).all) < 20_000
    assert len(read_words({"errors": [{"loc": ["z"], "code": 1}] * 1000}).all) < 20_000
    assert read_words("[" * 100_000).message


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["9" * 5000, "404"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["error", "message", "detail", "msg", "loc", "code", "type", "param", "metadata", "raw", "status"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(JSON, st.sampled_from([None, 200, 400, 403, 404, 422, 429, 500]), st.sampled_from(["", "max_tokens too large "]))
def test_whatever_a_server_says_is_some_fault(body: Any, status: int | None, more: str) -> None:
    words = read_words([more, body] if more else body)
    kind = kind_of(status, words)
    refused_parameter(status, words, SENT)
    is_final(status, kind, words)
    is_of_address(status, words, "m")


# --- along the chain ---

MATRIX = lines("refusals.jsonl")


def attempts_of(router: Router) -> tuple[Attempt, ...]:
    try:
        answer = router.route("Explain closures")
    except RouteError as error:
        return error.attempts
    assert answer.text == TEXT
    return answer.attempts


@pytest.mark.parametrize("case", MATRIX, ids=[case["name"] for case in MATRIX])
@pytest.mark.parametrize(("first", "second"), [("o", "a"), ("a", "o")])
@STREAMS
def test_a_refusal_and_the_next_candidate(
    make_router: MakeRouter, server: FaultServer, requests: list[Any], first: str, second: str, stream: bool, case: Any
) -> None:
    server.replies["first"] = Reply(case["body"], case["status"])
    attempts = attempts_of(make_router(mid=[f"{first}/first", f"{second}/ok"], stream=stream))
    assert attempts[0].error_kind in case["kinds"]
    assert attempts[0].cost.amount == 0
    assert any(request[2]["model"] == "ok" for request in requests) == case["goes_on"]


KINDS = {
    401: "auth",
    402: "quota",
    403: "forbidden",
    413: "context",
    422: "bad_request",
    429: "rate_limit",
    451: "forbidden",
}
KINDS |= dict.fromkeys((408, 409, 421, 423, 424, 425, 498, 499, 500, 501, 502, 503, 504, 520, 529, 599), "server")
KINDS |= dict.fromkeys((404, 405, 410), "not_found")


@pytest.mark.parametrize("status", [*range(400, 432), 440, 444, 449, 451, 460, 494, *range(497, 505), 520, 529, 599])
def test_a_status_without_words(make_router: MakeRouter, server: FaultServer, requests: list[Any], status: int) -> None:
    server.replies["first"] = Reply(e("no"), status)
    first = attempts_of(make_router(mid=["o/first", "a/ok"]))[0]
    assert first.error_kind == ("connect" if status == 407 else KINDS.get(status, "bad_request"))
    assert (requests[-1][2]["model"] == "ok") == (status != 422)


# --- a parameter that the candidate does not take ---


def picky(
    refuses: Callable[[dict[str, Any]], tuple[int, Any] | None], provider: str
) -> Callable[[dict[str, Any]], Reply]:
    """Return a server that refuses some requests and answers the others."""

    def reply(body: dict[str, Any]) -> Reply:
        if (refusal := refuses(body)) is not None:
            return Reply(refusal[1], refusal[0])
        if provider == "a":
            return Reply(claude(TEXT))
        return Reply(sse(chunk(TEXT, "stop")) if body.get("stream") else chat())

    return reply


def openai_refuses(body: dict[str, Any]) -> tuple[int, Any] | None:
    """Refuse what OpenAI's o1 refused, one thing at a time."""
    if "max_tokens" in body:
        words = (
            "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
        )
        return 400, e(words, "unsupported_parameter", "invalid_request_error", param="max_tokens")
    if "temperature" in body:
        return 400, e("Unsupported value: 'temperature' does not support 0 with this model.", "unsupported_value",
                      "invalid_request_error", param="temperature")  # fmt: skip
    if body["messages"][0]["role"] == "system":
        return 400, e("Unsupported value: 'messages[0].role' does not support 'system' with this model.",
                      "unsupported_value", param="messages[0].role")  # fmt: skip
    if body.get("stream_options"):
        return 422, {"detail": [{"loc": ["body", "stream_options"], "msg": "Extra inputs are not permitted"}]}
    if body.get("stream"):
        return 400, e("Your organization must be verified to stream this model.", "unsupported_value", param="stream")
    if body["max_completion_tokens"] > 2000:
        return 400, e("max_completion_tokens is too large: 4096. This model supports at most 2000 completion tokens")
    return None


def test_what_a_model_refuses_is_left_out_and_remembered(
    make_router: MakeRouter, server: FaultServer, requests: list[Any]
) -> None:
    server.replies["first"] = picky(openai_refuses, "o")
    router = make_router(mid=["o/first", "a/ok"])
    answer = router.route("Explain closures", system="Be brief.", temperature=0.0)
    assert (answer.text, answer.model, answer.fallback_from) == (TEXT, "first", None)
    assert [attempt.status for attempt in answer.attempts] == [*["error"] * 6, "ok"]
    assert all("sent again" in str(attempt.error) for attempt in answer.attempts[:-1])
    assert requests[-1][2] == {
        "model": "first",
        "messages": [{"role": "user", "content": "Be brief.\n\nExplain closures"}],
        "max_completion_tokens": 2000,
    }
    notes = {
        "The temperature was left out: first does not take one.",
        "The system prompt was put before the first message: first takes none of its own.",
        "The output limit was lowered from 4,096 to 2,000 tokens, first's most.",
    }
    assert set(answer.notes) == notes
    assert router.status() == []

    again = router.route("Explain generators", system="Be brief.", temperature=0.0)
    assert len(again.attempts) == 1
    assert set(again.notes) == notes  # it was asked for again, and left out again
    plain = router.route("Explain decorators", max_output_tokens=100)
    assert (len(plain.attempts), plain.notes) == (1, ())
    assert "max_completion_tokens" in requests[-1][2]

    router.reset()
    assert len(router.route("Explain closures again", temperature=0.0).attempts) > 1


@pytest.mark.parametrize("parameter", ["temperature", "max_tokens"])
@pytest.mark.parametrize("provider", ["o", "a"])
@STREAMS
def test_a_server_that_always_refuses_is_asked_once_more(
    make_router: MakeRouter, server: FaultServer, requests: list[Any], provider: str, parameter: str, stream: bool
) -> None:
    server.replies["first"] = Reply(
        e(f"{parameter} is too large: it must be at most 100", None, "invalid_request_error"), 400
    )
    other = "a" if provider == "o" else "o"
    answer = make_router(mid=[f"{provider}/first", f"{other}/ok"], stream=stream).route("Explain", temperature=0.0)
    assert answer.text == TEXT
    assert [request[2]["model"] for request in requests] == ["first", "first", "ok"]


def test_the_other_name_of_the_limit_both_ways(
    make_router: MakeRouter, server: FaultServer, requests: list[Any]
) -> None:
    def refuses(body: dict[str, Any]) -> tuple[int, Any] | None:
        if "max_completion_tokens" in body:
            return 400, e("Unrecognized request argument supplied: max_completion_tokens")
        return None

    server.replies["first"] = picky(refuses, "o")
    router = make_router(mid=["o/first"])
    assert len(router.route("Explain closures").attempts) == 1
    router._clients.change(router.config.tiers["mid"].chain[0], Change("limit_name", "max_completion_tokens"))
    answer = router.route("Explain generators")
    assert len(answer.attempts) == 2
    assert "max_tokens" in requests[-1][2]


def test_a_system_prompt_that_the_template_does_not_know(
    make_router: MakeRouter, server: FaultServer, requests: list[Any]
) -> None:
    def refuses(body: dict[str, Any]) -> tuple[int, Any] | None:
        if body["messages"][0]["role"] == "system":
            return 400, {
                "object": "error",
                "message": "Conversation roles must alternate user/assistant/user/assistant/...",
            }
        return None

    server.replies["first"] = picky(refuses, "o")
    answer = make_router(mid=["o/first"]).route("Explain closures", system="Be brief.")
    assert answer.text == TEXT
    assert requests[-1][2]["messages"] == [{"role": "user", "content": "Be brief.\n\nExplain closures"}]


def test_another_maker_s_server_gets_the_temperature(
    make_router: MakeRouter, server: FaultServer, requests: list[Any]
) -> None:
    make_router(mid=["a/ok"]).route("Explain closures", temperature=0.5)
    assert requests[-1][2]["temperature"] == 0.5


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@STREAMS
def test_claude_gets_no_temperature(
    server: FaultServer, requests: list[Any], monkeypatch: pytest.MonkeyPatch, temperature: float, stream: bool
) -> None:
    """The SDK asks for a version of the API that knows none: one call, with a note."""
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-test-0123456789")
    monkeypatch.setenv("ANTHROPIC_BASE_URL", server.url)
    server.replies["claude-haiku-5-5"] = picky(
        lambda body: (400, e("temperature: Extra inputs are not permitted")) if "temperature" in body else None, "a"
    )
    router = Router({"providers": {"anthropic": {"stream": stream}}})
    answer = router.route("hello", tier="fast", temperature=temperature)
    assert (answer.text, answer.model) == (TEXT, "claude-haiku-5-5")
    assert "The temperature was left out: claude-haiku-5-5 does not take one." in answer.notes
    assert requests[0][1]["anthropic-version"] >= "2026-10-21"
    assert len(requests) == 1
    router.close()


# --- what switches off a provider ---


@pytest.mark.parametrize(
    "body",
    [
        e("Project `proj_1` does not have access to model `first`", "model_not_found", "invalid_request_error"),
        {
            "type": "error",
            "error": {"type": "permission_error", "message": "You are not allowed to sample from this model"},
        },
        e("Country, region, or territory not supported", "unsupported_country_region_territory"),
        e("This model is not available in your region or tier."),
        "Forbidden",
    ],
)
@pytest.mark.parametrize("provider", ["o", "a"])
def test_a_403_for_one_model_switches_off_that_model_alone(
    make_router: MakeRouter, server: FaultServer, requests: list[Any], provider: str, body: Any
) -> None:
    server.replies["first"] = Reply(body, 403)
    router = make_router(mid=[f"{provider}/first", f"{provider}/ok"])
    answer = router.route("Explain closures")
    assert (answer.model, answer.attempts[0].error_kind) == ("ok", "forbidden")
    router.route("Explain generators")
    assert [request[2]["model"] for request in requests] == ["first", "ok", "ok"]
    assert [name for name, _, left in router.status() if left is None] == [f"{provider}/first"]


@pytest.mark.parametrize(
    ("status", "message"), [(401, "Unauthorized"), (403, "Invalid API key"), (400, "API key not valid")]
)
def test_a_wrong_key_switches_off_all_of_its_models(
    make_router: MakeRouter, server: FaultServer, requests: list[Any], status: int, message: str
) -> None:
    server.replies["first"] = Reply(e(message), status)
    router = make_router(mid=["o/first", "o/ok", "a/ok"])
    assert router.route("Explain closures").provider == "a"
    assert [request[2]["model"] for request in requests] == ["first", "ok"]
    assert router.status()[0][0] == "o"


@pytest.mark.parametrize("wait", ["9" * 400, "3000000000", "86400"])
def test_no_server_can_send_a_model_away_for_long(
    make_router: MakeRouter, server: FaultServer, requests: list[Any], wait: str
) -> None:
    server.replies["first"] = Reply(e("Slow down"), 429, {"Retry-After": wait})
    router = make_router(mid=["o/first", "a/ok"])
    router.route("Explain closures")
    ((_, _, left),) = router.status()
    assert left is not None
    assert left <= 3600


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"detail": "Token expired on Monday"}, "Token expired on Monday"),
        ({"detail": [{"loc": ["body", "n"], "msg": "must be at most 512"}]}, "n: must be at most 512"),
        ([{"error": {"code": 400, "message": "A field is odd", "status": "INVALID_ARGUMENT"}}], "A field is odd"),
        ({"error": "a plain word"}, "a plain word"),
        ({"message": "A field is odd"}, "A field is odd"),
        ({"error": {"message": {"detail": [{"msg": "nested"}]}}}, "nested"),
        ({"errors": [{"message": "one"}, {"message": "two"}]}, "one; two"),
        ({"error": "invalid_grant", "error_description": "It is odd"}, "It is odd"),
        ({"error": {"message": "Provider error", "metadata": {"raw": "It is odd"}}}, "Provider error: It is odd"),
        ({"error": {"message": '{"error": {"message": "inside"}}'}}, "inside"),
        ("upstream connect error or disconnect", "upstream connect error or disconnect"),
        ("<html><head><title>502 Bad &amp; sorry</title></head></html>", "an HTML page (“502 Bad & sorry”)"),
        ({"fault": {"faultstring": "It is odd"}}, "It is odd"),
        ("", "Forbidden"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("provider", ["o", "a"])
def test_the_server_s_own_words(
    make_router: MakeRouter, server: FaultServer, requests: list[Any], provider: str, body: Any, words: str
) -> None:
    server.replies["first"] = Reply(body, 403)
    with pytest.raises(RouteError) as caught:
        make_router(mid=[f"{provider}/first"]).route("Explain closures")
    assert str(caught.value).startswith(f"{provider}/first: 403 ")
    assert words in str(caught.value)
    assert "{" not in str(caught.value)
