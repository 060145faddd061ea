"""Tables as a user reads them: the newest rows of the log, and what other subcommands of `%router` return."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from ipyrouter.notebook.panel import log_rows
from ipyrouter.store.base import LogFilter
from ipyrouter.text import tables
from ipyrouter.text.sanitise import inert

if TYPE_CHECKING:
    from ipyrouter.store.base import RequestLog


class Readable(pd.DataFrame):
    """A table whose strings are shown literally: a $ in a prompt is not maths. In a terminal it takes its width.

    ``attrs["layout"]`` says how: see :func:`readable`.
    """

    def __repr__(self) -> str:
        """Leave out what matters least, and name it: pandas would leave out what stands in the middle."""
        if self.empty:
            return str(self.attrs["layout"]["empty"])
        width = shutil.get_terminal_size().columns
        layout = self.attrs["layout"]
        lines, absent = self._lines(), []
        for name in layout["dispensable"]:
            if name in self and max(map(len, lines)) > width:
                absent.append(name)
                lines = self._lines(absent)
        shorter: dict[str, int] = {}
        for name, least in layout["shorten"]:
            if name in self and (over := max(map(len, lines)) - width) > 0:
                longest = shorter.get(name, int(self[name].str.len().max()))
                shorter[name] = max(min(least, longest), longest - over)
                lines = self._lines(absent, shorter)
        more = [f"Not shown: {', '.join(absent)}. {layout['more']}".strip()] if absent else []
        return "\n".join([*(line.rstrip() for line in lines), *more])

    def _repr_html_(self) -> str:
        if self.empty:
            return f"<p>{inert(self.attrs['layout']['empty'])}</p>"
        return tables.notebook_table(self._table(), "ipyrouter-table")

    def _table(self, absent: list[str] | None = None, shorter: Mapping[str, int] | None = None) -> tables.Table:
        frame = pd.DataFrame(self).drop(columns=absent or [])
        if frame.index.names != [None]:
            frame = frame.reset_index()
        for name, most in (shorter or {}).items():
            frame[name] = [tables.line(word, most) for word in frame[name]]
        layout = self.attrs["layout"]
        heads = {name: layout["heads"].get(name, name) for name in map(str, frame.columns)}
        rows = list(zip(*(_strings(frame[name]) for name in frame), strict=True))
        words = frozenset(heads[name] for name in layout["words"] if name in heads)
        return tables.Table("", tuple(heads.values()), rows, words)

    def _lines(self, absent: list[str] | None = None, shorter: Mapping[str, int] | None = None) -> list[str]:
        table = self._table(absent, shorter)
        return tables.aligned([table.head, *(tuple(map(tables.line, row)) for row in table.rows)], table.numeric)


def _strings(column: pd.Series[Any]) -> list[str]:
    """Return a column's values as strings: numbers with the same decimals, "" for what is absent."""
    numbers = [value for value in column if isinstance(value, float) and value == value]  # noqa: PLR0124  NaN
    places = max((len(f"{value:g}".partition(".")[2]) for value in numbers), default=0)
    return [
        "" if pd.isna(value) else f"{value:,.{places}f}" if isinstance(value, float) else str(value) for value in column
    ]


def readable(
    frame: pd.DataFrame,
    words: frozenset[str],
    *,
    heads: Mapping[str, str] | None = None,
    dispensable: tuple[str, ...] = (),
    shorten: Sequence[tuple[str, int]] = (),
    more: str = "",
    empty: str = "Nothing to show.",
) -> Readable:
    """Return a table of strings as one that is shown as a user reads it.

    Args:
        frame: The table; an index that has a name is shown.
        words: The columns that hold no numbers, and so stand at the left.
        heads: What stands above a column instead of its name.
        dispensable: What a narrow terminal leaves out, in this order.
        shorten: The columns that it then shortens, in this order, each to no fewer characters; one may come again.
        more: Where a user finds what is left out.
        empty: What stands there if the table has no rows.
    """
    result = Readable(frame)
    result.attrs["layout"] = {
        "words": words, "heads": heads or {}, "dispensable": dispensable, "shorten": shorten, "more": more,
        "empty": empty,
    }  # fmt: skip
    return result


def newest(store: RequestLog, log_filter: LogFilter, rows: int) -> Readable:
    """Return rows of the log, newest first, as strings: cost, status, time, model and prompt of each call.

    Raises StoreError.
    """
    table = log_rows.table(store.page(log_filter, rows))
    return readable(
        pd.DataFrame(table.rows, columns=list(log_rows.COLUMNS)),
        log_rows.WORDS,
        heads=dict(zip(log_rows.COLUMNS, table.head, strict=True)),
        dispensable=("saved", "took", "tokens"),
        shorten=(("prompt", 20), ("model", 12), ("prompt", 6)),
        more="All of the log: ipyrouter.cost_log()",
        empty="No call is in the log yet: run a %%route cell.",
    )
