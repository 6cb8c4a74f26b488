"""Options outside their range are refused, whatever holds the number.

`OPTIONS` has a row for every numeric option of every public function of the packages
below; a new option without one fails the first test. A bad number is given as Python,
NumPy and JAX hold it. A traced number cannot be judged and passes.
"""

import importlib
import inspect
import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from support import masked_gaussian

import vaejax
from vaejax import (
    Normal,
    distributions,
    estimators,
    latent,
    metrics,
    objectives,
    training,
)
from vaejax.columns import MaskedEvent
from vaejax.objectives import ElboTerms

PACKAGES = (
    "distributions", "estimators", "latent", "metrics", "models", "objectives",
    "posteriors", "priors", "training",
)  # fmt: skip


class Range(NamedTuple):
    """The values that an option takes: some that are refused and some that pass."""

    bad: tuple
    good: tuple
    may_be_traced: bool = False


NAN, INF = math.nan, math.inf
COUNT = Range((0, -1, 1.5, NAN, INF), (1, np.int64(2)))
SEVERAL = Range((1, 0, -1, 2.5, NAN), (2, np.int64(3)))
SIZE = Range((-1, NAN), (0, 5))
WEIGHT = Range((-0.5, NAN, INF, -INF), (0.0, 0, 2.0), True)
POSITIVE = Range((0.0, -1.0, NAN, INF), (1e-3, 2), True)
FINITE = Range((NAN, INF, -INF), (-2.0, 0, 1.5), True)
UNIT = Range((-0.5, 1.5, NAN, INF), (0, 1, 0.5), True)
LOWER = Range((500.0, NAN, INF), (-INF, -30.0))
UPPER = Range((-500.0, NAN, -INF), (INF, 30.0))


def fixed(range_: Range) -> Range:
    return range_._replace(may_be_traced=False)


VAE = vaejax.VAE(
    init=lambda key, x: (),
    encode=lambda params, x: Normal(x / 2, jnp.zeros(2)),
    prior=lambda params: Normal(jnp.zeros(2), jnp.zeros(2)),
    decode=lambda params, z: Normal(z, jnp.zeros(2)),
)
X, XS = jnp.ones(2), jnp.ones((4, 2))
MEANS = ElboTerms(jnp.float32(-80), jnp.float32(6), jnp.array([5.0, 1.0]))
CODES = np.array([[0.0, 1.0], [0.5, 2.0], [1.0, 0.0], [2.0, 1.5]] * 4)
FACTORS = np.array([[0, 0], [0, 1], [1, 0], [1, 1]] * 4)


def of_vae(function: Callable, *data: Any, **fixed_options: Any) -> Callable:
    """Return the function of its options alone, traced without compiling."""

    def call(**options):
        def run(key):
            return function(VAE, (), key, *data, **(fixed_options | options))

        return jax.eval_shape(run, jax.random.key(0))

    return call


def of_row(function: Callable, **options: Any) -> Any:
    """Call a function of the model and a row of a table, traced without compiling."""
    params = masked_gaussian.make_params(x_size=2)
    row = MaskedEvent(X, X > 2)
    return jax.eval_shape(
        lambda key: function(masked_gaussian.vae, params, key, row, **options),
        jax.random.key(0),
    )


def of_table(function: Callable, *data: Any, **fixed_options: Any) -> Callable:
    return lambda **options: function(*data, **(fixed_options | options))


def with_key(function: Callable, *data: Any, **fixed_options: Any) -> Callable:
    return lambda **options: function(
        jax.random.key(0), *data, **(fixed_options | options)
    )


def loss(build: Callable) -> Callable:
    """Return a loss of a batch as a function of its weights."""
    return lambda **options: jax.eval_shape(
        lambda key: build()((), key, XS, **options), jax.random.key(0)
    )


def in_path(function: Callable, *data: Any) -> Callable:
    path = estimators.AnnealingPath(num_temperatures=2, num_leapfrog=1)
    return of_vae(function, *data, path=path, num_chains=2)


def interventions() -> metrics.Interventions:
    return metrics.interventions_of_table(CODES, FACTORS)


