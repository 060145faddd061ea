"""The log's columns: the one place that names them.

From this table come the SQL tables and what is inserted into them, the bulk read, the DataFrame with its dtypes and
its documentation, and what a saved notebook keeps of an attempt. A new column is one entry here, a field of Answer or
Attempt that holds it, and a migration for the files that exist (store/sqlite/migrations.py).
"""

from __future__ import annotations

import enum
import functools
import json
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple

from ipyrouter.text import tags
from ipyrouter.text.amounts import to_pico
from ipyrouter.types import TIERS, Answer, Attempt

if TYPE_CHECKING:
    from ipyrouter.store.base import Record

MOST_TOKENS = 2**53  # of one call, as many as a float counts
MOST_PICO = 9 * 10**18  # $9,000,000, the most that one attempt is taken to cost: as much as 64 bits hold
MOST_DOLLARS = Decimal(MOST_PICO) / 10**12
MOST_SECONDS = 10.0**6
EARLIEST, LATEST = 0, 32_503_680_000_000_000  # microseconds: 1970 to 3000
ANSWERED = ("ok", "weak", "refused", "cached")
"""The statuses of an attempt that gave its request an answer, if no later attempt did and it was not stopped."""
COOLING_DOWN = "cooling_down"
"""The error_kind of a row that stands for no call: every candidate was cooling down, or a budget forbade it."""


class Kind(enum.Enum):
    """What a column holds, and so how it is stored, checked, read and shown."""

    ID = enum.auto()
    TIME = enum.auto()  # microseconds since 1970 (UTC)
    COUNT = enum.auto()
    PICO = enum.auto()  # whole 1e-12 dollars; NULL where not known
    FIGURE = enum.auto()  # a whole number that the store itself has computed
    FLAG = enum.auto()
    SECONDS = enum.auto()
    SHARE = enum.auto()  # 0 to 1
    TIER = enum.auto()
    NAME = enum.auto()  # one of few, so that each needs memory once
    TEXT = enum.auto()  # each unlike the others

    @property
    def sql(self) -> str:
        """The type of an SQL column."""
        if self in (Kind.SECONDS, Kind.SHARE):
            return "REAL"
        return "TEXT" if self in (Kind.ID, Kind.TIER, Kind.NAME, Kind.TEXT) else "INTEGER"


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the log, or of its tables only.

    ``attempt`` and ``request`` give the value of a row in each of the two tables that hold the column, from a _Source.
    ``meaning`` documents a column of the log; without one the tables alone have it. A column without both is the team's
    store's own: it knows who wrote a row. ``notebook`` is the name under
    which a saved notebook keeps the value, which must then come from the attempt alone. ``later`` marks a column that
    is never NULL and that files of an older version do not have: there it is 0.
    """

    name: str
    kind: Kind
    meaning: str | None = None
    attempt: Callable[[Any], Any] | None = None
    request: Callable[[Any], Any] | None = None
    null: bool = False
    notebook: str | None = None
    later: bool = False

    def sql(self) -> str:
        """Return the column's definition."""
        if self.null:
            return f"{self.name} {self.kind.sql}"
        return f"{self.name} {self.kind.sql} NOT NULL{' DEFAULT 0' if self.later else ''}"


# --- values at the door: whatever comes in, what is stored can be summed and read ---


def count(value: Any) -> int:
    """Return a count of tokens within its bounds; 0 for what is none."""
    return min(value, MOST_TOKENS) if type(value) is int and value > 0 else 0


def pico(amount: Decimal | None) -> int | None:
    """Return dollars in whole 1e-12 dollars within their bounds; None for what is not an amount."""
    if amount is None or not amount.is_finite() or amount < 0:
        return None
    return to_pico(amount) if amount < MOST_DOLLARS else MOST_PICO


def spent(record: Record) -> int:
    """Return what a request has cost in 1e-12 dollars, as far as that is known."""
    return sum(pico(attempt.cost.amount) or 0 for attempt in record.answer.attempts)


