"""The image sets that can be built here: what each is, its official files, and how
these become arrays.

To add one: a `Source` in `SOURCES`. A function that parses is given the files' paths by
name and returns every split.
"""

import gzip
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

# Of each split its images, `uint8 [examples, height, width]`, and its labels, `uint8
# [examples, ...]` or None.
Splits = dict[str, tuple[np.ndarray, np.ndarray | None]]


class File(NamedTuple):
    """An official file.

    Attributes:
      name: as its authors call it.
      url: where it is downloaded from; None where it can only be supplied.
      sha256: of the file; None where it is not known: then only the arrays in it are
        checked.
    """

    name: str
    url: str | None = None
    sha256: str | None = None


class Source(NamedTuple):
    """An image set that is built from its official files.

    Attributes:
      what: one line for the catalogue.
      shape: of one image.
      splits: number of examples of each, in the order in which they are prepared.
      license: under which its authors give it.
      homepage: where it is described.
      files: which are needed; one tuple is enough, and only the first is downloaded.
      parse: paths of such a tuple, by name -> the splits.
      label_shape: of one example's label; None where there are no labels.
      tested: whether the real data were loaded, and not only made-up files of their
        format.
    """

    what: str
    shape: tuple[int, ...]
    splits: Mapping[str, int]
    license: str
    homepage: str
    files: tuple[tuple[File, ...], ...]
    parse: Callable[[Mapping[str, Path]], Splits]
    label_shape: tuple[int, ...] | None = ()
    tested: bool = False


def parse_idx(raw: bytes) -> np.ndarray:
    """The array in an idx file: two zero bytes, the type (8: unsigned byte), the number
    of axes, then each length.
    """
    if len(raw) < 4 or raw[:3] != b"\x00\x00\x08":
        raise ValueError("it is not an idx file of unsigned bytes")
    num_axes = raw[3]
    shape = np.frombuffer(raw, ">u4", num_axes, offset=4)
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * num_axes).reshape(shape)


_IDX_NAMES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


def _idx_files(url: str, *sha256: str) -> tuple[tuple[File, ...], ...]:
    names = [f"{name}.gz" for name in _IDX_NAMES]
    return (
        tuple(
            File(name, f"{url}/{name}", sha)
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
    """There is no official split. The frames of a film resemble their neighbors, so
    that a split by order measures another thing than the random one that is usual:
    1,565 / 200 / 200, here drawn once and each in the film's order.
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
    """An image a line, 784 digits 0 or 1, each followed by one space or the end of the
    line.
    """
    characters = np.fromfile(path, np.uint8).reshape(-1, 28, 28, 2)
    pixels = characters[..., 0] - np.uint8(ord("0"))
    if pixels.max() > 1 or np.any(characters[..., 1] > ord(" ")):
        raise ValueError("it is not digits 0 and 1 with one space between them")
    return pixels * np.uint8(255)


def _parse_omniglot(paths: Mapping[str, Path]) -> Splits:
    """Gray values, rounded to 1/255; each example a column, its pixels by columns; the
    label is the alphabet.
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
    """Each image by columns, 1 as in the file; labels count from 0."""
    data = _load_mat(paths["caltech101_silhouettes_28_split1.mat"])
    return {
        split: (
            _columns_first(_to_uint8(data[f"{name}_data"])),
            (data[f"{name}_labels"].reshape(-1) - 1).astype(np.uint8),
        )
        for split, name in zip(_THREE, ("train", "val", "test"), strict=True)
    }


def _parse_dsprites(paths: Mapping[str, Path]) -> Splits:
    """Binary images; the label is the classes of the six factors: color, shape, scale,
    orientation, x and y.
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

SOURCES: dict[str, Source] = {
    "mnist": Source(
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
    "fashion_mnist": Source(
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
    "kmnist": Source(
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
    "frey_faces": Source(
        what="the faces of one film, without labels (Roweis, Saul & Hinton 2002); a random split of our own",
        shape=(28, 20),
        splits={"train": 1565, "validation": 200, "test": 200},
        license="none: to be loaded, not passed on",
        homepage="https://cs.nyu.edu/~roweis/data.html",
        files=(
            (
                File(
                    "frey_rawface.mat",
                    "https://cs.nyu.edu/~roweis/data/frey_rawface.mat",
                ),
            ),
            (File("frey_faces.npz"),),
        ),
        parse=_parse_frey_faces,
        label_shape=None,
        tested=True,
    ),
    "binarized_mnist": Source(
        what="digits binarized once, without labels (Larochelle & Murray 2011)",
        shape=(28, 28),
        splits={"train": 50_000, "validation": 10_000, "test": 10_000},
        license="not stated",
        homepage="http://www.cs.toronto.edu/~larocheh/public/datasets/binarized_mnist/",
        files=(
            tuple(
                File(
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
    "omniglot": Source(
        what="characters of 50 alphabets, gray, at 28x28 (Lake et al. 2015; the file of Burda et al. 2016)",
        shape=(28, 28),
        splits={"train": 24_345, "test": 8_070},
        license="MIT (the characters)",
        homepage="https://github.com/yburda/iwae",
        files=(
            (
                File(
                    "chardata.mat",
                    "https://github.com/yburda/iwae/raw/master/datasets/OMNIGLOT/chardata.mat",
                ),
            ),
        ),
        parse=_parse_omniglot,
    ),
    "caltech101_silhouettes": Source(
        what="binary outlines of objects of 101 classes (Marlin et al. 2010)",
        shape=(28, 28),
        splits={"train": 4_100, "validation": 2_264, "test": 2_307},
        license="not stated",
        homepage="https://people.cs.umass.edu/~marlin/data.shtml",
        files=(
            (
                File(
                    "caltech101_silhouettes_28_split1.mat",
                    "https://people.cs.umass.edu/~marlin/data/caltech101_silhouettes_28_split1.mat",
                ),
            ),
        ),
        parse=_parse_caltech101,
    ),
    "dsprites": Source(
        what="binary sprites of six factors, the classes of which are the labels (Matthey et al. 2017); no split",
        shape=(64, 64),
        splits={"train": 737_280},
        license="Apache-2.0",
        homepage="https://github.com/google-deepmind/dsprites-dataset",
        files=(
            (
                File(
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
