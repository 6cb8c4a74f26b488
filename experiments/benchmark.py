"""Speed of an epoch of the main job beside its floor and its peers, and by parts.

Everything compared runs in one process, in turn, round after round, since a shared
machine's speed drifts; the ratios of each round are what counts. The model is that of
experiments.mnist (784-400-20, Bernoulli), batch 128, Adam, binarization at each
access. The floor is the floating-point operations of a step's matrix products over the
best rate of matrix products measured in the same round. NumPyro and PyTorch are
measured where they are installed (the extra `bench`). Command: python -m
experiments.benchmark --json benchmark.json --plot benchmark.png
"""

import dataclasses
import datetime
import os
import platform
import statistics
import tempfile
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax

import vaejax
from experiments import harness
from experiments.benchmarks import fresh, parts, peers
from experiments.benchmarks.report import (
    FLOOR,
    cells,
    figure,
    interval,
    print_parts,
    print_products,
    print_throughput,
    table,
    write_figure,
)
from experiments.benchmarks.timing import (
    Product,
    Program,
    Times,
    make_probe,
    measure,
    ratios,
    spread,
    step_products,
)
from experiments.harness import UsageError, binary_images, cli, evaluation, run_dir
from experiments.harness.config import check_positive
from experiments.harness.members import Members
from experiments.harness.programs import load_program
from vaejax.base import Key, PyTree

ABOUT = harness.About(
    what="an epoch beside its floor and its peers, and where its time goes",
    paper="",
    cost="10 minutes on 2 cores",
    expected="an epoch takes 1.78 times the floor (1.62 to 2.29 over rounds)",
)

Section = Literal["epoch", "parts", "members", "marginal", "startup", "scaling"]
MEMBERS = (1, 4, 16)
BATCH_SIZES = (32, 128, 512, 2048)
DEVICES, SHARDED_BATCH_SIZE = (1, 2, 4, 8), 1024
STARTS = 3
NEEDS_CPU = (
    "not measured: it needs processes beside this one, which holds the accelerator"
)


@dataclasses.dataclass(frozen=True)
class Config:
    rounds: int = 7
    """Rounds of one epoch of each program, after one that is not counted."""
    sections: tuple[Section, ...] = (
        "epoch",
        "parts",
        "members",
        "marginal",
        "startup",
        "scaling",
    )
    """Sections to measure."""
    json: Path | None = None
    """File for every measured time."""
    plot: Path | None = None
    """PNG file for a figure of the sections `epoch` and `parts`."""
    num_samples: int = 5000
    """Importance samples per image in the section `marginal`."""
    num_images: int = 16
    """Test images in the section `marginal`."""
    data: str = "mnist"
    """Data set, as in experiments.mnist."""


class Bench(NamedTuple):
    """The main job, as every section measures it.

    Attributes:
      config: options of the benchmark.
      model: options of the main job.
      experiment: the main job.
      products: the matrix products of its step.
      probe: measures the rates of matrix products.
    """

    config: Config
    model: binary_images.Config
    experiment: harness.Experiment
    products: list[Product]
    probe: Callable[[], dict[str, float]]

    @property
    def flops_a_step(self) -> int:
        return sum(product.flops for product in self.products)


def make_bench(config: Config) -> Bench:
    """Return the main job as every section measures it."""
    # The rate decays over all the epochs that a row trains for, the first round's
    # included.
    mnist = load_program("mnist")
    model = mnist.config_type(epochs=config.rounds + 1, data=config.data)
    experiment = mnist.make_experiment(model)
    products = step_products(peers.layers(model, experiment), experiment.batch_size)
    return Bench(config, model, experiment, products, make_probe(products))


def record(
    seconds: Sequence[float], reference: Sequence[float], num_steps: int
) -> dict[str, Any]:
    """Return the content of one row of the JSON file."""
    relative = ratios(seconds, reference)
    return {
        "seconds": list(seconds),
        "seconds_median": statistics.median(seconds),
        "microseconds_a_step": 1e6 * statistics.median(seconds) / num_steps,
        "ratios": relative,
        "ratio": spread(relative)._asdict(),
    }


def floor_seconds(flops: float, times: Times) -> list[float]:
    """Return the time of that many operations at the best rate of each round."""
    return [flops / rate for rate in times.best_rates]


