"""Decoders with a calibrated variance, and where the blur of a Gaussian VAE comes from.

With unit variance the KL term outweighs reconstruction errors of 0.1, so that fine
detail is lost and decoded images are blurred. Six decoders of the same networks differ
in their likelihood: unit variance; one learned variance; the best variance of each
batch in closed form; a variance for each pixel; the discretized logistic; and
Bernoulli, whose cross-entropy on gray values is no density. Gray images in [0, 1], not
dequantized. Bits per dimension are those of 8-bit pixels: of a Gaussian, the mass
within half a level of each value.

Paper: Rybkin et al. 2021, "Simple and effective VAE training with calibrated decoders".
Command: python -m experiments.calibrated_decoders
"""

import dataclasses
import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax

import vaejax
from experiments import harness
from experiments.data import image_data
from experiments.harness import averages, cli, evaluation, keys, model_options
from experiments.harness.figures import over_epochs
from experiments.harness.members import MEMBERS_AT_ONCE, in_pieces
from experiments.harness.units import disagreements
from vaejax import datasets, latent, plots
from vaejax.base import VAE, Array, Distribution, Head, Key, Latent, Params, PyTree
from vaejax.distributions import as_head
from vaejax.training import TrainState

ABOUT = harness.About(
    what=(
        "six decoders side by side: unit, shared, optimal and per-pixel variance, "
        "discretized logistic, Bernoulli"
    ),
    paper="Rybkin et al. 2021",
    cost="12 minutes on 2 cores, 3 seeds (MNIST); 8 (Frey faces)",
    expected="negative ELBO 740.3 with unit variance, -682.7 with a learned one",
)

SHOWN = 10
# Decimals of the table's columns.
DIGITS = {
    "negative_elbo": 1,
    "nll": 1,
    "kl": 2,
    "bits_per_dimension": 3,
    "rmse": 4,
    "detail": 3,
}
MIN_LOG_VARIANCE = -12.0  # The paper's bound of the log standard deviation is -6.


@dataclasses.dataclass(frozen=True)
class Config(harness.Config):
    epochs: int = 20
    """Passes over the training data; the learning rate decays to zero over them."""
    network: Literal["mlp", "convolutional"] = "mlp"
    """Networks of every decoder: a hidden layer, or convolutions (several times slower
    on CPU).
    """
    hidden_size: int = 400
    """Width of the hidden layers."""
    latent_size: int = 20
    """Dimensions of z."""
    batch_size: int = 128
    """Examples per step."""
    learning_rate: float = 1e-3
    """Initial learning rate of Adam; decays to 0 by a cosine."""
    num_samples: int = 50
    """Importance samples per example of the test NLL."""


def with_sigmoid_mean(likelihood: Head | type) -> Head:
    """Return the head whose first array is squashed into (0, 1) by a sigmoid."""
    head = as_head(likelihood)

    def apply(params: Params, outputs: Array) -> Distribution:
        if head.num_parameters == 1:
            return head.apply(params, jax.nn.sigmoid(outputs))
        return head.apply(
            params, outputs.at[..., 0].set(jax.nn.sigmoid(outputs[..., 0]))
        )

    return head._replace(apply=apply)


SHARED = "shared variance"
OPTIMAL = "optimal variance"
BERNOULLI = "Bernoulli"


def decoders(images: np.ndarray) -> dict[str, Head]:
    """Return every likelihood by name; each mean is sigmoid(first array).

    The one learned variance starts at that of the training images about their mean
    image.
    """
    log_variance = math.log(
        max(
            float(np.mean(np.var(image_data.intensities(images[:10_000]), axis=0))),
            1e-4,
        )
    )
    return {
        "unit variance": with_sigmoid_mean(
            vaejax.distributions.fixed_variance_normal_head(variance=1.0)
        ),
        SHARED: with_sigmoid_mean(
            vaejax.distributions.shared_variance_normal_head(
                log_variance=log_variance, min_log_variance=MIN_LOG_VARIANCE
            )
        ),
        OPTIMAL: with_sigmoid_mean(
            vaejax.distributions.shared_variance_normal_head(
                log_variance=log_variance,
                min_log_variance=-math.inf,
                max_log_variance=math.inf,
            )
        ),
        "per-pixel variance": with_sigmoid_mean(
            vaejax.normal_head(min_log_variance=MIN_LOG_VARIANCE)
        ),
        # Its location is not squashed: beyond black, a black pixel is all but certain,
        # which a sigmoid cannot reach.
        "discretized logistic": as_head(vaejax.distributions.DiscretizedLogistic),
        BERNOULLI: as_head(vaejax.Bernoulli),
    }


def make_vae(config: Config, image_shape: tuple[int, ...], head: Head) -> VAE:
    """Return the model with a given likelihood."""
    return model_options.make_vae(
        config, image_shape, head, convolutional=config.network == "convolutional"
    )


