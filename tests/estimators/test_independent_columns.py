"""Independent columns: each is fitted as well as by SciPy, whatever is in it."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
import scipy.special
import scipy.stats

from vaejax.distributions import Column, mixed_head
from vaejax.estimators import fit_independent_columns

NUM = 2000
RANDOM = np.random.default_rng(0)
# The fixture that the tests share is made once, on one worker.
pytestmark = pytest.mark.xdist_group("fitted")


def negative_binomial(mean, r):
    return RANDOM.negative_binomial(r, r / (r + mean), NUM)


def rare(num_classes):
    shares = np.full(num_classes, 0.5 / (num_classes - 2))
    shares[:2] = 0.4995, 0.0005
    return RANDOM.choice(num_classes, NUM, p=shares / shares.sum())


def real(shift, scale, step=0.0, **limits):
    return Column("real", step=step, shift=shift, scale=scale, **limits)


# Name, column and values.
DATA = {
    "counts": (Column("count", shift=1.3), negative_binomial(3, 0.7)),
    "heavy counts": (Column("count", shift=9.0), negative_binomial(1e4, 2.0)),
    "heavy Poisson counts": (Column("count"), RANDOM.poisson(1e4, NUM)),
    "even counts": (Column("count"), RANDOM.binomial(10, 0.9, NUM)),
    "rare counts": (Column("count"), RANDOM.random(NUM) < 0.002),
    "zeros": (Column("count"), np.zeros(NUM)),
    "ages": (
        real(45, 13, 1.0, lower=18.0, upper=90.0),
        np.clip(np.rint(RANDOM.normal(60, 25, NUM)), 18, 90),
    ),
    "years": (real(2005, 9, 1.0), np.rint(RANDOM.normal(2005, 9, NUM))),
    "hundredths": (real(0, 1, 0.01), np.round(RANDOM.normal(0, 1, NUM), 2)),
    "two values": (real(0, 0.1, 1.0), RANDOM.random(NUM) < 0.01),
    "one value": (real(3, 1, 1.0), np.full(NUM, 3)),
    "incomes": (real(3e4, 2e4, 1.0), np.rint(np.exp(RANDOM.normal(10, 0.6, NUM)))),
    "reals": (real(2, 3), RANDOM.normal(1, 2, NUM)),
    "far reals": (real(1e6, 3), RANDOM.normal(1e6 + 1, 2, NUM)),
    "positive": (Column("positive", shift=2.0, scale=3.0), RANDOM.lognormal(1, 2, NUM)),
    "binary": (Column("binary"), RANDOM.random(NUM) < 0.1),
    "classes": (Column("class", num_classes=5), rare(5)),
    "ranks": (Column("ordinal", num_classes=4), rare(4)),
    "two ranks": (Column("ordinal", num_classes=2), RANDOM.random(NUM) < 0.3),
}
COLUMNS = [column for column, _ in DATA.values()]
# As a model sees them.
VALUES = np.stack([np.float32(values) for _, values in DATA.values()], axis=1)
VALUES = VALUES.astype(np.float64)


def scores(values, outputs):
    row = mixed_head(COLUMNS).apply((), outputs)
    score = jax.jit(jax.vmap(row.column_log_probs))
    return np.asarray(score(jnp.asarray(values, jnp.float32)), np.float64)


@pytest.fixture(scope="module")
def fitted():
    return scores(VALUES, fit_independent_columns(COLUMNS, VALUES)).mean(axis=0)


def best_counts(x):
    """The best of a Poisson and of negative binomials, per cell."""
    values, num = np.unique(x, return_counts=True)
    mean = x.mean()

    def loss(log_r):
        r = math.exp(log_r)
        frozen = scipy.stats.nbinom(r, r / (r + mean))
        return -num @ frozen.logpmf(values) / len(x)

    found = scipy.optimize.minimize_scalar(loss, bounds=(-9, 15), method="bounded")
    poisson = num @ scipy.stats.poisson(mean).logpmf(values) / len(x)
    return max(-found.fun, poisson)


def best_rounded(column, x):
    values, num = np.unique(x, return_counts=True)

    def loss(parameters):
        scale = math.exp(parameters[1])
        low = (values - column.step / 2 - parameters[0]) / scale
        high = (values + column.step / 2 - parameters[0]) / scale
        low = np.where(values <= column.lower, -np.inf, low)
        high = np.where(values >= column.upper, np.inf, high)
        flip = low + high > 0
        near, far = np.where(flip, -low, high), np.where(flip, -high, low)
        difference = scipy.special.log_ndtr(far) - scipy.special.log_ndtr(near)
        mass = scipy.special.log_ndtr(near) + np.log1p(-np.exp(difference))
        return -num @ mass / len(x)

    start = [x.mean(), math.log(max(x.std(), 0.2 * column.step))]
    tight = {"xatol": 1e-7, "fatol": 1e-10, "maxiter": 4000}
    found = scipy.optimize.minimize(loss, start, method="Nelder-Mead", options=tight)
    return -found.fun


def best(column, x):
    if column.kind == "count":
        return best_counts(x) if x.any() else 0.0
    if column.kind == "real" and column.step:
        return best_rounded(column, x)
    if column.kind in ("real", "positive"):
        log_x = np.log(x) if column.kind == "positive" else 0 * x
        y = np.log(x) if column.kind == "positive" else x
        return (scipy.stats.norm(y.mean(), y.std()).logpdf(y) - log_x).mean()
    counts = np.bincount(x.astype(int), minlength=column.num_classes or 2) + 0.5
    return np.log(counts / counts.sum())[x.astype(int)].mean()


@pytest.mark.slow
@pytest.mark.parametrize("name", DATA)
def test_each_column_is_fitted_as_well_as_by_scipy(name, fitted):
    index = list(DATA).index(name)
    column, x = COLUMNS[index], VALUES[:, index]
    # A column of zeros has the mean 1 / (2 rows), not 0.
    allowed = 0.5 / NUM if name == "zeros" else 1e-4
    difference = fitted[index] - best(column, x)
    assert -allowed - 1e-5 < difference < 1e-4


@pytest.mark.slow
def test_missing_cells_are_left_out():
    mask = np.random.default_rng(1).random(VALUES.shape) < 0.5
    mask[:, 3] = False
    hidden = np.where(mask, VALUES, np.nan)
    found = fit_independent_columns(COLUMNS, hidden, mask)
    assert np.all(np.isfinite(found))
    by_column = scores(VALUES, found)
    for index, (column, x) in enumerate(zip(COLUMNS, VALUES.T, strict=True)):
        seen = mask[:, index]
        if index != 3 and x[seen].any():
            difference = by_column[seen, index].mean() - best(column, x[seen])
            assert abs(difference) < 2e-4, list(DATA)[index]
    # A column that is never observed keeps outputs of 0.
    nothing = mixed_head(COLUMNS).apply((), jnp.zeros_like(found))
    expected = np.asarray(nothing.column_log_probs(jnp.asarray(VALUES[0], jnp.float32)))
    np.testing.assert_allclose(by_column[0, 3], expected[3], rtol=1e-6)


def test_arguments_are_checked():
    columns = [Column("binary"), Column("count")]
    with pytest.raises(ValueError, match=r"shape \(4, 3\).*\[rows, 2\]"):
        fit_independent_columns(columns, np.zeros((4, 3)))
    with pytest.raises(ValueError, match=r"holds 0.5 at \[1, 1\], which is no value"):
        fit_independent_columns(columns, [[0, 1], [1, 0.5]])
    with pytest.raises(ValueError, match=r"holds nan at \[0, 0\]"):
        fit_independent_columns(columns, [[np.nan, 1], [1, 5]])
    with pytest.raises(ValueError, match=r"mask has shape \(2,\)"):
        fit_independent_columns(columns, [[0, 1], [1, 5]], np.ones(2, bool))