def seconds(value: Any) -> float:
    """Return seconds within their bounds; 0 for what is none."""
    return min(float(value), MOST_SECONDS) if isinstance(value, int | float) and value > 0 else 0.0


def text(value: str | None) -> str | None:
    """Return a string that UTF-8 can hold: halves of characters become �."""
    if value is None or value.isascii():
        return value
    return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def instant(value: int) -> int:
    """Return a time within its bounds."""
    return min(max(value, EARLIEST), LATEST)


def _share(value: Any) -> float:
    return float(value) if isinstance(value, int | float) and 0 <= value <= 1 else 0.0


_AT_THE_DOOR: dict[Kind, Callable[[Any], Any]] = {
    **dict.fromkeys(Kind, text),
    Kind.TIME: instant,
    Kind.COUNT: count,
    Kind.PICO: pico,
    Kind.FIGURE: int,
    Kind.FLAG: int,
    Kind.SECONDS: seconds,
    Kind.SHARE: _share,
}


@dataclass(slots=True)
class RequestFigures:
    """What the attempts of one request come to; sums of what is known, in 1e-12 dollars.

    ``head`` is the place of the attempt that answered or, where none did (``answered``), of the last. ``calls`` counts
    the attempts that are no answers from the cache, ``unpriced`` those of them without a known cost, ``took`` is their
    nanoseconds. ``escalated`` counts the attempts of a higher tier than the first.
    """

    head: int = 0
    answered: bool = False
    calls: int = 0
    unpriced: int = 0
    spent_pico: int = 0
    took: int = 0
    escalated: int = 0
    escalated_unpriced: int = 0
    escalated_pico: int = 0

    @classmethod
    def of(cls, attempts: tuple[Attempt, ...]) -> RequestFigures:
        """Return the figures of a request's attempts."""
        figures = cls(max(len(attempts) - 1, 0))
        for n, attempt in enumerate(attempts):
            if attempt.status in ANSWERED:
                figures.head, figures.answered = n, True
            elif attempt.status == "interrupted":
                figures.head, figures.answered = len(attempts) - 1, False
            if attempt.status != "cached":
                figures._add(attempt, above=attempt.tier != attempts[0].tier and _is_above(attempt, attempts[0]))
        figures.spent_pico = min(figures.spent_pico, MOST_PICO)
        figures.escalated_pico = min(figures.escalated_pico, MOST_PICO)
        return figures

    def _add(self, attempt: Attempt, *, above: bool) -> None:
        cost = pico(attempt.cost.amount)
        self.calls += 1
        self.unpriced += cost is None
        self.spent_pico += cost or 0
        self.took += int(seconds(attempt.latency) * 1e9)
        if above:
            self.escalated += 1
            self.escalated_unpriced += cost is None
            self.escalated_pico += cost or 0


def _is_above(attempt: Attempt, other: Attempt) -> bool:
    return TIERS.index(attempt.tier) > TIERS.index(other.tier)


# --- the table ---


def _usage(name: str, meaning: str) -> Column:
    return Column(name, Kind.COUNT, meaning, attempt=lambda s: getattr(s.attempt.usage, name), notebook=name)


def _figure(name: str) -> Column:
    return Column(name, Kind.FIGURE, request=lambda s: getattr(s.request, name), null=True)


@functools.lru_cache(256)
def _rates(rates: tuple[tuple[str, Decimal], ...]) -> str | None:
    return json.dumps({name: str(rate) for name, rate in rates}) if rates else None


@functools.lru_cache(256)
def _lines(lines: tuple[str, ...]) -> str:
    return json.dumps(lines)


