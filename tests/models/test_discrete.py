"""VAEs of binary and categorical latents: temperatures, schedules, what is refused."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from support import cases
from support.cases import standard_promotion

import vaejax
from vaejax.distributions import OneHotCategorical, RelaxedCategorical
from vaejax.objectives import kl_of_categoricals

X = jnp.ones(cases.PIXELS)
PARAMS = cases.categorical_vae(1.0).init(jax.random.key(0), X)


def test_temperatures_share_parameters_and_none_is_the_model_of_choices():
    relaxed, one_hot = cases.categorical_vae(0.5), cases.categorical_vae(None)
    of_relaxed, of_one_hot = (vae.encode(PARAMS, X) for vae in (relaxed, one_hot))
    assert isinstance(of_relaxed, RelaxedCategorical)
    assert isinstance(of_one_hot, OneHotCategorical)
    np.testing.assert_array_equal(of_relaxed.logits, of_one_hot.logits)
    assert of_one_hot.mean.shape == of_relaxed.sample(jax.random.key(1)).shape == (3, 4)
    assert isinstance(one_hot.prior(PARAMS), OneHotCategorical)


def test_a_schedule_of_the_temperature_reaches_the_draws():
    """Two steps of one program: z is soft in the hot one, and nearly one-hot after."""

    def objective(params, key, x, *, temperature):
        vae = cases.categorical_vae(temperature)
        loss, terms = vaejax.negative_elbo(
            vae, params, key, x, kl_fn=kl_of_categoricals
        )
        z = vae.encode(params, x).sample(key)
        return loss, (terms, jnp.max(z, axis=-1).min())

    temperatures = optax.exponential_decay(
        10.0, transition_steps=1, decay_rate=1e-3, end_value=0.01
    )
    step = vaejax.make_train_step(
        vaejax.mean_over_batch(objective),
        standard_promotion(optax.sgd(0.0)),
        schedules={"temperature": temperatures},
    )
    state = vaejax.init_train_state(
        cases.categorical_vae(1.0), optax.sgd(0.0), jax.random.key(0), X
    )
    batch, largest = jnp.stack([X] * 8), []
    with jax.debug_key_reuse(False):
        run = jax.jit(step)
        for _ in range(2):
            state, metrics = run(state, batch)
            largest.append(float(metrics.terms[1]))
    assert largest[0] < 0.5 and largest[1] > 0.9


def test_the_kl_of_choices_is_that_of_categoricals_for_every_form():
    posterior = cases.categorical_vae(None).encode(PARAMS, X)
    log_probs = np.log(np.float64(jax.nn.softmax(posterior.logits)))
    expected = (np.exp(log_probs) * (log_probs + np.log(4))).sum(axis=-1)
    for vae in (
        cases.categorical_vae(None),
        cases.categorical_vae(0.3),
        cases.categorical_vae(0.3, straight_through=True),
    ):
        kl = kl_of_categoricals(vae.encode(PARAMS, X), vae.prior(PARAMS), None, None)
        np.testing.assert_allclose(kl, expected, rtol=1e-4, atol=1e-6)


def test_what_has_no_choices_is_refused():
    normal = vaejax.Normal(jnp.zeros(3), jnp.zeros(3))
    with pytest.raises(TypeError, match="the posterior is Normal; give a Categorical"):
        kl_of_categoricals(normal, normal, None, None)
    one, other = (vaejax.Categorical(jnp.zeros((num, 4))) for num in (2, 3))
    with pytest.raises(ValueError, match=r"\(2, 4\) and the prior \(3, 4\)"):
        kl_of_categoricals(one, other, None, None)


def test_the_relaxed_bound_holds_for_the_relaxed_model():
    """With the densities as KL, IWAE of 1 sample to 100 samples rises."""
    vae = cases.categorical_vae(0.7)

    def bound(num_samples, key):
        return -vaejax.negative_iwae(vae, PARAMS, key, X, num_samples=num_samples)[0]

    keys = jax.random.split(jax.random.key(2), 500)
    with jax.debug_key_reuse(False):
        few, many = (
            np.asarray(jax.jit(jax.vmap(partial(bound, num)))(keys)) for num in (1, 20)
        )
    error = np.hypot(few.std(), many.std()) / np.sqrt(len(keys))
    assert many.mean() - few.mean() > 5 * error


def test_binary_latents_are_drawn_and_decoded():
    vae = cases.BINARY_LATENTS
    params = vae.init(jax.random.key(0), X)
    z = vae.prior(params).sample(jax.random.key(1))
    assert z.shape == (4,) and set(np.unique(z)) <= {0, 1}
    assert vae.decode(params, z).logits.shape == cases.PIXELS
