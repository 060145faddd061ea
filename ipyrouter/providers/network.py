"""Connections whose every step ends when the call's deadlines say so: the name, TCP, a proxy's CONNECT, TLS, headers.

An HTTP client's own timeouts restart with every byte, so a server or a proxy that sends one now and then holds a
call for as long as it likes. Here each step may take what the whole call has left.
"""

from __future__ import annotations

import contextlib
import functools
import ipaddress
import queue
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, TypeVar
from urllib.parse import urlsplit

import httpcore2
import httpx2

from ipyrouter.config import Deadlines

T = TypeVar("T")
Extra = Callable[[], tuple[Mapping[str, str], Mapping[str, str]]]
"""Returns the headers and the query that a provider's settings add to each request."""
Phase = Literal["connect", "first byte", "idle", "total"]

_RECORD = 16 * 1024  # bytes: the longest record of TLS


def plain_address(url: str) -> str:
    """Return an address without a user, a password or a query in it."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


class Watch:
    """The deadlines of one call, how to get its key, where it goes, and how to end it from another thread.

    ``expired`` names the deadline that passed, ``cancelled`` tells that :meth:`cancel` ended the call, ``leaving`` that
    its body has begun to leave, and ``sent`` that the whole request has left: from then on it may be billed.
    """

    def __init__(
        self, deadlines: Deadlines, secret: Callable[[], str], most_bytes: int, extra: Extra = lambda: ({}, {})
    ) -> None:
        now = time.monotonic()
        self.deadlines = deadlines
        self.secret = secret
        self.extra = extra
        self.most_bytes = most_bytes
        self.url = ""
        self.expired: Phase | None = None
        self.cancelled = False
        self.leaving = False
        self.sent = False
        self._end = now + deadlines.total
        self._first = min(now + deadlines.first_byte, self._end)
        self._phase: Phase = "first byte"
        self._limit = self._first
        self._asking = False  # the connection stands: what is sent is the request, and no longer a proxy's CONNECT
        self._answering = False
        self._lock = threading.RLock()  # a signal's handler may cancel what its own thread is beginning
        self._blocked: socket.socket | Callable[[], None] | None = None

    @property
    def address(self) -> str:
        """Where the request went, without anything that is secret."""
        return plain_address(self.url)

    def timeout(self) -> httpx2.Timeout:
        """Return timeouts for the SDK, which do not matter: each step has its own."""
        return httpx2.Timeout(self.deadlines.total)

    def left(self) -> float:
        """Return the seconds that the next step may take. Raises httpcore2.TimeoutException where there are none."""
        now = time.monotonic()
        seconds = self._limit - now
        if self._phase == "idle" and now < self._end:
            # Time that passed here, with showing what came, is not silence of the server's: its bytes may be waiting.
            seconds = max(seconds, 0.001)
        if seconds <= 0:
            raise self.expire()
        return seconds

    def expire(self) -> httpcore2.TimeoutException:
        """Note that the deadline of the present phase passed, and return what to raise."""
        self.expired = "total" if self._limit >= self._end else self._phase
        error = httpcore2.ConnectTimeout if self.expired == "connect" else httpcore2.ReadTimeout
        return error(f"the deadline ({self.expired}) passed")

    def connecting(self) -> None:
        """Note that a new connection is made: all of it, TLS and a proxy included, has one deadline."""
        limit = time.monotonic() + self.deadlines.connect
        if limit < self._limit:
            self._phase, self._limit = "connect", limit

    def trace(self, event: str, info: dict[str, Any]) -> None:
        """Note what httpx2's connection does: when the request itself begins to leave, and when it has left."""
        if event.endswith(".send_request_headers.started") and info["request"].method != b"CONNECT":
            self._asking = True
            if self._phase == "connect":
                self._phase, self._limit = "first byte", self._first
        elif event.endswith(".send_request_body.started"):
            self.leaving = self._asking
        elif event.endswith(".send_request_body.complete"):
            self.sent = self._asking

    def touch(self) -> None:
        """Note that a chunk came. The idle deadline counts from the model's first words on.

        Before them the server may say that it is there, and the model may think in silence for as long as the deadline
        of the first byte allows.
        """
        idle = time.monotonic() + self.deadlines.idle
        if self._answering or idle >= self._first:
            self._phase = "idle" if idle < self._end else "total"
            self._limit = min(idle, self._end)

    def answering(self) -> None:
        """Note that the model has begun to write."""
        self._answering = True
        self.touch()

    def cancel(self) -> None:
        """End the call at once, from any thread: what it waits for is shut down."""
        with self._lock:
            self.cancelled = True
            if isinstance(self._blocked, socket.socket):
                with contextlib.suppress(OSError):
                    # Not SSLSocket.shutdown, which would drop the TLS layer under the reader.
                    socket.socket.shutdown(self._blocked, socket.SHUT_RDWR)
            elif self._blocked is not None:
                self._blocked()

    def begin(self, blocked: socket.socket | Callable[[], None]) -> float:
        """Begin a step that waits for a socket, or for what a function ends; return the seconds it may take.

        Every step ends with :meth:`end`: a connection that is idle in the pool belongs to no call. Raises
        httpcore2's errors.
        """
        with self._lock:
            self._blocked = blocked  # before the question: a handler may cancel the call between the two
            if self.cancelled:
                raise httpcore2.ReadError("stopped")
        return self.left()

    def end(self) -> None:
        """End a step."""
        with self._lock:
            self._blocked = None


