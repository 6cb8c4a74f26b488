"""What every model of cases.py shares, and what each awkward one is there to show."""

from functools import cache, partial
from statistics import NormalDist

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from support.cases import (
    CASES,
    CODES,
    COMMITMENT,
    DECAY,
    END_TOKEN,
    MAX_LENGTH,
    POSITIONS,
    VOCABULARY,
    Case,
    Mixture,
    Quantized,
    Sentence,
    codebook_vectors,
    images_and_contexts,
)

import vaejax
from vaejax import latent
from vaejax.base import Latents

NUM = 6


# What the others stand for already is left to the full check.
LONGER = (
    "logistic_mixture",
    "convolutional",
    "sentences",
    "mlp_normal",
    "shared_variance",
    "linear_gaussian",
)
PARAMS = [
    pytest.param(
        case, id=case.name, marks=pytest.mark.slow if case.name in LONGER else ()
    )
    for case in CASES
]


@pytest.fixture(params=PARAMS)
def case(request) -> Case:
    return request.param


@cache
def setup(case: Case):
    """Parameters and a batch."""
    batch = case.batch(jax.random.key(1), NUM)
    return jax.jit(case.vae.init)(
        jax.random.key(0), case.x_of(example(batch, 0))
    ), batch


def example(batch, index):
    return jax.tree.map(lambda leaf: leaf[index], batch)


def assert_close(actual, expected, rtol=2e-5, atol=1e-5):
    jax.tree.map(
        partial(np.testing.assert_allclose, rtol=rtol, atol=atol), actual, expected
    )


def assert_finite(tree):
    for path, leaf in jax.tree.leaves_with_path(tree):
        assert np.all(np.isfinite(leaf)), jax.tree_util.keystr(path)


@cache
def training(case: Case):
    """The first state, the step and a batch."""
    _, batch = setup(case)
    step = vaejax.make_train_step(vaejax.mean_over_batch(case.loss), case.optimizer)
    init = jax.jit(partial(vaejax.init_train_state, case.vae, case.optimizer))
    return init(jax.random.key(0), case.x_of(example(batch, 0))), step, batch


def test_init_follows_from_its_key(case):
    params, batch = setup(case)
    x = case.x_of(example(batch, 0))
    assert_finite(params)
    assert_close(jax.jit(case.vae.init)(jax.random.key(0), x), params, rtol=0, atol=0)
    other = jax.jit(case.vae.init)(jax.random.key(5), x)
    assert any(
        not np.array_equal(a, b)
        for a, b in zip(*map(jax.tree.leaves, (params, other)), strict=True)
    )


def test_gradients_are_finite_and_reach_every_parameter(case):
    params, batch = setup(case)
    with jax.debug_nans(True):
        gradient, terms = jax.jit(
            jax.grad(vaejax.mean_over_batch(case.loss), has_aux=True)
        )(params, jax.random.key(2), batch)
    assert_finite((gradient, terms))
    for path, leaf in jax.tree.leaves_with_path(gradient):
        assert np.any(leaf != 0), jax.tree_util.keystr(path)


def test_jit_is_eager(case):
    params, batch = setup(case)
    one = example(batch, 0)
    assert_close(
        jax.jit(case.loss)(params, jax.random.key(2), one),
        case.loss(params, jax.random.key(2), one),
    )


def test_a_batch_is_a_loop_over_examples_whatever_its_size(case):
    params, batch = setup(case)
    one = jax.jit(lambda key, x: case.loss(params, key, x)[0])
    many = jax.jit(jax.vmap(one))

    def keys(part=slice(None)):
        return jax.random.split(jax.random.key(2), NUM)[part]

    loop = np.array([one(keys(i), example(batch, i)) for i in range(NUM)])
    part = slice(2, NUM)
    assert_close(many(keys(part), example(batch, part)), loop[part])
    loss, _ = jax.jit(vaejax.mean_over_batch(case.loss))(
        params, jax.random.key(2), batch
    )
    assert_close(loss, loop.mean())


def test_steps_share_one_trace_and_lower_the_loss(case):
    state, step, batch = training(case)
    traces = []

    @jax.jit
    def counted(state, batch):
        traces.append(None)
        return step(state, batch)

    losses = []
    for _ in range(40):
        state, metrics = counted(state, batch)
        losses.append(float(metrics.loss))
    assert len(traces) == 1
    assert_finite(state.params)
    assert np.mean(losses[-10:]) < np.mean(losses[:10])


