"""A call that works of every public function, with the roles of its arguments."""

from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from support.misuse import Argument, Row

import vaejax
from vaejax import (
    Normal,
    TrainState,
    datasets,
    distributions,
    estimators,
    latent,
    metrics,
    models,
    networks,
    objectives,
    posteriors,
    priors,
    training,
)
from vaejax.base import batch_size_of, complete, complete_by_prior, draw, values
from vaejax.distributions import MaskedEvent

# Functions whose arguments are files, text or figures: their misuses have tests beside
# those of the functions; and functions without an argument.
LEFT_OUT = {
    # Mixtures of scikit-learn, priors/test_mixture.py and priors/test_ex_post.py.
    "priors": {"fit_flow_prior", "fit_mixture_prior", "mixture_parameters"},
    "checkpoints": None,
    "exporting": None,
    "plots": None,
    "datasets": {
        "byte_vocabulary", "checksum", "describe_catalogue", "detokenize",
        "iterate_chunks", "load", "load_array", "load_text", "read_table",
        "subword_vocabulary", "tokenize", "describe_array", "check_support",
        "from_array", "split_indices", "check_image_axes",
    },
    # Dicts of parts, models/test_multimodal.py and distributions/test_joint.py; the
    # noise of networks, models/test_network_noise.py.
    "models": {"mixture_of_experts", "product_of_experts"},
    "networks": {"branched_network", "merged_network", "with_noise"},
    "distributions": {
        "joint_head", "mask_parts",
        # Options alone, test_options.py; a dict, models/test_units.py.
        "discretized_logistic_head", "discretized_normal_head", "units_from_dict",
        "fixed_variance_normal_head", "laplace_head", "negative_binomial_head",
        "normal_head", "poisson_head", "shared_variance_normal_head", "student_t_head",
        "zero_inflated_negative_binomial_head", "von_mises_fisher_head",
        # Distributions of NumPyro, distributions/test_from_numpyro.py.
        "from_numpyro",
    },
    "training": {
        # Layouts over devices.
        "batch_sharding", "fully_sharded", "gather_from_devices", "make_mesh",
        "place_on_devices", "replicated_sharding",
    },
}  # fmt: skip

