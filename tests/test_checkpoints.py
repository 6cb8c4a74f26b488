"""Checkpoints: bitwise round trips, refusal of what does not fit, and survival of
damage.
"""

import gc
import hashlib
import json
import shutil
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from vaejax import TrainState, checkpoints
from vaejax.checkpoints import CheckpointMismatchError

# When one read of a damaged checkpoint fails, orbax abandons the others, and Python
# reports them so.
pytestmark = pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)


def make_state(step=0, *, seed=0, impl=None, shape=(30, 40), dtype=np.float32):
    normal = np.random.default_rng([step, seed]).normal
    params = {
        "kernel": jnp.asarray(normal(size=shape), dtype),
        "bias": jnp.asarray(normal(size=40), dtype),
    }
    return TrainState(
        params,
        optax.adam(1e-3).init(params),
        jax.random.key(seed, impl=impl),
        jnp.int32(step),
    )


@pytest.fixture
def two(tmp_path):
    """A directory with checkpoints of steps 1 and 2."""
    for step in (1, 2):
        checkpoints.save(tmp_path, make_state(step), step=step)
    yield tmp_path
    gc.collect()  # What orbax abandoned is reported here, not in a later test.


def files_of(directory, step):
    return sorted(path for path in (directory / str(step)).rglob("*") if path.is_file())


def array_file_of(directory, step):
    """The file that holds the arrays: the largest."""
    return max(files_of(directory, step), key=lambda path: path.stat().st_size)


