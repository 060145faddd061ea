"""Every test has a home of its own and no key in sight."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import ipyrouter
from ipyrouter.router import Router
from tests.faults.server import FaultServer, serving

ROOT = Path(__file__).parent.parent


def run_python(code: str) -> None:
    """Run code in a fresh interpreter that can import the tests; fail with what it wrote to stderr."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr


def is_private(name: str) -> bool:
    """Tell whether an environment variable is the person's own, and not for tests."""
    return name.startswith("IPYROUTER_") or name.endswith(("_API_KEY", "_BASE_URL")) or name.lower().endswith("_proxy")


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
        yield running


@pytest.fixture
def requests(server: FaultServer) -> list[Any]:
    """What the server has been asked during this test. It begins without replies."""
    server.requests.clear()
    server.replies.clear()
    return server.requests


@pytest.fixture
def make_router(server: FaultServer, requests: list[Any]) -> Iterator[Callable[..., Router]]:
    """Build routers whose providers "o" (openai) and "a" (anthropic) are the fault server; "free" tiers by default."""
    made: list[Router] = []

    def make(**settings: Any) -> Router:
        router = Router(server_config(server, **settings))
        made.append(router)
        return router

    yield make
    for router in made:
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
        },
        "tiers": tiers,
        "deadlines": deadlines,
        "prices": prices,
        "routing": {"mode": "rules"},  # what these tests are about is what happens after the tier is known
        **settings,
    }
