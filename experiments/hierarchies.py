"""Levels of a hierarchical latent: which stay in use, climbing and as a ladder.

Four models of the digits with dynamic binarization: one level of latents; two levels
and all levels whose posterior climbs from x, q(z_1|x) q(z_2|z_1) ...; and all levels as
a ladder, whose posterior descends with the prior and is the product of p(z_l|z_(l+1))
and a Normal of x. The last two have the same p(x, z). Each is trained with the plain
bound and with beta rising from 0 over the first epochs, from the same first parameters,
noise and order of the data. A level is in use if its KL is above 0.1 nats; active units
are latents whose posterior mean varies over the test set by more than 0.01, where the
mean of a level is that at the means of the levels before.

Papers: Sonderby et al. 2016 (ladder, warm-up), Burda et al. 2016 (two levels, active
units). Their protocols differ from the defaults in size and length. The ladder's is
--latent-sizes 64 32 16 8 4 --hidden-sizes 512 256 128 64 32 --hidden-layers 2
--batch-size 256 --learning-rate 2e-4 --epochs 2000 --warm-up-epochs 200 --num-samples
5000, but for its batch normalization, which a function of one example cannot have, and
its learning rate, which decays here. Command: python -m experiments.hierarchies
"""

import dataclasses
from collections.abc import Mapping
from functools import partial
from typing import Any

import flax.linen as nn
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
    keys,
    model_options,
    trust,
)
from experiments.harness.members import MEMBERS_AT_ONCE, Members, in_pieces
from vaejax import models, plots
from vaejax.base import Array, Example, Key
from vaejax.objectives import kl_per_level
from vaejax.training import TrainState

ABOUT = harness.About(
    what="levels of latents: climbing posteriors and ladders, with and without warm-up",
    paper="Sonderby et al. 2016, Burda et al. 2016",
    cost="12 minutes on 2 cores, 3 seeds",
    expected="two levels 2.9 nats below one; the ladder fails without warm-up",
)

# Weight of the warm-up in the course of beta.
SETTINGS = {"plain": {"warm_up": 0.0}, "warm-up": {"warm_up": 1.0}}
REFERENCE = "1 level"
# Nats above which a level counts as used.
USED = 0.1


@dataclasses.dataclass(frozen=True)
class Config(harness.Config):
    num_seeds: int = 3
    """Number of seeds of every model, with and without warm-up; numbers are mean and
    std over them.
    """
    epochs: int = 10
    """Passes over the training data; the learning rate decays to zero over them."""
    latent_sizes: tuple[int, ...] = (32, 16, 8)
    """Dimensions of the latents of each level, from the one nearest to x; at least two
    levels.
    """
    hidden_sizes: tuple[int, ...] = (200, 100, 50)
    """Width of the hidden layers of each level, on either side."""
    hidden_layers: int = 1
    """Hidden layers of each level, on either side."""
    batch_size: int = 128
    """Examples per step."""
    learning_rate: float = 2e-3
    """Initial learning rate of Adam; decays to 0 by a cosine."""
    warm_up_epochs: int = 5
    """Epochs over which beta rises from 0, in the models trained with warm-up."""
    num_samples: int = 100
    """Importance samples per example of the test NLL."""
    num_annealed: harness.NonNegativeInt = 0
    """Test examples whose log p(x) is annealed too, of every model."""


def make_experiment(config: Config) -> harness.Comparison:
    check_sizes(config)
    train, test = harness.load_images(config)
    data = binary_images.data_fields(config, train, test)
    per_epoch = harness.steps_per_epoch(data["train"], config.batch_size)
    num_steps, rise = config.epochs * per_epoch, config.warm_up_epochs * per_epoch
    binary_images.warn_of_late_warm_up(config.warm_up_epochs, config.epochs)

    def arm(vae: vaejax.VAE) -> harness.Experiment:
        vae = model_options.in_compute_dtype(config, vae)
        return harness.Experiment(
            vae=vae,
            recipe=partial(recipe, vae, config.learning_rate, num_steps, rise),
            hyperparameters=SETTINGS["plain"],
            batch_size=config.batch_size,
            num_samples=config.num_samples,
            num_annealed=config.num_annealed,
            kl_fn=kl_per_level,
            **data,
        )

    arms = make_models(config, train.images.shape[1:])
    return harness.Comparison({name: arm(vae) for name, vae in arms.items()}, SETTINGS)


