"""Files of a run on an array: its record, codes, draws, and the way to new rows."""

import io
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import vaejax
from experiments import harness
from experiments.harness.experiment import Rows
from experiments.harness.load_run import in_batches
from experiments.own import arrays, files, independent
from vaejax import latent
from vaejax.base import VAE, Array, Distribution, Key, Params, PyTree
from vaejax.distributions import AffineUnits, units_from_dict

_FORMAT = 1
NUM_SAMPLES = 200


class ArraySchema(NamedTuple):
    """How examples of the file become examples of the model, for schema.json.

    Attributes:
      shape: shape of an example.
      dtype: type of the numbers of the file.
      likelihood: name of the likelihood.
      white: the largest level of intensities, 0 for other values.
      factor: levels per unit of the file: 1, or `white` where the file has [0, 1].
      origin: what is subtracted from the values of the file.
      units: what the model standardizes with, or None.
      center: mean of 16-bit intensities in [0, 1], which the model is scaled with.
      spread: their standard deviation.
    """

    shape: tuple[int, ...]
    dtype: str
    likelihood: str
    white: int
    factor: int
    origin: Any
    units: AffineUnits | None
    center: float
    spread: float

    def as_dict(self) -> dict[str, Any]:
        """Return the schema as values of JSON."""
        return self._asdict() | {
            "format": _FORMAT,
            "kind": "array",
            "shape": list(self.shape),
            "origin": np.asarray(self.origin).tolist(),
            "units": None if self.units is None else self.units.as_dict(),
        }


class Context(NamedTuple):
    """Data that the verdict on an array needs beside the model.

    Attributes:
      fit: returns the dimensions, each fitted alone.
      numbers: numbers of the test examples in the file, from 1.
    """

    fit: Callable[[], Distribution]
    numbers: np.ndarray

    @property
    def independent(self) -> Distribution:
        """The dimensions, each fitted alone, without latents; fitted when asked for."""
        return self.fit()

    def columns(self) -> tuple[list[str], np.ndarray]:
        """Return no names: an array has no columns of its own."""
        return [], np.zeros((0, 0), bool)


def is_record(record: Mapping[str, Any]) -> bool:
    """Return whether the content of a schema.json is that of an array."""
    return record.get("kind") == "array"


def schema_of(data: arrays.Data, raw: np.ndarray) -> ArraySchema:
    """Return the schema of prepared data, from the training part of the file."""
    is_whole = np.issubdtype(raw.dtype, np.integer) or raw[:100].max() > 1
    return ArraySchema(
        shape=raw.shape[1:],
        dtype=str(raw.dtype),
        likelihood=data.likelihood,
        white=data.white,
        factor=1 if is_whole or not data.white else data.white,
        origin=data.origin,
        units=data.units,
        center=data.center,
        spread=data.spread,
    )