def epoch_section(bench: Bench) -> dict[str, Any]:
    """Measure an epoch, its floor, and the same epoch in other libraries."""
    steps = bench.experiment.steps_per_epoch
    rows = peers.programs(bench.model, bench.experiment)
    missing = {name: row for name, row in rows.items() if isinstance(row, str)}
    times = measure(
        {n: row for n, row in rows.items() if n not in missing},
        bench.config.rounds,
        bench.probe,
    )
    reference, losses = next(iter(times.seconds.values())), times.last_losses
    seconds = {FLOOR: floor_seconds(steps * bench.flops_a_step, times)} | times.seconds
    results = {
        name: record(values, reference, steps) for name, values in seconds.items()
    }
    for name, loss in losses.items():
        results[name]["last_loss"] = loss

    print_products(bench.products, times)
    lines = [
        [name, *cells(results[name]), f"{losses[name]:.2f}" if name in losses else ""]
        if name in results
        else [name, missing[name], "", "", ""]
        for name in [FLOOR, *rows]
    ]
    print(
        f"\nEpoch: {steps * bench.experiment.batch_size:,} images in {steps} steps of "
        f"{bench.experiment.batch_size}; "
        f"rounds: {bench.config.rounds}; the loss is the last epoch's mean, in nats "
        "per "
        "image"
    )
    print(table(["", "seconds", "us per step", "relative, by round", "loss"], lines))
    return {
        "steps": steps,
        "batch_size": bench.experiment.batch_size,
        "flops_a_step": bench.flops_a_step,
        "products": [
            product._asdict() | {"flops": product.flops} for product in bench.products
        ],
        "flops_a_second": times.rates,
        "rows": results,
        "not_measured": missing,
    }


def parts_section(bench: Bench) -> dict[str, Any]:
    """Measure the parts of an epoch.

    They are differences between programs of which each does one thing more.
    """
    steps = bench.experiment.steps_per_epoch
    times = measure(
        parts.programs(bench.model, bench.experiment), bench.config.rounds, bench.probe
    )
    floor = floor_seconds(steps * bench.flops_a_step, times)
    results = {
        FLOOR: record(floor, floor, steps)
        | {"fastest_microseconds": 1e6 * min(floor) / steps}
    }
    before, previous = [0.0] * bench.config.rounds, 0.0
    for name, seconds in times.seconds.items():
        # Of the fastest rounds: other work on the machine only ever adds time, often
        # more than a part takes; and their differences add up to the whole, which
        # medians of differences would not.
        fastest = 1e6 * min(seconds) / steps
        added = {
            "fastest_microseconds": fastest,
            "added_microseconds": fastest - previous,
            "added_by_round": [
                1e6 * (now - then) / steps
                for now, then in zip(seconds, before, strict=True)
            ],
        }
        results[name] = record(seconds, floor, steps) | added
        before, previous = seconds, fastest
    print_parts(results)
    return {"steps": steps, "rows": results, "flops_a_second": times.rates}


