"""Where the answer appears: one display that is updated, whole at the end, on stdout, or nowhere when quiet.

Which of these, depends on who shows the outputs: not every client knows display updates.
"""

from __future__ import annotations

import contextlib
import contextvars
import importlib.util
import shutil
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, Protocol

from ipyrouter.notebook import rendering
from ipyrouter.notebook.formats import Body
from ipyrouter.text import sanitise
from ipyrouter.types import Answer, Delta

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from ipyrouter.notebook.terminal import TerminalMarkdown

_INTERVAL = 0.1  # seconds between two updates of a streamed answer
_TICK = 1.0  # seconds between two words on what is being waited for

Client = Literal["terminal", "console", "notebook", "whole"]


def client(shell: InteractiveShell) -> Client:
    """Return who shows the outputs of the code that runs.

    - terminal: IPython itself.
    - console: a client that prints what comes and updates nothing: jupyter console, qtconsole, Spyder, Positron's.
      They are made with jupyter_client, whose messages are numbered by session, can ask for input and have no cells.
    - notebook: one that knows display updates: JupyterLab, Notebook, VS Code and Colab.
    - whole: nothing shows while the code runs, or updates would be lost: %%capture, an Output widget, and programs that
      run notebooks or code (nbclient, papermill, Voilà, agents).
    """
    kernel = getattr(shell, "kernel", None)
    if kernel is None:
        return "terminal"
    request: dict[str, Any] = getattr(kernel, "get_parent", lambda _: {})("shell")
    header, content = request.get("header", {}), request.get("content", {})
    message = str(header.get("msg_id"))
    takes_input = header.get("msg_type", "execute_request") == "execute_request" and content.get("allow_stdin", True)
    if not takes_input or is_captured(shell) or _in_output_widget(message):
        return "whole"
    if request.get("metadata", {}).get("cellId") or "google.colab" in sys.modules:
        return "notebook"
    by_session = message.startswith(f"{header.get('session')}_")
    return "console" if by_session or getattr(kernel, "session_mode", None) == "console" else "notebook"


def is_captured(shell: InteractiveShell) -> bool:
    """Tell whether %%capture or capture_output() takes the outputs."""
    from IPython.core.displaypub import CapturingDisplayPublisher

    return isinstance(shell.display_pub, CapturingDisplayPublisher)


def _in_output_widget(message: str) -> bool:
    """Tell whether the outputs of a message go into an Output widget, which shows no updates (ipywidgets#1844)."""
    widgets = getattr(sys.modules.get("ipywidgets.widgets.widget"), "_instances", {})
    return any(getattr(widget, "msg_id", None) == message for widget in list(widgets.values()))


class Display(Protocol):
    """Shows one answer, from the first text to the last."""

    def delta(self, delta: Delta) -> None:
        """Take a piece of text; an empty one says that a model was called."""
        ...

    def finish(self, answer: Answer, body: Body) -> None:
        """Show the answer as it is in the end."""
        ...

    def fail(self, attempts: int) -> None:
        """Keep what had arrived; the error is shown below."""
        ...


def choose(shell: InteractiveShell, fmt: str, *, stream: bool) -> Display:
    """Return the display for an answer that the code which runs asks for."""
    match client(shell):
        case "terminal":
            return TerminalDisplay(fmt, stream=stream)
        case "console":
            return ConsoleDisplay(fmt, stream=stream)
        case "notebook":
            return NotebookDisplay(fmt, stream=stream)
        case "whole":
            return WholeDisplay(fmt)


