"""The site builds without a warning, and its pages need nothing from elsewhere."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import html5lib

from tests.docs.blocks import PAGES, ROOT

FETCHED = {"img": "src", "script": "src", "link": "href", "iframe": "src", "source": "src"}


def test_the_site_builds_and_fetches_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sphinx", "--fail-on-warning", "--keep-going", "--quiet"]
    done = subprocess.run(
        [*command, "--doctree-dir", str(tmp_path / "trees"), str(ROOT / "docs"), str(tmp_path / "site")],
        capture_output=True, text=True, check=False, cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    pages = sorted((tmp_path / "site").rglob("*.html"))
    assert len(pages) > len(PAGES)  # the index and the search page besides
    remote = [f"{page.name}: {address}" for page in pages for address in fetched_by(page) if "//" in address]
    assert remote == []


def fetched_by(page: Path) -> list[str]:
    """Return what a browser fetches to show a page: pictures, scripts and styles."""
    tree = html5lib.parse(page.read_text("utf-8"), namespaceHTMLElements=False)
    return [
        element.get(attribute, "")
        for tag, attribute in FETCHED.items()
        for element in tree.iter(tag)
        if element.get("rel") not in ("canonical", "author", "copyright")
    ]
