"""Every likelihood with events of every dtype: it trains, or says why not."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.densities import DENSITIES

import vaejax
from vaejax import distributions as vd

DTYPES = (
    "bool",
    "int8",
    "uint8",
    "int32",
    "float16",
    "bfloat16",
    "float32",
    "float64",
)
CELLS = [(name, dtype) for name in DENSITIES for dtype in DTYPES]
LEVELS = ("discretized_logistic", "discretized_normal", "discretized_logistic_mixture")
# Made by `mixed_head` alone.
OF_COLUMNS = ("log_normal", "ordinal", "rounded_normal")
IN_UNIT_INTERVAL = ("bernoulli", "continuous_bernoulli")


def event_of(dtype, name=""):
    first = 1 if name == "log_normal" else 0
    return np.array([first, 1, 1]).astype(jnp.dtype(dtype))


def refusal(name, dtype, *, traced):
    """The words of the TypeError, or None where the event is scored."""
    is_integer = jnp.issubdtype(jnp.dtype(dtype), jnp.integer)
    if name in LEVELS and is_integer:
        return f"the event is {dtype}; divide by 255"
    if name in IN_UNIT_INTERVAL and dtype == "uint8" and traced:
        return "the event is uint8; "
    if name == "categorical" and jnp.issubdtype(jnp.dtype(dtype), jnp.floating):
        return "classes are .*float.*; give integers"
    return None


def three_dimensions(name, dtype=np.float32):
    density = DENSITIES[name]
    rows = [parameter[[1, 2, -1]].astype(dtype) for parameter in density.parameters]
    return density.make(*map(jnp.asarray, rows))


def expected_event(name):
    return event_of("int32" if name == "categorical" else "float32", name)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "dtype"), CELLS)
def test_scores_and_gradients_are_those_of_the_float32_event(name, dtype):
    distribution, event = three_dimensions(name), event_of(dtype, name)
    scored = jax.value_and_grad(lambda d, x: d.log_prob(x))
    if words := refusal(name, dtype, traced=True):
        with pytest.raises(TypeError, match=words):
            jax.make_jaxpr(distribution.log_prob)(event)
    if refusal(name, dtype, traced=False):
        with pytest.raises(TypeError, match=words):
            distribution.log_prob(event)
        return
    value, gradient = scored(distribution, event)
    expected, expected_gradient = scored(distribution, expected_event(name))
    assert value == expected and value.dtype == jnp.float32 and np.isfinite(value)
    jax.tree.map(np.testing.assert_array_equal, gradient, expected_gradient)


def vae_of(name):
    if name == "categorical":
        head = vd.categorical_head(3)
    elif name == "discretized_logistic_mixture":
        head = vd.discretized_logistic_mixture_head(2)
    else:
        head = vd.as_head(DENSITIES[name].make)
    shape = (3,) if head.num_parameters == 1 else (3, head.num_parameters)
    return vaejax.gaussian_vae(
        latent_size=2,
        encoder=vaejax.MLP(()),
        decoder=vaejax.MLP((), shape),
        likelihood=head,
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "dtype"), [cell for cell in CELLS if cell[0] not in OF_COLUMNS]
)
def test_a_vae_trains_or_refuses(name, dtype):
    vae = vae_of(name)

    @jax.jit
    def gradient(params, x):
        key = jax.random.key(0)
        return jax.grad(lambda p: vaejax.negative_elbo(vae, p, key, x)[0])(params)

    expected_x = jnp.asarray(expected_event(name))
    params = vae.init(jax.random.key(1), expected_x)
    x = event_of(dtype, name)
    jax.tree.map(np.testing.assert_array_equal, vae.init(jax.random.key(1), x), params)
    if words := refusal(name, dtype, traced=True):
        with pytest.raises(TypeError, match=words):
            gradient(params, x)
        return
    found = gradient(params, x)
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(found))
    expected = gradient(params, expected_x)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5), found, expected)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("name", DENSITIES)
def test_half_precision_parameters_give_float32_log_densities(name, dtype):
    dtype = jnp.dtype(dtype)
    half = three_dimensions(name, dtype)
    full = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), half)
    x = expected_event(name)
    value, gradient = jax.value_and_grad(lambda d: d.log_prob(x))(half)
    assert value == full.log_prob(x) and value.dtype == jnp.float32
    assert {leaf.dtype for leaf in jax.tree.leaves(gradient)} == {dtype}
    event, log_prob = half.sample_and_log_prob(jax.random.key(0))
    assert log_prob.dtype == jnp.float32
    assert event.dtype == (jnp.int32 if name == "categorical" else dtype)
    assert np.isfinite(half.log_prob(event))


def test_sums_of_half_precision_are_of_float32():
    # 100,000 pixels: in bfloat16 a sum stops growing at 256 times its terms.
    size = 100_000
    logits = jnp.zeros(size, jnp.bfloat16)
    found = vaejax.Bernoulli(logits).log_prob(jnp.ones(size, bool))
    np.testing.assert_allclose(found, -size * np.log(2), rtol=1e-5)
    normal = vaejax.Normal(logits, jnp.zeros((), jnp.bfloat16))
    expected = -size / 2 * np.log(2 * np.pi)
    np.testing.assert_allclose(normal.log_prob(logits), expected, rtol=1e-5)
    divergence = vaejax.kl_divergence(normal, vaejax.Normal(logits + 1, logits))
    np.testing.assert_allclose(divergence, size / 2, rtol=1e-5)


@pytest.mark.sampled
@pytest.mark.parametrize("name", LEVELS)
def test_half_precision_events_are_the_nearest_level(name):
    levels = np.arange(256) / np.float32(255)
    one = three_dimensions(name)
    log_prob = jax.jit(jax.vmap(lambda x: one.log_prob(jnp.full(3, x))))
    expected = log_prob(levels)
    for dtype in (jnp.float16, jnp.bfloat16):
        np.testing.assert_allclose(log_prob(levels.astype(dtype)), expected, rtol=1e-5)


@pytest.mark.sampled
@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", DENSITIES)
def test_double_precision_parameters_give_double_precision(name):
    double = three_dimensions(name, np.float64)
    assert jax.tree.leaves(double)[0].dtype == np.float64
    for x in (
        expected_event(name),
        event_of("bool" if name in LEVELS else "int32", name),
    ):
        value = double.log_prob(x)
        leaves = jax.tree.leaves(double)
        reference = DENSITIES[name].log_prob(event_of("float64", name), *leaves).sum()
        assert value.dtype == np.float64
        np.testing.assert_allclose(value, reference, rtol=1e-8)
    single = three_dimensions(name)
    if name != "categorical":
        assert single.log_prob(event_of("float64", name)).dtype == np.float32
        assert double.mode.dtype == np.float64
