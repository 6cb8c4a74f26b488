"""Sentences: an autoregressive distribution over tokens, and the networks that read and
write them.

A sentence is `tokens [length]`, integers; the first `END` ends it, and all that follows
is `END`. One that fills its length has none.
"""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from vaejax.base import Array
from vaejax.distributions.autoregressive import (
    TeacherForcedTokens,
    as_teacher_forced,
    token_mask,
)


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
    def __call__(self, x: Array | TeacherForcedTokens) -> Array:
        tokens = as_teacher_forced(x).tokens.astype(jnp.int32)
        embedded = nn.Embed(self.vocabulary_size, self.embedding_size)(tokens)
        states = GRU(self.hidden_size)(
            jnp.zeros(self.hidden_size, embedded.dtype), embedded
        )
        return states[jnp.sum(token_mask(tokens)) - 1]


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
