"""VAEs of several levels: exact values of linear models, and the operations that a step
takes beside those of the same networks without the library.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support import exact_hierarchies as exact
from support.case_setup import assert_close, example, row, setup

import vaejax
from experiments.benchmarks.other_libraries.plain_hierarchies import (
    climbing_loss,
    ladder_loss,
)
from vaejax import objectives
from vaejax.base import Latents, complete_by_prior
from vaejax.distributions import kl_divergence
from vaejax.models import (
    Conditioned,
    conditional_vae,
    hierarchical_vae,
    ladder_vae,
    two_layer_vae,
)
from vaejax.objectives import kl_per_level

MLP = vaejax.MLP


@pytest.fixture
def optimized():
    """Programs as a user's are compiled, for counts of operations."""
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", True)


NAMES = list(exact.MODELS)


@pytest.mark.sampled
@pytest.mark.parametrize("name", NAMES)
def test_at_the_exact_posterior_every_weight_is_the_marginal_likelihood(name):
    """One sample gives log p(x), and so does the sum of its terms."""
    vae, params = exact.MODELS[name], exact.exact_params(name)
    x = jnp.asarray(exact.X)

    @jax.jit
    def both(key):
        weights = objectives.log_weights(vae, params, key, x, num_samples=4)
        posterior, prior = vae.encode(params, x), vae.prior(params)
        z, _ = posterior.sample_and_log_prob(jax.random.clone(key))
        rebuilt = prior.complete(z.values)
        again = (
            vae.decode(params, rebuilt).log_prob(x)
            + prior.log_prob(rebuilt)
            - posterior.log_prob(rebuilt)
        )
        return weights, again

    weights, again = both(jax.random.key(1))
    np.testing.assert_allclose(weights, exact.exact_log_marginal(), atol=2e-4)
    np.testing.assert_allclose(again, exact.exact_log_marginal(), atol=2e-4)


@pytest.mark.sampled
@pytest.mark.parametrize("name", NAMES)
def test_bounds_with_a_poor_posterior_are_below_and_the_levels_sum_to_the_kl(name):
    vae, params = exact.MODELS[name], exact.poor_encoder(exact.exact_params(name))
    x = jnp.asarray(exact.X)

    @jax.jit
    @jax.vmap
    def estimates(key):
        posterior, prior = vae.encode(params, x), vae.prior(params)
        z, log_posterior = posterior.sample_and_log_prob(key)
        sampled = vaejax.kl_monte_carlo(posterior, prior, z, log_posterior)[0]
        terms = kl_per_level(posterior, prior, z, log_posterior)
        log_weight = vae.decode(params, z).log_prob(x) - sampled
        return log_weight, terms, sampled

    log_weights, terms, sampled = map(
        np.float64, estimates(jax.random.split(jax.random.key(2), 20_000))
    )
    assert terms.shape[1] == 2
    differences = terms.sum(axis=1) - sampled
    assert abs(differences.mean()) < 5 * differences.std() / np.sqrt(len(differences))
    exact_value = exact.exact_log_marginal()
    assert log_weights.mean() < exact_value - 0.05
    weights = np.exp(log_weights - exact_value)
    assert abs(weights.mean() - 1) < 5 * weights.std() / np.sqrt(len(weights))


def test_levels_of_a_descending_posterior_are_closed_forms_at_the_draw_above():
    """No estimate: the terms do not depend on the draw of the level itself."""
    vae, params = exact.MODELS["ladder"], exact.exact_params("ladder")
    params = exact.poor_encoder(params)
    posterior, prior = vae.encode(params, jnp.asarray(exact.X)), vae.prior(params)
    z, log_posterior = posterior.sample_and_log_prob(jax.random.key(3))
    bottom_up, (below, above) = posterior.conditionals[0].args[0], z.values
    conditional = prior.conditionals[0](above)
    precisions = [np.exp(-np.float64(d.log_variance)) for d in (bottom_up, conditional)]
    mean = sum(
        precision * np.float64(d.mean)
        for precision, d in zip(precisions, (bottom_up, conditional), strict=True)
    ) / sum(precisions)
    merged = vaejax.Normal(jnp.float32(mean), jnp.float32(-np.log(sum(precisions))))
    expected = [
        kl_divergence(merged, conditional),
        kl_divergence(posterior.top, vaejax.Normal(jnp.zeros(2), jnp.zeros(2))),
    ]
    moved = z._replace(values=(below + 1, above))
    for each in (z, moved):
        assert_close(kl_per_level(posterior, prior, each, log_posterior), expected)


