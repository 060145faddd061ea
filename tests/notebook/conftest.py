"""A real IPython shell inside the test process, and real kernels."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from IPython.core.interactiveshell import InteractiveShell

import ipyrouter
from ipyrouter.router import Router


@dataclass
class Ran:
    """What running a cell gave."""

    value: Any
    error: BaseException | None
    out: str
    err: str


class Shell:
    """A terminal-like shell (no kernel) with the extension loaded."""

    def __init__(self) -> None:
        InteractiveShell.clear_instance()
        self.ip = InteractiveShell.instance()
        self.ip.run_line_magic("load_ext", "ipyrouter")

    def run(self, cell: str) -> Ran:
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            result = self.ip.run_cell(cell, store_history=True)
        return Ran(result.result, result.error_in_exec or result.error_before_exec, out.getvalue(), err.getvalue())

    def close(self) -> None:
        self.ip.run_line_magic("unload_ext", "ipyrouter")
        self.ip.history_manager.end_session()
        InteractiveShell.clear_instance()


@pytest.fixture
def shell(make_router: Callable[..., Router]) -> Iterator[Shell]:
    ipyrouter.use_router(make_router())
    running = Shell()
    yield running
    running.close()
