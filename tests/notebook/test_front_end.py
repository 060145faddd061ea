"""What a kernel answers to the JupyterLab extension, and that it says nothing to anybody else."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from ipyrouter.notebook.front_end import FrontEnd
from ipyrouter.router import Router
from ipyrouter.text.amounts import dollars
from tests.faults.server import FaultServer
from tests.notebook.kernels import Kernel, kernel
from tests.notebook.test_kernel import mid_chain

CODE = "Here it is:\n```python\nprint('hello')\n```"


class Extension:
    """The other end of the comm: sends questions and keeps what comes."""

    def __init__(self, router: Router) -> None:
        self.messages: list[dict[str, Any]] = []
        self.front_end = FrontEnd(lambda: router, self.messages.append)

    def ask(self, ask: str, **arguments: str) -> dict[str, Any]:
        """Return the reply to a question."""
        self.front_end.receive({"ask": ask, "number": "7", **arguments})
        reply = self.messages.pop()
        assert reply.pop("number") == "7"
        return reply


@pytest.fixture
def router(make_router: Callable[..., Router]) -> Router:
    return make_router(budget={"day": 5})


@pytest.fixture
def extension(router: Router) -> Extension:
    return Extension(router)


def test_the_state_has_the_figures_of_today(extension: Extension, router: Router) -> None:
    nothing = extension.ask("state")["result"]
    assert (nothing["spent"], nothing["left"], nothing["failed"]) == ("$0", "$5.00", None)
    answer = router.route("How long is the coast of Norway?")
    extension.front_end.end_cell(None)
    state = extension.messages[-1]["state"]
    assert state["spent"] == dollars(answer.cost)
    assert state["left"] == dollars(Decimal(5) - (answer.cost or 0))
    assert "calls: 1" in state["details"]


def test_a_state_is_that_of_the_router_in_use(make_router: Callable[..., Router]) -> None:
    routers = [make_router(budget={"day": 5}), make_router(budget={"day": 7})]
    messages: list[dict[str, Any]] = []
    front_end = FrontEnd(lambda: routers[0], messages.append)
    front_end.receive({"ask": "state", "number": "1"})
    front_end.end_cell(None)
    assert len(messages) == 1  # nothing has changed
    del routers[0]  # as use_router() does
    front_end.end_cell(None)
    assert messages[-1]["state"]["left"] == "$7.00"
    answer = routers[0].route("What is it now?")
    front_end.end_cell(None)
    assert messages[-1]["state"]["spent"] == dollars(answer.cost)


def test_a_state_follows_what_came_between(extension: Extension, router: Router) -> None:
    extension.ask("state")
    costs = [router.route(f"Question {number}?").cost for number in range(3)]
    extension.front_end.end_cell(None)
    assert extension.messages[-1]["state"]["spent"] == dollars(sum(filter(None, costs), Decimal(0)))
    sent = len(extension.messages)
    extension.front_end.end_cell(None)
    assert len(extension.messages) == sent  # nothing is said of a cell that changed nothing


def test_the_last_failed_cell_is_known(extension: Extension) -> None:
    extension.ask("state")
    extension.front_end.end_cell("cell-1")
    assert extension.messages[-1]["state"]["failed"] == "cell-1"
    extension.front_end.end_cell(None)  # a cell that went well: --error still sends that error
    assert extension.ask("state")["result"]["failed"] == "cell-1"


def test_text_and_code_are_those_of_the_answer(make_router: Callable[..., Router]) -> None:
    router = make_router()
    extension = Extension(router)
    extension.ask("state")
    answer = router.route(CODE, model="o/echo")
    assert extension.ask("text", id=answer.id) == {"result": CODE}
    assert extension.ask("code", id=answer.id) == {"result": "print('hello')"}
    prose = router.route("Why?")
    assert "no code" in extension.ask("code", id=prose.id)["error"]
    assert "has not given that answer" in extension.ask("text", id="other")["error"]


def test_a_verdict_is_logged(extension: Extension, router: Router) -> None:
    answer = router.route("Why?")
    assert extension.ask("feedback", id=answer.id, verdict="bad") == {"result": "Noted: bad."}
    assert list(router.log()["feedback"]) == ["bad"]
    assert "not in the log" in extension.ask("feedback", id="other", verdict="good")["error"]
    assert "Unknown verdict" in extension.ask("feedback", id=answer.id, verdict="so so")["error"]
    assert "Unknown request" in extension.ask("run")["error"]


def test_it_ends(extension: Extension, router: Router) -> None:
    extension.ask("state")
    assert len(router.listeners) == 1
    extension.front_end.close()
    assert router.listeners == []


def comms(running: Kernel) -> list[str]:
    """Return the kernel's comms for the extension, as it asks for them."""
    message = running.client.session.msg("comm_info_request", {"target_name": "ipyrouter"})
    running.client.shell_channel.send(message)
    while True:
        reply = running.client.get_shell_msg(timeout=120)
        if reply["parent_header"].get("msg_id") == message["header"]["msg_id"]:
            return list(reply["content"]["comms"])


