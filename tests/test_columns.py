"""Columns are plain, hashable and checked; rows with missing cells are pytrees."""

import math

import jax
import numpy as np
import pytest

from vaejax.distributions import Column, MaskedEvent


def test_columns_are_equal_and_hash_by_their_numbers():
    one, other = (Column("ordinal", num_classes=4) for _ in range(2))
    assert one == other and hash(one) == hash(other)
    assert one != Column("ordinal", num_classes=5)


def test_a_masked_event_is_a_pytree_of_two_arrays():
    row = MaskedEvent(np.array([1.5, 0.0], np.float32), np.array([True, False]))
    batch = jax.tree.map(lambda *leaves: np.stack(leaves), row, row)
    assert batch.values.shape == batch.mask.shape == (2, 2)


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("label", {}, "the kind is 'label'; give one of real, positive, binary"),
        ("class", {}, "num_classes is 0; give a finite number from 2 on"),
        ("class", {"num_classes": 2.5}, "num_classes is 2.5; give a whole number"),
        ("real", {"num_classes": 2}, "num_classes is 2 and the kind real"),
        ("real", {"step": -1.0}, "step is -1.0; give a finite number from 0 on"),
        ("real", {"shift": math.nan}, "shift is nan"),
        ("positive", {"scale": 0.0}, "scale is 0.0; give a finite number above 0"),
        ("real", {"step": 1.0, "lower": 2.0, "upper": 2.0}, "lower is 2.0 and upper 2"),
        ("real", {"lower": 0.0}, "without a step"),
        ("count", {"step": 1.0}, "the kind is count, which takes no step"),
    ],
)
def test_what_no_column_can_be_is_refused(kind, options, message):
    with pytest.raises(ValueError, match=message):
        Column(kind, **options)
