"""Sections `members` and `scaling`: seeds in one program, batch sizes, devices."""

import os
from collections.abc import Mapping
from typing import Any

import jax

from experiments.benchmarks import fresh, peers
from experiments.benchmarks.bench import Bench
from experiments.benchmarks.report import cells, print_throughput, table
from experiments.benchmarks.timing import Program, measure, record
from experiments.harness.members import Members

MEMBERS = (1, 4, 16)
BATCH_SIZES = (32, 128, 512, 2048)
DEVICES, SHARDED_BATCH_SIZE = (1, 2, 4, 8), 1024


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
        fresh.NEEDS_CPU
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
