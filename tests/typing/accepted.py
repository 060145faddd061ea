"""Uses of the public interface that every type checker must accept. Nothing here is run."""

from __future__ import annotations

import asyncio
import datetime as dt
from decimal import Decimal
from typing import TYPE_CHECKING, assert_type

import ipyrouter
from ipyrouter import Answer, Classification, IPyRouterError, Message, Router
from ipyrouter.errors import CallError, RouteError
from ipyrouter.types import Prompt, TextPart

if TYPE_CHECKING:
    import pandas as pd

    from ipyrouter.types import Delta, RouteOptions


def show(delta: Delta) -> None:
    print(delta.text, delta.tier, delta.candidate.model)


assert_type(ipyrouter.__version__, str)

answer = ipyrouter.route("What is a list?")
assert_type(answer, Answer)
assert_type(answer.text, str)
assert_type(ipyrouter.route(Prompt((TextPart("What is a list?"),))), Answer)
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
    on_delta=show,
)
ipyrouter.route("What is a list?", tier=None, model="openai/gpt-4o", cache="off")
options: RouteOptions = {"tier": "power", "max_output_tokens": 100}
ipyrouter.route("What is a list?", **options)

assert_type(asyncio.run(ipyrouter.aroute("What is a list?", tier="fast")), Answer)

log: pd.DataFrame = ipyrouter.cost_log()
ipyrouter.cost_log(since="2026-11-01", until=dt.date(2026, 12, 1), tier="fast", status="ok", content=False)
ipyrouter.cost_log(since=dt.datetime.now(dt.UTC), model="gpt-4o", session="abc", notebook="a.ipynb")

assert_type(ipyrouter.classify("What is a list?"), Classification)
assert_type(ipyrouter.daily_report().brief, str)
ipyrouter.daily_report("2026-11-23")
ipyrouter.daily_report(dt.date(2026, 11, 23))

router = Router({"preset": "article"}, home="folder", progress=print)
assert_type(router.route("What is a list?", tier="mid", on_delta=show), Answer)
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
