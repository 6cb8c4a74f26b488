"""Rates of matrix products: of the shapes of a step, in every order of dimensions.

The same product takes another time where an operand is stored transposed, where its
output is, and within the loop of a `lax.scan`.
"""

import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from experiments.benchmarks.timing import seconds_of

LARGE = [(1024, 1024, 1024), (2048, 2048, 2048), (512, 1024, 1024)]
# Of a [r, i] times [i, c]: each operand and the output in either order.
ORDERS = [
    f"{left},{right}->{out}"
    for left, right, out in itertools.product(("ri", "ir"), ("ic", "ci"), ("rc", "cr"))
]
ALONE, IN_A_SCAN = "alone", "in a scan"
SCANNED = 10


class Product(NamedTuple):
    """A matrix product `[rows, inner] @ [inner, columns]`."""

    name: str
    rows: int
    inner: int
    columns: int

    @property
    def flops(self) -> int:
        """Two operations, a multiplication and an addition, per element of the sum."""
        return 2 * self.rows * self.inner * self.columns

    @property
    def shape(self) -> str:
        return f"{self.rows} x {self.inner} x {self.columns}"


def step_products(layers: Sequence[tuple[int, int]], batch_size: int) -> list[Product]:
    """Return the matrix products of a training step of dense layers.

    Layers are `(fan_in, fan_out)`, and the first takes the data. y = x W forward; dW =
    x^T dy and dx = dy W^T backward, the latter not where x is data.
    """
    products = [Product(f"forward {i} -> {o}", batch_size, i, o) for i, o in layers]
    products += [
        Product(f"gradient to the weights {i} -> {o}", i, batch_size, o)
        for i, o in layers
    ]
    return products + [
        Product(f"gradient to the input of {i} -> {o}", batch_size, o, i)
        for i, o in layers[1:]
    ]


def make_probe(
    products: Sequence[Product], calls: int = 3
) -> Callable[[], dict[str, float]]:
    """Return `probe() -> {name: FLOP/s}`, each the best of a few calls.

    It measures large products and those given under their shapes, as `x @ W` alone;
    and those given in every order under `order_key`, where they have a tenth or more of
    the operations of the largest of them.
    """
    large = [Product("large", *shape) for shape in LARGE]
    if jax.default_backend() != "cpu":
        large.append(Product("large", 8192, 8192, 8192))
    timed = {
        product.shape: (matmul, operands(product), product.flops)
        for product in [*large, *products]
    }
    for product in heavy(products):
        for order in ORDERS:
            arrays = operands(product, order)
            for where, function in make_functions(order).items():
                flops = product.flops * (SCANNED if where == IN_A_SCAN else 1)
                timed[order_key(product, order, where)] = function, arrays, flops

    def probe() -> dict[str, float]:
        return {
            name: flops / min(seconds_of(function, *arrays) for _ in range(calls))
            for name, (function, arrays, flops) in timed.items()
        }

    return probe


def heavy(products: Sequence[Product]) -> list[Product]:
    """Return one product of each shape that has a tenth of the largest or more."""
    shapes = {product.shape: product for product in products}.values()
    least = max(product.flops for product in shapes) / 10
    return [product for product in shapes if product.flops >= least]


def order_key(product: Product, order: str, where: str) -> str:
    """Return the name of the rate of a product in an order."""
    return f"{product.shape}, {order}, {where}"


def operands(product: Product, order: str = ORDERS[0]) -> tuple[jax.Array, jax.Array]:
    """Return operands of ones, stored in an order."""
    sizes = {"r": product.rows, "i": product.inner, "c": product.columns}
    left, right = order.partition("->")[0].split(",")
    return (
        jnp.ones([sizes[axis] for axis in left]),
        jnp.ones([sizes[axis] for axis in right]),
    )


matmul = jax.jit(jnp.matmul)


def make_functions(order: str) -> dict[str, Callable]:
    """Return the product in an order, once alone and `SCANNED` times in a loop."""

    def multiply(left: jax.Array, right: jax.Array) -> jax.Array:
        return product_in_order(order, left, right)

    def scanned(left: jax.Array, right: jax.Array) -> jax.Array:
        def step(carry: tuple, _: None) -> tuple[tuple, None]:
            # One element that depends on the step before, in place: without it the
            # compiler takes the product out of the loop, even past a barrier.
            here, before = carry
            here = here.at[0, 0].add(0 * before[0, 0])
            return (here, multiply(here, right)), None

        start = left, jnp.zeros_like(multiply(left, right))
        return jax.lax.scan(step, start, length=SCANNED)[0][1]

    return {ALONE: jax.jit(multiply), IN_A_SCAN: jax.jit(scanned)}


def product_in_order(order: str, left: jax.Array, right: jax.Array) -> jax.Array:
    """Return one `dot_general`, whose output has the order of its operands."""
    (first, second), out = order.partition("->")[0].split(","), order[-2:]
    contracted = first.index("i"), second.index("i")
    if out == "rc":
        dimensions = ((contracted[0],), (contracted[1],)), ((), ())
        return jax.lax.dot_general(left, right, dimensions)
    dimensions = ((contracted[1],), (contracted[0],)), ((), ())
    return jax.lax.dot_general(right, left, dimensions)
