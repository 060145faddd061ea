"""Uses of the public interface that every type checker must accept. Nothing here is run."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime as dt
from decimal import Decimal
from typing import TYPE_CHECKING, Any, TypedDict, assert_type

import pydantic

import ipyrouter
from ipyrouter import Answer, Classification, IPyRouterError, Message, Router
from ipyrouter.errors import CallError, RouteError, SchemaError
from ipyrouter.types import Prompt, TextPart

if TYPE_CHECKING:
    import pandas as pd

    from ipyrouter.types import Delta, RouteOptions


def show(delta: Delta) -> None:
    print(delta.text, delta.tier, delta.candidate.model)


assert_type(ipyrouter.__version__, str)

answer = ipyrouter.route("What is a list?")
assert_type(answer, Answer[None])
assert_type(answer.data, None)
assert_type(answer.text, str)
assert_type(ipyrouter.route(Prompt((TextPart("What is a list?"),))), Answer[None])
assert_type(answer.cost, Decimal | None)
assert_type(answer.classification, Classification)

ipyrouter.route(
    "What is a list?",
    system="Be brief.",
    history=[Message("user", "Hello"), Message("assistant", "Hello!")],
    tier="fast",
    max_output_tokens=100,
    temperature=0.5,
    cache="refresh",
    escalate=False,
    allow_large=True,
    effort="low",
    json=True,
    show_thinking=True,
    on_delta=show,
)
ipyrouter.route("What is a list?", tier=None, model="openai/gpt-4o", cache="off")
options: RouteOptions = {"tier": "power", "max_output_tokens": 100}
ipyrouter.route("What is a list?", **options)

assert_type(asyncio.run(ipyrouter.aroute("What is a list?", tier="fast")), Answer[None])


class Review(pydantic.BaseModel):
    sentiment: str
    score: float


@dataclasses.dataclass
class City:
    name: str


class Row(TypedDict):
    label: str


assert_type(ipyrouter.route("x", schema=Review), Answer[Review])
assert_type(ipyrouter.route("x", schema=Review, tier="fast").data.score, float)
assert_type(ipyrouter.route(Prompt((TextPart("x"),)), schema=Review, effort="low"), Answer[Review])
assert_type(ipyrouter.route("x", schema=City).data, City)
assert_type(ipyrouter.route("x", schema=Row).data["label"], str)
assert_type(ipyrouter.route("x", schema=list[Review]).data, list[Review])
assert_type(ipyrouter.route("x", schema=int).data, int)
assert_type(ipyrouter.route("x", schema={"label": ["a", "b"], "score": float}).data, Any)
assert_type(ipyrouter.route("x", schema={"type": "object", "properties": {}}), Answer[Any])
assert_type(asyncio.run(ipyrouter.aroute("x", schema=Review)).data, Review)
assert_type(ipyrouter.default_router().route("x", schema=City).data, City)
ipyrouter.default_router().preview("x", schema=Review, effort="high")
anything: Answer = ipyrouter.route("x", schema=Review)
wider: Answer[pydantic.BaseModel] = ipyrouter.route("x", schema=Review)
try:
    ipyrouter.route("x", schema=Review)
except SchemaError as wrong:
    assert_type(wrong.text, str)

log: pd.DataFrame = ipyrouter.cost_log()
ipyrouter.cost_log(since="2026-11-01", until=dt.date(2026, 12, 1), tier="fast", status="ok", content=False)
ipyrouter.cost_log(since=dt.datetime.now(dt.UTC), model="gpt-4o", session="abc", notebook="a.ipynb")

assert_type(ipyrouter.classify("What is a list?"), Classification)
assert_type(ipyrouter.daily_report().brief, str)
ipyrouter.daily_report("2026-11-23")
ipyrouter.daily_report(dt.date(2026, 11, 23))

router = Router({"preset": "article"}, home="folder", progress=print)
assert_type(router.route("What is a list?", tier="mid", on_delta=show), Answer[None])
assert_type(router.preview("What is a list?", tier="mid").cached, bool)
router.log(tier="fast", since="2026-11-01")
assert_type(router.classify("What is a list?"), Classification)
assert_type(ipyrouter.default_router(), Router)
ipyrouter.use_router(router)
ipyrouter.use_router(None)

try:
    ipyrouter.route("What is a list?")
except RouteError as failed:
    assert_type(failed.fault, CallError | None)
    assert_type(failed.attempts[0].fault, CallError | None)
except IPyRouterError as error:
    assert_type(str(error), str)
