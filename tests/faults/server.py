"""A loopback server that speaks OpenAI's, Anthropic's and Google's protocols and misbehaves on demand.

The model's name says what happens: "ok", "status-503", "hang", "stream-reset" … (see BEHAVIOURS). It answers whatever
it is asked with TEXT ("echo" with the last message itself, "ok" in the form of a schema), and counts tokens as its own
figures USAGE.

A model with an entry in ``replies`` is answered by it instead; chat(), chunk() and sse() make bodies of such replies.
"""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar, NamedTuple

TEXT = "Forty-two, and the reasons for it are many and well known."
HALVES = "A face, in \ud83d\ude00 two pieces, and half of one: \ud83d."  # the first is cut by _pieces
IN, CACHED, OUT = 120, 20, 30

STATUS: dict[str, tuple[int, dict[str, Any], dict[str, str]]] = {
    "status-400": (400, {"message": "messages: at least one is required", "type": "invalid_request_error"}, {}),
    "status-400-context": (
        400,
        {"message": "This model's maximum context length is 8 tokens.", "code": "context_length_exceeded"},
        {},
    ),
    "status-401": (401, {"message": "Incorrect API key provided", "type": "authentication_error"}, {}),
    "status-403": (403, {"message": "Country not supported", "type": "permission_error"}, {}),
    "status-404": (404, {"message": "The model does not exist", "type": "not_found_error"}, {}),
    "status-429": (429, {"message": "Rate limit reached", "type": "rate_limit_error"}, {}),
    "status-429-30": (429, {"message": "Rate limit reached", "type": "rate_limit_error"}, {"Retry-After": "30"}),
    "status-429-1": (429, {"message": "Rate limit reached", "type": "rate_limit_error"}, {"Retry-After": "1"}),
    "status-429-date": (429, {"message": "Rate limit reached", "type": "rate_limit_error"}, {"Retry-After": "DATE"}),
    "status-429-quota": (429, {"message": "You exceeded your current quota", "code": "insufficient_quota"}, {}),
    "status-500": (500, {"message": "Internal error", "type": "api_error"}, {}),
    "status-502": (502, {"message": "Bad gateway", "type": "api_error"}, {}),
    "status-503": (503, {"message": "Unavailable", "type": "api_error"}, {}),
    "status-529": (529, {"message": "Overloaded", "type": "overloaded_error"}, {}),
}
WHOLE = (
    "reset", "hang", "slow-first", "malformed", "truncated", "html", "empty-choices", "missing-choices", "none-content",
    "refusal", "tool-calls", "no-usage", "length", "short", "empty", "echo", "halves",
)  # fmt: skip
STREAM = (
    "stream-reset", "stream-end", "stream-stall", "stream-error", "stream-broken-line", "stream-drip", "stream-silent",
    "stream-held", "stream-thinks",
)  # fmt: skip
BEHAVIOURS = ("ok", *STATUS, *WHOLE, *STREAM)
PLAIN = ("small", "medium", "large")  # names for pictures; they answer like "ok"
HANG = 30.0  # seconds: longer than any deadline of the tests


class Reply(NamedTuple):
    """A reply as it goes out: strings and bytes as they are, anything else as JSON; cut short unless ``whole``."""

    body: Any = ""
    status: int = 200
    headers: Mapping[str, str] = {}
    whole: bool = True


