"""Sends a call under its deadlines and collects its answer; whatever goes wrong becomes a fault."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import httpx2

from ipyrouter.config import Deadlines
from ipyrouter.providers.base import Fault, Sent, bare
from ipyrouter.providers.faults import fault_of
from ipyrouter.providers.network import Watch
from ipyrouter.providers.stream import Collector
from ipyrouter.providers.transport import Transport
from ipyrouter.providers.wire import bounds
from ipyrouter.types import Completion


def run(
    send: Callable[[Watch, Collector], None],
    sent: Sent,
    collector: Collector,
    *,
    sdk: ModuleType,
    transport: Transport,
    secret: Callable[[], str],
    deadlines: Deadlines,
) -> Completion:
    """Send under the deadlines and return what was collected. Raises Fault, whatever went wrong."""
    fault: Fault | None = None
    with transport.watch(deadlines, secret, bounds(sent.call.max_output_tokens).total) as watch:
        collector.on_begin = watch.answering
        collector.begin(watch.cancel)
        try:
            send(watch, collector)
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
                fault = fault_of(error, sdk, sent, watch)
        finally:
            collector.over()
    collector.sent = watch.sent
    # Raised outside the except block and bare: no traceback leads into frames that saw the request's headers.
    if fault is not None:
        raise bare(collector.fault(fault))
    return collector.complete()
