"""Importance-weighted objectives and their gradients against quadrature, on a
linear-Gaussian model of one latent.
"""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.linear_gaussian import (
    exact_log_marginal,
    make_params,
    recording,
    vae,
    with_best_encoder,
)

from vaejax import kl_monte_carlo, negative_elbo, negative_iwae
from vaejax.objectives import (
    kl_sticking_the_landing,
    log_weights,
    negative_dreg,
    negative_miwae,
    negative_piwae,
    negative_renyi,
)

X = np.array([1.0, -1.5, 2.3], np.float32)
# One latent, and an encoder off the posterior in mean and width: with two samples,
# expectations are planes of nodes.
PARAMS = with_best_encoder(make_params(x_size=3, latent_size=1), widen=0.6)
PARAMS = PARAMS._replace(gain=np.float32(0.6) * PARAMS.gain)
ENCODER = ("gain", "log_variance")
NUM_DRAWS = 100_000


def log_weights_at(encoder, decoder, noise):
    """log w and log q at z = mean + stddev * noise, with the parameters of the two
    halves apart.
    """
    x = X.astype(np.float64)
    posterior = vae.encode(encoder, x)
    z = posterior.mean + jnp.exp(posterior.log_variance / 2) * noise
    log_posterior = posterior.log_prob(z)
    return vae.decode(decoder, z).log_prob(x) + vae.prior(decoder).log_prob(
        z
    ) - log_posterior, log_posterior


def expectation(of_pair):
    """E f([log w_1, log w_2]) over two independent draws by Gauss-Hermite quadrature:
    `(encoder, decoder) -> value`.
    """
    nodes, masses = np.polynomial.hermite_e.hermegauss(40)
    masses = masses / masses.sum()

    def value(encoder, decoder):
        weights, _ = jax.vmap(
            lambda noise: log_weights_at(encoder, decoder, noise[None])
        )(nodes)
        pairs = jnp.stack(jnp.meshgrid(weights, weights, indexing="ij"), axis=-1)
        return jnp.sum(
            jax.vmap(jax.vmap(of_pair))(pairs) * np.multiply.outer(masses, masses)
        )

    return value


def log_mean(pair):
    return jax.nn.logsumexp(pair) - math.log(2)


ELBO, IWAE = expectation(jnp.mean), expectation(log_mean)


def negative_wake(encoder, decoder):
    """-E sum_i v_i log q(z_i) with v and z fixed: what reweighted wake-sleep's encoder
    descends.
    """
    nodes, masses = np.polynomial.hermite_e.hermegauss(40)
    masses = masses / masses.sum()
    stop, posterior = jax.lax.stop_gradient, vae.encode(encoder, X.astype(np.float64))
    weights = jax.vmap(lambda noise: log_weights_at(encoder, decoder, noise[None])[0])(
        nodes
    )
    zs = jax.vmap(
        lambda noise: stop(posterior.mean + jnp.exp(posterior.log_variance / 2) * noise)
    )(nodes)
    log_posteriors = jax.vmap(posterior.log_prob)(zs)
    shares = stop(jax.nn.sigmoid(weights[:, None] - weights[None, :]))
    return -2 * jnp.sum(
        shares * log_posteriors[:, None] * np.multiply.outer(masses, masses)
    )


def double(params):
    return jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)


@pytest.fixture(name="draws")
def _draws():
    def draws(objective):
        """Loss and gradient at 1e5 keys, in single precision."""
        one = jax.value_and_grad(lambda params, key: objective(vae, params, key, X)[0])
        keys = jax.random.split(jax.random.key(1), NUM_DRAWS)
        return jax.tree.map(
            np.asarray, jax.jit(jax.vmap(one, in_axes=(None, 0)))(PARAMS, keys)
        )

    return draws


def exact_gradients(encoder_loss, decoder_loss):
    """In double precision: of the one through the encoder, and of the other through
    decoder and prior.

    The offset is in both.
    """
    with jax.enable_x64(True):
        params = double(PARAMS)
        of_encoder = jax.jit(jax.grad(encoder_loss, argnums=0))(params, params)
        of_decoder = jax.jit(jax.grad(decoder_loss, argnums=1))(params, params)
        return jax.tree.map(
            lambda *parts: np.asarray(sum(parts)), of_encoder, of_decoder
        )


def negated(function):
    return lambda encoder, decoder: -function(encoder, decoder)


