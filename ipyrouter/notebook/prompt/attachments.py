"""`--with` and `--error`: what a user hands over beside the prompt. Bounded, and without keys and home paths.

Each piece is a code block, so that the classifier takes it for what it is: pasted material, not the request.
"""

from __future__ import annotations

import collections
import csv
import dataclasses
import inspect
import io
import itertools
import math
import os
import re
import reprlib
import sys
import textwrap
import traceback
import types
from collections.abc import ItemsView, KeysView, Mapping, ValuesView
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from ipyrouter.errors import IPyRouterError, UsageError
from ipyrouter.notebook.prompt.variables import nearest
from ipyrouter.text import redact
from ipyrouter.text.sanitise import fence_for

_MOST = 6000  # characters of one piece
_LONGEST = 1_000_000  # characters that are searched for keys before they are cut to that
_TITLE = 200
_ROWS = 5  # of a table
_COLUMNS = 40
_REMOVED = "[removed]"
_ITEMS = 50  # of a list or dict
_FRAMES = 20  # innermost frames of a traceback

_SECRET_NAME = re.compile(r"(KEY|TOKEN|SECRET|PASSW|CREDENTIAL)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Piece:
    """One thing handed over: what it is, in a few words, and its text."""

    title: str
    body: str
    language: str = ""

    def __str__(self) -> str:
        # The title stands inside the block, too: outside, its words would count as the user's own.
        text = f"{'# ' if self.language else ''}{self.title}:\n{self.body}"
        mark = fence_for(text)
        return f"{mark}{self.language}\n{text}\n{mark}"


def attach(prompt: str, pieces: list[Piece]) -> str:
    """Return the prompt with the pieces below it."""
    return "\n\n".join([prompt, *map(str, pieces)])


def variables(names: str, namespace: Mapping[str, Any]) -> list[Piece]:
    """Return a piece for each of the names, separated by commas. Raises UsageError for one that is not defined."""
    pieces = []
    for name in filter(None, (part.strip() for part in names.split(","))):
        if name not in namespace:
            hint = nearest(name, namespace) or "Define it first."
            raise UsageError(f"--with: there is no variable {name!r}.", hint)
        try:
            pieces.append(_piece(name, namespace[name]))
        except Exception as error:  # noqa: BLE001  a stranger's class may raise anything when it is looked at
            raise UsageError(
                f"--with: {name!r} cannot be described: looking at it raised {type(error).__name__}.",
                "Send a string or a table made of it.",
            ) from None
    return pieces


def failure(error: BaseException | None, source: str | None) -> list[Piece]:
    """Return the last traceback, and the cell that raised it where it is known. Raises UsageError for no error."""
    if error is None:
        raise UsageError("--error: no cell has failed yet.", "Leave --error out.")
    if isinstance(error, SyntaxError) and error.filename is not None:
        lines = traceback.format_exception_only(error)
    else:
        lines = traceback.format_exception(type(error), error, _own_frames(error), limit=-_FRAMES)
    pieces = [Piece("The traceback", _limit(without_secrets(_cut("".join(lines).rstrip())), keep_end=True))]
    if source:
        pieces.insert(0, Piece("The cell that failed", _limit(without_secrets(source.rstrip())), "python"))
    return pieces


def last_error() -> BaseException | None:
    """Return the last uncaught error of the session, unless it is one of our own."""
    error = getattr(sys, "last_value", None)
    return None if isinstance(error, IPyRouterError) else error


def without_secrets(text: str) -> str:
    """Return the text without keys and passwords, and with ~ for the home folder."""
    secrets = {value: name for name, value in os.environ.items() if len(value) >= 8 and _is_secret(name)}
    for value in sorted(secrets, key=len, reverse=True):  # one may begin with another
        text = text.replace(value, f"[{secrets[value]} removed]")
    text = redact.content(redact.hide(text, _configured()))
    for home in {str(Path.home()), str(Path.home().resolve())}:
        if len(home) > 1:
            text = re.sub(re.escape(home) + r"(?![\w.-])", "~", text)
    return re.sub(r"(/home/|/Users/|[A-Za-z]:\\+Users\\+)[^/\\\s:\"']+", "~", text)


def _is_secret(name: str) -> bool:
    """Tell whether an environment variable holds a key, by its name or because the router's config names it."""
    import ipyrouter

    known = ipyrouter._default
    return bool(_SECRET_NAME.search(name)) or any(
        provider.key == name for router in known for provider in router.config.providers.values()
    )


def _configured() -> list[str]:
    """Return the keys of the default router's providers, and the passwords in their addresses."""
    import ipyrouter

    providers = (provider for router in ipyrouter._default for provider in router.config.providers.values())
    return [secret for provider in providers for secret in provider.secrets()]


def _own_frames(error: BaseException) -> Any:
    """Return the traceback from the cell's own frame on: IPython's frames above it say nothing."""
    frames = error.__traceback__
    while frames is not None and "IPython" in frames.tb_frame.f_code.co_filename.replace("\\", "/").split("/"):
        frames = frames.tb_next
    return frames or error.__traceback__


def _piece(name: str, value: Any) -> Piece:
    module = type(value).__module__.partition(".")[0]
    if module == "pandas" and hasattr(value, "dtypes"):
        title, body, language = _table(value)
    elif (module == "polars" and hasattr(value, "rows")) or (module == "pyarrow" and hasattr(value, "num_rows")):
        title, body, language = _columnar(module, value)
    elif module == "polars" and hasattr(value, "collect_schema"):  # a LazyFrame, of which no row is computed
        title, body, language = f"polars {type(value).__name__}", str(dict(value.collect_schema())), ""
    elif hasattr(value, "dtype") and redact.secret_name(getattr(value, "name", None)):  # an Index, a polars Series
        title, body, language = f"{type(value).__name__} {value.name!r}, {value.dtype}", _REMOVED, ""
    elif isinstance(value, ModuleType):
        title, body, language = "module", (value.__doc__ or value.__name__).strip(), ""
    elif inspect.isroutine(value) or isinstance(value, type):
        title, body, language = _source(value)
    elif module == "matplotlib" and hasattr(value, "get_axes"):
        title, body, language = "matplotlib figure", _figure(value), ""
    elif hasattr(value, "shape") and hasattr(value, "dtype"):
        title = f"{type(value).__name__}, shape {tuple(value.shape)}, {value.dtype}"
        body, language = _array(value), ""
    elif isinstance(value, str):
        title, body, language = f"text of {len(value):,} characters", value, ""
    else:
        title, body, language = type(value).__name__, _repr(value), ""
    title = without_secrets(" ".join(title[:_TITLE].split())).replace("`", "'")
    return Piece(f"`{name}` ({title})", _limit(without_secrets(_cut(body))), language)


def _table(value: Any) -> tuple[str, str, str]:
    frame = value if hasattr(value, "columns") else value.to_frame()
    rows, columns = frame.shape
    part = frame.iloc[:, :_COLUMNS]
    missing = part.isna().sum()
    head = _mask(part.head(_ROWS))
    lines = [
        f"{column}: {dtype}" + (f", {missing.iloc[i]:,} missing" if missing.iloc[i] else "")
        for i, (column, dtype) in enumerate(zip(head.columns, part.dtypes, strict=True))
    ]
    if columns > _COLUMNS:
        lines.append(f"… and {columns - _COLUMNS:,} more columns")
    what = "DataFrame" if hasattr(value, "columns") else "Series"
    return (
        f"pandas {what}, {rows:,} rows × {columns:,} columns",
        "\n".join([*lines, "", redact.fields(head.to_csv().rstrip())]),
        "",
    )


def _mask(head: Any) -> Any:
    """Return the first rows without the values of columns, rows and index levels whose names are those of secrets."""
    import pandas as pd

    hidden = _secret_labels(head.columns)
    rows = _secret_labels(head.index)
    masked = head.astype(object)
    for place in range(masked.shape[1]):
        column = masked.iloc[:, place]
        cells = [_REMOVED if hidden[place] or rows[row] else _cell(value) for row, value in enumerate(column.to_list())]
        masked.isetitem(place, pd.Series(cells, index=masked.index, dtype=object))
    for axis in ("index", "columns"):
        labels = getattr(masked, axis)
        secret = [redact.secret_name(level) for level in labels.names]
        if any(secret):
            levels = [
                [_REMOVED] * len(labels) if hide else labels.get_level_values(place)
                for place, hide in enumerate(secret)
            ]
            several = len(levels) > 1
            index = pd.MultiIndex.from_arrays(levels, names=labels.names) if several else pd.Index(levels[0])
            setattr(masked, axis, index.set_names(labels.names))
    return masked


def _secret_labels(labels: Any) -> list[bool]:
    """Tell for each label, at any level of it, whether it is the name of a secret."""
    return [any(map(redact.secret_name, label if isinstance(label, tuple) else (label,))) for label in labels]


def _cell(value: Any) -> Any:
    return _repr(value) if isinstance(value, list | tuple | dict | set) or _has_fields(value) else value


def _columnar(module: str, value: Any) -> tuple[str, str, str]:
    """Describe a polars or pyarrow table as pandas' are: names and types, then the first rows."""
    if module == "polars":
        names, types, rows = value.columns, value.dtypes, value.height
        head = value.head(_ROWS).rows()
    else:
        names, types, rows = value.schema.names, value.schema.types, value.num_rows
        head = list(zip(*(column.to_pylist() for column in value.slice(0, _ROWS).columns), strict=True))
    lines = [f"{name}: {kind}" for name, kind in zip(names[:_COLUMNS], types, strict=False)]
    if len(names) > _COLUMNS:
        lines.append(f"… and {len(names) - _COLUMNS:,} more columns, up to {names[-1]}")
    hidden = [redact.secret_name(name) for name in names[:_COLUMNS]]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names[:_COLUMNS])
    for row in head:
        writer.writerow(_REMOVED if hide else _cell(cell) for cell, hide in zip(row, hidden, strict=False))
    what = f"{module} {type(value).__name__}, {rows:,} rows × {len(names):,} columns"
    return what, "\n".join([*lines, "", redact.fields(text.getvalue().rstrip())]), ""


