"""The well-known services, and backends of other packages."""

from __future__ import annotations

import datetime as dt
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import ipyrouter
from ipyrouter.config import load
from ipyrouter.config.catalogue import services
from ipyrouter.errors import ConfigError, RouteError, UsageError
from ipyrouter.pricing.prices import Pricing
from ipyrouter.router import Router
from ipyrouter.types import Candidate, Usage
from tests.conftest import run_python
from tests.faults.server import TEXT, FaultServer

HOSTED = [name for name, service in services().items() if service.key and not service.own]
HERE = [name for name, service in services().items() if service.here and not service.key]
SUPPORTS = {"vision", "json_schema", "json_object", "effort", "prompt_caching", "batch", "flex"}


@pytest.mark.parametrize("name", services())
def test_each_service_is_whole(name: str) -> None:
    service = services()[name]
    assert service.address.startswith("http://localhost:" if service.here else "https://")
    assert service.key is None or service.key.endswith(("_API_KEY", "_TOKEN", "_PAT", "_BEDROCK"))
    assert service.sdk in ("openai", "anthropic", "google", "azure", "foundry", "bedrock", "bedrock-openai", "vertex")
    assert not service.checked or dt.date.fromisoformat(service.checked) <= dt.datetime.now(dt.UTC).date()
    assert service.limit in ("max_tokens", "max_completion_tokens", "max_output_tokens")
    assert set(service.supports) <= SUPPORTS


def test_each_service_names_its_page() -> None:
    text = Path(ipyrouter.__file__).parent.joinpath("providers", "providers.toml").read_text("utf-8")
    named = re.findall(r"^\[([\w-]+)\].*\n# https://\S+$", text, re.MULTILINE)
    assert named == list(services())


def test_no_two_services_share_a_key_an_address_or_a_prefix() -> None:
    known = services().values()
    keys = [s.key for s in known if s.key and s.name not in ("gemini", "bedrock-openai")]  # the same account
    for values in (keys, [s.address for s in known], [p for s in known for p in s.prefixes]):
        assert len(values) == len(set(values))


