"""What the router adds to a call: bare openai SDK with a reused client beside ipyrouter, against a loopback server.

The server runs in a process of its own, so that it does not share the interpreter lock with what is measured.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile

import openai

from benchmarks.timing import ROOT, interleaved, table
from ipyrouter.router import Router
from tests.conftest import server_config

SERVER = (
    "import time\nfrom tests.faults.server import FaultServer\nprint(FaultServer().url, flush=True)\ntime.sleep(3600)"
)


class Address:
    def __init__(self, url: str) -> None:
        self.url = url


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=500)
    repeats = parser.parse_args().repeats
    process = subprocess.Popen([sys.executable, "-c", SERVER], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert process.stdout is not None
    url = process.stdout.readline().strip()
    with tempfile.TemporaryDirectory() as home:
        client = openai.OpenAI(api_key="x", base_url=f"{url}/v1", max_retries=0)
        router = Router(server_config(Address(url)), home=home)  # type: ignore[arg-type]
        whole = Router(server_config(Address(url), stream=False), home=f"{home}/whole")  # type: ignore[arg-type]
        router.route("Explain closures: cached")

        def bare(number: int) -> None:
            message = {"role": "user", "content": f"Explain closures {number}"}
            client.chat.completions.create(model="ok", messages=[message], max_tokens=4096)  # type: ignore[list-item]

        def bare_stream(number: int) -> None:
            message = {"role": "user", "content": f"Explain closures {number}"}
            options = {"include_usage": True}
            for _ in client.chat.completions.create(  # type: ignore[call-overload]
                model="ok", messages=[message], max_tokens=4096, stream=True, stream_options=options
            ):
                pass

        rows = interleaved(
            {
                "openai SDK, reused client": bare,
                "openai SDK, reused client, streamed": bare_stream,
                "ipyrouter, log row included": lambda n: whole.route(f"Explain closures {n}"),
                "ipyrouter, streamed, log row included": lambda n: router.route(f"Explain closures {n}"),
                "ipyrouter, cache hit, log row included": lambda _: router.route("Explain closures: cached"),
                "ipyrouter, classification alone": lambda n: router.classify(f"Explain closures {n}"),
            },
            repeats,
        )
        table(rows, "openai SDK, reused client")
        router.close()
        whole.close()
    process.kill()


if __name__ == "__main__":
    main()
