"""The way of a prompt: one record whatever ends it, one plan for dry run and real run, and many requests at once."""

from __future__ import annotations

import asyncio
import os
import pickle
import signal
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ipyrouter import config
from ipyrouter.clock import SystemClock
from ipyrouter.config import Deadlines
from ipyrouter.errors import BudgetError, Interrupted, IPyRouterError, RouteError
from ipyrouter.pricing.prices import Pricing
from ipyrouter.providers.base import Call
from ipyrouter.router import Router
from ipyrouter.routing.interrupts import Interrupts
from ipyrouter.routing.planner import Step
from ipyrouter.routing.recorder import Recorder, RequestRun
from ipyrouter.store.sqlite import SQLiteStore
from ipyrouter.types import (
    TIERS,
    Answer,
    Candidate,
    Delta,
    ImagePart,
    Message,
    Prompt,
    Request,
    Session,
    TextPart,
    TierName,
)

MakeRouter = Callable[..., Router]


def locked(home: Path) -> sqlite3.Connection:
    """A connection that holds the write lock, as another kernel does while it writes."""
    other = sqlite3.connect(home / "ipyrouter.db", isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    return other


def test_a_stop_while_the_answer_is_written_loses_nothing(make_router: MakeRouter, home: Path) -> None:
    router = make_router()
    router.route("First, so that the database is there")
    others: list[sqlite3.Connection] = []
    arrived = threading.Event()

    def on_delta(delta: Delta) -> None:
        if not others:
            others.append(locked(home))
            arrived.set()

    def stop_then_unlock() -> None:
        arrived.wait(30)
        time.sleep(0.5)  # the answer is complete by now, and waits to be written
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.5)
        others[0].execute("ROLLBACK")

    stopper = threading.Thread(target=stop_then_unlock)
    stopper.start()
    with pytest.raises(Interrupted) as caught:
        router.route("Explain closures", on_delta=on_delta)
    stopper.join()
    assert caught.value.answer.text
    rows = router.log()
    assert list(rows["status"]) == ["ok", "ok"]
    assert rows["answer_id"].iloc[1] == caught.value.answer.id
    assert router.route("Explain closures").cached  # a whole answer is kept, whoever was impatient


@pytest.mark.parametrize("chain", [["o/status-503", "o/ok"], ["o/status-401", "a/ok"]])
def test_a_failed_attempt_gives_its_money_back(make_router: MakeRouter, chain: list[str]) -> None:
    """The budget has room for one call's worst case, not for two."""
    prices = {name: {"input": 0, "output": 10} for name in chain}
    router = make_router(mid=chain, prices=prices, budget={"call": 0.05, "session": 0.05})
    assert router.route("Explain closures", max_output_tokens=4000).model == "ok"


def test_a_refusal_names_the_budget_not_a_fault(make_router: MakeRouter) -> None:
    router = make_router(budget={"call": 0.00001, "action": "block"})
    with pytest.raises(BudgetError, match=r"more than the budget of \$0\.000010 for a call"):
        router.route("Explain closures")
    assert len(router.log()) == 0


def test_copies_of_a_router_share_its_session_budget(make_router: MakeRouter) -> None:
    router = make_router(budget={"session": 0.00065, "action": "block"})
    copies = [pickle.loads(pickle.dumps(router)) for _ in range(3)]
    assert {copy.session for copy in copies} == {router.session}
    sent = 0
    for number, copy in enumerate(copies * 3):
        try:
            copy.route(f"Explain closures {number}", max_output_tokens=30)
            sent += 1
        except BudgetError:
            pass
        finally:
            copy.close()
    spent = router.log()["cost"].sum()
    assert 0 < sent < 9
    assert spent <= 0.00065


# --- a dry run says what happens ---


def outcome(router: Router, prompt: str, **options: Any) -> str:
    try:
        answer = router.route(prompt, **options)
    except IPyRouterError as error:
        return type(error).__name__
    return f"{answer.tier} {answer.provider}/{answer.model} {answer.cached}"


def outcome_of(router: Router, prompt: str, **options: Any) -> str:
    preview = router.preview(prompt, **options)
    notes = " ".join(preview.notes)
    if "forbids this call" in notes:
        return "BudgetError"
    if "this would be an error" in notes:
        return "RouteError"
    return f"{preview.tier} {preview.candidate} {preview.cached}"


@pytest.mark.parametrize("tier", ["fast", "mid", "power"])
@pytest.mark.parametrize("action", ["downgrade", "block"])
@pytest.mark.parametrize("day", [None, 0.02, 0.0005, 0.00000001])
def test_a_dry_run_says_what_happens(make_router: MakeRouter, tier: str, action: str, day: float | None) -> None:
    chains = {"fast": ["o/ok"], "mid": ["o/status-401", "a/ok"], "power": ["a/status-503", "a/echo"]}
    names = {name for chain in chains.values() for name in chain}
    prices = {name: {"input": 1, "output": 10} for name in names} | {"a/echo": {"input": 10, "output": 100}}
    budget = {"action": action} | ({} if day is None else {"day": day})
    router = make_router(**chains, prices=prices, budget=budget)
    for number in range(3):  # from the second on, what failed is cooling down or off
        if number:
            before = outcome_of(router, f"Explain closures {number}", tier=tier)
            assert before == outcome(router, f"Explain closures {number}", tier=tier)
        else:
            outcome(router, "Explain closures 0", tier=tier)


