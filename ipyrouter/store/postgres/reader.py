"""The log read: the rows that row-level security lets the login see, and sums over them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from ipyrouter import interrupts
from ipyrouter.errors import StoreError
from ipyrouter.store import rows
from ipyrouter.store.base import (
    NEWEST,
    Group,
    LastCall,
    LogFilter,
    LoggedAttempt,
    LoggedRequest,
    LogRow,
    LogTable,
    Order,
    Overview,
    RankedRequest,
    RowKey,
    Totals,
    moment,
)
from ipyrouter.store.postgres.away import AwayError
from ipyrouter.store.postgres.calls import Calls
from ipyrouter.store.rows import COOLING_DOWN, Column, Kind
from ipyrouter.store.sqlite.filters import Span, needs_rows, span, span_of
from ipyrouter.store.sqlite.schema import DAY, EDGES
from ipyrouter.text import tags as tagging
from ipyrouter.types import TIERS

if TYPE_CHECKING:
    from numpy.typing import NDArray

T = TypeVar("T")

_PART = 4000  # rows
_PROMPT = 1000  # characters
_FEW_ROWS = 20_000  # as many are read one by one where the sums by the day are too coarse
_MANY_ROWS = 50_000  # no statement scans more of them, beyond a day: each has to end in some seconds
_GROUPS = "1, 2, 3, 4, 5, 6, 7, 8, 9"
_KEYS = ("tier", "provider", "model", "status", "final", "priced")
_MEASURES = (
    "rows", "sent", "unpriced", "cost_pico", "saved_pico", "unsaved", "input_tokens", "output_tokens",
    "cached_input_tokens", "cache_write_tokens", "reasoning_tokens", "took", "requests", "calls", "calls_unpriced",
    "calls_pico", "calls_took", "fallbacks", "escalations", "escalated_unpriced", "escalated_pico",
)  # fmt: skip
_IS_CALL = f"status != 'cached' AND error_kind IS DISTINCT FROM '{COOLING_DOWN}'"
_MEASURED = (  # both times, so that the server reads no other partition
    "ipyrouter.measured t WHERE t.time >= %s AND t.time < %s AND t.answer_time >= %s AND t.answer_time < %s"
)
_HOLDS = (  # COLLATE "C": a to z alone in any database, as SQLite does it and LogFilter says
    "EXISTS (SELECT 1 FROM ipyrouter.texts w WHERE w.answer_id = {row}.answer_id AND w.time = {row}.time AND"
    " strpos(lower((COALESCE(w.prompt, '') || chr(10) || COALESCE(w.text, '')) COLLATE \"C\"),"
    ' lower(%s COLLATE "C")) > 0)'
)
_Conditions = tuple[str, list[Any]]  # SQL that begins with AND, and its values


def _source(column: Column) -> str:
    """Return where a column of the log stands; texts are apart from what they cost."""
    if column.name == "text":
        return "COALESCE(y.text, x.text)"
    if column.name in ("prompt", "error"):
        return f"{'x' if column.name == 'prompt' else 'y'}.{column.name}"
    if column.name in ("user", "team"):
        return "t.member" if column.name == "user" else "t.team"
    return f"{'t' if column.attempt is not None else 'a'}.{column.name}"


def _join(within: Span) -> str:
    """Return the attempts of a time with all that belongs to them, so that the server reads no other partition."""
    since, until = within
    at = f"{{0}}.time = t.time AND {{0}}.time >= {since} AND {{0}}.time < {until}"
    return (
        f"ipyrouter.attempts t JOIN ipyrouter.answers a ON a.id = t.answer_id AND {at.format('a')}"
        f" LEFT JOIN ipyrouter.texts x ON x.answer_id = t.answer_id AND {at.format('x')}"
        f" LEFT JOIN ipyrouter.attempt_texts y ON y.answer_id = t.answer_id AND y.n = t.n AND {at.format('y')}"
        f" WHERE t.time >= {since} AND t.time < {until}"
    )


_COLUMNS = ", ".join(_source(column) for column in rows.LOG)


class LogReader(Calls):
    """Implements store.base.LogReader. While the server is away, it reads what this machine's own file holds."""

    def log(self, log_filter: LogFilter, *, content: bool = True) -> LogTable:
        """Return the log, oldest first; without ``content`` no prompts and answers."""
        return self._here_or_there(
            lambda: _table([row for part in self._rows(log_filter) for row in part], content=content),
            lambda: self._local.log(log_filter, content=content),
        )

    def parts(self, log_filter: LogFilter, *, content: bool = True) -> Iterator[LogTable]:
        """Yield the same in parts of some thousand rows."""
        try:
            self._send_waiting(most=None)
            for part in self._rows(log_filter):
                yield _table(part, content=content)
        except AwayError as error:
            raise StoreError(f"The team store is away ({error}).", "Try again later.") from None

    def _here_or_there(self, remote: Callable[[], T], local: Callable[[], T]) -> T:
        """Return what the server has, with all that waited on this machine; what waits here where it is away."""
        try:
            self._send_waiting(most=None)
            return remote()
        except AwayError as error:
            self._warn(error)
            return local()

    def _rows(self, log_filter: LogFilter) -> Iterator[list[tuple[Any, ...]]]:
        since, until = span_of(log_filter)
        clause, values = self._conditions(log_filter, "t")
        place: tuple[Any, ...] = (since, "", -1)
        query = (
            f"SELECT t.n, {_COLUMNS} FROM {_join((since, until))}"
            f" AND (t.time, t.answer_id, t.n) > (%s, %s, %s){clause} ORDER BY t.time, t.answer_id, t.n LIMIT {_PART}"
        )
        while part := self._server.call(query, (*place, *values)):
            place = (part[-1][1], part[-1][2], part[-1][0])
            yield [row[1:] for row in part]

    def _conditions(self, log_filter: LogFilter, row: str, request: str = "a") -> _Conditions:
        """Return the conditions of a filter but its time, on rows of attempts or sums and on those of the request.

        Row-level security would leave a member's rows alone anyway; that condition lets the server use its index.
        """
        hello = self._server.hello()
        fields = (
            (f"{row}.tier = %s", log_filter.tier),
            (f"{row}.model = %s", log_filter.model),
            (f"{row}.session = %s", log_filter.session),
            (f"{row}.status = %s", log_filter.status),
            (f"{request}.notebook = %s", log_filter.notebook),
            (f"strpos(',' || {request}.tags || ',', ',' || %s || ',') > 0", log_filter.tag),
            (_HOLDS.format(row=row), log_filter.text),
            (f"{row}.team = %s", log_filter.team),
            (f"{row}.member = %s", log_filter.user),
            (f"{row}.member = %s", None if hello["lead"] else hello["member"]),
        )
        terms = [(condition, value) for condition, value in fields if value is not None]
        clause, values = "".join(f" AND {condition}" for condition, _ in terms), [value for _, value in terms]
        if hello["lead"]:
            return f"{clause} AND ({row}.team = %s OR {row}.member = %s)", [*values, hello["team"], hello["member"]]
        return clause, values

    # --- pages ---

    def page(
        self, log_filter: LogFilter, rows: int, *, before: RowKey | None = None, skip: int = 0, order: Order = NEWEST
    ) -> list[LogRow]:
        """Return so many rows."""
        return self._here_or_there(
            lambda: self._page(log_filter, rows, before, skip, order),
            lambda: self._local.page(log_filter, rows, before=before, skip=skip, order=order),
        )

    def request(self, answer_id: str) -> LoggedRequest | None:
        """Return a request with its attempts and texts; others' texts are not this user's to see."""
        return self._here_or_there(lambda: self._request(answer_id), lambda: self._local.request(answer_id))

    def _request(self, answer_id: str) -> LoggedRequest | None:
        own, who = self._conditions(LogFilter(), "a")
        found = self._server.call(
            "SELECT a.time, a.notebook, a.tier, a.routed_tier, a.difficulty, x.prompt, x.system, x.text, x.reasons,"
            " x.notes FROM ipyrouter.answers a LEFT JOIN ipyrouter.texts x ON x.answer_id = a.id AND x.time = a.time"
            f" WHERE a.id = %s{own}",
            (answer_id, *who),
        )
        if not found:
            return None
        time, notebook, tier, routed, difficulty, prompt, system, text, reasons, notes = found[0]
        attempts = self._server.call(
            "SELECT t.tier, t.provider, t.model, t.status, t.cost_pico, t.saved_pico, t.input_tokens, t.output_tokens,"
            " t.latency, y.error FROM ipyrouter.attempts t LEFT JOIN ipyrouter.attempt_texts y"
            " ON y.answer_id = t.answer_id AND y.n = t.n AND y.time = t.time"
            " WHERE t.answer_id = %s AND t.time = %s ORDER BY t.n",
            (answer_id, time),
        )
        return LoggedRequest(
            answer_id, moment(time), notebook, tier, routed, difficulty, prompt, system, text, rows.lines(reasons),
            rows.lines(notes), tuple(LoggedAttempt(*attempt) for attempt in attempts),
        )  # fmt: skip

    def _page(self, log_filter: LogFilter, rows: int, before: RowKey | None, skip: int, order: Order) -> list[LogRow]:
        """Return a page; the sums tell which days hold rows, so that neither a distant page nor a rare model costs."""
        if order != NEWEST:
            return self._page_of(log_filter, span_of(log_filter), rows, skip=skip, order=order)
        since, until = span_of(log_filter)
        if before is not None:
            until = min(until, before.time + 1)
        result: list[LogRow] = []
        for day, number in self._days(log_filter, (since, until)):
            if before is None and skip >= number:
                skip -= number
                continue
            result += self._page_of(log_filter, day, rows - len(result), before=before, skip=skip)
            skip = 0
            if len(result) >= rows:
                break
        return result

    def _days(self, log_filter: LogFilter, whole: Span) -> Iterator[tuple[Span, int]]:
        """Yield the days that hold rows, newest first, and how many; the days at the span's ends are counted."""
        if _needs_rows(log_filter):
            yield whole, self._count(log_filter, whole)
            return
        since, until = whole
        clause, values = self._conditions(log_filter, "s", "s")
        query = (
            "SELECT s.day, sum(s.rows)::bigint FROM ipyrouter.sums s WHERE s.day >= %s AND s.day <= %s"
            f"{clause} GROUP BY s.day ORDER BY s.day DESC"
        )
        for day, number in self._server.call(query, (since // DAY, (until - 1) // DAY, *values)):
            begin, end = max(day * DAY, since), min((day + 1) * DAY, until)
            yield (begin, end), number if end - begin == DAY else self._count(log_filter, (begin, end))

    def _count(self, log_filter: LogFilter, within: Span) -> int:
        clause, values = self._conditions(log_filter, "t", "t")
        query = f"SELECT count(*) FROM {_MEASURED}{clause}"
        return int(self._server.call(query, (*within, *within, *values))[0][0])

    def _page_of(
        self,
        log_filter: LogFilter,
        within: Span,
        number: int,
        *,
        before: RowKey | None = None,
        skip: int = 0,
        order: Order = NEWEST,
    ) -> list[LogRow]:
        clause, values = self._conditions(log_filter, "t")
        if before is not None:
            clause += " AND (t.time, t.answer_id, t.n) < (%s, %s, %s)"
            values += before
        query = (
            "SELECT t.time, t.answer_id, t.n, t.tier, t.provider, t.model, t.status, t.cost_pico, t.saved_pico,"
            f" t.input_tokens, t.output_tokens, t.estimated = 1, t.latency, left(x.prompt, {_PROMPT})"
            f" FROM {_join(within)}{clause}"
            f" ORDER BY {rows.order_by(order.column, descending=order.descending)} LIMIT %s OFFSET %s"
        )
        return [LogRow(RowKey(*row[:3]), *row[3:]) for row in self._server.call(query, (*values, number, skip))]

    # --- sums ---

    def totals(
        self, log_filter: LogFilter, bucket: int | None = None, steps: Sequence[int] = (), by: Group | None = None
    ) -> list[Totals]:
        """Return exact sums over the log's rows."""
        return self._here_or_there(
            lambda: self._totals(log_filter, bucket, tuple(steps), by),
            lambda: self._local.totals(log_filter, bucket, steps, by),
        )

    def _totals(
        self, log_filter: LogFilter, bucket: int | None, steps: tuple[int, ...], by: Group | None
    ) -> list[Totals]:
        whole = span_of(log_filter)
        by_row = _needs_rows(log_filter) or by == "notebook"
        by_row = by_row or not set(steps) <= set(EDGES)
        if not by_row and bucket is not None and bucket % DAY:
            by_row = sum(number for _, number in self._days(log_filter, whole)) <= _FEW_ROWS
            bucket = bucket if by_row else max(bucket // DAY, 1) * DAY
        days, rest = _split(whole)
        parts = self._pieces(log_filter, whole) if by_row else rest
        found = [row for part in parts for row in self._scan(log_filter, part, bucket, steps, by)]
        if not by_row:
            found += self._whole_days(log_filter, days, bucket, steps, by)
        return [_totals(row) for row in found]

    def _pieces(self, log_filter: LogFilter, whole: Span) -> list[Span]:
        """Return the times between which each statement scans some rows: in all of a long log no one could."""
        pieces: list[Span] = []
        scanned = 0
        for (begin, end), number in self._days(replace(log_filter, notebook=None, session=None, text=None), whole):
            if pieces and scanned + number <= _MANY_ROWS:
                pieces[-1] = begin, pieces[-1][1]
                scanned += number
            else:
                pieces.append((begin, end))
                scanned = number
        return pieces

    def _whole_days(
        self, log_filter: LogFilter, days: Span, bucket: int | None, steps: tuple[int, ...], by: Group | None
    ) -> list[tuple[Any, ...]]:
        start = "0::bigint" if bucket is None else f"s.day::bigint * {DAY} / {bucket} * {bucket}"
        # A band of the sums lies between two edges; it exceeds the steps at and below its lower one.
        exceeded = [sum(step <= edge for step in steps) for edge in EDGES]
        band = " ".join(f"WHEN {place + 1} THEN {number}" for place, number in enumerate(exceeded))
        clause, values = self._conditions(log_filter, "s", "s")
        return self._server.call(
            f"SELECT {_group('s', by)}, {start}, {', '.join(_KEYS)}, CASE s.band {band} ELSE 0 END,"
            f" {', '.join(f'sum(s.{name})' for name in _MEASURES)} FROM ipyrouter.sums s"
            f" WHERE s.day >= %s AND s.day < %s{clause} GROUP BY {_GROUPS}",
            (*days, *values),
        )

    def _scan(
        self, log_filter: LogFilter, within: Span, bucket: int | None, steps: tuple[int, ...], by: Group | None
    ) -> list[tuple[Any, ...]]:
        start = "0::bigint" if bucket is None else f"t.time / {bucket} * {bucket}"
        band = " + ".join(f"(t.read_tokens > {step})::int" for step in steps) or "0"
        clause, values = self._conditions(log_filter, "t", "t")
        return self._server.call(
            f"SELECT {_group('t', by)}, {start}, {', '.join(_KEYS)}, {band},"
            f" {', '.join(f'sum(t.{name})' for name in _MEASURES)} FROM {_MEASURED}{clause} GROUP BY {_GROUPS}",
            (*within, *within, *values),
        )

    # --- ranks and choices ---

    def top(
        self, since: dt.datetime | None, until: dt.datetime | None, by: Literal["cost", "latency"], count: int
    ) -> list[RankedRequest]:
        """Return the requests of a time that cost or took most."""
        return self._here_or_there(
            lambda: self._top(span(since, until), by, count), lambda: self._local.top(since, until, by, count)
        )

    def _top(self, whole: Span, by: Literal["cost", "latency"], count: int) -> list[RankedRequest]:
        """Return the first requests: a day whose most is less than all of them is not even looked at."""
        bound, value = ("most_pico", "spent_pico") if by == "cost" else ("most_took", "took")
        own, who = self._conditions(LogFilter(), "s")
        days = self._server.call(
            f"SELECT s.day, max(s.{bound}) FROM ipyrouter.sums s WHERE s.day >= %s AND s.day <= %s{own}"
            f" GROUP BY s.day HAVING max(s.{bound}) > 0 ORDER BY 2 DESC",
            (whole[0] // DAY, whole[1] // DAY, *who),
        )
        query = (
            "SELECT a.id, a.time, a.provider, a.model, a.spent_pico, a.unpriced, a.took, x.prompt"
            f" FROM (SELECT * FROM ipyrouter.answers s WHERE s.time >= %s AND s.time < %s AND s.{value} > 0{own}"
            f" ORDER BY s.{value} DESC, s.time LIMIT %s) a"
            " LEFT JOIN ipyrouter.texts x ON x.answer_id = a.id AND x.time = a.time AND x.time >= %s AND x.time < %s"
        )
        ranking: list[tuple[int, RankedRequest]] = []
        for day, most in days:
            if len(ranking) == count and most <= ranking[-1][0]:
                break
            begin, end = max(day * DAY, whole[0]), min((day + 1) * DAY, whole[1])
            for name, time, provider, model, pico, unpriced, took, prompt in self._server.call(
                query, (begin, end, *who, count, begin, end)
            ):
                request = RankedRequest(name, moment(time), provider, model, pico, unpriced, took / 1e9, prompt)
                ranking.append((pico if by == "cost" else took, request))
            ranking = sorted(ranking, key=lambda one: (-one[0], one[1].time))[:count]
        return [request for _, request in ranking]

    def overview(self, days: int) -> Overview:
        """Return what the log holds."""
        return self._here_or_there(lambda: self._overview(days), lambda: self._local.overview(days))

    def _overview(self, days: int) -> Overview:
        own, who = self._conditions(LogFilter(), "s")
        query = f"SELECT min(s.day)::bigint, max(s.day)::bigint FROM ipyrouter.sums s WHERE true{own}"
        ((first_day, last_day),) = self._server.call(query, who)
        if first_day is None:
            return Overview(0, 0, (), ())
        first, last = (self._edge(edge, day, own, who) for edge, day in (("min", first_day), ("max", last_day)))
        query = f"SELECT DISTINCT s.day FROM ipyrouter.sums s WHERE true{own} ORDER BY s.day DESC LIMIT %s"
        newest = tuple(f"{moment(day * DAY):%Y-%m-%d}" for (day,) in self._server.call(query, (*who, days)))
        query = f"SELECT DISTINCT s.model, s.member, s.tags FROM ipyrouter.sums s WHERE true{own}"
        models, users, combined = (set(values) for values in zip(*self._server.call(query, who), strict=True))
        tags = {tag for value in combined for tag in tagging.split(value)}
        return Overview(first, last, newest, tuple(sorted(models)), tuple(sorted(users)), tuple(sorted(tags)))

    def _edge(self, edge: str, day: int, own: str, who: list[Any]) -> int:
        """Return the first or the last time of a day; where retention has dropped its rows, the day's beginning."""
        query = f"SELECT {edge}(s.time) FROM ipyrouter.attempts s WHERE s.time >= %s AND s.time < %s{own}"
        ((time,),) = self._server.call(query, (day * DAY, (day + 1) * DAY, *who))
        return day * DAY if time is None else int(time)

    def last_calls(self) -> list[LastCall]:
        """Return the last call of every model in the log, oldest first."""
        return self._here_or_there(self._last_calls, self._local.last_calls)

    def _last_calls(self) -> list[LastCall]:
        own, who = self._conditions(LogFilter(), "s")
        found = self._server.call(
            "SELECT m.provider, m.model, c.time, c.status, c.error FROM ("
            f" SELECT s.provider, s.model, max(s.day)::bigint AS day FROM ipyrouter.sums s WHERE s.sent > 0{own}"
            " GROUP BY s.provider, s.model) m CROSS JOIN LATERAL ("
            " SELECT s.time, s.status, y.error FROM ipyrouter.attempts s LEFT JOIN ipyrouter.attempt_texts y"
            " ON y.answer_id = s.answer_id AND y.time = s.time AND y.n = s.n"
            f" WHERE s.time >= m.day * {DAY} AND s.time < (m.day + 1) * {DAY} AND s.provider = m.provider"
            f" AND s.model = m.model AND {_IS_CALL}{own}"
            " ORDER BY s.time DESC, s.answer_id DESC, s.n DESC LIMIT 1) c ORDER BY c.time",
            (*who, *who),
        )
        return [LastCall(provider, model, moment(time), *rest) for provider, model, time, *rest in found]


def _needs_rows(log_filter: LogFilter) -> bool:
    """Tell whether a filter asks for what the sums do not tell apart."""
    return needs_rows(log_filter) or log_filter.session is not None


def _split(whole: Span) -> tuple[Span, list[Span]]:
    """Return the whole days of a span, as numbers from 1970, and what is left of it at both ends."""
    since, until = whole
    first, last = -(-since // DAY), until // DAY
    if first >= last:
        return (0, 0), [whole]
    ends = ((since, first * DAY), (last * DAY, until))
    return (first, last), [part for part in ends if part[0] < part[1]]


def _group(row: str, by: Group | None) -> str:
    """Return SQL for the value of the column that sums are also grouped by."""
    return "''" if by is None else f"COALESCE({row}.{'member' if by == 'user' else by}, '')"


def _totals(row: tuple[Any, ...]) -> Totals:
    keys, numbers = row[: -len(_MEASURES)], row[-len(_MEASURES) :]
    return Totals.of(keys, {name: int(number) for name, number in zip(_MEASURES, numbers, strict=True)})


def _table(found: list[tuple[Any, ...]], *, content: bool) -> LogTable:
    """Return rows of the log as columns."""
    with interrupts.Deferred():  # numpy cannot be imported again once its import was interrupted
        import numpy as np

    columns: dict[str, NDArray[Any]] = {}
    categories: dict[str, tuple[NDArray[Any], list[Any]]] = {}
    values_of = list(zip(*found, strict=True)) if found else [()] * len(rows.LOG)
    for column, values in zip(rows.LOG, values_of, strict=True):
        if column.kind in (Kind.NAME, Kind.TIER, Kind.FLAG):
            known = [value for value in dict.fromkeys(values) if _is_category(column, value)]
            places = {value: place for place, value in enumerate(known)}
            codes = np.array([places.get(value, -1) for value in values], np.int32)
            categories[column.name] = codes, known
        elif column.kind in (Kind.ID, Kind.TEXT):
            if column.kind is Kind.ID or content:
                columns[column.name] = np.empty(len(values), np.object_)
                columns[column.name][:] = values
        elif column.kind in (Kind.SECONDS, Kind.SHARE):
            columns[column.name] = np.array([np.nan if value is None else value for value in values], np.float64)
        else:
            columns[column.name] = np.array([-1 if value is None else value for value in values], np.int64)
    return LogTable(columns, categories)


def _is_category(column: Column, value: Any) -> bool:
    return value in TIERS if column.kind is Kind.TIER else value is not None