@pytest.mark.slow
@pytest.mark.parametrize("with_condition", [False, True])
def test_sticking_the_landing_leaves_the_score_of_shared_parameters_out(with_condition):
    """At the exact posterior, what is left is the gradient of -log p(x, z) at fixed
    z, although the ladder's posterior holds parameters of the prior.
    """
    vae, params = exact.MODELS["ladder"], exact.exact_params("ladder")
    x, key = jnp.asarray(exact.X), jax.random.key(4)
    if with_condition:
        condition, ladder = jnp.zeros(1), vae
        vae = conditional_vae(lambda condition: ladder, condition=condition)
        x = Conditioned(x, condition)

    def loss(params):
        return vaejax.negative_elbo(
            vae, params, key, x, kl_fn=objectives.kl_sticking_the_landing
        )[0]

    z, _ = vae.encode(params, x).sample_and_log_prob(
        jax.random.split(jax.random.clone(key), 1)[0]
    )

    def negative_log_joint(params):
        prior = vae.prior(params)
        fixed = complete_by_prior(prior, z, z.values)
        return -vae.decode(params, fixed).log_prob(x) - prior.log_prob(fixed)

    with jax.debug_key_reuse(False):
        gradient = jax.jit(jax.grad(loss))(params)
    assert_close(gradient, jax.grad(negative_log_joint)(params), rtol=1e-4, atol=2e-4)


SIZES = 16, 12, 8


def with_widths(build, widths, x_size):
    return build(
        latent_sizes=SIZES,
        encoders=[MLP((width,)) for width in widths],
        decoders=[
            MLP((widths[0],), (x_size,)),
            *(MLP((width,)) for width in widths[1:]),
        ],
    )


def gradient_of(vae, kl_fn):
    objective = partial(vaejax.negative_elbo, vae, kl_fn=kl_fn)

    def loss(params, key, xs):
        return vaejax.mean_over_batch(objective)(params, key, xs)[0]

    return jax.value_and_grad(loss)


def noise_of(num):
    """The noise that the library draws, level by level, as a function of the key."""

    def one(key):
        keys = jax.random.split(jax.random.split(key, 1)[0], len(SIZES))
        return [
            jax.random.normal(key, (size,))
            for key, size in zip(keys, SIZES, strict=True)
        ]

    return lambda key: jax.vmap(one)(jax.random.split(key, num))


def operations(function, *arguments) -> float:
    return jax.jit(function).lower(*arguments).compile().cost_analysis()["flops"]


BY_HAND = [
    pytest.param(ladder_vae, ladder_loss, kl_per_level, id="ladder"),
    pytest.param(
        hierarchical_vae, climbing_loss, vaejax.kl_monte_carlo, id="bottom_up"
    ),
]


