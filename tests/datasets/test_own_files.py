"""The user's own images: .npz, .npy and image files; each mistake is named."""

import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from vaejax import datasets
from vaejax.datasets import DataUnavailableError, _shared

IMAGES = np.random.default_rng(0).integers(0, 256, (7, 5, 4), np.uint8)
COLORS = np.random.default_rng(1).integers(0, 256, (7, 5, 4, 3), np.uint8)


def write_images(directory, images, suffix=".png", mode=None):
    image_module = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    directory.mkdir(parents=True, exist_ok=True)
    for index, image in enumerate(images):
        picture = image_module.fromarray(image)
        (picture.convert(mode) if mode else picture).save(
            directory / f"{index:02d}{suffix}"
        )


def test_arrays_of_the_user(tmp_path):
    images, labels = np.arange(24, dtype=np.uint8).reshape(2, 3, 4), np.arange(2)
    np.savez(
        tmp_path / "own.npz",
        train_images=images,
        train_labels=labels,
        test_images=images[:1],
        floats_images=1.0,
    )
    train, test = (
        datasets.load(tmp_path / "own.npz", split=split) for split in ("train", "test")
    )
    np.testing.assert_array_equal(train.images, images)
    np.testing.assert_array_equal(train.labels, labels)
    np.testing.assert_array_equal(test.images, images[:1])
    assert test.labels is None
    with pytest.raises(
        ValueError, match="own.npz has no 'validation_images'; it holds"
    ):
        datasets.load(tmp_path / "own.npz", split="validation")
    with pytest.raises(
        ValueError,
        match=r"floats_images in .* is float64 \[\]; give at least one image",
    ):
        datasets.load(tmp_path / "own.npz", split="floats")
    with pytest.raises(ValueError, match="none.npz cannot be read"):
        datasets.load(tmp_path / "none.npz")


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64, np.float16])
@pytest.mark.parametrize(
    "images", [IMAGES, COLORS, COLORS[..., :1]], ids=["gray", "RGB", "one color"]
)
def test_arrays_are_memory_mapped(tmp_path, dtype, images):
    stored = images if dtype == np.uint8 else (images / 255).astype(dtype)
    np.save(tmp_path / "train.npy", stored)
    np.save(tmp_path / "train_labels.npy", np.arange(7))
    np.save(tmp_path / "test.npy", stored[:2])
    train, test = datasets.load(tmp_path), datasets.load(str(tmp_path), split="test")
    assert isinstance(train.images, np.memmap) and train.images.dtype == dtype
    np.testing.assert_array_equal(train.images, stored)
    np.testing.assert_array_equal(train.labels, np.arange(7))
    np.testing.assert_array_equal(test.images, stored[:2])
    assert test.labels is None
    with pytest.raises(ValueError, match="read-only"):
        train.images[0] = 0


def test_checks_and_checksum_go_by_chunks(tmp_path, monkeypatch):
    monkeypatch.setattr(_shared, "_CHUNK_BYTES", 1 << 16)
    shape = (2000, 32, 32)  # 8 MB
    images = np.lib.format.open_memmap(
        tmp_path / "train.npy", mode="w+", dtype=np.float32, shape=shape
    )
    images[1900, 3, 2] = 1.5
    tracemalloc.start()
    try:
        with pytest.raises(
            ValueError,
            match=r"train.npy holds 1.5 in example 1900 \(at \[1900, 3, 2\]\)",
        ):
            datasets.load(tmp_path)
        images[1900, 3, 2] = 1
        digest = datasets.checksum(datasets.load(tmp_path))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1e6, peak
    assert digest == datasets.checksum(datasets.Dataset(np.array(images), None))


def with_value(value):
    images = (IMAGES / 255).astype(np.float32)
    images[4, 1, 2] = value
    return images


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (
            {"train": IMAGES.astype(np.int64)},
            r"train.npy is int64 \[7, 5, 4\]; give at least one image as uint8",
        ),
        (
            {"train": IMAGES.reshape(7, 20)},
            r"train.npy is uint8 \[7, 20\]; .*\[examples, height, width\]",
        ),
        ({"train": IMAGES[:0]}, r"train.npy .*"),
        (
            {"train": COLORS[..., :2]},
            r"train.npy has shape \[7, 5, 4, 2\].*give 1 or 3",
        ),
        (
            {"train": with_value(np.nan)},
            r"train.npy holds nan in example 4 \(at \[4, 1, 2\]\).*\[0, 1\]",
        ),
        ({"train": with_value(-0.5)}, "train.npy holds -0.5 in example 4"),
        ({"train": np.array([{}])}, "train.npy cannot be memory-mapped: .*objects"),
        (
            {"train": np.asfortranarray(IMAGES)},
            r"train.npy is stored in Fortran order; save it with .*np.uint8\)\)",
        ),
        (
            {"train": with_value(0.5).astype(">f4")},
            r"another machine; save it with .*np.float32\)\)",
        ),
        (
            {"train": IMAGES, "train_labels": np.arange(6)},
            r"train_labels.npy is int64 \[6\]; give 7 integer classes",
        ),
        (
            {"train": IMAGES, "train_labels": np.ones(7)},
            r"train_labels.npy is float64 \[7\]; give 7 integer classes",
        ),
        (
            {"test": IMAGES},
            r"has no train.npy .* and no folder train .*; it holds test.npy",
        ),
    ],
)
def test_arrays_that_are_no_images_are_refused(tmp_path, arrays, message):
    for name, array in arrays.items():
        np.save(tmp_path / f"{name}.npy", array)
    with pytest.raises(ValueError, match=message) as caught:
        datasets.load(tmp_path)
    assert "\n" not in str(caught.value) and str(tmp_path) in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"no array", "cut", "npz"])
