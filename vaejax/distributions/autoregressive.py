"""Autoregressive distribution over sequences of tokens."""

import dataclasses
from collections.abc import Callable
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from vaejax._checks import check_event
from vaejax.base import END_TOKEN, Array, Key, Support
from vaejax.distributions._shared import SampleThenLogProb
from vaejax.distributions.discrete import CLASSES


class TeacherForcedTokens(NamedTuple):
    """A sentence whose decoder is shown something else than what came before, as word
    dropout does.

    Attributes:
      tokens: `[length]`, what is to be predicted, and what the encoder reads.
      inputs: `[length]`, what the decoder is shown of them; token t is predicted from
        `inputs[:t]`.
    """

    tokens: Array
    inputs: Array


def as_teacher_forced(x: Array | TeacherForcedTokens) -> TeacherForcedTokens:
    """Plain tokens are shown as they are."""
    return x if isinstance(x, TeacherForcedTokens) else TeacherForcedTokens(x, x)


def token_mask(tokens: Array) -> Array:
    """Where a sentence is: up to and including its first `END`. `[length]`, bool."""
    is_end = (tokens == END_TOKEN).astype(jnp.int32)
    return jnp.cumsum(is_end) - is_end == 0


def make_word_dropout(
    rate: float, vocabulary_size: int
) -> Callable[[Key, Array], TeacherForcedTokens]:
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

    def transform(key: Key, tokens: Array) -> TeacherForcedTokens:
        if jnp.iinfo(tokens.dtype).max < vocabulary_size:
            raise TypeError(
                f"drop_words: tokens are {tokens.dtype}, which cannot hold "
                f"{vocabulary_size}; widen them."
            )
        dropped = jax.random.bernoulli(key, rate, tokens.shape)
        return TeacherForcedTokens(
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

    def log_prob(self, event: Array | TeacherForcedTokens) -> Array:
        tokens, inputs = as_teacher_forced(event)
        check_event(self, tokens, (self.length,))
        if not jnp.issubdtype(tokens.dtype, jnp.integer):
            raise TypeError(
                f"Autoregressive.log_prob: tokens are {tokens.dtype}; give integers."
            )
        return jnp.sum(
            jnp.where(token_mask(tokens), self._token_log_probs(tokens, inputs), 0)
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
            has_ended = jnp.any((tokens == END_TOKEN) & (jnp.arange(self.length) < t))
            return tokens.at[t].set(jnp.where(has_ended, END_TOKEN, token)), None

        start = jnp.full(self.length, END_TOKEN, jnp.int32)
        return jax.lax.scan(body, start, jnp.arange(self.length))[0]


def _moved_on(tokens: Array) -> Array:
    return jnp.concatenate([jnp.full(1, END_TOKEN, tokens.dtype), tokens[:-1]])
