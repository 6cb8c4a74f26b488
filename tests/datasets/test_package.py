"""The names of the package: which there are, and what importing it loads."""

import importlib
import subprocess
import sys

import pytest

from vaejax import datasets


def test_every_name_is_listed_and_has_a_file():
    assert {*datasets._MODULES, "binarize"} == set(datasets.__all__)
    for name, module in datasets._MODULES.items():
        value = getattr(datasets, name)
        home = importlib.import_module(f"vaejax.datasets.{module}")
        assert value is vars(home)[name]
        assert getattr(value, "__module__", home.__name__) == home.__name__
    with pytest.raises(AttributeError, match="has no attribute 'describe'"):
        datasets.describe  # noqa: B018


def test_import_vaejax_loads_no_file_of_the_data_sets_but_the_transforms():
    program = (
        "import sys, vaejax\n"
        "print(*sorted(n for n in sys.modules if n.startswith('vaejax.datasets')))"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert result.stdout.split() == ["vaejax.datasets", "vaejax.datasets.transforms"]
