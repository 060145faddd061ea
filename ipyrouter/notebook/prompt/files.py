"""`--file`: a text file, a program, a table, a picture or a PDF from the disk. Bounded, without keys and home paths."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ipyrouter.errors import UsageError
from ipyrouter.notebook.prompt import attachments, documents, pictures, tables
from ipyrouter.notebook.prompt.pieces import Piece
from ipyrouter.text import redact
from ipyrouter.text.sanitise import plain as plain_text

_MOST_TEXT = 60_000  # characters of a file
_TABLES = (".csv", ".tsv", ".tab")
_LANGUAGES = {
    ".py": "python", ".pyi": "python", ".r": "r", ".jl": "julia", ".sql": "sql", ".sh": "bash", ".js": "javascript",
    ".ts": "typescript", ".c": "c", ".h": "c", ".cpp": "cpp", ".hpp": "cpp", ".rs": "rust", ".go": "go",
    ".java": "java", ".json": "json", ".toml": "toml", ".yaml": "yaml", ".yml": "yaml", ".html": "html", ".css": "css",
    ".xml": "xml", ".md": "markdown",
}  # fmt: skip
_FIELDS = ("", "json", "toml", "yaml", "xml")  # languages in which name: value is no code
_PICTURE = re.compile(r"(data:(?:image|application)/[\w.+-]{1,60};base64,)[A-Za-z0-9+/=%_-]{100,}")
_MARKS = (
    (b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe\0\0", "utf-32"), (b"\0\0\xfe\xff", "utf-32"),
    (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"),
)  # fmt: skip


def pieces(paths: Sequence[str], choice: tables.Choice) -> list[Piece]:
    """Return a piece for each file.

    Raises:
        UsageError: For one that is not there, cannot be read, is too large, or holds what cannot be sent.
    """
    return [_piece(path, choice) for path in paths]


def _piece(name: str, choice: tables.Choice) -> Piece:
    try:
        path = Path(name).expanduser()
        there = path.is_file()
    except (OSError, ValueError, RuntimeError) as error:  # too long, a zero byte, a home folder that nobody has
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"--file: {name[:60]!r} is not a valid path: {reason}.", "Correct it.") from None
    if not there:
        what = "is a folder" if path.is_dir() else "is not there" if not path.exists() else "is not a plain file"
        raise UsageError(f"--file: {name} {what}.", f"Relative paths begin at {Path.cwd()}.")
    if path.suffix.lower() in pictures.SUFFIXES:
        return attachments.of_picture(path.name, pictures.of_file(path))
    if path.suffix.lower() == ".pdf":
        return attachments.of_document(documents.read(path, _MOST_TEXT), _MOST_TEXT)
    text = _text(path)
    if path.suffix.lower() == ".ipynb":
        return _notebook(path.name, text)
    if path.suffix.lower() in _TABLES:
        table = tables.of_csv(path.name, text, choice, attachments.cell)
        return attachments.of_table(path.name, table, choice.most)
    language = _LANGUAGES.get(path.suffix.lower(), "")
    plain, pictured = _PICTURE.subn(r"\1…", text)
    body = attachments.without_secrets(plain).rstrip("\n")
    if language in _FIELDS:
        body = redact.fields(body)
    return _of_text(path.name, f"file, {len(text):,} characters", body, language, pictured)


def _of_text(name: str, what: str, body: str, language: str, pictured: int) -> Piece:
    """Return the piece for a text of a file, with a note on what is cut and on the pictures that are left out."""
    cut = [f"{_MOST_TEXT:,} of {len(body):,} characters sent"] if len(body) > _MOST_TEXT else []
    if pictured:
        cut.append(f"{pictured:,} picture{'s' if pictured > 1 else ''} in it not sent")
    note = f"`{name}`: {', '.join(cut)}." if cut else ""
    bounded = attachments.bounded(body, _MOST_TEXT)
    return Piece(f"`{name}` ({what})", bounded, language, note=note, comment=False)


def _notebook(name: str, text: str) -> Piece:
    """Return the piece for a notebook: its cells, with the text that they put out.

    Raises:
        UsageError: The file is no notebook.
    """
    try:
        cells = [cell for cell in json.loads(text)["cells"] if isinstance(cell, dict)]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise UsageError(
            f"--file: {name} is not a valid notebook.", "Open and save it in Jupyter, or rename it to .txt."
        ) from None
    parts, pictured = [], 0
    for number, cell in enumerate(cells, 1):
        source, count = _PICTURE.subn(r"\1…", _joined(cell.get("source")))
        attached = cell.get("attachments")
        pictured += count + (len(attached) if isinstance(attached, dict) else 0)
        parts.append(f"[{number}] {cell.get('cell_type')}:\n{source}")
        for output in _dicts(cell.get("outputs")):
            words, count = _output(output)
            pictured += count
            parts += [f"[{number}] output:\n{words}"] if words else []
    body = attachments.without_secrets("\n\n".join(parts))
    return _of_text(name, f"notebook, {len(cells):,} cells", body, "", pictured)


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _output(output: dict[str, Any]) -> tuple[str, int]:
    """Return the text of a cell's output, and how many pictures it holds besides."""
    data = output.get("data")
    data = data if isinstance(data, dict) else {}
    kinds = {kind.partition("/")[0] for kind in data}
    traceback = output.get("traceback")
    lines = traceback if isinstance(traceback, list) else []
    texts = [_joined(output.get("text")), _joined(data.get("text/plain")), "\n".join(map(str, lines))]
    words, count = _PICTURE.subn(r"\1…", plain_text("\n".join(filter(None, texts))))
    return redact.fields(words).rstrip("\n"), count + ("image" in kinds)


def _joined(source: Any) -> str:
    """Return a notebook's string, which may be a list of lines."""
    return source if isinstance(source, str) else "".join(map(str, source)) if isinstance(source, list) else ""


def _text(path: Path) -> str:
    """Return a file's text. Raises UsageError for one that holds none."""
    data = pictures.read_bounded(path, documents.MOST_BYTES)
    encoding = next((name for mark, name in _MARKS if data.startswith(mark)), "utf-8")
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError:
        text = data.decode("cp1252", "replace")
    if "\0" in text:
        raise UsageError(
            f"--file: {path.name} holds no text that can be read.",
            "Save it as UTF-8, or load it in Python, and send what it gives with --with NAME.",
        )
    return text
