"""`ipyrouter.map` beside the bare async SDK with asyncio.gather and a semaphore, and the bare SDK in threads.

All ask one loopback server in a process of its own, in the same run and at the same concurrency, and take turns.
ipyrouter runs as it comes: classified, limits, cache and a log row on the disk for every row.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import openai

from benchmarks.timing import ROOT
from ipyrouter.router import Router
from tests.conftest import server_config

# An asyncio server that does no more than it must, so that it is not what is measured.
SERVER = """
import asyncio, json, sys
LATENCY = float(sys.argv[1])
BODY = json.dumps({"id": "x", "object": "chat.completion", "created": 1, "model": "ok", "choices": [{"index": 0,
    "message": {"role": "assistant", "content": "positive"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 20, "completion_tokens": 1, "total_tokens": 21}}).encode()
REPLY = b"HTTP/1.1 200 OK\\r\\nContent-Type: application/json\\r\\nContent-Length: %d\\r\\n\\r\\n" % len(BODY) + BODY
async def serve(reader, writer):
    try:
        while head := await reader.readuntil(b"\\r\\n\\r\\n"):
            length = int(head.lower().partition(b"content-length: ")[2].partition(b"\\r\\n")[0])
            await reader.readexactly(length)
            await asyncio.sleep(LATENCY)
            writer.write(REPLY)
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()
async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", 0, backlog=512)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()
asyncio.run(main())
"""


class Address:
    def __init__(self, url: str) -> None:
        self.url = url


def main() -> None:
    """Print rows a second of each, and ipyrouter's share of the others' and of the ideal."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--latency", type=float, default=1.0, help="seconds of the server")
    parser.add_argument("--concurrency", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    command = [sys.executable, "-c", SERVER, str(options.latency)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert process.stdout is not None
    url = f"http://127.0.0.1:{process.stdout.readline().strip()}"
    try:
        with tempfile.TemporaryDirectory() as home:
            _compare(url, home, options)
    finally:
        process.kill()


def _compare(url: str, home: str, options: argparse.Namespace) -> None:
    works: dict[str, Callable[[list[str]], object]] = {
        "async SDK, asyncio.gather": lambda prompts: asyncio.run(_gather(url, prompts, options.concurrency)),
        "SDK in threads": lambda prompts: _threads(url, prompts, options.concurrency),
        "ipyrouter.map": lambda prompts: _map(url, home, prompts, options.concurrency),
        "ipyrouter.map, all cached": lambda prompts: _map(url, home, prompts, options.concurrency),
    }
    best = dict.fromkeys(works, 0.0)
    memory = _memory()
    for turn in range(options.rounds):
        prompts = [f"Is this review good? Number {turn}-{n}" for n in range(options.rows)]
        for name, work in works.items():
            began = time.perf_counter()
            work(prompts)
            best[name] = max(best[name], options.rows / (time.perf_counter() - began))
    ideal, reference = options.concurrency / options.latency, best["async SDK, asyncio.gather"]
    print(f"{options.rows} rows, {options.latency} s, concurrency {options.concurrency}: ideal {ideal:.0f} rows/s")
    for name, rate in best.items():
        print(f"{name:<28} {rate:8.1f} rows/s  {rate / ideal:5.2f} of the ideal  {rate / reference:5.2f} of gather")
    print(f"memory grown by {_memory() - memory:.0f} MB")


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


def _map(url: str, home: str, prompts: list[str], concurrency: int) -> None:
    settings = {**server_config(Address(url)), "routing": {}, "batch": {"concurrency": concurrency}}  # type: ignore[arg-type]
    router = Router(settings, home=home)
    result = router.map(prompts, "{{text}}", tier="fast", max_output_tokens=64)
    router.close()
    assert (result["_status"] == "ok").all(), result["_status"].value_counts()


def _messages(prompt: str) -> Any:
    return [{"role": "user", "content": prompt}]


def _memory() -> float:
    """Return the megabytes that this process holds."""
    with open("/proc/self/status") as file:  # noqa: PTH123
        return next(int(line.split()[1]) / 1024 for line in file if line.startswith("VmRSS"))


if __name__ == "__main__":
    main()
