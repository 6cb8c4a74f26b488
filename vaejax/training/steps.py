"""The training step: a pure function of a state and a batch. Read this file first.

Training knows of a VAE only its `init`; a step sees a `loss_fn(params, key, batch)`.
Randomness is a function of the run's key and the step alone: the noise of step n, the
order of epoch e and the position in it follow from `TrainState.key` and
`TrainState.step`, so that a resumed run draws what the uninterrupted one would have.
"""

import inspect
from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from vaejax._checks import (
    check_arrays,
    check_function,
    check_functions,
    check_key,
    check_options,
    check_state,
    described,
)
from vaejax.base import VAE, Array, Example, Key, LossFn, Params, PyTree, TrainStep
from vaejax.training.checks import check_example
from vaejax.training.schedules import Schedule

# One stream of keys for each purpose, folded apart before a step or an epoch is folded
# in, so that equal counts never coincide.
_INIT, _NOISE, _SHUFFLE, _VALIDATION = range(4)
# What optimizers such as line searches take beside the gradient.
_EXTRA_ARGUMENTS = ("value", "grad", "value_fn")


class TrainState(NamedTuple):
    """State of training: all that a step changes and that a checkpoint holds.

    A pytree: `jax.vmap` over stacked states trains several seeds in one program.

    Attributes:
      params: The parameters of the model.
      opt_state: The state of the optimizer.
      key: The typed key of the run. It never changes; every draw is folded from it.
      step: The number of steps taken, `int32`, a scalar.
      extra: A dict of what step modifiers keep, one entry for each; `()` without any.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from vaejax import TrainState
      >>> state = TrainState(jnp.zeros(3), (), jax.random.key(0), jnp.int32(0))
      >>> int(state._replace(step=state.step + 1).step), state.extra
      (1, ())
    """

    params: Params
    opt_state: PyTree
    key: Key
    step: Array
    extra: PyTree = ()


class StepMetrics(NamedTuple):
    """The loss of a step and its terms, before the update.

    Attributes:
      loss: The loss that was minimized, a scalar; nats per example for a negative ELBO.
      terms: The second value of `loss_fn`, such as the batch mean of `ElboTerms`.

    Example:
      >>> import jax.numpy as jnp
      >>> from vaejax.training import StepMetrics
      >>> metrics = StepMetrics(loss=jnp.float32(1.5), terms={"kl": jnp.float32(0.5)})
      >>> float(metrics.loss - metrics.terms["kl"])
      1.0
    """

    loss: Array
    terms: PyTree


def init_train_state(
    vae: VAE, optimizer: optax.GradientTransformation, key: Key, x: Example
) -> TrainState:
    """Return the state before the first step.

    Where the values of x are known, it raises for one outside the support of the
    likelihood, and warns if they are far above unit size. Standardize such data: their
    log-density is that of the standardized data less the sum of the log standard
    deviations. `check_data` judges a whole data set.

    Args:
      vae: The model, of which only `init` is computed; another model with an `init`,
        such as a classifier, trains as well.
      optimizer: Any optax transformation, the one that `make_train_step` is given.
      key: The typed key of the run, from which the initial parameters, the noise of
        every step and the order of the data follow.
      x: One example as the model sees it, after any transform, without a batch axis.

    Returns:
      A `TrainState` with fresh parameters and `step` 0.

    Raises:
      TypeError: The key is not a typed key, or the optimizer no transformation.
      ValueError: There are several keys, x is empty, or it holds a value that is not
        finite or outside the support; one of zeros alone stands for a shape and is not
        judged.

    Example:
      >>> import jax, jax.numpy as jnp, optax
      >>> import vaejax
      >>> vae = vaejax.gaussian_vae(
      ...     latent_size=2, encoder=vaejax.MLP(()), decoder=vaejax.MLP((), (4, 4))
      ... )
      >>> state = vaejax.init_train_state(
      ...     vae, optax.adam(1e-3), jax.random.key(0), jnp.zeros((4, 4))
      ... )
      >>> int(state.step), sum(leaf.size for leaf in jax.tree.leaves(state.params))
      (0, 116)
    """
    check_functions(vae, "init")
    _check_optimizer(optimizer)
    check_key(key)
    check_arrays("x", x)
    params = vae.init(jax.random.fold_in(key, _INIT), x)
    # Other models than VAEs train as well, such as a classifier.
    if hasattr(vae, "decode"):
        check_example(vae, params, x)
    return TrainState(params, optimizer.init(params), key, jnp.zeros((), jnp.int32))


