"""The settings as values: frozen dataclasses, built by :mod:`ipyrouter.config.build`."""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal, TypeVar
from urllib.parse import urlsplit

from ipyrouter.config.catalogue import inputs_of, service_at, services
from ipyrouter.config.rules import (
    EMBEDDED,
    Backend,
    Date,
    Dollars,
    Flag,
    Folders,
    Number,
    OneOf,
    String,
    Strings,
    Subset,
    Url,
    Variable,
    Whole,
    setting,
    table,
)
from ipyrouter.text import redact

if TYPE_CHECKING:
    from ipyrouter.types import Candidate, Effort, Input, TierName

TOY = "toy model (SmolLM2-135M)"
NO_KEY = f"{TOY}: no key is set"
"""What badge and note say where the local model stands in for chains none of whose keys is there."""

T = TypeVar("T")

# Why a project's file may set something or not.
_WHERE = "it decides where keys and prompts are sent"
_WORK = "a project knows which models do its work, within your budgets"
_PATIENCE = "it goes with the chains: how long their models may take"
_PRICES = "budgets and the log would count other prices than yours"
_TIERS = "it chooses among your tiers"
_HIGHER = "higher than your own"
_STORE_REASON = "what is stored on your machine, and for how long, is your choice"
_DISPLAY_REASON = "how answers are shown is your choice"

_SECONDS = Number(above=0, most=10**6)


def read_key(variable: str) -> str:
    """Return the key in an environment variable without what files leave around it: blanks, line ends, a BOM."""
    return os.environ.get(variable, "").strip(" \t\r\n\v\f\x00\u00a0\u200b\ufeff")


@dataclass(frozen=True, slots=True)
class Provider:
    """Where a model is served, and the name (never the value) of the variable that holds the key."""

    name: str
    sdk: str = field(metadata=setting(Backend(), "never", _WHERE, "whose protocol the server speaks"))
    base_url: str | None = field(
        default=None,
        metadata=setting(Url(), "never", _WHERE, f'the address of its API; "{EMBEDDED}": a server in this process'),
    )
    key: str | None = field(
        default=None,
        metadata=setting(Variable(), "never", _WHERE, "the environment variable that holds the key, never the key"),
    )
    stream: bool = field(
        default=True, metadata=setting(Flag(), "never", _WHERE, "false: its answers arrive in one piece")
    )
    gguf: str | None = field(
        default=None, metadata=setting(String(), "never", _WHERE, "the file of the embedded server's model")
    )
    input: tuple[Literal["text"] | Input, ...] = field(
        default=(),
        metadata=setting(
            Subset("text", "image", "pdf"), "never", _WHERE,
            'what its models read, where that is not known: ["text", "image"]',
        ),
    )  # fmt: skip
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
        return f"the value of {self.key} is not a key: it holds {what}. Set it to the key alone"

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
        owner = service_at(address)
        if owner is not None or not self.official:
            return owner or self.name
        try:
            return urlsplit(address).hostname or ""
        except ValueError:
            return ""


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Seconds that a call may take: to connect, to its first byte, between two chunks, in all."""

    connect: float = field(metadata=setting(_SECONDS, "free", _PATIENCE, "seconds to connect"))
    first_byte: float = field(metadata=setting(_SECONDS, "free", _PATIENCE, "seconds to the answer's first byte"))
    idle: float = field(metadata=setting(_SECONDS, "free", _PATIENCE, "seconds between two pieces of a stream"))
    total: float = field(metadata=setting(_SECONDS, "free", _PATIENCE, "seconds of a call in all"))


@dataclass(frozen=True, slots=True)
class Tier:
    """A tier's candidates in order, and its limits."""

    name: TierName
    chain: tuple[Candidate, ...] = field(
        metadata=setting(Strings(), "free", _WORK, "the models to try, in order: provider/model, or a known name")
    )
    max_output_tokens: int = field(
        metadata=setting(Whole(), "free", _WORK, "tokens of the longest answer, without the thinking before it")
    )
    effort: Effort = field(
        metadata=setting(
            OneOf("none", "low", "medium", "high", "xhigh", "max"),
            "free",
            _WORK,
            "how much its models think; a model's nearest counts",
        )
    )
    deadlines: Deadlines = field(metadata=table(Deadlines))