@pytest.mark.parametrize("name", HOSTED)
def test_a_model_of_a_service_needs_its_key_alone(
    name: str, server: FaultServer, requests: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    service = services()[name]
    config = load()
    provider = config.providers[name]
    assert config.candidate(f"{name}/some/model") == Candidate(name, "some/model")
    assert not provider.has_key()
    monkeypatch.setenv(str(service.key), "a-key-that-is-long")
    assert provider.has_key()
    assert provider.address() == service.address
    assert provider.service == {"gemini": "google"}.get(name, name)
    assert (provider.limit, provider.supports) == (service.limit, service.supports)


@pytest.mark.parametrize(
    ("name", "model"),
    [("groq", "llama-3.3-70b-versatile"), ("mistral", "mistral-large-latest"), ("xai", "grok-4"),
     ("deepseek", "deepseek-chat"), ("google", "gemini-2.5-flash"), ("openrouter", "openai/gpt-4o")],
)  # fmt: skip
def test_their_models_are_priced(name: str, model: str) -> None:
    assert Pricing(load()).cost(Candidate(name, model), Usage(10**6, 10**6)).amount


def test_a_call_to_a_service(server: FaultServer, requests: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """The proxy of the environment stands for the service: it sees where the request is for."""
    monkeypatch.setenv("HTTP_PROXY", server.url)
    monkeypatch.setenv("GROQ_API_KEY", "a-key-that-is-long")
    router = Router({"providers": {"groq": {"base_url": "http://api.groq.com/openai/v1", "key": "GROQ_API_KEY"}}})
    assert router.route("Explain closures", model="groq/ok").text == TEXT
    path, headers, _ = requests[0]
    assert path == "http://api.groq.com/openai/v1/chat/completions"
    assert {name.lower(): value for name, value in headers.items()}["authorization"] == "Bearer a-key-that-is-long"
    router.close()


@pytest.mark.parametrize("name", HERE)
def test_a_server_on_this_machine_needs_no_key(name: str) -> None:
    config = load()
    assert config.providers[name].has_key()
    assert config.candidate(f"{name}/qwen3:8b") == Candidate(name, "qwen3:8b")
    assert config.warnings == ()


def test_the_user_s_own_entry_wins(server: FaultServer, requests: list[Any]) -> None:
    router = Router({"providers": {"groq": {"base_url": f"{server.url}/v1", "stream": False}}})
    assert router.route("Explain closures", model="groq/ok").text == TEXT
    body = requests[0][2]
    assert "stream" not in body
    assert "max_tokens" in body  # what another server calls the limit is not known
    provider = router.config.providers["groq"]
    assert (provider.key, provider.supports) == (None, ())
    router.close()


def test_a_key_of_another_name_alone_keeps_the_rest() -> None:
    provider = load({"providers": {"groq": {"key": "MY_GROQ"}}}).providers["groq"]
    assert (provider.key, provider.base_url, provider.sdk) == ("MY_GROQ", "https://api.groq.com/openai/v1", "openai")


def test_a_service_s_limit_goes_out_under_its_own_name(
    server: FaultServer, requests: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", f"{server.url}/v1")
    monkeypatch.setenv("OPENAI_API_KEY", "a-key-that-is-long")
    router = Router()
    router.route("Explain closures", model="openai/ok")
    assert "max_completion_tokens" in requests[0][2]
    router.close()


def test_an_unknown_service_is_guessed() -> None:
    with pytest.raises(UsageError, match=r"Did you mean 'groq'\?"):
        load().candidate("grok/llama")


def test_they_are_read_only_when_needed() -> None:
    run_python(
        """
import sys
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
shell.run_line_magic("load_ext", "ipyrouter")
catalogue = sys.modules.get("ipyrouter.config.catalogue")
assert catalogue is None or catalogue.services.cache_info().currsize == 0
"""
    )


# --- backends ---

BACKEND = """
from typing import Any

import httpx2

from ipyrouter.providers.base import PLACEHOLDER, Backend, Call, Changes, Target
from ipyrouter.types import Usage


class EchoBackend(Backend):
    address = "{address}"

    def __init__(self, target: Target, transport: Any) -> None:
        super().__init__(target, transport)
        self._client = transport.client(target.address)

    def body(self, provider: Any, call: Call, changes: Changes, notes: list[str]) -> dict[str, Any]:
        return {{"model": call.model, "messages": [{{"role": "user", "content": call.messages[-1].text}}]}}

    def send(self, body: dict[str, Any], watch: Any, collector: Any) -> None:
        headers = {{"X-Echo-Key": PLACEHOLDER}}
        response = self._client.post(f"{{self.target.address}}/chat/completions", json=body, headers=headers)
        response.raise_for_status()
        answer = response.json()
        collector.accepted = True
        collector.add(answer["choices"][0]["message"]["content"])
        collector.count(answer["usage"], lambda counts: Usage(counts["prompt_tokens"], counts["completion_tokens"]))
        collector.end("stop")

    def response_of(self, error: Exception) -> Any:
        return error.response if isinstance(error, httpx2.HTTPStatusError) else None
"""

BROKEN = "raise RuntimeError('its SDK is missing')"
NO_BACKEND = "class EchoBackend: address = 'http://localhost:1'"


@pytest.fixture
def package(tmp_path: Path, server: FaultServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Install a package with a backend into a folder of its own, as pip would."""

    def install(code: str) -> None:
        folder = tmp_path / "site"
        info = folder / "ipyrouter_echo-1.0.dist-info"
        info.mkdir(parents=True)
        (folder / "ipyrouter_echo.py").write_text(code)
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: ipyrouter-echo\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text("[ipyrouter.backends]\necho = ipyrouter_echo:EchoBackend\n")
        monkeypatch.syspath_prepend(str(folder))

    yield install
    sys.modules.pop("ipyrouter_echo", None)


def test_a_backend_of_another_package(
    package: Any, server: FaultServer, requests: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    package(BACKEND.format(address=f"{server.url}/v1"))
    monkeypatch.setenv("ECHO_LOGIN", "a-key-that-is-long")
    router = Router({"providers": {"mine": {"sdk": "echo", "key": "ECHO_LOGIN"}}})
    answer = router.route("Explain closures", model="mine/ok")
    assert (answer.text, answer.usage.output_tokens) == (TEXT, 30)
    path, headers, _ = requests[0]
    assert path == "/v1/chat/completions"
    assert {name.lower(): value for name, value in headers.items()}["x-echo-key"] == "a-key-that-is-long"
    with pytest.raises(RouteError, match="401 Incorrect API key provided"):
        router.route("Explain closures", model="mine/status-401")
    router.close()


def test_a_backend_that_cannot_be_loaded(package: Any) -> None:
    package(BROKEN)
    with pytest.raises(ConfigError) as caught:
        load({"providers": {"mine": {"sdk": "echo"}}})
    assert str(caught.value) == (
        "The backend 'echo' of the package ipyrouter-echo could not be loaded: RuntimeError: its SDK is missing."
        " Reinstall or upgrade ipyrouter-echo, or name another sdk."
    )


@pytest.mark.parametrize("code", [BROKEN, NO_BACKEND], ids=["raises", "no-backend"])
def test_a_call_through_a_backend_that_is_none(package: Any, code: str) -> None:
    package(code)
    router = Router({"providers": {"mine": {"sdk": "echo", "base_url": "http://localhost:1/v1"}}})
    with pytest.raises(RouteError, match=r"The backend 'echo'.* (could not be loaded|is not a subclass)"):
        router.route("Explain closures", model="mine/ok")
    router.close()


@pytest.mark.parametrize(("sdk", "guess"), [("opanai", "openai"), ("gogle", "google"), ("anthropc", "anthropic")])
def test_a_misspelt_backend_is_guessed(sdk: str, guess: str) -> None:
    with pytest.raises(ConfigError, match=rf"Did you mean '{guess}'\?"):
        load({"providers": {"mine": {"sdk": sdk, "base_url": "http://localhost:1"}}})


def test_a_backend_whose_sdk_is_not_installed() -> None:
    run_python(
        """
import os, sys
sys.modules["google.genai"] = None  # what an import finds where the package is not there
os.environ["GEMINI_API_KEY"] = "a-key-that-is-long"
from ipyrouter.errors import RouteError
from ipyrouter.router import Router
try:
    Router().route("Explain closures", model="gemini-3.8-flash")
except RouteError as error:
    assert "The backend 'google' needs google-genai" in str(error), error
    assert "Install it: pip install google-genai." in str(error), error
else:
    raise AssertionError("it answered")
"""
    )


def test_the_extra_is_named_in_the_project() -> None:
    path = Path(__file__).parent.parent / "pyproject.toml"
    if path.exists():  # not beside an installed wheel
        extras = tomllib.loads(path.read_text("utf-8"))["project"]["optional-dependencies"]
        assert any(line.startswith("google-genai") for line in extras["google"])
