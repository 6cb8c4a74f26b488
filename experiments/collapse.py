"""Posterior collapse: which latents stay unused, which ways of training use them.

One model of the digits (784-200-z, dynamic binarization) at six latent sizes, each
trained in six ways from the same first parameters, noise and order of the data: the
plain bound; beta rising over the first half of training; beta rising and falling back
four times; free bits, here a floor under each dimension's KL; a capacity, here a KL
pulled to a target that rises over the first half; and an aggressive encoder, whose
decoder learns at every fifth step only in the first half. (The published rule lets the
encoder converge before each step of the decoder; a fixed ratio is what fits a compiled
program and equal numbers of steps.) Learning rate and epochs are the same for all and
tuned for none.

A latent is active if its posterior mean varies over the test set by more than 0.01. A
floor alone can make every latent active: read the number of latents above 0.2 nats
beside it. The estimate of the mutual information of x and z cannot exceed the logarithm
of the number of examples, so it is informative for few latents only.

Papers: Bowman et al. 2016 (rising beta), Fu et al. 2019 (cycles), Kingma et al. 2016
(free bits), Burgess et al. 2018 (capacity), He et al. 2019 (aggressive encoder), Burda
et al. 2016 (active units). Command: python -m experiments.collapse
"""

import dataclasses
from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

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
from experiments.harness.units import disagreements
from vaejax import plots
from vaejax.base import Array
from vaejax.training import TrainState

ABOUT = harness.About(
    what="posterior collapse: six ways of training at six latent sizes",
    paper="Kingma et al. 2016, He et al. 2019 and others",
    cost="25 minutes on 2 cores",
    expected="with 100 latents the plain ELBO uses 22",
)


class Cure(NamedTuple):
    """One way of training; the defaults are the plain bound.

    Attributes:
      shape: course of beta over training: `CONSTANT`, `RISING` or `CYCLICAL`.
      beta: weight of the KL, at the end of its rise.
      minimum: nats that each dimension may carry at no cost.
      gamma: weight of the distance between KL and target.
      target: KL in nats, from the middle of training on; it rises from 0 until there.
      period: steps of the encoder per step of the decoder, in the first half of
        training.
    """

    shape: int = 0
    beta: float = 1.0
    minimum: float = 0.0
    gamma: float = 0.0
    target: float = 0.0
    period: int = 1


CONSTANT, RISING, CYCLICAL = range(3)
MUTUAL_INFORMATION_SAMPLES = 1000
# Nats above which a dimension counts as carrying some: well above what a floor leaves
# in an idle one.
CARRIES = 0.2
# Models whose NLL is corrected by annealing, at most a dozen with three seeds: those
# whose bounds are close, and of whom something is said.
ANNEALED = {"40 latents": ("plain", "warm-up", "cyclical"), "100 latents": ("plain",)}
CURES = {
    "plain": Cure(),
    "warm-up": Cure(shape=RISING),
    "cyclical": Cure(shape=CYCLICAL),
    "free bits": Cure(minimum=0.1),
    "capacity": Cure(beta=0.0, gamma=10.0, target=25.0),
    "aggressive encoder": Cure(period=5),
}


@dataclasses.dataclass(frozen=True)
class Config(harness.Config):
    num_seeds: int = 3
    """Number of seeds of every way of training and latent size; numbers are mean and
    std over them.
    """
    epochs: int = 10
    """Passes over the training data; the learning rate decays to zero over them."""
    latent_sizes: tuple[int, ...] = (2, 5, 10, 20, 40, 100)
    """Dimensions of z, one model for each."""
    hidden_size: int = 200
    """Width of the hidden layers."""
    batch_size: int = 128
    """Examples per step."""
    learning_rate: float = 3e-3
    """Initial learning rate of Adam; decays to 0 by a cosine."""
    num_samples: int = 100
    """Importance samples per example of the test NLL."""
    num_annealed: harness.NonNegativeInt = 64
    """Test examples whose log p(x) is annealed too, for 40 and 100 latents, in the ways
    that the page compares.
    """


