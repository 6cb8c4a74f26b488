"""Every exported name is documented as CONTRIBUTING.md requires of its kind.

One test per name; `-k distributions` selects a package, `-k Normal` names. A name that
several packages export is tested under the lowest of them.

Sources are required of functions and distributions of the packages in `SOURCED`.
Exempt by rule: records (NamedTuples and dataclasses without `log_prob`), whose function
cites; functions that return a `Head`, whose distribution cites, or a `LossFn`; and
plumbing, that is functions whose body is one statement or whose names match `PLUMBING`:
conversions, modifiers, factories, initial states, masks and tables.
"""

import ast
import dataclasses
import functools
import importlib
import inspect
import pkgutil
import re
import textwrap
import typing
from pathlib import Path

import flax.linen as nn
import pytest

import vaejax

SOURCED = {
    "distributions",
    "priors",
    "posteriors",
    "models",
    "objectives",
    "estimators",
    "metrics",
}
PLUMBING = re.compile(r"(as|with|make|start|init)_|support_of|.*_(mask|table)$")
SECTIONS = ("Args", "Returns", "Yields", "Raises", "Attributes", "Example", "Source")
RIDDLES = ("Of ", "What ", "Which ", "Whether ", "Likewise", "As above")


def exporting_modules():
    """The modules with public names: `vaejax.base` first and `vaejax` last."""
    files = {"base", "checkpoints", "exporting", "plots", "priors", "posteriors"}
    found = [
        f"vaejax.{module.name}"
        for module in pkgutil.iter_modules(vaejax.__path__)
        if module.ispkg or module.name in files
    ]
    return sorted(found, key=lambda name: name != "vaejax.base") + ["vaejax"]


@functools.cache
def origin(module, name):
    """The file that defines a name, `(path, name there)`; imports are followed."""
    path = Path(importlib.import_module(module).__file__)
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "")[:6] == "vaejax":
            for alias in node.names:
                if name == (alias.asname or alias.name):
                    return origin(node.module, alias.name)
    return path, name


def exported():
    """`(package, name)` of every exported name, each once."""
    seen = set()
    for module in exporting_modules():
        for name in getattr(importlib.import_module(module), "__all__", []):
            value = getattr(importlib.import_module(module), name)
            if inspect.ismodule(value) or origin(module, name) in seen:
                continue
            seen.add(origin(module, name))
            yield module, name


def sections_of(docstring):
    """`{section: its text}` in the order written, of a docstring in Google style."""
    found, current = {}, None
    for line in docstring.splitlines():
        heading = re.match(rf"({'|'.join(SECTIONS)})s?:(.*)", line)
        if heading:
            current = heading[1]
            found[current] = [heading[2]]
        elif current and (not line.strip() or line[0] == " " or current == "Source"):
            found[current].append(line)
        else:
            current = None
    return {name: "\n".join(lines).strip("\n") for name, lines in found.items()}


def entries_of(section):
    """The names that a section describes: `name:`, `*name:`, `name, other:`."""
    heads = re.findall(
        r"^(\*{0,2}\w+(?:, \*{0,2}\w+)*)(?: \(.*?\))?:", textwrap.dedent(section), re.M
    )
    return [name.strip("* ") for head in heads for name in head.split(",")]


def fields_of(cls):
    """The attributes that a class documents, or None where it has none to document."""
    if issubclass(cls, tuple) and hasattr(cls, "_fields"):
        return list(cls._fields)
    if dataclasses.is_dataclass(cls):
        hidden = {"parent", "name"} if issubclass(cls, nn.Module) else set()
        names = [field.name for field in dataclasses.fields(cls)]
        return [n for n in names if n not in hidden and not n.startswith("_")]
    return None


def faults_of_first_line(docstring):
    lines = docstring.splitlines()
    if len(lines[0]) > 88:
        yield f"its first line has {len(lines[0])} columns, of at most 88"
    if not lines[0].endswith("."):
        yield "its first line is not one sentence that ends in a period"
    if re.search(r"(?<!et al)(?<!vs)\. [A-Z`]", lines[0]):
        yield "its first line has more than one sentence"
    if lines[0].startswith(RIDDLES):
        yield f"it begins with {lines[0].split()[0]!r}"
    if len(lines) > 1 and lines[1].strip():
        yield "its second line is not blank"


def faults_of_sections(sections):
    order = [SECTIONS.index(name) for name in sections]
    if order != sorted(order):
        yield f"its sections are not in the order {', '.join(SECTIONS)}"
    for name, text in sections.items():
        if not text.strip():
            yield f"{name}: is empty"
    if re.match(r"\s*(nothing|none|never)\b", sections.get("Raises", ""), re.I):
        yield "Raises: names nothing; leave the section out"
    if ">>>" not in sections.get("Example", ">>>"):
        yield "Example: has no >>>"


def faults_of_entries(section, names, sections, *, open_ended=False):
    if not names:
        return
    if section not in sections:
        yield f"{section}: is missing"
        return
    found = entries_of(sections[section])
    for name in names:
        if name not in found:
            yield f"{section}: does not name `{name}`"
    for name in set() if open_ended else set(found) - set(names):
        yield f"{section}: names `{name}`, which does not exist"


def is_plumbing(name, function):
    node = definition(function)
    returns = ast.unparse(node.returns) if node.returns else ""
    one_statement = len(node.body) <= 2  # the docstring is the other
    return returns in {"Head", "LossFn"} or PLUMBING.match(name) or one_statement