@pytest.mark.slow
def test_an_epoch_takes_its_steps_and_lowers_for_tpu(case):
    state, step, batch = training(case)
    epoch = jax.jit(vaejax.make_train_epoch(step, 2))
    after, metrics = epoch(state, batch)
    assert after.step == NUM // 2 and metrics.loss.shape == (NUM // 2,)
    assert_finite(metrics)
    exported = jax.export.export(epoch, platforms=["tpu"], disabled_checks=[])(
        state, batch
    )
    assert exported.platforms == ("tpu",)


def test_a_prior_sample_decodes_to_something_like_x(case):
    params, batch = setup(case)
    x = case.x_of(example(batch, 0))

    @jax.jit
    def generate(key):
        z_key, x_key = jax.random.split(key)
        return case.vae.decode(params, case.vae.prior(params).sample(z_key)).sample(
            x_key
        )

    generated = generate(jax.random.key(3))
    assert jax.tree.structure(generated) == jax.tree.structure(x)
    assert jax.tree.map(
        lambda leaf: (leaf.shape, leaf.dtype), generated
    ) == jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), x)


def test_two_equal_examples_draw_different_latents(case):
    """Seen from outside a batch's loss: the variance over the batch of what each
    example draws.
    """
    params, batch = setup(case)
    equal = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), example(batch, 0))

    def moments(params, key, x):
        z, _ = case.vae.encode(params, case.x_of(x)).sample_and_log_prob(key)
        flat, _ = ravel_pytree(latent.values(z))
        return jnp.zeros(()), (flat, jnp.square(flat))

    _, (mean, mean_of_squares) = jax.jit(vaejax.mean_over_batch(moments))(
        params, jax.random.key(4), equal
    )
    variance = mean_of_squares - jnp.square(mean)
    assert (
        np.all(variance > 1e-8) if case.stochastic else np.all(np.abs(variance) < 1e-5)
    )


def test_the_importance_weighted_bound_is_the_mean_of_its_weights(case):
    """By its definition, and the estimator in chunks agrees within the errors of both."""
    params, batch = setup(case)
    x, num = case.x_of(example(batch, 0)), 50

    def log_weight(key):
        z, log_posterior = case.vae.encode(params, x).sample_and_log_prob(key)
        return (
            case.vae.decode(params, z).log_prob(x)
            + case.vae.prior(params).log_prob(z)
            - log_posterior
        )

    @jax.jit
    def use(key, another):
        again = jax.random.clone(key)
        return (
            vaejax.negative_iwae(case.vae, params, key, x, num_samples=num),
            vaejax.log_marginal(
                case.vae, params, another, x, num_samples=num, chunk_size=20
            ),
            jax.vmap(log_weight)(jax.random.split(again, num)),
        )

    (loss, terms), estimate, log_weights = use(jax.random.key(5), jax.random.key(6))
    # The tail of equal weights is infinitely light.
    assert_finite((loss, terms, estimate._replace(pareto_k=jnp.zeros(()))))
    assert not np.isnan(estimate.pareto_k)
    largest = log_weights.max()
    weights = np.exp(np.asarray(log_weights - largest, float))
    assert_close(-loss, largest + np.log(weights.mean()))
    assert_close(terms.elbo, log_weights.mean())
    assert_close(
        terms.effective_sample_size,
        weights.sum() ** 2 / np.square(weights).sum(),
        rtol=1e-3,
    )
    error = np.hypot(
        estimate.standard_error, weights.std(ddof=1) / weights.mean() / np.sqrt(num)
    )
    assert abs(estimate.log_marginal + loss) <= 5 * error + 1e-4
    assert 1 - 1e-3 <= estimate.effective_sample_size <= num * (1 + 1e-3)


IMPORTANCE_WEIGHTED = {
    "iwae": partial(vaejax.negative_iwae, num_samples=4),
    "miwae": partial(
        vaejax.objectives.negative_miwae, num_groups=2, num_samples=2, mixing=0.5
    ),
    "piwae": partial(vaejax.objectives.negative_piwae, num_groups=2, num_samples=2),
    "renyi": partial(vaejax.objectives.negative_renyi, num_samples=4, alpha=0.5),
}
OF_THE_PATH = {
    "dreg": partial(vaejax.objectives.negative_dreg, num_samples=4),
    "sticking": partial(
        vaejax.negative_iwae,
        num_samples=4,
        kl_fn=vaejax.objectives.kl_sticking_the_landing,
    ),
}


