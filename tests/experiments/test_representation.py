"""Probes and clusters where the answer is known, and the program on small data."""

import importlib.util
import json

import numpy as np
import pytest
from support.dtypes import DTYPES
from support.programs import SMALL, npz, status_of

from experiments import representation
from experiments.judges import probes
from vaejax import plots

GENERATOR = np.random.default_rng(0)
LABELS, TEST_LABELS = np.repeat(np.arange(4), 50), np.repeat(np.arange(4), 30)
CENTERS = 20 * np.array([[0, 0, 1], [0, 1, 0], [1, 0, 0], [1, 1, 1]])


def separate(labels):
    return CENTERS[labels] + GENERATOR.normal(size=(len(labels), 3))


CODES, TEST_CODES = separate(LABELS), separate(TEST_LABELS)


def test_classes_that_lie_apart_are_told_and_found():
    assert probes.linear_accuracy(CODES, LABELS, TEST_CODES, TEST_LABELS) == 1
    assert probes.neighbor_accuracy(CODES, LABELS, TEST_CODES, TEST_LABELS) == 1
    for cluster in (probes.k_means, probes.gaussian_mixture):
        assert cluster(0, CODES, TEST_CODES, TEST_LABELS) == (1, pytest.approx(1), 1)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", DTYPES)
def test_probes_take_codes_of_any_dtype_and_offset(dtype):
    offset = 0 if DTYPES[dtype].itemsize < 4 else 1e6
    codes, test_codes = (
        (0.5 * each + (20 if dtype != "bool" else 0) + offset).astype(DTYPES[dtype])
        for each in (CODES, TEST_CODES)
    )
    plain = [each.astype(np.float64) - offset for each in (codes, test_codes)]
    for probe in (probes.linear_accuracy, probes.neighbor_accuracy):
        assert probe(codes, LABELS, test_codes, TEST_LABELS) == probe(
            plain[0], LABELS, plain[1], TEST_LABELS
        )
    for cluster in (probes.k_means, probes.gaussian_mixture):
        assert cluster(0, codes, test_codes, TEST_LABELS) == cluster(
            0, *plain, TEST_LABELS
        )
    np.testing.assert_allclose(
        np.abs(probes.principal_components(codes, test_codes, 2)[1]),
        np.abs(probes.principal_components(*plain, 2)[1]),
        atol=1e-3,
    )


def test_codes_without_classes_are_at_chance():
    codes, test_codes = (
        GENERATOR.normal(size=(4000, 2)),
        GENERATOR.normal(size=(2000, 2)),
    )
    labels, test_labels = GENERATOR.integers(0, 4, 4000), GENERATOR.integers(0, 4, 2000)
    for probe in (probes.linear_accuracy, probes.neighbor_accuracy):
        assert abs(probe(codes, labels, test_codes, test_labels) - 0.25) < 0.05
    for cluster in (probes.k_means, probes.gaussian_mixture):
        found = cluster(0, codes, test_codes, test_labels)
        assert found.accuracy < 0.32 and found.nmi < 0.01 and abs(found.ari) < 0.01


def test_neighbors_are_a_vote_of_five():
    codes, labels = np.arange(10.0)[:, None], np.array([0] * 5 + [1] * 5)
    queries, expected = np.array([[1.4], [4.4], [4.6], [8.0]]), np.array([0, 0, 1, 1])
    assert probes.neighbor_accuracy(codes, labels, queries, expected) == 1


def test_agreement_does_not_see_what_clusters_are_called():
    clusters = np.array([3, 0, 2, 1])[TEST_LABELS]
    assert probes.agreement(clusters, TEST_LABELS) == (1, pytest.approx(1), 1)
    # One class of two halved, the other whole: a quarter is lost, and half a bit of the
    # information.
    labels, split = (
        np.array([0, 0, 0, 0, 1, 1, 1, 1]),
        np.array([0, 0, 2, 2, 1, 1, 1, 1]),
    )
    found = probes.agreement(split, labels)
    assert found.accuracy == 0.75
    np.testing.assert_allclose(found.nmi, 1 / ((1 + 1.5) / 2))


def test_a_dimension_without_spread_does_no_harm():
    constant = (
        np.hstack([CODES, np.ones((len(CODES), 1))]),
        np.hstack([TEST_CODES, np.ones((len(TEST_CODES), 1))]),
    )
    assert probes.gaussian_mixture(0, *constant, TEST_LABELS).accuracy == 1
    assert probes.linear_accuracy(constant[0], LABELS, constant[1], TEST_LABELS) == 1


