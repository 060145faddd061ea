"""The circuit breaker's policy by itself, on a clock that the tests move."""

from __future__ import annotations

from pathlib import Path

import pytest

from ipyrouter.config import load
from ipyrouter.providers.base import Fault, FaultKind
from ipyrouter.routing.breaker import Breaker, Reason
from ipyrouter.routing.planner import Step
from ipyrouter.store.sqlite import SQLiteStore
from ipyrouter.types import Candidate
from tests.store.conftest import ManualClock

A1, A2, B1 = Candidate("a", "one"), Candidate("a", "two"), Candidate("b", "one")
SECONDS = {  # after a first fault, by kind
    "rate_limit": 20, "quota": 3600, "server": 10, "connect": 30, "timeout": 60, "malformed": 10, "broken_stream": 5,
    "unfinished": 10,
}  # fmt: skip


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def breaker(clock: ManualClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Breaker:
    """A breaker over the providers "a", whose key is A_KEY, and "b", which needs none."""
    monkeypatch.setenv("A_KEY", "first")
    server = {"sdk": "openai", "base_url": "http://localhost:1/v1"}
    providers = {"a": {**server, "key": "A_KEY"}, "b": server}
    return Breaker(load({"providers": providers}, environ={}), clock, SQLiteStore(tmp_path))


def fail(breaker: Breaker, candidate: Candidate, kind: FaultKind, **fields: object) -> None:
    fault = Fault(kind, f"{kind} happened", **fields)
    breaker.record_failure(candidate, fault, Reason(kind, kind, f"{candidate}: {kind} happened"))


def order(breaker: Breaker, *candidates: Candidate) -> list[Candidate]:
    steps = tuple(Step("mid", candidate, call=None, deadlines=None) for candidate in candidates)
    return [step.candidate for step in breaker.order(steps)]


def bypasses(breaker: Breaker, *candidates: Candidate, answering: Candidate | None = None) -> dict[Candidate, str]:
    steps = tuple(Step("mid", candidate, call=None, deadlines=None) for candidate in candidates)
    return {candidate: str(reason) for candidate, reason in breaker.bypasses(steps, answering)}


def left(breaker: Breaker) -> dict[str, float | None]:
    return {name: seconds for name, _, seconds in breaker.status()}


@pytest.mark.parametrize(("kind", "seconds"), SECONDS.items())
def test_a_fault_cools_its_candidate_down_for_its_time(
    breaker: Breaker, clock: ManualClock, kind: FaultKind, seconds: float
) -> None:
    fail(breaker, A1, kind)
    assert left(breaker) == {"a/one": seconds}
    assert order(breaker, A1, A2) == [A2, A1]
    assert set(bypasses(breaker, A1, A2, answering=A2)) == {A1}
    clock.pass_(seconds - 0.5)
    assert left(breaker) == {"a/one": 0.5}
    assert set(bypasses(breaker, A1, A2, answering=A2)) == {A1}
    clock.pass_(0.5)
    assert left(breaker) == {}
    assert order(breaker, A1, A2) == [A1, A2]
    assert bypasses(breaker, A1, A2, answering=A2) == {}


def test_each_further_fault_in_a_row_doubles_the_time_up_to_an_hour(breaker: Breaker, clock: ManualClock) -> None:
    times = []
    for _ in range(14):
        fail(breaker, A1, "broken_stream")
        (seconds,) = left(breaker).values()
        times.append(seconds)
        clock.pass_(seconds)
    assert times == [5.0 * 2**n for n in range(10)] + [3600.0] * 4


def test_an_answer_forgives_all(breaker: Breaker) -> None:
    for _ in range(3):
        fail(breaker, A1, "server")
    fail(breaker, A2, "auth")
    fail(breaker, B1, "server")
    breaker.record_success(A1)
    assert left(breaker) == {"b/one": 10}
    fail(breaker, A1, "server")
    assert left(breaker) == {"a/one": 10, "b/one": 10}


def test_the_server_s_own_time_counts_within_an_hour(breaker: Breaker) -> None:
    fail(breaker, A1, "rate_limit", retry_after=7.0)
    fail(breaker, A2, "rate_limit", retry_after=1e12)
    fail(breaker, B1, "server", retry_after=0.0)
    assert left(breaker) == {"a/one": 7.0, "a/two": 3600.0}
    assert order(breaker, A2, A1, B1) == [B1, A1, A2]


@pytest.mark.parametrize("kind", ["not_found", "forbidden"])
def test_a_model_that_is_not_there_is_off_for_the_session(
    breaker: Breaker, clock: ManualClock, kind: FaultKind
) -> None:
    fail(breaker, A1, kind, only_model=True)
    clock.pass_(10**9)
    assert left(breaker) == {"a/one": None}
    assert order(breaker, A1, A2, B1) == [A2, B1]
    assert bypasses(breaker, A1, A2, answering=A2) == {A1: kind}


@pytest.mark.parametrize("kind", ["auth", "forbidden"])
def test_a_key_that_is_refused_switches_its_provider_off_until_it_changes(
    breaker: Breaker, monkeypatch: pytest.MonkeyPatch, kind: FaultKind
) -> None:
    fail(breaker, A1, kind)
    assert left(breaker) == {"a": None}
    assert order(breaker, A1, A2, B1) == [B1]
    assert bypasses(breaker, A1, A2, B1, answering=B1) == {A1: kind, A2: kind}
    monkeypatch.setenv("A_KEY", "second")
    assert left(breaker) == {}
    assert order(breaker, A1, A2, B1) == [A1, A2, B1]
    assert bypasses(breaker, A1, A2, B1, answering=B1) == {}


def test_a_provider_without_a_key_stays_off(breaker: Breaker) -> None:
    fail(breaker, B1, "auth")
    assert order(breaker, B1, A1) == [A1]
    assert left(breaker) == {"b": None}


@pytest.mark.parametrize("kind", ["bad_request", "context", "refused", "interrupted"])
def test_what_is_no_fault_of_the_candidate_cools_nothing_down(breaker: Breaker, kind: FaultKind) -> None:
    fail(breaker, A1, kind)
    assert breaker.status() == []
    assert order(breaker, A1, A2) == [A1, A2]


def test_the_soonest_healthy_comes_first_among_those_that_cool_down(breaker: Breaker) -> None:
    fail(breaker, A1, "timeout")
    fail(breaker, A2, "server")
    fail(breaker, B1, "connect")
    assert order(breaker, A1, B1, A2) == [A2, B1, A1]


def test_one_that_has_just_cooled_down_keeps_its_place(breaker: Breaker, clock: ManualClock) -> None:
    fail(breaker, A1, "server")
    clock.pass_(11)
    assert order(breaker, A2, A1, B1) == [A2, A1, B1]


def test_reasons_say_the_time_that_is_left(breaker: Breaker, clock: ManualClock) -> None:
    fail(breaker, A1, "timeout")
    clock.pass_(30)
    assert bypasses(breaker, A1) == {A1: "cooling down for 30.0 s after timeout"}
    detailed = Reason("server", "an error", "a/one: 500", detail="out of memory")
    breaker.record_failure(A2, Fault("server", "500"), detailed)
    assert bypasses(breaker, A2) == {A2: "cooling down for 10.0 s after an error (out of memory)"}
    assert breaker.status()[1] == ("a/two", "a/one: 500", 10.0)


def test_a_reset_forgets_all(breaker: Breaker) -> None:
    fail(breaker, A1, "server")
    fail(breaker, B1, "auth")
    breaker.reset()
    assert breaker.status() == []
    assert order(breaker, A1, B1) == [A1, B1]


def test_an_answer_of_a_healthy_candidate_changes_nothing(breaker: Breaker) -> None:
    breaker.record_success(A1)
    assert breaker.status() == []


def test_reasons_of_this_request_come_before_those_in_memory(breaker: Breaker) -> None:
    fail(breaker, A1, "server")
    steps = tuple(Step("mid", candidate, call=None, deadlines=None) for candidate in (A1, A2))
    own = Reason("budget", "over budget", "a/one: over budget")
    assert dict(breaker.bypasses(steps, A2, known={A1: own})) == {A1: own}
