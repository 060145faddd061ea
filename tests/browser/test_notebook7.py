"""The extension in the real Notebook 7: the same, with today's spend beside the menus."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.browser.conftest import CONFIG
from tests.browser.lab import NARROW, PYTHON3, Lab, Notebook, expect, lab_server
from tests.browser.looks import contrast, violations
from tests.browser.test_extension import check_toggling
from tests.conftest import is_private
from tests.faults.server import FaultServer


@pytest.fixture
def notebook7(server: FaultServer, tmp_path: Path, tab: Lab) -> Iterator[Notebook]:
    """A new notebook in Notebook 7, in the browser of the other tests."""
    import nbformat  # late: four seconds
    from nbformat.v4 import new_code_cell, new_notebook

    folder = tmp_path / "notebook7"
    home = folder / "ipyrouter"
    home.mkdir(mode=0o700, parents=True)
    (home / "config.toml").write_text(CONFIG.format(url=server.url))
    environment = {name: value for name, value in os.environ.items() if not is_private(name)}
    with lab_server(folder, {**environment, "IPYROUTER_HOME": str(home)}, "notebook") as running:
        path = running.root / "seven.ipynb"
        nbformat.write(new_notebook(cells=[new_code_cell()], metadata=PYTHON3), path)
        lab = Lab(tab.browser, running)
        lab.page.goto(f"{running.url}/notebooks/{path.name}?token={running.token}")
        lab.wait_for_kernel()
        yield Notebook(lab.page, path)
        lab.shut_kernels_down()
        assert lab.fetched == []
        lab.page.close()


def test_prompts_figures_and_buttons(notebook7: Notebook, screenshots: Path) -> None:
    page = notebook7.page
    spending = page.locator(".ipyrouter-spending")
    expect(spending).not_to_be_visible()
    notebook7.run("%load_ext ipyrouter").wait()
    expect(spending).to_have_text("$0 today")
    cell = check_toggling(notebook7)
    notebook7.page.keyboard.press("Control+a")
    notebook7.page.keyboard.insert_text("name = 'Ada'")
    notebook7.page.keyboard.press("Shift+Enter")
    cell.wait()
    asked = notebook7.run("%%route -t fast\nIs **this** for you and {{name}}?").wait()
    content = asked.element.locator(".cm-content")
    expect(content.locator(".ipyrouter-magic")).to_have_text("%%route")
    expect(content.locator(".ipyrouter-insertion")).to_have_text("{{name}}")
    assert content.locator(".cm-line").last.locator("span").all_inner_texts() == ["**", "this", "**", "{{name}}"]
    expect(spending).to_have_text("$0.00041 today")
    asked.output.get_by_role("button", name="Ask mid").click()
    expect(content.locator(".cm-line").first).to_have_text("%%route -t mid")
    expect(asked.output.get_by_role("button", name="Ask power")).to_be_visible()
    spending.get_by_role("button").click()
    figures = page.locator(".ipyrouter-panel .ipyrouter-figures")
    expect(figures).to_contain_text(spending.inner_text().removesuffix(" today"))
    assert contrast(asked.badge) >= 4.5
    assert not violations(asked).keys() - {"region"}
    page.screenshot(path=screenshots / "notebook 7.png")
    page.set_viewport_size({"width": NARROW, "height": 900})
    assert page.evaluate("document.documentElement.scrollWidth") <= NARROW
    page.screenshot(path=screenshots / "notebook 7 narrow.png")
