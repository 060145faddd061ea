"""The way of a prompt in a real JupyterLab: typed, streamed, stopped, saved and opened again."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.browser.lab import DARK, LIGHT, NARROW, WIDE, Lab, Locator, Notebook, expect
from tests.browser.looks import contrast, violations
from tests.faults.server import HANG, TEXT, FaultServer, Reply

RICH = '''%%route -m o/echo
Which of the two is dearer?

```python
def dearer(a: float, b: float) -> float:
    """Return the dearer one."""
    return max(a, b)  # in dollars
```

The sum is $\\sum_{i=1}^n x_i^2$ in `R^n`:

| model | input | output | context | latency | requests | tokens | cache hits | escalations | remarks |
|---|---|---|---|---|---|---|---|---|---|
| a_very_long_model_name_without_a_break | 1.00 | 5.00 | 400,000 | 1.2 s | 1,000 | 2,000,000 | 300 | 10 | none_at_all |

- first, see the [manual](https://docs.example.org)
- second'''
LONG = """%%route -m o/echo
How long is it?

```python
orders[orders.duplicated("customer", keep=False) & orders["total"].gt(orders["total"].median())].sort_values("total")
```

```
Words stay whole in text that is longer than its place is wide, in an answer as in the prompt of a dry run.
```"""
# How many words of an element stand on more than one line.
BROKEN_WORDS = """element => {
    const text = document.createTreeWalker(element, NodeFilter.SHOW_TEXT).nextNode(), range = document.createRange()
    return [...text.data.matchAll(/\\S+/g)].filter(word => {
        range.setStart(text, word.index)
        range.setEnd(text, word.index + word[0].length)
        return range.getClientRects().length > 1
    }).length
}"""


def test_a_typed_prompt_streams_and_ends_with_its_cost(notebook: Notebook, server: FaultServer) -> None:
    server.release.clear()
    cell = notebook.type("")
    for line in ("%%route -m o/stream-held", "Why forty-two?"):
        notebook.page.keyboard.type(line)
        notebook.page.keyboard.press("Enter")
    notebook.page.keyboard.press("Shift+Enter")
    expect(cell.output).to_contain_text(TEXT[:12])
    expect(cell.output).not_to_contain_text("well known")
    expect(cell.badge).to_have_text("o/stream-held · … · fast")
    server.release.set()
    expect(cell.wait().output).to_contain_text(TEXT)
    expect(cell.badge).to_have_text("o/stream-held · $0.00041 · fast · the provider's cache saved $0.000010")
    expect(cell.badge).to_have_attribute(
        "title", re.compile(r"^120 in \+ 30 out tokens, 5 of them thinking · [\d.]+ m?s$")
    )
    expect(cell.outputs).to_have_count(1)
    again = notebook.run("%%route -m o/stream-held\nWhy forty-two?").wait()
    expect(again.badge).to_contain_text("$0 · saved $0.00041 · ")
    expect(again.badge).to_contain_text(" · cached")
    expect(again.outputs).to_have_count(1)


@pytest.mark.parametrize("theme", [LIGHT, DARK])
def test_every_badge_is_readable(lab: Lab, notebook: Notebook, theme: str, screenshots: Path) -> None:
    lab.theme(theme)
    cells = [notebook.run(f"%%route -t {tier}\nIn {theme}?").wait() for tier in ("fast", "mid", "power")]
    cells.append(notebook.run(RICH).wait())
    cells.append(notebook.run("%%route -m o/status-401\nHello?").wait())
    lab.page.screenshot(path=screenshots / f"{theme}.png")
    for cell in cells:
        assert contrast(cell.badge) >= 4.5


def test_amounts_are_no_maths(notebook: Notebook) -> None:
    notebook.run("%%route -m o/ok\nWhat is a dollar?").wait()
    saved = notebook.run("%%route -m o/ok\nWhat is a dollar?").wait()
    expect(saved.badge).to_contain_text("$0 · saved $0.00041 · ")
    dry = notebook.run("%%route -n\nBetween $1 and $2?").wait()
    expect(dry.output.get_by_role("row", name=re.compile("^cost"))).to_have_text(re.compile(r"\$[\d.]+ to \$[\d.]+"))
    expect(notebook.element.locator("mjx-container")).to_have_count(0)


def test_code_is_coloured_and_maths_is_set(notebook: Notebook) -> None:
    cell = notebook.run(RICH).wait()
    expect(cell.output.locator("pre code span", has_text="def")).not_to_have_css(
        "color", cell.output.locator("pre code").evaluate("code => getComputedStyle(code).color")
    )
    expect(cell.output.locator("mjx-container")).to_have_count(1)
    expect(cell.output.get_by_role("cell", name="400,000")).to_be_visible()
    expect(cell.output.get_by_role("listitem")).to_have_count(2)


@pytest.mark.parametrize("width", [NARROW, WIDE])
def test_what_is_wide_scrolls_by_itself(lab: Lab, notebook: Notebook, width: int, screenshots: Path) -> None:
    lab.width(width)
    cell = notebook.run(RICH).wait()
    lab.page.screenshot(path=screenshots / f"{width} pixels.png")
    assert lab.page.evaluate("document.documentElement.scrollWidth") <= width
    assert not scrolls(notebook.element.locator(".jp-WindowedPanel-outer"))
    assert not scrolls(cell.badge)
    assert scrolls(cell.outputs) == (width == NARROW)  # the table is wider than a narrow window


def test_long_code_scrolls_and_long_text_breaks_between_words(lab: Lab, notebook: Notebook) -> None:
    lab.width(NARROW)
    cell = notebook.run(LONG).wait()
    code, text = cell.output.locator("pre").all()
    expect(code).to_have_attribute("tabindex", "0")
    assert scrolls(code)
    assert not scrolls(text)
    assert text.evaluate("text => text.offsetHeight > 40")  # it takes several lines
    assert text.evaluate(BROKEN_WORDS) == 0
    assert not violations(cell).keys() - {"region"}


def scrolls(element: Locator) -> bool:
    return bool(element.evaluate("element => element.scrollWidth > element.clientWidth"))


def test_the_stop_button_keeps_what_had_arrived(notebook: Notebook) -> None:
    cell = notebook.run("%%route -m o/stream-stall\nExplain closures")
    expect(cell.output).to_contain_text(TEXT[:12])
    notebook.interrupt()
    expect(cell.wait().outputs).to_have_count(2)
    expect(cell.badge).to_contain_text("o/stream-stall · ")
    expect(cell.badge).to_contain_text(" · stopped")
    expect(cell.outputs.first).to_contain_text(TEXT[:12])
    expect(cell.outputs.last).to_have_text("Interrupted: Stopped. What had arrived is shown and logged.")
    expect(notebook.run("%%route\nIs all well?").wait().output).to_contain_text(TEXT)


def test_an_error_is_one_line_and_stops_run_all(notebook: Notebook, server: FaultServer) -> None:
    def refuse(_: object) -> Reply:
        server.release.wait(HANG)
        return Reply({"error": {"message": "Incorrect API key provided"}}, status=401)

    server.release.clear()
    server.replies["refuses"] = refuse
    cell = notebook.run("%%route -m o/refuses\nExplain closures")
    after = notebook.run("print('not reached')")
    expect(after.prompt).to_have_text("[*]:")  # the kernel has both, as in Run All
    server.release.set()
    expect(cell.wait().outputs.last).to_have_text(re.compile(r"^RouteError: o/refuses: 401 Incorrect API key.*$"))
    expect(cell.badge).to_have_text("failed no complete answer after 1 attempt; the error below says why")
    expect(after.output).to_be_empty()


@pytest.mark.parametrize("trusted", [True, False])
def test_a_saved_answer_outlives_its_kernel(lab: Lab, notebook: Notebook, trusted: bool) -> None:
    import nbformat  # late: four seconds
    from nbformat.v4 import new_markdown_cell, new_notebook

    cell = notebook.run("%%route\nWhat lasts?").wait()
    badge = cell.badge.inner_text()
    file = notebook.save()
    assert file.cells[1].outputs[0].metadata.ipyrouter.tier
    lab.shut_kernels_down()
    path = notebook.path
    if not trusted:  # what a colleague sent: nobody here has run it
        path = path.with_stem(f"{path.stem}-sent")
        nbformat.write(new_notebook(cells=[*file.cells, new_markdown_cell("Look!")], metadata=file.metadata), path)
    again = lab.open(path).cell(1)
    expect(again.badge).to_have_text(badge)
    expect(again.output).to_contain_text(TEXT)
    expect(again.outputs).to_have_count(1)
    assert lab.page.get_by_text("not found").count() == 0
