"""What every store does, whatever is behind it: cache, budgets and log, alone and together."""

from __future__ import annotations

import datetime as dt
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from decimal import Decimal

from ipyrouter.errors import StoreError
from ipyrouter.store.base import Claim, Limit, LogFilter, Refusal, Reservation, Run, Store, Unavailable
from ipyrouter.store.owners import new_owner
from ipyrouter.types import Session, Usage
from tests.store.conftest import DAY, NOON, SESSION, ManualClock, a_record

KEY, OTHER = b"k" * 32, b"o" * 32
DOLLAR = 10**12
TODAY, MONTH, OURS = (
    Limit("today", DOLLAR, "day"),
    Limit("this month", 10 * DOLLAR, "month"),
    Limit("this session", DOLLAR, "session"),
)


def put(store: Store, name: str = "a", key: bytes = KEY, **options: object) -> None:
    store.record(a_record(name), key, 500, **options)  # type: ignore[arg-type]


def claim(store: Store, owner: str, seconds: float = 60) -> str | None:
    """Return who may ask, None where the answer is there."""
    looked = store.cached_or_claim([KEY], KEY, owner, seconds, 30)
    return looked.owner if isinstance(looked, Claim) else None


def reserve(
    store: Store, dollars: str, *limits: Limit, session: Session = SESSION, owner: str = "", seconds: float = 60
) -> Reservation | Refusal | Unavailable:
    return store.reserve(int(Decimal(dollars) * DOLLAR), limits, session, owner or new_owner(), seconds)


# --- the cache ---


def test_an_answer_comes_back_as_it_was(store: Store) -> None:
    record = a_record(usage=Usage(7, 6, 5, 4, 3, estimated=True), cost=Decimal("0.123456789012"), tier="power")
    store.record(replace(record, answer=replace(record.answer, escalated_from="mid", cost=Decimal("0.2"))), KEY, 500)
    answer = store.cached([OTHER, KEY], 30)
    assert answer is not None
    assert (answer.text, answer.provider, answer.model, answer.tier) == ("text of a", "o", "m", "power")
    assert (answer.usage, answer.finish) == (Usage(7, 6, 5, 4, 3, estimated=True), "stop")
    assert (answer.cost, answer.escalated_from) == (Decimal("0.2"), "mid")
    assert store.cached([OTHER], 30) is None
    assert store.cached([], 30) is None


def test_the_first_key_that_has_an_answer_wins(store: Store) -> None:
    put(store, "one", OTHER)
    put(store, "two", KEY)
    assert [store.cached(keys, 30).text for keys in ([KEY, OTHER], [OTHER, KEY])] == ["text of two", "text of one"]  # type: ignore[union-attr]


def test_a_newer_answer_replaces_the_older(store: Store) -> None:
    put(store, "one")
    put(store, "two")
    assert store.cached([KEY], 30).text == "text of two"  # type: ignore[union-attr]
    assert store.clear_cache() == 1
    assert store.cached([KEY], 30) is None


def test_what_is_too_old_is_not_found_and_goes_with_the_next_answer(store: Store, clock: ManualClock) -> None:
    put(store)
    clock.pass_(10 * DAY)
    assert store.cached([KEY], 9) is None
    assert store.cached([KEY], 11) is not None
    put(store, "new", OTHER, max_age_days=9)
    assert store.cached([KEY], 11) is None
    assert store.clear_cache() == 1


def test_an_answer_of_a_clock_that_was_ahead_does_not_live_for_ever(store: Store, clock: ManualClock) -> None:
    clock.set(NOON + dt.timedelta(days=3650))
    put(store)
    clock.set(NOON)
    assert store.cached([KEY], 30) is None
    put(store, "new", OTHER, max_age_days=30)
    assert store.clear_cache() == 1


def test_the_least_recently_used_goes_first(store: Store, clock: ManualClock) -> None:
    for number in range(10):
        store.record(a_record(f"{number}"), bytes([number]) * 32, 500)
        clock.pass_(DAY)
    clock.pass_(2 * DAY)
    hit = store.cached([bytes(32)], 30)  # the oldest, used just now
    assert hit is not None
    store.record(a_record("again", status="cached"), hit.key, 500)
    clock.pass_(DAY)
    store.record(a_record("more"), KEY, 8 * 309 / 1e6)
    left = [number for number in range(10) if store.cached([bytes([number]) * 32], 30) is not None]
    assert 0 in left
    assert 1 not in left
    assert store.cached([KEY], 30) is not None


def test_one_of_many_may_ask_and_the_others_find_its_answer(store: Store) -> None:
    owners = [new_owner() for _ in range(20)]
    with ThreadPoolExecutor(10) as pool:
        (chosen,) = set(pool.map(lambda owner: claim(store, owner), owners))
    assert chosen in owners
    assert store.cached([KEY], 30) is None
    store.record(a_record(owner=chosen), KEY, 500)
    assert {claim(store, owner) for owner in owners} == {None}


