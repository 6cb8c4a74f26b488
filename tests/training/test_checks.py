"""Data against a likelihood: what is refused, with its place and its fix, and what is
not; by `check_data`, and of one example by `init_train_state`.
"""

import warnings
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from vaejax import (
    MLP,
    VAE,
    Bernoulli,
    Categorical,
    Normal,
    binarize,
    gaussian_vae,
    init_train_state,
)
from vaejax.distributions import (
    Autoregressive,
    ContinuousBernoulli,
    DiscretizedLogistic,
    Poisson,
)
from vaejax.training import check_data, init_skipped_steps
from vaejax.training.steps import TrainState

RNG = np.random.default_rng(0)
NUM, SIZE = 40, 3
ZEROS = np.zeros((NUM, SIZE), np.float32)
BINARY = (RNG.random((NUM, SIZE)) < 0.4).astype(np.float32)
GRAY = RNG.integers(2, 250, (NUM, SIZE)).astype(np.uint8)
REAL = RNG.normal(size=(NUM, SIZE)).astype(np.float32)
CLASSES = RNG.integers(0, 4, (NUM, SIZE))
SENTENCES = np.where(np.cumsum(CLASSES == 0, axis=1) == 0, CLASSES, 0)


def model_of(likelihood):
    """A model whose decoder gives one likelihood, of examples of any dtype."""
    return VAE(
        init=lambda key, x: jnp.zeros(()),
        encode=lambda params, x: Normal(jnp.ones(2) * params, jnp.zeros(2)),
        prior=lambda params: Normal(jnp.zeros(2), jnp.zeros(2)),
        decode=lambda params, z: likelihood,
    )


ZERO = jnp.zeros(SIZE)
MODELS = {
    "Bernoulli": model_of(Bernoulli(ZERO)),
    "Normal": model_of(Normal(ZERO, ZERO)),
    "Poisson": model_of(Poisson(ZERO)),
    "ContinuousBernoulli": model_of(ContinuousBernoulli(ZERO)),
    "DiscretizedLogistic": model_of(DiscretizedLogistic(ZERO, ZERO)),
    "Categorical": model_of(Categorical(jnp.zeros((SIZE, 4)))),
    "Autoregressive": model_of(
        Autoregressive(jax.tree_util.Partial(lambda x: jnp.zeros((SIZE, 4))), SIZE)
    ),
}


def check(model, xs, **options):
    check_data(MODELS[model], jnp.zeros(()), xs, **options)


def having(xs, value, index=(7, 2)):
    xs = xs.copy()
    xs[index] = value
    return xs


WRONG = [
    # of any likelihood
    ("Normal", having(REAL, np.nan), r"xs holds nan in example 7 \(at \[7, 2\]\)"),
    ("Normal", having(REAL, -np.inf), r"xs holds -inf in example 7 .*infinite"),
    ("Poisson", having(BINARY, np.nan), r"xs holds nan in example 7"),
    ("Normal", having(REAL.astype(float), 1e300), r"1e\+300 .* infinite in float32"),
    ("Categorical", having(CLASSES, 2**40), r"holds 1099511627776 .* not fit int32"),
    ("Normal", {"x": REAL[:0]}, r"xs\['x'\] is empty, of shape \[0, 3\]"),
    ("Normal", np.zeros((4, 0)), r"xs is empty, of shape \[4, 0\]"),
    ("Normal", np.ma.masked_equal(REAL, 0), "xs is a masked array; .*MaskedEvent"),
    ("Normal", {"x": REAL, "label": REAL[1:]}, "give one leading axis"),
    # outside the support
    ("Bernoulli", having(BINARY, 7), r"7.0 in example 7 \(at \[7, 2\]\); Bern"),
    ("Bernoulli", GRAY.astype(np.float32), "divide gray levels by 255, and binarize"),
    ("Bernoulli", 2 * BINARY - 1, r"holds -1.0 .*\(x \+ 1\) / 2"),
    ("Bernoulli", GRAY, r"with_transform\(objective, binarize\).*transform=binarize"),
    ("ContinuousBernoulli", GRAY / 1.0, "divide gray levels by 255"),
    ("ContinuousBernoulli", REAL, "likelihood over real numbers"),
    ("DiscretizedLogistic", having(GRAY / 255, 0.5), "holds 0.5 .*8-bit.*round to lev"),
    ("Poisson", having(CLASSES, -1), "holds -1 .*Poisson is over counts.*Norm"),
    ("Poisson", REAL, "Poisson is over counts"),
    ("Categorical", having(CLASSES, 4), "holds 4 in example 7 .*classes 0 to 3"),
    ("Categorical", having(CLASSES, -1), "holds -1 .*classes 0 to 3.*from 0"),
    ("Autoregressive", having(CLASSES, 4), "Autoregressive is over the classes"),
    # symbol 0 as data
    ("Autoregressive", having(SENTENCES, [0, 2, 0], 7),
     r"xs holds 2 in example 7 \(at \[7, 1\]\), after token 0, END_TOKEN.*add 1 to"),
]  # fmt: skip


