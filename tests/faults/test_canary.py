"""A key whose every appearance is looked for: in no message, traceback, pickle, file or notebook, in no form."""

from __future__ import annotations

import base64
import json
import os
import pickle
import sys
import threading
import traceback
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
from IPython.core.ultratb import VerboseTB

from ipyrouter import cli
from ipyrouter.errors import NoModelError, RouteError
from ipyrouter.notebook import commands
from ipyrouter.notebook.commands import export
from ipyrouter.notebook.options import RouterLine
from ipyrouter.notebook.prompt.chats import Chats
from ipyrouter.router import Router
from tests.conftest import BriefPauses
from tests.faults.server import STATUS, TEXT, FaultServer, Reply, chat, claude_whole, gemini
from tests.faults.test_matrix import CASES
from tests.notebook.kernels import execute_notebook

CANARY = "sk-proj-CaN/4rY+s1ngs'0ut-L0ud=="
FORMS = (
    CANARY,
    CANARY[:8],
    CANARY[-8:],
    CANARY[9:20],
    json.dumps(CANARY)[1:-1],
    repr(CANARY)[1:-1],
    quote(CANARY, safe=""),
    quote_plus(CANARY),
    *(base64.b64encode(CANARY[start:].encode()).decode()[:12] for start in range(3)),
    *(base64.urlsafe_b64encode(CANARY[start:].encode()).decode()[:12] for start in range(3)),
)
ECHOES = {
    "raw": CANARY,
    "repr": repr(f"Bearer {CANARY}\n".encode()),
    "json": json.dumps({"authorization": f"Bearer {CANARY}"}),
    "url": f"https://x.example/?api_key={quote_plus(CANARY)}",
    "quote": quote(CANARY, safe=""),
    "lower": quote(CANARY, safe="").replace("%2F", "%2f"),
    "basic": base64.b64encode(f"user:{CANARY}".encode()).decode(),
    "basic-1": base64.b64encode(f"u:{CANARY}x".encode()).decode(),
    "basic-2": base64.urlsafe_b64encode(f"us:{CANARY}".encode()).decode(),
    "masked": f"{CANARY[:7]}**********{CANARY[-4:]}",
    "masked-dots": f"{CANARY[:6]}...{CANARY[-4:]}",
    "head": f"a key beginning with {CANARY[:12]}",
    "tail": f"a key ending in {CANARY[-10:]}.",
    "middle": f"around {CANARY[6:18]} it breaks",
    "cut": "x" * 290 + CANARY,
}
KEYS = {"plain": CANARY, "newline": f"{CANARY}\n", "crlf": f"{CANARY}\r\n", "blanks": f"  {CANARY}\t",
        "bom": f"\ufeff{CANARY}"}  # fmt: skip
SOON = {"connect": 1, "first_byte": 0.4, "idle": 0.4, "total": 0.9}
PATIENT = {"connect": 5, "first_byte": 60, "idle": 60, "total": 120}  # for a busy machine


def clean(text: str) -> None:
    for form in FORMS:
        assert form not in text, form
    for line in text.splitlines():  # what is inside a longer base64
        for piece in line.split():
            if len(piece) % 4 == 0 and len(piece) > 20 and piece.isascii():
                try:
                    raw = base64.b64decode(piece.replace("-", "+").replace("_", "/"), validate=True)
                except ValueError:
                    continue
                assert CANARY[:8].encode() not in raw


def settings(
    server: FaultServer, sdk: str, model: str, *, stream: bool, deadlines: dict[str, float] = PATIENT
) -> dict[str, Any]:
    base = f"{server.url}/v1" if sdk == "openai" else server.url
    provider = {"sdk": sdk, "base_url": base, "key": "CANARY_LOGIN", "stream": stream}
    chain = {"chain": [f"c/{model}"]}
    return {
        "providers": {"c": provider},
        "tiers": {"fast": chain, "mid": chain, "power": chain},
        "deadlines": deadlines,
        "prices": {f"c/{model}": {"input": 1, "output": 10}},
    }


