"""The first candidate fails: how long until the second answers? Beside a direct call and, if installed, litellm.

Every call starts with a router that has forgotten earlier faults, so that no cool-down helps it.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

from benchmarks.overhead import SERVER, Address
from benchmarks.timing import ROOT, percentile, sample
from ipyrouter.router import Router
from tests.conftest import server_config

_FAULTS = ("status-500", "status-503", "status-529", "reset", "refused", "status-429-30", "hang")
_FIRST_BYTE = 1.0  # seconds; the deadline that the hang runs into


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=200)
    parser.add_argument("--peer-repeats", type=int, default=3)
    options = parser.parse_args()
    process = subprocess.Popen([sys.executable, "-c", SERVER], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert process.stdout is not None
    url = process.stdout.readline().strip()
    try:
        _run(url, options.repeats, options.peer_repeats)
    finally:
        process.kill()


def _run(url: str, repeats: int, peer_repeats: int) -> None:
    direct = _ours(url, ["o/ok"], repeats)
    base = percentile(direct, 0.5)
    _line("direct call", direct, base)
    for fault in _FAULTS:
        first = "x/m" if fault == "refused" else f"o/{fault}"
        runs = 5 if fault == "hang" else repeats
        _line(f"ipyrouter, {fault} first", _ours(url, [first, "o/ok"], runs), base)
    try:
        import litellm
    except ImportError:
        print("litellm is not installed: pip install litellm, in an environment of its own, to see it beside")
        return
    litellm.suppress_debug_info = True
    for fault in _FAULTS:
        _line(f"litellm Router, {fault} first", sample(_litellm(litellm, url, fault), peer_repeats, warm_up=0), base)


def _ours(url: str, chain: list[str], repeats: int) -> list[float]:
    deadlines = {"connect": 1, "first_byte": _FIRST_BYTE, "idle": 1, "total": 10}
    with tempfile.TemporaryDirectory() as home:
        settings = server_config(Address(url), mid=chain, deadlines=deadlines)  # type: ignore[arg-type]
        settings["providers"]["x"] = {"sdk": "openai", "base_url": "http://127.0.0.1:1/v1"}
        router = Router(settings, home=home)
        router.route("Explain closures", model="o/ok")
        times = []
        for number in range(repeats):
            router._breaker.reset()
            started = time.perf_counter()
            router.route(f"Explain closures {number}", tier="mid")
            times.append((time.perf_counter() - started) * 1000)
        router.close()
    return times


def _litellm(litellm: Any, url: str, fault: str) -> Callable[[int], object]:
    base = "http://127.0.0.1:1/v1" if fault == "refused" else f"{url}/v1"
    first = {"model": f"openai/{fault}", "api_base": base, "api_key": "x"}
    second = {"model": "openai/ok", "api_base": f"{url}/v1", "api_key": "x"}
    models = [{"model_name": "first", "litellm_params": first}, {"model_name": "second", "litellm_params": second}]
    router = litellm.Router(model_list=models, fallbacks=[{"first": ["second"]}], timeout=_FIRST_BYTE)
    return lambda n: router.completion(model="first", messages=[{"role": "user", "content": f"Explain closures {n}"}])


def _line(name: str, times: list[float], base: float) -> None:
    middle, high = percentile(times, 0.5), percentile(times, 0.99)
    print(f"{name:<38} p50 {middle:>9.1f} ms  p99 {high:>9.1f} ms  p50/direct {middle / base:>8.2f}")


if __name__ == "__main__":
    main()
