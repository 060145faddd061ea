"""What the router asks of a store: four protocols and their rows. sqlite/ is the embedded one, postgres/ a team's.

No method raises for a disk or a server that refuses: an answer is never lost for that. Warnings come from
:meth:`Store.warnings`; a figure that cannot be read is :class:`Unavailable`.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

from ipyrouter.types import Answer, Finish, Session, TierName, Usage

if TYPE_CHECKING:
    from numpy.typing import NDArray

Outcome = Literal["ok", "cached", "error", "interrupted"]
Feedback = Literal["good", "bad"]
Group = Literal["user", "team", "notebook", "tags"]
OrderColumn = Literal["time", "cost", "status", "tier", "model", "tokens", "latency", "saved"]
Period = Literal["call", "session", "run", "day", "month"]

# --- the cache ---


@dataclass(frozen=True, slots=True)
class CachedAnswer:
    """A completion as it was stored under ``key``; ``cost`` is what it cost in dollars then."""

    key: bytes
    provider: str
    model: str
    tier: TierName
    text: str
    usage: Usage
    finish: Finish
    cost: Decimal | None
    escalated_from: TierName | None


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to ask a question that is not in the cache; its owner lives, and is the caller or another."""

    owner: str


class AnswerCache(Protocol):
    """Completions by the key of their call, and who is asking for one right now."""

    def cached(self, keys: Sequence[bytes], max_age_days: float) -> CachedAnswer | None:
        """Return the answer of the first of the keys that has a sound one of no greater age; write nothing."""
        ...

    def cached_or_claim(
        self, keys: Sequence[bytes], claim: bytes, owner: str, seconds: float, max_age_days: float
    ) -> CachedAnswer | Claim:
        """Return the cached answer, or claim the right to ask for it: in one step, so that two callers never both do.

        Args:
            keys: Where to look, first things first.
            claim: The key that is claimed where none of them is stored.
            owner: Who claims it (:func:`ipyrouter.store.owners.new_owner`).
            seconds: How long the claim holds: its owner is dead then.
            max_age_days: How old an answer may be.
        """
        ...

    def cached_many(self, groups: Sequence[Sequence[bytes]], max_age_days: float) -> list[CachedAnswer | None]:
        """Return what :meth:`cached` returns for each of several groups of keys, in one step."""
        ...

    def release(self, owner: str) -> None:
        """Give back all claims and reservations of an owner, whichever it got; a record does the same."""
        ...

    def clear_cache(self) -> int:
        """Delete all cached completions and return how many there were."""
        ...


# --- budgets ---


@dataclass(frozen=True, slots=True)
class Limit:
    """A budget: its name in messages, the most in 1e-12 dollars, and the period (of the store's clock, UTC).

    One of a session or a run is that of the Session with which it is reserved, used or recorded.

    Where it is unknown what was spent of it, a ``strict`` one is Unavailable; any other one counts what is known.
    ``scope`` tells whose budget it is where the store itself keeps it; "" is one of the user's own config.
    """

    name: str
    pico: int
    period: Period
    strict: bool = True
    scope: Literal["", "member", "team"] = ""


@dataclass(frozen=True, slots=True)
class Rate:
    """What a team's owner allows a minute: whose it is in messages, how many, and of what.

    ``used`` is what the last minute had used when the server was asked.
    """

    name: str
    most: int
    unit: Literal["requests", "tokens"]
    used: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Reservation:
    """Money that is promised to one call, in 1e-12 dollars."""

    id: str
    pico: int


@dataclass(frozen=True, slots=True)
class Refusal:
    """The budget that a reservation would exceed; in 1e-12 dollars what is spent or promised of it, and spent alone."""

    limit: Limit
    used: int
    spent: int


