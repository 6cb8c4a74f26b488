"""The semi-supervised VAE (M2): a class is a second latent, seen in some examples."""

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from vaejax._checks import (
    check_count,
    check_function,
    check_key,
    check_parameters,
    described,
    is_traced,
    log_prob_of,
    part_of,
    sample_and_log_prob_of,
)
from vaejax._supports import read_support
from vaejax.base import (
    VAE,
    Array,
    Distribution,
    Event,
    Example,
    Key,
    Latent,
    Latents,
    NetworkLike,
    Params,
    PyTree,
    Support,
    complete,
    draw,
)
from vaejax.columns import MaskedEvent
from vaejax.distributions import Categorical, Joint
from vaejax.models._assembly import in_dtype, in_dtype_of
from vaejax.models._conditions import Path, beside, inner
from vaejax.models.families import Conditioned, VAEFamily
from vaejax.networks import as_network


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["params", "x", "label", "classifier"],
    meta_fields=["family"],
)
@dataclasses.dataclass(frozen=True)
class _Posterior:
    """q(y|x) q(z|x, y), where q(y|x) is certain for an example with a label.

    Attributes:
      params: the parameters of the family.
      x: the example without its label.
      label: q(y|x) of the example, a Categorical: the given class has all its mass.
      classifier: q(y|x) as the classifier has it, whether a label is given or not.
      family: one-hot class -> VAE.
    """

    params: Params
    x: Example
    label: Categorical
    classifier: Categorical
    family: VAEFamily

    def given(self, label: Array) -> Any:
        """Return q(z|x, y) of a class, one-hot."""
        return self.family(label).encode(self.params, self.x)

    def with_label(self, z: Latent, label: Array) -> Latents:
        """Return a draw of q(z|x, y) with its class, one-hot, as `decode` takes it."""
        return beside(z, label)

    def log_prob(self, event: Latents) -> Array:
        label = event.path.condition
        log_posterior = log_prob_of(self.given(label), inner(event))
        return _log_prob_of_class(self.label, label) + log_posterior

    def sample(self, key: Key) -> Latents:
        return self.sample_and_log_prob(key)[0]

    def sample_and_log_prob(self, key: Key) -> tuple[Latents, Array]:
        check_key(key)
        label_key, z_key = jax.random.split(key)
        label = _one_hot(self.label, self.label.sample(label_key))
        z, log_prob = sample_and_log_prob_of(self.given(label), z_key)
        return beside(z, label), _log_prob_of_class(self.label, label) + log_prob

    @property
    def support(self) -> Support | None:
        return read_support(self.given(_one_hot(self.label, 0)))

    @property
    def mean(self) -> Latents:
        """Mean of z given the likeliest class."""
        label = _one_hot(self.label, self.label.mode)
        return beside(self.given(label).mean, label)


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["params", "label"],
    meta_fields=["family"],
)
@dataclasses.dataclass(frozen=True)
class _Prior:
    """p(y) p(z|y)."""

    params: Params
    label: Categorical
    family: VAEFamily

    def given(self, label: Array) -> Any:
        """Return p(z|y) of a class, one-hot."""
        return self.family(label).prior(self.params)

    def log_prob(self, event: Latents) -> Array:
        label = event.path.condition
        log_prior = log_prob_of(self.given(label), inner(event))
        return _log_prob_of_class(self.label, label) + log_prior

    def of_example(self, x: Example) -> Any:
        """Return p(y, z), or p(z|y) of the class y of an example that has a label."""
        _, label, is_labeled = _taken_apart(x)
        return dataclasses.replace(self, label=_known(self.label, label, is_labeled))

    @property
    def support(self) -> Support | None:
        return read_support(self.given(_one_hot(self.label, 0)))

    def sample(self, key: Key) -> Latents:
        check_key(key)
        label_key, z_key = jax.random.split(key)
        label = _one_hot(self.label, self.label.sample(label_key))
        return beside(draw(z_key, self.given(label)), label)

    def complete_like(self, like: Latents, edited: PyTree) -> Latents:
        label = like.path.condition
        z = complete(self.family(label), self.params, inner(like), edited)
        return beside(z, label)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class _Likelihood:
    """p(x|z, y), which takes examples with or without a label."""

    distribution: Any
    num_classes: int = dataclasses.field(metadata={"static": True})

    def log_prob(self, event: Example) -> Array:
        return log_prob_of(self.distribution, _taken_apart(event)[0])

    def of_scored(self, event: Example) -> tuple[Any, Any]:
        """Return the distribution of an example and its label, and the example."""
        if not isinstance(event, Conditioned):
            return self.distribution, event
        labels = Categorical(jnp.zeros(self.num_classes))
        return Joint(Conditioned(self.distribution, labels)), event

    def sample(self, key: Key) -> Event:
        return draw(key, self.distribution)

    @property
    def mean(self) -> Event:
        return self.distribution.mean

    @property
    def mode(self) -> Event:
        return self.distribution.mode