def make_experiment(config: Config) -> harness.Comparison:
    train, test = harness.load_images(config)
    train, validation = harness.hold_out(train, config.num_validation)
    if train.images.dtype != np.uint8:
        raise harness.UsageError(
            f"--data {config.data} holds {train.images.dtype} images; bits per "
            "dimension "
            "are those of 8-bit pixels: give "
            "uint8, 0 to 255."
        )
    num_steps = config.epochs * harness.steps_per_epoch(train.images, config.batch_size)
    adam = optax.adam(optax.cosine_decay_schedule(config.learning_rate, num_steps))
    xs = image_data.intensities(test.images)

    def arm(name: str, head: Head) -> harness.Experiment:
        vae = make_vae(config, train.images.shape[1:], head)
        if name == OPTIMAL:
            loss_fn = on_intensities(vaejax.objectives.optimal_variance_loss(vae))
            labels = {
                "encoder": "network",
                "decoder": "network",
                "posterior": "network",
                "likelihood": "variance",
            }
            optimizer = optax.partition(
                {"network": adam, "variance": optax.sgd(0.1)}, labels
            )
        else:
            loss_fn = on_intensities(
                vaejax.mean_over_batch(partial(vaejax.negative_elbo, vae))
            )
            optimizer = adam
        return harness.Experiment(
            vae=vae,
            recipe=lambda hyperparameters: harness.Recipe(loss_fn, optimizer),
            hyperparameters={},
            batch_size=config.batch_size,
            train=train.images,
            test=xs,
            data_checksum=datasets.checksum(train, test),
            binarization="none",
            num_samples=config.num_samples,
            validation=None
            if validation is None
            else image_data.intensities(validation.images),
        )

    arms = {name: arm(name, head) for name, head in decoders(train.images).items()}
    return harness.Comparison(arms)


def on_intensities(loss_fn: Callable) -> Callable:
    """Return the loss of uint8 images, which are scaled in the step."""
    return lambda params, key, batch, **schedules: loss_fn(
        params, key, image_data.intensities(batch), **schedules
    )


def discretized(vae: VAE) -> VAE:
    """Return the VAE over 8-bit levels: a Normal's mass within half a level of each."""

    def decode(params: Params, z: Latent) -> Distribution:
        likelihood = vae.decode(params, z)
        if isinstance(likelihood, vaejax.Normal):
            return vaejax.distributions.DiscretizedNormal(
                likelihood.mean, likelihood.log_variance
            )
        return likelihood

    return vae._replace(decode=decode)


def measure(vae: VAE, in_bits: bool, state: TrainState, xs: Array) -> dict[str, Array]:
    """Return bits per dimension, root mean squared error, and share of fine detail.

    All are of reconstructions of test images; the bits are NaN unless `in_bits`.
    """

    def one(example: tuple[Key, Array]) -> tuple[Array, ...]:
        key, x = example
        terms_key, z_key = jax.random.split(key)
        terms = (
            vaejax.elbo_terms(discretized(vae), state.params, terms_key, x)
            if in_bits
            else None
        )
        mean = point_of(
            vae.decode(state.params, latent.draw(z_key, vae.encode(state.params, x)))
        )
        nats = terms.kl - terms.log_likelihood if in_bits else jnp.nan
        missed = jnp.mean(jnp.square(laplacian(mean) - laplacian(x)))
        return (
            nats,
            jnp.mean(jnp.square(mean - x)),
            missed,
            jnp.mean(jnp.square(laplacian(x))),
        )

    key = jax.random.fold_in(state.key, keys.IMAGE_MEASURES)
    nats, errors, missed, detail = jax.tree.map(
        jnp.mean, jax.lax.map(one, (jax.random.split(key, len(xs)), xs), batch_size=100)
    )
    return {
        "bits_per_dimension": vaejax.distributions.bits_per_dimension(nats, xs[0].size),
        "rmse": jnp.sqrt(errors),
        "detail": 1 - missed / detail,
    }


def laplacian(image: Array) -> Array:
    """Return each inner pixel's four neighbors less four times itself.

    It responds to fine detail, and to edges most.
    """
    center = image[1:-1, 1:-1]
    return (
        image[:-2, 1:-1]
        + image[2:, 1:-1]
        + image[1:-1, :-2]
        + image[1:-1, 2:]
        - 4 * center
    )


def point_of(likelihood: Distribution) -> Array:
    """Return the image that stands for a likelihood.

    It is the mean, or the location where the mean is a sum over levels.
    """
    return (
        jnp.clip(likelihood.location, 0, 1)
        if hasattr(likelihood, "location")
        else likelihood.mean
    )


