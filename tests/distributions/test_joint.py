"""Joint distributions: sums of parts, missing parts, and models of dicts of arrays."""

from functools import partial
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

import vaejax
from vaejax import distributions, latent
from vaejax.distributions import (
    Column,
    Joint,
    LogNormal,
    Masked,
    MaskedEvent,
    categorical_head,
    joint_head,
    mixed_head,
)
from vaejax.networks import branched_network, merged_network

MEAN = np.float32(np.random.default_rng(0).normal(size=(3, 2)))
LOGITS = np.float32([0.3, -1.0, 2.0, 0.1])
JOINT = Joint(
    {
        "image": vaejax.Normal(MEAN, np.zeros_like(MEAN)),
        "label": vaejax.Categorical(LOGITS),
        "sizes": LogNormal(MEAN[0], MEAN[1]),
    }
)
X = {
    "image": np.float32(np.random.default_rng(1).normal(size=(3, 2))),
    "label": np.int32(2),
    "sizes": np.float32([0.5, 3.0]),
}
EXPECTED = {
    "image": scipy.stats.norm(MEAN).logpdf(X["image"]).sum(),
    "label": np.log(scipy.special.softmax(LOGITS))[2],
    "sizes": scipy.stats.lognorm(np.exp(MEAN[1] / 2), scale=np.exp(MEAN[0]))
    .logpdf(X["sizes"])
    .sum(),
}


class Pair(NamedTuple):
    image: object
    label: object


def hidden(part, value, is_seen=False):
    filled = np.full(np.shape(part), value, np.asarray(part).dtype)
    return MaskedEvent(filled, np.asarray(is_seen))


def test_the_log_prob_is_the_sum_of_those_of_the_parts():
    np.testing.assert_allclose(JOINT.log_prob(X), sum(EXPECTED.values()), rtol=1e-5)
    for name, found in JOINT.part_log_probs(X).items():
        np.testing.assert_allclose(found, EXPECTED[name], rtol=1e-5)


@pytest.mark.parametrize("junk", [np.nan, np.inf, -7.5, 0.0])
@pytest.mark.parametrize("name", ["image", "sizes"])
def test_a_missing_part_contributes_nothing_to_value_or_gradient(name, junk):
    def value(joint, x):
        return joint.log_prob(x)

    event = X | {name: hidden(X[name], junk)}
    found, gradient = jax.value_and_grad(value)(JOINT, event)
    others = {key: part for key, part in X.items() if key != name}
    rest = Joint({key: JOINT.distributions[key] for key in others})
    expected, of_others = jax.value_and_grad(value)(rest, others)
    assert found == expected
    for leaf in jax.tree.leaves(gradient.distributions[name]):
        assert np.all(leaf == 0)
    for key in others:
        jax.tree.map(
            np.testing.assert_array_equal,
            gradient.distributions[key],
            of_others.distributions[key],
        )
    seen = X | {name: MaskedEvent(X[name], np.asarray(True))}
    assert JOINT.log_prob(seen) == JOINT.log_prob(X)


def test_missing_parts_of_a_batch_are_each_example_s_own():
    masks = np.array([True, False, True])
    batch = {
        name: np.stack([part] * 3) if name != "label" else np.full(3, part)
        for name, part in X.items()
    }
    batch["label"] = MaskedEvent(batch["label"], masks)
    found = jax.jit(jax.vmap(JOINT.log_prob))(batch)
    whole = sum(EXPECTED.values())
    expected = np.where(masks, whole, whole - EXPECTED["label"])
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_parts_take_masks_of_their_cells_and_may_be_rows_of_tables():
    columns = [Column("positive"), Column("class", num_classes=3)]
    head = mixed_head(columns)
    row = head.apply((), jnp.zeros(head.num_outputs))
    joint = Joint((Masked(vaejax.Normal(MEAN, MEAN)), row))
    mask = np.array([[True, False]] * 3)
    x = MaskedEvent(np.where(mask, X["image"], np.nan), mask), np.float32([2.0, 1.0])
    alone = Masked(vaejax.Normal(MEAN, MEAN)).log_prob(x[0])
    np.testing.assert_allclose(joint.log_prob(x), alone + row.log_prob(x[1]), rtol=1e-6)
    missing = x[0], MaskedEvent(np.float32([-1.0, 7.0]), np.asarray(False))
    assert joint.log_prob(missing) == alone


