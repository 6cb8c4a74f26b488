"""Kinds of columns are found from their values, and given ones are checked."""

import datetime

import numpy as np
import pandas as pd
import polars as pl
import pytest
import scipy.sparse

from vaejax import datasets

N = 2000
RNG = np.random.default_rng(0)
Z = RNG.normal(size=N)


def noise():
    return RNG.normal(size=N)


def one(values, **options):
    """The schema of a table of one column, and its values."""
    table = datasets.read_table(pd.DataFrame({"x": values}), **options)
    return table.schema.columns[0], table.values[:, 0]


AGE = np.clip(np.rint(45 + 12 * Z + 5 * noise()), 18, 90)
INCOME = np.minimum(np.rint(np.exp(10 + 0.4 * Z + 0.4 * noise())), 99_999)
HALVES = RNG.integers(1, 11, N) / 2


@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.uint16, np.float64, "str"])
def test_whole_numbers_are_not_counts_by_their_dtype(dtype):
    columns = {
        "age": AGE,
        "hours": np.clip(np.rint(40 + 8 * noise()), 1, 99),
        "year": RNG.integers(1990, 2021, N),
        "score": np.clip(np.rint(60 + 15 * Z + 8 * noise()), 0, 100),
    }
    frame = pd.DataFrame({k: v.astype(int).astype(dtype) for k, v in columns.items()})
    table = datasets.read_table(frame)
    assert [(c.kind, c.step, c.lower) for c in table.schema.columns] == [
        ("real", 1.0, -np.inf)
    ] * 4
    np.testing.assert_array_equal(table.values, np.stack([*columns.values()], 1))
    np.testing.assert_allclose(
        [c.shift for c in table.schema.modeled()],
        table.values.mean(0, np.float64),
        rtol=1e-9,
    )
    np.testing.assert_allclose(
        [c.scale for c in table.schema.modeled()],
        table.values.std(0, np.float64),
        rtol=1e-9,
    )


