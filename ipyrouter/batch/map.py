"""A prompt over a column: from data to a plan, a run, and a frame."""

from __future__ import annotations

import functools
import hashlib
import json
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal, InvalidOperation
from typing import Any, Literal, get_args

from ipyrouter.batch import columns
from ipyrouter.batch.budget import RunBudget
from ipyrouter.batch.estimate import estimate
from ipyrouter.batch.jobs import NOT_KEPT, BatchRun
from ipyrouter.batch.limits import Limiter, shared
from ipyrouter.batch.pilot import DEFAULT_ROWS, Z, pick, spread
from ipyrouter.batch.progress import Progress, Show
from ipyrouter.batch.rows import ANSWERED, Row
from ipyrouter.batch.runner import Runner, Tools
from ipyrouter.batch.tables import Dtypes, Table, read_table
from ipyrouter.batch.template import Missing, Template
from ipyrouter.clock import Clock
from ipyrouter.config import Config
from ipyrouter.config.model import RateLimits
from ipyrouter.errors import UsageError, did_you_mean
from ipyrouter.pricing.prices import Pricing
from ipyrouter.providers import Clients
from ipyrouter.routing.budget import Budget
from ipyrouter.routing.chain import Chain
from ipyrouter.routing.pipeline import Pipeline
from ipyrouter.routing.requests import make_request
from ipyrouter.routing.warmth import Warmth
from ipyrouter.store.base import Run, Store
from ipyrouter.text.amounts import dollars
from ipyrouter.types import Candidate, Prompt, Request, Session, TierName

SAMPLE = 2_000  # rows that are planned one by one before a run
Delivery = Literal["live", "flex", "batch"]
STATUS: Dtypes = {"_status": str, "_error": str, "_tier": str, "_model": str, "_cost": float, "_cached": bool}
"""The columns behind the answer's own."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What a router lends to a run.

    ``workers`` is set where the data are a part of a larger table: how many ask its parts together.
    """

    config: Config
    clients: Clients
    pricing: Pricing
    store: Store
    session: Session
    clock: Clock
    pipeline: Pipeline
    workers: int | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """What is asked of a column, checked: the distinct requests, and which of them each row has (-1: none).

    ``base`` is the request with the prompt as it was typed; ``missing`` holds why rows have none, by their place.
    """

    table: Table
    base: Request
    requests: list[Request]
    layout: list[int]
    missing: dict[int, Missing]
    run_id: str


def check_prompt(prompt: str) -> None:
    """Raise UsageError for a prompt that is none."""
    if not isinstance(prompt, str):
        raise UsageError(f"The prompt must be a string, not {type(prompt).__name__}.", "Write {{name}} for the value.")


def base_request(prompt: str, options: Mapping[str, Any]) -> Request:
    """Return the request that those of all rows are alike, with the prompt as it was typed.

    Raises:
        UsageError: The prompt or an option cannot be used.
    """
    base = make_request(prompt, **options)
    if taken := [name for name in columns.dtypes_of(base.schema) if name in STATUS]:
        raise UsageError(
            f"The schema's field {taken[0]!r} has the name of a column that each result has.", "Rename the field."
        )
    return base


def make_job(data: Any, prompt: str, variables: Mapping[str, Any] | None, options: Mapping[str, Any]) -> Job:
    """Check what is asked of a column.

    Raises:
        UsageError: Data, prompt or an option cannot be used.
    """
    check_prompt(prompt)
    table = read_table(data)
    template = Template(prompt, table, variables or {})
    base = base_request(prompt, options)  # what is wrong with them is said once, and before anything is sent
    places: dict[str, int] = {}
    layout, missing = [], {}
    for row, text in enumerate(template.fill()):
        if isinstance(text, Missing):
            layout.append(-1)
            missing[row] = text
        else:
            layout.append(places.setdefault(text, len(places)))
    requests = [replace(base, prompt=Prompt.of(text)) for text in places]
    return Job(table, base, requests, layout, missing, _run_id(template.fixed, base))


