"""`%route What is a list?`: a question that ends like one.

IPython reads a trailing `?` as its own help syntax and would look up the last word instead of asking. These input
transformers come before that one and take such lines for what they are; `%route?` alone is still help.
"""

from __future__ import annotations

from collections.abc import Sequence
from tokenize import TokenInfo
from typing import TYPE_CHECKING, Any

from IPython.core.inputtransformer2 import EscapedCommand, MagicAssign

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell


def _asks(tokens: Sequence[TokenInfo]) -> bool:
    """Tell whether the tokens begin with `%route` and hold a prompt, not just `?`."""
    words = [token.string for token in tokens[:3]]
    return words[:2] == ["%", "route"] and len(words) == 3 and words[2].strip() not in ("", "?", "??")


class RouteLine(EscapedCommand):
    """`%route … ?`."""

    priority = 1  # before IPython's help syntax, which has 5

    @classmethod
    def find(cls, tokens_by_line: Any) -> RouteLine | None:
        """Return the first such line's transformer."""
        for line in tokens_by_line:
            tokens = [token for token in line if token.string.strip()]
            if _asks(tokens):
                return cls(tokens[0].start)
        return None


class RouteAssign(MagicAssign):
    """`answer = %route … ?`."""

    priority = 1

    def __init__(self, start: tuple[int, int], magic: tuple[int, int]) -> None:
        super().__init__(start)  # type: ignore[no-untyped-call]  # transformers are ordered by where they start: this one with its line
        self._magic = magic

    @classmethod
    def find(cls, tokens_by_line: Any) -> RouteAssign | None:
        """Return the first such line's transformer."""
        for line in tokens_by_line:
            tokens = [token for token in line if token.string.strip()]
            equals = next((i for i, token in enumerate(tokens) if token.string == "="), None)
            if equals is not None and _asks(tokens[equals + 1 :]):
                return cls(tokens[0].start, tokens[equals + 1].start)
        return None

    def transform(self, lines: list[str]) -> list[str]:
        """Transform the assignment as IPython does."""
        self.start_line, self.start_col = self._magic[0] - 1, self._magic[1]
        transformed: list[str] = super().transform(lines)
        return transformed


def install(shell: InteractiveShell) -> None:
    """Add the transformers."""
    shell.input_transformer_manager.token_transformers += [RouteLine, RouteAssign]


def remove(shell: InteractiveShell) -> None:
    """Take them away again."""
    transformers = shell.input_transformer_manager.token_transformers
    transformers[:] = [t for t in transformers if t not in (RouteLine, RouteAssign)]
