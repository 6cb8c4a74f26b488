"""Calls outside `jax.jit` of all that loops: compiled once, memory flat, values right.

`LOOPS` names every function of the library with a loop of JAX in it, found in the
source, and the calls in `CALLS` that run it.
"""

import ast
import gc
import operator
import os
import weakref
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support import masked_gaussian
from support.linear_gaussian import make_params, vae, with_best_encoder

import vaejax
from vaejax import estimators, latent, priors, training
from vaejax._programs import run
from vaejax.distributions import (
    Autoregressive,
    DiscretizedLogistic,
    InverseAutoregressive,
    Mixture,
    Normal,
    VonMisesFisher,
)
from vaejax.networks import GRU, RecurrentDecoder, coupling_layers

ROOT = Path(vaejax.__file__).parent
PARAMS = with_best_encoder(make_params(), widen=0.5)
X = np.array([1.0, -0.5, 0.3, 2.0, -1.0], np.float32)
XS = np.stack([X, 2 * X, -X])
Z = jnp.array([0.3, -0.2])
STEPS = jnp.array([0.5, 0.4, 0.3])
PATH = estimators.AnnealingPath(num_temperatures=3, num_leapfrog=2)
LOG_WEIGHTS = np.float32(np.random.default_rng(0).normal(size=30))


def is_normal(z):
    return -jnp.sum(jnp.square(z)) / 2


def count_step(state, batch):
    return state._replace(step=state.step + 1), jnp.sum(batch)


EPOCH = training.make_train_epoch(count_step, 2)
STREAMED = training.make_streamed_epoch(count_step, 2)
DECODER = RecurrentDecoder(7, 4, 4)
DECODER_PARAMS = jax.jit(DECODER.init)(jax.random.key(0), Z, jnp.zeros(4, jnp.int32))
GRU_PARAMS = jax.jit(GRU(3).init)(jax.random.key(0), jnp.zeros(3), jnp.zeros((4, 2)))


def of_those_before(z):
    return jnp.stack([jnp.cumsum(z) - z, jnp.ones_like(z)], axis=1)


def new_state(key):
    return training.TrainState((), (), key, jnp.int32(0))


def sentences():
    logits_fn = jax.tree_util.Partial(DECODER.apply, DECODER_PARAMS, Z)
    return Autoregressive(logits_fn, 4)


DICT_VAE = vaejax.gaussian_vae(
    latent_size=2, encoder=vaejax.MLP((4,)), decoder=vaejax.MLP((4,), X.shape)
)
DICT_PARAMS = jax.jit(DICT_VAE.init)(jax.random.key(0), jnp.asarray(X))


def fitted_prior(key):
    _, params = priors.fit_mixture_prior(
        DICT_VAE, DICT_PARAMS, key, XS, num_components=2
    )
    return params["prior"]


LAYERS = coupling_layers(2, num_layers=1, hidden_sizes=(2,))


def fitted_flow(key):
    with jax.numpy_dtype_promotion("standard"):  # for optax
        _, params = priors.fit_flow_prior(
            DICT_VAE, DICT_PARAMS, key, XS, LAYERS, num_steps=2, batch_size=2
        )
    return params["prior"]


def without_model(function):
    return lambda vae, key: function(key)


def calls_of_models(dtype):
    """`{name: (vae, key) -> arrays}`, with parameters and data of a dtype."""
    params = jax.tree.map(lambda leaf: leaf.astype(dtype), PARAMS)
    x, xs, z, steps = (np.asarray(leaf, dtype) for leaf in (X, XS, Z, STEPS))

    def of(function, *arguments, **options):
        def call(vae, key):
            # Optax is not written for the strict promotion that the tests turn on.
            with jax.numpy_dtype_promotion("standard"):
                return function(vae, params, key, *arguments, **options)

        return call

    def annealing(function, *arguments, step_sizes=steps):
        path = PATH._replace(step_sizes=step_sizes)
        return of(function, *arguments, path=path, num_chains=2)

    def moved(vae, params, key):
        # Built for each call, as in a program that sets its options.
        transition = partial(estimators.hamiltonian_transition, num_leapfrog=2)
        path = PATH._replace(step_sizes=steps, transition=transition)
        return forward(vae, params, key, x, path=path, num_chains=2)

    def annealed(vae, params, key):
        state = estimators.init_annealing(vae, params, key, x, path=PATH, num_chains=2)
        path = PATH._replace(step_sizes=steps)
        return estimators.anneal(vae, params, key, x, state, 2, path=path)

    def embedded(vae, params, key):
        return vaejax.embed(vae, params, xs, key=key)

    forward = estimators.annealed_importance_sampling
    reverse = estimators.reverse_annealed_importance_sampling
    return {
        "log_marginal": of(estimators.log_marginal, x, num_samples=7, chunk_size=3),
        "adapt_step_sizes": of(
            estimators.adapt_step_sizes, x, path=PATH, num_chains=2, num_transitions=3
        ),
        "annealed_importance_sampling": annealing(forward, x),
        "annealed_importance_sampling, adapted": annealing(forward, x, step_sizes=None),
        "annealed_importance_sampling, transition": of(moved),
        "reverse_annealed_importance_sampling": annealing(reverse, x, z),
        "bidirectional_monte_carlo": annealing(estimators.bidirectional_monte_carlo),
        "anneal": of(annealed),
        "optimal_posterior": of(
            estimators.optimal_posterior, x, num_steps=3, num_samples=2
        ),
        "inference_gap": of(
            estimators.inference_gap, x, -9.0, num_steps=3, num_samples=4
        ),
        "aggregate_decomposition": of(
            estimators.aggregate_decomposition, xs, num_samples=4, chunk_size=2
        ),
        "embed": of(embedded),
        "posterior_moments": of(latent.posterior_moments, xs),
        "code_statistics": of(latent.code_statistics, xs),
    }


