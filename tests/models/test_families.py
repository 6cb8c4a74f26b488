"""Conditional VAEs against linear-Gaussian ones, whose p(x|condition) is known."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.stats
from support.cases import standard_promotion

import vaejax
from vaejax import distributions, estimators, exporting, latent, models, networks
from vaejax.base import VAE
from vaejax.models import (
    Conditioned,
    conditional,
    conditional_vae,
    with_conditional_prior,
)
from vaejax.networks import with_condition

LOADINGS = np.float32([[1.0, 0.2], [-0.5, 0.7], [0.3, 0.3]])
CONDITIONS = jnp.array([[0.0, 1.0], [2.0, -1.0], [-1.0, 0.5]])


def exact(condition):
    """x = W (z + c) + noise of variance 1/2, with the exact posterior, widened."""
    precision = jnp.eye(2) + 2 * LOADINGS.T @ LOADINGS

    def encode(params, x):
        mean = jnp.linalg.solve(precision, 2 * LOADINGS.T @ x + condition)
        return vaejax.Normal(mean, 0.5 - jnp.log(jnp.diagonal(precision)))

    return VAE(
        init=lambda key, x: (),
        encode=encode,
        prior=lambda params: vaejax.Normal(condition, jnp.zeros(2)),
        decode=lambda params, z: vaejax.Normal(LOADINGS @ z, jnp.log(0.5)),
    )


def family(label):
    """Return the VAE whose encoder and decoder see a class, one-hot."""
    return vaejax.gaussian_vae(
        latent_size=2,
        encoder=with_condition(vaejax.MLP((16,)), label),
        decoder=with_condition(vaejax.MLP((16,), (3, 2)), label),
        likelihood=vaejax.Normal,
    )


def with_prior(label):
    return with_conditional_prior(family(label), vaejax.MLP((), (2, 2)), label)


def classes(num, *, seed=0):
    """Two classes of points about (3, 0, 0) and (0, -3, 0)."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, 2, num)
    means = np.array([[3.0, 0, 0], [0, -3.0, 0]])[labels]
    x = means + random.normal(size=(num, 1)) + 0.3 * random.normal(size=(num, 3))
    return Conditioned(np.float32(x), np.eye(2, dtype=np.float32)[labels])


def test_the_likelihood_of_each_example_is_that_under_its_condition():
    xs = np.float32(np.random.default_rng(0).normal(size=(3, 3)))
    run = jax.jit(
        jax.vmap(partial(conditional(vaejax.log_marginal, exact), (), num_samples=4000))
    )
    keys = jax.random.split(jax.random.key(0), 3)
    found = run(keys, Conditioned(jnp.asarray(xs), CONDITIONS))
    covariance = LOADINGS @ LOADINGS.T + np.eye(3) / 2
    expected = [
        scipy.stats.multivariate_normal(LOADINGS @ condition, covariance).logpdf(x)
        for x, condition in zip(xs, np.asarray(CONDITIONS), strict=True)
    ]
    assert np.ptp(expected) > 1
    deviations = np.abs(np.asarray(found.log_marginal) - expected)
    assert np.all(deviations < 5 * found.standard_error) and np.all(deviations < 0.1)


@pytest.mark.slow
def test_any_objective_is_lifted():
    params, key = (), jax.random.key(0)
    example = Conditioned(jnp.ones(3), CONDITIONS[1])
    for objective in (
        vaejax.negative_elbo,
        partial(vaejax.negative_iwae, num_samples=3),
    ):
        lifted = conditional(objective, exact)(params, jax.random.clone(key), example)
        direct = objective(
            exact(CONDITIONS[1]), params, jax.random.clone(key), example.x
        )
        jax.tree.map(np.testing.assert_array_equal, lifted, direct)
    # Options, which schedules set, go through.
    loss_fn = vaejax.mean_over_batch(conditional(vaejax.negative_elbo, exact))
    batch = Conditioned(jnp.ones((3, 3)), CONDITIONS)
    loss, metrics = loss_fn(params, key, batch, beta=0.0)
    np.testing.assert_allclose(loss, -metrics.log_likelihood, rtol=1e-6)


