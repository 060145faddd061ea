"""Which tier is good enough, measured on the user's own rows: some of them are asked at two tiers, then at three."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from ipyrouter.batch import columns
from ipyrouter.batch.rows import ANSWERED, Row
from ipyrouter.errors import UsageError
from ipyrouter.routing.requests import make_request
from ipyrouter.store.base import RequestLog
from ipyrouter.text.amounts import dollars
from ipyrouter.types import TIERS, Prompt, Request, TierName, total

DEFAULT_ROWS = 40
Z = 1.96  # of a two-sided 95 % interval
_CLOSE = 0.05  # by so much two numbers may differ, relative to the larger one
_JUDGE = (
    "Two answers to the same task are given as JSON. Do they agree in what matters for the task, whatever the words?\n"
)

Ask = Callable[[Sequence[Request]], list[Row | None]]
"""Asks requests, and returns their rows in the same order."""


@dataclass(frozen=True, slots=True)
class TierFigures:
    """How a tier did on the pilot's rows.

    Attributes:
        tier: The tier.
        rows: The rows that were compared.
        agreed: Those of them whose answer agrees with the strongest tier's.
        columns: The share of the rows that agree, for each column of the schema.
        cost: Dollars of an answer on average; None where one is not known.
    """

    tier: TierName
    rows: int
    agreed: int
    columns: Mapping[str, float]
    cost: Decimal | None

    @property
    def share(self) -> float:
        """The share of the rows that agree."""
        return self.agreed / self.rows if self.rows else 0.0

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of that share in all rows (Wilson's)."""
        if not self.rows:
            return 0.0, 1.0
        n, share = self.rows, self.share
        middle, width = share + Z**2 / (2 * n), Z * math.sqrt(share * (1 - share) / n + Z**2 / (4 * n * n))
        return max((middle - width) / (1 + Z**2 / n), 0.0), min((middle + width) / (1 + Z**2 / n), 1.0)


@dataclass(frozen=True, slots=True)
class Pilot:
    """The tier that a pilot chose, and the figures behind it, cheapest tier first."""

    tier: TierName
    agreement: float
    figures: tuple[TierFigures, ...]

    def __str__(self) -> str:
        lines = [f"pilot: {self.tier} takes the rest, the cheapest tier that agrees with power in {self.agreement:.0%}"]
        for one in self.figures:
            low, high = one.interval
            parts = [f"{one.tier}: {one.agreed} of {one.rows} rows agree ({low:.0%} to {high:.0%} of all)"]
            if len(one.columns) > 1:
                parts.append(", ".join(f"{name} {share:.0%}" for name, share in one.columns.items()))
            parts.append(f"{dollars(one.cost)} a row")
            lines.append("  " + "; ".join(parts))
        return "\n".join(lines)


def spread(requests: Sequence[Request], rows: int) -> list[int]:
    """Return the places of so many requests, evenly spread over all."""
    rows = min(rows, len(requests))
    return [place * len(requests) // rows for place in range(rows)]


def pick(requests: Sequence[Request], ask: Ask, log: RequestLog, *, agreement: float) -> Pilot:
    """Ask the pilot's requests at the strongest and the cheaper tiers, and return the cheapest that is good enough.

    Whether a cheaper tier agreed is put into the log as feedback, which :meth:`Router.learn` reads.

    Args:
        requests: The pilot's requests.
        ask: What asks them.
        log: Takes the feedback.
        agreement: The share of the rows in which a tier must agree with the strongest one.

    Raises:
        UsageError: The strongest tier has no answer to any of them.
    """
    strongest = TIERS[-1]
    best = ask([replace(request, tier=strongest) for request in requests])
    compared = [place for place, row in enumerate(best) if row is not None and row.status in ANSWERED]
    if not compared:
        why = next((row.error for row in best if row is not None and row.error), "it was stopped")
        raise UsageError(
            f"The pilot has no answer of the tier {strongest} to compare with: {why.rstrip('.')}.", "Name a tier."
        )
    figures: list[TierFigures] = []
    for tier in TIERS[:-1]:
        rows = ask([replace(requests[place], tier=tier) for place in compared])
        pairs = [(row, best[place], requests[place]) for row, place in zip(rows, compared, strict=True)]
        figures.append(_compare(tier, pairs, ask, log))
        if figures[-1].share >= agreement:
            break
    chosen = figures[-1].tier if figures[-1].share >= agreement else strongest
    own = [row for row in best if row is not None and row.status in ANSWERED]
    figures.append(TierFigures(strongest, len(own), len(own), {}, _mean(own)))
    return Pilot(chosen, agreement, tuple(figures))


def _compare(
    tier: TierName, pairs: Sequence[tuple[Row | None, Row | None, Request]], ask: Ask, log: RequestLog
) -> TierFigures:
    names = columns.dtypes_of(pairs[0][2].schema)
    same: list[dict[str, bool]] = []
    doubtful: list[tuple[int, Request]] = []
    for row, best, request in pairs:
        if row is None or best is None or row.status not in ANSWERED:
            same.append(dict.fromkeys(names, False))
            continue
        values, others = (columns.values_of(one.value, names) for one in (row, best))
        same.append({name: is_same(values[name], others[name]) for name in names})
        if request.schema is None and not all(same[-1].values()):
            doubtful.append((len(same) - 1, _question(request, row, best)))
    verdicts = ask([question for _, question in doubtful]) if doubtful else []
    for (place, _), verdict in zip(doubtful, verdicts, strict=True):
        agrees = verdict is not None and verdict.status in ANSWERED and bool((verdict.value or {}).get("agree"))
        same[place] = dict.fromkeys(names, agrees)
    for (row, _, _), columns_ in zip(pairs, same, strict=True):
        if row is not None and row.answer_id:
            log.set_feedback(row.answer_id, "good" if all(columns_.values()) else "bad")
    shares = {name: sum(one[name] for one in same) / len(same) for name in names}
    agreed = sum(all(one.values()) for one in same)
    return TierFigures(tier, len(pairs), agreed, shares, _mean([row for row, _, _ in pairs if row is not None]))


def is_same(one: Any, other: Any) -> bool:
    """Tell whether two values of a column agree: numbers nearly, strings whatever their case and blanks."""
    if isinstance(one, str) and isinstance(other, str):
        return one.split() == other.split() or one.casefold().split() == other.casefold().split()
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, int | float) and isinstance(other, int | float):
        return math.isclose(one, other, rel_tol=_CLOSE)
    return bool(one == other)


@functools.cache
def _verdict() -> Any:
    from ipyrouter.schemas import schema_of

    return schema_of({"agree": bool})


def _question(request: Request, row: Row, best: Row) -> Request:
    """Return the judge's prompt for two answers in words; what they say is data there."""
    task = {"task": request.prompt.text, "answer 1": row.value, "answer 2": best.value}
    prompt = Prompt.of(_JUDGE + json.dumps(task, ensure_ascii=False))
    return replace(make_request("judge", tier=TIERS[-1], schema=_verdict()), prompt=prompt)


def _mean(rows: Sequence[Row]) -> Decimal | None:
    costs = total([row.price for row in rows])
    return None if costs is None or not rows else costs / len(rows)
