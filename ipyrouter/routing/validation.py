"""Is the answer good enough? A weak one goes a tier up. Careful, because every escalation costs money."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ipyrouter.text.blocks import PYTHON, code_blocks, find_json, syntax_error
from ipyrouter.types import Completion, Request, TierName

if TYPE_CHECKING:
    from ipyrouter.schemas import Schema

_SHORT_ANSWER = 50  # characters
_LONG_PROMPT = 30  # words
_LONGEST_CODE = 100_000  # characters that are parsed

_WANTS_CODE = re.compile(
    r"(?<!\w)(write|implement|create|generate|give|show|provide|fix|refactor|rewrite|complete)(?!\w).*"
    r"(?<!\w)(python|pandas|numpy|code|function|class|script|snippet|decorator|def)(?!\w)",
    re.IGNORECASE | re.DOTALL,
)
_WANTS_JSON = re.compile(
    r"(?<!\w)((as|in|into|only|valid|return|output|respond with|answer with)( an?| the| plain| pure| raw)? json"
    r"|json (only|object|array|format|output))(?!\w)",
    re.IGNORECASE,
)
# "How do I …" asks for an explanation, and a request for code for code: neither wants the answer itself to be JSON.
_ASKS_HOW = re.compile(
    r"^\s*(how|why|what|when|which|explain|can|does|is)(?!\w)"
    r"|(?<!\w)(function|code|script|python|pandas|class|schema|parser?|parsing|load|read)(?!\w)",
    re.IGNORECASE,
)


def weakness(request: Request, completion: Completion, tier: TierName) -> str | None:
    """Return why the answer is weak, or None. A refusal is an outcome of its own and never weak."""
    if completion.finish == "refusal":
        return None
    if request.schema is not None:
        return _not_in_schema(request.schema, completion)
    text, prompt = completion.text.strip(), request.prompt.text
    if not text:
        return _empty(completion)
    if completion.finish == "length":
        # A limit that the user set would cut the next tier's answer off as well.
        return "cut off at the token limit" if request.max_output_tokens is None else None
    length, words = len(text), len(prompt.split())
    if tier == "fast" and length < _SHORT_ANSWER and words > _LONG_PROMPT:
        return f"{length} characters for a prompt of {words} words"
    if request.json or (_WANTS_JSON.search(prompt) and not _ASKS_HOW.search(prompt)):
        return None if _holds_json(text) else "not the JSON that was asked for"
    if _WANTS_CODE.search(prompt):
        return _broken_python(text)
    return None


def all_reasoning(completion: Completion) -> bool:
    """Tell whether the answer is empty because thinking took all tokens: another model's would go the same way."""
    thought = bool(completion.thinking) or completion.usage.reasoning_tokens > 0
    return completion.finish == "length" and not completion.text.strip() and thought


def _not_in_schema(schema: Schema, completion: Completion) -> str | None:
    from ipyrouter.schemas import Mismatch

    if not completion.text.strip():
        return _empty(completion)
    if completion.finish == "length":
        return "cut off at the token limit"
    try:
        schema.read(completion.text)
    except Mismatch as wrong:
        return f"not what the schema {schema.name} asks for: {wrong}"
    return None


def _empty(completion: Completion) -> str:
    if all_reasoning(completion):
        return f"empty answer: all {completion.usage.output_tokens:,} tokens went into reasoning"
    return "empty answer: the model only thought" if completion.thinking else "empty answer"


def _holds_json(text: str) -> bool:
    try:
        find_json(text)
    except ValueError:
        return False
    return True


def _broken_python(text: str) -> str | None:
    """Return what is wrong with the first code block, marked as Python, that does not parse."""
    for language, body in code_blocks(text):
        if language not in PYTHON or ">>>" in body or len(body) > _LONGEST_CODE:
            continue
        if wrong := syntax_error(body):
            return f"Python that does not parse: {wrong}"
    return None
