"""The six steps, through both real SDKs against the loopback server."""

from __future__ import annotations

import datetime as dt
import pickle
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import pytest

import ipyrouter
from ipyrouter import config
from ipyrouter.config import NO_KEY
from ipyrouter.errors import Interrupted, NoModelError, UsageError
from ipyrouter.notebook import rendering
from ipyrouter.providers import local
from ipyrouter.router import Router
from ipyrouter.types import TIERS, Answer, Candidate, Delta, Message
from tests.conftest import run_python
from tests.faults.server import CACHED, IN, OUT, TEXT, FaultServer

MakeRouter = Callable[..., Router]
# The fixture's prices: $1 in, $10 out, $0.5 cached, per million tokens.
COST = (Decimal(IN - CACHED) * 1 + Decimal(CACHED) * Decimal("0.5") + Decimal(OUT) * 10) / 1_000_000


@pytest.mark.parametrize("provider", ["o", "a"])
@pytest.mark.parametrize("stream", [True, False])
def test_answer_cost_and_log_row(make_router: MakeRouter, provider: str, stream: bool) -> None:
    router = make_router(mid=[f"{provider}/ok"], stream=stream)
    deltas: list[Delta] = []
    answer = router.route("Explain closures", on_delta=deltas.append)
    assert answer.text == TEXT == "".join(map(str, deltas))
    assert (answer.tier, answer.provider, answer.model, answer.finish) == ("mid", provider, "ok", "stop")
    assert answer.cost == COST
    assert answer.usage.input_tokens == IN
    assert answer.usage.cached_input_tokens == CACHED
    assert not answer.usage.estimated
    row = router.log().iloc[0]
    assert row["status"] == "ok"
    assert row["cost_pico"] == COST * 10**12
    assert row["prompt"] == "Explain closures"
    assert row["text"] == TEXT
    assert row["price_id"] == f"config:{provider}/ok"
    assert answer.to_dict() == {
        "content": TEXT,
        "model": "ok",
        "tier": "mid",
        "cost": float(COST),
        "tokens": {"input": IN, "output": OUT},
        "cached": False,
    }


def test_a_repeat_costs_nothing_and_says_so(make_router: MakeRouter, requests: list[Any]) -> None:
    router = make_router()
    first = router.route("Explain closures")
    again = router.route("Explain closures")
    assert len(requests) == 1
    assert (again.text, again.cached, again.cost, again.cost_saved) == (first.text, True, 0, COST)
    rows = router.log()
    assert list(rows["status"]) == ["ok", "cached"]
    assert rows["cost_pico"].sum() == COST * 10**12


@pytest.mark.parametrize(
    "change",
    [
        {"system": "Be brief."},
        {"max_output_tokens": 9},
        {"temperature": 0.1},
        {"history": [Message("user", "hi"), Message("assistant", "hello")]},
        {"tier": "power"},
        {"cache": "refresh"},
        {"cache": "off"},
    ],
)
def test_whatever_changes_the_request_is_asked_anew(
    make_router: MakeRouter, requests: list[Any], change: dict[str, Any]
) -> None:
    router = make_router(power=["o/ok@power"])
    router.route("Explain closures")
    assert not router.route("Explain closures", **change).cached
    assert len(requests) == 2


def test_refresh_replaces_and_off_leaves_the_cache(make_router: MakeRouter, requests: list[Any]) -> None:
    router = make_router()
    router.route("Explain closures", cache="off")
    assert not router.route("Explain closures", cache="refresh").cached
    assert router.route("Explain closures").cached
    assert router.store.clear_cache() == 1
    assert not router.route("Explain closures").cached
    assert len(requests) == 3


@pytest.mark.parametrize("behaviour", ["length", "refusal", "empty"])
def test_what_is_never_cached(make_router: MakeRouter, behaviour: str) -> None:
    router = make_router(mid=[f"o/{behaviour}"])
    router.route("Explain closures", escalate=False)
    assert not router.route("Explain closures", escalate=False).cached


def test_the_cache_outlives_the_process_and_the_key(make_router: MakeRouter, server: FaultServer) -> None:
    """Restart and Run All: no SDK, no price data, no pandas is imported for cached answers."""
    make_router().route("Explain closures")
    code = f"""
import sys
from ipyrouter.router import Router
from tests.conftest import server_config
class Server: url = {server.url!r}
answer = Router(server_config(Server)).route("Explain closures")
assert answer.cached, answer
heavy = {{"openai", "anthropic", "httpx2", "pandas", "genai_prices", "xllamacpp", "matplotlib"}} & set(sys.modules)
assert not heavy, heavy
"""
    run_python(code)