@pytest.mark.parametrize(
    ("values", "kind", "classes"),
    [
        (RNG.integers(0, 2, N), "binary", ("0", "1")),
        (RNG.integers(0, 2, N).astype(float), "binary", ("0", "1")),
        (RNG.random(N) < 0.3, "binary", ("false", "true")),
        (RNG.integers(0, 4, N), "ordinal", ("0", "1", "2", "3")),
        (RNG.integers(1, 3, N), "ordinal", ("1", "2")),
        (RNG.integers(1, 11, N), "real", ()),  # k is below 10
        (2 * RNG.integers(0, 4, N), "real", ()),  # not all are present
        (RNG.choice(["b", "a", None], N), "class", ("a", "b")),
        ([f"n{i}" for i in range(N)], "identifier", ()),
        ([f"n{i}" for i in RNG.integers(0, N, N)], "identifier", ()),
        (5 + 3 * np.arange(N), "identifier", ()),
        (np.arange(N) / 10, "identifier", ()),
        (-np.arange(N), "real", ()),
        (RNG.permutation(N), "real", ()),
        (RNG.negative_binomial(1, 0.2, N), "count", ()),
        (RNG.poisson(50, N), "real", ()),
        (1 + RNG.negative_binomial(1, 0.2, N), "real", ()),
        (RNG.normal(1.7, 0.1, N), "real", ()),
        (INCOME, "positive", ()),
        (RNG.exponential(size=N), "positive", ()),
        (AGE, "real", ()),
        (np.full(N, 3), "ignore", ()),
        ([0.3, 0.1 + 0.2] * (N // 2), "ignore", ()),
    ],
)
def test_kinds_are_found_from_values(values, kind, classes):
    frame = pd.DataFrame({"x": values, "other": noise()})
    column = datasets.read_table(frame).schema.columns[0]
    assert (column.kind, column.classes) == (kind, classes)
    assert column.reason


@pytest.mark.parametrize(
    ("values", "step", "origin"),
    [
        (AGE, 1.0, 0.0),
        (100 * RNG.integers(0, 99, N), 100.0, 0.0),
        (HALVES, 0.5, 0.0),
        (HALVES.astype(np.float32) / np.float32(5), 0.1, 0.0),
        (0.1 * RNG.integers(0, 50, N), 0.1, 0.0),  # 0.30000000000000004
        (HALVES + 0.25, 0.5, 0.25),
        (np.round(noise(), 2), 0.01, 0.0),
        (RNG.integers(0, 256, N) / 255, 1 / 255, 0.0),
        (noise(), 0.0, 0.0),
        (np.round(noise(), 6), 0.0, 0.0),  # a density is as good
        ([1.62, 1.80] * 5, 0.01, 0.0),  # two values make no lattice
        ([0.0, 50.0, 100.0] * 5, 50.0, 0.0),
        (1e-9 * RNG.integers(0, 5, N), 1e-9, 0.0),
    ],
)
def test_the_step_is_the_common_divisor_of_differences(values, step, origin):
    column, encoded = one(values, kinds={"x": "real"})
    assert column.step == pytest.approx(step, rel=1e-9)
    assert column.origin == pytest.approx(origin, abs=1e-9)
    if step:
        np.testing.assert_allclose(encoded / step, np.rint(encoded / step), atol=1e-3)


def test_large_offsets_are_subtracted_in_double_precision():
    seconds = 1.6e9 + RNG.integers(0, 10**6, N)
    column, encoded = one(seconds)
    np.testing.assert_array_equal(np.float64(encoded) + column.origin, seconds)
    np.testing.assert_array_equal(
        datasets.Schema((column,)).decode(encoded[:, None])["x"], seconds
    )
    far = 1e9 + RNG.normal(size=N)
    column, encoded = one(far)
    np.testing.assert_allclose(np.float64(encoded) + column.origin, far, atol=1e-6)


def test_an_index_is_left_out_and_carried_along(tmp_path):
    frame = pd.DataFrame({"a": noise(), "b": noise(), "c": noise()})
    frame.to_csv(tmp_path / "t.csv")
    table = datasets.read_table(tmp_path / "t.csv")
    assert table.values.shape == (N, 3)
    assert table.schema.names() == ("a", "b", "c")
    assert table.ignored == {"column 1": list(range(N))}
    for name in ("Unnamed: 0", "index", "customer_id", "ID"):
        shuffled = frame.assign(**{name: RNG.permutation(N)})
        assert list(datasets.read_table(shuffled).ignored) == [name]
    # A name alone decides nothing.
    repeated = frame.assign(id=RNG.integers(50, 90, N))
    assert "id" in datasets.read_table(repeated).schema.names()


def test_a_one_hot_block_is_one_class_column():
    block = np.eye(4)[RNG.integers(0, 4, N)]
    names = ["region_a", "x", "region_b", "region_c", "region_d", "y"]
    columns = [block[:, 0], RNG.random(N), *block[:, 1:].T, RNG.random(N)]
    table = datasets.read_table(np.stack(columns, 1), names=names)
    assert table.schema.names() == ("region", "x", "y")
    region = table.schema.columns[0]
    assert (region.kind, region.merged) == (
        "class",
        tuple(f"region_{k}" for k in "abcd"),
    )
    np.testing.assert_array_equal(table.values[:, 0], block.argmax(1))
    decoded = table.schema.decode(table.values)
    for name, column in zip(names, columns, strict=True):
        np.testing.assert_allclose(decoded[name], column, rtol=1e-6)
    # Side by side and without a common name, and two blocks beside each other.
    both = np.hstack([block, np.eye(3)[RNG.integers(0, 3, N)], RNG.random((N, 1))])
    table = datasets.read_table(both)
    assert [c.num_classes for c in table.schema.modeled()] == [4, 3, 0]
    # Columns of 0 and 1 that are no block stay as they are, and so do given ones.
    loose = RNG.integers(0, 2, (N, 3))
    assert datasets.read_table(loose).values.shape == (N, 3)
    kept = datasets.read_table(block, kinds={"column 1": "binary"})
    assert [c.kind for c in kept.schema.modeled()] == ["binary"] * 4
    block[7] = [1, 1, 0, 0]
    with pytest.raises(ValueError, match="row 7: of region_a, .* exactly one is 1"):
        datasets.Schema((region,)).encode_frame(
            pd.DataFrame(block, columns=list(region.merged))
        )


def single_cells():
    means = RNG.gamma(0.3, 1, 100)
    library = np.exp(RNG.normal(6, 1.5, (800, 1)))
    return RNG.poisson(library * means / means.sum() * RNG.gamma(1, 1, (800, 100)))


def test_tables_of_counts_and_sparse_matrices_have_counts():
    counts = single_cells()
    for matrix in (counts.astype(np.float32), scipy.sparse.csr_matrix(counts)):
        table = datasets.read_table(matrix)
        kept = counts.max(0) > counts.min(0)
        assert {c.kind for c in table.schema.modeled()} == {"count"}
        np.testing.assert_array_equal(table.values, counts[:, kept])
    with pytest.raises(ValueError, match="given as count and holds 0.5"):
        datasets.read_table(scipy.sparse.csr_matrix([[0.5, 0], [1, 1]]))


def test_missing_cells_are_a_mask(tmp_path):
    path = tmp_path / "t.csv"
    cells = ["1.5", "", "NA", "2.5", "nan", "N/A", "null", "NaN", "None", "?", "4.0"]
    path.write_text(
        "a,b,c\n" + "".join(f"{c},x{i % 2},7\n" for i, c in enumerate(cells))
    )
    table = datasets.read_table(path, kinds={"c": "label"})
    observed = [cell[:1].isdigit() for cell in cells]
    np.testing.assert_array_equal(table.mask[:, 0], observed)
    assert table.mask[:, 1].all()
    np.testing.assert_array_equal(
        table.values[:, 0],
        [
            float(c) if is_there else 0
            for c, is_there in zip(cells, observed, strict=True)
        ],
    )
    assert table.schema.columns[0].share_missing == pytest.approx(8 / 11)
    assert "72.7%" in table.schema.text()
    for empty in ("", "NA"):
        path.write_text(f"a,b\n1,{empty}\n2,{empty}\n3,{empty}\n")
        with pytest.raises(ValueError, match="'b' has no value in any row; .*b=ignore"):
            datasets.read_table(path)
    assert datasets.read_table(path, kinds={"b": "ignore"}).schema.names() == ("a",)


def test_given_kinds_replace_those_found():
    frame = pd.DataFrame({"r": RNG.integers(0, 4, N), "s": RNG.choice(["n", "y"], N)})
    table = datasets.read_table(frame, kinds={"r": "class", "s": "binary"})
    assert [(c.kind, c.classes) for c in table.schema.columns] == [
        ("class", ("0", "1", "2", "3")),
        ("binary", ("n", "y")),
    ]
    table = datasets.read_table(frame, kinds={"r": "label"})
    assert table.ignored["r"] == frame["r"].tolist() and table.values.shape == (N, 1)
    for kind, step in [("real", 1.0), ("count", 0.0)]:
        column = datasets.read_table(frame, kinds={"r": kind}).schema.columns[0]
        assert (column.kind, column.step) == (kind, step)


TEXTS = ["b", "a"] * 5
RAIN = np.where(RNG.random(N) < 0.5, 0, RNG.gamma(1, 1, N))


@pytest.mark.parametrize(
    ("values", "kinds", "message"),
    [
        (TEXTS, {"y": "class"}, "has no column 'y'; there are x"),
        (TEXTS, {"x": "klass"}, "column 'x': the kind is 'klass'; give one of real"),
        (TEXTS, {"x": "real"}, "given as real and holds 'a', .* x=class"),
        (TEXTS, {"x": "ordinal"}, "holds texts, whose order is not known"),
        ([1, 2, 0], {"x": "positive"}, "given as positive and holds 0; give x=real"),
        ([1, 2, -1], {"x": "count"}, "holds -1, which is no whole number"),
        ([1, 2, 3], {"x": "binary"}, "binary and holds 3 different values, such as 1"),
        ([1, 1, 1], {"x": "real"}, "'x' is 1 in every row"),
        ([0.3, 0.1 + 0.2], {"x": "real"}, "never varies but for rounding errors"),
        ([1, 1, 1], {}, r"no column that .*, 'x', is ignore \(1 in every row\); give"),
        ([1e300, 2e300, 5e300], {}, "single precision cannot hold; give the column in"),
        ([1e-300, 2e-300, 5e-300], {}, "single precision cannot hold"),
        (RAIN, {}, "is 0 in (49|5.)% of its cells, .* has no bound: round"),
        ([1.0, np.inf], {}, "row 1: 'x' holds inf; write a finite number"),
        ([datetime.date(2020, 1, d) for d in (1, 2, 1)], {}, "'x' holds dates, .*x=ig"),
        (["2020-01-05", "2020-01-05", "2020-01-07"], {}, "'x' holds dates"),
        (["1", "2"] * 9 + ["Ann"], {}, "row 18: 'x' holds 'Ann', which is no number"),
        ([[1], [2]], {}, "'x' holds|all different|given"),
    ],
)
def test_what_suits_no_likelihood_is_one_sentence(values, kinds, message):
    with pytest.raises(ValueError, match=message):
        datasets.read_table(pl.DataFrame({"x": values}), kinds=kinds)


def test_frames_of_polars_and_pandas_and_files_are_the_same(tmp_path):
    columns = {
        "age": AGE,
        "smoker": RNG.random(N) < 0.3,
        "region": RNG.choice(["n", "s", None], N),
        "rating": np.where(RNG.random(N) < 0.1, np.nan, HALVES),
    }
    frame = pd.DataFrame(columns)
    frame.to_csv(tmp_path / "t.csv", index=False)
    polars = pl.DataFrame({**columns, "region": columns["region"].tolist()})
    polars.write_parquet(tmp_path / "t.parquet")
    expected = datasets.read_table(frame)
    categorical = frame.astype({"region": "category"})
    files = (str(tmp_path / "t.csv"), tmp_path / "t.parquet")
    for other in (polars, polars.lazy().collect(), categorical, *files):
        found = datasets.read_table(other)
        np.testing.assert_array_equal(found.values, expected.values)
        np.testing.assert_array_equal(found.mask, expected.mask)
        kinds = [(c.kind, c.step, c.share_missing) for c in found.schema.columns]
        assert kinds == [
            (c.kind, c.step, c.share_missing) for c in expected.schema.columns
        ]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (
            np.zeros((3, 2, 2)),
            r"the array is float64 \[3, 2, 2\]; give numbers, one row",
        ),
        (np.array([["a"]]), "the array is <U1"),
        (np.zeros((0, 2)), "has 0 rows and 2 columns"),
        (pd.DataFrame(), "has 0 rows and 0 columns"),
    ],
)
def test_what_is_no_table_is_refused(table, message):
    with pytest.raises(ValueError, match=message):
        datasets.read_table(table)


