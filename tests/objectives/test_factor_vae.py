"""FactorVAE: two losses in one, each of its own parameters, and the density ratio that
the discriminator learns.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from support import linear_gaussian
from support.cases import binary, mlp_vae, sentence_vae, standard_promotion, tokens

import vaejax
from vaejax.objectives import factor_vae_loss, permute_dimensions, with_discriminator

DISCRIMINATOR = vaejax.MLP((8,), (1,))
PLAIN = mlp_vae()
VAE = with_discriminator(PLAIN, DISCRIMINATOR)
XS = binary(jax.random.key(1), 9)
PARAMS = jax.jit(VAE.init)(jax.random.key(0), XS[0])


def logits(params, zs):
    return jax.vmap(lambda z: DISCRIMINATOR.apply({"params": params}, z)[0])(zs)


def draw(key, params):
    """The z of every example, and the key of the permutation."""

    def one(key, x):
        return PLAIN.encode(params, x).sample(jax.random.split(key, 1)[0])

    return jax.vmap(one)(jax.random.split(key, len(XS)), XS), jax.random.fold_in(
        key, len(XS)
    )


@pytest.mark.slow
def test_each_part_has_the_gradient_of_its_own_loss_and_no_other():
    def vae_loss(params, key):
        elbo, _ = vaejax.mean_over_batch(partial(vaejax.negative_elbo, PLAIN))(
            params, key, XS
        )
        return elbo

    def total_correlation(params, key):
        return jnp.mean(logits(PARAMS["discriminator"], draw(key, params)[0]))

    def cross_entropy(params, key):
        zs, permutation_key = draw(key, PARAMS["vae"])
        joint, product = (
            logits(params, zs[:4]),
            logits(params, permute_dimensions(permutation_key, zs[4:])),
        )
        accuracy = (jnp.mean(joint > 0) + jnp.mean(product < 0)) / 2
        return -(
            jnp.mean(jnp.log(jax.nn.sigmoid(joint)))
            + jnp.mean(jnp.log(jax.nn.sigmoid(-product)))
        ) / 2, accuracy

    @jax.jit
    def both(key):
        own, of_elbo = jax.value_and_grad(vae_loss)(PARAMS["vae"], key)
        correlation, of_correlation = jax.value_and_grad(total_correlation)(
            PARAMS["vae"], key
        )
        of_cross_entropy = jax.value_and_grad(cross_entropy, has_aux=True)(
            PARAMS["discriminator"], key
        )
        loss_fn = factor_vae_loss(VAE, DISCRIMINATOR)
        joined = jax.value_and_grad(loss_fn, has_aux=True)(PARAMS, key, XS, gamma=7.0)
        return joined, (own, of_elbo), (correlation, of_correlation), of_cross_entropy

    # The same draws in each are the point.
    with jax.debug_key_reuse(False):
        values = both(jax.random.key(3))
    (
        ((loss, terms), gradient),
        (elbo, of_elbo),
        (correlation, of_correlation),
        of_cross_entropy,
    ) = values
    (entropy, accuracy), of_entropy = of_cross_entropy
    np.testing.assert_allclose(loss, elbo + 7 * correlation, rtol=1e-5)
    np.testing.assert_allclose(
        terms[2:], [correlation, entropy, accuracy], rtol=1e-4, atol=1e-6
    )
    expected = {
        "vae": jax.tree.map(lambda a, b: a + 7 * b, of_elbo, of_correlation),
        "discriminator": of_entropy,
    }
    jax.tree.map(
        partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-5), gradient, expected
    )


def test_dimensions_are_permuted_each_on_its_own():
    zs = jnp.arange(60.0).reshape(20, 3)
    permuted = permute_dimensions(jax.random.key(0), zs)
    np.testing.assert_array_equal(np.sort(permuted, axis=0), zs)
    orders = (np.asarray(permuted) // 3).T
    assert all(
        not np.array_equal(a, b)
        for a, b in [(orders[0], orders[1]), (orders[1], orders[2])]
    )
    assert not np.array_equal(orders[0], np.arange(20))


def test_the_vae_is_as_before_and_its_tools_take_it():
    assert set(PARAMS) == {"vae", "discriminator"}
    with_it = vaejax.sample(VAE, PARAMS, jax.random.key(5), 2)
    np.testing.assert_array_equal(
        with_it, vaejax.sample(PLAIN, PARAMS["vae"], jax.random.key(5), 2)
    )
    np.testing.assert_array_equal(
        VAE.encode(PARAMS, XS[0]).mean, PLAIN.encode(PARAMS["vae"], XS[0]).mean
    )


def test_sentences_compose():
    vae = with_discriminator(sentence_vae(), DISCRIMINATOR)
    xs = tokens(jax.random.key(1), 4)
    params = jax.eval_shape(vae.init, jax.random.key(0), xs[0])
    loss, _ = jax.eval_shape(
        factor_vae_loss(vae, DISCRIMINATOR), params, jax.random.key(2), xs
    )
    assert loss.shape == ()


def train_discriminator(steps, correlation=0.8):
    """On draws of a model whose aggregate posterior is a Gaussian of that correlation,
    and whose VAE stands still.
    """
    loadings = np.float32([[1, 0], [correlation, np.sqrt(1 - correlation**2)]])
    identity, zeros = np.eye(2, dtype=np.float32), np.zeros(2, np.float32)
    params = linear_gaussian.Params(
        loadings, zeros, np.float32(-6), identity, zeros - 6
    )
    network = vaejax.MLP((32, 32), (1,))
    vae = with_discriminator(linear_gaussian.vae, network)
    optimizer = standard_promotion(
        optax.partition(
            {"vae": optax.set_to_zero(), "discriminator": optax.adam(3e-3)},
            {"vae": "vae", "discriminator": "discriminator"},
        )
    )
    state = vaejax.init_train_state(vae, optimizer, jax.random.key(0), jnp.zeros(2))
    state = state._replace(params=state.params | {"vae": params})
    loss_fn = factor_vae_loss(vae, network)
    epoch = jax.jit(
        vaejax.make_train_epoch(vaejax.make_train_step(loss_fn, optimizer), 500)
    )
    data = linear_gaussian.draw_examples(params, 500 * steps, seed=0)
    state, _ = epoch(state, data)
    _, terms = jax.jit(loss_fn)(
        state.params,
        jax.random.key(1),
        linear_gaussian.draw_examples(params, 20_000, seed=1),
    )
    covariance = np.asarray(loadings @ loadings.T + 2 * np.exp(-6) * np.eye(2))
    exact = (
        np.log(np.diagonal(covariance)).sum() / 2 - np.linalg.slogdet(covariance)[1] / 2
    )
    return terms, exact


@pytest.mark.slow
def test_the_trained_discriminator_estimates_the_total_correlation():
    terms, exact = train_discriminator(1500)
    assert exact > 0.45
    # The best discriminator's own estimate has a standard error of about 0.01.
    assert abs(terms.total_correlation - exact) < 0.07
    assert terms.discriminator_accuracy > 0.6 and terms.discriminator_loss < 0.6


# what it cannot take


def test_a_discriminator_is_of_a_vector_and_puts_out_one_logit():
    two = with_discriminator(PLAIN, vaejax.MLP((), (2,)))
    with pytest.raises(ValueError, match=r"puts out \(2,\); give one logit"):
        two.init(jax.random.key(0), XS[0])
    matrix = PLAIN._replace(
        encode=lambda params, x: vaejax.Normal(jnp.zeros((2, 2)), jnp.zeros(()))
    )
    with pytest.raises(ValueError, match="it must be one vector"):
        with_discriminator(matrix, DISCRIMINATOR).init(jax.random.key(0), XS[0])


def test_factor_vae_needs_its_parameters_and_four_examples():
    loss_fn = factor_vae_loss(VAE, DISCRIMINATOR)
    with pytest.raises(TypeError, match="with_discriminator"):
        loss_fn(PARAMS["vae"], jax.random.key(0), XS)
    with pytest.raises(ValueError, match=r"batch has 3 example\(s\)"):
        jax.eval_shape(loss_fn, PARAMS, jax.random.key(0), XS[:3])
