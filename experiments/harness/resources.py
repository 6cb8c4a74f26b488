"""Time and memory of the process of a run."""

import json
import sys
import time
from pathlib import Path

from experiments.harness import distributed, run_dir

STATUS = Path("/proc/self/status")


def peak_resident_bytes() -> int | None:
    """Return the most memory that this process has held; None where it is not known."""
    # The peak of getrusage survives exec on Linux: a child of a large process starts
    # from its parent's.
    if STATUS.exists():
        for line in STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    try:
        import resource
    except ImportError:  # Windows has no getrusage
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


@distributed.by_first
def add_to_manifest(path: Path, started: float) -> None:
    """Add the time and the peak memory of this process to the run's manifest.

    Args:
      path: the run folder.
      started: the moment of the start, as `time.perf_counter` gives it. A run that was
        resumed has the time of its last process.
    """
    file = path / "manifest.json"
    run_dir.write_json(
        file,
        json.loads(file.read_text())
        | {
            "wall_seconds": round(time.perf_counter() - started, 2),
            "peak_resident_bytes": peak_resident_bytes(),
        },
    )
