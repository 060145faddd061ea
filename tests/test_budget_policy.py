"""A budget's policy by itself, over a store on a clock that the tests move: no server, no second."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from ipyrouter import config
from ipyrouter.config import Deadlines
from ipyrouter.pricing.prices import Pricing
from ipyrouter.providers.base import Call
from ipyrouter.routing.budget import Budget, Hold, Holdings, Refusal
from ipyrouter.routing.interrupts import Interrupts
from ipyrouter.routing.planner import Step
from ipyrouter.routing.requests import make_request
from ipyrouter.store.base import Busy, Limit, Rate, Reservation, Unavailable
from ipyrouter.store.base import Refusal as Refused
from ipyrouter.store.sqlite import SQLiteStore
from ipyrouter.text.amounts import to_pico
from ipyrouter.types import Attempt, Candidate, Cost, Message, Request, Session, Usage
from tests.store.conftest import SESSION, Happening, ManualClock, a_record
from tests.store.test_faults import locked

PRICED = {
    "providers": {"acme": {"sdk": "openai", "base_url": "http://127.0.0.1:1/v1"}},
    "prices": {"acme/small": {"input": 10, "output": 1000}},
}
REQUEST = make_request("hi")
# 10 input tokens (2 bytes, and 8 around a message) at $10 a million, and 100 output tokens at $1,000.
WORST = Decimal("0.1001")
TOTAL = 20.0  # seconds of a call in all
OWNER, OTHER = "elsewhere/1/mine", "elsewhere/2/other"  # of another machine: only time tells whether they live


def step_of(model: str = "small", prompt: str = "hi") -> Step:
    call = Call("acme", "openai", "http://127.0.0.1:1/v1", model, None, (Message("user", prompt),), 100, None)
    return Step("mid", Candidate("acme", model), call, Deadlines(5, 5, 5, TOTAL))


class Desk:
    """A budget over a store in a folder."""

    def __init__(
        self, folder: Path, clock: ManualClock, store: Callable[..., SQLiteStore] = SQLiteStore, **limits: Any
    ) -> None:
        self.clock = clock
        self.store = store(folder, clock=clock)
        loaded = config.load({**PRICED, "budget": limits})
        self.budget = Budget(loaded.budget, Pricing(loaded), self.store, clock, SESSION)
        self.holdings = Holdings(OWNER)

    def hold(
        self, spent: str | None = None, *, step: Step | None = None, request: Request = REQUEST, patience: float = 0
    ) -> Refusal | None:
        """Hold a call's worst case, and leave with what it spent; return the refusal."""
        until = self.clock.monotonic() + patience
        with self.budget.hold(step or step_of(), request, self.holdings, Interrupts(self.clock), until) as hold:
            if isinstance(hold, Refusal):
                return hold
            assert hold == Hold(None)
            hold.spent = None if spent is None else Decimal(spent)
        return None

    def promise(self, dollars: str, owner: str = OTHER, seconds: float = 1000) -> None:
        """Let a call of another request hold money."""
        promised = self.store.reserve(to_pico(Decimal(dollars)), [], SESSION, owner, seconds)
        assert promised

    def spend(self, dollars: str, name: str = "a") -> None:
        self.store.record(a_record(name, cost=Decimal(dollars)), None, 500)


@pytest.fixture
def make_desk(tmp_path: Path) -> Iterator[Callable[..., Desk]]:
    desks: list[Desk] = []

    def make(clock: ManualClock | None = None, **limits: Any) -> Desk:
        desks.append(Desk(tmp_path / "store", clock or ManualClock(), **limits))
        return desks[-1]

    yield make
    for desk in desks:
        desk.store.close()


MakeDesk = Callable[..., Desk]
SPANS = {"session": "this session", "day": "today", "month": "this month"}


