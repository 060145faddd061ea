"""The panel's figures, from the store's sums to what is shown of them."""

from __future__ import annotations

import base64
import datetime as dt
from collections import defaultdict
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import TYPE_CHECKING

from ipyrouter.reporting import baseline
from ipyrouter.store.base import LogFilter, Totals
from ipyrouter.text.amounts import at_least, count, dollars, from_pico
from ipyrouter.text.sanitise import MATHS_OFF, inert, plain
from ipyrouter.types import TIERS, TierName

if TYPE_CHECKING:
    from ipyrouter.router import Router
    from ipyrouter.store.base import RequestLog

_POINTS = 200  # of the chart, about


@dataclass(frozen=True)
class Figures:
    """What the panel shows of a part of the log; dollars, exact where summed.

    ``times`` and ``totals`` are what was spent up to each moment (UTC). ``unpriced`` counts the calls, ``unsaved`` the
    cached answers of unknown price. ``against_power`` is what the power tier's first model that is not retired would
    have cost more, for the requests whose own cost is known, None where that model's price is not known;
    ``not_compared`` counts the other requests. ``left`` is None where it is not known what a budget leaves.
    """

    title: str
    spent: Decimal
    unpriced: int
    saved: Decimal
    unsaved: int
    against_power: Decimal | None
    not_compared: int
    calls: int
    hits: int
    rows: int
    tiers: dict[TierName, Decimal]
    tier_calls: dict[TierName, int]
    times: list[dt.datetime]
    totals: list[Decimal]
    left: dict[str, Decimal | None]

    def cards(self) -> list[tuple[str, str]]:
        """Return the totals as (what, value)."""
        return [
            ("spent", at_least(self.spent, self.unpriced)),
            ("saved by the cache", at_least(self.saved, self.unsaved, "answer")),
            (
                "saved against all power",
                "price unknown"
                if self.against_power is None
                else at_least(self.against_power, self.not_compared, "request"),
            ),
            ("calls", f"{self.calls:,}"),
            ("cache hits", f"{self.hits:,}"),
            *((f"budget left {span}", _remainder(rest)) for span, rest in self.left.items()),
        ]


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

    def totals(self, steps: tuple[int, ...]) -> list[Totals]:
        """Return the sums as they are now, input tokens in bands. Raises StoreError."""
        if self._past is None or self._past[0] != steps:
            until = min(self._until, self._log_filter.until or self._until)
            self._past = steps, self._store.totals(replace(self._log_filter, until=until), self._bucket, steps)
        since = max(self._until, self._log_filter.since or self._until)
        return self._past[1] + self._store.totals(replace(self._log_filter, since=since), self._bucket, steps)


def gather(router: Router, sums: Sums, title: str) -> Figures:
    """Return the figures of a part of the log. Raises StoreError."""
    power = baseline.model_of(router.config, "power")
    steps = router.pricing.thresholds(power)
    rows = sums.totals(steps)
    calls = [row for row in rows if row.status != "cached"]
    tiers: dict[str, int] = defaultdict(int)
    tier_calls: dict[str, int] = defaultdict(int)
    moments: dict[int, int] = defaultdict(int)
    for row in calls:
        tiers[row.tier] += row.cost_pico
        tier_calls[row.tier] += row.sent
        moments[row.start] += row.cost_pico
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
        not_compared=sum(row.rows for row in rows if row.final and not row.priced),
        calls=sum(row.sent for row in calls),
        hits=sum(row.rows for row in rows if row.status == "cached"),
        rows=sum(row.rows for row in rows),
        tiers={tier: from_pico(tiers[tier]) for tier in TIERS},
        tier_calls={tier: tier_calls[tier] for tier in TIERS},
        times=[dt.datetime.fromtimestamp(moment / 1e6, dt.UTC) for moment in sorted(moments)],
        totals=totals,
        left=router.guard().left(),
    )


# What a saved notebook shows: no reliance on a widget, a script, a style or trust. The rule hides the line "model not
# found" that JupyterLab leaves of the controls below when a notebook is opened without its kernel.
_STYLE = "<style>.jp-OutputArea:has(.ipyrouter-figures) .jp-OutputArea-output:not(:has(*)){display:none}</style>"
_CHARTS = "display:block; width:48em; max-width:100%; height:auto; background-color:#fff; border-radius:0.3em"


def as_html(figures: Figures, png: bytes) -> str:
    """Return the figures as HTML: totals, charts, and the charts' numbers in their description and as a table.

    ``png`` is empty while the charts are still being drawn.
    """
    cards = " ".join(
        f'<span style="display:inline-block; padding:0.2em 1.6em 0.2em 0">'
        f'<span style="font-size:0.85em; opacity:0.75">{inert(what)}</span><br>'
        f'<strong style="font-size:1.25em">{inert(value)}</strong></span>'
        for what, value in figures.cards()
    )
    numbers = "".join(
        f'<tr><th scope="row">{tier}</th><td>{inert(dollars(figures.tiers[tier]))}</td>'
        f"<td>{figures.tier_calls[tier]:,}</td></tr>"
        for tier in TIERS
    )
    source = f"data:image/png;base64,{base64.b64encode(png).decode()}"
    charts = f'<img src="{source}" alt="{inert(_description(figures))}" style="{_CHARTS}">' if png else "drawing …"
    return (
        f'{_STYLE}<div class="ipyrouter-figures {MATHS_OFF}" style="background:transparent">'
        f"<div><strong>ipyrouter</strong> · {inert(figures.title)}</div>"
        f"<div>{cards}</div>"
        f"<div>{charts}</div>"
        f'<table><tr><th scope="col">tier</th><th scope="col">cost</th><th scope="col">calls</th></tr>{numbers}</table>'
        "</div>"
    )


def as_text(figures: Figures) -> str:
    """Return the figures as plain text."""
    lines = [f"ipyrouter · {plain(figures.title)}"]
    lines += [f"  {what}: {value}" for what, value in figures.cards()]
    lines += [
        f"  {tier}: {dollars(figures.tiers[tier])} in {count(figures.tier_calls[tier], 'call')}" for tier in TIERS
    ]
    return "\n".join(lines)


def _description(figures: Figures) -> str:
    tiers = ", ".join(f"{tier} {dollars(figures.tiers[tier])}" for tier in TIERS)
    return f"Cost per tier: {tiers}. Spent over time: {dollars(figures.spent)} in all."
