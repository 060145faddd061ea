"""Each cloud's own client against the loopback server: path, query, headers and body are the cloud's."""

from __future__ import annotations

import base64
import json
import re
import struct
import time
import zlib
from pathlib import Path
from typing import Any, ClassVar

import azure.core.credentials
import azure.core.exceptions
import azure.identity
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from ipyrouter.config import keys
from ipyrouter.errors import ConfigError, NoModelError, RouteError
from ipyrouter.providers import clouds
from ipyrouter.router import Router
from tests.faults.server import TEXT, FaultServer, Reply, claude_whole

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


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ({}, {"headers": {"X-Region": "north"}}, False),
        ({"headers": {"X-Region": "north"}}, {"headers": {"x-region": "north"}}, True),
        ({"headers": {"X-Region": "north"}}, {"headers": {"X-Region": "${SITE}"}}, True),
        ({"query": {"site": "south"}}, {"query": {"site": "${SITE}"}}, False),
        ({"headers": {"X-Gateway": "a ${OLD_TOKEN}"}}, {"headers": {"X-Gateway": "a ${NEW_TOKEN}"}}, True),
        ({"headers": {"Authorization": "Basic b2xk"}}, {"headers": {"Authorization": "Basic bmV3"}}, True),
    ],
)
def test_another_header_or_query_is_another_answer_but_another_secret_is_not(
    one: dict[str, Any], other: dict[str, Any], same: bool,
    server: FaultServer, requests: list[Any], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    for name, value in (("SITE", "north"), ("OLD_TOKEN", "old-and-long"), ("NEW_TOKEN", "new-and-long")):
        monkeypatch.setenv(name, value)
    for extra in (one, other):
        assert ask(server, {"sdk": "openai", **extra}) == TEXT
    assert len(requests) == (1 if same else 2)


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


# --- Anthropic's models at Amazon and Google: the model stands in the address ---

REGION = {"region": "eu-west-1", "stream": False}


def lowered(headers: dict[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def frames(*events: dict[str, Any]) -> bytes:
    """Return events in Amazon's own frames: lengths, checksums, headers, and the event in base64."""
    stream = b""
    for event in events:
        payload = json.dumps({"bytes": base64.b64encode(json.dumps(event).encode()).decode()}).encode()
        names = {":event-type": "chunk", ":content-type": "application/json", ":message-type": "event"}
        headers = b"".join(
            bytes([len(name)]) + name.encode() + b"\x07" + struct.pack(">H", len(value)) + value.encode()
            for name, value in names.items()
        )
        prelude = struct.pack(">II", 16 + len(headers) + len(payload), len(headers))
        message = prelude + struct.pack(">I", zlib.crc32(prelude)) + headers + payload
        stream += message + struct.pack(">I", zlib.crc32(message))
    return stream


STREAM = (
    {"type": "message_start", "message": {"model": "m", "usage": {"input_tokens": 120, "output_tokens": 1}}},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": TEXT[:9]}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": TEXT[9:]}},
    {"type": "content_block_stop", "index": 0},
    {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 30}},
    {"type": "message_stop"},
)


@pytest.fixture
def cloud(server: FaultServer, requests: list[Any]) -> FaultServer:
    """The server, which answers as Amazon and Google do, whatever model the address names."""
    server.clouds[:] = [Reply(claude_whole(TEXT))]
    return server


def test_claude_on_bedrock_with_a_key(cloud: FaultServer, requests: list[Any]) -> None:
    assert ask(cloud, {"sdk": "bedrock", **AZURE_KEY, **REGION}) == TEXT
    path, headers, body = requests[0]
    assert path == "/model/ok/invoke"
    assert lowered(headers)["authorization"] == f"Bearer {KEY}"
    assert "anthropic_version" in body
    assert "model" not in body


def test_a_stream_of_bedrock_comes_in_amazon_s_frames(cloud: FaultServer, requests: list[Any]) -> None:
    cloud.clouds[:] = [Reply(frames(*STREAM), headers={"Content-Type": "application/vnd.amazon.eventstream"})]
    router = Router({"providers": {"c": {"base_url": cloud.url, "sdk": "bedrock", "region": "eu-west-1", **AZURE_KEY}}})
    answer = router.route("Explain closures", model="c/ok")
    assert requests[0][0] == "/model/ok/invoke-with-response-stream"
    assert (answer.text, answer.usage.input_tokens, answer.usage.output_tokens) == (TEXT, 120, 30)
    router.close()


