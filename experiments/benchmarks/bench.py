"""Options of the benchmark and the main job, which every section is given."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Literal, NamedTuple, get_args

from experiments import harness
from experiments.benchmarks import peers
from experiments.benchmarks.products import Product, make_probe, step_products
from experiments.harness import binary_images
from experiments.harness.programs import load_program

Section = Literal[
    "epoch",
    "parts",
    "members",
    "convolutional",
    "text",
    "port",
    "models",
    "objectives",
    "marginal",
    "startup",
    "scaling",
]


@dataclasses.dataclass(frozen=True)
class Config:
    rounds: int = 7
    """Rounds of one epoch of each program, after one that is not counted."""
    sections: tuple[Section, ...] = get_args(Section)
    """Sections to measure."""
    json: Path | None = None
    """File for every measured time."""
    plot: Path | None = None
    """PNG file for a figure of the sections `epoch` and `parts`."""
    check: bool = False
    """Compare the ratios with those of the committed rounds; the exit status is 1 where
    one is outside of their range.
    """
    num_samples: int = 5000
    """Importance samples per image in the section `marginal`."""
    num_images: int = 16
    """Test images in the section `marginal`."""
    data: str = "mnist"
    """Data set, as in experiments.mnist."""


class Bench(NamedTuple):
    """The main job, as every section measures it.

    Attributes:
      config: options of the benchmark.
      model: options of the main job.
      experiment: the main job.
      products: the matrix products of its step.
      probe: measures the rates of matrix products.
    """

    config: Config
    model: binary_images.Config
    experiment: harness.Experiment
    products: list[Product]
    probe: Callable[[], dict[str, float]]

    @property
    def flops_a_step(self) -> int:
        return sum(product.flops for product in self.products)


def make_bench(config: Config) -> Bench:
    """Return the main job as every section measures it."""
    # The rate decays over all the epochs that a row trains for, the first round's
    # included.
    mnist = load_program("mnist")
    model = mnist.config_type(epochs=config.rounds + 1, data=config.data)
    experiment = mnist.make_experiment(model)
    products = step_products(peers.layers(model, experiment), experiment.batch_size)
    return Bench(config, model, experiment, products, make_probe(products))
