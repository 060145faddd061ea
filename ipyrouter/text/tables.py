"""Tables of words as text, Markdown and HTML; the text of a cell is escaped for each of them."""

from __future__ import annotations

from dataclasses import dataclass

from ipyrouter.text import sanitise
from ipyrouter.text.sanitise import NO_MATHS


@dataclass(frozen=True, slots=True)
class Table:
    """A title, the columns' heads, and rows of as many cells."""

    title: str
    head: tuple[str, ...]
    rows: list[tuple[str, ...]]


def line(words: str, most: int | None = None) -> str:
    """Return words as one line without control characters, cut after ``most`` characters."""
    flat = " ".join(sanitise.plain(words).split())
    return flat if most is None or len(flat) <= most else flat[: most - 1] + "…"


def text(table: Table) -> str:
    """Return the table with aligned columns."""
    rows = [table.head, *(tuple(map(line, row)) for row in table.rows)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    aligned = ["  ".join(f"{word:<{width}}" for word, width in zip(row, widths, strict=True)) for row in rows]
    return "\n".join([f"  {table.title}:", *(f"    {row}".rstrip() for row in aligned)])


def markdown(table: Table) -> str:
    """Return the table as Markdown."""
    rows = [table.head, ("---",) * len(table.head)]
    body = [tuple(map(cell, row)) for row in table.rows]
    return "\n".join([f"{cell(table.title)}:", "", *(f"| {' | '.join(row)} |" for row in (*rows, *body))])


def html_table(table: Table) -> str:
    """Return the table as HTML."""
    head = "".join(f"<th>{sanitise.inert(name)}</th>" for name in table.head)
    body = "".join("<tr>" + "".join(f"<td>{sanitise.inert(word)}</td>" for word in row) + "</tr>" for row in table.rows)
    return f"<table {NO_MATHS}><caption>{sanitise.inert(table.title)}</caption><tr>{head}</tr>{body}</table>"


def cell(text: str) -> str:
    """Return text for a cell of a Markdown table: one line, every mark meaning itself."""
    return f"<span {sanitise.NO_MATHS}>{sanitise.inert(text)}</span>"
