"""Config: reads TOML, environment and arguments, validates them, and remembers where each value came from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ipyrouter.config.files import PROJECT_FILE, config_file, data_folder, home_folder
    from ipyrouter.config.layers import default, load, override
    from ipyrouter.config.model import (
        NO_KEY,
        TOY,
        Budget,
        Config,
        Deadlines,
        Price,
        Provider,
        Signals,
        Tier,
        read_key,
    )
    from ipyrouter.config.names import LOCAL_MODEL, as_tier
    from ipyrouter.config.rules import EMBEDDED

__all__ = [
    "EMBEDDED",
    "LOCAL_MODEL",
    "NO_KEY",
    "PROJECT_FILE",
    "TOY",
    "Budget",
    "Config",
    "Deadlines",
    "Price",
    "Provider",
    "Signals",
    "Tier",
    "as_tier",
    "config_file",
    "data_folder",
    "default",
    "home_folder",
    "load",
    "override",
    "read_key",
]

_HOMES = {
    "files": ("PROJECT_FILE", "config_file", "data_folder", "home_folder"),
    "layers": ("default", "load", "override"),
    "names": ("LOCAL_MODEL", "as_tier"),
    "rules": ("EMBEDDED",),
}


if not TYPE_CHECKING:  # a type checker that sees this takes any name for a public one

    def __getattr__(name: str) -> Any:
        """Import each part when it is first asked for (PEP 562): `%load_ext` needs the settings' rules alone."""
        if name not in __all__:
            raise AttributeError(f"module 'ipyrouter.config' has no attribute {name!r}")
        import importlib

        home = next((module for module, names in _HOMES.items() if name in names), "model")
        return getattr(importlib.import_module(f"ipyrouter.config.{home}"), name)
