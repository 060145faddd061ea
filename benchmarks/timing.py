"""What the benchmarks share: percentiles, tables, fresh processes."""

from __future__ import annotations

import math
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).parent.parent


def sample(work: Callable[[int], object], repeats: int, warm_up: int = 20) -> list[float]:
    """Return the milliseconds of each run after the warm-up; ``work`` gets the number of the run."""
    for number in range(warm_up):
        work(-1 - number)
    times = []
    for number in range(repeats):
        started = time.perf_counter()
        work(number)
        times.append((time.perf_counter() - started) * 1000)
    return times


def percentile(values: Sequence[float], share: float) -> float:
    """Return the nearest-rank percentile."""
    return sorted(values)[max(math.ceil(share * len(values)) - 1, 0)]


def interleaved(works: dict[str, Callable[[int], object]], repeats: int) -> dict[str, list[float]]:
    """Sample several works in turns, so that a slow spell of the machine meets all of them."""
    rounds, batch = 10, max(repeats // 10, 1)
    times: dict[str, list[float]] = {name: [] for name in works}
    for number in range(rounds):
        for name, work in works.items():
            times[name] += sample(
                lambda run, work=work, base=number * batch: work(base + run if run >= 0 else run * 10_000 - base),  # type: ignore[misc]
                batch,
                warm_up=20 if number == 0 else 2,
            )
    return times


def table(rows: dict[str, list[float]], reference: str, unit: str = "ms") -> None:
    """Print p50 and p99 with the ratio of the medians to the reference."""
    base = percentile(rows[reference], 0.5)
    width = max(map(len, rows))
    print(f"{'':<{width}}  {'p50 ' + unit:>10} {'p99 ' + unit:>10} {'ratio':>7}")
    for name, times in rows.items():
        middle, high = percentile(times, 0.5), percentile(times, 0.99)
        print(f"{name:<{width}}  {middle:>10.3f} {high:>10.3f} {middle / base:>7.3f}")


def fresh(code: str) -> str:
    """Run code in a new interpreter and return what it printed."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1])
    return done.stdout.strip()
