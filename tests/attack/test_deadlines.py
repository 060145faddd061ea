"""No server, proxy or name server holds a call longer than its deadlines, whatever it drips; another thread can end it.

A server that is waited for too long gives a whole answer in the end, which then stands in the place of the second
candidate's: no test looks at a clock.
"""

from __future__ import annotations

import json
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ipyrouter.config import Deadlines, Provider
from ipyrouter.providers.anthropic import AnthropicBackend
from ipyrouter.providers.base import Call, Fault, Target
from ipyrouter.providers.google import GoogleBackend
from ipyrouter.providers.openai import OpenAIBackend
from ipyrouter.providers.stream import Collector
from ipyrouter.providers.transport import Transport
from ipyrouter.router import Router
from ipyrouter.types import Message
from tests.attack.hosts import ROUNDS, dripping, host, provider, response, silent
from tests.faults.server import TEXT, FaultServer, chat, chunk, claude, claude_whole, gemini, sse

pytestmark = [pytest.mark.attack, pytest.mark.wire]
MakeRouter = Callable[..., Router]
CLIENTS: dict[str, Any] = {"openai": OpenAIBackend, "anthropic": AnthropicBackend, "google": GoogleBackend}
BOTH = pytest.mark.parametrize("sdk", ["openai", "anthropic", "google"])
LATE = "It came in the end."
PROMPT = "Explain closures"
LONG = 3600.0

HEADERS = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"


def whole(sdk: str) -> bytes:
    bodies = {"openai": chat(LATE), "anthropic": claude_whole(LATE), "google": gemini(LATE)[0]}
    return json.dumps(bodies[sdk]).encode()


def streamed(sdk: str) -> str:
    google = sse(*gemini(LATE), done=False)
    return {"openai": sse(chunk(LATE, "stop")), "anthropic": claude(LATE), "google": google}[sdk]


@pytest.fixture
def ask(server: FaultServer, requests: list[Any]) -> Callable[..., Any]:
    """Ask a chain of a hostile provider and a good one; return the hostile one's fault: its kind and its words."""

    def attempt(hostile: dict[str, Any], prompt: str = PROMPT, **deadlines: float) -> Any:
        chain = {"chain": ["x/m", "o/ok"]}
        settings = {
            "providers": {"x": hostile, "o": {"sdk": "openai", "base_url": f"{server.url}/v1"}},
            "tiers": dict.fromkeys(("fast", "mid", "power"), chain),
            "deadlines": {"connect": 60, "first_byte": 60, "idle": 60, "total": 60, **deadlines},
            "routing": {"mode": "rules", "confirm_tokens": 10**9},
        }
        # The good candidate has the same deadlines, and a server that is quick.
        router = Router(settings)
        try:
            answer = router.route(prompt, escalate=False)
        finally:
            router.close()
        assert answer.text == TEXT
        fault = answer.attempts[0]
        return fault.error_kind, str(fault.error).partition(" — ")[0]  # without the advice

    return attempt


# --- before the headers are there ---