def definition(value):
    source = textwrap.dedent(inspect.getsource(inspect.unwrap(value)))
    return ast.parse(source).body[0]


def own_nodes(node):
    """The nodes of a function's own body, without those of functions in it."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.FunctionDef | ast.Lambda | ast.ClassDef):
            yield child
            yield from own_nodes(child)


def annotations(node):
    """The annotations of a function, or of the fields and methods of a class."""
    if isinstance(node, ast.FunctionDef):
        arguments = node.args
        parameters = arguments.posonlyargs + arguments.args + arguments.kwonlyargs
        parameters += [p for p in (arguments.vararg, arguments.kwarg) if p]
        found = [p.annotation for p in parameters] + [node.returns]
        return [annotation for annotation in found if annotation]
    found = []
    for child in node.body:
        if isinstance(child, ast.AnnAssign):
            found.append(child.annotation)
        if isinstance(child, ast.FunctionDef) and not child.name.startswith("_"):
            found += annotations(child)
    return found


def faults_of_annotations(node):
    # `Callable[..., tuple[Array, Any]]` is an `Objective`, a `LossFn` or a `TrainStep`.
    vague = r"\bCallable\b(?!\[)|\bCallable\[\.\.\., tuple\["
    for annotation in annotations(node):
        text = ast.unparse(annotation)
        if re.search(vague, text):
            yield f"its signature says `{text}`; say an alias of vaejax.base"


def faults_of_function(package, name, function, sections):
    signature = inspect.signature(function)
    kinds = {parameter.kind for parameter in signature.parameters.values()}
    yield from faults_of_entries(
        "Args",
        list(signature.parameters),
        sections,
        open_ended=inspect.Parameter.VAR_KEYWORD in kinds,
    )
    nothing = signature.return_annotation in (None, type(None), "None")
    if not nothing and not {"Returns", "Yields"} & set(sections):
        yield "Returns: is missing"
    if "Example" not in sections:
        yield "Example: is missing"
    node = definition(function)
    if "Raises" not in sections and any(
        isinstance(child, ast.Raise) for child in own_nodes(node)
    ):
        yield "Raises: is missing"
    needs_source = package in SOURCED and not is_plumbing(name, function)
    if needs_source and "Source" not in sections:
        yield "Source: is missing"
    yield from faults_of_annotations(node)


def faults_of_class(package, cls, sections):
    exempt = issubclass(cls, BaseException) or getattr(cls, "_is_protocol", False)
    fields = fields_of(cls)
    if fields is not None:
        yield from faults_of_entries("Attributes", fields, sections, open_ended=True)
        if "Args" in sections:
            yield "it has Args: beside Attributes:"
    elif not exempt and "Attributes" not in sections:
        parameters = list(inspect.signature(cls).parameters)
        yield from faults_of_entries("Args", parameters, sections)
    if not exempt and "Example" not in sections:
        yield "Example: is missing"
    is_distribution = hasattr(cls, "log_prob") and not exempt
    if package in SOURCED and is_distribution and "Source" not in sections:
        yield "Source: is missing"
    yield from faults_of_annotations(definition(cls))


def faults_of_alias(path, name):
    """An alias or a constant has a line `#: ...` above it in the source."""
    lines = path.read_text().splitlines()
    for node in ast.walk(ast.parse("\n".join(lines))):
        targets = [node.target] if isinstance(node, ast.AnnAssign) else []
        targets = node.targets if isinstance(node, ast.Assign) else targets
        if any(isinstance(t, ast.Name) and t.id == name for t in targets):
            above = lines[: node.lineno - 1]
            while above and above[-1].startswith("#") and above[-1][:2] != "#:":
                above.pop()
            if not (above and above[-1].startswith("#: ")):
                yield f"no line `#: ...` stands above it in {path.name}"
            return
    yield f"{path.name} does not define it"


def faults_of(module, name):
    value = getattr(importlib.import_module(module), name)
    package = module.removeprefix("vaejax.")
    own = inspect.isclass(value) or callable(inspect.unwrap(value))
    named = getattr(value, "__name__", None) == name and (
        getattr(value, "__module__", "").startswith("vaejax")
    )
    if not (own and named) or isinstance(value, typing.NewType):
        yield from faults_of_alias(*origin(module, name))
        return
    docstring = inspect.cleandoc(value.__doc__ or "")
    # A record without a docstring is given its signature as one.
    if not docstring or docstring.startswith(f"{name}("):
        yield "it has no docstring"
        return
    yield from faults_of_first_line(docstring)
    sections = sections_of(docstring)
    yield from faults_of_sections(sections)
    if inspect.isclass(value):
        yield from faults_of_class(package, value, sections)
    else:
        yield from faults_of_function(package, name, value, sections)


@pytest.mark.parametrize("module", [m for m in exporting_modules() if "base" not in m])
def test_modules_list_their_public_names(module):
    names = getattr(importlib.import_module(module), "__all__", None)
    assert names, f"{module} has no __all__"
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    ("module", "name"),
    [
        pytest.param(module, name, id=f"{module.removeprefix('vaejax.')}.{name}")
        for module, name in exported()
    ],
)
def test_exported_name_is_documented(module, name):
    faults = sorted(set(faults_of(module, name)))
    if faults:
        pytest.fail("\n  ".join([f"{module}.{name}:", *faults]), pytrace=False)
