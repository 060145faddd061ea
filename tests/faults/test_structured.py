"""Schemas, effort and thinking on the wire: what the SDKs send, what servers refuse, and what comes of it."""

from __future__ import annotations

import functools
import json
import os
import re
import shutil
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

import pydantic
import pytest

from ipyrouter.config import load
from ipyrouter.config.catalogue import model_of
from ipyrouter.errors import BudgetError, SchemaError, UsageError
from ipyrouter.pricing import media
from ipyrouter.pricing.prices import Pricing
from ipyrouter.providers.base import Call, Target
from ipyrouter.providers.effort import LEVELS, thinking_tokens
from ipyrouter.providers.registry import backend_of
from ipyrouter.providers.transport import Transport
from ipyrouter.router import Router
from ipyrouter.routing import planner
from ipyrouter.routing.requests import make_request
from ipyrouter.schemas import schema_of
from ipyrouter.types import EFFORTS, TIERS, Candidate, Message, Prompt, Usage
from tests.faults.server import IN, OUT, FaultServer, Reply, chat, chunk, claude, claude_whole, gemini, sse
from tests.test_media import ASKS, picture, providers

MakeRouter = Callable[..., Router]


class Review(pydantic.BaseModel):
    sentiment: Literal["positive", "negative"]
    score: float = pydantic.Field(ge=0, le=1)


GOOD, BAD = '{"sentiment": "positive", "score": 0.9}', '{"sentiment": "good", "score": 9}'
ASK = "Is this a good review?"


@functools.cache
def adapter(sdk: str) -> pydantic.TypeAdapter[Any]:
    """Return the check of a request by the SDK's own types."""
    if sdk == "anthropic":
        from anthropic.types.message_create_params import MessageCreateParamsStreaming as Anthropics

        return pydantic.TypeAdapter(Anthropics)
    from openai.types.chat.completion_create_params import CompletionCreateParamsStreaming as OpenAIs

    return pydantic.TypeAdapter(OpenAIs)


def body_of(candidate: str, changes: Any = (), notes: Any = None, **options: Any) -> dict[str, Any]:
    """Return what a service is sent: a body that its SDK's types accept, with no key that they do not know."""
    config = load({})
    chosen = config.candidate(candidate)
    provider = config.providers[chosen.provider]
    system, turns = options.pop("system", None), (Message("user", options.pop("prompt", ASK)),)
    call = Call(chosen.provider, provider.sdk, provider.address(), chosen.model, system, turns, 5000, None, **options)
    backend = backend_of(provider.sdk)(Target(provider.address(), None, lambda: "none"), Transport())
    body = backend.body(provider, call, dict(changes), [] if notes is None else notes)
    if provider.sdk != "google":
        adapter(provider.sdk).validate_python(body)
        assert set(body) <= set(adapter(provider.sdk)._type.__annotations__) | known(provider.sdk)
    return body


def known(sdk: str) -> set[str]:
    """Return the parameters that both of the SDK's classes of parameters know."""
    bases = adapter(sdk)._type.__orig_bases__
    return {name for base in bases for name in getattr(base, "__annotations__", {})}


# --- what is sent ---


def test_openai_is_sent_a_strict_schema() -> None:
    body = body_of("openai/gpt-6-luna", schema=schema_of(Review))
    form = body["response_format"]
    assert (form["type"], form["json_schema"]["name"], form["json_schema"]["strict"]) == ("json_schema", "Review", True)
    assert form["json_schema"]["schema"]["required"] == ["sentiment", "score"]
    assert [message["role"] for message in body["messages"]] == ["user"]  # nothing is said in words


def test_anthropic_is_sent_an_output_format() -> None:
    body = body_of("anthropic/claude-sonnet-5-5", schema=schema_of(Review), effort="low")
    assert body["output_config"]["format"]["schema"]["additionalProperties"] is False
    assert body["output_config"]["effort"] == "low"
    assert "system" not in body


def test_google_is_sent_a_json_schema() -> None:
    body = body_of("google/gemini-2.5-flash", schema=schema_of(Review), effort="none", show_thinking=True)
    assert body["config"]["response_mime_type"] == "application/json"
    assert body["config"]["response_json_schema"]["required"] == ["sentiment", "score"]
    assert body["config"]["thinking_config"] == {"include_thoughts": True, "thinking_budget": 0}
    assert body_of("google/gemini-3-pro", effort="low")["config"]["thinking_config"] == {"thinking_level": "low"}


