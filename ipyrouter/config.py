"""Config: reads TOML, environment and arguments, validates them, and remembers where each value came from."""

from __future__ import annotations

import datetime as dt
import math
import os
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, cast
from urllib.parse import urlsplit

from ipyrouter.errors import ConfigError, UsageError, did_you_mean
from ipyrouter.types import TIERS, Candidate, TierName

EMBEDDED = "embedded"
"""The base_url that stands for the llama.cpp server inside this process."""

LOCAL_MODEL = Candidate("local", "smollm2")
PROJECT_FILE = "ipyrouter.toml"
_DEFAULTS = Path(__file__).with_name("defaults.toml")
_PREFIXES = {"claude-": "anthropic", "gpt-": "openai", "o1": "openai", "o3": "openai", "o4": "openai"}


@dataclass(frozen=True, slots=True)
class Provider:
    """Where a model is served, and the name (never the value) of the variable that holds the key."""

    name: str
    sdk: Literal["openai", "anthropic"]
    base_url: str | None = None
    key: str | None = None
    stream: bool = True
    gguf: str | None = None

    @property
    def embedded(self) -> bool:
        """True where the model runs inside this process."""
        return self.base_url == EMBEDDED

    @property
    def official(self) -> bool:
        """True for OpenAI's and Anthropic's own entries, whose address the SDK's environment variable may move."""
        return self.base_url is None

    def has_key(self) -> bool:
        """Tell whether the key is there, or none is needed."""
        return self.key is None or bool(os.environ.get(self.key))

    def address(self) -> str:
        """Return the base URL as the SDK would resolve it, for cache keys and reports."""
        if self.base_url is not None:
            return f"{self.base_url}:{self.gguf}" if self.gguf else self.base_url
        return os.environ.get(f"{self.sdk.upper()}_BASE_URL") or f"https://api.{self.sdk}.com"


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

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the read-only mappings as dictionaries, so that another process can rebuild the config."""
        values = tuple(getattr(self, name) for name in self.__slots__)
        return _rebuild, tuple(dict(v) if isinstance(v, MappingProxyType) else v for v in values)

    @property
    def values(self) -> dict[str, Any]:
        """Every setting by its dotted key."""
        return _leaves(dict(self.data))

    def candidate(self, name: str) -> Candidate:
        """Resolve "provider/model" or a model name that tells its provider.

        Raises UsageError with the nearest known name.
        """
        return _candidate(name, self.providers, self.aliases, [c for tier in self.tiers.values() for c in tier.chain])

    def retired_on(self, model: str) -> dt.date | None:
        """Return the day on which the model's API stops answering, if one is known."""
        return self.retired.get(model)

    def deadline_setting(self, tier: TierName, deadline: str) -> str:
        """Return the setting that a tier's deadline ("connect", "first_byte", "idle" or "total") comes from."""
        own = f"tiers.{tier}.deadlines.{deadline}"
        return own if own in self.values and _tier_decides(self.origins, tier, deadline) else f"deadlines.{deadline}"

    @property
    def chains_are_ours(self) -> bool:
        """True while nobody has set a chain: every one comes from the preset."""
        return all(self.origins[f"tiers.{name}.chain"] == "default" for name in self.tiers)


def _tier_decides(origins: Mapping[str, str], tier: str, deadline: str) -> bool:
    """Tell whether a tier's own deadline holds: always, unless it is a default and the user has set the general one."""
    general = origins.get(f"deadlines.{deadline}", "default")
    return general == "default" or origins.get(f"tiers.{tier}.deadlines.{deadline}", "default") != "default"


def _rebuild(*values: Any) -> Config:
    return Config(*cast(Any, [MappingProxyType(v) if isinstance(v, dict) else v for v in values]))


# --- the schema: a checker per key ---

Checker = Callable[[Any], str | None]


def _number(*, above: float | None = None, least: float | None = None, most: float | None = None) -> Checker:
    def check(value: Any) -> str | None:
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or (isinstance(value, float) and math.isnan(value))
        ):
            return "a number"
        if above is not None and value <= above:
            return f"a number above {above:g}"
        if least is not None and value < least:
            return f"a number of at least {least:g}"
        return f"a number of at most {most:g}" if most is not None and value > most else None

    return check


def _whole(value: Any) -> str | None:
    return None if isinstance(value, int) and not isinstance(value, bool) and value > 0 else "a whole number above 0"


def _text(value: Any) -> str | None:
    return None if isinstance(value, str) and value else "a text"


def _flag(value: Any) -> str | None:
    return None if isinstance(value, bool) else "true or false"


