"""A schema takes rows to the model and back, and is written, edited and read."""

import dataclasses
import json

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from vaejax import datasets

N = 400
RNG = np.random.default_rng(1)
FRAME = pd.DataFrame(
    {
        "id": np.arange(N),
        "age": RNG.integers(18, 90, N),
        "price": np.round(RNG.normal(20, 5, N), 2),
        "income": np.exp(RNG.normal(10, 0.6, N)),
        "smoker": RNG.integers(0, 2, N),
        "owner": RNG.random(N) < 0.5,
        "region": RNG.choice(["north", "south", "été"], N),
        "grade": RNG.integers(1, 6, N),
        "visits": RNG.negative_binomial(1, 0.2, N),
        "time": 1.6e9 + RNG.integers(0, 10**6, N),
    }
)
TABLE = datasets.read_table(FRAME)
SCHEMA = TABLE.schema


def column(name, **changes):
    (found,) = [each for each in SCHEMA.columns if each.name == name]
    return dataclasses.replace(found, **changes)


def test_rows_come_back_in_the_units_of_the_file(tmp_path):
    decoded = SCHEMA.decode(TABLE.values)
    assert list(decoded) == list(FRAME.columns[1:])
    for name in ("age", "smoker", "grade", "visits", "time"):
        assert decoded[name].dtype == np.int64
        np.testing.assert_array_equal(decoded[name], FRAME[name])
    np.testing.assert_array_equal(decoded["price"], FRAME["price"])
    np.testing.assert_array_equal(decoded["region"], FRAME["region"])
    np.testing.assert_array_equal(decoded["owner"] == "true", FRAME["owner"])
    np.testing.assert_allclose(decoded["income"], FRAME["income"], rtol=1e-7)
    SCHEMA.to_csv(TABLE.values, tmp_path / "out.csv", extra=TABLE.ignored)
    again = datasets.read_table(tmp_path / "out.csv", schema=SCHEMA)
    np.testing.assert_array_equal(again.values, TABLE.values)
    assert again.ignored == TABLE.ignored == {"id": list(range(N))}


def test_values_between_steps_and_classes_are_rounded():
    values = TABLE.values[:1] + 0.3
    decoded = SCHEMA.decode(values)
    np.testing.assert_array_equal(decoded["age"], FRAME["age"][:1])
    np.testing.assert_array_equal(decoded["region"], FRAME["region"][:1])
    assert decoded["price"][0] == round(FRAME["price"][0] + 0.3, 2)
    far = SCHEMA.decode(np.full((1, 9), -100.0))
    assert far["visits"][0] == 0 and far["grade"][0] == 1


def test_missing_cells_are_written_empty(tmp_path):
    mask = RNG.random(TABLE.values.shape) < 0.7
    SCHEMA.to_csv(TABLE.values, tmp_path / "out.csv", mask=mask)
    again = SCHEMA.encode_frame(tmp_path / "out.csv")
    np.testing.assert_array_equal(again.mask, mask)
    np.testing.assert_array_equal(again.values, np.where(mask, TABLE.values, 0))