def test_tier_and_model_override(make_router: MakeRouter) -> None:
    router = make_router(power=["a/ok"])
    assert router.route("Explain closures", tier="power").provider == "a"
    answer = router.route("Explain closures", model="a/ok@x")
    assert (answer.provider, answer.model, answer.tier) == ("a", "ok@x", "mid")


def tier_of(router: Router, **options: Any) -> tuple[str, str, str]:
    """Return the tier in answer, log and dry run; they are the same."""
    expected = router.preview("Explain closures", **options).tier  # a prompt for mid
    answer = router.route("Explain closures", **options)
    row = router.log().iloc[-1]
    assert row["routed_tier"] == "mid"  # what the classifier said stays in the log
    assert answer.tier in rendering.badge_text(answer).split(" · ")
    return expected, answer.tier, row["tier"]


@pytest.mark.parametrize("cache", ["off", "use"])
def test_a_named_model_counts_under_its_own_tier(make_router: MakeRouter, requests: list[Any], cache: str) -> None:
    chains = {"fast": ["o/ok@1"], "mid": ["o/ok@2", "o/ok@1"], "power": ["a/ok@3", "o/ok@2"]}
    router = make_router(**chains)
    for model, tier in (("o/ok@1", "fast"), ("o/ok@2", "mid"), ("a/ok@3", "power")):
        for _ in range(2):
            assert tier_of(router, model=model, cache=cache) == (tier,) * 3
    assert tier_of(router, model="o/ok@1", tier="mid", cache=cache) == ("mid",) * 3  # its chain holds it too
    assert tier_of(router, model="o/ok@1", tier="power", cache=cache) == ("fast",) * 3
    limits = list(dict.fromkeys((body["model"], body["max_tokens"]) for _, _, body in requests))
    assert limits == [("ok@1", 1024), ("ok@2", 4096), ("ok@3", 8192), ("ok@1", 4096)]  # those of the tiers
    calls = router.report().tiers["calls"]
    assert calls["power"] == (2 if cache == "off" else 1)


def test_a_named_model_of_no_chain_counts_where_its_price_is_nearest(make_router: MakeRouter) -> None:
    prices = {
        "o/ok@1": 1,
        "o/ok@2": 10,
        "a/ok@3": 100,
        "o/ok@a": 2,
        "o/ok@b": 4,
        "o/ok@c": 31,
        "o/ok@d": 900,
        "o/ok@e": 0,
    }
    router = make_router(
        fast=["o/ok@1"], mid=["o/unpriced", "o/ok@2"], power=["a/ok@3"],
        prices={name: {"input": 1, "output": output} for name, output in prices.items()},
    )  # fmt: skip
    for model, tier in (("a", "fast"), ("b", "mid"), ("c", "mid"), ("d", "power"), ("e", "fast")):
        for _ in range(2):  # the second from the cache
            assert tier_of(router, model=f"o/ok@{model}") == (tier,) * 3
    assert tier_of(router, model="o/ok@unpriced") == ("mid",) * 3  # the classifier's, where no price tells
    assert tier_of(router, model="o/ok@d", tier="fast") == ("fast",) * 3  # as it was named


def test_the_wire_body_of_each_protocol(make_router: MakeRouter, requests: list[Any]) -> None:
    router = make_router(mid=["o/ok"], power=["a/ok"])
    history = [Message("user", "one"), Message("assistant", "two")]
    router.route("three", system="Be brief.", history=history, max_output_tokens=7)
    router.route("three", system="Be brief.", history=history, tier="power", temperature=0.5)
    (_, _, openai_body), (_, _, anthropic_body) = requests
    assert [m["content"] for m in openai_body["messages"]] == ["Be brief.", "one", "two", "three"]
    assert openai_body["max_tokens"] == 7  # no server but OpenAI's own is sure to know max_completion_tokens
    assert openai_body["stream_options"] == {"include_usage": True}
    assert "temperature" not in openai_body
    assert anthropic_body["system"] == "Be brief."
    assert anthropic_body["temperature"] == 0.5
    assert anthropic_body["max_tokens"] == 8192


