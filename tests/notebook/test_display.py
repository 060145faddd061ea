"""Who shows the outputs: clients that know display updates, and those that do not."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pexpect
import pytest

from tests.faults.server import TEXT, FaultServer
from tests.notebook.kernels import kernel
from tests.notebook.test_kernel import mid_chain

LONG_WAIT = "[deadlines]\nfirst_byte = 60\nidle = 60\n"


def test_a_notebook_updates_one_display(home: Path, server: FaultServer) -> None:
    mid_chain(home, server, '["o/ok"]')
    with kernel() as running:
        running.run("%load_ext ipyrouter")
        reply = running.run("%%route --no-cache\nExplain closures")
        assert len(reply.displays) == 1
        assert reply.updates >= 1
        assert reply.out == ""
        assert TEXT in reply.markdown


def test_a_console_is_sent_no_update(home: Path, server: FaultServer) -> None:
    """It would show the first display, "routing …", for ever."""
    mid_chain(home, server, '["o/ok"]')
    with kernel() as running:
        running.run("%load_ext ipyrouter", cell=None)
        reply = running.run("%%route\nExplain closures", cell=None)
        assert (reply.status, reply.updates, reply.others, reply.results) == ("ok", 0, [], [])
        assert _screen(reply.out) == TEXT + "\n"
        (output,) = reply.displays
        assert re.fullmatch(r"o/ok · .* · mid · .* tokens, 5 of them thinking · .*", output["data"]["text/plain"])
        assert TEXT in output["data"]["text/markdown"]  # for one that shows Markdown
        assert output["metadata"]["ipyrouter"]["model"] == "ok"

        cached = running.run("%%route\nExplain closures", cell=None)  # nothing to stream
        assert cached.text.count(TEXT) == 1
        assert "cached" in cached.text
        data = running.run('%%route -m o/echo -f json\n{"a": 1}', cell=None)
        assert data.text.count('"a": 1') == 1
        assert running.run("_", cell=None).results[0]["data"]["text/plain"] == "{'a': 1}"
        running.run("answer = %route -q Explain closures", cell=None)
        again = running.run("answer", cell=None)
        assert (again.text.count(TEXT), again.updates) == (1, 0)
        half = running.run("%%route -m o/stream-reset\nHello?", cell=None)
        assert TEXT[:12] in half.text
        panel = running.run("%router panel", cell=None)
        assert panel.displays == []
        assert "calls: " in panel.out
        failed = running.run("%%route -m o/status-401\nHello?", cell=None)
        assert (failed.displays, _screen(failed.out)) == ([], "")
        assert "RouteError" in failed.error
        for text in (reply.text, cached.text, data.text, failed.text):
            assert "routing …" not in text


def test_a_console_streams(home: Path, server: FaultServer) -> None:
    mid_chain(home, server, '["o/stream-held"]')
    server.release.clear()
    with kernel() as running:
        running.run("%load_ext ipyrouter", cell=None)
        message = running.send("%%route\nExplain closures", cell=None)
        half = running.collect(message, until=TEXT[:12])
        assert TEXT not in half.out
        server.release.set()
        assert _screen(running.collect(message).out) == TEXT + "\n"


def test_who_runs_notebooks_gets_the_answer_at_once(home: Path, server: FaultServer) -> None:
    """nbclient, papermill and Voilà cannot be asked for input; nobody looks on, and not all of them know updates."""
    mid_chain(home, server, '["o/ok"]')
    with kernel() as running:
        running.run("%load_ext ipyrouter")
        for cell in ("", None):
            reply = running.collect(running.send("%%route --no-cache\nExplain closures", cell=cell, stdin=False))
            assert (len(reply.displays), reply.updates, reply.out) == (1, 0, "")
            assert TEXT in reply.markdown
            assert reply.displays[0]["metadata"]["ipyrouter"]["model"] == "ok"
        failed = running.collect(running.send("%%route -m o/stream-reset\nHello?", stdin=False))
        assert "failed" in failed.markdown
        assert TEXT[:12] in failed.markdown


def test_what_is_captured_is_the_answer_alone(home: Path, server: FaultServer) -> None:
    mid_chain(home, server, '["o/ok"]')
    with kernel() as running:
        running.run("%load_ext ipyrouter")
        for cell in ("", None):
            code = "%%capture got\n%%route --no-cache\nExplain closures"
            assert running.run(code, cell=cell).text.strip() == ""
            assert TEXT in running.run("print(_.text)", cell=cell).out
            assert running.run("len(got.outputs), got.stdout", cell=cell).results[0]["data"]["text/plain"] == "(1, '')"
            assert TEXT in running.run("got.show()", cell=cell).text


def test_an_output_widget_gets_no_update(home: Path, server: FaultServer) -> None:
    mid_chain(home, server, '["o/ok"]')
    with kernel() as running:
        running.run("%load_ext ipyrouter\nimport ipywidgets\nout = ipywidgets.Output()")
        inside = running.run("with out:\n    %route --no-cache -t mid Explain closures")
        assert (len(inside.displays), inside.updates) == (1, 0)
        assert TEXT in inside.markdown
        outside = running.run("%route --no-cache -t mid Explain closures")
        assert outside.updates >= 1


THREADS_LEFT = """
import threading
waiting = [thread for thread in threading.enumerate() if thread.name == "ipyrouter-waiting"]
for thread in waiting:
    thread.join(60)
