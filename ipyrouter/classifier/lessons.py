"""The lessons in the home folder: one numbered file each, the newest in force, all undone by forgetting them."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ipyrouter.errors import UsageError, did_you_mean
from ipyrouter.store.base import LogFilter, RequestLog
from ipyrouter.text.amounts import count
from ipyrouter.types import TIERS

if TYPE_CHECKING:
    import pandas as pd

    from ipyrouter.classifier.learn import Lesson, Outcome

_COLUMNS = ("prompt", "tier", "ok")


class Lessons:
    """What a user's outcomes have taught so far."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @functools.cached_property
    def current(self) -> Lesson | None:
        """The newest lesson that can be read; None where nothing was learned."""
        for path in reversed(self._files()):
            from ipyrouter.classifier import learn

            if (lesson := learn.load(path)) is not None:
                return lesson
        return None

    def keep(self, lesson: Lesson) -> str:
        """Save a lesson if it gained anything, and return what to tell the user."""
        scores = f"{lesson.before:.3f} of held-back pairs ranked rightly before, {lesson.after:.3f} after"
        if not lesson.gained:
            return f"Nothing gained ({scores}); the old weights stay."
        files = self._files()
        number = int(files[-1].stem) + 1 if files else 1
        try:
            lesson.save(self._folder / f"{number:04d}.json")
        except OSError as error:
            self.__dict__["current"] = lesson
            return (
                f"Learned for this session only, because {self._folder} cannot be written ({error.strerror}): {scores}."
            )
        self.__dict__["current"] = lesson
        return f"Learned from {lesson.rows:,} prompts: {scores}. Undo with learn(reset=True)."

    def forget(self) -> str:
        """Delete all lessons and return what to tell the user."""
        files = self._files()
        for path in files:
            path.unlink(missing_ok=True)
        self.__dict__["current"] = None
        return f"Forgot {count(len(files), 'lesson')}; the shipped weights are in force."

    def _files(self) -> list[Path]:
        return sorted(path for path in self._folder.glob("[0-9]*.json") if path.stem.isdecimal())


def teach(rows: list[Outcome]) -> Lesson:
    """Fit a lesson on top of the shipped model."""
    from ipyrouter.classifier import learn, model

    shipped = model.shipped()
    return learn.fit(rows, lambda prompt: shipped.difficulty(shipped.read(prompt))[0])


def from_frame(frame: pd.DataFrame) -> list[Outcome]:
    """Return the outcomes of a DataFrame.

    Raises:
        UsageError: A column is missing (it names the nearest one), or a verdict is missing or lies outside 0 to 1.
    """
    for column in _COLUMNS:
        if column not in frame.columns:
            near = did_you_mean(column, map(str, frame.columns))
            raise UsageError(
                f"The outcomes have no column {column!r}.", f"They need {', '.join(_COLUMNS)}. {near}".strip()
            )
    rows = enumerate(frame[list(_COLUMNS)].itertuples(index=False))
    return [(str(prompt), str(tier), _verdict(ok, place)) for place, (prompt, tier, ok) in rows]


def _verdict(ok: Any, place: int) -> float:
    """Return a verdict as a number from 0 to 1."""
    try:
        verdict = float(ok)
    except (TypeError, ValueError):  # pandas.NA too
        verdict = float("nan")
    if not 0 <= verdict <= 1:
        raise UsageError(
            f"Row {place} of the outcomes has {ok!r} in 'ok'.",
            "Write 1 where the answer was good enough and 0 where not, or drop the row: outcomes.dropna().",
        )
    return verdict


def from_log(store: RequestLog) -> list[Outcome]:
    """Return what the log tells: feedback, weak answers, and prompts asked again at a higher tier."""
    log = store.log(LogFilter())
    columns = (log.values(name) for name in ("prompt", "tier", "status", "feedback"))
    outcomes: list[Outcome] = []
    ranks: dict[str, int] = {}
    for prompt, tier, status, feedback in zip(*columns, strict=True):
        if prompt is None or tier not in TIERS or status not in ("ok", "weak", "cached"):
            continue
        rank = TIERS.index(tier)
        if status == "weak":
            outcomes.append((prompt, tier, 0.0))
        elif feedback is not None:
            outcomes.append((prompt, tier, 1.0 if feedback == "good" else 0.0))
        if (before := ranks.get(prompt)) is not None and rank > before:
            outcomes.append((prompt, TIERS[before], 0.0))  # a stronger tier was asked the same: the first did not do
        ranks[prompt] = max(rank, ranks.get(prompt, rank))
    return outcomes
