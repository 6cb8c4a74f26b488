"""Noise under each generator of JAX, and the line that a run prints about it."""

import jax
import numpy as np
import pytest
from support.programs import users_settings

from experiments.harness import generator
from experiments.harness.errors import UsageError
from experiments.harness.members import Members


def noise(num_seeds: int) -> np.ndarray:
    """Noise of seed 1, drawn as the last of so many seeds from 0 or 1 on."""
    members = Members(2 - num_seeds, num_seeds)
    drawn = members.lift(lambda key: jax.random.normal(key, (4,)))(members.keys)
    return members.member(drawn, num_seeds - 1)


@pytest.mark.parametrize(
    ("name", "depends"), [("threefry2x32", False), ("rbg", True), ("unsafe_rbg", True)]
)
def test_noise_of_a_seed_and_the_seeds_beside_it(name, depends, capsys):
    with jax.default_prng_impl(name), users_settings():
        assert np.array_equal(noise(1), noise(2)) != depends
        generator.check(Members(0, 2), 8)
    line = capsys.readouterr().err
    warning = f"warning: JAX_DEFAULT_PRNG_IMPL is {name}: the noise depends on the"
    assert line.startswith(warning) if depends else not line


def test_devices_are_named_where_draws_depend_on_them(capsys, monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_tpu_spmd_rng_bit_generator_unsafe=1")
    with jax.default_prng_impl("rbg"), users_settings():
        generator.check(Members(0, 1), 8)
        generator.check(Members(0, 1), 1)
    on_eight, on_one = capsys.readouterr().err.splitlines()
    assert "on the 8 devices" in on_eight and "devices" not in on_one


def test_settings_are_compared_under_shared_noise_only():
    swept = Members(0, 1, {"beta": (0.5, 1.0)})
    generator.check(swept, 1)
    with (
        jax.default_prng_impl("rbg"),
        users_settings(),
        pytest.raises(UsageError, match="JAX_DEFAULT_PRNG_IMPL is rbg: settings are"),
    ):
        generator.check(swept, 1)
