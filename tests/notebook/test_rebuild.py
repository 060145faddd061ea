"""`%router rebuild-log`: from a saved notebook's metadata back to the log."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

import ipyrouter
from ipyrouter.router import Router
from tests.faults.server import FaultServer
from tests.notebook.conftest import Shell
from tests.notebook.kernels import execute_notebook
from tests.notebook.test_kernel import mid_chain


def test_a_lost_log_is_rebuilt(
    shell: Shell, home: Path, server: FaultServer, make_router: Callable[..., Router]
) -> None:
    import nbformat  # late: four seconds

    mid_chain(home, server, '["o/status-500", "o/ok"]')
    with (home / "config.toml").open("a") as file:
        file.write('[log]\ntags = ["lab"]\n[prices."o/ok"]\ninput = 1\noutput = 10\n')
    cells = ["%load_ext ipyrouter", "%%route --tag thesis\nExplain closures", "%%route\nExplain closures", "_"]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    execute_notebook(notebook)
    nbformat.write(notebook, "saved.ipynb")
    router = Router()
    before = router.log()
    assert list(before["status"]) == ["error", "ok", "cached"]
    assert list(before["tags"]) == ["lab,thesis", "lab,thesis", "lab"]
    router.close()
    (home / "ipyrouter.db").rename("lost.db")
    ipyrouter.use_router(None)
    assert "2 answers in saved.ipynb, 2 of them new" in shell.run("%router rebuild-log saved.ipynb").out
    assert "2 answers in saved.ipynb, 0 of them new" in shell.run("%router rebuild-log saved.ipynb").out
    after = ipyrouter.cost_log()
    same = ["answer_id", "tier", "provider", "model", "status", "input_tokens", "output_tokens", "cached_input_tokens",
            "cost_pico", "saved_pico", "error_kind", "tags"]  # fmt: skip
    assert after[same].to_dict("records") == before[same].to_dict("records")
    assert (after["time"] - before["time"]).abs().max().total_seconds() < 5
    assert list(after["notebook"].unique()) == ["saved.ipynb"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "cannot be read"),
        ("{", "is not a notebook"),
        ("[]", "is not a notebook"),
        ("[" * 100_000, "is not a notebook"),
        ('{"cells": [{"outputs": [{"metadata": {"ipyrouter": {"id": "1"}}}]}]}', "are damaged; nothing was restored"),
    ],
)
def test_bad_notebooks(shell: Shell, text: str | None, message: str) -> None:
    if text is not None:
        Path("bad.ipynb").write_text(text)
    assert message in str(shell.run("%router rebuild-log bad.ipynb").error)


def test_a_notebook_without_answers(shell: Shell) -> None:
    Path("plain.ipynb").write_text(json.dumps({"cells": [{"outputs": []}, {}]}))
    assert "0 answers in plain.ipynb" in shell.run("%router rebuild-log plain.ipynb").out
    assert "needs a notebook" in str(shell.run("%router rebuild-log").error)


ATTEMPT = {
    "tier": "mid", "provider": "o", "model": "ok", "status": "ok", "cost": "0.1", "price_id": None,
    "input_tokens": 1, "output_tokens": 1, "cached_input_tokens": 0, "cache_write_tokens": 0, "reasoning_tokens": 0,
    "estimated": False, "latency": 1.0, "error_kind": None,
}  # fmt: skip
ANSWER = {
    "id": "0" * 32, "time": "2026-01-01T12:00:00+00:00", "difficulty": 0.5, "provider": "o", "model": "ok",
    "cost": "0.1", "saved": None, "cached": False, "latency": 1.0, "finish": "stop",
}  # fmt: skip


def saved(figures: object) -> None:
    """Write a notebook with one answer's metadata."""
    output = {"metadata": {"ipyrouter": figures}}
    Path("one.ipynb").write_text(json.dumps({"cells": [{"outputs": [output]}]}))


@pytest.mark.parametrize(
    "wrong",
    [
        {"id": "a,b"}, {"id": ""}, {"id": 5}, {"attempts": []}, {"attempts": 5}, {"attempts": ["x"]},
        {"time": "9999-12-31T00:00:00+00:00"}, {"time": "0001-01-01T00:00:00+00:00"}, {"time": "2026-01-01"},
        {"time": 5},
        {"difficulty": float("inf")}, {"latency": float("nan")}, {"cost": "-1"}, {"saved": "1e30"}, {"cached": "no"},
        {"finish": "x"}, {"model": "\ud800"}, {"model": "x" * 1000},
        {"tags": "thesis"}, {"tags": ["a,b"]}, {"tags": [5]}, {"tags": ["x"] * 1000},
    ],
)  # fmt: skip
def test_metadata_that_cannot_be(shell: Shell, wrong: dict[str, object]) -> None:
    saved({**ANSWER, "attempts": [ATTEMPT], **wrong})
    assert "are damaged; nothing was restored" in str(shell.run("%router rebuild-log one.ipynb").error)


@pytest.mark.parametrize(
    "wrong",
    [
        {"tier": "<b>"}, {"status": "x"}, {"model": ["x"]}, {"price_id": {}}, {"error_kind": [1]}, {"estimated": 2},
        {"input_tokens": "abc"}, {"input_tokens": 1.5}, {"output_tokens": -5}, {"output_tokens": 10**30},
        {"cost": "NaN"}, {"cost": "Infinity"}, {"cost": "-1000"}, {"cost": "1e30"}, {"cost": "1e999999"},
        {"latency": "x"},
    ],
)  # fmt: skip
def test_attempts_that_cannot_be(shell: Shell, wrong: dict[str, object]) -> None:
    saved({**ANSWER, "attempts": [{**ATTEMPT, **wrong}]})
    assert "are damaged; nothing was restored" in str(shell.run("%router rebuild-log one.ipynb").error)
    saved({**ANSWER, "attempts": [ATTEMPT]})
    assert "1 answer in one.ipynb, 1 of them new" in shell.run("%router rebuild-log one.ipynb").out
