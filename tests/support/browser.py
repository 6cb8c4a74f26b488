"""Headless Chromium, driven over its debugging pipe: no other library, no port."""

import json
import os
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))),
    None,
)

# By way of descriptors that neither is, or one could overwrite the other.
_RENUMBER = """
import os, sys
copies = [os.dup2(int(one), 30 + i) for i, one in enumerate(sys.argv[1:3])]
for place, descriptor in enumerate(copies):
    os.dup2(descriptor, 3 + place)
os.execv(sys.argv[3], sys.argv[3:])
"""


class Browser:
    """One page; a context manager. JSON messages go to descriptor 3 of the browser and
    come from 4, each ended by 0.
    """

    def __init__(self, profile: Path):
        read_theirs, self._write = os.pipe()
        self._read, write_theirs = os.pipe()

        options = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
        ]
        options += [
            "--remote-debugging-pipe",
            f"--user-data-dir={profile}",
            "about:blank",
        ]
        # A program of its own gives the descriptors their numbers: a process of many
        # threads must not after a fork.
        self._process = subprocess.Popen(
            [
                sys.executable,
                "-c",
                _RENUMBER,
                str(read_theirs),
                str(write_theirs),
                CHROMIUM,
                *options,
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(read_theirs, write_theirs),
        )
        os.close(read_theirs)
        os.close(write_theirs)
        self._rest, self._number, self._session = b"", 0, None
        try:
            pages = self._ask("Target.getTargets")["targetInfos"]
            target = next(page["targetId"] for page in pages if page["type"] == "page")
            self._session = self._ask(
                "Target.attachToTarget", targetId=target, flatten=True
            )["sessionId"]
        except BaseException:
            self._process.kill()
            self._process.wait()
            raise

    def __enter__(self) -> "Browser":
        return self

    def __exit__(self, *_: Any) -> None:
        os.close(self._write)
        os.close(self._read)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def open(self, url: str) -> None:
        self._ask("Page.navigate", url=url)
        self.wait("document.readyState === 'complete'")

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression, awaited where it is a promise."""
        found = self._ask(
            "Runtime.evaluate",
            expression=expression,
            returnByValue=True,
            awaitPromise=True,
        )
        if "exceptionDetails" in found:
            raise AssertionError(
                found["exceptionDetails"].get("exception", {}).get("description", found)
            )
        return found["result"].get("value")

    def wait(self, condition: str, seconds: float = 60) -> None:
        end = time.monotonic() + seconds
        while not self.evaluate(condition):
            assert time.monotonic() < end, (
                f"{condition} did not come about in {seconds} s"
            )
            time.sleep(0.05)

    def _ask(self, method: str, **params: Any) -> dict[str, Any]:
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        message |= {"sessionId": self._session} if self._session else {}
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return answer["result"]

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._read], [], [], 60)
            assert ready, "the browser has said nothing for a minute"
            part = os.read(self._read, 2**16)
            assert part, "the browser has ended"
            self._rest += part
        message, _, self._rest = self._rest.partition(b"\0")
        return json.loads(message)
