"""Codes against what is known of them in closed form, and neighbors against every
distance.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.cases import linear_gaussian

import vaejax
from vaejax import latent
from vaejax.distributions import Normal, kl_divergence

NUM = 200


@pytest.fixture(scope="module")
def model():
    """Three dimensions of which the last is not used: encoder and prior agree about it."""
    vae = linear_gaussian(3)
    params = vae.init(jax.random.key(0), jnp.zeros((3, 4)))
    params["encoder"] = params["encoder"].at[2].set(0).at[1].multiply(3)
    params["posterior_log_variance"] = jnp.array([-2.0, -1.0, 0.0])
    return vae, params, 2 + jax.random.normal(jax.random.key(1), (NUM, 3, 4))


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
        statistics.stddev**2, variance, rtol=5 * np.sqrt(2 / NUM)
    )
    error = 5 * jnp.sqrt(variance / NUM)
    assert np.all(np.abs(statistics.mean - jnp.mean(means, axis=0)) < error)
    # The unused dimension is standard Normal.
    np.testing.assert_allclose(
        statistics.quantiles[2], [-1.2816, 0, 1.2816], atol=5 * 1.7 / np.sqrt(NUM)
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


def test_an_attribute_is_the_difference_of_two_means_and_shifting_by_it_goes_from_one_to_the_other(
    model,
):
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


def test_temperature_scales_the_prior_about_its_mean(model):
    vae, params, _ = model
    moved = vae._replace(prior=lambda params: Normal(jnp.full(3, 5.0), jnp.zeros(3)))

    def latents(temperature):
        as_it_is = moved._replace(decode=lambda params, z: Normal(z, jnp.zeros(3)))
        return vaejax.sample(
            as_it_is, params, jax.random.key(4), 4000, temperature=temperature
        )

    for temperature in (0.5, 2.0):
        draws = latents(temperature)
        assert np.all(np.abs(draws.mean(0) - 5) < 5 * temperature / np.sqrt(4000))
        np.testing.assert_allclose(draws.std(0), temperature, rtol=5 / np.sqrt(8000))
    np.testing.assert_array_equal(latents(0.0), np.full((4000, 3), 5.0))


def test_a_great_circle_keeps_its_length_and_its_pace():
    a, b = jnp.array([3.0, 0.0, 0.0]), jnp.array([0.0, 3.0, 0.0])
    path = jax.vmap(lambda t: latent.spherical_path(a, b, t))(jnp.linspace(0, 1, 5))
    np.testing.assert_allclose(jnp.linalg.norm(path, axis=1), 3, rtol=1e-6)
    angles = jnp.degrees(jnp.arctan2(path[:, 1], path[:, 0]))
    np.testing.assert_allclose(angles, [0, 22.5, 45, 67.5, 90], atol=1e-4)
    np.testing.assert_array_equal(path[0], a)
    # In several leaves it is one vector.
    parts = latent.spherical_path((a[:1], a[1:]), (b[:1], b[1:]), jnp.array(0.25))
    np.testing.assert_allclose(jnp.concatenate(parts), path[1], rtol=1e-6)


@pytest.mark.parametrize("end", [[2.0, 0.0], [-1.0, 0.0], [0.0, 0.0], [1.0, 1e-5]])
def test_where_there_is_no_great_circle_the_path_is_straight(end):
    start, end = jnp.array([1.0, 0.0]), jnp.array(end)
    with jax.debug_nans(True):
        for t in (0.0, 0.3, 1.0):
            np.testing.assert_allclose(
                latent.spherical_path(start, end, jnp.array(t)),
                latent.linear_path(start, end, t),
                atol=1e-5,
            )


def test_neighbors_are_those_of_every_distance():
    queries, references = (
        jax.random.normal(jax.random.key(n), (n, 2, 3)) + 10 for n in (7, 40)
    )
    found = vaejax.latent.nearest_neighbors(queries, references, 5, batch_size=3)
    distances = np.linalg.norm(
        (np.asarray(queries)[:, None] - np.asarray(references)[None]).reshape(7, 40, 6),
        axis=-1,
    )
    np.testing.assert_array_equal(found.indices, np.argsort(distances, axis=1)[:, :5])
    np.testing.assert_allclose(
        found.distances, np.sort(distances, axis=1)[:, :5], rtol=1e-5
    )
    # Something that is among the references is its own neighbor.
    again = vaejax.latent.nearest_neighbors(references, references)
    np.testing.assert_array_equal(again.indices[:, 0], np.arange(40))
    assert np.all(again.distances == 0)


def test_mistakes_name_the_fix(model):
    vae, params, xs = model
    key = jax.random.key(0)
    codes = jnp.zeros((4, 3))
    mistakes = [
        (lambda: vaejax.latent.nearest_neighbors(codes, codes[:, :2]), "give the same"),
        (lambda: vaejax.latent.nearest_neighbors(codes, codes, 5), "at least as many"),
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
        (lambda: vaejax.sample(vae, params, key, 2, temperature=-1.0), "from 0 on"),
        (
            lambda: vaejax.sample(vae, params, key, 2, temperature=float("nan")),
            "from 0 on",
        ),
        (
            lambda: vaejax.traverse(vae, params, xs[0], steps=jnp.zeros((2, 5))),
            r"\[dimensions, num\] with 3",
        ),
        (
            lambda: vaejax.latent.shift_latents(
                vae, params, xs[0], jnp.zeros(2), jnp.zeros(1)
            ),
            "give one of z's",
        ),
        (lambda: vaejax.manifold(vae, params, 3), "latent_size=2"),
        (
            lambda: vaejax.manifold(vae, params, 3, dimensions=(1, 1)),
            "two different ones below 3",
        ),
        (
            lambda: vaejax.manifold(vae, params, 3, dimensions=(0, 3)),
            "two different ones below 3",
        ),
    ]
    for mistake, fix in mistakes:
        with pytest.raises(ValueError, match=fix):
            mistake()
