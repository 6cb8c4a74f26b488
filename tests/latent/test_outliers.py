"""Outlier scores of a linear-Gaussian model; thresholds against what they promise."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from support.masked_gaussian import (
    NormalColumns,
    draw_rows,
    exact_conditional,
    make_params,
    vae,
)

from vaejax import latent
from vaejax.columns import MaskedEvent

PARAMS = make_params()
NUM = 200
_score_all = jax.jit(
    jax.vmap(
        partial(latent.outlier_scores, vae, num_samples=1000), in_axes=(None, 0, 0)
    )
)
# The fixture that the tests share is made once, on one worker.
pytestmark = pytest.mark.xdist_group("scored")


def score_all(params, rows):
    found = _score_all(params, jax.random.split(jax.random.key(0), NUM), rows)
    return jax.tree.map(np.asarray, found)


def score_one(row, **options):
    options = {"num_samples": 30} | options
    return latent.outlier_scores(vae, PARAMS, jax.random.key(0), row, **options)


def exact_scores(params, values, mask):
    """-log p of the observed cells, and of each given the others, in float64."""
    _, _, log_p = exact_conditional(params, values, mask)
    cells = np.full(len(mask), np.nan)
    for index in np.flatnonzero(mask):
        others = mask & (np.arange(len(mask)) != index)
        cells[index] = exact_conditional(params, values, others)[2] - log_p
    return -log_p, cells


@pytest.fixture(scope="module")
def scored():
    """`[NUM]` rows with their scores, the exact ones too."""
    rows = jax.tree.map(np.asarray, draw_rows(PARAMS, NUM, share_missing=0.2))
    exact = [exact_scores(PARAMS, *row) for row in zip(*rows, strict=True)]
    exact = [np.stack(part) for part in zip(*exact, strict=True)]
    return rows, score_all(PARAMS, rows), exact


def test_scores_of_rows_are_exact_within_their_errors(scored):
    _, found, (expected, _) = scored
    squares = np.square((found.score - expected) / found.standard_error)
    assert abs(squares.mean() - 1) < 5 * np.sqrt(2 / NUM)
    assert np.mean(found.standard_error) < 0.05


def test_scores_of_cells_are_exact_within_their_errors(scored):
    rows, found, (_, expected) = scored
    # The weights without a cell that is far off may have no variance: judged by k.
    known = rows.mask & (found.pareto_k < 0.5)
    assert known.sum() > 0.6 * rows.mask.sum() > 400
    deviations = found.column_scores - expected
    squares = np.square(deviations / found.column_standard_errors)
    per_row = (squares - 1).sum(axis=1, where=known)
    error = np.sqrt(np.sum(np.square(per_row))) / known.sum()
    assert abs(np.mean(squares[known]) - 1) < 5 * error < 0.6


def test_missing_cells_have_no_score_and_change_nothing(scored):
    rows, found, _ = scored
    np.testing.assert_array_equal(np.isnan(found.column_scores), ~rows.mask)
    np.testing.assert_array_equal(np.isnan(found.column_standard_errors), ~rows.mask)
    hidden = np.where(rows.mask, rows.values, np.nan)
    again = score_all(PARAMS, rows._replace(values=hidden))
    jax.tree.map(np.testing.assert_array_equal, again, found)


def test_the_cell_that_was_changed_is_the_outlier():
    rows = jax.tree.map(np.asarray, draw_rows(PARAMS, NUM, share_missing=0))
    columns = np.random.default_rng(0).integers(0, 6, NUM)
    changed = np.array(rows.values)
    changed[np.arange(NUM), columns] += 12 * np.exp(PARAMS.log_noise / 2)[columns]
    before, after = (
        score_all(PARAMS, MaskedEvent(values, rows.mask))
        for values in (rows.values, changed)
    )
    threshold = latent.outlier_threshold(before.score, 0.05)
    assert np.mean(after.score > threshold.value) > 0.95
    assert np.mean(np.argmax(after.column_scores, axis=1) == columns) > 0.8


class Clipped(NamedTuple):
    """A likelihood that gives cells above 1e3 no density."""

    likelihood: NormalColumns

    def column_log_probs(self, event):
        log_probs = self.likelihood.column_log_probs(event)
        return jnp.where(event.values > 1e3, -jnp.inf, log_probs)


def blind(params, x):
    """The posterior without the cell in column 2."""
    return vae.encode(params, x._replace(mask=x.mask.at[2].set(False)))


@pytest.mark.slow
def test_a_cell_that_is_far_off_keeps_the_weights_of_the_others():
    values, mask = (leaf[0] for leaf in draw_rows(PARAMS, 1, share_missing=0))
    far = MaskedEvent(values.at[2].set(3e4), mask)
    model = vae._replace(encode=blind)
    run = partial(latent.outlier_scores, model, PARAMS, num_samples=200)
    found = run(jax.random.key(0), far)
    expected = run(jax.random.key(0), far._replace(mask=mask.at[2].set(False)))
    assert found.score > 1e7
    # A log-weight of 1e8 nats has no digit behind the point.
    np.testing.assert_allclose(found.pareto_k[2], expected.score_pareto_k, rtol=1e-4)
    np.testing.assert_allclose(found.column_scores[2], found.score, rtol=1e-5)
    clipped = model._replace(decode=lambda params, z: Clipped(vae.decode(params, z)))
    found = latent.outlier_scores(
        clipped, PARAMS, jax.random.key(0), far, num_samples=200
    )
    assert found.score == found.column_scores[2] == np.inf
    np.testing.assert_allclose(found.pareto_k[2], expected.score_pareto_k, rtol=1e-4)


@pytest.mark.slow
def test_eager_jit_chunks_and_map_agree():
    rows = draw_rows(PARAMS, 3)

    def keys():
        return jax.random.split(jax.random.key(0), 3)

    one = partial(latent.outlier_scores, vae, PARAMS, num_samples=30)
    eager = [
        one(key, jax.tree.map(lambda leaf, index=index: leaf[index], rows))
        for index, key in enumerate(keys())
    ]
    looped = jax.tree.map(lambda *leaves: jnp.stack(leaves), *eager)
    compare = partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-3)
    for found in (
        jax.jit(jax.vmap(one))(keys(), rows),
        jax.jit(jax.vmap(partial(one, chunk_size=7)))(keys(), rows),
        jax.lax.map(lambda pair: one(*pair), (keys(), rows)),
    ):
        jax.tree.map(compare, found, looped)


def test_an_array_is_a_row_of_which_all_is_observed():
    values, mask = (leaf[0] for leaf in draw_rows(PARAMS, 1, share_missing=0))
    found, expected = score_one(values), score_one(MaskedEvent(values, mask))
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_the_threshold_has_the_rate_and_the_errors_that_it_says():
    random, rate, num = np.random.default_rng(0), 0.05, 399
    sets = jnp.asarray(random.gamma(2.0, size=(2000, num)), jnp.float32)
    found = jax.vmap(lambda scores: latent.outlier_threshold(scores, rate))(sets)
    rates = scipy.stats.gamma(2.0).sf(np.asarray(found.value))
    # A mean of 2,000 sets; standard deviations have an error of 1.6 %.
    said = float(found.rate_standard_error[0])
    assert abs(np.mean(rates) - rate) < 5 * said / np.sqrt(2000)
    assert np.allclose(found.false_alarm_rate, rate, rtol=1e-6)
    assert abs(np.std(rates) / said - 1) < 0.08
    spread = np.std(found.value)
    assert abs(np.sqrt(np.mean(np.square(found.standard_error))) / spread - 1) < 0.15


@pytest.mark.parametrize("num", [19, 20, 30, 1000])
def test_the_rate_is_never_above_the_one_asked_for(num):
    found = latent.outlier_threshold(np.arange(num), 0.05)
    above = int(np.sum(np.arange(num) > float(found.value)))
    assert (above + 1) / (num + 1) <= 0.05 < (above + 2) / (num + 1)
    np.testing.assert_allclose(found.false_alarm_rate, (above + 1) / (num + 1))
    # Of so few scores no rank above the largest is known.
    assert np.isinf(found.standard_error) == (num < 50)


def test_equal_scores_have_an_error_of_zero_and_nan_gives_nan():
    assert latent.outlier_threshold(jnp.ones(200), 0.1).standard_error == 0
    assert latent.outlier_threshold(jnp.ones(10), 0.1).standard_error == np.inf
    nan = jax.jit(lambda x: latent.outlier_threshold(x, 0.1))(jnp.full(200, jnp.nan))
    assert np.isnan(nan.value) and np.isnan(nan.standard_error)


def test_mistakes_name_the_fix():
    values, mask = (leaf[0] for leaf in draw_rows(PARAMS, 1))
    threshold = latent.outlier_threshold
    mistakes = [
        (lambda: score_one(["a", "b"]), TypeError, "give an array of real numbers"),
        (lambda: score_one(MaskedEvent(values, values)), TypeError, "give booleans"),
        (lambda: score_one(jnp.ones((3, 6))), ValueError, r"\(3, 6\); give one row"),
        (
            lambda: latent.outlier_scores(
                vae._replace(decode=lambda params, z: vae.decode(params, z).normal),
                PARAMS,
                jax.random.key(0),
                values,
            ),
            TypeError,
            "Normal has no column_log_probs; give a model whose likelihood",
        ),
        (lambda: threshold(jnp.ones((3, 2)), 0.5), ValueError, r"\(3, 2\); give"),
        (lambda: threshold(jnp.ones(18), 0.05), ValueError, "give at least 19 scores"),
        (lambda: threshold(jnp.array([1, np.nan]), 0.5), ValueError, "leave these out"),
        (lambda: threshold(jnp.ones(9), 1.0), ValueError, r"give a number in \(0, 1\)"),
    ]
    for mistake, kind, fix in mistakes:
        with pytest.raises(kind, match=fix):
            mistake()
