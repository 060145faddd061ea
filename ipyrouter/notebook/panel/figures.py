"""The panel's figures, from the store's sums to what is shown of them."""

from __future__ import annotations

import base64
import datetime as dt
import itertools
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import TYPE_CHECKING

from ipyrouter.reporting import baseline
from ipyrouter.store.base import LogFilter, Totals
from ipyrouter.text.amounts import at_least, count, dollars, from_pico, unit_of
from ipyrouter.text.sanitise import MATHS_OFF, inert, plain
from ipyrouter.text.tables import Table, notebook_table, text
from ipyrouter.types import TIERS, TierName

if TYPE_CHECKING:
    from ipyrouter.router import Router
    from ipyrouter.store.base import RequestLog

_POINTS = 200  # of the chart, about
_MOST_ROWS = 200_000  # that are read one by one to tell the notebooks apart
NO_NOTEBOOK = "(no notebook)"


@dataclass(frozen=True)
class Spent:
    """What a part of the calls came to: their number, the dollars that are known, and how many have no known price."""

    calls: int = 0
    cost: Decimal = Decimal(0)
    unpriced: int = 0


@dataclass(frozen=True)
class Figures:
    """What the panel shows of a part of the log; dollars, exact where summed.

    ``times``, ``totals`` and ``counts`` are what was spent and how often was called up to each moment (UTC).
    ``unpriced`` counts the calls, ``unsaved`` the cached answers of unknown price. ``against_power`` is what the power
    tier's first model that is not retired would have cost more, ``at_power`` what it would have cost, for the requests
    whose own cost is known, None where that model's price is not known; ``not_compared`` counts the other requests.
    ``left`` is None where it is not known what a budget leaves. ``notebooks`` is None while, or because there are very
    many rows, it is not known.
    """

    title: str
    spent: Decimal
    unpriced: int
    saved: Decimal
    unsaved: int
    against_power: Decimal | None
    at_power: Decimal | None
    not_compared: int
    calls: int
    hits: int
    rows: int
    by_tier: dict[str, Spent]
    models: dict[str, Spent]
    times: list[dt.datetime]
    totals: list[Decimal]
    counts: list[int]
    left: dict[str, Decimal | None]
    notebooks: dict[str, Spent] | None = None

    @property
    def tiers(self) -> dict[TierName, Decimal]:
        """What each tier cost."""
        return {tier: self.by_tier.get(tier, Spent()).cost for tier in TIERS}

    @property
    def tier_calls(self) -> dict[TierName, int]:
        """How many calls each tier made."""
        return {tier: self.by_tier.get(tier, Spent()).calls for tier in TIERS}

    @property
    def is_free(self) -> bool:
        """Whether there were calls, and none of them cost anything."""
        return bool(self.calls) and not self.spent and not self.unpriced

    def cards(self) -> list[tuple[str, str]]:
        """Return the totals as (what, value)."""
        return [
            ("spent", at_least(self.spent, self.unpriced)),
            *([("average", self._average())] if self.calls else []),
            ("saved by the cache", at_least(self.saved, self.unsaved, "answer")),
            ("saved against all power", self._against_power()),
            ("calls", f"{self.calls:,}"),
            ("cache hits", f"{self.hits:,}"),
            *((f"budget left {span}", _remainder(rest)) for span, rest in self.left.items()),
        ]

    def _average(self) -> str:
        priced = self.calls - self.unpriced
        if priced <= 0:
            return "price unknown"
        average = self.spent / priced
        if 0 < average < Decimal("0.01"):
            return f"{dollars(average * 1000)} per 1,000 calls"
        return f"{dollars(average)} a call"

    def _against_power(self) -> str:
        if self.against_power is None or self.at_power is None:
            return "price unknown"
        words = at_least(self.against_power, self.not_compared, "request")
        share = None if self.not_compared else baseline.share(self.against_power, self.at_power)
        return words if share is None else f"{words} ({str(share).replace('-', '−')} %)"

    def tables(self) -> list[Table]:
        """Return what tiers, models and notebooks cost, a table each; none of no calls."""
        groups: dict[str, Mapping[str, Spent]] = {
            "tier": {tier: self.by_tier.get(tier, Spent()) for tier in TIERS},
            "model": self.models,
            "notebook": self.notebooks or {},
        }
        return [_table(name, group) for name, group in groups.items() if group] if self.calls else []