class Calls(threading.local):
    """The watch over the call that a thread makes, if it makes one."""

    watch: Watch | None = None


class DeadlineBackend(httpcore2.NetworkBackend):
    """Opens the connections of an HTTP client's pool through another backend, under the deadlines of the calls."""

    def __init__(self, inner: httpcore2.NetworkBackend, calls: Calls) -> None:
        self._inner = inner
        self._calls = calls

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.NetworkStream:
        """Return a connection to a host. Raises httpcore2's errors."""
        watch = self._calls.watch
        if watch is None:
            return self._inner.connect_tcp(host, port, timeout, local_address, socket_options)
        watch.connecting()
        opening = _Opening(self._inner, host, port, local_address, socket_options)
        return _Stream(opening.result(watch), self._calls)


class _Opening:
    """A connection that another thread opens, because neither a name server nor connect() can be interrupted."""

    def __init__(self, inner: httpcore2.NetworkBackend, host: str, port: int, *options: Any) -> None:
        self._inner = inner
        self._host, self._port, self._options = host, port, options
        self._results: queue.SimpleQueue[httpcore2.NetworkStream | Exception] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._abandoned = False

    def result(self, watch: Watch) -> httpcore2.NetworkStream:
        """Return the connection. Raises httpcore2's errors, at the deadline and when the call is cancelled."""
        try:
            seconds = watch.begin(lambda: self._results.put(httpcore2.ConnectError("stopped")))
            threading.Thread(target=self._run, args=(seconds,), name="ipyrouter-connect", daemon=True).start()
            result = self._results.get(timeout=seconds)
        except (queue.Empty, httpcore2.TimeoutException):
            self._abandon()
            raise watch.expire() from None
        except BaseException:  # Ctrl-C
            self._abandon()
            raise
        finally:
            watch.end()
        if isinstance(result, Exception):
            self._abandon()
            raise result
        return result

    def _abandon(self) -> None:
        with self._lock:
            self._abandoned = True
        with contextlib.suppress(queue.Empty):
            if isinstance(late := self._results.get_nowait(), httpcore2.NetworkStream):
                late.close()

    def _run(self, seconds: float) -> None:
        result: httpcore2.NetworkStream | Exception
        try:
            result = self._open(time.monotonic() + seconds + 1)  # it is the waiting thread that keeps the deadline
        except Exception as error:  # noqa: BLE001  the waiting thread raises it
            result = error
        with self._lock:
            if not self._abandoned:
                self._results.put(result)
            elif isinstance(result, httpcore2.NetworkStream):
                result.close()

    def _open(self, end: float) -> httpcore2.NetworkStream:
        *addresses, last = self._addresses()
        for address in addresses:
            half = max(end - time.monotonic(), 0.001) / 2  # an address without an answer leaves time for the next
            with contextlib.suppress(httpcore2.ConnectError, httpcore2.ConnectTimeout):
                return self._inner.connect_tcp(address, self._port, half, *self._options)
        return self._inner.connect_tcp(last, self._port, max(end - time.monotonic(), 0.001), *self._options)

    def _addresses(self) -> list[str]:
        with contextlib.suppress(ValueError):
            return [str(ipaddress.ip_address(self._host))]
        try:
            entries = socket.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise httpcore2.ConnectError(str(error)) from error
        return list(dict.fromkeys(str(entry[4][0]) for entry in entries))


