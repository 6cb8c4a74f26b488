"""The command line of every program: parsing, and one line for what goes wrong.

A program ends with `cli.train`, `cli.measure`, `cli.around` or `cli.look`. All go
through `_main`, the one place that turns an error into a line and an exit status.
"""

import ast
import dataclasses
import inspect
import itertools
import logging
import sys
import textwrap
from collections.abc import Callable
from functools import partial
from types import MappingProxyType
from typing import Any

import jax
import tyro

from experiments.harness import (
    distributed,
    interrupts,
    measurement,
    output,
    run,
    run_dir,
)
from experiments.harness.config import Config, MeasurementConfig
from experiments.harness.errors import RunError, UsageError, one_line
from experiments.harness.experiment import Comparison, Experiment, Result, Trained
from experiments.harness.interrupts import Interrupted
from experiments.harness.programs import Program, module_of

Parse = Callable[..., Any]


def train(
    config_type: type[Config],
    make_experiment: Callable[[Any], Experiment | Comparison],
    analyze: Callable[[Trained], Result],
) -> None:
    """Run a program that trains, as its command line says."""
    name, module = module_of(make_experiment)
    program = Program(
        name,
        config_type,
        make_experiment,
        analyze,
        module.ABOUT,
        str(module.__doc__),
    )

    def act(config: Config, parse: Parse) -> None:
        distributed.join(config.distributed)
        run.run(program, as_saved(program.name, config, parse))

    # Errors are told here, in a line; the traceback that orbax logs of a failed save is
    # not.
    logging.getLogger("absl").setLevel(logging.CRITICAL)
    _main(config_type, make_experiment, act, "; continue with --resume")


def measure(
    config_type: type[MeasurementConfig], function: measurement.Measure
) -> None:
    """Run a program that measures without training, as its command line says."""
    name, module = module_of(function)

    def act(config: MeasurementConfig, parse: Parse) -> None:
        del parse
        measurement.measure(name, config, function, module.ABOUT, str(module.__doc__))

    _main(config_type, function, act)


def around(config_type: type, function: Callable[[Any], Any]) -> None:
    """Run what runs another program, `function(config)`, as its command line says.

    The words after `--` become its `options`.
    """
    name, _ = module_of(function)
    words = sys.argv[1:]
    end = words.index("--") if "--" in words else len(words)
    own, options = words[:end], tuple(words[end + 1 :])

    def act(config: Any, parse: Parse) -> None:
        if hasattr(config, "resume"):
            config = as_saved(name, config, parse)
        config = dataclasses.replace(config, options=options or config.options)
        function(config)

    _main(config_type, function, act, "; continue with --resume", args=own)


def as_saved(name: str, config: Any, parse: Parse) -> Any:
    """Return the options, which with --resume are those of the run's folder.

    A flag that was given stays.
    """
    if not config.resume:
        return config
    return parse(default=run_dir.saved_config(name, config))


def look(config_type: type, function: Callable[[Any], Any]) -> None:
    """Run any other program, `function(config)`, as its command line says."""
    _main(config_type, function, lambda config, parse: function(config))


def _main(
    config_type: type,
    function: Callable,
    act: Callable[[Any, Parse], None],
    remedy: str = "",
    args: list[str] | None = None,
) -> None:
    """Parse the command line and act; end with a line and an exit status.

    The command line is that of the process, or `args`.
    The status is 2 for a request that cannot be met, 1 for a run that failed, and that
    of the signal for an interrupted run.
    """
    name, module = module_of(function)
    _set_help(config_type)
    parse = partial(
        tyro.cli,
        config_type,
        prog=f"python -m experiments.{name}",
        description=_joined(str(module.__doc__)),
        args=args,
    )
    with output.lenient():
        _act(lambda: act(parse(), parse), remedy)


def _act(function: Callable[[], None], remedy: str) -> None:
    try:
        interrupts.answer_with_exceptions()
        function()
    except (UsageError, RunError) as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        distributed.leave(2 if isinstance(error, UsageError) else 1)
    except OSError as error:
        reason = one_line(f"{error.filename or 'a file'}: {error.strerror or error}")
        distributed.leave_quietly(1, f"error: {reason}{remedy}")
    except jax.errors.JaxRuntimeError as error:
        if jax.process_count() == 1:
            raise
        reason = str(error).strip().partition("\n")[0]
        print(
            f"error: another process is gone ({reason}); start all again with --resume",
            file=sys.stderr,
        )
        distributed.leave(1)
    except Interrupted as interrupted:
        sys.exit(interrupted.exit_status)
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        distributed.leave(130)


def _joined(text: str) -> str:
    """Return a text with one line per paragraph; tyro keeps breaks of the source."""
    paragraphs = inspect.cleandoc(text).split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


def _set_help(config_type: type) -> None:
    """Set the help of each option to the string below it, with its lines joined."""
    texts: dict[str, str] = {}
    for parent in reversed(config_type.__mro__):
        if dataclasses.is_dataclass(parent):
            texts |= _option_texts(parent)
    for field in dataclasses.fields(config_type):
        if field.name in texts:
            help_text = {"help": _joined(texts[field.name])}
            field.metadata = MappingProxyType({**field.metadata, **help_text})


def _option_texts(config_type: type) -> dict[str, str]:
    """Return the strings below the options that a class defines itself, by name."""
    source = textwrap.dedent(inspect.getsource(config_type))
    (definition,) = ast.parse(source).body
    assert isinstance(definition, ast.ClassDef)
    texts = {}
    for option, below in itertools.pairwise(definition.body):
        if isinstance(option, ast.AnnAssign) and isinstance(below, ast.Expr):
            texts[ast.unparse(option.target)] = ast.literal_eval(below.value)
    return texts