def make_experiment(config: Config) -> harness.Comparison:
    if (
        len(set(config.latent_sizes)) < len(config.latent_sizes)
        or min(config.latent_sizes, default=0) < 1
    ):
        raise harness.UsageError(
            f"--latent-sizes are {list(config.latent_sizes)}; give different positive "
            "integers."
        )
    train, test = harness.load_images(config)
    data = binary_images.data_fields(config, train, test)
    num_steps = config.epochs * harness.steps_per_epoch(
        data["train"], config.batch_size
    )

    def arm(name: str, latent_size: int) -> harness.Experiment:
        vae = vaejax.gaussian_vae(
            latent_size=latent_size,
            encoder=vaejax.MLP((config.hidden_size,)),
            decoder=vaejax.MLP((config.hidden_size,), train.images.shape[1:]),
            likelihood=vaejax.Bernoulli,
        )
        vae = model_options.in_compute_dtype(config, vae)
        return harness.Experiment(
            vae=vae,
            recipe=partial(recipe, vae, config.learning_rate, num_steps),
            hyperparameters=CURES["plain"]._asdict(),
            batch_size=config.batch_size,
            num_samples=config.num_samples,
            num_annealed=config.num_annealed if name in ANNEALED else 0,
            **data,
        )

    names = {f"{size} latents": size for size in config.latent_sizes}
    arms = {name: arm(name, size) for name, size in names.items()}
    return harness.Comparison(
        arms, {name: cure._asdict() for name, cure in CURES.items()}
    )


def recipe(
    vae: vaejax.VAE, learning_rate: float, num_steps: int, cure: Mapping[str, Any]
) -> harness.Recipe:
    """Return how a model is trained; those of `cure` may be traced."""
    half = num_steps // 2
    terms_fn = partial(vaejax.elbo_terms, vae, kl_fn=vaejax.kl_per_dimension)

    def combine(means: vaejax.ElboTerms, *, beta: Array, target: Array) -> Array:
        distance = jnp.abs(means.kl - target)
        return (
            vaejax.objectives.free_bits_loss(means, minimum=cure["minimum"], beta=beta)
            + cure["gamma"] * distance
        )

    shapes = (
        lambda step: jnp.ones(()),
        vaejax.training.warm_up(1.0, half),
        vaejax.training.cyclical(1.0, num_steps),
    )

    def beta(step: Array) -> Array:
        values = jnp.stack([shape(step) for shape in shapes])
        return cure["beta"] * values[jnp.asarray(cure["shape"], jnp.int32)]

    def decoder_learns(step: Array) -> Array:
        return (step >= half) | (step % jnp.asarray(cure["period"], jnp.int32) == 0)

    adam = optax.scale_by_adam()
    parts = {"encoder": adam, "decoder": optax.conditionally_mask(adam, decoder_learns)}
    labels = {
        "encoder": "encoder",
        "posterior": "encoder",
        "decoder": "decoder",
        "likelihood": "decoder",
    }
    decay = optax.cosine_decay_schedule(learning_rate, num_steps)
    optimizer = optax.chain(
        optax.partition(parts, labels), optax.scale_by_learning_rate(decay)
    )
    loss_fn = vaejax.loss_of_means(
        vaejax.with_transform(terms_fn, vaejax.binarize), combine
    )
    return harness.Recipe(
        loss_fn,
        optimizer,
        {"beta": beta, "target": vaejax.training.warm_up(cure["target"], half)},
    )


