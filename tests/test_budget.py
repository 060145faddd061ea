"""No budget is overspent: not by ten threads, not by two kernels, not by a prompt larger than it looks."""

from __future__ import annotations

import datetime as dt
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ipyrouter.clock import SystemClock
from ipyrouter.errors import BudgetError, Interrupted, RouteError
from ipyrouter.router import Router
from ipyrouter.routing.planner import Planner
from ipyrouter.routing.requests import make_request
from ipyrouter.store.base import Claim, Limit, Refusal, Reservation
from ipyrouter.store.owners import machine, new_owner
from ipyrouter.store.sqlite import SQLiteStore
from ipyrouter.types import Candidate, Session, Usage
from tests.faults.server import TEXT, FaultServer
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
        assert pauses.began.wait(300)
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
        pauses.began.wait(300)
        other.communicate("\n", timeout=300)

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
    assert [process.wait(300) for process in both] == [0, 0]
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
    assert sorted(process.communicate(timeout=300)[0].strip() for process in both) == ["False", "True"]
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
