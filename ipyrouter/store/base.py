"""What the router asks of a store. The embedded default is sqlite.py; a team's shared store would be another."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal, Protocol

from ipyrouter.store.ledger import Limit, Refusal
from ipyrouter.types import Answer, Finish, TierName, Usage

Outcome = Literal["ok", "cached", "error", "interrupted"]
Feedback = Literal["good", "bad"]

LOG_COLUMNS = (
    "time",
    "answer_id",
    "session",
    "notebook",
    "tier",
    "provider",
    "model",
    "status",
    "input_tokens",
    "output_tokens",
    "cached_input_tokens",
    "cache_write_tokens",
    "reasoning_tokens",
    "estimated",
    "cost_pico",
    "saved_pico",
    "price_id",
    "rates",
    "latency",
    "first_token",
    "finish",
    "error_kind",
    "error",
    "routed_tier",
    "difficulty",
    "feedback",
    "prompt",
    "text",
)
"""The log's columns, one row an attempt; times in microseconds since 1970 (UTC), costs in 1e-12 dollars."""


SUMMARY_COLUMNS = (
    "bucket",
    "tier",
    "provider",
    "model",
    "status",
    "rows",
    "unpriced",
    "cost_pico",
    "saved_pico",
    "input_tokens",
    "output_tokens",
)
"""The columns of a summary, one row a bucket of time (its beginning, in microseconds), tier, model and status."""


@dataclass(frozen=True, slots=True)
class CachedAnswer:
    """A completion as it was stored; ``cost`` is what it cost in dollars then."""

    provider: str
    model: str
    tier: TierName
    text: str
    usage: Usage
    finish: Finish
    cost: Decimal | None
    escalated_from: TierName | None


@dataclass(frozen=True, slots=True)
class Record:
    """One request as it is logged: the answer (or what there was of one), and the question around it.

    ``lease`` of ``owner`` and ``reservations`` end with the same transaction.
    """

    answer: Answer
    outcome: Outcome
    prompt: str | None
    system: str | None
    session: str
    notebook: str | None
    owner: str = ""
    lease: bytes | None = None
    reservations: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LogFilter:
    """Which rows of the log are wanted; None is no condition. Times are aware and half-open: since <= t < until."""

    since: dt.datetime | None = None
    until: dt.datetime | None = None
    tier: str | None = None
    model: str | None = None
    session: str | None = None
    notebook: str | None = None
    status: str | None = None


@dataclass(frozen=True, slots=True)
class Health:
    """What `ipyrouter doctor` tells of the store."""

    path: str
    ok: bool
    detail: str
    answers: int = 0
    cached: int = 0
    cached_bytes: int = 0


class Store(Protocol):
    """Cache and log. No method raises for a full, locked, read-only or corrupt disk: see :meth:`warnings`."""

    def cached(self, keys: list[bytes], ttl_days: float) -> CachedAnswer | None:
        """Return the first of the keys that is stored and no older than ``ttl_days``."""
        ...

    def record(self, record: Record, cache_key: bytes | None, max_mb: float) -> None:
        """Write answer and log rows, and the cache entry if a key is given, in one transaction."""
        ...

    def log_rows(self, wanted: LogFilter) -> list[tuple[Any, ...]]:
        """Return the log, oldest first, a tuple of LOG_COLUMNS a row. Raises StoreError."""
        ...

    def newest(self, wanted: LogFilter, rows: int, skip: int = 0) -> list[tuple[Any, ...]]:
        """Return so many rows of the log after the newest ``skip``, newest first. Raises StoreError."""
        ...

    def span(self) -> tuple[int, int] | None:
        """Return the times of the log's first and last row, in microseconds, or None. Raises StoreError."""
        ...

    def summary(self, wanted: LogFilter, bucket: int) -> list[tuple[Any, ...]]:
        """Return sums over the log, a tuple of SUMMARY_COLUMNS a row, in buckets of that many microseconds.

        Raises StoreError.
        """
        ...

    def choices(self, days: int) -> tuple[list[str], list[str]]:
        """Return the newest days (UTC, as 2026-11-23) and all the models of the log. Raises StoreError."""
        ...

    def restore(self, records: list[Record]) -> int:
        """Add records that are not in the log, at the time of their answers; return how many were new."""
        ...

    def set_feedback(self, answer_id: str, feedback: Feedback) -> bool:
        """Store what the person thought of an answer; False if there is no such answer."""
        ...

    def clear_cache(self) -> int:
        """Forget all cached completions and return how many there were."""
        ...

    def reserve(self, pico: int, limits: list[Limit], session: str, seconds: float) -> str | Refusal:
        """Promise money to a call and return the reservation's id, or the first budget that has not enough left."""
        ...

    def used(self, limit: Limit) -> int:
        """Return what is spent and promised of a budget, in 1e-12 dollars."""
        ...

    def lease(self, key: bytes, owner: str, seconds: float) -> bool:
        """Claim the right to ask for a key; False while another living owner has it."""
        ...

    def leased(self, key: bytes) -> bool:
        """Tell whether a living owner is asking for the key."""
        ...

    def release(self, key: bytes | None, owner: str, reservations: tuple[str, ...]) -> None:
        """Give back what a request held that ended without a record."""
        ...

    def health(self) -> Health:
        """Check the store."""
        ...

    def warnings(self) -> list[str]:
        """Return what went wrong since the last call, in one line each; each fault is told once."""
        ...

    def close(self) -> None:
        """Close this thread's connections."""
        ...
