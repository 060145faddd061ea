"""One HTTP transport for every SDK client, with the deadlines that the SDKs do not keep.

httpx2 knows a connect and a read timeout. A call has four deadlines: connect, first byte, idle between chunks, total.
The first two before the headers are httpx2's; from the headers on a watchdog thread shuts the socket down when a
deadline passes, so that a blocked read on the main thread returns at once.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import socket
import threading
import time
import urllib.request
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import httpx2

from ipyrouter.config import Deadlines
from ipyrouter.errors import ConfigError

Phase = Literal["first byte", "idle", "total"]

PLACEHOLDER = "the-transport-adds-the-key"
"""What the SDK clients hold instead of a key; the real one is put in when a request leaves, and kept in no object."""

_PRIVATE = tuple(
    ipaddress.ip_network(network)
    for network in (
        "127.0.0.0/8", "0.0.0.0/32", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16",
        "::1/128", "fc00::/7", "fe80::/10",
    )
)  # fmt: skip

_LINGER = 30.0  # seconds without a call after which the watchdog thread ends


class Watch:
    """The deadlines of one call, and how to get its key. ``expired`` names the deadline that passed."""

    def __init__(self, deadlines: Deadlines, secret: Callable[[], str], sooner: Callable[[], None]) -> None:
        self.secret = secret
        self._sooner = sooner
        self._idle = deadlines.idle
        now = time.monotonic()
        self._end = now + deadlines.total
        self._phase: Phase = "first byte"
        self._socket: socket.socket | None = None
        self.deadlines = deadlines
        self._first = min(now + deadlines.first_byte, self._end)
        self.limit = self._first
        self.expired: Phase | None = None
        self.sent = False  # the whole request has left: from now on it may be billed
        self._method = b""
        self.url = ""  # where the request went
        self._answering = False

    @property
    def address(self) -> str:
        """Where the request went, without anything that is secret."""
        return plain_address(self.url)

    def timeout(self) -> httpx2.Timeout:
        """Return httpx2's timeouts for the time until the headers."""
        remaining = max(self.limit - time.monotonic(), 0.001)
        return httpx2.Timeout(remaining, connect=min(self.deadlines.connect, remaining))

    def attach(self, sock: socket.socket) -> None:
        """Tell which socket the answer comes through."""
        self._socket = sock

    def trace(self, event: str, info: dict[str, Any]) -> None:
        """Note what httpx2's connection does: the request's body is out, that of a proxy's CONNECT is none."""
        if event.endswith(".send_request_body.started"):
            self._method = info["request"].method
        elif event.endswith(".send_request_body.complete"):
            self.sent = self._method != b"CONNECT"

    def detach(self) -> None:
        """Let go of the socket: the call is over, and the connection belongs to the pool alone."""
        self._socket = None

    def touch(self) -> None:
        """Note that a chunk came. The idle deadline counts from the model's first words on.

        Before them the server may say that it is there, and the model may think in silence for as long as the deadline
        of the first byte allows.
        """
        idle = time.monotonic() + self._idle
        if not self._answering and idle < self._first:
            return
        self._phase = "idle" if idle < self._end else "total"
        self.limit = min(idle, self._end)

    def answering(self) -> None:
        """Note that the model has begun to write: the next deadline may be sooner than the first byte's."""
        self._answering = True
        self.touch()
        self._sooner()

    def expire(self) -> None:
        """Wake the blocked reader: its socket is shut down."""
        self.expired = "total" if self.limit >= self._end else self._phase
        self.limit = float("inf")
        if self._socket is not None:
            with contextlib.suppress(OSError):
                # Not SSLSocket.shutdown, which would drop the TLS layer under the reader.
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)


class _Watchdog:
    """A thread that expires watches; it starts with the first and ends when there has been none for a while."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._watches: set[Watch] = set()
        self._thread: threading.Thread | None = None
        self._wakes = float("inf")

    def add(self, watch: Watch) -> None:
        with self._condition:
            self._watches.add(watch)
            if self._thread is None or not self._thread.is_alive():  # not alive: ended, or this is a forked child
                self._thread = threading.Thread(target=self._run, name="ipyrouter-deadlines", daemon=True)
                self._thread.start()
            elif watch.limit < self._wakes:
                self._condition.notify()

    def remove(self, watch: Watch) -> None:
        with self._condition:
            self._watches.discard(watch)

    def wake(self) -> None:
        with self._condition:
            self._condition.notify()

    def _run(self) -> None:
        with self._condition:
            quiet_since = time.monotonic()
            while True:
                now = time.monotonic()
                for watch in self._watches:
                    if watch.limit <= now:
                        watch.expire()
                if self._watches:
                    quiet_since = now
                elif now - quiet_since >= _LINGER:
                    self._thread = None
                    return
                self._wakes = min((watch.limit for watch in self._watches), default=now + _LINGER)
                self._condition.wait(min(max(self._wakes - now, 0.0), _LINGER))


class _GuardedStream(httpx2.SyncByteStream):
    """A response's body that reports each chunk to the watch."""

    def __init__(self, inner: httpx2.SyncByteStream, watch: Watch) -> None:
        self._inner = inner
        self._watch = watch

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self._inner:
            self._watch.touch()
            yield chunk

    def close(self) -> None:
        self._inner.close()


def _close(clients: dict[tuple[bool, bool], httpx2.Client]) -> None:
    for client in clients.values():
        client.close()
    clients.clear()


