"""What is read of an answer has bounds, whatever a server packs into it: memory stays, and what came is kept."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from typing import Any

import pytest

from ipyrouter.errors import RouteError
from ipyrouter.router import Router
from tests.conftest import run_python
from tests.faults.server import TEXT, FaultServer, Reply, chat, chunk, claude, claude_whole, gemini, sse

pytestmark = [pytest.mark.attack, pytest.mark.wire]
MakeRouter = Callable[..., Router]
BOTH = pytest.mark.parametrize("provider", ["o", "a", "g"])
GZIP = {"Content-Encoding": "gzip", "Content-Type": "text/event-stream"}
UNPACKED = 240 << 20  # bytes of a bomb: several times what a test's process may take more


def packed(*parts: bytes | tuple[bytes, int]) -> bytes:
    """Return parts as gzip; a part may be repeated."""
    packer = zlib.compressobj(1, wbits=31)
    pieces = []
    for part in parts:
        piece, times = part if isinstance(part, tuple) else (part, 1)
        block = piece * max(min(times, (1 << 20) // len(piece)), 1)
        pieces += [packer.compress(block) for _ in range(times * len(piece) // len(block))]
    return b"".join([*pieces, packer.flush()])


def much(piece: bytes) -> tuple[bytes, int]:
    return piece, UNPACKED // len(piece)


HEAD, TAIL = json.dumps(chat("@")).encode().split(b"@")
CLAUDE = claude("@").encode()
DELTA = sse(chunk("A fine answer. "), done=False).encode()
GEMINI = sse(*gemini("A fine answer. ", finish=None), done=False).encode()
CLAUDE_START, _, CLAUDE_REST = CLAUDE.partition(b"event: content_block_delta")
CLAUDE_DELTA = b"event: content_block_delta" + CLAUDE_REST.partition(b"event: content_block_stop")[0]

BOMBS = {
    "a-text": (200, HEAD, much(b"A"), TAIL),
    "escapes": (200, HEAD, much(b"\\ud83d\\ude00"), TAIL),
    "small-objects": (200, b'{"choices":[', much(b"{},"), b"{}]}"),
    "lists-in-lists": (200, much(b"[")),
    "digits": (200, b'{"usage":{"prompt_tokens":', much(b"9"), b"}}"),
    "blanks": (200, much(b" ")),
    "one-line": (200, b"data: ", much(b"A")),
    "one-event": (200, much(b"data: AAAAAAAAAAAAAAAA\n")),
    "empty-lines": (200, b": x\n", much(b"\n")),
    "comments": (200, much(b": still here\n\n")),
    "deltas": (200, much(DELTA)),
    "small-events": (200, much(b"data:{}\n\n")),
    "plain-text": (200, much(b"Log in. ")),
    "an-error": (400, b'{"error":{"message":"', much(b"A"), b'"}}'),
    "an-error-of-a-server": (503, much(b"A")),
    "a-refusal-of-the-rate": (429, much(b"A")),
}


CHILD = """
import resource, sys
from ipyrouter.errors import RouteError
from ipyrouter.router import Router

providers = {providers}
deadlines = {{"connect": 60, "first_byte": 300, "idle": 300, "total": 300}}
router = Router({{"providers": providers, "routing": {{"mode": "rules"}}, "deadlines": deadlines}})

def megabytes():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> (20 if sys.platform == "darwin" else 10)

assert router.route("Explain closures", model="{provider}/ok").text, "the server is there"
before = megabytes()
for bomb in {bombs}:
    try:
        outcome = router.route(f"Explain {{bomb}}", model=f"{provider}/{{bomb}}", escalate=False)
    except RouteError as error:
        outcome = str(error)
    else:
        assert any("not a whole answer" in note for note in outcome.notes), (bomb, outcome.notes)
    assert megabytes() - before < 200, (bomb, megabytes(), before, str(outcome)[:200])
