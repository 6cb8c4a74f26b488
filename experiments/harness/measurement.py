"""Programs that measure without training.

Their folder has a configuration, numbers, figures and a report.
"""

import time
from collections.abc import Callable
from typing import Any

from experiments.harness import interrupts, report, resources, run_dir
from experiments.harness.config import MeasurementConfig, check_options
from experiments.harness.experiment import About, Result

Measure = Callable[[Any, Callable[[], None]], Result]
"""`(config, check_interrupts) -> Result`; the second ends the program once the user has
asked for that.
"""


def measure(
    name: str,
    config: MeasurementConfig,
    function: Measure,
    about: About,
    description: str,
) -> dict[str, Any]:
    """Run a measurement into its folder and return its summary."""
    started = time.perf_counter()
    check_options(config)
    config.check()
    path = run_dir.create(run_dir.find(name, config), name, config)
    print(f"folder: {path}", flush=True)
    with interrupts.requests() as check_interrupts:
        result = function(config, check_interrupts)
    summary = {
        "experiment": name,
        "data": "generated",
        "seeds": config.seeds,
    } | result.summary
    run_dir.write_json(path / "summary.json", summary)
    run_dir.write_manifest(
        path, seeds=config.seeds, data_checksum=None, params_digest=None
    )
    report.show(path, result, about, description)
    resources.add_to_manifest(path, started)
    print(f"done in {time.perf_counter() - started:.0f} s")
    return summary
