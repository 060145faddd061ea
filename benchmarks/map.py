"""`ipyrouter.map` in figures: `python -m benchmarks.map speed`, or plan, resume, limits, kill.

speed  beside the bare SDK, async and in threads, and chatlas and litellm where they are installed: in the same run, at
       the same concurrency, in turns, against one loopback server in a process of its own. ipyrouter runs as it comes:
       classified, limits, cache and a log row on the disk for every row.
plan   a dry run over many rows.
resume the same run again, with all answers in the cache.
limits the share of a server's allowance that a run uses, and of its requests that are answered 429.
kill   kill -9 at random points of a run, and what is paid twice.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import openai

from benchmarks.timing import ROOT
from ipyrouter.router import Router
from tests.conftest import server_config

# An asyncio server that does no more than it must, so that it is not what is measured.
SERVER = """
import asyncio, collections, json, sys, time
LATENCY, A_SECOND, HEADERS = float(sys.argv[1]), float(sys.argv[2]), sys.argv[3] == "headers"
BURST = max(A_SECOND, 1)
level, at, seen, refused = BURST, time.monotonic(), collections.Counter(), 0
def reply(value, status=200, more=b""):
    body = json.dumps(value).encode()
    head = b"HTTP/1.1 %d OK\\r\\nContent-Type: application/json\\r\\n%sContent-Length: %d\\r\\n\\r\\n"
    return head % (status, more, len(body)) + body
