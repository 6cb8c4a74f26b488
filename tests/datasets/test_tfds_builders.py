"""TFDS's own sets, prepared or not, without TensorFlow."""

import io

import numpy as np
import PIL.Image
import pytest
from support.image_files import assert_equal

from vaejax import datasets
from vaejax.datasets import DataUnavailableError, _tfds_builders


def test_stock_sets_name_the_extra_where_there_is_no_tensorflow(monkeypatch, data_dir):
    monkeypatch.setattr(_tfds_builders, "_has_tensorflow", lambda: False)
    with pytest.raises(
        DataUnavailableError,
        match=r"cifar10 is not prepared in .*pip install 'vaejax\[tfds\]'",
    ):
        datasets.load("cifar10")
    assert not data_dir.exists()


def test_a_prepared_stock_set_is_read_and_cached(monkeypatch, data_dir):
    import tensorflow_datasets as tfds

    # What a stock builder leaves: PNG files, an int64 class, stored as array_record.
    colors = np.random.default_rng(0).integers(0, 256, (9, 4, 5, 3), np.uint8)

    def png(image):
        file = io.BytesIO()
        PIL.Image.fromarray(image).save(file, "png")
        return file.getvalue()

    class StockColors(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.2.3")

        def _info(self):
            features = {
                "id": tfds.features.Text(),
                "image": tfds.features.Image(shape=(4, 5, 3)),
                "label": tfds.features.ClassLabel(num_classes=9),
            }
            return tfds.core.DatasetInfo(
                builder=self,
                features=tfds.features.FeaturesDict(features),
                disable_shuffling=True,
            )

        def _split_generators(self, dl_manager):
            return {"train": self._generate_examples()}

        def _generate_examples(self):
            for index, image in enumerate(colors):
                yield index, {"id": str(index), "image": png(image), "label": index}

    StockColors(data_dir=data_dir).download_and_prepare(file_format="array_record")
    arrays = colors, np.arange(9, dtype=np.uint8)
    assert_equal(datasets.load("stock_colors"), arrays)
    with pytest.raises(
        ValueError, match=r"stock_colors has no split 'test'; choose from \['train'\]"
    ):
        datasets.load("stock_colors", split="test")
    monkeypatch.delattr(_tfds_builders, "read")
    assert_equal(datasets.load("stock_colors"), arrays)


def test_sets_that_are_no_images_of_one_size_are_refused(data_dir):
    import tensorflow_datasets as tfds

    class StockNumbers(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            features = tfds.features.FeaturesDict(
                {"number": tfds.features.Scalar(np.int64)}
            )
            return tfds.core.DatasetInfo(builder=self, features=features)

        def _split_generators(self, dl_manager):
            return {"train": ((index, {"number": index}) for index in range(3))}

        def _generate_examples(self):
            raise NotImplementedError

    StockNumbers(data_dir=data_dir).download_and_prepare(file_format="array_record")
    with pytest.raises(
        ValueError,
        match=r"stock_numbers is not a set of images: its examples are \['number'\]",
    ):
        datasets.load("stock_numbers")