@pytest.mark.slow
@pytest.mark.parametrize(("build", "by_hand", "kl_fn"), BY_HAND)
def test_loss_and_gradient_are_those_of_the_model_by_hand(build, by_hand, kl_fn):
    vae, num = with_widths(build, (10, 9, 8), 20), 3
    xs = jax.random.bernoulli(jax.random.key(0), 0.4, (num, 20)).astype(jnp.float32)
    params = jax.jit(vae.init)(jax.random.key(1), xs[0])
    # Variances near 1, whose terms do not cancel.
    params = jax.tree.map(lambda leaf: leaf / 2, params)

    @jax.jit
    def both(params, key, xs):
        noise = noise_of(num)(key)
        return (
            gradient_of(vae, kl_fn)(params, jax.random.clone(key), xs),
            jax.value_and_grad(by_hand)(params, noise, xs),
        )

    (value, gradient), (expected, by_hand_gradient) = both(
        params, jax.random.key(3), xs
    )
    assert_close(value, expected, rtol=1e-4)
    assert_close(gradient, by_hand_gradient, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
@pytest.mark.usefixtures("optimized")
@pytest.mark.parametrize(("build", "by_hand", "kl_fn"), BY_HAND)
def test_a_gradient_takes_no_more_operations_than_by_hand(build, by_hand, kl_fn):
    """The states of the path are computed once. The operations of the noise, which the
    library draws, are left out.
    """
    vae, num = with_widths(build, (128, 96, 64), 256), 32
    xs = jnp.zeros((num, 256))
    params = jax.eval_shape(vae.init, jax.random.key(0), xs[0])
    key = jax.random.key(1)
    noise = jax.eval_shape(noise_of(num), key)
    count = operations(gradient_of(vae, kl_fn), params, key, xs)
    drawn = operations(noise_of(num), key)
    least = operations(jax.value_and_grad(by_hand), params, noise, xs)
    assert least <= count - drawn + 0.01 * least
    assert count - drawn <= 1.02 * least


@pytest.mark.slow
@pytest.mark.usefixtures("optimized")
@pytest.mark.parametrize("top_down", [False, True])
def test_importance_weighting_encodes_once(top_down):
    """The encoder takes most of the operations of one sample, and 16 of them hardly
    more.
    """
    wide, narrow = MLP((256, 256)), MLP((4,))
    merged = vaejax.networks.merged_network
    vae = two_layer_vae(
        latent_sizes=(3, 2),
        encoders=(merged((wide, narrow)), wide) if top_down else (wide, narrow),
        decoders=(
            vaejax.networks.compose_networks(merged((narrow, narrow)), MLP((), (64,)))
            if top_down
            else MLP((4,), (64,)),
            narrow,
        ),
        top_down=top_down,
    )
    x = jnp.ones(64)
    params = jax.eval_shape(vae.init, jax.random.key(0), x)

    def count(num_samples):
        def loss(params, key):
            return vaejax.negative_iwae(vae, params, key, x, num_samples=num_samples)[0]

        return operations(jax.grad(loss), params, jax.random.key(0))

    assert count(16) < 1.5 * count(1)


def test_what_lies_below_given_levels_is_at_its_mean():
    vae, params = exact.MODELS["ladder"], exact.exact_params("ladder")
    prior, top = vae.prior(params), jnp.array([0.5, -1.0])
    z = prior.descend((top,))
    expected = exact.SCALE * exact.ROTATION @ np.asarray(top)
    assert_close(z.values, (jnp.float32(expected), top))
    assert_close(z, prior.complete(z.values))
    both = (jnp.ones(2), top)
    assert_close(prior.descend(both), prior.complete(both))


@pytest.mark.slow
def test_free_bits_and_a_warm_up_act_on_each_level():
    case = row("ladder")
    params, batch = setup(case)
    terms_fn = partial(vaejax.elbo_terms, case.vae, kl_fn=kl_per_level)
    minimum = 0.3
    loss_fn = vaejax.loss_of_means(
        terms_fn, partial(objectives.free_bits_loss, minimum=minimum)
    )
    loss, means = jax.jit(loss_fn)(params, jax.random.key(0), batch, beta=0.25)
    assert means.kl_terms.shape == (3,)
    assert np.any(means.kl_terms < minimum) and np.any(means.kl_terms > minimum)
    expected = 0.25 * np.maximum(means.kl_terms, minimum).sum() - means.log_likelihood
    assert_close(loss, expected)


@pytest.mark.slow
def test_annealing_starts_at_a_posterior_of_levels():
    """With the exact posterior no weight moves: the estimate is log p(x)."""
    vae, params = exact.MODELS["ladder"], exact.exact_params("ladder")
    path = vaejax.estimators.AnnealingPath(
        num_temperatures=3,
        num_leapfrog=1,
        initial=vaejax.estimators.start_at_posterior,
        step_sizes=jnp.full(3, 0.1),
    )
    estimate = vaejax.estimators.annealed_importance_sampling(
        vae, params, jax.random.key(5), jnp.asarray(exact.X), path=path, num_chains=4
    )
    np.testing.assert_allclose(
        estimate.log_marginal, exact.exact_log_marginal(), atol=1e-3
    )


@pytest.mark.slow
def test_members_of_several_seeds_train_in_one_program_without_leaks():
    case = row("ladder")
    _, batch = setup(case)

    def loss(key):
        init_key, noise_key = jax.random.split(key)
        params = case.vae.init(init_key, example(batch, 0))
        gradient = jax.grad(lambda params: case.loss(params, noise_key, batch[0])[0])
        return jax.tree.map(jnp.sum, gradient(params))

    keys = jax.random.split(jax.random.key(6), 2)
    with jax.checking_leaks():
        sums = jax.jit(jax.vmap(loss))(keys)
    assert all(leaf.shape == (2,) for leaf in jax.tree.leaves(sums))
    assert any(leaf[0] != leaf[1] for leaf in jax.tree.leaves(sums))


@pytest.mark.slow
def test_half_precision_parameters_give_single_precision_terms():
    case = row("ladder")
    params, batch = setup(case)
    half = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), params)
    x = example(batch, 0)
    losses = [jax.jit(case.loss)(each, jax.random.key(7), x) for each in (half, params)]
    (loss, terms), (expected, _) = losses
    assert loss.dtype == terms.kl_terms.dtype == jnp.float32
    assert abs(loss - expected) < 0.1 * abs(expected)


