"""Statistics of codes against closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import vaejax
from vaejax.distributions import Normal, kl_divergence


@pytest.mark.slow
def test_moments_of_a_normal_are_its_own_and_of_another_those_of_draws(model):
    vae, params, xs = model
    exact = vaejax.latent.posterior_moments(vae, params, jax.random.key(2), xs)
    posteriors = jax.vmap(lambda x: vae.encode(params, x))(xs)
    np.testing.assert_allclose(exact.mean, posteriors.mean, rtol=1e-6)
    np.testing.assert_allclose(
        exact.stddev, jnp.exp(posteriors.log_variance / 2), rtol=1e-6
    )

    class Drawn:
        """All that a posterior must have."""

        def __init__(self, normal):
            self.sample_and_log_prob = normal.sample_and_log_prob

    drawn = vae._replace(encode=lambda params, x: Drawn(vae.encode(params, x)))
    estimate = vaejax.latent.posterior_moments(
        drawn, params, jax.random.key(2), xs[:20], num_samples=1000
    )
    error = exact.stddev[:20] / np.sqrt(1000)
    assert np.all(np.abs(estimate.mean - exact.mean[:20]) < 5 * error)
    assert np.all(np.abs(estimate.stddev - exact.stddev[:20]) < 5 * error)
    # The noise of the means is not taken for activity.
    few = vaejax.latent.code_statistics(
        drawn, params, jax.random.key(3), xs, num_samples=4
    )
    all_of_it = vaejax.latent.code_statistics(vae, params, jax.random.key(3), xs)
    assert few.activity[2] < 0.1  # 1 / 4 with it
    np.testing.assert_allclose(few.activity[:2], all_of_it.activity[:2], rtol=0.3)


def test_statistics_are_the_closed_forms(model):
    vae, params, xs = model
    statistics = vaejax.latent.code_statistics(
        vae, params, jax.random.key(3), xs, quantiles=jnp.array([0.1, 0.5, 0.9])
    )

    def kl(x):
        posterior, prior = vae.encode(params, x), vae.prior(params)
        return jax.vmap(
            lambda *of: kl_divergence(Normal(of[0], of[1]), Normal(of[2], of[3]))
        )(posterior.mean, posterior.log_variance, prior.mean, prior.log_variance)

    np.testing.assert_allclose(
        statistics.kl, jnp.mean(jax.vmap(kl)(xs), axis=0), rtol=1e-5, atol=1e-6
    )
    means = jax.vmap(lambda x: vae.encode(params, x).mean)(xs)
    np.testing.assert_allclose(
        statistics.activity, jnp.var(means, axis=0), rtol=1e-5, atol=1e-7
    )
    assert statistics.order[-1] == 2 and statistics.kl[2] < 1e-6
    # Of the aggregate posterior: the spread of the means and of each posterior
    # together.
    variance = statistics.activity + jnp.exp(params["posterior_log_variance"])
    np.testing.assert_allclose(
        statistics.stddev**2, variance, rtol=5 * np.sqrt(2 / len(xs))
    )
    error = 5 * jnp.sqrt(variance / len(xs))
    assert np.all(np.abs(statistics.mean - jnp.mean(means, axis=0)) < error)
    # The unused dimension is standard Normal.
    np.testing.assert_allclose(
        statistics.quantiles[2], [-1.2816, 0, 1.2816], atol=5 * 1.7 / np.sqrt(len(xs))
    )


def test_dimensions_of_one_kl_are_ordered_by_activity(model):
    vae, params, xs = model
    exact = vae._replace(
        encode=lambda params, x: Normal(
            vae.encode(params, x).mean, jnp.full(3, -jnp.inf)
        )
    )
    statistics = vaejax.latent.code_statistics(exact, params, jax.random.key(0), xs)
    assert np.all(np.isposinf(statistics.kl))
    assert statistics.order.tolist() == np.argsort(-statistics.activity).tolist()


def test_shifting_by_an_attribute_leads_from_one_mean_to_the_other(model):
    vae, params, xs = model
    codes = vaejax.embed(vae, params, xs)
    bright = jnp.mean(xs, axis=(1, 2)) > 2
    direction = vaejax.latent.attribute_direction(codes, bright)
    expected = np.asarray(codes)[np.asarray(bright)].mean(0) - np.asarray(codes)[
        ~np.asarray(bright)
    ].mean(0)
    np.testing.assert_allclose(direction, expected, rtol=1e-4)
    shifted = vaejax.latent.shift_latents(
        vae, params, xs[0], direction, jnp.array([0.0, 1.0, 2.0])
    )
    # A linear decoder adds the same each time.
    step = (params["loadings"] @ direction).reshape(3, 4)
    np.testing.assert_allclose(
        jnp.diff(shifted, axis=0), jnp.stack([step, step]), atol=1e-5
    )


def test_mistakes_name_the_fix(model):
    vae, params, xs = model
    key = jax.random.key(0)
    codes = jnp.zeros((4, 3))
    mistakes = [
        (
            lambda: vaejax.latent.attribute_direction(codes, jnp.ones(3, bool)),
            "one boolean each",
        ),
        (
            lambda: vaejax.latent.code_statistics(vae, params, key, xs[:1]),
            "at least two",
        ),
        (
            lambda: vaejax.latent.posterior_moments(
                vae, params, key, xs, num_samples=1
            ),
            "at least 2",
        ),
    ]
    with pytest.raises(TypeError, match="give booleans"):
        vaejax.latent.attribute_direction(codes, jnp.ones(4, jnp.int32))
    for mistake, fix in mistakes:
        with pytest.raises(ValueError, match=fix):
            mistake()