def test_new_rows_are_encoded_by_the_same_schema(tmp_path):
    new = FRAME.iloc[[5, 3]][FRAME.columns[::-1]].drop(columns="id")
    np.testing.assert_array_equal(SCHEMA.encode_frame(new).values, TABLE.values[[5, 3]])
    # Two rows alone would have other kinds, and a column of nothing is missing.
    new["grade"] = np.nan
    new.to_csv(tmp_path / "new.csv", index=False)
    found = datasets.read_table(tmp_path / "new.csv", schema=SCHEMA)
    grade = SCHEMA.names().index("grade")
    assert found.mask.sum(0).tolist() == [0 if j == grade else 2 for j in range(9)]
    assert found.ignored == {}
    # Other texts of missing cells are given again.
    unknown = new.assign(grade=["-", "2"])
    for read in (
        lambda: SCHEMA.encode_frame(unknown, missing=["-"]),
        lambda: datasets.read_table(unknown, schema=SCHEMA, missing=["-"]),
    ):
        assert read().mask[:, grade].tolist() == [False, True]
    # Numbers of classes may be written as floats, and truth in capitals.
    other = new.assign(grade=[2.0, 5.0], owner=["True", "FALSE"])
    encoded = SCHEMA.encode_frame(other).values
    assert encoded[:, grade].tolist() == [1, 4]
    assert encoded[:, SCHEMA.names().index("owner")].tolist() == [1, 0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"region": "west"},
            "row 0: 'region' holds 'west', which is none of its class",
        ),
        (
            {"grade": 7},
            "'grade' holds '7', which is none of its classes '1', '2', '3', '4', '5'",
        ),
        ({"age": "old"}, "'age' holds 'old', and the schema has a column of numbers"),
        ({"income": -1.0}, "'income' holds -1, and its kind is positive"),
        ({"visits": 0.5}, "'visits' holds 0.5, and its kind is count"),
        ({"smoker": 2}, "'smoker' holds '2', which is none of its classes '0', '1'"),
        ({"age": 1e300}, "which single precision cannot hold"),
    ],
)
def test_new_rows_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        SCHEMA.encode_frame(FRAME[:3].assign(**changes))


def test_a_column_that_is_missing_is_named(tmp_path):
    with pytest.raises(ValueError, match="has no column 'age'; there are id, price"):
        SCHEMA.encode_frame(FRAME.drop(columns="age"))
    FRAME[:3].rename(columns={"price": "prize"}).to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(ValueError, match="no column 'price'; did you mean 'prize'"):
        SCHEMA.encode_frame(tmp_path / "t.csv")
    (tmp_path / "t.csv").write_text("grade,region\n1,north\n3,west\n")
    schema = datasets.Schema((column("grade"), column("region")))
    with pytest.raises(ValueError, match="t.csv, line 3: 'region' holds 'west'"):
        schema.encode_frame(tmp_path / "t.csv")


def test_shift_and_scale_are_those_of_the_training_rows():
    values, mask = TABLE.values[:50], RNG.random((50, 9)) < 0.8
    noise = np.where(mask, values, 1e6)
    found = SCHEMA.fitted(noise, mask).modeled()
    transforms = {"real": np.asarray, "positive": np.log, "count": np.log1p}
    for j, each in enumerate(found):
        expected = (0.0, 1.0)
        if each.kind in transforms:
            x = transforms[each.kind](values[mask[:, j], j].astype(np.float64))
            expected = (x.mean(), x.std())
        np.testing.assert_allclose((each.shift, each.scale), expected, rtol=1e-12)
    constant = np.repeat(values[:1], 5, axis=0)
    constant_income = values.copy()
    constant_income[:, SCHEMA.names().index("income")] = 7
    assert (
        datasets.Schema((column("age"),)).fitted(constant[:, :1]).columns[0].scale == 1
    )
    with pytest.raises(ValueError, match="'income' never varies in the training rows"):
        SCHEMA.fitted(constant_income)
    with pytest.raises(ValueError, match="'age' has no value in any training row"):
        SCHEMA.fitted(values, np.zeros(values.shape, bool))


