"""The harness of the programs: training, evaluation, run folder, report, command line.

A program takes the records and loaders below, and the files `binary_images`, `cli`,
`evaluation`, `figures`, `keys` and `model_options`. Read `experiment` first (what flows
through the harness), then `run` (in which order) and `loop` (the training loop).
"""

from experiments.harness.analysis import analyze_model, analyze_numbers
from experiments.harness.config import (
    Config,
    MeasurementConfig,
    NonNegativeFloat,
    NonNegativeInt,
)
from experiments.harness.data_sets import hold_out, load_images
from experiments.harness.errors import RunError, UsageError, one_line
from experiments.harness.experiment import (
    ONLY,
    About,
    Comparison,
    Experiment,
    Recipe,
    Result,
    Trained,
    steps_per_epoch,
)

__all__ = [
    "ONLY",
    "About",
    "Comparison",
    "Config",
    "Experiment",
    "MeasurementConfig",
    "NonNegativeFloat",
    "NonNegativeInt",
    "Recipe",
    "Result",
    "RunError",
    "Trained",
    "UsageError",
    "analyze_model",
    "analyze_numbers",
    "hold_out",
    "load_images",
    "one_line",
    "steps_per_epoch",
]
