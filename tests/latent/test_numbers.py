"""Latent tools on every dtype and at any offset, against NumPy in double precision."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.dtypes import DTYPES, functions_of, table

from vaejax import latent
from vaejax.distributions import Normal
from vaejax.estimators import active_units, units_by_kl
from vaejax.objectives import (
    gaussian_kernel,
    inverse_multiquadratic_kernel,
    maximum_mean_discrepancy,
)

HALF = np.arange(40) % 2 == 0


def in_float64(array):
    return np.asarray(array).astype(np.float64)


def every_distance(queries, references):
    queries, references = (
        in_float64(each).reshape(len(each), -1) for each in (queries, references)
    )
    return np.linalg.norm(queries[:, None] - references[None], axis=-1)


def neighbors(codes):
    found = latent.nearest_neighbors(codes[:9], codes, num=3)
    return found.indices, found.distances


def neighbors_in_float64(codes):
    distances = every_distance(codes[:9], codes)
    indices = np.argsort(distances, axis=1, kind="stable")[:, :3]
    return indices, np.take_along_axis(distances, indices, axis=1)


def slerp(codes):
    a, b = codes[0], codes[1]
    angle = np.arccos(a @ b / np.linalg.norm(a) / np.linalg.norm(b))
    return (np.sin(0.75 * angle) * a + np.sin(0.25 * angle) * b) / np.sin(angle)


def mmd(codes, kernel):
    def pairs(a, b):
        return np.array([[kernel(x, y) for y in b] for x in a])

    one, other = pairs(codes[:5], codes[:5]), pairs(codes[5:9], codes[5:9])
    return (
        (one.sum() - np.trace(one)) / 20
        + (other.sum() - np.trace(other)) / 12
        - 2 * pairs(codes[:5], codes[5:9]).mean()
    )


def multiquadratic(x, y):
    return 4e4 / (4e4 + np.sum((x - y) ** 2))


#: name -> (function of codes `[40, 6]`, the same in double precision)
CASES = {
    "nearest_neighbors": (neighbors, neighbors_in_float64),
    "attribute_direction": (
        lambda codes: latent.attribute_direction(codes, HALF),
        lambda codes: codes[HALF].mean(0) - codes[~HALF].mean(0),
    ),
    "linear_path": (
        lambda codes: latent.linear_path(codes[0], codes[1], 0.25),
        lambda codes: 0.75 * codes[0] + 0.25 * codes[1],
    ),
    "spherical_path": (
        lambda codes: latent.spherical_path(codes[0], codes[1], 0.25),
        slerp,
    ),
    "active_units": (
        lambda codes: active_units(codes, threshold=850.0),
        lambda codes: np.sum(np.var(codes, axis=0) > 850.0),
    ),
    "units_by_kl": (
        lambda codes: units_by_kl(codes[0], threshold=50.0),
        lambda codes: np.sum(codes[0] > 50.0),
    ),
    "outlier_threshold": (
        lambda codes: latent.outlier_threshold(codes[:, 0], 0.1).value,
        lambda codes: np.sort(codes[:, 0])[36],  # 4 of 41 parts lie above
    ),
    "gaussian_kernel": (
        lambda codes: gaussian_kernel(codes[0], codes[1], variance=1e4),
        lambda codes: np.exp(-np.sum((codes[0] - codes[1]) ** 2) / 2e4),
    ),
    "inverse_multiquadratic_kernel": (
        lambda codes: inverse_multiquadratic_kernel(codes[0], codes[1], scale=4e4),
        lambda codes: multiquadratic(codes[0], codes[1]),
    ),
    "maximum_mean_discrepancy": (
        lambda codes: maximum_mean_discrepancy(
            lambda z, other: inverse_multiquadratic_kernel(z, other, scale=4e4),
            codes[:5],
            codes[5:9],
        ),
        lambda codes: mmd(codes, multiquadratic),
    ),
}
#: Functions that compute nothing on arrays of the caller: the model does.
OF_A_MODEL = {
    *("complete", "draw", "embed", "interpolate", "manifold", "mean", "mode"),
    *("reconstruct", "sample", "shift_latents", "traverse", "values"),
    *("code_statistics", "posterior_moments", "impute", "outlier_scores"),
}
CELLS = [
    (name, dtype, offset)
    for name in CASES
    for dtype in DTYPES
    for offset in (0, 3000, -3000)
    # What neither holds every number of 0 to 100 nor the offset.
    if not (offset and dtype in ("bool", "int8", "uint8", "bfloat16", "float16"))
    and not (offset < 0 and dtype.startswith("uint"))
]


def test_every_function_is_in_the_table():
    assert functions_of(latent) <= CASES.keys() | OF_A_MODEL


@pytest.mark.sampled(every=53)
@pytest.mark.parametrize(("name", "dtype", "offset"), CELLS)
def test_values_are_those_of_double_precision(name, dtype, offset):
    function, in_double = CASES[name]
    codes = table((40, 6), DTYPES[dtype], offset=offset)
    expected = in_double(in_float64(codes))
    # Points of a path keep the dtype of its ends.
    half = name.endswith("path") and dtype in ("float16", "bfloat16")
    rtol = 1e-2 if half else 2e-5 if name == "spherical_path" else 2e-6
    for given in (codes, jnp.asarray(codes)):
        jax.tree.map(
            lambda found, right: np.testing.assert_allclose(
                in_float64(found), right, rtol=rtol, atol=2e-6
            ),
            function(given),
            expected,
        )


@pytest.mark.parametrize("spread", [1.0, 1e4])
def test_a_copy_is_its_own_neighbor_whatever_else_there_is(spread):
    # With clusters far from each other, products do not order neighbors.
    key, far_key = jax.random.split(jax.random.key(0))
    references = jax.random.normal(key, (300, 7)) + spread * jax.random.bernoulli(
        far_key, shape=(300, 1)
    ).astype(jnp.float32)
    found = latent.nearest_neighbors(references, references, num=2, batch_size=70)
    np.testing.assert_array_equal(found.indices[:, 0], np.arange(300))
    assert np.all(found.distances[:, 0] == 0)
    distances = every_distance(references, references)
    np.testing.assert_array_equal(found.indices, np.argsort(distances, axis=1)[:, :2])


def test_of_equal_references_the_first_is_the_neighbor():
    references = np.zeros((50, 3), np.uint8)
    found = latent.nearest_neighbors(references[:4], references, num=3)
    np.testing.assert_array_equal(found.indices, [[0, 1, 2]] * 4)
    assert np.all(found.distances == 0)


def test_wide_integers_and_double_precision_keep_their_digits():
    near = np.array([[2**31 - 9, 5], [2**31 - 8, 5], [-(2**31), 0]])
    for codes in (near.astype(np.int32), near + 2**40, near * 0.125 + 2.0**40):
        found = latent.nearest_neighbors(codes[:2], codes, num=2)
        np.testing.assert_array_equal(found.indices, [[0, 1], [1, 0]])
        np.testing.assert_array_equal(
            found.distances, [[0, abs(codes[1, 0] - codes[0, 0])]] * 2
        )


def test_nan_is_the_furthest_and_no_distance():
    codes = jnp.arange(12.0).reshape(6, 2).at[2, 1].set(jnp.nan)
    found = latent.nearest_neighbors(codes[:3], codes, num=6)
    np.testing.assert_array_equal(found.indices[:2, -1], 2)
    assert np.all(np.isnan(found.distances[:2, -1]))
    assert np.all(np.isfinite(found.distances[:2, :-1]))
    assert np.all(np.isnan(found.distances[2]))


def test_nearest_neighbors_may_be_compiled_and_given_no_query():
    codes = table((20, 3, 2), np.uint8)
    found = jax.jit(latent.nearest_neighbors)(codes, codes)
    np.testing.assert_array_equal(found.indices[:, 0], np.arange(20))
    assert latent.nearest_neighbors(codes[:0], codes, num=2).indices.shape == (0, 2)


def test_memory_does_not_grow_with_the_references():
    def temporary(num):
        found = jax.jit(latent.nearest_neighbors).lower(
            jax.ShapeDtypeStruct((50, 64), jnp.uint8),
            jax.ShapeDtypeStruct((num, 64), jnp.uint8),
        )
        return found.compile().memory_analysis().temp_size_in_bytes

    assert temporary(80_000) < temporary(20_000) + 2**20


def test_a_dimension_of_nan_is_neither_active_nor_unused():
    means = jnp.array([[1.0, 0.0], [-1.0, jnp.nan]])
    assert np.isnan(active_units(means)) and active_units(means[:, :1]) == 1
    assert np.isnan(active_units(means.at[1, 1].set(jnp.inf)))
    assert np.isnan(units_by_kl(jnp.array([1.0, jnp.nan])))
    assert units_by_kl(jnp.array([jnp.inf, 0.09, 0.11])) == 2


@pytest.mark.sampled
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_statistics_of_codes_in_half_precision_are_those_of_double(model, dtype):
    vae, params, xs = model
    dtype = DTYPES[dtype]
    half = vae._replace(
        encode=lambda params, x: jax.tree.map(
            lambda leaf: leaf.astype(dtype), vae.encode(params, x)
        )
    )
    statistics = latent.code_statistics(half, params, jax.random.key(3), xs)
    posteriors = jax.vmap(lambda x: half.encode(params, x))(xs)
    means, variances = (
        in_float64(posteriors.mean),
        np.exp(in_float64(posteriors.log_variance)),
    )
    np.testing.assert_allclose(statistics.activity, means.var(0), rtol=1e-5, atol=1e-9)
    prior = vae.prior(params)
    ratio = variances / np.exp(in_float64(prior.log_variance))
    kl = 0.5 * (
        (means - in_float64(prior.mean)) ** 2 / np.exp(in_float64(prior.log_variance))
        + ratio
        - 1
        - np.log(ratio)
    )
    np.testing.assert_allclose(statistics.kl, kl.mean(0), rtol=1e-5, atol=1e-6)
    moments = latent.posterior_moments(half, params, jax.random.key(3), xs)
    np.testing.assert_allclose(moments.stddev, np.sqrt(variances), rtol=1e-5)


def test_a_dimension_of_nan_is_the_first_and_not_the_least(model):
    vae, params, xs = model
    broken = vae._replace(
        encode=lambda params, x: Normal(
            vae.encode(params, x).mean.at[2].set(jnp.nan),
            vae.encode(params, x).log_variance,
        )
    )
    statistics = latent.code_statistics(broken, params, jax.random.key(0), xs)
    assert statistics.order[0] == 2 and np.isnan(statistics.kl[2])
