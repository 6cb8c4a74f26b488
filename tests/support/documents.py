"""Code blocks of pages, run as a reader would, and the modules that build the pages."""

import importlib
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
from support.programs import users_settings

EXTENSIONS = Path(__file__).parents[2] / "docs" / "_ext"


def blocks(language: str, text: str) -> list[str]:
    """Return the fenced code blocks of a language, in their order."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.DOTALL | re.M)


def run_blocks(code: list[str]) -> dict[str, Any]:
    """Run blocks one after another in one namespace, which is returned."""
    namespace: dict[str, Any] = {"__name__": "page"}
    # As a reader's own settings are, not as the tests'.
    with users_settings(), jax.numpy_rank_promotion("allow"):
        for block in code:
            exec(block, namespace)
    return namespace


def extension(name: str) -> ModuleType:
    """Return a module of `docs/_ext`."""
    sys.path.insert(0, str(EXTENSIONS))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(EXTENSIONS))
