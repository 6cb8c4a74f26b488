"""Stroke thickness and slant of the digits, and the latents that carry them.

Both factors are measured on the pixels of the gray test digits. Each latent is
correlated with them over the test set (Spearman, of posterior means), and the whole
code by linear regression. Then the other way: the latent that knows a factor best is
moved through the quantiles of the aggregate posterior, and so is the code along the
regression's direction, and the factor is measured on the decoded images. The VAE
is trained on neither.

Papers: Kingma & Welling 2014; the measures in the manner of Castro et al. 2019
(Morpho-MNIST). Command: python -m experiments.digit_factors --num-seeds 3
"""

import dataclasses
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats

import vaejax
from experiments import harness
from experiments.harness import averages, binary_images, cli, keys
from experiments.judges import strokes
from vaejax import plots
from vaejax.base import VAE, Array, Params
from vaejax.training import TrainState

ABOUT = harness.About(
    what="stroke thickness and slant of the digits, found among the latents",
    paper="in the manner of Castro et al. 2019",
    cost="3 minutes on 2 cores, 3 seeds",
    expected="R² of the whole code 0.59 for thickness, 0.86 for slant",
)

FACTORS: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
    "thickness": strokes.thickness,
    "slant": strokes.slant,
}
UNITS = {"thickness": "pixels", "slant": "degrees"}
# Quantiles of the aggregate posterior, within which a traversal stays.
MASSES = np.linspace(0.02, 0.98, 11)
SHOWN = 8  # test digits whose traversals are measured and drawn


@dataclasses.dataclass(frozen=True)
class Config(binary_images.Config):
    latent_size: int = 10
    """Dimensions of z."""


def make_experiment(config: Config) -> harness.Comparison:
    binary_images.check_no_nll(config)
    if config.sweep:
        raise harness.UsageError(
            "--sweep: this experiment looks at one setting; leave it out."
        )
    experiment = binary_images.dense_experiment(config)
    _, test = harness.load_images(config)
    if test.images.ndim != 3:
        raise harness.UsageError(
            f"--data {config.data} has images of {test.images.shape[1:]}; strokes need "
            "gray ones."
        )
    images = np.asarray(test.images, np.float32) / (
        255 if test.images.dtype == np.uint8 else 1
    )
    factors = {name: measure(images) for name, measure in FACTORS.items()}
    for name, values in factors.items():
        if np.isnan(values).mean() > 0.5 or np.nanstd(values) == 0:
            raise harness.UsageError(
                f"--data {config.data} has no strokes whose {name} varies; give images "
                "of writing."
            )
    return harness.Comparison({harness.ONLY: experiment}, context=factors)


def analyze(trained: harness.Trained) -> harness.Result:
    """Return how well latents tell the factors, and what they decode to, over seeds."""
    experiment, members = trained.experiments[harness.ONLY], trained.members
    factors: Mapping[str, np.ndarray] = trained.context
    found = []
    for index in range(members.num):
        state = trained.state(member=index)
        found.append(look(experiment.vae, state, experiment.test, factors))
        trained.check_interrupts()
    numbers = {
        f"{name}, {what}": averages.over_seeds(
            np.array([one["numbers"][name][what] for one in found])
        )
        for name in factors
        for what in found[0]["numbers"][name]
    }
    num_latents = len(found[0]["correlations"])
    return harness.Result(
        summary={
            "test": numbers,
            "latent_size": num_latents,
            "num_examples": len(experiment.test),
        },
        headline=", ".join(
            f"{name}: |correlation| "
            f"{averages.text(numbers[f'{name}, largest |correlation|'], 2)}"
            for name in factors
        ),
        about=f"{len(experiment.test):,} test digits, {num_latents} latents; Spearman "
        "correlations of posterior means "
        "with what is measured on the gray digits; ranges measured on decoded digits, "
        f"mean over {SHOWN} of them, from "
        f"the {MASSES[0]:.0%} to the {MASSES[-1]:.0%} quantile; {members.describe()}",
        rows=[
            (name, averages.text(number, 2), _unit(name))
            for name, number in numbers.items()
        ],
        figures=partial(_figures, found[0]),
        captions={
            "correlations": "Spearman correlation of each latent with each factor, "
            "seed by seed the first; latents "
            "from the largest KL to the smallest.",
            "measured": "The factor measured on decoded digits, as one latent, or the "
            "code along one direction, is "
            "moved; mean and std over the digits shown.",
        }
        | {
            f"{name}_traversal": f"The latent that knows the {name} best, moved."
            for name in factors
        }
        | {
            f"{name}_direction": (
                f"The code moved along the regression's direction of {name}."
            )
            for name in factors
        },
        files=partial(_animations, found[0]),
    )