@pytest.mark.parametrize(
    ("candidate", "kind", "form"),
    [
        ("openai/gpt-3.5-turbo", Review, "json_object"),  # JSON mode alone
        ("openai/gpt-6-luna", dict[str, int], "json_object"),  # strict mode has no open objects
        ("deepseek/deepseek-chat", Review, "json_object"),
        ("groq/openai/gpt-oss-120b", Review, "json_schema"),
        ("anthropic/claude-3-haiku-20240307", Review, None),
        ("anthropic/claude-haiku-5-5", dict[str, int], None),
    ],
)
def test_elsewhere_the_schema_is_said_in_words_too(candidate: str, kind: Any, form: str | None) -> None:
    body = body_of(candidate, schema=schema_of(kind), system="Be brief.")
    system = body["system"] if "system" in body else body["messages"][0]["content"]
    assert system.startswith("Be brief.\n\nAnswer with JSON alone")
    assert schema_of(kind).text in system
    assert body.get("response_format", {"type": None})["type"] == form
    assert "output_config" not in body


def test_json_mode_is_asked_for_where_it_is_known() -> None:
    body = body_of("openai/gpt-6-luna", json=True, system="Answer in JSON.")
    assert body["response_format"] == {"type": "json_object"}
    assert '{"list": […]}' in body["messages"][0]["content"]
    assert "response_format" not in body_of("openai/gpt-6-luna", json=True)  # refused where the word does not stand
    assert "output_config" not in body_of("anthropic/claude-haiku-5-5", json=True, system="Answer in JSON.")


@pytest.mark.parametrize(
    ("model", "effort", "thinking", "output"),
    [
        ("claude-haiku-5-5", "none", {"type": "disabled"}, None),
        ("claude-sonnet-5-5", "none", {"type": "between_tools"}, None),
        ("claude-opus-5-5", "low", {"type": "adaptive"}, {"effort": "low"}),
        ("claude-haiku-4-5", "low", {"type": "enabled", "budget_tokens": 4096}, None),
        ("claude-haiku-4-5", "high", {"type": "enabled", "budget_tokens": 2500}, None),  # half of what there is
    ],
)
def test_anthropic_models_are_told_to_think_in_their_own_words(
    model: str, effort: str, thinking: dict[str, Any], output: Any
) -> None:
    body = body_of(f"anthropic/{model}", effort=effort)
    assert (body["thinking"], body.get("output_config")) == (thinking, output)


def test_thinking_is_shown_on_request() -> None:
    body = body_of("anthropic/claude-opus-5-5", effort="low", show_thinking=True)
    assert body["thinking"] == {"type": "adaptive", "display": "summarized"}


@pytest.mark.parametrize("effort", EFFORTS)
@pytest.mark.parametrize("tier", ["fast", "mid", "power"])
def test_every_model_of_the_presets_takes_what_it_is_sent(tier: Any, effort: Any) -> None:
    for preset in ("current", "article"):
        router = Router({"preset": preset})
        request = make_request(ASK, effort=effort)
        for step in planner._steps(router.config, request, tier, router.config.tiers[tier].chain):
            body_of(str(step.candidate), effort=step.call.effort)


def test_the_presets_think_as_their_tiers_say(make_router: MakeRouter) -> None:
    router = Router()
    plans = {tier: router._pipeline.planner._tier(make_request(ASK), tier)
             for tier in ("fast", "mid", "power")}  # fmt: skip
    sent = {str(s.candidate): (s.call.effort, s.call.max_output_tokens) for t in plans.values() for s in t.cacheable}
    assert sent["anthropic/claude-opus-5-5"] == ("medium", 8192 + 16_384)
    assert sent["anthropic/claude-sonnet-5-5"] == ("low", 4096 + 4096)
    assert sent["openai/gpt-5.4-nano"] == ("none", 1024)
    power, fast = plans["power"].cacheable[0], plans["fast"].cacheable[0]
    assert (power.deadlines.first_byte, fast.deadlines.first_byte) == (300, 30)


@pytest.mark.parametrize(("limit", "effort"), [(None, "medium"), (40_000, "medium"), (10_000, "low"), (500, "none")])
def test_a_limit_of_the_users_own_leaves_room_for_the_answer(limit: int | None, effort: str) -> None:
    request = make_request(ASK, max_output_tokens=limit)
    step = planner._steps(load({}), request, "power", (Candidate("openai", "gpt-6.1-sol"),))[0]
    assert (step.call.effort, step.call.max_output_tokens) == (effort, limit or 24_576)
    asked = make_request(ASK, max_output_tokens=limit, effort="high")
    assert planner._steps(load({}), asked, "power", (Candidate("openai", "gpt-6.1-sol"),))[0].call.effort == "high"


@pytest.mark.parametrize(
    ("settings", "first_byte"), [({}, 600), ({"deadlines": {"first_byte": 7}}, 7),
                                 ({"tiers": {"fast": {"deadlines": {"first_byte": 9}}}}, 9)]
)  # fmt: skip
def test_the_time_to_the_first_byte_follows_the_effort_unless_it_is_set(settings: Any, first_byte: float) -> None:
    request = make_request(ASK, effort="high")
    step = planner._steps(load(settings), request, "fast", (Candidate("openai", "gpt-6-luna"),))[0]
    assert step.deadlines.first_byte == first_byte
    assert step.deadlines.total == 1800


