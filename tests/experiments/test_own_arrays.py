"""Arrays of the user's own: intensities in any dtype, and memory."""

import subprocess
import sys
import tracemalloc

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from support.programs import ENVIRONMENT, users_settings

import vaejax
from experiments import own_data
from experiments.harness.errors import UsageError
from experiments.own import array_runs, arrays

RNG = np.random.default_rng(0)
DIGITS = RNG.integers(0, 256, (60, 17, 16)).astype(np.uint8)


def load(tmp_path, array, **options):
    np.save(tmp_path / "a.npy", array)
    config = own_data.Config(data=str(tmp_path / "a.npy"), batch_size=16, **options)
    return own_data.load_data(config)[0]


AS = {
    "int64": lambda x: x.astype(np.int64),
    "int32": lambda x: x.astype(np.int32),
    "uint16": lambda x: x.astype(np.uint16),
    "float32": lambda x: x.astype(np.float32),
    "divided": lambda x: (x / 255).astype(np.float32),
}


@pytest.mark.parametrize("likelihood", ["auto", "bernoulli"])
@pytest.mark.parametrize("dtype", AS)
def test_digits_of_any_dtype_are_those_of_8_bits(tmp_path, dtype, likelihood):
    expected = load(tmp_path, DIGITS, likelihood=likelihood)
    found = load(tmp_path, AS[dtype](DIGITS), likelihood=likelihood)
    if likelihood == "auto":
        likelihood = "discretized_logistic"
    assert found.likelihood == expected.likelihood == likelihood
    assert found.white == 255 and found.train.dtype == np.uint8
    for part in ("train", "test"):
        np.testing.assert_array_equal(getattr(found, part), getattr(expected, part))
    key, x = jax.random.key(0), found.train[0]
    np.testing.assert_array_equal(found.transform(key, x), expected.transform(key, x))
    doubt = "for counts, give --likelihood"
    assert (doubt in "\n".join(found.notes)) == (dtype != "divided")


@pytest.mark.parametrize("likelihood", ["auto", "bernoulli", "normal"])
def test_training_examples_in_the_units_of_the_test_set(tmp_path, likelihood):
    data = load(tmp_path, DIGITS, likelihood=likelihood)
    raw = DIGITS[arrays.datasets.split_indices(60)[0]].astype(float)
    # Real values stay in the units of the file.
    expected = raw if likelihood == "normal" else raw / 255
    np.testing.assert_allclose(data.intensities(data.train), expected, atol=1e-5)


def test_what_the_step_sees_are_intensities(tmp_path):
    data = load(tmp_path, DIGITS)
    xs = data.once(0, data.test)
    assert xs.dtype == jnp.float32
    np.testing.assert_allclose(xs, data.test / 255, rtol=1e-6)
    head = arrays.head_of(data)
    start = head.apply(head.init(jax.random.key(0)), jnp.zeros((17, 16, 2)))
    np.testing.assert_allclose(start.location, data.train.mean(0) / 255, atol=1e-5)


@pytest.mark.parametrize("dtype", [np.uint8, np.int32])
def test_real_values_are_standardized_inside_the_model(tmp_path, dtype):
    data = load(tmp_path, DIGITS.astype(dtype), likelihood="normal")
    is_small = dtype in (np.uint8, np.uint16)
    assert data.train.dtype == (dtype if is_small else np.float32)
    raw = DIGITS[arrays.datasets.split_indices(60)[0]].astype(float)
    step = jax.vmap(lambda x: data.transform(jax.random.key(0), x))
    np.testing.assert_array_equal(step(data.train), raw)
    xs = jax.vmap(data.units.to_model)(step(data.train))
    np.testing.assert_allclose(xs, (raw - raw.mean()) / raw.std(), atol=1e-5)


def test_large_offsets_are_subtracted_on_the_host(tmp_path):
    array = 1e9 + RNG.normal(size=(60, 3, 2))
    data = load(tmp_path, array)
    assert data.train.std() == pytest.approx(1, rel=0.1)
    schema = array_runs.schema_of(data, array)
    rows = array_runs.rows_of(array_runs.schema_from_dict(schema.as_dict()))
    back = rows.rows_of(rows.examples_of(array))
    np.testing.assert_allclose(back, array, rtol=0, atol=1e-5)


