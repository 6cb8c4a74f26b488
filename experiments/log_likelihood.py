"""The log-likelihood of a trained model by annealing, on a whole test set.

Each test example is annealed from q(z|x), with half of the temperatures too, and has
its importance-weighted bound beside it. The examples come in a random order that is the
same for every run, so that a part of them is a random subset, and a longer run of this
program goes on from a shorter one. What is done is kept in RUN/log_likelihood after
every few examples; Ctrl-C or a kill loses at most those.

Papers: Neal 2001, Wu et al. 2017.
Command: python -m experiments.log_likelihood runs/mnist-0001
"""

import dataclasses
import json
import zipfile
import zlib
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro

import vaejax
from experiments.harness import (
    About,
    UsageError,
    annealing,
    averages,
    cli,
    interrupts,
    keys,
    load_run,
    run_dir,
)
from experiments.harness.config import check_positive
from experiments.harness.parts import part_of, progress_bar
from vaejax import checkpoints, estimators
from vaejax.base import Array, Example, Key, PyTree, batch_size_of

ABOUT = About(
    what="the log-likelihood of any run by annealing, on its whole test set",
    paper="Wu et al. 2017",
    cost="15 minutes for 10,000 digits on 2 cores",
    expected="1.2 nats below the bound of 500 samples, for the model of mnist",
)

NUMBERS = ("bound", "annealed", "annealed_half", "annealed_error", "acceptance")


@dataclasses.dataclass(frozen=True)
class Config:
    run: Annotated[Path, tyro.conf.Positional]
    """Folder of a run."""
    arm: str | None = None
    """Name of one of the models that the run compares; by default the first."""
    member: int = 0
    """Number of one of its seeds (and settings, setting after setting), from 0."""
    num_examples: int | None = None
    """Test examples to anneal, by default all."""
    num_temperatures: int = 250
    """Temperatures of a chain, an even number."""
    num_leapfrog: int = 3
    """Leapfrog steps per temperature."""
    num_chains: int = 4
    """Chains per example."""


def log_likelihood(config: Config) -> Mapping[str, Any]:
    """Anneal the test examples of a run; write and return the numbers."""
    _check(config)
    model = load_run.load_run(config.run, arm=config.arm, member=config.member)
    num_test = model.require_data().num_test_examples
    wanted = num_test if config.num_examples is None else config.num_examples
    if not 2 <= wanted <= num_test:
        raise UsageError(
            f"--num-examples is {wanted}; give 2 to {num_test}, the test examples."
        )
    name = "-".join(filter(None, [config.arm, f"member-{config.member}"]))
    folder = config.run / "log_likelihood"
    folder.mkdir(exist_ok=True)
    with interrupts.requests() as check_interrupts:
        values = _values(
            config, model, folder / f"{name}.npz", wanted, check_interrupts
        )
    summary = {
        "model": model.description,
        "units": "nats per example",
        "num_test_examples": num_test,
        "settings": _settings(config, model),
    } | _summary(values, num_test)
    run_dir.write_json(folder / f"{name}.json", summary)
    _show(summary, folder / f"{name}.json")
    return summary


def _check(config: Config) -> None:
    check_positive(config, "num_temperatures", "num_leapfrog", "num_chains")
    annealing.check_temperatures(config.num_temperatures)


def _settings(config: Config, model: load_run.LoadedRun) -> dict[str, Any]:
    """The settings that the values depend on; under others they do not go on."""
    return {
        "num_temperatures": config.num_temperatures,
        "num_leapfrog": config.num_leapfrog,
        "num_chains": config.num_chains,
        "num_samples": model.require_data().num_samples,
        "params_sha256": checkpoints.digest(model.state.params),
    }


def _values(
    config: Config,
    model: load_run.LoadedRun,
    file: Path,
    wanted: int,
    check_interrupts: interrupts.CheckInterrupts,
) -> dict[str, np.ndarray]:
    """The numbers of the first `wanted` examples of the order, from the file or new."""
    settings = _settings(config, model)
    values, step_sizes = _saved(file, settings)
    path = annealing.PATH._replace(
        num_temperatures=config.num_temperatures, num_leapfrog=config.num_leapfrog
    )
    experiment = model.require_data()
    xs, pilot_xs = annealing.examples_of(experiment, experiment.num_test_examples)
    if step_sizes is None:
        pilot = partial(annealing.pilot, experiment, path, config.num_chains)
        step_sizes = np.asarray(jax.jit(pilot)(model.state, pilot_xs))
    measure = _measurement(config, model, path, jnp.asarray(step_sizes))
    with progress_bar(
        wanted,
        f"annealing, {config.num_temperatures} temperatures",
        initial=min(len(values["bound"]), wanted),
    ) as progress:
        while (first := len(values["bound"])) < wanted:
            part = part_of(xs, first, annealing.AT_ONCE)
            found = jax.device_get(measure(first, part))
            values = {
                name: np.concatenate([values[name], np.asarray(found[name])])
                for name in NUMBERS
            }
            _save(file, settings, step_sizes, values)
            progress.update(min(len(values["bound"]), wanted) - first)
            check_interrupts()
    return {name: each[:wanted] for name, each in values.items()}


