"""What `import vaejax` loads and offers."""

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import vaejax

LAZY = ["tensorflow_datasets", "tensorflow", "matplotlib", "orbax"]


def test_import_is_light():
    program = (
        f"import sys, vaejax; print([name for name in {LAZY} if name in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"


def test_every_public_name_exists_and_is_documented():
    assert len(set(vaejax.__all__)) == len(vaejax.__all__)
    for name in vaejax.__all__:
        value = getattr(vaejax, name)
        if inspect.isclass(value) or inspect.isfunction(value):
            # A NamedTuple or dataclass without a docstring is given its signature as
            # one.
            assert value.__doc__ and not value.__doc__.startswith(f"{name}("), (
                f"{name} has no docstring"
            )


def test_public_names_are_all_listed():
    names = {
        name for name, value in vars(vaejax).items() if not inspect.ismodule(value)
    }
    assert {name for name in names if not name.startswith("_")} == set(vaejax.__all__)


def test_only_the_networks_import_flax():
    package = Path(vaejax.__file__).parent
    importers = {
        path.name for path in package.glob("**/*.py") if "flax" in imports_of(path)
    }
    assert importers == {"adapters.py", "mlp.py", "convolutional.py", "recurrent.py"}


def imports_of(path):
    """The top-level packages that a file imports, inside functions too."""
    nodes = list(ast.walk(ast.parse(path.read_text())))
    modules = [
        alias.name
        for node in nodes
        if isinstance(node, ast.Import)
        for alias in node.names
    ]
    modules += [
        node.module
        for node in nodes
        if isinstance(node, ast.ImportFrom) and node.module
    ]
    return {module.split(".")[0] for module in modules}