def test_a_schema_is_written_and_read(tmp_path):
    path = tmp_path / "schema.json"
    SCHEMA.write(path)
    assert datasets.Schema.read(path) == SCHEMA
    assert "été" in path.read_text(encoding="utf-8")
    edited = json.loads(path.read_text(encoding="utf-8"))
    (region,) = [c for c in edited["columns"] if c["name"] == "region"]
    region |= {"kind": "ordinal", "classes": ["south", "été", "north"]}
    (age,) = [c for c in edited["columns"] if c["name"] == "age"]
    age |= {"lower": 18, "upper": 89}
    path.write_text(json.dumps(edited))
    schema = datasets.Schema.read(path)
    names = schema.names()
    assert schema.modeled()[names.index("region")].kind == "ordinal"
    assert schema.modeled()[names.index("age")].lower == 18.0
    table = datasets.read_table(FRAME, schema=schema)
    order = np.array(["south", "été", "north"])
    found = order[table.values[:, names.index("region")].astype(int)]
    np.testing.assert_array_equal(found, FRAME["region"])
    with pytest.raises(
        ValueError, match="'age' holds 95, .*; give a number from 18 to 8"
    ):
        datasets.read_table(FRAME[:2].assign(age=95), schema=schema)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "klass"}, "column 'age': the kind is 'klass'; give one of"),
        ({"kind": 3}, "column 'age': kind is 3; give a text"),
        ({"kind": "class"}, r"the kind is class and its classes are \[\]; give at lea"),
        ({"kind": "binary", "classes": ["a", "b", "c"]}, "give two"),
        ({"kind": "class", "classes": ["a", "a"]}, "two of its classes are equal"),
        ({"classes": ["a", "b"]}, "the kind is real, which has no classes"),
        (
            {"kind": "class", "classes": [1, 2]},
            r"classes is \[1, 2\]; give a list of",
        ),
        ({"step": "1"}, "step is '1'; give a number"),
        ({"step": -1}, "column 'age': step is -1.0; give a finite number from 0"),
        ({"scale": 0}, "column 'age': scale is 0.0; give a finite number above 0"),
        ({"lower": 90, "upper": 18}, "lower is 90.0 and upper 18.0"),
        ({"step": 0, "lower": 0}, "without a step"),
        ({"sted": 1}, "has the field 'sted', which there is not; did you mean 'step'"),
        ({"name": "price"}, "two columns of the schema are named 'price'"),
        ({"merged": ["a"]}, "it merges 1 columns"),
    ],
)
def test_a_wrong_edit_is_one_sentence(tmp_path, change, message):
    values = SCHEMA.as_dict()
    values["columns"][1] |= change
    (tmp_path / "schema.json").write_text(json.dumps(values))
    with pytest.raises(ValueError, match=f"schema.json: .*{message}"):
        datasets.Schema.read(tmp_path / "schema.json")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "schema.json, line 1: Expecting property name"),
        ("[]", "a schema has a list of columns"),
        ('{"format": 1, "columns": [3]}', "a column is 3"),
        ('{"format": 9, "columns": []}', "has the format 9; give 1"),
        ('{"format": 1, "columns": []}', "no column of the schema is modeled"),
        (None, "cannot be read"),
    ],
)
def test_what_is_no_schema_is_one_sentence(tmp_path, text, message):
    path = tmp_path / "schema.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ValueError, match=message):
        datasets.Schema.read(path)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            np.zeros((2, 3)),
            r"float64 \[2, 3\]; give numbers, one row per .* \(9 in all",
        ),
        (np.zeros(9), r"float64 \[9\]"),
        (np.full((2, 9), np.nan), "values hold nan in row 0, column 'age'"),
        (np.full((2, 9), "a"), "values are <U1"),
    ],
)
def test_rows_of_another_shape_are_refused(tmp_path, values, message):
    with pytest.raises(ValueError, match=message):
        SCHEMA.decode(values)
    with pytest.raises(ValueError, match=message):
        SCHEMA.to_csv(values, tmp_path / "out.csv")


def test_other_mistakes_are_refused(tmp_path):
    with pytest.raises(
        ValueError, match="extra column 'id' has 1 cells and there are 4"
    ):
        SCHEMA.to_csv(TABLE.values, tmp_path / "out.csv", extra={"id": [1]})
    with pytest.raises(ValueError, match=r"the mask is bool \[3\] and the values"):
        SCHEMA.fitted(TABLE.values, np.ones(3, bool))


def test_the_text_has_reasons_alternatives_and_the_flag():
    lines = SCHEMA.text().splitlines()
    assert len(lines) == len(SCHEMA.columns) + 2
    assert lines[0].split() == ["column", "kind", "missing", "why"]
    assert lines[1].startswith("id      identifier  none     an index")
    assert lines[8].endswith("from 1 to 5, all present (else grade=class)")
    assert "--columns NAME=KIND" in lines[-1]


