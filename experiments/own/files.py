"""The files that a run on a table leaves, in the units and the order of the user's.

`embeddings.csv` and `reconstructions.csv` have a line for every row of the file,
`scores.csv` for every test row, `samples.csv` for every draw from the model.
"""

import csv
import io
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

import vaejax
from experiments.harness.experiment import Rows
from experiments.harness.load_run import in_batches
from vaejax import exporting, latent
from vaejax.base import VAE, Array, Key, Params
from vaejax.datasets import Schema
from vaejax.distributions import MaskedEvent

NUM_SAMPLES = 1000
# Importance samples of the outlier scores of a row.
SCORE_SAMPLES = 200
SCORED_AT_ONCE = 8
MODEL = "model.vaejax"


def table_files(
    vae: VAE, rows: Rows, context: Any, params: Params, key: Key
) -> Mapping[str, bytes]:
    """Return the files of a run by name; see the module.

    Args:
      vae: the model.
      rows: how rows of the file become examples, and come back.
      context: the table and its parts, an `own.tables.Context`.
      params: trained parameters.
      key: key of the draws.
    """
    sample_key, score_key = jax.random.split(key)
    table = context.table
    xs = MaskedEvent(np.asarray(table.values, np.float32), np.asarray(table.mask, bool))
    carried = {"row": np.arange(1, len(xs.values) + 1), **table.ignored}
    codes, means, draws = _computed(vae, rows, params, sample_key, xs)
    if not all(np.isfinite(each).all() for each in (codes, means, draws)):
        print(
            "no files: the codes or rows of the model are not finite", file=sys.stderr
        )
        return {}
    latents = {f"z{j + 1}": codes[:, j] for j in range(codes.shape[1])}
    beside = _distinct(
        carried | {"part": _part_of_each(context)},
        [*rows.schema.decode(means[:1]), *latents],
    )
    return {
        "embeddings.csv": as_csv(beside | latents),
        "reconstructions.csv": _in_units(rows.schema, means, beside),
        "samples.csv": _in_units(rows.schema, draws, {}),
        "scores.csv": as_csv(_scores(vae, params, score_key, context, carried)),
        **exported_model(vae, rows, params, jax.tree.map(lambda leaf: leaf[0], xs)),
    }


def _computed(
    vae: VAE, rows: Rows, params: Params, key: Key, xs: MaskedEvent
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Codes and reconstructions of every row, and draws from the model."""

    def decode(params: Params, z: Array) -> Array:
        return rows.point(None, vae.decode(params, z))

    embed = jax.jit(lambda params, xs: vaejax.embed(vae, params, xs))
    codes = in_batches(embed, params, xs)
    means = in_batches(jax.jit(jax.vmap(decode, in_axes=(None, 0))), params, codes)
    draw = jax.jit(
        lambda params, key: vaejax.sample(
            vae, params, key, NUM_SAMPLES, example_point=latent.draw
        )
    )
    return codes, means, np.asarray(draw(params, key))


def _part_of_each(context: Any) -> np.ndarray:
    """The name of the part that each row belongs to, `[rows]`."""
    found = np.full(len(context.table.values), "", object)
    for name, numbers in context.rows.items():
        found[numbers] = name
    return found


def _in_units(schema: Schema, values: np.ndarray, beside: Mapping[str, Any]) -> bytes:
    """Rows of the model as a CSV file in the units of the user's, after others."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "rows.csv")
        schema.to_csv(values, path, extra=beside)
        return path.read_bytes()


def _scores(
    vae: VAE, params: Params, key: Key, context: Any, carried: Mapping[str, Any]
) -> dict[str, Any]:
    """The outlier scores of the test rows, and of their cells, blank where missing."""
    test, numbers = context.part("test"), context.rows["test"]
    keys = jax.random.split(key, len(numbers))

    def score(row: Any) -> Any:
        key, x = row
        found = latent.outlier_scores(vae, params, key, x, num_samples=SCORE_SAMPLES)
        return found.score, found.column_scores

    scores, cells = jax.jit(
        lambda rows: jax.lax.map(score, rows, batch_size=SCORED_AT_ONCE)
    )((keys, test))
    cells = np.where(test.mask, np.asarray(cells), np.nan)
    columns = {f"score of {name}": cells[:, j] for j, name in enumerate(context.names)}
    own = {"score": np.asarray(scores)} | columns
    beside = {
        name: [cells[i] for i in numbers]
        for name, cells in _distinct(carried, own).items()
    }
    return beside | own


def exported_model(vae: VAE, rows: Rows, params: Params, x: Any) -> dict[str, bytes]:
    """Return the exported model with its schema; nothing, and a line, if it cannot be.

    Args:
      vae: the model.
      rows: how rows of the file become examples; its schema travels in the file.
      params: trained parameters.
      x: one example.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, MODEL)
        try:
            exporting.export(
                vae,
                params,
                x,
                path,
                example_point=rows.point,
                metadata={"schema": rows.schema.as_dict()},
            )
        except (ImportError, NotImplementedError) as error:
            print(f"no {MODEL}: {error}", file=sys.stderr)
            return {}
        return {MODEL: path.read_bytes()}


def as_csv(columns: Mapping[str, Sequence[Any] | np.ndarray]) -> bytes:
    """Return columns by name as the bytes of a CSV file; what is missing is blank."""
    cells = [
        [_cell(value) for value in column] for column in map(_listed, columns.values())
    ]
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*cells, strict=True))
    return text.getvalue().encode()


def _listed(column: Sequence[Any] | np.ndarray) -> Sequence[Any]:
    if isinstance(column, np.ndarray) and column.dtype == np.float32:
        # The shortest text that is this number in float32.
        return [float(str(value)) for value in column]
    return column.tolist() if isinstance(column, np.ndarray) else list(column)


def _cell(value: Any) -> Any:
    return "" if value is None or value != value else value


def _distinct(beside: Mapping[str, Any], names: Any) -> dict[str, Any]:
    """Columns under names that none of `names` has."""
    taken, found = set(names), {}
    for name, cells in beside.items():
        while name in taken:
            name += "_"
        taken.add(name)
        found[name] = cells
    return found
