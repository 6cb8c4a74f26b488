"""The bound of the semi-supervised VAE (M2), with the class summed over exactly."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from vaejax._checks import (
    check_key,
    check_model,
    check_weights,
    log_prob_of,
    require,
    sample_and_log_prob_of,
)
from vaejax._reals import at_least_single
from vaejax.base import VAE, Array, Example, Key, KlFn, Params
from vaejax.objectives._numbers import weighted
from vaejax.objectives.kl_estimators import kl_closed_form


class SemiSupervisedTerms(NamedTuple):
    """Terms of the bound of one example of a semi-supervised VAE, in nats.

    Attributes:
      log_likelihood: scalar, E_q(y|x)[E_q(z|x,y)[log p(x|z, y)]]. For an example with a
        label, here and below, q(y|x) has all its mass on it.
      kl: scalar, E_q(y|x)[KL(q(z|x,y) || p(z|y))].
      label_kl: scalar, KL(q(y|x) || p(y)), which is -log p(y) of a label.
      classification: scalar, -log q(y|x) of the classifier at the label; 0 without one.

    Example:
      >>> import jax.numpy as jnp
      >>> from vaejax.objectives import SemiSupervisedTerms
      >>> terms = SemiSupervisedTerms(*map(jnp.float32, (-80, 20, 2, 0)))
      >>> float(terms.log_likelihood - terms.kl - terms.label_kl)
      -102.0
    """

    log_likelihood: Array
    kl: Array
    label_kl: Array
    classification: Array


def negative_semi_supervised_elbo(
    vae: VAE,
    params: Params,
    key: Key,
    x: Example,
    *,
    alpha: float | Array,
    beta: float | Array = 1.0,
    kl_fn: KlFn = kl_closed_form,
) -> tuple[Array, SemiSupervisedTerms]:
    """Negative bound of an example with or without its label, in nats.

    With L(x, y) = -E_q(z|x,y)[log p(x|z, y)] + KL(q(z|x,y) || p(z|y)) - log p(y), it is
    L(x, y) - alpha log q(y|x) for an example with a label, and
    sum_y q(y|x) [L(x, y) + log q(y|x)] for one without. The sum over classes is exact;
    z is drawn once for each class. A batch may hold both, and computes all classes for
    each example.

    Args:
      vae: a model of `vaejax.models.semi_supervised_vae`.
      params: its parameters.
      key: decides the samples of z.
      x: one example: x, or `Conditioned(x, label)`, whose label may be a `MaskedEvent`.
      alpha: weight of -log q(y|x) of an example with a label, at least 0. The 0.1 of
        the paper is `alpha = 0.1 * N / N_labeled`, of N examples.
      beta: weight of the KL of z, at least 0; may be traced, as a schedule is.
      kl_fn: estimator of the KL of z.

    Returns:
      The scalar loss and its `SemiSupervisedTerms`, which depend on neither weight.

    Raises:
      ValueError: `alpha` or `beta` is negative or not finite.
      TypeError: the model has no classes, or no closed form of the KL is known.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> import vaejax
      >>> from vaejax.models import Conditioned, semi_supervised_vae
      >>> from vaejax.networks import with_condition
      >>> def family(label):
      ...     return vaejax.gaussian_vae(
      ...         latent_size=2,
      ...         encoder=with_condition(vaejax.MLP((8,)), label),
      ...         decoder=with_condition(vaejax.MLP((8,), (5,)), label),
      ...     )
      >>> vae = semi_supervised_vae(
      ...     family, classifier=vaejax.MLP((), (3,)), num_classes=3
      ... )
      >>> params = vae.init(jax.random.key(0), jnp.ones(5))
      >>> labeled = Conditioned(jnp.ones(5), jnp.array(2))
      >>> loss, terms = vaejax.objectives.negative_semi_supervised_elbo(
      ...     vae, params, jax.random.key(1), labeled, alpha=10.0
      ... )
      >>> round(float(terms.label_kl), 3)  # log 3
      1.099

    Source: Kingma et al. 2014 (semi-supervised learning), equations 6 to 9.
    """
    name = "negative_semi_supervised_elbo"
    check_weights(name, alpha=alpha, beta=beta)
    check_model(vae, params)
    check_key(key)
    posterior: Any = vae.encode(params, x)
    prior: Any = vae.prior(params)
    remedy = "give a model of vaejax.models.semi_supervised_vae"
    label, classifier = (
        jax.nn.log_softmax(at_least_single(require(posterior, part, remedy).logits))
        for part in ("label", "classifier")
    )
    prior_label = jax.nn.log_softmax(at_least_single(prior.label.logits))

    def of_class(key: Key, one_hot: Array) -> tuple[Array, Array]:
        given = posterior.given(one_hot)
        z, log_posterior = sample_and_log_prob_of(given, key)
        latent = posterior.with_label(z, one_hot)
        log_likelihood = log_prob_of(vae.decode(params, latent), x)
        kl_terms = kl_fn(given, prior.given(one_hot), z, log_posterior)
        return at_least_single(log_likelihood), jnp.sum(at_least_single(kl_terms))

    num_classes = label.shape[0]
    log_likelihoods, kls = jax.vmap(of_class)(
        jax.random.split(key, num_classes), jnp.eye(num_classes)
    )
    # A class that is ruled out adds nothing, where 0 times infinity would be NaN.
    probs, is_possible = jnp.exp(label), label > -jnp.inf
    log_ratio = jnp.where(is_possible, label, 0) - prior_label
    is_labeled = ~jnp.all(is_possible)
    at_label = jnp.sum(jnp.where(is_possible, classifier, 0))
    terms = SemiSupervisedTerms(
        log_likelihood=_expected(probs, log_likelihoods),
        kl=_expected(probs, kls),
        label_kl=_expected(probs, log_ratio),
        classification=jnp.where(is_labeled, -at_label, 0),
    )
    loss = weighted(beta, terms.kl) + terms.label_kl - terms.log_likelihood
    return loss + weighted(alpha, terms.classification), terms


def _expected(probs: Array, values: Array) -> Array:
    return jnp.sum(probs * jnp.where(probs > 0, values, 0))
