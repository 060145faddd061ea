"""Keys outside the environment: `.env`, the keyring, the secrets of Colab and Kaggle, and a command's output.

Nothing of this is imported or asked before a key is missing in the environment.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.util
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ipyrouter.config import files
from ipyrouter.config.model import BLANKS
from ipyrouter.errors import ConfigError

if TYPE_CHECKING:
    from ipyrouter.config.model import Provider

SERVICE = "ipyrouter"
"""The name of our entries in the keyring."""
INDEX = "keyring.txt"
"""The file beside config.toml that names the providers whose keys are in the keyring; it holds no key."""
INSTALL = "pip install keyring"
_FRESH = 300.0  # seconds that a command's output, or a notebook service's answer, counts
_PATIENCE = 60.0  # seconds that a command may take: its user may have to touch something
_LONGEST = 100_000  # bytes that are read of what it prints

_lock = threading.RLock()  # whoever asks holds it, for as long as that takes; looking up what is known needs none
_outputs: dict[tuple[str, ...], tuple[float, str]] = {}
_entries: dict[tuple[str, str], tuple[int, str]] = {}
_answers: dict[str, tuple[float, str]] = {}


class Keyring(Protocol):
    """What is used of the package keyring."""

    def get_password(self, service: str, username: str) -> str | None:
        """Return an entry's password."""

    def set_password(self, service: str, username: str, password: str) -> None:
        """Store an entry's password."""

    def delete_password(self, service: str, username: str) -> None:
        """Delete an entry."""


def has(provider: Provider) -> bool:
    """Tell whether a provider's key is in `.env`, in the keyring or among a notebook service's secrets."""
    return bool(_from_file(provider)) or provider.name in names(provider.folder) or bool(_from_service(provider))


def read(provider: Provider) -> str:
    """Return a provider's key from where it is kept outside the environment, "" where it is nowhere.

    Raises ConfigError where the keyring or the provider's key_command fails.
    """
    return (
        _from_file(provider)
        or (_from_keyring(provider) if provider.name in names(provider.folder) else "")
        or _from_service(provider)
        or (_from_command(provider) if provider.key_command else "")
    )


def source(provider: Provider) -> str:
    """Return in words where a provider's key is kept outside the environment, "" where it is nowhere."""
    if _from_file(provider):
        return f"{provider.key} is present in {_env_file(provider)}"
    if provider.name in names(provider.folder):
        return "its key is in the keyring"
    if _from_service(provider):
        return f"{provider.key} is present among the notebook's secrets"
    return f"its key comes from key_command ({provider.key_command[0]} …)" if provider.key_command else ""


def command_fault(provider: Provider) -> str | None:
    """Return why the key_command on which a provider depends cannot be run, None where it can; it is not run."""
    if not provider.key_command or has(provider) or shutil.which(provider.key_command[0]):
        return None
    return f"key_command: there is no program {provider.key_command[0]!r}. Install it, or correct the setting"


def known(provider: Provider) -> list[str]:
    """Return the keys of a provider that this process has read, without asking anybody."""
    entry = _entries.get((str(provider.folder), provider.name), (0, ""))[1]
    output = _outputs.get(provider.key_command, (0.0, ""))[1]
    answer = _answers.get(provider.key or "", (0.0, ""))[1]
    return [_from_file(provider), entry, output, answer]


def mark(provider: Provider) -> int:
    """Return a number that changes with the key: a provider that a wrong key has switched off is tried again."""
    when, _ = _outputs.get(provider.key_command, (0.0, ""))
    variable = os.environ.get(provider.key, "") if provider.key else ""
    fresh = when if time.monotonic() - when < _FRESH else 0.0
    return hash((variable, _from_file(provider), _stamp(_index(provider.folder)), fresh))


# --- .env ---


def _env_file(provider: Provider) -> Path | None:
    return provider.folder / ".env" if provider.folder is not None else None


def _from_file(provider: Provider) -> str:
    if provider.key is None:
        return ""
    path = _env_file(provider)
    if path is None or not (stamp := _stamp(path)):
        return ""
    return (_env_of(path, stamp).get(provider.key) or "").strip(BLANKS)


