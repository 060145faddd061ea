"""What a day, a week, a month or the whole log came to."""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd

from ipyrouter.errors import UsageError, did_you_mean
from ipyrouter.reporting.log import moment
from ipyrouter.routing.planner import today
from ipyrouter.store.base import Group, LogFilter, RequestLog, Totals
from ipyrouter.store.rows import ANSWERED
from ipyrouter.text import tables, tags
from ipyrouter.text.amounts import at_least, count, from_pico, seconds, unit_of
from ipyrouter.text.sanitise import NO_MATHS, inert
from ipyrouter.text.tables import cell
from ipyrouter.types import STATUSES, TIERS

Span = Literal["day", "week", "month", "all"]
SPANS: tuple[Span, ...] = get_args(Span)
By = Literal["user", "team", "notebook", "tag"]
BY: tuple[By, ...] = get_args(By)
_COLUMNS: dict[str, Group] = {"user": "user", "team": "team", "notebook": "notebook", "tag": "tags"}
_FAILED = tuple(status for status in STATUSES if status not in ANSWERED)
_TOP = 5
_FIGURES = ["calls", "cache_hits", "errors", "cost", "unpriced", "saved", "unsaved", "latency"]


@dataclass(frozen=True)
class Report:
    """What a span came to. Prints as text, shows as Markdown; see :meth:`to_frame` and :meth:`to_html`.

    ``total`` and ``saved`` are exact dollars of what has a known price; ``unpriced`` counts the calls, ``unsaved`` the
    answers from the cache without one. A call is one attempt that was sent; an answer from the cache is not one.
    ``errors`` counts failed, broken and stopped calls, ``error_cost`` is what is known of what they had spent, and
    ``error_unpriced`` counts those without a price; ``fallbacks`` counts requests that another model than the preferred
    one answered; ``escalations`` those that went a tier up, ``escalation_cost`` and ``escalation_unpriced`` what the
    calls up there cost. ``tiers`` and ``models`` have a row each with calls, cache_hits, errors, cost and saved
    (dollars), unpriced, unsaved, and latency (mean seconds of the calls that answered). ``most_expensive`` and
    ``slowest`` hold the five first requests: time, model, cost (dollars of what has a price; without any, a request is
    not ranked), latency (seconds, all attempts), prompt (one line, cut), unpriced (calls). ``groups`` has the same rows
    as ``tiers`` by user, team, notebook or tag, where one of them was chosen; a request stands with each of its tags.
    """

    title: str
    total: Decimal
    saved: Decimal
    unpriced: int
    unsaved: int
    calls: int
    cache_hits: int
    errors: int
    error_cost: Decimal
    error_unpriced: int
    fallbacks: int
    escalations: int
    escalation_cost: Decimal
    escalation_unpriced: int
    tiers: pd.DataFrame
    models: pd.DataFrame
    most_expensive: pd.DataFrame
    slowest: pd.DataFrame
    groups: pd.DataFrame | None = None

    @property
    def spent(self) -> str:
        """The total in words that stay true where prices are unknown."""
        return at_least(self.total, self.unpriced)

    @property
    def brief(self) -> str:
        """The article's report: a line of totals and a line a tier."""
        lines = [
            f"  {name}: {at_least(row['cost'], row['unpriced'])} in {count(row['calls'], 'call')}, "
            f"{row['cache_hits']} from the cache"
            for name, row in self.tiers.iterrows()
        ]
        return "\n".join([f"{self.title}: {self._headline}", *lines])

    @property
    def _headline(self) -> str:
        return (
            f"{self.spent} · {count(self.calls, 'call')} · "
            f"{self.cache_hits} from the cache (saved {at_least(self.saved, self.unsaved, 'answer')})"
        )

    @property
    def _incidents(self) -> str:
        """What went another way than planned, in one line; empty where nothing did."""
        incidents = []
        if self.errors:
            incidents.append(f"{self.errors:,} failed, at {at_least(self.error_cost, self.error_unpriced)}")
        if self.fallbacks:
            incidents.append(count(self.fallbacks, "fallback"))
        if self.escalations:
            cost = at_least(self.escalation_cost, self.escalation_unpriced)
            incidents.append(f"{count(self.escalations, 'escalation')}, at {cost}")
        return " · ".join(incidents)

    def __str__(self) -> str:
        incidents = [f"  {self._incidents}"] if self._incidents else []
        others = [table for table in self._tables() if table.title != "by tier"]  # brief has the tiers
        return "\n".join([self.brief, *incidents, *map(tables.text, others)])

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:  # noqa: ARG002  IPython's protocol
        printer.text(str(self))

    def _repr_markdown_(self) -> str:
        parts = [f"**{cell(self.title)}**: {cell(self._headline)}"]
        if self._incidents:
            parts.append(cell(self._incidents))
        return "\n\n".join([*parts, *map(tables.markdown, self._tables())])

    def to_html(self) -> str:
        """Return the report as HTML.

        Returns:
            Paragraphs and tables without styles or scripts; whatever came from outside is escaped.
        """
        lines = filter(None, (f"{self.title}: {self._headline}", self._incidents))
        paragraphs = [f"<p {NO_MATHS}>{inert(line)}</p>" for line in lines]
        return "\n".join([*paragraphs, *map(tables.html_table, self._tables())])

    def to_frame(self) -> pd.DataFrame:
        """Return the figures of the total, the groups, the tiers and the models.

        Returns:
            One row for each, indexed by (by, name), such as ("tier", "fast"); costs in dollars, latency in seconds.
        """
        figures = [self.calls, self.cache_hits, self.errors, self.total, self.unpriced, self.saved, self.unsaved]
        whole = pd.DataFrame([figures], columns=_FIGURES[:-1], index=[""])
        groups = {} if self.groups is None else {str(self.groups.index.name): self.groups}
        frames = {"total": whole, **groups, "tier": self.tiers, "model": self.models}
        return pd.concat(frames, names=["by", "name"])

    def _tables(self) -> list[tables.Table]:
        groups = [] if self.groups is None else [_figures(str(self.groups.index.name), self.groups)]
        all_tables = [*groups, _figures("tier", self.tiers), _figures("model", self.models)]
        all_tables.append(_ranking(self.most_expensive, self.slowest))
        return [table for table in all_tables if table.rows]