def check_sizes(config: Config) -> None:
    """Raise UsageError unless there are sizes of at least two levels."""
    sizes, hidden = config.latent_sizes, config.hidden_sizes
    if len(sizes) < 2 or min(sizes) < 1:
        raise harness.UsageError(
            f"--latent-sizes are {list(sizes)}; give two positive integers or more."
        )
    if len(hidden) != len(sizes) or min(hidden) < 1:
        raise harness.UsageError(
            f"--hidden-sizes are {list(hidden)} and there are {len(sizes)} latent "
            "sizes; give as many positive integers."
        )


def make_models(config: Config, shape: tuple[int, ...]) -> dict[str, vaejax.VAE]:
    """Return the models by name; every level has the same networks in all of them."""

    def networks(levels: int) -> dict[str, Any]:
        hidden = [(size,) * config.hidden_layers for size in config.hidden_sizes]
        mlp = partial(vaejax.MLP, activation=nn.leaky_relu)
        return {
            "latent_sizes": config.latent_sizes[:levels],
            "encoders": [mlp(sizes) for sizes in hidden[:levels]],
            "decoders": [mlp(hidden[0], shape), *map(mlp, hidden[1:levels])],
        }

    levels = len(config.latent_sizes)
    climbing = {
        f"{count} levels, climbing": models.hierarchical_vae(**networks(count))
        for count in sorted({2, levels})
    }
    ladder = {f"{levels} levels, ladder": models.ladder_vae(**networks(levels))}
    return {REFERENCE: models.hierarchical_vae(**networks(1))} | climbing | ladder


def recipe(
    vae: vaejax.VAE,
    learning_rate: float,
    num_steps: int,
    rise: int,
    setting: Mapping[str, Any],
) -> harness.Recipe:
    """Return how a model is trained; those of `setting` may be traced."""
    ramp = vaejax.training.warm_up(1.0, rise)

    def beta(step: Array) -> Array:
        return 1 - setting["warm_up"] * (1 - ramp(step))

    objective = vaejax.with_transform(
        partial(vaejax.negative_elbo, vae, kl_fn=kl_per_level), vaejax.binarize
    )
    decay = optax.cosine_decay_schedule(learning_rate, num_steps)
    return harness.Recipe(
        vaejax.mean_over_batch(objective), optax.adam(decay), {"beta": beta}
    )


def of_levels(trained: harness.Trained, arm: str) -> tuple[np.ndarray, np.ndarray]:
    """Return KL and active units of each level, `[members, levels]` each.

    The KL is the mean over the test set, in nats.
    """
    experiment, members = trained.experiments[arm], trained.members
    vae = experiment.vae

    def one(state: TrainState, xs: Array) -> tuple[Array, Array]:
        key = jax.random.fold_in(state.key, keys.LEVELS)

        def terms(example: tuple[Key, Example]) -> Array:
            key, x = example
            options = {"num_samples": evaluation.ELBO_SAMPLES, "kl_fn": kl_per_level}
            return vaejax.elbo_terms(vae, state.params, key, x, **options).kl_terms

        each = jax.random.split(key, len(xs)), xs
        kl = jax.lax.map(terms, each, batch_size=evaluation.BATCH_SIZE)
        levels = vaejax.embed(vae, state.params, xs)
        active = jnp.stack([vaejax.active_units(level) for level in levels])
        return jnp.mean(kl, axis=0), active

    compiled = in_pieces(jax.jit(members.lift(one)), members.num, MEMBERS_AT_ONCE)
    found = members.stack(compiled(trained.states[arm], experiment.test))
    kl, active = (np.asarray(values, float) for values in found)
    return (
        evaluation.without_diverged(trained, arm, kl),
        evaluation.without_diverged(trained, arm, active),
    )


