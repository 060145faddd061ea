"""How many calls are in flight, and when the next may leave: a level that finds itself, and limits a minute.

The window of a model grows with every answer and falls by a third at a 429, once for all calls that were in flight
together. Limits come from the config or else from the headers of the responses.
"""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

from ipyrouter.config import Deadlines
from ipyrouter.config.model import RateLimits
from ipyrouter.providers import Clients
from ipyrouter.providers.allowances import Allowance, Kind
from ipyrouter.providers.base import Call, Change, Fault
from ipyrouter.providers.stream import Collector
from ipyrouter.routing.planner import input_tokens
from ipyrouter.store.base import Rate
from ipyrouter.types import Candidate, Completion

_FIRST_WINDOW = 10  # calls
_GROWTH = 3.0  # calls that an answer adds, until the first 429: each round has four times as many
_CUT = 0.7
_LONGEST_PAUSE = 30.0  # seconds after a 429 that names none
_PATIENCE = 45.0  # seconds that a call may wait with its money reserved: a reservation outlives its call by a minute
_FIRST_OUTPUT = 300  # tokens that are expected of an answer before there was one
_MEMORY = 0.1  # weight of the latest answer in what is expected of the next


def shared(limits: RateLimits, workers: int, rates: Iterable[Rate] = ()) -> RateLimits:
    """Return the limits a minute that each of some workers may use up, so that all of them keep to the whole.

    Args:
        limits: Those of a model.
        workers: How many ask it together.
        rates: What their store allows all of them a minute; a limit that it holds anyway is not divided.
    """
    held: dict[Kind, int] = {rate.unit: rate.most for rate in rates}

    def share(kind: Kind, most: int | None) -> int | None:
        if most is None or (kind in held and held[kind] <= most):
            return most
        return max(most // workers, 1)

    return RateLimits(share("requests", limits.requests_per_minute), share("tokens", limits.tokens_per_minute))


class Bucket:
    """So many requests or tokens that are left, and that come back with the time."""

    def __init__(self, capacity: float, rate: float, now: float) -> None:
        self.capacity = capacity
        self.rate = rate  # a second
        self.level = capacity
        self._at = now

    def wait(self, amount: float, now: float) -> float:
        """Return the seconds until an amount is there; one that is larger than the bucket waits for a full one."""
        self._refill(now)
        lacking = min(amount, self.capacity) - self.level
        return 0.0 if lacking <= 0 else lacking / self.rate

    def take(self, amount: float, now: float) -> None:
        """Take an amount, or give one back that was not used."""
        self._refill(now)
        self.level = min(self.level - amount, self.capacity)

    def learn(self, allowance: Allowance, in_flight: float, now: float) -> None:
        """Follow what a response says; what other calls in flight will take is not in its figure yet."""
        self.capacity = allowance.limit
        if allowance.remaining < allowance.limit and allowance.reset > 0:
            self.rate = (allowance.limit - allowance.remaining) / allowance.reset
        self.level, self._at = allowance.remaining - in_flight, now

    def _refill(self, now: float) -> None:
        self.level = min(self.level + (now - self._at) * self.rate, self.capacity)
        self._at = now


class Lane:
    """The calls to one model."""

    def __init__(self, most: int, limits: dict[Kind, int]) -> None:
        self.window = float(min(_FIRST_WINDOW, most))
        self.in_flight = 0
        self.refusals = 0  # 429s
        self.expected_output = float(_FIRST_OUTPUT)
        self.lock = threading.Lock()
        self.free = threading.Condition(self.lock)  # a place among the calls in flight
        self.time = threading.Condition(self.lock)  # the time, which only a stop cuts short
        self._most = most
        self._probing = True  # no 429 yet
        self._not_before = 0.0
        self._cut_at = 0.0
        self._pauses = 0
        self._configured = frozenset(limits)
        now = time.monotonic()
        # One second's worth, so that no minute gets more than its share.
        self._buckets = {kind: Bucket(max(a_minute / 60, 1), a_minute / 60, now) for kind, a_minute in limits.items()}

    def wait(self, tokens: float, now: float) -> float:
        """Return the seconds until the next call may leave."""
        amounts: dict[Kind, float] = {"requests": 1.0, "tokens": tokens}
        waits = (bucket.wait(amounts[kind], now) for kind, bucket in self._buckets.items())
        return max(self._not_before - now, 0.0, *waits)

    def take(self, tokens: float, now: float) -> None:
        """Note that a call leaves."""
        for kind, bucket in self._buckets.items():
            bucket.take(1.0 if kind == "requests" else tokens, now)

    def answered(self, expected: float, used: int, output: int, allowances: tuple[Allowance, ...], now: float) -> None:
        """Learn from an answer: its tokens against those that were expected, and what its headers say."""
        self._pauses = 0
        self.expected_output += _MEMORY * (output - self.expected_output)
        if self.in_flight >= self.window * 0.5:
            self.window = min(self.window + (_GROWTH if self._probing else 1.0 / self.window), float(self._most))
        if (bucket := self._buckets.get("tokens")) is not None:
            bucket.take(used - expected, now)
        for allowance in allowances:
            if allowance.kind in self._configured:
                continue
            share = 1.0 if allowance.kind == "requests" else expected
            others = max(self.in_flight - 1, 0) * share
            bucket = self._buckets.setdefault(allowance.kind, Bucket(allowance.limit, allowance.limit / 60, now))
            bucket.learn(allowance, others, now)

    def refused(self, begun: float, retry_after: float | None, now: float) -> None:
        """Slow down after a 429 to a call that had begun then."""
        self.refusals += 1
        self._probing = False
        if begun >= self._cut_at:  # the others that were in flight were one and the same excess
            self.window, self._cut_at = max(self.window * _CUT, 1.0), now
            self._pauses += 1
        pause = retry_after
        if pause is None:
            pause = min(2.0 ** (self._pauses - 1), _LONGEST_PAUSE) * random.uniform(0.5, 1.0)  # noqa: S311
        self._not_before = max(self._not_before, now + pause)


@dataclass(slots=True)
class _Slot(threading.local):
    """The slot of this thread's row: its model, and whether its first call has left."""

    candidate: Candidate | None = None


class Limiter:
    """Keeps all models' windows and limits for one run.

    Args:
        limits_of: Returns the limits a minute of a model, None where none are set.
        clients: What sends calls in the end.
        most: The most calls in flight to one model.
    """

    def __init__(self, limits_of: Callable[[Candidate], RateLimits | None], clients: Clients, most: int) -> None:
        self._limits_of = limits_of
        self._clients = clients
        self._most = most
        self._lanes: dict[Candidate, Lane] = {}
        self._lock = threading.Lock()
        self._slot = _Slot()
        self.stopped = False

    @property
    def refusals(self) -> int:
        """How many calls were answered with 429."""
        return sum(lane.refusals for lane in list(self._lanes.values()))

    def stop(self) -> None:
        """Let nobody in any more, and wake those who wait."""
        self.stopped = True
        for lane in list(self._lanes.values()):
            with lane.lock:
                lane.free.notify_all()
                lane.time.notify_all()

    @contextlib.contextmanager
    def slot(self, candidate: Candidate, input_tokens: int) -> Iterator[bool]:
        """Hold one of the calls in flight of a model for the block; yields False where the run was stopped."""
        lane = self._lane(candidate)
        with lane.lock:
            entered = self._wait(lane, input_tokens + lane.expected_output, slots=True)
            lane.in_flight += entered
        self._slot.candidate = candidate if entered else None
        try:
            yield entered
        finally:
            self._slot.candidate = None
            with lane.lock:
                lane.in_flight -= entered
                lane.free.notify(2)  # one for this call's place, one where the window has grown

    def complete(self, candidate: Candidate, call: Call, deadlines: Deadlines, collector: Collector) -> Completion:
        """Send a call when its model's limits allow it, and again after a 429. Raises Fault."""
        if call.flex and not self.has_flex(candidate):  # one that the chain falls back on, or of the next tier
            raise Fault("bad_request", "it has no flex processing, and is not asked at the full price")
        lane, first = self._lane(candidate), self._slot.candidate == candidate
        self._slot.candidate = None
        until = time.monotonic() + _PATIENCE
        whole = replace(deadlines, first_byte=deadlines.total)
        expected = input_tokens(call) + lane.expected_output
        while True:
            if not first:
                with lane.lock:
                    if not self._wait(lane, expected, until=until):
                        raise Fault("interrupted", "stopped by the user")
            begun = time.monotonic()
            try:
                done = self._clients.complete(candidate, call, whole, collector, stream=False)
            except Fault as fault:
                if fault.kind != "rate_limit":
                    raise
                now = time.monotonic()
                with lane.lock:
                    lane.refused(begun, fault.retry_after, now)
                    if collector.stopped or lane.wait(expected, now) > until - now:
                        raise
                first = False
                continue
            usage, now = done.usage, time.monotonic()
            with lane.lock:
                used = usage.input_tokens + usage.output_tokens
                lane.answered(expected, used, usage.output_tokens, collector.allowances, now)
            return done

    def has_flex(self, candidate: Candidate) -> bool:
        """Tell whether a candidate takes calls that may wait for half the price."""
        return self._clients.has_flex(candidate)

    def change(self, candidate: Candidate, change: Change) -> None:
        """Send calls to a candidate differently from now on."""
        self._clients.change(candidate, change)

    def _wait(self, lane: Lane, tokens: float, *, slots: bool = False, until: float | None = None) -> bool:
        """Wait until a call may leave, and take what it takes; False where the run was stopped. Holds the lane."""
        while not self.stopped:
            now = time.monotonic()
            if slots and lane.in_flight >= int(lane.window):
                lane.free.wait()
                continue
            wait = lane.wait(tokens, now)
            if wait <= 0 or (until is not None and now >= until):
                lane.take(tokens, now)
                return True
            lane.time.wait(wait if until is None else min(wait, until - now))
        return False

    def _lane(self, candidate: Candidate) -> Lane:
        with self._lock:
            if candidate not in self._lanes:
                limits = self._limits_of(candidate)
                known: dict[Kind, int | None] = {}
                if limits is not None:
                    known = {"requests": limits.requests_per_minute, "tokens": limits.tokens_per_minute}
                self._lanes[candidate] = Lane(self._most, {kind: most for kind, most in known.items() if most})
            return self._lanes[candidate]
