"""Learned priors beside N(0, I): a mixture of Normals, and the VampPrior.

All three models have the same networks, two gated layers on either side, and the same
training but for the prior; the KL is estimated from the sample of z in all of them. The
NLL is bounded by importance sampling, and differences are paired by seed and by image.

Paper: Tomczak & Welling 2018; with stds over seeds Norouzi et al. 2020 (Exemplar VAE).
Command: python -m experiments.vampprior
Published protocol: python -m experiments.vampprior --num-components 500 --epochs 1000
--learning-rate 5e-4 --constant-learning-rate --normalize-gradients
--warm-up-epochs 100 --num-validation 10000 --patience 50 --num-samples 5000
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
)
from vaejax import plots, priors
from vaejax.base import Array

ABOUT = harness.About(
    what="a mixture of Normals and the VampPrior beside N(0, I): paired NLL bounds",
    paper="Tomczak & Welling 2018",
    cost="23 minutes on 2 busy cores, 3 seeds",
    expected="bounds 3 nats lower with the VampPrior, 1 with a mixture",
)

GAUSSIAN, MIXTURE, VAMP = "N(0, I)", "mixture", "VampPrior"
SHOWN = 12  # images of each kind in the figures


@dataclasses.dataclass(frozen=True)
class Config(binary_images.Config):
    num_seeds: int = 3
    """Number of seeds of every model; numbers are mean and std over them."""
    epochs: int = 10
    """Passes over the training data."""
    hidden_size: int = 300
    """Width of each of the two gated layers of encoder and decoder."""
    latent_size: int = 40
    """Dimensions of z."""
    batch_size: int = 100
    """Examples per step."""
    learning_rate: float = 1e-3
    """Initial learning rate of Adam; may be swept."""
    constant_learning_rate: bool = False
    """Keep the learning rate, instead of a decay to 0 by a cosine."""
    normalize_gradients: bool = False
    """Divide the gradient of each array of parameters by its norm before Adam."""
    num_components: int = 100
    """Components of the mixture, and pseudo-inputs of the VampPrior."""
    num_samples: int = 100
    """Importance samples per example of the test NLL."""


def make_experiment(config: Config) -> harness.Comparison:
    train, test = harness.load_images(config)
    shape = train.images.shape[1:]
    hidden = (config.hidden_size, config.hidden_size)
    gaussian = vaejax.gaussian_vae(
        latent_size=config.latent_size,
        encoder=vaejax.GatedMLP(hidden),
        decoder=vaejax.GatedMLP(hidden, shape),
    )
    vaes = {
        GAUSSIAN: gaussian,
        MIXTURE: priors.with_mixture_prior(gaussian, config.num_components),
        VAMP: priors.with_vamp_prior(gaussian, config.num_components),
    }
    arms = {
        name: with_sampled_kl(
            config, binary_images.binary_experiment(config, vae, train, test)
        )
        for name, vae in vaes.items()
    }
    return harness.Comparison(arms)


def with_sampled_kl(config: Config, plain: harness.Experiment) -> harness.Experiment:
    """Return the experiment whose KL is estimated from the sample of z."""
    objective = vaejax.with_transform(
        partial(vaejax.negative_elbo, plain.vae, kl_fn=vaejax.kl_monte_carlo),
        vaejax.binarize,
    )
    loss_fn = vaejax.mean_over_batch(objective)

    def recipe(hyperparameters: Mapping[str, float | Array]) -> harness.Recipe:
        given = plain.recipe(hyperparameters)
        optimizer = given.optimizer
        if config.constant_learning_rate:
            optimizer = optax.adam(hyperparameters["learning_rate"])
        if config.normalize_gradients:
            optimizer = optax.chain(normalize_gradients(), optimizer)
        return given._replace(loss_fn=loss_fn, optimizer=optimizer)

    return plain._replace(
        recipe=recipe,
        kl_fn=vaejax.kl_monte_carlo,
        figures=lambda params, key, history: {},
    )


def normalize_gradients() -> optax.GradientTransformation:
    """Return the transformation that gives the gradient of each array norm 1."""

    def normalized(gradient: Array) -> Array:
        # A gradient of zeros stays as it is.
        norm = jnp.sqrt(jnp.sum(jnp.square(gradient)))
        return gradient / jnp.where(norm > 0, norm, 1)

    return optax.stateless(lambda updates, params: jax.tree.map(normalized, updates))


def analyze(trained: harness.Trained) -> harness.Result:
    """Return the numbers of every prior, and their differences from N(0, I)."""
    arms = trained.experiments
    numbers = {name: evaluation.evaluate(trained, name) for name in arms}
    summaries = {
        name: evaluation.summarize(numbers[name], arm) for name, arm in arms.items()
    }
    differences = {
        name: evaluation.paired(numbers[name], numbers[GAUSSIAN], arm)
        for name, arm in arms.items()
        if name != GAUSSIAN
    }
    relative = {f"{name} minus {GAUSSIAN}": row for name, row in differences.items()}
    first = trained.first_experiment
    less = averages.text(differences[VAMP]["nll"], 2, "+")
    return harness.Result(
        summary={
            "binarization": first.binarization,
            "units": "nats per example",
            "num_components": trained.config.num_components,
            "num_test_examples": first.num_test_examples,
            "test": summaries,
            "difference": differences,
        },
        headline=f"NLL bound {less} nats by the VampPrior",
        about=f"{analysis.protocol(trained)}; {trained.members.describe()}; nats per "
        f"example; {evaluation.ELBO_SAMPLES} samples per example, {first.num_samples} "
        f"of the NLL; {trained.config.num_components} components; differences are "
        "paired by seed",
        header=("prior", *evaluation.COLUMNS),
        rows=evaluation.compared(summaries, relative),
        figures=partial(draw_figures, trained),
        captions={
            "samples": "Prior samples: the mean of p(x|z) with z ~ p(z).",
            "components": "Some components: decoded means of the mixture; the "
            "pseudo-inputs of the VampPrior, and their decoded posterior means.",
            "learning_curves": "Test negative ELBO over training, of one sample. The "
            "band is one standard deviation over seeds.",
        },
    )


def draw_figures(trained: harness.Trained) -> dict[str, Any]:
    """Draw learning curves, prior samples, and some components, of the first seed."""
    samples = figures.samples_of_each(trained, SHOWN)
    components = decoded_components(trained)
    return {
        "learning_curves": figures.over_epochs(
            trained.history,
            "negative_elbo",
            ylabel="test negative ELBO (nats per example)",
        ),
        "samples": plots.image_grid(
            np.stack(list(samples.values())), row_labels=list(samples)
        ),
        "components": plots.image_grid(
            np.stack(list(components.values())), row_labels=list(components)
        ),
    }


def decoded_components(trained: harness.Trained) -> dict[str, np.ndarray]:
    """Return images `[components, height, width]` of some components, by row."""
    num = min(SHOWN, trained.config.num_components)

    def decoded(name: str) -> np.ndarray:
        vae, params = trained.experiments[name].vae, trained.state(name).params
        prior: Any = vae.prior(params)
        means = prior.components.mean[:num]
        return np.asarray(jax.vmap(lambda z: vae.decode(params, z).mean)(means))

    inputs = trained.state(VAMP).params["prior"]["inputs"][:num]
    return {
        MIXTURE: decoded(MIXTURE),
        "pseudo-inputs": np.clip(np.asarray(inputs), 0, 1),
        VAMP: decoded(VAMP),
    }


if __name__ == "__main__":
    cli.train(Config, make_experiment, analyze)
