"""A table of bad files, generated from one good file of each format, and their judge.

Each format has a good file, a reader and the damages below; each entry says what the
reader is to give: the right value, one sentence, or either of them.
"""

import functools
import io
import json
import os
import shutil
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image
from scipy.io import wavfile
from support.bad_exports import bad_exports, good_export, with_zeros

from experiments.data import audio
from vaejax import checkpoints, datasets, exporting

# What an entry is to give: what the good file gives; a sentence; either of the two;
# where a format has no checksum, a sentence or a value that looks like the right one;
# or a sentence or anything, where a program is another that its writer vouches for.
VALUE, SENTENCE, EITHER, ALIKE, ANY = "value", "sentence", "either", "alike", "any"

REALS = np.random.default_rng(0).normal(size=(12, 3)).astype(np.float32)
PIXELS = np.random.default_rng(1).integers(0, 256, (16, 24, 3), np.uint8)
SMOOTH = np.add.outer(np.arange(16) * 8, np.arange(24) * 5).astype(np.uint8)
SOUND = np.sin(np.arange(1200) / 3) * np.linspace(0.2, 1, 1200)
STATE = {"w": jnp.arange(60.0).reshape(12, 5), "key": jax.random.key(3)}
LINES = [f"sentence {i} of the corpus" for i in range(50)]

HOSTILE = (
    "two\nlines", "tab\tand\rreturn", "escape\x1b[31m", "$x_{$", "$$", "\\$a", "{x}",
    "{", "}", "_hidden", "^a_b", "%s%n", " ", "  spaces  ", "-v", "--help", "'quote\"",
    "a" * 200, "ä中文🙂", "e\u0301", "\u202eabc", "\u2028", "\udce9t\udce9", "a;b|c&d",
    "*?[x]",
    "<script>alert(1)</script>".replace("/", "\N{DIVISION SLASH}"), "#", "&amp;",
)  # fmt: skip


class Entry(NamedTuple):
    """One bad file.

    Attributes:
      name: the format, and what is wrong.
      format: one of `FORMATS`.
      put: writes the file at the path that it is given.
      stem: name of the file without its suffix.
      expected: what the reader is to give.
      capped: true where memory is measured.
    """

    name: str
    format: str
    put: Callable[[Path], Any]
    stem: str = "data"
    expected: str = EITHER
    capped: bool = False


class Format(NamedTuple):
    """A format.

    Attributes:
      suffix: of its files.
      good: bytes of a good file.
      read: `path -> value`.
      has_checksum: true where every flipped bit can be found.
      flips: number of flipped bits in the table, as many of them in the first bytes.
    """

    suffix: str
    good: Callable[[], bytes]
    read: Callable[[Path], Any]
    has_checksum: bool
    flips: int


def bytes_of(write: Callable[[io.BytesIO], Any]) -> bytes:
    file = io.BytesIO()
    write(file)
    return file.getvalue()


def csv_bytes() -> bytes:
    rows = [",".join(f"{value:.4f}" for value in row) for row in REALS]
    return "\n".join(["height,weight,age", *rows, ""]).encode()


def image_bytes(pixels: np.ndarray, kind: str) -> Callable[[], bytes]:
    return lambda: bytes_of(lambda file: Image.fromarray(pixels).save(file, kind))


def read_image(path: Path) -> np.ndarray:
    """Read a folder of three images, of which the one at the path is the second."""
    kind, pixels = ("PNG", PIXELS) if path.suffix == ".png" else ("JPEG", SMOOTH)
    for name in ("\t0", "\U0010ffff2"):
        other = path.with_name(name + path.suffix)
        other.write_bytes(image_bytes(pixels, kind)())
    return datasets.load(path.parent.parent).images


def read_state(path: Path) -> Any:
    state = checkpoints.restore(path, jax.eval_shape(lambda: STATE))
    return np.concatenate(
        [np.ravel(state["w"]), np.ravel(jax.random.key_data(state["key"]))]
    )


def read_export(path: Path) -> np.ndarray:
    exported = exporting.load_exported(path)
    return np.frombuffer(json.dumps(exported.description).encode(), np.uint8)


