"""A VAE of sentences, plain and with free bits, beside the same decoder without z.

Three models with one decoder, trained and stopped alike: the VAE with free bits (and,
if asked for, warm-up and word dropout); the plain VAE, whose decoder learns to do
without z (posterior collapse: its KL falls to zero); and the language model, which has
no z. Beside them an interpolated trigram. Sentences are the verses of the King James
Bible in subwords, those of fewer than --length tokens; likelihoods are of whole
sentences, their end included.

Papers: Bowman et al. 2016, "Generating sentences from a continuous space"; free bits:
Kingma et al. 2016. Command: python -m experiments.text
"""

import dataclasses
import shlex
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import vaejax
from experiments import harness
from experiments.harness import averages, binary_images, cli, evaluation, keys, trust
from experiments.harness.figures import over_epochs
from experiments.harness.units import disagreements
from experiments.judges import trigram
from experiments.own.tables import SUFFIXES
from vaejax import datasets, latent
from vaejax.base import Array, Key, Latent, Params
from vaejax.distributions import token_mask
from vaejax.training import TrainState

ABOUT = harness.About(
    what=(
        "a VAE of sentences, plain and with free bits, beside a language model of the "
        "same decoder"
    ),
    paper="Bowman et al. 2016",
    cost="35 minutes on 2 cores, 3 seeds",
    expected="KL 7.9 nats; corrected NLL 0.4 ± 0.2 nats above the language model's",
)

CURED, PLAIN, LANGUAGE_MODEL = "VAE", "plain VAE", "language model"
SHOWN, STEPS = 6, 7
# Decimals of the table's columns.
DIGITS = {"nll": 2, "perplexity": 2, "kl": 2, "active_units": 1, "negative_elbo": 2}


@dataclasses.dataclass(frozen=True)
class Config(harness.Config):
    data: str = "king_james"
    """Data set: king_james (bundled), or a text file of one sentence per line."""
    epochs: int = 8
    """Passes over the training sentences; the learning rate decays to zero over them.
    """
    num_validation: harness.NonNegativeInt = 1000
    """Held-out sentences on which training is stopped early."""
    patience: int | None = 3
    """Epochs without a smaller validation loss after which training stops; the best
    parameters are evaluated.
    """
    vocabulary: Literal["subwords", "bytes"] = "subwords"
    """Vocabulary: subwords learned from the training sentences, or bytes."""
    vocabulary_size: int = 1000
    """Number of subwords."""
    length: int = 48
    """Tokens of the longest sentence, its end included; longer ones are left out."""
    decoder: Literal["recurrent", "convolutional"] = "recurrent"
    """Network of the decoder: a GRU, or dilated causal convolutions."""
    latent_size: int = 32
    """Dimensions of z."""
    hidden_size: int = 128
    """Width of encoder and decoder; a token's embedding has half of it."""
    batch_size: int = 64
    """Sentences per step."""
    learning_rate: float = 8e-3
    """Initial learning rate of Adam; decays to 0 by a cosine."""
    clip_norm: float | None = 5.0
    """Global norm to which larger gradients are scaled down."""
    beta: harness.NonNegativeFloat = 1.0
    """Weight of the KL in the loss of the VAE with free bits."""
    free_bits: harness.NonNegativeFloat = 8.0
    """Nats that z may carry at no cost in the VAE with free bits; 0 for none."""
    warm_up_epochs: harness.NonNegativeInt = 0
    """Epochs over which beta rises linearly from 0, in the VAE with free bits."""
    word_dropout: harness.NonNegativeFloat = 0.0
    """Probability that a token is hidden from the decoder of the VAE with free bits
    while it trains; below 1.
    """
    num_samples: int = 100
    """Importance samples per sentence of the test NLL."""
    num_annealed: harness.NonNegativeInt = 32
    """Test sentences whose log p(x) is annealed too, by the VAE with free bits, which
    shows the bias of its NLL.
    """


class Context(NamedTuple):
    """Data for the analysis, beside the models.

    Attributes:
      vocabulary: the subwords.
      trigram_nll: mean NLL of the trigram, in nats per sentence.
    """

    vocabulary: datasets.Vocabulary
    trigram_nll: float


