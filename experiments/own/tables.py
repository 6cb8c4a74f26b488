"""A table with columns of different kinds: from the file to the model.

Rows are split before anything is fitted, so that the scaling and the independent
columns know the training rows alone.
"""

import collections
import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import optax

import vaejax
from experiments import harness
from experiments.harness import model_options
from experiments.harness.experiment import Rows
from experiments.own import figures, files
from vaejax import datasets, estimators
from vaejax.base import Array, Distribution, Key
from vaejax.distributions import MaskedEvent, mixed_head

# Standardized values of training cells beyond which a column is said to have outliers.
FAR = 30.0
SUFFIXES = (".csv", ".csv.gz", ".tsv", ".tsv.gz", ".parquet")
# Columns of a wide table that are printed.
SHOWN_COLUMNS = 30
PARTS = ("train", "validation", "test")
_BY_MODE = ("binary", "class", "ordinal")


class Context(NamedTuple):
    """Data that the analysis of a table needs beside the model.

    Attributes:
      table: the whole table, in the order of the file.
      schema: its columns, with the scaling of the training rows.
      rows: numbers of the rows of each part, by name.
      independent: the columns fitted alone.
    """

    table: datasets.Table
    schema: datasets.Schema
    rows: Mapping[str, np.ndarray]
    independent: Distribution

    def part(self, name: str) -> MaskedEvent:
        """Return the rows of a part as examples."""
        return examples(self.table, self.rows[name])

    def columns(self) -> tuple[list[str], np.ndarray]:
        """Return names and mask of the columns of the test rows."""
        return self.names, self.part("test").mask

    @property
    def names(self) -> list[str]:
        """The names of the modeled columns."""
        return list(self.schema.names())


def parse_kinds(columns: Sequence[str]) -> dict[str, str]:
    """Return `{name: kind}` of --columns, `age=real,smoker=binary`.

    Raises:
      UsageError: an item is no `name=kind`.
    """
    kinds = {}
    for item in (part for text in columns for part in text.split(",") if part.strip()):
        name, sign, kind = item.rpartition("=")
        if not (sign and name.strip() and kind.strip()):
            raise harness.UsageError(
                f"--columns: {item.strip()!r} names no kind; write NAME=KIND, as in "
                "age=real,smoker=binary,id=ignore."
            )
        kinds[name.strip()] = kind.strip()
    return kinds


def takes(config: Any) -> bool:
    """Return whether --data is a table whose columns have likelihoods of their own.

    Raises:
      UsageError: an option of tables is given for other data, or the reverse.
    """
    given = [name for name in ("columns", "missing", "schema") if getattr(config, name)]
    given += ["header"] if config.header != "auto" else []
    is_table = config.data.lower().endswith(SUFFIXES) or _matrix_of(config) is not None
    if given and not (is_table and config.likelihood == "auto"):
        raise harness.UsageError(
            f"--{given[0]} is for tables whose columns have likelihoods of their own; "
            "leave it out, or give a table and no --likelihood."
        )
    if not is_table or config.likelihood != "auto":
        return False
    if config.network == "convolutional":
        raise harness.UsageError(
            "--network convolutional: the rows of a table are no images; take mlp."
        )
    return True


def read(config: Any) -> datasets.Table:
    """Read the table that --data names, as the options of tables say.

    Raises:
      UsageError: the file, or one of the options, cannot be used.
    """
    options: dict[str, Any] = {"kinds": parse_kinds(config.columns)}
    try:
        if config.schema is not None:
            options["schema"] = datasets.Schema.read(config.schema)
        if config.missing:
            given = [
                text.strip() for item in config.missing for text in item.split(",")
            ]
            schema = options.get("schema", datasets.Schema)
            missing = tuple(dict.fromkeys([*schema.missing, *given]))
            if config.schema is None:
                options["missing"] = missing
            else:
                options["schema"] = dataclasses.replace(schema, missing=missing)
        if config.header != "auto":
            options["header"] = config.header == "yes"
        matrix = _matrix_of(config)
        return datasets.read_table(config.data if matrix is None else matrix, **options)
    except (ValueError, TypeError, OSError) as error:
        raise harness.UsageError(f"--data: {error}") from error


def _matrix_of(config: Any) -> np.ndarray | None:
    """Return the array of a .npy or .npz file, if it has rows and columns of numbers.

    Missing cells may be NaN.
    """
    path = Path(config.data).expanduser()
    if path.suffix.lower() not in (".npy", ".npz"):
        return None
    try:
        array = datasets.load_array(path, allow_nan=True)
    except ValueError:
        return None  # what reads images says what is wrong
    return array if array.ndim == 2 else None


def split(num_rows: int, num_validation: int) -> dict[str, np.ndarray]:
    """Return the numbers of the rows of each part, sorted; `validation` may be empty.

    Raises:
      UsageError: there are too few rows.
    """
    try:
        train, test = datasets.split_indices(num_rows)
    except ValueError as error:
        raise harness.UsageError(f"--data: {error}") from error
    if num_validation >= len(train):
        raise harness.UsageError(
            f"--num-validation is {num_validation} and there are {len(train)} training "
            "rows; give fewer."
        )
    kept = len(train) - num_validation
    return dict(zip(PARTS, (train[:kept], train[kept:], test), strict=True))


def examples(table: datasets.Table, rows: np.ndarray | slice) -> MaskedEvent:
    """Return rows of a table as the model takes them."""
    return MaskedEvent(
        np.asarray(table.values[rows], np.float32), np.asarray(table.mask[rows], bool)
    )


