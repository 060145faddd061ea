"""Only `nox -s front-ends` runs these tests: it installs the front ends."""

from __future__ import annotations

import importlib.util
from pathlib import Path

_MODULES = ("marimo", "pyte", "voila")
if not all(map(importlib.util.find_spec, _MODULES)) or not (Path(__file__).parent / "node_modules").is_dir():
    collect_ignore = ["test_looks.py"]
