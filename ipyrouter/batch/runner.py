"""Asks many requests at once: the main thread looks into the cache and feeds, worker threads ask."""

from __future__ import annotations

import itertools
import queue
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from ipyrouter.batch import rows
from ipyrouter.batch.limits import Limiter
from ipyrouter.batch.progress import Progress, Show
from ipyrouter.batch.rows import Row
from ipyrouter.clock import Clock
from ipyrouter.errors import RateLimitError, RouteError
from ipyrouter.routing.pipeline import Pipeline, Prepared
from ipyrouter.routing.planner import input_tokens
from ipyrouter.routing.recorder import RequestRun
from ipyrouter.store.base import RunStore
from ipyrouter.types import Request, Session

_CHUNK = 128  # requests that are looked up in the cache together
_TICK = 0.2  # seconds between two looks at what has happened
_SHOW = 1.0  # seconds between two pictures of the progress
_PINS = 500  # answers from the cache that are pinned together
_IN_A_ROW = 20  # failures without an answer between them: the others would fail as well
_PATIENCE = 900.0  # seconds that a row is asked again after 429s
_STOPPING = 1.5  # seconds that calls in flight get after a stop

Work = tuple[int, Prepared]


@dataclass(frozen=True, slots=True)
class Tools:
    """What a run asks with."""

    pipeline: Pipeline
    limiter: Limiter
    store: RunStore
    session: Session
    clock: Clock
    show: Show
    most: int  # worker threads


