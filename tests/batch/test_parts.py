"""The parts of a run by themselves: limits, headers, templates, columns."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
from typing import Any, Literal

import pandas as pd
import pydantic
import pytest

from ipyrouter.batch.columns import dtypes_of, values_of
from ipyrouter.batch.limits import Bucket, Lane
from ipyrouter.batch.tables import read_table
from ipyrouter.batch.template import Missing, Template, is_missing
from ipyrouter.providers.allowances import Allowance, allowances
from ipyrouter.schemas import schema_of

# --- limits ---


def test_a_bucket_lets_no_more_through_than_its_rate() -> None:
    bucket, now, times = Bucket(10, 10, 0.0), 0.0, []
    for _ in range(605):
        now += bucket.wait(1, now)
        bucket.take(1, now)
        times.append(now)
    assert times[9] == 0.0
    assert times[-1] == pytest.approx(59.5)


def test_what_is_larger_than_the_bucket_waits_for_a_full_one() -> None:
    bucket = Bucket(10, 1, 0.0)
    bucket.take(5, 0.0)
    assert bucket.wait(100, 0.0) == 5
    bucket.take(100, 5.0)
    assert bucket.wait(1, 5.0) == 91


def test_a_bucket_follows_the_headers() -> None:
    bucket = Bucket(10, 1, 0.0)
    bucket.learn(Allowance("requests", 100, 40, 6.0), in_flight=38, now=0.0)  # 60 come back in 6 s: 10 a second
    assert bucket.wait(2, 0.0) == 0
    assert bucket.wait(12, 0.0) == pytest.approx(1.0)


def test_the_window_grows_with_answers_and_falls_once_for_a_burst_of_429s() -> None:
    lane = Lane(64, {})
    for _ in range(48):
        lane.in_flight = int(lane.window)
        lane.answered(10, 10, 5, (), 0.0)
    assert lane.window == 64
    for _ in range(30):
        lane.refused(begun=0.5, retry_after=2.0, now=1.0)
    assert lane.window == pytest.approx(64 * 0.7)
    assert lane.refusals == 30
    assert lane.wait(1, 1.0) == pytest.approx(2.0)
    assert lane.wait(1, 3.0) == 0
    lane.refused(begun=3.5, retry_after=None, now=4.0)
    assert lane.window == pytest.approx(64 * 0.49)
    lane.in_flight = 64
    before = lane.window
    lane.answered(10, 10, 5, (), 5.0)
    assert lane.window == pytest.approx(before + 1 / before)  # by one a round now


def test_a_quiet_window_does_not_grow() -> None:
    lane = Lane(64, {})
    lane.in_flight, before = 1, lane.window
    lane.answered(10, 10, 5, (), 0.0)
    assert lane.window == before < 64


def test_tokens_count_as_they_really_were() -> None:
    lane = Lane(8, {"tokens": 60_000})  # 1,000 a second
    lane.take(1000, 1e9)
    lane.answered(1000, 400, 100, (), 1e9)
    assert lane.wait(600, 1e9) == 0
    assert lane.wait(900, 1e9) == pytest.approx(0.3)


# --- what headers say ---


@pytest.mark.parametrize(
    ("text", "seconds"), [("1s", 1), ("6m0s", 360), ("120ms", 0.12), ("1.5", 1.5), ("1h2m3.5s", 3723.5)]
)
def test_openais_headers(text: str, seconds: float) -> None:
    headers = {"x-ratelimit-limit-requests": "500", "x-ratelimit-remaining-requests": "499"}
    (allowance,) = allowances({**headers, "x-ratelimit-reset-requests": text})
    assert allowance == Allowance("requests", 500, 499, pytest.approx(seconds))


def test_anthropics_headers() -> None:
    reset = (dt.datetime.now(dt.UTC) + dt.timedelta(seconds=30)).isoformat().replace("+00:00", "Z")
    headers = {
        "anthropic-ratelimit-tokens-limit": "80000",
        "anthropic-ratelimit-tokens-remaining": "79000",
        "anthropic-ratelimit-tokens-reset": reset,
    }
    (allowance,) = allowances(headers)
    assert allowance[:3] == ("tokens", 80_000, 79_000)
    assert 25 < allowance.reset <= 30


@pytest.mark.parametrize("reset", ["soon", "", "1764408000", "5 apples", "2026-11-29T12:00:00", "-3s"])
def test_headers_that_say_nothing(reset: str) -> None:
    headers = {"x-ratelimit-limit-requests": "500", "x-ratelimit-remaining-requests": "499"}
    assert allowances({**headers, "x-ratelimit-reset-requests": reset}) == ()
    assert allowances({**headers, "x-ratelimit-limit-requests": "many", "x-ratelimit-reset-requests": "1s"}) == ()
    assert allowances(headers) == ()


# --- templates ---


def fill(data: Any, text: str, **variables: Any) -> list[str | Missing]:
    return list(Template(text, read_table(data), variables).fill())


def test_columns_come_before_variables() -> None:
    frame = pd.DataFrame({"a": [1, 2], "b c": ["x", "y"]})
    assert fill(frame, "{{a}} {{ b c }} {{v}} {no} {{{{}}", a="never", v=3) == [
        "1 x 3 {no} {{{{}}",
        "2 y 3 {no} {{{{}}",
    ]


def test_a_value_with_braces_is_not_filled_again() -> None:
    assert fill(["{{v}}"], "{{x}}", v="secret") == ["{{v}}"]


@pytest.mark.parametrize("value", [None, float("nan"), pd.NA, pd.NaT])
def test_what_is_missing(value: Any) -> None:
    assert is_missing(value)
    assert not is_missing("nan")
    assert not is_missing(0)
    assert not is_missing(pd.Series([1]))


def test_a_value_whose_str_fails_costs_its_row_alone() -> None:
    class Bad:
        def __str__(self) -> str:
            raise RuntimeError("no")

    assert fill([Bad(), "b"], "{{x}}") == [Missing("str() of the value raised RuntimeError"), "b"]


# --- columns ---


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Inner(pydantic.BaseModel):
    n: int


class Model(pydantic.BaseModel):
    colour: Colour
    label: Literal["a", "b"]
    maybe: int | None
    inner: Inner
    many: list[str] = pydantic.Field(alias="several")


@dataclasses.dataclass
class Plain:
    x: int
    y: str = ""


def test_a_models_fields_are_columns() -> None:
    kinds = dtypes_of(schema_of(Model))
    assert kinds == {"colour": ("red", "blue"), "label": ("a", "b"), "maybe": int, "inner": None, "several": None}
    data = Model(colour=Colour.RED, label="a", maybe=None, inner=Inner(n=1), several=["x"])
    assert values_of(data, kinds) == {
        "colour": "red", "label": "a", "maybe": None, "inner": {"n": 1}, "several": ["x"],
    }  # fmt: skip


def test_other_schemas() -> None:
    assert dtypes_of(None) == {"answer": str}
    assert dtypes_of(schema_of(Plain)) == {"x": int, "y": str}
    assert values_of(Plain(1), dtypes_of(schema_of(Plain))) == {"x": 1, "y": ""}
    assert dtypes_of(schema_of(list[str])) == {"answer": None}
    assert values_of(["a"], {"answer": None}) == {"answer": ["a"]}
    assert dtypes_of(schema_of({"answer": bool})) == {"answer": bool}
    assert values_of({"answer": True}, {"answer": bool}) == {"answer": True}