@dataclass(frozen=True, slots=True)
class Price:
    """Dollars per million tokens."""

    input: Decimal = field(metadata=setting(Dollars(), "never", _PRICES, "dollars per million tokens of input"))
    output: Decimal = field(
        metadata=setting(Dollars(), "never", _PRICES, "dollars per million tokens of output, hidden reasoning included")
    )
    cached_input: Decimal | None = field(
        default=None,
        metadata=setting(
            Dollars(), "never", _PRICES, "dollars per million tokens of input read from the provider's cache"
        ),
    )
    cache_write: Decimal | None = field(
        default=None,
        metadata=setting(
            Dollars(), "never", _PRICES, "dollars per million tokens of input written to the provider's cache"
        ),
    )


@dataclass(frozen=True, slots=True)
class Signals:
    """The article's keyword signals."""

    power: tuple[str, ...] = field(metadata=setting(Strings(), "free", _TIERS, "words that call for power"))
    fast: tuple[str, ...] = field(metadata=setting(Strings(), "free", _TIERS, "words that fast can answer"))
    power_above_words: int = field(metadata=setting(Whole(), "free", _TIERS, "prompts of more words go to power"))


@dataclass(frozen=True, slots=True)
class Budget:
    """Dollars that may be spent; None means no limit."""

    call: Decimal | None = field(
        default=None,
        metadata=setting(Dollars(), "lower", _HIGHER, "dollars that one call may cost", trait="max_usd_call"),
    )
    session: Decimal | None = field(
        default=None,
        metadata=setting(Dollars(), "lower", _HIGHER, "dollars that this session may spend", trait="max_usd"),
    )
    day: Decimal | None = field(
        default=None,
        metadata=setting(Dollars(), "lower", _HIGHER, "dollars a day (UTC), all notebooks", trait="max_usd_day"),
    )
    month: Decimal | None = field(
        default=None,
        metadata=setting(Dollars(), "lower", _HIGHER, "dollars a month (UTC), all notebooks", trait="max_usd_month"),
    )
    action: Literal["downgrade", "block"] = field(
        default="downgrade",
        metadata=setting(
            OneOf("downgrade", "block"),
            "block",
            "it would go on where you want to stop",
            "over a budget: a cheaper model or tier, or nothing",
            trait="over_budget",
        ),
    )