def ask(running: Kernel, comm: str, **data: str) -> dict[str, Any]:
    """Send a question to the kernel, and return its reply."""
    number = uuid.uuid4().hex
    content = {"comm_id": comm, "data": {**data, "number": number}}
    running.client.shell_channel.send(running.client.session.msg("comm_msg", content))
    while True:
        message = running.client.get_iopub_msg(timeout=120)
        if message["msg_type"] == "comm_msg" and message["content"]["data"].get("number") == number:
            return dict(message["content"]["data"])


def messages_of(running: Kernel, code: str) -> list[str]:
    """Return the kinds of messages that a cell sends to all front ends."""
    request = running.send(code, cell="cell-1")
    kinds = []
    while True:
        message = running.client.get_iopub_msg(timeout=120)
        if message["parent_header"].get("msg_id") == request:
            kinds.append(message["msg_type"])
            if message["msg_type"] == "status" and message["content"]["execution_state"] == "idle":
                return kinds


def test_a_kernel_is_silent_until_it_is_asked(home: Path, server: FaultServer) -> None:
    mid_chain(home, server, '["o/ok"]')
    with kernel() as running:
        assert comms(running) == []
        assert "comm_open" not in messages_of(running, "%load_ext ipyrouter")
        (comm,) = comms(running)
        assert not [kind for kind in messages_of(running, "%route -t mid -q Hello?") if kind.startswith("comm")]
        state = ask(running, comm, ask="state")["result"]
        assert state["spent"].startswith(("$0.", "unknown"))
        assert state["left"] is None
        assert "comm_msg" in messages_of(running, "1 / 0")
        assert ask(running, comm, ask="state")["result"]["failed"] == "cell-1"
        assert "comm_close" in messages_of(running, "%unload_ext ipyrouter")
        assert comms(running) == []
        assert running.run("%load_ext ipyrouter").status == "ok"
        assert len(comms(running)) == 1


def test_asking_for_the_state_creates_no_file(home: Path) -> None:
    with kernel() as running:
        running.run("%load_ext ipyrouter")
        (comm,) = comms(running)
        assert ask(running, comm, ask="state")["result"]["spent"] == "$0"
    assert not home.exists()


def test_errors_show_no_key(router: Router, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-0123456789abcdefghij")
    replies: list[dict[str, Any]] = []

    def broken() -> Router:
        raise RuntimeError("the server said: sk-0123456789abcdefghij is not valid")

    FrontEnd(broken, replies.append).receive({"ask": "state", "number": "1"})
    assert replies[0]["error"].startswith("RuntimeError: the server said: ")
    assert "0123456789" not in replies[0]["error"]


def test_another_router_is_listened_to_alone(make_router: Callable[..., Router]) -> None:
    routers = [make_router(), make_router()]
    front_end = FrontEnd(lambda: routers[0], lambda _: None)
    front_end.receive({"ask": "state"})
    assert len(routers[0].listeners) == 1
    old = routers.pop(0)
    front_end.receive({"ask": "state"})
    assert old.listeners == []
    assert len(routers[0].listeners) == 1
