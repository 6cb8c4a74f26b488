"""Disentangling: six objectives scored on shapes whose factors are known.

White shapes on black (see experiments/data/sprites.py) have the factors shape, scale,
orientation and two coordinates. The same networks, optimizer, seeds and order of
the data for every method and strength: the plain bound; beta-VAE; a capacity, the KL
pulled to a target that rises over the first half of training; beta-TCVAE with
minibatch-weighted sampling; DIP-VAE-II; and FactorVAE. Posterior means are scored
against the factors. The scores disagree with each other and vary more over seeds than
over methods (Locatello et al. 2019): read the error bars. Nothing is held out, as is
usual with these sets: the grid is the whole population. --data takes other sets
with known factors.

By default a coarse grid at 32 x 32 pixels and dense networks. --protocol paper is
nearer to Locatello et al. 2019: the full grid of dSprites at 64 x 64, convolutions,
batches of 64, Adam at 1e-4 and 300,000 steps; strengths, the capacity's weight and ramp
and FactorVAE's discriminator stay those of the short one. It needs an accelerator.

Papers: Higgins et al. 2017, Burgess et al. 2018, Chen et al. 2018, Kumar et al. 2018,
Kim & Mnih 2018; of the scores, see vaejax/metrics.
Command: python -m experiments.disentangle --num-seeds 8
"""

import dataclasses
import hashlib
import importlib.util
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
from tqdm import tqdm

import vaejax
from experiments import harness
from experiments.data import factor_data, sprites
from experiments.harness import averages, cli, evaluation, keys
from experiments.harness.units import CARRYING_KL, units
from experiments.judges import factor_scores
from vaejax import plots
from vaejax.base import VAE, Array, Params, PyTree
from vaejax.training import TrainState

ABOUT = harness.About(
    what="six objectives and nine scores of disentanglement, on rendered shapes",
    paper="Chen et al. 2018, Locatello et al. 2019",
    cost="40 minutes on 2 cores",
    expected="MIG 0.04 of the plain VAE, 0.17 of beta-TCVAE at strength 8",
)

PLAIN = "plain"
# The capacity's weight; its strength is the target in nats.
CAPACITY_WEIGHT = 100.0
STRENGTHS: Mapping[str, tuple[float, ...]] = {
    PLAIN: (1,),
    "beta-VAE": (2, 4, 8),
    "capacity": (5, 10, 20),
    "beta-TCVAE": (2, 4, 8),
    "DIP-VAE-II": (2, 10, 50),
    "FactorVAE": (10, 30),
}
Method = Literal[
    "plain", "beta-VAE", "capacity", "beta-TCVAE", "DIP-VAE-II", "FactorVAE"
]
ELBO_SAMPLES = 4
DIGITS = {"negative_elbo": 2, "kl": 2, "active_units": 1, "units_by_kl": 1} | {
    name: 2 for name in factor_scores.NAMES
}
MASSES = np.linspace(0.02, 0.98, 9)


@dataclasses.dataclass(frozen=True)
class Config(harness.Config):
    data: str = "sprites"
    """Data set: sprites (rendered here), or a set whose labels are several factors:
    dsprites of the catalogue, or an .npz with train_images and train_labels [images,
    factors].
    """
    epochs: int = 8
    """Passes over the grid."""
    methods: tuple[Method, ...] = tuple(STRENGTHS)
    """Objectives to compare; the plain one is always among them."""
    hidden_size: int = 128
    """Width of the two hidden layers of encoder and decoder."""
    latent_size: int = 10
    """Dimensions of z."""
    batch_size: int = 64
    """Examples per step."""
    learning_rate: float = 1e-3
    """Learning rate of Adam."""
    protocol: Literal["short", "paper"] = "short"
    """Protocol: short, or paper: grid, networks, learning rate, batch size and steps of
    Locatello et al. 2019.
    """


