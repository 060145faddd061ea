"""A prompt over the frames of Dask, Ray and Spark, on real local clusters."""

from __future__ import annotations

import concurrent.futures
import contextlib
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

from ipyrouter.batch.engines import Mapper
from ipyrouter.batch.limits import shared
from ipyrouter.config.model import RateLimits
from ipyrouter.errors import NoModelError, UsageError
from ipyrouter.router import Router
from tests import postgres
from tests.faults.server import FaultServer, Reply, chat

MakeRouter = Callable[..., Router]
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
def test_keys_are_read_where_the_mapper_works(make_router: MakeRouter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("O_KEY", "sk-a-secret-of-here")
    router = make_router(mid=["k/ok"], providers={"k": {"sdk": "openai", "base_url": "http://x", "key": "O_KEY"}})
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
    ],
)
def test_what_a_mapper_does_not_take(make_router: MakeRouter, options: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        make_router().mapper("Rate {{text}}", **options)(["a"])


def test_workers_share_the_limits() -> None:
    limits = {"m": RateLimits(6000, None), "n": RateLimits(None, 3)}
    assert shared(limits, 4) == {"m": RateLimits(1500, None), "n": RateLimits(None, 1)}


@pytest.mark.wire
def test_workers_share_the_concurrency(make_router: MakeRouter, server: FaultServer, requests: list[Any]) -> None:
    server.delay = 0.05
    busy = server.most_at_once = 0  # type: ignore[attr-defined]
    del busy
    make_router().mapper("Rate {{text}}", concurrency=4, workers=4)([str(n) for n in range(6)])
    server.delay = 0.0
    assert len(requests) == 6


# --- budgets ---


def _spend(mapper: Mapper, rows: list[str]) -> list[str]:
    return list(mapper(rows)["_status"])


@pytest.mark.kernel
def test_a_budget_holds_over_processes(make_router: MakeRouter) -> None:
    router = make_router(prices={"o/ok": {"input": 0, "output": 10}})  # 30 tokens: $0.0003 an answer
    mapper = router.mapper("Repeat {{x}}", budget="0.01", max_output_tokens=100)
    parts = [[str(n) for n in range(start, 100, 4)] for start in range(4)]
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(4, mp_context=context) as pool:
        statuses = [status for part in pool.map(_spend, [mapper] * 4, parts) for status in part]
    log = router.log()
    assert set(log["session"]) == {mapper.session.id}
    assert Decimal("0.008") < Decimal(str(log["cost"].sum())) <= Decimal("0.01")
    assert statuses.count("ok") == (log["status"] == "ok").sum()
    assert set(statuses) <= {"ok", "budget", "not sent"}


@pytest.mark.wire
def test_a_run_has_one_budget_on_workers(make_router: MakeRouter) -> None:
    with pytest.raises(UsageError, match="one budget for a session or for a run"):
        make_router(budget={"session": 1}).mapper("Repeat {{x}}", budget=1)