@pytest.mark.parametrize("sdk", ["bedrock", "bedrock-openai"])
def test_calls_are_signed_with_what_amazon_s_library_finds(
    sdk: str, cloud: FaultServer, requests: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
    monkeypatch.setenv("AWS_BEARER_TOKEN_BEDROCK", "the-key-of-another-program")
    assert ask(cloud, {"sdk": sdk, "credentials": "aws", **REGION}) == TEXT
    headers = lowered(requests[0][1])
    assert headers["authorization"].startswith("AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/")
    assert "/eu-west-1/bedrock/aws4_request" in headers["authorization"]
    assert "the-key-of-another-program" not in str(headers)


def test_without_amazon_s_credentials_there_is_one_line(
    cloud: FaultServer, requests: list[Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(
        RouteError, match=r"Amazon's library finds no credentials for this machine\. Run: aws configure"
    ):
        ask(cloud, {"sdk": "bedrock", "credentials": "aws", **REGION})
    assert requests == []


def test_claude_on_google_cloud_with_a_service_account(
    cloud: FaultServer, requests: list[Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Google's own library signs with the account's key and fetches the token; the loopback server issues it."""
    cloud.clouds[:] = [Reply({"access_token": "a-token-of-google", "expires_in": 3600}), Reply(claude_whole(TEXT))]
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    account = {"type": "service_account", "client_email": "a@b.example", "private_key": pem, "project_id": "p"}
    path = tmp_path / "account.json"
    path.write_text(json.dumps({**account, "token_uri": f"{cloud.url}/token"}))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))
    clouds.forget()
    settings = {"base_url": cloud.url, "sdk": "vertex", "credentials": "google", "project": "p", **REGION}
    router = Router({"providers": {"c": settings}})
    assert router.route("Explain closures", model="c/ok").text == TEXT
    where, headers, body = requests[1]
    assert where == "/projects/p/locations/eu-west-1/publishers/anthropic/models/ok:rawPredict"
    assert lowered(headers)["authorization"] == "Bearer a-token-of-google"
    assert "model" not in body
    assert "a-token-of-google" not in router.hide("it said a-token-of-google")
    router.close()
    clouds.forget()


# --- Microsoft Entra ID ---


class Credential:
    """What azure-identity's protocol of a credential asks for."""

    asked: ClassVar[list[str]] = []

    def get_token(self, *scopes: str, **_: Any) -> azure.core.credentials.AccessToken:
        self.asked.extend(scopes)
        return azure.core.credentials.AccessToken("a-token-of-entra", int(time.time()) + 3600)


class NoCredential(Credential):
    def get_token(self, *_scopes: str, **_: Any) -> azure.core.credentials.AccessToken:
        raise azure.core.exceptions.ClientAuthenticationError("EnvironmentCredential: a-secret\nAzureCli: no")


@pytest.mark.parametrize(
    ("settings", "scope"),
    [
        ({"sdk": "azure"}, "https://cognitiveservices.azure.com/.default"),
        ({"sdk": "azure", "api_version": "2024-10-21"}, "https://cognitiveservices.azure.com/.default"),
        ({"sdk": "foundry"}, "https://ai.azure.com/.default"),
    ],
    ids=["v1", "classic", "foundry"],
)
def test_entra_s_token_goes_out(
    settings: dict[str, Any], scope: str, server: FaultServer, requests: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(azure.identity, "DefaultAzureCredential", Credential)
    monkeypatch.setattr(Credential, "asked", [])
    monkeypatch.setenv("AZURE_OPENAI_API_KEY", "not-this-one")
    monkeypatch.setenv("ANTHROPIC_FOUNDRY_API_KEY", "nor-this-one")
    clouds.forget()
    router = Router({"providers": {"c": {"base_url": server.url, "credentials": "entra", **settings}}})
    assert router.route("Explain closures", model="c/ok").text == TEXT
    headers = lowered(requests[0][1])
    assert headers["authorization"] == "Bearer a-token-of-entra"
    assert not {"api-key", "x-api-key"} & set(headers)
    assert set(Credential.asked) == {scope}
    assert "a-token-of-entra" not in router.hide("it said a-token-of-entra")
    router.close()
    clouds.forget()


def test_where_entra_gives_no_token_there_is_one_line(
    server: FaultServer, requests: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(azure.identity, "DefaultAzureCredential", NoCredential)
    clouds.forget()
    with pytest.raises(
        RouteError, match=r"Entra ID gives no token \(ClientAuthenticationError\)\. Run: az login"
    ) as caught:
        ask(server, {"sdk": "azure", "credentials": "entra"})
    assert "a-secret" not in str(caught.value)
    assert requests == []
    clouds.forget()


def test_a_managed_identity_s_token_goes_out(
    server: FaultServer, requests: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole way through azure-identity: App Service's token endpoint is the loopback server."""
    monkeypatch.setenv("IDENTITY_ENDPOINT", f"{server.url}/token")
    monkeypatch.setenv("IDENTITY_HEADER", "a-header")
    monkeypatch.setenv("AZURE_TOKEN_CREDENTIALS", "ManagedIdentityCredential")
    clouds.forget()
    assert ask(server, {"sdk": "azure", "credentials": "entra"}) == TEXT
    assert lowered(requests[0][1])["authorization"] == "Bearer a-token-of-an-identity"
    clouds.forget()


@pytest.mark.parametrize(("sdk", "credentials"), [("azure", "aws"), ("anthropic", "entra"), ("bedrock", "google")])
def test_credentials_that_do_not_go_with_the_backend(
    sdk: str, credentials: str, server: FaultServer, requests: list[Any]
) -> None:
    with pytest.raises(RouteError, match=rf"providers\.c\.credentials: '{credentials}' does not go with '{sdk}'"):
        ask(server, {"sdk": sdk, "credentials": credentials, "region": "eu-west-1"})
    assert requests == []


def test_an_account_without_its_region_says_so() -> None:
    router = Router({"providers": {"bedrock": {"credentials": "aws"}}})
    with pytest.raises(NoModelError, match=r"providers\.bedrock\.region \(or AWS_REGION\) is not set") as caught:
        router.route("Explain closures", model="bedrock/claude-opus-5-5")
    assert "Set it in your config file" in str(caught.value)
    chain = {"tiers": {tier: {"chain": ["bedrock/claude-opus-5-5"]} for tier in ("fast", "mid", "power")}}
    with pytest.raises(NoModelError, match=r"providers\.bedrock\.region \(or AWS_REGION\) is not set"):
        Router({"providers": {"bedrock": {"credentials": "aws"}}, **chain}).route("Explain closures")


# --- headers and keys: what goes wrong ---


@pytest.mark.parametrize("value", ["${MY-TOKEN}", "Bearer ${", "ü", "a\nb", ""])
def test_a_value_that_cannot_go_out_is_refused_unseen(value: str) -> None:
    with pytest.raises(ConfigError, match=r"providers\.c\.headers\.X-A must be a string") as caught:
        Router({"providers": {"c": {"sdk": "openai", "base_url": "http://localhost:1", "headers": {"X-A": value}}}})
    assert "A key belongs in a variable" in str(caught.value)


def test_a_variable_that_no_header_can_carry(
    server: FaultServer, requests: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GATEWAY_TOKEN", "two\nlines-of-it")
    with pytest.raises(RouteError, match=r"headers\.X-A: GATEWAY_TOKEN holds what a header cannot carry") as caught:
        ask(server, {"sdk": "openai", "headers": {"X-A": "${GATEWAY_TOKEN}"}})
    assert "lines-of-it" not in str(caught.value)
    assert requests == []


def test_a_command_that_fails_once_is_run_again(
    server: FaultServer, requests: list[Any], home: Path, tmp_path: Path
) -> None:
    """An unlocked password manager answers the next request: nobody has refused the key."""
    key = tmp_path / "key"
    write(home, f'[providers.c]\nsdk = "openai"\nbase_url = "{server.url}"\nkey_command = ["cat", "{key}"]\n')
    router = Router()
    with pytest.raises(RouteError, match="'cat' ended with exit code 1"):
        router.route("Explain closures", model="c/ok")
    key.write_text("a-key-of-a-command\n")
    assert router.route("Explain closures", model="c/ok").text == TEXT
    router.close()


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["no-such-program"], "'no-such-program' cannot be run: No such file or directory"),
        (["true"], "'true' printed nothing"),
        (["printf", "a\\nb"], "the key of c is not a key: it holds a line break"),
        (["sleep", "100"], "'sleep' printed no key within"),
        (["yes"], "'yes' printed over 100,000 bytes, which is not a key"),
        (["sh", "-c", "echo half-of-a-key; exec >&-; exec sleep 100"], "'sh' printed no key within"),
    ],
)
def test_what_a_command_does_wrong_is_one_line(
    command: list[str], words: str, server: FaultServer, requests: list[Any], home: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(keys, "_PATIENCE", 0.5 if "sleep" in str(command) else 60.0)
    quoted = ", ".join(f"'''{word}'''" for word in command)
    write(home, f'[providers.c]\nsdk = "openai"\nbase_url = "{server.url}"\nkey_command = [{quoted}]\n')
    router = Router()
    with pytest.raises(RouteError, match=re.escape(words)) as caught:
        router.route("Explain closures", model="c/ok")
    assert "\n" not in str(caught.value)
    assert requests == []
    router.close()


def test_a_command_is_a_list(home: Path) -> None:
    write(home, '[providers.c]\nsdk = "openai"\nbase_url = "http://localhost:1"\nkey_command = "op read x"\n')
    with pytest.raises(ConfigError, match=r"providers\.c\.key_command must be a list of strings"):
        Router()
