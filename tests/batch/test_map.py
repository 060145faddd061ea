"""A prompt over a column, against the loopback server."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import ipyrouter
from ipyrouter.batch.frame import MapFrame
from ipyrouter.errors import NoModelError, UsageError
from ipyrouter.router import Router
from ipyrouter.types import Candidate
from tests.conftest import run_python
from tests.faults.server import FaultServer, Reply, chat

pytestmark = pytest.mark.wire
MakeRouter = Callable[..., Router]


def texts(requests: list[Any]) -> list[str]:
    """Return the prompts that the server has got."""
    return sorted(body["messages"][-1]["content"] for _, _, body in requests)


def echo(server: FaultServer, name: str = "m") -> str:
    """Let a model answer with its prompt's last word."""
    server.replies[name] = lambda body: Reply(chat(body["messages"][-1]["content"].split()[-1]))
    return f"o/{name}"


# --- order, index and kinds of data ---


def test_a_frame_keeps_order_and_index(make_router: MakeRouter, server: FaultServer) -> None:
    router = make_router(mid=[echo(server)])
    frame = pd.DataFrame({"word": list("dcbae"), "n": range(5)}, index=[9, 7, 7, 3, 1])
    result = router.map(frame, "Repeat {{n}} {{word}}")
    assert isinstance(result, MapFrame)
    assert list(result.index) == [9, 7, 7, 3, 1]
    assert list(result["answer"]) == list("dcbae")
    assert set(result["_status"]) == {"ok"}
    assert set(result["_model"]) == {"o/m"}
    assert set(result["_tier"]) == {"mid"}
    assert result["_cost"].sum() == pytest.approx(float(router.log()["cost"].sum()))
    assert type(result[["answer"]]) is pd.DataFrame


@pytest.mark.parametrize(
    "data",
    [["a", "b"], ("a", "b"), iter(["a", "b"]), pd.Series(["a", "b"], name="text"), pl.Series("text", ["a", "b"]),
     pl.DataFrame({"text": ["a", "b"]}), pa.table({"text": ["a", "b"]}), pa.array(["a", "b"]),
     [{"text": "a"}, {"text": "b"}], pd.Index(["a", "b"])],
    ids=lambda data: f"{type(data).__module__.partition('.')[0]}.{type(data).__name__}",
)  # fmt: skip
def test_every_kind_of_data(make_router: MakeRouter, server: FaultServer, data: Any) -> None:
    result = make_router(mid=[echo(server)]).map(data, "Repeat {{text}}")
    library = type(data).__module__.partition(".")[0]
    expected = {"polars": pl.DataFrame, "pyarrow": pa.Table}.get(library, pd.DataFrame)
    assert isinstance(result, expected)
    answers = result["answer"].to_pylist() if library == "pyarrow" else list(result["answer"])
    assert answers == ["a", "b"]


def test_a_schemas_fields_are_typed_columns(make_router: MakeRouter, requests: list[Any]) -> None:
    schema = {"label": ["good", "bad"], "score": float, "count": int, "sure": bool, "why": str}
    result = make_router().map(["a", None], "Rate {{text}}", schema=schema)
    assert list(result["label"].cat.categories) == ["good", "bad"]
    assert (result["score"].dtype, result["count"].dtype, result["sure"].dtype) == ("float64", "Int64", "boolean")
    assert result.loc[0, "label"] == "good"
    assert result.loc[1, ["label", "score", "count", "sure"]].isna().all()
    polars = make_router().map(pl.Series("text", ["a", None]), "Rate {{text}}", schema=schema)
    assert polars.schema["label"] == pl.Enum(["good", "bad"])
    assert polars.schema["count"] == pl.Int64


# --- one call for equal rows, and none for those without a value ---