@pytest.mark.parametrize("as_cells", [list, np.asarray, jnp.asarray])
def test_a_dict_of_columns_is_a_frame(as_cells):
    names = ["age", "price", "smoker", "grade"]
    new = {name: as_cells(np.asarray(FRAME[name][:20])) for name in names}
    schema = datasets.Schema(tuple(column(name) for name in names))
    expected = schema.encode_frame(FRAME[:20])
    for found in (schema.encode_frame(new), datasets.read_table(new, schema=schema)):
        np.testing.assert_allclose(found.values, expected.values, rtol=1e-6)
    missing = schema.encode_frame(new | {"age": [None, *range(19)]})
    assert not missing.mask[0, 0] and missing.mask.sum() == 79
    kinds = [each.kind for each in datasets.read_table(new).schema.columns]
    assert kinds[0] == "real" and kinds[2] == "binary"
    with pytest.raises(ValueError, match="the dict is no table"):
        schema.encode_frame(new | {"age": [1, 2]})


def test_an_array_of_jax_is_an_array():
    rows = np.float32(RNG.normal(size=(50, 2)))
    table = datasets.read_table(jnp.asarray(rows), names=["a", "b"])
    np.testing.assert_array_equal(table.values, rows)
    found = table.schema.encode_frame(jnp.asarray(rows[:9]))
    np.testing.assert_array_equal(found.values, rows[:9])


def test_header_and_delimiter_are_those_given_beside_a_schema(tmp_path):
    schema = datasets.Schema((column("price"), column("grade")))
    path = tmp_path / "t.csv"
    path.write_text("price|grade\n1.5|2\n2.5|3\n")
    found = datasets.read_table(path, schema=schema, delimiter="|")
    assert found.values.shape == (2, 2)
    with pytest.raises(ValueError, match="has no column 'price'"):
        datasets.read_table(path, schema=schema, header=False, delimiter="|")
    unnamed = datasets.Schema((dataclasses.replace(column("price"), name="column 1"),))
    path.write_text("column 1,other\n1.5,2\n2.5,3\n")
    assert unnamed.encode_frame(path, header=True).values.shape == (2, 1)


def test_files_without_names_and_arrays_are_encoded_again(tmp_path):
    rows = np.stack([np.full(N, 3), FRAME["age"], RNG.normal(size=N)], axis=1)
    np.savetxt(tmp_path / "t.csv", rows, delimiter=",", fmt="%.6f")
    table = datasets.read_table(tmp_path / "t.csv")
    assert table.schema.names() == ("column 2", "column 3")
    np.savetxt(tmp_path / "new.csv", rows[7:9], delimiter=",", fmt="%.6f")
    table.schema.to_csv(table.values[7:9], tmp_path / "again.csv")
    files = (tmp_path / "new.csv", tmp_path / "again.csv")
    for new in (*files, np.round(rows[7:9], 6)):
        np.testing.assert_array_equal(
            table.schema.encode_frame(new).values, table.values[7:9]
        )
    # Columns of a block that do not stand side by side keep their places.
    block = np.eye(3)[RNG.integers(0, 3, N)]
    rows = np.stack([block[:, 0], RNG.normal(size=N), *block[:, 1:].T], axis=1)
    table = datasets.read_table(rows)
    assert table.values.shape == (N, 2)
    found = table.schema.encode_frame(rows[:9]).values
    np.testing.assert_array_equal(found, table.values[:9])
    names = ["r_a", "x", "r_b", "r_c"]
    named = datasets.read_table(rows, names=names)
    found = named.schema.encode_frame(rows[:9], names=names).values
    np.testing.assert_array_equal(found, named.values[:9])
    with pytest.raises(ValueError, match="does not know their places; give names"):
        named.schema.encode_frame(rows[:9])
    with pytest.raises(ValueError, match="names are given for a table that has them"):
        SCHEMA.encode_frame(FRAME, names=list(FRAME))


def test_steps_that_are_no_decimal_numbers_come_back():
    levels = RNG.integers(0, 256, (N, 1)) / 255
    table = datasets.read_table(levels)
    decoded = table.schema.decode(table.values)["column 1"]
    np.testing.assert_allclose(decoded[:, None], levels, rtol=1e-14)


def test_numbers_beyond_those_of_the_file_are_decoded():
    schema = datasets.Schema((column("visits"), column("income", step=5.0)))
    decoded = schema.decode([[1e30, 0.01]])
    assert decoded["visits"].tolist() == [1e30] and decoded["income"].tolist() == [5]
