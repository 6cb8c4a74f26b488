"""Tables in own_data: what is fitted to which rows, and the way back to the file."""

import csv
import dataclasses
import io

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.programs import users_settings

import vaejax
from experiments import own_data
from experiments.harness import verdict
from experiments.harness.errors import UsageError
from experiments.own import files, tables
from vaejax import datasets
from vaejax.distributions import Column, MaskedEvent, mixed_head

pytest.importorskip("polars", reason="tables are read with the extra `tables`")
NUM = 120
# The fixture that the tests share is made once, on one worker.
pytestmark = pytest.mark.xdist_group("tables")


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    rng = np.random.default_rng(0)
    rows = [["name", "age", "income", "smoker", "region"]]
    for i in range(NUM):
        age = "" if i % 10 == 3 else int(rng.integers(18, 90))
        income = f"{np.exp(rng.normal(10, 0.6)):.2f}"
        region = ["north", "south", "east"][rng.integers(3)]
        rows.append([f"person {i}", age, income, int(rng.integers(2)), region])
    path = tmp_path_factory.mktemp("own") / "people.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return path


def config(path, **options):
    small = {"hidden_size": 8, "latent_size": 2, "batch_size": 16, "num_samples": 4}
    return own_data.Config(data=str(path), **small | options)


def experiment(path, **options):
    with users_settings():
        found = own_data.make_experiment(config(path, **options))
    return found.arms[""], found.context


@pytest.fixture(scope="module")
def made(path):
    """The experiment and its context, 20 rows held out for validation."""
    return experiment(path, num_validation=20)


def test_scaling_knows_the_training_rows_alone(made):
    _, context = made
    rows = context.rows
    together = np.concatenate([rows["train"], rows["validation"], rows["test"]])
    assert sorted(together) == list(range(NUM))
    assert [len(rows[name]) for name in tables.PARTS] == [88, 20, 12]
    train = context.part("train")
    age = list(context.names).index("age")
    column = context.schema.modeled()[age]
    observed = train.values[train.mask[:, age], age]
    assert (column.shift, column.scale) == pytest.approx(
        (observed.mean(), observed.std()), rel=1e-5
    )
    everything = context.table.values[context.table.mask[:, age], age]
    assert column.shift != pytest.approx(everything.mean(), rel=1e-5)


def test_what_is_printed_names_kinds_and_shares(made):
    found, context = made
    text = "\n".join(found.notes)
    for words in (
        "88 for training, 20 for validation, 12 for test",
        "10.0%",
        "3 different texts",
    ):
        assert words in text
    kinds = {column.name: column.kind for column in context.schema.columns}
    assert kinds["name"] == "identifier" and kinds["region"] == "class"
    assert (kinds["age"], kinds["smoker"]) == ("real", "binary")


def test_kinds_are_overridden(path):
    columns = ("age=ignore,region=label", "smoker=real")
    with users_settings():
        table = tables.read(config(path, columns=columns))
    kinds = {column.name: column.kind for column in table.schema.columns}
    assert (kinds["age"], kinds["region"], kinds["smoker"]) == (
        "ignore",
        "label",
        "real",
    )
    assert set(table.ignored) == {"name", "region"}


def test_a_schema_is_written_edited_and_read(path, made, tmp_path):
    found, context = made
    schema = datasets.Schema.from_dict(found.records["schema.json"])
    assert schema == context.schema
    edited = datasets.Schema(
        tuple(
            dataclasses.replace(column, kind="ignore", step=0.0)
            if column.name == "age"
            else column
            for column in schema.columns
        )
    )
    edited.write(tmp_path / "edited.json")
    with users_settings():
        again = tables.read(config(path, schema=str(tmp_path / "edited.json")))
    assert "age" in schema.names() and "age" not in again.schema.names()


@pytest.mark.parametrize("has_schema", [False, True])
def test_what_counts_as_missing_is_kept_in_the_schema(path, made, tmp_path, has_schema):
    text = path.read_text().replace(",south", ",unknown")
    (tmp_path / "people.csv").write_text(text.replace(",,", ",-9,"))
    made[1].schema.write(tmp_path / "schema.json")
    options = {"schema": str(tmp_path / "schema.json")} if has_schema else {}
    options |= {"missing": ("-9, unknown",)}
    with users_settings():
        table = tables.read(config(tmp_path / "people.csv", **options))
    names = list(table.schema.names())
    age, region = (table.mask[:, names.index(name)] for name in ("age", "region"))
    np.testing.assert_array_equal(~age, np.arange(NUM) % 10 == 3)
    num_unknown = text.count("unknown")
    assert 0 < num_unknown == np.sum(~region)
    assert {"", "NA", "-9", "unknown"} < set(table.schema.missing)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"columns": ("age",)}, "names no kind; write NAME=KIND"),
        ({"columns": ("ago=real",)}, "did you mean 'age'"),
        ({"columns": ("age=number",)}, "the kind is 'number'"),
        ({"columns": ("age=real",), "likelihood": "normal"}, "--columns is for tables"),
        ({"missing": ("-9",), "likelihood": "normal"}, "--missing is for tables"),
        ({"network": "convolutional"}, "take mlp"),
        ({"num_validation": 108}, "--num-validation is 108"),
        ({"schema": "missing.json"}, "missing.json"),
    ],
)
def test_mistakes_name_the_fix(path, options, message):
    with pytest.raises(UsageError, match=message):
        experiment(path, **options)