def fit_flow_prior(**options):
    vae = VAE._replace(init=lambda key, x: {})
    layers = vaejax.networks.coupling_layers(2)
    # Optax is not written for the strict promotion that the tests turn on.
    with jax.numpy_dtype_promotion("standard"):
        return vaejax.priors.fit_flow_prior(
            vae, {}, jax.random.key(0), XS, layers, **({"num_steps": 1} | options)
        )


def optimal_variance(**options):
    head = distributions.shared_variance_normal_head(
        min_log_variance=-INF, max_log_variance=INF
    )
    vae = VAE._replace(decode=lambda params, z: head.apply(params["likelihood"], z))
    params = {"likelihood": jnp.float32(0)}
    return jax.eval_shape(
        lambda key: objectives.optimal_variance_loss(vae)(params, key, XS, **options),
        jax.random.key(0),
    )


def factor_vae(**options):
    network = vaejax.MLP((), (1,))
    vae = objectives.with_discriminator(VAE, network)

    def run(init_key, key):
        params = vae.init(init_key, X)
        return objectives.factor_vae_loss(vae, network)(params, key, XS, **options)

    return jax.eval_shape(run, jax.random.key(0), jax.random.key(1))


def semi_supervised(**options):
    model = vaejax.models.semi_supervised_vae(
        lambda label: VAE,
        classifier=(lambda key, x: (), lambda params, x: x),
        num_classes=2,
    )
    params = {"family": (), "classifier": ()}
    return jax.eval_shape(
        lambda key: objectives.negative_semi_supervised_elbo(
            model, params, key, X, **({"alpha": 1.0} | options)
        ),
        jax.random.key(0),
    )


def subset_elbo(**options):
    model = VAE._replace(
        encode=lambda params, x: Normal(jnp.zeros(2), jnp.zeros(2)),
        decode=lambda params, z: distributions.Joint((Normal(z, jnp.zeros(2)),)),
    )
    return jax.eval_shape(
        lambda key: objectives.negative_subset_elbo(model, (), key, (X,), **options),
        jax.random.key(0),
    )


def fit(**options):
    params, optimizer = jnp.zeros(2), optax.sgd(0.1)
    state = vaejax.TrainState(
        params, optimizer.init(params), jax.random.key(0), jnp.int32(0)
    )

    def loss_fn(params, key, batch):
        return jnp.mean(jnp.square(batch - params[None])), ()

    given = {"num_epochs": 1, "batch_size": 2, "validation": XS, "progress": False}
    return training.fit(loss_fn, optimizer, state, XS, **(given | options))


def mesh(**options):
    return training.fully_sharded(training.make_mesh(num_devices=1), {}, **options)


def stop(**options):
    state = vaejax.TrainState(jnp.ones(2), (), (), jnp.int32(0))
    state = training.init_early_stopping(state)
    return training.update_early_stopping(state, jnp.float32(1), **options)


def of_levels(build: Callable) -> Callable:
    """Return the builder as a function of one of its latent sizes."""
    networks = {name: [vaejax.MLP(())] * 2 for name in ("encoders", "decoders")}
    return lambda latent_sizes: build(latent_sizes=(2, latent_sizes), **networks)


K = {"num_samples": 2}


def bounds(name: str, **others: Range) -> dict[str, Range]:
    return {f"min_{name}": LOWER, f"max_{name}": UPPER} | others


NETWORKS = {"encoder": vaejax.MLP(()), "decoder": vaejax.MLP(())}
BINARY = VAE._replace(
    encode=lambda params, x: vaejax.Bernoulli(x),
    prior=lambda params: vaejax.Bernoulli(jnp.zeros(2)),
)
QUANTIZED = distributions.Quantized(
    jnp.ones((2, 1)), distributions.Codebook(jnp.ones(3), jnp.ones((3, 1)))
)


def revive_codes(**options):
    vae = VAE._replace(encode=lambda params, x: QUANTIZED)
    params = {"codebook": {"count": jnp.ones(3), "sum": jnp.ones((3, 1))}}
    return jax.eval_shape(
        lambda key: vaejax.models.revive_codes(vae, params, key, XS, **options),
        jax.random.key(0),
    )


