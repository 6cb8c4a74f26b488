"""The catalogue of image sets that are built here from their official files.

To add a set, add an `ImageSource` to `CATALOGUE`. Its `parse` function takes the paths
of the official files by name and returns the arrays of every split.
"""

import gzip
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vaejax.datasets._shared import Splits, parse_idx


class OfficialFile(NamedTuple):
    """An official file of an image set.

    Attributes:
      name: file name that its authors gave it.
      url: address from which it is downloaded; None where the user must supply it.
      sha256: SHA-256 of the file in hexadecimal; None where it is not known: then only
        the shapes of the arrays in it are checked.

    Example:
      >>> from vaejax import datasets
      >>> [file.name for file in datasets.CATALOGUE["frey_faces"].files[0]]
      ['frey_rawface.mat']
    """

    name: str
    url: str | None = None
    sha256: str | None = None


class ImageSource(NamedTuple):
    """An entry of the catalogue: an image set and how it is built.

    Attributes:
      what: description of the set in one line.
      shape: shape of one image.
      splits: number of examples of each split, in the order in which they are prepared.
      license: license under which its authors publish it.
      homepage: address of its description.
      files: alternatives; the files of any one of them suffice, and only the first is
        downloaded.
      parse: `paths -> splits`: from the paths of such files by name to images and
        labels by split.
      label_shape: shape of the label of one example; None where there are no labels.
      tested: true where the real data were loaded, false where only files made up in
        their format were.

    Example:
      >>> from vaejax import datasets
      >>> dsprites = datasets.CATALOGUE["dsprites"]
      >>> dsprites.shape, dsprites.splits, dsprites.label_shape
      ((64, 64), {'train': 737280}, (6,))
    """

    what: str
    shape: tuple[int, ...]
    splits: Mapping[str, int]
    license: str
    homepage: str
    files: tuple[tuple[OfficialFile, ...], ...]
    parse: Callable[[Mapping[str, Path]], Splits]
    label_shape: tuple[int, ...] | None = ()
    tested: bool = False


_IDX_NAMES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


def _idx_files(url: str, *sha256: str) -> tuple[tuple[OfficialFile, ...], ...]:
    names = [f"{name}.gz" for name in _IDX_NAMES]
    return (
        tuple(
            OfficialFile(name, f"{url}/{name}", sha)
            for name, sha in zip(names, sha256, strict=True)
        ),
    )


def _parse_idx_files(paths: Mapping[str, Path]) -> Splits:
    arrays = [
        parse_idx(gzip.decompress(paths[f"{name}.gz"].read_bytes()))
        for name in _IDX_NAMES
    ]
    return {"train": (arrays[0], arrays[1]), "test": (arrays[2], arrays[3])}


def _parse_frey_faces(paths: Mapping[str, Path]) -> Splits:
    """Parse the frames of the film and split them at random.

    There is no official split. The frames resemble their neighbors, so a split by order
    would measure something else than the usual random one. It has 1,565 / 200 / 200
    frames, was drawn once, and keeps the film's order within each part.
    """
    ((name, path),) = paths.items()
    if name == "frey_rawface.mat":
        images = _load_mat(path)["ff"].T.reshape(-1, 28, 20)
    else:
        with np.load(path) as arrays:
            images = arrays["image"]
    # The stream of RandomState is frozen.
    order = np.random.RandomState(0).permutation(len(images))
    parts = np.split(order, [len(order) - 400, len(order) - 200])
    return {
        split: (images[np.sort(part)], None)
        for split, part in zip(_THREE, parts, strict=True)
    }


_THREE = ("train", "validation", "test")
_AMAT = {
    split: f"binarized_mnist_{name}.amat"
    for split, name in zip(_THREE, ("train", "valid", "test"), strict=True)
}


def _parse_amat(paths: Mapping[str, Path]) -> Splits:
    return {split: (_read_amat(paths[name]), None) for split, name in _AMAT.items()}


def _read_amat(path: Path) -> np.ndarray:
    """Read one image per line: 784 digits 0 or 1, each with one character after it."""
    characters = np.fromfile(path, np.uint8).reshape(-1, 28, 28, 2)
    pixels = characters[..., 0] - np.uint8(ord("0"))
    if pixels.max() > 1 or np.any(characters[..., 1] > ord(" ")):
        raise ValueError("it is not digits 0 and 1 with one space between them")
    return pixels * np.uint8(255)


