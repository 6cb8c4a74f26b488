"""The table of every model. What they share is tested in test_conformance.py; each row
is as long as its idea.

The awkward ones judge the skeleton: those of prototypes.py, a mixture prior, a
condition, a codebook that no gradient of the loss reaches. None has a special case in
the library.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as numpyro
import optax
import pytest
from support import twenty_lines
from support.prototypes import (
    MAX_LENGTH,
    PIXELS,
    VOCABULARY,
    hierarchical,
    kl_per_level,
    linear_gaussian,
    sentences,
    sequence,
    with_flow_posterior,
)

import vaejax
from vaejax import latent
from vaejax.base import (
    VAE,
    Array,
    Example,
    Key,
    KlFn,
    Latent,
    NetworkLike,
    Objective,
    Params,
)
from vaejax.priors import with_mixture_prior, with_vamp_prior


def standard_promotion(
    optimizer: optax.GradientTransformation,
) -> optax.GradientTransformation:
    """Optax is not written for the strict promotion that the tests turn on."""

    def update(*args):
        with jax.numpy_dtype_promotion("standard"):
            return optimizer.update(*args)

    return optax.GradientTransformation(optimizer.init, update)


class Case(NamedTuple):
    """A model, and the choices that the common tests need for it.

    Attributes:
      name: the name of the row.
      vae: the model.
      batch: `(key, num) -> examples`.
      kl_fn: the estimate of its KL.
      latent_point: the latent that stands for its posterior.
      example_point: the example that stands for its likelihood.
      objective: `(params, key, example) -> (loss, terms)`; None for the negative ELBO.
      x_of: the x of an example of the batch.
      sample_like: what a draw of the likelihood is like, of an x.
      stochastic: whether its posterior draws at all.
      optimizer: the optimizer of its training.
      num_decoded: the dimensions of z, the first ones, that the likelihood depends on
        where the others are given; None for all.
      path: the path between two latents that stays on the support of the prior;
        where it is not a straight line, tools refuse to move along one.
      slow: whether its tests are slow ones, since quick rows stand for what it shares.
    """

    name: str
    vae: VAE
    batch: Callable[[Key, int], Example]
    kl_fn: KlFn = vaejax.kl_closed_form
    latent_point: latent.PointEstimator = latent.mean
    example_point: latent.PointEstimator = latent.mean
    objective: Objective | None = None
    x_of: Callable[[Example], Example] = lambda example: example
    sample_like: Callable[[Example], Example] = lambda x: x
    stochastic: bool = True
    optimizer: optax.GradientTransformation = standard_promotion(optax.adam(1e-2))
    slow: bool = False
    num_decoded: int | None = None
    path: latent.LatentPath = latent.linear_path

    @property
    def is_movable(self) -> bool:
        return self.path is latent.linear_path

    @property
    def loss(self) -> Objective:
        return self.objective or partial(
            vaejax.negative_elbo, self.vae, kl_fn=self.kl_fn
        )


def jump(start: Latent, end: Latent, t: Array) -> Latent:
    """The path between two classes, with nothing in between."""
    return jax.tree.map(lambda a, b: jnp.where(t < 0.5, a, b), start, end)


def binary(key: Key, num: int) -> Array:
    return jax.random.bernoulli(key, 0.3, (num, *PIXELS)).astype(jnp.float32)


def real(key: Key, num: int) -> Array:
    return 2 + 0.5 * jax.random.normal(key, (num, *PIXELS))


def pixels(key: Key, num: int) -> Array:
    return jnp.round(255 * jax.random.uniform(key, (num, *PIXELS))) / 255


def mlp_vae(
    likelihood=vaejax.Bernoulli, num_parameters: int = 1, latent_size: int = 3
) -> VAE:
    output_shape = PIXELS if num_parameters == 1 else (*PIXELS, num_parameters)
    decoder = vaejax.MLP((16,), output_shape)
    return vaejax.gaussian_vae(
        latent_size=latent_size,
        encoder=vaejax.MLP((16,)),
        decoder=decoder,
        likelihood=likelihood,
    )


def conditional(context: Array) -> VAE:
    """q(z|x, c) and p(x|z, c) for one context c: a family of VAEs over one set of
    parameters. Sohn et al. 2015, (4).
    """
    encoder, decoder = (
        vaejax.networks.with_condition(network, context)
        for network in (vaejax.MLP((16,)), vaejax.MLP((16,), PIXELS))
    )
    return vaejax.gaussian_vae(latent_size=2, encoder=encoder, decoder=decoder)


def images_and_contexts(key: Key, num: int) -> vaejax.models.Conditioned:
    image_key, context_key = jax.random.split(key)
    labels = jax.random.randint(context_key, (num,), 0, 2)
    return vaejax.models.Conditioned(binary(image_key, num), jax.nn.one_hot(labels, 2))


# Discrete latents.
POSITIONS, CODES, CODE_SIZE, DECAY = 4, 5, 2, 0.9
VQ_OPTIMIZER = vaejax.models.codebook_optimizer(optax.adam(1e-2), decay=DECAY)


def categorical_vae(temperature: float | None, straight_through: bool = False) -> VAE:
    return vaejax.models.categorical_vae(
        3,
        4,
        encoder=vaejax.MLP((16,)),
        decoder=vaejax.MLP((16,), PIXELS),
        temperature=temperature,
        straight_through=straight_through,
    )


BINARY_LATENTS = vaejax.models.bernoulli_vae(
    latent_size=4, encoder=vaejax.MLP((16,)), decoder=vaejax.MLP((16,), PIXELS)
)


def vq_vae() -> VAE:
    return vaejax.models.vq_vae(
        num_codes=CODES,
        latent_shape=(POSITIONS, CODE_SIZE),
        encoder=vaejax.MLP((), (POSITIONS, CODE_SIZE)),
        decoder=vaejax.MLP((), PIXELS),
    )


def fsq_vae() -> VAE:
    return vaejax.models.fsq_vae(
        levels=(5, 4),
        positions=(POSITIONS,),
        encoder=vaejax.MLP((16,), (POSITIONS, 2)),
        decoder=vaejax.MLP((16,), PIXELS),
    )


def convolutional() -> VAE:
    encoder = vaejax.ConvolutionalEncoder(channels=(2, 4))
    decoder = vaejax.ConvolutionalDecoder(PIXELS, channels=(4, 2))
    return vaejax.gaussian_vae(
        latent_size=3, encoder=encoder, decoder=decoder, likelihood=vaejax.Bernoulli
    )


# Variances of narrow networks start far from 1 otherwise.
LEVEL = vaejax.normal_head(min_log_variance=-4, max_log_variance=1)


def two_inputs(*output_shape) -> vaejax.networks.Network:
    each = vaejax.networks.merged_network((vaejax.MLP((8,)), vaejax.MLP((4,))))
    return vaejax.networks.compose_networks(each, vaejax.MLP((8,), *output_shape))


def two_layer(top_down: bool) -> VAE:
    """q(z1|x) q(z2|z1) and p(x|z1), or q(z2|x) q(z1|x, z2) and p(x|z1, z2)."""
    encoders = vaejax.MLP((8,)), vaejax.MLP((8,))
    decoders = vaejax.MLP((8,), PIXELS), vaejax.MLP((8,))
    if top_down:
        encoders, decoders = (
            (two_inputs(), encoders[1]),
            (two_inputs(PIXELS), decoders[1]),
        )
    return vaejax.models.two_layer_vae(
        latent_sizes=(3, 2),
        encoders=encoders,
        decoders=decoders,
        posterior=LEVEL,
        prior=LEVEL,
        top_down=top_down,
    )


def ladder(encoder: NetworkLike, decoder: NetworkLike) -> VAE:
    return vaejax.models.ladder_vae(
        latent_sizes=(3, 2, 2),
        encoders=(encoder, vaejax.MLP((8,)), vaejax.MLP((8,))),
        decoders=(decoder, vaejax.MLP((8,)), vaejax.MLP((8,))),
        posterior=LEVEL,
        prior=LEVEL,
    )


def convolutional_ladder() -> VAE:
    encoder = vaejax.ConvolutionalEncoder(channels=(2, 4), hidden_sizes=(8,))
    return ladder(
        encoder, vaejax.ConvolutionalDecoder(PIXELS, channels=(4, 2), hidden_sizes=(8,))
    )


def sentence_vae() -> VAE:
    return vaejax.sequence_vae(
        latent_size=3,
        length=MAX_LENGTH,
        encoder=vaejax.networks.RecurrentEncoder(VOCABULARY, 4, 8),
        decoder=vaejax.networks.CausalConvolutionDecoder(VOCABULARY, 8, (1, 2)),
    )


def tokens(key: Key, num: int) -> Array:
    return sentences(key, num).tokens


# A table of every kind of column, and the same with a third of its cells missing.
COLUMNS = (
    vaejax.distributions.Column("real", shift=-300.0, scale=20.0),
    vaejax.distributions.Column("class", num_classes=3),
    vaejax.distributions.Column("real", step=1.0, lower=18.0, shift=45.0, scale=13.0),
    vaejax.distributions.Column("count", shift=1.0),
    vaejax.distributions.Column("binary"),
    vaejax.distributions.Column("positive", shift=10.0, scale=0.5),
    vaejax.distributions.Column("ordinal", num_classes=4),
)


def rows(key: Key, num: int) -> Array:
    head = vaejax.distributions.mixed_head(COLUMNS)
    row = head.apply((), jnp.zeros(head.num_outputs))
    return jax.jit(jax.vmap(row.sample))(jax.random.split(key, num))


def masked_rows(key: Key, num: int) -> vaejax.distributions.MaskedEvent:
    row_key, mask_key = jax.random.split(key)
    mask = jax.random.bernoulli(mask_key, 2 / 3, (num, len(COLUMNS)))
    values = jnp.where(mask, rows(row_key, num), jnp.nan)
    return vaejax.distributions.MaskedEvent(values, mask)


def table() -> VAE:
    encoder, decoder = vaejax.MLP((16,)), vaejax.MLP((16,))
    return vaejax.models.table_vae(
        COLUMNS, latent_size=2, encoder=encoder, decoder=decoder
    )


def joint() -> VAE:
    """A dict of an image and its label, which may be missing."""
    networks = vaejax.networks
    return vaejax.gaussian_vae(
        latent_size=3,
        encoder=networks.merged_network(
            {"image": vaejax.MLP((16,)), "label": nn.Embed(4, 6)}
        ),
        decoder=networks.branched_network(
            {"image": vaejax.MLP((16,), PIXELS), "label": vaejax.MLP((), (4,))}
        ),
        likelihood=vaejax.distributions.joint_head(
            {
                "image": vaejax.Bernoulli,
                "label": vaejax.distributions.categorical_head(4),
            }
        ),
    )


def labeled_images(key: Key, num: int) -> dict[str, Any]:
    image_key, label_key, mask_key = jax.random.split(key, 3)
    labels = jax.random.randint(label_key, (num,), 0, 4)
    is_seen = jax.random.bernoulli(mask_key, 0.5, (num,))
    label = vaejax.distributions.MaskedEvent(labels, is_seen)
    return {"image": binary(image_key, num), "label": label}


def multimodal(combine=vaejax.models.product_of_experts) -> VAE:
    """Two parts, any of which may be missing: a product of experts."""
    return vaejax.models.multimodal_vae(
        latent_size=3,
        encoders={"image": vaejax.MLP((16,)), "label": nn.Embed(4, 6)},
        decoders={"image": vaejax.MLP((16,), PIXELS), "label": vaejax.MLP((), (4,))},
        likelihoods={
            "image": vaejax.Bernoulli,
            "label": vaejax.distributions.categorical_head(4),
        },
        combine=combine,
    )


# Interpolation stays under the condition of its first example, and a temperature leaves
# the class as drawn: two examples share a class, and one is nearly certain a priori.
M2 = vaejax.models.semi_supervised_vae(
    conditional,
    classifier=vaejax.MLP((), (2,)),
    num_classes=2,
    class_logits=np.float32([0, 12]),
)


def with_prior_of_class(label: Array) -> VAE:
    return vaejax.models.with_conditional_prior(
        conditional(label), vaejax.MLP((), (2, 2)), label
    )


def in_pairs(key: Key, num: int) -> vaejax.models.Conditioned:
    labels = jax.nn.one_hot(jnp.arange(num) // 2 % 2, 2)
    return vaejax.models.Conditioned(binary(key, num), labels)


def partly_labeled(key: Key, num: int) -> vaejax.models.Conditioned:
    labels, is_labeled = jnp.arange(num) // 2 % 2, jnp.arange(num) < 3
    return vaejax.models.Conditioned(
        binary(key, num), vaejax.distributions.MaskedEvent(labels, is_labeled)
    )


def with_posterior(head: vaejax.Head) -> VAE:
    return vaejax.gaussian_vae(
        latent_size=3,
        encoder=vaejax.MLP((16,)),
        decoder=vaejax.MLP((16,), PIXELS),
        posterior=head,
    )


COUPLING = vaejax.networks.coupling_layers(3, num_layers=2, hidden_sizes=(8,))
FLOWS = {
    "planar": with_posterior(
        vaejax.posteriors.flow_head(vaejax.networks.planar_layers(3, num_layers=2))
    ),
    "sylvester": with_posterior(
        vaejax.posteriors.flow_head(
            vaejax.networks.sylvester_layers(3, num_layers=2, num_reflections=2)
        )
    ),
    "autoregressive_flow": with_posterior(
        vaejax.posteriors.flow_head(
            vaejax.networks.inverse_autoregressive_layers(
                3, num_layers=2, hidden_sizes=(8,), num_context=1
            )
        )
    ),
    "coupling_flows": vaejax.priors.with_flow_prior(
        with_posterior(vaejax.posteriors.flow_head(COUPLING)), COUPLING
    ),
}
PER_LEVEL = vaejax.objectives.kl_per_level


def of_twenty_lines() -> VAE:
    """A prior, a posterior and a likelihood of a user's own."""
    vae = vaejax.gaussian_vae(
        latent_size=3,
        encoder=vaejax.MLP((16,)),
        decoder=vaejax.MLP((16,), PIXELS),
        likelihood=twenty_lines.exponential_head,
        posterior=twenty_lines.gumbel_head,
    )
    return twenty_lines.with_logistic_prior(vae, 3)


