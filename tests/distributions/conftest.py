import jax
import pytest
from support.families import FAMILIES, PAIRS, draws_of

# Cells of tables, which test_mixed.py compares with SciPy too, and which compile long.
CELLS = ("log_normal", "ordinal", "rounded_normal")


@pytest.fixture(
    params=[
        pytest.param(name, marks=pytest.mark.slow if name in CELLS else ())
        for name in FAMILIES
    ]
)
def name_of_family(request):
    return request.param


@pytest.fixture
def family(name_of_family):
    return FAMILIES[name_of_family]


@pytest.fixture
def drawn(name_of_family):
    """Draws of the family, `[NUM_DRAWS, 3]`."""
    return draws_of(name_of_family)


@pytest.fixture(params=PAIRS)
def pair(request):
    return PAIRS[request.param][0]


@pytest.fixture
def debug_nans():
    with jax.debug_nans(True):
        yield
