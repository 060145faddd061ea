"""The providers' batch APIs, with the real SDKs: submit, survive a restart, collect, partial failures."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from ipyrouter.clock import Clock, SystemClock
from ipyrouter.errors import BudgetError, UsageError
from ipyrouter.providers.anthropic import AnthropicBackend
from ipyrouter.providers.openai import OpenAIBackend
from ipyrouter.router import Router
from tests import postgres
from tests.batch.batch_server import BatchServer
from tests.conftest import run_python
from tests.faults.server import chat, claude_whole

pytestmark = pytest.mark.wire


def answer(body: dict[str, Any]) -> Any:
    """Answer with the last word; "bad" is an error, "lost" gets no answer, "odd" fits no schema."""
    word = body["messages"][-1]["content"].split()[-1]
    if word == "bad":
        return (400, "this request is not valid")
    if word == "lost":
        return None
    text = (
        json.dumps({"word": word}) if "response_format" in body or "format" in body.get("output_config", {}) else word
    )
    text = "{}" if word == "odd" else text
    return claude_whole(text) if body["model"].startswith("claude") else chat(text)


class Ending:
    """A clock whose wait lets the server's jobs end."""

    def __init__(self, server: BatchServer, clock: Clock, state: str = "completed") -> None:
        self.server, self.state, self.waits = server, state, []
        self.now, self.monotonic = clock.now, clock.monotonic

    def wait(self, stop: Any, seconds: float) -> None:
        self.waits.append(seconds)
        if len(self.waits) == 3:
            self.server.end(self.state)


@pytest.fixture
def batches() -> Iterator[BatchServer]:
    server = BatchServer(answer)
    yield server
    server.close()


MakeRouter = Callable[..., Router]


@pytest.fixture
def make(batches: BatchServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MakeRouter]:
    monkeypatch.setenv("OPENAI_BASE_URL", f"{batches.url}/v1")
    monkeypatch.setenv("A_KEY", "sk-ant-secret")
    routers = []

    def build(model: str = "o/gpt", *, clock: Any = None, home: str = "home", **settings: Any) -> Router:
        config = {
            "providers": {
                "o": {"sdk": "openai", "base_url": f"{batches.url}/v1"},
                "a": {"sdk": "anthropic", "base_url": batches.url, "key": "A_KEY"},
                "g": {"sdk": "google", "base_url": batches.url},
            },
            "tiers": {tier: {"chain": [model]} for tier in ("fast", "mid", "power")},
            "prices": {model: {"input": 0, "output": 10}},
            "routing": {"mode": "rules"},
            **settings,
        }
        routers.append(Router(config, home=tmp_path / home, clock=clock))
        return routers[-1]

    yield build
    for router in routers:
        router.close()


MODELS = ["o/gpt", "a/claude-haiku-5-5"]


@pytest.mark.parametrize("model", MODELS)
def test_submit_survive_a_restart_and_collect(make: MakeRouter, batches: BatchServer, model: str) -> None:
    first = make(model)
    rows = ["a", "b", "bad", "lost", "a", None]
    waiting = first.map(rows, "Repeat {{x}}", delivery="batch", wait=False)
    assert list(waiting["_status"]) == ["in batch"] * 5 + ["missing"]
    assert waiting["_error"][0].startswith("in the batch")
    assert list(first.runs()["status"]) == ["in batch"]
    assert len(first.log()) == 0
    first.close()

    second = make(model)  # another process
    assert second.map(rows, "Repeat {{x}}", delivery="batch", wait=False)["_status"][0] == "in batch"
    assert len(batches.lines) == 1  # nothing is submitted twice
    (lines,) = batches.lines.values()
    assert len(lines) == 4
    assert all(len(line["custom_id"]) == 64 for line in lines)
    batches.end("expired")
    done = second.map(rows, "Repeat {{x}}", delivery="batch", wait=False)
    assert list(done["_status"]) == ["ok", "ok", "error", "error", "ok", "missing"]
    assert list(done["answer"])[:2] == ["a", "b"]
    assert "this request is not valid" in done["_error"][2]
    assert "expired" in done["_error"][3]
    log = second.log()
    assert list(log[log["status"] == "ok"]["cost"]) == [0.0003, 0.0003]
    assert list(second.runs()["status"]) == ["incomplete"]

    # Answers are in the cache, and what is missing goes into a second batch, or live.
    again = second.map(rows, "Repeat {{x}}", delivery="batch", wait=False)
    assert list(again["_cached"])[:2] == [True, True]
    assert list(again["_status"])[2:4] == ["in batch", "in batch"]
    assert [len(lines) for lines in batches.lines.values()] == [4, 2]
    assert second.route("Repeat a").cached


