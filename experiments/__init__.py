"""Programs: one file per experiment, each read from top to bottom.

`python -m experiments` lists them. A program holds a docstring (paper, command), the
options (`Config`), `make_experiment(config)`, `analyze(trained)` and its figures; read
`mnist.py` first. `harness` runs programs; `data` and `judges` hold what several share.
"""