def analyze(trained: harness.Trained) -> harness.Result:
    """Return the numbers of every model, whose NLL is paired with that of one level."""
    members = trained.members
    of_reference: dict[str, np.ndarray] = {}
    summaries: dict[str, dict[str, Any]] = {}
    for arm, experiment in trained.experiments.items():
        numbers = evaluation.evaluate(trained, arm)
        kl, active = of_levels(trained, arm)
        for index, setting in enumerate(members.setting_names):
            part = {
                name: members.of_setting(values, index)
                for name, values in numbers.items()
            }
            of_reference = of_reference or part
            summaries[f"{arm}, {setting}"] = evaluation.summarize(part, experiment) | {
                "kl_per_level": over_levels(members.of_setting(kl, index)),
                "active_per_level": over_levels(members.of_setting(active, index)),
                "levels_in_use": averages.over_seeds(
                    averages.count_above(members.of_setting(kl, index), USED),
                    above=USED,
                ),
                "minus_one_level": trust.paired(part, of_reference, experiment),
            }
        trained.check_interrupts()
    experiment = trained.first_experiment
    return harness.Result(
        summary={
            "binarization": experiment.binarization,
            "units": "nats per example",
            "num_test_examples": experiment.num_test_examples,
            "test": summaries,
        },
        headline=_headline(summaries),
        about=f"{analysis.protocol(trained)}; {members.describe()}; nats per example; "
        f"{evaluation.ELBO_SAMPLES} samples per example, {experiment.num_samples} of "
        f"the NLL; differences are to {REFERENCE} with the plain bound, paired by "
        "seed; levels from the one nearest to x",
        header=(
            "model",
            "NLL bound",
            "minus 1 level",
            "negative ELBO",
            "KL",
            "KL of each level",
            "active units of each level",
            f"levels above {USED}",
        ),
        rows=[(name, *_cells(numbers)) for name, numbers in summaries.items()],
        figures=partial(figures, summaries, members, trained.history),
        captions={
            "kl_per_level": "KL of each level over the test set. The error bars are "
            "one standard deviation over seeds.",
            "kl_over_training": "KL of each level in nats, mean over an epoch's "
            "training batches, of the first seed. The lowest row is the level nearest "
            "to x; a row that stays dark is a level out of use.",
        },
    )


def over_levels(values: np.ndarray) -> list[dict[str, Any]]:
    """Return mean and std over seeds of each level of `[seeds, levels]`."""
    return [averages.over_seeds(level) for level in values.T]


def _cells(numbers: dict[str, Any]) -> list[str]:
    return [
        averages.text(numbers["nll"], 2),
        averages.text(numbers["minus_one_level"]["nll"], 2, "+"),
        averages.text(numbers["negative_elbo"], 2),
        averages.text(numbers["kl"], 2),
        *(
            " | ".join(averages.text(level, digits) for level in numbers[name])
            for name, digits in (("kl_per_level", 2), ("active_per_level", 1))
        ),
        averages.text(numbers["levels_in_use"], 1),
    ]


def _headline(summaries: dict[str, dict[str, Any]]) -> str:
    in_use = {
        name: averages.text(numbers["levels_in_use"], 1)
        for name, numbers in summaries.items()
    }
    ladder = next(name for name in summaries if "ladder, warm-up" in name)
    climbing = ladder.replace("ladder", "climbing")
    return (
        f"with warm-up, the ladder uses {in_use[ladder]} levels and the climbing "
        f"posterior {in_use[climbing]}"
    )


def figures(
    summaries: dict[str, dict[str, Any]],
    members: Members,
    history: Mapping[str, list[dict]],
) -> Mapping[str, Any]:
    """Draw the KL of each level at the end, and over training."""
    bars = {
        f"{name}, level {level + 1}": number["values"]
        for name, numbers in summaries.items()
        for level, number in enumerate(numbers["kl_per_level"])
    }
    return {
        "kl_per_level": plots.bars(
            np.asarray(list(bars.values()), float),
            labels=list(bars),
            xlabel="model and level",
            ylabel="KL (nats per example)",
        ),
        "kl_over_training": kl_over_training(members, history),
    }


def kl_over_training(members: Members, history: Mapping[str, list[dict]]) -> Any:
    """Draw the KL of each level over training, for the first seed of each model."""
    grids = {}
    for arm, rows in history.items():
        # The terms of a single level are its KL, and not written.
        means = [row["train"] for row in rows]
        terms = np.asarray([each.get("kl_terms", each["kl"]) for each in means], float)
        terms = terms.reshape(len(terms), members.num, -1)[:, :: members.num_seeds]
        for index, setting in enumerate(members.setting_names):
            # A term that is estimated from draws may be below 0.
            grids[f"{arm}, {setting}"] = np.maximum(terms[:, index].T, 0)
    return plots.heatmaps(
        grids, xlabel="epoch", ylabel="level", label="KL (nats)", columns=2
    )


if __name__ == "__main__":
    cli.train(Config, make_experiment, analyze)