def test_other_mistakes_are_refused():
    with pytest.raises(TypeError, match="the table is a list; give the path"):
        datasets.read_table([[1, 2]])
    with pytest.raises(ValueError, match="2 columns and 1 different names"):
        datasets.read_table(np.zeros((3, 2)), names=["a", "a"])
    table = datasets.read_table(AGE[:, None])
    with pytest.raises(ValueError, match="kinds and a schema are given"):
        datasets.read_table(AGE[:, None], kinds={"a": "real"}, schema=table.schema)
    with pytest.raises(TypeError, match="kinds is of type list; give a dict"):
        datasets.read_table(AGE[:, None], kinds=["real"])
    with pytest.raises(TypeError, match=r"missing is 'NA'; .*\['NA'\]"):
        datasets.read_table(AGE[:, None], missing="NA")


def test_numbers_stand_for_missing_cells_whatever_holds_them(tmp_path):
    rng, whole = np.random.default_rng(1), AGE.astype(int)
    ages = np.where(rng.random(N) < 0.2, -999, whole)
    words = np.array(["a", "b", "unknown"])[rng.integers(0, 3, N)]
    frame = pd.DataFrame({"age": ages, "height": ages / 2.0, "word": words})
    frame.loc[ages == -999, "height"] = -999.0
    frame.to_csv(tmp_path / "a.csv", index=False)
    mixed = frame.assign(age=frame["age"].astype(str).where(whole % 3 > 0, ""))
    mixed.to_csv(tmp_path / "mixed.csv", index=False)
    missing = ["", -999, "unknown"]
    for source in (frame, tmp_path / "a.csv"):
        table = datasets.read_table(source, missing=missing)
        np.testing.assert_array_equal(table.mask[:, 0], ages != -999)
        np.testing.assert_array_equal(table.mask[:, 1], ages != -999)
        np.testing.assert_array_equal(table.mask[:, 2], words != "unknown")
        assert table.values.min() >= 0 and table.schema.columns[2].classes == ("a", "b")
    blank = datasets.read_table(tmp_path / "mixed.csv", missing=missing).mask[:, 0]
    np.testing.assert_array_equal(blank, (ages != -999) & (whole % 3 > 0))
    array = datasets.read_table(np.stack([ages, whole], axis=1), missing=["-999"])
    np.testing.assert_array_equal(array.mask[:, 0], ages != -999)
    # New rows are read in the same way, from a schema that was written.
    array.schema.write(tmp_path / "schema.json")
    again = datasets.Schema.read(tmp_path / "schema.json")
    assert again == array.schema
    new = again.encode_frame(np.array([[-999.0, 3.0], [3.0, -999.0]]))
    assert new.mask.tolist() == [[False, True], [True, False]]
    record = again.as_dict() | {"missing": "-999"}
    with pytest.raises(
        ValueError, match="missing is '-999' in the schema; give a list"
    ):
        datasets.Schema.from_dict(record)