@pytest.mark.slow
def test_every_importance_weighted_objective_has_the_same_value_or_says_what_it_needs(
    case,
):
    params, batch = setup(case)
    x = case.x_of(example(batch, 0))
    posterior = case.vae.encode(params, x)
    objectives = IMPORTANCE_WEIGHTED | (
        OF_THE_PATH if hasattr(posterior, "log_prob") else {}
    )

    def values(params):
        # The same key for all: the same samples.
        losses = {
            name: f(case.vae, params, jax.random.key(5), x)[0]
            for name, f in objectives.items()
        }
        return sum(losses.values()), losses

    (_, losses), gradient = jax.jit(
        jax.value_and_grad(values, has_aux=True, allow_int=True)
    )(params)
    assert_finite(losses)
    for leaf in jax.tree.leaves(gradient):
        assert leaf.dtype == jax.dtypes.float0 or np.all(np.isfinite(leaf))
    for name in ("piwae", *OF_THE_PATH):
        if name in losses:
            assert_close(losses[name], losses["iwae"], rtol=1e-3)
    if not hasattr(posterior, "log_prob"):
        for objective in OF_THE_PATH.values():
            with pytest.raises(TypeError, match="has no log_prob"):
                objective(case.vae, params, jax.random.key(5), x)


def point_of(case: Case):
    """The row's point, with the same draw whichever key a tool gives it: what is
    expected then needs no tool's keys.
    """
    return lambda _, posterior: case.latent_point(jax.random.key(11), posterior)


def with_values(case: Case, params, z, flat):
    """z with other values, given flattened."""
    _, unravel = ravel_pytree(latent.values(z))
    return latent.complete(case.vae, params, z, unravel(flat))


def test_latent_tools_decode_the_latents_they_say(case):
    params, batch = setup(case)
    xs = case.x_of(batch)
    point, readout = point_of(case), case.example_point
    choices = {"latent_point": point, "example_point": readout}

    @jax.jit
    def use(params, key, xs):
        sample_key, draws_key, reconstruct_key = jax.random.split(key, 3)
        samples = vaejax.sample(case.vae, params, sample_key, 3, example_point=readout)
        # What the likelihood is made of, since greedy sentences may be equal.
        draws = vaejax.sample(
            case.vae,
            params,
            draws_key,
            3,
            example_point=lambda _, likelihood: likelihood,
        )
        reconstructions = vaejax.reconstruct(
            case.vae, params, reconstruct_key, xs, **choices
        )
        path = vaejax.interpolate(
            case.vae, params, example(xs, 0), example(xs, 1), 5, **choices
        )
        # In batches that do not divide the examples.
        return (
            samples,
            draws,
            reconstructions,
            path,
            vaejax.embed(case.vae, params, xs, batch_size=4, latent_point=point),
        )

    @jax.jit
    def expect(params, xs):
        def decoded(z):
            return readout(None, case.vae.decode(params, z))

        zs = jax.vmap(lambda x: point(None, case.vae.encode(params, x)))(xs)
        z0, z1 = example(zs, 0), example(zs, 1)
        flat0, flat1 = (ravel_pytree(latent.values(z))[0] for z in (z0, z1))
        between = jnp.stack(
            [flat0, 0.75 * flat0 + 0.25 * flat1, (flat0 + flat1) / 2, flat1]
        )
        path = jax.vmap(lambda flat: decoded(with_values(case, params, z0, flat)))(
            between
        )
        return jax.vmap(decoded)(zs), path, latent.values(zs)

    samples, draws, reconstructions, path, embedded = use(params, jax.random.key(6), xs)
    assert jax.tree.map(jnp.shape, samples) == jax.tree.map(
        jnp.shape, example(xs, slice(0, 3))
    )
    assert_finite(samples)
    # Only what depends on z: parameters that a likelihood carries are the same in every
    # draw.
    assert any(not np.allclose(leaf[0], leaf[1]) for leaf in jax.tree.leaves(draws))
    assert_close(
        (reconstructions, example(path, np.array([0, 1, 2, 4])), embedded),
        expect(params, xs),
    )