def _run_id(prompt: str, base: Request) -> str:
    """Return the id of the runs of a prompt with some options, whatever the rows: the data may grow."""
    schema = [base.schema.name, base.schema.text] if base.schema else None
    options = [base.system, base.tier, base.model, base.max_output_tokens, base.temperature, base.effort, base.json]
    body = json.dumps([prompt, schema, *options])
    return hashlib.sha256(body.encode("utf-8", "surrogatepass")).hexdigest()[:12]


def map_column(
    parts: Parts,
    job: Job,
    *,
    budget: Decimal | float | str | None = None,
    dry_run: bool = False,
    yes: bool = False,
    concurrency: int | None = None,
    pilot: int | None = None,
    agreement: float | None = None,
    delivery: Delivery = "live",
    wait: bool = True,
    stands_for: float = 1.0,
    show: Show,
    tell: Callable[[str], None],
    again: Callable[[], Any],
) -> Any:
    """Ask a prompt of each row, and return a frame, or an Estimate for a dry run.

    Args:
        parts: What the router lends.
        job: What is asked.
        budget: Dollars that this run may spend.
        dry_run: Send nothing.
        yes: Send it even if it is likely to cost more than batch.confirm_usd.
        concurrency: The most calls in flight to one model.
        pilot: Ask only so many rows; with ``agreement``, to pick the tier of all.
        agreement: The share of the pilot's rows in which a cheaper tier must agree with the strongest.
        delivery: "live", "flex" for calls that may wait, or "batch" for the providers' batch APIs.
        wait: Whether to wait for the batch.
        stands_for: How many rows of a larger table each of these stands for, in what is estimated.
        show: Shows the progress.
        tell: Gets what the pilot says.
        again: Repeats the call.
    """
    tools = _tools(parts, budget, concurrency, show)
    skipped = len(job.missing)
    if dry_run:
        return estimate(tools.pipeline, job.requests, job.table.count, skipped).scaled(stands_for)
    check_pilot(pilot, agreement)
    check_delivery(delivery)
    if delivery == "batch" and pilot is not None and agreement is None:
        raise UsageError("A pilot is live.", "Leave delivery out, or pilot.")
    if delivery == "flex":
        job = _flexible(job)
    if not yes:
        confirm(tools.pipeline, job, stands_for)
    state = next((run.state for run in parts.store.runs() if run.id == job.run_id), {})
    if agreement is not None and job.requests:
        job = _picked(tools, parts.store, job, rows=pilot or DEFAULT_ROWS, agreement=agreement, tell=tell)
        pilot = None
    places = range(len(job.requests)) if pilot is None else spread(job.requests, pilot)
    if delivery == "batch":
        most = None if budget is None else check_budget(budget)
        return _in_batch(parts, tools, job, state, most=most, wait=wait, again=again)
    runner = Runner(tools, job.run_id, len(job.requests))
    runner.progress.total = len(places)
    record = functools.partial(_record, parts, job, runner, state)
    record("unfinished")
    try:
        runner.run((place, job.requests[place]) for place in places)
    finally:
        record(_status(runner.rows))
    if pilot is None:
        return _result(job, runner, "not sent", again)
    tell(_extrapolated([runner.rows[place] for place in places], round(len(job.requests) * stands_for)))
    return _result(job, runner, "not part of the pilot", again)


def pick_tier(parts: Parts, job: Job, *, rows: int | None, agreement: float, tell: Callable[[str], None]) -> TierName:
    """Return the cheapest tier that agrees with the strongest on some rows of a table.

    Args:
        parts: What the router lends.
        job: What is asked of those rows, or of more of them.
        rows: How many are compared.
        agreement: The share of them in which a cheaper tier must agree with the strongest.
        tell: Gets what the pilot says.

    Raises:
        UsageError: No row has an answer of the strongest tier.
    """
    if not job.requests:
        raise UsageError("There are no rows to compare tiers with.", "Name a tier.")
    tools = _tools(parts, None, None, _hide)
    picked = _picked(tools, parts.store, job, rows=rows or DEFAULT_ROWS, agreement=agreement, tell=tell)
    return picked.requests[0].tier or "power"


def _flexible(job: Job) -> Job:
    """Return a job whose calls may take longer, for half the price."""
    return replace(job, requests=[replace(request, flex=True) for request in job.requests])


