"""Ctrl-C is held back exactly as long as something must stay whole, and never lost."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator

import pytest

from ipyrouter.interrupts import Deferred


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)


@pytest.fixture(autouse=True)
def handler_comes_back() -> Iterator[None]:
    before = signal.getsignal(signal.SIGINT)
    yield
    assert signal.getsignal(signal.SIGINT) == before


def test_it_comes_after_the_block() -> None:
    done = []

    def work() -> None:
        with Deferred():
            interrupt()
            done.append(1)

    with pytest.raises(KeyboardInterrupt):
        work()
    assert done == [1]


def test_it_comes_after_the_block_once() -> None:
    def work() -> None:
        with Deferred():
            interrupt()
            interrupt()

    with pytest.raises(KeyboardInterrupt):
        work()
    with Deferred():
        pass


def test_it_comes_after_a_block_that_failed_and_keeps_the_failure() -> None:
    def work() -> None:
        with Deferred():
            interrupt()
            raise ValueError("the failure")

    with pytest.raises(KeyboardInterrupt) as caught:
        work()
    assert isinstance(caught.value.__context__, ValueError)


def test_the_outermost_block_decides() -> None:
    done = []

    def work() -> None:
        with Deferred():
            with Deferred():
                interrupt()
                done.append("inner")
            done.append("outer")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert done == ["inner", "outer"]


def test_the_handler_that_was_there_is_called() -> None:
    came: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: came.append(number))
    try:
        with Deferred():
            interrupt()
            assert came == []
        assert came == [signal.SIGINT]
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("handler", [signal.SIG_IGN, signal.SIG_DFL])
def test_where_nobody_handles_it_in_python_nothing_changes(handler: signal.Handlers) -> None:
    before = signal.signal(signal.SIGINT, handler)
    try:
        with Deferred():
            assert signal.getsignal(signal.SIGINT) == handler
    finally:
        signal.signal(signal.SIGINT, before)


def test_on_another_thread_it_does_nothing() -> None:
    outcomes = []

    def work() -> None:
        before = signal.getsignal(signal.SIGINT)
        with Deferred():
            outcomes.append(signal.getsignal(signal.SIGINT) == before)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert outcomes == [True]


def test_at_random_moments_a_block_is_done_whole_and_no_interrupt_is_lost() -> None:
    begun = done = caught = 0
    ready = threading.Event()

    def send() -> None:
        for _ in range(40):
            ready.wait()
            ready.clear()
            interrupt()

    thread = threading.Thread(target=send)
    thread.start()
    while caught < 40:
        try:
            ready.set()
            while True:
                with Deferred():
                    begun += 1
                    done += 1
        except KeyboardInterrupt:
            caught += 1
            assert begun == done
    thread.join()
    assert begun > 40
