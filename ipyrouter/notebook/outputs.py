"""What the cells of a kernel showed: kernels keep no displays, and `--with Out[n]` and `--cells` may want them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

_MOST_CELLS = 50
_MOST_PICTURES = 20
_MOST_TEXT = 6000
_PICTURES = ("image/png", "image/jpeg")


class Output(NamedTuple):
    """One display, as IPython's history has them: by MIME type; ``id`` is what updates of it name."""

    bundle: Mapping[str, str | bytes]
    id: str | None = None


class Outputs:
    """Keeps the last displays of a kernel: the first text of each, and the last pictures."""

    def __init__(self, publisher: Any) -> None:
        self.cells: dict[int, list[Output]] = {}
        self._open: list[Output] = []
        self._publisher = publisher
        publisher.register_hook(self._keep)

    def stop(self) -> None:
        """Keep nothing any more."""
        self._publisher.unregister_hook(self._keep)

    def end_cell(self, number: int | None) -> None:
        """Note that all that was shown since the last cell belongs to this one."""
        if number is not None and self._open:
            self.cells[number] = self._open
        self._open = []
        for old in list(self.cells)[:-_MOST_CELLS]:
            del self.cells[old]
        with_pictures = [cell for cell, outputs in self.cells.items() if any(map(_has_picture, outputs))]
        for old in with_pictures[:-_MOST_PICTURES]:
            self.cells[old] = [output for output in self.cells[old] if not _has_picture(output)]

    def _keep(self, message: Any) -> Any:
        data = message["content"].get("data", {})
        bundle = {kind: data[kind] for kind in _PICTURES if kind in data}
        if isinstance(text := data.get("text/plain"), str):
            bundle["text/plain"] = text[:_MOST_TEXT]
        name = message["content"].get("transient", {}).get("display_id")
        if name is not None and self._open and self._open[-1].id == name:  # an answer that arrives in pieces
            self._open.pop()
        if bundle and len(self._open) < _MOST_CELLS:
            self._open.append(Output(bundle, name))
        return message


def _has_picture(output: Output) -> bool:
    return any(kind in output.bundle for kind in _PICTURES)
