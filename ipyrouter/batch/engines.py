"""A prompt over the tables of a cluster: a function from a table to a table that can be pickled, and three adapters.

The workers build their own router from the config: keys are read there and never shipped. Each has a store of its own,
so that nothing keeps a budget over all of them: a budget is refused, and the limits are divided by the workers.
"""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

from ipyrouter.batch import columns
from ipyrouter.batch.map import STATUS
from ipyrouter.batch.progress import Progress
from ipyrouter.batch.tables import read_table
from ipyrouter.config import Config
from ipyrouter.errors import UsageError

_LIBRARIES = ("dask", "ray", "pyspark")
_SPARK = {int: "bigint", float: "double", bool: "boolean"}


class Maps(Protocol):
    """What asks: :class:`ipyrouter.Router`, which can be pickled."""

    config: Config

    def map(self, data: Any, prompt: str, **options: Any) -> Any:
        """Ask a prompt of each row."""
        ...

    def configure(self, settings: Mapping[str, Any], source: str = ...) -> None:
        """Override settings."""
        ...


@dataclass
class Mapper:
    """Asks a prompt of each row of a table, on whichever machine it is called.

    Args:
        router: What asks; a pickle holds its config, home and session.
        prompt: The prompt.
        options: As in :meth:`ipyrouter.Router.map`.
        workers: How many of these are at work together; the limits are divided by it.
        keeps: Whether the table's own columns stay in the result.
    """

    router: Maps
    prompt: str
    options: dict[str, Any] = field(default_factory=dict)
    workers: int = 1
    keeps: bool = False
    _divided: bool = False

    def __call__(self, table: Any) -> Any:
        """Return the result for a table, as :meth:`ipyrouter.Router.map` does.

        Args:
            table: A frame of pandas or polars, or a table of pyarrow.

        Returns:
            The answers' columns; behind the table's own, where ``keeps`` is set.

        Raises:
            UsageError: The table lacks a column.
            NoModelError: No model can be called on this machine.
        """
        if not self._divided and self.workers > 1:
            self.router.configure(_divided(self.router.config, self.workers), "mapper()")
            self._divided = True
        result = self.router.map(table, self.prompt, progress=_hidden, yes=True, **self.options)
        return _joined(table, result) if self.keeps else _plain(result)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_divided": False}  # another process reads the config as it was

    @property
    def dtypes(self) -> dict[str, Any]:
        """The result's columns, each with what it holds (batch.tables.Dtypes)."""
        schema = self.options.get("schema")
        if schema is not None:
            from ipyrouter.schemas import Schema, schema_of

            schema = schema if isinstance(schema, Schema) else schema_of(schema)
        return {**columns.dtypes_of(schema), **STATUS}


def _hidden(_: Progress) -> None:
    """Show nothing: a worker has no cell."""