def test_options_of_tables_are_refused_for_images(tmp_path):
    np.savez(tmp_path / "images.npz", np.zeros((20, 4, 4)))
    with pytest.raises(UsageError, match="--header is for tables"):
        experiment(tmp_path / "images.npz", header="yes")


def test_an_array_of_rows_is_a_table(tmp_path):
    rng = np.random.default_rng(0)
    rows = rng.normal(1e3, 5, (40, 3))
    rows[7, 1] = np.nan
    np.save(tmp_path / "a.npy", rows)
    found, context = experiment(tmp_path / "a.npy")
    assert np.argwhere(~context.table.mask).tolist() == [[7, 1]]
    assert list(context.names) == ["column 1", "column 2", "column 3"]
    xs = rng.normal(1e3, 5, (4, 3))
    with users_settings():
        examples = found.rows.examples_of(xs)
    np.testing.assert_allclose(
        np.stack(list(found.rows.rows_of(examples.values).values()), axis=1), xs, 1e-6
    )


@pytest.mark.slow
def test_the_model_starts_at_the_independent_columns(made):
    found, context = made
    test = context.part("test")
    with users_settings():
        params = found.vae.init(jax.random.key(0), found.example)
        start = jax.vmap(lambda x: found.vae.decode(params, jnp.zeros(2)).log_prob(x))(
            test
        )
        alone = verdict.log_probs(context.independent, test)
    # The decoder's last layer starts small, not at 0.
    assert np.mean(start) == pytest.approx(np.mean(alone), abs=1.0)


def test_the_model_comes_without_its_data(path, made):
    found, context = made
    record = found.records["schema.json"]
    with users_settings():
        alone = own_data.without_data(config(path), record)
        params = found.vae.init(jax.random.key(0), found.example)
        other = alone.vae.init(jax.random.key(1), alone.example)
        z = jnp.ones(2)
        np.testing.assert_array_equal(
            alone.vae.decode(params, z).mean, found.vae.decode(params, z).mean
        )
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, other)
    assert alone.rows.schema == context.schema


def test_new_rows_come_as_a_dict_of_columns(made):
    found, _ = made
    new = {
        "region": ["east", None],
        "age": [40, None],
        "smoker": [1, 0],
        "income": [22000.5, 9000.25],
    }
    with users_settings():
        examples = found.rows.examples_of(new)
        back = found.rows.rows_of(examples.values)
    assert examples.mask.sum() == 6
    assert back["age"][0] == 40 and back["region"][0] == "east"
    np.testing.assert_allclose(back["income"], new["income"], rtol=1e-6)


def test_outliers_are_warned_of(made):
    _, context = made
    values = context.table.values.copy()
    age = context.names.index("age")
    row = context.rows["train"][context.part("train").mask[:, age].argmax()]
    values[row, age] = 5000
    far = context._replace(table=context.table._replace(values=values))
    (warning,) = tables.scale_warnings(far)
    assert "warning: age: a value lies" in warning and "age=positive" in warning
    assert tables.scale_warnings(context) == []


def test_the_gain_of_a_column_is_that_of_its_likelihood():
    columns = (Column("real"), Column("real"))
    head = mixed_head(columns)
    # Column 1 is N(z, 1) given z ~ N(0, 1), column 2 does not know z.
    vae = vaejax.VAE(
        init=lambda key, x: (),
        encode=lambda params, x: vaejax.Normal(
            x.values[:1] / 2, jnp.full(1, jnp.log(0.5))
        ),
        prior=lambda params: vaejax.Normal(jnp.zeros(1), jnp.zeros(1)),
        decode=lambda params, z: head.apply((), jnp.array([1.0, 0.0, 0.0, 0.0]) * z[0]),
    )
    independent = head.apply((), jnp.array([0.0, jnp.log(2.0), 0.0, 0.0]))
    values = np.random.default_rng(0).normal(0, [2**0.5, 1], (4000, 2))
    mask = np.ones((4000, 2), bool)
    mask[:3000, 1] = False
    with users_settings():
        gains = verdict.column_gains(
            vae,
            (),
            jax.random.key(0),
            MaskedEvent(values.astype(np.float32), mask),
            independent,
            ["a", "b"],
            mask,
        )
    # E log N(x; z, 1) over the posterior less log N(x; 0, 2): 1/2 log 2 + 1/2 - 1/2.
    error = 4 / np.sqrt(4000)
    assert gains[0].gain == pytest.approx(0.5 * np.log(2), abs=error)
    assert gains[1].gain == pytest.approx(0, abs=1e-6)
    assert (gains[0].num_rows, gains[1].num_rows) == (4000, 1000)
    assert gains[0].alone == pytest.approx(0.5 * np.log(4 * np.pi) + 0.5, abs=error)


def test_a_file_of_columns_is_read_back():
    columns = {
        "a, b": np.array([0.1, np.nan], np.float32),
        "c": np.array(["x", 'say "y"'], object),
        "d": [3, None],
    }
    rows = list(csv.reader(io.StringIO(files.as_csv(columns).decode())))
    assert rows == [["a, b", "c", "d"], ["0.1", "x", "3"], ["", 'say "y"', ""]]
