"""Figures of a run on a table: its columns, and what each latent does to them."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

import vaejax
from experiments.harness import figures
from vaejax import latent, plots
from vaejax.base import VAE, Array, Key, Params
from vaejax.datasets import Schema
from vaejax.distributions import Categorical, MaskedEvent, Mixed

CAPTIONS = {
    "marginals": (
        "Each column in the test rows, and as the model draws it: z ~ p(z), "
        "x ~ p(x|z). The columns that are shown are spread over the table."
    ),
    "profiles": (
        "What each latent does to the columns: the mean of p(x|z) as the latent moves "
        "from the 2 % quantile (open) to the 98 % quantile (filled) of the codes, the "
        "others at their median. In standard deviations of the column over the test "
        "rows; classes in percentage points of the class that changes most, over 25."
    ),
}
SHOWN_COLUMNS, SHOWN_CLASSES = 12, 12
SHOWN_LATENTS, PROFILE_COLUMNS = 6, 25
QUANTILES = (0.02, 0.5, 0.98)
MOST_DRAWS = 2000
_DISCRETE = ("binary", "class", "ordinal")


def table_figures(
    vae: VAE, context: Any, params: Params, key: Key, history: list[dict]
) -> Mapping[str, Any]:
    """Draw learning curves, the columns beside their draws, and profiles of latents.

    Args:
      vae: the model.
      context: the table and its parts, an `own.tables.Context`.
      params: trained parameters.
      key: key of the draws.
      history: the lines of metrics.jsonl.
    """
    schema, test = context.schema, context.part("test")
    found = profiles(vae, params, key, schema, test, num=SHOWN_LATENTS)
    return {
        "learning_curves": figures.learning_curves(history),
        "marginals": marginals(vae, params, key, schema, test),
        "profiles": draw_profiles(found),
    }


def marginals(
    vae: VAE, params: Params, key: Key, schema: Schema, test: MaskedEvent
) -> Figure:
    """Return a figure of test rows beside draws: bars for classes, else histograms."""
    draws = jax.jit(
        lambda params, key: vaejax.sample(
            vae, params, key, MOST_DRAWS, example_point=latent.draw
        )
    )(params, key)
    columns = _modeled(schema)
    shown = np.unique(
        np.linspace(0, len(columns) - 1, min(SHOWN_COLUMNS, len(columns))).astype(int)
    )
    across = min(3, len(shown))
    down = -(-len(shown) // across)
    figure = Figure(
        figsize=(2.4 * across + 0.4, 1.8 * down + 0.6), layout="constrained"
    )
    grid = np.ravel(figure.subplots(down, across, squeeze=False))
    for axes, j in zip(grid, shown, strict=False):
        observed = test.values[test.mask[:, j], j]
        series = {"test rows": observed, "draws": np.asarray(draws)[:, j]}
        _draw_column(axes, columns[j], series)
    for axes in grid[len(shown) :]:
        axes.set_visible(False)
    handles, labels = grid[0].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside lower center", ncols=2, frameon=False, fontsize=8
    )
    return figure


def _draw_column(axes: Any, column: Any, series: Mapping[str, np.ndarray]) -> None:
    """Draw one column; the values of the file are `origin` above those of the model."""
    axes.set_title(_plain(column.name), fontsize=8)
    axes.tick_params(labelsize=7)
    axes.set_yticks([])
    axes.spines[["top", "right", "left"]].set_visible(False)
    if column.kind in _DISCRETE:
        _draw_classes(axes, column.classes, series)
        return
    together = np.concatenate(list(series.values())).astype(np.float64) + column.origin
    bins = _bins(together, column.step or (column.kind == "count"))
    for color, (label, values) in zip(plots.COLORS, series.items(), strict=False):
        axes.hist(
            np.asarray(values, np.float64) + column.origin,
            bins,
            density=True,
            histtype="step",
            color=color,
            label=label,
            linewidth=1.3,
        )


def _bins(values: np.ndarray, step: float) -> Any:
    """Edges over the middle 99 % of the values, between those that a step allows."""
    low, high = np.quantile(values, [0.005, 0.995]) if len(values) else (0.0, 0.0)
    if not high > low:
        return 10
    if not step:
        return np.linspace(low, high, 31)
    width = step * max(1, round((high - low) / (30 * step)))
    first = values.min() - step / 2
    first += width * np.floor((low - first) / width)
    return np.arange(first, high + width, width)


def _draw_classes(
    axes: Any, classes: Sequence[str], series: Mapping[str, np.ndarray]
) -> None:
    num = len(classes)
    counts = {
        label: np.bincount(np.asarray(values, int), minlength=num) / max(len(values), 1)
        for label, values in series.items()
    }
    order = np.arange(num)
    if num > SHOWN_CLASSES:
        order = np.sort(np.argsort(-next(iter(counts.values())))[:SHOWN_CLASSES])
    for place, (label, shares) in enumerate(counts.items()):
        axes.bar(
            np.arange(len(order)) + 0.4 * place - 0.2,
            shares[order],
            0.4,
            color=plots.COLORS[place],
            label=label,
        )
    names = [_plain(classes[k])[:12] for k in order]
    axes.set_xticks(
        range(len(order)),
        names,
        rotation=90 if max(map(len, names)) > 3 and len(order) > 3 else 0,
    )


class Profiles(NamedTuple):
    """Changes of the columns as each latent moves.

    Attributes:
      latents: numbers of the latents, those that carry most first.
      kl: nats that each carries.
      names: names of the columns, with the class that changes most.
      values: the moved columns, `[latents, columns, quantiles]`, less those at the
        median of all latents.
    """

    latents: np.ndarray
    kl: np.ndarray
    names: list[str]
    values: np.ndarray


def profiles(
    vae: VAE,
    params: Params,
    key: Key,
    schema: Schema,
    test: MaskedEvent,
    *,
    num: int,
) -> Profiles:
    """Return the columns as each latent moves through the quantiles of the codes.

    `num` is the number of latents, of those that carry most.
    """
    statistics = jax.jit(
        partial(latent.code_statistics, vae, quantiles=jnp.array(QUANTILES))
    )(params, key, test)
    order = np.asarray(statistics.order)[:num]
    quantiles = np.asarray(statistics.quantiles)
    middle = quantiles[:, len(QUANTILES) // 2]
    codes = np.repeat(middle[None], len(order) * len(QUANTILES), axis=0)
    for i, j in enumerate(order):
        codes[i * len(QUANTILES) : (i + 1) * len(QUANTILES), j] = quantiles[j]
    describe = jax.jit(
        jax.vmap(lambda params, z: _expected(vae.decode(params, z)), in_axes=(None, 0))
    )
    moved = jax.device_get(describe(params, codes))
    names, values = [], []
    for j, column in enumerate(_modeled(schema)):
        name, cells = _profile_of(column, j, moved, test)
        names.append(name)
        values.append(cells.reshape(len(order), len(QUANTILES)))
    return Profiles(order, np.asarray(statistics.kl)[order], names, np.stack(values, 1))


def _expected(row: Mixed) -> tuple[Array, dict[int, Array]]:
    """The mean of each column, and the probabilities of classes by column."""
    classes = {}
    for group, places in zip(row.distributions, row.positions, strict=True):
        if isinstance(group, Categorical):
            shares = jax.nn.softmax(group.logits, axis=-1)
            classes |= {place: shares[i] for i, place in enumerate(places)}
    return row.mean, classes


def _profile_of(
    column: Any, j: int, moved: tuple[np.ndarray, dict[int, np.ndarray]], test: Any
) -> tuple[str, np.ndarray]:
    """The name of a column, and its values on a common scale, less the middle one."""
    means, classes = moved
    middle = len(QUANTILES) // 2
    if j in classes:
        shares = classes[j]
        changes = np.ptp(shares, axis=0)
        k = int(np.argmax(changes))
        return (
            f"{column.name}: {column.classes[k]}",
            (shares[:, k] - shares[middle, k]) / 0.25,
        )
    of_column = means[:, j]
    cells = test.values[test.mask[:, j], j].astype(np.float64)
    if column.kind == "binary":
        scale = 0.25
    elif column.kind in ("positive", "count"):
        # On the scale that the model standardizes.
        forward = np.log if column.kind == "positive" else np.log1p
        of_column = forward(of_column)
        scale = column.scale
    else:
        scale = float(cells.std()) or 1.0
    return column.name, (of_column - of_column[middle]) / scale


def draw_profiles(found: Profiles) -> Figure:
    """Return a figure with a panel for each latent and a line for each column."""
    shown = np.arange(len(found.names))
    if len(shown) > PROFILE_COLUMNS:
        moves = np.abs(found.values).max(axis=(0, 2))
        shown = np.sort(np.argsort(-moves)[:PROFILE_COLUMNS])
    width = len(found.latents)
    figure = Figure(
        figsize=(1.5 * width + 2, 0.22 * len(shown) + 1.2), layout="constrained"
    )
    grid = np.ravel(figure.subplots(1, width, squeeze=False, sharey=True, sharex=True))
    lines = np.arange(len(shown))[::-1]
    for axes, j, kl, values in zip(
        grid, found.latents, found.kl, found.values, strict=True
    ):
        low, high = values[shown, 0], values[shown, -1]
        axes.axvline(0, color="0.8", linewidth=0.8)
        axes.hlines(lines, low, high, color=plots.COLORS[0], linewidth=1.2)
        axes.scatter(low, lines, s=14, facecolor="white", edgecolor=plots.COLORS[0])
        axes.scatter(high, lines, s=14, color=plots.COLORS[0])
        axes.set_title(f"z{j + 1}: {kl:.2f} nats", fontsize=8)
        axes.tick_params(labelsize=7)
        axes.spines[["top", "right"]].set_visible(False)
    grid[0].set_yticks(lines, [_plain(found.names[i])[:28] for i in shown], fontsize=7)
    return figure


def _modeled(schema: Schema) -> list[Any]:
    return [column for column in schema.columns if column.is_modeled]


def _plain(text: str) -> str:
    """A text of the user's that matplotlib does not read as mathematics."""
    return text.replace("$", r"\$")
