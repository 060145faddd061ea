"""`{{name}}` in a prompt: the one opt-in. A plain identifier, never an expression, attribute or index."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ipyrouter.errors import UsageError, did_you_mean

_IPYTHONS = ("In", "Out", "exit", "quit", "get_ipython", "open")
_PLACE = re.compile(r"\{\{\s*([^\W\d]\w*)\s*\}\}")


def insert(prompt: str, namespace: Mapping[str, Any]) -> str:
    """Return the prompt with each ``{{name}}`` replaced by ``str()`` of the variable; all else stays verbatim.

    Raises UsageError for a name that is not defined.
    """

    def value(match: re.Match[str]) -> str:
        name = match[1]
        if name not in namespace:
            raise UsageError(
                f"{match[0]}: there is no variable {name!r}.",
                f"{nearest(name, namespace)} Or use --raw to send the braces as they are.".strip(),
            )
        return str(namespace[name])

    return _PLACE.sub(value, prompt)


def nearest(name: str, namespace: Mapping[str, Any]) -> str:
    """Return "Did you mean 'x'?" for the person's variable with the nearest name, or nothing."""
    names = [known for known in namespace if isinstance(known, str)]  # globals() takes anything
    own = [known for known in names if not known.startswith("_") and known not in _IPYTHONS]
    hint = did_you_mean(name, own)
    return hint if hint.startswith("Did") else ""
