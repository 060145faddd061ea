"""`{{name}}` in a prompt: the one opt-in. A plain identifier, never an expression, attribute or index."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ipyrouter.errors import UsageError, did_you_mean

_PLACE = re.compile(r"\{\{\s*([^\W\d]\w*)\s*\}\}")


def insert(prompt: str, namespace: Mapping[str, Any]) -> str:
    """Return the prompt with each ``{{name}}`` replaced by ``str()`` of the variable; all else stays verbatim.

    Raises UsageError for a name that is not defined.
    """

    def value(match: re.Match[str]) -> str:
        name = match[1]
        if name not in namespace:
            near = did_you_mean(name, [known for known in namespace if isinstance(known, str) and known[:1] != "_"])
            hint = near if near.startswith("Did") else ""
            raise UsageError(
                f"{match[0]}: there is no variable {name!r}.",
                f"{hint} Or use --raw to send the braces as they are.".strip(),
            )
        return str(namespace[name])

    return _PLACE.sub(value, prompt)
