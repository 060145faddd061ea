"""From an answer to what a front end shows: one bundle of Markdown and plain text, with the figures as metadata."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from ipyrouter.config import LOCAL_MODEL, NO_KEY, TOY
from ipyrouter.notebook.formats import Body, partial_body
from ipyrouter.pricing.prices import saved_by_cache
from ipyrouter.routing.planner import IN_WORDS
from ipyrouter.store import rows
from ipyrouter.text import sanitise
from ipyrouter.text.amounts import at_least, count, dollars, seconds
from ipyrouter.text.tables import cell, table_cell
from ipyrouter.types import Answer, Candidate, Classification, Preview, TierName

if TYPE_CHECKING:
    from ipyrouter.notebook.prompt.pieces import Piece

# White on each can be read (4.5:1 and more), each stands out from any theme (3:1), and front ends without styles show
# the bare word.
COLOURS: dict[TierName, str] = {"fast": "#2e7d32", "mid": "#1565c0", "power": "#a030b8"}
_ERROR = "#c62828"
_AMBER = "#a15c00"
_ATTENTION = ("fell back", "escalated", "cut off", "toy model", "refused", "stopped", "partial")  # how such words begin
_WHOLE = 'style="white-space:nowrap"'  # no line ends inside
_NAME = re.compile(r"\S*[-/]\S*")
_LONGEST_NAME = 40  # characters; a longer one would not fit a narrow window
_CHIP = "color:#fff; padding:0 0.6em; border-radius:0.8em; white-space:nowrap; background-color:"
_QUIET = f'{sanitise.NO_MATHS} style="font-size:0.85em; margin-bottom:0.4em; color:var(--jp-ui-font-color2, inherit)"'
_MOST_PROMPT = 6000  # characters of a prompt that a dry run shows
Bundle = dict[str, str]


def badge_words(answer: Answer) -> list[str]:
    """Return the badge's parts: model, cost, and what was out of the ordinary."""
    return [f"{answer.provider}/{answer.model}", _cost_words(answer), *_saving(answer), *_incidents(answer)]


def quiet_words(answer: Answer) -> list[str]:
    """Return what the badge shows when it is pointed at: tokens and time."""
    usage = answer.usage
    approximately = "about " if usage.estimated else ""
    thinking = f", {usage.reasoning_tokens:,} of them thinking" if usage.reasoning_tokens else ""
    return [
        f"{approximately}{usage.input_tokens:,} in + {usage.output_tokens:,} out tokens{thinking}",
        seconds(answer.latency),
    ]


def _saving(answer: Answer) -> list[str]:
    """Return what the provider's own cache has saved, if it has."""
    saved = sum((saved_by_cache(dict(one.cost.rates), one.usage) for one in answer.attempts), Decimal(0))
    return [f"the provider's cache saved {dollars(saved)}"] if saved > 0 else []


def _incidents(answer: Answer) -> list[str]:
    """Return what was out of the ordinary."""
    words_of = {
        "length": "cut off at the token limit",
        "refusal": "refused",
        "interrupted": "stopped",
        "partial": "partial",
    }
    words = [
        "cached" if answer.cached else "",
        _toy(answer),
        _fallback(answer),
        next((note.partition(":")[0] for note in answer.notes if note.startswith(IN_WORDS)), ""),
        _escalation(answer),
        words_of.get(answer.finish, ""),
    ]
    return [word for word in words if word]


def _toy(answer: Answer) -> str:
    """Return the badge's words on the local model: that it is a toy, and why it answered if it was not chosen."""
    if Candidate(answer.provider, answer.model) != LOCAL_MODEL:
        return ""
    return NO_KEY if NO_KEY in answer.notes else TOY


def _fallback(answer: Answer) -> str:
    if answer.fallback_from is None:
        return ""
    # The note below the badge has the server's words whole.
    why = f": {textwrap.shorten(answer.fallback_reason, 90, placeholder=' …')}" if answer.fallback_reason else ""
    return f"fell back from {answer.fallback_from}{why}"