def renyi(alpha):
    return expectation(lambda pair: log_mean((1 - alpha) * pair) / (1 - alpha))


def mixed(*terms):
    return lambda encoder, decoder: sum(
        weight * term(encoder, decoder) for weight, term in terms
    )


# The objective, the exact loss whose gradient the encoder follows, and that of the
# decoder.
CASES = {
    "elbo": (
        partial(negative_elbo, kl_fn=kl_monte_carlo, num_samples=2),
        negated(ELBO),
        negated(ELBO),
    ),
    "elbo, sticking": (
        partial(negative_elbo, kl_fn=kl_sticking_the_landing),
        negated(ELBO),
        negated(ELBO),
    ),
    "iwae": (partial(negative_iwae, num_samples=2), negated(IWAE), negated(IWAE)),
    "dreg": (partial(negative_dreg, num_samples=2), negated(IWAE), negated(IWAE)),
    "rws-dreg": (
        partial(negative_dreg, num_samples=2, alpha=1.0),
        negative_wake,
        negated(IWAE),
    ),
    "dreg, alpha 0.3": (
        partial(negative_dreg, num_samples=2, alpha=0.3),
        mixed((-0.7, IWAE), (0.3, negative_wake)),
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


@pytest.mark.parametrize("name", CASES)
def test_gradient_is_unbiased_within_five_standard_errors(name, draws):
    objective, encoder_loss, decoder_loss = CASES[name]
    losses, gradients = draws(objective)
    for part, exact in exact_gradients(encoder_loss, decoder_loss)._asdict().items():
        values = np.asarray(getattr(gradients, part), np.float64)
        error = values.std(axis=0, ddof=1) / math.sqrt(NUM_DRAWS)
        # 1e-5: rounding, where the gradient is nearly the same in every draw.
        assert np.all(np.abs(values.mean(axis=0) - exact) < 5 * error + 1e-5), part
    # The decoder's loss is the value, whatever the encoder follows.
    with jax.enable_x64(True):
        value = np.asarray(jax.jit(decoder_loss)(double(PARAMS), double(PARAMS)))
    losses = losses.astype(np.float64)
    assert abs(losses.mean() - value) < 5 * losses.std() / math.sqrt(NUM_DRAWS)


def test_the_cases_can_tell_their_losses_apart():
    gradients = [
        exact_gradients(loss, loss)
        for loss in (negated(ELBO), negated(IWAE), negative_wake)
    ]
    for first, second in [(0, 1), (1, 2), (0, 2)]:
        # A standard error of 1e5 draws is 0.0013 at most.
        assert np.max(np.abs(gradients[first].gain - gradients[second].gain)) > 0.01


def test_sticking_the_landing_is_biased_in_a_bound_of_two_samples(draws):
    _, gradients = draws(
        partial(negative_iwae, num_samples=2, kl_fn=kl_sticking_the_landing)
    )
    values, exact = (
        np.asarray(gradients.gain, np.float64),
        exact_gradients(negated(IWAE), negated(IWAE)).gain,
    )
    assert np.max(np.abs(values.mean(axis=0) - exact)) > 5 * np.max(
        values.std(axis=0)
    ) / math.sqrt(NUM_DRAWS)


# At the exact posterior the encoder is left alone, draw by draw.
VANISHING = {
    "elbo, sticking": partial(negative_elbo, kl_fn=kl_sticking_the_landing),
    "iwae, sticking": partial(
        negative_iwae, num_samples=4, kl_fn=kl_sticking_the_landing
    ),
    "miwae, sticking": partial(
        negative_miwae, num_groups=2, num_samples=2, kl_fn=kl_sticking_the_landing
    ),
    "dreg": partial(negative_dreg, num_samples=4),
    "rws-dreg": partial(negative_dreg, num_samples=4, alpha=1.0),
}
NOISY = {
    "elbo": partial(negative_elbo, kl_fn=kl_monte_carlo),
    "iwae": partial(negative_iwae, num_samples=4),
}


def encoder_gradients(objective, params, x):
    one = jax.grad(lambda params, key: objective(vae, params, key, x)[0])
    gradients = jax.jit(jax.vmap(one, in_axes=(None, 0)))(
        params, jax.random.split(jax.random.key(2), 100)
    )
    return np.concatenate(
        [np.asarray(getattr(gradients, name)).reshape(100, -1) for name in ENCODER],
        axis=1,
    )


@pytest.mark.parametrize("name", VANISHING | NOISY)
def test_gradients_at_the_exact_posterior(name, x64):
    # Orthogonal loadings, so that a diagonal posterior is exact.
    params = with_best_encoder(make_params(orthogonal=True))
    gradients = encoder_gradients((VANISHING | NOISY)[name], params, np.arange(5.0))
    if name in VANISHING:
        np.testing.assert_allclose(gradients, 0, atol=1e-10)
    else:
        assert np.all(gradients.std(axis=0) > 0.1)


# values


@pytest.mark.parametrize(
    "objective",
    [
        partial(negative_miwae, num_groups=1, num_samples=6),
        partial(negative_renyi, num_samples=6, alpha=0.0),
        partial(negative_dreg, num_samples=6),
        partial(negative_dreg, num_samples=6, alpha=1.0),
        partial(negative_piwae, num_groups=2, num_samples=3),
        partial(negative_iwae, num_samples=6, kl_fn=kl_sticking_the_landing),
    ],
)
def test_the_value_is_the_iwae_of_the_same_samples(objective):
    with jax.debug_key_reuse(False):
        key = jax.random.key(4)
        expected, terms = jax.jit(partial(negative_iwae, vae, num_samples=6))(
            PARAMS, key, X
        )
        value, same = jax.jit(partial(objective, vae))(PARAMS, key, X)
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    np.testing.assert_allclose(same.elbo, terms.elbo, rtol=1e-6)


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
        )(PARAMS, key, X)
        value, terms = jax.jit(partial(objective, vae))(PARAMS, key, X)
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
                [-objective(vae, PARAMS, key, X)[0] for objective in objectives]
            )

        values = np.asarray(
            jax.jit(jax.vmap(bounds))(jax.random.split(jax.random.key(5), 20_000)),
            np.float64,
        )
    gaps = np.diff(
        values, axis=1, append=np.full((len(values), 1), exact_log_marginal(PARAMS, X))
    )
    assert np.all(gaps.mean(axis=0) > 5 * gaps.std(axis=0) / math.sqrt(len(gaps)))