def test_a_claim_ends_when_it_is_released_or_its_time_is_over(store: Store, clock: ManualClock) -> None:
    first, second, third = new_owner(), new_owner(), new_owner()
    assert claim(store, first) == claim(store, second) == first
    store.release(second)  # it holds nothing
    assert claim(store, second) == first
    store.release(first)
    assert claim(store, second, seconds=60) == second
    clock.pass_(61)
    assert claim(store, third) == third


def test_a_record_without_a_cache_entry_ends_the_claim_too(store: Store) -> None:
    first, second = new_owner(), new_owner()
    claim(store, first)
    store.record(a_record(owner=first), None, 500)
    assert claim(store, second) == second


# --- budgets ---


def test_what_is_spent_and_promised_counts(store: Store) -> None:
    assert isinstance(reserve(store, "0.6", TODAY, MONTH, OURS), Reservation)
    refused = reserve(store, "0.5", TODAY, MONTH, OURS)
    assert isinstance(refused, Refusal)
    assert (refused.limit, refused.used, refused.spent) == (TODAY, 6 * DOLLAR // 10, 0)
    assert isinstance(reserve(store, "0.4", TODAY, MONTH, OURS), Reservation)
    assert [store.used(limit, SESSION) for limit in (TODAY, MONTH, OURS)] == [DOLLAR] * 3
    assert isinstance(reserve(store, "0.000000000001", OURS), Refusal)
    assert isinstance(reserve(store, "0.5", OURS, session=Session("other", NOON)), Reservation)


def test_a_run_of_a_session_has_a_budget_of_its_own(store: Store) -> None:
    run, owner = Limit("this run", DOLLAR, "run"), new_owner()
    one, two = replace(SESSION, run="one"), replace(SESSION, run="two")
    assert isinstance(reserve(store, "0.6", run, MONTH, session=one, owner=owner), Reservation)
    refused = reserve(store, "0.5", run, MONTH, session=one)
    assert isinstance(refused, Refusal)
    assert (refused.limit, refused.used, refused.spent) == (run, 6 * DOLLAR // 10, 0)
    assert isinstance(reserve(store, "0.5", run, MONTH, session=two), Reservation)
    record = a_record(owner=owner, cost=Decimal("0.25"), session=one)
    store.record(record, None, 500)
    store.record(record, None, 500)  # sent again
    store.record(a_record("other", cost=Decimal("0.125")), None, 500)
    assert [store.used(run, session) for session in (one, two)] == [DOLLAR // 4, DOLLAR // 2]
    # What its runs spend is spent by the session, and of the day.
    assert [store.used(limit, SESSION) for limit in (OURS, TODAY)] == [7 * DOLLAR // 8] * 2


def test_a_refusal_names_the_budget_that_waiting_does_not_help(store: Store) -> None:
    store.record(a_record(cost=Decimal("0.95")), None, 500)
    reserve(store, "9", MONTH)
    refused = reserve(store, "0.1", MONTH, TODAY)
    assert isinstance(refused, Refusal)
    assert refused.limit == TODAY


def test_a_record_ends_what_its_owner_holds(store: Store) -> None:
    owner = new_owner()
    reserve(store, "0.5", TODAY, owner=owner)
    reserve(store, "0.3", TODAY, owner=owner)
    store.record(a_record(owner=owner, cost=Decimal("0.1")), None, 500)
    assert store.used(TODAY, SESSION) == DOLLAR // 10


def test_a_call_that_has_ended_gives_back_what_it_has_not_spent(store: Store) -> None:
    owner = new_owner()
    failed = reserve(store, "0.8", TODAY, owner=owner)
    assert isinstance(failed, Reservation)
    store.settle(failed.id, 0)
    answered = reserve(store, "0.9", TODAY, owner=owner)
    assert isinstance(answered, Reservation)
    store.settle(answered.id, DOLLAR // 4)
    assert store.used(TODAY, SESSION) == DOLLAR // 4
    store.release(owner)
    assert store.used(TODAY, SESSION) == 0


def test_days_months_and_sessions_begin_anew(store: Store, clock: ManualClock) -> None:
    def used(session: Session = SESSION) -> list[float]:
        return [store.used(limit, session) / DOLLAR for limit in (TODAY, MONTH, OURS)]  # type: ignore[operator]

    clock.set(dt.datetime(2026, 11, 30, 23, 59, 59, tzinfo=dt.UTC))
    store.record(a_record("a", cost=Decimal("0.5")), None, 500)
    assert used() == [0.5, 0.5, 0.5]
    clock.pass_(1)
    assert used() == [0, 0, 0.5]
    store.record(a_record("b", cost=Decimal("0.25")), None, 500)
    clock.pass_(3 * DAY)
    store.record(a_record("c", cost=Decimal("0.125"), session=Session("new", clock.at)), None, 500)
    assert used() == [0.125, 0.375, 0.75]
    assert used(Session("new", clock.at)) == [0.125, 0.375, 0.125]


def test_the_promises_of_the_dead_do_not_count(store: Store, clock: ManualClock) -> None:
    reserve(store, "1", TODAY, seconds=60)
    clock.pass_(61)
    assert store.used(TODAY, SESSION) == 0
    assert isinstance(reserve(store, "1", TODAY), Reservation)


def test_dead_promises_lapse_with_the_clock_set_back_and_live_ones_stay_with_it_set_ahead(
    file_store: Store, clock: ManualClock
) -> None:
    store = file_store  # a team goes by its server's clock, which no user sets
    reserve(store, "0.5", TODAY, seconds=60)
    clock.set(NOON + dt.timedelta(hours=5))
    assert store.used(TODAY, SESSION) == DOLLAR // 2
    clock.set(NOON - dt.timedelta(days=400))
    clock.pass_(61)
    assert store.used(TODAY, SESSION) == 0


def test_rows_of_a_clock_that_was_ahead_block_no_day_before_theirs(store: Store, clock: ManualClock) -> None:
    clock.set(NOON + dt.timedelta(days=3))
    store.record(a_record("ahead", cost=Decimal(9)), None, 500)
    clock.set(NOON + dt.timedelta(days=400))
    store.record(a_record("far ahead", cost=Decimal(99)), None, 500)
    clock.set(NOON)
    assert [store.used(limit, SESSION) for limit in (TODAY, MONTH)] == [0, 0]
    assert isinstance(reserve(store, "1", TODAY, MONTH), Reservation)


def test_what_is_restored_uses_up_no_budget_and_counts_in_reports(store: Store) -> None:
    assert store.restore([a_record("theirs", cost=Decimal(50), created=NOON)]) == 1
    assert [store.used(limit, SESSION) for limit in (TODAY, MONTH, OURS)] == [0, 0, 0]
    assert sum(row.cost_pico for row in store.totals(LogFilter())) == 50 * DOLLAR


def test_amounts_that_no_sum_could_hold_fill_a_budget_and_break_nothing(store: Store) -> None:
    for number in range(12):
        record = a_record(f"{number}", cost=Decimal(10) ** (number * 3), usage=Usage(10 ** (number * 2), -5))
        store.record(record, KEY, 500)
    assert isinstance(reserve(store, "0.000001", TODAY, MONTH), Refusal)
    used = store.used(MONTH, SESSION)
    assert isinstance(used, int)
    assert used > 5 * 9_000_000 * DOLLAR


def test_many_threads_never_promise_more_than_there_is(store: Store) -> None:
    with ThreadPoolExecutor(16) as pool:
        granted = list(pool.map(lambda _: reserve(store, "0.05", TODAY), range(64)))
    assert sum(isinstance(one, Reservation) for one in granted) == 20
    assert store.used(TODAY, SESSION) == DOLLAR


# --- runs over columns ---


def a_run(name: str = "run", at: dt.datetime = NOON, **state: object) -> Run:
    return Run(name, at, at, state)


def test_a_run_is_kept_until_it_is_dropped(store: Store) -> None:
    store.put_run(a_run(rows=3))
    store.put_run(a_run("later", NOON + dt.timedelta(hours=1), rows=5))
    store.put_run(a_run(at=NOON + dt.timedelta(hours=2), rows=4))
    first, second = store.runs()
    assert (first.id, first.created, first.updated, first.state) == (
        "run", NOON, NOON + dt.timedelta(hours=2), {"rows": 4},
    )  # fmt: skip
    assert second.id == "later"
    assert store.drop_run("run")
    assert not store.drop_run("run")
    assert [run.id for run in store.runs()] == ["later"]


def test_what_a_run_keeps_neither_ages_nor_is_evicted(store: Store, clock: ManualClock) -> None:
    store.record(replace(a_record("kept"), run="run"), KEY, 500)
    store.record(a_record("other"), OTHER, 500)
    clock.pass_(40 * DAY)
    put(store, "new", b"n" * 32, max_age_days=30)
    assert [answer and answer.text for answer in store.cached_many([[KEY], [OTHER], [b"x" * 32, KEY]], 30)] == [
        "text of kept", None, "text of kept",
    ]  # fmt: skip
    for number in range(5):
        store.record(a_record(f"{number}"), bytes([number]) * 32, 0.0007)  # room for two
    assert store.cached([KEY], 30) is not None
    store.drop_run("run")
    assert store.cached([KEY], 30) is None


def test_an_answer_that_is_pinned_later_is_kept_too(store: Store, clock: ManualClock) -> None:
    put(store)
    store.pin("run", [KEY])
    store.pin("run", [KEY])
    clock.pass_(40 * DAY)
    assert store.cached([KEY], 30) is not None


def test_forgetting_takes_runs_along(store: Store) -> None:
    store.put_run(a_run(prompt="secret"))
    try:
        store.forget(None, None, content=True)
    except StoreError:  # a store whose disk refuses says so
        return
    assert store.runs() == []
