"""What training minimises: functions of one example, `(vae, params, key, x, *, options)
-> (loss, terms)`, in nats.

`mean_over_batch` turns one into the `loss_fn(params, key, batch)` that training takes;
an objective that is not a mean of per-example losses (free bits, a capacity) goes
through `loss_of_means`.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from vaejax.base import (
    VAE,
    Array,
    Distribution,
    Example,
    Key,
    KlFn,
    Latent,
    Params,
    PyTree,
    batch_size_of,
    check_count,
    require,
)
from vaejax.distributions import Normal, kl_divergence


class ElboTerms(NamedTuple):
    """The two sides of the bound, in nats: ELBO = log_likelihood - kl.

    Attributes:
      log_likelihood: E_q[log p(x|z)], estimated from the samples.
      kl: KL(q(z|x) || p(z)), the sum of `kl_terms`.
      kl_terms: `[groups]`, one entry a latent group.
    """

    log_likelihood: Array
    kl: Array
    kl_terms: Array


class IwaeTerms(NamedTuple):
    """What an importance-weighted bound is made of.

    Attributes:
      elbo: the mean log-weight, an estimate of the ELBO in nats.
      effective_sample_size: (sum w)^2 / sum w^2, between 1 and the number of samples.
    """

    elbo: Array
    effective_sample_size: Array


def kl_closed_form(
    posterior: Distribution, prior: Distribution, z: Latent, log_posterior: Array
) -> Array:
    """KL(q(z|x) || p(z)) in closed form, as one term: `[1]`. TypeError where none is
    known (see `kl_divergence`).
    """
    del z, log_posterior
    return kl_divergence(posterior, prior)[None]


def kl_monte_carlo(
    posterior: Distribution, prior: Distribution, z: Latent, log_posterior: Array
) -> Array:
    """The estimate log q(z|x) - log p(z) of the KL from the sample z, as one term:
    `[1]`. For any distributions.
    """
    del posterior
    return (log_posterior - require(prior, "log_prob")(z))[None]


def kl_sticking_the_landing(
    posterior: Distribution, prior: Distribution, z: Latent, log_posterior: Array
) -> Array:
    """`kl_monte_carlo` whose gradient leaves out the score d log q(z|x) / d phi at
    fixed z: sticking the landing.

    The value is the same, and so is the expected gradient of the ELBO, since the
    score's expectation is zero. The gradient that is left, through z alone, vanishes
    sample by sample where q(z|x) = p(z|x). Within an importance-weighted bound of more
    than one sample it is biased: take `vaejax.negative_dreg` there.

    Raises:
      TypeError: the posterior has no `log_prob`.

    Source: Roeder et al. 2017 (path derivative); the bias: Tucker et al. 2019.
    """
    # The value comes from the noise of z, which (z - mean) / stddev would round off;
    # the gradient from the path.
    path = require(jax.lax.stop_gradient(posterior), "log_prob")(z)
    log_posterior = (
        jax.lax.stop_gradient(log_posterior) + path - jax.lax.stop_gradient(path)
    )
    return kl_monte_carlo(posterior, prior, z, log_posterior)


def kl_per_dimension(
    posterior: Normal, prior: Normal, z: Latent, log_posterior: Array
) -> Array:
    """KL(q(z|x) || p(z)) of independent dimensions in closed form, one term each:
    `[*z]` flattened.

    Raises:
      TypeError: the two are not Normals.
    """
    del z, log_posterior
    if not (isinstance(posterior, Normal) and isinstance(prior, Normal)):
        raise TypeError(
            f"kl_per_dimension: the posterior is {type(posterior).__name__} and the "
            f"prior {type(prior).__name__}; it "
            "takes two Normals. kl_closed_form and kl_monte_carlo give the sum."
        )
    flat = [
        jax.tree.map(lambda leaf, d=d: jnp.broadcast_to(leaf, d.mean.shape).ravel(), d)
        for d in (posterior, prior)
    ]
    return jax.vmap(kl_divergence)(*flat)


def elbo_terms(
    vae: VAE,
    params: Params,
    key: Key,
    x: Example,
    *,
    num_samples: int = 1,
    kl_fn: KlFn = kl_closed_form,
) -> ElboTerms:
    """Both terms of the ELBO of one example, each the mean over `num_samples` draws of
    z; see `negative_elbo`.
    """
    check_count("num_samples", num_samples)
    posterior, prior = vae.encode(params, x), vae.prior(params)

    def terms(key: Key) -> tuple[Array, Array]:
        z, log_posterior = require(posterior, "sample_and_log_prob")(key)
        log_likelihood = require(vae.decode(params, z), "log_prob")(x)
        return log_likelihood, kl_fn(posterior, prior, z, log_posterior)

    keys = jax.random.split(key, num_samples)
    if num_samples == 1:
        # Without an axis of one sample, which would cost a fifth of a training step on
        # CPU.
        log_likelihood, kl_terms = terms(keys[0])
    else:
        log_likelihood, kl_terms = jax.tree.map(
            lambda leaf: jnp.mean(leaf, axis=0), jax.vmap(terms)(keys)
        )
    return ElboTerms(log_likelihood, jnp.sum(kl_terms), kl_terms)


def negative_elbo(
    vae: VAE,
    params: Params,
    key: Key,
    x: Example,
    *,
    beta: float | Array = 1.0,
    num_samples: int = 1,
    kl_fn: KlFn = kl_closed_form,
) -> tuple[Array, ElboTerms]:
    """-E_q(z|x)[log p(x|z)] + beta KL(q(z|x) || p(z)) >= -log p(x) at beta = 1, for one
    example, in nats.

    Args:
      vae: the model.
      params: its parameters.
      key: decides the samples of z.
      x: one example, without a batch axis.
      beta: weight of the KL; may be traced, as a schedule is. 1 is the bound, another
        value beta-VAE.
      num_samples: samples of z to average over; exactly that many.
      kl_fn: how the KL is computed. Closed form by default; `kl_monte_carlo` for any
        pair of distributions.

    Returns:
      The loss and its `ElboTerms`, which do not depend on beta.

    Raises:
      ValueError: `num_samples` is not a positive integer.
      TypeError: no closed form is known for this posterior and prior.

    Source: Kingma & Welling 2014, equations 3 and 10; beta: Higgins et al. 2017,
    equation 4.
    """
    terms = elbo_terms(vae, params, key, x, num_samples=num_samples, kl_fn=kl_fn)
    return beta * terms.kl - terms.log_likelihood, terms


def log_weight(vae: VAE, params: Params, key: Key, x: Example) -> Array:
    """log w = log p(x|z) + log p(z) - log q(z|x) with z ~ q(z|x), in nats; E[w] = p(x),
    and E[log w] is the ELBO.

    Source: Burda et al. 2016, section 3.
    """
    return log_weight_from(
        vae, params, vae.encode(params, x), vae.prior(params), key, x
    )


def log_weight_from(
    vae: VAE,
    params: Params,
    posterior: Distribution,
    prior: Distribution,
    key: Key,
    x: Example,
    kl_fn: KlFn = kl_monte_carlo,
) -> Array:
    """`log_weight` from a posterior and a prior already computed, so that many samples
    share one encoding.
    """
    z, log_posterior = require(posterior, "sample_and_log_prob")(key)
    return log_weight_at(vae, params, posterior, prior, z, log_posterior, x, kl_fn)


def log_weight_at(
    vae: VAE,
    params: Params,
    posterior: Distribution,
    prior: Distribution,
    z: Latent,
    log_posterior: Array,
    x: Example,
    kl_fn: KlFn = kl_monte_carlo,
) -> Array:
    """`log_weight` of a z that was drawn already, with log q(z|x)."""
    log_likelihood = require(vae.decode(params, z), "log_prob")(x)
    return log_likelihood - jnp.sum(kl_fn(posterior, prior, z, log_posterior))


def log_weights(
    vae: VAE,
    params: Params,
    key: Key,
    x: Example,
    *,
    num_samples: int,
    kl_fn: KlFn = kl_monte_carlo,
) -> Array:
    """`[num_samples]` independent log-weights of one example, in nats, from one
    encoding; see `log_weight`.

    Raises:
      ValueError: `num_samples` is not a positive integer.
    """
    check_count("num_samples", num_samples)
    posterior, prior = vae.encode(params, x), vae.prior(params)
    keys = jax.random.split(key, num_samples)
    return jax.vmap(
        lambda key: log_weight_from(vae, params, posterior, prior, key, x, kl_fn)
    )(keys)


def negative_iwae(
    vae: VAE,
    params: Params,
    key: Key,
    x: Example,
    *,
    num_samples: int,
    kl_fn: KlFn = kl_monte_carlo,
) -> tuple[Array, IwaeTerms]:
    """-log 1/k sum_{i<=k} w_i, the importance-weighted bound of one example, in nats;
    at k = 1 the negative ELBO.

    All k samples are held at once; `vaejax.log_marginal` evaluates the same bound in
    chunks. The weights need an estimate of the KL from the sample itself:
    `kl_monte_carlo`, or another with its value.

    Raises:
      ValueError: `num_samples` is not a positive integer.

    Source: Burda et al. 2016, equation 8.
    """
    weights = log_weights(vae, params, key, x, num_samples=num_samples, kl_fn=kl_fn)
    return -log_mean_exp(weights), iwae_terms(weights)


def log_mean_exp(log_weights: Array) -> Array:
    """log 1/k sum_i exp(log_weights_i) over the last axis."""
    return jax.nn.logsumexp(log_weights, axis=-1) - math.log(log_weights.shape[-1])


def iwae_terms(log_weights: Array) -> IwaeTerms:
    """Of `[k]` log-weights; of `[groups, k]`, the mean over groups."""
    sizes = 1 / jnp.sum(jnp.square(jax.nn.softmax(log_weights)), axis=-1)
    return IwaeTerms(jnp.mean(log_weights), jnp.mean(sizes))


def with_transform(
    objective: Callable, transform: Callable[[Key, Example], Example]
) -> Callable:
    """The objective of `transform(key, x)`, drawn afresh at each call: binarisation,
    dequantisation, masking.

    The transform has its own half of the key. The objective may have its vae bound
    already, or be a `terms_fn`.
    """

    def transformed(*args: Any, **options: Any):
        *leading, key, x = args
        transform_key, objective_key = jax.random.split(key)
        return objective(
            *leading, objective_key, transform(transform_key, x), **options
        )

    return transformed


def mean_over_batch(objective: Callable) -> Callable:
    """`loss_fn(params, key, batch, **schedules) -> (loss, terms)`: the objective's mean
    over the batch.

    Args:
      objective: `(params, key, x, **options) -> (loss, terms)` of one example; its vae
        is bound, as in `mean_over_batch(partial(negative_elbo, vae))`.

    Every example draws from its own key. Losses are summed within an example and
    averaged over examples, so that the loss does not depend on the batch size.
    """

    def loss_fn(
        params: Params, key: Key, batch: PyTree, **schedules: Any
    ) -> tuple[Array, PyTree]:
        return _batch_means(
            lambda key, x: objective(params, key, x, **schedules), key, batch
        )

    return loss_fn


def loss_of_means(terms_fn: Callable, combine: Callable[..., Array]) -> Callable:
    """`loss_fn(params, key, batch, **schedules) -> (loss, terms)`: a function of the
    batch means of the terms.

    For regularisers that act on the mean over the batch, as free bits and capacity
    targets are published.

    Args:
      terms_fn: `(params, key, x) -> terms` of one example, such as `partial(elbo_terms,
        vae)`.
      combine: `(mean_terms, **schedules) -> loss`.
    """

    def loss_fn(
        params: Params, key: Key, batch: PyTree, **schedules: Any
    ) -> tuple[Array, PyTree]:
        means = _batch_means(lambda key, x: terms_fn(params, key, x), key, batch)
        return combine(means, **schedules), means

    return loss_fn


def _batch_means(
    per_example: Callable[[Key, Example], PyTree], key: Key, batch: PyTree
) -> PyTree:
    values = jax.vmap(per_example)(jax.random.split(key, batch_size_of(batch)), batch)
    return jax.tree.map(lambda leaf: jnp.mean(leaf, axis=0), values)


def free_bits(
    means: ElboTerms, *, minimum: float | Array, beta: float | Array = 1.0
) -> Array:
    """-log_likelihood + beta sum_j max(minimum, KL_j) of batch means: a `combine` for
    `loss_of_means`, in nats.

    Each latent group may carry `minimum` nats at no cost, so that the optimizer gains
    nothing by emptying it. With `kl_per_dimension` the groups are the dimensions of z;
    with `kl_closed_form` there is one, all of z.

    Source: Kingma et al. 2016, equation 15.
    """
    return beta * jnp.sum(jnp.maximum(means.kl_terms, minimum)) - means.log_likelihood


def capacity(means: ElboTerms, *, target: float | Array, gamma: float | Array) -> Array:
    """-log_likelihood + gamma |KL - target| of batch means: a `combine` for
    `loss_of_means`, in nats.

    The KL is pulled to `target` nats from above and below; the paper raises the target
    in a straight line while it trains, from 0 to 25 or 50, with gamma 100 or 1,000.
    Both may be schedules.

    Source: Burgess et al. 2018, equation 8.
    """
    return gamma * jnp.abs(means.kl - target) - means.log_likelihood


def optimal_variance(vae: VAE, kl_fn: KlFn = kl_closed_form) -> Callable:
    """A `loss_fn` of the negative ELBO whose one variance is the best for the batch:
    its mean squared error.

    D/2 (1 + log 2 pi v) + beta KL with v = mean over batch and dimensions of (x -
    mean)^2, D the dimensions of x. The gradient flows through v, so that no variance is
    learned. What v was is followed by the parameter of the vae's likelihood, which must
    be a `shared_variance_normal_head` without bounds: a pseudo-loss of value zero pulls
    it towards log v, and the trained model is evaluated with it. Give it a partition of
    its own, `optax.sgd(0.1)` for a moving average over ten batches.

    Returns:
      `(params, key, batch, *, beta=1.0) -> (loss, terms)`.

    Raises:
      TypeError: when called, the parameters hold no such log-variance.

    Source: Rybkin et al. 2021 (sigma-VAE), section 3.2.
    """

    def parts(params: Params, key: Key, x: Array) -> tuple[Array, Array]:
        """Squared error and KL of one example."""
        posterior, prior = vae.encode(params, x), vae.prior(params)
        z, log_posterior = require(posterior, "sample_and_log_prob")(key)
        squared_error = jnp.sum(jnp.square(require(vae.decode(params, z), "mean") - x))
        return squared_error, kl_fn(posterior, prior, z, log_posterior)

    def loss_fn(
        params: Params, key: Key, batch: Array, *, beta: float | Array = 1.0
    ) -> tuple[Array, ElboTerms]:
        parameter = params.get("likelihood") if isinstance(params, dict) else None
        if not isinstance(parameter, jax.Array) or parameter.ndim:
            raise TypeError(
                "optimal_variance: the vae's likelihood has not one log-variance for "
                "its parameter; build it with "
                "likelihood=shared_variance_normal_head(0.0, -math.inf, math.inf)."
            )
        squared_error, kl_terms = _batch_means(partial(parts, params), key, batch)
        num_dimensions = math.prod(batch.shape[1:])
        # An exact reconstruction would make it minus infinity.
        log_variance = jnp.log(jnp.maximum(squared_error / num_dimensions, 1e-12))
        log_likelihood = (
            -num_dimensions / 2 * (1 + math.log(2 * math.pi) + log_variance)
        )
        # Of value zero and of gradient (parameter - log v).
        distance = jax.lax.stop_gradient(parameter - log_variance)
        follow = distance * (parameter - jax.lax.stop_gradient(parameter))
        terms = ElboTerms(log_likelihood, jnp.sum(kl_terms), kl_terms)
        return beta * terms.kl - log_likelihood + follow, terms

    return loss_fn
