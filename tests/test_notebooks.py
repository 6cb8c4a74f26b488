"""Every notebook runs from top to bottom, and is committed with the outputs of such a run."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def notebook(request) -> nbformat.NotebookNode:
    return nbformat.read(request.param, as_version=4)


def test_there_is_a_notebook():
    assert "quickstart" in [path.stem for path in NOTEBOOKS]


def test_it_is_committed_with_its_outputs(notebook):
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    for cell in cells:
        assert bool(cell.outputs) == ("print(" in cell.source or "plots." in cell.source), cell.source
        assert all(output.output_type != "error" and output.get("name") != "stderr" for output in cell.outputs)


def test_it_defines_nothing_reusable(notebook):
    code = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    assert not [line for line in code.splitlines() if line.startswith(("def ", "class "))]


@pytest.mark.program
def test_it_runs(notebook):
    NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