def of_likelihood(case: Case, x):
    """A readout that any change of the likelihood moves: its log-probability of x,
    since a greedy sentence may stay.
    """
    return lambda _, likelihood: likelihood.log_prob(x)


def test_codes_are_described_and_moved_whatever_the_model(case):
    params, batch = setup(case)
    xs = case.x_of(batch)
    x0, x1 = example(xs, 0), example(xs, 1)
    readout = of_likelihood(case, x0)
    choices = {"latent_point": point_of(case), "example_point": readout}

    @jax.jit
    def use(params, key):
        moments_key, statistics_key, cool_key, map_key, reconstruct_key = (
            jax.random.split(key, 5)
        )
        statistics = vaejax.latent.code_statistics(case.vae, params, statistics_key, xs)
        return (
            vaejax.latent.posterior_moments(
                case.vae, params, moments_key, xs, batch_size=4
            ),
            statistics,
            vaejax.traverse(
                case.vae, params, x0, steps=statistics.quantiles, **choices
            ),
            vaejax.sample(
                case.vae, params, cool_key, 3, temperature=0.0, example_point=readout
            ),
            vaejax.manifold(
                case.vae,
                params,
                3,
                dimensions=(1, 0),
                key=map_key,
                example_point=readout,
            ),
            vaejax.latent.shift_latents(
                case.vae,
                params,
                x0,
                statistics.stddev + 0.1,
                jnp.array([0.0, 2.0]),
                **choices,
            ),
            vaejax.interpolate(
                case.vae, params, x0, x1, 3, path=latent.spherical_path, **choices
            ),
            vaejax.reconstruct(
                case.vae, params, reconstruct_key, example(xs, slice(0, 2)), **choices
            ),
        )

    moments, statistics, moved, cold, plane, shifted, path, ends = use(
        params, jax.random.key(7)
    )
    dimensions = len(statistics.kl)
    assert moments.mean.shape == moments.stddev.shape == (NUM, dimensions)
    assert_finite((moments, statistics._replace(kl=jnp.zeros(()))))
    # A posterior without noise has a KL without end.
    assert (
        np.all(moments.stddev > 1e-5)
        == np.all(np.isfinite(statistics.kl))
        == case.stochastic
    )
    assert sorted(statistics.order.tolist()) == list(range(dimensions))
    assert np.all(np.diff(statistics.quantiles, axis=1) >= -1e-6)
    assert moved.shape == (dimensions, 11) and np.all(np.ptp(moved, axis=1) > 0)
    # Nothing is left of the draws but the prior's middle.
    assert_close(cold, jnp.broadcast_to(cold[0], cold.shape))
    assert plane.shape == (3, 3) and np.ptp(plane) > 1e-4
    assert_close(
        jnp.stack([shifted[0], path[0], path[-1]]),
        jnp.stack([ends[0], ends[0], ends[1]]),
    )
    assert abs(shifted[1] - shifted[0]) > 1e-4


def test_traversing_sets_one_latent_and_moves_the_decode(case):
    params, batch = setup(case)
    x, point, num, extent = case.x_of(example(batch, 0)), point_of(case), 4, 2.0
    readout = of_likelihood(case, x)

    @jax.jit
    def use(params):
        moved = vaejax.traverse(
            case.vae,
            params,
            x,
            num=num,
            extent=extent,
            latent_point=point,
            example_point=readout,
        )
        z = point(None, case.vae.encode(params, x))
        flat, _ = ravel_pytree(latent.values(z))

        def at(dimension, value):
            chosen = jnp.arange(flat.size) == dimension
            return readout(
                None,
                case.vae.decode(
                    params, with_values(case, params, z, jnp.where(chosen, value, flat))
                ),
            )

        dimensions, steps = jnp.meshgrid(
            jnp.arange(flat.size), jnp.linspace(-extent, extent, num), indexing="ij"
        )
        return moved, jax.vmap(jax.vmap(at))(dimensions, steps)

    moved, expected = use(params)
    assert_close(moved, expected)
    for dimension in range(len(moved)):
        assert np.ptp(moved[dimension]) > 1e-4, dimension


