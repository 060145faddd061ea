"""What can be seen of the network without a model's call: servers on this machine, the proxy, the certificates."""

from __future__ import annotations

import concurrent.futures
import json
import os
import socket
import ssl
import urllib.request
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2

from ipyrouter.config import Provider
from ipyrouter.config.model import read_key
from ipyrouter.providers.network import plain_address
from ipyrouter.providers.transport import certificates, proxy_of

LOCAL_SERVERS = ("ollama", "lmstudio", "llamacpp")
"""The services that are looked for on this machine."""
_PATIENCE = 2.0  # seconds: the servers are on this machine, and a proxy is near
_MOST_BYTES = 1_000_000
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True)
class LocalServer:
    """A model server that answers on this machine, and the names of its models.

    Attributes:
        name: The service's.
        address: Where it answers.
        models: Their names.
        wants_key: Whether it shows them to those with its key alone, which is not in the environment.
    """

    name: str
    address: str
    models: tuple[str, ...]
    wants_key: bool = False

    def __str__(self) -> str:
        """Return it in words, with how to name its first model."""
        if self.wants_key:
            setting = f"providers.{self.name}.key"
            return f"{self.name} answers at {self.address} and wants a key: name its variable in {setting}, and set it"
        if not self.models:
            return f"{self.name} answers at {self.address} and has no model yet"
        shown = ", ".join(f"{self.name}/{model}" for model in self.models[:5])
        more = f" and {len(self.models) - 5} more" if len(self.models) > 5 else ""
        return f"{self.name} answers at {self.address}: {shown}{more}; used only where a chain or -m names them"


def local_servers(providers: Iterable[Provider]) -> list[LocalServer]:
    """Return the servers among LOCAL_SERVERS that answer at a loopback address; others are not asked.

    Args:
        providers: Where they are expected: at their usual ports, unless the config says another.

    Returns:
        Those that answer, in the order of ``providers``.
    """
    here = [p for p in providers if p.name in LOCAL_SERVERS and urlsplit(p.address()).hostname in _LOOPBACK]
    with concurrent.futures.ThreadPoolExecutor(len(LOCAL_SERVERS)) as pool:  # a port may be silent
        return [server for server in pool.map(_ask, here) if server is not None]


def _ask(provider: Provider) -> LocalServer | None:
    name, address = provider.name, provider.address().rstrip("/")
    key = read_key(provider.key) if provider.key and provider.key_fault() is None else ""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    body = b""
    try:
        with (
            httpx2.Client(trust_env=False, timeout=_PATIENCE, follow_redirects=False, headers=headers) as client,
            client.stream("GET", f"{address}/models") as response,
        ):
            if response.status_code not in (200, 401):
                return None
            for piece in response.iter_bytes():
                body += piece
                if len(body) > _MOST_BYTES:
                    return None
        if response.status_code == 401:  # as llama.cpp's server says it
            refusal = json.loads(body)["error"]["message"]
            return LocalServer(name, plain_address(address), (), wants_key=True) if refusal else None
        entries: Any = json.loads(body)["data"] or []  # Ollama without models says null
        models = tuple(str(entry["id"]) for entry in entries)
    except (httpx2.HTTPError, httpx2.InvalidURL, OSError, ValueError, KeyError, TypeError, RecursionError):
        return None  # whatever is at that port, it is not a model server
    return LocalServer(name, plain_address(address), models)


def network_faults(addresses: Iterable[str]) -> Iterator[str]:
    """Yield what is wrong with the proxies of some addresses and with the certificates' file, a line each."""
    named = sorted({address for address in addresses if proxy_of(address)})
    seen = set()
    for address in named:
        words = proxy_of(address)
        if words not in seen:
            seen.add(words)
            if fault := _proxy_fault(address):
                yield f"{words} {fault}; correct or unset it, or name the host in NO_PROXY"
    for variable in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
        path = os.environ.get(variable)
        if path and not Path(path).exists():
            yield f"{variable} names {path}, which does not exist; correct or unset it"
        elif path and variable == "SSL_CERT_FILE" and not _holds_certificates(path):
            yield f"{variable} names {path}, which holds no certificates; correct or unset it"
    if os.environ.get("REQUESTS_CA_BUNDLE") and not os.environ.get("SSL_CERT_FILE"):
        yield certificates()


def _holds_certificates(path: str) -> bool:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
    except OSError:  # ssl.SSLError is one as well
        return False
    return True


def _proxy_fault(address: str) -> str:
    """Return why the proxy of an address cannot be reached, "" where it answers the connection."""
    proxies = urllib.request.getproxies()
    proxy = proxies.get(urlsplit(address).scheme) or proxies.get("all") or ""
    parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    try:
        port = parts.port or {"https": 443}.get(parts.scheme, 1080 if parts.scheme.startswith("socks") else 80)
        with socket.create_connection((parts.hostname or "", port), _PATIENCE):
            return ""
    except ValueError:
        return "is not a valid address"
    except OSError as error:
        return f"does not answer ({error.strerror or error})"