def read_folder(path: Path) -> np.ndarray:
    return datasets.load(path.parent).images


def read_images(path: Path) -> np.ndarray:
    return datasets.load(path).images


def read_text(path: Path) -> np.ndarray:
    return np.array(datasets.load_text(path))


UINT8 = PIXELS[..., 0].reshape(6, 8, 8)
FORMATS = {
    "csv": Format(".csv", csv_bytes, datasets.load_array, False, 60),
    "npy": Format(
        ".npy",
        lambda: bytes_of(lambda file: np.save(file, REALS)),
        datasets.load_array,
        False,
        80,
    ),
    "npz": Format(
        ".npz",
        lambda: bytes_of(lambda file: np.savez_compressed(file, REALS)),
        datasets.load_array,
        True,
        100,
    ),
    "npz of images": Format(
        ".npz",
        lambda: bytes_of(lambda file: np.savez(file, train_images=UINT8)),
        read_images,
        True,
        60,
    ),
    "png": Format(".png", image_bytes(PIXELS, "PNG"), read_image, True, 80),
    "jpeg": Format(".jpg", image_bytes(SMOOTH, "JPEG"), read_image, False, 60),
    "wav": Format(
        ".wav",
        lambda: bytes_of(
            lambda file: wavfile.write(file, 8000, np.int16(30000 * SOUND))
        ),
        audio.read_wav,
        False,
        80,
    ),
    "txt": Format(".txt", lambda: "\n".join(LINES).encode(), read_text, False, 40),
    "export": Format(".vae", good_export, read_export, True, 100),
}


@functools.cache
def good_bytes(name: str) -> bytes:
    return FORMATS[name].good()


@functools.cache
def good_checkpoint() -> dict[str, bytes]:
    """The files of a checkpoint of one step, by their paths."""
    with tempfile.TemporaryDirectory() as folder:
        checkpoints.save(folder, STATE, step=10)
        files = [file for file in Path(folder).rglob("*") if file.is_file()]
        return {str(f.relative_to(folder)): f.read_bytes() for f in sorted(files)}


@functools.cache
def good_value(name: str) -> np.ndarray:
    with tempfile.TemporaryDirectory() as folder:
        entry = Entry("", name, writing(good_bytes(name)) if name in FORMATS else put())
        return np.array(read(entry, place(entry, Path(folder))))


def writing(content: bytes | Callable[[], bytes]) -> Callable[[Path], Any]:
    """What writes these bytes, or those that the function makes then."""
    return lambda path: path.write_bytes(content() if callable(content) else content)


def place(entry: Entry, folder: Path) -> Path:
    """Write the file of an entry, and return its path."""
    if entry.format == "checkpoint":
        path = folder / entry.stem
    elif entry.format in ("png", "jpeg"):
        path = folder / "train" / (entry.stem + FORMATS[entry.format].suffix)
    else:
        path = folder / (entry.stem + FORMATS[entry.format].suffix)
    path.parent.mkdir(parents=True, exist_ok=True)
    entry.put(path)
    return path


def read(entry: Entry, path: Path) -> Any:
    if entry.format == "checkpoint":
        return read_state(path)
    return FORMATS[entry.format].read(path)


def flipped(content: bytes, place: int, bit: int) -> bytes:
    changed = bytearray(content)
    changed[place] ^= 1 << bit
    return bytes(changed)


def flips(content: bytes, seed: int, num: int) -> Iterator[tuple[str, bytes]]:
    """Flips of one bit: half of them anywhere, half among the first 160 bytes."""
    rng = np.random.default_rng(seed)
    for index in range(num):
        end = len(content) if index % 2 else min(len(content), 160)
        place, bit = int(rng.integers(end)), int(rng.integers(8))
        yield f"flip {index}, bit {bit} of byte {place}", flipped(content, place, bit)