class _Stream(httpcore2.NetworkStream):
    """A connection, plain or TLS."""

    def __init__(self, inner: httpcore2.NetworkStream, calls: Calls) -> None:
        self._inner = inner
        self._calls = calls

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Return the next bytes, b"" at the end. Raises httpcore2's errors."""
        return self._timed(self._inner.read, max_bytes, timeout=timeout)

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Send bytes. Raises httpcore2's errors."""
        for start in range(0, len(buffer), _RECORD):  # each piece again: a server may take one byte at a time
            self._timed(self._inner.write, buffer[start : start + _RECORD], timeout=timeout)

    def close(self) -> None:
        """Close the connection."""
        self._inner.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore2.NetworkStream:
        """Return the connection with TLS on it. Raises httpcore2's errors."""
        if isinstance(self.get_extra_info("socket"), ssl.SSLSocket):
            return _Tunnel(self, ssl_context, server_hostname)
        try:
            with self.get_extra_info("socket").dup() as handle:  # the handshake takes the socket itself over
                inner = self._timed(self._inner.start_tls, ssl_context, server_hostname, timeout=timeout, handle=handle)
        except BaseException:
            self.close()
            raise
        return _Stream(inner, self._calls)

    def get_extra_info(self, info: str) -> Any:
        """Return what the connection beneath knows, such as its "socket"."""
        return self._inner.get_extra_info(info)

    def _timed(
        self, step: Callable[..., T], *arguments: Any, timeout: float | None, handle: socket.socket | None = None
    ) -> T:
        watch = self._calls.watch
        if watch is None:  # a pool that tidies up
            return step(*arguments, timeout)
        try:
            result = step(*arguments, watch.begin(handle or self.get_extra_info("socket")))
        except httpcore2.TimeoutException as error:
            raise watch.expire() from error
        finally:
            watch.end()
        if watch.cancelled:  # what came is the end of a socket that was shut down
            raise httpcore2.ReadError("stopped")
        return result


class _Tunnel(httpcore2.NetworkStream):
    """TLS inside TLS, for a proxy at an https:// address; the outer connection keeps the deadlines."""

    def __init__(self, outer: _Stream, context: ssl.SSLContext, hostname: str | None) -> None:
        self._outer = outer
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=hostname)
        try:
            self._run(self._tls.do_handshake)
        except BaseException as error:
            self.close()
            if isinstance(error, OSError | httpcore2.NetworkError):
                raise httpcore2.ConnectError(str(error)) from error
            raise

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ARG002  the watch knows the time
        """Return the next bytes, b"" at the end. Raises httpcore2's errors."""
        try:
            return bytes(self._run(lambda: self._tls.read(max_bytes)))
        except ssl.SSLError as error:
            raise httpcore2.ReadError(str(error)) from error

    def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ARG002
        """Send bytes. Raises httpcore2's errors."""
        sent = 0
        try:
            while sent < len(buffer):
                sent += self._run(functools.partial(self._tls.write, buffer[sent:]))
        except ssl.SSLError as error:
            raise httpcore2.WriteError(str(error)) from error

    def close(self) -> None:
        """Close the connection."""
        self._outer.close()

    def get_extra_info(self, info: str) -> Any:
        """Return what the connection beneath knows, and this one's own "ssl_object"."""
        return self._tls if info == "ssl_object" else self._outer.get_extra_info(info)

    def _run(self, step: Callable[[], Any]) -> Any:
        """Take a step of TLS, with as many reads and writes of the outer connection as it needs."""
        while True:
            try:
                result = step()
            except ssl.SSLWantReadError:
                self._flush()
                if data := self._outer.read(_RECORD):
                    self._incoming.write(data)
                else:
                    self._incoming.write_eof()
            else:
                self._flush()
                return result

    def _flush(self) -> None:
        if data := self._outgoing.read():
            self._outer.write(data)
