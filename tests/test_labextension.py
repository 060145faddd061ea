"""The JupyterLab extension that is committed as built: it is made from the sources beside it, and it is small."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import ipyrouter

FOLDER = Path(__file__).parent.parent / "labextension"
ASSETS = FOLDER / "assets"


def test_the_assets_are_built_from_these_sources() -> None:
    names = ["package.json", "package-lock.json", "tsconfig.json"]
    names += [path.relative_to(FOLDER).as_posix() for part in ("src", "style") for path in (FOLDER / part).iterdir()]
    digest = hashlib.sha256()
    for name in sorted(names):
        digest.update(f"{name}\0".encode() + (FOLDER / name).read_bytes() + b"\0")
    built = (ASSETS / "sources.sha256").read_text("utf-8").strip()
    assert digest.hexdigest() == built, "Run `npm ci && npm run build` in labextension/, and commit its assets."


def test_the_assets_are_small_and_fetch_nothing() -> None:
    files = [path for path in ASSETS.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 100_000
    scripts = [path.read_text("utf-8") for path in files if path.suffix == ".js"]
    assert scripts
    assert not any("https://" in script for script in scripts)


def test_the_version_is_the_packages() -> None:
    for path in (FOLDER / "package.json", ASSETS / "package.json"):
        assert json.loads(path.read_text("utf-8"))["version"] == ipyrouter.__version__
