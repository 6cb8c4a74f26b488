"""The trigram, and the text experiment from end to end."""

import itertools
import json
import math

import numpy as np
import pytest
from support.programs import execute

import vaejax
from experiments import text as experiment
from experiments.harness.errors import UsageError
from experiments.judges import trigram
from vaejax.distributions import END_TOKEN


@pytest.fixture(scope="module")
def verses():
    return vaejax.datasets.load_text("king_james", split="test")


def test_trigram_is_a_distribution_and_counts_what_it_says():
    train = np.array(
        [[1, 2, 1, END_TOKEN], [1, 2, 2, END_TOKEN], [2, 2, END_TOKEN, END_TOKEN]]
    )
    model = trigram.fit(train, train[:2], vocabulary_size=3)
    np.testing.assert_allclose(model.weights.sum(axis=1), 1)
    # After every context, seen or not, and whatever the weights.
    for weights in (model.weights, np.tile([0.3, 0, 0, 0.7], (len(model.weights), 1))):
        for first, second in itertools.product((1, 2), repeat=2):
            before = model._replace(weights=weights).negative_log_probs(
                np.array([[first, second]])
            )
            rows = np.array([[first, second, third] for third in range(3)])
            log_probs = before - model._replace(weights=weights).negative_log_probs(
                rows
            )
            np.testing.assert_allclose(np.exp(log_probs).sum(), 1, rtol=1e-6)
    uniform = model._replace(weights=np.eye(4)[np.zeros(len(model.weights), int)])
    np.testing.assert_allclose(
        uniform.negative_log_probs(train), [4 * math.log(3)] * 2 + [3 * math.log(3)]
    )
    bigram = model._replace(weights=np.eye(4)[np.full(len(model.weights), 2)])
    # p(1 | start) p(2 | 1) p(1 | 2) p(END | 1) = 2/3 1 1/5 1/3
    np.testing.assert_allclose(
        np.exp(-bigram.negative_log_probs(train[:1])), [2 / 3 * 2 / 3 * 1 / 5 * 1 / 3]
    )


def test_weights_of_the_trigram_are_the_best_for_the_held_out():
    rng = np.random.default_rng(0)
    train, held_out = (
        np.pad(rng.integers(1, 5, (40, 6)), ((0, 0), (0, 1))) for _ in range(2)
    )
    model = trigram.fit(train, held_out, vocabulary_size=5)
    fitted = model.negative_log_probs(held_out).sum()
    for column in range(4):
        other = 0.95 * model.weights + 0.05 * np.eye(4)[column]
        # But for the one count more of each.
        assert (
            model._replace(weights=other).negative_log_probs(held_out).sum()
            >= fitted - 0.5
        )


@pytest.mark.slow
def test_the_text_experiment_ends_with_numbers_and_sentences(tmp_path, verses):
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("\n".join(verses[:800]))
    options = [
        "--data",
        corpus,
        "--vocabulary-size",
        150,
        "--length",
        40,
        "--hidden-size",
        8,
        "--epochs",
        2,
    ]
    options += [
        "--num-samples",
        4,
        "--num-seeds",
        2,
        "--batch-size",
        16,
        "--out",
        tmp_path / "run",
    ]
    options += ["--word-dropout", 0.2, "--warm-up-epochs", 1]
    done = execute(*options, module="experiments.text")
    assert done.returncode == 0, done.stderr
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    of_model = summary["test"]["language model"]
    assert of_model["kl"]["mean"] == 0 and of_model["active_units"]["mean"] == 0
    assert of_model["nll"]["mean"] == pytest.approx(
        of_model["negative_elbo"]["mean"], rel=1e-5
    )
    values = [
        summary["test"][name]["nll"]["values"] for name in ("VAE", "language model")
    ]
    paired = np.subtract(*values).mean()
    difference = summary["nll_minus_language_model"]["VAE"]["nll"]
    assert difference["mean"] == pytest.approx(paired, abs=1e-6)
    assert "interpolated trigram" in done.stdout
    page = (tmp_path / "run" / "report.html").read_text()
    first = next(iter(summary["texts"].values()))
    assert len(first) == experiment.SHOWN and "Texts" in page


@pytest.mark.slow
def test_mistakes_name_the_fix(tmp_path):
    (tmp_path / "few.txt").write_text("one\ntwo\n")
    for options, message in [
        ({"data": str(tmp_path / "few.txt")}, "has 2 sentences"),
        ({"data": "my people.CSV"}, "own_data --data 'my people.CSV'$"),
        ({"data": "t.tsv.gz"}, "t.tsv.gz is a table"),
        ({"vocabulary_size": 20}, "tokens cannot be made"),
        ({"word_dropout": 1.0}, "--word-dropout is 1.0"),
        ({"length": 2}, "the shortest has"),
        ({"compute_dtype": "bfloat16"}, "computes in float32"),
        ({"num_validation": 0}, "--num-validation 0"),
    ]:
        with pytest.raises(UsageError, match=message):
            experiment.make_experiment(experiment.Config(**options))
