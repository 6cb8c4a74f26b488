"""A trained VAE as one file that needs none of the code that made it.

`export` writes the three functions encode, decode and sample as StableHLO. The file is
a zip archive of three programs, as `jax.export` serializes them, and of
`description.json`. The parameters are in the programs, the batch size is not. Reading
it takes jax alone, on any platform it was lowered for; nothing in it is Python, and a
program that asks to call back into Python, or into anything unknown, is refused.
Digests in the file tell damage. A program that somebody wrote by hand, digest included,
is read by jaxlib, which asks for input that can be trusted.
"""

import hashlib
import json
import types
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from vaejax._checks import check_count
from vaejax._export_files import (
    FORMAT,
    PROGRAMS,
    check_described,
    deserialize,
    read_archive,
)
from vaejax._files import one_line, write_atomically
from vaejax.base import (
    VAE,
    Array,
    Example,
    Key,
    Latents,
    Params,
    PyTree,
    complete,
    draw,
    values,
)
from vaejax.latent import PointEstimator, mean

__all__ = ["PLATFORMS", "Exported", "export", "load_exported"]

#: The platforms that `export` lowers for by default.
PLATFORMS = ("cpu", "cuda", "rocm", "tpu")


class Exported(NamedTuple):
    """The three programs of an exported VAE, and their description.

    Examples are arrays as the model was trained on. An example of several arrays is
    given as any pytree of them and comes back as a tuple. A code is the latent, its
    values flattened to `[dimensions]`.

    Attributes:
      encode: `(key, xs [num, *x]) -> codes [num, dimensions]`. The key has an effect
        only where the point that stands for q(z|x) is drawn.
      decode: `(key, codes [num, dimensions]) -> xs [num, *x]`. The key has an effect
        only where the point that stands for p(x|z) is drawn.
      sample: `(key, num) -> xs [num, *x]`, examples of latents drawn from the prior.
      description: Version of JAX, platforms, PRNG implementation, number of dimensions,
        the paths, shapes and dtypes of an example, and the metadata given to `export`.

    Example:
      >>> from vaejax.exporting import Exported
      >>> Exported._fields
      ('encode', 'decode', 'sample', 'description')
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
    metadata: Mapping[str, Any] = types.MappingProxyType({}),
) -> None:
    """Write encode, decode and sample of a trained VAE to one file.

    `load_exported` reads it. A file that exists is replaced, atomically.

    Args:
      vae: The model.
      params: Its trained parameters.
      x: One example, of which only shapes and dtypes are used.
      path: The file to write; its folder exists.
      latent_point: The estimator of the latent that stands for q(z|x) when encoding, as
        in `vaejax.latent`.
      example_point: The estimator of the example that stands for p(x|z) when decoding
        and sampling.
      platforms: The platforms to lower for, some of `PLATFORMS`.
      metadata: Values of JSON that travel in the file, as `description["metadata"]`,
        such as the schema of a table.

    Raises:
      ImportError: flatbuffers, which serializing takes, is not installed.
      OSError: The file cannot be written.
      TypeError: q(z|x) or p(x|z) has no such point, or the metadata hold what JSON
        cannot.
      ValueError: The metadata hold NaN or infinity.

    Example:
      >>> import tempfile
      >>> import jax, jax.numpy as jnp
      >>> import vaejax
      >>> from vaejax.exporting import export, load_exported
      >>> vae = vaejax.gaussian_vae(
      ...     latent_size=2, encoder=vaejax.MLP(()), decoder=vaejax.MLP((), (4, 4))
      ... )
      >>> x = jnp.zeros((4, 4))
      >>> params = vae.init(jax.random.key(0), x)
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     export(vae, params, x, f"{folder}/vae", platforms=["cpu"])
      ...     exported = load_exported(f"{folder}/vae")
      >>> exported.encode(jax.random.key(1), jnp.zeros((5, 4, 4))).shape
      (5, 2)
    """
    try:
        import flatbuffers  # noqa: F401
    except ImportError as error:
        raise ImportError(
            "export needs flatbuffers; pip install 'vaejax[export]'."
        ) from error
    # Refused before anything is compiled.
    json.dumps(dict(metadata), allow_nan=False)
    functions = _functions_of(vae, params, x, latent_point, example_point)
    arguments, dimensions = _arguments_of(functions, x)
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
        "dimensions": dimensions,
        "x": [
            {
                "path": jax.tree_util.keystr(leaf_path),
                "shape": list(jnp.shape(leaf)),
                "dtype": str(jnp.asarray(leaf).dtype),
            }
            for leaf_path, leaf in jax.tree.leaves_with_path(x)
        ],
        "sha256": {
            name: hashlib.sha256(program).hexdigest()
            for name, program in programs.items()
        },
        "metadata": dict(metadata),
    }
    _write(path, programs, description)


def load_exported(path: str | Path) -> Exported:
    """Return the programs that `export` wrote; nothing runs until one is called.

    Args:
      path: The file.

    Returns:
      The functions `encode`, `decode` and `sample`, and the description. When called,
      they raise a ValueError if an argument has another shape or dtype than the model
      was exported with, or the key another implementation.

    Raises:
      ValueError: There is no such file, it is no export or is damaged, its description
        is not that of its programs, or one of them calls something that an export does
        not need. A member that would unpack to more than 256 MiB and 200 times its
        packed size is refused. Nothing else is raised.

    Example:
      >>> import tempfile
      >>> import jax, jax.numpy as jnp
      >>> import vaejax
      >>> from vaejax.exporting import export, load_exported
      >>> vae = vaejax.gaussian_vae(
      ...     latent_size=2, encoder=vaejax.MLP(()), decoder=vaejax.MLP((), (4, 4))
      ... )
      >>> x = jnp.zeros((4, 4))
      >>> params = vae.init(jax.random.key(0), x)
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     export(vae, params, x, f"{folder}/vae", platforms=["cpu"])
      ...     exported = load_exported(f"{folder}/vae")
      >>> exported.decode(jax.random.key(1), jnp.zeros((5, 2))).shape
      (5, 4, 4)
    """
    where = one_line(path)
    archive = read_archive(Path(path), where)
    exported = {
        name: deserialize(where, name, program, archive.digests.get(name))
        for name, program in archive.programs.items()
    }
    check_described(where, archive, exported)

    def key_data(key: Key, num: int) -> Array:
        if str(jax.random.key_impl(key)) != archive.key_impl:
            raise ValueError(
                f"key is of {jax.random.key_impl(key)}; the export draws with "
                f"{archive.key_impl}."
            )
        return jax.random.key_data(jax.random.split(key, num))

    def encode(key: Key, xs: Example) -> Array:
        leaves = [jnp.asarray(leaf) for leaf in jax.tree.leaves(xs)]
        if [(leaf.shape[1:], str(leaf.dtype)) for leaf in leaves] != archive.shapes:
            given = [(leaf.shape, str(leaf.dtype)) for leaf in leaves]
            raise ValueError(
                f"encode: xs has {given}; give arrays of {archive.shapes} after one "
                "leading axis."
            )
        return exported["encode"].call(key_data(key, len(leaves[0])), *leaves)

    def decode(key: Key, codes: Array) -> Any:
        codes = jnp.asarray(codes)
        if codes.ndim != 2 or codes.shape[1] != archive.dimensions:
            raise ValueError(
                f"decode: codes has shape {codes.shape}; give [num, "
                f"{archive.dimensions}]."
            )
        return _alone(exported["decode"].call(key_data(key, len(codes)), codes))

    def sample(key: Key, num: int) -> Any:
        check_count("num", num)
        return _alone(exported["sample"].call(key_data(key, num)))

    return Exported(encode, decode, sample, archive.description)


def _functions_of(
    vae: VAE,
    params: Params,
    x: Example,
    latent_point: PointEstimator,
    example_point: PointEstimator,
) -> dict[str, Callable]:
    """Return functions of batches of arrays alone.

    Examples are given as their leaves, codes flattened, keys as their data.
    """
    structure = jax.tree.structure(x)
    wrap = jax.random.wrap_key_data

    def encode_one(key_data: Array, *leaves: Array) -> Array:
        posterior = vae.encode(params, jax.tree.unflatten(structure, leaves))
        return ravel_pytree(values(latent_point(wrap(key_data), posterior)))[0]

    # A latent of the prior, whose values a code replaces.
    like = jax.eval_shape(lambda key: draw(key, vae.prior(params)), jax.random.key(0))
    if isinstance(like, Latents):
        # Its path may hold what does not follow from the values, such as a condition.
        like = draw(jax.random.key(0), vae.prior(params))
    else:
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


def _arguments_of(
    functions: dict[str, Callable], x: Example
) -> tuple[dict[str, tuple], int]:
    """Return the shapes of each function's arguments, and the dimensions of a code."""
    (batch,) = jax.export.symbolic_shape("batch")
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
    return arguments, codes.shape[1]


def _write(
    path: str | Path, programs: dict[str, bytes], description: dict[str, Any]
) -> None:
    def write(file: BinaryIO) -> None:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("description.json", json.dumps(description, indent=2))
            for name, program in programs.items():
                archive.writestr(name, program)

    write_atomically(path, write)


def _alone(leaves: PyTree) -> Any:
    return leaves[0] if len(leaves) == 1 else tuple(leaves)
