"""What each setting takes, and what a project's file may do with it."""

from __future__ import annotations

import datetime as dt
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from ipyrouter.config.catalogue import backends, services
from ipyrouter.config.model import EMBEDDED
from ipyrouter.errors import ConfigError, did_you_mean
from ipyrouter.text import redact
from ipyrouter.types import TIERS

Checker = Callable[[Any], str | None]


def _number(*, above: float | None = None, least: float | None = None, most: float | None = None) -> Checker:
    def check(value: Any) -> str | None:
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or (isinstance(value, float) and math.isnan(value))
        ):
            return "a number"
        if above is not None and value <= above:
            return f"a number above {above:g}"
        if least is not None and value < least:
            return f"a number of at least {least:g}"
        return f"a number of at most {most:g}" if most is not None and value > most else None

    return check


def _whole(value: Any) -> str | None:
    return None if isinstance(value, int) and not isinstance(value, bool) and value > 0 else "a whole number above 0"


def _text(value: Any) -> str | None:
    return None if isinstance(value, str) and value else "a text"


def _flag(value: Any) -> str | None:
    return None if isinstance(value, bool) else "true or false"


@dataclass(frozen=True)
class _OneOf:
    names: tuple[str, ...]
    function: bool = False  # a Python function will do as well

    def __call__(self, value: Any) -> str | None:
        known = (isinstance(value, str) and value in self.names) or (self.function and callable(value))
        return None if known else f"one of {', '.join(self.names)}"


class _Backend:
    """The name of a backend: of this package, or of one that registers its own."""

    @property
    def names(self) -> tuple[str, ...]:
        return backends()

    def __call__(self, value: Any) -> str | None:
        built_in = {service.sdk for service in services().values()}  # looking for others takes time
        known = isinstance(value, str) and (value in built_in or value in self.names)
        return None if known else f"one of {', '.join(self.names)}"


def _one_of(*names: str) -> _OneOf:
    return _OneOf(names)


def _variable(value: Any) -> str | None:
    fits = isinstance(value, str) and re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,63}", value)
    # Keys are long and mixed; a variable's name is one or the other.
    mixed = fits and len(value) > 12 and value.upper() != value and len(re.findall(r"\d", value)) >= 3
    return (
        None if fits and not mixed else "the name of an environment variable such as ACME_API_KEY, never the key itself"
    )


def _texts(value: Any) -> str | None:
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return None if value else "a list that is not empty"
    return "a list of texts"


def _folders(value: Any) -> str | None:
    whole = isinstance(value, list) and all(isinstance(v, str) and Path(v).expanduser().is_absolute() for v in value)
    return None if whole else 'a list of whole paths such as ["/home/ada/work"]'


def _elsewhere(_: Any) -> str | None:
    return "in your own config file, where alone it counts"


def _url(value: Any) -> str | None:
    try:
        fits = isinstance(value, str) and urlsplit(value).scheme in ("http", "https")
    except ValueError:  # an address of IPv6 whose bracket does not close
        fits = False
    if value == EMBEDDED or fits:
        return None
    return f'an address that starts with https:// (or "{EMBEDDED}")'


def _date(value: Any) -> str | None:
    return None if isinstance(value, dt.date) else "a date such as 2027-01-14"


