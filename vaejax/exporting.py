"""A trained VAE as one file that needs none of the code that made it: encode, decode
and sample as StableHLO.

The file is a zip archive of three programs, as `jax.export` serializes them, and of
`description.json`. The parameters are in the programs, the batch size is not. Reading
it takes jax alone, on any platform it was lowered for; nothing in it is Python, and a
program that asks to call back into Python, or into anything unknown, is refused.
"""

import hashlib
import json
import re
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from vaejax._checks import check_count
from vaejax._files import write_atomically
from vaejax.base import VAE, Array, Example, Key, Params, PyTree, complete, draw, values
from vaejax.latent import PointEstimator, mean

FORMAT = "vaejax export, 1"
PROGRAMS = ("encode", "decode", "sample")
PLATFORMS = ("cpu", "cuda", "rocm", "tpu")
# What programs of JAX call outside XLA: linear algebra, random bits, checks of shapes.
# No call into Python is of them.
_STABLE_CALLS = re.compile(
    r"(lapack|cu|cusolver|cublas|cudnn|hip|hipsolver|hipblas)_\w+|shape_assertion|Sharding|(mhlo|stablehlo)\.\w+"
)


class Exported(NamedTuple):
    """The programs of a file.

    Examples are what the model was trained on; one of several arrays is given as any
    pytree of them and comes back as a tuple. A code is `[dimensions]`, the latent
    values flattened.

    Attributes:
      encode: `(key, xs [num, *x]) -> codes [num, dimensions]`. The key matters where
        the point of q(z|x) is a draw.
      decode: `(key, codes [num, dimensions]) -> xs [num, *x]`. Likewise for the readout
        of p(x|z).
      sample: `(key, num) -> xs [num, *x]`, from the prior.
      description: versions, platforms, shapes and dtypes.
    """

    encode: Callable[[Key, Example], Array]
    decode: Callable[[Key, Array], Any]
    sample: Callable[[Key, int], Any]
    description: dict[str, Any]


def export(
    vae: VAE,
    params: Params,
    x: Example,
    path: str | Path,
    *,
    latent_point: PointEstimator = mean,
    example_point: PointEstimator = mean,
    platforms: Sequence[str] = PLATFORMS,
) -> None:
    """Writes encode, decode and sample of a trained model to `path`; `load_exported`
    reads them.

    Args:
      vae, params: the model.
      x: one example, for its shapes and dtypes.
      path: of the file; one that exists is replaced, at once or not at all.
      point, readout: which latent and which example stand for their distributions, as
        in `vaejax.latent`.
      platforms: what to lower for.

    Raises:
      TypeError: q(z|x) has no such point, or p(x|z) no such readout.
      ImportError: flatbuffers, which serializing takes, is not installed.
    """
    try:
        import flatbuffers  # noqa: F401
    except ImportError as error:
        raise ImportError(
            "export needs flatbuffers; pip install 'vaejax[export]'."
        ) from error
    (batch,) = jax.export.symbolic_shape("batch")
    functions = _programs(vae, params, x, latent_point, example_point)
    x_leaves = [
        jax.ShapeDtypeStruct((batch, *leaf.shape), leaf.dtype)
        for leaf in map(jnp.asarray, jax.tree.leaves(x))
    ]
    keys = jax.ShapeDtypeStruct(
        (batch, *jax.random.key_data(jax.random.key(0)).shape), jnp.uint32
    )
    codes = jax.eval_shape(functions["encode"], keys, *x_leaves)
    arguments = {
        "encode": (keys, *x_leaves),
        "decode": (keys, codes),
        "sample": (keys,),
    }
    programs = {
        name: bytes(
            jax.export.export(jax.jit(functions[name]), platforms=platforms)(
                *arguments[name]
            ).serialize()
        )
        for name in PROGRAMS
    }
    description = {
        "format": FORMAT,
        "jax": jax.__version__,
        "platforms": list(platforms),
        "key": str(jax.random.key_impl(jax.random.key(0))),
        "dimensions": codes.shape[1],
        "x": [
            {
                "path": jax.tree_util.keystr(path),
                "shape": list(jnp.shape(leaf)),
                "dtype": str(jnp.asarray(leaf).dtype),
            }
            for path, leaf in jax.tree.leaves_with_path(x)
        ],
        "sha256": {
            name: hashlib.sha256(program).hexdigest()
            for name, program in programs.items()
        },
    }
    _write(path, programs, description)


