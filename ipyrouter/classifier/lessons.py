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
_WHEN = "time"  # a column that outcomes may have: the newer ones count more


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
        learned = "; ".join([scores, *lesson.topics])
        return (
            f"Learned from {count(lesson.outcomes, 'outcome')} of {count(lesson.rows, 'prompt')}, by {lesson.choice}:"
            f" {learned}. Undo with learn(reset=True)."
        )

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

    return learn.fit(rows, model.shipped())


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
    from ipyrouter.classifier.learn import Outcome

    times = _times(frame) if _WHEN in frame.columns else [None] * len(frame)
    rows = enumerate(zip(frame[list(_COLUMNS)].itertuples(index=False), times, strict=True))
    return [Outcome(str(row[0]), str(row[1]), _verdict(row[2], place), when) for place, (row, when) in rows]


def _times(frame: pd.DataFrame) -> list[float | None]:
    """Return the column of times in seconds since 1970; None where one is missing."""
    import pandas as pd

    try:
        times = pd.to_datetime(frame[_WHEN], utc=True, format="ISO8601")
    except (TypeError, ValueError) as error:
        raise UsageError(
            f"The outcomes' column {_WHEN!r} does not hold times: {error}.",
            "Write them as 2026-11-29 or 2026-11-29T08:00Z, or drop the column.",
        ) from None
    return [None if pd.isna(when) else when.timestamp() for when in times]


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
    """Return what the log tells: feedback, weak answers, and prompts asked again at a higher tier.

    A prompt is the same where nothing but its spaces and capitals differ.
    """
    from ipyrouter.classifier.learn import Outcome

    log = store.log(LogFilter())
    columns = (log.values(name) for name in ("prompt", "tier", "status", "feedback", "time"))
    outcomes: list[Outcome] = []
    asked: dict[str, tuple[str, int]] = {}  # the prompt as it was first written, and its highest tier so far
    for prompt, tier, status, feedback, time in zip(*columns, strict=True):
        if prompt is None or tier not in TIERS or status not in ("ok", "weak", "cached"):
            continue
        rank, when = TIERS.index(tier), time / 1e6  # of microseconds
        first, before = asked.get(key := " ".join(prompt.lower().split()), (prompt, rank))
        if status == "weak":
            outcomes.append(Outcome(first, tier, 0.0, when))
        elif feedback is not None:
            outcomes.append(Outcome(first, tier, 1.0 if feedback == "good" else 0.0, when))
        if rank > before:
            # A stronger tier was asked the same: the first did not do.
            outcomes.append(Outcome(first, TIERS[before], 0.0, when))
        asked[key] = (first, max(rank, before))
    return outcomes