def test_openais_own_protocol_and_base_url_from_the_environment(
    server: FaultServer, requests: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", f"{server.url}/v1")
    monkeypatch.setenv("OPENAI_ORG_ID", "org-7")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret-openai")
    monkeypatch.setenv("ANTHROPIC_BASE_URL", server.url)
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-secret-anthropic")
    router = Router()
    router.route("Explain closures", model="openai/ok")
    router.route("Explain closures", model="anthropic/ok")
    router.close()
    (_, sent, openai_body), (_, anthropic_headers, _) = requests
    openai_headers = {name.lower(): value for name, value in sent.items()}
    assert openai_body["max_completion_tokens"] == 4096
    assert "max_tokens" not in openai_body
    assert openai_headers["authorization"] == "Bearer sk-secret-openai"
    assert openai_headers["openai-organization"] == "org-7"
    assert any("sk-secret-anthropic" in value for value in anthropic_headers.values())


def test_proxies_of_the_environment_are_used(
    server: FaultServer, requests: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fault server stands in as the proxy: it sees the request for a host that does not exist."""
    monkeypatch.setenv("HTTP_PROXY", server.url)
    router = Router({"providers": {"far": {"sdk": "openai", "base_url": "http://nowhere.invalid/v1"}}})
    assert router.route("Explain closures", model="far/ok").text == TEXT
    assert requests[0][0] == "http://nowhere.invalid/v1/chat/completions"
    router.close()


def test_article_validation_escalates_once(make_router: MakeRouter, requests: list[Any]) -> None:
    router = make_router(fast=["o/short"], mid=["a/ok"])
    prompt = "Rename " + "this variable " * 30
    answer = router.route(prompt)
    assert (answer.tier, answer.escalated_from, answer.text) == ("mid", "fast", TEXT)
    assert answer.cost == 2 * COST
    assert [a.status for a in answer.attempts] == ["weak", "ok"]
    assert list(router.log()["status"]) == ["weak", "ok"]
    again = router.route(prompt)
    assert (again.cached, again.escalated_from) == (True, "fast")
    assert len(requests) == 2
    weak = router.route(prompt, escalate=False)
    assert (weak.text, weak.tier) == ("No.", "fast")


def test_falls_back_along_the_chain(make_router: MakeRouter) -> None:
    router = make_router(mid=["o/status-503", "a/ok"])
    answer = router.route("Explain closures")
    assert (answer.provider, answer.fallback_from) == ("a", "o/status-503")
    assert list(router.log()["status"]) == ["error", "ok"]
    assert router.log()["cost_pico"].sum() == COST * 10**12
    assert router.route("Explain closures").cached  # stored under the model that answered


# --- bad input ---


@pytest.mark.parametrize("prompt", ["", "  \n\t "])
def test_empty_prompt(make_router: MakeRouter, prompt: str) -> None:
    with pytest.raises(UsageError, match="empty"):
        make_router().route(prompt)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tier": "fats"}, "Did you mean 'fast'"),
        ({"model": "o/"}, "Unknown provider|Unknown model"),
        ({"model": "nope"}, "Unknown model 'nope'"),
        ({"cache": "maybe"}, "Unknown cache mode"),
        ({"max_output_tokens": 0}, "at least 1"),
        ({"temperature": 3.0}, "between 0 and 2"),
    ],
)
def test_bad_options(make_router: MakeRouter, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make_router().route("Explain closures", **options)


def test_a_prompt_that_is_no_text(make_router: MakeRouter) -> None:
    with pytest.raises(UsageError, match="not int"):
        make_router().route(3)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "prompt", ["{a} {{b}} $x ${y} %s %(z)s \"quoted\" 'single' \\n `tick`", "null\x00byte", "日本語 🧮"]
)
def test_the_prompt_goes_out_verbatim(make_router: MakeRouter, requests: list[Any], prompt: str) -> None:
    router = make_router()
    router.route(prompt)
    assert requests[0][2]["messages"][-1]["content"] == prompt
    assert router.log()["prompt"][0] == prompt


def test_lone_surrogates_are_replaced_and_told(make_router: MakeRouter, requests: list[Any]) -> None:
    answer = make_router().route("half \ud83e here, whole \U0001f9ee there")
    assert requests[0][2]["messages"][-1]["content"] == "half \ufffd here, whole \U0001f9ee there"
    assert "lone surrogates" in answer.notes[0]


@pytest.mark.slow
def test_a_huge_prompt_asks_first(make_router: MakeRouter, requests: list[Any]) -> None:
    router = make_router()
    prompt = "data " * 2_000_000
    with pytest.raises(UsageError, match=r"about 2,500,008 tokens to o/ok for up to \$2\.\d\d.*--yes"):
        router.route(prompt, tier="mid")
    assert not requests
    assert router.route(prompt, tier="mid", allow_large=True).text == TEXT


def test_no_key_and_no_local_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "available", lambda: False)  # as if the extra were not installed
    with pytest.raises(NoModelError) as caught:
        Router().route("Explain closures")
    for part in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "pip install xllamacpp", "getpass.getpass()", "config file"):
        assert part in str(caught.value)


def test_a_chain_of_ones_own_without_its_key_is_never_replaced_by_the_local_model() -> None:
    router = Router(
        {
            "providers": {"acme": {"sdk": "openai", "base_url": "http://127.0.0.1:9/v1", "key": "ACME_API_KEY"}},
            "tiers": {tier: {"chain": ["acme/m"]} for tier in ("fast", "mid", "power")},
        }
    )
    with pytest.raises(NoModelError, match="ACME_API_KEY is not set"):
        router.route("Explain closures")


def test_a_tier_without_a_usable_model_is_served_by_its_neighbour(make_router: MakeRouter) -> None:
    router = make_router(mid=["gpt-4o"], power=["a/ok"])
    answer = router.route("Explain closures")
    assert (answer.tier, answer.provider) == ("power", "a")
    note = "No model of the tier mid can be called (OPENAI_API_KEY is not set); power answers instead."
    assert note in answer.notes
    assert note in router.route("Explain generators").notes  # with every answer: it costs more than was meant
    assert note in router.route("Explain closures").notes  # from the cache


def test_retired_models_are_skipped_with_a_warning(make_router: MakeRouter) -> None:
    router = make_router(mid=["o/gone", "o/ok"], retired={"gone": dt.date(2020, 1, 1)}, successors={"gone": "ok"})
    answer = router.route("Explain closures")
    assert answer.notes == ("o/gone was retired on 2020-01-01 and is skipped; its successor is ok.",)
    assert router.route("Another one").notes == ()  # once per session


OWN = {"sdk": "openai", "base_url": "http://127.0.0.1:1/v1"}


def test_a_model_of_ones_own_is_not_retired_with_its_namesake(make_router: MakeRouter, requests: list[Any]) -> None:
    """LocalAI, LM Studio and LiteLLM serve models under OpenAI's names."""
    router = make_router(mid=["o/gpt-3.5-turbo"])
    answer = router.route("Explain closures")
    assert (answer.model, answer.notes) == ("gpt-3.5-turbo", ())
    named = router.route("Explain closures", model="o/gpt-3.5-turbo", cache="off")
    assert named.notes == ()
    make_router().route("Explain closures", model="o/claude-haiku-3")
    assert requests[-1][2]["model"] == "claude-haiku-3"  # not OpenAI's or Anthropic's name for it


def test_a_service_retires_its_models_whatever_its_entry_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    there = {"sdk": "openai", "base_url": "https://api.openai.com/v1"}
    loaded = config.load({"providers": {"acme": OWN, "mine": there}})
    day = dt.date(2026, 10, 23)
    assert loaded.retired_on(Candidate("openai", "gpt-3.5-turbo")) == day
    assert loaded.retired_on(Candidate("mine", "gpt-3.5-turbo")) == day
    assert loaded.successor(Candidate("mine", "gpt-3.5-turbo")) == "gpt-6-luna"
    assert loaded.retired_on(Candidate("acme", "gpt-3.5-turbo")) is None
    assert loaded.successor(Candidate("acme", "gpt-3.5-turbo")) is None
    assert loaded.retired_on(Candidate("acme", "claude-3-haiku-20240307")) is None
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:1/v1")  # now "openai" is somebody else
    assert loaded.retired_on(Candidate("openai", "gpt-3.5-turbo")) is None
    for address in ("http://[::1", "not an address"):
        monkeypatch.setenv("OPENAI_BASE_URL", address)
        assert loaded.retired_on(Candidate("openai", "gpt-3.5-turbo")) is None


def test_the_user_may_retire_any_model() -> None:
    day = dt.date(2026, 1, 1)
    loaded = config.load({"providers": {"acme": OWN}, "retired": {"small": day, "acme/large": day, "gpt-4o": day}})
    for name in ("small", "large", "gpt-4o"):
        assert loaded.retired_on(Candidate("acme", name)) == day
    assert loaded.retired_on(Candidate("openai", "gpt-4o")) == day  # the user's word, not ours


def test_a_chain_of_retired_models_only_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-nothing-is-sent")
    router = Router({"tiers": {tier: {"chain": ["gpt-3.5-turbo"]} for tier in TIERS}})
    with pytest.raises(NoModelError) as caught:
        router.route("Explain closures")
    assert str(caught.value) == (
        "No model can be called: openai/gpt-3.5-turbo was retired on 2026-10-23 and is skipped; its successor is "
        "gpt-6-luna. Put another model into tiers.mid.chain, or name one with -m."
    )
    both = Router({"tiers": {tier: {"chain": ["gpt-3.5-turbo", "claude-opus-5-5"]} for tier in TIERS}})
    with pytest.raises(
        NoModelError, match=r"gpt-6-luna; ANTHROPIC_API_KEY is not set\. Run: ipyrouter key set anthropic\. Or set"
    ):
        both.route("Explain closures")


def test_a_first_choice_without_its_key_is_told_once(make_router: MakeRouter) -> None:
    router = make_router(mid=["gpt-6.1-terra", "a/ok", "claude-opus-5-5"])
    note = "openai/gpt-6.1-terra skipped: OPENAI_API_KEY is not set."
    assert router.preview("Explain closures").notes == (note,)
    answer = router.route("Explain closures")
    assert (answer.notes, answer.fallback_from) == ((note,), None)
    assert router.route("Explain generators").notes == ()
    router.reset()
    assert router.route("Explain decorators").notes == (note,)
    last = make_router(mid=["a/ok", "gpt-6.1-terra"])
    assert last.route("Explain scopes").notes == ()  # what is not the first choice is not missed


@pytest.mark.kernel
@pytest.mark.parametrize("tier", TIERS)
def test_the_toy_says_that_it_is_one(tier: str) -> None:
    """The embedded model, for real: in every tier, with every answer, from the cache too."""
    router = Router()
    assert NO_KEY == "toy model (SmolLM2-135M): no key is set"
    assert NO_KEY in router.preview("Say yes.", tier=tier).notes
    for cached in (False, True):
        answer = router.route("Say yes.", tier=tier, max_output_tokens=8, escalate=False)
        if answer.finish == "stop":
            assert answer.cached == cached
        assert (answer.provider, answer.tier) == ("local", tier)
        assert NO_KEY in answer.notes
        assert rendering.badge_text(answer).startswith(f"local/smollm2 · $0 · {tier}")
        assert NO_KEY in rendering.badge_text(answer)
        assert NO_KEY in rendering.badge_sentence(answer)
    named = router.route("Say yes.", model="local/smollm2", max_output_tokens=8)
    assert NO_KEY not in named.notes  # it was chosen
    assert "· toy model (SmolLM2-135M)" in rendering.badge_text(named)
    router.close()


@pytest.mark.kernel
def test_the_toy_keeps_to_a_schema() -> None:
    """llama.cpp's server enforces what it is sent, for real."""
    router = Router()
    form = {"label": ["good", "bad"], "stars": int}
    answer = router.route("Is this a good review? I love it.", model="local/smollm2", schema=form)
    assert answer.data["label"] in ("good", "bad")
    assert [attempt.status for attempt in answer.attempts] == ["ok"]
    router.close()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_tokens": 5}, "route() has no argument 'max_tokens'. Did you mean 'max_output_tokens'?"),
        ({"teir": "fast"}, "route() has no argument 'teir'. Did you mean 'tier'?"),
        ({"messages": []}, "Did you mean 'history'?"),
        ({"history": 5}, "history holds 5, which is not a turn of a conversation."),
        ({"history": "hi"}, "history holds 'hi', which is not a turn of a conversation."),
        ({"history": [{"role": "system", "content": "x"}]}, "a system prompt goes into system=."),
        ({"history": [{"role": "user"}]}, "history holds {'role': 'user'}, which"),
        ({"history": [{"role": "user", "content": ["x"]}]}, "which is not a turn of a conversation."),
        ({"system": 5}, "system must be a string, not 5."),
        ({"model": 5}, "model must be a string, not 5."),
        ({"model": "openai/"}, "Unknown model 'openai/': a name is missing."),
    ],
)
def test_what_cannot_be_asked_is_one_clear_line(
    make_router: MakeRouter, requests: list[Any], options: dict[str, Any], message: str
) -> None:
    router = make_router()
    for ask in (router.route, router.preview):
        with pytest.raises(UsageError) as raised:
            ask("Explain closures", **options)
        assert message in str(raised.value)
        assert "\n" not in str(raised.value)
    assert requests == []


