"""Every notebook runs from top to bottom, and is committed with the outputs of such a
run, which name no machine.
"""

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from support.programs import ENVIRONMENT

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))
# The one that every change executes; the others take minutes.
QUICK = "02_the_bound"
PATHS = re.compile(r"/(home|root|tmp|work|usr|Users|var)/|site-packages|[A-Z]:\\")


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def path(request) -> Path:
    return request.param


@pytest.fixture
def notebook(path) -> nbformat.NotebookNode:
    return nbformat.read(path, as_version=4)


def test_there_is_a_notebook():
    assert "04_a_vae_on_digits" in [path.stem for path in NOTEBOOKS]


def test_it_is_committed_with_its_outputs(notebook):
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    for cell in cells:
        assert bool(cell.outputs) == (
            "print(" in cell.source or "plots." in cell.source
        ), cell.source
        assert all(
            output.output_type != "error" and output.get("name") != "stderr"
            for output in cell.outputs
        )
        figures = sum("image/png" in output.get("data", {}) for output in cell.outputs)
        assert figures == cell.source.count("plots."), cell.source


def test_it_is_small_and_names_no_machine(path, notebook):
    assert path.stat().st_size < 1_000_000
    assert set(notebook.metadata) == {"kernelspec", "language_info"}
    assert notebook.metadata.kernelspec.name == "python3"
    assert not any(cell.metadata for cell in notebook.cells)
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            output.get("data", {}).pop("image/png", None)
    assert not PATHS.search(nbformat.writes(notebook))


def test_it_defines_nothing_reusable(notebook):
    code = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    assert not [
        line for line in code.splitlines() if line.startswith(("def ", "class "))
    ]


@pytest.mark.program
@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, marks=[] if path.stem == QUICK else pytest.mark.slow)
        for path in NOTEBOOKS
    ],
    ids=lambda path: path.stem,
    indirect=True,
)
def test_it_runs(notebook, tmp_path):
    client = NotebookClient(
        notebook,
        timeout=300,
        kernel_name="python3",
        resources={"metadata": {"path": tmp_path}},
    )
    client.execute(env=ENVIRONMENT)
    assert not list(tmp_path.iterdir()), "a notebook leaves no files"
