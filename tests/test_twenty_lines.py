"""Parts of a user, of public names alone; a row of cases.py checks that they work."""

import ast
import inspect

import pytest
from support import twenty_lines
from support.cases import CASES

import vaejax

PARTS = {
    "prior": ("Logistic", "with_logistic_prior"),
    "posterior": ("Gumbel",),
    "likelihood": ("Exponential",),
}


@pytest.mark.parametrize("part", PARTS)
def test_each_part_has_twenty_lines(part):
    source = "".join(
        inspect.getsource(getattr(twenty_lines, name)) for name in PARTS[part]
    )
    lines = [line for line in source.splitlines() if line.strip()]
    assert len(lines) <= 20


def test_only_public_names_are_used():
    tree = ast.parse(inspect.getsource(twenty_lines))
    modules = {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
    }
    modules |= {
        node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)
    }
    assert modules <= {"dataclasses", "math", "typing", "jax", "jax.numpy", "vaejax"}
    used = {
        node.attr: getattr(vaejax, node.value.id, vaejax)
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id in ("vaejax", "distributions")
    }
    assert {"parameter_free_head"} <= used.keys()
    for name, package in used.items():
        assert name in package.__all__ or name == "base", name


def test_all_parts_are_of_one_model_of_the_table():
    (case,) = (case for case in CASES if case.name == "twenty_lines")
    assert not case.slow