def test_equal_rows_are_one_call(make_router: MakeRouter, server: FaultServer, requests: list[Any]) -> None:
    router = make_router(mid=[echo(server)])
    result = router.map(["a", "b", "a", "a"], "Repeat {{x}}")
    assert texts(requests) == ["Repeat a", "Repeat b"]
    assert list(result["answer"]) == ["a", "b", "a", "a"]
    assert list(result["_cached"]) == [False, False, True, True]
    assert list(result["_cost"])[2:] == [0, 0]
    assert len(router.log()) == 2


def test_rows_without_a_value_are_not_sent(make_router: MakeRouter, requests: list[Any]) -> None:
    nothing = [None, float("nan"), pd.NA, pd.NaT, "", "  \n"]
    result = make_router().map(pd.Series(nothing, dtype=object), "Repeat {{x}}")
    assert requests == []
    assert set(result["_status"]) == {"missing"}
    assert result["answer"].isna().all()
    assert result["_error"].str.contains("x is").all()


def test_an_empty_column(make_router: MakeRouter, requests: list[Any]) -> None:
    result = make_router().map([], "Repeat {{x}}", schema={"label": ["a", "b"]})
    assert list(result.columns) == ["label", "_status", "_error", "_tier", "_model", "_cost", "_cached"]
    assert len(result) == 0
    assert requests == []


# --- what cannot be is one clear line before anything is sent ---


