"""Distributions of examples of several parts: a dict, tuple or NamedTuple of them."""

import dataclasses
import functools
import operator
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vaejax._checks import (
    as_numbers,
    check_key,
    has,
    is_array,
    log_prob_of,
    sample_and_log_prob_of,
    split_parts,
)
from vaejax._reals import at_least_single
from vaejax._supports import read_support
from vaejax.base import (
    Array,
    Distribution,
    Event,
    Key,
    PyTree,
    Support,
    draw,
)
from vaejax.columns import MaskedEvent
from vaejax.distributions.kl import kl_divergence

_METHODS = ("log_prob", "sample", "sample_and_log_prob")


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Joint:
    """Distribution of events of several independent parts, each of its own family.

    log p(x) = sum_i log p_i(x_i). An event has the containers of `distributions`; each
    part is what the distribution there is over: an array, tokens, a row of a table.

    A part may be missing: it is then `MaskedEvent(values, mask)` with a mask of no
    axes, which is false. It contributes exactly 0, and what stands in `values` changes
    neither value nor gradient. A mask of the shape of the part is for a `Masked` or
    `Mixed` distribution there, which takes cells one by one. Draws are complete.

    `mean` has the mode of parts without a mean, such as classes; `support` judges each
    part by its own.

    Attributes:
      distributions: a dict, tuple or NamedTuple of distributions, nested at will.

    Example:
      >>> import jax.numpy as jnp
      >>> import vaejax
      >>> from vaejax.distributions import Joint, MaskedEvent
      >>> both = Joint({
      ...     "image": vaejax.Bernoulli(jnp.zeros((2, 2))),
      ...     "label": vaejax.Categorical(jnp.zeros(4)),
      ... })
      >>> x = {"image": jnp.ones((2, 2)), "label": jnp.array(3)}
      >>> round(float(both.log_prob(x)), 3)  # 4 log(1/2) + log(1/4)
      -4.159
      >>> unlabeled = x | {"label": MaskedEvent(jnp.array(0), jnp.array(False))}
      >>> round(float(both.log_prob(unlabeled)), 3)  # 4 log(1/2)
      -2.773

    Source: Suzuki et al. 2016 (JMVAE), equation 2; missing parts: Wu & Goodman 2018
    (MVAE), section 2.
    """

    distributions: PyTree

    def log_prob(self, event: Event) -> Array:
        return _sum(jax.tree.leaves(self.part_log_probs(event)))

    def part_log_probs(self, event: Event) -> PyTree:
        """Return the log-density of each part, scalars in the containers of the parts.

        It is 0 for a missing part.
        """
        log_probs = []
        for name, distribution, part in self.parts(event):
            with _naming(f"Joint at {name}"):
                log_probs.append(at_least_single(_log_prob(distribution, part)))
        return _parts_of(self.distributions)[2].unflatten(log_probs)

    def parts(self, event: Event) -> list[tuple[str, Distribution, Event]]:
        """Return the name of each part, its distribution and its event."""
        names, distributions, structure = _parts_of(self.distributions)
        events = _split("Joint.log_prob: the event", structure, names, event)
        return list(zip(names, distributions, events, strict=True))

    def kl_divergence(self, p: Distribution) -> Array:
        """Return the closed form of KL(self || p), the sum over parts."""
        if not isinstance(p, Joint):
            raise TypeError(
                f"kl_divergence: q is a Joint and p a {type(p).__name__}; give a Joint "
                "of the same parts."
            )
        names, parts, structure = _parts_of(self.distributions)
        others = _split("kl_divergence: p", structure, names, p.distributions)
        return _sum(map(kl_divergence, parts, others))

    def sample(self, key: Key) -> Event:
        names, distributions, structure = _parts_of(self.distributions)
        return structure.unflatten(map(draw, _keys(key, names), distributions))

    def sample_and_log_prob(self, key: Key) -> tuple[Event, Array]:
        names, distributions, structure = _parts_of(self.distributions)
        pairs = map(sample_and_log_prob_of, distributions, _keys(key, names))
        events, log_probs = zip(*pairs, strict=True)
        return structure.unflatten(events), _sum(log_probs)

    @property
    def mean(self) -> Event:
        return self._points("mean", "mode")

    @property
    def mode(self) -> Event:
        return self._points("mode")

    @property
    def support(self) -> Support:
        """The events with mass: `contains` returns bools in the containers of parts."""
        return Support("values of each part's own support", self._contains)

    def _points(self, *points: str) -> Event:
        names, distributions, structure = _parts_of(self.distributions)
        found = []
        for name, distribution in zip(names, distributions, strict=True):
            point = next((each for each in points if hasattr(distribution, each)), None)
            if point is None:
                # AttributeError: as of a distribution that has none, to `hasattr`.
                raise AttributeError(
                    f"Joint at {name}: {type(distribution).__name__} has no "
                    f"{points[0]}."
                )
            found.append(getattr(distribution, point))
        return structure.unflatten(found)

    def _contains(self, event: Event) -> PyTree:
        found = [_part_contains(*part) for _, *part in self.parts(event)]
        return _parts_of(self.distributions)[2].unflatten(found)


