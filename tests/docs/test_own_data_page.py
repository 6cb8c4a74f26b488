"""The page on own data, done as a reader does it: a process for each block."""

import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from support.documents import blocks
from support.programs import ENVIRONMENT

PAGE = Path(__file__).parents[2] / "docs" / "results" / "own_data.md"
# A smaller network and fewer epochs, for the time of a test.
QUICK = ["--epochs", "3", "--hidden-size", "16", "--num-samples", "4"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("page")


def execute(folder, *words):
    done = subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.program
def test_the_page_runs_and_gives_the_units_of_the_file(folder):
    make, load, export = blocks("python", PAGE.read_text())
    assert len([*make.splitlines(), *load.splitlines()]) < 20
    execute(folder, "-c", make)
    command = shlex.split(blocks("sh", PAGE.read_text())[0])
    output = execute(folder, *command[1:], *QUICK)
    assert output.index("independent columns") < output.index("figures/")
    for name in ("embeddings", "reconstructions", "samples", "scores"):
        lines = (folder / f"runs/people/{name}.csv").read_text().splitlines()
        header = lines[0].split(",")
        if name != "samples":
            assert header[:2] == ["row", "name"]
    (folder / "people.csv").rename(folder / "gone.csv")
    found = execute(folder, "-c", load).splitlines()
    assert found[0] == "(2, 8)" and set(found[1].strip("[]'").split("' '")) <= {
        "north",
        "south",
    }
    (folder / "gone.csv").rename(folder / "people.csv")
    assert len(execute(folder, "-c", export).strip("[]\n").split()) == 3
