"""A linear VAE against exact probabilistic PCA, which eigenvalues give.

p(z) = N(0, I), p(x|z) = N(W z + b, s^2 I), q(z|x) = N(A x + c, diag d) with d the same
for every x. With s^2 learned, the best ELBO equals the largest log-likelihood of
probabilistic PCA; with s^2 held fixed, exactly the latents whose eigenvalue of the
data's covariance is below s^2 collapse. The digits are gray, in [0, 1] and not
dequantized, so that log-likelihoods are of a density: averaged down by blocks of four,
and whole. The ELBO of a linear model has a closed form, which is what is reported;
training draws its noise as any VAE's does.

Papers: Lucas et al. 2019, "Don't blame the ELBO!"; Tipping & Bishop 1999 (probabilistic
PCA). Command: python -m experiments.linear_vae
"""

import dataclasses
import math
from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import vaejax
from experiments import harness
from experiments.data import image_data
from experiments.harness import averages, cli
from experiments.harness.members import in_pieces
from experiments.judges import probabilistic_pca
from vaejax import datasets, plots
from vaejax.base import Array, Head, Params
from vaejax.training import TrainState

ABOUT = harness.About(
    what=(
        "a linear VAE reaches exact probabilistic PCA, and collapses where its "
        "eigenvalues say"
    ),
    paper="Lucas et al. 2019",
    cost="8 minutes on 2 cores",
    expected="within 0.05 nats of the exact value at 7x7",
)

BLOCK = 4
DIAGNOSED = 1000  # test examples whose KL(q(z|x) || p(z|x)) is followed


@dataclasses.dataclass(frozen=True)
class Config(harness.Config):
    num_seeds: int = 3
    """Number of seeds of every model; numbers are mean and std over them."""
    epochs: int = 120
    """Passes over the training data; the learning rate decays to zero over them."""
    latent_size: int = 10
    """Dimensions of z."""
    batch_size: int = 500
    """Examples per step."""
    learning_rate: float = 1e-2
    """Initial learning rate of Adam; decays to 0 by a cosine."""


def linear_vae(num_pixels: int, latent_size: int, likelihood: Head) -> vaejax.VAE:
    """Return a VAE without hidden layers.

    The posterior's log-variance is one parameter for each latent.
    """
    own_variance = Head(
        1,
        lambda key: jnp.zeros(latent_size),
        lambda params, outputs: vaejax.Normal(outputs, params),
    )
    return vaejax.gaussian_vae(
        latent_size=latent_size,
        encoder=vaejax.MLP(()),
        decoder=vaejax.MLP((), (num_pixels,)),
        likelihood=likelihood,
        posterior=own_variance,
    )


def affine_decoder(vae: vaejax.VAE, params: Params) -> tuple[Array, vaejax.Normal]:
    """Return W, `[x, z]`, and p(x|z = 0), which depend on no x."""
    zero = jnp.zeros_like(vae.prior(params).mean)
    return jax.jacfwd(lambda z: vae.decode(params, z).mean)(zero), vae.decode(
        params, zero
    )


def expected_elbo(vae: vaejax.VAE, params: Params, x: Array) -> Array:
    """Return the ELBO of a linear model in closed form, in nats.

    E_q |x - W z - b|^2 = |x - W mean - b|^2 + sum_j d_j |W_j|^2.
    """
    posterior = vae.encode(params, x)
    likelihood = vae.decode(params, posterior.mean)
    loadings, _ = affine_decoder(vae, params)
    spread = jnp.sum(
        jnp.exp(posterior.log_variance) * jnp.sum(jnp.square(loadings), axis=0)
    )
    log_likelihood = likelihood.log_prob(x) - spread / (
        2 * jnp.exp(likelihood.log_variance)
    )
    return log_likelihood - vaejax.kl_divergence(posterior, vae.prior(params))


def model_of(vae: vaejax.VAE, params: Params) -> probabilistic_pca.Model:
    """Return p(x) of a trained VAE."""
    loadings, likelihood = affine_decoder(vae, params)
    parts = jax.tree.map(
        lambda leaf: np.asarray(leaf, np.float64),
        (loadings, likelihood.mean, likelihood.log_variance),
    )
    return probabilistic_pca.Model(parts[0], parts[1], float(np.exp(parts[2])))