# Of each function: how to call it with options alone, and the ranges of its options.
OPTIONS: dict[str, tuple[Callable, dict[str, Range]]] = {
    # distributions
    "bits_per_dimension": (
        of_table(distributions.bits_per_dimension, nats=1.0, num_dimensions=2),
        {"num_dimensions": COUNT, "level_width": fixed(POSITIVE)},
    ),
    "code_perplexity": (
        partial(distributions.code_perplexity, jnp.arange(2)), {"num_codes": COUNT}
    ),
    "categorical_head": (distributions.categorical_head, {"num_classes": SEVERAL}),
    "discretized_logistic_head": (
        distributions.discretized_logistic_head, bounds("log_scale")
    ),
    "discretized_logistic_mixture_head": (
        of_table(distributions.discretized_logistic_mixture_head, num_components=2),
        bounds("log_scale", num_components=COUNT),
    ),
    "discretized_normal_head": (
        distributions.discretized_normal_head, bounds("log_variance")
    ),
    "fixed_variance_normal_head": (
        distributions.fixed_variance_normal_head, {"variance": fixed(POSITIVE)}
    ),
    "full_covariance_normal_head": (
        of_table(distributions.full_covariance_normal_head, latent_size=2),
        bounds("log_variance", latent_size=COUNT),
    ),
    "laplace_head": (distributions.laplace_head, bounds("log_scale")),
    "make_word_dropout": (
        of_table(distributions.make_word_dropout, rate=0.5, vocabulary_size=9),
        {"rate": UNIT, "vocabulary_size": COUNT},
    ),
    "negative_binomial_head": (
        distributions.negative_binomial_head, bounds("log_mean")
    ),
    "normal_head": (distributions.normal_head, bounds("log_variance")),
    "parameter_free_head": (
        partial(distributions.parameter_free_head, Normal), {"num_parameters": COUNT}
    ),
    "poisson_head": (distributions.poisson_head, bounds("log_rate")),
    "shared_variance_normal_head": (
        distributions.shared_variance_normal_head,
        bounds("log_variance", log_variance=FINITE),
    ),
    "soft_clip": (
        of_table(distributions.soft_clip, X, lower=-1.0, upper=1.0),
        {"lower": LOWER, "upper": UPPER},
    ),
    "student_t_head": (distributions.student_t_head, bounds("log_scale")),
    "von_mises_fisher_head": (
        distributions.von_mises_fisher_head, {"min_concentration": fixed(WEIGHT)}
    ),
    "zero_inflated_negative_binomial_head": (
        distributions.zero_inflated_negative_binomial_head, bounds("log_mean")
    ),
    # priors, posteriors
    "flow_head": (
        partial(vaejax.posteriors.flow_head, vaejax.networks.planar_layers(2)),
        bounds("log_variance"),
    ),
    # models
    "bernoulli_vae": (
        of_table(vaejax.models.bernoulli_vae, **NETWORKS), {"latent_size": COUNT}
    ),
    "categorical_vae": (
        of_table(
            vaejax.models.categorical_vae, num_variables=2, num_classes=3, **NETWORKS
        ),
        {"num_variables": COUNT, "num_classes": SEVERAL, "temperature": POSITIVE},
    ),
    "codebook_optimizer": (
        of_table(vaejax.models.codebook_optimizer, optax.sgd(0.1)),
        {"decay": Range((-0.5, 1.0, NAN, INF), (0, 0.5))},
    ),
    "revive_codes": (revive_codes, {"minimum": UNIT}),
    "vq_vae": (
        of_table(vaejax.models.vq_vae, num_codes=2, latent_shape=(2, 1), **NETWORKS),
        {"num_codes": SEVERAL},
    ),
    "with_mixture_prior": (
        of_table(vaejax.priors.with_mixture_prior, VAE, num_components=2),
        {"num_components": COUNT, "initial_stddev": fixed(WEIGHT)},
    ),
    "fit_flow_prior": (
        fit_flow_prior,
        {
            "num_steps": COUNT,
            "batch_size": COUNT,
            "learning_rate": fixed(POSITIVE),
        },
    ),
    "fit_mixture_prior": (
        lambda **options: vaejax.priors.fit_mixture_prior(
            VAE, {}, jax.random.key(0), XS, **({"num_components": 1} | options)
        ),
        {"num_components": COUNT, "num_samples": COUNT, "batch_size": COUNT},
    ),
    "with_spherical_prior": (
        of_table(vaejax.priors.with_spherical_prior, VAE, latent_size=2),
        {"latent_size": SEVERAL},
    ),
    "with_vamp_prior": (
        of_table(vaejax.priors.with_vamp_prior, VAE, num_components=2),
        {
            "num_components": COUNT,
            "initial_mean": fixed(FINITE),
            "initial_stddev": fixed(WEIGHT),
        },
    ),
    "gaussian_vae": (
        of_table(vaejax.gaussian_vae, encoder=vaejax.MLP(()), decoder=vaejax.MLP(())),
        {"latent_size": COUNT},
    ),
    "multimodal_vae": (
        of_table(
            vaejax.models.multimodal_vae,
            encoders={"a": vaejax.MLP(())},
            decoders={"a": vaejax.MLP(())},
            likelihoods={"a": Normal},
        ),
        {"latent_size": COUNT},
    ),
    "semi_supervised_vae": (
        of_table(
            vaejax.models.semi_supervised_vae,
            lambda label: VAE,
            classifier=vaejax.MLP(()),
        ),
        {"num_classes": SEVERAL},
    ),
    "hierarchical_vae": (
        of_levels(vaejax.models.hierarchical_vae), {"latent_sizes": COUNT}
    ),
    "ladder_vae": (of_levels(vaejax.models.ladder_vae), {"latent_sizes": COUNT}),
    "two_layer_vae": (of_levels(vaejax.models.two_layer_vae), {"latent_sizes": COUNT}),
    "table_vae": (
        of_table(vaejax.models.table_vae, [distributions.Column("real")]),
        {"latent_size": COUNT},
    ),
    "sequence_vae": (
        of_table(
            vaejax.sequence_vae, latent_size=2, length=3, encoder=vaejax.MLP(()),
            decoder=vaejax.MLP(()),
        ),
        {"latent_size": COUNT, "length": COUNT},
    ),
    # objectives
    "beta_tcvae_loss": (
        partial(objectives.beta_tcvae_loss, VAE), {"dataset_size": COUNT}
    ),
    "beta_tcvae_loss()": (
        loss(partial(objectives.beta_tcvae_loss, VAE, dataset_size=4)),
        {"alpha": WEIGHT, "beta": WEIGHT, "gamma": WEIGHT},
    ),
    "capacity_loss": (
        of_table(objectives.capacity_loss, MEANS, target=1.0, gamma=1.0),
        {"target": WEIGHT, "gamma": WEIGHT},
    ),
    "dip_vae_loss()": (
        loss(partial(objectives.dip_vae_loss, VAE)),
        dict.fromkeys(("lambda_off_diagonal", "lambda_diagonal", "beta"), WEIGHT),
    ),
    "elbo_terms": (of_vae(objectives.elbo_terms, X), {"num_samples": COUNT}),
    "factor_vae_loss()": (factor_vae, {"gamma": WEIGHT, "beta": WEIGHT}),
    "free_bits_loss": (
        of_table(objectives.free_bits_loss, MEANS, minimum=1.0),
        {"minimum": WEIGHT, "beta": WEIGHT},
    ),
    "gaussian_kernel": (
        partial(objectives.gaussian_kernel, X, X), {"variance": POSITIVE}
    ),
    "info_vae_loss()": (
        loss(partial(objectives.info_vae_loss, VAE)),
        {
            "alpha": Range((1.5, NAN, INF, -INF), (1, 0.0, -2.0), True),
            "lambda_marginal": Range((0.5, -1.0, NAN, INF), (1, 10.0), True),
        },
    ),
    "inverse_multiquadratic_kernel": (
        partial(objectives.inverse_multiquadratic_kernel, X, X), {"scale": POSITIVE}
    ),
    "log_weights": (of_vae(objectives.log_weights, X), {"num_samples": COUNT}),
    "minibatch_stratified": (
        of_table(objectives.minibatch_stratified, batch_size=2, dataset_size=9),
        {"batch_size": Range((1, 0, 10, NAN), (2, 9)),
         "dataset_size": Range((1, 0, -1, NAN), (2, np.int64(9)))},
    ),
    "minibatch_weighted": (
        of_table(objectives.minibatch_weighted, batch_size=2, dataset_size=9),
        {"batch_size": Range((0, -1, 10, NAN), (1, 9)),
         "dataset_size": Range((1, 0, -1, NAN), (2, np.int64(9)))},
    ),
    "negative_disarm": (
        lambda **options: jax.eval_shape(
            lambda key: objectives.negative_disarm(BINARY, (), key, X, **options),
            jax.random.key(0),
        ),
        {"num_samples": Range((0, -2, 3, 1.5, NAN), (2, np.int64(4)))},
    ),
    "negative_dreg": (
        of_vae(objectives.negative_dreg, X, **K),
        {"num_samples": COUNT, "alpha": UNIT},
    ),
    "negative_elbo": (
        of_vae(objectives.negative_elbo, X), {"beta": WEIGHT, "num_samples": COUNT}
    ),
    "negative_iwae": (of_vae(objectives.negative_iwae, X), {"num_samples": COUNT}),
    "negative_miwae": (
        of_vae(objectives.negative_miwae, X, num_groups=2, **K),
        {"num_groups": COUNT, "num_samples": COUNT, "mixing": UNIT},
    ),
    "negative_piwae": (
        of_vae(objectives.negative_piwae, X, num_groups=2, **K),
        {"num_groups": COUNT, "num_samples": COUNT},
    ),
    "negative_reinforce": (
        of_vae(objectives.negative_reinforce, X), {"num_samples": SEVERAL}
    ),
    "negative_renyi": (
        of_vae(objectives.negative_renyi, X, alpha=0.5, **K),
        {"num_samples": COUNT, "alpha": FINITE},
    ),
    "negative_semi_supervised_elbo": (
        semi_supervised, {"alpha": WEIGHT, "beta": WEIGHT}
    ),
    "negative_subset_elbo": (
        subset_elbo,
        {"num_subsets": SIZE, "beta": WEIGHT},
    ),
    "negative_vimco": (
        of_vae(objectives.negative_vimco, X), {"num_samples": SEVERAL}
    ),
    "vector_quantization_terms": (
        partial(
            objectives.vector_quantization_terms, QUANTIZED,
            Normal(XS[:2, :1], XS[:2, :1]), QUANTIZED.mean, jnp.zeros(()),
        ),
        {"commitment": WEIGHT},
    ),
    "with_revived_codes": (
        of_table(objectives.with_revived_codes, jnp.sum, VAE),
        {"decay": Range((-0.5, 1.0, NAN, INF), (0, 0.5)), "minimum": fixed(UNIT)},
    ),
    "optimal_variance_loss()": (optimal_variance, {"beta": WEIGHT}),
    # estimators
    "active_units": (
        partial(estimators.active_units, XS), {"threshold": WEIGHT}
    ),
    "adapt_step_sizes": (
        in_path(estimators.adapt_step_sizes, X),
        {
            "num_chains": COUNT,
            "target_acceptance": Range((0.0, 1.0, -0.5, NAN), (0.5,), True),
            "num_transitions": COUNT,
        },
    ),
    "aggregate_decomposition": (
        of_vae(estimators.aggregate_decomposition, XS, **K),
        {"num_samples": COUNT, "chunk_size": COUNT},
    ),
    "annealed_importance_sampling": (
        in_path(estimators.annealed_importance_sampling, X), {"num_chains": COUNT}
    ),
    "bidirectional_monte_carlo": (
        in_path(estimators.bidirectional_monte_carlo), {"num_chains": COUNT}
    ),
    "hamiltonian_transition": (
        lambda **options: jax.eval_shape(
            lambda key: estimators.hamiltonian_transition(
                jnp.sum, key, X, **({"step_size": 0.1} | options)
            ),
            jax.random.key(0),
        ),
        {"step_size": POSITIVE, "num_leapfrog": COUNT},
    ),
    "inference_gap": (
        of_vae(estimators.inference_gap, X, jnp.float32(-2)),
        {"num_samples": COUNT, "num_steps": COUNT, "learning_rate": POSITIVE},
    ),
    "init_annealing": (
        in_path(estimators.init_annealing, X), {"num_chains": COUNT}
    ),
    "init_reverse_annealing": (
        partial(estimators.init_reverse_annealing, X), {"num_chains": COUNT}
    ),
    "jackknife": (
        partial(estimators.jackknife, jnp.array([0.0, 1.0, 2.0, 3.0])),
        {"order": Range((0, 3, 1.5, NAN), (1, np.int64(2)))},
    ),
    "linear_temperature_schedule": (
        estimators.linear_temperature_schedule, {"num_temperatures": COUNT}
    ),
    "log_marginal": (
        of_vae(estimators.log_marginal, X, **K),
        {"num_samples": COUNT, "chunk_size": COUNT},
    ),
    "optimal_posterior": (
        of_vae(estimators.optimal_posterior, X),
        {"num_samples": COUNT, "num_steps": COUNT, "learning_rate": POSITIVE},
    ),
    "pareto_k_threshold": (estimators.pareto_k_threshold, {"num_samples": COUNT}),
    "reverse_annealed_importance_sampling": (
        in_path(estimators.reverse_annealed_importance_sampling, X, X),
        {"num_chains": COUNT},
    ),
    "sigmoidal_temperature_schedule": (
        of_table(estimators.sigmoidal_temperature_schedule, num_temperatures=3),
        {"num_temperatures": COUNT, "delta": fixed(POSITIVE)},
    ),
    "units_by_kl": (partial(estimators.units_by_kl, X), {"threshold": WEIGHT}),
    # latent
    "code_statistics": (
        of_vae(latent.code_statistics, XS),
        {
            "quantiles": Range(
                ([0.5, -0.1], [0.5, 1.5], [NAN]), (np.float32([0, 0.5, 1]),)
            ),
            "num_samples": SEVERAL,
            "batch_size": COUNT,
        },
    ),
    "embed": (
        lambda **options: latent.embed(VAE, (), XS, **options), {"batch_size": COUNT}
    ),
    "impute": (
        partial(of_row, latent.impute),
        dict.fromkeys(("num_samples", "num_draws", "chunk_size"), COUNT),
    ),
    "interpolate": (
        lambda num: latent.interpolate(VAE, (), X, X, num), {"num": COUNT}
    ),
    "manifold": (lambda num: latent.manifold(VAE, (), num), {"num": COUNT}),
    "nearest_neighbors": (
        partial(latent.nearest_neighbors, XS, XS), {"num": COUNT, "batch_size": COUNT}
    ),
    "outlier_scores": (
        partial(of_row, latent.outlier_scores),
        {"num_samples": COUNT, "chunk_size": COUNT},
    ),
    "outlier_threshold": (
        partial(latent.outlier_threshold, jnp.arange(99.0)),
        {"false_alarm_rate": Range((0, 1.0, -0.5, 1.5, NAN, INF), (0.01, 0.99))},
    ),
    "posterior_moments": (
        of_vae(latent.posterior_moments, XS),
        {"num_samples": SEVERAL, "batch_size": COUNT},
    ),
    "sample": (
        of_vae(latent.sample, num=2), {"num": COUNT, "temperature": WEIGHT}
    ),
    "traverse": (
        lambda **options: latent.traverse(VAE, (), X, **options),
        {"num": COUNT, "extent": POSITIVE},
    ),
    # metrics
    "beta_vae_score": (
        with_key(metrics.beta_vae_score, interventions(), num_train=4, num_eval=4),
        {"batch_size": COUNT, "num_train": COUNT, "num_eval": COUNT,
         "penalty": fixed(WEIGHT)},
    ),
    "density_coverage": (
        partial(metrics.density_coverage, CODES, CODES), {"num_neighbors": COUNT}
    ),
    "expected_coverage": (
        of_table(metrics.expected_coverage, num_real=9, num_generated=9),
        {"num_real": Range((0, -1, 1.5, NAN), (9,)), "num_generated": COUNT,
         "num_neighbors": COUNT},
    ),
    "factor_vae_score": (
        with_key(metrics.factor_vae_score, interventions(), num_train=4, num_eval=4),
        {"batch_size": SEVERAL, "num_train": COUNT, "num_eval": COUNT,
         "min_stddev": fixed(WEIGHT)},
    ),
    "interventional_robustness": (
        partial(metrics.interventional_robustness, CODES, FACTORS),
        {"quantile": Range((0.0, -0.5, 1.5, NAN, INF), (1, 0.5))},
    ),
    "lasso_importances": (
        with_key(metrics.lasso_importances, CODES, FACTORS[:, 0]),
        {"penalty": fixed(WEIGHT), "max_iterations": COUNT},
    ),
    "modularity": (
        partial(metrics.modularity, CODES, FACTORS), {"num_bins": COUNT}
    ),
    "mutual_information_gap": (
        partial(metrics.mutual_information_gap, CODES, FACTORS), {"num_bins": COUNT}
    ),
    "precision_recall": (
        partial(metrics.precision_recall, CODES, CODES), {"num_neighbors": COUNT}
    ),
    "random_forest_importances": (
        with_key(metrics.random_forest_importances, CODES, FACTORS[:, 0]),
        {"num_trees": COUNT, "min_leaf": COUNT},
    ),
    "separated_attribute_predictability": (
        partial(metrics.separated_attribute_predictability, CODES, FACTORS),
        {"min_variance": fixed(WEIGHT)},
    ),
    # training
    "cyclical": (
        of_table(training.cyclical, value=1.0, num_steps=8),
        {"value": FINITE, "num_steps": COUNT, "num_cycles": COUNT,
         "ratio": Range((0.0, -0.5, 1.5, NAN), (1, 0.5), True)},
    ),
    "fit": (
        fit,
        {"num_epochs": COUNT, "batch_size": COUNT, "patience": COUNT,
         "save_every": COUNT, "averaging": Range((-0.5, 1.0, NAN), (0, 0.9))},
    ),
    "fully_sharded": (mesh, {"min_size": SIZE}),
    "logistic_warm_up": (
        of_table(training.logistic_warm_up, value=1.0, num_steps=8),
        {"value": FINITE, "num_steps": COUNT, "steepness": POSITIVE},
    ),
    "make_mesh": (training.make_mesh, {"num_devices": Range(COUNT.bad, (1,))}),
    "make_streamed_epoch": (
        of_table(training.make_streamed_epoch, lambda s, b: (s, ()), batch_size=2),
        {"batch_size": COUNT, "steps_per_dispatch": COUNT, "prefetch": COUNT},
    ),
    "make_train_epoch": (
        of_table(training.make_train_epoch, lambda s, b: (s, ()), batch_size=2),
        {"batch_size": COUNT, "steps_per_dispatch": COUNT},
    ),
    "steps_per_epoch": (
        of_table(training.steps_per_epoch, num_examples=9, batch_size=2),
        {"num_examples": Range((0, -1, NAN), (9,)), "batch_size": COUNT},
    ),
    "update_early_stopping": (stop, {"patience": COUNT}),
    "warm_up": (
        of_table(training.warm_up, value=1.0, num_steps=8),
        {"value": FINITE, "num_steps": Range((-1, 1.5, NAN), (0, 1, np.int64(2)))},
    ),
    "with_average": (
        partial(training.with_average, lambda state, batch: (state, ())),
        {"decay": Range((-0.5, 1.0, 1 - 1e-12, NAN, INF), (0, 0.999), True)},
    ),
}  # fmt: skip
# Options that hold a number of another kind, and why no range is tested.
WITHOUT_RANGE = {
    ("anneal", "count"),  # a part of a loop, traced as a rule
    ("epoch_order", "epoch"),  # an index, traced as a rule
    ("epoch_order", "num_examples"),  # a length of data
    ("bits_per_dimension", "nats"),  # a result
    # Shapes, tests/models/test_quantized.py.
    ("fsq_vae", "levels"),
    ("fsq_vae", "positions"),
    ("vq_vae", "latent_shape"),
}


