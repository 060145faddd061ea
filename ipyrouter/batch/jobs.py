"""A run through the providers' batch APIs: submitted, waited for in this process or a later one, collected.

A job's id is in the store before anything else happens. The answers of a job come into cache and log under ids made of
the job and the request, so that collecting it twice records nothing twice.
"""

from __future__ import annotations

import functools
import hashlib
import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from decimal import Decimal
from typing import Any

from ipyrouter.batch import rows
from ipyrouter.batch.progress import Progress
from ipyrouter.batch.rows import Row
from ipyrouter.batch.runner import Tools
from ipyrouter.errors import BudgetError, RouteError, SchemaError, error_of
from ipyrouter.providers import Clients
from ipyrouter.providers.base import Fault
from ipyrouter.providers.batches import Result
from ipyrouter.routing.budget import Refusal
from ipyrouter.routing.pipeline import Prepared
from ipyrouter.routing.planner import Step
from ipyrouter.routing.recorder import RequestRun
from ipyrouter.routing.validation import weakness
from ipyrouter.store.base import Store, microseconds
from ipyrouter.store.owners import batch_owner
from ipyrouter.text.amounts import count, dollars
from ipyrouter.types import Candidate, Request

_CHUNK = 128
_FIRST_POLL, _LAST_POLL = 30.0, 600.0  # seconds between two questions
_KEPT = 30 * 86_400.0  # seconds: providers keep results for 29 days at most


@dataclass(frozen=True, slots=True)
class Job:
    """A job at a provider: its id there, to whom its requests went, their keys, who holds its money, and since when."""

    id: str
    provider: str
    model: str
    keys: tuple[str, ...]
    owner: str
    submitted: int  # microseconds since 1970

    @property
    def candidate(self) -> Candidate:
        """The model that answers it."""
        return Candidate(self.provider, self.model)


@dataclass(frozen=True, slots=True)
class _Item:
    """A request that a batch API may answer, and its place."""

    place: int
    prepared: Prepared
    step: Step
    key: str


