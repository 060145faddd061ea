"""A prompt over the frames of Dask, Ray and Spark, on real local clusters."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import datetime as dt
import importlib
import multiprocessing
import os
import pickle
import signal
import sys
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

from ipyrouter.batch.engines import Mapper, RayActor, _spark_batches
from ipyrouter.batch.limits import shared
from ipyrouter.config.model import RateLimits
from ipyrouter.errors import NoModelError, UsageError
from ipyrouter.router import Router
from ipyrouter.store.base import Rate
from ipyrouter.types import Session
from tests import postgres
from tests.faults.server import FaultServer, Reply, chat

MakeRouter = Callable[..., Router]
# What these engines warn of is theirs: processes that they leave running, and versions that they do not know yet.
ENGINES = pytest.mark.filterwarnings(
    "ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning", "ignore::ResourceWarning",
    "ignore::pytest.PytestUnraisableExceptionWarning",
)  # fmt: skip
ROWS = [f"row {n % 30}" for n in range(40)]
SCHEMA = {"label": ["a", "b"], "score": float, "count": int, "many": [str]}


def frame() -> pd.DataFrame:
    return pd.DataFrame({"text": ROWS, "n": range(40)}, index=range(100, 140))


def prompts(requests: list[Any]) -> list[str]:
    return [body["messages"][-1]["content"] for _, _, body in requests]


# --- the function that is pickled ---


@pytest.mark.wire
def test_a_mapper_can_be_pickled(make_router: MakeRouter, requests: list[Any]) -> None:
    mapper = make_router().mapper("Rate {{text}} for {{whom}}", schema=SCHEMA, variables={"whom": 5, "other": open})
    pickled = pickle.dumps(mapper)
    other: Mapper = pickle.loads(pickled)
    assert pickle.loads(pickled).router is other.router  # one a process, however many tables come
    result = other(frame())
    assert type(result) is pd.DataFrame
    assert list(result.index) == list(range(100, 140))
    assert set(result["_status"]) == {"ok"}
    assert list(result.columns) == list(other.dtypes)
    assert len(requests) == 30
    assert prompts(requests)[0].endswith("for 5")
    (run,) = other.router.store.runs()  # type: ignore[attr-defined]
    assert run.state["status"] == "in parts"
    other.router.close()  # type: ignore[attr-defined]


@pytest.mark.wire
def test_keys_are_read_where_the_mapper_works(
    make_router: MakeRouter, server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("O_KEY", "sk-a-secret-of-here")
    provider = {"sdk": "openai", "base_url": f"{server.url}/v1", "key": "O_KEY"}
    router = make_router(fast=["k/ok"], mid=["k/ok"], power=["k/ok"], providers={"k": provider})
    pickled = pickle.dumps(router.mapper("Rate {{text}}"))
    assert b"sk-a-secret" not in pickled
    monkeypatch.delenv("O_KEY")
    with pytest.raises(NoModelError, match="O_KEY"):
        pickle.loads(pickled)(["a"])


@pytest.mark.wire
@pytest.mark.parametrize("data", [["a"], pd.Series(["a"]), pa.table({"text": ["a"]})], ids=["list", "pandas", "arrow"])
def test_a_mapper_takes_what_map_takes(make_router: MakeRouter, data: Any) -> None:
    result = make_router().mapper("Rate {{text}}", tier="fast")(data)
    assert len(result) == 1


@pytest.mark.wire
@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"tier": "pilot"}, "takes no pilot"),
        ({"workers": 0}, "workers must be a number"),
        ({"modle": "m"}, "Did you mean 'model'"),
        ({"budget": "lots"}, "budget must be dollars"),
        ({"concurrency": 0}, "concurrency must lie"),
        ({"delivery": "fast"}, "Unknown delivery 'fast'"),
        ({"schema": {"a": "odd"}}, "odd"),
        ({"schema": {"_status": str}}, "has the name of a column that each result has"),
        ({"temperature": 5}, "temperature"),
        ({"effort": "huge"}, "effort"),
        ({"tier": "strong"}, "tier"),
        ({"model": "nobody/knows"}, "nobody"),
        ({"tags": "a,b"}, "tag"),
        ({"worker": 2}, r"mapper\(\) has no argument 'worker'. Did you mean 'workers'"),
    ],
)
def test_what_a_mapper_does_not_take_is_said_before_it_is_sent_to_workers(
    make_router: MakeRouter, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        make_router().mapper("Rate {{text}}", **options)


@pytest.mark.wire
@pytest.mark.parametrize("prompt", ["Rate it", 5])
def test_a_mapper_needs_a_prompt_that_names_a_column(make_router: MakeRouter, prompt: Any) -> None:
    with pytest.raises(UsageError, match=r"names no column|must be a string"):
        make_router().mapper(prompt)


def test_workers_share_the_limits() -> None:
    assert shared(RateLimits(6000, None), 4) == RateLimits(1500, None)
    assert shared(RateLimits(None, 3), 4) == RateLimits(None, 1)


def test_workers_do_not_share_what_their_store_holds() -> None:
    rates = [Rate("your team", 6000, "requests"), Rate("your team", 90_000, "tokens")]
    assert shared(RateLimits(6000, 80_000), 4, rates) == RateLimits(6000, 20_000)


# --- budgets ---


def _spend(mapper: Mapper, rows: list[str]) -> list[str]:
    return list(mapper(rows)["_status"])


@pytest.mark.kernel
def test_a_budget_holds_over_processes(make_router: MakeRouter) -> None:
    router = make_router(prices={"o/ok": {"input": 0, "output": 10}})  # 30 tokens: $0.0003 an answer
    mapper = router.mapper("Repeat {{x}}", budget="0.01", max_output_tokens=100, concurrency=4)
    parts = [[str(n) for n in range(start, 100, 4)] for start in range(4)]
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(4, mp_context=context) as pool:
        statuses = [status for part in pool.map(_spend, [mapper] * 4, parts) for status in part]
    log = router.log()
    assert set(log["session"]) == {mapper.session.id}
    assert 0 < Decimal(str(log["cost"].sum())) <= Decimal("0.01")
    assert statuses.count("ok") == (log["status"] == "ok").sum()
    assert "budget" in statuses
    assert set(statuses) <= {"ok", "budget", "not sent"}


@pytest.mark.wire
@pytest.mark.parametrize(("session", "run"), [(0.01, 1), (1, 0.01), (0.01, None)])
def test_a_run_on_workers_is_one_of_the_session_that_starts_it(
    make_router: MakeRouter, session: float, run: float | None
) -> None:
    router = make_router(prices={"o/ok": {"input": 0, "output": 10}}, budget={"session": session})
    assert router.route("Say it before", max_output_tokens=100).cost == Decimal("0.0003")
    mapper = pickle.loads(pickle.dumps(router.mapper("Repeat {{x}}", budget=run, max_output_tokens=100)))
    statuses = _spend(mapper, [str(n) for n in range(40)])
    log = router.log(session=router.session.id)
    assert len(log) == len(router.log())
    assert {"ok", "budget"} <= set(statuses)
    spent = Decimal(str(round(log["cost"].sum(), 6))) - (Decimal("0.0003") if session == 1 else 0)
    assert Decimal("0.006") < spent <= Decimal("0.01")
    left = router.guard().left()["this session"]
    assert left == Decimal(str(session)) - Decimal(str(round(log["cost"].sum(), 6)))


@pytest.mark.wire
def test_each_mapper_has_a_budget_of_its_own(make_router: MakeRouter) -> None:
    router = make_router(prices={"o/ok": {"input": 0, "output": 10}})
    for n in range(3):
        mapper = router.mapper("Repeat {{x}}", budget=0.001, max_output_tokens=100)
        assert _spend(mapper, [f"{n}"]) == ["ok"], n
        assert _spend(mapper, [f"{n} again"]) == ["budget"], n


@pytest.mark.wire
@pytest.mark.parametrize("budget", [None, 1])
def test_workers_ask_for_the_session_that_map_was_given(
    make_router: MakeRouter, few: Any, budget: float | None
) -> None:
    router = make_router(prices={"o/ok": {"input": 0, "output": 10}})
    mine = Session("mine", dt.datetime.now(dt.UTC), notebook="mine.ipynb")
    mapper = router.mapper("Rate {{text}}", budget=budget).of_session(mine)
    assert set(mapper(frame())["_status"]) == {"ok"}
    result = router.map(few, "Say {{text}}", session=mine).compute()
    assert set(result["_status"]) == {"ok"}
    log = router.log()
    assert (set(log["session"]), set(log["notebook"])) == ({"mine"}, {"mine.ipynb"})


@pytest.mark.wire
@pytest.mark.parametrize("engine", ["Dask", "Ray", "Spark"])
def test_a_budget_is_refused_where_nothing_keeps_it(make_router: MakeRouter, engine: str) -> None:
    with pytest.raises(UsageError, match=f"nothing keeps it over the workers of {engine}. Nothing was sent"):
        make_router().map(lazy(engine), "Rate {{text}}", budget=1)
    with pytest.raises(UsageError, match=f"nothing keeps it over the workers of {engine}"):
        make_router(budget={"day": 1}).map(lazy(engine), "Rate {{text}}")


@pytest.mark.wire
@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"delivery": "batch"}, "one job of one process.*Nothing was sent. Map the rows here"),
        ({"delivery": "fast"}, "Unknown delivery 'fast'"),
        ({"pilot": 0}, "pilot must be a number of rows"),
        ({"tier": "pilot", "agreement": 2}, "agreement must lie between 0 and 1"),
    ],
)
def test_what_a_cluster_does_not_take(make_router: MakeRouter, options: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        make_router().map(lazy("Dask"), "Rate {{text}}", **options)


def lazy(engine: str) -> Any:
    """Return a stand-in for a frame, which is refused before it is looked at."""
    module = {"Dask": "dask.dataframe.dask_expr._collection", "Ray": "ray.data", "Spark": "pyspark.sql"}[engine]
    names = ("_meta", "map_partitions", "map_batches", "mapInArrow")
    return type("Lazy", (), {"__module__": module, **dict.fromkeys(names)})()


@pytest.mark.wire
@pytest.mark.parametrize("dry_run", [False, True])
def test_a_dataset_whose_columns_ray_does_not_know(make_router: MakeRouter, dry_run: bool) -> None:
    members = {"__module__": "ray.data", "map_batches": None, "columns": lambda _: None}
    with pytest.raises(UsageError, match="no rows, and so no columns that are known"):
        make_router().map(type("Dataset", (), members)(), "Rate {{text}}", dry_run=dry_run)


@pytest.mark.wire
@pytest.mark.parametrize("module", ["dask.bag.core", "ray._raylet", "pyspark.core.rdd"])
def test_what_has_no_table(make_router: MakeRouter, module: str) -> None:
    with pytest.raises(UsageError, match="which has no table to map over"):
        make_router().map(type("Bag", (), {"__module__": module})(), "Rate {{text}}")


def needed(name: str) -> Any:
    """Import what .ci/run installs: only elsewhere may a test be skipped for it."""
    return importlib.import_module(name) if os.environ.get("CI") else pytest.importorskip(name)


# --- Dask ---


@pytest.fixture
def few() -> Any:
    """A frame of Dask with 40 rows, of which 30 differ."""
    return needed("dask.dataframe").from_pandas(frame(), npartitions=4)


@pytest.mark.wire
def test_a_dry_run_counts_the_rows_of_a_cluster(make_router: MakeRouter, requests: list[Any], few: Any) -> None:
    plan = make_router().map(few, "Rate {{text}}", dry_run=True, budget=1)
    assert (plan.rows, plan.distinct, plan.asked, requests) == (40, 30, 30, [])


@pytest.mark.wire
def test_a_sample_stands_for_the_rows_of_a_cluster(make_router: MakeRouter, requests: list[Any]) -> None:
    data = needed("dask.dataframe").from_pandas(pd.DataFrame({"n": range(8000)}), npartitions=4)
    plan = make_router().map(data, "Rate {{n}}", dry_run=True)
    assert (plan.rows, plan.distinct, plan.asked, requests) == (8000, 8000, 8000, [])
    assert plan.sample == 2000
    assert "about 8,000 to send" in str(plan)


@pytest.mark.wire
def test_an_expensive_run_on_a_cluster_is_confirmed(make_router: MakeRouter, requests: list[Any], few: Any) -> None:
    options = {"prices": {"o/ok": {"input": 0, "output": 10_000}}, "batch": {"confirm_usd": 1}}
    router = make_router(**options)
    with pytest.raises(UsageError, match=r"would send 30 requests for likely .* Nothing was sent"):
        router.map(few, "Rate {{text}}")
    assert requests == []
    assert set(router.map(few, "Rate {{text}}", yes=True).compute()["_status"]) == {"ok"}


@pytest.mark.wire
def test_a_pilot_of_a_cluster_is_asked_here(
    make_router: MakeRouter, requests: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    # All differ: of rows that are drawn at random, two alike would be one request.
    few = needed("dask.dataframe").from_pandas(pd.DataFrame({"text": [f"row {n}" for n in range(40)]}), npartitions=4)
    router = make_router()
    result = router.map(few, "Rate {{text}}", pilot=5)
    assert list(result["_status"]) == ["ok"] * 5
    assert "pilot: 5 of 5 requests have an answer" in capsys.readouterr().out
    assert len(requests) == 5
    assert router.map(few, "Rate {{text}}").compute()["_cached"].sum() >= 5


@pytest.mark.wire
def test_a_pilot_picks_the_tier_of_a_cluster(
    make_router: MakeRouter, requests: list[Any], few: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    result = make_router().map(few, "Rate {{text}}", schema=SCHEMA, tier="pilot", pilot=3)
    assert "pilot: fast takes the rest" in capsys.readouterr().out
    assert set(result.compute()["_tier"]) == {"fast"}


@pytest.mark.wire
def test_flex_on_a_cluster(make_router: MakeRouter, requests: list[Any], few: Any) -> None:
    result = make_router().map(few, "Rate {{text}}", delivery="flex").compute()
    assert set(result["_status"]) == {"ok"}
    assert {body["service_tier"] for _, _, body in requests} == {"flex"}


@pytest.fixture(scope="module")
def dask() -> Iterator[Any]:
    """Four workers, each a process."""
    distributed = needed("distributed")
    options = {"n_workers": 4, "threads_per_worker": 1, "dashboard_address": ":0", "processes": True}
    patience = {f"distributed.comm.timeouts.{name}": "300s" for name in ("connect", "tcp")}  # on a slow machine
    with (
        needed("dask").config.set(patience),
        distributed.LocalCluster(**options) as cluster,
        distributed.Client(cluster, timeout="300s"),
    ):
        yield needed("dask.dataframe")


@pytest.mark.kernel
def test_dask(
    make_router: MakeRouter, server: FaultServer, requests: list[Any], dask: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    router = make_router()
    result = router.map(dask.from_pandas(frame(), npartitions=8), "Rate {{text}}", schema=SCHEMA)
    assert requests == []  # nothing is sent before it is computed
    assert "Dask: 4 workers, each with 1/4 of the limits" in capsys.readouterr().err
    computed = result.compute()
    assert list(computed.index) == list(range(100, 140))
    assert set(computed["_status"]) == {"ok"}
    assert set(computed["label"]) == {"a"}
    assert dict(computed.dtypes) == dict(result.dtypes)
    assert len(prompts(requests)) == 30  # equal rows are one call, on whichever workers they are
    # A Series has its one column under any name; what is in the cache costs nothing.
    again = router.map(dask.from_pandas(frame()["text"], npartitions=2), "Rate {{x}}", schema=SCHEMA).compute()
    assert again["_cached"].all()
    assert len(prompts(requests)) == 30
    assert list(router.runs()["status"]) == ["in parts"]
    with pytest.raises(UsageError, match="Did you mean 'text'"):
        router.map(dask.from_pandas(frame(), npartitions=2), "Rate {{tekst}}")


@pytest.mark.kernel
def test_a_worker_that_dies_costs_only_its_calls_in_flight(
    make_router: MakeRouter, server: FaultServer, requests: list[Any], dask: Any
) -> None:
    from distributed import default_client

    dead: list[int] = []
    pids = [pid for pid in default_client().run(os.getpid).values() if pid != os.getpid()]

    def deadly(body: dict[str, Any]) -> Reply:
        if len(requests) == 60 and not dead:
            dead.append(pids[0])
            os.kill(pids[0], signal.SIGKILL)
        return Reply(chat("ok"))

    server.replies["m"] = deadly
    data = dask.from_pandas(pd.DataFrame({"n": range(200)}), npartitions=16)
    result = make_router(mid=["o/m"]).map(data, "Repeat {{n}}", concurrency=8).compute()
    assert dead
    assert set(result["_status"]) == {"ok"}
    assert len(requests) - len(set(prompts(requests))) <= 2  # its share of the concurrency


@pytest.mark.kernel
def test_a_budget_holds_over_dasks_workers(make_router: MakeRouter, dask: Any) -> None:
    with postgres.database() as name:
        router = make_router(
            prices={"o/ok": {"input": 0, "output": 10}}, store={"url": postgres.server().url("alice", name)}
        )
        data = dask.from_pandas(pd.DataFrame({"n": range(100)}), npartitions=8)
        options = {"budget": "0.01", "max_output_tokens": 100}
        result = router.map(data, "Repeat {{n}}", **options).compute()
        spent = Decimal(str(router.log()["cost"].sum()))
        assert 0 < spent <= Decimal("0.01")
        assert "budget" in set(result["_status"])
        assert (result["_status"] == "ok").sum() == round(float(spent) / 0.0003)
        assert set(result["_status"]) <= {"ok", "budget", "not sent"}
        assert list(router.runs()["status"]) == ["in parts"]
        router.close()


# --- Ray ---


_RAY_WAITS = ("RAY_gcs_server_port_wait_time_s", "RAY_raylet_start_wait_time_s")  # seconds, on a slow machine


@pytest.fixture(scope="module")
def ray() -> Iterator[Any]:
    """Ray of its own."""
    module = needed("ray")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (("RAY_USAGE_STATS_ENABLED", "0"), *((name, "300") for name in _RAY_WAITS)):
            patch.setenv(name, value)
        module.init(num_cpus=3, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
        needed("ray.data").DataContext.get_current().enable_progress_bars = False
        yield module
        module.shutdown()


@ENGINES
@pytest.mark.kernel
def test_ray(make_router: MakeRouter, requests: list[Any], ray: Any, capsys: pytest.CaptureFixture[str]) -> None:
    router = make_router()
    result = router.map(ray.data.from_pandas(frame()), "Rate {{text}}", schema=SCHEMA)
    assert requests == []
    assert "Ray: 2 workers, each with 1/2 of the limits" in capsys.readouterr().err
    computed = result.to_pandas()
    assert sorted(computed["n"]) == list(range(40))  # batches come in any order: the answers come with their rows
    assert set(computed["_status"]) == {"ok"}
    assert set(computed["many"]) == {'["text"]'}
    assert len(requests) == 30
    with pytest.raises(UsageError, match="columns of the same name as the data: 'answer'"):
        router.map(ray.data.from_pandas(frame().rename(columns={"n": "answer"})), "Rate {{text}}")
    with pytest.raises(UsageError, match="Did you mean 'text'"):
        router.map(ray.data.from_pandas(frame()), "Rate {{tekst}}")


# --- Spark: `nox -s spark` ---


@ENGINES
@pytest.mark.kernel
@pytest.mark.parametrize("connect", [False, True], ids=["classic", "connect"])
def test_spark(
    make_router: MakeRouter,
    requests: list[Any],
    connect: bool,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PYSPARK_PYTHON", sys.executable)
    sql = pytest.importorskip("pyspark.sql")
    if connect:
        pytest.importorskip("grpc_status")
    builder = sql.SparkSession.builder.config("spark.ui.enabled", "false")
    session = (builder.remote("local[2]") if connect else builder.master("local[2]")).getOrCreate()
    try:
        router = make_router()
        data = session.createDataFrame([(text, n, [n]) for n, text in enumerate(ROWS)], ["text", "n", "list"])
        result = router.map(data, "Rate {{text}}", schema=SCHEMA)
        plan = router.map(data, "Rate {{text}}", dry_run=True)
        assert requests == []
        rows = result.collect()
        with pytest.raises(UsageError, match="Did you mean 'text'"):
            router.map(data, "Rate {{tekst}}")
        with pytest.raises(UsageError, match="columns of the same name as the data: 'answer'"):
            router.map(data.withColumnRenamed("n", "answer"), "Rate {{text}}")
    finally:
        session.stop()
    assert "Spark: 2 workers" in capsys.readouterr().err
    assert (plan.rows, plan.distinct) == (40, 30)
    assert sorted((row["n"], *row["list"]) for row in rows) == [(n, n) for n in range(40)]
    assert {row["_status"] for row in rows} == {"ok"}
    assert {(row["label"], row["score"], row["count"], row["many"]) for row in rows} == {("a", 0.5, 1, '["text"]')}
    assert len(requests) == 30


@pytest.mark.wire
def test_answers_come_with_their_rows_where_there_is_no_index(make_router: MakeRouter) -> None:
    """What an actor of Ray's and a task of Spark's do with a table."""
    mapper = dataclasses.replace(make_router().mapper("Rate {{text}}", schema=SCHEMA), joins=True)
    table = RayActor(pickle.loads(pickle.dumps(mapper)))(pa.table({"text": ["a", None], "n": [1, 2]}))
    assert table.column_names == ["text", "n", *mapper.dtypes]
    assert table["many"].to_pylist() == ['["text"]', None]
    assert table["_status"].to_pylist() == ["ok", "missing"]
    (batch,) = table.to_batches()
    (again,) = _spark_batches(mapper, iter([batch.select(["text", "n"])]))
    assert again.schema == table.schema
    assert again["_cached"].to_pylist() == [True, False]
