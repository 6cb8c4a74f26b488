"""Section `epoch`: an epoch of the main job beside its floor and its peers."""

from typing import Any

from experiments.benchmarks import peers
from experiments.benchmarks.bench import Bench
from experiments.benchmarks.report import FLOOR, cells, print_products, table
from experiments.benchmarks.timing import floor_seconds, measure, record


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