def test_the_levels_are_in_order_and_the_models_table_knows_no_others() -> None:
    assert [level for level in LEVELS if level in EFFORTS] == list(EFFORTS)
    for name in ("gpt-6-luna", "gpt-5-nano", "claude-opus-5-5", "gemini-2.5-pro"):
        efforts = model_of(name).efforts
        assert efforts is not None
        assert list(efforts) == [level for level in LEVELS if level in efforts]


# --- through the pipeline ---


@pytest.fixture
def answers(make_router: MakeRouter, server: FaultServer, requests: list[Any]) -> Callable[..., Router]:
    """Build a router whose models "first" and "second" give these replies, one after the other."""

    def build(first: list[Any], second: list[Any] | None = None, **options: Any) -> Router:
        for name, replies in (("first", first), ("second", second or [])):
            left = list(replies)
            server.replies[name] = lambda _, left=left: Reply(left.pop(0) if len(left) > 1 else left[0])
        provider = options.pop("provider", "o")
        chains = {"fast": [f"{provider}/first"], "mid": [f"{provider}/second"], "power": [f"{provider}/second"]}
        return make_router(**{"stream": False, **chains, **options})

    return build


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("provider", ["o", "a", "g"])
def test_an_answer_has_its_data(answers: Any, requests: list[Any], provider: str, stream: bool) -> None:
    replies: dict[str, Any] = {
        "o": sse(chunk(GOOD[:9]), chunk(GOOD[9:], "stop")) if stream else chat(GOOD),
        "a": claude(GOOD[:9], GOOD[9:]) if stream else claude_whole(GOOD),
        "g": sse(*gemini(GOOD[:9], GOOD[9:]), done=False) if stream else gemini(GOOD)[0],
    }
    router = answers([replies[provider]], provider=provider, stream=stream)
    answer = router.route(ASK, schema=Review, tier="fast")
    assert answer.data == Review(sentiment="positive", score=0.9)
    assert (answer.text, [attempt.status for attempt in answer.attempts]) == (GOOD, ["ok"])
    again = router.route(ASK, schema=Review, tier="fast")
    assert (again.cached, again.data, len(requests)) == (True, answer.data, 1)
    router.route(ASK, schema={"sentiment": str, "score": float}, tier="fast")
    router.route(ASK, tier="fast")
    assert len(requests) == 3  # another schema is another request


def test_an_invalid_answer_is_corrected_once(answers: Any, requests: list[Any]) -> None:
    router = answers([chat(BAD), chat(GOOD)])
    answer = router.route(ASK, schema=Review, tier="fast")
    assert answer.data.sentiment == "positive"
    first, second = answer.attempts
    assert (first.status, second.status, first.text) == ("weak", "ok", BAD)
    assert "sentiment: input should be 'positive' or 'negative'" in str(first.error)
    assert first.cost.amount == second.cost.amount != 0
    assert answer.cost == first.cost.amount + second.cost.amount
    *_, said, wish = requests[1][2]["messages"]
    assert (said["role"], said["content"], wish["role"]) == ("assistant", BAD, "user")
    assert "score: input should be less than or equal to 1" in wish["content"]
    assert "The first answer did not fit the schema Review; its correction was asked for." in answer.notes
    assert router.route(ASK, schema=Review, tier="fast").cached


def test_then_a_tier_up(answers: Any) -> None:
    answer = answers([chat(BAD)], [chat(GOOD)]).route(ASK, schema=Review, tier="fast")
    assert answer.data.score == 0.9
    assert [(a.status, a.tier) for a in answer.attempts] == [("weak", "fast"), ("weak", "fast"), ("ok", "mid")]
    assert answer.escalated_from == "fast"


def test_a_correction_that_fails_loses_nothing(answers: Any, server: FaultServer) -> None:
    router = answers([chat(BAD), {"error": {"message": "internal error"}}], [chat(GOOD)])
    answer = router.route(ASK, schema=Review, tier="fast")
    assert answer.data.score == 0.9
    assert [a.status for a in answer.attempts] == ["weak", "error", "error", "ok"]  # a server's fault is tried twice
    assert (answer.attempts[0].text, answer.attempts[1].error_kind) == (BAD, "server")


def test_a_log_without_content_does_not_say_what_was_wrong(answers: Any) -> None:
    router = answers(
        [chat('{"sentiment": "secret", "secret": 1}')], [chat('{"sentiment": "positive"}')], log={"content": False}
    )
    assert router.route(ASK, schema={"sentiment": ["positive"]}, tier="fast").data == {"sentiment": "positive"}
    assert "secret" not in router.log().to_csv()
    assert router.log()["error"][0] == "not what the schema Answer asks for"


