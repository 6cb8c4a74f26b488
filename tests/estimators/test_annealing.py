"""Annealed importance sampling and bidirectional Monte Carlo where log p(x) and the
exact posterior are known.
"""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support import prototypes
from support.annealing import (
    PARAMS,
    TRUTH,
    X,
    assert_mean,
    keys,
    over,
    path_of,
    run,
    steps,
)
from support.linear_gaussian import (
    draw_examples,
    draw_posterior,
    exact_log_marginal,
    make_params,
    vae,
)

from vaejax import MLP, Categorical, gaussian_vae
from vaejax.estimators import (
    AnnealingPath,
    adapt_step_sizes,
    annealed_importance_sampling,
    bidirectional_monte_carlo,
    linear_temperature_schedule,
    reverse_annealed_importance_sampling,
    sigmoidal_temperature_schedule,
    start_at_posterior,
    start_at_prior,
)

# Forward


@pytest.mark.slow
def test_a_thousand_temperatures_come_within_a_twentieth_of_a_nat():
    xs = draw_examples(PARAMS, 4)
    adapt_key, run_key = keys(2, 2)
    sizes = run(partial(adapt_step_sizes, vae, PARAMS), adapt_key, X)
    path = AnnealingPath(step_sizes=sizes)
    program = partial(
        annealed_importance_sampling, vae, PARAMS, path=path, num_chains=64
    )
    estimate = over(program, jax.random.split(run_key, 4), xs)
    errors = estimate.log_marginal - exact_log_marginal(PARAMS, xs)
    assert np.all(np.abs(errors) < 0.05)
    assert np.all(np.abs(errors) < 5 * estimate.standard_error) and np.all(
        estimate.standard_error < 0.05
    )
    # The schedule was adapted to another x: for Gaussians the step size is the same.
    assert np.all(np.abs(estimate.acceptance_rate - 0.65) < 0.03)


@pytest.mark.parametrize(
    ("temperature_schedule", "initial", "sizes"),
    [
        (sigmoidal_temperature_schedule, start_at_prior, steps(24)),
        pytest.param(
            linear_temperature_schedule,
            start_at_posterior,
            np.full(24, 0.6, np.float32),
            marks=pytest.mark.slow,
        ),
    ],
)
def test_few_temperatures_give_unbiased_weights_both_ways(
    temperature_schedule, initial, sizes
):
    path = AnnealingPath(
        num_temperatures=24,
        temperature_schedule=temperature_schedule,
        initial=initial,
        step_sizes=sizes,
    )
    options = {"path": path, "num_chains": 1}
    zs = draw_posterior(PARAMS, X, 8_000)

    def both(key, z):
        forward_key, reverse_key = jax.random.split(key)
        forward = annealed_importance_sampling(vae, PARAMS, forward_key, X, **options)
        reverse = reverse_annealed_importance_sampling(
            vae, PARAMS, reverse_key, X, z, **options
        )
        return jnp.stack([forward.log_marginal - TRUTH, TRUTH - reverse.log_marginal])

    weights = np.exp(over(both, keys(3, 8_000), zs))
    assert_mean(weights, 1)
    assert np.all(weights.std(axis=0) < 3)


@pytest.mark.slow
def test_a_schedule_adapted_for_each_run_leaves_the_weights_unbiased():
    def one(key):
        adapt_key, run_key = jax.random.split(key)
        path = AnnealingPath(num_temperatures=8)
        sizes = adapt_step_sizes(
            vae, PARAMS, adapt_key, X, path=path, num_chains=2, num_transitions=8
        )
        path = path._replace(step_sizes=sizes)
        estimate = annealed_importance_sampling(
            vae, PARAMS, run_key, X, path=path, num_chains=2
        )
        return estimate.log_marginal - TRUTH

    assert_mean(np.exp(over(one, keys(4, 2_000))), 1)


