"""Checks of tables and of data in units: values of their columns, and no warnings."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from support.cases import standard_promotion

import vaejax
from vaejax.datasets import _shared
from vaejax.distributions import AffineUnits, Column, LevelUnits, MaskedEvent
from vaejax.models import table_vae, with_units
from vaejax.training import check_data

COLUMNS = [
    Column("real", step=1.0, shift=2000.0, scale=9.0),
    Column("class", num_classes=3),
    Column("positive", shift=10.0, scale=0.5),
]
TABLE = table_vae(
    COLUMNS, latent_size=2, encoder=vaejax.MLP((4,)), decoder=vaejax.MLP((4,))
)
ROWS = np.float32([[1990, 0, 2e4], [2010, 2, 3e4], [1999, 1, 1e4], [2003, 1, 5e4]])
MASK = np.ones(ROWS.shape, bool)
MASK[1, 1] = MASK[2, 2] = False


@pytest.fixture
def params():
    return TABLE.init(jax.random.key(0), ROWS[0])


def with_hidden(number):
    return MaskedEvent(np.where(MASK, ROWS, number), MASK)


@pytest.mark.parametrize("xs", [ROWS, with_hidden(np.nan), with_hidden(-1.0)])
def test_a_table_passes_without_warnings_whatever_is_missing(params, xs):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_data(TABLE, params, xs)
        first = jax.tree.map(lambda leaf: leaf[1], xs)
        optimizer = standard_promotion(optax.adam(1e-3))
        vaejax.init_train_state(TABLE, optimizer, jax.random.key(0), first)


def test_an_observed_cell_that_is_no_value_of_its_column_is_named(params):
    bad = ROWS.copy()
    bad[3, 1] = 3
    with pytest.raises(ValueError, match=r"3.0 in example 3 .*\[3, 1\].*column 1"):
        check_data(TABLE, params, bad)
    with pytest.raises(ValueError, match=r"example 3"):
        check_data(TABLE, params, MaskedEvent(bad, MASK))
    with pytest.raises(ValueError, match=r"nan in example 0"):
        check_data(TABLE, params, MaskedEvent(np.full_like(bad, np.nan), MASK))
    hidden = MASK.copy()
    hidden[3, 1] = False
    check_data(TABLE, params, MaskedEvent(bad, hidden))


def test_tables_are_judged_in_parts(params, monkeypatch):
    monkeypatch.setattr(_shared, "_CHUNK_BYTES", ROWS[:1].nbytes)
    bad = ROWS.copy()
    bad[1, 1] = bad[3, 1] = 3
    check_data(TABLE, params, MaskedEvent(ROWS, MASK))
    # The cell of example 1 is hidden.
    with pytest.raises(ValueError, match=r"3.0 in example 3 .*\[3, 1\].*column 1"):
        check_data(TABLE, params, MaskedEvent(bad, MASK))
    optimizer = standard_promotion(optax.adam(1e-3))
    with pytest.raises(ValueError, match=r"x holds 3.0 \(at \[1\]\).*column 1"):
        vaejax.init_train_state(TABLE, optimizer, jax.random.key(0), bad[3])


def test_scales_are_judged_as_the_networks_see_them():
    inner = vaejax.gaussian_vae(
        latent_size=2,
        encoder=vaejax.MLP((4,)),
        decoder=vaejax.MLP((4,), (3, 2)),
        likelihood=vaejax.Normal,
    )
    xs = np.float32(np.random.default_rng(0).normal(2000, 10, (50, 3)))
    params = inner.init(jax.random.key(0), jnp.zeros(3))
    optimizer = standard_promotion(optax.adam(1e-3))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        vae = with_units(inner, AffineUnits(2000.0, 10.0))
        check_data(vae, params, xs)
        vaejax.init_train_state(vae, optimizer, jax.random.key(0), xs[0])
        levels = with_units(inner, LevelUnits(255))
        gray = np.random.default_rng(1).integers(0, 256, (50, 3), np.uint8)
        check_data(levels, params, gray)
    with pytest.warns(UserWarning, match="subtract the mean"):
        check_data(with_units(inner, AffineUnits(0.0, 10.0)), params, xs)
