"""SLURM as a program and a script see it: variables, and stubs of its commands."""

import os
import sys
from pathlib import Path

from support.programs import ENVIRONMENT, ROOT

SCRIPT = ROOT / "docs/guide/train.sbatch"
# Two nodes of one task each, as processes of this machine.
TWO_NODES = """
while [[ $1 == --* ]]; do shift; done
for node in 0 1; do
  SLURM_STEP_NODELIST=127.0.0.1 SLURM_NTASKS=2 SLURM_PROCID=$node SLURM_NODEID=$node \\
    SLURM_LOCALID=0 SLURM_STEP_TASKS_PER_NODE="1(x2)" "$@" &
  echo $! >> tasks.txt
done
status=0
for task in $(jobs -p); do wait "$task" || status=$?; done
exit $status
"""


def step(local: int = 0, tasks: str = "1(x2)", node: int = 0, **others: str) -> dict:
    """The variables of a process of a step, `local` on its node."""
    return {
        "SLURM_JOB_ID": "17",
        "SLURM_STEP_NODELIST": "127.0.0.1",
        "SLURM_NTASKS": "2",
        "SLURM_PROCID": str(local + node),
        "SLURM_LOCALID": str(local),
        "SLURM_NODEID": str(node),
        "SLURM_STEP_TASKS_PER_NODE": tasks,
        **others,
    }


def job(folder: Path, srun: str, **variables: str) -> dict[str, str]:
    """Make `folder` a checkout with commands of SLURM; return a job's environment.

    `srun` is the text of that command; `scontrol` notes in scontrol.txt what it is
    asked for.
    """
    commands = {
        "commands/srun": srun,
        "commands/scontrol": 'echo "$@" >> scontrol.txt',
        ".venv/bin/python": f'exec "{sys.executable}" "$@"',
    }
    for name, text in commands.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"#!/usr/bin/env bash\n{text}\n")
        file.chmod(0o755)
    path = f"{folder / 'commands'}{os.pathsep}{os.environ['PATH']}"
    about = {"SLURM_JOB_ID": "17", "SLURM_CPUS_PER_TASK": "1"}
    return ENVIRONMENT | about | {"PATH": path} | variables
