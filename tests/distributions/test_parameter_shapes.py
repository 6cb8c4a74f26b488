"""Parameters of unequal shape: one event has the shape of all of them together."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.densities import DENSITIES

from vaejax import Normal, kl_divergence, reparameterize

SEVERAL = [
    name
    for name, density in DENSITIES.items()
    if len(density.parameters) > 1 and name != "discretized_logistic_mixture"
]


def mixed(name, index):
    """The distribution whose parameter at the index alone has an axis of four."""
    density = DENSITIES[name]
    parameters = [jnp.full((), p[1]) for p in density.parameters]
    parameters[index] = jnp.full(4, density.parameters[index][1])
    full = [jnp.full(4, p[1]) for p in density.parameters]
    return density.make(*parameters), density.make(*full)


CELLS = [
    (name, index)
    for name in SEVERAL
    for index in range(len(DENSITIES[name].parameters))
]


@pytest.mark.sampled(every=10)
@pytest.mark.parametrize(("name", "index"), CELLS)
def test_scalars_are_shared_by_all_dimensions(name, index):
    ours, full = mixed(name, index)
    event = full.sample(jax.random.key(3))
    np.testing.assert_array_equal(ours.sample(jax.random.key(3)), event)
    np.testing.assert_allclose(ours.log_prob(event), full.log_prob(event), rtol=1e-6)
    drawn, log_prob = ours.sample_and_log_prob(jax.random.key(3))
    np.testing.assert_array_equal(drawn, event)
    np.testing.assert_allclose(log_prob, full.log_prob(event), rtol=1e-5)
    assert ours.mode.shape == (4,)
    with pytest.raises(ValueError, match=r"shape \(\).*over \(4,\)"):
        ours.log_prob(event[0])


def test_noise_is_not_shared():
    z = Normal(jnp.zeros(()), jnp.zeros(3)).sample(jax.random.key(0))
    assert len(np.unique(z)) == 3
    rows = Normal(jnp.zeros(3), jnp.zeros((2, 3)))
    assert len(np.unique(rows.sample(jax.random.key(0)))) == 6
    np.testing.assert_allclose(
        rows.log_prob(jnp.zeros((2, 3))), -3 * np.log(2 * np.pi), rtol=1e-6
    )
    with pytest.raises(ValueError, match="log_variance"):
        reparameterize(jax.random.key(0), jnp.zeros(()), jnp.zeros(3))


def test_divergences_are_summed_over_all_dimensions():
    scalar, vector = jnp.zeros(()), jnp.ones(3)
    for q, p in [
        (Normal(scalar, vector), Normal(scalar, scalar)),
        (Normal(vector, scalar), Normal(scalar, vector)),
        (Normal(scalar, scalar), Normal(vector, scalar)),
    ]:
        full_q, full_p = (
            Normal(jnp.broadcast_to(d.mean, 3), jnp.broadcast_to(d.log_variance, 3))
            for d in (q, p)
        )
        np.testing.assert_allclose(
            kl_divergence(q, p), kl_divergence(full_q, full_p), rtol=1e-6
        )
    with pytest.raises(ValueError, match=r"\(3,\).*\(2,\)"):
        kl_divergence(Normal(scalar, vector), Normal(scalar, vector[:2]))
