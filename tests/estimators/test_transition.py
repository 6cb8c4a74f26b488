"""Annealing by transitions that are given: their forms, and those of blackjax."""

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
)
from support.linear_gaussian import draw_posterior, vae

from vaejax.estimators import (
    AnnealingPath,
    adapt_step_sizes,
    annealed_importance_sampling,
    hamiltonian_transition,
    reverse_annealed_importance_sampling,
)


def walk(log_density, key, z, step_size):
    """Random-walk Metropolis with a scale of its own, of a z in any pytree."""
    del step_size
    flat, unravel = jax.flatten_util.ravel_pytree(z)
    move_key, acceptance_key = jax.random.split(key)
    proposed = unravel(flat + 0.6 * jax.random.normal(move_key, flat.shape, flat.dtype))
    log_ratio = log_density(proposed) - log_density(z)
    is_accepted = jnp.log(jax.random.uniform(acceptance_key)) < log_ratio
    moved = jax.tree.map(partial(jnp.where, is_accepted), proposed, z)
    return moved, is_accepted


def test_none_is_the_hamiltonian_transition_of_the_path():
    path = path_of(6)._replace(num_leapfrog=3)
    given = partial(hamiltonian_transition, num_leapfrog=3)
    found = [
        run(
            partial(annealed_importance_sampling, vae, PARAMS, path=path),
            jax.random.key(0),
            X,
        )
        for path in (path, path._replace(transition=given, num_leapfrog=1))
    ]
    jax.tree.map(np.testing.assert_array_equal, *found)


@pytest.mark.slow
def test_a_reversible_transition_gives_unbiased_weights_both_ways():
    path = path_of(64)._replace(transition=walk)
    options = {"path": path, "num_chains": 1}

    def both(key, z):
        forward_key, reverse_key = jax.random.split(key)
        forward = annealed_importance_sampling(vae, PARAMS, forward_key, X, **options)
        reverse = reverse_annealed_importance_sampling(
            vae, PARAMS, reverse_key, X, z, **options
        )
        return jnp.stack([forward.log_marginal - TRUTH, TRUTH - reverse.log_marginal])

    weights = np.exp(over(both, keys(1, 8_000), draw_posterior(PARAMS, X, 8_000)))
    assert_mean(weights, 1)
    assert np.all(weights.std(axis=0) < 3)


def test_step_sizes_are_adapted_for_a_transition_that_ignores_them():
    path = AnnealingPath(num_temperatures=200, transition=walk)
    program = partial(annealed_importance_sampling, vae, PARAMS, path=path)
    estimate = run(partial(program, num_chains=64), jax.random.key(2), X)
    assert abs(estimate.log_marginal - TRUTH) < 5 * estimate.standard_error < 0.5
    assert 0.3 < estimate.acceptance_rate < 0.9


def test_step_sizes_reach_the_transition_and_follow_its_acceptance():
    def falling(log_density, key, z, step_size):
        return z, jnp.exp(-step_size)

    path = AnnealingPath(num_temperatures=4, transition=falling)
    adapt = partial(adapt_step_sizes, vae, PARAMS, path=path, num_chains=2)
    sizes = run(adapt, jax.random.key(0), X)
    np.testing.assert_allclose(np.exp(-sizes), 0.65, atol=0.01)


def test_a_transition_moves_the_values_of_a_hierarchical_latent():
    model, x = prototypes.hierarchical(), np.float32(np.eye(3, 4))
    params = jax.eval_shape(model.init, jax.random.key(0), x)
    seen = []

    def record(log_density, key, z, step_size):
        seen.append((jax.tree.map(jnp.shape, z), jnp.shape(log_density(z)), step_size))
        return z, 1.0

    path = AnnealingPath(num_temperatures=2, transition=record, step_sizes=np.ones(2))
    estimate = jax.eval_shape(
        partial(annealed_importance_sampling, model, path=path),
        params,
        jax.random.key(0),
        x,
    )
    drawn = jax.eval_shape(
        lambda params, key: model.prior(params).sample(key).values,
        params,
        jax.random.key(0),
    )
    assert estimate.log_marginal.shape == ()
    for z, log_density, step_size in seen:
        assert z == jax.tree.map(jnp.shape, drawn) and log_density == step_size.shape


