"""Keys outside the environment: the keyring through its own package, a notebook's secrets, and what errors offer."""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keyring
import keyring.backend
import keyring.errors
import pytest

from ipyrouter import cli
from ipyrouter.config import keys
from ipyrouter.errors import ConfigError, NoModelError, RouteError
from ipyrouter.router import Router
from tests.conftest import run_python
from tests.faults.server import TEXT, FaultServer

KEY = "sk-a-key-that-is-long"


class Ring(keyring.backend.KeyringBackend):  # type: ignore[no-any-unimported,misc,unused-ignore]
    """A keyring in memory, where keyring's package looks for one of the operating system."""

    priority = 1

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.entries: dict[tuple[str, str], str] = {}
        self.locked = False

    def get_password(self, service: str, username: str) -> str | None:
        if self.locked:
            raise keyring.errors.KeyringLocked(f"locked, it holds {KEY}")
        return self.entries.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        self.entries[service, username] = password

    def delete_password(self, service: str, username: str) -> None:
        del self.entries[service, username]


@pytest.fixture
def ring() -> Iterator[Ring]:
    before, own = keyring.get_keyring(), Ring()
    keyring.set_keyring(own)
    keys.forget()
    yield own
    keyring.set_keyring(before)
    keys.forget()


def key_of(requests: list[Any], number: int = 0) -> str:
    headers: dict[str, str] = {name.lower(): value for name, value in requests[number][1].items()}
    return headers["authorization"]


def here(server: FaultServer) -> dict[str, Any]:
    return {"providers": {"c": {"sdk": "openai", "base_url": f"{server.url}/v1", "key": "CLOUD_KEY"}}}


def write(home: Path, server: FaultServer) -> None:
    home.mkdir(mode=0o700, exist_ok=True)
    text = f'[providers.c]\nsdk = "openai"\nbase_url = "{server.url}/v1"\nkey = "CLOUD_KEY"\n'
    (home / "config.toml").write_text(text)


def test_a_key_is_stored_used_listed_and_removed(
    server: FaultServer, requests: list[Any], ring: Ring, home: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    write(home, server)
    monkeypatch.setattr("getpass.getpass", lambda _prompt: f" {KEY}\n")  # the terminal
    assert cli.main(["key", "set", "c"]) == 0
    assert cli.main(["key", "list"]) == 0
    out = capsys.readouterr().out
    assert "The key of c is in the keyring.\nc\n" in out
    assert KEY not in out
    assert KEY not in "".join(path.read_text("latin-1") for path in home.iterdir())
    router = Router()
    assert router.route("Explain closures", model="c/ok").text == TEXT
    assert key_of(requests) == f"Bearer {KEY}"
    assert KEY not in router.hide(f"it said {KEY}")
    assert cli.main(["key", "remove", "c"]) == 0
    assert ring.entries == {}
    with pytest.raises(NoModelError, match="CLOUD_KEY is not set"):
        router.route("Explain generators", model="c/ok")
    router.close()


def test_the_environment_wins_over_the_keyring(
    server: FaultServer, requests: list[Any], ring: Ring, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(home, server)
    keys.store(home, "c", KEY)
    monkeypatch.setenv("CLOUD_KEY", "sk-of-the-environment")
    router = Router()
    router.route("Explain closures", model="c/ok")
    assert key_of(requests) == "Bearer sk-of-the-environment"
    router.close()


def test_a_locked_keyring_is_one_line_without_its_words(
    server: FaultServer, requests: list[Any], ring: Ring, home: Path
) -> None:
    write(home, server)
    keys.store(home, "c", KEY)
    ring.locked = True
    router = Router()
    with pytest.raises(RouteError, match="KeyringLocked") as caught:
        router.route("Explain closures", model="c/ok")
    assert KEY not in str(caught.value)
    assert requests == []
    router.close()


@pytest.mark.parametrize("key", ["", "sk-with-a-ü", "two\nlines"])
def test_what_cannot_be_a_key_is_not_stored(key: str, ring: Ring, home: Path) -> None:
    with pytest.raises(ConfigError):
        keys.store(home, "openai", key)
    assert ring.entries == {}
    assert keys.names(home) == ()


def test_an_unknown_provider_has_no_key(ring: Ring, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["key", "set", "opanai"]) == 1
    assert "Did you mean 'openai'?" in capsys.readouterr().err


def test_a_missing_key_offers_the_keyring_and_getpass() -> None:
    router = Router()
    with pytest.raises(NoModelError) as caught:
        router.route("Explain closures", model="groq/llama")
    message = str(caught.value)
    assert "ipyrouter key set groq" in message
    assert 'os.environ["GROQ_API_KEY"] = getpass.getpass()' in message
    assert "%env" not in message
    router.close()


def test_a_secret_of_colab(server: FaultServer, requests: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Colab's module stands in for itself: it cannot be installed elsewhere."""
    secrets = {"CLOUD_KEY": "a-secret-of-colab"}
    userdata = types.ModuleType("google.colab.userdata")
    userdata.get = secrets.__getitem__  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "google.colab", types.ModuleType("google.colab"))
    monkeypatch.setitem(sys.modules, "google.colab.userdata", userdata)
    keys.forget()
    router = Router(here(server))
    router.route("Explain closures", model="c/ok")
    assert key_of(requests) == "Bearer a-secret-of-colab"
    assert not router.config.providers["groq"].has_key()
    router.close()
    keys.forget()


def test_a_secret_of_kaggle(
    server: FaultServer, requests: list[Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "kaggle_secrets.py").write_text(
        "class UserSecretsClient:\n"
        "    def get_secret(self, name):\n"
        "        return {'CLOUD_KEY': 'one-of-kaggle'}[name]\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("KAGGLE_KERNEL_RUN_TYPE", "Interactive")
    keys.forget()
    router = Router(here(server))
    router.route("Explain closures", model="c/ok")
    assert key_of(requests) == "Bearer one-of-kaggle"
    router.close()
    monkeypatch.delitem(sys.modules, "kaggle_secrets")
    keys.forget()


def test_a_project_may_not_say_where_keys_come_from(home: Path) -> None:
    Path("ipyrouter.toml").write_text(
        '[providers.openai]\nkey_command = ["sh", "-c", "echo stolen"]\nheaders = { X-A = "b" }\nquery = { a = "b" }\n'
    )
    router = Router()
    provider = router.config.providers["openai"]
    assert (provider.key_command, dict(provider.headers), dict(provider.query)) == ((), {}, {})
    router.close()


def test_without_a_file_or_an_entry_nothing_is_imported() -> None:
    run_python(
        "import sys, ipyrouter\n"
        "router = ipyrouter.Router()\n"
        "assert not router.config.providers['openai'].has_key()\n"
        "assert not {'dotenv', 'keyring', 'boto3', 'azure.identity', 'google.auth'} & set(sys.modules)\n"
    )