def test_a_teams_member_submits_on_one_machine_and_collects_on_another(make: MakeRouter, batches: BatchServer) -> None:
    with postgres.database() as name:
        machines = [
            make(home=home, store={"url": postgres.server().url(user, name)}, budget={"day": 1})
            for home, user in (("desk", "alice"), ("laptop", "alice"), ("his", "bob"))
        ]
        desk, laptop, his = machines
        assert list(desk.map(["a", "b"], "Repeat {{x}}", delivery="batch", wait=False)["_status"]) == ["in batch"] * 2
        assert his.runs().empty
        assert laptop.guard().left()["today"] < 1
        batches.end("completed")
        done = laptop.map(["a", "b"], "Repeat {{x}}", delivery="batch", wait=False)
        assert list(done["answer"]) == ["a", "b"]
        assert len(batches.lines) == 1
        assert list(desk.runs()["status"]) == ["done"]
        assert float(desk.guard().left()["today"]) == pytest.approx(1 - 0.0006)  # nothing is promised any more
        assert list(his.map(["a", "b"], "Repeat {{x}}")["_cached"]) == [True, True]
        assert [router.store.warnings() for router in machines] == [[]] * 3
        for router in machines:
            router.close()


def test_anthropics_key_goes_out_and_is_stored_nowhere(make: MakeRouter, batches: BatchServer, tmp_path: Path) -> None:
    make("a/claude-haiku-5-5").map(["a"], "Repeat {{x}}", delivery="batch", wait=False)
    (sent,) = batches.keys
    assert sent.endswith("sk-ant-secret")
    assert all(b"sk-ant-secret" not in path.read_bytes() for path in (tmp_path / "home").rglob("*") if path.is_file())


@pytest.mark.parametrize("model", MODELS)
def test_a_schema_is_enforced_and_validated(make: MakeRouter, batches: BatchServer, model: str) -> None:
    router = make(model)
    schema = {"word": str}
    router.map(["a", "odd"], "Repeat {{x}}", schema=schema, delivery="batch", wait=False)
    batches.end()
    done = router.map(["a", "odd"], "Repeat {{x}}", schema=schema, delivery="batch", wait=False)
    assert list(done["_status"]) == ["ok", "error"]
    assert done["word"][0] == "a"
    assert pd.isna(done["word"][1])
    assert "not what the schema" in done["_error"][1]
    assert float(router.log()["cost"].sum()) == pytest.approx(0.0006)  # the answer that does not fit is paid, too


def test_waiting_asks_ever_less_often(make: MakeRouter, batches: BatchServer) -> None:
    from ipyrouter.clock import SystemClock

    clock = Ending(batches, SystemClock())
    done = make(clock=clock).map(["a"], "Repeat {{x}}", delivery="batch")
    assert list(done["_status"]) == ["ok"]
    assert clock.waits == [30.0, 45.0, 67.5]


