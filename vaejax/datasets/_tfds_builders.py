"""Image sets built and read through TFDS, without TensorFlow where that is possible.

Without TensorFlow, a builder of TFDS cannot extract archives, encode arrays as
`features.Image`, or write the default file format. So `Images` downloads, unpacks with
the standard library, stores tensors in array_record, and keeps the official order.
TFDS's own sets that are prepared as array_record are read without TensorFlow.
"""

import importlib.util
import itertools
import re
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.core import read_only_builder

from vaejax.datasets._array_cache import cached
from vaejax.datasets._official_files import (
    BUILDER,
    VERSION,
    check_reachable,
    data_dir,
    parse,
    unavailable,
    verify,
    write_digests,
)
from vaejax.datasets._own_files import LAYOUTS
from vaejax.datasets._shared import Arrays, Splits
from vaejax.datasets.catalogue import CATALOGUE
from vaejax.datasets.errors import DataUnavailableError

_FORMAT = "array_record"
# Images of more bytes are stored compressed.
_LARGE = 1024
# Examples that are decoded at once.
_CHUNK = 1000
# A `tfds.core.DatasetBuilder`, whose annotations leave out that features are mappings.
_Builder = Any


class Images(tfds.core.GeneratorBasedBuilder):
    """TFDS builder of the sets of the catalogue, one configuration each.

    Attributes:
      paths: paths of the official files by name, where the user supplies them; else
        they are downloaded.
    """

    name = BUILDER
    VERSION = tfds.core.Version(VERSION)
    BUILDER_CONFIGS = [
        tfds.core.BuilderConfig(name=name, description=source.what)
        for name, source in CATALOGUE.items()
    ]
    builder_config: tfds.core.BuilderConfig

    def __init__(self, *, paths: Mapping[str, Path] | None = None, **kwargs):
        self.paths = paths
        super().__init__(**kwargs)

    def _info(self) -> tfds.core.DatasetInfo:
        source = CATALOGUE[self.builder_config.name]
        encoding = (
            tfds.features.Encoding.ZLIB
            if np.prod(source.shape) > _LARGE
            else tfds.features.Encoding.NONE
        )
        features = {
            "image": tfds.features.Tensor(
                shape=source.shape, dtype=np.uint8, encoding=encoding
            )
        }
        if source.label_shape is not None:
            features["label"] = tfds.features.Tensor(
                shape=source.label_shape, dtype=np.uint8
            )
        return tfds.core.DatasetInfo(
            builder=self,
            description=f"{source.what}. License: {source.license}.",
            features=tfds.features.FeaturesDict(features),
            homepage=source.homepage,
            disable_shuffling=True,
        )

    def _split_generators(
        self, dl_manager: tfds.download.DownloadManager
    ) -> dict[str, Iterator]:
        name = self.builder_config.name
        splits, digests = (
            _download_and_parse(name, dl_manager)
            if self.paths is None
            else _parse(name, self.paths)
        )
        # This folder takes its final name when it is complete.
        write_digests(Path(self.data_dir), digests)
        return {
            split: self._generate_examples(*splits[split])
            for split in CATALOGUE[name].splits
        }

    def _generate_examples(
        self, images: np.ndarray, labels: np.ndarray | None
    ) -> Iterator[tuple[int, dict]]:
        for index, image in enumerate(images):
            yield (
                index,
                {"image": image}
                if labels is None
                else {"image": image, "label": labels[index]},
            )


def _parse(name: str, paths: Mapping[str, Path]) -> tuple[Splits, dict[str, str]]:
    """Parse the splits of a set; return them and the SHA-256 of its files."""
    digests = verify(name, paths)
    return parse(name, paths), digests


def _download_and_parse(
    name: str, dl_manager: tfds.download.DownloadManager
) -> tuple[Splits, dict[str, str]]:
    try:
        urls = {file.name: file.url for file in CATALOGUE[name].files[0]}
        paths = cast("Mapping[str, Path]", dl_manager.download(urls))
    # TFDS, requests and urllib3 each have their own errors.
    except Exception as error:
        raise unavailable(name, f"its download failed ({error})") from error
    return _parse(name, {name: Path(path) for name, path in paths.items()})


def build(name: str, paths: Mapping[str, Path] | None) -> None:
    """Prepare a set of the catalogue from the user's files, or from a download."""
    home = data_dir()
    home.mkdir(parents=True, exist_ok=True)
    # Partial and wrong downloads are removed with this folder.
    with tempfile.TemporaryDirectory(dir=home, prefix="vaejax_downloads_") as downloads:
        _prepare(Images(config=name, data_dir=home, paths=paths), Path(downloads))


def _prepare(builder: _Builder, downloads: Path, manual: Path | None = None) -> None:
    config = tfds.download.DownloadConfig(manual_dir=manual)
    try:
        builder.download_and_prepare(
            download_dir=downloads, download_config=config, file_format=_FORMAT
        )
    except OSError:
        # Another process may have prepared it meanwhile: a folder takes its name only
        # when it is complete.
        if not Path(builder.data_dir).exists():
            raise


def read_directory(home: Path, split: str) -> Arrays:
    """Read a split of the set that is prepared in a folder."""
    try:
        builder = tfds.builder_from_directory(home)
    # The user asked for nothing wrong: a file is damaged.
    except ValueError as error:
        raise RuntimeError(error) from error
    return read(builder, split)