class Quoting(pydantic.BaseModel):
    note: str

    @pydantic.field_validator("note")
    @classmethod
    def refuse(cls, note: str) -> str:
        if "bug" in note:
            raise KeyError(note)
        raise ValueError(f"{note!r} is not allowed, and the key is {os.environ['A_KEY']}")


@pytest.mark.parametrize("note", ["canary", "a canary's bug"])
def test_what_a_validator_quotes_of_an_answer_is_no_content_of_the_log(
    answers: Any, home: Path, server: FaultServer, monkeypatch: pytest.MonkeyPatch, note: str
) -> None:
    key = "sk-of-the-server-and-long"
    monkeypatch.setenv("A_KEY", key)
    provider = {"o": {"sdk": "openai", "base_url": f"{server.url}/v1", "stream": False, "key": "A_KEY"}}
    for content in (True, False):
        replies = [chat(json.dumps({"note": note}))]
        router = answers(replies, replies, log={"content": content}, cache={"enabled": False}, providers=provider)
        with pytest.raises((SchemaError, UsageError), match="canary"):
            router.route(ASK, schema=Quoting, tier="fast")
        log = router.log().to_csv()
        assert ("canary" in log) is content
        assert key not in log
        router.close()
        stored = b"".join(path.read_bytes() for path in home.rglob("*") if path.is_file())
        assert (b"canary" in stored) is content
        assert key.encode() not in stored
        shutil.rmtree(home)


def test_a_limit_of_the_users_own_would_cut_the_next_tier_off_as_well(answers: Any, requests: list[Any]) -> None:
    with pytest.raises(SchemaError, match="was cut off at the token limit"):
        answers([chat(GOOD[:20], "length")]).route(ASK, schema=Review, tier="fast", max_output_tokens=5)
    assert len(requests) == 1


def test_where_no_answer_fits_the_error_has_the_text_and_the_log_all_rows(answers: Any) -> None:
    router = answers([chat(BAD)], [chat("No.")])
    with pytest.raises(SchemaError) as wrong:
        router.route(ASK, schema=Review, tier="fast")
    assert str(wrong.value).startswith(
        "The answer of o/second is not what the schema Review asks for: it holds no JSON. Describe the fields"
    )
    assert "\n" not in str(wrong.value)
    assert wrong.value.text == "No."
    assert [attempt.status for attempt in wrong.value.attempts] == ["weak"] * 3
    log = router.log()
    assert list(log["text"]) == [BAD, BAD, "No."]
    assert (log["cost"] > 0).all()
    with pytest.raises(SchemaError):  # nothing invalid is cached
        router.route(ASK, schema=Review, tier="fast", escalate=False)


def test_without_escalation_the_correction_is_the_last_try(answers: Any, requests: list[Any]) -> None:
    with pytest.raises(SchemaError):
        answers([chat(BAD)]).route(ASK, schema=Review, tier="fast", escalate=False)
    assert len(requests) == 2


@pytest.mark.parametrize(("provider", "reply"), [
    ("o", chat(None, "stop", refusal="I cannot help with that.")),
    ("a", claude_whole("I cannot help with that.", stop="refusal")),
])  # fmt: skip
def test_a_refusal_holds_no_data(answers: Any, requests: list[Any], provider: str, reply: Any) -> None:
    router = answers([reply], provider=provider)
    with pytest.raises(
        SchemaError, match='refused to answer, so there is no Review: "I cannot help with that'
    ) as wrong:
        router.route(ASK, schema=Review, tier="fast")
    assert (len(requests), wrong.value.text) == (1, "I cannot help with that.")
    assert list(router.log()["status"]) == ["refused"]


def test_a_cut_answer_is_not_corrected_but_a_tier_up_is_asked(answers: Any, requests: list[Any]) -> None:
    cut = chat(GOOD[:20], "length")
    assert answers([cut], [chat(GOOD)]).route(ASK, schema=Review, tier="fast").data.score == 0.9
    assert len(requests) == 2
    with pytest.raises(SchemaError, match=r"was cut off at the token limit, so there is no Review. Allow more"):
        answers([cut]).route(ASK, schema=Review, tier="fast", escalate=False)


def test_a_cached_answer_that_no_longer_fits_is_asked_anew(answers: Any, requests: list[Any]) -> None:
    class Strict(Review):
        __name__ = "Review"

        @pydantic.field_validator("score")
        @classmethod
        def low(cls, score: float) -> float:
            if score > 0.5:
                raise ValueError("too sure")
            return score

    router = answers([chat(GOOD)])
    router.route(ASK, schema=Review, tier="fast")
    same = {**Review.model_json_schema()}
    assert {key: value for key, value in Strict.model_json_schema().items() if key != "title"} == {
        key: value for key, value in same.items() if key != "title"
    }
    Strict.__name__, Strict.model_config = "Review", {"title": "Review"}
    Strict.model_rebuild(force=True)
    with pytest.raises(SchemaError, match="too sure"):
        router.route(ASK, schema=Strict, tier="fast", escalate=False)
    assert len(requests) == 3


