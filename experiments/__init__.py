"""Programs: one file per experiment, each read from top to bottom.

`python -m experiments` lists them. A program holds a docstring (paper, command), the
options (`Config`), `make_experiment(config)`, `analyze(trained)` and its figures; read
`mnist.py` first. `harness` runs programs; `data` and `judges` hold what several share.
"""

import importlib.util
import os
import signal
import sys

# What the extra `checkout` brings, and no program does without.
_NEEDED = ("matplotlib", "tqdm", "tyro")


def _end_in_a_line(number: int, frame: object) -> None:
    os.write(2, b"\ninterrupted\n")
    os._exit(128 + number)


# The imports of `python -m experiments.NAME` take seconds, in which nothing else could
# answer Ctrl-C; then the command line takes over.
if sys.argv[:1] == ["-m"] and (
    signal.getsignal(signal.SIGINT) is signal.default_int_handler
):
    signal.signal(signal.SIGINT, _end_in_a_line)

if sys.argv[:1] == ["-m"]:
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        sys.exit(
            f"error: the programs need {', '.join(missing)}; in their checkout: pip "
            "install -c constraints.txt -e '.[checkout]'"
        )
