"""From a response's bytes to JSON values, whichever way the server chose to send them.

Servers answer stream=true with one JSON body, stream=false with a stream, and both with wrong content types; so the
first bytes decide.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import httpx2

from ipyrouter.providers.base import Fault
from ipyrouter.providers.words import read_words, short

_BREAK = re.compile(rb"\r\n|\n|\r")
_FIELD = re.compile(rb"(data|event|id|retry)?:|(data|event|id|retry)[\r\n]")
_STRING_OR_BRACKET = re.compile(r'"(?:[^"\\]++|\\.)*+(")?|[\[\]{}]', re.DOTALL)
_HALF_ESCAPE = re.compile(r"(?<!\\)((?:\\\\)*)\\(u[0-9a-fA-F]{0,3})?\Z")
_CLOSING = {"[": "]", "{": "}"}
_MB = 1 << 20
_UNEXPLAINED = ", which is more than the output limit explains"
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class Event(NamedTuple):
    """One JSON value of a response, with its event's name; ``whole`` where it is all of the response.

    ``done`` marks `[DONE]`, with which OpenAI's streams end, and at some gateways all others.
    """

    value: Any
    name: str = ""
    whole: bool = False
    done: bool = False


class InBandError(Exception):
    """A server that reports its failure inside a response with status 200; ``body`` is what it says."""

    def __init__(self, body: Any) -> None:
        super().__init__("error in a response")
        self.body = body


class Bounds(NamedTuple):
    """What may be read of one answer: bytes (unpacked) in all and of one JSON value, and lines."""

    total: int
    value: int
    lines: int


def bounds(max_output_tokens: int) -> Bounds:
    """Return what an answer of so many tokens may take: a megabyte of gzip can be a gigabyte.

    A stream repeats its frame with every token, in a few lines of a few hundred bytes. A JSON value of small objects
    takes twenty times its size in memory, so one alone may be no larger than a whole answer in escapes.
    """
    return Bounds(
        total=min(16 * _MB + 4096 * max_output_tokens, 64 * _MB),
        value=min(4 * _MB + 128 * max_output_tokens, 16 * _MB),
        lines=200_000 + 16 * max_output_tokens,
    )


def read(response: httpx2.Response, address: str, most: Bounds) -> Iterator[Event]:
    """Yield the JSON values of a response of ``address`` as they arrive.

    Raises Fault for what is neither JSON nor a stream of it or larger than ``most``, and json.JSONDecodeError for JSON
    that is none.
    """
    chunks = response.iter_bytes()
    start = b""
    for chunk in chunks:  # a field's name and the mark may come in pieces, after blanks that only say "still here"
        start = (start + chunk).lstrip().removeprefix(_BYTE_ORDER_MARK).lstrip()
        if start and not (len(start) <= len("retry") and start.isalpha()) and not _BYTE_ORDER_MARK.startswith(start):
            break
    if start[:1] in (b"{", b"["):
        body, whole = _join(most.value, start, chunks)
        if whole:
            yield Event(_json(body), whole=True)
            return
        if (beginning := _closed(body)) is not None:
            yield Event(beginning, whole=True)
        raise too_large(most.value)
    if _FIELD.match(start):
        yield from _events(most, [start], chunks)
    elif start:
        words = read_words(start[:_MB].decode("utf-8", "replace"))
        raise Fault("malformed", f"{short(words.message) or 'plain text'} instead of an answer from {address}")


def too_large(size: int, what: str = "an answer") -> Fault:
    """Return the fault of something that has more bytes than the call's output limit explains."""
    return Fault("unfinished", f"{what} of more than {size >> 20} MB{_UNEXPLAINED}")


def _join(most: int, start: bytes, chunks: Iterable[bytes]) -> tuple[bytes, bool]:
    """Return the chunks as one, as far as they may be long, and whether that is all."""
    pieces, size = [start], len(start)
    for chunk in chunks:
        pieces.append(chunk)
        size += len(chunk)
        if size > most:
            return b"".join(pieces)[:most], False
    return b"".join(pieces), True


def _closed(body: bytes) -> Any:
    """Return the value that the beginning of a JSON text would be if it ended where it is cut, None for no value."""
    text = _HALF_ESCAPE.sub("", body.decode("utf-8", "ignore"))
    open_brackets: list[str] = []
    in_string = False
    for token in _STRING_OR_BRACKET.finditer(text):
        if token[0] in _CLOSING:
            open_brackets.append(_CLOSING[token[0]])
        elif token[0] in "]}" and open_brackets:
            open_brackets.pop()
        in_string = token[0][0] == '"' and token[1] is None
    try:
        return json.loads(text + '"' * in_string + "".join(reversed(open_brackets)))
    except (ValueError, RecursionError):
        return None


def _events(most: Bounds, *parts: Iterable[bytes]) -> Iterator[Event]:
    """Read server-sent events: https://html.spec.whatwg.org/multipage/server-sent-events.html."""
    name, size = "", 0
    data: list[bytes] = []
    for number, line in enumerate(_lines(most.value, *parts)):
        if number >= most.lines:
            raise Fault("unfinished", f"a stream of more than {most.lines:,} lines{_UNEXPLAINED}")
        field, _, value = line.partition(b":")
        if field == b"event":
            name = value.decode("utf-8", "replace").strip()
        elif field == b"data":
            data.append(value.removeprefix(b" "))
            size += len(value)
            if size > most.value:
                raise too_large(most.value, "one event")
        elif not line:
            if any(piece.strip() for piece in data):
                yield _event(name, b"\n".join(data))
            name, size = "", 0
            data.clear()


def _event(name: str, data: bytes) -> Event:
    if data.startswith(b"[DONE]"):
        return Event(None, done=True)
    return Event(_json(data), name)


def _json(data: bytes) -> Any:
    text = data.decode("utf-8", "replace")
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        raise
    except ValueError:  # an integer of thousands of digits: no count of anything, and no reason to lose the answer
        return json.loads(text, parse_int=lambda digits: int(digits) if len(digits) < 20 else -1)


def _lines(longest: int, *parts: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the lines of chunks, and two empty ones at the end: some servers leave out the last."""
    pieces: list[bytes] = []
    size = 0
    carriage_return = False
    for part in parts:
        for piece in part:
            chunk = piece.removeprefix(b"\n") if carriage_return else piece
            carriage_return = piece.endswith(b"\r")
            *lines, rest = _BREAK.split(chunk)
            for line in lines:
                yield b"".join([*pieces, line])
                pieces.clear()
                size = 0
            pieces.append(rest)
            size += len(rest)
            if size > longest:
                raise too_large(longest, "one line")
    yield b"".join(pieces)
    yield b""
