"""Weights of a PyTorch module are loaded as the page on PyTorch shows."""

from pathlib import Path

import jax
import numpy as np
import pytest
from support.documents import blocks, run_blocks

PAGE = Path(__file__).parents[2] / "docs" / "guide" / "coming_from_pytorch.md"


@pytest.fixture
def torch():
    """Return PyTorch, on one thread: its threads wait for each other busily."""
    module = pytest.importorskip(
        "torch", reason="torch is not installed (the extra bench)"
    )
    threads = module.get_num_threads()
    module.set_num_threads(1)
    yield module
    module.set_num_threads(threads)


@pytest.mark.slow
def test_a_module_and_its_loaded_weights_agree(torch):
    page = run_blocks(blocks("python", PAGE.read_text()))
    source = next(code for code in blocks("text", PAGE.read_text()) if "class" in code)
    module, _, saving = source.partition("\n\narrays")
    names = {"nn": torch.nn}
    exec(module, names)
    torch.manual_seed(0)
    model = names["VAE"]()
    names |= {"model": model}
    exec("arrays" + saving.splitlines()[0], names)

    vae, params = page["vae"], page["params_of_pytorch"](names["arrays"])
    x = page["images"][:64]
    with torch.no_grad():
        mean, log_variance = model.encode(torch.tensor(x))
        logits = model.decoder(mean)
    log_likelihoods = -torch.nn.functional.binary_cross_entropy_with_logits(
        logits, torch.tensor(x), reduction="none"
    ).sum(axis=1)

    posteriors = jax.vmap(vae.encode, in_axes=(None, 0))(params, x)
    found = jax.vmap(lambda z, x: vae.decode(params, z).log_prob(x))(mean.numpy(), x)
    np.testing.assert_allclose(posteriors.mean, mean, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(
        posteriors.log_variance, log_variance, rtol=1e-5, atol=1e-5
    )
    np.testing.assert_allclose(found, log_likelihoods, rtol=1e-5)