def positive(key: Key, num: int) -> Array:
    return jax.random.exponential(key, (num, *PIXELS))


def of_numpyro() -> VAE:
    """A mixture as the prior, Student's t as the posterior, counts with extra zeros."""

    def counts(rate: Array, gate: Array) -> vaejax.base.Distribution:
        return vaejax.distributions.from_numpyro(
            numpyro.ZeroInflatedNegativeBinomial2(
                mean=jax.nn.softplus(rate), concentration=2.0, gate_logits=gate
            )
        )

    def student(location: Array, log_scale: Array) -> vaejax.base.Distribution:
        return vaejax.distributions.from_numpyro(
            numpyro.StudentT(5.0, location, jnp.exp(log_scale))
        )

    def prior(params: Params) -> vaejax.base.Distribution:
        return vaejax.distributions.from_numpyro(
            numpyro.MixtureSameFamily(
                numpyro.Categorical(logits=jnp.zeros(2)),
                numpyro.Normal(
                    jnp.array([[-1.0], [1.0]]) + jnp.zeros((2, 3)), 1.0
                ).to_event(1),
            )
        )

    head = vaejax.distributions.parameter_free_head
    return vaejax.gaussian_vae(
        latent_size=3,
        encoder=vaejax.MLP((16,)),
        decoder=vaejax.MLP((16,), (*PIXELS, 2)),
        likelihood=head(counts, num_parameters=2),
        posterior=head(student, num_parameters=2),
    )._replace(prior=prior)


