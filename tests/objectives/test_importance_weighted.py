"""Importance weights and their bounds: exactness on linear-Gaussian models, and
gradients against quadrature.
"""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support import quadrature
from support.linear_gaussian import (
    exact_log_marginal,
    make_params,
    recording,
    vae,
    with_best_encoder,
)
from support.monte_carlo import over_keys, standard_error
from support.quadrature import (
    ELBO,
    IWAE,
    assert_gradient_is_unbiased,
    assert_value_is_the_iwae,
    encoder_gradients,
    exact_gradients,
    mixed,
    negated,
    negative_wake,
    renyi,
)

from vaejax import (
    kl_closed_form,
    kl_monte_carlo,
    kl_per_dimension,
    negative_elbo,
    negative_iwae,
)
from vaejax.objectives import (
    log_weights,
    negative_miwae,
    negative_piwae,
    negative_renyi,
)

X = np.array([1.0, -0.5, 0.3, 2.0, -1.0], np.float32)
PARAMS = make_params()


def test_elbo_below_iwae_below_log_marginal():
    def bounds(key):
        elbo_key, iwae_key = jax.random.split(key)
        elbo, _ = negative_elbo(vae, PARAMS, elbo_key, X)
        iwae, terms = negative_iwae(vae, PARAMS, iwae_key, X, num_samples=10)
        return jnp.stack([-elbo, -iwae])

    values = over_keys(bounds, 5_000)
    gaps = np.diff(
        values, axis=1, append=np.full((len(values), 1), exact_log_marginal(PARAMS, X))
    )
    assert np.all(gaps.mean(axis=0) > 5 * standard_error(gaps))


def test_iwae_of_one_sample_is_the_single_sample_elbo():
    iwae, terms = jax.jit(partial(negative_iwae, vae, num_samples=1))(
        PARAMS, jax.random.key(1), X
    )
    elbo, _ = jax.jit(partial(negative_elbo, vae, kl_fn=kl_monte_carlo))(
        PARAMS, jax.random.key(1), X
    )
    np.testing.assert_allclose(iwae, elbo, rtol=1e-6)
    np.testing.assert_allclose(
        [terms.elbo, terms.effective_sample_size], [-elbo, 1], rtol=1e-6
    )


# gradients


