"""What `ipyrouter doctor` sees of the network: addresses, proxies, certificates, local servers; and what it asks."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from IPython.testing.globalipapp import get_ipython, start_ipython

from ipyrouter import cli
from ipyrouter.config import load
from ipyrouter.providers.discovery import local_servers
from tests.faults.server import FaultServer

Capture = pytest.CaptureFixture[str]


def write(home: Path, text: str) -> None:
    home.mkdir(mode=0o700, exist_ok=True)
    (home / "config.toml").write_text(text)


def closed_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    return port


@pytest.fixture
def models() -> Iterator[dict[str, Any]]:
    """A server of one address: what it answers to GET /v1/models is "body", and what it was asked "paths"."""
    state: dict[str, Any] = {"body": b"", "paths": []}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state["paths"].append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(state["body"])

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    state["url"] = f"http://127.0.0.1:{server.server_address[1]}/v1"
    yield state
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_key_from_a_command_is_named_and_its_program_looked_for(home: Path, capsys: Capture) -> None:
    tables = "".join(
        f'[providers.{name}]\nsdk = "openai"\nbase_url = "http://localhost:1"\nkey_command = ["{program}", "read"]\n'
        for name, program in (("here", "cat"), ("away", "no-such-program"))
    )
    write(home, tables)
    assert cli.main(["doctor"]) == 1
    out = capsys.readouterr().out
    assert "ok    provider here: its key comes from key_command (cat …)\n" in out
    assert "WARN  provider away: key_command: there is no program 'no-such-program'. Install it, or" in out


def test_a_moved_address_is_shown_with_its_variable(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-that-is-long-enough")
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-that-is-long-enough-too")
    monkeypatch.setenv("OPENAI_BASE_URL", "https://user:secret-word@gateway.example/v1")
    cli.main(["doctor"])
    out = capsys.readouterr().out
    assert "provider openai: calls go to https://gateway.example/v1 (from OPENAI_BASE_URL)\n" in out
    assert "provider anthropic: calls go to https://api.anthropic.com\n" in out
    assert "secret-word" not in out


def test_a_dead_proxy_and_a_missing_file_of_certificates_are_named(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    proxy = f"http://127.0.0.1:{closed_port()}"
    monkeypatch.setenv("OPENAI_API_KEY", "sk-that-is-long-enough")
    monkeypatch.setenv("HTTPS_PROXY", proxy.replace("//", "//me:secret-word@"))
    monkeypatch.setenv("SSL_CERT_FILE", "/nowhere/ca.pem")
    assert cli.main(["doctor"]) == 1
    out = capsys.readouterr().out
    assert f"through the proxy {proxy} (HTTPS_PROXY)" in out
    assert f"WARN  the proxy {proxy} (HTTPS_PROXY) does not answer" in out
    assert "WARN  SSL_CERT_FILE names /nowhere/ca.pem, which does not exist" in out
    assert "secret-word" not in out


def test_a_proxy_that_answers_is_no_fault(
    server: FaultServer, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-that-is-long-enough")
    monkeypatch.setenv("HTTPS_PROXY", server.url)
    cli.main(["doctor"])
    out = capsys.readouterr().out
    assert f"through the proxy {server.url} (HTTPS_PROXY)" in out
    assert "does not answer" not in out


def test_a_file_that_holds_no_certificates_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture, tmp_path: Path
) -> None:
    path = tmp_path / "ca.pem"
    path.write_text("nothing of the kind")
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    assert cli.main(["doctor"]) == 1
    assert f"WARN  SSL_CERT_FILE names {path}, which holds no certificates" in capsys.readouterr().out


def test_what_an_account_lacks_and_an_open_env_file_are_named(home: Path, capsys: Capture) -> None:
    write(
        home,
        '[providers.vertex]\nproject = "p"\n[providers.mine]\nsdk = "bedrock"\ncredentials = "aws"\nregion = "r"\n',
    )
    (home / ".env").write_text("GROQ_API_KEY=sk-that-is-long-enough\n")
    (home / ".env").chmod(0o644)
    assert cli.main(["doctor"]) == 1
    out = capsys.readouterr().out
    assert "WARN  provider vertex: providers.vertex.region (or CLOUD_ML_REGION) is not set" in out
    assert "ok    provider mine: its calls are signed with aws's login" in out
    assert f"ok    provider groq: GROQ_API_KEY is present in {home / '.env'}" in out
    assert f"WARN  {home / '.env'}: others may read it: chmod 600 {home / '.env'}" in out
    assert "that-is-long-enough" not in out


def test_ask_names_who_is_not_asked(
    server: FaultServer, requests: list[Any], home: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GROQ_API_KEY", "sk-that-is-long-enough")
    write(home, ASK.format(url=server.url, other="ok"))
    assert cli.main(["doctor", "--ask"]) == 0
    assert "provider groq was not asked: no chain names a model of it" in capsys.readouterr().out
    assert [body["model"] for _, _, body in requests] == ["ok", "ok"]


def test_a_local_server_is_found_and_not_used(models: dict[str, Any], home: Path, capsys: Capture) -> None:
    models["body"] = json.dumps({"object": "list", "data": [{"id": "qwen3:8b"}, {"id": "gemma3:4b"}]}).encode()
    write(home, f'[providers.ollama]\nbase_url = "{models["url"]}"\n')
    cli.main(["doctor"])
    assert f"ollama answers at {models['url']}: ollama/qwen3:8b, ollama/gemma3:4b" in capsys.readouterr().out
    shell = start_ipython() or get_ipython()  # type: ignore[no-untyped-call]
    shell.run_line_magic("load_ext", "ipyrouter")
    shell.run_line_magic("router", "models")
    assert "ollama/qwen3:8b" in capsys.readouterr().out
    assert models["paths"] == ["/v1/models"] * 2
    config = load()
    assert not any(candidate.provider == "ollama" for tier in config.tiers.values() for candidate in tier.chain)


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"[]", b'{"data": 3}', b'{"data": [{"name": "x"}]}', b'{"data": ["x"]}', b" " * 1_100_000]
)
def test_whatever_else_is_at_the_port_is_passed_over(body: bytes, models: dict[str, Any]) -> None:
    models["body"] = body
    config = load({"providers": {"lmstudio": {"base_url": models["url"]}}})
    assert "lmstudio" not in [found.name for found in local_servers(config.providers.values())]


def test_a_server_without_models_says_so(models: dict[str, Any]) -> None:
    models["body"] = b'{"object": "list", "data": null}'
    provider = load({"providers": {"ollama": {"base_url": models["url"]}}}).providers["ollama"]
    assert [str(found) for found in local_servers([provider])] == [
        f"ollama answers at {models['url']} and has no model yet"
    ]


def test_only_loopback_addresses_are_asked() -> None:
    provider = load({"providers": {"ollama": {"base_url": "http://192.0.2.1:11434/v1"}}}).providers["ollama"]
    assert local_servers([provider]) == []


ASK = """
[providers.c]
sdk = "openai"
base_url = "{url}/v1"
[providers.d]
sdk = "anthropic"
base_url = "{url}"
[tiers.fast]
chain = ["c/ok"]
[tiers.mid]
chain = ["c/medium", "d/{other}"]
[tiers.power]
chain = ["c/medium"]
[prices."c/ok"]
input = 1
output = 10
[prices."c/medium"]
input = 2
output = 20
[prices."d/{other}"]
input = 1
output = 10
"""


def test_ask_calls_each_provider_s_cheapest_model_once(
    server: FaultServer, requests: list[Any], home: Path, capsys: Capture
) -> None:
    write(home, ASK.format(url=server.url, other="ok"))
    assert cli.main(["doctor", "--ask"]) == 0
    out = capsys.readouterr().out
    first = out.index("One call to each of these, at most: c/ok $0.0")
    assert first < out.index("ok    c/ok answered after ")
    assert "ok    d/ok answered after " in out
    assert [body["model"] for _, _, body in requests] == ["ok", "ok"]
    assert [path for path, _, _ in requests] == ["/v1/chat/completions", "/v1/messages"]


def test_ask_names_what_fails(server: FaultServer, requests: list[Any], home: Path, capsys: Capture) -> None:
    write(home, ASK.format(url=server.url, other="status-401"))
    assert cli.main(["doctor", "--ask"]) == 1
    out = capsys.readouterr().out
    assert "ok    c/ok answered after " in out
    assert "WARN  d/status-401: " in out
    assert "Incorrect API key provided" in out


def test_without_ask_nothing_is_sent(server: FaultServer, requests: list[Any], home: Path, capsys: Capture) -> None:
    write(home, ASK.format(url=server.url, other="ok"))
    cli.main(["doctor"])
    assert requests == []


def test_ask_without_a_key_says_so(capsys: Capture) -> None:
    cli.main(["doctor", "--ask"])
    assert "there is nobody to ask" in capsys.readouterr().out
