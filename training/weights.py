"""What the scripts share that write the weights file, or a part of it."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ipyrouter.classifier.model import WEIGHTS
from training import data

Matrix = np.ndarray[Any, Any]


def options(about: str | None) -> argparse.Namespace:
    """Read where the shared data are and which file is written: ``data`` and ``out``."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--data", type=Path, default=data.SHARED)
    parser.add_argument("--out", type=Path, default=WEIGHTS)
    return parser.parse_args()


def rewrite(out: Path, change: Callable[[dict[str, Matrix]], dict[str, Matrix]]) -> None:
    """Write a weights file anew, with what is made of its arrays."""
    with np.load(out) as saved:
        arrays = dict(saved)
    np.savez(out, **change(arrays))