def test_the_schema_counts_in_estimate_and_worst_case(answers: Any) -> None:
    router = answers([chat(GOOD)], budget={"call": 1.0})
    plain, with_schema = router.preview(ASK, tier="fast"), router.preview(ASK, schema=Review, tier="fast")
    assert with_schema.input_tokens > plain.input_tokens + len(schema_of(Review).text) // 5
    assert with_schema.cost_high > plain.cost_high
    tight = answers([chat(GOOD)], budget={"call": float(plain.cost_high) + 0.0003})
    assert tight.route(ASK, tier="fast").cost
    with pytest.raises(BudgetError):
        tight.route(ASK, schema=Review, tier="fast")


# --- refusals ---


def refusing(*refusals: tuple[Callable[[dict[str, Any]], bool], str], answer: Any) -> Callable[[dict[str, Any]], Reply]:
    """Return a server that refuses bodies with its words, and answers all others."""

    def reply(body: dict[str, Any]) -> Reply:
        words = next((words for refuses, words in refusals if refuses(body)), None)
        error = {"error": {"message": words, "type": "invalid_request_error"}}
        return Reply(answer) if words is None else Reply(error, status=400)

    return reply


@pytest.mark.parametrize(
    ("words", "left"),
    [
        ("response_format.type `json_schema` is unavailable now", {"type": "json_object"}),
        ("This response_format type is unavailable now", {"type": "json_object"}),
        ("Invalid schema for response_format 'Review': In context=(), 'minimum' is not permitted.",
         {"type": "json_object"}),
    ],
)  # fmt: skip
def test_a_refused_schema_is_said_in_words(
    make_router: MakeRouter, server: FaultServer, requests: list[Any], words: str, left: Any
) -> None:
    server.replies["first"] = refusing(
        (lambda body: body.get("response_format", {}).get("type") == "json_schema", words), answer=chat(GOOD)
    )
    router = make_router(mid=["o/first"], stream=False)
    answer = router.route(ASK, schema=Review, tier="mid")
    assert (answer.data.score, [a.status for a in answer.attempts]) == (0.9, ["error", "ok"])
    assert "sent again with the schema in words" in str(answer.attempts[0].error)
    assert requests[1][2]["response_format"] == left
    router.route(ASK + "!", schema=Review, tier="mid")
    assert len(requests) == 3  # the session remembers it


def test_a_server_that_knows_no_json_mode_either(
    make_router: MakeRouter, server: FaultServer, requests: list[Any]
) -> None:
    server.replies["first"] = refusing(
        (lambda body: "response_format" in body, "Unrecognized request argument supplied: response_format"),
        answer=chat(f"Here it is:\n```json\n{GOOD}\n```"),
    )
    answer = make_router(mid=["o/first"], stream=False).route(ASK, schema=Review, tier="mid")
    assert (answer.data.score, len(requests)) == (0.9, 3)
    assert schema_of(Review).text in requests[2][2]["messages"][0]["content"]


def test_an_anthropic_server_without_output_formats(
    make_router: MakeRouter, server: FaultServer, requests: list[Any]
) -> None:
    server.replies["first"] = refusing(
        (lambda body: "output_config" in body, "output_config: Extra inputs are not permitted"),
        answer=claude_whole(GOOD),
    )
    answer = make_router(mid=["a/first"], stream=False).route(ASK, schema=Review, tier="mid")
    assert (answer.data.score, len(requests)) == (0.9, 2)
    assert schema_of(Review).text in requests[1][2]["system"]


@pytest.mark.parametrize(
    ("provider", "wish", "words", "sent"),
    [
        ("o", "none", "Unsupported value: 'none' is not supported with the 'm' model. Supported values are: 'low', "
         "'medium', and 'high'. (reasoning_effort)", "low"),
        ("o", "xhigh", "Unsupported value: 'reasoning_effort' does not support 'xhigh' with this model. Supported "
         "values are: 'minimal', 'low', 'medium', and 'high'.", "high"),
        ("o", "low", "Unrecognized request argument supplied: reasoning_effort", None),
        ("o", "none", "Reasoning is mandatory for this endpoint and cannot be disabled.", None),
        ("a", "low", "This model does not support the effort parameter.", None),
    ],
)  # fmt: skip
def test_a_refused_effort_is_sent_as_the_server_takes_it(
    make_router: MakeRouter, server: FaultServer, requests: list[Any],
    provider: str, wish: Any, words: str, sent: str | None,
) -> None:  # fmt: skip
    def effort(body: dict[str, Any]) -> Any:
        return body.get("reasoning_effort") or body.get("output_config", {}).get("effort")

    reply = chat("It is.") if provider == "o" else claude_whole("It is.")
    server.replies["first"] = refusing((lambda body: effort(body) == wish, words), answer=reply)
    router = make_router(mid=[f"{provider}/first"], stream=False)
    answer = router.route(ASK, effort=wish, tier="mid")
    assert (answer.text, effort(requests[1][2])) == ("It is.", sent)
    done = f"became {sent}" if sent else "was left out"
    assert f"The effort {wish} {done}: first does not take it." in answer.notes
    router.route(ASK + "!", effort=wish, tier="mid")
    assert len(requests) == 3


