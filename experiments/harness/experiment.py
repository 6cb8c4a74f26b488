"""The records that flow through the harness: an experiment, what was trained, a result.

`make_experiment(config)` returns an `Experiment`, or a `Comparison` of several; the
harness trains it; `analyze(trained)` turns what was trained into a `Result`.
"""

import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import optax

import vaejax
from experiments.harness.errors import UsageError
from experiments.harness.members import Members
from vaejax import latent
from vaejax.base import (
    Array,
    Example,
    Key,
    KlFn,
    LossFn,
    Params,
    PyTree,
    batch_size_of,
)
from vaejax.training import TrainState

ONLY = ""
"""The name of the model of a run that trains a single one."""


class About(NamedTuple):
    """A program's entry in the catalogue (`python -m experiments`).

    Attributes:
      what: the program in half a sentence.
      paper: the paper that it follows; empty if none.
      cost: how long it takes, and on what.
      expected: the result in a few words; empty if it depends on data or machine.
    """

    what: str
    paper: str
    cost: str
    expected: str


class Recipe(NamedTuple):
    """The arguments of `vaejax.make_train_step`.

    Attributes:
      loss_fn: the loss of a batch.
      optimizer: the optimizer.
      schedules: arguments of the loss that depend on the step.
    """

    loss_fn: LossFn
    optimizer: optax.GradientTransformation
    schedules: Mapping[str, Callable[[Array], Array]] = types.MappingProxyType({})


class Rows(NamedTuple):
    """How rows of a user's file become examples of the model, and come back.

    Attributes:
      schema: the columns of the file, or the units of an array.
      examples_of: `frame -> [rows, ...]`, examples in the units of the file; a frame is
        whatever holds rows, such as a path or a DataFrame.
      rows_of: `[rows, ...] -> frame`, the other way.
      point: the example that stands for p(x|z).
    """

    schema: Any
    examples_of: Callable[[Any], PyTree]
    rows_of: Callable[[Any], Any]
    point: latent.PointEstimator = latent.mean


class Experiment(NamedTuple):
    """A model, its data, and how it is trained and evaluated.

    Attributes:
      vae: the model.
      recipe: `hyperparameters -> Recipe`; the values that a sweep varies are traced.
      hyperparameters: the options that may be swept, with the values of this
        configuration.
      batch_size: examples per step.
      train: training data as the step takes them, `[examples, ...]`.
      test: test data as the model sees them, drawn once where they are random,
        `[examples, ...]`.
      data_checksum: SHA-256 of the training and test data as loaded.
      binarization: "dynamic", "static" or "none": the protocol of the published
        numbers that these compare with.
      figures: `(params, key, history) -> {name: Figure}` for one member.
      num_samples: importance samples per example of the test NLL.
      num_annealed: test examples whose log p(x) is annealed too, or 0 for a model
        whose latents cannot be.
      kl_fn: the KL of this posterior and prior.
      latent_point: the latent that stands for a posterior when active units are
        counted.
      validation: the training examples that were held out, as the model sees them, or
        None.
      files: `(params, key) -> {path: bytes}` for one member, written into the run's
        folder; the key is that of `figures`.
      captions: captions of figures and files that the report does not know.
      diagnostics: `state -> {name: number}` for one member, measured after every epoch,
        or None.
      records: JSON values by file name, written into the run's folder before training;
        `schema.json` is what the model is built from where the data are gone.
      rows: how rows of the user's file become examples, or None.
      notes: sentences on the data, printed before training.
      intensities: `examples of train -> [examples, ...]` in the units of `test`, but
        not drawn; None where they are 8-bit intensities or in these units already.
    """

    vae: vaejax.VAE
    recipe: Callable[[Mapping[str, Any]], Recipe]
    hyperparameters: Mapping[str, float]
    batch_size: int
    train: PyTree
    test: PyTree
    data_checksum: str
    binarization: str
    figures: Callable[[Params, Key, list[dict]], Mapping[str, Any]] = (
        lambda params, key, history: {}
    )
    num_samples: int = 500
    num_annealed: int = 0
    kl_fn: KlFn = vaejax.kl_closed_form
    latent_point: latent.PointEstimator = latent.mean
    validation: PyTree | None = None
    files: Callable[[Params, Key], Mapping[str, bytes]] = lambda params, key: {}
    captions: Mapping[str, str] = types.MappingProxyType({})
    diagnostics: Callable[[TrainState], Mapping[str, Array]] | None = None
    records: Mapping[str, Any] = types.MappingProxyType({})
    rows: Rows | None = None
    notes: Sequence[str] = ()
    intensities: Callable[[PyTree], Array] | None = None

    @property
    def own_recipe(self) -> Recipe:
        """The recipe of the configuration itself, with nothing swept."""
        return self.recipe(self.hyperparameters)

    @property
    def example(self) -> Example:
        """The first test example."""
        return jax.tree.map(lambda leaf: leaf[0], self.test)

    @property
    def num_test_examples(self) -> int:
        return batch_size_of(self.test)

    @property
    def steps_per_epoch(self) -> int:
        return steps_per_epoch(self.train, self.batch_size)


