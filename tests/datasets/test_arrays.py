"""Arrays of numbers: described, checked against a support, split."""

import numpy as np
import pytest

from vaejax import datasets, distributions
from vaejax.datasets import _shared

RNG = np.random.default_rng(0)
REAL = RNG.normal(3, 2, (50, 4))
COUNTS = distributions.support_of(distributions.Poisson)


def with_value(value):
    array = REAL.copy()
    array[17, 2] = value
    return array


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (with_value(np.nan), r"holds nan in example 17 \(at \[17, 2\]\)"),
        (with_value(-np.inf), r"holds -inf in example 17"),
        (np.array([["a", "b"]]), "not numbers"),
        (np.array([[1, None]]), "holds object, not numbers"),
        (np.ma.masked_invalid(with_value(np.nan)), "masked array"),
        (REAL.astype(">f8"), "not numbers of this machine"),
        (np.ones(5), r"shape \[5\]"),
        (np.ones((0, 3)), r"shape \[0, 3\]"),
    ],
)
def test_what_is_no_array_of_numbers_is_refused(array, message):
    for check in (datasets.describe_array, datasets.from_array):
        with pytest.raises(ValueError, match=message):
            check(array)


def test_an_array_is_described_without_candidates():
    found = datasets.describe_array(RNG.poisson(4, (2000, 5)))
    assert found.is_integer and not found.is_binary and not found.is_overdispersed
    assert (found.likelihood, found.reason) == ("", "")
    assert found.text().startswith("2,000 examples of shape [5], int64, 0 to")
    assert "\n" not in found.text()
    assert datasets.describe_array(RNG.negative_binomial(2, 0.2, (2000, 5)))[7]
    assert not datasets.describe_array(-RNG.poisson(4, (200, 5))).is_overdispersed
    assert not datasets.describe_array(REAL).is_integer


@pytest.mark.parametrize(
    ("values", "dtype", "is_binary"),
    [
        ([0, 1], np.float32, True),
        ([0, 1], bool, True),
        ([0, 1], np.uint8, True),
        ([0, 255], np.uint8, True),
        ([0, 255], np.int64, False),
        ([0, 1, 255], np.uint8, False),
    ],
)
def test_binary_arrays_are_known(monkeypatch, values, dtype, is_binary):
    # One row a part: what is binary in one part must be so in all.
    monkeypatch.setattr(_shared, "_CHUNK_BYTES", 1)
    array = np.array(values, dtype)[:, None]
    assert datasets.describe_array(array).is_binary == is_binary


def test_the_first_candidate_that_suits_is_proposed():
    candidates = [
        datasets.LikelihoodCandidate("a", "never", lambda found: False),
        datasets.LikelihoodCandidate("b", "positive", lambda found: found.minimum > 0),
        datasets.LikelihoodCandidate("c", "all", lambda found: True),
    ]
    for array, name in [(REAL + 100, "b"), (REAL - 100, "c")]:
        assert datasets.describe_array(array, candidates=candidates).likelihood == name
    with pytest.raises(ValueError, match="table holds .* is over counts .*: choose b"):
        datasets.check_support(REAL + 100, COUNTS, where="table", candidates=candidates)


def test_values_outside_a_support_are_named():
    counts = RNG.poisson(4, (20, 5))
    datasets.check_support(counts, COUNTS)
    counts[3, 2] = -1
    message = r"the array holds -1 in example 3 \(at \[3, 2\]\); the likelihood is over"
    with pytest.raises(ValueError, match=message):
        datasets.check_support(counts, COUNTS)
    pixels = RNG.integers(2, 256, (9, 4, 4)).astype(np.uint8)
    datasets.check_support(pixels, COUNTS, scale_8_bit=False)
    with pytest.raises(
        ValueError, match="p is over counts .*: choose another, or change"
    ):
        datasets.check_support(pixels, COUNTS, likelihood="p")