def flip_a_byte(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


# round trips


def test_a_state_comes_back_bitwise(tmp_path):
    state = make_state(7)
    checkpoints.save(tmp_path, state, step=7)
    restored = checkpoints.restore(tmp_path, make_state(seed=1))
    assert (
        checkpoints.digest(restored)
        == checkpoints.digest(state)
        != checkpoints.digest(make_state(seed=1))
    )
    assert type(restored) is TrainState and jax.tree.structure(
        restored
    ) == jax.tree.structure(state)
    assert restored.key == jax.random.key(0) and restored.step == 7
    np.testing.assert_array_equal(
        jax.random.normal(restored.key), jax.random.normal(state.key)
    )


def test_stacked_states_come_back_bitwise(tmp_path):
    def stacked(seeds):
        return jax.tree.map(
            lambda *leaves: jnp.stack(leaves),
            *(make_state(seed=seed) for seed in seeds),
        )

    states = stacked(range(3))
    checkpoints.save(tmp_path, states, step=1)
    restored = checkpoints.restore(tmp_path, stacked(range(3, 6)))
    assert restored.key.shape == (3,)
    assert checkpoints.digest(restored) == checkpoints.digest(states)


def test_odd_values_and_dtypes_come_back_bitwise(tmp_path):
    state = {
        "special": jnp.array([np.nan, np.inf, -np.inf, -0.0, 1e-45], jnp.float32),
        "half": jnp.arange(3, dtype=jnp.bfloat16),
        "bytes": jnp.arange(3, dtype=jnp.uint8),
        "flag": jnp.array(True),
    }
    checkpoints.save(tmp_path, state, step=1)
    restored = checkpoints.restore(tmp_path, jax.tree.map(jnp.ones_like, state))
    assert checkpoints.digest(restored) == checkpoints.digest(state)


class Point:
    """A node whose children JAX numbers."""

    def __init__(self, *children):
        self.children = children


jax.tree_util.register_pytree_node(
    Point, lambda point: (point.children, None), lambda _, children: Point(*children)
)
ARRAY = np.arange(3, dtype=np.float32)
STATES = {
    "a bare array": ARRAY,
    "a bare key": jax.random.key(3),
    "an array without elements": {"w": np.zeros((0, 3), np.int8), "b": ARRAY},
    "nothing but arrays without elements": {"w": np.zeros((2, 0), np.float32)},
    "no keys": {"keys": jax.random.split(jax.random.key(0), 3)[:0], "b": ARRAY},
    "keys of another kind": {"keys": jax.random.key(1, impl="rbg")},
    "names with separators": {"a.b": ARRAY, "a/b": ARRAY + 1, "a": {"b": ARRAY + 2}},
    "hostile names": {"../x": ARRAY, "": ARRAY + 1, "é\n'": ARRAY + 2, "state": ARRAY},
    "numbers as names": {1: ARRAY, 10: ARRAY + 1, 2: ARRAY + 2},
    "nothing in places": {"a": None, "b": (), "c": {}, "d": [ARRAY, None]},
    "a node of one's own": {"p": Point(ARRAY, Point(ARRAY + 1))},
    "numbers of NumPy": {"a": np.float32(0.1), "b": np.int32(7), "c": np.bool_(True)},
    "a transposed array": {"w": np.arange(6, dtype=np.float32).reshape(2, 3).T},
    "complex numbers": {"w": np.array([1 + 2j], np.complex64)},
    "small types": {
        name: jnp.ones(3, name) for name in ("int4", "float8_e4m3fn", "float16")
    },
}


@pytest.mark.parametrize("name", STATES)
def test_what_is_accepted_comes_back_equal(tmp_path, name):
    state = STATES[name]
    checkpoints.save(tmp_path, state, step=np.int64(1))
    shapes = jax.eval_shape(lambda: jax.tree.map(jnp.asarray, state))
    for like in (jax.tree.map(jnp.zeros_like, state), shapes):
        restored = checkpoints.restore(tmp_path, like)
        assert checkpoints.digest(restored) == checkpoints.digest(state)
        assert jax.tree.structure(restored) == jax.tree.structure(state)
        for one, other in zip(*map(jax.tree.leaves, (state, restored)), strict=True):
            assert one.dtype == other.dtype and one.shape == other.shape


def deleted():
    array = jnp.ones(3)
    array.delete()
    return array


@pytest.mark.parametrize(
    ("state", "error", "words"),
    [
        ({"w": ARRAY, "epoch": 3}, TypeError, r"\['epoch'\] is a int; give an array"),
        ({"rate": 0.1}, TypeError, r"\['rate'\] is a float"),
        ({"done": True}, TypeError, r"\['done'\] is a bool"),
        ({"name": "mnist"}, TypeError, r"\['name'\] is a str"),
        ({"w": [1.0, 2.0]}, TypeError, r"\['w'\]\[0\] is a float"),
        (object(), TypeError, "the state is a object"),
        ({"w": np.float64(0.1)}, TypeError, "float64, which JAX holds as float32"),
        ({"w": np.arange(3)}, TypeError, r"int64, .*astype\('int32'\)"),
        ({"w": np.ones(2, np.complex128)}, TypeError, "complex128.*complex64"),
        ({"w": np.ones(2, ">f4")}, TypeError, ">f4.*float32"),
        ({"w": np.array([None])}, TypeError, "object, which a checkpoint cannot hold"),
        ({"w": np.array(["a"])}, TypeError, "<U1, which a checkpoint cannot hold"),
        ({"w": np.ma.masked_array([1.0])}, TypeError, "MaskedArray"),
        ({"w": jax.ShapeDtypeStruct((2,), np.float32)}, TypeError, "ShapeDtypeStruct"),
        ({"w": deleted()}, ValueError, r"\['w'\] was deleted"),
        ({}, ValueError, "no leaf"),
        (None, ValueError, "no leaf"),
    ],
)
def test_what_would_not_come_back_equal_is_refused(tmp_path, state, error, words):
    with pytest.raises(error, match=words) as caught:
        checkpoints.save(tmp_path / "new", state, step=1)
    assert "\n" not in str(caught.value) and not (tmp_path / "new").exists()


def test_a_traced_state_is_refused(tmp_path):
    with pytest.raises(ValueError, match="is traced .* outside of jax.jit"):
        jax.jit(lambda x: checkpoints.save(tmp_path, {"w": x}, step=1))(ARRAY)


def test_double_precision_is_accepted_where_it_is_held(tmp_path, x64):
    state = {"w": np.arange(3), "b": np.float64(0.1)}
    checkpoints.save(tmp_path, state, step=1)
    restored = checkpoints.restore(tmp_path, state)
    assert restored["w"].dtype == np.int64 and restored["b"] == np.float64(0.1)


def test_digest_tells_states_apart():
    state = {"a": np.zeros(4, np.float32), "b": np.zeros(4, np.float32)}
    others = [
        state | {"a": np.array([0, 0, 0, -0.0], np.float32)},
        state | {"a": np.zeros(4, np.int32)},
        state | {"a": np.zeros((2, 2), np.float32)},
        {"a": state["a"], "c": state["b"]},
        {"a": jax.random.key(0)},
        {"a": jax.random.key(0, impl="rbg")},
    ]
    assert len({checkpoints.digest(tree) for tree in [state, *others]}) == 7
    assert checkpoints.digest(jax.tree.map(jnp.asarray, state)) == checkpoints.digest(
        state
    )


# steps


def test_the_newest_stay(tmp_path):
    assert checkpoints.steps(tmp_path) == [] and checkpoints.latest(tmp_path) is None
    for step in (5, 10, 15):
        checkpoints.save(tmp_path, make_state(step), step=step)
    assert (
        checkpoints.steps(tmp_path) == [10, 15] and checkpoints.latest(tmp_path) == 15
    )
    checkpoints.save(tmp_path, make_state(20), step=20, keep=3)
    assert checkpoints.steps(tmp_path) == [10, 15, 20]
    assert checkpoints.restore(tmp_path, make_state()).step == 20
    assert checkpoints.restore(tmp_path, make_state(), step=15).step == 15


@pytest.mark.sampled(every=5)
@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"step": -1}, ValueError, "step is -1"),
        ({"step": 1.5}, TypeError, "step is 1.5"),
        ({"step": True}, TypeError, "step is True"),
        ({"step": "1"}, TypeError, "step is '1'"),
        ({"step": None}, TypeError, "step is None"),
        ({"step": 3, "keep": 0}, ValueError, "keep is 0"),
        ({"step": 3, "keep": -1}, ValueError, "keep is -1"),
        ({"step": 3, "keep": 1.5}, ValueError, "keep is 1.5"),
        ({"step": 0}, ValueError, r"steps \[1, 2\].*removed at once"),
        ({"step": 1, "keep": 1}, ValueError, r"steps \[2\].*removed at once"),
        ({"step": 3, "metadata": {"a": float("nan")}}, TypeError, "metadata"),
        ({"step": 3, "metadata": {"a": (1, 2)}}, TypeError, "metadata"),
        ({"step": 3, "metadata": {1: 2}}, TypeError, "metadata"),
        ({"step": 3, "metadata": [1]}, TypeError, "metadata"),
    ],
)
def test_arguments_that_would_lose_the_checkpoint(two, options, error, words):
    with pytest.raises(error, match=words):
        checkpoints.save(two, make_state(3), **options)
    assert checkpoints.steps(two) == [1, 2]


