"""The layers: files, environment and arguments, validated and merged; each value remembers where it came from."""

from __future__ import annotations

import copy
import functools
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ipyrouter.config import files
from ipyrouter.config.build import build
from ipyrouter.config.model import Config, leaves
from ipyrouter.config.rules import Setting
from ipyrouter.config.schema import SCHEMA, Schema, rule_at, validate
from ipyrouter.errors import ConfigError
from ipyrouter.text import redact


@dataclass(frozen=True, slots=True)
class Layer:
    """One source of settings, validated; later layers win."""

    source: str
    data: dict[str, Any]


@dataclass(slots=True)
class _Notes:
    """What the layers have to say beside their settings."""

    project_warnings: list[str] = field(default_factory=list)
    ignored_files: list[str] = field(default_factory=list)


@functools.cache
def _default_data() -> dict[str, Any]:
    """Return defaults.toml."""
    return files.parse(Path(__file__).with_name("defaults.toml").read_text("utf-8"), "defaults.toml")


def default(key: str) -> Any:
    """Return the default of a setting that no preset decides, by its dotted key."""
    return functools.reduce(lambda table, name: table[name], key.split("."), _default_data())


def load(
    arguments: Mapping[str, Any] | None = None,
    *,
    home: Path | None = None,
    folder: Path | None = None,
    environ: Mapping[str, str] | None = None,
) -> Config:
    """Read every layer and return the validated Config.

    Layers, later ones win: the preset, the site's config.toml, the user's config.toml, the project's `ipyrouter.toml`,
    `IPYROUTER_*` variables, the arguments.

    Args:
        arguments: Settings, nested like the TOML.
        home: The folder of the user's config.toml; default: the one that platformdirs names.
        folder: Where the search for a project's file begins; default: the working folder.
        environ: The environment; default: this process's.

    Returns:
        The Config, with the origin of each value.

    Raises:
        ConfigError: In one line, with file, key and the nearest valid name.
    """
    environ = os.environ if environ is None else environ
    defaults = copy.deepcopy(_default_data())
    presets = defaults.pop("presets")
    notes = _Notes()
    user_file = files.config_file(home)
    layers = [layer for layer in (*_site_layers(notes, environ), _user_layer(user_file)) if layer]
    own = _merge_all([defaults, *(layer.data for layer in layers)])
    own = _merge_all([presets[own["preset"]], own])
    if (project := _project_layer(folder, own, user_file, notes)) is not None:
        layers.append(_allowed_part(project, own, user_file, notes))
    if (environment := _environment_layer(environ)) is not None:
        layers.append(environment)
    if arguments:
        validate(dict(arguments), "arguments", from_file=False)
        layers.append(Layer("arguments", dict(arguments)))

    preset = next((layer.data["preset"] for layer in reversed(layers) if "preset" in layer.data), defaults["preset"])
    merged = _merge_all([defaults, presets[preset]])
    origins = dict.fromkeys(leaves(merged), "default")
    for layer in layers:
        merged = _merge(merged, layer.data)
        origins.update(dict.fromkeys(leaves(layer.data), layer.source))
    return build(merged, origins, notes.project_warnings, notes.ignored_files, user_file.parent)


def override(config: Config, settings: Mapping[str, Any], source: str) -> Config:
    """Return the config with settings that win over all of its own.

    Args:
        config: What to begin with.
        settings: Nested like the TOML.
        source: What gives them, for origins and errors.

    Raises:
        ConfigError: A setting is not valid.
    """
    validate(dict(settings), source, from_file=False)
    return build(
        _merge(dict(config.data), dict(settings)),
        {**config.origins, **dict.fromkeys(leaves(dict(settings)), source)},
        config.project_warnings,
        config.ignored_files,
        config.folder,
    )


# --- one layer each ---


def _site_layers(notes: _Notes, environ: Mapping[str, str]) -> Iterator[Layer | None]:
    """Yield the layers of the site's files, the least important first."""
    for path in reversed(files.site_files(environ)):
        try:
            yield _file_layer(path, files.read(path, "root or user"))
        except files.Unusable as reason:
            notes.ignored_files.append(f"{path} is ignored: {reason}.")


def _user_layer(path: Path) -> Layer | None:
    try:
        return _file_layer(path, files.read(path))
    except files.Unusable as reason:  # limits may stand in it, so that nothing goes out without it
        raise ConfigError(f"{path}: cannot be used: {reason}.", "Fix or remove the file.") from None


