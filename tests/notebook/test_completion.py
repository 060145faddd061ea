"""Tab, as the front end asks for it."""

from __future__ import annotations

from pathlib import Path

import pytest
from IPython.core.completer import provisionalcompleter

import ipyrouter
from tests.notebook.conftest import Shell


def complete(shell: Shell, text: str) -> list[str]:
    """Return what the text becomes, whole, in order."""
    with provisionalcompleter():
        matches = shell.ip.Completer.completions(text, len(text))
        return [text[: one.start] + one.text + text[one.end :] for one in matches]


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("%%route --ti", ["%%route --tier"]),
        ("%%route -t ", ["%%route -t fast", "%%route -t mid", "%%route -t power"]),
        ("%%route -t po", ["%%route -t power"]),
        ("%%route --tier=po", ["%%route --tier=power"]),
        ("%%route -q -f j", ["%%route -q -f json"]),
        ("%%route -m o/", ["%%route -m o/ok"]),
        ("%%route -m smol", ["%%route -m local/smollm2"]),
        ("%route --no-", ["%route --no-cache", "%route --no-escalate"]),
        ("answer = %route -t f", ["answer = %route -t fast"]),
        ("%%route --with sales,no", ["%%route --with sales,notes"]),
        ("%%route\nSay {{no", ["%%route\nSay {{notes"]),
        ("%route Say {{ sa", ["%route Say {{ sales"]),
        ("%%route --chat ", ["%%route --chat gauss"]),
        ("%router re", ["%router report", "%router reset", "%router rebuild-log"]),
        ("%router reset ", ["%router reset gauss"]),
        ("%router learn --", ["%router learn --reset"]),
    ],
)
def test_tab(shell: Shell, text: str, first: list[str]) -> None:
    shell.run("notes = 1\nsales = 2")
    shell.run("%%route -q --chat gauss\nOne")
    assert sorted(complete(shell, text)) == sorted(first)


def test_services_whose_key_is_there_are_offered(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    assert complete(shell, "%%route -m groq") == []
    monkeypatch.setenv("GROQ_API_KEY", "a-key-that-is-long")
    assert complete(shell, "%%route -m groq") == ["%%route -m groq/"]


def test_all_subcommands_and_options(shell: Shell) -> None:
    assert {"%router panel", "%router log", "%router export"} <= set(complete(shell, "%router "))
    assert {"%%route -t", "%%route --tier", "%%route --dry-run"} <= set(complete(shell, "%%route -"))


def test_the_prompt_and_other_code_are_left_alone(shell: Shell) -> None:
    for text in ("%route What is -", "x = {{", "%%time\n{{x", "print(-", "%router nonsense -"):
        assert not [one for one in complete(shell, text) if "--tier" in one or "--dry-run" in one]


def test_unloading_takes_completion_away(shell: Shell) -> None:
    before = len(shell.ip.Completer.custom_matchers)
    shell.run("%unload_ext ipyrouter")
    assert len(shell.ip.Completer.custom_matchers) == before - 1
    assert "%%route --tier" not in complete(shell, "%%route --ti")
    shell.run("%load_ext ipyrouter")
    assert complete(shell, "%%route --ti") == ["%%route --tier"]


def test_a_broken_config_and_odd_globals_print_nothing(
    shell: Shell, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home.mkdir(exist_ok=True)
    (home / "config.toml").write_text("broken = [")
    ipyrouter.use_router(None)
    shell.ip.user_ns["sales"] = 1
    assert "local" not in "".join(complete(shell, "%%route -m "))
    assert complete(shell, "%%route --with sal") == ["%%route --with sales"]
    assert capsys.readouterr().err == ""
    shell.ip.user_ns[5] = "globals() takes it"
    ran = shell.run("%%route --with slaes\nPlot")
    assert "Did you mean 'sales'?" in str(ran.error)
    assert "Did you mean 'sales'?" in str(shell.run("%%route\n{{slaes}}").error)
    del shell.ip.user_ns[5]