def test_without_a_budget_nothing_is_held_and_no_price_is_needed(make_desk: MakeDesk, tmp_path: Path) -> None:
    desk = make_desk()
    assert not desk.budget.active
    assert desk.hold("5", step=step_of("unpriced")) is None
    assert desk.budget.shortage(step_of("unpriced"), REQUEST) is None
    assert desk.budget.left() == {}
    assert desk.holdings.picodollars == 0
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize("span", ["call", *SPANS])
def test_any_budget_holds_a_calls_worst_case_and_then_what_it_spent(make_desk: MakeDesk, span: str) -> None:
    desk = make_desk(**{span: 1})
    assert desk.budget.active
    name = SPANS.get(span)
    with desk.budget.hold(step_of(), REQUEST, desk.holdings, Interrupts(desk.clock), 0) as hold:
        assert hold == Hold(None)
        assert desk.holdings.picodollars == to_pico(WORST)
        assert desk.budget.left() == ({name: 1 - WORST} if name else {})
        hold.spent = Decimal("0.0125")
    assert desk.holdings.picodollars == to_pico(Decimal("0.0125"))
    assert desk.budget.left() == ({name: Decimal("0.9875")} if name else {})


def test_a_hold_is_settled_with_what_its_call_took() -> None:
    hold = Hold()
    cost, usage = Cost(Decimal("0.02")), Usage(70, 30, cached_input_tokens=20, reasoning_tokens=10)
    hold.settle(Attempt("mid", Candidate("acme", "small"), "ok", cost=cost, usage=usage))
    assert hold == Hold(Decimal("0.02"), tokens=100)


def test_a_call_of_which_nobody_knows_what_it_spent_keeps_its_worst_case(make_desk: MakeDesk) -> None:
    desk = make_desk(day=1)
    assert desk.hold(None) is None
    assert desk.budget.left() == {"today": 1 - WORST}
    holding = desk.budget.hold(step_of(), REQUEST, desk.holdings, Interrupts(desk.clock), 0)
    with contextlib.suppress(ZeroDivisionError), holding as hold:
        assert isinstance(hold, Hold)
        hold.spent = Decimal("0.01")
        raise ZeroDivisionError
    assert desk.budget.left() == {"today": 1 - WORST - Decimal("0.01")}
    assert len(desk.holdings.reservations) == 2


@pytest.mark.parametrize("span", SPANS)
def test_a_budget_holds_to_the_last_picodollar(make_desk: MakeDesk, span: str) -> None:
    least = Decimal("1E-12")
    desk = make_desk(**{span: 1})
    desk.spend(str(1 - WORST))
    assert desk.budget.shortage(step_of(), REQUEST) is None
    desk.spend("1E-12", "b")
    words = f"acme/small could cost $0.10, and $0.10 is left of the budget of $1.00 for {SPANS[span]}"
    assert desk.budget.shortage(step_of(), REQUEST) == Refusal(words)
    assert desk.hold() == Refusal(words)
    assert desk.budget.left() == {SPANS[span]: WORST - least}
    desk.spend("7", "c")
    assert desk.budget.left() == {SPANS[span]: 0}
    spent = f"acme/small could cost $0.10, and $0 is left of the budget of $1.00 for {SPANS[span]}"
    assert desk.budget.shortage(step_of(), REQUEST) == desk.hold() == Refusal(spent)
    assert desk.holdings.picodollars == 0


def test_the_first_budget_that_is_used_up_is_named(make_desk: MakeDesk) -> None:
    desk = make_desk(session=9, day=0.15, month=9, action="downgrade")
    desk.spend("0.1")
    assert desk.budget.left() == {
        "this session": Decimal("8.9"), "today": Decimal("0.05"), "this month": Decimal("8.9")
    }  # fmt: skip
    words = "acme/small could cost $0.10, and $0.050 is left of the budget of $0.15 for today"
    assert desk.budget.shortage(step_of(), REQUEST) == Refusal(words)