def cuts(content: bytes) -> Iterator[tuple[str, bytes]]:
    size = len(content)
    places = {1, 2, 4, 9, 20, 60, 100, size - 1, size - 2, size - 30}
    places |= {size * part // 8 for part in range(1, 8)}
    for end in sorted(place for place in places if 0 < place < size):
        yield f"cut at {end}", content[:end]


def entries() -> list[Entry]:
    """The whole table."""
    found = [
        entry
        for seed, name in enumerate(FORMATS)
        for part in (damaged(name, seed), wrong_types(name), hostile_names(name))
        for entry in part
    ]
    return found + list(oversized()) + list(exports()) + list(bad_checkpoints())


def damaged(name: str, seed: int) -> Iterator[Entry]:
    form, content = FORMATS[name], good_bytes(name)
    expected = EITHER if form.has_checksum else ALIKE
    for what, bad in cuts(content):
        # Text may end anywhere, and the last bytes of an image hold no pixel.
        cut = expected if name in ("csv", "txt", "png", "jpeg") else SENTENCE
        yield Entry(f"{name}: {what}", name, writing(bad), expected=cut)
    for what, bad in flips(content, seed, form.flips):
        yield Entry(f"{name}: {what}", name, writing(bad), expected=expected)
    yield Entry(f"{name}: empty", name, writing(b""), expected=SENTENCE)
    for what, bad in {"zeros": bytes(500), "noise": noise(seed)}.items():
        yield Entry(f"{name}: {what}", name, writing(bad), expected=SENTENCE)
    longer = writing(content + noise(seed))
    is_strict = name in ("csv", "npy", "txt")
    yield Entry(
        f"{name}: with noise after its end",
        name,
        longer,
        expected=SENTENCE if is_strict else EITHER,
    )


def noise(seed: int) -> bytes:
    return np.random.default_rng(seed).bytes(300)


class Runs:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path.parent / "executed"),)


def put_pickle(path: Path) -> None:
    import pickle

    path.write_bytes(pickle.dumps(Runs(path)))


def put_object_array(path: Path) -> None:
    content = bytes_of(lambda f: np.save(f, np.array([[Runs(path)]]), True))
    path.write_bytes(content)


def put_object_npz(path: Path) -> None:
    array = np.array([[Runs(path)]])
    path.write_bytes(bytes_of(lambda f: np.savez(f, train_images=array)))


def put_loop(path: Path) -> None:
    path.symlink_to(path)


def wrong_types(name: str) -> Iterator[Entry]:
    for other in FORMATS:
        # Images are known by their content; every csv is text.
        alike = {other, name} <= {"png", "jpeg"} or name == other
        has_one_array = (name, other) == ("npz", "npz of images")
        if alike or has_one_array or (name, other) == ("txt", "csv"):
            continue
        put = writing(good_bytes(other))
        yield Entry(f"{name}: a file of {other}", name, put, expected=SENTENCE)
    kinds = {
        "a folder": lambda path: path.mkdir(),
        "nothing": lambda path: None,
        "a link to itself": put_loop,
        "a pickle": put_pickle,
        "an array of objects": put_object_array,
        "an archive of objects": put_object_npz,
        "a GIF": writing(image_bytes(SMOOTH, "GIF")()),
        "a TIFF": writing(image_bytes(SMOOTH, "TIFF")()),
        "a program of PostScript": writing(b"%!PS-Adobe-3.0 EPSF-3.0\n" * 20),
        "UTF-16": writing("\n".join(LINES).encode("utf-16")),
        "one long line": writing(b"1" * 300_000),
        "many separators": writing(b"," * 300_000),
        "nested brackets": writing(b"[" * 100_000),
    }
    for kind, put in kinds.items():
        is_text = name == "txt" and kind in ("one long line", "many separators")
        if is_text or (name in ("png", "jpeg") and kind in LEFT_OUT_OF_A_FOLDER):
            continue
        # Pillow knows a format by its content.
        is_image = name in ("png", "jpeg") and kind in ("a GIF", "a TIFF")
        expected = ANY if is_image else SENTENCE
        yield Entry(f"{name}: {kind}", name, put, expected=expected)


# A folder of images holds what is there, and its folders are classes.
LEFT_OUT_OF_A_FOLDER = ("a folder", "nothing", "a link to itself")


