"""Every mistake of a user is answered in one line that names it and the fix; nothing is
overwritten or lost.
"""

import gzip
import json
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
import pytest
from support.programs import (
    ENVIRONMENT,
    SMALL,
    check_folder,
    command,
    heed_interrupts,
    images,
    npz,
    status_of,
    users_settings,
)

from experiments import mnist
from experiments.harness import RunError, UsageError, load_run, run_dir
from vaejax import checkpoints

pytestmark = [pytest.mark.program, pytest.mark.xdist_group("mistakes")]


def with_value(value: float) -> Callable[[Path], None]:
    array = images(100, 4, 4, dtype=np.float32)
    array[7, 1, 2] = value
    return npz(train_images=array)


def file(name: str, content: bytes = b"text") -> Callable[[Path], None]:
    def write(path: Path) -> None:
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)

    return write


def nothing(path: Path) -> None:
    pass


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Path:
    """A finished run on a small data set of its own, to be copied."""
    path = tmp_path_factory.mktemp("finished")
    npz()(path)
    assert (
        status_of(
            ["--data", str(path / "data.npz"), "--out", str(path / "run"), *SMALL]
        )
        == 0
    )
    return path / "run"


def snapshot(path: Path) -> dict[Path, bytes]:
    return {
        entry: entry.read_bytes()
        for entry in sorted(path.rglob("*"))
        if entry.is_file()
    }


