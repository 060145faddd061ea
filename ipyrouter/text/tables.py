"""Tables of words as text, Markdown and HTML; the text of a cell is escaped for each of them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from ipyrouter.text import sanitise
from ipyrouter.text.sanitise import NO_MATHS


@dataclass(frozen=True, slots=True)
class Table:
    """A title, the columns' heads, and rows of as many cells.

    Numbers stand at the right of their columns, ``words`` at the left: the heads of those.
    """

    title: str
    head: tuple[str, ...]
    rows: list[tuple[str, ...]]
    words: frozenset[str] = frozenset()

    @property
    def numeric(self) -> list[bool]:
        """Which of the columns hold numbers."""
        return [name not in self.words for name in self.head]


def line(words: str, most: int | None = None) -> str:
    """Return words as one line without control characters, cut after ``most`` characters."""
    flat = " ".join(sanitise.plain(words).split())
    return flat if most is None or len(flat) <= most else flat[: most - 1] + "…"


def text(table: Table) -> str:
    """Return the table with aligned columns."""
    rows = [table.head, *(tuple(map(line, row)) for row in table.rows)]
    return "\n".join([f"  {table.title}:", *(f"    {row}".rstrip() for row in aligned(rows, table.numeric))])


def aligned(rows: Sequence[Sequence[str]], numeric: Sequence[bool]) -> list[str]:
    """Return rows of words as lines, the columns that are ``numeric`` to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    sides = [">" if number else "<" for number in numeric]
    return [
        "  ".join(f"{word:{side}{width}}" for word, side, width in zip(row, sides, widths, strict=True)) for row in rows
    ]


def markdown(table: Table) -> str:
    """Return the table as Markdown."""
    rows = [tuple(map(sanitise.inert, table.head)), tuple("---:" if number else ":---" for number in table.numeric)]
    body = [tuple(map(table_cell, row)) for row in table.rows]
    return "\n".join([f"{cell(table.title)}:", "", *(f"| {' | '.join(row)} |" for row in (*rows, *body))])


def html_table(table: Table) -> str:
    """Return the table as HTML."""
    sides = [' align="right"' if number else "" for number in table.numeric]
    head = "".join(f"<th{side}>{sanitise.inert(name)}</th>" for name, side in zip(table.head, sides, strict=True))
    body = "".join(
        f"<tr>{''.join(f'<td{side}>{sanitise.inert(word)}</td>' for word, side in zip(row, sides, strict=True))}</tr>"
        for row in table.rows
    )
    return f"<table {NO_MATHS}><caption>{sanitise.inert(table.title)}</caption><tr>{head}</tr>{body}</table>"


_SHORT = 16  # characters: "11-30 09:15:00" and "$0.42 to $0.60"
_MATHS = re.compile(r"[$\\]")  # without these MathJax finds nothing
_BORDER = "1px solid var(--jp-border-color2, rgba(128,128,128,0.4))"
_CELL = "; white-space:nowrap; padding:0.15em 0.8em 0.15em 0; border:0"
_ROW = f'<tr style="border-bottom:{_BORDER}">'
_SIDES = {False: "text-align:left", True: "text-align:right"}
_TABLE = "border-collapse:collapse; font-variant-numeric:tabular-nums"


def notebook_table(table: Table, name: str = "", sorted_by: int | None = None, *, descending: bool = False) -> str:
    """Return the table as HTML for a notebook, without its title.

    The rules of a table of pandas that is shown elsewhere would move the heads away from their columns; what stands at
    each cell outlasts them.

    Args:
        table: The table.
        name: Its class; it is drawn densely then, a row a line: see scrollable(). Without one it looks as the front
            end draws tables, and long words break, so that it is never wider than its place.
        sorted_by: The place of the column by which the rows are sorted, which is marked.
        descending: In which direction.
    """
    broken = {False: "; overflow-wrap:anywhere; min-width:6em", True: ""}  # "at least $0.42" at its blanks, at most
    styles = [f'style="{_SIDES[number]}{_CELL if name else broken[number]}"' for number in table.numeric]
    marks = {sorted_by: ' aria-sort="descending"' if descending else ' aria-sort="ascending"'}
    arrows = {sorted_by: " ▼" if descending else " ▲"}
    head = "".join(
        f'<th scope="col"{marks.get(place, "")} {style}>{sanitise.inert(word)}{arrows.get(place, "")}</th>'
        for place, (word, style) in enumerate(zip(table.head, styles, strict=True))
    )
    rows = (
        "".join(f"<td {style}>{sanitise.inert(line(word))}</td>" for word, style in zip(row, styles, strict=True))
        for row in table.rows
    )
    begin = _ROW if name else "<tr>"
    body = "".join(f"{begin}{row}</tr>" for row in rows)
    return (
        f'<table class="{f"{name} {sanitise.MATHS_OFF}".strip()}"'
        f' style="{_TABLE}{"; font-size:0.9em; line-height:1.6" if name else ""}">'
        f"<thead>{begin}{head}</tr></thead><tbody>{body}</tbody></table>"
    )


def scrollable(label: str, inside: str) -> str:
    """Return HTML that scrolls sideways where it is too wide, with the keyboard, too: so the region takes the focus."""
    return f'<div role="region" aria-label="{label}" tabindex="0" style="overflow-x:auto">{inside}</div>'


def cell(text: str) -> str:
    """Return text for a line of Markdown: every mark means itself."""
    return f"<span {sanitise.NO_MATHS}>{sanitise.inert(text)}</span>"


def table_cell(text: str) -> str:
    """Return text for a cell of a Markdown table: every mark means itself; a time or an amount stays on one line."""
    words = sanitise.inert(text)
    if len(text) <= _SHORT:
        words = words.replace(" ", "&#160;")
    return f"<span {sanitise.NO_MATHS}>{words}</span>" if _MATHS.search(text) else words
