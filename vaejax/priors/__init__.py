"""Modifiers that give a `VAE` another prior: `VAE -> VAE`.

Encoder and decoder stay as they are; what the prior learns is added to the parameters
under the name "prior". A prior of no closed form needs `kl_fn=kl_monte_carlo`.
"""

__all__: list[str] = []