def _array(array: Any) -> str:
    """Return an array's repr, a structured one's without its secret fields."""
    names = getattr(array.dtype, "names", None) or ()
    hidden = [name for name in names if redact.secret_name(name)]
    visible = array[[name for name in names if name not in hidden]] if hidden else array
    return "\n".join([redact.fields(_cut(repr(visible))), *(f"{name}: {_REMOVED}" for name in hidden)])


def _source(value: Any) -> tuple[str, str, str]:
    kind = "class" if isinstance(value, type) else "function"
    try:
        return kind, textwrap.dedent(inspect.getsource(value)).rstrip(), "python"
    except (OSError, TypeError):  # built in, or typed where no source is kept
        return f"{kind}, no source", f"{value!r}\n{inspect.getdoc(value) or ''}".rstrip(), ""


def _figure(figure: Any) -> str:
    lines = []
    for number, axes in enumerate(figure.get_axes(), 1):
        lines.append(f"axes {number}: title {axes.get_title()!r}, x {axes.get_xlabel()!r}, y {axes.get_ylabel()!r}")
        lines.append(f"  x from {axes.get_xlim()[0]:g} to {axes.get_xlim()[1]:g}, y from {axes.get_ylim()[0]:g}")
        lines[-1] += f" to {axes.get_ylim()[1]:g}; {axes.get_xscale()} by {axes.get_yscale()}"
        lines += [f"  line {line.get_label()!r}: {len(line.get_xdata()):,} points" for line in axes.get_lines()]
        for kind in ("patches", "collections", "images"):
            if artists := getattr(axes, kind):
                lines.append(f"  {len(artists):,} {kind}")
    return "\n".join(lines) or "no axes"


