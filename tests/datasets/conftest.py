"""Fixtures of the tests of data sets."""

import functools
import http.server
import threading

import pytest
from support import image_files
from support.image_files import TWO, official, random_arrays, write_idx


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
