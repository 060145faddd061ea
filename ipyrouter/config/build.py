"""From validated, merged data to a Config: what spans more than one setting is checked here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit

from ipyrouter.config.catalogue import load_backend, services
from ipyrouter.config.model import Budget, Config, Deadlines, Price, Provider, Signals, Tier, tier_decides
from ipyrouter.config.names import candidate_of
from ipyrouter.errors import ConfigError, UsageError
from ipyrouter.text import redact
from ipyrouter.types import TIERS, TierName


def build(data: dict[str, Any], origins: dict[str, str], ignored: Sequence[str] = ()) -> Config:
    """Turn validated, merged data into a Config; checks what spans more than one key."""

    def source(key: str) -> str:
        return origins.get(key, "default")

    warnings: list[str] = list(ignored)
    data = {**data, "providers": {name: _with_address(table) for name, table in data["providers"].items()}}
    providers = {name: _provider(name, table, source, warnings) for name, table in data["providers"].items()}
    for name in services():  # the well-known ones that nobody has configured
        providers.setdefault(name, _provider(name, {}, source, warnings))
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
                chain.append(candidate_of(entry, providers, data["aliases"], []))
            except UsageError as error:
                raise ConfigError(
                    f"{source(f'tiers.{name}.chain')}: tiers.{name}.chain: {error.message}", error.remedy
                ) from None
        own = {k: v for k, v in table.get("deadlines", {}).items() if tier_decides(origins, name, k)}
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
    service = services().get(name)
    if "sdk" not in table and service is None:
        raise ConfigError(f"{where}: providers.{label} has no 'sdk'.", 'Add sdk = "openai" or sdk = "anthropic".')
    known: dict[str, Any] = {}
    if service is not None and "base_url" not in table and table.get("sdk", service.sdk) == service.sdk:
        known = {"sdk": service.sdk, "key": service.key, "limit": service.limit, "supports": service.supports}
        if service.variable is None:
            known["base_url"] = service.address
    elif service is not None:
        known = {"sdk": service.sdk}  # a server of the user's own: what it supports and asks for is not known
    base_url = table.get("base_url", known.get("base_url"))
    if base_url is None and not known.get("limit"):
        base_url = known["base_url"] = _own_address(table.get("sdk", ""))
        if base_url is None:
            raise ConfigError(f"{where}: providers.{label} has no 'base_url'.", "Add the address of its API.")
    if base_url and urlsplit(base_url).scheme == "http" and not _loopback(urlsplit(base_url).hostname or ""):
        warnings.append(f"{where}: providers.{label}.base_url is http://: prompts and key travel unencrypted.")
    return Provider(name=name, **{**known, **table})


def _own_address(sdk: str) -> str | None:
    """Return where the service of another package's backend answers, if it says so."""
    built_in = {service.sdk for service in services().values()}
    return None if sdk in built_in else load_backend(sdk).address or None


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
