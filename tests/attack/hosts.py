"""Servers below HTTP: each gets a connection and does with it what it likes."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

Behave = Callable[[socket.socket, threading.Event], None]
ROUNDS = 200  # how often a server drips: twenty seconds, several times the deadlines of the tests


@contextlib.contextmanager
def host(behave: Behave) -> Iterator[str]:
    """Serve connections, each in a thread of its own; yield the address, without a scheme.

    ``behave`` gets the connection and an event that is set when the server closes.
    """
    closing = threading.Event()
    listener = socket.create_server(("127.0.0.1", 0))
    threads: list[threading.Thread] = []

    def serve(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            behave(connection, closing)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                threads.append(threading.Thread(target=serve, args=(connection,), daemon=True))
                threads[-1].start()

    accepting = threading.Thread(target=accept, daemon=True)
    accepting.start()
    try:
        yield f"127.0.0.1:{listener.getsockname()[1]}"
    finally:
        closing.set()
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        accepting.join(10)
        for thread in threads:
            thread.join(10)


def dripping(first: bytes, drop: bytes, rest: bytes = b"", *, reads_request: bool = True) -> Behave:
    """Return a server that sends ``first``, then a ``drop`` every 0.1 s, and after ROUNDS of them the ``rest``."""

    def behave(connection: socket.socket, closing: threading.Event) -> None:
        if reads_request:
            connection.recv(65536)
        connection.sendall(first)
        for _ in range(ROUNDS):
            if closing.wait(0.1):
                return
            connection.sendall(drop)
        connection.sendall(rest)

    return behave


def silent(connection: socket.socket, closing: threading.Event) -> None:
    """Read, and never answer."""
    while not closing.is_set() and connection.recv(65536):
        pass


def response(body: bytes, *headers: str, status: str = "200 OK") -> bytes:
    """Return a whole response."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Content-Type: application/json", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


def provider(host: str, sdk: str = "openai", **more: Any) -> dict[str, Any]:
    """Return the settings of a provider at a host."""
    scheme = more.pop("scheme", "http")
    return {"sdk": sdk, "base_url": f"{scheme}://{host}{'/v1' if sdk == 'openai' else ''}", **more}
