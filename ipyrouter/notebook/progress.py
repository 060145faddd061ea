"""How far a run over a column is, below its cell: plain HTML in one display, so that the saved file keeps it."""

from __future__ import annotations

import html
from typing import Any

from ipyrouter.batch.progress import Progress, Show, TerminalProgress
from ipyrouter.text.sanitise import plain


def choose() -> Show:
    """Return what shows a run's progress where the code runs."""
    from IPython.core.getipython import get_ipython

    from ipyrouter.notebook.display import client

    shell = get_ipython()
    who = "terminal" if shell is None else client(shell)
    return TerminalProgress() if who == "terminal" else NotebookProgress(updates=who == "notebook")


def bundle(progress: Progress) -> dict[str, str]:
    """Return the progress as a display shows it; words in it may be a server's."""
    line = plain(progress.line())
    bar = f'<progress value="{progress.done}" max="{max(progress.total, 1)}" style="width:16em"></progress>'
    return {"text/html": f"<div>{bar} {html.escape(line)}</div>", "text/plain": line}


class NotebookProgress:
    """One display that is updated or, where clients show no updates, appears at the end."""

    def __init__(self, *, updates: bool) -> None:
        self._updates = updates
        self._handle: Any = None

    def __call__(self, progress: Progress) -> None:
        """Show how far a run is."""
        from IPython.display import DisplayHandle

        if not (self._updates or progress.finished):
            return
        if self._handle is None:
            self._handle = DisplayHandle()  # type: ignore[no-untyped-call]
            self._handle.display(bundle(progress), raw=True)
        else:
            self._handle.update(bundle(progress), raw=True)