def members_section(bench: Bench) -> dict[str, Any]:
    """Measure the cost of a seed when several train in one program.

    A row trains over a tenth of an epoch.
    """
    images = bench.experiment.train[
        : max(len(bench.experiment.train) // 10, bench.experiment.batch_size)
    ]
    steps = len(images) // bench.experiment.batch_size
    programs = {
        str(number): peers.vaejax_epoch(
            bench.experiment, members=Members(0, number), images=images
        )
        for number in MEMBERS
    }
    times = measure(programs, bench.config.rounds)
    a_seed = {
        name: [value / int(name) for value in values]
        for name, values in times.seconds.items()
    }
    results = {
        name: record(values, a_seed["1"], steps) for name, values in a_seed.items()
    }
    print(f"\nSeeds trained in one program: cost of one of them, over {steps} steps")
    print(
        table(
            ["seeds", "seconds per seed", "us per step", "relative, by round"],
            [[n, *cells(results[n])] for n in results],
        )
    )
    return {"steps": steps, "rows": results}


def marginal_section(bench: Bench) -> dict[str, Any]:
    """Measure `log_marginal` of a few test images, as the evaluation maps it."""
    vae, num_samples = bench.experiment.vae, bench.config.num_samples
    images = jax.device_put(bench.experiment.test[: bench.config.num_images])
    params, keys = (
        peers.init_state(bench.experiment).params,
        jax.random.split(jax.random.key(0), len(images)),
    )

    def log_marginals(params: PyTree, keys: Key, images: PyTree) -> PyTree:
        def one(example: PyTree) -> PyTree:
            chunk_size = evaluation.NLL_CHUNK_SIZE
            return vaejax.log_marginal(
                vae, params, *example, num_samples=num_samples, chunk_size=chunk_size
            )

        return jax.lax.map(one, (keys, images), batch_size=evaluation.NLL_BATCH_SIZE)

    compiled = jax.jit(log_marginals).lower(params, keys, images).compile()
    programs = {
        "log_marginal": Program(
            None, lambda state: (state, compiled(params, keys, images))
        )
    }
    times = measure(programs, bench.config.rounds, bench.probe)
    first, second, *decoder = peers.layers(bench.model, bench.experiment)
    flops = 2 * len(images) * sum(i * o for i, o in [first, second])
    flops += 2 * len(images) * num_samples * sum(i * o for i, o in decoder)
    floor, seconds = floor_seconds(flops, times), times.seconds["log_marginal"]
    memory = getattr(compiled.memory_analysis(), "temp_size_in_bytes", None)
    print(f"\nlog_marginal: {len(images)} test images, {num_samples:,} samples each")
    print(
        f"  {interval(seconds, 3)} s; floor {interval(floor, 3)} s ({flops / 1e9:.1f} "
        "GFLOP)"
    )
    print(f"  {interval(ratios(seconds, floor))} times the floor, by round")
    # On CPU the process grows by more than the compiler reports: buffers within its
    # kernels are not in its figure.
    size = "not reported" if memory is None else f"{memory / 2**20:.1f} MiB"
    print(
        "  peak temporary memory by the compiler's account, without what its kernels "
        f"allocate: {size}"
    )
    row = record(seconds, floor, len(images))
    del row["microseconds_a_step"]
    return {
        "images": len(images),
        "num_samples": num_samples,
        "flops": flops,
        "floor_seconds": floor,
    } | {
        "temporary_bytes": memory,
        "row": row,
        "flops_a_second": times.rates,
    }


def startup_section(bench: Bench) -> dict[str, Any]:
    """Measure the start of a fresh process, up to its first finished training step.

    It starts without and with JAX's compilation cache.
    """
    if jax.default_backend() != "cpu":
        print(f"\nStart: {NEEDS_CPU}")
        return {"not_measured": {"startup": NEEDS_CPU}}
    stages: dict[str, list[dict[str, float]]] = {"cold": [], "cached": []}
    with tempfile.TemporaryDirectory() as directory:
        fresh.run_first_step(bench.config.data, Path(directory))  # fills the cache
        for _ in range(STARTS):
            stages["cold"].append(fresh.run_first_step(bench.config.data, None))
            stages["cached"].append(
                fresh.run_first_step(bench.config.data, Path(directory))
            )
    totals = {
        name: [sum(start.values()) for start in starts]
        for name, starts in stages.items()
    }
    lines = [
        [
            stage,
            *(
                f"{statistics.median(start[stage] for start in starts):.2f}"
                for starts in stages.values()
            ),
        ]
        for stage in fresh.STAGES
    ]
    lines.append(["first step finished after", *map(interval, totals.values())])
    print(
        f"\nStart of a fresh process, in seconds: median of {STARTS}; cached is JAX's "
        "persistent compilation cache"
    )
    print(table(["", *stages], lines))
    return {"stages": stages, "totals": totals} | {
        name: spread(values)._asdict() for name, values in totals.items()
    }


def scaling_section(bench: Bench) -> dict[str, Any]:
    """Measure batch sizes, and devices that share the host."""
    num_images, missing = len(bench.experiment.train), {}
    too_few = f"not measured: there are {num_images:,} training images"
    missing |= {
        f"batch size {size}": too_few for size in BATCH_SIZES if size > num_images
    }
    experiments = {
        size: bench.experiment._replace(batch_size=size)
        for size in BATCH_SIZES
        if size <= num_images
    }
    programs = {
        str(size): peers.vaejax_epoch(experiment)
        for size, experiment in experiments.items()
    }
    times = measure(programs, bench.config.rounds)
    batch_sizes = throughput(
        times.seconds,
        {str(size): (num_images // size, size) for size in experiments},
        "128",
    )
    print("\nBatch sizes, an epoch at each; relative is the time an image takes")
    print_throughput("batch size", batch_sizes)

    print(
        f"\nHost devices, batch {SHARDED_BATCH_SIZE} laid out over each number of "
        "them. They share the same"
    )
    print(
        f"{os.cpu_count()} cores: what shows is the cost of partitioning, and no speed "
        "is to be gained"
    )
    reason = (
        NEEDS_CPU
        if jax.default_backend() != "cpu"
        else too_few
        if num_images < SHARDED_BATCH_SIZE
        else None
    )
    if reason:
        print(f"  {reason}")
        return {
            "batch_sizes": batch_sizes,
            "not_measured": missing | {"devices": reason},
        }
    with fresh.workers(bench.config.data, DEVICES, SHARDED_BATCH_SIZE) as workers:
        programs = {
            str(number): Program(
                None, lambda state, worker=worker: (state, fresh.run_epoch(worker))
            )
            for number, worker in workers.items()
        }
        times = measure(programs, bench.config.rounds)
    sizes = dict.fromkeys(
        programs, (num_images // SHARDED_BATCH_SIZE, SHARDED_BATCH_SIZE)
    )
    devices = throughput(times.seconds, sizes, "1")
    print_throughput("devices", devices)
    return {"batch_sizes": batch_sizes, "devices": devices, "not_measured": missing}


def throughput(
    seconds: Mapping[str, list[float]],
    sizes: Mapping[str, tuple[int, int]],
    reference: str,
) -> dict[str, dict[str, Any]]:
    """Return rows relative to the time that an image takes in the reference.

    `sizes` are `(steps, batch size)`.
    """
    images = {name: steps * batch_size for name, (steps, batch_size) in sizes.items()}
    results = {}
    for name, values in seconds.items():
        same_work = [
            value * images[name] / images[reference] for value in seconds[reference]
        ]
        row = record(values, same_work, sizes[name][0])
        results[name] = row | {"images_a_second": images[name] / row["seconds_median"]}
    return results


SECTIONS: dict[str, Callable[[Bench], dict[str, Any]]] = {
    "epoch": epoch_section,
    "parts": parts_section,
    "members": members_section,
    "marginal": marginal_section,
    "startup": startup_section,
    "scaling": scaling_section,
}


def environment() -> dict[str, Any]:
    """Return the versions and the machine of the measurement."""
    versions = {"python": platform.python_version(), "vaejax": vaejax.__version__}
    for package in (*run_dir.PACKAGES, "numpyro", "torch"):
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = None
    return {
        "versions": versions,
        "machine": {
            "platform": f"{platform.system()} {platform.machine()}",
            "cores": os.cpu_count(),
            "device": (
                f"{jax.device_count()} x {jax.devices()[0].device_kind} "
                f"({jax.default_backend()})"
            ),
            "load_average": os.getloadavg(),
        },
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def check(config: Config) -> None:
    """Check the options before anything is measured.

    Raises:
      UsageError: an option has a value that it cannot have.
    """
    check_positive(config, "rounds", "num_samples", "num_images")
    if not config.sections:
        raise UsageError(f"--sections names none; give some of {', '.join(SECTIONS)}.")
    if config.plot and not {"epoch", "parts"} & set(config.sections):
        raise UsageError(
            "--plot draws the sections epoch and parts; add one of them to --sections."
        )
    for flag, path in (("json", config.json), ("plot", config.plot)):
        if path and (path.is_dir() or not os.access(path.parent, os.W_OK)):
            raise UsageError(
                f"--{flag} {path} cannot be written; give a file in a folder that "
                "exists."
            )


def run_benchmark(config: Config) -> dict[str, Any]:
    """Measure, print and write; return the content of the JSON file."""
    check(config)
    bench, before = make_bench(config), environment()
    sizes = "-".join(str(size) for size in peers.sizes(bench.model, bench.experiment))
    print(
        f"{sizes} Bernoulli VAE on {before['machine']['device']}, "
        f"{before['machine']['cores']} cores"
    )
    sections = {
        name: SECTIONS[name](bench) for name in SECTIONS if name in config.sections
    }
    options = {
        name: str(value) if isinstance(value, Path) else value
        for name, value in vars(config).items()
    }
    result = {
        "config": options,
        **before,
        "load_average_after": os.getloadavg(),
        "sections": sections,
    }
    if config.json:
        run_dir.write_json(config.json, result)
    if config.plot:
        write_figure(config.plot, figure(sections))
    return result


if __name__ == "__main__":
    cli.look(Config, run_benchmark)
