"""Sentences: an autoregressive distribution over tokens, and the networks that read and
write them.

A sentence is `tokens [length]`, integers; the first `END` ends it, and all that follows
is `END`. One that fills its length has none.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import ClassVar, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from vaejax.base import Array, Key, Support
from vaejax.distributions import CLASSES, SampleThenLogProb, check_event

END = 0


class Sentence(NamedTuple):
    """A sentence whose decoder is shown something else than what came before, as word
    dropout does.

    Attributes:
      tokens: `[length]`, what is to be predicted, and what the encoder reads.
      inputs: `[length]`, what the decoder is shown of them; token t is predicted from
        `inputs[:t]`.
    """

    tokens: Array
    inputs: Array


def as_sentence(x: Array | Sentence) -> Sentence:
    """Plain tokens are shown as they are."""
    return x if isinstance(x, Sentence) else Sentence(x, x)


def inside(tokens: Array) -> Array:
    """Where a sentence is: up to and including its first `END`. `[length]`, bool."""
    is_end = (tokens == END).astype(jnp.int32)
    return jnp.cumsum(is_end) - is_end == 0


def drop_words(rate: float, vocabulary_size: int) -> Callable[[Key, Array], Sentence]:
    """A transform for `with_transform`: the decoder is shown each token as unknown with
    probability `rate`.

    The unknown token is `vocabulary_size`, one more than there are: the decoders here
    have a place for it.

    Raises:
      ValueError: the rate is outside [0, 1].
      TypeError: when called, the tokens' dtype has no place for the unknown one.

    Source: Bowman et al. 2016, section 3.1.
    """
    if not 0 <= rate <= 1:
        raise ValueError(f"drop_words: rate is {rate}; give a probability.")

    def transform(key: Key, tokens: Array) -> Sentence:
        if jnp.iinfo(tokens.dtype).max < vocabulary_size:
            raise TypeError(
                f"drop_words: tokens are {tokens.dtype}, which cannot hold "
                f"{vocabulary_size}; widen them."
            )
        dropped = jax.random.bernoulli(key, rate, tokens.shape)
        return Sentence(
            tokens,
            jnp.where(dropped, jnp.asarray(vocabulary_size, tokens.dtype), tokens),
        )

    return transform


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Autoregressive(SampleThenLogProb):
    """p(x) = prod_t p(x_t | x_<t), over sentences of at most `length` tokens; what
    follows `END` is certain.

    `log_prob` computes all factors at once (teacher forcing). `sample` and `mode` run
    token by token, each time over the whole sentence, so that any causal network will
    do.

    Attributes:
      logits_fn: `inputs [length] -> [length, vocabulary]`, row t from `inputs[:t + 1]`
        alone, where `inputs` are the tokens moved on by one with `END` before them; a
        `jax.tree_util.Partial`, so that it crosses jit.
      length: the longest sentence.
    """

    logits_fn: jax.tree_util.Partial
    length: int = dataclasses.field(metadata={"static": True})

    support: ClassVar[Support] = CLASSES

    def log_prob(self, event: Array | Sentence) -> Array:
        tokens, inputs = as_sentence(event)
        check_event(self, tokens, (self.length,))
        if not jnp.issubdtype(tokens.dtype, jnp.integer):
            raise TypeError(
                f"Autoregressive.log_prob: tokens are {tokens.dtype}; give integers."
            )
        return jnp.sum(
            jnp.where(inside(tokens), self._token_log_probs(tokens, inputs), 0)
        )

    def sample(self, key: Key) -> Array:
        return self._generate(
            lambda t, logits: jax.random.categorical(jax.random.fold_in(key, t), logits)
        )

    @property
    def mode(self) -> Array:
        """The greedy sentence: the likeliest token at each step, which need not be the
        likeliest sentence.
        """
        return self._generate(lambda t, logits: jnp.argmax(logits))

    def _token_log_probs(self, tokens: Array, inputs: Array) -> Array:
        log_probs = jax.nn.log_softmax(self.logits_fn(_moved_on(inputs)))
        return jnp.take_along_axis(
            log_probs, tokens.astype(jnp.int32)[:, None], axis=-1
        )[:, 0]

    def _generate(self, choose: Callable[[Array, Array], Array]) -> Array:
        def body(tokens: Array, t: Array) -> tuple[Array, None]:
            token = choose(t, self.logits_fn(_moved_on(tokens))[t]).astype(jnp.int32)
            has_ended = jnp.any((tokens == END) & (jnp.arange(self.length) < t))
            return tokens.at[t].set(jnp.where(has_ended, END, token)), None

        start = jnp.full(self.length, END, jnp.int32)
        return jax.lax.scan(body, start, jnp.arange(self.length))[0]


def _moved_on(tokens: Array) -> Array:
    return jnp.concatenate([jnp.full(1, END, tokens.dtype), tokens[:-1]])


class GRU(nn.Module):
    """A gated recurrent unit over `[length, features]` from a state `[size]`: the
    states after each, `[length, size]`.

    r, u = sigmoid of linear functions of (x_t, h_{t-1}); n = tanh(W x_t + r * V
    h_{t-1}); h_t = (1 - u) n + u h_{t-1}. Source: Cho et al. 2014, in the form whose
    reset follows the product.
    """

    size: int

    @nn.compact
    def __call__(self, start: Array, inputs: Array) -> Array:
        # One product for all steps outside the loop, and one a step inside.
        from_inputs = nn.Dense(3 * self.size)(inputs)
        recurrent = self.param(
            "recurrent", nn.initializers.orthogonal(), (self.size, 3 * self.size)
        )

        def step(state: Array, from_input: Array) -> tuple[Array, Array]:
            from_state = state @ recurrent
            gates = jax.nn.sigmoid(
                from_input[: 2 * self.size] + from_state[: 2 * self.size]
            )
            reset, update = gates[: self.size], gates[self.size :]
            new = jnp.tanh(
                from_input[2 * self.size :] + reset * from_state[2 * self.size :]
            )
            state = (1 - update) * new + update * state
            return state, state

        return jax.lax.scan(step, start, from_inputs)[1]


class RecurrentEncoder(nn.Module):
    """A sentence read by a GRU: its state at the last token, `[hidden_size]`.

    Attributes:
      vocabulary_size: the tokens are below it.
      embedding_size, hidden_size: widths.
    """

    vocabulary_size: int
    embedding_size: int = 128
    hidden_size: int = 256

    @nn.compact
    def __call__(self, x: Array | Sentence) -> Array:
        tokens = as_sentence(x).tokens.astype(jnp.int32)
        embedded = nn.Embed(self.vocabulary_size, self.embedding_size)(tokens)
        states = GRU(self.hidden_size)(
            jnp.zeros(self.hidden_size, embedded.dtype), embedded
        )
        return states[jnp.sum(inside(tokens)) - 1]


class RecurrentDecoder(nn.Module):
    """A GRU that writes: `(z, inputs [length]) -> logits [length, vocabulary_size]`, z
    its start and in each input.

    Attributes:
      vocabulary_size: tokens to choose from; `inputs` may also be `vocabulary_size`, an
        unknown one.
      embedding_size, hidden_size: widths.
    """

    vocabulary_size: int
    embedding_size: int = 128
    hidden_size: int = 256

    @nn.compact
    def __call__(self, z: Array, inputs: Array) -> Array:
        embedded = nn.Embed(self.vocabulary_size + 1, self.embedding_size)(
            inputs.astype(jnp.int32)
        )
        start = jnp.tanh(nn.Dense(self.hidden_size)(z))
        with_z = jnp.concatenate(
            [embedded, jnp.broadcast_to(z, (len(inputs), *z.shape))], axis=-1
        )
        return nn.Dense(self.vocabulary_size)(GRU(self.hidden_size)(start, with_z))


class CausalConvolutionDecoder(nn.Module):
    """Dilated causal convolutions that write: `(z, inputs [length]) -> logits [length,
    vocabulary_size]`.

    Each layer sees the token and the one `dilation` before it, and adds to a residual
    stream that starts from the embedding and z. It sees `1 + sum(dilations)` tokens
    back. Source: Yang et al. 2017 (for a VAE of text), figure 1; van den Oord et al.
    2016 (WaveNet).

    Attributes:
      vocabulary_size: as in `RecurrentDecoder`.
      hidden_size: width of the residual stream.
      dilations: of each layer.
    """

    vocabulary_size: int
    hidden_size: int = 256
    dilations: Sequence[int] = (1, 2, 4, 8, 16, 32)

    @nn.compact
    def __call__(self, z: Array, inputs: Array) -> Array:
        x = nn.Embed(self.vocabulary_size + 1, self.hidden_size)(
            inputs.astype(jnp.int32)
        )
        x = x + nn.Dense(self.hidden_size)(z)[None]
        for dilation in self.dilations:
            y = nn.LayerNorm()(x)
            earlier = jnp.pad(y, ((dilation, 0), (0, 0)))[: len(y)]
            y = nn.relu(
                nn.Dense(self.hidden_size)(jnp.concatenate([earlier, y], axis=-1))
            )
            x = x + nn.Dense(self.hidden_size)(y)
        return nn.Dense(self.vocabulary_size)(nn.LayerNorm()(x))
