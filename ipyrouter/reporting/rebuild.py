"""`%router rebuild-log FILE.ipynb`: a saved notebook keeps what its answers cost; put that back into the log."""

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast, get_args

from ipyrouter.errors import UsageError
from ipyrouter.store import rows
from ipyrouter.store.base import Outcome, Record
from ipyrouter.store.rows import Kind
from ipyrouter.text import tags
from ipyrouter.types import Answer, Attempt, Candidate, Classification, Cost, Finish, Session, Status, Usage

_OUTCOMES: dict[str, Outcome] = {"interrupted": "interrupted"}
_DAY = dt.timedelta(days=1)
_FIRST = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)


def records(path: Path, session: Session) -> list[Record]:
    """Return the answers whose figures a notebook's outputs hold, as log records without prompts and answers.

    Raises UsageError for a file that is not a notebook.
    """
    try:
        notebook = json.loads(path.read_text("utf-8"))
        cells = notebook["cells"]
        by_id = {figures["id"]: figures for figures in _figures(cells)}
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}.", "Name a saved notebook.") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise UsageError(f"{path} is not a notebook.", "Name an .ipynb file of format 4.") from None
    try:
        return [_record(figures, replace(session, notebook=path.name)) for figures in by_id.values()]
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError):
        raise UsageError(
            f"{path}: an output's ipyrouter metadata are damaged; nothing was restored.", "Remove that output."
        ) from None


def _figures(cells: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for cell in cells:
        for output in cell.get("outputs", ()):
            if figures := output.get("metadata", {}).get("ipyrouter"):
                yield figures


def _record(figures: dict[str, Any], session: Session) -> Record:
    attempts = tuple(_attempt(attempt) for attempt in figures["attempts"])
    cached, last = rows.notebook_value(Kind.FLAG, figures["cached"]), attempts[-1]
    answer = Answer(
        id=_id(figures["id"]),
        text="",
        tier=last.tier,
        provider=rows.notebook_value(Kind.NAME, figures["provider"]),
        model=rows.notebook_value(Kind.NAME, figures["model"]),
        cost=rows.notebook_value(Kind.PICO, figures["cost"], null=True),
        usage=last.usage,
        cached=cached,
        latency=rows.notebook_value(Kind.SECONDS, figures["latency"]),
        finish=cast(Finish, _one_of(figures["finish"], get_args(Finish))),
        classification=Classification(last.tier, rows.notebook_value(Kind.SHARE, figures["difficulty"]), 0.0, ()),
        attempts=attempts,
        cost_saved=rows.notebook_value(Kind.PICO, figures["saved"], null=True),
        created=_time(figures["time"]),
    )
    outcome: Outcome = "cached" if cached else _OUTCOMES.get(answer.finish, "ok")
    tagged = _tags(figures.get("tags", []))  # of a version that logged none, there are none
    return Record(answer, outcome, prompt=None, system=None, session=session, tags=tagged)


def _attempt(figures: dict[str, Any]) -> Attempt:
    values = rows.from_notebook(figures)
    return Attempt(
        tier=values["tier"],
        candidate=Candidate(values["provider"], values["model"]),
        status=cast(Status, _one_of(values["status"], get_args(Status))),
        usage=Usage(**{name: values[name] for name in Usage.__slots__ if name in values}),  # those that are logged
        cost=Cost(values["cost_pico"], values["price_id"]),
        latency=values["latency"],
        error_kind=values["error_kind"],
    )


# Anyone may have written the notebook, and the log must stay readable: each of these raises for what cannot be.


def _id(value: Any) -> str:
    if not re.fullmatch(r"[0-9A-Za-z_-]{1,64}", value):
        raise ValueError(value)
    return str(value)


def _tags(values: Any) -> tuple[str, ...]:
    if not isinstance(values, list) or len(values) > 2 * tags.MOST or not all(map(tags.is_tag, values)):
        raise ValueError(values)
    return tuple(values)


def _one_of(value: Any, known: tuple[str, ...]) -> str:
    return known[known.index(value)]


def _time(text: Any) -> dt.datetime:
    """Return the time of an answer; one to come would lie outside every budget and every report."""
    moment = dt.datetime.fromisoformat(text)
    if not _FIRST <= moment <= dt.datetime.now(dt.UTC) + _DAY:
        raise ValueError(text)
    return moment