def numeric_options(function: Callable) -> set[str]:
    return {
        option.name
        for option in inspect.signature(function).parameters.values()
        if option.name == "quantiles"
        or {"int", "float"} & set(words_of(option.annotation))
    }


def words_of(annotation: Any) -> list[str]:
    text = (
        annotation
        if isinstance(annotation, str)
        else inspect.formatannotation(annotation)
    )
    for sign in "[](),|":
        text = text.replace(sign, " ")
    # Tables of anything are data, and functions of numbers are functions.
    others = ("numpy", "tuple", "Callable")
    return [] if any(other in text for other in others) else text.split()


def public_functions() -> dict[str, Callable]:
    return {
        name: value
        for package in PACKAGES
        for name in importlib.import_module(f"vaejax.{package}").__all__
        if inspect.isfunction(
            value := getattr(importlib.import_module(f"vaejax.{package}"), name)
        )
    }


def test_every_numeric_option_has_a_row():
    found = {
        (name, option)
        for name, function in public_functions().items()
        for option in numeric_options(function)
    }
    rows = {
        (name, option)
        for name, (_, ranges) in OPTIONS.items()
        for option in ranges
        if not name.endswith("()")
    }
    assert found - WITHOUT_RANGE == rows


def test_every_loss_of_a_batch_has_a_row():
    builders = {
        "beta_tcvae_loss": objectives.beta_tcvae_loss(VAE, dataset_size=4),
        "dip_vae_loss": objectives.dip_vae_loss(VAE),
        "factor_vae_loss": objectives.factor_vae_loss(VAE, vaejax.MLP((), (1,))),
        "info_vae_loss": objectives.info_vae_loss(VAE),
        "optimal_variance_loss": objectives.optimal_variance_loss(VAE),
    }
    assert set(builders) == {
        name
        for name, function in public_functions().items()
        if name.endswith("_loss")
        and "params" not in str(inspect.signature(function))
        and "means" not in inspect.signature(function).parameters
    }
    for name, loss_fn in builders.items():
        assert numeric_options(loss_fn) == set(OPTIONS[f"{name}()"][1])