def test_ctrl_c_ends_the_wait_and_not_the_batch(make: MakeRouter, batches: BatchServer) -> None:
    from ipyrouter.clock import SystemClock

    class Stop(Ending):
        def wait(self, stop: Any, seconds: float) -> None:
            raise KeyboardInterrupt

    waiting = make(clock=Stop(batches, SystemClock())).map(["a"], "Repeat {{x}}", delivery="batch")
    assert list(waiting["_status"]) == ["in batch"]
    batches.end()
    assert list(make().map(["a"], "Repeat {{x}}", delivery="batch")["_status"]) == ["ok"]


def test_the_batch_price(make: MakeRouter, batches: BatchServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prices of genai-prices have the half price; here its OpenAI provider is the loopback server's."""
    from ipyrouter.pricing import prices

    known = prices._look_up("https://api.openai.com/v1", "gpt-4.1-mini")
    assert known is not None
    monkeypatch.setattr(prices, "_look_up", lambda address, model: known)
    router = make("o/gpt-4.1-mini", prices={})
    batches.answer = lambda body: {**chat("ok"), "model": "gpt-4.1-mini"}
    router.map(["a"], "Repeat {{x}}", delivery="batch", wait=False)
    batches.end()
    router.map(["a"], "Repeat {{x}}", delivery="batch", wait=False)
    row = router.log().iloc[0]
    full = (120 * Decimal("0.4") + 30 * Decimal("1.6")) / 1_000_000
    assert row["cost"] == pytest.approx(float(full / 2))
    assert "batch" in row["price_id"]


def test_a_file_that_the_provider_rejects(make: MakeRouter, batches: BatchServer) -> None:
    router = make()
    router.map(["a", "b"], "Repeat {{x}}", delivery="batch", wait=False)
    batches.end("failed")
    done = router.map(["a", "b"], "Repeat {{x}}", delivery="batch", wait=False)
    assert set(done["_status"]) == {"error"}
    assert done["_error"].str.contains("batch batch_0: invalid JSONL").all()
    assert len(router.log()) == 0  # nothing was paid


@pytest.mark.parametrize("model", MODELS)
def test_a_batch_that_is_not_taken(make: MakeRouter, batches: BatchServer, model: str) -> None:
    batches.refuse = (400, "no batches for you")
    router = make(model, budget={"session": 1})
    done = router.map(["a"], "Repeat {{x}}", delivery="batch")
    assert list(done["_status"]) == ["error"]
    assert "the batch was not taken: no batches for you" in done["_error"][0]
    assert router.guard().left()["this session"] == 1


def test_a_batch_that_is_gone(make: MakeRouter, batches: BatchServer) -> None:
    router = make()
    router.map(["a"], "Repeat {{x}}", delivery="batch", wait=False)
    batches.states.clear()
    done = router.map(["a"], "Repeat {{x}}", delivery="batch", wait=False)
    assert "does not know the batch batch_0 any more" in done["_error"][0]
    assert router.map(["a"], "Repeat {{x}}", delivery="batch", wait=False)["_status"][0] == "in batch"


def test_parts_keep_to_the_providers_limits(
    make: MakeRouter, batches: BatchServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(OpenAIBackend, "most_in_batch", (3, 2_000))
    rows = [*map(str, range(7)), "long " * 300, "longer " * 1000]
    done = make().map(rows, "Repeat {{x}}", delivery="batch", wait=False)
    assert [len(lines) for lines in batches.lines.values()] == [3, 3, 1, 1]
    assert list(done["_status"]) == ["in batch"] * 8 + ["error"]
    assert "a batch takes 2,000" in done["_error"][8]
    assert OpenAIBackend.most_in_batch[0] == 3
    assert AnthropicBackend.most_in_batch == (100_000, 256_000_000)


def test_the_whole_worst_case_is_reserved_until_the_batch_is_over(make: MakeRouter, batches: BatchServer) -> None:
    router = make(budget={"day": 0.1})
    router.map(["a", "b"], "Repeat {{x}}", delivery="batch", wait=False, max_output_tokens=4000)  # $0.08
    router.close()
    other = make(budget={"day": 0.1})
    assert other.guard().left()["today"] == pytest.approx(Decimal("0.02"), abs=Decimal("0.001"))
    refused = other.map(["c", "d"], "Repeat {{x}}", delivery="batch", wait=False, max_output_tokens=4000)
    assert set(refused["_status"]) == {"budget"}
    assert len(batches.lines) == 1
    batches.end()
    other.map(["a", "b"], "Repeat {{x}}", delivery="batch", wait=False, max_output_tokens=4000)
    assert other.guard().left()["today"] == Decimal("0.1") - Decimal("0.0006")


def test_a_runs_budget(make: MakeRouter, batches: BatchServer) -> None:
    with pytest.raises(BudgetError, match=r"Nothing was sent: the batch could cost \$0.08"):
        make().map(["a", "b"], "Repeat {{x}}", delivery="batch", budget=0.05, max_output_tokens=4000)
    assert batches.lines == {}


def test_a_runs_budget_while_it_waits(make: MakeRouter, batches: BatchServer) -> None:
    """A job of an earlier call has never arrived; its rows are affordable no more when they should go out again."""
    batches.lose_answer = True
    make().map(["a", "b"], "Repeat {{x}}", delivery="batch", wait=False, max_output_tokens=4000)
    batches.lose_answer = False
    batches.lines.clear()
    batches.states.clear()
    clock = Passing(batches)
    router = make(clock=clock)
    options = {"budget": 0.05, "max_output_tokens": 4000}
    done = router.map(["a", "b", "c"], "Repeat {{x}}", delivery="batch", **options)
    assert list(done["_status"]) == ["budget", "budget", "ok"]
    assert "is left of this run's budget of $0.05" in done["_error"][0]
    (lines,) = batches.lines.values()
    assert [line["body"]["messages"][-1]["content"] for line in lines] == ["Repeat c"]


class Passing:
    """A clock whose every wait lasts an hour, in which the server's jobs end."""

    def __init__(self, server: BatchServer) -> None:
        self.server, self.passed = server, dt.timedelta()
        self.monotonic = SystemClock().monotonic

    def now(self) -> dt.datetime:
        return SystemClock().now() + self.passed

    def wait(self, stop: Any, seconds: float) -> None:
        self.passed += dt.timedelta(hours=1)
        self.server.end()


def test_collecting_twice_records_nothing_twice(make: MakeRouter, batches: BatchServer) -> None:
    router = make()
    router.map(["a", "bad"], "Repeat {{x}}", delivery="batch", wait=False)
    (run,) = router.store.runs()
    batches.end()
    router.map(["a", "bad"], "Repeat {{x}}", delivery="batch", wait=False)
    rows = len(router.log())
    router.store.put_run(run)  # as where the process died before the job was closed
    router.map(["a", "bad"], "Repeat {{x}}", delivery="batch", wait=False)
    assert len(router.log()) == rows


def test_a_run_with_a_batch_is_not_dropped(make: MakeRouter, batches: BatchServer) -> None:
    router = make()
    run = router.map(["a"], "Repeat {{x}}", delivery="batch", wait=False).run
    with pytest.raises(UsageError, match=r"has a batch at its provider \(batch_0\)"):
        router.drop_run(run)


def test_no_batch_api(make: MakeRouter, batches: BatchServer) -> None:
    done = make("g/gemini").map(["a"], "Repeat {{x}}", delivery="batch")
    assert "g/gemini has no batch API" in done["_error"][0]


@pytest.mark.parametrize(
    ("options", "words"),
    [({"delivery": "bach"}, "Did you mean 'batch'"), ({"delivery": "batch", "pilot": 3}, "A pilot is live")],
)
def test_what_cannot_be(make: MakeRouter, options: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        make().map(["a"], "Repeat {{x}}", **options)


# --- the process dies, or the answer is lost, between submitting a job and knowing its id ---


class Later:
    """A clock that is some seconds ahead."""

    def __init__(self, seconds: float) -> None:
        from ipyrouter.clock import SystemClock

        clock = SystemClock()
        self.now = lambda: clock.now() + dt.timedelta(seconds=seconds)
        self.monotonic, self.wait = clock.monotonic, clock.wait


@pytest.mark.parametrize("model", MODELS)
def test_a_job_whose_id_never_came_is_found_again(make: MakeRouter, batches: BatchServer, model: str) -> None:
    batches.lose_answer = True
    router = make(model, budget={"day": 1})
    waiting = router.map(["a", "b"], "Repeat {{x}}", delivery="batch", wait=False)
    assert list(waiting["_status"]) == ["in batch"] * 2
    assert "may not have arrived" in waiting["_error"][0]
    left = router.guard().left()["today"]
    assert left is not None
    assert left < 1  # it may be paid for
    router.close()
    batches.lose_answer = False
    other = make(model, budget={"day": 1})
    assert list(other.map(["a", "b"], "Repeat {{x}}", delivery="batch", wait=False)["_status"]) == ["in batch"] * 2
    batches.end()
    done = other.map(["a", "b"], "Repeat {{x}}", delivery="batch", wait=False)
    assert list(done["answer"]) == ["a", "b"]
    assert len(batches.lines) == 1


@pytest.mark.parametrize("model", MODELS)
def test_a_job_that_never_arrived_goes_out_again(make: MakeRouter, batches: BatchServer, model: str) -> None:
    batches.lose_answer = True
    make(model).map(["a"], "Repeat {{x}}", delivery="batch", wait=False)
    batches.lose_answer = False
    batches.lines.clear()
    batches.states.clear()
    make(model).map(["a"], "Repeat {{x}}", delivery="batch", wait=False)
    assert batches.lines == {}  # it may still be on its way
    make(model, clock=Later(3600)).map(["a"], "Repeat {{x}}", delivery="batch", wait=False)
    assert len(batches.lines) == 1


@pytest.mark.parametrize("content", [True, False])
def test_only_rows_of_this_call_go_out_again(make: MakeRouter, batches: BatchServer, content: bool) -> None:
    """Where no prompts are kept, nobody knows what a row asked that this call does not have."""
    log = {"content": content}
    batches.lose_answer = True
    make(log=log).map(["a", "b"], "Repeat {{x}}", delivery="batch", wait=False)
    batches.lose_answer = False
    batches.lines.clear()
    batches.states.clear()
    done = make(log=log, clock=Later(3600)).map(["a"], "Repeat {{x}}", delivery="batch", wait=False)
    assert list(done["_status"]) == ["in batch"]
    (lines,) = batches.lines.values()
    assert [line["body"]["messages"][-1]["content"] for line in lines] == ["Repeat a"]


_KILLED = """
import os
from ipyrouter.providers import Clients
from ipyrouter.router import Router
submit = Clients.submit
def die(*arguments):
    submit(*arguments)
    os.kill(os.getpid(), 9)
Clients.submit = die
Router({settings!r}, home={home!r}).map(["a", "b"], "Repeat {{{{x}}}}", delivery="batch", wait=False)
"""


@pytest.mark.kernel
def test_kill_9_between_the_job_and_its_id(make: MakeRouter, batches: BatchServer, tmp_path: Path) -> None:
    settings = {
        "providers": {"o": {"sdk": "openai", "base_url": f"{batches.url}/v1"}},
        "tiers": {tier: {"chain": ["o/gpt"]} for tier in ("fast", "mid", "power")},
        "routing": {"mode": "rules"},
    }
    with pytest.raises(AssertionError):
        run_python(_KILLED.format(settings=settings, home=str(tmp_path / "home")))
    assert len(batches.lines) == 1
    batches.end()
    done = make().map(["a", "b"], "Repeat {{x}}", delivery="batch", wait=False)
    assert list(done["answer"]) == ["a", "b"]
    assert len(batches.lines) == 1


# --- a run goes on where its data are not ---


@pytest.mark.parametrize("model", MODELS)
def test_a_run_is_attached_to_without_its_data(make: MakeRouter, batches: BatchServer, model: str) -> None:
    run = make(model).map(["a", "b", "bad"], "Repeat {{x}}", schema={"word": str}, delivery="batch", wait=False).run
    router = make(model)
    waiting = router.attach(run, wait=False)
    assert list(waiting["_status"]) == ["in batch"] * 3
    assert list(waiting.index) == ["Repeat a", "Repeat b", "Repeat bad"]
    batches.end()
    done = router.attach(run)
    assert list(done["word"])[:2] == ["a", "b"]
    assert list(done["_status"]) == ["ok", "ok", "error"]
    assert list(router.runs()["status"]) == ["incomplete"]
    assert len(router.log()) == 3
    aligned = router.map(["b", "a"], "Repeat {{x}}", schema={"word": str})
    assert list(aligned["word"]) == ["b", "a"]
    assert aligned["_cached"].all()
    with pytest.raises(UsageError, match=r"has no batch at a provider\. Call map again"):
        router.attach(run)
    with pytest.raises(UsageError, match="There is no run 'x'"):
        router.attach("x")


def test_what_is_attached_to_keeps_its_tags(make: MakeRouter, batches: BatchServer) -> None:
    run = make().map(["a"], "Repeat {{x}}", tags=["project-x"], delivery="batch", wait=False).run
    batches.end()
    router = make()
    router.attach(run)
    assert list(router.log(tag="project-x")["status"]) == ["ok"]


def test_without_content_no_prompt_is_kept_for_it(make: MakeRouter, batches: BatchServer, tmp_path: Path) -> None:
    options = {"system": "Be kindly.", "delivery": "batch", "wait": False}
    run = make(log={"content": False}).map(["secretly", "b"], "Repeat {{x}}", **options).run
    stored = b"".join(path.read_bytes() for path in (tmp_path / "home").rglob("*") if path.is_file())
    assert b"kindly" not in stored
    assert make(log={"content": False}).store.runs()[0].state["jobs"][0]["prompts"] == ""
    batches.end()
    router = make(log={"content": False})
    done = router.attach(run)
    assert list(done["answer"]) == ["secretly", "b"]
    assert all(len(name) == 64 for name in done.index)
    assert router.map(["secretly", "b"], "Repeat {{x}}", system="Be kindly.")["_cached"].all()


def test_rows_that_a_later_call_lacks_are_collected_too(make: MakeRouter, batches: BatchServer) -> None:
    router = make()
    router.map(["a", "b"], "Repeat {{x}}", delivery="batch", wait=False)
    batches.end()
    assert list(router.map(["a"], "Repeat {{x}}", delivery="batch", wait=False)["answer"]) == ["a"]
    assert list(router.map(["a", "b"], "Repeat {{x}}")["_cached"]) == [True, True]
    assert router.log()["cost"].sum() == pytest.approx(0.0006)


def test_a_run_of_another_version(make: MakeRouter, batches: BatchServer) -> None:
    router = make()
    router.map(["a"], "Repeat {{x}}", delivery="batch", wait=False)
    (run,) = router.store.runs()
    (job,) = run.state["jobs"]
    newer = {**job, "colour": "red"}
    router.store.put_run(dataclasses.replace(run, state={**run.state, "jobs": [newer]}))
    batches.end()
    assert list(router.map(["a"], "Repeat {{x}}", delivery="batch", wait=False)["answer"]) == ["a"]
    other = {name: value for name, value in job.items() if name != "owner"}
    router.store.put_run(dataclasses.replace(run, state={**run.state, "jobs": [other]}))
    with pytest.raises(UsageError, match=r"another version of ipyrouter has written\. Collect it with that version"):
        router.map(["a"], "Repeat {{x}}", delivery="batch", wait=False)