def kl_to_posterior(vae: vaejax.VAE, xs: Array, state: TrainState) -> dict[str, Array]:
    """Return the mean KL(q(z|x) || p(z|x)) over examples, in nats.

    It is log p(x) - ELBO, both in closed form.
    """
    loadings, likelihood = affine_decoder(vae, state.params)
    variance = jnp.exp(likelihood.log_variance)
    # By the matrix inversion and determinant lemmas, in the dimensions of z.
    precision = jnp.eye(loadings.shape[1]) + loadings.T @ loadings / variance
    log_determinant = jnp.linalg.slogdet(precision)[1]

    def log_marginal(x: Array) -> Array:
        projected = loadings.T @ (x - likelihood.mean) / variance
        explained = projected @ jnp.linalg.solve(precision, projected)
        return likelihood.log_prob(x) + explained / 2 - log_determinant / 2

    kls = jax.vmap(lambda x: log_marginal(x) - expected_elbo(vae, state.params, x))(xs)
    return {"kl_to_posterior": jnp.mean(kls)}


def averaged(images: np.ndarray) -> np.ndarray:
    """Average blocks of 4 x 4 pixels.

    Raises:
      UsageError: the sides are no multiples of 4.
    """
    num, height, width = images.shape[:3]
    if images.ndim != 3 or height % BLOCK or width % BLOCK:
        raise harness.UsageError(
            f"--data has images of {images.shape[1:]}; give gray ones whose sides "
            f"divide by {BLOCK}."
        )
    return images.reshape(num, height // BLOCK, BLOCK, width // BLOCK, BLOCK).mean(
        axis=(2, 4)
    )


class Arm(NamedTuple):
    """The data of one model.

    Attributes:
      train: training images, `[examples, pixels]` in [0, 1].
      test: test images.
      variance: s^2 where it is held fixed.
    """

    train: np.ndarray
    test: np.ndarray
    variance: float | None = None


def make_experiment(config: Config) -> harness.Comparison:
    train, test = harness.load_images(config)
    train, _ = harness.hold_out(train, config.num_validation)
    whole = [np.asarray(image_data.intensities(part.images)) for part in (train, test)]
    small = [averaged(images) for images in whole]
    height, width = whole[0].shape[1:]
    small, whole = (
        [images.reshape(len(images), -1) for images in images_of]
        for images_of in (small, whole)
    )
    if config.latent_size + 2 > small[0].shape[1]:
        raise harness.UsageError(
            f"--latent-size is {config.latent_size}; give less than "
            f"{small[0].shape[1] - 1}."
        )
    sizes = f"{height // BLOCK}x{width // BLOCK}", f"{height}x{width}"
    arms = {sizes[0]: Arm(*small), sizes[1]: Arm(*whole)}
    arms |= {
        f"{sizes[0]}, variance {v:.4f}": Arm(*small, v)
        for v in fixed_variances(small[0], config.latent_size)
    }
    num_steps = config.epochs * harness.steps_per_epoch(train.images, config.batch_size)
    optimizer = optax.adam(optax.cosine_decay_schedule(config.learning_rate, num_steps))

    def experiment(arm: Arm) -> harness.Experiment:
        if arm.variance is None:
            start = math.log(float(np.var(arm.train, axis=0).mean()))
            likelihood = vaejax.distributions.shared_variance_normal_head(
                log_variance=start,
                min_log_variance=-math.inf,
                max_log_variance=math.inf,
            )
        else:
            likelihood = vaejax.distributions.fixed_variance_normal_head(
                variance=arm.variance
            )
        vae = linear_vae(arm.train.shape[1], config.latent_size, likelihood)
        loss_fn = vaejax.mean_over_batch(partial(vaejax.negative_elbo, vae))
        return harness.Experiment(
            vae=vae,
            recipe=lambda hyperparameters: harness.Recipe(loss_fn, optimizer),
            hyperparameters={},
            batch_size=config.batch_size,
            train=arm.train,
            test=jnp.asarray(arm.test),
            data_checksum=datasets.checksum(train, test),
            binarization="none",
            diagnostics=partial(
                kl_to_posterior, vae, jnp.asarray(arm.test[:DIAGNOSED])
            ),
        )

    experiments = {name: experiment(arm) for name, arm in arms.items()}
    return harness.Comparison(experiments, context=arms)


