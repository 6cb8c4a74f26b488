"""Posteriors by normalizing flows beside a Normal with independent dimensions.

Five models of binary images have the same networks, two hidden layers on either side,
the same prior N(0, I) and the same training; only q(z|x) differs. It is a diagonal
Normal, as it is or moved by layers of a flow. The encoder makes planar and Sylvester
layers for each image, from further outputs of its last layer. Coupling layers (RealNVP)
and inverse autoregressive ones (IAF) are networks that all images share, and see some
numbers per dimension from the encoder. The KL is estimated from the sample of z in all
models.

The gap is the negative ELBO minus the NLL bound, at most KL(q(z|x) || p(z|x)): what the
family of posteriors and its encoder cost. Differences are paired by seed.

Papers: Rezende & Mohamed 2015 (planar), van den Berg et al. 2018 (Sylvester), Dinh et
al. 2017 (RealNVP), Kingma et al. 2016 (IAF). Command: python -m experiments.flows
Sizes and lengths of van den Berg et al., whose networks have gated convolutions:
python -m experiments.flows --latent-size 64 --epochs 2000 --adamax
--learning-rate 5e-4 --constant-learning-rate --warm-up-epochs 100
--num-validation 10000 --patience 100 --num-samples 5000
"""

import dataclasses
from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import vaejax
from experiments import harness
from experiments.harness import (
    analysis,
    averages,
    binary_images,
    cli,
    evaluation,
    figures,
    keys,
    model_options,
)
from vaejax import networks, plots, posteriors
from vaejax.base import Array, Distribution, Head, Key, Params, draw
from vaejax.distributions import normal_head

ABOUT = harness.About(
    what="posteriors by flows beside a diagonal Normal: bounds, and the gap they close",
    paper="Rezende & Mohamed 2015, van den Berg et al. 2018",
    cost="15 minutes of training on 2 busy cores, 3 seeds",
    expected="negative ELBO less a diagonal Normal: Sylvester -2.2, RealNVP -1.8 nats",
)

DIAGONAL = "diagonal Normal"
# Numbers of the table, with their decimals.
DIGITS = {
    "negative_elbo": 2,
    "log_likelihood": 2,
    "kl": 2,
    "nll": 2,
    "gap": 2,
    "active_units": 1,
    "units_by_kl": 1,
}
MEANINGS = evaluation.MEANINGS | {"gap": ("gap", "negative ELBO minus NLL bound")}
SHOWN, DRAWS = 6, 1000  # images, and draws of each q(z|x), in the figure


@dataclasses.dataclass(frozen=True)
class Config(harness.Config):
    num_seeds: int = 3
    """Number of seeds of every posterior; numbers are mean and std over them."""
    epochs: int = 10
    """Passes over the training data."""
    latent_size: int = 20
    """Dimensions of z, at least 2."""
    hidden_size: int = 300
    """Width of each of the two hidden layers of encoder and decoder."""
    num_layers: int = 4
    """Layers of each flow."""
    num_reflections: int = 8
    """Householder reflections of each Sylvester layer."""
    flow_size: int = 100
    """Width of the hidden layer of each coupling and inverse autoregressive layer."""
    num_context: harness.NonNegativeInt = 1
    """Numbers per dimension that coupling and inverse autoregressive layers see from
    the encoder.
    """
    batch_size: int = 100
    """Examples per step."""
    learning_rate: float = 1e-3
    """Initial learning rate of Adam; decays to 0 by a cosine."""
    constant_learning_rate: bool = False
    """Keep the learning rate, instead of a decay to 0 by a cosine."""
    adamax: bool = False
    """Train by Adamax, instead of Adam."""
    warm_up_epochs: harness.NonNegativeInt = 0
    """Epochs over which the weight of the KL rises linearly from 0."""
    num_samples: int = 100
    """Importance samples per example of the test NLL."""


