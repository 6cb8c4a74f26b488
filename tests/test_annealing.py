"""Annealed importance sampling, forwards and backwards, where log p(x) is known."""

import math
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from linear_gaussian import draw_examples, draw_posterior, exact_log_marginal, make_params, vae, with_best_encoder

import vaejax
from vaejax import annealing

PARAMS = with_best_encoder(make_params(x_size=4), widen=0.3)
XS = draw_examples(PARAMS, 6, seed=1)
SHORT = {"num_temperatures": 8, "num_leapfrog": 3}


@cache
def annealed(**options):
    return jax.jit(jax.vmap(partial(vaejax.annealed_importance_sampling, vae, **options), in_axes=(None, 0, 0)))


def keys(num, seed=0):
    return jax.random.split(jax.random.key(seed), num)


def test_a_transition_leaves_its_target_as_it_is():
    """Correlated, so that a wrong kinetic energy or acceptance shows; from exact draws, 40,000 of them."""
    factor = np.float32([[1.0, 0.0], [0.9, 0.5]])

    def log_density(z):
        return -0.5 * jnp.sum(jnp.square(jax.scipy.linalg.solve_triangular(factor, z, lower=True)))

    def transition(key, z):
        return annealing.hamiltonian_step(log_density, key, z, jnp.float32(0.4), 3)

    start = np.float32(np.random.default_rng(0).normal(size=(40_000, 2)) @ factor.T)
    moved, probabilities = jax.jit(jax.vmap(transition))(keys(len(start)), start)
    moved = np.asarray(moved, np.float64)
    assert 0.3 < probabilities.mean() < 0.95
    assert np.mean(np.any(moved != start, axis=1)) > 0.3
    products = np.stack([moved[:, 0] ** 2, moved[:, 0] * moved[:, 1], moved[:, 1] ** 2], axis=1)
    expected = (factor @ factor.T)[np.triu_indices(2)]
    for values, exact in ((moved, np.zeros(2)), (products, expected)):
        assert np.all(np.abs(values.mean(axis=0) - exact) < 5 * values.std(axis=0) / math.sqrt(len(values)))


def test_a_thousand_temperatures_are_within_a_twentieth_of_a_nat():
    # Log-weights deviate by 0.14 here: 64 chains have a standard error of 0.018.
    estimates = annealed(num_chains=64, num_temperatures=1000)(PARAMS, keys(len(XS)), XS)
    np.testing.assert_allclose(estimates.log_marginal, exact_log_marginal(PARAMS, XS), atol=0.05)
    assert np.all(np.abs(estimates.acceptance_rate - 0.65) < 0.1)
    assert np.all(estimates.effective_sample_size > 60) and np.all(estimates.standard_error < 0.03)


@pytest.mark.parametrize("initial", [annealing.from_prior, annealing.from_posterior])
def test_forward_weights_average_to_p_of_x_within_five_standard_errors(initial):
    """Few temperatures and short trajectories, so that the weights vary; one chain an estimate."""
    x, num = XS[0], 20_000
    one = partial(vaejax.annealed_importance_sampling, vae, num_chains=1, initial=initial, **SHORT)
    sizes = vaejax.adapt_step_sizes(vae, PARAMS, jax.random.key(9), x, initial=initial, **SHORT)
    program = jax.jit(jax.vmap(lambda key: one(PARAMS, key, x, step_sizes=sizes).log_marginal))
    weights = np.exp(np.asarray(program(keys(num)), np.float64) - exact_log_marginal(PARAMS, x))
    assert weights.std() > 0.05
    assert abs(weights.mean() - 1) < 5 * weights.std() / math.sqrt(num)


def test_reverse_weights_average_to_one_over_p_of_x_within_five_standard_errors():
    x, num = XS[0], 20_000
    sizes = vaejax.adapt_step_sizes(vae, PARAMS, jax.random.key(9), x, **SHORT)
    one = partial(vaejax.reverse_annealed_importance_sampling, vae, num_chains=1, step_sizes=sizes, **SHORT)
    program = jax.jit(jax.vmap(lambda key, z: one(PARAMS, key, x, z).log_marginal))
    estimates = np.asarray(program(keys(num), draw_posterior(PARAMS, x, num)), np.float64)
    weights = np.exp(exact_log_marginal(PARAMS, x) - estimates)
    assert weights.std() > 0.05
    assert abs(weights.mean() - 1) < 5 * weights.std() / math.sqrt(num)


def test_adapted_steps_accept_two_thirds():
    options = {"num_temperatures": 300, "num_leapfrog": 5}
    estimates = annealed(num_chains=16, **options)(PARAMS, keys(len(XS), 3), XS)
    assert np.all(np.abs(estimates.acceptance_rate - 0.65) < 0.1)


def test_the_bounds_enclose_the_truth():
    """ELBO <= IWAE_10 <= AIS <= log p(x) <= the reverse, on average over simulated examples."""
    num, options = 400, {"num_chains": 4, "num_temperatures": 20, "num_leapfrog": 3}

    def bounds(key):
        z_key, x_key, adapt_key, lower_key, upper_key, elbo_key, iwae_key = jax.random.split(key, 7)
        z = vae.prior(PARAMS).sample(z_key)
        x = vae.decode(PARAMS, z).sample(x_key)
        sizes = vaejax.adapt_step_sizes(vae, PARAMS, adapt_key, x, **options)
        run = partial(vaejax.annealed_importance_sampling, vae, PARAMS, lower_key, x)
        reverse = partial(vaejax.reverse_annealed_importance_sampling, vae, PARAMS, upper_key, x, z)
        elbo, _ = vaejax.negative_elbo(vae, PARAMS, elbo_key, x)
        iwae, _ = vaejax.negative_iwae(vae, PARAMS, iwae_key, x, num_samples=10)
        lower, upper = (f(step_sizes=sizes, **options).log_marginal for f in (run, reverse))
        return x, jnp.stack([-elbo, -iwae, lower, upper])

    xs, values = map(np.asarray, jax.jit(jax.vmap(bounds))(keys(num, 4)))
    ordered = np.insert(values.astype(np.float64), 3, exact_log_marginal(PARAMS, xs), axis=1)
    gaps = np.diff(ordered, axis=1)[:, [0, 2, 3]]
    assert np.all(gaps.mean(axis=0) > 2 * gaps.std(axis=0) / math.sqrt(num))
    assert ordered[:, 1].mean() < ordered[:, 3].mean()


