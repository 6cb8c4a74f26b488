"""The program that judges samples, and the classifier whose features it uses."""

import json

import jax.numpy as jnp
import numpy as np
import pytest
from support.programs import SMALL, npz, status_of, users_settings

from experiments import sample_quality as program
from experiments.data import image_data
from experiments.judges import classifier
from vaejax import datasets


def blocks(num, seed):
    """Two classes: the upper or the lower half is bright."""
    labels = np.arange(num) % 2
    images = np.random.default_rng(seed).integers(0, 60, (num, 4, 4))
    images[labels == 0, :2] += 180
    images[labels == 1, 2:] += 180
    return {"images": images.astype(np.uint8), "labels": labels}


@pytest.fixture(scope="module")
def judging():
    with users_settings():
        return classifier.train(datasets.Dataset(**blocks(256, 0)))


@pytest.mark.slow
def test_the_classifier_tells_what_is_easily_told(judging):
    held_out = datasets.Dataset(**blocks(64, 1))
    assert judging.accuracy(held_out) == 1.0
    images = image_data.intensities(held_out.images)
    assert judging.features(images).shape == (64, classifier.WIDTH)
    np.testing.assert_allclose(
        np.exp(judging.log_probabilities(images)).sum(axis=1), 1, rtol=1e-5
    )


def test_more_images_of_the_data_score_as_the_data(judging):
    real = np.asarray(
        judging.features(image_data.intensities(blocks(200, 1)["images"]))
    )
    same = program.scores(
        real, judging, image_data.intensities(blocks(200, 2)["images"])
    )
    other = program.scores(real, judging, jnp.full((200, 4, 4), 0.5))
    assert min(same["coverage"], same["precision"], same["recall"]) > 0.8
    assert other["coverage"] < 0.1 and other["frechet"] > 10 * same["frechet"]


@pytest.mark.slow
def test_the_program_scores_every_set_of_every_arm(tmp_path):
    parts = {"train": blocks(200, 0), "test": blocks(60, 1)}
    np.savez(
        tmp_path / "data.npz",
        **{f"{p}_{k}": v for p, part in parts.items() for k, v in part.items()},
    )
    arguments = [
        *SMALL[:4],
        *SMALL[6:],
        "--data",
        str(tmp_path / "data.npz"),
        "--out",
        str(tmp_path / "run"),
        "--num-seeds",
        "2",
    ]
    assert status_of([*arguments, "--num-images", "50"], program) == 0
    summary = json.loads((tmp_path / "run/summary.json").read_text())
    sets = {
        f"{a}: {w}"
        for a in program.ARMS
        for w in (program.MEANS, program.COOL, program.DRAWN, program.RECONSTRUCTED)
    }
    assert set(summary["test"]) == sets | {
        "training images, gray",
        "training images, binarized",
    }
    for name in sets:
        assert all(
            number["num_seeds"] == 2 and np.isfinite(number["mean"])
            for number in summary["test"][name].values()
        )
    assert summary["test"]["training images, gray"]["coverage"]["mean"] > 0.8
    assert summary["classifier_accuracy"]["gray"] == 1.0
    assert {path.stem for path in (tmp_path / "run/figures").glob("*.png")} >= {
        "samples",
        "neighbors",
    }


@pytest.mark.parametrize(
    ("arrays", "arguments", "message"),
    [
        ({}, [], "has no classes"),
        (
            {"train_labels": np.zeros(100, int), "test_labels": np.zeros(20, int)},
            ["--num-images", "21"],
            "--num-images is 21; give 10 to 20",
        ),
        (
            {"train_labels": np.zeros(100, int), "test_labels": np.zeros(20, int)},
            ["--num-images", "20", "--beta", "2"],
            "--latent-size and --beta are those of the arms",
        ),
    ],
)
def test_what_cannot_be_judged_is_refused_before_training(
    arrays, arguments, message, tmp_path, capsys
):
    npz(**arrays)(tmp_path)
    data = ["--data", str(tmp_path / "data.npz"), "--out", str(tmp_path / "run")]
    assert status_of([*SMALL[:4], *SMALL[6:], *data, *arguments], program) == 2
    assert message in capsys.readouterr().err
