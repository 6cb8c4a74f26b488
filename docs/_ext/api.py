"""API pages: `.. package:: vaejax.distributions` documents a package.

A page has the docstring of the package, a table of its `__all__`, and each name.

Docstrings are plain text with Google's sections and code between backticks. They are
turned into reStructuredText here: a name between backticks becomes a link where it is
documented, any other code a literal, and characters that reStructuredText would read
as markup (`p(x|z)`, `*options`) stay as they are.
"""

import importlib
import inspect
import pkgutil
import re
from typing import Any

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.domains.python import PyObject
from sphinx.errors import PycodeError
from sphinx.pycode import ModuleAnalyzer
from sphinx.util.docutils import SphinxDirective

#: Packages and modules of public names, in the order of the layers.
PACKAGES = (
    "distributions",
    "networks",
    "priors",
    "posteriors",
    "models",
    "objectives",
    "estimators",
    "latent",
    "metrics",
    "training",
    "datasets",
    "checkpoints",
    "exporting",
    "plots",
    "base",
)
CODE = re.compile(r"``[^`]+``|`[^`\n]+(?:\n[^`\n]+)?`")
NAME = re.compile(r"[A-Za-z_][\w.]*")


def public_names(module: str) -> list[str]:
    """Return the public names of a package: its `__all__`, or what a module defines."""
    imported = importlib.import_module(module)
    names = getattr(imported, "__all__", None) or [
        name
        for name, value in vars(imported).items()
        if not name.startswith("_") and getattr(value, "__module__", None) == module
    ]
    return sorted(names, key=str.lower)


def home(name: str) -> str:
    """Return the full name under which a name of the top level is documented."""
    for package in PACKAGES:
        if name in public_names(f"vaejax.{package}"):
            return f"vaejax.{package}.{name}"
    return f"vaejax.{name}"


class Package(SphinxDirective):
    """Docstring of a package and table of its names, then the documentation of each."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        module = self.arguments[0]
        full_names = [
            home(name) if module == "vaejax" else f"{module}.{name}"
            for name in public_names(module)
        ]
        docstring = inspect.getdoc(importlib.import_module(module)) or ""
        lines = [*to_rest(docstring.splitlines()), ""]
        lines += [".. autosummary::", "   :nosignatures:", ""]
        lines += [f"   ~{name}" for name in full_names if not is_alias(name)]
        # Below the table: autosummary warns about names of the current module.
        lines += ["", f".. py:module:: {module}", ""]
        for full_name in full_names:
            owner, _, name = full_name.rpartition(".")
            if owner == module:
                lines += documentation(module, name)
        node = nodes.container()
        self.state.nested_parse(StringList(lines, source=module), 0, node)
        return node.children


def is_alias(full_name: str) -> bool:
    """Return whether a name is a type alias or a constant."""
    module, _, name = full_name.rpartition(".")
    value = getattr(importlib.import_module(module), name)
    if value is Any:
        return True
    # A jitted function is no routine, but wraps one.
    is_function = inspect.isroutine(value) or hasattr(value, "__wrapped__")
    return not (inspect.isclass(value) or is_function)


def documentation(module: str, name: str) -> list[str]:
    """Return the directive that documents one public name."""
    value = getattr(importlib.import_module(module), name)
    if is_alias(f"{module}.{name}"):
        comment = [f"   {line}" for line in to_rest(comment_of(module, name))]
        return [f".. py:data:: {name}", "", *comment, ""]
    if inspect.isclass(value):
        return [f".. autoclass:: {module}.{name}", "   :members:", ""]
    return [f".. autofunction:: {module}.{name}", ""]


def comment_of(module: str, name: str) -> list[str]:
    """Return the `#:` comment above an alias or a constant, wherever it is defined."""
    package = importlib.import_module(module)
    parts = pkgutil.iter_modules(getattr(package, "__path__", ()), f"{module}.")
    for candidate in (module, "vaejax.base", *(part.name for part in parts)):
        try:
            comments = ModuleAnalyzer.for_module(candidate).find_attr_docs()
        except PycodeError:
            continue
        if ("", name) in comments:
            return comments["", name]
    return []


def to_rest(lines: list[str]) -> list[str]:
    """Return a docstring's lines as reStructuredText; doctests stay as they are."""
    blocks = re.split(r"\n(?=[ \t]*\n)", "\n".join(_with_separate_lists(lines)))
    return "\n".join(
        block if re.search(r"^\s*>>> ", block, re.M) else _block_to_rest(block)
        for block in blocks
    ).split("\n")


def _with_separate_lists(lines: list[str]) -> list[str]:
    """Return the lines with a blank one before each list, and list items aligned."""
    separated: list[str] = []
    bullet = None
    for line in lines:
        indent = len(line) - len(line.lstrip())
        if line.lstrip().startswith("- "):
            if bullet is None and separated and separated[-1].strip():
                separated.append("")
            bullet = indent
        elif not line.strip() or bullet is None or indent < bullet:
            bullet = None
        else:
            line = " " * (bullet + 2) + line.lstrip()
        separated.append(line)
    return separated


def _block_to_rest(block: str) -> str:
    parts, position = [], 0
    for match in CODE.finditer(block):
        parts.append(_escape(block[position : match.start()]))
        parts.append(_code(match.group(), block[match.end() : match.end() + 1]))
        position = match.end()
    return "".join([*parts, _escape(block[position:])])


def _escape(text: str) -> str:
    text = re.sub(r"[|`]|\*(?=\S)|(?<=\S)\*", r"\\\g<0>", text)
    return re.sub(r"(?<=\w)_(?=\W|$)", r"\\_", text)


def _code(quoted: str, following: str) -> str:
    code = " ".join(quoted.strip("`").split())
    role = f":py:obj:`{code}`" if NAME.fullmatch(code) else f"``{code}``"
    # Markup must end before a space or punctuation; a backslash and a space end it.
    return role + ("\\ " if following.isalnum() else "")


def _process_docstring(
    app: Any, what: str, name: str, value: Any, options: Any, lines: list[str]
) -> None:
    lines[:] = to_rest(lines)


def _skip_member(
    app: Any, what: str, name: str, value: Any, skip: bool, options: Any
) -> bool | None:
    """Leave out the fields of records, which stand under `Attributes` already."""
    doc = getattr(value, "__doc__", None) or ""
    return True if doc.startswith("Alias for field number") else None


def setup(app: Any) -> dict[str, Any]:
    # Before napoleon, which takes the sections apart.
    app.connect("autodoc-process-docstring", _process_docstring, priority=400)
    app.connect("autodoc-skip-member", _skip_member)
    app.add_directive("package", Package)
    for field in PyObject.doc_field_types:
        if field.name == "variable":
            field.label = "Attributes"
    return {"parallel_read_safe": True}
