import jax
import pytest
from support.families import FAMILIES, PAIRS


@pytest.fixture(params=FAMILIES)
def family(request):
    return FAMILIES[request.param]


@pytest.fixture(params=PAIRS)
def pair(request):
    return PAIRS[request.param][0]


@pytest.fixture
def debug_nans():
    with jax.debug_nans(True):
        yield
