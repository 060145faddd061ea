"""The newest rows of the log as a user reads them."""

from __future__ import annotations

import datetime as dt
import shutil
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pandas as pd

from ipyrouter.store.base import NEWEST_COLUMNS, LogFilter
from ipyrouter.text.amounts import dollars, from_pico, seconds
from ipyrouter.text.sanitise import inert, plain

if TYPE_CHECKING:
    from ipyrouter.store.base import Store

_COLUMNS = ("at (UTC)", "tier", "model", "status", "cost", "saved", "tokens", "took", "prompt")
_PROMPT = 40  # characters
_TABLE = (
    'class="ipyrouter-log mathjax_ignore tex2jax_ignore"'  # a $ in a prompt is no maths
    ' style="border-collapse:collapse; font-size:0.9em; line-height:1.6; white-space:nowrap"'
)
_CELL = (
    "text-align:left; vertical-align:top; padding:0.15em 0.8em 0.15em 0;"
    " border:0; border-bottom:1px solid var(--jp-border-color2, rgba(128,128,128,0.4))"
)
_DISPENSABLE = ("saved", "took", "tokens")  # in a narrow terminal, in this order
_CUT = {"prompt": 8, "model": 12}  # to no fewer characters


class Readable(pd.DataFrame):
    """A table whose texts mean themselves: a $ in a prompt is no maths. In a terminal it is as wide as that."""

    def __repr__(self) -> str:
        """Leave out what matters least, and name it: pandas would leave out what stands in the middle."""
        if self.empty:
            return super().__repr__()
        width = shutil.get_terminal_size().columns
        shown, absent = pd.DataFrame(self), []
        for name in _DISPENSABLE:
            if name in shown and _width(shown) > width:
                shown = shown.drop(columns=name)
                absent.append(name)
        for name, least in _CUT.items():
            if name in shown and (over := _width(shown) - width) > 0:
                most = max(least, int(shown[name].str.len().max()) - over)
                shown[name] = shown[name].map(
                    lambda text, most=most: text if len(text) <= most else f"{text[: most - 1]}…"
                )
        more = [f"Not shown: {', '.join(absent)}. All of the log: ipyrouter.cost_log()"] if absent else []
        return "\n".join([shown.to_string(index=False), *more])

    def _repr_html_(self) -> Any:
        with pd.option_context("display.html.use_mathjax", False):
            return super()._repr_html_()  # type: ignore[misc]  # pandas-stubs know only what is public


def newest(store: Store, wanted: LogFilter, rows: int, skip: int = 0) -> pd.DataFrame:
    """Return rows of the log, newest first, as texts: what was asked when, of which model, and what it cost.

    Raises StoreError.
    """
    found = (dict(zip(NEWEST_COLUMNS, row, strict=True)) for row in store.newest(wanted, rows, skip))
    return Readable([_readable(row) for row in found], columns=list(_COLUMNS))


def html(frame: pd.DataFrame) -> str:
    """Return the rows as an HTML table of our own.

    pandas' class and its own style would let the rules of a table that is shown elsewhere move the headers away from
    their columns; what stands at each cell outlasts them.
    """
    head = "".join(f'<th scope="col" style="{_CELL}">{inert(str(name))}</th>' for name in frame)
    rows = ("".join(f'<td style="{_CELL}">{inert(text)}</td>' for text in row) for row in frame.itertuples(index=False))
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    return f"<table {_TABLE}><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _readable(row: dict[str, Any]) -> dict[str, Any]:
    moment = dt.datetime.fromtimestamp(row["time"] / 1e6, dt.UTC)
    prompt = " ".join(plain(row["prompt"] or "").split())
    values = (
        f"{moment:%m-%d %H:%M:%S}",
        row["tier"],
        plain(f"{row['provider']}/{row['model']}"),
        row["status"],
        ("about " if row["estimated"] and row["cost_pico"] else "") + dollars(_amount(row["cost_pico"])),
        "" if row["saved_pico"] is None else dollars(_amount(row["saved_pico"])),
        f"{row['input_tokens'] + row['output_tokens']:,}",
        seconds(row["latency"]),
        prompt if len(prompt) <= _PROMPT else f"{prompt[: _PROMPT - 1]}…",
    )
    return dict(zip(_COLUMNS, values, strict=True))


def _width(frame: pd.DataFrame) -> int:
    return max(map(len, frame.to_string(index=False).split("\n")))


def _amount(pico: int | None) -> Decimal | None:
    return None if pico is None else from_pico(pico)
