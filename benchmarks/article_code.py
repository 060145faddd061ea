"""The article's router as a reader would paste it, faults included: keywords, an MD5 cache, one client per call.

Written from the article's description, with the address of the loopback server put in.
"""

from __future__ import annotations

import hashlib
import time
from typing import Any

from openai import OpenAI

_POWER = ("architect", "refactor entire", "security audit", "design system", "optimize algorithm",
          "review this codebase", "migration plan")  # fmt: skip
_FAST = (
    "format",
    "convert",
    "rename",
    "simple",
    "list",
    "count",
    "translate this",
    "fix typo",
    "add comment",
    "what is",
)
_LIMITS = {"fast": 1024, "mid": 4096, "power": 8192}
_INPUT = {"fast": 0.15, "mid": 2.5, "power": 2.5}  # $ per million tokens; output at three times that, by guess


class ArticleRouter:
    """Classify, look into the cache, call, log."""

    def __init__(self, base_url: str, model: str) -> None:
        self.base_url = base_url
        self.model = model
        self.cache: dict[str, dict[str, Any]] = {}
        self.log: list[dict[str, Any]] = []

    def classify(self, prompt: str) -> str:
        """Return the tier by keyword, then by length."""
        lowered = prompt.lower()
        if any(signal in lowered for signal in _POWER):
            return "power"
        if any(signal in lowered for signal in _FAST):
            return "fast"
        return "power" if len(prompt.split()) > 500 else "mid"

    def route(self, prompt: str) -> dict[str, Any]:
        """Answer the prompt."""
        started = time.time()
        key = hashlib.md5(prompt.encode()).hexdigest()
        if key in self.cache:
            return self._logged({**self.cache[key], "cached": True, "cost": 0.0}, started)
        tier = self.classify(prompt)
        client = OpenAI(api_key="x", base_url=self.base_url)
        response = client.chat.completions.create(
            model=self.model, messages=[{"role": "user", "content": prompt}], max_tokens=_LIMITS[tier]
        )
        usage = response.usage
        assert usage is not None
        cost = (usage.prompt_tokens + 3 * usage.completion_tokens) * _INPUT[tier] / 1e6
        answer = {"content": response.choices[0].message.content, "model": self.model, "tier": tier, "cost": cost,
                  "tokens": usage.total_tokens, "cached": False}  # fmt: skip
        self.cache[key] = answer
        return self._logged(answer, started)

    def _logged(self, answer: dict[str, Any], started: float) -> dict[str, Any]:
        self.log.append({**answer, "latency": time.time() - started})
        return answer
