"""A prompt over the tables of a cluster: a function from a table to a table that can be pickled, and three adapters.

Workers build their own router from the config: keys are read there and never shipped. What holds over all of them
(budgets, the cache, one call for equal rows) is in the team's store; limits a minute are divided among them.
"""

from __future__ import annotations

import functools
import json
import pickle
import sys
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from ipyrouter.batch import columns
from ipyrouter.batch.map import (
    SAMPLE,
    STATUS,
    Job,
    Parts,
    base_request,
    check_budget,
    check_concurrency,
    check_delivery,
    check_pilot,
    check_prompt,
    confirm,
    make_job,
    map_column,
    pick_tier,
)
from ipyrouter.batch.progress import TerminalProgress
from ipyrouter.batch.tables import read_table
from ipyrouter.batch.template import inserted, used_in
from ipyrouter.config import Config
from ipyrouter.errors import UsageError
from ipyrouter.text import asides
from ipyrouter.types import Request, Session

_ENGINES = {"dask": "Dask", "dask_expr": "Dask", "ray": "Ray", "pyspark": "Spark"}
_NEEDED = {"Dask": ("_meta", "map_partitions"), "Ray": ("map_batches",), "Spark": ("mapInArrow",)}
_OF_A_RUN = ("budget", "concurrency", "delivery", "variables")  # options that are none of a request
_ROUTERS = 8  # that a worker keeps
# How a frame's rows are counted, how a share of them is drawn, and how those come here as a frame of pandas.
_SAMPLING: dict[str, tuple[Callable[[Any], int], Callable[[Any, float], Any], Callable[[Any], Any]]] = {
    "Dask": (len, lambda data, share: data.sample(frac=share), lambda data: data.compute()),
    "Ray": (lambda data: data.count(), lambda data, share: data.random_sample(share), lambda data: data.to_pandas()),
    "Spark": (lambda data: data.count(), lambda data, share: data.sample(share), lambda data: data.toPandas()),
}


class Asks(Protocol):
    """What asks: :class:`ipyrouter.Router`, which can be pickled."""

    config: Config
    session: Session

    def map_part(self, data: Any, prompt: str, *, workers: int, session: Session, **options: Any) -> Any:
        """Ask a prompt of each row of a part of a table."""
        ...


@dataclass(frozen=True, slots=True)
class Mapper:
    """Asks a prompt of each row of a table, on whichever machine it is called.

    Args:
        router: What asks; a pickle holds its config and its home, and no key.
        prompt: The prompt.
        options: As in :meth:`ipyrouter.Router.map`.
        session: Whose requests these are.
        workers: How many of these are at work together.
        joins: Whether the result has the table's own columns, too; the table is of pyarrow then.
    """

    router: Asks
    prompt: str
    options: Mapping[str, Any]
    session: Session
    workers: int = 1
    joins: bool = False

    def __call__(self, table: Any) -> Any:
        """Return the answers for a table.

        Args:
            table: A list, a Series or a frame of pandas or polars, or a table of pyarrow.

        Returns:
            A frame of the same library, order and index, as :meth:`ipyrouter.Router.map` returns it.

        Raises:
            UsageError: The table lacks a column, or an option is not valid.
            NoModelError: No model can be called on this machine.
        """
        result = self.router.map_part(table, self.prompt, workers=self.workers, session=self.session, **self.options)
        return _joined(table, result, self.dtypes) if self.joins else result

    def __reduce__(self) -> tuple[Any, ...]:
        rest = (self.prompt, self.options, self.session, self.workers, self.joins)
        return _unpickled, (pickle.dumps(self.router), *rest)

    @property
    def dtypes(self) -> dict[str, Any]:
        """The result's columns, each with what it holds (batch.tables.Dtypes)."""
        schema = self.options.get("schema")
        if schema is not None:
            from ipyrouter.schemas import schema_of

            schema = schema_of(schema)
        return {**columns.dtypes_of(schema), **STATUS}

    def of_session(self, session: Session) -> Mapper:
        """Return the mapper for a session's requests; with a budget, they are a run of their own in its store."""
        run = "" if self.options.get("budget") is None else uuid.uuid4().hex[:12]
        return replace(self, session=replace(session, run=run))

    def request(self) -> Request:
        """Check the prompt and the options of its requests, and return the request that all of them are alike.

        Raises:
            UsageError: One of them is not valid.
        """
        return base_request(self.prompt, _of_requests(self.options))

    def job(self, data: Any) -> Job:
        """Check the prompt and the options against some data.

        Raises:
            UsageError: The data lack a column, or an option is not valid.
        """
        return make_job(data, self.prompt, self.options.get("variables"), _of_requests(self.options))


