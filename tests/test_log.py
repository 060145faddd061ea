"""The log as a DataFrame: documented columns, exact sums, filters that SQLite applies."""

from __future__ import annotations

import datetime as dt
import re
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pandas as pd
import pytest

from ipyrouter.errors import UsageError
from ipyrouter.reporting import log
from ipyrouter.router import Router
from ipyrouter.store.sqlite import bulk

MakeRouter = Callable[..., Router]
CATEGORIES = {
    "session", "notebook", "user", "team", "tags", "tier", "routed_tier", "escalated_from", "fallback_from", "provider",
    "model", "status", "price_id", "rates", "finish", "error_kind", "error", "feedback",
}  # fmt: skip


def test_columns_and_dtypes_are_those_that_are_documented(make_router: MakeRouter) -> None:
    router = make_router(fast=["o/short"], mid=["o/status-503", "a/ok"])
    empty = router.log()
    router.route("what is a list " + "x " * 40)
    for frame in (empty, router.log(), router.log(content=False)):
        assert tuple(frame.columns) == log.COLUMNS
        assert str(frame["time"].dtype) == "datetime64[us, UTC]"
        assert {name for name in frame if isinstance(frame[name].dtype, pd.CategoricalDtype)} == CATEGORIES
        assert list(frame["tier"].cat.categories) == ["fast", "mid", "power"]
        assert frame["tier"].cat.ordered
        assert {str(frame[name].dtype) for name in frame if name.endswith("_tokens")} == {"int64"}
        assert {str(frame[name].dtype) for name in ("cost_pico", "saved_pico")} == {"Int64"}
        for name in ("cost", "saved", "latency", "first_token", "difficulty"):
            assert frame[name].dtype == "float64", name
        assert frame["estimated"].dtype == "bool"
    documented = set(re.findall(r"\w+", log.log_frame.__doc__ or ""))
    assert documented >= set(log.COLUMNS)


def test_a_row_says_what_the_answer_said(make_router: MakeRouter) -> None:
    router = make_router(fast=["o/short"], mid=["o/status-503", "a/ok"])
    before = pd.Timestamp.now("UTC").floor("us")
    answer = router.route("what is a list " + "x " * 40)
    frame = router.log()
    assert list(frame["status"]) == ["weak", "error", "ok"]
    assert set(frame["answer_id"]) == {answer.id}
    assert set(frame["escalated_from"]) == {"fast"}
    assert set(frame["fallback_from"]) == {"o/status-503"}
    assert frame["time"].between(before, pd.Timestamp.now("UTC")).all()
    assert log.exact(frame["cost_pico"]) == answer.cost
    for attempt, (_, row) in zip(answer.attempts, frame.iterrows(), strict=True):
        assert (row["provider"], row["model"]) == (attempt.candidate.provider, attempt.candidate.model)
        assert row["input_tokens"] == attempt.usage.input_tokens
        assert row["output_tokens"] == attempt.usage.output_tokens
        assert row["latency"] == pytest.approx(attempt.latency, abs=1e-8)
        assert pd.isna(row["first_token"]) == (attempt.first_token is None)
        assert (None if pd.isna(row["error"]) else row["error"]) == attempt.error
    assert list(frame["text"].str[:3]) == ["No.", "", answer.text[:3]]


@pytest.mark.parametrize(
    "prompt", ["a\x1eb", "a,b;'\"", "nul\x00after", "日本語 ünï 🎉", "line\nbreak\r\n", "-1", "nan", "\x1f|" * 3]
)
def test_texts_come_back_as_they_were(make_router: MakeRouter, prompt: str) -> None:
    router = make_router()
    session = replace(router.session, notebook=f"/home/{prompt.replace(chr(0), '')}.ipynb")
    router.route("before", session=session)
    router.route(prompt, session=session)
    router.route("after", session=session)
    frame = router.log()
    assert list(frame["prompt"]) == ["before", prompt, "after"]
    assert set(frame["notebook"]) == {session.notebook}
    without = make_router(log={"content": False})
    without.route("Nothing is kept")
    assert list(without.log()["prompt"]) == ["before", prompt, "after", None]


