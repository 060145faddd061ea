"""What the JupyterLab extension asks of a kernel: today's figures, an answer's text and code, a verdict.

The extension finds the comm among those of the kernel and sends the first message. A kernel that nobody asks sends
nothing, so that front ends without the extension notice nothing of it.
"""

from __future__ import annotations

import datetime as dt
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, get_args

from ipyrouter.errors import IPyRouterError, UsageError
from ipyrouter.notebook.commands import noted
from ipyrouter.notebook.panel import figures
from ipyrouter.routing.planner import today
from ipyrouter.store.base import Feedback, LogFilter
from ipyrouter.text.amounts import dollars
from ipyrouter.text.blocks import find_code
from ipyrouter.text.sanitise import plain

if TYPE_CHECKING:
    from ipyrouter.router import Router
    from ipyrouter.types import Answer

_INTERVAL = 0.5  # seconds between two states while a cell runs
_MOST_ANSWERS = 100  # whose text is kept
_VERDICTS: dict[str, Feedback] = {verdict: verdict for verdict in get_args(Feedback)}


class FrontEnd:
    """Answers the extension's requests and tells it of what changes.

    Args:
        router: Returns the router of the magics.
        send: Sends a message to all front ends that are open.
    """

    def __init__(self, router: Callable[[], Router], send: Callable[[dict[str, Any]], None]) -> None:
        self._router = router
        self._send = send
        self._listening: Router | None = None
        self._answers: dict[str, Answer] = {}
        self._failed: str | None = None  # the id of the cell whose error is the last
        self._sums: tuple[Router, dt.date, figures.Sums] | None = None
        self._last = 0.0  # when a state was sent
        self._changed = False
        self._lock = threading.Lock()  # the extension's messages come on a thread of their own

    def receive(self, data: dict[str, Any]) -> None:
        """Do what a message asks, and reply under its number; what goes wrong is the reply's ``error``."""
        number = data.get("number")
        try:
            reply = {"result": self._do(data)}
        except IPyRouterError as error:
            reply = {"error": str(error)}
        except Exception as error:  # noqa: BLE001  the kernel would print a traceback that nobody sees
            reply = {"error": str(IPyRouterError(f"{type(error).__name__}: {error}"))}  # which holds no key
        self._send({"number": number, **reply})

    def end_cell(self, failed: str | None) -> None:
        """Tell what a cell has changed; ``failed`` is its id if its error is what ``--error`` sends."""
        if failed is not None and failed != self._failed:
            self._failed, self._changed = failed, True
        if self._changed or self._is_of_another_router():
            self._tell()

    def _is_of_another_router(self) -> bool:
        """Tell whether the last state is that of a router that use_router() has replaced."""
        try:
            return self._listening is not None and self._router() is not self._listening
        except IPyRouterError:
            return False  # the cell that needs a router says why there is none

    def close(self) -> None:
        """Listen no more."""
        if self._listening is not None and self._on_answer in self._listening.listeners:
            self._listening.listeners.remove(self._on_answer)

    def _do(self, data: dict[str, Any]) -> Any:
        match data.get("ask"):
            case "state":
                return self._state()
            case "text":
                return plain(self._answer(data).text)
            case "code":
                return plain(self._code(data))
            case "feedback":
                return self._feedback(data)
            case other:
                raise UsageError(f"Unknown request {other!r}.", "Extension and package differ: reload the page.")

    def _answer(self, data: dict[str, Any]) -> Answer:
        answer = self._answers.get(str(data.get("id")))
        if answer is None:
            raise UsageError("This kernel has not given that answer.", "Ask again: it comes from the cache.")
        return answer

    def _code(self, data: dict[str, Any]) -> str:
        try:
            return find_code(self._answer(data).text)
        except ValueError as error:
            raise UsageError(f"The answer holds {error}.", "Ask for it in the prompt.") from None

    def _feedback(self, data: dict[str, Any]) -> str:
        verdict = _VERDICTS.get(str(data.get("verdict")))
        if verdict is None:
            raise UsageError(f"Unknown verdict {data.get('verdict')!r}.", "Say good or bad.")
        router = self._router()
        if not router.store.set_feedback(str(data.get("id")), verdict):
            raise UsageError("That answer is not in the log.", "Was it given before the log was deleted?")
        return noted(router, verdict)

    def _state(self) -> dict[str, Any]:
        """Return what the status bar and the failed cell show; figures are those of the panel for today."""
        router = self._router()
        if self._listening is not router:
            self.close()
        if self._on_answer not in router.listeners:
            router.listeners.append(self._on_answer)
        self._listening = router
        with self._lock:
            result = self._today(router)
        self._last, self._changed = time.monotonic(), False
        left = [rest for rest in result.left.values() if rest is not None]
        return {
            "spent": dict(result.cards())["spent"],
            "left": dollars(min(left)) if left else None,
            "details": figures.as_text(result),
            "failed": self._failed,
        }

    def _today(self, router: Router) -> figures.Figures:
        day = today()
        if self._sums is None or self._sums[:2] != (router, day):
            since = dt.datetime.combine(day, dt.time(), dt.UTC)
            self._sums = router, day, figures.Sums(router.store, LogFilter(since=since))
        return figures.gather(router, self._sums[2], "today, UTC")

    def _on_answer(self, answer: Answer) -> None:
        self._answers[answer.id] = answer
        for old in list(self._answers)[:-_MOST_ANSWERS]:
            self._answers.pop(old, None)  # another thread may be faster
        self._changed = True
        if time.monotonic() - self._last >= _INTERVAL:
            self._tell()

    def _tell(self) -> None:
        try:
            self._send({"state": self._state()})
        except Exception:  # noqa: BLE001  a status that cannot be read must not cost the cell its answer
            self._changed = False
