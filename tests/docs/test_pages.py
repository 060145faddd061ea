"""The documentation is true: its cells run, its settings are valid, its commands and paths exist."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from ipyrouter import cli, config
from ipyrouter.notebook import commands, options
from ipyrouter.notebook.formats import FORMATS
from ipyrouter.notebook.settings import IPyRouter
from ipyrouter.reporting import log
from tests.docs.blocks import KINDS, PACKAGE, PAGES, ROOT, Block, blocks_of, name_of
from tests.notebook.conftest import Shell, shell  # noqa: F401  a fixture

BLOCKS = [(path, block) for path in PAGES for block in blocks_of(path)]
RUN = [path for path in PAGES if any(block.kind in ("", "python") for block in blocks_of(path))]
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]


def of_kind(*kinds: str) -> list[object]:
    """Return the blocks of some kinds as parameters of a test."""
    return [pytest.param(block, id=f"{name_of(path)}:{block.line}") for path, block in BLOCKS if block.kind in kinds]


def test_there_are_pages() -> None:
    folders = {path.parent.name for path in PAGES}
    assert folders == {"docs", "tutorials", "how-to", "reference", "explanation", "contributing"}
    assert len(RUN) >= 8


@pytest.mark.parametrize("path", RUN, ids=name_of)
def test_cells_run(path: Path, shell: Shell) -> None:  # noqa: F811
    for block in blocks_of(path):
        if block.kind not in ("", "python") or block.not_run:
            continue
        error = shell.run(block.body.rstrip("\n")).error
        assert (type(error).__name__ if error else "") == block.fails, f"{name_of(path)}:{block.line}: {error!r}"


@pytest.mark.parametrize("block", of_kind("toml"))
def test_settings_are_valid(block: Block, home: Path) -> None:
    home.mkdir()
    (home / "config.toml").write_text(block.body)
    assert not config.load(home=home).warnings


@pytest.mark.parametrize("block", of_kind("console"))
def test_commands_exist(block: Block, capsys: pytest.CaptureFixture[str]) -> None:
    for line in block.body.splitlines():
        if match := re.match(r"\$ ipyrouter (.*)", line):
            with pytest.raises(SystemExit) as ended:
                cli.main([*match[1].split(), "--help"])  # an unknown command or option ends before the help
            assert ended.value.code == 0, (line, capsys.readouterr().err)
        for extra in re.findall(r"\[(\w+)\]", line):
            assert extra in EXTRAS, line


def test_every_block_is_of_a_known_kind() -> None:
    assert [f"{name_of(path)}:{block.line}" for path, block in BLOCKS if block.kind not in KINDS] == []


def test_few_cells_are_not_run() -> None:
    cells = [block for _, block in BLOCKS if block.kind in ("", "python")]
    assert len([block for block in cells if block.not_run]) <= len(cells) / 10


def test_a_projects_file_may_set_what_its_page_shows(home: Path) -> None:
    page = ROOT / "docs" / "how-to" / "project-config.md"
    first = next(block for block in blocks_of(page) if block.kind == "toml")
    home.mkdir()
    Path("ipyrouter.toml").write_text(first.body)
    loaded = config.load(home=home)
    assert not loaded.warnings
    assert loaded.budget.action == "block"


def test_the_configs_page_shows_a_whole_config(home: Path) -> None:
    page = ROOT / "docs" / "how-to" / "configure.md"
    (block,) = [block for block in blocks_of(page) if block.kind == "toml"]
    home.mkdir()
    (home / "config.toml").write_text(block.body)
    loaded = config.load(home=home)
    assert str(loaded.tiers["fast"].chain[0]) == "acme/small"
    assert tomllib.loads(block.body)["preset"] == loaded.preset


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_paths_exist(path: Path) -> None:
    named = re.findall(
        r"`((?:ipyrouter|tests|docs|notebooks|requirements|benchmarks|training)/[\w./-]*)`", path.read_text("utf-8")
    )
    places = (PACKAGE.parent, ROOT)
    assert [name for name in named if name != "docs/_build" and not any((at / name).exists() for at in places)] == []


NOTEBOOK = (ROOT / "docs" / "reference" / "notebook.md").read_text("utf-8")


def test_every_option_has_its_row() -> None:
    for option in options.ROUTE:
        assert option is options.HELP or f"| `{'`, `'.join(option.names)}" in NOTEBOOK, option.names


def test_every_format_has_its_row() -> None:
    section = NOTEBOOK.partition("## Formats")[2].partition("## `%router")[0]
    assert re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE) == list(FORMATS)


def test_every_subcommand_has_its_row() -> None:
    rows = " ".join(re.findall(r"^\|([^|]*)\|", NOTEBOOK.partition("SUBCOMMAND`")[2], re.MULTILINE))
    assert set(re.findall(r"`([a-z][\w-]*)", rows)) == set(commands.COMMANDS)


def test_every_option_of_a_subcommand_is_there() -> None:
    for name, command in commands.COMMANDS.items():
        for option in command.options:
            assert option.names[-1] in NOTEBOOK, (name, option.names)


def test_every_setting_of_the_kernel_is_named() -> None:
    page = (ROOT / "docs" / "how-to" / "configure.md").read_text("utf-8")
    for name in IPyRouter.class_trait_names(config=True):
        assert f"`{name}`" in page, name


def test_every_column_of_the_log_has_its_row() -> None:
    page = (ROOT / "docs" / "reference" / "log.md").read_text("utf-8")
    rows = " ".join(re.findall(r"^\|([^|]*)\|", page, re.MULTILINE))
    assert sorted(re.findall(r"`(\w+)`", rows)) == sorted(log.COLUMNS)


def test_every_folder_of_the_package_is_in_the_layout() -> None:
    layout = (ROOT / "docs" / "contributing" / "layout.md").read_text("utf-8")
    folders = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert {name for name in folders if f"`ipyrouter/{name}/`" not in layout} == set()


def test_the_errors_that_a_page_explains_are_in_the_code() -> None:
    page = (ROOT / "docs" / "how-to" / "common-errors.md").read_text("utf-8")
    source = "\n".join(path.read_text("utf-8") for path in PACKAGE.rglob("*.py"))
    quoted = re.findall(r'^\| "([^|]*)" ', page, re.MULTILINE)
    assert len(quoted) >= 14
    parts = [part.strip() for words in quoted for part in re.split(r'…|" or "', words)]
    assert [part for part in parts if len(part) > 7 and part not in source] == []
