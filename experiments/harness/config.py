"""The options that programs share, and the checks of their values."""

import dataclasses
import importlib.util
import math
import typing
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import tyro

from experiments.harness.errors import UsageError


class _MayBeZero:
    """Marks the type of an option for which 0 means something."""


NonNegativeInt = Annotated[int, _MayBeZero]
NonNegativeFloat = Annotated[float, _MayBeZero]


@dataclasses.dataclass(frozen=True)
class Config:
    """The options that every program that trains takes."""

    seed: NonNegativeInt = 0
    """Seed of the first run; it decides the initial parameters, the noise and the order
    of the data.
    """
    num_seeds: int = 1
    """Number of seeds (seed, seed + 1, ...) that are trained in one program; numbers
    are reported as mean and std over them.
    """
    epochs: int = 1
    """Passes over the training data."""
    data: str = "mnist"
    """Data set: mnist (bundled), another of the catalogue, one of TFDS, the path of an
    .npz, or of a folder: with images in train/ and test/, or with train.npy and
    test.npy, which are not loaded into memory.
    """
    data_dir: Path | None = None
    """Folder with the official files of --data; nothing is downloaded then."""
    out: Path | None = None
    """Folder of the run; by default the next free of runs/NAME-0001, runs/NAME-0002,
    ...
    """
    resume: bool = False
    """Continue the run in --out (by default the newest of this program) from its last
    checkpoint. A larger --epochs needs --extend.
    """
    extend: bool = False
    """With --resume and a larger --epochs: train a finished run on, to so many epochs
    in all. Schedules are from there on those of the larger number, so a learning rate
    that had decayed to zero is raised again; the result is not that of as many epochs
    from the start.
    """
    extended_from: Annotated[tuple[int, ...], tyro.conf.Suppress] = ()
    """Numbers of epochs that the run had before each --extend; not given by hand."""
    clip_norm: float | None = None
    """Global norm to which larger gradients are scaled down."""
    average: float | None = None
    """Decay of an exponential moving average of the parameters, such as 0.999; the
    average is what is evaluated.
    """
    num_validation: NonNegativeInt = 0
    """Training examples held out, the last ones, and evaluated after each epoch."""
    patience: int | None = None
    """Epochs without a smaller validation loss after which training stops; the best
    parameters are evaluated.
    """
    compute_dtype: Literal["float32", "bfloat16"] = "float32"
    """Type that the networks compute in; parameters, optimizer and log-densities stay
    float32.
    """
    tensorboard: bool = False
    """Write TensorBoard event files into the run's folder too (the extra
    `tensorboard`).
    """
    sweep: tuple[str, ...] = ()
    """Options to sweep, as NAME=VALUE,VALUE,...: every seed is trained at each value
    (of several names, each combination), and the settings are compared.
    """
    members_at_once: int | None = None
    """Members (seeds times swept values) trained together; by default as many as memory
    holds.
    """
    num_devices: int | None = None
    """Devices that share each batch; by default all there are."""
    shard_parameters: bool = False
    """Spread parameters and the optimizer's state over the devices too (FSDP), for
    models that do not fit on one.
    """
    distributed: str | None = None
    """Processes of the run: auto (JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and
    JAX_PROCESS_ID where they are set, else SLURM, Kubernetes, MPI or a TPU pod), or
    HOST:PORT,PROCESSES,INDEX.
    """


@dataclasses.dataclass(frozen=True)
class MeasurementConfig:
    """The options that every program that measures without training takes."""

    seed: NonNegativeInt = 0
    """Seed of the first repetition."""
    num_seeds: int = 1
    """Number of repetitions (seed, seed + 1, ...); numbers are reported as mean and std
    over them.
    """
    out: Path | None = None
    """Folder of the results; by default the next free of runs/NAME-0001,
    runs/NAME-0002, ...
    """

    # Options of programs that train, which the run folder looks at too.
    resume: ClassVar[bool] = False
    distributed: ClassVar[str | None] = None

    @property
    def seeds(self) -> list[int]:
        return list(range(self.seed, self.seed + self.num_seeds))

    def check(self) -> None:
        """Raise UsageError where options contradict one another."""


def may_be_zero(config_type: type, name: str) -> bool:
    """Return whether 0 is a meaningful value of an option."""
    hint = typing.get_type_hints(config_type, include_extras=True).get(name)
    return _MayBeZero in typing.get_args(hint)


def check_positive(config: Any, *names: str) -> None:
    """Check that integer options are at least 1.

    Raises:
      UsageError: one is not.
    """
    for name in names:
        value = getattr(config, name)
        if value < 1:
            raise UsageError(
                f"--{name.replace('_', '-')} is {value}; give a positive integer."
            )


def check_options(config: Any) -> None:
    """Check the values of the options, before anything is written.

    Raises:
      UsageError: an option has a value that it cannot have.
    """
    if config.seed + config.num_seeds > 2**31:
        raise UsageError(f"--seed is {config.seed}; seeds must stay below {2**31}.")
    check_numbers(config)
    if isinstance(config, Config):
        _check_training(config)


def check_numbers(config: Any) -> None:
    """Check that options which are numbers are positive, or not negative.

    Raises:
      UsageError: an option has a value that it cannot have.
    """
    for field in dataclasses.fields(config):
        value, flag = getattr(config, field.name), "--" + field.name.replace("_", "-")
        for number in value if isinstance(value, tuple) else (value,):
            if isinstance(number, int | float) and not isinstance(number, bool):
                _check_number(flag, number, may_be_zero(type(config), field.name))


def _check_number(flag: str, value: float, zero_is_allowed: bool) -> None:
    if not math.isfinite(value) or value < 0 or (value == 0 and not zero_is_allowed):
        raise UsageError(
            f"{flag} is {value}; give a "
            f"{'non-negative' if zero_is_allowed else 'positive'} number."
        )
    if isinstance(value, float):
        check_in_float32(f"{flag} is {value}", value)


def check_in_float32(what: str, value: float) -> None:
    """Check that a number, which is not negative, does not round to 0 or infinity.

    Raises:
      UsageError: it does in float32, the type that programs compute in.
    """
    limits = np.finfo(np.float32)
    if value > float(limits.max) or 0 < value < float(limits.tiny):
        raise UsageError(
            f"{what}, which is {'infinite' if value > 1 else '0'} in float32; give a "
            f"number between {limits.tiny:.1e} and {limits.max:.1e}."
        )


def _check_training(config: Config) -> None:
    if config.average is not None and np.float32(config.average) >= 1:
        rounded = ", which is 1 in float32" if config.average < 1 else ""
        raise UsageError(
            f"--average is {config.average}{rounded}; give a decay below 1, such as "
            "0.999."
        )
    if config.tensorboard and importlib.util.find_spec("tensorboardX") is None:
        raise UsageError(
            "--tensorboard needs tensorboardX; install the extra `tensorboard`."
        )
    if config.patience is not None and not config.num_validation:
        raise UsageError(
            "--patience needs validation data; hold some out with --num-validation, "
            "such as 10000."
        )
