"""What all answers have in common: collecting text, thinking and counts, and what a broken one left behind.

It needs no SDK and no HTTP, so that a caller can make the collector of a call before anything is imported for it.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from ipyrouter.pricing import media, tokens
from ipyrouter.providers.allowances import Allowance, allowances
from ipyrouter.providers.base import Call, Fault, FaultKind
from ipyrouter.providers.words import short
from ipyrouter.text.thinking import Separator
from ipyrouter.types import Completion, Finish, Usage

if TYPE_CHECKING:
    from ipyrouter.providers.wire import Event

_WIDEST_WINDOW = 2_000_000  # tokens: what a model reads at most where its window is not known
_UNCOUNTED = 65_536  # tokens that a model may think beyond the limit, where its server does not count them
_LONGEST_TOKEN = 256  # characters: an answer of more for each of its tokens has more tokens
_MAY_BE_BILLED: frozenset[FaultKind] = frozenset({"timeout", "interrupted", "broken_stream", "malformed", "unfinished"})
"""Faults after which the server may have worked on the request that it received; after the others it has not."""
_MOST_DOLLARS = Decimal(10_000)  # of one call: more is not a bill

_MOST_CHARACTERS, _CHARACTERS_PER_TOKEN = 1_000_000, 64  # of an answer; some servers think beyond the limit

_FINISH: dict[str, Finish] = {
    **dict.fromkeys(  # OpenAI; Together; TGI and watsonx; Anthropic; Cohere; AI21; Baidu
        ("stop", "eos", "eos_token", "end", "end_turn", "stop_sequence", "stop_sequences", "complete", "completed",
         "endoftext", "end_of_text", "end_of_turn", "end_of_sequence", "stop_token", "stop_word", "normal", "done",
         "finished"),
        "stop",
    ),
    **dict.fromkeys(  # OpenAI; Anthropic and Gemini; Mistral; TGI; watsonx; Cohere
        ("length", "max_tokens", "max_length", "model_length", "max_output_tokens", "max_new_tokens", "token_limit",
         "model_context_window_exceeded", "context_length_exceeded", "max_context_length", "error_limit"),
        "length",
    ),
    **dict.fromkeys(  # OpenAI; Anthropic; Gemini; Bedrock; Cohere; Zhipu
        ("content_filter", "content_filtered", "refusal", "refused", "safety", "recitation", "blocklist",
         "prohibited_content", "image_safety", "image_prohibited_content", "spii", "guardrail",
         "guardrails", "guardrail_intervened", "error_toxic", "sensitive"),
        "refusal",
    ),
    **dict.fromkeys(("tool_calls", "tool_call", "tool_use", "function_call"), "tool_calls"),
}  # fmt: skip
"""What providers call the end of an answer. Any other word is not the end of a whole one: error, abort, timeout, …"""

_STANDARD = ("", "auto", "default", "standard", "on_demand")  # OpenAI; Anthropic; Groq

_NOT_YET = ("", "null", "none")  # DashScope sends "null" with every chunk but the last

_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")

_TEXT = ("text", "output_text")
_THINKING = ("thinking", "reasoning", "reasoning_text", "reasoning_content", "redacted_thinking", "summary_text")


class Collector:
    """The state of one answer while it arrives.

    Its owner keeps, whatever becomes of the call, what arrived (:attr:`text`, :attr:`thinking`) and what it
    spent (:meth:`spent`), and can end the call from another thread with :meth:`wake`. ``window`` returns the
    tokens that the model can read, None where that is not known; it is asked when an answer's counts are in.
    """

    def __init__(
        self, call: Call, on_text: Callable[[str], None], window: Callable[[], int | None] = lambda: None
    ) -> None:
        self._window = window
        self._lock = threading.RLock()  # a signal's handler may stop what its own thread is beginning
        self._stop: Callable[[], None] | None = None
        self.stopped = False
        self.call = call
        self._on_text = on_text
        self._started: float | None = None
        self._separator = Separator()
        self._thinking: list[str] = []
        self._length = 0  # characters of text and thinking
        self._most = _MOST_CHARACTERS + _CHARACTERS_PER_TOKEN * call.max_output_tokens
        self._half = ""  # the first half of a character whose second half is in the next piece
        self.sent = False
        self._unread: list[str] = []  # kinds of parts of the answer that hold no text
        self._strange: dict[str, None] = {}  # what pieces hold that have no shape of an answer's
        self._counts: dict[str, Any] = {}
        self._broken_off = ""  # a finish reason that is none of a finished answer
        self.on_begin: Callable[[], None] = lambda: None
        self.choice: int | None = None  # the number of the choice that is read, of several
        self.accepted = False
        self.ended = False  # the server says that this is all
        self.usage: Usage | None = None
        self.at_least = 0  # output tokens that were counted before the answer was written
        self.finish: Finish | None = None
        self.model = call.model
        self.first_token: float | None = None
        self.saw_content = False
        self.billed: Decimal | None = None
        self.notes: list[str] = []
        self._served: dict[str, str] = {}
        self.allowances: tuple[Allowance, ...] = ()

    def begin(self, stop: Callable[[], None]) -> None:
        """Note that the call begins now; ``stop`` ends it from another thread."""
        with self._lock:
            self._started = time.monotonic()
            self._stop = stop
            if self.stopped:
                stop()

    def before_done(self, events: Iterable[Event]) -> Iterator[Event]:
        """Yield the events of a stream up to `[DONE]`, with which the server says that this is all."""
        for event in events:
            if event.done:
                self.ended = True
                return
            yield event

    def over(self) -> None:
        """Note that the call is over: there is nothing to end any more."""
        with self._lock:
            self._stop = None

    def wake(self) -> None:
        """End the call at once, from any thread: it fails with the fault "interrupted"."""
        with self._lock:
            self.stopped = True
            if self._stop is not None:
                self._stop()

    def add(self, content: Any) -> None:
        """Take a piece of the answer, a string or parts of one; None is not content, an empty string is."""
        for kind, text in _parts(content):
            if kind in _THINKING:
                self.think(text)
            elif kind in _TEXT:
                self.saw_content = True
                self._write(text)
            else:
                self.skip(kind)

    def skip(self, kind: Any) -> None:
        """Take note of a part of the answer that cannot be shown; an answer that holds nothing else says so."""
        self._unread.append(str(kind))

    def hold(self, names: Iterable[str]) -> None:
        """Take note of what a piece holds that has no shape of an answer's; the fault of no answer names it."""
        if len(self._strange) < 10:
            self._strange.update(dict.fromkeys(names))

    def think(self, content: Any) -> None:
        """Take a piece of what the model thinks, which is not part of the answer."""
        if text := _flat(content):
            self._begin()
            self._thinking.append(self._room_for(_whole_characters(text)[0]))
            self._check()

    def _write(self, text: str) -> None:
        text, self._half = _whole_characters(self._half + text)
        if text:
            self._begin()
            self._show(self._separator.feed(self._room_for(text)))
            self._check()

    def _room_for(self, text: str) -> str:
        """Return the text as far as an answer of the call's limit can be long."""
        room = max(self._most - self._length, 0)
        self._length += len(text)
        return text[:room]

    def _check(self) -> None:
        if self._length > self._most:
            words = f"an answer of more than {self._most:,} characters"
            raise Fault("unfinished", f"{words}, which is more than the output limit explains")

    def _begin(self) -> None:
        if self.first_token is None:
            self.first_token = self.latency
            self.on_begin()

    def _show(self, text: str) -> None:
        if text:
            self._on_text(text)

    def count(self, usage: Any, read: Callable[[Mapping[str, Any]], Usage]) -> None:
        """Take the counts of a chunk: they are cumulative, and zeros and nulls beside figures are no news."""
        if isinstance(usage, Mapping):
            _merge(self._counts, usage)
            self.usage = read(self._counts)

    def end(self, reason: Any) -> None:
        """Take a finish reason, under any provider's name for it."""
        word = _CAMEL.sub("_", str(reason).strip()).lower().replace("-", "_")
        word = word.removeprefix("finish_reason").lstrip("._")  # Gemini's, by its name in code: FinishReason.STOP
        if word not in _NOT_YET and self.finish != "refusal":
            self.finish = _FINISH.get(word)
            self._broken_off = "" if self.finish else str(reason)[:60]

    def name(self, model: Any) -> None:
        """Take the name of the model that answers."""
        if isinstance(model, str) and model:
            self.model = model

    def bill(self, dollars: Any) -> None:
        """Take what the provider says that it bills; what is not an amount of money is ignored."""
        self.billed = _amount(dollars)

    def serve(self, **context: Any) -> None:
        """Take at what other than the standard price the call is served, under genai-prices' names."""
        for name, value in context.items():
            if isinstance(value, str) and value.lower() not in _STANDARD:
                self._served[name] = value.lower()[:40]

    def allow(self, headers: Mapping[str, str]) -> None:
        """Take what the response's headers say of the account's limits."""
        self.allowances = allowances(headers)

    @property
    def price_context(self) -> tuple[tuple[str, str], ...]:
        """What else than the standard price the call is served at."""
        return tuple(sorted(self._served.items()))

    @property
    def text(self) -> str:
        """The answer so far, without the thinking in it."""
        return self._separator.text

    @property
    def thinking(self) -> str:
        """What the model thought so far."""
        return "\n".join(filter(None, ("".join(self._thinking).strip(), self._separator.thinking)))

    @property
    def latency(self) -> float:
        """Seconds since the call began; 0 where it has not."""
        return 0.0 if self._started is None else time.monotonic() - self._started

    def spent(self) -> Usage | None:
        """Return the tokens spent so far: the provider's figures, else an estimate; None before it accepted."""
        if not self.accepted:
            return None
        *history, prompt = self.call.messages
        schema = self.call.schema.text if self.call.schema else ""
        request = (prompt.text, self.call.system, tuple(history), schema)
        answer = self.text + self.thinking
        written = max(tokens.estimate(answer), self.at_least)
        seen = media.bound(self.call.messages, self.call.model)
        most_read = max(self._window() or _WIDEST_WINDOW, tokens.bound_input(*request) + seen)
        most_written = max(self.call.max_output_tokens, tokens.bound_input(answer)) + _UNCOUNTED
        usage = _sound(self.usage or Usage(), most_read, most_written)
        if usage.input_tokens == 0:  # not reported: no request has none
            read = tokens.estimate_input(*request) + media.estimate(self.call.messages, self.call.model)
            usage = replace(usage, input_tokens=read, estimated=True)
        if self.finish is None or usage.output_tokens * _LONGEST_TOKEN < len(answer):
            written = max(written, usage.output_tokens)
            usage = replace(usage, output_tokens=written, estimated=usage.estimated or written > usage.output_tokens)
        return usage

    def close(self) -> None:
        """Hand over the text that was held back: there is no more to come."""
        self._show(self._separator.finish())

    def fault(self, fault: Fault) -> Fault:
        """Return the fault with what had arrived, what it had spent or may have, and how long it took."""
        self._separator.finish()
        self.accepted = self.accepted or (self.sent and fault.kind in _MAY_BE_BILLED)
        fault.text, fault.usage, fault.first_token = self.text, self.spent(), self.first_token
        fault.latency, fault.price_context = self.latency, self.price_context
        return fault

    def whole(self) -> Completion | None:
        """Return the completion if all of it has come."""
        try:
            return self.complete()
        except Fault:
            return None

    def complete(self) -> Completion:
        """Return the completion. Raises Fault for an answer that is cut short or holds nothing."""
        self._separator.finish()
        if self._broken_off:
            raise self.fault(Fault("unfinished", f"the answer broke off with the finish reason {self._broken_off!r}"))
        if self.finish is None and self.ended and (self.text or self.thinking):
            self.finish = "stop"
        usage = self.spent()
        if self.finish is None or usage is None:
            if self.text or self.thinking:
                raise self.fault(Fault("broken_stream", "the answer ended without a finish reason"))
            strange = f" but {short(', '.join(self._strange))}" if self._strange else ""
            raise self.fault(Fault("malformed", f"the server's answer holds no choices{strange}"))
        if self.finish == "tool_calls" and not self.text:
            raise self.fault(Fault("malformed", "the model answered with tool calls only"))
        if self.finish == "stop" and not (self.saw_content or self.thinking):
            parts = f" but {short(', '.join(dict.fromkeys(self._unread)))}" if self._unread else ""
            raise self.fault(Fault("malformed", f"the answer has no content{parts}"))
        return Completion(
            self.text,
            usage,
            self.finish,
            self.model,
            self.first_token,
            self.latency,
            thinking=self.thinking,
            billed=self.billed,
            notes=tuple(self.notes),
            price_context=self.price_context,
        )