def test_draws_have_the_parts_and_each_its_own_noise():
    normal = vaejax.Normal(np.zeros(2, np.float32), np.zeros(2, np.float32))
    twins = Joint(Pair(normal, (normal, vaejax.Categorical(LOGITS))))
    event, log_prob = twins.sample_and_log_prob(jax.random.key(0))
    jax.tree.map(np.testing.assert_array_equal, event, twins.sample(jax.random.key(0)))
    assert isinstance(event, Pair) and not np.allclose(event.image, event.label[0])
    np.testing.assert_allclose(log_prob, twins.log_prob(event), rtol=1e-6)
    labels = jax.jit(jax.vmap(lambda key: twins.sample(key).label[1]))(
        jax.random.split(jax.random.key(1), 20_000)
    )
    frequency = np.bincount(labels, minlength=4) / 20_000
    p = scipy.special.softmax(LOGITS)
    assert np.all(np.abs(frequency - p) < 5 * np.sqrt(p * (1 - p) / 20_000))


def test_points_and_support_are_those_of_the_parts():
    assert np.array_equal(JOINT.mean["image"], MEAN)
    assert JOINT.mean["label"] == JOINT.mode["label"] == 2
    wrong = X | {"sizes": np.float32([-1.0, 2.0])}
    assert JOINT.support.contains(wrong)["sizes"].tolist() == [False, True]
    assert np.all(JOINT.support.contains(wrong)["image"])

    class OnlyDrawn(NamedTuple):
        def sample_and_log_prob(self, key):
            return jax.random.normal(key), jnp.zeros(())

    joint = Joint({"z": vaejax.Normal(MEAN, MEAN), "y": OnlyDrawn()})
    assert not hasattr(joint, "mean")
    with pytest.raises(TypeError, match="Joint has no mean"):
        latent.mean(None, joint)


def test_the_divergence_of_two_is_the_sum_over_parts():
    def joint(shift):
        return Joint(
            (vaejax.Normal(MEAN + shift, MEAN), vaejax.Categorical(LOGITS * shift))
        )

    q, p = joint(1.0), joint(-0.5)
    parts = map(vaejax.kl_divergence, q.distributions, p.distributions)
    np.testing.assert_allclose(vaejax.kl_divergence(q, p), sum(parts), rtol=1e-6)
    with pytest.raises(ValueError, match=r"kl_divergence: p .*\[0\], \[1\]"):
        vaejax.kl_divergence(q, Joint({"a": q.distributions[0]}))


def make_vae(decoder=None, heads=None):
    encoder = merged_network({"image": vaejax.MLP((6,)), "label": nn.Embed(4, 5)})
    decoder = decoder or {
        "image": vaejax.MLP((6,), (3, 2)),
        "label": vaejax.MLP((), (4,)),
    }
    return vaejax.gaussian_vae(
        latent_size=2,
        encoder=encoder,
        decoder=branched_network(decoder) if isinstance(decoder, dict) else decoder,
        likelihood=heads
        or joint_head({"image": vaejax.Bernoulli, "label": categorical_head(4)}),
    )


def examples(num, is_seen=None):
    random = np.random.default_rng(0)
    labels = random.integers(0, 4, num).astype(np.int32)
    images = random.integers(0, 2, (num, 3, 2)).astype(np.float32)
    seen = np.ones(num, bool) if is_seen is None else is_seen
    return {"image": images, "label": MaskedEvent(labels, seen)}