def _of_requests(options: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if name not in _OF_A_RUN}


@functools.lru_cache(_ROUTERS)
def _router(pickled: bytes) -> Asks:
    """Return the router of a pickle: one a process, however many tables come."""
    router: Asks = pickle.loads(pickled)  # noqa: S301  from inside a pickle that is being read already
    return router


def _unpickled(router: bytes, *rest: Any) -> Mapper:
    return Mapper(_router(router), *rest)


def make_mapper(router: Asks, prompt: str, *, workers: int, **options: Any) -> Mapper:
    """Return a mapper.

    A budget is one over all that it does, which the store keeps, beside those of the session that starts it.

    Raises:
        UsageError: An option is not valid. What hangs on the data is found when these are there.
    """
    check_prompt(prompt)
    if not used_in(prompt):
        raise UsageError("The prompt names no column, so all rows would be the same.", "Write {{column}} in it.")
    if isinstance(workers, bool) or not isinstance(workers, int) or workers < 1:
        raise UsageError(f"workers must be a number from 1 up, not {workers!r}.", "Write workers=4.")
    if options.get("delivery") == "batch":
        raise UsageError(
            "A batch is one job of one process; the workers of a cluster cannot share it. Nothing was sent.",
            'Map the rows here: compute() of Dask, to_pandas() of Ray, toPandas() of Spark. Or take delivery="flex".',
        )
    check_delivery(options.get("delivery", "live"))
    if options.get("budget") is not None:
        check_budget(options["budget"])
    if options.get("concurrency") is not None:
        check_concurrency(options["concurrency"])
    variables = options.get("variables") or {}
    options["variables"] = {name: inserted(name, variables[name]) for name in sorted(used_in(prompt) & {*variables})}
    given = {name: value for name, value in options.items() if value is not None}
    mapper = Mapper(router, prompt, given, router.session, workers)
    request = mapper.request()
    if request.model is not None:
        router.config.candidate(request.model)
    return mapper.of_session(router.session)


def engine_of(data: Any) -> str | None:
    """Return the engine of a frame that lives on a cluster; None for any other data."""
    names = (kind.__module__.partition(".")[0] for kind in type(data).__mro__)
    return next((_ENGINES[name] for name in names if name in _ENGINES), None)


