"""Rows of a table: the sum of their cells' densities, and cells that are missing."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats

from vaejax.distributions import (
    Column,
    MaskedEvent,
    mixed_head,
    row_features,
)

INF = math.inf
# Kinds interleaved, so that positions are not ranges.
COLUMNS = (
    Column("real", shift=3.0, scale=2.0),
    Column("binary"),
    Column("real", step=1.0, lower=18.0, upper=90.0, shift=45.0, scale=13.0),
    Column("class", num_classes=4),
    Column("count", shift=1.5, scale=0.7),
    Column("positive", shift=10.0, scale=0.5),
    Column("ordinal", num_classes=5),
    Column("class", num_classes=3),
    Column("real", shift=-300.0, scale=0.2),
    Column("real", step=0.5, shift=2000.0, scale=9.0),
    Column("binary"),
    Column("count", shift=6.0, scale=0.1),
)
HEAD = mixed_head(COLUMNS)
NUM = len(COLUMNS)


def outputs(seed, size=HEAD.num_outputs):
    return jnp.asarray(np.random.default_rng(seed).normal(size=size), jnp.float32)


# What the tests share, so that each program is compiled once.
row_of = jax.jit(lambda y: HEAD.apply((), y))
draw = jax.jit(lambda row, key: row.sample(key))
log_probs_of = jax.jit(lambda row, x: (row.log_prob(x), row.column_log_probs(x)))
draw_many = jax.jit(jax.vmap(draw, (None, 0)))
log_probs_of_many = jax.jit(jax.vmap(log_probs_of, (None, 0)))


def rows_of(row, num):
    return draw_many(row, jax.random.split(jax.random.key(1), num))


def rounded(x, column, mean, stddev):
    low, high = x - column.step / 2, x + column.step / 2
    frozen = scipy.stats.norm(mean, stddev)
    if x <= column.lower:
        return frozen.logcdf(high)
    if x >= column.upper:
        return frozen.logsf(low)
    if low > mean:
        return np.log(frozen.sf(low) - frozen.sf(high))
    return np.log(frozen.cdf(high) - frozen.cdf(low))


def by_scipy(column, x, y):
    """The log-density of a cell in the units of the file, from a column's outputs."""
    y = np.float64(y)
    if column.kind == "binary":
        return scipy.stats.bernoulli(scipy.special.expit(y[0])).logpmf(x)
    if column.kind == "class":
        return scipy.special.log_softmax(y)[int(x)]
    if column.kind == "ordinal":
        even = scipy.special.logit(np.arange(1, 5) / 5)
        gaps = np.exp(y[1:]) * np.diff(even)
        points = y[0] + even[0] + np.concatenate([[0], np.cumsum(gaps)])
        below = np.concatenate([[0], scipy.special.expit(points), [1]])
        return np.log(np.diff(below))[int(x)]
    if column.kind == "count":
        mean, r = np.exp(column.shift + y[0]), np.exp(y[1])
        return scipy.stats.nbinom(r, r / (r + mean)).logpmf(x)
    mean = column.shift + column.scale * y[0]
    stddev = column.scale * np.exp(y[1] / 2)
    if column.kind == "positive":
        return scipy.stats.lognorm(stddev, 0, np.exp(mean)).logpdf(x)
    if column.step:
        return rounded(x, column, mean, stddev)
    return scipy.stats.norm(mean, stddev).logpdf(x)


