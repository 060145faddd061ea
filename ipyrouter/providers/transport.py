"""One HTTP transport for every SDK client: the keys, the proxies, and the deadlines that the SDKs do not keep."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import threading
import urllib.request
import weakref
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx2

from ipyrouter.config import Deadlines
from ipyrouter.errors import ConfigError
from ipyrouter.providers.base import PLACEHOLDER
from ipyrouter.providers.network import Calls, DeadlineBackend, Extra, Watch, plain_address
from ipyrouter.providers.wire import too_large

_PLACEHOLDER = PLACEHOLDER.encode()
_MOST_OF_AN_ERROR = 256 * 1024  # bytes
_PRIVATE = tuple(
    ipaddress.ip_network(network)
    for network in (
        "127.0.0.0/8", "0.0.0.0/32", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16",
        "::1/128", "fc00::/7", "fe80::/10",
    )
)  # fmt: skip


class _Body(httpx2.SyncByteStream):
    """A response's body, unpacked: it tells the watch of each chunk and ends where there is more than can be.

    An error's body ends there in silence: SDKs read it whole, and its beginning says enough.
    """

    def __init__(self, response: httpx2.Response, stream: httpx2.SyncByteStream, watch: Watch) -> None:
        self._raw = stream
        self._watch = watch
        self._failed = response.status_code >= 300
        raw = self._Raw(stream, watch)
        self._chunks: Iterable[bytes] = raw
        if (encoding := response.headers.pop("Content-Encoding", "identity")) != "identity":
            # A response of its own unpacks, for the one that the SDK gets has no encoding any more.
            self._chunks = httpx2.Response(200, headers={"Content-Encoding": encoding}, stream=raw).iter_bytes()

    class _Raw(httpx2.SyncByteStream):
        def __init__(self, stream: httpx2.SyncByteStream, watch: Watch) -> None:
            self._stream = stream
            self._watch = watch

        def __iter__(self) -> Iterator[bytes]:
            for chunk in self._stream:
                self._watch.touch()
                yield chunk

    def __iter__(self) -> Iterator[bytes]:
        most = _MOST_OF_AN_ERROR if self._failed else self._watch.most_bytes
        size = 0
        for chunk in self._chunks:
            size += len(chunk)
            if size > most and not self._failed:
                raise too_large(most)
            yield chunk
            if size > most:
                return

    def close(self) -> None:
        self._raw.close()


def _close(clients: dict[tuple[bool, bool], httpx2.Client]) -> None:
    for client in clients.values():
        client.close()
    clients.clear()


class Transport:
    """The shared HTTP clients: through the environment's proxies, or around them for addresses of a private network."""

    def __init__(self) -> None:
        self._calls = Calls()
        self._lock = threading.Lock()
        self._clients: dict[tuple[bool, bool], httpx2.Client] = {}
        # A router that was never closed, or that lost its last name, leaves no open connection behind.
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
        limits = httpx2.Limits(max_connections=None, max_keepalive_connections=100, keepalive_expiry=60)
        try:
            client = httpx2.Client(
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
        # httpx2 has no argument for this; the pool of each of its transports has.
        for transport in (client._transport, *client._mounts.values()):
            if isinstance(transport, httpx2.HTTPTransport):
                pool = transport._pool
                pool._network_backend = DeadlineBackend(pool._network_backend, self._calls)
        return client

    @contextlib.contextmanager
    def watch(
        self, deadlines: Deadlines, secret: Callable[[], str], most_bytes: int, extra: Extra = lambda: ({}, {})
    ) -> Iterator[Watch]:
        """Watch over the call that this thread makes inside the block; its answer may have so many bytes, unpacked."""
        watch = self._calls.watch = Watch(deadlines, secret, most_bytes, extra)
        try:
            yield watch
        finally:
            self._calls.watch = None

    def close(self) -> None:
        """Close all connections."""
        with self._lock:
            _close(self._clients)

    def _add_key(self, request: httpx2.Request) -> None:
        watch = self._calls.watch
        if watch is None:
            return
        headers, query = watch.extra()
        if query:
            request.url = request.url.copy_merge_params(dict(query))
        request.extensions["trace"] = watch.trace
        watch.url = str(request.url)
        for name, value in request.headers.raw:  # each SDK has a header of its own for the key
            if _PLACEHOLDER in value:
                filled = value.decode("ascii").replace(PLACEHOLDER, watch.secret())
                request.headers[name.decode("ascii")] = filled
        if headers:
            request.headers.update(headers)

    def _guard(self, response: httpx2.Response) -> None:
        watch = self._calls.watch
        if watch is None or not isinstance(response.stream, httpx2.SyncByteStream):
            return
        response.stream = _Body(response, response.stream, watch)


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
