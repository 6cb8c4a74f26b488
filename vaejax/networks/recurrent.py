"""Networks that read and write sentences.

A sentence is `tokens [length]`, integers, ended by `vaejax.distributions.END_TOKEN`.
"""

from collections.abc import Sequence
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp

from vaejax.base import Array
from vaejax.distributions import TeacherForcedTokens, as_teacher_forced, token_mask
from vaejax.networks._products import product_in_dense


class GRU(nn.Module):
    """Gated recurrent unit over a sequence, from a given initial state.

    It maps `(start [size], inputs [length, features])` to the states after each input,
    `[length, size]`: r, u = sigmoid of linear functions of (x_t, h_{t-1});
    n = tanh(W x_t + r * V h_{t-1}); h_t = (1 - u) n + u h_{t-1}.

    Attributes:
      size: the width of the state.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> import vaejax
      >>> forward = vaejax.networks.GRU(size=8).init_with_output
      >>> start, inputs = jnp.zeros(8), jnp.zeros((5, 3))
      >>> jax.eval_shape(forward, jax.random.key(0), start, inputs)[0].shape
      (5, 8)

    Source: Cho et al. 2014, in the form whose reset follows the product.
    """

    size: int

    @nn.compact
    def __call__(self, start: Array, inputs: Array) -> Array:
        # One product for all steps outside the loop, and one per step inside.
        from_inputs = _dense(3 * self.size)(inputs)
        recurrent = self.param(
            "recurrent", nn.initializers.orthogonal(), (self.size, 3 * self.size)
        )
        # The state of the loop keeps its dtype, whatever a layer has promoted.
        with jax.numpy_dtype_promotion("standard"):
            dtype = jnp.result_type(recurrent, start, from_inputs)
        return _gru_states(
            *(each.astype(dtype) for each in (recurrent, start, from_inputs))
        )


# Compiled once per shape in eager calls, and part of what is traced in others.
@partial(jax.jit, inline=True)
def _gru_states(recurrent: Array, start: Array, from_inputs: Array) -> Array:
    size = len(recurrent)

    def step(state: Array, from_input: Array) -> tuple[Array, Array]:
        from_state = state @ recurrent
        gates = jax.nn.sigmoid(from_input[: 2 * size] + from_state[: 2 * size])
        reset, update = gates[:size], gates[size:]
        new = jnp.tanh(from_input[2 * size :] + reset * from_state[2 * size :])
        state = (1 - update) * new + update * state
        return state, state

    return jax.lax.scan(step, start, from_inputs)[1]


class RecurrentEncoder(nn.Module):
    """Encoder that reads a sentence with a GRU and returns its state at the last token.

    It maps `tokens [length]`, or a `TeacherForcedTokens`, to features `[hidden_size]`.

    Attributes:
      vocabulary_size: the number of tokens; every token is below it.
      embedding_size: the width of the embedding of a token.
      hidden_size: the width of the state.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> import vaejax
      >>> encoder = vaejax.networks.RecurrentEncoder(10, hidden_size=16)
      >>> forward = encoder.init_with_output
      >>> jax.eval_shape(forward, jax.random.key(0), jnp.zeros(7, jnp.int32))[0].shape
      (16,)

    Source: Bowman et al. 2016, section 3.
    """

    vocabulary_size: int
    embedding_size: int = 128
    hidden_size: int = 256

    @nn.compact
    def __call__(self, x: Array | TeacherForcedTokens) -> Array:
        tokens = _as_tokens(self, as_teacher_forced(x).tokens)
        embedded = nn.Embed(self.vocabulary_size, self.embedding_size)(tokens)
        states = GRU(self.hidden_size)(
            jnp.zeros(self.hidden_size, embedded.dtype), embedded
        )
        return states[jnp.sum(token_mask(tokens)) - 1]