def hostile_names(name: str) -> Iterator[Entry]:
    content = good_bytes(name)
    for stem in HOSTILE:
        whole, cut = writing(content), writing(content[: len(content) // 3 - 3])
        if not (name in ("png", "jpeg") and stem.startswith(".")):
            yield Entry(f"{name}: good, named {stem!r}", name, whole, stem, VALUE)
        bad = ALIKE if name in ("csv", "txt", "jpeg") else SENTENCE
        yield Entry(f"{name}: bad, named {stem!r}", name, cut, stem, bad)
        if name not in ("png", "jpeg"):
            yield Entry(
                f"{name}: missing, named {stem!r}", name, lambda path: None, stem,
                SENTENCE,
            )  # fmt: skip
    if name not in ("png", "jpeg"):
        for stem in ("a" * 5000, "nul\0"):
            yield Entry(
                f"{name}: impossible name {stem[:4]!r}", name, lambda path: None, stem,
                SENTENCE,
            )  # fmt: skip


def npy_with(shape: str, descr: str = "'<f4'", data: bytes = bytes(64)) -> bytes:
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}"
    padded = header.encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(padded)) + padded + data


HEADERS = {
    "71 TiB": npy_with("(19500000000000, 1)"),
    "2^70 values": npy_with(f"({2**70}, 2)"),
    "2^70 in no value": npy_with(f"(0, {2**70})"),
    "negative": npy_with("(-4, -4)"),
    "fractions": npy_with("(4.0, 4)"),
    "words": npy_with("('4', 4)"),
    "truth": npy_with("(True, 16)"),
    "65 axes": npy_with(f"({'1, ' * 64}16)"[:80]),
    "wide values": npy_with("(4, 4)", "'<U99999999'"),
    "values of no width": npy_with(f"({2**50}, 4)", "'<U0'"),
    "records": npy_with("(4, 1)", "[('a', '<f4')]"),
    "nested records": npy_with("(4, 1)", "[('a', [('b', '<f4')])]"),
    "objects": npy_with("(4, 1)", "'|O'"),
    "dates": npy_with("(4, 2)", "'<M8[s]'"),
    "a huge header": b"\x93NUMPY\x02\x00" + struct.pack("<I", 2**32 - 1) + b"{",
    "a long header": b"\x93NUMPY\x02\x00" + struct.pack("<I", 300_000) + b"(" * 300_000,
    "nested brackets": b"\x93NUMPY\x01\x00" + struct.pack("<H", 9000) + b"(" * 9000,
    "nested signs": b"\x93NUMPY\x01\x00" + struct.pack("<H", 9000) + b"-" * 9000,
    "another version": b"\x93NUMPY\x09\x00" + bytes(100),
    "version 3": b"\x93NUMPY\x03\x00" + npy_with("(4, 4)")[8:],
}


