"""`%router panel` in a real kernel over 100,000 rows: time to open, time of an update, memory over 500 updates.

python -m benchmarks.panel
"""

from __future__ import annotations

import datetime as dt
import os
import random
import tempfile
import time
from decimal import Decimal
from pathlib import Path

from ipyrouter.store.base import Record
from ipyrouter.store.sqlite import SQLiteStore
from ipyrouter.types import Answer, Attempt, Candidate, Classification, Cost, Session, TierName, Usage
from tests.notebook.kernels import Kernel, kernel

ROWS = 100_000
UPDATES = 500
_MODELS: dict[TierName, str] = {"fast": "gpt-6-luna", "mid": "gpt-6.1-terra", "power": "gpt-6.1-sol"}


def main() -> None:
    """Print the figures."""
    with tempfile.TemporaryDirectory() as folder:
        fill(Path(folder), ROWS)
        os.environ["IPYROUTER_HOME"] = folder
        with kernel() as running:
            running.run("%load_ext ipyrouter\nimport time, os, resource\n%router status")
            print(f"{ROWS:,} rows, imports included: {_opened(running)}")
            print(f"again: {_opened(running)}")
            done = running.run(_UPDATES, timeout=900)
            print(done.error or running.run("print(figures)").out.strip())


def _opened(running: Kernel) -> str:
    """Return when the totals stood there, and when charts and table did too."""
    started = time.perf_counter()
    message = running.send("%router panel")
    running.collect(message, until="saved against")
    totals = time.perf_counter() - started
    reply = running.collect(message)
    if reply.status != "ok":
        raise RuntimeError(reply.error)
    return f"totals after {totals:.2f} s, charts and table after {time.perf_counter() - started:.2f} s"


_UPDATES = f"""
panel = list(get_ipython().magics_manager.registry["RouterMagics"].panels.values())[-1]
def rss():
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
for _ in range(20):
    panel._redraw()
before, began = rss(), time.perf_counter()
for _ in range({UPDATES}):
    panel._redraw()
each = (time.perf_counter() - began) / {UPDATES} * 1000
figures = f"{UPDATES} updates: {{each:.0f}} ms each, memory {{before:.0f}} MB before, {{rss():.0f}} MB after"
"""


def fill(folder: Path, rows: int) -> None:
    """Write a log of so many answers over a year, one in five from the cache."""
    chance = random.Random(0)
    start = dt.datetime.now(dt.UTC) - dt.timedelta(days=365)
    session, records = Session("session", start, "notebook.ipynb"), []
    for number in range(rows):
        tier: TierName = chance.choice(("fast", "fast", "mid", "power"))
        cached = chance.random() < 0.2
        usage = Usage(chance.randrange(20, 2000), chance.randrange(10, 1000))
        cost = Decimal(usage.input_tokens + 5 * usage.output_tokens) / 10**7
        attempt = Attempt(
            tier=tier,
            candidate=Candidate("openai", _MODELS[tier]),
            status="cached" if cached else "ok",
            usage=usage,
            cost=Cost(Decimal(0) if cached else cost),
            latency=chance.random() * 3,
            finish="stop",
        )
        answer = Answer(
            id=f"{number:032x}", text="An answer. " * 20, tier=tier, provider="openai", model=_MODELS[tier],
            cost=attempt.cost.amount, usage=usage, cached=cached, latency=attempt.latency, finish="stop",
            classification=Classification(tier, 0.5, 0.5, ()), attempts=(attempt,),
            cost_saved=cost if cached else None, created=start + dt.timedelta(seconds=number * 365 * 86400 / rows),
        )  # fmt: skip
        records.append(Record(answer, "cached" if cached else "ok", f"question {number}", None, session))
    SQLiteStore(folder).restore(records)


if __name__ == "__main__":
    main()
