"""One array from a file; mistakes in tables name the line and the column."""

import numpy as np
import pytest

from vaejax import datasets

REAL = np.random.default_rng(0).normal(3, 2, (50, 4))


def table(path, text):
    path.write_text(text)
    return datasets.load_array(path)


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
        ("age,name\n3,\n", "line 2: 'name' is missing, which is no number"),
        ("1,2\n3,4,5\n", "line 2: 3 cells, and 2 in the first"),
        ("1,2\n3,nan\n", "line 2: 'column 2' is missing"),
        ("1,inf\n2,3\n", "line 1: 'column 2' holds inf"),
        ("", "is empty"),
        ("a,b\n", "a line of names and no other"),
    ],
)
def test_tables_that_are_wrong_name_the_line_and_the_column(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        table(tmp_path / "t.csv", text)


def test_files_of_one_array(tmp_path):
    np.save(tmp_path / "a.npy", REAL)
    assert isinstance(datasets.load_array(tmp_path / "a.npy"), np.memmap)
    np.savez(tmp_path / "a.npz", anything=REAL)
    np.testing.assert_array_equal(datasets.load_array(tmp_path / "a.npz"), REAL)
    with_nan = np.where(np.abs(REAL) > 1, np.nan, REAL)
    np.save(tmp_path / "nan.npy", with_nan)
    found = datasets.load_array(tmp_path / "nan.npy", allow_nan=True)
    np.testing.assert_array_equal(found, with_nan)
    np.save(tmp_path / "inf.npy", np.where(np.abs(REAL) > 1, np.inf, REAL))
    with pytest.raises(ValueError, match="holds inf in example"):
        datasets.load_array(tmp_path / "inf.npy", allow_nan=True)
    np.savez(tmp_path / "b.npz", one=REAL, two=REAL)
    (tmp_path / "c.npy").write_bytes(b"no array")
    (tmp_path / "c.npz").write_bytes((tmp_path / "a.npy").read_bytes())
    (tmp_path / "d.csv").write_bytes(b"\xff\xfe1,2")
    for name, message in [
        ("nan.npy", "holds nan in example"),
        ("b.npz", r"holds \['one', 'two'\]"),
        ("c.npy", "cannot be read as .npy"),
        ("c.npz", "cannot be read as .npz: it is a .npy file; rename it"),
        ("d.csv", "d.csv is not text in UTF-8"),
        ("none.csv", "there is no file"),
        ("a.txt", "there is no file"),
    ]:
        with pytest.raises(ValueError, match=message):
            datasets.load_array(tmp_path / name)
