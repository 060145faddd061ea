"""Sends a call under its deadlines and collects its answer; whatever goes wrong becomes a fault."""

from __future__ import annotations

from typing import Any

import httpx2

from ipyrouter.config import Deadlines
from ipyrouter.providers.base import Backend, Fault, Sent, bare
from ipyrouter.providers.faults import fault_of
from ipyrouter.providers.stream import Collector
from ipyrouter.providers.wire import bounds
from ipyrouter.types import Completion


def run(backend: Backend, body: dict[str, Any], sent: Sent, collector: Collector, deadlines: Deadlines) -> Completion:
    """Send a body under the deadlines and return what was collected. Raises Fault, whatever went wrong."""
    fault: Fault | None = None
    most = bounds(sent.call.max_output_tokens).total
    with backend.transport.watch(deadlines, backend.target.secret, most, backend.target.extra) as watch:
        collector.on_begin = watch.answering
        collector.begin(watch.cancel)
        try:
            backend.send(body, watch, collector)
            collector.close()
        except KeyboardInterrupt:
            fault = Fault("interrupted", "stopped by the user")
        except Fault as error:
            fault = error
        except Exception as error:  # noqa: BLE001  whatever an SDK raises on a stranger's bytes is a fault
            if collector.finish is not None and isinstance(error, httpx2.TransportError):
                pass  # the model had finished: a connection that broke after it costs no answer
            elif collector.stopped:
                fault = Fault("interrupted", "stopped by the user")
            else:
                fault = fault_of(error, backend, sent, watch)
        finally:
            collector.over()
    # A stop may come between the last byte and the note that it has left.
    collector.sent = watch.sent or (watch.leaving and fault is not None and fault.kind == "interrupted")
    # Raised outside the except block and bare: no traceback leads into frames that saw the request's headers.
    if fault is not None:
        raise bare(collector.fault(fault))
    return collector.complete()
