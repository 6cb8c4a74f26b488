"""Sets of points whose distance, precision, recall, density and coverage are known."""

import numpy as np
import pytest

import vaejax
from vaejax.metrics import sample_quality

FUNCTIONS = [
    vaejax.metrics.frechet_distance,
    vaejax.metrics.precision_recall,
    vaejax.metrics.density_coverage,
]


def gaussian(num, dimensions=3, mean=0.0, stddev=1.0, seed=0):
    return mean + stddev * np.random.default_rng(seed).normal(size=(num, dimensions))


def test_frechet_distance_of_gaussians_is_the_closed_form():
    generator = np.random.default_rng(0)
    real, generated = (
        generator.normal(size=(200, 3)),
        generator.normal(size=(300, 3)) @ np.diag([1, 2, 3]) + 5,
    )

    def whiten(points, covariance):
        centered = points - points.mean(axis=0)
        root = np.linalg.cholesky(np.cov(centered, rowvar=False))
        return centered @ np.linalg.inv(root.T) @ np.linalg.cholesky(covariance).T

    # Commuting covariances: the distance is that of the roots of their eigenvalues.
    rotation, _ = np.linalg.qr(generator.normal(size=(3, 3)))
    one, other = np.array([1.0, 4.0, 0.25]), np.array([9.0, 1.0, 0.25])
    real = whiten(real, rotation @ np.diag(one) @ rotation.T)
    generated = whiten(generated, rotation @ np.diag(other) @ rotation.T) + np.array(
        [1.0, 2.0, 2.0]
    )
    expected = 9 + np.sum((np.sqrt(one) - np.sqrt(other)) ** 2)
    np.testing.assert_allclose(
        vaejax.metrics.frechet_distance(real, generated), expected, rtol=1e-9
    )
    np.testing.assert_allclose(
        vaejax.metrics.frechet_distance(generated + 1e3, real + 1e3),
        expected,
        rtol=1e-6,
    )
    assert vaejax.metrics.frechet_distance(real, real) < 1e-9


def test_frechet_distance_of_covariances_that_do_not_commute():
    # tr (A B)^(1/2) of 2 x 2 matrices is sqrt(tr AB + 2 sqrt(det AB)).
    real = gaussian(500, 2) @ np.array([[2.0, 1.0], [0.0, 1.0]])
    generated = gaussian(500, 2, seed=1) @ np.array([[1.0, 0.0], [-3.0, 0.5]])
    one, other = np.cov(real, rowvar=False), np.cov(generated, rowvar=False)
    root = np.sqrt(np.trace(one @ other) + 2 * np.sqrt(np.linalg.det(one @ other)))
    means = np.sum((real.mean(axis=0) - generated.mean(axis=0)) ** 2)
    expected = means + np.trace(one) + np.trace(other) - 2 * root
    np.testing.assert_allclose(
        vaejax.metrics.frechet_distance(real, generated), expected, rtol=1e-9
    )


def test_a_feature_that_never_varies_changes_nothing():
    real, generated = gaussian(100), gaussian(100, mean=0.5, seed=1)
    constant = np.ones((100, 1))
    with_it = vaejax.metrics.frechet_distance(
        np.hstack([real, constant]), np.hstack([generated, constant])
    )
    np.testing.assert_allclose(
        with_it, vaejax.metrics.frechet_distance(real, generated), rtol=1e-6
    )


def test_balls_of_a_line_are_counted_by_hand():
    real, generated = (
        np.array([[0.0], [1.0], [3.0], [7.0]]),
        np.array([[0.5], [3.5], [20.0], [21.0]]),
    )
    # Balls about the real points reach 1, 1, 2 and 4 far with one neighbor: 0.5 lies
    # in the first two, 3.5 in the last two, the others in none. Balls about the
    # generated ones reach 3, 3, 1 and 1 far: all real points lie in one but 7.
    assert vaejax.metrics.precision_recall(real, generated, num_neighbors=1) == (
        0.5,
        0.75,
    )
    assert vaejax.metrics.density_coverage(real, generated, num_neighbors=1) == (
        1.0,
        1.0,
    )
    # With two neighbors they reach 3, 2, 3 and 6 far: 0.5 lies in three and 3.5 in two
    # of them besides the first.
    density, coverage = vaejax.metrics.density_coverage(
        real, generated, num_neighbors=2
    )
    assert (density, coverage) == ((3 + 2) / (2 * 4), 1.0)


