"""What a tool can check, a tool checks: silent promotions of rank or dtype, and keys used twice, are errors."""

import jax
import pytest

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_debug_key_reuse", True)
# Nearly all of the tests' time is compilation, and what is compiled here runs for milliseconds.
jax.config.update("jax_disable_most_optimizations", True)


@pytest.fixture
def x64():
    """Double precision, for tests of exactness."""
    with jax.enable_x64(True):
        yield
