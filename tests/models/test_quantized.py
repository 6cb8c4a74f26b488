"""VQ-VAE and FSQ: the moving average of a codebook, dead codes, priors over codes."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from support import cases
from support.case_setup import assert_close, example, row, setup, training
from support.cases import CODES, DECAY, POSITIONS

import vaejax
from vaejax.distributions import Codebook, Quantized
from vaejax.models import revive_codes, vq_vae
from vaejax.objectives import vector_quantization_terms, with_revived_codes
from vaejax.priors import with_autoregressive_prior


@pytest.mark.slow
def test_terms_are_code_length_commitment_and_a_gradient_of_the_codebook_alone():
    case = row("vq_vae")
    params, batch = setup(case)
    x = example(batch, 0)
    posterior, prior = case.vae.encode(params, x), case.vae.prior(params)
    z, log_posterior = posterior.sample_and_log_prob(jax.random.key(0))
    nearest = np.asarray(z)

    def terms(features, codebook):
        return vector_quantization_terms(
            Quantized(features, Codebook(**codebook)),
            prior,
            z,
            log_posterior,
            commitment=0.5,
        )

    values = terms(posterior.features, params["codebook"])
    slopes = jax.jacobian(terms, argnums=(0, 1))(posterior.features, params["codebook"])
    apart = np.asarray(posterior.features) - nearest
    commitment = 0.5 * np.sum(np.square(apart))
    assert_close(values, np.array([POSITIONS * np.log(CODES), commitment, 0]))
    zeros = np.zeros(apart.shape)
    assert_close(slopes[0], np.stack([zeros, apart, zeros]))
    for name, leaf in slopes[1].items():
        statistic = posterior.quantizer.statistics(posterior.features)[name]
        assert_close(leaf[2], params["codebook"][name] - statistic)
        assert not np.any(leaf[:2])


def test_the_codebook_is_exactly_the_moving_average_of_its_features():
    case = row("vq_vae")
    state, step, batch = training(case)
    posteriors = jax.vmap(partial(case.vae.encode, state.params))(batch)
    found = jax.vmap(lambda q: q.quantizer.statistics(q.features))(posteriors)
    before = state.params["codebook"]
    after = jax.jit(step)(state, batch)[0].params["codebook"]
    assert found["count"].shape == (len(batch), CODES)
    for name, statistics in found.items():
        mean = np.asarray(statistics).mean(axis=0)
        assert_close(after[name], DECAY * before[name] + (1 - DECAY) * mean)


def test_codes_that_are_never_used_keep_their_vectors():
    case = row("vq_vae")
    params, batch = setup(case)
    far = params["codebook"]["sum"].at[0].set(100.0)
    state, step, _ = training(case)
    state = state._replace(
        params=params | {"codebook": params["codebook"] | {"sum": far}}
    )
    before = Codebook(**state.params["codebook"]).vectors[0]
    run = jax.jit(
        lambda state: jax.lax.fori_loop(0, 400, lambda _, s: step(s, batch)[0], state)
    )
    state = run(state)
    codebook = Codebook(**state.params["codebook"])
    assert 1e-6 < codebook.count[0] < 1e-5
    np.testing.assert_allclose(codebook.vectors[0], before, rtol=1e-3)


def test_dead_codes_start_again_at_features_of_the_data():
    case = row("vq_vae")
    params, batch = setup(case)
    count = jnp.array([0.0, 3.0, 1.0, 1e-3, 0.9])
    params = params | {"codebook": params["codebook"] | {"count": count}}
    revived = revive_codes(case.vae, params, jax.random.key(0), batch)
    features = np.concatenate(
        jax.vmap(lambda x: case.vae.encode(params, x).features)(batch)
    )
    codebook, usual = Codebook(**revived["codebook"]), float(count.mean())
    for code in range(CODES):
        if code in (0, 3):
            np.testing.assert_allclose(codebook.count[code], usual, rtol=1e-6)
            gap = np.abs(features - np.asarray(codebook.vectors[code])).max(axis=1)
            assert gap.min() < 1e-5
        else:
            for name in ("count", "sum"):
                np.testing.assert_array_equal(
                    revived["codebook"][name][code], params["codebook"][name][code]
                )
    assert revived["encoder"] is params["encoder"]


@pytest.mark.slow
def test_a_step_with_revival_takes_dead_codes_to_features_of_its_batch():
    """Within the hundredth that the moving average adds at the decay of 0.9."""
    case = row("vq_vae")
    state, _, batch = training(case)
    count = jnp.array([1e-4, 3.0, 1.0, 1e-3, 0.9])
    codebook = {"count": count, "sum": count[:, None] * jnp.full((CODES, 2), 9.0)}
    codebook["sum"] = codebook["sum"].at[1:3].set(state.params["codebook"]["sum"][1:3])
    state = state._replace(params=state.params | {"codebook": codebook})
    loss_fn = with_revived_codes(
        vaejax.mean_over_batch(case.loss), case.vae, decay=DECAY
    )
    plain = vaejax.mean_over_batch(case.loss)(state.params, jax.random.key(0), batch)
    value = loss_fn(state.params, jax.random.key(0), batch)
    np.testing.assert_allclose(value[0], plain[0], rtol=1e-5)
    step = vaejax.make_train_step(loss_fn, case.optimizer)
    after = Codebook(**jax.jit(step)(state, batch)[0].params["codebook"])
    features = np.concatenate(
        jax.vmap(lambda x: case.vae.encode(state.params, x).features)(batch)
    )
    for code in (0, 3):
        np.testing.assert_allclose(after.count[code], count.mean(), rtol=0.01)
        gap = np.abs(features - np.asarray(after.vectors[code])).max(axis=1)
        assert gap.min() < 0.05
    # Codes in use are left to the moving average, which does not know of the revival.
    assert np.all(np.abs(after.count[1:3] - count[1:3]) < 0.2 * count[1:3] + 0.2)


def test_an_encoder_that_does_not_fit_is_refused():
    vae = vq_vae(
        num_codes=4,
        latent_shape=(3, 2),
        encoder=vaejax.MLP((), (3, 3)),
        decoder=vaejax.MLP((), (5,)),
    )
    with pytest.raises(ValueError, match=r"outputs \(3, 3\) and the latent has shape"):
        vae.init(jax.random.key(0), jnp.ones(5))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"levels": (5, 1)}, r"levels is \(5, 1\); give at least 2"),
        ({"levels": (5, 0)}, "levels is 0; give a positive integer"),
        ({"positions": (0,)}, "size of a latent is 0; give a positive integer"),
        ({"positions": ()}, r"the latent has shape \(2,\); give \(\*positions, size\)"),
    ],
)
def test_shapes_of_latents_are_judged(change, message):
    given = {"levels": (5, 4), "positions": (3,)} | change
    network = vaejax.MLP((), (3, 2))
    with pytest.raises(ValueError, match=message):
        vaejax.models.fsq_vae(**given, encoder=network, decoder=network)


def test_posteriors_without_a_codebook_are_refused():
    vae, x = cases.fsq_vae(), jnp.ones(cases.PIXELS)
    params = vae.init(jax.random.key(0), x)
    with pytest.raises(TypeError, match="of FiniteScalars; give one of vq_vae"):
        vaejax.negative_elbo(
            vae, params, jax.random.key(1), x, kl_fn=vector_quantization_terms
        )


@pytest.mark.slow
@pytest.mark.parametrize("make", [cases.vq_vae, cases.fsq_vae])
def test_an_autoregressive_prior_learns_the_codes_of_the_data(make):
    """Two examples: their codes take one bit at best, and uniform ones far more."""
    given = make()
    num_codes = given.prior(
        given.init(jax.random.key(0), jnp.ones(cases.PIXELS))
    ).quantizer.num_codes
    network = vaejax.networks.CausalConvolutionDecoder(num_codes, 16, dilations=(1, 2))
    vae = with_autoregressive_prior(given, network)
    xs = jax.random.bernoulli(jax.random.key(1), 0.5, (2, *cases.PIXELS))
    xs = xs.astype(jnp.float32)
    params = vae.init(jax.random.key(0), xs[0])
    zs = jax.vmap(lambda x: vae.encode(params, x).mean)(xs)
    assert np.any(np.asarray(zs[0] != zs[1]))

    def loss(params):
        return -jnp.mean(jax.vmap(vae.prior(params).log_prob)(zs)) / math.log(2)

    optimizer = cases.standard_promotion(optax.adam(1e-2))

    @jax.jit
    def train(params):
        def step(_, carry):
            params, state = carry
            gradient = jax.grad(loss, allow_int=True)(params)
            updates, state = optimizer.update(gradient, state, params)
            return optax.apply_updates(params, updates), state

        return jax.lax.fori_loop(0, 150, step, (params, optimizer.init(params)))[0]

    gradient = jax.grad(loss)(params)
    for name in set(params) - {"prior"}:
        assert not any(np.any(leaf) for leaf in jax.tree.leaves(gradient[name]))
    with jax.numpy_dtype_promotion("standard"):
        trained = train(params)
    assert loss(params) > 5 > 1.2 > loss(trained) > 1 - 1e-3
    draws = jax.jit(jax.vmap(vae.prior(trained).sample))(
        jax.random.split(jax.random.key(2), 50)
    )
    known = [np.abs(np.asarray(draws - z[None])).max(axis=(1, 2)) < 1e-5 for z in zs]
    assert np.mean(known[0] | known[1]) > 0.8


def test_a_prior_over_codes_needs_codes_and_logits_that_fit():
    x = jnp.ones(cases.PIXELS)
    network = vaejax.networks.CausalConvolutionDecoder(3, 4, dilations=(1,))
    with pytest.raises(TypeError, match="the prior is Normal; give a VAE of quantized"):
        with_autoregressive_prior(cases.mlp_vae(), network).init(jax.random.key(0), x)
    with pytest.raises(ValueError, match=r"outputs \(4, 3\); give one .* \(4, 20\)"):
        with_autoregressive_prior(cases.fsq_vae(), network).init(jax.random.key(0), x)
