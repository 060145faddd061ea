"""From a magic's options to all that goes out below its prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ipyrouter.errors import UsageError
from ipyrouter.notebook.options import RouteLine
from ipyrouter.notebook.prompt import attachments, cells, files
from ipyrouter.notebook.prompt.pieces import Piece
from ipyrouter.notebook.prompt.tables import Choice


def pieces(
    line: RouteLine,
    namespace: Mapping[str, Any],
    history: Any,
    shown: Mapping[int, Sequence[Any]],
    failure: tuple[BaseException, str] | None,
    *,
    within: bool,
) -> list[Piece]:
    """Return the pieces: cells first, then files, variables, and the last error.

    Args:
        line: The magic's options.
        namespace: The variables.
        history: IPython's history manager.
        shown: What cells of a kernel showed.
        failure: The last error that is not ours, and its cell.
        within: Whether the history's last cell is the one that asks.

    Raises:
        UsageError: For what is not there, or cannot be sent.
    """
    choice = Choice(line.rows, tuple(filter(None, (name.strip() for name in (line.columns or "").split(",")))))
    outputs = cells.outputs(history, shown)
    result: list[Piece] = []
    if line.cells or line.above:
        result += cells.pieces(history, line.cells, line.above, outputs, within=within)
    if line.file:
        result += files.pieces(line.file, choice)
    if line.with_ is not None:
        result += attachments.variables(line.with_, namespace, choice, outputs)
    if line.error:
        error, source = failure or (attachments.last_error(), None)
        result += attachments.failure(error, source)
    if (line.rows is not None or line.columns) and not any(piece.has_rows for piece in result):
        sent = f": what is sent is {', '.join(piece.title for piece in result[:3])}" if result else ""
        raise UsageError(
            f"--rows and --columns choose from a table, and none is sent{sent}.", "Send one with --with or --file."
        )
    return result
