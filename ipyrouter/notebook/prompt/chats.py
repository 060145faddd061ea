"""Conversations: which earlier turns go out with a prompt. They live as long as the kernel; a re-run rebuilds them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from ipyrouter.errors import UsageError, did_you_mean
from ipyrouter.types import Message, Prompt, TierName

_UNNAMED = ""
_SMALL_EDIT = 0.75  # of the words are the same


@dataclass(frozen=True, slots=True)
class Turn:
    """A question and its answer, the id of the cell that asked, where the front end tells it, and in which run.

    ``tier`` is what the question was classified as.
    """

    question: str | Prompt
    answer: str
    cell: str | None = None
    run: int = 0
    tier: TierName | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """Where in which thread a prompt stands: the turns before it."""

    name: str
    turns: tuple[Turn, ...] = ()

    @property
    def tier(self) -> TierName | None:
        """The tier of the turn before; None at a beginning."""
        return self.turns[-1].tier if self.turns else None

    @property
    def history(self) -> tuple[Message, ...]:
        """The turns as the history of a request."""
        pairs = ((Message("user", turn.question), Message("assistant", turn.answer)) for turn in self.turns)
        return tuple(message for pair in pairs for message in pair)


@dataclass
class Chats:
    """The threads by name; the unnamed one restarts with every prompt that continues nothing.

    ``cells`` holds the latest turn of each cell.
    """

    threads: dict[str, tuple[Turn, ...]] = field(default_factory=dict)
    latest: str | None = None
    cells: dict[str, Turn] = field(default_factory=dict)

    def tier_before(self, place: Place, prompt: str | Prompt, cell: str | None) -> TierName | None:
        """Return the tier that a prompt had in its cell before a small edit, or else that of the turn before it."""
        earlier = self.cells.get(cell) if cell is not None else None
        if earlier is not None and _is_small_edit(_text(earlier.question), _text(prompt)):
            return earlier.tier
        return place.tier

    def place(self, *, name: str | None, goes_on: bool, cell: str | None, run: int = 0) -> Place:
        """Return where a prompt stands: in the chat of that name, after the latest answer, or at a beginning.

        A cell that is run again asks again in its old place: its earlier turns and all that followed are left out. One
        run of a cell may hold several turns.
        Raises UsageError where there is nothing to continue.
        """
        if name is None and goes_on:
            if self.latest is None:
                raise UsageError("There is no answer to continue.", "Ask without --continue first.")
            name = self.latest
        if name is None:
            return Place(_UNNAMED)
        turns = self.threads.get(name, ())
        if cell is not None:
            again = (i for i, turn in enumerate(turns) if turn.cell == cell and turn.run != run)
            turns = turns[: next(again, len(turns))]
        return Place(name, turns)

    def keep(self, place: Place, turn: Turn) -> None:
        """Add a turn that was answered."""
        self.threads[place.name] = (*place.turns, turn)
        if turn.cell is not None:
            self.cells[turn.cell] = turn
        self.latest = place.name

    def names(self) -> list[str]:
        """Return the names of the chats."""
        return [name for name in self.threads if name != _UNNAMED]

    def forget(self, name: str | None = None) -> int:
        """Forget a chat, or all turns; return how many turns these were. Raises UsageError for an unknown name."""
        if name is None:
            gone = sum(map(len, self.threads.values()))
            self.threads.clear()
            self.cells.clear()
            self.latest = None
            return gone
        if name not in self.threads:
            hint = did_you_mean(name, self.names()) or "There are none yet: begin one with --chat NAME."
            raise UsageError(f"There is no chat {name!r}.", hint)
        if self.latest == name:
            self.latest = None
        turns = self.threads.pop(name)
        self.cells = {cell: turn for cell, turn in self.cells.items() if turn not in turns}
        return len(turns)


def _text(prompt: str | Prompt) -> str:
    return prompt if isinstance(prompt, str) else prompt.text


def _is_small_edit(before: str, after: str) -> bool:
    """Tell whether most words of two prompts are the same."""
    old, new = Counter(before.split()), Counter(after.split())
    return 2 * (old & new).total() >= _SMALL_EDIT * (old.total() + new.total())