class Comparison(NamedTuple):
    """Several models that are trained in turn and analyzed together.

    Attributes:
      arms: the models by name; each has its own folder within the run's.
      settings: named settings of the hyperparameters, `{name: {option: value}}`; the
        members of each arm are seeds times these.
      context: anything else that `analyze` needs, such as the vocabulary of a text.
    """

    arms: Mapping[str, Experiment]
    settings: Mapping[str, Mapping[str, float]] = types.MappingProxyType({})
    context: Any = None


class Trained(NamedTuple):
    """Everything that `analyze` may look at once training has ended.

    Attributes:
      config: the options of the run.
      experiments: the models by name; the name of a single one is `ONLY`.
      members: the seeds and settings that were trained of each model.
      states: the members' states by name of the model, with the parameters to
        evaluate.
      history: the lines of metrics.jsonl by name of the model.
      check_interrupts: raises once the user has asked the run to stop; long analyses
        call it between steps.
      context: the `context` of the comparison.
      diverged: numbers of the members whose loss is finite but far above that of the
        untrained model, by name of the model; evaluation leaves them out.
    """

    config: Any
    experiments: Mapping[str, Experiment]
    members: Members
    states: Mapping[str, TrainState]
    history: Mapping[str, list[dict]]
    check_interrupts: Callable[[], None] = lambda: None
    context: Any = None
    diverged: Mapping[str, Sequence[int]] = types.MappingProxyType({})

    @property
    def first_experiment(self) -> Experiment:
        """The first model, for what is the same of all: test data, binarization."""
        return next(iter(self.experiments.values()))

    def state(self, arm: str = ONLY, member: int = 0) -> TrainState:
        """The state of one member, by default the first."""
        return self.members.member(self.states[arm], member)


class Result(NamedTuple):
    """The numbers, figures and words of a finished run.

    Attributes:
      summary: the program's part of summary.json.
      headline: the result in a few words.
      about: the sentence above the numbers: data, binarization, seeds, unit.
      rows: the numbers, as (name, value with its error bar, what it is and was measured
        with), or as `header` says.
      figures: draws the figures, by name; called after the numbers are written.
      captions: captions of figures and files that the report does not know.
      header: names of the columns, where the last one is a number too.
      listings: texts by title, line by line, for the report.
      files: makes further files of the run's folder, by path; the report plays those
        that are sounds.
      verdict: sentences that say what the numbers are worth, which stand before them.
    """

    summary: dict[str, Any]
    headline: str
    about: str
    rows: Sequence[Sequence[str]]
    figures: Callable[[], Mapping[str, Any]] = dict
    captions: Mapping[str, str] = types.MappingProxyType({})
    header: tuple[str, ...] = ()
    listings: Mapping[str, Sequence[str]] = types.MappingProxyType({})
    files: Callable[[], Mapping[str, bytes]] = dict
    verdict: Sequence[str] = ()

    def table(self) -> str:
        """The numbers as aligned text, for the screen."""
        rows = [self.header, *self.rows] if self.header else self.rows
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        # Without a header the last column is a note.
        ends = len(widths) if self.header else len(widths) - 1
        lines = []
        for name, *cells in rows:
            numbers = [
                cell.rjust(width)
                for cell, width in zip(cells[: ends - 1], widths[1:ends], strict=True)
            ]
            lines.append(
                "  ".join(["", name.ljust(widths[0]), *numbers, *cells[ends - 1 :]])
            )
        return "\n".join([self.about, *lines])


def as_comparison(experiment: Experiment | Comparison) -> Comparison:
    """Return a single model as a comparison of one, whose folder is the run's own."""
    if isinstance(experiment, Comparison):
        return experiment
    return Comparison({ONLY: experiment})


def steps_per_epoch(train: PyTree, batch_size: int) -> int:
    """Return the number of whole batches in the training data.

    Raises:
      UsageError: there is none.
    """
    num_examples = batch_size_of(train)
    if batch_size > num_examples:
        raise UsageError(
            f"--batch-size is {batch_size} and there are {num_examples} training "
            "examples; give fewer."
        )
    return num_examples // batch_size
