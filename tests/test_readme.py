"""The README is true: its cells run, its config is valid, its references are the generated ones."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from ipyrouter import config
from ipyrouter.config import reference as settings_reference
from ipyrouter.notebook import reference as magics_reference
from tests.notebook.conftest import Shell, shell  # noqa: F401  a fixture

TEXT = (Path(__file__).parent.parent / "README.md").read_text("utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
CI = (Path(__file__).parent.parent / ".ci" / "run").read_text("utf-8")


def test_cells_and_python_run(shell: Shell) -> None:  # noqa: F811
    cells = [body for kind, body in BLOCKS if kind in ("", "python")]
    assert len(cells) >= 8
    for cell in cells:
        ran = shell.run(cell.rstrip("\n"))
        assert ran.error is None, (cell, ran.error)


@pytest.mark.parametrize("body", [body for kind, body in BLOCKS if kind == "toml"])
def test_config_is_valid(body: str, home: Path) -> None:
    home.mkdir()
    (home / "config.toml").write_text(body)
    loaded = config.load(home=home)
    assert str(loaded.tiers["fast"].chain[0]) == "acme/small"
    assert tomllib.loads(body)["preset"] == loaded.preset


REFERENCE = Path(__file__).parent.parent / "docs" / "reference"


def test_the_reference_of_the_settings_is_the_generated_one() -> None:
    assert (REFERENCE / "settings.md").read_text("utf-8") == settings_reference.reference()


def test_the_reference_of_the_magics_is_the_generated_one() -> None:
    assert (REFERENCE / "magics.md").read_text("utf-8") == magics_reference.reference()


def test_ci_runs_the_readmes_commands() -> None:
    commands = re.findall(r"^    (pip install .*)$", TEXT, re.MULTILINE)
    assert len(commands) == 2
    for command in commands:
        assert command.replace("pip install", "pip install --quiet") in CI
