"""Axe finds nothing in our outputs that it does not find in JupyterLab's own."""

from __future__ import annotations

import pytest

from tests.browser.lab import DARK, LIGHT, Lab, Notebook
from tests.browser.looks import violations
from tests.browser.test_answer import RICH


@pytest.mark.parametrize("theme", [LIGHT, DARK])
def test_no_violation_of_our_own(lab: Lab, notebook: Notebook, theme: str) -> None:
    lab.theme(theme)
    text = RICH.partition("\n")[2]
    plain = notebook.run(f"from IPython.display import Markdown\nMarkdown({text!r})").wait()
    error = notebook.run("1 / 0").wait()
    expected = violations(plain).keys() | violations(error).keys()
    for source in (RICH, "%%route -n\nHello?", "%%route -m o/status-401\nHello?"):
        faults = violations(notebook.run(source).wait())
        assert faults.keys() <= expected, faults