def fixed_variances(xs: np.ndarray, latent_size: int) -> list[float]:
    """Return variances between the eigenvalues 2 and 3, 4 and 5, and so on.

    At the first, two latents are worth their KL.
    """
    eigenvalues = probabilistic_pca.spectrum(xs).eigenvalues
    return [
        float(np.sqrt(eigenvalues[kept - 1] * eigenvalues[kept]))
        for kept in range(2, latent_size, 2)
    ]


def analyze(trained: harness.Trained) -> harness.Result:
    """Compare every model with exact probabilistic PCA."""
    arms: dict[str, Arm] = trained.context
    summaries = {}
    for name, arm in arms.items():
        summaries[name] = compare(trained, name, arm)
        trained.check_interrupts()
    small, whole, *fixed = summaries
    return harness.Result(
        summary={
            "binarization": "none",
            "units": "nats per example, of a density over intensities in [0, 1]",
        }
        | {"models": summaries},
        headline=(
            f"ELBO {averages.text(summaries[small]['gap'], 3)} nats below exact "
            f"probabilistic PCA at {small}"
        ),
        about=f"{len(arms[small].train):,} training examples; "
        f"{trained.members.describe()}; mean log-likelihoods in nats per "
        "example, of a density over intensities in [0, 1], not dequantized; exact: the "
        "largest log-likelihood of "
        "probabilistic PCA (with the same s^2 where that is fixed); a latent is used "
        "if its posterior mean has a "
        "variance above 0.01 over the training data",
        header=(
            "model",
            "exact",
            "ELBO",
            "gap",
            "log p(x)",
            "exact, test",
            "ELBO, test",
            "used",
            "predicted",
        ),
        rows=[(name, *_cells(numbers)) for name, numbers in summaries.items()],
        figures=partial(
            figures, summaries, trained.history, (small, whole), fixed, arms
        ),
        captions={
            "kl_to_posterior": f"KL(q(z|x) || p(z|x)) of {DIAGNOSED:,} test examples "
            "after every epoch, in closed "
            "form: maximizing the ELBO fits the model and, at the same time, brings q "
            "to the posterior.",
            "gap": "Exact log-likelihood less ELBO on the training data, the latter "
            "from the epoch's batches, with "
            "their noise.",
            "used_latents": "Latents in use against the fixed variance s^2: found, "
            "and the number of eigenvalues above "
            "it.",
            "kl_of_latents": (
                "KL of each latent, averaged over the training data, against "
                "log(lambda / s^2) / 2."
            ),
        },
    )