def _part_contains(distribution: Distribution, part: Event) -> Any:
    support = read_support(distribution)
    if isinstance(part, MaskedEvent) and np.ndim(part.mask) == 0:
        return _part_contains(distribution, part.values) | ~np.asarray(part.mask, bool)
    if support is None:
        return jax.tree.map(lambda leaf: np.ones(np.shape(leaf), bool), part)
    if isinstance(part, MaskedEvent):
        return support.contains(part.values) | ~np.asarray(part.mask, bool)
    return support.contains(part)


def _log_prob(distribution: Distribution, part: Event) -> Array:
    """Return the log-density of a part, 0 where it is missing."""
    if not (isinstance(part, MaskedEvent) and jnp.ndim(part.mask) == 0):
        return log_prob_of(distribution, part)
    is_seen = jnp.asarray(as_numbers("the mask", part.mask)).astype(bool)
    # Replaced before anything is computed of it, and so harmless to gradients.
    seen = jax.tree.map(
        lambda leaf, other: jnp.where(is_seen, leaf, jnp.asarray(other, leaf.dtype)),
        jax.tree.map(jnp.asarray, part.values),
        _inside(distribution, part.values),
    )
    return jnp.where(is_seen, log_prob_of(distribution, seen), 0)


def _inside(distribution: Distribution, part: Event) -> Event:
    """Return an event with mass: zeros, or the mode or mean where 0 has none."""
    support = read_support(distribution)
    has_zero = (
        support is not None
        and is_array(part)
        and bool(np.all(support.contains(np.zeros(np.shape(part)))))
    )
    for point in () if has_zero else ("mode", "mean"):
        if has(distribution, point):
            inside: Any = jax.lax.stop_gradient(getattr(distribution, point))
            if jax.tree.structure(inside) == jax.tree.structure(part):
                return inside
    return jax.tree.map(lambda leaf: np.zeros((), jnp.result_type(leaf)), part)


def _keys(key: Key, names: list[str]) -> Key:
    check_key(key)
    return jax.random.split(key, len(names))


def _is_distribution(value: Any) -> bool:
    return not isinstance(value, type) and any(hasattr(value, m) for m in _METHODS)


def _parts_of(distributions: PyTree) -> tuple[list[str], list[Any], Any]:
    """Return names and distributions of the parts, and the containers around them."""
    return _flat(distributions, _is_distribution)


def _flat(
    tree: PyTree, is_leaf: Callable[[Any], bool]
) -> tuple[list[str], list[Any], Any]:
    found, structure = jax.tree_util.tree_flatten_with_path(tree, is_leaf=is_leaf)
    names = [jax.tree_util.keystr(path) for path, _ in found]
    return names, [leaf for _, leaf in found], structure


def _split(what: str, structure: Any, names: list[str], tree: PyTree) -> list[Any]:
    """Return what a pytree has at each part, or raise ValueError naming the parts."""
    wanted = f"the parts are at {', '.join(names)}; give one of each"
    return split_parts(what, structure, tree, wanted)


@contextmanager
def _naming(where: str) -> Iterator[None]:
    """Name the part in the error of its distribution or its head."""
    try:
        yield
    except (TypeError, ValueError) as error:
        # Errors of other classes carry more than a message.
        if type(error) not in (TypeError, ValueError):
            raise
        raise type(error)(f"{where}: {error}") from error


def _sum(terms: Iterable[Array]) -> Array:
    """Return the sum of scalars, each in single precision or better."""
    return functools.reduce(operator.add, map(at_least_single, terms))


def mask_parts(event: Event, mask: PyTree) -> Event:
    """Return an event of which only some parts are seen, the others missing.

    Args:
      event: a dict, tuple or NamedTuple of parts; or a batch of them, whose leaves have
        a leading axis. A part may be missing already.
      mask: bools in the same containers, true for a part that is seen: one for each
        part, or `[num]` for a batch.

    Returns:
      The event whose parts are `MaskedEvent(values, mask)`, as `Joint` takes it.

    Raises:
      ValueError: the containers of `mask` are not those of `event`.

    Example:
      >>> import jax.numpy as jnp
      >>> from vaejax.distributions import mask_parts
      >>> event = {"image": jnp.ones((4, 4)), "label": jnp.array(3)}
      >>> unlabeled = mask_parts(event, {"image": True, "label": False})
      >>> bool(unlabeled["image"].mask), bool(unlabeled["label"].mask)
      (True, False)

    Source: Wu & Goodman 2018 (MVAE), section 2.
    """
    names, masks, structure = _flat(mask, lambda leaf: False)
    parts = _split("mask_parts: the event", structure, names, event)
    return structure.unflatten(map(_masked_part, parts, masks))


def _masked_part(part: Any, mask: Any) -> MaskedEvent:
    is_seen = jnp.asarray(as_numbers("mask_parts: mask", mask)).astype(bool)
    if isinstance(part, MaskedEvent) and jnp.ndim(part.mask) == is_seen.ndim:
        return part._replace(mask=jnp.asarray(part.mask).astype(bool) & is_seen)
    values: Any = part
    return MaskedEvent(values, is_seen)
