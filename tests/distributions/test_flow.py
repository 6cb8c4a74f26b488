"""Flows against the Jacobian of autodiff, their inverses and numerical integrals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from vaejax import Normal
from vaejax.distributions import (
    Flow,
    InverseAutoregressive,
    PlanarLayer,
    Reversal,
    SylvesterLayer,
)
from vaejax.networks import (
    FlowLayers,
    coupling_layers,
    inverse_autoregressive_layers,
    planar_layers,
    sylvester_layers,
)

SIZE = 5
BUILDERS = {
    "planar": lambda size: planar_layers(size, num_layers=2),
    "sylvester": lambda size: sylvester_layers(size, num_layers=2, num_reflections=3),
    "coupling": lambda size: coupling_layers(
        size, num_layers=3, hidden_sizes=(8,), num_context=1
    ),
    "autoregressive": lambda size: inverse_autoregressive_layers(
        size, num_layers=2, hidden_sizes=(9, 7), num_context=2
    ),
}
INVERTIBLE = ("coupling", "autoregressive")


def random_like(tree, seed, scale=1.0):
    """A tree of the same shapes, in double precision where that is turned on."""
    random = np.random.default_rng(seed)
    return jax.tree.map(
        lambda leaf: jnp.asarray(scale * random.normal(size=leaf.shape), float), tree
    )


def layers_of(name, size=SIZE, seed=0, scale=0.5):
    made: FlowLayers = BUILDERS[name](size)
    start = jax.eval_shape(made.init, jax.random.key(0))
    params = random_like(start, seed, scale)
    context = random_like(np.zeros((size, made.num_context)), seed + 1)
    return made.apply(params, context)


def standard(size):
    return Normal(jnp.zeros(size), jnp.zeros(size))


@pytest.mark.sampled
@pytest.mark.parametrize("name", BUILDERS)
def test_log_determinants_are_those_of_the_jacobian(name, x64):
    @jax.jit
    def both(layers, z):
        jacobians = [jax.jacobian(layer.forward, has_aux=True)(z) for layer in layers]
        return [(log_det, jnp.linalg.slogdet(j)[1]) for j, log_det in jacobians]

    z = random_like(np.zeros(SIZE), 5)
    for log_determinant, expected in both(layers_of(name), z):
        np.testing.assert_allclose(log_determinant, expected, atol=1e-9)


@pytest.mark.parametrize("name", INVERTIBLE)
def test_inverses_undo_the_layers(name, x64):
    @jax.jit
    def there_and_back(layers, z):
        images = [layer.forward(z) for layer in layers]
        return [
            (*image, *layer.inverse(image[0]))
            for layer, image in zip(layers, images, strict=True)
        ]

    z = random_like(np.zeros(SIZE), 5, scale=3)
    for image, log_determinant, again, of_inverse in there_and_back(layers_of(name), z):
        assert np.max(np.abs(image - z)) > 0.1
        np.testing.assert_allclose(again, z, atol=1e-9)
        np.testing.assert_allclose(of_inverse, -log_determinant, atol=1e-9)


@pytest.mark.sampled
@pytest.mark.parametrize("name", INVERTIBLE)
def test_the_log_density_of_a_draw_is_that_of_the_event(name):
    flow = Flow(Normal(jnp.ones(SIZE), jnp.full(SIZE, -1.0)), layers_of(name))
    z, log_prob = jax.jit(flow.sample_and_log_prob)(jax.random.key(0))
    np.testing.assert_allclose(jax.jit(flow.log_prob)(z), log_prob, rtol=1e-4)
    np.testing.assert_allclose(flow.sample(jax.random.key(0)), z, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", INVERTIBLE)
def test_densities_integrate_to_one(name):
    flow = Flow(standard(2), layers_of(name, size=2, scale=0.2))
    axis = np.linspace(-15, 15, 601, dtype=np.float32)
    grid = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    density = np.exp(np.float64(jax.jit(jax.vmap(flow.log_prob))(jnp.asarray(grid))))
    np.testing.assert_allclose(density.sum() * (axis[1] - axis[0]) ** 2, 1, atol=1e-3)


@pytest.mark.parametrize("name", ["planar", "sylvester"])
def test_draws_without_an_inverse_have_their_density(name):
    """The histogram of a flow of one dimension, against the log-densities of draws."""
    flow = Flow(standard(1), layers_of(name, size=1))
    keys = jax.random.split(jax.random.key(0), 40_000)
    z, log_prob = jax.jit(jax.vmap(flow.sample_and_log_prob))(keys)
    # E[1/p(z)] over an interval, under p, is its length.
    inside = (z[:, 0] > -0.5) & (z[:, 0] < 0.7)
    lengths = np.where(inside, np.exp(-np.float64(log_prob)), 0)
    assert abs(lengths.mean() - 1.2) < 5 * lengths.std() / np.sqrt(len(lengths))


@pytest.mark.parametrize("name", ["planar", "sylvester"])
def test_without_an_inverse_there_is_no_log_prob(name):
    flow = Flow(standard(SIZE), layers_of(name))
    assert not hasattr(flow, "log_prob")
    with pytest.raises(TypeError, match="Layer has no inverse in closed form"):
        flow.log_prob(jnp.zeros(SIZE))


def test_reflections_are_orthogonal_and_vectors_of_zero_reflect_nothing():
    vectors = random_like(jnp.zeros((3, SIZE)), 0).at[1].set(0)
    layer = SylvesterLayer(
        vectors, jnp.zeros((SIZE, SIZE)), jnp.zeros((SIZE, 2)), jnp.zeros(SIZE)
    )
    matrix = np.float64(jax.vmap(layer._rotated)(jnp.eye(SIZE))).T
    expected = np.eye(SIZE)
    for v in np.float64(vectors)[[0, 2]]:
        expected = expected @ (np.eye(SIZE) - 2 * np.outer(v, v) / (v @ v))
    np.testing.assert_allclose(matrix, expected, atol=1e-5)
    transposed = jax.vmap(lambda z: layer._rotated(z, transposed=True))(jnp.eye(SIZE))
    np.testing.assert_allclose(transposed, matrix, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("direction", [0.0, 1e-20, 1e-3, 40.0])
def test_planar_layers_are_invertible_whatever_their_parameters(direction):
    along = jnp.array([1.0, -1.0])
    for step in (-30.0, -1.0, 2.0):
        layer = PlanarLayer(step * along, direction * along, jnp.float32(0.3))
        z = jnp.linspace(-2.0, 2.0, 9)[:, None] * along[None]
        image, log_determinant = jax.vmap(layer.forward)(z)
        assert np.all(np.isfinite(image)) and np.all(np.isfinite(log_determinant))
        # The map along its direction never turns back.
        assert np.all(np.diff(np.asarray(image[:, 0])) >= 0)
        gradient = jax.grad(lambda layer, z=z[3]: layer.forward(z)[1])(layer)
        assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(gradient))


@pytest.mark.parametrize("name", INVERTIBLE)
def test_events_out_of_the_support(name):
    flow = Flow(standard(SIZE), layers_of(name))
    log_prob = jax.jit(flow.log_prob)
    assert log_prob(jnp.zeros(SIZE).at[1].set(jnp.inf)) == -jnp.inf
    assert np.isnan(log_prob(jnp.zeros(SIZE).at[1].set(jnp.nan)))
    assert log_prob(jnp.zeros(SIZE, jnp.int32)) == log_prob(jnp.zeros(SIZE))


@pytest.mark.slow
@pytest.mark.parametrize("name", BUILDERS)
def test_half_precision_gives_single_log_densities(name):
    flow = Flow(standard(SIZE), layers_of(name))
    half = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), flow)
    z, log_prob = half.sample_and_log_prob(jax.random.key(0))
    assert z.dtype == jnp.bfloat16 and log_prob.dtype == jnp.float32
    # A base in single precision, as the prior of a VAE with parameters in half.
    mixed = Flow(standard(SIZE), half.layers)
    z, log_prob = mixed.sample_and_log_prob(jax.random.key(0))
    assert z.dtype == log_prob.dtype == jnp.float32
    if name in INVERTIBLE:
        assert half.log_prob(z).dtype == jnp.float32
        np.testing.assert_allclose(mixed.log_prob(z), log_prob, rtol=1e-3)


def test_an_affine_flow_is_the_normal_that_scipy_knows():
    """Layers of constant networks: z = a z_0 + b, in closed form."""
    network = jax.tree_util.Partial(lambda z: jnp.array([[2.0, 0.5], [-1.0, -0.3]]))
    flow = Flow(standard(2), (InverseAutoregressive(network), Reversal()))
    gate = 1 / (1 + np.exp(-np.array([0.5, -0.3])))
    mean, scale = ((1 - gate) * [2, -1])[::-1], gate[::-1]
    event = np.float32([0.4, -0.2])
    expected = scipy.stats.norm(mean, scale).logpdf(event).sum()
    np.testing.assert_allclose(flow.log_prob(event), expected, rtol=1e-5)