def read(builder: _Builder, split: str) -> Arrays:
    """Read all images and all labels of a split, in the prepared order.

    Raises:
      ValueError: there is no such split, or its examples have no image, or images of
        another dtype than `uint8` or of several sizes.
    """
    if split not in builder.info.splits:
        raise ValueError(
            f"{builder.name} has no split {split!r}; choose from "
            f"{sorted(builder.info.splits)}."
        )
    image, label = _image_and_label(builder)
    examples = _examples(builder, split)
    first = next(examples, None)
    if first is None:
        raise ValueError(f"{split} of {builder.name} is empty.")
    size = builder.info.splits[split].num_examples
    images = np.empty((size, *first[image].shape), np.uint8)
    label_shape = () if label is None else np.shape(first[label])
    labels = np.empty((size, *label_shape), _label_dtype(builder)) if label else None
    num_read = 0
    for example in itertools.chain([first], examples):
        _check_image(example[image], images.shape[1:], f"image {num_read}", builder)
        images[num_read] = example[image]
        if labels is not None:
            labels[num_read] = example[label]
        num_read += 1
    if num_read != size:
        raise ValueError(
            f"{split} of {builder.name} is damaged: it has {num_read} of its {size} "
            "examples."
        )
    # Gray images have no axis of channels here.
    is_gray = images.ndim == 4 and images.shape[-1] == 1
    return images[..., 0] if is_gray else images, labels


def _check_image(
    image: np.ndarray,
    shape: tuple[int, ...],
    which: str,
    builder: _Builder,
) -> None:
    if image.shape != shape or image.dtype != np.uint8:
        raise ValueError(
            f"{which} of {builder.name} is {image.dtype} {list(image.shape)}, the "
            f"first is uint8 {list(shape)}; only uint8 images of one size can be "
            "loaded."
        )


def _examples(builder: _Builder, split: str) -> Iterator[dict]:
    if builder.info.file_format is tfds.core.FileFormat.TFRECORD:
        if not _has_tensorflow():
            raise _needs_extra(
                builder.name, "is prepared as tfrecord, which only TensorFlow reads"
            )
        yield from tfds.as_numpy(builder.as_dataset(split=split))
        return
    source = builder.as_data_source(split=split)
    for start in range(0, len(source), _CHUNK):
        yield from source.__getitems__(
            list(range(start, min(start + _CHUNK, len(source))))
        )


def _image_and_label(builder: _Builder) -> tuple[str, str | None]:
    """Find the names of the image feature and, if there is one, of the label."""
    features = builder.info.features
    images = [
        key
        for key, feature in features.items()
        if isinstance(feature, tfds.features.Image)
        or (
            isinstance(feature, tfds.features.Tensor)
            and feature.np_dtype == np.uint8
            and len(cast("tuple", feature.shape)) in (2, 3)
        )
    ]
    if len(images) != 1:
        raise ValueError(
            f"{builder.name} is not a set of images: its examples are "
            f"{sorted(features)}."
        )
    return images[0], "label" if "label" in features else None


def _label_dtype(builder: _Builder) -> type:
    feature = builder.info.features["label"]
    is_byte = (
        feature.np_dtype == np.uint8
        or 0 < (getattr(feature, "num_classes", 0) or 0) <= 256
    )
    return np.uint8 if is_byte else np.int32


def load_stock(name: str, split: str, directory: Path | None) -> Arrays:
    """Load images and labels of one of TFDS's own sets.

    They are cached, else decoded, else built where TensorFlow is installed.

    Raises:
      ValueError: TFDS has no set of that name, or it is not a set of images of one
        size.
      DataUnavailableError: it is not prepared and cannot be.
    """
    home = data_dir()
    try:
        builder = read_only_builder.builder_from_files(name, data_dir=home)
    except tfds.core.DatasetNotFoundError:
        builder = _build_stock(name, home, directory)
    try:
        return cached(Path(builder.data_dir), split, lambda: read(builder, split))
    except ImportError as error:
        raise _needs_extra(name, f"cannot be decoded without {error.name}") from error


def _build_stock(name: str, home: Path, directory: Path | None) -> _Builder:
    try:
        builder = tfds.builder(name, data_dir=home)
    except (tfds.core.DatasetNotFoundError, ValueError) as error:
        raise ValueError(
            f"there is no data set {name!r}, and TFDS has none of that name; choose "
            f"from {sorted(CATALOGUE)}, or name {LAYOUTS}."
        ) from error
    if not _has_tensorflow():
        raise _needs_extra(
            name,
            f"is not prepared in {home}, and TFDS builds it with TensorFlow only",
        )
    missing = [
        url
        for url, info in (builder.url_infos or {}).items()
        if directory is None or not (directory / info.filename).is_file()
    ]
    if missing:
        check_reachable(name, missing[0])
    # Files extracted from archives are known by name only, so each set has a folder of
    # its own for them.
    downloads = (
        home / "downloads" / "vaejax" / re.sub(r"\W", "_", builder.info.full_name)
    )
    try:
        _prepare(builder, downloads, directory)
    # Each builder has errors of its own.
    except Exception as error:
        raise unavailable(name, f"TFDS cannot build it ({error})") from error
    return builder


def _has_tensorflow() -> bool:
    return importlib.util.find_spec("tensorflow") is not None


def _needs_extra(name: str, why: str) -> DataUnavailableError:
    return DataUnavailableError(
        f"{name} {why}: pip install 'vaejax[tfds]', or choose a set that needs none "
        f"from {sorted(CATALOGUE)}."
    )