@pytest.mark.parametrize("dtype", AS)
def test_intensities_come_back_in_the_units_of_the_file(tmp_path, dtype):
    array = AS[dtype](DIGITS)
    data = load(tmp_path, array)
    schema = array_runs.schema_of(data, array)
    rows = array_runs.rows_of(array_runs.schema_from_dict(schema.as_dict()))
    xs = rows.examples_of(array)
    np.testing.assert_allclose(xs, DIGITS / 255, atol=1e-6)
    assert rows.rows_of(xs).dtype == (
        array.dtype if array.dtype.kind in "iu" else np.float64
    )
    np.testing.assert_allclose(rows.rows_of(xs), array, rtol=1e-6)
    with pytest.raises(UsageError, match=r"give numbers \[rows, 17, 16\]"):
        rows.examples_of(array[:, 0])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("array", "likelihood"),
    [
        (DIGITS, "auto"),
        (DIGITS, "bernoulli"),
        (RNG.integers(900, 1100, (60, 5, 4)).astype(np.uint16), "auto"),
        (RNG.normal(50, 3, (60, 5, 4)), "student_t"),
        (RNG.poisson(3, (60, 5)), "poisson"),
    ],
    ids=["8 bits", "binarized", "16 bits", "real", "counts"],
)
def test_a_model_comes_without_its_data(tmp_path, array, likelihood):
    np.save(tmp_path / "a.npy", array)
    config = own_data.Config(
        data=str(tmp_path / "a.npy"),
        likelihood=likelihood,
        batch_size=16,
        hidden_size=8,
        network="mlp",
    )
    with users_settings():
        found = own_data.make_experiment(config).arms[""]
        alone = own_data.without_data(config, found.records["schema.json"])
        params = found.vae.init(jax.random.key(0), found.example)
        other = alone.vae.init(jax.random.key(1), alone.example)
        z = jnp.ones(8)
        np.testing.assert_array_equal(
            alone.vae.decode(params, z).mean, found.vae.decode(params, z).mean
        )
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, other)
    if likelihood == "student_t":
        assert np.mean(found.vae.decode(params, z).mean) == pytest.approx(50, abs=3)


def test_independent_dimensions_are_in_the_units_of_the_file(tmp_path):
    array = RNG.normal([[5], [-100]], [[2], [50]], (400, 2, 1))
    data = load(tmp_path, array)
    with users_settings():
        alone = array_runs.fitted_alone(data)
        found = jax.vmap(alone.log_prob)(jnp.asarray(data.train))
    raw = data.train.astype(float)
    best = scipy.stats.norm(raw.mean(0), raw.std(0)).logpdf(raw).sum((1, 2))
    assert np.mean(found) == pytest.approx(best.mean(), abs=1e-3)


def test_a_table_is_standardized_in_parts_as_a_whole(monkeypatch):
    table = RNG.normal([5, -100], [2, 50], (70_000, 2))
    mean, stddev, note = arrays.standardization(table)
    np.testing.assert_allclose(mean, table.mean(0), rtol=1e-12)
    np.testing.assert_allclose(stddev, table.std(0), rtol=1e-12)
    assert "nats are in the units of the file" in note
    np.testing.assert_array_equal(
        arrays.scaled(table, mean), (table - mean).astype(np.float32)
    )


@pytest.mark.parametrize(
    ("array", "options", "message"),
    [
        (np.zeros((20, 3, 8, 8), np.uint8), {}, r"\[20, 3, 8, 8\].* the second axis"),
        (np.zeros((20, 6, 8, 8), np.uint8), {}, "volumes"),
        (np.zeros((20, 6, 8, 8, 3), np.float32), {}, "volumes"),
        (
            RNG.integers(0, 4096, (20, 8, 8)),
            {"likelihood": "discretized_logistic"},
            "is over 256 levels, and the values go to 4,...; choose discretized_normal",
        ),
    ],
)
def test_arrays_that_are_no_images_are_one_sentence(tmp_path, array, options, message):
    with pytest.raises(UsageError, match=message) as caught:
        load(tmp_path, array, **options)
    assert "\n" not in str(caught.value)


