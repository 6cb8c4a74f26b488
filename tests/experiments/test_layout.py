"""Programs stand alone, and their streams of random numbers are apart."""

import ast
from pathlib import Path

import pytest

import experiments
from experiments import text
from experiments.harness import cli, keys
from experiments.harness.programs import program_names

ROOT = Path(experiments.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))


def modules_imported(path: Path) -> set[str]:
    """The modules that a file imports or names, inside functions too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module}
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_imports_a_program(path):
    programs = {f"experiments.{name}" for name in program_names()}
    assert not programs & modules_imported(path)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_programs_are_loaded_by_name_in_the_harness_alone(path):
    loads = {"importlib.import_module", "runpy", "__import__"}
    used = {
        ast.unparse(node)
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute | ast.Name)
    }
    if path.relative_to(ROOT) != Path("harness/programs.py"):
        assert not loads & (used | modules_imported(path))


def test_streams_of_one_parent_are_distinct():
    for names in keys.PARENTS.values():
        streams = [getattr(keys, name) for name in names]
        assert len(set(streams)) == len(streams)
    of_training = {0, 1, 2}  # those of vaejax.training
    of_run = {getattr(keys, name) for name in keys.PARENTS["key of a run"]}
    assert not of_training & of_run


def test_every_stream_has_a_parent():
    listed = [name for names in keys.PARENTS.values() for name in names]
    streams = [name for name, value in vars(keys).items() if isinstance(value, int)]
    assert sorted(listed) == sorted(streams)


def test_no_stream_is_written_as_a_number_elsewhere():
    """`fold_in` of a program takes a name or a variable, never a literal."""
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(
                "fold_in"
            ):
                assert not isinstance(node.args[1], ast.Constant), path


def test_the_integers_of_published_numbers_stay():
    assert (keys.TEST_SET, keys.VALIDATION_SET, keys.TRAINING_SET) == (777, 778, 779)
    assert (keys.EPOCH_EVALUATION, keys.FINAL_EVALUATION, keys.FIGURES) == (
        100,
        101,
        102,
    )
    assert (keys.KL_TO_POSTERIOR, keys.BOUNDS, keys.STATISTICS) == (400, 401, 500)


def test_the_help_of_an_option_has_no_line_breaks_of_the_source(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "1000")
    monkeypatch.setattr("sys.argv", ["text", "--help"])
    with pytest.raises(SystemExit):
        cli.look(text.Config, text.make_experiment)
    lines = capsys.readouterr().out.splitlines()
    # An inherited option, and one that the program redefines.
    for option in (
        "such as 0.999; the average is what is evaluated.",
        "after which training stops; the best parameters are evaluated.",
    ):
        assert any(option in line for line in lines)
