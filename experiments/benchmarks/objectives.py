"""Section `objectives`: every objective and estimator beside the ELBO.

A row's time and its floating-point operations are relative to those of the gradient of
the negative ELBO of the same batch. Where the first ratio is far above the second, time
goes elsewhere than into the products of the model: exponentials and logarithms, which
the operations leave out, or memory.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

import vaejax
from experiments.benchmarks import peers, repeated
from experiments.benchmarks.bench import Bench
from experiments.benchmarks.repeated import (
    Prepared,
    binary_batch,
    record_of,
    seconds_a_call,
)
from experiments.benchmarks.report import interval, table
from vaejax import (
    VAE,
    estimators,
    kl_divergence,
    mean_over_batch,
    models,
    objectives,
)
from vaejax.base import Array, HeadLike, Key, LossFn, Params, PyTree

REFERENCE = "negative_elbo"
# Samples per example of the importance-weighted rows, as in the papers' experiments.
NUM_SAMPLES = 5
# The smallest sizes at which loops, not their start, take the time.
MARGINAL_SAMPLES, NUM_CHAINS, NUM_TEMPERATURES, NUM_STEPS = 100, 4, 10, 20


class Row(NamedTuple):
    """A program of the section.

    Attributes:
      function: `(params, key, batch) -> results`.
      vae: the model that its parameters belong to.
      while_iterations: length of its loop, where that is not fixed when compiled.
    """

    function: Callable[[Params, Key, Array], PyTree]
    vae: VAE
    while_iterations: int = 1


def gradient_rows(
    vae: VAE, make_vae: Callable[..., VAE], dataset_size: int
) -> dict[str, Row]:
    """Return value and gradient of every objective, as training evaluates them.

    Those of binary latents are of the same model with Bernoulli latents.
    """

    def row(loss_fn: LossFn, vae: VAE = vae) -> Row:
        return Row(jax.value_and_grad(loss_fn, has_aux=True), vae)

    def of_example(objective: Callable, **options: Any) -> Row:
        return row(mean_over_batch(partial(objective, vae, **options)))

    def of_means(combine: Callable, **options: Any) -> Row:
        terms = partial(vaejax.elbo_terms, vae, kl_fn=objectives.kl_per_dimension)
        return row(objectives.loss_of_means(terms, partial(combine, **options)))

    own_variance = make_vae(
        vaejax.distributions.shared_variance_normal_head(
            min_log_variance=-math.inf, max_log_variance=math.inf
        )
    )
    discriminator = vaejax.MLP((1000, 1000), (1,))
    factor = objectives.with_discriminator(vae, discriminator)
    groups = {"num_groups": NUM_SAMPLES, "num_samples": 1}
    binary = make_vae(vaejax.Bernoulli, builder=models.bernoulli_vae)

    def of_binary(objective: Callable) -> Row:
        loss_fn = mean_over_batch(partial(objective, binary, num_samples=4))
        return row(loss_fn, binary)

    return {
        REFERENCE: of_example(objectives.negative_elbo),
        "negative_iwae": of_example(objectives.negative_iwae, num_samples=NUM_SAMPLES),
        "negative_dreg": of_example(objectives.negative_dreg, num_samples=NUM_SAMPLES),
        "negative_miwae": of_example(objectives.negative_miwae, **groups),
        "negative_piwae": of_example(objectives.negative_piwae, **groups),
        "negative_renyi": of_example(
            objectives.negative_renyi, num_samples=NUM_SAMPLES, alpha=0.5
        ),
        "free_bits_loss": of_means(objectives.free_bits_loss, minimum=0.5),
        "capacity_loss": of_means(objectives.capacity_loss, target=25.0, gamma=100.0),
        "optimal_variance_loss": row(
            objectives.optimal_variance_loss(own_variance), own_variance
        ),
        "beta_tcvae_loss": row(
            objectives.beta_tcvae_loss(vae, dataset_size=dataset_size)
        ),
        "dip_vae_loss": row(objectives.dip_vae_loss(vae)),
        "info_vae_loss": row(objectives.info_vae_loss(vae)),
        "factor_vae_loss": row(
            objectives.factor_vae_loss(factor, discriminator), factor
        ),
        "negative_reinforce": of_binary(objectives.negative_reinforce),
        "negative_disarm": of_binary(objectives.negative_disarm),
        "negative_vimco": of_binary(objectives.negative_vimco),
    }


def estimator_rows(vae: VAE, latent_size: int) -> dict[str, Row]:
    """Return every estimator, of each example of the batch."""
    path = estimators.AnnealingPath(NUM_TEMPERATURES, num_leapfrog=5)
    adapt = {"path": path, "num_chains": NUM_CHAINS, "num_transitions": 1}
    # Without step sizes of their own, annealing would find them first.
    steps = path._replace(step_sizes=jnp.full(NUM_TEMPERATURES, 0.1))
    anneal = {"path": steps, "num_chains": NUM_CHAINS}

    def of_example(
        estimator: Callable, *, while_iterations: int = 1, **options: Any
    ) -> Row:
        def function(params: Params, key: Key, batch: Array) -> PyTree:
            def one(key: Key, x: Array) -> PyTree:
                return estimator(vae, params, key, x, **options)

            return jax.vmap(one)(jax.random.split(key, len(batch)), batch)

        return Row(function, vae, while_iterations)

    def of_weights(statistic: Callable) -> Row:
        def function(params: Params, key: Key, batch: Array) -> PyTree:
            return jax.vmap(statistic)(
                jax.random.normal(key, (len(batch), MARGINAL_SAMPLES))
            )

        return Row(function, vae)

    def reverse(vae: VAE, params: Params, key: Key, x: Array) -> PyTree:
        z = jnp.zeros(latent_size)
        return estimators.reverse_annealed_importance_sampling(
            vae, params, key, x, z, **anneal
        )

    def simulate(vae: VAE, params: Params, key: Key, x: Array) -> PyTree:
        del x
        return estimators.bidirectional_monte_carlo(vae, params, key, **anneal)

    def gap(vae: VAE, params: Params, key: Key, x: Array) -> PyTree:
        return estimators.inference_gap(
            vae,
            params,
            key,
            x,
            jnp.zeros(()),
            num_steps=NUM_STEPS,
            num_samples=MARGINAL_SAMPLES,
        )

    def decompose(params: Params, key: Key, batch: Array) -> PyTree:
        return estimators.aggregate_decomposition(
            vae, params, key, batch, num_samples=MARGINAL_SAMPLES
        )

    def units(params: Params, key: Key, batch: Array) -> PyTree:
        del key
        means = jax.vmap(lambda x: vae.encode(params, x).mean)(batch)
        return estimators.active_units(means)

    def units_by_kl(params: Params, key: Key, batch: Array) -> PyTree:
        del key
        prior = vae.prior(params)
        each = jax.vmap(lambda x: jax.vmap(kl_divergence)(vae.encode(params, x), prior))
        return estimators.units_by_kl(jnp.mean(each(batch), axis=0))

    return {
        "log_marginal": of_example(
            estimators.log_marginal, num_samples=MARGINAL_SAMPLES, chunk_size=10
        ),
        "pareto_k": of_weights(estimators.pareto_k),
        "jackknife": of_weights(estimators.jackknife),
        "jackknife, order 2": of_weights(partial(estimators.jackknife, order=2)),
        "annealed_importance_sampling": of_example(
            estimators.annealed_importance_sampling,
            while_iterations=NUM_TEMPERATURES,
            **anneal,
        ),
        "reverse_annealed_importance_sampling": of_example(
            reverse, while_iterations=NUM_TEMPERATURES
        ),
        "bidirectional_monte_carlo": of_example(
            simulate, while_iterations=NUM_TEMPERATURES
        ),
        "adapt_step_sizes": of_example(estimators.adapt_step_sizes, **adapt),
        "optimal_posterior": of_example(
            estimators.optimal_posterior, num_steps=NUM_STEPS, num_samples=4
        ),
        "inference_gap": of_example(gap),
        "aggregate_decomposition": Row(decompose, vae),
        "active_units": Row(units, vae),
        "units_by_kl": Row(units_by_kl, vae),
    }


def prepare(row: Row, batch: Array) -> Prepared:
    """Compile a row for a batch, with parameters of its model."""
    init_key, key = jax.random.split(jax.random.key(0))
    params = row.vae.init(init_key, batch[0])
    return repeated.prepare(
        row.function, params, key, batch, while_iterations=row.while_iterations
    )


def rows_of(bench: Bench) -> dict[str, Row]:
    """Return the rows for the model of the main job."""
    pixels, *hidden, latent_size = peers.sizes(bench.model, bench.experiment)

    def make_vae(
        likelihood: HeadLike, *, builder: Callable[..., VAE] = vaejax.gaussian_vae
    ) -> VAE:
        return builder(
            latent_size=latent_size,
            encoder=vaejax.MLP(tuple(hidden)),
            decoder=vaejax.MLP(tuple(reversed(hidden)), (pixels,)),
            likelihood=likelihood,
        )

    vae = make_vae(vaejax.Bernoulli)
    dataset_size = len(bench.experiment.train)
    return gradient_rows(vae, make_vae, dataset_size) | estimator_rows(vae, latent_size)


def objectives_section(bench: Bench) -> dict[str, Any]:
    """Measure time, operations and temporary memory of every objective and estimator.

    All are relative to the gradient of the negative ELBO of the same batch.
    """
    batch = binary_batch(bench)
    prepared = {name: prepare(row, batch) for name, row in rows_of(bench).items()}
    seconds = seconds_a_call(prepared, bench.config.rounds)
    reference = prepared[REFERENCE]
    rows = {}
    for name, row in prepared.items():
        rows[name] = record_of(row, seconds[name], reference, seconds[REFERENCE])
    print_objectives(rows, len(batch))
    return {"batch_size": len(batch), "rows": rows}


def print_objectives(rows: dict[str, dict[str, Any]], batch_size: int) -> None:
    """Print the rows of the section."""

    def size(row: dict[str, Any]) -> str:
        number = row["temporary_bytes"]
        return "" if number is None else f"{number / 2**20:.1f}"

    lines = [
        [
            name,
            f"{1e3 * row['seconds_median']:.2f}",
            interval(row["ratios"]),
            f"{row['operations_ratio']:.2f}",
            f"{row['ratio']['median'] / row['operations_ratio']:.2f}",
            size(row),
        ]
        for name, row in rows.items()
    ]
    print(
        f"\nObjectives (value and gradient) and estimators of {batch_size} examples, "
        "relative to the ELBO"
    )
    header = ["", "ms", "time, by round", "operations", "time/operations", "MiB"]
    print(table(header, lines))