class Waiting:
    """Says once a second which model is being waited for, and for how long, until it is stopped."""

    def __init__(self, show: Callable[[str], None]) -> None:
        self._show = show
        self._lock = threading.Lock()  # no word comes after stop()
        self._over = threading.Event()
        self._model, self._since = "routing", time.monotonic()
        # With the context of the caller, whose cell gets the output.
        run = contextvars.copy_context().run
        threading.Thread(target=run, args=(self._run,), name="ipyrouter-waiting", daemon=True).start()

    def ask(self, model: str) -> None:
        """Begin to wait for a model."""
        with self._lock:
            self._model, self._since = model, time.monotonic()

    def stop(self) -> None:
        """Say nothing more."""
        with self._lock:
            self._over.set()

    @property
    def is_over(self) -> bool:
        """True once stopped."""
        return self._over.is_set()

    def _run(self) -> None:
        while not self._over.wait(_TICK):
            with self._lock, contextlib.suppress(Exception):  # a display that is gone must not disturb the answer
                passed = int(time.monotonic() - self._since)
                if passed and not self.is_over:
                    self._show(f"{self._model} · waiting {passed:,} s")


class Quiet:
    """Shows nothing."""

    def delta(self, delta: Delta) -> None:
        """Take a piece of text."""

    def finish(self, answer: Answer, body: Body) -> None:
        """Show the answer as it is in the end."""

    def fail(self, attempts: int) -> None:
        """Keep what had arrived."""


class WholeDisplay:
    """Shows the answer once, when it is there."""

    def __init__(self, fmt: str) -> None:
        self._format = fmt
        self._text: list[str] = []
        self._attempt = 0

    def delta(self, delta: Delta) -> None:
        """Take a piece of text; that of a new attempt replaces what came before."""
        if not delta.text:
            return
        if delta.attempt != self._attempt:
            self._text, self._attempt = [], delta.attempt
        self._text.append(delta.text)

    def finish(self, answer: Answer, body: Body) -> None:
        """Show the answer as it is in the end, with the metadata that a saved notebook keeps."""
        self._show(rendering.answer_bundle(answer, body), rendering.metadata(answer))

    def fail(self, attempts: int) -> None:
        """Keep what had arrived."""
        self._show(rendering.broken_bundle("".join(self._text), attempts, self._format), {})

    def _show(self, bundle: rendering.Bundle, metadata: dict[str, Any]) -> None:
        from IPython.display import display

        display(bundle, raw=True, metadata=metadata)  # type: ignore[no-untyped-call]


class NotebookDisplay(WholeDisplay):
    """Updates one handle: at most ten times a second with text, once a second before it."""

    def __init__(self, fmt: str, *, stream: bool) -> None:
        from IPython.display import display

        super().__init__(fmt)
        self._stream = stream
        self._handle: Any = display(rendering.waiting_bundle("routing …"), raw=True, display_id=True)  # type: ignore[no-untyped-call]
        self._waiting = Waiting(self._wait)
        self._next_update = 0.0

    def delta(self, delta: Delta) -> None:
        """Take a piece of text; a new attempt starts again in the same place."""
        super().delta(delta)
        if not delta.text:
            self._waiting = _next_wait(self._waiting, self._wait, delta)
            return
        if not self._stream:
            return
        self._waiting.stop()
        now = time.monotonic()
        if now - self._next_update >= _INTERVAL:
            text = "".join(self._text)
            self._show(rendering.partial_bundle(delta.tier, str(delta.candidate), text, self._format), {})
            # A long answer costs more to redraw; the kernel must not spend more than a fifth of its time on that.
            end = time.monotonic()
            self._next_update = end + 4 * (end - now)

    def finish(self, answer: Answer, body: Body) -> None:
        """Show the answer as it is in the end, with the metadata that a saved notebook keeps."""
        self._waiting.stop()
        super().finish(answer, body)

    def fail(self, attempts: int) -> None:
        """Keep what had arrived."""
        self._waiting.stop()
        super().fail(attempts)

    def _wait(self, words: str) -> None:
        self._show(rendering.waiting_bundle(words), {})

    def _show(self, bundle: rendering.Bundle, metadata: dict[str, Any]) -> None:
        self._handle.update(bundle, raw=True, metadata=metadata)


def _next_wait(waiting: Waiting, show: Callable[[str], None], delta: Delta) -> Waiting:
    """Wait for the model that was called; again where an earlier attempt had brought text already."""
    if waiting.is_over:
        waiting = Waiting(show)
    waiting.ask(str(delta.candidate))
    return waiting