def population_of(config: Config) -> factor_data.Population:
    """Return the images that --data and --protocol name."""
    if config.data != "sprites":
        return factor_data.loaded(config)
    return factor_data.rendered(
        sprites.FULL if config.protocol == "paper" else sprites.COARSE
    )


def networks_of(config: Config, image_shape: tuple[int, ...]) -> tuple[Any, Any, float]:
    """Return encoder, decoder and learning rate."""
    if config.protocol == "paper":
        channels = (32, 32, 64, 64)
        encoder = vaejax.ConvolutionalEncoder(channels, (256,))
        return (
            encoder,
            vaejax.ConvolutionalDecoder(
                image_shape, channels=channels[::-1], hidden_sizes=(256,)
            ),
            1e-4,
        )
    hidden = (config.hidden_size,) * 2
    return vaejax.MLP(hidden), vaejax.MLP(hidden, image_shape), config.learning_rate


def make_experiment(config: Config) -> harness.Comparison:
    if importlib.util.find_spec("sklearn") is None:
        raise harness.UsageError(
            "the DCI scores need scikit-learn; install the extra: pip install "
            "'vaejax[analysis]'."
        )
    if config.num_validation or config.compute_dtype != "float32":
        raise harness.UsageError(
            "--num-validation and --compute-dtype are not for this experiment; leave "
            "them out."
        )
    if config.protocol == "paper":
        given = (config.hidden_size, config.learning_rate)
        if given != (Config.hidden_size, Config.learning_rate):
            raise harness.UsageError(
                "--protocol paper has its own networks and rate; leave out what says "
                "otherwise."
            )
    population = population_of(config)
    steps_per_epoch = harness.steps_per_epoch(population.train, config.batch_size)
    if config.protocol == "paper":
        wanted = -(-300_000 // max(len(population.train) // 64, 1))
        if (config.batch_size, config.epochs) != (64, wanted):
            raise harness.UsageError(
                f"--protocol paper: give --batch-size 64 --epochs {wanted}, which are "
                "300,000 steps."
            )
    encoder, decoder, learning_rate = networks_of(config, population.image_shape)
    num_steps = config.epochs * steps_per_epoch
    digest = hashlib.sha256(
        np.asarray(population.test).tobytes() + population.factors.tobytes()
    ).hexdigest()
    arms = {}
    for method in (
        PLAIN,
        *[name for name in STRENGTHS if name in config.methods and name != PLAIN],
    ):
        for strength in STRENGTHS[method]:
            name = method if method == PLAIN else f"{method} {strength:g}"
            vae = vaejax.gaussian_vae(
                latent_size=config.latent_size, encoder=encoder, decoder=decoder
            )
            if method == "FactorVAE":
                vae = vaejax.objectives.with_discriminator(vae, DISCRIMINATOR)
            arms[name] = harness.Experiment(
                vae=vae,
                recipe=lambda _, method=method, strength=strength, vae=vae: recipe(
                    method,
                    strength,
                    vae,
                    population.as_images,
                    len(population.train),
                    num_steps,
                    learning_rate,
                ),
                hyperparameters={},
                batch_size=config.batch_size,
                train=population.train,
                test=population.test,
                data_checksum=digest,
                binarization="none",
            )
    return harness.Comparison(arms, context=population)


DISCRIMINATOR = vaejax.MLP((256, 256, 256), (1,))


def recipe(
    method: str,
    strength: float,
    vae: VAE,
    as_images: Callable,
    num_examples: int,
    num_steps: int,
    learning_rate: float,
) -> harness.Recipe:
    """Return how a method trains; `as_images` turns batches into images."""
    optimizer, named = optax.adam(learning_rate), {}
    if method in (PLAIN, "beta-VAE"):
        loss_fn = vaejax.mean_over_batch(
            partial(vaejax.negative_elbo, vae, beta=strength)
        )
    elif method == "capacity":
        combine = partial(vaejax.objectives.capacity_loss, gamma=CAPACITY_WEIGHT)
        loss_fn = vaejax.loss_of_means(partial(vaejax.elbo_terms, vae), combine)
        named = {"target": vaejax.training.warm_up(strength, num_steps // 2)}
    elif method == "beta-TCVAE":
        loss_fn = partial(
            vaejax.objectives.beta_tcvae_loss(vae, dataset_size=num_examples),
            beta=strength,
        )
    elif method == "DIP-VAE-II":
        loss_fn = vaejax.objectives.dip_vae_loss(
            vae, covariance=vaejax.objectives.covariance_of_aggregate
        )
        loss_fn = partial(
            loss_fn, lambda_off_diagonal=strength, lambda_diagonal=strength
        )
    else:
        loss_fn = partial(
            vaejax.objectives.factor_vae_loss(vae, DISCRIMINATOR), gamma=strength
        )
        parts = {"vae": optimizer, "discriminator": optax.adam(1e-4, b1=0.5, b2=0.9)}
        optimizer = optax.partition(
            parts, {"vae": "vae", "discriminator": "discriminator"}
        )

    def of_batch(
        params: Params, key: Array, batch: PyTree, **values: Array
    ) -> tuple[Array, Any]:
        return loss_fn(params, key, as_images(batch), **values)

    return harness.Recipe(of_batch, optimizer, named)


def analyze(trained: harness.Trained) -> harness.Result:
    """Return every score of every arm over seeds.

    The MIG of beta-TCVAE is compared with that of the plain VAE, paired by seed.
    """
    population: factor_data.Population = trained.context
    arms, members = trained.experiments, trained.members
    factors, images = population.factors, population.scored
    numbers: dict[str, dict[str, Any]] = {}
    with tqdm(
        total=len(arms) * members.num, unit="model", desc="scores", dynamic_ncols=True
    ) as progress:
        for arm, experiment in arms.items():
            each = elbo_numbers(trained, arm)
            for index in range(members.num):
                params = trained.state(arm, index).params
                codes = np.asarray(
                    jax.jit(partial(vaejax.embed, experiment.vae))(params, images)
                )
                if np.isfinite(codes).all():
                    each[index] |= factor_scores.score(
                        jax.random.key(keys.FACTOR_SCORES), codes, factors
                    )
                else:
                    each[index] |= dict.fromkeys(factor_scores.NAMES, np.nan)
                progress.update()
                trained.check_interrupts()
            numbers[arm] = {
                name: averages.over_seeds(np.array([one[name] for one in each]))
                for name in DIGITS
            }
    rivals = {
        arm: np.array(numbers[arm]["mig"]["values"], float)
        for arm in arms
        if arm.startswith("beta-TCVAE")
    }
    test = factor_scores.compare(
        rivals, np.array(numbers[PLAIN]["mig"]["values"], float)
    )
    return harness.Result(
        summary={
            "data": population.description,
            "units": "negative ELBO and KL in nats per example, scores in [0, 1]",
            "num_scored": len(factors),
            "mig_of_beta_tcvae_minus_plain": test,
            "test": numbers,
        },
        headline=factor_scores.statement(test),
        about=f"{len(population.train):,} images of "
        f"{' x '.join(map(str, population.image_shape))}, scores of the "
        f"posterior means of {len(factors):,} of them, negative ELBO at beta 1 of "
        f"{len(population.test):,}; "
        f"binarization: none; {members.describe()}. {factor_scores.statement(test)}",
        header=(
            "method and strength",
            "negative ELBO",
            "KL",
            "active units",
            f"units above {CARRYING_KL} nats",
            *factor_scores.NAMES.values(),
        ),
        rows=[(arm, *evaluation.cells(row, DIGITS)) for arm, row in numbers.items()],
        figures=partial(figures, trained, numbers),
        captions={
            "scores": "Every score, mean over seeds. The colors run from 0 to 1.",
            "mig": (
                "MIG of every method and strength; the bars are one standard "
                "deviation over seeds."
            ),
            "traversals_plain": "The plain VAE: latents from the most nats to the "
            "fewest, moved through the quantiles "
            "of the aggregate posterior.",
            "traversals_beta_tcvae": (
                "Latents of beta-TCVAE, at the strength of largest mean MIG, moved in "
                "the same way."
            ),
        },
    )


def elbo_numbers(trained: harness.Trained, arm: str) -> list[dict[str, float]]:
    """Return negative ELBO and KL at beta 1, and units in use, of every member."""
    experiment, members = trained.experiments[arm], trained.members

    def measure(state: TrainState, xs: Array) -> vaejax.ElboTerms:
        key = jax.random.fold_in(state.key, keys.FACTOR_ELBO)
        each = jax.random.split(key, len(xs))

        def one(arguments: tuple[Array, Array]) -> vaejax.ElboTerms:
            return vaejax.elbo_terms(
                experiment.vae, state.params, *arguments, num_samples=ELBO_SAMPLES
            )

        return jax.tree.map(jnp.mean, jax.lax.map(one, (each, xs), batch_size=500))

    compiled = jax.jit(members.lift(measure))
    terms = members.stack(compiled(trained.states[arm], experiment.test))
    active, by_kl = units(trained, arm)
    return [
        {
            "negative_elbo": float(kl - log_likelihood),
            "kl": float(kl),
            "active_units": float(num_active),
            "units_by_kl": float(num_carrying),
        }
        for kl, log_likelihood, num_active, num_carrying in zip(
            terms.kl, terms.log_likelihood, active, by_kl, strict=True
        )
    ]


def figures(
    trained: harness.Trained, numbers: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """Draw all scores, the MIG of every arm, and traversals of two of them."""
    arms, population = trained.experiments, trained.context
    means = np.array(
        [
            [row[name]["mean"] for name in factor_scores.NAMES]
            for row in numbers.values()
        ],
        float,
    )
    drawn = {
        "scores": plots.matrix(
            means,
            row_labels=list(numbers),
            column_labels=list(factor_scores.NAMES.values()),
            label="score",
            limits=(0, 1),
        ),
        "mig": plots.bars(
            np.array([row["mig"]["values"] for row in numbers.values()], float),
            labels=list(numbers),
            xlabel="method and strength",
            ylabel="MIG",
        ),
    }
    best = max(
        (arm for arm in arms if arm.startswith("beta-TCVAE")),
        key=lambda arm: numbers[arm]["mig"]["mean"] or 0,
        default=None,
    )
    shown = {"traversals_plain": PLAIN} | (
        {"traversals_beta_tcvae": best} if best else {}
    )
    for name, arm in shown.items():
        drawn[name] = traversals(
            arms[arm].vae,
            trained.state(arm),
            population.shown,
            population.scored,
            arm,
        )
    return drawn


def traversals(vae: VAE, state: TrainState, x: Array, xs: Array, arm: str) -> Any:
    """Draw each latent of one example moved, from the most nats to the fewest."""
    key = jax.random.fold_in(state.key, keys.STATISTICS)
    statistics = jax.jit(
        partial(vaejax.latent.code_statistics, vae, quantiles=jnp.asarray(MASSES))
    )(state.params, key, xs)
    order = np.asarray(statistics.order)
    grid = jax.jit(
        lambda params: vaejax.traverse(vae, params, x, steps=statistics.quantiles)
    )(state.params)
    return plots.image_grid(
        np.asarray(grid)[order],
        title=f"{arm}, the first seed",
        row_labels=[f"z{j + 1}, {statistics.kl[j]:.1f} nats" for j in order],
        column_labels=[f"{mass:.0%}" for mass in MASSES],
    )


if __name__ == "__main__":
    cli.train(Config, make_experiment, analyze)
