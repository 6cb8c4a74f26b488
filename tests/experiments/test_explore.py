"""The page of a model: its operations beside JAX's, in Node and in a browser, and its
server.
"""

import base64
import json
import shutil
import socket
import subprocess
import threading
import urllib.error
import urllib.request
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from support.browser import CHROMIUM, Browser
from support.programs import SMALL, images, status_of, users_settings
from support.prototypes import hierarchical

import vaejax
from experiments import explore
from experiments.explorer import in_page, serving
from experiments.harness import UsageError, cli
from vaejax import latent

NODE = shutil.which("node")
SCRIPT = Path(explore.__file__).parent / "explorer" / "explore.js"
VAE = vaejax.gaussian_vae(
    latent_size=3, encoder=vaejax.MLP((8,)), decoder=vaejax.MLP((8,), (6, 4))
)
PARAMS = jax.jit(VAE.init)(jax.random.key(0), jnp.zeros((6, 4)))
# Weights large enough for a slider to show.
PARAMS = PARAMS | {"decoder": jax.tree.map(lambda leaf: 4 * leaf, PARAMS["decoder"])}
XS = jax.random.bernoulli(jax.random.key(1), 0.5, (40, 6, 4)).astype(jnp.float32)
MATRIX = jax.random.normal(jax.random.key(2), (4, 5))

FUNCTIONS = {
    "arithmetic": lambda x: (
        (x + 1) * x / (jnp.square(x) + 2)
        - jnp.maximum(x, 0.5) ** 3
        + jnp.minimum(x, 0.1)
    ),
    "transcendental": lambda x: (
        jnp.exp(-x) + jnp.log1p(jnp.abs(x)) * jnp.tanh(x) + jnp.sin(x) * jnp.expm1(x)
    ),
    "sigmoids": lambda x: (
        jax.nn.sigmoid(x) + jax.nn.softplus(x) + jax.nn.relu(x) + jax.nn.silu(x)
    ),
    "roots": lambda x: (
        jnp.sqrt(jnp.abs(x)) + jax.lax.rsqrt(1 + x * x) + jax.lax.erf(x) + jnp.sign(x)
    ),
    "choices": lambda x: (
        jnp.where(x > 0.2, x, -2 * x) + jnp.where(x == x, jnp.floor(x), 0)
    ),
    "vector by matrix": lambda x: x.ravel()[:4] @ MATRIX,
    "matrix by matrix": lambda x: jnp.tensordot(x, MATRIX, axes=[[0], [0]]),
    "matrix by its other axis": lambda x: MATRIX.T @ x,
    "shapes": lambda x: jnp.concatenate(
        [x.T.reshape(4, 3), x.reshape(4, 3)[:, ::-1][::2][:2]]
    )[None, 1:, :2],
    "broadcasts": lambda x: x[:, None] + jnp.broadcast_to(x[:1, :, None], (4, 3, 3)),
    "padding": lambda x: jnp.pad(x, ((1, 2), (0, 1)), constant_values=7.0),
    "sums": lambda x: (
        x.sum(0)[None] + x.max(1)[:, None] * x.min() + jax.nn.softmax(x, axis=0)
    ),
    "parts": lambda x: jnp.stack(jnp.split(x, 2, axis=0)[::-1]),
    "a call": lambda x: jax.jit(lambda y: jax.nn.gelu(y) + 1)(x),
    "a stride": lambda x: jax.lax.slice(x, (0, 1), (4, 3), (2, 1)),
    "truth": lambda x: jnp.where(x.astype(bool) & (0.3 * x).astype(bool), x, 7.0),
    "a custom derivative of constants": lambda x: x * jax.nn.relu(MATRIX)[:, :3],
    "integers": lambda x: (
        jnp.argmax(jnp.arange(3)) + (3 * x).astype(jnp.int32).astype(jnp.float32)
    ),
}