def look(
    vae: VAE, state: TrainState, xs: Array, factors: Mapping[str, np.ndarray]
) -> dict[str, Any]:
    """Return what one model knows of the factors.

    These are correlations, numbers, and moved digits with the factors measured on them.
    """
    params = state.params
    statistics = jax.jit(
        partial(vaejax.latent.code_statistics, vae, quantiles=jnp.asarray(MASSES))
    )(params, jax.random.fold_in(state.key, keys.STATISTICS), xs)
    codes = np.asarray(jax.jit(partial(vaejax.embed, vae))(params, xs)).reshape(
        len(xs), -1
    )
    moved = np.asarray(
        jax.jit(partial(_traversals, vae))(params, xs[:SHOWN], statistics.quantiles)
    )
    correlations = np.stack(
        [_correlations(codes, values) for values in factors.values()], axis=1
    )
    numbers, images, measured = {}, {}, {}
    for index, (name, values) in enumerate(factors.items()):
        best = int(np.argmax(np.abs(correlations[:, index])))
        line = regress(codes, values)
        along = jax.jit(partial(_along, vae))(
            params,
            xs[:SHOWN],
            *map(jnp.asarray, (line.mean, line.direction, line.quantiles)),
        )
        images[name] = {"traversal": moved[:, best], "direction": np.asarray(along)}
        measured[name] = {
            what: _measure(FACTORS[name], shown) for what, shown in images[name].items()
        }
        others = [
            _span(_measure(FACTORS[name], moved[:, j]))
            for j in range(moved.shape[1])
            if j != best
        ]
        second = (
            np.sort(np.abs(correlations[:, index]))[-2]
            if len(correlations) > 1
            else 0.0
        )
        numbers[name] = {
            "largest |correlation|": np.abs(correlations[best, index]),
            "second largest |correlation|": second,
            "R² of the whole code": line.explained,
            "range over the data": np.ptp(np.nanquantile(values, MASSES[[0, -1]])),
            "range decoded, best latent": _span(measured[name]["traversal"]),
            "range decoded, median of the others": float(np.median(others))
            if others
            else 0.0,
            "range decoded, direction": _span(measured[name]["direction"]),
        }
    return {
        "numbers": numbers,
        "correlations": correlations,
        "kl": np.asarray(statistics.kl),
        "order": np.asarray(statistics.order),
        "images": images,
        "measured": measured,
    }


class Regression(NamedTuple):
    """A linear fit of a factor to codes.

    Attributes:
      mean: mean of the codes, `[dimensions]`.
      direction: the shortest direction along which a code gains one unit of the fitted
        factor, `[dimensions]`.
      explained: R².
      quantiles: quantiles of the fitted factor over the data at `MASSES`, about its
        mean.
    """

    mean: np.ndarray
    direction: np.ndarray
    explained: float
    quantiles: np.ndarray


def regress(codes: np.ndarray, values: np.ndarray) -> Regression:
    """Fit `values`, `[num]`, to codes, `[num, dimensions]`, by least squares.

    Values that are NaN are left out.
    """
    known = np.isfinite(values)
    mean = codes[known].mean(axis=0)
    centered = codes[known] - mean
    target = values[known] - values[known].mean()
    weights, *_ = np.linalg.lstsq(centered, target, rcond=None)
    fitted = centered @ weights
    explained = 1 - np.sum((target - fitted) ** 2) / np.sum(target**2)
    return Regression(
        mean,
        weights / np.sum(weights**2),
        float(explained),
        np.quantile(fitted, MASSES),
    )