class Transport:
    """The shared HTTP clients: through the environment's proxies, or around them for addresses of a private network."""

    def __init__(self) -> None:
        self._watchdog = _Watchdog()
        self._local = threading.local()
        self._lock = threading.Lock()
        self._clients: dict[tuple[bool, bool], httpx2.Client] = {}
        # A router that nobody closed, or that lost its last name, leaves no open connection behind.
        weakref.finalize(self, _close, self._clients)

    def client(self, address: str) -> httpx2.Client:
        """Return the shared client for an address: one that goes through the environment's proxies, or around them.

        Raises ConfigError where the environment names a proxy or a certificate file that cannot be used.
        """
        around, secure = is_private(address), address.startswith("https:")
        with self._lock:
            if (around, secure) not in self._clients:
                self._clients[around, secure] = self._build(around=around, secure=secure)
            return self._clients[around, secure]

    def _build(self, *, around: bool, secure: bool) -> httpx2.Client:
        limits = httpx2.Limits(max_connections=100, max_keepalive_connections=20, keepalive_expiry=60)
        try:
            return httpx2.Client(
                # A transport of one's own knows no proxies, but the environment's certificates.
                transport=httpx2.HTTPTransport(trust_env=secure, limits=limits) if around else None,
                trust_env=not around,
                follow_redirects=False,  # a key must not follow to another address
                limits=limits,
                event_hooks={"request": [self._add_key], "response": [self._guard]},
            )
        except ImportError:
            raise ConfigError(_proxies(), "A SOCKS proxy needs a package: pip install socksio. Or unset it.") from None
        except ValueError:
            raise ConfigError(_proxies(), "That is not the address of a proxy. Correct or unset it.") from None
        except OSError as error:  # ssl.SSLError is one as well
            reason = error.strerror or str(error)
            raise ConfigError(f"{certificates()}: {reason}.", "Correct or unset that variable.") from None

    @contextlib.contextmanager
    def watch(self, deadlines: Deadlines, secret: Callable[[], str]) -> Iterator[Watch]:
        """Watch over the call that this thread makes inside the block."""
        watch = Watch(deadlines, secret, self._watchdog.wake)
        self._local.watch = watch
        self._watchdog.add(watch)
        try:
            yield watch
        finally:
            self._watchdog.remove(watch)
            self._local.watch = None
            watch.detach()

    def close(self) -> None:
        """Close all connections."""
        with self._lock:
            _close(self._clients)

    def _add_key(self, request: httpx2.Request) -> None:
        watch: Watch | None = getattr(self._local, "watch", None)
        if watch is not None:
            request.extensions["trace"] = watch.trace
            watch.url = str(request.url)
        for name in ("authorization", "x-api-key"):
            if watch is not None and PLACEHOLDER in (value := request.headers.get(name, "")):
                request.headers[name] = value.replace(PLACEHOLDER, watch.secret())

    def _guard(self, response: httpx2.Response) -> None:
        watch: Watch | None = getattr(self._local, "watch", None)
        if watch is None or not isinstance(response.stream, httpx2.SyncByteStream):
            return
        if (stream := response.extensions.get("network_stream")) is not None:
            watch.attach(stream.get_extra_info("socket"))
        # Past the headers the watchdog is the judge; httpx2's own timeout must not fire before it.
        response.request.extensions["timeout"]["read"] = watch.deadlines.total + 1
        response.stream = _GuardedStream(response.stream, watch)


def plain_address(url: str) -> str:
    """Return an address without a user, a password or a query in it."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def is_private(url: str) -> bool:
    """Tell whether an address is on this machine or in a private network, where no proxy stands in between."""
    host = (urlsplit(url).hostname or "").rstrip(".").partition("%")[0]
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        return "." not in host or host.endswith((".local", ".localhost"))
    ip = getattr(ip, "ipv4_mapped", None) or ip
    return any(ip in network for network in _PRIVATE)


def proxy_of(url: str) -> str | None:
    """Return the proxy that requests to an address go through, in words, or None."""
    parts = urlsplit(url)
    if is_private(url) or urllib.request.proxy_bypass(parts.hostname or ""):
        return None
    proxies = urllib.request.getproxies()
    scheme = next((scheme for scheme in (parts.scheme, "all") if proxies.get(scheme)), None)
    if scheme is None:
        return None
    proxy = proxies[scheme]
    variable = next((name for name in (f"{scheme}_proxy", f"{scheme}_proxy".upper()) if os.environ.get(name)), "")
    return (
        f"the proxy {plain_address(proxy if '://' in proxy else f'http://{proxy}')} ({variable or 'system settings'})"
    )


def _proxies() -> str:
    """Return the environment's proxies in words."""
    named = {proxy_of(f"{scheme}://proxied.example") for scheme in ("http", "https")}
    return f"Unusable: {' and '.join(sorted(filter(None, named)))}."


def certificates() -> str:
    """Return where the environment says that certificates are, or how to say it."""
    for variable in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
        if path := os.environ.get(variable):
            return f"{variable} names {path}{'' if Path(path).exists() else ', which does not exist'}"
    if path := os.environ.get("REQUESTS_CA_BUNDLE"):
        return f"REQUESTS_CA_BUNDLE ({path}) is not read here; set SSL_CERT_FILE to that file"
    return "for a certificate of your own network, set SSL_CERT_FILE to its authority's file"
