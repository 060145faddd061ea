"""What IPython's own syntax makes of `%route` lines, put right before it reads them.

- `%route What is a list?` asks; IPython would look up the last word. `%route?` alone is still help.
- `return %route …` and `yield %route …` work as `answer = %route …` does, so that a function can hand an answer on.
- The variables that a line inserts are known to Python's compiler, so that an inner function keeps those around it.
- `%%route` may follow comments and be followed by any blank; below code it is an error that says so.
"""

from __future__ import annotations

import ast
import keyword
import re
from collections.abc import Callable, Iterator, Sequence
from tokenize import TokenInfo
from typing import TYPE_CHECKING, Any

from IPython.core.inputtransformer2 import (
    TokenTransformBase,
    assemble_continued_line,
    find_end_of_continued_line,
)

from ipyrouter.errors import UsageError

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

MISPLACED = "%route"
"""The name of the line magic that `%%route` below other code ends in: `%%route` read as a line is `%` and this."""

_HANDS_ON = ("=", "return", "yield")
_ROUTE = re.compile(r"%\s*route\s*(.*)", re.DOTALL)
_CELL = re.compile(r"%%route(?:\s+(.*))?$", re.DOTALL)
_NAMES = re.compile(r"\{\{\s*([^\W\d]\w*)\s*\}\}|--with[=\s]\s*[\"']?(\w+(?:\s*,\s*\w+)*)")
_INDENT = " \t\ufeff"  # a pasted cell may begin with blanks, a file's with the mark of its byte order
_HELP = re.compile(r"run_line_magic\('pinfo2?', (.*)\)")


class RouteLine(TokenTransformBase):
    """A line with `%route` at its beginning or behind "=", "return" or "yield"."""

    priority = 1  # before IPython's help syntax, which has 5

    def __init__(self, start: tuple[int, int], magic: tuple[int, int]) -> None:
        super().__init__(start)  # type: ignore[no-untyped-call]  # transformers are ordered by where they start: this one with its line
        self._magic = magic

    @classmethod
    def find(cls, tokens_by_line: Any) -> RouteLine | None:
        """Return the first such line's transformer."""
        for line in tokens_by_line:
            tokens = [token for token in line if token.string.strip()]
            place = _magic(tokens)
            if place is not None:
                return cls(tokens[0].start, tokens[place].start)
        return None

    def transform(self, lines: list[str]) -> list[str]:
        """Return the lines with the call in the magic's place."""
        row, column = self._magic[0] - 1, self._magic[1]
        last = find_end_of_continued_line(lines, row)
        written = _ROUTE.match(assemble_continued_line(lines, (row, column), last))
        text = written[1] if written else ""
        call = f"get_ipython().run_line_magic('route', {text!r})"
        if names := list(_names(text)):
            call += f" if True else ({', '.join(names)},)"  # never evaluated: a name that is read can be looked up
        return [*lines[:row], f"{lines[row][:column]}{call}\n", *lines[last + 1 :]]


def _magic(tokens: Sequence[TokenInfo]) -> int | None:
    """Return the place of the `%` of a `%route` that is a magic and no modulo, or None."""
    depth = 0
    for place, token in enumerate(tokens):
        depth += (token.string in ("(", "[", "{")) - (token.string in (")", "]", "}"))
        if token.string != "%" or [token.string for token in tokens[place + 1 : place + 2]] != ["route"]:
            continue
        rest = tokens[place + 2 :]
        if rest and rest[0].start == tokens[place + 1].end:  # %route? and what is not a name of ours
            continue
        if place == 0:
            return place if "".join(token.string for token in rest).strip("?") else None
        if depth == 0 and tokens[place - 1].string in _HANDS_ON:
            return place
    return None


def _names(text: str) -> Iterator[str]:
    for inserted, sent_along in _NAMES.findall(text):
        for name in re.split(r"\s*,\s*", inserted or sent_along):
            if name.isidentifier() and not keyword.iskeyword(name):
                yield name


def cell(lines: list[str]) -> list[str]:
    """Return a cell whose `%%route` follows comments without them; if it follows code, return the error instead."""
    code = next((n for n, line in enumerate(lines) if line.strip() and not line.lstrip().startswith("#")), len(lines))
    if code < len(lines) and (line := lines[code].lstrip(_INDENT)).startswith("%%"):
        first = _CELL.match(line.rstrip("\r\n"))
        return lines if first is None else [f"%%route {first[1] or ''}".rstrip() + "\n", *lines[code + 1 :]]
    for number, line in enumerate(lines[code:], code):
        if _CELL.match(line.rstrip("\r\n")) and _is_whole(lines[code:number]):
            return [f"get_ipython().run_line_magic({MISPLACED!r}, '{number + 1}')\n"]
    return lines


def _is_whole(lines: list[str]) -> bool:
    """Tell whether the next line begins a statement, and is not part of a string or bracket."""
    from IPython.core.inputtransformer2 import TransformerManager

    manager = TransformerManager()  # type: ignore[no-untyped-call]
    return bool(manager.check_complete("".join(lines))[0] == "complete")


def misplaced(line: str) -> UsageError:
    """Return the error of a `%%route` below other code; ``line`` is its number, or what followed it."""
    where = f"on line {line}" if line.isdecimal() else "below other code"
    return UsageError(
        f"%%route must be the first line of its cell, and stands {where}; nothing was sent.",
        "Move what stands above it to a cell of its own.",
    )


def install(shell: InteractiveShell) -> None:
    """Add the transformers."""
    manager = shell.input_transformer_manager
    manager.token_transformers.append(RouteLine)
    manager.cleanup_transforms.append(cell)


def remove(shell: InteractiveShell) -> None:
    """Take them away again."""
    manager = shell.input_transformer_manager
    for transformers, ours in ((manager.token_transformers, RouteLine), (manager.cleanup_transforms, cell)):
        if ours in transformers:
            transformers.remove(ours)


def guard_help(shell: InteractiveShell) -> Callable[[], None]:
    """Let questions in the very cell that loads the extension fail with a line that says so.

    That cell was read before the transformers were there, so that its `%route … ?` has become a call for help.

    Returns:
        What takes the guard away again, for the end of the cell.
    """
    history = shell.history_manager
    source, read = history.input_hist_raw[-1], history.input_hist_parsed[-1]  # type: ignore[union-attr]
    if "%route" not in source:
        return lambda: None
    wrong = set(read.splitlines()) - set(shell.transform_cell(source).splitlines())  # type: ignore[no-untyped-call]
    words = {ast.literal_eval(match[1]) for match in map(_HELP.search, wrong) if match}
    if not words:
        return lambda: None
    magics = shell.magics_manager.magics["line"]
    helps = {name: shell.find_line_magic(name) for name in ("pinfo", "pinfo2")}  # type: ignore[no-untyped-call]

    def guarded(name: str) -> Callable[..., Any]:
        def run(word: str, *rest: Any) -> Any:
            if word in words:
                raise UsageError(
                    f"A %route question stands in the cell that loads ipyrouter, where IPython reads {word}? as a call"
                    " for help.",
                    "ipyrouter is loaded now: run the cell again.",
                )
            return helps[name](word, *rest)

        return run

    magics.update({name: guarded(name) for name in helps})
    return lambda: magics.update(helps)
