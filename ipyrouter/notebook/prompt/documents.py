"""PDF files: their text where pypdf is installed, else the file itself for models that read PDFs."""

from __future__ import annotations

import importlib.util
import io
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ipyrouter.errors import UsageError
from ipyrouter.notebook.prompt.pictures import read_bounded

MOST_BYTES = 20_000_000
"""Of a file that is sent; Anthropic takes requests of 32 MB, and files grow by a third on their way."""
_MOST_PAGES = 200
_BYTES_PER_PAGE = 10_000  # where a file does not say how many pages it has


@dataclass(frozen=True, slots=True)
class Document:
    """A PDF file.

    Attributes:
        name: The file's name.
        pages: How many pages it has, as far as that can be told.
        text: Its text; "" where pypdf is not installed or the pages hold pictures only.
        data: The file's bytes.
        pages_read: How many pages the text comes from.
    """

    name: str
    pages: int
    text: str
    data: bytes
    pages_read: int = 0


def document_path(value: Any) -> Path | None:
    """Return the path of a PDF file, if a value is one: a Path, or a string that names a file that is there."""
    if not isinstance(value, str | Path) or not str(value).lower().endswith(".pdf") or len(str(value)) > 1000:
        return None
    path = Path(value).expanduser()
    try:
        return path if path.is_file() else None
    except (OSError, ValueError):
        return None


def read(path: Path, most: int) -> Document:
    """Read a PDF file.

    Args:
        path: Where it is.
        most: The characters of text after which no further page is read.

    Raises:
        UsageError: For a file that is too large, or no PDF.
    """
    data = read_bounded(path, MOST_BYTES)
    if b"%PDF-" not in data[:1024]:
        raise UsageError(f"{path} is not a valid PDF file.", "Check the path.")
    if importlib.util.find_spec("pypdf") is None:
        return Document(path.name, _pages(data), "", data)
    import pypdf

    try:
        reader = pypdf.PdfReader(io.BytesIO(data))
        pages, texts, length = len(reader.pages), [], 0
        for page in reader.pages[:_MOST_PAGES]:
            texts.append(page.extract_text().strip())
            length += len(texts[-1])
            if length > most:
                break
    except Exception as error:  # noqa: BLE001  damaged and locked files fail in many ways; a model's service may read them
        del error
        return Document(path.name, _pages(data), "", data)
    text = "\n\n".join(filter(None, texts))
    return Document(path.name, pages, text, data, len(texts))


def _pages(data: bytes) -> int:
    """Return how many pages a file has by its own words, else by its size."""
    counts = [int(count) for count in re.findall(rb"/Count\s+(\d{1,5})\b", data)]
    counts.append(len(re.findall(rb"/Type\s*/Page\b(?!s)", data)))
    return max(counts) or math.ceil(len(data) / _BYTES_PER_PAGE)
