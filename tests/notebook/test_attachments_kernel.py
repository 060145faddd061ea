"""Pictures and cells of a real kernel: what its cells showed and printed goes out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.faults.server import FaultServer
from tests.notebook.kernels import kernel

pytestmark = pytest.mark.kernel


def test_what_cells_showed_and_printed(home: Path, server: FaultServer, requests: list[Any]) -> None:
    home.mkdir(mode=0o700)
    provider = f'[providers.o]\nsdk = "openai"\nbase_url = "{server.url}/v1"\ninput = ["text", "image"]\n'
    chains = "".join(f'[tiers.{tier}]\nchain = ["o/ok"]\n' for tier in ("fast", "mid", "power"))
    (home / "config.toml").write_text(provider + chains)
    with kernel() as running:
        running.run("%load_ext ipyrouter\n%matplotlib inline")
        running.run("import matplotlib.pyplot as plt\nplt.plot([1, 2])\nplt.show()\nprint('loud')")
        reply = running.run("%%route -q --cells 2 --with Out[2]\nWhat was drawn?")
        assert reply.status == "ok", reply.error
        content = requests[0][2]["messages"][-1]["content"]
        assert [part["type"] for part in content] == ["text", "text", "text", "text", "image_url"]
        assert "plt.plot([1, 2])" in content[1]["text"]
        assert "loud" in content[2]["text"]
        assert "`Out[2]`" in content[3]["text"]
        assert "Would go to o/ok, " in running.run("%%route -n --above 1\nWhat was drawn?").text