def held(value: Any) -> list:
    """Return a number as Python, NumPy and JAX hold it."""
    if isinstance(value, list):
        return [np.asarray(value, np.float64), jnp.asarray(value, jnp.float32)]
    if isinstance(value, int):
        return [value, np.int64(value), jnp.int32(value)]
    exact = float(np.float32(value)) == value or not math.isfinite(value)
    forms = [value, np.float64(value), np.asarray(value, np.float64)]
    return forms + ([np.float32(value), jnp.float32(value)] if exact else [])


CELLS = [(name, option) for name, (_, ranges) in OPTIONS.items() for option in ranges]


@pytest.mark.parametrize(("name", "option"), CELLS)
def test_bad_values_are_refused(name, option):
    call, ranges = OPTIONS[name]
    for value in ranges[option].bad:
        for number in held(value):
            with pytest.raises(ValueError, match=r"^[^\n]*; [^\n]*\.(\n-|$)") as error:
                call(**{option: number})
            wrong = value[-1] if isinstance(value, list) else value
            assert f"{abs(wrong):.3g}" in str(error.value) or wrong < 0


# These run the functions: a fixed third of them in the normal run.
@pytest.mark.sampled(every=3)
@pytest.mark.parametrize(("name", "option"), CELLS)
def test_values_at_the_ends_of_the_range_pass(name, option):
    call, ranges = OPTIONS[name]
    # NumPy's numbers are not of weak type.
    with jax.numpy_dtype_promotion("standard"):
        for value in ranges[option].good:
            call(**{option: value})
            if isinstance(value, float):
                call(**{option: np.float32(value)})