def test_order_and_every_row_beyond_one_part(make_router: MakeRouter, home: Path) -> None:
    """Ids out of step with times, several attempts at parts' ends: nothing is lost or doubled."""
    router = make_router()
    router.route("Explain closures")
    row = router.log()
    count = 2 * bulk.PART + 17
    with sqlite3.connect(home / "ipyrouter.db") as connection:
        for table in ("answers", "attempts"):
            names = [column[1] for column in connection.execute(f"PRAGMA table_info({table})")]
            key = "id" if table == "answers" else "answer_id"
            for number in range(count):
                for n in range(1 if table == "answers" else 2):
                    values = {key: f"'{number:06}'", "time": f"{10**15 + (number * 7919) % count}"}
                    values |= {"n": str(n), "cost_pico": f"{10**18 + number}"}
                    sources = ", ".join(values.get(name, name) for name in names)
                    connection.execute(f"INSERT INTO {table} SELECT {sources} FROM {table} WHERE {key} = ?",
                                       (row["answer_id"][0],))  # fmt: skip
    connection.close()
    frame = router.log()
    assert len(frame) == 2 * count + 1
    assert frame["time"].is_monotonic_increasing
    assert frame["answer_id"].value_counts().to_dict() == {row["answer_id"][0]: 1} | {
        f"{n:06}": 2 for n in range(count)
    }
    expected = 2 * sum(10**18 + number for number in range(count)) + int(row["cost_pico"][0])
    assert expected > 2**63  # what a plain sum of 64 bits would get wrong
    assert log.exact(frame["cost_pico"]) == Decimal(expected).scaleb(-12)
    assert router.report(span="all").total == Decimal(expected).scaleb(-12)
    late = dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(microseconds=10**15 + 100)
    assert len(router.log(until=late)) == 200
    assert len(router.log(since=late)) == len(frame) - 200
    assert len(router.log(since=late, until=late)) == 0


def test_every_condition_is_applied_alone_and_together(make_router: MakeRouter) -> None:
    router = make_router(power=["a/ok"], mid=["o/status-503", "o/ok"])
    one, two = (replace(router.session, notebook=name) for name in ("one.ipynb", "two.ipynb"))
    router.route("Explain closures", session=one)
    router.route("Explain generators", tier="power", session=two)
    router.route("Explain generators", tier="power", session=two)
    frame = router.log()
    for name in ("tier", "model", "session", "notebook", "status"):
        for value in frame[name].unique():
            expected = frame[frame[name] == value]
            actual = router.log(**{name: value})
            assert list(actual["answer_id"]) == list(expected["answer_id"]), (name, value)
            assert list(actual["status"]) == list(expected["status"]), (name, value)
    assert len(router.log(tier="power", status="ok", notebook="two.ipynb")) == 1
    assert len(router.log(tier="power", status="ok", notebook="one.ipynb")) == 0
    with pytest.raises(UsageError, match="is not a valid date"):
        router.log(since="soon")


def test_texts_beyond_sqlites_longest_are_read_in_parts(make_router: MakeRouter) -> None:
    router = make_router()
    for number in range(20):
        router.route(f"Explain closures {number} " + "x" * 5000)
    whole = router.log()
    limit = (sqlite3.SQLITE_LIMIT_LENGTH, 20_000)
    router.store._database._connections.use(lambda one: one.sql.setlimit(*limit))  # type: ignore[attr-defined]
    pd.testing.assert_frame_equal(router.log(), whole)
    assert len(whole) == 20


@pytest.mark.parametrize(
    ("name", "hint"), [("day", "Use since= and until="), ("date", "Use since= and until="), ("teir", "'tier'?")]
)
def test_an_unknown_condition_names_the_right_one(make_router: Callable[..., Router], name: str, hint: str) -> None:
    with pytest.raises(UsageError) as raised:
        make_router().log(**{name: "2026-11-23"})
    assert f"cost_log() has no condition {name!r}." in str(raised.value)
    assert hint in str(raised.value)
