"""Rows of the log in the words that a user reads, without pandas: the panel shows them before that is imported."""

from __future__ import annotations

from ipyrouter.store.base import LogRow
from ipyrouter.text.amounts import dollars, from_pico, seconds
from ipyrouter.text.sanitise import inert, plain

COLUMNS = ("at (UTC)", "tier", "model", "status", "cost", "saved", "tokens", "took", "prompt")
_PROMPT = 40  # characters
_TABLE = (
    'class="ipyrouter-log mathjax_ignore tex2jax_ignore"'  # a $ in a prompt is not maths
    ' style="border-collapse:collapse; font-size:0.9em; line-height:1.6; white-space:nowrap"'
)
_CELL = (
    "text-align:left; vertical-align:top; padding:0.15em 0.8em 0.15em 0;"
    " border:0; border-bottom:1px solid var(--jp-border-color2, rgba(128,128,128,0.4))"
)


def words(row: LogRow) -> tuple[str, ...]:
    """Return a row as a word for each column; whatever came from outside is one line without control characters."""
    prompt = " ".join(plain(row.prompt or "").split())
    return (
        f"{row.time:%m-%d %H:%M:%S}",
        plain(row.tier),
        plain(f"{row.provider}/{row.model}"),
        plain(row.status),
        ("about " if row.estimated and row.cost_pico else "")
        + dollars(None if row.cost_pico is None else from_pico(row.cost_pico)),
        "" if row.saved_pico is None else dollars(from_pico(row.saved_pico)),
        f"{row.input_tokens + row.output_tokens:,}",
        seconds(row.latency),
        prompt if len(prompt) <= _PROMPT else f"{prompt[: _PROMPT - 1]}…",
    )


def html(rows: list[LogRow]) -> str:
    """Return rows as an HTML table of our own; every cell is text.

    The rules of a table of pandas that is shown elsewhere would move the headers away from their columns; what stands
    at each cell outlasts them.
    """
    head = "".join(f'<th scope="col" style="{_CELL}">{name}</th>' for name in COLUMNS)
    cells = ("".join(f'<td style="{_CELL}">{inert(word)}</td>' for word in words(row)) for row in rows)
    body = "".join(f"<tr>{row}</tr>" for row in cells)
    return f"<table {_TABLE}><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
