"""The panel in a real JupyterLab: live, browsed, exported, saved, and opened again without its kernel."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pandas as pd
import pytest

from tests.browser.lab import DARK, LIGHT, NARROW, Cell, Lab, Locator, Notebook, expect
from tests.browser.looks import contrast, violations


def total(cell: Cell, name: str) -> Locator:
    """Return the figure under a heading of the panel."""
    return cell.output.locator(".ipyrouter-figures span", has_text=re.compile(f"^{name}")).locator("strong")


def test_the_panel_follows_the_cells_below_it(lab: Lab, notebook: Notebook) -> None:
    panel = notebook.run("%router panel").wait()
    choose(panel, "when", "this session")
    expect(total(panel, "calls")).to_have_text("0")
    notebook.run("%%route\nHow long is the coast of Norway?").wait()
    expect(total(panel, "calls")).to_have_text("1")
    expect(total(panel, "spent")).to_have_text("$0.00041")
    expect(panel.output.get_by_role("cell", name="How long is the coast of Norway?")).to_be_visible()
    notebook.run("%%route\nHow long is the coast of Norway?").wait()
    expect(total(panel, "cache hits")).to_have_text("1")
    expect(total(panel, "saved by the cache")).to_have_text("$0.00041")
    choose(panel, "status", "cached")
    expect(panel.output.locator(".ipyrouter-log tbody tr")).to_have_count(1)


def choose(panel: Cell, filter_: str, option: str) -> None:
    panel.output.get_by_label(filter_, exact=True).select_option(option)
    expect(panel.output.locator(".ipyrouter-figures")).to_contain_text(option)


def test_pages_and_export(lab: Lab, notebook: Notebook) -> None:
    notebook.run("import ipyrouter\nfor n in range(25):\n    ipyrouter.route(f'Question {n}', tier='power')").wait()
    panel = notebook.run("%router panel").wait()
    choose(panel, "when", "this session")
    expect(panel.output).to_contain_text("page 1 of 2 · 25 rows")
    expect(panel.output.get_by_role("cell", name="Question 24", exact=True)).to_be_visible()
    panel.output.get_by_role("button", name="older").click()
    expect(panel.output.get_by_role("cell", name="Question 0", exact=True)).to_be_visible()
    expect(panel.output.get_by_role("button", name="older")).to_be_disabled()
    panel.output.get_by_role("button", name="Export").click()
    status = panel.output.get_by_role("status")
    expect(status).to_have_text(re.compile("^Wrote 25 rows to "))
    path = Path(status.inner_text().removeprefix("Wrote 25 rows to "))
    assert list(pd.read_csv(path)["prompt"]) == [f"Question {n}" for n in range(25)]


EDGES = """cells => cells.map(cell => {
    const text = document.createRange()
    text.selectNodeContents(cell)
    const box = text.getBoundingClientRect()
    return cell.textContent ? (getComputedStyle(cell).textAlign == "right" ? box.right : box.left) : null
})"""


def test_headers_stand_above_their_columns_once_pandas_has_shown_a_frame(lab: Lab, notebook: Notebook) -> None:
    notebook.run("%%route -q\nWhat stands where?").wait()
    notebook.run("import pandas as pd\npd.DataFrame({'a': [1]})").wait()
    panel = notebook.run("%router panel").wait()
    expect(panel.output.locator(".ipyrouter-log tbody tr").first).to_be_visible()
    heads = panel.output.locator(".ipyrouter-log th").evaluate_all(EDGES)
    cells = panel.output.locator(".ipyrouter-log tbody tr:first-child td").evaluate_all(EDGES)
    assert len(heads) == len(cells) == 9
    assert [(head, cell) for head, cell in zip(heads, cells, strict=True) if cell and abs(head - cell) >= 1] == []


@pytest.mark.parametrize("theme", [LIGHT, DARK])
def test_the_panel_is_readable(lab: Lab, notebook: Notebook, theme: str, screenshots: Path) -> None:
    lab.theme(theme)
    notebook.run("import ipywidgets\nipywidgets.Dropdown(options=['all'], description='tier')").wait()
    for tier in ("fast", "mid", "power"):
        notebook.run(f"%%route -t {tier} -q\nIn {theme}?").wait()
    panel = notebook.run("%router panel").wait()
    expect(panel.output.locator(".ipyrouter-log")).to_be_visible()
    panel.element.scroll_into_view_if_needed()
    lab.page.screenshot(path=screenshots / f"panel {theme}.png")
    assert contrast(panel.output.locator(".ipyrouter-figures")) >= 4.5
    assert contrast(panel.output.locator(".ipyrouter-log")) >= 4.5
    faults = violations(panel)
    assert faults.keys() <= violations(notebook.cell(1)).keys(), faults
    lab.width(NARROW)
    assert lab.page.evaluate("document.documentElement.scrollWidth") <= NARROW
    assert panel.output.locator(".ipyrouter-figures").evaluate("figures => figures.scrollWidth <= figures.clientWidth")
    lab.page.screenshot(path=screenshots / f"panel {theme} narrow.png")


@pytest.mark.parametrize(("kernel", "trusted"), [(True, True), (False, True), (True, False)])
def test_a_saved_panel_shows_its_figures_without_its_kernel(
    lab: Lab, notebook: Notebook, screenshots: Path, kernel: bool, trusted: bool
) -> None:
    notebook.run("%%route -q\nWhat remains?").wait()
    calls = total(notebook.run("%router panel").wait(), "calls").inner_text()
    file = notebook.save()
    lab.shut_kernels_down()
    again = lab.open(notebook.path if trusted else sent(notebook.path, file), kernel=kernel)
    panel = again.cell(2)
    expect(total(panel, "calls")).to_have_text(calls)
    figures = panel.outputs.first
    charts = figures.get_by_role("img", name=re.compile(r"^Cost per tier: fast \$[\d.]+, mid \$[\d.]+, power"))
    expect(charts).to_be_visible()
    assert charts.evaluate("image => image.decode().then(() => image.naturalWidth)") > 1000
    expect(figures.get_by_role("row", name=re.compile(r"^mid .*\$[\d.]+( \d+)+$"))).to_be_visible()
    expect(again.element.get_by_text(re.compile("model not found|Loading widget"))).not_to_be_visible()
    expect(again.element.locator("mjx-container")).to_have_count(0)
    assert figures.inner_text().count("mid") == 1  # no words of the charts stand beside them
    panel.element.scroll_into_view_if_needed()
    lab.page.screenshot(path=screenshots / f"panel saved, kernel {kernel}, trusted {trusted}.png")
    assert violations(panel).keys() <= {"region"}


def sent(path: Path, file: nbformat.NotebookNode) -> Path:
    """Return the path of a copy that nobody here has run: JupyterLab does not trust it."""
    copy = path.with_stem(f"{path.stem}-sent")
    cells = [*file.cells, nbformat.v4.new_markdown_cell("Look!")]
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=file.metadata), copy)
    return copy


def test_a_row_is_looked_at_and_rows_are_sorted(lab: Lab, notebook: Notebook) -> None:
    notebook.run("%%route -q -t mid\nLook at\nthis!").wait()
    notebook.run("%%route -q -t power\nAnd at that!").wait()
    panel = notebook.run("%router panel").wait()
    choose(panel, "when", "this session")
    panel.output.get_by_label("sort", exact=True).select_option("tier, ascending")
    head = panel.output.locator(".ipyrouter-log th[aria-sort=ascending]")
    expect(head).to_have_text("tier ▲")
    expect(panel.output.locator(".ipyrouter-log tbody tr").first).to_contain_text("Look at this!")
    choice = panel.output.get_by_label("look at", exact=True)
    choice.select_option(choice.locator("option", has_text="Look at this!").inner_text())
    request = panel.output.get_by_role("region", name="request")
    expect(request.get_by_label("prompt")).to_have_text("Look at\nthis!")
    expect(request.get_by_role("columnheader", name="attempt")).to_be_visible()
    assert contrast(request) >= 4.5


def test_hostile_rows_stay_text(lab: Lab, notebook: Notebook) -> None:
    hostile = "<img src=https://evil.example/x onerror='window.pwned = 1'><script>window.pwned = 1</script>"
    notebook.run(f"%%route -q -m o/echo\n{hostile}").wait()
    panel = notebook.run("%router panel").wait()
    choose(panel, "when", "this session")
    expect(panel.output.locator(".ipyrouter-log")).to_contain_text("<img src=https://evil")
    assert lab.page.evaluate("window.pwned") is None