def map_part(
    parts: Parts, job: Job, *, budget: Decimal | float | str | None, concurrency: int | None, delivery: Delivery
) -> Any:
    """Ask a prompt of each row of a part of a table, and return its frame; the run is the whole table's.

    Args:
        parts: What the router lends. Its session names the run.
        job: What is asked.
        budget: Dollars that the run may spend, on all workers.
        concurrency: The most calls in flight to one model, on all workers.
        delivery: "live" or "flex".
    """
    tools = _tools(parts, budget, concurrency, _hide)
    if delivery == "flex":
        job = _flexible(job)
    if not any(run.id == job.run_id for run in parts.store.runs()):
        now = parts.clock.now()
        prompt = job.base.prompt.text if parts.config.log_content else None
        parts.store.put_run(Run(job.run_id, now, now, {"status": "in parts", "prompt": prompt}))
    runner = Runner(tools, job.run_id, len(job.requests))
    runner.run(enumerate(job.requests))
    return job.table.frame(*_values(job, runner, "not sent"))


def _hide(_: Progress) -> None:
    """Show nothing: a worker has no cell."""


def _in_batch(
    parts: Parts,
    tools: Tools,
    job: Job,
    state: Mapping[str, Any],
    *,
    most: Decimal | None,
    wait: bool,
    again: Callable[[], Any],
) -> Any:
    """Run a job through the batch APIs, and return its frame."""

    def save(jobs: list[dict[str, Any]]) -> None:
        kept = {**state, "jobs": jobs, "options": _options(job.base, content=parts.config.log_content)}
        _record(parts, job, run, kept, "in batch" if jobs else "unfinished")

    jobs = state.get("jobs", [])
    run = BatchRun(tools, parts.clients, parts.store, job.run_id, base=job.base, jobs=jobs, save=save)
    run.run(job.requests, most=most, wait=wait)
    if not run.open:
        _record(parts, job, run, {**state, "jobs": []}, _status(run.rows))
    return _result(job, run, "not sent", again)


def attach(parts: Parts, run_id: str, *, wait: bool, show: Show) -> Any:
    """Collect the batches of a run, and return a frame with a row for each of their requests.

    Args:
        parts: What the router lends.
        run_id: The run's id.
        wait: Whether to wait for the batches.
        show: Shows the progress.

    Raises:
        UsageError: There is no such run, or it has no batch at a provider.
    """
    state = next((run.state for run in parts.store.runs() if run.id == run_id), None)
    if state is None:
        raise UsageError(f"There is no run {run_id!r}.", "router.runs() lists them.")
    if not state.get("jobs"):
        raise UsageError(
            f"The run {run_id!r} has no batch at a provider.", "Call map again: what has an answer is in the cache."
        )
    import pandas as pd

    before = {name: value for name, value in state.items() if name != "jobs"}
    base = make_request(state.get("prompt") or NOT_KEPT, **(state.get("options") or {}))

    def save(jobs: list[dict[str, Any]]) -> None:
        now = parts.clock.now()
        cost = str(_cost_of(before) + run.progress.spent)
        status = "in batch" if jobs else _status(run.rows)
        parts.store.put_run(Run(run_id, now, now, {**before, "jobs": jobs, "cost": cost, "status": status}))

    tools = _tools(parts, None, None, show)
    run = BatchRun(tools, parts.clients, parts.store, run_id, base=base, jobs=state["jobs"], save=save)
    names = run.attach(wait=wait)
    table = read_table(pd.Series(names, index=pd.Index(names, name="prompt")))
    job = Job(table, base, [], list(range(len(names))), {}, run_id)
    return _result(job, run, "not sent", lambda: attach(parts, run_id, wait=wait, show=show))


def _options(base: Request, *, content: bool) -> dict[str, Any]:
    """Return what makes the requests of a run again, but for their prompts; without content no system prompt."""
    schema = None if base.schema is None else json.loads(base.schema.text)
    return {
        "schema": schema, "system": base.system if content else None, "tier": base.tier, "model": base.model,
        "max_output_tokens": base.max_output_tokens, "temperature": base.temperature, "effort": base.effort,
        "json": base.json, "tags": list(base.tags),
    }  # fmt: skip


