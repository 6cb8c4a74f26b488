"""Programs that measure without training.

Their folder has a configuration, numbers, figures and a report.
"""

import time
from collections.abc import Callable
from typing import Any

from experiments.harness import interrupts, manifest, report, resources, run_dir
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
    found = run_dir.find(name, config)
    with run_dir.claimed(found, name, config) as claim:
        path = claim.path
        print(f"folder: {path}", flush=True)
        with interrupts.requests() as check_interrupts:
            result = function(config, check_interrupts)
        summary = {
            "experiment": name,
            "data": "generated",
            "seeds": config.seeds,
        } | result.summary
        claim.check()
        run_dir.write_json(path / "summary.json", summary)
        manifest.write(
            path,
            command=run_dir.command(name, config),
            seeds=config.seeds,
            data_checksum=None,
            params_digest=None,
        )
        report.show(path, result, about, description)
        resources.add_to_manifest(path, started)
    print(f"done in {time.perf_counter() - started:.0f} s")
    return summary