def language_model(*, latent_size: int, length: int, decoder: Any) -> vaejax.VAE:
    """Return the decoder of a `sequence_vae` with z held at zero.

    Its ELBO is log p(x) and its KL is zero.
    """
    network = vaejax.networks.as_network(decoder)
    zero = jnp.zeros(latent_size)

    def init(key: Key, x: Array) -> Params:
        del x
        return network.init(key, zero, jnp.zeros(length, jnp.int32))

    def standard(params: Params) -> vaejax.Normal:
        del params
        return vaejax.Normal(zero, zero)

    def decode(params: Params, z: Latent) -> vaejax.distributions.Autoregressive:
        del z
        return vaejax.distributions.Autoregressive(
            jax.tree_util.Partial(network.apply, params, zero), length
        )

    return vaejax.VAE(init, lambda params, x: standard(params), standard, decode)


def make_decoder(config: Config, vocabulary_size: int) -> Any:
    """Return the decoder that --decoder names."""
    if config.decoder == "recurrent":
        return vaejax.networks.RecurrentDecoder(
            vocabulary_size, config.hidden_size // 2, config.hidden_size
        )
    return vaejax.networks.CausalConvolutionDecoder(vocabulary_size, config.hidden_size)


def cured_loss(config: Config, vae: vaejax.VAE, vocabulary_size: int) -> Callable:
    """Return the loss with free bits on the whole of z, and word dropout."""
    terms = partial(vaejax.elbo_terms, vae)
    if config.word_dropout:
        terms = vaejax.with_transform(
            terms,
            vaejax.distributions.make_word_dropout(
                config.word_dropout, vocabulary_size
            ),
        )
    return vaejax.loss_of_means(
        terms, partial(vaejax.objectives.free_bits_loss, minimum=config.free_bits)
    )


def load_tokens(
    config: Config,
) -> tuple[vaejax.datasets.Vocabulary, dict[str, vaejax.datasets.TokenizedSentences]]:
    """Return the vocabulary, learned from the training sentences, and every split."""
    if config.data.lower().endswith(SUFFIXES):
        raise harness.UsageError(
            f"--data: {config.data} is a table; run python -m experiments.own_data "
            f"--data {shlex.quote(config.data)}"
        )
    try:
        sentences = {
            split: vaejax.datasets.load_text(config.data, split=split)
            for split in ("train", "validation", "test")
        }
        if config.vocabulary == "bytes":
            vocabulary = vaejax.datasets.byte_vocabulary()
        else:
            vocabulary = vaejax.datasets.subword_vocabulary(
                sentences["train"], size=config.vocabulary_size
            )
        return vocabulary, {
            split: vaejax.datasets.tokenize(lines, vocabulary, config.length)
            for split, lines in sentences.items()
        }
    except ValueError as error:
        raise harness.UsageError(f"--data {config.data}: {error}") from error


