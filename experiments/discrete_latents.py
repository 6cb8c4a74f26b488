"""Estimators of gradients for discrete latents: the bounds they reach, and their noise.

One model of binary images, one hidden layer on either side of binary latents with a
uniform prior, is trained in five ways for equally many steps from the same order of
the data: REINFORCE with leave-one-out baselines, DisARM and VIMCO, which are unbiased,
with as many samples each; and with latents of two classes, relaxed by Gumbel-softmax
and straight-through, whose temperature falls over training. All are evaluated with
latents that are drawn, not relaxed: by the ELBO and the importance-weighted bound of
the discrete model.

At the parameters that DisARM has reached, gradients to the logits of q(z|x) are drawn
many times by each of the unbiased estimators. Their signal-to-noise ratio is |mean| /
standard deviation over draws, both as vectors over the latents. VIMCO's is that of
another bound, which is tighter with more samples.

Papers: Kool et al. 2019, Dong et al. 2020, Mnih & Rezende 2016, Jang et al. 2017.
Command: python -m experiments.discrete_latents
"""

import dataclasses
from collections.abc import Callable, Mapping
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
)
from vaejax import models, objectives, plots
from vaejax.base import VAE, Array, Key, Objective, Params

ABOUT = harness.About(
    what="binary latents: unbiased and relaxed gradients, their bounds and noise",
    paper="Dong et al. 2020, Jang et al. 2017 and others",
    cost="14 minutes on 2 busy cores, 3 seeds",
    expected="negative ELBO: DisARM 125.5, straight-through 122.6 nats",
)

UNBIASED: dict[str, Callable[..., Any]] = {
    "REINFORCE": objectives.negative_reinforce,
    "DisARM": objectives.negative_disarm,
    "VIMCO": objectives.negative_vimco,
}
# Whether draws of the relaxation are one-hot.
RELAXED = {"Gumbel-softmax": False, "straight-through": True}
MEASURED_AT = "DisARM"
COUNTS = (2, 4, 8, 16, 32)
DRAWS_AT_ONCE = 50


@dataclasses.dataclass(frozen=True)
class Config(harness.Config):
    num_seeds: int = 3
    """Number of seeds of every way of training; numbers are mean and std over them."""
    epochs: int = 10
    """Passes over the training data; the learning rate decays to zero over them."""
    latent_size: int = 50
    """Number of binary latents."""
    hidden_size: int = 200
    """Width of the hidden layer of encoder and decoder."""
    batch_size: int = 128
    """Examples per step."""
    learning_rate: float = 1e-3
    """Initial learning rate of Adam; decays to 0 by a cosine."""
    num_train_samples: int = 4
    """Samples per example of the unbiased estimators, an even number; relaxations have
    as many.
    """
    last_temperature: float = 0.5
    """Temperature at the end of training; it falls from 1, geometrically."""
    num_samples: int = 100
    """Importance samples per example of the test NLL."""
    num_draws: int = 500
    """Gradients drawn of each estimator, example and number of samples."""
    num_examples: int = 32
    """Test examples over which signal-to-noise ratios are averaged."""


