"""The signal-to-noise ratio of gradients against the number of importance samples.

A Gaussian model of known posterior: z ~ N(mu, I), x|z ~ N(z, I) and q(z|x) = N(A x + b,
2/3 I) in 20 dimensions, with parameters off their optimum by N(0, 0.01^2) each. For
every objective the gradient to b (encoder) and to mu (decoder, here the prior) is drawn
many times for each of some examples. The ratio of one number is |mean| / standard
deviation over draws; its squares, less the part of noise alone, are averaged over
dimensions and examples. Where noise would drown the mean, it is taken from DReG, whose
gradient has the same mean and far less noise. In theory the encoder's ratio falls as
K^(-1/2) for the IWAE, and for MIWAE and PIWAE with the samples of a group; it grows as
K^(1/2) for the doubly reparameterized gradients, and for sticking the landing, which is
biased; the decoder's grows as K^(1/2) for all. The exponent s is fitted as log ratio =
a + s log K + c / K from 16 samples on: the theory is of many samples, and c takes up
the next order.

Papers: Rainforth et al. 2018, "Tighter variational bounds are not necessarily better";
Tucker et al. 2019. Command: python -m experiments.gradient_snr
"""

import dataclasses
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

import vaejax
from experiments import harness
from experiments.harness import averages, cli
from vaejax import plots
from vaejax.base import Array, Key

ABOUT = harness.About(
    what="signal-to-noise ratio of gradients against the number of importance samples",
    paper="Rainforth et al. 2018, Tucker et al. 2019",
    cost="5 minutes on 2 cores",
    expected="encoder: slope -0.5 for the IWAE, +0.5 for DReG",
)

DIMENSIONS = 20
OFFSET = 0.01
VARIANCE = 2 / 3  # of q; that of the posterior is 1/2
FITTED_FROM = 16
DRAWS_AT_ONCE = 10


@dataclasses.dataclass(frozen=True)
class Config(harness.MeasurementConfig):
    num_seeds: int = 3
    """Number of repetitions, each with its own offsets, examples and noise; slopes are
    mean and std over them.
    """
    num_draws: int = 500
    """Gradients drawn per objective, example and number of samples."""
    num_examples: int = 32
    """Examples over which ratios are averaged."""
    num_groups: int = 4
    """Groups of samples in MIWAE and PIWAE."""
    max_samples: int = 1024
    """Largest number of samples K; the others are the powers of two below."""

    def check(self) -> None:
        if self.max_samples < 16 * FITTED_FROM or self.max_samples.bit_count() > 1:
            raise harness.UsageError(
                f"--max-samples is {self.max_samples}; give a power of two, at least "
                f"{16 * FITTED_FROM}: exponents are "
                f"fitted from {FITTED_FROM} on."
            )
        if self.num_draws % DRAWS_AT_ONCE:
            raise harness.UsageError(
                f"--num-draws is {self.num_draws}; give a multiple of {DRAWS_AT_ONCE}."
            )


class Params(NamedTuple):
    """Parameters: mu `[z]`, A `[z, x]` and b `[z]`."""

    mean: Array
    gain: Array
    offset: Array


class Objective(NamedTuple):
    """An objective, and the exponents of K that theory gives for its ratios.

    Attributes:
      make: `(num_samples, num_groups) -> objective`.
      slopes: exponents of the encoder's and of the decoder's ratio.
      encoder_mean_from: the objective whose encoder gradient has the same mean, and
        less noise; None for itself.
    """

    make: Callable[[int, int], Callable]
    slopes: tuple[float, float]
    encoder_mean_from: str | None = None


OBJECTIVES = {
    "IWAE": Objective(
        lambda k, m: partial(vaejax.negative_iwae, num_samples=k),
        (-0.5, 0.5),
        "IWAE-DReG",
    ),
    "STL": Objective(
        lambda k, m: partial(
            vaejax.negative_iwae,
            num_samples=k,
            kl_fn=vaejax.objectives.kl_sticking_the_landing,
        ),
        (0.5, 0.5),
    ),
    "IWAE-DReG": Objective(
        lambda k, m: partial(vaejax.objectives.negative_dreg, num_samples=k), (0.5, 0.5)
    ),
    "RWS-DReG": Objective(
        lambda k, m: partial(vaejax.objectives.negative_dreg, num_samples=k, alpha=1.0),
        (0.5, 0.5),
    ),
    "MIWAE": Objective(
        lambda k, m: partial(
            vaejax.objectives.negative_miwae, num_groups=m, num_samples=k
        ),
        (-0.5, 0.5),
        "IWAE-DReG",
    ),
    "PIWAE": Objective(
        lambda k, m: partial(
            vaejax.objectives.negative_piwae, num_groups=m, num_samples=k
        ),
        (-0.5, 0.5),
        "IWAE-DReG",
    ),
}
PARTS = ("encoder", "decoder")


