"""Streamed epochs beside resident ones: the same batches and parameters; sources,
errors, and the thread's end.
"""

import _thread
import json
import signal
import subprocess
import sys
import threading
import tracemalloc
from functools import cache, partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from support import two_processes
from support.cases import standard_promotion
from support.epochs import one_device_sharding, report_batch, seed_state, stripes
from support.image_files import TWO, official, random_arrays, shrink, write_idx
from support.programs import free_port

from vaejax import (
    MLP,
    TrainState,
    binarize,
    checkpoints,
    datasets,
    gaussian_vae,
    init_train_state,
    make_train_epoch,
    make_train_step,
    mean_over_batch,
    negative_elbo,
    with_transform,
)
from vaejax.datasets import _official_files
from vaejax.training import make_streamed_epoch
from vaejax.training.streaming import _map_ahead

IMAGES = stripes(6)
VAE = gaussian_vae(latent_size=2, encoder=MLP((8,)), decoder=MLP((8,), (6, 6)))
OPTIMIZER = standard_promotion(optax.adam(1e-3))


def step_of(pixels_of=lambda x: x):
    objective = with_transform(
        partial(negative_elbo, VAE), lambda key, x: binarize(key, pixels_of(x))
    )
    return make_train_step(mean_over_batch(objective), OPTIMIZER)


STEP = step_of()
RESIDENT = jax.jit(make_train_epoch(STEP, 10))
STREAMED = make_streamed_epoch(STEP, 10, steps_per_dispatch=2)


def start(seed=0):
    return jax.jit(partial(init_train_state, VAE, OPTIMIZER))(
        jax.random.key(seed), jnp.zeros((6, 6))
    )


@cache
def report_epoch(steps_per_dispatch=3, **options):
    return make_streamed_epoch(
        report_batch, 5, steps_per_dispatch=steps_per_dispatch, **options
    )


@cache
def resident_order():
    """The examples of each step, `[12, 5]`, of 23: three epochs of four steps."""
    state, batches = seed_state(), []
    for _ in range(3):
        state, batch = jax.jit(make_train_epoch(report_batch, 5))(state, np.arange(23))
        batches.append(batch)
    return np.concatenate(batches)


@pytest.fixture(autouse=True)
def no_thread_is_left():
    yield
    assert not [
        thread
        for thread in threading.enumerate()
        if thread.name.startswith("vaejax-streaming")
    ]


# the order


@pytest.mark.parametrize("steps_per_dispatch", [1, 3, 4, 16])
@pytest.mark.parametrize("first", [0, 1, 3, 6])
def test_batches_are_those_of_the_resident_epoch_until_it_ends(
    steps_per_dispatch, first
):
    state, batches = report_epoch(steps_per_dispatch)(
        seed_state(step=first), np.arange(23)
    )
    last = first // 4 * 4 + 4
    assert state.step == last
    np.testing.assert_array_equal(batches, resident_order()[first:last])


def test_epochs_and_seeds_have_their_own_order():
    orders = [
        report_epoch()(seed_state(seed, step), np.arange(23))[1]
        for seed in (0, 1)
        for step in (0, 4)
    ]
    assert len({tuple(np.ravel(order).tolist()) for order in orders}) == 4


def test_batch_sharding_changes_no_batch():
    _, batches = report_epoch(batch_sharding=one_device_sharding())(
        seed_state(), np.arange(23)
    )
    np.testing.assert_array_equal(batches, resident_order()[:4])


# the parameters


def assert_same(streamed, resident):
    """To the last bit on CPU; other devices may round the two programs differently."""
    if jax.default_backend() == "cpu":
        assert checkpoints.digest(streamed) == checkpoints.digest(resident)
    else:
        jax.tree.map(
            partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5),
            streamed.params,
            resident.params,
        )


@pytest.mark.slow
def test_two_epochs_from_a_memory_map_train_as_resident_ones(tmp_path):
    np.save(tmp_path / "images.npy", IMAGES)
    source = np.load(tmp_path / "images.npy", mmap_mode="r")
    resident, streamed = start(), start()
    for _ in range(2):
        resident, expected = RESIDENT(resident, IMAGES)
        streamed, metrics = STREAMED(streamed, source)
        assert metrics.loss.shape == (5,)
        np.testing.assert_allclose(metrics.loss, expected.loss, rtol=1e-6)
    assert_same(streamed, resident)


@pytest.mark.slow
def test_the_rest_of_an_epoch_trains_as_a_resident_one():
    resident, _ = RESIDENT(start(), IMAGES)
    part, _ = jax.jit(make_train_epoch(STEP, 10, steps_per_dispatch=2))(start(), IMAGES)
    streamed, metrics = STREAMED(part, IMAGES)
    assert streamed.step == 5 and metrics.loss.shape == (3,)
    jax.tree.map(
        partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6),
        streamed.params,
        resident.params,
    )


