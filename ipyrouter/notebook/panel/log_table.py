"""The newest rows of the log as a user reads them."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import pandas as pd

from ipyrouter.notebook.panel import log_rows
from ipyrouter.store.base import LogFilter

if TYPE_CHECKING:
    from ipyrouter.store.base import RequestLog

_DISPENSABLE = ("saved", "took", "tokens")  # in a narrow terminal, in this order
_SHORTEN = {"prompt": 8, "model": 12}  # to no fewer characters


class Readable(pd.DataFrame):
    """A table whose strings are shown literally: a $ in a prompt is not maths. In a terminal it takes its width."""

    def __repr__(self) -> str:
        """Leave out what matters least, and name it: pandas would leave out what stands in the middle."""
        if self.empty:
            return super().__repr__()
        width = shutil.get_terminal_size().columns
        table, absent = pd.DataFrame(self), []
        for name in _DISPENSABLE:
            if name in table and _width(table) > width:
                table = table.drop(columns=name)
                absent.append(name)
        for name, least in _SHORTEN.items():
            if name in table and (over := _width(table) - width) > 0:
                most = max(least, int(table[name].str.len().max()) - over)
                table[name] = table[name].map(
                    lambda text, most=most: text if len(text) <= most else f"{text[: most - 1]}…"
                )
        more = [f"Not shown: {', '.join(absent)}. All of the log: ipyrouter.cost_log()"] if absent else []
        return "\n".join([table.to_string(index=False), *more])

    def _repr_html_(self) -> Any:
        with pd.option_context("display.html.use_mathjax", False):
            return super()._repr_html_()  # type: ignore[misc]  # pandas-stubs know only what is public


def newest(store: RequestLog, log_filter: LogFilter, rows: int) -> pd.DataFrame:
    """Return rows of the log, newest first, as strings: the time, prompt, model and cost of each call.

    Raises StoreError.
    """
    return Readable([log_rows.words(row) for row in store.page(log_filter, rows)], columns=list(log_rows.COLUMNS))


def _width(frame: pd.DataFrame) -> int:
    return max(map(len, frame.to_string(index=False).split("\n")))