def counts(key: Key, num: int) -> Array:
    return jax.random.poisson(key, 2.0, (num, *PIXELS))


def spherical() -> VAE:
    vae = vaejax.gaussian_vae(
        latent_size=3,
        encoder=vaejax.MLP((16,)),
        decoder=vaejax.MLP((16,), PIXELS),
        posterior=vaejax.distributions.von_mises_fisher_head(),
    )
    return vaejax.priors.with_spherical_prior(vae, latent_size=3)


CASES = [
    Case("mlp_bernoulli", mlp_vae(), binary),
    Case("mlp_normal", mlp_vae(vaejax.Normal, num_parameters=2), real, slow=True),
    Case(
        "shared_variance",
        mlp_vae(vaejax.distributions.shared_variance_normal_head()),
        real,
        slow=True,
    ),
    Case(
        "logistic_mixture",
        mlp_vae(
            vaejax.distributions.discretized_logistic_mixture_head(2), num_parameters=6
        ),
        pixels,
        slow=True,
    ),
    Case("convolutional", convolutional(), binary, slow=True),
    Case("sentences", sentence_vae(), tokens, example_point=latent.mode, slow=True),
    Case("linear_gaussian", linear_gaussian(), real, slow=True),
    Case("table", table(), rows, slow=True),
    Case(
        "masked_table",
        table(),
        masked_rows,
        sample_like=lambda x: x.values,
        slow=True,
    ),
    Case(
        "mixture_prior",
        with_mixture_prior(mlp_vae(), 4),
        binary,
        kl_fn=vaejax.kl_monte_carlo,
        slow=True,
    ),
    Case(
        "vamp_prior",
        with_vamp_prior(mlp_vae(), 4),
        binary,
        kl_fn=vaejax.kl_monte_carlo,
        slow=True,
    ),
    Case(
        "flow_posterior",
        with_flow_posterior(mlp_vae()),
        binary,
        kl_fn=vaejax.kl_monte_carlo,
        latent_point=latent.draw,
        slow=True,
    ),
    Case(
        "full_covariance",
        with_posterior(vaejax.distributions.full_covariance_normal_head(3)),
        binary,
        slow=True,
    ),
    *(
        Case(
            name,
            vae,
            binary,
            kl_fn=vaejax.kl_monte_carlo,
            latent_point=latent.draw,
            slow=True,
        )
        for name, vae in FLOWS.items()
    ),
    Case("hierarchical", hierarchical(), binary, kl_fn=kl_per_level),
    Case(
        "two_layer",
        two_layer(False),
        binary,
        kl_fn=PER_LEVEL,
        slow=True,
        num_decoded=3,
    ),
    Case("two_layer_top_down", two_layer(True), binary, kl_fn=PER_LEVEL, slow=True),
    Case(
        "ladder",
        ladder(vaejax.MLP((8,)), vaejax.MLP((8,), PIXELS)),
        binary,
        kl_fn=PER_LEVEL,
        slow=True,
        num_decoded=3,
    ),
    Case(
        "convolutional_ladder",
        convolutional_ladder(),
        binary,
        kl_fn=PER_LEVEL,
        slow=True,
        num_decoded=3,
    ),
    Case("twenty_lines", of_twenty_lines(), positive, kl_fn=vaejax.kl_monte_carlo),
    Case("sequence", sequence(), sentences, example_point=latent.mode, slow=True),
    Case(
        "conditional",
        conditional(jnp.array([1.0, 0.0])),
        images_and_contexts,
        objective=vaejax.models.conditional(vaejax.negative_elbo, conditional),
        x_of=lambda example: example.x,
        slow=True,
    ),
    Case(
        "conditional_prior",
        vaejax.models.conditional_vae(
            with_prior_of_class, condition=np.float32([0, 1])
        ),
        in_pairs,
        sample_like=lambda example: example.x,
        slow=True,
    ),
    Case(
        "conditional_vae",
        vaejax.models.conditional_vae(conditional, condition=np.float32([0, 1])),
        in_pairs,
        sample_like=lambda example: example.x,
        slow=True,
    ),
    Case(
        "joint",
        joint(),
        labeled_images,
        sample_like=lambda x: x | {"label": x["label"].values},
        slow=True,
    ),
    Case(
        "multimodal",
        multimodal(),
        labeled_images,
        sample_like=lambda x: x | {"label": x["label"].values},
        slow=True,
    ),
    Case(
        "mixture_of_experts",
        multimodal(vaejax.models.mixture_of_experts),
        labeled_images,
        kl_fn=vaejax.kl_monte_carlo,
        sample_like=lambda x: x | {"label": x["label"].values},
        slow=True,
    ),
    Case(
        "semi_supervised",
        M2,
        partly_labeled,
        kl_fn=vaejax.kl_monte_carlo,
        objective=partial(
            vaejax.objectives.negative_semi_supervised_elbo, M2, alpha=1.0
        ),
        sample_like=lambda example: example.x,
        slow=True,
    ),
    Case("numpyro", of_numpyro(), counts, kl_fn=vaejax.kl_monte_carlo, slow=True),
    Case(
        "spherical",
        spherical(),
        binary,
        latent_point=latent.mode,
        path=latent.spherical_path,
        slow=True,
    ),
    Case(
        "vq_vae",
        vq_vae(),
        binary,
        kl_fn=vaejax.objectives.vector_quantization_terms,
        stochastic=False,
        optimizer=standard_promotion(VQ_OPTIMIZER),
        path=jump,
    ),
    Case(
        "autoregressive_prior",
        vaejax.priors.with_autoregressive_prior(
            vq_vae(), vaejax.networks.CausalConvolutionDecoder(CODES, 8, dilations=(1,))
        ),
        binary,
        kl_fn=vaejax.objectives.vector_quantization_terms,
        stochastic=False,
        optimizer=standard_promotion(VQ_OPTIMIZER),
        path=jump,
        slow=True,
    ),
    Case(
        "fsq_vae",
        fsq_vae(),
        binary,
        kl_fn=vaejax.kl_monte_carlo,
        stochastic=False,
        path=jump,
        slow=True,
    ),
    Case(
        "gumbel_softmax",
        categorical_vae(0.7),
        binary,
        kl_fn=vaejax.objectives.kl_of_categoricals,
        latent_point=latent.draw,
        slow=True,
    ),
    Case(
        "straight_through",
        categorical_vae(0.7, straight_through=True),
        binary,
        kl_fn=vaejax.objectives.kl_of_categoricals,
        latent_point=latent.draw,
        path=jump,
        slow=True,
    ),
    Case(
        "bernoulli_latents",
        BINARY_LATENTS,
        binary,
        path=jump,
        objective=partial(
            vaejax.objectives.negative_disarm, BINARY_LATENTS, num_samples=8
        ),
        slow=True,
    ),
]


def marked(case: Case, slow: bool = False):
    """The parameter of a test, a slow one where its row or the test says so."""
    marks = pytest.mark.slow if slow or case.slow else ()
    return pytest.param(case, id=case.name, marks=marks)