@dataclass(frozen=True)
class _OneOf:
    names: tuple[str, ...]
    function: bool = False  # a Python function will do as well

    def __call__(self, value: Any) -> str | None:
        known = (isinstance(value, str) and value in self.names) or (self.function and callable(value))
        return None if known else f"one of {', '.join(self.names)}"


def _one_of(*names: str) -> _OneOf:
    return _OneOf(names)


def _variable(value: Any) -> str | None:
    fits = isinstance(value, str) and re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,63}", value)
    # Keys are long and mixed; a variable's name is one or the other.
    mixed = fits and len(value) > 30 and value.upper() != value and re.search(r"\d", value)
    return (
        None if fits and not mixed else "the name of an environment variable such as ACME_API_KEY, never the key itself"
    )


def _texts(value: Any) -> str | None:
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return None if value else "a list that is not empty"
    return "a list of texts"


def _url(value: Any) -> str | None:
    if value == EMBEDDED or (isinstance(value, str) and urlsplit(value).scheme in ("http", "https")):
        return None
    return f'an address that starts with https:// (or "{EMBEDDED}")'


def _date(value: Any) -> str | None:
    return None if isinstance(value, dt.date) else "a date such as 2027-01-14"


_MOST = 10**6  # dollars: the log holds whole 1e-12 dollars in 64 bits; TOML knows infinity too
_DEADLINES: dict[str, Any] = {name: _number(above=0, most=10**6) for name in ("connect", "first_byte", "idle", "total")}
_TIER: dict[str, Any] = {"chain": _texts, "max_output_tokens": _whole, "deadlines": _DEADLINES}
_FREE = "*"
_SCHEMA: dict[str, Any] = {
    "preset": _one_of("current", "article"),
    "routing": {
        "mode": _OneOf(("learned", "rules", "hybrid"), function=True),
        "fast_below": _number(least=0, most=1),
        "power_above": _number(least=0, most=1),
        "confirm_tokens": _whole,
    },
    "providers": {
        _FREE: {
            "sdk": _one_of("openai", "anthropic"),
            "base_url": _url,
            "key": _variable,
            "stream": _flag,
            "gguf": _text,
        }
    },
    "tiers": dict.fromkeys(TIERS, _TIER),
    "deadlines": _DEADLINES,
    "prices": {
        _FREE: {name: _number(least=0, most=_MOST) for name in ("input", "output", "cached_input", "cache_write")}
    },
    "validation": {"escalate": _flag},
    "budget": {
        **{k: _number(least=0, most=_MOST) for k in ("call", "session", "day", "month")},
        "action": _one_of("downgrade", "block"),
    },
    "cache": {"enabled": _flag, "ttl_days": _number(above=0, most=10**5), "max_mb": _number(above=0, most=10**9)},
    "log": {"content": _flag},
    "display": {"format": _one_of("markdown", "text"), "stream": _flag},
    "aliases": {_FREE: _text},
    "retired": {_FREE: _date},
    "successors": {_FREE: _text},
    "signals": {"power": _texts, "fast": _texts, "power_above_words": _whole},
}


def _validate(data: Any, schema: Any, source: str, path: str = "") -> None:
    """Raise ConfigError for the first key that is unknown or of the wrong type."""
    if not isinstance(schema, dict):
        if wanted := schema(data):
            if schema is _variable:  # what stands there may be the key itself
                raise ConfigError(f"{source}: {path} must be {wanted}.", "Put the key into that variable.")
            near = did_you_mean(data, schema.names) if isinstance(schema, _OneOf) and isinstance(data, str) else ""
            hint = f" {near}" if near.startswith("Did") else ""
            raise ConfigError(f"{source}: {path} must be {wanted},", f"not {data!r}.{hint}")
        return
    if not isinstance(data, dict):
        raise ConfigError(f"{source}: {path} must be a table,", f"not {data!r}.")
    for key, value in data.items():
        dotted = f"{path}.{key}" if path else key
        if key not in schema and _FREE not in schema:
            raise ConfigError(f"{source}: unknown key {dotted!r}.", did_you_mean(key, schema))
        _validate(value, schema.get(key, schema.get(_FREE)), source, dotted)


# --- the layers ---


@dataclass(frozen=True, slots=True)
class Layer:
    """One source of settings, validated; later layers win."""

    source: str
    data: dict[str, Any]


def config_file(home: Path | None) -> Path:
    """Return the path of the user's own config file."""
    if home is not None:
        return home / "config.toml"
    import platformdirs

    return platformdirs.user_config_path("ipyrouter") / "config.toml"


def data_folder(home: Path | None) -> Path:
    """Return the folder of the database."""
    if home is not None:
        return home
    import platformdirs

    return platformdirs.user_data_path("ipyrouter")


