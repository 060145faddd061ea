"""Every test has a home of its own and no key in sight."""

from __future__ import annotations

import gc
import inspect
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

import ipyrouter
from ipyrouter.clock import Clock, SystemClock
from ipyrouter.router import Router
from ipyrouter.types import Session
from tests.faults.published import faults_of
from tests.faults.server import FaultServer, serving

ROOT = Path(__file__).parent.parent
if not (ROOT / ".ci").is_dir():  # an unpacked sdist: not all files of the repository are there
    collect_ignore = [
        "browser/test_pictures.py", "docs", "test_article.py", "test_labextension.py", "test_notebooks.py",
        "test_readme.py", "test_training_data.py",
    ]  # fmt: skip

# On a busy machine everything is slow, which says nothing about a test.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")

KINDS = ("unit", "wire", "kernel", "browser")
STARTERS = {"kernel", "run_python", "subprocess", "execute_notebook"}  # names of what starts another process
OUTSIDE = ("socket.connect", "subprocess.Popen")  # audit events of what no unit test may do
TOGETHER = ("tests/browser/", "tests/typing/")  # one JupyterLab and one Chromium; one user of mypy's cache
outside: list[str] = []  # those that the main thread has raised


def _note_outside(event: str, _: object) -> None:
    if event in OUTSIDE and threading.current_thread() is threading.main_thread():
        outside.append(event)


sys.addaudithook(_note_outside)


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Run unit tests in this process: they take less time than workers take to start. Other tests wait a lot."""
    return 0 if config.option.markexpr == "unit" else (os.cpu_count() or 1) + 1


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadScopeScheduling:
    """Give tests to whichever worker is free, but those of some folders, as one, to a single worker."""
    return Scheduling(config, log)


class Scheduling(LoadScopeScheduling):
    # Not --dist=loadgroup, which groups nothing under pytest 9.2 (pytest-dev/pytest-xdist#1386).
    def _split_scope(self, nodeid: str) -> str:
        return next(filter(nodeid.startswith, TOGETHER), nodeid)


def pytest_collection_modifyitems(items: list[pytest.Function]) -> None:
    """Mark every test with its kind, unless it is marked with one; slow tests are neither unit nor wire."""
    for item in items:
        kind = next(filter(item.get_closest_marker, KINDS), None) or kind_of(item)
        if kind in ("kernel", "browser") or not item.get_closest_marker("slow"):
            item.add_marker(kind)


def kind_of(item: pytest.Function) -> str:
    """Return what a test needs: a browser, another process, the loopback server, or nothing."""
    if item.nodeid.startswith("tests/browser/"):
        return "browser"
    if starts_a_process(inspect.unwrap(item.function)):
        return "kernel"
    talks = "server" in item.fixturenames or item.nodeid.startswith("tests/faults/")
    return "wire" if talks else "unit"


def starts_a_process(function: Any) -> bool:
    """Tell whether a test, or a helper of its module, names what starts another process."""
    names = names_in(function.__code__)
    helpers = [function.__globals__.get(name) for name in names]
    return bool(names & STARTERS) or any(
        starts_a_process(helper) for helper in helpers
        if inspect.isfunction(helper) and helper.__module__ == function.__module__ and helper is not function
    )  # fmt: skip


def names_in(code: CodeType) -> set[str]:
    """Return the global names of a function's code, with those of the comprehensions and functions in it."""
    inner = [names_in(constant) for constant in code.co_consts if isinstance(constant, CodeType)]
    return set(code.co_names).union(*inner)


def run_python(code: str) -> None:
    """Run code in a fresh interpreter that can import the tests; fail with what it wrote to stderr."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr


def is_private(name: str) -> bool:
    """Tell whether an environment variable is the user's own, and not for tests."""
    return (
        name.startswith("IPYROUTER_")
        or name.endswith(("_API_KEY", "_BASE_URL", "_TOKEN", "_PAT"))
        or name.lower().endswith("_proxy")
    )


@pytest.fixture(autouse=True)
def unit_tests_stay_inside(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a unit test that opens a connection or starts a process: the mark is a promise."""
    before = len(outside)
    yield
    if request.node.get_closest_marker("unit"):
        assert outside[before:] == [], "Mark this test with what it needs, wire or kernel: see tests/conftest.py."


@pytest.fixture(autouse=True)
def ctrl_c_arrives() -> Iterator[None]:
    """Let Ctrl-C interrupt, as in a kernel: who starts the tests may have it ignored, and processes inherit that."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def collector_rests() -> Iterator[None]:
    """Collect no garbage: finalizers that run in code at the recursion limit fail there, those of other tests too."""
    gc.disable()
    yield
    gc.enable()


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A fresh home folder; the working folder is fresh too, so that no project file is found."""
    for name in list(os.environ):
        if is_private(name):
            monkeypatch.delenv(name)
    folder = tmp_path / "home"
    monkeypatch.setenv("IPYROUTER_HOME", str(folder))
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    yield folder
    ipyrouter.use_router(None)


@pytest.fixture(scope="session")
def server() -> Iterator[FaultServer]:
    with serving() as running:
        running.check = faults_of
        yield running


@pytest.fixture(autouse=True)
def requests_are_as_published(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that sends the server what OpenAI or Anthropic do not publish that they take."""
    yield
    if "server" in request.fixturenames:
        complaints = request.getfixturevalue("server").complaints
        found, complaints[:] = list(dict.fromkeys(complaints)), []
        assert found == []


@pytest.fixture
def requests(server: FaultServer) -> list[Any]:
    """What the server has been asked during this test. It begins without replies."""
    server.requests.clear()
    server.replies.clear()
    return server.requests


class BriefPauses(SystemClock):
    """The machine's clock, on which the pause before the one retry (up to 1.5 s) is over at once."""

    def wait(self, stop: threading.Event, seconds: float) -> None:
        super().wait(stop, min(seconds, 0.01))


@pytest.fixture
def make_router(server: FaultServer, requests: list[Any]) -> Iterator[Callable[..., Router]]:
    """Build routers whose providers "o" (openai), "a" (anthropic) and "g" (google) are the fault server."""
    routers: list[Router] = []

    def make(*, clock: Clock | None = None, session: Session | None = None, **settings: Any) -> Router:
        router = Router(server_config(server, **settings), clock=clock or BriefPauses(), session=session)
        routers.append(router)
        return router

    yield make
    for router in routers:
        router.close()


def server_config(server: FaultServer, *, stream: bool = True, **settings: Any) -> dict[str, Any]:
    """Settings that send everything to the fault server; chains may be given as fast=[…], mid=[…], power=[…]."""
    chains = {tier: settings.pop(tier, ["o/ok"]) for tier in ("fast", "mid", "power")}
    deadlines = settings.pop("deadlines", {"connect": 10, "first_byte": 20, "idle": 20, "total": 20})
    tiers = {tier: {"chain": chain} for tier, chain in chains.items()}
    models = {name for chain in chains.values() for name in chain}
    prices = {name: {"input": 1, "output": 10, "cached_input": 0.5} for name in models}
    return {
        "providers": {
            "o": {"sdk": "openai", "base_url": f"{server.url}/v1", "stream": stream},
            "a": {"sdk": "anthropic", "base_url": server.url, "stream": stream},
            "g": {"sdk": "google", "base_url": server.url, "stream": stream},
        },
        "tiers": tiers,
        "deadlines": deadlines,
        "prices": prices,
        "routing": {"mode": "rules"},  # what these tests are about is what happens after the tier is known
        **settings,
    }
