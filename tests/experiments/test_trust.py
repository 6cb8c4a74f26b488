"""The numbers beside an NLL bound, on models whose log p(x) is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.linear_gaussian import (
    draw_examples,
    exact_log_marginal,
    make_params,
    vae as linear,
    with_best_encoder,
)
from support.programs import users_settings

from experiments.harness import annealing, evaluation, trust
from experiments.harness.experiment import ONLY, Experiment, Trained
from experiments.harness.members import Members
from vaejax.training import TrainState

# The models are evaluated once, on one worker.
pytestmark = pytest.mark.xdist_group("trust")

NUM_TEST, NUM_ANNEALED = 300, 48


@pytest.fixture(autouse=True, scope="module")
def settings():
    with users_settings():
        yield


def params_of(seed: int, widen: float):
    """A model whose encoder is too narrow, so that its bounds are far from log p(x)."""
    return with_best_encoder(
        make_params(x_size=12, latent_size=6, seed=seed), widen=widen
    )


def trained_models(*params, num_annealed: int = NUM_ANNEALED, num_samples: int = 20):
    """The models as seeds of one run, on examples of the first."""
    members = Members(0, len(params))
    params = (
        params[0]
        if members.num == 1
        else jax.tree.map(lambda *leaves: jnp.stack(leaves), *params)
    )
    step = jnp.zeros((), jnp.int32) if members.num == 1 else jnp.zeros(members.num, int)
    state = TrainState(params, (), members.keys, step)
    experiment = Experiment(
        vae=linear,
        recipe=lambda hyperparameters: None,
        hyperparameters={},
        batch_size=1,
        train=np.zeros((1, 12), np.float32),
        test=draw_examples(params_of(0, 0.0), NUM_TEST),
        data_checksum="",
        binarization="none",
        num_samples=num_samples,
        num_annealed=num_annealed,
    )
    return Trained(None, {ONLY: experiment}, members, {ONLY: state}, {ONLY: []})


@pytest.fixture(scope="module")
def two_seeds(settings):
    """Two models whose encoders are narrow and far too narrow, and their numbers."""
    trained = trained_models(params_of(0, -1.2), params_of(1, -1.8))
    return trained, evaluation.evaluate(trained)


def exact(trained: Trained, member: int) -> float:
    """The mean -log p(x) over all test examples."""
    params = trained.state(member=member).params
    params = jax.tree.map(np.asarray, params)
    return -np.mean(exact_log_marginal(params, trained.experiments[ONLY].test))


@pytest.mark.slow
def test_the_corrected_nll_is_the_truth_where_the_bound_is_not(two_seeds):
    trained, numbers = two_seeds
    experiment = trained.experiments[ONLY]
    test = evaluation.summarize(numbers, experiment)
    truth = np.mean([exact(trained, member) for member in range(2)])
    corrected, bias = test["nll_corrected"], test["nll_bias"]
    assert bias["mean"] > 8 * bias["standard_error"] > 0
    assert abs(corrected["mean"] - truth) < 4 * corrected["standard_error"]
    assert abs(test["nll"]["mean"] - truth) > 8 * corrected["standard_error"]
    assert test["nll"]["mean"] - bias["mean"] == pytest.approx(corrected["mean"])
    # The examples differ from one another far more than the bias does.
    annealed = test["nll_annealed"]
    assert annealed["standard_error"] > 5 * corrected["standard_error"]
    for number in (annealed, bias, corrected):
        assert number["num_examples"] == NUM_ANNEALED and number["num_seeds"] == 2
    more = test["nll_more_samples"]
    assert more["num_samples"] == 200 and more["change"] < 0
    assert truth < more["mean"] < test["nll"]["mean"]
    assert test["nll"]["share_above_pareto_k_threshold"] is None  # of 20 samples
    assert 0 < more["share_above_pareto_k_threshold"] <= 1


def test_what_annealing_leaves_is_said(two_seeds):
    trained, numbers = two_seeds
    annealed = evaluation.summarize(numbers, trained.experiments[ONLY])["nll_annealed"]
    change = annealed["change_when_temperatures_are_doubled"]
    gap = annealed["gap_on_simulated_examples"]
    assert abs(change["mean"]) < 4 * change["standard_error"] + 0.05
    assert abs(gap["mean"]) < 4 * gap["standard_error"] + 0.05
    assert gap["num_examples"] == annealing.NUM_SIMULATED
    # The smallest step sizes of the pilot run accept more than its target.
    assert 0.6 < annealed["acceptance_rate"] < 0.9
    texts = {
        label: note
        for label, _, note in evaluation.rows(
            evaluation.summarize(numbers, trained.experiments[ONLY])
        )
    }
    assert "250 temperatures" in texts["NLL, annealed"]
    assert f"{NUM_ANNEALED} examples" in texts["NLL, corrected"]


@pytest.mark.slow
def test_a_difference_of_two_models_is_paired_by_example(two_seeds):
    trained, numbers = two_seeds
    experiment = trained.experiments[ONLY]
    one, other = (
        {name: values[i : i + 1] for name, values in numbers.items()} for i in (0, 1)
    )
    difference = evaluation.paired(other, one, experiment)["nll_corrected"]
    truth = exact(trained, 1) - exact(trained, 0)
    assert abs(difference["mean"] - truth) < 4 * difference["standard_error"]
    same = evaluation.paired(one, one, experiment)["nll_corrected"]
    assert same["mean"] == 0
    known = trust.exact(
        {**one, "log_marginal": one["log_marginal"] * 0 - exact(trained, 0)}, experiment
    )
    against = trust.paired(other, known, experiment)["nll_corrected"]
    assert abs(against["mean"] - truth) < 4 * against["standard_error"]


@pytest.mark.slow
def test_without_annealing_there_is_the_bound_at_two_numbers_of_samples():
    trained = trained_models(params_of(0, -1.2), num_annealed=0)
    test = evaluation.summarize(evaluation.evaluate(trained), trained.experiments[ONLY])
    assert "nll_more_samples" in test and "nll_corrected" not in test
    assert test["nll_more_samples"]["num_examples"] == trust.NUM_EXAMPLES
    assert "bound" in dict.fromkeys(evaluation.MEANINGS["nll"][0].split())


@pytest.mark.slow
def test_members_that_are_not_annealed_count_for_nothing(two_seeds):
    trained, numbers = two_seeds
    experiment = trained.experiments[ONLY]
    found = annealing.anneal(trained, members=[1])
    assert np.isnan(found["annealed"][0]).all()
    # A member alone draws what it draws beside others.
    np.testing.assert_allclose(
        found["annealed"][1], numbers["annealed"][1], rtol=1e-3, atol=0.5
    )
    summary = trust.summarize({**numbers, **found}, experiment)
    assert summary["nll_corrected"]["num_seeds"] == 1
    none = {**numbers, "annealed": np.full_like(numbers["annealed"], np.nan)}
    assert trust.summarize(none, experiment)["nll_corrected"]["mean"] is None


def test_few_models_are_annealed_of_many():
    trained = trained_models(params_of(0, 0.0))
    many = trained._replace(members=Members(3, 16, {"beta": (0.5, 1.0, 2.0, 4.0)}))
    chosen = annealing.members_to_anneal(many)
    assert chosen == [0, 1, 2, 16, 17, 18, 32, 33, 34, 48, 49, 50]
    assert len(chosen) <= annealing.MOST_MODELS
    alone = trained._replace(members=Members(0, 2))
    assert annealing.members_to_anneal(alone) == [0, 1]


def test_the_annealed_examples_are_the_same_for_every_run_and_each_once():
    few, more = (annealing.examples_to_anneal(1000, num) for num in (64, 100))
    np.testing.assert_array_equal(few, more[:64])
    assert len(set(more.tolist())) == 100 and more.min() >= 0 and more.max() < 1000
    assert len(annealing.examples_to_anneal(10, 64)) == 10