def on_engine(
    data: Any,
    mapper: Mapper,
    engine: str,
    parts: Parts,
    *,
    dry_run: bool,
    yes: bool,
    pilot: int | None,
    agreement: float | None,
    tell: Callable[[str], None],
) -> Any:
    """Return a frame of the same engine, which asks when it is computed.

    What must be known before is computed at once: the number of rows, and some of them.

    Args:
        data: A Dask DataFrame or Series, a Ray Dataset or a Spark DataFrame.
        mapper: What asks; the adapter counts its workers.
        engine: "Dask", "Ray" or "Spark".
        parts: What the router lends for rows that are planned or asked here.
        dry_run: Return an Estimate of the whole.
        yes: Do not count the rows to see whether they may cost more than ``batch.confirm_usd``.
        pilot: Ask so many rows, here, and return their answers alone.
        agreement: The share of the pilot's rows in which a cheaper tier must agree with the strongest; the tier of all
            is picked by it.
        tell: Gets what the pilot says.

    Raises:
        UsageError: Data, prompt or an option cannot be used, or a budget is set that nothing keeps over all workers.
    """
    _check_kind(data, engine)
    check_pilot(pilot, agreement)
    only_pilot = pilot is not None and agreement is None
    if not (dry_run or only_pilot):
        _check_budget(mapper, engine)
    mapper.job(_empty(data, engine))
    if dry_run or only_pilot or agreement is not None or not yes:
        rows = pilot if only_pilot and pilot is not None else SAMPLE
        job, stands_for = _sampled(data, mapper, engine, rows)
        if dry_run or only_pilot:
            given = mapper.options.get
            again = functools.partial(
                on_engine, data, mapper, engine, parts, dry_run=dry_run, yes=yes, pilot=pilot, agreement=agreement,
                tell=tell,
            )  # fmt: skip
            return map_column(
                parts, job, budget=given("budget"), concurrency=given("concurrency"),
                delivery=given("delivery", "live"), dry_run=dry_run, yes=yes, pilot=pilot, stands_for=stands_for,
                show=TerminalProgress(), tell=tell, again=again,
            )  # fmt: skip
        if not yes:
            confirm(parts.pipeline, job, stands_for)
        if agreement is not None:
            tier = pick_tier(parts, job, rows=pilot, agreement=agreement, tell=tell)
            mapper = replace(mapper, options={**mapper.options, "tier": tier})
    adapters: dict[str, Callable[[Any, Mapper], Any]] = {"Dask": _dask, "Ray": _ray, "Spark": _spark}
    return adapters[engine](data, mapper)


def _check_kind(data: Any, engine: str) -> None:
    if not all(hasattr(data, name) for name in _NEEDED[engine]):
        raise UsageError(
            f"The data are of {engine}'s type {type(data).__name__}, which has no table to map over.",
            "Give a DataFrame or a Series of Dask, a Dataset of Ray or a DataFrame of Spark.",
        )


def _check_budget(mapper: Mapper, engine: str) -> None:
    config = mapper.router.config
    if config.store_url is None:
        limits = config.budget
        if any(most is not None for most in (mapper.options.get("budget"), limits.session, limits.day, limits.month)):
            raise UsageError(
                f"A budget is set, and nothing keeps it over the workers of {engine}. Nothing was sent.",
                "Share a store ([store] url in your config), or leave the budget out for this run.",
            )


def _empty(data: Any, engine: str) -> Any:
    """Return a table without rows that has the columns of a frame; nothing is computed."""
    if engine == "Dask":
        return data._meta
    import pyarrow as pa

    return pa.table({name: pa.nulls(0) for name in (_ray_columns(data) if engine == "Ray" else data.columns)})


def _sampled(data: Any, mapper: Mapper, engine: str, rows: int) -> tuple[Job, float]:
    """Return what is asked of about so many rows of a frame, from all of it, and how many each of them stands for."""
    size, draw, here = _SAMPLING[engine]
    count = size(data)
    share = (rows + 4 * rows**0.5) / count if count else 1.0  # so that hardly ever fewer than wanted come
    job = mapper.job(_evenly(here(draw(data, share) if share < 1 else data), rows))
    return job, count / job.table.count if job.table.count else 1.0


def _among(mapper: Mapper, workers: int, engine: str) -> Mapper:
    """Return the mapper for so many workers, and say what each may do."""
    if workers > 1:
        words = f"{engine}: {workers} workers, each with 1/{workers} of the limits and the concurrency."
        if mapper.router.config.store_url is not None:
            words += " What the team's store allows a minute, it holds over all of them."
        asides.tell(words)
    return replace(mapper, workers=max(workers, 1))


