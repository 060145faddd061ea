"""What an answer holds beside prose: code blocks and JSON."""

from __future__ import annotations

import ast
import functools
import json
import re
import textwrap
import warnings
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.token import Token

PYTHON = ("python", "py", "python3")
_SHELL = ("bash", "sh", "shell", "zsh")
_LANGUAGE = re.compile(r"[\w+-]*")
_UNCLOSED = 3  # fences in fences
_CODE_MARK = re.compile(
    r"[=(\[]|^(import|from|def|class|async|with) ", re.MULTILINE
)  # "Paris is nice" parses as Python too
_MAGIC = re.compile(r"^([ \t]*)[%!].*$", re.MULTILINE)


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
            warnings.simplefilter("ignore")  # an invalid escape sequence is no fault of the answer
            flags = ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
            compile(_MAGIC.sub(r"\1pass", code), "<answer>", "exec", flags)
    except SyntaxError as error:
        return f"{error.msg}, line {error.lineno}"
    except (ValueError, RecursionError, MemoryError):
        return None
    return None


def find_json(text: str) -> Any:
    """Return the JSON of an answer: all of it, a code block of it, or its part from the first to the last bracket.

    Raises ValueError where there is none.
    """
    candidates = [text, *(body for _, body in code_blocks(text))]
    starts = [place for place in (text.find("{"), text.find("[")) if place >= 0]
    if starts:
        candidates.append(text[min(starts) : max(text.rfind("}"), text.rfind("]")) + 1])
    for candidate in candidates:
        try:
            return json.loads(candidate)
        except (ValueError, RecursionError):
            continue
    raise ValueError("no JSON")


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