def make_train_step(
    loss_fn: LossFn,
    optimizer: optax.GradientTransformation,
    schedules: Mapping[str, Schedule] | None = None,
) -> TrainStep:
    """Return a training step: gradient of the loss, update of the optimizer, step + 1.

    The step is a pure function and is not jitted: give it to `make_train_epoch`, or
    wrap it in `jax.jit`. Its noise key is a function of `state.key` and `state.step`.

    Args:
      loss_fn: `(params, key, batch, **schedules) -> (loss, terms)`, as
        `mean_over_batch` and `loss_of_means` return it.
      optimizer: Any optax transformation; a learning-rate schedule lives in it. One
        that takes more than the gradient, such as `optax.lbfgs`, is given the `value`
        of the loss, its `grad`, and the `value_fn` of the parameters, which has the
        noise of the step.
      schedules: Functions of the step, whose values `loss_fn` is given by name at every
        step, such as `{"beta": optax.linear_schedule(0.0, 1.0, 1000)}`. None gives it
        no such argument.

    Returns:
      `step(state, batch) -> (state, metrics)`, with `metrics` a `StepMetrics`.

    Raises:
      TypeError: `loss_fn` or a schedule is no function, `loss_fn` has no argument of
        the name of a schedule, or the optimizer needs more than it is given.

    Example:
      >>> import jax, jax.numpy as jnp, optax
      >>> from vaejax import TrainState, make_train_step
      >>> def loss_fn(params, key, batch, *, beta):
      ...     return beta * jnp.mean((batch - params) ** 2), {"beta": beta}
      >>> optimizer, params = optax.sgd(0.25), jnp.zeros(())
      >>> step = make_train_step(
      ...     loss_fn, optimizer, {"beta": optax.constant_schedule(0.5)}
      ... )
      >>> state = TrainState(
      ...     params, optimizer.init(params), jax.random.key(0), jnp.int32(0)
      ... )
      >>> state, metrics = step(state, jnp.ones(8))
      >>> int(state.step), float(state.params), float(metrics.loss)
      (1, 0.25, 0.5)
    """
    check_function("make_train_step: loss_fn", loss_fn)
    schedules = dict(schedules or {})
    for name, schedule in schedules.items():
        check_function(f"make_train_step: the schedule of {name}", schedule)
    check_options("make_train_step", loss_fn, schedules)
    extra_arguments = _extra_arguments(optimizer)
    value_and_grad = jax.value_and_grad(loss_fn, has_aux=True)

    def step(state: TrainState, batch: PyTree) -> tuple[TrainState, StepMetrics]:
        check_state(state)
        check_key(state.key)
        noise_key = jax.random.fold_in(
            jax.random.fold_in(state.key, _NOISE), state.step
        )
        options = {name: schedule(state.step) for name, schedule in schedules.items()}
        (loss, terms), gradient = value_and_grad(
            state.params, noise_key, batch, **options
        )

        def value_fn(params: Params) -> Array:
            # The noise of the gradient, on purpose.
            return loss_fn(params, jax.random.clone(noise_key), batch, **options)[0]

        found = {"value": loss, "grad": gradient, "value_fn": value_fn}
        updates, opt_state = optimizer.update(
            gradient,
            state.opt_state,
            state.params,
            **{name: found[name] for name in extra_arguments},
        )
        after = state._replace(
            params=optax.apply_updates(state.params, updates),
            opt_state=opt_state,
            step=state.step + 1,
        )
        return after, StepMetrics(loss, terms)

    return step


def _extra_arguments(optimizer: optax.GradientTransformation) -> list[str]:
    """Return which of the extra arguments of a step an optimizer takes."""
    _check_optimizer(optimizer)
    arguments = inspect.signature(optimizer.update).parameters.values()
    needed = [
        each.name
        for each in arguments
        if each.kind is each.KEYWORD_ONLY
        and each.default is each.empty
        and each.name not in _EXTRA_ARGUMENTS
    ]
    if needed:
        raise TypeError(
            f"make_train_step: the optimizer needs {', '.join(needed)}; give one that "
            "takes value, grad and value_fn at most."
        )
    takes_all = any(each.kind is each.VAR_KEYWORD for each in arguments)
    names = {each.name for each in arguments}
    return [name for name in _EXTRA_ARGUMENTS if takes_all or name in names]


def _check_optimizer(optimizer: optax.GradientTransformation) -> None:
    if not all(callable(getattr(optimizer, name, None)) for name in ("init", "update")):
        raise TypeError(
            f"the optimizer is {described(optimizer)}; give a transformation of optax, "
            "such as optax.adam(1e-3)."
        )
