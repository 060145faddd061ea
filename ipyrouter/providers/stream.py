"""What both SDKs' streams have in common: collecting text, and telling what a broken one left behind."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from types import ModuleType
from typing import Any

from ipyrouter import tokens
from ipyrouter.config import Deadlines, Provider
from ipyrouter.providers.base import Call, Fault, FaultKind
from ipyrouter.providers.faults import fault_of, timed_out
from ipyrouter.providers.transport import Transport, Watch
from ipyrouter.types import Completion, Finish, Usage

_MOST_TOKENS = 10**12  # of one call: more is no count
_MAY_BE_BILLED: frozenset[FaultKind] = frozenset({"timeout", "interrupted", "broken_stream", "malformed"})
"""Faults after which nobody knows whether the server worked on a request that it has got; the others say it did not."""


class Collector:
    """The state of one answer while it arrives."""

    def __init__(self, call: Call, on_text: Callable[[str], None]) -> None:
        self._call = call
        self._on_text = on_text
        self._started = time.monotonic()
        self._pieces: list[str] = []
        self._half = ""  # the first half of a character whose second half is in the next piece
        self.sent = False
        self.accepted = False
        self.usage: Usage | None = None
        self.finish: Finish | None = None
        self.model = call.model
        self.first_token: float | None = None
        self.saw_content = False

    def add(self, text: str | None) -> None:
        """Take a piece of text; None is no content, an empty text is."""
        if text is None:
            return
        self.saw_content = True
        text, self._half = _whole_characters(self._half + text)
        if not text:
            return
        if self.first_token is None:
            self.first_token = time.monotonic() - self._started
        self._pieces.append(text)
        self._on_text(text)

    @property
    def text(self) -> str:
        """All text so far."""
        return "".join(self._pieces)

    @property
    def latency(self) -> float:
        """Seconds since the call began."""
        return time.monotonic() - self._started

    def spent(self) -> Usage | None:
        """Return the tokens spent so far: the provider's figures, else an estimate; None before it accepted."""
        if not self.accepted:
            return None
        told, generated = self.usage, tokens.estimate(self.text)
        usage = _sound(told or Usage())
        if usage.input_tokens == 0:  # not reported: no request has none
            *history, prompt = self._call.messages
            said = tokens.estimate_input(prompt.text, self._call.system, tuple(history))
            usage = replace(usage, input_tokens=said, estimated=True)
        untold = told is None or told.output_tokens != usage.output_tokens
        if (self.finish is None or untold) and generated > usage.output_tokens:
            usage = replace(usage, output_tokens=generated, estimated=True)
        return usage

    def fault(self, fault: Fault) -> Fault:
        """Return the fault with what had arrived, what it had spent or may have, and how long it took."""
        self.accepted = self.accepted or (self.sent and fault.kind in _MAY_BE_BILLED)
        fault.text, fault.usage, fault.first_token = self.text, self.spent(), self.first_token
        fault.latency = self.latency
        return fault

    def complete(self) -> Completion:
        """Return the completion. Raises Fault for an answer that is cut short or holds nothing."""
        if self.finish is None:
            if not self.text:
                raise self.fault(Fault("malformed", "the server's answer holds no choices"))
            raise self.fault(Fault("broken_stream", "the answer ended without a finish reason"))
        if self.finish == "tool_calls" and not self.text:
            raise self.fault(Fault("malformed", "the model answered with tool calls only"))
        if self.finish == "stop" and not self.saw_content:
            raise self.fault(Fault("malformed", "the answer has no content"))
        usage = self.spent()
        if usage is None:
            raise self.fault(Fault("malformed", "the server's answer holds no choices"))
        return Completion(self.text, usage, self.finish, self.model, self.first_token, self.latency)


def _whole_characters(text: str) -> tuple[str, str]:
    """Return text with the halves of characters (surrogates) joined, lone ones replaced, and a half at its end."""
    half = text[-1:] if "\ud800" <= text[-1:] <= "\udbff" else ""
    whole = text[: len(text) - len(half)]
    return whole.encode("utf-16", "surrogatepass").decode("utf-16", "replace"), half


def _sound(usage: Usage) -> Usage:
    """Return counts that can be priced and stored: what is none becomes 0, and the whole an estimate."""

    def count(value: Any, most: int = _MOST_TOKENS) -> int:
        return value if type(value) is int and 0 <= value <= most else 0

    read = count(usage.input_tokens)
    written = count(usage.output_tokens)
    cached = count(usage.cached_input_tokens, read)
    sound = Usage(
        input_tokens=read,
        output_tokens=written,
        cached_input_tokens=cached,
        cache_write_tokens=count(usage.cache_write_tokens, read - cached),
        reasoning_tokens=count(usage.reasoning_tokens, written),
    )
    return replace(sound, estimated=usage.estimated or sound != replace(usage, estimated=False))


def run(
    send: Callable[[Watch, Collector], None],
    collector: Collector,
    *,
    sdk: ModuleType,
    transport: Transport,
    secret: Callable[[], str],
    provider: Provider,
    deadlines: Deadlines,
) -> Completion:
    """Send under the deadlines and return what was collected. Raises Fault, whatever went wrong."""
    with transport.watch(deadlines, secret) as watch:
        try:
            send(watch, collector)
        except KeyboardInterrupt:
            fault = Fault("interrupted", "stopped by the person")
        except Fault as error:
            fault = error
        except Exception as error:  # noqa: BLE001  whatever an SDK raises on a stranger's bytes is a fault
            fault = fault_of(error, sdk, provider, watch)
        else:
            collector.sent = True
            if watch.expired is None or collector.finish is not None:
                return collector.complete()
            fault = timed_out(watch)
    collector.sent = watch.sent
    # Raised outside the except block: no traceback leads into frames that saw the request's headers.
    raise collector.fault(fault)
