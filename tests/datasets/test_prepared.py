"""Prepared sets: caches, files that are not the official ones, downloads, no network,
and TFDS's own sets.
"""

import functools
import gzip
import http.server
import io
import socket
import threading
import time

import numpy as np
import PIL.Image
import pytest
from support import image_files
from support.image_files import (
    TWO,
    assert_equal,
    idx,
    official,
    random_arrays,
    write_idx,
)

from vaejax import datasets
from vaejax.datasets import (
    DataUnavailableError,
    _array_cache,
    _official_files,
    _tfds_builders,
)


@pytest.fixture(autouse=True)
def data_dir(monkeypatch, tmp_path):
    """Nothing is prepared in the user's own folder, and no proxy stands before the
    loopback.
    """
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return tmp_path / "tfds"


@pytest.fixture
def shrink(monkeypatch):
    return functools.partial(image_files.shrink, monkeypatch)


@pytest.fixture
def fashion(tmp_path, shrink):
    """A small Fashion-MNIST: its arrays and the directory of its files."""
    arrays, directory = random_arrays(1, TWO, (28, 28)), official(tmp_path)
    write_idx(directory, arrays)
    shrink("fashion_mnist", TWO)
    return arrays, directory


def test_a_second_load_decodes_nothing(monkeypatch, fashion):
    arrays, directory = fashion
    datasets.load("fashion_mnist", directory=directory)

    for function in ("build", "read"):
        monkeypatch.delattr(_tfds_builders, function)
    assert_equal(datasets.load("fashion_mnist", directory=directory), arrays["train"])
    assert_equal(datasets.load("fashion_mnist"), arrays["train"])


def home_of(data_dir, name):
    return data_dir / _official_files.BUILDER / name / _official_files.VERSION


@pytest.mark.parametrize(
    "damage",
    [lambda raw: raw[:-100], lambda raw: b"", lambda raw: raw[:500] + b"?" + raw[501:]],
)
def test_a_damaged_cache_is_made_again(data_dir, fashion, damage):
    arrays, directory = fashion
    datasets.load("fashion_mnist", directory=directory)
    (cache,) = home_of(data_dir, "fashion_mnist").glob("*.npz")
    cache.write_bytes(damage(cache.read_bytes()))
    assert_equal(datasets.load("fashion_mnist"), arrays["train"])
    assert_equal(
        datasets.Dataset(*_array_cache.read_cache(cache.parent, "train")),
        arrays["train"],
    )


def test_a_cache_that_cannot_be_written_is_done_without(monkeypatch, data_dir, fashion):
    arrays, directory = fashion
    monkeypatch.setattr(
        np, "savez", functools.partial(raise_error, OSError("no space left"))
    )
    assert_equal(datasets.load("fashion_mnist", directory=directory), arrays["train"])
    assert not [
        path
        for path in home_of(data_dir, "fashion_mnist").iterdir()
        if path.suffix in (".npz", ".tmp")
    ]


def raise_error(error, *args, **kwargs):
    raise error


@pytest.mark.parametrize(
    "pattern", ["dataset_info.json", "features.json", "*-train.array_record*"]
)
@pytest.mark.parametrize("damage", ["removed", "emptied", "cut"])
def test_a_damaged_prepared_set_is_not_read(data_dir, fashion, pattern, damage):
    datasets.load("fashion_mnist", split="test", directory=fashion[1])
    (file,) = home_of(data_dir, "fashion_mnist").glob(pattern)
    raw = file.read_bytes()
    file.unlink()
    if damage != "removed":
        file.write_bytes(raw[: len(raw) // 2] if damage == "cut" else b"")
    with pytest.raises(
        DataUnavailableError,
        match="cannot be read .*; remove that folder to build it again",
    ) as caught:
        datasets.load("fashion_mnist")
    assert "\n" not in str(caught.value)


def test_a_folder_that_cannot_be_written_is_named(monkeypatch, tmp_path, fashion):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "file"))
    with pytest.raises(
        DataUnavailableError, match="cannot be prepared in .*file .*set TFDS_DATA_DIR"
    ):
        datasets.load("fashion_mnist", directory=fashion[1])


def test_other_files_than_those_prepared_are_noticed(tmp_path, fashion):
    datasets.load("fashion_mnist", directory=fashion[1])
    others = official(tmp_path, "others")
    write_idx(others, random_arrays(2, TWO, (28, 28)))
    with pytest.raises(
        DataUnavailableError,
        match="other files than those in .*others; remove it to build it again",
    ):
        datasets.load("fashion_mnist", directory=others)