def test_wrong_uses_are_refused_in_one_sentence():
    vae, params = exact.MODELS["ladder"], exact.exact_params("ladder")
    key, x = partial(jax.random.key, 0), jnp.asarray(exact.X)
    with pytest.raises(TypeError, match=r"kl_fn=vaejax\.objectives\.kl_per_level"):
        vaejax.negative_elbo(vae, params, key(), x)
    with pytest.raises(ValueError, match="kl_fn is kl_per_level, a mean over z"):
        vaejax.negative_iwae(vae, params, key(), x, num_samples=2, kl_fn=kl_per_level)
    normal = vaejax.Normal(jnp.zeros(2), jnp.zeros(2))
    with pytest.raises(TypeError, match="Normal has no kl_per_level; take kl_closed"):
        kl_per_level(normal, normal, jnp.zeros(2), jnp.zeros(()))
    posterior, prior = vae.encode(params, x), vae.prior(params)
    with pytest.raises(TypeError, match="z was not drawn from the posterior"):
        kl_per_level(posterior, prior, prior.sample(key()), jnp.zeros(()))
    for call in (partial(vae.decode, params), prior.log_prob, posterior.log_prob):
        with pytest.raises(TypeError, match="the latent z is an array .*complete"):
            call(jnp.zeros(4))
    for call in (prior.log_prob, posterior.log_prob):
        with pytest.raises(TypeError, match="complete"):
            call(Latents((jnp.zeros(2), jnp.zeros(2)), jnp.zeros(1)))
    values = prior.sample(key()).values
    with pytest.raises(ValueError, match="complete: there are 1 values .*give"):
        prior.complete(values[:1])
    for wrong in ((), (*values, values[0])):
        with pytest.raises(ValueError, match="descend: .* from 1 to"):
            prior.descend(wrong)
    three = {"encoders": [MLP(())] * 3, "decoders": [MLP((), (5,))] * 3}
    with pytest.raises(ValueError, match="2 latent_sizes, 3 encoders and 3 decoders"):
        ladder_vae(latent_sizes=(2, 2), **three)
    with pytest.raises(ValueError, match="there are 3 latent_sizes; give two"):
        two_layer_vae(latent_sizes=(2, 2, 2), **three)
    with pytest.raises(TypeError, match="give a tuple with one entry per level"):
        ladder_vae(latent_sizes=2, **three)
    with pytest.raises(ValueError, match="a latent size is 0"):
        ladder_vae(latent_sizes=(2, 0, 2), **three)
    laplace = ladder_vae(
        latent_sizes=(2, 2, 2), prior=vaejax.distributions.Laplace, **three
    )
    with pytest.raises(TypeError, match="a head makes a Laplace"):
        laplace.init(key(), x)
