"""Every program, lowered for accelerators: its training epoch and its evaluation.

Nothing is run: a host without an accelerator finds what one of them cannot do.
"""

import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from support import exports
from support.programs import ROOT, users_settings

from experiments.data import sprites
from experiments.harness import programs, run

PROGRAMS = [
    name
    for name in programs.program_names()
    if "def make_experiment" in (ROOT / f"experiments/{name}.py").read_text()
]
SMALL = {"epochs": 1, "batch_size": 20, "num_seeds": 2, "num_samples": 2}
NETWORK = {"hidden_size": 8, "latent_size": 2}
OPTIONS = {
    "bounds": NETWORK | {"num_examples": 8},
    "counts": NETWORK | {"data": "simulated", "num_cells": 720, "num_genes": 8},
    "discrete_latents": {"hidden_size": 8, "latent_size": 4, "num_draws": 50},
    "digit_factors": NETWORK | {"num_samples": None},
    "disentangle": NETWORK | {"data": "sprites", "methods": ("beta-TCVAE",)},
    "hierarchies": {"latent_sizes": (3, 2), "hidden_sizes": (8, 6)},
    "hyperspherical": {"latent_sizes": (2, 3), "hidden_sizes": (8,)},
    "mixed_tables": NETWORK | {"data": "wine", "missing": (0.3,)},
    "representation": {"hidden_size": 8, "latent_sizes": (2,), "betas": (4.0,)}
    | {"num_samples": None},
    "sample_quality": {"hidden_size": 8, "num_images": 50},
    "sound": NETWORK | {"data": "synthesized", "num_clips": 100, "num_bands": 12},
    "text": NETWORK | {"vocabulary": "bytes", "length": 12, "num_validation": 20},
    "vq": {"hidden_size": 8, "num_positions": 4, "num_codes": 8, "prior_size": 8},
}


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Gray images with labels, of the size of the digits."""
    random, path = np.random.default_rng(0), tmp_path_factory.mktemp("images")
    sizes = {"train": 240, "test": 60}
    images = {
        f"{part}_images": random.integers(0, 256, (num, 28, 28), np.uint8)
        for part, num in sizes.items()
    }
    labels = {f"{part}_labels": np.arange(num) % 10 for part, num in sizes.items()}
    np.savez(path / "data.npz", **images, **labels)
    table = random.normal(size=(200, 3))
    np.savetxt(path / "t.csv", table, delimiter=",", header="a,b,c", comments="")
    (path / "t.txt").write_text("".join(f"{num} and {num}\n" for num in range(300)))
    return path


def small_config(program: programs.Program, data: Path, out: Path) -> object:
    """The options of a program that make it small, on data that are there."""
    sets = {"own_data": "t.csv", "text": "t.txt"}
    options = SMALL | {"data": str(data / sets.get(program.name, "data.npz"))}
    options |= OPTIONS.get(program.name, NETWORK) | {"out": out}
    fields = program.config_type.__dataclass_fields__
    return program.config_type(
        **{
            name: value
            for name, value in options.items()
            if name in fields and value is not None
        }
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_is_lowered_for_accelerators(name, data, tmp_path, monkeypatch):
    monkeypatch.setattr(sprites, "COARSE", sprites.Grid((3, 2, 4, 4, 4), 16))
    program = programs.load_program(name)
    with users_settings():
        plan = run.make_plan(program, small_config(program, data, tmp_path / "run"))
        modules = [
            module
            for each, module in sys.modules.items()
            if each.startswith("experiments.")
        ]
        with exports.instead_of_running(modules) as exported:
            trained = run.train(plan, lambda: None)
            assert any("epoch_of_settings" in each for each in exported)
            trained_functions = len(exported)
            program.analyze(trained)
            assert len(exported) > trained_functions
    jax.clear_caches()
