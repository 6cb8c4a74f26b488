"""The file of an exported VAE, read without trust."""

import hashlib
import json
import re
import struct
from pathlib import Path
from typing import Any, NamedTuple

import jax

from vaejax._archives import ARCHIVE_ERRORS, open_archive, read_member
from vaejax._files import one_line, reason_of, why_no_file

FORMAT = "vaejax export, 1"
PROGRAMS = ("encode", "decode", "sample")
# No description is longer.
_MOST_DESCRIPTION = 1 << 20
# What JAX raises of a program that is none, or of another version of its format.
_PROGRAM_ERRORS = (
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    AssertionError,
    NotImplementedError,
    OverflowError,
    MemoryError,
    RecursionError,
    StopIteration,
    struct.error,
    jax.errors.JaxRuntimeError,
)
# What programs of JAX call outside XLA: linear algebra, random bits, checks of shapes.
# A call into Python is not among them.
_STABLE_CALLS = re.compile(
    r"(lapack|cu|cusolver|cublas|cudnn|hip|hipsolver|hipblas)_\w+"
    r"|shape_assertion|Sharding|(mhlo|stablehlo)\.\w+"
)


class Archive(NamedTuple):
    """The checked content of a file; the programs as bytes."""

    programs: dict[str, bytes]
    digests: dict[str, str]
    dimensions: int
    shapes: list[tuple[tuple[int, ...], str]]
    key_impl: str
    description: dict[str, Any]


def read_archive(path: Path, where: str) -> Archive:
    """Return the content of a file; raise a ValueError if it is no export."""
    if reason := why_no_file(path):
        raise ValueError(
            f"there is no export {where} ({reason}); write one with export."
        )
    try:
        with open_archive(path) as archive:
            description = json.loads(
                read_member(archive, "description.json", most=_MOST_DESCRIPTION)
            )
            programs = {name: read_member(archive, name) for name in PROGRAMS}
        form, digests, dimensions, key_impl = (
            description[name] for name in ("format", "sha256", "dimensions", "key")
        )
        shapes = [(tuple(leaf["shape"]), leaf["dtype"]) for leaf in description["x"]]
        if not isinstance(digests, dict) or not isinstance(key_impl, str):
            raise ValueError("its description has other entries than an export's")
    # TypeError and KeyError: the description has another form.
    except (
        *ARCHIVE_ERRORS, KeyError, TypeError, RecursionError, MemoryError
    ) as error:  # fmt: skip
        raise ValueError(
            f"{where} is no export of a VAE, or is damaged ({reason_of(error)}); write "
            "it again with export."
        ) from error
    if form != FORMAT:
        raise ValueError(
            f"{where} is of the format {one_line(repr(form)[:60])}; write it again "
            f"with this version, which reads {FORMAT!r}."
        )
    return Archive(programs, digests, dimensions, shapes, key_impl, description)


def deserialize(
    where: str, name: str, program: bytes, digest: str | None
) -> jax.export.Exported:
    if hashlib.sha256(program).hexdigest() != digest:
        raise ValueError(
            f"{where} is damaged: {name} is not what was written; write it again with "
            "export."
        )
    try:
        exported = jax.export.deserialize(bytearray(program))
        text = exported.mlir_module()
    except _PROGRAM_ERRORS as error:
        raise ValueError(
            f"{where} cannot be read: JAX {jax.__version__} does not know {name} as a "
            f"program ({reason_of(error)}); write it again with export."
        ) from error
    called = set(re.findall(r"custom_call @\"?([\w.$-]+)", text))
    refused = sorted(call for call in called if not _STABLE_CALLS.fullmatch(call))
    if refused:
        raise ValueError(
            f"{where}: {name} calls {', '.join(refused)}, which an export has no need "
            "of; do not trust it."
        )
    return exported


def check_described(
    where: str, archive: Archive, exported: dict[str, jax.export.Exported]
) -> None:
    """Check that the description is that of the programs, by shapes and dtypes."""
    try:
        key = jax.eval_shape(
            lambda: jax.random.key_data(jax.random.key(0, impl=archive.key_impl))
        )
    except ValueError as error:
        raise ValueError(
            f"{where} draws with {one_line(archive.key_impl[:60])!r}, which JAX does "
            "not know; write it again with export."
        ) from error
    keys = (key.shape, str(key.dtype))
    code = (archive.dimensions,)
    described = {"encode": [keys, *archive.shapes], "decode": [keys], "sample": [keys]}
    found = {
        name: [(aval.shape[1:], str(aval.dtype)) for aval in program.in_avals]
        for name, program in exported.items()
    }
    codes = [aval.shape[1:] for aval in exported["encode"].out_avals]
    codes += [shape for shape, _ in found["decode"][1:]]
    found["decode"] = found["decode"][:1]
    if found != described or codes != [code, code]:
        raise ValueError(
            f"{where} is damaged: its description is not that of its programs; write "
            "it again with export."
        )
