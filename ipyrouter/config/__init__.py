"""Config: reads TOML, environment and arguments, validates them, and remembers where each value came from."""

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
