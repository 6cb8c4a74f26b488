"""Distribution over sentences of tokens that draws one token after the other.

A sentence is `tokens [length]`, integers. The first `END_TOKEN` ends it, and all that
follows is `END_TOKEN` too; a sentence that fills its length has none.
"""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from vaejax._checks import (
    as_numbers,
    check_count,
    check_event,
    check_in_range,
    check_key,
)
from vaejax._programs import run
from vaejax.base import END_TOKEN, Array, Key, Support, Transform
from vaejax.distributions._shared import (
    SampleThenLogProb,
    density_dtype,
)
from vaejax.distributions.discrete import _CLASSES, as_classes, log_probs_of


class TeacherForcedTokens(NamedTuple):
    """A sentence, and what a decoder is shown of it while it predicts the tokens.

    The two differ where tokens are hidden from the decoder, as in word dropout.

    Attributes:
      tokens: `[length]`, the sentence that is predicted, and that the encoder reads.
      inputs: `[length]`, the tokens shown to the decoder; token t is predicted from
        `inputs[:t]`.

    Example:
      >>> import jax.numpy as jnp
      >>> from vaejax.distributions import TeacherForcedTokens
      >>> hidden = TeacherForcedTokens(jnp.array([1, 2, 0]), inputs=jnp.full(3, 3))
      >>> hidden.inputs.shape
      (3,)

    Source: Williams & Zipser 1989.
    """

    tokens: Array
    inputs: Array


def as_teacher_forced(x: Array | TeacherForcedTokens) -> TeacherForcedTokens:
    """Return a sentence together with the inputs of its decoder.

    Args:
      x: `[length]` tokens, or a `TeacherForcedTokens`.

    Returns:
      x itself if it has inputs; otherwise the tokens, which the decoder is shown as
      they are.

    Example:
      >>> import jax.numpy as jnp
      >>> from vaejax.distributions import as_teacher_forced
      >>> as_teacher_forced(jnp.array([1, 2, 0])).inputs.tolist()
      [1, 2, 0]
    """
    return x if isinstance(x, TeacherForcedTokens) else TeacherForcedTokens(x, x)


def token_mask(tokens: Array) -> Array:
    """Return the mask of the tokens that belong to a sentence.

    Args:
      tokens: `[length]`, integers.

    Returns:
      `[length]`, bool: true up to and including the first `END_TOKEN`.

    Example:
      >>> import jax.numpy as jnp
      >>> from vaejax.distributions import token_mask
      >>> token_mask(jnp.array([2, 1, 0, 0])).tolist()
      [True, True, True, False]
    """
    is_end = (tokens == END_TOKEN).astype(jnp.int32)
    return jnp.cumsum(is_end) - is_end == 0


