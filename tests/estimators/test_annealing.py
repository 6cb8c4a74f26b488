"""Annealed importance sampling and bidirectional Monte Carlo where log p(x) and the
exact posterior are known.
"""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support import cases
from support.linear_gaussian import (
    draw_examples,
    draw_posterior,
    exact_log_marginal,
    make_params,
    vae,
    with_best_encoder,
)

from vaejax import MLP, Categorical, gaussian_vae
from vaejax.estimators import (
    AnnealingPath,
    adapt_step_sizes,
    anneal,
    annealed_estimate,
    annealed_importance_sampling,
    bidirectional_monte_carlo,
    hamiltonian_transition,
    init_annealing,
    init_reverse_annealing,
    linear_temperature_schedule,
    reverse_annealed_importance_sampling,
    sigmoidal_temperature_schedule,
    start_at_posterior,
    start_at_prior,
)

X = np.array([1.0, -0.5, 0.3, 2.0, -1.0], np.float32)
# An encoder somewhat wider than the posterior, so that it is a fair place to start and
# not the end.
PARAMS = with_best_encoder(make_params(), widen=0.5)
TRUTH = exact_log_marginal(PARAMS, X)


def keys(seed, num):
    return jax.random.split(jax.random.key(seed), num)


def run(function, *arguments):
    return jax.tree.map(np.asarray, jax.jit(function)(*arguments))


def over(function, *arguments):
    return run(jax.vmap(function), *arguments)


def steps(num_temperatures):
    """About what adaptation finds from the prior, at no cost: nine tenths of what is
    stable in any direction.
    """
    precision = np.linalg.norm(PARAMS.loadings, 2) ** 2 / np.exp(PARAMS.log_noise)
    return np.float32(
        1.8
        / np.sqrt(
            1
            + precision
            * np.asarray(sigmoidal_temperature_schedule(num_temperatures))[1:]
        )
    )


def path_of(num_temperatures):
    return AnnealingPath(
        num_temperatures=num_temperatures, step_sizes=steps(num_temperatures)
    )


def assert_mean(values, expected):
    """Within five standard errors, for `[num, ...]` independent values."""
    values = np.asarray(values, np.float64)
    errors = values.std(axis=0, ddof=1) / np.sqrt(len(values))
    assert np.all(np.abs(values.mean(axis=0) - expected) < 5 * errors)


# The transition


@pytest.mark.parametrize(
    ("exact", "num_steps"), [(True, 1), pytest.param(False, 30, marks=pytest.mark.slow)]
)
def test_hamiltonian_transition_keeps_and_reaches_its_target(exact, num_steps):
    def log_density(z):
        joined = jnp.concatenate([z["a"], z["b"]])
        return vae.decode(PARAMS, joined).log_prob(X) + vae.prior(PARAMS).log_prob(
            joined
        )

    def move(key, z):
        def step(z, i):
            return hamiltonian_transition(
                log_density,
                jax.random.fold_in(key, i),
                z,
                step_size=0.5,
                num_leapfrog=3,
            )

        z, acceptances = jax.lax.scan(step, z, jnp.arange(num_steps))
        return jnp.concatenate([z["a"], z["b"]]), acceptances

    samples = draw_posterior(PARAMS, X, 20_000)
    starts = samples if exact else np.zeros_like(samples)
    moved, acceptances = over(
        move, keys(1, 20_000), {"a": starts[:, :1], "b": starts[:, 1:]}
    )
    reference = draw_posterior(PARAMS, X, 1_000_000, seed=1)
    mean, covariance = reference.mean(axis=0), np.cov(reference.T)
    # So coarse a step that without the correction the moments would be others.
    assert 0.5 < acceptances.mean() < 0.9
    centered = moved - mean
    assert_mean(centered, 0)
    assert_mean(centered[:, :, None] * centered[:, None, :], covariance)


