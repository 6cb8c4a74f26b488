"""The product of many rows with a matrix, fast in the gradient too."""

from typing import Any

import jax
import jax.numpy as jnp

from vaejax.base import Array


@jax.custom_jvp
def product(x: Array, kernel: Array) -> Array:
    """Return x @ kernel, `[..., inner]` by `[inner, outer]`, for many rows of x.

    On CPU the gradient of the kernel is a product whose operands are laid out as the
    fast matrix product takes them; as autodiff writes it, it takes twice as long.
    """
    return x @ kernel


@product.defjvp
def _product_jvp(
    primals: tuple[Array, Array], tangents: tuple[Array, Array]
) -> tuple[Array, Array]:
    (x, kernel), (dx, dkernel) = primals, tangents

    def from_kernel_on_cpu(x: Array, dkernel: Array) -> Array:
        # The barriers keep the compiler from turning the product around again.
        transposed = jax.lax.optimization_barrier(dkernel.T)
        products = jnp.tensordot(transposed, x, ((1,), (-1,)))
        return jnp.moveaxis(jax.lax.optimization_barrier(products), 0, -1)

    from_kernel = jax.lax.platform_dependent(
        x, dkernel, cpu=from_kernel_on_cpu, default=jnp.matmul
    )
    return product(x, kernel), dx @ kernel + from_kernel


def product_in_dense(
    x: Array, kernel: Array, dimension_numbers: Any, precision: Any = None
) -> Array:
    """Return `product(x, kernel)`, with the arguments that `nn.Dense` gives."""
    del dimension_numbers, precision
    return product(x, kernel)
