"""From validated, merged data to a Config: what spans more than one setting is checked here."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit

from ipyrouter.config.catalogue import load_backend, services
from ipyrouter.config.model import Config, Deadlines, Price, Provider, Tier, tier_decides
from ipyrouter.config.names import candidate_of
from ipyrouter.config.rules import Table, rules
from ipyrouter.errors import ConfigError, UsageError
from ipyrouter.text import redact
from ipyrouter.types import TIERS, TierName


def build(
    data: dict[str, Any],
    origins: dict[str, str],
    project_warnings: Sequence[str] = (),
    ignored_files: Sequence[str] = (),
) -> Config:
    """Turn validated settings into a Config.

    Args:
        data: Every setting, nested like the TOML.
        origins: Where each came from, by its dotted key.
        project_warnings: What a project's file may not set.
        ignored_files: Files that were not read, each with the reason.

    Raises:
        ConfigError: Settings do not go together.
    """
    data = {**data, "providers": {name: _with_address(table) for name, table in data["providers"].items()}}
    warnings: list[str] = [*project_warnings]
    providers = {name: _provider(name, table, origins, warnings) for name, table in data["providers"].items()}
    for name in services():  # the well-known ones that are not configured
        providers.setdefault(name, _provider(name, {}, origins, warnings))
    prices = {name: _price(name, table, origins) for name, table in data["prices"].items()}
    tiers: dict[TierName, Tier] = {name: _tier(name, data, providers, origins) for name in TIERS}
    config = Config(
        **_values(Config, data),
        providers=MappingProxyType(providers),
        prices=MappingProxyType(prices),
        tiers=MappingProxyType(tiers),
        data=MappingProxyType(data),
        origins=MappingProxyType(origins),
        warnings=tuple(warnings),
        project_warnings=tuple(project_warnings),
        ignored_files=tuple(ignored_files),
    )
    if config.fast_below > config.power_above:
        raise ConfigError(
            f"{origins['routing.fast_below']}: routing.fast_below ({config.fast_below}) is above "
            f"routing.power_above ({config.power_above}).",
            "Swap them.",
        )
    return config


def _values(cls: type[Any], data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a class of settings, but for tables with names and those whose default is the field's."""
    values: dict[str, Any] = {}
    for item, rule in rules(cls):
        if isinstance(rule, Table):
            if not rule.each:
                values[item.name] = rule.holds(**_values(rule.holds, data[item.name]))
            continue
        *tables, key = (rule.key or item.name).split(".")
        place = functools.reduce(lambda table, name: table.get(name, {}), tables, data)
        if rule.each:
            entries = place.get(key, {}).items()
            values[item.name] = MappingProxyType({name: rule.check.read(value) for name, value in entries})
        elif key in place:
            values[item.name] = rule.check.read(place[key])
    return values


def _tier(
    name: TierName, data: Mapping[str, Any], providers: Mapping[str, Provider], origins: Mapping[str, str]
) -> Tier:
    table = data["tiers"][name]
    chain = []
    for entry in table["chain"]:
        try:
            chain.append(candidate_of(entry, providers, data["aliases"], []))
        except UsageError as error:
            raise ConfigError(
                f"{origins[f'tiers.{name}.chain']}: tiers.{name}.chain: {error.message}", error.remedy
            ) from None
    own = {key: value for key, value in table.get("deadlines", {}).items() if tier_decides(origins, name, key)}
    deadlines = Deadlines(**{**data["deadlines"], **own})
    return Tier(name, tuple(chain), table["max_output_tokens"], table["effort"], deadlines)


def _with_address(table: dict[str, Any]) -> dict[str, Any]:
    """Return a provider's settings with an address that shows no password when it is printed or pickled."""
    return {**table, "base_url": redact.Address("".join(table["base_url"]))} if table.get("base_url") else table


def _provider(name: str, table: dict[str, Any], origins: Mapping[str, str], warnings: list[str]) -> Provider:
    where = _source(origins, f"providers.{name}.{next(iter(table), 'sdk')}")
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
    return Provider(name=name, **{**known, **_values(Provider, table)})


def _own_address(sdk: str) -> str | None:
    """Return where the service of another package's backend answers, if it says so."""
    built_in = {service.sdk for service in services().values()}
    return None if sdk in built_in else load_backend(sdk).address or None


def _source(origins: Mapping[str, str], key: str) -> str:
    return origins.get(key, "default")


def _loopback(host: str) -> bool:
    return host in ("localhost", "::1") or host.startswith("127.")


def _price(name: str, table: dict[str, Any], origins: Mapping[str, str]) -> Price:
    for key in ("input", "output"):
        if key not in table:
            other = next(iter(table), key)
            raise ConfigError(
                f"{_source(origins, f'prices.{name}.{other}')}: prices.{redact.name(name)!r} has no {key!r}.",
                "Add it, in $ per million tokens.",
            )
    return Price(**_values(Price, table))
