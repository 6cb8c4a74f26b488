"""Quantized latents: a learned codebook, with dead codes revived or not, and FSQ.

Binary images become a few codes, each one of a set of vectors: of a VQ-VAE whose
codebook is a moving average of the features assigned to it, with and without the
revival of codes that no feature uses; and of finite scalar quantization, which has no
codebook, with about as many codes. The networks are the same, one hidden layer on
either side. Afterwards an autoregressive prior, causal convolutions over the codes in
order, is fitted to the codes of the training images.

The bound on -log p(x) is the length of the code under the prior plus the loss of the
reconstruction. It is given under the uniform prior of training and under the fitted
one, in nats and in bits per pixel. The perplexity is the number of codes in use.

Papers: van den Oord et al. 2017, Dhariwal et al. 2020 (revival), Mentzer et al. 2024.
Command: python -m experiments.vq
"""

import dataclasses
import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import vaejax
from experiments import harness
from experiments.harness import analysis, averages, binary_images, cli, figures, keys
from vaejax import models, networks, objectives, plots
from vaejax.base import VAE, Array, Key, Params
from vaejax.distributions import code_perplexity
from vaejax.priors import with_autoregressive_prior

ABOUT = harness.About(
    what="quantized latents: VQ-VAE with and without revival, FSQ, a prior over codes",
    paper="van den Oord et al. 2017, Mentzer et al. 2024",
    cost="7 minutes on 2 cores, 3 seeds",
    expected="bound under the fitted prior: VQ-VAE 116.3, FSQ 121.0 nats",
)

REVIVED, PLAIN, FSQ = "VQ, revived", "VQ", "FSQ"
MAPPED = 500  # examples encoded together
NUMBERS = {
    "reconstruction": "-log p(x|z)",
    "code_uniform": "code, uniform prior",
    "code_fitted": "code, fitted prior",
    "bound": "bound, fitted prior",
    "bits_per_dimension": "bits per pixel",
    "perplexity": "codes in use",
}


@dataclasses.dataclass(frozen=True)
class Config(harness.Config):
    num_seeds: int = 3
    """Number of seeds of every quantizer; numbers are mean and std over them."""
    epochs: int = 10
    """Passes over the training data; the learning rate decays to zero over them."""
    num_positions: int = 16
    """Number of codes of an image."""
    num_codes: int = 64
    """Number of vectors in the codebook."""
    code_size: int = 8
    """Size of a vector of the codebook."""
    levels: tuple[int, ...] = (8, 8)
    """Levels of each dimension of FSQ; their product is the number of codes."""
    hidden_size: int = 400
    """Width of the hidden layer of encoder and decoder."""
    batch_size: int = 128
    """Examples per step, of the networks and of the prior."""
    learning_rate: float = 1e-3
    """Initial learning rate of Adam; decays to 0 by a cosine."""
    commitment: harness.NonNegativeFloat = 0.25
    """Weight of the distance between features and their vectors."""
    decay: float = 0.99
    """Weight of the past in the codebook's moving average, below 1."""
    prior_epochs: int = 5
    """Passes over the training codes that fit the autoregressive prior."""
    prior_size: int = 64
    """Width of the prior's causal convolutions."""


def make_experiment(config: Config) -> harness.Comparison:
    if config.decay >= 1:
        raise harness.UsageError(
            f"--decay is {config.decay}; give a number below 1, such as 0.99."
        )
    if config.num_codes < 2 or not config.levels or min(config.levels) < 2:
        raise harness.UsageError(
            f"--num-codes is {config.num_codes} and --levels {list(config.levels)}; "
            "give at least 2 codes, and 2 levels in each dimension."
        )
    train, test = harness.load_images(config)
    data = binary_images.data_fields(config, train, test)
    num_steps = config.epochs * harness.steps_per_epoch(
        data["train"], config.batch_size
    )
    vaes = quantized_vaes(config, train.images.shape[1:])

    def arm(name: str) -> harness.Experiment:
        is_fsq = name == FSQ
        kl_fn = (
            vaejax.kl_monte_carlo
            if is_fsq
            else partial(
                objectives.vector_quantization_terms, commitment=config.commitment
            )
        )
        return harness.Experiment(
            vae=vaes[name],
            recipe=partial(recipe, config, name, vaes[name], kl_fn, num_steps),
            hyperparameters={"learning_rate": config.learning_rate},
            batch_size=config.batch_size,
            kl_fn=vaejax.kl_monte_carlo,
            **data,
        )

    return harness.Comparison({name: arm(name) for name in vaes})