def make_experiment(config: Config) -> harness.Comparison:
    if config.num_train_samples % 2:
        raise harness.UsageError(
            f"--num-train-samples is {config.num_train_samples}; give an even number, "
            "since DisARM draws pairs."
        )
    if config.num_draws % DRAWS_AT_ONCE:
        raise harness.UsageError(
            f"--num-draws is {config.num_draws}; give a multiple of {DRAWS_AT_ONCE}."
        )
    if config.last_temperature > 1:
        raise harness.UsageError(
            f"--last-temperature is {config.last_temperature}; give a number up to 1, "
            "where it starts."
        )
    train, test = harness.load_images(config)
    data = binary_images.data_fields(config, train, test)
    num_steps = config.epochs * harness.steps_per_epoch(
        data["train"], config.batch_size
    )

    def arm(
        vae: VAE, objective: Objective, schedules: Mapping[str, Any], kl_fn: Any
    ) -> harness.Experiment:
        return harness.Experiment(
            vae=vae,
            recipe=partial(recipe, objective, num_steps, schedules),
            hyperparameters={"learning_rate": config.learning_rate},
            batch_size=config.batch_size,
            num_samples=config.num_samples,
            kl_fn=kl_fn,
            **data,
        )

    ends = {
        "encoder": vaejax.MLP((config.hidden_size,)),
        "decoder": vaejax.MLP((config.hidden_size,), train.images.shape[1:]),
    }
    binary = models.bernoulli_vae(latent_size=config.latent_size, **ends)
    arms = {
        name: arm(
            binary,
            partial(objective, binary, num_samples=config.num_train_samples),
            {},
            vaejax.kl_closed_form,
        )
        for name, objective in UNBIASED.items()
    }
    family = partial(models.categorical_vae, config.latent_size, 2, **ends)
    # The model that is evaluated draws its classes.
    discrete = family(temperature=None)
    temperature = optax.exponential_decay(1.0, num_steps, config.last_temperature)
    for name, straight_through in RELAXED.items():
        objective = partial(
            relaxed_objective,
            partial(family, straight_through=straight_through),
            config.num_train_samples,
        )
        schedules = {"temperature": temperature}
        arms[name] = arm(discrete, objective, schedules, objectives.kl_of_categoricals)
    return harness.Comparison(arms)


def relaxed_objective(
    family: Callable[..., VAE],
    num_samples: int,
    params: Params,
    key: Key,
    x: Array,
    *,
    temperature: Array,
) -> tuple[Array, vaejax.ElboTerms]:
    """Return the ELBO of relaxed latents, with the KL of their choices."""
    return vaejax.negative_elbo(
        family(temperature=temperature),
        params,
        key,
        x,
        num_samples=num_samples,
        kl_fn=objectives.kl_of_categoricals,
    )


def recipe(
    objective: Objective,
    num_steps: int,
    schedules: Mapping[str, Any],
    hyperparameters: Mapping[str, Any],
) -> harness.Recipe:
    """Return how a model is trained: Adam with a cosine decay."""
    decay = optax.cosine_decay_schedule(hyperparameters["learning_rate"], num_steps)
    loss_fn = vaejax.mean_over_batch(vaejax.with_transform(objective, vaejax.binarize))
    return harness.Recipe(loss_fn, optax.adam(decay), schedules)


def squared_ratio(
    objective: Objective, vae: VAE, num_draws: int, params: Params, key: Key, xs: Array
) -> Array:
    """Return the squared signal-to-noise ratio of gradients to the logits of q(z|x).

    It is the squared norm of the mean gradient, less the part of noise, over the
    variance summed over latents; the mean over examples.
    """
    # An offset of the logits has the gradient of the logits.
    shifted = vaejax.VAE(
        vae.init,
        encode=lambda both, x: vaejax.Bernoulli(
            vae.encode(both[0], x).logits + both[1]
        ),
        prior=lambda both: vae.prior(both[0]),
        decode=lambda both, z: vae.decode(both[0], z),
    )
    offset = jnp.zeros(jnp.shape(vae.prior(params).logits))

    def gradient(key: Key, x: Array) -> Array:
        def loss(offset: Array) -> Array:
            return objective(shifted, (params, offset), key, x)[0]

        return jax.grad(loss)(offset)

    def of_example(example: tuple[Key, Array]) -> Array:
        key, x = example
        draws = jax.lax.map(
            lambda key: gradient(key, x),
            jax.random.split(key, num_draws),
            batch_size=DRAWS_AT_ONCE,
        )
        variance = jnp.sum(jnp.var(draws, axis=0, ddof=1))
        squared_mean = jnp.sum(jnp.square(jnp.mean(draws, axis=0)))
        return (squared_mean - variance / num_draws) / variance

    return jnp.mean(jax.lax.map(of_example, (jax.random.split(key, len(xs)), xs)))


