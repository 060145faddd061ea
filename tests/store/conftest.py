"""Stores to test, a clock that tests set, and requests made at random."""

from __future__ import annotations

import contextlib
import datetime as dt
import functools
import random
import sqlite3
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from ipyrouter.store.base import Record, Store, microseconds
from ipyrouter.store.postgres import PostgresStore
from ipyrouter.store.sqlite import SQLiteStore
from ipyrouter.types import TIERS, Answer, Attempt, Candidate, Classification, Cost, Session, Usage

NOON = dt.datetime(2026, 11, 15, 12, tzinfo=dt.UTC)
SESSION = Session("session", NOON)
DAY = 86_400.0  # seconds


class ManualClock:
    """A clock that stands still until it is moved."""

    def __init__(self, at: dt.datetime = NOON) -> None:
        self.at = at
        self.since_boot = 1000.0
        self.moved: Callable[[], None] = lambda: None  # told of every move

    def now(self) -> dt.datetime:
        return self.at

    def monotonic(self) -> float:
        return self.since_boot

    def wait(self, stop: threading.Event, seconds: float) -> None:
        self.pass_(seconds)

    def pass_(self, seconds: float) -> None:
        self.set(self.at + dt.timedelta(seconds=seconds))
        self.since_boot += seconds
        self.moved()

    def set(self, at: dt.datetime) -> None:
        """Set the clock on the wall, as a user may; no time passes."""
        self.at = at
        self.moved()


class Happening(ManualClock):
    """A clock during which something happens, at each wait the next, and which notes how long each was."""

    def __init__(self, *happen: Callable[[], object]) -> None:
        super().__init__()
        self.waits: list[float] = []
        self.left = list(happen)

    def wait(self, stop: threading.Event, seconds: float) -> None:
        super().wait(stop, seconds)
        self.waits.append(seconds)
        if self.left:
            self.left.pop(0)()


MakeStore = Callable[..., Store]


def on_disk(folder: Path, clock: ManualClock) -> Store:
    return SQLiteStore(folder, clock=clock)


def in_memory(folder: Path, clock: ManualClock) -> Store:
    """A store whose folder cannot be made."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.write_text("in the way")
    return SQLiteStore(folder / "home", clock=clock)


@contextlib.contextmanager
def _factory_of_files(make: MakeStore, folder: Path, clock: ManualClock) -> Iterator[Store]:
    store = make(folder, clock)
    yield store
    store.close()


@contextlib.contextmanager
def on_a_server(folder: Path, clock: ManualClock) -> Iterator[Store]:
    """A team's store, in which the server's clock is the test's."""
    from tests import postgres

    with postgres.database() as name, postgres.server().connect(name) as owner:
        owner.execute(postgres.SET_CLOCK)

        def set_clock() -> None:
            owner.execute("UPDATE ipyrouter.clock SET moment = %s", (microseconds(clock.at),))

        clock.moved = set_clock
        set_clock()
        store = PostgresStore(postgres.server().url("alice", name), folder, clock=clock)
        yield store
        assert store.warnings() == []
        store.close()


FACTORIES = {
    "sqlite": functools.partial(_factory_of_files, on_disk),
    "sqlite-in-memory": functools.partial(_factory_of_files, in_memory),
    "postgres": on_a_server,
}
"""Whatever implements store.base.Store stands here, and the contract is tested with it."""


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture(params=["sqlite", "sqlite-in-memory", pytest.param("postgres", marks=pytest.mark.wire)])
def store(request: pytest.FixtureRequest, tmp_path: Path, clock: ManualClock) -> Iterator[Store]:
    with FACTORIES[request.param](tmp_path / "store", clock) as fresh:
        yield fresh


@pytest.fixture(params=["sqlite", "sqlite-in-memory"])
def file_store(request: pytest.FixtureRequest, tmp_path: Path, clock: ManualClock) -> Iterator[Store]:
    with FACTORIES[request.param](tmp_path / "store", clock) as fresh:
        yield fresh


@pytest.fixture
def disk_store(tmp_path: Path, clock: ManualClock) -> Iterator[SQLiteStore]:
    fresh = SQLiteStore(tmp_path / "store", clock=clock)
    yield fresh
    fresh.close()


