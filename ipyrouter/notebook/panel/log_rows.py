"""Rows of the log in the words that a user reads, without pandas: the panel shows them before that is imported."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from ipyrouter.store.base import LogRow, Order, OrderColumn
from ipyrouter.text.amounts import Unit, from_pico, seconds, unit_of
from ipyrouter.text.sanitise import plain
from ipyrouter.text.tables import Table, notebook_table

COLUMNS = ("cost", "status", "at (UTC)", "tier", "model", "tokens", "took", "saved", "prompt")
WORDS = frozenset(("status", "at (UTC)", "tier", "model", "prompt"))
"""The columns that hold no numbers."""
SORTED_BY: dict[str, OrderColumn] = {
    "cost": "cost", "status": "status", "at (UTC)": "time", "tier": "tier", "model": "model", "tokens": "tokens",
    "took": "latency", "saved": "saved",
}  # fmt: skip
"""What the store calls each column that rows can be sorted by."""
_PROMPT = 40  # characters


def table(rows: Sequence[LogRow]) -> Table:
    """Return rows as a table; all its amounts have one unit, which stands in the heads."""
    unit = unit_of(
        (amount for row in rows for amount in (_dollars(row.cost_pico), _dollars(row.saved_pico))), per_call=True
    )
    head = tuple(unit.head(name) if name in ("cost", "saved") else name for name in COLUMNS)
    return Table("log", head, [_words(row, unit) for row in rows], WORDS)


def html(rows: Sequence[LogRow], order: Order) -> str:
    """Return rows as an HTML table that marks the column by which they are sorted; every cell is text."""
    sorted_by = next(place for place, name in enumerate(COLUMNS) if SORTED_BY.get(name) == order.column)
    return notebook_table(table(rows), "ipyrouter-log", sorted_by, descending=order.descending)


def _words(row: LogRow, unit: Unit) -> tuple[str, ...]:
    """Return a row as a word for each column; whatever came from outside is one line without control characters."""
    prompt = " ".join(plain(row.prompt or "").split())
    return (
        ("about " if row.estimated and row.cost_pico else "") + unit.words(_dollars(row.cost_pico)),
        plain(row.status),
        f"{row.time:%m-%d %H:%M:%S}",
        plain(row.tier),
        plain(f"{row.provider}/{row.model}"),
        f"{row.input_tokens + row.output_tokens:,}",
        seconds(row.latency),
        "" if row.saved_pico is None else unit.words(_dollars(row.saved_pico)),
        prompt if len(prompt) <= _PROMPT else f"{prompt[: _PROMPT - 1]}…",
    )


def _dollars(pico: int | None) -> Decimal | None:
    return None if pico is None else from_pico(pico)
