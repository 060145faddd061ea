"""The public interface as type checkers see it: what is right passes, and what is wrong is an error on its line."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import ipyrouter
from ipyrouter.reporting.log import log_frame
from ipyrouter.types import RouteOptions
from tests.conftest import ROOT

FOLDER = Path(__file__).parent


def run(*command: str) -> str:
    """Run a type checker in the project's folder and return what it wrote."""
    done = subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode in (0, 1), done.stdout + done.stderr  # 1: it found errors; more: it did not work
    return done.stdout


def mypy(path: Path) -> list[tuple[int, str]]:
    """Return the lines, from 1, that mypy rejects, and why."""
    errors = [
        json.loads(line)
        for line in run("mypy", "--strict", "--output=json", "--no-error-summary", str(path)).splitlines()
    ]
    assert {Path(error["file"]).name for error in errors} <= {path.name}
    return [(error["line"], error["message"]) for error in errors if error["severity"] == "error"]


def pyright(path: Path) -> list[tuple[int, str]]:
    """Return the lines, from 1, that pyright rejects, and why."""
    report = json.loads(run("pyright", "--outputjson", "--pythonpath", sys.executable, str(path)))
    assert report["summary"]["filesAnalyzed"] == 1
    errors = [error for error in report["generalDiagnostics"] if error["severity"] == "error"]
    return [(error["range"]["start"]["line"] + 1, error["message"]) for error in errors]


CHECKERS = pytest.mark.parametrize("check", [mypy, pyright])


@CHECKERS
@pytest.mark.kernel
def test_right_uses_are_accepted(check: Any) -> None:
    assert check(FOLDER / "accepted.py") == []


@CHECKERS
@pytest.mark.kernel
def test_wrong_uses_are_rejected_line_by_line(check: Any) -> None:
    path = FOLDER / "rejected.py"
    lines = path.read_text("utf-8").splitlines()
    wrong = {number for number, line in enumerate(lines, 1) if line.endswith("# wrong")}
    assert len(wrong) > 25
    assert {line for line, _ in check(path)} == wrong


def keywords(function: Any) -> dict[str, Any]:
    """Return the keywords of a function and their defaults."""
    parameters = inspect.signature(function).parameters.values()
    return {one.name: one.default for one in parameters if one.kind is one.KEYWORD_ONLY}


def test_route_options_are_those_of_the_router() -> None:
    generic = ["schema"]  # its type is that of the answer's data: a dict of options cannot say it
    assert [*RouteOptions.__annotations__, *generic] == list(keywords(ipyrouter.Router.route))
    assert not RouteOptions.__required_keys__  # all have a default there


def test_conditions_of_the_log_are_those_of_the_router() -> None:
    assert keywords(ipyrouter.cost_log) == keywords(log_frame)


def test_all_is_complete_sorted_and_there() -> None:
    home = {name for name, value in vars(ipyrouter).items() if getattr(value, "__module__", None) == "ipyrouter"}
    public = {name for name in home if not name.startswith("_")} | set(ipyrouter._HOMES) | {"__version__"}
    assert sorted(public) == ipyrouter.__all__
    assert all(getattr(ipyrouter, name) is not None for name in ipyrouter.__all__)
    assert dir(ipyrouter) == ipyrouter.__all__


def test_the_version_is_that_of_the_metadata() -> None:
    import importlib.metadata

    assert importlib.metadata.version("ipyrouter") == ipyrouter.__version__
