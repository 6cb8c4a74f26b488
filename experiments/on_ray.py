"""Any program that trains, on a Ray cluster.

Each worker is one process of the run; Ray starts them, shows the metrics of each epoch,
and starts all again when one dies, from the last checkpoint. Every node needs this
checkout at the same path with its environment, and the folder of the run on a file
system that all share. Options of the program stand at the end, after `--`.

Command: python -m experiments.on_ray mnist --workers 2 --out /shared/run -- --epochs 20
"""

import dataclasses
import importlib.util
import socket
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import tyro

from experiments import harness
from experiments.harness import UsageError, cli, distributed, run
from experiments.harness.config import NonNegativeInt, check_numbers, check_options
from experiments.harness.programs import Program, load_program, program_of_command

ABOUT = harness.About(
    what="any program on a Ray cluster, restarted when a worker dies",
    paper="",
    cost="that of the program",
    expected="",
)

ROOT = Path(__file__).parents[1]


@dataclasses.dataclass(frozen=True)
class Config:
    program: Annotated[str, tyro.conf.Positional]
    """Name of a program that trains."""
    out: Path
    """Folder of the run, shared by all nodes; a run that is in it is continued."""
    workers: int = 1
    """Processes of the run."""
    cpus: int = 1
    """Processors of each worker."""
    gpus: NonNegativeInt = 0
    """GPUs of each worker."""
    max_failures: NonNegativeInt = 3
    """Times that the workers are started again after one of them died."""
    address: str | None = None
    """Address of the cluster, such as auto; by default one is started on this machine.
    """
    options: Annotated[tuple[str, ...], tyro.conf.Suppress] = ()
    """Options of the program; they are given after `--`."""


def launch(config: Config) -> None:
    """Run the program on the workers, to its end.

    Raises:
      UsageError: Ray is not installed, or an option cannot be used.
    """
    if importlib.util.find_spec("ray") is None:
        raise UsageError("ray is not installed: install the extra ray.")
    program = program_of_command(config.program)
    check_numbers(config)
    check_options(_parsed(program, list(config.options)))

    import ray
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.v2.jax import JaxTrainer
    from ray.train.v2.jax.config import JaxConfig

    ray.init(address=config.address, log_to_driver=True)
    out = config.out.absolute()
    trainer = JaxTrainer(
        work,
        train_loop_config=dataclasses.asdict(config) | {"out": str(out)},
        # The program joins its processes itself, on CPUs as on accelerators.
        jax_config=JaxConfig(),
        scaling_config=ScalingConfig(
            num_workers=config.workers,
            use_gpu=config.gpus > 0,
            resources_per_worker={"CPU": config.cpus, "GPU": config.gpus},
        ),
        run_config=RunConfig(
            name=out.name,
            storage_path=str(out.with_name(f"{out.name}_ray")),
            failure_config=FailureConfig(max_failures=config.max_failures),
            worker_runtime_env={"env_vars": {"PYTHONPATH": str(ROOT)}},
        ),
    )
    trainer.fit()


def work(given: dict[str, Any]) -> None:
    """Run the program in one worker, from the start or from its last checkpoint."""
    from ray import train
    from ray.train.collective import broadcast_from_rank_zero

    context = train.get_context()
    rank, size = context.get_world_rank(), context.get_world_size()
    words = [*given["options"], "--out", given["out"]]
    # One worker decides for all, before another one writes the folder.
    address, begun = broadcast_from_rank_zero(
        (_free_address(), (Path(given["out"]) / "config.json").exists())
    )
    if begun:
        words.append("--resume")
    if size > 1:
        words += ["--distributed", f"{address},{size},{rank}"]
    program = load_program(given["program"])
    config = _parsed(program, words)
    distributed.join(config.distributed)
    config = cli.as_saved(program.name, config, partial(_parsed, program, words))
    run.run(program, config, on_epoch=_report, by_all=True)


def _report(row: dict[str, Any]) -> None:
    """Show the means over members of a line of metrics; every worker has to."""
    from ray import train

    numbers = {name: row[name] for name in ("epoch", "step", "seconds")}
    for part in ("train", "test"):
        values = row.get(part, {}).get("loss") or row.get(part, {}).get("negative_elbo")
        if values and None not in values:
            numbers[f"{part}_loss"] = sum(values) / len(values)
    train.report(numbers)


def _parsed(program: Program, words: list[str], **options: Any) -> Any:
    return tyro.cli(program.config_type, args=words, prog="on_ray --", **options)


def _free_address() -> str:
    """Return an address of this node that nothing listens on yet."""
    host = socket.gethostbyname(socket.gethostname())
    with socket.socket() as probe:
        probe.bind((host, 0))
        return f"{host}:{probe.getsockname()[1]}"


if __name__ == "__main__":
    cli.around(Config, launch)