def _measurement(
    config: Config,
    model: load_run.LoadedRun,
    path: estimators.AnnealingPath,
    step_sizes: Array,
) -> Callable[[int, PyTree], dict[str, Array]]:
    """Return the function `(first, xs) -> numbers` of a few examples."""
    experiment, state = model.require_data(), model.state
    of_test = partial(annealing.of_test, experiment, path, config.num_chains)
    bound_key = jax.random.fold_in(state.key, keys.FINAL_EVALUATION)

    def bound(key: Key, x: Example) -> Array:
        return vaejax.log_marginal(
            experiment.vae, state.params, key, x, num_samples=experiment.num_samples
        ).log_marginal

    @jax.jit
    def measure(first: Array, xs: PyTree) -> dict[str, Array]:
        numbers = jnp.arange(batch_size_of(xs), dtype=jnp.uint32) + first
        each = jax.vmap(lambda i: jax.random.fold_in(bound_key, i))(numbers)
        annealed = of_test((state, step_sizes), first, xs)
        return annealed | {"bound": jax.vmap(bound)(each, xs)}

    return lambda first, xs: measure(jnp.uint32(first), xs)


def _saved(
    file: Path, settings: dict[str, Any]
) -> tuple[dict[str, np.ndarray], np.ndarray | None]:
    """The numbers and step sizes that an earlier run has left."""
    if not file.exists():
        return {name: np.zeros(0) for name in NUMBERS}, None
    try:
        with np.load(file) as archive:
            saved = {name: archive[name] for name in archive.files}
        before = json.loads(str(saved["settings"]))
        numbers, step_sizes = {name: saved[name] for name in NUMBERS}, saved["steps"]
    except (
        ValueError,
        KeyError,
        OSError,
        EOFError,
        MemoryError,
        NotImplementedError,
        RecursionError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        raise UsageError(f"{file} is damaged ({error}); remove it.") from error
    different = [name for name in settings if settings[name] != before.get(name)]
    if different:
        name = different[0]
        raise UsageError(
            f"{file} holds values with {name} {before.get(name)}, and this is "
            f"{settings[name]}; give the same options, or remove it."
        )
    return numbers, step_sizes


def _save(
    file: Path,
    settings: dict[str, Any],
    step_sizes: np.ndarray,
    values: Mapping[str, np.ndarray],
) -> None:
    checkpoints.write_atomically(
        file,
        lambda stream: np.savez(
            stream, settings=json.dumps(settings), steps=step_sizes, **values
        ),
    )


def _summary(values: Mapping[str, np.ndarray], num_test: int) -> dict[str, Any]:
    """The NLL bound, annealed NLL and bias as estimates for the whole test set.

    Errors are over the examples, less the share of the test set that was annealed, and
    that of the annealed values covers their Monte-Carlo noise.
    """
    num = len(values["bound"])
    with jax.enable_x64(True):
        annealed = {name: np.asarray(each, float) for name, each in values.items()}
        bounds = np.full(num_test, annealed["bound"].mean())
        bounds[:num] = annealed["bound"]
        found = estimators.correct_bound(
            bounds,
            np.arange(num),
            annealed["annealed"],
            annealed_errors=annealed["annealed_error"],
        )
    change = annealed["annealed_half"] - annealed["annealed"]
    return {
        "nll": _number(-annealed["bound"].mean(), None, num),
        "nll_annealed": _number(-annealed["annealed"].mean(), found.annealed, num)
        | {
            "change_when_temperatures_are_doubled": float(change.mean()),
            "acceptance_rate": float(annealed["acceptance"].mean()),
        },
        "nll_bias": _number(found.difference.value, found.difference, num),
    }


def _number(
    value: Any, estimate: estimators.MonteCarloMean | None, num: int
) -> dict[str, Any]:
    number = {"mean": averages.number_or_none(value), "num_examples": num}
    if estimate is not None:
        number["standard_error"] = averages.number_or_none(estimate.standard_error)
    return number


def _show(summary: Mapping[str, Any], file: Path) -> None:
    nll, annealed, bias = (
        summary[name] for name in ("nll", "nll_annealed", "nll_bias")
    )
    settings = summary["settings"]
    print(
        f"{summary['model']}, {nll['num_examples']:,} of "
        f"{summary['num_test_examples']:,} test examples, nats per example\n"
        f"  NLL bound, {settings['num_samples']} samples  {nll['mean']:.3f}\n"
        f"  NLL, annealed  {annealed['mean']:.3f} ± {annealed['standard_error']:.3f}, "
        "an upper bound in expectation; change from "
        f"{settings['num_temperatures'] // 2} temperatures "
        f"{annealed['change_when_temperatures_are_doubled']:+.3f}\n"
        f"  bias of the bound  {bias['mean']:.3f} ± {bias['standard_error']:.3f}\n"
        f"in {file}"
    )


if __name__ == "__main__":
    cli.look(Config, log_likelihood)
