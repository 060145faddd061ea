"""What a provider is given, what it gives back, and the faults that the fallback acts on."""

from __future__ import annotations

import base64
import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

from ipyrouter.config import Deadlines, Provider
from ipyrouter.providers.effort import nearest
from ipyrouter.types import Completion, Message, Prompt, TextPart, Usage

if TYPE_CHECKING:
    import httpx2

    from ipyrouter.providers.batches import JobStatus, Result, Search
    from ipyrouter.providers.network import Watch
    from ipyrouter.providers.stream import Collector
    from ipyrouter.providers.transport import Transport
    from ipyrouter.providers.wire import Event
    from ipyrouter.schemas import Schema

PLACEHOLDER = "the-transport-adds-the-key"
"""What SDK clients hold instead of a key; the real one is put in when a request leaves, and kept in no object."""

_KEY_VERSION = 2

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


Parameter = Literal[
    "temperature",
    "limit",
    "limit_name",
    "system",
    "stream",
    "stream_options",
    "effort",
    "thinking",
    "json_schema",
    "json_object",
    "prompt_caching",
]
"""What of a call a server may refuse although the call could be answered without it."""

Changes = Mapping[Parameter, int | str | None]
"""What is sent differently to one candidate, with the value that is sent instead where there is one."""


class Change(NamedTuple):
    """One parameter that a server refused: it is left out, or sent as ``value``."""

    parameter: Parameter
    value: int | str | None = None


