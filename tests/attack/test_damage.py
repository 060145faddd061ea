"""Files damaged at random: no damage raises from route(), and what is damaged costs itself alone."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import sqlite3
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ipyrouter.errors import IPyRouterError, StoreError
from ipyrouter.notebook.panel import figures
from ipyrouter.router import Router
from ipyrouter.store.base import LogFilter
from tests.attack import rounds
from tests.conftest import server_config
from tests.faults.server import TEXT, FaultServer, serving
from tests.store.conftest import without_constraints
from tests.test_learned import outcomes

pytestmark = [pytest.mark.attack, pytest.mark.slow, pytest.mark.wire]

PROMPTS = [f"Explain closures, part {number}" for number in range(12)]
PAGE = 4096
ODD: list[Any] = [
    None, 0, 1, -1, 2**63 - 1, -(2**63), 10**15, 0.5, float("inf"), -1e300, "", "x", "\x00", "ünï", "{broken", "[]",
    "{}", '{"input_tokens": "many"}', '{"estimated": [1]}', "[" * 3000, b"", b"\xff\xfe", b"\x00" * 40, "9" * 40,
    "power", "fast", "ok", "y" * 20_000,
]  # fmt: skip


@pytest.fixture(scope="module")
def intact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home folder with a log, a cache, budgets and a lesson: a copy of it is damaged in each round."""
    home = tmp_path_factory.mktemp("attack") / "home"
    with serving() as server:
        router = Router(settings(server, mid=["o/status-503", "a/ok"]), home=home)
        router.route(PROMPTS[0])
        router.close()
        router = Router(settings(server), home=home)
        for prompt in PROMPTS:
            router.route(prompt)
        router.feedback("good")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            router.learn(outcomes())
        router.close()
    assert (home / "learned").is_dir()
    return home


def settings(server: FaultServer, **changes: Any) -> dict[str, Any]:
    return server_config(server, budget={"day": 100, "month": 100, "session": 100}, **changes)


GIVES_UP = ("newer ipyrouter", "cannot be written", "may still be in", "not in the log")  # it was set aside just now

# --- damage ---


def damage_bytes(home: Path, chance: random.Random) -> None:
    with change(home / "ipyrouter.db") as data:
        for _ in range(chance.choice([1, 3, 30, 300])):
            data[chance.randrange(len(data))] = chance.randrange(256)


def damage_header(home: Path, chance: random.Random) -> None:
    with change(home / "ipyrouter.db") as data:
        for _ in range(chance.choice([1, 2, 5])):
            data[chance.randrange(100)] = chance.randrange(256)


