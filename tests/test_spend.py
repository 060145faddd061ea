"""What may have been spent is never logged as nothing, and what took time is the call, not its set-up."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ipyrouter.errors import Interrupted, RouteError
from ipyrouter.notebook import rendering
from ipyrouter.router import Router
from tests.conftest import run_python
from tests.faults.server import STATUS, TEXT, FaultServer

MakeRouter = Callable[..., Router]
SOON = {"connect": 1, "first_byte": 0.5, "idle": 0.5, "total": 1}
PATIENT = {"connect": 20, "first_byte": 20, "idle": 20, "total": 20}
# Faults of a server that has got the whole request and gives no sign of what it did with it: (streaming, whole).
SILENT = {
    "hang": (True, True),
    "stream-silent": (True, False),
    "reset": (True, True),
    "malformed": (False, True),
    "html": (True, True),
}
CASES = [
    pytest.param(behaviour, stream, id=f"{behaviour}-{'stream' if stream else 'whole'}")
    for behaviour, kinds in SILENT.items()
    for stream, there in zip((True, False), kinds, strict=True)
    if there
]


@pytest.mark.parametrize(("behaviour", "stream"), CASES)
@pytest.mark.parametrize("provider", ["o", "a"])
def test_what_a_silent_server_may_bill_is_an_estimate(
    make_router: MakeRouter, provider: str, behaviour: str, stream: bool
) -> None:
    router = make_router(mid=[f"{provider}/{behaviour}"], stream=stream, deadlines=SOON, budget={"day": 1.0})
    with pytest.raises(RouteError, match=r"\(its input may be billed\)"):
        router.route("Explain closures")
    answer, log = router.last, router.log()
    assert answer is not None
    costs = [attempt.cost.amount for attempt in answer.attempts]  # one or, after a pause, two
    assert all(cost is not None and cost > 0 for cost in costs)
    assert "about $" in rendering.badge_text(answer)
    assert set(log["status"]) == {"error"}
    assert list(log["cost_pico"]) == [int(cost * 10**12) for cost in costs if cost is not None]
    assert log["estimated"].all()
    assert (log["input_tokens"] > 0).all()
    assert (log["output_tokens"] == 0).all()
    assert router.guard().left()["today"] == 1 - sum(cost for cost in costs if cost is not None)  # the budget counts it


def test_what_a_silent_server_may_bill_is_unknown_without_a_price(make_router: MakeRouter) -> None:
    router = make_router(mid=["o/reset", "o/ok"], deadlines=PATIENT, prices={"o/ok": {"input": 1, "output": 10}})
    answer = router.route("Explain closures")
    assert answer.attempts[0].cost.amount is None
    assert answer.cost is None
    assert "at least $0.00042, 1 call unpriced" in rendering.badge_text(answer)
    assert router.log()["cost_pico"].isna().tolist() == [True, False]
    assert router.report().spent == "at least $0.00042, 1 call unpriced"


@pytest.mark.parametrize("behaviour", STATUS)
@pytest.mark.parametrize("provider", ["o", "a"])
def test_a_refusal_of_the_server_costs_nothing(make_router: MakeRouter, provider: str, behaviour: str) -> None:
    router = make_router(mid=[f"{provider}/{behaviour}", "o/ok"], deadlines=PATIENT)
    with contextlib.suppress(RouteError):
        router.route("Explain closures")
    row = router.log().iloc[0]
    assert row["status"] == "error"
    assert (row["cost_pico"], row["input_tokens"], row["estimated"]) == (0, 0, False)
    assert "may be billed" not in row["error"]


@pytest.mark.wire
@pytest.mark.parametrize("url", ["http://127.0.0.1:1/v1", "http://nowhere.invalid/v1"], ids=["refused", "dns"])
def test_what_never_arrived_costs_nothing(url: str) -> None:
    price = {"x/m": {"input": 1, "output": 10}}
    chains = {tier: {"chain": ["x/m"]} for tier in ("fast", "mid", "power")}
    router = Router(
        {
            "providers": {"x": {"sdk": "openai", "base_url": url}},
            "tiers": chains,
            "prices": price,
            "deadlines": SOON,
        }
    )
    with pytest.raises(RouteError):
        router.route("Explain closures")
    log = router.log()
    assert set(log["cost_pico"]) == {0}
    assert not log["estimated"].any()
    router.close()


@pytest.fixture
def deaf() -> Iterator[str]:
    """The address of a server that takes connections, reads what comes and never answers."""
    listener = socket.create_server(("127.0.0.1", 0))
    connections: list[socket.socket] = []

    def take() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            connections.append(connection)

    thread = threading.Thread(target=take, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join()
    for connection in connections:
        connection.close()


@pytest.mark.wire
def test_a_proxy_that_makes_no_tunnel_has_got_no_request(deaf: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it was sent is a CONNECT without a prompt."""
    monkeypatch.setenv("HTTPS_PROXY", deaf)
    router = Router(
        {
            "providers": {"far": {"sdk": "openai", "base_url": "https://nowhere.invalid/v1"}},
            "prices": {"far/m": {"input": 1, "output": 10}},
            "deadlines": SOON,
        }
    )
    with pytest.raises(RouteError) as caught:
        router.route("Explain closures", model="far/m")
    assert caught.value.attempts[0].cost.amount == 0
    assert not caught.value.attempts[0].usage.estimated
    router.close()