@dataclass(frozen=True, slots=True)
class Busy:
    """The rate that a call would exceed now, how much of it the last minute used, and when some of it is free again."""

    rate: Rate
    used: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Unavailable:
    """What is spent of a budget is not known, nor what was last read of it; why, in half a line, and the remedy."""

    limit: Limit
    reason: str
    remedy: str = ""


class BudgetLedger(Protocol):
    """What is spent of the budgets, and what is promised to calls under way.

    Money counts in the day of the store's clock in which it was recorded; restored records do not count. While the
    database refuses, what was last known counts and what was spent since.
    """

    def reserve(
        self,
        pico: int,
        limits: Sequence[Limit],
        session: Session,
        owner: str,
        seconds: float,
        *,
        tokens: int | None = None,
    ) -> Reservation | Refusal | Busy | Unavailable:
        """Promise money to a call, or say which budget has not enough left, or which rate of the store's.

        Of several budgets, that one is returned for which waiting for the calls in flight cannot help.

        Args:
            pico: How much, in 1e-12 dollars.
            limits: The budgets that have to hold it.
            session: For whom.
            owner: Who may release it, together with all else that it holds.
            seconds: When the reservation lapses: its owner is dead then.
            tokens: The most that the call may take; more than a rate holds wait for a whole minute of it. None: it is
                no call of this minute.
        """
        ...

    def settle(self, reservation: str, pico: int, tokens: int | None = None) -> None:
        """Change what a reservation holds: its call has ended, its request has not. Nothing held is nothing left.

        ``tokens`` is what the call took, where that is known.
        """
        ...

    def used(self, limit: Limit, session: Session) -> int | Unavailable:
        """Return what is spent and promised of a budget, in 1e-12 dollars; promises of the dead do not count."""
        ...

    def limits(self, session: Session) -> list[Limit]:
        """Return the budgets that the store itself keeps: a team's. :meth:`reserve` holds them without being told."""
        ...

    def rates(self, session: Session, *, now: bool = False) -> list[Rate]:
        """Return what the store allows a minute; :meth:`reserve` holds it without being told.

        ``now``: ask the server even where it was asked some seconds ago.
        """
        ...


# --- outages ---


@dataclass(frozen=True, slots=True)
class Outage:
    """A service that answered a colleague's call with a server's fault: its status, and when (monotonic) it is over."""

    status: int
    until: float


class OutageBoard(Protocol):
    """What those who share the store know of services that fail."""

    def outages(self) -> Mapping[str, Outage]:
        """Return the outages by service/model, as of some seconds ago."""
        ...

    def report_outage(self, model: str, status: int, seconds: float) -> None:
        """Tell the others that a model's service fails, for at most a minute; 0 seconds: that it answers again."""
        ...


# --- the log ---


@dataclass(frozen=True, slots=True)
class Record:
    """One request as it is logged: the answer (possibly partial) and its request.

    All claims and reservations of ``owner`` end in the same transaction. ``prompt`` None keeps no content at all. The
    answer is kept in the cache for as long as the run of the id ``run`` is.
    """

    answer: Answer
    outcome: Outcome
    prompt: str | None
    system: str | None
    session: Session
    owner: str = ""
    run: str = ""
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LogFilter:
    """Which rows of the log are meant; None sets no condition. Times are aware and half-open: since <= t < until.

    ``user`` and ``team`` are those of a team's store; no row in a file of one's own has any. ``tag`` is one of a row's.
    ``text`` stands in the prompt or the answer, the letters a to z in either case.
    """

    since: dt.datetime | None = None
    until: dt.datetime | None = None
    tier: str | None = None
    model: str | None = None
    session: str | None = None
    notebook: str | None = None
    status: str | None = None
    user: str | None = None
    team: str | None = None
    tag: str | None = None
    text: str | None = None


class Order(NamedTuple):
    """How rows are sorted; those without a value come last, and of equal ones the newest first."""

    column: OrderColumn = "time"
    descending: bool = True


NEWEST = Order()


