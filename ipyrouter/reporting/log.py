"""The log as a DataFrame."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from decimal import Decimal
from typing import Any, Never

import numpy as np
import pandas as pd

from ipyrouter.errors import UsageError, did_you_mean
from ipyrouter.routing.planner import today
from ipyrouter.store import rows
from ipyrouter.store.base import LogFilter, LogTable, RequestLog
from ipyrouter.store.rows import Kind
from ipyrouter.types import TIERS

_BILLION = 10**9
_CONDITIONS = ("since", "until", "tier", "model", "session", "notebook", "status", "user", "team", "tag", "content")
_DAYS = ("day", "date", "days", "when", "start", "end", "from_", "to", "week", "month")
COLUMNS = tuple(
    name
    for column in rows.LOG
    for name in ((column.name.removesuffix("_pico"),) if column.kind is Kind.PICO else ()) + (column.name,)
)
"""The DataFrame's columns; beside every amount in whole 1e-12 dollars stands the same in dollars."""


def log_frame(
    store: RequestLog,
    *,
    since: dt.datetime | dt.date | str | None = None,
    until: dt.datetime | dt.date | str | None = None,
    tier: str | None = None,
    model: str | None = None,
    session: str | None = None,
    notebook: str | None = None,
    status: str | None = None,
    user: str | None = None,
    team: str | None = None,
    tag: str | None = None,
    content: bool = True,
    **unknown: Never,
) -> pd.DataFrame:
    """Return the log, one row an attempt, oldest first.

    | column | dtype | meaning |
    |---|---|---|
    {columns}

    A cached row holds the tokens of the answer it repeats, at cost 0, and what that had cost in ``saved``.
    ``since`` <= time < ``until``; dates and times without a zone are UTC. The conditions are SQLite's work, not
    pandas'; ``content=False`` halves time and memory.

    Raises:
        UsageError: A condition is unknown, or a date is not valid.
        StoreError: The database was written by a newer version.
    """
    for name in unknown:
        days = 'Use since= and until=, as in cost_log(since="2026-11-23", until="2026-11-24").'
        hint = days if name in _DAYS else did_you_mean(name, _CONDITIONS)
        raise UsageError(f"cost_log() has no condition {name!r}.", hint)
    log_filter = LogFilter(moment(since), moment(until), tier, model, session, notebook, status, user, team, tag)
    return frame_of(store.log(log_filter, content=content))


log_frame.__doc__ = (log_frame.__doc__ or "").replace("    {columns}", rows.documentation())


def frames(store: RequestLog, log_filter: LogFilter, *, content: bool = True) -> Iterator[pd.DataFrame]:
    """Yield the log in parts of some thousand rows, oldest first, at least one. Raises StoreError."""
    some = False
    for table in store.parts(log_filter, content=content):
        some = True
        yield frame_of(table)
    if not some:
        yield frame_of(store.log(log_filter, content=content))


def frame_of(table: LogTable) -> pd.DataFrame:
    """Return a part of the log as a DataFrame, with the columns and dtypes of :func:`log_frame`."""
    series: dict[str, Any] = {}
    for column in rows.LOG:
        series |= _series(column, table)
    return pd.DataFrame({name: series[name] for name in COLUMNS}, copy=False)


def _series(column: rows.Column, table: LogTable) -> dict[str, Any]:
    name, kind = column.name, column.kind
    if kind in (Kind.NAME, Kind.TIER, Kind.FLAG):
        places, known = table.categories[name]
        if kind is Kind.FLAG:
            return {name: np.array([*known, 0], np.bool_)[places]}
        if kind is Kind.NAME:
            return {name: pd.Categorical.from_codes(places, pd.Index(known, dtype="str"))}
        ranks = np.array([*(TIERS.index(value) for value in known), -1], np.int8)
        return {name: pd.Categorical.from_codes(ranks[places], pd.Index(TIERS), ordered=True)}
    if kind in (Kind.ID, Kind.TEXT):
        # Texts stay Python's: pandas would spend a third of all the time on turning them into its own.
        texts = table.columns.get(name, np.full(len(table.columns["time"]), None))
        return {name: pd.Series(texts, dtype=object, copy=False)}
    values = table.columns[name]
    if kind is Kind.TIME:
        return {name: pd.Series(values.view("datetime64[us]"), copy=False).dt.tz_localize("UTC")}
    if kind is Kind.PICO:
        unknown = values < 0
        whole = pd.arrays.IntegerArray(np.where(unknown, 0, values), unknown, copy=False)
        return {name.removesuffix("_pico"): np.where(unknown, np.nan, values / 1e12), name: whole}
    return {name: pd.Series(values, copy=False)}


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


def exact(picos: pd.Series[Any]) -> Decimal:
    """Sum whole 1e-12 dollars exactly; unknown ones are left out."""
    known = picos.dropna().to_numpy("int64")
    # In two halves, because 64 bits hold nine million dollars and no more.
    return Decimal(int((known // _BILLION).sum()) * _BILLION + int((known % _BILLION).sum())).scaleb(-12)
