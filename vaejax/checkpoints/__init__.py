"""Checkpoints over orbax: atomic, verified when they are read, with typed PRNG keys.

A checkpoint is any pytree of arrays, such as a `TrainState`, under a step number.
Beside it stand a description of every leaf and digests of the bytes, so that a
checkpoint of another model, dtype or PRNG implementation, or one with a flipped bit, is
refused with a message; orbax alone casts the first silently and returns the last. What
else belongs to the state, such as its configuration, travels with it as `metadata`.
`write_atomically` is for the other files of a run.
Read `saving.py` first.
"""

from vaejax._files import write_atomically
from vaejax.checkpoints._digests import describe, digest
from vaejax.checkpoints._files import CheckpointMismatchError
from vaejax.checkpoints.saving import latest, read_metadata, restore, save, steps

__all__ = [
    "CheckpointMismatchError",
    "describe",
    "digest",
    "latest",
    "read_metadata",
    "restore",
    "save",
    "steps",
    "write_atomically",
]
