"""Is the answer good enough? A weak one goes a tier up. Careful, because every escalation costs money."""

from __future__ import annotations

import ast
import json
import re
import textwrap
import warnings

from ipyrouter.types import Completion, Request, TierName

_SHORT_ANSWER = 50  # characters
_LONG_PROMPT = 30  # words
_LONGEST_CODE = 100_000  # characters that are parsed

_FENCE = re.compile(r"^[ \t]*(`{3,}|~{3,})[ \t]*([\w+-]*)[^\n]*\n(.*?)^[ \t]*\1", re.MULTILINE | re.DOTALL)
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
_MAGIC = re.compile(r"^(\s*)[%!].*$", re.MULTILINE)
_PYTHON = ("python", "py", "python3")


def weakness(request: Request, completion: Completion, tier: TierName) -> str | None:
    """Return why the answer is weak, or None. A refusal is an outcome of its own and never weak."""
    if completion.finish == "refusal":
        return None
    text = completion.text.strip()
    if not text:
        return "empty answer"
    if completion.finish == "length":
        # A limit that the person set would cut the next tier's answer off as well.
        return "cut off at the token limit" if request.max_output_tokens is None else None
    length, words = len(text), len(request.prompt.split())
    if tier == "fast" and length < _SHORT_ANSWER and words > _LONG_PROMPT:
        return f"{length} characters for a prompt of {words} words"
    if _WANTS_JSON.search(request.prompt) and not _ASKS_HOW.search(request.prompt):
        return None if _holds_json(text) else "not the JSON that was asked for"
    if _WANTS_CODE.search(request.prompt):
        return _broken_python(text)
    return None


def _holds_json(text: str) -> bool:
    """Tell whether the answer, a code block of it, or its part from the first to the last bracket is JSON."""
    candidates = [text, *(body for _, _, body in _FENCE.findall(text))]
    starts = [place for place in (text.find("{"), text.find("[")) if place >= 0]
    if starts:
        candidates.append(text[min(starts) : max(text.rfind("}"), text.rfind("]")) + 1])
    for candidate in candidates:
        try:
            json.loads(candidate)
        except (ValueError, RecursionError):
            continue
        return True
    return False


def _broken_python(text: str) -> str | None:
    """Return what is wrong with the first code block, marked as Python, that does not parse."""
    for _, language, body in _FENCE.findall(text):
        if language.lower() not in _PYTHON or ">>>" in body or len(body) > _LONGEST_CODE:
            continue
        source = _MAGIC.sub(r"\1pass", textwrap.dedent(body))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # an invalid escape sequence is no reason to pay again
                compile(source, "<answer>", "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        except SyntaxError as error:
            return f"Python that does not parse: {error.msg}, line {error.lineno}"
        except (ValueError, RecursionError, MemoryError):
            continue
    return None
