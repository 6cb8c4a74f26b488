"""What the wheel and the sdist promise, and what they hold."""

import ast
import functools
import importlib
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from vaejax import datasets

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
# What a checkout needs, of which a wheel holds nothing.
OF_A_CHECKOUT = {"checkout", "test", "docs", "dev", "bench", "tensorboard"} | {
    "k8s",
    "notebook",
    "ray",
    "studies",
    "tune",
}
OF_THE_LIBRARY = EXTRAS.keys() - OF_A_CHECKOUT
# Modules by other names than their distributions.
NAMES = {"PIL": "pillow", "sklearn": "scikit-learn", "orbax": "orbax-checkpoint"}
# With jax and with orbax; or with the user's own model, which is adapted.
COMES_ALONG = {"scipy", "tensorstore", "equinox"}


def distributions(requirements):
    """The names of the distributions that are required, extras left out."""
    names = {re.match(r"[\w.-]+", each)[0] for each in requirements}
    return {name.replace("_", "-").lower() for name in names} - {"vaejax"}


def imports_of(sources):
    """The distributions whose modules are imported, inside functions too."""
    found = set()
    for source in sources:
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.add(node.module)
    modules = {name.partition(".")[0] for name in found} - sys.stdlib_module_names
    names = {NAMES.get(module, module.replace("_", "-")) for module in modules}
    return names - {"vaejax", "experiments"}


@functools.cache
def imported():
    return imports_of(path.read_text() for path in (ROOT / "vaejax").rglob("*.py"))


def required_by(extra):
    """The distributions of an extra and of those that it names."""
    found = distributions(EXTRAS[extra])
    for listed in re.findall(r"vaejax\[(.*?)\]", " ".join(EXTRAS[extra])):
        found = found.union(*map(required_by, listed.split(",")))
    return found


def test_the_extra_of_notebooks_has_what_they_import():
    cells = [
        "".join(cell["source"])
        for path in (ROOT / "notebooks").glob("*.ipynb")
        for cell in json.loads(path.read_text())["cells"]
        if cell["cell_type"] == "code"
    ]
    cells = [re.sub("^%.*", "", cell) for cell in cells]
    assert {"jax", "scikit-learn"} <= imports_of(cells)
    required = distributions(PROJECT["dependencies"]) | required_by("notebook")
    assert imports_of(cells) <= required


def test_the_dependencies_and_extras_of_the_library_are_what_it_imports():
    required = distributions(PROJECT["dependencies"])
    optional = {name: distributions(EXTRAS[name]) for name in OF_THE_LIBRARY}
    assert imported() <= required.union(*optional.values(), COMES_ALONG)
    # Accelerators are extras of jax, and tensorflow-datasets takes TensorFlow itself.
    for name in OF_THE_LIBRARY - {"cuda", "cuda12", "cuda13", "tpu"}:
        assert optional[name] - {"tensorflow", "tensorflow-cpu"} <= imported(), name


def test_no_extra_of_the_library_needs_one_of_a_checkout():
    named = {
        name: set(re.findall(r"[\w-]+", listed))
        for name in OF_THE_LIBRARY
        for listed in re.findall(r"vaejax\[(.*?)\]", " ".join(EXTRAS[name]))
    }
    assert all(names <= OF_THE_LIBRARY for names in named.values())


def test_the_guide_lists_every_extra():
    page = (ROOT / "docs/guide/command_line.md").read_text()
    section = page.partition("## Extras")[2].partition("\n## ")[0]
    of_the_library, of_a_checkout = (
        set(re.findall(r"^\| `(\w+)`", part, re.MULTILINE))
        for part in section.split("a checkout only")
    )
    assert of_the_library == OF_THE_LIBRARY
    assert of_a_checkout - OF_THE_LIBRARY == OF_A_CHECKOUT


def test_every_extra_that_is_named_exists():
    files = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "constraints.txt"]
    files += [ROOT / ".ci/full", ROOT / ".ci/run"]
    for pattern in ("docs/**/*.md", "vaejax/**/*.py", "experiments/**/*.py"):
        files += ROOT.glob(pattern)
    text = "\n".join(path.read_text() for path in files)
    named = re.findall(r"(?:vaejax|-e [\"']\.|whl\))\[([a-z\d,]+)\]", text)
    assert len(named) > 5
    assert {extra for names in named for extra in names.split(",")} <= EXTRAS.keys()


def test_a_vocabulary_without_its_extra_names_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    with pytest.raises(ImportError, match=r"pip install 'vaejax\[text\]'"):
        datasets.subword_vocabulary(["a b", "b c"], size=9)


def test_figures_without_their_extra_name_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.axes", None)
    monkeypatch.delitem(sys.modules, "vaejax.plots", raising=False)
    with pytest.raises(ImportError, match=r"pip install 'vaejax\[plots\]'"):
        importlib.import_module("vaejax.plots")


def test_programs_without_their_extra_name_it():
    code = (
        "import sys; sys.argv[0] = '-m'; sys.modules['tyro'] = None; import experiments"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == (
        "error: the programs need tyro; in their checkout: pip install -c "
        "constraints.txt -e '.[checkout]'\n"
    )


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="no checkout")
def test_the_sdist_has_rules_for_every_file_of_the_checkout():
    """`.ci/full packaging` builds it, and compares what it holds."""
    rules = [line.split() for line in (ROOT / "MANIFEST.in").read_text().splitlines()]
    words = {
        rule: {word for line in rules if line[:1] == [rule] for word in line[1:]}
        for rule in ("graft", "include")
    }
    # What setuptools adds itself.
    graft = words["graft"] | {"vaejax"}
    include = words["include"] | {"pyproject.toml", "README.md", "LICENSE"}
    command = ["git", "-c", f"safe.directory={ROOT}", "-C", ROOT, "ls-files"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True)
    tracked = listed.stdout.splitlines()
    assert [
        name
        for name in tracked
        if name not in include and name.partition("/")[0] not in graft
    ] == []
    assert graft == {name.partition("/")[0] for name in tracked if "/" in name}