COLUMNS = (
    Column("time", Kind.TIME, "when the request was recorded; the same for all its attempts",
           attempt=lambda s: s.time, request=lambda s: s.time),
    Column("answer_id", Kind.ID, "the request; its attempts stand in their order", attempt=lambda s: s.answer.id),
    Column("session", Kind.NAME, "who asked", attempt=lambda s: s.record.session.id,
           request=lambda s: s.record.session.id),
    Column("notebook", Kind.NAME, "where", request=lambda s: s.record.session.notebook, null=True),
    Column("user", Kind.NAME, "the login at the team's store; None in a file of your own"),
    Column("team", Kind.NAME, "the user's team then; None in a file of your own"),
    Column("tags", Kind.NAME, "tags of the request, in the order of the alphabet, with commas between them",
           request=lambda s: tags.join(s.record.tags), null=True),
    Column("tier", Kind.TIER, "whose chain was asked; of a model that was named, its own tier",
           attempt=lambda s: s.attempt.tier, request=lambda s: s.answer.tier,
           notebook="tier"),
    Column("routed_tier", Kind.TIER, "what the prompt was classified as",
           request=lambda s: s.answer.classification.tier),
    Column("difficulty", Kind.SHARE, "0 to 1, what the classifier said",
           request=lambda s: s.answer.classification.difficulty),
    Column("escalated_from", Kind.TIER, "the tier whose answer to this request was weak",
           request=lambda s: s.answer.escalated_from, null=True),
    Column("fallback_from", Kind.NAME, "the model that should have answered this request",
           request=lambda s: s.answer.fallback_from, null=True),
    Column("provider", Kind.NAME, "of this attempt", attempt=lambda s: s.attempt.candidate.provider,
           request=lambda s: s.answer.provider, notebook="provider"),
    Column("model", Kind.NAME, "of this attempt", attempt=lambda s: s.attempt.candidate.model,
           request=lambda s: s.answer.model, notebook="model"),
    Column("status", Kind.NAME, "ok, cached, weak, refused, partial, interrupted or error",
           attempt=lambda s: s.attempt.status, notebook="status"),
    _usage("input_tokens", "the cached and the cache-written ones included"),
    _usage("output_tokens", "the reasoning ones included"),
    _usage("cached_input_tokens", "read from the provider's cache"),
    _usage("cache_write_tokens", "written to the provider's cache"),
    _usage("reasoning_tokens", "hidden reasoning"),
    Column("estimated", Kind.FLAG,
           "the provider did not report the tokens; of a call without an answer, what its input may cost",
           attempt=lambda s: s.attempt.usage.estimated, notebook="estimated"),
    Column("cost_pico", Kind.PICO, "what the attempt cost in whole 1e-12 dollars, which sum exactly",
           attempt=lambda s: s.attempt.cost.amount, null=True, notebook="cost"),
    Column("saved_pico", Kind.PICO, "what an answer from the cache had cost, in whole 1e-12 dollars",
           attempt=lambda s: s.answer.cost_saved if s.attempt.status == "cached" else None, null=True),
    Column("price_id", Kind.NAME, "the price that was matched", attempt=lambda s: s.attempt.cost.price_id, null=True,
           notebook="price_id"),
    Column("rates", Kind.NAME, "$ per million tokens as JSON", attempt=lambda s: _rates(s.attempt.cost.rates),
           null=True),
    Column("latency", Kind.SECONDS, "seconds of the call, without set-up and waiting",
           attempt=lambda s: s.attempt.latency, notebook="latency"),
    Column("first_token", Kind.SECONDS, "seconds until the first text", attempt=lambda s: s.attempt.first_token,
           null=True),
    Column("finish", Kind.NAME, "why the text ended", attempt=lambda s: s.attempt.finish, null=True),
    Column("error_kind", Kind.NAME, "what went wrong", attempt=lambda s: s.attempt.error_kind, null=True,
           notebook="error_kind"),
    Column("error", Kind.NAME, "the same in words", attempt=lambda s: s.attempt.error, null=True),
    Column("feedback", Kind.NAME, "good or bad, what the user thought", request=lambda _: None, null=True),
    Column("prompt", Kind.TEXT, "None where the log keeps no content, or ``content=False``",
           request=lambda s: s.record.prompt, null=True),
    Column("text", Kind.TEXT, "the same for the answer",
           attempt=lambda s: s.attempt.text if s.content and s.attempt.text != s.answer.text else None,
           request=lambda s: s.answer.text if s.content else None, null=True),
    # What follows is in the tables alone.
    Column("id", Kind.ID, request=lambda s: s.answer.id),
    Column("n", Kind.FIGURE, attempt=lambda s: s.n),
    Column("outcome", Kind.NAME, request=lambda s: s.record.outcome),
    Column("system", Kind.TEXT, request=lambda s: s.record.system, null=True),
    Column("reasons", Kind.TEXT, request=lambda s: _lines(s.answer.classification.reasons if s.content else ())),
    Column("notes", Kind.TEXT, request=lambda s: _lines(s.answer.notes)),
    Column("restored", Kind.FLAG, attempt=lambda s: s.restored, request=lambda s: s.restored,
           later=True),
    _figure("head"),
    _figure("answered"),
    _figure("calls"),
    _figure("unpriced"),
    _figure("spent_pico"),
    _figure("took"),
    _figure("escalated"),
    _figure("escalated_unpriced"),
    _figure("escalated_pico"),
)  # fmt: skip