def make_word_dropout(rate: float, vocabulary_size: int) -> Transform:
    """Make a transform that hides tokens from the decoder at random.

    Give it to `vaejax.with_transform`. The decoder is shown each token with probability
    `rate` as the unknown token, whose index is `vocabulary_size`, one past the last:
    the decoders of `vaejax.networks` have a place for it.

    Args:
      rate: the probability that a token is hidden, in [0, 1].
      vocabulary_size: the number of tokens of the vocabulary, at least 1.

    Returns:
      `transform(key, tokens) -> TeacherForcedTokens`. It raises TypeError where the
      dtype of the tokens cannot hold the unknown one.

    Raises:
      ValueError: the rate is outside [0, 1], or `vocabulary_size` is not a positive
        integer.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from vaejax.distributions import make_word_dropout
      >>> hide_all = make_word_dropout(rate=1.0, vocabulary_size=3)
      >>> hide_all(jax.random.key(0), jnp.array([1, 2, 0])).inputs.tolist()
      [3, 3, 3]

    Source: Bowman et al. 2016, section 3.1.
    """
    check_in_range("make_word_dropout: rate", rate, 0, 1)
    check_count("make_word_dropout: vocabulary_size", vocabulary_size)

    def transform(key: Key, tokens: Array) -> TeacherForcedTokens:
        check_key(key)
        tokens = jnp.asarray(as_numbers("make_word_dropout: tokens", tokens))
        if jnp.iinfo(tokens.dtype).max < vocabulary_size:
            raise TypeError(
                f"make_word_dropout: tokens are {tokens.dtype}, which cannot hold "
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
    """Autoregressive distribution over sentences, p(x) = prod_t p(x_t | x_<t).

    It is over sentences of at most `length` tokens; what follows `END_TOKEN` is
    certain. `log_prob` computes all factors at once (teacher forcing). `sample` and
    `mode` run token by token, each time over the whole sentence, so that any causal
    network will do. There is no `mean`: tokens are not numbers.

    Attributes:
      logits_fn: `inputs [length] -> [length, vocabulary]`, row t from `inputs[:t + 1]`
        alone, where `inputs` are the tokens shifted right by one with `END_TOKEN`
        before them; a `jax.tree_util.Partial`, so that it crosses jit.
      length: the number of tokens of the longest sentence.
      has_end: whether `END_TOKEN` ends a sentence. Without it every event has `length`
        tokens, of which it is one like the others: codes of a quantized latent.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from vaejax.distributions import Autoregressive
      >>> logits_fn = jax.tree_util.Partial(lambda inputs: jnp.zeros((4, 3)))
      >>> uniform = Autoregressive(logits_fn, length=4)
      >>> round(float(uniform.log_prob(jnp.array([2, 1, 0, 0]))), 3)  # 3 log(1/3)
      -3.296

    Source: Bowman et al. 2016, section 3.
    """

    logits_fn: jax.tree_util.Partial
    length: int = dataclasses.field(metadata={"static": True})
    has_end: bool = dataclasses.field(default=True, metadata={"static": True})

    support: ClassVar[Support] = _CLASSES

    def log_prob(self, event: Array | TeacherForcedTokens) -> Array:
        tokens, inputs = as_teacher_forced(event)
        tokens = check_event(self, tokens, (self.length,))
        tokens = as_classes(self, tokens, "tokens")
        inputs = jnp.asarray(as_numbers("Autoregressive.log_prob: inputs", inputs))
        logits = self.logits_fn(_shift_right(inputs))
        token_log_probs = log_probs_of(logits.astype(density_dtype(logits)), tokens)
        if self.has_end:
            token_log_probs = jnp.where(token_mask(tokens), token_log_probs, 0)
        return jnp.sum(token_log_probs)

    def sample(self, key: Key) -> Array:
        check_key(key)
        return self._generate(key)

    @property
    def mode(self) -> Array:
        """The most likely token at each step, not always the most likely sentence."""
        return self._generate(None)

    def _generate(self, key: Key | None) -> Array:
        given = self.logits_fn
        logits = given if isinstance(given, partial) else partial(given)
        static = (logits.func, self.length, self.has_end)
        return run(_generate, static, logits.args, logits.keywords, key)


def _generate(
    logits_fn: Callable[..., Array],
    length: int,
    has_end: bool,
    arguments: tuple,
    keywords: dict,
    key: Key | None,
) -> Array:
    """Write a sentence token by token: drawn, or the most likely ones without a key."""

    def body(tokens: Array, t: Array) -> tuple[Array, None]:
        logits = logits_fn(*arguments, _shift_right(tokens), **keywords)[t]
        if key is None:
            token = jnp.argmax(logits)
        else:
            logits = logits.astype(density_dtype(logits))
            token = jax.random.categorical(jax.random.fold_in(key, t), logits)
        token = token.astype(jnp.int32)
        if has_end:
            has_ended = jnp.any((tokens == END_TOKEN) & (jnp.arange(length) < t))
            token = jnp.where(has_ended, END_TOKEN, token)
        return tokens.at[t].set(token), None

    start = jnp.full(length, END_TOKEN, jnp.int32)
    return jax.lax.scan(body, start, jnp.arange(length))[0]


def _shift_right(tokens: Array) -> Array:
    return jnp.concatenate([jnp.full(1, END_TOKEN, tokens.dtype), tokens[:-1]])