def test_a_dry_run_knows_that_all_are_cooling_down(make_router: MakeRouter) -> None:
    router = make_router(mid=["o/status-401"])
    with pytest.raises(RouteError):
        router.route("Explain closures", tier="mid")
    assert "this would be an error" in " ".join(router.preview("Explain closures", tier="mid").notes)


# --- many at once ---


def test_many_requests_are_under_way_together(make_router: MakeRouter) -> None:
    async def scene() -> None:
        router = make_router(cache={"enabled": False})
        answers = await asyncio.gather(*(router.aroute(f"Explain closures {n}") for n in range(20)))
        assert len({answer.id for answer in answers}) == 20
        assert len(router.log()) == 20

    asyncio.run(scene())


def test_a_cancelled_request_is_recorded(make_router: MakeRouter) -> None:
    async def scene() -> None:
        router = make_router(
            mid=["o/stream-stall"], deadlines={"connect": 5, "first_byte": 60, "idle": 60, "total": 60}
        )
        arrived = asyncio.Event()
        call = router.aroute("Explain closures", on_delta=lambda delta: delta.text and arrived.set())
        task = asyncio.create_task(call)
        await asyncio.wait_for(arrived.wait(), 30)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(asyncio.shield(asyncio.gather(task, return_exceptions=False)), 30)
        (status,) = router.log()["status"]
        assert status == "interrupted"
        assert router.log()["cost_pico"].iloc[0] > 0

    asyncio.run(scene())


def test_errors_and_text_come_as_from_route(make_router: MakeRouter) -> None:
    async def scene() -> None:
        router = make_router(fast=["o/status-401"])
        pieces: list[Delta] = []
        answer: Answer = await router.aroute("Explain closures", tier="mid", on_delta=pieces.append)
        await asyncio.sleep(0)
        assert "".join(map(str, pieces)) == answer.text
        with pytest.raises(RouteError, match="401"):
            await router.aroute("What is a list?", tier="fast")

    asyncio.run(scene())


class StoppedAtTheDoor(Interrupts):
    """Is cancelled right after it has looked whether it was."""

    def raise_pending(self) -> None:
        super().raise_pending()
        self.cancel()


def test_a_stop_that_comes_as_a_wait_begins_ends_it() -> None:
    ended = threading.Event()
    with pytest.raises(KeyboardInterrupt), StoppedAtTheDoor(SystemClock()).waiting(ended.set):
        assert ended.is_set()


def test_a_stopped_request_that_was_answered_whole_says_what_was_sent_differently() -> None:
    call = Call("o", "openai", "", "ok", None, (Message("user", "x"),), 100, 0.5)
    now = SystemClock()
    run = RequestRun(Request(Prompt.of("x")), Session("test", now.now()), now)
    attempt = run.begin(Step("mid", Candidate("o", "ok"), call, Deadlines(1, 1, 1, 1)), lambda: None)
    attempt.collector.accepted = True
    attempt.collector.add("A whole answer.")
    attempt.collector.end("stop")
    attempt.collector.notes.append("The temperature was left out.")
    loaded = config.load(environ={})
    recorder = Recorder(loaded, SQLiteStore(Path("not-used")), Pricing(loaded), str)
    recorder.close_open_attempts(run)
    assert attempt.result is not None
    assert (attempt.result.status, run.notes) == ("ok", ["The temperature was left out."])


def test_many_requests_are_planned_as_each_by_itself(make_router: MakeRouter) -> None:
    """Those that differ in their text alone share a look at models and keys, and nothing else."""
    planner = make_router(mid=["o/ok", "g/ok"], power=["a/ok"])._pipeline.planner
    picture = Prompt((TextPart("What is this?"), ImagePart("A picture:", "a dot", b"png", "image/png", 1, 1)))
    history = (Message("user", Prompt.of("Before")), Message("assistant", Prompt.of("Yes")))
    kinds: list[dict[str, Any]] = [
        {}, {"tier": "power"}, {"system": "Be brief."}, {"history": history}, {"max_output_tokens": 7},
        {"model": "o/other"}, {"temperature": 0.5}, {"flex": True}, {"conversation": True}, {"json": True},
    ]  # fmt: skip
    texts = [Prompt.of("One"), Prompt.of("Two"), picture]
    requests = [Request(text, **kind) for text in texts for kind in kinds]
    asked: list[tuple[Request, TierName]] = [(request, tier) for request in requests for tier in TIERS]
    for (request, tier), plan in zip(asked, planner.plan_many(asked), strict=True):
        alone = planner.plan(request, tier)
        assert (plan.first, str(plan.missing)) == (alone.first, str(alone.missing))
        assert [step.call.key() for step in plan.first.steps] == [step.call.key() for step in alone.first.steps]
        if alone.of_tier is None:
            assert plan.of_tier is None
        else:
            assert plan.of_tier is not None
            assert all(plan.of_tier(name) == alone.of_tier(name) for name in TIERS)
