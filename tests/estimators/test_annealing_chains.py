"""Chains in pieces, in both directions, and the estimate from their weights."""

from functools import partial

import jax
import numpy as np
import pytest
from support.annealing import PARAMS, X, path_of, run
from support.linear_gaussian import draw_posterior, vae

from vaejax.estimators import (
    AnnealingPath,
    anneal,
    annealed_estimate,
    annealed_importance_sampling,
    init_annealing,
    init_reverse_annealing,
)


def test_estimate_is_of_the_log_weights():
    state = run(
        partial(init_annealing, vae, PARAMS, num_chains=5), jax.random.key(6), X
    )
    log_weight = np.float32([-3, -1, -2, 0.5, -1.5])
    state = state._replace(
        log_weight=log_weight,
        acceptance=np.float32([3, 2, 1, 4, 0]),
        position=np.int32(4),
    )
    # On the way, and before the first step, there is no estimate.
    for remaining in (-1, 3):
        assert np.all(
            np.isnan(
                run(annealed_estimate, state._replace(remaining=np.int32(remaining)))
            )
        )
    weights = np.exp(log_weight)
    value, error, size, rate = run(
        annealed_estimate, state._replace(remaining=np.int32(0))
    )
    np.testing.assert_allclose(value, np.log(weights.mean()), rtol=1e-5)
    np.testing.assert_allclose(
        error, weights.std(ddof=1) / weights.mean() / np.sqrt(5), rtol=1e-4
    )
    np.testing.assert_allclose(
        size, weights.sum() ** 2 / np.square(weights).sum(), rtol=1e-4
    )
    assert rate == 0.5


def check_pieces(program, start):
    """Check that cuts change nothing, and return the state after 24 temperatures."""
    whole, pieces = program(start, 24), start
    for count in (1, 9, 9, 9):
        pieces = program(pieces, count)
    jax.tree.map(np.testing.assert_array_equal, whole, pieces)
    assert whole.position == 24 and len(set(whole.log_weight.tolist())) == 16
    # Beyond the end there is nothing to do.
    jax.tree.map(np.testing.assert_array_equal, whole, program(whole, 1))
    return whole


@pytest.mark.slow
def test_cut_and_continued_is_bitwise_the_whole_run():
    whole_run = partial(annealed_importance_sampling, vae, PARAMS, path=path_of(24))
    estimate = run(whole_run, jax.random.key(9), X)
    _, initial_key, transition_key = jax.random.split(jax.random.key(9), 3)
    start = run(partial(init_annealing, vae, PARAMS), initial_key, X)
    annealing = jax.jit(partial(anneal, vae, PARAMS, path=path_of(24)))
    # The same key for every piece is the point.
    with jax.debug_key_reuse(False):
        end = check_pieces(
            lambda state, count: annealing(transition_key, X, state, count), start
        )
    jax.tree.map(np.testing.assert_array_equal, run(annealed_estimate, end), estimate)


def test_cut_and_continued_in_reverse_is_bitwise_the_same():
    start = init_reverse_annealing(draw_posterior(PARAMS, X, 1)[0])
    annealing = jax.jit(partial(anneal, vae, PARAMS, path=path_of(24), reverse=True))
    check_pieces(
        lambda state, count: annealing(jax.random.key(10), X, state, count), start
    )


def test_pieces_check_their_count_and_step_sizes():
    state = init_reverse_annealing(np.zeros(2, np.float32))
    piece = partial(anneal, vae, PARAMS, jax.random.key(0), X, state)
    with pytest.raises(ValueError, match="count is 0"):
        piece(0, path=path_of(8))
    with pytest.raises(ValueError, match=r"step_sizes has shape \(\)"):
        piece(1, path=AnnealingPath(step_sizes=np.float32(1)))
    with pytest.raises(ValueError, match="step_sizes is None and num_temperatures is"):
        piece(1, path=AnnealingPath())
