"""The example notebooks run from top to bottom on the local model, and keep their figures when saved."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.notebook.kernels import execute_notebook

NOTEBOOKS = sorted((Path(__file__).parent.parent / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs(path: Path, tmp_path: Path) -> None:
    import nbformat  # late: four seconds

    notebook = nbformat.read(path, as_version=4)
    execute_notebook(notebook, store_widget_state=False, resources={"metadata": {"path": str(tmp_path)}})
    saved = tmp_path / "saved.ipynb"
    nbformat.write(notebook, saved)
    again = nbformat.read(saved, as_version=4)
    nbformat.validate(again)
    outputs = [output for cell in again.cells for output in cell.get("outputs", [])]
    saved_figures = [output["metadata"]["ipyrouter"] for output in outputs if "ipyrouter" in output.get("metadata", {})]
    assert saved_figures
    assert {figures["cost"] for figures in saved_figures} == {"0"}
    assert any(figures["cached"] for figures in saved_figures)
    assert "widgets" not in again.metadata  # GitHub refuses such files
    for place, output in enumerate(outputs):  # a widget never stands alone: its figures are there without it
        if "application/vnd.jupyter.widget-view+json" in output.get("data", {}):
            assert "saved by the cache" in outputs[place - 1]["data"]["text/html"]


def test_the_four_notebooks_are_there() -> None:
    names = ["01_quickstart", "02_configure_providers", "03_costs_and_budgets", "04_teach_the_router"]
    assert [path.stem for path in NOTEBOOKS] == names


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_saved_with_their_outputs(path: Path) -> None:
    import nbformat

    cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in cells)
    assert not [o for cell in cells for o in cell.outputs if o.output_type == "error"]