def test_hamiltonian_transition_stays_where_the_density_is_not_a_number():
    def log_density(z):
        return jnp.where(jnp.abs(z) < 1, 0, jnp.nan)

    z, acceptance = run(
        partial(hamiltonian_transition, log_density, step_size=100.0),
        jax.random.key(1),
        np.float32(0),
    )
    assert z == acceptance == 0


# Forward


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


# Step sizes and spacing


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


@pytest.mark.parametrize(
    "temperature_schedule",
    [linear_temperature_schedule, sigmoidal_temperature_schedule],
)
@pytest.mark.parametrize("num", [1, 10, 1000])
def test_spacing_rises_from_exactly_zero_to_exactly_one(temperature_schedule, num):
    inverse_temperatures = np.asarray(temperature_schedule(num))
    assert inverse_temperatures.shape == (num + 1,)
    assert inverse_temperatures[0] == 0 and inverse_temperatures[-1] == 1
    assert np.all(np.diff(inverse_temperatures) > 0)


def test_sigmoidal_spacing_is_that_of_the_formula():
    sigmoids = 1 / (1 + np.exp(-np.linspace(-4, 4, 11)))
    expected = (sigmoids - sigmoids[0]) / (sigmoids[-1] - sigmoids[0])
    np.testing.assert_allclose(sigmoidal_temperature_schedule(10), expected, rtol=1e-5)


# Both directions


def errors_of_bounds(num, num_temperatures, num_chains):
    """Of both bounds, on `num` simulated examples."""
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


# Pieces


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
    annealing = jax.jit(
        partial(anneal, vae, PARAMS, path=path_of(24), reverse=True)
    )
    check_pieces(
        lambda state, count: annealing(jax.random.key(10), X, state, count), start
    )


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
        cases.hierarchical(),
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


# At the door


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


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"step_sizes": np.ones(7, np.float32)},
            r"shape \(7,\) and num_temperatures is 8",
        ),
        ({"step_sizes": np.float32(1)}, r"shape \(\) and num_temperatures is 8"),
        (
            {"temperature_schedule": lambda num: jnp.linspace(0, 1, num)},
            r"shape \(8,\); give num_temperatures \+ 1 = 9",
        ),
        (
            {"temperature_schedule": lambda num: jnp.linspace(0, 0.5, num + 1)},
            "from 0 to 0.5; they must begin at exactly 0",
        ),
        (
            {"temperature_schedule": lambda num: jnp.linspace(0.2, 1, num + 1)},
            "from 0.2 to 1; they must begin at exactly 0",
        ),
        (
            {
                "temperature_schedule": lambda num: (
                    jnp.linspace(0, 1, num + 1).at[3].set(0.9)
                )
            },
            "never fall",
        ),
    ],
)
def test_schedules_must_be_as_long_as_the_path(options, message):
    with pytest.raises(ValueError, match=message):
        annealed_importance_sampling(
            vae,
            PARAMS,
            jax.random.key(0),
            X,
            path=AnnealingPath(num_temperatures=8, **options),
        )


def test_other_options_are_checked():
    with pytest.raises(ValueError, match="target_acceptance is 1.0"):
        adapt_step_sizes(vae, PARAMS, jax.random.key(0), X, target_acceptance=1.0)
    with pytest.raises(ValueError, match="num_transitions is 0"):
        adapt_step_sizes(vae, PARAMS, jax.random.key(0), X, num_transitions=0)
    state = init_reverse_annealing(np.zeros(2, np.float32))
    piece = partial(anneal, vae, PARAMS, jax.random.key(0), X, state)
    with pytest.raises(ValueError, match="count is 0"):
        piece(0, path=path_of(8))
    with pytest.raises(ValueError, match=r"step_sizes has shape \(\)"):
        piece(1, path=AnnealingPath(step_sizes=np.float32(1)))
    with pytest.raises(ValueError, match="step_sizes is None and num_temperatures is"):
        piece(1, path=AnnealingPath())


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
