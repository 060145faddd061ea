"""The log as a DataFrame."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any, Never

import numpy as np
import pandas as pd

from ipyrouter.errors import UsageError, did_you_mean
from ipyrouter.routing.planner import today
from ipyrouter.store.base import LogFilter, Store
from ipyrouter.types import TIERS

_TEXTS = ("answer_id", "prompt", "text")
_MILLION = 1_000_000
_ORDERED = ("tier", "routed_tier", "escalated_from")
_CONDITIONS = ("since", "until", "tier", "model", "session", "notebook", "status", "content")
_DAYS = ("day", "date", "days", "when", "start", "end", "from_", "to", "week", "month")
COLUMNS = (
    "time", "answer_id", "session", "notebook", "tier", "routed_tier", "difficulty", "escalated_from", "fallback_from",
    "provider", "model", "status", "input_tokens", "output_tokens", "cached_input_tokens", "cache_write_tokens",
    "reasoning_tokens", "estimated", "cost", "cost_pico", "saved", "saved_pico", "price_id", "rates", "latency",
    "first_token", "finish", "error_kind", "error", "feedback", "prompt", "text",
)  # fmt: skip


def log_frame(
    store: Store,
    *,
    since: dt.datetime | dt.date | str | None = None,
    until: dt.datetime | dt.date | str | None = None,
    tier: str | None = None,
    model: str | None = None,
    session: str | None = None,
    notebook: str | None = None,
    status: str | None = None,
    content: bool = True,
    **unknown: Never,
) -> pd.DataFrame:
    """Return the log, one row an attempt, oldest first.

    | column | dtype | meaning |
    |---|---|---|
    | time | datetime64[us, UTC] | when the request was recorded; the same for all its attempts |
    | answer_id | object (str) | the request; its attempts stand in their order |
    | session, notebook | category | who asked, and where |
    | tier | category, fast < mid < power | whose chain was asked; of a model that was named, its own tier |
    | routed_tier | the same | what the prompt was classified as |
    | difficulty | float64 | 0 to 1, what the classifier said |
    | escalated_from | the same as tier | the tier whose answer to this request was weak |
    | fallback_from | category | the model that should have answered this request |
    | provider, model | category | |
    | status | category | ok, cached, weak, refused, partial, interrupted or error |
    | input_tokens | int64 | the cached and the cache-written ones included |
    | output_tokens | int64 | the reasoning ones included |
    | cached_input_tokens, cache_write_tokens, reasoning_tokens | int64 | |
    | estimated | bool | the provider did not report the tokens; of a call without an answer, what its input may cost |
    | cost, saved | float64 | dollars; NaN where not known |
    | cost_pico, saved_pico | Int64 | the same in whole 1e-12 dollars, which sum exactly |
    | price_id, rates | category | the price that was matched; $ per million tokens as JSON |
    | latency, first_token | float64 | seconds of the call, without set-up and waiting |
    | finish, error_kind, error, feedback | category | |
    | prompt, text | object (str) | None where the log keeps no content, or ``content=False`` |

    A cached row holds the tokens of the answer it repeats, at cost 0, and what that had cost in ``saved``.
    ``since`` <= time < ``until``; dates and times without a zone are UTC. The conditions are SQLite's work, not
    pandas'; ``content=False`` halves time and memory.

    Raises UsageError for an unknown condition or a date that is none, StoreError for a database of a newer version.
    """
    for name in unknown:
        days = 'Use since= and until=, as in cost_log(since="2026-11-23", until="2026-11-24").'
        hint = days if name in _DAYS else did_you_mean(name, _CONDITIONS)
        raise UsageError(f"cost_log() has no condition {name!r}.", hint)
    wanted = LogFilter(moment(since), moment(until), tier, model, session, notebook, status)
    table = store.log(wanted, content=content)
    rows = len(table.columns["time"])
    # Texts stay Python's: pandas would spend a third of all the time on turning them into its own.
    made: dict[str, Any] = {
        name: pd.Series(values, copy=False) for name, values in table.columns.items() if name not in _TEXTS
    }
    for name in _TEXTS:
        made[name] = pd.Series(table.columns.get(name, np.full(rows, None)), dtype=object, copy=False)
    made["time"] = pd.Series(table.columns["time"].view("datetime64[us]"), copy=False).dt.tz_localize("UTC")
    for name, (places, values) in table.categories.items():
        if name == "estimated":
            made[name] = np.array([*values, 0], np.bool_)[places]
        elif name in _ORDERED:
            ranks = np.array([*(TIERS.index(value) for value in values), -1], np.int8)
            made[name] = pd.Categorical.from_codes(ranks[places], pd.Index(TIERS), ordered=True)
        else:
            made[name] = pd.Categorical.from_codes(places, pd.Index(values, dtype="str"))
    for name, pico in (("cost", "cost_pico"), ("saved", "saved_pico")):
        known = table.columns[pico] >= 0
        made[name] = np.where(known, table.columns[pico] / 1e12, np.nan)
        made[pico] = pd.arrays.IntegerArray(np.where(known, table.columns[pico], 0), ~known, copy=False)
    return pd.DataFrame({name: made[name] for name in COLUMNS}, copy=False)


def moment(value: dt.datetime | dt.date | str | None) -> dt.datetime | None:
    """Return a date or time as an aware one; without a zone it is UTC. Raises UsageError for anything else."""
    if value is None:
        return None
    if value in ("today", "yesterday"):
        value = today() - dt.timedelta(days=value == "yesterday")
    try:
        stamp = dt.datetime.fromisoformat(value if isinstance(value, str) else value.isoformat())
    except (ValueError, AttributeError):
        raise UsageError(f"{value!r} is not a valid date.", "Write it as 2026-11-23 or 2026-11-23T15:00.") from None
    return stamp.replace(tzinfo=dt.UTC) if stamp.tzinfo is None else stamp


def models(log: pd.DataFrame) -> pd.Series[Any]:
    """Return provider/model of every row, joined once per pair instead of once per row."""
    pairs = log.groupby(["provider", "model"], observed=True).ngroup()
    first = ~pairs.duplicated()
    joined = log.loc[first, "provider"].astype(str) + "/" + log.loc[first, "model"].astype(str)
    return pairs.map(dict(zip(pairs[first], joined, strict=True)))


def exact(picos: pd.Series[Any]) -> Decimal:
    """Sum whole 1e-12 dollars exactly; unknown ones are left out."""
    known = picos.dropna().to_numpy("int64")
    # In two halves, because 64 bits hold nine million dollars and no more.
    return Decimal(int((known // _MILLION).sum()) * _MILLION + int((known % _MILLION).sum())).scaleb(-12)