def _repr(value: Any) -> str:
    """Return a value's repr without building that of a million items first."""
    if isinstance(value, bytes | bytearray) and len(value) > _MOST:
        return f"{bytes(value[:_MOST])!r}, the first {_MOST:,} of {len(value):,} bytes"
    short = _Short()
    if isinstance(value, int) and not isinstance(value, bool):
        return short.repr_int(value, 1)
    if _has_fields(value):
        return redact.fields(short.repr(value))
    views = isinstance(value, KeysView | ValuesView | ItemsView)
    if not views and not isinstance(value, dict | list | tuple | set | frozenset | collections.deque):
        return redact.fields(_cut(repr(value)))
    if len(value) <= short.maxlist:
        return f"{type(value).__name__}({short.repr(list(value))})" if views else redact.fields(short.repr(value))
    items = value.items() if isinstance(value, dict) else value
    first = list(itertools.islice(items, short.maxlist + 1))
    begins = short.repr(dict(first) if isinstance(value, dict) else first)
    return redact.fields(f"{type(value).__name__} of {len(value):,}: {begins}")


class _Short(reprlib.Repr):
    """Short reprs without the values of keys and fields whose names are those of secrets."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlist = self.maxtuple = self.maxset = self.maxfrozenset = self.maxdict = self.maxdeque = _ITEMS
        self.maxstring = self.maxother = self.maxlong = 500
        self.maxlevel = 4

    def repr_int(self, x: int, level: int) -> str:  # reprlib's name
        """Return an int; one of more digits than Python writes as roughly what it is."""
        try:
            return super().repr_int(x, level)
        except ValueError:
            exponent = math.log10(abs(x))
            size = f"{'-' if x < 0 else ''}{10 ** (exponent % 1):.3f}e{int(exponent)}"
            return f"about {size}, an int of {int(exponent) + 1:,} digits that ends in {abs(x) % 10**12:012}"

    def repr_dict(self, x: Any, level: int) -> str:
        """Return a dict in its own order."""
        return f"{{{self._pairs(x.items(), len(x), ': ', level)}}}"

    def repr_tuple(self, x: Any, level: int) -> str:
        """Return a tuple; the text in a pair with the name of a secret, as of a dict's items, is one."""
        if len(x) == 2 and redact.secret_name(x[0]) and isinstance(x[1], str | bytes):
            return f"({x[0]!r}, {_REMOVED})"
        return super().repr_tuple(x, level)

    def repr_str(self, x: str, level: int) -> str:
        """Take keys out before the text is cut: half of one is not known any more."""
        return super().repr_str(without_secrets(_cut(x)) if len(x) > self.maxstring else x, level)

    def repr_instance(self, x: Any, level: int) -> str:
        """Return what has fields, and dicts of other classes, field by field."""
        if isinstance(x, dict):
            return f"{type(x).__name__}({self.repr_dict(x, level)})"
        if (fields := _fields(x)) is not None:
            return f"{type(x).__qualname__}({self._pairs(fields.items(), len(fields), '=', level)})"
        return super().repr_instance(x, level)

    def _pairs(self, items: Any, count: int, between: str, level: int) -> str:
        if level <= 0 and count:
            return self.fillvalue
        pieces = []
        for key, value in itertools.islice(items, self.maxdict):
            name = key if between == "=" else self.repr1(key, level - 1)
            text = _REMOVED if redact.secret_name(key) and value is not None else self.repr1(value, level - 1)
            pieces.append(f"{name}{between}{text}")
        return ", ".join([*pieces, *([self.fillvalue] if count > self.maxdict else [])])


def _has_fields(value: Any) -> bool:
    return _fields(value) is not None


def _fields(value: Any) -> dict[str, Any] | None:
    """Return the fields of a dataclass's, namedtuple's or namespace's instance that shows them itself, else None."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type) and hasattr(type(value).__repr__, "__wrapped__"):
        return {f.name: getattr(value, f.name) for f in dataclasses.fields(value) if f.repr}
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return dict(value._asdict())
    if isinstance(value, types.SimpleNamespace):
        return dict(vars(value))
    return None


def _cut(text: str) -> str:
    """Cut a huge text in the middle, far more generously than in the end, so that no key is cut into two."""
    if len(text) <= _LONGEST:
        return text
    half = _LONGEST // 2
    return f"{text[:half]}\n… {len(text) - 2 * half:,} characters left out …\n{text[-half:]}"


def _limit(text: str, *, keep_end: bool = False) -> str:
    """Cut a long text in the middle, or with ``keep_end`` at its beginning."""
    if len(text) <= _MOST:
        return text
    head = _MOST // 6 if keep_end else _MOST * 2 // 3
    omission = f"\n… {len(text) - _MOST:,} characters left out …\n"
    return text[:head] + omission + text[len(text) - (_MOST - head) :]