def in_node(program, x):
    """Run a program in the page's script."""
    code = f"""
    const {{compile}} = require({json.dumps(str(SCRIPT))});
    const {{program, x, shape}} = JSON.parse(require("fs").readFileSync(0));
    const {{shape: found, data}} =
        compile(program)({{shape, data: Float32Array.from(x)}});
    console.log(JSON.stringify({{shape: found, data: Array.from(data)}}));
    """
    given = json.dumps(
        {"program": program, "x": np.ravel(x).tolist(), "shape": np.shape(x)}
    )
    done = subprocess.run(
        [NODE, "-e", code], input=given, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    return np.array(found["data"], float).reshape(found["shape"])


@pytest.mark.slow
@pytest.mark.skipif(NODE is None, reason="node is not installed")
@pytest.mark.parametrize("name", FUNCTIONS)
def test_operations_are_those_of_jax(name):
    x = jax.random.normal(jax.random.key(3), (4, 3))
    with users_settings():
        expected = FUNCTIONS[name](x)
        program = in_page.program_of(FUNCTIONS[name], x)
    np.testing.assert_allclose(in_node(program, x), expected, rtol=2e-6, atol=2e-6)


def test_what_does_not_depend_on_the_input_is_computed_at_once():
    program = in_page.program_of(lambda x: x * jnp.sum(jnp.sort(MATRIX)), jnp.zeros(3))
    assert [operation["name"] for operation in program["operations"]] == ["mul"]
    twice = in_page.program_of(lambda x: x @ MATRIX @ MATRIX.T @ MATRIX, jnp.zeros(4))
    assert sum(constant["shape"] == [4, 5] for constant in twice["constants"]) == 1


@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("sort", jnp.sort),
        ("scan", lambda x: jax.lax.fori_loop(0, 5, lambda _, y: 1.5 * y, x)),
        ("while", lambda x: jax.lax.while_loop(lambda y: y[0] < 9, lambda y: y + 1, x)),
        (
            "reduce",
            lambda x: jax.lax.reduce(x, np.float32(1), lambda a, b: a * b + 1, (0,)),
        ),
        ("div", lambda x: x.astype(jnp.int32) // 2),
    ],
)
def test_an_operation_that_the_page_does_not_know_is_named(name, function):
    with users_settings(), pytest.raises(in_page.NotInPage, match=f"operation {name} "):
        in_page.program_of(function, jnp.zeros(3))


def test_a_decoder_too_large_for_a_page_is_refused(monkeypatch):
    monkeypatch.setattr(explore, "MOST_BYTES", 100)
    with pytest.raises(in_page.NotInPage, match="MiB of constants"):
        explore.program_of(lambda z: z @ jnp.ones((3, 50)), 3)


@pytest.fixture(scope="module")
def data_and_decoder():
    with users_settings():
        return explore.page_data(
            VAE,
            PARAMS,
            jax.random.key(4),
            XS,
            labels=np.arange(40) % 3,
            num_examples=20,
            title="a <b> & c",
        )


def test_the_page_has_the_codes_and_says_which_latents_are_used(data_and_decoder):
    data, decode = data_and_decoder
    codes = np.frombuffer(base64.b64decode(data["codes"]), "<f4").reshape(20, 3)
    expected = vaejax.embed(VAE, PARAMS, XS[np.array(data["indices"])])
    np.testing.assert_allclose(codes, expected, rtol=1e-5, atol=1e-6)
    assert sorted([one["index"] for one in data["latents"]] + data["unused"]) == [
        0,
        1,
        2,
    ]
    assert all(one["low"] <= codes[:, one["index"]].min() for one in data["latents"])
    np.testing.assert_allclose(
        decode(codes[0]), VAE.decode(PARAMS, codes[0]).mean.ravel(), rtol=1e-5
    )
    text = explore.page(data, None)
    assert "<title>a &lt;b> &amp; c</title>" in text and text.count("<script") == 3


def test_a_hierarchy_is_decoded_from_its_flat_values():
    vae = hierarchical()
    params = vae.init(jax.random.key(0), jnp.zeros((3, 4)))
    like = latent.draw(jax.random.key(1), vae.prior(params))
    decode = explore.flat_decoder(vae, params, like)
    flat, _ = ravel_pytree(latent.values(like))
    np.testing.assert_allclose(
        decode(flat), jnp.ravel(vae.decode(params, like).mean), rtol=1e-5
    )


PICTURE = (
    "Array.from(document.getElementById('decoded').getContext('2d')"
    ".getImageData(0, 0, 4, 6).data)"
)


def drawn(browser):
    """The picture's red channel, in [0, 1]."""
    return np.array(browser.evaluate(PICTURE)).reshape(6, 4, 4)[..., 0] / 255


