"""Prompts with places for values: ``{{name}}``."""

from __future__ import annotations

import ast
import re
import unicodedata
import warnings
from collections.abc import Container

PLACE = re.compile(r"\{\{(?!\{)((?:(?!\{\{|\}\}).)+)\}\}", re.DOTALL)
"""A place for a value; what stands between the braces is the first group."""

_LONGEST = 1000  # characters that are taken for an expression
_BEGINS = re.compile(r"([^\W\d]\w*)(?:[.\[(]|![rsa]|:\S)")  # total:.2f and frame.head( are no Python, but are meant so
_FSTRING = re.compile(r"[rR]?[fF][rR]?[\"']")


def name_in(place: re.Match[str]) -> str:
    """Return what stands between the braces, as Python reads a name."""
    return unicodedata.normalize("NFKC", place[1].strip())


def is_expression(words: str, names: Container[str]) -> bool:
    """Tell whether the words between the braces are meant as Python: they call, or read a name that there is.

    Args:
        words: The words.
        names: The names that there are.
    """
    if len(words) > _LONGEST:
        return False
    if _FSTRING.match(words):
        return True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(words, mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        begins = _BEGINS.match(words)
        return begins is not None and begins[1] in names
    return any(
        isinstance(node, ast.Call) or (isinstance(node, ast.Name) and node.id in names) for node in ast.walk(tree)
    )