# The objective, the exact loss whose gradient the encoder follows, and that of the
# decoder.
CASES = {
    "iwae": (
        partial(negative_iwae, num_samples=2),
        negated(IWAE),
        negated(IWAE),
    ),
    "miwae": (
        partial(negative_miwae, num_groups=3, num_samples=2),
        negated(IWAE),
        negated(IWAE),
    ),
    "ciwae": (
        partial(negative_miwae, num_groups=1, num_samples=2, mixing=0.25),
        mixed((-0.75, IWAE), (-0.25, ELBO)),
        mixed((-0.75, IWAE), (-0.25, ELBO)),
    ),
    "piwae": (
        partial(negative_piwae, num_groups=2, num_samples=1),
        negated(ELBO),
        negated(IWAE),
    ),
    "renyi 0.5": (
        partial(negative_renyi, num_samples=2, alpha=0.5),
        negated(renyi(0.5)),
        negated(renyi(0.5)),
    ),
    "renyi -1": (
        partial(negative_renyi, num_samples=2, alpha=-1.0),
        negated(renyi(-1.0)),
        negated(renyi(-1.0)),
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_gradient_is_unbiased_within_five_standard_errors(name):
    assert_gradient_is_unbiased(*CASES[name])


def test_the_cases_can_tell_their_losses_apart():
    gradients = [
        exact_gradients(loss, loss)
        for loss in (
            negated(ELBO),
            negated(IWAE),
            negative_wake,
        )
    ]
    for first, second in [(0, 1), (1, 2), (0, 2)]:
        # A standard error of 1e5 draws is 0.0013 at most.
        assert np.max(np.abs(gradients[first].gain - gradients[second].gain)) > 0.01


def test_the_plain_gradient_is_noisy_at_the_exact_posterior(x64):
    params = with_best_encoder(make_params(orthogonal=True))
    objective = partial(negative_iwae, num_samples=4)
    gradients = encoder_gradients(objective, params, np.arange(5.0))
    assert np.all(gradients.std(axis=0) > 0.1)


# values


@pytest.mark.sampled
@pytest.mark.parametrize(
    "objective",
    [
        partial(negative_miwae, num_groups=1, num_samples=6),
        partial(negative_renyi, num_samples=6, alpha=0.0),
        partial(negative_piwae, num_groups=2, num_samples=3),
    ],
)
def test_the_value_is_the_iwae_of_the_same_samples(objective):
    assert_value_is_the_iwae(objective)


@pytest.mark.sampled
@pytest.mark.parametrize(
    "objective",
    [
        partial(negative_miwae, num_groups=6, num_samples=1),
        partial(negative_miwae, num_groups=2, num_samples=3, mixing=1.0),
        partial(negative_renyi, num_samples=6, alpha=1.0),
    ],
)
def test_the_value_is_the_elbo_of_the_same_samples(objective):
    with jax.debug_key_reuse(False):
        key = jax.random.key(4)
        expected, _ = jax.jit(
            partial(negative_elbo, vae, num_samples=6, kl_fn=kl_monte_carlo)
        )(quadrature.PARAMS, key, quadrature.X)
        value, terms = jax.jit(partial(objective, vae))(
            quadrature.PARAMS, key, quadrature.X
        )
    np.testing.assert_allclose([value, -terms.elbo], expected, rtol=1e-6)


def test_the_bounds_are_in_order():
    """ELBO <= Renyi 0.5 <= IWAE_2 <= IWAE_10 <= log p(x), each gap by more than five
    standard errors of it.
    """
    objectives = [
        partial(negative_elbo, num_samples=2, kl_fn=kl_monte_carlo),
        partial(negative_renyi, num_samples=2, alpha=0.5),
        partial(negative_iwae, num_samples=2),
        partial(negative_iwae, num_samples=10),
    ]
    with jax.debug_key_reuse(False):

        def bounds(key):
            return jnp.stack(
                [
                    -objective(vae, quadrature.PARAMS, key, quadrature.X)[0]
                    for objective in objectives
                ]
            )

        values = np.asarray(
            jax.jit(jax.vmap(bounds))(jax.random.split(jax.random.key(5), 20_000)),
            np.float64,
        )
    gaps = np.diff(
        values,
        axis=1,
        append=np.full(
            (len(values), 1), exact_log_marginal(quadrature.PARAMS, quadrature.X)
        ),
    )
    assert np.all(gaps.mean(axis=0) > 5 * gaps.std(axis=0) / math.sqrt(len(gaps)))


def test_renyi_has_a_finite_gradient_on_both_sides_of_the_elbo():
    def bound(alpha):
        return negative_renyi(
            vae,
            quadrature.PARAMS,
            jax.random.key(1),
            quadrature.X,
            num_samples=5,
            alpha=alpha,
        )[0]

    distances = np.float32([1e-2, 1e-4, 1e-6, 0, -1e-6, -1e-4, -1e-2])
    values, slopes = jax.jit(jax.vmap(jax.value_and_grad(bound)))(1 - distances)
    assert np.all(np.isfinite(slopes))
    weights = np.asarray(
        log_weights(
            vae, quadrature.PARAMS, jax.random.key(1), quadrature.X, num_samples=5
        ),
        np.float64,
    )
    # In single precision alpha itself is known to 6e-8: take the distance that it has.
    orders = 1 - np.float64(np.float32(1) - distances)
    exact = [
        np.log(np.mean(np.exp(o * (weights - weights.mean())))) / o if o else 0
        for o in orders
    ]
    np.testing.assert_allclose(-values - weights.mean(), exact, atol=2e-5)


# counts


@pytest.mark.parametrize("num_samples", [1, 7])
def test_num_samples_are_decoded_and_no_more(num_samples):
    recorded, decoded = recording(vae)
    program = jax.jit(partial(negative_iwae, recorded, num_samples=num_samples))
    jax.block_until_ready(program(PARAMS, jax.random.key(1), X))
    jax.effects_barrier()
    assert len(decoded) == len(set(decoded)) == num_samples


@pytest.mark.parametrize("num_samples", [0, -1, 2.0, None])
def test_num_samples_must_be_a_positive_integer(num_samples):
    with pytest.raises(ValueError, match=f"num_samples is {num_samples}"):
        negative_iwae(vae, PARAMS, jax.random.key(1), X, num_samples=num_samples)


OBJECTIVES = {
    "miwae": lambda n: partial(negative_miwae, num_groups=2, num_samples=n),
    "miwae groups": lambda n: partial(negative_miwae, num_groups=n, num_samples=2),
    "piwae": lambda n: partial(negative_piwae, num_groups=2, num_samples=n),
    "renyi": lambda n: partial(negative_renyi, num_samples=n, alpha=0.5),
}


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize("count", [0, -1, 1.5, True])
def test_counts_are_positive_integers(name, count):
    with pytest.raises(ValueError, match=f"is {count}; give a positive integer"):
        OBJECTIVES[name](count)(vae, PARAMS, jax.random.key(1), X)


@pytest.mark.parametrize(("name", "expected"), [("miwae", 6), ("renyi", 3)])
def test_each_sample_is_decoded_once(name, expected):
    """But for PIWAE, which decodes each for the decoder and for the encoder."""
    recorded, decoded = recording(vae)
    jax.block_until_ready(
        jax.jit(partial(OBJECTIVES[name](3), recorded))(PARAMS, jax.random.key(1), X)
    )
    jax.effects_barrier()
    assert len(decoded) == len(set(decoded)) == expected


@pytest.mark.parametrize(
    "objective",
    [
        partial(negative_iwae, num_samples=2),
        partial(negative_miwae, num_groups=2, num_samples=2),
        partial(negative_piwae, num_groups=2, num_samples=2),
        partial(negative_renyi, num_samples=2, alpha=0.5),
        partial(log_weights, num_samples=2),
    ],
)
@pytest.mark.parametrize(
    "kl_fn",
    [
        kl_closed_form,
        kl_per_dimension,
        partial(kl_closed_form),
    ],
)
def test_a_closed_form_of_the_kl_makes_no_importance_weights(objective, kl_fn):
    def run(key):
        return objective(vae, PARAMS, key, X, kl_fn=kl_fn)

    with pytest.raises(ValueError, match=r"kl_fn is kl_\w+, .*give kl_monte_carlo"):
        jax.eval_shape(run, jax.random.key(0))
