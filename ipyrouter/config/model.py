"""The settings as values: frozen dataclasses, built by :mod:`ipyrouter.config.build`."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, TypeVar
from urllib.parse import urlsplit

from ipyrouter.config.catalogue import Service, inputs_of, service_at, service_of
from ipyrouter.config.rules import (
    EMBEDDED,
    Backend,
    Database,
    Date,
    Dollars,
    Flag,
    Folders,
    Number,
    OneOf,
    Private,
    String,
    Strings,
    Subset,
    Tags,
    Url,
    Variable,
    Whole,
    setting,
    table,
)
from ipyrouter.errors import ConfigError
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
_ACCOUNT = "the limits are those of your account"
_TIERS = "it chooses among your tiers"
_HIGHER = "higher than your own"
_STORE_REASON = "what is stored on your machine, and for how long, is your choice"
_TEAM_REASON = "it would read what you ask, and decide what you may spend"
_DISPLAY_REASON = "how answers are shown is your choice"
_OTEL = "what leaves your process is your choice"

_SECONDS = Number(above=0, most=10**6)
_NOTHING: Mapping[str, str] = MappingProxyType({})
_REFERENCE = re.compile(r"\$\{(\w+)\}")  # a variable named within a value


BLANKS = " \t\r\n\v\f\x00\u00a0\u200b\ufeff"
"""What files leave around a key: blanks, line ends, a BOM."""


def read_key(variable: str) -> str:
    """Return the key in an environment variable, without the blanks around it."""
    return os.environ.get(variable, "").strip(BLANKS)


def resolved(value: str) -> str:
    """Return a value with those of the variables that it names."""
    return _REFERENCE.sub(lambda found: read_key(found[1]), "".join(value))


def _significant(name: str, value: str) -> str:
    """Return what of a header's or parameter's value may change an answer: all but what is a secret by its name."""
    if redact.secret_name(name):
        return ""
    return _REFERENCE.sub(lambda found: "" if redact.secret_name(found[1]) else read_key(found[1]), value)


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
    credentials: str = field(
        default="key",
        metadata=setting(
            OneOf("key", "entra", "aws", "google"), "never", _WHERE,
            "what the calls are signed with: a key, or what Microsoft's, Amazon's or Google's own library finds",
        ),
    )  # fmt: skip
    key_command: tuple[str, ...] = field(
        default=(),
        metadata=setting(
            Strings(), "own", "it runs on your machine", "a command that prints the key: its words, for no shell",
            files_only=True,
        ),
    )  # fmt: skip
    api_version: str | None = field(
        default=None, metadata=setting(String(), "never", _WHERE, "Azure: the classic API's version, as 2024-10-21")
    )
    region: str | None = field(
        default=None, metadata=setting(String(), "never", _WHERE, "Amazon and Google: where the model runs")
    )
    project: str | None = field(
        default=None, metadata=setting(String(), "never", _WHERE, "Google: the project that pays")
    )
    profile: str | None = field(
        default=None, metadata=setting(String(), "never", _WHERE, "Amazon: the profile of your AWS config")
    )
    deployments: Mapping[str, str] = field(
        default_factory=lambda: _NOTHING, hash=False,
        metadata=setting(String(), "never", _WHERE, "Azure: the deployment of a model, where its name is another",
                         each="model"),
    )  # fmt: skip
    headers: Mapping[str, str] = field(
        default_factory=lambda: _NOTHING, hash=False,
        metadata=setting(
            Private(), "never", _WHERE, 'a header of every call; "${NAME}" in it is a variable\'s value', each="header"
        ),
    )  # fmt: skip
    query: Mapping[str, str] = field(
        default_factory=lambda: _NOTHING, hash=False,
        metadata=setting(
            Private(), "never", _WHERE, 'a parameter of every address; "${NAME}" in it is a variable\'s value',
            each="parameter",
        ),
    )  # fmt: skip
    folder: Path | None = field(default=None, repr=False)
    """Where the user's config.toml and .env lie."""
    limit: str = "max_tokens"
    """What the server calls the output limit."""
    supports: tuple[str, ...] = ()
    """What a well-known service takes: vision, json_schema, effort, prompt_caching, batch."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle and copy: views of tables go as dictionaries."""
        values = (getattr(self, item.name) for item in fields(self))
        return Provider, tuple(dict(value) if isinstance(value, MappingProxyType) else value for value in values)

    def _service(self) -> Service | None:
        return service_of(self.name, self.sdk)

    @property
    def embedded(self) -> bool:
        """True where the model runs inside this process."""
        return self.base_url == EMBEDDED

    @property
    def official(self) -> bool:
        """True where no address is set: it is its service's, which the SDK's environment variable may move."""
        return self.base_url is None

    def has_key(self) -> bool:
        """Tell whether the key is there, or none is needed. A key_command counts as one; it is not run for this."""
        if self.credentials != "key":
            return True
        if self.key is not None and read_key(self.key):
            return True
        return self.key is None or bool(self.key_command) or self._keys().has(self)

    def lack(self) -> str:
        """Return in words what is missing before this provider can be called; empty where nothing is."""
        if not self.has_key():
            return f"{self.key} is not set"
        if gap := next(self._gaps(), None):
            service = self._service()
            variables = (service.places if service else {}).get(gap) or ([self.variable] if self.variable else [])
            setting = gap if hasattr(self, gap) else "base_url"
            return f"providers.{self.name}.{setting} {''.join(f'(or {v}) ' for v in variables[:1])}is not set"
        return ""

    def secret(self) -> str:
        """Return the key from wherever it is kept, "none" where none is needed.

        Raises ConfigError where a keyring or a key_command fails, or its output cannot be a key.
        """
        if self.credentials != "key":
            return "none"
        value = (read_key(self.key) if self.key else "") or self._keys().read(self)
        if fault := self._fault_of(value):
            raise ConfigError(f"{fault}.", "")
        return value or "none"

    def key_fault(self) -> str | None:
        """Return why the key in the environment cannot be sent, by its variable; None for one that can."""
        return self._fault_of(read_key(self.key) if self.key else "")

    def _fault_of(self, value: str) -> str | None:
        if not value or (value.isascii() and value.isprintable()):
            return None
        what = "characters that are not ASCII" if not value.isascii() else "a line break or another control character"
        source = self.key if self.key and value == read_key(self.key) else f"the key of {self.name}"
        return f"the value of {source} is not a key: it holds {what}. Set it to the key alone"

    def _keys(self) -> Any:
        from ipyrouter.config import keys  # not for `%load_ext`

        return keys

    def secrets(self) -> list[str]:
        """Return what no message may show: the key, passwords and keys in the address, values of headers and query."""
        raw = os.environ.get(self.key, "") if self.key else ""
        known = [raw, read_key(self.key) if self.key else "", *self._keys().known(self)]
        for value in (*self.headers.values(), *self.query.values()):
            known += [resolved(value), *(os.environ.get(name, "") for name in _REFERENCE.findall("".join(value)))]
        return [*known, *redact.secrets_in(self.address())]

    def extra(self) -> tuple[dict[str, str], dict[str, str]]:
        """Return the headers and the query of every call, with the values of the variables that they name.

        Raises ConfigError for a variable that is not set, and for a value that a pickle has lost.
        """
        for kind, values in (("headers", self.headers), ("query", self.query)):
            for name, value in values.items():
                where = f"providers.{self.name}.{kind}.{redact.name(name)}"
                if "".join(value) == redact.GONE:
                    raise ConfigError(f"{where} has lost its value: pickles keep none.", 'Write "${NAME}" there.')
                for variable in _REFERENCE.findall("".join(value)):
                    if not (there := read_key(variable)):
                        raise ConfigError(f"{where}: {variable} is not set.", "Set that variable.")
                    if not (there.isascii() and there.isprintable()):
                        raise ConfigError(f"{where}: {variable} holds what a header cannot carry.", "Correct it.")
        return (
            {name: resolved(value) for name, value in self.headers.items()},
            {name: resolved(value) for name, value in self.query.items()},
        )

    def extra_digest(self) -> str:
        """Return a digest of the headers and the query of every call, which may change its answer; "" without any.

        Secrets count by the names under which they go out: another key asks for the same answer.
        """
        if not (self.headers or self.query):
            return ""
        parts = [
            [kind, name.lower() if kind == "headers" else name, _significant(name, "".join(value))]
            for kind, values in (("headers", self.headers), ("query", self.query))
            for name, value in values.items()
        ]
        return hashlib.sha256(json.dumps(sorted(parts)).encode("utf-8", "surrogatepass")).hexdigest()

    def address(self) -> str:
        """Return the base URL as the SDK would resolve it, for cache keys and reports."""
        if self.base_url is not None:
            return redact.Address("".join((self.base_url, ":", self.gguf))) if self.gguf else self.base_url
        return redact.Address(self.moved_to() or self._filled())

    def endpoint(self) -> str | None:
        """Return the address to give to the SDK, None where the SDK's own default is meant."""
        service = self._service()
        if own := self.base_url or self.moved_to():
            return own
        return self._filled() if service is not None and service.own else None

    def _filled(self) -> str:
        """Return the service's address with what it leaves open, as far as that is set."""
        service = self._service()
        if service is None:  # an entry without a service always has an address
            return ""
        if (region := self.place("region")) in service.regions:
            return service.regions[region]
        address = service.address
        for gap in service.gaps:
            address = address.replace(f"{{{gap}}}", self.place(gap) or f"{{{gap}}}")
        return address

    def _gaps(self) -> Iterator[str]:
        """Yield what the address or the calls need and nobody has set."""
        service = self._service()
        if service is None:
            return
        open_places = service.gaps if self.base_url is None and self.moved_to() is None else ()
        for gap in dict.fromkeys((*open_places, *service.needs)):
            if not self.place(gap):
                yield gap

    def place(self, name: str) -> str:
        """Return a setting such as "region", or what the variables of its service say; "" where neither is set."""
        service = self._service()
        variables = service.places.get(name, ()) if service is not None else ()
        return getattr(self, name, None) or next(filter(None, map(read_key, variables)), "")

    def moved_to(self) -> str | None:
        """Return the address in the SDK's environment variable, which moves an official entry."""
        if not self.variable or not (address := os.environ.get(self.variable)):
            return None
        service = self._service()
        path = service.path if service is not None else ""
        whole = address if "://" in address or not path else f"https://{address}"
        return whole if not path or path in whole else f"{whole.rstrip('/')}{path}"

    @property
    def variable(self) -> str | None:
        """The SDK's environment variable that moves the address, None for an entry with an address of its own."""
        service = self._service() if self.official else None
        return service.variable if service is not None else None

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
class RateLimits:
    """What an account's service takes a minute; None where that is not set."""

    requests_per_minute: int | None = field(
        default=None, metadata=setting(Whole(), "never", _ACCOUNT, "requests a minute that a run keeps to")
    )
    tokens_per_minute: int | None = field(
        default=None, metadata=setting(Whole(), "never", _ACCOUNT, "tokens a minute that a run keeps to")
    )


