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
_FIELD = re.compile(rb"(data|event|id|retry)?:")
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_MOST_BYTES = 64 * 1024 * 1024  # of one answer, unpacked: a megabyte of gzip can be a gigabyte


class Event(NamedTuple):
    """One JSON value of a response, with its event's name; ``whole`` where it is all of the response.

    ``done`` marks `[DONE]`, with which OpenAI's streams end.
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


def read(response: httpx2.Response, address: str) -> Iterator[Event]:
    """Yield the JSON values of a response of ``address`` as they arrive.

    Raises Fault for what is neither JSON nor a stream of it, and json.JSONDecodeError for JSON that is none.
    """
    chunks = _bounded(response.iter_bytes())
    first = next((chunk for chunk in chunks if chunk.strip()), b"").removeprefix(_BYTE_ORDER_MARK)
    start = first.lstrip()
    if start[:1] in (b"{", b"["):
        yield Event(json.loads(b"".join([first, *chunks])), whole=True)
    elif _FIELD.match(start):
        yield from _events([first], chunks)
    elif start:
        words = read_words(b"".join([first, *chunks]).decode("utf-8", "replace"))
        raise Fault("malformed", f"{short(words.message) or 'plain text'} instead of an answer from {address}")


def _bounded(chunks: Iterable[bytes]) -> Iterator[bytes]:
    size = 0
    for chunk in chunks:
        size += len(chunk)
        if size > _MOST_BYTES:
            raise Fault("malformed", f"an answer of more than {_MOST_BYTES >> 20} MB")
        yield chunk


def _events(*parts: Iterable[bytes]) -> Iterator[Event]:
    """Read server-sent events: https://html.spec.whatwg.org/multipage/server-sent-events.html."""
    name, data = "", []
    for line in _lines(*parts):
        field, _, value = line.partition(b":")
        if field == b"event":
            name = value.decode("utf-8", "replace").strip()
        elif field == b"data":
            data.append(value.removeprefix(b" "))
        elif not line:
            if data:
                yield _event(name, b"\n".join(data))
            name, data = "", []


def _event(name: str, data: bytes) -> Event:
    if data.startswith(b"[DONE]"):
        return Event(None, done=True)
    return Event(json.loads(data.decode("utf-8", "replace")), name)


def _lines(*parts: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the lines of chunks, and two empty ones at the end: some servers leave out the last."""
    pieces: list[bytes] = []
    carriage_return = False
    for part in parts:
        for piece in part:
            chunk = piece.removeprefix(b"\n") if carriage_return else piece
            carriage_return = piece.endswith(b"\r")
            *lines, rest = _BREAK.split(chunk)
            for line in lines:
                yield b"".join([*pieces, line])
                pieces.clear()
            pieces.append(rest)
    yield b"".join(pieces)
    yield b""
