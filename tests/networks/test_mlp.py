"""Multi-layer perceptrons are the equations that they state."""

import jax
import numpy as np
import pytest

import vaejax

X = np.linspace(-1, 1, 6, dtype=np.float32).reshape(2, 3)


def dense(params, name, x):
    return x @ np.asarray(params[name]["kernel"]) + np.asarray(params[name]["bias"])


@pytest.mark.parametrize("output_shape", [None, (2, 2)])
def test_mlp_is_the_recurrence_that_it_says(output_shape):
    mlp = vaejax.MLP((5, 4), output_shape)
    variables = mlp.init(jax.random.key(0), X)
    hidden = X.ravel()
    for name in ("Dense_0", "Dense_1"):
        hidden = np.maximum(dense(variables["params"], name, hidden), 0)
    expected = hidden
    if output_shape:
        expected = dense(variables["params"], "Dense_2", hidden).reshape(output_shape)
    np.testing.assert_allclose(mlp.apply(variables, X), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("output_shape", [None, (2, 2)])
def test_gated_mlp_is_the_recurrence_that_it_says(output_shape):
    mlp = vaejax.GatedMLP((5,), output_shape)
    variables = mlp.init(jax.random.key(0), X)
    params = variables["params"]
    values, gates = (dense(params, name, X.ravel()) for name in ("Dense_0", "Dense_1"))
    expected = values / (1 + np.exp(-gates))
    if output_shape:
        expected = dense(params["MLP_0"], "Dense_0", expected).reshape(output_shape)
    np.testing.assert_allclose(mlp.apply(variables, X), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("sizes", [((0,), None), ((4,), (0, 2))])
def test_sizes_that_are_not_positive_are_refused(sizes):
    with pytest.raises(ValueError, match="must be positive"):
        vaejax.MLP(*sizes)


@pytest.mark.parametrize("mlp", [vaejax.MLP((4,)), vaejax.GatedMLP((4,))])
def test_a_pytree_is_refused_by_name(mlp):
    with pytest.raises(TypeError, match="MLP: the input is of type tuple; give one"):
        mlp.init(jax.random.key(0), (X, X))
