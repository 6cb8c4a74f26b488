"""Bounds corrected on a subset: exact over all subsets of a small set, in any shape."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vaejax.estimators import correct_bound

RANDOM = np.random.default_rng(0)
BOUNDS = np.float32(RANDOM.normal(-90, 20, 6))
ANNEALED = np.float32(BOUNDS + RANDOM.gamma(2, 1, 6))
BOUND_ERRORS = np.float32([0.1, 0.2, 0.3, 0.1, 0.2, 0.3])
SUBSET = np.array([4, 0, 3])
ERRORS = np.float32([0.1, 0.2, 0.4])


def part_of(estimate, name):
    return np.asarray(getattr(estimate, name), np.float64)


def test_each_part_is_that_of_float64():
    found = correct_bound(
        BOUNDS, SUBSET, ANNEALED[SUBSET], bound_errors=BOUND_ERRORS,
        annealed_errors=ERRORS,
    )  # fmt: skip
    bounds, annealed = BOUNDS.astype(np.float64), ANNEALED[SUBSET].astype(np.float64)
    difference = annealed - bounds[SUBSET]
    noise = (0.1**2 + 0.2**2 + 0.4**2) / 3 / 6

    def error(values):
        return np.sqrt(values.var(ddof=1) / 3 * (1 - 3 / 6) + noise)

    expected = {
        "bound": (bounds.mean(), np.sqrt(2 * (0.1**2 + 0.2**2 + 0.3**2)) / 6),
        "annealed": (annealed.mean(), error(annealed)),
        "difference": (difference.mean(), error(difference)),
        "corrected": (bounds.mean() + difference.mean(), error(difference)),
    }
    assert found._fields == tuple(expected)
    for name, numbers in expected.items():
        np.testing.assert_allclose(part_of(found, name), numbers, rtol=2e-6)


@pytest.mark.parametrize("n", [2, 5])
def test_over_all_subsets_the_estimate_is_unbiased_and_so_is_its_squared_error(n):
    subsets = np.array(list(itertools.combinations(range(6), n)))
    mapped = jax.jit(jax.vmap(correct_bound, (None, 0, 0)))
    found = mapped(BOUNDS, subsets, ANNEALED[subsets])
    for name, target in (
        ("annealed", ANNEALED.mean()),
        ("difference", (ANNEALED - BOUNDS).mean()),
        ("corrected", ANNEALED.mean()),
    ):
        values, errors = part_of(found, name)
        np.testing.assert_allclose(values.mean(), target, rtol=1e-5)
        np.testing.assert_allclose(np.square(errors).mean(), values.var(), rtol=1e-4)


def test_of_all_examples_only_the_noise_of_annealing_is_left():
    errors = np.full(6, 0.3, np.float32)
    found = correct_bound(BOUNDS, np.arange(6), ANNEALED, annealed_errors=errors)
    np.testing.assert_allclose(
        found.corrected, (ANNEALED.mean(), 0.3 / np.sqrt(6)), rtol=1e-6
    )
    assert correct_bound(BOUNDS, np.arange(6), ANNEALED).corrected.standard_error == 0


def test_noise_of_bounds_and_of_annealing_is_in_the_error():
    """Over draws of both noises and of the subset, the error is that of the value."""
    random, num, repeats = np.random.default_rng(1), 30, 4000
    truth = random.normal(-90, 20, num)
    lacks = random.gamma(2, 0.2, num)
    subsets = np.stack([random.permutation(num)[:10] for _ in range(repeats)])
    bounds = truth - lacks + random.normal(0, 0.5, (repeats, num))
    annealed = truth[subsets] + random.normal(0, 0.7, subsets.shape)
    errors = np.full(subsets.shape, 0.7, np.float32)

    def one(bounds, subset, annealed, errors):
        return correct_bound(bounds, subset, annealed, annealed_errors=errors).corrected

    value, error = jax.jit(jax.vmap(one))(
        np.float32(bounds), subsets, np.float32(annealed), errors
    )
    deviations = np.asarray(value, np.float64) - truth.mean()
    assert abs(deviations.mean()) < 5 * deviations.std() / np.sqrt(repeats)
    # A standard deviation of `repeats` nearly normal values varies by 1 / sqrt(2 n).
    ratio = np.sqrt(np.square(np.asarray(error)).mean()) / deviations.std()
    assert abs(ratio - 1) < 5 / np.sqrt(2 * repeats)
    # Without the second term it would be too small by more than that.
    without = np.sqrt(np.square(np.asarray(error)).mean() - 0.7**2 / num)
    assert without / deviations.std() < 1 - 5 / np.sqrt(2 * repeats)


def test_members_are_mapped_with_one_subset():
    members = np.stack([BOUNDS, 2 * BOUNDS, BOUNDS - 7])
    annealed = members[:, SUBSET] + np.float32([1.0, 2.0, 4.0])
    mapped = jax.vmap(correct_bound, (0, None, 0))(members, SUBSET, annealed)
    compiled = jax.jit(jax.vmap(correct_bound, (0, None, 0)))(members, SUBSET, annealed)
    one = jax.jit(correct_bound)
    for index in range(3):
        expected = one(members[index], SUBSET, annealed[index])
        for found in (mapped, compiled):
            jax.tree.map(
                lambda one, other, index=index: np.testing.assert_allclose(
                    one[index], other, rtol=1e-6
                ),
                found,
                expected,
            )


def test_one_annealed_example_has_an_infinite_error():
    found = correct_bound(BOUNDS, [2], ANNEALED[2:3], bound_errors=BOUND_ERRORS)
    np.testing.assert_allclose(
        found.corrected.value, BOUNDS.mean() + ANNEALED[2] - BOUNDS[2], rtol=1e-6
    )
    for part in (found.annealed, found.difference, found.corrected):
        assert part.standard_error == np.inf
    assert np.isfinite(found.bound.standard_error)


def test_the_error_of_the_bound_is_unknown_without_errors():
    found = correct_bound(BOUNDS, SUBSET, ANNEALED[SUBSET])
    assert np.isnan(found.bound.standard_error)
    assert np.isfinite(found.corrected.standard_error)


@pytest.mark.parametrize("in_subset", [True, False])
def test_nan_stays_nan(in_subset):
    bounds = BOUNDS.copy()
    bounds[0 if in_subset else 1] = np.nan
    found = correct_bound(bounds, SUBSET, ANNEALED[SUBSET])
    assert np.isnan(found.bound.value) and np.isnan(found.corrected.value)
    assert np.isnan(found.corrected.standard_error) == in_subset
    annealed = ANNEALED[SUBSET]
    annealed[1] = np.nan
    found = correct_bound(BOUNDS, SUBSET, annealed)
    assert np.isfinite(found.bound.value) and np.all(np.isnan(found.corrected))


def test_many_large_values_keep_their_digits():
    """Means of float32 values whose plain sum would lose nats."""
    bounds = np.float32(-1e5 + RANDOM.normal(size=20_000))
    subset = np.arange(0, 20_000, 10)
    annealed = bounds[subset] + np.float32(0.25)
    found = jax.jit(correct_bound)(bounds, subset, annealed)
    expected = bounds.astype(np.float64).mean() + 0.25
    np.testing.assert_allclose(found.corrected.value, expected, atol=2 * 2**-7)
    np.testing.assert_allclose(found.difference, (0.25, 0), atol=1e-6)


def test_half_precision_is_computed_in_single():
    bounds, annealed = (jnp.asarray(a, jnp.bfloat16) for a in (BOUNDS, ANNEALED))
    found = correct_bound(bounds, SUBSET, annealed[SUBSET])
    expected = correct_bound(
        bounds.astype(jnp.float32), SUBSET, annealed[SUBSET].astype(jnp.float32)
    )
    assert found.corrected.value.dtype == jnp.float32
    np.testing.assert_array_equal(found, expected)


def test_differences_of_two_models_are_compared_by_the_same_function():
    other = BOUNDS - np.float32([1, 2, 3, 1, 2, 3])
    found = correct_bound(
        BOUNDS - other, SUBSET, ANNEALED[SUBSET] - (other[SUBSET] + 5)
    ).corrected
    first = correct_bound(BOUNDS, SUBSET, ANNEALED[SUBSET]).corrected
    second = correct_bound(other, SUBSET, other[SUBSET] + 5).corrected
    np.testing.assert_allclose(found.value, first.value - second.value, rtol=1e-4)


@pytest.mark.parametrize("wrong", [-1, 6])
def test_a_traced_index_outside_gives_nan(wrong):
    subset = SUBSET.copy()
    subset[1] = wrong
    found = jax.jit(correct_bound)(BOUNDS, subset, ANNEALED[SUBSET])
    assert np.all(np.isnan(found.corrected))
    with pytest.raises(ValueError, match=f"index {wrong} of 6 bounds"):
        correct_bound(BOUNDS, subset, ANNEALED[SUBSET])


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"subset": [4, 0, 4]}, ValueError, "the index 4 more than once"),
        ({"subset": [0.0, 1.0, 2.0]}, TypeError, r"float\w+; give the indices"),
        ({"subset": [True, False, True]}, TypeError, "bool; give the indices"),
        (
            {"subset": [0, 1]},
            ValueError,
            r"annealed has shape \(3,\); give one .* \(2,\)",
        ),
        ({"subset": 3}, ValueError, r"subset has shape \(\); give \[n\] indices"),
        ({"subset": np.arange(7)}, ValueError, "the number of bounds, 6"),
        ({"subset": np.arange(0)}, ValueError, r"subset has shape \(0,\)"),
        ({"bounds": BOUNDS[None]}, ValueError, r"bounds has shape \(1, 6\); give"),
        ({"bounds": BOUNDS[:0]}, ValueError, r"bounds has shape \(0,\); give"),
        ({"bound_errors": ERRORS}, ValueError, r"bound_errors has shape \(3,\)"),
        ({"annealed_errors": 0.1}, ValueError, r"annealed_errors has shape \(\)"),
    ],
)
def test_wrong_arguments_are_named(change, error, message):
    arguments = {"bounds": BOUNDS, "subset": SUBSET, "annealed": ANNEALED[SUBSET]}
    with pytest.raises(error, match=message):
        correct_bound(**(arguments | change))