@dataclass(frozen=True, slots=True)
class LogTable:
    """The log, or a part of it, as columns of equal length, oldest first, a row an attempt (store/rows.py names them).

    Columns and not rows, and so numpy's arrays: a million rows as objects would take a minute and gigabytes.

    ``columns`` holds integers (-1 for an unknown amount), floats (NaN for unknown seconds) and strings.
    ``categories`` holds for each of the other columns the rows' places in a list of values (-1: none), and that list,
    as pandas.Categorical does.
    """

    columns: dict[str, NDArray[Any]]
    categories: dict[str, tuple[NDArray[Any], list[Any]]]

    def values(self, name: str) -> list[Any]:
        """Return one column's values, a row each."""
        if name in self.columns:
            values: list[Any] = self.columns[name].tolist()
            return values
        places, values = self.categories[name]
        return [None if place < 0 else values[place] for place in places.tolist()]


class RowKey(NamedTuple):
    """The place of a row in the log."""

    time: int
    answer_id: str
    n: int


@dataclass(frozen=True, slots=True)
class LogRow:
    """A row of the log as a user looks at it; ``prompt`` is its beginning. Costs in 1e-12 dollars."""

    key: RowKey
    tier: str
    provider: str
    model: str
    status: str
    cost_pico: int | None
    saved_pico: int | None
    input_tokens: int
    output_tokens: int
    estimated: bool
    latency: float
    prompt: str | None

    @property
    def time(self) -> dt.datetime:
        """When the request was recorded."""
        return moment(self.key.time)


@dataclass(frozen=True, slots=True)
class LoggedAttempt:
    """An attempt of a request as a user looks at it. Costs in 1e-12 dollars, ``latency`` in seconds."""

    tier: str
    provider: str
    model: str
    status: str
    cost_pico: int | None
    saved_pico: int | None
    input_tokens: int
    output_tokens: int
    latency: float
    error: str | None


@dataclass(frozen=True, slots=True)
class LoggedRequest:
    """A request as a user looks at it; texts are None where the log keeps none, or not for this user."""

    answer_id: str
    time: dt.datetime
    notebook: str | None
    tier: str
    routed_tier: str
    difficulty: float
    prompt: str | None
    system: str | None
    text: str | None
    reasons: tuple[str, ...]
    notes: tuple[str, ...]
    attempts: tuple[LoggedAttempt, ...]