def test_the_budget_of_a_call_counts_all_that_its_request_spends(make_desk: MakeDesk) -> None:
    desk = make_desk(call=0.2002)
    assert desk.hold(None) is None
    assert desk.budget.shortage(step_of(), REQUEST) is None  # another request's
    assert desk.hold(None) is None
    refused = Refusal("acme/small could cost $0.10, and $0 is left of the budget of $0.20 for a call")
    assert desk.hold() == refused
    desk.holdings.reservations.popitem()
    desk.holdings.reservations["more"] = to_pico(WORST) + 1
    assert desk.hold() == refused
    desk.holdings.reservations.clear()
    small = make_desk(call=0.1)
    refused = Refusal("acme/small could cost $0.10, more than the budget of $0.10 for a call")
    assert small.hold() == small.budget.shortage(step_of(), REQUEST) == refused
    assert make_desk(call=0.1001).hold() is None


def test_what_is_left_of_a_calls_budget_is_said(make_desk: MakeDesk) -> None:
    desk = make_desk(call=0.15)
    assert desk.hold("0.125") is None
    words = "acme/small could cost $0.10, and $0.025 is left of the budget of $0.15 for a call"
    assert desk.hold() == Refusal(words)
    assert desk.hold() == Refusal(words)


def test_every_part_of_a_request_is_in_its_worst_case(make_desk: MakeDesk) -> None:
    """A token a byte and 8 a message, at $10 a million: "é234" has five bytes."""
    desk = make_desk(day=1)
    history = (Message("user", "1234"), Message("assistant", "12"))
    call = Call(
        "acme", "openai", "http://127.0.0.1:1/v1", "small", "Be brief.", (*history, Message("user", "é234")), 100, None
    )
    step = Step("mid", Candidate("acme", "small"), call, Deadlines(5, 5, 5, TOTAL))
    request = make_request("é234", system="Be brief.", history=history)
    assert desk.hold(None, step=step, request=request) is None
    assert desk.holdings.picodollars == to_pico(Decimal(5 + 9 + 4 + 2 + 4 * 8) / 100_000 + Decimal("0.1"))


def test_what_has_no_price_keeps_no_budget(make_desk: MakeDesk) -> None:
    desk = make_desk(month=1)
    refused = Refusal("no price is known for acme/unpriced, so no budget can be kept with it", unpriced=True)
    assert desk.hold(step=step_of("unpriced")) == refused
    assert desk.budget.shortage(step_of("unpriced"), REQUEST) == refused
    assert desk.budget.left() == {"this month": 1}


def test_money_that_calls_in_flight_hold_is_named(make_desk: MakeDesk) -> None:
    desk = make_desk(day=1)
    desk.spend("0.5")
    desk.promise("0.45")
    words = "acme/small could cost $0.10, and $0.050 is left of the budget of $1.00 for today"
    assert desk.hold() == Refusal(f"{words} ($0.45 is reserved for calls in flight)")
    assert desk.budget.shortage(step_of(), REQUEST) == Refusal(words)  # waits for nobody, and names nobody


def test_a_call_waits_for_the_money_of_calls_in_flight(make_desk: MakeDesk) -> None:
    clock = Happening(lambda: None, lambda: None, lambda: desk.store.release(OTHER))
    desk = make_desk(clock, day=1)
    desk.promise("0.95")
    desk.promise("0.01", "elsewhere/3/third")
    assert desk.hold("0.02", patience=100) is None
    assert clock.waits == sorted(clock.waits)  # ever longer
    assert len(clock.waits) == 3
    assert desk.budget.left() == {"today": Decimal("0.97")}


def test_the_wait_for_money_ends_at_its_deadline(make_desk: MakeDesk) -> None:
    clock = Happening()
    desk = make_desk(clock, day=1)
    desk.promise("0.95")
    refused = desk.hold(patience=10)
    assert refused is not None
    assert "($0.95 is reserved for calls in flight)" in refused.reason
    assert sum(clock.waits) == pytest.approx(10)
    assert max(clock.waits) < 1
    clock.waits.clear()
    assert desk.hold(patience=0) == refused
    assert clock.waits == []


@pytest.mark.parametrize(("spent", "waits"), [("0.8999", True), ("0.899900000001", False)])
def test_no_call_waits_for_money_that_is_spent(make_desk: MakeDesk, spent: str, waits: bool) -> None:
    clock = Happening()
    desk = make_desk(clock, day=1)
    desk.spend(spent)
    desk.promise("0.05")
    assert isinstance(desk.hold(patience=1), Refusal)
    assert bool(clock.waits) is waits