def everything(router: Router, error: BaseException | None, home: Path) -> Iterator[str]:
    """Yield all that is shown, kept or passed on after a request."""
    if error is not None:
        yield from (str(error), repr(error), "".join(traceback.format_exception(error)))
        frames = error.__traceback__.tb_next if error.__traceback__ else None  # without the test's own
        yield VerboseTB(theme_name="nocolor").text(type(error), error, frames, context=5)
        yield str(pickle.dumps(error))
        yield repr(getattr(error, "attempts", ""))
        yield from locals_of(error)
    yield from (repr(router), repr(router.config), repr(router.last), repr(router.status()))
    yield from (str(pickle.dumps(value)) for value in (router, router.config, router.last))
    log = router.log()
    yield log.to_csv()
    for kind in ("csv", "json", "parquet"):
        export(log, home / f"export.{kind}")
    line = commands.Line(router, RouterLine(rest=""), {}, Chats(), lambda: None)
    yield commands._config(line).to_string()
    yield commands._models(line).to_string()
    router.close()
    for file in home.iterdir():
        yield file.read_bytes().decode("latin-1")


def locals_of(error: BaseException) -> Iterator[str]:
    """Yield what the frames of an error and of all its causes hold: verbose tracebacks and reports show it."""
    visited: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        link = waiting.pop()
        if link is None or id(link) in visited:
            continue
        visited.add(id(link))
        waiting += [link.__cause__, link.__context__]
        for frame, _ in traceback.walk_tb(link.__traceback__):
            if "ipyrouter" in frame.f_code.co_filename and "tests" not in frame.f_code.co_filename:
                yield from map(repr, frame.f_locals.values())


@pytest.mark.parametrize(("behaviour", "stream"), CASES)
@pytest.mark.parametrize("sdk", ["openai", "anthropic", "google"])
def test_no_fault_shows_the_key(
    server: FaultServer, home: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str],
    sdk: str, behaviour: str, stream: bool,
) -> None:  # fmt: skip
    monkeypatch.setenv("CANARY_LOGIN", f"{CANARY}\r\n")
    router = Router(settings(server, sdk, behaviour, stream=stream, deadlines=SOON), clock=BriefPauses())
    with pytest.raises(RouteError) as caught:
        router.route("Explain closures")
    for text in everything(router, caught.value, home):
        clean(text)
    clean("".join(capfd.readouterr()))


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("sdk", ["openai", "anthropic", "google"])
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
def test_a_key_with_blanks_or_line_ends_around_it_works(
    server: FaultServer, requests: list[Any], home: Path, monkeypatch: pytest.MonkeyPatch, sdk: str, key: str,
    stream: bool,
) -> None:  # fmt: skip
    monkeypatch.setenv("CANARY_LOGIN", KEYS[key])
    router = Router(settings(server, sdk, "ok", stream=stream))
    assert router.route("Explain closures").text == TEXT
    headers = {name.lower(): value for name, value in requests[0][1].items()}
    names = ("x-goog-api-key",) if sdk == "google" else ("x-api-key", "authorization")
    assert CANARY in [headers.get(name, "").removeprefix("Bearer ") for name in names]
    for text in everything(router, None, home):
        clean(text)


@pytest.mark.parametrize("echo", ECHOES)
@pytest.mark.parametrize("status", [400, 401, 429, 500])
@pytest.mark.parametrize("sdk", ["openai", "anthropic", "google"])
def test_a_server_that_echoes_the_key(
    server: FaultServer, home: Path, monkeypatch: pytest.MonkeyPatch, sdk: str, status: int, echo: str
) -> None:
    monkeypatch.setitem(STATUS, "leak", (status, {"message": f"Wrong: {ECHOES[echo]}"}, {}))
    monkeypatch.setenv("CANARY_LOGIN", CANARY)
    router = Router(settings(server, sdk, "leak", stream=False), clock=BriefPauses())
    with pytest.raises(RouteError, match="Wrong: ") as caught:
        router.route("Explain closures")
    for text in everything(router, caught.value, home):
        clean(text)
        for part in (CANARY[:7], CANARY[-4:] if "masked" in echo else CANARY[-8:]):
            assert part not in text


