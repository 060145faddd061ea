"""Tags: words under which costs are summed up, such as a project's name."""

from __future__ import annotations

from collections.abc import Sequence

RULE = "1 to 64 printable characters, without spaces or commas"
MOST = 20  # of one request, so that they fit into one column


def is_tag(value: object) -> bool:
    """Tell whether a value can be a tag."""
    return isinstance(value, str) and 0 < len(value) <= 64 and value.isprintable() and not set(value) & {" ", ","}


def join(tags: Sequence[str]) -> str | None:
    """Return tags as the log keeps them: each once, sorted, with commas between them; None for no tags."""
    return ",".join(sorted(set(tags))) or None


def split(column: str) -> list[str]:
    """Return the tags that a value of the log's column holds."""
    return column.split(",") if column else []
