"""`%config IPyRouter.max_usd = 1`: the settings people change in a notebook, as traitlets.

They are the config's settings by other names and win over all files. A name that does not exist is an error, where
traitlets alone would pass it over.
"""

from __future__ import annotations

import reprlib
from typing import TYPE_CHECKING, Any

from traitlets import Bool, Enum, Float, TraitError
from traitlets.config import Configurable

from ipyrouter.config.model import Config
from ipyrouter.config.rules import Flag, Number, OneOf, Setting, settings
from ipyrouter.errors import ConfigError, IPyRouterError, did_you_mean
from ipyrouter.text import redact

if TYPE_CHECKING:
    from traitlets.config.loader import Config as Loaded

_KEYS = {setting.trait: key for key, setting in settings(Config) if setting.trait}
"""The dotted key of each setting that `%config` knows, by its name there."""


class _OneLine(BaseException):
    """An error that is shown without a traceback."""

    def _render_traceback_(self) -> list[str]:
        return [f"ConfigError: {self}"]


class Refused(_OneLine):
    """A setting that `%config` refuses. No Exception, because `%config` only logs those and the cell succeeds."""


class UnknownSettingError(_OneLine, AttributeError):
    """A setting that does not exist."""


def _trait(setting: Setting) -> Any:
    """Return the trait that takes what a setting takes, or None."""
    check = setting.check
    if isinstance(check, Number):
        trait: Any = Float(None, allow_none=True, min=check.least, max=check.most, help=setting.help)
    elif isinstance(check, OneOf):
        trait = Enum(check.names, None, allow_none=True, help=setting.help)
    elif isinstance(check, Flag):
        trait = Bool(None, allow_none=True, help=setting.help)
    else:
        raise TypeError(f"No trait takes what {setting.trait} takes.")
    return trait.tag(config=True)


class _Settings(Configurable):
    """Settings of the notebook's router, for this kernel; None leaves a setting to the config files."""

    def __getattr__(self, name: str) -> Any:
        raise UnknownSettingError(f"IPyRouter has no setting {redact.name(name)!r}. {did_you_mean(name, _KEYS)}")

    def update_config(self, config: Loaded) -> None:
        """Take over what `%config` says, at once or not at all. Raises Refused with the reason."""
        before = {name: getattr(self, name) for name in _KEYS}
        try:
            super().update_config(config)
            self.apply()
        except (IPyRouterError, TraitError, OverflowError) as error:
            with self.hold_trait_notifications():
                for name, value in before.items():
                    setattr(self, name, value)
            raise Refused(redact.message(self._refusal(config) or str(error))) from None

    def _refusal(self, config: Loaded) -> str | None:
        """Return which value its setting does not take, and what it takes; None where each is good by itself."""
        for name, value in config.get(type(self).__name__, {}).items():
            trait = self.traits().get(name)
            if trait is None:  # an error of its own
                continue
            try:
                trait._validate(self, value)
            except (TraitError, OverflowError) as error:
                reason = f"{error}; " if isinstance(error, OverflowError) else ""
                return f"IPyRouter.{name} = {reprlib.repr(value)}: {reason}expected {_takes(trait)}, or None."
        return None

    def apply(self) -> None:
        """Give the default router what is set here. Raises ConfigError where it does not go together."""
        import ipyrouter

        ipyrouter.default_router().configure(self.chosen(), "%config IPyRouter")

    def chosen(self) -> dict[str, dict[str, Any]]:
        """Return what is set here, nested as in the TOML."""
        nested: dict[str, dict[str, Any]] = {}
        for name, key in _KEYS.items():
            if (value := getattr(self, name)) is not None:
                table, _, leaf = key.partition(".")
                nested.setdefault(table, {})[leaf] = value
        return nested

    def _load_config(self, cfg: Loaded, *args: Any, **kwargs: Any) -> None:
        for name in cfg.get(type(self).__name__, {}):
            if name not in _KEYS:
                raise ConfigError(f"IPyRouter has no setting {redact.name(name)!r}.", did_you_mean(name, _KEYS))
        super()._load_config(cfg, *args, **kwargs)


def traits(cls: type[Any]) -> dict[str, Any]:
    """Return a trait for each setting of a class that has a name in `%config`."""
    return {setting.trait: _trait(setting) for _, setting in settings(cls) if setting.trait}


IPyRouter = type("IPyRouter", (_Settings,), {"__module__": __name__, "__doc__": _Settings.__doc__, **traits(Config)})


def _takes(trait: Any) -> str:
    """Return the values that a setting takes, in words."""
    if isinstance(trait, Enum):
        return f"any of {list(trait.values or ())}"
    if isinstance(trait, Bool):
        return "True or False"
    if trait.max is None:
        return f"a float, in dollars, which should not be less than {trait.min:g}"
    return f"a float from {trait.min:g} to {trait.max:g}"