def compare(trained: harness.Trained, name: str, arm: Arm) -> dict[str, Any]:
    """Return one model's numbers over seeds, beside those of probabilistic PCA."""
    config, members = trained.config, trained.members
    vae, states = trained.experiments[name].vae, trained.states[name]
    train, test = (
        probabilistic_pca.spectrum(arm.train),
        probabilistic_pca.spectrum(arm.test),
    )
    best = probabilistic_pca.best_model(train, config.latent_size, arm.variance)
    exact = probabilistic_pca.mean_log_likelihood(best, train)
    predicted = np.maximum(
        0.5 * np.log(train.eigenvalues[: config.latent_size] / best.variance), 0
    )

    def measure(state: TrainState, train: Array, test: Array) -> dict[str, Array]:
        def elbos(xs: Array) -> Array:
            return jax.lax.map(
                partial(expected_elbo, vae, state.params), xs, batch_size=1000
            )

        def kl_terms(x: Array) -> Array:
            posterior, prior = vae.encode(state.params, x), vae.prior(state.params)
            return vaejax.kl_per_dimension(
                posterior, prior, posterior.mean, jnp.zeros(())
            )

        means = vaejax.embed(vae, state.params, train)
        kls = jnp.mean(jax.lax.map(kl_terms, train, batch_size=1000), axis=0)
        # A mean of many numbers about a hundred: summed after their center is taken
        # out.
        center = elbos(train[:1])[0]
        return {
            "elbo": center + jnp.mean(elbos(train) - center),
            "test_elbo": center + jnp.mean(elbos(test) - center),
            "used": vaejax.active_units(means).astype(jnp.float32),
            "kl_terms": jnp.sort(kls)[::-1],
        }

    compiled = in_pieces(jax.jit(members.lift(measure)), members.num, members.num)
    found = jax.tree.map(
        np.asarray,
        members.stack(compiled(states, jnp.asarray(arm.train), jnp.asarray(arm.test))),
    )
    models = [
        model_of(vae, members.member(states, i).params) for i in range(members.num)
    ]
    over = averages.over_seeds
    return {
        "exact": exact,
        "elbo": over(found["elbo"]),
        "gap": over(exact - found["elbo"].astype(np.float64)),
        "log_marginal": over(
            np.array(
                [
                    probabilistic_pca.mean_log_likelihood(model, train)
                    for model in models
                ]
            )
        ),
        "exact_test": probabilistic_pca.mean_log_likelihood(best, test),
        "test_elbo": over(found["test_elbo"]),
        "used": over(found["used"]),
        "predicted_used": int(np.sum(predicted > 0)),
        "variance": over(np.array([model.variance for model in models]))
        | {"exact": best.variance},
        "kl_terms": averages.plain(found["kl_terms"]),
        "predicted_kl_terms": averages.plain(predicted),
    }


def _cells(numbers: dict[str, Any]) -> list[str]:
    return [
        f"{numbers['exact']:.3f}",
        averages.text(numbers["elbo"], 3),
        averages.text(numbers["gap"], 4),
        averages.text(numbers["log_marginal"], 3),
        f"{numbers['exact_test']:.3f}",
        averages.text(numbers["test_elbo"], 3),
        averages.text(numbers["used"], 1),
        str(numbers["predicted_used"]),
    ]


def figures(
    summaries: dict[str, dict[str, Any]],
    history: Mapping[str, list[dict]],
    learned: tuple[str, str],
    fixed: list[str],
    arms: dict[str, Arm],
) -> Mapping[str, Any]:
    """Draw KL and gap over training, and the latents in use against fixed variances."""
    epochs = [row["epoch"] for row in history[learned[0]]]
    gaps = {
        name: np.asarray([row["train"]["loss"] for row in history[name]], float)
        + summaries[name]["exact"]
        for name in learned
    }
    variances = [arms[name].variance for name in fixed][::-1]
    used = {
        "found": [summaries[name]["used"]["values"] for name in fixed][::-1],
        "predicted": [summaries[name]["predicted_used"] for name in fixed][::-1],
    }
    smallest = summaries[fixed[-1]]
    latents = np.arange(1, len(smallest["predicted_kl_terms"]) + 1)
    kls = {
        "found": np.asarray(smallest["kl_terms"], float).T,
        "predicted": smallest["predicted_kl_terms"],
    }
    to_posterior = {
        name: np.asarray(
            [row["diagnostics"]["kl_to_posterior"] for row in history[name]], float
        )
        for name in learned
    }
    return {
        "kl_to_posterior": plots.curves(
            epochs,
            to_posterior,
            xlabel="epoch",
            ylabel="KL(q(z|x) || p(z|x)) (nats per example)",
            log_y=True,
        ),
        "gap": plots.curves(
            epochs,
            gaps,
            xlabel="epoch",
            ylabel="exact less ELBO (nats per example)",
            log_y=True,
        ),
        "used_latents": plots.curves(
            variances,
            used,
            xlabel="fixed variance s^2",
            ylabel="latents in use",
            log_x=True,
        ),
        "kl_of_latents": plots.curves(
            latents, kls, xlabel="latent", ylabel="KL (nats per example)"
        ),
    }


if __name__ == "__main__":
    cli.train(Config, make_experiment, analyze)
