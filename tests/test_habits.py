"""The tools that check this repository are pinned, and no line silences them."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
EXTRAS = PROJECT["project"]["optional-dependencies"]
TYPED = [*ROOT.glob("vaejax/**/*.py"), *ROOT.glob("experiments/harness/**/*.py")]


def normalized(name):
    return re.sub(r"[-_.]+", "-", name).lower()


PINS = {
    normalized(name): version
    for name, version in re.findall(
        r"^([\w.-]+)==([\w.]+)", (ROOT / "constraints.txt").read_text(), re.MULTILINE
    )
}


@pytest.mark.parametrize(
    "extra",
    [
        "plots",
        "progress",
        "tables",
        "text",
        "checkout",
        "analysis",
        "test",
        "docs",
        "dev",
    ],
)
def test_what_an_extra_installs_is_pinned(extra):
    names = {re.match(r"[\w.-]+", requirement)[0] for requirement in EXTRAS[extra]}
    assert {normalized(name) for name in names} - {"vaejax"} <= set(PINS)


def test_the_hooks_have_the_versions_of_the_constraints():
    hooks = (ROOT / ".pre-commit-config.yaml").read_text()
    found = re.findall(r"repo: .*/(ruff|codespell)\S*\n +rev: v([\d.]+)", hooks)
    assert dict(found) == {tool: PINS[tool] for tool in ("ruff", "codespell")}


def test_the_version_is_the_same_wherever_it_stands():
    version = PROJECT["project"]["version"]
    assert f'\n__version__ = "{version}"\n' in (ROOT / "vaejax/__init__.py").read_text()
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text()
    assert f"\n## {version}" in (ROOT / "CHANGELOG.md").read_text()


def test_no_type_error_is_suppressed_in_a_line():
    pattern = re.compile(r"#\s*(type:\s*ignore|pyright:|mypy:)")
    assert [path.name for path in TYPED if pattern.search(path.read_text())] == []


def test_at_most_five_rules_of_the_type_checker_are_off():
    off = [rule for rule, level in PROJECT["tool"]["pyright"].items() if level is False]
    assert len([rule for rule in off if rule.startswith("report")]) <= 5


def test_contracts_name_every_module_of_the_library():
    contracts = PROJECT["tool"]["importlinter"]["contracts"]
    (flax,) = [c for c in contracts if c.get("forbidden_modules") == ["flax"]]
    modules = {
        f"vaejax.{path.stem}"
        for path in (ROOT / "vaejax").iterdir()
        if (path.suffix == ".py" and path.stem != "__init__")
        or (path / "__init__.py").exists()
    }
    assert set(flax["source_modules"]) == modules - {"vaejax.networks"}


def test_the_pieces_of_the_checks_name_files_that_exist():
    text = (ROOT / ".ci/full").read_text()
    names = re.findall(r"tests/[\w/]+(?:\.py)?(?![\w{])", text)
    for stem, choices in re.findall(r"(tests/[\w/]+_)\{([\w,]+)\}\.py", text):
        names += [f"{stem}{choice}.py" for choice in choices.split(",")]
    assert len(names) > 10
    assert [n for n in names if not n.endswith("_") and not (ROOT / n).exists()] == []
