"""No budget is overspent: not by ten threads, not by two kernels, not by a prompt larger than it looks."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ipyrouter import config
from ipyrouter.clock import SystemClock
from ipyrouter.config import Deadlines
from ipyrouter.errors import BudgetError, Interrupted, RouteError
from ipyrouter.providers.base import Call
from ipyrouter.router import Router
from ipyrouter.routing.planner import Planner, Step, TierPlan
from ipyrouter.routing.recorder import RequestRun
from ipyrouter.routing.requests import make_request
from ipyrouter.routing.single_flight import CLAIM_GRACE_SECONDS, SingleFlight
from ipyrouter.store.base import Claim, Limit, Refusal, Reservation
from ipyrouter.store.owners import machine, new_owner
from ipyrouter.store.sqlite import SQLiteStore
from ipyrouter.types import Candidate, Message, Session, Usage
from tests.faults.server import TEXT, FaultServer
from tests.store.conftest import DAY, ManualClock, a_record

from tests.store.test_faults import locked

MakeRouter = Callable[..., Router]
# One call of the fixture costs $0.00041; its worst case is 100 output tokens at $10 a million, and the prompt.
LIMITED = {"max_output_tokens": 100}
SESSION = Session("s", dt.datetime.now(dt.UTC))


def spent(router: Router) -> Decimal:
    return Decimal(int(router.log()["cost_pico"].sum())).scaleb(-12)


@pytest.mark.parametrize("span", ["call", "session", "day", "month"])
def test_block(make_router: MakeRouter, requests: list[Any], span: str) -> None:
    router = make_router(budget={span: 0.0005, "action": "block"})
    with pytest.raises(BudgetError, match=r"Nothing was sent: o/ok could cost \$0\.041.*budget of \$0\.00050 for"):
        router.route("Explain closures")
    assert not requests
    assert router.route("Explain closures", max_output_tokens=10).text == TEXT


def test_downgrade(make_router: MakeRouter) -> None:
    prices = {"a/ok": {"input": 100, "output": 1000}, "o/ok": {"input": 1, "output": 10}}
    router = make_router(power=["a/ok"], budget={"day": 1}, prices=prices)
    answer = router.route("Draw up a migration plan")
    assert (answer.tier, answer.provider, answer.escalated_from) == ("mid", "o", None)
    assert "is left of the budget of $1.00 for today; asked mid instead of power." in answer.notes[0]


def test_a_dearer_escalation_is_refused_and_the_answer_kept(make_router: MakeRouter) -> None:
    prices = {"a/ok": {"input": 100, "output": 1000}, "o/empty": {"input": 1, "output": 10}}
    router = make_router(mid=["o/empty"], power=["a/ok"], budget={"day": 1}, prices=prices)
    answer = router.route("Explain closures")
    assert answer.tier == "mid"
    assert "The weak answer is kept: a/ok could cost" in answer.notes[-1]


def test_a_cheaper_candidate_of_the_chain_is_taken(make_router: MakeRouter) -> None:
    prices = {"a/ok": {"input": 100, "output": 1000}, "o/ok": {"input": 1, "output": 10}}
    router = make_router(mid=["a/ok", "o/ok"], budget={"day": 1}, prices=prices)
    assert router.route("Explain closures").provider == "o"


def test_an_unknown_price_keeps_no_budget(make_router: MakeRouter, requests: list[Any]) -> None:
    """The error names the one remedy that helps; a larger budget, fewer tokens or another tier do not."""
    router = make_router(budget={"day": 1}, prices={"other/x": {"input": 1, "output": 1}}, mid=["o/ok@free"])
    with pytest.raises(BudgetError) as caught:
        router.route("Explain closures", tier="mid", model="o/ok@free")
    assert str(caught.value) == (
        "Nothing was sent: no price is known for o/ok@free, so no budget can be kept with it. "
        'Add [prices."o/ok@free"] with input and output in $ per million tokens.'
    )
    assert not requests
    router.configure({"prices": {"o/ok@free": {"input": 1, "output": 10}}})
    assert router.route("Explain closures", model="o/ok@free").text == TEXT


def test_each_budgets_remedy_is_named(make_router: MakeRouter) -> None:
    prices = {"a/ok": {"input": 100, "output": 1000}}
    router = make_router(mid=["o/ok", "a/ok"], budget={"day": 1, "action": "block"}, prices=prices)
    with pytest.raises(BudgetError, match=r'Add \[prices\."o/ok"\].*Raise that budget'):
        router.route("Explain closures")


def test_a_stranger_that_answered_keeps_no_budget() -> None:
    """A gateway answered as a model without a price: what it bills is unknown, so the next call is refused."""
    settings = {"openrouter": {"sdk": "openai", "base_url": "https://openrouter.ai/api/v1"}}
    router = Router({"providers": settings, "budget": {"day": 1}})
    named = Candidate("openrouter", "openai/gpt-4o-mini")
    request = make_request("Explain closures", model=str(named))
    (step,) = Planner(router.config, lambda _: True, router.pricing).plan(request, "mid").first.steps
    guard = router.guard()
    assert guard.shortage(step, request) is None
    assert router.pricing.cost(named, Usage(10, 10), "acme/unheard-of").amount is None
    refusal = guard.shortage(step, request)
    assert refusal is not None
    assert refusal.reason == (
        "openrouter/openai/gpt-4o-mini was answered by 'acme/unheard-of', for which no price is known, "
        "so no budget can be kept with it"
    )
    router.close()


def test_what_is_free_is_never_refused(make_router: MakeRouter) -> None:
    free = {"o/ok": {"input": 0, "output": 0}}
    assert make_router(budget={"day": 0, "action": "block"}, prices=free).route("Explain closures").text == TEXT


def test_the_cache_is_free_too(make_router: MakeRouter) -> None:
    make_router().route("Explain closures")
    assert make_router(budget={"day": 0, "action": "block"}).route("Explain closures").cached


def test_reservations_end_with_the_request(make_router: MakeRouter) -> None:
    router = make_router(budget={"day": 0.01}, mid=["o/status-503", "a/ok"])
    router.route("Explain closures", **LIMITED)
    assert router.guard().left()["today"] == Decimal("0.01") - spent(router)
    with pytest.raises(BudgetError):
        router.route("Explain closures " * 9000, **LIMITED)
    assert router.guard().left()["today"] == Decimal("0.01") - spent(router)


def test_a_failed_candidate_gives_its_reservation_back(make_router: MakeRouter, requests: list[Any]) -> None:
    """Each worst case is $0.041: both together exceed the budget, and the first spent nothing."""
    for span in ("call", "session", "day"):
        router = make_router(mid=["o/status-503", "a/ok"], budget={span: 0.05, "action": "block"})
        answer = router.route(f"Explain closures within a {span}")
        assert (answer.provider, answer.fallback_from) == ("a", "o/status-503")
    assert len(requests) == 6


def test_a_candidate_that_broke_off_holds_what_it_spent(make_router: MakeRouter, requests: list[Any]) -> None:
    prices = {"o/stream-reset": {"input": 1, "output": 10}, "a/ok": {"input": 1, "output": 10}}
    router = make_router(mid=["o/stream-reset", "a/ok"], budget={"call": 0.0413, "action": "block"}, prices=prices)
    with pytest.raises(RouteError, match=r"a/ok could cost \$0\.041, and \$0\.04\d is left of the budget of \$0\.041"):
        router.route("Explain closures, and the scope of a name inside and outside of a function " * 4)
    assert len(requests) == 1
    router = make_router(mid=["o/stream-reset", "a/ok"], budget={"call": 0.06, "action": "block"}, prices=prices)
    assert router.route("Explain closures").provider == "a"


def test_a_budget_that_refuses_the_healthy_candidate_is_named(make_router: MakeRouter) -> None:
    prices = {"a/ok": {"input": 100, "output": 1000}, "o/status-503": {"input": 1, "output": 10}}
    router = make_router(mid=["o/status-503", "a/ok"], budget={"day": 1, "action": "block"}, prices=prices)
    with pytest.raises(RouteError) as caught:
        router.route("Explain closures")
    first, second, remedy = str(caught.value).splitlines()
    assert first == "o/status-503: 503 Unavailable"
    assert second.startswith("  a/ok could cost $4.")
    assert second.endswith("is left of the budget of $1.00 for today")
    assert remedy.startswith("  Raise that budget in your config")


def test_a_weak_answer_holds_what_it_spent(make_router: MakeRouter) -> None:
    router = make_router(mid=["o/empty"], power=["a/ok"], budget={"call": 0.1, "action": "block"})
    answer = router.route("Explain closures")  # worst cases: $0.041 and $0.082
    assert (answer.provider, answer.escalated_from) == ("a", "mid")


class Pauses(SystemClock):
    """A clock that tells when a request begins to wait for others, and may end the wait otherwise."""

    def __init__(self, instead: type[BaseException] | None = None) -> None:
        self.began = threading.Event()
        self._instead = instead

    def wait(self, stop: threading.Event, seconds: float) -> None:
        self.began.set()
        if self._instead is not None:
            raise self._instead
        super().wait(stop, seconds)


PATIENT = {"connect": 5, "first_byte": 60, "idle": 60, "total": 120}


def test_a_call_waits_for_the_money_of_calls_in_flight(
    make_router: MakeRouter, server: FaultServer, requests: list[Any]
) -> None:
    """Two worst cases exceed the budget, two answers are far from it."""
    pauses = Pauses()
    server.release.clear()
    router = make_router(
        clock=pauses, mid=["o/stream-held"], budget={"day": 0.05, "action": "block"}, deadlines=PATIENT
    )

    def ask(number: int) -> str:
        return router.route(f"Question {number}").text

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(ask, 1)
        while not requests:
            time.sleep(0.01)
        second = pool.submit(ask, 2)
        assert pauses.began.wait(60)
        assert len(requests) == 1
        server.release.set()
        assert (first.result(60), second.result(60)) == (TEXT, TEXT)
    assert len(requests) == 2
    assert spent(router) < Decimal("0.001")


def test_a_call_waits_for_another_kernels_call(make_router: MakeRouter, home: Path) -> None:
    code = f"""