@pytest.mark.parametrize(("own", "waits"), [("0.3", True), ("0.300000000001", False)])
def test_no_call_waits_for_what_its_own_request_holds(make_desk: MakeDesk, own: str, waits: bool) -> None:
    clock = Happening()
    desk = make_desk(clock, day=1)
    desk.spend("0.5999")
    assert desk.hold(own) is None
    desk.promise("0.05")
    assert isinstance(desk.hold(patience=1), Refusal)
    assert bool(clock.waits) is waits


def test_a_reservation_outlives_its_calls_deadline_by_a_minute(make_desk: MakeDesk) -> None:
    desk = make_desk(day=1)
    assert desk.hold(None) is None
    desk.clock.pass_(TOTAL + 59)
    assert desk.budget.left() == {"today": 1 - WORST}
    desk.clock.pass_(2)
    assert desk.budget.left() == {"today": 1}


@pytest.mark.parametrize("action", ["block", "downgrade"])
def test_only_a_budget_that_blocks_needs_to_know_what_is_spent(
    make_desk: MakeDesk, tmp_path: Path, action: str
) -> None:
    """Another program holds the database, and this process has read nothing of it."""
    before = make_desk(day=1)
    before.spend("0.5")
    before.store.close()
    desk = make_desk(day=1, action=action)
    reason = (
        "acme/small could cost $0.10, and it is unknown what is left of the budget of $1.00 for today: "
        "database is locked"
    )
    with locked(desk.store, tmp_path / "store"):
        expected = Refusal(reason, unknown=True) if action == "block" else None
        assert desk.budget.shortage(step_of(), REQUEST) == expected
        assert desk.hold("0.02") == expected
        assert desk.budget.left() == {"today": None if action == "block" else Decimal("0.98")}


def test_limits_are_those_of_the_settings(make_desk: MakeDesk) -> None:
    desk = make_desk(session=1, day=2, month=3.5, action="block")
    assert desk.budget._spans() == [
        Limit("this session", 10**12, "session", True),
        Limit("today", 2 * 10**12, "day", True),
        Limit("this month", 35 * 10**11, "month", True),
    ]


# --- what a team's owner sets ---

RATE = Rate("the team science", 1000, "tokens")
USED_UP = Busy(RATE, used=950, seconds=0.1)
WAITED = "acme/small had to wait: 1,000 tokens a minute for the team science were used up."


class Owned(SQLiteStore):
    """Stands for a team's store: an owner's limits and rates, and answers that it gives before it grants anything."""

    def __init__(self, folder: Path, *, clock: ManualClock) -> None:
        super().__init__(folder, clock=clock)
        self.set: list[Limit] = []
        self.allowed: list[Rate] = [RATE]
        self.answers: list[Busy | Unavailable] = []
        self.asked: list[int | None] = []
        self.settled: list[tuple[int, int | None]] = []

    def limits(self, session: Session) -> list[Limit]:
        assert session == SESSION
        return self.set

    def rates(self, session: Session) -> list[Rate]:
        assert session == SESSION
        return self.allowed

    def reserve(
        self, *args: Any, tokens: int | None = None, **named: Any
    ) -> Reservation | Refused | Unavailable | Busy:
        self.asked.append(tokens)
        return self.answers.pop(0) if self.answers else super().reserve(*args, tokens=tokens, **named)

    def settle(self, reservation: str, pico: int, tokens: int | None = None) -> None:
        self.settled.append((pico, tokens))
        super().settle(reservation, pico, tokens)


def test_a_rate_holds_a_calls_most_tokens_and_then_what_it_took(make_desk: MakeDesk) -> None:
    """Without any budget no price is needed, and nothing is held but tokens."""
    desk = make_desk(store=Owned)
    with desk.budget.hold(step_of("unpriced"), REQUEST, desk.holdings, Interrupts(desk.clock), 0) as hold:
        assert isinstance(hold, Hold)
        hold.tokens = 70
    assert desk.store.asked == [10 + 100]
    assert desk.store.settled == [(0, 70)]
    assert desk.hold(None) is None
    assert len(desk.store.settled) == 1  # of a call of which nobody knows what it took, the most stays


