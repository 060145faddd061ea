"""The extension's commands in the real JupyterLab: each writes or runs what a user would type."""

from __future__ import annotations

import re

from tests.browser.lab import Cell, Lab, Notebook, expect

CODE = "%%route -t fast -m o/echo\nCode:\n```python\nprint(6 * 7)\n```"


def focus(cell: Cell) -> None:
    """Put the cursor into a cell."""
    cell.editor.click()


def test_each_is_in_the_palette(lab: Lab, notebook: Notebook) -> None:
    lab.page.keyboard.press("Control+Shift+c")
    lab.page.locator(".lm-CommandPalette-input").fill("ipyrouter")
    labels = lab.page.locator(".lm-CommandPalette-itemLabel")
    for label in (
        "Route Selection", "Ask About This Cell", "Explain the Last Error", "Insert Code from the Answer Below",
        "Ask Again at a Higher Tier", "Good Answer", "Bad Answer", "Dry Run", "Show Costs",
    ):  # fmt: skip
        expect(labels.filter(has_text=re.compile(f"^{label}$"))).to_have_count(1)
    lab.page.keyboard.press("Escape")


def test_a_selection_is_routed(notebook: Notebook) -> None:
    cell = notebook.type("What is {{a}} tuple?")
    assert not notebook.is_enabled("route-selection")
    notebook.page.keyboard.press("Control+a")
    notebook.command("route-selection")
    routed = notebook.cell_with("%%route --raw").wait()
    expect(routed.lines).to_have_text(["%%route --raw", "What is {{a}} tuple?"])
    expect(routed.badge).to_be_visible()
    expect(cell.prompt).to_have_text("[ ]:")


def test_a_dry_run_is_a_dialog_and_the_cell_stays(lab: Lab, notebook: Notebook) -> None:
    asked = notebook.run("%%route\nWhat is a tuple?").wait()
    focus(asked)
    notebook.command("dry-run")
    dialog = lab.page.get_by_role("dialog")
    expect(dialog).to_contain_text("Dry run: nothing was sent.")
    dialog.get_by_role("button", name="Close").click()
    expect(asked.lines).to_have_text(["%%route", "What is a tuple?"])
    expect(asked.prompt).to_have_text("[2]:")


def test_a_prompt_about_a_cell_sends_it_along(lab: Lab, notebook: Notebook) -> None:
    ran = notebook.run("squares = [n * n for n in range(9)]").wait()
    focus(ran)
    notebook.command("ask-about-cell")
    question = notebook.cell_with("%%route --cells 2")
    lab.page.keyboard.type("Why so?")
    expect(question.lines).to_have_text(["%%route --cells 2", "Why so?"])
    lab.page.keyboard.press("Shift+Enter")
    expect(question.wait().badge).to_be_visible()
    new = notebook.type("print('`` never run')")
    focus(new)
    notebook.command("ask-about-cell")
    question = notebook.cell_with("%%route --raw")
    lab.page.keyboard.type("And this?")
    expect(question.lines).to_have_text(["%%route --raw", "And this?", "", "```python", "print('`` never run')", "```"])


def test_the_last_error_is_explained(notebook: Notebook) -> None:
    assert not notebook.is_enabled("explain-error")
    failed = notebook.run("1 / 0").wait()
    expect(failed.button("Explain this error")).to_be_visible()
    notebook.command("explain-error")
    explained = notebook.cell_with("%%route --error").wait()
    expect(explained.lines.last).to_have_text("Explain this error, and how to fix it.")
    expect(explained.badge).to_be_visible()


def test_code_is_inserted_and_not_run(notebook: Notebook) -> None:
    cell = notebook.run(CODE).wait()
    expect(cell.button("Insert code")).to_be_visible()
    focus(cell)
    notebook.command("insert-code")
    inserted = notebook.cell(2)
    expect(inserted.lines).to_have_text(["print(6 * 7)"])
    expect(inserted.prompt).to_have_text("[ ]:")


def test_it_is_asked_again_a_tier_up_until_there_is_none(notebook: Notebook) -> None:
    cell = notebook.run("# mine\n%%route -t fast --temperature 0\nWhich way is up?").wait()
    for tier, above in (("mid", "power"), ("power", None)):
        expect(cell.button(f"Ask {tier}")).to_be_visible()
        focus(cell)
        notebook.command("ask-higher")
        expect(cell.lines).to_have_text(["# mine", f"%%route -t {tier} --temperature 0", "Which way is up?"])
        expect(cell.badge).to_have_text(re.compile(rf"^o/ok · .* · {tier}\b"))
        expect(cell.button("Ask")).to_have_text([f"Ask {above}"] if above else [])
    focus(cell)
    assert not notebook.is_enabled("ask-higher")
    notebook.page.keyboard.press("Control+z")
    expect(cell.lines.nth(1)).to_have_text(re.compile("^%%route -t (mid|fast) --temperature 0$"))


def test_answers_are_judged(lab: Lab, notebook: Notebook) -> None:
    cell = notebook.run("%%route\nHow good is this of all answers?").wait()
    expect(cell.button("Good")).to_be_visible()
    for verdict in ("good", "bad"):
        focus(cell)
        notebook.command(verdict)
        expect(lab.page.get_by_text(f"Noted: {verdict}.").first).to_be_visible()
    log = notebook.run(
        "import ipyrouter\nlog = ipyrouter.cost_log()\n"
        "list(log[log['prompt'].str.contains('of all answers')]['feedback'])"
    ).wait()
    expect(log.outputs.last).to_have_text("['bad']")