def test_bidirectional_bounds_are_close_after_many_temperatures():
    options = {"num_chains": 16, "num_temperatures": 300, "num_leapfrog": 3}
    one = partial(vaejax.bidirectional_monte_carlo, vae, PARAMS, **options)
    estimate = jax.jit(jax.vmap(one))(keys(20, 5))
    np.testing.assert_allclose(estimate.gap, estimate.upper.log_marginal - estimate.lower.log_marginal, rtol=1e-5)
    # Each bound deviates by 0.25 / sqrt(16), and their distance on average is its square.
    assert np.all(np.abs(estimate.gap) < 0.5)
    assert abs(estimate.gap.mean()) < 0.1


def test_an_exact_initial_distribution_leaves_nothing_to_anneal():
    params = with_best_encoder(make_params(x_size=4, orthogonal=True))
    run = jax.jit(partial(vaejax.annealed_importance_sampling, vae, initial=annealing.from_posterior, **SHORT))
    estimate = run(params, jax.random.key(0), XS[0])
    np.testing.assert_allclose(estimate.log_marginal, exact_log_marginal(params, XS[0]), rtol=1e-5)
    assert estimate.standard_error < 1e-3


def test_a_binary_decoder_agrees_with_a_grid_over_z():
    model = vaejax.gaussian_vae(latent_size=2, encoder=vaejax.MLP((8,)), decoder=vaejax.MLP((8,), (20,)))
    x = jax.random.bernoulli(jax.random.key(1), 0.5, (20,)).astype(jnp.float32)
    params = jax.tree.map(lambda leaf: 2 * leaf, model.init(jax.random.key(0), x))
    axis = jnp.linspace(-6, 6, 241)
    grid = jnp.stack(jnp.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    log_joint = jax.vmap(lambda z: model.decode(params, z).log_prob(x) + model.prior(params).log_prob(z))(grid)
    exact = jax.nn.logsumexp(log_joint) + 2 * jnp.log(axis[1] - axis[0])
    options = {"num_chains": 100, "num_temperatures": 300, "num_leapfrog": 5}
    run = jax.jit(partial(vaejax.annealed_importance_sampling, model, **options))
    estimate = run(params, jax.random.key(2), x)
    assert estimate.standard_error < 0.1
    assert abs(estimate.log_marginal - exact) < 5 * estimate.standard_error


def test_any_tree_of_real_latents_is_annealed():
    """The two latents of the linear model by name, with the noise of the vector of both."""

    @partial(jax.tree_util.register_dataclass, data_fields=["whole"], meta_fields=[])
    class Split:
        def __init__(self, whole):
            self.whole = whole

        def sample_and_log_prob(self, key):
            z, log_prob = self.whole.sample_and_log_prob(key)
            return {"a": z[:1], "b": z[1:]}, log_prob

        def log_prob(self, z):
            return self.whole.log_prob(jnp.concatenate([z["a"], z["b"]]))

    halves = vae._replace(
        prior=lambda params: Split(vae.prior(params)),
        decode=lambda params, z: vae.decode(params, jnp.concatenate([z["a"], z["b"]])),
    )
    key = jax.random.key(3)
    split = jax.jit(partial(vaejax.annealed_importance_sampling, halves, **SHORT))(PARAMS, jax.random.clone(key), XS[0])
    whole = jax.jit(partial(vaejax.annealed_importance_sampling, vae, **SHORT))(PARAMS, key, XS[0])
    np.testing.assert_allclose(split.log_marginal, whole.log_marginal, rtol=1e-5)


@pytest.mark.parametrize("spacing", [annealing.sigmoidal, annealing.linear])
def test_temperatures_rise_from_0_to_1(spacing):
    temperatures = np.asarray(spacing(10))
    assert temperatures.shape == (11,) and temperatures[0] == 0 and temperatures[-1] == 1
    assert np.all(np.diff(temperatures) > 0)


@pytest.mark.parametrize("count", ["num_chains", "num_temperatures", "num_leapfrog"])
def test_counts_are_checked(count):
    with pytest.raises(ValueError, match=f"{count} is 0"):
        vaejax.annealed_importance_sampling(vae, PARAMS, jax.random.key(0), XS[0], **{count: 0})


def test_step_sizes_must_be_of_the_same_run():
    with pytest.raises(ValueError, match="shape \\(5,\\) and there are 1000"):
        vaejax.annealed_importance_sampling(vae, PARAMS, jax.random.key(0), XS[0], step_sizes=jnp.ones(5))


def test_a_discrete_latent_is_refused():
    discrete = vae._replace(prior=lambda params: vaejax.Categorical(jnp.zeros((2, 3))))
    with pytest.raises(TypeError, match="real numbers"):
        vaejax.annealed_importance_sampling(discrete, PARAMS, jax.random.key(0), XS[0])
