"""What every store's log does: rows come back as they were, and every sum, page and rank agrees with the rows."""

from __future__ import annotations

import datetime as dt
import itertools
import random
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pandas as pd
import pytest

from ipyrouter.reporting.log import frame_of
from ipyrouter.store.base import (
    Group,
    LogFilter,
    LoggedAttempt,
    LoggedRequest,
    LogRow,
    Order,
    OrderColumn,
    RequestTotals,
    Store,
    Totals,
    moment,
)
from ipyrouter.store.postgres import reader
from ipyrouter.store.sqlite import SQLiteStore
from ipyrouter.text import tags
from ipyrouter.types import TIERS, Attempt, Candidate, Cost, Session, Usage
from tests import postgres
from tests.store.conftest import NOON, ManualClock, a_record, of_attempts, random_record

HOUR = 3_600_000_000
STEPS = (32_000, 272_000)
ODD_STEPS = (100, 32_000)  # the first is no length at which any model's price changes


def fill(store: Store, clock: ManualClock, seed: int, number: int = 120) -> None:
    """Write requests of some days at random, several of one moment, some restored, some deleted again."""
    chance = random.Random(seed)
    names = [f"{seed}-{place:03}" for place in range(number)]
    chance.shuffle(names)
    clock.set(NOON - dt.timedelta(days=3))
    for name in names:
        session = Session(chance.choice(["one", "two"]), NOON, notebook=chance.choice([None, "a.ipynb", "b.ipynb"]))
        tags = chance.choice([(), (), ("x",), ("y", "x"), ("x-y",), ("ünï'",)])
        if chance.random() < 0.1:
            created = NOON - dt.timedelta(minutes=chance.randrange(9000))
            store.restore([replace(random_record(chance, name, session=session, created=created), tags=tags)])
        else:
            store.record(replace(random_record(chance, name, session=session), tags=tags), None, 500)
        if chance.random() < 0.9:
            clock.pass_(chance.choice([0.000001, 1, 600, 3600, 20_000]))


ALL = LogFilter()


def frame(store: Store, log_filter: LogFilter = ALL) -> pd.DataFrame:
    return frame_of(store.log(log_filter))


FILTERS = [
    LogFilter(),
    LogFilter(tier="mid"),
    LogFilter(model="a,b;\"c'"),
    LogFilter(session="two", status="ok"),
    LogFilter(notebook="a.ipynb"),
    LogFilter(since=NOON - dt.timedelta(hours=30, minutes=7)),
    LogFilter(until=NOON - dt.timedelta(hours=10, seconds=1), tier="power"),
    LogFilter(since=NOON - dt.timedelta(days=2), until=NOON - dt.timedelta(days=1)),
    LogFilter(since=NOON, until=NOON),
    LogFilter(model="nobody"),
    LogFilter(text="-01"),
    LogFilter(text="NOBODY SAID THIS"),
    LogFilter(tag="x"),
    LogFilter(tag="ünï'", tier="mid", until=NOON - dt.timedelta(hours=10, seconds=1)),
    LogFilter(tag="nobody"),
    LogFilter(user="nobody"),
    LogFilter(team="nobody"),
]


# --- rows ---


def whose(store: Store) -> tuple[str, str] | tuple[None, None]:
    """Whose the rows are: only a team's store has logins."""
    return (None, None) if isinstance(store, SQLiteStore) else ("alice", postgres.TEAM)