def test_renyi_has_a_finite_gradient_on_both_sides_of_the_elbo():
    def bound(alpha):
        return negative_renyi(
            vae, PARAMS, jax.random.key(1), X, num_samples=5, alpha=alpha
        )[0]

    distances = np.float32([1e-2, 1e-4, 1e-6, 0, -1e-6, -1e-4, -1e-2])
    values, slopes = jax.jit(jax.vmap(jax.value_and_grad(bound)))(1 - distances)
    assert np.all(np.isfinite(slopes))
    weights = np.asarray(
        log_weights(vae, PARAMS, jax.random.key(1), X, num_samples=5), np.float64
    )
    # In single precision alpha itself is known to 6e-8: take the distance that it has.
    orders = 1 - np.float64(np.float32(1) - distances)
    exact = [
        np.log(np.mean(np.exp(o * (weights - weights.mean())))) / o if o else 0
        for o in orders
    ]
    np.testing.assert_allclose(-values - weights.mean(), exact, atol=2e-5)


OBJECTIVES = {
    "miwae": lambda n: partial(negative_miwae, num_groups=2, num_samples=n),
    "miwae groups": lambda n: partial(negative_miwae, num_groups=n, num_samples=2),
    "piwae": lambda n: partial(negative_piwae, num_groups=2, num_samples=n),
    "renyi": lambda n: partial(negative_renyi, num_samples=n, alpha=0.5),
    "dreg": lambda n: partial(negative_dreg, num_samples=n),
    "log_weights": lambda n: partial(log_weights, num_samples=n),
}


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize("count", [0, -1, 1.5, True])
def test_counts_are_positive_integers(name, count):
    with pytest.raises(ValueError, match=f"is {count}; give a positive integer"):
        OBJECTIVES[name](count)(vae, PARAMS, jax.random.key(1), X)


@pytest.mark.parametrize(
    ("name", "expected"), [("miwae", 6), ("renyi", 3), ("dreg", 3), ("log_weights", 3)]
)
def test_each_sample_is_decoded_once(name, expected):
    """But for PIWAE, which decodes each for the decoder and for the encoder."""
    recorded, decoded = recording(vae)
    jax.block_until_ready(
        jax.jit(partial(OBJECTIVES[name](3), recorded))(PARAMS, jax.random.key(1), X)
    )
    jax.effects_barrier()
    assert len(decoded) == len(set(decoded)) == expected