@pytest.mark.slow
def test_a_set_of_tensorflow_datasets_trains_as_its_arrays(tmp_path, monkeypatch):
    tfds = pytest.importorskip(
        "tensorflow_datasets", reason="tensorflow-datasets is not installed"
    )
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))
    shrink(monkeypatch, "fashion_mnist", TWO)
    directory = official(tmp_path)
    write_idx(directory, random_arrays(1, TWO, (28, 28)))
    images, labels = datasets.load("fashion_mnist", directory=directory)
    home = (
        _official_files.data_dir()
        / _official_files.BUILDER
        / "fashion_mnist"
        / _official_files.VERSION
    )
    source = tfds.builder_from_directory(home).as_data_source(split="train")

    step = step_of(lambda x: x["image"][:6, :6])
    resident, _ = jax.jit(make_train_epoch(step, 5))(
        start(), {"image": images, "label": labels}
    )
    streamed, _ = make_streamed_epoch(step, 5, steps_per_dispatch=3)(start(), source)
    assert_same(streamed, resident)


def test_a_source_of_grain_trains_as_its_arrays():
    grain = pytest.importorskip("grain", reason="grain is not installed")
    source = grain.MapDataset.source(IMAGES)
    assert_same(STREAMED(start(), source)[0], RESIDENT(start(), IMAGES)[0])


# members, and processes


def members(seeds, step=0):
    state = TrainState(jnp.zeros(()), (), jax.random.key(0), jnp.int32(step))
    keys = jax.vmap(jax.random.key)(jnp.asarray(seeds))
    return jax.vmap(lambda key: state._replace(key=key))(keys)


def test_members_see_the_batches_of_their_keys_which_are_read_once():
    source = OneByOne()
    state, batches = report_epoch()(members([1, 0, 1]), source)
    assert state.step.tolist() == [4, 4, 4] and batches.shape == (3, 4, 5)
    for index, seed in enumerate([1, 0, 1]):
        _, alone = report_epoch()(seed_state(seed), np.arange(23))
        np.testing.assert_array_equal(batches[index], alone)
    assert len(source.read) == 2 * 20


def test_members_are_given_what_is_their_own():
    def step(state, batch, rate):
        params = state.params + rate * jnp.sum(batch)
        return state._replace(params=params, step=state.step + 1), params

    epoch = make_streamed_epoch(step, 5)
    states, metrics = epoch(members([0, 0]), np.ones(23), jnp.array([1.0, 3.0]))
    assert states.params.tolist() == [20, 60] and metrics.shape == (2, 4)


def test_members_at_different_steps_are_refused():
    states = members([0, 1])._replace(step=jnp.array([0, 4]))
    with pytest.raises(ValueError, match=r"steps \[0, 4\]; train those of one step"):
        report_epoch()(states, np.arange(23))


@pytest.mark.slow
@pytest.mark.xdist_group("two processes")
def test_two_processes_read_half_each_and_train_as_one_does_on_all(tmp_path):
    two_processes.write_data(tmp_path / "data.npy")
    port = free_port()
    running = [
        subprocess.Popen([sys.executable, two_processes.__file__, *arguments])
        for arguments in (
            (str(port), "0", str(tmp_path)),
            (str(port), "1", str(tmp_path)),
            ("0", "2", str(tmp_path)),
        )
    ]
    assert [process.wait(250) for process in running] == [0, 0, 0]
    first, second, one = (
        json.loads((tmp_path / f"{index}.json").read_text()) for index in range(3)
    )
    assert first["losses"] == second["losses"]
    assert np.shape(one["losses"]) == (2, two_processes.STEPS)
    np.testing.assert_allclose(first["losses"], one["losses"], rtol=1e-6)
    num_epochs = two_processes.epochs_of(two_processes.STEPS)
    half = num_epochs * two_processes.MEMBERS * two_processes.NUM // 2
    assert first["num_read"] == second["num_read"] == half
    data_bytes = (tmp_path / "data.npy").stat().st_size
    for process in (first, second):
        assert process["peak_bytes"] < one["peak_bytes"] - data_bytes


# sources


class Pair(NamedTuple):
    x: np.ndarray
    label: np.ndarray


class OneByOne:
    """Gives an example by its index."""

    def __init__(self, example=lambda index: index, length=23):
        self.example, self.length, self.read = example, length, []

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        self.read.append(index)
        return self.example(index)


class Many(OneByOne):
    """Gives examples by their indices."""

    def __getitems__(self, indices):
        return [self[index] for index in indices]


@pytest.mark.parametrize(
    "source",
    [
        Pair(np.arange(23), 100 + np.arange(23)),
        Pair(jnp.arange(23), 100 + np.arange(23, dtype=np.int16)),
        OneByOne(lambda index: Pair(index, np.float32(100 + index))),
        Many(lambda index: Pair(np.int64(index), 100 + index)),
    ],
    ids=["arrays", "arrays on the device", "one by one", "many"],
)
def test_leaves_of_an_example_stay_together(source):
    _, batches = report_epoch()(seed_state(), source)
    assert isinstance(batches, Pair)
    np.testing.assert_array_equal(batches.x, resident_order()[:4])
    np.testing.assert_array_equal(batches.label, np.asarray(batches.x) + 100)


