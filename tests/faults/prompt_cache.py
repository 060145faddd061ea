"""A model of the providers' own prompt caches, from their public documentation, for the loopback server.

Anthropic writes at the marks of a request what comes before them, at least the model's minimum, and reads the longest
that it finds at a mark or up to 20 blocks before one; what is read lives on for as long again. Other thinking is
another prompt after the system prompt. OpenAI does the same without marks, in steps of 128 tokens from 1,024 on.
A token is four bytes.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

from tests.faults.server import Reply, chat, claude_whole

ANSWER = "The figures in this part of the table say so, as far as they go. " * 16
LOOK_BACK = 20  # blocks
MOST_MARKS = 4
STEP = 128  # tokens


class PromptCache:
    """Answers requests as a provider does that caches prompts.

    Args:
        sdk: Whose protocol and cache: "anthropic" or "openai".
        least: The shortest prefix that is cached, in tokens.
        lifetime: Seconds that it lives since it was written or read last.
        clock: Returns seconds.
        bills_writes: Whether the provider names the tokens that it wrote, as Anthropic and OpenAI's newer models do.
    """

    def __init__(
        self,
        sdk: str,
        least: int = 1024,
        lifetime: float = 300.0,
        clock: Callable[[], float] = time.monotonic,
        *,
        bills_writes: bool = True,
    ) -> None:
        self.sdk = sdk
        self.least = least
        self.lifetime = lifetime
        self.clock = clock
        self.bills_writes = bills_writes
        self._entries: dict[str, float] = {}  # until when each prefix lives

    def __call__(self, body: dict[str, Any]) -> Reply:
        """Answer a request."""
        return self._anthropic(body) if self.sdk == "anthropic" else self._openai(body)

    # --- Anthropic ---

    def _anthropic(self, body: dict[str, Any]) -> Reply:
        blocks, marks = _blocks(body)
        if len(marks) > MOST_MARKS:
            error = {"type": "invalid_request_error", "message": f"A maximum of 4 blocks with cache_control: {marks}"}
            return Reply({"type": "error", "error": error}, 400)
        prefixes, sizes = _prefixes(blocks)
        read = self._found(prefixes, marks)
        written = [mark for mark in marks if sizes[mark] >= self.least]
        for mark in written:
            self._entries[prefixes[mark]] = self.clock() + self.lifetime
        held = 0 if read is None else sizes[read]
        stored = max([sizes[mark] for mark in written], default=0)
        usage = {
            "input_tokens": sizes[-1] - max(stored, held),
            "cache_read_input_tokens": held,
            "cache_creation_input_tokens": max(stored - held, 0),
            "cache_creation": {"ephemeral_5m_input_tokens": max(stored - held, 0), "ephemeral_1h_input_tokens": 0},
            "output_tokens": _size(ANSWER),
        }
        return Reply({**claude_whole(ANSWER, usage=usage), "model": body["model"]})

    def _found(self, prefixes: list[str], marks: list[int]) -> int | None:
        """Return the last block of the longest prefix that is read, and let it live on."""
        now = self.clock()
        places = [place for mark in marks for place in range(mark, max(mark - LOOK_BACK, -1), -1)]
        live = [place for place in places if self._entries.get(prefixes[place], 0.0) > now]
        if not live:
            return None
        self._entries[prefixes[max(live)]] = now + self.lifetime
        return max(live)

    # --- OpenAI ---

    def _openai(self, body: dict[str, Any]) -> Reply:
        text = json.dumps([body.get("prompt_cache_key"), *body["messages"]], sort_keys=True)[:-1]
        total = _size(text)
        now, held = self.clock(), 0
        steps = range(self.least, total + 1, STEP)
        prefixes = [text[: 4 * step] for step in steps]
        for step, prefix in zip(steps, prefixes, strict=True):
            if self._entries.get(prefix, 0.0) > now:
                held = step
        for prefix in prefixes:
            self._entries[prefix] = now + self.lifetime
        details = {"cached_tokens": held}
        if self.bills_writes and steps:
            details["cache_write_tokens"] = steps[-1] - held
        written = _size(ANSWER)
        usage = {"prompt_tokens": total, "completion_tokens": written, "total_tokens": total + written}
        return Reply({**chat(ANSWER, usage={**usage, "prompt_tokens_details": details}), "model": body["model"]})


def _blocks(body: dict[str, Any]) -> tuple[list[str], list[int]]:
    """Return the blocks of a request in the order in which they are read, and the places of those with a mark."""
    system = body.get("system", [])
    system = [{"type": "text", "text": system}] if isinstance(system, str) else system
    settings = {name: body.get(name) for name in ("thinking", "output_config")}
    blocks = [("system", None, block) for block in system]
    for message in body["messages"]:
        content = message["content"]
        content = [{"type": "text", "text": content}] if isinstance(content, str) else content
        blocks += [(message["role"], settings, block) for block in content]
    marks = [place for place, (_, _, block) in enumerate(blocks) if "cache_control" in block]
    plain = [
        json.dumps([role, settings, {name: value for name, value in block.items() if name != "cache_control"}])
        for role, settings, block in blocks
    ]
    return plain, marks


def _prefixes(blocks: list[str]) -> tuple[list[str], list[int]]:
    """Return the beginnings that end with each block, and their tokens."""
    beginnings = ["".join(blocks[: place + 1]) for place in range(len(blocks))]
    return beginnings, [_size(beginning) for beginning in beginnings]


def _size(text: str) -> int:
    return -(-len(text.encode()) // 4)