def _correlations(codes: np.ndarray, values: np.ndarray) -> np.ndarray:
    known = np.isfinite(values)
    found = [
        scipy.stats.spearmanr(code[known], values[known]).statistic for code in codes.T
    ]
    return np.nan_to_num(np.array(found))


def _traversals(vae: VAE, params: Params, xs: Array, quantiles: Array) -> Array:
    """`[examples, dimensions, quantiles, height, width]`."""
    return jax.vmap(lambda x: vaejax.traverse(vae, params, x, steps=quantiles))(xs)


def _along(
    vae: VAE, params: Params, xs: Array, mean: Array, direction: Array, quantiles: Array
) -> Array:
    """`[examples, quantiles, height, width]`; each code starts where it is."""
    # Along the direction alone: what a digit has of it is replaced, as a traversal
    # replaces a coordinate.
    length = jnp.sum(jnp.square(direction))

    def one(x: Array) -> Array:
        has = jnp.sum((vae.encode(params, x).mean - mean) * direction) / length
        return vaejax.latent.shift_latents(vae, params, x, direction, quantiles - has)

    return jax.vmap(one)(xs)


def _measure(
    factor: Callable[[np.ndarray], np.ndarray], images: np.ndarray
) -> np.ndarray:
    """`[examples, steps]` of images `[examples, steps, height, width]`."""
    return factor(images.reshape(-1, *images.shape[2:])).reshape(images.shape[:2])


def _span(measured: np.ndarray) -> float:
    """The mean change of a factor over examples, from the first to the last step."""
    return float(np.abs(np.nanmean(measured[:, -1] - measured[:, 0])))


def _unit(name: str) -> str:
    factor, what = name.split(", ", 1)
    return (
        UNITS[factor]
        if what.startswith("range")
        else "of Spearman"
        if "correlation" in what
        else "of a regression"
    )


def _figures(found: dict[str, Any]) -> dict[str, Any]:
    order, names = found["order"], list(found["measured"])
    labels = [f"z{j + 1}, {found['kl'][j]:.1f} nats" for j in order]
    figures = {
        "correlations": plots.matrix(
            found["correlations"][order],
            row_labels=labels,
            column_labels=names,
            label="Spearman correlation",
            title="Posterior means and measured strokes",
        )
    }
    columns = [f"{mass:.0%}" for mass in MASSES]
    for index, name in enumerate(names):
        best = int(np.argmax(np.abs(found["correlations"][:, index])))
        titles = {
            "traversal": f"Latent z{best + 1} (correlation with {name} "
            f"{found['correlations'][best, index]:+.2f}) "
            "through the quantiles of the aggregate posterior",
            "direction": (
                f"The code along the regression's direction of {name}, through its "
                "quantiles over the data"
            ),
        }
        for what, images in found["images"][name].items():
            figures[f"{name}_{what}"] = plots.image_grid(
                images, title=titles[what], column_labels=columns
            )
        figures[f"{name}_measured"] = plots.curves(
            [100 * mass for mass in MASSES],
            {
                f"latent z{best + 1}": found["measured"][name]["traversal"].T,
                "direction of the regression": found["measured"][name]["direction"].T,
            },
            xlabel="quantile (%)",
            ylabel=f"{name} of the decoded digit ({UNITS[name]})",
        )
    return figures


def _animations(found: dict[str, Any]) -> dict[str, bytes]:
    return {
        f"animations/{name}.gif": plots.animation(
            np.swapaxes(images["direction"], 0, 1)[:, None]
        )
        for name, images in found["images"].items()
    }


if __name__ == "__main__":
    cli.train(Config, make_experiment, analyze)