print([thread for thread in waiting if thread.is_alive()])
"""


@pytest.mark.parametrize("cell", ["", None], ids=["notebook", "console"])
def test_while_waiting_the_model_and_the_seconds_are_shown(home: Path, server: FaultServer, cell: str | None) -> None:
    mid_chain(home, server, '["o/status-503", "o/hang"]')
    with (home / "config.toml").open("a") as config:
        config.write(LONG_WAIT)
    with kernel() as running:
        running.run("%load_ext ipyrouter", cell=cell)
        message = running.send("%%route\nExplain closures", cell=cell)
        waiting = running.collect(message, until="o/hang · waiting 2 s")
        assert waiting.updates <= 20  # about one a second, however slow the machine
        running.manager.interrupt_kernel()
        stopped = running.collect(message)
        assert stopped.status == "error"
        assert "stopped" in stopped.text
        assert "waiting" not in (stopped.markdown if cell == "" else _screen(stopped.out))
        assert running.run(THREADS_LEFT).out == "[]\n"


def test_no_wait_is_shown_after_the_first_text(home: Path, server: FaultServer) -> None:
    mid_chain(home, server, '["o/stream-held"]')
    server.release.clear()
    with kernel() as running:
        running.run("%load_ext ipyrouter")
        message = running.send("%%route\nExplain closures")
        running.collect(message, until=TEXT[:12])
        server.release.set()
        done = running.collect(message)
        assert "waiting" not in done.markdown
        assert TEXT in done.markdown


def _screen(out: str) -> str:
    """Return what a terminal shows in the end of text with carriage returns."""
    lines = []
    for line in out.split("\n"):
        screen = ""
        for part in line.split("\r"):
            screen = part + screen[len(part) :]
        lines.append(screen.rstrip())
    return "\n".join(lines)


# --- a real jupyter console ---


def close(console: Any) -> None:
    """End the console, which a busy machine needs more than pexpect's tenth of a second for."""
    console.ptyproc.delayafterterminate = 2
    console.close(force=True)


def test_a_real_jupyter_console(home: Path, server: FaultServer) -> None:
    mid_chain(home, server, '["o/ok"]')
    command = ["-m", "jupyter_console", "--simple-prompt", "--ZMQTerminalInteractiveShell.kernel_timeout=120"]
    console: Any = pexpect.spawn(sys.executable, command, encoding="utf-8", timeout=120, dimensions=(50, 200))
    try:
        console.expect(r"In \[1\]: ")
        console.sendline("%load_ext ipyrouter")
        console.expect(r"In \[2\]: ")
        console.sendline("%route -t mid --no-cache Explain closures")
        console.expect(r"In \[3\]: ")
        assert console.before.count(TEXT) == 1
        assert re.search(r"o/ok · .* · mid · .*tokens", console.before)
        assert "routing …" not in console.before
        console.sendline("answer = %route -t mid -m o/status-401 Hello?")
        console.expect("RouteError: o/status-401: 401")
        console.expect(r"In \[4\]: ")
        console.sendline("print(_.cost, 'dollars')")
        console.expect(r"[\d.]+ dollars|price unknown|None dollars")
    finally:
        close(console)


def test_ctrl_c_in_a_real_jupyter_console_keeps_what_had_come(home: Path, server: FaultServer) -> None:
    mid_chain(home, server, '["o/stream-held"]')
    server.release.clear()
    command = ["-m", "jupyter_console", "--simple-prompt", "--ZMQTerminalInteractiveShell.kernel_timeout=120"]
    console: Any = pexpect.spawn(sys.executable, command, encoding="utf-8", timeout=120, dimensions=(50, 200))
    try:
        console.expect(r"In \[1\]: ")
        console.sendline("%load_ext ipyrouter")
        console.expect(r"In \[2\]: ")
        console.sendline("%route -t mid --no-cache Explain closures")
        console.expect(TEXT[:12])
        console.sendintr()
        console.expect("Interrupted: Stopped. What had arrived is shown and logged.")
        console.expect(r"In \[3\]: ")
        console.sendline("import ipyrouter; print([*ipyrouter.cost_log()[['status', 'text']].iloc[-1]])")
        console.expect(r"\['interrupted', '" + TEXT[:12])
    finally:
        server.release.set()
        close(console)
