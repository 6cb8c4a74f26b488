"""Means over many keys and their standard errors."""

import math

import jax
import numpy as np


def over_keys(function, num):
    return jax.tree.map(
        np.asarray,
        jax.jit(jax.vmap(function))(jax.random.split(jax.random.key(1), num)),
    )


def standard_error(values):
    return values.std(axis=0, ddof=1) / math.sqrt(len(values))