def _parse_omniglot(paths: Mapping[str, Path]) -> Splits:
    """Parse gray values, which are rounded to multiples of 1/255.

    In the file each example is a column and its pixels are in column order. The label
    is the alphabet.
    """
    data = _load_mat(paths["chardata.mat"])
    return {
        split: (
            _columns_first(_to_uint8(data[f"{prefix}data"].T)),
            data[f"{prefix}target"].argmax(0).astype(np.uint8),
        )
        for split, prefix in {"train": "", "test": "test"}.items()
    }


def _parse_caltech101(paths: Mapping[str, Path]) -> Splits:
    """Parse images stored in column order; labels are renumbered from 0.

    Outlines are 1 as in the file.
    """
    data = _load_mat(paths["caltech101_silhouettes_28_split1.mat"])
    return {
        split: (
            _columns_first(_to_uint8(data[f"{name}_data"])),
            (data[f"{name}_labels"].reshape(-1) - 1).astype(np.uint8),
        )
        for split, name in zip(_THREE, ("train", "val", "test"), strict=True)
    }


def _parse_dsprites(paths: Mapping[str, Path]) -> Splits:
    """Parse binary images.

    The label holds the classes of the six factors: color, shape, scale, orientation, x
    and y.
    """
    (path,) = paths.values()
    with np.load(path) as arrays:
        images = arrays["imgs"]
        images *= np.uint8(255)  # In place: they are 3 GB.
        return {"train": (images, arrays["latents_classes"].astype(np.uint8))}


def _load_mat(path: Path) -> dict[str, np.ndarray]:
    from scipy.io import loadmat  # Imported where it is used; JAX depends on it.

    return loadmat(path, appendmat=False)


def _to_uint8(intensity: np.ndarray) -> np.ndarray:
    if not (intensity.min() >= 0 and intensity.max() <= 1):
        raise ValueError(
            f"its intensities are in [{intensity.min()}, {intensity.max()}], not in "
            "[0, 1]"
        )
    return np.rint(intensity.astype(np.float64) * 255).astype(np.uint8)


