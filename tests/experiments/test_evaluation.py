"""The numbers at the end of a run: their errors, and what is left out of them."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from support.linear_gaussian import (
    draw_examples,
    make_params,
    vae as linear,
    with_best_encoder,
)

import vaejax
from experiments.harness import averages, evaluation, trust
from experiments.harness.units import CARRYING_KL, disagreement, disagreements


@pytest.mark.slow
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
        assert abs(np.mean(ks > 0.7) - expected) < 0.4


def test_numbers_over_seeds_leave_out_the_diverged_and_count_them():
    number = averages.over_seeds(np.array([1.0, np.nan, 3.0]))
    assert (number["mean"], number["num_seeds"], number["num_diverged"]) == (2, 2, 1)
    assert number["std"] == pytest.approx(np.sqrt(2))
    assert averages.text(number, 1) == "2.0 ± 1.4 (1 diverged)"


@pytest.mark.slow
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


@pytest.mark.slow
def test_samples_in_halves_are_those_of_log_marginal():
    """And Pareto k is that of all samples, as it is reported."""
    params = with_best_encoder(make_params(x_size=8, latent_size=4), widen=-1.0)
    x, key = draw_examples(params, 1)[0], jax.random.key(3)
    with jax.debug_key_reuse(False):  # The same draws by three ways.
        found = jax.jit(
            partial(evaluation.log_marginal_in_halves, linear, params, num_samples=301)
        )(key, x)
        halves = [
            vaejax.log_marginal(linear, params, each, x, num_samples=num)
            for each, num in zip(jax.random.split(key), (151, 150), strict=True)
        ]
        both = np.logaddexp(
            *(
                half.log_marginal + math.log(num)
                for half, num in zip(halves, (151, 150), strict=True)
            )
        )
        np.testing.assert_allclose(found[0], both - math.log(301), rtol=1e-5)
        weights = jnp.concatenate(
            [
                jax.vmap(
                    lambda i, each=each: vaejax.log_weight(
                        linear, params, jax.random.fold_in(each, i), x
                    )
                )(jnp.arange(num, dtype=jnp.uint32))
                for each, num in zip(jax.random.split(key), (151, 150), strict=True)
            ]
        )
        np.testing.assert_allclose(
            found[3], vaejax.estimators.pareto_k(weights), rtol=1e-3, atol=1e-3
        )


def test_a_pareto_k_of_nan_is_doubtful():
    ks = np.array([[0.1, 0.6, np.nan, 0.8], [np.inf] * 4, [0.1] * 4, [-np.inf] * 4])
    shares = trust.doubtful(ks, np.array([90.0, 90.0, np.nan, 90.0]), 2000)
    np.testing.assert_array_equal(shares, [0.5, np.nan, np.nan, 0])


# Of eight latents.
VAE = vaejax.gaussian_vae(
    latent_size=8,
    encoder=vaejax.MLP((64,)),
    decoder=vaejax.MLP((64,), (10, 2)),
    likelihood=vaejax.normal_head(),
)
OPTIMIZER = optax.adam(3e-3)


@jax.jit
def train_epoch(state, xs, beta):
    loss_fn = vaejax.mean_over_batch(partial(vaejax.negative_elbo, VAE, beta=beta))
    step = vaejax.make_train_step(loss_fn, OPTIMIZER)
    return vaejax.make_train_epoch(step, 100)(state, xs)[0]


@jax.jit
def measured(params, xs):
    """Return active units, units by KL, KL, and Pareto k of a hundred examples."""
    statistics = vaejax.latent.code_statistics(VAE, params, jax.random.key(1), xs)
    estimate = partial(evaluation.log_marginal_in_halves, VAE, params, num_samples=200)
    return (
        vaejax.active_units(vaejax.embed(VAE, params, xs)),
        vaejax.estimators.units_by_kl(statistics.kl, threshold=CARRYING_KL),
        jnp.sum(statistics.kl),
        jax.vmap(estimate)(jax.random.split(jax.random.key(2), 100), xs[:100])[3],
    )


def story(xs, beta):
    """Train in forty epochs; return counts, KL, share of k above 0.7, and the note."""
    # As users have it: optax promotes integers.
    with jax.numpy_dtype_promotion("standard"):
        state = vaejax.init_train_state(VAE, OPTIMIZER, jax.random.key(0), xs[0])
        for _ in range(40):
            state = train_epoch(state, xs, beta)
    *numbers, ks = measured(state.params, xs)
    names = ("active_units", "units_by_kl", "kl")
    summary = {
        name: averages.over_seeds(np.asarray(number)[None])
        for name, number in zip(names, numbers, strict=True)
    }
    share = trust.doubtful(np.asarray(ks)[None], np.zeros(1), 200)[0]
    return *(summary[name]["mean"] for name in names), share, disagreement(summary)


@pytest.mark.slow
def test_units_kl_and_pareto_k_tell_one_story():
    """On pure noise that was fitted, on a collapsed model and on a healthy one."""
    generator = np.random.default_rng(0)
    noise = jnp.asarray(generator.normal(size=(3000, 10)), jnp.float32)
    eight = generator.normal(size=(3000, 8)) @ generator.normal(size=(8, 10))
    data = jnp.asarray(eight, jnp.float32) + 0.3 * noise
    active, carrying, kl, share, note = story(noise, 1.0)
    assert active > 4 and carrying <= 1 and kl < 1 and share < 0.1
    assert "carry next to none" in note and f"{kl:.2f} nats" in note
    active, carrying, kl, share, note = story(noise, 100.0)
    assert active == carrying == 0 and kl < 0.1 and share < 0.1 and note is None
    active, carrying, kl, share, note = story(data, 1.0)
    assert active == carrying == 8 and kl > 8 and note is None


def test_a_disagreement_is_said_in_both_directions_and_by_model():
    def summary(active, carrying):
        numbers = {"active_units": active, "units_by_kl": carrying, "kl": 0.26}
        return {
            name: averages.over_seeds(np.array([number]))
            for name, number in numbers.items()
        }

    assert disagreement(summary(3.0, 3.0)) is None
    assert disagreement(summary(np.nan, 3.0)) is None
    assert disagreement(summary(8.0, 0.0)).startswith("8.0 active units but 0.0 above")
    assert "differ from the prior" in disagreement(summary(0.0, 8.0))
    found = disagreements({"one": summary(2.0, 2.0), "two": summary(8.0, 0.0)})
    assert found.startswith("; two: 8.0 active") and disagreements({}) == ""
