"""`python -m experiments`: the catalogue."""

import importlib
import pkgutil

import experiments


def catalogue() -> dict:
    """Every experiment's `ABOUT`, by the name of its module."""
    names = [
        module.name
        for module in pkgutil.iter_modules(experiments.__path__)
        if module.name != "__main__"
    ]
    modules = {name: importlib.import_module(f"experiments.{name}") for name in names}
    return {
        name: module.ABOUT
        for name, module in modules.items()
        if hasattr(module, "ABOUT")
    }


def main() -> None:
    print("Experiments, each with its own --help:\n")
    for name, about in catalogue().items():
        print(f"  python -m experiments.{name}")
        print(f"      {about.what} ({about.paper})")
        print(f"      {about.cost}; {about.expected}\n")


if __name__ == "__main__":
    main()