def test_encoder_decoder_and_prior_see_the_condition():
    params = with_prior(jnp.eye(2)[0]).init(jax.random.key(0), jnp.ones(3))
    assert set(params) == {"encoder", "decoder", "likelihood", "posterior", "prior"}
    one, other = (with_prior(label) for label in jnp.eye(2))
    x, z = jnp.ones(3), jnp.ones(2)
    for first, second in (
        (one.encode(params, x), other.encode(params, x)),
        (one.decode(params, z), other.decode(params, z)),
        (one.prior(params), other.prior(params)),
    ):
        assert not np.allclose(first.mean, second.mean)


@pytest.mark.slow
def test_gradients_of_a_condition_are_those_of_the_shared_parameters():
    batch = classes(8)
    params = with_prior(batch.condition[0]).init(jax.random.key(0), batch.x[0])
    loss_fn = vaejax.mean_over_batch(conditional(vaejax.negative_elbo, with_prior))
    gradient = jax.grad(lambda params: loss_fn(params, jax.random.key(1), batch)[0])(
        params
    )
    assert all(np.any(leaf != 0) for leaf in jax.tree.leaves(gradient["prior"]))
    kernel = gradient["decoder"]["Dense_0"]["kernel"]  # of z, and of the two classes
    assert kernel.shape == (4, 16) and np.all(np.any(kernel != 0, axis=1))


def test_the_join_of_an_encoder_of_images_is_a_choice():
    def as_channels(image, condition):
        shape = (*image.shape, *condition.shape)
        planes = jnp.broadcast_to(condition[None, None], shape)
        return jnp.concatenate([image[..., None], planes], axis=-1)

    encoder = vaejax.ConvolutionalEncoder(channels=(4,))
    network = with_condition(encoder, jnp.array([1.0, 0.0]), join=as_channels)
    image = jnp.zeros((8, 8))
    params = network.init(jax.random.key(0), image)
    assert (
        network.apply(params, image).shape
        == encoder.apply(
            {"params": params}, as_channels(image, jnp.array([1.0, 0.0]))
        ).shape
    )


@pytest.fixture(scope="module")
def trained():
    batch = classes(512)
    optimizer = standard_promotion(optax.adam(1e-2))
    state = vaejax.init_train_state(
        family(batch.condition[0]), optimizer, jax.random.key(0), batch.x[0]
    )
    loss_fn = vaejax.mean_over_batch(conditional(vaejax.negative_elbo, family))
    step = vaejax.make_train_step(loss_fn, optimizer)
    return jax.jit(
        lambda state: jax.lax.scan(lambda s, _: step(s, batch), state, length=300)[0]
    )(state).params


@pytest.mark.slow
def test_samples_are_of_the_class_that_is_given(trained):
    for label, mean in zip(
        np.eye(2, dtype=np.float32), [[3, 0, 0], [0, -3, 0]], strict=True
    ):
        samples = vaejax.sample(
            family(label), trained, jax.random.key(1), 2000, example_point=latent.draw
        )
        # The spread of a class is about 1: 0.02 of 2,000 draws, beside what is learned.
        np.testing.assert_allclose(samples.mean(axis=0), mean, atol=0.25)


@pytest.mark.slow
def test_the_condition_changes_with_z_held_fixed(trained):
    labels = np.eye(2, dtype=np.float32)
    rows = classes(200, seed=1)
    is_first = np.asarray(rows.condition[:, 0]) == 1
    codes = jax.vmap(lambda x, c: family(c).encode(trained, x).mean)(*rows)
    moved = jax.vmap(lambda z: family(labels[1]).decode(trained, z).mean)(
        codes[is_first]
    )
    # The common factor of the three cells stays, and the class is the other one.
    np.testing.assert_allclose(moved.mean(axis=0)[:2], [0, -3], atol=0.4)
    moved = np.asarray(moved)
    own = rows.x[is_first] - np.float32([3, 0, 0])
    other = moved - np.float32([0, -3, 0])
    assert np.corrcoef(own.mean(axis=1), other.mean(axis=1))[0, 1] > 0.9