LOG = tuple(column for column in COLUMNS if column.meaning is not None)
ATTEMPTS = tuple(column for column in COLUMNS if column.attempt is not None)
REQUESTS = tuple(column for column in COLUMNS if column.request is not None)


@dataclass(frozen=True, slots=True)
class _Attempt:
    """What a saved notebook's row is made of."""

    attempt: Attempt


class _Source(NamedTuple):
    """What a row of a table is made of; a request's own columns do not look at ``attempt`` and ``n``."""

    attempt: Any
    n: int
    record: Record
    answer: Answer
    request: RequestFigures
    time: int
    restored: bool
    content: bool


def values(record: Record, time: int, *, restored: bool) -> tuple[list[Any], list[list[Any]]]:
    """Return a record as a row of REQUESTS and its rows of ATTEMPTS, every value within its bounds.

    Args:
        record: What is to be written.
        time: When it happened, in microseconds since 1970 (UTC).
        restored: Whether it happened elsewhere or long ago, so that it uses up no budget.
    """
    answer = record.answer
    common = (record, answer, RequestFigures.of(answer.attempts), time, restored, record.prompt is not None)
    attempts = [_row(_ATTEMPT_VALUES, _Source(attempt, n, *common)) for n, attempt in enumerate(answer.attempts)]
    return _row(_REQUEST_VALUES, _Source(None, 0, *common)), attempts


_Value = tuple[Callable[[Any], Any], bool, Callable[[Any], Any]]  # the getter, whether it may be None, the door
_REQUEST_VALUES: list[_Value] = [(c.request, c.null, _AT_THE_DOOR[c.kind]) for c in COLUMNS if c.request]
_ATTEMPT_VALUES: list[_Value] = [(c.attempt, c.null, _AT_THE_DOOR[c.kind]) for c in COLUMNS if c.attempt]


def _row(columns: list[_Value], source: _Source) -> list[Any]:
    return [None if (value := get(source)) is None and null else door(value) for get, null, door in columns]


def documentation() -> str:
    """Return the log's columns, with dtype and meaning, as rows of a Markdown table."""
    lines = []
    for column in LOG:
        if column.kind is Kind.PICO:
            lines.append((column.name.removesuffix("_pico"), "float64", "dollars; NaN where not known"))
        lines.append((column.name, DTYPES[column.kind], str(column.meaning)))
    return "\n".join(f"    | {' | '.join(line)} |" for line in lines)


DTYPES = {
    Kind.ID: "object (str)",
    Kind.TIME: "datetime64[us, UTC]",
    Kind.COUNT: "int64",
    Kind.PICO: "Int64",
    Kind.FLAG: "bool",
    Kind.SECONDS: "float64",
    Kind.SHARE: "float64",
    Kind.TIER: "category, fast < mid < power",
    Kind.NAME: "category",
    Kind.TEXT: "object (str)",
}
"""The dtype that each kind of column has in the DataFrame."""


