"""One HTTP transport for every SDK client, with the deadlines that the SDKs do not keep.

httpx2 knows a connect and a read timeout. A call has four deadlines: connect, first byte, idle between chunks, total.
The first two before the headers are httpx2's; from the headers on a watchdog thread shuts the socket down when a
deadline passes, so that a blocked read on the main thread returns at once.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Literal

import httpx2

from ipyrouter.config import Deadlines

Phase = Literal["first byte", "idle", "total"]

PLACEHOLDER = "the-transport-adds-the-key"
"""What the SDK clients hold instead of a key; the real one is put in when a request leaves, and kept in no object."""

_LINGER = 30.0  # seconds without a call after which the watchdog thread ends


class Watch:
    """The deadlines of one call, and how to get its key. ``expired`` names the deadline that passed."""

    def __init__(self, deadlines: Deadlines, secret: Callable[[], str]) -> None:
        self.secret = secret
        self._idle = deadlines.idle
        now = time.monotonic()
        self._end = now + deadlines.total
        self._phase: Phase = "first byte"
        self._socket: socket.socket | None = None
        self.deadlines = deadlines
        self.limit = min(now + deadlines.first_byte, self._end)
        self.expired: Phase | None = None
        self.sent = False  # the whole request has left: from now on it may be billed
        self._method = b""

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

    def touch(self) -> None:
        """Note that a chunk came: from now on the idle deadline counts."""
        now = time.monotonic()
        self._phase = "idle" if now + self._idle < self._end else "total"
        self.limit = min(now + self._idle, self._end)

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


class Transport:
    """The shared HTTP clients: one that honours proxies, one for the server inside this process."""

    def __init__(self) -> None:
        self._watchdog = _Watchdog()
        self._local = threading.local()
        self._lock = threading.Lock()
        self._clients: dict[bool, httpx2.Client] = {}

    def client(self, *, loopback: bool = False) -> httpx2.Client:
        """Return the shared client; ``loopback`` leaves the environment's proxies out."""
        with self._lock:
            if loopback not in self._clients:
                self._clients[loopback] = httpx2.Client(
                    trust_env=not loopback,
                    follow_redirects=False,  # a key must not follow to another address
                    limits=httpx2.Limits(max_connections=100, max_keepalive_connections=20, keepalive_expiry=60),
                    event_hooks={"request": [self._add_key], "response": [self._guard]},
                )
            return self._clients[loopback]

    @contextlib.contextmanager
    def watch(self, deadlines: Deadlines, secret: Callable[[], str]) -> Iterator[Watch]:
        """Watch over the call that this thread makes inside the block."""
        watch = Watch(deadlines, secret)
        self._local.watch = watch
        self._watchdog.add(watch)
        try:
            yield watch
        finally:
            self._watchdog.remove(watch)
            self._local.watch = None

    def close(self) -> None:
        """Close all connections."""
        with self._lock:
            for client in self._clients.values():
                client.close()
            self._clients.clear()

    def _add_key(self, request: httpx2.Request) -> None:
        watch: Watch | None = getattr(self._local, "watch", None)
        if watch is not None:
            request.extensions["trace"] = watch.trace
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
