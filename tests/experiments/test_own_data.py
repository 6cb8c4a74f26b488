"""The program for own data: what it takes, and each mistake named."""

import json

import numpy as np
import pytest
from scipy import stats
from support.programs import execute, users_settings

from experiments import explore, gallery, own_data
from experiments.harness import model_options
from experiments.harness.errors import UsageError
from experiments.harness.load_run import load_run
from experiments.own import arrays

RNG = np.random.default_rng(0)
REAL = RNG.normal(3, 2, (50, 4))


def with_value(value):
    array = REAL.copy()
    array[17, 2] = value
    return array


SMALL = [
    "--epochs",
    1,
    "--num-samples",
    4,
    "--hidden-size",
    8,
    "--latent-size",
    2,
    "--batch-size",
    16,
]


def run(tmp_path, *options):
    return execute(
        *SMALL, *options, "--out", tmp_path / "run", module="experiments.own_data"
    )


@pytest.mark.slow
@pytest.mark.program
def test_a_table_is_described_and_trained_on(tmp_path):
    table = np.random.default_rng(1).normal([5, -100], [2, 50], (200, 2))
    np.savetxt(tmp_path / "t.csv", table, delimiter=",", header="a,b", comments="")
    done = run(
        tmp_path, "--data", tmp_path / "t.csv", "--epochs", 30, "--learning-rate", 0.01
    )
    assert done.returncode == 0, done.stderr
    for words in (
        "200 rows: 180 for training, 20 for test",
        "NOT better than independent columns",
    ):
        assert words in done.stdout
    assert done.stdout.index("NOT better") < done.stdout.index("figures/")
    assert "NOT better" in (tmp_path / "run" / "report.html").read_text()
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    # The entropy of the two columns, in the units of the file.
    entropy = stats.norm.entropy(scale=[2, 50]).sum()
    verdict = summary["verdict"]
    assert verdict["independent"] == pytest.approx(entropy, abs=1)
    assert summary["test"]["nll"]["mean"] == pytest.approx(verdict["model"])
    assert verdict["is_better"] is False and verdict["num_test_rows"] == 20
    assert (tmp_path / "run" / "figures" / "marginals.png").exists()
    with users_settings():
        numbers = gallery.write_gallery(gallery.Config(tmp_path / "run"))
        with pytest.raises(UsageError, match="a run on a table"):
            explore.explore(explore.Config(tmp_path / "run"))
    assert len(numbers["kl"]) == 2 and set(numbers["profiles"]["z1"]) == {"a", "b"}
    assert (tmp_path / "run" / "gallery" / "figures" / "profiles.png").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("array", "likelihood"),
    [
        (RNG.integers(0, 256, (60, 17, 16)).astype(np.uint8), "discretized_logistic"),
        (RNG.integers(0, 256, (60, 5, 4, 3)).astype(np.uint8), "bernoulli"),
        (RNG.poisson(4, (60, 3)), "poisson"),
    ],
    ids=["8-bit images", "colors as probabilities", "counts"],
)
def test_arrays_are_trained_on(tmp_path, array, likelihood):
    np.save(tmp_path / "a.npy", array)
    # Rows of numbers are a table, unless one likelihood is asked for.
    is_found = model_options.describe_array(array).likelihood == likelihood
    options = [] if is_found and array.ndim > 2 else ["--likelihood", likelihood]
    done = run(tmp_path, "--data", tmp_path / "a.npy", *options)
    assert done.returncode == 0, done.stderr
    assert f"likelihood used: {likelihood}" in done.stdout
    assert "independent columns" in done.stdout
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert np.isfinite(summary["test"]["nll"]["mean"])
    with users_settings():
        loaded = load_run(tmp_path / "run", with_data=False)
        back = loaded.decode_rows(loaded.encode_rows(array[:3]))
    # Of binarized pixels, the probabilities are levels of the file too.
    assert back.shape == (3, *array.shape[1:]) and back.dtype == array.dtype
    for name in ("schema.json", "embeddings.csv", "scores.csv", "samples.npy"):
        assert (tmp_path / "run" / name).exists()


@pytest.mark.parametrize("axes", ["table", "array"])
@pytest.mark.parametrize(
    ("values", "words"),
    [
        (1e300 * REAL, "standard deviation of inf in double precision"),
        (1e-300 * REAL, "standard deviation of 0 in double precision"),
        (with_value(1e300), "standard deviation of inf"),
        (np.where(REAL > 3, 1.7e308, 0.1), "standard deviation of inf"),
    ],
    ids=["huge", "tiny", "one is huge", "the sum overflows"],
)
def test_a_standard_deviation_out_of_range_is_named(values, words, axes):
    values = np.column_stack([REAL[:, :2], values[:, 2]])
    where = "column 3" if axes == "table" else "the data"
    if axes == "array":
        values = values[:, 2:, None]
    with pytest.raises(ValueError, match=f"{where}: values from .*{words}"):
        arrays.standardization(values)


def test_a_value_that_is_infinite_in_single_precision_is_named():
    test = REAL[:5].copy()
    test[2, 1] = 1e300
    with pytest.raises(ValueError, match=r"column 2 holds 1e\+300 in example 2"):
        arrays.prepare(REAL, test, None, "normal", model_options.describe_array(REAL))
    counts = np.where(REAL > 3, 1e60, 1.0)
    found = model_options.describe_array(counts)
    with pytest.raises(ValueError, match=r"holds 1e\+60 in example .* infinite"):
        arrays.prepare(counts, counts, None, "poisson", found)


def test_mistakes_name_the_fix(tmp_path):
    np.save(tmp_path / "a.npy", with_value(3.7))
    (tmp_path / "t.csv").write_text("x,y\n1,2\n3,no\n")
    (tmp_path / "two words.txt").write_text("words")
    np.savetxt(
        tmp_path / "c.csv",
        np.stack([REAL[:, 0], np.full(50, 0.1)], axis=1),
        delimiter=",",
    )
    for name, options, message in [
        (
            "a.npy",
            {"likelihood": "bernoulli"},
            "bernoulli is over 0 and 1: choose normal",
        ),
        ("t.csv", {"likelihood": "normal"}, "line 3: 'y' holds 'no'"),
        ("t.csv", {"likelihood": "bernoulli"}, "number; leave --likelihood out, and"),
        ("two words.txt", {}, "experiments.text --data '.*/two words.txt'$"),
        (
            "c.csv",
            {"likelihood": "normal"},
            "column 2 is 0.1 in every training example",
        ),
        ("a.npy", {"network": "convolutional"}, "take mlp"),
    ]:
        with pytest.raises(UsageError, match=message):
            own_data.make_experiment(
                own_data.Config(data=str(tmp_path / name), batch_size=16, **options)
            )
    with pytest.raises(UsageError, match="--data is missing; give the path"):
        own_data.make_experiment(own_data.Config())