def count_of(counts: Any, *names: str) -> int:
    """Return the first count that stands under the names: 0 where there is none, −1 for what is not a count."""
    for name in names:
        value = counts.get(name) if isinstance(counts, Mapping) else None
        if value is not None:
            if type(value) is float and value.is_integer():
                return int(value)
            return value if type(value) is int else -1
    return 0


def bill_of_litellm(headers: Mapping[str, str], collector: Collector) -> bool:
    """Tell whether a LiteLLM proxy answers, which says what it bills: in a header, or in a stream's usage."""
    collector.bill(headers.get("x-litellm-response-cost"))
    if not collector.billed:  # it says 0 for what it has no price for
        collector.billed = None
    return any(name.startswith("x-litellm-") for name in headers)


def _merge(known: dict[str, Any], news: Mapping[str, Any]) -> None:
    for name, value in news.items():
        if isinstance(value, Mapping):
            inner = known.get(name)
            known[name] = inner = inner if isinstance(inner, dict) else {}
            _merge(inner, value)
        elif value:
            known[name] = value


def _amount(dollars: Any) -> Decimal | None:
    if not isinstance(dollars, int | float | str) or isinstance(dollars, bool):
        return None
    try:
        amount = Decimal(str(dollars))
        sound = amount.is_finite() and 0 <= amount <= _MOST_DOLLARS
        return round(amount, 12) if sound else None  # the log's precision
    except ArithmeticError:
        return None