_NOT_IN_KEY = ("conversation", "flex", "_key")
"""What of a call changes no answer."""

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
    effort: str | None = None  # in the model's own words; None: the request says nothing of it
    schema: Schema | None = None
    json: bool = False
    show_thinking: bool = False
    extra: str = ""  # a digest of what the config adds to each request, headers and query
    conversation: bool = False  # later turns send it again; it changes no answer
    flex: bool = False  # it may take long, for half the price; it changes no answer
    _key: list[bytes] = field(default_factory=list, init=False, repr=False, compare=False)  # once it was asked for

    def key(self) -> bytes:
        """Return the SHA-256 of the canonical JSON of the call and of the key's version."""
        if not self._key:
            self._key.append(self._digest())
        return self._key[0]

    def _digest(self) -> bytes:
        fields = {name: getattr(self, name) for name in self.__slots__ if name not in _NOT_IN_KEY}  # asdict() is slow
        if not self.extra:
            del fields["extra"]  # as in the keys of the releases that knew of none
        fields["messages"] = [(message.role, content_key(message.content)) for message in self.messages]
        fields["schema"] = self.schema and [self.schema.name, self.schema.text]
        body = json.dumps({"version": _KEY_VERSION, **fields}, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(body.encode()).digest()


def content_key(content: Prompt) -> Any:
    """Return what tells a turn's content from another: its text, or its parts with the digests of what is no text."""
    if not content.needs:
        return content.text
    parts: list[Any] = []
    for part in content.parts:
        parts.append(part.text)
        if not isinstance(part, TextPart):
            parts.append([type(part).__name__, hashlib.sha256(part.data).hexdigest()])
    return parts


def base64_of(data: bytes) -> str:
    """Return bytes as JSON carries them."""
    return base64.b64encode(data).decode("ascii")


def data_url(media_type: str, data: bytes) -> str:
    """Return a file as an address that holds it."""
    return f"data:{media_type};base64,{base64_of(data)}"


def system_first(call: Call) -> tuple[Message, ...]:
    """Return the messages with the system prompt before the first one's content."""
    first, *rest = call.messages
    content = Prompt((TextPart(call.system or ""), *first.content.parts), first.content.notes)
    return (Message(first.role, content), *rest)


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


def effort_of(call: Call, changes: Changes, notes: list[str]) -> str | None:
    """Return the effort to send, None for none; note where a server takes others than the call's, or none."""
    if call.effort is None or "effort" not in changes:
        return call.effort
    accepts = changes["effort"]
    effort = nearest(call.effort, accepts.split(",") if isinstance(accepts, str) else ())
    if effort != call.effort:
        outcome = f"became {effort}" if effort is not None else "was left out"
        notes.append(f"The effort {call.effort} {outcome}: {call.model} does not take it.")
    return effort


def system_note(call: Call) -> str:
    """Return the note on a system prompt that went with the first message."""
    return f"The system prompt was put before the first message: {call.model} takes none of its own."


@dataclass(frozen=True, slots=True)
class Sent:
    """What went out: to whom, for which call, in which body (under OpenAI's names)."""

    provider: Provider
    call: Call
    body: Mapping[str, Any]


class Fault(Exception):  # noqa: N818  a fault is what a server did
    """A call that failed. What it spent, and what text had arrived, come along.

    ``retry_after`` is in seconds. ``usage`` is None where nothing can have been spent. ``latency`` is the seconds from
    the call's beginning to the fault, 0 where no call was begun. ``price_context`` is that of a completion.
    ``final`` marks a request that every candidate would refuse, ``only_model`` a refusal that says nothing about the
    provider's other models. ``change`` is what to send differently so that the same candidate may answer, ``deadline``
    the one that passed, and ``hint`` what a user can do about it.
    """

    latency = 0.0
    price_context: tuple[tuple[str, str], ...] = ()

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


@dataclass(frozen=True, slots=True)
class Target:
    """Where a backend sends its calls: the address for people and logs, and what the SDK is given.

    ``base_url`` is None where the SDK's own default holds, ``query`` goes with every request, ``secret`` returns the
    key when a request leaves, and ``extra`` the headers and the query that the config adds to it. ``provider`` has the
    settings of an account: region, deployments, …
    """

    address: str
    base_url: str | None
    secret: Callable[[], str]
    query: Mapping[str, str] = field(default_factory=dict)
    extra: Callable[[], tuple[Mapping[str, str], Mapping[str, str]]] = lambda: ({}, {})
    provider: Provider | None = None


class Backend(ABC):
    """One SDK: its client, what goes out, what comes back, and what its errors are.

    A backend is made for one target and used by many threads. It gives the SDK's client
    ``transport.client(target.address)`` as its HTTP client and :data:`PLACEHOLDER` as its key: the transport puts the
    key into whichever header holds the placeholder, keeps the deadlines, bounds what is read and ends a call that is
    stopped.
    """

    address: ClassVar[str] = ""
    """Where its service answers when the config names no address; "" where providers.toml or the config must say so."""
    limit_names: ClassVar[tuple[str, ...]] = ()
    """What its protocol calls the output limit; a server that refuses one name is sent the next."""
    paths: ClassVar[tuple[str, ...]] = ()
    """What the SDK adds to an address, and parts of it: an address that ends so already is wrong."""
    version: ClassVar[str] = ""
    """How an address ends that the SDK adds the path to, such as "/v1"; "" where the SDK adds the version, too."""

    has_flex: ClassVar[bool] = False
    """Whether a call may be sent as one that can wait, for half the price."""
    most_in_batch: ClassVar[tuple[int, int]] = (0, 0)
    """The requests and bytes that a job of its batch API takes at most; 0 where it has none."""

    def __init__(self, target: Target, transport: Transport) -> None:
        self.target = target
        self.transport = transport

    @abstractmethod
    def body(self, provider: Provider, call: Call, changes: Changes, notes: list[str]) -> dict[str, Any]:
        """Return the body to send.

        Args:
            provider: The provider that is called.
            call: The request, as the SDK-neutral values of one call.
            changes: The parameters that this server has refused before, and their replacements.
            notes: Gets a line for the user on each parameter that is left out.

        Returns:
            The arguments of the SDK's method.
        """

    @abstractmethod
    def send(self, body: dict[str, Any], watch: Watch, collector: Collector) -> None:
        """Send the body through the SDK.

        Args:
            body: What :meth:`body` returned.
            watch: The deadlines of this call.
            collector: Gets the text, counts and finish reason as they arrive.

        Raises:
            Exception: Whatever the SDK raises.
        """

    @abstractmethod
    def response_of(self, error: Exception) -> httpx2.Response | None:
        """Return the HTTP response behind an exception of the SDK.

        Args:
            error: The exception.

        Returns:
            The response; None if there was none.
        """

    def submit(self, name: str, requests: Sequence[tuple[str, dict[str, Any]]], watch: Watch) -> str:
        """Submit a job to the batch API and return its id.

        Args:
            name: By which :meth:`find` finds it again, where the provider keeps names.
            requests: The id that each result comes back under, and what :meth:`body` returned.
            watch: The deadlines.

        Raises:
            Exception: Whatever the SDK raises.
        """
        raise NotImplementedError

    def find(self, name: str, keys: Collection[str], since: float, watch: Watch) -> Search:
        """Look for a job of which it is not known whether it was submitted.

        Args:
            name: What it was submitted under.
            keys: The ids of its requests.
            since: When it was submitted, in seconds since 1970.
            watch: The deadlines.

        Raises:
            Exception: Whatever the SDK raises.
        """
        raise NotImplementedError

    def poll(self, job: str, watch: Watch) -> JobStatus:
        """Return how far a job is.

        Args:
            job: Its id.
            watch: The deadlines.

        Raises:
            Exception: Whatever the SDK raises.
        """
        raise NotImplementedError

    def results(self, job: str, watch: Watch) -> Iterator[Result]:
        """Yield the results of a job that has ended, however it did: one that expired holds paid answers.

        Args:
            job: Its id.
            watch: The deadlines.

        Raises:
            Exception: Whatever the SDK raises.
        """
        raise NotImplementedError

    def take(self, event: Event, collector: Collector) -> None:
        """Hand a whole answer to the collector, as :meth:`send` does.

        Args:
            event: The answer.
            collector: Takes it.

        Raises:
            InBandError: It is an error.
        """
        raise NotImplementedError

    def sent(self, body: dict[str, Any]) -> Mapping[str, Any]:
        """Return the body under OpenAI's names, so that a server's refusal of a parameter is understood.

        Args:
            body: What :meth:`body` returned.
        """
        return body

    def complete(
        self, provider: Provider, call: Call, deadlines: Deadlines, collector: Collector, changes: Changes
    ) -> Completion:
        """Send a call and return its completion.

        Args:
            provider: The provider that is called.
            call: The request, as the SDK-neutral values of one call.
            deadlines: In seconds.
            collector: Gets what arrives; it keeps it after a fault, too.
            changes: The parameters that this server has refused before, and their replacements.

        Raises:
            Fault: The call failed.
        """
        from ipyrouter.providers.run import run  # a cached answer needs none of it

        body = self.body(provider, call, changes, collector.notes)
        return run(self, body, Sent(provider, call, self.sent(body)), collector, deadlines)