@pytest.mark.parametrize("provider", ["o", "a"])
def test_an_interrupt_before_the_first_byte_is_an_estimate(
    make_router: MakeRouter, requests: list[Any], provider: str
) -> None:
    router = make_router(mid=[f"{provider}/hang"], deadlines={"first_byte": 25, "total": 25}, budget={"day": 1.0})

    def stop() -> None:
        while not requests:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=stop, daemon=True).start()
    with pytest.raises(Interrupted) as caught:
        router.route("Explain closures")
    (attempt,) = caught.value.answer.attempts
    assert attempt.status == "interrupted"
    assert attempt.cost.amount
    assert attempt.usage.estimated
    assert "about $" in rendering.badge_text(caught.value.answer)
    assert router.guard().left()["today"] == 1 - attempt.cost.amount


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
@pytest.mark.parametrize("provider", ["o", "a"])
def test_an_interrupt_between_the_last_byte_and_our_note_of_it_is_charged(
    make_router: MakeRouter, requests: list[Any], provider: str, stream: bool
) -> None:
    sends = 0  # of our sockets; the call's last one is left by a Ctrl-C as soon as the system has the bytes
    last: int | None = None

    def watch(_: Any, event: str, function: Any) -> None:
        nonlocal sends
        if event == "c_return" and function.__name__ in ("send", "sendall") and "socket" in repr(function):
            sends += 1
            if sends == last:
                raise KeyboardInterrupt

    def ask(model: str, prompt: str) -> Router:
        nonlocal sends
        sends = 0
        router = make_router(mid=[f"{provider}/{model}"], stream=stream, deadlines=PATIENT)
        router.classify(prompt)
        sys.setprofile(watch)
        try:
            router.route(prompt)
        finally:
            sys.setprofile(None)
        return router

    ask("ok", "Explain closures")
    assert sends >= 2
    last = sends
    with pytest.raises(Interrupted) as caught:
        ask("hang", "Explain closures")
    assert sends == last
    (attempt,) = caught.value.answer.attempts
    assert attempt.status == "interrupted"
    assert (bool(attempt.cost.amount), attempt.usage.estimated) == (True, True)


def test_an_interrupt_before_the_request_has_left_costs_nothing(
    make_router: MakeRouter, requests: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from ipyrouter.providers.openai import OpenAIBackend

    def stop(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(OpenAIBackend, "__init__", stop)  # as if it were pressed while the client is set up
    with pytest.raises(Interrupted) as caught:
        make_router().route("Explain closures")
    assert caught.value.answer.attempts[0].cost.amount == 0
    assert not requests


# --- latency ---

FIRST_CALL = """
import builtins, sys, time
from tests.conftest import server_config
class Server: url = {url!r}
until, real = {{}}, builtins.__import__
def noting(name, globals=None, *rest, **more):
    module = real(name, globals, *rest, **more)
    until[(globals or {{}}).get("__name__"), name] = time.monotonic()
    return module
builtins.__import__ = noting
from ipyrouter.router import Router
settings = server_config(Server, mid=["{provider}/ok"], budget={{"day": 1.0}}, routing={{"mode": "learned"}})
answer = Router(settings).route("Explain closures", tier="mid", cache="{cache}")
builtins.__import__ = real
now = time.monotonic()
ready = until[{importer!r}, {imported!r}]
(attempt,) = answer.attempts
assert attempt.latency <= now - ready, (attempt.latency, now - ready)
assert answer.latency == attempt.latency
assert answer.cached == ({cache!r} == "use")
"""


@pytest.mark.parametrize(("provider", "sdk"), [("o", "openai"), ("a", "anthropic")])
def test_the_first_call_is_no_slower_for_the_import_of_the_sdk(server: FaultServer, provider: str, sdk: str) -> None:
    importer = f"ipyrouter.providers.{sdk}"
    run_python(FIRST_CALL.format(url=server.url, provider=provider, cache="off", importer=importer, imported=sdk))


def test_a_cached_answer_is_no_slower_for_the_classifiers_numpy(make_router: MakeRouter, server: FaultServer) -> None:
    make_router(budget={"day": 1.0}).route("Explain closures", tier="mid")
    importer = "ipyrouter.classifier.model"
    run_python(FIRST_CALL.format(url=server.url, provider="o", cache="use", importer=importer, imported="numpy"))


def test_an_answers_latency_is_that_of_its_calls(make_router: MakeRouter) -> None:
    router = make_router(fast=["o/short"], mid=["o/status-503", "a/ok"])
    answer = router.route("what is a list " + "x " * 40)
    assert answer.text == TEXT
    assert len(answer.attempts) == 3
    assert all(attempt.latency > 0 for attempt in answer.attempts)
    assert answer.latency == sum(attempt.latency for attempt in answer.attempts)
    assert router.report().slowest["latency"].tolist() == pytest.approx([answer.latency])
