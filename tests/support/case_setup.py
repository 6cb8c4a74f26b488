"""Parameters, batches and training states of the models of cases.py, made once."""

from functools import cache, partial

import jax
import numpy as np
from support.cases import CASES, Case

import vaejax

NUM = 6


def row(name: str) -> Case:
    return next(case for case in CASES if case.name == name)


@cache
def setup(case: Case):
    """Parameters and a batch."""
    batch = case.batch(jax.random.key(1), NUM)
    return jax.jit(case.vae.init)(
        jax.random.key(0), case.x_of(example(batch, 0))
    ), batch


def example(batch, index):
    return jax.tree.map(lambda leaf: leaf[index], batch)


@cache
def training(case: Case):
    """The first state, the step and a batch."""
    _, batch = setup(case)
    step = vaejax.make_train_step(vaejax.mean_over_batch(case.loss), case.optimizer)
    init = jax.jit(partial(vaejax.init_train_state, case.vae, case.optimizer))
    return init(jax.random.key(0), case.x_of(example(batch, 0))), step, batch


def assert_close(actual, expected, rtol=2e-5, atol=1e-5):
    jax.tree.map(
        partial(np.testing.assert_allclose, rtol=rtol, atol=atol), actual, expected
    )


def assert_finite(tree):
    for path, leaf in jax.tree.leaves_with_path(tree):
        assert np.all(np.isfinite(leaf)), jax.tree_util.keystr(path)