def zip_of(members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    def write(file: io.BytesIO) -> None:
        with zipfile.ZipFile(file, "w", method) as archive:
            for name, content in members.items():
                archive.writestr(name, content)

    return bytes_of(write)


def zeros_npz(name: str) -> bytes:
    """An archive of one array of 512 MiB, all zeros."""
    head = npy_with("(512, 1024, 1024)", "'|u1'", b"")
    return with_zeros(zip_of({}), name, 512, head)


def sparse_npz() -> bytes:
    """An archive of 40 MiB, all zeros, which are packed a thousandfold."""
    head = npy_with("(40, 1024, 1024)", "'|u1'", b"")
    return with_zeros(zip_of({}), "arr_0.npy", 40, head)


def lying(content: bytes, size: int) -> bytes:
    """Change the size that a zip archive gives of its members."""
    changed, place = bytearray(content), content.find(b"PK\x01\x02")
    while place >= 0:
        changed[place + 24 : place + 28] = struct.pack("<I", size)
        place = content.find(b"PK\x01\x02", place + 4)
    return bytes(changed)


def png_of(width: int, height: int, data: bytes = b"\0" * 100) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        body = kind + content
        return (
            struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))
        )

    head = struct.pack(">2I5B", width, height, 8, 2, 0, 0, 0)
    parts = [(b"IHDR", head), (b"IDAT", zlib.compress(data)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def with_field(content: bytes, place: int, code: str, value: int) -> bytes:
    return (
        content[:place]
        + struct.pack(code, value)
        + content[place + struct.calcsize(code) :]
    )


def jpeg_of(width: int, height: int) -> bytes:
    content = good_bytes("jpeg")
    place = content.index(b"\xff\xc0") + 5
    return with_field(content, place, ">I", height << 16 | width)


def oversized() -> Iterator[Entry]:
    """Files that promise more than they hold, and ones that unpack to much more."""
    bad = [("npy", f"header of {what}", content) for what, content in HEADERS.items()]
    bad += [
        (name, f"header of {what}", zip_of({member: content}))
        for name, member in (("npz", "a.npy"), ("npz of images", "train_images.npy"))
        for what, content in HEADERS.items()
    ]
    bombs = {"npz": "arr_0.npy", "npz of images": "train_images.npy"}
    for name, member in bombs.items():
        bomb = functools.partial(zeros_npz, member)
        packed = {member: npy_with("(4, 4, 4)", "'|u1'")}
        bad += [
            (name, "unpacks to 512 MiB", bomb),
            (name, "unpacks to 512 MiB and says 144", lambda b=bomb: lying(b(), 144)),
            (name, "says 4 GiB", lying(good_bytes(name), 2**32 - 2)),
            (name, "bzip2", zip_of(packed, zipfile.ZIP_BZIP2)),
            (name, "LZMA", zip_of(packed, zipfile.ZIP_LZMA)),
            (name, "no member", zip_of({})),
            (name, "members of no arrays", zip_of({"a": b"", "b": b"text"})),
        ]
    for side in (100_000, 2**31 - 1, 12_000):
        bad.append(("png", f"{side} by {side} pixels", png_of(side, side)))
    for width, height in ((65_000, 65_000), (11_000, 8_000), (0, 16), (24, 0)):
        bad.append(("jpeg", f"{width} by {height}", jpeg_of(width, height)))
    bad += [("png", "no pixels", png_of(0, 0)), ("png", "1 wide", png_of(1, 16))]
    good = good_bytes("wav")
    for what, place, code, value in (
        ("data of 4 GiB", 40, "<I", 2**32 - 1),
        ("data of 2 GiB", 40, "<I", 2**31),
        ("data of nothing", 40, "<I", 0),
        ("data of fewer bytes", 40, "<I", 101),
        ("a format of 4 GiB", 16, "<I", 2**32 - 1),
        ("a file of 4 GiB", 4, "<I", 2**32 - 1),
        ("a file of nothing", 4, "<I", 0),
        ("65535 channels", 22, "<H", 65535),
        ("no channels", 22, "<H", 0),
        ("blocks of nothing", 32, "<H", 0),
        ("1000 bits", 34, "<H", 1000),
        ("no data", 36, "<I", 0x41414141),
    ):
        expected = EITHER if what.startswith("a file") else SENTENCE
        changed = with_field(good, place, code, value)
        yield Entry(f"wav: {what}", "wav", writing(changed), "data", expected, True)
    for rate in (0, 1, 7, 999_983, 2**32 - 5):
        bad.append(("wav", f"{rate} Hz", wav_at(rate)))
    for name, what, content in bad:
        put = writing(content)
        yield Entry(f"{name}: {what}", name, put, expected=SENTENCE, capped=True)


def wav_at(rate: int) -> bytes:
    good = with_field(good_bytes("wav"), 24, "<I", rate)
    return with_field(good, 28, "<I", 2 * rate & 0xFFFFFFFF)


def exports() -> Iterator[Entry]:
    """Exports that somebody wrote by hand, who knows the format."""
    for what, make, expected in bad_exports():
        put, name = writing(make), f"export: {what}"
        yield Entry(name, "export", put, expected=expected, capped="MiB" in what)


def put(changed: dict[str, bytes | None] | None = None) -> Callable[[Path], Any]:
    """Write a checkpoint of which some files are replaced, or folders where None."""

    def write(path: Path) -> None:
        for name, content in (good_checkpoint() | (changed or {})).items():
            file = path / name
            file.parent.mkdir(parents=True, exist_ok=True)
            if content is None:
                file.mkdir()
            else:
                file.write_bytes(content)

    return write


def bad_checkpoints() -> Iterator[Entry]:
    def entry(what: str, put: Callable, stem: str = "data", expected: str = EITHER):
        return Entry(f"checkpoint: {what}", "checkpoint", put, stem, expected)

    for seed, (name, content) in enumerate(good_checkpoint().items()):
        kind = f"file {seed}"
        for what, bad in [*flips(content, seed, 8), *list(cuts(content))[::4]]:
            yield entry(f"{kind}, {what}", put({name: bad}))
        for what, bad in {
            "empty": b"",
            "noise": noise(seed),
            "nested brackets": b"[" * 100_000,
            "nested objects": b'{"a":' * 20_000,
            "a list": b"[]",
            "a folder": None,
        }.items():
            yield entry(f"{kind}, {what}", put({name: bad}))
    for stem in HOSTILE:
        # What stores the arrays takes no backslash in a path, and UTF-8 only.
        is_refused = "\\" in stem or "\udce9" in stem
        expected = SENTENCE if is_refused else VALUE
        yield entry(f"good, named {stem!r}", put(), stem, expected)
        yield entry(f"missing, named {stem!r}", lambda path: None, stem, SENTENCE)
    meta = next(name for name in good_checkpoint() if "meta" in name.split("/")[-1])
    broken = put({meta: b"{"})
    for stem in HOSTILE[:8]:
        yield entry(f"bad, named {stem!r}", broken, stem)
    yield entry("a file", writing(b"10"), expected=SENTENCE)
    yield entry("an empty folder", lambda path: path.mkdir(), expected=SENTENCE)
    yield entry("a step that is a file", put_step_file, expected=SENTENCE)
    yield entry("a link to itself", put_loop, expected=SENTENCE)
    yield entry("a step of many digits", put({"9" * 30 + "/a": b""}))
    yield entry("an empty step beside it", put({"11/a": b""}))
    yield entry("other files beside it", put({"notes.txt": b"", "a\nb/c": b""}))


def put_step_file(path: Path) -> None:
    path.mkdir()
    (path / "10").write_bytes(b"")


def shown(text: str) -> str:
    """The text with what cannot be printed as escapes."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def verdict(entry: Entry, path: Path) -> str | None:
    """Say what is wrong with what the reader gives; None where it is as expected."""
    try:
        value = np.asarray(read(entry, path))
    except (ValueError, FileNotFoundError) as error:
        if isinstance(error, FileNotFoundError) and entry.format != "checkpoint":
            return f"not a ValueError: {error!r}"
        text = str(error)
        if not text.isprintable() or len(text) > 5800 or not text.endswith("."):
            return f"not one line: {text[:300]!r}"
        if shown(path.name)[:40].strip() not in text:
            return f"does not name {path.name!r}: {text[:300]!r}"
        return f"refused: {text[:300]}" if entry.expected == VALUE else None
    except BaseException as error:
        return f"not a ValueError: {type(error).__name__}: {str(error)[:300]!r}"
    if entry.expected == ANY:
        return None
    if entry.expected == SENTENCE:
        return f"read as {value.dtype} {value.shape}"
    good = good_value(entry.format)
    if entry.expected == ALIKE:
        is_alike = value.ndim == good.ndim and (
            value.shape[1:] == good.shape[1:] or entry.format == "wav"
        )
        same_kind = value.dtype.itemsize == good.dtype.itemsize or entry.format in (
            "txt", "csv",
        )  # fmt: skip
        return None if is_alike and same_kind else f"{value.dtype} {value.shape}"
    is_same = value.dtype == good.dtype and np.array_equal(value, good)
    return None if is_same else f"another value: {value.dtype} {value.shape}"


def cleared(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