def test_cells_of_pandas_may_be_missing_in_any_way():
    which = RNG.integers(0, 3, N)
    whole = RNG.integers(0, 20, N)
    frame = pd.DataFrame(
        {
            "a": np.array([True, False, None], object)[which],
            "b": np.array([True, False, np.nan], object)[which],
            "c": pd.array(
                [None if k == 2 else v for k, v in zip(which, whole, strict=True)],
                "Int64",
            ),
            "d": np.where(which == 2, np.nan, whole),
            "e": np.ma.masked_array(whole, which == 2).filled(-1),
        }
    )
    table = datasets.read_table(frame)
    assert [c.kind for c in table.schema.columns] == ["binary"] * 2 + ["real"] * 3
    np.testing.assert_array_equal(
        table.mask, (which < 2)[:, None] | (np.arange(5) == 4)
    )
    np.testing.assert_array_equal(table.values[:, :2], (which == 0)[:, None] * [1, 1])
    masked = np.ma.masked_array(whole[:, None], (which == 2)[:, None])
    found = datasets.read_table(masked)
    np.testing.assert_array_equal(found.mask, ~masked.mask)
    np.testing.assert_array_equal(found.values, masked.filled(0))


def test_whole_numbers_that_single_precision_does_not_hold_are_texts():
    identifiers = RNG.integers(10**17, 10**18, N)
    table = datasets.read_table(pl.DataFrame({"i": identifiers, "x": noise()}))
    assert table.ignored["i"] == [str(i) for i in identifiers]
