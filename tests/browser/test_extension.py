"""The extension in the real JupyterLab: prompts as prose, what today costs, commands and buttons."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.browser.lab import DARK, LIGHT, Cell, Lab, Locator, Notebook, expect
from tests.browser.looks import contrast, violations

PROMPT = """%%route -t fast --temperature 0
Is this **true** for you and {{name}}?

# And in a heading?
```python
for n in range(3): print(n)
```"""


def editor(cell: Cell) -> Locator:
    return cell.element.locator(".cm-content")


def command(notebook: Notebook, name: str) -> None:
    """Run a command of the palette, without waiting for its end."""
    notebook.page.evaluate("name => void jupyterapp.commands.execute(`ipyrouter:${name}`)", name)


def is_enabled(notebook: Notebook, name: str) -> bool:
    return bool(notebook.page.evaluate("name => jupyterapp.commands.isEnabled(`ipyrouter:${name}`)", name))


def button(cell: Cell, name: str) -> Locator:
    return cell.output.get_by_role("button", name=name)


def cell_with(notebook: Notebook, source: str) -> Cell:
    """Return the cell whose source holds these words, once there is one."""
    element = notebook.element.locator(".jp-Notebook .jp-Cell").filter(
        has=notebook.page.locator(".cm-content", has_text=source)
    )
    expect(element).to_have_count(1)
    return Cell(element)


@pytest.mark.parametrize("theme", [LIGHT, DARK])
def test_a_prompt_is_prose(lab: Lab, notebook: Notebook, theme: str, screenshots: Path) -> None:
    lab.theme(theme)
    cell = notebook.type(PROMPT)
    content = editor(cell)
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
    cell = notebook.type("for n in it: pass")
    content = editor(cell)
    expect(content.locator(".cm-line span").first).to_have_text("for")
    notebook.page.keyboard.press("Control+Home")
    notebook.page.keyboard.insert_text("# to all\n%%route --map rows\n---\n")
    expect(content.locator(".ipyrouter-magic")).to_have_text("%%route")
    expect(content.locator(".cm-line").last.locator("span")).to_have_count(0)
    notebook.page.keyboard.press("Control+Home")
    notebook.page.keyboard.insert_text("x = 1\n")
    expect(content.locator(".ipyrouter-magic")).to_have_count(0)
    expect(content.locator(".cm-line").last.locator("span").first).to_have_text("for")
    expect(content).to_have_attribute("spellcheck", "false")


def test_the_status_bar_follows_what_is_spent_and_opens_the_panel(
    lab: Lab, notebook: Notebook, screenshots: Path
) -> None:
    item = lab.page.locator(".ipyrouter-spending")
    expect(item).to_contain_text(re.compile(r"^\$[\d.]+ today$"))
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
    expect(again.element.locator(".jp-InputPrompt")).to_have_text("[3]:")  # the panel counts as no cell


def test_buttons_at_the_answer(lab: Lab, notebook: Notebook, screenshots: Path) -> None:
    cell = notebook.run("%%route -t fast -m o/echo\nCode:\n```python\nprint(6 * 7)\n```").wait()
    button(cell, "Good").click()
    expect(lab.page.get_by_text("Noted: good.").first).to_be_visible()
    button(cell, "Insert code").click()
    inserted = notebook.cell(2)
    expect(editor(inserted)).to_have_text("print(6 * 7)")
    expect(inserted.element.locator(".jp-InputPrompt")).to_have_text("[ ]:")
    lab.page.screenshot(path=screenshots / "buttons.png")
    button(cell, "Ask mid").click()
    expect(editor(cell).locator(".cm-line").first).to_have_text("%%route -t mid")
    expect(button(cell, "Ask power")).to_be_visible()
    expect(cell.badge).to_contain_text("mid o/ok")
    assert not violations(cell).keys() - {"region"}
    assert "ipyrouter-buttons" not in str(notebook.save())


def test_the_last_error_is_explained_by_one_click(notebook: Notebook) -> None:
    failed = notebook.run("1 / 0").wait()
    notebook.run("2 / 0").wait()
    second = notebook.cell(2)
    expect(button(second, "Explain this error")).to_be_visible()
    expect(button(failed, "Explain this error")).to_have_count(0)
    button(second, "Explain this error").click()
    explained = cell_with(notebook, "%%route --error").wait()
    expect(button(explained, "Copy")).to_be_visible()


def test_commands(lab: Lab, notebook: Notebook) -> None:
    asked = notebook.run("%%route\nWhat is a tuple?").wait()
    editor(asked).click()
    before = editor(asked).inner_text()
    command(notebook, "dry-run")
    dialog = lab.page.get_by_role("dialog")
    expect(dialog).to_contain_text("Dry run: nothing was sent.")
    dialog.get_by_role("button", name="Close").click()
    assert editor(asked).inner_text() == before
    command(notebook, "ask-about-cell")
    question = cell_with(notebook, "%%route --cells 2")
    lab.page.keyboard.type("Why so?")
    expect(editor(question).locator(".cm-line")).to_have_text(["%%route --cells 2", "Why so?"])
    lab.page.keyboard.press("Control+a")
    assert is_enabled(notebook, "route-selection")


def test_a_hostile_answer_stays_text(lab: Lab, notebook: Notebook) -> None:
    hostile = "<img src=x onerror='window.pwned = 1'>\n```python\n<script>window.pwned = 1</script>\n```"
    cell = notebook.run(f"%%route -m o/echo\n{hostile}").wait()
    button(cell, "Insert code").click()
    expect(editor(notebook.cell(2))).to_have_text("<script>window.pwned = 1</script>")
    assert lab.page.evaluate("window.pwned") is None
