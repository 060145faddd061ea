"""Config: reads TOML, environment and arguments, validates them, and remembers where each value came from."""

from __future__ import annotations

import datetime as dt
import fnmatch
import math
import os
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, TypeVar, cast
from urllib.parse import urlsplit

from ipyrouter.errors import ConfigError, UsageError, did_you_mean
from ipyrouter.text import redact
from ipyrouter.types import TIERS, Candidate, TierName

EMBEDDED = "embedded"
"""The base_url that stands for the llama.cpp server inside this process."""

LOCAL_MODEL = Candidate("local", "smollm2")
TOY = "toy model (SmolLM2-135M)"
NO_KEY = f"{TOY}: no key is set"
"""What badge and note say where the local model stands in for chains none of whose keys is there."""
PROJECT_FILE = "ipyrouter.toml"
_DEFAULTS = Path(__file__).with_name("defaults.toml")
_PREFIXES = {"claude-": "anthropic", "gpt-": "openai", "o1": "openai", "o3": "openai", "o4": "openai"}

T = TypeVar("T")


def read_key(variable: str) -> str:
    """Return the key in an environment variable without what files leave around it: blanks, line ends, a BOM."""
    return os.environ.get(variable, "").strip(" \t\r\n\v\f\x00\u00a0\u200b\ufeff")


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
        return redact.Address(self.moved_to() or f"https://api.{self.sdk}.com")

    def moved_to(self) -> str | None:
        """Return the address in the SDK's environment variable, which moves an official entry."""
        return os.environ.get(f"{self.sdk.upper()}_BASE_URL") if self.official else None

    @property
    def service(self) -> str:
        """Return whose models these are: "openai" or "anthropic" at their own hosts, else the entry's own name.

        The address decides, not the name: OPENAI_BASE_URL makes of the entry "openai" another service.
        """
        try:
            host = urlsplit(self.address()).hostname or ""
        except ValueError:
            host = ""
        for owner in ("openai", "anthropic"):
            if host == f"api.{owner}.com" or host.endswith(f".api.{owner}.com"):
                return owner
        return host if self.name in ("openai", "anthropic") else self.name


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
        return _leaves(dict(self.data))

    def candidate(self, name: str) -> Candidate:
        """Resolve "provider/model" or a model name that tells its provider.

        Raises UsageError with the nearest known name.
        """
        return _candidate(name, self.providers, self.aliases, [c for tier in self.tiers.values() for c in tier.chain])

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
    mixed = fits and len(value) > 12 and value.upper() != value and len(re.findall(r"\d", value)) >= 3
    return (
        None if fits and not mixed else "the name of an environment variable such as ACME_API_KEY, never the key itself"
    )


def _texts(value: Any) -> str | None:
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return None if value else "a list that is not empty"
    return "a list of texts"


def _folders(value: Any) -> str | None:
    whole = isinstance(value, list) and all(isinstance(v, str) and Path(v).expanduser().is_absolute() for v in value)
    return None if whole else 'a list of whole paths such as ["/home/ada/work"]'


def _elsewhere(_: Any) -> str | None:
    return "in your own config file, where alone it counts"


def _url(value: Any) -> str | None:
    try:
        fits = isinstance(value, str) and urlsplit(value).scheme in ("http", "https")
    except ValueError:  # an address of IPv6 whose bracket does not close
        fits = False
    if value == EMBEDDED or fits:
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
    "trust": {"projects": _folders},
}
_OTHERS = {**_SCHEMA, "trust": _elsewhere}
"""The schema of what stands in no file: environment, arguments, %config."""

Rule = Literal["free", "lower", "block", "never"]
_PROJECT: dict[str, tuple[Rule, str]] = {
    "preset": ("free", "it names chains among your own providers"),
    "routing.mode": ("free", "it chooses among your tiers"),
    "routing.fast_below": ("free", "it chooses among your tiers"),
    "routing.power_above": ("free", "it chooses among your tiers"),
    "routing.confirm_tokens": ("lower", "higher than your own: large prompts would go out without a question"),
    "providers.*": ("never", "it decides where keys and prompts are sent"),
    "tiers.*": ("free", "a project knows which models do its work, within your budgets"),
    "deadlines.*": ("free", "it goes with the chains: how long their models may take"),
    "prices.*": ("never", "budgets and the log would count other prices than yours"),
    "validation.escalate": ("never", "whether weak answers are asked again is your choice"),
    "budget.action": ("block", "it would go on where you want to stop"),
    "budget.*": ("lower", "higher than your own"),
    "cache.*": ("never", "what is stored on your machine, and for how long, is your choice"),
    "log.*": ("never", "what is logged is your choice"),
    "display.*": ("never", "how answers are shown is your choice"),
    "aliases.*": ("never", "a name would mean another model than you think"),
    "retired.*": ("never", "it would switch models of yours off or on"),
    "successors.*": ("never", "it would advise another model"),
    "signals.*": ("free", "it chooses among your tiers"),
    "trust.*": ("never", "only you say whom you trust"),
}
"""What a project's file may set, by dotted key (the first pattern that fits), and why not what it may not.

free: anything; lower: no more than the user's own value; block: only "block"; never: nothing, unless the user's file
trusts the project's folder.
"""