def test_files_of_another_set_are_refused(tmp_path, data_dir):
    # Of the official names, but with the SHA-256 of the catalogue.
    write_idx(tmp_path, random_arrays(0, TWO, (28, 28)))
    with pytest.raises(
        DataUnavailableError,
        match="train-images-.* is not the official .* of fashion_mnist",
    ):
        datasets.load("fashion_mnist", directory=tmp_path)
    assert not home_of(data_dir, "fashion_mnist").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cannot be read"),
        (b"<html>", "cannot be read"),
        (gzip.compress(b"text"), "not an idx file"),
        (gzip.compress(idx(np.zeros((23, 28, 28), np.uint8)))[:-20], "cannot be read"),
        (gzip.compress(idx(np.zeros((23, 28, 28), np.uint8))[:-1]), "cannot be read"),
        (
            gzip.compress(idx(np.zeros((22, 28, 28), np.uint8))),
            r"uint8 \[23, 28, 28\], and is .*\[22, 28, 28\]",
        ),
    ],
    ids=["empty", "page", "no idx", "cut", "short", "fewer"],
)
def test_files_that_hold_something_else_are_refused(
    data_dir, fashion, content, message
):
    arrays, directory = fashion
    good = (directory / "train-images-idx3-ubyte.gz").read_bytes()
    (directory / "train-images-idx3-ubyte.gz").write_bytes(content)
    with pytest.raises(DataUnavailableError, match=message) as caught:
        datasets.load("fashion_mnist", directory=directory)
    assert "\n" not in str(caught.value)
    # Nothing half-made is left to be taken for the set.
    assert not home_of(data_dir, "fashion_mnist").exists()
    (directory / "train-images-idx3-ubyte.gz").write_bytes(good)
    assert_equal(datasets.load("fashion_mnist", directory=directory), arrays["train"])


def test_missing_files_and_directories_are_named(tmp_path, fashion):
    (fashion[1] / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(
        DataUnavailableError,
        match="lacks t10k-labels-idx1-ubyte.gz; fashion_mnist is built from",
    ):
        datasets.load("fashion_mnist", directory=fashion[1])
    with pytest.raises(
        DataUnavailableError,
        match="nowhere is not a directory; name the one that holds train-images",
    ):
        datasets.load("fashion_mnist", directory=tmp_path / "nowhere")


@pytest.fixture
def serve():
    """Serves a directory on the loopback; `truncate` announces more bytes than it
    sends.
    """
    servers = []

    def serve(directory, truncate=False):
        class Handler(http.server.SimpleHTTPRequestHandler):
            def log_message(self, *args):
                pass

            def send_header(self, keyword, value):
                if truncate and keyword == "Content-Length":
                    value = str(int(value) + 1000)
                super().send_header(keyword, value)

        server = http.server.ThreadingHTTPServer(
            ("127.0.0.1", 0), functools.partial(Handler, directory=directory)
        )
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_address[1]}"

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


def test_downloaded(fashion, shrink, serve):
    arrays, directory = fashion
    shrink("fashion_mnist", TWO, url=serve(directory))
    assert_equal(datasets.load("fashion_mnist", split="test"), arrays["test"])


def test_a_wrong_download_is_not_kept(data_dir, fashion, shrink, serve):
    arrays, directory = fashion
    name = "train-images-idx3-ubyte.gz"
    good = (directory / name).read_bytes()
    (directory / name).write_bytes(b"<html>Please log in</html>")
    shrink("fashion_mnist", TWO, url=serve(directory))
    with pytest.raises(DataUnavailableError, match="cannot be read"):
        datasets.load("fashion_mnist")
    assert not home_of(data_dir, "fashion_mnist").exists()
    (directory / name).write_bytes(good)
    assert_equal(datasets.load("fashion_mnist"), arrays["train"])


def test_a_partial_download_never_counts(data_dir, fashion, shrink, serve):
    shrink("fashion_mnist", TWO, url=serve(fashion[1], truncate=True))
    with pytest.raises(DataUnavailableError, match="download failed"):
        datasets.load("fashion_mnist")
    assert not home_of(data_dir, "fashion_mnist").exists()
    assert not list(data_dir.rglob("*.gz"))


def closed_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}"


@pytest.fixture
def silent():
    """An address that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def check_unreachable(name, *needed):
    started = time.monotonic()
    with pytest.raises(DataUnavailableError) as caught:
        datasets.load(name)
    assert time.monotonic() - started < 20
    message = str(caught.value)
    assert "\n" not in message
    for text in (
        "cannot be reached",
        "directory=",
        "--data-dir",
        'bundled "mnist"',
        *needed,
    ):
        assert text in message


@pytest.mark.parametrize(
    "name", [name for name in datasets.CATALOGUE if name != "mnist"]
)
def test_without_network_one_error_says_what_to_do(data_dir, shrink, name):
    shrink(name, datasets.CATALOGUE[name].splits, url=closed_port())
    check_unreachable(
        name, *[file.name for files in datasets.CATALOGUE[name].files for file in files]
    )
    assert not data_dir.exists()


def test_a_silent_server_is_given_up(monkeypatch, shrink, silent):
    monkeypatch.setattr(_official_files, "_PROBE_SECONDS", 0.5)
    shrink("fashion_mnist", TWO, url=silent)
    check_unreachable("fashion_mnist", "train-images-idx3-ubyte.gz")


def test_a_page_that_is_not_there_is_reported(tmp_path, shrink, serve):
    shrink("fashion_mnist", TWO, url=serve(official(tmp_path, "empty")))
    check_unreachable("fashion_mnist", "404")


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


@pytest.mark.parametrize("name", ["mnits", "", "no such set", "../mnist", "/tmp"])
def test_unknown_names_say_what_there_is(data_dir, name):
    with pytest.raises(
        ValueError, match="there is no data set .*choose from .*'fashion_mnist'"
    ) as caught:
        datasets.load(name)
    assert "\n" not in str(caught.value)
    assert not data_dir.exists()


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
