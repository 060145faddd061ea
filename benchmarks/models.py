"""A loopback server that answers as models might: token counts and latencies drawn from stated distributions.

Every figure here is an assumption of ours, none was measured at a provider. The same model gives the same request the
same answer, so that strategies are compared on equal draws.
"""

from __future__ import annotations

import json
import random
import sys
import time
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from benchmarks.workload import Task, requests
from ipyrouter.types import TierName

ANSWER: dict[TierName, tuple[float, float]] = {"fast": (90, 0.6), "mid": (450, 0.5), "power": (1400, 0.4)}
"""Median output tokens and sigma (of the logarithm) by what the request needs."""

CHARACTERS = 4  # a token, of prompts and answers alike


@dataclass(frozen=True, slots=True)
class Profile:
    """A model: median seconds to the first token, tokens a second, and how much longer than the median it writes.

    ``weak`` is the share of wrong-footed answers: stubs to requests above a fast model's head, code that does not
    parse, JSON that is none.
    """

    first: float
    speed: float
    length: float
    weak: float


FAST, MID, POWER = Profile(0.4, 120, 0.9, 0.06), Profile(0.6, 80, 1.0, 0.02), Profile(1.0, 60, 1.3, 0.01)
PROFILES = {
    "gpt-4o-mini": FAST, "gpt-4o": MID, "gpt-5.4": POWER,
    "gpt-6-luna": FAST, "gpt-6.1-terra": MID, "gpt-6.1-sol": POWER,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Draw:
    """One answer: tokens in and out, seconds to the first token and to the last, and whether it is weak."""

    read: int
    written: int
    first: float
    total: float
    weak: bool
    cut: bool


def draw(model: str, task: Task, limit: int) -> Draw:
    """Return the answer that the model gives to the request within a limit of output tokens."""
    profile = PROFILES[model]
    chance = random.Random(f"{model}|{task.prompt}")
    median, sigma = ANSWER[task.needs]
    length = max(5, round(chance.lognormvariate(0, sigma) * median * profile.length))
    first = profile.first * chance.lognormvariate(0, 0.3)
    speed = profile.speed * chance.lognormvariate(0, 0.2)
    weak = chance.random() < profile.weak
    if weak and task.form == "prose":
        length = 8  # a stub
    written = min(length, limit)
    read = len(task.prompt) // CHARACTERS + 8
    return Draw(read, written, first, first + written / speed, weak, written < length)


def _text(task: Task, drawn: Draw) -> str:
    size = drawn.written * CHARACTERS
    if task.form == "json":
        return "Sorry, here it is: " if drawn.weak else json.dumps([("word " * (size // 5)).strip()])
    code = "```python\ndef answer(:\n```\n" if drawn.weak else "```python\nanswer = 42\n```\n"
    return ((code if task.form == "code" else "") + "Because it says so. " * (size // 20 + 1))[: max(size, 20)]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    tasks: dict[str, Task]
    scale: float

    def log_message(self, *_: Any) -> None: ...

    def do_POST(self) -> None:
        started = time.perf_counter()
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        task = self.tasks[body["messages"][-1]["content"]]
        drawn = draw(body["model"], task, body["max_completion_tokens"])
        self._sleep(started, drawn.first)
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        base = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": body["model"]}
        text = _text(task, drawn)
        step = -(-len(text) // 8)
        for place in range(0, len(text), step):
            self._event({**base, "choices": [_choice({"content": text[place : place + step]}, None)]})
        self._sleep(started, drawn.total)
        self._event({**base, "choices": [_choice({}, "length" if drawn.cut else "stop")]})
        usage = {"prompt_tokens": drawn.read, "completion_tokens": drawn.written,
                 "total_tokens": drawn.read + drawn.written}  # fmt: skip
        self._event({**base, "choices": [], "usage": usage})
        data = b"data: [DONE]\n\n"
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n0\r\n\r\n")

    def _sleep(self, started: float, seconds: float) -> None:
        time.sleep(max(0.0, seconds * self.scale - (time.perf_counter() - started)))

    def _event(self, data: dict[str, Any]) -> None:
        event = f"data: {json.dumps(data)}\n\n".encode()
        self.wfile.write(f"{len(event):x}\r\n".encode() + event + b"\r\n")
        self.wfile.flush()


def _choice(delta: dict[str, str], finish: str | None) -> dict[str, Any]:
    return {"index": 0, "delta": delta, "finish_reason": finish}


def main() -> None:
    """Serve the requests of a count, seed and share of hard ones; sleep a share of the times; print the address."""
    count, seed, hard, scale = (float(word) for word in sys.argv[1:])
    _Handler.tasks = {task.prompt: task for task in requests(int(count), int(seed), hard)}
    _Handler.scale = scale
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    print(f"http://127.0.0.1:{server.server_address[1]}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