def test_a_request_comes_back_as_it_was(store: Store, clock: ManualClock) -> None:
    session = Session("s", NOON, notebook="n.ipynb")
    record = a_record(
        "name", session=session, usage=Usage(7, 6, 5, 4, 3, estimated=True), cost=Decimal("0.123456789012"),
        status="weak", error_kind="weak", error="too short", fallback_from="o/other", prompt="what?",
    )  # fmt: skip
    store.record(replace(record, tags=("project-x", "ad-hoc", "project-x")), None, 500)
    (row,) = frame(store).astype(object).where(lambda f: f.notna(), None).to_dict("records")
    expected = {
        "time": pd.Timestamp(NOON), "answer_id": "name", "session": "s", "notebook": "n.ipynb",
        "user": whose(store)[0], "team": whose(store)[1], "tags": "ad-hoc,project-x", "tier": "mid",
        "routed_tier": "mid", "difficulty": 0.5, "escalated_from": None, "fallback_from": "o/other", "provider": "o",
        "model": "m", "status": "weak", "input_tokens": 7, "output_tokens": 6, "cached_input_tokens": 5,
        "cache_write_tokens": 4, "reasoning_tokens": 3, "estimated": True, "cost": 0.123456789012,
        "cost_pico": 123_456_789_012, "saved": None, "saved_pico": None, "price_id": None, "rates": None,
        "latency": 1.5, "first_token": 0.25, "finish": "stop", "error_kind": "weak", "error": "too short",
        "feedback": None, "prompt": "what?", "text": "text of name",
    }  # fmt: skip
    assert row == expected
    assert store.set_feedback("name", "good")
    assert not store.set_feedback("nobody", "good")
    assert list(frame(store)["feedback"]) == ["good"]


def test_without_content_no_word_of_prompt_or_answer_is_kept(store: Store) -> None:
    store.record(a_record(prompt=None), None, 500)
    assert frame(store)[["prompt", "text"]].isna().all(axis=None)
    store.record(a_record("b"), None, 500)
    bare = frame_of(store.log(LogFilter(), content=False))
    assert bare[["prompt", "text"]].isna().all(axis=None)


def test_restored_records_stand_at_their_time_and_come_in_once(store: Store) -> None:
    records = [a_record(name, created=NOON - dt.timedelta(days=day)) for day, name in enumerate("abc")]
    assert store.restore(records) == 3
    assert store.restore(records) == 0
    assert list(frame(store)["answer_id"]) == ["c", "b", "a"]
    assert list(frame(store)["time"]) == [pd.Timestamp(NOON - dt.timedelta(days=day)) for day in (2, 1, 0)]


def test_values_that_cannot_be_are_bounded_and_break_nothing(store: Store) -> None:
    nan, inf = float("nan"), float("inf")
    attempt = a_record().answer.attempts[0]
    store.record(
        of_attempts("odd", (
            replace(attempt, usage=Usage(10**30, -1, 2**53, 10**19, 0), cost=Cost(Decimal(10) ** 40), latency=nan),
            replace(attempt, cost=Cost(Decimal("NaN")), latency=inf, first_token=-inf,
                    candidate=Candidate("\ud800", "m\udfff")),
            replace(attempt, cost=Cost(Decimal(-1)), latency=-1.0, error="half \ud83d"),
        )), None, 500,
    )  # fmt: skip
    rows = frame(store)
    assert rows["input_tokens"].tolist() == [2**53, 100, 100]
    assert rows["output_tokens"].tolist() == [0, 10, 10]
    assert rows["cost_pico"].tolist() == [9 * 10**18, pd.NA, pd.NA]
    assert rows["latency"].tolist() == [0, 10**6, 0]
    assert rows["provider"].tolist() == ["o", "\ufffd", "o"]
    assert sum(row.cost_pico for row in store.totals(LogFilter())) == 9 * 10**18


@pytest.mark.parametrize("log_filter", FILTERS)
def test_every_condition_is_applied(store: Store, clock: ManualClock, log_filter: LogFilter) -> None:
    fill(store, clock, 1)
    pd.testing.assert_frame_equal(plain(frame(store, log_filter)), plain(matching(frame(store), log_filter)))


