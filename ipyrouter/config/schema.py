"""Validation: settings nested like the TOML, and the check of what a source sets against them."""

from __future__ import annotations

from typing import Any

from ipyrouter.config.model import Config
from ipyrouter.config.rules import Backend, OneOf, Setting, settings
from ipyrouter.errors import ConfigError, did_you_mean
from ipyrouter.text import redact
from ipyrouter.types import TIERS

FREE = "*"
"""Stands for any name in the schema: a provider's, a model's."""

Schema = dict[str, Any]
"""Settings by their keys, nested like the TOML: each value is a Setting or a Schema."""


def schema_of(cls: type[Any]) -> Schema:
    """Return the schema of a class of settings.

    Args:
        cls: A dataclass whose fields carry rules.

    Returns:
        Its settings, nested; a table with names of the user's own has the one key FREE.
    """
    schema: Schema = {}
    for dotted, setting in settings(cls):
        *tables, leaf = _keys(dotted)
        places = [schema]
        for names in tables:
            places = [place.setdefault(name, {}) for place in places for name in names]
        for place in places:
            place.update(dict.fromkeys(leaf, setting))
    return schema


def _keys(dotted: str) -> list[tuple[str, ...]]:
    """Return the names that may stand at each place of a dotted key."""
    return [TIERS if key == "<tier>" else (FREE,) if key.startswith("<") else (key,) for key in dotted.split(".")]


SCHEMA = schema_of(Config)


def rule_at(schema: Schema, key: str) -> Any:
    """Return what the schema says of a key: a Setting, a Schema, or None where it is unknown."""
    return schema.get(key, schema.get(FREE))


def validate(data: Any, source: str, *, from_file: bool, schema: Any = SCHEMA, path: str = "") -> None:
    """Check settings; what may be a secret is not shown.

    Args:
        data: The settings, nested like the TOML.
        source: Where they come from, for the message.
        from_file: Whether that is a file: some settings count nowhere else.
        schema: The rules.
        path: The dotted key of ``data`` within all settings.

    Raises:
        ConfigError: For the first key that is unknown, or whose value is not valid.
    """
    if isinstance(schema, Setting):
        _validate_value(data, schema, source, path, from_file=from_file)
        return
    if not isinstance(data, dict):
        raise ConfigError(f"{source}: {path} must be a table,", f"not {redact.excerpt(data)}.")
    for key, value in data.items():
        named = redact.name(str(key))
        dotted = f"{path}.{named}" if path else named
        rule = rule_at(schema, key)
        if rule is None:
            raise ConfigError(f"{source}: unknown key {dotted!r}.", did_you_mean(str(key), schema))
        if not str(key).isprintable():
            raise ConfigError(f"{source}: {dotted!r} holds control characters.", "Write the name without them.")
        validate(value, source, from_file=from_file, schema=rule, path=dotted)


def _validate_value(value: Any, setting: Setting, source: str, path: str, *, from_file: bool) -> None:
    if setting.files_only and not from_file:
        raise ConfigError(f"{source}: {path} must be in your own config file, where alone it counts.")
    if not (requirement := setting.check.fault(value)):
        return
    if setting.check.remedy:
        raise ConfigError(f"{source}: {path} must be {requirement}.", setting.check.remedy)
    near = ""
    if isinstance(setting.check, OneOf | Backend) and isinstance(value, str):
        near = did_you_mean(value, setting.check.names)
    hint = f" {near}" if near.startswith("Did") else ""
    raise ConfigError(f"{source}: {path} must be {requirement},", f"not {redact.excerpt(value)}.{hint}")