@pytest.mark.slow
def test_the_encoder_is_a_better_start_than_the_prior():
    def error(key, initial):
        path = AnnealingPath(
            num_temperatures=5,
            initial=initial,
            step_sizes=np.full(5, 0.5, np.float32),
        )
        estimate = annealed_importance_sampling(
            vae, PARAMS, key, X, path=path, num_chains=4
        )
        return estimate.log_marginal - TRUTH

    def both(key):
        prior_key, posterior_key = jax.random.split(key)
        return jnp.stack(
            [error(prior_key, start_at_prior), error(posterior_key, start_at_posterior)]
        )

    from_prior, from_posterior = over(both, keys(5, 500)).T
    difference = from_posterior - from_prior
    assert difference.mean() > 5 * difference.std() / np.sqrt(500)


# Step sizes


@pytest.mark.slow
@pytest.mark.parametrize("target", [0.65, 0.85])
def test_adapted_step_sizes_reach_their_target_at_any_scale(target):
    # Latents a hundred times as small: the search starts far above.
    small = vae._replace(
        prior=lambda params: dataclasses.replace(
            vae.prior(params), log_variance=jnp.full(2, -9.2)
        ),
        decode=lambda params, z: vae.decode(params, 100 * z),
    )
    adapt_key, run_key = keys(7, 2)
    path = AnnealingPath(num_temperatures=300)
    adapt = partial(
        adapt_step_sizes, small, PARAMS, path=path, target_acceptance=target
    )
    sizes = run(adapt, adapt_key, X)
    path = path._replace(step_sizes=sizes)
    estimate = run(
        partial(annealed_importance_sampling, small, PARAMS, path=path), run_key, X
    )
    assert abs(estimate.acceptance_rate - target) < 0.04
    assert sizes.shape == (300,) and 1.5 * sizes[-1] < sizes[0] < 0.05


# Both directions


def errors_of_bounds(num, num_temperatures, num_chains):
    """Compute both bounds on `num` simulated examples."""
    options = {"path": path_of(num_temperatures), "num_chains": num_chains}
    estimate = over(
        partial(bidirectional_monte_carlo, vae, PARAMS, **options), keys(8, num)
    )
    np.testing.assert_array_equal(estimate.gap, estimate.upper - estimate.lower)
    assert len(np.unique(estimate.x, axis=0)) == num
    truth = exact_log_marginal(PARAMS, estimate.x)
    return estimate.lower - truth, estimate.upper - truth


def test_bounds_of_few_temperatures_are_on_their_sides():
    lower, upper = errors_of_bounds(200, 4, 2)
    assert lower.mean() < -5 * lower.std() / np.sqrt(200)
    assert upper.mean() > 5 * upper.std() / np.sqrt(200)


@pytest.mark.slow
def test_bounds_of_many_temperatures_meet():
    lower, upper = errors_of_bounds(64, 1000, 4)
    assert abs(lower.mean()) < 0.03 and abs(upper.mean()) < 0.03
    assert (upper - lower).mean() > -5 * (upper - lower).std() / np.sqrt(64)


@pytest.mark.slow
def test_memory_does_not_grow_with_the_temperatures():
    params, x = make_params(x_size=500), np.zeros(500, np.float32)

    def temporary_bytes(num):
        program = partial(annealed_importance_sampling, vae, path=path_of(num))
        compiled = jax.jit(program).lower(params, jax.random.key(1), x).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    # A temperature's decodes are 32 kB.
    assert temporary_bytes(5_000) - temporary_bytes(50) < 5_000 * 40


# Other models


@pytest.mark.slow
def test_bernoulli_decoder_against_a_grid():
    model = gaussian_vae(latent_size=2, encoder=MLP([8]), decoder=MLP([8], [10]))
    x = np.float32([1, 0, 1, 1, 0, 0, 1, 0, 1, 1])
    # Weights of a new network say little of z; these bend the posterior.
    params = jax.tree.map(
        lambda leaf: 2.5 * leaf if leaf.ndim == 2 else leaf,
        model.init(jax.random.key(12), x),
    )
    line = np.linspace(-7, 7, 401, dtype=np.float32)
    grid = np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2)
    joint = over(
        lambda z: model.decode(params, z).log_prob(x) + model.prior(params).log_prob(z),
        grid,
    )
    truth = np.log(np.sum(np.exp(joint.astype(np.float64)))) + 2 * np.log(
        line[1] - line[0]
    )
    program = partial(
        annealed_importance_sampling,
        model,
        params,
        path=AnnealingPath(num_temperatures=100),
        num_chains=300,
    )
    estimate = run(program, jax.random.key(13), x)
    assert abs(estimate.log_marginal - truth) < 5 * estimate.standard_error < 0.2
    # Step sizes lag behind a posterior that sharpens fast, the less the more
    # temperatures there are.
    slowly = run(
        partial(program, path=AnnealingPath(), num_chains=100), jax.random.key(13), x
    )
    assert 0.5 < estimate.acceptance_rate < slowly.acceptance_rate
    assert abs(slowly.acceptance_rate - 0.65) < 0.05
    assert abs(slowly.log_marginal - truth) < 5 * slowly.standard_error < 0.2