def test_thinking_that_is_refused_is_left_out(
    make_router: MakeRouter, server: FaultServer, requests: list[Any]
) -> None:
    words = "adaptive thinking is not supported on this model"
    server.replies["first"] = refusing((lambda body: "thinking" in body, words), answer=claude_whole("It is."))
    answer = make_router(mid=["a/first"], stream=False).route(ASK, effort="low", tier="mid")
    assert (answer.text, "thinking" in requests[1][2]) == ("It is.", False)


def test_a_stranger_is_sent_no_effort_that_nobody_asked_for(make_router: MakeRouter, requests: list[Any]) -> None:
    make_router(power=["o/ok"]).route(ASK, tier="power")
    make_router(power=["o/ok"]).route(ASK, tier="power", effort="high")
    assert ("reasoning_effort" in requests[0][2], requests[1][2]["reasoning_effort"]) == (False, "high")
    assert requests[1][2]["max_tokens"] == requests[0][2]["max_tokens"] + 32_768
    make_router(power=["o/ok"], tiers={"power": {"chain": ["o/ok"], "effort": "low"}}).route(ASK + "?", tier="power")
    assert requests[2][2]["reasoning_effort"] == "low"


def test_an_effort_that_a_model_does_not_have_is_said(make_router: MakeRouter, requests: list[Any]) -> None:
    router = make_router(mid=["a/claude-opus-5-5"], prices={"a/claude-opus-5-5": {"input": 1, "output": 1}})
    preview = router._pipeline.planner.plan(make_request(ASK, effort="none"), "mid")
    step = preview.first.steps[0]
    assert (step.call.effort, step.notes) == (
        "low", ("The effort none became low for a/claude-opus-5-5: it always thinks.",),
    )  # fmt: skip
    assert step.notes[0] in router.preview(ASK, tier="mid", effort="none").notes


# --- reasoning ---


@pytest.mark.parametrize("stream", [True, False])
def test_thinking_tokens_are_read_from_both_sdks(
    make_router: MakeRouter, server: FaultServer, requests: list[Any], stream: bool
) -> None:
    details = {"output_tokens": 600, "output_tokens_details": {"thinking_tokens": 450}}
    spent = {"prompt_tokens": IN, "completion_tokens": 600, "completion_tokens_details": {"reasoning_tokens": 450}}
    server.replies["c"] = Reply(
        claude("It is.", usage=details) if stream else claude_whole("It is.", usage={"input_tokens": IN, **details})
    )
    server.replies["o"] = Reply(
        sse(chunk("It is.", "stop"), chunk(choices=[], usage=spent)) if stream else chat("It is.", usage=spent)
    )
    router = make_router(mid=["a/c"], fast=["o/o"], stream=stream)
    for tier in ("mid", "fast"):
        usage = router.route(ASK, tier=tier).usage
        assert (usage.output_tokens, usage.reasoning_tokens) == (600, 450)
    assert list(router.log()["reasoning_tokens"]) == [450, 450]


def test_tokens_that_all_went_into_reasoning_are_not_paid_twice(answers: Any, requests: list[Any]) -> None:
    spent = {"prompt_tokens": IN, "completion_tokens": 1024, "completion_tokens_details": {"reasoning_tokens": 1024}}
    router = answers([chat("", "length", usage=spent)], [chat("It is.")])
    answer = router.route(ASK, tier="fast")
    assert (answer.text, len(requests), answer.attempts[0].status) == ("", 1, "weak")
    note = "All 1,024 tokens went into reasoning; try --effort low, or allow more with --max-tokens."
    assert note in answer.notes
    low = router.route(ASK, tier="fast", effort="low")
    assert "All 1,024 tokens went into reasoning; allow more with --max-tokens." in low.notes
    with pytest.raises(SchemaError, match=r"gave no answer, so there is no Review. All 1,024 .*; try --effort low"):
        router.route(ASK, tier="fast", schema=Review)


# --- the price of what served ---