def test_a_model_of_dicts_is_built_trained_on_and_sampled():
    batch = examples(8, np.arange(8) % 2 == 0)
    one = jax.tree.map(lambda leaf: leaf[0], batch)
    vae = make_vae()
    params = vae.init(jax.random.key(0), one)
    assert set(params["decoder"]) == {"image", "label"}
    loss_fn = vaejax.mean_over_batch(partial(vaejax.negative_elbo, vae))
    with jax.debug_nans(True):
        gradient, _ = jax.jit(jax.grad(loss_fn, has_aux=True))(
            params, jax.random.key(1), batch
        )
    for leaf in jax.tree.leaves(gradient):
        assert np.all(np.isfinite(leaf)) and np.any(leaf != 0)
    samples = vaejax.sample(vae, params, jax.random.key(2), 5)
    assert samples["image"].shape == (5, 3, 2) and samples["label"].shape == (5,)


def test_what_stands_in_a_missing_part_reaches_nothing():
    vae = make_vae()
    is_seen = np.array([True, False])
    batch = examples(2, is_seen)
    batch["image"] = MaskedEvent(batch["image"], ~is_seen)
    params = vae.init(jax.random.key(0), jax.tree.map(lambda leaf: leaf[0], batch))
    other = jax.tree.map(np.copy, batch)
    other["label"].values[1] = 1 - batch["label"].values[1]
    other["image"].values[0] = np.nan

    @jax.jit
    def losses(batch):
        loss_fn = vaejax.mean_over_batch(partial(vaejax.negative_elbo, vae))
        return jax.value_and_grad(loss_fn, has_aux=True)(
            params, jax.random.key(1), batch
        )

    jax.tree.map(np.testing.assert_array_equal, losses(batch), losses(other))


def test_errors_name_the_part():
    one = jax.tree.map(lambda leaf: leaf[0], examples(1))
    narrow = {"image": vaejax.MLP((6,), (3, 2)), "label": vaejax.MLP((), (3,))}
    only_image = joint_head({"image": vaejax.Bernoulli})
    mistakes = [
        (
            lambda: JOINT.log_prob(X | {"image": MEAN[:2]}),
            r"Joint at \['image'\]: Norm",
        ),
        (lambda: JOINT.log_prob({"image": MEAN}), r"\['image'\], \['label'\], \['siz"),
        (lambda: JOINT.log_prob(MEAN), r"event is an array \(3, 2\)"),
        (
            lambda: make_vae(narrow).init(jax.random.key(0), one),
            r"outputs \(3,\) at \['label'\] for an example of shape \(\)",
        ),
        (
            lambda: make_vae(heads=vaejax.Bernoulli).init(jax.random.key(0), one),
            r"example has the parts \['image'\], \['label'\] .*joint_head",
        ),
        (
            lambda: make_vae(heads=only_image).init(jax.random.key(0), one),
            r"likelihood \['image'\]; give joint_head",
        ),
        (
            lambda: make_vae(vaejax.MLP((), (3, 2))).init(jax.random.key(0), one),
            r"decoder outputs has the parts one array and the",
        ),
        (
            lambda: make_vae().init(jax.random.key(0), {"image": one["image"]}),
            r"merged_network: the example is a dict of 'image' .*\['label'\]",
        ),
        (
            lambda: make_vae().init(
                jax.random.key(0), one | {"image": examples(2)["image"]}
            ),
            r"outputs \(3, 2\) at \['image'\] .* batch axis",
        ),
    ]
    for mistake, words in mistakes:
        with pytest.raises(ValueError, match=words):
            mistake()
    for heads in (vaejax.Bernoulli, {}, [vaejax.Bernoulli], None):
        with pytest.raises(TypeError, match="joint_head: heads is"):
            joint_head(heads)
    with pytest.raises(TypeError, match=r"joint_head at \['a'\]: likelihood is 3"):
        joint_head({"a": 3})
    for network in (merged_network, branched_network):
        with pytest.raises(TypeError, match="networks is of type MLP"):
            network(vaejax.MLP(()))
    assert distributions.joint_head({"a": only_image}).num_parameters == {
        "a": {"image": 1}
    }
