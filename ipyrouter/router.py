"""The public class: what one asks, looks back on, teaches and sets. The way of a prompt is in routing/."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import datetime as dt
import functools
import inspect
import os
import uuid
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Never, TypeVar, Unpack, overload

from ipyrouter import classifier
from ipyrouter import config as configuration
from ipyrouter.classifier.lessons import Lessons
from ipyrouter.clock import Clock, SystemClock
from ipyrouter.config import Config
from ipyrouter.errors import UsageError
from ipyrouter.pricing.prices import Pricing
from ipyrouter.providers import Clients
from ipyrouter.routing.breaker import Breaker
from ipyrouter.routing.budget import Budget
from ipyrouter.routing.chain import Chain
from ipyrouter.routing.pipeline import Pipeline
from ipyrouter.routing.planner import Planner
from ipyrouter.routing.recorder import Listener, OnDelta, Recorder, RequestRun
from ipyrouter.routing.requests import check_names, check_string, make_request
from ipyrouter.routing.single_flight import SingleFlight
from ipyrouter.routing.spans import Spans
from ipyrouter.routing.warmth import Warmth
from ipyrouter.store.base import Feedback, Store
from ipyrouter.store.sqlite import SQLiteStore
from ipyrouter.text import asides
from ipyrouter.types import (
    Answer,
    Candidate,
    Classification,
    Delta,
    Effort,
    LogConditions,
    MapOptions,
    Message,
    Preview,
    Prompt,
    RouteOptions,
    Session,
)

if TYPE_CHECKING:
    import pandas as pd

    from ipyrouter.batch.engines import Mapper
    from ipyrouter.batch.frame import MapFrame
    from ipyrouter.batch.map import Delivery, Parts
    from ipyrouter.batch.progress import Show
    from ipyrouter.classifier.learn import Lesson
    from ipyrouter.reporting.report import Report

_T = TypeVar("_T")
_MOST_AT_ONCE = 64  # requests of aroute that are under way together; more of them wait


class Router:
    """Routes prompts to the cheapest tier that can answer them.

    Args:
        config: A Config, settings nested like the TOML (they win over all files), or None for the files' settings.
        home: The folder of config.toml and ipyrouter.db; default IPYROUTER_HOME, else what platformdirs says.
        progress: Gets a line for each thing that takes long (fetching the local model); default: stderr.
        store: Where answers and costs last; default: the config's [store] url, else SQLite in ``home``.
        session: Whose requests these are; default: a new session, which begins now.
        clock: What time it is; default: the machine's.

    ``router.listeners`` are called with every answer after it was recorded, failed and interrupted ones included.
    """

    def __init__(
        self,
        config: Config | Mapping[str, Any] | None = None,
        *,
        home: str | os.PathLike[str] | None = None,
        progress: Callable[[str], None] | None = None,
        store: Store | None = None,
        session: Session | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.home = configuration.home_folder(home)
        self.config = config if isinstance(config, Config) else configuration.load(config, home=self.home)
        self._built_with = self.config
        self._clock = clock or SystemClock()
        self.session = session or _new_session(self._clock)
        self.pricing = Pricing(self.config)
        self.store: Store = store or self._open_store()
        self.lessons = Lessons(configuration.data_folder(self.home) / "learned")
        self._clients = Clients(self.config, progress or asides.tell)
        self._breaker = Breaker(self.config, self._clock, self.store)
        self._recorder = Recorder(self.config, self.store, self.pricing, self.hide)
        self._seen_notices: set[str] = set()
        self._threads: ThreadPoolExecutor | None = None
        self._pipeline = self._assemble()

    def _open_store(self) -> Store:
        """Return the team's store, where the config names one, else the file in the user's own folder."""
        folder = configuration.data_folder(self.home)
        if self.config.store_url is None:
            return SQLiteStore(folder, clock=self._clock)
        from ipyrouter.store.postgres import PostgresStore

        offline_day = self.config.store_offline_day
        return PostgresStore(self.config.store_url, folder, offline_day=offline_day, clock=self._clock)

    def _assemble(self) -> Pipeline:
        """Build the way of a prompt for the config and session of now."""
        config = self.config
        return Pipeline(
            config=config,
            classify=self._classify_many,
            planner=Planner(config, self._clients.ready, self.pricing),
            warmth=Warmth(config, self.pricing, self._breaker, self._clock),
            flight=SingleFlight(config, self.store),
            chain=Chain(config, self._clients, self.pricing, self._breaker),
            breaker=self._breaker,
            budget=self.guard(),
            recorder=self._recorder,
            spans=Spans(config),
            pricing=self.pricing,
            unseen=self._unseen_notices,
        )

    @property
    def listeners(self) -> list[Listener]:
        """What is called with every answer after it was recorded."""
        return self._recorder.listeners

    @property
    def last(self) -> Answer | None:
        """The last answer that was recorded."""
        return self._recorder.last

    # --- asking ---

    def classify(self, prompt: str) -> Classification:
        """Return the tier a prompt needs, with reasons. Nothing is sent anywhere.

        Args:
            prompt: The prompt, as it would be sent.

        Returns:
            The tier, a difficulty and a confidence from 0 to 1, and the reasons.

        Raises:
            UsageError: The prompt is not a string.
        """
        check_string(prompt)
        return classifier.classify(prompt, self.config, self._adjust())

    def _classify_many(self, prompts: Sequence[str]) -> list[Classification]:
        return classifier.classify_many(prompts, self.config, self._adjust())

    def _adjust(self) -> classifier.Adjust | None:
        """Return how the user's own outcomes move a difficulty, None where nothing was learned."""
        lesson = self.lessons.current
        return lesson.adjust if lesson else None

    @overload
    def route(
        self, prompt: str | Prompt, *, schema: None = None, **options: Unpack[RouteOptions]
    ) -> Answer[None]: ...  # without a schema there is no data

    @overload
    def route(self, prompt: str | Prompt, *, schema: type[_T], **options: Unpack[RouteOptions]) -> Answer[_T]: ...

    @overload
    def route(
        self, prompt: str | Prompt, *, schema: Mapping[str, Any], **options: Unpack[RouteOptions]
    ) -> Answer[Any]: ...

    def route(
        self,
        prompt: str | Prompt,
        *,
        system: str | None = None,
        history: Sequence[Message | Mapping[str, str]] = (),
        tier: str | None = None,
        model: str | None = None,
        max_output_tokens: int | None = None,
        temperature: float | None = None,
        cache: str = "use",
        escalate: bool | None = None,
        allow_large: bool = False,
        effort: Effort | None = None,
        json: bool = False,
        show_thinking: bool = False,
        conversation: bool = False,
        previous_tier: str | None = None,
        tags: Sequence[str] = (),
        session: Session | None = None,
        on_delta: OnDelta | None = None,
        schema: Any = None,
        **unknown: Never,
    ) -> Answer[Any]:
        """Answer a prompt with the cheapest tier that can.

        Answer and log row are written before this returns.

        Args:
            prompt: What is asked, sent as it is: a string, or a Prompt with pictures and documents.
            system: The system prompt.
            history: Earlier turns of the conversation, as Messages or as the SDKs' dicts.
            tier: Overrides the classifier: "fast", "mid" or "power".
            model: Overrides the tier: "provider/model", or a name that tells its provider. It counts under the cheapest
                tier whose chain holds it, else under the one of the nearest price.
            max_output_tokens: At most so many; default: the tier's limit.
            temperature: 0 to 2; sent only when given.
            cache: "use", "refresh" (call again and replace the entry) or "off".
            escalate: False keeps a weak answer instead of asking the next tier up.
            allow_large: Confirms a very large prompt.
            effort: How much the model is to think: "none", "low", "medium", "high", "xhigh" or "max"; what the model
                takes is nearest counts. Default: the tier's.
            json: Asks for JSON of any shape, by the provider's JSON mode where it has one; the prompt must say JSON.
            show_thinking: Asks for a summary of what the model thinks, where the provider has one.
            conversation: Says that later turns will send this one again, so that it is worth a place in the provider's
                cache; a prompt with a ``history`` needs no such word.
            previous_tier: The tier of the turn before, or of this prompt before a small edit. It stays where the
                difficulty lies only a little beyond its boundary.
            tags: Words in the log under which reports can sum up, beside those of ``[log] tags``.
            session: Whose request this is, where it is not the router's own session.
            on_delta: Gets the text as it arrives, after an empty Delta for each model that is asked.
            schema: What the answer's ``data`` must be: a pydantic model, a dataclass, a TypedDict, a dict of fields and
                their types, or a JSON Schema.
            **unknown: Any other argument is an error that suggests the nearest valid one.

        Returns:
            The answer, with its cost and every attempt.

        Raises:
            UsageError: An argument is not understood.
            NoModelError: No candidate can be called.
            BudgetError: The request could cost more than a budget leaves.
            RouteError: All candidates failed.
            SchemaError: No answer is what the schema asks for.
            Interrupted: Ctrl-C; its ``answer`` holds what had arrived.
        """
        request = make_request(
            prompt, system=system, history=history, tier=tier, model=model, max_output_tokens=max_output_tokens,
            temperature=temperature, cache=cache, escalate=escalate, allow_large=allow_large, effort=effort, json=json,
            show_thinking=show_thinking, conversation=conversation, previous_tier=previous_tier, schema=schema,
            tags=tags, **unknown,
        )  # fmt: skip
        return self._pipeline.run(RequestRun(request, session or self.session, self._clock, on_delta))

    @overload
    async def aroute(
        self, prompt: str | Prompt, *, schema: None = None, **options: Unpack[RouteOptions]
    ) -> Answer[None]: ...  # without a schema there is no data

    @overload
    async def aroute(
        self, prompt: str | Prompt, *, schema: type[_T], **options: Unpack[RouteOptions]
    ) -> Answer[_T]: ...

    @overload
    async def aroute(
        self, prompt: str | Prompt, *, schema: Mapping[str, Any], **options: Unpack[RouteOptions]
    ) -> Answer[Any]: ...

    async def aroute(self, prompt: str | Prompt, *, schema: Any = None, **options: Unpack[RouteOptions]) -> Answer[Any]:
        """Answer a prompt without blocking the event loop.

        Up to 64 requests run at once, under the same deadlines, budgets and log. Cancelling the task ends the call at
        once and records what it had spent.

        Args:
            prompt: The prompt, sent as it is.
            schema: As in :meth:`route`.
            **options: As in :meth:`route`; ``on_delta`` is called on the event loop.

        Returns:
            The answer, with its cost and every attempt.

        Raises:
            UsageError: An option's value is not valid.
            NoModelError: No candidate can be called.
            BudgetError: The request could cost more than a budget leaves.
            RouteError: All candidates failed.
            SchemaError: No answer is what the schema asks for.
        """
        session, on_delta = options.pop("session", None), options.pop("on_delta", None)
        loop = asyncio.get_running_loop()

        def relay(delta: Delta) -> None:
            if on_delta is not None:
                loop.call_soon_threadsafe(on_delta, delta)

        request = make_request(prompt, schema=schema, **options)
        run = RequestRun(request, session or self.session, self._clock, relay if on_delta else None)
        if self._threads is None:
            self._threads = ThreadPoolExecutor(_MOST_AT_ONCE, thread_name_prefix="ipyrouter-aroute")
        answering = loop.run_in_executor(self._threads, contextvars.copy_context().run, self._pipeline.run, run)
        try:
            return await asyncio.shield(answering)
        except asyncio.CancelledError:
            run.interrupts.cancel()
            # The thread ends at once and records the request; its error is this very cancellation.
            with contextlib.suppress(KeyboardInterrupt):
                await answering
            raise

    def map(
        self,
        data: Any,
        prompt: str,
        *,
        schema: Any = None,
        variables: Mapping[str, Any] | None = None,
        tier: str | None = None,
        budget: Decimal | float | str | None = None,
        dry_run: bool = False,
        yes: bool = False,
        concurrency: int | None = None,
        pilot: int | None = None,
        agreement: float = 0.95,
        delivery: Delivery = "live",
        wait: bool = True,
        progress: Show | None = None,
        session: Session | None = None,
        **options: Unpack[MapOptions],
    ) -> Any:
        """Ask the same prompt of every row of a column or table, many at once. See :func:`ipyrouter.map`.

        Args:
            data: A list, a Series or DataFrame of pandas or polars, or a table of pyarrow; or a DataFrame of Dask or
                Spark or a Dataset of Ray, whose result is as lazy as they are.
            prompt: The prompt, with ``{{column}}`` where a row's value goes.
            schema: As in :meth:`route`; its fields are the result's columns.
            variables: Values for other names in the prompt, the same for all rows.
            tier: "each" (each row by the classifier; the default), "fast", "mid", "power", or "pilot": the cheapest
                tier that agrees with the strongest on some of the rows.
            budget: Dollars that this run may spend, beside the budgets of the config.
            dry_run: Send nothing; return an Estimate.
            yes: Confirm a run that is likely to cost more than ``batch.confirm_usd``.
            concurrency: The most calls in flight to one model; default: ``batch.concurrency``.
            pilot: Ask only so many rows, evenly spread, and print what all will likely cost; for the tier "pilot", the
                rows that are compared (default: 40).
            agreement: The share of the pilot's rows in which a cheaper tier must agree with the strongest.
            delivery: "live", "flex" (calls that take longer, for half the price, where the model has that), or "batch":
                OpenAI's and Anthropic's batch APIs, which answer within a day for half the price. The same call again,
                in any process, goes on with what was submitted.
            wait: False returns at once what there is of a batch; Ctrl-C ends the wait, too.
            progress: Is called about once a second with how far the run is.
            session: Whose requests these are, where it is not the router's own session.
            **options: As in :meth:`route`: ``system``, ``model``, ``max_output_tokens``, ``temperature``, ``cache``,
                ``escalate``, ``allow_large``, ``effort``, ``json`` and ``tags``.

        Returns:
            A frame with the data's order and index, in the library of the data (lists: pandas); an Estimate for a dry
            run.

        Raises:
            UsageError: Data, prompt or an option cannot be used, or the run needs ``yes=True``.
            NoModelError: No model can be called.
            StoreError: The team's store is away as the run begins.
        """
        from ipyrouter.batch.engines import engine_of, on_engine
        from ipyrouter.batch.map import make_job, map_column
        from ipyrouter.batch.progress import TerminalProgress

        check_names(options, "map", _keywords(self.map))
        if (engine := engine_of(data)) is not None:
            mapper = self.mapper(
                prompt, schema=schema, variables=variables, tier=None if tier == "pilot" else tier, budget=budget,
                concurrency=concurrency, delivery=delivery, **options,
            )  # fmt: skip
            if session is not None:
                mapper = mapper.of_session(session)
            return on_engine(
                data, mapper, engine, self._parts(session), dry_run=dry_run, yes=yes, pilot=pilot,
                agreement=agreement if tier == "pilot" else None, tell=print,
            )  # fmt: skip
        named = None if tier in ("each", "pilot") else tier
        job = make_job(data, prompt, variables, {"schema": schema, "tier": named, **options})
        again = functools.partial(
            self.map, data, prompt, schema=schema, variables=variables, tier=tier, budget=budget, yes=yes,
            concurrency=concurrency, pilot=pilot, agreement=agreement, delivery=delivery, wait=wait,
            progress=progress, session=session, **options,
        )  # fmt: skip
        return map_column(
            self._parts(session), job, budget=budget, dry_run=dry_run, yes=yes, concurrency=concurrency, pilot=pilot,
            agreement=agreement if tier == "pilot" else None, delivery=delivery, wait=wait,
            show=progress or TerminalProgress(), tell=print, again=again,
        )  # fmt: skip

    def mapper(
        self,
        prompt: str,
        *,
        schema: Any = None,
        variables: Mapping[str, Any] | None = None,
        tier: str | None = None,
        budget: Decimal | float | str | None = None,
        concurrency: int | None = None,
        workers: int = 1,
        delivery: Delivery = "live",
        **options: Unpack[MapOptions],
    ) -> Mapper:
        """Return a function from a table to a table that asks a prompt of each row. See :func:`ipyrouter.mapper`.

        Args:
            prompt: As in :meth:`map`.
            schema: As in :meth:`map`.
            variables: As in :meth:`map`; those that the prompt names go along as strings.
            tier: As in :meth:`map`, but "pilot".
            budget: Dollars that all calls of the function may spend together, wherever they share a store.
            concurrency: The most calls in flight to one model, on all workers together.
            workers: How many of these functions are at work together: limits and concurrency are divided by it.
            delivery: "live" or "flex", as in :meth:`map`.
            **options: As in :meth:`map`.

        Returns:
            The function; a pickle of it holds the config, and no key.

        Raises:
            UsageError: An option cannot be used.
        """
        from ipyrouter.batch.engines import make_mapper

        check_names(options, "mapper", _keywords(self.mapper))
        if tier == "pilot":
            raise UsageError("A mapper knows only a part of the rows, and takes no pilot.", "Name a tier.")
        return make_mapper(
            self, prompt, workers=workers, schema=schema, variables=variables, tier=None if tier == "each" else tier,
            budget=budget, concurrency=concurrency, delivery=delivery, **options,
        )  # fmt: skip

    def map_part(
        self,
        data: Any,
        prompt: str,
        *,
        workers: int,
        session: Session,
        budget: Decimal | float | str | None = None,
        concurrency: int | None = None,
        variables: Mapping[str, Any] | None = None,
        delivery: Delivery = "live",
        **options: Any,
    ) -> Any:
        """Ask a prompt of each row of a part of a larger table: what a :meth:`mapper` does.

        Args:
            data: As in :meth:`map`.
            prompt: As in :meth:`map`.
            workers: How many ask parts of the table together.
            session: Whose requests these are; its ``run`` names the run that the budget is for.
            budget: As in :meth:`mapper`.
            concurrency: As in :meth:`mapper`.
            variables: As in :meth:`map`.
            delivery: As in :meth:`mapper`.
            **options: As in :meth:`map`.

        Returns:
            As in :meth:`map`; for pandas, a plain DataFrame.

        Raises:
            UsageError: Data, prompt or an option cannot be used.
            NoModelError: No model can be called.
            StoreError: The team's store is away.
        """
        from ipyrouter.batch.map import make_job, map_part

        job = make_job(data, prompt, variables, options)
        parts = self._parts(session, workers)
        return map_part(parts, job, budget=budget, concurrency=concurrency, delivery=delivery)

    def _parts(self, session: Session | None, workers: int | None = None) -> Parts:
        """Return what a run over a column asks with."""
        from ipyrouter.batch.map import Parts

        return Parts(
            self.config, self._clients, self.pricing, self.store, session or self.session, self._clock, self._pipeline,
            workers,
        )  # fmt: skip

    def runs(self) -> pd.DataFrame:
        """Return the runs of :meth:`map` whose answers are kept.

        Returns:
            One row per run, the latest first: ``run`` (its id), ``status`` ("done", "incomplete", or "unfinished" where
            it is under way or its process ended), ``prompt``, ``rows``, ``distinct``, ``done``, ``cached``, ``failed``,
            ``cost`` in dollars of all its calls, ``created`` and ``updated`` (UTC).

        Raises:
            StoreError: The database was written by a newer version, or the team's store is away.
        """
        from ipyrouter.batch.frame import runs_frame

        runs = self.store.runs()
        return runs_frame([{**r.state, "run": r.id, "created": r.created, "updated": r.updated} for r in runs])

    def attach(self, run: str, *, wait: bool = True, progress: Show | None = None) -> MapFrame:
        """Go on with the batches of a run where its data are not: in another notebook, or after a restart.

        Answers come into cache and log, where :meth:`map` finds them with the data.

        Args:
            run: Its id, from :meth:`runs` or a result's ``run``.
            wait: False returns at once what there is; Ctrl-C ends the wait, too.
            progress: As in :meth:`map`.

        Returns:
            A frame with a row for each request of the batches, by its prompt (without ``log.content``, by its id), and
            the columns of :meth:`map`.

        Raises:
            UsageError: There is no such run, or it has no batch at a provider.
            StoreError: The team's store is away.
        """
        from ipyrouter.batch.map import attach
        from ipyrouter.batch.progress import TerminalProgress

        frame: MapFrame = attach(self._parts(None), run, wait=wait, show=progress or TerminalProgress())
        return frame

    def drop_run(self, run: str) -> None:
        """Let go of a run: its answers stay in the cache only for as long as others.

        Args:
            run: Its id, from :meth:`runs` or a result's ``run``.

        Raises:
            UsageError: There is no such run.
            StoreError: The team's store is away.
        """
        jobs = next((one.state.get("jobs") for one in self.store.runs() if one.id == run), None)
        if jobs:
            names = ", ".join(job["id"] or "one that may not have arrived" for job in jobs)
            raise UsageError(
                f"The run {run!r} has a batch at its provider ({names}), whose answers you pay for.",
                "Collect them with router.attach(run), or cancel it at the provider and then collect what there is.",
            )
        if not self.store.drop_run(run):
            raise UsageError(f"There is no run {run!r}.", "router.runs() lists them.")

    def preview(
        self,
        prompt: str | Prompt,
        *,
        schema: type[Any] | Mapping[str, Any] | None = None,
        **options: Unpack[RouteOptions],
    ) -> Preview:
        """Return what :meth:`route` would do with the same arguments. Nothing is sent or logged.

        Args:
            prompt: The prompt.
            schema: As in :meth:`route`.
            **options: As in :meth:`route`.

        Returns:
            The tier, the candidate, the input tokens, the lowest and highest cost in dollars, and the notes.

        Raises:
            UsageError: An argument is not valid.
            NoModelError: No candidate can be called.
        """
        for name in ("session", "on_delta"):  # of a run, which this is not
            options.pop(name, None)  # type: ignore[misc]  # a literal name is required
        return self._pipeline.preview(make_request(prompt, schema=schema, **options))

    # --- looking back ---

    def log(self, **conditions: Unpack[LogConditions]) -> pd.DataFrame:
        """Return the log as a DataFrame, oldest row first.

        Args:
            **conditions: As in :func:`ipyrouter.cost_log`: ``since``, ``until``, ``tier``, ``model``, ``session``,
                ``notebook``, ``status``, ``user``, ``team``, ``tag`` and ``content``.

        Returns:
            One row per attempt; ``cost`` is in dollars, ``latency`` in seconds.

        Raises:
            UsageError: A date is not valid.
            StoreError: The database was written by a newer version.
        """
        from ipyrouter.reporting.log import log_frame

        return log_frame(self.store, **conditions)

    def report(self, day: dt.date | str | None = None, *, span: str = "day", by: str | None = None) -> Report:
        """Return the totals, tiers, models, faults, escalations, and the most expensive and slowest requests of a span.

        Args:
            day: The day, in UTC; default: today.
            span: "day", the "week" (from Monday) or "month" that the day lies in, or "all" of the log.
            by: "user", "team", "notebook" or "tag": also the figures of each, in ``groups``.

        Returns:
            The report; its costs are in dollars.

        Raises:
            UsageError: A date, span or group that is not valid.
            StoreError: The database is of a newer version.
        """
        from ipyrouter.reporting import report

        return report.report(self.store, day, span, by)

    def forget(
        self,
        answer: Answer | str | None = None,
        *,
        before: dt.datetime | dt.date | str | None = None,
        content: bool = False,
    ) -> int:
        """Delete an answer, or all before a date, from log and cache; no bytes of them stay in the database's files.

        Args:
            answer: An Answer or its id.
            before: A date or time; without a zone it is UTC.
            content: Delete only prompts and answers, of all of the log unless ``answer`` or ``before`` is given;
                models, tokens and costs stay. Otherwise costs go, too, and budgets count them no more.

        Returns:
            The number of answers concerned.

        Raises:
            UsageError: Nothing is chosen, or the answer is not in the log.
            StoreError: The database could not be written.
        """
        from ipyrouter.reporting.log import moment

        if answer is None and before is None and not content:
            raise UsageError("Nothing is chosen to be forgotten.", "Give an answer, before=DATE or content=True.")
        name = answer.id if isinstance(answer, Answer) else answer
        count = self.store.forget(name, moment(before), content=content)
        if count == 0 and name is not None:
            raise UsageError("That answer is not in the log.", "Its id stands in the column answer_id of the log.")
        self._recorder.forget(name)
        return count

    def compare(self) -> pd.DataFrame:
        """Return what the log would have cost with other strategies.

        Returns:
            A row for each strategy (all power, all mid, the router, the router with its cache): ``cost`` in dollars,
            ``latency`` in mean seconds per request, ``calls``, and ``unpriced`` calls. ``attrs["assumption"]`` names
            the assumptions.

        Raises:
            StoreError: The database was written by a newer version.
        """
        from ipyrouter.reporting import compare

        return compare.compare(self.store, self.config, self.pricing)

    def calibrate(self) -> pd.DataFrame:
        """Return what other settings of ``fast_below`` and ``power_above`` would do to the prompts of the log.

        Returns:
            A row for each setting, and for all power: the shares of the tiers, ``cost`` in dollars, ``of_power`` the
            same as a share of all power, and ``quality``, the expected share of prompts whose tier is enough.
            ``attrs["assumption"]`` names the assumptions.

        Raises:
            UsageError: The log holds no prompts.
            StoreError: The database was written by a newer version.
        """
        from ipyrouter.reporting import calibrate

        return calibrate.calibrate(self.store, self.config, self.pricing, self._adjust())

    def status(self) -> list[tuple[str, str, float | None]]:
        """Return the models and providers that are cooling down or off.

        Returns:
            The name, the reason, and the seconds left (None: until the session ends) of each.
        """
        return self._breaker.status()

    def ready(self, candidate: Candidate) -> bool:
        """Tell whether a candidate can be called.

        Args:
            candidate: A provider and a model.

        Returns:
            True if its key is set, or it needs none.
        """
        return self._clients.ready(candidate)

    # --- learning ---

    def feedback(self, verdict: Feedback, answer: Answer | None = None) -> bool:
        """Log whether an answer was good or bad.

        Args:
            verdict: "good" or "bad".
            answer: The answer; default: the last one.

        Returns:
            False if the answer is not in the log.

        Raises:
            UsageError: There is no answer yet.
        """
        target = answer or self.last
        if target is None:
            raise UsageError("There is no answer yet.", "Ask something first.")
        return self.store.set_feedback(target.id, verdict)

    def learn(self, outcomes: pd.DataFrame | None = None, *, reset: bool = False) -> Lesson | None:
        """Fit the classifier to the user's own work, on top of the shipped weights, and print what it gained.

        The lesson is saved in the home folder only if it ranks held-back prompts better than before.

        Args:
            outcomes: One row per prompt: ``prompt``, ``tier``, and ``ok`` (whether that tier's answer was good enough).
                Default: the log's feedback, escalations, and prompts that were repeated at a higher tier.
            reset: Delete all lessons instead.

        Returns:
            The lesson; None after a reset.

        Raises:
            UsageError: A column is missing, a tier is unknown, or there are fewer than 20 prompts.
        """
        from ipyrouter.classifier import lessons

        if reset:
            print(self.lessons.forget())
            return None
        rows = lessons.from_log(self.store) if outcomes is None else lessons.from_frame(outcomes)
        lesson = lessons.teach(rows)
        print(self.lessons.keep(lesson))
        return lesson

    # --- life ---

    def configure(self, settings: Mapping[str, Any], source: str = "configure()") -> None:
        """Override settings that the router was built with. Session, connections and cooldowns stay.

        Args:
            settings: The settings, nested like the TOML; {} restores the router's own.
            source: The origin that `%router config` names.

        Raises:
            ConfigError: A setting is not valid.
        """
        self.config = configuration.override(self._built_with, settings, source) if settings else self._built_with
        self._clients.config = self._breaker.config = self._recorder.config = self.config
        self.pricing.configure(self.config)
        self._pipeline = self._assemble()

    def guard(self) -> Budget:
        """Return the budgets of the session.

        Returns:
            What reserves and settles costs; ``left()`` has the dollars left of each budget.
        """
        return Budget(self.config.budget, self.pricing, self.store, self._clock, self.session)

    def reset(self) -> None:
        """Begin a new session: end all cooldowns and close all connections. Log and cache stay."""
        self._breaker.reset()
        self._clients.forget()
        self._clients.close()
        self._seen_notices.clear()
        self.session = _new_session(self._clock)
        self._pipeline = self._assemble()

    def close(self) -> None:
        """Close connections, the database and the embedded server."""
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)
            self._threads = None
        self._clients.close()
        self.store.close()

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as config, home and session: another process builds its own connections and shares the budgets."""
        return _rebuild, (self.config, self.home, self.session)

    def hide(self, text: str) -> str:
        """Remove the keys and passwords that the router knows from a string.

        Args:
            text: The string, for example an error's message.

        Returns:
            The string with "[… removed]" in their place.
        """
        return self._clients.hide(text)

    def _unseen_notices(self, lines: Sequence[str]) -> list[str]:
        """Return the lines that this session has not seen yet."""
        new = [line for line in lines if line not in self._seen_notices]
        self._seen_notices.update(new)
        return new


def _rebuild(config: Config, home: Path | None, session: Session) -> Router:
    return Router(config, home=home, session=session)


def _keywords(function: Callable[..., Any]) -> list[str]:
    """Return the names of a function's arguments that are given by name."""
    parameters = inspect.signature(function).parameters.values()
    return [parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY]


def _new_session(clock: Clock) -> Session:
    return Session(uuid.uuid4().hex[:12], clock.now())