def test_tools_that_draw_follow_their_key():
    case = row("flow_posterior")
    params, batch = setup(case)
    choices = {"latent_point": latent.draw, "example_point": latent.draw}

    @jax.jit
    def use(key):
        path_key, moved_key = jax.random.split(key)
        path = vaejax.interpolate(
            case.vae,
            params,
            example(batch, 0),
            example(batch, 1),
            5,
            key=path_key,
            **choices,
        )
        return path, vaejax.traverse(
            case.vae, params, example(batch, 0), num=4, key=moved_key, **choices
        )

    path, moved = use(jax.random.key(14))
    assert path.shape == (5, *batch.shape[1:]) and moved.shape == (
        3,
        4,
        *batch.shape[1:],
    )
    for again, other, first in zip(
        use(jax.random.key(14)), use(jax.random.key(15)), (path, moved), strict=True
    ):
        assert np.array_equal(again, first) and not np.array_equal(other, first)


def test_the_manifold_is_laid_out_as_the_axes_of_a_figure():
    case = row("linear_gaussian")
    params, _ = setup(case)
    cells = vaejax.manifold(case.vae, params, 3)
    low, middle, high = (NormalDist().inv_cdf(mass) for mass in (1 / 6, 1 / 2, 5 / 6))
    for (r, c), z in {
        (0, 0): (low, high),
        (0, 2): (high, high),
        (1, 1): (middle, middle),
        (2, 0): (low, low),
    }.items():
        assert_close(cells[r, c], case.vae.decode(params, jnp.array(z)).mean)
    case = row("mlp_bernoulli")
    with pytest.raises(ValueError, match="latent_size=2"):
        vaejax.manifold(case.vae, setup(case)[0], 3)


def test_a_missing_mean_is_an_error_that_says_what_to_choose():
    case = row("flow_posterior")
    params, batch = setup(case)
    x = case.x_of(example(batch, 0))
    with pytest.raises(TypeError, match=r"PlanarFlow has no mean.*draw"):
        vaejax.interpolate(case.vae, params, x, x, 3)
    with pytest.raises(TypeError, match="key"):
        vaejax.interpolate(case.vae, params, x, x, 3, latent_point=latent.draw)
    case = row("sequence")
    with pytest.raises(TypeError, match=r"Autoregressive has no mean.*mode"):
        vaejax.sample(case.vae, setup(case)[0], jax.random.key(0), 2)


def test_embedding_by_draws_gives_each_example_its_own():
    case = row("mlp_bernoulli")
    params, batch = setup(case)
    xs = jnp.stack([case.x_of(example(batch, 0))] * 3)
    points = vaejax.embed(
        case.vae, params, xs, key=jax.random.key(0), latent_point=latent.draw
    )
    assert np.all(np.std(points, axis=0) > 0)
    with pytest.raises(TypeError, match="key"):
        vaejax.embed(case.vae, params, xs, latent_point=latent.draw)


def test_what_a_distribution_lacks_is_named():
    class Nothing:
        pass

    case = row("mlp_bernoulli")
    params, batch = setup(case)
    parts = {"encode": "sample_and_log_prob", "decode": "log_prob"}
    for part, missing in parts.items():
        vae = case.vae._replace(**{part: lambda *_: Nothing()})
        with pytest.raises(TypeError, match=rf"Nothing has no {missing}"):
            vaejax.log_weight(vae, params, jax.random.key(0), example(batch, 0))
    vae = case.vae._replace(prior=lambda _: Nothing())
    with pytest.raises(TypeError, match="Nothing has no log_prob"):
        vaejax.negative_elbo(
            vae,
            params,
            jax.random.key(0),
            example(batch, 0),
            kl_fn=vaejax.kl_monte_carlo,
        )


@pytest.mark.parametrize("name", ["vamp_prior", "flow_posterior"])
def test_a_missing_closed_form_names_the_estimate_from_samples(name):
    case = row(name)
    params, batch = setup(case)
    with pytest.raises(TypeError, match="kl_monte_carlo"):
        vaejax.negative_elbo(case.vae, params, jax.random.key(0), example(batch, 0))


def row(name: str) -> Case:
    return next(case for case in CASES if case.name == name)


