"""Exports that are written by hand: what is in them is consistent, and wrong."""

import functools
import hashlib
import io
import json
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from support.prototypes import linear_gaussian

from vaejax import exporting

PROGRAMS = ("encode", "decode", "sample")
# Of each program.
FLIPS = 40


@functools.cache
def good_export() -> bytes:
    with tempfile.TemporaryDirectory() as folder, jax.debug_key_reuse(False):
        path, vae = Path(folder) / "vae", linear_gaussian()
        params = vae.init(jax.random.key(0), jnp.zeros((3, 4)))
        exporting.export(vae, params, jnp.zeros((3, 4)), path, platforms=("cpu",))
        return path.read_bytes()


@functools.cache
def members() -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(good_export())) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def archive_of(
    content: dict[str, bytes | str], method: int = zipfile.ZIP_DEFLATED
) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, member in content.items():
            archive.writestr(name, member)
    return file.getvalue()


def replacing(**changed: bytes | str) -> bytes:
    return archive_of(members() | changed)


def with_text(text: str | bytes) -> bytes:
    return replacing(**{"description.json": text})


def described(**changes: object) -> bytes:
    """An export with other entries in its description."""
    description = json.loads(members()["description.json"]) | changes
    return with_text(json.dumps(description))


def with_program(name: str, program: bytes) -> bytes:
    """An export with another program, and its right digest."""
    description = json.loads(members()["description.json"])
    description["sha256"][name] = hashlib.sha256(program).hexdigest()
    return replacing(**{name: program, "description.json": json.dumps(description)})


def with_bomb(name: str) -> bytes:
    """An export of which a member unpacks to 300 MiB."""
    members_of = {other: part for other, part in members().items() if other != name}
    return with_zeros(archive_of(members_of), name, 300)


def with_zeros(archive: bytes, name: str, mebibytes: int, head: bytes = b"") -> bytes:
    """Add a member to a zip archive: a head of 128 bytes or none, and zeros.

    It is deflated 1 MiB at a time, which takes no time and no memory.
    """
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = packer.compress(head) + packer.flush(zlib.Z_FULL_FLUSH)
    one = packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    packed += one * mebibytes + packer.flush()
    crc, zeros = zlib.crc32(head), bytes(1 << 20)
    for _ in range(mebibytes):
        crc = zlib.crc32(zeros, crc)
    size = len(head) + (mebibytes << 20)
    # The bytes are stored, and what says so is changed to deflated.
    file = io.BytesIO(archive)
    with zipfile.ZipFile(file, "a", zipfile.ZIP_STORED) as opened:
        opened.writestr(name, packed)
    content = bytearray(file.getvalue())
    fields = struct.pack("<HHHIII", 8, 0, 33, crc, len(packed), size)
    local = content.rindex(b"PK\x03\x04", 0, content.rindex(packed))
    central = content.rindex(b"PK\x01\x02")
    content[local + 8 : local + 26] = fields
    content[central + 10 : central + 28] = fields
    return bytes(content)


Bad = tuple[str, Callable[[], bytes], str]


def bad_exports() -> Iterator[Bad]:
    """Yield what is wrong, what makes the file, and what it is to give."""
    yield from bad_descriptions()
    for name in PROGRAMS:
        yield from bad_programs(name)
    swapped = members()["decode"]
    yield "swapped", lambda: replacing(encode=swapped), "sentence"
    yield "swapped, digests too", lambda: with_program("encode", swapped), "sentence"
    for method in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        pack = partial(archive_of, members(), method)
        yield f"packed by method {method}", pack, "sentence"
    yield "not packed", partial(archive_of, members(), zipfile.ZIP_STORED), "value"


def bad_descriptions() -> Iterator[Bad]:
    text, nested = members()["description.json"].decode(), "[" * 100_000
    for what, bad in {
        "nested brackets": nested,
        "nested objects": '{"a":' * 100_000,
        "nested and closed": "[" * 50_000 + "]" * 50_000,
        "nested within": text[:-2] + ', "a": ' + nested + "]" * 100_000 + "}",
        "a list": "[]", "a number": "7", "null": "null", "empty": "", "cut": text[:90],
        "a long number": '{"format": ' + "9" * 10_000 + "}",
        "bytes of no text": b"\xff\xfe\x00",
    }.items():  # fmt: skip
        yield f"description, {what}", partial(with_text, bad), "sentence"
    yield "description of 300 MiB", partial(with_bomb, "description.json"), "sentence"
    values = (None, 7, -1, 1.5, "a", [], {}, [None], [[[]]], {"a": 1}, True, 10**30)
    for value in values:
        for key in ("format", "sha256", "dimensions", "key", "x"):
            changed = partial(described, **{key: value})
            yield f"{key} is {value}", changed, "sentence"
        for key in ("shape", "dtype"):
            leaf = {"path": "", "shape": [3, 4], "dtype": "float32"} | {key: value}
            yield f"{key} of x is {value}", partial(described, x=[leaf]), "sentence"
    yield "another dimension", partial(described, dimensions=3), "sentence"
    yield "another key", partial(described, key="rbg"), "sentence"
    other = {"path": "", "shape": [4, 3], "dtype": "float32"}
    yield "another shape of x", partial(described, x=[other]), "sentence"


def bad_programs(name: str) -> Iterator[Bad]:
    left = {other: program for other, program in members().items() if other != name}
    yield f"no {name}", partial(archive_of, left), "sentence"
    yield f"{name} of 300 MiB", partial(with_bomb, name), "sentence"
    rng, good = np.random.default_rng(PROGRAMS.index(name)), members()[name]
    for what, bad in {
        "empty": b"", "4 bytes": bytes(4), "zeros": bytes(500), "cut": good[:100],
        "cut in the middle": good[: len(good) // 2], "noise": rng.bytes(500),
        "brackets": b"[" * 1000,
    }.items():  # fmt: skip
        yield f"{name}, {what}", partial(with_program, name, bad), "sentence"
    # The module itself is for jaxlib to parse, which asks for input that is trusted.
    module = jax.export.deserialize(bytearray(good)).mlir_module_serialized
    start = good.index(module)
    places = [*range(start), *range(start + len(module), len(good))]
    for index in range(FLIPS):
        place, bit = int(rng.choice(places)), int(rng.integers(8))
        changed = bytearray(good)
        changed[place] ^= 1 << bit
        yield (
            f"{name}, flip {index}, bit {bit} of byte {place}",
            partial(with_program, name, bytes(changed)),
            "any",
        )
