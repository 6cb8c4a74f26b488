"""Numbers of committed results for pages: `{{ summary("mnist").test.nll | pm(2) }}`.

Pages under `docs/results/`, `docs/performance.md`, `docs/claims.md` and some guides are
Jinja templates around MyST: every measured number on them is looked up in
`experiments/results/` or in what a committed notebook prints, every published one in
`experiments/tables/`. README's table of experiments is rendered by
the same functions. As a Sphinx extension, this module renders those pages when Sphinx
reads them.
"""

import functools
import importlib
import json
import math
import re
import statistics
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "experiments" / "results"
TABLES = ROOT / "experiments" / "tables"
NOTEBOOKS = ROOT / "notebooks"
#: Documents that are rendered as templates.
TEMPLATES = re.compile(r"results/\w+|performance|guide/(how_good|tuning)|claims")


@functools.cache
def summary(name: str, file: str = "summary.json") -> dict[str, Any]:
    """Return what a committed run wrote: a JSON file of `experiments/results/NAME`."""
    return json.loads((RESULTS / name / file).read_text())


def has_summary(name: str, file: str = "summary.json") -> bool:
    """Return whether a run has written that file and it is committed."""
    return (RESULTS / name / file).exists()


def config(name: str) -> dict[str, Any]:
    """Return the options of a committed run."""
    return summary(name, "config.json")


@functools.cache
def metrics(name: str, file: str = "metrics.jsonl") -> list[dict[str, Any]]:
    """Return the lines of a run's metrics, one record per epoch."""
    lines = (RESULTS / name / file).read_text().splitlines()
    return [json.loads(line) for line in lines]


@functools.cache
def published(name: str) -> dict[str, Any]:
    """Return a published table, `experiments/tables/NAME.toml`, with its source."""
    return tomllib.loads((TABLES / f"{name}.toml").read_text())


@functools.cache
def about(name: str) -> Any:
    """Return the `ABOUT` of a program: what it does, its paper and its cost."""
    return importlib.import_module(f"experiments.{name}").ABOUT


@functools.cache
def lines_printed(notebook: str) -> list[str]:
    """Return the lines that a notebook prints, as it is committed."""
    cells = json.loads((NOTEBOOKS / f"{notebook}.ipynb").read_text())["cells"]
    outputs = (output for cell in cells for output in cell.get("outputs", ()))
    text = ("".join(output.get("text", ())) for output in outputs)
    return [line.strip() for part in text for line in part.splitlines()]


def printed(notebook: str, label: str) -> str:
    """Return what a notebook prints after a label and a colon, on the same line.

    Raises:
      LookupError: there is not exactly one such line.
    """
    start = f"{label}:"
    lines = [line for line in lines_printed(notebook) if line.startswith(start)]
    if len(lines) != 1:
        raise LookupError(
            f"{notebook}: {len(lines)} lines of its outputs begin with {start!r}; "
            "name one line."
        )
    return lines[0].removeprefix(start).strip()


def card(program: str, *names: str) -> str:
    """Return a page's table of facts: paper, cost, and where its numbers come from."""
    entry = about(program)
    rows = [f"| paper | {entry.paper} |", f"| cost | {entry.cost} |"]
    rows += [f"| measured | {_measured(name)} |" for name in names]
    return "\n".join(["| | |", "|---|---|", *rows])


def _measured(name: str) -> str:
    numbers, manifest = summary(name), summary(name, "manifest.json")
    parts = [
        f"`experiments/results/{name}/`",
        f"{len(numbers['seeds'])} training seeds",
    ]
    if "training_seconds" in numbers:
        parts.append(f"trained in {_minutes(numbers['training_seconds'])}")
    if "wall_seconds" in manifest:
        parts.append(f"{_minutes(manifest['wall_seconds'])} in its last process")
    if manifest.get("peak_resident_bytes"):
        parts.append(f"peak memory {gibibytes(manifest['peak_resident_bytes'])}")
    parts.append(f"{manifest['machine']}, JAX {manifest['versions']['jax']}")
    return ", ".join(parts)