@pytest.mark.parametrize(("served", "factor"), [("default", 1), ("flex", Decimal("0.5")), ("priority", 2), (None, 1)])
@pytest.mark.parametrize("stream", [True, False])
def test_openais_service_tier_decides_the_price(
    answers: Any, monkeypatch: pytest.MonkeyPatch, server: FaultServer, requests: list[Any],
    served: str | None, factor: Any, stream: bool,
) -> None:  # fmt: skip
    import genai_prices.data_snapshot as data

    openai = next(provider for provider in data.get_snapshot().providers if provider.id == "openai")
    monkeypatch.setattr(openai, "api_pattern", server.url.replace(".", r"\."))
    usage = {"prompt_tokens": IN, "completion_tokens": OUT}
    tier = {} if served is None else {"service_tier": served}
    body = sse(chunk("It is.", "stop", usage=usage, **tier)) if stream else {**chat("It is."), **tier}
    server.replies["gpt-6-luna"] = Reply(
        json.loads(json.dumps(body).replace('"model": "m"', '"model": "gpt-6-luna"'))
        if not stream
        else body.replace('"model": "m"', '"model": "gpt-6-luna"')
    )
    monkeypatch.setenv("OPENAI_BASE_URL", f"{server.url}/v1")
    monkeypatch.setenv("OPENAI_API_KEY", "a-key-that-is-long")
    router = Router({"tiers": {"fast": {"chain": ["gpt-6-luna"]}}, "providers": {"openai": {"stream": stream}}})
    answer = router.route(ASK, tier="fast")
    standard = Pricing(router.config).at(Candidate("openai", "gpt-6-luna"), IN, OUT)
    assert standard is not None
    assert answer.cost == standard * factor
    kind = f" ({served})" if served in ("flex", "priority") else ""
    assert answer.attempts[0].cost.price_id == f"openai/gpt-6-luna{kind}"
    bound = router.pricing.bound(Candidate("openai", "gpt-6-luna"), 1000, 1000)
    fresh = Pricing(router.config).bound(Candidate("openai", "gpt-6-luna"), 1000, 1000)
    assert bound == (fresh * 2 if served == "priority" else fresh)  # what it was served at may come again
    router.close()