def test_the_hierarchy_reports_a_term_a_level_and_its_path_follows_an_edit():
    case = row("hierarchical")
    params, batch = setup(case)
    _, terms = case.loss(params, jax.random.key(0), example(batch, 0))
    assert terms.kl_terms.shape == (2,) and np.isclose(terms.kl, terms.kl_terms.sum())
    prior = case.vae.prior(params)
    z = prior.sample(jax.random.key(1))
    edited = prior.complete((z.values[0], z.values[1] + 1))
    assert isinstance(edited, Latents) and not np.allclose(
        edited.path.mean, z.path.mean
    )
    # The path is what a decode needs: an edit that forgot it would change nothing.
    stale = Latents(edited.values, z.path)
    assert_close(
        case.vae.decode(params, stale).logits, case.vae.decode(params, z).logits
    )
    assert not np.allclose(
        case.vae.decode(params, edited).logits, case.vae.decode(params, z).logits
    )


def test_the_terms_of_the_hierarchy_are_its_kl_within_five_standard_errors():
    case = row("hierarchical")
    params, batch = setup(case)

    @jax.jit
    @jax.vmap
    def both(key):
        posterior, prior = (
            case.vae.encode(params, example(batch, 0)),
            case.vae.prior(params),
        )
        z, log_posterior = posterior.sample_and_log_prob(key)
        estimate = vaejax.kl_monte_carlo(posterior, prior, z, log_posterior)
        return case.kl_fn(posterior, prior, z, log_posterior).sum() - estimate.sum()

    differences = np.asarray(both(jax.random.split(jax.random.key(12), 10_000)))
    assert abs(differences.mean()) < 5 * differences.std() / np.sqrt(len(differences))


def test_the_mixture_is_a_density_and_draws_from_all_its_components():
    normal = vaejax.Normal(jnp.array([0.5, -1.0]), jnp.array([0.2, -0.3]))
    twice = Mixture(jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), normal))
    z = jnp.array([0.1, 0.7])
    assert_close(twice.log_prob(z), normal.log_prob(z))
    apart = Mixture(vaejax.Normal(jnp.array([[-9.0], [0.0], [9.0]]), jnp.zeros((3, 1))))
    draws = jax.jit(jax.vmap(apart.sample))(
        jax.random.split(jax.random.key(13), 3_000)
    )[:, 0]
    counts = np.array([np.sum(np.abs(draws - center) < 4.5) for center in (-9, 0, 9)])
    assert np.all(np.abs(counts - 1_000) < 5 * np.sqrt(3_000 * 1 / 3 * 2 / 3))


def test_the_flow_is_a_density():
    """log q(z) from the determinant against the change of volume, measured by the
    Jacobian of z0 -> z.
    """
    case = row("flow_posterior")
    params, batch = setup(case)
    posterior = case.vae.encode(params, example(batch, 0))

    def map_of(noise):
        z0 = posterior.base.mean + jnp.exp(posterior.base.log_variance / 2) * noise
        step = jax.nn.softplus(posterior.scale) * posterior.direction
        return z0 + step * jnp.tanh(posterior.direction @ z0 + posterior.bias)

    z, log_posterior = posterior.sample_and_log_prob(jax.random.key(8))
    noise = jax.random.normal(jax.random.key(8), (3,))
    assert_close(z, map_of(noise))
    _, log_determinant = jnp.linalg.slogdet(jax.jacobian(map_of)(noise))
    log_noise = vaejax.Normal(jnp.zeros(3), jnp.zeros(3)).log_prob(noise)
    assert_close(log_posterior, log_noise - log_determinant)


def test_sentences_are_a_distribution_and_padding_does_not_count():
    case = row("sequence")
    params, batch = setup(case)
    likelihood = case.vae.decode(params, jnp.array([0.5, -1.0, 2.0]))
    sentence = Sentence(
        jnp.array([3, 1, 0, 0, 0, 0], jnp.int32), jnp.asarray(3, jnp.int32)
    )
    padded = sentence._replace(tokens=sentence.tokens.at[4].set(2))
    assert likelihood.log_prob(sentence) == likelihood.log_prob(padded)
    assert_close(
        *(case.loss(params, jax.random.key(1), x)[0] for x in (sentence, padded)),
        rtol=0,
        atol=0,
    )
    # Sentences that end within two tokens, and everything else, have probabilities that
    # sum to one.
    short = [
        Sentence(
            jnp.zeros(MAX_LENGTH, jnp.int32).at[0].set(t),
            jnp.asarray(1 if t == 0 else 2),
        )
        for t in range(5)
    ]
    log_probs = jnp.stack(
        [
            likelihood.log_prob(x._replace(length=x.length.astype(jnp.int32)))
            for x in short
        ]
    )
    draws = jax.jit(jax.vmap(likelihood.sample))(
        jax.random.split(jax.random.key(9), 20_000)
    )
    frequency = np.mean(np.asarray(draws.length) <= 2)
    probability = float(jnp.sum(jnp.exp(log_probs)))
    assert abs(frequency - probability) < 5 * np.sqrt(
        probability * (1 - probability) / 20_000
    )