DATA = ["--data", "data.npz"]
MISTAKES = {
    "unknown flag": (nothing, ["--no-such-flag"], 2, ["no-such-flag"]),
    "flag without its value": (nothing, ["--epochs"], 2, ["--epochs"]),
    "negative epochs": (nothing, ["--epochs", "-1"], 2, ["--epochs", "-1", "positive"]),
    "no epochs": (nothing, ["--epochs", "0"], 2, ["--epochs", "0", "positive"]),
    "half an epoch": (nothing, ["--epochs", "2.5"], 2, ["--epochs", "2.5"]),
    "epochs in words": (nothing, ["--epochs", "many"], 2, ["--epochs", "many"]),
    "negative seed": (nothing, ["--seed", "-1"], 2, ["--seed", "-1", "non-negative"]),
    "no seeds": (nothing, ["--num-seeds", "0"], 2, ["--num-seeds", "0"]),
    "learning rate nan": (
        nothing,
        ["--learning-rate", "nan"],
        2,
        ["--learning-rate", "nan"],
    ),
    "learning rate infinite": (
        nothing,
        ["--learning-rate", "inf"],
        2,
        ["--learning-rate", "inf"],
    ),
    "learning rate negative": (
        nothing,
        ["--learning-rate", "-0.1"],
        2,
        ["--learning-rate", "-0.1"],
    ),
    "empty batch": (nothing, ["--batch-size", "0"], 2, ["--batch-size", "0"]),
    "batch larger than the data": (
        npz(),
        [*DATA, "--batch-size", "101"],
        2,
        ["--batch-size", "101", "100"],
    ),
    "no latents": (nothing, ["--latent-size", "0"], 2, ["--latent-size", "0"]),
    "negative width": (nothing, ["--hidden-size", "-3"], 2, ["--hidden-size", "-3"]),
    "sweep of an option that is not swept": (
        nothing,
        ["--sweep", "epochs=1,2"],
        2,
        ["epochs", "beta", "learning_rate"],
    ),
    "sweep without values": (
        nothing,
        ["--sweep", "beta"],
        2,
        ["--sweep beta", "beta=0.5,1,2"],
    ),
    "sweep at zero": (
        nothing,
        ["--sweep", "learning-rate=0,1"],
        2,
        ["learning_rate is 0", "positive"],
    ),
    "sweep over words": (nothing, ["--sweep", "beta=one"], 2, ["beta=one", "numbers"]),
    "sweep with a value twice": (
        nothing,
        ["--sweep", "beta=1,1"],
        2,
        ["beta=1,1", "different"],
    ),
    "sweep of an option twice": (
        nothing,
        ["--sweep", "beta=1", "beta=2"],
        2,
        ["beta=2", "twice"],
    ),
    "average that never moves": (
        nothing,
        ["--average", "1"],
        2,
        ["--average", "below 1"],
    ),
    "average that is 1 when rounded": (
        nothing,
        ["--average", "0.999999999"],
        2,
        ["--average", "1 in float32", "below 1"],
    ),
    "learning rate that is 0 when rounded": (
        nothing,
        ["--learning-rate", "1e-60"],
        2,
        ["--learning-rate is 1e-60", "0 in float32"],
    ),
    "learning rate that is infinite when rounded": (
        nothing,
        ["--learning-rate", "1e60"],
        2,
        ["--learning-rate is 1e+60", "infinite in float32"],
    ),
    "norm that is 0 when rounded": (
        nothing,
        ["--clip-norm", "1e-40"],
        2,
        ["--clip-norm is 1e-40", "0 in float32"],
    ),
    "patience without validation": (
        nothing,
        ["--patience", "2"],
        2,
        ["--patience", "--num-validation"],
    ),
    "all examples held out": (
        npz(),
        [*DATA, "--num-validation", "100"],
        2,
        ["--num-validation", "100", "fewer"],
    ),
    "clipping to nothing": (nothing, ["--clip-norm", "0"], 2, ["--clip-norm", "0"]),
    "precision that is not offered": (
        nothing,
        ["--compute-dtype", "float8"],
        2,
        ["--compute-dtype", "float8"],
    ),
    "no members at once": (
        nothing,
        ["--members-at-once", "0"],
        2,
        ["--members-at-once", "0"],
    ),
    "more devices than there are": (
        npz(),
        [*DATA, "--batch-size", "50", "--num-devices", "3"],
        2,
        ["--num-devices", "3", "there are 1"],
    ),
    "no importance samples": (
        nothing,
        ["--num-samples", "0"],
        2,
        ["--num-samples", "0"],
    ),
    "unknown data set": (
        nothing,
        ["--data", "no such set"],
        2,
        ["no such set", "mnist", "fashion_mnist"],
    ),
    "no data set": (nothing, ["--data", ""], 2, ["--data", "mnist"]),
    "file that is not there": (nothing, ["--data", "gone.npz"], 2, ["gone.npz"]),
    "file that is no array": (
        file("data.npz"),
        DATA,
        2,
        ["data.npz", "cannot be read"],
    ),
    "file of another kind": (
        file("data.npy"),
        ["--data", "data.npy"],
        2,
        ["data.npy", ".npz"],
    ),
    "file of pickles": (
        npz(train_images=np.array([[{}]], dtype=object)),
        DATA,
        2,
        ["data.npz", "cannot be read"],
    ),
    "file without the test part": (
        lambda path: np.savez(path / "data.npz", train_images=images(9, 4, 4)),
        DATA,
        2,
        ["test_images", "train_images"],
    ),
    "values above one": (with_value(3.7), DATA, 2, ["3.7", "example 7", "[0, 1]"]),
    "values below zero": (with_value(-0.5), DATA, 2, ["-0.5", "example 7", "[0, 1]"]),
    "values nan": (with_value(np.nan), DATA, 2, ["nan", "example 7", "[0, 1]"]),
    "empty set": (
        npz(train_images=images(0, 4, 4)),
        DATA,
        2,
        ["train_images", "[0, 4, 4]", "at least one"],
    ),
    "one test image": (
        npz(test_images=images(1, 4, 4)),
        DATA,
        2,
        ["one test image", "2"],
    ),
    "wrong number of axes": (
        npz(train_images=images(100, 16)),
        DATA,
        2,
        ["train_images", "[100, 16]", "height"],
    ),
    "integers of another width": (
        npz(train_images=images(9, 4, 4, dtype=np.int64)),
        DATA,
        2,
        ["int64", "uint8"],
    ),
    "strings": (
        npz(train_images=np.full((9, 4, 4), "x")),
        DATA,
        2,
        ["train_images", "uint8"],
    ),
    "labels of another number": (
        npz(train_labels=images(99)),
        DATA,
        2,
        ["100", "99", "labels"],
    ),
    "labels that are not classes": (
        npz(train_labels=images(100).astype(np.float32)),
        DATA,
        2,
        ["train_labels", "float32", "integer"],
    ),
    "images of two colors": (
        npz(train_images=images(9, 4, 4, 2)),
        DATA,
        2,
        ["[9, 4, 4, 2]", "1 or 3"],
    ),
    "test images of another shape": (
        npz(test_images=images(20, 5, 4)),
        DATA,
        2,
        ["(4, 4)", "(5, 4)"],
    ),
    "folder of data that is not there": (
        nothing,
        ["--data", "fashion_mnist", "--data-dir", "gone"],
        2,
        ["gone", "train-images-idx3-ubyte.gz"],
    ),
    "damaged data files": (
        file(
            "official/train-images-idx3-ubyte.gz", gzip.compress(b"no images", mtime=0)
        ),
        ["--data", "fashion_mnist", "--data-dir", "official"],
        2,
        ["official"],
    ),
    "out is a file": (file("run"), ["--out", "run"], 2, ["--out", "run", "folder"]),
    "out is below a file": (
        file("run"),
        ["--out", "run/below"],
        2,
        ["--out", "run/below"],
    ),
    "out holds something else": (
        file("run/thesis.tex"),
        ["--out", "run"],
        2,
        ["--out", "not empty"],
    ),
    "nothing to resume": (nothing, ["--resume"], 2, ["--resume", "no run"]),
    "no such run to resume": (
        nothing,
        ["--resume", "--out", "gone"],
        2,
        ["--resume", "gone"],
    ),
    "damaged configuration": (
        file("run/config.json", b"{"),
        ["--resume", "--out", "run"],
        2,
        ["config.json", "damaged"],
    ),
    "run of another experiment": (
        file("run/config.json", b'{"experiment": "autoencoder"}'),
        ["--resume", "--out", "run"],
        2,
        ["a run of 'autoencoder', not of mnist"],
    ),
    "run of another version": (
        file("run/config.json", b'{"experiment": "mnist", "warp": 9}'),
        ["--resume", "--out", "run"],
        2,
        ["another version", "warp"],
    ),
}


