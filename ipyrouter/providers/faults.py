"""From what an SDK raises to the fault that the fallback acts on. Both SDKs share their error classes' names."""

from __future__ import annotations

import email.utils
import http
import json
import re
import time
from collections.abc import Mapping
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

import httpx2

from ipyrouter.config import Provider
from ipyrouter.providers.base import Deadline, Fault, Sent
from ipyrouter.providers.network import Watch, plain_address
from ipyrouter.providers.transport import certificates, proxy_of
from ipyrouter.providers.wire import InBandError
from ipyrouter.providers.words import Words, is_final, is_of_address, kind_of, read_words, refused_parameter, short
from ipyrouter.text import redact

_DEADLINES: dict[str | None, Deadline] = {"connect": "connect", "idle": "idle", "total": "total"}

_LONGEST_WAIT = 24 * 3600.0  # seconds


def fault_of(error: Exception, sdk: ModuleType, sent: Sent, watch: Watch) -> Fault:
    """Return the fault behind an exception of the SDK, of httpx2 or of a JSON parser, or an error in a response."""
    if watch.expired is not None:
        return timed_out(watch)
    if isinstance(error, InBandError):
        words = read_words(error.body)
        return _from_words(words.status, words, sent, watch)
    if isinstance(error, sdk.APIStatusError):
        return _from_status(error, sent, watch)
    if isinstance(error, sdk.APITimeoutError | httpx2.TimeoutException):
        return _not_connected(watch)  # the system gave up sooner than the deadline
    if isinstance(error, sdk.APIConnectionError | httpx2.TransportError | OSError):
        return _from_connection(error, watch)
    if isinstance(error, json.JSONDecodeError | UnicodeDecodeError):
        return Fault("malformed", f"the answer of {watch.address} is not valid JSON")
    return Fault("malformed", f"the server's answer could not be read ({type(error).__name__}: {short(str(error))})")


def timed_out(watch: Watch) -> Fault:
    """Return the fault of a deadline that passed."""
    deadlines = watch.deadlines
    deadline: Deadline = _DEADLINES.get(watch.expired, "first_byte")
    if deadline == "connect":
        return _not_connected(watch)
    message = {
        "idle": f"silent for {deadlines.idle:g} s",
        "total": f"not finished within {deadlines.total:g} s",
    }.get(deadline, f"no answer within {deadlines.first_byte:g} s")
    return Fault("timeout", message, deadline=deadline)


def _from_status(error: Any, sent: Sent, watch: Watch) -> Fault:
    status: int = error.status_code
    if 300 <= status < 400:
        there = error.response.next_request
        place = f" to {plain_address(str(there.url))}" if there is not None else ""
        message = short(f"the server redirects{place}; set base_url to the address that answers")
        return Fault("connect", message, status=status)
    try:
        words = read_words(error.response.text)
    except httpx2.HTTPError:  # the connection broke amid the error
        words = read_words(error.body)
    fault = _from_words(status, words, sent, watch)
    fault.retry_after = retry_after(error.response.headers)
    return fault


def _from_words(status: int | None, words: Words, sent: Sent, watch: Watch) -> Fault:
    kind = kind_of(status, words)
    provider, change = sent.provider, None
    if kind in ("bad_request", "context", "not_found", "server"):
        change = refused_parameter(status, words, sent.body)
    if change is not None and change.parameter == "limit_name" and provider.sdk == "anthropic":
        change = None  # it knows one name only
    if change is not None:
        kind = "bad_request"
    message, hint = short(_redacted(words.message or _phrase(status), provider)), ""
    if status == 407:
        message = f"{proxy_of(watch.url) or 'a proxy'} wants a login: {message}"
    elif kind == "not_found" and is_of_address(status, words, sent.call.model):
        message, hint = f"{message} at {watch.address}", address_hint(provider)
    return Fault(
        kind,
        message,
        status=status,
        change=change,
        final=change is None and is_final(status, kind, words),
        only_model=kind == "forbidden",
        hint=hint,
    )


def _phrase(status: int | None) -> str:
    try:
        return http.HTTPStatus(status or 0).phrase
    except ValueError:
        return "no reason given"


def address_hint(provider: Provider) -> str:
    """Return what is probably wrong with a provider's address."""
    setting = f"{provider.sdk.upper()}_BASE_URL" if provider.official else f"providers.{provider.name}.base_url"
    base = plain_address(provider.address()).rstrip("/")
    for ending in ("/chat/completions", "/completions", "/v1/messages", "/messages"):
        if base.endswith(ending):
            return f'{setting} (base_url) must end before "{ending}": {base.removesuffix(ending)}'
    if provider.sdk == "anthropic":
        if base.endswith("/v1"):
            return f'{setting} (base_url) must end before "/v1": {base.removesuffix("/v1")}'
        return f'is {setting} (base_url) right? It is the address before "/v1/messages"'
    if not re.search(r"/v\d", urlsplit(base).path):
        return f'{setting} (base_url) should end in "/v1": {base}/v1'
    return f'is {setting} (base_url) right? It is the address before "/chat/completions", which mostly ends in "/v1"'


def _not_connected(watch: Watch) -> Fault:
    place = proxy_of(watch.url) or watch.address
    message = f"no connection to {place} within {watch.deadlines.connect:g} s"
    return Fault("connect", message, deadline="connect")


def _from_connection(error: Exception, watch: Watch) -> Fault:
    chain: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in chain:
        chain.append(cause)
        cause = cause.__cause__ or cause.__context__
    reason = short(next((str(link) for link in reversed(chain) if str(link)), type(error).__name__))
    names = " ".join(type(link).__name__ for link in chain)
    proxy = proxy_of(watch.url)
    if "ProxyError" in names:
        return Fault("connect", f"{proxy or 'the proxy'} refuses: {reason}")
    if "ConnectError" not in names:
        return Fault("broken_stream", f"the connection to {watch.address} broke: {reason}")
    if "SSL" in names or "CERTIFICATE" in reason.upper():
        plain = "WRONG_VERSION" in reason.upper()
        hint = "does the address begin with http://?" if plain else certificates()
        return Fault("connect", f"TLS failed at {watch.address}: {reason}", hint=hint)
    if "gaierror" in names or "name" in reason.lower():
        return Fault("connect", f"the host name is not known: {proxy or watch.address}: {reason}")
    hint = "unset it, or name the host in NO_PROXY" if proxy else ""
    return Fault("connect", f"no connection to {proxy or watch.address}: {reason}", hint=hint)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return Retry-After in seconds, a day at most, from milliseconds, seconds or an HTTP date (RFC 9110, 10.2.3)."""
    if (text := headers.get("retry-after-ms")) is not None and _is_number(text):
        return min(float(text) / 1000, _LONGEST_WAIT)
    if (text := headers.get("retry-after")) is None:
        return None
    if _is_number(text):
        return min(float(text), _LONGEST_WAIT)
    try:
        seconds = email.utils.parsedate_to_datetime(text).timestamp() - time.time()
    except (ValueError, OverflowError, TypeError):
        return None
    return min(max(seconds, 0.0), _LONGEST_WAIT)


def _is_number(text: str) -> bool:
    return re.fullmatch(r"\s*\d+(\.\d+)?\s*", text) is not None


def _redacted(text: str, provider: Provider) -> str:
    return redact.hide(text, provider.secrets(), parts=True)  # before it is cut: half a key is one, too