def damage_pages(home: Path, chance: random.Random) -> None:
    with change(home / "ipyrouter.db") as data:
        for _ in range(chance.choice([1, 1, 4])):
            at = chance.randrange(len(data) // PAGE) * PAGE
            other = chance.randrange(len(data) // PAGE) * PAGE
            page = [b"\x00" * PAGE, b"\xff" * PAGE, chance.randbytes(PAGE), bytes(data[other : other + PAGE])]
            data[at : at + PAGE] = chance.choice(page)


def damage_length(home: Path, chance: random.Random) -> None:
    with change(home / "ipyrouter.db") as data:
        if chance.random() < 0.7:
            del data[chance.randrange(len(data)) :]
        else:
            data.extend(chance.randbytes(chance.randrange(3 * PAGE)))


def damage_journal(home: Path, chance: random.Random) -> None:
    """Leave another file's journal, a torn one, or nonsense beside the database."""
    database = home / "ipyrouter.db"
    if chance.random() < 0.5:
        connection = sqlite3.connect(database, isolation_level=None)
        connection.execute("UPDATE attempts SET status = 'ok'")
        journal = bytearray(Path(f"{database}-wal").read_bytes())
        connection.close()
        for _ in range(chance.choice([0, 1, 20])):
            journal[chance.randrange(len(journal))] = chance.randrange(256)
        del journal[chance.randrange(32, len(journal)) :]
        Path(f"{database}-wal").write_bytes(journal)
    else:
        for suffix in ("-wal", "-shm", "-journal"):
            if chance.random() < 0.6:
                Path(f"{database}{suffix}").write_bytes(chance.randbytes(chance.choice([0, 31, 512, 2 * PAGE])))


def damage_values(home: Path, chance: random.Random) -> None:
    """Put into cells what no code of ours would write, past the checks of the schema."""
    connection = open_writable(home)
    connection.create_function("chance", 0, lambda: chance.random() < 0.25)
    tables = ("answers", "attempts", "cache", "counters", "sums", "claims", "reservations")
    for _ in range(chance.choice([1, 3, 20])):
        table = chance.choice(tables)
        column = chance.choice([row[1] for row in connection.execute(f"PRAGMA table_info({table})")])
        value: Any = chance.choice(ODD)
        mark = "CAST(? AS TEXT)" if isinstance(value, bytes) and chance.random() < 0.5 else "?"
        some = "" if chance.random() < 0.3 else " WHERE chance()"
        connection.execute(f"UPDATE OR IGNORE {table} SET {column} = {mark}{some}", (value,))
    connection.commit()
    connection.close()


def damage_schema(home: Path, chance: random.Random) -> None:
    """Take away rows, tables, indexes or triggers, or change the version."""
    connection = open_writable(home)
    kinds = [kind for kind in ("table", "index", "trigger") if chance.random() < 0.5]
    for kind in kinds:
        query = "SELECT name FROM sqlite_master WHERE type = ? AND name NOT LIKE 'sqlite_%'"
        names = [name for (name,) in connection.execute(query, (kind,))]
        connection.execute(f"DROP {kind} {chance.choice(names)}")
    if not kinds or chance.random() < 0.3:
        names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        connection.execute(f"DELETE FROM {chance.choice(names)}")
    if chance.random() < 0.2:
        connection.execute(f"PRAGMA user_version = {chance.choice([0, 1, 3, 7, 999, 1000, -5, 2**31 - 1])}")
    connection.commit()
    connection.close()


def damage_lesson(home: Path, chance: random.Random) -> None:
    """Change a lesson's bytes, or its values where it stays JSON."""
    path = chance.choice(sorted((home / "learned").glob("*.json")))
    if chance.random() < 0.3:
        with change(path) as data:
            for _ in range(chance.choice([1, 5, 100])):
                data[chance.randrange(len(data))] = chance.randrange(256)
        return
    lesson = json.loads(path.read_text())
    name = chance.choice(list(lesson))
    odd = [None, [], {}, "x", -1, 10**400, 1e308, float("nan"), float("inf"), [0.5], ["a"] * 4096, [[]] * 4096, True]
    if isinstance(lesson[name], list) and chance.random() < 0.5:
        lesson[name][chance.randrange(len(lesson[name]))] = chance.choice(odd)
    else:
        lesson[name] = chance.choice(odd)
    path.write_text(json.dumps(lesson))


def damage_files(home: Path, chance: random.Random) -> None:
    """Put something else where a file is expected."""
    path = home / chance.choice(["ipyrouter.db", "ipyrouter.db-wal", "ipyrouter.db.lock", "learned"])
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    chance.choice([path.mkdir, path.touch, lambda: path.symlink_to("/nowhere/at/all"), lambda: path.write_text("x")])()


KINDS: list[Callable[[Path, random.Random], None]] = [
    damage_bytes, damage_header, damage_pages, damage_length, damage_journal, damage_values, damage_values,
    damage_schema, damage_lesson, damage_files,
]  # fmt: skip


class change:
    """A file's bytes, to be changed inside the block."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> bytearray:
        self.data = bytearray(self.path.read_bytes())
        return self.data

    def __exit__(self, *_: object) -> None:
        self.path.write_bytes(self.data)


def open_writable(home: Path) -> sqlite3.Connection:
    """Open a database without its constraints, as damage does not ask for them."""
    connection = without_constraints(home / "ipyrouter.db")
    if random.Random(str(home)).random() < 0.5:  # else the sums follow what is changed
        for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            connection.execute(f"DROP TRIGGER {name}")
    return connection


# --- rounds ---


@pytest.mark.parametrize("part", range(10))
def test_no_damage_raises_from_route_and_every_reader_goes_on(
    intact: Path, tmp_path: Path, server: FaultServer, part: int
) -> None:
    for number in range(rounds(40)):
        seed = part * 1_000_000 + number
        chance = random.Random(seed)
        home = tmp_path / str(number)
        shutil.copytree(intact, home)
        kinds = [chance.choice(KINDS) for _ in range(chance.choice([1, 1, 2]))]
        names = [kind.__name__ for kind in kinds]
        try:
            damage(home, kinds, chance)
            go_on(home, server, chance)
        except Exception as error:
            raise AssertionError(f"seed {seed}: {names}") from error
        shutil.rmtree(home)


def damage(home: Path, kinds: list[Callable[[Path, random.Random], None]], chance: random.Random) -> None:
    for kind in kinds:
        # The first damage may have left nothing for the second.
        with contextlib.suppress(sqlite3.Error, OSError, ValueError, IndexError):
            kind(home, chance)


def go_on(home: Path, server: FaultServer, chance: random.Random) -> None:
    router = Router(settings(server, routing={"mode": "learned"}), home=home)
    try:
        fresh = f"What is new in {chance.random()}?"
        assert router.route(fresh).text == TEXT
        aside = set(home.glob("*.corrupt-*"))

        def went_aside() -> bool:
            """Tell whether a step after that found the damage, so that the row went with the file."""
            return set(home.glob("*.corrupt-*")) != aside

        router.route(chance.choice(PROMPTS))
        assert router.route(fresh).cached or went_aside()
        for read in (
            router.log, lambda: router.log(content=False), lambda: router.report(span="all"), router.report,
            router.compare, lambda: figures.gather(router, figures.Sums(router.store, LogFilter()), "all"),
            lambda: router.store.page(LogFilter(), 20), lambda: router.store.page(LogFilter(status="ok"), 3, skip=5),
            lambda: router.store.overview(31), router.store.last_calls, router.store.health,
            lambda: router.guard().left(), lambda: router.preview(PROMPTS[1]),
            lambda: list(router.store.parts(LogFilter())),
        ):  # fmt: skip
            try:
                read()
            except StoreError as error:
                assert "newer ipyrouter" in str(error)  # noqa: PT017  the only reason there is
        assert router.feedback("bad") or went_aside()
        try:
            assert fresh in list(router.log()["prompt"]) or went_aside()
            assert router.forget(router.last) == 1 or went_aside()
        except IPyRouterError as error:
            assert any(words in str(error) for words in GIVES_UP)  # noqa: PT017
        left = router.guard().left()["today"]
        assert left is None or left < 100
    finally:
        router.close()
        os.utime(home)
