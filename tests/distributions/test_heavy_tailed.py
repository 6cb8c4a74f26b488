"""Student's t: its limit, and where it has no mean."""

import math

import numpy as np
from support.families import A, B

import vaejax


def test_student_t_tends_to_the_normal():
    x = np.float32([0.1, -2.0, 3.0])
    heavy = vaejax.distributions.StudentT(A, B, np.full(3, math.log(1e6), np.float32))
    np.testing.assert_allclose(
        heavy.log_prob(x), vaejax.Normal(A, 2 * B).log_prob(x), rtol=1e-5
    )
    assert np.all(
        np.isnan(vaejax.distributions.StudentT(A, B, np.full(3, -1.0, np.float32)).mean)
    )
