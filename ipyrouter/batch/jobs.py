"""A run through the providers' batch APIs: submitted, waited for in this process or a later one, collected.

A job is in the store before it is submitted, and its id before anything else happens; where the process died in
between, it is looked for at the provider. The answers of a job come into cache and log under ids made of
the job and the request, so that collecting it twice records nothing twice.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import json
import threading
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from decimal import Decimal
from typing import Any

from ipyrouter.batch import rows
from ipyrouter.batch.progress import Progress
from ipyrouter.batch.rows import Row
from ipyrouter.batch.runner import Tools
from ipyrouter.errors import BudgetError, RouteError, SchemaError, UsageError, error_of
from ipyrouter.providers import Clients
from ipyrouter.providers.base import Call, Fault
from ipyrouter.providers.batches import Result
from ipyrouter.routing.budget import Refusal
from ipyrouter.routing.pipeline import Prepared
from ipyrouter.routing.planner import Step
from ipyrouter.routing.recorder import RequestRun
from ipyrouter.routing.validation import weakness
from ipyrouter.store.base import Store, microseconds
from ipyrouter.store.owners import batch_owner
from ipyrouter.text.amounts import count, dollars
from ipyrouter.types import Candidate, Prompt, Request

_CHUNK = 128
_FIRST_POLL, _LAST_POLL = 30.0, 600.0  # seconds between two questions
_SETTLING = 300.0  # seconds after which a job that is not at the provider was not taken
_NOT_TAKEN = ("auth", "forbidden", "bad_request", "refused", "context", "not_found", "rate_limit", "quota", "connect")
NOT_KEPT = "(not kept)"  # stands for a prompt that may not be stored
_KEPT = 30 * 86_400.0  # seconds: providers keep results for 29 days at most


@dataclass(frozen=True, slots=True)
class Job:
    """A job at a provider: its id there, to whom its requests went, their keys, who holds its money, and since when.

    The id is "" while it is not known whether the provider has taken it.
    """

    id: str
    provider: str
    model: str
    keys: tuple[str, ...]
    owner: str
    submitted: int  # microseconds since 1970
    prompts: str = ""  # packed; "" where none may be kept

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


def _read(state: Mapping[str, Any], run_id: str) -> Job:
    """Return a job as it is in the store; what a newer version has added is left out."""
    names = {one.name for one in fields(Job)}
    try:
        values: dict[str, Any] = {name: value for name, value in state.items() if name in names}
        return Job(**{**values, "keys": tuple(values["keys"])})
    except (AttributeError, KeyError, TypeError):
        raise UsageError(
            f"The run {run_id!r} has a batch at its provider that another version of ipyrouter has written.",
            "Collect it with that version.",
        ) from None


def pack(prompts: Sequence[str]) -> str:
    """Return prompts as a short string, for the state of a run."""
    return base64.b64encode(zlib.compress(json.dumps(prompts).encode())).decode("ascii")


def unpack(packed: str) -> list[str]:
    """Return the prompts in a packed string."""
    prompts: list[str] = json.loads(zlib.decompress(base64.b64decode(packed)))
    return prompts


class BatchRun:
    """One run over distinct requests through batch APIs.

    Args:
        tools: What it asks with.
        clients: What talks to the providers.
        store: Releases the money of a job that is over.
        run_id: Under which id answers are pinned.
        base: The request that all of them are alike but for the prompt.
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
        base: Request,
        jobs: Sequence[Mapping[str, Any]],
        save: Callable[[list[dict[str, Any]]], None],
    ) -> None:
        self._tools = tools
        self._clients = clients
        self._store = store
        self._run_id = run_id
        self._base = base
        self._jobs = [_read(job, run_id) for job in jobs]
        self._save = save
        self._items: dict[str, _Item] = {}
        self._promised: Decimal | None = None  # dollars that what this call has submitted may cost; None: nothing yet
        self._own = 0  # places of this call's requests; those of an open job that it does not have stand behind them
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
            most: Dollars that what this call submits may cost together.
            wait: Whether to wait until all jobs are over; Ctrl-C ends that.

        Raises:
            BudgetError: What is to be submitted could cost more than a budget leaves; nothing was.
        """
        self.rows, self._own = [None] * len(requests), len(requests)
        self.progress = Progress(len(requests))
        self._prepare(requests)
        self._go_on(functools.partial(self._submit, most), wait=wait)

    def attach(self, *, wait: bool) -> list[str]:
        """Collect the open jobs without their data, and return their prompts, or their keys where none are kept.

        Args:
            wait: As in :meth:`run`.
        """
        names = [name for job in self._jobs for name in self._adopt(job)]
        self._go_on(lambda: None, wait=wait)
        return names

    def _go_on(self, submit: Callable[[], None], *, wait: bool) -> None:
        """Collect what is ready, submit what is missing, and wait for the rest where that is wanted."""
        try:
            for job in self._jobs:
                self._adopt(job)
            self._collect()
            submit()
            pause = _FIRST_POLL
            while self._jobs and wait:
                self._show()
                self._tools.clock.wait(threading.Event(), pause)
                pause = min(pause * 1.5, _LAST_POLL)
                self._collect()
                submit()  # those of a job that has not arrived
        except KeyboardInterrupt:
            pass  # the jobs go on at the provider
        for job in self._jobs:
            where = f"the batch {job.id}" if job.id else "a batch that may not have arrived"
            for item in self._of(job):
                self.rows[item.place] = Row("in batch", f"in {where} of {job.provider}; call map again")
        self.progress.finished = True
        self._show()

    def _adopt(self, job: Job) -> list[str]:
        """Know all requests of a job, also those of rows that this call does not have: their answers are paid."""
        prompts = unpack(job.prompts) if job.prompts else [""] * len(job.keys)
        unknown = [pair for pair in zip(job.keys, prompts, strict=True) if pair[0] not in self._items]
        for start in range(0, len(unknown), _CHUNK):
            chunk = unknown[start : start + _CHUNK]
            requests = [replace(self._base, prompt=Prompt.of(prompt or NOT_KEPT)) for _, prompt in chunk]
            for (key, _), prepared in zip(chunk, self._tools.pipeline.prepare(requests), strict=True):
                self._add(job, key, prepared)
        return [prompt or key for key, prompt in zip(job.keys, prompts, strict=True)]

    def _add(self, job: Job, key: str, prepared: Prepared) -> None:
        """Know a request of a job, in a row behind those of this call."""
        if all(step.candidate != job.candidate for step in prepared.plan.first.steps):  # the config has changed
            request = replace(prepared.request, model=str(job.candidate))
            (prepared,) = self._tools.pipeline.prepare([request])
        if prepared.plan.missing is not None:
            raise prepared.plan.missing
        step = next(step for step in prepared.plan.first.steps if step.candidate == job.candidate)
        self._items[key] = _Item(len(self.rows), prepared, step, key)
        self.rows.append(None)
        self.progress.total += 1

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
            if item.place < self._own and item.key not in taken and self.rows[item.place] is None:
                by_model.setdefault(item.step.candidate, []).append(item)
        allowed = [(item, worst) for items in by_model.values() for item, worst in self._affordable(items, most)]
        all_ = sum((worst for _, worst in allowed), Decimal(0))
        if most is not None and self._promised is None and all_ > most:
            raise BudgetError(
                f"Nothing was sent: the batch could cost {dollars(all_)}, more than this run's budget of"
                f" {dollars(most)}.",
                "Raise budget, limit the answers with max_output_tokens, or leave delivery out.",
            )
        if most is not None and self._promised is not None and self._promised + all_ > most:
            # While it waits: requests of a job that has never arrived, for which what else was sent leaves too little.
            left = f"and {dollars(most - self._promised)} is left of this run's budget of {dollars(most)}"
            self._fail([item for item, _ in allowed], Row("budget", f"the batch could cost {dollars(all_)}, {left}"))
            return
        self._promised = all_ + (self._promised or 0)
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
        keys, prompts = tuple(item.key for item in items), ""
        if self._tools.pipeline.config.log_content:
            prompts = pack([item.prepared.request.prompt.text for item in items])
        now = microseconds(self._tools.clock.now())
        job = Job("", candidate.provider, candidate.model, keys, owner, now, prompts)
        self._jobs.append(job)
        self._save_jobs()
        try:
            found = self._clients.submit(
                candidate, owner, [(item.key, body) for item, body in part], items[0].step.call
            )
        except Fault as fault:
            if fault.kind in _NOT_TAKEN:
                self._close(job)
                self._fail(items, Row("error", f"{candidate}: the batch was not taken: {fault.message}"))
            return  # else it may have been, and is looked for
        self._jobs[self._jobs.index(job)] = replace(job, id=found)
        self._save_jobs()

    # --- collecting ---

    def _collect(self) -> None:
        """Ask after each open job, and take the results of those that are over."""
        for stored in tuple(self._jobs):
            job, items = stored, self._of(stored)
            call = items[0].step.call
            try:
                if not job.id:
                    found = self._found(job, call)
                    if found is None:
                        continue
                    job = found
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

    def _found(self, job: Job, call: Call) -> Job | None:
        """Look for a job that may have been submitted; None where it is not known, or was not."""
        since = job.submitted / 1e6
        search = self._clients.find(job.candidate, job.owner, job.keys, since, call)
        if search.id:
            place = self._jobs.index(job)
            self._jobs[place] = replace(job, id=search.id)
            self._save_jobs()
            return self._jobs[place]
        if not search.undecided and self._tools.clock.now().timestamp() - since > _SETTLING:
            self._close(job)  # those of its requests that this call has go out again
        return None

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
                    run.cache_key = bytes.fromhex(item.key)
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