@pytest.mark.sampled(every=4)
@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_answered_in_one_line(name, tmp_path, monkeypatch, capsys):
    prepare, arguments, status, words = MISTAKES[name]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "prepared"))
    prepare(tmp_path)
    before = snapshot(tmp_path)
    assert status_of(arguments) == status
    message = capsys.readouterr().err
    assert "Traceback" not in message
    if message.startswith("error: "):  # the others are the command line's own
        assert message.count("\n") == 1
    assert all(word in message for word in words), message
    assert snapshot(tmp_path) == before


@pytest.fixture
def copied(finished, tmp_path) -> Path:
    """A copy of the finished run, to be spoiled."""
    return shutil.copytree(finished, tmp_path / "run")


def damaged(path, text):
    (path / "run/config.json").write_text(text)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("spoil", "options", "message"),
    [
        (lambda path: None, {"member": 1}, "--member is 1; .* has 1"),
        (lambda path: None, {"arm": "other"}, "--arm is 'other'; .* has ''"),
        (lambda path: (path / "run/config.json").unlink(), {}, "holds no run"),
        (lambda path: damaged(path, "{"), {}, "config.json is damaged"),
        (
            lambda path: damaged(path, '{"experiment": "os.path"}'),
            {},
            "names the experiment 'os.path'",
        ),
        (
            lambda path: shutil.rmtree(path / "run/checkpoints"),
            {},
            "has no checkpoint yet",
        ),
        (
            lambda path: npz(test_images=images(30, 4, 4))(path),
            {},
            "--data has changed",
        ),
    ],
)
def test_what_is_no_run_is_told_in_a_line(finished, tmp_path, spoil, options, message):
    shutil.copytree(finished.parent, tmp_path, dirs_exist_ok=True)
    config = json.loads((tmp_path / "run/config.json").read_text())
    (tmp_path / "run/config.json").write_text(
        json.dumps(config | {"data": str(tmp_path / "data.npz")})
    )
    spoil(tmp_path)
    with users_settings(), pytest.raises((UsageError, RunError), match=message):
        load_run.load_run(tmp_path / "run", **options).require_data()


def refused(path: Path, capsys, *arguments: str) -> str:
    """Return the message of a resume that fails and leaves everything as it was."""
    before = snapshot(path / "checkpoints") | {
        path / "metrics.jsonl": (path / "metrics.jsonl").read_bytes()
    }
    status = status_of(["--out", str(path), *arguments])
    message = capsys.readouterr().err
    assert status == (1 if "checkpoint" in message else 2), message
    assert "Traceback" not in message and message.splitlines()[-1].startswith("error: ")
    assert (
        snapshot(path / "checkpoints")
        | {path / "metrics.jsonl": (path / "metrics.jsonl").read_bytes()}
        == before
    )
    return message


def test_a_finished_run_leaves_its_folder(finished):
    check_folder(finished)


def test_a_finished_run_is_not_overwritten(copied, capsys):
    assert "--resume" in refused(copied, capsys)


def test_a_flag_that_contradicts_the_resumed_run(copied, capsys):
    message = refused(copied, capsys, "--resume", "--latent-size", "5")
    assert "--latent-size is 5" in message and "has 2" in message


@pytest.mark.slow
def test_a_flag_that_contradicts_the_resumed_run_with_its_own_default(copied, capsys):
    message = refused(copied, capsys, "--resume", "--epochs", "20")
    assert "--epochs is 20" in message and "has 2" in message