@pytest.mark.slow
def test_a_member_of_the_family_is_exported(trained, tmp_path):
    label = np.float32([0, 1])
    path = tmp_path / "second"
    exporting.export(family(label), trained, jnp.ones(3), path, platforms=["cpu"])
    found = exporting.load_exported(path).decode(jax.random.key(0), jnp.ones((4, 2)))
    expected = family(label).decode(trained, jnp.ones(2)).mean
    np.testing.assert_allclose(found, np.stack([expected] * 4), rtol=1e-5)


@pytest.fixture(scope="module")
def rows():
    """The family as one VAE, its parameters and rows of both classes."""
    batch = classes(5)
    params = with_prior(batch.condition[0]).init(jax.random.key(0), batch.x[0])
    vae = conditional_vae(with_prior, condition=jnp.asarray(batch.condition[0]))
    return vae, params, batch


@pytest.mark.slow
def test_rows_are_embedded_and_reconstructed_under_their_own_conditions(rows):
    vae, params, batch = rows
    codes = jax.vmap(lambda x, c: with_prior(c).encode(params, x).mean)(*batch)
    np.testing.assert_allclose(
        vaejax.embed(vae, params, batch, batch_size=2), codes, rtol=1e-5
    )
    found = vaejax.reconstruct(
        vae, params, jax.random.key(0), batch, latent_point=latent.mean
    )
    expected = jax.vmap(lambda z, c: with_prior(c).decode(params, z).mean)(
        codes, batch.condition
    )
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    statistics = latent.code_statistics(vae, params, jax.random.key(1), batch)
    assert statistics.activity.shape == (2,)


def test_what_moves_z_keeps_the_condition_of_the_example(rows):
    vae, params, batch = rows
    of_first = batch.condition[:, 0]
    last = int(
        np.argmax(of_first != of_first[0])
    )  # of the other class than the prior's
    one = jax.tree.map(lambda leaf: leaf[last], batch)
    found = vaejax.traverse(vae, params, one, num=3, latent_point=latent.mean)
    member = with_prior(one.condition)
    expected = vaejax.traverse(member, params, one.x, num=3, latent_point=latent.mean)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    other = with_prior(1 - one.condition)
    assert not np.allclose(other.decode(params, jnp.zeros(2)).mean, found[0, 1])


def test_samples_are_of_the_condition_that_is_given(rows):
    _, params, batch = rows
    for label in np.eye(2, dtype=np.float32):
        vae = conditional_vae(with_prior, condition=label)
        for options in ({}, {"temperature": 0.5}):
            found, expected = (
                vaejax.sample(each, params, jax.random.key(1), 3, **options)
                for each in (vae, with_prior(label))
            )
            np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_bounds_of_examples_with_conditions_are_those_of_the_family():
    vae = conditional_vae(exact, condition=CONDITIONS[0])
    for place in range(3):
        example = Conditioned(jnp.ones(3), CONDITIONS[place])
        for function in (
            vaejax.negative_elbo,
            partial(vaejax.negative_elbo, kl_fn=vaejax.kl_monte_carlo),
            partial(vaejax.log_marginal, num_samples=7),
        ):
            found = function(vae, (), jax.random.key(0), example)
            expected = conditional(function, exact)((), jax.random.key(0), example)
            np.testing.assert_allclose(found[0], expected[0], rtol=1e-5)
    with pytest.raises(TypeError, match=r"example is an array .*Conditioned\(x, cond"):
        vae.encode((), jnp.ones(3))
    with pytest.raises(TypeError, match=r"latent z is .*family\(condition\)"):
        vae.decode((), jnp.ones(2))


def test_annealing_starts_at_the_prior_of_the_condition_of_the_example():
    vae = conditional_vae(exact, condition=CONDITIONS[0])
    path = estimators.AnnealingPath(num_temperatures=20, step_sizes=jnp.full(20, 0.5))
    truths = []
    for condition in CONDITIONS:
        found = estimators.annealed_importance_sampling(
            vae,
            (),
            jax.random.key(0),
            Conditioned(jnp.ones(3), condition),
            path=path,
            num_chains=64,
        )
        covariance = LOADINGS @ LOADINGS.T + np.eye(3) / 2
        exact_density = scipy.stats.multivariate_normal(
            LOADINGS @ condition, covariance
        )
        truths.append(exact_density.logpdf(np.ones(3)))
        error = found.log_marginal - truths[-1]
        assert abs(error) < 5 * found.standard_error + 1e-4
    assert np.ptp(truths) > 0.5  # one prior does not do for another


