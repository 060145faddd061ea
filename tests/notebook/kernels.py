"""A real kernel in its own process, asked through jupyter_client."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from jupyter_client.manager import KernelManager

_ANSI = re.compile(r"\x1b\[[0-9;]*m")


@dataclass
class Reply:
    """What a cell gave: the displays by their id (updates applied), streams, and the error if it failed."""

    status: str
    displays: list[dict[str, Any]] = field(default_factory=list)
    updates: int = 0
    others: list[dict[str, Any]] = field(default_factory=list)  # updates of what earlier cells have shown
    results: list[dict[str, Any]] = field(default_factory=list)
    out: str = ""
    error: str = ""
    payload: list[dict[str, Any]] = field(default_factory=list)

    @property
    def markdown(self) -> str:
        return str(self.displays[-1]["data"]["text/markdown"])


class Kernel:
    """Runs cells and collects what they show."""

    def __init__(self, manager: KernelManager) -> None:
        self.manager = manager
        self.client = manager.client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=60)

    def run(self, code: str, timeout: float = 120) -> Reply:
        return self.collect(self.client.execute(code), timeout)

    def collect(self, message_id: str, timeout: float = 120) -> Reply:
        reply = Reply("?")
        while True:
            message = self.client.get_iopub_msg(timeout=timeout)
            if message["parent_header"].get("msg_id") != message_id:
                continue
            if message["msg_type"] == "status" and message["content"]["execution_state"] == "idle":
                break
            _take(reply, message["msg_type"], message["content"])
        content = self.client.get_shell_msg(timeout=timeout)["content"]
        reply.status, reply.payload = content["status"], content.get("payload", [])
        return reply


def _take(reply: Reply, kind: str, content: dict[str, Any]) -> None:
    if kind == "stream":
        reply.out += content["text"]
    elif kind == "error":
        reply.error = _ANSI.sub("", "\n".join(content["traceback"]))
    elif kind == "execute_result":
        reply.results.append(content)
    elif kind == "display_data":
        reply.displays.append(content)
    elif kind == "update_display_data":
        shown = content["transient"]["display_id"]
        places = [i for i, old in enumerate(reply.displays) if old["transient"].get("display_id") == shown]
        reply.updates += bool(places)
        for place in places:
            reply.displays[place] = content
        if not places:
            reply.others.append(content)


@contextlib.contextmanager
def kernel() -> Iterator[Kernel]:
    """Start a kernel that inherits the test's environment."""
    manager = KernelManager(kernel_name="python3")
    manager.start_kernel(env=dict(os.environ))
    running = Kernel(manager)
    try:
        yield running
    finally:
        running.client.stop_channels()
        manager.shutdown_kernel()  # not now=True, which kills it before it has written what it covered
