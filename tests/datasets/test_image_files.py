"""Image files as people have them: turned, transparent, deep, animated, in one folder.

What is read has the right values, and what is left out or changed is said.
"""

import warnings

import numpy as np
import pytest

from vaejax import datasets

image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")

RNG = np.random.default_rng(0)
GRAY = RNG.integers(0, 256, (12, 5, 4), np.uint8)
COLORS = RNG.integers(0, 256, (12, 5, 4, 3), np.uint8)
LOSSLESS = [".png", ".bmp", ".gif", ".tif", ".tiff", ".webp"]


def save(folder, name, pixels, **options):
    folder.mkdir(parents=True, exist_ok=True)
    picture = pixels if hasattr(pixels, "save") else image.fromarray(pixels)
    picture.save(folder / name, **options)


def load_one(tmp_path):
    """The only image of a set, of which nothing must be said."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (found,) = datasets.load(tmp_path).images
    return found


@pytest.mark.parametrize("suffix", LOSSLESS)
def test_every_format_is_read_to_the_pixel(tmp_path, suffix):
    options = {"lossless": True} if suffix == ".webp" else {}
    save(tmp_path / "train", f"0{suffix}", GRAY[0], **options)
    if suffix in (".gif", ".webp"):  # formats of colors
        np.testing.assert_array_equal(load_one(tmp_path), np.stack([GRAY[0]] * 3, -1))
    else:
        np.testing.assert_array_equal(load_one(tmp_path), GRAY[0])
    if suffix != ".gif":
        save(tmp_path / "train", f"0{suffix}", COLORS[0], **options)
        np.testing.assert_array_equal(load_one(tmp_path), COLORS[0])


@pytest.mark.parametrize("suffix", LOSSLESS)
def test_an_image_of_one_color_is_read_however_small_its_file(tmp_path, suffix):
    options = {".webp": {"lossless": True}, ".tif": {"compression": "tiff_lzw"}}
    pixels = np.broadcast_to(np.uint8([1, 2, 3]), (1000, 800, 3))
    save(tmp_path / "train", f"0{suffix}", pixels, **options.get(suffix, {}))
    np.testing.assert_array_equal(load_one(tmp_path), pixels)


# What a viewer does to what is stored, by EXIF orientation.
UPRIGHT = {
    1: lambda x: x,
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.swapaxes(0, 1),
    6: lambda x: np.rot90(x, -1),
    7: lambda x: x.swapaxes(0, 1)[::-1, ::-1],
    8: lambda x: np.rot90(x),
}


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_images_are_turned_as_their_exif_data_say(tmp_path, suffix, orientation):
    exif = image.Exif()
    exif[0x0112] = orientation
    for pixels in (GRAY[0], COLORS[0], GRAY[0].astype(np.uint16) * 257):
        save(tmp_path / "train", f"0{suffix}", pixels, exif=exif)
        np.testing.assert_array_equal(load_one(tmp_path), UPRIGHT[orientation](pixels))


def test_a_photograph_on_its_side_is_turned(tmp_path):
    exif = image.Exif()
    exif[0x0112] = 6
    pixels = np.full((32, 48), 20, np.uint8)
    pixels[:, :24] = 230  # what is stored on the left is seen at the top
    save(tmp_path / "train", "0.jpg", pixels, exif=exif, quality=95)
    found = load_one(tmp_path)
    assert found.shape == (48, 32)
    assert found[:20].mean() > 220 and found[28:].mean() < 30


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_16_bits_are_all_kept(tmp_path, suffix):
    deep = RNG.integers(0, 65536, (3, 5, 4), np.uint16)
    deep[0, 0, :2] = 0, 65535
    for index, pixels in enumerate(deep):
        save(tmp_path / "train", f"{index}{suffix}", pixels)
    images = datasets.load(tmp_path).images
    assert images.dtype == np.uint16
    np.testing.assert_array_equal(images, deep)
    save(tmp_path / "train", f"1{suffix}", GRAY[1])
    with pytest.raises(ValueError, match=r"1\.\w+ is 5x4 gray, and .* gray of 16 bits"):
        datasets.load(tmp_path)


def with_alpha(pixels, alpha):
    return np.concatenate([np.atleast_3d(pixels), alpha[..., None]], axis=-1)


@pytest.mark.parametrize("pixels", [GRAY[0], COLORS[0]], ids=["gray", "RGB"])
def test_transparent_images_are_laid_over_white_and_it_is_said(tmp_path, pixels):
    alpha = RNG.integers(0, 256, (5, 4), np.uint8)
    alpha[0] = 0, 255, 128, 1
    save(tmp_path / "train", "0.png", with_alpha(pixels, alpha))
    save(tmp_path / "train", "1.png", with_alpha(pixels, np.full_like(alpha, 255)))
    with pytest.warns(UserWarning, match="train: 1 of 2 images are transparent.*white"):
        images = datasets.load(tmp_path).images
    share = (alpha / 255).reshape(5, 4, *[1] * (pixels.ndim - 2))
    np.testing.assert_array_equal(
        images[0], np.rint(pixels * share + 255 * (1 - share))
    )
    np.testing.assert_array_equal(images[1], pixels)
    (tmp_path / "train" / "0.png").unlink()
    np.testing.assert_array_equal(load_one(tmp_path), pixels)


@pytest.mark.parametrize("suffix", [".png", ".gif"])
def test_transparency_of_palettes_and_of_one_color(tmp_path, suffix):
    palette = image.fromarray(np.array([[0, 1], [2, 1]], np.uint8), mode="P")
    palette.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    save(tmp_path / "train", f"0{suffix}", palette, transparency=1)
    with pytest.warns(UserWarning, match="1 of 1 images are transparent"):
        (found,) = datasets.load(tmp_path).images
    white = [255, 255, 255]
    assert found.tolist() == [[[255, 0, 0], white], [[0, 0, 255], white]]
    if suffix == ".png":
        for kind in (np.uint8, np.uint16):
            gray = np.array([[7, 3], [0, 7]], kind)
            save(tmp_path / "train", "0.png", gray, transparency=7)
            with pytest.warns(UserWarning, match="laid over white"):
                (found,) = datasets.load(tmp_path).images
            top = np.iinfo(kind).max
            assert found.dtype == kind and found.tolist() == [[top, 3], [0, top]]


def png_of_16_bits(color_type):
    """A PNG file of one pixel, with colors of 16 bits, which Pillow does not write."""
    import struct
    import zlib

    def chunk(name, content):
        check = struct.pack(">I", zlib.crc32(name + content))
        return struct.pack(">I", len(content)) + name + content + check

    header = struct.pack(">IIBBBBB", 1, 1, 16, color_type, 0, 0, 0)
    pixels = b"\x00" + b"\x12\x34" * {2: 3, 4: 2, 6: 4}[color_type]
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(pixels))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("color_type", [2, 4, 6])
def test_bits_that_pillow_would_drop_are_refused(tmp_path, color_type):
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "0.png").write_bytes(png_of_16_bits(color_type))
    with pytest.raises(ValueError, match=r"0.png has colors of 16 bits.*reads 8;"):
        datasets.load(tmp_path)


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".tif", ".png"])
def test_several_frames_are_one_sentence(tmp_path, suffix):
    frames = [image.fromarray(pixels) for pixels in COLORS[:3]]
    save(
        tmp_path / "train",
        f"0{suffix}",
        frames[0],
        save_all=True,
        append_images=frames[1:],
    )
    with pytest.raises(ValueError, match=r"0\.\w+ holds 3 frames; save") as caught:
        datasets.load(tmp_path)
    assert "\n" not in str(caught.value)


def test_what_is_left_out_is_named(tmp_path):
    for name in ("cat", "dog"):
        save(tmp_path / "train" / name, "0.png", GRAY[0])
    (tmp_path / "train" / "cat" / "1.heic").touch()
    (tmp_path / "train" / "labels.csv").touch()
    save(tmp_path / "train" / "more" / "deep", "0.png", GRAY[1])
    with pytest.warns(UserWarning, match="1.heic, labels.csv, more .3 in all"):
        assert len(datasets.load(tmp_path).images) == 2


# One folder without train and test


def flat(tmp_path, num=40):
    images = RNG.integers(0, 256, (num, 4, 3), np.uint8)
    for index, pixels in enumerate(images):
        save(tmp_path / "photos", f"{index:03d}.bmp", pixels)
    return tmp_path / "photos", images


def test_a_tenth_of_one_folder_is_held_out_by_a_fixed_seed(tmp_path):
    folder, images = flat(tmp_path)
    train, test = (datasets.load(folder, split=name) for name in ("train", "test"))
    indices = datasets.split_indices(40)
    for part, kept in zip((train, test), indices, strict=True):
        np.testing.assert_array_equal(part.images, images[kept])
        assert part.labels is None
    assert len(test.images) == 4
    with pytest.raises(ValueError, match="photos is one folder.*no split 'validation'"):
        datasets.load(folder, split="validation")


def test_a_tenth_of_folders_of_classes_is_held_out(tmp_path):
    classes = np.repeat([0, 1], 10)
    for index, pixels in enumerate(np.resize(GRAY, (20, 5, 4))):
        save(tmp_path / "set" / "ab"[classes[index]], f"{index:03d}.png", pixels)
    indices = datasets.split_indices(20)
    for split, kept in zip(("train", "test"), indices, strict=True):
        found = datasets.load(tmp_path / "set", split=split)
        np.testing.assert_array_equal(found.labels, classes[kept])
        np.testing.assert_array_equal(found.images, np.resize(GRAY, (20, 5, 4))[kept])


def test_folders_that_are_no_set_are_named(tmp_path, monkeypatch):
    folder, _ = flat(tmp_path, 3)
    with pytest.raises(ValueError, match="photos: there are 3 examples; give at least"):
        datasets.load(folder)
    for part in ("Training", "Test"):
        save(tmp_path / "parts" / part, "0.png", GRAY[0])
    with pytest.raises(ValueError, match="the folders Test, Training; name the parts"):
        datasets.load(tmp_path / "parts")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "a.heic").touch()
    with pytest.raises(ValueError, match="empty is a folder that holds a.heic, and no"):
        datasets.load(tmp_path / "empty")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="holds a.heic.*or one of .*'mnist'") as error:
        datasets.load("empty")
    assert str(error.value).count("train.npy") == 1
