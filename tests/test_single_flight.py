"""The cache's key, and who waits for whom: no server, no second."""

from __future__ import annotations

import hashlib
import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from ipyrouter import config
from ipyrouter.config import Deadlines
from ipyrouter.providers.base import Call
from ipyrouter.routing.planner import Step, TierPlan
from ipyrouter.routing.recorder import RequestRun
from ipyrouter.routing.requests import make_request
from ipyrouter.routing.single_flight import CLAIM_GRACE_SECONDS, SingleFlight
from ipyrouter.schemas import schema_of
from ipyrouter.store.base import Claim
from ipyrouter.store.owners import new_owner
from ipyrouter.store.sqlite import SQLiteStore
from ipyrouter.types import Candidate, ImagePart, Message, PdfPart, Prompt, TextPart
from tests.store.conftest import DAY, SESSION, Happening, ManualClock, a_record

CALL = Call("o", "openai", "https://h/v1", "m", None, (Message("user", "hi"),), 100, None)
OTHERS = {
    "provider": "p",
    "sdk": "anthropic",
    "base_url": "https://elsewhere/v1",
    "model": "n",
    "system": "Be brief.",
    "messages": (Message("assistant", "hi"),),
    "max_output_tokens": 101,
    "temperature": 0.0,
    "effort": "low",
    "schema": schema_of({"score": float}),
    "json": True,
    "show_thinking": True,
    "extra": "a digest",
}
CHANGES_NO_ANSWER = {"conversation": True, "flex": True}


@pytest.mark.parametrize("name", [one.name for one in fields(Call) if one.init and one.name not in CHANGES_NO_ANSWER])
def test_each_value_of_a_call_is_in_its_cache_key(name: str) -> None:
    assert replace(CALL, **{name: OTHERS[name]}).key() != CALL.key()
    assert replace(CALL, **{name: getattr(CALL, name)}).key() == CALL.key()


@pytest.mark.parametrize("name", CHANGES_NO_ANSWER)
def test_what_changes_no_answer_changes_no_key(name: str) -> None:
    assert replace(CALL, **{name: CHANGES_NO_ANSWER[name]}).key() == CALL.key()


def test_what_messages_say_and_their_order_are_in_the_cache_key() -> None:
    one, two = Message("user", "one"), Message("user", "two")
    keys = {replace(CALL, messages=messages).key() for messages in ((one,), (two,), (one, two), (two, one), ())}
    assert len(keys) == 5


HELLO, PICTURE = TextPart("hi"), ImagePart("A picture:", "a cat", b"png", "image/png", 1, 1)
DOCUMENT = PdfPart(PICTURE.text, PICTURE.words, PICTURE.data, "cat.pdf", 1)


def test_what_pictures_and_documents_hold_is_in_the_cache_key() -> None:
    contents = (
        (HELLO, PICTURE), (PICTURE, HELLO), (PICTURE,), (PICTURE, PICTURE), (HELLO, DOCUMENT),
        (HELLO, replace(PICTURE, data=b"jpg")), (HELLO, replace(PICTURE, text="Another picture:")),
    )  # fmt: skip
    keys = {replace(CALL, messages=(Message("user", Prompt(parts)),)).key() for parts in contents}
    assert len(keys) == len(contents)


def test_a_new_release_finds_the_answers_about_pictures_too() -> None:
    call = replace(CALL, messages=(Message("user", Prompt((HELLO, PICTURE), notes=("A note.",))),))
    turn = ["user", ["hi", "A picture:", ["ImagePart", hashlib.sha256(b"png").hexdigest()]]]
    written = {
        "base_url": "https://h/v1", "effort": None, "json": False, "max_output_tokens": 100, "messages": [turn],
        "model": "m", "provider": "o", "schema": None, "sdk": "openai", "show_thinking": False, "system": None,
        "temperature": None, "version": 2,
    }  # fmt: skip
    body = json.dumps(written, separators=(",", ":"))
    assert call.key() == hashlib.sha256(body.encode()).digest()


def test_a_new_release_finds_the_answers_of_the_last() -> None:
    written = (
        '{"base_url":"https://h/v1","effort":null,"json":false,"max_output_tokens":100,"messages":[["user","h\\u00ed"]],'
        '"model":"m","provider":"o","schema":null,"sdk":"openai","show_thinking":false,"system":null,'
        '"temperature":null,"version":2}'
    )
    call = replace(CALL, messages=(Message("user", "hí"),))
    assert json.loads(written)["messages"] == [["user", "hí"]]
    assert call.key() == hashlib.sha256(written.encode()).digest()


TOTAL = 20.0  # seconds
SECOND = replace(CALL, model="n")
ESCALATED = hashlib.sha256(CALL.key() + b"escalated").digest()


def plan_of(*calls: Call) -> TierPlan:
    steps = tuple(
        Step("mid", Candidate(call.provider, call.model), call, Deadlines(5, 5, 5, TOTAL)) for call in calls or (CALL,)
    )
    return TierPlan("mid", steps, steps)


class Flight:
    """A store in a folder, on a clock that moves when somebody waits."""

    def __init__(self, folder: Path, clock: ManualClock, **settings: Any) -> None:
        self.clock = clock
        self.store = SQLiteStore(folder, clock=clock)
        self.flight = SingleFlight(config.load({"cache": {"ttl_days": 10, **settings}}), self.store)

    def join(
        self, *, plan: TierPlan | None = None, owner: str = "", escalates: bool = False, cache: Any = "use"
    ) -> Any:
        """Return the text of the answer that was joined, None where the request is to be sent."""
        run = RequestRun(make_request("hi", cache=cache), SESSION, self.clock, owner=owner or new_owner())
        answer = self.flight.join(run, plan or plan_of(), escalates=escalates)
        return answer and answer.text

    def look_up(self, plan: TierPlan, *, escalates: bool = False, cache: Any = "use") -> Any:
        answer = self.flight.look_up(make_request("hi", cache=cache), plan, escalates=escalates)
        return answer and answer.text

    def owner_of(self, key: bytes, owner: str, seconds: float = 1000) -> str:
        """Claim a key, and return whose it is."""
        looked = self.store.cached_or_claim([key], key, owner, seconds, 10)
        assert isinstance(looked, Claim)
        return looked.owner

    def put(self, name: str, key: bytes) -> None:
        self.store.record(a_record(name), key, 500)


