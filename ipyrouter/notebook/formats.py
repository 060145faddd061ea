"""What `-f` makes of an answer: what is shown, what the cell's value is, and what goes into a new cell."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any

from ipyrouter.errors import UsageError
from ipyrouter.text.blocks import LIST, find_code, find_html, find_json
from ipyrouter.text.sanitise import plain
from ipyrouter.types import Answer

FORMATS = {
    "markdown": "as Markdown, made safe",
    "text": "every character as itself",
    "code": "the code alone, which also goes into a new cell below and is not run",
    "json": "the JSON alone; `_` and `-o` hold the Python object",
    "html": "the HTML's source",
    "none": "the badge alone",
}
"""What `-f` takes, and how it shows an answer."""
# The end of the system prompt for a format, so that the answer fits.
_INSTRUCTIONS = {
    "json": "Answer with JSON alone: no words before or after it, and no code fence.",
    "code": "Answer with code alone, in one fenced code block that names its language: Python, if none is asked for.",
    "html": "Answer with HTML source alone, in one fenced code block.",
}


@dataclass(frozen=True, slots=True)
class Body:
    """The text below the badge: Markdown, or a code block of ``language`` ("": no language); ``thinking`` is folded."""

    text: str
    language: str | None = None
    notes: tuple[str, ...] = ()
    thinking: str = ""


@dataclass(frozen=True, slots=True)
class Presentation:
    """An answer in a format: what is shown, what `_` and `-o` hold, and the source of a new cell, if any."""

    body: Body
    value: Any
    cell: str | None = None
    error: UsageError | None = None


def system_prompt(system: str | None, fmt: str) -> str | None:
    """Return the system prompt with the instructions of the format."""
    return "\n\n".join(filter(None, (system, _INSTRUCTIONS.get(fmt)))) or None


def partial_body(text: str, fmt: str) -> Body:
    """Return how an answer is shown that is not complete yet, or never will be."""
    if fmt == "none":
        return Body("")
    return Body(text, "" if fmt in ("text", "json", "html") else None)


def with_thinking(body: Body, answer: Answer) -> Body:
    """Return what is shown, with the thinking or a note that there is none to show."""
    if answer.thinking.strip():
        return replace(body, thinking=answer.thinking)
    why = "it was not kept with the cached answer" if answer.cached else "its provider showed none"
    return replace(body, notes=(*body.notes, f"There is no thinking of {answer.provider}/{answer.model}: {why}."))


def present(answer: Answer, fmt: str, *, with_schema: bool = False) -> Presentation:
    """Return the answer in a format. Where it does not fit, the whole text is shown and ``error`` says why.

    Args:
        answer: What was answered.
        fmt: One of FORMATS.
        with_schema: The answer's ``data`` is the value, whatever is shown.
    """
    if with_schema:
        return Presentation(present(answer, fmt).body, answer.data)
    text = answer.text
    try:
        if fmt == "code":
            code = plain(find_code(text))  # the cell holds what is shown: no mark makes code look like other code
            return Presentation(Body(code, "python"), answer, cell=code)
        if fmt == "json":
            value = find_json(text)
            if isinstance(value, dict) and value.keys() == {LIST}:  # as JSON mode, which knows objects only, is asked
                value = value[LIST]
            return Presentation(Body(_indent(value), "json"), value)
    except ValueError as error:
        return Presentation(
            Body(text, ""),
            answer,
            error=UsageError(
                f"The answer holds {error}; it is shown as it came, and _ holds it.",
                "It was cut off: allow more with --max-tokens."
                if answer.finish == "length"
                else "Ask for it in the prompt, choose a higher tier with -t, or send it again with --refresh.",
            ),
        )
    if fmt == "html":
        return Presentation(Body(find_html(text), "html"), answer)
    if fmt == "none":
        return Presentation(Body(""), answer)
    return Presentation(Body(text, "" if fmt == "text" else None), answer)


def _indent(value: Any) -> str:
    try:
        return json.dumps(value, indent=2, ensure_ascii=False)
    except RecursionError:  # reading goes deeper than writing
        raise ValueError("JSON that is nested too deeply") from None