@pytest.mark.parametrize(("model", "xs", "message"), WRONG)
def test_data_that_are_wrong_are_named_with_place_and_fix(model, xs, message):
    with pytest.raises(ValueError, match=message):
        check(model, xs)


@pytest.mark.parametrize(
    ("model", "xs", "message"),
    [
        ("Normal", [REAL[0], REAL[1]], "xs is a list; give an array"),
        ("Normal", np.full((4, 3), "a"), "xs holds <U1; give numbers only"),
        ("Categorical", CLASSES.astype(np.float32), "classes are float32; give integ"),
        ("DiscretizedLogistic", CLASSES.astype(np.int8) % 2, "divide by 255"),
        ("Bernoulli", BINARY.astype(np.uint8), r"0/1 data: astype\(bool\)"),
    ],
)
def test_dtypes_that_are_wrong_are_named(model, xs, message):
    with pytest.raises(TypeError, match=message):
        check(model, xs)


@pytest.mark.parametrize(
    ("model", "xs"),
    [
        ("Bernoulli", BINARY),
        ("Bernoulli", BINARY.astype(bool)),
        ("Bernoulli", jnp.asarray(BINARY)),
        ("Normal", REAL),
        ("Normal", jnp.asarray(REAL, jnp.bfloat16)),
        ("Poisson", CLASSES),
        ("Poisson", 1000.0 * CLASSES),
        ("ContinuousBernoulli", GRAY / 255),
        ("DiscretizedLogistic", GRAY / np.float32(255)),
        ("Categorical", CLASSES),
        ("Categorical", CLASSES.astype(np.uint8)),
        ("Autoregressive", SENTENCES),
        ("Autoregressive", np.ones_like(CLASSES)),
    ],
)
def test_data_that_are_right_pass_in_silence(model, xs):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check(model, xs)


def test_the_last_value_of_a_memory_map_is_judged(tmp_path):
    path = tmp_path / "xs.npy"
    xs = np.lib.format.open_memmap(path, "w+", np.float32, (300_000, SIZE, 8))
    vae = model_of(Bernoulli(jnp.zeros((SIZE, 8))))
    check_data(vae, jnp.zeros(()), xs)
    xs[-1, 2, 5] = 3
    with pytest.raises(ValueError, match=r"in example 299999 \(at \[299999, 2, 5\]\)"):
        check_data(vae, jnp.zeros(()), np.load(path, mmap_mode="r"))


class Source:
    """Gives examples by their index."""

    def __init__(self, xs):
        self.xs = xs

    def __len__(self):
        return len(self.xs)

    def __getitem__(self, index):
        return self.xs[index]


def test_sources_are_judged_by_a_sample_with_both_ends():
    check("Normal", Source(REAL))
    with pytest.raises(ValueError, match="holds nan in example 39"):
        check("Normal", Source(having(REAL, np.nan, (NUM - 1, 0))))
    with pytest.raises(ValueError, match="xs is empty; give at least one"):
        check("Normal", Source(REAL[:0]))


# scale


@pytest.mark.parametrize(
    ("xs", "message"),
    [
        (REAL * [1, 10, 1], r"mean [-0-9.]+ and standard deviation [0-9.]+ at \[1\]"),
        (REAL + [0, 0, 2000], r"mean 2e\+03 and standard deviation [01.9]+.* at \[2\]"),
        (REAL / 100, r"standard deviations of at most 0.01.*divide each dimension"),
    ],
)
def test_a_scale_far_from_a_unit_normal_is_warned_of_with_its_numbers(xs, message):
    with pytest.warns(UserWarning, match=message):
        check("Normal", xs.astype(np.float32))


def test_moments_of_huge_values_do_not_overflow(x64):
    values = np.random.default_rng(0).normal(3, 2, (50, 1))
    vae = model_of(Normal(jnp.zeros(1), jnp.zeros(1)))
    mean, stddev = values.mean(), values.std()
    message = f"mean {mean:.2f}e.307 and standard deviation {stddev:.2f}e.307"
    with pytest.warns(UserWarning, match=message):
        check_data(vae, jnp.zeros(()), 1e307 * values)