def _figures(of: str, frame: pd.DataFrame) -> tables.Table:
    unit = unit_of([*frame["cost"], *frame["saved"]])
    unpriced, unsaved = bool(frame["unpriced"].any()), bool(frame["unsaved"].any())
    head = (
        of, unit.head("cost"), *(["unpriced calls"] if unpriced else []), "calls", "from the cache",
        unit.head("saved"), *(["unpriced answers"] if unsaved else []), "failed", "average",
    )  # fmt: skip
    rows: list[tuple[str, ...]] = [
        (
            str(name),
            unit.sum(row["cost"], row["unpriced"]),
            *([f"{row['unpriced']:,}"] if unpriced else []),
            f"{row['calls']:,}",
            f"{row['cache_hits']:,}",
            unit.sum(row["saved"], row["unsaved"]),
            *([f"{row['unsaved']:,}"] if unsaved else []),
            f"{row['errors']:,}",
            "" if pd.isna(row["latency"]) else seconds(row["latency"]),
        )
        for name, row in frame.iterrows()
    ]
    return tables.Table(f"by {of}", head, rows, frozenset((of,)))


def _ranking(most_expensive: pd.DataFrame, slowest: pd.DataFrame) -> tables.Table:
    """Return the requests of both rankings, each once, the most expensive first."""
    both = pd.concat([most_expensive, slowest[~slowest.index.isin(most_expensive.index)]])
    rankings = [list(frame.index) for frame in (most_expensive, slowest)]
    places = [[f"{names.index(name) + 1}" if name in names else "" for names in rankings] for name in both.index]
    unit = unit_of(both["cost"], per_call=True)
    rows: list[tuple[str, ...]] = [
        (by_cost, by_time, unit.words(cost) if pd.isna(cost) else unit.sum(Decimal(str(cost)), unpriced),
         seconds(latency), f"{time:%m-%d %H:%M:%S}", model, prompt)
        for (by_cost, by_time), (time, model, cost, latency, prompt, unpriced) in zip(
            places, both.itertuples(index=False), strict=True
        )
    ]  # fmt: skip
    head = ("by cost", "by time", unit.head("cost"), "took", "at (UTC)", "model", "prompt")
    title = "requests that cost or took most"
    return tables.Table(title, head, rows, frozenset(("at (UTC)", "model", "prompt")))


