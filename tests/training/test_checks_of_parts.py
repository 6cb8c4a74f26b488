"""Checks of examples of several parts: each by its own likelihood, if it is seen."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from support.cases import standard_promotion

import vaejax
from vaejax.distributions import Column, Joint, LogNormal, MaskedEvent, mixed_head
from vaejax.training import check_data

COLUMNS = mixed_head([Column("class", num_classes=3), Column("real")])
NUM = 6
MODEL = vaejax.VAE(
    init=lambda key, x: jnp.zeros(()),
    encode=lambda params, x: vaejax.Normal(jnp.zeros(2) * params, jnp.zeros(2)),
    prior=lambda params: vaejax.Normal(jnp.zeros(2), jnp.zeros(2)),
    decode=lambda params, z: Joint(
        {
            "image": vaejax.Bernoulli(jnp.zeros((2, 2))),
            "label": vaejax.Categorical(jnp.zeros(4)),
            "row": COLUMNS.apply((), jnp.zeros(COLUMNS.num_outputs)),
            "sizes": (LogNormal(jnp.zeros(3), jnp.zeros(3)),),
        }
    ),
)
RANDOM = np.random.default_rng(0)
SEEN = np.arange(NUM) % 2 == 0


def data():
    return {
        "image": RANDOM.integers(0, 2, (NUM, 2, 2)).astype(np.float32),
        "label": MaskedEvent(RANDOM.integers(0, 4, NUM).astype(np.int32), SEEN),
        "row": np.float32([[2.0, 0.5]] * NUM),
        "sizes": (MaskedEvent(np.float32(RANDOM.uniform(1, 2, (NUM, 3))), SEEN),),
    }


@pytest.mark.parametrize("hidden", [np.nan, -1.0, 0.0])
def test_what_is_missing_is_not_judged(hidden):
    xs = data()
    xs["sizes"][0].values[1] = hidden
    xs["label"].values[3] = -7
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_data(MODEL, jnp.zeros(()), xs)
        optimizer = standard_promotion(optax.adam(1e-3))
        for place in (0, 1):
            one = jax.tree.map(lambda leaf, i=place: leaf[i], xs)
            vaejax.init_train_state(MODEL, optimizer, jax.random.key(0), one)


def test_a_value_outside_the_support_of_its_part_is_named_with_its_place():
    def changed(change):
        xs = data()
        change(xs)
        return xs

    for change, words in (
        (lambda xs: xs["image"].__setitem__((3, 0, 1), 7), r"\['image'\].*7.0.*exam"),
        (
            lambda xs: xs["label"].values.__setitem__(2, 4),
            r"'label'\].*4 in exam",
        ),
        (lambda xs: xs["row"].__setitem__((5, 0), 3), r"3.0 in example 5.*column 0"),
        (
            lambda xs: xs["sizes"][0].values.__setitem__((4, 1), -1),
            r"xs\['sizes'\]\[0\].*-1.0 in example 4",
        ),
    ):
        with pytest.raises(ValueError, match=words):
            check_data(MODEL, jnp.zeros(()), changed(change))
