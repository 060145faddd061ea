"""A real JupyterLab in headless Chromium: what a user does there (type, run, stop, save) and sees.

Importing this module skips the tests, or fails them in CI, where Chromium or a package is missing.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn
from urllib.parse import urlsplit
from uuid import uuid4

import pytest

if TYPE_CHECKING:
    from nbformat import NotebookNode

CHROMIUM = Path("/usr/bin/chromium")


def _missing(what: str) -> NoReturn:
    reason = f"The browser tests need {what}"
    if os.environ.get("CI"):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason, allow_module_level=True)


try:
    from axe_playwright_python.base import AXE_SCRIPT  # noqa: F401  for looks.py, which comes after the question
    from playwright.sync_api import (
        Browser,
        ConsoleMessage,
        Dialog,
        Locator,
        Page,
        Request,
        WebSocket,
        expect,
        sync_playwright,
    )
except ImportError as error:
    _missing(f"{error.name}: pip install -e '.[browser]'")
for module in ("jupyterlab", "notebook"):
    if importlib.util.find_spec(module) is None:  # not imported, which takes four seconds: it is another process
        _missing(f"{module}: pip install -e '.[browser]'")
if not CHROMIUM.exists():
    _missing(f"{CHROMIUM}: apt-get install chromium")

FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--no-proxy-server",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)  # fmt: skip
LIGHT, DARK = "JupyterLab Light", "JupyterLab Dark"
WIDE, NARROW = 1280, 480  # pixels
_CHIP = re.compile("^(fast|mid|power|failed)$")  # the badge's first word
TIMEOUT = 180_000  # milliseconds: for a machine that is busy with other things
_READY = """() => {
    const context = globalThis.jupyterapp?.shell.currentWidget?.sessionContext
    const runs = binding => binding.command === 'notebook:run-cell-and-select-next'
    return context?.isReady && context.kernelDisplayStatus === 'idle' && jupyterapp.commands.keyBindings.some(runs)
}"""
PYTHON3 = {"kernelspec": {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}}


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """Start the browser that all tests share."""
    expect.set_options(timeout=TIMEOUT)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@dataclass(frozen=True)
class Server:
    """A JupyterLab server in a process of its own."""

    url: str
    token: str
    root: Path  # where the notebooks are


@contextlib.contextmanager
def lab_server(folder: Path, environment: dict[str, str], application: str = "jupyterlab") -> Iterator[Server]:
    """Start a server that has nothing but this folder and environment; its kernels inherit both.

    ``application`` is the module that runs: jupyterlab or notebook.
    """
    root, runtime, settings = folder / "notebooks", folder / "runtime", folder / "settings"
    changed = {
        "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
        "completer-extension/manager": {"providerTimeout": TIMEOUT},  # not 1 second, for a machine that is busy
    }
    if version("jupyterlab").startswith("4.4."):  # which takes cells that are out of view out of the page
        changed["notebook-extension/tracker"] = {"windowingMode": "defer"}
    for new in (root, runtime):
        new.mkdir(parents=True)
    for name, values in changed.items():
        path = settings / "@jupyterlab" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(values))
    folders = {
        "HOME": folder,
        "IPYTHONDIR": folder / "ipython",
        "JUPYTER_CONFIG_DIR": folder / "config",
        "JUPYTER_DATA_DIR": folder / "data",
        "JUPYTER_RUNTIME_DIR": runtime,
        "JUPYTERLAB_SETTINGS_DIR": settings,
        "JUPYTERLAB_WORKSPACES_DIR": folder / "workspaces",
    }
    token = "browser-tests"
    command = [
        sys.executable, "-m", application, "--no-browser", "--allow-root", "--expose-app-in-browser",
        "--ServerApp.ip=127.0.0.1", "--ServerApp.port=0", f"--ServerApp.root_dir={root}",
        f"--IdentityProvider.token={token}", "--LabApp.extension_manager=readonly",
    ]  # fmt: skip
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            command, env={**environment, **{k: str(v) for k, v in folders.items()}}, stdout=log, stderr=log
        )
    try:
        yield Server(_address(runtime, process, folder / "server.log"), token, root)
    finally:
        process.terminate()
        try:
            process.wait(TIMEOUT / 1000)
        except subprocess.TimeoutExpired:  # seen once on a busy machine: it would outlive the tests
            process.kill()
            process.wait()


def _address(runtime: Path, process: subprocess.Popen[bytes], log: Path) -> str:
    """Return the address that the server writes into a file when it is ready."""
    for _ in range(TIMEOUT // 100):
        for written in runtime.glob("jpserver-*.json"):
            with contextlib.suppress(json.JSONDecodeError):  # half written
                return f"http://127.0.0.1:{json.loads(written.read_text('utf-8'))['port']}"
        if process.poll() is not None:
            break
        time.sleep(0.1)
    pytest.fail(f"JupyterLab did not start:\n{log.read_text('utf-8')}", pytrace=False)


class Lab:
    """One browser tab on a JupyterLab server.

    Nothing but loopback can be reached: what was tried is in ``fetched``; alerts and the like are in ``dialogs``, what
    scripts threw and the console's errors in ``errors``.
    """

    def __init__(self, browser: Browser, server: Server) -> None:
        self.browser = browser
        self.server = server
        self.fetched: list[str] = []
        self.dialogs: list[str] = []
        self.errors: list[str] = []
        context = browser.new_context(viewport={"width": WIDE, "height": 900})
        context.set_default_timeout(TIMEOUT)
        context.on("request", self._note_request)
        context.on("dialog", self._dialog)
        self.page = context.new_page()
        self.page.on("websocket", self._note_request)
        self.page.on("pageerror", lambda error: self.errors.append(error.stack or error.message))
        self.page.on("console", self._note_error)

    def notebook(self, name: str = "") -> Notebook:
        """Open a new notebook in which the extension is loaded."""
        import nbformat  # late: four seconds
        from nbformat.v4 import new_code_cell, new_notebook

        path = self.server.root / f"{name or uuid4().hex[:8]}.ipynb"
        nbformat.write(new_notebook(cells=[new_code_cell()], metadata=PYTHON3), path)
        opened = self.open(path)
        opened.run("%load_ext ipyrouter").wait()
        return opened

    def open(self, path: Path, *, kernel: bool = True) -> Notebook:
        """Open a notebook file and wait until its kernel is ready, or open it where none can start."""
        workspace = f"{self.server.url}/lab/workspaces/{path.stem}"  # one that has no other files open
        self.page.unroute("**/api/sessions*")
        if not kernel:
            self.page.route(
                "**/api/sessions*", lambda route: route.abort() if route.request.method == "POST" else route.continue_()
            )
        self.page.goto(f"{workspace}/tree/{path.name}?token={self.server.token}")
        if kernel:
            self.wait_for_kernel()
        else:
            self.page.get_by_role("dialog").get_by_role("button", name="Ok").click()  # it says that no kernel started
        self._command("application:toggle-left-area")  # the file browser takes half of a narrow window
        return Notebook(self.page, path)

    def wait_for_kernel(self) -> None:
        """Wait until the notebook has its kernel and its keys: a key pressed earlier does nothing."""
        self.page.wait_for_function(_READY)

    def shut_kernels_down(self) -> None:
        """End the kernels of all notebooks."""
        headers = {"Authorization": f"token {self.server.token}"}
        sessions = f"{self.server.url}/api/sessions"
        for session in self.page.request.get(sessions, headers=headers).json():
            self.page.request.delete(f"{sessions}/{session['id']}", headers=headers)

    def theme(self, name: str) -> None:
        """Switch to LIGHT or DARK; it stays until the next switch."""
        self._command("apputils:change-theme", theme=name)
        expect(self.page.locator("body")).to_have_attribute("data-jp-theme-name", name)

    def width(self, pixels: int) -> None:
        """Make the window so wide."""
        self.page.set_viewport_size({"width": pixels, "height": 900})

    def _command(self, name: str, **arguments: str) -> None:
        self.page.evaluate("([name, arguments]) => jupyterapp.commands.execute(name, arguments)", [name, arguments])

    def _note_request(self, what: Request | WebSocket) -> None:
        parts = urlsplit(what.url)
        if parts.hostname != "127.0.0.1" and parts.scheme not in ("data", "blob"):
            self.fetched.append(what.url)

    def _note_error(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.errors.append(f"{message.text} ({message.location['url']})")

    def _dialog(self, dialog: Dialog) -> None:
        if dialog.type != "beforeunload":  # JupyterLab's own, when a notebook is left unsaved
            self.dialogs.append(dialog.message)
        dialog.accept()


class Notebook:
    """The notebook that is open in the tab."""

    def __init__(self, page: Page, path: Path) -> None:
        self.page = page
        self.path = path
        self.element = page.locator(".jp-NotebookPanel")

    def cell(self, index: int) -> Cell:
        """Return the cell at a place, from 0."""
        return Cell(self.element.locator(".jp-Notebook .jp-Cell").nth(index))

    def type(self, source: str) -> Cell:
        """Put a source into the last cell, which is empty, and leave the cursor there."""
        cell = self.cell(self.element.locator(".jp-Notebook .jp-Cell").count() - 1)
        cell.element.locator(".cm-content").click()
        self.page.keyboard.insert_text(source)
        return cell

    def run(self, source: str) -> Cell:
        """Type a source into the last cell and run it; Cell.wait() waits for its end."""
        cell = self.type(source)
        self.page.keyboard.press("Shift+Enter")
        return cell

    def cell_with(self, source: str) -> Cell:
        """Return the cell whose source holds these words, once there is one."""
        cells = self.element.locator(".jp-Notebook .jp-Cell")
        element = cells.filter(has=self.page.locator(".cm-content", has_text=source))
        expect(element).to_have_count(1)
        return Cell(element)

    def command(self, name: str) -> None:
        """Run a command of ours once it can be chosen, without waiting for its end."""
        self.page.wait_for_function("name => jupyterapp.commands.isEnabled(`ipyrouter:${name}`)", arg=name)
        self.page.evaluate("name => void jupyterapp.commands.execute(`ipyrouter:${name}`)", name)

    def is_enabled(self, name: str) -> bool:
        """Tell whether a command of ours can be chosen now."""
        return bool(self.page.evaluate("name => jupyterapp.commands.isEnabled(`ipyrouter:${name}`)", name))

    def interrupt(self) -> None:
        """Press the stop button."""
        self.element.get_by_role("button", name="Interrupt the kernel").click()

    def restart(self) -> None:
        """Restart the kernel and wait until the new one is ready."""
        self.page.evaluate("jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart()")
        self.page.wait_for_function("jupyterapp.shell.currentWidget.sessionContext.kernelDisplayStatus === 'idle'")

    def save(self) -> NotebookNode:
        """Save with the keyboard and return what is in the file."""
        import nbformat

        self.page.keyboard.press("Control+s")
        expect(self.page.locator(".lm-TabBar-tab.jp-mod-current.jp-mod-dirty")).to_have_count(0)
        return nbformat.read(self.path, as_version=4)


class Cell:
    """A cell and what it shows."""

    def __init__(self, element: Locator) -> None:
        self.element = element
        self.editor = element.locator(".cm-content")
        self.lines = self.editor.locator(".cm-line")
        self.prompt = element.locator(".jp-InputPrompt")
        self.output = element.locator(".jp-OutputArea")
        self.outputs = self.output.locator(".jp-OutputArea-output")
        self.badge = self.outputs.first.locator("div", has=element.page.get_by_text(_CHIP)).last

    def wait(self) -> Cell:
        """Wait until the cell has run, whether well or not."""
        expect(self.prompt).to_have_text(re.compile(r"^\[\d+\]:"))
        return self

    def button(self, name: str) -> Locator:
        """Return a button among the outputs."""
        return self.output.get_by_role("button", name=name)
