"""Generated hostile answers in a real JupyterLab: what test_renderers.py shows of its renderer, with MathJax too."""

from __future__ import annotations

import json
from pathlib import Path

from tests.browser.lab import Lab, Notebook, expect
from tests.browser.test_hostile import LIVE
from tests.renderers.prove import documents

ANSWERS, EACH = 500, 50  # JupyterLab shows no more outputs of a cell


def test_nothing_runs_and_nothing_leaves(lab: Lab, notebook: Notebook, tmp_path: Path) -> None:
    answers = list(documents(ANSWERS, seed=500))
    path = tmp_path / "answers.json"
    path.write_text(json.dumps(answers))
    notebook.run(f"import json\nfrom IPython.display import display\nanswers = json.load(open({str(path)!r}))").wait()
    formulas = 0
    for start in range(0, ANSWERS, EACH):
        cell = notebook.run(
            f"for text in answers[{start}:{start + EACH}]:\n    display({{'text/markdown': text}}, raw=True)"
        ).wait()
        rendered = cell.output.locator(".jp-RenderedMarkdown")
        expect(rendered).to_have_count(EACH)
        expect(cell.output.locator(".jp-RenderedMarkdown:empty")).to_have_count(0)
        assert cell.output.evaluate(LIVE) == []
        formulas += cell.output.locator("mjx-container").count()
    assert formulas > ANSWERS / 10  # they have been set, and set to nothing that lives
    for output in notebook.element.locator(".jp-OutputArea").all():
        assert output.evaluate(LIVE) == []
    assert lab.fetched == []
    assert lab.dialogs == []