def test_few_labels_are_balanced_and_among_the_more():
    labels = GENERATOR.integers(0, 10, 5000)
    few, more = probes.stratified(3, labels, 100), probes.stratified(3, labels, 1000)
    assert set(few) <= set(more) and len(set(more)) == 1000
    np.testing.assert_array_equal(np.bincount(labels[few]), 10)
    np.testing.assert_array_equal(np.bincount(labels[more]), 100)
    assert not np.array_equal(few, probes.stratified(4, labels, 100))
    rare = np.array([0] * 50 + [1] * 2)
    assert np.bincount(rare[probes.stratified(0, rare, 10)]).tolist() == [8, 2]


def test_components_are_those_of_the_training_set():
    images = GENERATOR.normal(size=(300, 6)) * [5, 1, 3, 1, 1, 1] + 7
    codes, test_codes = probes.principal_components(images, images[:20] + 1, 2)
    np.testing.assert_allclose(codes.mean(axis=0), 0, atol=1e-9)
    assert np.all(
        np.abs(np.corrcoef(codes.T, images[:, [0, 2]].T)[[0, 1], [2, 3]]) > 0.97
    )
    assert test_codes.shape == (20, 2) and np.max(np.abs(test_codes - codes[:20])) > 0.5


def test_a_scatter_names_its_classes_at_their_middle():
    points = np.array([[0.0, 0.0], [2.0, 2.0], [10.0, 0.0]])
    figure = plots.scatter({"left": points, "right": -points}, np.array([4, 4, 7]))
    left, right = figure.axes
    assert left.get_title() == "left" and {text.get_text() for text in left.texts} == {
        "4",
        "7",
    }
    assert [text.get_position() for text in left.texts] == [(1.0, 1.0), (10.0, 0.0)]
    assert [text.get_position() for text in right.texts] == [(-1.0, -1.0), (-10.0, 0.0)]
    with pytest.raises(
        ValueError,
        match=r"scatter: the points of left have shape \(2, 3\); give \[2, 2\]",
    ):
        plots.scatter({"left": np.zeros((2, 3))}, np.array([1, 2]))


def labeled(path):
    labels = {"train": np.arange(300) % 3, "test": np.arange(60) % 3}
    generator, arrays = np.random.default_rng(1), {}
    for part, classes in labels.items():
        pictures = generator.integers(0, 90, (len(classes), 4, 6))
        for index, label in enumerate(classes):
            pictures[index, :, 2 * label : 2 * label + 2] += 160
        arrays |= {
            f"{part}_images": pictures.astype(np.uint8),
            f"{part}_labels": classes,
        }
    np.savez(path / "data.npz", **arrays)


@pytest.mark.slow
def test_the_program_probes_every_code(tmp_path):
    labeled(tmp_path)
    out = tmp_path / "run"
    sizes = ["--latent-sizes", "2", "3", "--betas", "4"]
    data = ["--data", str(tmp_path / "data.npz"), "--out", str(out)]
    assert (
        status_of(
            [*SMALL[:4], *SMALL[6:-2], *sizes, *data, "--num-seeds", "2"],
            representation,
        )
        == 0
    )
    numbers = json.loads((out / "summary.json").read_text())["test"]
    codes = {
        f"{size} {kind}" for size in (2, 3, 20) for kind in ("latents", "components")
    } | {"beta 4", "pixels"}
    assert set(numbers) == codes
    assert (
        numbers["pixels"]["linear, all labels"]["mean"] > 0.9
        and numbers["2 latents"]["linear, all labels"]["num_seeds"] == 2
    )
    assert numbers["pixels"]["mixture accuracy"]["mean"] is None
    assert {path.stem for path in (out / "figures").glob("*.png")} >= {
        "labels",
        "latent_size",
        "beta",
        "maps",
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--latent-size", "3"], "--latent-sizes"),
        (["--num-samples", "3"], "estimates no NLL"),
        (["--latent-sizes", "0"], "--latent-sizes is 0"),
        (["--latent-sizes", "25"], "--latent-sizes has 25"),
    ],
)
def test_options_that_mean_nothing_are_refused(arguments, message, tmp_path, capsys):
    labeled(tmp_path)
    data = ["--data", str(tmp_path / "data.npz"), "--out", str(tmp_path / "run")]
    assert status_of([*SMALL[:4], *arguments, *data], representation) == 2
    assert message in capsys.readouterr().err


def test_what_cannot_be_probed_is_refused_before_training(
    tmp_path, capsys, monkeypatch
):
    npz()(tmp_path)
    arguments = [
        *SMALL[:4],
        "--data",
        str(tmp_path / "data.npz"),
        "--out",
        str(tmp_path / "run"),
    ]
    assert status_of(arguments, representation) == 2
    assert "has no classes" in capsys.readouterr().err
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert status_of(arguments, representation) == 2
    assert "pip install 'vaejax[analysis]'" in capsys.readouterr().err