def test_a_step_of_the_state_is_a_step(tmp_path):
    state = make_state(7)
    checkpoints.save(tmp_path, state, step=state.step)
    assert checkpoints.steps(tmp_path) == [7]


# metadata and parts


def test_metadata_travel_with_the_state(two):
    assert checkpoints.read_metadata(two) == {}
    metadata = {"config": {"seed": 3, "sweep": ["a=1"], "average": None}, "data": "é"}
    checkpoints.save(two, make_state(3), step=3, metadata=metadata)
    assert checkpoints.read_metadata(two) == metadata
    assert checkpoints.read_metadata(two, step=2) == {}
    with pytest.raises(FileNotFoundError, match="step 9"):
        checkpoints.read_metadata(two, step=9)


def test_changed_metadata_are_damage(two):
    checkpoints.save(two, make_state(3), step=3, metadata={"seed": 1234567})
    file = two / "3" / "meta" / "metadata"
    file.write_bytes(file.read_bytes().replace(b"1234567", b"1234568"))
    with pytest.warns(UserWarning, match="step 3: its metadata are not the ones"):
        assert checkpoints.read_metadata(two) == {}
    with pytest.warns(UserWarning, match="falling back"):
        assert checkpoints.restore(two, make_state()).step == 2


def test_a_part_comes_back_alone(two):
    state = make_state(2)
    for part in ("params", "opt_state", "key", "step"):
        restored = checkpoints.restore(two, getattr(make_state(9), part), part=part)
        assert checkpoints.digest(restored) == checkpoints.digest(getattr(state, part))
    with pytest.raises(CheckpointMismatchError, match="no part 'param'"):
        checkpoints.restore(two, state.params, part="param")
    with pytest.raises(CheckpointMismatchError, match="does not fit"):
        checkpoints.restore(two, state, part="params")


def test_damage_of_a_part_is_noticed(two):
    flip_a_byte(array_file_of(two, 2))
    with pytest.warns(UserWarning, match="falling back"):
        params = checkpoints.restore(two, make_state().params, part="params")
    assert checkpoints.digest(params) == checkpoints.digest(make_state(1).params)


def test_checkpoints_of_the_first_format_are_read(tmp_path):
    """Written as version 1 did: the state as a tree of its own, and one digest."""
    import orbax.checkpoint as ocp

    state = make_state(5)
    leaves = checkpoints.describe(state)
    packed = json.dumps(leaves, sort_keys=True).encode()
    meta = {
        "leaves": leaves,
        "leaves_digest": hashlib.sha256(packed).hexdigest(),
        "digest": checkpoints.digest(state),
    }
    with ocp.CheckpointManager(tmp_path.absolute()) as manager:
        items = {
            "state": ocp.args.StandardSave(state),
            "meta": ocp.args.JsonSave(meta),
        }
        manager.save(5, args=ocp.args.Composite(**items))
    restored = checkpoints.restore(tmp_path, make_state())
    assert checkpoints.digest(restored) == checkpoints.digest(state)
    assert checkpoints.read_metadata(tmp_path) == {}
    with pytest.raises(CheckpointMismatchError, match="without `part`"):
        checkpoints.restore(tmp_path, state.params, part="params")
    flip_a_byte(array_file_of(tmp_path, 5))
    with pytest.raises(ValueError, match="can be read"):
        checkpoints.restore(tmp_path, make_state())