ANSWER = {"id": "x", "object": "chat.completion", "created": 1, "model": "ok", "choices": [{"index": 0,
    "message": {"role": "assistant", "content": "positive"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 20, "completion_tokens": 1, "total_tokens": 21}}
WHOLE = reply(ANSWER)
async def serve(reader, writer):
    global level, at, refused
    try:
        while head := await reader.readuntil(b"\\r\\n\\r\\n"):
            if head.startswith(b"GET"):
                twice = sum(count - 1 for count in seen.values())
                writer.write(reply({"answered": sum(seen.values()), "twice": twice, "refused": refused}))
                continue
            length = int(head.lower().partition(b"content-length: ")[2].partition(b"\\r\\n")[0])
            body = await reader.readexactly(length)
            if not A_SECOND:
                await asyncio.sleep(LATENCY)
                seen[body] += 1
                writer.write(WHOLE)
                continue
            now = time.monotonic()
            level, at = min(level + (now - at) * A_SECOND, BURST), now
            if level < 1:
                refused += 1
                writer.write(reply({"error": {"message": "slow down"}}, 429, b"retry-after: 1\\r\\n"))
                continue
            level -= 1
            left, back = level, (BURST - level) / A_SECOND
            await asyncio.sleep(LATENCY)
            seen[body] += 1
            more = b"x-ratelimit-limit-requests: %d\\r\\nx-ratelimit-remaining-requests: %d\\r\\n" % (BURST, left)
            more += b"x-ratelimit-reset-requests: %.3fs\\r\\n" % back
            writer.write(reply(ANSWER, 200, more if HEADERS else b""))
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()
async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", 0, backlog=512)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()
asyncio.run(main())
"""

CHILD = """
import json, sys
from benchmarks.map import run_map
run_map(*json.loads(sys.argv[1]))
"""


class Address:
    def __init__(self, url: str) -> None:
        self.url = url


@contextlib.contextmanager
def serving(latency: float, a_second: float = 0, *, headers: bool = False) -> Iterator[str]:
    """Run the server in a process of its own and give its address."""
    command = [sys.executable, "-c", SERVER, str(latency), str(a_second), "headers" if headers else "-"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert process.stdout is not None
    try:
        yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
    finally:
        process.kill()
        process.wait()


def figures(url: str) -> dict[str, int]:
    """Return what the server has counted."""
    with urllib.request.urlopen(url) as answer:
        counts: dict[str, int] = json.load(answer)
        return counts


def main() -> None:
    """Print what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    works = {"speed": speed, "plan": plan, "resume": resume, "limits": limits, "kill": kill}
    parser.add_argument("what", choices=works, nargs="?", default="speed")
    parser.add_argument("--rows", type=int)
    parser.add_argument("--latency", type=float, default=1.0, help="seconds of the server")
    parser.add_argument("--concurrency", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    works[options.what](options)


# --- speed ---


def speed(options: argparse.Namespace) -> None:
    """Print rows a second of each, and ipyrouter's share of the others' and of the ideal."""
    rows, most = options.rows or 2000, options.concurrency
    with serving(options.latency) as url, tempfile.TemporaryDirectory() as home:
        works: dict[str, Callable[[list[str]], object]] = {
            "async SDK, asyncio.gather": lambda prompts: asyncio.run(_gather(url, prompts, most)),
            "SDK in threads": lambda prompts: _threads(url, prompts, most),
            "ipyrouter.map": lambda prompts: run_map(url, home, prompts, most),
            **_others(url, most),
        }
        best = dict.fromkeys(works, 0.0)
        shares, grown = [], 0.0
        for turn in range(options.rounds):
            prompts = [f"Is this review good? Number {turn}-{n}" for n in range(rows)]
            rates = {}
            for name, work in works.items():
                before, began = _memory(), time.perf_counter()
                work(prompts)
                rates[name] = rows / (time.perf_counter() - began)
                best[name] = max(best[name], rates[name])
                grown = _memory() - before if name == "ipyrouter.map" else grown
            shares.append(rates["ipyrouter.map"] / rates["async SDK, asyncio.gather"])
    ideal, reference = most / options.latency, best["async SDK, asyncio.gather"]
    print(f"{rows} rows, {options.latency} s, concurrency {most}: ideal {ideal:.0f} rows/s")
    for name, rate in best.items():
        print(f"{name:<28} {rate:8.1f} rows/s  {rate / ideal:5.2f} of the ideal  {rate / reference:5.2f} of gather")
    print("ipyrouter.map against gather, round by round:", " ".join(f"{share:.2f}" for share in shares))
    print(f"memory grown by {grown:.0f} MB in the last round of ipyrouter.map")


async def _gather(url: str, prompts: list[str], concurrency: int) -> None:
    gate = asyncio.Semaphore(concurrency)
    async with openai.AsyncOpenAI(api_key="x", base_url=f"{url}/v1", max_retries=0) as client:

        async def ask(prompt: str) -> str | None:
            async with gate:
                done = await client.chat.completions.create(model="ok", messages=_messages(prompt), max_tokens=64)
                return done.choices[0].message.content

        await asyncio.gather(*map(ask, prompts))


def _threads(url: str, prompts: list[str], concurrency: int) -> None:
    with (
        openai.OpenAI(api_key="x", base_url=f"{url}/v1", max_retries=0) as client,
        ThreadPoolExecutor(concurrency) as pool,
    ):
        create: Any = client.chat.completions.create
        list(pool.map(lambda prompt: create(model="ok", messages=_messages(prompt), max_tokens=64), prompts))


def _others(url: str, concurrency: int) -> dict[str, Callable[[list[str]], object]]:
    """Return the tools that are installed."""
    works: dict[str, Callable[[list[str]], object]] = {}
    with contextlib.suppress(ImportError):
        import chatlas

        def chats(prompts: list[str]) -> None:
            chat = chatlas.ChatOpenAICompletions(model="ok", base_url=f"{url}/v1", api_key="x")
            work = chatlas.parallel_chat_text(chat, list(prompts), max_active=concurrency, rpm=10_000_000)
            assert asyncio.run(work) == ["positive"] * len(prompts)

        works["chatlas parallel_chat_text"] = chats
    with contextlib.suppress(ImportError):
        import litellm

        def completions(prompts: list[str]) -> None:
            answers = litellm.batch_completion(
                model="openai/ok", messages=list(map(_messages, prompts)), api_base=f"{url}/v1", api_key="x",
                max_workers=concurrency, max_tokens=64,
            )  # fmt: skip
            assert all(answer.choices[0].message.content == "positive" for answer in answers)

        works["litellm batch_completion"] = completions
    return works


def run_map(url: str, home: str, prompts: list[str], concurrency: int, **settings: Any) -> None:
    """Ask each of the prompts, with a new router."""
    batch = {"concurrency": concurrency}
    config = {**server_config(Address(url), **settings), "routing": {}, "batch": batch}  # type: ignore[arg-type]
    router = Router(config, home=home)
    result = router.map(prompts, "{{text}}", tier="fast", max_output_tokens=64)
    router.close()
    assert (result["_status"] == "ok").all(), result["_error"].value_counts()


def _messages(prompt: str) -> Any:
    return [{"role": "user", "content": prompt}]


def _memory() -> float:
    """Return the megabytes that this process holds."""
    with open("/proc/self/status") as file:  # noqa: PTH123
        return next(int(line.split()[1]) / 1024 for line in file if line.startswith("VmRSS"))


# --- plan, resume ---


def plan(options: argparse.Namespace) -> None:
    """Print how long a dry run takes: every second row repeats one, and each is classified."""
    rows = options.rows or 1_000_000
    with tempfile.TemporaryDirectory() as home:
        router = Router(server_config(Address("http://127.0.0.1:9")), home=home)  # type: ignore[arg-type]
        data = [f"The delivery took {n // 2} days, and the parcel was open when it came." for n in range(rows)]
        began, before = time.perf_counter(), _memory()
        done = router.map(data, "Is this review positive or negative? {{text}}", dry_run=True)
        print(f"{rows:,} rows planned in {time.perf_counter() - began:.1f} s, {_memory() - before:.0f} MB")
        print(done)
        router.close()


def resume(options: argparse.Namespace) -> None:
    """Print how many rows a second come from the cache."""
    rows = options.rows or 10_000
    prompts = [f"Is this review good? Number {n}" for n in range(rows)]
    with serving(0) as url, tempfile.TemporaryDirectory() as home:
        run_map(url, home, prompts, options.concurrency)
        for _ in range(options.rounds):
            began = time.perf_counter()
            run_map(url, home, prompts, options.concurrency)
            print(f"{rows / (time.perf_counter() - began):,.0f} cached rows/s")
        assert figures(url)["answered"] == rows


# --- limits ---


def limits(options: argparse.Namespace) -> None:
    """Print how a run keeps to 600 requests a minute that it knows from the config, and from headers."""
    rows = options.rows or 300
    prompts = [f"Is this review good? Number {n}" for n in range(rows)]
    for words, settings in (("config", {"limits": {"o/ok": {"requests_per_minute": 600}}}), ("headers", {})):
        with serving(0.2, 10, headers=words == "headers") as url, tempfile.TemporaryDirectory() as home:
            began = time.perf_counter()
            run_map(url, home, prompts, options.concurrency, **settings)
            used = rows / (10 * (time.perf_counter() - began) + 10)  # the bucket is full when it begins
            counts = figures(url)
            share = counts["refused"] / (counts["refused"] + counts["answered"])
            print(f"600 requests/min by the {words}: {used:.3f} of the allowance used, {share:.2%} answered 429")


# --- kill ---


def kill(options: argparse.Namespace) -> None:
    """Print how many answers are paid twice where a run is killed 20 times."""
    rows, most, kills = options.rows or 2000, 8, 20
    prompts = [f"Is this review good? Number {n}" for n in range(rows)]
    with serving(0.05) as url, tempfile.TemporaryDirectory() as home:
        arguments = json.dumps([url, home, prompts, most])
        twice = []
        for _ in range(kills):
            began = figures(url)["answered"]
            child = subprocess.Popen([sys.executable, "-c", CHILD, arguments], cwd=ROOT, stderr=subprocess.DEVNULL)
            while figures(url)["answered"] == began and child.poll() is None:
                time.sleep(0.01)
            time.sleep(random.uniform(0, 1.0))
            child.send_signal(signal.SIGKILL)
            child.wait()
            twice.append(figures(url)["twice"])
        run_map(url, home, prompts, most)
        counts = figures(url)
        steps = [after - before for before, after in zip([0, *twice], [*twice, counts["twice"]], strict=True)]
        print(
            f"{kills} kills, {rows} rows: {counts['answered']} answers, {counts['twice']} twice, at most {max(steps)}"
        )
        print(f"after one kill, where {most} may be in flight; {rows} rows have an answer")


if __name__ == "__main__":
    main()
