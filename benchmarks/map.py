"""`ipyrouter.map` in figures, each beside its goal: `python -m benchmarks.map`, or some of its parts by name.

slow      2,000 rows at 1 s latency, and
fast      10,000 rows at 20 ms: rows a second beside the bare SDK, async and in threads, and with ``--peers PYTHON``
          beside chatlas, litellm and openaivec as that Python has them (a fifth of the rows: they are slower). All in
          the same run and at the same concurrency, against a loopback server in a process of its own. ipyrouter runs as
          it comes: each row planned and classified, with limits, the cache, and a log row on the disk.
plan      a dry run over 1,000,000 rows, of which each second repeats one.
resume    the same run again, with all answers in the cache.
limits    the share of a server's allowance that a run uses, and of its requests that are answered 429.
kill      kill -9 at 20 random points of a run, and what is paid twice.
overspend a budget for a third of the rows: in threads, in four processes, and on four workers of Dask.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import openai

from benchmarks.map_peers import TOOLS
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
def responses(body):  # what openaivec asks: rows in one prompt, by their numbers
    rows = json.loads(json.loads(body)["input"])["user_messages"]
    text = json.dumps({"assistant_messages": [{"id": row["id"], "body": "positive"} for row in rows]})
    content = [{"type": "output_text", "text": text, "annotations": []}]
    message = {"id": "m", "type": "message", "role": "assistant", "status": "completed", "content": content}
    return reply({"id": "r", "object": "response", "created_at": 1, "model": "ok", "status": "completed",
        "output": [message], "parallel_tool_calls": True, "tool_choice": "auto", "tools": []})
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
            whole = responses(body) if b"/responses " in head[:80] else WHOLE
            if not A_SECOND:
                await asyncio.sleep(LATENCY)
                seen[body] += 1
                writer.write(whole)
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

_ASYNC, _THREADS = "async SDK, asyncio.gather", "SDK in threads"

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
    works = {
        "slow": slow, "fast": fast, "plan": plan, "resume": resume, "limits": limits, "kill": kill,
        "overspend": overspend,
    }  # fmt: skip
    parser.add_argument("what", nargs="*", help="by default all of them")
    parser.add_argument("--rows", type=int, help="instead of the goal's")
    parser.add_argument("--concurrency", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--peers", help="a Python that has the other tools")
    options = parser.parse_args()
    for name in options.what or works:
        works[name](options)


# --- speed ---


def slow(options: argparse.Namespace) -> None:
    """Print how near to the ideal a run comes where the server is slow."""
    rates, _ = _speed(options, options.rows or 2000, 1.0)
    share = rates["ipyrouter.map"] / options.concurrency
    print(f"slow: {share:.2f} of the ideal (goal: 0.90)\n", flush=True)


def fast(options: argparse.Namespace) -> None:
    """Print how near to the bare SDK a run comes where only this machine is slow."""
    rates, grown = _speed(options, options.rows or 10_000, 0.02)
    own = rates["ipyrouter.map"]
    print(f"fast: {own / rates[_ASYNC]:.2f} of the async SDK (goal: 0.80)")
    for tool in TOOLS:
        if tool in rates:
            print(f"fast: {own / rates[tool]:.2f} of {tool} (goal: above 1)")
    print(f"fast: memory grown by {grown:.0f} MB (goal: at most 100)\n", flush=True)


def _speed(options: argparse.Namespace, rows: int, latency: float) -> tuple[dict[str, float], float]:
    """Return the best rows a second of each, and the megabytes by which ipyrouter has grown."""
    most, grown = options.concurrency, 0.0
    with serving(latency) as url, tempfile.TemporaryDirectory() as home:
        works: dict[str, Callable[[list[str]], object]] = {
            _ASYNC: lambda prompts: asyncio.run(_gather(url, prompts, most)),
            "ipyrouter.map": lambda prompts: run_map(url, home, prompts, most),
            _THREADS: lambda prompts: _threads(url, prompts, most),
        }
        rates: dict[str, float] = {}
        for name, work in works.items():  # what is imported first costs no row
            work([f"warm {name}"])
        for turn in range(options.rounds):
            prompts = [f"Is this review good? Number {turn}-{n}" for n in range(rows)]
            for name, work in works.items():
                before, began, used = _memory(), time.perf_counter(), time.process_time()
                work(prompts)
                rate, used = rows / (time.perf_counter() - began), time.process_time() - used
                print(f"  {name:<26} {rate:8.1f} rows/s  {used / rows * 1000:5.2f} ms CPU a row", flush=True)
                rates[name] = max(rates.get(name, 0.0), rate)
                grown = max(grown, _memory() - before) if name == "ipyrouter.map" else grown
        for tool in TOOLS if options.peers else ():
            command = [options.peers, str(ROOT / "benchmarks" / "map_peers.py"), tool, url, str(rows // 5), str(most)]
            done = subprocess.run(
                command, capture_output=True, text=True, check=False, env={"PATH": os.environ["PATH"]}
            )
            if done.returncode:
                print(f"  {tool} failed: {done.stderr.strip().splitlines()[-1:]}")
                continue
            rates[tool] = float(done.stdout.split()[-1])
            print(f"  {tool:<26} {rates[tool]:8.1f} rows/s, over {rows // 5:,} rows", flush=True)
    print(f"{rows:,} rows, {latency} s latency, concurrency {most}: ideal {most / latency:,.0f} rows/s")
    return rates, grown


async def _gather(url: str, prompts: list[str], concurrency: int) -> None:
    gate = asyncio.Semaphore(concurrency)
    async with openai.AsyncOpenAI(api_key="x", base_url=f"{url}/v1", max_retries=0, timeout=600) as client:

        async def ask(prompt: str) -> str | None:
            async with gate:
                done = await client.chat.completions.create(model="ok", messages=_messages(prompt), max_tokens=64)
                return done.choices[0].message.content

        await asyncio.gather(*map(ask, prompts))


def _threads(url: str, prompts: list[str], concurrency: int) -> None:
    with (
        openai.OpenAI(api_key="x", base_url=f"{url}/v1", max_retries=0, timeout=600) as client,
        ThreadPoolExecutor(concurrency) as pool,
    ):
        create: Any = client.chat.completions.create
        list(pool.map(lambda prompt: create(model="ok", messages=_messages(prompt), max_tokens=64), prompts))


def run_map(url: str, home: str, prompts: list[str], concurrency: int, **settings: Any) -> None:
    """Ask each of the prompts, with a new router."""
    batch = {"concurrency": concurrency}
    config = {**server_config(Address(url), **settings), "routing": {}, "batch": batch}  # type: ignore[arg-type]
    router = Router(config, home=home)
    result = router.map(prompts, "{{text}}", tier="fast", max_output_tokens=64, yes=True)
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
        seconds = time.perf_counter() - began
        print(
            f"plan: {rows:,} rows in {seconds:.1f} s (goal: 90), {_memory() - before:.0f} MB,"
            f" {done.distinct:,} distinct\n"
        )
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
            rate = rows / (time.perf_counter() - began)
            print(f"resume: {rate:,.0f} cached rows/s of {rows:,} (goal: 3,000)\n", flush=True)
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
            print(
                f"limits: 600 requests/min by the {words}: {used:.3f} of the allowance used (goal: 0.95),"
                f" {share:.2%} answered 429 (goal: below 1%)", flush=True,
            )  # fmt: skip
    print()


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
            f"kill: {kills} kills, {rows} rows: {counts['answered']} answers, {counts['twice']} paid twice,"
            f" at most {max(steps)} after one kill (goal: the {most} in flight)\n"
        )


# --- overspend ---

_ANSWER = Decimal("0.00001")  # dollars: one token at $10 a million
_OPTIONS: Any = {"tier": "fast", "max_output_tokens": 8}


def overspend(options: argparse.Namespace) -> None:
    """Print by how much a run exceeds a budget that pays for a third of its rows, as the server counts answers."""
    rows = options.rows or 1000
    prompts = [f"Is this review good? Number {n}" for n in range(rows)]
    budget = rows // 3 * _ANSWER
    for name, work in (("threads", _spend_in_threads), ("processes", _spend_in_processes), ("Dask", _spend_on_dask)):
        with serving(0.02) as url, tempfile.TemporaryDirectory() as home:
            prices = {"o/ok": {"input": 0, "output": 10}}
            config = {**server_config(Address(url)), "prices": prices}  # type: ignore[arg-type]
            work(config, home, prompts, str(budget))
            spent = figures(url)["answered"] * _ANSWER
        over = max(spent - budget, Decimal(0))
        print(f"overspend: {name}: ${spent} of ${budget}, ${over} too much (goal: $0)", flush=True)


def _spend_in_threads(config: dict[str, Any], home: str, prompts: list[str], budget: str) -> None:
    with contextlib.closing(Router(config, home=home)) as router:
        router.map(prompts, "{{text}}", budget=budget, concurrency=64, **_OPTIONS)


def _spend_in_processes(config: dict[str, Any], home: str, prompts: list[str], budget: str) -> None:
    with contextlib.closing(Router(config, home=home)) as router:
        mapper = router.mapper("{{text}}", budget=budget, concurrency=16, workers=4, **_OPTIONS)
        with ProcessPoolExecutor(4, mp_context=multiprocessing.get_context("spawn")) as pool:
            list(pool.map(mapper, [prompts[start::4] for start in range(4)]))


def _spend_on_dask(config: dict[str, Any], home: str, prompts: list[str], budget: str) -> None:
    import dask.dataframe
    import distributed
    import pandas as pd

    from tests import postgres

    with (
        postgres.database() as name,
        distributed.LocalCluster(n_workers=4, threads_per_worker=1, dashboard_address=None) as cluster,
        distributed.Client(cluster),
    ):
        store = {"store": {"url": postgres.server().url("alice", name)}}
        with contextlib.closing(Router({**config, **store}, home=home)) as router:
            data = dask.dataframe.from_pandas(pd.DataFrame({"text": prompts}), npartitions=8)
            router.map(data, "{{text}}", budget=budget, concurrency=16, yes=True, **_OPTIONS).compute()


if __name__ == "__main__":
    main()
