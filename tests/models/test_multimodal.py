"""Multimodal VAEs against linear-Gaussian parts, whose joint density is known."""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

import vaejax
from vaejax.distributions import MaskedEvent, fixed_variance_normal_head, mask_parts
from vaejax.models import mixture_of_experts, multimodal_vae
from vaejax.objectives import negative_subset_elbo

# x_k = a_k z + noise of variance v_k, for one z and three parts of one number each.
SLOPES, VARIANCES = {"a": 1.5, "b": -0.7, "c": 2.0}, {"a": 0.5, "b": 0.3, "c": 1.2}
X = {"a": jnp.array([0.4]), "b": jnp.array([1.1]), "c": jnp.array([-0.8])}
SUBSETS = [
    dict(zip("abc", seen, strict=True))
    for seen in itertools.product([False, True], repeat=3)
]


def exact():
    """The model, and parameters whose experts are p(x_k|z) as densities of z."""
    identity = (lambda key, x: (), lambda params, x: x)
    vae = multimodal_vae(
        latent_size=1,
        encoders=dict.fromkeys("abc", identity),
        decoders=dict.fromkeys("abc", vaejax.MLP((), (1,))),
        likelihoods={
            name: fixed_variance_normal_head(variance=variance)
            for name, variance in VARIANCES.items()
        },
    )
    params = vae.init(jax.random.key(0), X)
    for name, slope in SLOPES.items():
        params["decoder"][name]["Dense_0"] = {
            "kernel": jnp.array([[slope]]),
            "bias": jnp.zeros(1),
        }
        _, last = params["encoder"][name]["encoder"]
        log_variance = jnp.log(VARIANCES[name] / slope**2)
        last["Dense_0"] = {
            "kernel": jnp.array([[1 / slope, 0.0]]),
            "bias": jnp.stack([jnp.zeros(()), log_variance]),
        }
    return vae, params


def log_density(x, seen):
    names = [name for name in "abc" if seen[name]]
    if not names:
        return 0.0
    slopes = np.array([SLOPES[name] for name in names])
    noise = np.diag([VARIANCES[name] for name in names])
    covariance = np.outer(slopes, slopes) + noise
    values = [float(x[name][0]) for name in names]
    return scipy.stats.multivariate_normal(np.zeros(len(names)), covariance).logpdf(
        values
    )


def hidden(x, seen):
    """Return the example with NaN in the parts that are missing."""
    filled = {k: part if seen[k] else np.nan * part for k, part in x.items()}
    return mask_parts(filled, seen)


@pytest.mark.slow
def test_with_exact_experts_the_bound_of_every_subset_is_its_density():
    vae, params = exact()
    loss = jax.jit(partial(vaejax.negative_elbo, vae, params))
    for seen in SUBSETS:
        found = -loss(jax.random.key(1), hidden(X, seen))[0]
        weight = vaejax.log_weight(vae, params, jax.random.key(2), hidden(X, seen))
        # The posterior is exact, so that every weight is the density.
        np.testing.assert_allclose(weight, log_density(X, seen), rtol=1e-4, atol=1e-4)
        if sum(seen.values()) == 0:
            np.testing.assert_allclose(found, 0, atol=1e-6)
    # Unmasked is all seen.
    np.testing.assert_array_equal(
        loss(jax.random.key(1), X)[0],
        loss(jax.random.key(1), hidden(X, SUBSETS[-1]))[0],
    )


def test_a_missing_part_is_filled_in_from_the_others():
    vae, params = exact()
    found = vaejax.reconstruct(
        vae,
        params,
        jax.random.key(0),
        jax.tree.map(lambda leaf: leaf[None], hidden(X, SUBSETS[0b110])),
        latent_point=vaejax.latent.mean,
    )
    # E[x_c | x_a, x_b] of the joint Normal.
    a = np.array(list(SLOPES.values()))
    covariance = np.outer(a, a) + np.diag(list(VARIANCES.values()))
    known = np.array([X["a"][0], X["b"][0]])
    expected = covariance[2, :2] @ np.linalg.solve(covariance[:2, :2], known)
    np.testing.assert_allclose(found["c"][0], expected, rtol=1e-4)


@pytest.mark.slow
def test_gradients_do_not_reach_the_expert_of_a_missing_part():
    vae, params = exact()
    gradient = jax.grad(
        lambda params: vaejax.negative_elbo(
            vae, params, jax.random.key(1), hidden(X, SUBSETS[0b101])
        )[0]
    )(params)
    for part in ("encoder", "decoder"):
        for name, is_seen in zip("abc", (True, False, True), strict=True):
            leaves = jax.tree.leaves(gradient[part][name])
            assert all(np.all(np.isfinite(leaf)) for leaf in leaves)
            assert any(np.any(leaf != 0) for leaf in leaves) == is_seen


