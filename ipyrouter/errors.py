"""The error tree. Every error says in one line what is wrong and what to do about it.

::

    IPyRouterError
    ├── UsageError                an argument, an option or a name is not valid
    ├── ConfigError               a setting is not valid
    ├── NoModelError              no model of the tier can be called
    ├── BudgetError               the request could cost more than a budget leaves
    ├── LocalModelError           the model inside this process cannot be fetched or started
    ├── StoreError                the database cannot be used
    ├── SchemaError               no model's answer is what the schema asks for: ``text``, ``attempts``
    ├── RouteError                every candidate failed: ``attempts``, and ``fault``, the most actionable one
    └── CallError                 one call failed: ``attempt.fault``
        ├── AuthError             401: the key is wrong
        ├── PermissionDeniedError 403: the key may not use this model
        ├── QuotaError            out of credit
        ├── RateLimitError        429
        ├── ModelNotFoundError    404, or retired
        ├── ContextTooLongError   the prompt is longer than the model's context window
        ├── RefusedError          the provider's content filter refused the request
        ├── BadRequestError       400: the request is not valid
        ├── ServerError           5xx, an answer that is malformed, broken or not whole
        ├── DeadlineError         no answer in time
        └── UnreachableError      no connection
    Interrupted (a KeyboardInterrupt)
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable
from typing import TYPE_CHECKING

from ipyrouter.text import redact

if TYPE_CHECKING:
    from ipyrouter.types import Answer, Attempt


def _without_keys(text: str) -> str:
    """Whatever an error quotes, a server's words, pip's or what was typed: it is shown, saved and sent around."""
    return redact.scrub(redact.hide(text, redact.keys_of(os.environ)))


class IPyRouterError(Exception):
    """Base of all of ipyrouter's errors: a cause, and the remedy that a user can apply."""

    def __init__(self, message: str, remedy: str = "") -> None:
        self.message = _without_keys(message)
        self.remedy = _without_keys(remedy)
        super().__init__(self.message, self.remedy)

    def __str__(self) -> str:
        return f"{self.message} {self.remedy}".strip()

    def _render_traceback_(self) -> list[str]:
        """Show one line instead of a traceback; IPython calls this for the error that fails a cell."""
        from ipyrouter.text.sanitise import plain  # a server's or model's name may bring terminal escapes along

        return [plain(f"{type(self).__name__}: {self}")]


class UsageError(IPyRouterError):
    """An argument, an option, a tier, a model, a variable or a subcommand is not valid."""


class ConfigError(IPyRouterError):
    """A setting is unknown, of the wrong type or not allowed where it stands."""


class NoModelError(IPyRouterError):
    """No candidate of the chain can be called: no key, no server, no local model."""


class BudgetError(IPyRouterError):
    """The request could cost more than a budget leaves."""


class LocalModelError(IPyRouterError):
    """The model inside this process could not be fetched or started."""


class StoreError(IPyRouterError):
    """The database cannot be used as it is."""


class CallError(IPyRouterError):
    """One call to one model failed."""


class AuthError(CallError):
    """The provider does not accept the key."""


class PermissionDeniedError(CallError):
    """The key may not use this model."""


class QuotaError(CallError):
    """The account is out of credit."""


class RateLimitError(CallError):
    """The provider takes no more requests for a while."""


class ModelNotFoundError(CallError):
    """The provider does not serve a model of this name."""


class ContextTooLongError(CallError):
    """The prompt is longer than the model's context window."""


class RefusedError(CallError):
    """The provider's content filter refused the request."""


class BadRequestError(CallError):
    """The provider calls the request invalid."""


class ServerError(CallError):
    """The server failed, or its answer was malformed, broken off or not whole."""


class DeadlineError(CallError):
    """No answer came in time."""


class UnreachableError(CallError):
    """There was no connection to the server."""


_BY_KIND: dict[str | None, type[CallError]] = {
    "auth": AuthError,
    "forbidden": PermissionDeniedError,
    "quota": QuotaError,
    "rate_limit": RateLimitError,
    "not_found": ModelNotFoundError,
    "context": ContextTooLongError,
    "refused": RefusedError,
    "bad_request": BadRequestError,
    "server": ServerError,
    "malformed": ServerError,
    "broken_stream": ServerError,
    "unfinished": ServerError,
    "timeout": DeadlineError,
    "connect": UnreachableError,
}
"""The error of each kind of fault, as the log names it."""


def error_of(kind: str | None) -> type[CallError]:
    """Return the class of errors that a kind of fault in the log belongs to; CallError for any other kind."""
    return _BY_KIND.get(kind, CallError)


class RouteError(IPyRouterError):
    """Every candidate failed. ``attempts`` tells how; ``fault`` is what a user can do most about."""

    def __init__(
        self, message: str, remedy: str = "", attempts: tuple[Attempt, ...] = (), fault: CallError | None = None
    ) -> None:
        super().__init__(message, remedy)
        self.attempts = attempts
        self.fault = fault

    def __str__(self) -> str:
        return "\n  ".join(filter(None, (self.message, self.remedy)))


class SchemaError(IPyRouterError):
    """No model gave what the schema asks for. ``text`` is the last answer, ``attempts`` are all; both are logged."""

    def __init__(self, message: str, remedy: str = "", text: str = "", attempts: tuple[Attempt, ...] = ()) -> None:
        super().__init__(message, remedy)
        self.text = text
        self.attempts = attempts


class Interrupted(KeyboardInterrupt):
    """The user stopped the request; ``answer`` holds what had arrived, and is logged. Shown without a traceback."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.id)
        self.answer = answer

    def __str__(self) -> str:
        return "Stopped. What had arrived is shown and logged."

    def _render_traceback_(self) -> list[str]:
        return [f"Interrupted: {self}"]


def did_you_mean(word: str, names: Iterable[str]) -> str:
    """Return "Did you mean 'x'?" for the nearest of the names, else the list of the names."""
    names = sorted(set(names))
    lowered = {name.lower(): name for name in names}
    near = difflib.get_close_matches(word.lower(), lowered, n=1, cutoff=0.55)
    if near:
        return f"Did you mean {lowered[near[0]]!r}?"
    return f"Known: {', '.join(names)}." if names else ""
