"""VAE beside autoencoder: the measures on cases with known answers, and the program on
a small data set.
"""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.programs import npz, users_settings

import vaejax
from experiments import autoencoder
from experiments.harness import UsageError, run
from experiments.harness.programs import load_program
from experiments.judges import classifier


@pytest.mark.parametrize(
    ("logits", "confidence", "entropy"),
    [(np.zeros(10), 0.1, np.log(10)), ([0.0, -1e9], 1, 0)],
)
def test_a_judge_who_knows_nothing_and_one_who_is_sure(logits, confidence, entropy):
    blank = jnp.zeros((3, 4, 4))
    log_probabilities = jax.nn.log_softmax(
        jnp.tile(jnp.asarray(logits, jnp.float32), (3, 1))
    )
    judged = autoencoder.judge(blank, log_probabilities, blank + 0.5)
    assert judged["confidence"] == pytest.approx(confidence)
    assert judged["entropy"] == pytest.approx(entropy, abs=1e-6)
    assert judged["distance"] == pytest.approx(4 * 0.5)


def test_the_autoencoder_is_the_vae_without_noise_and_kl():
    vae = vaejax.gaussian_vae(
        latent_size=2, encoder=vaejax.MLP((8,)), decoder=vaejax.MLP((8,), (4, 4))
    )
    plain = autoencoder.with_point_posterior(vae)
    x = jnp.ones((4, 4))
    params = vae.init(jax.random.key(0), x)
    loss, terms = vaejax.negative_elbo(
        plain, params, jax.random.key(1), x, kl_fn=autoencoder.no_kl
    )
    expected = -vae.decode(params, vae.encode(params, x).mean).log_prob(x)
    np.testing.assert_allclose(loss, expected, rtol=1e-6)
    assert terms.kl == 0
    assert (
        loss
        == vaejax.negative_elbo(
            plain, params, jax.random.key(2), x, kl_fn=autoencoder.no_kl
        )[0]
    )


def test_pairs_are_of_two_classes_and_in_order():
    labels = np.array([3, 3, 1, 1, 2])
    pairs = autoencoder.pairs_of_classes(jnp.arange(5.0)[:, None, None], labels, 10)
    assert pairs[..., 0, 0].tolist() == [[1, 2], [3, 4]]


@pytest.mark.program
@pytest.mark.slow
def test_the_program(tmp_path, monkeypatch):
    labels = {
        "train_labels": np.arange(100, dtype=np.uint8) % 2,
        "test_labels": np.arange(20, dtype=np.uint8) % 2,
    }
    npz(**labels)(tmp_path)
    monkeypatch.setattr(autoencoder, "DRAWS", 12)
    monkeypatch.setattr(classifier, "BATCH_SIZE", 50)
    sizes = {
        "epochs": 1,
        "num_seeds": 2,
        "hidden_size": 8,
        "latent_size": 2,
        "batch_size": 50,
    }
    config = autoencoder.Config(
        data=str(tmp_path / "data.npz"), out=tmp_path / "run", **sizes
    )
    with users_settings():
        summary = run.run(load_program("autoencoder"), config)
    assert summary == json.loads((tmp_path / "run" / "summary.json").read_text())
    assert len(summary["test"]) == 6
    for numbers in summary["test"].values():
        for number in numbers.values():
            assert number["num_seeds"] == 2 and np.isfinite(number["mean"])
    assert (tmp_path / "run" / "VAE" / "metrics.jsonl").exists()
    assert (tmp_path / "run" / "report.html").exists() and (
        tmp_path / "run" / "figures" / "contrast.png"
    ).exists()


def test_images_of_one_class_are_refused(tmp_path):
    npz(train_labels=np.ones(100, np.uint8), test_labels=np.ones(20, np.uint8))(
        tmp_path
    )
    config = autoencoder.Config(data=str(tmp_path / "data.npz"), batch_size=50)
    with pytest.raises(UsageError, match="no two successive test images differ"):
        autoencoder.make_experiment(config)


def test_images_without_classes_are_refused(tmp_path):
    npz()(tmp_path)
    config = autoencoder.Config(data=str(tmp_path / "data.npz"), batch_size=50)
    with pytest.raises(UsageError, match="no classes"):
        autoencoder.make_experiment(config)