def _read_file(path: Path) -> dict[str, Any] | None:
    try:
        text = path.read_text("utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigError(f"{path}: cannot be read: {reason}.", "Mend or remove the file.") from None
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not valid TOML: {error}.", "See https://toml.io for the syntax.") from None


def _project_layer(start: Path) -> Layer | None:
    for folder in (start, *start.parents):
        path = folder / PROJECT_FILE
        if (data := _read_file(path)) is None:
            continue
        _validate(data, _SCHEMA, str(path))
        if "providers" in data:
            raise ConfigError(
                f"{path}: a project's file may not set 'providers', because they decide where keys are sent.",
                "Move that table into your own config file (see `ipyrouter doctor`).",
            )
        return Layer(str(path), data)
    return None


def _environment_layer(environ: Mapping[str, str]) -> Layer | None:
    data: dict[str, Any] = {}
    for variable, value in sorted(environ.items()):
        if not variable.startswith("IPYROUTER_") or variable == "IPYROUTER_HOME":
            continue
        keys = variable.removeprefix("IPYROUTER_").lower().split("__")
        try:
            parsed: Any = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            parsed = value
        nested: Any = parsed
        for key in reversed(keys):
            nested = {key: nested}
        _validate(nested, _SCHEMA, f"environment variable {variable}")
        data = _merge(data, nested)
    return Layer("environment", data) if data else None


def _merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        merged[key] = _merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged


def _leaves(data: dict[str, Any], path: str = "") -> dict[str, Any]:
    """Return the values by their dotted keys."""
    found: dict[str, Any] = {}
    for key, value in data.items():
        dotted = f"{path}.{key}" if path else key
        found |= _leaves(value, dotted) if isinstance(value, dict) else {dotted: value}
    return found


def load(
    arguments: Mapping[str, Any] | None = None,
    *,
    home: Path | None = None,
    folder: Path | None = None,
    environ: Mapping[str, str] | None = None,
) -> Config:
    """Read every layer and return the validated Config.

    Layers, later ones win: the preset, the user's config.toml, `ipyrouter.toml` found upwards from ``folder``
    (default: the working folder), `IPYROUTER_*` variables, ``arguments`` (nested like the TOML).

    Raises ConfigError, in one line with file, key and the nearest valid name.
    """
    environ = os.environ if environ is None else environ
    defaults = tomllib.loads(_DEFAULTS.read_text("utf-8"))
    presets = defaults.pop("presets")
    layers: list[Layer] = []
    user_file = config_file(home)
    if (data := _read_file(user_file)) is not None:
        _validate(data, _SCHEMA, str(user_file))
        layers.append(Layer(str(user_file), data))
    if (project := _project_layer(folder or Path.cwd())) is not None and project.source != str(user_file):
        layers.append(project)
    if (environment := _environment_layer(environ)) is not None:
        layers.append(environment)
    if arguments:
        _validate(dict(arguments), _SCHEMA, "arguments")
        layers.append(Layer("arguments", dict(arguments)))

    preset = next((layer.data["preset"] for layer in reversed(layers) if "preset" in layer.data), defaults["preset"])
    merged = _merge(defaults, presets[preset])
    origins = dict.fromkeys(_leaves(merged), "default")
    for layer in layers:
        merged = _merge(merged, layer.data)
        origins.update(dict.fromkeys(_leaves(layer.data), layer.source))
    return _build(merged, origins)


def override(config: Config, settings: Mapping[str, Any], source: str) -> Config:
    """Return the config with settings, nested like the TOML, that win over all of its own. Raises ConfigError."""
    _validate(dict(settings), _SCHEMA, source)
    return _build(
        _merge(dict(config.data), dict(settings)),
        {**config.origins, **dict.fromkeys(_leaves(dict(settings)), source)},
    )


def _build(data: dict[str, Any], origins: dict[str, str]) -> Config:
    """Turn validated, merged data into a Config; checks what spans more than one key."""

    def source(key: str) -> str:
        return origins.get(key, "default")

    warnings: list[str] = []
    providers = {name: _provider(name, table, source, warnings) for name, table in data["providers"].items()}
    prices = {name: _price(name, table, source) for name, table in data["prices"].items()}
    routing = data["routing"]
    if routing["fast_below"] > routing["power_above"]:
        raise ConfigError(
            f"{source('routing.fast_below')}: routing.fast_below ({routing['fast_below']}) is above "
            f"routing.power_above ({routing['power_above']}).",
            "Swap them.",
        )
    tiers: dict[TierName, Tier] = {}
    for name in TIERS:
        table = data["tiers"][name]
        chain = []
        for entry in table["chain"]:
            try:
                chain.append(_candidate(entry, providers, data["aliases"], []))
            except UsageError as error:
                raise ConfigError(
                    f"{source(f'tiers.{name}.chain')}: tiers.{name}.chain: {error.message}", error.remedy
                ) from None
        own = {k: v for k, v in table.get("deadlines", {}).items() if _tier_decides(origins, name, k)}
        deadlines = Deadlines(**{**data["deadlines"], **own})
        tiers[name] = Tier(name, tuple(chain), table["max_output_tokens"], deadlines)
    budget: dict[str, Any] = {k: v if k == "action" else Decimal(str(v)) for k, v in data["budget"].items()}
    signals = data["signals"]
    return Config(
        preset=data["preset"],
        mode=routing["mode"],
        fast_below=routing["fast_below"],
        power_above=routing["power_above"],
        confirm_tokens=routing["confirm_tokens"],
        providers=MappingProxyType(providers),
        tiers=MappingProxyType(tiers),
        prices=MappingProxyType(prices),
        signals=Signals(tuple(signals["power"]), tuple(signals["fast"]), signals["power_above_words"]),
        escalate=data["validation"]["escalate"],
        budget=Budget(**budget),
        cache_enabled=data["cache"]["enabled"],
        cache_ttl_days=data["cache"]["ttl_days"],
        cache_max_mb=data["cache"]["max_mb"],
        log_content=data["log"]["content"],
        display_format=data["display"]["format"],
        display_stream=data["display"]["stream"],
        aliases=MappingProxyType(data["aliases"]),
        retired=MappingProxyType(data["retired"]),
        successors=MappingProxyType(data["successors"]),
        data=MappingProxyType(data),
        origins=MappingProxyType(origins),
        warnings=tuple(warnings),
    )


def _provider(name: str, table: dict[str, Any], source: Callable[[str], str], warnings: list[str]) -> Provider:
    where = source(f"providers.{name}.{next(iter(table), 'sdk')}")
    if "sdk" not in table:
        raise ConfigError(f"{where}: providers.{name} has no 'sdk'.", 'Add sdk = "openai" or sdk = "anthropic".')
    base_url = table.get("base_url")
    if base_url is None and name not in ("openai", "anthropic"):
        raise ConfigError(f"{where}: providers.{name} has no 'base_url'.", "Add the address of its API.")
    if base_url and urlsplit(base_url).scheme == "http" and not _loopback(urlsplit(base_url).hostname or ""):
        warnings.append(f"{where}: providers.{name}.base_url is http://: prompts and key travel unencrypted.")
    return Provider(name=name, **table)


def _loopback(host: str) -> bool:
    return host in ("localhost", "::1") or host.startswith("127.")


def _price(name: str, table: dict[str, Any], source: Callable[[str], str]) -> Price:
    for key in ("input", "output"):
        if key not in table:
            other = next(iter(table), key)
            raise ConfigError(
                f"{source(f'prices.{name}.{other}')}: prices.{name!r} has no {key!r}.",
                "Add it, in $ per million tokens.",
            )
    return Price(**{key: Decimal(str(value)) for key, value in table.items()})


def _candidate(
    name: str, providers: Mapping[str, Provider], aliases: Mapping[str, str], known: list[Candidate]
) -> Candidate:
    name = aliases.get(name, name)
    provider, slash, model = name.partition("/")
    if slash and provider in providers and model:
        server = providers[provider]
        if server.embedded and server.gguf is None and model != LOCAL_MODEL.model:
            raise UsageError(f"Unknown model {model!r} of {provider}.", f"It has one: {provider}/{LOCAL_MODEL.model}.")
        return Candidate(provider, aliases.get(model, model))
    for candidate in known:
        if candidate.model == name:
            return candidate
    if name == LOCAL_MODEL.model:
        return LOCAL_MODEL
    if not slash:
        for prefix, owner in _PREFIXES.items():
            if name.startswith(prefix):
                return Candidate(owner, name)
    if slash:
        raise UsageError(f"Unknown provider {provider!r} in {name!r}.", did_you_mean(provider, providers))
    names = {candidate.model for candidate in known} | {str(LOCAL_MODEL)}
    raise UsageError(f"Unknown model {name!r}.", f"{did_you_mean(name, names)} Or write 'provider/model'.")


def as_tier(name: str) -> TierName:
    """Return the tier of that name. Raises UsageError with the nearest one."""
    if name in TIERS:
        return name
    raise UsageError(f"Unknown tier {name!r}.", did_you_mean(name, TIERS))
