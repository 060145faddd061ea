"""`%router panel`: figures that stay true while cells run, and below them the log to browse and export.

The figures are an output of their own, updated in place, so that a saved notebook keeps them. The controls are
widgets, which live only as long as the kernel.
"""

from __future__ import annotations

import datetime as dt
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets

from ipyrouter.errors import IPyRouterError
from ipyrouter.notebook.commands import export
from ipyrouter.notebook.panel import details, log_rows
from ipyrouter.notebook.panel.figures import NO_NOTEBOOK, Figures, Sums, as_html, as_text, gather, with_notebooks
from ipyrouter.routing.planner import today
from ipyrouter.store.base import NEWEST, LogFilter, LogRow, Order, Overview, RowKey
from ipyrouter.text.amounts import count, dollars
from ipyrouter.text.sanitise import inert
from ipyrouter.text.tables import line, scrollable
from ipyrouter.types import STATUSES, TIERS

if TYPE_CHECKING:
    from ipyrouter.router import Router
    from ipyrouter.types import Answer

_INTERVAL = 0.5  # seconds between two redraws
_PAGE = 20  # rows
_DAYS = 31  # days that the filter offers
_ALL, _SESSION, _TODAY = "all", "this session", "today"
_SPANS = {_TODAY: 1, "last 7 days": 7, "last 30 days": 30}  # in days, this one included (UTC)
_FALLBACK = "The log to browse and export is here while the kernel runs: run this cell again."
_NO_ROW = ("none", "")


_FACETS = ("tier", "model", "status", "notebook", "user", "tag")
"""The columns that rows are filtered by, as LogFilter calls them; what there is to choose from: see _choices()."""
_ORDERS = {"newest first": NEWEST, "oldest first": Order("time", descending=False)} | {
    f"{name}, {direction}": Order(column, direction == "descending")
    for name, column in log_rows.SORTED_BY.items()
    if column != "time"
    for direction in ("descending", "ascending")
}


