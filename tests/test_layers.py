"""Imports go one way: from the notebook down to plain strings. The floors are CONTRIBUTING.md's."""

import ast
from pathlib import Path

import pytest

import ipyrouter

ROOT = Path(ipyrouter.__file__).parent

# From the ground up. A module may import its own floor and those below, deferred imports included.
FLOORS = (
    {"text", "errors", "types", "clock", "interrupts", "schemas"},
    {"config"},
    {"pricing", "classifier", "providers", "store"},
    {"routing"},
    {"reporting", "batch"},
    {"router"},
    {"ipyrouter", "cli"},
    {"notebook", "__main__"},
)
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}

# What IPython asks of an object or an extension by name can only lead up.
UP = {
    ("types", "notebook"),  # Answer._repr_mimebundle_: an answer renders itself also where no extension is loaded
    ("ipyrouter", "notebook"),  # load_ipython_extension
}
FORMER_NAMES = {"blocks": "text"}  # modules that only re-export from where their content lives now


def room_of(path: Path) -> str:
    first = path.relative_to(ROOT).with_suffix("").parts[0]
    return "ipyrouter" if first == "__init__" else FORMER_NAMES.get(first, first)


def imports_of(path: Path) -> set[str]:
    """Return the rooms of the package that a module imports, wherever in its text."""
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            package, _, rest = name.partition(".")
            if package == "ipyrouter":
                room = rest.partition(".")[0]
                rooms.add(FORMER_NAMES.get(room, room) if room in FLOOR or room in FORMER_NAMES else "ipyrouter")
    return rooms


def modules() -> list[Path]:
    return sorted(ROOT.rglob("*.py"))


@pytest.mark.parametrize("path", modules(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_module_imports_only_downwards(path: Path) -> None:
    here = room_of(path)
    assert here in FLOOR, f"{here} stands on no floor: add it to FLOORS"
    up = {room for room in imports_of(path) if FLOOR[room] > FLOOR[here] and (here, room) not in UP}
    assert not up, f"{path.name} imports {up}, which stand above it"


def test_each_exception_is_still_needed() -> None:
    used = {(room_of(path), room) for path in modules() for room in imports_of(path)}
    assert used >= UP


def test_only_its_own_folder_knows_a_library() -> None:
    homes = {
        "IPython": {"notebook", "ipyrouter", "cli"},
        "ipywidgets": {"notebook"},
        "openai": {"providers"},
        "anthropic": {"providers"},
        "google": {"providers"},
        "sqlite3": {"store"},
        "psycopg": {"store"},
        "dask": {"batch"},
        "distributed": {"batch"},
        "ray": {"batch"},
        "pyspark": {"batch"},
    }
    for path in modules():
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            names = (
                [alias.name for alias in node.names]
                if isinstance(node, ast.Import)
                else [node.module or ""]
                if isinstance(node, ast.ImportFrom)
                else []
            )
            for name in names:
                library = name.partition(".")[0]
                assert library not in homes or room_of(path) in homes[library], f"{path.name} imports {library}"