def test_the_parts_are_the_whole(store: Store, clock: ManualClock, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(store, clock, 2)
    parts = [frame_of(part) for part in store.parts(LogFilter())]
    pd.testing.assert_frame_equal(plain(pd.concat(map(plain, parts))), plain(frame(store)))


def matching(rows: pd.DataFrame, log_filter: LogFilter) -> pd.DataFrame:
    if log_filter.tag is not None:
        rows = rows[[log_filter.tag in tags.split(value) for value in rows["tags"].astype(object).fillna("")]]
    if log_filter.text is not None:
        texts = rows["prompt"].fillna("") + "\n" + rows["text"].fillna("")
        rows = rows[texts.str.lower().str.contains(log_filter.text.lower(), regex=False)]
    for name in ("tier", "model", "session", "notebook", "status", "user", "team"):
        if (value := getattr(log_filter, name)) is not None:
            rows = rows[rows[name] == value]
    if log_filter.since is not None:
        rows = rows[rows["time"] >= log_filter.since]
    return rows if log_filter.until is None else rows[rows["time"] < log_filter.until]


def plain(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows without categories, whose lists depend on what else was read."""
    categories = [name for name in rows if isinstance(rows[name].dtype, pd.CategoricalDtype)]
    return rows.astype(dict.fromkeys(categories, object)).reset_index(drop=True)


# --- pages ---


@pytest.mark.parametrize("log_filter", FILTERS)
def test_pages_run_through_the_rows_newest_first(store: Store, clock: ManualClock, log_filter: LogFilter) -> None:
    fill(store, clock, 3)
    everything = frame(store)
    rows = matching(everything, log_filter)
    keys = sorted(zip(rows["time"], rows["answer_id"], numbers_of(rows, everything), strict=True), reverse=True)
    expected = [(f"{time:%H:%M:%S.%f}", name, n) for time, name, n in keys]

    def keys_of(page: list[Any]) -> list[tuple[str, str, int]]:
        return [(f"{row.time:%H:%M:%S.%f}", row.key.answer_id, row.key.n) for row in page]

    pages, before = [], None
    while page := store.page(log_filter, 7, before=before):
        pages += keys_of(page)
        before = page[-1].key
    assert pages == expected
    for skip in (0, 1, 50, len(expected) - 3, len(expected), len(expected) + 5):
        assert keys_of(store.page(log_filter, 5, skip=max(skip, 0))) == expected[max(skip, 0) :][:5]


ORDERED: dict[str, Callable[[LogRow], Any]] = {
    "time": lambda row: row.key,
    "cost": lambda row: row.cost_pico,
    "status": lambda row: row.status,
    "tier": lambda row: TIERS.index(row.tier),
    "model": lambda row: f"{row.provider}/{row.model}".encode(),
    "tokens": lambda row: row.input_tokens + row.output_tokens,
    "latency": lambda row: row.latency,
    "saved": lambda row: row.saved_pico,
}


@pytest.mark.parametrize("descending", [True, False])
@pytest.mark.parametrize("column", ORDERED)
def test_pages_are_sorted_by_any_column(
    store: Store, clock: ManualClock, column: OrderColumn, descending: bool
) -> None:
    fill(store, clock, 5, 40)
    value = ORDERED[column]
    newest = store.page(LogFilter(), 1000)
    known = sorted((row for row in newest if value(row) is not None), key=value, reverse=descending)
    expected = [*known, *(row for row in newest if value(row) is None)]
    order = Order(column, descending)
    pages: list[LogRow] = []
    while page := store.page(LogFilter(), 9, skip=len(pages), order=order):
        pages += page
    assert pages == expected
    some = LogFilter(tier="mid")
    assert store.page(some, 1000, order=order) == [row for row in expected if row.tier == "mid"]


def test_a_request_is_looked_at_with_all_its_attempts(store: Store, clock: ManualClock) -> None:
    first, second = (
        Attempt("fast", Candidate("o", "m"), "error", Usage(7, 0), Cost(None), 1.5, error="503 overloaded"),
        Attempt("mid", Candidate("a", "n"), "ok", Usage(7, 5), Cost(Decimal("0.25")), 2.5, 0.5, "stop", "the answer"),
    )
    session = Session("s", NOON, notebook="n.ipynb")
    record = of_attempts("name", (first, second), prompt="what?\nwhy?", session=session, notes=("a note",))
    store.record(replace(record, system="be brief"), None, 500)
    assert store.request("nobody") is None
    found = store.request("name")
    assert found == LoggedRequest(
        "name", NOON, "n.ipynb", "mid", "fast", 0.5, "what?\nwhy?", "be brief", "the answer", ("a reason",),
        ("a note",),
        (
            LoggedAttempt("fast", "o", "m", "error", None, None, 7, 0, 1.5, "503 overloaded"),
            LoggedAttempt("mid", "a", "n", "ok", 250_000_000_000, None, 7, 5, 2.5, None),
        ),
    )  # fmt: skip
    store.record(of_attempts("secret", (second,), prompt=None), None, 500)
    secret = store.request("secret")
    assert secret is not None
    assert (secret.prompt, secret.text, secret.reasons) == (None, None, ())


def test_a_page_stays_where_it_is_while_rows_come(store: Store, clock: ManualClock) -> None:
    for name in "abcdef":
        store.record(a_record(name), None, 500)
        clock.pass_(1)
    first = store.page(LogFilter(), 2)
    store.record(a_record("new"), None, 500)
    assert [row.key.answer_id for row in store.page(LogFilter(), 2, before=first[-1].key)] == ["d", "c"]
    assert [row.key.answer_id for row in store.page(LogFilter(), 2)] == ["new", "f"]


# --- sums ---


def brute(rows: pd.DataFrame, everything: pd.DataFrame, bucket: int | None, steps: tuple[int, ...]) -> dict[Any, Any]:
    """The sums of rows, one by one, by what the store groups them by."""
    requests = dict(iter(everything.groupby("answer_id", sort=False)))
    sums: dict[Any, dict[str, Any]] = defaultdict(lambda: defaultdict(int))
    for (_, row), n in zip(rows.iterrows(), numbers_of(rows, everything), strict=True):
        request = requests[row["answer_id"]]
        head, answered = head_of(request)
        start = 0 if bucket is None else row["time"].value // 1000 // bucket * bucket
        key = (
            start, row["tier"], row["provider"], row["model"], row["status"], answered and n == head,
            bool(request["cost_pico"].notna().all()), sum(row["input_tokens"] > step for step in steps),
        )  # fmt: skip
        sums[key]["rows"] += 1
        sums[key]["sent"] += row["status"] != "cached" and row["error_kind"] != "cooling_down"
        sums[key]["unpriced"] += pd.isna(row["cost_pico"])
        sums[key]["cost_pico"] += 0 if pd.isna(row["cost_pico"]) else int(row["cost_pico"])
        sums[key]["saved_pico"] += 0 if pd.isna(row["saved_pico"]) else int(row["saved_pico"])
        sums[key]["unsaved"] += row["status"] == "cached" and pd.isna(row["saved_pico"])
        for name in ("input_tokens", "output_tokens", "cached_input_tokens", "cache_write_tokens", "reasoning_tokens"):
            sums[key][name] += row[name]
        sums[key]["latency"] += row["latency"]
        if n == head:
            sent = request[request["status"] != "cached"]
            rank = request["tier"].map(TIERS.index).astype(int)
            up = sent[rank.loc[sent.index] > rank.iloc[0]]
            sums[key]["count"] += 1
            sums[key]["calls"] += len(sent)
            sums[key]["calls_unpriced"] += int(sent["cost_pico"].isna().sum())
            sums[key]["calls_pico"] += int(sent["cost_pico"].sum())
            sums[key]["calls_latency"] += sent["latency"].sum()
            sums[key]["fallbacks"] += not pd.isna(row["fallback_from"])
            sums[key]["escalations"] += len(up) > 0
            sums[key]["escalated_unpriced"] += int(up["cost_pico"].isna().sum())
            sums[key]["escalated_pico"] += int(up["cost_pico"].sum())
    return sums


def numbers_of(rows: pd.DataFrame, everything: pd.DataFrame) -> list[int]:
    return everything.groupby("answer_id").cumcount().loc[rows.index].tolist()


def head_of(request: pd.DataFrame) -> tuple[int, bool]:
    """Return which attempt stands for a request, and whether it answered."""
    statuses = list(request["status"])
    deciding = [n for n, status in enumerate(statuses) if status in ("ok", "weak", "refused", "cached", "interrupted")]
    if deciding and statuses[deciding[-1]] != "interrupted":
        return deciding[-1], True
    return len(statuses) - 1, False


def figures_of(totals: list[Totals]) -> dict[Any, Any]:
    sums: dict[Any, dict[str, Any]] = defaultdict(lambda: defaultdict(int))
    for row in totals:
        key = (row.start, row.tier, row.provider, row.model, row.status, row.final, row.priced, row.band)
        figures = {
            name: getattr(row, name) for name in ("rows", "sent", "unpriced", "cost_pico", "saved_pico", "unsaved")
        }
        figures |= {name: getattr(row.usage, name) for name in Usage.__slots__ if name != "estimated"}
        requests: RequestTotals = row.requests
        figures |= {
            "latency": row.latency, "count": requests.count, "calls": requests.calls,
            "calls_unpriced": requests.unpriced, "calls_pico": requests.cost_pico, "calls_latency": requests.latency,
            "fallbacks": requests.fallbacks, "escalations": requests.escalations,
            "escalated_unpriced": requests.escalated_unpriced, "escalated_pico": requests.escalated_pico,
        }  # fmt: skip
        for name, value in figures.items():
            sums[key][name] += value
    return sums


def agree(store: Store, log_filter: LogFilter, bucket: int | None = None, steps: tuple[int, ...] = ()) -> None:
    everything = frame(store)
    rows = matching(everything, log_filter)
    compare(figures_of(store.totals(log_filter, bucket, steps)), brute(rows, everything, bucket, steps))


def compare(actual: dict[Any, Any], expected: dict[Any, Any]) -> None:
    assert set(actual) == set(expected)
    for key, figures in actual.items():
        for name, value in figures.items():
            exact = expected[key][name] if "latency" not in name else pytest.approx(expected[key][name], abs=1e-6)
            assert value == exact, (key, name)


@pytest.mark.parametrize("log_filter", FILTERS)
@pytest.mark.parametrize("steps", [(), STEPS, ODD_STEPS])
def test_sums_agree_with_the_rows(
    store: Store, clock: ManualClock, log_filter: LogFilter, steps: tuple[int, ...]
) -> None:
    fill(store, clock, 4)
    agree(store, log_filter, None, steps)


@pytest.mark.parametrize("bucket", [1_000_000, HOUR, 24 * HOUR])
def test_sums_by_time_agree_with_the_rows(store: Store, clock: ManualClock, bucket: int) -> None:
    fill(store, clock, 5)
    agree(store, LogFilter(), bucket)


@pytest.mark.parametrize("by", ["user", "team", "notebook", "tags"])
@pytest.mark.parametrize("log_filter", [ALL, LogFilter(since=NOON - dt.timedelta(hours=30, minutes=7), tag="x")])
def test_sums_by_a_column_agree_with_the_rows(
    store: Store, clock: ManualClock, monkeypatch: pytest.MonkeyPatch, log_filter: LogFilter, by: Group
) -> None:
    monkeypatch.setattr(reader, "_MANY_ROWS", 10)  # a server scans them in pieces
    fill(store, clock, 4)
    everything = frame(store)
    rows = matching(everything, log_filter)
    groups = rows[by].astype(object).where(rows[by].notna(), "")
    assert groups.nunique() > 1 or by in ("user", "team")
    totals = store.totals(log_filter, None, STEPS, by)
    assert {row.group for row in totals} == set(groups)
    for group in set(groups):
        expected = brute(rows[groups == group], everything, None, STEPS)
        compare(figures_of([row for row in totals if row.group == group]), expected)


def test_the_users_and_tags_that_there_are(store: Store, clock: ManualClock) -> None:
    fill(store, clock, 8)
    user, _ = whose(store)
    overview = store.overview(3)
    assert overview.tags == ("x", "x-y", "y", "ünï'")
    assert overview.users == ((user,) if user else ())


def test_sums_agree_after_answers_are_forgotten(disk_store: Store, clock: ManualClock) -> None:
    fill(disk_store, clock, 6)
    names = frame(disk_store)["answer_id"].unique()
    assert disk_store.forget(names[3], None, content=False) == 1
    assert disk_store.forget(names[5], None, content=True) == 1
    disk_store.forget(None, NOON - dt.timedelta(days=2), content=False)
    assert 0 < len(frame(disk_store)["answer_id"].unique()) < len(names) - 1
    agree(disk_store, LogFilter(), None, STEPS)
    disk_store.forget(None, None, content=False)
    assert disk_store.totals(LogFilter()) == []


def test_an_empty_log(store: Store) -> None:
    assert len(frame(store)) == 0
    assert store.page(LogFilter(), 5) == []
    assert store.totals(LogFilter(), HOUR) == []
    assert store.top(None, None, "cost", 5) == []
    assert store.last_calls() == []
    overview = store.overview(5)
    assert (overview.days, overview.models) == ((), ())


# --- ranks and choices ---


@pytest.mark.parametrize("span", [(None, None), (NOON - dt.timedelta(days=1, minutes=3), NOON + dt.timedelta(hours=3))])
def test_the_first_requests_are_those_of_the_rows(store: Store, clock: ManualClock, span: tuple[Any, Any]) -> None:
    fill(store, clock, 7)
    rows = matching(frame(store), LogFilter(*span))
    sent = rows[rows["status"] != "cached"].groupby("answer_id", sort=False)
    costs, latencies = sent["cost_pico"].sum(), sent["latency"].sum()
    for by, ranked in (("cost", costs), ("latency", latencies)):
        requests = store.top(*span, by, 5)  # type: ignore[arg-type]
        assert [one.answer_id for one in requests] == list(ranked[ranked > 0].sort_values(ascending=False).index[:5])
        for one in requests:
            assert one.cost_pico == costs[one.answer_id]
            assert one.latency == pytest.approx(latencies[one.answer_id])
            assert one.unpriced == sent["cost_pico"].apply(lambda costs: costs.isna().sum())[one.answer_id]


def test_what_there_is_to_choose(store: Store, clock: ManualClock) -> None:
    fill(store, clock, 8)
    rows = frame(store)
    overview = store.overview(3)
    days = sorted(rows["time"].dt.strftime("%Y-%m-%d").unique(), reverse=True)
    assert overview.days == tuple(days[:3])
    assert overview.models == tuple(sorted(rows["model"].unique()))
    assert [moment(overview.first), moment(overview.last)] == [rows["time"].min(), rows["time"].max()]


def test_each_models_last_call(store: Store, clock: ManualClock) -> None:
    fill(store, clock, 9)
    rows = frame(store)
    sent = rows[(rows["status"] != "cached") & (rows["error_kind"] != "cooling_down")]
    last = sent.sort_values(["time", "answer_id"], kind="stable").groupby(["provider", "model"], observed=True).last()
    actual = {(call.provider, call.model): (call.time, call.status) for call in store.last_calls()}
    assert actual == {key: (row["time"], row["status"]) for key, row in last.iterrows()}
    times = [call.time for call in store.last_calls()]
    assert times == sorted(times)
    assert all(a <= b for a, b in itertools.pairwise(times))