class Panel:
    """A panel of a router, with filters, order, page and figures of its own."""

    def __init__(self, router: Router) -> None:
        self.router = router
        self._handle: Any = None
        self._page = 0
        self._after: list[RowKey | None] = [None]  # by page: the last row of the one before, the newest first
        self._rows = 0  # of the log, as filtered
        self._notebooks: set[str] = set()
        self._last_draw = -_INTERVAL
        self._dirty = False
        self._is_offering = False  # what there is to choose changes, and with it for a moment what is chosen
        self._has_views = False  # a front end has reported that it shows the controls
        self._lock = threading.Lock()
        self._when = _dropdown("when", [_ALL, *_SPANS, _SESSION])
        self._facets = {name: _dropdown(name, [_ALL]) for name in _FACETS}
        self._text = widgets.Text(
            description="text", placeholder="in prompt or answer", continuous_update=False,
            layout=widgets.Layout(width="16em"), style={"description_width": "auto"},
        )  # fmt: skip
        self._sort = _dropdown("sort", list(_ORDERS))
        self._newer = widgets.Button(description="newer", disabled=True)
        self._older = widgets.Button(description="older", disabled=True)
        self._place = widgets.HTML(layout=widgets.Layout(margin="0 1em"))
        self._table = widgets.HTML()
        self._row = _dropdown("look at", [_NO_ROW])
        self._row.layout.max_width = "min(32em, 96%)"
        self._request = widgets.HTML()
        self._kind = _dropdown("file", ["csv", "json", "parquet"])
        self._export = widgets.Button(description="Export", tooltip="write these rows to a file in the working folder")
        self._message = widgets.HTML()
        row = widgets.Layout(flex_flow="row wrap", align_items="center")
        filters = [self._when, *self._facets.values(), self._text]
        self.controls = widgets.VBox(
            [
                widgets.HBox([*filters, self._sort], layout=row),
                self._table,
                widgets.HBox([self._newer, self._older, self._place, self._row], layout=row),
                self._request,
                widgets.HBox([self._kind, self._export], layout=row),
                self._message,
            ],
            _view_count=0,
        )
        for control in filters:
            control.observe(self._on_filter, "value")
        self._sort.observe(self._on_sort, "value")
        self._row.observe(self._on_row, "value")
        self.controls.observe(self._on_view, "_view_count")
        self._newer.on_click(lambda _: self._turn(-1))
        self._older.on_click(lambda _: self._turn(1))
        self._export.on_click(lambda _: self._write())
        self._sums = Sums(router.store, self._log_filter())

    # --- what the magic calls ---

    def show(self) -> None:
        """Show figures and controls below the cell that runs: the totals at once, charts and table as they come."""
        from IPython.display import display

        if self._on_answer not in self.router.listeners:  # a fault may have ended it
            self.router.listeners.append(self._on_answer)
        self._sums = Sums(self.router.store, self._log_filter())
        figures = self._figures()
        self._handle = display(_bundle(figures, b""), raw=True, display_id=True)  # type: ignore[no-untyped-call]
        controls = self.controls._repr_mimebundle_()
        display({**controls, "text/plain": _FALLBACK}, raw=True)  # type: ignore[no-untyped-call]
        self._draw(figures)

    def flush(self) -> None:
        """Show what came since the last redraw: the cell is over. A fault is shown below the controls."""
        if not self._dirty:
            return
        try:
            self._redraw()
        except Exception as error:  # noqa: BLE001  IPython would print it with all of the cell and its answer
            self._say(str(error) if isinstance(error, IPyRouterError) else f"{type(error).__name__}: {error}")

    def close(self) -> None:
        """Take the controls away and stop listening; the figures stay as they are."""
        if self._on_answer in self.router.listeners:
            self.router.listeners.remove(self._on_answer)
        for control in (*self._widgets(self.controls), self.controls):
            control.close()

    def _widgets(self, box: Any) -> Iterator[Any]:
        for child in box.children:
            yield from self._widgets(child) if isinstance(child, widgets.Box) else ()
            yield child

    # --- live ---

    def _on_answer(self, _: Answer) -> None:
        self._dirty = True
        if time.monotonic() - self._last_draw >= _INTERVAL:
            self._redraw()

    def _on_view(self, change: dict[str, Any]) -> None:
        self._has_views = True
        if change["new"] and self._dirty:
            self._redraw()

    def _redraw(self) -> None:
        """Redraw figures and table, unless no view is open or another thread is redrawing."""
        if self._has_views and not self.controls._view_count:
            return
        if not self._lock.acquire(blocking=False):
            return
        try:
            self._dirty = False
            self._draw(self._figures())
        finally:
            self._lock.release()

    def _figures(self) -> Figures:
        figures = gather(self.router, self._sums, self._title())
        self._rows = figures.rows
        return figures

    def _draw(self, figures: Figures) -> None:
        """Show figures with their charts and notebooks, and the table."""
        figures = with_notebooks(figures, self._sums)
        self._notebooks.update(name for name in figures.notebooks or () if name != NO_NOTEBOOK)
        self._fill()
        if self._handle is not None:
            self._handle.update(_bundle(figures, _charts(figures) if figures.calls else b""), raw=True)
        self._last_draw = time.monotonic()

    def _fill(self) -> None:
        """Fill the table with the current page, and the filters with what there is to choose."""
        store = self.router.store
        pages = max(1, -(-self._rows // _PAGE))
        self._page = min(self._page, pages - 1)
        order = _ORDERS[self._sort.value]
        if order == NEWEST:
            # From the row where the page before, as it was last shown, has ended, however many rows came since.
            rows = store.page(self._log_filter(), _PAGE, before=self._after[self._page])
            self._after[self._page + 1 :] = [rows[-1].key if rows else self._after[self._page]]
        else:
            rows = store.page(self._log_filter(), _PAGE, skip=self._page * _PAGE, order=order)
        log = scrollable("log", log_rows.html(rows, order))
        self._table.value = log if rows else "<p>The log has no such row yet.</p>"
        self._place.value = f"page {self._page + 1:,} of {pages:,} · {count(self._rows, 'row')}"
        self._newer.disabled, self._older.disabled = self._page == 0, self._page >= pages - 1
        self._is_offering = True
        try:
            self._offer_all(rows)
        finally:
            self._is_offering = False

    def _offer_all(self, rows: list[LogRow]) -> None:
        _offer(self._row, list(dict.fromkeys([_NO_ROW, *map(_row_name, rows)])))
        overview = self.router.store.overview(_DAYS)
        _offer(self._when, [_ALL, *_SPANS, _SESSION, *overview.days])
        for name, choices in self._choices(overview).items():
            _offer(self._facets[name], [_ALL, *choices])
            self._facets[name].layout.display = None if choices else "none"

    def _choices(self, overview: Overview) -> dict[str, list[str]]:
        """Return what each facet offers; one that offers nothing is not shown: a file of one's own has no users."""
        return {
            "tier": list(TIERS),
            "model": list(overview.models),
            "status": list(STATUSES),
            "notebook": sorted(self._notebooks),
            "user": list(overview.users),
            "tag": list(overview.tags),
        }

    # --- controls ---

    def _on_filter(self, _: Any) -> None:
        if self._is_offering:
            return
        self._page, self._after = 0, [None]
        self._sums = Sums(self.router.store, self._log_filter())
        self._redraw()

    def _on_sort(self, _: Any) -> None:
        self._page, self._after = 0, [None]
        self._fill()

    def _on_row(self, change: dict[str, Any]) -> None:
        if self._is_offering:
            return
        request = self.router.store.request(change["new"]) if change["new"] else None
        self._request.value = "" if request is None else details.as_html(request)

    def _turn(self, pages: int) -> None:
        self._page += pages
        self._fill()

    def _write(self) -> None:
        log_filter = self._log_filter()
        path = Path(f"ipyrouter-log-{dt.datetime.now(dt.UTC):%Y%m%d-%H%M%S}.{self._kind.value}")
        try:
            from ipyrouter.reporting.log import frames  # pandas

            rows = export(frames(self.router.store, log_filter), path)
            message = f"Wrote {count(rows, 'row')} to {path.absolute()}"
        except IPyRouterError as error:
            message = str(error)
        self._say(message)

    def _say(self, words: str) -> None:
        self._message.value = f'<span role="status">{inert(words)}</span>'

    def _log_filter(self) -> LogFilter:
        since, until = self._span()
        return LogFilter(
            since,
            until,
            session=self.router.session.id if self._when.value == _SESSION else None,
            text=self._text.value.strip() or None,
            **{name: _choice(dropdown) for name, dropdown in self._facets.items()},
        )

    def _span(self) -> tuple[dt.datetime | None, dt.datetime | None]:
        when = self._when.value
        if when in (_ALL, _SESSION):
            return None, None
        if when in _SPANS:
            midnight = dt.datetime.combine(today(), dt.time(), dt.UTC)
            return midnight - dt.timedelta(days=_SPANS[when] - 1), None
        day = dt.datetime.fromisoformat(when).replace(tzinfo=dt.UTC)
        return day, day + dt.timedelta(days=1)

    def _title(self) -> str:
        parts = [self._when.value if self._when.value != _ALL else "all of the log"]
        parts += [value for value in map(_choice, self._facets.values()) if value]
        return " · ".join([*parts, *([f"“{text}”"] if (text := self._text.value.strip()) else [])])


def _row_name(row: LogRow) -> tuple[str, str]:
    """Return what a row's request is called in the list of those to look at, and its id."""
    return f"{row.time:%m-%d %H:%M:%S} · {line(row.prompt or row.model, 50)}", row.key.answer_id


def _charts(figures: Figures) -> bytes:
    from ipyrouter.notebook.panel import charts  # matplotlib

    if figures.is_free:
        calls = {tier: float(number) for tier, number in figures.tier_calls.items()}
        words = "{:,.6g}".format
        return charts.draw(
            charts.Series("calls per tier", "calls over time (UTC)", calls, figures.times, figures.counts, words)
        )
    tiers = {tier: float(amount) for tier, amount in figures.tiers.items()}
    totals = [float(total) for total in figures.totals]
    return charts.draw(charts.Series("cost per tier", "spent over time (UTC)", tiers, figures.times, totals, dollars))


def _bundle(figures: Figures, png: bytes) -> dict[str, str]:
    return {"text/html": as_html(figures, png), "text/plain": as_text(figures)}


def _dropdown(name: str, options: list[Any]) -> Any:
    return widgets.Dropdown(
        options=options,
        value=_value(options[0]),
        description=name,
        layout=widgets.Layout(width="auto"),
        style={"description_width": "auto"},
    )


def _offer(dropdown: Any, options: list[Any]) -> None:
    """Change what can be chosen, keeping what is chosen; an option is a value, or a name and a value."""
    chosen = next((one for one in dropdown.options if _value(one) == dropdown.value), dropdown.value)
    if dropdown.value not in map(_value, options):
        options.append(chosen)
    if list(dropdown.options) != options:
        value = dropdown.value
        dropdown.options = options  # which chooses the first of them
        dropdown.value = value


def _value(option: Any) -> Any:
    return option[1] if isinstance(option, tuple) else option


def _choice(dropdown: Any) -> str | None:
    return None if dropdown.value == _ALL else str(dropdown.value)
