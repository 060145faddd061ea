"""The newest rows of the log as a table in a notebook."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from ipyrouter.notebook import logrows
from ipyrouter.store.base import LogFilter

if TYPE_CHECKING:
    from ipyrouter.store.base import RequestLog


class Readable(pd.DataFrame):
    """A table whose texts mean themselves: a $ in a prompt is no maths."""

    def _repr_html_(self) -> Any:
        with pd.option_context("display.html.use_mathjax", False):
            return super()._repr_html_()  # type: ignore[misc]  # pandas-stubs know only what is public


def newest(store: RequestLog, wanted: LogFilter, rows: int) -> pd.DataFrame:
    """Return rows of the log, newest first, as texts: what was asked when, of which model, and what it cost.

    Raises StoreError.
    """
    return Readable([logrows.words(row) for row in store.page(wanted, rows)], columns=list(logrows.COLUMNS))
