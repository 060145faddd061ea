"""From what an SDK raises to the fault that the fallback acts on."""

from __future__ import annotations

import email.utils
import http
import json
import re
import time
from collections.abc import Mapping
from urllib.parse import urlsplit

import httpx2

from ipyrouter.config import Provider
from ipyrouter.providers.base import Backend, Deadline, Fault, Sent
from ipyrouter.providers.network import Watch, plain_address
from ipyrouter.providers.transport import certificates, proxy_of
from ipyrouter.providers.wire import InBandError
from ipyrouter.providers.words import Words, is_final, is_of_address, kind_of, read_words, refused_parameter, short
from ipyrouter.text import redact

_DEADLINES: dict[str | None, Deadline] = {"connect": "connect", "idle": "idle", "total": "total"}

_RETRY_DELAY = re.compile(r'"retryDelay"\s*:\s*"(\d{1,9}(?:\.\d{1,9})?)s"')  # Google's RetryInfo, in the body
_LONGEST_WAIT = 24 * 3600.0  # seconds


def fault_of(error: Exception, backend: Backend, sent: Sent, watch: Watch) -> Fault:
    """Return the fault behind an exception of the SDK, of httpx2 or of a JSON parser, or an error in a response."""
    if watch.expired is not None:
        return timed_out(watch)
    if isinstance(error, InBandError):
        words = read_words(error.body)
        if not (words.message or isinstance(error.body, dict)):
            what = "null" if error.body is None else f"a {type(error.body).__name__}"
            return Fault("malformed", f"the server's answer is {what}, which holds no answer")
        return _from_words(words.status, words, backend, sent, watch)
    if (response := backend.response_of(error)) is not None:
        return _from_response(response, backend, sent, watch)
    chain = _chain(error)
    if any(isinstance(link, httpx2.TimeoutException) for link in chain):
        return _not_connected(watch)  # the system gave up sooner than the deadline
    if any(isinstance(link, httpx2.TransportError | OSError) for link in chain):
        return _from_connection(chain, watch)
    if isinstance(error, json.JSONDecodeError | UnicodeDecodeError):
        return Fault("malformed", f"the answer of {watch.address} is not valid JSON")
    return Fault("malformed", f"the server's answer could not be read ({type(error).__name__}: {short(str(error))})")


def _chain(error: BaseException) -> list[BaseException]:
    """Return an error and its causes."""
    chain: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in chain:
        chain.append(link)
        link = link.__cause__ or link.__context__
    return chain


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


def _from_response(response: httpx2.Response, backend: Backend, sent: Sent, watch: Watch) -> Fault:
    status = response.status_code
    if 300 <= status < 400:
        there = response.next_request
        place = f" to {plain_address(str(there.url))}" if there is not None else ""
        message = short(f"the server redirects{place}; set base_url to the address that answers")
        return Fault("connect", message, status=status)
    try:
        response.read()
        text = response.text
    except (httpx2.HTTPError, httpx2.StreamError):  # the connection broke amid the error
        text = ""
    words = read_words(text)
    fault = _from_words(status, words, backend, sent, watch)
    fault.retry_after = retry_after(response.headers)
    if fault.retry_after is None and (delay := _RETRY_DELAY.search(text)) is not None:
        fault.retry_after = min(float(delay[1]), _LONGEST_WAIT)
    return fault


def _from_words(status: int | None, words: Words, backend: Backend, sent: Sent, watch: Watch) -> Fault:
    kind = kind_of(status, words)
    provider, change = sent.provider, None
    if kind in ("bad_request", "context", "not_found", "server"):
        change = refused_parameter(status, words, sent.body)
    if change is not None and change.parameter == "limit_name" and change.value not in backend.limit_names:
        change = None  # it knows one name only
    if change is not None:
        kind = "bad_request"
    message, hint = short(_redacted(words.message or _phrase(status), provider)), ""
    if status == 407:
        message = f"{proxy_of(watch.url) or 'a proxy'} wants a login: {message}"
    elif kind == "not_found" and is_of_address(status, words, sent.call.model):
        message, hint = f"{message} at {watch.address}", address_hint(provider, backend)
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


def address_hint(provider: Provider, backend: Backend) -> str:
    """Return what is probably wrong with a provider's address."""
    setting = provider.variable or f"providers.{provider.name}.base_url"
    base = plain_address(provider.address()).rstrip("/")
    for ending in backend.paths:
        if base.endswith(ending):
            return f'{setting} (base_url) must end before "{ending}": {base.removesuffix(ending)}'
    path = backend.paths[0] if backend.paths else ""
    if backend.version and not re.search(r"/v\d", urlsplit(base).path):
        return f'{setting} (base_url) should end in "{backend.version}": {base}{backend.version}'
    mostly = f', which mostly ends in "{backend.version}"' if backend.version else ""
    return f'is {setting} (base_url) right? It is the address before "{path}"{mostly}'


def _not_connected(watch: Watch) -> Fault:
    place = proxy_of(watch.url) or watch.address
    message = f"no connection to {place} within {watch.deadlines.connect:g} s"
    return Fault("connect", message, deadline="connect")


def _from_connection(chain: list[BaseException], watch: Watch) -> Fault:
    reason = short(next((str(link) for link in reversed(chain) if str(link)), type(chain[0]).__name__))
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
