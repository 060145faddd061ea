"""The tier that is good enough, by the user's own rows."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from ipyrouter.batch.pilot import TierFigures, is_same, spread
from ipyrouter.errors import UsageError
from ipyrouter.router import Router
from ipyrouter.routing.requests import make_request
from tests.faults.server import FaultServer, Reply, chat

pytestmark = pytest.mark.wire
MakeRouter = Callable[..., Router]
SCHEMA = {"even": bool}


def right_up_to(server: FaultServer, name: str, most: int) -> str:
    """Let a model say whether a number is even, rightly up to a number."""

    def answer(body: dict[str, Any]) -> Reply:
        number = int(body["messages"][-1]["content"].split()[-1])
        return Reply(chat(json.dumps({"even": (number % 2 == 0) == (number <= most)})))

    server.replies[name] = answer
    return f"o/{name}"


@pytest.fixture
def router(make_router: MakeRouter, server: FaultServer) -> Router:
    tiers = {tier: [right_up_to(server, tier, most)] for tier, most in (("fast", 10), ("mid", 98), ("power", 1000))}
    prices = {f"o/{name}": {"input": 0, "output": rate} for name, rate in (("fast", 1), ("mid", 10), ("power", 100))}
    return make_router(**tiers, prices=prices)


def test_the_cheapest_tier_that_agrees_takes_the_rest(
    router: Router, requests: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    result = router.map([str(n) for n in range(100)], "Is it even? {{n}}", schema=SCHEMA, tier="pilot", pilot=20)
    assert set(result["_tier"]) == {"mid"}
    models = [body["model"] for _, _, body in requests]
    assert (models.count("power"), models.count("fast"), models.count("mid")) == (20, 20, 100)
    printed = capsys.readouterr().out
    assert "pilot: mid takes the rest" in printed
    assert "fast: 3 of 20 rows agree" in printed
    assert "mid: 20 of 20 rows agree (84% to 100% of all)" in printed
    log = router.log()
    assert (log[log["tier"] == "fast"]["feedback"] == "bad").sum() == 17
    assert (log[log["tier"] == "fast"]["feedback"] == "good").sum() == 3


def test_a_stricter_agreement_takes_the_strongest(router: Router, requests: list[Any]) -> None:
    numbers = [str(n) for n in range(90, 110)]
    result = router.map(numbers, "Is it even? {{n}}", schema=SCHEMA, tier="pilot", pilot=20, agreement=1)
    assert set(result["_tier"]) == {"power"}
    assert len([body for _, _, body in requests if body["model"] == "power"]) == 20  # the pilot's rows are kept


def test_answers_in_words_have_a_judge(make_router: MakeRouter, server: FaultServer, requests: list[Any]) -> None:
    server.replies["cheap"] = lambda body: Reply(chat("Yes, it is."))

    def strong(body: dict[str, Any]) -> Reply:
        text = body["messages"][-1]["content"]
        if "Two answers" not in text:
            return Reply(chat("Indeed."))
        task = json.loads(text.partition("\n")[2])
        assert (task["answer 1"], task["answer 2"]) == ("Yes, it is.", "Indeed.")
        return Reply(chat('{"agree": true}'))

    server.replies["strong"] = strong
    router = make_router(fast=["o/cheap"], mid=["o/strong"], power=["o/strong"])
    result = router.map(["a", "b", "c"], "Is it so? {{x}}", tier="pilot")
    assert set(result["_tier"]) == {"fast"}
    assert set(result["answer"]) == {"Yes, it is."}


def test_a_pilot_alone_asks_some_rows_and_extrapolates(
    router: Router, requests: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    numbers = [str(n) for n in range(100)]
    result = router.map(numbers, "Is it even? {{n}}", schema=SCHEMA, tier="power", pilot=10)
    assert len(requests) == 10
    assert (result["_status"] == "ok").sum() == 10
    assert set(result[result["_status"] != "ok"]["_error"]) == {"not part of the pilot"}
    assert "10 of 10 requests have an answer; all 100 will likely cost $0.30" in capsys.readouterr().out
    whole = router.map(numbers, "Is it even? {{n}}", schema=SCHEMA, tier="power")
    assert whole["_cached"].sum() == 10


@pytest.mark.parametrize(
    ("options", "words"),
    [({"pilot": 0}, "number of rows"), ({"pilot": "x"}, "number of rows"), ({"agreement": 2}, "between 0 and 1")],
)
def test_what_cannot_be(router: Router, requests: list[Any], options: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        router.map(["1"], "Is it even? {{n}}", tier="pilot", **options)
    assert requests == []


def test_without_an_answer_of_the_strongest_there_is_nothing_to_compare(make_router: MakeRouter) -> None:
    router = make_router(power=["o/status-400"])
    with pytest.raises(UsageError, match=r"no answer of the tier power to compare with.*at least one is required"):
        router.map(["1"], "Is it even? {{n}}", tier="pilot")


def test_intervals_and_values() -> None:
    low, high = TierFigures("fast", 40, 38, {}, None).interval
    assert (low, high) == (pytest.approx(0.835, abs=0.002), pytest.approx(0.986, abs=0.002))
    assert TierFigures("fast", 0, 0, {}, None).interval == (0, 1)
    assert spread([make_request(str(n)) for n in range(10)], 4) == [0, 2, 5, 7]
    assert spread([make_request("a")], 4) == [0]
    same = [("A b", " a  B "), (1.0, 1.04), (3, 3), (True, True), (["a"], ["a"]), (None, None)]
    other = [("a", "b"), (1.0, 1.2), (True, 1), ({"a": 1}, {"a": 2}), (None, "a")]
    assert all(is_same(*pair) for pair in same)
    assert not any(is_same(*pair) for pair in other)
