"""Requests and their attempts, written in one round trip with all that ends with them."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Sequence
from typing import Any

from ipyrouter import interrupts
from ipyrouter.errors import StoreError
from ipyrouter.store import rows
from ipyrouter.store.base import Feedback, Record, microseconds
from ipyrouter.store.postgres import outbox
from ipyrouter.store.postgres.away import AwayError
from ipyrouter.store.postgres.calls import Calls
from ipyrouter.store.sqlite.schema import DAY
from ipyrouter.types import Answer, Usage

_MB = 1_000_000


class LogWriter(Calls):
    """Implements store.base.LogWriter."""

    def record(self, record: Record, cache_key: bytes | None, max_mb: float, max_age_days: float | None = None) -> None:
        """Write a request with its attempts and, if a key is given, the cache entry, in one transaction.

        While the server is away they go to this machine's own file, and follow later.
        """
        now = rows.instant(microseconds(self._clock.now()))
        body = outbox.body(*rows.values(record, now, restored=False))
        body["owner"] = record.owner
        if cache_key is not None and record.outcome == "cached":
            body["touch"] = cache_key.hex()
        elif cache_key is not None and len(record.answer.text) <= outbox.LONGEST_TEXT:  # an answer is never cut there
            age = None if max_age_days is None else int(max_age_days * DAY)
            body["cache"] = _entry(cache_key, record.answer, int(max_mb * _MB), age)
        if record.run and ("touch" in body or "cache" in body):
            body["run"] = record.run
        if record.session.run:
            body["budget"] = record.session.run
        with interrupts.Deferred():
            try:
                self._ask("ipyrouter.record(%s, 'record')", json.dumps(body))
            except (AwayError, StoreError) as error:
                self._warn(error)
                self._local.record(record, cache_key, max_mb, max_age_days)
            else:
                self._holders.discard(record.owner)
                self._local.release(record.owner)
                self._send_waiting()

    def restore(self, records: Sequence[Record]) -> int:
        """Add records that are not in the log, at the time of their answers; return how many were new."""
        new = 0
        for place, one in enumerate(records):
            body = outbox.body(*rows.values(one, microseconds(one.answer.created), restored=True))
            try:
                new += self._ask("ipyrouter.record(%s, 'restore')", json.dumps(body))
            except (AwayError, StoreError) as error:
                self._warn(error)
                return new + self._local.restore(records[place:])
        return new

    def forget(self, answer_id: str | None, before: dt.datetime | None, *, content: bool) -> int:
        """Delete the texts of the user's own answers: one, those before a moment, or all; return how many.

        Raises:
            StoreError: ``content`` is not set: what was spent is the team's; or the server is away.
        """
        if not content:
            raise StoreError(
                "What was spent stays in the team's log; only its texts can be deleted.",
                "Write %router forget --content, or ask the owner of the store for: ipyrouter team prune",
            )
        self._send_waiting(most=None)
        moment = None if before is None else microseconds(before)
        try:
            number = int(self._ask("ipyrouter.forget_texts(%s, %s)", answer_id, moment))
        except AwayError as error:
            raise StoreError(f"The team store is away ({error}); nothing was deleted.", "Try again later.") from None
        if self._local.is_there:
            self._local.clear_cache()  # once requests have followed, it is not known here whose answers these are
            number += self._local.forget(answer_id, before, content=True)
        return number

    def set_feedback(self, answer_id: str, feedback: Feedback) -> bool:
        """Store what the user thought of an answer; False if there is no such answer."""
        return self._local.set_feedback(answer_id, feedback) or self._or_locally(
            lambda: bool(self._ask("ipyrouter.set_feedback(%s, %s)", answer_id, feedback)), lambda: False
        )


def _entry(key: bytes, answer: Answer, most: int, age: int | None) -> dict[str, Any]:
    """Return an answer as the server's cache takes it."""
    usage: dict[str, Any] = {name: rows.count(getattr(answer.usage, name)) for name in Usage.__slots__}
    strings = {
        "provider": answer.provider, "model": answer.model, "tier": answer.tier, "text": answer.text,
        "finish": answer.finish,
    }  # fmt: skip
    return {
        **{name: outbox.text(rows.text(value) or "") for name, value in strings.items()},
        "key": key.hex(), "usage": {**usage, "estimated": answer.usage.estimated},
        "cost_pico": rows.pico(answer.cost), "escalated_from": answer.escalated_from,
        "max_bytes": most, "max_age": age,
    }  # fmt: skip
