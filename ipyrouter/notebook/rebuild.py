"""`%router rebuild-log FILE.ipynb`: a saved notebook keeps what its answers cost; put that back into the log."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, cast

from ipyrouter.errors import UsageError
from ipyrouter.store.base import Outcome, Record
from ipyrouter.types import Answer, Attempt, Candidate, Classification, Cost, Finish, Usage

_OUTCOMES: dict[str, Outcome] = {"interrupted": "interrupted"}


def records(path: Path, session: str) -> list[Record]:
    """Return the answers that a notebook's outputs tell of, as log records without prompts and texts.

    Raises UsageError for a file that is no notebook.
    """
    try:
        notebook = json.loads(path.read_text("utf-8"))
        cells = notebook["cells"]
        told = {figures["id"]: figures for figures in _figures(cells)}
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}.", "Name a saved notebook.") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UsageError(f"{path} is no notebook.", "Name an .ipynb file of format 4.") from None
    try:
        return [_record(figures, path.name, session) for figures in told.values()]
    except (ValueError, KeyError, TypeError, ArithmeticError):
        raise UsageError(
            f"{path}: an output's ipyrouter metadata are damaged; nothing was restored.", "Remove that output."
        ) from None


def _figures(cells: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for cell in cells:
        for output in cell.get("outputs", ()):
            if figures := output.get("metadata", {}).get("ipyrouter"):
                yield figures


def _record(told: dict[str, Any], notebook: str, session: str) -> Record:
    attempts = tuple(_attempt(attempt) for attempt in told["attempts"])
    cached, last = bool(told["cached"]), attempts[-1]
    answer = Answer(
        id=str(told["id"]),
        text="",
        tier=last.tier,
        provider=str(told["provider"]),
        model=str(told["model"]),
        cost=_amount(told["cost"]),
        usage=last.usage,
        cached=cached,
        latency=float(told["latency"]),
        finish=cast(Finish, told["finish"]),
        classification=Classification(last.tier, float(told["difficulty"]), 0.0, ()),
        attempts=attempts,
        cost_saved=_amount(told["saved"]),
        created=dt.datetime.fromisoformat(told["time"]),
    )
    outcome: Outcome = "cached" if cached else _OUTCOMES.get(answer.finish, "ok")
    return Record(answer, outcome, prompt=None, system=None, session=session, notebook=notebook)


def _attempt(told: dict[str, Any]) -> Attempt:
    return Attempt(
        tier=told["tier"],
        candidate=Candidate(told["provider"], told["model"]),
        status=told["status"],
        usage=Usage(**{name: told[name] for name in Usage.__slots__}),
        cost=Cost(_amount(told["cost"]), told["price_id"]),
        latency=float(told["latency"]),
        error_kind=told["error_kind"],
    )


def _amount(text: str | None) -> Decimal | None:
    return None if text is None else Decimal(text)
