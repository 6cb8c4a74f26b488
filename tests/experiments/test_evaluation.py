"""The numbers at the end of a run: their errors, and what is left out of them."""

from functools import partial

import jax
import numpy as np
import pytest
from support.linear_gaussian import (
    draw_examples,
    make_params,
    vae as linear,
    with_best_encoder,
)

from experiments.harness import evaluation


def test_a_tail_that_is_too_heavy_is_counted():
    """An encoder whose variance is a fifth of the posterior's has k = 0.8, one that is
    wider less than 0.
    """
    for widen, expected in ((-1.61, 0.6), (0.5, 0.0)):
        params = with_best_encoder(make_params(orthogonal=True), widen=widen)
        xs = draw_examples(params, 100)
        estimate = jax.jit(
            jax.vmap(
                partial(
                    evaluation.log_marginal_in_halves, linear, params, num_samples=2000
                )
            )
        )
        ks = np.asarray(estimate(jax.random.split(jax.random.key(0), len(xs)), xs)[3])
        assert abs(np.mean(ks > evaluation.DOUBTFUL_K) - expected) < 0.4


def test_numbers_over_seeds_leave_out_the_diverged_and_count_them():
    number = evaluation.over_seeds(np.array([1.0, np.nan, 3.0]))
    assert (number["mean"], number["num_seeds"], number["num_diverged"]) == (2, 2, 1)
    assert number["std"] == pytest.approx(np.sqrt(2))
    assert evaluation.text(number, 1) == "2.0 ± 1.4 (1 diverged)"


def test_the_error_of_an_nll_is_the_spread_of_repeated_estimates():
    """Weights are so uneven that the delta method says less than a third of it."""
    params = with_best_encoder(make_params(x_size=8, latent_size=4), widen=-1.5)
    xs = draw_examples(params, 200)
    estimate = jax.jit(
        jax.vmap(
            partial(evaluation.log_marginal_in_halves, linear, params, num_samples=21)
        )
    )

    def repeat(seed):
        values, errors, sizes, _ = estimate(
            jax.random.split(jax.random.key(seed), len(xs)), xs
        )
        assert np.all((sizes >= 1) & (sizes <= 21))
        return np.mean(values), np.sqrt(np.sum(np.square(errors))) / len(xs)

    means, errors = np.array([repeat(seed) for seed in range(40)]).T
    # Forty repeats know their spread to a ninth.
    assert 0.7 < np.mean(errors) / np.std(means, ddof=1) < 1.4
    assert np.all(
        np.isnan(
            jax.vmap(
                partial(
                    evaluation.log_marginal_in_halves, linear, params, num_samples=1
                )
            )(jax.random.split(jax.random.key(0), len(xs)), xs)[1]
        )
    )