def move(browser, slider, value):
    number = browser.evaluate("document.body.dataset.drawn")
    browser.evaluate(
        f"{{const slider = document.getElementById('{slider}'); slider.value = {value};"
        "slider.dispatchEvent(new Event('input'))}"
    )
    browser.wait(f"document.body.dataset.drawn !== '{number}'")


def look(browser, decode):
    """Everything a reader does; each picture is JAX's, to a gray level."""
    state = partial(browser.evaluate, "Array.from(state.z)")
    browser.wait("document.body.dataset.drawn !== undefined")

    def as_jax():
        expected = np.asarray(decode(jnp.asarray(state(), jnp.float32))).reshape(6, 4)
        np.testing.assert_allclose(drawn(browser), expected, atol=1 / 255)
        return expected

    before = as_jax()
    for slider in ("z0", "z1", "z2"):
        move(
            browser,
            slider,
            browser.evaluate(f"document.getElementById('{slider}').max"),
        )
    assert np.max(np.abs(as_jax() - before)) > 0.1

    # Two clicks on the map, then half-way between.
    codes = []
    for example in (3, 11):
        number = browser.evaluate("document.body.dataset.drawn")
        browser.evaluate(
            f"""{{const [x, y] = toMap(codeOf({example}));
            const box = $("map").getBoundingClientRect();
            const scale = box.width / $("map").width;
            const [clientX, clientY] = [box.left + x * scale, box.top + y * scale];
            $("map").dispatchEvent(new MouseEvent("click", {{clientX, clientY}}))}}"""
        )
        browser.wait(f"document.body.dataset.drawn !== '{number}'")
        assert browser.evaluate("state.example") == example
        codes.append(np.array(state()))
        as_jax()
    move(browser, "t", 0.5)
    np.testing.assert_allclose(state(), (codes[0] + codes[1]) / 2, atol=1e-6)
    as_jax()
    number = browser.evaluate("document.body.dataset.drawn")
    browser.evaluate("$('prior').click()")
    browser.wait(f"document.body.dataset.drawn !== '{number}'")
    assert np.max(np.abs(np.array(state()) - codes[0])) > 1e-3
    as_jax()


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
def test_the_page_decodes_as_jax_does_from_a_file(data_and_decoder, tmp_path):
    data, decode = data_and_decoder
    # Every latent has a slider here, used or not.
    everything = data | {
        "unused": [],
        "latents": [
            {"index": j, "kl": 1.0, "low": -3.0, "high": 3.0} for j in range(3)
        ],
    }
    with users_settings():
        text = explore.page(everything, explore.program_of(decode, 3))
    (tmp_path / "explore.html").write_text(text)
    with Browser(tmp_path / "profile") as browser:
        browser.open((tmp_path / "explore.html").as_uri())
        look(browser, decode)


@contextmanager
def started(server):
    """The address of a server while it serves."""
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server.server_address
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def address(data_and_decoder):
    data, decode = data_and_decoder
    everything = data | {
        "unused": [],
        "latents": [
            {"index": j, "kl": 1.0, "low": -3.0, "high": 3.0} for j in range(3)
        ],
    }
    served = serving.server(explore.page(everything, None), decode, 3, 0)
    with started(served) as address:
        yield address


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
def test_the_page_decodes_as_jax_does_from_its_server(
    address, data_and_decoder, tmp_path
):
    with Browser(tmp_path / "profile") as browser:
        browser.open(f"http://127.0.0.1:{address[1]}/")
        look(browser, data_and_decoder[1])


def ask(address, path, body=None, **headers):
    request = urllib.request.Request(
        f"http://127.0.0.1:{address[1]}{path}", body, headers
    )
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def error_of(content):
    """The words of an answer that is an error."""
    answer = json.loads(content)
    assert list(answer) == ["error"]
    return answer["error"]