def _columns_first(flat: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(flat.reshape(-1, 28, 28).transpose(0, 2, 1))


_SIXTY_TEN = {"train": 60_000, "test": 10_000}

#: Image sets by name, each built from its official files; "mnist" is bundled.
CATALOGUE: dict[str, ImageSource] = {
    "mnist": ImageSource(
        what="handwritten digits (LeCun, Cortes & Burges 1998); part of this package",
        shape=(28, 28),
        splits=_SIXTY_TEN,
        license="CC BY-SA 3.0",
        homepage="http://yann.lecun.com/exdb/mnist/",
        files=_idx_files(
            "https://storage.googleapis.com/cvdf-datasets/mnist",
            "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
            "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
            "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
            "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
        ),
        parse=_parse_idx_files,
        tested=True,
    ),
    "fashion_mnist": ImageSource(
        what="articles of clothing (Xiao, Rasul & Vollgraf 2017)",
        shape=(28, 28),
        splits=_SIXTY_TEN,
        license="MIT",
        homepage="https://github.com/zalandoresearch/fashion-mnist",
        files=_idx_files(
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",
            "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
            "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
            "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
            "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
        ),
        parse=_parse_idx_files,
        tested=True,
    ),
    "kmnist": ImageSource(
        what="handwritten Hiragana (Clanuwat et al. 2018)",
        shape=(28, 28),
        splits=_SIXTY_TEN,
        license="CC BY-SA 4.0",
        homepage="http://codh.rois.ac.jp/kmnist/",
        files=_idx_files(
            "http://codh.rois.ac.jp/kmnist/dataset/kmnist",
            "51467d22d8cc72929e2a028a0428f2086b092bb31cfb79c69cc0a90ce135fde4",
            "e38f9ebcd0f3ebcdec7fc8eabdcdaef93bb0df8ea12bee65224341c8183d8e17",
            "edd7a857845ad6bb1d0ba43fe7e794d164fe2dce499a1694695a792adfac43c5",
            "20bb9a0ef54c7db3efc55a92eef5582c109615df22683c380526788f98e42a1c",
        ),
        parse=_parse_idx_files,
    ),
    "frey_faces": ImageSource(
        what="the faces of one film, without labels (Roweis, Saul & Hinton 2002); "
        "a random split of our own",
        shape=(28, 20),
        splits={"train": 1565, "validation": 200, "test": 200},
        license="none: to be loaded, not passed on",
        homepage="https://cs.nyu.edu/~roweis/data.html",
        files=(
            (
                OfficialFile(
                    "frey_rawface.mat",
                    "https://cs.nyu.edu/~roweis/data/frey_rawface.mat",
                ),
            ),
            (OfficialFile("frey_faces.npz"),),
        ),
        parse=_parse_frey_faces,
        label_shape=None,
        tested=True,
    ),
    "binarized_mnist": ImageSource(
        what="digits binarized once, without labels (Larochelle & Murray 2011)",
        shape=(28, 28),
        splits={"train": 50_000, "validation": 10_000, "test": 10_000},
        license="not stated",
        homepage="http://www.cs.toronto.edu/~larocheh/public/datasets/binarized_mnist/",
        files=(
            tuple(
                OfficialFile(
                    name,
                    f"http://www.cs.toronto.edu/~larocheh/public/datasets/binarized_mnist/{name}",
                    sha256,
                )
                for name, sha256 in zip(
                    _AMAT.values(),
                    (
                        "ad693b29f94c14277b095f5238ddefbbdaaae0939789dd2f4f0205278cee3e4d",
                        "1de3d397c40fe8eeb33dafd4099a1f665ec01e96d9be234aaeeac8a34930e2e2",
                        "e6687bfea3f820c174f33b7865140b2a2dd2930ef786f35d45795fc193b5ab2c",
                    ),
                    strict=True,
                )
            ),
        ),
        parse=_parse_amat,
        label_shape=None,
    ),
    "omniglot": ImageSource(
        what="characters of 50 alphabets, gray, at 28x28 (Lake et al. 2015; the file "
        "of Burda et al. 2016)",
        shape=(28, 28),
        splits={"train": 24_345, "test": 8_070},
        license="MIT (the characters)",
        homepage="https://github.com/yburda/iwae",
        files=(
            (
                OfficialFile(
                    "chardata.mat",
                    "https://github.com/yburda/iwae/raw/master/datasets/OMNIGLOT/chardata.mat",
                ),
            ),
        ),
        parse=_parse_omniglot,
    ),
    "caltech101_silhouettes": ImageSource(
        what="binary outlines of objects of 101 classes (Marlin et al. 2010)",
        shape=(28, 28),
        splits={"train": 4_100, "validation": 2_264, "test": 2_307},
        license="not stated",
        homepage="https://people.cs.umass.edu/~marlin/data.shtml",
        files=(
            (
                OfficialFile(
                    "caltech101_silhouettes_28_split1.mat",
                    "https://people.cs.umass.edu/~marlin/data/caltech101_silhouettes_28_split1.mat",
                ),
            ),
        ),
        parse=_parse_caltech101,
    ),
    "dsprites": ImageSource(
        what="binary sprites of six factors, the classes of which are the labels "
        "(Matthey et al. 2017); no split",
        shape=(64, 64),
        splits={"train": 737_280},
        license="Apache-2.0",
        homepage="https://github.com/google-deepmind/dsprites-dataset",
        files=(
            (
                OfficialFile(
                    "dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz",
                    "https://github.com/google-deepmind/dsprites-dataset/raw/master/"
                    "dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz",
                ),
            ),
        ),
        parse=_parse_dsprites,
        label_shape=(6,),
    ),
}


def describe_catalogue() -> str:
    """Describe the catalogue as a table of text.

    The columns are the name, the size of an image, the examples of each split, "tested"
    where the official files were loaded once, and a description with the license.

    Returns:
      One line per data set.

    Example:
      >>> from vaejax import datasets
      >>> table = datasets.describe_catalogue().splitlines()
      >>> table[1].split()[:7]
      ['fashion_mnist', '28x28', '60,000', 'train', '/', '10,000', 'test']
    """
    rows = [
        (
            name,
            "x".join(map(str, source.shape)),
            " / ".join(f"{num:,} {split}" for split, num in source.splits.items()),
            "tested" if source.tested else "untested",
            f"{source.what}. License: {source.license}.",
        )
        for name, source in CATALOGUE.items()
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    widths[-1] = 0  # The last column needs no padding.
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        for row in rows
    )