class Runner:
    """One run over distinct requests, whose answers it keeps by their place.

    Args:
        tools: What it asks with.
        run_id: Under which id answers are pinned.
        count: How many requests there are.
    """

    def __init__(self, tools: Tools, run_id: str, count: int) -> None:
        self._tools = tools
        self._run_id = run_id
        self.rows: list[Row | None] = [None] * count
        self.progress = Progress(count)
        self._work: queue.Queue[Work | None] = queue.Queue(tools.most)
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self._runs: dict[str, RequestRun] = {}
        self._pins: list[bytes] = []
        self._failures = 0
        self._shown = 0.0
        self.stopped = False

    def run(self, requests: Iterable[tuple[int, Request]]) -> None:
        """Ask all requests, until they are done, the user stops it or too many fail in a row.

        Args:
            requests: Each with its place.

        Raises:
            NoModelError: Nothing can be asked at all.
        """
        try:
            try:
                self._feed(requests)
                self._finish()
            except KeyboardInterrupt:
                self._stop("stopped by the user")
                self._drain()
        except BaseException:
            self._stop("ended by an error")
            raise
        finally:
            self._pin(0)
            self.progress.finished = True
            self._tools.show(self.progress)

    def _feed(self, requests: Iterable[tuple[int, Request]]) -> None:
        for chunk in _chunks(requests, _CHUNK):
            if self.stopped:
                return
            prepared = self._tools.pipeline.prepare([request for _, request in chunk])
            for (place, _), one in zip(chunk, prepared, strict=True):
                if one.hit is not None:
                    self._pins.append(one.hit.key)
                    self._done(place, rows.of_hit(one))
                elif one.plan.missing is not None and not self.progress.asked:
                    raise one.plan.missing
                elif (unfit := self._unfit(one)) is not None:
                    self._done(place, rows.Row("error", unfit))
                elif not self._put((place, one)):
                    return
            self._look()

    def _unfit(self, prepared: Prepared) -> str | None:
        """Return why a request that may wait cannot be sent so: at the full price it is not sent."""
        if not prepared.request.flex:
            return None
        candidate = (prepared.plan.first.steps or prepared.plan.first.cacheable)[0].candidate
        if self._tools.limiter.has_flex(candidate):
            return None
        return f"{candidate} has no flex processing. Name a model of OpenAI, or leave delivery out."

    def _put(self, work: Work) -> bool:
        """Hand work to the threads; False where the run was stopped meanwhile."""
        if len(self._threads) < self._tools.most:
            thread = threading.Thread(target=self._serve, name="ipyrouter-map", daemon=True)
            self._threads.append(thread)
            thread.start()
        while not self.stopped:
            try:
                self._work.put(work, timeout=_TICK)
            except queue.Full:
                self._look()
            else:
                return True
        return False

    def _finish(self) -> None:
        """Wait for the threads to end their work."""
        for _ in self._threads:
            while not self.stopped:
                try:
                    self._work.put(None, timeout=_TICK)
                except queue.Full:
                    self._look()
                else:
                    break
        for thread in self._threads:
            while thread.is_alive() and not self.stopped:
                thread.join(_TICK)
                self._look()
        if self.stopped:
            self._drain()

    def _stop(self, why: str) -> None:
        self.stopped = True
        self.progress.note = self.progress.note or why
        self._tools.limiter.stop()

    def _drain(self) -> None:
        """Give the calls in flight a moment, then end them; each is recorded with what it has spent."""
        until = time.monotonic() + _STOPPING
        for thread in self._threads:
            thread.join(max(until - time.monotonic(), 0.0))
        with self._lock:
            for run in self._runs.values():
                run.interrupts.cancel()
        for thread in self._threads:
            thread.join(0.5)

    # --- on the worker threads ---

    def _serve(self) -> None:
        while (work := self._work.get()) is not None and not self.stopped:
            place, prepared = work
            try:
                row = self._ask(prepared)
            except Exception as error:  # noqa: BLE001  a row's fault must not end the thread
                row = rows.of_error(error)
            if row is not None:
                self._done(place, row)
        while self.stopped:  # let the feeder go on
            try:
                self._work.get_nowait()
            except queue.Empty:
                return

    def _ask(self, prepared: Prepared) -> Row | None:
        """Return what became of a request; None where it was not sent."""
        until = time.monotonic() + _PATIENCE
        step = (prepared.plan.first.steps or prepared.plan.first.cacheable)[0]
        with self._lock:
            self.progress.asked += 1
        while True:
            with self._tools.limiter.slot(step.candidate, input_tokens(step.call)) as entered:
                if not entered:
                    return None
                row, limited = self._route(prepared)
            if not limited or self.stopped or time.monotonic() > until:
                return row

    def _route(self, prepared: Prepared) -> tuple[Row, bool]:
        """Return a row, and whether only the provider's rate limit was in its way."""
        run = RequestRun(prepared.request, self._tools.session, self._tools.clock, run_id=self._run_id)
        with self._lock:
            self._runs[run.id] = run
            self.progress.in_flight += 1
        try:
            answer = self._tools.pipeline.run(run, prepared)
        except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001  whatever became of one row, the others go on
            limited = isinstance(error, RouteError) and isinstance(error.fault, RateLimitError)
            return rows.of_error(error), limited
        else:
            return rows.of_answer(answer, has_schema=prepared.request.schema is not None), False
        finally:
            with self._lock:
                del self._runs[run.id]
                self.progress.in_flight -= 1

    def _done(self, place: int, row: Row) -> None:
        self.rows[place] = row
        with self._lock:
            self.progress.add(row)
            self._failures = self._failures + 1 if row.status in ("error", "budget") else 0
            give_up = self._failures >= _IN_A_ROW
        if give_up and not self.stopped:
            self._stop(f"stopped after {_IN_A_ROW} failures in a row: {row.error}")

    # --- on the main thread ---

    def _look(self) -> None:
        """Pin what was in the cache, and show how far the run is."""
        self._pin(_PINS)
        now = time.monotonic()
        if now - self._shown >= _SHOW:
            self._shown = now
            self.progress.refusals = self._tools.limiter.refusals
            self._tools.show(self.progress)

    def _pin(self, least: int) -> None:
        if len(self._pins) <= least:
            return
        pins, self._pins = self._pins, []
        self._tools.store.pin(self._run_id, pins)


def _chunks(items: Iterable[tuple[int, Request]], size: int) -> Iterator[Sequence[tuple[int, Request]]]:
    iterator = iter(items)
    while chunk := list(itertools.islice(iterator, size)):
        yield chunk
