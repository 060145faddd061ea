"""A prompt over the frames of Dask, Ray and Spark, on real local clusters: `nox -s engines` has them all."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from ipyrouter.batch.engines import Mapper
from ipyrouter.errors import UsageError
from ipyrouter.router import Router
from tests.faults.server import FaultServer

MakeRouter = Callable[..., Router]
ROWS = [f"row {n % 30}" for n in range(40)]
SCHEMA = {"label": ["a", "b"], "score": float, "count": int, "many": [str]}


def frame(**more: Any) -> pd.DataFrame:
    return pd.DataFrame({"text": ROWS, "n": range(40)}, index=range(100, 140), **more)


@pytest.mark.wire
def test_a_mapper_can_be_pickled(make_router: MakeRouter, requests: list[Any]) -> None:
    mapper = make_router().mapper("Rate {{text}}", schema=SCHEMA, tier="fast")
    other: Mapper = pickle.loads(pickle.dumps(mapper))
    result = other(frame())
    assert type(result) is pd.DataFrame
    assert list(result.index) == list(range(100, 140))
    assert set(result["_status"]) == {"ok"}
    assert list(result.columns) == list(other.dtypes)
    assert len(requests) == 30
    other.router.close()  # type: ignore[attr-defined]


@pytest.mark.wire
def test_workers_share_the_limits(make_router: MakeRouter) -> None:
    router = make_router(limits={"o/ok": {"requests_per_minute": 6000}})
    mapper = Mapper(router, "Rate {{text}}", workers=4)
    mapper(frame())
    mapper(frame())
    assert router.config.batch.concurrency == 16
    assert router.config.limits["o/ok"].requests_per_minute == 1500


class Lazy:
    """A stand-in for a frame that is refused before it is looked at."""


Lazy.__module__ = "dask.dataframe"


@pytest.mark.wire
@pytest.mark.parametrize("options", [{"dry_run": True}, {"pilot": 3}, {"tier": "pilot"}, {"delivery": "batch"}])
def test_what_a_cluster_does_not_take(make_router: MakeRouter, options: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="dask takes no dry run, pilot or batch"):
        make_router().map(Lazy(), "Rate {{text}}", **options)


@pytest.mark.wire
def test_a_budget_is_refused_where_nothing_keeps_it(make_router: MakeRouter) -> None:
    with pytest.raises(UsageError, match="nothing keeps it over the workers of dask"):
        make_router().map(Lazy(), "Rate {{text}}", budget=1)
    with pytest.raises(UsageError, match="nothing keeps it over the workers of dask"):
        make_router(budget={"day": 1}).map(Lazy(), "Rate {{text}}")


@pytest.mark.kernel
def test_dask(make_router: MakeRouter, server: FaultServer, requests: list[Any]) -> None:
    distributed = pytest.importorskip("distributed")
    dd = pytest.importorskip("dask.dataframe")
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        with distributed.Client(cluster):
            data = dd.from_pandas(frame(), npartitions=4)
            lazy = make_router().map(data, "Rate {{text}}", schema=SCHEMA)
            assert requests == []  # nothing is sent before it is computed
            result = lazy.compute()
            again = make_router().map(data["text"], "Rate {{text}}").compute()
    assert list(result.index) == list(range(100, 140))
    assert set(result["_status"]) == {"ok"}
    assert set(result["label"]) == {"a"}
    assert result["count"].dtype == lazy._meta["count"].dtype
    assert set(again["_status"]) == {"ok"}


@pytest.mark.kernel
def test_ray(make_router: MakeRouter, server: FaultServer, requests: list[Any], tmp_path: Path) -> None:
    ray = pytest.importorskip("ray")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    try:
        data = ray.data.from_pandas(frame())
        result = make_router().map(data, "Rate {{text}}", schema=SCHEMA).to_pandas()
    finally:
        ray.shutdown()
    assert sorted(result["n"]) == list(
        range(40)
    )  # an actor's batches come in any order, so the rows keep their columns
    assert set(result["_status"]) == {"ok"}
    assert set(result["many"]) == {'["text"]'}


@pytest.mark.kernel
def test_spark(make_router: MakeRouter, server: FaultServer, requests: list[Any]) -> None:
    sql = pytest.importorskip("pyspark.sql")
    session = sql.SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false").getOrCreate()
    try:
        data = session.createDataFrame([(text, n) for n, text in enumerate(ROWS)], ["text", "n"])
        rows = make_router().map(data, "Rate {{text}}", schema=SCHEMA).collect()
    finally:
        session.stop()
    assert sorted(row["n"] for row in rows) == list(range(40))
    assert {row["_status"] for row in rows} == {"ok"}
    assert {(row["label"], row["score"], row["count"], row["many"]) for row in rows} == {("a", 0.5, 1, '["text"]')}