def quantized_vaes(config: Config, image_shape: tuple[int, ...]) -> dict[str, VAE]:
    """Return the models, which differ in their quantizer; two are the same one."""

    def ends(size: int) -> dict[str, Any]:
        return {
            "encoder": vaejax.MLP((config.hidden_size,), (config.num_positions, size)),
            "decoder": vaejax.MLP((config.hidden_size,), image_shape),
        }

    vq = models.vq_vae(
        num_codes=config.num_codes,
        latent_shape=(config.num_positions, config.code_size),
        **ends(config.code_size),
    )
    fsq = models.fsq_vae(
        levels=config.levels,
        positions=(config.num_positions,),
        **ends(len(config.levels)),
    )
    return {REVIVED: vq, PLAIN: vq, FSQ: fsq}


def recipe(
    config: Config,
    name: str,
    vae: VAE,
    kl_fn: Any,
    num_steps: int,
    hyperparameters: Mapping[str, Any],
) -> harness.Recipe:
    """Return how a model is trained: Adam, and the moving average of a codebook."""
    objective = partial(vaejax.negative_elbo, vae, kl_fn=kl_fn)
    loss_fn = vaejax.mean_over_batch(vaejax.with_transform(objective, vaejax.binarize))
    decay = optax.cosine_decay_schedule(hyperparameters["learning_rate"], num_steps)
    optimizer = optax.adam(decay)
    if name == FSQ:
        return harness.Recipe(loss_fn, optimizer)
    if name == REVIVED:
        loss_fn = objectives.with_revived_codes(
            loss_fn, vae, decay=config.decay, transform=vaejax.binarize
        )
    return harness.Recipe(
        loss_fn, models.codebook_optimizer(optimizer, decay=config.decay)
    )