_MOST = 10**6  # dollars: the log holds whole 1e-12 dollars in 64 bits; TOML knows infinity too
_DEADLINES: dict[str, Any] = {name: _number(above=0, most=10**6) for name in ("connect", "first_byte", "idle", "total")}
_TIER: dict[str, Any] = {"chain": _texts, "max_output_tokens": _whole, "deadlines": _DEADLINES}
FREE = "*"
SCHEMA: dict[str, Any] = {
    "preset": _one_of("current", "article"),
    "routing": {
        "mode": _OneOf(("learned", "rules", "hybrid"), function=True),
        "fast_below": _number(least=0, most=1),
        "power_above": _number(least=0, most=1),
        "confirm_tokens": _whole,
    },
    "providers": {
        FREE: {
            "sdk": _Backend(),
            "base_url": _url,
            "key": _variable,
            "stream": _flag,
            "gguf": _text,
        }
    },
    "tiers": dict.fromkeys(TIERS, _TIER),
    "deadlines": _DEADLINES,
    "prices": {
        FREE: {name: _number(least=0, most=_MOST) for name in ("input", "output", "cached_input", "cache_write")}
    },
    "validation": {"escalate": _flag},
    "budget": {
        **{k: _number(least=0, most=_MOST) for k in ("call", "session", "day", "month")},
        "action": _one_of("downgrade", "block"),
    },
    "cache": {"enabled": _flag, "ttl_days": _number(above=0, most=10**5), "max_mb": _number(above=0, most=10**9)},
    "log": {"content": _flag},
    "display": {"format": _one_of("markdown", "text"), "stream": _flag},
    "aliases": {FREE: _text},
    "retired": {FREE: _date},
    "successors": {FREE: _text},
    "signals": {"power": _texts, "fast": _texts, "power_above_words": _whole},
    "trust": {"projects": _folders},
}
OTHERS = {**SCHEMA, "trust": _elsewhere}
"""The schema of what stands in no file: environment, arguments, %config."""

Rule = Literal["free", "lower", "block", "never"]
PROJECT: dict[str, tuple[Rule, str]] = {
    "preset": ("free", "it names chains among your own providers"),
    "routing.mode": ("free", "it chooses among your tiers"),
    "routing.fast_below": ("free", "it chooses among your tiers"),
    "routing.power_above": ("free", "it chooses among your tiers"),
    "routing.confirm_tokens": ("lower", "higher than your own: large prompts would go out without a question"),
    "providers.*": ("never", "it decides where keys and prompts are sent"),
    "tiers.*": ("free", "a project knows which models do its work, within your budgets"),
    "deadlines.*": ("free", "it goes with the chains: how long their models may take"),
    "prices.*": ("never", "budgets and the log would count other prices than yours"),
    "validation.escalate": ("never", "whether weak answers are asked again is your choice"),
    "budget.action": ("block", "it would go on where you want to stop"),
    "budget.*": ("lower", "higher than your own"),
    "cache.*": ("never", "what is stored on your machine, and for how long, is your choice"),
    "log.*": ("never", "what is logged is your choice"),
    "display.*": ("never", "how answers are shown is your choice"),
    "aliases.*": ("never", "a name would mean another model than you think"),
    "retired.*": ("never", "it would switch models of yours off or on"),
    "successors.*": ("never", "it would advise another model"),
    "signals.*": ("free", "it chooses among your tiers"),
    "trust.*": ("never", "only you say whom you trust"),
}
"""What a project's file may set, by dotted key (the first pattern that fits), and why not what it may not.

free: anything; lower: no more than the user's own value; block: only "block"; never: nothing, unless the user's file
trusts the project's folder.
"""


def validate(data: Any, schema: Any, source: str, path: str = "") -> None:
    """Raise ConfigError for the first key that is unknown or of the wrong type; what may be a secret is not shown."""
    if not isinstance(schema, dict):
        if wanted := schema(data):
            if schema is _variable:  # what stands there may be the key itself
                raise ConfigError(f"{source}: {path} must be {wanted}.", "Put the key into that variable.")
            if schema is _url:  # a wrong address may be a key, or hold a password
                raise ConfigError(f"{source}: {path} must be {wanted}.", "A key belongs in a variable of its own.")
            names = schema.names if isinstance(schema, _OneOf | _Backend) else ()
            near = did_you_mean(data, names) if names and isinstance(data, str) else ""
            hint = f" {near}" if near.startswith("Did") else ""
            raise ConfigError(f"{source}: {path} must be {wanted},", f"not {redact.excerpt(data)}.{hint}")
        return
    if not isinstance(data, dict):
        raise ConfigError(f"{source}: {path} must be a table,", f"not {redact.excerpt(data)}.")
    for key, value in data.items():
        named = redact.name(str(key))
        dotted = f"{path}.{named}" if path else named
        if key not in schema and FREE not in schema:
            raise ConfigError(f"{source}: unknown key {dotted!r}.", did_you_mean(str(key), schema))
        validate(value, schema.get(key, schema.get(FREE)), source, dotted)
