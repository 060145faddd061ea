"""The providers' own prompt caches: what is asked for, what is paid, and with whom a conversation stays."""

from __future__ import annotations

import datetime as dt
import json
import threading
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from benchmarks.caching import converse
from ipyrouter.config import load
from ipyrouter.notebook import rendering
from ipyrouter.pricing.prices import Pricing, at_rates, saved_by_cache
from ipyrouter.providers.base import Call
from ipyrouter.router import Router
from ipyrouter.types import Answer, Candidate, ImagePart, Message, Prompt, TextPart, Usage
from tests.faults.prompt_cache import PromptCache
from tests.faults.server import FaultServer, Reply, chat, claude_whole

MakeRouter = Callable[..., Router]
LONG = "A word. " * 2048  # 4,096 tokens
MARK = {"type": "ephemeral"}
OPUS, TERRA, LUNA = "a/claude-opus-5-5", "o/gpt-6.1-terra", "o/gpt-6-luna"
PRICES = {
    OPUS: {"input": 4, "output": 20, "cached_input": 0.2, "cache_write": 5},
    TERRA: {"input": 1, "output": 5, "cached_input": 0.05, "cache_write": 1.25},
    LUNA: {"input": 0.1, "output": 0.5, "cached_input": 0.01, "cache_write": 0.125},
}


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def now(self) -> dt.datetime:
        return dt.datetime.now(dt.UTC)

    def monotonic(self) -> float:
        return self.seconds

    def wait(self, stop: threading.Event, seconds: float) -> None:
        self.seconds += seconds


class Chat:
    """A conversation: each turn is sent with those before it."""

    def __init__(self, router: Router, **options: Any) -> None:
        self.router = router
        self.options = options
        self.history: list[Message] = []

    def ask(self, prompt: str | Prompt, **options: Any) -> Answer:
        every = {"conversation": True, "allow_large": True, **self.options, **options}
        answer = self.router.route(prompt, history=self.history, **every)
        self.history += [Message("user", prompt), Message("assistant", answer.text)]
        return answer


def marks(body: dict[str, Any]) -> list[str]:
    """Return where the marks of a body are: "system", or a turn's number and the type of its block."""
    system = body.get("system", "")
    places = ["system"] if isinstance(system, list) and system[-1].get("cache_control") == MARK else []
    for number, message in enumerate(body["messages"]):
        blocks = message["content"] if isinstance(message["content"], list) else []
        places += [f"{number} {block['type']}" for block in blocks if "cache_control" in block]
    assert json.dumps(body).count("cache_control") == len(places)
    return places


# --- marks ---


def test_a_conversation_is_marked_where_it_is_read_again(
    make_router: MakeRouter, server: FaultServer, requests: list[Any]
) -> None:
    talk = Chat(make_router(), model="a/ok", system=LONG)
    places = []
    for prompt in ("One", "Two", "Three", "Four"):
        talk.ask(prompt)
        places.append(marks(requests[-1][2]))
    assert places == [
        ["system", "0 text"],
        ["system", "0 text", "2 text"],
        ["system", "0 text", "2 text", "4 text"],
        ["system", "0 text", "4 text", "6 text"],
    ]


def test_one_prompt_is_not_marked(make_router: MakeRouter, requests: list[Any]) -> None:
    make_router().route(LONG, model="a/ok", system=LONG)
    assert marks(requests[-1][2]) == []


def test_what_is_too_short_for_the_model_is_not_marked(make_router: MakeRouter, requests: list[Any]) -> None:
    router = make_router()
    Chat(router, model="a/claude-opus-5-5", system="Be brief. " * 60).ask("One")
    assert marks(requests[-1][2]) == []
    for model, there in (("claude-opus-5-5", True), ("claude-sonnet-5-5", False), ("claude-haiku-4-5", False)):
        Chat(router, model=f"a/{model}", system="Be brief. " * 250).ask("One")  # 625 tokens
        assert bool(marks(requests[-1][2])) == there
    Chat(router, model="a/claude-haiku-4-5", system=LONG).ask("One")
    assert marks(requests[-1][2]) == ["system", "0 text"]


def test_the_end_of_a_turn_with_a_picture_is_marked(make_router: MakeRouter, requests: list[Any]) -> None:
    picture = ImagePart("A plot", "Dots", b"\x89PNG", "image/png", 1200, 1200)
    router = make_router()
    Chat(router, model="a/claude-opus-5-5").ask(Prompt((TextPart("What is it?"), picture)))
    assert marks(requests[-1][2]) == ["0 image"]