def report(store: RequestLog, day: dt.date | str | None = None, span: str = "day", by: str | None = None) -> Report:
    """Return the report of a span of the log.

    Args:
        store: The log.
        day: The day, in UTC; default: today.
        span: "day", the "week" (from Monday) or "month" that the day lies in, or "all".
        by: "user", "team", "notebook" or "tag": also the figures of each.

    Raises:
        UsageError: The date, the span or the group is not valid.
        StoreError: The database was written by a newer version.
    """
    if span not in SPANS:
        raise UsageError(f"Unknown span {span!r}.", did_you_mean(span, SPANS))
    if by is not None and by not in BY:
        raise UsageError(f"A report by {by!r} is not known.", did_you_mean(by, BY))
    if span == "all":
        if day is not None:
            raise UsageError("The whole log has no day.", "Leave the day or the span out.")
        return _summarise(store, None, None, "All time", by)
    start = moment(day or today())
    if start is not None and not 1900 <= start.year < 9999:
        raise UsageError(f"{day!r} is not a day that the log can hold.", "Write it as 2026-11-23.")
    assert start is not None  # noqa: S101  a day was given
    first = start.astimezone(dt.UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    if span == "week":
        first -= dt.timedelta(days=first.weekday())
        after, title = first + dt.timedelta(days=7), f"{first.date()} to {first.date() + dt.timedelta(days=6)}"
    elif span == "month":
        first = first.replace(day=1)
        after, title = (first + dt.timedelta(days=31)).replace(day=1), f"{first:%Y-%m}"
    else:
        after, title = first + dt.timedelta(days=1), str(first.date())
    return _summarise(store, first, after, title, by)


def _summarise(
    store: RequestLog, since: dt.datetime | None, until: dt.datetime | None, title: str, by: str | None
) -> Report:
    """Return the report of a time, from the store's sums."""
    totals = store.totals(LogFilter(since, until), by=_COLUMNS[by] if by else None)
    figures = _figures_of(totals)
    failed = [row for row in totals if row.status in _FAILED]
    requests = [row.requests for row in totals]
    return Report(
        title=title,
        total=figures["cost"],
        saved=figures["saved"],
        unpriced=figures["unpriced"],
        unsaved=figures["unsaved"],
        calls=figures["calls"],
        cache_hits=figures["cache_hits"],
        errors=figures["errors"],
        error_cost=from_pico(sum(row.cost_pico for row in failed)),
        error_unpriced=sum(row.unpriced for row in failed),
        fallbacks=sum(one.fallbacks for one in requests),
        escalations=sum(one.escalations for one in requests),
        escalation_cost=from_pico(sum(one.escalated_pico for one in requests)),
        escalation_unpriced=sum(one.escalated_unpriced for one in requests),
        tiers=_by(totals, "tier", lambda row: [row.tier], list(TIERS)),
        models=_by(totals, "model", lambda row: [f"{row.provider}/{row.model}"], []),
        most_expensive=_top(store, since, until, "cost"),
        slowest=_top(store, since, until, "latency"),
        groups=_by(totals, by, lambda row: _names(row, by), []) if by else None,
    )


def _names(row: Totals, by: str) -> list[str]:
    """Return the groups of a sum: several where its requests have several tags."""
    return (tags.split(row.group) if by == "tag" else [row.group] * bool(row.group)) or [f"(no {by})"]


def _by(totals: list[Totals], name: str, keys: Callable[[Totals], list[str]], order: list[str]) -> pd.DataFrame:
    """Return the figures of each group; those that ``order`` names come first, the others after the alphabet."""
    groups: dict[str, list[Totals]] = defaultdict(list)
    for row in totals:
        for key in keys(row):
            groups[key].append(row)
    names = [one for one in order if one in groups] + sorted(set(groups) - set(order))
    frame = pd.DataFrame.from_dict({one: _figures_of(groups[one]) for one in names}, orient="index", columns=_FIGURES)
    frame.index.name = name
    return frame


def _figures_of(totals: list[Totals]) -> dict[str, Any]:
    """Return the figures of some sums; what the cache saved stands with its answers alone."""
    called = [row for row in totals if row.status != "cached"]
    answered = [row for row in called if row.status not in _FAILED]
    sent = sum(row.sent for row in answered)
    return {
        "calls": sum(row.sent for row in called),
        "cache_hits": sum(row.rows for row in totals if row.status == "cached"),
        "errors": sum(row.sent for row in called if row.status in _FAILED),
        "cost": from_pico(sum(row.cost_pico for row in called)),
        "unpriced": sum(row.unpriced for row in called),
        "saved": from_pico(sum(row.saved_pico for row in totals)),
        "unsaved": sum(row.unsaved for row in totals),
        "latency": sum(row.latency for row in answered) / sent if sent else float("nan"),
    }


def _top(
    store: RequestLog, since: dt.datetime | None, until: dt.datetime | None, by: Literal["cost", "latency"]
) -> pd.DataFrame:
    ranked = store.top(since, until, by, _TOP)
    known = [one.cost_pico / 1e12 if one.cost_pico or not one.unpriced else float("nan") for one in ranked]
    return pd.DataFrame(
        {
            "time": pd.to_datetime([one.time for one in ranked], utc=True),
            "model": [f"{one.provider}/{one.model}" for one in ranked],
            "cost": np.array(known, np.float64),
            "latency": np.array([one.latency for one in ranked], np.float64),
            "prompt": [tables.line(one.prompt or "", 60) for one in ranked],
            "unpriced": np.array([one.unpriced for one in ranked], np.int64),
        },
        index=[one.answer_id for one in ranked],
    )
