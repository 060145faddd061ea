"""`--with` and `--error`: what a person hands over beside the prompt. Bounded, and without keys and home paths.

Each piece is a code block, so that the classifier takes it for what it is: pasted, not asked.
"""

from __future__ import annotations

import inspect
import math
import os
import re
import reprlib
import sys
import textwrap
import traceback
from collections import deque
from collections.abc import ItemsView, KeysView, Mapping, ValuesView
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import Any

from ipyrouter.errors import IPyRouterError, UsageError
from ipyrouter.notebook.variables import nearest

_MOST = 6000  # characters of one piece
_LONGEST = 1_000_000  # characters that are searched for keys before they are cut to that
_TITLE = 200
_ROWS = 5  # of a table
_COLUMNS = 40
_FRAMES = 20  # innermost frames of a traceback

_SECRET_NAME = re.compile(r"(KEY|TOKEN|SECRET|PASSW|CREDENTIAL)", re.IGNORECASE)
_SECRETS = re.compile(
    # OpenAI, Anthropic, Stripe; Groq, xAI, Perplexity, NVIDIA, Replicate, GitLab, npm, Google
    r"\b(?:(?:sk|pk|rk)[-_]|(?:gsk|r8|npm)_|(?:xai|pplx|nvapi|glpat)-|ya29\.)[\w-]{8,}"
    r"|\bgh[pousr]_[A-Za-z0-9]{16,}|\bgithub_pat_\w{16,}|\bhf_[A-Za-z0-9]{16,}|\bxox[abpr]-[\w-]{10,}"
    r"|\b(?:AKIA|ASIA)[0-9A-Z]{16}\b|\bAIza[\w-]{30,}|(?<![\w-])eyJ[\w-]{10,}\.[\w-]{10,}\.[\w-]*"
    r"|(?<=[Bb]earer )[\w.~+/=-]{8,}|(?<=[Bb]asic )[A-Za-z0-9+/=]{8,}"
    r"|(?<=://)[^\s/@:]*:[^\s/]+(?=@)"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)",
    re.DOTALL,
)
# password = "…", 'api_key': '…': the name says what it is; key="…" may be anything, unless it looks like a key.
_NAMED = re.compile(
    r"""((?:api|access|private|secret|auth|account|client)[_-]?(?:key|token|secret)|passw(?:or)?d|passphrase)"""
    r"""(["']?\s{0,3}[=:]\s{0,3}[rbf]?)(["'])[^"'\n]{4,}\3""",
    re.IGNORECASE,
)
_LIKELY = re.compile(
    r"""(key|token|secret)(["']?\s{0,3}[=:]\s{0,3}[rbf]?)(["'])[\w.~+/=-]{20,}\3""",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Piece:
    """One thing handed over: what it is, in a few words, and its text."""

    title: str
    body: str
    language: str = ""

    def __str__(self) -> str:
        # The title stands inside the block, too: outside, its words would count as the person's own.
        text = f"{'# ' if self.language else ''}{self.title}:\n{self.body}"
        mark = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
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
                "Send a text or a table made of it.",
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
    pieces = [Piece("The traceback", _bounded(redact(_cut("".join(lines).rstrip())), keep_end=True))]
    if source:
        pieces.insert(0, Piece("The cell that failed", _bounded(redact(source.rstrip())), "python"))
    return pieces


def last_error() -> BaseException | None:
    """Return the last uncaught error of the session, unless it is one of our own."""
    error = getattr(sys, "last_value", None)
    return None if isinstance(error, IPyRouterError) else error


def redact(text: str) -> str:
    """Return the text without keys and passwords, and with ~ for the home folder."""
    secrets = {value: name for name, value in os.environ.items() if len(value) >= 8 and _is_secret(name)}
    for value in sorted(secrets, key=len, reverse=True):  # one may begin with another
        text = text.replace(value, f"[{secrets[value]} removed]")
    text = _SECRETS.sub("[key removed]", text)
    for named in (_NAMED, _LIKELY):
        text = named.sub(r"\1\2\3[removed]\3", text)
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
    elif isinstance(value, ModuleType):
        title, body, language = "module", (value.__doc__ or value.__name__).strip(), ""
    elif inspect.isroutine(value) or isinstance(value, type):
        title, body, language = _source(value)
    elif module == "matplotlib" and hasattr(value, "get_axes"):
        title, body, language = "matplotlib figure", _figure(value), ""
    elif hasattr(value, "shape") and hasattr(value, "dtype"):
        title, body, language = f"{type(value).__name__}, shape {tuple(value.shape)}, {value.dtype}", repr(value), ""
    elif isinstance(value, str):
        title, body, language = f"text of {len(value):,} characters", value, ""
    else:
        title, body, language = type(value).__name__, _repr(value), ""
    title = redact(" ".join(title[:_TITLE].split())).replace("`", "'")
    return Piece(f"`{name}` ({title})", _bounded(redact(_cut(body))), language)


def _table(value: Any) -> tuple[str, str, str]:
    frame = value if hasattr(value, "columns") else value.to_frame()
    rows, columns = frame.shape
    kept = frame.iloc[:, :_COLUMNS]
    missing = kept.isna().sum()
    lines = [
        f"{column}: {dtype}" + (f", {missing.iloc[i]:,} missing" if missing.iloc[i] else "")
        for i, (column, dtype) in enumerate(kept.dtypes.items())
    ]
    if columns > _COLUMNS:
        lines.append(f"… and {columns - _COLUMNS:,} more columns")
    head = kept.head(_ROWS).to_csv().rstrip()
    what = "DataFrame" if hasattr(value, "columns") else "Series"
    return f"pandas {what}, {rows:,} rows × {columns:,} columns", "\n".join([*lines, "", head]), ""


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
            if found := getattr(axes, kind):
                lines.append(f"  {len(found):,} {kind}")
    return "\n".join(lines) or "no axes"


def _repr(value: Any) -> str:
    """Return a value's repr without building that of a million items first."""
    if isinstance(value, bytes | bytearray) and len(value) > _MOST:
        return f"{bytes(value[:_MOST])!r}, the first {_MOST:,} of {len(value):,} bytes"
    short = _Short()
    if isinstance(value, int) and not isinstance(value, bool):
        return short.repr_int(value, 1)
    if isinstance(value, dict | list | tuple | set | frozenset | deque | KeysView | ValuesView | ItemsView):
        if len(value) <= short.maxlist:
            return short.repr(value)
        items = value.items() if isinstance(value, dict) else value
        first = list(islice(items, short.maxlist + 1))
        begins = short.repr(dict(first) if isinstance(value, dict) else first)
        return f"{type(value).__name__} of {len(value):,}: {begins}"
    return repr(value)


class _Short(reprlib.Repr):
    """Writes the beginning of what is long."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlist = self.maxtuple = self.maxset = self.maxfrozenset = self.maxdict = 50
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


def _cut(text: str) -> str:
    """Cut a huge text in the middle, far more generously than in the end, so that no key is cut into two."""
    if len(text) <= _LONGEST:
        return text
    half = _LONGEST // 2
    return f"{text[:half]}\n… {len(text) - 2 * half:,} characters left out …\n{text[-half:]}"


def _bounded(text: str, *, keep_end: bool = False) -> str:
    """Cut a long text in the middle, or with ``keep_end`` at its beginning."""
    if len(text) <= _MOST:
        return text
    head = _MOST // 6 if keep_end else _MOST * 2 // 3
    left_out = f"\n… {len(text) - _MOST:,} characters left out …\n"
    return text[:head] + left_out + text[len(text) - (_MOST - head) :]
