"""From what an SDK raises to the fault that the fallback acts on. Both SDKs share their error classes' names."""

from __future__ import annotations

import email.utils
import json
import re
import time
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import httpx2

from ipyrouter import redact
from ipyrouter.config import Provider
from ipyrouter.providers.base import Fault, FaultKind
from ipyrouter.providers.transport import Watch

_CONTEXT = re.compile(
    r"context.?(length|size|window)|maximum context|prompt is too long|too many (input )?tokens"
    r"|exceeds? the (model|limit)",
    re.IGNORECASE,
)
_QUOTA = re.compile(
    r"insufficient.?quota|credit balance|billing|exceeded your current quota|out of credit", re.IGNORECASE
)
_BY_STATUS: dict[int, FaultKind] = {
    400: "bad_request",
    401: "auth",
    402: "quota",
    403: "forbidden",
    404: "not_found",
    413: "context",
    422: "bad_request",
    429: "rate_limit",
}
_BY_TYPE: dict[str, FaultKind] = {
    "invalid_request_error": "bad_request",
    "authentication_error": "auth",
    "permission_error": "forbidden",
    "not_found_error": "not_found",
    "rate_limit_error": "rate_limit",
    "rate_limit_exceeded": "rate_limit",
}
_LONGEST = 300  # characters of a server's message that are kept


def fault_of(error: Exception, sdk: ModuleType, provider: Provider, watch: Watch) -> Fault:
    """Return the fault behind an exception of the SDK, of httpx2 or of a JSON parser."""
    if watch.expired is not None:
        return timed_out(watch)
    if isinstance(error, sdk.APIStatusError):
        return _from_status(error, provider)
    if isinstance(error, sdk.APITimeoutError | httpx2.TimeoutException):
        cause = error if isinstance(error, httpx2.TimeoutException) else error.__cause__
        if isinstance(cause, httpx2.ConnectTimeout):
            return Fault("connect", f"no connection within {watch.deadlines.connect:g} s")
        return timed_out(watch)
    if isinstance(error, sdk.APIConnectionError | httpx2.TransportError | OSError):
        return _from_connection(error)
    if isinstance(error, json.JSONDecodeError | UnicodeDecodeError | sdk.APIResponseValidationError):
        return Fault("malformed", "the server's answer is not valid JSON")
    if isinstance(error, sdk.APIError):  # an error event in a stream
        return _from_body(error, provider)
    return Fault("malformed", f"the server's answer could not be read ({type(error).__name__}: {_short(str(error))})")


def timed_out(watch: Watch) -> Fault:
    """Return the fault of a deadline that passed."""
    deadlines = watch.deadlines
    said = {
        "idle": f"silent for {deadlines.idle:g} s",
        "total": f"not finished within {deadlines.total:g} s",
    }.get(watch.expired or "", f"no answer within {deadlines.first_byte:g} s")
    return Fault("timeout", said)


def _from_status(error: Any, provider: Provider) -> Fault:
    status: int = error.status_code
    if status < 300:  # the stream began well and broke off with an error event
        return _from_body(error, provider)
    if status < 400:
        return Fault("connect", "the server redirects; set base_url to the address that answers", status=status)
    message = _message(error, provider)
    kind = _BY_STATUS.get(status, "server" if status >= 500 else "bad_request")
    if status in (408, 409, 425):
        kind = "server"
    if kind == "bad_request" and _CONTEXT.search(f"{_code(error)} {message}"):
        kind = "context"
    if kind in ("bad_request", "rate_limit", "forbidden") and _QUOTA.search(f"{_code(error)} {message}"):
        kind = "quota"
    return Fault(kind, message, status=status, retry_after=retry_after(error.response.headers))


def _from_body(error: Any, provider: Provider) -> Fault:
    code, message = _code(error), _message(error, provider)
    if _QUOTA.search(f"{code} {message}"):
        return Fault("quota", message)
    if _CONTEXT.search(f"{code} {message}"):
        return Fault("context", message)
    kinds = [_BY_TYPE[word] for word in code.split() if word in _BY_TYPE]
    return Fault(kinds[0] if kinds else "server", message)


def _from_connection(error: Exception) -> Fault:
    chain: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in chain:
        chain.append(cause)
        cause = cause.__cause__ or cause.__context__
    told = next((str(link) for link in reversed(chain) if str(link)), type(error).__name__)
    names = " ".join(type(link).__name__ for link in chain)
    if "ConnectError" in names:
        if "SSL" in names or "CERTIFICATE" in told.upper():
            return Fault("connect", f"TLS failed: {_short(told)}")
        if "gaierror" in names or "name" in told.lower():
            return Fault("connect", f"the host name is not known: {_short(told)}")
        return Fault("connect", f"no connection: {_short(told)}")
    return Fault("broken_stream", f"the connection broke: {_short(told)}")


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return Retry-After in seconds, from milliseconds, seconds or an HTTP date (RFC 9110, 10.2.3)."""
    if (text := headers.get("retry-after-ms")) is not None and _is_number(text):
        return max(float(text) / 1000, 0.0)
    if (text := headers.get("retry-after")) is None:
        return None
    if _is_number(text):
        return max(float(text), 0.0)
    try:
        return max(email.utils.parsedate_to_datetime(text).timestamp() - time.time(), 0.0)
    except ValueError:
        return None


def _is_number(text: str) -> bool:
    return re.fullmatch(r"\s*\d+(\.\d+)?\s*", text) is not None


def _details(error: Any) -> Mapping[str, Any]:
    body = getattr(error, "body", None)
    if isinstance(body, dict):
        inner = body.get("error", body)
        return inner if isinstance(inner, dict) else {"message": str(inner)}
    return {}


def _code(error: Any) -> str:
    details = _details(error)
    return f"{details.get('code') or ''} {details.get('type') or ''}".strip()


def _message(error: Any, provider: Provider) -> str:
    text = str(_details(error).get("message") or getattr(error, "message", "") or error)
    return _short(redact.hide(text, provider.secrets(), parts=True))  # before it is cut: half a key is one, too


def _short(text: str) -> str:
    text = " ".join(re.sub(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]", " ", text).split())
    if "<html" in text.lower() or "<!doctype" in text.lower():
        return "an HTML page instead of an answer"
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
