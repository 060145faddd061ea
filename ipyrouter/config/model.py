"""The settings as values: frozen dataclasses, built by :mod:`ipyrouter.config.build`."""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from types import MappingProxyType
from typing import Any, Literal, TypeVar, cast
from urllib.parse import urlsplit

from ipyrouter.config.catalogue import services
from ipyrouter.config.names import candidate_of
from ipyrouter.text import redact
from ipyrouter.types import Candidate, TierName

EMBEDDED = "embedded"
"""The base_url that stands for the llama.cpp server inside this process."""
TOY = "toy model (SmolLM2-135M)"
NO_KEY = f"{TOY}: no key is set"
"""What badge and note say where the local model stands in for chains none of whose keys is there."""

T = TypeVar("T")


def read_key(variable: str) -> str:
    """Return the key in an environment variable without what files leave around it: blanks, line ends, a BOM."""
    return os.environ.get(variable, "").strip(" \t\r\n\v\f\x00\u00a0\u200b\ufeff")


@dataclass(frozen=True, slots=True)
class Provider:
    """Where a model is served, and the name (never the value) of the variable that holds the key."""

    name: str
    sdk: str
    base_url: str | None = None
    key: str | None = None
    stream: bool = True
    gguf: str | None = None
    limit: str = "max_tokens"
    """What the server calls the output limit."""
    supports: tuple[str, ...] = ()
    """What a well-known service takes: vision, json_schema, effort, prompt_caching, batch."""

    @property
    def embedded(self) -> bool:
        """True where the model runs inside this process."""
        return self.base_url == EMBEDDED

    @property
    def official(self) -> bool:
        """True where no address is set: it is its service's, which the SDK's environment variable may move."""
        return self.base_url is None

    def has_key(self) -> bool:
        """Tell whether the key is there, or none is needed."""
        return self.key is None or bool(read_key(self.key))

    def key_fault(self) -> str | None:
        """Return why the key cannot be sent, by the name of its variable; None for one that can."""
        value = read_key(self.key) if self.key else ""
        if not value or (value.isascii() and value.isprintable()):
            return None
        what = "characters that are not ASCII" if not value.isascii() else "a line break or another control character"
        return f"the value of {self.key} is no key: it holds {what}. Set it to the key alone"

    def secrets(self) -> list[str]:
        """Return what no message may show: the key, and passwords and keys in the address."""
        raw = os.environ.get(self.key, "") if self.key else ""
        return [raw, read_key(self.key) if self.key else "", *redact.secrets_in(self.address())]

    def address(self) -> str:
        """Return the base URL as the SDK would resolve it, for cache keys and reports."""
        if self.base_url is not None:
            return redact.Address("".join((self.base_url, ":", self.gguf))) if self.gguf else self.base_url
        return redact.Address(self.moved_to() or services()[self.name].address)

    def moved_to(self) -> str | None:
        """Return the address in the SDK's environment variable, which moves an official entry."""
        return os.environ.get(self.variable) if self.variable else None

    @property
    def variable(self) -> str | None:
        """The SDK's environment variable that moves the address, None for an entry with an address of its own."""
        return services()[self.name].variable if self.official else None

    @property
    def service(self) -> str:
        """Return whose models these are: a well-known service's at its own host, else the entry's own name.

        The address decides, not the name: OPENAI_BASE_URL makes of the entry "openai" another service.
        """
        address = self.address()
        owner = next((service.name for service in services().values() if service.serves(address)), None)
        if owner is not None or not self.official:
            return owner or self.name
        try:
            return urlsplit(address).hostname or ""
        except ValueError:
            return ""


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Seconds that a call may take: to connect, to its first byte, between two chunks, in all."""

    connect: float
    first_byte: float
    idle: float
    total: float


@dataclass(frozen=True, slots=True)
class Tier:
    """A tier's candidates in order, and its limits."""

    name: TierName
    chain: tuple[Candidate, ...]
    max_output_tokens: int
    deadlines: Deadlines


@dataclass(frozen=True, slots=True)
class Price:
    """Dollars per million tokens."""

    input: Decimal
    output: Decimal
    cached_input: Decimal | None = None
    cache_write: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Signals:
    """The article's keyword signals."""

    power: tuple[str, ...]
    fast: tuple[str, ...]
    power_above_words: int


