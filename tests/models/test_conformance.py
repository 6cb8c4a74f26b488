"""All models of cases.py share: gradients, traces, batches, bounds, latent tools."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from support.case_setup import (
    NUM,
    assert_close,
    assert_finite,
    example,
    row,
    setup,
    training,
)
from support.cases import CASES, Case, jump, marked

import vaejax
from vaejax import latent


@pytest.fixture(params=[marked(case) for case in CASES])
def case(request) -> Case:
    return request.param


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
    x = case.sample_like(case.x_of(example(batch, 0)))

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


def test_equal_examples_draw_different_latents(case):
    """Seen from outside a batch's loss: the variance over the batch of what each
    example draws.
    """
    params, batch = setup(case)
    # As many as make it certain that two binary draws differ.
    equal = jax.tree.map(lambda leaf: jnp.stack([leaf] * 32), example(batch, 0))

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
    """By its definition; the estimator in chunks agrees within the errors of both."""
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
            case.vae,
            params,
            example(xs, 0),
            example(xs, 1),
            5,
            path=case.path,
            **choices,
        )
        # In batches that do not divide the examples.
        return (
            samples,
            draws,
            reconstructions,
            path,
            vaejax.embed(case.vae, params, xs, batch_size=4, latent_point=point),
        )

    def place(twice):
        """Half of the sum of two latents, on their sphere where they are on one."""
        return twice / (2 if case.is_movable else jnp.linalg.norm(twice))

    @jax.jit
    def expect(params, xs):
        def decoded(z):
            return readout(None, case.vae.decode(params, z))

        zs = jax.vmap(lambda x: point(None, case.vae.encode(params, x)))(xs)
        z0, z1 = example(zs, 0), example(zs, 1)
        flat0, flat1 = (ravel_pytree(latent.values(z))[0] for z in (z0, z1))
        middle = place(flat0 + flat1)
        between = [flat0, place(flat0 + middle), middle, flat1]
        if case.path is jump:
            between = [flat0, flat0, flat1, flat1]
        path = jax.vmap(lambda flat: decoded(with_values(case, params, z0, flat)))(
            jnp.stack(between)
        )
        return jax.vmap(decoded)(zs), path, latent.values(zs)

    samples, draws, reconstructions, path, embedded = use(params, jax.random.key(6), xs)
    assert jax.tree.map(jnp.shape, samples) == jax.tree.map(
        jnp.shape, case.sample_like(example(xs, slice(0, 3)))
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


@pytest.mark.slow
def test_codes_are_described_and_moved_whatever_the_model(case):
    params, batch = setup(case)
    xs = case.x_of(batch)
    x0, x1 = example(xs, 0), example(xs, 1)
    readout = of_likelihood(case, x0)
    if not case.is_movable:
        with pytest.raises(TypeError, match="z is over .*straight line leaves"):
            vaejax.sample(case.vae, params, jax.random.key(7), 3, temperature=0.0)
        return
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
    assert moved.shape == (dimensions, 11)
    # A discrete latent may be the same in all of a few examples.
    varies = np.ptp(statistics.quantiles, axis=1)[: case.num_decoded] > 1e-6
    is_moved = np.ptp(moved[: case.num_decoded], axis=1) > 0
    assert np.all(is_moved == varies) and np.mean(varies) > 0.5
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

    if not case.is_movable:
        with pytest.raises(ValueError, match="z would leave"):
            vaejax.traverse(case.vae, params, x, latent_point=point)
        return

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
    for dimension in range(len(moved[: case.num_decoded])):
        assert np.ptp(moved[dimension]) > 1e-4, dimension


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
