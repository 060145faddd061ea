"""Route notebook prompts to the cheapest model that can answer them, with exact, lasting costs."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, TypeVar, overload

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Mapping
    from decimal import Decimal
    from typing import Literal, Unpack

    import pandas as pd
    from IPython.core.interactiveshell import InteractiveShell

    from ipyrouter.batch.engines import Mapper
    from ipyrouter.batch.estimate import Estimate
    from ipyrouter.batch.frame import MapFrame
    from ipyrouter.batch.map import Delivery
    from ipyrouter.batch.progress import Show
    from ipyrouter.errors import IPyRouterError
    from ipyrouter.reporting.report import Report
    from ipyrouter.router import Router
    from ipyrouter.types import Answer, Classification, MapOptions, Message, Prompt, RouteOptions, Status, TierName

__version__ = "0.1.0"  # the one place: the package's metadata are built from it

__all__ = [
    "Answer",
    "Classification",
    "IPyRouterError",
    "Message",
    "Router",
    "__version__",
    "aroute",
    "classify",
    "cost_log",
    "daily_report",
    "default_router",
    "load_ipython_extension",
    "map",
    "mapper",
    "route",
    "unload_ipython_extension",
    "use_router",
]

_HOMES = {
    "Answer": "ipyrouter.types",
    "Classification": "ipyrouter.types",
    "IPyRouterError": "ipyrouter.errors",
    "Message": "ipyrouter.types",
    "Router": "ipyrouter.router",
}
_T = TypeVar("_T")
_default: list[Router] = []  # at most one: the router of the functions below and of the magics


if not TYPE_CHECKING:  # a type checker that sees this takes any name for a public one

    def __getattr__(name: str) -> Any:
        """Import the public classes when they are first asked for (PEP 562): `%load_ext` stays fast."""
        if name in _HOMES:
            import importlib

            return getattr(importlib.import_module(_HOMES[name]), name)
        raise AttributeError(f"module 'ipyrouter' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__


def default_router() -> Router:
    """Return the router that the functions of this module and the magics share.

    Returns:
        The router; it is built from the config at the first call.

    Raises:
        ConfigError: A setting is not valid.
    """
    if not _default:
        from ipyrouter.router import Router

        _default.append(Router())
    return _default[0]


def use_router(router: Router | None) -> None:
    """Make another router the default one, for the functions of this module and for the magics.

    Args:
        router: The router; None builds one from the config when it is next needed. The one before it is closed.
    """
    for old in _default:
        old.close()
    _default[:] = [] if router is None else [router]


def classify(prompt: str) -> Classification:
    """Return the tier that a prompt needs, with reasons. Nothing is sent anywhere.

    Args:
        prompt: The prompt, as it would be sent.

    Returns:
        The tier, a difficulty and a confidence from 0 to 1, and the reasons.

    Raises:
        UsageError: The prompt is not a string.
    """
    return default_router().classify(prompt)


@overload
def route(prompt: str | Prompt, *, schema: None = None, **options: Unpack[RouteOptions]) -> Answer[None]: ...


@overload
def route(prompt: str | Prompt, *, schema: type[_T], **options: Unpack[RouteOptions]) -> Answer[_T]: ...


@overload
def route(prompt: str | Prompt, *, schema: Mapping[str, Any], **options: Unpack[RouteOptions]) -> Answer[Any]: ...


def route(
    prompt: str | Prompt, *, schema: type[Any] | Mapping[str, Any] | None = None, **options: Unpack[RouteOptions]
) -> Answer[Any]:
    """Answer a prompt with the cheapest tier that can, by the default router.

    Args:
        prompt: What to ask; it is sent as it is.
        schema: What the answer's ``data`` must be: a pydantic model, a dataclass, a TypedDict, a dict such as
            ``{"label": ["a", "b"], "score": float}``, or a JSON Schema.
        **options: As in :meth:`Router.route`: ``system``, ``history``, ``tier`` ("fast", "mid" or "power"), ``model``
            ("provider/model"), ``max_output_tokens``, ``temperature``, ``cache`` ("use", "refresh" or "off"),
            ``escalate``, ``allow_large``, ``effort`` ("none", "low", "medium", "high", "xhigh" or "max"), ``json``,
            ``show_thinking``, ``conversation``, ``previous_tier``, ``tags``, ``session`` and
            ``on_delta``.

    Returns:
        The answer, after it and its costs were recorded; its ``data`` is an object of the schema.

    Raises:
        UsageError: An option's value is not valid.
        NoModelError: No model of the tier can be called.
        BudgetError: The request could cost more than a budget leaves.
        RouteError: Every candidate failed; its ``fault`` is an AuthError, a RateLimitError, …
        SchemaError: No answer is what the schema asks for.
        Interrupted: Ctrl-C; it holds the partial answer.
    """
    return default_router().route(prompt, schema=schema, **options)


@overload
async def aroute(prompt: str | Prompt, *, schema: None = None, **options: Unpack[RouteOptions]) -> Answer[None]: ...


@overload
async def aroute(prompt: str | Prompt, *, schema: type[_T], **options: Unpack[RouteOptions]) -> Answer[_T]: ...


@overload
async def aroute(
    prompt: str | Prompt, *, schema: Mapping[str, Any], **options: Unpack[RouteOptions]
) -> Answer[Any]: ...


async def aroute(
    prompt: str | Prompt, *, schema: type[Any] | Mapping[str, Any] | None = None, **options: Unpack[RouteOptions]
) -> Answer[Any]:
    """Answer a prompt as :func:`route` does, without blocking the event loop.

    In a notebook: ``answer = await ipyrouter.aroute("…")``; many at once with :func:`asyncio.gather`. Up to 64 requests
    are under way together, under the same deadlines, budgets and log. Cancelling the task ends the call at once, and
    what it had spent is recorded.

    Args:
        prompt: What to ask.
        schema: As in :func:`route`.
        **options: As in :func:`route`; ``on_delta`` is called on the event loop.

    Returns:
        The answer, after it and its costs were recorded.

    Raises:
        UsageError: An option's value is not valid.
        NoModelError: No model of the tier can be called.
        BudgetError: The request could cost more than a budget leaves.
        RouteError: Every candidate failed.
        SchemaError: No answer is what the schema asks for.
    """
    return await default_router().aroute(prompt, schema=schema, **options)


@overload
def map(  # noqa: A001  what it is
    data: object,
    prompt: str,
    *,
    dry_run: Literal[True],
    schema: type[Any] | Mapping[str, Any] | None = None,
    variables: Mapping[str, Any] | None = None,
    tier: TierName | Literal["each", "pilot"] | None = None,
    budget: Decimal | float | str | None = None,
    yes: bool = False,
    concurrency: int | None = None,
    pilot: int | None = None,
    agreement: float = 0.95,
    delivery: Delivery = "live",
    wait: bool = True,
    progress: Show | None = None,
    **options: Unpack[MapOptions],
) -> Estimate: ...


@overload
def map(  # noqa: A001
    data: pd.DataFrame | pd.Series[Any] | list[Any] | tuple[Any, ...],
    prompt: str,
    *,
    dry_run: Literal[False] = False,
    schema: type[Any] | Mapping[str, Any] | None = None,
    variables: Mapping[str, Any] | None = None,
    tier: TierName | Literal["each", "pilot"] | None = None,
    budget: Decimal | float | str | None = None,
    yes: bool = False,
    concurrency: int | None = None,
    pilot: int | None = None,
    agreement: float = 0.95,
    delivery: Delivery = "live",
    wait: bool = True,
    progress: Show | None = None,
    **options: Unpack[MapOptions],
) -> MapFrame: ...


@overload
def map(  # noqa: A001
    data: object,
    prompt: str,
    *,
    dry_run: Literal[False] = False,
    schema: type[Any] | Mapping[str, Any] | None = None,
    variables: Mapping[str, Any] | None = None,
    tier: TierName | Literal["each", "pilot"] | None = None,
    budget: Decimal | float | str | None = None,
    yes: bool = False,
    concurrency: int | None = None,
    pilot: int | None = None,
    agreement: float = 0.95,
    delivery: Delivery = "live",
    wait: bool = True,
    progress: Show | None = None,
    **options: Unpack[MapOptions],
) -> Any: ...


def map(  # noqa: A001
    data: object,
    prompt: str,
    *,
    dry_run: bool = False,
    schema: type[Any] | Mapping[str, Any] | None = None,
    variables: Mapping[str, Any] | None = None,
    tier: TierName | Literal["each", "pilot"] | None = None,
    budget: Decimal | float | str | None = None,
    yes: bool = False,
    concurrency: int | None = None,
    pilot: int | None = None,
    agreement: float = 0.95,
    delivery: Delivery = "live",
    wait: bool = True,
    progress: Show | None = None,
    **options: Unpack[MapOptions],
) -> Any:
    """Ask the same prompt of every row of a column or table, many at once.

    ``ipyrouter.map(reviews, "Is this review positive? {{text}}", schema={"positive": bool})``

    Equal rows are one call. Answers are in cache and log before the next is counted: the same call again, after an
    interrupt, a crash or with more rows, asks only what is missing or failed. Ctrl-C returns what is there.

    Args:
        data: A list or another iterable (of values, or of dicts), a Series or a DataFrame of pandas or polars, or a
            table of pyarrow; or a DataFrame of Dask or Spark or a Dataset of Ray, which ask when they are computed.
        prompt: The prompt. ``{{name}}`` is a column, or else one of ``variables``; for data of one column, any name.
        dry_run: Send nothing; return what the run would do and cost.
        schema: As in :func:`route`; its fields are the columns of the result. Without one, the column is ``answer``.
        variables: Values for names in the prompt that are the same for all rows.
        tier: "each" (each row by the classifier; the default), "fast", "mid", "power", or "pilot": the cheapest tier
            that agrees with the strongest on some of the rows; the figures are printed.
        budget: Dollars that this run may spend, beside the budgets of the config.
        yes: Confirm a run that is likely to cost more than ``batch.confirm_usd``.
        concurrency: The most calls in flight to one model; how many there really are finds itself.
        pilot: Ask only so many rows, evenly spread, and print what all will likely cost; for the tier "pilot", the rows
            that are compared (default: 40).
        agreement: The share of the pilot's rows in which a cheaper tier must agree with the strongest.
        delivery: "live", "flex" (calls that take longer, for half the price, where the model has that), or "batch":
            OpenAI's and Anthropic's batch APIs, which answer within a day for half the price. The same call again, in
            any process, or ``router.attach(run)`` goes on with what was submitted.
        wait: False returns at once what there is of a batch; Ctrl-C ends the wait, too.
        progress: Is called about once a second with how far the run is; default: a line below the cell, or of the
            terminal.
        **options: As in :func:`route`: ``system``, ``model``, ``max_output_tokens``, ``temperature``, ``cache``,
            ``escalate``, ``allow_large``, ``effort`` and ``json``.

    Returns:
        A frame with the order and the index of the data, in their library (pandas for lists and iterables), a
        :class:`ipyrouter.batch.frame.MapFrame` for pandas. Beside the answer's columns it has ``_status`` ("ok",
        "weak", "refused", "partial", "error", "budget", "stopped", "missing", "not sent" or "in batch"), ``_error``,
        ``_tier``, ``_model``, ``_cost`` (dollars; 0 for rows that equal an earlier one) and ``_cached``. What has no
        answer is missing. For a dry run, an :class:`ipyrouter.batch.estimate.Estimate`. For Dask, Ray and Spark, a
        frame of theirs; in the last two the answers come with the data's own columns.

    Raises:
        UsageError: Data, prompt or an option cannot be used, or the run needs ``yes=True``.
        NoModelError: No model can be called.
        StoreError: The team's store is away as the run begins.
    """
    if progress is None and "IPython" in sys.modules:
        from ipyrouter.notebook import progress as displays

        progress = displays.choose()
    return default_router().map(
        data, prompt, dry_run=dry_run, schema=schema, variables=variables, tier=tier, budget=budget, yes=yes,
        concurrency=concurrency, pilot=pilot, agreement=agreement, delivery=delivery, wait=wait,
        progress=progress, **options,
    )  # fmt: skip


def mapper(
    prompt: str,
    *,
    schema: type[Any] | Mapping[str, Any] | None = None,
    variables: Mapping[str, Any] | None = None,
    tier: TierName | Literal["each"] | None = None,
    budget: Decimal | float | str | None = None,
    concurrency: int | None = None,
    workers: int = 1,
    delivery: Literal["live", "flex"] = "live",
    **options: Unpack[MapOptions],
) -> Mapper:
    """Return a function from a table to a table that asks a prompt of each row; it can be pickled.

    ``frame.map_partitions(ipyrouter.mapper("Is this review positive? {{text}}"))``

    Another process builds its own router from the config that goes along, and reads keys from its own environment.

    Args:
        prompt: As in :func:`map`.
        schema: As in :func:`map`.
        variables: As in :func:`map`; those that the prompt names go along as strings.
        tier: "each" (each row by the classifier; the default), "fast", "mid" or "power".
        budget: Dollars that all calls of the function may spend together, wherever they share a store: on one machine
            that of their home, else the team's.
        concurrency: The most calls in flight to one model, on all workers together.
        workers: How many of these functions are at work together: limits a minute and concurrency are divided by it.
        delivery: "live", or "flex" for calls that may wait, at half the price.
        **options: As in :func:`map`.

    Returns:
        The function. It takes what :func:`map` takes, and returns a frame of the same library with the same columns.

    Raises:
        UsageError: An option cannot be used.
    """
    return default_router().mapper(
        prompt, schema=schema, variables=variables, tier=tier, budget=budget, concurrency=concurrency, workers=workers,
        delivery=delivery, **options,
    )  # fmt: skip


def cost_log(
    *,
    since: dt.datetime | dt.date | str | None = None,
    until: dt.datetime | dt.date | str | None = None,
    tier: TierName | None = None,
    model: str | None = None,
    session: str | None = None,
    notebook: str | None = None,
    status: Status | None = None,
    user: str | None = None,
    team: str | None = None,
    tag: str | None = None,
    content: bool = True,
) -> pd.DataFrame:
    """Return the cost log as a DataFrame, one row per attempt, oldest first.

    Args:
        since: The first moment of the rows; dates and times without a zone are UTC.
        until: The moment before which the rows end.
        tier: Only attempts of this tier.
        model: Only attempts of this model, without its provider.
        session: Only requests of this session.
        notebook: Only requests of this notebook.
        status: Only attempts that ended so, for example "error".
        user: Only requests of this login at the team's store.
        team: Only requests of this team's.
        tag: Only requests with this tag.
        content: False leaves prompts and answers out, which halves time and memory.

    Returns:
        One row per attempt, with the columns that the reference lists; ``cost`` is in dollars.

    Raises:
        UsageError: A date is not valid.
        StoreError: The database was written by a newer version.
    """
    return default_router().log(
        since=since, until=until, tier=tier, model=model,
        session=session, notebook=notebook, status=status, user=user, team=team, tag=tag, content=content,
    )  # fmt: skip


def daily_report(day: dt.date | str | None = None) -> Report:
    """Print a day's totals: cost, calls, cache hits, and the cost of each tier.

    Args:
        day: The day, in UTC; default: today.

    Returns:
        The whole report.

    Raises:
        UsageError: The day is not a date.
    """
    report = default_router().report(day)
    print(report.brief)
    return report


def load_ipython_extension(ipython: InteractiveShell) -> None:
    """Load the extension: `%load_ext ipyrouter`.

    Args:
        ipython: The shell that gets the magics.
    """
    from ipyrouter.notebook import magics

    magics.load(ipython)


def unload_ipython_extension(ipython: InteractiveShell) -> None:
    """Unload the extension: `%unload_ext ipyrouter`.

    Args:
        ipython: The shell that loses the magics.
    """
    from ipyrouter.notebook import magics

    magics.unload(ipython)
