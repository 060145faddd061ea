"""The well-known services and models, and which backends there are: read when first needed."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ipyrouter.errors import ConfigError, did_you_mean
from ipyrouter.text import redact

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from ipyrouter.types import Input

BACKENDS = "ipyrouter.backends"
"""The group of entry points under which packages register backends."""
_FILE = Path(__file__).parents[1] / "providers" / "providers.toml"
_MODELS = _FILE.with_name("models.toml")
_INPUT = _FILE.with_name("input.toml")


@dataclass(frozen=True, slots=True)
class Service:
    """A service that is known without config: see providers.toml."""

    name: str
    sdk: str
    address: str
    limit: str
    key: str | None = None
    variable: str | None = None
    prefixes: tuple[str, ...] = ()
    supports: tuple[str, ...] = ()

    def has_host(self, host: str) -> bool:
        """Tell whether a host is the service's; servers on this machine may be anybody's."""
        own = urlsplit(self.address).hostname or ""
        return own != "localhost" and (host == own or host.endswith(f".{own}"))


@functools.cache
def services() -> Mapping[str, Service]:
    """Return the services by their names."""
    import tomllib  # not for `%load_ext`

    result = {}
    for name, table in tomllib.loads(_FILE.read_text("utf-8")).items():
        values: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in table.items()}
        result[name] = Service(name, **values)
    return MappingProxyType(result)


@functools.lru_cache(256)
def service_at(address: str) -> str | None:
    """Return the name of the service whose host an address names, None for any other or none. Asked at every call."""
    try:
        host = urlsplit(address).hostname or ""
    except ValueError:
        return None
    return next((name for name, service in services().items() if service.has_host(host)), None)


@dataclass(frozen=True, slots=True)
class Model:
    """What a model takes: see models.toml. ``efforts`` is None where that is not known."""

    efforts: tuple[str, ...] | None = None
    thinking: str = ""
    off: str = ""
    structured: str = ""


@functools.cache
def _models() -> Mapping[str, Model]:
    import tomllib  # not for `%load_ext`

    models = {}
    for name, table in tomllib.loads(_MODELS.read_text("utf-8")).items():
        values: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in table.items()}
        models[name.replace(".", "-")] = Model(**values)
    return models


@functools.cache
def model_of(name: str) -> Model:
    """Return what is known of a model, by its name at any service: "gpt-6-luna", "us.anthropic.claude-opus-5-5-v1"."""
    plain = re.sub(r"^(.*/)?(.*\.(?=claude))?", "", name.lower()).replace(".", "-")
    fits = [
        known for known in _models() if plain.startswith(known) and not plain[len(known) : len(known) + 1].isalnum()
    ]
    return _models()[max(fits, key=len)] if fits else Model()


def maker_of(model: str) -> str | None:
    """Return the service whose models' names begin like this one, if there is one."""
    return next((name for name, service in services().items() if model.startswith(service.prefixes)), None)


@functools.cache
def _inputs() -> Mapping[str, Mapping[str, Sequence[Input]]]:
    import tomllib  # not for `%load_ext`

    tables: dict[str, dict[str, list[Input]]] = tomllib.loads(_INPUT.read_text("utf-8"))
    return tables


def inputs_of(service: str, model: str) -> frozenset[Input]:
    """Return what a model reads besides text, by what is known of its service, else of its maker; nothing if unknown.

    Args:
        service: Who serves the model.
        model: Its name there.
    """
    bare = model.lower().rpartition("/")[2]
    bare = bare[bare.find("claude") :] if "claude" in bare else bare  # us.anthropic.claude-…
    for owner, name in ((service, model.lower()), (maker_of(bare), bare)):
        known = _inputs().get(owner or "", {})
        fits = [begin for begin in known if name.startswith(begin)]
        if fits:
            return frozenset(known[max(fits, key=len)])
    return frozenset()


def registered() -> Iterable[EntryPoint]:
    """Return the backends that other packages register."""
    import importlib.metadata

    return importlib.metadata.entry_points(group=BACKENDS)


def backends() -> tuple[str, ...]:
    """Return the names of all backends, those of other packages included."""
    return tuple(sorted({service.sdk for service in services().values()} | {entry.name for entry in registered()}))


def load_backend(name: str) -> Any:
    """Return the class of a backend that another package registers. Raises ConfigError where that fails."""
    entry = next((entry for entry in registered() if entry.name == name), None)
    if entry is None:
        raise ConfigError(f"There is no backend {redact.excerpt(name)}.", did_you_mean(name, backends()))
    try:
        return entry.load()
    except Exception as error:  # noqa: BLE001  a stranger's module may raise anything
        package = entry.dist.name if entry.dist is not None else entry.value
        raise ConfigError(
            f"The backend {name!r} of the package {package} could not be loaded: {type(error).__name__}: {error}.",
            f"Reinstall or upgrade {package}, or name another sdk.",
        ) from None
