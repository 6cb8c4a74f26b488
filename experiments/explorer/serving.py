"""The server of the page, to this machine alone; every request is answered.

A request that makes no sense, and a decoder that fails, get a JSON object with the
`error` in words.
"""

import json
import sys
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np

# Seconds that a connection may be silent.
SILENCE = 20
# Bytes of a request that are read, and that are read over for the answer to arrive.
LARGEST_BODY, READ_OVER = 2**20, 2**26


class BadRequest(Exception):
    """A request that cannot be met; it has a status and a reason."""

    def __init__(self, status: int, reason: str):
        super().__init__(reason)
        self.status = status


class _Handler(BaseHTTPRequestHandler):
    """GET of the page at /, POST of a latent to /decode."""

    timeout = SILENCE
    page: bytes
    dimensions: int
    decode: Callable[[np.ndarray], np.ndarray]

    def handle(self) -> None:
        with suppress(ConnectionError):  # a browser that has gone
            super().handle()

    def do_GET(self) -> None:
        try:
            self._check_local()
            if self.path != "/":
                raise BadRequest(404, "there is only /")
        except BadRequest as error:
            self._answer_error(error.status, str(error))
        else:
            self._answer(200, "text/html; charset=utf-8", self.page)

    def do_POST(self) -> None:
        try:
            body = self._body()
            self._check_local()
            if self.path != "/decode":
                raise BadRequest(404, "there is only /decode")
            z = _latent(body, self.dimensions)
        except BadRequest as error:
            self._answer_error(error.status, str(error))
            return
        try:
            content = json.dumps(
                np.asarray(type(self).decode(z)).tolist(), allow_nan=False
            )
        # Whatever the model does, its page is told, and the server goes on.
        except Exception as error:
            reason = f"the decoder failed: {type(error).__name__}: {error}"
            print(f"warning: {reason}", file=sys.stderr)
            self._answer_error(500, reason)
        else:
            self._answer(200, "application/json", content.encode())

    def _body(self) -> bytes:
        text = self.headers.get("Content-Length", "")
        if not text.isdecimal() or len(text) > 18:
            raise BadRequest(411, f"Content-Length is {text!r}; give the bytes to read")
        length = int(text)
        if length > LARGEST_BODY:
            self._read_over(min(length, READ_OVER))
            raise BadRequest(
                413, f"Content-Length is {length}; at most {LARGEST_BODY} are read"
            )
        return self.rfile.read(length)

    def _read_over(self, length: int) -> None:
        """Read what is sent, since closing before would lose the answer."""
        while length > 0 and (part := self.rfile.read(min(length, 2**16))):
            length -= len(part)

    def _check_local(self) -> None:
        """Check that the request names this machine; guards against rebinding."""
        port = self.server.server_address[1]
        allowed = (f"127.0.0.1:{port}", f"localhost:{port}")
        if self.headers.get("Host", "") not in allowed:
            raise BadRequest(403, "only for this machine")

    def _answer_error(self, status: int, reason: str) -> None:
        content = json.dumps({"error": reason[:1000]}).encode()
        self._answer(status, "application/json", content)

    def _answer(self, status: int, kind: str, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *arguments: Any) -> None:
        """Log nothing, since every move of a slider is a request."""


def _latent(body: bytes, dimensions: int) -> np.ndarray:
    """The latent of a request."""
    try:
        z = np.asarray(json.loads(body)["z"], np.float32)
    # Nested too deeply, or no JSON, or no numbers.
    except (RecursionError, ValueError, TypeError, KeyError, OverflowError) as error:
        raise BadRequest(400, f"{type(error).__name__}: {error}") from error
    if z.shape != (dimensions,) or not np.isfinite(z).all():
        raise BadRequest(400, f"POST {dimensions} finite numbers as z to /decode")
    return z


def server(
    text: str, decode: Callable[[np.ndarray], np.ndarray], dimensions: int, port: int
) -> ThreadingHTTPServer:
    """Return a server of the page at / that decodes at /decode, on loopback alone.

    Args:
      text: the page.
      decode: the decoder, `[dimensions] -> [pixels]`.
      dimensions: the number of latents.
      port: the port; 0 takes a free one.
    """
    attributes = {
        "page": text.encode(),
        "dimensions": dimensions,
        "decode": staticmethod(decode),
    }
    handler = type("Handler", (_Handler,), attributes)
    return ThreadingHTTPServer(("127.0.0.1", port), handler)
