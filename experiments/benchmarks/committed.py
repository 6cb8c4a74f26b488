"""Comparison of a run's ratios with those of the committed rounds.

A time ratio passes where the median of the run lies within the range of the committed
rounds, widened by `SLACK` at either end; numbers of operations must be equal, and so
must the code of the peers. Those that the compiler counts are compared where the
version of its package is the same.
"""

import json
import math
import statistics
from collections.abc import Iterator, Mapping, Set
from pathlib import Path
from typing import Any, NamedTuple

from experiments.benchmarks.report import table

FILE = Path(__file__).parents[1] / "results" / "benchmark" / "benchmark.json"
# Rounds of the sections that the first file lacks.
LATER_FILE = FILE.with_name("models.json")
# Medians of two runs on one machine, hours apart, were up to 3 % outside of each
# other's range, though both had seven rounds or more; a check has few.
SLACK = 0.1
# Beginnings of the names of numbers of operations: by hand, and by the compiler.
BY_HAND, BY_COMPILER = "flops", "operations"
# Sections and rows are named by their path; these words of it say nothing.
UNNAMED = {"rows", "row"}


class Checked(NamedTuple):
    """A ratio of a run beside the committed rounds.

    Attributes:
      name: section and row.
      median: of the rounds of this run.
      low: the smallest committed ratio.
      high: the largest committed ratio.
    """

    name: str
    median: float
    low: float
    high: float

    @property
    def passes(self) -> bool:
        return self.low / (1 + SLACK) <= self.median <= self.high * (1 + SLACK)


def read() -> dict[str, Any]:
    """Return the result of the committed rounds."""
    return json.loads(FILE.read_text())


def read_all() -> list[dict[str, Any]]:
    """Return the results of all committed rounds; no two share a section."""
    results = [read()]
    if LATER_FILE.exists():
        later = json.loads(LATER_FILE.read_text())
        results.append(only(later, later["sections"].keys() - results[0]["sections"]))
    return results


def only(result: Mapping[str, Any], sections: Set[str]) -> dict[str, Any]:
    """Return a result with some of its sections."""
    kept = {name: s for name, s in result["sections"].items() if name in sections}
    return {**result, "sections": kept}


def ratios(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, list[float]]]:
    """Yield the ratios of each row by name, but those of a row to itself."""
    for name, inner in items(value):
        if name == "ratios":
            if set(inner) != {1.0}:
                yield ": ".join(path), inner
        else:
            yield from ratios(inner, within(path, name))


def operations(
    value: Any, kinds: tuple[str, ...], path: tuple[str, ...] = ()
) -> Iterator[tuple[str, float]]:
    """Yield every number of operations, and every ratio of two, by name."""
    for name, inner in items(value):
        if name.startswith(kinds) and isinstance(inner, int | float):
            yield ": ".join((*path, name)), inner
        else:
            yield from operations(inner, kinds, within(path, name))


def items(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield the entries of a record; lists of records have none."""
    if isinstance(value, Mapping):
        yield from value.items()


def within(path: tuple[str, ...], name: str) -> tuple[str, ...]:
    return path if name in UNNAMED else (*path, name)


def compare(
    measured: Mapping[str, Any], committed: Mapping[str, Any]
) -> tuple[list[Checked], list[str], list[str]]:
    """Return the ratios that both have, what failed, and what was not compared.

    Args:
      measured: the result of this run.
      committed: the result of the committed rounds.

    Returns:
      The ratios; a sentence for each that fails, for each number of operations that
      differs and for each file of a peer that does; the names that only one has.
    """
    sections = {
        name: section
        for name, section in committed["sections"].items()
        if name in measured["sections"]
    }
    ours, theirs = dict(ratios(measured["sections"])), dict(ratios(sections))
    checked = [
        Checked(name, statistics.median(ours[name]), min(values), max(values))
        for name, values in theirs.items()
        if name in ours
    ]
    failed = [
        f"{one.name} is {one.median:.2f}, and the committed rounds lie between "
        f"{one.low:.2f} and {one.high:.2f}"
        for one in checked
        if not one.passes
    ]
    same = measured["versions"]["jaxlib"] == committed["versions"]["jaxlib"]
    kinds = (BY_HAND, BY_COMPILER) if same else (BY_HAND,)
    counts = dict(operations(measured["sections"], kinds))
    failed += [
        f"{name} is {counts[name]:,}, and was {number:,}"
        for name, number in operations(sections, kinds)
        if name in counts and not math.isclose(counts[name], number, rel_tol=1e-9)
    ]
    digests = measured["peers_sha256"]
    failed += [
        f"the peer {name} is not that of the committed rounds"
        for name, digest in committed.get("peers_sha256", {}).items()
        if digests.get(name) != digest
    ]
    return checked, failed, sorted(ours.keys() ^ theirs.keys())


def report(
    checked: list[Checked], failed: list[str], not_compared: list[str], rounds: int
) -> str:
    """Return the comparison as text."""
    lines = [
        [
            one.name,
            f"{one.median:.2f}",
            f"{one.low:.2f} to {one.high:.2f}",
            "" if one.passes else "outside",
        ]
        for one in checked
    ]
    text = [
        f"\nTime ratios beside the {rounds} committed rounds; {SLACK:.0%} outside of "
        "their range passes",
        table(["", "median", "committed", ""], lines),
        *(f"  {name}: only one of the two has it" for name in not_compared),
    ]
    return "\n".join([*text, *(f"  {sentence}." for sentence in failed)])
