"""The bound without some of its weights, in double precision."""

import itertools
import math

import numpy as np
import scipy.special


def leave_out(log_weights, num):
    """Mean bound over all ways to leave `num` weights out, in double precision, by
    enumeration.
    """
    size = len(log_weights) - num
    bounds = [
        scipy.special.logsumexp(kept)
        for kept in itertools.combinations(log_weights, size)
    ]
    return np.mean(bounds) - math.log(size)
