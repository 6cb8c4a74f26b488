"""Images that --data names, as programs get them."""

import numpy as np
import pytest

from experiments import mnist
from experiments.harness import data_sets
from vaejax import datasets

image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")


def write(folder, images):
    folder.mkdir(parents=True)
    for index, pixels in enumerate(images):
        image.fromarray(pixels).save(folder / f"{index:02d}.png")


def test_the_part_of_one_folder_that_is_held_out_is_said(tmp_path, capsys):
    images = np.random.default_rng(0).integers(0, 256, (30, 4, 3), np.uint8)
    write(tmp_path / "photos", images)
    config = mnist.Config(data=str(tmp_path / "photos"))
    train, test = data_sets.load_images(config)
    said = "photos: 3 of 30 images, drawn with a fixed seed, are held out for test\n"
    assert capsys.readouterr().out.endswith(said)
    kept, held_out = datasets.split_indices(30)
    np.testing.assert_array_equal(train.images, images[kept])
    np.testing.assert_array_equal(test.images, images[held_out])
    write(tmp_path / "set" / "train", images)
    write(tmp_path / "set" / "test", images[:2])
    data_sets.load_images(mnist.Config(data=str(tmp_path / "set")))
    assert capsys.readouterr().out == ""


def test_images_of_16_bits_become_intensities(tmp_path):
    images = np.arange(65536, dtype=np.uint16).reshape(4, 128, 128)
    write(tmp_path / "deep", images)
    config = mnist.Config(data=str(tmp_path / "deep"))
    parts = data_sets.load_images(config)
    levels = data_sets.load_images(config, keep_levels=True)
    for part, kept in zip(parts, levels, strict=True):
        assert part.images.dtype == np.float32 and part.images.max() <= 1
        np.testing.assert_array_equal(np.rint(part.images * 65535), kept.images)