def signal_to_noise(trained: harness.Trained) -> dict[str, dict[str, Any]]:
    """Return the ratio of each unbiased estimator over seeds, by number of samples."""
    config, vae = trained.config, trained.experiments[MEASURED_AT].vae
    xs = jnp.asarray(trained.first_experiment.test[: config.num_examples])
    found: dict[str, dict[str, Any]] = {}
    for name, objective in UNBIASED.items():
        for count in COUNTS:
            program = jax.jit(
                partial(
                    squared_ratio,
                    partial(objective, num_samples=count),
                    vae,
                    config.num_draws,
                )
            )
            squares = []
            for member in range(trained.members.num):
                state = trained.state(MEASURED_AT, member)
                key = jax.random.fold_in(state.key, keys.GRADIENT_NOISE)
                squares.append(float(program(state.params, key, xs)))
                trained.check_interrupts()
            # Where noise hides the mean, the square may be below 0.
            with np.errstate(invalid="ignore"):
                ratios = np.sqrt(np.asarray(squares))
            found.setdefault(name, {})[str(count)] = averages.over_seeds(ratios)
    return found


def analyze(trained: harness.Trained) -> harness.Result:
    """Return the bounds of every way of training, and the noise of the estimators."""
    arms = trained.experiments
    numbers = {name: evaluation.evaluate(trained, name) for name in arms}
    summaries = {
        name: evaluation.summarize(numbers[name], arm) for name, arm in arms.items()
    }
    noise = signal_to_noise(trained)
    rows = [
        (
            name,
            *evaluation.cells(summary),
            *(
                averages.text(noise[name][str(count)], 3) if name in noise else ""
                for count in COUNTS
            ),
        )
        for name, summary in summaries.items()
    ]
    first, config = trained.first_experiment, trained.config
    best = min(
        (name for name in summaries if summaries[name]["nll"]["mean"] is not None),
        key=lambda name: summaries[name]["nll"]["mean"],
        default=MEASURED_AT,
    )
    return harness.Result(
        summary={
            "binarization": first.binarization,
            "units": "nats per example",
            "num_test_examples": first.num_test_examples,
            "test": summaries,
            "signal_to_noise": noise,
            "num_train_samples": config.num_train_samples,
        },
        headline=f"lowest NLL bound: {best}, "
        f"{averages.text(summaries[best]['nll'], 2)} nats",
        about=f"{analysis.protocol(trained)}; {trained.members.describe()}; nats per "
        f"example, of the discrete models; trained with {config.num_train_samples} "
        f"samples; {evaluation.ELBO_SAMPLES} samples per example, {first.num_samples} "
        f"of the NLL; signal-to-noise ratio at the parameters of {MEASURED_AT}, "
        f"{config.num_draws} draws of {config.num_examples} examples",
        header=(
            "trained by",
            *evaluation.COLUMNS,
            *(f"SNR, {count} samples" for count in COUNTS),
        ),
        rows=rows,
        figures=partial(_figures, trained, noise),
        captions={
            "learning_curves": (
                "Test negative ELBO of the discrete models over training."
            ),
            "signal_to_noise": (
                "Signal-to-noise ratio of gradients to the logits of q(z|x), at the "
                f"parameters of {MEASURED_AT}."
            ),
            "samples": "Prior samples: the mean of p(x|z) with z ~ p(z).",
        },
    )


def _figures(trained: harness.Trained, noise: Mapping[str, Any]) -> dict[str, Any]:
    samples = figures.samples_of_each(trained, 10)
    return {
        "learning_curves": figures.over_epochs(
            trained.history,
            "negative_elbo",
            ylabel="test negative ELBO (nats per example)",
        ),
        "signal_to_noise": plots.curves(
            COUNTS,
            {
                name: np.asarray(
                    [of_count["values"] for of_count in counts.values()], float
                )
                for name, counts in noise.items()
            },
            xlabel="samples",
            ylabel="signal-to-noise ratio",
            log_x=True,
            log_y=True,
        ),
        "samples": plots.image_grid(
            np.stack(list(samples.values())),
            title="Prior samples: the mean of p(x|z) with z ~ p(z)",
            row_labels=list(samples),
        ),
    }


if __name__ == "__main__":
    cli.train(Config, make_experiment, analyze)
