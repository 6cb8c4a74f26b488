"""Misuses of every public function: an error of one line, or no plausible number.

`misuse_rows.py` has a call that works of each function, and the rules of `misuse.py`
make its misuses and say what each is to give.
"""

import contextlib
import functools
import importlib
import inspect
import warnings

import jax
import pytest
from support.misuse import as_expected, entries_of, outcome_of
from support.misuse_rows import DENSITIES, LEFT_OUT, rows

PACKAGES = (
    "base", "checkpoints", "datasets", "distributions", "estimators", "exporting",
    "latent", "metrics", "models", "networks", "objectives", "plots", "posteriors",
    "priors", "training",
)  # fmt: skip
# Every twentieth row is a piece, of which the normal run takes one.
PIECES, NORMAL = 20, 3


@contextlib.contextmanager
def as_a_user():
    """Not as the tests are set: a user's JAX promotes ranks and dtypes, and does not
    count the uses of keys.
    """
    with (
        jax.numpy_rank_promotion("allow"),
        jax.numpy_dtype_promotion("standard"),
        jax.debug_key_reuse(False),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        yield


@functools.cache
def entries_by_row():
    with as_a_user():
        return [list(entries_of(name, row)) for name, row in rows().items()]


def entries(piece=slice(None)):
    """The misuses of some of the rows."""
    return [entry for some in entries_by_row()[piece] for entry in some]


def public(package, is_kind):
    module = importlib.import_module(f"vaejax.{package}")
    return {name for name in module.__all__ if is_kind(getattr(module, name))}


def test_every_public_function_has_a_row():
    entries()
    named = {name.split("(")[0].split(",")[0].split(".")[0] for name in rows()}
    for package in PACKAGES:
        left_out = LEFT_OUT.get(package, set())
        if left_out is not None:
            assert public(package, inspect.isfunction) - named == left_out


def test_every_density_has_a_row():
    found = public(
        "distributions",
        lambda value: inspect.isclass(value) and "log_prob" in vars(value),
    ) | public("distributions", lambda value: hasattr(value, "sample"))
    # The events of a `Joint` are dicts, distributions/test_joint.py.
    assert found - {"Joint"} == set(DENSITIES)


def test_there_are_many_misuses_of_every_kind():
    found = entries()
    assert len(found) >= 600
    assert len({entry.name for entry in found}) == len(found)
    kinds = {entry.name.split(": ")[-1].split(",")[0] for entry in found}
    assert kinds >= {
        "batch for an example", "dtype", "key", "list", "NaN", "empty", "swapped",
    }  # fmt: skip


@pytest.mark.parametrize(
    "piece",
    [
        piece if piece == NORMAL else pytest.param(piece, marks=pytest.mark.slow)
        for piece in range(PIECES)
    ],
)
def test_misuses_give_what_is_expected(piece):
    wrong, unexpected, references = [], [], {}
    of_piece = entries(slice(piece, None, PIECES))
    for entry in of_piece:
        outcome = outcome_as_a_user(entry, references)
        if outcome.kind == "wrong":
            wrong.append((entry.name, outcome.text))
        elif not as_expected(entry, outcome):
            unexpected.append((entry.name, *outcome))
    assert wrong == []
    assert len(unexpected) <= 0.05 * len(of_piece), unexpected


def outcome_as_a_user(entry, references):
    with as_a_user():
        return outcome_of(entry, references)