@dataclass(frozen=True, slots=True)
class Config:
    """Everything that can be set. Build one with :func:`load`.

    ``data`` holds every setting, nested like the TOML; ``origins`` where each came from, by its dotted key.
    """

    preset: str = field(
        metadata=setting(
            OneOf("current", "article"),
            "free",
            "it names chains among your own providers",
            "the chains to begin with",
        )
    )
    mode: str | Callable[[str], Any] = field(
        metadata=setting(
            OneOf("learned", "rules", "hybrid", function=True),
            "free", _TIERS, "how prompts are classified", key="routing.mode", trait="mode",
        )
    )  # fmt: skip
    fast_below: float = field(
        metadata=setting(
            Number(least=0, most=1), "free", _TIERS, "difficulties below this are fast",
            key="routing.fast_below", trait="fast_below",
        )
    )  # fmt: skip
    power_above: float = field(
        metadata=setting(
            Number(least=0, most=1), "free", _TIERS, "difficulties above this are power",
            key="routing.power_above", trait="power_above",
        )
    )  # fmt: skip
    unsure: str = field(
        metadata=setting(
            OneOf("stay", "up"), "free", _TIERS, "a prompt that could need a tier up gets it: up",
            key="routing.unsure", trait="unsure",
        )
    )  # fmt: skip
    confirm_tokens: int = field(
        metadata=setting(
            Whole(), "lower", "higher than your own: large prompts would go out without a question",
            "a prompt estimated above this needs --yes", key="routing.confirm_tokens",
        )
    )  # fmt: skip
    escalate: bool = field(
        metadata=setting(
            Flag(), "never", "whether weak answers are asked again is your choice",
            "send a weak answer's prompt a tier up", key="validation.escalate", trait="escalate",
        )
    )  # fmt: skip
    budget: Budget = field(metadata=table(Budget))
    cache_enabled: bool = field(
        metadata=setting(
            Flag(),
            "never",
            _STORE_REASON,
            "look into the cache and keep answers there",
            key="cache.enabled",
            trait="cache",
        )
    )
    cache_ttl_days: float = field(
        metadata=setting(
            Number(above=0, most=10**5),
            "never",
            _STORE_REASON,
            "days that an answer stays in the cache",
            key="cache.ttl_days",
        )
    )
    cache_max_mb: float = field(
        metadata=setting(
            Number(above=0, most=10**9), "never", _STORE_REASON, "megabytes that the cache may take", key="cache.max_mb"
        )
    )
    log_content: bool = field(
        metadata=setting(
            Flag(), "never", "what is logged is your choice", "keep prompts and answers in the log, not only costs",
            key="log.content", trait="log_content",
        )
    )  # fmt: skip
    display_format: str = field(
        metadata=setting(
            OneOf("markdown", "text"),
            "never",
            _DISPLAY_REASON,
            "how answers are shown",
            key="display.format",
            trait="format",
        )
    )
    display_stream: bool = field(
        metadata=setting(
            Flag(), "never", _DISPLAY_REASON, "show answers while they arrive", key="display.stream", trait="stream"
        )
    )
    tiers: Mapping[TierName, Tier] = field(metadata=table(Tier, "tier"))
    deadlines: Deadlines = field(metadata=table(Deadlines))
    """Those of every tier that sets none of its own; a call's are its tier's."""
    providers: Mapping[str, Provider] = field(metadata=table(Provider, "name"))
    prices: Mapping[str, Price] = field(metadata=table(Price, "provider/model"))
    signals: Signals = field(metadata=table(Signals))
    aliases: Mapping[str, str] = field(
        metadata=setting(
            String(),
            "never",
            "a name would mean another model than you think",
            "the model that the name means",
            each="name",
        )
    )
    retired: Mapping[str, dt.date] = field(
        metadata=setting(
            Date(), "never", "it would switch models of yours off or on",
            "the day on which the service stops serving the model", each="service/model",
        )
    )  # fmt: skip
    successors: Mapping[str, str] = field(
        metadata=setting(
            String(), "never", "it would advise another model", "the model that takes its place", each="service/model"
        )
    )
    data: Mapping[str, Any] = field(repr=False)
    origins: Mapping[str, str] = field(repr=False)
    trusted_projects: tuple[str, ...] = field(
        default=(), metadata=setting(
            Folders(), "never", "only you say whom you trust",
            "folders whose ipyrouter.toml may set everything but this", key="trust.projects", files_only=True,
        )
    )  # fmt: skip
    warnings: tuple[str, ...] = ()
    project_warnings: tuple[str, ...] = ()
    """Those of the warnings that name what a project's file may not set."""
    ignored_files: tuple[str, ...] = ()
    """Files that were not read, each with the reason."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the settings; another process builds the config from them."""
        from ipyrouter.config.build import build

        return build, (dict(self.data), dict(self.origins), self.project_warnings, self.ignored_files)

    @property
    def values(self) -> dict[str, Any]:
        """Every setting by its dotted key."""
        return leaves(dict(self.data))

    def candidate(self, name: str) -> Candidate:
        """Resolve "provider/model" or a model name that tells its provider.

        Raises UsageError with the nearest known name.
        """
        from ipyrouter.config.names import candidate_of

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

    def inputs(self, candidate: Candidate) -> frozenset[Input]:
        """Return what a candidate reads besides text, as far as that is known or set."""
        provider = self.providers[candidate.provider]
        if provider.input:
            return frozenset(kind for kind in provider.input if kind != "text")
        return frozenset() if provider.embedded else inputs_of(provider.service, candidate.model)

    def deadline_setting(self, tier: TierName, deadline: str) -> str:
        """Return the setting that a tier's deadline ("connect", "first_byte", "idle" or "total") comes from."""
        own = f"tiers.{tier}.deadlines.{deadline}"
        return own if own in self.values and tier_decides(self.origins, tier, deadline) else f"deadlines.{deadline}"

    @property
    def chains_are_ours(self) -> bool:
        """True while no chain has been set: every one comes from the preset."""
        return all(self.origins[f"tiers.{name}.chain"] == "default" for name in self.tiers)


def tier_decides(origins: Mapping[str, str], tier: str, deadline: str) -> bool:
    """Tell whether a tier's own deadline holds: always, unless it is a default and the user has set the general one."""
    general = origins.get(f"deadlines.{deadline}", "default")
    return general == "default" or origins.get(f"tiers.{tier}.deadlines.{deadline}", "default") != "default"


def leaves(data: dict[str, Any], path: str = "") -> dict[str, Any]:
    """Return the values by their dotted keys."""
    result: dict[str, Any] = {}
    for key, value in data.items():
        dotted = f"{path}.{key}" if path else key
        result |= leaves(value, dotted) if isinstance(value, dict) else {dotted: value}
    return result