def _table(of: str, groups: Mapping[str, Spent]) -> Table:
    unit = unit_of([spent.cost for spent in groups.values()])
    unpriced = any(spent.unpriced for spent in groups.values())
    rows: list[tuple[str, ...]] = [
        (name, unit.sum(one.cost, one.unpriced), f"{one.calls:,}", *([f"{one.unpriced:,}"] if unpriced else []))
        for name, one in groups.items()
    ]
    head = (of, "cost", "calls", *(["unpriced"] if unpriced else []))
    return Table(f"by {of}", head, rows, frozenset((of,)))


def _remainder(rest: Decimal | None) -> str:
    return "not known" if rest is None else dollars(rest)


class Sums:
    """The sums of a part of the log, carried forward: only those of the last minutes are read again."""

    def __init__(self, store: RequestLog, log_filter: LogFilter) -> None:
        self._store = store
        self._log_filter = log_filter
        overview = store.overview(1)
        since = int(log_filter.since.timestamp() * 1e6) if log_filter.since else overview.first
        self._bucket = max((overview.last - since) // _POINTS, 1_000_000)
        # Other kernels may still be writing rows with a time of a moment ago; whole hours are read at once.
        now = dt.datetime.now(dt.UTC) - dt.timedelta(minutes=2)
        self._until = now.replace(minute=0, second=0, microsecond=0)
        self._past: tuple[tuple[int, ...], list[Totals]] | None = None  # with the steps of its bands
        self._notebooks: list[Totals] | None = None

    def by_notebook(self) -> dict[str, Spent]:
        """Return what the calls of each notebook came to, the most expensive first. Raises StoreError."""
        if self._notebooks is None:
            until = min(self._until, self._log_filter.until or self._until)
            self._notebooks = self._store.totals(replace(self._log_filter, until=until), by="notebook")
        since = max(self._until, self._log_filter.since or self._until)
        recent = self._store.totals(replace(self._log_filter, since=since), by="notebook")
        return _groups([*self._notebooks, *recent], lambda row: row.group or NO_NOTEBOOK)

    def totals(self, steps: tuple[int, ...]) -> list[Totals]:
        """Return the sums as they are now, input tokens in bands. Raises StoreError."""
        if self._past is None or self._past[0] != steps:
            until = min(self._until, self._log_filter.until or self._until)
            self._past = steps, self._store.totals(replace(self._log_filter, until=until), self._bucket, steps)
        since = max(self._until, self._log_filter.since or self._until)
        return self._past[1] + self._store.totals(replace(self._log_filter, since=since), self._bucket, steps)


def _groups(rows: list[Totals], key: Callable[[Totals], str]) -> dict[str, Spent]:
    """Return what the calls of each group came to, the most expensive first."""
    groups: dict[str, Spent] = defaultdict(Spent)
    for row in rows:
        if row.status != "cached":
            one = groups[key(row)]
            cost = one.cost + from_pico(row.cost_pico)
            groups[key(row)] = Spent(one.calls + row.sent, cost, one.unpriced + row.unpriced)
    return dict(sorted(groups.items(), key=lambda item: (-item[1].cost, item[0])))


def with_notebooks(figures: Figures, sums: Sums) -> Figures:
    """Return figures with the cost of each notebook, unless too many rows would have to be read. Raises StoreError."""
    return replace(figures, notebooks=sums.by_notebook()) if 0 < figures.rows <= _MOST_ROWS else figures


def gather(router: Router, sums: Sums, title: str) -> Figures:
    """Return the figures of a part of the log. Raises StoreError."""
    power = baseline.model_of(router.config, "power")
    steps = router.pricing.thresholds(power)
    rows = sums.totals(steps)
    calls = [row for row in rows if row.status != "cached"]
    moments: dict[int, int] = defaultdict(int)
    counted: dict[int, int] = defaultdict(int)
    for row in calls:
        moments[row.start] += row.cost_pico
        counted[row.start] += row.sent
    spent, totals = 0, []
    for moment in sorted(moments):
        spent += moments[moment]
        totals.append(from_pico(spent))
    comparable = [row for row in rows if row.priced]
    at_power = baseline.cost_at(router.pricing, power, comparable, steps)
    own = from_pico(sum(row.cost_pico for row in comparable))
    return Figures(
        title=title,
        spent=from_pico(spent),
        unpriced=sum(row.unpriced for row in calls),
        saved=from_pico(sum(row.saved_pico for row in rows)),
        unsaved=sum(row.unsaved for row in rows),
        against_power=None if at_power is None else at_power - own,
        at_power=at_power,
        not_compared=sum(row.rows for row in rows if row.final and not row.priced),
        calls=sum(row.sent for row in calls),
        hits=sum(row.rows for row in rows if row.status == "cached"),
        rows=sum(row.rows for row in rows),
        by_tier=_groups(calls, lambda row: row.tier),
        models=_groups(calls, lambda row: f"{row.provider}/{row.model}"),
        times=[dt.datetime.fromtimestamp(moment / 1e6, dt.UTC) for moment in sorted(moments)],
        totals=totals,
        counts=list(itertools.accumulate(counted[moment] for moment in sorted(moments))),
        left=router.guard().left(),
    )


# What a saved notebook shows: no reliance on a widget, a script, a style or trust. The first rule hides the line "model
# not found" that JupyterLab leaves of the controls below when a notebook is opened without its kernel; the second turns
# the charts to light on dark where JupyterLab's or VS Code's theme is dark, each colour to a lighter one of its hue.
_STYLE = (
    "<style>.jp-OutputArea:has(.ipyrouter-figures) .jp-OutputArea-output:not(:has(*)){display:none}"
    "body[data-jp-theme-light=false] .ipyrouter-charts img,body.vscode-dark .ipyrouter-charts img"
    "{filter:invert(.92) hue-rotate(180deg)}</style>"
)
_CHARTS = "display:block; width:48em; max-width:100%; height:auto; background-color:#fff; border-radius:0.3em"
_BESIDE = "display:inline-block; vertical-align:top; max-width:100%; margin:0.6em 2em 0.4em 0"


def as_html(figures: Figures, png: bytes) -> str:
    """Return the figures as HTML: totals, charts, and the charts' numbers in their description and as tables.

    ``png`` is empty while the charts are still being drawn.
    """
    cards = " ".join(
        f'<span style="display:inline-block; padding:0.2em 1.6em 0.2em 0">'
        f'<span style="font-size:0.85em; opacity:0.8">{inert(what)}</span><br>'
        f'<strong style="font-size:1.25em; font-variant-numeric:tabular-nums">{inert(value)}</strong></span>'
        for what, value in figures.cards()
    )
    below = "" if not figures.calls else "<div>drawing …</div>"
    if png:
        source = f"data:image/png;base64,{base64.b64encode(png).decode()}"
        words = inert(description(figures))
        below = f'<div class="ipyrouter-charts"><img src="{source}" alt="{words}" style="{_CHARTS}"></div>'
    tables = "".join(f'<div style="{_BESIDE}">{notebook_table(table)}</div>' for table in figures.tables())
    return (
        f'{_STYLE}<div class="ipyrouter-figures {MATHS_OFF}" style="background:transparent">'
        f"<div><strong>ipyrouter</strong> · {inert(figures.title)}</div>"
        f"<div>{cards}</div>"
        f"{''.join(f'<p>{inert(line)}</p>' for line in _remarks(figures))}{below}"
        f"<div>{tables}</div></div>"
    )


def as_text(figures: Figures) -> str:
    """Return the figures as plain text."""
    lines = [f"ipyrouter · {plain(figures.title)}"]
    lines += [f"  {what}: {value}" for what, value in figures.cards()]
    lines += [f"  {line}" for line in _remarks(figures)]
    tiers = {tier: figures.by_tier.get(tier, Spent()) for tier in TIERS}
    lines += [
        f"  {tier}: {at_least(one.cost, one.unpriced)} in {count(one.calls, 'call')}" for tier, one in tiers.items()
    ]
    return "\n".join([*lines, *map(text, figures.tables()[1:])])


def _remarks(figures: Figures) -> list[str]:
    """Return in words what figures of nothing would leave a reader to guess."""
    if not figures.rows:
        return ["No call here yet: run a %%route cell, and its cost appears at once."]
    if figures.is_free:
        return ["Nothing was spent: the models were free. The charts show calls."]
    if not figures.calls:
        return ["Nothing was sent: every answer came from the cache."]
    return []


def description(figures: Figures) -> str:
    """Return what the charts show, in words."""
    if figures.is_free:
        tiers = ", ".join(f"{tier} {figures.tier_calls[tier]:,}" for tier in TIERS)
        return f"Calls per tier: {tiers}. Calls over time: {figures.calls:,} in all."
    tiers = ", ".join(f"{tier} {dollars(figures.tiers[tier])}" for tier in TIERS)
    return f"Cost per tier: {tiers}. Spent over time: {dollars(figures.spent)} in all."
