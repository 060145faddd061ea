"""What a setting may hold, and who may set it. Each field in model.py carries such a rule; all else derives from it.

`%load_ext` imports this module and model.py: a class that is made by `dataclass` costs it a millisecond.
"""

from __future__ import annotations

import datetime as dt
import math
import re
from collections.abc import Iterator
from dataclasses import Field, fields
from decimal import Decimal
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple
from urllib.parse import urlsplit

from ipyrouter.config.catalogue import backends, services
from ipyrouter.text import redact, tags

EMBEDDED = "embedded"
"""The base_url that stands for the llama.cpp server inside this process."""
_MOST_DOLLARS = 10**6  # the log holds whole 1e-12 dollars in 64 bits; TOML knows infinity too
_MOST_WHOLE = 10**9


# --- values ---


class Check:
    """The values that a setting takes."""

    remedy: ClassVar[str] = ""  # of a wrong value that may be a key, and is therefore not shown

    def fault(self, value: Any) -> str | None:
        """Return what a value must be instead, in words; None for one that is valid."""
        raise NotImplementedError

    @property
    def words(self) -> str:
        """What it takes, for the reference."""
        return self.fault(None) or ""

    def read(self, value: Any) -> Any:
        """Return a valid value of the TOML as the field holds it."""
        return value


class Number(Check):
    """A number between bounds."""

    def __init__(self, *, above: float | None = None, least: float | None = None, most: float | None = None) -> None:
        self.above, self.least, self.most = above, least, most

    def fault(self, value: Any) -> str | None:
        if isinstance(value, bool) or not isinstance(value, int | float):
            return "a number"
        if isinstance(value, float) and math.isnan(value):
            return "a number"
        if self.above is not None and value <= self.above:
            return f"a number above {self.above:g}"
        if self.least is not None and value < self.least:
            return f"a number of at least {self.least:g}"
        return f"a number of at most {self.most:g}" if self.most is not None and value > self.most else None

    @property
    def words(self) -> str:
        if self.least is not None and self.most is not None:
            return f"a number from {self.least:g} to {self.most:g}"
        return f"a number above {self.above:g}" if self.above is not None else "a number"


class Dollars(Number):
    """An amount of money; the field holds it as a Decimal."""

    def __init__(self) -> None:
        super().__init__(least=0)

    def fault(self, value: Any) -> str | None:
        return super().fault(value) or Number(most=_MOST_DOLLARS).fault(value)

    @property
    def words(self) -> str:
        return "dollars, 0 or more"

    def read(self, value: Any) -> Decimal:
        return Decimal(str(value))


class Whole(Check):
    """A whole number above 0."""

    def fault(self, value: Any) -> str | None:
        if not isinstance(value, int) or isinstance(value, bool) or value <= 0:
            return "a whole number above 0"
        return None if value <= _MOST_WHOLE else f"a whole number of at most {_MOST_WHOLE:g}"


class Flag(Check):
    """True or false."""

    def fault(self, value: Any) -> str | None:
        return None if isinstance(value, bool) else "true or false"


class OneOf(Check):
    """One of some words; ``function``: a Python function will do as well."""

    def __init__(self, *names: str, function: bool = False) -> None:
        self.names, self.function = names, function

    def fault(self, value: Any) -> str | None:
        known = (isinstance(value, str) and value in self.names) or (self.function and callable(value))
        return None if known else f"one of {', '.join(self.names)}"

    @property
    def words(self) -> str:
        return " or ".join(f'"{name}"' for name in self.names) + (" (or a Python function)" if self.function else "")


class Backend(Check):
    """The name of a backend: of this package, or of one that registers its own."""

    @property
    def names(self) -> tuple[str, ...]:
        return backends()

    def fault(self, value: Any) -> str | None:
        built_in = {service.sdk for service in services().values()}  # looking for others takes time
        known = isinstance(value, str) and (value in built_in or value in self.names)
        return None if known else f"one of {', '.join(self.names)}"

    @property
    def words(self) -> str:
        built_in = dict.fromkeys(service.sdk for service in services().values())
        return " or ".join(f'"{name}"' for name in built_in) + ", or one that a package registers"


class String(Check):
    """A string that is not empty and holds no control characters."""

    def fault(self, value: Any) -> str | None:
        if not isinstance(value, str) or not value:
            return "a string"
        return None if value.isprintable() else "a string without control characters"


class Strings(Check):
    """A list of strings; the field holds it as a tuple."""

    def fault(self, value: Any) -> str | None:
        if not isinstance(value, list) or any(String().fault(item) for item in value):
            return "a list of strings"
        return None if value else "a list that is not empty"

    def read(self, value: Any) -> tuple[str, ...]:
        return tuple(value)


class Tags(Strings):
    """A list of tags, which may be empty."""

    def fault(self, value: Any) -> str | None:
        whole = isinstance(value, list) and len(value) <= tags.MOST and all(map(tags.is_tag, value))
        return None if whole else f"a list of at most {tags.MOST} tags of {tags.RULE}"


class Subset(Strings):
    """Some of a few words."""

    def __init__(self, *known: str) -> None:
        self.known = known

    def fault(self, value: Any) -> str | None:
        whole = not super().fault(value) and set(value) <= set(self.known)
        return None if whole else f"a list of some of {', '.join(map(repr, self.known))}"


class Folders(Strings):
    """A list of absolute paths, which may be empty."""

    def fault(self, value: Any) -> str | None:
        whole = isinstance(value, list) and all(not String().fault(item) and _is_absolute(item) for item in value)
        return None if whole else 'a list of whole paths such as ["/home/ada/work"]'