def schema_from_dict(record: Mapping[str, Any]) -> ArraySchema:
    """Return the schema that `as_dict` gave.

    Raises:
      UsageError: the record is damaged, or of another version.
    """
    try:
        if record["format"] != _FORMAT:
            raise ValueError(f"its format is {record['format']!r}")
        units = record["units"]
        found = {name: record[name] for name in ArraySchema._fields}
        return ArraySchema(**found)._replace(
            shape=tuple(record["shape"]),
            origin=np.asarray(record["origin"], np.float64),
            units=None if units is None else units_from_dict(units),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise harness.UsageError(
            f"schema.json is damaged ({error}); train the model again."
        ) from error


def rows_of(schema: ArraySchema) -> Rows:
    """Return how examples of the file become those of the model, and come back."""
    is_whole = np.issubdtype(np.dtype(schema.dtype), np.integer)

    def examples_of(frame: Any) -> np.ndarray:
        values = np.asarray(frame)
        if values.shape[1:] != schema.shape or values.dtype.kind not in "biuf":
            raise harness.UsageError(
                f"the rows are {values.dtype} {list(values.shape)}; give numbers "
                f"[rows, {', '.join(map(str, schema.shape))}], as in the file."
            )
        values = values.astype(np.float64)
        if schema.white:
            values = values * (schema.factor / schema.white)
        return np.asarray(values - schema.origin, np.float32)

    def back(values: Array) -> np.ndarray:
        found = np.asarray(values, np.float64) + schema.origin
        if schema.white:
            found = found * (schema.white / schema.factor)
        return np.rint(found).astype(schema.dtype) if is_whole else found

    return Rows(schema, examples_of, back)


def stand_in(schema: ArraySchema, num: int) -> arrays.Data:
    """Return data of the shape and the scaling of a schema, all 0."""
    dtype = {0: np.float32, 255: np.uint8, 65535: np.uint16}[schema.white]
    train = np.zeros((num, *schema.shape), dtype)
    return arrays.Data(
        train,
        train[:2],
        None,
        schema.likelihood,
        schema.white,
        arrays.transform_of(schema.likelihood, schema.white, dtype),
        [],
        units=schema.units,
        origin=schema.origin,
        center=schema.center,
        spread=schema.spread,
    )


def fitted_alone(data: arrays.Data) -> Distribution:
    """Return the dimensions fitted alone to the training data, in the data's units.

    Pixels that are binarized have their intensity as its expectation, which gives a
    Bernoulli the same fit.
    """

    def to_model(x: Array) -> Array:
        x = data.intensities(x[None])[0]
        return x if data.units is None else data.units.to_model(x)

    head, outputs = arrays.head_and_outputs(data)
    alone = independent.fit(head, outputs, data.train, to_model)
    return alone if data.units is None else data.units.to_units(alone)


def with_scores(
    result: harness.Result, context: Context, numbers: Mapping[str, np.ndarray]
) -> harness.Result:
    """Return the result with scores.csv: the NLL bound of each test example.

    It is that of the first seed.
    """
    nll = np.asarray(numbers["nll_of_each"], np.float32)[0]
    content = files.as_csv({"row": context.numbers, "score": nll})
    return result._replace(files=lambda: {**result.files(), "scores.csv": content})


def array_files(
    vae: VAE,
    rows: Rows,
    parts: Mapping[str, tuple[np.ndarray, np.ndarray]],
    to_examples: Callable[[PyTree], Array],
    params: Params,
    key: Key,
) -> Mapping[str, bytes]:
    """Return the files of a run by name: codes, draws, and the exported model.

    Args:
      vae: the model.
      rows: how examples of the file become examples of the model, and come back.
      parts: for each part the numbers of its examples, from 1, and the examples.
      to_examples: `examples -> xs`, such as `Data.intensities`.
      params: trained parameters.
      key: key of the draws.
    """

    def embed(params: Params, xs: PyTree) -> Array:
        return vaejax.embed(vae, params, to_examples(xs))

    codes = {
        name: in_batches(jax.jit(embed), params, examples)
        for name, (_, examples) in parts.items()
    }
    draws = jax.jit(
        lambda params, key: vaejax.sample(
            vae, params, key, NUM_SAMPLES, example_point=latent.mean
        )
    )(params, key)
    together = np.concatenate(list(codes.values()))
    if not np.isfinite(together).all():
        return {}
    numbers = np.concatenate([numbers for numbers, _ in parts.values()])
    names = np.repeat(list(codes), [len(found) for found in codes.values()])
    order = np.argsort(numbers, kind="stable") if _are_rows(numbers) else slice(None)
    columns = {"row": numbers[order], "part": names[order].astype(object)}
    columns |= {f"z{j + 1}": together[order, j] for j in range(together.shape[1])}
    x = to_examples(parts["test"][1][:1])[0]
    return {
        "embeddings.csv": files.as_csv(columns),
        "samples.npy": _as_npy(rows.rows_of(np.asarray(draws))),
        **files.exported_model(vae, rows, params, jnp.asarray(x)),
    }


def _are_rows(numbers: np.ndarray) -> bool:
    """Return whether the examples are numbered through one file."""
    return len(np.unique(numbers)) == len(numbers)


def _as_npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()