def test_of_one_distribution_density_is_one_and_coverage_as_expected():
    found = [
        vaejax.metrics.density_coverage(
            gaussian(400, seed=2 * i), gaussian(300, seed=2 * i + 1), num_neighbors=4
        )
        for i in range(30)
    ]
    mean, error = (
        np.mean(found, axis=0),
        np.std(found, axis=0, ddof=1) / np.sqrt(len(found)),
    )
    expected = [1.0, vaejax.metrics.expected_coverage(400, 300, num_neighbors=4)]
    assert np.all(np.abs(mean - expected) < 4 * error), (mean, expected, error)


def test_what_each_number_misses_shows():
    real = gaussian(1000, 2)
    far = vaejax.metrics.precision_recall(real, gaussian(1000, 2, mean=50, seed=1))
    assert far == (0, 0)
    assert vaejax.metrics.density_coverage(
        real, gaussian(1000, 2, mean=50, seed=1)
    ) == (0, 0)
    # One mode of two: precise, and half is missed.
    two = np.concatenate(
        [gaussian(500, 2, mean=-20), gaussian(500, 2, mean=20, seed=1)]
    )
    one = gaussian(1000, 2, mean=20, seed=2)
    precision, recall = vaejax.metrics.precision_recall(two, one)
    assert precision > 0.95 and 0.4 < recall < 0.5
    assert 0.4 < vaejax.metrics.density_coverage(two, one).coverage < 0.51
    # Amid data of many dimensions balls overlap: what crowds there is denser than the
    # data, and covers little.
    density, coverage = vaejax.metrics.density_coverage(
        gaussian(1000, 16), gaussian(1000, 16, stddev=0.2, seed=3)
    )
    assert density > 5 and coverage < 0.9


def test_an_outlier_makes_noise_precise_and_hardly_dense():
    # The published failure of precision: one real outlier's ball holds all of the
    # noise.
    real = np.concatenate([gaussian(500, 8), np.full((1, 8), 6.0)])
    noise = gaussian(500, 8, mean=3.0, seed=1)
    assert vaejax.metrics.precision_recall(real, noise, num_neighbors=5).precision > 0.9
    assert vaejax.metrics.density_coverage(real, noise, num_neighbors=5).density < 0.25


def test_more_points_than_are_taken_at_once_make_no_difference(monkeypatch):
    real, generated = gaussian(70), gaussian(50, seed=1)
    whole = [function(real, generated) for function in FUNCTIONS]
    monkeypatch.setattr(sample_quality, "_ROWS_AT_ONCE", 7)
    assert [function(real, generated) for function in FUNCTIONS] == whole


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize(
    ("real", "generated", "message"),
    [
        (
            np.zeros((10, 2)),
            np.zeros((10, 3)),
            "real points have 2 features and generated ones 3",
        ),
        (np.zeros(10), np.zeros((10, 3)), r"the real points have shape \(10,\)"),
        (np.zeros((1, 3)), np.zeros((10, 3)), "there are 1 real points"),
        (np.zeros((10, 3)), np.zeros((0, 3)), "there are 0 generated points"),
        (
            np.zeros((10, 1)),
            np.array([[0.0]] * 9 + [[np.nan]]),
            "generated point 9 has a feature that is not finite",
        ),
    ],
)
def test_sets_that_cannot_be_compared_are_refused(function, real, generated, message):
    with pytest.raises(ValueError, match=f"{function.__name__}: .*{message}"):
        function(real, generated)


def test_no_neighbors_are_refused():
    with pytest.raises(ValueError, match="num_neighbors"):
        vaejax.metrics.precision_recall(
            np.zeros((10, 2)), np.zeros((10, 2)), num_neighbors=0
        )
