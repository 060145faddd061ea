"""The chain's policy: what is tried, in which order, what cools down, and which error leads."""

from __future__ import annotations

import datetime as dt
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from ipyrouter import config, errors
from ipyrouter.config import Config, Deadlines
from ipyrouter.errors import RouteError
from ipyrouter.notebook import rendering
from ipyrouter.pricing.prices import Pricing
from ipyrouter.providers.base import Call, Change, Fault, FaultKind
from ipyrouter.providers.stream import Collector
from ipyrouter.router import Router
from ipyrouter.routing import chain as chain_module
from ipyrouter.routing.breaker import Breaker
from ipyrouter.routing.budget import Budget
from ipyrouter.routing.chain import Chain, ChainResult
from ipyrouter.routing.planner import Step
from ipyrouter.routing.recorder import RequestRun
from ipyrouter.store.sqlite import SQLiteStore
from ipyrouter.types import Attempt, Candidate, Completion, Message, Prompt, Request, Session, Usage
from tests.faults.server import TEXT, FaultServer

MakeRouter = Callable[..., Router]


def test_the_most_actionable_error_leads(make_router: MakeRouter) -> None:
    chain = ["o/status-429-30", "o/status-500", "a/status-401", "o/status-403"]
    router = make_router(mid=chain)
    with pytest.raises(RouteError) as caught:
        router.route("Explain closures")
    lines = str(caught.value).splitlines()
    assert [line.split(":")[0].strip() for line in lines] == [
        "o/status-403",
        "a/status-401",
        "o/status-500",
        "o/status-429-30",
    ]
    assert len(caught.value.attempts) == 4
    assert len(router.log()) == 4


@pytest.mark.parametrize(
    ("behaviour", "kind"),
    [
        ("status-401", errors.AuthError),
        ("status-403", errors.PermissionDeniedError),
        ("status-404", errors.ModelNotFoundError),
        ("status-429-30", errors.RateLimitError),
        ("status-429-quota", errors.QuotaError),
        ("status-400-context", errors.ContextTooLongError),
        ("status-503", errors.ServerError),
        ("malformed", errors.ServerError),
        ("hang", errors.DeadlineError),
    ],
)
def test_each_fault_is_an_error_of_its_own(
    make_router: MakeRouter, behaviour: str, kind: type[errors.CallError]
) -> None:
    deadlines = {"connect": 5, "first_byte": 5, "idle": 5, "total": 6}
    with pytest.raises(errors.RouteError) as caught:
        make_router(mid=[f"o/{behaviour}"], deadlines=deadlines).route("Explain closures")
    for fault in (caught.value.fault, caught.value.attempts[0].fault):
        assert type(fault) is kind
        assert str(fault).startswith(f"o/{behaviour}: ")


def test_the_leading_fault_is_the_most_actionable(make_router: MakeRouter) -> None:
    router = make_router(mid=["o/status-503", "a/status-401"])
    for attempts in ([errors.ServerError, errors.AuthError], [errors.ServerError] * 2):  # then a's key is not tried
        with pytest.raises(errors.RouteError) as caught:
            router.route("Explain closures")
        assert isinstance(caught.value.fault, errors.AuthError)
        assert [type(attempt.fault) for attempt in caught.value.attempts] == attempts


def test_every_kind_of_fault_has_an_error() -> None:
    of_no_call = {"interrupted"}
    for kind in set(get_args(FaultKind)) - of_no_call:
        assert errors.error_of(kind) is not errors.CallError, kind
    assert make_answer_attempt().fault is None


def make_answer_attempt() -> Attempt:
    return Attempt("mid", Candidate("o", "ok"), "ok", text="An answer")


def test_a_cooled_candidate_is_not_asked_while_another_is_healthy(make_router: MakeRouter, requests: list[Any]) -> None:
    router = make_router(mid=["o/status-429-30", "a/ok"])
    router.route("One")
    second = router.route("Two")
    assert [body["model"] for _, _, body in requests] == ["status-429-30", "ok", "ok"]
    assert second.fallback_from == "o/status-429-30"  # the badge says so although it was not asked
    ((name, reason, left),) = router.status()
    assert (name, reason) == ("o/status-429-30", "429 Rate limit reached")
    assert left is not None
    assert 20 < left <= 30
    router.reset()
    assert router.status() == []


