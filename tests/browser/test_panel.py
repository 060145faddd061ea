"""The panel in a real JupyterLab: live, browsed, exported, saved, and opened again without its kernel."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pandas as pd
import pytest

from tests.browser.lab import DARK, LIGHT, NARROW, Cell, Lab, Locator, Notebook, expect
from tests.browser.looks import contrast, violations
from tests.faults.server import FaultServer


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


def test_two_panels_do_not_disturb_each_other(lab: Lab, notebook: Notebook) -> None:
    first, second = notebook.run("%router panel").wait(), notebook.run("%router panel").wait()
    for panel in (first, second):
        choose(panel, "when", "this session")
    choose(second, "tier", "power")
    second.output.get_by_label("sort", exact=True).select_option("cost, ascending")
    for tier in ("mid", "power"):
        notebook.run(f"%%route -q -t {tier}\nWhat is it to the {tier}?").wait()
    expect(rows(first)).to_have_count(2)
    expect(rows(second)).to_have_count(1)
    expect(total(first, "calls")).to_have_text("2")
    expect(total(second, "calls")).to_have_text("1")
    expect(first.output.locator("th[aria-sort=descending]")).to_have_text("at (UTC) ▼")
    expect(second.output.locator("th[aria-sort=ascending]")).to_have_text(re.compile("^cost.* ▲$"))
    choose(first, "tier", "mid")
    expect(rows(first)).to_contain_text(["What is it to the mid?"])
    expect(rows(second)).to_contain_text(["What is it to the power?"])
    expect(second.output.get_by_label("tier", exact=True)).to_have_value("power")


def rows(panel: Cell) -> Locator:
    return panel.output.locator(".ipyrouter-log tbody tr")


def test_what_is_exported_is_what_is_filtered(lab: Lab, notebook: Notebook) -> None:
    for tier in ("mid", "power"):
        notebook.run(f"%%route -q -t {tier}\nExport the {tier} of it!").wait()
    panel = notebook.run("%router panel").wait()
    choose(panel, "when", "today")
    search = panel.output.get_by_placeholder("in prompt or answer")
    search.fill("Export the")
    search.press("Enter")
    expect(panel.output.locator(".ipyrouter-figures")).to_contain_text("“Export the”")
    expect(rows(panel)).to_have_count(2)
    choose(panel, "tier", "mid")
    expect(rows(panel)).to_contain_text(["Export the mid of it!"])
    panel.output.get_by_label("file", exact=True).select_option("json")
    panel.output.get_by_role("button", name="Export").click()
    status = panel.output.get_by_role("status")
    expect(status).to_have_text(re.compile(r"^Wrote 1 row to .*\.json$"))
    path = Path(status.inner_text().removeprefix("Wrote 1 row to "))
    assert list(pd.read_json(path)["prompt"]) == ["Export the mid of it!"]


EMPTY = """
import ipyrouter
ipyrouter.use_router(ipyrouter.Router({{
    "providers": {{"o": {{"sdk": "openai", "base_url": "{url}/v1"}}}},
    "prices": {{"o/ok": {{"input": 0, "output": 0}}}},
    "tiers": {{tier: {{"chain": ["o/ok"]}} for tier in ("fast", "mid", "power")}},
}}, home={home!r}))
"""


@pytest.mark.parametrize("theme", [LIGHT, DARK])
def test_an_empty_log_and_one_of_free_calls_look_meant(
    lab: Lab, notebook: Notebook, server: FaultServer, tmp_path: Path, theme: str, screenshots: Path
) -> None:
    lab.theme(theme)
    notebook.run(EMPTY.format(url=server.url, home=str(tmp_path / "empty"))).wait()
    panel = notebook.run("%router panel").wait()
    figures = panel.output.locator(".ipyrouter-figures")
    expect(figures).to_contain_text("No call here yet: run a %%route cell, and its cost appears at once.")
    expect(panel.output).to_contain_text("The log has no such row yet.")
    assert total(panel, "spent").inner_text() == "$0"
    assert panel.output.get_by_role("img").count() == 0
    lab.page.screenshot(path=screenshots / f"panel empty {theme}.png")
    notebook.run("%%route -q -t mid\nWhat is free?").wait()
    expect(figures).to_contain_text("Nothing was spent: the models were free. The charts show calls.")
    expect(panel.output.get_by_role("img", name=re.compile("^Calls per tier: fast 0, mid 1, power 0"))).to_be_visible()
    expect(rows(panel)).to_have_count(1)
    for part in (figures, panel.output.locator(".ipyrouter-log")):
        assert contrast(part) >= 4.5
    panel.element.scroll_into_view_if_needed()
    lab.page.screenshot(path=screenshots / f"panel free {theme}.png")
