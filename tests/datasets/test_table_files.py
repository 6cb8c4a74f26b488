"""Files of tables: delimiters, decimal signs, names; mistakes name their line."""

import gzip
import subprocess
import sys

import numpy as np
import pytest
from support.programs import ENVIRONMENT

from vaejax import datasets
from vaejax.datasets import _table_cells

ROWS = [[1.5, 2.0], [3.0, -4.25], [2.75, 8.0]]


def read(path, text, **options):
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return datasets.read_table(path, **options)


@pytest.mark.parametrize(
    ("suffix", "text"),
    [
        (".csv", "a,b\n1.5,2\n3,-4.25\n2.75,8\n"),
        (".csv", "a;b\n1.5;2\n3;-4.25\n2.75;8\n"),
        (".csv", "a|b\r\n1.5|2\r\n3|-4.25\r\n2.75|8\r\n"),
        (".csv", "\ufeffa\tb\n1.5\t2\n\n3\t-4.25\n2.75\t8\n\n"),
        (".tsv", "a\tb\n1.5\t2\n3\t-4.25\n2.75\t8\n"),
        (".csv", "a;b\n1,5;2\n3;-4,25\n2,75;8\n"),
        (".csv", 'a,b\n"1,5",2\n3,"-4,25"\n"2,75",8\n'),
        (".csv", "a , b\n 1.5, 2\n3 ,-4.25\n2.75,8\n"),
        (".csv", '"a","b"\n"1.5",2\n3,-4.25\n2.75,8'),
        (".csv.gz", gzip.compress(b"a,b\n1.5,2\n3,-4.25\n2.75,8\n", mtime=0)),
        (".tsv.gz", gzip.compress(b"a\tb\n1.5\t2\n3\t-4.25\n2.75\t8\n", mtime=0)),
    ],
)
def test_every_delimiter_and_decimal_sign_is_read(tmp_path, suffix, text):
    table = read(tmp_path / f"t{suffix}", text, kinds={"a": "real", "b": "real"})
    assert table.schema.names() == ("a", "b")
    np.testing.assert_array_equal(table.values, ROWS)


def test_cells_beyond_the_first_lines_may_be_of_another_type(tmp_path):
    text = "a,b\n" + "1,2\n3,4\n" * 700 + "1.5,?\n"
    table = read(tmp_path / "t.csv", text, kinds={"a": "real", "b": "real"})
    assert table.values[-1].tolist() == [1.5, 0.0]
    assert table.mask[-1].tolist() == [True, False]


def test_leading_zeros_are_text(tmp_path):
    text = "zip,x\n" + "01234,1.5\n20095,2.5\n" * 6
    table = read(tmp_path / "t.csv", text)
    assert table.schema.columns[0].classes == ("01234", "20095")
    assert table.schema.decode(table.values)["zip"][0] == "01234"


DECIMALS = "0.5,1.25,2.75\n2.5,3.5,4.5\n" * 4
WHOLE = "12,50,7\n15,41,9\n8,77,3\n" * 4


@pytest.mark.parametrize(
    ("first", "below", "names"),
    [
        ("0,1,2", DECIMALS, ("0", "1", "2")),
        ("0,1,2", WHOLE, ("0", "1", "2")),
        ("2019,2020,2021", DECIMALS, ("2019", "2020", "2021")),
        ("a,2020,2021", WHOLE, ("a", "2020", "2021")),
        ("3,60,4", WHOLE, None),
        ("1.5,2.5,3.5", WHOLE, None),
        ("1.5,2.5,3.5", DECIMALS, None),
        ("x,y,z", WHOLE, ("x", "y", "z")),
        ("x,y,z", "red,1,a\nblue,2,b\n" * 4, ("x", "y", "z")),
        ("red,1,a", "red,3,a\nblue,2,b\n" * 4, None),
    ],
)
def test_a_first_line_of_numbers_is_told_from_examples(tmp_path, first, below, names):
    options = {"kinds": {}}
    table = read(tmp_path / "t.csv", f"{first}\n{below}", **options)
    found = tuple(column.name for column in table.schema.columns)
    assert found == (names or ("column 1", "column 2", "column 3"))
    assert len(table.values) == below.count("\n") + (names is None)


