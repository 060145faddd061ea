"""A real llama.cpp server, reached as a provider over HTTP: what it answers is a small real model's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from ipyrouter.errors import RouteError
from ipyrouter.providers import discovery, local
from ipyrouter.providers.discovery import local_servers
from ipyrouter.router import Router

KEY = "a-wrong-key-of-llama"


@pytest.fixture(scope="module")
def endpoint() -> Iterator[local.Endpoint]:
    servers = local.EmbeddedServers()
    yield servers.endpoint(None, "smollm2", print)
    servers.close()


@pytest.fixture
def build(endpoint: local.Endpoint, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setenv("LLAMA_KEY", endpoint.secret)
    routers = []

    def make(*, stream: bool = True) -> Router:
        entry = {"sdk": "openai", "base_url": f"{endpoint.url}/v1", "key": "LLAMA_KEY", "stream": stream}
        router = Router({
            "providers": {"llamacpp": entry},
            "routing": {"mode": "rules"},
            "deadlines": {"connect": 60, "first_byte": 300, "idle": 300, "total": 600},  # the machine may be busy
        })  # fmt: skip
        routers.append(router)
        return router

    yield make
    for router in routers:
        router.close()


@pytest.mark.slow
@pytest.mark.parametrize("stream", [True, False])
def test_an_answer_a_schema_and_json(build: Any, stream: bool) -> None:
    router = build(stream=stream)
    pieces: list[str] = []
    answer = router.route(
        "Say hello.", model="llamacpp/smollm2", max_output_tokens=40, on_delta=lambda delta: pieces.append(delta.text)
    )
    assert answer.text.strip()
    assert "".join(pieces) == answer.text
    assert (answer.usage.estimated, answer.usage.input_tokens > 0) == (False, True)
    ask = "Is 'I love it' positive or negative? Give a confidence from 0 to 9."
    schema = {"label": ["positive", "negative"], "details": {"confidence": int, "certain": bool}}
    answer = router.route(ask, model="llamacpp/smollm2", schema=schema, max_output_tokens=200)
    assert answer.data["label"] in ("positive", "negative")
    assert isinstance(answer.data["details"]["confidence"], int)
    assert len(answer.attempts) == 1  # its grammar lets nothing else through
    answer = router.route(
        "Give Ada's name and year of birth as JSON.", model="llamacpp/smollm2", json=True, max_output_tokens=200
    )
    assert answer.text.strip()


@pytest.mark.slow
def test_its_errors_are_one_line(build: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    router = build()
    with pytest.raises(RouteError) as caught:
        router.route("word " * 12_000, model="llamacpp/smollm2", allow_large=True)
    assert caught.value.attempts[-1].error_kind == "context"
    assert "\n" not in str(caught.value)
    monkeypatch.setenv("LLAMA_KEY", KEY)
    with pytest.raises(RouteError, match="LLAMA_KEY") as caught:
        router.route("Say hello.", model="llamacpp/smollm2")
    assert KEY not in str(caught.value)


@pytest.mark.slow
def test_it_is_seen_on_this_machine(build: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discovery, "_PATIENCE", 60.0)  # the machine may be busy
    provider = build().config.providers["llamacpp"]
    (server,) = local_servers([provider])
    assert (server.name, server.models) == ("llamacpp", ("smollm2",))
    monkeypatch.delenv("LLAMA_KEY")
    (server,) = local_servers([provider])
    assert str(server).endswith("/v1 and wants a key: name its variable in providers.llamacpp.key, and set it")