def _validate(data: Any, schema: Any, source: str, path: str = "") -> None:
    """Raise ConfigError for the first key that is unknown or of the wrong type; what may be a secret is not shown."""
    if not isinstance(schema, dict):
        if wanted := schema(data):
            if schema is _variable:  # what stands there may be the key itself
                raise ConfigError(f"{source}: {path} must be {wanted}.", "Put the key into that variable.")
            if schema is _url:  # a wrong address may be a key, or hold a password
                raise ConfigError(f"{source}: {path} must be {wanted}.", "A key belongs in a variable of its own.")
            near = did_you_mean(data, schema.names) if isinstance(schema, _OneOf) and isinstance(data, str) else ""
            hint = f" {near}" if near.startswith("Did") else ""
            raise ConfigError(f"{source}: {path} must be {wanted},", f"not {redact.excerpt(data)}.{hint}")
        return
    if not isinstance(data, dict):
        raise ConfigError(f"{source}: {path} must be a table,", f"not {redact.excerpt(data)}.")
    for key, value in data.items():
        named = redact.name(str(key))
        dotted = f"{path}.{named}" if path else named
        if key not in schema and _FREE not in schema:
            raise ConfigError(f"{source}: unknown key {dotted!r}.", did_you_mean(str(key), schema))
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
        return Layer(str(path), data)
    return None


def _is_trusted(project: Path, user: Mapping[str, Any]) -> bool:
    """Tell whether the user's own file trusts the folder of a project, or one around it."""
    folder = project.parent.resolve()
    return any(
        folder.is_relative_to(Path(trusted).expanduser().resolve())
        for trusted in user.get("trust", {}).get("projects", ())
    )


def _tighten(data: dict[str, Any], own: dict[str, Any], path: str = "") -> tuple[dict[str, Any], list[str]]:
    """Return what of a project's settings may hold beside the user's own, and a few words on each that may not."""
    allowed: dict[str, Any] = {}
    refused: list[str] = []
    for key, value in data.items():
        dotted = f"{path}.{key}" if path else key
        mine = own.get(key)
        if isinstance(value, dict):
            inner, more = _tighten(value, mine if isinstance(mine, dict) else {}, dotted)
            allowed |= {key: inner} if inner else {}
            refused += more
            continue
        rule, reason = next(entry for pattern, entry in _PROJECT.items() if fnmatch.fnmatchcase(dotted, pattern))
        tighter = rule == "free" or (rule == "lower" and (mine is None or value <= mine))
        if tighter or (rule == "block" and value == "block"):
            allowed[key] = value
        else:
            refused.append(f"{redact.name(dotted)} ({reason})")
    return allowed, refused


def _project(project: Layer, user: Mapping[str, Any], own: dict[str, Any], user_file: Path) -> tuple[Layer, list[str]]:
    """Return the layer as far as it may hold, and a warning that names the rest."""
    path = Path(project.source)
    if _is_trusted(path, user):
        return Layer(project.source, {key: value for key, value in project.data.items() if key != "trust"}), []
    allowed, refused = _tighten(project.data, own)
    if not refused:
        return Layer(project.source, allowed), []
    remedy = f'If you trust it, write projects = ["{path.parent.resolve()}"] under [trust] in {user_file}'
    warning = f"{path}: a project's file may only tighten your settings. Ignored: {'; '.join(refused)}. {remedy}."
    return Layer(project.source, allowed), [warning]


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
        _validate(nested, _OTHERS, f"environment variable {redact.name(variable)}")
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
    ignored: list[str] = []
    user_file = config_file(home)
    if (data := _read_file(user_file)) is not None:
        _validate(data, _SCHEMA, str(user_file))
        layers.append(Layer(str(user_file), data))
    user = data or {}
    if (project := _project_layer(folder or Path.cwd())) is not None and project.source != str(user_file):
        own = _merge(_merge(defaults, presets[user.get("preset", defaults["preset"])]), user)
        project, ignored = _project(project, user, own, user_file)
        layers.append(project)
    if (environment := _environment_layer(environ)) is not None:
        layers.append(environment)
    if arguments:
        _validate(dict(arguments), _OTHERS, "arguments")
        layers.append(Layer("arguments", dict(arguments)))

    preset = next((layer.data["preset"] for layer in reversed(layers) if "preset" in layer.data), defaults["preset"])
    merged = _merge(defaults, presets[preset])
    origins = dict.fromkeys(_leaves(merged), "default")
    for layer in layers:
        merged = _merge(merged, layer.data)
        origins.update(dict.fromkeys(_leaves(layer.data), layer.source))
    return _build(merged, origins, ignored)