"""


@BOTH
@pytest.mark.kernel
def test_memory_stays(server: FaultServer, requests: list[Any], provider: str) -> None:
    for name, (status, *parts) in BOMBS.items():
        server.replies[name] = Reply(packed(*parts), status, GZIP)
    providers = {
        "o": {"sdk": "openai", "base_url": f"{server.url}/v1"},
        "a": {"sdk": "anthropic", "base_url": server.url},
        "g": {"sdk": "google", "base_url": server.url},
    }
    run_python(CHILD.format(providers=providers, provider=provider, bombs=list(BOMBS)))


@pytest.fixture
def ask(make_router: MakeRouter, server: FaultServer, requests: list[Any]) -> Callable[..., Any]:
    def attempt(body: Any, provider: str = "o", status: int = 200, headers: dict[str, str] = GZIP) -> Any:
        server.replies["first"] = Reply(body, status, headers)
        router = make_router(mid=[f"{provider}/first", "o/ok"])
        answer = router.route("Explain closures", escalate=False)
        assert answer.text == TEXT
        return answer.attempts[0]

    return attempt


@pytest.mark.parametrize(
    ("provider", "body"), [("o", [much(DELTA)]), ("a", [CLAUDE_START, much(CLAUDE_DELTA)]), ("g", [much(GEMINI)])]
)
def test_what_came_of_an_endless_answer_is_kept(ask: Any, provider: str, body: list[Any]) -> None:
    half = ask(packed(*body), provider)
    assert (half.status, half.error_kind) == ("partial", "unfinished")
    assert "which is more than the output limit explains" in half.error
    assert half.text.startswith("@" if provider == "a" else "A fine answer. ")
    assert half.usage.estimated
    assert half.cost.amount


WHOLE = {
    "o": chat("A fine answer. @"),
    "a": claude_whole("A fine answer. @"),
    "g": gemini("A fine answer. @")[0],
}


@BOTH
@pytest.mark.parametrize(
    "piece", [b"A", b"\\n", b"\\u00e9", b'\\"', "é".encode()], ids=["a", "n", "u", "quote", "utf-8"]
)
def test_the_beginning_of_a_body_without_end_is_kept(ask: Any, provider: str, piece: bytes) -> None:
    head, tail = json.dumps(WHOLE[provider]).encode().split(b"@")
    half = ask(packed(head, (piece, (6 << 20) // len(piece)), tail), provider, headers={"Content-Encoding": "gzip"})
    assert (half.status, half.error_kind) == ("partial", "unfinished")
    assert "which is more than the output limit explains" in half.error
    assert half.text.startswith("A fine answer. ")
    assert half.text.endswith(json.loads(f'"{piece.decode()}"') * 1000)


@BOTH
def test_a_long_text_that_a_limit_explains_is_whole(
    make_router: MakeRouter, server: FaultServer, requests: list[Any], provider: str
) -> None:
    text = "word " * 100_000
    bodies = {"o": sse(chunk(text, "stop")), "a": claude(text), "g": sse(*gemini(text), done=False)}
    server.replies["first"] = Reply(bodies[provider])
    answer = make_router(mid=[f"{provider}/first"]).route("Explain closures", escalate=False)
    assert answer.text == text


@BOTH
def test_of_an_error_without_end_its_beginning_is_read(ask: Any, provider: str) -> None:
    fault = ask(packed(b"Slow down, please. ", much(b"A")), provider, 429)
    assert fault.error_kind == "rate_limit"
    assert "429 Slow down, please. AAA" in fault.error


@BOTH
@pytest.mark.parametrize("encoding", ["gzip", "deflate", "gzip, gzip", "br", "zstd", "odd"])
def test_a_body_that_is_not_what_its_encoding_says(ask: Any, provider: str, encoding: str) -> None:
    assert ask(b"\xff\x00 not packed", provider, headers={"Content-Encoding": encoding}).error_kind == "malformed"


@pytest.mark.parametrize("digits", [20, 309, 5000, 100_000])
def test_counts_of_any_length(make_router: MakeRouter, server: FaultServer, requests: list[Any], digits: int) -> None:
    body = json.dumps(chat(usage={"prompt_tokens": "@", "completion_tokens": 3})).replace('"@"', "9" * digits)
    server.replies["first"] = Reply(body, headers={"Content-Type": "application/json"})
    answer = make_router(mid=["o/first"], stream=False).route("Explain closures", escalate=False)
    assert (answer.text, answer.usage.estimated) == (TEXT, True)
    assert answer.usage.input_tokens < 100


def test_json_too_deep_is_malformed(ask: Any) -> None:
    assert ask(packed((b"[", 100_000))).error_kind == "malformed"


def test_nothing_is_left_of_an_error_that_nobody_reads(
    make_router: MakeRouter, server: FaultServer, requests: list[Any]
) -> None:
    """The connection of a body that was cut is not used again."""
    server.replies["first"] = Reply(packed(much(b"A")), 503, GZIP)
    router = make_router(mid=["o/first"])
    with pytest.raises(RouteError):
        router.route("Explain closures")
    del server.replies["first"]
    assert router.route("Explain generators", model="o/ok").text == TEXT