def _is_absolute(path: str) -> bool:
    try:
        return Path(path).expanduser().is_absolute()
    except RuntimeError:  # ~name of no user
        return False


class Variable(Check):
    """The name of an environment variable that holds a key."""

    remedy: ClassVar[str] = "Put the key into that variable."

    def fault(self, value: Any) -> str | None:
        fits = isinstance(value, str) and re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,63}", value)
        # Keys are long and mixed; a variable's name is one or the other.
        mixed = fits and len(value) > 12 and value.upper() != value and len(re.findall(r"\d", value)) >= 3
        named = "the name of an environment variable such as ACME_API_KEY, never the key itself"
        return None if fits and not mixed else named


_NAMED = re.compile(r"\$\{\w+\}")


class Private(String):
    """A string that may be a secret, so that it is shown nowhere; ``${NAME}`` in it stands for a variable's value."""

    remedy: ClassVar[str] = 'A key belongs in a variable: "${NAME}" stands for its value.'

    def fault(self, value: Any) -> str | None:
        if not isinstance(value, str) or not value or not value.isprintable():
            return "a string without control characters"
        if not value.isascii():
            return "a string of ASCII characters"
        return (
            'a string in which each "${" begins a variable, as in "${NAME}"' if "${" in _NAMED.sub("", value) else None
        )

    def read(self, value: Any) -> Any:
        return redact.Private("".join(value))


class Url(Check):
    """An address that a request can be sent to."""

    remedy: ClassVar[str] = "A key belongs in a variable of its own."

    def fault(self, value: Any) -> str | None:
        return (
            None if value == EMBEDDED or _is_url(value) else f'an address that starts with https:// (or "{EMBEDDED}")'
        )


def _is_url(value: Any) -> bool:
    if String().fault(value):
        return False
    try:
        parts = urlsplit("".join(value))  # of an Address, the characters themselves
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a bracket of an IPv6 address that does not close, a port that is not a number
        return False


class Database(Check):
    """Where a PostgreSQL database is, as libpq takes it, without a password: the config is shown and pickled."""

    remedy: ClassVar[str] = "A password belongs in ~/.pgpass, in PGPASSWORD or with the service."

    def fault(self, value: Any) -> str | None:
        is_string = isinstance(value, str) and value.isprintable() and len(value) < 2000
        fits = is_string and (_is_database(value) or re.fullmatch(r"service=[^\s=]+", value))
        return None if fits else "postgresql://USER@HOST/DATABASE, without a password, or service=NAME"


def _is_database(value: str) -> bool:
    try:
        parts = urlsplit(value)
        _ = parts.port
    except ValueError:
        return False
    return parts.scheme in ("postgresql", "postgres") and parts.password is None and "password" not in parts.query


class Date(Check):
    """A day."""

    def fault(self, value: Any) -> str | None:
        # A datetime is a date to Python, but the two cannot be compared.
        return (
            None if isinstance(value, dt.date) and not isinstance(value, dt.datetime) else "a date such as 2027-01-14"
        )


# --- rules ---

InProject = Literal["free", "lower", "block", "never", "own"]
"""What a project's file may do: set anything; no more than the user's own value; only "block"; nothing.

A project that the user's own file trusts may set everything but what is "own".
"""


class Setting(NamedTuple):
    """The rule of a field: what it takes, what a project's file may do with it and why, and its meaning.

    Args:
        check: The values that it takes.
        project: What a project's file may do.
        why: The reason for that.
        help: Its meaning, in one line.
        key: Its dotted key in the TOML, where that is not the field's own name.
        each: What names its entries, where it is a table of names: "model".
        trait: Its name in `%config IPyRouter`, if it has one.
        files_only: It counts in the user's own file alone, not in the environment or as an argument.
    """

    check: Check
    project: InProject
    why: str
    help: str
    key: str = ""
    each: str = ""
    trait: str = ""
    files_only: bool = False


class Table(NamedTuple):
    """The rule of a field that holds settings of its own: their class, and what names its entries, if it has many."""

    holds: type[Any]
    each: str = ""


def setting(
    check: Check,
    project: InProject,
    why: str,
    meaning: str,
    *,
    key: str = "",
    each: str = "",
    trait: str = "",
    files_only: bool = False,
) -> dict[str, Setting]:
    """Return the metadata of a field that is a setting; :class:`Setting` explains the arguments."""
    return {"rule": Setting(check, project, why, meaning, key, each, trait, files_only)}


def table(holds: type[Any], each: str = "") -> dict[str, Table]:
    """Return the metadata of a field that holds settings; see :class:`Table`."""
    return {"rule": Table(holds, each)}


def rules(cls: type[Any]) -> Iterator[tuple[Field[Any], Setting | Table]]:
    """Yield the fields of a class that carry a rule."""
    for item in fields(cls):
        if "rule" in item.metadata:
            yield item, item.metadata["rule"]


def settings(cls: type[Any], path: str = "") -> Iterator[tuple[str, Setting]]:
    """Yield every setting of a class by its dotted key; "<name>" stands for the names of a table's entries."""
    for item, rule in rules(cls):
        key = rule.key if isinstance(rule, Setting) and rule.key else item.name
        dotted = ".".join(filter(None, (path, key, f"<{rule.each}>" if rule.each else "")))
        if isinstance(rule, Table):
            yield from settings(rule.holds, dotted)
        else:
            yield dotted, rule
