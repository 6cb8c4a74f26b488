"""Heads of flows: refusals, the cost of a step, annealing, and a known posterior."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from support.cases import standard_promotion
from support.linear_gaussian import draw_examples, exact_log_marginal, make_params

import vaejax
from vaejax import networks
from vaejax.distributions import full_covariance_normal_head
from vaejax.estimators import (
    AnnealingPath,
    annealed_importance_sampling,
    start_at_posterior,
)
from vaejax.posteriors import flow_head

HEADS = {
    "planar": flow_head(networks.planar_layers(3, num_layers=2)),
    "autoregressive": flow_head(
        networks.inverse_autoregressive_layers(
            3, num_layers=1, hidden_sizes=(4,), num_context=1
        )
    ),
}


def make_vae(head, latent_size=3):
    return vaejax.gaussian_vae(
        latent_size=latent_size,
        encoder=vaejax.MLP((4,)),
        decoder=vaejax.MLP((4,), (5,)),
        posterior=head,
    )


@pytest.mark.parametrize(
    "name", ["planar", pytest.param("autoregressive", marks=pytest.mark.slow)]
)
def test_annealing_starts_at_the_prior_where_a_flow_has_no_density(name):
    vae, x = make_vae(HEADS[name]), jnp.array([1.0, 0, 0, 1, 1])
    params = jax.jit(vae.init)(jax.random.key(0), x)
    path = AnnealingPath(num_temperatures=3, num_leapfrog=1, step_sizes=jnp.ones(3))

    def run(path):
        key = jax.random.key(1)
        return annealed_importance_sampling(
            vae, params, key, x, path=path, num_chains=8
        )

    estimate = run(path)
    assert np.isfinite(estimate.log_marginal)
    path = path._replace(initial=start_at_posterior)
    if name == "autoregressive":
        other = run(path).log_marginal
        # Both chains are at the same number, to within their own errors.
        assert abs(other - estimate.log_marginal) < 1.0
    else:
        with pytest.raises(TypeError, match="initial=.*start_at_prior"):
            run(path)


def test_layers_of_another_size_are_refused():
    x = jnp.zeros(5)
    for layers in (
        networks.planar_layers(2),
        networks.sylvester_layers(2),
        networks.coupling_layers(2),
        networks.inverse_autoregressive_layers(2, num_context=2),
    ):
        vae = make_vae(flow_head(layers))
        params = jax.eval_shape(vae.init, jax.random.key(0), x)
        with pytest.raises(ValueError, match="the latent_size of the model"):
            jax.eval_shape(vae.encode, params, x)
    with pytest.raises(TypeError, match="FlowLayers"):
        flow_head((lambda key: (), lambda params, context: ()))
    with pytest.raises(ValueError, match="min_log_variance"):
        flow_head(networks.planar_layers(2), min_log_variance=30.0)
    with pytest.raises(ValueError, match="at least 2"):
        networks.coupling_layers(1)


def plain_layers(name, size, hidden, num_layers):
    """Layers with the products of the flow's networks, unmasked."""
    sizes = {"coupling": (size // 2, size), "autoregressive": (size, 2 * size)}
    inputs, outputs = sizes[name]

    def init(key):
        keys = jax.random.split(key, 2 * num_layers)
        return [
            (
                jax.random.normal(keys[2 * i], (inputs, hidden)),
                jax.random.normal(keys[2 * i + 1], (hidden, outputs)),
            )
            for i in range(num_layers)
        ]

    def apply(params, z):
        for first, second in params:
            z = z + jnp.resize(jax.nn.elu(z[:inputs] @ first) @ second, z.shape)
        return z

    return init, apply


@pytest.mark.parametrize("name", ["coupling", "autoregressive"])
def test_a_step_costs_the_products_of_its_networks(name):
    """FLOPs as XLA counts them: masking costs nothing per example."""
    size, hidden, num_layers, num = 16, 64, 2, 32
    builder = {
        "coupling": networks.coupling_layers,
        "autoregressive": networks.inverse_autoregressive_layers,
    }[name]
    layers = builder(size, num_layers=num_layers, hidden_sizes=(hidden,))
    init, apply = plain_layers(name, size, hidden, num_layers)
    keys = jax.ShapeDtypeStruct((num,), jax.random.key(0).dtype)
    base = vaejax.Normal(jnp.zeros(size), jnp.zeros(size))

    def of_flow(params, key):
        made = layers.apply(params, None)
        z, log_prob = vaejax.distributions.Flow(base, made).sample_and_log_prob(key)
        return log_prob + jnp.sum(jnp.square(z))

    def of_plain(params, key):
        z, log_prob = base.sample_and_log_prob(key)
        return log_prob + jnp.sum(jnp.square(apply(params, z)))

    def flops(loss, init):
        def mean(params, keys):
            return jnp.mean(jax.vmap(loss, (None, 0))(params, keys))

        params = jax.eval_shape(init, jax.random.key(0))
        compiled = jax.jit(jax.value_and_grad(mean)).lower(params, keys).compile()
        return compiled.cost_analysis()["flops"]

    assert flops(of_flow, layers.init) < 1.3 * flops(of_plain, init)


def linear_vae(params, head):
    """The linear-Gaussian p(x|z), fixed, and a linear encoder to be trained."""
    latent_size = params.loadings.shape[1]
    return vaejax.gaussian_vae(
        latent_size=latent_size,
        encoder=vaejax.MLP(()),
        decoder=(
            lambda key, z: (),
            lambda _, z: jnp.asarray(params.loadings) @ z + params.offset,
        ),
        likelihood=vaejax.distributions.fixed_variance_normal_head(variance=0.5),
        posterior=head,
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("head", "kl_fn", "share"),
    [
        (None, vaejax.kl_closed_form, None),
        (full_covariance_normal_head(2), vaejax.kl_closed_form, 0.1),
        (
            flow_head(networks.inverse_autoregressive_layers(2, num_layers=2)),
            vaejax.kl_monte_carlo,
            0.25,
        ),
        (
            flow_head(networks.sylvester_layers(2, num_reflections=2)),
            vaejax.kl_monte_carlo,
            0.25,
        ),
    ],
    ids=["diagonal", "full", "autoregressive", "sylvester"],
)
def test_a_correlated_posterior_reaches_log_p_where_a_diagonal_one_cannot(
    head, kl_fn, share
):
    """Three seeds of a linear-Gaussian model whose exact posterior is correlated."""
    model = make_params()
    noise = float(np.exp(model.log_noise))
    precision = np.eye(2) + model.loadings.T @ model.loadings / noise
    # KL of the best diagonal Normal from the exact posterior.
    gap = 0.5 * np.log(np.prod(np.diagonal(precision)) / np.linalg.det(precision))
    assert gap > 0.05
    xs = jnp.asarray(draw_examples(model, 256))
    vae = linear_vae(model, head)
    objective = partial(vaejax.negative_elbo, vae, kl_fn=kl_fn, num_samples=8)
    loss_fn = vaejax.mean_over_batch(objective)
    optimizer = standard_promotion(optax.adam(optax.cosine_decay_schedule(0.02, 1500)))
    step = vaejax.make_train_step(loss_fn, optimizer)

    @jax.jit
    @jax.vmap
    def train(key):
        init_key, test_key = jax.random.split(key)
        state = vaejax.init_train_state(vae, optimizer, init_key, xs[0])
        state, _ = jax.lax.scan(lambda s, _: step(s, xs), state, length=1500)
        test = partial(vaejax.negative_elbo, vae, kl_fn=kl_fn, num_samples=400)
        return -vaejax.mean_over_batch(test)(state.params, test_key, xs)[0]

    elbos = train(jax.random.split(jax.random.key(0), 3))
    gaps = exact_log_marginal(model, np.float64(xs)).mean() - np.asarray(elbos)
    if head is None:
        assert np.all(gaps > 0.9 * gap), (gaps, gap)
    else:
        assert np.all(gaps < share * gap), (gaps, gap)
