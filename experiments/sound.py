"""A VAE of log-mel spectrograms of short clips, and the way back to sound.

A clip becomes the logarithm of its spectrum's magnitudes in mel bands, over time, each
band standardized by its mean and standard deviation over the training clips. The
decoder is a Normal whose mean and variance are both learned, the variance bounded
below. Nats are of the standardized values and of a density: they may be negative, and
are comparable only among runs with the same clips, bands and bound. Sounds are made of
spectrograms by least squares and the phases of Griffin and Lim; the run's folder has
them in sounds/, all with the same peak, beside real ones that went that way without
the model.

The clips are synthesized (plucked strings, tones with harmonics, chirps, bursts of
noise), or cut from WAV files.

Papers: Kingma & Welling 2014; Griffin & Lim 1984 (phases); Karplus & Strong 1983
(plucked strings). Command: python -m experiments.sound
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.figure import Figure

import vaejax
from experiments import harness
from experiments.data import audio
from experiments.data.synthetic_clips import Clips, synthesize
from experiments.harness import cli, figures, model_options
from vaejax import datasets
from vaejax.base import Array, Key, Params

ABOUT = harness.About(
    what="a VAE of log-mel spectrograms, and back to sound",
    paper="Kingma & Welling 2014; Griffin & Lim 1984",
    cost="5 minutes on 2 cores, 3 seeds",
    expected=(
        "negative ELBO -401 ± 37 nats, of a density of standardized log-mel values"
    ),
)

SHOWN, STEPS = 6, 6
SYNTHESIZED = "synthesized"
# Bound of the decoder, in standardized units: a standard deviation of 0.05.
MIN_LOG_VARIANCE = -6.0
CHANNELS = (16, 32)
CAPTIONS = {
    "reconstructions": (
        "Log-mel spectrograms: test clips, and the mean of p(x|z), with one z ~ "
        "q(z|x) each."
    ),
    "samples": (
        "New clips: latents drawn from the prior, decoded to the mean of p(x|z)."
    ),
    "interpolations": (
        "Between the reconstructions of two test clips, along a straight line in "
        "latent space."
    ),
    "sounds/real.wav": "Test clips, as they are.",
    "sounds/real_resynthesized.wav": (
        "The same from their own log-mel spectrograms: what features and phases "
        "alone lose."
    ),
    "sounds/reconstructions.wav": "The same, reconstructed by the model.",
    "sounds/samples.wav": "From the prior, in the order of the figure.",
    "sounds/interpolations.wav": "Interpolations, row by row of the figure.",
}


@dataclasses.dataclass(frozen=True)
class Config(harness.Config):
    data: str = SYNTHESIZED
    """Data set: synthesized, or a folder of .wav files, which are mixed down to mono
    and resampled to 8 kHz. A tenth is the test set: every tenth file by name, of
    fewer than ten the last one; of a single file, its last clips.
    """
    num_clips: int = 4000
    """Synthesized clips; the last tenth of them is the test set."""
    seconds: float = 0.64
    """Length of a clip; files are cut into clips, one after another."""
    num_bands: int = 40
    """Mel bands, from 0 to 4 kHz."""
    epochs: int = 40
    """Passes over the training clips; the learning rate decays to zero over them."""
    latent_size: int = 32
    """Dimensions of z."""
    hidden_size: int = 256
    """Width of the dense layers of encoder and decoder, which have two convolutions
    each.
    """
    batch_size: int = 64
    """Clips per step."""
    learning_rate: float = 2e-3
    """Initial learning rate of Adam; decays to 0 by a cosine; may be swept."""
    beta: harness.NonNegativeFloat = 1.0
    """Weight of the KL in the loss: 1 is the bound; may be swept."""
    num_samples: int = 100
    """Importance samples per clip of the test NLL."""


def load(config: Config) -> tuple[Clips, Clips]:
    """Return training and test clips.

    Raises:
      UsageError: there are too few.
    """
    num_samples = round(config.seconds * audio.RATE / audio.HOP) * audio.HOP
    if num_samples < audio.WINDOW:
        raise harness.UsageError(
            f"--seconds is {config.seconds}; give at least {audio.WINDOW / audio.RATE}."
        )
    if config.data == SYNTHESIZED:
        clips, _ = synthesize(config.num_clips, num_samples)
        is_test = (
            np.arange(config.num_clips) >= config.num_clips - config.num_clips // 10
        )
    else:
        clips, is_test = _load_folder(Path(config.data), num_samples)
    if np.sum(is_test) < 2 or np.all(is_test):
        raise harness.UsageError(
            f"--data {config.data}: {np.sum(~is_test)} training and {np.sum(is_test)} "
            "test clips of "
            f"{config.seconds} s, and 1 and 2 are the least; give more sound "
            f"(--num-clips of {SYNTHESIZED}), or a "
            "smaller --seconds."
        )
    return clips.where(~is_test), clips.where(is_test)


def _load_folder(folder: Path, num_samples: int) -> tuple[Clips, np.ndarray]:
    if not folder.is_dir():
        raise harness.UsageError(
            f"--data is {harness.one_line(folder)}; give {SYNTHESIZED}, or a folder of "
            ".wav files."
        )
    try:
        files = audio.load_folder(folder, num_samples)
    except ValueError as error:
        raise harness.UsageError(f"--data: {error}") from error
    kinds = np.repeat(np.arange(len(files)), [len(clips) for _, clips in files])
    names = [
        f"{name} ({index + 1})" for name, clips in files for index in range(len(clips))
    ]
    if len(files) == 1:
        is_test = np.arange(len(names)) >= len(names) - len(names) // 10
    else:
        is_test = kinds % 10 == 9 if len(files) >= 10 else kinds == len(files) - 1
    return Clips(np.concatenate([clips for _, clips in files]), kinds, names), is_test


class Scale(NamedTuple):
    """Mean and standard deviation of each band over the training clips, `[bands]`."""

    mean: np.ndarray
    stddev: np.ndarray

    def standardize(self, patches: np.ndarray) -> np.ndarray:
        return ((patches - self.mean) / self.stddev).astype(np.float32)

    def restore(self, patches: np.ndarray) -> np.ndarray:
        return np.asarray(patches, np.float64) * self.stddev + self.mean


def make_vae(config: Config, shape: tuple[int, int]) -> vaejax.VAE:
    """Return a VAE with convolutions over time and frequency.

    The decoder's mean and log-variance of each value are learned.
    """
    vae = vaejax.gaussian_vae(
        latent_size=config.latent_size,
        encoder=vaejax.ConvolutionalEncoder(
            CHANNELS, hidden_sizes=(config.hidden_size,)
        ),
        decoder=vaejax.ConvolutionalDecoder(
            shape, 2, CHANNELS[::-1], (config.hidden_size,)
        ),
        likelihood=vaejax.normal_head(min_log_variance=MIN_LOG_VARIANCE),
    )
    return model_options.in_compute_dtype(config, vae)


def make_experiment(config: Config) -> harness.Experiment:
    train_clips, test_clips = load(config)
    try:
        train, test = (
            audio.log_mel(clips.sounds, config.num_bands)
            for clips in (train_clips, test_clips)
        )
    except ValueError as error:
        raise harness.UsageError(f"--num-bands: {error}") from error
    # A band that never changes, as above a low-pass, has no scale of its own.
    scale = Scale(train.mean(axis=(0, 1)), np.maximum(train.std(axis=(0, 1)), 1e-3))
    train, test = scale.standardize(train), scale.standardize(test)
    kept, validation = harness.hold_out(
        datasets.Dataset(train, None), config.num_validation
    )
    vae = make_vae(config, test.shape[1:])
    num_steps = config.epochs * harness.steps_per_epoch(kept.images, config.batch_size)

    def recipe(hyperparameters: Mapping[str, float | Array]) -> harness.Recipe:
        learning_rate = optax.cosine_decay_schedule(
            hyperparameters["learning_rate"], num_steps
        )
        loss_fn = vaejax.mean_over_batch(partial(vaejax.negative_elbo, vae))
        return harness.Recipe(
            loss_fn,
            optax.adam(learning_rate),
            {"beta": optax.constant_schedule(hyperparameters["beta"])},
        )

    shown = _first_of_each(test_clips.kinds)
    patches = remembered(partial(make_patches, vae, scale, test[shown]))
    return harness.Experiment(
        vae=vae,
        recipe=recipe,
        hyperparameters={"learning_rate": config.learning_rate, "beta": config.beta},
        batch_size=config.batch_size,
        train=kept.images,
        test=test,
        data_checksum=datasets.checksum(
            *(
                datasets.Dataset(clips.sounds, None)
                for clips in (train_clips, test_clips)
            )
        ),
        binarization="none",
        figures=partial(
            make_figures, patches, [test_clips.names[index] for index in shown]
        ),
        num_samples=config.num_samples,
        validation=None if validation is None else validation.images,
        files=partial(make_sounds, patches, test_clips.sounds[shown]),
        captions=CAPTIONS,
    )


analyze = harness.analyze_model


def _first_of_each(kinds: np.ndarray) -> np.ndarray:
    """Indices of the first clip of each kind, then of the others, up to `SHOWN`."""
    first = np.unique(kinds, return_index=True)[1]
    return np.concatenate([first, np.setdiff1d(np.arange(len(kinds)), first)])[:SHOWN]


Patches = Callable[[Params, Key], dict[str, np.ndarray]]


def remembered(patches: Patches) -> Patches:
    """Return a function that keeps its last value, for figures and sounds alike.

    Both ask with the same parameters and key.
    """
    last: list[Any] = []

    def patches_of(params: Params, key: Key) -> dict[str, np.ndarray]:
        if not last or last[0] is not params or last[1] is not key:
            last[:] = params, key, patches(params, key)
        return last[2]

    return patches_of


def make_patches(
    vae: vaejax.VAE, scale: Scale, originals: np.ndarray, params: Params, key: Key
) -> dict[str, np.ndarray]:
    """Return log-mel spectrograms for figures and sounds, `[num, frames, bands]`.

    Interpolations are `[pairs, steps, frames, bands]`.
    """
    pairs = min(2, len(originals) // 2)
    reconstruct_key, sample_key = jax.random.split(key)

    @jax.jit
    def decode(params: Params, originals: Array) -> dict[str, Array]:
        starts, ends = originals[0 : 2 * pairs : 2], originals[1 : 2 * pairs : 2]
        return {
            "reconstructions": vaejax.reconstruct(
                vae, params, reconstruct_key, originals
            ),
            "samples": vaejax.sample(vae, params, sample_key, 2 * SHOWN),
            "interpolations": jax.vmap(
                lambda x0, x1: vaejax.interpolate(vae, params, x0, x1, STEPS)
            )(starts, ends),
        }

    made = {"real": originals} | jax.device_get(decode(params, jnp.asarray(originals)))
    return {name: scale.restore(patch) for name, patch in made.items()}


def make_sounds(
    patches: Patches, real: np.ndarray, params: Params, key: Key
) -> dict[str, bytes]:
    """Return a WAV file of each kind of spectrogram, and of the real clips."""
    made = patches(params, key)
    again = partial(audio.resynthesize, num_samples=real.shape[1])
    sounds = {
        "real": real,
        "real_resynthesized": again(made["real"]),
        "reconstructions": again(made["reconstructions"]),
        "samples": again(made["samples"]),
        "interpolations": again(np.concatenate(made["interpolations"])),
    }
    return {f"sounds/{name}.wav": audio.wav(sound) for name, sound in sounds.items()}


def make_figures(
    patches: Patches, names: list[str], params: Params, key: Key, history: list[dict]
) -> Mapping[str, Any]:
    """Draw learning curves and spectrograms."""
    made = patches(params, key)
    steps = [f"t = {step:.1f}" for step in np.linspace(0, 1, STEPS)]
    ends = [
        f"{figures.short_label(names[2 * row])}\n"
        f"to {figures.short_label(names[2 * row + 1])}"
        for row in range(len(made["interpolations"]))
    ]
    return {
        "learning_curves": figures.learning_curves(history),
        "reconstructions": spectrograms(
            np.stack([made["real"], made["reconstructions"]]),
            row_labels=("real", "reconstruction"),
            column_labels=names,
        ),
        "samples": spectrograms(
            made["samples"].reshape(2, SHOWN, *made["samples"].shape[1:])
        ),
        "interpolations": spectrograms(
            made["interpolations"], row_labels=ends, column_labels=steps
        ),
    }


def spectrograms(
    patches: np.ndarray,
    *,
    row_labels: Sequence[str] = (),
    column_labels: Sequence[str] = (),
) -> Figure:
    """Draw log-mel spectrograms `[rows, columns, frames, bands]` in decibels."""
    decibels = 20 / np.log(10) * patches
    num_rows, num_columns, frames, bands = decibels.shape
    figure = Figure(
        figsize=(1.45 * num_columns + 1.6, 1.5 * num_rows + 0.7), layout="constrained"
    )
    grid = figure.subplots(
        num_rows, num_columns, sharex=True, sharey=True, squeeze=False
    )
    top = decibels.max()
    # Bands are where their peaks are: band b covers b to b + 1.
    hertz = np.array([125, 250, 500, 1000, 2000, 3500])
    places = np.interp(hertz, audio.centers(bands), np.arange(bands) + 0.5)
    times = audio.frame_times(frames + 1) - audio.HOP / audio.RATE / 2
    for (row, column), axes in np.ndenumerate(grid):
        image = axes.imshow(
            decibels[row, column].T,
            origin="lower",
            aspect="auto",
            extent=(times[0], times[-1], 0, bands),
            cmap="magma",
            vmin=top - 80,
            vmax=top,
        )
        axes.set_yticks(places, [f"{value:,}" for value in hertz])
        axes.tick_params(labelsize=7)
        if row == 0 and column_labels:
            title = figures.short_label(column_labels[column])
            axes.set_title(title, fontsize=8, **figures.AS_GIVEN)
        if column == 0:
            label = [row_labels[row]] if row_labels else []
            lines = [*label, "frequency (Hz)"]
            axes.set_ylabel("\n".join(lines), fontsize=8, **figures.AS_GIVEN)
        if row == num_rows - 1:
            axes.set_xlabel("time (s)", fontsize=8)
    bar = figure.colorbar(image, ax=grid, shrink=0.8, pad=0.01)
    bar.set_label("mel magnitude (dB)", fontsize=8)
    bar.ax.tick_params(labelsize=7)
    return figure


if __name__ == "__main__":
    cli.train(Config, make_experiment, analyze)