def example_point(key: Key | None, likelihood: Distribution) -> Array:
    """Return `point_of` as a `PointEstimator`."""
    del key
    return point_of(likelihood)


def analyze(trained: harness.Trained) -> harness.Result:
    """Return every decoder's numbers over seeds, and its images."""
    arms, members = trained.experiments, trained.members
    xs = trained.first_experiment.test
    summaries, rows = {}, []
    for name, experiment in arms.items():
        numbers = evaluation.evaluate(trained, name)
        of_images = partial(measure, experiment.vae, name != BERNOULLI)
        compiled = in_pieces(
            jax.jit(members.lift(of_images)), members.num, MEMBERS_AT_ONCE
        )
        extra = jax.tree.map(
            np.asarray,
            members.stack(jax.device_get(compiled(trained.states[name], xs))),
        )
        summaries[name] = evaluation.summarize(numbers, experiment)
        summaries[name] |= {
            key: averages.over_seeds(values) for key, values in extra.items()
        }
        if name == BERNOULLI:
            del summaries[name]["bits_per_dimension"]
        rows.append((name, *evaluation.cells(summaries[name], DIGITS)))
        trained.check_interrupts()
    pictures = {
        name: jax.device_get(draw(arm.vae, trained.state(name), xs))
        for name, arm in arms.items()
    }
    bits = summaries[SHARED]["bits_per_dimension"]
    return harness.Result(
        summary={
            "binarization": "none",
            "units": (
                "nats per example, of a density over intensities in [0, 1]; of the "
                "logistic, of a probability"
            ),
            "num_test_examples": len(xs),
            "test": summaries,
        },
        headline=f"{averages.text(bits, 2)} bits per dimension with one learned "
        "variance, "
        f"{averages.text(summaries['unit variance']['bits_per_dimension'], 2)} with "
        "unit variance",
        about=f"{len(xs):,} test images; {members.describe()}; negative ELBO and NLL "
        "in nats per image, of a density "
        "over intensities in [0, 1] (of the logistic: of a probability; of Bernoulli: "
        "of a cross-entropy, which is "
        "neither); the NLL is importance-weighted with "
        f"{trained.first_experiment.num_samples} samples; bits are an "
        "upper bound, by the ELBO of one sample; black and white pixels take the "
        "tails; RMSE is of reconstructions, "
        "intensities in [0, 1]; detail is the share of the test images' squared "
        "Laplacian that reconstructions explain"
        f"{disagreements(summaries)}",
        header=("decoder", "negative ELBO", "NLL", "KL", "bits/dim", "RMSE", "detail"),
        rows=rows,
        figures=partial(figures, np.asarray(xs[:SHOWN]), pictures, trained.history),
        captions={
            "reconstructions": (
                "The same test images through every decoder: its mean (of the "
                "logistic, its location)."
            ),
            "samples": (
                "Prior samples of every decoder: its mean at z ~ p(z), with the same "
                "noise for all."
            ),
            "draws": "The same samples with the decoder's own noise: x ~ p(x|z). What "
            "looks sharp in the mean may be "
            "noisy here.",
        },
    )


def draw(vae: VAE, state: TrainState, xs: Array) -> dict[str, PyTree]:
    """Return reconstructions, prior samples, and prior samples with noise."""
    reconstruct_key, sample_key = jax.random.split(
        jax.random.fold_in(state.key, keys.FIGURES)
    )

    @jax.jit
    def images(params: Params) -> dict[str, Array]:
        return {
            "reconstructions": vaejax.reconstruct(
                vae, params, reconstruct_key, xs[:SHOWN], example_point=example_point
            ),
            "samples": vaejax.sample(
                vae, params, sample_key, SHOWN, example_point=example_point
            ),
            "draws": vaejax.sample(
                vae, params, sample_key, SHOWN, example_point=latent.draw
            ),
        }

    return images(state.params)


def figures(
    originals: np.ndarray,
    pictures: dict[str, PyTree],
    history: Mapping[str, list[dict]],
) -> Mapping[str, Any]:
    """Draw the images of every decoder, and the KL over training."""
    titles = {
        "reconstructions": "Reconstructions: the mean of p(x|z) with z ~ q(z|x)",
        "samples": "Prior samples: the mean of p(x|z) with z ~ p(z)",
        "draws": "Prior samples with the decoder's noise: x ~ p(x|z)",
    }
    grids = {}
    for kind, title in titles.items():
        rows = {"x": originals} if kind == "reconstructions" else {}
        rows |= {name: images[kind] for name, images in pictures.items()}
        grids[kind] = plots.image_grid(
            np.stack(list(rows.values())), title=title, row_labels=list(rows)
        )
    return grids | {
        "kl": over_epochs(history, "kl", ylabel="test KL (nats per example)")
    }


if __name__ == "__main__":
    cli.train(Config, make_experiment, analyze)