@functools.lru_cache(maxsize=4)
def _env_of(path: Path, _stamp: int) -> Mapping[str, str | None]:
    """Return the variables of a `.env`; whoever else's it is, it says nothing."""
    import io

    import dotenv

    try:
        text = files.read(path, "user")
    except (files.Unusable, ConfigError):
        return {}
    return dotenv.dotenv_values(stream=io.StringIO(text or ""), interpolate=False)


def env_fault(folder: Path | None) -> str:
    """Return in words why a `.env` in the config folder does not count or is not safe, "" where all is well."""
    path = folder / ".env" if folder is not None else None
    if path is None or not _stamp(path):
        return ""
    try:
        files.read(path, "user")
    except (files.Unusable, ConfigError) as reason:
        return f"{path} is ignored: {reason}" if isinstance(reason, files.Unusable) else str(reason)
    open_to = path.stat().st_mode & 0o077 if os.name == "posix" else 0
    return f"{path}: others may read it: chmod 600 {path}" if open_to else ""


def _stamp(path: Path | None) -> int:
    """Return a number that changes with a file, 0 where there is none."""
    try:
        status = path.stat() if path is not None else None
    except OSError:
        return 0
    return hash((status.st_mtime_ns, status.st_size, status.st_ino)) or 1 if status is not None else 0


# --- the keyring ---


def names(folder: Path | None) -> tuple[str, ...]:
    """Return the providers whose keys are in the keyring, by the list beside the config; the keyring has none."""
    path = _index(folder)
    return _names_of(path, stamp) if path is not None and (stamp := _stamp(path)) else ()


def _index(folder: Path | None) -> Path | None:
    return folder / INDEX if folder is not None else None


@functools.lru_cache(maxsize=4)
def _names_of(path: Path, _stamp: int) -> tuple[str, ...]:
    try:
        return tuple((files.read(path, "user") or "").split("\n"))[:-1]
    except (files.Unusable, ConfigError):
        return ()


def store(folder: Path, name: str, key: str) -> None:
    """Put a provider's key into the keyring. Raises ConfigError."""
    _check(key)
    with _keyring_errors("stored"):
        _keyring().set_password(SERVICE, name, key)
    _write_names(folder, {*names(folder), name})


def delete(folder: Path, name: str) -> bool:
    """Delete a provider's key from the keyring; tell whether it was there. Raises ConfigError."""
    there = name in names(folder)
    with _keyring_errors("deleted"):
        keyring = _keyring()
        if keyring.get_password(SERVICE, name) is not None:
            keyring.delete_password(SERVICE, name)
            there = True
    _write_names(folder, {*names(folder)} - {name})
    return there


def _check(key: str) -> None:
    if not key:
        raise ConfigError("Nothing was entered.", "The keyring is unchanged.")
    if not (key.isascii() and key.isprintable()):
        raise ConfigError("That is not a key: it holds characters that a header cannot carry.", "Enter the key alone.")


def _write_names(folder: Path, stored: set[str]) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / INDEX
    new = path.with_name(f"{INDEX}.{os.getpid()}")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8", newline="\n") as file:
        file.write("".join(f"{name}\n" for name in sorted(stored)))
    new.replace(path)


def _from_keyring(provider: Provider) -> str:
    """Return a provider's key from the keyring; it is asked once for as long as our list stays the same."""
    place = (str(provider.folder), provider.name)
    stamp = _stamp(_index(provider.folder))
    with _lock:
        when, value = _entries.get(place, (0, ""))
        if when != stamp:
            with _keyring_errors("read"):
                value = (_keyring().get_password(SERVICE, provider.name) or "").strip(BLANKS)
            if value:
                _entries[place] = (stamp, value)
    if not value:
        raise ConfigError(
            f"The keyring holds no key of {provider.name} any more.", f"Run: ipyrouter key set {provider.name}"
        )
    return value


def _keyring() -> Keyring:
    try:
        module: Any = importlib.import_module("keyring")
    except ImportError:
        raise ConfigError("The keyring needs the package keyring.", f"Install it: {INSTALL}") from None
    ring: Keyring = module
    return ring


@contextlib.contextmanager
def _keyring_errors(what: str) -> Iterator[None]:
    """Turn whatever a keyring's backend raises into one line; its own words could quote the key."""
    try:
        yield
    except ConfigError:
        raise
    except Exception as error:  # noqa: BLE001  there are a dozen backends
        reason = "no keyring is running here" if type(error).__name__ == "NoKeyringError" else type(error).__name__
        raise ConfigError(
            f"The key could not be {what}: {reason}.",
            "Unlock or start the keyring, or put the key into the environment or into .env in the config folder.",
        ) from None