def test_history_may_be_dicts_as_the_sdks_have_them(make_router: MakeRouter, requests: list[Any]) -> None:
    turns = [{"role": "user", "content": "Hi"}, Message("assistant", "Hello")]
    answer = make_router().route("Explain closures", history=iter(turns))
    assert answer.text == TEXT
    assert [turn["content"] for turn in requests[0][2]["messages"]] == ["Hi", "Hello", "Explain closures"]


@pytest.mark.parametrize("prompt", [None, 5, b"x", ["x"]])
def test_only_strings_are_classified(make_router: MakeRouter, prompt: Any) -> None:
    with pytest.raises(UsageError, match="The prompt must be a string, not"):
        make_router().classify(prompt)


def test_a_broken_display_does_not_cost_the_answer(make_router: MakeRouter) -> None:
    def broken(_: Delta) -> None:
        raise ZeroDivisionError("oops")

    answer = make_router().route("Explain closures", on_delta=broken)
    assert answer.text == TEXT
    assert "ZeroDivisionError: oops" in answer.notes[0]


def test_an_interrupt_while_listeners_are_told_keeps_the_answer(make_router: MakeRouter) -> None:
    def stopped(_: Answer) -> None:
        raise KeyboardInterrupt

    router = make_router()
    router.listeners.append(stopped)
    with pytest.raises(Interrupted) as raised:
        router.route("Explain closures")
    assert raised.value.answer.text == TEXT
    assert router.last == raised.value.answer
    assert list(router.log()["status"]) == ["ok"]