def outputs_by_column(y):
    """The outputs of each column, which the head takes by kind and size."""
    kinds = [(column.kind, column.num_classes, column.step > 0) for column in COLUMNS]
    sizes = {"binary": 1, "class": 4, "ordinal": 4}
    found, start = {}, 0
    for kind in dict.fromkeys(kinds):
        size = kind[1] if kind[0] == "class" else sizes.get(kind[0], 2)
        for place in [k for k in range(NUM) if kinds[k] == kind]:
            found[place] = y[start : start + size]
            start += size
    assert start == HEAD.num_outputs
    return [found[place] for place in range(NUM)]


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_each_cell_has_its_own_density_and_the_row_their_sum(seed):
    y = outputs(seed)
    row = row_of(y)
    rows = rows_of(row, 20)
    sums, found = log_probs_of_many(row, rows)
    expected = [
        [by_scipy(*each) for each in zip(COLUMNS, x, outputs_by_column(y), strict=True)]
        for x in np.float64(rows)
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(sums, np.sum(expected, axis=1), rtol=1e-5)


@pytest.mark.slow
def test_mean_and_mode_are_those_of_the_columns_and_draws_have_them():
    row = HEAD.apply((), outputs(2))
    rows = np.float64(rows_of(row, 20_000))
    is_class = np.array([column.kind == "class" for column in COLUMNS])
    errors = np.abs(rows.mean(axis=0) - row.mean)[~is_class]
    standard = rows.std(axis=0)[~is_class] / np.sqrt(len(rows))
    assert np.all(errors < 5 * standard)
    np.testing.assert_array_equal(row.mean[is_class], row.mode[is_class])
    at_mode = np.asarray(row.column_log_probs(row.mode))
    others = np.asarray(log_probs_of_many(row, rows_of(row, 200))[1])
    assert np.all(others <= at_mode + 1e-5)
    assert row.sample(jax.random.key(0)).shape == row.mean.shape == (NUM,)
    assert np.all(row.support.contains(rows))
    # Each cell on its own grid.
    assert np.all(rows[:, 2] % 1 == 0) and np.all(rows[:, 9] % 0.5 == 0)
    assert rows[:, 2].min() >= 18 and rows[:, 2].max() <= 90


MASK = np.arange(NUM) % 3 != 1


@jax.jit
def scored(y, values, mask):
    event = MaskedEvent(values, mask)

    def log_prob(y):
        row = HEAD.apply((), y)
        return row.log_prob(event), row.column_log_probs(event)

    value, pull, by_column = jax.vjp(log_prob, y, has_aux=True)
    return value, pull(jnp.ones(()))[0], by_column


@pytest.mark.slow
@pytest.mark.parametrize("hidden", [0.0, -7.3, 1e30, np.nan, np.inf, -np.inf])
def test_missing_cells_change_nothing_bitwise(hidden):
    y = outputs(3)
    row = row_of(y)
    x = draw(row, jax.random.key(4))
    with jax.debug_nans(True):
        expected = scored(y, x, MASK)
    found = scored(y, jnp.where(MASK, x, hidden), MASK)
    jax.tree.map(np.testing.assert_array_equal, found, expected)
    value, gradient, by_column = found
    full = log_probs_of(row, x)[1]
    np.testing.assert_allclose(by_column, np.where(MASK, full, 0), rtol=1e-6)
    np.testing.assert_allclose(value, full[MASK].sum(), rtol=1e-6)
    for is_seen, part in zip(MASK, outputs_by_column(gradient), strict=True):
        assert np.all(part == 0) if not is_seen else np.any(part != 0)


def test_features_of_missing_cells_are_zero_whatever_is_there():
    x = draw(row_of(outputs(3)), jax.random.key(4))
    features = jax.jit(lambda v: row_features(COLUMNS, MaskedEvent(v, MASK)))
    found = features(x)
    for hidden in (-7.3, np.nan, np.inf):
        np.testing.assert_array_equal(features(jnp.where(MASK, x, hidden)), found)
    full, observed = row_features(COLUMNS, x), row_features(COLUMNS, x, with_mask=True)
    np.testing.assert_array_equal(observed, np.concatenate([full, np.ones(NUM)]))
    assert np.all((found == full) | (found == 0)) and np.all(np.isfinite(full))
    nothing = row_features(COLUMNS, MaskedEvent(x, np.zeros(NUM, bool)), with_mask=True)
    assert not np.any(nothing)


def test_features_are_in_units_of_the_training_cells():
    columns = [
        Column("positive", shift=2.0, scale=0.5),
        Column("ordinal", num_classes=4),
        Column("count", shift=1.0, scale=2.0),
        Column("class", num_classes=3),
        Column("binary"),
        Column("real", step=1.0, shift=45.0, scale=10.0),
    ]
    x = jnp.array([math.exp(3), 2, math.expm1(5), 1, 1, 30])
    found = row_features(columns, x)
    expected = [2, 1, 1, 0, 2, 0, 1, 0, 1, -1.5]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.slow
def test_an_observed_cell_outside_its_column_is_impossible_and_nan_is_nan():
    row = row_of(outputs(5))
    x = row.mode
    bad = {
        1: [0.5, 2, -1],
        2: [17, 91, INF],
        3: [4, -1, 1.5],
        4: [-1, 0.5],
        5: [0, -2.0],
        6: [5, -1, 1.5],
        0: [INF, -INF],
        9: [INF],
    }
    for place, cells in bad.items():
        for cell in cells:
            found = log_probs_of(row, x.at[place].set(cell))[1]
            assert found[place] == -np.inf
            assert np.isfinite(found).sum() == NUM - 1
            assert not row.support.contains(np.asarray(x.at[place].set(cell)))[place]
    for place in range(NUM):
        found = log_probs_of(row, x.at[place].set(np.nan))[1]
        assert np.isnan(found[place]) and np.isfinite(found).sum() == NUM - 1


def test_large_offsets_cost_no_digits():
    # A standard deviation of 1 at 1e7, where float32 has whole numbers.
    columns = [
        Column("real", step=1.0, shift=1e7, scale=1.0),
        Column("real", shift=1e7, scale=1.0),
    ]
    y = jnp.array([0.37, 0.1, -0.21, 0.3])
    x = np.array([1e7 + 2, 1e7 - 1])
    row = mixed_head(columns).apply((), y)
    expected = [by_scipy(columns[0], x[0], y[:2]), by_scipy(columns[1], x[1], y[2:])]
    found = row.column_log_probs(jnp.asarray(x, jnp.float32))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_outputs_in_half_precision_keep_the_units():
    y = outputs(6).astype(jnp.bfloat16)
    half, full = HEAD.apply((), y), HEAD.apply((), y.astype(jnp.float32))
    jax.tree.map(np.testing.assert_array_equal, half, full)


def test_a_row_of_a_thousand_columns_is_a_few_operations():
    kinds = COLUMNS[:7]
    counts = []
    for num in (14, 700):
        columns = [kinds[k % 7] for k in range(num)]
        head = mixed_head(columns)
        jaxpr = jax.make_jaxpr(
            lambda y, head=head, num=num: head.apply((), y).log_prob(jnp.ones(num))
        )(jnp.zeros(head.num_outputs))
        counts.append(str(jaxpr).count(" = "))
    assert counts[0] == counts[1]


def test_arguments_are_checked():
    with pytest.raises(ValueError, match="columns is empty"):
        mixed_head([])
    with pytest.raises(TypeError, match=r"columns holds 'real'; .*Column"):
        mixed_head(["real"])
    with pytest.raises(TypeError, match=r"columns is None; .* schema.modeled\(\)"):
        mixed_head(None)
    with pytest.raises(ValueError, match=r"initial_outputs has shape \(3,\).*\(2,\)"):
        mixed_head([Column("real")], initial_outputs=jnp.zeros(3))
    with pytest.raises(ValueError, match=r"outputs \(5, 2\).*\(2,\).*jax.vmap"):
        mixed_head([Column("real")]).apply((), jnp.zeros((5, 2)))
    row = HEAD.apply((), outputs(0))
    with pytest.raises(ValueError, match=r"\(5, 12\).*\(12,\).*jax.vmap"):
        row.log_prob(jnp.zeros((5, NUM)))
    with pytest.raises(ValueError, match=r"\(11,\).*\(12,\)"):
        row.log_prob(MaskedEvent(jnp.zeros(NUM), jnp.ones(NUM - 1, bool)))
    with pytest.raises(ValueError, match=r"row_features.*\(11,\).*\(12,\)"):
        row_features(COLUMNS, jnp.zeros(NUM - 1))


def test_the_bias_of_the_head_is_learned():
    y = outputs(7)
    head = mixed_head(COLUMNS, initial_outputs=y)
    params = head.init(jax.random.key(0))
    found = head.apply(params, jnp.zeros(HEAD.num_outputs))
    jax.tree.map(np.testing.assert_array_equal, found, HEAD.apply((), y))
    assert params["bias"].shape == (HEAD.num_outputs,)