class BatchRun:
    """One run over distinct requests through batch APIs.

    Args:
        tools: What it asks with.
        clients: What talks to the providers.
        store: Releases the money of a job that is over.
        run_id: Under which id answers are pinned.
        jobs: Those that are still open.
        save: Writes the open jobs into the store.
    """

    def __init__(
        self,
        tools: Tools,
        clients: Clients,
        store: Store,
        run_id: str,
        *,
        jobs: Sequence[Mapping[str, Any]],
        save: Callable[[list[dict[str, Any]]], None],
    ) -> None:
        self._tools = tools
        self._clients = clients
        self._store = store
        self._run_id = run_id
        self._jobs = [Job(**{**job, "keys": tuple(job["keys"])}) for job in jobs]
        self._save = save
        self._items: dict[str, _Item] = {}
        self.rows: list[Row | None] = []
        self.progress = Progress(0)

    @property
    def open(self) -> int:
        """How many jobs are open."""
        return len(self._jobs)

    def run(self, requests: Sequence[Request], *, most: Decimal | None, wait: bool) -> None:
        """Submit what is neither in the cache nor in an open job, and collect what is ready.

        Args:
            requests: The distinct requests.
            most: Dollars that what is submitted now may cost.
            wait: Whether to wait until all jobs are over; Ctrl-C ends that.

        Raises:
            BudgetError: What is to be submitted could cost more than a budget leaves; nothing was.
        """
        self.rows = [None] * len(requests)
        self.progress = Progress(len(requests))
        self._prepare(requests)
        try:
            self._collect()
            self._submit(most)
            pause = _FIRST_POLL
            while self._jobs and wait:
                self._show()
                self._tools.clock.wait(threading.Event(), pause)
                pause = min(pause * 1.5, _LAST_POLL)
                self._collect()
        except KeyboardInterrupt:
            pass  # the jobs go on at the provider
        for job in self._jobs:
            for item in self._of(job):
                self.rows[item.place] = Row("in batch", f"in the batch {job.id} of {job.provider}; call map again")
        self.progress.finished = True
        self._show()

    def _show(self) -> None:
        waiting = sum(len(self._of(job)) for job in self._jobs)
        self.progress.note = f"{count(waiting, 'request')} in {count(len(self._jobs), 'batch')}" if waiting else ""
        self._tools.show(self.progress)

    def _prepare(self, requests: Sequence[Request]) -> None:
        for start in range(0, len(requests), _CHUNK):
            chunk = self._tools.pipeline.prepare(requests[start : start + _CHUNK])
            if hits := [prepared.hit.key for prepared in chunk if prepared.hit is not None]:
                self._tools.store.pin(self._run_id, hits)
            for place, prepared in enumerate(chunk, start):
                if prepared.hit is not None:
                    self._done(place, rows.of_hit(prepared))
                    continue
                if prepared.plan.missing is not None:
                    raise prepared.plan.missing
                step = next((s for s in prepared.plan.first.steps if self._clients.most_in_batch(s.candidate)[0]), None)
                if step is None:
                    first = prepared.plan.first.steps[0].candidate
                    words = f"{first} has no batch API. Name a model of OpenAI or Anthropic, or leave delivery out."
                    self._done(place, Row("error", words))
                    continue
                item = _Item(place, prepared, step, step.call.key().hex())
                self._items[item.key] = item

    # --- submitting ---

    def _submit(self, most: Decimal | None) -> None:
        taken = {key for job in self._jobs for key in job.keys}
        by_model: dict[Candidate, list[_Item]] = {}
        for item in self._items.values():
            if item.key not in taken and self.rows[item.place] is None:
                by_model.setdefault(item.step.candidate, []).append(item)
        allowed = [(item, worst) for items in by_model.values() for item, worst in self._affordable(items, most)]
        all_ = sum((worst for _, worst in allowed), Decimal(0))
        if most is not None and all_ > most:
            raise BudgetError(
                f"Nothing was sent: the batch could cost {dollars(all_)}, more than this run's budget of"
                f" {dollars(most)}.",
                "Raise budget, limit the answers with max_output_tokens, or leave delivery out.",
            )
        worsts = {item.key: worst for item, worst in allowed}
        for candidate, items in by_model.items():
            for part in self._parts(candidate, [item for item in items if item.key in worsts]):
                self._submit_part(candidate, part, sum((worsts[item.key] for item, _ in part), Decimal(0)))

    def _affordable(self, items: Sequence[_Item], most: Decimal | None) -> Iterator[tuple[_Item, Decimal]]:
        """Yield the items with what each can cost at most, at the standard price: it is half of that."""
        budget = self._tools.pipeline.budget
        for item in items:
            worst: Decimal | Refusal = Decimal(0)
            if budget.active or most is not None:
                worst = budget.worst_case(item.step, item.prepared.request, 0)
            if isinstance(worst, Refusal):
                self._done(item.place, Row("budget", worst.reason))
            else:
                yield item, worst

    def _parts(self, candidate: Candidate, items: Sequence[_Item]) -> Iterator[list[tuple[_Item, dict[str, Any]]]]:
        """Yield the items with their bodies in parts that the provider takes as one job."""
        most, most_bytes = self._clients.most_in_batch(candidate)
        part: list[tuple[_Item, dict[str, Any]]] = []
        size = 0
        for item in items:
            body = self._clients.batch_body(candidate, item.step.call)
            length = len(json.dumps(body)) + 200  # the line around it
            if length > most_bytes:
                self._done(
                    item.place, Row("error", f"the request has {length:,} bytes, and a batch takes {most_bytes:,}")
                )
                continue
            if part and (len(part) >= most or size + length > most_bytes):
                yield part
                part, size = [], 0
            part.append((item, body))
            size += length
        if part:
            yield part

    def _submit_part(self, candidate: Candidate, part: list[tuple[_Item, dict[str, Any]]], worst: Decimal) -> None:
        owner, items = batch_owner(), [item for item, _ in part]
        refusal = self._tools.pipeline.budget.reserve(worst, owner, _KEPT)
        if refusal is not None:
            self._fail(items, Row("budget", refusal.reason))
            return
        try:
            job = self._clients.submit(candidate, [(item.key, body) for item, body in part], items[0].step.call)
        except Fault as fault:
            self._store.release(owner)
            self._fail(items, Row("error", f"{candidate}: the batch was not taken: {fault.message}"))
            return
        now = microseconds(self._tools.clock.now())
        keys = tuple(item.key for item in items)
        self._jobs.append(Job(job, candidate.provider, candidate.model, keys, owner, now))
        self._save_jobs()

    # --- collecting ---

    def _collect(self) -> None:
        """Ask after each open job, and take the results of those that are over."""
        for job in tuple(self._jobs):
            items = self._of(job)
            call = items[0].step.call if items else None
            if call is None:  # of rows that this call does not have; they stay until their own come again
                continue
            try:
                status = self._clients.poll(job.candidate, job.id, call)
                results = self._clients.results(job.candidate, job.id, call) if status.state == "ended" else []
            except Fault as fault:
                self.progress.note = f"{job.provider}: {fault.message}"
                if fault.kind == "not_found":
                    self._fail(items, Row("error", f"{job.provider} does not know the batch {job.id} any more"))
                    self._close(job)
                continue
            if status.state == "running":
                continue
            for result in results:
                if (item := self._items.get(result.custom_id)) is not None and result.custom_id in job.keys:
                    self._done(item.place, self._record(job, item, result))
            why = status.error or "the batch ended without an answer to it: it expired or was cancelled"
            self._fail(
                [item for item in items if self.rows[item.place] is None], Row("error", f"batch {job.id}: {why}")
            )
            self._close(job)

    def _record(self, job: Job, item: _Item, result: Result) -> Row:
        """Put a result into cache and log, and return its row."""
        tools, step, request = self._tools, item.step, item.prepared.request
        run = RequestRun(request, tools.session, tools.clock, run_id=self._run_id)
        digest = hashlib.sha256(f"{job.id} {item.key}".encode()).hexdigest()
        run.id = f"{job.submitted:014x}{digest[:18]}"  # the same whenever it is collected
        pricing = tools.pipeline.pricing
        try:
            with tools.pipeline.recorder.open(run):
                run.classification, run.tier_plan = item.prepared.classification, item.prepared.plan.first
                attempt = run.begin(step, functools.partial(pricing.context_window, step.candidate))
                try:
                    completion = self._clients.batch_completion(step.candidate, result, attempt.collector)
                except Fault as fault:
                    attempt.failed(fault, fault.message, pricing)
                    words = f"{step.candidate}: {fault.message}"
                    raise RouteError(words, "", run.attempts, error_of(fault.kind)(words)) from None
                attempt.completed(completion, pricing)
                reason = weakness(request, completion, step.tier)
                if reason is not None:
                    run.mark_weak(reason)
                _check_data(run, reason)
                run.finish(run.attempts[-1])
                if reason is None and completion.finish == "stop":
                    run.cache_key = step.call.key()
        except (RouteError, SchemaError) as error:
            return rows.of_error(error)
        if run.answer is None:
            raise RuntimeError("a result ended without an answer or an error")
        return rows.of_answer(run.answer, has_schema=request.schema is not None)

    def _close(self, job: Job) -> None:
        self._store.release(job.owner)
        self._jobs.remove(job)
        self._save_jobs()

    # --- small things ---

    def _of(self, job: Job) -> list[_Item]:
        """Return those of a job's requests that have no row yet."""
        known = (self._items.get(key) for key in job.keys)
        return [item for item in known if item is not None and self.rows[item.place] is None]

    def _fail(self, items: Sequence[_Item], row: Row) -> None:
        for item in items:
            self._done(item.place, row)

    def _done(self, place: int, row: Row) -> None:
        self.rows[place] = row
        self.progress.add(row)

    def _save_jobs(self) -> None:
        self._save([asdict(job) for job in self._jobs])


def _check_data(run: RequestRun, weak: str | None) -> None:
    """Raise SchemaError where the answer does not hold what the schema asks for."""
    last = run.attempts[-1]
    if run.request.schema is not None and (weak is not None or last.finish == "refusal"):
        raise SchemaError(f"{last.candidate}: {weak or 'it refused to answer'}", "", last.text, run.attempts)