class FaultServer:
    """Serves until closed. ``requests`` holds (path, headers, body) of every request.

    A "stream-held" answer stops half-way until ``release`` is set.
    """

    def __init__(self) -> None:
        self.requests: list[tuple[str, dict[str, str], dict[str, Any]]] = []
        self.replies: dict[str, Reply | Callable[[dict[str, Any]], Reply]] = {}
        self.delay = 0.0
        self.release = threading.Event()
        self._closing = threading.Event()
        owner = self

        class Handler(_Handler):
            server_owner = owner

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128

            def handle_error(self, request: Any, client_address: Any) -> None:
                """Stay silent: a client that hangs up is what these tests are about."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def wait(self, seconds: float) -> None:
        self._closing.wait(seconds)

    def close(self) -> None:
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@contextlib.contextmanager
def serving() -> Iterator[FaultServer]:
    server = FaultServer()
    try:
        yield server
    finally:
        server.close()


class _Handler(BaseHTTPRequestHandler):
    server_owner: FaultServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_: Any) -> None: ...

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server_owner.requests.append((self.path, dict(self.headers.items()), body))
        path = self.path.partition("?")[0]
        method = path.rpartition("/")[2].partition(":")[2]  # Google's stand in the address, with the model
        if method:
            body = {"model": path.rpartition("/")[2].partition(":")[0], **body}
            body["messages"] = [{"content": body["contents"][-1]["parts"][0]["text"]}]
        self.streaming = bool(body.get("stream")) or method == "streamGenerateContent"
        name = body["model"].split("@")[0]
        behaviour = "ok" if name in PLAIN else name
        text = body["messages"][-1]["content"] if behaviour == "echo" else _text(behaviour, _schema_in(body))
        protocol = _Google if method else _Anthropic if path.endswith("/messages") else _OpenAI
        self.protocol: Any = protocol(text)
        if self.server_owner.delay:
            time.sleep(self.server_owner.delay)
        if name in self.server_owner.replies:
            reply = self.server_owner.replies[name]
            return self._reply(reply if isinstance(reply, Reply) else reply(body))
        if behaviour in STATUS:
            return self._status(*STATUS[behaviour])
        if behaviour == "reset":
            return self._reset()
        if behaviour == "hang":
            return self.server_owner.wait(HANG)
        if behaviour == "slow-first":
            self.server_owner.wait(0.3)
        if behaviour == "html":
            return self._send(b"<!doctype html><html><body>Log in to the proxy</body></html>", "text/html")
        if self.streaming:
            return self._stream(behaviour, body["model"])
        return self._whole(behaviour, body["model"])

    # --- whole answers ---

    def _whole(self, behaviour: str, model: str) -> None:
        data = json.dumps(self.protocol.whole(behaviour, model)).encode()
        if behaviour == "malformed":
            data = b'{"id": "x", "choices": [{"mess'
        if behaviour == "truncated":
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data[: len(data) // 2])
            self.close_connection = True
            return
        if behaviour == "stream-stall":
            self.server_owner.wait(HANG)
        if behaviour == "stream-reset":
            self._reset()
            return
        self._send(data, "application/json")

    # --- streams ---

    def _stream(self, behaviour: str, model: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        if behaviour == "stream-silent":  # headers, then nothing
            return self.server_owner.wait(HANG)
        events = self.protocol.events(behaviour, model)
        half = len(events) // 2
        for index, event in enumerate(events):
            if index == half and behaviour in ("stream-reset", "truncated"):
                return self._reset()
            if index == half and behaviour == "stream-end":
                break
            if index == half and behaviour == "stream-stall":
                return self.server_owner.wait(HANG)
            if index == half and behaviour == "stream-error":
                self._chunk(self.protocol.error_event())
                break
            if index == half and behaviour in ("stream-broken-line", "malformed"):
                self._chunk(b'data: {"choices": [{"del\n\n' if index else b"")
                break
            self._wait(behaviour, index, half)
            self._chunk(event)
        self.wfile.write(b"0\r\n\r\n")
        return None

    def _wait(self, behaviour: str, index: int, half: int) -> None:
        if index == half and behaviour == "stream-held":
            self.server_owner.release.wait(HANG)
        if behaviour == "stream-drip":
            self.server_owner.wait(0.75)
        if index == 1 and behaviour == "stream-thinks":  # after the chunk that holds no text yet
            self.server_owner.wait(2.5)

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.flush()

    # --- plain HTTP ---

    def _status(self, status: int, error: dict[str, Any], headers: dict[str, str]) -> None:
        body = json.dumps({"type": "error", "error": error}).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, formatdate(time.time() + 30, usegmt=True) if value == "DATE" else value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _reply(self, reply: Reply) -> None:
        text = isinstance(reply.body, str | bytes)
        data = reply.body if text else json.dumps(reply.body)
        data = data.encode() if isinstance(data, str) else data
        kind = "text/event-stream" if data[:5] in (b"data:", b"event") else "text/plain" if text else "application/json"
        self.send_response(reply.status)
        for name, value in {"Content-Type": kind, **reply.headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data) + (0 if reply.whole else 1)))
        self.end_headers()
        self.wfile.write(data)
        if not reply.whole:
            self.close_connection = True

    def _send(self, data: bytes, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _reset(self) -> None:
        """Close with RST instead of FIN."""
        self.wfile.flush()
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True


def chat(content: Any = TEXT, finish: Any = "stop", usage: Any = None, **message: Any) -> dict[str, Any]:
    """Return a whole answer of OpenAI's."""
    message = {"role": "assistant", "content": content, **message}
    return {
        "id": "x", "object": "chat.completion", "created": 1, "model": "m",
        "choices": [{"index": 0, "message": message, "finish_reason": finish}],
        "usage": {"prompt_tokens": IN, "completion_tokens": OUT, "total_tokens": IN + OUT} if usage is None else usage,
    }  # fmt: skip