@pytest.mark.parametrize("echo", ECHOES)
@pytest.mark.parametrize("sdk", ["openai", "anthropic", "google"])
def test_a_model_that_thinks_of_the_key(
    server: FaultServer, requests: list[Any], monkeypatch: pytest.MonkeyPatch, sdk: str, echo: str
) -> None:
    thought = f"It is {ECHOES[echo]}."
    if sdk == "openai":
        server.replies["leak"] = Reply(chat(reasoning_content=thought))
    elif sdk == "google":
        (body,) = gemini(TEXT)
        body["candidates"][0]["content"]["parts"].insert(0, {"text": thought, "thought": True})
        server.replies["leak"] = Reply(body)
    else:
        server.replies["leak"] = Reply(claude_whole({"type": "thinking", "thinking": thought}, TEXT))
    monkeypatch.setenv("CANARY_LOGIN", CANARY)
    router = Router(settings(server, sdk, "leak", stream=False), clock=BriefPauses())
    answer = router.route("Explain closures")
    assert answer.text == TEXT
    assert answer.thinking.startswith("It is ")
    for text in (answer.thinking, *answer.notes, answer.attempts[-1].thinking):
        clean(text)
        assert CANARY[:7] not in text
    router.close()


@pytest.mark.parametrize("key", [f"{CANARY}\n{CANARY}", f"{CANARY}\x07", f"{CANARY}é", f"a\r\nx-evil: {CANARY}"])
@pytest.mark.parametrize("sdk", ["openai", "anthropic", "google"])
def test_a_key_that_cannot_be_a_header_is_refused_by_its_variable(
    server: FaultServer, requests: list[Any], home: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str], sdk: str, key: str,
) -> None:  # fmt: skip
    monkeypatch.setenv("CANARY_LOGIN", key)
    router = Router(settings(server, sdk, "ok", stream=True))
    with pytest.raises(RouteError, match="the value of CANARY_LOGIN is not a key") as caught:
        router.route("Explain closures")
    assert "\n" not in str(caught.value)
    assert not requests
    for text in everything(router, caught.value, home):
        clean(text)
    (home / "config.toml").write_text(
        f'[providers.c]\nsdk = "{sdk}"\nbase_url = "{server.url}"\nkey = "CANARY_LOGIN"\n'
    )
    assert cli.main(["doctor"]) == 1
    out = capsys.readouterr().out
    assert "WARN  provider c: the value of CANARY_LOGIN is not a key" in out
    clean(out)