@dataclass(frozen=True, slots=True)
class Budget:
    """Dollars that may be spent; None is no limit."""

    call: Decimal | None = None
    session: Decimal | None = None
    day: Decimal | None = None
    month: Decimal | None = None
    action: Literal["downgrade", "block"] = "downgrade"


@dataclass(frozen=True, slots=True)
class Config:
    """Everything that can be set. Build one with :func:`load`.

    ``data`` holds every setting, nested like the TOML; ``origins`` where each came from, by its dotted key.
    """

    preset: str
    mode: str | Callable[[str], Any]
    fast_below: float
    power_above: float
    confirm_tokens: int
    providers: Mapping[str, Provider]
    tiers: Mapping[TierName, Tier]
    prices: Mapping[str, Price]
    signals: Signals
    escalate: bool
    budget: Budget
    cache_enabled: bool
    cache_ttl_days: float
    cache_max_mb: float
    log_content: bool
    display_format: str
    display_stream: bool
    aliases: Mapping[str, str]
    retired: Mapping[str, dt.date]
    successors: Mapping[str, str]
    data: Mapping[str, Any] = field(repr=False)
    origins: Mapping[str, str] = field(repr=False)
    warnings: tuple[str, ...] = ()
    project_warnings: tuple[str, ...] = ()
    """Those of the warnings that name what a project's file may not set."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the read-only mappings as dictionaries, so that another process can rebuild the config."""
        values = tuple(getattr(self, name) for name in self.__slots__)
        return _rebuild, tuple(dict(v) if isinstance(v, MappingProxyType) else v for v in values)

    @property
    def values(self) -> dict[str, Any]:
        """Every setting by its dotted key."""
        return leaves(dict(self.data))

    def candidate(self, name: str) -> Candidate:
        """Resolve "provider/model" or a model name that tells its provider.

        Raises UsageError with the nearest known name.
        """
        return candidate_of(name, self.providers, self.aliases, [c for tier in self.tiers.values() for c in tier.chain])

    def retired_on(self, candidate: Candidate) -> dt.date | None:
        """Return the day on which the candidate's service stops serving the model, if one is known."""
        return self._of_service(self.retired, candidate)

    def successor(self, candidate: Candidate) -> str | None:
        """Return the model that the candidate's service names in its place, if one is known."""
        return self._of_service(self.successors, candidate)

    def _of_service(self, table: Mapping[str, T], candidate: Candidate) -> T | None:
        """Return a model's entry: "service/model", or the bare name, which the user alone writes and which wins."""
        service = self.providers[candidate.provider].service
        return table.get(candidate.model, table.get(f"{service}/{candidate.model}"))

    def deadline_setting(self, tier: TierName, deadline: str) -> str:
        """Return the setting that a tier's deadline ("connect", "first_byte", "idle" or "total") comes from."""
        own = f"tiers.{tier}.deadlines.{deadline}"
        return own if own in self.values and tier_decides(self.origins, tier, deadline) else f"deadlines.{deadline}"

    @property
    def chains_are_ours(self) -> bool:
        """True while nobody has set a chain: every one comes from the preset."""
        return all(self.origins[f"tiers.{name}.chain"] == "default" for name in self.tiers)


def tier_decides(origins: Mapping[str, str], tier: str, deadline: str) -> bool:
    """Tell whether a tier's own deadline holds: always, unless it is a default and the user has set the general one."""
    general = origins.get(f"deadlines.{deadline}", "default")
    return general == "default" or origins.get(f"tiers.{tier}.deadlines.{deadline}", "default") != "default"


def _rebuild(*values: Any) -> Config:
    return Config(*cast(Any, [MappingProxyType(v) if isinstance(v, dict) else v for v in values]))


def leaves(data: dict[str, Any], path: str = "") -> dict[str, Any]:
    """Return the values by their dotted keys."""
    found: dict[str, Any] = {}
    for key, value in data.items():
        dotted = f"{path}.{key}" if path else key
        found |= leaves(value, dotted) if isinstance(value, dict) else {dotted: value}
    return found