def make_params(key: Key) -> Params:
    """Return the optimum for mu = 0 and this variance, with every number moved."""
    keys = jax.random.split(key, 3)
    best = Params(jnp.zeros(DIMENSIONS), jnp.eye(DIMENSIONS) / 2, jnp.zeros(DIMENSIONS))
    moved = [
        leaf + OFFSET * jax.random.normal(key, leaf.shape)
        for key, leaf in zip(keys, best, strict=True)
    ]
    return Params(*moved)


VAE = vaejax.VAE(
    init=lambda key, x: make_params(key),
    encode=lambda params, x: vaejax.Normal(
        params.gain @ x + params.offset, jnp.full(DIMENSIONS, np.log(VARIANCE))
    ),
    prior=lambda params: vaejax.Normal(params.mean, jnp.zeros(DIMENSIONS)),
    decode=lambda params, z: vaejax.Normal(z, jnp.zeros(DIMENSIONS)),
)


class GradientMoments(NamedTuple):
    """Moments of the gradients of encoder and decoder, `[examples, 2, dimensions]`.

    Attributes:
      squared_mean: without bias, so that it may be negative.
      variance: the variance over draws.
    """

    squared_mean: Array
    variance: Array


def moments(
    objective: Callable, num_draws: int, params: Params, key: Key, xs: Array
) -> GradientMoments:
    """Return the moments of an objective's gradients over draws."""

    def gradient(key: Key, x: Array) -> Array:
        whole = jax.grad(lambda params: objective(VAE, params, key, x)[0])(params)
        return jnp.stack([whole.offset, whole.mean])

    def add(
        sums: tuple[Array, Array], number: Array
    ) -> tuple[tuple[Array, Array], None]:
        keys = jax.random.split(
            jax.random.fold_in(key, number), (DRAWS_AT_ONCE, len(xs))
        )
        gradients = jax.vmap(jax.vmap(gradient), in_axes=(0, None))(keys, xs)
        return (
            sums[0] + jnp.sum(gradients, axis=0),
            sums[1] + jnp.sum(jnp.square(gradients), axis=0),
        ), None

    zeros = jnp.zeros((len(xs), 2, DIMENSIONS))
    (total, squares), _ = jax.lax.scan(
        add, (zeros, zeros), jnp.arange(num_draws // DRAWS_AT_ONCE, dtype=jnp.uint32)
    )
    mean = total / num_draws
    variance = (squares - num_draws * jnp.square(mean)) / (num_draws - 1)
    return GradientMoments(jnp.square(mean) - variance / num_draws, variance)


def squared_ratios(found: Mapping[str, GradientMoments], name: str) -> np.ndarray:
    """Return squared ratios of encoder and decoder.

    They are averaged over examples and dimensions.
    """
    squared_mean, variance = (np.asarray(part) for part in found[name])
    source = OBJECTIVES[name].encoder_mean_from
    if source is not None:
        squared_mean = np.stack(
            [np.asarray(found[source].squared_mean)[:, 0], squared_mean[:, 1]], axis=1
        )
    with np.errstate(invalid="ignore"):  # RWS-DReG of one sample is 0 throughout
        return np.mean(squared_mean / variance, axis=(0, 2))


def measure(config: Config, check_interrupts: Callable[[], None]) -> harness.Result:
    """Measure every objective's ratios, and fit slopes to them."""
    counts = [2**power for power in range(config.max_samples.bit_length())]
    ratios = {name: np.zeros((2, config.num_seeds, len(counts))) for name in OBJECTIVES}
    cost = sum(counts) * config.num_seeds
    with tqdm(
        total=cost * len(OBJECTIVES),
        unit="sample",
        desc="gradients",
        dynamic_ncols=True,
    ) as progress:
        for column, count in enumerate(counts):
            programs = {
                name: jax.jit(
                    partial(
                        moments,
                        objective.make(count, config.num_groups),
                        config.num_draws,
                    )
                )
                for name, objective in OBJECTIVES.items()
            }
            for row, seed in enumerate(config.seeds):
                params_key, data_key, noise_key = jax.random.split(
                    jax.random.key(seed), 3
                )
                params = make_params(params_key)
                xs = params.mean + np.sqrt(2) * jax.random.normal(
                    data_key, (config.num_examples, DIMENSIONS)
                )
                found = {}
                for name, program in programs.items():
                    found[name] = jax.block_until_ready(program(params, noise_key, xs))
                    progress.update(count)
                    check_interrupts()
                for name in OBJECTIVES:
                    ratios[name][:, row, column] = squared_ratios(found, name)
    return _result(config, np.asarray(counts), ratios)


def _result(
    config: Config, counts: np.ndarray, squares: Mapping[str, np.ndarray]
) -> harness.Result:
    with np.errstate(invalid="ignore"):
        ratios = {name: np.sqrt(values) for name, values in squares.items()}
    slopes = {
        name: [slope(counts, of_part) for of_part in values]
        for name, values in ratios.items()
    }
    rows, summary = [], {}
    for name, objective in OBJECTIVES.items():
        cells = []
        for part, (found, errors), expected in zip(
            PARTS, slopes[name], objective.slopes, strict=True
        ):
            number = averages.over_seeds(found, fitted_error=float(np.mean(errors)))
            summary.setdefault(part, {})[name] = number | {"theory": expected}
            cells += [averages.text(number, 3, "+"), f"{expected:+.1f}"]
        rows.append((name, *cells))
    encoder = summary["encoder"]
    return harness.Result(
        summary={
            "num_samples": counts.tolist(),
            "ratios": {name: averages.plain(values) for name, values in ratios.items()},
            "slopes": summary,
        },
        headline=f"the encoder's ratio goes as K^({encoder['IWAE']['mean']:+.2f}) for "
        "the IWAE, "
        f"K^({encoder['IWAE-DReG']['mean']:+.2f}) for DReG",
        about=f"Exponent of the signal-to-noise ratio in K, fitted from {FITTED_FROM} "
        f"to {counts[-1]} samples; "
        f"{config.num_draws:,} draws of {config.num_examples} examples; "
        f"{config.num_groups} groups of MIWAE and PIWAE; "
        f"mean ± std over {config.num_seeds} repetitions",
        header=("objective", "encoder", "theory", "decoder", "theory"),
        rows=rows,
        figures=partial(_figures, counts, ratios),
        captions={
            part: (
                f"Signal-to-noise ratio of the {part}'s gradient; MIWAE lies under "
                "PIWAE."
            )
            for part in PARTS
        },
    )


def slope(counts: np.ndarray, ratios: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Fit s in log ratio = a + s log K + c / K by least squares.

    Returns:
      s and its standard error by the residuals, `[seeds]` each; NaN where a ratio was
      lost in noise.
    """
    fitted = counts >= FITTED_FROM
    design = np.stack(
        [np.ones(fitted.sum()), np.log(counts[fitted]), 1 / counts[fitted]], axis=1
    )
    covariance = np.linalg.inv(design.T @ design)
    logarithms = np.log(ratios[:, fitted])
    coefficients = logarithms @ design @ covariance
    residuals = logarithms - coefficients @ design.T
    variance = np.sum(np.square(residuals), axis=1) / (fitted.sum() - 3)
    return coefficients[:, 1], np.sqrt(variance * covariance[1, 1])


def _figures(counts: np.ndarray, ratios: Mapping[str, np.ndarray]) -> dict[str, Any]:
    return {
        part: plots.curves(
            counts,
            {name: values[index].T for name, values in ratios.items()},
            xlabel="importance samples K (of a group)",
            ylabel=f"signal-to-noise ratio, {part}",
            log_x=True,
            log_y=True,
        )
        for index, part in enumerate(PARTS)
    }


if __name__ == "__main__":
    cli.measure(Config, measure)
