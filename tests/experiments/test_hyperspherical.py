"""The program that compares latents on a sphere with Normal ones, on small data."""

import json

import numpy as np
import pytest
from support.programs import npz, status_of

from experiments import hyperspherical
from experiments.harness import sphere_map


def labeled(path):
    random = np.random.default_rng(0)
    parts = {}
    for name, num in (("train", 150), ("test", 40)):
        parts[f"{name}_labels"] = random.integers(0, 2, num)
        parts[f"{name}_images"] = random.integers(0, 256, (num, 4, 4), np.uint8)
    npz(**parts)(path)


@pytest.mark.slow
@pytest.mark.program
def test_the_program_compares_both_spaces_at_every_size(tmp_path):
    labeled(tmp_path)
    out = tmp_path / "run"
    options = ["--data", tmp_path / "data.npz", "--out", out, "--epochs", 2]
    options += ["--latent-sizes", 3, 2, "--hidden-sizes", 8, "--batch-size", 50]
    options += ["--num-samples", 2, "--num-label-sets", 2, "--num-seeds", 2]
    options += ["--warm-up-epochs", 1, "--constant-learning-rate"]
    assert status_of([str(each) for each in options], hyperspherical) == 0
    summary = json.loads((out / "summary.json").read_text())
    names = ["Normal, 2", "sphere, 2", "Normal, 3", "sphere, 3"]
    assert list(summary["test"]) == names
    for numbers in summary["test"].values():
        assert np.all(np.isfinite(numbers["nll"]["values"]))
        assert 0 <= numbers["neighbors, 100 labels"]["mean"] <= 1
        assert numbers["kl"]["mean"] >= 0
    for size, difference in summary["difference"].items():
        for name in ("nll", "neighbors, 100 labels"):
            sphere, normal = (
                summary["test"][f"{kind}, {size}"][name]["mean"]
                for kind in ("sphere", "Normal")
            )
            expected = sphere - normal
            np.testing.assert_allclose(difference[name]["mean"], expected, atol=1e-3)
    drawn = {path.stem for path in (out / "figures").glob("*.png")}
    assert {"nll", "neighbors", "maps", "decoded_plane", "decoded_sphere"} <= drawn


def test_the_map_of_the_sphere_keeps_areas():
    """The determinant by longitude and z is 1, as that of areas of the sphere."""
    longitude, height = np.meshgrid(np.linspace(-3, 3, 7), np.linspace(-0.9, 0.9, 7))
    step = 1e-5

    def places(east, north):
        directions = sphere_map.directions_of(
            longitude + step * east, height + step * north
        )
        np.testing.assert_allclose(np.linalg.norm(directions, axis=-1), 1, rtol=1e-12)
        return sphere_map.equal_area_map(directions)

    (x_east, y_east), (x_north, y_north) = (
        np.moveaxis(places(*ahead) - places(*behind), -1, 0) / (2 * step)
        for ahead, behind in (((1, 0), (-1, 0)), ((0, 1), (0, -1)))
    )
    determinant = x_east * y_north - x_north * y_east
    np.testing.assert_allclose(determinant, 1, rtol=1e-6)


def test_codes_that_are_not_finite_have_no_accuracy():
    context = hyperspherical.Context(
        images=np.zeros((1, 6, 2)),
        labels=np.array([[0, 1, 0, 1, 0, 1]]),
        counts=(6,),
        test_labels=np.array([0, 1]),
    )
    seen, test = context.labels[..., None] * np.ones((1, 6, 2)), np.eye(2)
    assert np.isnan(hyperspherical.mean_accuracies(seen * np.nan, test, context)).all()
    test = np.array([[-1.0, -1.0], [2.0, 2.0]])
    # Three of five neighbors are of the right class.
    assert hyperspherical.mean_accuracies(seen, test, context) == [1.0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--latent-sizes", "2", "2"], "give one or more, all different"),
        ([], "has no classes"),
    ],
)
def test_wrong_sizes_and_data_are_refused(tmp_path, capsys, options, message):
    labeled(tmp_path) if options else npz()(tmp_path)
    where = ["--data", str(tmp_path / "data.npz"), "--out", str(tmp_path / "run")]
    assert status_of([*where, *options], hyperspherical) == 2
    assert message in capsys.readouterr().err