@pytest.mark.parametrize("key", ["", " ", "\r\n", "\ufeff"])
def test_a_key_of_blanks_is_not_set(server: FaultServer, monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    monkeypatch.setenv("CANARY_LOGIN", key)
    with pytest.raises(NoModelError, match="CANARY_LOGIN is not set") as caught:
        Router(settings(server, "openai", "ok", stream=True)).route("Explain closures")
    assert "getpass.getpass()" in str(caught.value)
    assert "%env" not in str(caught.value)


@pytest.mark.parametrize("key", ["one", "none", "EMPTY", "x"])
def test_a_short_key_is_not_cut_out_of_words(server: FaultServer, monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    words = "none of this was told to everyone: one, EMPTY, xx"
    monkeypatch.setitem(STATUS, "leak", (400, {"message": words}, {}))
    monkeypatch.setenv("CANARY_LOGIN", key)
    with pytest.raises(RouteError, match=words):
        Router(settings(server, "openai", "leak", stream=False)).route("Explain closures")


def test_what_a_listener_or_a_display_raises_shows_no_key(
    server: FaultServer, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CANARY_LOGIN", CANARY)

    def fail(_: Any) -> None:
        raise ValueError(f"Illegal header value b'Bearer {CANARY}'")

    router = Router(settings(server, "openai", "ok", stream=True))
    router.listeners.append(fail)
    answer = router.route("Explain closures", on_delta=fail)
    assert len(answer.notes) == 2
    for text in (*answer.notes, *everything(router, None, home)):
        clean(text)


@pytest.mark.parametrize(
    "proxy", ["http://u:{}@127.0.0.1:1", "nonsense://u:{}@h", "http://u:{}@[::1", "http://u:{}@h:x"]
)
def test_a_proxys_password_is_not_shown(
    server: FaultServer, home: Path, monkeypatch: pytest.MonkeyPatch, proxy: str
) -> None:
    monkeypatch.setenv("CANARY_LOGIN", "none")
    monkeypatch.setenv("HTTP_PROXY", proxy.format(quote(CANARY, safe="")))
    monkeypatch.setenv("http_proxy", proxy.format(quote(CANARY, safe="")))
    config = settings(server, "openai", "ok", stream=True)
    config["providers"]["c"]["base_url"] = "http://far.invalid/v1"
    router = Router(config)
    with pytest.raises(RouteError) as caught:
        router.route("Explain closures")
    for text in everything(router, caught.value, home):
        clean(text)


@pytest.mark.parametrize("sdk", ["openai", "anthropic", "google"])
@pytest.mark.parametrize("model", ["ok", "status-401", "reset"])
def test_a_key_in_an_address_is_sent_and_never_shown(
    server: FaultServer, requests: list[Any], home: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str], sdk: str, model: str,
) -> None:  # fmt: skip
    monkeypatch.setenv("CANARY_LOGIN", "none")
    config = settings(server, sdk, model, stream=False)
    secret = quote(CANARY, safe="")
    host = config["providers"]["c"]["base_url"].removeprefix("http://")
    config["providers"]["c"]["base_url"] = f"http://u:{secret}@{host}?api_key={secret}&api-version=2026-01-01"
    router = Router(config)
    try:
        router.route("Explain closures")
        error = None
    except RouteError as failed:
        error = failed
    assert (error is None) == (model == "ok")
    path, headers, _ = requests[0]
    endings = {"openai": "chat/completions", "anthropic": "messages", "google": f"models/{model}:generateContent"}
    assert path.startswith(f"/v1/{endings[sdk]}?")
    assert f"api_key={secret}" in path
    assert "api-version=2026-01-01" in path
    sent = {name.lower(): value for name, value in headers.items()}["authorization"]
    assert base64.b64decode(sent.removeprefix("Basic ")).decode() == f"u:{CANARY}"
    copy = pickle.loads(pickle.dumps(router))
    for text in everything(router, error, home):
        clean(text)
    with pytest.raises(RouteError, match="pickles keep none"):
        copy.route("Explain generators")
    copy.close()


class Elsewhere(BaseHTTPRequestHandler):
    """A server that no request may reach."""

    def do_POST(self) -> None:
        self.server.reached.append(dict(self.headers.items()))  # type: ignore[attr-defined]
        self.send_response(204)
        self.end_headers()

    do_GET = do_POST

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture
def elsewhere() -> Iterator[ThreadingHTTPServer]:
    running = ThreadingHTTPServer(("127.0.0.1", 0), Elsewhere)
    running.reached = []  # type: ignore[attr-defined]
    thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield running
    running.shutdown()
    running.server_close()
    thread.join()


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("sdk", ["openai", "anthropic", "google"])
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
def test_a_redirect_is_not_followed(
    server: FaultServer, requests: list[Any], elsewhere: ThreadingHTTPServer, monkeypatch: pytest.MonkeyPatch,
    status: int, sdk: str, stream: bool,
) -> None:  # fmt: skip
    there = f"http://127.0.0.1:{elsewhere.server_address[1]}/v1/chat/completions"
    monkeypatch.setitem(STATUS, "moved", (status, {"message": "moved"}, {"Location": there}))
    monkeypatch.setenv("CANARY_LOGIN", CANARY)
    router = Router(settings(server, sdk, "moved", stream=stream))
    with pytest.raises(RouteError, match="redirect"):
        router.route("Explain closures")
    router.close()
    assert requests  # the first server was asked
    assert elsewhere.reached == []  # type: ignore[attr-defined]


NOTEBOOK = """\
%load_ext ipyrouter
%xmode Verbose
import ipyrouter
ipyrouter.use_router(ipyrouter.Router({settings!r}))
---
%%route --no-cache
Explain closures
---
%router status
---
%router config
---
%router log
---
%env CANARY_LOGIN
"""


@pytest.mark.parametrize("sdk", ["openai", "anthropic", "google"])
def test_a_saved_notebook_and_stderr_hold_no_key(
    server: FaultServer, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], sdk: str
) -> None:
    import nbformat  # late: four seconds

    monkeypatch.setitem(STATUS, "leak", (401, {"message": f"Wrong: {CANARY}"}, {}))
    monkeypatch.setenv("CANARY_LOGIN", f"{CANARY}\n")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    *cells, control = NOTEBOOK.replace("{settings!r}", repr(settings(server, sdk, "leak", stream=True))).split("---\n")
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    execute_notebook(notebook, allow_errors=True)
    saved = nbformat.writes(notebook)
    assert "Wrong: …" in saved  # the cell did fail, and its error stands in the notebook
    clean(saved)
    clean("".join(capfd.readouterr()))
    control_notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(control)])
    execute_notebook(control_notebook)
    with pytest.raises(AssertionError):  # this test would notice
        clean(nbformat.writes(control_notebook))
