"""Arrays with missing cells: what is hidden changes nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.stats
from support.cases import standard_promotion

import vaejax
from vaejax import distributions, latent
from vaejax.distributions import Masked, MaskedEvent, masked_head

SHAPE = (4, 2)
MEAN = np.float32(np.random.default_rng(0).normal(size=SHAPE))
X = np.float32([[1, 0], [2, 1], [0, 3], [5, 0]])
MASK = np.array([[1, 1], [1, 0], [0, 1], [0, 0]], bool)
FAMILIES = {
    "normal": (
        vaejax.Normal(MEAN, MEAN),
        lambda: scipy.stats.norm(MEAN, np.exp(MEAN / 2)).logpdf(X),
    ),
    "poisson": (
        distributions.Poisson(MEAN),
        lambda: scipy.stats.poisson(np.exp(MEAN)).logpmf(X),
    ),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_the_log_prob_is_that_of_the_observed_cells(name):
    distribution, expected = FAMILIES[name]
    found = Masked(distribution).log_prob(MaskedEvent(X, MASK))
    np.testing.assert_allclose(found, expected()[MASK].sum(), rtol=1e-5)
    whole = Masked(distribution).log_prob(MaskedEvent(X, np.ones(SHAPE, bool)))
    np.testing.assert_allclose(whole, distribution.log_prob(X), rtol=1e-6)
    assert Masked(distribution).log_prob(X) == distribution.log_prob(X)


@pytest.mark.parametrize("hidden", [np.nan, np.inf, -7.5, 1e30])
def test_hidden_cells_change_neither_value_nor_gradient(hidden):
    def value(means, x):
        return Masked(distributions.Poisson(means)).log_prob(MaskedEvent(x, MASK))

    both = jax.value_and_grad(value, argnums=(0, 1))
    found = both(jnp.asarray(MEAN), jnp.where(MASK, X, hidden))
    expected = both(jnp.asarray(MEAN), jnp.asarray(X))
    jax.tree.map(np.testing.assert_array_equal, found, expected)
    assert np.all(np.asarray(found[1][0])[~MASK] == 0)


def test_a_parameter_may_be_a_scalar_and_an_observed_nan_is_nan():
    masked = Masked(vaejax.Normal(MEAN, np.float32(0)))
    expected = scipy.stats.norm(MEAN).logpdf(X)[MASK].sum()
    np.testing.assert_allclose(
        masked.log_prob(MaskedEvent(X, MASK)), expected, rtol=1e-5
    )
    assert np.isnan(masked.log_prob(MaskedEvent(X * np.nan, MASK)))
    with pytest.raises(ValueError, match="give one event of that shape"):
        masked.log_prob(MaskedEvent(X[:2], MASK[:2]))


@pytest.mark.slow
def test_series_of_unequal_length_are_learned_and_completed():
    """Straight lines of two slopes, of 5 to 12 steps: the rest is imputed."""
    random, num, steps = np.random.default_rng(0), 256, 12
    slopes = random.choice([-1.0, 1.0], size=num)
    lines = slopes[:, None] * np.linspace(0, 2, steps)
    values = lines[..., None] + 0.1 * random.normal(size=(num, steps, 1))
    mask = np.arange(steps)[None] < random.integers(5, steps + 1, num)[:, None]
    data = MaskedEvent(jnp.asarray(values, jnp.float32), jnp.asarray(mask[..., None]))

    def init(key, x):
        network = vaejax.networks.as_network(vaejax.MLP((32,)))
        return network.init(key, jnp.concatenate([x.values, x.mask], axis=-1))

    def apply(params, x):
        network = vaejax.networks.as_network(vaejax.MLP((32,)))
        values = jnp.where(x.mask > 0, x.values, 0)
        return network.apply(params, jnp.concatenate([values, x.mask], axis=-1))

    vae = vaejax.gaussian_vae(
        latent_size=2,
        encoder=(init, apply),
        decoder=vaejax.MLP((32,), (steps, 1, 2)),
        likelihood=masked_head(vaejax.Normal),
    )
    optimizer = standard_promotion(optax.adam(1e-2))
    first = jax.tree.map(lambda leaf: leaf[0], data)
    state = vaejax.init_train_state(vae, optimizer, jax.random.key(0), first)
    step = vaejax.make_train_step(
        vaejax.mean_over_batch(lambda *a: vaejax.negative_elbo(vae, *a)), optimizer
    )
    params = jax.jit(
        lambda state: jax.lax.scan(lambda s, _: step(s, data), state, length=400)[0]
    )(state).params
    found = jax.jit(
        jax.vmap(lambda key, x: latent.impute(vae, params, key, x, num_samples=200))
    )(jax.random.split(jax.random.key(1), num), data)
    hidden = ~np.asarray(data.mask)
    error = np.sqrt(
        np.mean(np.square(np.asarray(found.mean)[..., 0] - lines)[hidden[..., 0]])
    )
    assert error < 0.3 < np.sqrt(np.mean(np.square(lines[hidden[..., 0]])))