class RecurrentDecoder(nn.Module):
    """Decoder that writes a sentence with a GRU.

    It maps `(z, inputs [length])` to `logits [length, vocabulary_size]`; z gives the
    initial state and is part of each input.

    Attributes:
      vocabulary_size: the number of tokens to choose from; `inputs` may also be
        `vocabulary_size`, the unknown token.
      embedding_size: the width of the embedding of a token.
      hidden_size: the width of the state.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> import vaejax
      >>> decoder = vaejax.networks.RecurrentDecoder(10, hidden_size=16)
      >>> forward = decoder.init_with_output
      >>> z, inputs = jnp.zeros(2), jnp.zeros(7, jnp.int32)
      >>> jax.eval_shape(forward, jax.random.key(0), z, inputs)[0].shape
      (7, 10)

    Source: Bowman et al. 2016, section 3.
    """

    vocabulary_size: int
    embedding_size: int = 128
    hidden_size: int = 256

    @nn.compact
    def __call__(self, z: Array, inputs: Array) -> Array:
        embedded = nn.Embed(self.vocabulary_size + 1, self.embedding_size)(
            _as_tokens(self, inputs)
        )
        start = jnp.tanh(nn.Dense(self.hidden_size)(z))
        with_z = jnp.concatenate(
            [embedded, jnp.broadcast_to(z, (len(inputs), *z.shape))], axis=-1
        )
        states = GRU(self.hidden_size)(start, with_z)
        # Turned around twice: under vmap, the batch comes before the steps again here,
        # and not after the vocabulary has multiplied what is to be moved.
        return _dense(self.vocabulary_size)(states.T.T)


class CausalConvolutionDecoder(nn.Module):
    """Decoder that writes a sentence with dilated causal convolutions.

    It maps `(z, inputs [length])` to `logits [length, vocabulary_size]`. Each layer
    sees the token and the one `dilation` before it, and adds to a residual stream that
    starts from the embedding and z. The decoder sees `1 + sum(dilations)` tokens back.

    Attributes:
      vocabulary_size: the number of tokens to choose from; `inputs` may also be
        `vocabulary_size`, the unknown token.
      hidden_size: the width of the residual stream.
      dilations: the dilation of each layer, in order.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> import vaejax
      >>> decoder = vaejax.networks.CausalConvolutionDecoder(10, 16, dilations=(1, 2))
      >>> z, inputs = jnp.zeros(2), jnp.zeros(7, jnp.int32)
      >>> forward = decoder.init_with_output
      >>> jax.eval_shape(forward, jax.random.key(0), z, inputs)[0].shape
      (7, 10)

    Source: Yang et al. 2017 (for a VAE of text), figure 1; van den Oord et al. 2016
    (WaveNet).
    """

    vocabulary_size: int
    hidden_size: int = 256
    dilations: Sequence[int] = (1, 2, 4, 8, 16, 32)

    @nn.compact
    def __call__(self, z: Array, inputs: Array) -> Array:
        x = nn.Embed(self.vocabulary_size + 1, self.hidden_size)(
            _as_tokens(self, inputs)
        )
        x = x + nn.Dense(self.hidden_size)(z)[None]
        for dilation in self.dilations:
            y = nn.LayerNorm()(x)
            earlier = jnp.pad(y, ((dilation, 0), (0, 0)))[: len(y)]
            y = nn.relu(
                _dense(self.hidden_size)(jnp.concatenate([earlier, y], axis=-1))
            )
            x = x + _dense(self.hidden_size)(y)
        return _dense(self.vocabulary_size)(nn.LayerNorm()(x))


def _as_tokens(module: nn.Module, tokens: Array) -> Array:
    if jnp.ndim(tokens) != 1:
        raise ValueError(
            f"{type(module).__name__}: the tokens have shape {jnp.shape(tokens)}; give "
            "one example, [length], without a batch axis, and map a batch with "
            "jax.vmap."
        )
    return tokens.astype(jnp.int32)


def _dense(size: int) -> nn.Dense:
    """Return a dense layer for all tokens of a sentence, whose rows are many."""
    return nn.Dense(size, dot_general=product_in_dense)