def _status(rows: Sequence[Row | None]) -> str:
    return "done" if all(row is not None and row.status in ANSWERED for row in rows) else "incomplete"


def _picked(tools: Tools, store: Store, job: Job, *, rows: int, agreement: float, tell: Callable[[str], None]) -> Job:
    """Return the job at the tier that a pilot picks."""

    def ask(requests: Sequence[Request]) -> list[Row | None]:
        runner = Runner(tools, job.run_id, len(requests))
        runner.run(enumerate(requests))
        if runner.stopped:
            raise UsageError(f"The pilot ended before it could pick a tier: {runner.progress.note}.", "Try again.")
        return runner.rows

    pilot = pick([job.requests[place] for place in spread(job.requests, rows)], ask, store, agreement=agreement)
    tell(str(pilot))
    return replace(job, requests=[replace(request, tier=pilot.tier) for request in job.requests])


def _extrapolated(rows: Sequence[Row | None], distinct: int) -> str:
    """Return what all requests will likely cost, from those that were really asked."""
    prices = [row.price for row in rows if row is not None and row.status in ANSWERED]
    known = [float(price) for price in prices if price is not None]
    if len(known) < 2 or len(known) < len(prices):
        return f"pilot: {len(prices)} of {len(rows)} requests have an answer; their prices do not tell what all cost"
    mean = statistics.fmean(known)
    width = Z * statistics.stdev(known) / math.sqrt(len(known))
    low, likely, high = (dollars(max(value, 0.0) * distinct) for value in (mean - width, mean, mean + width))
    return (
        f"pilot: {len(prices)} of {len(rows)} requests have an answer; all {distinct:,} will likely cost {likely}"
        f" ({low} to {high}), what is answered already included"
    )


