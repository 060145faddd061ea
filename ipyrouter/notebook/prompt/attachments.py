"""`--with` and `--error`: what a user hands over beside the prompt. Bounded, and without keys and home paths.

Each piece is a code block, so that the classifier takes it for what it is: pasted material, not the request.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import datetime as dt
import decimal
import inspect
import itertools
import math
import os
import re
import reprlib
import sys
import textwrap
import traceback
import types
from collections.abc import ItemsView, Iterator, KeysView, Mapping, ValuesView
from pathlib import Path
from types import ModuleType
from typing import Any

from ipyrouter.errors import IPyRouterError, UsageError
from ipyrouter.notebook.prompt import documents, pictures
from ipyrouter.notebook.prompt.documents import Document
from ipyrouter.notebook.prompt.pictures import Picture
from ipyrouter.notebook.prompt.pieces import Piece
from ipyrouter.notebook.prompt.tables import REMOVED, Choice, Table, table_of
from ipyrouter.notebook.prompt.variables import nearest
from ipyrouter.text import redact

_MOST = 6000  # characters of one piece
_LONGEST = 1_000_000  # characters that are searched for keys before they are cut to that
_TITLE = 200
_MOST_DIGITS = 20_000  # of a number: writing so many takes a millisecond
_LONGEST_CELL = 500
_SEARCHED_CELL = 20_000  # characters of a cell that are searched for keys: one that is cut there is far from the 500
_SCALARS = (bool, float, complex, decimal.Decimal, dt.date, dt.time, dt.timedelta)
_ITEMS = 50  # of a list or dict
_FRAMES = 20  # innermost frames of a traceback

_OUT = re.compile(r"Out\[(\d{1,6})\]")
EVERYTHING = Choice()
NO_OUTPUTS: Mapping[int, Any] = types.MappingProxyType({})

# A home folder of Windows may have blanks in its name, and any letters in any case.
_HOMES = re.compile(
    r"(?i:[a-z]:[\\/]+(?:users|documents and settings)[\\/]+)(?:[^/\\:\"'\n]{1,40}(?=[\\/])|[^/\\\s:\"']+)"
    r"|(?:/home/|/Users/)[^/\\\s:\"']+"
)
_SECRET_NAME = re.compile(r"(KEY|TOKEN|SECRET|PASSW|CREDENTIAL)", re.IGNORECASE)


def variables(
    names: str, namespace: Mapping[str, Any], choice: Choice = EVERYTHING, outputs: Mapping[int, Any] = NO_OUTPUTS
) -> list[Piece]:
    """Return a piece for each of the names, separated by commas.

    Args:
        names: Variables, `Out[n]`, and paths of pictures and PDF files.
        namespace: The variables.
        choice: Which rows and columns of tables.
        outputs: What IPython's history holds of each cell's outputs, by the cell's number.

    Raises:
        UsageError: For a name that is not defined, or a value that cannot be described.
    """
    pieces: list[Piece] = []
    parts = list(filter(None, (part.strip() for part in names.split(","))))
    if not parts:
        raise UsageError("--with names nothing.", "Name variables, as in --with df,fig, or leave it out.")
    for name in parts:
        try:
            value = _value(name, namespace, outputs)
            try:
                pieces.append(_piece(name, value, choice))
            except ValueError:
                with _long_numbers():
                    pieces.append(_piece(name, value, choice))
        except IPyRouterError:
            raise
        except Exception as error:  # noqa: BLE001  a stranger's class may raise anything when it is looked at
            raise UsageError(
                f"--with: {name!r} cannot be described: looking at it raised {type(error).__name__}.",
                "Send a string or a table made of it.",
            ) from None
    return pieces


@contextlib.contextmanager
def _long_numbers() -> Iterator[None]:
    """Let Python write numbers of more digits than usual: one in a range or an Index would keep all of it back."""
    before = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(max(before, _MOST_DIGITS) if before else 0)
    try:
        yield
    finally:
        sys.set_int_max_str_digits(before)


def _value(name: str, namespace: Mapping[str, Any], outputs: Mapping[int, Any]) -> Any:
    """Return what a name of `--with` means. Raises UsageError for one that is not defined."""
    if name in namespace:
        return namespace[name]
    if (output := _OUT.fullmatch(name)) is not None:
        number = int(output[1])
        shown = pictures.in_outputs(outputs.get(number, ()))
        values = namespace.get("Out", {})
        if shown is None and number not in values:
            raise UsageError(f"--with: cell [{number}] has put out no value and no picture.", "Give it a name instead.")
        value = values.get(number)
        return shown if shown is not None and pictures.picture_of(value) is None else value
    path = pictures.picture_path(name) or documents.document_path(name)
    if path is not None:
        return path
    if Path(name).suffix and Path(name).is_file():
        raise UsageError(f"--with: there is no variable {name!r}.", f"It is a file: send it with --file {name}.")
    if name.lower().endswith((*pictures.SUFFIXES, ".pdf")):
        where = f"Relative paths begin at {without_secrets(str(Path.cwd()))}."
        raise UsageError(f"--with: {name} is no variable, and no file that is there.", where)
    hint = nearest(name, namespace) or "Define it first."
    if re.search(r"[.\[(]", name):
        hint = f"Give what it is a name first, as in part = {name}, and write --with part."
    raise UsageError(f"--with: there is no variable {name!r}.", hint)


def failure(error: BaseException | None, source: str | None) -> list[Piece]:
    """Return the last traceback, and the cell that raised it where it is known. Raises UsageError for no error."""
    if error is None:
        raise UsageError("--error: no cell has failed yet.", "Leave --error out.")
    if isinstance(error, SyntaxError) and error.filename is not None:
        lines = traceback.format_exception_only(error)
    else:
        lines = traceback.format_exception(type(error), error, _own_frames(error), limit=-_FRAMES)
    pieces = [Piece("The traceback", bounded(without_secrets(_cut("".join(lines).rstrip())), keep_end=True))]
    if source:
        pieces.insert(0, Piece("The cell that failed", bounded(without_secrets(source.rstrip())), "python"))
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
    return _HOMES.sub("~", text)


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


def _piece(name: str, value: Any, choice: Choice) -> Piece:
    if (picture := value if isinstance(value, Picture) else pictures.picture_of(value)) is not None:
        return of_picture(name, picture)
    if (path := documents.document_path(value)) is not None:
        return of_document(documents.read(path, _MOST), _MOST)
    if (table := table_of(value, choice, cell)) is not None:
        return of_table(name, table, choice.most)
    typed = hasattr(type(value), "dtype")  # of its class: a mock or a proxy has whatever it is asked for
    if typed and redact.secret_name(getattr(value, "name", None)):  # an Index
        title, body, language = f"{type(value).__name__} {value.name!r}, {value.dtype}", REMOVED, ""
    elif isinstance(value, ModuleType):
        title, body, language = "module", (value.__doc__ or value.__name__).strip(), ""
    elif inspect.isroutine(value) or isinstance(value, type):
        title, body, language = _source(value)
    elif typed and hasattr(type(value), "shape"):
        title = f"{type(value).__name__}, shape {tuple(value.shape)}, {value.dtype}"
        body, language = _array(value), ""
    elif isinstance(value, str):
        title, body, language = f"text of {len(value):,} characters", value, ""
    else:
        title, body, language = type(value).__name__, _repr(value), ""
    body = without_secrets(_cut(body))
    cut = f"{_MOST:,} of {len(body):,} characters" if len(body) > _MOST else ""
    if isinstance(value, list | tuple | dict | set | frozenset | collections.deque) and len(value) > _ITEMS:
        cut = f"the first {_ITEMS} of {len(value):,} items"
    return Piece(_titled(name, title), bounded(body), language, note=f"`{name}`: {cut} sent." if cut else "")


def _titled(name: str, what: str) -> str:
    title = without_secrets(" ".join(what[:_TITLE].split())).replace("`", "'")
    return f"`{without_secrets(name)}` ({title})"


def of_picture(name: str, picture: Picture) -> Piece:
    """Return the piece for a picture; one that could not be drawn goes out in words."""
    title, words = _titled(name, picture.kind), bounded(without_secrets(_cut(picture.words)))
    note = f"`{name}` {picture.note}." if picture.note else ""
    return Piece(title, words, picture=picture if picture.data else None, note=note)


def of_document(document: Document, most: int) -> Piece:
    """Return the piece for a PDF file: its text, or the file where that is not known."""
    text = without_secrets(_cut(document.text))
    title = _titled(document.name, f"PDF file, {document.pages:,} page{'s' if document.pages != 1 else ''}")
    if not text:
        return Piece(title, "", document=document)
    cut = []
    if document.pages_read < document.pages:
        cut.append(f"{document.pages_read:,} of {document.pages:,} pages")
    if len(text) > most:
        cut.append(f"{most:,} of their {len(text):,} characters")
    note = f"`{document.name}`: {' and '.join(cut)} sent." if cut else ""
    return Piece(title, bounded(text, most), note=note)


def of_table(name: str, table: Table, most: int) -> Piece:
    """Return the piece for a table of at most so many characters."""
    body = without_secrets(_cut(table.body))
    cut = [table.cut, f"{most:,} of {len(body):,} characters sent" if len(body) > most else ""]
    words = ", ".join(filter(None, cut))
    note = f"`{name}`: {words}." if words else ""
    return Piece(_titled(name, table.title), bounded(body, most), note=note, has_rows=table.has_rows)


def cell(value: Any) -> Any:
    """Return a value of a table as it is written: what is no string, number or time as a bounded repr."""
    if isinstance(value, str):
        return _cell(value)
    if value is None or isinstance(value, _SCALARS) or (_is_known(value) and not hasattr(value, "__len__")):
        return value
    if isinstance(value, int | bytes | bytearray | list | tuple | dict | set) or _has_fields(value):
        return _cell(_repr(value))
    try:
        return _cell(str(value))
    except Exception as error:  # noqa: BLE001  a stranger's class may raise anything when it is looked at
        return f"<{type(value).__name__}: looking at it raised {type(error).__name__}>"


def _is_known(value: Any) -> bool:
    return type(value).__module__.partition(".")[0] in ("numpy", "pandas")


def _cell(text: str) -> str:
    if len(text) > _LONGEST_CELL:
        return f"{without_secrets(text[:_SEARCHED_CELL])[:_LONGEST_CELL]}…"
    return without_secrets(text) if '"' in text else text  # CSV doubles its quotes, by which secrets are known


def _array(array: Any) -> str:
    """Return an array's repr, a structured one's without its secret fields."""
    names = getattr(array.dtype, "names", None) or ()
    hidden = [name for name in names if redact.secret_name(name)]
    shown = array[[name for name in names if name not in hidden]] if hidden else array
    return "\n".join([redact.fields(_cut(repr(shown))), *(f"{name}: {REMOVED}" for name in hidden)])


def _source(value: Any) -> tuple[str, str, str]:
    kind = "class" if isinstance(value, type) else "function"
    try:
        return kind, textwrap.dedent(inspect.getsource(value)).rstrip(), "python"
    except (OSError, TypeError):  # built in, or typed where no source is kept
        return f"{kind}, no source", f"{value!r}\n{inspect.getdoc(value) or ''}".rstrip(), ""


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
            return f"({x[0]!r}, {REMOVED})"
        return super().repr_tuple(x, level)

    def repr_str(self, x: str, level: int) -> str:
        """Take keys out before the text is cut: half of one is not known any more."""
        return super().repr_str(without_secrets(x[:_SEARCHED_CELL]) if len(x) > self.maxstring else x, level)

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
            shown = REMOVED if redact.secret_name(key) and value is not None else self.repr1(value, level - 1)
            pieces.append(f"{name}{between}{shown}")
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


def bounded(text: str, most: int = _MOST, *, keep_end: bool = False) -> str:
    """Cut a long text in the middle, or with ``keep_end`` at its beginning."""
    if len(text) <= most:
        return text
    head = most // 6 if keep_end else most * 2 // 3
    left_out = f"\n… {len(text) - most:,} characters left out …\n"
    return text[:head] + left_out + text[len(text) - (most - head) :]