def test_a_step_may_be_saved_again(two):
    checkpoints.save(two, make_state(2, seed=9), step=2)
    assert checkpoints.steps(two) == [1, 2]
    assert checkpoints.digest(
        checkpoints.restore(two, make_state())
    ) == checkpoints.digest(make_state(2, seed=9))


def test_no_checkpoint_is_a_file_not_found(two, tmp_path_factory):
    assert (
        checkpoints.steps(two / "absent") == []
        and checkpoints.latest(two / "absent") is None
    )
    for directory in (two / "absent", tmp_path_factory.mktemp("empty")):
        with pytest.raises(FileNotFoundError, match="no checkpoint in"):
            checkpoints.restore(directory, make_state())
    with pytest.raises(FileNotFoundError, match=r"step 3 .*\[1, 2\]"):
        checkpoints.restore(two, make_state(), step=3)


# damage


@pytest.mark.sampled
@pytest.mark.parametrize("damage", [flip_a_byte, truncate, lambda path: path.unlink()])
def test_a_damaged_newest_falls_back_with_a_warning(two, damage):
    damage(array_file_of(two, 2))
    with pytest.warns(UserWarning, match="checkpoint of step 2.*falling back"):
        restored = checkpoints.restore(two, make_state())
    assert checkpoints.digest(restored) == checkpoints.digest(make_state(1))


def test_lost_metadata_fall_back_with_a_warning(two):
    shutil.rmtree(two / "2" / "meta")
    with pytest.warns(UserWarning, match="checkpoint of step 2.*falling back"):
        assert checkpoints.restore(two, make_state()).step == 1


@pytest.mark.filterwarnings("ignore")
def test_whichever_byte_is_damaged_what_comes_back_was_saved(two, tmp_path_factory):
    saved = {checkpoints.digest(make_state(step)) for step in (1, 2)}
    spare = tmp_path_factory.mktemp("spare") / "2"
    shutil.copytree(two / "2", spare)
    for path in files_of(two, 2):
        flip_a_byte(path)
        assert checkpoints.digest(checkpoints.restore(two, make_state())) in saved, (
            path.name
        )
        shutil.copy(spare / path.relative_to(two / "2"), path)


def test_all_damaged_is_an_error_that_lists_them(two):
    for step in (1, 2):
        flip_a_byte(array_file_of(two, step))
    with (
        pytest.warns(UserWarning),
        pytest.raises(ValueError, match=r"can be read: step 2: .*; step 1: ") as error,
    ):
        checkpoints.restore(two, make_state())
    assert not isinstance(error.value, CheckpointMismatchError)


def test_a_damaged_step_that_was_asked_for_is_not_replaced_by_another(two):
    flip_a_byte(array_file_of(two, 2))
    with pytest.raises(ValueError, match="can be read: step 2: "):
        checkpoints.restore(two, make_state(), step=2)


def test_a_half_written_checkpoint_is_not_there(two):
    shutil.move(two / "2", two / "3.orbax-checkpoint-tmp")
    assert checkpoints.steps(two) == [1]
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        assert checkpoints.restore(two, make_state()).step == 1
    checkpoints.save(two, make_state(3), step=3)
    assert checkpoints.restore(two, make_state()).step == 3


# another state


@pytest.mark.sampled
@pytest.mark.parametrize(
    ("other", "leaf", "there", "here"),
    [
        (
            make_state(shape=(31, 40)),
            r"kernel",
            r"float32 \[30, 40\]",
            r"float32 \[31, 40\]",
        ),
        (make_state(dtype=jnp.bfloat16), r"bias", "float32", "bfloat16"),
        (make_state(impl="rbg"), r"\.key", "key<threefry2x32>", "key<rbg>"),
        (
            make_state()._replace(extra={"ema": jnp.zeros(2)}),
            r"\.extra\['ema'\]",
            "absent",
            "float32",
        ),
        (
            make_state()._replace(opt_state=()),
            r"\.opt_state",
            "float32|int32",
            "absent",
        ),
    ],
    ids=["shape", "dtype", "prng", "more", "less"],
)
def test_another_state_is_refused_by_the_name_of_its_leaf(
    two, other, leaf, there, here
):
    with pytest.raises(
        CheckpointMismatchError,
        match=rf"{leaf}.* is ({there}).* there and {here}.* here",
    ):
        checkpoints.restore(two, other)
