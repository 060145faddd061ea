"""The extension in the real JupyterLab: prompts as prose, what today costs, and buttons at answers and errors."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from tests.browser.conftest import CONFIG
from tests.browser.lab import DARK, LIGHT, NARROW, Cell, Lab, Notebook, expect, lab_server
from tests.browser.looks import contrast, violations
from tests.conftest import is_private
from tests.faults.server import FaultServer

PROMPT = """%%route -t fast --temperature 0
Is this **true** for you and {{name}}?

# And in a heading?
```python
for n in range(3): print(n)
```"""
# Whether the middle of an element can be seen: a box that is cut off by one without height cannot.
ON_TOP = """element => {
    const {left, right, top, bottom} = element.getBoundingClientRect()
    return element.contains(document.elementFromPoint((left + right) / 2, (top + bottom) / 2))
}"""
CODE = "%%route -t fast -m o/echo\nCode:\n```python\nprint(6 * 7)\n```"


@pytest.mark.parametrize("theme", [LIGHT, DARK])
def test_a_prompt_is_prose(lab: Lab, notebook: Notebook, theme: str, screenshots: Path) -> None:
    lab.theme(theme)
    content = notebook.type(PROMPT).editor
    expect(content.locator(".ipyrouter-magic")).to_have_text("%%route")
    expect(content.locator(".ipyrouter-option")).to_have_text(["-t", "--temperature"])
    expect(content.locator(".ipyrouter-insertion")).to_have_text("{{name}}")
    expect(content).to_have_attribute("spellcheck", "true")
    expect(content).to_have_class(re.compile("cm-lineWrapping"))
    assert content.locator(".cm-line", has_text="Is this").locator("span").all_inner_texts() == [
        "**", "true", "**", "{{name}}",
    ]  # fmt: skip
    lab.page.screenshot(path=screenshots / f"prompt {theme}.png")
    for mark in ("magic", "option", "insertion"):
        assert contrast(content.locator(f".ipyrouter-{mark}").first) >= 4.5


def test_a_cell_changes_with_its_first_line(notebook: Notebook) -> None:
    check_toggling(notebook)


def check_toggling(notebook: Notebook) -> Cell:
    """Type Python, put a magic above it, and Python above that: the language follows at once, also undone."""
    cell = notebook.type("for n in it: pass")
    content = cell.editor
    last = content.locator(".cm-line").last.locator("span")
    expect(last.first).to_have_text("for")
    for magic in ("%%route --map rows\n---\n", "# to all\n%%route\n"):
        notebook.page.wait_for_timeout(1000)  # the editor takes what comes within half a second as one change to undo
        notebook.page.keyboard.press("Control+Home")
        notebook.page.keyboard.insert_text(magic)
        expect(content.locator(".ipyrouter-magic")).to_have_text("%%route")
        expect(content).to_have_attribute("spellcheck", "true")
        expect(last).to_have_count(0)
        notebook.page.keyboard.press("Control+z")
        expect(content.locator(".ipyrouter-magic")).to_have_count(0)
        expect(last.first).to_have_text("for")
        expect(content).to_have_attribute("spellcheck", "false")
    notebook.page.keyboard.press("Control+Home")
    notebook.page.keyboard.insert_text("%%route\n")
    expect(content.locator(".ipyrouter-magic")).to_have_text("%%route")
    notebook.page.keyboard.press("Control+Home")
    notebook.page.keyboard.insert_text("x = 1\n")
    expect(content.locator(".ipyrouter-magic")).to_have_count(0)
    expect(last.first).to_have_text("for")
    return cell


def test_names_and_options_are_completed_by_the_kernel(notebook: Notebook) -> None:
    notebook.run("primes = [2, 3, 5]\nprices = {}").wait()
    cell = notebook.type("%%route --eff")
    notebook.page.keyboard.press("Tab")
    completer = notebook.page.locator(".jp-Completer")
    expect(completer).to_contain_text("--effort")
    notebook.page.keyboard.press("Enter")
    expect(cell.editor).to_have_text("%%route --effort")
    notebook.page.keyboard.type("\nWhy {{")
    expect(completer).to_contain_text("primes")
    expect(completer).to_contain_text("prices")
    notebook.page.keyboard.type("prim")
    expect(completer).not_to_contain_text("prices")
    notebook.page.keyboard.press("Enter")
    expect(cell.lines.last).to_have_text(re.compile(r"^Why \{\{primes(\}\})?$"))


def test_the_status_bar_follows_what_is_spent_and_opens_the_panel(
    lab: Lab, notebook: Notebook, screenshots: Path
) -> None:
    item = lab.page.locator(".ipyrouter-spending")
    expect(item).to_have_text(re.compile(r"\$[\d.]+.* today$"))  # "at least" where other tests' models have no price
    before = item.inner_text()
    notebook.run("%%route -t power\nHow much is spent now?").wait()
    expect(item).not_to_have_text(before)
    item.get_by_role("button").click()
    figures = lab.page.locator(".ipyrouter-panel .ipyrouter-figures")
    spent = figures.locator("span", has_text=re.compile("^spent")).locator("strong")
    expect(spent).to_have_text(item.inner_text().removesuffix(" today"))
    lab.page.screenshot(path=screenshots / "costs.png")
    notebook.element.locator(".jp-Notebook").click(position={"x": 5, "y": 5})
    again = notebook.run("%%route -t power\nAnd how much now?").wait()
    expect(spent).to_have_text(item.inner_text().removesuffix(" today"))
    expect(again.prompt).to_have_text("[3]:")  # the panel counts as no cell


def test_buttons_at_the_answer(lab: Lab, notebook: Notebook, screenshots: Path) -> None:
    cell = notebook.run(CODE).wait()
    cell.button("Good").click()
    expect(lab.page.get_by_text("Noted: good.").first).to_be_visible()
    cell.button("Insert code").click()
    inserted = notebook.cell(2)
    expect(inserted.editor).to_have_text("print(6 * 7)")
    expect(inserted.prompt).to_have_text("[ ]:")
    lab.page.screenshot(path=screenshots / "buttons.png")
    cell.button("Ask mid").click()
    expect(cell.lines.first).to_have_text("%%route -t mid")
    expect(cell.button("Ask power")).to_be_visible()
    expect(cell.badge).to_have_text(re.compile(r"^o/ok · .* · mid"))
    assert not violations(cell).keys() - {"region"}
    assert "ipyrouter-buttons" not in str(notebook.save())


BOXES = (
    "output => [...output.querySelectorAll('pre, .ipyrouter-buttons button')].map(one => one.getBoundingClientRect())"
)


@pytest.mark.parametrize("theme", [LIGHT, DARK])
def test_a_narrow_window_holds_it(lab: Lab, notebook: Notebook, theme: str, screenshots: Path) -> None:
    lab.theme(theme)
    lab.width(NARROW)
    cell = notebook.run(CODE).wait()
    row = cell.output.get_by_role("group", name="Answer")
    for name in ("Copy", "Insert code", "Good", "Bad", "Ask mid"):
        expect(cell.button(name)).to_be_visible()
    code, *buttons = cell.output.evaluate(BOXES)  # at one moment: the page may scroll
    assert code["height"] > 0
    assert len(buttons) == 5
    for button in buttons:
        assert code["bottom"] <= button["top"]
        assert 0 <= button["left"] <= button["right"] <= NARROW
    assert cell.badge.evaluate(ON_TOP)
    assert contrast(row) >= 4.5
    expect(lab.page.locator(".ipyrouter-spending")).to_be_visible()
    assert lab.page.evaluate("document.documentElement.scrollWidth") <= NARROW
    lab.page.screenshot(path=screenshots / f"buttons {theme} narrow.png")


def test_the_last_error_is_explained_by_one_click(notebook: Notebook) -> None:
    failed = notebook.run("1 / 0").wait()
    second = notebook.run("2 / 0").wait()
    expect(second.button("Explain this error")).to_be_visible()
    expect(failed.button("Explain this error")).to_have_count(0)
    second.button("Explain this error").click()
    explained = notebook.cell_with("%%route --error").wait()
    expect(explained.button("Copy")).to_be_visible()


def test_a_hostile_answer_stays_text(lab: Lab, notebook: Notebook) -> None:
    hostile = "<img src=x onerror='window.pwned = 1'>\n```python\n<script>window.pwned = 1</script>\n```"
    notebook.run(f"%%route -m o/echo\n{hostile}").wait().button("Insert code").click()
    expect(notebook.cell(2).editor).to_have_text("<script>window.pwned = 1</script>")
    assert lab.page.evaluate("window.pwned") is None


def test_a_kernel_without_ipyrouter_is_not_touched(lab: Lab, notebook: Notebook) -> None:
    status = lab.page.locator(".ipyrouter-spending")
    expect(status).to_be_visible()
    asked = notebook.run(CODE).wait()
    expect(asked.button("Copy")).to_be_visible()
    failed = notebook.run("1 / 0").wait()
    expect(failed.button("Explain this error")).to_be_visible()
    lab.errors.clear()
    notebook.restart()
    expect(status).not_to_be_visible()
    fresh = notebook.run("import sys\n'ipyrouter' in sys.modules").wait()
    expect(fresh.output).to_contain_text("False")
    expect(failed.button("Explain this error")).to_have_count(0)
    commands = ("ask-about-cell", "ask-higher", "dry-run", "explain-error", "good", "open-panel", "route-selection")
    asked.editor.click()
    assert [name for name in commands if notebook.is_enabled(name)] == []
    typed = notebook.run("%%route\nIs it **you**?").wait()
    expect(typed.editor.locator(".ipyrouter-magic")).to_have_text("%%route")
    expect(typed.output).to_contain_text("not found")  # IPython's own words
    expect(status).not_to_be_visible()
    asked.button("Good").click()
    expect(lab.page.get_by_text("ipyrouter is not loaded: run %load_ext ipyrouter.").first).to_be_visible()
    asked.button("Insert code").click()  # from what the notebook shows
    expect(notebook.cell(2).editor).to_have_text("print(6 * 7)")
    assert lab.errors == []
    notebook.run("%load_ext ipyrouter").wait()
    expect(status).to_be_visible()
    notebook.run("%unload_ext ipyrouter").wait()
    expect(status).not_to_be_visible()


def test_without_the_extension_only_its_parts_are_missing(server: FaultServer, tmp_path: Path, tab: Lab) -> None:
    folder = tmp_path / "without"
    home, settings = folder / "ipyrouter", folder / "config" / "labconfig"
    for new in (home, settings):
        new.mkdir(parents=True)
    home.chmod(0o700)
    (home / "config.toml").write_text(CONFIG.format(url=server.url))
    (settings / "page_config.json").write_text(json.dumps({"disabledExtensions": {"ipyrouter": True}}))
    environment = {name: value for name, value in os.environ.items() if not is_private(name)}
    with lab_server(folder, {**environment, "IPYROUTER_HOME": str(home)}) as running:
        lab = Lab(tab.browser, running)
        notebook = lab.notebook()
        cell = notebook.run("%%route -t fast\nIs this for you?").wait()
        expect(cell.badge).to_have_text(re.compile(r"^o/ok · .* · fast"))
        expect(cell.editor.locator("span", has_text="for")).to_have_count(1)  # as Python, as without us
        assert lab.page.locator("[class*=ipyrouter-spending], .ipyrouter-buttons, .ipyrouter-magic").count() == 0
        assert not notebook.page.evaluate("jupyterapp.commands.listCommands().some(id => id.startsWith('ipyrouter'))")
        panel = notebook.run("%router panel").wait()
        expect(panel.output.locator(".ipyrouter-log tbody tr")).to_have_count(1)
        expect(notebook.run("%router good").wait().output).to_contain_text("Noted: good.")
        assert lab.fetched == lab.dialogs == []
        lab.shut_kernels_down()
        lab.page.close()