# --- how rows are sorted, filtered and looked at ---

ORDERS: dict[str, str] = {
    "time": "t.time",
    "cost": "t.cost_pico",
    "status": "t.status",
    "tier": "CASE t.tier WHEN 'fast' THEN 0 WHEN 'mid' THEN 1 ELSE 2 END",
    "model": "t.provider || '/' || t.model",
    "tokens": "t.input_tokens + t.output_tokens",
    "latency": "t.latency",
    "saved": "t.saved_pico",
}
"""The SQL of each column that store.base.Order names, over a row ``t`` of attempts."""


def order_by(column: str, *, descending: bool) -> str:
    """Return what follows ORDER BY: rows without a value come last, and of equal ones the newest first."""
    direction = "DESC" if descending else "ASC"
    ties = ["t.answer_id DESC", "t.n DESC"] if column == "time" else ["t.time DESC", "t.answer_id DESC", "t.n DESC"]
    if column == "time" and not descending:
        ties = ["t.answer_id ASC", "t.n ASC"]
    nulls = "" if column == "time" else " NULLS LAST"
    return ", ".join([f"{ORDERS[column]} {direction}{nulls}", *ties])


def lines(value: Any) -> tuple[str, ...]:
    """Return the strings of a column that holds several as JSON; none of a damaged one."""
    try:
        found = json.loads(value)
    except (TypeError, ValueError, RecursionError):
        return ()
    return tuple(line for line in found if isinstance(line, str)) if isinstance(found, list) else ()


# --- what a saved notebook keeps of an attempt ---

_NOTEBOOK_COLUMNS = tuple(column for column in ATTEMPTS if column.notebook is not None)
_LONGEST_NAME = 300  # bytes


def to_notebook(attempt: Attempt) -> dict[str, Any]:
    """Return the attempt's columns that a notebook keeps: no text, dollars as a decimal string."""
    saved = {}
    for column in _NOTEBOOK_COLUMNS:
        assert column.attempt is not None  # noqa: S101  _NOTEBOOK_COLUMNS is part of ATTEMPTS
        value = column.attempt(_Attempt(attempt))
        if column.kind is Kind.PICO and value is not None:
            value = format(value.normalize(), "f")
        elif column.kind is Kind.SECONDS:
            value = round(value, 4)
        saved[str(column.notebook)] = value
    return saved


def from_notebook(saved: dict[str, Any]) -> dict[str, Any]:
    """Return the attempt's values in metadata that anyone may have written, by their columns.

    Raises:
        ValueError, TypeError, ArithmeticError, LookupError: for what cannot be.
    """
    return {
        column.name: notebook_value(column.kind, saved[str(column.notebook)], null=column.null)
        for column in _NOTEBOOK_COLUMNS
    }


def notebook_value(kind: Kind, value: Any, *, null: bool = False) -> Any:
    """Return a value that a notebook holds as what the log takes of that kind; dollars are a decimal string there.

    Raises:
        ValueError, TypeError, ArithmeticError: for what cannot be.
    """
    if value is None and null:
        return None
    if kind is Kind.FLAG:
        sound = isinstance(value, bool)
    elif kind is Kind.COUNT:
        sound = type(value) is int and 0 <= value <= MOST_TOKENS
    elif kind in (Kind.SECONDS, Kind.SHARE):
        value = float(value)
        sound = 0 <= value <= (MOST_SECONDS if kind is Kind.SECONDS else 1)
    elif kind is Kind.PICO:
        value = Decimal(value)
        sound = value.is_finite() and 0 <= value <= MOST_DOLLARS
    elif kind is Kind.TIER:
        sound = value in TIERS
    else:
        sound = isinstance(value, str) and len(value.encode()) <= _LONGEST_NAME
    if not sound:
        raise ValueError(f"{kind.name}: {value!r}")
    return value