TABLE = masked_gaussian.vae, masked_gaussian.make_params()
ROW = jax.tree.map(lambda leaf: leaf[0], masked_gaussian.draw_rows(TABLE[1], 1))
OF_MODELS = calls_of_models(np.float32)
CALLS = OF_MODELS | {
    "hamiltonian_transition": without_model(
        lambda key: estimators.hamiltonian_transition(is_normal, key, Z, step_size=0.1)
    ),
    "jackknife": without_model(lambda key: estimators.jackknife(LOG_WEIGHTS)),
    "jackknife, order 2": without_model(
        lambda key: estimators.jackknife(LOG_WEIGHTS, order=2)
    ),
    "impute": without_model(
        lambda key: latent.impute(*TABLE, key, ROW, num_samples=6, num_draws=3)
    ),
    "outlier_scores": without_model(
        lambda key: latent.outlier_scores(*TABLE, key, ROW, num_samples=6)
    ),
    "VonMisesFisher.sample": without_model(
        VonMisesFisher(jnp.array([1.0, 0.0, 0.0]), jnp.array(5.0)).sample
    ),
    "fit_flow_prior": without_model(fitted_flow),
    "fit_mixture_prior": without_model(fitted_prior),
    "nearest_neighbors": without_model(lambda key: latent.nearest_neighbors(XS, XS)),
    "marginal_of_weights": without_model(
        lambda key: estimators.marginal_of_weights(LOG_WEIGHTS)
    ),
    "psis_weights": without_model(lambda key: estimators.psis_weights(LOG_WEIGHTS)),
    "pareto_k": without_model(lambda key: estimators.pareto_k(LOG_WEIGHTS)),
    "make_train_epoch": without_model(lambda key: EPOCH(new_state(key), XS)),
    "make_streamed_epoch": without_model(
        lambda key: STREAMED(new_state(jnp.copy(key)), XS)
    ),
    "Autoregressive.sample": without_model(lambda key: sentences().sample(key)),
    "Autoregressive.mode": without_model(lambda key: sentences().mode),
    "InverseAutoregressive.inverse": without_model(
        lambda key: InverseAutoregressive(
            jax.tree_util.Partial(of_those_before)
        ).inverse(jax.random.normal(key, (3,)))
    ),
    "DiscretizedLogistic.mean": without_model(
        lambda key: DiscretizedLogistic(Z, jnp.zeros(2)).mean
    ),
    "DiscretizedLogistic.mode": without_model(
        lambda key: DiscretizedLogistic(Z, jnp.zeros(2)).mode
    ),
    "Mixture of many Normals": without_model(
        lambda key: Mixture(
            Normal(jnp.zeros((150, 2)), jnp.zeros((150, 2))), jnp.zeros(150)
        ).log_prob(Z)
    ),
    "GRU": without_model(
        lambda key: GRU(3).apply(GRU_PARAMS, jnp.zeros(3), jnp.ones((4, 2)))
    ),
}
LOOPS = {
    ("distributions/_levels.py", "_over_levels"): "DiscretizedLogistic.mean",
    ("distributions/autoregressive.py", "_generate"): "Autoregressive.sample",
    (
        "estimators/aggregate_posterior.py",
        "_aggregate_decomposition",
    ): "aggregate_decomposition",
    ("estimators/aggregate_posterior.py", "_draw"): "aggregate_decomposition",
    (
        "estimators/aggregate_posterior.py",
        "_held_out_ratios",
    ): "aggregate_decomposition",
    (
        "estimators/_shrunken_kernels.py",
        "fit_shrunken_kernels",
    ): "aggregate_decomposition",
    ("estimators/_shrunken_kernels.py", "stacked"): "aggregate_decomposition",
    ("distributions/_projections.py", "_accepted_distance"): "VonMisesFisher.sample",
    ("distributions/mixture.py", "_in_turn"): "Mixture of many Normals",
    ("distributions/flow_layers.py", "_invert"): "InverseAutoregressive.inverse",
    ("estimators/step_sizes.py", "_adapt_step_sizes"): "adapt_step_sizes",
    ("estimators/annealing_chains.py", "_anneal"): "anneal",
    ("estimators/hamiltonian.py", "_transition"): "hamiltonian_transition",
    ("estimators/importance_weights.py", "_sum_over_pairs"): "jackknife, order 2",
    ("estimators/inference.py", "_optimal_posterior"): "optimal_posterior",
    ("estimators/inference.py", "_inference_gap"): "inference_gap",
    ("estimators/marginal.py", "_log_marginal"): "log_marginal",
    ("latent/_weighted_draws.py", "weighted_means"): "impute",
    ("latent/imputation.py", "_impute"): "impute",
    ("latent/outliers.py", "_outlier_scores"): "outlier_scores",
    ("latent/neighbors.py", "_search"): "nearest_neighbors",
    ("latent/neighbors.py", "_smallest"): "nearest_neighbors",
    ("latent/statistics.py", "_posterior_moments"): "posterior_moments",
    ("latent/statistics.py", "_code_statistics"): "code_statistics",
    ("latent/tools.py", "_embed"): "embed",
    ("networks/recurrent.py", "_gru_states"): "GRU",
    ("priors/ex_post.py", "_draws"): "fit_mixture_prior",
    ("priors/ex_post.py", "_fit_flow"): "fit_flow_prior",
    ("training/epochs.py", "make_train_epoch"): "make_train_epoch",
    ("training/epochs.py", "_batches_from"): "make_train_epoch",
    ("training/streaming.py", "_scan"): "make_streamed_epoch",
}
LAX_LOOPS = {"scan", "map", "while_loop", "fori_loop", "cond", "switch"}


