"""Refuse files over 500 kB that the repository does not hold yet; git keeps every version of them for ever."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

LIMIT = 500_000


def main(names: list[str]) -> int:
    """Print the new files that are too large; return 1 if there are any."""
    listed = ["git", "ls-tree", "-r", "--name-only", "HEAD"]
    listing = subprocess.run(listed, capture_output=True, text=True, check=True).stdout  # noqa: S603  fixed arguments
    old = set(listing.splitlines())
    large = [name for name in names if name not in old and Path(name).stat().st_size > LIMIT]
    for name in large:
        print(f"{name} has {Path(name).stat().st_size // 1000} kB, more than {LIMIT // 1000}. Does it have to be here?")
    return bool(large)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
