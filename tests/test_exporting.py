"""An export of every model does what the model does, bit by bit, and a file that was
touched is refused.
"""

import hashlib
import json
import subprocess
import sys
import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.cases import CASES, Case, marked
from support.prototypes import linear_gaussian

import vaejax
from vaejax import exporting, latent
from vaejax.exporting import load_exported

pytest.importorskip(
    "flatbuffers", reason="serializing takes flatbuffers (the extra `export`)"
)
QUICK = ("mlp_bernoulli", "hierarchical")


@pytest.mark.parametrize(
    "case", [marked(case, slow=case.name not in QUICK) for case in CASES]
)
def test_every_model_comes_back_as_it_was(case: Case, tmp_path):
    xs = case.x_of(case.batch(jax.random.key(1), 3))
    x = jax.tree.map(lambda leaf: leaf[0], xs)
    params = jax.jit(case.vae.init)(jax.random.key(0), x)
    # The checker does not tell the halves of a split key apart where the batch size is
    # a symbol.
    with jax.debug_key_reuse(False):
        exporting.export(
            case.vae,
            params,
            x,
            tmp_path / "vae",
            latent_point=case.latent_point,
            example_point=case.example_point,
            platforms=("cpu", "tpu"),
        )
    exported = load_exported(tmp_path / "vae")

    def encode(key, x):
        return jax.flatten_util.ravel_pytree(
            latent.values(case.latent_point(key, case.vae.encode(params, x)))
        )[0]

    key = jax.random.key(2)
    codes = exported.encode(key, xs)
    assert np.array_equal(
        codes, jax.jit(jax.vmap(encode))(jax.random.split(jax.random.key(2), 3), xs)
    )
    assert exported.description["dimensions"] == codes.shape[1]
    generated = exported.sample(jax.random.key(3), 4)
    expected = jax.jit(
        lambda key: vaejax.sample(
            case.vae, params, key, 4, example_point=case.example_point
        )
    )(jax.random.key(3))
    assert_equal(generated, expected)
    # A reconstruction is encode, then decode.
    decoded = exported.decode(jax.random.key(4), codes)

    like = latent.draw(jax.random.key(0), case.vae.prior(params))

    @jax.jit
    @jax.vmap
    def decode(key, code):
        unravel = jax.flatten_util.ravel_pytree(latent.values(like))[1]
        z = latent.complete(case.vae, params, like, unravel(code))
        return case.example_point(key, case.vae.decode(params, z))

    assert_equal(decoded, decode(jax.random.split(jax.random.key(4), 3), codes))


def assert_equal(leaves, tree):
    for actual, expected in zip(
        jax.tree.leaves(leaves), jax.tree.leaves(tree), strict=True
    ):
        assert actual.dtype == expected.dtype and np.array_equal(actual, expected)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    vae, path = linear_gaussian(), tmp_path_factory.mktemp("export") / "vae"
    exporting.export(
        vae,
        vae.init(jax.random.key(0), jnp.zeros((3, 4))),
        jnp.zeros((3, 4)),
        path,
        platforms=("cpu",),
    )
    return path


def test_the_reader_needs_jax_and_nothing_of_the_model(file):
    program = f"""
import jax, sys
from vaejax.exporting import load_exported
exported = load_exported({str(file)!r})
shape = exported.sample(jax.random.key(0), 2).shape
print(shape, exported.description["x"], "cases" in sys.modules)
"""
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert (
        result.stdout.strip()
        == "(2, 3, 4) [{'path': '', 'shape': [3, 4], 'dtype': 'float32'}] False"
    )


def test_a_key_draws_and_another_draws_another(file):
    exported = load_exported(file)
    first, again, other = (
        exported.sample(jax.random.key(seed), 3) for seed in (0, 0, 1)
    )
    assert np.array_equal(first, again) and not np.array_equal(first, other)
    assert np.ptp(first, axis=0).min() > 0


def rewritten(file, path, **members):
    with zipfile.ZipFile(file) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            new.writestr(name, members.get(name, old.read(name)))
    return path


