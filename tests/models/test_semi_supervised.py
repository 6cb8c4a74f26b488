"""The semi-supervised VAE against enumeration over its classes and exact densities."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats

import vaejax
from vaejax import estimators, latent, networks, training
from vaejax.base import VAE, Latents
from vaejax.distributions import MaskedEvent
from vaejax.models import Conditioned, semi_supervised_vae
from vaejax.objectives import negative_semi_supervised_elbo

LOADINGS = np.float32([[1.0], [-0.5], [0.3]])
OFFSETS = np.float32([[0.5, 0, 0], [0, -1.0, 0], [0, 0, 0.7]])
CLASS_LOGITS = np.float32([0.2, -0.4, 0.9])
LOG_PRIOR = scipy.special.log_softmax(CLASS_LOGITS)
X = jnp.array([0.3, -0.6, 0.8])


def family(label):
    """x = W z + offset of the class + noise of variance 1/2, with its posterior."""
    precision = 1 + 2 * LOADINGS.T @ LOADINGS

    def encode(params, x):
        mean = 2 * LOADINGS.T @ (x - label @ OFFSETS) / precision[0]
        return vaejax.Normal(mean, -jnp.log(precision[0]))

    return VAE(
        init=lambda key, x: (),
        encode=encode,
        prior=lambda params: vaejax.Normal(jnp.zeros(1), jnp.zeros(1)),
        decode=lambda params, z: vaejax.Normal(
            LOADINGS @ z + label @ OFFSETS, jnp.log(0.5)
        ),
    )


CLASSIFIER = vaejax.MLP((), (3,))
MODEL = semi_supervised_vae(
    family, classifier=CLASSIFIER, num_classes=3, class_logits=CLASS_LOGITS
)
PARAMS = MODEL.init(jax.random.key(0), X)
COVARIANCE = LOADINGS @ LOADINGS.T + np.eye(3) / 2
# log p(x|y) of each class, and what the classifier says of x.
LOG_PROBS = np.array(
    [scipy.stats.multivariate_normal(mean, COVARIANCE).logpdf(X) for mean in OFFSETS]
)
LOG_Q = np.asarray(
    jax.nn.log_softmax(CLASSIFIER.apply({"params": PARAMS["classifier"]}, X)), float
)


def bound(x, *, params=PARAMS, num=4000, **options):
    """Return the mean loss over draws of z, its error and the terms of one draw."""
    options = {"alpha": 0.0} | options

    @jax.jit
    @jax.vmap
    def loss(key):
        return negative_semi_supervised_elbo(MODEL, params, key, x, **options)

    losses, terms = loss(jax.random.split(jax.random.key(1), num))
    error = losses.std() / np.sqrt(num)
    return losses.mean(), error, jax.tree.map(lambda leaf: leaf[0], terms)


@pytest.mark.sampled
@pytest.mark.parametrize("label", range(3))
def test_with_a_label_the_bound_is_that_of_the_pair_and_alpha_adds_the_classifier(
    label,
):
    example = Conditioned(X, jnp.array(label))
    for alpha in (0.0, 3.0):
        found, error, terms = bound(example, alpha=alpha)
        expected = -LOG_PROBS[label] - LOG_PRIOR[label] - alpha * LOG_Q[label]
        assert abs(found - expected) < 5 * error
        np.testing.assert_allclose(terms.label_kl, -LOG_PRIOR[label], rtol=1e-5)
        np.testing.assert_allclose(terms.classification, -LOG_Q[label], rtol=1e-5)


def test_without_a_label_the_bound_is_the_sum_over_classes():
    q = np.exp(LOG_Q)
    expected = np.sum(q * (LOG_Q - LOG_PROBS - LOG_PRIOR))
    # The label does not matter where it is masked, whatever alpha is.
    for x in (X, Conditioned(X, MaskedEvent(jnp.array(7), jnp.array(False)))):
        found, error, terms = bound(x, alpha=5.0)
        assert abs(found - expected) < 5 * error and terms.classification == 0
    assert expected > -scipy.special.logsumexp(LOG_PROBS + LOG_PRIOR)


@pytest.mark.slow
def test_with_the_exact_classifier_the_bound_is_the_density():
    logits = jnp.asarray(LOG_PROBS + LOG_PRIOR, jnp.float32)
    exact = {
        "family": (),
        "classifier": {"Dense_0": {"kernel": jnp.zeros((3, 3)), "bias": logits}},
    }
    found, error, _ = bound(X, params=exact)
    density = scipy.special.logsumexp(LOG_PROBS + LOG_PRIOR)
    assert abs(found + density) < 5 * error
    # The posterior of class and z is exact, so that every weight is the density.
    weights = jax.vmap(lambda key: vaejax.log_weight(MODEL, exact, key, X))(
        jax.random.split(jax.random.key(2), 20)
    )
    np.testing.assert_allclose(weights, density, rtol=1e-4)


def test_the_gradient_is_that_of_the_enumerated_bound():
    def enumerated(params):
        """The bound with the exact log p(x|y), of z in closed form."""
        logits = CLASSIFIER.apply({"params": params["classifier"]}, X)
        log_q = jax.nn.log_softmax(logits)
        costs = log_q - jnp.asarray(LOG_PROBS + LOG_PRIOR, jnp.float32)
        return jnp.sum(jnp.exp(log_q) * costs)

    def loss(params, key):
        return negative_semi_supervised_elbo(MODEL, params, key, X, alpha=0.0)[0]

    keys = jax.random.split(jax.random.key(3), 4000)
    gradients = jax.jit(jax.vmap(jax.grad(loss), in_axes=(None, 0)))(PARAMS, keys)
    jax.tree.map(
        lambda found, expected: np.testing.assert_array_less(
            np.abs(found.mean(axis=0) - expected),
            5 * found.std(axis=0) / np.sqrt(len(keys)) + 1e-4,
        ),
        gradients,
        jax.grad(enumerated)(PARAMS),
    )


def test_a_batch_of_both_is_each_example_alone():
    labels, is_labeled = jnp.array([2, 0, 1]), jnp.array([True, False, True])
    xs = jnp.stack([X, 2 * X, -X])
    batch = Conditioned(xs, MaskedEvent(labels, is_labeled))

    def keys():
        return jax.random.split(jax.random.key(4), 3)

    loss = partial(negative_semi_supervised_elbo, MODEL, PARAMS, alpha=2.0)
    found = jax.jit(jax.vmap(loss))(keys(), batch)[0]
    for place, x in enumerate(xs):
        one = Conditioned(x, labels[place]) if is_labeled[place] else x
        np.testing.assert_allclose(found[place], loss(keys()[place], one)[0], rtol=1e-5)


def test_the_class_is_a_latent_that_tools_keep():
    label = jnp.array(1)
    z, log_posterior = MODEL.encode(PARAMS, Conditioned(X, label)).sample_and_log_prob(
        jax.random.key(0)
    )
    assert isinstance(z, Latents) and z.path.condition.tolist() == [0, 1, 0]
    given = MODEL.encode(PARAMS, X).given(jnp.eye(3)[1])
    np.testing.assert_allclose(log_posterior, given.log_prob(z.values), rtol=1e-6)
    prior = MODEL.prior(PARAMS)
    expected = LOG_PRIOR[1] + scipy.stats.norm().logpdf(z.values).sum()
    np.testing.assert_allclose(prior.log_prob(z), expected, rtol=1e-5)
    moved = vaejax.traverse(
        MODEL, PARAMS, Conditioned(X, label), num=3, latent_point=latent.mean
    )
    assert moved.shape == (1, 3, 3)
    np.testing.assert_allclose(moved[0, 1], OFFSETS[1], atol=1e-5)  # z = 0
    draws = jax.vmap(prior.sample)(jax.random.split(jax.random.key(5), 5000))
    frequency = np.asarray(draws.path.condition).mean(axis=0)
    p = np.exp(LOG_PRIOR)
    assert np.all(np.abs(frequency - p) < 5 * np.sqrt(p * (1 - p) / 5000))
    assert vaejax.embed(MODEL, PARAMS, X[None]).shape == (1, 1)


@pytest.mark.parametrize("label", [0, 2, None])
def test_annealing_bounds_the_density_of_what_is_given(label):
    x, truth = X, scipy.special.logsumexp(LOG_PROBS + LOG_PRIOR)
    if label is not None:
        x = Conditioned(X, jnp.array(label))
        truth = LOG_PROBS[label] + LOG_PRIOR[label]
    path = estimators.AnnealingPath(num_temperatures=20, step_sizes=jnp.full(20, 0.5))
    found = estimators.annealed_importance_sampling(
        MODEL, PARAMS, jax.random.key(5), x, path=path, num_chains=256
    )
    assert abs(found.log_marginal - truth) < 5 * found.standard_error + 1e-4
    assert found.standard_error < 0.1


def test_data_and_labels_are_judged():
    def family(label):
        return vaejax.gaussian_vae(
            latent_size=1,
            encoder=networks.with_condition(vaejax.MLP(()), label),
            decoder=networks.with_condition(vaejax.MLP((), (3,)), label),
        )

    vae = semi_supervised_vae(family, classifier=CLASSIFIER, num_classes=3)
    params, xs = vae.init(jax.random.key(0), X), np.zeros((4, 3), np.float32)
    is_labeled = np.array([True, True, False, False])
    fits = MaskedEvent(np.array([0, 2, 9, 9]), is_labeled)
    training.check_data(vae, params, Conditioned(xs, fits))
    for batch, message in (
        (xs + 255, r"xs holds 255\.0 .*Bernoulli"),
        (Conditioned(xs + 255, fits), r"xs\.x holds 255\.0 .*Bernoulli"),
        (Conditioned(xs, np.array([0, 1, 2, 3])), r"xs\.condition holds 3"),
        (
            Conditioned(xs, MaskedEvent(np.array([0, -1, 0, 0]), is_labeled)),
            r"xs\.condition holds -1",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            training.check_data(vae, params, batch)


def test_mistakes_name_the_fix():
    options = {"classifier": CLASSIFIER, "num_classes": 3}
    objective = partial(negative_semi_supervised_elbo, alpha=1.0)
    plain = vaejax.gaussian_vae(
        latent_size=1, encoder=vaejax.MLP(()), decoder=vaejax.MLP((), (3,))
    )
    key = jax.random.key(0)
    mistakes = [
        (lambda: semi_supervised_vae(None, **options), TypeError, "give a function"),
        (
            lambda: semi_supervised_vae(family, **options | {"num_classes": 1}),
            ValueError,
            "give at least 2",
        ),
        (
            lambda: semi_supervised_vae(family, **options, class_logits=jnp.zeros(2)),
            ValueError,
            "one logit for each class",
        ),
        (
            lambda: semi_supervised_vae(family, **options | {"num_classes": 4}).init(
                jax.random.key(0), X
            ),
            ValueError,
            r"classifier outputs \(3,\); give one that outputs \(4,\)",
        ),
        (
            lambda: MODEL.encode(PARAMS, Conditioned(X, jnp.eye(3)[0])),
            TypeError,
            "give one integer",
        ),
        (
            lambda: MODEL.encode(PARAMS, Conditioned(X, jnp.array(3))),
            ValueError,
            "the label is 3; give one from 0 to 2",
        ),
        (lambda: MODEL.decode(PARAMS, X), TypeError, "decode z by family"),
        (
            lambda: objective(plain, plain.init(key, X), jax.random.key(1), X),
            TypeError,
            "no label; give a model of vaejax.models.semi",
        ),
        (
            lambda: objective(MODEL, PARAMS, jax.random.key(1), X, alpha=-1.0),
            ValueError,
            "alpha is -1",
        ),
    ]
    for mistake, kind, fix in mistakes:
        with pytest.raises(kind, match=fix):
            mistake()