def test_split_is_fixed_and_disjoint():
    train, test = datasets.split_indices(105)
    assert len(test) == 10 and sorted([*train, *test]) == list(range(105))
    np.testing.assert_array_equal(datasets.split_indices(105)[1], test)
    with pytest.raises(ValueError, match="3 examples; give at least 4"):
        datasets.split_indices(3)


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.int32, np.float32, float])
def test_intensities_are_known_by_values_and_shape(monkeypatch, dtype):
    levels = RNG.integers(0, 256, (9, 4, 5)).astype(dtype)
    assert datasets.describe_array(levels).white == 255
    assert datasets.describe_array(levels[..., None]).white == 255
    assert datasets.describe_array(levels.reshape(9, 20)).white == 0
    assert datasets.describe_array(levels[..., None, None]).white == 0
    assert datasets.describe_array(levels // 255).white == 0
    monkeypatch.setattr(_shared, "_PART_BYTES", 1)
    if dtype != np.uint8:
        for value, white in ((256, 65535), (65535, 65535), (65536, 0), (-1, 0)):
            levels[4, 2, 3] = value
            assert datasets.describe_array(levels).white == white
    if np.dtype(dtype).kind == "f":
        levels[4, 2, 3] = 0.5
        assert datasets.describe_array(levels).white == 0


def test_intensities_that_were_divided_are_known():
    scaled = (RNG.integers(0, 256, (9, 4, 5)) / 255).astype(np.float32)
    # A first part of 0 and 1 alone says nothing.
    scaled[0] = RNG.integers(0, 2, (4, 5))
    assert datasets.describe_array(scaled).white == 255
    scaled[8, 3, 4] = 0.5
    assert datasets.describe_array(scaled).white == 0


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((9, 3, 32, 32), r"the colors on the second axis; .*np.moveaxis\(array, 1, -1"),
        ((9, 1, 32, 32), "colors on the second axis"),
        ((9, 32, 32, 4), "last of four axes holds the colors: give 1 or 3"),
        ((9, 16, 32, 32), r"volumes; .*np.reshape\(array, \(-1, \*array.shape\[2:\]"),
        ((9, 16, 32, 32, 1), "volumes"),
        ((9, 16, 32, 32, 3), "volumes"),
    ],
)
def test_axes_that_are_none_of_images_are_named(tmp_path, shape, message):
    array = np.broadcast_to(np.uint8(7), shape)
    with pytest.raises(ValueError, match=message) as caught:
        datasets.check_image_axes(array)
    assert str(list(shape)) in str(caught.value) and "\n" not in str(caught.value)
    np.savez(tmp_path / "own.npz", train_images=array)
    with pytest.raises(ValueError, match=message):
        datasets.load(tmp_path / "own.npz")


def test_axes_of_images_pass():
    for shape in ((9, 5), (9, 5, 4), (9, 5, 4, 1), (9, 5, 4, 3), (9, 3, 4, 3)):
        datasets.check_image_axes(np.zeros(shape))


def test_the_overdispersion_of_many_columns_is_that_of_all(monkeypatch):
    from vaejax.datasets import arrays

    rng = np.random.default_rng(0)
    wide = rng.negative_binomial(2, 0.2, (50, 7))
    wide[:, :3] = rng.poisson(4, (50, 3))
    narrow = np.where(np.arange(7) < 4, rng.poisson(4, (50, 7)), wide)
    for counts, expected in ((wide, True), (narrow, False)):
        for size in (1 << 17, 50, 1):
            monkeypatch.setattr(arrays, "_SAMPLE_SIZE", size)
            assert datasets.describe_array(counts).is_overdispersed == expected


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (RNG.poisson(4, (2000, 5)), True),
        (RNG.negative_binomial(1, 0.2, (2000, 5)).astype(np.float32), True),
        (RNG.negative_binomial(0.5, 0.1, (2000, 90)), True),
        (np.rint(RNG.normal(45, 13, (2000, 5))).astype(np.int32), False),
        (RNG.integers(1990, 2021, (2000, 5)), False),
        (RNG.integers(0, 101, (2000, 5)), False),
        # Flattened images: many columns reach the same white.
        (np.minimum(RNG.negative_binomial(1, 0.01, (900, 90)), 255), False),
        (np.zeros((9, 3), np.int64), False),
        (RNG.poisson(4, (200, 5, 2)), False),
    ],
)
def test_counts_are_known_by_values_not_by_dtype(array, expected):
    assert datasets.describe_array(array).are_counts == expected
