"""The generator of random numbers that JAX was told to use, and what it makes of noise.

Threefry, the default, draws the noise of a key wherever the key stands. Under `rbg` and
`unsafe_rbg` all keys that `jax.vmap` maps over draw from the first one, so that the
noise of a member depends on the members beside it.
"""

import os
import sys

import jax
import numpy as np

from experiments.harness import distributed
from experiments.harness.errors import UsageError
from experiments.harness.members import Members

VARIABLE = "JAX_DEFAULT_PRNG_IMPL"
# With it, the draws of an array depend on how it lies over the devices of a TPU.
_UNSAFE_FLAG = "xla_tpu_spmd_rng_bit_generator_unsafe"


def check(members: Members, num_devices: int) -> None:
    """Check that the random numbers of a run are those that its numbers speak of.

    One line says what the noise depends on, where that is more than key and step.

    Raises:
      UsageError: settings would be compared under noise that they do not share.
    """
    name = str(jax.random.key_impl(jax.random.key(0)))
    if name == "threefry2x32" or _keys_draw_their_own():
        return
    if len(members.settings) > 1:
        raise UsageError(
            f"{VARIABLE} is {name}: settings are compared under the noise that they "
            f"share, which they do not have under {name}; unset it."
        )
    on_devices = num_devices > 1 and _UNSAFE_FLAG in os.environ.get("XLA_FLAGS", "")
    causes = [
        "on the seeds trained beside a seed",
        "on the batch sizes of the evaluation",
        *([f"on the {num_devices} devices ({_UNSAFE_FLAG})"] if on_devices else []),
        "on the kind of device",
    ]
    _warn(f"warning: {VARIABLE} is {name}: the noise depends {', '.join(causes)}")


def _keys_draw_their_own() -> bool:
    """Return true where keys that are mapped over draw what each draws alone."""
    keys = jax.random.split(jax.random.key(0), 2)
    mapped = jax.vmap(lambda key: jax.random.bits(key, (4,)))(keys)
    return np.array_equal(mapped[1], jax.random.bits(keys[1], (4,)))


@distributed.by_first
def _warn(message: str) -> None:
    print(message, file=sys.stderr)