def make_experiment(config: Config) -> harness.Comparison:
    if config.latent_size < 2:
        raise harness.UsageError(
            f"--latent-size is {config.latent_size}; give at least 2, of which a "
            "coupling layer moves a half."
        )
    train, test = harness.load_images(config)
    data = binary_images.data_fields(config, train, test)
    per_epoch = harness.steps_per_epoch(data["train"], config.batch_size)
    binary_images.warn_of_late_warm_up(config.warm_up_epochs, config.epochs)
    hidden = (config.hidden_size, config.hidden_size)

    def arm(posterior: Head) -> harness.Experiment:
        vae = vaejax.gaussian_vae(
            latent_size=config.latent_size,
            encoder=vaejax.MLP(hidden),
            decoder=vaejax.MLP(hidden, train.images.shape[1:]),
            posterior=posterior,
        )
        vae = model_options.in_compute_dtype(config, vae)
        return harness.Experiment(
            vae=vae,
            recipe=partial(recipe, config, vae, per_epoch),
            hyperparameters={"learning_rate": config.learning_rate},
            batch_size=config.batch_size,
            num_samples=config.num_samples,
            kl_fn=vaejax.kl_monte_carlo,
            latent_point=moved_mean,
            **data,
        )

    return harness.Comparison(
        {name: arm(head) for name, head in posterior_heads(config).items()}
    )


def posterior_heads(config: Config) -> dict[str, Head]:
    """Return the posteriors by name, as heads of the encoder."""
    size, num_layers = config.latent_size, config.num_layers
    shared = {
        "num_layers": num_layers,
        "hidden_sizes": (config.flow_size,),
        "num_context": config.num_context,
    }
    flows = {
        "planar": networks.planar_layers(size, num_layers=num_layers),
        "Sylvester": networks.sylvester_layers(
            size, num_layers=num_layers, num_reflections=config.num_reflections
        ),
        "RealNVP": networks.coupling_layers(size, **shared),
        "IAF": networks.inverse_autoregressive_layers(size, **shared),
    }
    heads = {name: posteriors.flow_head(layers) for name, layers in flows.items()}
    return {DIAGONAL: normal_head()} | heads


def recipe(
    config: Config,
    vae: vaejax.VAE,
    per_epoch: int,
    hyperparameters: Mapping[str, float | Array],
) -> harness.Recipe:
    """Return how a model is trained, with `per_epoch` steps an epoch."""
    learning_rate = binary_images.decayed(
        hyperparameters["learning_rate"],
        config.epochs * per_epoch,
        constant=config.constant_learning_rate,
    )
    return binary_images.elbo_recipe(
        vae,
        learning_rate,
        vaejax.training.warm_up(1.0, config.warm_up_epochs * per_epoch),
        kl_fn=vaejax.kl_monte_carlo,
        optimizer=partial(optax.adamax, eps=1e-7) if config.adamax else optax.adam,
    )


def moved_mean(key: Key | None, posterior: Distribution) -> Array:
    """Return the mean of a diagonal Normal, and of a flow where it moves that of it."""
    del key
    flow: Any = posterior
    if not hasattr(flow, "layers"):
        return flow.mean
    z = flow.base.mean
    for layer in flow.layers:
        z, _ = layer.forward(z)
    return z


def analyze(trained: harness.Trained) -> harness.Result:
    """Return the numbers of every posterior, and differences from the diagonal one."""
    arms = trained.experiments
    numbers = {name: with_gap(evaluation.evaluate(trained, name)) for name in arms}
    summaries = {
        name: evaluation.summarize(numbers[name], arm)
        | {"gap": averages.over_seeds(numbers[name]["gap"])}
        for name, arm in arms.items()
    }
    differences = {
        name: evaluation.paired(numbers[name], numbers[DIAGONAL], arm)
        | {"gap": averages.over_seeds(numbers[name]["gap"] - numbers[DIAGONAL]["gap"])}
        for name, arm in arms.items()
        if name != DIAGONAL
    }
    less = {f"{name} minus {DIAGONAL}": row for name, row in differences.items()}
    first, config = trained.first_experiment, trained.config
    return harness.Result(
        summary={
            "binarization": first.binarization,
            "units": "nats per example",
            "num_test_examples": first.num_test_examples,
            "num_layers": config.num_layers,
            "test": summaries,
            "difference": differences,
        },
        headline=_headline(differences),
        about=f"{analysis.protocol(trained)}; {trained.members.describe()}; nats per "
        f"example; {evaluation.ELBO_SAMPLES} samples per example, {first.num_samples} "
        f"of the NLL; flows of {config.num_layers} layers; gap: {MEANINGS['gap'][1]}; "
        "active units of a flow where it moves the mean of its base; differences are "
        "paired by seed",
        header=("posterior", *(MEANINGS[name][0] for name in DIGITS)),
        rows=evaluation.compared(summaries, less, DIGITS),
        figures=partial(draw_figures, trained, summaries),
        captions={
            "learning_curves": "Test negative ELBO over training, of one sample. The "
            "band is one standard deviation over seeds.",
            "gap": "Negative ELBO minus NLL bound, over the test set. The error bars "
            "are one standard deviation over seeds.",
            "posteriors": f"Draws of q(z|x) for the first {SHOWN} test images, one "
            "color each, in the two dimensions of z that are most correlated given x; "
            "r is the mean absolute correlation over these images. Those of the "
            "diagonal Normal are independent, and its r is the noise of the draws.",
        },
    )


