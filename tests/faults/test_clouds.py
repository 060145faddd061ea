"""Each cloud's own client against the loopback server: path, query, headers and body are the cloud's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ipyrouter.errors import RouteError
from ipyrouter.router import Router
from tests.faults.server import TEXT, FaultServer

KEY = "a-key-that-is-long"
AZURE_KEY = {"key": "CLOUD_KEY"}
CASES: dict[str, tuple[dict[str, Any], str, dict[str, str]]] = {
    "azure-v1": ({"sdk": "azure", **AZURE_KEY}, "/openai/v1/chat/completions", {"api-key": KEY}),
    "azure-classic": (
        {"sdk": "azure", "api_version": "2024-10-21", "deployments": {"ok": "medium"}, **AZURE_KEY},
        "/openai/deployments/medium/chat/completions?api-version=2024-10-21",
        {"api-key": KEY},
    ),
    "foundry": ({"sdk": "foundry", **AZURE_KEY}, "/v1/messages", {"x-api-key": KEY}),
    "bedrock-openai": (
        {"sdk": "bedrock-openai", "region": "eu-west-1", **AZURE_KEY},
        "/chat/completions",
        {"authorization": f"Bearer {KEY}"},
    ),
}


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLOUD_KEY", KEY)


def ask(server: FaultServer, provider: dict[str, Any], prompt: str = "Explain closures") -> str:
    router = Router({"providers": {"c": {"base_url": server.url, **provider}}})
    try:
        return router.route(prompt, model="c/ok").text
    finally:
        router.close()


@pytest.mark.parametrize("case", CASES)
def test_a_call_goes_out_as_the_cloud_wants_it(case: str, server: FaultServer, requests: list[Any]) -> None:
    provider, path, headers = CASES[case]
    assert ask(server, provider) == TEXT
    where, sent, body = requests[0]
    sent = {name.lower(): value for name, value in sent.items()}
    assert where == path
    assert {name: sent[name] for name in headers} == headers
    assert sent.get("authorization", f"Bearer {KEY}") == f"Bearer {KEY}"
    assert body["model"] == provider.get("deployments", {}).get("ok", "ok")


def test_headers_and_query_of_the_config_go_out(
    server: FaultServer, requests: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GATEWAY_TOKEN", "a-token-that-is-long")
    extra = {"headers": {"X-Gateway": "Bearer ${GATEWAY_TOKEN}", "X-Team": "analytics"}, "query": {"site": "north"}}
    assert ask(server, {"sdk": "openai", **extra}) == TEXT
    path, sent, _ = requests[0]
    sent = {name.lower(): value for name, value in sent.items()}
    assert path == "/chat/completions?site=north"
    assert (sent["x-gateway"], sent["x-team"]) == ("Bearer a-token-that-is-long", "analytics")
    monkeypatch.delenv("GATEWAY_TOKEN")
    with pytest.raises(RouteError, match=r"providers\.c\.headers\.X-Gateway: GATEWAY_TOKEN is not set"):
        ask(server, {"sdk": "openai", **extra}, "Explain generators")


def test_their_values_are_shown_nowhere() -> None:
    router = Router({"providers": {"c": {"sdk": "openai", "base_url": "http://localhost:1", "headers": {"X-A": KEY}}}})
    assert KEY not in repr(router.config) + str(router.config.values) + router.hide(f"it said {KEY}")


def write(home: Path, text: str) -> None:
    home.mkdir(mode=0o700, exist_ok=True)
    (home / "config.toml").write_text(text)


def command(server: FaultServer, script: str) -> str:
    return f'[providers.c]\nsdk = "openai"\nbase_url = "{server.url}"\nkey_command = ["sh", "-c", "{script}"]\n'


def test_a_key_from_a_command(server: FaultServer, requests: list[Any], home: Path) -> None:
    write(home, command(server, "echo a-key-of-a-command"))
    with_key = Router()
    assert with_key.route("Explain closures", model="c/ok").text == TEXT
    assert {k.lower(): v for k, v in requests[0][1].items()}["authorization"] == "Bearer a-key-of-a-command"
    assert "a-key-of-a-command" not in with_key.hide("it said a-key-of-a-command")
    with_key.close()


def test_a_command_that_fails_says_so_without_its_output(server: FaultServer, requests: list[Any], home: Path) -> None:
    write(home, command(server, "echo half-of-a-key; exit 3"))
    router = Router()
    with pytest.raises(RouteError, match=r"key_command: 'sh' ended with exit code 3") as caught:
        router.route("Explain closures", model="c/ok")
    assert "half-of-a-key" not in str(caught.value)
    assert requests == []
    router.close()


def test_a_key_from_the_env_file(
    server: FaultServer, requests: list[Any], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CLOUD_KEY")
    write(home, "")
    (home / ".env").write_text("CLOUD_KEY=a-key-with-$dollars\n")
    assert ask(server, {"sdk": "openai", **AZURE_KEY}) == TEXT
    assert {k.lower(): v for k, v in requests[0][1].items()}["authorization"] == "Bearer a-key-with-$dollars"
