"""Small models of sentences: every decoder, and the VAE of each."""

import jax

import vaejax

LENGTH, VOCABULARY = 4, 3
DECODERS = {
    "recurrent": vaejax.networks.RecurrentDecoder(VOCABULARY, 4, 8),
    "convolutional": vaejax.networks.CausalConvolutionDecoder(
        VOCABULARY, 8, dilations=(1, 2)
    ),
}


def make_vae(decoder, length=LENGTH):
    encoder = vaejax.networks.RecurrentEncoder(VOCABULARY, 4, 8)
    return vaejax.sequence_vae(
        latent_size=2, length=length, encoder=encoder, decoder=decoder
    )


def perturbed(params):
    """Away from the initial values, which make all tokens nearly alike."""
    leaves, structure = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(7), len(leaves))
    return structure.unflatten(
        [
            leaf + jax.random.normal(key, leaf.shape)
            for leaf, key in zip(leaves, keys, strict=True)
        ]
    )