def test_other_data_than_the_run_was_started_with(tmp_path, capsys):
    npz()(tmp_path)
    arguments = [
        *SMALL,
        "--data",
        str(tmp_path / "data.npz"),
        "--out",
        str(tmp_path / "run"),
    ]
    assert status_of(arguments) == 0
    npz(test_images=1 - images(20, 4, 4))(tmp_path)
    message = refused(tmp_path / "run", capsys, "--resume")
    assert "--data has changed" in message


def test_two_runs_started_together_take_two_folders(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = mnist.Config()
    path = run_dir.find("mnist", config)
    with (
        run_dir.claimed(path, "mnist", config) as one,
        run_dir.claimed(path, "mnist", config) as two,
    ):
        assert [one.path.name, two.path.name] == ["mnist-0001", "mnist-0002"]


def set_option(path: Path, name: str, value: object) -> None:
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(config | {name: value}))


@pytest.mark.parametrize(
    ("name", "value"), [("seed", 5), ("hidden_size", 9), ("num_samples", 3)]
)
def test_an_edited_configuration(copied, capsys, name, value):
    old = json.loads((copied / "config.json").read_text())[name]
    set_option(copied, name, value)
    message = refused(copied, capsys, "--resume")
    flag = f"--{name.replace('_', '-')}"
    assert f"{flag} {value}, and the checkpoint in" in message
    assert f"trained with {old}" in message


def test_a_checkpoint_of_another_model(copied, capsys):
    state = {"params": np.zeros(3, np.float32), "key": jax.random.key(0)}
    for step in checkpoints.steps(copied / "checkpoints"):
        checkpoints.save(copied / "checkpoints", state, step=step)
    assert "does not fit" in refused(copied, capsys, "--resume")


@pytest.mark.parametrize("change", ["dtype", "prng", "structure"])
def test_a_foreign_checkpoint(copied, capsys, change):
    shutil.rmtree(copied / "checkpoints")
    state = {"params": np.zeros(3, np.float32), "key": jax.random.key(0)}
    if change == "dtype":
        state["params"] = state["params"].astype(np.float16)
    if change == "prng":
        state["key"] = jax.random.key(0, impl="rbg")
    checkpoints.save(copied / "checkpoints", state, step=4)
    assert "does not fit" in refused(copied, capsys, "--resume")


def damage(directory: Path) -> None:
    """Cuts the largest file with arrays of a checkpoint in half."""
    largest = max(directory.rglob("d/*"), key=lambda entry: entry.stat().st_size)
    largest.write_bytes(largest.read_bytes()[: largest.stat().st_size // 2])


def test_every_checkpoint_damaged(copied, capsys):
    for step in checkpoints.steps(copied / "checkpoints"):
        damage(copied / "checkpoints" / str(step))
    message = refused(copied, capsys, "--resume")
    assert "can be read" in message and "--out" in message


def test_the_newest_checkpoint_damaged_falls_back_with_a_warning_and_ends_the_same(
    finished, copied
):
    damage(copied / "checkpoints" / str(checkpoints.latest(copied / "checkpoints")))
    with pytest.warns(UserWarning, match="falling back"):
        assert status_of(["--resume", "--out", str(copied)]) == 0
    digests = [
        json.loads((path / "manifest.json").read_text())["params_sha256"]
        for path in (finished, copied)
    ]
    assert digests[0] == digests[1]
    assert [row["epoch"] for row in run_dir.read_metrics(copied)] == [1, 2]


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_checkpoint(
    tmp_path, capsys
):
    npz()(tmp_path)
    data = ["--data", str(tmp_path / "data.npz"), "--out", str(tmp_path / "run")]
    assert status_of([*data, *SMALL, "--learning-rate", "1e30"]) == 1
    message = capsys.readouterr().err
    assert "seed 0" in message and "--learning-rate" in message


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "status"),
    [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 0, marks=pytest.mark.slow)],
)
def test_an_interrupt_saves_and_says_how_to_go_on(tmp_path, number, status):
    npz()(tmp_path)
    arguments = [
        *SMALL,
        "--epochs",
        "100000",
        "--data",
        tmp_path / "data.npz",
        "--out",
        tmp_path / "run",
    ]
    process = subprocess.Popen(
        command(*arguments),
        cwd=tmp_path,
        env=ENVIRONMENT,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=heed_interrupts,
    )
    metrics = tmp_path / "run" / "metrics.jsonl"
    while not metrics.exists() or not metrics.read_text():
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(number)
    _, message = process.communicate(timeout=60)
    assert process.returncode == status
    assert f"--resume --out {tmp_path / 'run'}" in message
    epochs = run_dir.read_metrics(tmp_path / "run")[-1]["epoch"]
    assert checkpoints.latest(tmp_path / "run" / "checkpoints") == 2 * epochs