def test_parts_of_different_ranges_are_named(tmp_path):
    np.savez(tmp_path / "own.npz", train_images=DIGITS, test_images=DIGITS[:4] / 300)
    config = own_data.Config(data=str(tmp_path / "own.npz"))
    with pytest.raises(UsageError, match="holds 8-bit intensities, and the test part"):
        own_data.load_data(config)


@pytest.mark.parametrize("likelihood", ["auto", "bernoulli", "normal", "poisson"])
def test_preparing_takes_little_memory(tmp_path, likelihood):
    images = np.tile(DIGITS, (250, 1, 1))  # 4 MB, and parts of 1 MB
    np.save(tmp_path / "a.npy", images)
    config = own_data.Config(data=str(tmp_path / "a.npy"), likelihood=likelihood)
    tracemalloc.start()
    try:
        own_data.load_data(config)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # The file itself is mapped. A part takes 8 MB in float64, three times.
    assert peak < images.nbytes + 3 * 8 * (1 << 20) + (1 << 22), peak


MEASURE = """
import sys
import jax
from experiments import own_data
from experiments.harness.resources import peak_resident_bytes
jax.numpy.zeros(3).block_until_ready()
start = peak_resident_bytes()
own_data.make_experiment(own_data.Config(data=sys.argv[1], likelihood=sys.argv[2]))
print(peak_resident_bytes() - start)
"""


@pytest.mark.slow
@pytest.mark.parametrize("likelihood", ["auto", "bernoulli", "normal", "poisson"])
def test_peak_memory_is_at_most_three_times_the_array(tmp_path, likelihood):
    images = RNG.integers(0, 256, (22528, 64, 64), np.uint8)  # 88 MiB
    np.save(tmp_path / "a.npy", images)
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, tmp_path / "a.npy", likelihood],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(done.stdout.split()[-1]) < 3 * images.nbytes


@pytest.mark.sampled
@pytest.mark.parametrize("outputs", [(-0.4, -10.0), (0.45, 0.0), (0.0, -40.0)])
def test_16_bit_levels_have_the_mass_of_a_normal(outputs):
    levels = np.arange(65536)
    pixel = arrays.head_of_16_bits(0.5, 1.0).apply((), jnp.array([outputs]))
    xs = jnp.asarray(levels[:, None] / 65535, jnp.float32)
    found = np.exp(jax.jit(jax.vmap(pixel.log_prob))(xs))
    edges = np.concatenate([[-np.inf], (levels[1:] - 0.5) / 65535, [np.inf]])
    stddev = np.exp(float(pixel.log_variance[0]) / 2)
    mass = np.diff(scipy.stats.norm.cdf(edges, 0.5 + outputs[0], stddev))
    np.testing.assert_allclose(found.sum(), 1, atol=2e-4)
    # Single precision knows where a level lies to 1/500 of its width.
    np.testing.assert_allclose(found, mass, atol=5e-3 * mass.max())


@pytest.mark.parametrize("dtype", [np.uint16, np.int64])
def test_16_bits_are_levels_of_their_own(tmp_path, dtype):
    deep = RNG.integers(900, 1100, (60, 5, 4)).astype(dtype)
    data = load(tmp_path, deep)
    assert (data.likelihood, data.white) == ("discretized_normal", 65535)
    assert data.train.dtype == np.uint16
    xs = data.once(0, data.test)
    kept = deep[arrays.datasets.split_indices(60)[1]]
    np.testing.assert_array_equal(np.rint(np.asarray(xs) * 65535), kept)
    start = arrays.head_of(data).apply((), jnp.zeros((5, 4, 2)))
    nats = -np.mean(jax.jit(jax.vmap(start.log_prob))(xs)) / 20
    # A uniform distribution over the 200 levels has log(200) a pixel.
    assert np.log(200) < nats < np.log(200) + 0.3
    vae = arrays.with_scaled_inputs(
        vaejax.VAE(lambda key, x: x, lambda params, x: x, lambda params: 0, max), data
    )
    seen = np.asarray(vae.encode((), xs))
    raw = deep[arrays.datasets.split_indices(60)[0]].astype(float)
    np.testing.assert_allclose(seen, (kept - raw.mean()) / raw.std(), atol=1e-3)