def _escalation(answer: Answer) -> str:
    if answer.escalated_from is None:
        return ""
    weak = (one.error for one in answer.attempts if one.status == "weak" and one.tier == answer.escalated_from)
    why = next(filter(None, weak), None)
    return f"escalated from {answer.escalated_from}" + (
        f": {textwrap.shorten(why, 90, placeholder=' …')}" if why else ""
    )


def badge_sentence(answer: Answer) -> str:
    """Return the badge as a sentence, for those who listen to it."""
    cost = _cost_words(answer).replace(" · ", ", ")
    tokens = f"{answer.usage.input_tokens:,} tokens in and {answer.usage.output_tokens:,} out"
    if answer.usage.reasoning_tokens:
        tokens += f", {answer.usage.reasoning_tokens:,} of them thinking"
    parts = [
        f"{answer.provider}/{answer.model} of the tier {answer.tier} answered in {seconds(answer.latency)}",
        cost if answer.cost is None else f"for {cost}",
        tokens,
        *_saving(answer),
        *_incidents(answer),
    ]
    return sanitise.plain(", ".join(parts) + ".")


def _cost_words(answer: Answer) -> str:
    if answer.cached:
        if answer.cost_saved is None:
            return "$0 · saving unknown"
        return "$0" if not answer.cost_saved else f"$0 · saved {dollars(answer.cost_saved)}"
    costs = [attempt.cost.amount for attempt in answer.attempts]
    known = [cost for cost in costs if cost is not None]
    if answer.cost is None and known:
        return at_least(sum(known, Decimal(0)), len(costs) - len(known))
    approximately = "about " if any(a.usage.estimated and a.cost.amount for a in answer.attempts) else ""
    return approximately + dollars(answer.cost)


def badge_text(answer: Answer) -> str:
    """Return the badge as one line of plain text, tokens and time at its end."""
    return _badge_plain(answer.tier, [*badge_words(answer), *quiet_words(answer)])


def badge_markdown(answer: Answer) -> str:
    """Return the badge as one line of HTML for a Markdown cell; its words read well where the style is dropped."""
    return _badge(answer.tier, badge_words(answer), badge_sentence(answer), " · ".join(quiet_words(answer)))


def _badge_plain(tier: TierName, words: list[str]) -> str:
    model, cost, *rest = words
    return sanitise.plain(" · ".join([model, cost, tier, *rest]))


def _badge(tier: TierName, words: list[str], sentence: str, on_hover: str = "") -> str:
    name, *rest = words
    first, *others = map(_word, rest)
    parts = [f"<strong {_WHOLE}>{sanitise.inert(name)}</strong>", first, _chip(tier, COLOURS[tier]), *others]
    # As an "image" with this text, so that a screen reader says the sentence and not the parts as well.
    title = f' title="{_attribute(on_hover)}"' if on_hover else ""
    return f'<div role="img" aria-label="{_attribute(sentence)}"{title} {_QUIET}>{" · ".join(parts)}</div>'


def _word(word: str) -> str:
    """Return a part of the badge as HTML: what a user should notice begins in amber, and no line ends inside a name."""
    notice = next((start for start in _ATTENTION if word.startswith(start)), "")
    rest = [
        f"<span {_WHOLE}>{sanitise.inert(token)}</span>"
        if len(token) <= _LONGEST_NAME and _NAME.match(token)
        else sanitise.inert(token)
        for token in word[len(notice) :].split()
    ]
    return " ".join([*([_chip(notice, _AMBER)] if notice else []), *rest])


def _attribute(words: str) -> str:
    return sanitise.inert(words).replace('"', "&quot;")


def _chip(word: str, colour: str) -> str:
    return f'<span style="{_CHIP}{colour}">{word}</span>'


def _line(inside: str) -> str:
    return f"<div {_QUIET}>{inside}</div>"


def notes_markdown(notes: tuple[str, ...]) -> str:
    """Return notes as one quiet line each."""
    return "\n".join(_line(sanitise.inert(note)) for note in notes)


