"""A run that was started with relative paths goes on, and is looked at, elsewhere."""

import json
import shlex

import numpy as np
import pytest
from support.programs import SMALL, npz, status_of, users_settings

from experiments import explore
from experiments.harness import load_run, manifest

pytestmark = [pytest.mark.slow, pytest.mark.program]


def test_a_run_on_relative_paths_goes_on_from_anywhere(tmp_path, monkeypatch, capsys):
    places = here, elsewhere = tmp_path / "my data", tmp_path / "elsewhere"
    for place in places:
        place.mkdir()
    npz()(here)
    monkeypatch.chdir(here)
    assert status_of(["--data", "data.npz", "--out", "run", *SMALL]) == 0
    monkeypatch.chdir(elsewhere)
    before = json.loads((here / "run/manifest.json").read_text())
    words = shlex.split(before["command"])
    assert words[words.index("--data") + 1] == str(here / "data.npz")
    assert status_of(["--resume", "--out", "../my data/run"]) == 0
    after = json.loads((here / "run/manifest.json").read_text())
    assert before["params_sha256"] == after["params_sha256"]
    with users_settings():
        loaded = load_run.load_run("../my data/run")
        page = explore.explore(explore.Config(here / "run", out=elsewhere / "p.html"))
    assert loaded.require_data().num_test_examples == 20 and page.exists()

    # Where the data lie now is said by the flag; other data are refused.
    (here / "data.npz").rename(elsewhere / "moved.npz")
    moved = ["--resume", "--out", "../my data/run", "--data"]
    assert status_of([*moved, "moved.npz"]) == 0
    capsys.readouterr()
    npz(test_images=np.ones((20, 4, 4), np.uint8))(elsewhere)
    assert status_of([*moved, "data.npz"]) == 2
    assert "--data has changed since the run in" in capsys.readouterr().err
    manifest.check_data(here / "run", before["data_sha256"])