def test_files_that_are_no_array_are_refused(tmp_path, content):
    np.save(tmp_path / "train.npy", IMAGES)
    if content == "npz":
        with open(tmp_path / "train.npy", "wb") as file:
            np.savez(file, IMAGES)
    else:
        raw = (tmp_path / "train.npy").read_bytes()
        (tmp_path / "train.npy").write_bytes(raw[:-50] if content == "cut" else content)
    with pytest.raises(
        ValueError,
        match=r"train.npy (cannot be memory-mapped: |is an .npz file).*np.save",
    ) as caught:
        datasets.load(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", [".png", ".PNG"])
@pytest.mark.parametrize("images", [IMAGES, COLORS], ids=["gray", "RGB"])
def test_image_files_are_read_by_name(tmp_path, images, suffix):
    write_images(tmp_path / "train", images, suffix)
    write_images(tmp_path / "test", images[:2], suffix)
    (tmp_path / "train" / "notes.txt").touch()
    (tmp_path / "train" / "._00.png").touch()
    (tmp_path / "train" / ".thumbnails").mkdir()
    with pytest.warns(UserWarning, match=r"train: left out is .* notes.txt \(1 in"):
        train = datasets.load(tmp_path)
    test = datasets.load(tmp_path, split="test")
    assert train.images.dtype == np.uint8 and train.labels is None
    np.testing.assert_array_equal(train.images, images)
    np.testing.assert_array_equal(test.images, images[:2])


@pytest.mark.parametrize("suffix", [".jpg", ".jpeg"])
def test_photographs_are_close(tmp_path, suffix):
    smooth = np.broadcast_to(np.arange(0, 256, 16, np.uint8), (3, 16, 16))
    write_images(tmp_path / "train", smooth, suffix)
    np.testing.assert_allclose(
        datasets.load(tmp_path).images.astype(int), smooth, atol=12
    )


def test_one_bit_and_palettes_are_read(tmp_path):
    black_and_white = (IMAGES > 127).astype(np.uint8) * np.uint8(255)
    write_images(tmp_path / "train", black_and_white, mode="1")
    np.testing.assert_array_equal(datasets.load(tmp_path).images, black_and_white)
    write_images(tmp_path / "test", COLORS, mode="P")
    assert datasets.load(tmp_path, split="test").images.shape == COLORS.shape


def test_folders_are_classes_numbered_over_all_splits(tmp_path):
    for split, names in {
        "train": ["cat", "ant", "bee"],
        "test": ["cat", "dog"],
    }.items():
        for name in names:
            write_images(tmp_path / split / name, IMAGES[:2])
    train, test = datasets.load(tmp_path), datasets.load(tmp_path, split="test")
    assert train.labels.dtype == np.uint8
    assert train.labels.tolist() == [0, 0, 1, 1, 2, 2] and test.labels.tolist() == [
        2,
        2,
        3,
        3,
    ]
    np.testing.assert_array_equal(train.images, np.concatenate([IMAGES[:2]] * 3))


@pytest.mark.parametrize(
    ("add", "message"),
    [
        (
            lambda path: write_images(path, COLORS[:1], ".tif", mode="CMYK"),
            "00.tif has the mode CMYK.*gray .L. or RGB",
        ),
        (
            lambda path: write_images(path / "cat", IMAGES[:1]),
            "train holds both images and folders of images",
        ),
        (
            lambda path: (path / "05.png").write_bytes(b""),
            "05.png cannot be read as an image",
        ),
        (
            lambda path: (path / "05.png").write_bytes(
                (path / "05.png").read_bytes()[:60]
            ),
            "05.png cannot be read",
        ),
        (
            lambda path: [file.unlink() for file in path.iterdir()],
            "train holds no image; put .png, .jpg, .*; it holds nothing",
        ),
        (
            lambda path: np.save(path.parent / "train.npy", IMAGES),
            "holds both train.npy and the folder train",
        ),
    ],
    ids=["inks", "loose and in folders", "empty", "cut", "none", "two layouts"],
)
def test_image_files_that_cannot_be_loaded_are_named(tmp_path, add, message):
    write_images(tmp_path / "train", IMAGES)
    add(tmp_path / "train")
    with pytest.raises(ValueError, match=message) as caught:
        datasets.load(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("other", "words"), [(IMAGES[:, :4], "4x4 gray"), (COLORS, "5x4 RGB")]
)
def test_the_first_image_that_differs_is_named(tmp_path, other, words):
    write_images(tmp_path / "train", np.concatenate([IMAGES]))
    write_images(tmp_path / "other", other)
    for name in ("03.png", "05.png"):
        (tmp_path / "other" / name).replace(tmp_path / "train" / name)
    with pytest.raises(
        ValueError,
        match=f"03.png is {words}, and .*00.png is 5x4 gray; give images of one size",
    ):
        datasets.load(tmp_path)


def test_without_pillow_the_extra_is_named(tmp_path, monkeypatch):
    (tmp_path / "train").mkdir()
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(
        DataUnavailableError,
        match=r"train holds image files.*pip install 'vaejax\[images\]'",
    ):
        datasets.load(tmp_path)
    assert (
        'images = ["pillow"]'
        in (Path(__file__).parents[2] / "pyproject.toml").read_text()
    )
