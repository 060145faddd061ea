"""The fenced blocks of a Markdown page, and what the comment in front of a block says about running it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt

import ipyrouter

ROOT = Path(__file__).parents[2]
PACKAGE = Path(ipyrouter.__file__).parent  # of the wheel, where that is tested
PAGES = sorted((ROOT / "docs").rglob("*.md"))
KINDS = ("", "python", "toml", "console", "text")
"""Cells of a notebook, the same in plain Python, settings, commands, and what is only shown."""
_MARK = re.compile(r"<!-- (not run|fails): (.+) -->\s*")


@dataclass(frozen=True)
class Block:
    """A block: its kind, its text, its line, the error that it must raise, and why it is not run."""

    kind: str
    body: str
    line: int
    fails: str = ""
    not_run: str = ""


def blocks_of(path: Path) -> list[Block]:
    """Return a page's blocks in their order; directives are none."""
    blocks: list[Block] = []
    mark: dict[str, str] = {}
    for token in MarkdownIt().parse(path.read_text("utf-8")):
        if token.type == "html_block" and (match := _MARK.fullmatch(token.content)):
            mark = {match[1].replace(" ", "_"): match[2]}
        elif token.type == "fence" and not token.info.startswith("{"):
            assert token.map is not None
            blocks.append(Block(token.info, token.content, token.map[0] + 1, **mark))
            mark = {}
        else:
            assert not mark, f"{path}: the mark {mark} stands before no block"
    return blocks


def name_of(path: Path) -> str:
    """Return a page's path within the repository."""
    return path.relative_to(ROOT).as_posix()
