"""From a cold kernel to the local model's first answer, weights being there; beside importing the SDK alone."""

from __future__ import annotations

import tempfile
import time

from benchmarks.timing import fresh
from ipyrouter.providers import local

_ASK = """
from ipyrouter.router import Router
answer = Router(home={home!r}).route("What is the capital of France?", max_output_tokens=40)
print(answer.provider, answer.usage.output_tokens)
"""


def main() -> None:
    """Print the figures."""
    local.ensure_weights(print)
    for number in range(3):
        with tempfile.TemporaryDirectory() as home:
            started = time.perf_counter()
            tokens = fresh(_ASK.format(home=home))
            elapsed = time.perf_counter() - started
        started = time.perf_counter()
        fresh("import openai")
        alone = time.perf_counter() - started
        print(f"run {number + 1}: first answer {elapsed:.2f} s ({tokens} tokens); `import openai` {alone:.2f} s")


if __name__ == "__main__":
    main()
