"""The stop button in a real kernel: idle at once, nothing lost."""

from __future__ import annotations

import html
import time
from pathlib import Path

import pytest

from tests.faults.server import HANG, TEXT, FaultServer
from tests.notebook.kernels import kernel

CONFIG = """
[providers.o]
sdk = "openai"
base_url = "{url}/v1"
[providers.a]
sdk = "anthropic"
base_url = "{url}"
[prices.stream-stall]
input = 1
output = 10
[prices.hang]
input = 1
output = 10
[deadlines]
first_byte = 60
idle = 60
[tiers.mid]
chain = ["{provider}/{behaviour}"]
"""


@pytest.mark.parametrize("provider", ["o", "a"])
@pytest.mark.parametrize("behaviour", ["hang", "stream-stall"])
def test_interrupt(home: Path, server: FaultServer, provider: str, behaviour: str) -> None:
    home.mkdir(mode=0o700)
    (home / "config.toml").write_text(CONFIG.format(url=server.url, provider=provider, behaviour=behaviour))
    server.requests.clear()
    with kernel() as running:
        running.run("%load_ext ipyrouter")
        message = running.send("%%route\nExplain closures")
        while not server.requests:
            time.sleep(0.05)
        if behaviour == "stream-stall":
            running.collect(message, until=TEXT[:12])  # half of the answer is shown
        running.manager.interrupt_kernel()
        reply = running.collect(message, timeout=HANG / 2)  # long before the server or a deadline would end it
        assert reply.status == "error"
        assert reply.error == "Interrupted: Stopped. What had arrived is shown and logged."
        assert "stopped" in reply.markdown
        columns = "['status', 'cost_pico', 'estimated']"
        log = running.run(f"import ipyrouter; print(ipyrouter.cost_log()[{columns}].to_csv(index=False, header=False))")
        status, cost, estimated = log.out.strip().split(",")
        assert status == "interrupted"
        assert (int(cost) > 0, estimated) == (True, "True")  # the input at least may be billed
        assert "about $" in html.unescape(reply.markdown)
        if behaviour == "stream-stall":
            assert TEXT[:12] in reply.markdown
        after = running.run("%%route -m o/ok\nExplain closures")
        assert after.status == "ok"  # the kernel is well
