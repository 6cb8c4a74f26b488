"""Programs by name: the one place that imports a program.

The benchmark, the catalogue, and whatever restores a run take `Config`,
`make_experiment` and `analyze` of a program from here.
"""

import importlib
import pkgutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import experiments
from experiments.harness.config import Config
from experiments.harness.errors import UsageError
from experiments.harness.experiment import (
    About,
    Comparison,
    Experiment,
    Result,
    Trained,
)


class Program(NamedTuple):
    """A program that trains.

    Attributes:
      name: the name of its file, as in `python -m experiments.NAME`.
      config_type: its options, a subclass of `Config`.
      make_experiment: `config -> Experiment`, or a `Comparison` of several.
      analyze: `trained -> Result`.
      about: the program's entry in the catalogue.
      description: its docstring.
      without_data: `(config, schema) -> Experiment` with stand-ins for the data, from
        the content of the run's schema.json; None where the program has none.
    """

    name: str
    config_type: type[Config]
    make_experiment: Callable[[Any], Experiment | Comparison]
    analyze: Callable[[Trained], Result]
    about: About
    description: str
    without_data: Callable[[Any, Any], Experiment] | None = None


def program_names() -> list[str]:
    """Return the names of all files of `experiments`, programs and others."""
    modules = pkgutil.iter_modules(experiments.__path__)
    return [
        module.name
        for module in modules
        if not module.ispkg and module.name != "__main__"
    ]


def module_of(function: Callable) -> tuple[str, ModuleType]:
    """Return the name and the module of the program that defines a function."""
    module = sys.modules[function.__module__]
    # A program that is run has the module name __main__.
    return Path(str(module.__file__)).stem, module


def load_program(name: str) -> Program:
    """Import a program that trains.

    Raises:
      LookupError: there is no such program, or it does not train.
    """
    # A name may come from a file, and decides what is imported: the programs of this
    # package and nothing else.
    if name in program_names():
        module = importlib.import_module(f"experiments.{name}")
        if hasattr(module, "make_experiment"):
            return Program(
                name,
                module.Config,
                module.make_experiment,
                module.analyze,
                module.ABOUT,
                str(module.__doc__),
                getattr(module, "without_data", None),
            )
    raise LookupError(f"{name!r} is not a program that trains.")


def program_of_command(name: str) -> Program:
    """Import the program that trains which a command line names.

    Raises:
      UsageError: there is no such program, or it does not train.
    """
    try:
        return load_program(name)
    except LookupError as error:
        raise UsageError(f"{error} `python -m experiments` lists them.") from error


def catalogue() -> dict[str, About]:
    """Return the `ABOUT` of every program, by name."""
    modules = {
        name: importlib.import_module(f"experiments.{name}") for name in program_names()
    }
    return {
        name: module.ABOUT
        for name, module in modules.items()
        if hasattr(module, "ABOUT")
    }
