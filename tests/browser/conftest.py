"""One JupyterLab and one browser for all tests here. tests.browser.lab is imported late: without Chromium it skips."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.conftest import is_private
from tests.faults.server import FaultServer

if TYPE_CHECKING:
    from tests.browser.lab import Lab, Notebook

_FOLDER = os.environ.get("IPYROUTER_SCREENSHOTS")
SCREENSHOTS = Path(_FOLDER).absolute() if _FOLDER else None  # read now: tests see no variable of ours, nor this folder
CONFIG = """
[providers.o]
sdk = "openai"
base_url = "{url}/v1"
[tiers.fast]
chain = ["o/ok"]
[tiers.mid]
chain = ["o/ok"]
[tiers.power]
chain = ["o/ok"]
[deadlines]
first_byte = 60
idle = 60
[prices]
"o/ok" = {{ input = 1, output = 10, cached_input = 0.5 }}
"o/stream-held" = {{ input = 1, output = 10, cached_input = 0.5 }}
"""


# By package, not session: Playwright's event loop must not run while other tests use theirs.
@pytest.fixture(scope="package")
def tab(server: FaultServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """The browser tab; tests take ``lab``."""
    from tests.browser.lab import Lab, chromium, lab_server

    folder = tmp_path_factory.mktemp("lab")
    home = folder / "ipyrouter"
    home.mkdir(mode=0o700)
    (home / "config.toml").write_text(CONFIG.format(url=server.url))
    environment = {name: value for name, value in os.environ.items() if not is_private(name)}
    with lab_server(folder, {**environment, "IPYROUTER_HOME": str(home)}) as running, chromium() as browser:
        yield Lab(browser, running)


@pytest.fixture
def lab(tab: Lab) -> Iterator[Lab]:
    """JupyterLab; afterwards nothing may have left this machine, and nothing may have run."""
    from tests.browser.lab import WIDE

    tab.width(WIDE)
    tab.fetched.clear()
    tab.dialogs.clear()
    yield tab
    assert tab.fetched == []
    assert tab.dialogs == []


@pytest.fixture
def notebook(lab: Lab) -> Iterator[Notebook]:
    """A new notebook in which the extension is loaded."""
    yield lab.notebook()
    lab.shut_kernels_down()


@pytest.fixture
def screenshots(tmp_path: Path) -> Path:
    """The folder for pictures to look at."""
    folder = Path(SCREENSHOTS or tmp_path)
    folder.mkdir(parents=True, exist_ok=True)
    return folder