def test_a_touched_file_is_refused(file, tmp_path):
    with zipfile.ZipFile(file) as archive:
        program, description = (
            archive.read("decode"),
            json.loads(archive.read("description.json")),
        )
    flipped = program[:-1] + bytes([program[-1] ^ 1])
    damaged = {
        "decode is not what was written": rewritten(
            file, tmp_path / "flipped", decode=flipped
        ),
        "format 'another'": rewritten(
            file,
            tmp_path / "format",
            **{"description.json": json.dumps(description | {"format": "another"})},
        ),
        "no export of a VAE": rewritten(
            file, tmp_path / "list", **{"description.json": "[]"}
        ),
    }
    (tmp_path / "short").write_bytes(file.read_bytes()[:-100])
    for message, path in (damaged | {"is no export": tmp_path / "short"}).items():
        with pytest.raises(ValueError, match=message):
            load_exported(path)
    with pytest.raises(ValueError, match="there is no export .*nothing"):
        load_exported(tmp_path / "nothing")


def test_a_program_that_calls_out_is_refused(file, tmp_path):
    """As somebody might write it who knows the format; JAX itself serializes no
    callback into Python.
    """

    def calls_out(keys):
        return jax.ffi.ffi_call(
            "run_anything", jax.ShapeDtypeStruct((2, 3), jnp.float32)
        )(keys)

    check = jax.export.DisabledSafetyCheck.custom_call("run_anything")
    exported = jax.export.export(jax.jit(calls_out), disabled_checks=[check])(
        jax.ShapeDtypeStruct((2, 2), jnp.uint32)
    )
    program = bytes(exported.serialize())
    with zipfile.ZipFile(file) as archive:
        description = json.loads(archive.read("description.json"))
    description["sha256"]["sample"] = hashlib.sha256(program).hexdigest()
    path = rewritten(
        file,
        tmp_path / "spy",
        sample=program,
        **{"description.json": json.dumps(description)},
    )
    with pytest.raises(ValueError, match="sample calls run_anything.*do not trust it"):
        load_exported(path)


def test_a_failed_write_leaves_the_file_that_was_there(file, tmp_path, monkeypatch):
    path = tmp_path / "vae"
    path.write_bytes(b"as it was")

    def fails(*_):
        raise OSError("No space left on device")

    monkeypatch.setattr(zipfile.ZipFile, "writestr", fails)
    vae = linear_gaussian()
    with pytest.raises(OSError, match="No space"):
        exporting.export(
            vae,
            vae.init(jax.random.key(0), jnp.zeros((3, 4))),
            jnp.zeros((3, 4)),
            path,
            platforms=("cpu",),
        )
    assert path.read_bytes() == b"as it was" and [
        entry.name for entry in tmp_path.iterdir()
    ] == ["vae"]


def test_mistakes_name_the_fix(file):
    exported = load_exported(file)
    key = jax.random.key(0)
    mistakes = [
        (lambda: exported.encode(key, jnp.zeros((2, 4, 3))), "after one leading axis"),
        (
            lambda: exported.encode(key, jnp.zeros((2, 3, 4), int)),
            "after one leading axis",
        ),
        (lambda: exported.decode(key, jnp.zeros((2, 3))), r"give \[num, 2\]"),
        (lambda: exported.sample(key, 0), "positive integer"),
        (lambda: exported.sample(jax.random.key(0, impl="rbg"), 2), "threefry2x32"),
    ]
    for mistake, fix in mistakes:
        with pytest.raises(ValueError, match=fix):
            mistake()
    with zipfile.ZipFile(file) as archive:
        names = set(archive.namelist())
    assert names == {"description.json", "encode", "decode", "sample"}


def test_metadata_travel_in_the_file(tmp_path):
    vae = vaejax.gaussian_vae(
        latent_size=1, encoder=vaejax.MLP(()), decoder=vaejax.MLP((), (2,))
    )
    x = jnp.zeros(2)
    params = vae.init(jax.random.key(0), x)
    for metadata in ({"shift": float("nan")}, {"schema": object()}):
        with pytest.raises((ValueError, TypeError)):
            exporting.export(vae, params, x, tmp_path / "vae", metadata=metadata)
    assert not (tmp_path / "vae").exists()
    metadata = {"schema": {"columns": ["age", "größe"], "shift": 1.5}}
    exporting.export(
        vae, params, x, tmp_path / "vae", platforms=("cpu",), metadata=metadata
    )
    assert load_exported(tmp_path / "vae").description["metadata"] == metadata
