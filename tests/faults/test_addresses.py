"""Addresses, proxies, certificates and deadlines: what is wrong is named, with the setting that says so."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from ipyrouter.config import Deadlines, Provider
from ipyrouter.errors import RouteError
from ipyrouter.providers.base import Call, Sent, Target
from ipyrouter.providers.faults import fault_of
from ipyrouter.providers.network import Watch, plain_address
from ipyrouter.providers.openai import OpenAIBackend
from ipyrouter.providers.transport import Transport, is_private, proxy_of
from ipyrouter.router import Router
from ipyrouter.types import Message
from tests.conftest import BriefPauses
from tests.faults.server import TEXT, FaultServer, Reply, chunk, sse

MakeRouter = Callable[..., Router]
BOTH = pytest.mark.parametrize("sdk", ["openai", "anthropic"])
STREAMS = pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
NOBODY = "http://127.0.0.1:9"  # the port of "discard": nothing listens there


@pytest.fixture
def at() -> Iterator[Callable[..., Router]]:
    """Build a router with one model at an address."""
    routers: list[Router] = []

    def build(base_url: str, sdk: str = "openai", stream: bool = True, **more: Any) -> Router:
        provider = {"sdk": sdk, "base_url": base_url, "stream": stream}
        deadlines = {"connect": 10, "first_byte": 20, "idle": 20, "total": 20}
        tiers = {"mid": {"chain": ["x/m"]}}
        settings = {"providers": {"x": provider}, "tiers": tiers, "deadlines": deadlines, **more}
        router = Router(settings, clock=BriefPauses())
        routers.append(router)
        return router

    yield build
    for router in routers:
        router.close()


def error_of(router: Router) -> str:
    with pytest.raises(RouteError) as caught:
        router.route("Explain closures")
    assert all(len(line) < 500 for line in str(caught.value).splitlines())
    return str(caught.value).splitlines()[0]


# --- which addresses go around the proxies ---


PRIVATE = (
    "localhost 127.0.0.1 127.8.9.1 [::1] 10.1.2.3 172.16.0.1 172.31.255.255 192.168.1.5 169.254.1.1 0.0.0.0 [fc00::1]"
    " [fd12:3456::1] [fe80::1%25eth0] [::ffff:10.0.0.1] gpu.local GPU.Local. gpu api.localhost"
)
PUBLIC = (
    "api.openai.com 8.8.8.8 172.32.0.1 172.15.0.1 11.0.0.1 192.169.0.1 [2001:db8::1] local.example 10.example.com"
    " 127.0.0.1.example.com xlocal.com"
)


@pytest.mark.parametrize("host", PRIVATE.split())
def test_private_hosts(host: str) -> None:
    assert is_private(f"http://{host}:8000/v1")


@pytest.mark.parametrize("host", PUBLIC.split())
def test_public_hosts(host: str) -> None:
    assert not is_private(f"https://{host}/v1")


@pytest.mark.parametrize("proxy", [NOBODY, "socks5h://127.0.0.1:9", "nonsense://127.0.0.1:9"])
@BOTH
def test_a_server_on_this_machine_needs_no_proxy(
    at: Any, server: FaultServer, requests: list[Any], monkeypatch: pytest.MonkeyPatch, sdk: str, proxy: str
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, proxy)
    url = f"{server.url}/v1" if sdk == "openai" else server.url
    assert at(url, sdk).route("Explain closures", model="x/ok").text == TEXT


def test_a_public_server_is_reached_through_the_proxy(
    at: Any, server: FaultServer, requests: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", server.url)
    assert at("http://api.example.com/v1").route("Explain closures", model="x/ok").text == TEXT
    assert requests[0][0] == "http://api.example.com/v1/chat/completions"


# --- what is said of a proxy ---


@BOTH
@STREAMS
@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
def test_a_dead_proxy_is_named(at: Any, monkeypatch: pytest.MonkeyPatch, sdk: str, stream: bool, name: str) -> None:
    monkeypatch.setenv(name, "http://user:s3cret@127.0.0.1:9")
    message = error_of(at("http://api.example.com/v1", sdk, stream))
    assert f"no connection to the proxy http://127.0.0.1:9 ({name})" in message
    assert "NO_PROXY" in message
    assert "s3cret" not in message


def test_no_proxy_is_respected(at: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", NOBODY)
    monkeypatch.setenv("NO_PROXY", "nowhere.invalid")
    message = error_of(at("http://nowhere.invalid/v1"))
    assert "the host name is not known: http://nowhere.invalid/v1/chat/completions" in message
    assert proxy_of("http://nowhere.invalid/v1") is None


@pytest.mark.parametrize(
    ("proxy", "remedy"),
    [("socks5h://u:s3cret@127.0.0.1:9", "pip install socksio"), ("x://127.0.0.1:9", "Correct or unset it")],
)
@BOTH
def test_a_proxy_that_cannot_be_used_is_named(
    at: Any, monkeypatch: pytest.MonkeyPatch, sdk: str, proxy: str, remedy: str
) -> None:
    monkeypatch.setenv("HTTP_PROXY", proxy)
    message = error_of(at("http://api.example.com/v1", sdk))
    assert f"{proxy.split(':', maxsplit=1)[0]}://127.0.0.1:9 (HTTP_PROXY)" in message
    assert remedy in message
    assert "s3cret" not in message


@STREAMS
def test_a_proxy_that_wants_a_login_is_named(
    at: Any, server: FaultServer, requests: list[Any], monkeypatch: pytest.MonkeyPatch, stream: bool
) -> None:
    monkeypatch.setenv("HTTP_PROXY", server.url)
    server.replies["m"] = Reply("<html><title>Who are you?</title></html>", 407)
    message = error_of(at("http://api.example.com/v1", stream=stream))
    assert f"407 the proxy {server.url} (HTTP_PROXY) wants a login: an HTML page (“Who are you?”)" in message


def test_a_proxy_that_does_not_connect_is_named(
    at: Any, server: FaultServer, requests: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", server.url)  # it knows no CONNECT
    message = error_of(at("https://api.example.com/v1"))
    assert f"the proxy {server.url} (HTTPS_PROXY) refuses: 501" in message


# --- certificates ---


@BOTH
def test_a_missing_certificate_file_is_named(at: Any, monkeypatch: pytest.MonkeyPatch, sdk: str) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "/nowhere/ca.pem")
    message = error_of(at("https://127.0.0.1:9/v1", sdk))
    assert "SSL_CERT_FILE names /nowhere/ca.pem, which does not exist" in message


def test_a_missing_certificate_file_hinders_no_plain_address(
    at: Any, server: FaultServer, requests: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "/nowhere/ca.pem")
    assert at(f"{server.url}/v1").route("Explain closures", model="x/ok").text == TEXT


@pytest.mark.parametrize(
    ("variable", "words"),
    [
        ("SSL_CERT_DIR", "SSL_CERT_DIR names /nowhere, which does not exist"),
        ("REQUESTS_CA_BUNDLE", "REQUESTS_CA_BUNDLE (/nowhere) is not read here; set SSL_CERT_FILE to that file"),
        ("", "for a certificate of your own network, set SSL_CERT_FILE to its authority's file"),
    ],
)
def test_a_certificate_that_is_not_known(monkeypatch: pytest.MonkeyPatch, variable: str, words: str) -> None:
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    if variable:
        monkeypatch.setenv(variable, "/nowhere")
    reason = "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: self-signed certificate (_ssl.c:1006)"
    watch = Watch(Deadlines(10, 20, 20, 20), lambda: "none", 1)
    watch.url = "https://user:s3cret@gpu.example.com/v1/chat/completions"
    call = Call("x", "openai", "", "m", None, (Message("user", "x"),), 1, None)
    sent = Sent(Provider("x", "openai", "https://gpu.example.com/v1"), call, {})
    fault = fault_of(
        httpx2.ConnectError(reason),
        OpenAIBackend(Target("https://gpu.example.com/v1", None, str), Transport()),
        sent,
        watch,
    )
    assert (fault.kind, fault.hint) == ("connect", words)
    assert fault.message == f"TLS failed at https://gpu.example.com/v1/chat/completions: {reason}"


def test_tls_with_a_server_that_speaks_none(at: Any, server: FaultServer) -> None:
    message = error_of(at(server.url.replace("http:", "https:") + "/v1"))
    assert f"TLS failed at {server.url.replace('http:', 'https:')}/v1/chat/completions" in message
    assert "does the address begin with http://?" in message


def test_an_unreadable_certificate_file_is_named(at: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("no certificate")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    assert f"SSL_CERT_FILE names {tmp_path / 'ca.pem'}: " in error_of(at("https://127.0.0.1:9/v1"))


# --- a wrong base_url ---

NOT_FOUND = [
    {"detail": "Not Found"},
    "404 page not found",
    {"error": {"message": "Invalid URL (POST /x)", "type": "invalid_request_error"}},
    {"error": {"code": "404", "message": "Resource not found"}},
    "<!DOCTYPE html><html><head><title>404 Not Found</title></head></html>",
    "",
]


@pytest.mark.parametrize("body", NOT_FOUND)
@pytest.mark.parametrize(
    ("sdk", "path", "path_asked", "words"),
    [
        ("openai", "", "/chat/completions", 'providers.x.base_url (base_url) should end in "/v1": {url}/v1'),
        ("openai", "/v1/chat/completions", "/v1/chat/completions/chat/completions",
         'providers.x.base_url (base_url) must end before "/chat/completions": {url}/v1'),
        ("openai", "/v1", "/v1/chat/completions", "is providers.x.base_url (base_url) right?"),
        ("anthropic", "/v1", "/v1/v1/messages", 'providers.x.base_url (base_url) must end before "/v1": {url}'),
        ("anthropic", "/v1/messages", "/v1/messages/v1/messages",
         'providers.x.base_url (base_url) must end before "/v1/messages": {url}'),
        ("anthropic", "", "/v1/messages", "is providers.x.base_url (base_url) right?"),
    ],
)  # fmt: skip
def test_a_404_without_a_word_on_the_model_is_the_address_s(
    at: Any, server: FaultServer, requests: list[Any], body: Any, sdk: str, path: str, path_asked: str, words: str
) -> None:
    server.replies["m"] = Reply(body, 404)
    message = error_of(at(f"{server.url}{path}", sdk))
    assert requests[0][0] == path_asked
    assert f" at {server.url}{path_asked}" in message
    assert words.format(url=server.url) in message
    assert "model's name" not in message


def test_a_404_on_the_model_is_the_model_s(at: Any, server: FaultServer, requests: list[Any]) -> None:
    server.replies["m"] = Reply({"error": {"message": "model 'm' not found"}}, 404)
    message = error_of(at(f"{server.url}/v1"))
    assert "is the model's name right?" in message
    assert "base_url" not in message


def test_an_address_that_the_environment_sets_is_named(
    server: FaultServer, requests: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test-0123456789")
    server.replies["m"] = Reply({"detail": "Not Found"}, 404)
    router = Router({"tiers": {"mid": {"chain": ["openai/m"]}}})
    assert 'OPENAI_BASE_URL (base_url) should end in "/v1"' in error_of(router)
    router.close()


@BOTH
@STREAMS
def test_lm_studio_says_it_under_200(at: Any, server: FaultServer, requests: list[Any], sdk: str, stream: bool) -> None:
    server.replies["m"] = Reply({"error": "Unexpected endpoint or method. (POST /chat/completions)"})
    message = error_of(at(server.url, sdk, stream))
    assert "Unexpected endpoint or method" in message
    assert "base_url" in message


@BOTH
@STREAMS
def test_a_page_in_the_place_of_an_answer(
    at: Any, server: FaultServer, requests: list[Any], sdk: str, stream: bool
) -> None:
    page = "<!doctype html><html><head><title>Log in to the proxy</title></head></html>"
    server.replies["m"] = Reply(page, headers={"Content-Type": "text/html"})
    message = error_of(at(f"{server.url}/v1", sdk, stream))
    assert f"an HTML page (“Log in to the proxy”) instead of an answer from {server.url}/v1/" in message


@BOTH
@STREAMS
def test_plain_text_in_the_place_of_an_answer(
    at: Any, server: FaultServer, requests: list[Any], sdk: str, stream: bool
) -> None:
    server.replies["m"] = Reply("Ollama is running")
    assert f"Ollama is running instead of an answer from {server.url}/v1" in error_of(
        at(f"{server.url}/v1", sdk, stream)
    )


def test_no_address_is_shown_with_what_is_secret_in_it(at: Any) -> None:
    message = error_of(at("http://user:s3cret@127.0.0.1:9/v1?key=s3cret"))
    assert "no connection to http://127.0.0.1:9/v1" in message
    assert "s3cret" not in message
    assert plain_address("https://u:p@host:1/a?b=c#d") == "https://host:1/a"


# --- deadlines ---


@pytest.mark.parametrize("model", ["hang", "stream-silent"])
@BOTH
def test_the_first_byte_s_deadline_is_named(make_router: MakeRouter, sdk: str, model: str) -> None:
    router = make_router(
        mid=[f"{sdk[0]}/{model}"], deadlines={"connect": 10, "first_byte": 0.2, "idle": 20, "total": 20}
    )
    assert "no answer within 0.2 s — raise deadlines.first_byte (now 0.2 s)" in error_of(router)


def test_a_tier_s_own_deadline_is_named(server: FaultServer) -> None:
    router = Router(
        {
            "providers": {"o": {"sdk": "openai", "base_url": f"{server.url}/v1"}},
            "tiers": {"mid": {"chain": ["o/hang"], "deadlines": {"first_byte": 0.2}}},
        }
    )
    assert "raise tiers.mid.deadlines.first_byte (now 0.2 s)" in error_of(router)
    router.close()


@pytest.mark.parametrize(
    ("model", "stream", "deadlines", "words"),
    [
        ("stream-stall", True, {"first_byte": 20, "idle": 0.2, "total": 20},
         "silent for 0.2 s — raise deadlines.idle (now 0.2 s)"),
        ("stream-drip", True, {"first_byte": 20, "idle": 20, "total": 0.6},
         "not finished within 0.6 s — raise deadlines.total (now 0.6 s)"),
        ("hang", False, {"first_byte": 0.2, "idle": 20, "total": 0.6},
         "not finished within 0.6 s — raise deadlines.total (now 0.6 s)"),
    ],
)  # fmt: skip
@BOTH
def test_every_other_deadline_is_named(
    make_router: MakeRouter, sdk: str, model: str, stream: bool, deadlines: dict[str, float], words: str
) -> None:
    router = make_router(mid=[f"{sdk[0]}/{model}"], stream=stream, deadlines={"connect": 10, **deadlines})
    assert words in error_of(router)


def test_the_connection_s_deadline_is_named(at: Any) -> None:
    """A full queue of a listener that accepts nobody."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        waiting = []
        for _ in range(4):
            waiting.append(socket.socket())
            waiting[-1].setblocking(False)
            waiting[-1].connect_ex(listener.getsockname())
        port = listener.getsockname()[1]
        message = error_of(at(f"http://127.0.0.1:{port}/v1", deadlines={"connect": 0.2, "first_byte": 20, "total": 20}))
        for one in waiting:
            one.close()
    assert f"no connection to http://127.0.0.1:{port}/v1/chat/completions within 0.2 s" in message
    assert "raise deadlines.connect (now 0.2 s)" in message


def test_a_model_may_think_in_silence_after_the_first_byte(make_router: MakeRouter, server: FaultServer) -> None:
    """The server says at once that it is there; the deadline between two chunks counts from the model's words on."""
    router = make_router(mid=["o/stream-thinks"], deadlines={"connect": 10, "first_byte": 20, "idle": 1, "total": 20})
    answer = router.route("Explain closures")
    assert answer.text == TEXT
    assert (answer.first_token or 0) > 1


def test_thinking_that_arrives_is_a_sign_of_life(
    make_router: MakeRouter, server: FaultServer, requests: list[Any]
) -> None:
    thoughts = [chunk(delta={"reasoning_content": "hm"}) for _ in range(3)]
    server.replies["first"] = Reply(sse(*thoughts, chunk(TEXT, "stop")))
    answer = make_router(mid=["o/first"]).route("Explain closures")
    assert answer.first_token is not None
    assert answer.thinking == "hmhmhm"


def test_the_environment_of_these_tests_has_no_proxy() -> None:
    assert not [name for name in os.environ if name.lower().endswith("_proxy")]
