"""Lines that are said beside the output, such as that something is fetched."""

from __future__ import annotations

import sys


def tell(line: str) -> None:
    """Print a line to stderr; in a notebook, which draws that as an error, to stdout."""
    in_kernel = type(sys.stderr).__module__ == "ipykernel.iostream"
    print(line, file=sys.stdout if in_kernel else sys.stderr, flush=True)
