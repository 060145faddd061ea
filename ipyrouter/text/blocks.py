"""What an answer holds beside prose: code blocks and JSON."""

from __future__ import annotations

import ast
import functools
import json
import math
import re
import textwrap
import warnings
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.token import Token

from ipyrouter.text.thinking import split_thinking

LIST = "list"
"""The property in which JSON mode, which knows objects only, puts a list."""
PYTHON = ("python", "py", "python3")
_SHELL = ("bash", "sh", "shell", "zsh")
_LANGUAGE = re.compile(r"[\w+-]*")
_UNCLOSED = 3  # fences in fences
_CODE_MARK = re.compile(
    r"[=(\[]|^(import|from|def|class|async|with) ", re.MULTILINE
)  # "Paris is nice" parses as Python too
_JSON_START = re.compile(r"""\{(?=\s*["}])|\[(?=\s*["{\[\]\dtfnNI-])""")  # prose has brackets, too
_MOST_STARTS = 1000  # places where JSON may begin and is broken: each costs a look over the whole text
_STRING_OR_CONSTANT = re.compile(r'"(?:[^"\\]|\\.)*"|(-?Infinity|NaN)')
_MAGIC = re.compile(r"^([ \t]*)[%!].*$", re.MULTILINE)


class _NotJson(ValueError):  # noqa: N818  what is wrong with a number
    """A constant of JavaScript's that Python reads, and JSON does not have."""


def _refuse(constant: str) -> Any:
    raise _NotJson(f"{constant} is not valid JSON")


def _number(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise ValueError("the number is too large")
    return number


_DECODER = json.JSONDecoder(parse_constant=_refuse, parse_float=_number)


def code_blocks(text: str) -> list[tuple[str, str]]:
    """Return (language, code) of each closed code block; the language is lower case and may be empty.

    A block is what CommonMark takes for one, in lists and quotes, too. One that is not closed holds nothing but what is
    closed inside it: the answer may have been cut off there.
    """
    blocks: list[tuple[str, str]] = []
    # Fences that are not closed can only be nested while they get shorter.
    for _ in range(_UNCLOSED):
        if "```" not in text and "~~~" not in text:
            break
        fences = [token for token in _parser().parse(f"{text}\n") if token.type == "fence"]
        blocks += [_block(token) for token in fences if _is_closed(token)]
        if not fences or _is_closed(fences[-1]):
            break
        text = fences[-1].content
    return blocks


def _block(fence: Token) -> tuple[str, str]:
    language = _LANGUAGE.match(fence.info.strip())
    return language.group().lower() if language else "", textwrap.dedent(fence.content)


def _is_closed(fence: Token) -> bool:
    first, last = fence.map or (0, 0)
    return last - first == fence.content.count("\n") + 2


@functools.cache
def _parser() -> MarkdownIt:
    from markdown_it import MarkdownIt  # 35 ms, and only answers with code need it

    parser = MarkdownIt("commonmark", {"html": False})  # our own rendering shows HTML as text, with the blocks inside
    parser.core.ruler.disable("inline")
    return parser


def syntax_error(code: str) -> str | None:
    """Return what keeps code from being parsed as a cell's Python, magics and top-level await allowed, or None."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an invalid escape sequence is not the answer's fault
            flags = ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
            compile(_MAGIC.sub(r"\1pass", code), "<answer>", "exec", flags)
    except SyntaxError as error:
        return f"{error.msg}, line {error.lineno}"
    except (ValueError, RecursionError, MemoryError):
        return None
    return None


def find_json(text: str) -> Any:
    """Return the JSON of an answer: all of it, a code block of it, or the longest value that stands in its prose.

    Thinking between tags does not count. Raises ValueError where there is none.
    """
    text, _ = split_thinking(text)
    blocks = sorted(code_blocks(text), key=lambda block: not block[0].startswith("json"))  # stable: marked ones first
    for candidate in (text, *(body for _, body in blocks)):
        try:
            return _DECODER.decode(candidate)
        except (ValueError, RecursionError):
            continue
    return _longest_json(text)


def _longest_json(text: str) -> Any:
    """Return the longest object or list in a string, the first of those equally long.

    Where reading fails, the search goes on at the fault: a part of a broken value is not the value that was requested.
    """
    longest, size, broken = None, 0, 0
    start = _JSON_START.search(text)
    while start is not None and broken < _MOST_STARTS:
        place = start.start()
        try:
            value, end = _DECODER.raw_decode(text, place)
            if end - place > size:
                longest, size = value, end - place
        except json.JSONDecodeError as error:
            end, broken = max(error.pos, place + 1), broken + 1
        except _NotJson:
            tokens = _STRING_OR_CONSTANT.finditer(text, place)
            end, broken = next(token.end() for token in tokens if token[1]), broken + 1
        except (ValueError, RecursionError):  # a number of 10,000 digits; too deep to be read from any place inside
            break
        start = _JSON_START.search(text, end)
    if not size:
        raise ValueError("no JSON")
    return longest


def find_code(text: str) -> str:
    """Return an answer's code as a cell takes it: its Python blocks joined, else its first block, else all of it.

    A shell block gets `%%bash`. Raises ValueError where the answer holds no code.
    """
    blocks = code_blocks(text)
    python = [body.strip("\n") for language, body in blocks if _is_python(language, body)]
    if python:
        return "\n\n".join(python)
    if blocks:
        language, body = blocks[0]
        return ("%%bash\n" if language in _SHELL else "") + body.strip("\n")
    if _CODE_MARK.search(text) and syntax_error(text) is None:
        return text.strip("\n")
    raise ValueError("no code")


def find_html(text: str) -> str:
    """Return an answer's HTML source: that of its code blocks, else all of it."""
    marked = [body.strip("\n") for language, body in code_blocks(text) if language in ("html", "xml", "svg", "")]
    return "\n".join(marked) or text


def _is_python(language: str, body: str) -> bool:
    return language in PYTHON or (not language and syntax_error(body) is None)