import pathlib
from ipyrouter.store.owners import new_owner
from ipyrouter.store.sqlite import SQLiteStore
from tests.test_budget import SESSION
store, owner = SQLiteStore(pathlib.Path({str(home)!r})), new_owner()
store.reserve(40_000_000_000, [], SESSION, owner, 600)
print("held", flush=True)
input()
store.release(owner)
"""
    other = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)},
    )  # fmt: skip
    assert other.stdout is not None
    assert other.stdout.readline() == "held\n"
    pauses = Pauses()

    def let_go() -> None:
        pauses.began.wait(60)
        other.communicate("\n", timeout=60)

    thread = threading.Thread(target=let_go)
    thread.start()
    router = make_router(clock=pauses, budget={"month": 0.05, "action": "block"}, deadlines=PATIENT)
    assert router.route("Explain closures").text == TEXT
    thread.join()
    assert pauses.began.is_set()


def test_no_call_waits_where_the_money_is_spent(make_router: MakeRouter, home: Path) -> None:
    router = make_router(
        clock=Pauses(AssertionError), budget={"session": 1, "day": 0.0415, "action": "block"}, deadlines=PATIENT
    )
    for number in range(2):
        router.route(f"Question {number}")
    router.store.reserve(10**12, [], router.session, "another", 600)  # a call in flight
    with pytest.raises(BudgetError, match=r"is left of the budget of \$0\.042 for today"):
        router.route("Explain closures")


def test_waiting_ends_with_the_requests_deadline(make_router: MakeRouter, requests: list[Any]) -> None:
    deadlines = {"connect": 0.2, "first_byte": 0.2, "idle": 0.2, "total": 0.3}
    router = make_router(budget={"day": 0.05, "action": "block"}, deadlines=deadlines)
    router.store.reserve(40_000_000_000, [], SESSION, "another", 600)
    with pytest.raises(BudgetError, match=r"\(\$0\.04\d* is reserved for calls in flight\)"):
        router.route("Explain closures")
    assert not requests


def test_waiting_can_be_stopped(make_router: MakeRouter, requests: list[Any]) -> None:
    router = make_router(clock=Pauses(KeyboardInterrupt), budget={"day": 0.05, "action": "block"}, deadlines=PATIENT)
    router.store.reserve(40_000_000_000, [], SESSION, "another", 600)
    with pytest.raises(Interrupted):
        router.route("Explain closures")
    assert not requests
    assert list(router.log()["status"]) == ["interrupted"]
    assert spent(router) == 0
    router.store.release("another")
    assert router.guard().left()["today"] == Decimal("0.05")  # nothing stays reserved


def test_a_dry_run_waits_for_nobody(make_router: MakeRouter) -> None:
    router = make_router(clock=Pauses(AssertionError), budget={"day": 0.05}, deadlines=PATIENT)
    router.store.reserve(40_000_000_000, [], SESSION, "another", 600)
    downgrade, refusal = router.preview("Explain closures").notes
    assert downgrade.endswith("fast would be asked instead of mid.")
    assert refusal.startswith("A budget forbids this call: o/ok could cost $0.0")


def test_ten_threads_cannot_overspend(make_router: MakeRouter) -> None:
    most = Decimal("0.006")
    router = make_router(budget={"day": float(most), "action": "block"})

    def ask(number: int) -> bool:
        try:
            router.route(f"Question {number}", **LIMITED)
        except BudgetError:
            return False
        return True

    with ThreadPoolExecutor(10) as pool:
        answered = sum(pool.map(ask, range(60)))
    assert 0 < answered < 60
    assert 0 < spent(router) <= most
    assert len(router.log()) == answered


def test_two_kernels_cannot_overspend(make_router: MakeRouter, server: FaultServer) -> None:
    code = f"""
