import jax
import pytest
from support.families import FAMILIES, PAIRS

# Cells of tables, which test_mixed.py compares with SciPy too, and which compile long.
CELLS = ("log_normal", "ordinal", "rounded_normal")


@pytest.fixture(
    params=[
        pytest.param(name, marks=pytest.mark.slow if name in CELLS else ())
        for name in FAMILIES
    ]
)
def family(request):
    return FAMILIES[request.param]


@pytest.fixture(params=PAIRS)
def pair(request):
    return PAIRS[request.param][0]


@pytest.fixture
def debug_nans():
    with jax.debug_nans(True):
        yield
