"""A real LiteLLM proxy between us and the loopback server: `nox -s litellm` installs it into an environment of its own.

LITELLM names its program. It asks nothing but the loopback server, and its price table is the one that it ships.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from ipyrouter.errors import RouteError
from ipyrouter.router import Router
from ipyrouter.types import ImagePart, Prompt, TextPart
from tests.faults.server import CACHED, IN, OUT, TEXT, FaultServer, serving
from tests.real.pictures import PNG

PROGRAM = os.environ.get("LITELLM", "")
KEY = "sk-of-the-proxy-1234"
MODELS = ("ok", "priced", "status-401", "status-429", "status-400-context", "length")

pytestmark = [pytest.mark.kernel, pytest.mark.skipif(not PROGRAM, reason="nox -s litellm runs it")]


@pytest.fixture(scope="module")
def upstream() -> Iterator[FaultServer]:
    with serving() as server:
        yield server


@pytest.fixture(scope="module")
def proxy(upstream: FaultServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A proxy in front of the loopback server; its address."""
    folder = tmp_path_factory.mktemp("proxy")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    models = [
        {"model_name": name, "litellm_params": {
            "model": "openai/ok" if name == "priced" else f"openai/{name}", "api_base": f"{upstream.url}/v1",
            "api_key": "sk-upstream",
            **({"input_cost_per_token": 1e-6, "output_cost_per_token": 1e-5} if name == "priced" else {}),
        }}
        for name in MODELS
    ]  # fmt: skip
    settings = {"num_retries": 0, "telemetry": False}
    whole = {"model_list": models, "litellm_settings": settings, "general_settings": {"master_key": KEY}}
    (folder / "config.yaml").write_text(json.dumps(whole))  # JSON is YAML
    command = [PROGRAM, "--config", "config.yaml", "--host", "127.0.0.1", "--port", str(port)]
    environment = {**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True", "NO_PROXY": "*"}
    with (folder / "log.txt").open("w") as log:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
        address = f"http://127.0.0.1:{port}"
        try:
            ends = time.monotonic() + 300
            while not _is_up(address):
                assert process.poll() is None, (folder / "log.txt").read_text()[-2000:]
                assert time.monotonic() < ends, (folder / "log.txt").read_text()[-2000:]
                time.sleep(0.2)
            yield address
        finally:
            process.kill()
            process.wait()


def _is_up(address: str) -> bool:
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(f"{address}/health/liveliness"):
            return True
    except OSError:
        return False


@pytest.fixture(params=[True, False], ids=["stream", "whole"])
def router(request: pytest.FixtureRequest, proxy: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Router]:
    monkeypatch.setenv("LITELLM_API_KEY", KEY)
    entry = {"sdk": "openai", "base_url": proxy, "key": "LITELLM_API_KEY", "stream": request.param,
             "input": ["text", "image"]}  # fmt: skip
    running = Router({
        "providers": {"litellm": entry},
        "prices": {"litellm/priced": {"input": 1, "output": 10, "cached_input": 1}},
        "routing": {"mode": "rules"},
        "deadlines": {"connect": 60, "first_byte": 120, "idle": 120, "total": 240},
    })  # fmt: skip
    yield running
    running.close()


def test_an_answer_and_its_usage(router: Router) -> None:
    answer = router.route("Explain closures", model="litellm/ok")
    assert (answer.text, answer.finish) == (TEXT, "stop")
    usage = answer.usage
    assert (usage.input_tokens, usage.output_tokens, usage.cached_input_tokens) == (IN, OUT, CACHED)
    assert not usage.estimated


def test_what_it_bills_is_what_counts(router: Router) -> None:
    """The upstream's cached tokens cost the full price here, at the proxy and in our config."""
    answer = router.route("Explain closures", model="litellm/priced")
    assert answer.cost == Decimal(IN) / 10**6 + Decimal(OUT) / 10**5
    assert not [note for note in answer.notes if "bill" in note]


def test_a_schema_goes_through(router: Router, upstream: FaultServer) -> None:
    answer = router.route("Label this", model="litellm/ok", schema={"label": ["a", "b"]})
    assert answer.data == {"label": "a"}
    assert upstream.requests[-1][2]["response_format"]["json_schema"]["strict"] is True


def test_a_picture_goes_through(router: Router, upstream: FaultServer) -> None:
    prompt = Prompt((TextPart("What is in it?"), ImagePart("Below:", "a dot", PNG, "image/png", 1, 1)))
    assert router.route(prompt, model="litellm/ok").text == TEXT
    parts = upstream.requests[-1][2]["messages"][-1]["content"]
    assert [part["type"] for part in parts] == ["text", "text", "image_url"]


@pytest.mark.parametrize(
    ("model", "kind"),
    [("status-401", "auth"), ("status-429", "rate_limit"), ("status-400-context", "context"), ("none", "not_found")],
)
def test_an_error_is_one_line_that_says_whose_it_is(router: Router, model: str, kind: str) -> None:
    with pytest.raises(RouteError) as caught:
        router.route("Explain closures", model=f"litellm/{model}")
    message = str(caught.value)
    assert caught.value.attempts[-1].error_kind == kind, message
    assert "\n" not in message
    assert KEY not in message


def test_a_wrong_key_is_named(router: Router, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LITELLM_API_KEY", "sk-a-wrong-one-5678")
    with pytest.raises(RouteError, match="No connected db.*LITELLM_API_KEY") as caught:
        router.route("Explain generators", model="litellm/ok")
    assert caught.value.attempts[-1].error_kind == "auth"
    assert "sk-a-wrong-one-5678" not in str(caught.value)


def test_an_answer_that_is_cut_off_says_so(router: Router) -> None:
    assert router.route("Explain closures", model="litellm/length", escalate=False).finish == "length"