@dataclass(frozen=True, slots=True)
class RequestTotals:
    """Sums over whole requests: the attempts of each, whatever their tier or model.

    ``calls`` counts the attempts that are no answers from the cache, ``unpriced`` those without a known cost; of all
    ``cost_pico`` (1e-12 dollars, as far as known) and ``latency`` (seconds) are the sums. ``fallbacks`` counts the
    requests that another model should have answered, ``escalations`` those that went a tier up, with the cost up there.
    """

    count: int
    calls: int
    unpriced: int
    cost_pico: int
    latency: float
    fallbacks: int
    escalations: int
    escalated_unpriced: int
    escalated_pico: int


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over the log's rows of one bucket of time, tier, model, status, final, priced and band.

    ``start`` is the beginning of the bucket, in microseconds. ``final`` marks the rows that gave their request its
    answer, one a request; ``priced`` those of requests whose every attempt has a known cost; ``band`` counts the steps
    that the input tokens exceed. ``rows`` counts the rows, ``sent`` the calls among them (a candidate that was cooling
    down has a row, but nothing was sent), ``unpriced`` the rows without a known cost, ``unsaved`` the cached answers of
    which it is unknown what they saved. Costs in 1e-12 dollars, ``latency`` in seconds.

    ``requests`` is about the requests of which one of these rows is the head: the one that answered or, where none did,
    the last one. ``group`` is the value of the column that the sums are also grouped by; "" where there is none.
    """

    start: int
    tier: str
    provider: str
    model: str
    status: str
    final: bool
    priced: bool
    band: int
    rows: int
    sent: int
    unpriced: int
    cost_pico: int
    saved_pico: int
    unsaved: int
    usage: Usage
    latency: float
    requests: RequestTotals
    group: str = ""

    @classmethod
    def of(cls, keys: Sequence[Any], sums: Mapping[str, int]) -> Totals:
        """Return sums as a store's tables name them.

        Args:
            keys: Group, start, tier, provider, model, status, final, priced and band.
            sums: By the tables' names; costs in 1e-12 dollars, times in nanoseconds.
        """
        group, start, tier, provider, model, status, final, priced, band = keys
        return cls(
            start, tier, provider, model, status, bool(final), bool(priced), band,
            rows=sums["rows"],
            sent=sums["sent"],
            unpriced=sums["unpriced"],
            cost_pico=sums["cost_pico"],
            saved_pico=sums["saved_pico"],
            unsaved=sums["unsaved"],
            usage=Usage(
                sums["input_tokens"], sums["output_tokens"], sums["cached_input_tokens"], sums["cache_write_tokens"],
                sums["reasoning_tokens"],
            ),
            latency=sums["took"] / 1e9,
            requests=RequestTotals(
                count=sums["requests"],
                calls=sums["calls"],
                unpriced=sums["calls_unpriced"],
                cost_pico=sums["calls_pico"],
                latency=sums["calls_took"] / 1e9,
                fallbacks=sums["fallbacks"],
                escalations=sums["escalations"],
                escalated_unpriced=sums["escalated_unpriced"],
                escalated_pico=sums["escalated_pico"],
            ),
            group=group,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class RankedRequest:
    """One of the requests that cost or took most: ``unpriced`` of its calls have no known cost."""

    answer_id: str
    time: dt.datetime
    provider: str
    model: str
    cost_pico: int
    unpriced: int
    latency: float
    prompt: str | None


@dataclass(frozen=True, slots=True)
class LastCall:
    """A model's last call: when (UTC), with what status and, if it failed, error."""

    provider: str
    model: str
    time: dt.datetime
    status: str
    error: str | None


@dataclass(frozen=True, slots=True)
class Overview:
    """Where the log begins and ends (microseconds; 0 and 0 if it is empty), and what there is to choose from."""

    first: int
    last: int
    days: tuple[str, ...]
    """The newest days in UTC, as 2026-11-23."""
    models: tuple[str, ...]
    users: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()


class LogWriter(Protocol):
    """Puts into the log what happened."""

    def record(self, record: Record, cache_key: bytes | None, max_mb: float, max_age_days: float | None = None) -> None:
        """Write a request with its attempts and, if a key is given, the cache entry, in one transaction.

        With a new entry those older than ``max_age_days`` are deleted, and the least recently used beyond ``max_mb``.
        Of an answer that came from the cache, the key notes that it was used.
        """
        ...

    def restore(self, records: Sequence[Record]) -> int:
        """Add records that are not in the log, at the time of their answers; return how many were new.

        They count in every report and in no budget: anyone may have written the notebook that they come from.
        """
        ...

    def forget(self, answer_id: str | None, before: dt.datetime | None, *, content: bool) -> int:
        """Delete an answer, those before a moment, or all, or with ``content`` only their texts; return how many.

        Cached completions of theirs go, too, and no bytes of any of it stay in the files. Raises StoreError.
        """
        ...

    def set_feedback(self, answer_id: str, feedback: Feedback) -> bool:
        """Store what the user thought of an answer; False if there is no such answer."""
        ...