@pytest.mark.parametrize(
    ("returned", "error", "message"),
    [
        (
            lambda z: (z[:1], 1.0),
            ValueError,
            r"given a z of float32\[2\] and returned one of float32\[1\]; keep its",
        ),
        (
            lambda z: (z.astype(jnp.bfloat16), 1.0),
            ValueError,
            r"of bfloat16\[2\]; keep",
        ),
        (
            lambda z: ({"position": z}, 1.0),
            ValueError,
            r"returned one of \{'position': 'float32\[2\]'\}; keep its structure",
        ),
        (lambda z: (z, z), ValueError, r"acceptance of float32\[2\]; return a scalar"),
        (lambda z: (z, None), ValueError, "acceptance of None; return a scalar"),
        (lambda z: (z, "yes"), ValueError, "acceptance of str; return a scalar"),
        (lambda z: z, TypeError, r"returned float32\[2\]; return a pair \(z, accept"),
        (lambda z: (z, 1.0, 2), TypeError, r"2\]', .*; return a pair \(z, acceptance"),
    ],
)
def test_a_transition_that_returns_another_form_is_named(returned, error, message):
    def transition(log_density, key, z, step_size):
        return returned(z)

    path = path_of(2)._replace(transition=transition)
    with pytest.raises(error, match=message):
        annealed_importance_sampling(vae, PARAMS, jax.random.key(0), X, path=path)


# blackjax


def hamiltonian_of_blackjax(log_density, key, z, step_size):
    blackjax = pytest.importorskip("blackjax")
    kernel = blackjax.hmc(log_density, step_size, jnp.ones(2), num_integration_steps=5)
    state, info = kernel.step(key, kernel.init(z))
    return state.position, info.acceptance_rate


@pytest.mark.slow
def test_a_kernel_of_blackjax_gives_log_p_as_ours_does():
    def log_weights(transition):
        path = path_of(16)._replace(num_leapfrog=5, transition=transition)
        return over(
            lambda key: (
                annealed_importance_sampling(
                    vae, PARAMS, key, X, path=path, num_chains=1
                ).log_marginal
            ),
            keys(3, 4_000),
        )

    for transition in (None, hamiltonian_of_blackjax):
        weights = np.exp(log_weights(transition) - TRUTH)
        error = weights.std() / np.sqrt(4_000)
        assert abs(weights.mean() - 1) < 4 * error < 0.1


@pytest.mark.slow
def test_evidence_is_that_of_the_tempered_sequential_monte_carlo_of_blackjax():
    blackjax = pytest.importorskip("blackjax")
    path = path_of(16)._replace(num_leapfrog=5)
    inverse_temperatures = path.temperature_schedule(16)
    prior = vae.prior(PARAMS)
    smc = blackjax.tempered_smc(
        prior.log_prob,
        lambda z: vae.decode(PARAMS, z).log_prob(X),
        blackjax.hmc.build_kernel(),
        blackjax.hmc.init,
        {
            "step_size": jnp.full(1, 0.5),
            "inverse_mass_matrix": jnp.ones((1, 2)),
            "num_integration_steps": jnp.full(1, 5),
        },
        blackjax.smc.resampling.systematic,
        num_mcmc_steps=1,
    )

    def evidence(key):
        initial_key, run_key = jax.random.split(key)
        particles = jax.vmap(prior.sample)(jax.random.split(initial_key, 32))

        def step(state, temperature):
            key, inverse_temperature = temperature
            state, info = smc.step(key, state, tempering_param=inverse_temperature)
            return state, info.log_likelihood_increment

        start = smc.init(particles)._replace(tempering_param=jnp.float32(0))
        temperatures = jax.random.split(run_key, 16), inverse_temperatures[1:]
        return jnp.sum(jax.lax.scan(step, start, temperatures)[1])

    def annealed(key):
        return annealed_importance_sampling(
            vae, PARAMS, key, X, path=path, num_chains=32
        ).log_marginal

    # Of the keys that blackjax splits, one is counted twice.
    with jax.debug_key_reuse(False):
        found = [over(evidence, keys(4, 500)), over(annealed, keys(5, 500))]
    for log_evidence in found:
        # Unbiased for p(x), not for log p(x): within four standard errors of 3 %.
        relative = np.exp(log_evidence - TRUTH)
        error = relative.std() / np.sqrt(500)
        assert abs(relative.mean() - 1) < 4 * error < 0.05
