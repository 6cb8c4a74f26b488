"""What an array holds, which likelihood suits it, and tables: each mistake named."""

import json

import numpy as np
import pytest
from support.programs import execute

import vaejax
from experiments import own_data
from experiments.harness import model_options
from experiments.harness.errors import UsageError
from vaejax import datasets

RNG = np.random.default_rng(0)
REAL = RNG.normal(3, 2, (50, 4))


def with_value(value):
    array = REAL.copy()
    array[17, 2] = value
    return array


@pytest.mark.parametrize(
    ("array", "likelihood"),
    [
        (RNG.integers(0, 2, (20, 5)).astype(bool), "bernoulli"),
        (RNG.integers(0, 2, (20, 5)), "bernoulli"),
        (RNG.integers(0, 2, (20, 4, 4)).astype(np.uint8), "bernoulli"),
        (RNG.integers(0, 2, (20, 4, 4)).astype(np.uint8) * 255, "bernoulli"),
        (RNG.integers(0, 256, (20, 4, 4)).astype(np.uint8), "discretized_logistic"),
        (np.array([[[0, 1, 255]]] * 4, np.uint8), "discretized_logistic"),
        (RNG.random((20, 4, 4)), "continuous_bernoulli"),
        (REAL, "normal"),
        (RNG.poisson(4, (2000, 5)), "poisson"),
        (RNG.poisson(4, (2000, 5)).astype(np.float32), "poisson"),
        (RNG.negative_binomial(2, 0.2, (2000, 5)), "negative_binomial"),
        (RNG.integers(-5, 5, (20, 4)), "normal"),
        (RNG.integers(10**8, 2 * 10**8, (20, 4)), "normal"),
    ],
)
def test_the_likelihood_suits_the_values(array, likelihood):
    description = model_options.describe_array(array)
    assert (
        description.likelihood == likelihood and likelihood in model_options.LIKELIHOODS
    )
    assert description[:3] == (len(array), array.shape[1:], str(array.dtype))
    assert (description.minimum, description.maximum) == (array.min(), array.max())
    assert (
        likelihood in description.text()
        and str(list(array.shape[1:])) in description.text()
    )


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (with_value(np.nan), r"holds nan in example 17 \(at \[17, 2\]\)"),
        (with_value(-np.inf), r"holds -inf in example 17"),
        (np.array([["a", "b"]]), "not numbers"),
        (np.array([[1, None]]), "holds object, not numbers"),
        (np.ma.masked_invalid(with_value(np.nan)), "masked array"),
        (REAL.astype(">f8"), "not numbers of this machine"),
        (np.ones(5), r"shape \[5\]"),
        (np.ones((0, 3)), r"shape \[0, 3\]"),
    ],
)
def test_what_is_no_array_of_numbers_is_refused(array, message):
    for check in (model_options.describe_array, datasets.from_array):
        with pytest.raises(ValueError, match=message):
            check(array)


def test_from_array_takes_any_shape_and_checks_labels():
    data = datasets.from_array(REAL, labels=np.arange(50))
    assert data.images is REAL and len(data.labels) == 50
    with pytest.raises(ValueError, match="give 50 integer classes"):
        datasets.from_array(REAL, labels=np.arange(49))


@pytest.mark.parametrize(
    ("array", "likelihood", "message"),
    [
        (
            with_value(3.7).round(1),
            "bernoulli",
            "bernoulli is over 0 and 1: choose normal",
        ),
        (
            np.array([[0, 1], [2, 0]]),
            "bernoulli",
            r"holds 2 in example 1 \(at \[1, 0\]\).*choose poisson",
        ),
        (REAL, "continuous_bernoulli", r"over values in \[0, 1\]"),
        (REAL, "poisson", "over counts"),
        (np.array([[0.5, 0.1]]), "discretized_logistic", "8-bit intensities"),
    ],
)
def test_a_likelihood_that_does_not_suit_is_refused(array, likelihood, message):
    with pytest.raises(ValueError, match=message):
        model_options.check_suits(array, likelihood)


def test_every_suitable_likelihood_suits():
    pixels = RNG.integers(0, 256, (9, 4, 4)).astype(np.uint8)
    for array in (
        pixels,
        pixels // 128 * 255,
        REAL,
        RNG.integers(0, 2, (9, 2)),
        RNG.poisson(3, (9, 2)),
        RNG.random((9, 2)),
    ):
        model_options.check_suits(array, model_options.describe_array(array).likelihood)


# tables


