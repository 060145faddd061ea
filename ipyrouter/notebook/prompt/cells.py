"""`--cells` and `--above`: cells of the notebook that have run, with the text that they put out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ipyrouter.errors import UsageError
from ipyrouter.notebook.outputs import Output
from ipyrouter.notebook.prompt.attachments import bounded, without_secrets
from ipyrouter.notebook.prompt.pieces import Piece

_MOST_CELLS = 50
_MOST = 6000  # characters of a cell's source, and of its output
_RANGE = re.compile(r"\[?(\d{1,6})\]?(?:\s*[-–:]\s*\[?(\d{1,6})\]?)?$")


def numbers(text: str) -> list[int]:
    """Return the cells that `--cells` names: "3", "3-5" or "1,3-5". Raises UsageError for anything else."""
    selection: list[int] = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        match = _RANGE.match(part)
        if match is None:
            raise UsageError(f"--cells: {part!r} is not a valid range of cells.", "Write --cells 3-5, or 1,3-5.")
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first or last - first >= _MOST_CELLS:
            raise UsageError(
                f"--cells: {part} is not a valid range: it runs up, over at most {_MOST_CELLS} cells.", "Write 3-5."
            )
        selection += [number for number in range(first, last + 1) if number not in selection]
    return selection


def outputs(history: Any, shown: Mapping[int, Sequence[Any]]) -> dict[int, list[Any]]:
    """Return what each cell put out, each with its ``bundle`` by MIME type.

    Args:
        history: IPython's history manager. That of IPython 9 keeps what is printed and, outside kernels, shown; that of
            IPython 8 the values alone.
        shown: What cells of a kernel showed.
    """
    streams = getattr(history, "outputs", None)
    if streams is None:
        streams = {number: [Output({"text/plain": text})] for number, text in history.output_hist_reprs.items()}
    return {number: [*streams.get(number, ()), *shown.get(number, ())] for number in {*streams, *shown}}


def pieces(
    history: Any, cells: str | None, above: int | None, outputs: Mapping[int, Sequence[Any]], *, within: bool
) -> list[Piece]:
    """Return the pieces for cells: their source, and their text outputs.

    Args:
        history: IPython's history manager.
        cells: Which ones, by their numbers in brackets.
        above: How many of those that ran last before this one.
        outputs: What each cell put out.
        within: Whether the history's last cell is the one that asks, which is not sent.

    Raises:
        UsageError: For a cell that has not run.
    """
    sources: Sequence[str] = history.input_hist_raw
    ran = [number for number in range(1, len(sources) - within) if sources[number].strip()]
    selection = numbers(cells) if cells else []
    for number in selection:
        if number not in ran:
            known = f"Cells that ran in this session: {ran[0]} to {ran[-1]}." if ran else "No cell has run yet."
            raise UsageError(f"--cells: no cell [{number}] has run.", known)
    if above:
        selection += [number for number in ran[-min(above, _MOST_CELLS) :] if number not in selection]
    return [piece for number in sorted(selection) for piece in _of_cell(number, sources[number], outputs)]


def _of_cell(number: int, source: str, outputs: Mapping[int, Sequence[Any]]) -> Iterable[Piece]:
    yield Piece(f"Cell [{number}]", bounded(without_secrets(source.rstrip()), _MOST), "python")
    output = "\n".join(filter(None, (_words(output.bundle) for output in outputs.get(number, ()))))
    if output:
        yield Piece(f"What cell [{number}] put out", bounded(without_secrets(output), _MOST))


def _words(bundle: Mapping[str, Any]) -> str:
    text = bundle.get("stream", bundle.get("text/plain", ""))
    return "".join(text).rstrip("\n") if isinstance(text, list | str) else ""