@pytest.mark.parametrize("escalates", [False, True])
@pytest.mark.parametrize(
    "there", [(), ("first",), ("second",), ("up",), ("first", "second"), ("first", "second", "up")]
)
def test_the_answer_of_an_escalation_comes_first_then_the_chains(
    tmp_path: Path, there: tuple[str, ...], escalates: bool
) -> None:
    flight = Flight(tmp_path, ManualClock())
    keys = {"up": ESCALATED, "first": CALL.key(), "second": SECOND.key()}
    for name in there:
        flight.put(name, keys[name])
    expected = next((f"text of {name}" for name in keys if name in there and (escalates or name != "up")), None)
    assert flight.look_up(plan_of(CALL, SECOND), escalates=escalates) == expected
    assert flight.join(plan=plan_of(CALL, SECOND), escalates=escalates) == expected
    flight.store.close()


@pytest.mark.parametrize("escalates", [False, True])
def test_a_plan_without_cacheable_answers_is_claimed_all_the_same(tmp_path: Path, escalates: bool) -> None:
    flight = Flight(tmp_path, ManualClock())
    plan = replace(plan_of(), cacheable=())
    flight.put("first", CALL.key())
    assert flight.look_up(plan, escalates=escalates) is None
    assert flight.join(plan=plan, owner="elsewhere/1/me", escalates=escalates) is None
    flight.store.clear_cache()
    assert flight.owner_of(CALL.key(), new_owner()) == "elsewhere/1/me"
    flight.store.close()


@pytest.mark.parametrize(
    ("settings", "cache"),
    [({}, "off"), ({}, "refresh"), ({"enabled": False}, "use")],
    ids=["off", "refresh", "disabled"],
)
def test_without_the_cache_nothing_is_looked_up_and_nothing_claimed(
    tmp_path: Path, settings: dict[str, Any], cache: str
) -> None:
    flight = Flight(tmp_path, ManualClock(), **settings)
    flight.put("first", CALL.key())
    assert flight.look_up(plan_of(), cache=cache) is None
    assert flight.join(cache=cache) is None
    assert flight.join(plan=plan_of(SECOND), owner="elsewhere/1/me", cache=cache) is None
    assert flight.owner_of(SECOND.key(), "elsewhere/2/other") == "elsewhere/2/other"
    flight.store.close()


@pytest.mark.parametrize(("days", "expected"), [(9, "text of first"), (11, None)])
def test_answers_older_than_the_cache_keeps_them_are_not_joined(
    tmp_path: Path, days: float, expected: str | None
) -> None:
    flight = Flight(tmp_path, ManualClock())
    flight.put("first", CALL.key())
    flight.clock.pass_(days * DAY)
    assert flight.look_up(plan_of()) == expected
    assert flight.join() == expected
    flight.store.close()


@pytest.mark.parametrize(("after", "owner"), [(-1, "elsewhere/1/first"), (1, "elsewhere/2/second")])
def test_a_claim_outlives_its_calls_deadline_by_a_minute(tmp_path: Path, after: float, owner: str) -> None:
    flight = Flight(tmp_path, ManualClock())
    assert flight.join(owner="elsewhere/1/first") is None
    flight.clock.pass_(TOTAL + CLAIM_GRACE_SECONDS + after)
    assert flight.owner_of(CALL.key(), "elsewhere/2/second") == owner
    flight.store.close()


def test_a_request_does_not_wait_for_its_own_claim(tmp_path: Path) -> None:
    flight = Flight(tmp_path, ManualClock())
    before = flight.clock.monotonic()
    for _ in range(2):
        assert flight.join(owner="elsewhere/1/me") is None
    assert flight.clock.monotonic() == before
    flight.store.close()


def test_the_answer_of_the_request_in_flight_is_joined_when_it_is_there(tmp_path: Path) -> None:
    clock = Happening(lambda: None, lambda: flight.put("first", CALL.key()))
    flight = Flight(tmp_path, clock)
    flight.owner_of(CALL.key(), "elsewhere/1/first")
    assert flight.join() == "text of first"
    assert clock.left == []
    flight.store.close()


def test_a_request_waits_for_one_other_only(tmp_path: Path) -> None:
    def next_owner() -> None:
        flight.store.release("elsewhere/1/first")
        flight.owner_of(CALL.key(), "elsewhere/2/second")

    clock = Happening(lambda: None, next_owner, lambda: flight.put("late", CALL.key()))
    flight = Flight(tmp_path, clock)
    flight.owner_of(CALL.key(), "elsewhere/1/first")
    assert flight.join() is None
    assert len(clock.left) == 1
    flight.store.close()


def test_a_request_waits_no_longer_than_a_claim_may_last(tmp_path: Path) -> None:
    flight = Flight(tmp_path, ManualClock())
    flight.owner_of(CALL.key(), "elsewhere/1/first", 10_000)
    before = flight.clock.monotonic()
    assert flight.join() is None
    assert TOTAL + CLAIM_GRACE_SECONDS <= flight.clock.monotonic() - before < TOTAL + CLAIM_GRACE_SECONDS + 5
    flight.store.close()