def rows_of(schema: datasets.Schema) -> Rows:
    """Return how rows of a frame become examples of the model, and come back."""
    columns = schema.modeled()
    by_mode = jnp.array([column.kind in _BY_MODE for column in columns])

    def point(key: Key | None, row: Any) -> Array:
        del key
        return jnp.where(by_mode, row.mode, row.mean)

    return Rows(
        schema,
        examples_of=lambda frame: examples(schema.encode_frame(frame), slice(None)),
        rows_of=schema.decode,
        point=point,
    )


def make_experiment(config: Any) -> harness.Comparison:
    """Read and describe the table, and return its model with what the verdict needs."""
    table = read(config)
    rows = split(len(table.values), config.num_validation)
    train = examples(table, rows["train"])
    try:
        schema = table.schema.fitted(train.values, train.mask)
        columns = schema.modeled()
        outputs = estimators.fit_independent_columns(columns, train.values, train.mask)
    except ValueError as error:
        raise harness.UsageError(f"--data: {error}") from error
    independent = mixed_head(columns).apply((), jnp.asarray(outputs))
    context = Context(table, schema, rows, independent)
    experiment = _experiment(config, schema, outputs, train)._replace(
        notes=description(config, context),
        test=context.part("test"),
        data_checksum=checksum(table),
        validation=context.part("validation") if config.num_validation else None,
    )
    codec = experiment.rows
    return harness.Comparison(
        {
            harness.ONLY: experiment._replace(
                figures=partial(figures.table_figures, experiment.vae, context),
                files=partial(files.table_files, experiment.vae, codec, context),
            )
        },
        context=context,
    )


def without_data(config: Any, record: Mapping[str, Any]) -> harness.Experiment:
    """Return the experiment of a run whose data are gone, from its schema."""
    schema = datasets.Schema.from_dict(record)
    columns = schema.modeled()
    outputs = jnp.zeros(mixed_head(columns).num_outputs)
    shape = (config.batch_size, len(columns))
    empty = MaskedEvent(np.zeros(shape, np.float32), np.zeros(shape, bool))
    return _experiment(config, schema, outputs, empty)


def _experiment(
    config: Any, schema: datasets.Schema, outputs: Array, train: MaskedEvent
) -> harness.Experiment:
    vae = model_options.make_table_vae(
        config, schema.modeled(), jnp.asarray(outputs, jnp.float32)
    )
    loss_fn = vaejax.mean_over_batch(partial(vaejax.negative_elbo, vae))
    num_steps = config.epochs * harness.steps_per_epoch(train, config.batch_size)

    def recipe(hyperparameters: Mapping[str, Any]) -> harness.Recipe:
        learning_rate = optax.cosine_decay_schedule(
            hyperparameters["learning_rate"], num_steps
        )
        return harness.Recipe(loss_fn, optax.adam(learning_rate))

    return harness.Experiment(
        vae=vae,
        recipe=recipe,
        hyperparameters={"learning_rate": config.learning_rate},
        batch_size=config.batch_size,
        train=train,
        test=train,
        data_checksum="",
        binarization="none",
        num_samples=config.num_samples,
        captions=figures.CAPTIONS,
        records={"schema.json": schema.as_dict()},
        rows=rows_of(schema),
    )


def checksum(table: datasets.Table) -> str:
    """Return the SHA-256 of the modeled cells, their mask, and the columns' kinds."""
    kinds = [(column.name, column.kind) for column in table.schema.columns]
    sha = hashlib.sha256(json.dumps(kinds).encode())
    for array in (table.values, table.mask):
        sha.update(str(array.shape).encode())
        sha.update(np.ascontiguousarray(array).tobytes())
    return sha.hexdigest()


def description(config: Any, context: Context) -> list[str]:
    """Return the schema, the parts and warnings of scale, in words."""
    counts = ", ".join(
        f"{len(rows):,} for {'training' if name == 'train' else name}"
        for name, rows in context.rows.items()
        if len(rows)
    )
    return [
        f"{config.data}: {len(context.table.values):,} rows: {counts}, drawn with a "
        "fixed seed; scaling and independent columns are fitted to the training rows",
        *schema_lines(context.schema),
        *scale_warnings(context),
    ]


def schema_lines(schema: datasets.Schema) -> list[str]:
    """Return the columns with their kinds and reasons, of a wide table the first."""
    title, *lines, advice = schema.text().splitlines()
    if len(lines) <= SHOWN_COLUMNS:
        return [title, *lines, advice]
    kinds = collections.Counter(column.kind for column in schema.columns)
    counts = ", ".join(f"{num} {kind}" for kind, num in kinds.most_common())
    return [
        title,
        *lines[:SHOWN_COLUMNS],
        f"and {len(lines) - SHOWN_COLUMNS} more, in schema.json; in all {counts}",
        advice,
    ]


def scale_warnings(context: Context) -> list[str]:
    """Return a sentence for each column whose values lie far apart on its own scale."""
    train, lines = context.part("train"), []
    for j, (name, column) in enumerate(
        zip(context.names, context.schema.modeled(), strict=True)
    ):
        if column.kind != "real":
            continue
        cells = train.values[train.mask[:, j], j].astype(np.float64)
        far = np.max(np.abs(cells - column.shift), initial=0.0) / column.scale
        if far > FAR:
            advice = (
                f"; {name}=positive models its logarithm (--columns)"
                if cells.min() > 0
                else ""
            )
            lines.append(
                f"warning: {name}: a value lies {far:.0f} standard deviations from the "
                f"mean, which decides its scale{advice}"
            )
    return lines