@pytest.mark.parametrize(
    "text",
    [
        "2019,2020,2021\n" + WHOLE,
        "0,1,2\n" + "0,1,2\n2,0,1\n" * 4,
        "region,2019,2020\n" + "north,12,15\nsouth,13,7\n" * 4,
        "red,small\n" + "red,small\nblue,large\n" * 4,
    ],
)
def test_an_open_question_about_names_is_asked(tmp_path, text):
    with pytest.raises(
        ValueError, match="the first line, .*header=True .*--header yes"
    ):
        read(tmp_path / "t.csv", text)
    num_lines = text.count("\n")
    assert len(read(tmp_path / "t.csv", text, header=True).values) == num_lines - 1
    kinds = {} if text[0].isdigit() else {"column 1": "class"}
    found = read(tmp_path / "t.csv", text, header=False, kinds=kinds)
    assert len(found.values) == num_lines


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "t.csv is empty"),
        ("a,b\n", "a line of names and no other"),
        ("a,b\n1,2\n3,4,5\n", "line 3: 3 cells, and 2 in the first"),
        ("a,b,c\n1,2,3\n\n1,2\n", "line 4: 2 cells, and 3 in the first"),
        ('a,b\n"x\ny",1\nz\n', "line 4: 1 cell, and 2 in the first"),
        ("a,a\n1,2\n", "columns 1 and 2 are both named 'a'"),
        (b"a,b\n\xe9,2\n", r"not text in UTF-8 \(byte 0xe9\)"),
        ("a,b\n1,2\n3,4".encode("utf-16"), "not text in UTF-8"),
        ("height\n1,62\n1,80\n", "semicolons where the comma is the decimal sign"),
        ("a b\n1 2\n3 4\n", "separates cells by spaces"),
        ("a,b\n1,2\n\n3,inf\n", "line 4: 'b' holds inf"),
        ("a,b\n" + "7,2\n" * 20 + "\n1,Ann\n", "line 23: 'b' holds 'Ann', .*b=class"),
        ('a,b\n7,"1,234"\n8,"12,500"\n', "line 2: 'b' holds '1,234', which is no num"),
    ],
)
def test_what_is_wrong_names_the_line_and_the_column(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        read(tmp_path / "t.csv", text)


def test_files_that_are_no_tables_are_refused(tmp_path):
    for name, content, message in [
        (
            "t.csv.gz",
            gzip.compress(b"a,b\n" + b"1,2\n" * 999, mtime=0)[:35],
            "cannot be read",
        ),
        ("t.parquet", b"no parquet", "cannot be read as .parquet"),
        ("t.xlsx", b"", "is no table; give one of .csv"),
    ]:
        with pytest.raises(ValueError, match=message):
            read(tmp_path / name, content)
    with pytest.raises(datasets.DataUnavailableError, match="there is no file"):
        datasets.read_table(tmp_path / "none.csv")


def test_without_polars_there_is_one_sentence(tmp_path, monkeypatch):
    (tmp_path / "t.csv").write_text("a,b\n1,2\n")
    monkeypatch.setitem(sys.modules, "polars", None)
    for load in (datasets.read_table, datasets.load_array):
        with pytest.raises(
            datasets.DataUnavailableError, match=r"pip install 'vaejax\[tables\]'"
        ):
            load(tmp_path / "t.csv")
    # Arrays need none.
    assert datasets.read_table(np.eye(3) + np.arange(3.0)[:, None]).values.size


def test_the_first_example_may_hold_several_lines(tmp_path):
    text = '\n"l\nm",1.5\nx,2.5\nx,2.75\n'
    table = read(tmp_path / "t.csv", text, header=False)
    assert table.values.tolist() == [[0, 1.5], [1, 2.5], [1, 2.75]]


def late_numbers(number):
    """Lines whose cells are of other types than the first ones, and some blank."""
    x = ["NA", "2.5", "", "7"][number % 4] if number > 1100 else str(number % 9)
    word = ['"a\nb"', '"a,b"', "é", '"a""b"', ""][number % 5]
    return "" if number % 97 == 0 else f"{x},{number % 7 / 8},{word},{number % 2}"


@pytest.mark.parametrize("part_bytes", [1, 100, 5000])
@pytest.mark.parametrize("suffix", [".csv", ".csv.gz"])
def test_a_file_read_in_parts_is_the_same(tmp_path, monkeypatch, part_bytes, suffix):
    lines = [late_numbers(number) for number in range(1, 1400)]
    content = ("x,y,word,bit\n" + "\n".join(lines)).encode()
    content = gzip.compress(content, mtime=0) if suffix == ".csv.gz" else content
    whole = read(tmp_path / f"t{suffix}", content)
    assert whole.schema.names() == ("x", "y", "word", "bit")
    assert len(whole.values) == sum(map(bool, lines))
    numbers = [line.partition(",")[0] for line in lines if line]
    known = np.array([number not in ("NA", "") for number in numbers])
    np.testing.assert_array_equal(whole.mask[:, 0], known)
    found = whole.schema.decode(whole.values)["x"]
    expected = [float(number) if number[:1].isdigit() else 0 for number in numbers]
    np.testing.assert_array_equal(found[known], np.array(expected)[known])

    monkeypatch.setattr(_table_cells, "_PART_BYTES", part_bytes)
    parts = read(tmp_path / f"t{suffix}", content)
    assert parts.schema == whole.schema
    np.testing.assert_array_equal(parts.values, whole.values)
    np.testing.assert_array_equal(parts.mask, whole.mask)


def test_a_wrong_line_in_a_later_part_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(_table_cells, "_PART_BYTES", 100)
    lines = ["0.5,1.5", "2.5,4.5"] * 1000
    text = "\n".join(["a,b", *lines, "1,2,3", *lines])
    with pytest.raises(ValueError, match="line 2002: 3 cells, and 2 in the first"):
        read(tmp_path / "t.csv", text)
    text = "\n".join(["a,b", *lines, "1.5,Ann", *lines])
    with pytest.raises(ValueError, match="line 2002: 'b' holds 'Ann'"):
        read(tmp_path / "t.csv", text)


MEASURE = """
import sys
import jax
from experiments.harness.resources import peak_resident_bytes
import polars
from vaejax import datasets
jax.numpy.zeros(3).block_until_ready()
start = peak_resident_bytes()
table = datasets.read_table(sys.argv[1])
assert table.values.shape == (200_000, 20) and table.schema.columns[0].kind == "real"
print(peak_resident_bytes() - start)
"""


@pytest.mark.slow
@pytest.mark.parametrize("digits", [6, 17])
@pytest.mark.parametrize("text", ["0.5", "NA"])
@pytest.mark.parametrize("place", ["first", "last"])
def test_peak_memory_is_at_most_three_times_the_numbers(tmp_path, digits, text, place):
    numbers = np.random.default_rng(0).normal(size=(200_000, 20))  # 32 MB
    header = ",".join(f"c{j}" for j in range(20))
    with (tmp_path / "t.csv").open("w") as file:
        file.write(f"{header}\n")
        row = ",".join([text] * 20) + "\n"
        file.write(row if place == "first" else "")
        np.savetxt(file, numbers[:-1], f"%.{digits}g", ",")
        file.write(row if place == "last" else "")
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, tmp_path / "t.csv"],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=True,
    )
    # About 15 MB of it are pages of polars itself, which its first use reads.
    assert int(done.stdout) < 3 * numbers.nbytes
