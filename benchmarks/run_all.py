"""Restart and Run All over 50 cached `%%route` cells, beside a notebook of 50 empty cells: seconds beyond the kernel's.

python -m benchmarks.run_all
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from pathlib import Path

from tests.faults.server import serving
from tests.notebook.kernels import Kernel, kernel

CELLS = 50
ROUNDS = 5


def main() -> None:
    """Print the figures."""
    prompts = [f"%%route\nExplain closures, in example {number}." for number in range(CELLS)]
    with serving() as server, tempfile.TemporaryDirectory() as folder:
        chains = "".join(f'[tiers.{tier}]\nchain = ["o/ok"]\n' for tier in ("fast", "mid", "power"))
        provider = f'[providers.o]\nsdk = "openai"\nbase_url = "{server.url}/v1"\n'
        (Path(folder) / "config.toml").write_text(provider + chains)
        os.environ["IPYROUTER_HOME"] = folder
        with kernel() as first:
            _run(first, ["%load_ext ipyrouter", *prompts])
        beyond = []
        for _ in range(ROUNDS):
            with kernel() as empty:
                base = _run(empty, ["pass"] * (CELLS + 1))
            with kernel() as running:
                elapsed = _run(running, ["%load_ext ipyrouter", *prompts])
                imported = running.run("import sys; print({'openai', 'anthropic', 'pandas'} & set(sys.modules))").out
            beyond.append(elapsed - base)
            print(f"{CELLS} cells: {elapsed:.2f} s, empty ones {base:.2f} s; imported: {imported.strip()}")
        print(f"beyond the kernel's own time, median: {statistics.median(beyond):.2f} s")


def _run(running: Kernel, cells: list[str]) -> float:
    started = time.perf_counter()
    for cell in cells:
        reply = running.run(cell)
        if reply.status != "ok":
            raise RuntimeError(reply.error)
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