def make_prior_fit(
    config: Config, vae: VAE, num_codes: int, images: Any, x: Array
) -> tuple[VAE, Callable[[Params, Key], Params]]:
    """Return the model with an autoregressive prior, and the fit of that prior.

    The fit takes parameters of the model without it, and returns those with a prior
    that is fitted to the codes of the training images.
    """
    network = networks.CausalConvolutionDecoder(
        num_codes, config.prior_size, dilations=(1, 2, 4, 8)
    )
    vae = with_autoregressive_prior(vae, network)
    images = jnp.asarray(images)
    per_epoch = max(len(images) // config.batch_size, 1)
    optimizer = optax.adam(
        optax.cosine_decay_schedule(3e-3, config.prior_epochs * per_epoch)
    )
    init, codes_of = jax.jit(vae.init), jax.jit(partial(training_codes, vae))

    def loss(own: Params, params: Params, batch: Array) -> Array:
        prior = vae.prior(params | {"prior": own})
        return -jnp.mean(jax.vmap(prior.distribution.log_prob)(batch))

    @jax.jit
    def epoch(carry: Any, params: Params, codes: Array, key: Key) -> Any:
        def step(carry: Any, batch: Array) -> tuple[Any, None]:
            own, state = carry
            gradient = jax.grad(loss)(own, params, batch)
            updates, state = optimizer.update(gradient, state, own)
            return (optax.apply_updates(own, updates), state), None

        order = jax.random.permutation(key, len(codes))
        order = order[: per_epoch * config.batch_size]
        return jax.lax.scan(step, carry, codes[order.reshape(per_epoch, -1)])[0]

    def fit(params: Params, key: Key) -> Params:
        init_key, binarize_key, order_key = jax.random.split(key, 3)
        own = init(init_key, x)["prior"]
        codes = codes_of(params | {"prior": own}, binarize_key, images)
        carry = own, optimizer.init(own)
        for each in jax.random.split(order_key, config.prior_epochs):
            carry = epoch(carry, params, codes, each)
        return params | {"prior": carry[0]}

    return vae, fit


def training_codes(vae: VAE, params: Params, key: Key, images: Array) -> Array:
    """Return the codes of training images, binarized once."""

    def one(example: tuple[Key, Array]) -> Array:
        return vae.encode(params, vaejax.binarize(*example)).indices

    each = jax.random.split(key, len(images)), images
    return jax.lax.map(one, each, batch_size=MAPPED)


def numbers_of(vae: VAE, fitted: VAE, params: Params, xs: Array) -> dict[str, Array]:
    """Return the numbers of a model on the test set, in nats but for the last two."""

    def one(x: Array) -> tuple[Array, Array, Array, Array]:
        posterior = vae.encode(params, x)
        z = posterior.mean
        return (
            -vae.decode(params, z).log_prob(x),
            -vae.prior(params).log_prob(z),
            -fitted.prior(params).log_prob(z),
            posterior.indices,
        )

    *terms, indices = jax.lax.map(one, xs, batch_size=MAPPED)
    reconstruction, uniform, length = (jnp.mean(term) for term in terms)
    bound = reconstruction + length
    num_codes = vae.prior(params).quantizer.num_codes
    values = (
        reconstruction,
        uniform,
        length,
        bound,
        bound / (xs[0].size * math.log(2)),
        code_perplexity(indices, num_codes),
    )
    return dict(zip(NUMBERS, values, strict=True))


def analyze(trained: harness.Trained) -> harness.Result:
    """Return reconstructions, code lengths and codes in use of each quantizer."""
    config, first = trained.config, trained.first_experiment
    summaries, priors = {}, {}
    for name, experiment in trained.experiments.items():
        prior: Any = experiment.vae.prior(trained.state(name).params)
        fitted, fit = make_prior_fit(
            config,
            experiment.vae,
            prior.quantizer.num_codes,
            experiment.train,
            experiment.test[0],
        )
        measure = jax.jit(partial(numbers_of, experiment.vae, fitted))
        found = []
        for member in range(trained.members.num):
            state = trained.state(name, member)
            params = fit(state.params, jax.random.fold_in(state.key, keys.CODES))
            priors.setdefault(name, (fitted, params))
            found.append(jax.device_get(measure(params, jnp.asarray(experiment.test))))
            trained.check_interrupts()
        summaries[name] = {
            number: averages.over_seeds(np.array([each[number] for each in found]))
            for number in NUMBERS
        }
    rows = [
        (
            name,
            *(
                averages.text(summary[number], 4 if "bits" in number else 2)
                for number in NUMBERS
            ),
        )
        for name, summary in summaries.items()
    ]
    best = min(summaries, key=lambda name: summaries[name]["bound"]["mean"] or math.inf)
    return harness.Result(
        summary={
            "binarization": first.binarization,
            "units": "nats per example",
            "num_test_examples": first.num_test_examples,
            "test": summaries,
        },
        headline=f"lowest bound: {best}, "
        f"{averages.text(summaries[best]['bound'], 2)} nats",
        about=f"{analysis.protocol(trained)}; {trained.members.describe()}; nats per "
        f"example; {config.num_positions} codes per image, {config.num_codes} in the "
        f"codebook, {math.prod(config.levels)} of FSQ",
        header=("quantizer", *NUMBERS.values()),
        rows=rows,
        figures=partial(_figures, trained, priors),
        captions={
            "learning_curves": "Test bound under the uniform prior over training.",
            "reconstructions": "Test images as the models see them, and their decode.",
            "samples": "Decodes of codes drawn from the fitted prior.",
        },
    )


def _figures(trained: harness.Trained, priors: Mapping[str, Any]) -> dict[str, Any]:
    originals = jnp.asarray(trained.first_experiment.test[:10])
    reconstructions, samples = {"x": originals}, {}
    for name, (vae, params) in priors.items():
        draw_key, sample_key = jax.random.split(
            jax.random.fold_in(trained.state(name).key, keys.FIGURES)
        )
        reconstructions[name] = vaejax.reconstruct(vae, params, draw_key, originals)
        samples[name] = jax.jit(partial(vaejax.sample, vae, num=10))(params, sample_key)
    grids = {"reconstructions": reconstructions, "samples": samples}
    return {
        "learning_curves": figures.over_epochs(
            trained.history,
            "negative_elbo",
            ylabel="test bound, uniform prior (nats per example)",
        )
    } | {
        title: plots.image_grid(
            np.stack([np.asarray(images) for images in grid.values()]),
            title=title.capitalize(),
            row_labels=list(grid),
        )
        for title, grid in grids.items()
    }


if __name__ == "__main__":
    cli.train(Config, make_experiment, analyze)