class LogReader(Protocol):
    """Reads the log. Every method raises StoreError for a database of a newer version; a damaged row costs itself."""

    def log(self, log_filter: LogFilter, *, content: bool = True) -> LogTable:
        """Return the log, oldest first; without ``content`` no prompts and answers."""
        ...

    def parts(self, log_filter: LogFilter, *, content: bool = True) -> Iterator[LogTable]:
        """Yield the same in parts of some thousand rows."""
        ...

    def page(
        self,
        log_filter: LogFilter,
        rows: int,
        *,
        before: RowKey | None = None,
        skip: int = 0,
        order: Order = NEWEST,
    ) -> list[LogRow]:
        """Return so many rows: those before a row, and after so many that are skipped.

        Args:
            log_filter: Of which rows.
            rows: The most.
            before: Only rows before this one, the newest first: it goes with no other order.
            skip: How many are left out at the beginning.
            order: How they are sorted; any but the newest first costs a look at all of them.
        """
        ...

    def request(self, answer_id: str) -> LoggedRequest | None:
        """Return a request with its attempts and texts; None if there is no such one."""
        ...

    def totals(
        self, log_filter: LogFilter, bucket: int | None = None, steps: Sequence[int] = (), by: Group | None = None
    ) -> list[Totals]:
        """Return exact sums over the log's rows.

        Args:
            log_filter: Which rows.
            bucket: The microseconds that a bucket of time spans, or somewhat more where the log is large; None is one
                bucket for all.
            steps: The input tokens above which the bands begin, ascending.
            by: The column that they are also grouped by.
        """
        ...

    def top(
        self, since: dt.datetime | None, until: dt.datetime | None, by: Literal["cost", "latency"], count: int
    ) -> list[RankedRequest]:
        """Return the requests of a time that cost or took most, none of which cost or took nothing."""
        ...

    def overview(self, days: int) -> Overview:
        """Return what the log holds, with so many of its newest days."""
        ...

    def last_calls(self) -> list[LastCall]:
        """Return the last call of every model in the log; answers from the cache are none."""
        ...


class RequestLog(LogWriter, LogReader, Protocol):
    """The log of requests and attempts."""


# --- runs over a column ---


@dataclass(frozen=True, slots=True)
class Run:
    """A prompt over a column: its id, when it began and last went on (UTC), and its state, which is plain JSON."""

    id: str
    created: dt.datetime
    updated: dt.datetime
    state: Mapping[str, Any]


class RunStore(Protocol):
    """Runs, and the answers that stay in the cache for as long as their run is kept."""

    def put_run(self, run: Run) -> None:
        """Write a run, or replace the one of this id; its beginning stays what it was."""
        ...

    def runs(self) -> list[Run]:
        """Return all runs, the latest first.

        Raises StoreError where a server that holds some is away: a batch could be submitted twice.
        """
        ...

    def pin(self, run_id: str, keys: Sequence[bytes]) -> None:
        """Keep the cached answers of these keys, whatever their age and however full the cache is."""
        ...

    def drop_run(self, run_id: str) -> bool:
        """Delete a run and let its answers age again; False where there is none of this id."""
        ...


# --- all of it ---


@dataclass(frozen=True, slots=True)
class Health:
    """What `ipyrouter doctor` tells of the store."""

    path: str
    ok: bool
    detail: str
    answers: int = 0
    cached: int = 0
    cached_bytes: int = 0


class Store(AnswerCache, BudgetLedger, OutageBoard, RequestLog, RunStore, Protocol):
    """Cache, budgets and log, whose transactions are one: a record writes to all three. Safe to use from any thread."""

    def health(self) -> Health:
        """Check the store."""
        ...

    def warnings(self) -> list[str]:
        """Return what went wrong since the last call, in one line each; each fault is reported once."""
        ...

    def close(self) -> None:
        """Close all connections that are not in use; the next call opens one again."""
        ...


def moment(microseconds: int) -> dt.datetime:
    """Return a time of the log as an aware one."""
    return dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(microseconds=microseconds)


def microseconds(moment: dt.datetime) -> int:
    """Return an aware time as the log keeps it, in microseconds since 1970 (UTC)."""
    return (moment - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)) // dt.timedelta(microseconds=1)
