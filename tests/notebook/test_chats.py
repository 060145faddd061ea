"""`--continue` and `--chat`: which turns go out with a prompt."""

from __future__ import annotations

from typing import Any

import pytest

from ipyrouter.errors import UsageError
from ipyrouter.notebook.prompt.chats import Chats, Turn
from tests.faults.server import TEXT
from tests.notebook.conftest import Shell


def messages_of(request: Any) -> list[str]:
    return [message["content"] for message in request[2]["messages"]]


def test_continue_sends_the_turns_before(shell: Shell, requests: list[Any]) -> None:
    shell.run("%%route -q\nWho was Gauss?")
    shell.run("%%route -q -c\nWhere did he live?")
    shell.run("%route -q --continue And when?")
    shell.run("%%route -q\nWho was Euler?")
    shell.run("%%route -q -c\nWhere did he live?")
    first = ["Who was Gauss?", TEXT, "Where did he live?"]
    assert [messages_of(request) for request in requests] == [
        first[:1],
        first,
        [*first, TEXT, "And when?"],
        ["Who was Euler?"],
        ["Who was Euler?", TEXT, "Where did he live?"],  # the history counts in the cache key
    ]


def test_named_chats_live_side_by_side(shell: Shell, requests: list[Any]) -> None:
    shell.run("%%route -q --chat a\nOne")
    shell.run("%%route -q --chat b\nTwo")
    shell.run("%%route -q --chat a\nThree")
    shell.run("%%route -q -c\nFour")
    assert messages_of(requests[2]) == ["One", TEXT, "Three"]
    assert messages_of(requests[3]) == ["One", TEXT, "Three", TEXT, "Four"]
    assert "Forgot 3 turns of the chat a." in shell.run("%router reset a").out
    shell.run("%%route -q --chat a\nFive")
    assert messages_of(requests[4]) == ["Five"]
    shell.run("%%route -q --chat b\nSix")
    assert messages_of(requests[5]) == ["Two", TEXT, "Six"]


def test_nothing_to_continue(shell: Shell, requests: list[Any]) -> None:
    assert "There is no answer to continue." in str(shell.run("%%route -c\nGo on").error)
    shell.run("%%route -q --chat gauss\nOne")
    assert "There is no chat 'gaus'. Did you mean 'gauss'?" in str(shell.run("%router reset gaus").error)
    shell.run("%router reset")
    assert "There is no answer to continue." in str(shell.run("%%route -c\nGo on").error)
    assert "begin one with --chat" in str(shell.run("%router reset gauss").error)


def test_a_named_chat_asks_for_the_provider_s_cache(shell: Shell, requests: list[Any]) -> None:
    long = "word " * 1000
    shell.run(f"%%route -q --chat a -m a/ok\n{long}")
    shell.run(f"%%route -q -m a/ok\nNot more than once: {long}")
    first, alone = (request[2]["messages"][0]["content"] for request in requests)
    assert first[0]["cache_control"] == {"type": "ephemeral"}
    assert isinstance(alone, str)


def test_a_turn_that_failed_is_no_part_of_the_chat(shell: Shell, requests: list[Any]) -> None:
    shell.run("%%route -q --chat a\nOne")
    assert shell.run("%%route -q --chat a -m o/status-500\nTwo").error is not None
    shell.run("%%route -q --chat a\nThree")
    assert messages_of(requests[-1]) == ["One", TEXT, "Three"]


def test_the_dry_run_tells_the_history(shell: Shell, requests: list[Any]) -> None:
    short = shell.run("%%route -n\nGo on").out
    shell.run("%%route -q --chat a\n" + "word " * 400)
    long = shell.run("%%route -n --chat a\nGo on").out
    assert "1 earlier turn" in long
    tokens = [int(out.split("input")[1].split("about ")[1].split()[0].replace(",", "")) for out in (short, long)]
    assert tokens[1] > tokens[0] + 300
    assert len(requests) == 1


def test_a_cell_that_runs_again_takes_its_old_place() -> None:
    chats = Chats()
    for run, (cell, question) in enumerate((("c1", "One"), ("c2", "Two"), ("c3", "Three"))):
        place = chats.place(name="a", goes_on=False, cell=cell, run=run)
        chats.keep(place, Turn(question, "answer", cell, run))
    again = chats.place(name=None, goes_on=True, cell="c2", run=4)
    assert [message.text for message in again.history] == ["One", "answer"]
    chats.keep(again, Turn("Two, but better", "answer", "c2", 4))
    assert [turn.question for turn in chats.threads["a"]] == ["One", "Two, but better"]


def test_one_cell_may_hold_several_turns(shell: Shell, requests: list[Any]) -> None:
    cell = "%route -q --chat a One\n%route -q --chat a Two\n%route -q -c Three"
    for _ in range(2):  # run again, it asks the same again
        requests.clear()
        shell.ip.run_cell(cell.replace("-q", "-q --no-cache"), cell_id="c1")
        assert [messages_of(request) for request in requests] == [
            ["One"],
            ["One", TEXT, "Two"],
            ["One", TEXT, "Two", TEXT, "Three"],
        ]


def test_forgetting_an_unknown_chat() -> None:
    with pytest.raises(UsageError, match="There is no chat 'x'"):
        Chats().forget("x")
