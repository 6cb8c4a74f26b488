"""Programs: one file per experiment, each read from top to bottom.

`python -m experiments` lists them. A program holds a docstring (paper, command), the
options (`Config`), `make_experiment(config)`, `analyze(trained)` and its figures; read
`mnist.py` first. `harness` runs programs; `data` and `judges` hold what several share.
"""

import os
import sys
from types import TracebackType


def _tell_interrupts_in_a_line(
    kind: type[BaseException], error: BaseException, traceback: TracebackType | None
) -> None:
    if issubclass(kind, KeyboardInterrupt):
        os.write(2, b"\ninterrupted\n")
    else:
        sys.__excepthook__(kind, error, traceback)


# Of `python -m experiments.NAME`, while its imports go on, which take seconds: nothing
# else could answer Ctrl-C by then.
if sys.argv[:1] == ["-m"]:
    sys.excepthook = _tell_interrupts_in_a_line
