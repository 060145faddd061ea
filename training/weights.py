"""What the scripts share that write the weights file, or a part of it."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping
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


def about(arrays: Mapping[str, Matrix], figures: Mapping[str, float]) -> dict[str, Matrix]:
    """Return the arrays of a weights file with figures among those that it holds beside the weights."""
    known = json.loads(arrays["about"].tobytes()) if "about" in arrays else {}
    return {**arrays, "about": np.frombuffer(json.dumps({**known, **figures}).encode(), dtype=np.uint8)}


def rewrite(out: Path, change: Callable[[dict[str, Matrix]], dict[str, Matrix]]) -> None:
    """Write a weights file anew, with what is made of its arrays."""
    with np.load(out) as saved:
        arrays = dict(saved)
    np.savez(out, **change(arrays))
