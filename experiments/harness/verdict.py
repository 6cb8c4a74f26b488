"""The verdict on a model: is it better than columns that know nothing of each other?

The same likelihoods, fitted to each column alone on the training rows, have no latents.
A model that is not better than they are on the test rows has learned nothing of how the
columns go together, and says so.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from vaejax.base import VAE, Array, Distribution, Key, Params, PyTree

# Draws of z per row for the log-likelihood of each column.
DRAWS = 10
# Rows that are evaluated together.
BATCH_SIZE = 500
# Standard errors that a difference must exceed.
CLEAR = 2.0
SHOWN_COLUMNS = 5


class ColumnGain(NamedTuple):
    """Nats that the latents tell of one column.

    Attributes:
      name: the name of the column.
      alone: mean of -log p(x_j) of the column alone, over the rows that have it.
      gain: mean of E_q[log p(x_j|z)] - log p(x_j), over the same rows.
      num_rows: the rows that have it.
    """

    name: str
    alone: float | None
    gain: float | None
    num_rows: int


class Verdict(NamedTuple):
    """A model beside independent columns, on the same test rows.

    Attributes:
      independent: NLL of the independent columns, nats a row.
      model: NLL bound of the model, which is never below its NLL.
      better_by: mean difference, positive where the model is better.
      standard_error: its standard error over the rows, paired.
      num_rows: test rows.
      columns: what the latents say of each column, the least first; empty where the
        example has no columns.
    """

    independent: float
    model: float
    better_by: float
    standard_error: float
    num_rows: int
    columns: tuple[ColumnGain, ...] = ()

    @property
    def is_better(self) -> bool:
        """True where the model is better by more than two standard errors."""
        return self.better_by > CLEAR * self.standard_error

    def as_dict(self) -> dict[str, Any]:
        """Return the verdict for summary.json."""
        numbers = {
            name: float(value) if np.isfinite(value) else None
            for name, value in zip(self._fields[:4], self[:4], strict=True)
        }
        return numbers | {
            "is_better": bool(self.is_better),
            "num_test_rows": self.num_rows,
            "units": "nats a row, in the units of the file",
            "columns": [column._asdict() for column in self.columns],
        }

    def lines(self) -> list[str]:
        """Return the verdict in words."""
        beside = (
            f"independent columns, fitted to the training rows, have an NLL of "
            f"{self.independent:.2f} nats a row on the {self.num_rows:,} test rows, "
            f"and the model's NLL bound is {self.model:.2f}"
        )
        by = f"{abs(self.better_by):.2f} ± {self.standard_error:.2f} nats a row, paired"
        if not np.isfinite(self.better_by):
            lines = [f"the model is NOT better than independent columns: {beside}"]
        elif self.is_better:
            lines = [f"the model is better than independent columns by {by}: {beside}"]
        else:
            sign = "worse" if self.better_by < 0 else "better"
            lines = [
                "the model is NOT better than independent columns "
                f"(its bound is {sign} by {by}): {beside}"
            ]
        known = [column for column in self.columns if column.gain is not None]
        if known:
            shown = ", ".join(
                f"{column.name} {column.gain:+.2f} of {column.alone:.2f}"
                for column in known[:SHOWN_COLUMNS]
            )
            lines.append(
                "columns that the latents explain least (gain of log p(x_j|z) over the "
                f"NLL of the column alone, nats a row): {shown}"
            )
        return lines


def judge(
    independent: Sequence[float] | np.ndarray,
    model: Sequence[float] | np.ndarray,
    columns: Sequence[ColumnGain] = (),
) -> Verdict:
    """Return the verdict from log-probabilities of the test rows.

    Args:
      independent: log p(x) of independent columns, `[rows]`.
      model: lower bounds of log p(x) of the model, `[rows]`.
      columns: what the latents say of each column.
    """
    alone, bound = (np.asarray(each, np.float64) for each in (independent, model))
    difference = bound - alone
    num = len(difference)
    gains = sorted(columns, key=lambda one: np.inf if one.gain is None else one.gain)
    return Verdict(
        independent=float(-alone.mean()),
        model=float(-bound.mean()),
        better_by=float(difference.mean()),
        standard_error=float(difference.std(ddof=1) / np.sqrt(num)),
        num_rows=num,
        columns=tuple(gains),
    )


def log_probs(independent: Distribution, xs: PyTree) -> np.ndarray:
    """Return log p(x) of each example under one distribution, `[rows]`."""
    compiled = jax.jit(
        lambda xs: jax.lax.map(independent.log_prob, xs, batch_size=BATCH_SIZE)
    )
    return np.asarray(compiled(xs), np.float64)


def column_gains(
    vae: VAE,
    params: Params,
    key: Key,
    xs: PyTree,
    independent: Any,
    names: Sequence[str],
    mask: np.ndarray,
) -> tuple[ColumnGain, ...]:
    """Return what the latents say of each column over its own marginal.

    Args:
      vae: a model whose p(x|z) has `column_log_probs`.
      params: its parameters.
      key: key of the draws of z.
      xs: test rows, `[rows, ...]`.
      independent: the independent columns.
      names: names of the columns, `[columns]`.
      mask: which cells are observed, bool `[rows, columns]`.
    """

    def one(row: tuple[Array, PyTree]) -> tuple[Array, Array]:
        key, x = row
        posterior = vae.encode(params, x)

        def given_draw(key: Key) -> Array:
            z, _ = posterior.sample_and_log_prob(key)
            row: Any = vae.decode(params, z)
            return row.column_log_probs(x)

        given = jax.vmap(given_draw)(jax.random.split(key, DRAWS))
        return jnp.mean(given, axis=0), independent.column_log_probs(x)

    keys = jax.random.split(key, len(mask))
    compiled = jax.jit(lambda rows: jax.lax.map(one, rows, batch_size=BATCH_SIZE))
    given, alone = (np.asarray(each, np.float64) for each in compiled((keys, xs)))
    counts = mask.sum(axis=0)

    def mean(values: np.ndarray, j: int) -> float | None:
        total = float(values[:, j].sum())
        return total / counts[j] if counts[j] and np.isfinite(total) else None

    return tuple(
        ColumnGain(name, mean(-alone, j), mean(given - alone, j), int(counts[j]))
        for j, name in enumerate(names)
    )
