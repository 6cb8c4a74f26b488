"""Section `marginal`: the importance-weighted bound of test images."""

from typing import Any

import jax

import vaejax
from experiments.benchmarks import peers
from experiments.benchmarks.bench import Bench
from experiments.benchmarks.report import interval
from experiments.benchmarks.timing import (
    Program,
    floor_seconds,
    measure,
    ratios,
    record,
)
from experiments.harness import evaluation
from vaejax.base import Key, PyTree


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