def make_experiment(config: Config) -> harness.Comparison:
    _check(config)
    vocabulary, splits = load_tokens(config)
    train, validation, test = (
        splits[split].uncut for split in ("train", "validation", "test")
    )
    if not config.num_validation or len(test) < 2:
        raise harness.UsageError(
            f"--data {config.data}: {len(test)} test sentences and --num-validation "
            f"{config.num_validation}; the "
            "former must be at least 2, the latter at least 1."
        )
    validation = validation[: config.num_validation]
    for split, tokens in splits.items():
        print(
            f"{split}: {len(tokens.uncut):,} sentences; {len(tokens.too_long):,} "
            "longer ones are left out"
        )
    num_steps = config.epochs * harness.steps_per_epoch(train, config.batch_size)
    decoder = make_decoder(config, vocabulary.size)
    encoder = vaejax.networks.RecurrentEncoder(
        vocabulary.size, config.hidden_size // 2, config.hidden_size
    )
    sizes = {"latent_size": config.latent_size, "length": config.length}
    vae = vaejax.sequence_vae(**sizes, encoder=encoder, decoder=decoder)
    beta = vaejax.training.warm_up(
        config.beta, config.warm_up_epochs * (num_steps // config.epochs)
    )
    optimizer = optax.adam(optax.cosine_decay_schedule(config.learning_rate, num_steps))

    checksum = datasets.checksum(
        *(datasets.Dataset(tokens, None) for tokens in (train, validation, test))
    )

    def experiment(
        vae: vaejax.VAE, recipe: harness.Recipe, num_samples: int, num_annealed: int
    ) -> harness.Experiment:
        return harness.Experiment(
            vae=vae,
            recipe=lambda hyperparameters: recipe,
            hyperparameters={},
            batch_size=config.batch_size,
            train=train,
            test=test,
            data_checksum=checksum,
            binarization="none",
            num_samples=num_samples,
            num_annealed=num_annealed,
            validation=validation,
        )

    plain, without = vae, language_model(**sizes, decoder=decoder)
    recipe = harness.Recipe(
        cured_loss(config, vae, vocabulary.size), optimizer, {"beta": beta}
    )
    arms = {CURED: experiment(vae, recipe, config.num_samples, config.num_annealed)}
    for name, model, num_samples in (
        (PLAIN, plain, config.num_samples),
        (LANGUAGE_MODEL, without, 1),
    ):
        loss_fn = vaejax.mean_over_batch(partial(vaejax.negative_elbo, model))
        recipe = harness.Recipe(loss_fn, optimizer)
        arms[name] = experiment(model, recipe, num_samples, 0)
    baseline = trigram.fit(train, validation, vocabulary.size).negative_log_probs(test)
    return harness.Comparison(arms, context=Context(vocabulary, float(baseline.mean())))


def analyze(trained: harness.Trained) -> harness.Result:
    """Return every model's numbers, and what the VAE writes.

    Differences to the language model are taken seed by seed.
    """
    arms, test = trained.experiments, trained.experiments[CURED].test
    vocabulary, trigram_nll = trained.context
    tokens_a_sentence = float(
        np.mean([np.sum(token_mask(jnp.asarray(row))) for row in test])
    )
    numbers = {arm: evaluation.evaluate(trained, arm) for arm in arms}
    summaries, rows = {}, []
    for arm, experiment in arms.items():
        numbers[arm]["perplexity"] = np.exp(numbers[arm]["nll"] / tokens_a_sentence)
        summaries[arm] = evaluation.summarize(numbers[arm], experiment)
        summaries[arm]["perplexity"] = averages.over_seeds(numbers[arm]["perplexity"])
        rows.append((arm, *evaluation.cells(summaries[arm], DIGITS)))
    blank = ("",) * 3
    rows.append(
        (
            "interpolated trigram",
            f"{trigram_nll:.2f}",
            f"{np.exp(trigram_nll / tokens_a_sentence):.2f}",
            *blank,
        )
    )
    differences = {}
    for arm in (CURED, PLAIN):
        differences[arm] = trust.paired(
            numbers[arm], trust.exact(numbers[LANGUAGE_MODEL], arms[arm]), arms[arm]
        )
        rows += [
            (
                f"{arm} minus {LANGUAGE_MODEL}{by}",
                averages.text(differences[arm][name], 2, "+"),
                "",
                *blank,
            )
            for name, by in (("nll", ""), ("nll_corrected", ", corrected"))
            if name in differences[arm]
        ]
    kl = {arm: averages.text(summary["kl"], 1) for arm, summary in summaries.items()}
    listings = write(arms[CURED].vae, trained.state(CURED), test, vocabulary)
    return harness.Result(
        summary={
            "binarization": "none",
            "units": "nats per sentence",
            "num_test_examples": len(test),
            "tokens_a_sentence": tokens_a_sentence,
            "num_samples": arms[CURED].num_samples,
            "test": summaries,
            "trigram": {"nll": trigram_nll},
            "nll_minus_language_model": differences,
            "texts": listings,
        },
        headline=f"KL {kl[CURED]} nats, and {kl[PLAIN]} without free bits",
        about=f"{len(test):,} test sentences of {tokens_a_sentence:.1f} tokens; "
        f"{trained.members.describe()}; nats per "
        "sentence; the NLL of the VAEs is importance-weighted with "
        f"{arms[CURED].num_samples} samples, an upper bound; "
        "perplexity is per token; differences are paired by seed"
        f"{disagreements(summaries)}",
        header=(
            "model",
            "NLL bound",
            "perplexity",
            "KL",
            "active units",
            "negative ELBO",
        ),
        rows=rows,
        figures=partial(figures, trained.history),
        captions={
            "kl": (
                "What z carries, over training: without free bits the decoder learns "
                "to do without it."
            ),
            "learning_curves": "Test negative ELBO over training; of the language "
            "model it is the NLL. The band, if "
            "any, is one standard deviation over seeds.",
        },
        listings=listings,
    )


def write(
    vae: vaejax.VAE,
    state: TrainState,
    test: np.ndarray,
    vocabulary: vaejax.datasets.Vocabulary,
) -> dict[str, list[str]]:
    """Return sentences that the model writes, by title.

    They are drawn from the prior, reconstructed, and between two test sentences.
    """
    sample_key, first_key, second_key = jax.random.split(
        jax.random.fold_in(state.key, keys.FIGURES), 3
    )
    shown = jnp.asarray(test[:SHOWN])

    @jax.jit
    def tokens(params: Params) -> dict[str, Array]:
        greedy = {"latent_point": latent.mean, "example_point": latent.mode}
        samples = vaejax.sample(
            vae, params, sample_key, SHOWN, example_point=latent.draw
        )
        greedy_samples = vaejax.sample(
            vae, params, first_key, SHOWN, example_point=latent.mode
        )
        reconstructions = vaejax.reconstruct(vae, params, second_key, shown, **greedy)
        pairs = jnp.stack([shown[0::2], shown[1::2]], axis=1)
        between = jax.vmap(
            lambda pair: vaejax.interpolate(
                vae, params, pair[0], pair[1], STEPS, **greedy
            )
        )(pairs)
        return {
            "samples": samples,
            "greedy": greedy_samples,
            "reconstructions": reconstructions,
            "between": between,
        }

    written = jax.device_get(tokens(state.params))
    lines = {
        name: [vaejax.datasets.detokenize(row, vocabulary) for row in written[name]]
        for name in ("samples", "greedy")
    }
    originals = [vaejax.datasets.detokenize(row, vocabulary) for row in test[:SHOWN]]
    listings = {
        "Drawn from the prior, token by token": lines["samples"],
        "Drawn from the prior, the likeliest token at each step": lines["greedy"],
        "Test sentences, each followed by its reconstruction (the likeliest tokens at "
        "the posterior's mean)": [
            line
            for original, row in zip(originals, written["reconstructions"], strict=True)
            for line in (
                original,
                "\N{RIGHTWARDS ARROW} " + vaejax.datasets.detokenize(row, vocabulary),
            )
        ],
    }
    for index, path in enumerate(written["between"]):
        name = (
            "From one test sentence (first line) to another (last line), pair "
            f"{index + 1}"
        )
        steps = [vaejax.datasets.detokenize(row, vocabulary) for row in path]
        listings[name] = [originals[2 * index], *steps, originals[2 * index + 1]]
    return listings


def figures(history: Mapping[str, list[dict]]) -> Mapping[str, Any]:
    """Draw the learning curves, and the KL of the VAEs over training."""
    with_latents = {arm: history[arm] for arm in (CURED, PLAIN)}
    label = "test negative ELBO (nats per sentence)"
    return {
        "learning_curves": over_epochs(
            history, "negative_elbo", ylabel=label, scale_from=1
        ),
        "kl": over_epochs(with_latents, "kl", ylabel="test KL (nats per sentence)"),
    }


def _check(config: Config) -> None:
    if config.compute_dtype != "float32":
        raise harness.UsageError(
            f"--compute-dtype {config.compute_dtype}: a decoder of sentences computes "
            "in float32."
        )
    if np.float32(config.word_dropout) >= 1:
        raise harness.UsageError(
            f"--word-dropout is {config.word_dropout}; give a probability below 1."
        )
    binary_images.warn_of_late_warm_up(config.warm_up_epochs, config.epochs)


if __name__ == "__main__":
    cli.train(Config, make_experiment, analyze)