def answer_bundle(answer: Answer, body: Body) -> Bundle:
    """Return the bundle of a finished answer."""
    return _bundle(badge_markdown(answer), badge_text(answer), body, notes_of(answer, body))


def notes_of(answer: Answer, body: Body) -> tuple[str, ...]:
    """Return the notes that stand below the badge: those that the badge does not say already."""
    badge = {NO_KEY, *badge_words(answer)}
    return tuple(note for note in (*answer.notes, *body.notes) if note not in badge)


def partial_bundle(tier: TierName, model: str, text: str, fmt: str) -> Bundle:
    """Return the bundle of an answer that is still arriving."""
    words = [model, "…"]
    sentence = f"{model} of the tier {tier} is answering."
    return _bundle(_badge(tier, words, sentence), _badge_plain(tier, words), partial_body(text, fmt), ())


def waiting_bundle(words: str) -> Bundle:
    """Return what stands there until the first text comes."""
    return {"text/markdown": _line(sanitise.inert(words)), "text/plain": sanitise.plain(words)}


def broken_bundle(text: str, attempts: int, fmt: str) -> Bundle:
    """Return the bundle of a request whose every candidate failed, with the last one's partial answer."""
    words = f"no complete answer after {count(attempts, 'attempt')}; the error below says why"
    return _bundle(_line(f"{_chip('failed', _ERROR)} {words}"), f"[failed] {words}", partial_body(text, fmt), ())


def _bundle(badge: str, badge_plain: str, body: Body, notes: tuple[str, ...]) -> Bundle:
    # The badge comes first: nothing that a model writes can swallow what stands before it.
    parts = [badge, notes_markdown(notes)] if notes else [badge]
    if body.thinking:
        parts += ["<details><summary>Thinking</summary>", sanitise.markdown(body.thinking), "</details>"]
    if body.text:
        verbatim = body.language is not None
        parts.append(sanitise.code(body.text, body.language or "") if verbatim else sanitise.markdown(body.text))
    plain = [badge_plain, *(sanitise.plain(note) for note in notes), thinking_text(body), sanitise.plain(body.text)]
    return {"text/markdown": "\n\n".join(parts), "text/plain": "\n".join(filter(None, plain))}


def thinking_text(body: Body) -> str:
    """Return the thinking as plain text, indented under a line that says what it is; "" where none is to be shown."""
    return "Thinking:\n" + textwrap.indent(sanitise.plain(body.thinking), "  ") if body.thinking else ""


def metadata(answer: Answer) -> dict[str, Any]:
    """Return what a saved notebook keeps of the answer's costs; no text of prompt or answer."""
    return {
        "ipyrouter": {
            "id": answer.id,
            "time": answer.created.isoformat(),
            "tier": answer.tier,
            "difficulty": round(answer.classification.difficulty, 4),
            "provider": answer.provider,
            "model": answer.model,
            "cost": _number(answer.cost),
            "saved": _number(answer.cost_saved),
            "input_tokens": answer.usage.input_tokens,
            "output_tokens": answer.usage.output_tokens,
            "cached_input_tokens": answer.usage.cached_input_tokens,
            "estimated": answer.usage.estimated,
            "cached": answer.cached,
            "latency": round(answer.latency, 4),
            "finish": answer.finish,
            **({"tags": sorted(set(answer.tags))} if answer.tags else {}),
            "attempts": [rows.to_notebook(attempt) for attempt in answer.attempts],
        }
    }


def _number(amount: Decimal | None) -> str | None:
    return None if amount is None else format(amount.normalize(), "f")


def verdict(preview: Preview) -> str:
    """Return in a line what a request would come to."""
    whom = preview.candidate
    if preview.cached:
        return f"Would come from the cache, as {whom} answered, for $0."
    if not preview.key_present:
        missing = f"{preview.key} is not set" if preview.key else "its model is not installed"
        return f"Would be an error: {whom} cannot be called, because {missing}."
    if preview.obstacle:
        return f"Would be an error. {preview.obstacle}"
    effort = f", effort {preview.effort}" if preview.effort else ""
    schema = f", schema {preview.schema}" if preview.schema else ""
    head = f"Would go to {whom}{effort}{schema}"
    if preview.cost_typical is None or preview.cost_high is None:
        return f"{head}, at an unknown price."
    if not preview.cost_high:
        return f"{head}, for $0."
    about = dollars(preview.cost_typical)
    if preview.effort not in (None, "none"):
        about += " plus thinking"
    return f"{head}, about {about}, at most {dollars(preview.cost_high)}."