def test_threads_whose_listener_fails_keep_their_answers(make_router: MakeRouter) -> None:
    router = make_router()
    together = threading.Barrier(4)

    def broken(_: Answer) -> None:
        together.wait(20)
        raise ZeroDivisionError

    router.listeners.append(broken)
    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(router.route, [f"Explain closures {n}" for n in range(4)]))
    assert [answer.text for answer in answers] == [TEXT] * 4
    assert router.listeners == []


def test_preview_sends_nothing(make_router: MakeRouter, requests: list[Any]) -> None:
    router = make_router()
    preview = router.preview("Explain closures", max_output_tokens=100)
    assert (preview.tier, str(preview.candidate), preview.cached, preview.key_present) == ("mid", "o/ok", False, True)
    assert preview.cost_low is not None
    assert preview.cost_high == (preview.input_tokens + 100 * 10) / Decimal(1_000_000)
    router.route("Explain closures", max_output_tokens=100)
    assert router.preview("Explain closures", max_output_tokens=100).cached
    assert len(requests) == 1


def test_router_and_answer_pickle(make_router: MakeRouter) -> None:
    router = make_router()
    answer = router.route("Explain closures")
    assert pickle.loads(pickle.dumps(answer)) == answer
    copy: Router = pickle.loads(pickle.dumps(router))
    assert copy.route("Explain closures").cached
    copy.close()


def test_module_functions_share_the_default_router(make_router: MakeRouter, capsys: pytest.CaptureFixture[str]) -> None:
    ipyrouter.use_router(make_router())
    assert ipyrouter.classify("what is a list").tier == "fast"
    assert ipyrouter.route("Explain closures").text == TEXT
    assert len(ipyrouter.cost_log()) == 1
    assert ipyrouter.daily_report().calls == 1
    assert "1 call" in capsys.readouterr().out


def test_public_names_are_sorted_and_there() -> None:
    assert ipyrouter.__all__ == sorted(ipyrouter.__all__)
    assert all(getattr(ipyrouter, name) is not None for name in ipyrouter.__all__)
    with pytest.raises(AttributeError, match="nothing"):
        ipyrouter.nothing  # noqa: B018


def test_a_retired_model_that_is_named_is_asked_with_a_note(make_router: MakeRouter) -> None:
    router = make_router(retired={"ok": dt.date(2026, 1, 1)})
    assert router.route("Explain closures", model="o/ok").notes == (
        "o/ok was retired on 2026-01-01; you named it, so it is asked.",
    )
