"""`--file`: a text, a program, a table, a picture or a PDF from the disk. Bounded, and without keys and home paths."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ipyrouter.errors import UsageError
from ipyrouter.notebook.prompt import attachments, documents, pictures, tables
from ipyrouter.notebook.prompt.pieces import Piece
from ipyrouter.text import redact

_MOST_TEXT = 60_000  # characters of a file
_TABLES = (".csv", ".tsv", ".tab")
_LANGUAGES = {
    ".py": "python", ".pyi": "python", ".r": "r", ".jl": "julia", ".sql": "sql", ".sh": "bash", ".js": "javascript",
    ".ts": "typescript", ".c": "c", ".h": "c", ".cpp": "cpp", ".hpp": "cpp", ".rs": "rust", ".go": "go",
    ".java": "java", ".json": "json", ".toml": "toml", ".yaml": "yaml", ".yml": "yaml", ".html": "html", ".css": "css",
    ".xml": "xml", ".md": "markdown", ".ipynb": "json",
}  # fmt: skip
_FIELDS = ("", "json", "toml", "yaml", "xml")  # languages in which name: value is no code
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
    path = Path(name).expanduser()
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "is not there" if not path.exists() else "is not a plain file"
        raise UsageError(f"--file: {name} {what}.", f"Relative paths begin at {Path.cwd()}.")
    if path.suffix.lower() in pictures.SUFFIXES:
        return attachments.of_picture(path.name, pictures.of_file(path))
    if path.suffix.lower() == ".pdf":
        return attachments.of_document(documents.read(path, _MOST_TEXT), _MOST_TEXT)
    text = _text(path)
    if path.suffix.lower() in _TABLES:
        table = tables.of_csv(path.name, text, choice, attachments.cell)
        return attachments.of_table(path.name, table, choice.most)
    language = _LANGUAGES.get(path.suffix.lower(), "")
    body = attachments.without_secrets(text).rstrip("\n")
    if language in _FIELDS:
        body = redact.fields(body)
    note = f"`{path.name}`: {_MOST_TEXT:,} of {len(body):,} characters sent." if len(body) > _MOST_TEXT else ""
    title = f"`{path.name}` (file, {len(text):,} characters)"
    return Piece(title, attachments.bounded(body, _MOST_TEXT), language, note=note, comment=False)


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
