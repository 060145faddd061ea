"""The commands of the README, as a person runs them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ipyrouter import cli


def run(*arguments: str, timeout: float = 300) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ipyrouter.cli", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout,
        env={**os.environ, "COLUMNS": "140"},
    )


def test_demo_uses_the_local_model_even_if_keys_are_set(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-not-to-be-used")
    done = run("demo")
    assert done.returncode == 0, done.stdout + done.stderr
    out = done.stdout
    parts = (
        "In [1]: %load_ext ipyrouter",
        "[fast] local/smollm2 · $0",
        "[mid] local/smollm2",
        "[power] local/smollm2",
        "· cached",
        "Dry run: nothing was sent",
        "1 from the cache",
        "all power",
        "jupyter lab",
    )
    for part in parts:
        assert part in out, out
    assert "sk-not-to-be-used" not in out
    assert not home.exists()  # nothing of the person's own was touched


def test_doctor_on_a_fresh_machine(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["doctor"]) == 0
    out = capsys.readouterr().out
    for part in ("Python 3.", "openai ", "config.toml (not there", "OPENAI_API_KEY is not set", "local model: ",
                 "the local model answers", "All is well."):  # fmt: skip
        assert part in out


def test_doctor_names_what_needs_mending(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    home.mkdir(mode=0o755)
    home.chmod(0o755)
    (home / "config.toml").write_text(
        'preset = "article"\n[providers.acme]\nsdk = "openai"\nbase_url = "http://far.example/v1"\n'
        '[tiers.mid]\nchain = ["acme/small"]\n'
    )
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    assert cli.main(["doctor"]) == 1
    out = capsys.readouterr().out
    assert "OPENAI_API_KEY is present" in out
    assert "sk-secret" not in out
    assert "LOOK  tier fast: anthropic/claude-3-haiku-20240307 was retired on 2026-04-20 and is skipped" in out
    assert "chmod 700" in out
    assert "no price is known for 'acme/small'" in out
    assert "unencrypted" in out


def test_doctor_with_a_damaged_database(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home.mkdir(mode=0o700)
    (home / "ipyrouter.db").write_bytes(b"garbage" * 1000)
    cli.main(["doctor"])
    assert "database" in capsys.readouterr().out
    assert list(home.glob("ipyrouter.db.corrupt-*"))


def test_report_and_errors(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["report"]) == 0
    assert "$0 · 0 calls" in capsys.readouterr().out
    assert cli.main(["report", "2026-13-45"]) == 1
    assert "UsageError: '2026-13-45' is no date." in capsys.readouterr().err