def without_constraints(path: Path) -> sqlite3.Connection:
    """Open a database whose columns may be NULL: damage does not ask for constraints."""
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA writable_schema = ON")
    connection.execute("UPDATE sqlite_master SET sql = replace(sql, ' NOT NULL', '') WHERE type = 'table'")
    connection.commit()
    connection.close()  # the schema is read again with the next connection
    return sqlite3.connect(path)


def a_record(name: str = "a", *, session: Session = SESSION, owner: str = "", **fields: Any) -> Record:
    """A request with one attempt; fields of the attempt, and ``created``, ``cost_saved`` and ``prompt``."""
    extra = {name: fields.pop(name) for name in ("created", "cost_saved", "fallback_from") if name in fields}
    prompt = fields.pop("prompt", f"prompt of {name}")
    cost = fields.pop("cost", Decimal("0.5"))
    attempt = replace(
        Attempt("mid", Candidate("o", "m"), "ok", Usage(100, 10), Cost(cost), 1.5, 0.25, "stop", f"text of {name}"),
        **fields,
    )
    return of_attempts(name, (attempt,), prompt=prompt, session=session, owner=owner, **extra)


def of_attempts(
    name: str, attempts: tuple[Attempt, ...], *, prompt: str | None = "prompt", session: Session = SESSION,
    owner: str = "", **fields: Any,
) -> Record:  # fmt: skip
    last = attempts[-1]
    answer = Answer(
        id=name, text=last.text, tier=last.tier, provider=last.candidate.provider, model=last.candidate.model,
        cost=last.cost.amount, usage=last.usage, cached=last.status == "cached", latency=last.latency,
        finish=last.finish or "stop", classification=Classification(attempts[0].tier, 0.5, 0.5, ("a reason",)),
        attempts=attempts, **fields,
    )  # fmt: skip
    outcome = "cached" if answer.cached else "ok" if last.status == "ok" else "error"
    return Record(answer, outcome, prompt, None, session, owner)


def random_record(chance: random.Random, name: str, **fields: Any) -> Record:
    """A request with up to four attempts: escalations, faults, unknown prices, long contexts, or one from the cache."""

    def cost() -> Cost:
        amounts = [None, Decimal(0), Decimal(chance.randrange(10**12)).scaleb(-12), Decimal("0.000000000001")]
        amount = chance.choice(amounts)
        return Cost(amount, "config:x", (("input", Decimal(1)), ("output", Decimal(10))))

    def attempt(status: str, tier: str) -> Attempt:
        usage = Usage(
            chance.choice([chance.randrange(4000), 32_000, 32_001, 200_000, 272_001]), chance.randrange(2000),
            chance.randrange(20), chance.randrange(20), chance.randrange(20), estimated=chance.random() < 0.2,
        )  # fmt: skip
        candidate = Candidate(chance.choice("oa"), chance.choice(["m1", "m2", "a,b;\"c'", "ünï"]))
        failed = status in ("error", "partial", "interrupted")
        return Attempt(
            tier, candidate, status, usage, cost() if status != "cached" else Cost(Decimal(0)), chance.random() * 3,
            chance.choice([None, 0.5]), None if failed else "stop", f"{status} \x1e text of {name}",
            chance.choice(["server", "cooling_down"]) if failed else None, "went wrong" if failed else None,
        )  # type: ignore[arg-type]  # fmt: skip

    if chance.random() < 0.25:
        attempts = (attempt("cached", chance.choice(TIERS)),)
        fields["cost_saved"] = chance.choice([None, Decimal("0.25")])
    else:
        tiers = sorted((chance.choice(TIERS) for _ in range(chance.randint(1, 4))), key=TIERS.index)
        statuses = [chance.choice(["error", "weak", "partial"]) for _ in tiers[1:]]
        statuses.append(chance.choice(["ok", "ok", "refused", "error", "interrupted", "weak"]))
        attempts = tuple(map(attempt, statuses, tiers))
        if chance.random() < 0.3:
            fields["fallback_from"] = "o/first"
    prompt = chance.choice(["a prompt", None, "日本語\x00 \"quoted\", 'x'\r\n"])
    return of_attempts(name, attempts, prompt=prompt, **fields)