def _in_full(prompt: str) -> str:
    """Return a prompt as it goes out, in a code block; of a very long one both ends."""
    half = _MOST_PROMPT // 2
    if len(prompt) > _MOST_PROMPT:
        prompt = f"{prompt[:half]}\n… {len(prompt) - 2 * half:,} characters not shown …\n{prompt[-half:]}"
    mark = sanitise.fence_for(prompt)
    return f"{mark}\n{prompt}\n{mark}"


def preview_bundle(
    preview: Preview, pieces: Sequence[Piece] = (), turns: int = 0, system: str | None = None, prompt: str = ""
) -> Bundle:
    """Return a dry run: its verdict, a table of what would be done, and all that would be sent."""
    classification = preview.classification
    if preview.cost_low is None or preview.cost_high is None:
        cost = "price unknown"
    elif preview.cost_low == preview.cost_high:
        cost = dollars(preview.cost_high)
    else:
        cost = f"{dollars(preview.cost_low)} to {dollars(preview.cost_high)}"
    if preview.key:
        key = f"{preview.key}, {'ready' if preview.key_present else 'missing'}"
    else:
        key = f"none needed, model {'available' if preview.key_present else 'not installed'}"
    rows = [
        (
            "tier",
            f"{preview.tier}{_or_else(classification)} (difficulty {classification.difficulty:.2f},"
            f" confidence {classification.confidence:.2f})"
            if preview.tier == classification.tier
            else f"{preview.tier}; the prompt by itself: {classification.tier}",
        ),
        ("reasons", "; ".join(classification.reasons)),
        ("model", str(preview.candidate)),
        *([("effort", preview.effort)] if preview.effort else []),
        *([("schema", preview.schema)] if preview.schema else []),
        *([("system", system)] if system else []),
        *([("history", count(turns, "earlier turn"))] if turns else []),
        *(("sent along", f"{piece.title}, {piece.size}") for piece in pieces),
        ("input", f"about {preview.input_tokens:,} tokens"),
        ("output", f"at most {preview.max_output_tokens:,} tokens"),
        ("cost", cost),
        ("cache", "hit" if preview.cached else "miss"),
        ("key", key),
        *(("note", note) for note in preview.notes if note != preview.obstacle),  # the verdict says it
    ]
    bundle = table_bundle(f"Dry run: nothing was sent. {verdict(preview)}", rows)
    in_words = any(note.startswith(IN_WORDS) for note in preview.notes)
    sent = [*([_in_full(prompt)] if prompt else []), *(str(piece) if in_words else piece.part.text for piece in pieces)]
    return {
        "text/markdown": "\n\n".join([bundle["text/markdown"], *map(sanitise.markdown, sent)]),
        "text/plain": "\n\n".join([bundle["text/plain"], *map(sanitise.plain, sent)]),
    }


def _or_else(classification: Classification) -> str:
    return f", could be {classification.runner_up}" if classification.runner_up else ""


def table_bundle(title: str, rows: list[tuple[str, str]]) -> Bundle:
    """Return rows of two columns as a Markdown table and as aligned text."""
    width = max((len(name) for name, _ in rows), default=0)
    plain = "\n".join([title, *(f"  {name:<{width}}  {sanitise.plain(value)}" for name, value in rows)])
    lines = [
        f"**{cell(title)}**",
        "",
        "| what | value |",
        "|:---|:---|",  # without colons the heads would stand in the middle, away from their cells
        *(f"| {table_cell(name)} | {table_cell(value)} |" for name, value in rows),
    ]
    return {"text/markdown": "\n".join(lines), "text/plain": plain}
