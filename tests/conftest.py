"""Checks that JAX makes for every test: silent promotions of rank or dtype, and keys
used twice, are errors.
"""

import atexit
import collections
import os
import shutil
import tempfile

import jax
import pytest

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_debug_key_reuse", True)
# Nearly all of the tests' time is compilation, and what is compiled here runs for
# milliseconds.
jax.config.update("jax_disable_most_optimizations", True)
# Many tests compile what another has compiled: the processes of a session, which
# inherit its environment, share it.
if "VAEJAX_TESTS_COMPILED" not in os.environ:
    os.environ["VAEJAX_TESTS_COMPILED"] = tempfile.mkdtemp(prefix="vaejax-tests-")
    atexit.register(
        shutil.rmtree, os.environ["VAEJAX_TESTS_COMPILED"], ignore_errors=True
    )
jax.config.update("jax_compilation_cache_dir", os.environ["VAEJAX_TESTS_COMPILED"])
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Tests of many parameters take some of them at every change, and all when slow."""
    seen = collections.Counter()
    for item in items:
        marker = item.get_closest_marker("sampled")
        if marker:
            function = item.nodeid.partition("[")[0]
            every = marker.kwargs.get("every", len(items))
            if seen[function] % every:
                item.add_marker(pytest.mark.slow)
            seen[function] += 1


@pytest.fixture
def x64():
    """Double precision, for tests of exactness."""
    with jax.enable_x64(True):
        yield
