"""Modules that `import vaejax` loads, and who may import what beside import-linter."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import vaejax

ROOT = Path(vaejax.__file__).parent.parent
FILES = sorted((ROOT / "vaejax").glob("**/*.py"))
PROGRAMS = sorted((ROOT / "experiments").glob("**/*.py"))
# Modules of the library that are private to it as a whole: their names are plain.
SHARED = {
    "_archives", "_checks", "_export_files",
    "_files", "_programs", "_reals",
    "_supports",
}  # fmt: skip

# What jax, flax, optax and numpy themselves load is theirs; of the rest, nothing.
LOADED = """
import sys
import flax.linen, jax, jax.numpy, numpy, optax
before = set(sys.modules)
import vaejax
after = set(sys.modules)
names = {name.partition(".")[0] for name in after - before} - {"vaejax"}
print(*sorted(names - {name.partition(".")[0] for name in before}))
print(*sorted({name.partition(".")[0] for name in after}))
"""
HEAVY = {
    "PIL",
    "blackjax",
    "equinox",
    "experiments",
    "matplotlib",
    "narwhals",
    "numpyro",
    "orbax",
    "pandas",
    "polars",
    "sentencepiece",
    "sklearn",
    "tensorboardX",
    "tensorflow",
    "tensorflow_datasets",
    "torch",
    "tqdm",
    "tyro",
}


def test_import_loads_jax_flax_optax_and_numpy_only():
    result = subprocess.run(
        [sys.executable, "-c", LOADED], capture_output=True, text=True, check=True
    )
    more, every = (set(line.split()) for line in result.stdout.split("\n")[:2])
    standard = set(sys.stdlib_module_names)
    assert not more - standard, f"import vaejax loads {sorted(more - standard)} too"
    assert not every & HEAVY, f"import vaejax loads {sorted(every & HEAVY)}"


def test_only_the_networks_import_flax():
    importers = {
        path.relative_to(ROOT / "vaejax").parts[0]
        for path in FILES
        if any(module.split(".")[0] == "flax" for module, _ in imports_of(path))
    }
    assert importers == {"networks"}


@pytest.mark.parametrize(
    "path", [*FILES, *PROGRAMS], ids=lambda path: str(path.relative_to(ROOT))
)
def test_imports_go_through_packages(path):
    faults = sorted(set(faults_of_imports(path)))
    assert not faults, f"{path.relative_to(ROOT)}: " + "; ".join(faults)


def faults_of_imports(path):
    """Return the imports and attributes of a file that are not public."""
    own = path.relative_to(ROOT).with_suffix("").parts
    modules = {}
    for module, name in imports_of(path):
        parts = tuple(module.split("."))
        if parts[0] not in {"vaejax", "experiments"}:
            continue
        modules[name] = f"{module}.{name}"
        if parts[:2] != own[:2]:
            yield from faults_across(parts, name, by_library=own[0] == "vaejax")
        elif parts[0] == "vaejax" and len(parts) == 2 and own[2:] != ("__init__",):
            yield f"imports {name} from its own package, not from the file"
    for node in ast.walk(ast.parse(path.read_text())):
        attribute = isinstance(node, ast.Attribute) and is_private(node.attr)
        if attribute and isinstance(node.value, ast.Name):
            module = modules.get(node.value.id, "")
            if module and is_module(module):
                yield f"reaches into {module}.{node.attr}, which is private"


def faults_across(parts, name, *, by_library):
    """Why a module or a name may not be imported from another package."""
    if parts[0] == "vaejax" and len(parts) > 2:
        yield f"imports {'.'.join(parts)}, a file inside another package"
    shared = by_library and len(parts) > 1 and parts[1] in SHARED
    private = [part for part in (*parts[1:], name or "") if is_private(part)]
    if private and not shared:
        yield f"imports {'.'.join(parts)}.{name}, which is private"


def imports_of(path):
    """`(module, name)` of each import, inside functions too; `name` may be None."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: a relative import"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                inside = is_module(full) and full.count(".") > 1
                yield (full, None) if inside else (node.module, alias.name)


def is_module(name):
    path = ROOT.joinpath(*name.split("."))
    return path.with_suffix(".py").exists() or is_package(name.split("."))


def is_package(parts):
    return ROOT.joinpath(*parts).is_dir()


def is_private(name):
    return name.startswith("_") and not name.startswith("__")