def _evenly(frame: Any, rows: int) -> Any:
    """Return so many rows of a frame of pandas from all of it."""
    count = len(frame)
    return frame if count <= rows else frame.iloc[[place * count // rows for place in range(rows)]]


# --- Dask ---


def _dask(data: Any, mapper: Mapper) -> Any:
    meta = read_table(_empty(data, "Dask")).frame({name: [] for name in mapper.dtypes}, mapper.dtypes)
    return data.map_partitions(_among(mapper, min(_dask_threads(), data.npartitions), "Dask"), meta=meta)


def _dask_threads() -> int:
    """Return how many partitions are computed together."""
    import dask.system

    if "distributed" in sys.modules:
        from distributed import default_client

        try:
            workers = default_client().scheduler_info(n_workers=-1)["workers"].values()
        except ValueError:  # no cluster: the threads of this process
            pass
        else:
            return sum(worker["nthreads"] for worker in workers)
    return int(dask.config.get("num_workers", None) or dask.system.CPU_COUNT)


# --- Ray and Spark, whose rows have no index: the answers come with the rows that they belong to ---


class RayActor:
    """A mapper in an actor of Ray's: one router for all of its tables."""

    def __init__(self, mapper: Mapper) -> None:
        self._mapper = mapper

    def __call__(self, table: Any) -> Any:
        """Return a table of pyarrow with the answers behind its columns."""
        return self._mapper(table)


def _ray_columns(data: Any) -> list[str]:
    """Return the names of a Dataset's columns, which it has from its first row."""
    names: list[str] | None = data.columns()
    if names is None:
        raise UsageError(
            "The Dataset of Ray has no rows, and so no columns that are known. Nothing was sent.",
            "Look at it with data.count(), and map it when it has rows.",
        )
    return names


def _ray(data: Any, mapper: Mapper) -> Any:
    import ray.data

    mapper = _joining(mapper, _ray_columns(data), "Ray")
    # One processor is left to what reads the data.
    mapper = _among(mapper, int(ray.cluster_resources().get("CPU", 1)) - 1, "Ray")
    return data.map_batches(
        RayActor,
        fn_constructor_args=(mapper,),
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(size=mapper.workers),
    )


def _spark(data: Any, mapper: Mapper) -> Any:
    from pyspark.sql import types

    kinds: dict[Any, Any] = {int: types.LongType, float: types.DoubleType, bool: types.BooleanType}
    mapper = _joining(mapper, data.columns, "Spark")
    added = [types.StructField(name, kinds.get(kind, types.StringType)()) for name, kind in mapper.dtypes.items()]
    mapper = _among(mapper, _spark_tasks(data.sparkSession), "Spark")
    return data.mapInArrow(functools.partial(_spark_batches, mapper), types.StructType([*data.schema.fields, *added]))


def _spark_tasks(session: Any) -> int:
    """Return how many partitions are computed together."""
    from pyspark.errors import PySparkException
    from pyspark.sql.functions import spark_partition_id

    try:
        return int(session.sparkContext.defaultParallelism)
    except PySparkException:  # Spark Connect has no context here: its server cuts a range into as many parts
        return int(session.range(10_000).select(spark_partition_id()).distinct().count())


def _spark_batches(mapper: Mapper, batches: Iterator[Any]) -> Iterator[Any]:
    import pyarrow as pa

    for batch in batches:
        yield from mapper(pa.Table.from_batches([batch])).to_batches()


def _joining(mapper: Mapper, names: Sequence[str], engine: str) -> Mapper:
    """Return a mapper whose tables keep their columns, of which none may have the name of another."""
    if twice := [name for name in names if name in mapper.dtypes]:
        words = ", ".join(map(repr, twice))
        raise UsageError(
            f"The result has columns of the same name as the data: {words}.",
            f"Rename them before, or drop them: {engine} keeps no index, so the rows come along.",
        )
    return replace(mapper, joins=True)


def _joined(table: Any, result: Any, dtypes: Mapping[str, Any]) -> Any:
    """Return a table of pyarrow with a result's columns behind its own.

    What may have any shape is JSON: no table may differ from the next in the type of a column.
    """
    import pyarrow as pa

    for name, kind in dtypes.items():
        column = result[name]
        if kind is None:
            values = (None if value is None else json.dumps(value, default=str) for value in column.to_pylist())
            column = pa.array(values, pa.string())
        table = table.append_column(name, column)
    return table
