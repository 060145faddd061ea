"""The main job: a real kernel, the real local model, both SDKs."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from ipyrouter.text import asides
from tests.faults.server import TEXT, FaultServer
from tests.notebook.kernels import execute_notebook, kernel

LOCAL = """
[providers.own]
sdk = "{sdk}"
base_url = "embedded"
[prices."own/smollm2"]
input = 0
output = 0
[tiers.fast]
chain = ["own/smollm2"]
[tiers.mid]
chain = ["own/smollm2"]
[tiers.power]
chain = ["own/smollm2"]
"""


def mid_chain(home: Path, server: FaultServer, chain: str) -> None:
    """Write a config whose provider "o" is the fault server and whose tier mid has this chain (TOML)."""
    home.mkdir(mode=0o700)
    provider = f'[providers.o]\nsdk = "openai"\nbase_url = "{server.url}/v1"\n'
    (home / "config.toml").write_text(f"{provider}[tiers.mid]\nchain = {chain}\n")


@pytest.mark.parametrize("sdk", ["openai", "anthropic"])
def test_route_cell_on_the_local_model_and_again_after_a_restart(home: Path, sdk: str) -> None:
    home.mkdir(mode=0o700)
    (home / "config.toml").write_text(LOCAL.format(sdk=sdk))
    cell = "%%route\nWhat is the capital of France?"
    with kernel() as first:
        assert first.run("%load_ext ipyrouter").status == "ok"
        reply = first.run(cell)
        assert reply.status == "ok", reply.error
        assert len(reply.displays) == 1
        assert reply.updates >= 2  # it streamed
        assert not reply.results  # shown once
        assert ">own/smollm2</strong> · &#36;0 · " in reply.markdown
        assert "Paris" in reply.markdown
        figures = reply.displays[0]["metadata"]["ipyrouter"]
        assert (figures["cost"], figures["tier"], figures["cached"], figures["estimated"]) == (
            "0",
            "fast",
            False,
            False,
        )
        assert figures["input_tokens"] > 10
        assert figures["output_tokens"] > 1
        text = first.run("print(_.text)").out.strip()
        assert text
        imported = first.run("import sys; print({'openai', 'anthropic'} & set(sys.modules))").out
        assert imported.strip() == f"{{'{sdk}'}}"
    with kernel() as second:
        second.run("%load_ext ipyrouter")
        again = second.run(cell)
        assert again.status == "ok", again.error
        assert "cached" in again.markdown
        assert second.run("print(_.text)").out.strip() == text
        imported = second.run(
            "import sys; print({'openai', 'anthropic', 'xllamacpp', 'pandas'} & set(sys.modules))"
        ).out
        assert imported.strip() == "set()"
        log = second.run(
            "import ipyrouter; print(ipyrouter.cost_log()[['status', 'cost_pico', 'text']].to_csv(index=False))"
        )
        assert [line.split(",")[:2] for line in log.out.splitlines()[1:3]] == [["ok", "0"], ["cached", "0"]]


def test_without_key_and_config_the_local_model_answers() -> None:
    with kernel() as running:
        running.run("%load_ext ipyrouter")
        reply = running.run("answer = %route --max-tokens 20 What is the capital of France?")
        assert reply.status == "ok", reply.error
        assert ">local/smollm2</strong> · &#36;0 · " in reply.markdown
        out = running.run("print(answer.provider, answer.model, answer.cost)").out
        assert out.split() == ["local", "smollm2", "0"]
        unloaded = running.run("%unload_ext ipyrouter\n%route hello")
        assert unloaded.status == "error" or "not found" in unloaded.out


def test_an_error_fails_the_cell_so_that_run_all_stops(home: Path, server: FaultServer) -> None:
    mid_chain(home, server, '["o/status-401"]')
    with kernel() as running:
        running.run("%load_ext ipyrouter")
        reply = running.run("%%route\nExplain closures")
        assert reply.status == "error"
        assert reply.error.startswith("RouteError: o/status-401: 401 Incorrect API key provided")
        assert len(reply.error.splitlines()) == 1
        assert "failed" in reply.markdown
        typo = running.run("%route -t fats Explain closures")
        assert (typo.status, typo.error) == ("error", "UsageError: Unknown tier 'fats'. Did you mean 'fast'?")


def test_streaming_updates_at_most_ten_times_a_second(home: Path, server: FaultServer) -> None:
    mid_chain(home, server, '["o/echo", "o/stream-drip"]')
    with kernel() as running:
        running.run("%load_ext ipyrouter")
        text = "many words " * 500  # arrives in a hundred pieces, all at once
        started = time.monotonic()
        quick = running.run(f"%%route\n{text}")
        elapsed = time.monotonic() - started
        assert text.strip() in quick.markdown
        assert quick.updates <= 2 + 11 * elapsed  # with a second's word on what is being waited for
        slow = running.run("%%route -m o/stream-drip\nExplain closures")
        assert slow.updates >= 4
        assert TEXT in slow.markdown


def test_what_is_said_beside_the_output_is_not_drawn_as_an_error(home: Path) -> None:
    import nbformat  # late: four seconds

    cells = ["from ipyrouter.text import asides\nasides.tell('Fetching')", "import sys; print('Oh', file=sys.stderr)"]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    execute_notebook(notebook)
    said = [(output.name, output.text) for cell in notebook.cells for output in cell.outputs]
    assert said == [("stdout", "Fetching\n"), ("stderr", "Oh\n")]


def test_what_is_said_beside_the_output_goes_to_stderr_elsewhere(capsys: pytest.CaptureFixture[str]) -> None:
    asides.tell("Fetching")
    assert capsys.readouterr() == ("", "Fetching\n")