def _tools(parts: Parts, budget: Decimal | float | str | None, concurrency: int | None, show: Show) -> Tools:
    config = parts.config
    most = config.batch.concurrency if concurrency is None else check_concurrency(concurrency)
    if parts.workers is not None:
        most = max(most // parts.workers, 1)

    def limits_of(candidate: Candidate) -> RateLimits | None:
        limits = config.limits_of(candidate)
        if limits is None or parts.workers is None:
            return limits
        return shared(limits, parts.workers, parts.store.rates(parts.session))

    limiter = Limiter(limits_of, parts.clients, most)
    pipeline = replace(
        parts.pipeline,
        warmth=Warmth(config, parts.pricing, parts.pipeline.breaker, parts.clock),  # no row is a turn to be remembered
        chain=Chain(config, limiter, parts.pricing, parts.pipeline.breaker),
        budget=_budget(parts, budget),
    )
    return Tools(pipeline, limiter, parts.store, parts.session, parts.clock, show, most)


def _budget(parts: Parts, dollars: Decimal | float | str | None) -> Budget:
    """Return the budgets of a run: those of the config, and its own."""
    limits, common = parts.config.budget, (parts.pricing, parts.store, parts.clock, parts.session)
    most = None if dollars is None else check_budget(dollars)
    if most is None or parts.workers is not None:
        return Budget(limits, *common, run=most)
    return RunBudget(limits, *common, most=most)


def check_concurrency(concurrency: int) -> int:
    """Return the number of calls in flight; raise UsageError for one that cannot be."""
    if isinstance(concurrency, bool) or not isinstance(concurrency, int) or not 1 <= concurrency <= 1000:
        raise UsageError(
            f"concurrency must lie between 1 and 1000, not {concurrency!r}.", "Leave it out for the default."
        )
    return concurrency


def check_delivery(delivery: str) -> None:
    """Raise UsageError for a delivery that there is not."""
    if delivery not in get_args(Delivery):
        raise UsageError(f"Unknown delivery {delivery!r}.", did_you_mean(str(delivery), get_args(Delivery)))


def check_pilot(pilot: int | None, agreement: float | None) -> None:
    """Raise UsageError for a number of rows or a share that cannot be."""
    if pilot is not None and (isinstance(pilot, bool) or not isinstance(pilot, int) or pilot < 1):
        raise UsageError(f"pilot must be a number of rows, not {pilot!r}.", "Write pilot=20.")
    if agreement is not None and (not isinstance(agreement, int | float) or not 0 < agreement <= 1):
        raise UsageError(f"agreement must lie between 0 and 1, not {agreement!r}.", "Write it as 0.95.")


def check_budget(budget: Decimal | float | str) -> Decimal:
    """Return the dollars of a budget; raise UsageError for what is no amount."""
    try:
        amount = Decimal(str(budget))
    except InvalidOperation:
        amount = Decimal("NaN")
    if isinstance(budget, bool) or not amount.is_finite() or amount < 0:
        raise UsageError(f"budget must be dollars, not {budget!r}.", "Write it as 2.5.")
    return amount


def confirm(pipeline: Pipeline, job: Job, stands_for: float = 1.0) -> None:
    """Raise UsageError for a run that is likely to cost more than ``batch.confirm_usd``.

    Args:
        pipeline: What would answer it.
        job: What is asked.
        stands_for: How many rows of a larger table each of its rows stands for.
    """
    planned = estimate(pipeline, job.requests, job.table.count, len(job.missing), sample=SAMPLE)
    likely, most = planned.scaled(stands_for), pipeline.config.batch.confirm_usd
    if likely.cost_likely is None or likely.cost_likely <= most:
        return
    raise UsageError(
        f"This run would send {likely.asked:,} requests for likely {dollars(likely.cost_likely)}, more than"
        f" batch.confirm_usd ({dollars(most)}). Nothing was sent.",
        "Look at it with dry_run=True (--dry-run); send it with yes=True (--yes).",
    )


def _cost_of(state: Mapping[str, Any]) -> Decimal:
    """Return the dollars that earlier calls of a run have spent."""
    try:
        return Decimal(state.get("cost", 0))
    except (InvalidOperation, TypeError, ValueError):
        return Decimal(0)


def _record(parts: Parts, job: Job, runner: Runner | BatchRun, before: Mapping[str, Any], status: str) -> None:
    """Write how far a run is, after the state that its earlier calls have left."""
    progress, now = runner.progress, parts.clock.now()
    state = {
        "status": status,
        "prompt": job.base.prompt.text if parts.config.log_content else None,
        "rows": job.table.count,
        "distinct": progress.total,
        "done": progress.done,
        "cached": progress.cached,
        "failed": progress.failed,
        "cost": str(_cost_of(before) + progress.spent),
        "jobs": before.get("jobs", []),
        "options": before.get("options"),
    }
    parts.store.put_run(Run(job.run_id, now, now, state))


def _result(job: Job, runner: Runner | BatchRun, otherwise: str, again: Callable[[], Any]) -> Any:
    frame = job.table.frame(*_values(job, runner, otherwise))
    if not job.table.in_pandas:
        return frame
    from ipyrouter.batch.frame import MapFrame

    return MapFrame.of(frame, job.run_id, runner.progress.line(), again)


def _values(job: Job, runner: Runner | BatchRun, otherwise: str) -> tuple[dict[str, list[Any]], Dtypes]:
    """Return the result's columns, and what each of them holds."""
    dtypes = columns.dtypes_of(job.base.schema)
    reason = runner.progress.note
    unsent = Row("not sent", reason or otherwise)
    first: set[int] = set()
    data: dict[str, list[Any]] = {name: [] for name in (*dtypes, *STATUS)}
    for place, number in enumerate(job.layout):
        row = Row("missing", job.missing[place].reason) if number < 0 else runner.rows[number] or unsent
        repeated = number in first
        first.add(number)
        values = {} if row.value is None else columns.values_of(row.value, dtypes)
        for name in dtypes:
            data[name].append(values.get(name))
        answered = row.status in ANSWERED
        cost = Decimal(0) if repeated else row.cost  # equal rows are one call
        data["_status"].append(row.status)
        data["_error"].append(row.error)
        data["_tier"].append(row.tier)
        data["_model"].append(row.model)
        data["_cost"].append(None if cost is None else float(cost))
        data["_cached"].append(row.cached or (repeated and answered))
    return data, {**dtypes, **STATUS}
