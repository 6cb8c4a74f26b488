"""Imputation against a linear-Gaussian model, whose conditionals are known."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.masked_gaussian import draw_rows, exact_conditional, make_params, vae

from vaejax import VAE, Normal, latent
from vaejax.distributions import Column, MaskedEvent, mixed_head

PARAMS = make_params()
NUM = 400
ROW = jax.tree.map(lambda leaf: leaf[0], draw_rows(PARAMS, 1, seed=3))
HIDDEN = ~np.asarray(ROW.mask)

# One program for most tests: what differs between them are arrays.
_impute_all = jax.jit(
    jax.vmap(
        partial(latent.impute, vae, num_samples=500, num_draws=50), in_axes=(None, 0, 0)
    )
)
# The fixture that the tests share is made once, on one worker.
pytestmark = pytest.mark.xdist_group("imputed")


def impute_all(params, rows):
    return _impute_all(params, jax.random.split(jax.random.key(0), NUM), rows)


def impute_one(row, **options):
    options = {"num_samples": 30, "num_draws": 5} | options
    return latent.impute(vae, PARAMS, jax.random.key(0), row, **options)


def repeated(row):
    return jax.tree.map(lambda leaf: jnp.stack([leaf] * NUM), row)


@pytest.fixture(scope="module")
def imputed():
    """`[NUM]` rows, and what is imputed in them."""
    rows = draw_rows(PARAMS, NUM)
    return jax.tree.map(np.asarray, (rows, impute_all(PARAMS, rows)))


def conditionals(rows):
    """Return number, hidden cells, mean and covariance of each row that hides any."""
    for index, mask in enumerate(np.asarray(rows.mask)):
        if not mask.all():
            mean, covariance, _ = exact_conditional(PARAMS, rows.values[index], mask)
            yield index, ~mask, mean, covariance


@pytest.mark.slow
def test_means_are_the_conditional_means_within_their_errors(imputed):
    rows, found = imputed
    scores = [
        np.mean(
            np.square(np.asarray(found.mean[index])[hidden] - mean)
            / np.square(found.standard_error[index][hidden])
        )
        for index, hidden, mean, _ in conditionals(rows)
    ]
    assert len(scores) > 350
    # Mean squares of independent rows, each 1 within its error: five errors of them.
    error = np.std(scores) / np.sqrt(len(scores))
    assert abs(np.mean(scores) - 1) < 5 * error < 0.6


def test_draws_have_the_conditional_mean_and_covariance(imputed):
    rows, found = imputed
    draws, squares = [], []
    for index, hidden, mean, covariance in conditionals(rows):
        distances = np.asarray(found.draws[index])[:, hidden] - mean
        whitened = np.linalg.solve(np.linalg.cholesky(covariance), distances.T)
        draws.append(whitened.mean())
        squares.append(np.square(whitened).mean())
    # Of independent rows, whose draws may share samples.
    for numbers, expected in ((draws, 0), (squares, 1)):
        error = np.std(numbers) / np.sqrt(len(numbers))
        assert abs(np.mean(numbers) - expected) < 5 * error < 0.1


@pytest.mark.slow
def test_intervals_of_the_draws_cover_hidden_cells(imputed):
    rows, found = imputed
    ends = jax.vmap(lambda one: one.quantiles([0.05, 0.95]))(found)
    inside = np.asarray((ends[:, 0] < rows.values) & (rows.values < ends[:, 1]))
    hidden = ~np.asarray(rows.mask)
    per_row = inside.sum(axis=1, where=hidden) - 0.9 * hidden.sum(axis=1)
    error = np.sqrt(np.sum(np.square(per_row))) / hidden.sum()
    assert abs(inside[hidden].mean() - 0.9) < 5 * error < 0.05


def test_the_error_is_that_of_repetitions():
    found = impute_all(PARAMS, repeated(ROW))
    spread = np.std(np.asarray(found.mean)[:, HIDDEN], axis=0, ddof=1)
    errors = np.sqrt(np.mean(np.square(found.standard_error)[:, HIDDEN], axis=0))
    # A standard deviation of 400 has an error of 3.5 %.
    np.testing.assert_allclose(errors, spread, rtol=0.18)


def test_the_error_of_large_values_keeps_its_digits():
    """As in a column of years, whose spread is a thousandth of its mean."""
    rows = repeated(ROW)
    small = impute_all(PARAMS, rows).standard_error
    moved = PARAMS._replace(offset=PARAMS.offset + 2**13)
    found = impute_all(moved, rows._replace(values=rows.values + 2**13))
    np.testing.assert_allclose(found.standard_error, small, rtol=0.02)


@pytest.mark.slow
def test_a_row_of_nothing_is_imputed_from_the_prior():
    nothing = MaskedEvent(jnp.full(6, 7.0), jnp.zeros(6, bool))
    found = impute_all(PARAMS, repeated(nothing))
    mean, covariance, _ = exact_conditional(PARAMS, nothing.values, nothing.mask)
    draws = np.asarray(found.draws, np.float64).reshape(-1, 6)
    # 400 sets of 50 draws, of which each is worth some.
    error = np.sqrt(np.diag(covariance) / NUM)
    np.testing.assert_array_less(np.abs(draws.mean(axis=0) - mean), 5 * error)


def test_observed_cells_come_back_bitwise_and_hidden_ones_change_nothing():
    found, mask = impute_one(ROW), ~HIDDEN
    assert 0 < mask.sum() < mask.size
    np.testing.assert_array_equal(found.mean[mask], ROW.values[mask])
    assert np.all(found.standard_error[mask] == 0)
    for draw in (*found.draws, found.quantiles(0.3)):
        np.testing.assert_array_equal(draw[mask], ROW.values[mask])
    for hidden in (0.0, -1e30, np.nan, np.inf):
        again = impute_one(ROW._replace(values=jnp.where(mask, ROW.values, hidden)))
        jax.tree.map(np.testing.assert_array_equal, again, found)


def test_weights_that_are_no_numbers_give_no_number():
    bad = ROW._replace(values=ROW.values.at[int(np.argmax(ROW.mask))].set(np.nan))
    found = impute_one(bad)
    assert np.all(np.isnan(found.mean[HIDDEN]))
    assert np.all(np.isnan(found.draws[:, HIDDEN]))
    assert np.all(found.standard_error[HIDDEN] == np.inf)
    assert found.pareto_k == np.inf


@pytest.mark.slow
def test_one_sample_has_no_error():
    one = impute_one(ROW, num_samples=1)
    assert np.all(one.standard_error[HIDDEN] == np.inf)
    assert np.all(np.isfinite(one.mean))


@pytest.mark.slow
@pytest.mark.parametrize("chunk_size", [7, 100])
def test_the_chunk_size_changes_rounding_only(chunk_size):
    found, expected = impute_one(ROW, chunk_size=chunk_size), impute_one(ROW)
    compare = partial(np.testing.assert_allclose, rtol=2e-5)
    jax.tree.map(compare, found, expected)


@pytest.mark.slow
def test_eager_jit_and_map_agree():
    rows = draw_rows(PARAMS, 3)

    def keys():
        return jax.random.split(jax.random.key(0), 3)

    one = partial(latent.impute, vae, PARAMS, num_samples=30, num_draws=5)
    eager = [
        one(key, jax.tree.map(lambda leaf, index=index: leaf[index], rows))
        for index, key in enumerate(keys())
    ]
    looped = jax.tree.map(lambda *leaves: jnp.stack(leaves), *eager)
    for found in (
        jax.jit(jax.vmap(one))(keys(), rows),
        jax.lax.map(lambda pair: one(*pair), (keys(), rows)),
    ):
        jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-4), found, looped)


def test_quantiles_hold_a_further_draw_with_their_probability():
    draws = np.random.default_rng(0).normal(size=(19, 20_000))
    probabilities = [0.05, 0.5, 0.9]
    found = latent.Imputation(0.0, 0.0, jnp.asarray(draws), 0.0).quantiles(
        probabilities
    )
    # Of another set each: 20,000 independent pairs, five standard errors.
    shares = np.mean(draws[:1] < np.roll(found, 1, axis=1), axis=1)
    errors = np.sqrt(np.multiply(probabilities, np.subtract(1, probabilities)) / 20_000)
    assert np.all(np.abs(shares - probabilities) < 5 * errors)
    # 0.05 of 19 draws is the smallest.
    np.testing.assert_array_equal(found[0], np.float32(draws.min(axis=0)))


def test_mistakes_name_the_fix():
    imputation = latent.Imputation(0.0, 0.0, jnp.zeros((3, 2)), 0.0)
    mistakes = [
        (lambda: impute_one(ROW.values), TypeError, "give MaskedEvent"),
        (lambda: impute_one(None), TypeError, "x is None; give MaskedEvent"),
        (
            lambda: impute_one(MaskedEvent(ROW.values, ROW.values)),
            TypeError,
            "is float32; give booleans",
        ),
        (
            lambda: impute_one(MaskedEvent(ROW.values, ROW.mask[:2])),
            ValueError,
            r"mask \(2,\); give one boolean per cell",
        ),
        (
            lambda: imputation.quantiles([0.5, 1.5]),
            ValueError,
            r"is 1.5; give a number in \[0, 1\]",
        ),
    ]
    for mistake, kind, fix in mistakes:
        with pytest.raises(kind, match=fix):
            mistake()


COLUMNS = (
    Column("class", num_classes=3),
    Column("real", shift=5.0, scale=2.0),
    Column("binary"),
    Column("ordinal", num_classes=4),
)


def of_two_states(params, z):
    """A row whose columns agree on the sign of z."""
    state = jnp.tanh(10 * z[0])
    outputs = {
        "class": jnp.array([state, 0.0, -state]),
        "real": jnp.stack([state, -2.0]),
        "binary": 2 * state[None],
        "ordinal": jnp.array([3 * state, 0.0, 0.0]),
    }
    return HEAD.apply((), jnp.concatenate(list(outputs.values())))


HEAD = mixed_head(COLUMNS)
STATES = VAE(
    init=lambda key, x: (),
    encode=lambda params, x: Normal(jnp.zeros(1), jnp.full(1, 1.0)),
    prior=lambda params: Normal(jnp.zeros(1), jnp.zeros(1)),
    decode=of_two_states,
)


@pytest.mark.slow
def test_classes_are_the_most_probable_ones_with_their_probabilities():
    row = MaskedEvent(jnp.array([0.0, 7.0, 0.0, 0.0]), jnp.array([0, 1, 0, 0], bool))
    found = latent.impute(
        STATES, (), jax.random.key(0), row, num_samples=4000, num_draws=4000
    )
    grid = jnp.linspace(-6, 6, 4001)[:, None]
    rows = jax.vmap(partial(of_two_states, ()))(grid)
    weights = jax.vmap(lambda row_of_z: row_of_z.log_prob(row))(rows)
    weights = jax.nn.softmax(weights - jnp.square(grid[:, 0]) / 2)

    def probability(column, value):
        event = MaskedEvent(jnp.full(4, value, jnp.float32), jnp.arange(4) == column)
        return float(weights @ jnp.exp(jax.vmap(lambda r: r.log_prob(event))(rows)))

    expected = np.zeros((4, 4))
    expected[0, :3] = [probability(0, value) for value in range(3)]
    expected[3] = [probability(3, value) for value in range(4)]
    np.testing.assert_allclose(expected[[0, 3]].sum(axis=1), 1, atol=1e-4)
    best = expected[[0, 3]].argmax(axis=1)
    np.testing.assert_array_equal(found.mean[jnp.array([0, 3])], best)
    errors = np.asarray(found.standard_error)
    assert np.all((errors > 0) == [True, False, True, True]) and errors.max() < 0.05
    for column, value in zip((0, 3), best, strict=True):
        distance = found.class_probabilities[column, value] - expected[column, value]
        assert abs(distance) < 5 * errors[column]
    assert abs(found.mean[2] - probability(2, 1)) < 5 * errors[2]
    np.testing.assert_allclose(found.class_probabilities, expected, atol=0.05)
    # Draws are of the same distribution: five binomial errors of 4,000, and the mean's.
    for column in (0, 3):
        shares = np.bincount(np.int32(found.draws[:, column]), minlength=4) / 4000
        np.testing.assert_allclose(shares, expected[column], atol=0.06)
    assert np.all(found.draws[:, 1] == 7)


@pytest.mark.slow
def test_an_observed_class_is_certain():
    row = MaskedEvent(jnp.array([2.0, 7.0, 0.0, 1.0]), jnp.array([1, 1, 0, 1], bool))
    found = latent.impute(STATES, (), jax.random.key(0), row, num_samples=50)
    np.testing.assert_array_equal(found.class_probabilities[0], [0, 0, 1, 0])
    np.testing.assert_array_equal(found.class_probabilities[3], [0, 1, 0, 0])
    np.testing.assert_array_equal(np.asarray(found.mean)[[0, 1, 3]], [2, 7, 1])