def test_the_schema_in_words_is_part_of_the_marked_system(make_router: MakeRouter, requests: list[Any]) -> None:
    Chat(make_router(), model="a/ok", system=LONG, schema={"label": str}).ask("One")
    assert "JSON Schema" in requests[-1][2]["system"][0]["text"]
    assert marks(requests[-1][2]) == ["system", "0 text"]


def test_marks_change_no_cache_key() -> None:
    call = Call("a", "anthropic", "http://x", "m", None, (Message("user", "One"),), 9, None)
    assert call.key() == replace(call, conversation=True).key()


def test_a_server_that_takes_no_marks_is_sent_none(
    make_router: MakeRouter, server: FaultServer, requests: list[Any]
) -> None:
    def refuse(body: dict[str, Any]) -> Reply:
        if not marks(body):
            return Reply(claude_whole("Forty-two."))
        return Reply({"error": {"message": "messages.0.content.0.cache_control: Extra inputs are not permitted"}}, 400)

    server.replies["m"] = refuse
    talk = Chat(make_router(stream=False), model="a/m", system=LONG)
    assert talk.ask("One").text == "Forty-two."
    assert len(requests) == 2
    talk.ask("Two")
    assert len(requests) == 3


def test_openai_s_key_is_that_of_the_conversation(
    make_router: MakeRouter, server: FaultServer, requests: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    monkeypatch.setenv("OPENAI_BASE_URL", f"{server.url}/v1")
    router = Router({"cache": {"enabled": False}})
    talks = [Chat(router, model="openai/ok") for _ in range(2)]
    for prompt in ("One", "Two"):
        talks[0].ask(prompt)
    talks[1].ask("Something else")
    router.route("One", model="openai/ok")
    router.close()
    keys = [body.get("prompt_cache_key") for _, _, body in requests]
    assert keys[0] == keys[1]
    assert keys[2] not in (None, keys[0])
    assert keys[3] is None


def test_another_server_of_the_protocol_gets_no_key(make_router: MakeRouter, requests: list[Any]) -> None:
    Chat(make_router(), model="o/ok").ask("One")
    assert "prompt_cache_key" not in requests[-1][2]


def test_a_key_that_is_refused_is_left_out(
    server: FaultServer, requests: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(body: dict[str, Any]) -> Reply:
        if "prompt_cache_key" not in body:
            return Reply(chat())
        return Reply({"error": {"message": "Unrecognized request argument supplied: prompt_cache_key"}}, 400)

    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    monkeypatch.setenv("OPENAI_BASE_URL", f"{server.url}/v1")
    server.replies["m"] = refuse
    router = Router({"cache": {"enabled": False}})
    talk = Chat(router, model="openai/m")
    talk.ask("One")
    talk.ask("Two")
    router.close()
    assert len(requests) == 3


# --- money ---


@pytest.mark.parametrize("name", ["anthropic/claude-opus-5-5", "openai/gpt-6.1-terra"])
def test_a_long_conversation_costs_less_than_a_third(server: FaultServer, requests: list[Any], name: str) -> None:
    answers = converse(server, name)
    plain = converse(server, name, caches=False)
    cost, without = (sum(a.cost or Decimal(0) for a in several) for several in (answers, plain))
    assert cost < Decimal("0.3") * without
    first, *rest = answers
    assert first.usage.cached_input_tokens == 0
    assert first.usage.cache_write_tokens > 29_000
    assert all(answer.usage.cached_input_tokens > 29_000 for answer in rest)
    rates = Pricing(load({})).rates(Candidate(*name.split("/")))
    for answer in answers:
        assert answer.cost == at_rates(rates, answer.usage)
    assert "provider's cache" not in rendering.badge_text(first)
    saved = rendering.dollars(saved_by_cache(rates, rest[0].usage))
    assert f"the provider's cache saved {saved}" in rendering.badge_text(rest[0])
    assert f"the provider's cache saved {saved}" in rendering.badge_sentence(rest[0])


def test_writes_for_an_hour_cost_more(server: FaultServer, requests: list[Any], make_router: MakeRouter) -> None:
    pricing, opus = Pricing(load({})), Candidate("anthropic", "claude-opus-5-5")
    five = pricing.cost(opus, Usage(10_000, 100, cache_write_tokens=8_000))
    hour = pricing.cost(opus, Usage(10_000, 100, cache_write_tokens=8_000, cache_write_1h_tokens=8_000))
    rates = dict(hour.rates)
    assert rates["cache_write_1h"] == 2 * rates["input"]
    assert hour.amount is not None
    assert five.amount is not None
    assert hour.amount - five.amount == 8_000 * (rates["cache_write_1h"] - rates["cache_write"]) / 1_000_000
    assert at_rates(rates, Usage(10_000, 100, cache_write_tokens=8_000, cache_write_1h_tokens=8_000)) == hour.amount
    usage = {
        "input_tokens": 10, "output_tokens": 5, "cache_creation_input_tokens": 80,
        "cache_creation": {"ephemeral_5m_input_tokens": 30, "ephemeral_1h_input_tokens": 50},
    }  # fmt: skip
    server.replies["m"] = Reply(claude_whole("Forty-two.", usage=usage))
    answer = make_router(stream=False).route("One", model="a/m")
    assert answer.usage == Usage(90, 5, cache_write_tokens=80, cache_write_1h_tokens=50)


# --- staying ---


@pytest.fixture
def caches(server: FaultServer, requests: list[Any]) -> Clock:
    """The models of PRICES answer as those that cache; returns their clock, which is the router's, too."""
    clock = Clock()
    for name in PRICES:
        provider, model = name.split("/")
        server.replies[model] = PromptCache(
            "anthropic" if provider == "a" else "openai", least=512, clock=clock.monotonic
        )
    return clock


@pytest.fixture
def router(make_router: MakeRouter, caches: Clock) -> Router:
    """A router whose tiers begin with these models; "what is" makes a prompt fast, "security audit" makes it power."""
    chains = {"fast": [LUNA, OPUS], "mid": [TERRA, OPUS], "power": [OPUS, TERRA]}
    tiers = {tier: {"chain": chain} for tier, chain in chains.items()}
    return make_router(clock=caches, tiers=tiers, prices=PRICES, stream=False)


def models(requests: list[Any]) -> list[str]:
    return [body["model"] for _, _, body in requests]


TABLE = "1,2,3,4\n" * 15_000  # 30,000 tokens in a line of words
FIRST = f"Explain this table.\n\n{TABLE}"


def test_a_conversation_stays_where_it_is_warm_if_that_is_cheaper(router: Router, requests: list[Any]) -> None:
    talk = Chat(router)
    talk.ask(FIRST, tier="mid")
    preview = router.preview("What is the last row?", history=talk.history, allow_large=True)
    answer = talk.ask("What is the last row?")
    assert models(requests) == ["gpt-6.1-terra", "gpt-6.1-terra"]
    (note,) = [note for note in answer.notes if note.startswith("Stayed with o/gpt-6.1-terra, whose")]
    assert note in preview.notes
    assert note.endswith(f"about {rendering.dollars(preview.cost_typical or 0)}, $0.0032 at o/gpt-6-luna.")
    assert preview.candidate == Candidate("o", "gpt-6.1-terra")
    assert answer.tier == preview.tier == "mid"
    assert answer.classification.tier == "fast"
    assert answer.escalated_from is None
    assert answer.usage.cached_input_tokens > 29_000


def test_a_switch_that_pays_is_made(router: Router, requests: list[Any]) -> None:
    talk = Chat(router)
    talk.ask(FIRST, tier="power")
    preview = router.preview("What is the last row?", history=talk.history, allow_large=True)
    answer = talk.ask("What is the last row?")
    assert models(requests) == ["claude-opus-5-5", "gpt-6-luna"]
    (note,) = [note for note in answer.notes if note.startswith("Left a/claude-opus-5-5, whose")]
    assert "at o/gpt-6-luna" in note
    assert note in preview.notes


def test_a_prompt_that_needs_more_leaves(router: Router, requests: list[Any]) -> None:
    talk = Chat(router)
    talk.ask(FIRST, tier="mid")
    answer = talk.ask("A security audit of it, please.")
    assert models(requests) == ["gpt-6.1-terra", "claude-opus-5-5"]
    assert any(note.endswith("the prompt needs the tier power.") for note in answer.notes)


def test_a_named_tier_and_a_named_model_are_decisions(router: Router, requests: list[Any]) -> None:
    talk = Chat(router)
    talk.ask(FIRST, tier="mid")
    answer = talk.ask("What is the last row?", tier="fast")
    assert any(note.endswith("you named the tier fast.") for note in answer.notes)
    talk.ask("What is the first row?", model=OPUS)
    assert models(requests) == ["gpt-6.1-terra", "gpt-6-luna", "claude-opus-5-5"]


def test_what_is_cold_holds_nobody(router: Router, requests: list[Any], caches: Clock) -> None:
    talk = Chat(router)
    talk.ask(FIRST, tier="mid")
    caches.seconds += 31 * 60  # gpt-6.1 keeps it for 30 minutes
    answer = talk.ask("What is the last row?")
    assert models(requests) == ["gpt-6.1-terra", "gpt-6-luna"]
    assert not any("provider's cache" in note for note in answer.notes)


def test_a_conversation_that_fell_back_stays_there(
    router: Router, server: FaultServer, requests: list[Any], caches: Clock
) -> None:
    talk, terra = Chat(router), server.replies["gpt-6.1-terra"]
    server.replies["gpt-6.1-terra"] = Reply({"error": {"message": "Overloaded"}}, 503)
    assert talk.ask(FIRST, tier="mid").model == "claude-opus-5-5"
    server.replies["gpt-6.1-terra"] = terra
    caches.seconds += 4 * 60  # no cooldown is so long
    answer = talk.ask("Explain the last row.")
    assert answer.model == "claude-opus-5-5"
    assert answer.fallback_from is None
    assert any(note.startswith("Stayed with a/claude-opus-5-5") for note in answer.notes)


def test_the_warm_candidate_may_fail(router: Router, server: FaultServer, requests: list[Any]) -> None:
    talk = Chat(router)
    talk.ask(FIRST, tier="mid")
    server.replies["gpt-6.1-terra"] = Reply({"error": {"message": "Overloaded"}}, 503)
    answer = talk.ask("What is the last row?")
    assert (answer.model, answer.fallback_from) == ("claude-opus-5-5", "o/gpt-6.1-terra")
    assert not any(note.startswith("Stayed") for note in answer.notes)


def test_nobody_stays_with_a_candidate_that_cools_down(
    router: Router, server: FaultServer, requests: list[Any]
) -> None:
    talk, terra = Chat(router), server.replies["gpt-6.1-terra"]
    talk.ask(FIRST, tier="mid")
    server.replies["gpt-6.1-terra"] = Reply({"error": {"message": "Overloaded"}}, 503)
    router.route("Something else.", tier="mid")
    server.replies["gpt-6.1-terra"] = terra
    answer = talk.ask("What is the last row?")
    assert (answer.model, answer.tier, answer.fallback_from) == ("gpt-6-luna", "fast", None)


def test_thinking_does_not_change_within_a_conversation(
    router: Router, server: FaultServer, requests: list[Any], caches: Clock
) -> None:
    server.replies["claude-opus-5"] = PromptCache("anthropic", clock=caches.monotonic)
    talk = Chat(router, model="a/claude-opus-5")  # in no chain: the prompt alone would say how much it thinks
    talk.ask(f"A security audit.\n\n{TABLE}")
    answer = talk.ask("What is the last row?")
    assert [body["output_config"] for _, _, body in requests] == [{"effort": "medium"}] * 2
    assert answer.usage.cached_input_tokens > 29_000
    talk.ask("What is the first row?", effort="high")
    assert requests[-1][2]["output_config"] == {"effort": "high"}


def test_an_answer_of_the_warm_candidate_is_found_when_all_is_cold(
    router: Router, server: FaultServer, requests: list[Any], caches: Clock
) -> None:
    server.replies["claude-opus-5"] = PromptCache("anthropic", clock=caches.monotonic)
    for ask in ({"tier": "mid"}, {"model": "a/claude-opus-5"}):
        prompts = (FIRST if "tier" in ask else f"A security audit.\n\n{TABLE}", "What is the last row?")
        later = {} if "tier" in ask else ask
        for _ in range(2):
            before = len(requests)
            talk = Chat(router)
            first, second = talk.ask(prompts[0], **ask), talk.ask(prompts[1], **later)
            caches.seconds += 3600
        assert len(requests) == before
        assert first.cached
        assert second.cached
        assert second.cost == 0


def test_nothing_is_said_where_a_price_is_unknown(make_router: MakeRouter, caches: Clock, requests: list[Any]) -> None:
    tiers = {"fast": {"chain": [LUNA]}, "mid": {"chain": [TERRA]}, "power": {"chain": [OPUS]}}
    router = make_router(clock=caches, tiers=tiers, prices={}, stream=False)
    talk = Chat(router)
    talk.ask(FIRST, tier="mid")
    answer = talk.ask("What is the last row?")
    assert models(requests) == ["gpt-6.1-terra", "gpt-6-luna"]
    assert not any("provider's cache" in note for note in answer.notes)
