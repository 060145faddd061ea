"""Rows of the log in the words that a user reads, without pandas: the panel shows them before that is imported."""

from __future__ import annotations

from html import escape

from ipyrouter.money import dollars, from_pico, seconds
from ipyrouter.notebook.sanitise import plain
from ipyrouter.store.base import LogRow

COLUMNS = ("at (UTC)", "tier", "model", "status", "cost", "saved", "tokens", "took", "prompt")
_PROMPT = 40  # characters


def words(row: LogRow) -> tuple[str, ...]:
    """Return a row as a word for each column; whatever came from outside is one line without control characters."""
    prompt = " ".join(plain(row.prompt or "").split())
    return (
        f"{row.time:%m-%d %H:%M:%S}",
        plain(row.tier),
        plain(f"{row.provider}/{row.model}"),
        plain(row.status),
        dollars(None if row.cost_pico is None else from_pico(row.cost_pico)),
        "" if row.saved_pico is None else dollars(from_pico(row.saved_pico)),
        f"{row.input_tokens + row.output_tokens:,}",
        seconds(row.latency),
        prompt if len(prompt) <= _PROMPT else f"{prompt[: _PROMPT - 1]}…",
    )


def html(rows: list[LogRow], classes: str) -> str:
    """Return rows as an HTML table without styles; every cell is text."""
    head = "".join(f'<th scope="col">{name}</th>' for name in COLUMNS)
    body = "".join("<tr>" + "".join(f"<td>{escape(word)}</td>" for word in words(row)) + "</tr>" for row in rows)
    return f'<table class="{classes}"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
