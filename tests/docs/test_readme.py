"""README: its code runs, its table is the generated one, its commands are those of the
checks.
"""

import re
from pathlib import Path

import pytest
from support.documents import blocks, extension, run_blocks

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def test_it_is_short():
    assert len(README.splitlines()) <= 150


def test_the_quickstart_runs():
    code = blocks("python", README)
    assert len(code) == 1
    assert len(code[0].strip().splitlines()) <= 15
    namespace = run_blocks(code)
    assert namespace["samples"].shape == (16, 28, 28)
    assert namespace["state"].step == 64
    assert [record.step for record in namespace["history"]] == [32, 64]


def test_there_are_exactly_two_set_up_commands():
    commands = [
        line
        for block in blocks("sh", README)
        for line in block.splitlines()
        if "-m venv" in line
    ]
    assert len(commands) == 2
    assert commands[0].endswith("-m experiments.mnist") and "-m pytest" in commands[1]


def test_the_table_of_experiments_is_the_generated_one():
    assert extension("experiment_table").with_table(README) == README


def test_the_table_has_every_program():
    table = extension("experiment_table").table()
    programs = [
        path.stem
        for path in (ROOT / "experiments").glob("*.py")
        if not path.stem.startswith("_")
    ]
    # Guides describe those that run other programs.
    for program in set(programs) - {"on_ray", "tune"}:
        assert table.count(f"| [`{program}`]") == 1, program


def test_every_path_that_is_named_exists():
    named = re.findall(r"`((?:vaejax|experiments|tests|docs)/[a-z_/.]+)`", README)
    linked = re.findall(r"\]\(([^)#:]+)\)", README)
    assert named and linked
    for path in (*named, *linked):
        assert (ROOT / path).exists(), path


@pytest.mark.parametrize(
    "name", ["likelihood", "training loop", "experiments.collapse"]
)
def test_what_a_reader_looks_for_is_named(name):
    assert name in README