def test_every_loop_of_the_library_has_an_eager_call():
    found = set()
    for file in sorted(ROOT.glob("**/*.py")):
        for top in ast.parse(file.read_text()).body:
            for node in ast.walk(top):
                if (
                    isinstance(node, ast.Attribute)
                    and node.attr in LAX_LOOPS
                    and ast.unparse(node.value) in ("jax.lax", "lax")
                ):
                    found.add((str(file.relative_to(ROOT)), top.name))
    assert found == set(LOOPS)
    assert set(LOOPS.values()) <= set(CALLS)


@pytest.fixture
def compilations():
    """Names of the programs that JAX compiles, or takes from its cache on disk."""
    events = []

    def listen(event, duration, **about):
        if event == "/jax/core/compile/backend_compile_duration":
            events.append(about.get("fun_name"))

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield events
    jax.monitoring.unregister_event_duration_listener(listen)


@pytest.mark.sampled(every=4)
@pytest.mark.parametrize("name", CALLS)
def test_a_second_eager_call_compiles_nothing(name, compilations):
    call, keys = partial(CALLS[name], vae), list(jax.random.split(jax.random.key(0), 3))
    jax.block_until_ready(call(keys[0]))
    compilations.clear()
    for key in keys[1:]:
        jax.block_until_ready(call(key))
    assert not compilations


def test_what_is_counted_are_compilations(compilations):
    for _ in range(2):
        compilations.clear()
        jax.lax.map(lambda x: x + 1, jnp.ones(2))
        assert compilations


@pytest.mark.sampled(every=10)
@pytest.mark.parametrize("name", OF_MODELS)
def test_a_second_eager_vmap_compiles_nothing(name, compilations):
    keys = list(jax.random.split(jax.random.key(0), (3, 2)))
    mapped = jax.vmap(partial(OF_MODELS[name], vae))
    jax.block_until_ready(mapped(keys[0]))
    compilations.clear()
    jax.block_until_ready([mapped(keys[1]), mapped(keys[2])])
    assert not compilations


def shifted(condition):
    """A model of a condition, as one writes it: its functions close over the value."""
    return vae._replace(
        prior=lambda params: vaejax.Normal(condition * jnp.ones(2), jnp.zeros(2)),
        decode=lambda params, z: vae.decode(params, z + condition),
    )


