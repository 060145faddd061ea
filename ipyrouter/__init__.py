"""Route notebook prompts to the cheapest model that can answer them, with exact, lasting costs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import datetime as dt

    import pandas as pd
    from IPython.core.interactiveshell import InteractiveShell

    from ipyrouter.errors import IPyRouterError
    from ipyrouter.report import Report
    from ipyrouter.router import Router
    from ipyrouter.types import Answer, Classification, Message

__all__ = [
    "Answer",
    "Classification",
    "IPyRouterError",
    "Message",
    "Router",
    "classify",
    "cost_log",
    "daily_report",
    "default_router",
    "load_ipython_extension",
    "route",
    "unload_ipython_extension",
]

_HOMES = {
    "Answer": "ipyrouter.types",
    "Classification": "ipyrouter.types",
    "IPyRouterError": "ipyrouter.errors",
    "Message": "ipyrouter.types",
    "Router": "ipyrouter.router",
}
_default: list[Router] = []  # at most one: the router of the functions below and of the magics


def __getattr__(name: str) -> Any:
    """Import the public classes when they are first asked for (PEP 562): `%load_ext` stays fast."""
    if name in _HOMES:
        import importlib

        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'ipyrouter' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__


def default_router() -> Router:
    """Return the router that the functions of this module and the magics share; it is built at the first call."""
    if not _default:
        from ipyrouter.router import Router

        _default.append(Router())
    return _default[0]


def use_router(router: Router | None) -> None:
    """Make another router the default one; None: build it anew from the config when next needed."""
    for old in _default:
        old.close()
    _default[:] = [] if router is None else [router]


def classify(prompt: str) -> Classification:
    """Return the tier that a prompt needs, with reasons. Nothing is sent anywhere."""
    return default_router().classify(prompt)


def route(prompt: str, **options: Any) -> Answer:
    """Answer a prompt with the cheapest tier that can; options as in :meth:`Router.route`."""
    return default_router().route(prompt, **options)


def cost_log(**conditions: Any) -> pd.DataFrame:
    """Return the cost log as a DataFrame, one row an attempt; conditions as in :meth:`Router.log`."""
    return default_router().log(**conditions)


def daily_report(day: dt.date | str | None = None) -> Report:
    """Print the article's lines on a day (default: today, UTC), total, calls, cache hits, cost a tier; return all."""
    report = default_router().report(day)
    print(report.brief)
    return report


def load_ipython_extension(ipython: InteractiveShell) -> None:
    """`%load_ext ipyrouter`."""
    from ipyrouter.notebook import magics

    magics.load(ipython)


def unload_ipython_extension(ipython: InteractiveShell) -> None:
    """`%unload_ext ipyrouter`: take everything away again."""
    from ipyrouter.notebook import magics

    magics.unload(ipython)