def _divided(config: Config, workers: int) -> dict[str, Any]:
    """Return the settings that give each of some workers its share."""
    limits = {
        name: {key: max(most // workers, 1) for key, most in asdict(limit).items() if most is not None}
        for name, limit in config.limits.items()
    }
    batch = {"concurrency": max(config.batch.concurrency // workers, 1)}
    return {"batch": batch, **({"limits": limits} if limits else {})}


def _plain(result: Any) -> Any:
    """Return a frame of pandas without what it knows of its run, which means nothing elsewhere."""
    if "pandas" not in sys.modules:
        return result
    import pandas as pd

    return pd.DataFrame(result) if isinstance(result, pd.DataFrame) else result


def _joined(table: Any, result: Any) -> Any:
    if "pandas" in type(table).__module__:
        return table.join(result)
    for name in result.column_names:
        table = table.append_column(name, result[name])
    return table


def engine_of(data: Any) -> str | None:
    """Return the library of a frame that lives on a cluster; None for any other data."""
    names = {kind.__module__.partition(".")[0] for kind in type(data).__mro__}
    if "dask_expr" in names:
        return "dask"
    return next((name for name in _LIBRARIES if name in names), None)


def on_engine(data: Any, mapper: Mapper, engine: str) -> Any:
    """Return a frame of the same engine that asks when it is computed.

    Args:
        data: A Dask DataFrame, a Ray Dataset or a Spark DataFrame.
        mapper: What asks; its workers are set here.
        engine: "dask", "ray" or "pyspark".

    Raises:
        UsageError: A budget is set, which nothing would keep over all workers.
    """
    budget = mapper.router.config.budget
    if mapper.options.get("budget") is not None or any((budget.call, budget.session, budget.day, budget.month)):
        raise UsageError(
            f"A budget is set, and nothing keeps it over the workers of {engine}.",
            "Unset it for this run, or compute the frame here and map that.",
        )
    adapters: dict[str, Callable[[Any, Mapper], Any]] = {"dask": _dask, "ray": _ray, "pyspark": _spark}
    return adapters[engine](data, mapper)


def _say(mapper: Mapper, engine: str) -> None:
    if mapper.workers > 1:
        print(f"{engine}: {mapper.workers} workers, each with 1/{mapper.workers} of the limits.", file=sys.stderr)


def _dask(data: Any, mapper: Mapper) -> Any:
    import dask.dataframe as dd

    workers = data.npartitions
    if "distributed" in sys.modules:
        from distributed import default_client

        try:
            workers = min(workers, len(default_client().scheduler_info(n_workers=-1)["workers"]))
        except ValueError:  # no cluster: threads of this process
            workers = 1
    else:
        workers = 1
    mapper.workers = max(workers, 1)
    _say(mapper, "dask")
    if isinstance(data, dd.Series):
        data = data.to_frame(name=data.name if data.name is not None else "value")
    empty = read_table(data._meta).frame({name: [] for name in mapper.dtypes}, mapper.dtypes)
    return data.map_partitions(mapper, meta=empty)


class RayMapper:
    """A mapper as Ray's actors hold it: one router an actor."""

    def __init__(self, mapper: Mapper) -> None:
        self._mapper = mapper

    def __call__(self, table: Any) -> Any:
        """Return a batch with the answers behind its columns.

        Args:
            table: A table of pyarrow.
        """
        return _flat(self._mapper(table), self._mapper.dtypes)


def _ray(data: Any, mapper: Mapper) -> Any:
    import ray

    mapper.keeps, mapper.workers = True, max(int(ray.cluster_resources().get("CPU", 1)) - 1, 1)
    _say(mapper, "ray")
    return data.map_batches(
        RayMapper,
        fn_constructor_args=(mapper,),
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(size=mapper.workers),
    )


def _spark(data: Any, mapper: Mapper) -> Any:
    mapper.keeps, mapper.workers = True, max(data.sparkSession.sparkContext.defaultParallelism, 1)
    _say(mapper, "spark")
    own = ", ".join(f"`{one.name}` {one.dataType.simpleString()}" for one in data.schema.fields)
    added = ", ".join(f"`{name}` {_SPARK.get(kind, 'string')}" for name, kind in mapper.dtypes.items())
    return data.mapInArrow(functools.partial(_batches, mapper), f"{own}, {added}")


def _batches(mapper: Mapper, batches: Iterator[Any]) -> Iterator[Any]:
    import pyarrow as pa

    for batch in batches:
        yield from _flat(mapper(pa.Table.from_batches([batch])), mapper.dtypes).to_batches()


def _flat(table: Any, dtypes: Mapping[str, Any]) -> Any:
    """Return a table of pyarrow whose columns of any shape are JSON: a batch must not differ from the next in type."""
    import pyarrow as pa

    for name, kind in dtypes.items():
        if kind is None:
            values = [None if value is None else json.dumps(value, default=str) for value in table[name].to_pylist()]
            table = table.set_column(table.column_names.index(name), name, pa.array(values, pa.string()))
    return table
