"""Measurements in own processes: a program's start, and devices that share the host.

`python -m experiments.benchmarks.fresh first-step DATA STARTED` prints seconds by stage
as JSON, and ends. `python -m experiments.benchmarks.fresh epochs DATA DEVICES
BATCH_SIZE` prints "ready", then runs an epoch for every line of its input and prints
"done". Nothing heavy is imported above the functions: importing is part of what is
measured.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

ROOT = Path(__file__).parents[2]
NEEDS_CPU = (
    "not measured: it needs processes beside this one, which holds the accelerator"
)
STAGES = (
    "start Python",
    "import",
    "data and model",
    "initial state",
    "trace and lower",
    "compile",
    "first step",
)


def first_step(data: str, started: float) -> dict[str, float]:
    """Return the seconds of each of `STAGES`, up to the first finished training step.

    `started` is the moment of the start, as `time.time` gives it.
    """
    times = [started, time.time()]

    import jax

    import vaejax
    from experiments.harness.programs import load_program

    mnist = load_program("mnist")
    times.append(time.time())
    experiment = mnist.make_experiment(mnist.config_type(data=data))
    images = jax.device_put(experiment.train[: experiment.batch_size])
    times.append(time.time())
    init = jax.jit(
        partial(
            vaejax.init_train_state, experiment.vae, experiment.own_recipe.optimizer
        )
    )
    state = jax.block_until_ready(init(jax.random.key(0), experiment.example))
    times.append(time.time())
    step = jax.jit(vaejax.make_train_step(*experiment.own_recipe), donate_argnums=0)
    lowered = step.lower(state, images)
    times.append(time.time())
    compiled = lowered.compile()
    times.append(time.time())
    jax.block_until_ready(compiled(state, images))
    times.append(time.time())
    return {stage: times[i + 1] - times[i] for i, stage in enumerate(STAGES)}


def make_epoch(data: str, num_devices: int, batch_size: int) -> Callable[[], None]:
    """Return a function that runs one epoch, compiled already.

    Batches are laid out over devices that share the host's cores.
    """
    import jax

    from experiments.benchmarks import peers
    from experiments.harness.programs import load_program

    mnist = load_program("mnist")
    jax.config.update("jax_num_cpu_devices", num_devices)
    mesh = jax.make_mesh(
        (num_devices,), ("data",), axis_types=(jax.sharding.AxisType.Auto,)
    )
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    experiment = mnist.make_experiment(
        mnist.config_type(data=data, batch_size=batch_size)
    )
    state, run_epoch = peers.vaejax_epoch(experiment, batch_sharding=sharding)
    state, losses = jax.block_until_ready(run_epoch(state))
    if len(losses.sharding.device_set) != num_devices:
        raise RuntimeError(
            f"the epoch ran on {len(losses.sharding.device_set)} devices, not on "
            f"{num_devices}."
        )

    def epoch() -> None:
        nonlocal state
        state, _ = jax.block_until_ready(run_epoch(state))

    return epoch


def command(*arguments: object) -> list[str]:
    """Return the command of a process of this file."""
    return [sys.executable, "-m", "experiments.benchmarks.fresh", *map(str, arguments)]


def environment(**variables: str) -> dict[str, str]:
    """Return this process's environment, without a compilation cache.

    `variables` are added to it.
    """
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("JAX_COMPILATION_CACHE")
    }
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return inherited | {"PYTHONPATH": path} | variables


def run_first_step(data: str, cache: Path | None) -> dict[str, float]:
    """Run `first_step` in a fresh process.

    JAX's persistent compilation cache is used where a folder for it is given.

    Raises:
      RuntimeError: the process failed.
    """
    variables = {}
    if cache is not None:
        variables = {
            "JAX_COMPILATION_CACHE_DIR": str(cache),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        }
    process = subprocess.run(
        command("first-step", data, time.time()),
        env=environment(**variables),
        stdout=subprocess.PIPE,
        text=True,
    )
    if process.returncode:
        raise RuntimeError(
            f"{' '.join(process.args)} ended with status {process.returncode}."
        )
    return json.loads(process.stdout)


@contextmanager
def workers(
    data: str, device_counts: Sequence[int], batch_size: int
) -> Iterator[Mapping[int, subprocess.Popen]]:
    """Yield a process for each count of devices, compiled and ready for `run_epoch`."""
    processes: dict[int, subprocess.Popen] = {}
    try:
        for count in device_counts:
            processes[count] = subprocess.Popen(
                command("epochs", data, count, batch_size),
                env=environment(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            # One at a time: they share the cores that they compile on.
            _answer(processes[count])
        yield processes
    finally:
        for process in processes.values():
            process.kill()
            process.communicate()


def run_epoch(process: subprocess.Popen) -> None:
    """Let a worker run one epoch, and wait for it."""
    process.stdin.write("\n")
    process.stdin.flush()
    _answer(process)


def _answer(process: subprocess.Popen) -> None:
    if not process.stdout.readline():
        raise RuntimeError(
            f"{' '.join(process.args)} ended with status {process.wait()}."
        )


def main(what: str, data: str, *arguments: str) -> None:
    if what == "first-step":
        print(json.dumps(first_step(data, float(arguments[0]))))
        return
    epoch = make_epoch(data, *map(int, arguments))
    print("ready", flush=True)
    for _ in sys.stdin:
        epoch()
        print("done", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