@pytest.mark.slow
def test_a_mixture_of_experts_is_that_of_the_seen_parts_and_the_prior_of_none():
    prior = vaejax.Normal(jnp.zeros(1), jnp.zeros(1))
    experts = vaejax.Normal(
        jnp.array([[-1.0], [0.5], [2.0]]), jnp.log(jnp.array([[0.5], [2.0], [0.1]]))
    )
    z = np.linspace(-3, 3, 7)
    normals = [
        scipy.stats.norm(mean, np.sqrt(variance)).pdf(z)
        for mean, variance in ((-1, 0.5), (0.5, 2), (2, 0.1))
    ]
    for seen in itertools.product([False, True], repeat=3):
        mixture = mixture_of_experts(prior, experts, jnp.array(seen))
        taken = [pdf for pdf, is_seen in zip(normals, seen, strict=True) if is_seen]
        expected = np.mean(taken, axis=0) if taken else scipy.stats.norm().pdf(z)
        found = jax.vmap(mixture.log_prob)(jnp.asarray(z, jnp.float32)[:, None])
        np.testing.assert_allclose(found, np.log(expected), rtol=1e-4)
    draws = jax.vmap(
        mixture_of_experts(prior, experts, jnp.array([1, 0, 1]) > 0).sample
    )(jax.random.split(jax.random.key(0), 4000))
    spread = np.sqrt((0.5 + 1 + 0.1 + 4) / 2 - 0.5**2)
    assert abs(draws.mean() - 0.5) < 5 * spread / np.sqrt(4000)


def test_a_mixture_model_has_finite_gradients_for_any_subset():
    vae = multimodal_vae(
        latent_size=2,
        encoders=(vaejax.MLP((4,)), vaejax.MLP((4,))),
        decoders=(vaejax.MLP((), (3,)), vaejax.MLP((), (5,))),
        likelihoods=(vaejax.Bernoulli, vaejax.Bernoulli),
        combine=mixture_of_experts,
    )
    batch = jnp.ones((4, 3)), jnp.zeros((4, 5))
    params = vae.init(jax.random.key(0), (batch[0][0], batch[1][0]))
    masks = np.array([[True, True], [True, False], [False, True], [False, False]])
    seen = mask_parts(batch, tuple(masks.T))
    loss_fn = vaejax.mean_over_batch(
        partial(vaejax.negative_elbo, vae, kl_fn=vaejax.kl_monte_carlo)
    )
    with jax.debug_nans(True):
        gradient = jax.jit(jax.grad(loss_fn, has_aux=True))(
            params, jax.random.key(1), seen
        )[0]
    for leaf in jax.tree.leaves(gradient):
        assert np.all(np.isfinite(leaf))


@pytest.mark.slow
def test_the_bound_over_subsets_is_the_sum_of_bounds():
    vae, params = exact()
    x = hidden(X, SUBSETS[0b101])  # no "b", in any subset
    loss, terms = negative_subset_elbo(vae, params, jax.random.key(0), x, num_subsets=0)
    # Exact experts have the density as their bound, but for the noise of one sample.
    singles = [dict(zip("abc", row, strict=True)) for row in np.eye(3, dtype=bool)]
    subsets = [SUBSETS[0b101], singles[0], SUBSETS[0], singles[2]]
    num = 2000
    losses = jax.jit(
        jax.vmap(
            lambda key: negative_subset_elbo(vae, params, key, x, num_subsets=0)[0]
        )
    )(jax.random.split(jax.random.key(1), num))
    expected = -sum(log_density(X, seen) for seen in subsets)
    assert abs(losses.mean() - expected) < 5 * losses.std() / np.sqrt(num)
    assert loss.shape == () and terms.kl > 0
    # Each random subset has a part with probability 1/2.
    more = jax.jit(
        jax.vmap(
            lambda key: negative_subset_elbo(vae, params, key, X, num_subsets=1)[0]
        )
    )(jax.random.split(jax.random.key(2), num))
    subsets = [SUBSETS[-1], *singles]
    of_random = np.mean([log_density(X, seen) for seen in SUBSETS])
    expected = -sum(log_density(X, seen) for seen in subsets) - of_random
    assert abs(more.mean() - expected) < 5 * more.std() / np.sqrt(num)


def test_mistakes_name_the_parts():
    vae, params = exact()
    parts = {"latent_size": 1, "encoders": {"a": vaejax.MLP(())}}
    with pytest.raises(
        ValueError, match=r"encoders is a dict of 'a' .*\['a'\], \['b'\]"
    ):
        multimodal_vae(
            **parts,
            decoders=dict.fromkeys("ab", vaejax.MLP((), (1,))),
            likelihoods=dict.fromkeys("ab", vaejax.Normal),
        )
    with pytest.raises(ValueError, match="the example is a dict of 'a' and"):
        vae.encode(params, {"a": X["a"]})
    with pytest.raises(ValueError, match=r"outputs \(1,\) at \['b'\] for .*\(2,\)"):
        vae.init(jax.random.key(0), X | {"b": jnp.ones(2)})
    with pytest.raises(TypeError, match="x is an array .*of parts"):
        negative_subset_elbo(vae, params, jax.random.key(0), X["a"])
    with pytest.raises(ValueError, match="num_subsets is -1"):
        negative_subset_elbo(vae, params, jax.random.key(0), X, num_subsets=-1)
    with pytest.raises(ValueError, match=r"mask_parts: the event is a dict of 'a'"):
        mask_parts({"a": 1}, {"b": True})


def test_parts_that_are_missing_stay_missing():
    once = mask_parts(X, {"a": True, "b": False, "c": True})
    twice = mask_parts(once, {"a": False, "b": True, "c": True})
    assert [bool(twice[name].mask) for name in "abc"] == [False, False, True]
    cells = MaskedEvent(jnp.ones(3), jnp.array([True, False, True]))
    nested = mask_parts((cells,), (False,))[0]
    assert nested.values is cells and not nested.mask
