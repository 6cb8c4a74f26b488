"""Kills at random moments, most of them at writes: every folder that is left ends, when
it is resumed, with the parameters of the undisturbed run.

VAEJAX_KILLS is the number of kills, 8 by default, and VAEJAX_FIRST_KILL the number of
the first, which decides its moment.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from support.programs import ENVIRONMENT, ROOT, SMALL, npz

from experiments.harness import run_dir

FIRST = int(os.environ.get("VAEJAX_FIRST_KILL", "0"))
KILLS = range(FIRST, FIRST + int(os.environ.get("VAEJAX_KILLS", "8")))
# Runs spend their time on compiling: once for all, without optimizing.
COMPILED_ONCE = ENVIRONMENT | {
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
}
# A share of the kills come at a write or shortly after it, the others at any time.
AT_WRITES, LONGEST_DELAY = 0.7, 0.03
KILLED = {-9, -14}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork"),
]


class Killer:
    """The process that runs the program in its forks."""

    def __init__(self):
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "support.killing"],
            cwd=ROOT / "tests",
            env=COMPILED_ONCE,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, arguments, log, *, writes=0, delay=None):
        """Return the exit status of a run that dies `delay` seconds after a write."""
        request = {"arguments": list(map(str, arguments)), "log": str(log)}
        request |= {"writes": writes, "delay": delay}
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def close(self):
        self._process.stdin.close()
        self._process.wait(60)


class Undisturbed(NamedTuple):
    command: list[str]
    digest: str
    num_writes: int
    seconds: float


@pytest.fixture(scope="module")
def killer():
    killer = Killer()
    yield killer
    killer.close()


@pytest.fixture(scope="module")
def undisturbed(killer, tmp_path_factory) -> Undisturbed:
    path = tmp_path_factory.mktemp("undisturbed")
    npz()(path)
    command = [*SMALL, "--epochs", "3", "--num-annealed", "0"]
    command += ["--data", str(path / "data.npz")]
    # The first compiles; the second has the times of those that are killed.
    for name in ("first", "second"):
        (path / name).mkdir()
        out, log, started = path / name / "run", path / "log", time.perf_counter()
        assert killer.run([*command, "--out", out], log) == 0, log.read_text()
    seconds = time.perf_counter() - started
    num_writes = int((path / "log.writes").read_text())
    assert num_writes > 30
    return Undisturbed(command, digest_of(out), num_writes, seconds)


def digest_of(path: Path) -> str:
    return json.loads((path / "manifest.json").read_text())["params_sha256"]


def moment(random: np.random.Generator, undisturbed: Undisturbed) -> dict:
    if random.random() < AT_WRITES:
        delay = random.choice([0.0, random.uniform(0, LONGEST_DELAY)])
        writes = int(random.integers(1, undisturbed.num_writes + 1))
        return {"writes": writes, "delay": float(delay)}
    return {"writes": 0, "delay": random.uniform(0.01, undisturbed.seconds)}


@pytest.mark.parametrize(
    "number",
    [pytest.param(n, marks=pytest.mark.xdist_group(f"kills {n % 2}")) for n in KILLS],
)
def test_a_killed_run_ends_as_the_undisturbed_one(
    killer, undisturbed, tmp_path, number
):
    random = np.random.default_rng([17, number])
    out, log = tmp_path / "run", tmp_path / "log"
    start, resume = [*undisturbed.command, "--out", out], ["--resume", "--out", out]
    # Twice in a row sometimes: what was resumed is killed as well.
    for _ in range(int(random.integers(1, 3))):
        arguments = resume if out.exists() else start
        status = killer.run(arguments, log, **moment(random, undisturbed))
        assert status in KILLED | {0}, log.read_text()
    if out.exists():
        # Without --resume the command says so, and touches nothing.
        assert killer.run(start, log) == 2, log.read_text()
        assert "add --resume to continue it" in log.read_text()
    assert killer.run(resume if out.exists() else start, log) == 0, log.read_text()
    assert digest_of(out) == undisturbed.digest
    assert [row["epoch"] for row in run_dir.read_metrics(out)] == [1, 2, 3]
    assert "warning" not in log.read_text() and not (out / "run.lock").exists()
