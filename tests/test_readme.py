"""The README is true and short: its cells run, its commands are CI's, its links lead somewhere."""

from __future__ import annotations

import re

import pytest

from ipyrouter.config import reference as settings_reference
from ipyrouter.notebook import reference as magics_reference
from tests.docs.blocks import ROOT, blocks_of
from tests.notebook.conftest import Shell, shell  # noqa: F401  a fixture

README = ROOT / "README.md"
TEXT = README.read_text("utf-8")
CI = (ROOT / ".ci" / "run").read_text("utf-8")


def test_cells_and_python_run(shell: Shell) -> None:  # noqa: F811
    cells = [block.body for block in blocks_of(README) if block.kind in ("", "python")]
    assert len(cells) >= 8
    for cell in cells:
        ran = shell.run(cell.rstrip("\n"))
        assert ran.error is None, (cell, ran.error)


REFERENCE = ROOT / "docs" / "reference"


def test_the_reference_of_the_settings_is_the_generated_one() -> None:
    assert (REFERENCE / "settings.md").read_text("utf-8") == settings_reference.reference()


def test_the_reference_of_the_magics_is_the_generated_one() -> None:
    assert (REFERENCE / "magics.md").read_text("utf-8") == magics_reference.reference()


def test_ci_runs_the_readmes_commands() -> None:
    commands = re.findall(r"^    (pip install .*)$", TEXT, re.MULTILINE)
    assert len(commands) == 2
    for command in commands:
        assert command.replace("pip install", "pip install --quiet") in CI


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"])
def test_links_within_the_repository_lead_somewhere(name: str) -> None:
    text = (ROOT / name).read_text("utf-8")
    links = [link for link in re.findall(r"\]\(([^)#\s]+)", text) if "://" not in link]
    assert [link for link in links if not (ROOT / link).is_file()] == []


def test_it_takes_three_minutes() -> None:
    words = len(TEXT.split())
    assert words < 1000, f"{words} words: move what a newcomer does not need into docs/"