KEY = jax.random.key(0)
X = np.array([1.0, 0.0, 1.0], np.float32)
XS = np.array([[1, 0, 1], [0, 0, 1], [1, 1, 1], [0, 1, 0], [1, 0, 0]], np.float32)
Z = jnp.array([0.3, -0.2])
ZS = jnp.array([[0.3, -0.2], [1.0, 0.5], [-0.7, 0.1], [0.2, 0.9]])
LOG_WEIGHTS = np.float32(np.random.default_rng(0).normal(size=30))
CODES = np.random.default_rng(1).normal(size=(24, 3))
FACTORS = np.array([[n % 2, n // 2 % 3] for n in range(24)])
MEANS = objectives.ElboTerms(jnp.float32(-80), jnp.float32(6), jnp.array([5.0, 1.0]))
Q = Normal(jnp.array([1.0, -1.0]), jnp.array([0.2, -0.3]))
P = Normal(jnp.zeros(2), jnp.zeros(2))
QS = Normal(ZS, jnp.zeros_like(ZS))
STEPS = jnp.array([0.5, 0.4, 0.3])
PATH = estimators.AnnealingPath(num_temperatures=3, num_leapfrog=1, step_sizes=STEPS)


def of(role: str, value: Any, *marks: str) -> Argument:
    return Argument(role, value, frozenset(marks))


def key(*marks: str) -> Argument:
    return of("key", KEY, *marks)


def x(*marks: str) -> Argument:
    """An example that is scored under a Bernoulli, but for other marks."""
    return of("example", X, *(marks or ("scored", "gray", "binary")))


def xs(*marks: str) -> Argument:
    return of("batch", XS, *(marks or ("scored", "gray", "binary")))


def number(value: Any, *marks: str) -> Argument:
    return of("number", value, *marks)


def params_of(vae: vaejax.VAE, x: Any) -> Any:
    """Return random parameters of a model, without compiling its init."""
    random = np.random.default_rng(0)
    return jax.tree.map(
        lambda leaf: jnp.asarray(0.3 * random.normal(size=leaf.shape), leaf.dtype),
        jax.eval_shape(vae.init, KEY, x),
    )


@cache
def bernoulli() -> tuple[vaejax.VAE, Any]:
    vae = vaejax.gaussian_vae(
        latent_size=2, encoder=vaejax.MLP((4,)), decoder=vaejax.MLP((4,), (3,))
    )
    return vae, params_of(vae, X)


@cache
def with_shared_variance() -> tuple[vaejax.VAE, Any]:
    head = distributions.shared_variance_normal_head(
        min_log_variance=-np.inf, max_log_variance=np.inf
    )
    vae = vaejax.gaussian_vae(
        latent_size=2,
        encoder=vaejax.MLP((4,)),
        decoder=vaejax.MLP((4,), (3,)),
        likelihood=head,
    )
    return vae, params_of(vae, X)


@cache
def adversarial() -> tuple[vaejax.VAE, Any]:
    vae = objectives.with_discriminator(bernoulli()[0], vaejax.MLP((), (1,)))
    return vae, params_of(vae, X)


@cache
def table_of_normals() -> vaejax.VAE:
    head = distributions.mixed_head([distributions.Column("real")] * 3)
    return vaejax.VAE(
        init=lambda key, x: (),
        encode=lambda params, x: Q,
        prior=lambda params: P,
        decode=lambda params, z: head.apply((), jnp.concatenate([z, z, z])),
    )


LABEL = np.float32([0, 1])


def family(label: Any) -> vaejax.VAE:
    return vaejax.gaussian_vae(
        latent_size=2,
        encoder=networks.with_condition(vaejax.MLP((4,)), label),
        decoder=networks.with_condition(vaejax.MLP((4,), (3,)), label),
    )


TOKENS = jnp.array([2, 1, 3, 0], jnp.int32)


@cache
def sentences() -> tuple[vaejax.VAE, Any]:
    vae = vaejax.sequence_vae(
        latent_size=2,
        length=4,
        encoder=networks.RecurrentEncoder(5, 3, 4),
        decoder=networks.RecurrentDecoder(5, 3, 4),
    )
    return vae, params_of(vae, TOKENS)


def model() -> dict[str, Argument]:
    vae, params = bernoulli()
    return {"vae": of("vae", vae), "params": of("params", params)}


def per_example(function: Any, *, keyed: bool = True, **options: Any) -> Row:
    """A function of `(vae, params, key, x)` that scores x."""
    keys = {"key": key()} if keyed else {}
    return Row(function, model() | keys | {"x": x()}, options)


def per_batch(function: Any, *marks: str, **options: Any) -> Row:
    data = {"key": key(), "xs": xs(*(marks or ("unscored",)))}
    return Row(function, model() | data, options)


def of_loss(loss_fn: Any, params: Any, *marks: str, **options: Any) -> Row:
    """A loss of a batch, `(params, key, batch)`."""
    arguments = {"params": of("params", params), "key": key(), "batch": xs(*marks)}
    return Row(loss_fn, arguments, options)


LEVELS = {
    "latent_sizes": (2, 1),
    "encoders": (vaejax.MLP((4,)), vaejax.MLP((4,))),
    "decoders": (vaejax.MLP((4,), (3,)), vaejax.MLP((4,))),
}


def of_levels(build: Any) -> Row:
    names = ("likelihood", vaejax.Bernoulli), ("posterior", Normal), ("prior", Normal)
    return Row(build, {name: of("head", head) for name, head in names}, LEVELS)


def kl_of_levels() -> Row:
    vae = models.ladder_vae(**LEVELS)
    params = params_of(vae, X)
    posterior = vae.encode(params, X)
    z, log_posterior = posterior.sample_and_log_prob(KEY)
    return Row(
        objectives.kl_per_level,
        {"posterior": of("distribution", posterior, "unused")},
        {"prior": vae.prior(params), "z": z, "log_posterior": log_posterior},
    )


def completion_of_levels() -> Row:
    vae = models.ladder_vae(**LEVELS)
    prior = vae.prior(params_of(vae, X))
    z = prior.sample(KEY)
    return Row(
        complete_by_prior,
        {"prior": of("distribution", prior, "unused")},
        {"like": z, "edited": z.values},
    )


def of_objectives() -> dict[str, Row]:
    (vae, params), of_two = bernoulli(), {"num_samples": 2}
    binary = models.bernoulli_vae(
        latent_size=2, encoder=vaejax.MLP((4,)), decoder=vaejax.MLP((4,), (3,))
    )
    codes = distributions.Quantized(
        ZS, distributions.Codebook(jnp.ones(3), jnp.eye(3)[:, :2])
    )
    q, p = of("distribution", Q), of("distribution", P)
    unused = of("distribution", Q, "unused")
    z, log_q = of("latent", Z), of("array", Q.log_prob(Z))
    groups = {"num_groups": 2, "num_samples": 2}
    shared, shared_params = with_shared_variance()
    with_critic, critic_params = adversarial()
    with_classes = models.semi_supervised_vae(
        family, classifier=vaejax.MLP((), (2,)), num_classes=2
    )
    of_parts = models.multimodal_vae(
        latent_size=2,
        encoders={"a": vaejax.MLP((4,))},
        decoders={"a": vaejax.MLP((), (3,))},
        likelihoods={"a": vaejax.Bernoulli},
    )
    elbo = partial(objectives.negative_elbo, vae)
    posteriors = of("distribution", QS)
    half = of("array", np.log(np.full(4, 0.25, np.float32)), "vector")
    zs, others = of("array", ZS, "table"), of("array", 2 * ZS, "table")
    x_keyed = {"params": of("params", params), "key": key(), "x": x()}
    losses = {
        "beta_tcvae_loss": objectives.beta_tcvae_loss(vae, dataset_size=9),
        "dip_vae_loss": objectives.dip_vae_loss(vae),
        "info_vae_loss": objectives.info_vae_loss(vae),
        "mean_over_batch": objectives.mean_over_batch(elbo),
        "loss_of_means": objectives.loss_of_means(
            partial(objectives.elbo_terms, vae),
            partial(objectives.free_bits_loss, minimum=0.1),
        ),
    }
    vae_argument = {"vae": of("vae", vae)}
    return {
        "negative_elbo": per_example(objectives.negative_elbo),
        "elbo_terms": per_example(objectives.elbo_terms),
        "log_weight": per_example(objectives.log_weight),
        "log_weights": per_example(objectives.log_weights, **of_two),
        "log_weight_given_posterior": Row(
            objectives.log_weight_given_posterior,
            model() | {"key": key(), "x": x(), "posterior": q, "prior": p},
        ),
        "negative_iwae": per_example(objectives.negative_iwae, **of_two),
        "negative_miwae": per_example(objectives.negative_miwae, **groups),
        "negative_piwae": per_example(objectives.negative_piwae, **groups),
        "negative_renyi": per_example(objectives.negative_renyi, alpha=0.5, **of_two),
        "negative_dreg": per_example(objectives.negative_dreg, **of_two),
        "negative_semi_supervised_elbo": Row(
            objectives.negative_semi_supervised_elbo,
            {
                "vae": of("vae", with_classes),
                "params": of("params", params_of(with_classes, X)),
                "key": key(),
            },
            {"x": X, "alpha": 1.0},
        ),
        "negative_subset_elbo": Row(
            objectives.negative_subset_elbo,
            {
                "vae": of("vae", of_parts),
                "params": of("params", params_of(of_parts, {"a": X})),
                "key": key(),
            },
            {"x": {"a": X}},
        ),
        "negative_reinforce": per_example(objectives.negative_reinforce, **of_two),
        "negative_vimco": per_example(objectives.negative_vimco, **of_two),
        "negative_disarm": Row(
            objectives.negative_disarm,
            {
                "vae": of("vae", binary),
                "params": of("params", params_of(binary, X)),
                "key": key(),
                "x": x(),
            },
            of_two,
        ),
        "kl_of_categoricals": Row(
            objectives.kl_of_categoricals,
            {},
            {
                "posterior": vaejax.Categorical(ZS),
                "prior": vaejax.Categorical(-ZS),
                "z": None,
                "log_posterior": None,
            },
        ),
        "vector_quantization_terms": Row(
            objectives.vector_quantization_terms,
            {"commitment": number(0.5)},
            {
                "posterior": codes,
                "prior": distributions.CodeVectors(
                    vaejax.Categorical(jnp.zeros((4, 3))), codes.quantizer, (4, 2)
                ),
                "z": codes.mean,
                "log_posterior": jnp.zeros(()),
            },
        ),
        "kl_closed_form": Row(
            objectives.kl_closed_form,
            {"posterior": q, "prior": p},
            {"z": None, "log_posterior": None},
        ),
        "kl_per_dimension": Row(
            objectives.kl_per_dimension,
            {"posterior": q, "prior": p},
            {"z": None, "log_posterior": None},
        ),
        "kl_monte_carlo": Row(
            objectives.kl_monte_carlo,
            {"prior": p, "z": z, "log_posterior": log_q},
            {"posterior": Q},
        ),
        "kl_per_level": kl_of_levels(),
        "kl_sticking_the_landing": Row(
            objectives.kl_sticking_the_landing,
            {"posterior": unused, "prior": p, "z": z, "log_posterior": log_q},
        ),
        "capacity_loss": Row(
            objectives.capacity_loss,
            {"target": number(1.0), "gamma": number(2.0)},
            {"means": MEANS},
        ),
        "free_bits_loss": Row(
            objectives.free_bits_loss,
            {"minimum": number(1.0), "beta": number(2.0)},
            {"means": MEANS},
        ),
        "aggregate_log_ratios": Row(
            lambda **arguments: jnp.stack(objectives.aggregate_log_ratios(**arguments)),
            {
                "posteriors": posteriors,
                "prior": p,
                "z": z,
                "log_posterior": log_q,
                "log_weights": half,
            },
        ),
        "covariance_of_means": Row(
            objectives.covariance_of_means, {"posteriors": posteriors}
        ),
        "covariance_of_aggregate": Row(
            objectives.covariance_of_aggregate, {"posteriors": posteriors}
        ),
        "gaussian_kernel": Row(
            objectives.gaussian_kernel,
            {
                "z": of("array", Z),
                "other": of("array", 2 * Z),
                "variance": number(1.5, "optional"),
            },
        ),
        "inverse_multiquadratic_kernel": Row(
            objectives.inverse_multiquadratic_kernel,
            {
                "z": of("array", Z),
                "other": of("array", 2 * Z),
                "scale": number(1.5, "optional"),
            },
        ),
        "maximum_mean_discrepancy": Row(
            objectives.maximum_mean_discrepancy,
            {
                "kernel": of("function", objectives.gaussian_kernel),
                "zs": zs,
                "others": others,
            },
        ),
        "minibatch_stratified": Row(
            objectives.minibatch_stratified,
            {"batch_size": number(2), "dataset_size": number(9)},
        ),
        "minibatch_weighted": Row(
            objectives.minibatch_weighted,
            {"batch_size": number(2), "dataset_size": number(9)},
        ),
        "permute_dimensions": Row(
            objectives.permute_dimensions, {"key": key(), "zs": zs}
        ),
        "beta_tcvae_loss": Row(
            objectives.beta_tcvae_loss, vae_argument | {"dataset_size": number(9)}
        ),
        "dip_vae_loss": Row(objectives.dip_vae_loss, vae_argument),
        "info_vae_loss": Row(objectives.info_vae_loss, vae_argument),
        "optimal_variance_loss": Row(objectives.optimal_variance_loss, vae_argument),
        "factor_vae_loss": Row(
            objectives.factor_vae_loss,
            vae_argument | {"discriminator": of("network", vaejax.MLP((), (1,)))},
        ),
        "with_revived_codes": Row(
            objectives.with_revived_codes,
            {"loss_fn": of("function", objectives.mean_over_batch(elbo))}
            | vae_argument
            | {"decay": number(0.5, "optional")},
        ),
        "with_discriminator": Row(
            objectives.with_discriminator,
            vae_argument | {"discriminator": of("network", vaejax.MLP((), (1,)))},
        ),
        "mean_over_batch": Row(
            objectives.mean_over_batch, {"objective": of("function", elbo)}
        ),
        "loss_of_means": Row(
            objectives.loss_of_means,
            {
                "terms_fn": of("function", partial(objectives.elbo_terms, vae)),
                "combine": of("function", objectives.free_bits_loss),
            },
        ),
        "with_transform": Row(
            objectives.with_transform,
            {
                "objective": of("function", elbo),
                "transform": of("function", vaejax.binarize),
            },
        ),
        "mean_over_batch()()": of_loss(
            losses["mean_over_batch"], params, "scored", "gray"
        ),
        **{f"{name}()": of_loss(loss, params) for name, loss in losses.items()},
        "optimal_variance_loss()": of_loss(
            objectives.optimal_variance_loss(shared), shared_params, "unscored"
        ),
        "factor_vae_loss()": of_loss(
            objectives.factor_vae_loss(with_critic, vaejax.MLP((), (1,))), critic_params
        ),
        "with_transform()": Row(
            lambda params, key, x: objectives.with_transform(elbo, vaejax.binarize)(
                params, key, x
            ),
            x_keyed | {"x": x("any_array")},
        ),
    }


def of_estimators() -> dict[str, Row]:
    (vae, params), in_path = bernoulli(), {"path": PATH, "num_chains": 2}
    state = estimators.init_reverse_annealing(Z, num_chains=2)
    weights = {"log_weights": of("array", LOG_WEIGHTS, "vector")}
    ais = estimators.annealed_importance_sampling
    optimize = {"num_steps": 2, "num_samples": 2}
    elbo = of("array", np.float32(-3), "scalar")

    def is_normal(z):
        return -jnp.sum(jnp.square(z)) / 2

    return {
        "active_units": Row(
            estimators.active_units, {"means": of("array", CODES)}, {}
        ),
        "units_by_kl": Row(
            estimators.units_by_kl, {"kl": of("array", np.float32([2.3, 0.01]))}
        ),
        "adapt_step_sizes": per_example(
            estimators.adapt_step_sizes, num_transitions=3, **in_path
        ),
        "fit_independent_columns": Row(
            estimators.fit_independent_columns,
            {"values": of("array", XS, "table", "refuses_nan")},
            {"columns": COLUMNS},
        ),
        "aggregate_decomposition": per_batch(
            estimators.aggregate_decomposition, num_samples=4
        ),
        "anneal": Row(
            lambda vae, params, key, x, count: estimators.anneal(
                vae, params, key, x, state, count, path=PATH
            ).log_weight,
            model() | {"key": key(), "x": x(), "count": number(2)},
        ),
        "annealed_estimate": Row(
            estimators.annealed_estimate, {"state": of("state", state)}
        ),
        "annealed_importance_sampling": per_example(ais, **in_path),
        "bidirectional_monte_carlo": Row(
            estimators.bidirectional_monte_carlo, model() | {"key": key()}, in_path
        ),
        "reverse_annealed_importance_sampling": Row(
            estimators.reverse_annealed_importance_sampling,
            model() | {"key": key(), "x": x(), "z": of("latent", Z)},
            in_path,
        ),
        "correct_bound": Row(
            lambda **arguments: estimators.correct_bound(**arguments).corrected,
            {
                "bounds": of("array", np.float32([-3.0, -4.0, -5.0, -3.5]), "vector"),
                "subset": of("array", np.array([0, 2]), "vector", "integers"),
                "annealed": of("array", np.float32([-2.5, -4.0]), "vector"),
            },
        ),
        "hamiltonian_transition": Row(
            estimators.hamiltonian_transition,
            {
                "log_density": of("function", is_normal),
                "key": key(),
                "step_size": number(0.1),
            },
            {"z": Z},
        ),
        "inference_gap": Row(
            estimators.inference_gap,
            model() | {"key": key(), "x": x(), "log_marginal": elbo},
            optimize,
        ),
        "optimal_posterior": per_example(estimators.optimal_posterior, **optimize),
        "init_annealing": Row(
            estimators.init_annealing,
            model() | {"key": key(), "x": x("unscored")},
            {"path": PATH._replace(initial=estimators.start_at_posterior)},
        ),
        "init_reverse_annealing": Row(
            estimators.init_reverse_annealing, {"num_chains": number(2)}, {"z": Z}
        ),
        "jackknife": Row(estimators.jackknife, weights),
        "marginal_of_weights": Row(estimators.marginal_of_weights, weights),
        "pareto_k": Row(estimators.pareto_k, weights),
        "psis_weights": Row(estimators.psis_weights, weights),
        "linear_temperature_schedule": Row(
            estimators.linear_temperature_schedule, {"num_temperatures": number(3)}
        ),
        "sigmoidal_temperature_schedule": Row(
            estimators.sigmoidal_temperature_schedule, {"num_temperatures": number(3)}
        ),
        "pareto_k_threshold": Row(
            estimators.pareto_k_threshold, {"num_samples": number(3)}
        ),
        "log_marginal": per_example(estimators.log_marginal, num_samples=3),
        "start_at_posterior": Row(
            estimators.start_at_posterior, model() | {"x": x("unscored")}
        ),
        "start_at_prior": Row(estimators.start_at_prior, {"vae": of("vae", vae)}
                              | {"params": of("params", params, "unused")},
                              {"x": X}),
    }  # fmt: skip


def of_latent() -> dict[str, Row]:
    unscored, optional = x("unscored"), key("optional")
    x0, x1 = unscored, of("example", 1 - X, "unscored")
    posterior = of("distribution", Q)
    point = {"latent_point": latent.draw}
    of_table = dict(
        vae=of("vae", table_of_normals()), params=of("params", (), "unused")
    )
    return {
        "attribute_direction": Row(
            latent.attribute_direction,
            {
                "codes": of("array", CODES[:4], "table"),
                "has_attribute": of(
                    "array", np.array([True, False, True, False]), "integers"
                ),
            },
        ),
        "code_statistics": per_batch(latent.code_statistics),
        "posterior_moments": per_batch(latent.posterior_moments),
        "embed": Row(
            latent.embed, model() | {"xs": xs("unscored"), "key": optional}, point
        ),
        "embed, means": Row(latent.embed, model() | {"xs": xs("unscored")}),
        "impute": Row(
            latent.impute,
            of_table | {"key": key(), "x": of("row", MaskedEvent(X, X > 0))},
        ),
        "outlier_scores": Row(
            latent.outlier_scores,
            of_table
            | {"key": key(), "x": of("example", X, "any_array", "scored", "real")},
        ),
        "outlier_threshold": Row(
            latent.outlier_threshold,
            {
                "scores": of("array", CODES[:, 0], "vector", "refuses_nan"),
                "false_alarm_rate": number(0.5),
            },
        ),
        "interpolate": Row(
            latent.interpolate,
            model() | {"x0": x0, "x1": x1, "num": number(3), "key": optional},
            point,
        ),
        "manifold": Row(
            latent.manifold,
            model() | {"num": number(2), "key": optional},
            {"example_point": latent.draw},
        ),
        "traverse": Row(
            latent.traverse, model() | {"x": unscored, "key": optional}, point
        ),
        "shift_latents": Row(
            latent.shift_latents,
            model()
            | {
                "x": unscored,
                "direction": of("array", np.float32([1.0, 0.0])),
                "steps": of("array", np.float32([0.0, 1.0]), "vector", "may_be_empty"),
                "key": optional,
            },
            point,
        ),
        "reconstruct": per_batch(latent.reconstruct),
        "sample": Row(latent.sample, model() | {"key": key(), "num": number(2)}),
        "sample, cooled": Row(
            latent.sample,
            {"key": key(), "temperature": number(0.5)},
            dict(zip(("vae", "params"), bernoulli(), strict=True)) | {"num": 2},
        ),
        "linear_path": Row(
            latent.linear_path,
            {"start": of("pytree", Z), "end": of("pytree", 2 * Z), "t": number(0.5)},
        ),
        "spherical_path": Row(
            latent.spherical_path,
            {"start": of("pytree", Z), "end": of("pytree", 1 - Z), "t": number(0.5)},
        ),
        "nearest_neighbors": Row(
            latent.nearest_neighbors,
            {"queries": of("array", CODES[:3], "may_be_empty"),
             "references": of("array", CODES, "nan_is_furthest")},
        ),
        "mean": Row(latent.mean, {"distribution": posterior}, {"key": None}),
        "mode": Row(latent.mode, {"distribution": posterior}, {"key": None}),
        "draw": Row(draw, {"key": key(), "distribution": posterior}),
        "values": Row(values, {}, {"z": Z}),
        "complete": Row(
            complete,
            model() | {"params": of("params", bernoulli()[1], "unused")},
            {"like": Z, "edited": 2 * Z},
        ),
        "complete_by_prior": completion_of_levels(),
        "batch_size_of": Row(
            lambda batch: jnp.float32(batch_size_of(batch)),
            {"batch": of("sizes", XS)},
        ),
    }  # fmt: skip


def of_priors() -> dict[str, Row]:
    vae = vaejax.gaussian_vae(
        latent_size=2, encoder=vaejax.MLP((3,)), decoder=vaejax.MLP((3,), (3,))
    )
    mixture = priors.with_mixture_prior(vae, 3)
    params = mixture.init(KEY, X)
    model, z = of("vae", mixture), of("latent", Z)
    return {
        "with_flow_prior": Row(
            priors.with_flow_prior,
            {"vae": of("vae", vae)},
            {"layers": networks.coupling_layers(2)},
        ),
        "flow_head": Row(
            posteriors.flow_head, {}, {"layers": networks.planar_layers(2)}
        ),
        "product_of_normals": Row(
            posteriors.product_of_normals, {"experts": of("distribution", QS)}
        ),
        "with_mixture_prior": Row(
            priors.with_mixture_prior,
            {"vae": of("vae", vae), "num_components": number(3)},
        ),
        "with_mixture_prior().init": Row(mixture.init, {"key": key(), "x": x("shape")}),
        "with_spherical_prior": Row(
            priors.with_spherical_prior,
            {"vae": of("vae", vae), "latent_size": number(2)},
        ),
        "with_vamp_prior": Row(
            priors.with_vamp_prior,
            {
                "vae": of("vae", vae),
                "num_components": number(3),
                "to_support": of("function", jax.nn.sigmoid),
            },
        ),
        "with_autoregressive_prior": Row(
            priors.with_autoregressive_prior,
            {"vae": of("vae", vae), "network": of("network", vaejax.MLP((3,)))},
        ),
        "responsibilities": Row(
            priors.responsibilities,
            {"vae": model, "params": of("params", params), "z": z},
        ),
    }


def of_models() -> dict[str, Row]:
    vae, params = bernoulli()
    sentence_vae, sentence_params = sentences()
    pair = of("network", vaejax.MLP((4,)))
    decoder = of("network", vaejax.MLP((4,), (3,)))
    tokens = of("example", TOKENS, "tokens")
    layers = [networks.as_network(vaejax.MLP((), (2,))) for _ in range(2)]
    of_family = params_of(family(LABEL), X)
    networks_of = {"encoder": pair, "decoder": decoder}
    likelihood = {"likelihood": of("head", vaejax.Bernoulli)}
    vq = models.vq_vae(
        num_codes=4,
        latent_shape=(2, 1),
        encoder=vaejax.MLP((), (2, 1)),
        decoder=vaejax.MLP((), (3,)),
    )
    return {
        "bernoulli_vae": Row(
            models.bernoulli_vae,
            {"latent_size": number(2)} | networks_of | likelihood,
        ),
        "categorical_vae": Row(
            models.categorical_vae,
            {"num_variables": number(2), "num_classes": number(3)}
            | networks_of
            | likelihood,
        ),
        "vq_vae": Row(
            models.vq_vae,
            {"num_codes": number(4)} | networks_of | likelihood,
            {"latent_shape": (2, 1)},
        ),
        "fsq_vae": Row(
            models.fsq_vae,
            networks_of | likelihood,
            {"levels": (3, 3), "positions": (2,)},
        ),
        "codebook_optimizer": Row(
            models.codebook_optimizer,
            {"decay": number(0.5, "optional")},
            {"optimizer": optax.sgd(0.1)},
        ),
        "revive_codes": Row(
            models.revive_codes,
            {
                "vae": of("vae", vq),
                "params": of("params", params_of(vq, X), "shape"),
                "key": key(),
            },
            {"xs": XS},
        ),
        "gaussian_vae": Row(
            models.gaussian_vae,
            {
                "latent_size": number(2),
                "encoder": pair,
                "decoder": decoder,
                "likelihood": of("head", vaejax.Bernoulli),
                "posterior": of("head", vaejax.Normal),
            },
        ),
        "sequence_vae": Row(
            models.sequence_vae,
            {
                "latent_size": number(2),
                "length": number(3),
                "encoder": pair,
                "decoder": decoder,
                "posterior": of("head", vaejax.Normal),
            },
        ),
        "hierarchical_vae": of_levels(models.hierarchical_vae),
        "ladder_vae": of_levels(models.ladder_vae),
        "two_layer_vae": of_levels(models.two_layer_vae),
        "table_vae": Row(
            models.table_vae,
            {"latent_size": number(2), "encoder": pair, "decoder": pair},
            {"columns": COLUMNS},
        ),
        "with_units": Row(
            models.with_units,
            {"vae": of("vae", vae)},
            {"units": distributions.LevelUnits(255)},
        ),
        "with_compute_dtype": Row(
            models.with_compute_dtype, {"vae": of("vae", vae)}, {"dtype": jnp.bfloat16}
        ),
        "conditional": Row(
            models.conditional,
            {
                "function": of("function", objectives.negative_elbo),
                "family": of("function", family),
            },
        ),
        "conditional()": Row(
            models.conditional(objectives.negative_elbo, family),
            {
                "params": of("params", of_family),
                "key": key(),
                "example": of("conditioned", models.Conditioned(X, LABEL)),
            },
        ),
        "conditional_vae": Row(
            models.conditional_vae,
            {"family": of("function", family)},
            {"condition": LABEL},
        ),
        "semi_supervised_vae": Row(
            models.semi_supervised_vae,
            {
                "family": of("function", family),
                "classifier": decoder,
                "num_classes": number(3),
            },
        ),
        "multimodal_vae": Row(
            models.multimodal_vae,
            {"latent_size": number(2)},
            {
                "encoders": {"a": vaejax.MLP((4,))},
                "decoders": {"a": vaejax.MLP((), (3,))},
                "likelihoods": {"a": vaejax.Bernoulli},
            },
        ),
        "with_network_noise": Row(
            models.with_network_noise,
            {
                "function": of("function", objectives.negative_elbo),
                "family": of("function", lambda key: vae),
            },
        ),
        "with_conditional_prior": Row(
            models.with_conditional_prior,
            {"vae": of("vae", vae), "network": of("network", vaejax.MLP((), (2, 2)))},
            {"condition": LABEL},
        ),
        "with_condition": Row(
            networks.with_condition,
            {"network": pair},
            {"condition": LABEL},
        ),
        "gaussian_vae().init": Row(vae.init, {"key": key(), "x": x("shape")}),
        "gaussian_vae().encode": Row(
            lambda params, x: vae.encode(params, x),
            {"params": of("params", params), "x": x("unscored")},
        ),
        "gaussian_vae().decode": Row(
            lambda params, z: vae.decode(params, z),
            {"params": of("params", params), "z": of("latent", Z)},
        ),
        "sequence_vae().init": Row(sentence_vae.init, {"key": key(), "x": tokens}),
        "sequence_vae().encode": Row(
            lambda params, x: sentence_vae.encode(params, x),
            {"params": of("params", sentence_params), "x": tokens},
        ),
        "sequence_vae(): negative_elbo": Row(
            partial(objectives.negative_elbo, sentence_vae),
            {"params": of("params", sentence_params), "key": key(), "x": tokens},
        ),
        "planar_layers": Row(networks.planar_layers, {"size": number(2)}),
        "sylvester_layers": Row(networks.sylvester_layers, {"size": number(2)}),
        "coupling_layers": Row(
            networks.coupling_layers,
            {"size": number(2), "activation": of("function", jnp.tanh)},
        ),
        "inverse_autoregressive_layers": Row(
            networks.inverse_autoregressive_layers,
            {"size": number(2), "activation": of("function", jnp.tanh)},
        ),
        "as_network": Row(networks.as_network, {"network": pair}),
        "compose_networks": Row(
            networks.compose_networks,
            {"first": of("network", layers[0]), "second": of("network", layers[1])},
        ),
        "from_nnx": Row(networks.from_nnx, {"make_module": of("function", nnx_linear)}),
        "from_equinox": Row(
            networks.from_equinox, {"make_module": of("function", equinox_linear)}
        ),
    }


def nnx_linear(rngs):
    from flax import nnx

    return nnx.Linear(3, 4, rngs=rngs)


def equinox_linear(key):
    import equinox

    return equinox.nn.Linear(3, 4, key=key)


def of_training() -> dict[str, Row]:
    vae, params = bernoulli()
    optimizer = optax.sgd(0.1)
    loss_fn = objectives.mean_over_batch(partial(objectives.negative_elbo, vae))
    state = TrainState(params, optimizer.init(params), KEY, jnp.int32(0))
    step = training.make_train_step(loss_fn, optimizer)
    averaged = training.init_average(state)
    stopping = training.init_early_stopping(state)
    states = of("state", state)
    in_key = of("key", KEY)

    def of_state(function: Any, value: Any, **options: Any) -> Row:
        return Row(function, {"state": of("state", value)}, options)

    def loss_of_step(state, batch):
        return step(state, batch)[1].loss

    def step_with_key(key, batch):
        return loss_of_step(state._replace(key=key), batch)

    epoch = training.make_train_epoch(step, 5)

    def losses_of_epoch(state, data):
        return epoch(state, data)[1].loss

    def streamed(state, data):
        # The state is donated.
        copied = jax.tree.map(jnp.copy, state)
        return training.make_streamed_epoch(lambda s, b: (s, jnp.mean(b)), 2)(
            copied, data
        )[1]

    return {
        "init_train_state": Row(
            training.init_train_state,
            {"vae": of("vae", vae, "any_model")}
            | {"optimizer": of("optimizer", optimizer)}
            | {"key": in_key, "x": x("judged", "binary")},
        ),
        "check_data": Row(
            lambda vae, params, xs: training.check_data(vae, params, xs) or jnp.ones(1),
            {"vae": of("vae", vae), "params": of("params", params, "shape")}
            | {"xs": xs("judged", "binary")},
        ),
        "fit": Row(
            lambda loss_fn, optimizer, state, data, num_epochs: training.fit(
                loss_fn, optimizer, state, data, num_epochs, batch_size=5,
                progress=False,
            )[0].params,
            {
                "loss_fn": of("function", loss_fn),
                "optimizer": of("optimizer", optimizer),
                "state": states,
                "data": xs("judged_nan", "gray"),
                "num_epochs": number(1),
            },
        ),
        "init_skipped_steps": of_state(training.init_skipped_steps, state),
        "with_skipped_steps": Row(
            training.with_skipped_steps, {"step": of("function", step)}
        ),
        "make_train_step": Row(
            training.make_train_step, {"loss_fn": of("function", loss_fn)}
            | {"optimizer": of("optimizer", optimizer)},
        ),
        "make_train_step()": Row(loss_of_step, {"state": states, "batch": xs()}),
        "make_train_step(), its key": Row(step_with_key, {"key": key(), "batch": xs()}),
        "make_train_epoch": Row(
            training.make_train_epoch,
            {"step": of("function", step), "batch_size": number(2)},
        ),
        "make_train_epoch()": Row(
            losses_of_epoch, {"state": states, "data": xs()}
        ),
        "make_streamed_epoch": Row(
            training.make_streamed_epoch,
            {"step": of("function", step), "batch_size": number(2)},
        ),
        "make_streamed_epoch()": Row(
            streamed, {"state": states, "data": of("sizes", XS)}
        ),
        "steps_per_epoch": Row(
            training.steps_per_epoch,
            {"num_examples": number(9), "batch_size": number(2)},
        ),
        "epoch_order": Row(
            training.epoch_order, {"key": key(), "num_examples": number(9)},
            {"epoch": 0},
        ),
        "warm_up": Row(
            training.warm_up, {"value": number(1.0), "num_steps": number(8)}
        ),
        "logistic_warm_up": Row(
            training.logistic_warm_up, {"value": number(1.0), "num_steps": number(8)}
        ),
        "cyclical": Row(
            training.cyclical, {"value": number(1.0), "num_steps": number(8)}
        ),
        "init_average": of_state(training.init_average, state),
        "averaged_state": of_state(training.averaged_state, averaged),
        "with_average": Row(
            training.with_average, {"step": of("function", step), "decay": number(0.9)}
        ),
        "init_early_stopping": of_state(training.init_early_stopping, state),
        "update_early_stopping": of_state(
            training.update_early_stopping, stopping, loss=jnp.float32(1), patience=2
        ),
        "with_early_stopping": Row(
            training.with_early_stopping, {"epoch": of("function", step)}
        ),
        "has_stopped": of_state(training.has_stopped, stopping),
        "best_state": of_state(training.best_state, stopping),
    }  # fmt: skip


def of_first(kept):
    return jnp.stack([jnp.sin(kept), kept], axis=1).repeat(2, axis=0)


COLUMNS = tuple(map(distributions.Column, ("real", "binary", "count")))
EYE = np.eye(3, dtype=np.float32)[:2]
SOFT = np.float32([[0.2, 0.3, 0.5], [0.6, 0.3, 0.1]])
DENSITIES: dict[str, tuple[Any, Any, tuple[str, ...]]] = {
    "Normal": (Normal(X, X), X, ("real", "whole", "binary")),
    "Laplace": (distributions.Laplace(X, X), X, ("real", "whole")),
    "StudentT": (distributions.StudentT(X, X, 1 + X), X, ("real", "whole")),
    "Bernoulli": (vaejax.Bernoulli(X), X, ("binary", "gray")),
    "ContinuousBernoulli": (
        distributions.ContinuousBernoulli(X - 0.3), X, ("binary", "gray")
    ),
    "Poisson": (distributions.Poisson(X), 2 * X, ("counts", "whole")),
    "NegativeBinomial": (
        distributions.NegativeBinomial(X, X), 2 * X, ("counts", "whole")
    ),
    "ZeroInflatedNegativeBinomial": (
        distributions.ZeroInflatedNegativeBinomial(X, X, X),
        2 * X, ("counts", "whole"),
    ),
    "Categorical": (
        vaejax.Categorical(jnp.array([[0.1, 0.5], [0.2, 0.3], [1.0, 0.0]])),
        jnp.array([0, 1, 0]), ("classes",),
    ),
    "DiscretizedNormal": (distributions.DiscretizedNormal(X, X - 3), X, ("levels",)),
    "DiscretizedLogistic": (
        distributions.DiscretizedLogistic(X, X - 3), X, ("levels",)
    ),
    "DiscretizedLogisticMixture": (
        distributions.DiscretizedLogisticMixture(
            jnp.zeros((3, 2)), jnp.full((3, 2), 0.5), jnp.full((3, 2), -1.0)
        ),
        X, ("levels",),
    ),
    "RoundedNormal": (distributions.RoundedNormal(X, X), X, ("real", "whole")),
    "LogNormal": (distributions.LogNormal(X, X), X + 1, ("real", "whole")),
    "Ordinal": (distributions.Ordinal(jnp.zeros((3, 2))), X, ("whole",)),
    "Affine": (
        distributions.Affine(distributions.Laplace(X, X), 1.0, 2.0), X,
        ("real", "whole"),
    ),
    "Mixed": (
        distributions.mixed_head(COLUMNS).apply((), jnp.zeros(5)), X, ("real", "whole")
    ),
    "Masked": (distributions.Masked(Normal(X, X)), X, ("real", "whole")),
    "UniformSphere": (
        distributions.UniformSphere(3), np.float32([1, 0, 0]), ("real", "whole")
    ),
    "VonMisesFisher": (
        distributions.VonMisesFisher(X, np.float32(2)),
        np.float32([1, 0, 0]), ("real", "whole"),
    ),
    "Mixture": (
        distributions.Mixture(Normal(XS, XS), XS[:, 0]), X, ("real", "whole")
    ),
    "MultivariateNormal": (
        distributions.MultivariateNormal(X, jnp.eye(3)), X, ("real", "whole")
    ),
    "Flow": (
        distributions.Flow(
            Normal(X, X),
            (
                distributions.Reversal(),
                distributions.AffineCoupling(jax.tree_util.Partial(of_first)),
            ),
        ),
        X, ("real", "whole"),
    ),
    "OneHotCategorical": (
        distributions.OneHotCategorical(jnp.zeros((2, 3))), EYE, ("binary",)
    ),
    "RelaxedCategorical": (
        distributions.RelaxedCategorical(jnp.zeros((2, 3)), 0.5), SOFT, ()
    ),
    "ExpRelaxedCategorical": (
        distributions.ExpRelaxedCategorical(jnp.zeros((2, 3)), 0.5), np.log(SOFT), ()
    ),
    "CodeVectors": (
        distributions.CodeVectors(
            vaejax.Categorical(jnp.zeros((4, 25))),
            distributions.FiniteScalars((5, 5)), (4, 2),
        ),
        jnp.zeros((4, 2)), ("real", "whole"),
    ),
    "Autoregressive": (
        distributions.Autoregressive(
            jax.tree_util.Partial(lambda inputs: jnp.zeros((4, 5))), 4
        ),
        TOKENS, ("classes",),
    ),
}  # fmt: skip


def of_distributions() -> dict[str, Row]:
    q, p = of("distribution", Q), of("distribution", P)
    event = of("array", np.float32([0.3, -0.2]))
    rows = {
        "kl_divergence": Row(distributions.kl_divergence, {"q": q, "p": p}),
        "reparameterize": Row(
            distributions.reparameterize,
            {"key": key(), "mean": event, "log_variance": event},
        ),
        "soft_clip": Row(
            distributions.soft_clip,
            {"x": of("array", X, "may_be_empty"), "lower": number(-1.0)},
            {"upper": 2.0},
        ),
        "bits_per_dimension": Row(
            distributions.bits_per_dimension,
            {"nats": of("array", np.float32(3.0), "scalar")},
            {"num_dimensions": 3},
        ),
        "categorical_head": Row(
            distributions.categorical_head, {"num_classes": number(3)}
        ),
        "discretized_logistic_mixture_head": Row(
            distributions.discretized_logistic_mixture_head,
            {"num_components": number(3)},
        ),
        "full_covariance_normal_head": Row(
            distributions.full_covariance_normal_head, {"latent_size": number(2)}
        ),
        "parameter_free_head": Row(
            distributions.parameter_free_head,
            {"make_distribution": of("function", Normal), "num_parameters": number(2)},
        ),
        "make_word_dropout": Row(
            distributions.make_word_dropout,
            {"rate": number(0.5), "vocabulary_size": number(9)},
        ),
        "make_word_dropout()": Row(
            distributions.make_word_dropout(0.5, 9),
            {"key": key(), "tokens": of("sentence", TOKENS)},
        ),
        "as_head": Row(distributions.as_head, {"likelihood": of("head", Normal)}),
        "support_of": Row(
            distributions.support_of,
            {"likelihood": of("head", Normal, "distribution")},
        ),
        "with_initial_outputs": Row(
            distributions.with_initial_outputs,
            {"likelihood": of("head", Normal)},
            {"outputs": X},
        ),
        "masked_head": Row(
            distributions.masked_head, {"likelihood": of("head", Normal)}
        ),
        "with_library_size": Row(
            distributions.with_library_size,
            {"likelihood": of("head", distributions.Poisson)},
            {"log_library_size": jnp.float32(3)},
        ),
        "token_mask": Row(
            distributions.token_mask, {"tokens": of("sentence", TOKENS)}
        ),
        "mixed_head": Row(distributions.mixed_head, {}, {"columns": COLUMNS}),
        "row_features": Row(
            distributions.row_features,
            {"event": of("event", jnp.asarray(X), "real", "whole")},
            {"columns": COLUMNS},
        ),
        "code_perplexity": Row(
            distributions.code_perplexity,
            {
                "indices": of("array", np.array([0, 2, 2]), "integers"),
                "num_codes": number(4),
            },
        ),
        "as_teacher_forced": Row(distributions.as_teacher_forced, {}, {"x": TOKENS}),
    }  # fmt: skip
    for name, (distribution, x, marks) in DENSITIES.items():
        scored = {"event": of("event", jnp.asarray(x), *marks)}

        def traced(event, distribution=distribution):
            return jax.jit(lambda event: distribution.log_prob(event))(event)

        rows[f"{name}.log_prob"] = Row(distribution.log_prob, scored)
        scored = {"event": of("event", jnp.asarray(x), *marks, "traced")}
        rows[f"{name}.log_prob, traced"] = Row(traced, scored)
        rows[f"{name}.sample"] = Row(distribution.sample, {"key": key()})
        rows[f"{name}.sample_and_log_prob"] = Row(
            distribution.sample_and_log_prob, {"key": key()}
        )
    return rows


def of_metrics() -> dict[str, Row]:
    table = {
        "codes": of("array", CODES, "table", "refuses_nan", "metric"),
        "factors": of("array", FACTORS, "table", "integers", "metric"),
    }
    column = {
        "code": of("array", CODES[:, 0], "vector", "refuses_nan", "metric"),
        "factor": of("array", FACTORS[:, 0], "vector", "integers", "metric"),
    }
    one_factor = {
        "key": key(),
        "codes": table["codes"],
        "factor": column["factor"],
    }
    sets = {
        "real": of("array", CODES, "table", "refuses_nan", "metric"),
        "generated": of("array", CODES[::-1] + 0.1, "table", "refuses_nan", "metric"),
    }
    tests = {"test_codes": CODES, "test_factors": FACTORS}
    fixed = {"interventions": metrics.interventions_of_table(CODES, FACTORS)}
    few = {"batch_size": 4, "num_train": 8, "num_eval": 8}
    return {
        "balanced_threshold_accuracy": Row(metrics.balanced_threshold_accuracy, column),
        "squared_correlation": Row(metrics.squared_correlation, column),
        "beta_vae_score": Row(metrics.beta_vae_score, {"key": key()}, fixed | few),
        "factor_vae_score": Row(metrics.factor_vae_score, {"key": key()}, fixed | few),
        "dci_from_importances": Row(
            metrics.dci_from_importances,
            {"importances": of("array", np.eye(3) + 0.1, "table", "refuses_nan")},
        ),
        "dci_scores": Row(
            metrics.dci_scores,
            {"key": key()} | table,
            tests | {"importances": metrics.random_forest_importances},
        ),
        "gradient_boosted_importances": Row(
            lambda key, codes, factor: metrics.gradient_boosted_importances(
                key, codes, factor
            )[0],
            one_factor,
        ),
        "random_forest_importances": Row(
            lambda key, codes, factor: metrics.random_forest_importances(
                key, codes, factor, num_trees=2
            )[0],
            one_factor,
        ),
        "lasso_importances": Row(
            lambda codes, factor: metrics.lasso_importances(None, codes, factor)[0],
            {"codes": table["codes"], "factor": column["factor"]},
        ),
        "interventional_robustness": Row(metrics.interventional_robustness, table),
        "interventions_of_table": Row(metrics.interventions_of_table, table),
        "modularity": Row(metrics.modularity, table),
        "mutual_information_gap": Row(metrics.mutual_information_gap, table),
        "separated_attribute_predictability": Row(
            metrics.separated_attribute_predictability, table
        ),
        "density_coverage": Row(metrics.density_coverage, sets),
        "precision_recall": Row(metrics.precision_recall, sets),
        "frechet_distance": Row(metrics.frechet_distance, sets),
        "expected_coverage": Row(
            metrics.expected_coverage,
            {"num_real": number(9), "num_generated": number(9)},
        ),
    }


def of_datasets() -> dict[str, Row]:
    return {
        "binarize": Row(datasets.binarize, {"key": key(), "image": of("image", X)}),
        "check_numbers": Row(
            lambda array: datasets.check_numbers(array) or jnp.ones(()),
            {"array": of("array", XS, "refuses_nan")},
        ),
    }


@cache
def rows() -> dict[str, Row]:
    return (
        of_distributions()
        | of_priors()
        | of_models()
        | of_objectives()
        | of_estimators()
        | of_latent()
        | of_metrics()
        | of_training()
        | of_datasets()
    )