@BOTH
@pytest.mark.parametrize(
    ("deadlines", "words"),
    [({"first_byte": 2}, "no answer within 2 s"), ({"total": 2}, "not finished within 2 s")],
    ids=["first-byte", "total"],
)
def test_a_header_byte_now_and_then(ask: Any, sdk: str, deadlines: dict[str, float], words: str) -> None:
    body = whole(sdk)
    drip = dripping(b"HTTP/1.1 200 OK\r\nx: ", b"a", f"\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
    with host(drip) as address:
        fault = ask(provider(address, sdk, stream="total" not in deadlines), **deadlines)
    assert fault == ("timeout", words)


@BOTH
@pytest.mark.parametrize("drop", [b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\nx: y\r\n\r\n"])
def test_endless_informational_answers(ask: Any, sdk: str, drop: bytes) -> None:
    with host(dripping(b"", drop, response(whole(sdk)))) as address:
        fault = ask(provider(address, sdk), first_byte=2)
    assert fault == ("timeout", "no answer within 2 s")


def test_a_flood_of_informational_answers(ask: Any) -> None:
    def flood(connection: socket.socket, closing: threading.Event) -> None:
        connection.recv(65536)
        while not closing.is_set():
            connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n" * 100)

    with host(flood) as address:
        fault = ask(provider(address), first_byte=2)
    assert fault == ("timeout", "no answer within 2 s")


@BOTH
def test_a_proxy_that_drips_its_answer(ask: Any, monkeypatch: pytest.MonkeyPatch, sdk: str) -> None:
    with host(dripping(b"HTTP/1.1 200 OK\r\nx: ", b"a", b"\r\n\r\n")) as address:
        monkeypatch.setenv("HTTPS_PROXY", f"http://{address}")
        fault = ask(provider("api.example.com", sdk, scheme="https"), connect=2)
    assert fault == ("connect", f"no connection to the proxy http://{address} (HTTPS_PROXY) within 2 s")


def test_a_proxy_s_time_is_the_call_s_time(ask: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with host(dripping(b"HTTP/1.1 200 OK\r\nx: ", b"a", b"\r\n\r\n")) as address:
        monkeypatch.setenv("HTTPS_PROXY", f"http://{address}")
        fault = ask(provider("api.example.com", scheme="https"), first_byte=2)
    assert fault == ("timeout", "no answer within 2 s")


@BOTH
def test_a_slow_tls_handshake(ask: Any, sdk: str) -> None:
    record = b"\x16\x03\x03\x40\x00"  # the beginning of a handshake's record of 16 KB
    with host(dripping(record, b"\x00")) as address:
        fault = ask(provider(address, sdk, scheme="https"), connect=2)
    assert fault[0] == "connect"
    assert f"no connection to https://{address}" in fault[1]
    assert "within 2 s" in fault[1]


def test_a_slow_name_server(ask: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    resolve, answered = socket.getaddrinfo, threading.Event()

    def slow(name: Any, *arguments: Any, **options: Any) -> Any:
        if name == "slow.invalid":
            answered.wait(60)
            return resolve("127.0.0.1", *arguments, **options)
        return resolve(name, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    try:
        fault = ask(provider("slow.invalid"), connect=2)
    finally:
        answered.set()
    assert fault == ("connect", "no connection to http://slow.invalid/v1/chat/completions within 2 s")


# --- in the body ---


@BOTH
def test_a_chunk_that_never_begins(ask: Any, sdk: str) -> None:
    """Bytes that are no data are no sign of life."""
    body = streamed(sdk)
    first = HEADERS + f"Transfer-Encoding: chunked\r\n\r\n{len(body):x};"
    rest = f"\r\n{body}\r\n0\r\n\r\n"
    with host(dripping(first.encode(), b"a", rest.encode())) as address:
        fault = ask(provider(address, sdk), first_byte=2)
    assert fault == ("timeout", "no answer within 2 s")


@BOTH
def test_a_body_that_drips(ask: Any, sdk: str) -> None:
    first = HEADERS + "Connection: close\r\n\r\n: "
    with host(dripping(first.encode(), b"a", f"\n\n{streamed(sdk)}".encode())) as address:
        fault = ask(provider(address, sdk), total=2)
    assert fault == ("timeout", "not finished within 2 s")


@BOTH
def test_a_body_without_end_or_line(ask: Any, sdk: str) -> None:
    """A line that goes on as fast as it can be read: the deadline holds between two reads."""

    def endless(connection: socket.socket, closing: threading.Event) -> None:
        connection.recv(65536)
        connection.sendall(HEADERS.encode() + b"Connection: close\r\n\r\n: ")
        while not closing.is_set():
            connection.sendall(b"a")

    with host(endless) as address:
        fault = ask(provider(address, sdk), total=2)
    assert fault == ("timeout", "not finished within 2 s")


@BOTH
def test_a_server_that_reads_nothing(ask: Any, sdk: str) -> None:
    """The request is larger than what the system takes for a server that does not read."""

    def deaf(_: socket.socket, closing: threading.Event) -> None:
        closing.wait(60)

    with host(deaf) as address:
        fault = ask(provider(address, sdk), "Explain closures. " * 5 * 10**5, first_byte=2)
    assert fault == ("timeout", "no answer within 2 s")


# --- ended from another thread ---


@pytest.fixture
def cancelled() -> Iterator[Callable[..., Fault]]:
    """Cancel a call without near deadlines as soon as an event is set; return its fault."""
    transport = Transport()

    def fault_of(sdk: str, url: str, reached: threading.Event, stop: Callable[[Collector], None]) -> Fault:
        base = f"{url}/v1" if sdk == "openai" else url
        call = Call("x", sdk, base, "m", None, (Message("user", PROMPT),), 100, None)
        collector = Collector(call, lambda _: None)
        client = CLIENTS[sdk](Target(base, base, lambda: "none"), transport)
        faults: list[Fault] = []

        def run() -> None:
            try:
                client.complete(Provider("x", sdk, base), call, Deadlines(LONG, LONG, LONG, LONG), collector, {})
            except Fault as fault:
                faults.append(fault)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        assert reached.wait(60)
        stop(collector)
        thread.join(60)
        assert len(faults) == 1, "the call goes on"
        return faults[0]

    yield fault_of
    transport.close()


def holding(reached: threading.Event) -> Callable[[socket.socket, threading.Event], None]:
    """Return a server's side that takes a request, or a handshake's beginning, and says nothing."""

    def hold(connection: socket.socket, closing: threading.Event) -> None:
        connection.recv(65536)
        reached.set()
        closing.wait(60)

    return hold


@BOTH
def test_cancelled_while_the_headers_are_waited_for(cancelled: Any, sdk: str) -> None:
    reached = threading.Event()
    with host(holding(reached)) as address:
        fault = cancelled(sdk, f"http://{address}", reached, Collector.wake)
    assert (fault.kind, fault.text) == ("interrupted", "")


@BOTH
def test_cancelled_amid_the_answer(cancelled: Any, sdk: str) -> None:
    reached = threading.Event()
    half = "The first half"
    first = {"openai": sse(chunk(half), done=False), "anthropic": claude(half, end=False),
             "google": sse(*gemini(half, finish=None), done=False)}[sdk]  # fmt: skip

    def hold(connection: socket.socket, closing: threading.Event) -> None:
        connection.recv(65536)
        connection.sendall(f"{HEADERS}Connection: close\r\n\r\n{first.partition('event: message_delta')[0]}".encode())
        reached.set()
        closing.wait(60)

    def stop(collector: Collector) -> None:
        while collector.text != "The first half":
            threading.Event().wait(0.01)
        collector.wake()

    with host(hold) as address:
        fault = cancelled(sdk, f"http://{address}", reached, stop)
    assert (fault.kind, fault.text) == ("interrupted", "The first half")
    assert fault.usage is not None


@BOTH
def test_cancelled_amid_a_tls_handshake(cancelled: Any, sdk: str) -> None:
    reached = threading.Event()
    with host(holding(reached)) as address:
        fault = cancelled(sdk, f"https://{address}", reached, Collector.wake)
    assert (fault.kind, fault.usage) == ("interrupted", None)


def test_cancelled_while_a_name_is_looked_up(cancelled: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    reached, answered = threading.Event(), threading.Event()

    def hold(*_: Any, **__: Any) -> Any:
        reached.set()
        answered.wait(60)
        raise socket.gaierror("no such name")

    monkeypatch.setattr(socket, "getaddrinfo", hold)
    try:
        fault = cancelled("openai", "http://slow.invalid", reached, Collector.wake)
    finally:
        answered.set()
    assert fault.kind == "interrupted"


def test_cancelled_before_it_began(cancelled: Any) -> None:
    reached = threading.Event()
    reached.set()
    call = Call("x", "openai", "", "m", None, (Message("user", PROMPT),), 100, None)
    collector = Collector(call, lambda _: None)
    collector.wake()
    transport = Transport()
    with host(silent) as address:
        base = f"http://{address}/v1"
        client = OpenAIBackend(Target(base, base, lambda: "none"), transport)
        with pytest.raises(Fault) as caught:
            client.complete(Provider("x", "openai", base), call, Deadlines(LONG, LONG, LONG, LONG), collector, {})
    transport.close()
    assert (caught.value.kind, caught.value.usage) == ("interrupted", None)


def test_a_connection_back_in_the_pool_is_nobody_s(server: FaultServer, requests: list[Any]) -> None:
    """Cancelling a call that is over leaves the connection to the next one."""
    transport = Transport()
    base = f"{server.url}/v1"
    client = OpenAIBackend(Target(base, base, lambda: "none"), transport)
    call = Call("x", "openai", base, "ok", None, (Message("user", PROMPT),), 100, None)
    texts = []
    for _ in range(3):
        collector = Collector(call, lambda _: None)
        done = client.complete(Provider("x", "openai", base), call, Deadlines(60, 60, 60, 60), collector, {})
        collector.wake()
        texts.append(done.text)
    transport.close()
    assert texts == [TEXT] * 3


# --- TLS inside TLS ---


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 and api.example.com, and its key."""
    folder = tmp_path_factory.mktemp("tls")
    subject = "subjectAltName=IP:127.0.0.1,DNS:api.example.com"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=test", "-addext",
         subject, "-keyout", folder / "key.pem", "-out", folder / "ca.pem"],
        check=True, capture_output=True,
    )  # fmt: skip
    return folder / "ca.pem", folder / "key.pem"


class Relay:
    """A connection as BIOs: TLS on whatever carries bytes."""

    def __init__(self, context: ssl.SSLContext, receive: Callable[[], bytes], send: Callable[[bytes], None]) -> None:
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._in, self._out, server_side=True)
        self._receive, self._send = receive, send
        self._run(self._tls.do_handshake)

    def recv(self) -> bytes:
        return self._run(lambda: self._tls.read(65536))

    def send(self, data: bytes) -> None:
        self._run(lambda: self._tls.write(data))

    def _run(self, step: Callable[[], Any]) -> Any:
        while True:
            try:
                result = step()
            except ssl.SSLWantReadError:
                self._send(self._out.read())
                self._in.write(self._receive())
            else:
                self._send(self._out.read())
                return result


@pytest.mark.parametrize("held", [False, True], ids=["answers", "drips"])
def test_a_proxy_at_an_https_address(
    ask: Any, certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, held: bool
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)

    def proxy(connection: socket.socket, closing: threading.Event) -> None:
        with context.wrap_socket(connection, server_side=True) as outer:
            outer.recv(65536)
            outer.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            if held:
                outer.sendall(b"\x16\x03\x03\x40\x00")
                for _ in range(ROUNDS):
                    if closing.wait(0.1):
                        return
                    outer.sendall(b"\x00")
                return
            inner = Relay(context, lambda: outer.recv(65536), outer.sendall)
            inner.recv()
            inner.send(response(whole("openai")))
            closing.wait(60)

    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    with host(proxy) as address:
        monkeypatch.setenv("HTTPS_PROXY", f"https://{address}")
        hostile = provider("api.example.com", scheme="https", stream=False)
        if not held:
            router = Router({"providers": {"x": hostile}})
            assert router.route(PROMPT, model="x/m").text == LATE
            router.close()
            return
        fault = ask(hostile, connect=2)
    assert fault == ("connect", f"no connection to the proxy https://{address} (HTTPS_PROXY) within 2 s")