def analyze(trained: harness.Trained) -> harness.Result:
    """Return the numbers of every way of training and latent size, over seeds.

    Their distances to the plain bound are paired by seed.
    """
    members = trained.members
    summaries: dict[str, dict[str, Any]] = {}
    plain: dict[str, dict[str, np.ndarray]] = {}
    for arm, experiment in trained.experiments.items():
        numbers = evaluation.evaluate(trained, arm, annealed=annealed(members, arm))
        plain[arm] = of_way(members, numbers, "plain")
        numbers["mutual_information"] = mutual_information(trained, arm)
        numbers["carrying"] = carrying(members, trained.history[arm])
        summaries[arm] = summarize(experiment, members, numbers)
        trained.check_interrupts()
    experiment = trained.first_experiment
    num_test_examples = experiment.num_test_examples
    return harness.Result(
        summary={
            "binarization": experiment.binarization,
            "units": "nats per example",
            "num_test_examples": num_test_examples,
            "cures": {name: cure._asdict() for name, cure in CURES.items()},
            "test": summaries,
            "plain_minus_40_latents": {
                arm: trust.paired(plain[arm], plain["40 latents"], experiment)
                for arm in plain
                if "40 latents" in plain and arm != "40 latents"
            },
        },
        headline=_headline(summaries),
        about=f"{analysis.protocol(trained)}; {members.describe()}; nats per example; "
        f"{evaluation.ELBO_SAMPLES} samples per example, "
        f"{experiment.num_samples} of the NLL; mutual information between x and z from "
        f"{MUTUAL_INFORMATION_SAMPLES:,} "
        f"samples, at most log {num_test_examples:,} = "
        f"{np.log(num_test_examples):.2f}; differences are paired by "
        f"seed; above {CARRIES}: dimensions whose KL exceeds that over the last "
        "epoch's training batches"
        + disagreements(
            {
                f"{arm}, {cure}": numbers
                for arm, cures in summaries.items()
                for cure, numbers in cures.items()
            }
        ),
        header=(
            "latents, way of training",
            "NLL bound",
            "minus plain",
            "corrected, minus plain",
            "negative ELBO",
            "KL",
            "active units",
            f"above {CARRIES}",
            "mutual information",
        ),
        rows=[
            (f"{arm}, {cure}", *_cells(numbers))
            for arm, cures in summaries.items()
            for cure, numbers in cures.items()
        ],
        figures=partial(figures, summaries, members, trained.history),
        captions={
            "active_units": "Latents whose posterior mean varies by more than 0.01 "
            "over the test set, against "
            "the number of latents. The bands are one standard deviation over seeds.",
            "nll": (
                "Bound on the test NLL against latent size. The bands are one standard "
                "deviation over seeds."
            ),
            "kl_per_dimension": "KL of each dimension in nats, mean over an epoch's "
            "training batches, sorted by "
            "its last value. A row that turns dark has collapsed.",
        },
    )


def mutual_information(trained: harness.Trained, arm: str) -> np.ndarray:
    """Return the mutual information of x and z of every member, `[members]`, in nats.

    See `vaejax.estimators.aggregate_decomposition`.
    """
    experiment, members = trained.experiments[arm], trained.members

    def one(state: TrainState, xs: Array) -> Array:
        key = jax.random.fold_in(state.key, keys.MUTUAL_INFORMATION)
        parts = vaejax.estimators.aggregate_decomposition(
            experiment.vae,
            state.params,
            key,
            xs,
            num_samples=MUTUAL_INFORMATION_SAMPLES,
        )
        return parts.mutual_information.value

    compiled = in_pieces(jax.jit(members.lift(one)), members.num, MEMBERS_AT_ONCE)
    return np.asarray(members.stack(compiled(trained.states[arm], experiment.test)))


def annealed(members: Members, arm: str) -> list[int]:
    """Return the numbers of the members of a model that are annealed."""
    return [
        members.setting_names.index(way) * members.num_seeds + seed
        for way in ANNEALED.get(arm, ())
        for seed in range(members.num_seeds)
    ]


def of_way(
    members: Members, numbers: dict[str, np.ndarray], way: str
) -> dict[str, np.ndarray]:
    """Return the numbers of the seeds of one way of training."""
    index = members.setting_names.index(way)
    return {name: members.of_setting(values, index) for name, values in numbers.items()}


