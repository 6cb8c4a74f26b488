"""Speed of an epoch of the main job beside its floor and its peers, and by parts.

Everything compared runs in one process, in turn, round after round, since a shared
machine's speed drifts; the ratios of each round are what counts. The model is that of
experiments.mnist (784-400-20, Bernoulli), batch 128, Adam, binarization at each
access. The floor is the floating-point operations of a step's matrix products over the
best rate of matrix products measured in the same round. NumPyro and PyTorch are
measured where they are installed (the extra `bench`). Command: python -m
experiments.benchmark --json benchmark.json --plot benchmark.png
"""

import datetime
import os
import platform
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import jax

import vaejax
from experiments import harness
from experiments.benchmarks import (
    committed,
    composed,
    epoch,
    marginal,
    models,
    objectives,
    other_libraries,
    parts,
    peers,
    port,
    scaling,
    startup,
)
from experiments.benchmarks.bench import Bench, Config, make_bench
from experiments.benchmarks.report import figure, write_figure
from experiments.harness import RunError, UsageError, cli, manifest, resources, run_dir
from experiments.harness.config import check_positive

ABOUT = harness.About(
    what="an epoch beside its floor and its peers, and where its time goes",
    paper="",
    cost="15 minutes on 2 cores",
    expected="an epoch takes 0.90 of NumPyro's time and 1.79 times the floor",
)

SECTIONS: dict[str, Callable[[Bench], dict[str, Any]]] = {
    "epoch": epoch.epoch_section,
    "parts": parts.parts_section,
    "members": scaling.members_section,
    "convolutional": models.convolutional_section,
    "text": models.text_section,
    "port": port.port_section,
    "models": composed.models_section,
    "objectives": objectives.objectives_section,
    "marginal": marginal.marginal_section,
    "startup": startup.startup_section,
    "scaling": scaling.scaling_section,
}


def environment() -> dict[str, Any]:
    """Return the versions and the machine of the measurement."""
    versions = {"python": platform.python_version(), "vaejax": vaejax.__version__}
    for package in (*manifest.PACKAGES, "numpyro", "torch"):
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = None
    return {
        "versions": versions,
        "machine": {
            "platform": f"{platform.system()} {platform.machine()}",
            "cores": os.cpu_count(),
            "device": (
                f"{jax.device_count()} x {jax.devices()[0].device_kind} "
                f"({jax.default_backend()})"
            ),
            "load_average": os.getloadavg(),
        },
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def check(config: Config) -> None:
    """Check the options before anything is measured.

    Raises:
      UsageError: an option has a value that it cannot have.
    """
    check_positive(config, "rounds", "num_samples", "num_images")
    if not config.sections:
        raise UsageError(f"--sections names none; give some of {', '.join(SECTIONS)}.")
    if config.check:
        check_comparable(config)
    if config.plot and not {"epoch", "parts"} & set(config.sections):
        raise UsageError(
            "--plot draws the sections epoch and parts; add one of them to --sections."
        )
    for flag, path in (("json", config.json), ("plot", config.plot)):
        if path and (path.is_dir() or not os.access(path.parent, os.W_OK)):
            raise UsageError(
                f"--{flag} {path} cannot be written; give a file in a folder that "
                "exists."
            )


def check_comparable(config: Config) -> None:
    """Raise UsageError where the committed rounds are of other options."""
    was = committed.read()["config"]
    for name in ("num_samples", "num_images", "data"):
        here = getattr(config, name)
        if here != was.get(name, here):
            raise UsageError(
                f"--check: the committed rounds have --{name.replace('_', '-')} "
                f"{was[name]}, and {here} is given; leave it out."
            )


def check_ratios(result: dict[str, Any]) -> None:
    """Print the ratios beside those of the committed rounds.

    Raises:
      RunError: one of them is outside, or something that must be equal is not.
    """
    failed, sections = [], result["sections"].keys()
    for before in committed.read_all():
        part = committed.only(result, before["sections"].keys())
        sections = sections - before["sections"].keys()
        if part["sections"]:
            checked, wrong, not_compared = committed.compare(part, before)
            rounds = before["config"]["rounds"]
            print(committed.report(checked, wrong, not_compared, rounds))
            failed += wrong
    for name in sorted(sections):
        print(f"  {name}: there are no committed rounds")
    if failed:
        raise RunError(
            f"--check: {len(failed)} of the numbers above are not those of the "
            "committed rounds; measure again on a quiet machine, or commit new rounds."
        )


def run_benchmark(config: Config) -> dict[str, Any]:
    """Measure, print and write; return the content of the JSON file.

    Raises:
      UsageError: an option has a value that it cannot have.
      RunError: --check finds a ratio outside of the committed rounds.
    """
    check(config)
    bench, before = make_bench(config), environment()
    sizes = "-".join(str(size) for size in peers.sizes(bench.model, bench.experiment))
    print(
        f"{sizes} Bernoulli VAE on {before['machine']['device']}, "
        f"{before['machine']['cores']} cores"
    )
    sections = {
        name: SECTIONS[name](bench) for name in SECTIONS if name in config.sections
    }
    options = {
        # Where the files lay is no result.
        name: value.name if isinstance(value, Path) else value
        for name, value in vars(config).items()
    }
    result = {
        "config": options,
        **before,
        "peers_sha256": other_libraries.source_digests(),
        "load_average_after": os.getloadavg(),
        "peak_resident_bytes": resources.peak_resident_bytes(),
        "sections": sections,
    }
    if config.json:
        run_dir.write_json(config.json, result)
    if config.plot:
        write_figure(config.plot, figure(sections))
    if config.check:
        check_ratios(result)
    return result


if __name__ == "__main__":
    cli.look(Config, run_benchmark)