# --- Colab and Kaggle ---


def _from_service(provider: Provider) -> str:
    """Return a provider's key from the secrets of the notebook service that this kernel runs at."""
    name = provider.key
    module = _service()
    if name is None or module is None:
        return ""
    with _lock:
        when, value = _answers.get(name, (-_FRESH, ""))
        if time.monotonic() - when >= (_FRESH if value else 10.0):  # one that was missing may have been added since
            value = _asked(module, name)
            _answers[name] = (time.monotonic(), value)
    return value


def _service() -> str | None:
    """Return the module that knows the secrets here: it is there already, and imported nowhere else."""
    if "google.colab" in sys.modules:
        return "google.colab.userdata"
    if os.environ.get("KAGGLE_KERNEL_RUN_TYPE") and importlib.util.find_spec("kaggle_secrets") is not None:
        return "kaggle_secrets"
    return None


def _asked(module: str, name: str) -> str:
    """Ask a notebook service for a secret: one that is missing, or that this notebook may not read, is none."""
    try:
        secrets: Any = importlib.import_module(module)
        value = secrets.UserSecretsClient().get_secret(name) if module == "kaggle_secrets" else secrets.get(name)
    except Exception:  # noqa: BLE001  each service raises errors of its own
        return ""
    return value.strip(BLANKS) if isinstance(value, str) else ""


# --- a command ---


def _from_command(provider: Provider) -> str:
    """Return what a provider's key_command prints; it is run again after five minutes. Raises ConfigError."""
    command = provider.key_command
    with _lock:  # threads that need the same key wait for one run
        when, value = _outputs.get(command, (-_FRESH, ""))
        if time.monotonic() - when >= _FRESH or not value:
            value = _run(command, f"providers.{provider.name}.key_command")
            _outputs[command] = (time.monotonic(), value)
    return value


def _run(command: tuple[str, ...], setting: str) -> str:
    """Run a command and return its output. What it prints is in no message: it may be the key, or a part of it."""
    remedy = "Run it in a terminal to see why, or correct the setting."
    try:
        output, code = _output_of(command)
    except subprocess.TimeoutExpired:
        raise ConfigError(f"{setting}: {command[0]!r} printed no key within {_PATIENCE:g} s.", remedy) from None
    except OSError as error:
        raise ConfigError(f"{setting}: {command[0]!r} cannot be run: {error.strerror}.", remedy) from None
    if len(output) > _LONGEST:
        raise ConfigError(f"{setting}: {command[0]!r} printed over {_LONGEST:,} bytes, which is not a key.", remedy)
    if code != 0:
        raise ConfigError(f"{setting}: {command[0]!r} ended with exit code {code}.", remedy)
    value = output.decode("utf-8", "replace").strip(BLANKS)
    if not value:
        raise ConfigError(f"{setting}: {command[0]!r} printed nothing.", remedy)
    return value


def _output_of(command: tuple[str, ...]) -> tuple[bytes, int]:
    """Run a command and return the beginning of its output, one byte more than the longest, and its exit code.

    Raises:
        OSError: It cannot be run.
        TimeoutExpired: It has not ended in time.
    """
    process = subprocess.Popen(  # noqa: S603  the user's own config says so, word by word, and no shell reads it
        list(command), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    output: list[bytes] = []

    def read() -> None:
        with process.stdout as pipe:  # type: ignore[union-attr]
            output.append(pipe.read(_LONGEST + 1))

    reader = threading.Thread(target=read, daemon=True)  # what the command has started may hold the pipe for ever
    reader.start()
    ends = time.monotonic() + _PATIENCE
    try:
        reader.join(_PATIENCE)
        if reader.is_alive():
            raise subprocess.TimeoutExpired(command, _PATIENCE)
        if len(output[0]) > _LONGEST:
            process.kill()
        return output[0], process.wait(max(ends - time.monotonic(), 1.0))
    finally:
        process.kill()
        process.wait()


def forget() -> None:
    """Forget what was read: keys are looked for anew."""
    with _lock:
        _outputs.clear()
        _entries.clear()
        _answers.clear()
    _env_of.cache_clear()
    _names_of.cache_clear()
