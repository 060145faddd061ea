"""Which class speaks through which SDK: those of this package, and those that other packages register."""

from __future__ import annotations

import importlib

from ipyrouter.config.catalogue import load_backend
from ipyrouter.errors import ConfigError
from ipyrouter.providers.base import Backend

_BUILT_IN = {
    "openai": ("ipyrouter.providers.openai", "OpenAIBackend", "openai"),
    "anthropic": ("ipyrouter.providers.anthropic", "AnthropicBackend", "anthropic"),
    "google": ("ipyrouter.providers.google", "GoogleBackend", "google-genai"),
    "azure": ("ipyrouter.providers.clouds", "AzureBackend", "openai"),
    "foundry": ("ipyrouter.providers.clouds", "FoundryBackend", "anthropic"),
    "bedrock": ("ipyrouter.providers.clouds", "BedrockBackend", "anthropic"),
    "bedrock-openai": ("ipyrouter.providers.clouds", "BedrockOpenAIBackend", "openai"),
    "vertex": ("ipyrouter.providers.clouds", "VertexBackend", "anthropic"),
}
"""By name: the module, its class, and the package that it needs. None is imported before its first call."""


def backend_of(name: str) -> type[Backend]:
    """Return the backend of that name.

    Raises ConfigError, with what to do, where its package is not installed or another package's cannot be used.
    """
    if name in _BUILT_IN:
        module, cls, package = _BUILT_IN[name]
        try:
            backend: type[Backend] = getattr(importlib.import_module(module), cls)
        except ImportError as error:
            raise ConfigError(
                f"The backend {name!r} needs {package} ({error}).", f"Install it: pip install {package}."
            ) from None
        return backend
    backend = load_backend(name)
    if not (isinstance(backend, type) and issubclass(backend, Backend)):
        raise ConfigError(
            f"The backend {name!r} is not a subclass of ipyrouter.providers.base.Backend.",
            "Upgrade its package, or name another sdk.",
        )
    return backend
