"""`{{name}}` in a prompt: the one opt-in. A plain identifier, never an expression, attribute or index."""

from __future__ import annotations

import builtins
import inspect
import re
import sys
from collections import ChainMap
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ipyrouter.errors import UsageError, did_you_mean
from ipyrouter.text.templates import PLACE, is_expression, name_in

_IPYTHONS = ("In", "Out", "exit", "quit", "get_ipython", "open")
_MACHINERY = ("IPython", "ipyrouter")


@dataclass(frozen=True, slots=True)
class Scope:
    """What the names in a magic mean: the variables, and the function in which it stands ("": none)."""

    variables: Mapping[str, Any]
    function: str = ""
    local: frozenset[str] = frozenset()


def scope(namespace: Mapping[str, Any]) -> Scope:
    """Return what the code that called the magic sees, as in Python: its function, those around it, its module.

    Args:
        namespace: The notebook's variables, which come last.
    """
    frame = sys._getframe(1)
    while frame.f_back and str(frame.f_globals.get("__name__")).partition(".")[0] in _MACHINERY:
        frame = frame.f_back
    layers: list[Any] = [] if frame.f_locals is frame.f_globals else [frame.f_locals]
    code = frame.f_code
    outer = frame.f_back
    while outer is not None:  # a comprehension's or inner function's own variables are not all that it may read
        if outer.f_code.co_flags & inspect.CO_OPTIMIZED and any(part is code for part in outer.f_code.co_consts):
            layers.append(outer.f_locals)
            code = outer.f_code
        outer = outer.f_back
    variables = ChainMap(*layers, frame.f_globals, namespace)  # type: ignore[arg-type]  # it is only read
    code = frame.f_code
    if not code.co_flags & inspect.CO_OPTIMIZED:
        return Scope(variables)
    return Scope(variables, code.co_name, frozenset(code.co_varnames + code.co_cellvars + code.co_freevars))


def insert(prompt: str, namespace: Mapping[str, Any]) -> str:
    """Return the prompt with each ``{{name}}`` replaced by ``str()`` of the variable; all else stays verbatim.

    Raises:
        UsageError: For a name that is not defined, an expression, or a variable that cannot be a string.
    """

    def value(match: re.Match[str]) -> str:
        words = name_in(match)
        if not words.isidentifier():
            if is_expression(words, namespace):
                raise UsageError(
                    f"{match[0]}: only a plain variable can be inserted, no expression.",
                    f"Give it a name first, as in text = {words}, and write {{{{text}}}}."
                    " Or use --raw to send the braces as they are.",
                )
            return match[0]
        if words not in namespace:
            raise UsageError(
                f"{match[0]}: there is no variable {words!r}.",
                f"{nearest(words, namespace)} Or use --raw to send the braces as they are.".strip(),
            )
        return _string(words, namespace[words])

    return PLACE.sub(value, prompt)


def _string(name: str, value: Any) -> str:
    try:
        return str(value)
    except Exception as error:  # noqa: BLE001  a stranger's class may raise anything
        remedy = f"Use --with {name}, which cuts it." if isinstance(value, int) else "Insert a string made of it."
        raise UsageError(
            f"{{{{{name}}}}} cannot be inserted: str() of it raised {type(error).__name__}.", remedy
        ) from None


def nearest(name: str, namespace: Mapping[str, Any]) -> str:
    """Return "Did you mean 'x'?" for the user's variable with the nearest name, or nothing."""
    names = [known for known in namespace if isinstance(known, str)]  # globals() takes anything
    own = [known for known in names if not known.startswith("_") and known not in _IPYTHONS]
    hint = did_you_mean(name, own)
    return hint if hint.startswith("Did") else ""


def schema(name: str, namespace: Mapping[str, Any]) -> Any:
    """Return the class or the dict that ``--schema`` names.

    Raises:
        UsageError: There is none of that name.
    """
    first, *attributes = name.split(".")
    value = namespace.get(first, getattr(builtins, first, None))
    for attribute in attributes:
        value = getattr(value, attribute, None)
    if value is None:
        kinds = [known for known, kind in namespace.items() if isinstance(kind, type | dict) and known[:1] != "_"]
        near = did_you_mean(name, kinds)
        remedy = near if near.startswith("Did") else "Define a class or a dict of that name in a cell above."
        raise UsageError(f"--schema {name}: there is no such name here.", remedy)
    return value
