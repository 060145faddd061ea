"""The circuit breaker's policy by itself, on a clock that the tests move."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from ipyrouter.config import load
from ipyrouter.providers.base import Fault, FaultKind
from ipyrouter.routing.breaker import Breaker, Reason
from ipyrouter.routing.planner import Step
from ipyrouter.store.base import Outage
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


def steps_of(*candidates: Candidate) -> tuple[Step, ...]:
    return tuple(Step("mid", candidate, call=None, deadlines=None) for candidate in candidates)


def order(breaker: Breaker, *candidates: Candidate) -> list[Candidate]:
    return [step.candidate for step in breaker.order(steps_of(*candidates))]


def bypasses(breaker: Breaker, *candidates: Candidate, answering: Candidate | None = None) -> dict[Candidate, str]:
    return {candidate: str(reason) for candidate, reason in breaker.bypasses(steps_of(*candidates), answering)}


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
    own = Reason("budget", "over budget", "a/one: over budget")
    assert dict(breaker.bypasses(steps_of(A1, A2), A2, known={A1: own})) == {A1: own}


# --- what colleagues' kernels find ---

LUNA, SOL = Candidate("openai", "gpt-6-luna"), Candidate("openai", "gpt-6-sol")


class Board:
    """Stands for a team's database: outages that colleagues reported, and what is reported to them."""

    def __init__(self) -> None:
        self.known: dict[str, Outage] = {}
        self.reported: list[tuple[str, int, float]] = []

    def outages(self) -> Mapping[str, Outage]:
        return self.known

    def report_outage(self, model: str, status: int, seconds: float) -> None:
        self.reported.append((model, status, seconds))


@pytest.fixture
def board() -> Board:
    return Board()


@pytest.fixture
def shared(clock: ManualClock, board: Board) -> Breaker:
    """A breaker of a team, over a known service, one that nobody knows, and servers of this user alone."""
    own = {
        name: {"sdk": "openai", "base_url": address}
        for name, address in (("acme", "https://acme.example/v1"), ("home", "http://127.0.0.1:1/v1"))
    }
    return Breaker(load({"providers": own}, environ={}), clock, board)


def test_a_failing_service_is_reported_to_all_until_it_answers(shared: Breaker, board: Board) -> None:
    fail(shared, LUNA, "server", status=503)
    fail(shared, LUNA, "server", status=502, retry_after=25.0)
    fail(shared, SOL, "server", status=500)
    assert board.reported == [
        ("openai/gpt-6-luna", 503, 10.0), ("openai/gpt-6-luna", 502, 25.0), ("openai/gpt-6-sol", 500, 10.0),
    ]  # fmt: skip
    board.reported.clear()
    shared.record_success(LUNA)
    assert board.reported == [("openai/gpt-6-luna", 200, 0)]
    shared.record_success(LUNA)  # which all know
    assert len(board.reported) == 1


@pytest.mark.parametrize(
    ("candidate", "kind", "status"),
    [
        (LUNA, "rate_limit", 429),
        (LUNA, "quota", 429),
        (LUNA, "auth", 401),
        (LUNA, "timeout", 504),
        (LUNA, "server", None),  # an event in a stream
        (Candidate("acme", "small"), "server", 503),
        (Candidate("home", "small"), "server", 503),
        (Candidate("local", "smollm2"), "server", 503),
    ],
)
def test_what_may_be_this_users_own_fault_is_not_reported(
    shared: Breaker, board: Board, candidate: Candidate, kind: FaultKind, status: int | None
) -> None:
    fail(shared, candidate, kind, status=status)
    assert board.reported == []


def test_nobody_hears_of_an_answer_after_what_nobody_heard_of(shared: Breaker, board: Board) -> None:
    fail(shared, LUNA, "timeout")
    fail(shared, Candidate("home", "small"), "server", status=503)
    for candidate in (LUNA, SOL, Candidate("home", "small")):
        shared.record_success(candidate)
    assert board.reported == []


def test_a_service_that_failed_a_colleague_cools_down_here_too(
    shared: Breaker, board: Board, clock: ManualClock
) -> None:
    board.known = {"openai/gpt-6-luna": Outage(502, clock.monotonic() + 40), "acme/small": Outage(502, 1e9)}
    own = (Candidate("acme", "small"), Candidate("home", "small"))
    assert order(shared, *own, LUNA, SOL) == [*own, SOL, LUNA]
    assert bypasses(shared, LUNA, SOL, answering=SOL) == {
        LUNA: "cooling down for 40.0 s after 502 to a colleague's call"
    }
    assert shared.status() == [("openai/gpt-6-luna", "502 to a colleague's call", 40.0)]
    (reason,) = (reason for _, reason in shared.bypasses(steps_of(LUNA), None))
    assert reason.kind == "server"
    clock.pass_(40)
    assert order(shared, LUNA, SOL) == [LUNA, SOL]


def test_a_colleagues_outage_counts_no_fault_and_ends_no_longer_time(
    shared: Breaker, board: Board, clock: ManualClock
) -> None:
    board.known = {"openai/gpt-6-luna": Outage(503, clock.monotonic() + 15)}
    order(shared, LUNA)
    fail(shared, LUNA, "server")
    assert left(shared) == {"openai/gpt-6-luna": 10.0}  # as after a first fault
    order(shared, LUNA)
    assert left(shared) == {"openai/gpt-6-luna": 10.0}  # its own time holds
    clock.pass_(10)
    order(shared, LUNA)
    assert left(shared) == {"openai/gpt-6-luna": 5.0}
    clock.pass_(5)
    fail(shared, LUNA, "server")
    assert left(shared) == {"openai/gpt-6-luna": 20.0}  # its second


def test_an_outage_of_another_model_is_none_of_this_one(shared: Breaker, board: Board, clock: ManualClock) -> None:
    board.known = {"openai/gpt-6-sol": Outage(503, clock.monotonic() + 15)}
    assert order(shared, SOL, LUNA) == [LUNA, SOL]
