"""Sections `convolutional` and `text`: other models of the programs beside PyTorch.

A round is a tenth of an epoch of either, over the same examples.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from experiments import harness
from experiments.benchmarks import peers
from experiments.benchmarks.bench import Bench
from experiments.benchmarks.other_libraries import Job
from experiments.benchmarks.report import OURS, cells, table
from experiments.benchmarks.timing import Program, measure, record
from experiments.harness.programs import load_program

PART = 10


def convolutional_section(bench: Bench) -> dict[str, Any]:
    """Measure the model of experiments.convolutional beside PyTorch, channels last."""
    config, comparison = load("convolutional", bench, data=bench.config.data)
    experiment = first_part(comparison.arms["convolutional"])
    sides = experiment.train.shape[1:3]
    num = 2 if max(sides) <= 40 else 3
    if any(side % 2**num for side in sides):
        reason = f"not measured: images of {sides} cannot be halved {num} times"
        return show("Convolutions", experiment, {"PyTorch": reason}, bench)
    job = Job(
        np.asarray(experiment.train),
        [],
        experiment.batch_size,
        config.learning_rate,
        config.epochs * PART * experiment.steps_per_epoch,
    )
    sizes = {
        "channels": [config.first_channels * 2**index for index in range(num)],
        "dense_size": config.dense_size,
        "latent_size": config.latent_size,
    }
    rows = {
        f"PyTorch {how}, channels last": peers.on_torch(
            peers.torch_convolutional, job, **sizes, compiled=compiled
        )
        for how, compiled in (("eager", False), ("compiled", True))
    }
    return show("Convolutions", experiment, rows, bench)


def text_section(bench: Bench) -> dict[str, Any]:
    """Measure the plain VAE of experiments.text, with its GRUs, beside PyTorch."""
    config, comparison = load("text", bench)
    experiment = first_part(comparison.arms["plain VAE"])
    sentences = {
        "tokens": np.asarray(experiment.train),
        "vocabulary_size": comparison.context.vocabulary.size,
        "hidden_size": config.hidden_size,
        "latent_size": config.latent_size,
        "batch_size": experiment.batch_size,
        "learning_rate": config.learning_rate,
        "num_steps": config.epochs * PART * experiment.steps_per_epoch,
    }
    rows = {"PyTorch eager": peers.on_torch(peers.torch_sentences, **sentences)}
    return show("Sentences", experiment, rows, bench)


def load(name: str, bench: Bench, **options: Any) -> tuple[Any, harness.Comparison]:
    """Return the options and the models of a program.

    The learning rate decays over all that a row trains for.
    """
    program = load_program(name)
    epochs = max(
        program.config_type().epochs, math.ceil((bench.config.rounds + 1) / PART)
    )
    config = program.config_type(epochs=epochs, **options)
    return config, program.make_experiment(config)


def first_part(experiment: harness.Experiment) -> harness.Experiment:
    """Return an experiment whose epoch is over the first of its training examples."""
    number = max(len(experiment.train) // PART, experiment.batch_size)
    return experiment._replace(train=experiment.train[:number])


def show(
    title: str,
    experiment: harness.Experiment,
    rows: Mapping[str, Program | str],
    bench: Bench,
) -> dict[str, Any]:
    """Measure an epoch of ours beside the others, print it and return it."""
    missing = {name: row for name, row in rows.items() if isinstance(row, str)}
    programs = {OURS: peers.vaejax_epoch(experiment)}
    programs |= {name: row for name, row in rows.items() if name not in missing}
    times = measure(programs, bench.config.rounds)
    results = {}
    for name, seconds in times.seconds.items():
        results[name] = record(
            seconds, times.seconds[OURS], experiment.steps_per_epoch
        ) | {"last_loss": times.last_losses[name]}
    print(
        f"\n{title}: {experiment.steps_per_epoch} steps of {experiment.batch_size}; "
        "the loss is the mean of the last round, in nats per example"
    )
    lines = [
        [name, *cells(row), f"{row['last_loss']:.2f}"] for name, row in results.items()
    ]
    lines += [[name, reason, "", "", ""] for name, reason in missing.items()]
    print(table(["", "seconds", "us per step", "relative, by round", "loss"], lines))
    return {
        "steps": experiment.steps_per_epoch,
        "batch_size": experiment.batch_size,
        "rows": results,
        "not_measured": missing,
    }