def with_gap(numbers: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the numbers of a model with its gap, `[members]`."""
    return numbers | {"gap": numbers["negative_elbo"] - numbers["nll"]}


def _headline(differences: Mapping[str, Mapping[str, Any]]) -> str:
    found = {
        name: difference["negative_elbo"]
        for name, difference in differences.items()
        if difference["negative_elbo"]["mean"] is not None
    }
    if not found:
        return "every flow diverged"
    best = min(found, key=lambda name: found[name]["mean"])
    return (
        f"lowest of the flows: {best}, with a negative ELBO "
        f"{averages.text(found[best], 2, '+')} nats relative to the {DIAGONAL}"
    )


def draw_figures(
    trained: harness.Trained, summaries: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """Draw learning curves, gaps, and posteriors of some images, of the first seed."""
    gaps = [numbers["gap"]["values"] for numbers in summaries.values()]
    panels = correlated_planes(trained)
    num_images = min(SHOWN, trained.first_experiment.num_test_examples)
    return {
        "learning_curves": figures.over_epochs(
            trained.history,
            "negative_elbo",
            ylabel="test negative ELBO (nats per example)",
        ),
        "gap": plots.bars(
            np.asarray(gaps, float),
            labels=list(summaries),
            xlabel="posterior",
            ylabel="gap (nats per example)",
        ),
        "posteriors": plots.scatter(
            panels, np.repeat(np.arange(1, num_images + 1), DRAWS), size=1.0
        ),
    }


def correlated_planes(trained: harness.Trained) -> dict[str, np.ndarray]:
    """Return draws for some images in two dimensions of z, by the title of a panel.

    They are `[images * draws, 2]`, of the first seed of every posterior.
    """
    xs = jnp.asarray(trained.first_experiment.test[:SHOWN])
    panels = {}
    for name, experiment in trained.experiments.items():
        state = trained.state(name)
        key = jax.random.fold_in(state.key, keys.FIGURES)
        draws = np.asarray(
            jax.jit(partial(posterior_draws, experiment.vae))(state.params, key, xs)
        )
        first, second, correlation = most_correlated(draws)
        title = f"{name}: z{first + 1} and z{second + 1}, r = {correlation:.2f}"
        panels[title] = draws[..., [first, second]].reshape(-1, 2)
    return panels


def posterior_draws(vae: vaejax.VAE, params: Params, key: Key, xs: Array) -> Array:
    """Return draws of q(z|x) for each example, `[examples, draws, dimensions]`."""

    def of_example(key: Key, x: Array) -> Array:
        posterior = vae.encode(params, x)
        each = jax.random.split(key, DRAWS)
        return jax.vmap(lambda key: draw(key, posterior))(each)

    return jax.vmap(of_example)(jax.random.split(key, len(xs)), xs)


def most_correlated(draws: np.ndarray) -> tuple[int, int, float]:
    """Return the two dimensions that are most correlated given x, and how much.

    Args:
      draws: `[examples, draws, dimensions]`.

    Returns:
      Both dimensions, the lower one first, and their mean absolute correlation over
      examples.
    """
    of_each = [np.corrcoef(values, rowvar=False) for values in draws]
    strengths = np.triu(np.mean(np.abs(of_each), axis=0), 1)
    first, second = np.unravel_index(np.argmax(strengths), strengths.shape)
    return int(first), int(second), float(strengths[first, second])


if __name__ == "__main__":
    cli.train(Config, make_experiment, analyze)
