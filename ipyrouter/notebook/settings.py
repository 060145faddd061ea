"""`%config IPyRouter.max_usd = 1`: the settings people change in a notebook, as traitlets.

They are the config's settings by other names and win over all files. A name that does not exist is an error, where
traitlets alone would pass it over.
"""

from __future__ import annotations

import reprlib
from typing import TYPE_CHECKING, Any

from traitlets import Bool, Enum, Float, TraitError
from traitlets.config import Configurable

from ipyrouter.errors import ConfigError, IPyRouterError, did_you_mean
from ipyrouter.text import redact

if TYPE_CHECKING:
    from traitlets.config.loader import Config as Loaded

_KEYS = {
    "max_usd": "budget.session",
    "max_usd_call": "budget.call",
    "max_usd_day": "budget.day",
    "max_usd_month": "budget.month",
    "over_budget": "budget.action",
    "mode": "routing.mode",
    "fast_below": "routing.fast_below",
    "power_above": "routing.power_above",
    "escalate": "validation.escalate",
    "cache": "cache.enabled",
    "log_content": "log.content",
    "format": "display.format",
    "stream": "display.stream",
}


class Refused(BaseException):
    """A setting that `%config` refuses. No Exception, because `%config` only logs those and the cell succeeds."""

    def _render_traceback_(self) -> list[str]:
        return [f"ConfigError: {self}"]


class UnknownSettingError(AttributeError):
    """A setting that does not exist; shown in one line."""

    def _render_traceback_(self) -> list[str]:
        return [f"ConfigError: {self}"]


class IPyRouter(Configurable):
    """Settings of the notebook's router, for this kernel; None leaves a setting to the config files."""

    max_usd = Float(None, allow_none=True, min=0, help="dollars that this session may spend").tag(config=True)
    max_usd_call = Float(None, allow_none=True, min=0, help="dollars that one call may cost").tag(config=True)
    max_usd_day = Float(None, allow_none=True, min=0, help="dollars a day (UTC), all notebooks").tag(config=True)
    max_usd_month = Float(None, allow_none=True, min=0, help="dollars a month (UTC), all notebooks").tag(config=True)
    over_budget = Enum(
        ("downgrade", "block"), None, allow_none=True, help="over a budget: a cheaper tier, or nothing"
    ).tag(config=True)
    mode = Enum(("learned", "rules", "hybrid"), None, allow_none=True, help="how prompts are classified").tag(
        config=True
    )
    fast_below = Float(None, allow_none=True, min=0, max=1, help="difficulties below this are fast").tag(config=True)
    power_above = Float(None, allow_none=True, min=0, max=1, help="difficulties above this are power").tag(config=True)
    escalate = Bool(None, allow_none=True, help="send a weak answer's prompt a tier up").tag(config=True)
    cache = Bool(None, allow_none=True, help="look into the cache and keep answers there").tag(config=True)
    log_content = Bool(None, allow_none=True, help="keep prompts and answers in the log, not only costs").tag(
        config=True
    )
    format = Enum(("markdown", "text"), None, allow_none=True, help="how answers are shown").tag(config=True)
    stream = Bool(None, allow_none=True, help="show answers while they arrive").tag(config=True)

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


def _takes(trait: Any) -> str:
    """Return the values that a setting takes, in words."""
    if isinstance(trait, Enum):
        return f"any of {list(trait.values or ())}"
    if isinstance(trait, Bool):
        return "True or False"
    return "a float from 0 to 1" if trait.max == 1 else "a float, in dollars, which should not be less than 0"