@pytest.mark.slow
def test_hierarchical_latents_agree_with_sampling_from_the_prior():
    model, x = (
        prototypes.hierarchical(),
        np.float32([[1, 0, 0, 1], [0, 0, 1, 0], [0, 1, 0, 0]]),
    )
    params = model.init(jax.random.key(14), x)
    path = AnnealingPath(num_temperatures=50, step_sizes=0.5 * steps(50))
    program = partial(
        annealed_importance_sampling, model, params, path=path, num_chains=256
    )
    estimate = run(program, jax.random.key(15), x)
    zs = over(model.prior(params).sample, keys(16, 100_000))
    likelihoods = np.exp(
        over(lambda z: model.decode(params, z).log_prob(x), zs).astype(np.float64)
    )
    error = np.hypot(
        estimate.standard_error,
        likelihoods.std() / likelihoods.mean() / np.sqrt(100_000),
    )
    assert abs(estimate.log_marginal - np.log(likelihoods.mean())) < 5 * error < 0.25


# Arguments that are refused


@pytest.mark.parametrize(
    "function",
    [
        partial(adapt_step_sizes, vae, PARAMS, x=X),
        partial(annealed_importance_sampling, vae, PARAMS, x=X),
        partial(
            reverse_annealed_importance_sampling,
            vae,
            PARAMS,
            x=X,
            z=np.zeros(2, np.float32),
        ),
        partial(bidirectional_monte_carlo, vae, PARAMS),
    ],
)
@pytest.mark.parametrize("name", ["num_chains", "num_temperatures", "num_leapfrog"])
@pytest.mark.parametrize("value", [0, 2.5])
def test_counts_must_be_positive_integers(function, name, value):
    options = {name: value}
    if name != "num_chains":
        options = {"path": AnnealingPath(**options)}
    with pytest.raises(ValueError, match=f"{name} is {value}; give a positive integer"):
        function(key=jax.random.key(0), **options)


def test_other_options_are_checked():
    with pytest.raises(ValueError, match="target_acceptance is 1.0"):
        adapt_step_sizes(vae, PARAMS, jax.random.key(0), X, target_acceptance=1.0)
    with pytest.raises(ValueError, match="num_transitions is 0"):
        adapt_step_sizes(vae, PARAMS, jax.random.key(0), X, num_transitions=0)


@dataclasses.dataclass(frozen=True)
class Sampler:
    """A distribution without a density."""

    def sample_and_log_prob(self, key):
        return jax.random.normal(key, (2,)), jnp.zeros(())


def test_what_cannot_be_annealed_is_named():
    path = AnnealingPath(num_temperatures=2)
    short = partial(annealed_importance_sampling, params=PARAMS, x=X, path=path)
    discrete = vae._replace(prior=lambda params: Categorical(jnp.zeros((2, 3))))
    with pytest.raises(
        TypeError,
        match=r"leaves of \['int32'\]; give a model whose latents are all floats",
    ):
        short(discrete, key=jax.random.key(0))
    silent = vae._replace(decode=lambda params, z: Sampler())
    with pytest.raises(TypeError, match="Sampler has no log_prob"):
        short(silent, key=jax.random.key(0))
    with pytest.raises(TypeError, match="Sampler has no sample"):
        bidirectional_monte_carlo(silent, PARAMS, jax.random.key(0), path=path)
    blind = vae._replace(encode=lambda params, x: Sampler())
    with pytest.raises(
        TypeError,
        match="Sampler has no log_prob; give initial=vaejax.estimators.start_at_prior",
    ):
        short(
            blind,
            key=jax.random.key(0),
            path=path._replace(initial=start_at_posterior),
        )