class TerminalDisplay:
    """Streams to stdout and prints the badge once: in a terminal an update would print everything again."""

    def __init__(self, fmt: str, *, stream: bool) -> None:
        self._stream = stream and fmt in ("markdown", "text")  # the other formats show what is made of the whole
        self._attempt = 0
        self._markdown = _terminal_markdown() if fmt == "markdown" else None
        self._tail = "\n"
        self._line = 0  # characters that say what is being waited for, to be wiped out
        self._waiting = Waiting(self._wait)

    def delta(self, delta: Delta) -> None:
        """Take a piece of text."""
        if not delta.text:
            self._waiting = _next_wait(self._waiting, self._wait, delta)
            return
        if not self._stream:
            return
        self._end_wait()
        if delta.attempt != self._attempt:
            if self._attempt:
                self._end_answer()
                self._write(sanitise.plain(f"\n— starting again with {delta.candidate} —\n"))
            self._attempt = delta.attempt
        self._answer(delta.text)

    def finish(self, answer: Answer, body: Body) -> None:
        """Print what was not streamed, the badge and the notes."""
        self._end_wait()
        if self._attempt == 0:
            self._answer(body.text)
        self._end_answer()
        self._end_line()
        if thinking := rendering.thinking_text(body):
            self._write(f"{thinking}\n")
        self._write(rendering.badge_text(answer) + "\n")
        for note in rendering.notes_of(answer, body):
            self._write(sanitise.plain(note) + "\n")

    def fail(self, attempts: int) -> None:  # noqa: ARG002  the error that follows says how many
        """Leave what had arrived."""
        self._end_wait()
        self._end_answer()
        self._end_line()

    def _answer(self, text: str) -> None:
        if self._markdown is None:
            self._write(sanitise.plain(text))
        else:
            self._markdown.add(text)

    def _end_answer(self) -> None:
        if self._markdown is not None:
            self._markdown.end()

    def _write(self, text: str) -> None:
        if text:
            sys.stdout.write(text)
            sys.stdout.flush()
            self._tail = text[-1]

    def _end_line(self) -> None:
        if self._tail != "\n":
            self._write("\n")

    def _wait(self, words: str) -> None:
        """Write on one line, over what it said before, where that can be: in a file it would stay."""
        if self._tail == "\n" and self._rewrites():
            line = sanitise.plain(words)[: shutil.get_terminal_size().columns - 1]
            sys.stdout.write(f"\r{line:<{self._line}}")
            sys.stdout.flush()
            self._line = len(line)

    def _end_wait(self) -> None:
        self._waiting.stop()
        if self._line:
            sys.stdout.write(f"\r{'':<{self._line}}\r")
            self._line = 0

    def _rewrites(self) -> bool:
        return sys.stdout.isatty()


def _terminal_markdown() -> TerminalMarkdown | None:
    """Return what renders Markdown in this terminal; None where stdout is none, or rich is not installed."""
    if not sys.stdout.isatty() or importlib.util.find_spec("rich") is None:
        return None
    from ipyrouter.notebook.terminal import TerminalMarkdown

    return TerminalMarkdown()


class ConsoleDisplay(TerminalDisplay):
    """Streams to a client's stdout; a last display is the badge, and the whole answer where Markdown is shown."""

    def __init__(self, fmt: str, *, stream: bool) -> None:
        super().__init__(fmt, stream=stream)
        self._markdown = None  # a client's own terminal is not known here

    def finish(self, answer: Answer, body: Body) -> None:
        """Show the answer with the metadata that is kept; what was printed already is not printed again."""
        self._end_wait()
        bundle = rendering.answer_bundle(answer, body)
        if self._attempt:
            self._end_line()
            bundle["text/plain"] = rendering.answer_bundle(answer, replace(body, text=""))["text/plain"]
        WholeDisplay("")._show(bundle, rendering.metadata(answer))

    def _rewrites(self) -> bool:
        return True  # a carriage return is all that it takes
