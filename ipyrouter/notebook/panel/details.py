"""A request of the log in full: what was asked and answered, each attempt, and why it went the way it went."""

from __future__ import annotations

import html

from ipyrouter.store.base import LoggedAttempt, LoggedRequest
from ipyrouter.text.amounts import dollars, from_pico, seconds
from ipyrouter.text.sanitise import MATHS_OFF, inert, plain
from ipyrouter.text.tables import Table, notebook_table, scrollable

_MOST = 20_000  # characters of a text
_TEXT = "white-space:pre-wrap; overflow-wrap:anywhere; max-height:24em; overflow:auto; margin:0.2em 0 0.8em"


def as_html(request: LoggedRequest) -> str:
    """Return a request as HTML in which every text is text."""
    about = f"{request.time:%Y-%m-%d %H:%M:%S} UTC" + (f" · {request.notebook}" if request.notebook else "")
    routed = f"{request.routed_tier}, difficulty {request.difficulty:.2f}"
    facts = [
        ("classified as", "; ".join((routed, *request.reasons))),
        *(("note", note) for note in request.notes),
    ]
    return (
        f'<div class="ipyrouter-request {MATHS_OFF}" role="region" aria-label="request"'
        ' style="border-left:3px solid var(--jp-border-color1, rgba(128,128,128,0.6)); padding-left:0.8em">'
        f"<strong>{inert(about)}</strong>"
        + "".join(f"<div>{inert(name)}: {inert(value)}</div>" for name, value in facts)
        + _text("system prompt", request.system)
        + _text("prompt", request.prompt)
        + _text("answer", request.text)
        + f"<div><strong>attempts</strong></div>{scrollable('attempts', _attempts(request.attempts))}</div>"
    )


def _text(name: str, text: str | None) -> str:
    if text is None:
        return "" if name == "system prompt" else f"<div><strong>{name}</strong>: not in the log</div>"
    cut = f"\n… {len(text) - _MOST:,} more characters: ipyrouter.cost_log()" if len(text) > _MOST else ""
    shown = html.escape(plain(text[:_MOST])) + cut
    return f'<div><strong>{name}</strong></div><pre tabindex="0" aria-label="{name}" style="{_TEXT}">{shown}</pre>'


def _attempts(attempts: tuple[LoggedAttempt, ...]) -> str:
    rows: list[tuple[str, ...]] = [
        (
            f"{place}",
            "price unknown" if one.cost_pico is None else dollars(from_pico(one.cost_pico)),
            f"{one.input_tokens:,}",
            f"{one.output_tokens:,}",
            seconds(one.latency),
            one.status,
            one.tier,
            f"{one.provider}/{one.model}",
            one.error or "",
        )
        for place, one in enumerate(attempts, 1)
    ]
    head = ("attempt", "cost", "tokens in", "tokens out", "took", "status", "tier", "model", "error")
    table = Table("attempts", head, rows, frozenset(("status", "tier", "model", "error")))
    return notebook_table(table, "ipyrouter-attempts")
