"""The semi-supervised VAE (M2) beside a classifier and a probe, from few labels.

All methods see the same labels of the same images. M2 sees all other images without
labels too; so does the VAE, whose posterior means are probed by logistic regression.
The classifier is a network with one hidden layer, of the labeled images alone. The
class is summed over exactly, so that a step of M2 costs ten of the VAE's decoders.

Paper: Kingma et al. 2014 (semi-supervised learning).
Command: python -m experiments.semi_supervised --num-seeds 3
"""

import dataclasses
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import vaejax
from experiments import harness
from experiments.harness import averages, binary_images, cli, keys
from experiments.judges import probes
from vaejax import datasets, models, networks, objectives, plots
from vaejax.base import Array, Key, LossFn, Params, PyTree

ABOUT = harness.About(
    what="classes from few labels: M2, a classifier, a probe of codes",
    paper="Kingma et al. 2014",
    cost="45 minutes on 2 cores, 3 seeds",
    expected="accuracy 0.83 of M2 (0.31 with the paper's weight), 0.76 of a classifier",
)

PROBED, CLASSIFIER = "VAE, probe of codes", "classifier"
SHOWN = 8  # draws of z in the figure


@dataclasses.dataclass(frozen=True)
class Config(binary_images.Config):
    epochs: int = 10
    """Passes over the training data; the learning rate decays to zero over them."""
    hidden_size: int = 200
    """Width of the hidden layer of encoder, decoder and classifier."""
    num_labels: int = 100
    """Training images whose class is seen, evenly over the classes."""
    label_batch_size: int = 50
    """Labeled images in each step, drawn with replacement, beside --batch-size
    others.
    """
    classifier_weights: tuple[float, ...] = (0.1, 10.0, 100.0)
    """Weights of the classifier's loss, the mean over labeled images, beside the bound,
    the mean over all images: an M2 is trained with each. The paper's is 0.1.
    """


class Context(NamedTuple):
    """Data for the analysis, beside the models.

    Attributes:
      images: training images, binarized once, `[num, pixels]`.
      labels: their classes.
      labeled: indices of those whose class is seen.
      test: test images with their classes.
      family: the VAE of M2 given a class.
    """

    images: np.ndarray
    labels: np.ndarray
    labeled: np.ndarray
    test: datasets.Dataset
    family: models.VAEFamily


def make_experiment(config: Config) -> harness.Comparison:
    probes.check_installed()
    train, test = harness.load_images(config)
    probes.check_classes(config.data, train, test)
    labels = np.asarray(train.labels)
    num_classes = int(labels.max()) + 1
    if not num_classes <= config.num_labels <= len(labels):
        raise harness.UsageError(
            f"--num-labels is {config.num_labels}; give at least one for each of the "
            f"{num_classes} classes, and at most {len(labels)}."
        )
    if config.beta != 1 or config.warm_up_epochs:
        raise harness.UsageError(
            "--beta, --warm-up-epochs: this experiment trains on the bound; leave them "
            "out."
        )
    check_weights(config.classifier_weights)
    plain = binary_images.dense_experiment(config)
    labeled = probes.stratified(keys.PROBES, labels, config.num_labels)
    images = np.asarray(binary_images.binarize_once(keys.TRAINING_SET, train.images))
    family = make_family(config, train.images.shape[1:])
    context = Context(images.reshape(len(images), -1), labels, labeled, test, family)
    vae = models.semi_supervised_vae(
        family,
        classifier=vaejax.MLP((config.hidden_size,), (num_classes,)),
        num_classes=num_classes,
    )
    some = train.images[labeled], labels[labeled]
    num_steps = config.epochs * plain.steps_per_epoch

    def recipe(loss_fn: LossFn, hyperparameters: Any) -> harness.Recipe:
        learning_rate = optax.cosine_decay_schedule(
            hyperparameters["learning_rate"], num_steps
        )
        return harness.Recipe(loss_fn, optax.adam(learning_rate))

    def of_classes(weight: float) -> harness.Experiment:
        loss_fn = make_loss(config, vae, *some, len(labels), weight)
        return plain._replace(
            vae=vae,
            recipe=partial(recipe, loss_fn),
            hyperparameters={"learning_rate": config.learning_rate},
            kl_fn=vaejax.kl_monte_carlo,
            num_annealed=0,
            figures=lambda params, key, history: {},
        )

    fixed = plain._replace(
        recipe=lambda chosen: plain.recipe(chosen | {"beta": 1.0}),
        hyperparameters={"learning_rate": config.learning_rate},
        num_annealed=0,
    )
    arms = {arm_of(weight): of_classes(weight) for weight in config.classifier_weights}
    return harness.Comparison(arms | {PROBED: fixed}, context=context)


def check_weights(weights: tuple[float, ...]) -> None:
    """Raise UsageError unless there are weights whose names differ."""
    names = {arm_of(weight) for weight in weights}
    if not weights or len(names) < len(weights):
        raise harness.UsageError(
            f"--classifier-weights are {list(weights)}; give one or more, all "
            "different."
        )


def arm_of(weight: float) -> str:
    """Return the name of M2 with a weight of its classifier."""
    return f"M2, weight {weight:g}"


def samples_of(config: Config) -> dict[str, str]:
    """Return the names of the figures of samples, and of the M2 that each is of."""
    weights = enumerate(config.classifier_weights, 1)
    return {f"samples_{index}": arm_of(weight) for index, weight in weights}