from ipyrouter.errors import BudgetError
from ipyrouter.router import Router
from tests.conftest import server_config
class Server: url = {server.url!r}
import sys
router = Router(server_config(Server, budget={{"day": 0.006, "action": "block"}}))
for number in range(20):
    try:
        router.route(f"{{sys.argv[1]}} {{number}}", max_output_tokens=100)
    except BudgetError:
        pass
"""
    root = str(Path(__file__).parent.parent)
    environment = {**os.environ, "PYTHONPATH": root}
    both = [subprocess.Popen([sys.executable, "-c", code, name], env=environment) for name in ("one", "two")]
    assert [process.wait(60) for process in both] == [0, 0]
    assert 0 < spent(make_router()) <= Decimal("0.006")


@pytest.mark.slow
@given(amounts=st.lists(st.integers(1, 40), min_size=1, max_size=40), most=st.integers(0, 200))
@settings(max_examples=25, deadline=None)
def test_promises_never_exceed_the_limit(
    tmp_path_factory: pytest.TempPathFactory, amounts: list[int], most: int
) -> None:
    store = SQLiteStore(tmp_path_factory.mktemp("ledger"))
    limit = Limit("today", most, "day")
    granted: list[int] = []
    lock = threading.Lock()

    def reserve(amount: int) -> None:
        result = store.reserve(amount, [limit], SESSION, new_owner(), 60)
        with lock:
            if isinstance(result, Reservation):
                granted.append(amount)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(reserve, amounts))
    assert sum(granted) == store.used(limit, SESSION) <= most
    refused = len(granted) < len(amounts)
    assert not refused or max(amounts) > most - sum(granted)
    store.close()


def test_a_dead_owners_reservation_lapses(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path)
    limit = Limit("today", 10, "day")
    assert isinstance(store.reserve(10, [limit], SESSION, new_owner(), -1), Reservation)  # lapsed at once
    assert isinstance(store.reserve(10, [limit], SESSION, new_owner(), 60), Reservation)
    assert isinstance(store.reserve(1, [limit], SESSION, new_owner(), 60), Refusal)
    store.close()


# --- one request in flight per question ---


def test_ten_threads_with_one_question_send_one_call(
    make_router: MakeRouter, server: FaultServer, requests: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "delay", 0.3)
    router = make_router()

    def ask(_: int) -> tuple[str, bool]:
        answer = router.route("Explain closures")
        return answer.text, answer.cached

    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(ask, range(10)))
    assert {text for text, _ in answers} == {TEXT}
    assert sum(cached for _, cached in answers) == 9
    assert len(requests) == 1


def test_two_kernels_with_one_question_send_one_call(
    server: FaultServer, requests: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "delay", 2.0)
    code = f"""
