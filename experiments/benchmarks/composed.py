"""Section `models`: priors, posteriors, levels and bounds beside plainer models.

A row's time and its floating-point operations are relative to those of its reference,
another row of the same round. All rows but references state what they may take: a time,
where the reference has the same matrix products or the operations say how many more
there are; or the operations themselves, where the parts that are needed can be counted.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

import vaejax
from experiments.benchmarks import peers
from experiments.benchmarks.bench import Bench
from experiments.benchmarks.other_libraries.plain_hierarchies import (
    climbing_loss,
    ladder_loss,
    normal_noise,
)
from experiments.benchmarks.repeated import (
    Prepared,
    binary_batch,
    prepare,
    record_of,
    seconds_a_call,
)
from experiments.benchmarks.report import interval, table
from vaejax import (
    VAE,
    Head,
    kl_monte_carlo,
    mean_over_batch,
    models,
    negative_elbo,
    negative_iwae,
    networks,
    posteriors,
    priors,
)
from vaejax.base import Array, Key, Objective, Params
from vaejax.objectives import kl_per_level

NUM_SAMPLES = 16
# Beside their products programs differ in a few operations per latent and sample.
OPERATIONS_SLACK = 1.02


class Sizes(NamedTuple):
    """Sizes of the models.

    Attributes:
      hidden: width of the hidden layer of encoder and decoder.
      latent: dimensions of z.
      num_components: pseudo-inputs of the VampPrior.
      flow_hidden: width of the hidden layer of each network of a flow.
      latent_levels: dimensions of the levels, as in experiments.hierarchies.
      hidden_levels: width of the hidden layer of each level, on either side.
    """

    hidden: int
    latent: int
    num_components: int = 500
    flow_hidden: int = 64
    latent_levels: tuple[int, ...] = (32, 16, 8)
    hidden_levels: tuple[int, ...] = (200, 100, 50)


class Limit(NamedTuple):
    """The most that a row may take, relative to its reference.

    Attributes:
      of: "time", which is the median of its ratios, or "operations".
      most: the ratio.
      why: how it comes about.
    """

    of: str
    most: float
    why: str


class Row(NamedTuple):
    """A program of the section.

    Attributes:
      prepared: the compiled program.
      reference: the name of the row that it is relative to.
      limit: None for a reference.
    """

    prepared: Prepared
    reference: str
    limit: Limit | None = None


def rows_of(sizes: Sizes, batch: Array) -> dict[str, Row]:
    """Compile all rows for a batch `[batch, pixels]`, each after its reference."""
    return (
        prior_rows(sizes, batch)
        | posterior_rows(sizes, batch)
        | level_rows(sizes, batch)
        | importance_rows(sizes, batch)
    )


def prior_rows(sizes: Sizes, batch: Array) -> dict[str, Row]:
    """Return training steps with N(0, I) and with the VampPrior."""
    vae = flat_vae(sizes, batch)
    reference = "step, prior N(0, I)"
    plain = training_step(vae, batch)
    vamp = training_step(priors.with_vamp_prior(vae, sizes.num_components), batch)
    most = 1.1 * vamp.operations / plain.operations
    limit = Limit("time", most, "1.1 times the operations")
    return {
        reference: Row(plain, reference),
        f"step, VampPrior of {sizes.num_components}": Row(vamp, reference, limit),
    }


def posterior_rows(sizes: Sizes, batch: Array) -> dict[str, Row]:
    """Return steps with flow posteriors, each after a diagonal one of its networks."""
    options = {"hidden_sizes": (sizes.flow_hidden,), "num_context": 1}
    flows = {
        "IAF": (
            networks.inverse_autoregressive_layers(sizes.latent, **options),
            moved_normal_head(Autoregressive(sizes.flow_hidden), sizes.latent),
        ),
        "RealNVP": (
            networks.coupling_layers(sizes.latent, **options),
            moved_normal_head(
                Coupling(sizes.flow_hidden), sizes.latent, by_halves=True
            ),
        ),
    }
    limit, rows = Limit("time", 1.3, "the same products"), {}
    for name, (layers, diagonal) in flows.items():
        reference = f"step, diagonal posterior with the networks of {name}"
        plain = training_step(flat_vae(sizes, batch, diagonal), batch)
        flow = training_step(
            flat_vae(sizes, batch, posteriors.flow_head(layers)), batch
        )
        rows[reference] = Row(plain, reference)
        rows[f"step, {name} posterior"] = Row(flow, reference, limit)
    return rows


def level_rows(sizes: Sizes, batch: Array) -> dict[str, Row]:
    """Return gradients of hierarchies, each after that of the same model by hand."""
    limit = Limit("time", 1.15, "the same model")
    rows = {}
    for build, num_levels, loss, kl_fn in (
        (models.two_layer_vae, 2, climbing_loss, kl_monte_carlo),
        (models.ladder_vae, len(sizes.latent_levels), ladder_loss, kl_per_level),
    ):
        name = f"gradient, {build.__name__}"
        vae = of_levels(build, sizes, batch, num_levels)
        params = init_params(vae, batch)
        latents = sizes.latent_levels[:num_levels]
        by_hand = gradient_by_hand(loss, latents, params, batch)
        ours = gradient(partial(negative_elbo, vae, kl_fn=kl_fn), params, batch)
        rows[f"{name} by hand"] = Row(by_hand, f"{name} by hand")
        rows[name] = Row(ours, f"{name} by hand", limit)
    return rows


def importance_rows(sizes: Sizes, batch: Array) -> dict[str, Row]:
    """Return gradients of the ELBO and of the IWAE of 16 samples.

    A sample takes what the ELBO takes less the encoding of x, which is needed once.
    """
    rows = {}
    for name, vae, of_x in (
        ("one level", flat_vae(sizes, batch), lambda posterior: posterior),
        (
            "two levels",
            of_levels(models.two_layer_vae, sizes, batch, 2),
            lambda posterior: posterior.bottom,
        ),
    ):
        params = init_params(vae, batch)
        elbo = gradient(
            partial(negative_elbo, vae, kl_fn=kl_monte_carlo), params, batch
        )
        encoding = gradient(partial(encoded, vae, of_x), params, batch)
        iwae = gradient(
            partial(negative_iwae, vae, num_samples=NUM_SAMPLES), params, batch
        )
        share = encoding.operations / elbo.operations
        limit = Limit(
            "operations",
            OPERATIONS_SLACK * (share + NUM_SAMPLES * (1 - share)),
            f"x encoded once, which is {share:.2f} of the ELBO",
        )
        reference = f"gradient, ELBO, {name}"
        rows[reference] = Row(elbo, reference)
        rows[f"gradient, IWAE of {NUM_SAMPLES}, {name}"] = Row(iwae, reference, limit)
    return rows


def encoded(
    vae: VAE, of_x: Callable[[Any], Any], params: Params, key: Key, x: Array
) -> tuple[Array, tuple]:
    """Sum what the encoder says of x: a loss that has no other part."""
    del key
    posterior = of_x(vae.encode(params, x))
    return jnp.sum(posterior.mean) + jnp.sum(posterior.log_variance), ()


def flat_vae(sizes: Sizes, batch: Array, posterior: Head | None = None) -> VAE:
    """Return the model of the main job, with any posterior."""
    return vaejax.gaussian_vae(
        latent_size=sizes.latent,
        encoder=vaejax.MLP((sizes.hidden,)),
        decoder=vaejax.MLP((sizes.hidden,), batch.shape[1:]),
        posterior=posterior,
    )


def of_levels(
    build: Callable[..., VAE], sizes: Sizes, batch: Array, num_levels: int
) -> VAE:
    """Return a model of the lowest levels."""
    widths = [(width,) for width in sizes.hidden_levels[:num_levels]]
    return build(
        latent_sizes=sizes.latent_levels[:num_levels],
        encoders=[vaejax.MLP(width) for width in widths],
        decoders=[
            vaejax.MLP(widths[0], batch.shape[1:]),
            *(vaejax.MLP(width) for width in widths[1:]),
        ],
    )


def init_params(vae: VAE, batch: Array) -> Params:
    """Return the first parameters of a model."""
    return jax.jit(vae.init)(jax.random.key(0), batch[0])


def training_step(vae: VAE, batch: Array) -> Prepared:
    """Compile a training step, with the KL of the sample of z."""
    loss_fn = mean_over_batch(partial(negative_elbo, vae, kl_fn=kl_monte_carlo))
    optimizer = optax.adam(1e-3)
    init = jax.jit(partial(vaejax.init_train_state, vae, optimizer))
    state = init(jax.random.key(0), batch[0])
    step = vaejax.make_train_step(loss_fn, optimizer)
    return prepare(step, state, batch, is_step=True)


def gradient(objective: Objective, params: Params, batch: Array) -> Prepared:
    """Compile value and gradient of the mean of an objective over a batch."""
    function = jax.value_and_grad(mean_over_batch(objective), has_aux=True)
    return prepare(function, params, jax.random.key(1), batch)


def gradient_by_hand(
    loss: Callable[..., Array], latents: Sequence[int], params: Params, batch: Array
) -> Prepared:
    """Compile value and gradient of a loss of a whole batch, which draws its noise."""

    def function(params: Params, key: Key, batch: Array) -> tuple[Array, Params]:
        noise = normal_noise(key, len(batch), latents)
        return jax.value_and_grad(loss)(params, noise, batch)

    return prepare(function, params, jax.random.key(1), batch)


class Autoregressive(nn.Module):
    """The network of an inverse autoregressive layer, without its masks."""

    hidden_size: int

    @nn.compact
    def __call__(self, z: Array, context: Array) -> Array:
        of_context = nn.Dense(self.hidden_size, use_bias=False)(context)
        hidden = nn.elu(nn.Dense(self.hidden_size)(z) + of_context)
        return vaejax.MLP((), (len(z), 2))(hidden)


class Coupling(nn.Module):
    """The network of a coupling layer."""

    hidden_size: int

    @nn.compact
    def __call__(self, z: Array, context: Array) -> Array:
        network = vaejax.MLP((self.hidden_size,), (len(z), 2), activation=nn.elu)
        return network(jnp.concatenate([z, context]))


def moved_normal_head(
    network: nn.Module, size: int, *, by_halves: bool = False, num_layers: int = 4
) -> Head:
    """Build the head of a diagonal Normal whose mean passes the networks of a flow.

    Each network adds the sums of its pairs of outputs to the mean; by halves, it sees
    one half of the mean and moves the other. As in the flow, the third output of the
    encoder for each dimension is a context that all networks see.

    Args:
      network: `(z, context) -> [len(z), 2]`.
      size: the number of dimensions; by halves, an even one.
      by_halves: whether the networks are those of coupling layers.
      num_layers: the number of networks.
    """
    base = vaejax.distributions.normal_head()
    seen_size = size // 2 if by_halves else size

    def init(key: Key) -> tuple[Params, ...]:
        keys = jax.random.split(key, num_layers)
        inputs = jnp.zeros(seen_size), jnp.zeros(size)
        return tuple(network.init(key, *inputs) for key in keys)

    def apply(params: tuple[Params, ...], outputs: Array) -> Any:
        mean, context = outputs[:, 0], outputs[:, 2]
        for own in params:
            seen, moved = mean[:seen_size], mean[-seen_size:]
            moved = moved + jnp.sum(network.apply(own, seen, context), axis=1)
            mean = jnp.concatenate([moved, seen]) if by_halves else moved
        return base.apply((), jnp.stack([mean, outputs[:, 1]], axis=1))

    return Head(3, init, apply)


def models_section(bench: Bench) -> dict[str, Any]:
    """Measure time and operations of every row, relative to its reference."""
    _, hidden, latent = peers.sizes(bench.model, bench.experiment)
    batch, sizes = binary_batch(bench), Sizes(hidden, latent)
    rows = rows_of(sizes, batch)
    prepared = {name: row.prepared for name, row in rows.items()}
    seconds = seconds_a_call(prepared, bench.config.rounds)
    results = {}
    for name, row in rows.items():
        reference = row.reference
        record = record_of(
            row.prepared, seconds[name], prepared[reference], seconds[reference]
        )
        results[name] = {"reference": reference} | with_limit(record, row.limit)
    print_models(results, len(batch))
    return {"batch_size": len(batch), "sizes": sizes._asdict(), "rows": results}


def with_limit(record: dict[str, Any], limit: Limit | None) -> dict[str, Any]:
    """Return a record with its limit and whether it is kept, where there is one."""
    if limit is None:
        return record
    ratio = {
        "time": record["ratio"]["median"],
        "operations": record["operations_ratio"],
    }
    return record | {
        "limit": limit._asdict(),
        "is_within_limit": ratio[limit.of] <= limit.most,
    }


def print_models(rows: Mapping[str, Mapping[str, Any]], batch_size: int) -> None:
    """Print the rows of the section."""
    print(
        f"\nModels: training steps and gradients of {batch_size} examples; ratios to "
        "the row above that has none"
    )
    lines = []
    for name, row in rows.items():
        line = [name, f"{1e3 * row['seconds_median']:.2f}"]
        if name == row["reference"]:
            lines.append([*line, "", "", "", "", ""])
            continue
        ratios = [interval(row["ratios"]), f"{row['operations_ratio']:.2f}"]
        limit = row["limit"]
        asked = [
            f"{limit['of']} {limit['most']:.2f}",
            "kept" if row["is_within_limit"] else "exceeded",
            limit["why"],
        ]
        lines.append([*line, *ratios, *asked])
    header = ["", "ms", "time, by round", "operations", "at most", "", "because of"]
    print(table(header, lines))