def test_moments_keep_their_digits_at_a_large_offset():
    xs = 1e8 + np.arange(6.0).reshape(6, 1)
    vae = model_of(Normal(jnp.zeros(1), jnp.zeros(1)))
    with pytest.warns(UserWarning, match=r"mean 1e\+08 and standard deviation 1.71"):
        check_data(vae, jnp.zeros(()), xs)


def test_gray_values_under_a_bernoulli_are_warned_of():
    with pytest.warns(UserWarning, match=r"holds 0.5 in example 7.*cross-entropy"):
        check("Bernoulli", having(BINARY, 0.5))


# transforms


def test_the_output_of_a_transform_is_judged():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check("Bernoulli", GRAY, transform=binarize)
        check("Bernoulli", GRAY / 255, transform=partial(binarize))
    with pytest.raises(ValueError, match="transformed xs holds 2.0 .*Bernoulli"):
        check("Bernoulli", BINARY, transform=lambda key, x: x + 1)
    with pytest.raises(ValueError, match="transformed xs holds inf"):
        check("Normal", ZEROS, transform=lambda key, x: 1 / x)


@pytest.mark.parametrize("xs", [GRAY / 1.0, REAL])
def test_binarize_takes_intensities_only(xs):
    with pytest.raises(ValueError, match=r"binarize is over values in \[0, 1\]"):
        check("Bernoulli", xs.astype(np.float32), transform=binarize)


# models


class Foreign:
    """A constraint of another library, which knows nothing of an event."""

    def contains(self, x):
        raise AssertionError("it is stale under vmap")


@jax.tree_util.register_pytree_node_class
class Uniform:
    """A likelihood whose support is not ours."""

    support = Foreign()

    def log_prob(self, x):
        return -jnp.sum(x)

    def tree_flatten(self):
        return (), None

    @classmethod
    def tree_unflatten(cls, about, leaves):
        return cls()


def test_a_support_of_another_library_is_not_asked():
    check_data(model_of(Uniform()), jnp.zeros(()), REAL)


def test_a_state_in_place_of_parameters_is_named():
    state = TrainState((), (), jax.random.key(0), jnp.int32(0))
    with pytest.raises(TypeError, match="params is a TrainState; give state.params"):
        check_data(MODELS["Normal"], init_skipped_steps(state), REAL)


# one example, before training


def init(model, x):
    return init_train_state(MODELS[model], optax.sgd(0.1), jax.random.key(0), x)


@pytest.mark.parametrize(
    ("model", "x", "message"),
    [
        ("Bernoulli", 255 * BINARY[0], r"x holds 255.0 .*divide gray"),
        ("Bernoulli", 2 * BINARY[2] - 1, r"x holds -1.0 .*\(x \+ 1\) / 2"),
        (
            "Categorical",
            np.array([0, -1, 2]),
            r"x holds -1 \(at \[1\]\).*classes 0 to 3",
        ),
        ("Categorical", np.array([4, 1, 2]), r"x holds 4 \(at \[0\]\)"),
        ("Normal", np.array([0, 1, np.nan]), r"x holds nan \(at \[2\]\); fill in"),
        ("Poisson", np.array([0.5, 1, 2]), r"x holds 0.5 \(at \[0\]\)"),
    ],
)
def test_an_example_that_is_wrong_is_refused_where_it_is_known(model, x, message):
    with pytest.raises(ValueError, match=rf"init_train_state: {message}"):
        init(model, jnp.asarray(x))
    jax.eval_shape(lambda x: init(model, x), jnp.asarray(x))


@pytest.mark.parametrize(
    ("model", "x"),
    [
        ("Bernoulli", GRAY[0]),  # a transform may follow
        ("Bernoulli", GRAY[0] / 255),  # a cross-entropy
        ("Bernoulli", np.zeros(SIZE)),
        ("Categorical", np.zeros(SIZE, int)),
        ("Poisson", np.array([0, 3, 1000])),
    ],
)
def test_other_examples_are_taken(model, x):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        init(model, jnp.asarray(x))


def test_the_model_is_traced_with_an_example():
    vae = gaussian_vae(latent_size=2, encoder=MLP((4,)), decoder=MLP((4,), (SIZE,)))
    params = vae.init(jax.random.key(0), BINARY[0])
    check_data(vae, params, BINARY)
    with pytest.raises(ValueError, match="has shape"):
        check_data(vae, params, np.zeros((NUM, SIZE, 1), np.float32))