def chunk(content: Any = None, finish: Any = None, **more: Any) -> dict[str, Any]:
    """Return a chunk of OpenAI's; ``delta`` replaces the delta, other names stand beside the choices."""
    delta = more.pop("delta", {"content": content})
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice], **more}


def sse(*chunks: Any, done: bool = True) -> str:
    """Return chunks as a stream; events of Anthropic's, which have a type, under their names."""
    named = [_sse(piece, piece.get("type", "")).decode() for piece in chunks]
    return "".join(named) + ("data: [DONE]\n\n" if done else "")


def claude(*deltas: Any, stop: Any = "end_turn", start: Any = None, usage: Any = None, end: bool = True) -> str:
    """Return a stream of Anthropic's; a delta may be a string."""
    message = {"id": "x", "type": "message", "role": "assistant", "model": "m", "content": [], "stop_reason": None}
    block = {"type": "text", "text": ""}
    texts = [{"type": "text_delta", "text": delta} if isinstance(delta, str) else delta for delta in deltas]
    last = {"type": "message_delta", "delta": {"stop_reason": stop, "stop_sequence": None}}
    return sse(
        {"type": "message_start", "message": {**message, "usage": start or {"input_tokens": IN, "output_tokens": 1}}},
        {"type": "content_block_start", "index": 0, "content_block": block},
        *({"type": "content_block_delta", "index": 0, "delta": delta} for delta in texts),
        {"type": "content_block_stop", "index": 0},
        {**last, "usage": {"output_tokens": OUT} if usage is None else usage},
        *([{"type": "message_stop"}] if end else []),
        done=False,
    )


def claude_whole(*content: Any, stop: Any = "end_turn", usage: Any = None) -> dict[str, Any]:
    """Return a whole message of Anthropic's; content may be strings."""
    blocks = [{"type": "text", "text": block} if isinstance(block, str) else block for block in content]
    return {
        "id": "x", "type": "message", "role": "assistant", "model": "m", "content": blocks, "stop_reason": stop,
        "usage": {"input_tokens": IN, "output_tokens": OUT} if usage is None else usage,
    }  # fmt: skip


def gemini(*texts: Any, finish: Any = "STOP", usage: Any = None, **more: Any) -> list[dict[str, Any]]:
    """Return the chunks of an answer of Google's; a text may be a part. The last has the finish reason and usage."""
    parts = [[{"text": text} if isinstance(text, str) else text] for text in texts]
    chunks: list[dict[str, Any]] = [
        {"candidates": [{"content": {"role": "model", "parts": part}, "index": 0}], "modelVersion": "m"}
        for part in parts
    ]
    if finish is not None:
        chunks[-1]["candidates"][0]["finishReason"] = finish
    chunks[-1]["usageMetadata"] = {"promptTokenCount": IN, "candidatesTokenCount": OUT} if usage is None else usage
    chunks[-1].update(more)
    return chunks


def _text(behaviour: str, schema: Any) -> str:
    if behaviour == "ok" and schema is not None:
        return json.dumps(_sample(schema, schema))
    return {"halves": HALVES, "short": "No.", "empty": "", "refusal": "I cannot help with that."}.get(behaviour, TEXT)


def _schema_in(body: dict[str, Any]) -> Any:
    """Return the schema that a request is sent with, None for none."""
    openai = body.get("response_format", {}).get("json_schema", {}).get("schema")
    anthropic = body.get("output_config", {}).get("format", {}).get("schema")
    return openai or anthropic or body.get("generationConfig", {}).get("responseJsonSchema")


