"""A conversation of ten turns about an attachment of 30,000 tokens: its cost with the provider's cache and without.

The loopback server caches as the providers document it; the prices are those of genai-prices.

python -m benchmarks.caching
"""

from __future__ import annotations

import tempfile
from decimal import Decimal
from typing import Any

from ipyrouter.config import load
from ipyrouter.pricing.prices import Pricing
from ipyrouter.router import Router
from ipyrouter.types import Answer, Candidate, Message
from tests.faults.prompt_cache import PromptCache
from tests.faults.server import FaultServer, serving

MODELS = (
    "anthropic/claude-opus-5-5", "anthropic/claude-sonnet-5-5", "anthropic/claude-haiku-4-5", "openai/gpt-6.1-terra",
    "openai/gpt-5.4",
)  # fmt: skip
TURNS = 10
ATTACHMENT = "\n".join(f"{row},{row * 7919 % 1000},{row * 104729 % 997}" for row in range(9_100))
"""About 30,000 tokens, four bytes each."""


def main() -> None:
    """Print the figures."""
    with serving() as server:
        print(f"{'model':<28} {'no cache':>10} {'cache':>10} {'saved':>7}  input tokens read from the cache")
        for name in MODELS:
            without = sum(map(_cost, converse(server, name, caches=False)), Decimal(0))
            answers = converse(server, name)
            cost = sum(map(_cost, answers), Decimal(0))
            share = sum(a.usage.cached_input_tokens for a in answers) / sum(a.usage.input_tokens for a in answers)
            print(f"{name:<28} {without:>10.4f} {cost:>10.4f} {1 - cost / without:>7.1%}  {share:.1%}")


def converse(server: FaultServer, name: str, *, caches: bool = True) -> list[Answer]:
    """Return the answers of a conversation with a model, whose provider caches or does not."""
    rates = Pricing(load({})).rates(Candidate(*name.split("/")))
    provider, model = name.split("/")
    cache = PromptCache(provider, bills_writes="cache_write" in rates)
    server.replies[model] = cache if caches else PromptCache(provider, least=1_000_000)
    path = "" if provider == "anthropic" else "/v1"
    entry = {"sdk": provider, "base_url": server.url + path, "stream": False}
    settings: dict[str, Any] = {
        "providers": {"p": entry},
        "prices": {f"p/{model}": {kind: float(rate) for kind, rate in rates.items()}},
    }
    answers: list[Answer] = []
    history: list[Message] = []
    with tempfile.TemporaryDirectory() as folder:
        router = Router(settings, home=folder)
        for turn in range(TURNS):
            prompt = f"What does part {turn + 1} of the table say?" + (f"\n\n{ATTACHMENT}" if turn == 0 else "")
            answer = router.route(prompt, model=f"p/{model}", history=history, conversation=True, allow_large=True)
            history += [Message("user", prompt), Message("assistant", answer.text)]
            answers.append(answer)
        router.close()
    return answers


def _cost(answer: Answer) -> Decimal:
    if answer.cost is None:
        raise RuntimeError("a price is not known")
    return answer.cost


if __name__ == "__main__":
    main()
