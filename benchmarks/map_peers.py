"""Other tools for a prompt over a column: `map_peers.py TOOL URL ROWS CONCURRENCY` prints rows a second.

Run by benchmarks.map with a Python that has these tools; it needs nothing of this project.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Callable
from typing import Any

TOOLS = ("chatlas", "litellm", "openaivec")


def _chatlas(url: str, prompts: list[str], most: int) -> list[Any]:
    import chatlas

    chat = chatlas.ChatOpenAICompletions(model="ok", base_url=f"{url}/v1", api_key="x")
    return list(asyncio.run(chatlas.parallel_chat_text(chat, prompts, max_active=most, rpm=10_000_000)))


def _litellm(url: str, prompts: list[str], most: int) -> list[Any]:
    import litellm

    answers = litellm.batch_completion(
        model="openai/ok", messages=[[{"role": "user", "content": prompt}] for prompt in prompts], api_key="x",
        api_base=f"{url}/v1", max_workers=most, max_tokens=64,
    )  # fmt: skip
    return [answer.choices[0].message.content for answer in answers]


def _openaivec(url: str, prompts: list[str], most: int) -> list[Any]:
    import openai
    import openaivec

    async def ask() -> list[Any]:
        async with openai.AsyncOpenAI(api_key="x", base_url=f"{url}/v1", max_retries=0, timeout=600) as client:
            # A row a request, as the others do it: answers of several in one prompt slip.
            work = openaivec.AsyncBatchResponses.of(client, "ok", "Rate.", batch_size=1, max_concurrency=most)
            return list(await work.parse(prompts))

    return asyncio.run(ask())


def main() -> None:
    """Ask as many rows as the command line says."""
    tool, url, rows, most = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    works: dict[str, Callable[[str, list[str], int], list[Any]]] = {
        "chatlas": _chatlas, "litellm": _litellm, "openaivec": _openaivec,
    }  # fmt: skip
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "true"  # else it is fetched
    works[tool](url, ["warm"], most)
    prompts = [f"Is this review good? Number {tool}-{n}" for n in range(rows)]
    began = time.perf_counter()
    answers = works[tool](url, prompts, most)
    seconds = time.perf_counter() - began
    assert answers == ["positive"] * rows, answers[:3]
    print(rows / seconds)


if __name__ == "__main__":
    main()