def _sample(node: dict[str, Any], root: dict[str, Any]) -> Any:
    """Return a value of a schema in the strict subset: of several the first."""
    if "$ref" in node:
        return _sample(root["$defs"][node["$ref"].rpartition("/")[2]], root)
    if "anyOf" in node:
        return _sample(node["anyOf"][0], root)
    if "enum" in node:
        return node["enum"][0]
    if node["type"] == "object":
        return {name: _sample(held, root) for name, held in node["properties"].items()}
    if node["type"] == "array":
        return [_sample(node["items"], root)]
    return {"string": "text", "number": 0.5, "integer": 1, "boolean": True, "null": None}[node["type"]]


def _pieces(text: str) -> list[str]:
    """Cut a string as a stream brings it; a long one into larger pieces."""
    size = max(12, len(text) // 100)
    return [text[i : i + size] for i in range(0, len(text), size)]


def _sse(data: dict[str, Any], event: str = "") -> bytes:
    return (f"event: {event}\n" if event else "").encode() + f"data: {json.dumps(data)}\n\n".encode()


class _OpenAI:
    usage: ClassVar[dict[str, Any]] = {
        "prompt_tokens": IN,
        "completion_tokens": OUT,
        "total_tokens": IN + OUT,
        "prompt_tokens_details": {"cached_tokens": CACHED},
        "completion_tokens_details": {"reasoning_tokens": 5},
    }
    tool_calls: ClassVar[list[dict[str, Any]]] = [
        {"index": 0, "id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    ]

    def __init__(self, text: str) -> None:
        self.text = text

    def _finish(self, behaviour: str) -> str:
        return {"length": "length", "tool-calls": "tool_calls"}.get(behaviour, "stop")

    def whole(self, behaviour: str, model: str) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": self.text}
        if behaviour == "none-content":
            message["content"] = None
        if behaviour == "refusal":
            message = {"role": "assistant", "content": None, "refusal": self.text}
        if behaviour == "tool-calls":
            message = {"role": "assistant", "content": None, "tool_calls": self.tool_calls}
        finish = None if behaviour == "stream-end" else self._finish(behaviour)
        answer: dict[str, Any] = {
            "id": "x", "object": "chat.completion", "created": 1, "model": model,
            "choices": [{"index": 0, "message": message, "finish_reason": finish}],
        }  # fmt: skip
        if behaviour != "no-usage":
            answer["usage"] = self.usage
        if behaviour == "empty-choices":
            answer["choices"] = []
        if behaviour == "missing-choices":
            del answer["choices"]
        return answer

    def events(self, behaviour: str, model: str) -> list[bytes]:
        def chunk(delta: dict[str, Any], finish: str | None = None, **more: Any) -> bytes:
            choice = {"index": 0, "delta": delta, "finish_reason": finish}
            base = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": model}
            return _sse({**base, "choices": [choice], **more})

        if behaviour in ("empty-choices", "missing-choices"):
            events = [chunk({}, choices=[]) for _ in range(3)]
        elif behaviour == "none-content":
            events = [chunk({"role": "assistant", "content": None}), chunk({}, "stop")]
        elif behaviour == "refusal":
            events = [chunk({"role": "assistant"}), chunk({"refusal": self.text}), chunk({}, "stop")]
        elif behaviour == "tool-calls":
            events = [chunk({"tool_calls": self.tool_calls}), chunk({}, "tool_calls")]
        else:
            events = [
                chunk({"role": "assistant", "content": ""}),
                *(chunk({"content": p}) for p in _pieces(self.text) or [""]),
            ]
            events.append(chunk({}, self._finish(behaviour)))
        if behaviour not in ("no-usage", "empty-choices", "missing-choices"):
            events.append(chunk({}, choices=[], usage=self.usage))
        return [*events, b"data: [DONE]\n\n"]

    def error_event(self) -> bytes:
        return _sse({"error": {"message": "The server had an error", "type": "server_error", "code": "server_error"}})


class _Anthropic:
    usage: ClassVar[dict[str, Any]] = {
        "input_tokens": IN - CACHED,
        "cache_read_input_tokens": CACHED,
        "output_tokens": OUT,
    }
    tool: ClassVar[dict[str, Any]] = {"type": "tool_use", "id": "c1", "name": "f", "input": {}}

    def __init__(self, text: str) -> None:
        self.text = text

    def _stop(self, behaviour: str) -> str:
        return {"length": "max_tokens", "tool-calls": "tool_use", "refusal": "refusal"}.get(behaviour, "end_turn")

    def whole(self, behaviour: str, model: str) -> dict[str, Any]:
        content = [] if behaviour == "none-content" else [{"type": "text", "text": self.text}]
        if behaviour == "tool-calls":
            content = [self.tool]
        stop = None if behaviour == "stream-end" else self._stop(behaviour)
        answer: dict[str, Any] = {
            "id": "x", "type": "message", "role": "assistant", "model": model, "content": content, "stop_reason": stop,
        }  # fmt: skip
        if behaviour != "no-usage":
            answer["usage"] = self.usage
        if behaviour == "empty-choices":
            answer |= {"content": [], "stop_reason": None}
        if behaviour == "missing-choices":
            del answer["content"], answer["stop_reason"]
        return answer

    def events(self, behaviour: str, model: str) -> list[bytes]:
        usage: ClassVar[dict[str, Any]] = {**self.usage, "output_tokens": 1}
        message = {
            "id": "x",
            "type": "message",
            "role": "assistant",
            "model": model,
            "content": [],
            "stop_reason": None,
        }
        start = _sse(
            {"type": "message_start", "message": message | ({} if behaviour == "no-usage" else {"usage": usage})},
            "message_start",
        )
        if behaviour in ("empty-choices", "missing-choices"):
            return [start, _sse({"type": "message_stop"}, "message_stop")]
        block = self.tool if behaviour == "tool-calls" else {"type": "text", "text": ""}
        text = "" if behaviour in ("none-content", "tool-calls") else self.text
        events = [start]
        if behaviour != "none-content":
            events.append(
                _sse({"type": "content_block_start", "index": 0, "content_block": block}, "content_block_start")
            )
            events += [
                _sse(
                    {
                        "type": "content_block_delta",
                        "index": 0,
                        "delta": {"type": "text_delta", "text": piece},
                    },
                    "content_block_delta",
                )
                for piece in _pieces(text)
            ]
            events.append(_sse({"type": "content_block_stop", "index": 0}, "content_block_stop"))
        delta: dict[str, Any] = {
            "type": "message_delta",
            "delta": {"stop_reason": self._stop(behaviour), "stop_sequence": None},
        }
        delta["usage"] = None if behaviour == "no-usage" else {"output_tokens": OUT}
        return [*events, _sse(delta, "message_delta"), _sse({"type": "message_stop"}, "message_stop")]

    def error_event(self) -> bytes:
        return _sse({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}, "error")


class _Google:
    usage: ClassVar[dict[str, Any]] = {
        "promptTokenCount": IN,
        "cachedContentTokenCount": CACHED,
        "candidatesTokenCount": OUT - 5,
        "thoughtsTokenCount": 5,
        "totalTokenCount": IN + OUT,
    }

    def __init__(self, text: str) -> None:
        self.text = text

    def _chunk(self, behaviour: str, model: str, text: str | None, *, last: bool) -> dict[str, Any]:
        parts = [] if text is None else [{"text": text}]
        if behaviour == "tool-calls":
            parts = [{"functionCall": {"name": "f", "args": {}}}]
        candidate: dict[str, Any] = {"content": {"role": "model", "parts": parts}, "index": 0}
        if last and behaviour != "stream-end":
            candidate["finishReason"] = {"length": "MAX_TOKENS", "refusal": "SAFETY"}.get(behaviour, "STOP")
        chunk: dict[str, Any] = {"candidates": [candidate], "modelVersion": model, "responseId": "x"}
        if behaviour == "empty-choices":
            chunk["candidates"] = []
        if behaviour == "missing-choices":
            del chunk["candidates"]
        if behaviour not in ("no-usage", "empty-choices", "missing-choices"):
            chunk["usageMetadata"] = self.usage if last else {"promptTokenCount": IN, "totalTokenCount": IN}
        return chunk

    def whole(self, behaviour: str, model: str) -> dict[str, Any]:
        return self._chunk(behaviour, model, None if behaviour == "none-content" else self.text, last=True)

    def events(self, behaviour: str, model: str) -> list[bytes]:
        texts: list[str | None] = [None] if behaviour == "none-content" else list(_pieces(self.text)) or [""]
        end = None if behaviour == "none-content" else ""
        chunks = [self._chunk(behaviour, model, text, last=False) for text in texts]
        return [_sse(chunk) for chunk in (*chunks, self._chunk(behaviour, model, end, last=True))]

    def error_event(self) -> bytes:
        return _sse({"error": {"code": 503, "message": "The model is overloaded.", "status": "UNAVAILABLE"}})