def load_exported(path: str | Path) -> Exported:
    """The programs that `export` wrote. Nothing of the file is run until one of them is
    called.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: it is no export, is damaged, or has a program that calls what it must
        not.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            description = json.loads(archive.read("description.json"))
            programs = {name: archive.read(name) for name in PROGRAMS}
        form, digests, dimensions = (
            description[name] for name in ("format", "sha256", "dimensions")
        )
        shapes = [(tuple(leaf["shape"]), leaf["dtype"]) for leaf in description["x"]]
    except (zipfile.BadZipFile, zlib.error, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path} is no export of a VAE, or is damaged ({error}); write it again "
            "with export."
        ) from error
    if form != FORMAT:
        raise ValueError(
            f"{path} is of the format {form!r}; write it again with this version, "
            f"which reads {FORMAT!r}."
        )
    exported = {
        name: _read(path, name, program, digests.get(name))
        for name, program in programs.items()
    }

    def key_data(key: Key, num: int) -> Array:
        if str(jax.random.key_impl(key)) != description["key"]:
            raise ValueError(
                f"key is of {jax.random.key_impl(key)}; the export draws with "
                f"{description['key']}."
            )
        return jax.random.key_data(jax.random.split(key, num))

    def encode(key: Key, xs: Example) -> Array:
        leaves = [jnp.asarray(leaf) for leaf in jax.tree.leaves(xs)]
        if [(leaf.shape[1:], str(leaf.dtype)) for leaf in leaves] != shapes:
            given = [(leaf.shape, str(leaf.dtype)) for leaf in leaves]
            raise ValueError(
                f"encode: xs has {given}; give arrays of {shapes} after one leading "
                "axis."
            )
        return exported["encode"].call(key_data(key, len(leaves[0])), *leaves)

    def decode(key: Key, codes: Array) -> Any:
        codes = jnp.asarray(codes)
        if codes.ndim != 2 or codes.shape[1] != dimensions:
            raise ValueError(
                f"decode: codes has shape {codes.shape}; give [num, {dimensions}]."
            )
        return _alone(exported["decode"].call(key_data(key, len(codes)), codes))

    def sample(key: Key, num: int) -> Any:
        check_count("num", num)
        return _alone(exported["sample"].call(key_data(key, num)))

    return Exported(encode, decode, sample, description)


def _programs(
    vae: VAE,
    params: Params,
    x: Example,
    latent_point: PointEstimator,
    example_point: PointEstimator,
) -> dict[str, Callable]:
    """Functions of arrays alone: examples as their leaves, codes flattened, keys as
    their data.
    """
    structure = jax.tree.structure(x)
    wrap = jax.random.wrap_key_data

    def encode_one(key_data: Array, *leaves: Array) -> Array:
        posterior = vae.encode(params, jax.tree.unflatten(structure, leaves))
        return ravel_pytree(values(latent_point(wrap(key_data), posterior)))[0]

    # The kind of z, whose values a code fills.
    like = jax.eval_shape(lambda key: draw(key, vae.prior(params)), jax.random.key(0))
    like = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), like)

    def decode_one(key_data: Array, code: Array) -> list[Array]:
        z = complete(vae, params, like, ravel_pytree(values(like))[1](code))
        return jax.tree.leaves(example_point(wrap(key_data), vae.decode(params, z)))

    def sample_one(key_data: Array) -> list[Array]:
        z_key, x_key = jax.random.split(wrap(key_data))
        return jax.tree.leaves(
            example_point(x_key, vae.decode(params, draw(z_key, vae.prior(params))))
        )

    return {
        "encode": jax.vmap(encode_one),
        "decode": jax.vmap(decode_one),
        "sample": jax.vmap(sample_one),
    }


def _write(
    path: str | Path, programs: dict[str, bytes], description: dict[str, Any]
) -> None:
    def write(file: BinaryIO) -> None:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("description.json", json.dumps(description, indent=2))
            for name, program in programs.items():
                archive.writestr(name, program)

    write_atomically(path, write)


def _read(
    path: str | Path, name: str, program: bytes, digest: str | None
) -> jax.export.Exported:
    if hashlib.sha256(program).hexdigest() != digest:
        raise ValueError(
            f"{path} is damaged: {name} is not what was written; write it again with "
            "export."
        )
    exported = jax.export.deserialize(bytearray(program))
    called = set(re.findall(r"custom_call @\"?([\w.$-]+)", exported.mlir_module()))
    refused = sorted(call for call in called if not _STABLE_CALLS.fullmatch(call))
    if refused:
        raise ValueError(
            f"{path}: {name} calls {', '.join(refused)}, which an export has no need "
            "of; do not trust it."
        )
    return exported


def _alone(leaves: PyTree) -> Any:
    return leaves[0] if len(leaves) == 1 else tuple(leaves)
