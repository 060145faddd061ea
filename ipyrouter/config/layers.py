"""The layers: files, environment and arguments, validated and merged; each value remembers where it came from."""

from __future__ import annotations

import fnmatch
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ipyrouter.config.build import build
from ipyrouter.config.model import Config, leaves
from ipyrouter.config.schema import OTHERS, PROJECT, SCHEMA, validate
from ipyrouter.errors import ConfigError
from ipyrouter.text import redact

PROJECT_FILE = "ipyrouter.toml"
_DEFAULTS = Path(__file__).with_name("defaults.toml")


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
        validate(data, SCHEMA, str(path))
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
        rule, reason = next(entry for pattern, entry in PROJECT.items() if fnmatch.fnmatchcase(dotted, pattern))
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
        validate(nested, OTHERS, f"environment variable {redact.name(variable)}")
        data = _merge(data, nested)
    return Layer("environment", data) if data else None


def _merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        merged[key] = _merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged


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
        validate(data, SCHEMA, str(user_file))
        layers.append(Layer(str(user_file), data))
    user = data or {}
    if (project := _project_layer(folder or Path.cwd())) is not None and project.source != str(user_file):
        own = _merge(_merge(defaults, presets[user.get("preset", defaults["preset"])]), user)
        project, ignored = _project(project, user, own, user_file)
        layers.append(project)
    if (environment := _environment_layer(environ)) is not None:
        layers.append(environment)
    if arguments:
        validate(dict(arguments), OTHERS, "arguments")
        layers.append(Layer("arguments", dict(arguments)))

    preset = next((layer.data["preset"] for layer in reversed(layers) if "preset" in layer.data), defaults["preset"])
    merged = _merge(defaults, presets[preset])
    origins = dict.fromkeys(leaves(merged), "default")
    for layer in layers:
        merged = _merge(merged, layer.data)
        origins.update(dict.fromkeys(leaves(layer.data), layer.source))
    return build(merged, origins, ignored)


def override(config: Config, settings: Mapping[str, Any], source: str) -> Config:
    """Return the config with settings, nested like the TOML, that win over all of its own. Raises ConfigError."""
    validate(dict(settings), OTHERS, source)
    return build(
        _merge(dict(config.data), dict(settings)),
        {**config.origins, **dict.fromkeys(leaves(dict(settings)), source)},
        config.project_warnings,
    )