@pytest.mark.slow
def test_a_family_is_exported_with_conditions(rows, tmp_path):
    vae, params, batch = rows
    one = jax.tree.map(lambda leaf: jnp.asarray(leaf[0]), batch)
    exporting.export(vae, params, one, tmp_path / "family", platforms=["cpu"])
    exported = exporting.load_exported(tmp_path / "family")
    codes = exported.encode(jax.random.key(0), batch)
    np.testing.assert_allclose(codes, vaejax.embed(vae, params, batch), rtol=1e-5)
    decoded = exported.decode(jax.random.key(1), codes)
    first = with_prior(one.condition)
    expected = jax.vmap(lambda z: first.decode(params, z).mean)(codes)
    np.testing.assert_allclose(decoded, expected, rtol=1e-5)
    assert exported.sample(jax.random.key(2), 4).shape == (4, 3)


def test_means_of_counts_are_shares_of_the_library_size():
    outputs = jnp.asarray(np.random.default_rng(0).normal(size=(7, 3)), jnp.float32)
    shares = jax.nn.softmax(outputs[:, 0])
    for likelihood, columns in (
        (distributions.Poisson, slice(0)),
        (distributions.NegativeBinomial, slice(2)),
        (distributions.ZeroInflatedNegativeBinomial, slice(3)),
    ):
        head = distributions.with_library_size(likelihood, jnp.log(500.0))
        given = outputs[:, columns] if head.num_parameters > 1 else outputs[:, 0]
        counts = head.apply((), given)
        expected = 500 * shares
        if head.num_parameters == 3:
            expected = expected * jax.nn.sigmoid(-outputs[:, 2])
        np.testing.assert_allclose(counts.mean, expected, rtol=1e-5)


def test_mistakes_name_the_fix():
    vae = vaejax.gaussian_vae(
        latent_size=2, encoder=vaejax.MLP(()), decoder=vaejax.MLP((), (3,))
    )
    x, label = jnp.ones(3), jnp.ones(2)
    wrong_prior = with_conditional_prior(vae, vaejax.MLP((), (2,)), label)
    twice = with_conditional_prior(
        with_conditional_prior(vae, vaejax.MLP((), (2, 2)), label),
        vaejax.MLP((), (2, 2)),
        label,
    )
    lifted = conditional(vaejax.negative_elbo, exact)
    params = with_prior(label).init(jax.random.key(0), x)
    other = with_prior(jnp.ones(4))
    mistakes = [
        (
            lambda: lifted((), jax.random.key(0), x),
            TypeError,
            "give vaejax.models.Cond",
        ),
        (lambda: conditional(exact, None), TypeError, "give a function"),
        (
            lambda: wrong_prior.prior(wrong_prior.init(jax.random.key(0), x)),
            ValueError,
            r"outputs \(2,\); give one that outputs \(latent_size, 2\)",
        ),
        (
            lambda: with_prior(jnp.array(1)).encode(params, x),
            ValueError,
            "with_condition: .* condition, 1, .*one_hot",
        ),
        (
            lambda: other.decode(params, jnp.ones(2)),
            ValueError,
            r"condition, an array \(4,\) .*one_hot",
        ),
        (
            lambda: other.prior(params),
            ValueError,
            r"with_conditional_prior: .* condition, an array \(4,\)",
        ),
        (lambda: twice.init(jax.random.key(0), x), TypeError, "without 'prior'"),
        (
            lambda: with_condition(vaejax.MLP(()), label, join=None),
            TypeError,
            "give a function",
        ),
        (
            lambda: networks.with_condition(vaejax.MLP(()), "label"),
            TypeError,
            "give an array of real numbers",
        ),
        (
            lambda: models.with_conditional_prior(vae, None, label),
            TypeError,
            "network is",
        ),
    ]
    for mistake, kind, fix in mistakes:
        with pytest.raises(kind, match=fix):
            mistake()