def _project_layer(folder: Path | None, own: Mapping[str, Any], user_file: Path, notes: _Notes) -> Layer | None:
    """Return the nearest project's file that counts, with a note on each that does not."""
    places, above = files.project_places(folder)
    for path in places:
        try:
            layer = _file_layer(path, files.read(path, "anyone" if _is_trusted(path, own) else "user"))
        except files.OtherOwner as reason:
            notes.ignored_files.append(f"{path} is ignored: {reason}. {_how_to_trust(path, user_file)}.")
            continue
        except files.Unusable as reason:
            notes.ignored_files.append(f"{path} is ignored: {reason}.")
            continue
        if layer:
            return layer
    why = "a project's file counts up to the repository's root or your home folder"
    notes.ignored_files += [f"{path} is ignored: {why}." for path in above if os.path.lexists(path)]
    return None


def _file_layer(path: Path, text: str | None) -> Layer | None:
    if text is None:
        return None
    data = files.parse(text, str(path))
    validate(data, str(path), from_file=True)
    return Layer(str(path), data)


def _environment_layer(environ: Mapping[str, str]) -> Layer | None:
    data: dict[str, Any] = {}
    for variable, value in sorted(environ.items()):
        if not variable.startswith("IPYROUTER_") or variable == "IPYROUTER_HOME":
            continue
        nested = _toml_or_string(value)
        for key in reversed(variable.removeprefix("IPYROUTER_").lower().split("__")):
            nested = {key: nested}
        validate(nested, f"environment variable {redact.name(variable)}", from_file=False)
        data = _merge(data, nested)
    return Layer("environment", data) if data else None


def _toml_or_string(value: str) -> Any:
    """Return a variable's value as TOML, or as a plain string where it is none."""
    try:
        return files.parse(f"value = {value}", "")["value"]
    except ConfigError:
        return value


# --- what a project's file may set ---


def _allowed_part(project: Layer, own: dict[str, Any], user_file: Path, notes: _Notes) -> Layer:
    """Return the layer as far as it may hold beside the user's own settings, with a note on the rest."""
    path = Path(project.source)
    if _is_trusted(path, own):
        allowed, refused = _without_own(project.data, SCHEMA)
        if refused:
            notes.project_warnings.append(f"{path}: only your own file may set these. Ignored: {'; '.join(refused)}.")
        return Layer(project.source, allowed)
    allowed, refused = _tighten(project.data, own, SCHEMA)
    if refused:
        notes.project_warnings.append(
            f"{path}: a project's file may only tighten your settings. Ignored: {'; '.join(refused)}. "
            f"{_how_to_trust(path, user_file)}."
        )
    return Layer(project.source, allowed)


def _without_own(data: dict[str, Any], schema: Schema, path: str = "") -> tuple[dict[str, Any], list[str]]:
    """Return a trusted project's settings, and the names of those that are the user's own all the same.

    [trust] goes without a word.
    """
    allowed: dict[str, Any] = {}
    refused: list[str] = []
    for key, value in data.items():
        dotted = f"{path}.{key}" if path else key
        rule = rule_at(schema, key)
        if isinstance(rule, dict):
            inner, more = _without_own(value, rule, dotted)
            allowed |= {key: inner} if inner else {}
            refused += more
        elif rule.project != "own":
            allowed[key] = value
        elif path != "trust":
            refused.append(redact.name(dotted))
    return allowed, refused


def _how_to_trust(project: Path, user_file: Path) -> str:
    return f'If you trust it, write projects = ["{project.parent.resolve()}"] under [trust] in {user_file}'


def _is_trusted(project: Path, own: Mapping[str, Any]) -> bool:
    """Tell whether the user's own settings trust the folder of a project, or one around it."""
    folder = project.parent.resolve()
    trusted = own.get("trust", {}).get("projects", ())
    return any(folder.is_relative_to(Path(name).expanduser().resolve()) for name in trusted)


def _tighten(
    data: dict[str, Any], own: Mapping[str, Any], schema: Schema, path: str = ""
) -> tuple[dict[str, Any], list[str]]:
    """Return what of a project's settings may hold beside the user's own, and a few words on each that may not."""
    allowed: dict[str, Any] = {}
    refused: list[str] = []
    for key, value in data.items():
        dotted = f"{path}.{key}" if path else key
        mine, rule = own.get(key), rule_at(schema, key)
        if isinstance(rule, dict):
            inner, more = _tighten(value, mine if isinstance(mine, dict) else {}, rule, dotted)
            allowed |= {key: inner} if inner else {}
            refused += more
        elif _may_set(rule, value, mine):
            allowed[key] = value
        else:
            refused.append(f"{redact.name(dotted)} ({rule.why})")
    return allowed, refused


def _may_set(setting: Setting, value: Any, mine: Any) -> bool:
    """Tell whether a project's file may set a value where the user's own is ``mine``."""
    if setting.project == "lower":
        return mine is None or value <= mine
    return setting.project == "free" or (setting.project == "block" and value == "block")


# --- nested dictionaries ---


def _merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        merged[key] = _merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged


def _merge_all(tables: list[dict[str, Any]]) -> dict[str, Any]:
    """Return tables in one; later ones win."""
    return functools.reduce(_merge, tables)