def test_a_provider_with_a_wrong_key_is_off_until_the_key_changes(
    make_router: MakeRouter, requests: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    base = make_router().config.values["providers.o.base_url"]
    monkeypatch.setenv("K_API_KEY", "wrong")
    router = Router(
        {
            "providers": {
                "k": {"sdk": "openai", "base_url": base, "key": "K_API_KEY"},
                "o": {"sdk": "openai", "base_url": base},
            },
            "tiers": {"mid": {"chain": ["k/status-401", "k/ok", "o/ok"]}},
        }
    )
    assert router.route("One").provider == "o"
    assert [body["model"] for _, _, body in requests] == ["status-401", "ok"]  # k/ok has the same key: not tried
    assert router.route("Two").provider == "o"
    assert len(requests) == 3
    monkeypatch.setenv("K_API_KEY", "another")
    assert router.route("Three").provider == "o"
    assert len(requests) == 5
    router.close()


def test_a_context_fault_goes_to_a_larger_window_only() -> None:
    """Windows come from genai-prices: gpt-3.5-turbo has 16,385 tokens, gpt-4o 128,000, claude-opus-5-5 1,000,000."""
    steps = [_step(Candidate("openai", "gpt-4o")), _step(Candidate("openai", "gpt-3.5-turbo"))]
    steps.append(_step(Candidate("anthropic", "claude-opus-5-5")))
    script = Script(["context", None])
    result, _ = run_chain(config.load(), script, tuple(steps), FakeClock())
    assert result.completion is not None
    assert [candidate.model for candidate in script.calls] == ["gpt-4o", "claude-opus-5-5"]


def test_the_last_candidate_is_tried_twice(make_router: MakeRouter, requests: list[Any]) -> None:
    router = make_router(mid=["o/status-429-1"])
    with pytest.raises(RouteError):
        router.route("Explain closures")
    assert len(requests) == 2
    assert list(router.log()["status"]) == ["error", "error"]


def test_no_wait_that_the_total_deadline_does_not_leave(make_router: MakeRouter, requests: list[Any]) -> None:
    with pytest.raises(RouteError):
        make_router(mid=["o/status-429-30"]).route("Explain closures")  # the fixture's total deadline is 20 s
    assert len(requests) == 1


def test_a_broken_stream_restarts_in_the_same_display(make_router: MakeRouter) -> None:
    displays: list[tuple[int, str]] = []
    router = make_router(mid=["o/stream-reset", "a/ok"])
    router.route("Explain closures", on_delta=lambda d: displays.append((d.attempt, str(d.candidate))))
    assert [attempt for attempt, _ in displays] == sorted(attempt for attempt, _ in displays)
    assert set(displays) == {(1, "o/stream-reset"), (2, "a/ok")}


def test_a_weak_answer_is_kept_where_the_next_tier_fails(make_router: MakeRouter) -> None:
    router = make_router(mid=["o/empty"], power=["a/status-401"])
    answer = router.route("Explain closures")
    assert answer.text == ""
    assert answer.notes[-1].startswith(
        "The weak answer is kept: the tier power could not be reached (a/status-401: 401 Incorrect API key provided"
    )
    assert list(router.log()["status"]) == ["weak", "error"]


@pytest.fixture
def openai(server: FaultServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fault server stands in for OpenAI."""
    monkeypatch.setenv("OPENAI_BASE_URL", f"{server.url}/v1")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-wrong-by-one-letter")


CHECK = "openai/status-401: 401 Incorrect API key provided — check OPENAI_API_KEY."


def test_the_second_error_says_no_less_than_the_first(
    make_router: MakeRouter, openai: None, requests: list[Any]
) -> None:
    """And nothing of another tier's models, whatever has happened to them."""
    router = make_router(fast=["a/status-404"], mid=["openai/status-401", "o/status-503"], power=["a/status-403"])
    for tier in ("fast", "power"):
        with pytest.raises(RouteError):
            router.route("Explain closures", tier=tier)
    errors = []
    for _ in range(2):
        with pytest.raises(RouteError) as caught:
            router.route("Explain closures")
        errors.append(str(caught.value).splitlines())
    assert errors[0] == [CHECK, "  o/status-503: 503 Unavailable"]
    assert errors[1] == [
        f"{CHECK} (not asked again)",
        "  o/status-503: 503 Unavailable",
        "  Fix the cause, then run %router reset; a changed key counts at once.",
    ]
    alone = make_router(mid=["openai/status-401", "claude-opus-5-5"])
    for _ in range(2):
        with pytest.raises(RouteError) as caught:
            alone.route("Explain closures")
    assert str(caught.value).splitlines() == [
        f"{CHECK} (not asked again)",
        "  anthropic/claude-opus-5-5 skipped: ANTHROPIC_API_KEY is not set.",
        "  Fix the cause, then run %router reset; a changed key counts at once.",
    ]
    assert "check OPENAI_API_KEY" in router.log()["error"].iloc[-1]


def test_a_fallback_gives_its_reason_with_every_answer(make_router: MakeRouter, openai: None) -> None:
    router = make_router(mid=["openai/status-401", "a/ok"])
    words = "fell back from openai/status-401: 401, check OPENAI_API_KEY"
    for number in range(3):
        answer = router.route(f"Explain closures {number}")
        assert answer.notes == (f"{words} (Incorrect API key provided)",)
        assert answer.fallback_from == "openai/status-401"
        assert words in rendering.badge_text(answer)
        assert f"{words}." in rendering.badge_sentence(answer)
    assert router.preview("Explain generators").notes == (
        "falls back from openai/status-401: 401, check OPENAI_API_KEY (Incorrect API key provided)",
    )


@pytest.mark.parametrize(
    ("behaviour", "first", "later"),
    [
        ("status-503", "503 Unavailable", r"cooling down for \d+(\.\d)? (s|ms) after 503 Unavailable"),
        ("status-429-quota", "429, out of credit", r"cooling down for [\d,]+ s after 429, out of credit"),
        ("status-404", "404, is the model's name right?", r"404, is the model's name right\?"),
        ("hang", "no answer within 3 s", r"cooling down for [\d.]+ s after no answer within 3 s"),
    ],
)
def test_a_cooling_candidate_gives_its_reason_too(
    make_router: MakeRouter, requests: list[Any], behaviour: str, first: str, later: str
) -> None:
    deadlines = {"connect": 5, "first_byte": 3, "idle": 5, "total": 20}
    router = make_router(mid=[f"o/{behaviour}", "a/ok"], deadlines=deadlines)
    assert router.route("One").notes[0].startswith(f"fell back from o/{behaviour}: {first}")
    second = router.route("Two")
    assert re.match(rf"fell back from o/{behaviour}: {later}", second.notes[0]), second.notes
    assert len(requests) == 3
    assert re.search(rf"fell back from o/{behaviour}: {later}", rendering.badge_text(second))


def test_every_candidate_before_the_answer_gives_its_reason(make_router: MakeRouter) -> None:
    answer = make_router(mid=["o/status-503", "o/status-401", "o/ok", "a/ok"]).route("Explain closures")
    assert [note.partition(" (")[0] for note in answer.notes] == [
        "fell back from o/status-503: 503 Unavailable",
        "fell back from o/status-401: 401, the server wants a key: set 'key' in your config file",
        "fell back from o/ok: 401, the server wants a key: set 'key' in your config file",  # the same key
    ]
    assert answer.fallback_from == "o/status-503"


def test_a_candidate_that_a_budget_forbids_is_told(make_router: MakeRouter) -> None:
    prices = {"a/ok": {"input": 100, "output": 1000}, "o/ok": {"input": 1, "output": 10}}
    router = make_router(mid=["a/ok", "o/ok"], budget={"day": 1}, prices=prices)
    answer = router.route("Explain closures")
    assert (answer.provider, answer.fallback_from) == ("o", "a/ok")
    assert answer.notes[0].startswith("fell back from a/ok: could cost $4.10, and $1.00 is left of the budget")


def test_escalation_goes_one_tier_at_a_time(make_router: MakeRouter, requests: list[Any]) -> None:
    router = make_router(fast=["o/empty"], mid=["o/length"], power=["a/ok"])
    answer = router.route("what is x")
    assert (answer.tier, answer.escalated_from, answer.text) == ("power", "fast", TEXT)
    assert [a.status for a in answer.attempts] == ["weak", "weak", "ok"]
    assert answer.cost == sum(a.cost.amount or 0 for a in answer.attempts)
    assert len(requests) == 3


# --- the state machine ---

CANDIDATES = [Candidate("o", "a"), Candidate("o", "b"), Candidate("p", "c"), Candidate("q", "d")]
KINDS = list(chain_module._ACTIONABLE)


def _step(candidate: Candidate) -> Step:
    call = Call(candidate.provider, "openai", "", candidate.model, None, (Message("user", "x"),), 1, None)
    return Step("mid", candidate, call, Deadlines(1, 1, 1, 60))


class FakeClock:
    """A clock on which hours pass at once."""

    def __init__(self) -> None:
        self.seconds = 1000.0
        self.waits = 0

    def now(self) -> dt.datetime:
        return dt.datetime.fromtimestamp(self.seconds, dt.UTC)

    def monotonic(self) -> float:
        return self.seconds

    def wait(self, stop: threading.Event, seconds: float) -> None:
        assert 0 <= seconds <= 60
        assert not stop.is_set()
        self.waits += 1
        self.advance(seconds)

    def advance(self, seconds: float) -> None:
        """Go on in steps of 1/1024 s: their sums are exact, so that a bound is about the policy, not about floats."""
        self.seconds += round(seconds * 1024) / 1024


class Script:
    """Sends nothing: each call ends with the next kind of fault, or with an answer for None."""

    def __init__(self, kinds: list[Any], retry_after: float | None = None) -> None:
        self.kinds = kinds
        self.retry_after = retry_after
        self.calls: list[Candidate] = []

    def complete(self, candidate: Candidate, call: Call, deadlines: Deadlines, collector: Collector) -> Completion:
        kind = self.kinds[len(self.calls)]
        self.calls.append(candidate)
        if kind is None:
            return Completion("ok", Usage(1, 1), "stop", candidate.model)
        raise Fault(kind, "no answer", retry_after=self.retry_after if kind == "rate_limit" else None)

    def change(self, candidate: Candidate, change: Change) -> None:
        raise AssertionError("no fault of the script asks for a change")


def run_chain(
    loaded: Config, script: Script, steps: tuple[Step, ...], clock: FakeClock, breaker: Breaker | None = None
) -> tuple[ChainResult, RequestRun]:
    pricing = Pricing(loaded)
    session = Session("test", clock.now())
    run = RequestRun(Request(Prompt.of("x")), session, clock)
    budget = Budget(loaded.budget, pricing, SQLiteStore(Path("not-used")), clock, session)
    chain = Chain(loaded, script, pricing, breaker or Breaker(loaded, clock, SQLiteStore(Path("not-used"))))
    return chain.run(steps, run, budget), run


class Miscounting(Script):
    """Answers, with more input tokens than some models can read."""

    def complete(self, candidate: Candidate, call: Call, deadlines: Deadlines, collector: Collector) -> Completion:
        collector.accepted = True
        collector.add("An answer.")
        collector.count({"input": 20_000}, lambda counts: Usage(counts["input"], 3))
        collector.end("stop")
        return collector.complete()


@pytest.mark.parametrize(("model", "believed"), [("gpt-3.5-turbo", False), ("gpt-4o", True)])
def test_a_count_beyond_the_models_window_is_an_estimate(model: str, believed: bool) -> None:
    steps = (_step(Candidate("openai", model)),)
    result, _ = run_chain(config.load(), Miscounting([]), steps, FakeClock())
    assert result.completion is not None
    usage = result.completion.usage
    assert usage.estimated is not believed
    assert (usage.input_tokens == 20_000) is believed


class Policy(RuleBasedStateMachine):
    """Random faults at random times; what must hold of every run."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = FakeClock()
        providers = {name: {"sdk": "openai", "base_url": "http://127.0.0.1:1"} for name in "opq"}
        self.config = config.load({"providers": providers}, environ={})
        self.breaker = Breaker(self.config, self.clock, SQLiteStore(Path("not-used")))
        self.off: set[str] = set()
        self.gone: set[Candidate] = set()

    @rule(seconds=st.floats(0, 5000))
    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule()
    def reset(self) -> None:
        self.breaker.reset()
        self.off.clear()
        self.gone.clear()

    @rule(
        chain=st.permutations(CANDIDATES),
        plan=st.lists(st.one_of(st.none(), st.sampled_from(KINDS)), min_size=6, max_size=6),
        retry_after=st.one_of(st.none(), st.floats(0, 100)),
    )
    def route(self, chain: list[Candidate], plan: list[str | None], retry_after: float | None) -> None:
        cooled = {name for name, _, _ in self.breaker.status()}
        before = self.clock.waits
        script = Script(plan, retry_after)
        result, _ = run_chain(self.config, script, tuple(map(_step, chain)), self.clock, self.breaker)
        calls = script.calls
        self._check(result, chain, plan, calls, cooled)
        assert self.clock.waits - before <= 1
        for candidate, kind in zip(calls, plan, strict=False):
            if kind in ("auth", "forbidden"):
                self.off.add(candidate.provider)
            elif kind == "not_found":
                self.gone.add(candidate)
            elif kind is None:
                self.off.discard(candidate.provider)

    def _check(
        self,
        result: ChainResult,
        chain: list[Candidate],
        plan: list[str | None],
        calls: list[Candidate],
        cooled: set[str],
    ) -> None:
        succeeded = [kind is None for kind in plan[: len(calls)]]
        assert (result.completion is not None) == any(succeeded)
        assert not any(succeeded[:-1])  # nothing is asked after an answer
        assert [attempt.candidate for attempt in result.attempts] == calls
        assert len(calls) <= len(chain) + 1
        assert all(calls.count(candidate) <= 2 for candidate in chain)
        assert not {candidate.provider for candidate in calls} & self.off
        assert not set(calls) & self.gone
        healthy = [c for c in chain if str(c) not in cooled and c.provider not in cooled]
        if healthy:
            assert calls[0] == healthy[0]

    @invariant()
    def waits_are_bounded(self) -> None:
        assert all(left is None or 0 < left <= 3600 for _, _, left in self.breaker.status())


TestPolicy = Policy.TestCase
TestPolicy.pytestmark = [pytest.mark.slow]
TestPolicy.settings = settings(max_examples=60, stateful_step_count=20, deadline=None)
