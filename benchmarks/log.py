"""A million rows of log: to a DataFrame, a report, the comparison, budgets, the panel and a file; seconds and memory.

The rows are of our own making: one request in twelve has two attempts (a fault and its fallback), one in five comes
from the cache; prompts of about 90 characters, answers of about 400, each unlike the others.
"""

from __future__ import annotations

import argparse
import random
import resource
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ipyrouter.notebook.commands import export
from ipyrouter.notebook.panel import figures
from ipyrouter.reporting.log import frames
from ipyrouter.router import Router
from ipyrouter.store.base import Limit, LogFilter
from ipyrouter.store.sqlite import SQLiteStore, schema

_START = 1_790_000_000_000_000  # microseconds since 1970: September 2026
_STEP = 7_000_000
_MODELS = {"fast": "gpt-6-luna", "mid": "gpt-6.1-terra", "power": "gpt-6.1-sol"}
_PROMPT = "Explain why the pandas merge number {} has more rows than either of its two tables has."
_TEXT = "A key that is there more than once on both sides gives every pair of its rows. " * 5


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    rows = parser.parse_args().rows
    with tempfile.TemporaryDirectory() as home:
        router = Router(home=home)
        _say("to write them", lambda: fill(Path(home), rows))
        _say("to a DataFrame", router.log)
        _say("the same without prompts and answers", lambda: router.log(content=False))
        day = time.strftime("%Y-%m-%d", time.gmtime((_START + rows // 2 * _STEP) / 1e6))
        _say("one day, by since", lambda: router.log(since=day, until=f"{day}T23:59:59"))
        _say("one tier", lambda: router.log(tier="power"))
        _say("one session", lambda: router.log(session="session-7"))
        _say("report of one day", lambda: router.report(day))
        _say("report of all", lambda: router.report(span="all"))
        _say("comparison of all", router.compare)
        _budget(router)
        _panel(router, rows)
        _say("to a CSV file", lambda: export(frames(router.store, LogFilter()), Path(home) / "log.csv"))
        router.close()


def _budget(router: Router) -> None:
    """Reserve for a call under the budgets of the day and of the month in which the log's last rows are."""
    limits = [Limit("today", 10**15, "day"), Limit("this month", 10**15, "month")]
    session = router.session

    def reserve() -> None:
        for _ in range(100):
            router.store.reserve(1, limits, session, "benchmark", 60)
            router.store.release("benchmark")

    _say("100 checks of the day's and the month's budget", reserve)


def _panel(router: Router, rows: int) -> None:
    def first() -> None:
        figures.gather(router, figures.Sums(router.store, LogFilter()), "all")
        router.store.page(LogFilter(), 20)
        router.store.overview(31)

    _say("the panel's figures, its first page, its choices", first)
    _pages(router, LogFilter(), "", rows - 100)
    _pages(router, LogFilter(status="error"), " of the faults", rows // 14 - 100)


def _pages(router: Router, log_filter: LogFilter, name: str, skip: int) -> None:
    page = router.store.page
    _say(f"page 1{name}", lambda: page(log_filter, 20))
    _say(f"page {skip // 20:,}{name}, found by its number", lambda: page(log_filter, 20, skip=skip))
    place = page(log_filter, 20, skip=skip)[-1].key
    _say("the page after it", lambda: page(log_filter, 20, before=place))


def _say(name: str, work: Callable[[], Any]) -> None:
    started, used = time.perf_counter(), time.process_time()
    result = work()
    elapsed, used = time.perf_counter() - started, time.process_time() - used
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    size = f"{len(result):>9,} rows" if hasattr(result, "memory_usage") else ""
    print(
        f"{name:<38} {elapsed:>7.2f} s, of the processor {used:>6.2f} s  peak so far {peak:>6,.0f} MB  {size}",
        flush=True,
    )


def fill(home: Path, rows: int) -> None:
    """Write the rows past the router, which would take minutes, and compute the sums once for all of them."""
    store = SQLiteStore(home)
    store.clear_cache()  # makes the database
    connection = sqlite3.connect(home / "ipyrouter.db", isolation_level=None)
    connection.execute("BEGIN")
    schema.drop_triggers(connection)
    insert = {}
    for table in ("answers", "attempts"):
        names = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
        insert[table] = f"INSERT INTO {table} VALUES ({', '.join(f':{name}' for name in names)})"
    for answer, attempts in _rows(rows):
        connection.execute(insert["answers"], answer)
        connection.executemany(insert["attempts"], attempts)
    schema.rebuild(connection)
    schema.recount(connection)
    for trigger in schema.triggers():
        connection.execute(trigger)
    connection.execute("COMMIT")
    connection.close()
    store.close()


def _rows(rows: int) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
    chance = random.Random(1)
    written = 0
    while written < rows:
        tier = chance.choices(("fast", "mid", "power"), (55, 30, 15))[0]
        moment = _START + written * _STEP
        answer: dict[str, Any] = {
            "id": f"{moment:014x}{chance.getrandbits(72):018x}", "time": moment, "session": f"session-{written // 900}",
            "notebook": f"/home/me/notebook-{written // 900 % 40}.ipynb", "outcome": "ok",
            "prompt": _PROMPT.format(written), "system": None, "text": f"{written}: {_TEXT}",
            "tier": tier, "provider": "openai", "model": _MODELS[tier],
            "routed_tier": tier, "difficulty": chance.random(), "reasons": "[]", "escalated_from": None,
            "fallback_from": None, "notes": "[]", "feedback": None, "restored": 0, "head": 0, "answered": 1, "calls": 0,
            "unpriced": 0, "spent_pico": 0, "took": 0, "escalated": 0, "escalated_unpriced": 0, "escalated_pico": 0,
        }  # fmt: skip
        cached = chance.random() < 0.2
        cost = chance.randrange(10**8, 10**10)
        attempt: dict[str, Any] = {
            **{name: answer[name] for name in ("time", "session", "tier", "provider", "model")},
            "answer_id": answer["id"], "n": 0, "status": "cached" if cached else "ok",
            "input_tokens": chance.randrange(20, 4000), "output_tokens": chance.randrange(20, 1500),
            "cached_input_tokens": 0, "cache_write_tokens": 0, "reasoning_tokens": 0, "estimated": 0,
            "cost_pico": 0 if cached else cost, "saved_pico": cost if cached else None,
            "price_id": f"openai/{_MODELS[tier]}", "rates": '{"input": "0.1", "output": "0.5"}',
            "latency": chance.random() * 5, "first_token": None if cached else 0.3, "finish": "stop",
            "error_kind": None, "error": None, "text": None, "restored": 0,
        }  # fmt: skip
        attempts = [attempt]
        if not cached and chance.random() < 0.1:
            failed = {"status": "error", "model": "gone", "error_kind": "server", "error": "503 Unavailable",
                      "cost_pico": 0, "finish": None}  # fmt: skip
            attempts = [{**attempt, **failed}, {**attempt, "n": 1}]
            answer |= {"fallback_from": "openai/gone", "head": 1}
        if not cached:
            latency = int(attempt["latency"] * 1e9)
            answer |= {"calls": len(attempts), "spent_pico": cost, "took": latency * len(attempts)}
        written += len(attempts)
        yield answer, attempts


if __name__ == "__main__":
    main()