def test_the_mode_of_a_sentence_is_the_likeliest_token_at_each_step():
    case = row("sequence")
    params, _ = setup(case)
    likelihood = case.vae.decode(params, jnp.array([0.5, -1.0, 2.0]))
    greedy = likelihood.mode
    log_probs = jax.jit(jax.vmap(likelihood.log_prob))
    for t in range(int(greedy.length)):
        # A sentence cut after token t has the probability of its first t + 1 tokens.
        tokens = (
            jnp.tile(greedy.tokens, (VOCABULARY, 1))
            .at[:, t]
            .set(jnp.arange(VOCABULARY, dtype=jnp.int32))
        )
        prefixes = Sentence(tokens, jnp.full(VOCABULARY, t + 1, jnp.int32))
        assert np.argmax(log_probs(prefixes)) == greedy.tokens[t]
    assert greedy.length == MAX_LENGTH or greedy.tokens[greedy.length - 1] == END_TOKEN


def test_the_conditional_model_uses_its_condition():
    case = row("conditional")
    params, _ = setup(case)
    x, context = example(images_and_contexts(jax.random.key(0), 1), 0)
    losses = [
        case.loss(params, jax.random.key(1), (x, c))[0] for c in (context, 1 - context)
    ]
    assert abs(losses[0] - losses[1]) > 1e-3


def test_codes_are_the_nearest_vectors_and_gradients_go_straight_through():
    case = row("vq_vae")
    params, batch = setup(case)
    x = example(batch, 0)
    posterior, prior = case.vae.encode(params, x), case.vae.prior(params)
    codes, vectors = (
        np.asarray(posterior.codes),
        np.asarray(codebook_vectors(params["codebook"])),
    )
    nearest = np.stack(
        [
            vectors[np.argmin([np.sum((code - vector) ** 2) for vector in vectors])]
            for code in codes
        ]
    )
    z, log_posterior = posterior.sample_and_log_prob(jax.random.key(0))
    assert_close(z, nearest)

    def log_likelihood(z):
        return case.vae.decode(params, z).log_prob(x)

    def terms(codes):
        return case.kl_fn(Quantized(codes, params["codebook"]), prior, z, log_posterior)

    @jax.jit
    def gradients(codes):
        through = jax.grad(
            lambda codes: log_likelihood(Quantized(codes, params["codebook"]).mean)
        )(codes)
        return (
            through,
            jax.grad(log_likelihood)(jnp.asarray(nearest)),
            terms(codes),
            jax.jacobian(terms)(codes),
        )

    through, direct, values, slopes = gradients(posterior.codes)
    assert_close(through, direct)
    commitment = COMMITMENT * np.sum((codes - nearest) ** 2)
    # The pseudo-loss moves the codebook alone, and has no value.
    assert_close(values, np.array([POSITIONS * np.log(CODES), commitment, 0]))
    zeros = np.zeros(codes.shape)
    assert_close(slopes, np.stack([zeros, 2 * COMMITMENT * (codes - nearest), zeros]))


def test_the_codebook_is_exactly_the_moving_average_of_its_codes():
    case = row("vq_vae")
    state, step, batch = training(case)
    posteriors = jax.vmap(partial(case.vae.encode, state.params))(batch)
    assignment = jax.vmap(lambda posterior: posterior.assignment)(posteriors)
    count = assignment.sum(axis=1).mean(axis=0)
    total = jnp.einsum("bpk,bpd->bkd", assignment, posteriors.codes).mean(axis=0)
    before, after = (
        state.params["codebook"],
        jax.jit(step)(state, batch)[0].params["codebook"],
    )
    assert count.shape == (CODES,)
    assert_close(after["count"], DECAY * before["count"] + (1 - DECAY) * count)
    assert_close(after["sum"], DECAY * before["sum"] + (1 - DECAY) * total)