def test_a_service_tier_without_a_price_is_not_priced_as_the_standard_one() -> None:
    prices = Pricing(load({}))
    cost = functools.partial(prices.cost, Candidate("openai", "gpt-4o-mini"), Usage(1000, 1000))
    assert cost().amount is not None
    assert cost(context=(("service_tier", "flex"),)).amount is None
    groq = Candidate("groq", "llama-3.1-8b-instant")  # which has one price for all
    usage = Usage(1000, 1000)
    assert prices.cost(groq, usage, context=(("service_tier", "flex"),)) == prices.cost(groq, usage)
    claude = Candidate("anthropic", "claude-opus-5-5")
    rates = dict(prices.cost(claude, usage, context=(("processing", "batch"),)).rates)
    assert rates["input"] * 2 == prices.rates(claude)["input"]
    assert (
        dict(prices.cost(claude, usage, context=(("speed", "fast"),)).rates)["input"]
        == 2 * prices.rates(claude)["input"]
    )


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("usage", "context"),
    [
        ({"service_tier": "standard", "speed": "standard"}, ()),
        ({"service_tier": "batch"}, (("processing", "batch"),)),
        ({"service_tier": "priority", "speed": "fast"}, (("service_tier", "priority"), ("speed", "fast"))),
    ],
)
def test_anthropics_tier_and_speed_are_read(
    make_router: MakeRouter, server: FaultServer, requests: list[Any], usage: Any, context: Any, stream: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    seen: list[Any] = []
    counts = {"input_tokens": IN, "output_tokens": 1 if stream else OUT, **usage}
    server.replies["first"] = Reply(claude("It is.", start=counts) if stream else claude_whole("It is.", usage=counts))
    router = make_router(mid=["a/first"], stream=stream)
    price = router.pricing.cost
    monkeypatch.setattr(router.pricing, "cost", lambda *args, **more: seen.append(args[3:]) or price(*args, **more))
    assert router.route(ASK, tier="mid").text == "It is."
    assert (context,) in seen


# --- a schema with a picture ---


@pytest.fixture
def sees(server: FaultServer, make_router: MakeRouter) -> Callable[..., Router]:
    """Build a router whose providers with these names read pictures, asked for by these chains."""

    def build(names: str, chain: list[str], **options: Any) -> Router:
        return make_router(
            providers=providers(server, **{name: ["text", "image"] for name in names}),
            **dict.fromkeys(TIERS, chain),
            **options,
        )

    return build


@pytest.mark.parametrize(
    ("candidate", "answers", "paths"),
    [
        ("o/gpt-6-luna", [sse(chunk(text, "stop")) for text in (BAD, GOOD)],
         {"messages.1.content.2.type": "image_url", "response_format.json_schema.name": "Review",
          "reasoning_effort": "low"}),
        ("a/claude-sonnet-5-5", [claude(BAD), claude(GOOD)],
         {"messages.0.content.2.type": "image", "output_config.format.type": "json_schema",
          "output_config.effort": "low", "thinking.type": "adaptive"}),
        ("g/gemini-2.5-flash", [sse(*gemini(text), done=False) for text in (BAD, GOOD)],
         {"contents.0.parts.2.inlineData.mime_type": "image/png",
          "generationConfig.responseMimeType": "application/json",
          "generationConfig.responseJsonSchema.type": "object",
          "generationConfig.thinkingConfig.thinking_budget": 4096}),
    ],
)  # fmt: skip
def test_one_body_has_the_picture_the_schema_and_the_effort_and_so_has_its_correction(
    sees: Any, server: FaultServer, requests: list[Any], candidate: str, answers: list[Any], paths: dict[str, Any]
) -> None:
    left = list(answers)
    server.replies[candidate.partition("/")[2]] = lambda _: Reply(left.pop(0))
    router = sees(candidate[0], [candidate])
    answer = router.route(ASKS, schema=Review, effort="low", tier="fast")
    assert answer.data == Review(sentiment="positive", score=0.9)
    assert len(requests) == 2
    for _, _, body in requests:
        for path, value in paths.items():
            node = body
            for name in path.split("."):
                node = node[int(name)] if isinstance(node, list) else node[name]
            assert node == value, path
    assert router.route(ASKS, schema=Review, effort="low", tier="fast").cached
    for prompt, options in (
        (Prompt((ASKS.parts[0], picture(colour="black"))), {"schema": Review, "effort": "low"}),
        (ASKS, {"effort": "low"}),
        (ASKS, {"schema": Review, "effort": "high"}),
    ):
        assert not router.preview(prompt, tier="fast", **options).cached  # each of them tells requests apart


@pytest.mark.parametrize(
    ("candidate", "turns", "parts"),
    [
        ("deepseek/deepseek-chat", "messages", "content"),
        ("anthropic/claude-3-haiku-20240307", "messages", "content"),
        ("google/gemma-3-27b", "contents", "parts"),
    ],
)
def test_a_schema_in_words_stands_before_the_picture_where_a_system_prompt_is_refused(
    candidate: str, turns: str, parts: str
) -> None:
    body = body_of(candidate, {"system": None}, prompt=ASKS, system="Be brief.", schema=schema_of(Review))
    (turn,) = body[turns]
    words, prompt, caption, image = turn[parts]
    assert words["text"].startswith("Be brief.\n\nAnswer with JSON alone")
    assert schema_of(Review).text in words["text"]
    assert [prompt["text"], caption["text"]] == ["What stands out?", "`fig`: the picture below"]
    assert "text" not in image.keys() - {"type"}


def test_under_a_schema_a_candidate_that_cannot_see_is_passed_over(sees: Any, requests: list[Any]) -> None:
    router = sees("a", ["o/ok", "a/ok"])
    answer = router.route(ASKS, schema=Review, escalate=False, effort="low")
    assert (answer.provider, answer.data.score) == ("a", 0.5)
    assert "o/ok passed over: it does not read pictures." in answer.notes
    preview = router.preview(ASKS, schema=Review, effort="low", cache="refresh")
    assert (preview.candidate, preview.schema, preview.effort) == (Candidate("a", "ok"), "Review", "low")


def test_under_a_schema_words_go_to_who_cannot_see(sees: Any, requests: list[Any]) -> None:
    answer = sees("", ["o/ok"]).route(ASKS, schema=Review, escalate=False)
    assert answer.data is not None
    assert requests[0][2]["messages"][-1]["content"] == "What stands out?\n\n`fig`: a line from 1 to 3"
    assert any(note.startswith("described in words: ") for note in answer.notes)


def test_the_worst_case_holds_the_picture_the_schema_and_the_room_to_think(sees: Any) -> None:
    model = "o/gpt-6-luna"
    a_token_a_dollar = {model: {"input": 1_000_000, "output": 1_000_000}}
    router = sees("o", [model], prices=a_token_a_dollar, budget={"call": 0.5})
    words = Prompt(ASKS.parts[:1])

    def worst(prompt: Prompt, **options: Any) -> int:
        obstacle = router.preview(prompt, tier="fast", **{"effort": "none", **options}).obstacle
        found = re.search(r"could cost \$([\d,.]+), more than", obstacle)
        assert found, obstacle
        return int(Decimal(found[1].replace(",", "")))

    plain = worst(words)
    seen, schema, thinks = worst(ASKS) - plain, worst(words, schema=Review) - plain, worst(words, effort="low") - plain
    text = len("\n\n`fig`: the picture below")
    assert seen == media.bound([Message("user", ASKS)], model) + text
    assert schema > len(schema_of(Review).text)
    assert thinks == thinking_tokens("low") > 0
    assert worst(ASKS, schema=Review, effort="low") == plain + seen + schema + thinks
    with pytest.raises(BudgetError):
        router.route(ASKS, schema=Review, effort="low", tier="fast")
