"""What the providers' batch APIs have in common: jobs of many requests that are answered within a day at half price."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from ipyrouter.config import Deadlines
from ipyrouter.errors import IPyRouterError
from ipyrouter.providers.base import Backend, Call, Fault, Sent, bare
from ipyrouter.providers.faults import fault_of
from ipyrouter.providers.stream import Collector
from ipyrouter.providers.wire import Event, InBandError
from ipyrouter.types import Completion

if TYPE_CHECKING:
    from ipyrouter.config import Provider
    from ipyrouter.providers.network import Watch

BATCH = (("processing", "batch"),)
"""The price context of a batch's answers, under genai-prices' names."""

_DEADLINES = Deadlines(connect=10, first_byte=300, idle=60, total=1800)  # files of 256 MB go both ways
_MOST_BYTES = 1 << 30

State = Literal["running", "ended", "failed"]


class JobStatus(NamedTuple):
    """How far a job is; ``error`` says why it failed."""

    state: State
    error: str = ""


class Search(NamedTuple):
    """Which job was looked for, "" where there is none; ``undecided`` where one that still runs may be it."""

    id: str = ""
    undecided: bool = False


CLOCKS = 600.0
"""Seconds that the provider's clock may be behind ours."""


@dataclass(frozen=True, slots=True)
class Result:
    """A line of a job's results: the answer as the provider would have sent it, or its error."""

    custom_id: str
    body: Any = None
    error: Any = None


@contextlib.contextmanager
def watching(backend: Backend, provider: Provider, call: Call) -> Iterator[Watch]:
    """Talk to a batch API inside the block under its own deadlines. Raises Fault for whatever goes wrong."""
    fault: Fault | None = None
    with backend.transport.watch(_DEADLINES, backend.target.secret, _MOST_BYTES, backend.target.extra) as watch:
        try:
            yield watch
        except (Fault, IPyRouterError):
            raise
        except Exception as error:  # noqa: BLE001  whatever an SDK raises is a fault
            fault = fault_of(error, backend, Sent(provider, call, {}), watch)
    if fault is not None:
        raise bare(fault)


def completion_of(backend: Backend, provider: Provider, result: Result, collector: Collector) -> Completion:
    """Return the completion in a result. Raises Fault for an error, or for what is no answer."""
    collector.begin(lambda: None)
    collector.serve(**dict(BATCH))
    fault: Fault | None = None
    with backend.transport.watch(_DEADLINES, backend.target.secret, _MOST_BYTES, backend.target.extra) as watch:
        try:
            if result.error is not None:
                raise InBandError(result.error)  # noqa: TRY301  a server's failure inside a response, as elsewhere
            backend.take(Event(result.body, whole=True), collector)
            collector.close()
        except Fault as error:
            fault = error
        except Exception as error:  # noqa: BLE001
            fault = fault_of(error, backend, Sent(provider, collector.call, {}), watch)
        finally:
            collector.over()
    if fault is not None:
        raise bare(collector.fault(fault))
    return collector.complete()