def test_a_call_waits_until_a_minute_has_room(make_desk: MakeDesk) -> None:
    clock = Happening()
    desk = make_desk(clock, store=Owned, day=1)
    desk.store.answers = [USED_UP] * 6
    assert desk.hold("0.02", patience=100) is None
    assert desk.holdings.waits == [WAITED] * 6
    assert clock.waits == sorted(clock.waits)  # ever longer, but
    assert clock.waits[0] < max(clock.waits) == USED_UP.seconds  # no longer than until there is room
    assert desk.budget.left() == {"today": Decimal("0.98")}
    assert set(desk.store.asked) == {110}


@pytest.mark.parametrize(("used", "left"), [(950, 50), (1000, 0), (1200, 0)])
def test_the_wait_for_a_minute_ends_at_its_deadline(make_desk: MakeDesk, used: int, left: int) -> None:
    clock = Happening()
    desk = make_desk(clock, store=Owned)
    desk.store.answers = [Busy(RATE, used, 50.0)] * 1000
    words = f"acme/small must wait, and {left} of 1,000 tokens a minute for the team science are left"
    assert desk.hold(patience=2) == Refusal(words, busy=True)
    assert sum(clock.waits) == pytest.approx(2)
    clock.waits.clear()
    assert desk.hold(patience=0) == Refusal(words, busy=True)
    assert clock.waits == []


def test_an_owners_budget_is_kept_and_shown_like_the_users_own(make_desk: MakeDesk) -> None:
    desk = make_desk(store=Owned)
    desk.store.allowed = []
    assert not desk.budget.active
    desk.store.set = [Limit("a call of the team", 10**12, "call"), Limit("the team today", 10**12, "day")]
    assert desk.budget.active
    desk.spend("0.95")
    assert desk.budget.left() == {"the team today": Decimal("0.05")}  # a call's begins anew with each
    desk.store.set = desk.store.set[1:]
    words = "acme/small could cost $0.10, and $0.050 is left of the budget of $1.00 for the team today"
    assert desk.budget.shortage(step_of(), REQUEST) == Refusal(words)


# --- jobs that go on without this process ---


def test_a_batch_holds_its_money_until_its_own_end(make_desk: MakeDesk) -> None:
    desk = make_desk(day=1)
    assert desk.budget.reserve(Decimal("0.75"), OTHER, 500) is None
    assert desk.budget.left() == {"today": Decimal("0.25")}
    refused = desk.budget.reserve(Decimal("0.5"), OWNER, 500)
    words = "the batch could cost $0.50, and $0.25 is left of the budget of $1.00 for today"
    assert refused == Refusal(f"{words} ($0.75 is reserved for calls in flight)")
    assert desk.budget.reserve(Decimal("0.25"), OWNER, 500) is None
    desk.clock.pass_(499)
    assert desk.budget.left() == {"today": Decimal(0)}
    desk.store.release(OTHER)
    assert desk.budget.left() == {"today": Decimal("0.75")}
    desk.clock.pass_(2)
    assert desk.budget.left() == {"today": Decimal(1)}


def test_without_a_budget_a_batch_holds_nothing(make_desk: MakeDesk, tmp_path: Path) -> None:
    assert make_desk().budget.reserve(Decimal(10**6), OWNER, 500) is None
    assert make_desk(call=1).budget.reserve(Decimal(10**6), OWNER, 500) is None  # it is no call


def test_a_batch_needs_to_know_what_is_spent(make_desk: MakeDesk) -> None:
    desk = make_desk(store=Owned, day=1)
    desk.store.answers = [Unavailable(Limit("today", 10**12, "day"), "database is locked")]
    words = "and it is unknown what is left of the budget of $1.00 for today: database is locked"
    refused = desk.budget.reserve(Decimal("0.5"), OWNER, 500)
    assert refused == Refusal(f"the batch could cost $0.50, {words}", unknown=True)