def _parts(content: Any) -> Iterator[tuple[str, str]]:
    """Yield (kind, text) of a message's content: a string, a list of typed parts, or JSON that was not written out."""
    if content is None:
        return
    if isinstance(content, str):
        yield "text", content
    elif _is_part(content):
        yield from _part(content)
    elif isinstance(content, list) and (not content or any(map(_is_part, content))):
        yield from ([] if content else [("text", "")])
        for part in content:
            yield from _part(part)
    else:
        yield "text", json.dumps(content, ensure_ascii=False)


def _is_part(value: Any) -> bool:
    return isinstance(value, dict) and value.get("type") in (*_TEXT, *_THINKING)


def _part(part: Any) -> Iterator[tuple[str, str]]:
    if isinstance(part, str):
        yield "text", part
    elif isinstance(part, dict):
        yield str(part.get("type")), _flat(part)


def _flat(value: Any) -> str:
    """Return the text in a part, which may hold parts itself."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "".join(map(_flat, value))
    if isinstance(value, dict):
        names = ("text", "value", "thinking", "reasoning", "summary", "content")
        return next((_flat(value[name]) for name in names if value.get(name)), "")
    return ""


def _whole_characters(text: str) -> tuple[str, str]:
    """Return text with the halves of characters (surrogates) joined, lone ones replaced, and a half at its end."""
    half = text[-1:] if "\ud800" <= text[-1:] <= "\udbff" else ""
    whole = text[: len(text) - len(half)]
    return whole.encode("utf-16", "surrogatepass").decode("utf-16", "replace"), half


def _sound(usage: Usage, most_read: int, most_written: int) -> Usage:
    """Return counts that can be priced and stored: what the call cannot explain becomes 0, the whole an estimate."""

    def count(value: Any, most: int) -> int:
        return value if type(value) is int and 0 <= value <= most else 0

    read = count(usage.input_tokens, most_read)
    written = count(usage.output_tokens, most_written)
    cached = count(usage.cached_input_tokens, read)
    sound = Usage(
        input_tokens=read,
        output_tokens=written,
        cached_input_tokens=cached,
        cache_write_tokens=count(usage.cache_write_tokens, read - cached),
        reasoning_tokens=count(usage.reasoning_tokens, written),
        cache_write_1h_tokens=count(
            usage.cache_write_1h_tokens, max(count(usage.cache_write_tokens, read - cached), 0)
        ),
    )
    return replace(sound, estimated=usage.estimated or sound != replace(usage, estimated=False))
