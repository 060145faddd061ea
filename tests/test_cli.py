"""The command line, as a user runs it."""

from __future__ import annotations

import datetime as dt
import os
import subprocess
import sys
from pathlib import Path

import pytest

import ipyrouter
from ipyrouter import cli
from ipyrouter.router import Router
from tests.store.conftest import a_record


def run(*arguments: str, timeout: float = 300) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ipyrouter", *arguments],
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
        "The demo runs on a toy model (SmolLM2-135M)",
        "local/smollm2 · $0 · fast",
        "toy model (SmolLM2-135M): no key is set",
        "local/smollm2 · $0 · mid",
        "local/smollm2 · $0 · power",
        "· cached",
        "Dry run: nothing was sent",
        "1 from the cache",
        "all power",
        "jupyter lab",
    )
    for part in parts:
        assert part in out, out
    assert "sk-not-to-be-used" not in out
    assert not home.exists()  # nothing of the user's own was touched


def test_the_version_is_the_package_s(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        cli.main(["--version"])
    assert (left.value.code, capsys.readouterr().out) == (0, f"ipyrouter {ipyrouter.__version__}\n")


def test_doctor_on_a_fresh_machine(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["doctor"]) == 0
    out = capsys.readouterr().out
    for part in ("Python 3.", "openai ", "config.toml (not there", "WARN  provider openai: OPENAI_API_KEY is not set",
                 "local model: ", "WARN  toy model (SmolLM2-135M): no key is set; the local model answers",
                 "Nothing is broken; 3 issues to check."):  # fmt: skip
        assert part in out
    assert not [line for line in out.splitlines() if line.startswith("ok") and "not set" in line]


def test_doctor_with_one_key_of_two(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The other provider's models are skipped, which is worth a look and no fault."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-one-of-two")
    assert cli.main(["doctor"]) == 0
    out = capsys.readouterr().out
    assert "ok    provider openai: OPENAI_API_KEY is present" in out
    assert "WARN  provider anthropic: ANTHROPIC_API_KEY is not set; its models are skipped in fast, mid, power" in out
    assert "Nothing is broken; 1 issue to check." in out
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-two-of-two")
    assert cli.main(["doctor"]) == 0
    assert "All is well." in capsys.readouterr().out


def test_doctor_and_a_tier_without_a_model_that_can_be_called(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-one-of-two")
    home.mkdir(mode=0o700)
    (home / "config.toml").write_text('[tiers.power]\nchain = ["claude-opus-5-5"]\n')
    assert cli.main(["doctor"]) == 0
    assert "WARN  tier power: no model can be called; the nearest tier answers" in capsys.readouterr().out
    (home / "config.toml").write_text(
        "".join(f'[tiers.{tier}]\nchain = ["claude-opus-5-5"]\n' for tier in ("fast", "mid", "power"))
    )
    assert cli.main(["doctor"]) == 1
    assert "WARN  no chain has a usable model" in capsys.readouterr().out


def test_doctor_names_what_needs_fixing(
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
    assert "WARN  tier fast: anthropic/claude-3-haiku-20240307 was retired on 2026-04-20 and is skipped" in out
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
    assert cli.main(["report", "--by", "tag", "--all"]) == 0
    assert "All time: $0 · 0 calls" in capsys.readouterr().out
    assert cli.main(["report", "--by", "colour"]) == 1
    assert "UsageError: A report by 'colour' is not known." in capsys.readouterr().err
    assert cli.main(["report", "2026-13-45"]) == 1
    assert "UsageError: '2026-13-45' is not a valid date." in capsys.readouterr().err


def test_prune_deletes_what_is_older(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    router = Router()
    router.store.restore(
        [a_record(f"{month}", created=dt.datetime(2026, month, 5, tzinfo=dt.UTC)) for month in (8, 9, 10)]
    )
    router.close()
    assert cli.main(["prune", "--before", "2026-09-01"]) == 0
    assert cli.main(["prune", "--before", "2026-10-01", "--content-only"]) == 0
    assert capsys.readouterr().out == "Deleted 1 answer.\nDeleted the texts of 1 answer.\n"
    router = Router()
    log = router.log()
    assert list(log["answer_id"]) == ["9", "10"]
    assert list(log["text"].isna()) == [True, False]
    router.close()
    assert cli.main(["prune", "--before", "yesteryear"]) == 1
    assert "is not a valid date" in capsys.readouterr().err