def override(config: Config, settings: Mapping[str, Any], source: str) -> Config:
    """Return the config with settings, nested like the TOML, that win over all of its own. Raises ConfigError."""
    _validate(dict(settings), _OTHERS, source)
    return _build(
        _merge(dict(config.data), dict(settings)),
        {**config.origins, **dict.fromkeys(_leaves(dict(settings)), source)},
        config.project_warnings,
    )


def _build(data: dict[str, Any], origins: dict[str, str], ignored: Sequence[str] = ()) -> Config:
    """Turn validated, merged data into a Config; checks what spans more than one key."""

    def source(key: str) -> str:
        return origins.get(key, "default")

    warnings: list[str] = list(ignored)
    data = {**data, "providers": {name: _with_address(table) for name, table in data["providers"].items()}}
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
        project_warnings=tuple(ignored),
    )


def _with_address(table: dict[str, Any]) -> dict[str, Any]:
    """Return a provider's settings with an address that shows no password when it is printed or pickled."""
    return {**table, "base_url": redact.Address("".join(table["base_url"]))} if table.get("base_url") else table


def _provider(name: str, table: dict[str, Any], source: Callable[[str], str], warnings: list[str]) -> Provider:
    where = source(f"providers.{name}.{next(iter(table), 'sdk')}")
    label = redact.name(name)
    if "sdk" not in table:
        raise ConfigError(f"{where}: providers.{label} has no 'sdk'.", 'Add sdk = "openai" or sdk = "anthropic".')
    base_url = table.get("base_url")
    if base_url is None and name not in ("openai", "anthropic"):
        raise ConfigError(f"{where}: providers.{label} has no 'base_url'.", "Add the address of its API.")
    if base_url and urlsplit(base_url).scheme == "http" and not _loopback(urlsplit(base_url).hostname or ""):
        warnings.append(f"{where}: providers.{label}.base_url is http://: prompts and key travel unencrypted.")
    return Provider(name=name, **table)


def _loopback(host: str) -> bool:
    return host in ("localhost", "::1") or host.startswith("127.")


def _price(name: str, table: dict[str, Any], source: Callable[[str], str]) -> Price:
    for key in ("input", "output"):
        if key not in table:
            other = next(iter(table), key)
            raise ConfigError(
                f"{source(f'prices.{name}.{other}')}: prices.{redact.name(name)!r} has no {key!r}.",
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
            raise UsageError(
                f"Unknown model {redact.excerpt(model)} of {provider}.", f"It has one: {provider}/{LOCAL_MODEL.model}."
            )
        # An alias of a maker's name holds at that maker; another server may serve a model of its own under it.
        return Candidate(provider, aliases.get(model, model) if _maker(model) in (None, provider) else model)
    for candidate in known:
        if candidate.model == name:
            return candidate
    if name == LOCAL_MODEL.model:
        return LOCAL_MODEL
    if not slash and (maker := _maker(name)) is not None:
        return Candidate(maker, name)
    if slash:
        raise UsageError(
            f"Unknown provider {redact.excerpt(provider)} in {redact.excerpt(name)}.", did_you_mean(provider, providers)
        )
    names = {candidate.model for candidate in known} | {str(LOCAL_MODEL)}
    raise UsageError(
        f"Unknown model {redact.excerpt(name)}.", f"{did_you_mean(name, names)} Or write 'provider/model'."
    )


def _maker(model: str) -> str | None:
    """Return the provider that a model's name tells, if it tells one."""
    return next((maker for prefix, maker in _PREFIXES.items() if model.startswith(prefix)), None)


def as_tier(name: str) -> TierName:
    """Return the tier of that name. Raises UsageError with the nearest one."""
    if name in TIERS:
        return name
    raise UsageError(f"Unknown tier {redact.excerpt(name)}.", did_you_mean(name, TIERS))
