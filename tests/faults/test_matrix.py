"""Every fault, through both SDKs, streaming and not: what the user sees, what the log holds, what is cached."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ipyrouter.errors import RouteError
from ipyrouter.providers.base import Call
from ipyrouter.providers.stream import Collector
from ipyrouter.router import Router
from ipyrouter.types import Delta, Message, Usage
from tests.conftest import BriefPauses
from tests.faults.server import STATUS, TEXT, FaultServer

MakeRouter = Callable[..., Router]

# behaviour → the kinds that may be logged: (streaming, whole). SDKs differ in how far they read a broken answer.
FAULTS: dict[str, tuple[set[str], set[str]]] = {
    "status-400-context": ({"context"}, {"context"}),
    "status-401": ({"auth"}, {"auth"}),
    "status-403": ({"forbidden"}, {"forbidden"}),
    "status-404": ({"not_found"}, {"not_found"}),
    "status-429": ({"rate_limit"}, {"rate_limit"}),
    "status-429-30": ({"rate_limit"}, {"rate_limit"}),
    "status-429-date": ({"rate_limit"}, {"rate_limit"}),
    "status-429-quota": ({"quota"}, {"quota"}),
    "status-500": ({"server"}, {"server"}),
    "status-502": ({"server"}, {"server"}),
    "status-503": ({"server"}, {"server"}),
    "status-529": ({"server"}, {"server"}),
    "reset": ({"broken_stream"}, {"broken_stream"}),
    "hang": ({"timeout"}, {"timeout"}),
    "malformed": ({"malformed", "broken_stream"}, {"malformed"}),
    "truncated": ({"broken_stream"}, {"broken_stream"}),
    "html": ({"malformed"}, {"malformed"}),
    "empty-choices": ({"malformed"}, {"malformed"}),
    "missing-choices": ({"malformed"}, {"malformed"}),
    "none-content": ({"malformed"}, {"malformed"}),
    "tool-calls": ({"malformed"}, {"malformed"}),
    "stream-reset": ({"broken_stream"}, {"broken_stream"}),
    "stream-end": ({"broken_stream"}, set()),
    "stream-stall": ({"timeout"}, {"timeout"}),
    "stream-silent": ({"timeout"}, set()),
    "stream-drip": ({"timeout"}, set()),
    "stream-error": ({"server"}, set()),
    "stream-broken-line": ({"malformed", "broken_stream"}, set()),
}
PARTIAL = (
    "malformed",
    "truncated",
    "stream-reset",
    "stream-end",
    "stream-stall",
    "stream-drip",
    "stream-error",
    "stream-broken-line",
)
BOTH = [("o", "a"), ("a", "o"), ("g", "o")]
# Short where a deadline is what is tested, and yet long enough for the second candidate on a busy machine.
SOON: dict[str, dict[str, float]] = {
    **{name: {"first_byte": 2, "idle": 2, "total": 4} for name in ("hang", "stream-stall", "stream-silent")},
    "stream-drip": {"first_byte": 20, "idle": 20, "total": 3},
}


def faulty(make_router: MakeRouter, behaviour: str, first: str, second: str, stream: bool) -> Router:
    deadlines = {"deadlines": {"connect": 10, **SOON[behaviour]}} if behaviour in SOON else {}
    return make_router(mid=[f"{first}/{behaviour}", f"{second}/ok"], stream=stream, **deadlines)


CASES = [
    pytest.param(behaviour, stream, id=f"{behaviour}-{'stream' if stream else 'whole'}")
    for behaviour, kinds in FAULTS.items()
    for stream in (True, False)
    if kinds[0 if stream else 1]  # some faults are of streams only
]


@pytest.mark.parametrize(("behaviour", "stream"), CASES)
@pytest.mark.parametrize(("first", "second"), BOTH, ids=["openai", "anthropic", "google"])
def test_the_next_candidate_answers(
    make_router: MakeRouter, behaviour: str, first: str, second: str, stream: bool
) -> None:
    kinds = FAULTS[behaviour][0 if stream else 1]
    router = faulty(make_router, behaviour, first, second, stream)
    deltas: list[Delta] = []
    answer = router.route("Explain closures", on_delta=deltas.append)

    assert answer.text == TEXT == "".join(d.text for d in deltas if d.attempt == 2)
    assert (answer.provider, answer.model, answer.finish) == (second, "ok", "stop")
    assert answer.fallback_from == f"{first}/{behaviour}"

    log = router.log()
    assert list(log["model"]) == [behaviour, "ok"]
    assert log["error_kind"][0] in kinds
    assert log["error"][0]
    partial = stream and behaviour in PARTIAL
    assert list(log["status"]) == ["partial" if partial else "error", "ok"]
    if partial:  # what was spent on it is logged, as the estimate that it is
        assert log["cost_pico"][0] > 0
        assert log["estimated"][0]
        assert TEXT.startswith(log["text"][0])
        assert "".join(d.text for d in deltas if d.attempt == 1) == log["text"][0]
    assert answer.cost is not None
    assert log["cost_pico"].sum() == answer.cost * 10**12

    again = router.route("Explain closures")
    assert (again.cached, again.text, again.model) == (True, TEXT, "ok")


@pytest.mark.parametrize(("first", "second"), BOTH, ids=["openai", "anthropic", "google"])
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
def test_a_plain_400_is_the_requests_own_fault(
    make_router: MakeRouter, requests: list[Any], first: str, second: str, stream: bool
) -> None:
    router = faulty(make_router, "status-400", first, second, stream)
    with pytest.raises(RouteError, match="400 messages: at least one is required"):
        router.route("Explain closures")
    assert len(requests) == 1
    assert list(router.log()["status"]) == ["error"]
    assert router.status() == []


@pytest.mark.parametrize("provider", ["o", "a", "g"])
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
@pytest.mark.parametrize(
    ("behaviour", "finish", "status"),
    [("refusal", "refusal", "refused"), ("length", "length", "weak"), ("empty", "stop", "weak")],
)
def test_outcomes_that_are_no_faults(
    make_router: MakeRouter, provider: str, stream: bool, behaviour: str, finish: str, status: str
) -> None:
    router = make_router(mid=[f"{provider}/{behaviour}", "o/ok"], stream=stream)
    answer = router.route("Explain closures", escalate=False)
    assert (answer.finish, answer.model) == (finish, behaviour)
    assert list(router.log()["status"]) == [status]
    assert router.status() == []
    assert not router.route("Explain closures", escalate=False).cached


@pytest.mark.parametrize("provider", ["o", "a", "g"])
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
def test_missing_usage_is_estimated_and_marked(make_router: MakeRouter, provider: str, stream: bool) -> None:
    router = make_router(mid=[f"{provider}/no-usage"], stream=stream)
    answer = router.route("Explain closures")
    assert answer.usage.estimated
    assert answer.usage.input_tokens > 0
    assert answer.usage.output_tokens > 0
    assert answer.cost
    assert router.log()["estimated"][0]


@pytest.mark.parametrize("sdk", ["openai", "anthropic", "google"])
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://127.0.0.1:1/v1", "no connection"),
        ("http://nowhere.invalid/v1", "host name is not known"),
        ("https://127.0.0.1:{port}/v1", "TLS failed"),
    ],
    ids=["refused", "dns", "tls"],
)
def test_no_connection(
    make_router: MakeRouter, server: FaultServer, sdk: str, stream: bool, url: str, message: str
) -> None:
    address = url.format(port=server.url.rsplit(":", 1)[1])
    router = make_router(mid=["o/ok"], stream=stream)
    providers = {
        "x": {"sdk": sdk, "base_url": address, "stream": stream},
        "o": {"sdk": "openai", "base_url": f"{server.url}/v1"},
    }
    router = Router({"providers": providers, "tiers": {"mid": {"chain": ["x/m", "o/ok"]}}})
    answer = router.route("Explain closures")
    assert answer.text == TEXT
    log = router.log()
    assert log["error_kind"][0] == "connect"
    assert message in log["error"][0]
    assert log["cost_pico"][0] == 0
    router.close()


@pytest.mark.parametrize("behaviour", STATUS)
def test_no_message_of_a_server_shows_the_key(
    server: FaultServer, monkeypatch: pytest.MonkeyPatch, behaviour: str
) -> None:
    """Even a server that echoes the key: its message stands in the log and the error."""
    monkeypatch.setitem(STATUS, "echo", (STATUS[behaviour][0], {"message": "no such key: sk-echoed-secret"}, {}))
    monkeypatch.setenv("ECHO_API_KEY", "sk-echoed-secret")
    provider = {"sdk": "openai", "base_url": f"{server.url}/v1", "key": "ECHO_API_KEY"}
    settings = {"providers": {"e": provider}, "tiers": {"mid": {"chain": ["e/echo"]}}, "deadlines": {"total": 20}}
    router = Router(settings, clock=BriefPauses())
    with pytest.raises(RouteError) as caught:
        router.route("Explain closures")
    assert "no such key: …" in str(caught.value)
    assert "sk-echoed-secret" not in str(caught.value) + router.log().to_csv()
    router.close()


@pytest.mark.parametrize("provider", ["o", "a", "g"])
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
def test_halves_of_characters_cost_no_answer(make_router: MakeRouter, provider: str, stream: bool) -> None:
    router = make_router(mid=[f"{provider}/halves"], stream=stream)
    deltas: list[Delta] = []
    answer = router.route("Explain closures", on_delta=deltas.append)
    assert answer.text == "A face, in \U0001f600 two pieces, and half of one: \ufffd."
    assert list(router.log()["text"]) == [answer.text]
    assert not stream or "".join(d.text for d in deltas) == answer.text


def test_halves_of_characters_in_the_history(make_router: MakeRouter, requests: list[Any]) -> None:
    make_router().route("Explain closures", history=[Message("user", "a \ud83d"), Message("assistant", "b")])
    assert requests[0][2]["messages"][0]["content"] == "a \ufffd"


@pytest.mark.parametrize(
    ("reported", "sound"),
    [
        (Usage(120, 30, 20, 10, 5), Usage(120, 30, 20, 10, 5)),
        (Usage(120, -30), Usage(120, 3, estimated=True)),
        (Usage(120, 10**30), Usage(120, 3, estimated=True)),
        (Usage(120, 30, 121), Usage(120, 30, estimated=True)),
        (Usage(120, 30, 100, 21), Usage(120, 30, 100, estimated=True)),
        (Usage(120, "30"), Usage(120, 3, estimated=True)),  # type: ignore[arg-type]
        (Usage(120.5, 30), Usage(12, 30, estimated=True)),  # type: ignore[arg-type]
    ],
)
def test_a_usage_that_cannot_be_is_an_estimate(reported: Usage, sound: Usage) -> None:
    call = Call("o", "openai", "", "ok", None, (Message("user", "Explain closures"),), 100, None)
    collector = Collector(call, lambda _: None)
    collector.accepted, collector.usage, collector.finish = True, reported, "stop"
    collector.add("Ten letters")
    assert collector.complete().usage == sound