def test_the_server_answers_this_machine_and_what_makes_sense(
    address, data_and_decoder
):
    assert address[0] == "127.0.0.1"
    z = [0.5, -1.0, 2.0]
    status, answer = ask(address, "/decode", json.dumps({"z": z}).encode())
    assert status == 200
    np.testing.assert_allclose(
        json.loads(answer), data_and_decoder[1](jnp.array(z)), rtol=1e-5
    )
    assert ask(address, "/other")[0] == 404
    assert ask(address, "/other", b"{}")[0] == 404
    for body in (None, b"{}"):
        assert ask(address, "/", body, Host="elsewhere.example")[0] == 403


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (b"", 400, "JSONDecodeError"),
        (b"{", 400, "JSONDecodeError"),
        (b"\xff", 400, "UnicodeDecodeError"),
        (b"{}", 400, "KeyError: 'z'"),
        (b"[]", 400, "TypeError"),
        (b'{"z": [1, 2]}', 400, "3 finite numbers"),
        (b'{"z": [1, 2, NaN]}', 400, "3 finite numbers"),
        (b'{"z": "x"}', 400, "ValueError"),
        (b'{"z": [1, 2, 1' + b"0" * 400 + b"]}", 400, "OverflowError"),
        (b'{"z": ' + b"[" * 200_000, 400, "RecursionError"),
        (b'{"z": ' + b"[" * 80 + b"1" + b"]" * 80 + b"}", 400, "ValueError"),
        (b" " * (2**20 + 1), 413, "at most 1048576"),
        (b" " * 2**25, 413, "at most 1048576"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_requests_that_make_no_sense_are_answered(address, body, status, words):
    found, answer = ask(address, "/decode", body)
    assert found == status and words in error_of(answer)


@pytest.mark.parametrize("length", ["-1", "x", "9" * 5000])
def test_a_length_that_cannot_be_read_is_answered(address, length):
    with socket.create_connection(address, timeout=30) as connection:
        host = f"127.0.0.1:{address[1]}"
        connection.sendall(
            f"POST /decode HTTP/1.0\r\nHost: {host}\r\n"
            f"Content-Length: {length}\r\n\r\n".encode()
        )
        answer = b"".join(iter(partial(connection.recv, 2**16), b""))
    assert answer.startswith(b"HTTP/1.0 411 ")


def test_a_decoder_that_fails_is_answered_and_the_server_goes_on(capsys):
    def decode(z):
        if z[0] == 1:
            raise RuntimeError("out of memory")
        return np.full(4, np.nan) if z[0] == 2 else np.zeros(4)

    with started(serving.server("page", decode, 1, 0)) as address:
        for value, words in [(1, "RuntimeError: out of memory"), (2, "ValueError")]:
            body = json.dumps({"z": [value]}).encode()
            status, answer = ask(address, "/decode", body)
            assert status == 500
            assert f"the decoder failed: {words}" in error_of(answer)
        assert ask(address, "/decode", b'{"z": [0]}') == (200, b"[0.0, 0.0, 0.0, 0.0]")
    assert capsys.readouterr().err.count("the decoder failed") == 2


@pytest.mark.parametrize(
    "sent",
    [b"", b"GET", b"POST /decode HTTP/1.0\r\nContent-Length: 9\r\n\r\n{"],
    ids=["nothing", "half a line", "half a body"],
)
def test_a_silent_connection_is_closed(monkeypatch, sent):
    monkeypatch.setattr(serving._Handler, "timeout", 0.05)
    with (
        started(serving.server("page", np.cos, 1, 0)) as address,
        socket.create_connection(address, timeout=30) as connection,
    ):
        connection.sendall(sent)
        assert connection.recv(1) == b""


def test_a_port_that_cannot_be_used_is_one_line():
    for port in (-1, 99999):
        config = explore.Config(Path("none"), serve=True, port=port)
        with pytest.raises(UsageError, match=f"--port is {port}; give one from 0 to"):
            explore.explore(config)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UsageError, match=f"--port {port} cannot be used .*in use"):
            explore._serve("page", np.cos, 1, port)


@pytest.mark.slow
def test_the_program_writes_a_page_beside_the_run(tmp_path, capsys, monkeypatch):
    np.savez(
        tmp_path / "data.npz",
        train_images=images(100, 4, 4),
        test_images=images(20, 4, 4),
    )
    assert (
        status_of(
            [
                *SMALL,
                "--data",
                str(tmp_path / "data.npz"),
                "--out",
                str(tmp_path / "run"),
            ]
        )
        == 0
    )
    with users_settings():
        path = explore.explore(explore.Config(tmp_path / "run"))
    assert (
        path == tmp_path / "run/explore.html"
        and path.as_uri() in capsys.readouterr().out
    )
    assert "mnist, seed 0" in path.read_text()
    monkeypatch.setattr("sys.argv", ["explore", str(tmp_path / "none")])
    with pytest.raises(SystemExit) as stop:
        cli.look(explore.Config, explore.explore)
    assert stop.value.code == 2 and "holds no run" in capsys.readouterr().err
