"""A prompt with `{{column}}` and `{{variable}}` in it, and what it comes to for each row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ipyrouter.batch.tables import NAMELESS, Table
from ipyrouter.errors import UsageError, did_you_mean
from ipyrouter.text.templates import PLACE, is_expression, name_in


@dataclass(frozen=True, slots=True)
class Missing:
    """Why a row has no prompt."""

    reason: str


class Template:
    """A prompt whose places are known to have a column or a variable.

    Args:
        text: The prompt. `{{name}}` is a column of the data or else one of the variables.
        table: The data.
        variables: Values that are the same for all rows.

    Raises:
        UsageError: A name is neither a column nor a variable, or no column is named at all.
    """

    def __init__(self, text: str, table: Table, variables: Mapping[str, Any]) -> None:
        self._pieces: list[str] = [""]
        self._columns: list[tuple[str, Sequence[Any]]] = []
        alias = _alias(text, table, variables)
        position = 0
        for place in PLACE.finditer(text):
            name = name_in(place)
            self._pieces[-1] += text[position : place.start()]
            position = place.end()
            column = alias.get(name, name)
            if column in table.columns:
                if column in table.twice:
                    raise UsageError(f"{place[0]}: the data have two columns {name!r}.", "Rename one of them.")
                self._columns.append((name, table.columns[column]))
                self._pieces.append("")
            elif name in variables:
                self._pieces[-1] += inserted(name, variables[name])
            elif name.isidentifier():
                raise UsageError(
                    f"{place[0]}: there is no column and no variable {name!r}.", _nearest(name, table, variables)
                )
            elif is_expression(name, {*table.columns, *variables}):
                raise UsageError(
                    f"{place[0]}: only a name can be inserted, not an expression.",
                    "Make a column of it before, and insert that.",
                )
            else:  # braces that mean themselves, as in JSON
                self._pieces[-1] += place[0]
        self._pieces[-1] += text[position:]
        self.fixed = "{{}}".join(self._pieces)
        if not self._columns:
            names = ", ".join(f"{{{{{name or 'value'}}}}}" for name in list(table.columns)[:5])
            raise UsageError("The prompt names no column, so all rows would be the same.", f"Write {names} in it.")

    def fill(self) -> Iterator[str | Missing]:
        """Yield the prompt of each row."""
        for values in zip(*(column for _, column in self._columns), strict=True):
            if lacks := [name for (name, _), value in zip(self._columns, values, strict=True) if is_missing(value)]:
                yield Missing(f"{', '.join(lacks)} is missing")
                continue
            try:
                strings = [str(value) for value in values]
            except Exception as error:  # noqa: BLE001  a stranger's class may raise anything
                yield Missing(f"str() of the value raised {type(error).__name__}")
                continue
            if not any(map(str.strip, strings)):
                yield Missing(f"{', '.join(name for name, _ in self._columns)} is blank")
                continue
            parts = [self._pieces[0]]
            for string, piece in zip(strings, self._pieces[1:], strict=True):
                parts += (string, piece)
            yield "".join(parts)


def used_in(text: str) -> set[str]:
    """Return the names in a prompt: of columns, of variables, or of neither."""
    return {name_in(place) for place in PLACE.finditer(text)}


def is_missing(value: Any) -> bool:
    """Tell whether a value is None, NaN, NaT or pandas' NA."""
    if value is None:
        return True
    if isinstance(value, str | int):
        return False
    try:
        return bool(value != value)  # noqa: PLR0124  NaN and NaT
    except TypeError:  # pandas' NA has no truth
        return True
    except ValueError:  # an array
        return False


def _alias(text: str, table: Table, variables: Mapping[str, Any]) -> dict[str, str]:
    """Return by which name in the prompt a single column is meant: the only one that means nothing else."""
    if not table.single:
        return {}
    (column,) = table.columns
    names = set(filter(str.isidentifier, used_in(text)))
    unknown = [name for name in names if name not in variables]
    if column in names and column != NAMELESS:
        return {}
    if len(unknown) > 1:
        listed = ", ".join(f"{{{{{name}}}}}" for name in sorted(unknown))
        raise UsageError(
            f"The data are one column, and the prompt has several names for it: {listed}.",
            "Give a DataFrame with these columns, or variables={…}.",
        )
    return dict.fromkeys(unknown, column)


def _nearest(name: str, table: Table, variables: Mapping[str, Any]) -> str:
    names = [*filter(None, table.columns), *(one for one in variables if isinstance(one, str) and one[:1] != "_")]
    hint = did_you_mean(name, names)
    if hint.startswith("Did"):
        return hint
    return f"Columns: {', '.join(filter(None, table.columns))}." if any(table.columns) else ""


def inserted(name: str, value: Any) -> str:
    """Return a variable as it stands in the prompt. Raises UsageError where it has no str()."""
    try:
        return str(value)
    except Exception as error:  # noqa: BLE001
        raise UsageError(
            f"{{{{{name}}}}} cannot be inserted: str() of it raised {type(error).__name__}.",
            "Insert a string made of it.",
        ) from None
