"""What a provider is given, what it gives back, and the faults that the fallback acts on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

from ipyrouter.config import Deadlines, Provider
from ipyrouter.types import Completion, Message, Usage

if TYPE_CHECKING:
    from ipyrouter.providers.stream import Collector

_KEY_VERSION = 1

FaultKind = Literal[
    "bad_request",
    "refused",
    "context",
    "auth",
    "forbidden",
    "not_found",
    "rate_limit",
    "quota",
    "server",
    "connect",
    "timeout",
    "malformed",
    "broken_stream",
    "unfinished",
    "interrupted",
]


Parameter = Literal["temperature", "limit", "limit_name", "system", "stream", "stream_options"]
"""What of a call a server may refuse although the call could be answered without it."""

Changes = Mapping[Parameter, int | str | None]
"""What is sent differently to one candidate, with the value that is sent instead where there is one."""


class Change(NamedTuple):
    """One parameter that a server refused: it is left out, or sent as ``value``."""

    parameter: Parameter
    value: int | str | None = None


Deadline = Literal["connect", "first_byte", "idle", "total"]


@dataclass(frozen=True, slots=True)
class Call:
    """One outgoing request, complete: the same call has the same cache key in every process."""

    provider: str
    sdk: str
    base_url: str
    model: str
    system: str | None
    messages: tuple[Message, ...]
    max_output_tokens: int
    temperature: float | None

    def key(self) -> bytes:
        """Return the SHA-256 of the canonical JSON of the call and of the key's version."""
        fields = {name: getattr(self, name) for name in self.__slots__}  # asdict() is ten times slower
        fields["messages"] = [(message.role, message.text) for message in self.messages]
        body = json.dumps({"version": _KEY_VERSION, **fields}, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(body.encode()).digest()


def lowered(call: Call, changes: Changes, notes: list[str]) -> int:
    """Return the most tokens to ask for; note where a server takes fewer than the call wants."""
    most = changes.get("limit")
    if not isinstance(most, int) or most >= call.max_output_tokens:
        return call.max_output_tokens
    notes.append(
        f"The output limit was lowered from {call.max_output_tokens:,} to {most:,} tokens, {call.model}'s most."
    )
    return most


def temperature_note(call: Call) -> str:
    """Return the note on a temperature that was not sent."""
    return f"The temperature was left out: {call.model} does not take one."


def system_note(call: Call) -> str:
    """Return the note on a system prompt that went with the first message."""
    return f"The system prompt was put before the first message: {call.model} takes none of its own."


@dataclass(frozen=True, slots=True)
class Sent:
    """What went out: to whom, for which call, in which body."""

    provider: Provider
    call: Call
    body: Mapping[str, Any]


class Fault(Exception):  # noqa: N818  a fault is what a server did
    """A call that failed. What it spent, and what text had arrived, come along.

    ``retry_after`` is in seconds. ``usage`` is None where nothing can have been spent. ``latency`` is the seconds from
    the call's beginning to the fault, 0 where no call was begun. ``final`` marks a request that every candidate would
    refuse, ``only_model`` a refusal that says nothing about the provider's other models. ``change`` is what to send
    differently so that the same candidate may answer, ``deadline`` the one that passed, and ``hint`` what a user can do
    about it.
    """

    latency = 0.0

    def __init__(
        self,
        kind: FaultKind,
        message: str,
        *,
        status: int | None = None,
        retry_after: float | None = None,
        usage: Usage | None = None,
        text: str = "",
        first_token: float | None = None,
        final: bool = False,
        only_model: bool = False,
        change: Change | None = None,
        deadline: Deadline | None = None,
        hint: str = "",
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.status = status
        self.retry_after = retry_after
        self.usage = usage
        self.text = text
        self.first_token = first_token
        self.final = final
        self.only_model = only_model
        self.change = change
        self.deadline = deadline
        self.hint = hint


def bare(fault: Fault) -> Fault:
    """Return the fault without traceback and causes: their frames hold requests with their headers."""
    fault.__cause__ = fault.__context__ = None
    return fault.with_traceback(None)


class Client(Protocol):
    """Sends a call through one SDK."""

    def complete(
        self, provider: Provider, call: Call, deadlines: Deadlines, collector: Collector, changes: Changes
    ) -> Completion:
        """Return the completion; the collector takes what arrives. Raises Fault."""
        ...