def table(path, text):
    path.write_text(text)
    return vaejax.datasets.load_array(path)


def test_tables_with_and_without_names(tmp_path):
    expected = [[1.5, 2.0], [3.0, -4.0]]
    for text in (
        "a,b\n1.5,2\n3,-4\n",
        "1.5;2\n3;-4\n",
        "\ufeffa\tb\n1.5\t2\n\n3\t-4\n",
    ):
        found = table(tmp_path / "t.csv", text)
        assert found.dtype == np.float64
        np.testing.assert_array_equal(found, expected)
    assert table(tmp_path / "t.csv", "1,2\n3,4\n").dtype == np.int64


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("age,name\n3,4\n5,Ann\n", "line 3: 'name' holds 'Ann', which is no number"),
        ("age,name\n3,\n", "line 2: 'name' is empty"),
        ("1,2\n3,4,5\n", "line 2: 3 cells, and 2 in the first"),
        ("1,2\n3,nan\n", "holds nan in example 1"),
        ("1,inf\n2,3\n", "holds inf in example 0"),
        ("", "is empty"),
        ("a,b\n", "a line of names and no other"),
    ],
)
def test_tables_that_are_wrong_name_the_line_and_the_column(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        table(tmp_path / "t.csv", text)


def test_files_of_one_array(tmp_path):
    np.save(tmp_path / "a.npy", REAL)
    assert isinstance(vaejax.datasets.load_array(tmp_path / "a.npy"), np.memmap)
    np.savez(tmp_path / "a.npz", anything=REAL)
    np.testing.assert_array_equal(vaejax.datasets.load_array(tmp_path / "a.npz"), REAL)
    np.savez(tmp_path / "b.npz", one=REAL, two=REAL)
    (tmp_path / "c.npy").write_bytes(b"no array")
    (tmp_path / "c.npz").write_bytes((tmp_path / "a.npy").read_bytes())
    (tmp_path / "d.csv").write_bytes(b"\xff\xfe1,2")
    for name, message in [
        ("b.npz", r"holds \['one', 'two'\]"),
        ("c.npy", "cannot be read as .npy"),
        ("c.npz", "cannot be read as .npz: it is a .npy file; rename it"),
        ("d.csv", "cannot be read as a table in UTF-8"),
        ("none.csv", "there is no file"),
        ("a.txt", "there is no file"),
    ]:
        with pytest.raises(ValueError, match=message):
            vaejax.datasets.load_array(tmp_path / name)


def test_split_is_fixed_and_disjoint():
    train, test = vaejax.datasets.split_indices(105)
    assert len(test) == 10 and sorted([*train, *test]) == list(range(105))
    np.testing.assert_array_equal(vaejax.datasets.split_indices(105)[1], test)
    with pytest.raises(ValueError, match="3 examples; give at least 4"):
        vaejax.datasets.split_indices(3)


# the program

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
        "180 examples of shape [2], float64",
        "suitable likelihood: normal",
        "20 examples",
        "standardized",
    ):
        assert words in done.stdout
    test = json.loads((tmp_path / "run" / "summary.json").read_text())["test"]
    # A standard normal in two dimensions has 2.84 nats, and this one 7.4 as it stands.
    assert 1.8 < test["nll"]["mean"] < 5
    assert (tmp_path / "run" / "figures" / "marginals.png").exists()


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
    options = (
        []
        if likelihood == model_options.describe_array(array).likelihood
        else ["--likelihood", likelihood]
    )
    done = run(tmp_path, "--data", tmp_path / "a.npy", *options)
    assert done.returncode == 0, done.stderr
    assert f"taken: {likelihood}" in done.stdout
    assert np.isfinite(
        json.loads((tmp_path / "run" / "summary.json").read_text())["test"]["nll"][
            "mean"
        ]
    )


def test_mistakes_name_the_fix(tmp_path):
    np.save(tmp_path / "a.npy", with_value(3.7))
    (tmp_path / "t.csv").write_text("x,y\n1,2\n3,no\n")
    (tmp_path / "t.txt").write_text("words")
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
        ("t.csv", {}, "line 3: 'y' holds 'no'"),
        ("t.txt", {}, "experiments.text"),
        ("c.csv", {}, "column 2 is 0.1 in every training example"),
        ("a.npy", {"network": "convolutional"}, "take mlp"),
    ]:
        with pytest.raises(UsageError, match=message):
            own_data.make_experiment(
                own_data.Config(data=str(tmp_path / name), batch_size=16, **options)
            )
