"""Who holds a claim or a reservation, and whether its process still lives."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import socket
import sys
import uuid
from pathlib import Path

_BATCH = "batch/"


def new_owner() -> str:
    """Return a name for what a request holds, which tells the machine and the process."""
    return f"{own_prefix()}{uuid.uuid4().hex}"


def own_prefix() -> str:
    """Return what the names of all owners in this process begin with."""
    return f"{machine()}/{os.getpid()}/"


def batch_owner() -> str:
    """Return a name for what a job at a provider holds, which ends with its time and not with this process."""
    return f"{_BATCH}{uuid.uuid4().hex}"


def outlives_its_process(owner: str) -> bool:
    """Tell whether what an owner holds is there after its process has ended."""
    return owner.startswith(_BATCH)


def lapsed(owner: str, expires: int, lapses: float, *, now: int, monotonic: float) -> bool:
    """Tell whether what an owner holds is void: its time is over, or its process is dead.

    On this machine its monotonic clock decides, which cannot be set; of another one only the expiry by the clocks.

    Args:
        owner: Who holds it.
        expires: When it ends, in microseconds since 1970.
        lapses: When it ends by the monotonic clock of the owner's machine.
        now: The time in microseconds since 1970.
        monotonic: The time of this machine's monotonic clock.
    """
    where, _, rest = owner.partition("/")
    if where != machine():
        return now > expires
    return monotonic > lapses or not _alive(rest.partition("/")[0])


def is_dead(owner: str) -> bool:
    """Tell whether an owner's process was on this machine and lives no more."""
    where, _, rest = owner.partition("/")
    return where == machine() and not _alive(rest.partition("/")[0])


@functools.cache
def machine() -> str:
    """Return a name for this machine since it started, and for the space that its process numbers are of.

    Containers share a kernel, and a home folder may be shared by machines: a process number means nothing elsewhere.
    """
    known = [socket.gethostname()]
    with contextlib.suppress(OSError):
        known.append(Path("/proc/sys/kernel/random/boot_id").read_text("ascii"))
        known.append(str(Path("/proc/self/ns/pid").readlink()))
    return hashlib.sha256("\n".join(known).encode()).hexdigest()[:16]


def _alive(pid: str) -> bool:
    if sys.platform == "win32":  # there, signal 0 is Ctrl-C: the monotonic clock alone tells
        return True
    try:
        os.kill(int(pid), 0)
    except (ProcessLookupError, ValueError, OverflowError):
        return False
    except OSError:  # it lives, and is another user's
        return True
    return True