@dataclass(frozen=True, slots=True)
class Batch:
    """How a prompt over a column goes out."""

    confirm_usd: Decimal = field(
        metadata=setting(Dollars(), "lower", _HIGHER, "dollars of a run's likely cost above which it needs yes=True")
    )
    concurrency: int = field(metadata=setting(Whole(), "free", _WORK, "the most calls in flight to one model"))


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
    log_tags: tuple[str, ...] = field(
        metadata=setting(
            Tags(), "free", "a project knows what its costs are summed up under",
            "tags of every request, for reports by tag, beside those of --tag", key="log.tags",
        )
    )  # fmt: skip
    otel_enabled: bool = field(
        metadata=setting(
            Flag(), "never", _OTEL, "make OpenTelemetry spans with this process's own tracer", key="otel.enabled"
        )
    )
    otel_content: bool = field(
        metadata=setting(Flag(), "never", _OTEL, "put prompts and answers into the spans, too", key="otel.content")
    )
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
    limits: Mapping[str, RateLimits] = field(metadata=table(RateLimits, "provider/model"))
    batch: Batch = field(metadata=table(Batch))
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
            Folders(), "own", "only you say whom you trust",
            "folders whose ipyrouter.toml may set nearly everything", key="trust.projects", files_only=True,
        )
    )  # fmt: skip
    store_url: str | None = field(
        default=None, metadata=setting(
            Database(), "own", _TEAM_REASON, "the team's PostgreSQL database; without one the log is your own file",
            key="store.url",
        )
    )  # fmt: skip
    store_offline_day: Decimal | None = field(
        default=None, metadata=setting(
            Dollars(), "own", _TEAM_REASON,
            "dollars a day that this machine may spend while the database is away, although budgets are set",
            key="store.offline_day",
        )
    )  # fmt: skip
    warnings: tuple[str, ...] = ()
    project_warnings: tuple[str, ...] = ()
    """Those of the warnings that name what a project's file may not set."""
    ignored_files: tuple[str, ...] = ()
    """Files that were not read, each with the reason."""
    folder: Path | None = None
    """Where the user's config.toml and .env lie."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the settings; another process builds the config from them."""
        from ipyrouter.config.build import build

        arguments = (dict(self.data), dict(self.origins), self.project_warnings, self.ignored_files, self.folder)
        return build, arguments

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

    def limits_of(self, candidate: Candidate) -> RateLimits | None:
        """Return the limits a minute that are set for a model, under "provider/model" or under its name alone."""
        return self.limits.get(str(candidate)) or self.limits.get(candidate.model)

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
