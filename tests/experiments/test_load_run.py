"""A run folder is loaded in one line: by any path, with or without its data."""

import jax
import numpy as np
import pytest
from support.programs import SMALL, npz, status_of, users_settings

import vaejax
from experiments.harness.errors import UsageError
from experiments.harness.load_run import load_run


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    path = tmp_path_factory.mktemp("loaded")
    npz()(path)
    out = ["--data", str(path / "data.npz"), "--out", str(path / "run")]
    assert status_of([*SMALL, *out, "--epochs", "1"]) == 0
    return path


@pytest.mark.slow
@pytest.mark.program
def test_model_and_parameters_come_with_or_without_the_data(trained, monkeypatch):
    monkeypatch.chdir(trained)
    with users_settings():
        by_path, by_text = load_run(trained / "run"), load_run("run")
        monkeypatch.chdir("/")
        quick = load_run(str(trained / "run"), with_data=False)
        (trained / "data.npz").rename(trained / "gone.npz")
        without = load_run(str(trained / "run"))
    assert by_path.missing == by_text.missing == ""
    assert by_path.experiment.num_test_examples == 20
    assert "data.npz" in without.missing and "asked" in quick.missing
    xs = np.zeros((3, 4, 4), np.float32)
    codes = vaejax.embed(by_path.vae, by_path.params, xs)
    for other in (by_text, quick, without):
        assert jax.tree.all(jax.tree.map(np.array_equal, by_path.params, other.params))
        np.testing.assert_array_equal(vaejax.embed(other.vae, other.params, xs), codes)
    for other in (quick, without):
        assert other.experiment is None
        with pytest.raises(UsageError, match="data of the run are needed"):
            other.require_data()
        with pytest.raises(UsageError, match=r"vaejax\.embed"):
            other.encode_rows(xs)