from ipyrouter.router import Router
from tests.conftest import server_config
class Server: url = {server.url!r}
print(Router(server_config(Server, deadlines={{"first_byte": 20}})).route("Explain closures").cached)
"""
    root = str(Path(__file__).parent.parent)
    environment = {**os.environ, "PYTHONPATH": root}
    both = [
        subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    assert sorted(process.communicate(timeout=60)[0].strip() for process in both) == ["False", "True"]
    assert len(requests) == 1


def test_a_failing_request_in_flight_does_not_hold_the_others(make_router: MakeRouter, requests: list[Any]) -> None:
    router = make_router(mid=["o/empty"], power=["o/empty"])

    def ask(_: int) -> str:
        return router.route("Explain closures", escalate=False).text

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(ask, range(4))) == [""] * 4
    assert len(requests) == 4


def test_a_dead_owners_claim_lapses(make_router: MakeRouter) -> None:
    store, key = make_router().store, b"k" * 32

    def claim(owner: str, seconds: float = 600) -> str:
        looked = store.cached_or_claim([key], key, owner, seconds, 30)
        assert isinstance(looked, Claim)
        return looked.owner

    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    dead, mine, another = f"{machine()}/{child.pid}/dead", new_owner(), new_owner()
    assert claim(dead) == dead
    assert claim(mine) == mine
    assert claim(another) == mine
    store.release(mine)
    elsewhere = "elsewhere/1/x"
    assert claim(elsewhere) == elsewhere  # of another machine only the expiry tells
    assert claim(mine) == elsewhere
    store.release(elsewhere)
    assert claim(elsewhere, -1) == elsewhere
    assert claim(mine) == mine


# --- the cache's key, and who waits for whom: no server, no second ---

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
}


@pytest.mark.parametrize("name", Call.__slots__)
def test_each_value_of_a_call_is_in_its_cache_key(name: str) -> None:
    assert replace(CALL, **{name: OTHERS[name]}).key() != CALL.key()
    assert replace(CALL, **{name: getattr(CALL, name)}).key() == CALL.key()


def test_what_messages_say_and_their_order_are_in_the_cache_key() -> None:
    one, two = Message("user", "one"), Message("user", "two")
    keys = {replace(CALL, messages=messages).key() for messages in ((one,), (two,), (one, two), (two, one), ())}
    assert len(keys) == 5


def test_a_new_release_finds_the_answers_of_the_last() -> None:
    written = (
        '{"base_url":"https://h/v1","max_output_tokens":100,"messages":[["user","h\\u00ed"]],"model":"m",'
        '"provider":"o","sdk":"openai","system":null,"temperature":null,"version":1}'
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


class Happening(ManualClock):
    """A clock during which something happens, at each wait the next."""

    def __init__(self, *happen: Callable[[], object]) -> None:
        super().__init__()
        self.left = list(happen)

    def wait(self, stop: threading.Event, seconds: float) -> None:
        super().wait(stop, seconds)
        if self.left:
            self.left.pop(0)()


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

# --- what a budget says ---


def test_a_budget_of_which_nothing_is_known_sends_nothing_and_says_why(
    make_router: MakeRouter, home: Path, requests: list[Any]
) -> None:
    """Another program holds the database, and this process has read nothing of it."""
    before = make_router()
    before.route("Explain closures")
    before.close()
    router = make_router(budget={"day": 0.05, "action": "block"})
    with locked(router.store, home):
        words = (
            "could cost $0.041, and it is unknown what is left of the budget of $0.050 for today: database is locked"
        )
        with pytest.raises(BudgetError) as refused:
            router.route("Explain monads")
        assert words in str(refused.value)
        assert any(words in note for note in router.preview("Explain monads").notes)
        assert router.guard().left() == {"today": None}
    assert len(requests) == 1
    assert router.route("Explain monads").text == TEXT
    assert router.guard().left() == {"today": Decimal("0.05") - spent(router)}


@pytest.mark.parametrize("span", ["call", "session", "day", "month"])
def test_a_call_may_use_up_its_budget_to_the_last_picodollar(make_router: MakeRouter, span: str) -> None:
    worst = make_router().pricing.bound(Candidate("o", "ok"), len("Explain closures") + 8, 100)
    assert worst is not None
    short = make_router(budget={span: float(worst - Decimal("1E-12")), "action": "block"})
    with pytest.raises(BudgetError):
        short.route("Explain closures", **LIMITED)
    assert any("A budget forbids this call" in note for note in short.preview("Explain closures", **LIMITED).notes)
    enough = make_router(budget={span: float(worst), "action": "block"})
    assert not any("forbids" in note for note in enough.preview("Explain closures", **LIMITED).notes)
    assert enough.route("Explain closures", **LIMITED).text == TEXT