def make_family(config: Config, shape: tuple[int, ...]) -> models.VAEFamily:
    """Return the VAE given a class, whose networks have one hidden layer each."""

    def family(label: Array) -> vaejax.VAE:
        hidden = (config.hidden_size,)
        return vaejax.gaussian_vae(
            latent_size=config.latent_size,
            encoder=networks.with_condition(vaejax.MLP(hidden), label),
            decoder=networks.with_condition(vaejax.MLP(hidden, shape), label),
        )

    return family


def make_loss(
    config: Config,
    vae: vaejax.VAE,
    some_images: np.ndarray,
    some_labels: np.ndarray,
    num_train: int,
    weight: float,
) -> LossFn:
    """Return the loss of a batch without labels and a draw of the labeled images.

    It is the sum over all images divided by their number, as the paper has it, of which
    both parts are estimated.
    """
    images, labels = jnp.asarray(some_images), jnp.asarray(some_labels, jnp.int32)
    share = len(images) / num_train

    def binarized(key: Key, example: models.Conditioned) -> models.Conditioned:
        return example._replace(x=vaejax.binarize(key, example.x))

    objective = partial(
        objectives.negative_semi_supervised_elbo, vae, alpha=weight / share
    )
    without = vaejax.mean_over_batch(vaejax.with_transform(objective, vaejax.binarize))
    with_labels = vaejax.mean_over_batch(vaejax.with_transform(objective, binarized))

    def loss_fn(params: Params, key: Key, batch: PyTree) -> tuple[Array, PyTree]:
        draw_key, label_key, key = jax.random.split(key, 3)
        chosen = jax.random.randint(
            draw_key, (config.label_batch_size,), 0, len(images)
        )
        some = models.Conditioned(images[chosen], labels[chosen])
        loss, terms = without(params, key, batch)
        of_labels, beside = with_labels(params, label_key, some)
        terms = terms._replace(classification=beside.classification)
        return loss + share * of_labels, terms

    return loss_fn


def analyze(trained: harness.Trained) -> harness.Result:
    """Return the test accuracy of every method, over seeds."""
    images, labels, labeled, test, _ = trained.context
    xs = trained.first_experiment.test
    flat = np.asarray(xs).reshape(len(xs), -1)
    seen = images[labeled], labels[labeled]
    of_classes = list(samples_of(trained.config).values())
    names = [*of_classes, PROBED, CLASSIFIER]
    found: dict[str, list[float]] = {name: [] for name in names}
    classify = jax.jit(partial(class_of, trained.experiments[of_classes[0]].vae))
    embed = jax.jit(partial(vaejax.embed, trained.experiments[PROBED].vae))
    shape = xs.shape[1:]
    for index in range(trained.members.num):
        trained.check_interrupts()
        for name in of_classes:
            predicted = classify(trained.state(name, index).params, xs)
            found[name].append(float(np.mean(np.asarray(predicted) == test.labels)))
        params = trained.state(PROBED, index).params
        codes = [
            np.asarray(embed(params, part.reshape(-1, *shape)))
            for part in (seen[0], flat)
        ]
        found[PROBED].append(
            probes.linear_accuracy(codes[0], seen[1], codes[1], test.labels)
        )
        found[CLASSIFIER].append(
            probes.network_accuracy(
                index, *seen, flat, test.labels, trained.config.hidden_size
            )
        )
    summaries = {
        name: averages.over_seeds(np.array(values)) for name, values in found.items()
    }
    texts = {name: averages.text(row, 3) for name, row in summaries.items()}
    return harness.Result(
        summary={"num_labels": len(labeled), "test": summaries},
        headline=f"accuracy with {len(labeled)} labels: "
        + "; ".join(f"{name} {text}" for name, text in texts.items()),
        about=f"test accuracy of {len(test.labels):,} images, binarized once; "
        f"{len(labeled)} labels of {len(labels):,} training images, the same for all "
        f"methods and seeds; {trained.members.describe()}",
        header=("method", "accuracy"),
        rows=list(texts.items()),
        figures=partial(figures, trained, summaries),
        captions={
            "accuracy": "Test accuracy of each method; mean and std over seeds.",
        }
        | {
            figure: f"{name}: a row for each class, a column for each z."
            for figure, name in samples_of(trained.config).items()
        },
    )


def class_of(vae: vaejax.VAE, params: Params, xs: Array) -> Array:
    """Return the likeliest class of each image, `[num]`."""

    def of_image(x: Array) -> Array:
        posterior: Any = vae.encode(params, x)
        return posterior.label.mode

    return jax.lax.map(of_image, xs, batch_size=1000)


def figures(trained: harness.Trained, summaries: dict[str, Any]) -> dict[str, Any]:
    """Draw the accuracies, and images of every class with the same z."""
    family = trained.context.family
    classes = jnp.eye(int(trained.context.labels.max()) + 1)

    def samples(arm: str) -> np.ndarray:
        state = trained.state(arm)
        key = jax.random.fold_in(state.key, keys.FIGURES)
        zs = jax.random.normal(key, (SHOWN, trained.config.latent_size))

        def decoded(label: Array, z: Array) -> Array:
            return family(label).decode(state.params["family"], z).mean

        return np.asarray(
            jax.vmap(jax.vmap(decoded, (None, 0)), (0, None))(classes, zs)
        )

    return {
        "accuracy": plots.bars(
            [row["values"] for row in summaries.values()],
            labels=list(summaries),
            xlabel="method",
            ylabel="test accuracy",
        ),
    } | {
        figure: plots.image_grid(samples(arm))
        for figure, arm in samples_of(trained.config).items()
    }


if __name__ == "__main__":
    cli.train(Config, make_experiment, analyze)