def carrying(members: Members, history: list[dict]) -> np.ndarray:
    """Return how many dimensions carried more than `CARRIES` nats, `[members]`.

    The KL is the mean over the last epoch's training batches.
    """
    kl_terms = np.asarray(history[-1]["train"]["kl_terms"], float).reshape(
        members.num, -1
    )
    return averages.count_above(kl_terms, CARRIES)


def summarize(
    experiment: harness.Experiment, members: Members, numbers: dict[str, np.ndarray]
) -> dict[str, Any]:
    """Return the summary of every way of training.

    `minus_plain` is a difference of two NLL bounds, `corrected_minus_plain` that of two
    NLLs corrected by annealing, where both are.
    """
    parts = {name: of_way(members, numbers, name) for name in members.setting_names}
    differences = {
        name: trust.paired(part, parts["plain"], experiment)
        for name, part in parts.items()
    }
    return {
        name: evaluation.summarize(part, experiment)
        | {
            "mutual_information": averages.over_seeds(part["mutual_information"]),
            "carrying": averages.over_seeds(part["carrying"], above=CARRIES),
            "minus_plain": differences[name]["nll"],
            "corrected_minus_plain": differences[name].get("nll_corrected"),
        }
        for name, part in parts.items()
    }


def _cells(numbers: dict[str, Any]) -> list[str]:
    return [
        averages.text(numbers["nll"], 2),
        averages.text(numbers["minus_plain"], 2, "+"),
        averages.with_error(numbers["corrected_minus_plain"], 2, "+"),
        averages.text(numbers["negative_elbo"], 2),
        averages.text(numbers["kl"], 2),
        averages.text(numbers["active_units"], 1),
        averages.text(numbers["carrying"], 1),
        averages.text(numbers["mutual_information"], 2),
    ]


def _headline(summaries: dict[str, dict[str, Any]]) -> str:
    largest = list(summaries)[-1]
    units = {
        name: averages.text(numbers["active_units"], 1)
        for name, numbers in summaries[largest].items()
    }
    return (
        f"of {largest}, the plain bound uses {units['plain']}, warm-up "
        f"{units['warm-up']}"
    )


def figures(
    summaries: dict[str, dict[str, Any]],
    members: Members,
    history: Mapping[str, list[dict]],
) -> Mapping[str, Any]:
    """Draw active units and NLL against latent size, and each dimension's KL."""
    sizes = [int(arm.split()[0]) for arm in summaries]
    order = np.argsort(sizes)

    def over_sizes(number: str) -> dict[str, np.ndarray]:
        values = {
            cure: [summaries[arm][cure][number]["values"] for arm in summaries]
            for cure in CURES
        }
        return {cure: np.asarray(rows, float)[order] for cure, rows in values.items()}

    sizes_in_order = np.asarray(sizes)[order]
    curves = partial(plots.curves, sizes_in_order, xlabel="latents", log_x=True)
    return {
        "active_units": curves(
            {**over_sizes("active_units"), "all": sizes_in_order}, ylabel="active units"
        ),
        "nll": curves(over_sizes("nll"), ylabel="NLL (nats per example)"),
        "kl_per_dimension": kl_per_dimension(members, history),
    }


def kl_per_dimension(members: Members, history: Mapping[str, list[dict]]) -> Any:
    """Draw the KL of each dimension over training, for the first seed.

    The latent size is that nearest to 40, where there is room to collapse.
    """
    arm = min(history, key=lambda name: abs(int(name.split()[0]) - 40))
    terms = np.asarray([row["train"]["kl_terms"] for row in history[arm]], float)
    terms = terms.reshape(len(terms), members.num, -1)[:, :: members.num_seeds]
    grids = {
        name: terms[:, index].T for index, name in enumerate(members.setting_names)
    }
    return plots.heatmaps(
        {name: grid[np.argsort(-grid[:, -1])] for name, grid in grids.items()},
        xlabel="epoch",
        ylabel="dimension of z, by its KL at the end",
        label="KL (nats)",
        title=f"KL of each of {arm} over training",
    )


if __name__ == "__main__":
    cli.train(Config, make_experiment, analyze)