def semi_supervised_vae(
    family: VAEFamily,
    *,
    classifier: NetworkLike,
    num_classes: int,
    class_logits: Array | None = None,
) -> VAE:
    """Build the semi-supervised VAE (M2), whose latents are a class y and z.

    p(x, y, z) = p(y) p(z|y) p(x|z, y) and q(y, z|x) = q(y|x) q(z|x, y): the family has
    all that is given y, and the classifier is q(y|x). An example is x without a label,
    or `Conditioned(x, label)`; in a batch of both the label is a
    `MaskedEvent(label, is_labeled)`. Bounds of an example with a label are bounds on
    log p(x, y), without one on log p(x).

    Train it with `vaejax.objectives.negative_semi_supervised_elbo`, which sums over
    classes: the ELBO of one draw of y has the right value, but no gradient reaches the
    classifier through the draw. To decode or to export one class, take its member of
    the family and `params["family"]`.

    Args:
      family: a function from a class, one-hot `[num_classes]`, to a VAE.
      classifier: a network from x to logits `[num_classes]`.
      num_classes: the number of classes, at least 2.
      class_logits: `[num_classes]`, log p(y) up to a constant; uniform by default.

    Returns:
      A VAE whose parameters are the dict of "family" and "classifier". Latents hold y,
      one-hot, in the condition of their path. Its posterior has `label`, the
      Categorical q(y|x), and `given(label)`, q(z|x, y); so has its prior.

    Raises:
      ValueError: `num_classes` is no integer of at least 2, or `class_logits` has
        another shape.
      TypeError: `family` is not a function, or `classifier` not a network.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> import vaejax
      >>> from vaejax.models import semi_supervised_vae
      >>> from vaejax.networks import with_condition
      >>> def family(label):
      ...     return vaejax.gaussian_vae(
      ...         latent_size=2,
      ...         encoder=with_condition(vaejax.MLP((8,)), label),
      ...         decoder=with_condition(vaejax.MLP((8,), (5,)), label),
      ...     )
      >>> vae = semi_supervised_vae(
      ...     family, classifier=vaejax.MLP((8,), (3,)), num_classes=3
      ... )
      >>> params = vae.init(jax.random.key(0), jnp.ones(5))
      >>> vae.encode(params, jnp.ones(5)).label.logits.shape
      (3,)
      >>> vaejax.sample(vae, params, jax.random.key(1), 4).shape
      (4, 5)

    Source: Kingma et al. 2014 (semi-supervised learning), equations 2 and 4.
    """
    check_function("semi_supervised_vae: family", family)
    check_count("num_classes", num_classes)
    if num_classes < 2:
        raise ValueError(f"num_classes is {num_classes}; give at least 2.")
    prior_logits = jnp.zeros(num_classes) if class_logits is None else class_logits
    if jnp.shape(prior_logits) != (num_classes,):
        raise ValueError(
            f"semi_supervised_vae: class_logits has shape {jnp.shape(prior_logits)} "
            f"and num_classes is {num_classes}; give one logit for each class."
        )
    network = as_network(classifier)

    def init(key: Key, x: Example) -> Params:
        check_key(key)
        alone, _, _ = _taken_apart(x)
        real = in_dtype(jnp.float32, alone)
        family_key, classifier_key = jax.random.split(key)
        params = {
            "family": family(jnp.eye(num_classes)[0]).init(family_key, alone),
            "classifier": network.init(classifier_key, real),
        }
        logits = jax.eval_shape(network.apply, params["classifier"], real)
        if logits.shape != (num_classes,):
            raise ValueError(
                f"semi_supervised_vae: the classifier outputs {logits.shape}; give one "
                f"that outputs ({num_classes},) for one example."
            )
        return params

    def encode(params: Params, x: Example) -> Any:
        alone, label, is_labeled = _taken_apart(x)
        is_known = not (is_traced(label) or is_traced(is_labeled))
        if is_known and bool(is_labeled) and not 0 <= int(label) < num_classes:
            raise ValueError(
                f"semi_supervised_vae: the label is {label}; give one from 0 to "
                f"{num_classes - 1}."
            )
        own = part_of(params, "classifier")
        logits = network.apply(own, in_dtype_of(own, alone))
        classified = Categorical(logits)
        return _Posterior(
            part_of(params, "family"),
            alone,
            _known(classified, label, is_labeled),
            classified,
            family,
        )

    def prior(params: Params) -> Any:
        check_parameters(params)
        label = Categorical(jnp.asarray(prior_logits))
        return _Prior(part_of(params, "family"), label, family)

    def decode(params: Params, z: Latent) -> Distribution:
        if not (isinstance(z, Latents) and isinstance(z.path, Path)):
            raise TypeError(
                f"semi_supervised_vae: the latent z is {described(z)}; give one that "
                "this VAE's encode or prior draws, or decode z by family(label)."
            )
        member = family(z.path.condition)
        likelihood: Any = _Likelihood(
            member.decode(part_of(params, "family"), inner(z)), num_classes
        )
        return likelihood

    return VAE(init, encode, prior, decode)


def _taken_apart(example: Example) -> tuple[Example, Array, Array]:
    """Return x, its label or 0, and whether it has one."""
    if not isinstance(example, Conditioned):
        return example, jnp.asarray(0), jnp.asarray(False)
    label, is_labeled = example.condition, jnp.asarray(True)
    if isinstance(label, MaskedEvent):
        label, is_labeled = label.values, jnp.asarray(label.mask).astype(bool)
    label = jnp.asarray(label)
    if label.shape != () or not jnp.issubdtype(label.dtype, jnp.integer):
        raise TypeError(
            f"semi_supervised_vae: the label is {described(label)}; give one integer, "
            "or MaskedEvent(label, is_labeled) of integers in a batch."
        )
    return example.x, label, is_labeled


def _known(distribution: Categorical, label: Array, is_labeled: Array) -> Categorical:
    """Return the distribution, of which a class that is given has all the mass."""
    logits = jnp.asarray(distribution.logits)
    classes = jnp.arange(logits.shape[-1])
    given = jnp.where(classes == label, 0, -jnp.inf).astype(logits.dtype)
    return Categorical(jnp.where(is_labeled, given, logits))


def _one_hot(distribution: Categorical, label: Array | int) -> Array:
    return jax.nn.one_hot(label, distribution.logits.shape[-1])


def _log_prob_of_class(distribution: Categorical, label: Array) -> Array:
    return distribution.log_prob(jnp.argmax(label))