# In double precision, since a hundred transitions of an adapted run multiply rounding.
@pytest.mark.slow
@pytest.mark.parametrize("name", OF_MODELS)
def test_a_model_closed_over_a_traced_value_gives_the_looped_values(name, x64):
    call = calls_of_models(np.float64)[name]

    def total(condition):
        found = call(shifted(condition), jax.random.key(0))
        leaves = [leaf for leaf in jax.tree.leaves(found) if leaf.dtype == np.float64]
        return jnp.sum(jnp.stack([jnp.sum(leaf) for leaf in leaves]))

    def slope(condition):
        return jax.jvp(total, (condition,), (jnp.ones(()),))

    conditions = jnp.array([0.0, 0.4])
    looped = jnp.stack([total(condition) for condition in conditions])
    with jax.checking_leaks():
        values = [jax.jit(total)(condition) for condition in conditions]
        mapped = jax.vmap(total)(conditions)
        both = jax.jit(jax.vmap(total))(conditions)
        derived, slopes = jax.vmap(slope)(conditions)
        looped_slopes = [slope(condition)[1] for condition in conditions]
    for found in (jnp.stack(values), mapped, both, derived):
        np.testing.assert_allclose(found, looped, rtol=1e-9)
    np.testing.assert_allclose(slopes, jnp.stack(looped_slopes), rtol=1e-6, atol=1e-9)


@pytest.mark.slow
def test_gradients_by_a_traced_condition_are_the_looped_ones():
    def bound(condition):
        call = OF_MODELS["log_marginal"]
        return call(shifted(condition), jax.random.key(0)).log_marginal

    conditions = jnp.array([0.0, 0.4])
    looped = jnp.stack([jax.grad(bound)(condition) for condition in conditions])
    step = 1e-2
    differences = (bound(step) - bound(-step)) / (2 * step)
    np.testing.assert_allclose(looped[0], differences, rtol=1e-2)
    with jax.checking_leaks():
        mapped = jax.jit(jax.vmap(jax.grad(bound)))(conditions)
    np.testing.assert_allclose(mapped, looped, rtol=1e-4)


@pytest.mark.slow
def test_a_program_ends_with_the_model_that_it_was_compiled_for():
    large = jnp.ones(1000)
    model = shifted(large[0])
    OF_MODELS["log_marginal"](model, jax.random.key(0))
    decode = weakref.ref(model.decode)
    del model
    gc.collect()
    assert decode() is None


@pytest.mark.slow
def test_equal_methods_share_a_program():
    traced = []

    class Model:
        def decode(self, x):
            traced.append(x)
            return x + 1

    def body(function, x):
        return function(x)

    model = Model()
    assert run(body, (model.decode,), 1.0) == run(body, (model.decode,), 1.0) == 2
    # Another shape, once the method of the first call is gone.
    gc.collect()
    assert run(body, (model.decode,), jnp.ones(2)).shape == (2,)
    assert len(traced) == 2


def test_partials_built_for_each_call_share_a_program(compilations):
    def call(x, **options):
        kl_fn = partial(vaejax.kl_monte_carlo, **options)
        return estimators.inference_gap(
            vae, PARAMS, jax.random.key(0), X, x, num_steps=1, kl_fn=kl_fn
        )

    with jax.numpy_dtype_promotion("standard"):
        call(1.0)
        compilations.clear()
        call(2.0)
    assert not compilations


def test_values_of_two_types_and_arrays_make_programs_of_their_own():
    def body(function, x):
        return function(x)

    found = [
        run(body, (partial(jnp.add, other),), jnp.ones((), jnp.int32))
        for other in (1, np.int32(2), jnp.int32(3), np.ones(2, np.int32))
    ]
    assert [leaf.tolist() for leaf in found] == [2, 3, 4, [2, 2]]


def test_functions_without_a_hash_are_called_as_they_are():
    class Unhashable:
        __hash__ = None

        def __call__(self, x):
            return 2 * x

    assert run(operator.call, (Unhashable(),), 3.0) == 6


@pytest.mark.slow
@pytest.mark.parametrize("name", CALLS)
def test_memory_is_flat_over_500_eager_calls(name):
    call = partial(CALLS[name], vae)
    keys = list(jax.random.split(jax.random.key(0), 520))

    def resident_mebibytes():
        gc.collect()
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20

    for key in keys[:20]:
        jax.block_until_ready(call(key))
    before = resident_mebibytes()
    for key in keys[20:]:
        jax.block_until_ready(call(key))
    # A program that is compiled again takes megabytes.
    assert resident_mebibytes() - before < 500 * 0.02
