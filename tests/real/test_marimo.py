"""A real marimo notebook that asks: `nox -s marimo` installs marimo and runs this test."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.server import TEXT, FaultServer

pytestmark = pytest.mark.skipif(importlib.util.find_spec("marimo") is None, reason="nox -s marimo runs it")

NOTEBOOK = '''
import marimo

app = marimo.App()


@app.cell
def _():
    import ipyrouter

    answer = ipyrouter.route("Explain closures", tier="mid", on_delta=lambda delta: None)
    return answer, ipyrouter


@app.cell
def _(answer):
    answer
    return


@app.cell
def _(ipyrouter):
    ipyrouter.cost_log()[["model", "cost"]]
    return


@app.cell
def _(ipyrouter):
    ipyrouter.route("Label this", schema={"label": ["a", "b"]}, model="o/ok").data
    return
'''


def test_an_answer_shows_in_marimo(home: Path, server: FaultServer) -> None:
    home.mkdir(mode=0o700, exist_ok=True)
    chains = "".join(f'[tiers.{tier}]\nchain = ["o/ok"]\n' for tier in ("fast", "mid", "power"))
    provider = f'[providers.o]\nsdk = "openai"\nbase_url = "{server.url}/v1"\n'
    (home / "config.toml").write_text(f'{provider}{chains}[prices."o/ok"]\ninput = 1\noutput = 10\n')
    Path("notebook.py").write_text(NOTEBOOK)
    command = [sys.executable, "-m", "marimo", "-y", "export", "html", "notebook.py", "-o", "page.html"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    page = Path("page.html").read_text("utf-8")
    assert TEXT in page
    assert "o/ok of the tier mid answered in" in page  # the badge's label
    assert "ModelError" not in page
