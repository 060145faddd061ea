"""Looking back: the log as a DataFrame, the daily report, and what other strategies would have cost."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pandas as pd

from ipyrouter.config import Config
from ipyrouter.errors import UsageError
from ipyrouter.money import count, dollars
from ipyrouter.plan import today
from ipyrouter.pricing import Pricing
from ipyrouter.store.base import LOG_COLUMNS, LogFilter, Store
from ipyrouter.types import TIERS, Candidate

_PICO = 1e-12
_INTEGERS = ("input_tokens", "output_tokens", "cached_input_tokens", "cache_write_tokens", "reasoning_tokens")
_CATEGORIES = ("provider", "model", "status", "session", "notebook", "price_id", "finish", "error_kind", "feedback")
ASSUMPTION = (
    "Assumes the same token counts at the other model's rates; latencies are that model's own mean, "
    "blank where it never answered."
)


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
) -> pd.DataFrame:
    """Return the log, one row an attempt, oldest first.

    Columns: time (UTC); answer_id; session; notebook; tier (ordered: fast < mid < power), routed_tier (what the prompt
    was classified as) and difficulty; provider; model; status (ok, cached, weak, refused, partial, interrupted,
    error); input_tokens (the cached ones included), output_tokens (the reasoning ones included),
    cached_input_tokens, cache_write_tokens, reasoning_tokens; estimated (the provider did not report the tokens); cost
    and saved in dollars (NaN: unknown), cost_pico and saved_pico the same in whole 1e-12 dollars, which sum exactly;
    price_id and rates ($ per million tokens, JSON); latency and first_token in seconds; finish; error_kind; error;
    feedback; prompt; text. A cached row holds the tokens of the answer it repeats, at cost 0.

    ``since`` <= time < ``until``; dates and times without a zone are UTC. Raises UsageError for a date that is none,
    StoreError for a database of a newer version.
    """
    wanted = LogFilter(_moment(since), _moment(until), tier, model, session, notebook, status)
    frame = pd.DataFrame.from_records(store.log_rows(wanted), columns=list(LOG_COLUMNS))
    frame["time"] = pd.to_datetime(frame["time"].astype("int64"), unit="us", utc=True)
    for name in ("tier", "routed_tier"):
        frame[name] = pd.Categorical(frame[name], categories=list(TIERS), ordered=True)
    for name in _CATEGORIES:
        frame[name] = frame[name].astype("category")
    for name in _INTEGERS:
        frame[name] = frame[name].astype("int64")
    frame["estimated"] = frame["estimated"].astype("bool")
    for name in ("latency", "first_token", "difficulty"):
        frame[name] = frame[name].astype("float64")
    for name, pico in (("cost", "cost_pico"), ("saved", "saved_pico")):
        frame[pico] = frame[pico].astype("Int64")
        frame.insert(frame.columns.get_loc(pico), name, frame[pico].astype("float64") * _PICO)  # type: ignore[arg-type]
    return frame


def _moment(value: dt.datetime | dt.date | str | None) -> dt.datetime | None:
    if value is None:
        return None
    try:
        stamp = pd.Timestamp(value)
    except ValueError:
        raise UsageError(f"{value!r} is no date.", "Write it as 2026-11-23 or 2026-11-23T15:00.") from None
    aware: dt.datetime = (stamp.tz_localize("UTC") if stamp.tzinfo is None else stamp).to_pydatetime()
    return aware


def _exact(picos: pd.Series[Any]) -> Decimal:
    """Sum whole 1e-12 dollars exactly; unknown ones are left out."""
    return Decimal(sum(int(value) for value in picos.dropna())).scaleb(-12)


@dataclass(frozen=True)
class Report:
    """What one day (or any span) came to. Prints as text, displays as a table.

    ``total`` and ``saved`` are exact dollars of the priced attempts; ``unpriced`` counts those without a known price.
    ``tiers`` has a row a tier, ``models`` a row a model: calls, cache_hits, cost and saved in dollars.
    """

    title: str
    total: Decimal
    saved: Decimal
    unpriced: int
    calls: int
    cache_hits: int
    errors: int
    tiers: pd.DataFrame
    models: pd.DataFrame

    def __str__(self) -> str:
        lines = [
            f"{self.title}: {self.spent} · {count(self.calls, 'call')} · "
            f"{self.cache_hits} from the cache (saved {dollars(self.saved)})"
            + (f" · {self.errors} failed" if self.errors else "")
        ]
        lines += [
            f"  {name}: {dollars(row['cost'])} in {count(row['calls'], 'call')}, {row['cache_hits']} from the cache"
            for name, row in self.tiers.iterrows()
        ]
        return "\n".join(lines)

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:  # noqa: ARG002  IPython's protocol
        printer.text(str(self))

    @property
    def spent(self) -> str:
        """The total in words that stay true where prices are unknown."""
        if not self.unpriced:
            return dollars(self.total)
        return f"at least {dollars(self.total)}, {count(self.unpriced, 'call')} unpriced"


def daily(store: Store, day: dt.date | str | None = None) -> Report:
    """Return the report of one day in UTC; None is today. Raises UsageError for a date that is none."""
    start = _moment(day or today()) or dt.datetime.now(dt.UTC)
    end = start + dt.timedelta(days=1)
    return summarise(log_frame(store, since=start, until=end), f"{start.date()}")


def summarise(log: pd.DataFrame, title: str) -> Report:
    """Return the report of any part of the log."""
    called = log[log["status"] != "cached"]
    return Report(
        title=title,
        total=_exact(called["cost_pico"]),
        saved=_exact(log["saved_pico"]),
        unpriced=int(called["cost_pico"].isna().sum()),
        calls=len(called),
        cache_hits=int((log["status"] == "cached").sum()),
        errors=int(called["status"].isin(["error", "partial", "interrupted"]).sum()),
        tiers=_by(log, "tier"),
        models=_by(log, "model"),
    )


def _by(log: pd.DataFrame, column: str) -> pd.DataFrame:
    rows = {}
    for name, part in log.groupby(column, observed=True):
        hits = int((part["status"] == "cached").sum())
        rows[name] = {
            "calls": len(part) - hits,
            "cache_hits": hits,
            "cost": _exact(part["cost_pico"]),
            "saved": _exact(part["saved_pico"]),
        }
    frame = pd.DataFrame.from_dict(rows, orient="index", columns=["calls", "cache_hits", "cost", "saved"])
    frame.index.name = column
    return frame


def compare(store: Store, config: Config, pricing: Pricing) -> pd.DataFrame:
    """Return the article's table for the log: a row a strategy, with cost (dollars), latency (mean seconds) and calls.

    ``frame.attrs["assumption"]`` says what it assumes. A cost is NaN where a price is not known.
    """
    log = log_frame(store)
    answered = log[log["status"].isin(["ok", "cached", "refused"])]
    called = answered[answered["status"] != "cached"]
    spent = _floats(log.loc[log["status"] != "cached", "cost_pico"])
    saved = _floats(answered.loc[answered["status"] == "cached", "saved_pico"])
    rows: dict[str, dict[str, Any]] = {}
    for tier in ("power", "mid"):
        candidate = config.tiers[tier].chain[0]
        own = called[(called["model"] == candidate.model) & (called["provider"] == candidate.provider)]
        rows[f"all {tier}"] = {
            "model": str(candidate),
            "cost": _at(pricing, candidate, answered),
            "latency": own["latency"].mean() if len(own) else None,
            "calls": len(answered),
        }
    rows["router"] = {
        "model": "routed",
        "cost": spent + saved,
        "latency": called["latency"].mean(),
        "calls": len(answered),
    }
    rows["router + cache"] = {
        "model": "routed",
        "cost": spent,
        "latency": answered["latency"].mean(),
        "calls": len(called),
    }
    frame = pd.DataFrame.from_dict(rows, orient="index").astype({"cost": "float64", "latency": "float64"})
    frame.index.name = "strategy"
    frame.attrs["assumption"] = ASSUMPTION
    return frame


def _floats(picos: pd.Series[Any]) -> float:
    return float("nan") if picos.isna().any() else float(_exact(picos))


def _at(pricing: Pricing, candidate: Candidate, answered: pd.DataFrame) -> float:
    """Return the dollars of the answers' tokens at another model's rates."""
    pairs: Sequence[tuple[int, int]] = list(zip(answered["input_tokens"], answered["output_tokens"], strict=True))
    costs = [pricing.at(candidate, int(read), int(written)) for read, written in pairs]
    known = [cost for cost in costs if cost is not None]
    return float(sum(known, Decimal(0))) if len(known) == len(costs) else float("nan")
