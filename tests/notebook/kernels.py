"""A real kernel in its own process, asked through jupyter_client."""

from __future__ import annotations

import contextlib
import os
import re
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from jupyter_client.manager import KernelManager

if TYPE_CHECKING:
    import nbformat

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

    @property
    def text(self) -> str:
        """All that a client without Markdown shows, updates applied."""
        return "\n".join([self.out, *(output["data"].get("text/plain", "") for output in self.displays + self.results)])


class Kernel:
    """Runs cells and collects what they show."""

    def __init__(self, manager: KernelManager) -> None:
        self.manager = manager
        self._replies: dict[str, Reply] = {}
        self.client = manager.client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=300)

    def run(self, code: str, timeout: float = 120, *, cell: str | None = "") -> Reply:
        """Run code and return what it gave; ``cell`` as in :meth:`send`."""
        return self.collect(self.send(code, cell=cell), timeout)

    def send(self, code: str, *, cell: str | None = "", stdin: bool = True) -> str:
        """Send code as the notebook's cell of this id and return the request's id, for :meth:`collect`.

        Without an id it is a cell of its own; None: no cell, as consoles send it. ``stdin``: the client can be asked
        for input, which those that run whole notebooks cannot.
        """
        content = {"code": code, "silent": False, "store_history": True, "user_expressions": {}, "allow_stdin": stdin}
        metadata = {} if cell is None else {"cellId": cell or uuid.uuid4().hex}
        message = self.client.session.msg("execute_request", content, metadata=metadata)
        self.client.shell_channel.send(message)
        return str(message["header"]["msg_id"])

    def collect(self, message_id: str, timeout: float = 120, *, until: str = "") -> Reply:
        """Return what a request gave, or what it gave until it showed text; the rest can be collected later."""
        reply = self._replies.setdefault(message_id, Reply("?"))
        while not (until and until in reply.text):
            message = _answer_to(message_id, self.client.get_iopub_msg, timeout)
            if message["msg_type"] == "status" and message["content"]["execution_state"] == "idle":
                content = _answer_to(message_id, self.client.get_shell_msg, timeout)["content"]
                reply.status, reply.payload = content["status"], content.get("payload", [])
                break
            _take(reply, message["msg_type"], message["content"])
        return reply


def _answer_to(message_id: str, get: Callable[..., dict[str, Any]], timeout: float) -> dict[str, Any]:
    """Return the channel's next message that belongs to the request; a slow start leaves others in the queue."""
    while True:
        message = get(timeout=timeout)
        if message["parent_header"].get("msg_id") == message_id:
            return message


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
        display_id = content["transient"]["display_id"]
        places = [i for i, old in enumerate(reply.displays) if old["transient"].get("display_id") == display_id]
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
        process = manager.provisioner.process
        running.client.stop_channels()
        manager.shutdown_kernel()  # not now=True, which kills it before it has written what it covered
        process.wait()  # the manager gives up after some seconds, and a later test would be blamed


def execute_notebook(notebook: nbformat.NotebookNode, **options: Any) -> None:
    """Run all cells of a notebook in a new kernel; options of nbclient. A busy machine takes its time."""
    from nbclient import NotebookClient  # late: four seconds

    NotebookClient(notebook, startup_timeout=600, timeout=600, kernel_name="python3", **options).execute()