@pytest.mark.parametrize(
    ("data", "prompt", "options", "words"),
    [
        (["a"], "Hello", {}, r"names no column.*\{\{value\}\}"),
        (pd.DataFrame({"text": ["a"]}), "Rate {{tekst}}", {}, "no variable 'tekst'. Did you mean 'text'"),
        (["a"], "Rate {{x.upper()}}", {}, "only a name can be inserted, not an expression. Make a column of it"),
        (pd.DataFrame({"n": [1]}), "Rate {{n}} {{n * 2}}", {}, r"\{\{n \* 2\}\}: only a name can be inserted"),
        (pd.DataFrame({"n": [1]}), "Rate {{n}} {{round(n)}}", {}, "only a name can be inserted"),
        (["a"], "Rate {{x}}", {"schema": {"_cost": float}}, "field '_cost' has the name of a column.*Rename the field"),
        (pd.DataFrame([["a", "b"]], columns=["x", "x"]), "Rate {{x}}", {}, "two columns 'x'"),
        (["a"], "Rate {{x}} {{y}}", {}, r"several names for it: \{\{x\}\}, \{\{y\}\}"),
        ("abc", "Rate {{x}}", {}, "one string, not a column"),
        (5, "Rate {{x}}", {}, "type int, which has no rows"),
        ({"a": [1]}, "Rate {{a}}", {}, "type dict"),
        (["a"], 5, {}, "must be a string, not int"),
        (["a"], "Rate {{x}}", {"tier": "fats"}, "fast"),
        (["a"], "Rate {{x}}", {"modle": "m"}, r"map\(\) has no argument 'modle'. Did you mean 'model'"),
        (["a"], "Rate {{x}}", {"concurency": 5}, r"map\(\) has no argument 'concurency'. Did you mean 'concurrency'"),
        (["a"], "Rate {{x}}", {"budget": "lots"}, "budget must be dollars"),
        (["a"], "Rate {{x}}", {"budget": True}, "budget must be dollars"),
        (["a"], "Rate {{x}}", {"concurrency": 0}, "concurrency must lie between"),
        (["a"], "Rate {{x}}", {"schema": {}}, "schema is empty"),
    ],
)
def test_bad_input_is_one_line(
    make_router: MakeRouter, requests: list[Any], data: Any, prompt: Any, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        make_router().map(data, prompt, **options)
    assert "\n" not in str(caught.value)
    assert requests == []


def test_a_row_that_is_too_large_is_a_row_of_its_own(make_router: MakeRouter) -> None:
    result = make_router().map(["a", "b" * 10_000_000], "Repeat {{x}}", model="o/ok")
    assert list(result["_status"]) == ["ok", "error"]
    assert "large" in result.loc[1, "_error"]


def test_no_key_is_an_error_at_once(make_router: MakeRouter, requests: list[Any]) -> None:
    with pytest.raises(NoModelError, match="OPENAI_API_KEY"):
        make_router().map(["a", "b"], "Repeat {{x}}", model="openai/gpt-6-luna")


# --- plan, confirmation, budget ---


def test_a_dry_run_says_what_a_run_would_do(make_router: MakeRouter, requests: list[Any], home: Path) -> None:
    router = make_router(limits={"o/ok": {"requests_per_minute": 2}})
    router.map(["a"], "Repeat {{x}}")
    requests.clear()
    plan = router.map(["a", "b", "b", "c", None], "Repeat {{x}}", dry_run=True)
    assert requests == []
    assert (plan.rows, plan.skipped, plan.distinct, plan.cached, plan.asked) == (5, 1, 3, 1, 2)
    assert plan.models == {"o/ok": 2}
    assert plan.cost_low < plan.cost_likely < plan.cost_high
    assert plan.seconds == pytest.approx(60)
    assert "2 to send" in str(plan)
    assert plan.example == "Repeat a"


def test_an_expensive_run_asks_first(make_router: MakeRouter, requests: list[Any]) -> None:
    router = make_router(batch={"confirm_usd": 0.001})
    with pytest.raises(UsageError, match=r"2 requests for likely .*confirm_usd.*Nothing was sent.*yes=True"):
        router.map(["a", "b"], "Repeat {{x}}")
    assert requests == []
    assert set(router.map(["a", "b"], "Repeat {{x}}", yes=True)["_status"]) == {"ok"}


def test_a_budget_is_kept_and_what_is_done_comes_back(make_router: MakeRouter) -> None:
    router = make_router(prices={"o/ok": {"input": 0, "output": 10}})  # 30 tokens: $0.0003 an answer
    result = router.map([str(n) for n in range(100)], "Repeat {{x}}", budget="0.01", max_output_tokens=100)
    spent = Decimal(str(router.log()["cost"].sum()))
    assert Decimal("0.008") < spent <= Decimal("0.01")  # calls in flight were waited for, not given up
    answered = (result["_status"] == "ok").sum()
    assert answered == round(float(spent) / 0.0003)
    others = result[result["_status"] != "ok"]
    assert set(others["_status"]) <= {"budget", "not sent"}
    assert others["answer"].isna().all()
    assert others["_error"].str.contains("budget").all()


def test_a_session_budget_is_kept_too(make_router: MakeRouter) -> None:
    router = make_router(
        prices={"o/ok": {"input": 0, "output": 10}}, budget={"session": 0.01}, routing={"mode": "rules"}
    )
    result = router.map([str(n) for n in range(60)], "Repeat {{x}}", max_output_tokens=100)
    spent = float(router.log()["cost"].sum())
    assert 0.008 < spent <= 0.01
    assert (result["_status"] == "ok").sum() == round(spent / 0.0003)


# --- rate limits ---


def test_no_row_is_lost_to_rate_limits(make_router: MakeRouter, server: FaultServer, requests: list[Any]) -> None:
    times: list[float] = []
    lock = threading.Lock()

    def limited(body: dict[str, Any]) -> Reply:
        """Allow three requests in each half second."""
        with lock:
            now = time.monotonic()
            if len([one for one in times if now - one < 0.5]) >= 3:
                return Reply({"error": {"message": "slow down"}}, 429, {"retry-after": "0.5"})
            times.append(now)
        return Reply(chat("ok"))

    server.replies["m"] = limited
    result = make_router(mid=["o/m"]).map([str(n) for n in range(24)], "Repeat {{x}}", concurrency=8)
    assert set(result["_status"]) == {"ok"}


# --- faults ---


def test_a_row_that_fails_is_data(make_router: MakeRouter, server: FaultServer) -> None:
    def picky(body: dict[str, Any]) -> Reply:
        if body["messages"][-1]["content"].endswith("bad"):
            return Reply({"error": {"message": "no such thing"}}, 400)
        return Reply(chat("fine"))

    server.replies["m"] = picky
    result = make_router(mid=["o/m"]).map(["a", "bad", "c"], "Repeat {{x}}")
    assert list(result["_status"]) == ["ok", "error", "ok"]
    assert "no such thing" in result.loc[1, "_error"]
    assert pd.isna(result.loc[1, "answer"])


def test_refused_rows_have_no_answer(make_router: MakeRouter) -> None:
    result = make_router(mid=["o/refusal"]).map(["a"], "Repeat {{x}}")
    assert result.loc[0, "_status"] == "refused"
    assert result.loc[0, "_error"]
    assert pd.isna(result.loc[0, "answer"])


def test_a_model_that_is_down_is_found_out_once_and_another_answers(
    make_router: MakeRouter, requests: list[Any]
) -> None:
    router = make_router(mid=["o/status-503", "o/ok"])
    result = router.map([str(n) for n in range(100)], "Repeat {{x}}", concurrency=4)
    assert set(result["_status"]) == {"ok"}
    assert sum(body["model"] == "status-503" for _, _, body in requests) <= 8


def test_a_run_gives_up_where_everything_fails(make_router: MakeRouter, requests: list[Any]) -> None:
    result = make_router(mid=["o/status-401"]).map([str(n) for n in range(500)], "Repeat {{x}}", concurrency=4)
    assert set(result["_status"]) == {"error", "not sent"}
    assert (result["_status"] == "error").sum() < 40
    assert len(requests) < 40
    assert result["_error"].str.contains("20 failures in a row|Incorrect API key").all()


# --- nothing paid is asked twice ---


def test_the_same_call_again_asks_only_what_is_missing(
    make_router: MakeRouter, server: FaultServer, requests: list[Any]
) -> None:
    healthy = [False]

    def sometimes(body: dict[str, Any]) -> Reply:
        if body["messages"][-1]["content"].endswith("3") and not healthy[0]:
            return Reply({"error": {"message": "not now"}}, 400)
        return Reply(chat("fine"))

    server.replies["m"] = sometimes
    router = make_router(mid=["o/m"])
    first = router.map(list("1234"), "Repeat {{x}}")
    assert list(first["_status"]) == ["ok", "ok", "error", "ok"]
    assert list(router.runs()["status"]) == ["incomplete"]
    requests.clear()
    healthy[0] = True
    second = first.retry()
    assert texts(requests) == ["Repeat 3"]
    assert list(second["_status"]) == ["ok"] * 4
    assert list(second["_cached"]) == [True, True, False, True]
    requests.clear()
    grown = router.map(list("12345"), "Repeat {{x}}")
    assert texts(requests) == ["Repeat 5"]
    assert set(grown["_status"]) == {"ok"}
    assert len(router.runs()) == 1  # the data may grow: it is the same run
    assert list(router.runs()["status"]) == ["done"]
    assert router.runs()["cost"].sum() == pytest.approx(float(router.log()["cost"].sum()))


def test_answers_of_a_run_outlive_the_cache_until_it_is_dropped(
    make_router: MakeRouter, server: FaultServer, requests: list[Any]
) -> None:
    server.replies["m"] = lambda body: Reply(chat("long " * 400))
    router = make_router(mid=["o/m"], cache={"max_mb": 0.01})  # room for four of these answers
    run = router.map([str(n) for n in range(10)], "Repeat {{x}}").run
    for n in range(10):
        router.route(f"Tell me more of {n}")
    requests.clear()
    assert router.map([str(n) for n in range(10)], "Repeat {{x}}")["_cached"].all()
    assert requests == []
    router.drop_run(run)
    for n in range(10):
        router.route(f"Tell me something else of {n}")
    assert not router.map([str(n) for n in range(10)], "Repeat {{x}}")["_cached"].all()
    router.drop_run(run)
    with pytest.raises(UsageError, match="There is no run"):
        router.drop_run(run)


_KILLED = """
import os, sys, threading, time
from ipyrouter.router import Router
from ipyrouter.types import Candidate
router = Router({settings!r}, home={home!r})
threading.Thread(target=lambda: (time.sleep(float({after!r})), os.kill(os.getpid(), 9)), daemon=True).start()
router.map([str(n) for n in range(400)], "Repeat {{{{x}}}}", concurrency=8)
"""


@pytest.mark.kernel
@pytest.mark.parametrize("after", [0.8, 1.5])
def test_kill_9_costs_only_the_calls_in_flight(
    server: FaultServer, requests: list[Any], tmp_path: Path, after: float
) -> None:
    from tests.conftest import server_config

    server.delay = 0.02
    settings = server_config(server)
    home = str(tmp_path / "killed")
    with pytest.raises(AssertionError):
        run_python(_KILLED.format(settings=settings, home=home, after=after))
    router = Router(settings, home=home)
    result = router.map([str(n) for n in range(400)], "Repeat {{x}}", concurrency=8)
    router.close()
    server.delay = 0.0
    assert set(result["_status"]) == {"ok"}
    prompts = texts(requests)
    assert len(prompts) - len(set(prompts)) <= 8


# --- stopping ---


def test_ctrl_c_returns_what_is_there(make_router: MakeRouter, server: FaultServer, requests: list[Any]) -> None:
    server.delay = 0.05
    router = make_router(mid=[echo(server)])
    interrupted: list[int] = []

    def progress(state: Any) -> None:
        if state.done >= 4 and not interrupted:
            interrupted.append(state.done)
            signal.raise_signal(signal.SIGINT)

    result = router.map([str(n) for n in range(2000)], "Repeat {{x}}", concurrency=4, progress=progress)
    server.delay = 0.0
    statuses = result["_status"].value_counts()
    assert statuses["ok"] >= 4
    assert statuses["not sent"] > 1000
    unsent = result[result["_status"] == "not sent"]
    assert set(unsent["_error"]) == {"stopped by the user"}
    assert statuses["ok"] == (router.log()["status"] == "ok").sum()
    requests.clear()
    rest = router.map([str(n) for n in range(20)], "Repeat {{x}}")
    assert set(rest["_status"]) == {"ok"}


def test_progress_is_told_until_the_end(make_router: MakeRouter) -> None:
    states: list[tuple[int, bool]] = []
    make_router().map(["a", "b"], "Repeat {{x}}", progress=lambda state: states.append((state.done, state.finished)))
    assert states[-1] == (2, True)


# --- what goes out ---


def test_nothing_is_streamed_and_options_go_out(make_router: MakeRouter, requests: list[Any]) -> None:
    router = make_router()
    result = router.map(
        ["a"], "Repeat {{x}} in {{tongue}}", variables={"tongue": "Dutch"}, system="Be kind.", tier="fast"
    )
    (_, _, body) = requests[0]
    assert "stream" not in body
    assert body["messages"][0] == {"role": "system", "content": "Be kind."}
    assert body["messages"][-1]["content"] == "Repeat a in Dutch"
    assert result.loc[0, "_tier"] == "fast"
    # The same prompt in a cell finds the answer in the cache.
    assert router.route("Repeat a in Dutch", system="Be kind.", tier="fast").cached


def test_the_public_function(make_router: MakeRouter) -> None:
    ipyrouter.use_router(make_router())
    assert set(ipyrouter.map(["a", "b"], "Repeat {{x}}")["_status"]) == {"ok"}
    assert ipyrouter.map(["a", "b"], "Repeat {{x}}", dry_run=True).cached == 2
    ipyrouter.use_router(None)


def test_braces_that_are_no_names_stay(make_router: MakeRouter, requests: list[Any]) -> None:
    make_router().map(["a"], 'As {"k": {"v": 1}}: {{ x }}')
    assert texts(requests) == ['As {"k": {"v": 1}}: a']


def test_without_content_no_prompt_is_kept(make_router: MakeRouter) -> None:
    router = make_router(log={"content": False})
    router.map(["a"], "Repeat {{x}}")
    assert router.runs()["prompt"].isna().all()
    assert json.dumps(router.runs().astype(str).to_dict()).count("Repeat") == 0


# --- answers that may wait ---


def test_flex_goes_out_and_is_priced(
    make_router: MakeRouter, server: FaultServer, requests: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prices of genai-prices know flex; here its OpenAI provider is the loopback server's."""
    from ipyrouter.pricing import prices

    known = prices._look_up("https://api.openai.com/v1", "gpt-5.4")
    monkeypatch.setattr(prices, "_look_up", lambda address, model: known)
    server.replies["gpt-5.4"] = Reply({**chat("ok"), "model": "gpt-5.4", "service_tier": "flex"})
    router = make_router(**{tier: ["o/gpt-5.4"] for tier in ("fast", "mid", "power")}, prices={})
    plan = router.map(["a"], "Repeat {{x}}", dry_run=True)
    assert plan.cost_flex == plan.cost_batch == plan.cost_likely / 2
    assert "with flex (slower)" in str(plan)
    router.map(["a"], "Repeat {{x}}", delivery="flex")
    assert [body["service_tier"] for _, _, body in requests] == ["flex"]
    row = router.log().iloc[0]
    full = router.pricing.at(Candidate("o", "gpt-5.4"), 120, 30)
    assert full is not None
    assert row["cost"] == pytest.approx(float(full / 2), rel=0.05)
    assert "flex" in row["price_id"]
    assert router.map(["a"], "Repeat {{x}}")["_cached"].all()  # it is the same answer


def test_what_has_no_flex_is_not_sent_at_the_full_price(make_router: MakeRouter, requests: list[Any]) -> None:
    result = make_router(mid=["a/claude-haiku-5-5"]).map(["a"], "Repeat {{x}}", delivery="flex")
    assert "a/claude-haiku-5-5 has no flex processing" in result["_error"][0]
    assert requests == []


def test_no_fallback_of_flex_is_at_the_full_price(
    make_router: MakeRouter, server: FaultServer, requests: list[Any]
) -> None:
    server.replies["m"] = Reply({"error": {"message": "overloaded"}}, 503)
    router = make_router(mid=["o/m", "a/claude-haiku-5-5"])
    result = router.map(["a"], "Repeat {{x}}", delivery="flex")
    assert list(result["_status"]) == ["error"]
    assert "overloaded" in result["_error"][0]
    assert {body["model"] for _, _, body in requests} == {"m"}
    assert "has no flex processing" in router.log(model="claude-haiku-5-5")["error"].iloc[0]
    assert not router.log()["cost"].sum()


def test_no_higher_tier_of_flex_is_at_the_full_price(
    make_router: MakeRouter, server: FaultServer, requests: list[Any]
) -> None:
    server.replies["m"] = Reply(chat("Yes."))
    router = make_router(fast=["o/m"], mid=["a/claude-haiku-5-5"])
    result = router.map(["a " * 40], "Say it in full: {{x}}", tier="fast", delivery="flex")
    assert list(result["_status"]) == ["weak"]
    assert {body["model"] for _, _, body in requests} == {"m"}


def test_a_model_that_refuses_flex_is_an_error_of_its_row(make_router: MakeRouter, server: FaultServer) -> None:
    error = {"message": "Invalid service_tier argument", "param": "service_tier", "type": "invalid_request_error"}
    server.replies["m"] = Reply({"error": error}, 400)
    result = make_router(mid=["o/m"]).map(["a"], "Repeat {{x}}", delivery="flex")
    assert list(result["_status"]) == ["error"]
    assert "Invalid service_tier" in result["_error"][0]