def _minutes(seconds: float) -> str:
    number = max(1, round(seconds / 60))
    return f"{number} minute" if number == 1 else f"{number} minutes"


def peak_memory(program: str) -> str:
    """Return the peak memory of a program's committed runs, the largest of them.

    It is empty where no run of the program has recorded it.
    """
    files = RESULTS.glob("*/manifest.json")
    manifests = [json.loads(file.read_text()) for file in files]
    peaks = [
        manifest["peak_resident_bytes"]
        for manifest in manifests
        if manifest["command"].split()[2] == f"experiments.{program}"
        and manifest.get("peak_resident_bytes")
    ]
    return f"peak memory {gibibytes(max(peaks))}" if peaks else ""


def gibibytes(size: int) -> str:
    """Format a number of bytes."""
    return f"{size / 2**30:.1f} GiB"


def pm(number: Mapping[str, Any], digits: int = 2, sign: str = "") -> str:
    """Format mean ± std of a record over seeds; the mean alone where it has no std.

    A record whose mean is missing gives an empty cell.
    """
    if number["mean"] is None:
        return ""
    mean = f"{number['mean']:{sign}.{digits}f}"
    std = number.get("std")
    return mean if std is None else f"{mean} ± {std:.{digits}f}"


def num(number: float | Mapping[str, Any], digits: int = 2, sign: str = "") -> str:
    """Format one number, or the mean of a record, with thousands separated."""
    if isinstance(number, Mapping):
        number = number["mean"]
    return f"{number:{sign},.{digits}f}"


def sig(number: float, digits: int = 2) -> str:
    """Format a number to some significant digits."""
    return f"{number:.{digits}g}"


def giga(number: float) -> str:
    """Format a number in units of 10⁹, without decimals."""
    return f"{number / 1e9:.0f}"


def span(values: Sequence[float], digits: int = 2) -> str:
    """Format the median of some values, and their range in parentheses."""
    middle, low, high = statistics.median(values), min(values), max(values)
    return f"{middle:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def minus(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, Any]:
    """Return the difference of two records, paired by seed."""
    return over_seeds([x - y for x, y in zip(a["values"], b["values"], strict=True)])


def over_seeds(values: Sequence[float]) -> dict[str, Any]:
    """Return mean and standard deviation (of a sample) of one number per seed."""
    return {
        "mean": statistics.fmean(values),
        "std": statistics.stdev(values),
        "values": list(values),
    }


def environment() -> jinja2.Environment:
    """Return the Jinja environment of pages and of README's table."""
    env = jinja2.Environment(
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        # MyST has its own `{#`.
        comment_start_string="<%#",
        comment_end_string="#%>",
    )
    env.filters |= {
        "pm": pm,
        "num": num,
        "sig": sig,
        "giga": giga,
        "span": span,
        "minus": minus,
    }
    env.globals |= {
        "card": card,
        "config": config,
        "summary": summary,
        "has_summary": has_summary,
        "metrics": metrics,
        "published": published,
        "printed": printed,
        "about": about,
        "over_seeds": over_seeds,
        "zip": zip,
        "log": math.log,
        "pi": math.pi,
    }
    return env


def render(text: str) -> str:
    """Render the text of a page."""
    return environment().from_string(text).render()


def _render_page(app: Any, docname: str, source: list[str]) -> None:
    if not TEMPLATES.fullmatch(docname):
        return
    source[0] = render(source[0])
    sources = (
        *RESULTS.glob("*/*.json*"),
        *TABLES.glob("*.toml"),
        *NOTEBOOKS.glob("*.ipynb"),
    )
    for path in sources:
        app.env.note_dependency(str(path))


def setup(app: Any) -> dict[str, Any]:
    app.connect("source-read", _render_page)
    return {"parallel_read_safe": True}