@pytest.mark.parametrize("kind", [OneByOne, Many])
def test_an_example_is_read_when_it_is_used_and_once(kind):
    source = kind()
    report_epoch()(seed_state(step=1), source)
    assert source.read == resident_order()[1:4].ravel().tolist()


def test_no_more_is_read_ahead_than_asked_for():
    read = []
    results = _map_ahead(lambda number: read.append(number) or number, range(10), 2)
    for number in range(10):
        assert next(results) == number
        assert len(read) <= number + 3
    assert list(results) == [] and read == list(range(10))


def test_a_memory_map_is_not_copied(tmp_path):
    path = tmp_path / "images.npy"
    source = np.lib.format.open_memmap(
        path, mode="w+", dtype=np.uint8, shape=(20_000, 64, 32)
    )  # 41 MB
    step = make_streamed_epoch(
        lambda state, batch: report_batch(state, jnp.max(batch)),
        100,
        steps_per_dispatch=4,
    )
    tracemalloc.start()
    try:
        step(seed_state(), source)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 10e6, peak


# errors


def failing(error, after=12):
    """A source that fails at an example."""

    def example(index):
        if len(source.read) > after:
            raise error
        return index

    source = OneByOne(example)
    return source


@pytest.mark.parametrize("after", [0, 12, 19])
@pytest.mark.parametrize(
    "error", [OSError("the disk is gone"), KeyboardInterrupt("in the thread")]
)
def test_what_the_source_raises_is_raised(error, after):
    with pytest.raises(type(error), match=str(error)):
        report_epoch(steps_per_dispatch=1)(seed_state(), failing(error, after))


def test_an_interrupt_of_the_caller_ends_the_thread():
    def example(index):
        # Again later, since one that falls into a callback of C++ is lost.
        if len(source.read) % 1000 == 7:
            _thread.interrupt_main()
        return index

    source = OneByOne(example, length=50_000)
    # A process that a shell starts in the background ignores interrupts.
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            report_epoch(steps_per_dispatch=1)(seed_state(), source)
    finally:
        signal.signal(signal.SIGINT, handler)
    assert len(source.read) < 50_000


def test_an_error_of_the_step_ends_the_thread():
    def step(state, batch):
        raise RuntimeError("no such step")

    with pytest.raises(RuntimeError, match="no such step"):
        make_streamed_epoch(step, 5)(seed_state(), np.arange(23))


@pytest.mark.parametrize(
    "source", [np.arange(4), OneByOne(length=4), OneByOne(length=0)]
)
def test_a_source_of_less_than_a_batch_is_refused(source):
    with pytest.raises(
        ValueError, match=rf"batch_size is 5 and the data hold {len(source)} examples"
    ):
        report_epoch()(seed_state(), source)


@pytest.mark.parametrize(
    "source",
    [[np.arange(6)] * 9, "train.npy", iter(range(9)), {"x": [1, 2]}, 7, {1, 2}],
    ids=lambda source: type(source).__name__,
)
def test_what_is_no_source_is_refused(source):
    with pytest.raises(
        TypeError, match=rf"the source is a {type(source).__name__}; give an array"
    ):
        report_epoch()(seed_state(), source)


@pytest.mark.parametrize(
    "source", [Pair(np.arange(23), np.arange(22)), np.float32(3), (), None], ids=repr
)
def test_arrays_must_have_equal_leading_axes(source):
    with pytest.raises(ValueError, match="give one leading axis"):
        report_epoch()(seed_state(), source)


class TooFew(OneByOne):
    def __getitems__(self, indices):
        return indices[1:]


@pytest.mark.parametrize(
    ("source", "error", "message"),
    [
        (
            OneByOne(lambda index: np.zeros(2 - index % 2)),
            ValueError,
            r"has shape \(1,\) and example \d+ \(2,\); give examples of one shape",
        ),
        (
            OneByOne(lambda index: {"xy"[index % 2]: 1}),
            ValueError,
            r"shape {'y': \(\)} and example \d+ {'x'",
        ),
        (OneByOne(str), TypeError, "examples hold <U2; give numbers only"),
        (
            Pair(np.arange(23), np.full(23, "x")),
            TypeError,
            "examples hold <U1; give numbers only",
        ),
        (np.full(23, None), TypeError, "examples hold object; give numbers only"),
        (TooFew(), ValueError, "gave 14 examples for 15 indices"),
    ],
    ids=[
        "shapes",
        "structures",
        "strings",
        "strings in an array",
        "objects",
        "too few",
    ],
)
def test_examples_that_cannot_be_trained_on_are_refused(source, error, message):
    with pytest.raises(error, match=message):
        report_epoch()(seed_state(), source)


@pytest.mark.parametrize("name", ["batch_size", "steps_per_dispatch", "prefetch"])
@pytest.mark.parametrize("value", [0, -1, 2.0, True, None])
def test_counts_must_be_positive(name, value):
    with pytest.raises(
        ValueError, match=f"{name} is {value!r}; give a positive integer"
    ):
        make_streamed_epoch(report_batch, **({"batch_size": 5} | {name: value}))