@pytest.mark.parametrize(
    ("name", "option"),
    [
        (name, option)
        for name, option in CELLS
        if OPTIONS[name][1][option].may_be_traced
    ],
)
def test_traced_values_pass(name, option):
    call, ranges = OPTIONS[name]

    def traced(value):
        call(**{option: value})
        return value

    with jax.numpy_dtype_promotion("standard"):
        jax.eval_shape(traced, jnp.float32(ranges[option].good[0]))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: distributions.fixed_variance_normal_head(variance=1e-60),
            "variance is 1e-60, which is 0 in float32; give a finite number above 0",
        ),
        (
            lambda: distributions.fixed_variance_normal_head(variance=1e-40),
            "variance is 1e-40, which is 0 in float32",
        ),
        (
            lambda: distributions.fixed_variance_normal_head(variance=1e60),
            r"variance is 1e\+60, which is inf in float32",
        ),
        (
            lambda: training.with_average(lambda state, batch: state, 0.999999999),
            r"decay is 0.999999999, which is 1 in float32; give a number in \[0, 1\)",
        ),
    ],
)
def test_what_float32_rounds_to_the_end_of_a_range_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_double_precision_holds_what_float32_rounds(x64):
    head = distributions.fixed_variance_normal_head(variance=1e-60)
    assert head.num_parameters == 1
