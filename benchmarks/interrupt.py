"""The stop button during a hung call in a real kernel: milliseconds until the kernel is idle again."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

from benchmarks.timing import percentile
from tests.faults.server import serving
from tests.notebook.kernels import kernel
from tests.notebook.test_interrupt import CONFIG


def main() -> None:
    """Print the figures."""
    with serving() as server, tempfile.TemporaryDirectory() as folder:
        os.environ["IPYROUTER_HOME"] = folder
        for provider in ("o", "a"):
            for behaviour in ("hang", "stream-stall"):
                settings = CONFIG.format(url=server.url, provider=provider, behaviour=behaviour)
                (Path(folder) / "config.toml").write_text(settings)
                times = []
                with kernel() as running:
                    running.run("%load_ext ipyrouter")
                    for number in range(5):
                        server.requests.clear()
                        message = running.client.execute(f"%%route\nExplain closures {number}")
                        while not server.requests:
                            time.sleep(0.02)
                        time.sleep(0.3)
                        started = time.perf_counter()
                        running.manager.interrupt_kernel()
                        running.collect(message)
                        times.append((time.perf_counter() - started) * 1000)
                name = f"{'openai' if provider == 'o' else 'anthropic'} SDK, {behaviour}"
                print(f"{name:<28} p50 {percentile(times, 0.5):>7.1f} ms  worst {max(times):>7.1f} ms")


if __name__ == "__main__":
    main()
