"""What the harness is told and what it answers: an experiment, its recipe, a result."""

import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import optax

import vaejax
from experiments.harness.errors import UsageError
from vaejax import latent
from vaejax.base import Array, Example, Key, KlFn, Params, PyTree, batch_size_of
from vaejax.training import TrainState


class About(NamedTuple):
    """An experiment's entry in the catalogue (`python -m experiments`)."""

    what: str
    paper: str
    cost: str
    expected: str


class Recipe(NamedTuple):
    """What a training step is made of: the arguments of `vaejax.make_train_step`."""

    loss_fn: Callable
    optimizer: optax.GradientTransformation
    schedules: Mapping[str, Callable] = types.MappingProxyType({})


class Experiment(NamedTuple):
    """What `make_experiment` assembles and the harness runs.

    Attributes:
      vae: the model.
      recipe: `hyperparameters -> Recipe`; the values that a sweep varies are traced.
      hyperparameters: the options that may be swept, with the values of this
        configuration.
      batch_size: examples a step.
      train: training data as the step takes them, `[examples, ...]`.
      test: test data as the model sees them, drawn once where they are random,
        `[examples, ...]`.
      data_checksum: of the training and test data as loaded.
      binarization: "dynamic", "static" or "none": which of the published columns the
        numbers belong in.
      figures: `(params, key, history) -> {name: Figure}` of one member.
      num_samples: importance samples of the test NLL.
      kl_fn: how the KL of this posterior and prior is evaluated.
      latent_point: which latent stands for a posterior when active units are counted.
      validation: the training examples that were held out, as the model sees them; None
        where there are none.
      files: `(params, key) -> {path: bytes}` of one member, for its folder; the key is
        that of `figures`.
      captions: of figures and files that the report has no words for.
      diagnostics: `state -> {name: number}` of one member, measured after every epoch;
        None where there are none.
    """

    vae: vaejax.VAE
    recipe: Callable[[Mapping[str, Any]], Recipe]
    hyperparameters: Mapping[str, float]
    batch_size: int
    train: PyTree
    test: PyTree
    data_checksum: str
    binarization: str
    figures: Callable[[Params, Key, list[dict]], Mapping[str, Any]]
    num_samples: int = 500
    kl_fn: KlFn = vaejax.kl_closed_form
    latent_point: latent.PointEstimator = latent.mean
    validation: PyTree | None = None
    files: Callable[[Params, Key], Mapping[str, bytes]] = lambda params, key: {}
    captions: Mapping[str, str] = types.MappingProxyType({})
    diagnostics: Callable[[TrainState], Mapping[str, Array]] | None = None

    @property
    def own_recipe(self) -> Recipe:
        """Of the configuration itself, with nothing swept."""
        return self.recipe(self.hyperparameters)

    @property
    def example(self) -> Example:
        return jax.tree.map(lambda leaf: leaf[0], self.test)

    @property
    def steps_per_epoch(self) -> int:
        return steps_per_epoch(self.train, self.batch_size)


class Result(NamedTuple):
    """What a finished run has to say.

    Attributes:
      summary: what it adds to summary.json.
      headline: the result in a few words.
      about: the sentence above the numbers: data, binarization, seeds, unit.
      rows: the numbers, as (name, value with its error bar, what it is and was measured
        with), or as `header` says.
      figures: draws them, by name; called when the numbers are written.
      captions: of the figures and files that the report has no words for.
      header: of the rows, where their last column is a number too.
      listings: texts, line by line, by what they are; the report shows them.
      files: makes further files of the run's folder, by path; the report plays those
        that are sounds.
    """

    summary: dict[str, Any]
    headline: str
    about: str
    rows: list[tuple[str, ...]]
    figures: Callable[[], Mapping[str, Any]]
    captions: Mapping[str, str] = types.MappingProxyType({})
    header: tuple[str, ...] = ()
    listings: Mapping[str, Sequence[str]] = types.MappingProxyType({})
    files: Callable[[], Mapping[str, bytes]] = dict

    def table(self) -> str:
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


class Comparison(NamedTuple):
    """Several models, trained in turn and concluded on together.

    Attributes:
      arms: the models by name; each has its own folder in the run's.
      conclude: `(members, states, histories, check_interrupts) -> Result`, the middle
        two by name of the arm.
      settings: of the hyper-parameters, by name, `{name: {option: value}}`: each arm's
        members are seeds times these.
    """

    arms: dict[str, Experiment]
    conclude: Callable[..., Result]
    settings: Mapping[str, Mapping[str, float]] = types.MappingProxyType({})


def steps_per_epoch(train: PyTree, batch_size: int) -> int:
    """Whole batches in the training data; UsageError where there is none."""
    num_examples = batch_size_of(train)
    if batch_size > num_examples:
        raise UsageError(
            f"--batch-size is {batch_size} and there are {num_examples} training "
            "examples; give fewer."
        )
    return num_examples // batch_size
